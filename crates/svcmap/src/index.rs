//! The index of Services with their endpoints, fed by the events of two watches.
//!
//! What it holds is a function of the objects that exist now, never of the order in which they came: an object that
//! cannot be used counts as absent, and slices wait for their Service. Only the Services touched are recomputed, when
//! [`Index::take_update`] asks. A relist (`reset_…`) is a difference too: it deletes what is gone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service as ServiceObject;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::convert::{self, Slice, Unusable};
use crate::{Endpoint, Entry, Service, ServiceName};

/// What changed since the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// Everything there is; whatever else a reader holds is gone. Comes first.
    Reset(Vec<Arc<Entry>>),
    /// What differs; `None` for a Service that is gone.
    Changed(BTreeMap<ServiceName, Option<Arc<Entry>>>),
}

/// A slice's own namespace and name; the same shape as a Service's, never compared with one.
type SliceName = ServiceName;

/// The index. See the module.
#[derive(Debug, Default)]
pub struct Index {
    services: HashMap<ServiceName, Service>,
    slices: HashMap<ServiceName, BTreeMap<SliceName, Slice>>,
    owners: HashMap<SliceName, ServiceName>,
    entries: BTreeMap<ServiceName, Arc<Entry>>,
    touched: BTreeSet<ServiceName>,
    services_known: bool,
    slices_known: bool,
    started: bool,
}

impl Index {
    /// An empty index, which gives no update until both kinds have been reset once.
    pub fn new() -> Self {
        Self::default()
    }

    /// A Service as it is now. True when that changes anything.
    pub fn apply_service(&mut self, object: &ServiceObject) -> bool {
        match convert::service(object) {
            Ok(service) => self.put_service(service),
            Err(error) => {
                skipped("Service", &object.metadata, &error);
                convert::object_name(&object.metadata).is_ok_and(|name| self.remove_service(&name))
            }
        }
    }

    /// A Service is gone. True when it was there.
    pub fn delete_service(&mut self, namespace: &str, name: &str) -> bool {
        self.remove_service(&ServiceName::new(namespace, name))
    }

    /// All Services there are now; others are gone. True when that changes anything.
    pub fn reset_services<'a>(&mut self, objects: impl IntoIterator<Item = &'a ServiceObject>) -> bool {
        let mut gone: BTreeSet<ServiceName> = self.services.keys().cloned().collect();
        let mut changed = false;
        for object in objects {
            if let Ok(name) = convert::object_name(&object.metadata) {
                gone.remove(&name);
            }
            changed |= self.apply_service(object);
        }
        for name in gone {
            changed |= self.remove_service(&name);
        }
        self.services_known = true;
        changed
    }

    /// An EndpointSlice as it is now. True when that changes anything.
    pub fn apply_slice(&mut self, object: &EndpointSlice) -> bool {
        let Ok(name) = convert::object_name(&object.metadata)
            .inspect_err(|error| skipped("EndpointSlice", &object.metadata, error))
        else {
            return false;
        };
        match convert::slice(object) {
            Ok(Some(slice)) => self.put_slice(name, slice),
            Ok(None) => self.remove_slice(&name),
            Err(error) => {
                skipped("EndpointSlice", &object.metadata, &error);
                self.remove_slice(&name)
            }
        }
    }

    /// An EndpointSlice is gone. True when it was there.
    pub fn delete_slice(&mut self, namespace: &str, name: &str) -> bool {
        self.remove_slice(&ServiceName::new(namespace, name))
    }

    /// All EndpointSlices there are now; others are gone. True when that changes anything.
    pub fn reset_slices<'a>(&mut self, objects: impl IntoIterator<Item = &'a EndpointSlice>) -> bool {
        let mut gone: BTreeSet<SliceName> = self.owners.keys().cloned().collect();
        let mut changed = false;
        for object in objects {
            if let Ok(name) = convert::object_name(&object.metadata) {
                gone.remove(&name);
            }
            changed |= self.apply_slice(object);
        }
        for name in gone {
            changed |= self.remove_slice(&name);
        }
        self.slices_known = true;
        changed
    }

    /// What changed since the last call; `None` when nothing did, or while one of the kinds is not known yet.
    pub fn take_update(&mut self) -> Option<Update> {
        if !(self.services_known && self.slices_known) {
            return None;
        }
        let mut changed = BTreeMap::new();
        for name in std::mem::take(&mut self.touched) {
            let now = self.compute(&name).map(Arc::new);
            if self.entries.get(&name) == now.as_ref() {
                continue;
            }
            match &now {
                Some(entry) => self.entries.insert(name.clone(), Arc::clone(entry)),
                None => self.entries.remove(&name),
            };
            changed.insert(name, now);
        }
        if !std::mem::replace(&mut self.started, true) {
            return Some(Update::Reset(self.entries.values().cloned().collect()));
        }
        if changed.is_empty() { None } else { Some(Update::Changed(changed)) }
    }

    /// One Service with its endpoints, as of the last update.
    pub fn get(&self, name: &ServiceName) -> Option<&Arc<Entry>> {
        self.entries.get(name)
    }

    /// All Services with their endpoints, as of the last update, in order of their names.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values()
    }

    fn put_service(&mut self, service: Service) -> bool {
        if self.services.get(&service.name) == Some(&service) {
            return false;
        }
        self.touched.insert(service.name.clone());
        self.services.insert(service.name.clone(), service);
        true
    }

    fn remove_service(&mut self, name: &ServiceName) -> bool {
        let removed = self.services.remove(name).is_some();
        if removed {
            self.touched.insert(name.clone());
        }
        removed
    }

    fn put_slice(&mut self, name: SliceName, slice: Slice) -> bool {
        if self.owners.get(&name).is_some_and(|owner| *owner != slice.service) {
            self.remove_slice(&name);
        }
        let service = slice.service.clone();
        let of_service = self.slices.entry(service.clone()).or_default();
        if of_service.get(&name) == Some(&slice) {
            return false;
        }
        of_service.insert(name.clone(), slice);
        self.owners.insert(name, service.clone());
        self.touched.insert(service);
        true
    }

    fn remove_slice(&mut self, name: &SliceName) -> bool {
        let Some(service) = self.owners.remove(name) else { return false };
        if let Some(of_service) = self.slices.get_mut(&service) {
            of_service.remove(name);
            if of_service.is_empty() {
                self.slices.remove(&service);
            }
        }
        self.touched.insert(service);
        true
    }

    fn compute(&self, name: &ServiceName) -> Option<Entry> {
        let service = self.services.get(name)?.clone();
        let mut endpoints: BTreeMap<_, Vec<Endpoint>> = BTreeMap::new();
        let mut portless = Vec::new();
        for slice in self.slices.get(name).into_iter().flat_map(BTreeMap::values) {
            if slice.ports.is_empty() {
                portless.extend(slice.endpoints.iter().cloned());
            }
            for (port, protocol, number) in &slice.ports {
                let at_port =
                    slice.endpoints.iter().map(|endpoint| Endpoint { port: *number, ..endpoint.clone() });
                endpoints.entry((Arc::clone(port), *protocol)).or_default().extend(at_port);
            }
        }
        endpoints.values_mut().for_each(order);
        order(&mut portless);
        Some(Entry { service, endpoints, portless })
    }
}

/// By address and port, each once. While an endpoint moves between slices it stands in both: the better state counts.
fn order(endpoints: &mut Vec<Endpoint>) {
    endpoints.sort_unstable_by(|one, other| {
        let place = (one.address, one.port).cmp(&(other.address, other.port));
        place
            .then_with(|| (other.ready, other.serving).cmp(&(one.ready, one.serving)))
            .then_with(|| one.cmp(other))
    });
    endpoints.dedup_by(|later, first| (later.address, later.port) == (first.address, first.port));
    endpoints.shrink_to_fit();
}

fn skipped(kind: &str, metadata: &ObjectMeta, error: &Unusable) {
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = metadata.name.as_deref().unwrap_or_default();
    tracing::warn!(kind, namespace, name, %error, "an object is skipped");
}
