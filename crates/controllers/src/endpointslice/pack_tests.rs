use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::discovery::v1::EndpointConditions;
use proptest::prelude::*;

use super::*;

fn template() -> Template {
    Template {
        namespace: "ns".to_owned(),
        name: "web".to_owned(),
        labels: Labels::from([("kubernetes.io/service-name".to_owned(), "web".to_owned())]),
        annotations: Labels::new(),
        owner: OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Service".to_owned(),
            name: "web".to_owned(),
            uid: "service".to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        },
        families: vec!["IPv4".to_owned()],
    }
}

fn shape(port: i32) -> Shape {
    let port = Port { name: String::new(), protocol: "TCP".to_owned(), port: Some(port), app_protocol: None };
    Shape { address_type: "IPv4".to_owned(), ports: vec![port] }
}

fn endpoint(n: u16, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![format!("10.0.{}.{}", n >> 8, n & 255)],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        target_ref: Some(ObjectReference { uid: Some(format!("pod-{n}")), ..ObjectReference::default() }),
        ..Endpoint::default()
    }
}

fn desired(port: i32, numbers: impl IntoIterator<Item = u16>) -> Desired {
    let endpoints: Vec<Endpoint> = numbers.into_iter().map(|n| endpoint(n, true)).collect();
    if endpoints.is_empty() { Desired::new() } else { Desired::from([(shape(port), endpoints)]) }
}

/// What a server would hold after the plan.
fn carry_out(plan: &Plan, existing: &[EndpointSlice], named: &mut usize) -> Vec<EndpointSlice> {
    let name = |slice: &EndpointSlice| slice.metadata.name.clone();
    let mut next: Vec<EndpointSlice> = existing.to_vec();
    next.retain(|slice| !plan.delete.iter().any(|gone| name(gone) == name(slice)));
    for slice in &mut next {
        if let Some(updated) = plan.update.iter().find(|updated| name(updated) == name(slice)) {
            slice.clone_from(updated);
        }
    }
    for created in &plan.create {
        let mut created = created.clone();
        *named += 1;
        created.metadata.name = Some(format!("web-{named}"));
        next.push(created);
    }
    next
}

fn held(slices: &[EndpointSlice]) -> BTreeMap<(String, i32), bool> {
    let mut held = BTreeMap::new();
    for slice in slices {
        let port = slice.ports.as_ref().and_then(|ports| ports.first()).and_then(|port| port.port);
        for endpoint in slice.endpoints.iter().flatten() {
            let key = (endpoint.addresses[0].clone(), port.unwrap());
            let ready = endpoint.conditions.as_ref().unwrap().ready.unwrap();
            assert_eq!(held.insert(key, ready), None, "an endpoint stands twice");
        }
    }
    held
}

fn sizes(slices: &[EndpointSlice]) -> Vec<usize> {
    let mut sizes: Vec<usize> = slices.iter().map(|s| s.endpoints.as_ref().unwrap().len()).collect();
    sizes.sort_unstable();
    sizes
}

#[test]
fn a_service_without_pods_has_one_empty_slice_and_keeps_it() {
    let mut named = 0;
    let slices = carry_out(&plan(&template(), Desired::new(), &[]), &[], &mut named);
    assert_eq!(sizes(&slices), [0]);
    assert!(plan(&template(), Desired::new(), &slices).is_empty());
}

#[test]
fn the_first_endpoint_rewrites_the_empty_slice_and_the_last_leaves_one() {
    let mut named = 0;
    let empty = carry_out(&plan(&template(), Desired::new(), &[]), &[], &mut named);
    let first = plan(&template(), desired(80, [1]), &empty);
    assert_eq!((first.create.len(), first.update.len(), first.delete.len()), (0, 1, 0));
    let one = carry_out(&first, &empty, &mut named);
    let last = plan(&template(), Desired::new(), &one);
    assert_eq!((last.create.len(), last.update.len(), last.delete.len()), (0, 1, 0));
    assert_eq!(sizes(&carry_out(&last, &one, &mut named)), [0]);
}

#[test]
fn one_change_among_a_thousand_rewrites_one_slice() {
    let mut named = 0;
    let slices = carry_out(&plan(&template(), desired(80, 0..1000), &[]), &[], &mut named);
    assert_eq!(sizes(&slices), [100; 10]);
    let mut changed = desired(80, 0..1000);
    changed.get_mut(&shape(80)).unwrap()[555] = endpoint(555, false);
    let readiness = plan(&template(), changed, &slices);
    assert_eq!((readiness.create.len(), readiness.update.len(), readiness.delete.len()), (0, 1, 0));
    let one_less = plan(&template(), desired(80, (0..1000).filter(|n| *n != 555)), &slices);
    assert_eq!((one_less.create.len(), one_less.update.len(), one_less.delete.len()), (0, 1, 0));
    let replaced = plan(&template(), desired(80, (0..1000).filter(|n| *n != 555).chain([2000])), &slices);
    assert_eq!((replaced.create.len(), replaced.update.len(), replaced.delete.len()), (0, 1, 0));
    let one_more = plan(&template(), desired(80, 0..1001), &slices);
    assert_eq!((one_more.create.len(), one_more.update.len(), one_more.delete.len()), (1, 0, 0));
}

#[test]
fn other_ports_are_other_slices() {
    let mut both = desired(80, [1, 2]);
    both.extend(desired(81, [3]));
    let mut named = 0;
    let slices = carry_out(&plan(&template(), both, &[]), &[], &mut named);
    assert_eq!(sizes(&slices), [1, 2]);
}

#[test]
fn labels_and_owner_are_put_right() {
    let mut named = 0;
    let mut slices = carry_out(&plan(&template(), desired(80, [1]), &[]), &[], &mut named);
    slices[0].metadata.labels.as_mut().unwrap().insert("stray".to_owned(), "x".to_owned());
    slices[0].metadata.owner_references = None;
    let repair = plan(&template(), desired(80, [1]), &slices);
    let repaired = carry_out(&repair, &slices, &mut named);
    assert_eq!(repaired[0].metadata.labels, Some(template().labels));
    assert_eq!(repaired[0].metadata.owner_references, Some(vec![template().owner]));
}

#[test]
fn an_overfull_or_doubled_slice_is_repaired() {
    let mut named = 0;
    let mut slices = carry_out(&plan(&template(), desired(80, 0..100), &[]), &[], &mut named);
    let endpoints = slices[0].endpoints.as_mut().unwrap();
    endpoints.extend((100..150).map(|n| endpoint(n, true)));
    endpoints.push(endpoint(3, true));
    let repair = plan(&template(), desired(80, 0..150), &slices);
    let repaired = carry_out(&repair, &slices, &mut named);
    assert_eq!(held(&repaired).len(), 150);
    assert_eq!(sizes(&repaired), [50, 100]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is asked for, one step after the other: no slice is overfull, every endpoint stands exactly once with
    /// its newest state, a second look changes nothing, and no more slices are touched than there are changes.
    #[test]
    fn any_history_keeps_the_promises(
        steps in prop::collection::vec(prop::collection::btree_map(0_u16..260, (80..82_i32, any::<bool>()), 0..260), 1..6)
    ) {
        let mut slices: Vec<EndpointSlice> = Vec::new();
        let mut named = 0;
        for step in steps {
            let mut wanted = Desired::new();
            for (n, (port, ready)) in &step {
                wanted.entry(shape(*port)).or_default().push(endpoint(*n, *ready));
            }
            let expected: BTreeMap<(String, i32), bool> =
                step.iter().map(|(n, (port, ready))| ((endpoint(*n, true).addresses[0].clone(), *port), *ready)).collect();
            let before = held(&slices);
            let writes = plan(&template(), wanted.clone(), &slices);
            let next = carry_out(&writes, &slices, &mut named);
            prop_assert!(next.iter().all(|slice| slice.endpoints.as_ref().unwrap().len() <= CAPACITY));
            prop_assert_eq!(held(&next), expected.clone());
            prop_assert!(!next.is_empty());
            let again = plan(&template(), wanted, &next);
            prop_assert!(again.is_empty(), "{:?}", again);
            let changes = expected.iter().filter(|(k, v)| before.get(*k) != Some(*v)).count()
                + before.keys().filter(|k| !expected.contains_key(*k)).count();
            let touched = writes.create.len() + writes.update.len() + writes.delete.len();
            prop_assert!(touched <= changes.max(1), "{} writes for {} changes", touched, changes);
            slices = next;
        }
    }
}
