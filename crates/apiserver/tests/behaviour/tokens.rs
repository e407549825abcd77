//! Tokens of ServiceAccounts: asking for them, using them, and how they end.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use serde_json::{Value, json};
use svcd_apiserver::User;

use crate::cluster::{Cluster, Reply, pod};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const PODS: &str = "/api/v1/namespaces/default/pods";
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

async fn with_account() -> Cluster {
    let cluster = Cluster::new().await;
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "bot" } });
    cluster.admin.post(ACCOUNTS, &account).await.expect(201);
    cluster
}

async fn ask(cluster: &Cluster, spec: Value) -> Reply {
    let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec });
    cluster.admin.post(&format!("{ACCOUNTS}/bot/token"), &request).await
}

async fn token(cluster: &Cluster, spec: Value) -> String {
    ask(cluster, spec).await.expect(201)["status"]["token"].as_str().unwrap().to_owned()
}

/// Who the server takes the token's holder for.
async fn whoami(cluster: &Cluster, token: &str) -> Reply {
    let header = format!("Bearer {token}");
    let headers = [("authorization", header.as_str()), ("content-type", "application/json")];
    let me = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    cluster.anonymous().send(Method::POST, path, &headers, me.to_string()).await
}

fn payload(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn a_token_is_its_account_as_long_as_that_exists() {
    let cluster = with_account().await;
    let reply = ask(&cluster, json!({})).await.expect(201);
    assert_eq!(reply["spec"]["audiences"], json!([ISSUER]));
    assert_eq!(reply["spec"]["expirationSeconds"], 3600);
    assert_eq!(reply["metadata"]["name"], "bot");
    let token = reply["status"]["token"].as_str().unwrap();
    let info = whoami(&cluster, token).await.expect(201)["status"]["userInfo"].clone();
    let account = cluster.admin.get(&format!("{ACCOUNTS}/bot")).await.expect(200);
    assert_eq!(info["username"], "system:serviceaccount:default:bot");
    assert_eq!(info["uid"], account["metadata"]["uid"]);
    assert_eq!(
        info["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"])
    );
    let claims = payload(token);
    assert_eq!(
        info["extra"]["authentication.kubernetes.io/credential-id"][0],
        format!("JTI={}", claims["jti"].as_str().unwrap())
    );
    assert_eq!((&claims["iss"], &claims["sub"]), (&json!(ISSUER), &info["username"]));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3600);

    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    let mut forged = claims.clone();
    forged["sub"] = "system:serviceaccount:kube-system:admin".into();
    parts[1] = URL_SAFE_NO_PAD.encode(forged.to_string());
    whoami(&cluster, &parts.join(".")).await.refused(401, "Unauthorized");
    cluster.admin.delete(&format!("{ACCOUNTS}/bot")).await.expect(200);
    whoami(&cluster, token).await.refused(401, "Unauthorized");
    let again = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "bot" } });
    cluster.admin.post(ACCOUNTS, &again).await.expect(201);
    whoami(&cluster, token).await.refused(401, "Unauthorized");
}

#[tokio::test]
async fn a_bound_token_dies_with_its_object() {
    let cluster = with_account().await;
    let mut bound = pod("p");
    bound["spec"]["serviceAccountName"] = "bot".into();
    let stored = cluster.admin.post(PODS, &bound).await.expect(201);
    cluster.admin.post(PODS, &pod("other")).await.expect(201);
    let to = |name: &str, uid: &str| json!({ "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid } });
    let uid = stored["metadata"]["uid"].as_str().unwrap();
    let token = token(&cluster, to("p", uid)).await;
    let extra = whoami(&cluster, &token).await.expect(201)["status"]["userInfo"]["extra"].clone();
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], json!(["p"]));
    assert_eq!(extra["authentication.kubernetes.io/pod-uid"], json!([uid]));
    ask(&cluster, to("p", "else")).await.refused(409, "Conflict");
    ask(&cluster, to("none", "")).await.refused(404, "NotFound");
    let message = ask(&cluster, to("other", "")).await.refused(400, "BadRequest");
    assert!(message.contains("pod running with different serviceaccount name"), "{message}");
    cluster.admin.delete_with(&format!("{PODS}/p"), &json!({ "gracePeriodSeconds": 0 })).await.expect(200);
    whoami(&cluster, &token).await.refused(401, "Unauthorized");
}

#[tokio::test]
async fn a_token_is_good_for_its_audience_only() {
    let cluster = with_account().await;
    let token = token(&cluster, json!({ "audiences": ["vault"] })).await;
    whoami(&cluster, &token).await.refused(401, "Unauthorized");
    let review = async |audiences: Value, token: &str| {
        let question = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": { "token": token, "audiences": audiences } });
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        cluster.admin.post(path, &question).await.expect(201)["status"].clone()
    };
    let good = review(json!(["vault", "x"]), &token).await;
    assert_eq!((&good["authenticated"], &good["audiences"]), (&json!(true), &json!(["vault"])));
    assert_eq!(good["user"]["username"], "system:serviceaccount:default:bot");
    for (audiences, token) in
        [(json!([]), token.as_str()), (json!(["x"]), &token), (json!(["vault"]), "a.b.c")]
    {
        assert_eq!(review(audiences, token).await["authenticated"], Value::Null);
    }
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused() {
    let cluster = with_account().await;
    for (spec, code, reason) in [
        (json!({ "expirationSeconds": 599 }), 422, "Invalid"),
        (json!({ "expirationSeconds": 4_294_967_297_i64 }), 422, "Invalid"),
        (
            json!({ "boundObjectRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "d" } }),
            400,
            "BadRequest",
        ),
        (json!("text"), 400, "BadRequest"),
    ] {
        ask(&cluster, spec).await.refused(code, reason);
    }
    let long = ask(&cluster, json!({ "expirationSeconds": 4_294_967_296_i64 })).await.expect(201);
    assert_eq!(long["spec"]["expirationSeconds"], 365 * 24 * 3600);
    let nobody = format!("{ACCOUNTS}/nobody/token");
    cluster.admin.post(&nobody, &json!({})).await.refused(404, "NotFound");
    cluster.admin.get(&format!("{ACCOUNTS}/bot/token")).await.refused(405, "MethodNotAllowed");
    let alice = cluster.client(User::new("alice", ["people"]));
    let message = alice.post(&format!("{ACCOUNTS}/bot/token"), &json!({})).await.refused(403, "Forbidden");
    assert!(message.contains("cannot create resource \"serviceaccounts/token\""), "{message}");
}

#[tokio::test]
async fn others_can_check_tokens_by_the_published_keys() {
    let cluster = with_account().await;
    let token = token(&cluster, json!({})).await;
    let header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap();
    let document = cluster.admin.get("/.well-known/openid-configuration").await.expect(200);
    assert_eq!(
        (&document["issuer"], &document["jwks_uri"]),
        (&json!(ISSUER), &json!(format!("{ISSUER}/openid/v1/jwks")))
    );
    let reply = cluster.admin.get("/openid/v1/jwks").await;
    assert_eq!(reply.headers["content-type"], "application/jwk-set+json");
    let keys = reply.expect(200);
    let key = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"]).unwrap();
    assert_eq!((&key["kty"], &key["crv"], &key["alg"]), (&json!("EC"), &json!("P-256"), &json!("ES256")));
    cluster.anonymous().get("/openid/v1/jwks").await.refused(403, "Forbidden");
    let account = cluster.client(User::new("system:serviceaccount:default:bot", ["system:serviceaccounts"]));
    account.get("/openid/v1/jwks").await.expect(200);
}
