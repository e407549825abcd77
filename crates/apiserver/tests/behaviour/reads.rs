//! Get and list: revisions, pages, selectors, tables, metadata only.

use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use svcd_store::{HistoryBounds, Options};

use crate::cluster::{CONFIG_MAPS, Client, Cluster, SERVICES, config_map, name, revision, service};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";

async fn fill(client: &Client, names: &[&str]) {
    for (at, name) in names.iter().enumerate() {
        let mut object = config_map(name);
        object["metadata"]["labels"] = json!({ "parity": if at % 2 == 0 { "even" } else { "odd" } });
        client.post(CONFIG_MAPS, &object).await.expect(201);
    }
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(name).collect()
}

#[tokio::test]
async fn a_list_carries_the_revision_it_shows() {
    let cluster = Cluster::new().await;
    let empty = cluster.admin.get(CONFIG_MAPS).await.expect(200);
    assert_eq!((&empty["kind"], &empty["items"]), (&json!("ConfigMapList"), &json!([])));
    fill(&cluster.admin, &["b", "a"]).await;
    let list = cluster.admin.get(CONFIG_MAPS).await.expect(200);
    assert_eq!(names(&list), ["a", "b"]);
    assert_eq!(revision(&list), cluster.store.revision().0);
    assert_eq!(list["items"][0]["kind"], "ConfigMap");
    let everywhere = cluster.admin.get("/api/v1/configmaps").await.expect(200);
    assert_eq!(names(&everywhere), ["a", "b"]);
    assert_eq!(
        names(&cluster.admin.get("/api/v1/namespaces/kube-system/configmaps").await.expect(200)),
        [""; 0]
    );
}

#[tokio::test]
async fn pages_stand_on_the_revision_of_the_first_one() {
    let cluster = Cluster::new().await;
    fill(&cluster.admin, &["a", "b", "c", "d", "e"]).await;
    let first = cluster.admin.get(&format!("{CONFIG_MAPS}?limit=2")).await.expect(200);
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    cluster.admin.delete(&format!("{CONFIG_MAPS}/c")).await.expect(200);
    cluster.admin.post(CONFIG_MAPS, &config_map("bb")).await.expect(201);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = cluster.admin.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await.expect(200);
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(revision(&second), revision(&first));
    let token = second["metadata"]["continue"].as_str().unwrap();
    let last = cluster.admin.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await.expect(200);
    assert_eq!(names(&last), ["e"]);
    assert!(last["metadata"]["continue"].is_null() && last["metadata"]["remainingItemCount"].is_null());
    let both = format!("{CONFIG_MAPS}?limit=2&continue={token}&resourceVersion=3");
    cluster.admin.get(&both).await.refused(400, "BadRequest");
    cluster.admin.get(&format!("{CONFIG_MAPS}?limit=2&continue=xyz")).await.refused(400, "BadRequest");
}

#[tokio::test]
async fn a_page_of_a_selection_is_filled_and_does_not_count_the_rest() {
    let cluster = Cluster::new().await;
    fill(&cluster.admin, &["a", "b", "c", "d", "e", "f"]).await;
    let path = format!("{CONFIG_MAPS}?limit=2&labelSelector=parity%3Dodd");
    let first = cluster.admin.get(&path).await.expect(200);
    assert_eq!(names(&first), ["b", "d"]);
    assert!(first["metadata"]["remainingItemCount"].is_null());
    let token = first["metadata"]["continue"].as_str().unwrap();
    let last = cluster.admin.get(&format!("{path}&continue={token}")).await.expect(200);
    assert_eq!(names(&last), ["f"]);
    assert!(last["metadata"]["continue"].is_null());
}

#[tokio::test]
async fn no_match_is_lost_between_pages() {
    let cluster = Cluster::new().await;
    for (at, label) in ["x", "y", "x", "x", "y", "x", "x"].iter().enumerate() {
        let mut object = config_map(&format!("c{at}"));
        object["metadata"]["labels"] = json!({ "l": label });
        cluster.admin.post(CONFIG_MAPS, &object).await.expect(201);
    }
    for limit in 1..=6 {
        let path = format!("{CONFIG_MAPS}?labelSelector=l%3Dx&limit={limit}");
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let page = cluster.admin.get(&format!("{path}&continue={token}")).await.expect(200);
            found.extend(names(&page).into_iter().map(str::to_owned));
            match page["metadata"]["continue"].as_str() {
                Some(next) => token = next.to_owned(),
                None => break,
            }
        }
        assert_eq!(found, ["c0", "c2", "c3", "c5", "c6"], "{limit} at a time");
    }
}

#[tokio::test]
async fn an_expired_page_comes_with_a_token_to_go_on() {
    let history = HistoryBounds { events: 4, ..HistoryBounds::default() };
    let cluster = Cluster::with(Default::default(), Options { history, ..Options::default() }).await;
    fill(&cluster.admin, &["a", "b", "c"]).await;
    let first = cluster.admin.get(&format!("{CONFIG_MAPS}?limit=1")).await.expect(200);
    let token = first["metadata"]["continue"].as_str().unwrap();
    for n in 0..20 {
        cluster
            .admin
            .merge(&format!("{CONFIG_MAPS}/a"), &json!({ "data": { "n": n.to_string() } }))
            .await
            .expect(200);
    }
    let reply = cluster.admin.get(&format!("{CONFIG_MAPS}?limit=1&continue={token}")).await;
    let fresh = reply.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    assert!(reply.refused(410, "Expired").starts_with("The provided continue parameter is too old"));
    let rest = cluster.admin.get(&format!("{CONFIG_MAPS}?continue={fresh}")).await.expect(200);
    assert_eq!(names(&rest), ["b", "c"]);
    let exact = format!("{CONFIG_MAPS}?resourceVersion={}&resourceVersionMatch=Exact", revision(&first));
    cluster.admin.get(&exact).await.refused(410, "Expired");
}

#[tokio::test]
async fn a_list_can_be_of_an_exact_or_of_a_recent_revision() {
    let cluster = Cluster::new().await;
    fill(&cluster.admin, &["a"]).await;
    let then = cluster.store.revision();
    fill(&cluster.admin, &["b"]).await;
    let list = async |query: &str| cluster.admin.get(&format!("{CONFIG_MAPS}?{query}")).await;
    let exact = list(&format!("resourceVersion={then}&resourceVersionMatch=Exact")).await.expect(200);
    assert_eq!((names(&exact), revision(&exact)), (vec!["a"], then.0));
    let newer = list(&format!("resourceVersion={then}&resourceVersionMatch=NotOlderThan")).await.expect(200);
    assert_eq!(names(&newer), ["a", "b"]);
    assert_eq!(names(&list(&format!("resourceVersion={then}")).await.expect(200)), ["a", "b"]);
    assert_eq!(names(&list(&format!("resourceVersion={then}&limit=5")).await.expect(200)), ["a"]);
    assert_eq!(names(&list("resourceVersion=0").await.expect(200)), ["a", "b"]);
}

#[tokio::test]
async fn a_list_of_the_future_says_when_to_come_back() {
    let cluster = Cluster::new().await;
    let reply = cluster.admin.get(&format!("{CONFIG_MAPS}?resourceVersion=9999")).await;
    assert_eq!(reply.headers["retry-after"], "1");
    assert_eq!(reply.json()["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    assert!(
        reply.refused(504, "Timeout").starts_with("Timeout: Too large resource version: 9999, current: ")
    );
}

#[tokio::test]
async fn contradicting_list_options_are_refused_one_by_one() {
    let cluster = Cluster::new().await;
    for (query, why) in [
        ("resourceVersionMatch=Exact", "forbidden unless resourceVersion is provided"),
        ("resourceVersion=1&resourceVersionMatch=Exact&continue=x", "forbidden when continue is provided"),
        ("resourceVersion=0&resourceVersionMatch=Exact", "is forbidden for resourceVersion \"0\""),
        ("resourceVersion=1&resourceVersionMatch=Maybe", "Unsupported value: \"Maybe\""),
        ("sendInitialEvents=true", "sendInitialEvents is forbidden for list"),
        ("watch=true&sendInitialEvents=true", "sendInitialEvents requires setting resourceVersionMatch"),
        ("watch=true&resourceVersionMatch=NotOlderThan", "forbidden for watch unless sendInitialEvents"),
    ] {
        let message = cluster.admin.get(&format!("{CONFIG_MAPS}?{query}")).await.refused(422, "Invalid");
        assert!(
            message.starts_with("ListOptions.meta.k8s.io \"\" is invalid: ") && message.contains(why),
            "{message}"
        );
    }
    for query in ["resourceVersion=abc", "limit=many", "labelSelector=a%20b%20c", "watch=1&resourceVersion=x"]
    {
        cluster.admin.get(&format!("{CONFIG_MAPS}?{query}")).await.refused(400, "BadRequest");
    }
}

#[tokio::test]
async fn selectors_choose_by_label_and_by_field() {
    let cluster = Cluster::new().await;
    cluster.admin.post(SERVICES, &service("web")).await.expect(201);
    let mut headless = service("db");
    headless["metadata"]["labels"] = json!({ "tier": "data" });
    headless["spec"]["clusterIP"] = "None".into();
    cluster.admin.post(SERVICES, &headless).await.expect(201);
    for (query, found) in [
        ("labelSelector=tier", vec!["db"]),
        ("labelSelector=tier%20notin%20(data)", vec!["web"]),
        ("labelSelector=tier%3Ddata,!x", vec!["db"]),
        ("fieldSelector=metadata.name%3Dweb", vec!["web"]),
        ("fieldSelector=metadata.name!%3Dweb", vec!["db"]),
        ("fieldSelector=spec.clusterIP%3DNone", vec!["db"]),
        ("fieldSelector=metadata.namespace%3Dother", vec![]),
    ] {
        assert_eq!(
            names(&cluster.admin.get(&format!("{SERVICES}?{query}")).await.expect(200)),
            found,
            "{query}"
        );
    }
    assert_eq!(
        cluster
            .admin
            .get(&format!("{SERVICES}?fieldSelector=spec.bogus%3Dx"))
            .await
            .refused(400, "BadRequest"),
        "field label not supported: spec.bogus"
    );
}

#[tokio::test]
async fn a_table_has_columns_cells_and_the_metadata_of_its_objects() {
    let cluster = Cluster::new().await;
    cluster.admin.post(SERVICES, &service("web")).await.expect(201);
    let reply = cluster.admin.get_as(SERVICES, TABLE).await;
    assert_eq!(reply.headers[CONTENT_TYPE], "application/json;as=Table;g=meta.k8s.io;v=v1");
    let table = reply.expect(200);
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    let columns: Vec<_> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(columns, ["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector"]);
    let row = &table["rows"][0];
    assert_eq!((&row["cells"][0], &row["cells"][4]), (&json!("web"), &json!("80/TCP")));
    assert_eq!((&row["object"]["kind"], name(&row["object"])), (&json!("PartialObjectMetadata"), "web"));
    assert!(row["object"]["spec"].is_null());
    let whole =
        cluster.admin.get_as(&format!("{SERVICES}/web?includeObject=Object"), TABLE).await.expect(200);
    assert_eq!(whole["rows"][0]["object"]["spec"]["ports"][0]["port"], 80);
    let bare = cluster.admin.get_as(&format!("{SERVICES}?includeObject=None"), TABLE).await.expect(200);
    assert!(bare["rows"][0]["object"].is_null());
    let old = "application/json;as=Table;v=v1beta1;g=meta.k8s.io";
    assert_eq!(cluster.admin.get_as(SERVICES, old).await.expect(200)["apiVersion"], "meta.k8s.io/v1beta1");
}

#[tokio::test]
async fn metadata_can_be_had_alone() {
    let cluster = Cluster::new().await;
    let mut object = config_map("a");
    object["metadata"]["annotations"] = json!({ "tricky": "}\\\"{" });
    let created = cluster.admin.post(CONFIG_MAPS, &object).await.expect(201);
    let one = cluster.admin.get_as(&format!("{CONFIG_MAPS}/a"), METADATA).await.expect(200);
    let wanted = json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": created["metadata"] });
    assert_eq!(one, wanted);
    let list = cluster.admin.get_as(CONFIG_MAPS, METADATA).await.expect(200);
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0], wanted);
}

#[tokio::test]
async fn what_cannot_be_written_is_not_acceptable() {
    let cluster = Cluster::new().await;
    let protobuf = "application/vnd.kubernetes.protobuf";
    cluster.admin.get_as(CONFIG_MAPS, protobuf).await.refused(406, "NotAcceptable");
    cluster.admin.get_as(CONFIG_MAPS, &format!("{protobuf},application/json")).await.expect(200);
}

#[tokio::test]
async fn a_big_list_arrives_whole() {
    let cluster = Cluster::new().await;
    let padding = "x".repeat(10_000);
    for n in 0..40 {
        let mut object = config_map(&format!("big-{n:02}"));
        object["data"]["padding"] = padding.as_str().into();
        cluster.admin.post(CONFIG_MAPS, &object).await.expect(201);
    }
    let list = cluster.admin.get(CONFIG_MAPS).await.expect(200);
    assert_eq!(names(&list), (0..40).map(|n| format!("big-{n:02}")).collect::<Vec<_>>());
}
