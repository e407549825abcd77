//! What every namespace has from its first moment, and what happens to its content when it goes.
//!
//! Promises: the ServiceAccount `default` and the ConfigMap `kube-root-ca.crt` come back when they are deleted; a
//! terminating namespace is finalized once nothing is left in it, whatever kinds the server has.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, NamespaceCondition, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, DeleteParams, ListParams, Patch};
use kube::core::{ApiResource, PartialObjectMeta};
use kube::discovery::verbs;
use kube::runtime::watcher;
use serde_json::json;
use svcd_client::{Objects, Raw};

use crate::Error;
use crate::error::{Doing, unless_gone};
use crate::kit::drive::{Again, drive};
use crate::kit::kinds::{self, Kind};
use crate::kit::queue::Queue;
use crate::kit::store::{Key, Store};
use crate::kit::world::{Task, World};
use crate::kit::{informer, meta};

const ROOT_CA: &str = "kube-root-ca.crt";
const FINALIZER: &str = "kubernetes";
/// The condition that says what holds a namespace up.
const REMAINING: &str = "NamespaceContentRemaining";

/// The controller's own caches: the two objects of every namespace.
struct Given {
    accounts: Arc<Store<ServiceAccount>>,
    roots: Arc<Store<ConfigMap>>,
}

pub(crate) fn start(world: &Arc<World>) -> Vec<Task> {
    let queue = Queue::new();
    let given = Arc::new(Given { accounts: Store::plain(), roots: Store::plain() });
    listen(world, &given, &queue);
    let named = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
    let client = &world.client;
    let accounts = informer::run(Objects::all(client.clone()), named("default"), Arc::clone(&given.accounts));
    let roots = informer::run(Objects::all(client.clone()), named(ROOT_CA), Arc::clone(&given.roots));
    let shell = Arc::clone(world);
    let work = async move {
        given.accounts.ready().await;
        given.roots.ready().await;
        let reconcile = move |key| {
            let (world, given) = (Arc::clone(&shell), Arc::clone(&given));
            async move { reconcile(&world, &given, &key).await }
        };
        drive("namespace", queue, 4, reconcile).await;
    };
    vec![
        ("serviceaccount watch", Box::pin(accounts)),
        ("root CA watch", Box::pin(roots)),
        ("namespace", world.when_ready(work)),
    ]
}

fn listen(world: &Arc<World>, given: &Given, queue: &Arc<Queue<Key>>) {
    let namespaces = Arc::clone(queue);
    world.namespaces.listen(move |change| namespaces.add(change.key()));
    let accounts = Arc::clone(queue);
    given.accounts.listen(move |change| {
        if change.new.is_none() {
            accounts.add(Key::new("", meta::namespace(&change.any().metadata)));
        }
    });
    let roots = Arc::clone(queue);
    given.roots.listen(move |change| roots.add(Key::new("", meta::namespace(&change.any().metadata))));
    let (weak, pods) = (Arc::downgrade(world), Arc::clone(queue));
    world.pods.listen(move |change| {
        let Some(world) = weak.upgrade().filter(|_| change.new.is_none()) else { return };
        let key = Key::new("", meta::namespace(&change.any().metadata));
        if world.namespaces.get(&key).is_some_and(|namespace| meta::is_deleted(&namespace.metadata)) {
            pods.add(key);
        }
    });
}

async fn reconcile(world: &World, given: &Given, key: &Key) -> Result<Again, Error> {
    let Some(namespace) = world.namespaces.get(key) else { return Ok(None) };
    if meta::is_deleted(&namespace.metadata) {
        return empty(world, &namespace).await;
    }
    match furnish(world, given, &key.name).await {
        Err(error) if error.is_namespace_terminating() || error.is_not_found() => Ok(None),
        result => result.map(|()| None),
    }
}

async fn furnish(world: &World, given: &Given, namespace: &str) -> Result<(), Error> {
    if given.accounts.get(&Key::new(namespace, "default")).is_none() {
        let api = world.namespaced::<ServiceAccount>(namespace);
        let account = ServiceAccount { metadata: named(namespace, "default"), ..ServiceAccount::default() };
        let created = api.create(&account).await;
        let doing = || format!("create ServiceAccount {namespace}/default");
        unless_exists(created.doing(doing).map(|account| given.accounts.wrote(account)))?;
    }
    let wanted = root_ca(namespace, world.config.ca.certificate_pem());
    let current = given.roots.get(&Key::new(namespace, ROOT_CA));
    let api = world.namespaced::<ConfigMap>(namespace);
    let doing = || format!("write ConfigMap {namespace}/{ROOT_CA}");
    match current {
        None => {
            let created = api.create(&wanted).await;
            unless_exists(created.doing(doing).map(|map| given.roots.wrote(map)))
        }
        Some(current) if current.data != wanted.data => {
            let patch = Patch::Merge(json!({ "data": wanted.data }));
            let patched = api.patch(ROOT_CA, &patch).await;
            given.roots.wrote(patched.doing(doing)?);
            Ok(())
        }
        Some(_) => Ok(()),
    }
}

fn unless_exists(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(e) if e.is_already_exists() => Ok(()),
        other => other,
    }
}

fn named(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() }
}

fn root_ca(namespace: &str, pem: &str) -> ConfigMap {
    let why = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such \
               as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions \
               of Kubernetes clusters.";
    let mut metadata = named(namespace, ROOT_CA);
    metadata.annotations = Some([("kubernetes.io/description".to_owned(), why.to_owned())].into());
    ConfigMap { metadata, data: Some([("ca.crt".to_owned(), pem.to_owned())].into()), ..ConfigMap::default() }
}

/// Deletes what is in a terminating namespace; finalizes it when nothing is left.
async fn empty(world: &World, namespace: &Namespace) -> Result<Again, Error> {
    let name = meta::name(&namespace.metadata);
    let mut left = Vec::new();
    for kind in kinds::discover(&world.client).await?.iter().filter(|kind| kind.namespaced) {
        let count = empty_kind(world, name, kind).await?;
        if count > 0 {
            left.push((kind.resource.plural.clone(), count));
        }
    }
    if left.is_empty() {
        finalize(world, namespace).await?;
        return Ok(None);
    }
    explain(world, namespace, &remaining(&left)).await?;
    let since = namespace.metadata.deletion_timestamp.as_ref().map_or_else(Timestamp::now, |t| t.0);
    Ok(Some(patience(Timestamp::now().duration_since(since))))
}

/// How long to wait for content to go without an event that tells: the longer it takes, the longer.
fn patience(age: SignedDuration) -> Duration {
    let quarter = Duration::try_from(age).unwrap_or_default() / 4;
    quarter.clamp(Duration::from_millis(200), Duration::from_secs(15))
}

/// Upstream's words for what is left.
fn remaining(left: &[(String, usize)]) -> String {
    let parts: Vec<String> =
        left.iter().map(|(kind, count)| format!("{kind} has {count} resource instances")).collect();
    format!("Some resources are remaining: {}", parts.join(", "))
}

/// Says on the namespace what it waits for.
async fn explain(world: &World, namespace: &Namespace, message: &str) -> Result<(), Error> {
    let held = namespace.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let former = held.iter().find(|condition| condition.type_ == REMAINING);
    if former.is_some_and(|former| former.message.as_deref() == Some(message)) {
        return Ok(());
    }
    let since = former.and_then(|former| former.last_transition_time.clone());
    let mut conditions = held.clone();
    conditions.retain(|condition| condition.type_ != REMAINING);
    conditions.push(NamespaceCondition {
        type_: REMAINING.to_owned(),
        status: "True".to_owned(),
        reason: Some("SomeResourcesRemain".to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: since.or_else(|| Some(Time(meta::now()))),
    });
    let name = meta::name(&namespace.metadata);
    let patch = Patch::Merge(json!({
        "metadata": { "uid": namespace.metadata.uid },
        "status": { "conditions": conditions },
    }));
    let api: Objects<Namespace> = Objects::all(world.client.clone());
    let patched = api.patch_status(name, &patch).await;
    let doing = || format!("say what namespace {name} waits for");
    unless_gone(patched.doing(doing).map(|namespace| world.namespaces.wrote(namespace)))
}

/// Deletes the objects of one kind; returns how many are left.
async fn empty_kind(world: &World, namespace: &str, kind: &Kind) -> Result<usize, Error> {
    let resource = &kind.resource;
    let found = contents(world, namespace, resource).await?;
    if found.is_empty() {
        return Ok(0);
    }
    let api: Api<Raw> = Api::namespaced_with(world.client.clone(), namespace, resource);
    let doing = || format!("delete the {} of namespace {namespace}", resource.plural);
    if kind.verbs.iter().any(|verb| verb == verbs::DELETE_COLLECTION) {
        let all = api.delete_collection(&DeleteParams::background(), &ListParams::default()).await;
        all.doing(doing)?;
    } else {
        for object in found.iter().filter(|object| !meta::is_deleted(&object.metadata)) {
            let deleted = api.delete(meta::name(&object.metadata), &DeleteParams::background()).await;
            unless_gone(deleted.map(|_| ()).doing(doing))?;
        }
    }
    Ok(contents(world, namespace, resource).await?.len())
}

async fn contents(
    world: &World,
    namespace: &str,
    resource: &ApiResource,
) -> Result<Vec<PartialObjectMeta<Raw>>, Error> {
    let api: Api<Raw> = Api::namespaced_with(world.client.clone(), namespace, resource);
    let list = api.list_metadata(&ListParams::default()).await;
    Ok(list.doing(|| format!("list the {} of namespace {namespace}", resource.plural))?.items)
}

async fn finalize(world: &World, namespace: &Namespace) -> Result<(), Error> {
    let mut next = namespace.clone();
    let Some(finalizers) = next.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) else {
        return Ok(());
    };
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    let name = meta::name(&namespace.metadata).to_owned();
    let api: Objects<Namespace> = Objects::all(world.client.clone());
    let done = api.replace_subresource("finalize", &name, &next).await;
    unless_gone(done.map(|_| ()).doing(|| format!("finalize namespace {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_with_age_within_limits() {
        let cases = [(-5, 200), (0, 200), (4, 1000), (20, 5000), (9999, 15_000)];
        for (age, expected) in cases {
            assert_eq!(patience(SignedDuration::from_secs(age)), Duration::from_millis(expected), "{age}");
        }
    }

    #[test]
    fn what_is_left_is_told_as_upstream_tells_it() {
        let left = [("pods".to_owned(), 2), ("services".to_owned(), 1)];
        assert_eq!(
            remaining(&left),
            "Some resources are remaining: pods has 2 resource instances, services has 1 resource instances"
        );
    }
}
