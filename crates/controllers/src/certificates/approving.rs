//! Requests of nodes for their client certificates, approved when RBAC lets the requester have such a one: a node its
//! own, or somebody any node's. Who may not is left for people to decide.

use std::time::Duration;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::{Api, PostParams};
use kube::core::ApiResource;
use serde_json::json;
use svcd_api::signing_request::{NODE_CLIENT_SIGNER, SigningRequest};
use svcd_client::Raw;

use super::{APPROVED, DENIED, Requests, certificate, condition, has};
use crate::Error;
use crate::error::Doing;
use crate::kit::drive::Again;
use crate::kit::store::Key;

/// When to ask again for somebody who had no right: it may be given.
const ASK_AGAIN: Duration = Duration::from_secs(60);

pub(super) async fn reconcile(requests: &Requests, key: &Key) -> Result<Again, Error> {
    let Some(request) = requests.store.get(key) else { return Ok(None) };
    if certificate(&request).is_some() || has(&request, APPROVED) || has(&request, DENIED) {
        return Ok(None);
    }
    let rights = rights(&request);
    for (right, message) in &rights {
        if is_allowed(requests, &request, right).await? {
            let approved = condition(APPROVED, "AutoApproved", (*message).to_owned());
            requests.add(&request, "approval", approved).await?;
            tracing::info!(request = %key, right, "approved");
            return Ok(None);
        }
    }
    Ok((!rights.is_empty()).then_some(ASK_AGAIN))
}

/// The rights of which one suffices, as subresources of `certificatesigningrequests`, and what approval by it says. None
/// when the request is not a node's for a client certificate.
fn rights(request: &CertificateSigningRequest) -> Vec<(&'static str, &'static str)> {
    let spec = &request.spec;
    let Ok(parsed) = SigningRequest::parse(&spec.request.0) else { return Vec::new() };
    let usages = spec.usages.as_deref().unwrap_or_default();
    if spec.signer_name != NODE_CLIENT_SIGNER || parsed.suits(NODE_CLIENT_SIGNER, usages) != Some(Ok(())) {
        return Vec::new();
    }
    let own = ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.");
    let any = ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.");
    let for_itself = spec.username.as_deref() == Some(parsed.common_name.as_str());
    if for_itself { vec![own, any] } else { vec![any] }
}

async fn is_allowed(
    requests: &Requests,
    request: &CertificateSigningRequest,
    subresource: &str,
) -> Result<bool, Error> {
    let spec = &request.spec;
    let question = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {
            "user": spec.username, "uid": spec.uid, "groups": spec.groups, "extra": spec.extra,
            "resourceAttributes": {
                "group": "certificates.k8s.io", "resource": "certificatesigningrequests", "version": "*",
                "verb": "create", "subresource": subresource,
            },
        },
    });
    let reviews = ApiResource {
        group: "authorization.k8s.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "authorization.k8s.io/v1".to_owned(),
        kind: "SubjectAccessReview".to_owned(),
        plural: "subjectaccessreviews".to_owned(),
    };
    let api: Api<Raw> = Api::all_with(requests.world.client.clone(), &reviews);
    let answer = api.create(&PostParams::default(), &Raw::new(question)).await;
    let answer = answer.doing(|| "ask what the requester of a certificate may do".to_owned())?;
    Ok(answer.value()["status"]["allowed"] == true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::signing::tests::{NODE, request};

    #[test]
    fn only_nodes_requests_are_looked_at() {
        let mut node = request(NODE, NODE_CLIENT_SIGNER, &["client auth", "digital signature"]);
        let of = |request: &CertificateSigningRequest| {
            rights(request).iter().map(|(right, _)| *right).collect::<Vec<_>>()
        };
        node.spec.username = Some("admin".to_owned());
        assert_eq!(of(&node), ["nodeclient"]);
        node.spec.username = Some("system:node:n1".to_owned());
        assert_eq!(of(&node), ["selfnodeclient", "nodeclient"]);
        node.spec.usages = Some(vec!["server auth".to_owned()]);
        assert!(of(&node).is_empty());
        let other = request(NODE, "example.com/x", &["client auth", "digital signature"]);
        assert!(of(&other).is_empty());
        let broken = request("nonsense", NODE_CLIENT_SIGNER, &["client auth"]);
        assert!(of(&broken).is_empty());
    }
}
