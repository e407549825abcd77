//! An [`Item`] in a third of its room: there is one for every object that has an owner, most of the cluster. Texts that repeat
//! are kept once.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::ApiResource;

use super::graph::{Item, Leaving, Uid};
use crate::kit::store::Key;

/// Texts that many objects share.
#[derive(Default)]
pub(super) struct Words(HashSet<Arc<str>>);

impl Words {
    fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let word: Arc<str> = text.into();
        self.0.insert(Arc::clone(&word));
        word
    }
}

pub(super) struct Packed {
    resource: Arc<ApiResource>,
    namespace: Arc<str>,
    name: Box<str>,
    uid: Box<str>,
    owners: Box<[Owner]>,
    pub(super) leaving: Leaving,
}

struct Owner {
    api_version: Arc<str>,
    kind: Arc<str>,
    name: Box<str>,
    uid: Box<str>,
    controller: Option<bool>,
    blocks: Option<bool>,
}

impl Packed {
    pub(super) fn of(item: Item, words: &mut Words) -> Self {
        let mut owner = |owner: OwnerReference| Owner {
            api_version: words.get(&owner.api_version),
            kind: words.get(&owner.kind),
            name: owner.name.into(),
            uid: owner.uid.into(),
            controller: owner.controller,
            blocks: owner.block_owner_deletion,
        };
        Self {
            resource: item.resource,
            owners: item.owners.into_iter().map(&mut owner).collect(),
            namespace: words.get(&item.key.namespace),
            name: item.key.name.into(),
            uid: item.uid.into(),
            leaving: item.leaving,
        }
    }

    pub(super) fn item(&self) -> Item {
        let owner = |owner: &Owner| OwnerReference {
            api_version: owner.api_version.to_string(),
            kind: owner.kind.to_string(),
            name: owner.name.to_string(),
            uid: owner.uid.to_string(),
            controller: owner.controller,
            block_owner_deletion: owner.blocks,
        };
        Item {
            resource: Arc::clone(&self.resource),
            key: Key::new(&*self.namespace, &*self.name),
            uid: self.uid.to_string(),
            owners: self.owners.iter().map(owner).collect(),
            leaving: self.leaving,
        }
    }

    pub(super) fn owners(&self) -> impl Iterator<Item = Uid> {
        self.owners.iter().map(|owner| Uid::of(&owner.uid))
    }
}
