//! The maps behind the zone: Services by key, by address, and the namespaces that have any.
//!
//! Promises: after any sequence of installs the maps hold the same as after one reset with the result (a test says so).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use svcd_svcmap::{ServiceName, Update};
use tracing::warn;

use super::records::Records;
use crate::name::label_wire;

/// A Service's `name.namespace` in wire form.
type Key = Box<[u8]>;

/// An update, laid out.
#[derive(Debug)]
pub struct Prepared(Change);

#[derive(Debug)]
enum Change {
    Reset(Index),
    Changed(Vec<(Key, Option<Arc<Records>>)>),
}

/// What is known, by what it is asked for.
#[derive(Debug, Default)]
pub(super) struct Index {
    services: HashMap<Box<[u8]>, Arc<Records>>,
    addresses: HashMap<IpAddr, Vec<Arc<Records>>>,
    namespaces: HashMap<Box<[u8]>, usize>,
}

impl Prepared {
    /// Lays out `update`. A Service that cannot be in DNS is logged and left out.
    #[must_use]
    pub fn new(update: &Update) -> Self {
        Self(match update {
            Update::Reset(entries) => {
                let mut index = Index::default();
                for entry in entries {
                    if let Some(records) = laid_out(&entry.service.name, Records::new(entry)) {
                        index.insert(Arc::new(records));
                    }
                }
                Change::Reset(index)
            }
            Update::Changed(changes) => {
                let change = |(name, entry): (&ServiceName, &Option<Arc<_>>)| {
                    let key = laid_out(name, service_key(name))?;
                    Some((key, entry.as_ref().and_then(Records::new).map(Arc::new)))
                };
                Change::Changed(changes.iter().filter_map(change).collect())
            }
        })
    }

    /// Whether this replaces everything.
    pub(super) fn is_reset(&self) -> bool {
        matches!(self.0, Change::Reset(_))
    }
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.services.len()
    }

    /// The Service under `name.namespace` in wire form.
    pub(super) fn service(&self, key: &[u8]) -> Option<&Records> {
        self.services.get(key).map(AsRef::as_ref)
    }

    /// The Services that `address` or a host there belongs to.
    pub(super) fn at(&self, address: IpAddr) -> &[Arc<Records>] {
        self.addresses.get(&address).map_or(&[], Vec::as_slice)
    }

    /// Whether a Service lives in the namespace whose label this is.
    pub(super) fn has_namespace(&self, label: &[u8]) -> bool {
        self.namespaces.contains_key(label)
    }

    pub(super) fn install(&mut self, prepared: Prepared) -> Prepared {
        Prepared(match prepared.0 {
            Change::Reset(index) => Change::Reset(std::mem::replace(self, index)),
            Change::Changed(changes) => Change::Changed(
                changes
                    .into_iter()
                    .map(|(key, records)| {
                        let old = self.remove(&key);
                        if let Some(records) = records {
                            self.insert(records);
                        }
                        (key, old)
                    })
                    .collect(),
            ),
        })
    }

    fn insert(&mut self, records: Arc<Records>) {
        self.remove(&records.key);
        *self.namespaces.entry(records.namespace().into()).or_default() += 1;
        for address in records.reverse_addresses() {
            self.addresses.entry(address).or_default().push(Arc::clone(&records));
        }
        self.services.insert(records.key.clone(), records);
    }

    fn remove(&mut self, key: &[u8]) -> Option<Arc<Records>> {
        let records = self.services.remove(key)?;
        for address in records.reverse_addresses() {
            if let Some(holders) = self.addresses.get_mut(&address) {
                holders.retain(|holder| !Arc::ptr_eq(holder, &records));
                if holders.is_empty() {
                    self.addresses.remove(&address);
                }
            }
        }
        if let Some(count) = self.namespaces.get_mut(records.namespace()) {
            *count -= 1;
            if *count == 0 {
                self.namespaces.remove(records.namespace());
            }
        }
        Some(records)
    }
}

/// `name.namespace` in wire form.
fn service_key(name: &ServiceName) -> Option<Box<[u8]>> {
    let labels = [label_wire(name.name.as_bytes())?, label_wire(name.namespace.as_bytes())?];
    Some(labels.concat().into_boxed_slice())
}

fn laid_out<T>(name: &ServiceName, made: Option<T>) -> Option<T> {
    if made.is_none() {
        warn!(kind = "Service", namespace = %name.namespace, name = %name.name, "left out of DNS: not a DNS label");
    }
    made
}
