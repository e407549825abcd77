//! Who is asking: the client certificate of the connection, a ServiceAccount's token (see `tokens`), or a join token. A
//! join token is looked up in its Secret, which holds only a hash; whatever is wrong with one, the client hears the same 401.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use svcd_pki::{Certificate, hash_secret};
use tokio_util::sync::CancellationToken;

use crate::errors::Failure;
use crate::record;
use crate::reviews::user_info;
use crate::server::ApiServer;
use crate::user::{BOOTSTRAPPERS, User};

const TOKEN_NAMESPACE: &str = "kube-system";
const TOKEN_TYPE: &str = "bootstrap.kubernetes.io/token";
/// Anything longer is none of ours.
const LONGEST_TOKEN: usize = 16 * 1024;

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Who it is, as far as the connection says.
    pub(crate) user: Option<User>,
    /// A part of this very server: it is not held to the limits that protect the server from the outside.
    pub(crate) in_process: bool,
    /// Where it is; nowhere for a part of this server.
    pub(crate) address: Option<SocketAddr>,
    /// Told when its watches shall end.
    pub(crate) closing: CancellationToken,
}

impl Peer {
    /// A part of this server.
    pub(crate) fn in_process(user: Option<User>) -> Self {
        Self { user, in_process: true, address: None, closing: CancellationToken::new() }
    }

    /// The identity in a verified client certificate: the common name is the user, the organizations are the groups.
    pub(crate) fn from_certificate(
        der: Option<&CertificateDer<'_>>,
        address: SocketAddr,
        closing: CancellationToken,
    ) -> Self {
        let user = der.and_then(|der| match Certificate::from_der(der) {
            Ok(certificate) if certificate.common_name.is_empty() => None,
            Ok(certificate) => Some(User::new(certificate.common_name, certificate.organizations)),
            Err(error) => {
                tracing::warn!(%error, "a client certificate was verified but cannot be read");
                None
            }
        });
        Self { user, in_process: false, address: Some(address), closing }
    }
}

impl ApiServer {
    /// The user of a request; the anonymous one when nothing says who it is.
    pub(crate) async fn authenticate(&self, peer: &Peer, headers: &HeaderMap) -> Result<User, Failure> {
        if let Some(user) = &peer.user {
            return Ok(user.clone());
        }
        let Some(header) = headers.get(AUTHORIZATION) else { return Ok(User::anonymous()) };
        let token = header.to_str().ok().and_then(|h| h.strip_prefix("Bearer ")).map(str::trim);
        let token = token.filter(|t| t.len() <= LONGEST_TOKEN).ok_or_else(Failure::unauthorized)?;
        self.bearer(token).await
    }

    /// Whose token this is.
    async fn bearer(&self, token: &str) -> Result<User, Failure> {
        if token.matches('.').count() == 2 {
            let issuer = [self.issuer()];
            return Ok(self.account_of(token, &issuer).await?.0);
        }
        let (id, secret) = token.split_once('.').ok_or_else(Failure::unauthorized)?;
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            return Err(Failure::unauthorized());
        }
        self.join_token(id, secret).await?;
        Ok(User::new(format!("system:bootstrap:{id}"), [BOOTSTRAPPERS]))
    }

    /// The `status` of a TokenReview.
    pub(crate) async fn token_review(&self, spec: &Value) -> Result<Value, Failure> {
        let token = spec["token"].as_str().filter(|t| t.len() <= LONGEST_TOKEN).unwrap_or_default();
        let wanted = spec["audiences"].as_array().into_iter().flatten();
        let wanted: Vec<String> = wanted.filter_map(|a| a.as_str().map(str::to_owned)).collect();
        let wanted = if wanted.is_empty() { vec![self.issuer()] } else { wanted };
        let found = if token.matches('.').count() == 2 {
            self.account_of(token, &wanted).await
        } else {
            self.bearer(token).await.map(|user| (user, Vec::new()))
        };
        match found {
            Ok((user, audiences)) => {
                let mut status = json!({ "authenticated": true, "user": user_info(&user) });
                if !audiences.is_empty() {
                    status["audiences"] = json!(audiences);
                }
                Ok(status)
            }
            Err(failure) if failure.code() == StatusCode::UNAUTHORIZED => {
                Ok(json!({ "user": {}, "error": "invalid bearer token" }))
            }
            Err(failure) => Err(failure),
        }
    }

    async fn join_token(&self, id: &str, secret: &str) -> Result<(), Failure> {
        let Some(secrets) = self.resources.find("", "v1", "secrets") else {
            return Err(Failure::unauthorized());
        };
        let key = secrets.key(TOKEN_NAMESPACE, &format!("bootstrap-token-{id}"));
        let stored = self.store.get(&key).await?.ok_or_else(Failure::unauthorized)?;
        let object = record::decode(&stored);
        if token_is_good(&object, id, secret, jiff::Timestamp::now()) {
            Ok(())
        } else {
            Err(Failure::unauthorized())
        }
    }
}

fn token_is_good(object: &Value, id: &str, secret: &str, now: jiff::Timestamp) -> bool {
    let data = |name: &str| -> Option<String> {
        let bytes = STANDARD.decode(object["data"][name].as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    let unexpired = match data("expiration") {
        None => true,
        Some(text) => text.parse::<jiff::Timestamp>().is_ok_and(|expiration| now < expiration),
    };
    let hash = data("token-secret-sha256").unwrap_or_default();
    object["type"] == TOKEN_TYPE
        && data("token-id").as_deref() == Some(id)
        && unexpired
        && same(hash.trim().as_bytes(), hash_secret(secret).as_bytes())
}

/// Compares without telling by the time it takes where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(expiration: &str) -> Value {
        json!({ "type": TOKEN_TYPE, "data": {
            "token-id": STANDARD.encode("abc123"),
            "token-secret-sha256": STANDARD.encode(hash_secret("s3cret")),
            "expiration": STANDARD.encode(expiration),
        } })
    }

    #[test]
    fn a_token_is_good_until_it_expires_and_only_with_its_secret() {
        let now: jiff::Timestamp = "2024-01-01T00:00:00Z".parse().unwrap();
        let (later, earlier) = (token("2024-01-01T00:00:01Z"), token("2023-12-31T23:59:59Z"));
        assert!(token_is_good(&later, "abc123", "s3cret", now));
        assert!(!token_is_good(&earlier, "abc123", "s3cret", now));
        assert!(!token_is_good(&later, "abc123", "guess", now));
        assert!(!token_is_good(&later, "other", "s3cret", now));
        assert!(!token_is_good(&token("soon"), "abc123", "s3cret", now));
    }
}
