//! Who is asking: the client certificate of the connection, a ServiceAccount's token (see `tokens`), or a join token (see
//! `join`). Whatever is wrong with one, the client hears the same 401. A certificate is looked at with every request: one
//! that has expired meanwhile opens nothing more, also on a connection that began before.

use std::net::SocketAddr;

use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use svcd_pki::Certificate;
use tokio_util::sync::CancellationToken;

use crate::errors::Failure;
use crate::reviews::user_info;
use crate::server::ApiServer;
use crate::user::{BOOTSTRAPPERS, User};

/// Anything longer is none of ours.
const LONGEST_TOKEN: usize = 16 * 1024;

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Who it is, as far as the connection says.
    pub(crate) user: Option<User>,
    /// Until when the connection may be believed.
    pub(crate) until: Option<Timestamp>,
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
        Self { user, until: None, in_process: true, address: None, closing: CancellationToken::new() }
    }

    /// The identity in a verified client certificate: the common name is the user, the organizations are the groups.
    pub(crate) fn from_certificate(
        der: Option<&CertificateDer<'_>>,
        address: SocketAddr,
        closing: CancellationToken,
    ) -> Self {
        let read = der.and_then(|der| match Certificate::from_der(der) {
            Ok(certificate) => Some(certificate).filter(|certificate| !certificate.common_name.is_empty()),
            Err(error) => {
                tracing::warn!(%error, "a client certificate was verified but cannot be read");
                None
            }
        });
        let until = read.as_ref().map(|certificate| certificate.not_after);
        let user = read.map(|certificate| User::new(certificate.common_name, certificate.organizations));
        Self { user, until, in_process: false, address: Some(address), closing }
    }
}

impl ApiServer {
    /// The user of a request; the anonymous one when nothing says who it is.
    pub(crate) async fn authenticate(&self, peer: &Peer, headers: &HeaderMap) -> Result<User, Failure> {
        if peer.until.is_some_and(|until| Timestamp::now() > until) {
            return Err(Failure::unauthorized());
        }
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
        Ok(User::new(self.join_token_user(id, secret).await?, [BOOTSTRAPPERS]))
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
}
