//! A StatefulSet's pod: its name is its place in the set.

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::Pod;

use crate::history::{REVISION_HASH, template_of};
use crate::kit::meta;
use crate::kit::workload::pod_of;

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// A pod's number in the set of that name.
pub(super) fn ordinal(set: &str, pod: &Pod) -> Option<i32> {
    let digits = meta::name(&pod.metadata).strip_prefix(set)?.strip_prefix('-')?;
    let plain = digits == "0" || !digits.starts_with(['0', '+', '-']);
    digits.parse().ok().filter(|_| plain)
}

/// The revision that a pod was made from.
pub(super) fn revision(pod: &Pod) -> Option<&str> {
    meta::label(&pod.metadata, REVISION_HASH)
}

/// The pod of a number, from the template of a revision.
pub(super) fn new(set: &StatefulSet, ordinal: i32, revision: &ControllerRevision) -> Pod {
    let template = template_of(revision).unwrap_or_else(|| set.spec.template.clone());
    let name = format!("{}-{ordinal}", meta::name(&set.metadata));
    let mut pod = pod_of(set, template);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.to_owned(), name.clone());
    labels.insert(POD_INDEX.to_owned(), ordinal.to_string());
    labels.insert(REVISION_HASH.to_owned(), meta::name(&revision.metadata).to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name.clone());
    spec.subdomain = set.spec.service_name.clone().filter(|service| !service.is_empty());
    pod.metadata.name = Some(name);
    pod
}
