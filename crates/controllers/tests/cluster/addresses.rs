//! Service addresses: ranges that come and go, IPAddresses that are put right, and clusters of two families.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::rig::{Cluster, config, eventually, pod};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

fn service(name: &str, spec: Value) -> Value {
    let mut object = json!({ "metadata": { "name": name }, "spec": { "ports": [{ "port": 80 }] } });
    crate::rig::merge(&mut object["spec"], &spec);
    object
}

async fn add_range(cluster: &Cluster, name: &str, cidr: &str) {
    let object = json!({ "metadata": { "name": name }, "spec": { "cidrs": [cidr] } });
    let object: ServiceCIDR = serde_json::from_value(object).unwrap();
    cluster.all::<ServiceCIDR>().create(&PostParams::default(), &object).await.unwrap();
}

/// Status, reason and message of the Ready condition.
fn ready(range: &ServiceCIDR) -> (String, String, String) {
    let conditions = range.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    ready.map(|c| (c.status, c.reason, c.message)).unwrap_or_default()
}

async fn is_ready(cluster: &Cluster, name: &str) -> ServiceCIDR {
    let ranges = cluster.all::<ServiceCIDR>();
    eventually(&format!("{name} is ready"), || async {
        let range = ranges.get_opt(name).await.unwrap()?;
        (ready(&range).0 == "True" && range.finalizers() == [FINALIZER]).then_some(range)
    })
    .await
}

async fn is_gone(cluster: &Cluster, name: &str) {
    let ranges = cluster.all::<ServiceCIDR>();
    eventually(&format!("{name} is gone"), || async {
        ranges.get_opt(name).await.unwrap().is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_cluster_has_its_range_and_the_addresses_of_its_services() {
    let cluster = Cluster::start(config()).await;
    let range = is_ready(&cluster, "kubernetes").await;
    assert_eq!(range.spec.as_ref().unwrap().cidrs, Some(vec!["10.96.0.0/12".to_owned()]));
    let words = ("True".to_owned(), String::new(), "Kubernetes Service CIDR is ready".to_owned());
    assert_eq!(ready(&range), words);
    let addresses = cluster.all::<IPAddress>();
    for (address, owner) in [("10.96.0.1", "kubernetes"), ("10.96.0.10", "kube-dns")] {
        let claim = eventually(address, || async { addresses.get_opt(address).await.unwrap() }).await;
        assert_eq!(claim.spec.parent_ref.name, owner);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_that_is_needed_waits_and_says_so() {
    let cluster = Cluster::start(config()).await;
    add_range(&cluster, "sc2", "10.127.0.0/28").await;
    is_ready(&cluster, "sc2").await;
    let in_sc2 = service("in-sc2", json!({ "clusterIP": "10.127.0.3" }));
    cluster.create::<Service>("default", in_sc2).await;
    let ranges = cluster.all::<ServiceCIDR>();
    ranges.delete("sc2", &DeleteParams::default()).await.unwrap();
    let waiting = eventually("sc2 waits", || async {
        let range = ranges.get_opt("sc2").await.unwrap()?;
        (ready(&range).0 == "False").then_some(range)
    })
    .await;
    assert_eq!(
        ready(&waiting),
        (
            "False".to_owned(),
            "Terminating".to_owned(),
            "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
                .to_owned()
        )
    );
    cluster.api::<Service>().delete("in-sc2", &DeleteParams::default()).await.unwrap();
    is_gone(&cluster, "sc2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_goes_when_another_holds_its_addresses() {
    let cluster = Cluster::start(config()).await;
    add_range(&cluster, "sc2", "10.127.0.0/28").await;
    let in_sc2 = service("in-sc2", json!({ "clusterIP": "10.127.0.3" }));
    eventually("the range is open", || async {
        let object: Service = serde_json::from_value(in_sc2.clone()).unwrap();
        cluster.api::<Service>().create(&PostParams::default(), &object).await.ok()
    })
    .await;
    is_ready(&cluster, "sc2").await;
    let ranges = cluster.all::<ServiceCIDR>();
    ranges.delete("sc2", &DeleteParams::default()).await.unwrap();
    eventually("sc2 waits", || async {
        (ready(&ranges.get_opt("sc2").await.unwrap()?).0 == "False").then_some(())
    })
    .await;
    add_range(&cluster, "larger", "10.127.0.0/24").await;
    is_gone(&cluster, "sc2").await;
    assert!(cluster.all::<IPAddress>().get_opt("10.127.0.3").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_range_of_the_cluster_comes_back() {
    let cluster = Cluster::start(config()).await;
    let first = is_ready(&cluster, "kubernetes").await;
    add_range(&cluster, "everything", "10.0.0.0/8").await;
    is_ready(&cluster, "everything").await;
    cluster.all::<ServiceCIDR>().delete("kubernetes", &DeleteParams::default()).await.unwrap();
    let ranges = cluster.all::<ServiceCIDR>();
    eventually("it is back", || async {
        let range = ranges.get_opt("kubernetes").await.unwrap()?;
        (range.uid() != first.uid()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_a_hand_removed_comes_back_and_one_that_lies_goes() {
    let cluster = Cluster::start(config()).await;
    cluster.create::<Service>("default", service("web", json!({ "clusterIP": "10.96.7.7" }))).await;
    let addresses = cluster.all::<IPAddress>();
    addresses.delete("10.96.7.7", &DeleteParams::default()).await.unwrap();
    let back =
        eventually("the claim is back", || async { addresses.get_opt("10.96.7.7").await.unwrap() }).await;
    assert_eq!(back.spec.parent_ref.name, "web");
    assert_eq!(back.labels()["ipaddress.kubernetes.io/managed-by"], "ipallocator.k8s.io");

    let mut lie = back.clone();
    lie.metadata = serde_json::from_value(json!({ "name": "10.96.7.8", "labels": back.labels() })).unwrap();
    addresses.create(&PostParams::default(), &lie).await.unwrap();
    eventually("the lie is gone", || async {
        addresses.get_opt("10.96.7.8").await.unwrap().is_none().then_some(())
    })
    .await;
    // What carries another's label, or none, is nobody's business here.
    lie.metadata = serde_json::from_value(json!({ "name": "10.96.7.9" })).unwrap();
    addresses.create(&PostParams::default(), &lie).await.unwrap();

    // A claim that somebody else wrote in the place of the Service's is put right.
    let mut stolen = lie.clone();
    stolen.metadata.name = Some("10.96.7.7".to_owned());
    stolen.spec.parent_ref.name = "thief".to_owned();
    eventually("the thief is faster than the repair", || async {
        addresses.delete("10.96.7.7", &DeleteParams::default()).await.ok()?;
        addresses.create(&PostParams::default(), &stolen).await.ok()
    })
    .await;
    eventually("the Service has its claim again", || async {
        let claim = addresses.get_opt("10.96.7.7").await.unwrap()?;
        (claim.spec.parent_ref.name == "web").then_some(())
    })
    .await;
    assert!(addresses.get_opt("10.96.7.9").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a23_a_cluster_of_two_families() {
    let mut dual = config();
    let ranges = |all: [&str; 2]| -> Vec<IpNet> { all.iter().map(|range| range.parse().unwrap()).collect() };
    dual.service_ranges = ranges(["10.96.0.0/12", "fd00:96::/108"]);
    dual.pod_ranges = ranges(["10.244.0.0/16", "fd00:244::/48"]);
    let cluster = Cluster::start(dual).await;
    let usual = is_ready(&cluster, "kubernetes").await;
    assert_eq!(usual.spec.unwrap().cidrs.unwrap(), ["10.96.0.0/12", "fd00:96::/108"]);

    cluster.node("node1", json!({})).await;
    cluster.node("node2", json!({})).await;
    let nodes = cluster.all::<Node>();
    for node in ["node1", "node2"] {
        let given = eventually("ranges of both families", || async {
            nodes.get(node).await.unwrap().spec?.pod_cidrs
        })
        .await;
        let given: Vec<IpNet> = given.iter().map(|range| range.parse().unwrap()).collect();
        assert_eq!((given[0].prefix_len(), given[1].prefix_len()), (24, 64), "{given:?}");
        assert!(given[0].addr().is_ipv4() && given[1].addr().is_ipv6());
    }

    for (name, spec) in [
        ("one", json!({ "selector": { "app": "web" } })),
        ("both", json!({ "selector": { "app": "web" }, "ipFamilyPolicy": "RequireDualStack" })),
        ("six", json!({ "selector": { "app": "web" }, "ipFamilies": ["IPv6"], "clusterIP": "None" })),
    ] {
        cluster.create::<Service>("default", service(name, spec)).await;
    }
    let on_node = json!({ "spec": { "nodeName": "node1" } });
    cluster.create::<Pod>("default", pod("a", json!({ "app": "web" }), on_node)).await;
    let mut status = crate::rig::running("10.244.0.5", true);
    status["status"]["podIPs"] = json!([{ "ip": "10.244.0.5" }, { "ip": "fd00:244::5" }]);
    cluster.set_status("a", status).await;

    for (name, wanted) in [
        ("one", vec![("IPv4", "10.244.0.5")]),
        ("both", vec![("IPv4", "10.244.0.5"), ("IPv6", "fd00:244::5")]),
        ("six", vec![("IPv6", "fd00:244::5")]),
    ] {
        let selector = format!("kubernetes.io/service-name={name}");
        let slices = cluster.api::<EndpointSlice>();
        eventually(&format!("slices of {name}"), || async {
            let all = slices.list(&ListParams::default().labels(&selector)).await.unwrap().items;
            let mut seen: Vec<(String, String)> = all
                .iter()
                .flat_map(|s| {
                    s.endpoints.iter().flatten().map(|e| (s.address_type.clone(), e.addresses[0].clone()))
                })
                .collect();
            seen.sort();
            seen.iter()
                .map(|(family, ip)| (family.as_str(), ip.as_str()))
                .eq(wanted.iter().copied())
                .then_some(())
        })
        .await;
        let first = wanted[0].1;
        eventually(&format!("Endpoints of {name}"), || async {
            let endpoints = cluster.api::<Endpoints>().get_opt(name).await.unwrap()?;
            let ips: Vec<String> = endpoints
                .subsets
                .into_iter()
                .flatten()
                .flat_map(|subset| subset.addresses.into_iter().flatten().map(|address| address.ip))
                .collect();
            (ips == [first]).then_some(())
        })
        .await;
    }
    // Down to one family: the slice of the other goes.
    let down = Patch::Merge(json!({ "spec": { "ipFamilyPolicy": "SingleStack" } }));
    cluster.api::<Service>().patch("both", &PatchParams::default(), &down).await.unwrap();
    eventually("one slice", || async {
        let selector = ListParams::default().labels("kubernetes.io/service-name=both");
        let all = cluster.api::<EndpointSlice>().list(&selector).await.unwrap().items;
        (all.len() == 1 && all[0].address_type == "IPv4").then_some(())
    })
    .await;
    // What belongs to the cluster itself is of the usual family, as upstream has it.
    for (namespace, name) in [("default", "kubernetes"), ("kube-system", "kube-dns")] {
        let own = cluster.api_in::<Service>(namespace).get(name).await.unwrap().spec.unwrap();
        assert_eq!(own.ip_family_policy.as_deref(), Some("SingleStack"), "{name}");
        assert_eq!(own.ip_families.unwrap(), ["IPv4"], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a23_a_cluster_of_ipv6_alone() {
    let mut six = config();
    six.service_ranges = vec!["fd00:96::/108".parse().unwrap()];
    six.pod_ranges = vec!["fd00:244::/48".parse().unwrap()];
    six.dns_address = "fd00:96::a".parse().unwrap();
    six.advertise = "[fd00::11]:6443".parse().unwrap();
    let cluster = Cluster::start(six).await;
    let own = eventually("default/kubernetes", || async {
        cluster.api::<Service>().get_opt("kubernetes").await.unwrap()
    })
    .await;
    assert_eq!(own.spec.unwrap().cluster_ips.unwrap(), ["fd00:96::1"]);
    cluster.node("node1", json!({})).await;
    let slice = eventually("the DNS of node1", || async {
        let selector = ListParams::default().labels("kubernetes.io/service-name=kube-dns");
        let all = cluster.api_in::<EndpointSlice>("kube-system").list(&selector).await.unwrap().items;
        all.into_iter().find(|slice| slice.endpoints.as_ref().is_some_and(|all| !all.is_empty()))
    })
    .await;
    assert_eq!(
        (slice.address_type.as_str(), slice.endpoints.unwrap()[0].addresses[0].as_str()),
        ("IPv6", "fd00:244::1")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_family_is_added_to_the_range_of_the_cluster() {
    let mut dual = config();
    dual.service_ranges.push("fd00:96::/108".parse().unwrap());
    // A server that was set up with one family has been told of a second.
    let cluster = Cluster::start_on(config().service_ranges, dual).await;
    let ranges = cluster.all::<ServiceCIDR>();
    eventually("both families", || async {
        let range = ranges.get_opt("kubernetes").await.unwrap()?;
        (range.spec?.cidrs?.len() == 2).then_some(())
    })
    .await;
}
