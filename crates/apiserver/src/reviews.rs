//! Kinds that are only questions: decoded and checked like any other, then answered and not stored.

use std::collections::BTreeMap;

use axum::body::Body;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::authz::rbac::Rule;
use crate::authz::{Asked, Decision, Objects};
use crate::body;
use crate::call::Call;
use crate::errors::Failure;
use crate::metadata;
use crate::query::WriteOptions;
use crate::represent::value_response;
use crate::server::ApiServer;
use crate::user::User;

/// Answers one kind: from the question to its `status`.
type Answer = for<'a> fn(&'a ApiServer, &'a Call, &'a Value) -> BoxFuture<'a, Result<Value, Failure>>;

/// By the plural; they are unique among these kinds.
const ANSWERS: &[(&str, Answer)] = &[
    ("selfsubjectaccessreviews", |server, call, question| {
        Box::pin(async move { Ok(server.access(&call.user, &question["spec"]).await) })
    }),
    ("subjectaccessreviews", |server, _, question| {
        Box::pin(async move { Ok(server.access(&subject(&question["spec"]), &question["spec"]).await) })
    }),
    ("localsubjectaccessreviews", |server, _, question| {
        Box::pin(async move { Ok(server.access(&subject(&question["spec"]), &question["spec"]).await) })
    }),
    ("selfsubjectrulesreviews", |server, call, question| {
        Box::pin(async move { Ok(server.rules_review(&call.user, &question["spec"]).await) })
    }),
    ("selfsubjectreviews", |_, call, _| {
        Box::pin(async move { Ok(json!({ "userInfo": user_info(&call.user) })) })
    }),
    ("tokenreviews", |server, _, question| Box::pin(server.token_review(&question["spec"]))),
];

impl ApiServer {
    /// POST of a question.
    pub(crate) async fn review(&self, call: &Call, bytes: &Bytes) -> Result<Response<Body>, Failure> {
        let options = WriteOptions::parse(&call.query, "CreateOptions")?;
        let parsed = body::parse_object(&call.headers, bytes)?;
        let mut question = body::decode(call, parsed, options.field_validation)?;
        metadata::place(&mut question, &call.target)?;
        let resource = call.resource();
        let errors = resource.kind.validate(&question, None);
        if !errors.is_empty() {
            return Err(Failure::invalid(resource.info.group, resource.info.kind, "", &errors));
        }
        let (_, answer) = ANSWERS
            .iter()
            .find(|(plural, _)| *plural == resource.info.plural)
            .ok_or_else(|| Failure::internal("nobody answers this kind of question"))?;
        let status = answer(self, call, &question).await?;
        question["status"] = status;
        Ok(value_response(StatusCode::CREATED, &question))
    }

    async fn access(&self, user: &User, spec: &Value) -> Value {
        let text = |at: &'static str| spec.pointer(at).and_then(Value::as_str).unwrap_or_default();
        let asked = if spec["nonResourceAttributes"].is_object() {
            Asked::Path {
                verb: text("/nonResourceAttributes/verb"),
                path: text("/nonResourceAttributes/path"),
            }
        } else {
            Asked::Objects(Objects {
                verb: text("/resourceAttributes/verb"),
                group: text("/resourceAttributes/group"),
                resource: text("/resourceAttributes/resource"),
                subresource: text("/resourceAttributes/subresource"),
                namespace: text("/resourceAttributes/namespace"),
                name: text("/resourceAttributes/name"),
            })
        };
        match self.decide(user, &asked).await {
            Decision::Allowed(_, Some(grounds)) => json!({ "allowed": true, "reason": grounds.to_string() }),
            Decision::Allowed(_, None) => json!({ "allowed": true }),
            Decision::Refused => json!({ "allowed": false }),
        }
    }

    async fn rules_review(&self, user: &User, spec: &Value) -> Value {
        let rules = self.rules_for(user, spec["namespace"].as_str().unwrap_or_default()).await;
        let (on_paths, on_objects): (Vec<Rule>, Vec<Rule>) =
            rules.into_iter().partition(|rule| !rule.paths.is_empty());
        let mut status = json!({
            "resourceRules": on_objects, "nonResourceRules": on_paths, "incomplete": user.node_name().is_some(),
        });
        if user.node_name().is_some() {
            status["evaluationError"] = "node authorizer does not support user rule resolution".into();
        }
        status
    }
}

/// Whom a question is about.
fn subject(spec: &Value) -> User {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let extra = spec["extra"].as_object().into_iter().flatten();
    User {
        name: spec["user"].as_str().unwrap_or_default().to_owned(),
        groups: texts(&spec["groups"]),
        uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
        extra: extra.map(|(key, values)| (key.clone(), texts(values))).collect::<BTreeMap<_, _>>(),
    }
}

/// A user, as `authentication.k8s.io` writes one.
pub(crate) fn user_info(user: &User) -> Value {
    let mut info = json!({ "username": user.name, "groups": user.groups });
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_virtual_kind_is_answered() {
        for kind in svcd_api::registry().all().filter(|kind| kind.is_virtual()) {
            let plural = kind.info().plural;
            assert!(ANSWERS.iter().any(|(answered, _)| *answered == plural), "{plural}");
        }
    }
}
