//! Keeps a [`Store`] equal to the server: list, then watch, for ever.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::Resource;
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
use svcd_api::Wire;
use svcd_client::{Event, Objects};

use super::store::Store;

/// The pauses after errors of a watch. Shorter than kube's own: the server is in the same process, or a hop away.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pauses {
    failures: u32,
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = Duration::from_millis(20) * 2_u32.saturating_pow(self.failures);
        self.failures = (self.failures + 1).min(8);
        Some(pause.min(Duration::from_secs(5)))
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Runs until it is dropped.
pub(crate) async fn run<K: Wire>(api: Objects<K>, config: watcher::Config, store: Arc<Store<K>>) {
    let mut events = pin!(api.watch(config).backoff(Pauses::default()));
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => store.relist(),
            Ok(Event::InitApply(object) | Event::Apply(object)) => store.apply(trimmed(object)),
            Ok(Event::Delete(object)) => store.delete(&object),
            Ok(Event::InitDone) => {
                for key in store.relisted() {
                    verify(&api, &store, &key).await;
                }
            }
            Err(error) => tracing::warn!(kind = %K::KIND, %error, "watch failed, retrying"),
        }
    }
}

/// An object that we wrote while a list was taken may have gone again before the list was.
async fn verify<K: Wire>(api: &Objects<K>, store: &Store<K>, key: &super::store::Key) {
    let Some(held) = store.get(key) else { return };
    // `api` reaches over all namespaces, where no single object can be asked for but by selector.
    let selector = format!("metadata.name={},metadata.namespace={}", key.name, key.namespace);
    let params = kube::api::ListParams::default().fields(&selector);
    let found = match api.raw().list(&params).await {
        Ok(list) => list.items.iter().any(|item| item.meta().uid == held.metadata().uid),
        Err(error) => {
            tracing::warn!(kind = %K::KIND, %key, %error, "cannot tell whether the object exists");
            true
        }
    };
    if !found && let Some(uid) = &held.metadata().uid {
        store.bury(key, uid);
    }
}

/// Without what no controller reads and no update of ours sends back.
fn trimmed<K: Wire>(mut object: K) -> K {
    object.metadata_mut().managed_fields = None;
    object
}
