//! The agent itself: its parts, how they are wired, and the order in which they start.
//!
//! Subscribe, snapshot, apply, ready: watches start at once, the kernel and the zone are written when a whole picture is there,
//! pods start when Services and the network are, and the Node says Ready when its parts work. A part that ends ends the
//! agent, with its reason. Telling it to stop leaves forwarding, links and pods as they are.

use std::fs::File;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use nix::fcntl::Flock;
use svcd_client::Objects;
use svcd_podnet::PodNet;
use svcd_proxy::{Handle as ProxyHandle, Proxy};
use svcd_runtime::Admin;
use svcd_svcmap::ServiceName;
use tokio::sync::watch as channel;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::events::{About, Events};
use crate::health::{Health, Part};
use crate::health_checks::HealthChecks;
use crate::ledger::Ledger;
use crate::names::Names;
use crate::network::Network;
use crate::node_object::Facts;
use crate::nodes::Nodes;
use crate::own_node::{Keeper, OwnNode};
use crate::services::{self, Directory};
use crate::watch::changes;
use crate::{Config, Error, address, health_checks, lease, lock, pods, system};

/// How long parts have to end after the order to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// How often the proxy is asked how it fares, and how long rules may lag behind before the node is not ready.
const PROXY_CHECK: Duration = Duration::from_secs(5);
const PROXY_PATIENCE: Duration = Duration::from_secs(30);
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// How a part ends; only the order to stop may end it well.
type Ended = (&'static str, Result<(), String>);

/// Runs the agent of one node until told to stop. `on_ready` is called once, when the server has the Node as Ready.
pub async fn run(
    config: Config,
    client: Client,
    on_ready: impl FnOnce() + Send + 'static,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    config.check()?;
    let agent = Agent::start(Arc::new(config), client, on_ready, shutdown).await?;
    agent.finish().await
}

struct Agent {
    config: Arc<Config>,
    client: Client,
    address: IpAddr,
    health: Health,
    shutdown: CancellationToken,
    /// Cancelled when a part ended by itself, so that the others end too.
    stop: CancellationToken,
    parts: JoinSet<Ended>,
    _lock: Flock<File>,
}

impl Agent {
    async fn start(
        config: Arc<Config>,
        client: Client,
        on_ready: impl FnOnce() + Send + 'static,
        shutdown: CancellationToken,
    ) -> Result<Self, Error> {
        let agent_dir = config.agent_dir();
        svcd_pki::ensure_private_dir(&agent_dir)
            .map_err(|source| Error::Directory { path: agent_dir.clone(), source })?;
        let lock = lock::hold(&agent_dir)?;
        let address = address::pick(config.server, config.node_address)?;
        let health = Health::new(&[Part::PodNetwork, Part::Proxy, Part::Dns], &config.readiness);
        let mut agent = Self {
            stop: shutdown.child_token(),
            parts: JoinSet::new(),
            _lock: lock,
            config,
            client,
            address,
            health,
            shutdown,
        };
        // All that can be refused is asked for before anything is shown to the cluster.
        agent.serve_health().await?;
        let proxy = agent.start_proxy().await?;
        agent.start_parts(proxy, on_ready);
        info!(node = agent.config.node_name, %address, "the agent runs");
        Ok(agent)
    }

    /// Waits for the order to stop or the end of a part, then for all parts.
    async fn finish(mut self) -> Result<(), Error> {
        let ended = tokio::select! {
            () = self.shutdown.cancelled() => None,
            ended = self.parts.join_next() => ended,
        };
        self.stop.cancel();
        let rest = async { while self.parts.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_DEADLINE, rest).await.is_err() {
            tracing::warn!(deadline = ?STOP_DEADLINE, "some parts did not end in time");
        }
        match ended {
            Some(ended) if !self.shutdown.is_cancelled() => Err(end_of_part(ended)),
            _ => Ok(()),
        }
    }

    fn part(&mut self, name: &'static str, task: impl Future<Output = Result<(), String>> + Send + 'static) {
        self.parts.spawn(async move { (name, task.await) });
    }

    /// A part that only the order to stop ends.
    fn endless(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.part(name, async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
            Ok(())
        });
    }

    async fn serve_health(&mut self) -> Result<(), Error> {
        let Some(address) = self.config.health_address else { return Ok(()) };
        let Config { readiness, metrics, .. } = &*self.config;
        let admin = Admin::bind(address, readiness.clone(), metrics.clone(), self.config.to_json()).await?;
        let stop = self.stop.clone();
        self.part("health port", async move {
            admin.serve(stop).await;
            Ok(())
        });
        Ok(())
    }

    async fn start_proxy(&mut self) -> Result<ProxyHandle, Error> {
        let Config { node_name, cluster, proxy_mode, metrics, .. } = &*self.config;
        let config = svcd_proxy::Config {
            mode: *proxy_mode,
            node_addresses: vec![self.address],
            local_vips: vec![cluster.dns_address],
            ..svcd_proxy::Config::new(node_name.clone(), cluster.pod_cidr.all().to_vec())
        };
        // Before anything is changed; the pod network wants no other parameters than the proxy, but for its own bridge.
        let parameters = svcd_proxy::kernel_parameters(config.localhost_node_ports);
        Ledger::of(&self.config.agent_dir()).note(&parameters).map_err(Error::Ledger)?;
        let counters = svcd_proxy::Metrics::default();
        metrics.register(|registry| counters.register(registry));
        Ok(Proxy::start(config, counters, self.stop.clone()).await?)
    }

    fn start_parts(&mut self, proxy: ProxyHandle, on_ready: impl FnOnce() + Send + 'static) {
        let nodes = Nodes::new(self.config.node_name.clone());
        let mut own = nodes.own();
        let readiness = self.config.readiness.clone();
        self.endless("readiness", async move {
            readiness.ready().await;
            if own.wait_for(OwnNode::is_ready).await.is_ok() {
                on_ready();
            }
            // Said once; a part that ends would end the agent.
            std::future::pending().await
        });
        let directory = Directory::default();
        self.keep_node(&nodes);
        self.keep_network(&nodes, &directory);
        self.endless("zone", keep_zone(nodes.own(), proxy.clone()));
        self.endless(
            "proxy health",
            keep_proxy_health(proxy.clone(), directory.clone(), self.health.clone()),
        );
        self.watch(nodes, directory, proxy);
    }

    fn keep_node(&mut self, nodes: &Nodes) {
        let Config { node_name, role, labels, taints, heartbeat, data_dir, .. } = &*self.config;
        let facts = Facts {
            name: node_name.clone(),
            address: self.address,
            role: *role,
            labels: labels.clone(),
            taints: taints.clone(),
            capacity: system::capacity(data_dir),
            info: system::info(),
        };
        let keeper = Keeper {
            client: self.client.clone(),
            facts,
            health: self.health.clone(),
            own: nodes.own(),
            data_dir: data_dir.clone(),
        };
        let beat = lease::run(self.client.clone(), node_name.clone(), *heartbeat, nodes.own());
        self.endless("node", keeper.run());
        self.endless("lease", beat);
    }

    /// The pod network, and what can only start on it.
    fn keep_network(&mut self, nodes: &Nodes, directory: &Directory) {
        let (up, network) = channel::channel(None);
        let keeper = Network {
            config: Arc::clone(&self.config),
            address: self.address,
            own: nodes.own(),
            routes: nodes.routes(),
            health: self.health.clone(),
            up,
        };
        self.endless("pod network", keeper.run());

        let (config, stop) = (Arc::clone(&self.config), self.stop.clone());
        let (directory, health, awaited) = (directory.clone(), self.health.clone(), network.clone());
        let for_names = directory.clone();
        self.part("dns", async move {
            let Some(network) = wait_for_network(awaited, &stop).await else { return Ok(()) };
            Names { config, network, directory: for_names, health }.run(stop).await
        });
        if self.config.run_pods {
            let (config, stop) = (Arc::clone(&self.config), self.stop.clone());
            let (client, address) = (self.client.clone(), self.address);
            self.part("pods", async move {
                let Some(network) = wait_for_network(network, &stop).await else { return Ok(()) };
                pods::run(&config, client, address, network, directory, stop).await
            });
        }
    }

    fn watch(&mut self, nodes: Nodes, directory: Directory, proxy: ProxyHandle) {
        let mut node_changes = changes(&Objects::<Node>::all(self.client.clone()), None);
        self.endless("watch of nodes", async move {
            while let Some(change) = node_changes.next().await {
                nodes.take(change);
            }
        });
        let mut namespace_changes = changes(&Objects::<Namespace>::all(self.client.clone()), None);
        let for_namespaces = directory.clone();
        self.endless("watch of namespaces", async move {
            while let Some(change) = namespace_changes.next().await {
                for_namespaces.take_namespace(change);
            }
        });
        let services = changes(&Objects::<Service>::all(self.client.clone()), None);
        let slices = changes(&Objects::<EndpointSlice>::all(self.client.clone()), None);
        let checks = self.answer_health_checks(proxy.clone());
        self.endless("watch of services", services::feed(services, slices, (proxy, checks), directory));
    }

    /// The ports at which load balancers ask for this node's health.
    fn answer_health_checks(&mut self, proxy: ProxyHandle) -> health_checks::Inlet {
        let node = self.config.node_name.clone();
        let is_healthy = Arc::new(move || proxy.healthy(PROXY_PATIENCE).is_ok());
        let events = Events::new(self.client.clone(), node.clone());
        let report = Arc::new(move |name: &ServiceName, message| {
            let event = svcd_pods::Event {
                warning: true,
                reason: "FailedToStartServiceHealthcheck",
                message,
                container: None,
            };
            events.send_about(About::service(&name.namespace, &name.name), event);
        });
        let (checks, inlet) = HealthChecks::new(node, is_healthy, report);
        self.endless("health-check ports", checks.run());
        inlet
    }
}

fn end_of_part(ended: Result<Ended, tokio::task::JoinError>) -> Error {
    match ended {
        Ok((part, Ok(()))) => Error::Ended { part, reason: "it stopped without being told to".to_owned() },
        Ok((part, Err(reason))) => Error::Ended { part, reason },
        Err(broken) => Error::Ended { part: "a part of the agent", reason: broken.to_string() },
    }
}

async fn wait_for_network(
    mut network: channel::Receiver<Option<Arc<PodNet>>>,
    stop: &CancellationToken,
) -> Option<Arc<PodNet>> {
    tokio::select! {
        up = network.wait_for(Option::is_some) => up.ok()?.clone(),
        () = stop.cancelled() => None,
    }
}

/// The node's zone comes from its label, which anybody may set at any time.
async fn keep_zone(mut own: channel::Receiver<OwnNode>, proxy: ProxyHandle) {
    let mut told = None;
    loop {
        let zone = own
            .borrow_and_update()
            .node()
            .and_then(|node| node.metadata.labels.as_ref()?.get(ZONE_LABEL).cloned());
        if zone != told {
            proxy.set_zone(zone.clone());
            told = zone;
        }
        if own.changed().await.is_err() {
            return;
        }
    }
}

/// The proxy works once everything there was has reached the kernel, and as long as changes do.
async fn keep_proxy_health(proxy: ProxyHandle, directory: Directory, health: Health) {
    directory.complete().await;
    while proxy.status().synced_at.is_none() {
        let generation = proxy.status().generation + 1;
        tokio::select! {
            _ = proxy.synced(generation) => {}
            () = tokio::time::sleep(PROXY_CHECK) => {
                let error = proxy.status().error.unwrap_or_else(|| "rules are not written yet".to_owned());
                health.set(Part::Proxy, Err(error));
            }
        }
    }
    loop {
        health.set(Part::Proxy, proxy.healthy(PROXY_PATIENCE));
        tokio::time::sleep(PROXY_CHECK).await;
    }
}
