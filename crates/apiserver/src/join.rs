//! How a machine becomes a node: a join token is spent for a client certificate of the node's name. A name whose agent
//! is alive is not given away.

mod token;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use svcd_api::NameRule;
use svcd_api::field::FieldError;

use crate::body;
use crate::errors::Failure;
use crate::record;
use crate::represent::value_response;
use crate::server::ApiServer;
use crate::user::{NODES, User};

const NODE_LEASES: &str = "kube-node-lease";
/// How long a Lease counts when it does not say.
const USUAL_LEASE_SECONDS: i64 = 40;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JoinRequest {
    node_name: String,
    csr: String,
}

/// What a joining machine needs to know of the cluster.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cluster {
    cluster_domain: String,
    dns_address: String,
    service_cidr: String,
    pod_cidr: String,
    node_port_range: String,
}

impl ApiServer {
    /// GET `/svcd.io/v1/cluster`.
    pub(crate) fn cluster(&self) -> Response<Body> {
        value_response(StatusCode::OK, &self.cluster_value())
    }

    fn cluster_value(&self) -> Value {
        let config = &self.config;
        let listed = |ranges: &[IpNet]| -> String {
            ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        let cluster = Cluster {
            cluster_domain: config.cluster_domain.clone(),
            dns_address: config.dns_address.to_string(),
            service_cidr: listed(&config.service_cidrs),
            pod_cidr: listed(&config.pod_cidrs),
            node_port_range: format!("{}-{}", config.node_port_range.start(), config.node_port_range.end()),
        };
        serde_json::to_value(cluster).expect("texts are JSON")
    }

    /// POST `/svcd.io/v1/join`.
    pub(crate) async fn join(
        &self,
        user: &User,
        headers: &HeaderMap,
        bytes: &Bytes,
    ) -> Result<Response<Body>, Failure> {
        let request = body::parse_object(headers, bytes)?.value;
        let request: JoinRequest = serde_json::from_value(request)
            .map_err(|error| Failure::bad_request(format!("this is not a join request: {error}")))?;
        let name = request.node_name;
        if let Some(why) = NameRule::Subdomain.check(&name).first() {
            let error = FieldError::invalid("nodeName", &name, why);
            return Err(Failure::invalid("", "Node", &name, &[error]));
        }
        self.refuse_living(&name, Timestamp::now()).await?;
        let (node, validity) = (format!("system:node:{name}"), self.config.certificate_validity);
        let signed = self.ca.sign_client_csr(&request.csr, &node, &[NODES], validity);
        let certificate = signed.map_err(|error| {
            Failure::bad_request(format!("the signing request was not accepted: {error}"))
        })?;
        self.spend_join_token(user).await?;
        tracing::info!(node = %name, by = %user.name, "a node joined");
        Ok(value_response(
            StatusCode::OK,
            &json!({ "certificate": certificate, "cluster": self.cluster_value() }),
        ))
    }

    /// Refuses the name of a node whose agent is alive.
    async fn refuse_living(&self, name: &str, now: Timestamp) -> Result<(), Failure> {
        let nodes = self.resources.find("", "v1", "nodes");
        let leases = self.resources.find("coordination.k8s.io", "v1", "leases");
        let (Some(nodes), Some(leases)) = (nodes, leases) else { return Ok(()) };
        if self.store.get(&nodes.key("", name)).await?.is_none() {
            return Ok(());
        }
        let Some(lease) = self.store.get(&leases.key(NODE_LEASES, name)).await? else { return Ok(()) };
        if !is_fresh(&record::decode(&lease), now) {
            return Ok(());
        }
        let why = "a node of this name is running; choose another name (--node-name), or stop that node and wait \
                   until its lease has run out";
        Err(Failure::conflict(nodes.info, name, why))
    }
}

/// Has the lease been renewed within its own duration?
fn is_fresh(lease: &Value, now: Timestamp) -> bool {
    let renewed = lease["spec"]["renewTime"].as_str().and_then(|t| t.parse::<Timestamp>().ok());
    let seconds = lease["spec"]["leaseDurationSeconds"].as_i64().unwrap_or(USUAL_LEASE_SECONDS);
    renewed.is_some_and(|renewed| now.duration_since(renewed) < SignedDuration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_fresh_for_its_duration() {
        let lease =
            json!({ "spec": { "renewTime": "2024-01-01T00:00:00.000000Z", "leaseDurationSeconds": 40 } });
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(is_fresh(&lease, at("2024-01-01T00:00:39Z")));
        assert!(!is_fresh(&lease, at("2024-01-01T00:00:41Z")));
        assert!(!is_fresh(&json!({ "spec": {} }), at("2024-01-01T00:00:00Z")));
    }
}
