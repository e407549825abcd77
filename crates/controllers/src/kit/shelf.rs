//! Objects by key and by place, in little memory. A typed object takes five to ten times the room of its JSON, so only as
//! many as a controller may be busy with stay typed; the others are packed, and unpacked when somebody asks for them.
//!
//! Promises: what is taken out is what was put in; a small cluster's objects are never packed. Refuses: to hold on to an
//! object for being asked for in a long list, which would push out all others.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use svcd_api::Wire;

use super::store::Key;

/// How many objects of a kind stay typed.
const TYPED: usize = 512;
/// A longer list is unpacked for its reader only.
const LONG_LIST: usize = TYPED / 4;

/// The computed places of an object in the index.
pub(crate) type Indexer<K> = fn(&K) -> Vec<u64>;

type Slot = usize;

enum Form<K> {
    Typed {
        object: Arc<K>,
        /// Where the slot stands in `Shelf::typed`.
        at: usize,
    },
    /// The object's JSON.
    Packed(Box<[u8]>),
}

struct Held<K> {
    key: Arc<Key>,
    version: u64,
    form: Form<K>,
}

/// See the file's documentation.
pub(crate) struct Shelf<K> {
    slots: Vec<Option<Held<K>>>,
    free: Vec<Slot>,
    keys: BTreeMap<Arc<Key>, Slot>,
    index: HashMap<u64, Vec<Slot>>,
    indexer: Indexer<K>,
    /// The slots of typed objects, in no order.
    typed: Vec<Slot>,
    /// Decides who is packed next: of a scan that is longer than `TYPED`, some are still there at its next round.
    dice: u64,
}

impl<K: Wire> Shelf<K> {
    pub(crate) fn new(indexer: Indexer<K>) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            keys: BTreeMap::new(),
            index: HashMap::new(),
            indexer,
            typed: Vec::new(),
            dice: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// The version of the object at a key.
    pub(crate) fn version(&self, key: &Key) -> Option<u64> {
        Some(self.held(*self.keys.get(key)?).version)
    }

    pub(crate) fn get(&mut self, key: &Key) -> Option<Arc<K>> {
        let slot = *self.keys.get(key)?;
        Some(self.take_out(slot, true))
    }

    /// Puts an object in, and returns the one that was there.
    pub(crate) fn put(&mut self, key: Key, object: Arc<K>, version: u64) -> Option<Arc<K>> {
        let old = self.remove(&key);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        for place in (self.indexer)(&object) {
            self.index.entry(place).or_default().push(slot);
        }
        let key = Arc::new(key);
        self.keys.insert(Arc::clone(&key), slot);
        let form = Form::Typed { object, at: self.typed.len() };
        self.typed.push(slot);
        self.slots[slot] = Some(Held { key, version, form });
        self.pack_surplus(slot);
        old
    }

    pub(crate) fn remove(&mut self, key: &Key) -> Option<Arc<K>> {
        let slot = self.keys.remove(key)?;
        let object = self.take_out(slot, false);
        for place in (self.indexer)(&object) {
            let Some(slots) = self.index.get_mut(&place) else { continue };
            slots.retain(|other| *other != slot);
            if slots.is_empty() {
                self.index.remove(&place);
            }
        }
        if let Some(Held { form: Form::Typed { at, .. }, .. }) = self.slots[slot].take() {
            self.forget_typed(at);
        }
        self.free.push(slot);
        Some(object)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.keys().map(AsRef::as_ref)
    }

    /// All objects, by key.
    pub(crate) fn all(&mut self) -> Vec<Arc<K>> {
        let slots = self.keys.values().copied().collect();
        self.take_out_all(slots)
    }

    /// The objects of one namespace, by name.
    pub(crate) fn in_namespace(&mut self, namespace: &str) -> Vec<Arc<K>> {
        let from = Key::new(namespace, "");
        let range = self.keys.range(from..).take_while(|(key, _)| key.namespace == namespace);
        let slots = range.map(|(_, slot)| *slot).collect();
        self.take_out_all(slots)
    }

    /// The objects at one place of the index, by key.
    pub(crate) fn indexed(&mut self, place: u64) -> Vec<Arc<K>> {
        let Some(slots) = self.index.get(&place) else { return Vec::new() };
        let mut slots = slots.clone();
        slots.sort_by(|a, b| self.held(*a).key.cmp(&self.held(*b).key));
        self.take_out_all(slots)
    }

    /// How many objects are at one place of the index.
    pub(crate) fn count(&self, place: u64) -> usize {
        self.index.get(&place).map_or(0, Vec::len)
    }

    fn held(&self, slot: Slot) -> &Held<K> {
        self.slots[slot].as_ref().expect("keys and index name full slots only")
    }

    fn take_out_all(&mut self, slots: Vec<Slot>) -> Vec<Arc<K>> {
        let keep = slots.len() <= LONG_LIST;
        slots.into_iter().map(|slot| self.take_out(slot, keep)).collect()
    }

    /// The object of a slot; it stays typed when it is to be kept so.
    fn take_out(&mut self, slot: Slot, keep: bool) -> Arc<K> {
        let packed = match &self.held(slot).form {
            Form::Typed { object, .. } => return Arc::clone(object),
            Form::Packed(packed) => packed,
        };
        let object = Arc::new(unpack(packed));
        if keep {
            let at = self.typed.len();
            self.typed.push(slot);
            if let Some(held) = &mut self.slots[slot] {
                held.form = Form::Typed { object: Arc::clone(&object), at };
            }
            self.pack_surplus(slot);
        }
        object
    }

    /// Packs one of the typed objects when there are too many, but for the newest.
    fn pack_surplus(&mut self, newest: Slot) {
        if self.typed.len() <= TYPED {
            return;
        }
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let count = self.typed.len() as u64;
        let mut at = usize::try_from((self.dice >> 33) % count).expect("less than the number of slots");
        if self.typed[at] == newest {
            at = (at + 1) % self.typed.len();
        }
        let slot = self.typed[at];
        self.forget_typed(at);
        if let Some(held) = &mut self.slots[slot]
            && let Form::Typed { object, .. } = &held.form
        {
            held.form = Form::Packed(pack(object.as_ref()));
        }
    }

    /// Takes an entry out of `typed`; the last one moves to its place.
    fn forget_typed(&mut self, at: usize) {
        self.typed.swap_remove(at);
        let moved = self.typed.get(at).copied();
        if let Some(Held { form: Form::Typed { at: place, .. }, .. }) =
            moved.and_then(|slot| self.slots[slot].as_mut())
        {
            *place = at;
        }
    }
}

fn pack<K: Wire>(object: &K) -> Box<[u8]> {
    object.to_json().to_string().into_bytes().into()
}

fn unpack<K: Wire>(packed: &[u8]) -> K {
    let value = serde_json::from_slice(packed).expect("what was packed is JSON");
    K::from_json(&value).expect("what was packed was of this kind")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::ConfigMap;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use proptest::prelude::*;

    use super::*;

    fn object(name: usize, value: usize) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta { name: Some(name.to_string()), ..ObjectMeta::default() },
            data: Some(BTreeMap::from([("value".to_owned(), value.to_string())])),
            ..ConfigMap::default()
        }
    }

    fn value(object: &ConfigMap) -> usize {
        object.data.as_ref().unwrap()["value"].parse().unwrap()
    }

    fn shelf() -> Shelf<ConfigMap> {
        Shelf::new(|object| vec![(value(object) % 3) as u64])
    }

    fn key(name: usize) -> Key {
        Key::new("ns", name.to_string())
    }

    #[test]
    fn only_so_many_are_typed_and_all_can_be_read() {
        let mut shelf = shelf();
        for n in 0..3 * TYPED {
            shelf.put(key(n), Arc::new(object(n, n)), n as u64);
        }
        assert_eq!(shelf.typed.len(), TYPED);
        for n in (0..3 * TYPED).rev() {
            assert_eq!(value(&shelf.get(&key(n)).unwrap()), n);
            assert_eq!(shelf.version(&key(n)), Some(n as u64));
        }
        assert_eq!(shelf.all().len(), 3 * TYPED);
        assert_eq!(shelf.indexed(1).len(), TYPED);
        assert_eq!(shelf.typed.len(), TYPED);
    }

    #[test]
    fn a_long_list_pushes_nothing_out() {
        let mut shelf = shelf();
        for n in 0..2 * TYPED {
            shelf.put(key(n), Arc::new(object(n, n)), 0);
        }
        let before = shelf.typed.clone();
        assert_eq!(shelf.in_namespace("ns").len(), 2 * TYPED);
        assert_eq!(shelf.typed, before);
    }

    proptest! {
        /// Against a plain map, over the border of what stays typed.
        #[test]
        fn it_is_a_map(writes in proptest::collection::vec((0..1500_usize, proptest::option::weighted(0.8, 0..100_usize)), 3000)) {
            let (mut shelf, mut model) = (shelf(), BTreeMap::new());
            for (version, (name, wanted)) in writes.into_iter().enumerate() {
                let old = match wanted {
                    Some(wanted) => {
                        let old = shelf.put(key(name), Arc::new(object(name, wanted)), version as u64);
                        prop_assert_eq!(old.as_deref().map(value), model.insert(key(name), wanted));
                        continue;
                    }
                    None => shelf.remove(&key(name)),
                };
                prop_assert_eq!(old.as_deref().map(value), model.remove(&key(name)));
            }
            prop_assert_eq!(shelf.keys().cloned().collect::<Vec<_>>(), model.keys().cloned().collect::<Vec<_>>());
            prop_assert_eq!(
                shelf.all().iter().map(|o| value(o)).collect::<Vec<_>>(),
                model.values().copied().collect::<Vec<_>>()
            );
            for place in 0..3 {
                let wanted: Vec<usize> = model.values().copied().filter(|v| v % 3 == place).collect();
                prop_assert_eq!(shelf.count(place as u64), wanted.len());
                prop_assert_eq!(shelf.indexed(place as u64).iter().map(|o| value(o)).collect::<Vec<_>>(), wanted);
            }
        }
    }
}
