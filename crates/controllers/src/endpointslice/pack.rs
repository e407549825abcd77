//! How endpoints are laid into slices: a pure function of what must be there and what is there.
//!
//! Promises: every endpoint is in exactly one slice; no slice holds more than [`CAPACITY`]; what is right where it is
//! stays there, so that a change of one endpoint rewrites one slice. Refuses: to defragment. Slices that have grown
//! thin are filled by later additions, as upstream does.

use std::collections::HashMap;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::desired::{Desired, Port, Shape};
use crate::kit::selector::Labels;

/// Endpoints in a slice, upstream's default.
pub(crate) const CAPACITY: usize = 100;

/// What all slices of one owner have in common.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub(crate) namespace: String,
    /// Slices are named after it.
    pub(crate) name: String,
    pub(crate) labels: Labels,
    pub(crate) annotations: Labels,
    pub(crate) owner: OwnerReference,
    /// The families that get an empty slice when there is no endpoint at all.
    pub(crate) families: Vec<String>,
}

/// The writes that lead from what is there to what must be there; do them in this order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) create: Vec<EndpointSlice>,
    pub(crate) update: Vec<EndpointSlice>,
    pub(crate) delete: Vec<EndpointSlice>,
}

impl Plan {
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.create.is_empty() && self.update.is_empty() && self.delete.is_empty()
    }
}

/// A slice while it is being filled.
struct Draft<'a> {
    existing: Option<&'a EndpointSlice>,
    shape: Shape,
    endpoints: Vec<Endpoint>,
    changed: bool,
}

/// Lays the endpoints into slices.
pub(crate) fn plan(template: &Template, desired: Desired, existing: &[EndpointSlice]) -> Plan {
    let mut drafts = Vec::new();
    let mut spare: Vec<&EndpointSlice> =
        existing.iter().filter(|s| !desired.contains_key(&shape_of(s))).collect();
    for (shape, endpoints) in desired {
        let present = existing.iter().filter(|slice| shape_of(slice) == shape);
        let (kept, emptied) = fill(&shape, endpoints, present);
        drafts.extend(kept);
        spare.extend(emptied);
    }
    placeholders(template, &mut drafts);
    recycle(&mut drafts, &mut spare);
    let mut plan = Plan { delete: spare.into_iter().cloned().collect(), ..Plan::default() };
    for draft in drafts {
        settle(template, draft, &mut plan);
    }
    plan
}

fn shape_of(slice: &EndpointSlice) -> Shape {
    let mut ports: Vec<Port> = slice.ports.iter().flatten().map(Port::of_slice).collect();
    ports.sort();
    Shape { address_type: slice.address_type.clone(), ports }
}

/// Who an endpoint is, whatever its state: its pod, or else its addresses.
fn identity(endpoint: &Endpoint) -> String {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    uid.unwrap_or_else(|| endpoint.addresses.join(","))
}

/// Brings the slices of one shape up to date; the second part are those that nothing is left for.
fn fill<'a>(
    shape: &Shape,
    endpoints: Vec<Endpoint>,
    existing: impl Iterator<Item = &'a EndpointSlice>,
) -> (Vec<Draft<'a>>, Vec<&'a EndpointSlice>) {
    let order: Vec<String> = endpoints.iter().map(identity).collect();
    let mut wanted: HashMap<String, Endpoint> = order.iter().cloned().zip(endpoints).collect();
    let mut drafts: Vec<Draft<'a>> = existing.map(|slice| keep(shape, slice, &mut wanted)).collect();
    let mut rest: Vec<Endpoint> = order.iter().filter_map(|id| wanted.remove(id)).collect();
    // First into slices that are rewritten anyway, then into the fullest others that take all of the rest.
    for draft in drafts.iter_mut().filter(|d| d.changed && !d.endpoints.is_empty()) {
        draft.take(&mut rest);
    }
    if !rest.is_empty() && rest.len() < CAPACITY {
        let fitting = drafts.iter_mut().filter(|d| !d.changed && d.room() >= rest.len());
        if let Some(fullest) = fitting.min_by_key(|d| d.room()) {
            fullest.take(&mut rest);
        }
    }
    while !rest.is_empty() {
        let mut draft = Draft { existing: None, shape: shape.clone(), endpoints: Vec::new(), changed: true };
        draft.take(&mut rest);
        drafts.push(draft);
    }
    let (kept, emptied): (Vec<_>, Vec<_>) = drafts.into_iter().partition(|d| !d.endpoints.is_empty());
    (kept, emptied.into_iter().filter_map(|d| d.existing).collect())
}

/// What of a slice is still wanted, in its newest state and in its place.
fn keep<'a>(shape: &Shape, slice: &'a EndpointSlice, wanted: &mut HashMap<String, Endpoint>) -> Draft<'a> {
    let mut draft =
        Draft { existing: Some(slice), shape: shape.clone(), endpoints: Vec::new(), changed: false };
    for endpoint in slice.endpoints.iter().flatten() {
        let room = draft.endpoints.len() < CAPACITY;
        let Some(current) = room.then(|| wanted.remove(&identity(endpoint))).flatten() else {
            draft.changed = true;
            continue;
        };
        let current = Endpoint { hints: endpoint.hints.clone(), ..current };
        draft.changed |= current != *endpoint;
        draft.endpoints.push(current);
    }
    draft
}

impl Draft<'_> {
    fn room(&self) -> usize {
        CAPACITY.saturating_sub(self.endpoints.len())
    }

    fn take(&mut self, rest: &mut Vec<Endpoint>) {
        let count = self.room().min(rest.len());
        self.changed |= count > 0;
        self.endpoints.extend(rest.drain(..count));
    }
}

/// A Service without endpoints has one empty slice a family, so that watchers can tell "none" from "not yet known".
fn placeholders(template: &Template, drafts: &mut Vec<Draft<'_>>) {
    for family in &template.families {
        if !drafts.iter().any(|d| d.shape.address_type == *family) {
            let shape = Shape { address_type: family.clone(), ports: Vec::new() };
            drafts.push(Draft { existing: None, shape, endpoints: Vec::new(), changed: true });
        }
    }
}

/// Rewrites a slice that is no longer needed rather than deleting it and creating another.
fn recycle<'a>(drafts: &mut [Draft<'a>], spare: &mut Vec<&'a EndpointSlice>) {
    for draft in drafts.iter_mut().filter(|d| d.existing.is_none()) {
        let reusable = spare.iter().position(|s| s.address_type == draft.shape.address_type);
        if let Some(index) = reusable {
            let slice = spare.remove(index);
            let same_ports = shape_of(slice) == draft.shape;
            let same_endpoints = slice.endpoints.as_deref().unwrap_or_default() == draft.endpoints;
            draft.changed = !(same_ports && same_endpoints);
            draft.existing = Some(slice);
        }
    }
}

fn settle(template: &Template, draft: Draft<'_>, plan: &mut Plan) {
    let Some(existing) = draft.existing else {
        plan.create.push(slice(template, draft, ObjectMeta::default()));
        return;
    };
    let meta = &existing.metadata;
    let labelled = meta.labels.as_ref() == Some(&template.labels);
    let noted = template.annotations.iter().all(|(k, v)| crate::kit::meta::annotation(meta, k) == Some(v));
    let owned = meta.owner_references.iter().flatten().any(|owner| *owner == template.owner);
    if draft.changed || !labelled || !noted || !owned {
        plan.update.push(slice(template, draft, meta.clone()));
    }
}

fn slice(template: &Template, draft: Draft<'_>, base: ObjectMeta) -> EndpointSlice {
    let new = base.name.is_none();
    let mut annotations = base.annotations.clone().unwrap_or_default();
    annotations.extend(template.annotations.clone());
    let mut owners = base.owner_references.clone().unwrap_or_default();
    owners.retain(|owner| owner.uid != template.owner.uid && owner.controller != Some(true));
    owners.push(template.owner.clone());
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: if new { Some(format!("{}-", template.name)) } else { base.generate_name.clone() },
            namespace: Some(template.namespace.clone()),
            labels: Some(template.labels.clone()),
            annotations: Some(annotations).filter(|a| !a.is_empty()),
            owner_references: Some(owners),
            ..base
        },
        address_type: draft.shape.address_type,
        ports: Some(draft.shape.ports.iter().map(Port::to_slice).collect()),
        endpoints: Some(draft.endpoints),
    }
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
