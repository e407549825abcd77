//! What is said beside an answer: `Warning` headers.

use http::Method;
use serde_json::json;

use crate::cluster::{Cluster, Reply, SERVICES, service};

const POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints";

fn warnings(reply: &Reply) -> Vec<String> {
    reply.headers.get_all("warning").iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_network_policy_comes_with_the_news_that_it_does_nothing() {
    let cluster = Cluster::new().await;
    let policy = json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "p" },
        "spec": { "podSelector": {} } });
    let one = |reply: &Reply| {
        let said = warnings(reply);
        assert!(said.len() == 1 && said[0].contains("nothing on svcd enforces it"), "{said:?}");
    };
    one(&cluster.admin.post(POLICIES, &policy).await);
    let path = format!("{POLICIES}/p");
    one(&cluster.admin.merge(&path, &json!({ "metadata": { "labels": { "a": "b" } } })).await);
    one(&cluster.admin.put(&path, &policy).await);
    let applied = [("content-type", "application/apply-patch+yaml")];
    let apply = format!("{path}?fieldManager=me&force=true");
    one(&cluster.admin.send(Method::PATCH, &apply, &applied, policy.to_string()).await);
    assert!(warnings(&cluster.admin.get(&path).await).is_empty());
    let refused = cluster
        .admin
        .post(POLICIES, &json!({ "metadata": { "name": "q" }, "spec": { "policyTypes": ["X"] } }))
        .await;
    assert!(refused.status.is_client_error() && warnings(&refused).is_empty());
}

#[tokio::test]
async fn every_answer_about_endpoints_says_what_to_use_instead() {
    let cluster = Cluster::new().await;
    let want = ["299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\""];
    let object = json!({ "apiVersion": "v1", "kind": "Endpoints", "metadata": { "name": "e" } });
    assert_eq!(warnings(&cluster.admin.post(ENDPOINTS, &object).await), want);
    for path in [
        ENDPOINTS.to_owned(),
        format!("{ENDPOINTS}/e"),
        format!("{ENDPOINTS}/missing"),
        format!("{ENDPOINTS}?watch=true&timeoutSeconds=1"),
    ] {
        assert_eq!(warnings(&cluster.admin.get(&path).await), want, "{path}");
    }
    assert!(warnings(&cluster.admin.get(SERVICES).await).is_empty());
}

#[tokio::test]
async fn a_service_is_made_and_its_maker_warned() {
    let cluster = Cluster::new().await;
    let mut external = service("web");
    external["spec"]["externalIPs"] = json!(["198.51.100.7"]);
    let want = ["299 - \"spec.externalIPs is deprecated and may no longer be implemented in some clusters\""];
    assert_eq!(warnings(&cluster.admin.post(SERVICES, &external).await), want);
    assert!(warnings(&cluster.admin.post(SERVICES, &service("plain")).await).is_empty());
}
