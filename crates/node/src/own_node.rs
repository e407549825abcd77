//! This node's own Node, as the server has it: registered when it is not there, corrected when it says something else.
//!
//! One loop, driven by what is true: the watch says what the server has, the parts' health what should stand there. So a
//! Node that is deleted, or that a controller has given up, comes back without anything special.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::Patch;
use serde_json::Value;
use svcd_client::Objects;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::health::Health;
use crate::node_object::{Facts, label_patch, status_patch};
use crate::system;
use crate::watch::chain;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How often memory and disk are looked at.
const PRESSURE_INTERVAL: Duration = Duration::from_secs(10);

/// What the server has.
#[derive(Clone, Debug, Default)]
pub(crate) enum OwnNode {
    /// Not listed yet.
    #[default]
    Unknown,
    /// It is not there.
    Absent,
    /// As it is there.
    Present(Box<Node>),
}

impl OwnNode {
    pub(crate) fn node(&self) -> Option<&Node> {
        match self {
            Self::Present(node) => Some(node),
            _ => None,
        }
    }

    /// Whether its condition Ready holds.
    pub(crate) fn is_ready(&self) -> bool {
        let status = self.node().and_then(|node| node.status.as_ref());
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    }

    /// `spec.podCIDR`.
    pub(crate) fn pod_range(&self) -> Option<&str> {
        self.node()?.spec.as_ref()?.pod_cidr.as_deref()
    }
}

/// Keeps the server's Node true.
pub(crate) struct Keeper {
    pub(crate) client: Client,
    pub(crate) facts: Facts,
    pub(crate) health: Health,
    pub(crate) own: watch::Receiver<OwnNode>,
    pub(crate) data_dir: PathBuf,
}

impl Keeper {
    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        let mut states = self.health.subscribe();
        let mut last_range = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let own = self.own.borrow_and_update().clone();
            states.mark_unchanged();
            last_range = own.pod_range().map(str::to_owned).or(last_range);
            let wait = match self.correct(&own, last_range.as_deref()).await {
                Ok(()) => {
                    pause = FIRST_PAUSE;
                    PRESSURE_INTERVAL
                }
                Err(reason) => {
                    warn!(node = self.facts.name, reason, "cannot bring the Node up to date; trying again");
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    pause
                }
            };
            tokio::select! {
                changed = self.own.changed() => if changed.is_err() { return },
                _ = states.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn correct(&self, own: &OwnNode, last_range: Option<&str>) -> Result<(), String> {
        match own {
            OwnNode::Unknown => Ok(()),
            OwnNode::Absent => self.register(last_range).await,
            OwnNode::Present(node) => self.update(node).await,
        }
    }

    async fn register(&self, last_range: Option<&str>) -> Result<(), String> {
        let object = self.facts.object(last_range.map(str::to_owned));
        let api: Objects<Node> = Objects::all(self.client.clone());
        match in_time(api.create(&object)).await {
            Ok(_) => {
                info!(node = self.facts.name, address = %self.facts.address, "registered");
                Ok(())
            }
            // The watch will show it in a moment.
            Err(RequestError::Api(error)) if is_code(&error, 409) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn update(&self, node: &Node) -> Result<(), String> {
        if let Some(patch) = label_patch(&self.facts, node) {
            self.patch(patch, false).await?;
        }
        let pressure = system::pressure(&self.data_dir);
        let states = self.health.subscribe().borrow().clone();
        match status_patch(&self.facts, &states, pressure, node.status.as_ref(), Timestamp::now()) {
            Some(patch) => self.patch(patch, true).await,
            None => Ok(()),
        }
    }

    async fn patch(&self, patch: Value, status: bool) -> Result<(), String> {
        let api: Objects<Node> = Objects::all(self.client.clone());
        let (name, patch) = (self.facts.name.as_str(), Patch::Merge(patch));
        let sent = if status {
            in_time(api.patch_status(name, &patch)).await
        } else {
            in_time(api.patch(name, &patch)).await
        };
        match sent {
            Ok(_) => Ok(()),
            // Deleted meanwhile; the watch says so too, and then it is registered again.
            Err(RequestError::Api(error)) if is_code(&error, 404) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// A request that failed or took too long.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("{}", chain(.0))]
    Api(#[from] kube::Error),
    #[error("the server did not answer within {REQUEST_TIMEOUT:?}")]
    Timeout,
}

/// Waits for a request, but not for ever: a connection whose other end is gone would hold it for many minutes.
pub(crate) async fn in_time<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, RequestError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(RequestError::Timeout),
    }
}

/// Whether the server answered with this HTTP status.
pub(crate) fn is_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}
