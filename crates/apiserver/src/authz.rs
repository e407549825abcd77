//! Who may do what. The masters may do everything, a holder of a join token nothing but join, an agent what its node
//! needs, and beyond that everybody what RBAC gives them. Decided from an index in memory; the store is not read. Some
//! rules need the object itself: those come as a [`Guard`] that the write path holds against it.

mod admission;
pub(crate) mod aggregate;
pub(crate) mod defaults;
pub(crate) mod escalation;
mod keep;
mod node;
pub(crate) mod rbac;

use std::time::Duration;

use serde_json::Value;
use svcd_store::Revision;
use tokio_util::sync::DropGuard;

use crate::call::Call;
use crate::errors::Failure;
use crate::route::{Target, Verb, subresource_name};
use crate::server::ApiServer;
use crate::user::{BOOTSTRAPPERS, MASTERS, User};

/// How long a refusal waits for the index to know of what was written before it.
const SETTLE: Duration = Duration::from_millis(500);

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked<'a> {
    /// Something to objects.
    Objects(Objects<'a>),
    /// Something to a path that is not an object's.
    Path {
        /// The method in small letters.
        verb: &'a str,
        /// The whole path.
        path: &'a str,
    },
}

/// Objects, and what is to be done to them. What is empty is not named.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Objects<'a> {
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

impl<'a> Objects<'a> {
    /// A namespace counts as an object within itself: who may do something in it by a Role there may get it too.
    pub(crate) fn of(verb: &'a str, target: &'a Target) -> Self {
        let within = if target.resource.is_namespacing() { target.name() } else { target.namespace() };
        Self {
            verb,
            group: target.resource.info.group,
            resource: target.resource.info.plural,
            subresource: target.subresource.map_or("", subresource_name),
            namespace: within,
            name: target.concerned_name(),
        }
    }
}

/// What must hold of the object of an allowed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// It has this name.
    Named(String),
    /// It is bound to this node.
    OnNode(String),
}

impl Guard {
    pub(crate) fn check(&self, call: &Call, object: &Value) -> Result<(), Failure> {
        let holds = match self {
            Self::Named(name) => object["metadata"]["name"] == name.as_str(),
            Self::OnNode(node) => object["spec"]["nodeName"] == node.as_str(),
        };
        if holds { Ok(()) } else { Err(refusal(&call.user, call.verb.name(), &call.target)) }
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Yes, under a condition on the object if there is one; RBAC says why.
    Allowed(Option<Guard>, Option<rbac::Grounds>),
    /// No.
    Refused,
}

impl Decision {
    pub(crate) fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(..))
    }
}

/// What decisions are made from.
pub(crate) struct Authorizer {
    pub(crate) rbac: rbac::Index,
    nodes: node::References,
    progress: keep::Progress,
    /// Ends the task that keeps the index.
    keeper: std::sync::OnceLock<DropGuard>,
}

impl Authorizer {
    pub(crate) fn new() -> Self {
        Self {
            rbac: rbac::Index::default(),
            nodes: node::References::default(),
            progress: keep::Progress::new(),
            keeper: std::sync::OnceLock::new(),
        }
    }

    /// Decides from what the index knows now.
    pub(crate) fn decide(&self, user: &User, asked: &Asked<'_>) -> Decision {
        if user.is_in(MASTERS) {
            return Decision::Allowed(None, None);
        }
        if user.is_in(BOOTSTRAPPERS) {
            return Decision::Refused;
        }
        if let (Some(node), Asked::Objects(objects)) = (user.node_name(), asked)
            && let Some(guard) = node::rule(node, objects, &self.nodes)
        {
            return Decision::Allowed(guard, None);
        }
        match self.rbac.grounds(user, asked) {
            Some(grounds) => Decision::Allowed(None, Some(grounds)),
            None => Decision::Refused,
        }
    }

    /// As [`Authorizer::decide`]; who was just given a right has it: a refusal first waits until the index knows of
    /// everything that was written before.
    pub(crate) async fn decide_settled(&self, user: &User, asked: &Asked<'_>, now: Revision) -> Decision {
        let decision = self.decide(user, asked);
        if decision.is_allowed() || !self.progress.reach(now, SETTLE).await {
            return decision;
        }
        self.decide(user, asked)
    }
}

impl ApiServer {
    /// May the user do this?
    pub(crate) async fn decide(&self, user: &User, asked: &Asked<'_>) -> Decision {
        self.authorizer.decide_settled(user, asked, self.store.revision()).await
    }

    /// Everything that RBAC lets a user do in a namespace.
    pub(crate) async fn rules_for(&self, user: &User, namespace: &str) -> Vec<rbac::Rule> {
        self.authorizer.progress.reach(self.store.revision(), SETTLE).await;
        self.authorizer.rbac.rules(user, namespace)
    }

    /// May the user do this to objects? If so, under which condition on them, and why?
    pub(crate) async fn authorize(
        &self,
        user: &User,
        verb: Verb,
        target: &Target,
    ) -> Result<(Option<Guard>, Option<rbac::Grounds>), Failure> {
        match self.decide(user, &Asked::Objects(Objects::of(verb.name(), target))).await {
            Decision::Allowed(guard, grounds) => Ok((guard, grounds)),
            Decision::Refused => Err(refusal(user, verb.name(), target)),
        }
    }

    /// May the user read a path that is not an object's (discovery, OpenAPI, metrics, health checks)?
    pub(crate) async fn authorize_path(
        &self,
        user: &User,
        verb: &str,
        path: &str,
    ) -> Result<Option<rbac::Grounds>, Failure> {
        match self.decide(user, &Asked::Path { verb, path }).await {
            Decision::Allowed(_, grounds) => Ok(grounds),
            Decision::Refused => Err(Failure::forbidden_path(&user.name, verb, path)),
        }
    }
}

/// `User "x" cannot create resource "services" in API group "" in the namespace "default"`.
pub(crate) fn refusal(user: &User, verb: &str, target: &Target) -> Failure {
    let why = cannot(&user.name, &Objects::of(verb, target));
    Failure::forbidden(target.resource.info, target.concerned_name(), &why)
}

/// Who cannot do what, and where.
pub(crate) fn cannot(user: &str, objects: &Objects<'_>) -> String {
    let Objects { verb, group, resource, subresource, namespace, .. } = objects;
    let resource =
        if subresource.is_empty() { (*resource).to_owned() } else { format!("{resource}/{subresource}") };
    let place = if namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {namespace:?}")
    };
    format!("User {user:?} cannot {verb} resource {resource:?} in API group {group:?} {place}")
}

/// May the user have a snapshot? Every Secret is in it, so a right to read any path is not enough.
pub(crate) fn authorize_snapshot(user: &User, path: &str) -> Result<(), Failure> {
    if user.is_in(MASTERS) { Ok(()) } else { Err(Failure::forbidden_path(&user.name, "get", path)) }
}

/// May the user join? Whoever holds a join token, and the masters, who could make one.
pub(crate) fn authorize_join(user: &User, path: &str) -> Result<(), Failure> {
    if user.is_in(BOOTSTRAPPERS) || user.is_in(MASTERS) {
        return Ok(());
    }
    Err(Failure::forbidden_path(&user.name, "post", path))
}
