//! ServiceCIDRs: ready once they are protected, and gone only when no Service's address would be left without a range.
//!
//! Promises: a range that is on its way out and still needed says so, and goes by itself when it no longer is. No grace
//! period is needed, as upstream's is: the API server takes no address out of a range from the moment its object is
//! marked, so that a list of addresses taken afterwards is the last word.

mod decide;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use kube::api::{ListParams, Patch};
use serde_json::{Value, json};
use svcd_client::Objects;

use self::decide::Step;
use crate::Error;
use crate::error::{Doing, unless_gone};
use crate::kit::drive::{Again, drive};
use crate::kit::meta;
use crate::kit::queue::Queue;
use crate::kit::store::{Change, Key};
use crate::kit::world::{Task, World};

/// How long addresses that go are waited for, to be looked at together.
const TOGETHER: Duration = Duration::from_millis(50);

pub(crate) fn start(world: &Arc<World>) -> Task {
    let queue = Queue::new();
    listen(world, &queue);
    let shell = Arc::clone(world);
    // One at a time: of two ranges that hold the same addresses, one must stay.
    let work = drive("servicecidr", queue, 1, move |key| {
        let world = Arc::clone(&shell);
        async move { reconcile(&world, &key).await }
    });
    ("servicecidr", world.when_ready(work))
}

fn listen(world: &Arc<World>, queue: &Arc<Queue<Key>>) {
    let (weak, ranges) = (Arc::downgrade(world), Arc::clone(queue));
    world.service_ranges.listen(move |change| {
        ranges.add(change.key());
        // Another range may free one that waits, or need one that was about to go.
        if let Some(world) = weak.upgrade() {
            waiting(&world).for_each(|key| ranges.add(key));
        }
    });
    let (weak, addresses) = (Arc::downgrade(world), Arc::clone(queue));
    world.service_addresses.listen(move |change: &Change<'_, IPAddress>| {
        if change.new.is_none()
            && let Some(world) = weak.upgrade()
        {
            // Many may go at once: one look at them all is enough.
            waiting(&world).for_each(|key| addresses.add_after(key, TOGETHER));
        }
    });
}

/// The ranges that are on their way out.
fn waiting(world: &World) -> impl Iterator<Item = Key> + use<> {
    let all = world.service_ranges.all().into_iter();
    all.filter(|range| meta::is_deleted(&range.metadata)).map(|range| Key::of(&range.metadata))
}

async fn reconcile(world: &World, key: &Key) -> Result<Again, Error> {
    let Some(range) = world.service_ranges.get(key) else { return Ok(None) };
    let api: Objects<ServiceCIDR> = Objects::all(world.client.clone());
    let others = world.service_ranges.all();
    let addresses = if meta::is_deleted(&range.metadata) {
        // The cache may be behind the mark; the server is not.
        let addresses: Objects<IPAddress> = Objects::all(world.client.clone());
        let listed = addresses.list(&ListParams::default()).await;
        listed.doing(|| "list IPAddresses".to_owned())?.items
    } else {
        Vec::new()
    };
    let step = decide::step(&range, &others, &addresses, meta::now());
    let this = json!({ "uid": range.metadata.uid, "resourceVersion": range.metadata.resource_version });
    let written = match step {
        Step::Nothing => return Ok(None),
        Step::Protect => api.patch(&key.name, &finalizers(this, decide::protected(&range))).await,
        Step::Release => api.patch(&key.name, &finalizers(this, decide::released(&range))).await,
        Step::Say(conditions) => {
            let patch = json!({ "metadata": this, "status": { "conditions": conditions } });
            api.patch_status(&key.name, &Patch::Merge(patch)).await
        }
    };
    let doing = || format!("update ServiceCIDR {key}");
    unless_gone(written.doing(doing).map(|range| settle(world, key, range)))?;
    Ok(None)
}

/// What the server answered; the last finalizer's going is the object's.
fn settle(world: &World, key: &Key, range: ServiceCIDR) {
    if meta::is_deleted(&range.metadata) && range.metadata.finalizers.is_none() {
        world.service_ranges.bury(key, meta::uid(&range.metadata));
    } else {
        world.service_ranges.wrote(range);
    }
}

fn finalizers(mut metadata: Value, finalizers: Vec<String>) -> Patch<Value> {
    metadata["finalizers"] = if finalizers.is_empty() { Value::Null } else { json!(finalizers) };
    Patch::Merge(json!({ "metadata": metadata }))
}
