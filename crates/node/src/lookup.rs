//! What pods' environments refer to: ConfigMaps and Secrets from the server, Services from what the agent knows anyway.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service as ServiceObject, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use svcd_client::Objects;
use svcd_pods::Lookup;
use svcd_svcmap::{Protocol, Service};

use crate::own_node::{RequestError, in_time, is_code};
use crate::services::Directory;

/// Answers from a client and the directory.
pub(crate) struct ClusterLookup {
    client: Client,
    directory: Directory,
}

impl ClusterLookup {
    pub(crate) fn new(client: Client, directory: Directory) -> Self {
        Self { client, directory }
    }
}

#[async_trait]
impl Lookup for ClusterLookup {
    async fn config_map(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<BTreeMap<String, String>>, String> {
        let api: Objects<ConfigMap> = Objects::namespaced(self.client.clone(), namespace);
        let found = found(in_time(api.get(name)).await)?;
        Ok(found.map(|object| object.data.unwrap_or_default()))
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<BTreeMap<String, Vec<u8>>>, String> {
        let api: Objects<Secret> = Objects::namespaced(self.client.clone(), namespace);
        let found = found(in_time(api.get(name)).await)?;
        let decode = |data: BTreeMap<String, k8s_openapi::ByteString>| {
            data.into_iter().map(|(key, value)| (key, value.0)).collect()
        };
        Ok(found.map(|object| decode(object.data.unwrap_or_default())))
    }

    fn services(&self, namespace: &str) -> Vec<Arc<ServiceObject>> {
        self.directory.of_namespace(namespace).iter().map(|entry| Arc::new(object(&entry.service))).collect()
    }
}

fn found<T>(answer: Result<T, RequestError>) -> Result<Option<T>, String> {
    match answer {
        Ok(object) => Ok(Some(object)),
        Err(RequestError::Api(error)) if is_code(&error, 404) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// As much of the object as an environment needs, so that no second copy of all Services is kept.
fn object(service: &Service) -> ServiceObject {
    let ports = service.ports.iter().map(|port| ServicePort {
        name: (!port.name.is_empty()).then(|| port.name.to_string()),
        port: i32::from(port.port),
        protocol: Some(protocol(port.protocol).to_owned()),
        ..ServicePort::default()
    });
    let addresses: Vec<String> = service.cluster_ips.iter().map(ToString::to_string).collect();
    ServiceObject {
        metadata: ObjectMeta {
            namespace: Some(service.name.namespace.to_string()),
            name: Some(service.name.name.to_string()),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            cluster_ip: addresses.first().cloned(),
            cluster_ips: Some(addresses),
            ports: Some(ports.collect()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use svcd_svcmap::Index;

    use super::*;

    #[test]
    fn a_service_comes_back_as_it_was() {
        let mut index = Index::new();
        let given: ServiceObject = serde_json::from_value(json!({
            "metadata": {"namespace": "default", "name": "web"},
            "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"],
                "ports": [{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]},
        }))
        .unwrap();
        index.reset_services([&given]);
        index.reset_slices([]);
        let Some(svcd_svcmap::Update::Reset(entries)) = index.take_update() else {
            panic!("the first is a reset")
        };
        let spec = object(&entries[0].service).spec.unwrap();
        let wanted = given.spec.unwrap();
        assert_eq!(spec.cluster_ip, wanted.cluster_ip);
        assert_eq!(spec.ports, wanted.ports);
    }
}
