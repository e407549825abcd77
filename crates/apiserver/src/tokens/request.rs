//! POST on a ServiceAccount's `/token`: what may be asked for, and the answer.

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use svcd_api::field::FieldError;

use super::{Claims, ClusterClaims, Identity, jwt, keys};
use crate::body;
use crate::call::Call;
use crate::errors::Failure;
use crate::metadata;
use crate::query::WriteOptions;
use crate::represent::value_response;
use crate::server::ApiServer;

const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenRequest";
const USUAL_SECONDS: i64 = 3600;
const FEWEST_SECONDS: i64 = 600;
const MOST_SECONDS: i64 = 1 << 32;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    audiences: Option<Vec<String>>,
    expiration_seconds: Option<i64>,
    bound_object_ref: Option<Reference>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Reference {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
}

impl ApiServer {
    /// POST of a TokenRequest.
    pub(crate) async fn request_token(&self, call: &Call, bytes: &Bytes) -> Result<Response<Body>, Failure> {
        let options = WriteOptions::parse(&call.query, "CreateOptions")?;
        let mut request = body::parse_object(&call.headers, bytes)?.value;
        check_type(&request)?;
        metadata::place(&mut request, &call.target)?;
        let spec: Option<Spec> = serde_json::from_value(request["spec"].take())
            .map_err(|error| Failure::bad_request(format!("this is not a TokenRequest: {error}")))?;
        let spec = spec.unwrap_or_default();
        let seconds = lifetime(&spec, call.target.name())?;
        let account =
            self.core_object("serviceaccounts", call.target.namespace(), call.target.name()).await?;
        let account = account.ok_or_else(|| Failure::not_found(call.resource().info, call.target.name()))?;
        let cluster = self.bound(call, &account, spec.bound_object_ref.as_ref()).await?;
        let audiences = spec.audiences.filter(|a| !a.is_empty()).unwrap_or_else(|| vec![self.issuer()]);

        let now = Timestamp::now().as_second();
        let claims = Claims {
            aud: audiences,
            exp: now + seconds,
            iat: now,
            iss: self.issuer(),
            jti: uuid::Uuid::new_v4().to_string(),
            sub: format!("system:serviceaccount:{}:{}", cluster.namespace, cluster.serviceaccount.name),
            cluster,
            nbf: now,
        };
        let token = if options.dry_run { String::new() } else { self.sign(&claims, now).await? };
        Ok(value_response(StatusCode::CREATED, &answer(&claims, spec.bound_object_ref.as_ref(), &token)))
    }

    async fn sign(&self, claims: &Claims, now: i64) -> Result<String, Failure> {
        let key = self.signing_key(now).await?;
        jwt::sign(claims, &key).ok_or_else(|| Failure::internal("the token could not be signed"))
    }

    /// The account and the object that the token shall die with.
    async fn bound(
        &self,
        call: &Call,
        account: &Value,
        reference: Option<&Reference>,
    ) -> Result<ClusterClaims, Failure> {
        let namespace = call.target.namespace();
        let serviceaccount = identity(account);
        let mut claims = ClusterClaims {
            namespace: namespace.to_owned(),
            node: None,
            pod: None,
            secret: None,
            serviceaccount,
        };
        let Some(reference) = reference else { return Ok(claims) };
        let Reference { api_version, kind, name, uid } = reference;
        let (plural, place) = match (api_version.as_str(), kind.as_str()) {
            ("v1", "Pod") => ("pods", namespace),
            ("v1", "Secret") => ("secrets", namespace),
            ("v1", "Node") => ("nodes", ""),
            _ => {
                let why = format!("cannot bind token to object of type {api_version}, Kind={kind}");
                return Err(Failure::bad_request(why));
            }
        };
        let resource = self.resources.find("", "v1", plural).ok_or_else(Failure::no_such_path)?;
        let object = self.core_object(plural, place, name).await?;
        let object = object.ok_or_else(|| Failure::not_found(resource.info, name))?;
        let found = identity(&object);
        if !uid.is_empty() && *uid != found.uid {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
                 been deleted and then recreated"
            );
            return Err(Failure::conflict(resource.info, name, &why));
        }
        match plural {
            "pods" => {
                if object["spec"]["serviceAccountName"].as_str().unwrap_or("default") != call.target.name() {
                    return Err(Failure::bad_request(format!(
                        "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                        call.target.name()
                    )));
                }
                if let Some(node) = object["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
                    let uid = self.uid("nodes", "", node).await?;
                    claims.node = uid.map(|uid| Identity { name: node.to_owned(), uid });
                }
                claims.pod = Some(found);
            }
            "secrets" => claims.secret = Some(found),
            _ => claims.node = Some(found),
        }
        Ok(claims)
    }
}

fn identity(object: &Value) -> Identity {
    let text = |field| metadata::text(object, field).to_owned();
    Identity { name: text("name"), uid: text("uid") }
}

fn check_type(request: &Value) -> Result<(), Failure> {
    let text = |field: &str| request[field].as_str().unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let fits = (api_version.is_empty() || api_version == "authentication.k8s.io/v1")
        && (kind.is_empty() || kind == KIND);
    if request.is_object() && fits {
        return Ok(());
    }
    Err(Failure::bad_request(format!(
        "this path takes an authentication.k8s.io/v1 {KIND}, not a {api_version} {kind}"
    )))
}

/// How many seconds the token is good.
fn lifetime(spec: &Spec, name: &str) -> Result<i64, Failure> {
    let seconds = spec.expiration_seconds.unwrap_or(USUAL_SECONDS);
    let why = match seconds {
        ..FEWEST_SECONDS => "may not specify a duration less than 10 minutes",
        FEWEST_SECONDS..=MOST_SECONDS => return Ok(seconds.min(keys::LONGEST_TOKEN)),
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    Err(Failure::invalid(GROUP, KIND, name, &[FieldError::invalid("spec.expirationSeconds", seconds, why)]))
}

fn answer(claims: &Claims, bound: Option<&Reference>, token: &str) -> Value {
    let time = |second: i64| metadata::timestamp(Timestamp::from_second(second).unwrap_or_default());
    let mut answer = json!({
        "kind": KIND,
        "apiVersion": format!("{GROUP}/v1"),
        "metadata": {
            "name": claims.cluster.serviceaccount.name,
            "namespace": claims.cluster.namespace,
            "creationTimestamp": time(claims.iat),
        },
        "spec": { "audiences": claims.aud, "expirationSeconds": claims.exp - claims.iat, "boundObjectRef": null },
        "status": { "token": token, "expirationTimestamp": time(claims.exp) },
    });
    if let Some(Reference { api_version, kind, name, uid }) = bound {
        answer["spec"]["boundObjectRef"] =
            json!({ "kind": kind, "apiVersion": api_version, "name": name, "uid": uid });
    }
    answer
}
