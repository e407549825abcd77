//! The keys of claims. An address's claim is an object of its own, so that a list of them, a watch on them and the claim
//! are one truth; a node port's is a key beside the objects, whose value names the owner.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use svcd_api::addresses::{AddressClaims, Owner};
use svcd_store::{Op, Record};

use crate::resources::Resource;
use crate::server::ApiServer;
use crate::{delete, metadata, record};

pub(super) const PORTS: &str = "/claims/node-port/";

/// What is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Thing {
    Address(IpAddr),
    Port(u16),
}

/// The owner of what an object of a kind claims.
pub(super) fn owner<'a>(resource: &Resource, object: &'a Value) -> Owner<'a> {
    Owner {
        group: resource.info.group,
        resource: resource.info.plural,
        namespace: metadata::text(object, "namespace"),
        name: metadata::text(object, "name"),
    }
}

/// How claims stand in the store.
pub(super) struct Keys<'a> {
    addresses: &'a Arc<Resource>,
    claims: &'static dyn AddressClaims,
}

impl<'a> Keys<'a> {
    pub(super) fn of(server: &'a ApiServer) -> Self {
        let (addresses, claims) = server.resources.address_claims();
        Self { addresses, claims }
    }

    /// What the keys of all address claims begin with.
    pub(super) fn address_prefix(&self) -> String {
        self.addresses.prefix(None)
    }

    /// The address that a key claims.
    pub(super) fn address(&self, key: &str) -> Option<IpAddr> {
        self.addresses.names(key).1.parse().ok()
    }

    pub(super) fn key(&self, thing: Thing) -> String {
        match thing {
            Thing::Address(address) => self.addresses.key("", &address.to_string()),
            Thing::Port(port) => format!("{PORTS}{port}"),
        }
    }

    /// Takes a thing for its owner.
    pub(super) fn put(&self, thing: Thing, owner: Owner<'_>) -> Op {
        let key = self.key(thing);
        match thing {
            Thing::Address(address) => {
                let mut object = self.claims.claim(address, owner);
                metadata::begin(&mut object);
                let value = record::encode(self.addresses, &object);
                Op::Put { key, value, meta: record::side_data(self.addresses, &object) }
            }
            Thing::Port(_) => {
                let owner = json!({
                    "group": owner.group, "resource": owner.resource, "namespace": owner.namespace, "name": owner.name,
                });
                Op::Put { key, value: svcd_store::Value::plain(owner.to_string()), meta: bytes::Bytes::new() }
            }
        }
    }

    /// Gives a thing up, if it is its owner's.
    pub(super) fn give_up(&self, thing: Thing, owner: Owner<'_>, claim: &Record) -> Option<Op> {
        let object = record::decode(claim);
        match thing {
            Thing::Address(_) if self.claims.owner(&object) == Some(owner) => {
                delete::removal(self.addresses, claim, &object)
            }
            Thing::Port(_) if named_owner(&object) == owner => {
                Some(Op::Delete { key: claim.key.to_string(), last: None })
            }
            _ => None,
        }
    }
}

/// The owner that a claim without a kind of its own names in its fields.
pub(super) fn named_owner(claim: &Value) -> Owner<'_> {
    let text = |field: &str| claim[field].as_str().unwrap_or_default();
    Owner {
        group: text("group"),
        resource: text("resource"),
        namespace: text("namespace"),
        name: text("name"),
    }
}
