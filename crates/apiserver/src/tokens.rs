//! Tokens of ServiceAccounts: signed for a time, an audience and, where it is asked for, an object that the token dies
//! with. Signatures are checked once and remembered; time, audience and the objects are checked at every use.

mod jwt;
mod keys;
mod request;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::errors::Failure;
use crate::metadata;
use crate::record;
use crate::represent::json_response;
use crate::server::ApiServer;
use crate::user::{SERVICE_ACCOUNTS, User};

/// How many tokens' signatures are remembered.
const REMEMBERED: usize = 4096;
const EXTRA: &str = "authentication.kubernetes.io";

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Claims {
    aud: Vec<String>,
    exp: i64,
    iat: i64,
    iss: String,
    jti: String,
    #[serde(rename = "kubernetes.io")]
    cluster: ClusterClaims,
    nbf: i64,
    sub: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ClusterClaims {
    namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<Identity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<Identity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<Identity>,
    serviceaccount: Identity,
}

/// One object, and no other that later has its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    name: String,
    uid: String,
}

/// What is remembered of tokens.
#[derive(Default)]
pub(crate) struct Tokens {
    keys: keys::Known,
    /// By the token's hash: tokens whose signature is good.
    signed: Mutex<HashMap<[u8; 32], Arc<Claims>>>,
}

impl ApiServer {
    /// Who signs.
    pub(crate) fn issuer(&self) -> String {
        format!("https://kubernetes.default.svc.{}", self.config.cluster_domain)
    }

    /// Whose token this is, and for which of the wanted audiences it is good.
    pub(crate) async fn account_of(
        &self,
        token: &str,
        wanted: &[String],
    ) -> Result<(User, Vec<String>), Failure> {
        let claims = self.signed(token).await?;
        let audiences: Vec<String> = wanted.iter().filter(|a| claims.aud.contains(a)).cloned().collect();
        let now = jiff::Timestamp::now().as_second();
        let in_time = claims.nbf <= now && now < claims.exp;
        if audiences.is_empty() || !in_time || claims.iss != self.issuer() || !self.lives(&claims).await? {
            return Err(Failure::unauthorized());
        }
        Ok((user(&claims), audiences))
    }

    /// The claims of a token with a good signature.
    async fn signed(&self, token: &str) -> Result<Arc<Claims>, Failure> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        let remembered = || self.tokens.signed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claims) = remembered().get(&hash) {
            return Ok(Arc::clone(claims));
        }
        let token = jwt::Token::parse(token).ok_or_else(Failure::unauthorized)?;
        let key = self.verifying_key(&token.kid).await?.ok_or_else(Failure::unauthorized)?;
        let claims: Claims = token.verified(&key).ok_or_else(Failure::unauthorized)?;
        let claims = Arc::new(claims);
        let mut signed = remembered();
        if signed.len() >= REMEMBERED {
            signed.clear();
        }
        signed.insert(hash, Arc::clone(&claims));
        Ok(claims)
    }

    /// Do the account and whatever the token is bound to still exist?
    async fn lives(&self, claims: &Claims) -> Result<bool, Failure> {
        let cluster = &claims.cluster;
        let place = cluster.namespace.as_str();
        let bound = [
            ("serviceaccounts", place, Some(&cluster.serviceaccount)),
            ("pods", place, cluster.pod.as_ref()),
            ("secrets", place, cluster.secret.as_ref()),
            // A pod's token names its node for information only.
            ("nodes", "", cluster.node.as_ref().filter(|_| cluster.pod.is_none())),
        ];
        for (plural, namespace, identity) in bound {
            if let Some(identity) = identity
                && self.uid(plural, namespace, &identity.name).await?.as_deref()
                    != Some(identity.uid.as_str())
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn uid(&self, plural: &str, namespace: &str, name: &str) -> Result<Option<String>, Failure> {
        let object = self.core_object(plural, namespace, name).await?;
        Ok(object.map(|object| metadata::text(&object, "uid").to_owned()))
    }

    async fn core_object(&self, plural: &str, namespace: &str, name: &str) -> Result<Option<Value>, Failure> {
        let Some(resource) = self.resources.find("", "v1", plural) else { return Ok(None) };
        let stored = self.store.get(&resource.key(namespace, name)).await?;
        Ok(stored.map(|stored| record::decode(&stored)))
    }

    /// GET `/.well-known/openid-configuration`.
    pub(crate) fn openid_configuration(&self) -> Response<Body> {
        let issuer = self.issuer();
        let document = json!({
            "issuer": issuer,
            "jwks_uri": format!("{issuer}/openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [jwt::ALGORITHM],
        });
        public("application/json", &document)
    }

    /// GET `/openid/v1/jwks`.
    pub(crate) async fn key_set(&self) -> Result<Response<Body>, Failure> {
        let keys: Vec<Value> = self.all_keys().await?.iter().map(|key| key.public_jwk()).collect();
        Ok(public("application/jwk-set+json", &json!({ "keys": keys })))
    }
}

/// A document that may be kept for a while.
fn public(content_type: &str, document: &Value) -> Response<Body> {
    let mut response = json_response(StatusCode::OK, content_type, document.to_string());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response
}

fn user(claims: &Claims) -> User {
    let ClusterClaims { namespace, node, pod, serviceaccount, .. } = &claims.cluster;
    let groups = [SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}")];
    let mut extra = BTreeMap::from([(format!("{EXTRA}/credential-id"), vec![format!("JTI={}", claims.jti)])]);
    for (kind, identity) in [("node", node), ("pod", pod)] {
        let Some(Identity { name, uid }) = identity else { continue };
        extra.insert(format!("{EXTRA}/{kind}-name"), vec![name.clone()]);
        extra.insert(format!("{EXTRA}/{kind}-uid"), vec![uid.clone()]);
    }
    let name = format!("system:serviceaccount:{namespace}:{}", serviceaccount.name);
    User { uid: serviceaccount.uid.clone(), extra, ..User::new(name, groups) }
}
