//! Certificate signing requests: approved without asking anybody where RBAC says so, signed by the cluster's authority
//! once they are approved, and cleared away when they are of no more use.
//!
//! Promises: what upstream's signers refuse is refused here, with the same reason in the object. Refuses: signers that are
//! not the cluster's own; their requests are left to whoever they belong to.

mod approving;
mod cleaning;
mod signing;

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition as Condition,
};
use kube::runtime::watcher;
use svcd_client::Objects;

use crate::Error;
use crate::error::Doing;
use crate::kit::drive::{Again, drive};
use crate::kit::queue::Queue;
use crate::kit::store::{Key, Store};
use crate::kit::world::{Task, World};
use crate::kit::{informer, meta};

const APPROVED: &str = "Approved";
const DENIED: &str = "Denied";
const FAILED: &str = "Failed";

/// What the three loops share.
struct Requests {
    world: Arc<World>,
    store: Arc<Store<CertificateSigningRequest>>,
    api: Objects<CertificateSigningRequest>,
}

pub(crate) fn start(world: &Arc<World>) -> Vec<Task> {
    let api = Objects::all(world.client.clone());
    let requests = Arc::new(Requests { world: Arc::clone(world), store: Store::plain(), api: api.clone() });
    let loops = vec![
        (
            "csrapproving",
            work("csrapproving", &requests, |r, key| {
                async move { approving::reconcile(&r, &key).await }.boxed()
            }),
        ),
        (
            "csrsigning",
            work("csrsigning", &requests, |r, key| async move { signing::reconcile(&r, &key).await }.boxed()),
        ),
        (
            "csrcleaner",
            work("csrcleaner", &requests, |r, key| {
                async move { cleaning::reconcile(&r, &key).await }.boxed()
            }),
        ),
    ];
    let watch = informer::run(api, watcher::Config::default(), Arc::clone(&requests.store));
    std::iter::once(("certificatesigningrequest watch", watch.boxed())).chain(loops).collect()
}

type Reconcile = fn(Arc<Requests>, Key) -> BoxFuture<'static, Result<Again, Error>>;

/// A loop over the requests that change.
fn work(name: &'static str, requests: &Arc<Requests>, reconcile: Reconcile) -> BoxFuture<'static, ()> {
    let queue = Queue::new();
    let changed = Arc::clone(&queue);
    requests.store.listen(move |change| {
        if change.new.is_some() {
            changed.add(change.key());
        }
    });
    let requests = Arc::clone(requests);
    drive(name, queue, 1, move |key: Key| reconcile(Arc::clone(&requests), key)).boxed()
}

impl Requests {
    /// Adds a condition to a request and writes it through a subresource.
    async fn add(
        &self,
        request: &CertificateSigningRequest,
        subresource: &str,
        condition: Condition,
    ) -> Result<(), Error> {
        let mut next = request.clone();
        next.status.get_or_insert_default().conditions.get_or_insert_default().push(condition);
        self.write(&next, subresource).await
    }

    async fn write(&self, request: &CertificateSigningRequest, subresource: &str) -> Result<(), Error> {
        let name = meta::name(&request.metadata);
        let written = self.api.replace_subresource(subresource, name, request).await;
        let written = written.doing(|| format!("write /{subresource} of signing request {name}"))?;
        self.store.wrote(written);
        Ok(())
    }
}

fn conditions(request: &CertificateSigningRequest) -> &[Condition] {
    request.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default()
}

fn has(request: &CertificateSigningRequest, kind: &str) -> bool {
    conditions(request).iter().any(|condition| condition.type_ == kind)
}

fn certificate(request: &CertificateSigningRequest) -> Option<&[u8]> {
    let bytes = &request.status.as_ref()?.certificate.as_ref()?.0;
    Some(bytes.as_slice()).filter(|bytes| !bytes.is_empty())
}

fn condition(kind: &str, reason: &str, message: String) -> Condition {
    Condition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        ..Condition::default()
    }
}
