//! Service addresses as objects: an IPAddress with every address, taken from ServiceCIDRs that come and go, in the very
//! transaction of the Service.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use svcd_apiserver::{ApiServer, Config};
use svcd_store::{ListRequest, Op, Options, Txn};

use crate::cluster::{Cluster, SERVICES, service};

const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const RANGES: &str = "/apis/networking.k8s.io/v1/servicecidrs";

async fn with(ranges: &[&str]) -> Cluster {
    let service_cidrs = ranges.iter().map(|range| range.parse().unwrap()).collect();
    Cluster::with(Config { service_cidrs, ..Config::default() }, Options::default()).await
}

fn at(name: &str, address: &str) -> Value {
    let mut object = service(name);
    object["spec"]["clusterIP"] = address.into();
    object
}

fn range(name: &str, cidr: &str, finalizers: &[&str]) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": { "name": name, "finalizers": finalizers }, "spec": { "cidrs": [cidr] },
    })
}

/// Every IPAddress and who has it.
async fn held(cluster: &Cluster) -> BTreeSet<(String, String)> {
    let list = cluster.admin.get(ADDRESSES).await.expect(200);
    let one = |item: &Value| {
        let (meta, parent) = (&item["metadata"], &item["spec"]["parentRef"]);
        (meta["name"].as_str().unwrap().to_owned(), parent["name"].as_str().unwrap().to_owned())
    };
    list["items"].as_array().unwrap().iter().map(one).collect()
}

/// Every address of a Service and its name.
async fn owed(cluster: &Cluster) -> BTreeSet<(String, String)> {
    let list = cluster.admin.get("/api/v1/services").await.expect(200);
    let mut owed = BTreeSet::new();
    for service in list["items"].as_array().unwrap() {
        let name = service["metadata"]["name"].as_str().unwrap();
        for address in service["spec"]["clusterIPs"].as_array().into_iter().flatten() {
            assert!(owed.insert((address.as_str().unwrap().to_owned(), name.to_owned())), "{address} twice");
        }
    }
    owed
}

#[tokio::test]
async fn a_service_comes_and_goes_with_its_ip_address() {
    let cluster = Cluster::new().await;
    let mut watch = cluster.admin.watch(&format!("{ADDRESSES}?watch=true&resourceVersion=0")).await;
    let created = cluster.admin.post(SERVICES, &service("web")).await.expect(201);
    let address = created["spec"]["clusterIP"].as_str().unwrap();
    let claim = cluster.admin.get(&format!("{ADDRESSES}/{address}")).await.expect(200);
    assert_eq!(
        claim["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"],
        "one transaction"
    );
    assert_eq!(claim["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"], "IPv4");
    assert_eq!(claim["metadata"]["labels"]["ipaddress.kubernetes.io/managed-by"], "ipallocator.k8s.io");
    assert_eq!(
        claim["spec"]["parentRef"],
        json!({ "resource": "services", "namespace": "default", "name": "web" })
    );
    assert!(claim["metadata"]["uid"].is_string() && claim["metadata"]["creationTimestamp"].is_string());
    cluster.admin.delete(&format!("{SERVICES}/web")).await.expect(200);
    for kind in ["ADDED", "DELETED"] {
        let event = watch.next().await.unwrap();
        assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!(kind), &json!(address)));
    }
    assert_eq!(held(&cluster).await, BTreeSet::new());
}

#[tokio::test]
async fn the_range_that_the_cluster_begins_with() {
    let cluster = with(&["10.96.0.0/24", "fd00::/120"]).await;
    let usual = cluster.admin.get(&format!("{RANGES}/kubernetes")).await.expect(200);
    assert_eq!(usual["spec"]["cidrs"], json!(["10.96.0.0/24", "fd00::/120"]));
    assert_eq!(cluster.admin.get(RANGES).await.expect(200)["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_ip_address_made_by_hand_reserves_its_address() {
    let cluster = with(&["10.96.0.0/24"]).await;
    let claim = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": { "name": "10.96.0.200" },
        "spec": { "parentRef": { "resource": "services", "namespace": "t1", "name": "nope" } },
    });
    cluster.admin.post(ADDRESSES, &claim).await.expect(201);
    assert_eq!(
        cluster.admin.post(SERVICES, &at("clash", "10.96.0.200")).await.refused(422, "Invalid"),
        "Service \"clash\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.0.200\"]: failed to allocate IP \
         10.96.0.200: provided IP is already allocated"
    );
    cluster.admin.delete(&format!("{ADDRESSES}/10.96.0.200")).await.expect(200);
    cluster.admin.post(SERVICES, &at("clash", "10.96.0.200")).await.expect(201);
    // The address of a Service cannot be had by hand either.
    cluster.admin.post(ADDRESSES, &claim).await.refused(409, "AlreadyExists");
}

#[tokio::test]
async fn a_claim_that_was_removed_comes_back_with_the_next_write_and_is_not_taken_from_another() {
    let cluster = with(&["10.96.0.0/24"]).await;
    cluster.admin.post(SERVICES, &at("web", "10.96.0.50")).await.expect(201);
    cluster.admin.delete(&format!("{ADDRESSES}/10.96.0.50")).await.expect(200);
    let labelled = |value: &str| json!({ "metadata": { "labels": { "a": value } } });
    cluster.admin.merge(&format!("{SERVICES}/web"), &labelled("1")).await.expect(200);
    assert_eq!(held(&cluster).await, owed(&cluster).await);

    cluster.admin.delete(&format!("{ADDRESSES}/10.96.0.50")).await.expect(200);
    cluster.admin.post(SERVICES, &at("other", "10.96.0.50")).await.expect(201);
    cluster.admin.merge(&format!("{SERVICES}/web"), &labelled("2")).await.expect(200);
    cluster.admin.delete(&format!("{SERVICES}/web")).await.expect(200);
    assert_eq!(held(&cluster).await, BTreeSet::from([("10.96.0.50".to_owned(), "other".to_owned())]));
}

#[tokio::test]
async fn a_claim_that_something_holds_outlives_its_service() {
    let cluster = with(&["10.96.0.0/24"]).await;
    cluster.admin.post(SERVICES, &at("web", "10.96.0.50")).await.expect(201);
    let path = format!("{ADDRESSES}/10.96.0.50");
    let hold = json!({ "metadata": { "finalizers": ["example.com/wait"] } });
    cluster.admin.merge(&path, &hold).await.expect(200);
    cluster.admin.delete(&format!("{SERVICES}/web")).await.expect(200);
    assert!(cluster.admin.get(&path).await.expect(200)["metadata"]["deletionTimestamp"].is_string());
    cluster.admin.post(SERVICES, &at("web", "10.96.0.50")).await.refused(422, "Invalid");
    cluster.admin.merge(&path, &json!({ "metadata": { "finalizers": null } })).await.expect(200);
    cluster.admin.post(SERVICES, &at("web", "10.96.0.50")).await.expect(201);
}

#[tokio::test]
async fn more_ranges_make_room_and_one_on_its_way_out_gives_no_more() {
    let cluster = with(&["10.96.0.0/30"]).await;
    for name in ["a", "b"] {
        cluster.admin.post(SERVICES, &service(name)).await.expect(201);
    }
    let full = "Internal error occurred: failed to allocate a serviceIP: range is full";
    assert_eq!(cluster.admin.post(SERVICES, &service("c")).await.refused(500, "InternalError"), full);
    let refused = cluster.admin.post(SERVICES, &at("c", "10.97.0.3")).await.refused(422, "Invalid");
    assert!(
        refused.ends_with("the provided network does not match the current range 10.96.0.0/30"),
        "{refused}"
    );

    cluster.admin.post(RANGES, &range("more", "10.97.0.0/28", &["example.com/wait"])).await.expect(201);
    let third = cluster.admin.post(SERVICES, &service("c")).await.expect(201);
    assert!(third["spec"]["clusterIP"].as_str().unwrap().starts_with("10.97.0."), "{third}");
    cluster.admin.delete(&format!("{SERVICES}/c")).await.expect(200);
    cluster.admin.post(SERVICES, &at("c", "10.97.0.3")).await.expect(201);

    cluster.admin.delete(&format!("{RANGES}/more")).await.expect(200);
    assert_eq!(cluster.admin.post(SERVICES, &service("d")).await.refused(500, "InternalError"), full);
    cluster.admin.post(SERVICES, &at("d", "10.97.0.4")).await.refused(422, "Invalid");
    // What is there stays, and can be changed.
    let labels = json!({ "metadata": { "labels": { "a": "b" } } });
    cluster.admin.merge(&format!("{SERVICES}/c"), &labels).await.expect(200);
    // A range whose controller calls it not ready is as good as none.
    cluster.admin.post(RANGES, &range("third", "10.98.0.0/28", &[])).await.expect(201);
    let unready = json!({ "status": { "conditions": [{
        "type": "Ready", "status": "False", "reason": "Testing", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
    }] } });
    cluster.admin.merge(&format!("{RANGES}/third/status"), &unready).await.expect(200);
    assert_eq!(cluster.admin.post(SERVICES, &service("d")).await.refused(500, "InternalError"), full);
    assert_eq!(held(&cluster).await, owed(&cluster).await);
}

#[tokio::test]
async fn the_range_of_the_cluster_is_used_first_and_ranges_may_overlap() {
    let cluster = with(&["10.96.0.0/28"]).await;
    cluster.admin.post(RANGES, &range("a", "10.96.0.0/24", &[])).await.expect(201);
    for n in 0..14 {
        let created = cluster.admin.post(SERVICES, &service(&format!("s{n}"))).await.expect(201);
        let address: std::net::Ipv4Addr = created["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
        assert!(address.octets()[3] < 15, "{address}");
    }
    let next = cluster.admin.post(SERVICES, &service("s14")).await.expect(201);
    let address: std::net::Ipv4Addr = next["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
    assert!(address.octets()[3] > 15, "the lower band of the larger range is left alone: {address}");
    assert_eq!(held(&cluster).await, owed(&cluster).await);
}

#[tokio::test]
async fn two_families_are_had_or_neither_is() {
    let cluster = with(&["10.96.0.0/24", "fd00::/120"]).await;
    let mut both = service("web");
    both["spec"]["ipFamilyPolicy"] = "RequireDualStack".into();
    let created = cluster.admin.post(SERVICES, &both).await.expect(201);
    let ips = created["spec"]["clusterIPs"].as_array().unwrap();
    assert!(
        ips[0].as_str().unwrap().starts_with("10.96.0.") && ips[1].as_str().unwrap().starts_with("fd00::")
    );
    assert_eq!(held(&cluster).await, owed(&cluster).await);

    let mut clash = both.clone();
    clash["metadata"]["name"] = "clash".into();
    clash["spec"]["clusterIP"] = "10.96.0.77".into();
    clash["spec"]["clusterIPs"] = json!(["10.96.0.77", ips[1]]);
    let refused = cluster.admin.post(SERVICES, &clash).await.refused(422, "Invalid");
    assert!(refused.ends_with("provided IP is already allocated"), "{refused}");
    assert_eq!(held(&cluster).await, owed(&cluster).await, "nothing of a refused Service is left");

    let path = format!("{SERVICES}/web");
    let down = json!({ "spec": { "ipFamilyPolicy": "SingleStack" } });
    cluster.admin.merge(&path, &down).await.expect(200);
    assert_eq!(held(&cluster).await.len(), 1);
    let up = json!({ "spec": { "ipFamilyPolicy": "PreferDualStack" } });
    cluster.admin.merge(&path, &up).await.expect(200);
    assert_eq!((held(&cluster).await.len(), held(&cluster).await), (2, owed(&cluster).await));
    let external = json!({ "spec": { "type": "ExternalName", "externalName": "a.example.com" } });
    cluster.admin.merge(&path, &external).await.expect(200);
    assert_eq!(held(&cluster).await, BTreeSet::new());
}

#[tokio::test]
async fn a_dry_run_takes_nothing() {
    let cluster = with(&["10.96.0.0/24"]).await;
    let dry = cluster.admin.post(&format!("{SERVICES}?dryRun=All"), &service("web")).await.expect(201);
    assert!(dry["spec"]["clusterIP"].is_string());
    assert_eq!(held(&cluster).await, BTreeSet::new());
    cluster.admin.post(SERVICES, &at("web", "10.96.0.50")).await.expect(201);
    cluster.admin.delete(&format!("{SERVICES}/web?dryRun=All")).await.expect(200);
    assert_eq!(held(&cluster).await.len(), 1);
}

/// Sixty-four clients make and unmake Services while ranges come and go: no address twice, none left behind, and none
/// out of a range that was already marked for deletion.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_creators_while_ranges_come_and_go() {
    let cluster = Arc::new(with(&["10.96.0.0/28"]).await);
    let ranges = {
        let cluster = Arc::clone(&cluster);
        tokio::spawn(async move {
            for round in 0..12 {
                let name = format!("r{}", round % 3);
                let object = range(&name, &format!("10.97.{}.0/27", round % 3), &["example.com/wait"]);
                cluster.admin.post(RANGES, &object).await.expect(201);
                tokio::task::yield_now().await;
                cluster.admin.delete(&format!("{RANGES}/{name}")).await.expect(200);
                let marked = cluster.store.revision();
                let last = json!({ "metadata": { "finalizers": null } });
                cluster.admin.merge(&format!("{RANGES}/{name}"), &last).await.expect(200);
                let request = ListRequest {
                    prefix: "/objects/networking.k8s.io/ipaddresses//10.97.".to_owned(),
                    ..ListRequest::default()
                };
                for claim in cluster.store.list(request).await.unwrap().records {
                    let third: u8 =
                        claim.key.rsplit('/').next().unwrap().split('.').nth(2).unwrap().parse().unwrap();
                    assert!(
                        third != round % 3 || claim.created <= marked,
                        "{} came out of a closed range",
                        claim.key
                    );
                }
            }
        })
    };
    let creators = (0..64).map(|n| {
        let client = cluster.admin.clone();
        tokio::spawn(async move {
            for round in 0..6 {
                let name = format!("s{n}");
                let made = client.post(SERVICES, &service(&name)).await;
                match made.status.as_u16() {
                    201 if round < 5 => {
                        client.delete(&format!("{SERVICES}/{name}")).await.expect(200);
                    }
                    201 | 500 => {}
                    _ => panic!("{made:?}"),
                }
            }
        })
    });
    let (made, changed) = tokio::join!(futures::future::join_all(creators), ranges);
    made.into_iter().for_each(|result| result.unwrap());
    changed.unwrap();
    assert_eq!(held(&cluster).await, owed(&cluster).await);
}

#[tokio::test]
async fn claims_of_an_older_version_are_brought_over() {
    let cluster = with(&["10.96.0.0/24"]).await;
    let mut object = at("web", "10.96.0.50");
    object["spec"]["type"] = "NodePort".into();
    object["spec"]["ports"][0]["nodePort"] = 30_080.into();
    cluster.admin.post(SERVICES, &object).await.expect(201);
    // As an older version had them.
    let owner =
        json!({ "group": "", "resource": "services", "namespace": "default", "name": "web", "uid": "u" });
    let put = |key: &str| Op::Put {
        key: key.to_owned(),
        value: svcd_store::Value::plain(owner.to_string()),
        meta: bytes::Bytes::new(),
    };
    let gone = |key: &str| Op::Delete { key: key.to_owned(), last: None };
    let txn = Txn {
        expect: Vec::new(),
        ops: vec![
            gone("/objects/networking.k8s.io/ipaddresses//10.96.0.50"),
            gone("/claims/node-port/30080"),
            put("/claims/service-ip/10.96.0.50"),
            put("/claims/node-port/TCP/30080"),
            put("/claims/node-port/UDP/30080"),
        ],
    };
    cluster.store.commit(txn).await.unwrap();
    let config = Config { service_cidrs: vec!["10.96.0.0/24".parse().unwrap()], ..Config::default() };
    for _ in 0..2 {
        let server = ApiServer::new(Arc::clone(&cluster.store), Arc::clone(&cluster.ca), config.clone());
        server.bootstrap().await.unwrap();
        assert_eq!(held(&cluster).await, owed(&cluster).await);
        let request = ListRequest { prefix: "/claims/".to_owned(), ..ListRequest::default() };
        let left = cluster.store.list(request).await.unwrap().records;
        assert_eq!(left.iter().map(|r| &*r.key).collect::<Vec<_>>(), ["/claims/node-port/30080"]);
    }
    cluster.admin.delete(&format!("{SERVICES}/web")).await.expect(200);
    assert_eq!(held(&cluster).await, BTreeSet::new());
    let request = ListRequest { prefix: "/claims/".to_owned(), ..ListRequest::default() };
    assert!(cluster.store.list(request).await.unwrap().records.is_empty());
}

#[tokio::test]
async fn golden_tables() {
    let cluster = with(&["10.96.0.0/24"]).await;
    cluster.admin.post(SERVICES, &at("web", "10.96.0.50")).await.expect(201);
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let addresses = cluster.admin.get_as(ADDRESSES, table).await.expect(200);
    assert_eq!(addresses["rows"][0]["cells"], json!(["10.96.0.50", "services/default/web"]));
    let ranges = cluster.admin.get_as(RANGES, table).await.expect(200);
    assert_eq!(ranges["rows"][0]["cells"][1], "10.96.0.0/24");
}
