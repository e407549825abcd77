//! The whole agent in a network namespace of its own, against a real API server: it registers, becomes Ready, forwards,
//! answers names, comes back when its Node is deleted, leaves everything when it stops, and nothing after clean-up.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use svcd_apiserver::{ApiServer, Config as ApiConfig, User};
use svcd_node::{ClusterInfo, Config, Heartbeat};
use svcd_pki::Ca;
use svcd_store::{Embedded, Options};
use svcd_testkit::{Netns, eventually_async, privileged};
use tempfile::TempDir;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(20);
const RANGE: &str = "10.244.7.0/24";

fn cluster() -> ClusterInfo {
    ClusterInfo {
        cluster_domain: "cluster.local".into(),
        dns_address: [10, 96, 0, 10].into(),
        service_cidr: "10.96.0.0/12".parse().unwrap(),
        pod_cidr: "10.244.0.0/16".parse().unwrap(),
        node_port_range: "30000-32767".parse().unwrap(),
    }
}

/// A cluster of one node.
struct Fixture {
    dir: TempDir,
    ca: Arc<Ca>,
    server: Arc<ApiServer>,
    admin: Client,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Arc::new(Ca::load_or_create(&dir.path().join("pki")).unwrap());
        let store = Embedded::open(dir.path().join("store"), Options::default()).unwrap();
        let server = ApiServer::new(Arc::new(store), Arc::clone(&ca), ApiConfig::default());
        server.bootstrap().await.unwrap();
        let admin = Client::new(server.in_process(User::master("admin")), "default");
        Self { dir, ca, server, admin }
    }

    fn data_dir(&self) -> &Path {
        self.dir.path()
    }

    fn config(&self) -> Config {
        let mut config =
            Config::new("node1", "127.0.0.1:6443".parse().unwrap(), self.data_dir(), "/bin/false", cluster());
        config.heartbeat = Heartbeat { interval: Duration::from_millis(200), lease: Duration::from_secs(2) };
        config.health_address = Some("127.0.0.1:10256".parse().unwrap());
        // Pods run this test's own binary otherwise; the walkthroughs have real ones.
        config.run_pods = false;
        config
    }

    fn start(&self) -> Running {
        let user = User::new("system:node:node1", ["system:nodes"]);
        self.start_with(Client::new(self.server.in_process(user), "default"))
    }

    fn start_with(&self, client: Client) -> Running {
        let stop = CancellationToken::new();
        let (sender, ready) = oneshot::channel();
        let on_ready = move || sender.send(()).unwrap_or_default();
        let task = tokio::spawn(svcd_node::run(self.config(), client, on_ready, stop.clone()));
        Running { task, stop, ready }
    }

    async fn serve(&self) -> Serving {
        self.serve_at("127.0.0.1:0".parse().unwrap()).await
    }

    /// Serves over TLS, as for an agent on another machine.
    async fn serve_at(&self, address: SocketAddr) -> Serving {
        let names = ["127.0.0.1".into()];
        let identity = svcd_pki::Identity::issue(&self.ca, &names, svcd_pki::VALIDITY).unwrap();
        let tls = svcd_pki::server_config(&self.ca, identity).unwrap();
        let listener = eventually_async(DEADLINE, || async { std::net::TcpListener::bind(address) }).await;
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let serving = Arc::clone(&self.server).serve(listener, tls, stop.clone());
        let task = tokio::spawn(async move { serving.await.unwrap() });
        Serving { address, stop, task }
    }

    /// An agent with a certificate of its own, over TLS.
    async fn start_joined(&self, address: SocketAddr) -> Running {
        let pair = self.ca.issue_client("system:node:node1", &["system:nodes"], DEADLINE * 10).unwrap();
        let credentials = svcd_node::Credentials {
            server: format!("https://{address}"),
            node_name: "node1".into(),
            certificate: pair.cert,
            key: pair.key,
            ca: self.ca.certificate_pem().to_owned(),
            cluster: cluster(),
        };
        self.start_with(svcd_node::connect(&credentials).unwrap().0)
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.admin.clone())
    }

    /// Does what the controllers do: gives the node a range.
    async fn give_range(&self) {
        let patch = json!({"spec": {"podCIDR": RANGE, "podCIDRs": [RANGE]}});
        eventually_async(DEADLINE, || async {
            self.nodes().patch("node1", &PatchParams::default(), &Patch::Merge(&patch)).await
        })
        .await;
    }
}

struct Serving {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Serving {
    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(DEADLINE, self.task).await.expect("it stops").unwrap();
    }
}

struct Running {
    task: JoinHandle<Result<(), svcd_node::Error>>,
    stop: CancellationToken,
    ready: oneshot::Receiver<()>,
}

impl Running {
    async fn ready(&mut self) {
        let ready = tokio::time::timeout(DEADLINE, &mut self.ready).await;
        if ready.is_err() || self.task.is_finished() {
            self.task.abort();
            panic!("the agent is not ready within {DEADLINE:?}: {:?}", (&mut self.task).await);
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(DEADLINE, self.task).await.expect("it stops").unwrap().unwrap();
    }
}

async fn output(words: &[&str]) -> String {
    let output = tokio::process::Command::new(words[0]).args(&words[1..]).output().await.unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn condition<'a>(node: &'a Node, type_: &str) -> &'a str {
    let conditions = node.status.as_ref().unwrap().conditions.as_ref().unwrap();
    &conditions.iter().find(|condition| condition.type_ == type_).unwrap().status
}

/// Asks for the A record of a name and returns the answer's last four bytes, its address.
async fn resolve(server: &str, name: &str) -> Result<[u8; 4], String> {
    let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
    socket.connect((server, 53)).await.map_err(|e| e.to_string())?;
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    socket.send(&query).await.map_err(|e| e.to_string())?;
    let mut answer = [0; 512];
    let received = tokio::time::timeout(Duration::from_secs(1), socket.recv(&mut answer)).await;
    let length = received.map_err(|_| "no answer".to_owned())?.map_err(|e| e.to_string())?;
    match (answer[3] & 15, answer[7]) {
        (0, 1) => Ok(answer[length - 4..length].try_into().unwrap()),
        (code, count) => Err(format!("answer code {code}, {count} records")),
    }
}

fn service() -> Service {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"clusterIP": "10.96.7.7", "ports": [{"port": 80, "targetPort": 8080}]},
    }))
    .unwrap()
}

fn slice() -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.244.9.5"], "conditions": {"ready": true}}],
    }))
    .unwrap()
}

fn in_namespace<F: Future<Output = ()>>(label: &str, body: impl FnOnce(Fixture) -> F + Send) {
    privileged(|| Netns::new(label).block_on(|| async { body(Fixture::new().await).await }));
}

#[test]
fn a_life() {
    in_namespace("agent-life", |cluster| async move {
        let mut agent = cluster.start();
        cluster.give_range().await;
        agent.ready().await;

        let node = cluster.nodes().get("node1").await.unwrap();
        assert_eq!(condition(&node, "Ready"), "True");
        assert_eq!(node.metadata.labels.as_ref().unwrap()["kubernetes.io/hostname"], "node1");
        let leases: Api<Lease> = Api::namespaced(cluster.admin.clone(), "kube-node-lease");
        let renewed = leases.get("node1").await.unwrap().spec.unwrap().renew_time;
        eventually_async(DEADLINE, || async {
            let now = leases.get("node1").await.unwrap().spec.unwrap().renew_time;
            if now > renewed { Ok(()) } else { Err("the lease is not renewed") }
        })
        .await;

        let services: Api<Service> = Api::namespaced(cluster.admin.clone(), "default");
        services.create(&PostParams::default(), &service()).await.unwrap();
        let slices: Api<EndpointSlice> = Api::namespaced(cluster.admin.clone(), "default");
        slices.create(&PostParams::default(), &slice()).await.unwrap();
        for server in ["10.96.0.10", "10.244.7.1", "169.254.25.10"] {
            let address =
                eventually_async(DEADLINE, || resolve(server, "web.default.svc.cluster.local")).await;
            assert_eq!(address, [10, 96, 7, 7], "at {server}");
        }
        rules_lead_to("10.244.9.5:8080").await;

        agent.stop().await;
        // What it did outlives it.
        rules_lead_to("10.244.9.5:8080").await;
        assert!(output(&["ip", "link", "show", "svcd0"]).await.contains("svcd0"));

        // Again, over what is there.
        let mut again = cluster.start();
        again.ready().await;
        let busy = svcd_node::cleanup(cluster.data_dir()).await.unwrap_err();
        assert!(matches!(busy, svcd_node::Error::Busy { .. }), "{busy}");
        again.stop().await;

        svcd_node::cleanup(cluster.data_dir()).await.unwrap();
        svcd_node::cleanup(cluster.data_dir()).await.unwrap();
        assert_eq!(output(&["ip", "link", "show", "svcd0"]).await, "");
        assert!(!output(&["ip", "address"]).await.contains("10.96.0.10"));
        let left = output(&["iptables-save"]).await;
        assert!(!left.contains("KUBE") && !left.contains("SVCD"), "{left}");
    });
}

async fn rules_lead_to(endpoint: &str) {
    eventually_async(DEADLINE, || async {
        let rules = output(&["iptables-save", "-t", "nat"]).await;
        if rules.contains(endpoint) { Ok(()) } else { Err(rules) }
    })
    .await;
}

#[test]
fn a_deleted_node_comes_back_with_its_range() {
    in_namespace("agent-back", |cluster| async move {
        let mut agent = cluster.start();
        cluster.give_range().await;
        agent.ready().await;
        let before = cluster.nodes().get("node1").await.unwrap().metadata.uid;
        cluster.nodes().delete("node1", &DeleteParams::default()).await.unwrap();
        eventually_async(DEADLINE, || async {
            let node = cluster.nodes().get("node1").await.map_err(|error| error.to_string())?;
            let range = node.spec.as_ref().and_then(|spec| spec.pod_cidr.as_deref());
            if node.metadata.uid == before || node.status.as_ref().is_none_or(|s| s.conditions.is_none()) {
                return Err("not registered again yet".to_owned());
            }
            if range == Some(RANGE) && condition(&node, "Ready") == "True" {
                Ok(())
            } else {
                Err(format!("range {range:?}, Ready {}", condition(&node, "Ready")))
            }
        })
        .await;
        agent.stop().await;
    });
}

#[test]
fn a_verdict_of_others_is_corrected() {
    in_namespace("agent-verdict", |cluster| async move {
        let mut agent = cluster.start();
        cluster.give_range().await;
        agent.ready().await;
        let verdict = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]}});
        cluster
            .nodes()
            .patch_status("node1", &PatchParams::default(), &Patch::Strategic(&verdict))
            .await
            .unwrap();
        eventually_async(DEADLINE, || async {
            let node = cluster.nodes().get("node1").await.unwrap();
            if condition(&node, "Ready") == "True" { Ok(()) } else { Err("still given up") }
        })
        .await;
        agent.stop().await;
    });
}

#[test]
fn two_agents_do_not_share_a_directory() {
    in_namespace("agent-twice", |cluster| async move {
        let mut agent = cluster.start();
        cluster.give_range().await;
        agent.ready().await;
        let second = cluster.start();
        let error = second.task.await.unwrap().unwrap_err();
        assert!(matches!(error, svcd_node::Error::Busy { .. }), "{error}");
        agent.stop().await;
    });
}

#[test]
fn a_busy_health_port_is_an_error_before_anything_else() {
    in_namespace("agent-port", |cluster| async move {
        let taken = tokio::net::TcpListener::bind("127.0.0.1:10256").await.unwrap();
        let agent = cluster.start();
        let error = agent.task.await.unwrap().unwrap_err().to_string();
        assert!(error.contains("10256") && error.contains("another process"), "{error}");
        assert!(cluster.nodes().get_opt("node1").await.unwrap().is_none());
        drop(taken);
    });
}

#[test]
fn a_busy_port_53_leaves_the_other_addresses() {
    in_namespace("agent-dns", |cluster| async move {
        assert!(output(&["ip", "address", "add", "169.254.25.10/32", "dev", "lo"]).await.is_empty());
        let taken = UdpSocket::bind("169.254.25.10:53").await.unwrap();
        let mut agent = cluster.start();
        cluster.give_range().await;
        agent.ready().await;
        let services: Api<Service> = Api::namespaced(cluster.admin.clone(), "default");
        services.create(&PostParams::default(), &service()).await.unwrap();
        let address =
            eventually_async(DEADLINE, || resolve("10.96.0.10", "web.default.svc.cluster.local")).await;
        assert_eq!(address, [10, 96, 7, 7]);
        drop(taken);
        let address =
            eventually_async(DEADLINE, || resolve("169.254.25.10", "web.default.svc.cluster.local")).await;
        assert_eq!(address, [10, 96, 7, 7]);
        agent.stop().await;
    });
}

#[test]
fn a_server_that_goes_away_and_comes_back() {
    in_namespace("agent-away", |cluster| async move {
        let serving = cluster.serve().await;
        let mut agent = cluster.start_joined(serving.address).await;
        cluster.give_range().await;
        agent.ready().await;
        let services: Api<Service> = Api::namespaced(cluster.admin.clone(), "default");
        services.create(&PostParams::default(), &service()).await.unwrap();
        let slices: Api<EndpointSlice> = Api::namespaced(cluster.admin.clone(), "default");
        slices.create(&PostParams::default(), &slice()).await.unwrap();
        rules_lead_to("10.244.9.5:8080").await;

        let address = serving.address;
        serving.stop().await;
        let moved = json!({"endpoints": [{"addresses": ["10.244.9.6"], "conditions": {"ready": true}}]});
        slices.patch("web-1", &PatchParams::default(), &Patch::Merge(&moved)).await.unwrap();
        // Nobody can tell the agent; what it knows stays in force.
        assert_eq!(resolve("10.96.0.10", "web.default.svc.cluster.local").await, Ok([10, 96, 7, 7]));
        rules_lead_to("10.244.9.5:8080").await;

        let serving = cluster.serve_at(address).await;
        rules_lead_to("10.244.9.6:8080").await;
        assert!(!agent.task.is_finished());
        agent.stop().await;
        serving.stop().await;
    });
}

#[test]
fn without_the_virtual_address_of_the_dns_the_node_is_not_ready() {
    in_namespace("agent-vip", |cluster| async move {
        assert!(output(&["ip", "address", "add", "10.96.0.10/32", "dev", "lo"]).await.is_empty());
        let taken = UdpSocket::bind("10.96.0.10:53").await.unwrap();
        let mut agent = cluster.start();
        cluster.give_range().await;
        eventually_async(DEADLINE, || async {
            let node = cluster.nodes().get("node1").await.map_err(|error| error.to_string())?;
            let text = serde_json::to_string(&node.status).unwrap();
            if text.contains("port 53 of 10.96.0.10 is taken") { Ok(()) } else { Err(text) }
        })
        .await;
        drop(taken);
        agent.ready().await;
        agent.stop().await;
    });
}
