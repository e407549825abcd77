//! The node's own client certificate: renewed over the API when two thirds of its life are over, shown from then on, and
//! kept for the next start. Where that does not succeed before it ends, a join token that still holds brings a new one.
//!
//! Promises: the agent and its connections go on meanwhile; a certificate is shown only once it is known to fit its key.

use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::runtime::watcher;
use svcd_client::{Event, Objects, Renewable};
use svcd_pki::Certificate;
use tracing::{error, info, warn};

use crate::join::{Credentials, JoinConfig, JoinError, rejoin};
use crate::own_node::{RequestError, in_time};

const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const NODES: &str = "system:nodes";
/// How long the control plane may take to approve and sign.
const SIGNING_TIMEOUT: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10 * 60);

/// Keeps one node's certificate valid.
pub struct Renewal {
    config: JoinConfig,
    credentials: Credentials,
    client: Client,
    connections: Renewable,
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum RenewalError {
    #[error("the request for it could not be made: {0}")]
    Request(#[from] RequestError),
    #[error("the control plane did not sign it within {0:.1?}")]
    Unsigned(Duration),
    #[error("the control plane refused to sign it: {0}")]
    Refused(String),
    #[error("what the control plane signed cannot be used: {0}")]
    Unusable(#[from] svcd_client::ConnectError),
    #[error(transparent)]
    Pki(#[from] svcd_pki::Error),
    #[error("{0}; {advice}", advice = .0.advice())]
    Join(#[from] JoinError),
}

impl Renewal {
    /// Of what [`join`](crate::join()) and [`connect`](crate::connect) gave.
    #[must_use]
    pub fn new(config: JoinConfig, credentials: Credentials, client: Client, connections: Renewable) -> Self {
        Self { config, credentials, client, connections }
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) {
        loop {
            match Certificate::from_pem(&self.credentials.certificate) {
                Ok(certificate) => svcd_runtime::sleep_until(certificate.renewal().into()).await,
                Err(error) => {
                    warn!(%error, "the certificate of this node cannot be read; asking for another")
                }
            }
            self.renew_until_done().await;
        }
    }

    async fn renew_until_done(&mut self) {
        let mut pause = FIRST_PAUSE;
        while let Err(error) = self.renew().await {
            self.complain(&error);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn complain(&self, reason: &RenewalError) {
        let node = &self.config.node_name;
        if self.is_expired() {
            error!(node, %reason, "the certificate of this node has expired; `svcd token create` on the control plane \
                 prints how to join again");
        } else {
            warn!(node, %reason, "the certificate of this node could not be renewed; trying again");
        }
    }

    fn is_expired(&self) -> bool {
        self.time_left().is_zero()
    }

    /// How long the certificate is still valid. One that cannot be read is not known to have expired.
    fn time_left(&self) -> Duration {
        let Ok(certificate) = Certificate::from_pem(&self.credentials.certificate) else {
            return SIGNING_TIMEOUT;
        };
        certificate.not_after.duration_since(Timestamp::now()).try_into().unwrap_or(Duration::ZERO)
    }

    async fn renew(&mut self) -> Result<(), RenewalError> {
        let next = match &self.config.token {
            Some(token) if self.is_expired() => rejoin(&self.config, token).await?,
            _ => self.ask().await?,
        };
        self.connections.renew(&next.access())?;
        let not_after = Certificate::from_pem(&next.certificate)?.not_after;
        self.credentials = next;
        info!(node = self.config.node_name, %not_after, "the certificate of this node is renewed");
        if let Err(error) = self.credentials.store(&Credentials::path(&self.config.data_dir)) {
            warn!(%error, "the renewed certificate is in use, but cannot be kept for the next start");
        }
        Ok(())
    }

    /// Asks with the certificate that there is for the next one.
    async fn ask(&self) -> Result<Credentials, RenewalError> {
        let user = format!("system:node:{}", self.credentials.node_name);
        let (request, key) = svcd_pki::csr(&user, &[NODES])?;
        let requests: Objects<CertificateSigningRequest> = Objects::all(self.client.clone());
        let created = in_time(requests.create(&signing_request(request))).await?;
        let name = created.metadata.name.unwrap_or_default();
        // Once this one has expired there is another way.
        let patience = SIGNING_TIMEOUT.min(self.time_left() + FIRST_PAUSE);
        let signed = tokio::time::timeout(patience, signed(&requests, &name)).await;
        let certificate = signed.map_err(|_| RenewalError::Unsigned(patience))??;
        let what = "the certificate that the control plane just made";
        Certificate::from_pem(&certificate)?.check_time(what, Timestamp::now())?;
        Ok(Credentials { certificate, key, ..self.credentials.clone() })
    }
}

fn signing_request(pem: String) -> CertificateSigningRequest {
    let usages = ["digital signature", "client auth"];
    CertificateSigningRequest {
        metadata: ObjectMeta { generate_name: Some("csr-".to_owned()), ..ObjectMeta::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: SIGNER.to_owned(),
            usages: Some(usages.map(str::to_owned).to_vec()),
            ..CertificateSigningRequestSpec::default()
        },
        ..CertificateSigningRequest::default()
    }
}

/// Watches a request until there is a certificate in it.
async fn signed(requests: &Objects<CertificateSigningRequest>, name: &str) -> Result<String, RenewalError> {
    let mut changes = requests.watch(watcher::Config::default().fields(&format!("metadata.name={name}")));
    while let Some(event) = changes.next().await {
        match event {
            Ok(Event::InitApply(request) | Event::Apply(request)) => {
                if let Some(verdict) = verdict(&request) {
                    return verdict;
                }
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(FIRST_PAUSE).await,
        }
    }
    Err(RenewalError::Unsigned(SIGNING_TIMEOUT))
}

/// What became of a request; `None` while nothing did.
fn verdict(request: &CertificateSigningRequest) -> Option<Result<String, RenewalError>> {
    let status = request.status.as_ref()?;
    let conditions = status.conditions.as_deref().unwrap_or_default();
    if let Some(no) = conditions.iter().find(|condition| matches!(&*condition.type_, "Denied" | "Failed")) {
        let why = no.message.as_deref().filter(|message| !message.is_empty()).unwrap_or(&no.type_);
        return Some(Err(RenewalError::Refused(why.to_owned())));
    }
    let certificate = status.certificate.as_ref().filter(|certificate| !certificate.0.is_empty())?;
    Some(Ok(String::from_utf8_lossy(&certificate.0).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_a_request() {
        let of = |status: serde_json::Value| {
            let request = serde_json::json!({ "metadata": {}, "status": status,
                "spec": { "request": "", "signerName": SIGNER } });
            verdict(&serde_json::from_value(request).unwrap()).map(|v| v.map_err(|e| e.to_string()))
        };
        let condition = |kind: &str, message: &str| serde_json::json!({ "conditions": [{ "type": kind, "status": "True", "message": message }] });
        assert_eq!(of(serde_json::json!({})), None);
        assert_eq!(of(condition("Approved", "")), None);
        assert_eq!(of(serde_json::json!({ "certificate": "UEVN" })), Some(Ok("PEM".to_owned())));
        let no = "the control plane refused to sign it: ";
        assert_eq!(of(condition("Denied", "not you")), Some(Err(format!("{no}not you"))));
        assert_eq!(of(condition("Failed", "")), Some(Err(format!("{no}Failed"))));
    }
}
