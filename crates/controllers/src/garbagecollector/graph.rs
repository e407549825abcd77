//! Who is owned by whom, as far as the watches have shown. Pure: facts in, names of objects worth a look out.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::ApiResource;

use super::packed::{Packed, Words};
use crate::kit::meta;
use crate::kit::store::Key;

/// Keeps an object until its dependents are gone.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// Keeps an object until its dependents have forgotten it.
pub(super) const ORPHAN: &str = "orphan";
/// UIDs of absent owners that are remembered.
const REMEMBERED: usize = 4096;

/// A UID in 16 bytes: there is one for every object of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Uid(u128);

impl Uid {
    pub(super) fn of(text: &str) -> Self {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        if digits.len() == 32
            && let Ok(number) = u128::from_str_radix(&digits, 16)
        {
            return Self(number);
        }
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Self(hasher.finish().into())
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// How an object leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// Others hold it.
    Plain,
    /// It waits for its dependents to go.
    Foreground,
    /// Its dependents are to forget it.
    Orphan,
}

pub(super) fn leaving(meta: &ObjectMeta) -> Leaving {
    let held = |by: &str| meta.finalizers.iter().flatten().any(|finalizer| finalizer == by);
    match (meta::is_deleted(meta), held(ORPHAN), held(FOREGROUND)) {
        (false, ..) => Leaving::No,
        (true, true, _) => Leaving::Orphan,
        (true, false, true) => Leaving::Foreground,
        (true, false, false) => Leaving::Plain,
    }
}

/// An object that has owners, or that is leaving.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) resource: Arc<ApiResource>,
    pub(super) key: Key,
    pub(super) uid: String,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) leaving: Leaving,
}

/// See the file's documentation.
#[derive(Default)]
pub(super) struct Graph {
    live: HashSet<Uid>,
    items: HashMap<Uid, Packed>,
    /// Sorted.
    dependents: HashMap<Uid, Vec<Uid>>,
    words: Words,
    absent: HashSet<Uid>,
}

impl Graph {
    /// An object is there, in this state.
    pub(super) fn seen(&mut self, resource: &Arc<ApiResource>, meta: &ObjectMeta) -> Vec<Uid> {
        let text = meta::uid(meta);
        let uid = Uid::of(text);
        self.live.insert(uid);
        let item = Item {
            resource: Arc::clone(resource),
            key: Key::of(meta),
            uid: text.to_owned(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            leaving: leaving(meta),
        };
        let mut look = self.unlink(uid);
        if item.owners.is_empty() && item.leaving == Leaving::No {
            return look;
        }
        for owner in &item.owners {
            let dependents = self.dependents.entry(Uid::of(&owner.uid)).or_default();
            if let Err(at) = dependents.binary_search(&uid) {
                dependents.insert(at, uid);
            }
        }
        let doubtful = item.owners.iter().any(|owner| {
            let owner = Uid::of(&owner.uid);
            !self.live.contains(&owner) || self.leaving(owner) == Leaving::Foreground
        });
        if doubtful || matches!(item.leaving, Leaving::Foreground | Leaving::Orphan) {
            look.push(uid);
        }
        self.items.insert(uid, Packed::of(item, &mut self.words));
        look
    }

    /// An object is gone.
    pub(super) fn gone(&mut self, uid: Uid) -> Vec<Uid> {
        self.live.remove(&uid);
        let mut look = self.unlink(uid);
        look.extend(self.dependents.get(&uid).into_iter().flatten());
        look
    }

    /// Takes an object out; owners that wait for their dependents are worth a look then.
    fn unlink(&mut self, uid: Uid) -> Vec<Uid> {
        let Some(item) = self.items.remove(&uid) else { return Vec::new() };
        let mut waiting = Vec::new();
        for owner in item.owners() {
            if let Some(dependents) = self.dependents.get_mut(&owner) {
                if let Ok(at) = dependents.binary_search(&uid) {
                    dependents.remove(at);
                }
                if dependents.is_empty() {
                    self.dependents.remove(&owner);
                }
            }
            if self.leaving(owner) == Leaving::Foreground {
                waiting.push(owner);
            }
        }
        waiting
    }

    pub(super) fn item(&self, uid: Uid) -> Option<Item> {
        self.items.get(&uid).map(Packed::item)
    }

    pub(super) fn is_live(&self, uid: Uid) -> bool {
        self.live.contains(&uid)
    }

    pub(super) fn leaving(&self, uid: Uid) -> Leaving {
        self.items.get(&uid).map_or(Leaving::No, |item| item.leaving)
    }

    /// The objects that name this one as an owner.
    pub(super) fn dependents(&self, uid: Uid) -> Vec<Item> {
        let uids = self.dependents.get(&uid).into_iter().flatten();
        uids.filter_map(|uid| self.items.get(uid).map(Packed::item)).collect()
    }

    /// The server has said that there is no such object; UIDs do not come back.
    pub(super) fn remember_absent(&mut self, uid: Uid) {
        if self.absent.len() >= REMEMBERED {
            self.absent.clear();
        }
        self.absent.insert(uid);
    }

    pub(super) fn is_absent(&self, uid: Uid) -> bool {
        self.absent.contains(&uid) && !self.live.contains(&uid)
    }
}

/// Whether a dependent holds up the foreground deletion of its owner.
pub(super) fn blocks(item: &Item, owner: &str) -> bool {
    item.owners.iter().any(|o| o.uid == owner && o.block_owner_deletion == Some(true))
}

/// What the state of its owners means for an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// It is there and stays.
    Solid,
    /// It is gone.
    Dangling,
    /// It waits for this object to go.
    Waiting,
}

/// What to do with an object.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Keep,
    /// Some owner stays: only the others are taken off.
    Release(Vec<OwnerReference>),
    DeleteForeground,
    Delete,
}

/// Upstream's rules for an object with these owners.
pub(super) fn verdict(owners: &[(OwnerReference, Owner)], has_dependents: bool) -> Verdict {
    let is = |state: Owner| owners.iter().any(|(_, s)| *s == state);
    if owners.is_empty() {
        return Verdict::Keep;
    }
    if is(Owner::Solid) {
        let kept = owners.iter().filter(|(_, state)| *state == Owner::Solid).map(|(owner, _)| owner.clone());
        let kept: Vec<OwnerReference> = kept.collect();
        return if kept.len() == owners.len() { Verdict::Keep } else { Verdict::Release(kept) };
    }
    if is(Owner::Waiting) && has_dependents { Verdict::DeleteForeground } else { Verdict::Delete }
}

#[cfg(test)]
#[path = "graph_tests.rs"]
mod tests;
