//! Certificates: requested, approved, signed, and used.

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest as Request;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use svcd_apiserver::{NODES, User};
use svcd_pki::{Certificate, certificate_der};

use crate::rig::{Cluster, config, eventually};

/// Made with OpenSSL: the client certificate of the node n1.
const NODE: &str = "-----BEGIN CERTIFICATE REQUEST-----\n\
    MIHrMIGSAgEAMDAxFTATBgNVBAoMDHN5c3RlbTpub2RlczEXMBUGA1UEAwwOc3lz\n\
    dGVtOm5vZGU6bjEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQ+XD8XkELlQDFf\n\
    9LL+HLHBsmZWUGBPK2IkioZjxQxc/dxvfHoAjkEhR5TN4pVGYqvZtPFOC4aFgrJr\n\
    UsEgUvtcoAAwCgYIKoZIzj0EAwIDSAAwRQIhANnD6JYUvBRpSLnfjCz1zUg9/eRZ\n\
    4t6tZdcWrkdmqHHgAiAbrlXeroftyNMj+pUm8MOizz9U+/XQIMuDnN9GlKCulw==\n\
    -----END CERTIFICATE REQUEST-----\n";
/// The same for the node as a server, under the names n1 and 192.0.2.1.
const SERVING: &str = "-----BEGIN CERTIFICATE REQUEST-----\n\
    MIIBEjCBuAIBADAwMRUwEwYDVQQKDAxzeXN0ZW06bm9kZXMxFzAVBgNVBAMMDnN5\n\
    c3RlbTpub2RlOm4xMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAES2V9LOnRmTQq\n\
    a4K6MTOm0y+DJjzZz15SXR/xaoMaH72L9SGtMPckUZRWAhi9KlnY/ns7cZ+vI8VO\n\
    PpTpbgxqQqAmMCQGCSqGSIb3DQEJDjEXMBUwEwYDVR0RBAwwCoICbjGHBMAAAgEw\n\
    CgYIKoZIzj0EAwIDSQAwRgIhANziasziNoWAxYVsOtgGhlSTLIQWtj8WsvKLoxS/\n\
    bHGGAiEAv2QGWlWuBwHc4/a+FWcPuOKiUmpRBCQX48brDPj/IV8=\n\
    -----END CERTIFICATE REQUEST-----\n";
/// RSA, for alice of dev, ops and qa.
const ALICE: &str = "-----BEGIN CERTIFICATE REQUEST-----\n\
    MIICfjCCAWYCAQAwOTEMMAoGA1UECgwDZGV2MQwwCgYDVQQKDANvcHMxCzAJBgNV\n\
    BAoMAnFhMQ4wDAYDVQQDDAVhbGljZTCCASIwDQYJKoZIhvcNAQEBBQADggEPADCC\n\
    AQoCggEBALR/2cEL3y0P6V0ldfi00Ln4H5oxoD5yOdOvf6+bFTZJ/cpC0mSx4fXZ\n\
    RYAiiHdGAtM66PRLJsvN3b3zjlrifEpSxE3d7O9Aupj0dV8vK7scPT78MqxLCnSG\n\
    mcdY6aYcwxtCmi+aEqYMd7NOpScsAXiZTzie8VH9rpgWPWhPLTKUbLmMboEkHuek\n\
    bysqsLQwJveDNXH1E2qX9hm0hoITGN+soFwDyopUfQK6DF1sVs/S0oEUAQwgRsbD\n\
    xV2yAuHveQ7LRd3kFEnCi3ygV6uDkEqmiAfNO+sxBKnnxzf173QL+Fx8VgOQVC7B\n\
    EguCaEte5/2r1Okuty6hBkiOmbjAkrsCAwEAAaAAMA0GCSqGSIb3DQEBCwUAA4IB\n\
    AQAyZP8Ii9Obl86f7iA+6Jh49isBEV9Vmy/jX6i/Ulz7Mo/G0ILIgYcOeI3Bao5B\n\
    eoPPjwfddfZpfrEg9nO2iw+vqCVzadOsryImy9+yXA7R+YzcuAHhOdPPnBgqtVwt\n\
    ZEWwx2kuVMF+4aqfB1SFFXNa6Ik6Awe+UpT43UxGwPpcQ3ajmhZcHN9nWEhHmHvI\n\
    UEL7Wf6wWycZoU+TShzONvRAcy8FlPgNay4qzDbsaiVdgznqVtZYn4PFm0nnUApk\n\
    XWdwr84ptezgy2rbq+G8NWpQEbjYP+EjhsHnK7SAAwtURHJoxYb3wVQD+jyIdX1v\n\
    YALtRlneLToVTSqfmPMmFR+j\n\
    -----END CERTIFICATE REQUEST-----\n";

async fn ask(client: &Client, name: &str, pem: &str, signer: &str, usages: Value) {
    let mut request = Request::default();
    request.metadata.name = Some(name.to_owned());
    request.spec.request = ByteString(pem.as_bytes().to_vec());
    request.spec.signer_name = format!("kubernetes.io/{signer}");
    request.spec.usages = serde_json::from_value(usages).unwrap();
    Api::<Request>::all(client.clone()).create(&PostParams::default(), &request).await.unwrap();
}

async fn approve(cluster: &Cluster, name: &str) {
    let approved =
        json!({ "status": { "conditions": [{ "type": "Approved", "status": "True", "reason": "Test" }] } });
    let api = cluster.all::<Request>();
    api.patch_subresource("approval", name, &PatchParams::default(), &Patch::Merge(approved)).await.unwrap();
}

async fn issued(cluster: &Cluster, name: &str) -> String {
    let api = cluster.all::<Request>();
    let bytes =
        eventually("a certificate", || async { api.get(name).await.unwrap().status?.certificate }).await;
    String::from_utf8(bytes.0).unwrap()
}

fn condition(request: &Request, kind: &str) -> Option<String> {
    let all = request.status.as_ref()?.conditions.as_ref()?;
    all.iter().find(|c| c.type_ == kind).map(|c| c.message.clone().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_approved_is_signed_by_the_clusters_authority() {
    let cluster = Cluster::start(config()).await;
    ask(&cluster.client, "alice", ALICE, "kube-apiserver-client", json!(["client auth"])).await;
    ask(&cluster.client, "other", ALICE, "kube-apiserver-client", json!(["client auth"])).await;
    approve(&cluster, "alice").await;
    let pem = issued(&cluster, "alice").await;
    let parsed = Certificate::from_pem(&pem).unwrap();
    assert_eq!((parsed.common_name.as_str(), parsed.organizations.len()), ("alice", 3));
    let der = certificate_der(&pem).unwrap();
    assert!(der.windows(7).any(|window| window == b"svcd-ca"), "the issuer is named in it");
    let other = cluster.all::<Request>().get("other").await.unwrap();
    assert!(other.status.is_none_or(|status| status.certificate.is_none()), "nobody approved it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nodes_own_renewal_is_approved_without_asking() {
    let cluster = Cluster::start(config()).await;
    let node = cluster.client_of(User::new("system:node:n1", [NODES]));
    let usages = json!(["digital signature", "client auth"]);
    ask(&node, "renewal", NODE, "kube-apiserver-client-kubelet", usages.clone()).await;
    let parsed = Certificate::from_pem(&issued(&cluster, "renewal").await).unwrap();
    assert_eq!(
        (parsed.common_name.as_str(), &parsed.organizations[..]),
        ("system:node:n1", &["system:nodes".to_owned()][..])
    );
    let request = cluster.all::<Request>().get("renewal").await.unwrap();
    assert!(condition(&request, "Approved").unwrap().starts_with("Auto approving self kubelet client"));
    // A serving certificate says under which names one may be found: that is for somebody to look at.
    ask(&node, "serving", SERVING, "kubelet-serving", json!(["digital signature", "server auth"])).await;
    ask(&node, "second", NODE, "kube-apiserver-client-kubelet", usages).await;
    issued(&cluster, "second").await;
    let serving = cluster.all::<Request>().get("serving").await.unwrap();
    assert_eq!(condition(&serving, "Approved"), None);
    approve(&cluster, "serving").await;
    issued(&cluster, "serving").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_signer_does_not_sign_is_marked_with_the_reason() {
    let cluster = Cluster::start(config()).await;
    ask(&cluster.client, "wrong", ALICE, "kube-apiserver-client-kubelet", json!(["client auth"])).await;
    approve(&cluster, "wrong").await;
    let api = cluster.all::<Request>();
    let why =
        eventually("a reason", || async { condition(&api.get("wrong").await.unwrap(), "Failed") }).await;
    assert_eq!(why, "subject organization is not system:nodes");
    let status = api.get("wrong").await.unwrap().status.unwrap();
    assert_eq!((status.certificate, status.conditions.unwrap().len()), (None, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_requests_are_cleared_away() {
    let cluster = Cluster::start(config()).await;
    ask(&cluster.client, "old", ALICE, "kube-apiserver-client", json!(["client auth"])).await;
    ask(&cluster.client, "young", ALICE, "kube-apiserver-client", json!(["client auth"])).await;
    let long_ago = json!({ "status": { "conditions": [
        { "type": "Denied", "status": "True", "lastUpdateTime": "2020-01-01T00:00:00Z" }] } });
    let api = cluster.all::<Request>();
    let params = PatchParams::default();
    api.patch_subresource("approval", "old", &params, &Patch::Merge(long_ago)).await.unwrap();
    eventually("it is gone", || async { api.get_opt("old").await.unwrap().is_none().then_some(()) }).await;
    assert!(api.get_opt("young").await.unwrap().is_some());
}
