//! From a container as its pod describes it to what the runtime is told: environment, files, expanded command.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Service};

use super::Worker;
use crate::env::{self, Facts, Sources, expand};
use crate::files::{Dns, hostname, hosts, resolv_conf};
use crate::runtime::{ContainerId, ContainerSpec, Refusal};

/// Why a container waits.
pub(super) struct Refused {
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// Whether it is worth trying again: an object may yet appear.
    pub(super) may_pass: bool,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { reason: refusal.reason, message: refusal.message, may_pass: false }
    }
}

fn config_error(message: String) -> Refused {
    Refused { reason: "CreateContainerConfigError", message, may_pass: true }
}

impl Worker {
    pub(super) async fn prepare(
        &self,
        container: &Container,
        id: ContainerId,
        address: Ipv4Addr,
    ) -> Result<ContainerSpec, Refused> {
        self.shared.runtime.check(&self.pod, container)?;
        let sources = self.fetch(container).await?;
        let hostname = hostname(&self.pod, &self.shared.config.node_name);
        let facts = Facts {
            pod: &self.pod,
            pod_ip: address.to_string(),
            host_ip: self.shared.config.node_address.to_string(),
            node_name: self.shared.config.node_name.clone(),
            hostname: hostname.clone(),
            services: self.services(),
        };
        let env = env::build(container, &facts, &sources).map_err(config_error)?;
        let known: BTreeMap<String, String> = env.iter().cloned().collect();
        let expanded = |words: &Option<Vec<String>>| {
            words.as_ref().map(|words| words.iter().map(|word| expand(word, &known)).collect())
        };
        let mut container = container.clone();
        container.command = expanded(&container.command);
        container.args = expanded(&container.args);
        let (user, group) = self.user(&container);
        Ok(ContainerSpec {
            id,
            pod: self.pod_ref(),
            node_name: self.shared.config.node_name.clone(),
            files: self.files(&hostname, address),
            empty_dirs: self.empty_dirs(&container),
            container,
            env,
            hostname,
            user,
            group,
        })
    }

    async fn fetch(&self, container: &Container) -> Result<Sources, Refused> {
        let needs = env::needs(container);
        let namespace = &self.reference.namespace;
        let mut sources = Sources::default();
        for name in needs.config_maps {
            let data = self.shared.lookup.config_map(namespace, &name).await.map_err(config_error)?;
            sources.config_maps.extend(data.map(|data| (name, data)));
        }
        for name in needs.secrets {
            let data = self.shared.lookup.secret(namespace, &name).await.map_err(config_error)?;
            sources.secrets.extend(data.map(|data| (name, data)));
        }
        Ok(sources)
    }

    /// Of the pod's namespace, and of `default`, where the API's own Service is.
    fn services(&self) -> Vec<Arc<Service>> {
        let mut services = self.shared.lookup.services(&self.reference.namespace);
        if self.reference.namespace != "default" {
            services.extend(self.shared.lookup.services("default"));
        }
        services
    }

    fn files(&self, hostname: &str, address: Ipv4Addr) -> Vec<(PathBuf, String)> {
        let config = &self.shared.config;
        // Read anew for each container: the machine may have moved to another network.
        let node = std::fs::read_to_string(&config.resolv_conf).unwrap_or_default();
        let dns = Dns { address: config.dns_address, domain: &config.cluster_domain, node: &node };
        let mut files = vec![(PathBuf::from("/etc/resolv.conf"), resolv_conf(&self.pod, &dns))];
        if self.pod.spec.as_ref().and_then(|spec| spec.host_network) != Some(true) {
            files.push(("/etc/hosts".into(), hosts(&self.pod, hostname, address, &config.cluster_domain)));
            files.push(("/etc/hostname".into(), format!("{hostname}\n")));
        }
        files
    }

    fn empty_dirs(&self, container: &Container) -> Vec<(String, PathBuf)> {
        let volumes = self.pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
        let empty = |name: &str| {
            volumes.is_some_and(|volumes| {
                volumes.iter().any(|volume| volume.name == name && volume.empty_dir.is_some())
            })
        };
        let mounts = container.volume_mounts.iter().flatten().filter(|mount| empty(&mount.name));
        mounts.map(|mount| (mount.name.clone(), PathBuf::from(&mount.mount_path))).collect()
    }

    fn user(&self, container: &Container) -> (Option<u32>, Option<u32>) {
        let own = container.security_context.as_ref();
        let pod = self.pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
        let user = own.and_then(|own| own.run_as_user).or_else(|| pod?.run_as_user);
        let group = own.and_then(|own| own.run_as_group).or_else(|| pod?.run_as_group);
        let number = |id: Option<i64>| id.and_then(|id| u32::try_from(id).ok());
        (number(user), number(group).or_else(|| number(user).filter(|user| *user != 0)))
    }
}
