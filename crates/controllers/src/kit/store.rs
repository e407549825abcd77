//! The cache of one kind: what the watch has shown, plus what our own writes have answered.
//!
//! Promises: an object never goes back to an older version; what a controller has written or deleted is seen by its
//! next read; listeners hear every change once, in order, after it can be read.
//! Refuses: to be a source of truth. A write that meets a newer object fails at the server, and the caller looks again.

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use svcd_api::Wire;
use tokio::sync::watch;

use super::shelf::{Indexer, Shelf};

/// Namespace and name; the namespace is empty for kinds without.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    pub(crate) fn of(meta: &ObjectMeta) -> Self {
        Self::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A place in a store's index. Hashed: readers check what they get, so that a collision costs time, not truth.
pub(crate) fn index_of(parts: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

/// One change of one object; at least one side is there.
pub(crate) struct Change<'a, K> {
    pub(crate) old: Option<&'a K>,
    pub(crate) new: Option<&'a K>,
    /// A controller of this process did it, and knows.
    pub(crate) by_us: bool,
}

impl<'a, K: Wire> Change<'a, K> {
    /// The object, in its newest state.
    pub(crate) fn any(&self) -> &'a K {
        self.new.or(self.old).expect("a change has a side")
    }

    pub(crate) fn key(&self) -> Key {
        Key::of(self.any().metadata())
    }
}

type Listener<K> = Box<dyn Fn(&Change<'_, K>) + Send + Sync>;

struct Inner<K> {
    objects: Shelf<K>,
    /// The newest version that the watch has shown.
    seen: u64,
    /// UIDs that we deleted, and whose end the watch has not shown yet.
    buried: HashSet<String>,
    /// While the kind is listed anew: what the list, or we ourselves, have shown to exist.
    listed: Option<Listed>,
}

#[derive(Default)]
struct Listed {
    by_server: HashSet<Key>,
    by_us: HashSet<Key>,
}

/// See the file's documentation.
pub(crate) struct Store<K> {
    inner: Mutex<Inner<K>>,
    /// Held over a change and its listeners, so that these hear the changes in order.
    order: Mutex<()>,
    listeners: RwLock<Vec<Listener<K>>>,
    ready: watch::Sender<bool>,
}

impl<K: Wire> Store<K> {
    pub(crate) fn new(indexer: Indexer<K>) -> Arc<Self> {
        let inner = Inner { objects: Shelf::new(indexer), seen: 0, buried: HashSet::new(), listed: None };
        Arc::new(Self {
            inner: Mutex::new(inner),
            order: Mutex::new(()),
            listeners: RwLock::new(Vec::new()),
            ready: watch::Sender::new(false),
        })
    }

    /// A store without an index.
    pub(crate) fn plain() -> Arc<Self> {
        Self::new(|_| Vec::new())
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ordered(&self) -> MutexGuard<'_, ()> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `listener` at every change from now on. It may read any store, and must neither write one nor block.
    pub(crate) fn listen(&self, listener: impl Fn(&Change<'_, K>) + Send + Sync + 'static) {
        self.listeners.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    /// Waits until the first list is in.
    pub(crate) async fn ready(&self) {
        // The sender lives as long as the store, so that this cannot fail.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.lock().objects.get(key)
    }

    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.lock().objects.all()
    }

    /// The objects of one namespace, by name.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.lock().objects.in_namespace(namespace)
    }

    /// The objects at one place of the index, by name.
    pub(crate) fn indexed(&self, place: u64) -> Vec<Arc<K>> {
        self.lock().objects.indexed(place)
    }

    /// How many objects are at one place of the index.
    pub(crate) fn count(&self, place: u64) -> usize {
        self.lock().objects.count(place)
    }

    /// An event of the watch: the object is there, in this state.
    pub(crate) fn apply(&self, object: K) {
        let _order = self.ordered();
        let key = Key::of(object.metadata());
        let version = version(&object);
        let mut inner = self.lock();
        inner.seen = inner.seen.max(version);
        if let Some(listed) = &mut inner.listed {
            listed.by_server.insert(key.clone());
        }
        if inner.is_buried(&object) {
            return;
        }
        self.put(inner, key, object, version, false);
    }

    /// An event of the watch: the object is gone.
    pub(crate) fn delete(&self, object: &K) {
        let _order = self.ordered();
        let mut inner = self.lock();
        let version = version(object);
        inner.seen = inner.seen.max(version);
        if let Some(uid) = &object.metadata().uid {
            inner.buried.remove(uid);
        }
        let key = Key::of(object.metadata());
        let newer = inner.objects.version(&key).is_some_and(|held| held > version);
        let recreated = newer && inner.uid(&key) != object.metadata().uid;
        if !recreated {
            self.remove(inner, &key, false);
        }
    }

    /// The watch begins anew with a list.
    pub(crate) fn relist(&self) {
        self.lock().listed = Some(Listed::default());
    }

    /// The list is complete: what is not in it is gone. Returns the objects that we wrote while it was taken and
    /// that are not in it; the caller asks the server whether they exist.
    pub(crate) fn relisted(&self) -> Vec<Key> {
        let _order = self.ordered();
        let mut inner = self.lock();
        let listed = inner.listed.take().unwrap_or_default();
        inner.buried.clear();
        let gone =
            inner.objects.keys().filter(|k| !listed.by_server.contains(k) && !listed.by_us.contains(k));
        let gone: Vec<Key> = gone.cloned().collect();
        drop(inner);
        for key in gone {
            self.remove(self.lock(), &key, false);
        }
        self.ready.send_replace(true);
        listed.by_us.into_iter().filter(|key| !listed.by_server.contains(key)).collect()
    }

    /// The server's answer to a write of ours.
    pub(crate) fn wrote(&self, mut object: K) {
        object.metadata_mut().managed_fields = None;
        let _order = self.ordered();
        let key = Key::of(object.metadata());
        let version = version(&object);
        let mut inner = self.lock();
        if version <= inner.seen {
            return; // The watch has shown it, and perhaps its end.
        }
        if let Some(listed) = &mut inner.listed {
            listed.by_us.insert(key.clone());
        }
        self.put(inner, key, object, version, true);
    }

    /// The server has told us that an object of this UID is gone.
    pub(crate) fn bury(&self, key: &Key, uid: &str) {
        let _order = self.ordered();
        let mut inner = self.lock();
        let held = inner.uid(key).as_deref() == Some(uid);
        if held {
            inner.buried.insert(uid.to_owned());
            self.remove(inner, key, true);
        }
    }

    fn put(&self, mut inner: MutexGuard<'_, Inner<K>>, key: Key, object: K, version: u64, by_us: bool) {
        if version != 0 && inner.objects.version(&key).is_some_and(|held| held >= version) {
            return;
        }
        let object = Arc::new(object);
        let old = inner.objects.put(key, Arc::clone(&object), version);
        drop(inner);
        self.tell(&Change { old: old.as_deref(), new: Some(&object), by_us });
    }

    fn remove(&self, mut inner: MutexGuard<'_, Inner<K>>, key: &Key, by_us: bool) {
        let Some(old) = inner.objects.remove(key) else { return };
        drop(inner);
        self.tell(&Change { old: Some(&old), new: None, by_us });
    }

    fn tell(&self, change: &Change<'_, K>) {
        let listeners = self.listeners.read().unwrap_or_else(PoisonError::into_inner);
        for listener in listeners.iter() {
            listener(change);
        }
    }
}

impl<K: Wire> Inner<K> {
    fn is_buried(&self, object: &K) -> bool {
        object.metadata().uid.as_ref().is_some_and(|uid| self.buried.contains(uid))
    }

    fn uid(&mut self, key: &Key) -> Option<String> {
        self.objects.get(key)?.metadata().uid.clone()
    }
}

/// Versions of one kind are ordered by number, as upstream promises since 1.35.
fn version<K: Wire>(object: &K) -> u64 {
    object.metadata().resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn object(name: &str, uid: &str, version: u64) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some("ns".to_owned()),
                uid: Some(uid.to_owned()),
                resource_version: Some(version.to_string()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        }
    }

    fn names(store: &Store<ConfigMap>) -> Vec<String> {
        store.all().iter().map(|o| o.metadata.name.clone().unwrap()).collect()
    }

    fn counted(store: &Store<ConfigMap>) -> Arc<AtomicUsize> {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        store.listen(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        count
    }

    #[test]
    fn the_watch_repeating_our_own_write_is_no_change() {
        let store = Store::plain();
        let changes = counted(&store);
        store.wrote(object("a", "1", 5));
        store.apply(object("a", "1", 5));
        assert_eq!(changes.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn an_older_event_does_not_undo_a_write() {
        let store = Store::plain();
        store.wrote(object("a", "1", 7));
        store.apply(object("a", "1", 6));
        let held = store.get(&Key::new("ns", "a")).unwrap();
        assert_eq!(held.metadata.resource_version.as_deref(), Some("7"));
    }

    #[test]
    fn a_late_answer_does_not_bring_back_the_dead() {
        let store = Store::plain();
        store.apply(object("a", "1", 5));
        store.delete(&object("a", "1", 8));
        store.wrote(object("a", "1", 7));
        assert!(names(&store).is_empty());
    }

    #[test]
    fn what_we_deleted_stays_deleted_while_the_watch_catches_up() {
        let store = Store::plain();
        store.apply(object("a", "1", 5));
        store.bury(&Key::new("ns", "a"), "1");
        store.apply(object("a", "1", 6));
        assert!(names(&store).is_empty());
        store.delete(&object("a", "1", 9));
        store.apply(object("a", "2", 10));
        assert_eq!(names(&store), ["a"]);
    }

    #[test]
    fn a_delete_of_the_former_one_does_not_hit_its_successor() {
        let store = Store::plain();
        store.apply(object("a", "1", 5));
        store.bury(&Key::new("ns", "a"), "1");
        store.wrote(object("a", "2", 9));
        store.delete(&object("a", "1", 8));
        assert_eq!(names(&store), ["a"]);
    }

    #[test]
    fn a_new_list_deletes_what_it_does_not_show_and_asks_about_what_we_wrote_meanwhile() {
        let store = Store::plain();
        store.apply(object("a", "1", 5));
        store.apply(object("b", "2", 6));
        store.relist();
        store.wrote(object("c", "3", 20));
        store.apply(object("b", "2", 6));
        assert_eq!(store.relisted(), [Key::new("ns", "c")]);
        assert_eq!(names(&store), ["b", "c"]);
    }

    #[test]
    fn the_index_follows_changes() {
        let store = Store::<ConfigMap>::new(|o| {
            o.metadata.labels.iter().flatten().map(|(k, v)| index_of(&[k, v])).collect()
        });
        let labelled = |version, value: &str| {
            let mut object = object("a", "1", version);
            object.metadata.labels = Some(BTreeMap::from([("k".to_owned(), value.to_owned())]));
            object
        };
        store.apply(labelled(1, "x"));
        assert_eq!(store.count(index_of(&["k", "x"])), 1);
        store.apply(labelled(2, "y"));
        assert_eq!(store.count(index_of(&["k", "x"])), 0);
        assert_eq!(store.indexed(index_of(&["k", "y"])).len(), 1);
        store.delete(&labelled(3, "y"));
        assert_eq!(store.count(index_of(&["k", "y"])), 0);
    }
}
