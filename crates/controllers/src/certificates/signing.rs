//! Approved requests to the cluster's own signers get their certificate, or the reason why they cannot have one.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use svcd_api::signing_request::SigningRequest;
use svcd_pki::Usage;

use super::{APPROVED, DENIED, FAILED, Requests, certificate, condition, has};
use crate::Error;
use crate::kit::drive::Again;
use crate::kit::store::Key;

/// Whatever was asked, no certificate is valid for less; only the operator can have it shorter.
const SHORTEST: Duration = Duration::from_secs(600);

pub(super) async fn reconcile(requests: &Requests, key: &Key) -> Result<Again, Error> {
    let Some(request) = requests.store.get(key) else { return Ok(None) };
    let decided = has(&request, APPROVED) && !has(&request, DENIED) && !has(&request, FAILED);
    if !decided || certificate(&request).is_some() {
        return Ok(None);
    }
    match verdict(&request) {
        None => {}
        Some(Err(why)) => {
            tracing::info!(request = %key, why, "not signed");
            let mut failed = condition(FAILED, "SignerValidationFailure", why);
            failed.last_update_time = Some(Time(Timestamp::now()));
            requests.add(&request, "status", failed).await?;
        }
        Some(Ok(())) => {
            let mut next = (*request).clone();
            let signed =
                sign(requests, &request).map_err(|source| Error::Sign { name: key.name.clone(), source })?;
            next.status.get_or_insert_default().certificate = Some(ByteString(signed.into_bytes()));
            requests.write(&next, "status").await?;
            tracing::info!(request = %key, signer = request.spec.signer_name, "signed");
        }
    }
    Ok(None)
}

/// May it be signed? `None` when that is not for us to say.
fn verdict(request: &CertificateSigningRequest) -> Option<Result<(), String>> {
    let usages = request.spec.usages.as_deref().unwrap_or_default();
    match SigningRequest::parse(&request.spec.request.0) {
        Ok(parsed) => parsed.suits(&request.spec.signer_name, usages),
        // The server takes none that cannot be read; it says nothing about whose it is.
        Err(_) => None,
    }
}

fn sign(requests: &Requests, request: &CertificateSigningRequest) -> Result<String, svcd_pki::Error> {
    let pem = String::from_utf8_lossy(&request.spec.request.0);
    let usages = usages(request.spec.usages.as_deref().unwrap_or_default());
    let config = &requests.world.config;
    let validity = validity(request.spec.expiration_seconds, config.certificate_validity);
    config.ca.sign_request(&pem, &usages, validity)
}

fn validity(asked: Option<i32>, longest: Duration) -> Duration {
    let asked = asked.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
    asked.map_or(longest, |asked| asked.max(SHORTEST).min(longest))
}

/// The usages that the cluster's signers know; they refuse all others.
fn usages(words: &[String]) -> Vec<Usage> {
    let usage = |word: &String| match word.as_str() {
        "digital signature" => Some(Usage::DigitalSignature),
        "key encipherment" => Some(Usage::KeyEncipherment),
        "client auth" => Some(Usage::ClientAuth),
        "server auth" => Some(Usage::ServerAuth),
        _ => None,
    };
    words.iter().filter_map(usage).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
    use svcd_api::signing_request::{API_CLIENT_SIGNER, NODE_CLIENT_SIGNER};

    use super::*;

    /// Made with OpenSSL, for the client certificate of the node n1.
    pub(in crate::certificates) const NODE: &str = "-----BEGIN CERTIFICATE REQUEST-----\n\
        MIHrMIGSAgEAMDAxFTATBgNVBAoMDHN5c3RlbTpub2RlczEXMBUGA1UEAwwOc3lz\n\
        dGVtOm5vZGU6bjEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQ+XD8XkELlQDFf\n\
        9LL+HLHBsmZWUGBPK2IkioZjxQxc/dxvfHoAjkEhR5TN4pVGYqvZtPFOC4aFgrJr\n\
        UsEgUvtcoAAwCgYIKoZIzj0EAwIDSAAwRQIhANnD6JYUvBRpSLnfjCz1zUg9/eRZ\n\
        4t6tZdcWrkdmqHHgAiAbrlXeroftyNMj+pUm8MOizz9U+/XQIMuDnN9GlKCulw==\n\
        -----END CERTIFICATE REQUEST-----\n";

    pub(in crate::certificates) fn request(
        pem: &str,
        signer: &str,
        usages: &[&str],
    ) -> CertificateSigningRequest {
        let spec = CertificateSigningRequestSpec {
            request: ByteString(pem.as_bytes().to_vec()),
            signer_name: signer.to_owned(),
            usages: Some(usages.iter().map(|usage| (*usage).to_owned()).collect()),
            ..CertificateSigningRequestSpec::default()
        };
        CertificateSigningRequest { spec, ..CertificateSigningRequest::default() }
    }

    #[test]
    fn only_the_clusters_signers_are_ours() {
        let of = |signer: &str, usages: &[&str]| verdict(&request(NODE, signer, usages));
        assert_eq!(of(NODE_CLIENT_SIGNER, &["client auth", "digital signature"]), Some(Ok(())));
        assert_eq!(of(API_CLIENT_SIGNER, &["client auth"]), Some(Ok(())));
        let why = "invalid usage for client certificate: code signing";
        assert_eq!(of(API_CLIENT_SIGNER, &["code signing"]), Some(Err(why.to_owned())));
        assert_eq!(of("example.com/x", &["client auth"]), None);
        assert_eq!(verdict(&request("nonsense", API_CLIENT_SIGNER, &["client auth"])), None);
    }

    #[test]
    fn ten_minutes_at_least_and_never_more_than_the_operator_says() {
        let (year, brief) = (svcd_pki::VALIDITY, Duration::from_secs(60));
        assert_eq!(validity(None, year), year);
        assert_eq!(validity(Some(3600), year), Duration::from_secs(3600));
        assert_eq!(validity(Some(i32::MAX), year), year);
        assert_eq!(validity(Some(-1), year), SHORTEST);
        assert_eq!((validity(None, brief), validity(Some(3600), brief)), (brief, brief));
    }
}
