//! Merge keys: which lists of an object a strategic merge patch merges element by element, and by which fields. Lists
//! that stand nowhere here are replaced whole. The tables are upstream's `patchMergeKey` tags.
//!
//! Where upstream's key alone is not unique (53/UDP and 53/TCP), a second field tells the elements apart.

/// What every object has.
const METADATA: &[(&str, &[&str])] = &[("metadata.ownerReferences", &["uid"]), ("metadata.finalizers", &[])];

/// Below a pod's spec.
const POD_SPEC: &[(&str, &[&str])] = &[
    ("volumes", &["name"]),
    ("imagePullSecrets", &["name"]),
    ("hostAliases", &["ip"]),
    ("topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ("schedulingGates", &["name"]),
    ("resourceClaims", &["name"]),
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("ephemeralContainers", &["name"]),
];

/// Below a container, of any of the three lists.
const CONTAINER: &[(&str, &[&str])] = &[
    ("ports", &["containerPort", "protocol"]),
    ("env", &["name"]),
    ("volumeMounts", &["mountPath"]),
    ("volumeDevices", &["devicePath"]),
];

/// The keys of the list at a path: the kind's own table first, then what it shares with others.
pub(crate) fn lookup(
    path: &str,
    own: &'static [(&'static str, &'static [&'static str])],
    pod_spec: Option<&str>,
) -> Option<&'static [&'static str]> {
    find(own, path).or_else(|| find(METADATA, path)).or_else(|| {
        let prefix = pod_spec?;
        let below_spec = path.strip_prefix(prefix)?.strip_prefix('.')?;
        find(POD_SPEC, below_spec).or_else(|| {
            let (list, field) = below_spec.split_once('.')?;
            list.to_lowercase().ends_with("containers").then(|| find(CONTAINER, field)).flatten()
        })
    })
}

fn find(
    table: &'static [(&'static str, &'static [&'static str])],
    path: &str,
) -> Option<&'static [&'static str]> {
    table.iter().find(|(listed, _)| *listed == path).map(|(_, keys)| *keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_and_own_keys() {
        let own: &[(&str, &[&str])] = &[("spec.ports", &["port"])];
        assert_eq!(lookup("spec.ports", own, None), Some(&["port"][..]));
        assert_eq!(lookup("metadata.finalizers", own, None), Some(&[][..]));
        assert_eq!(lookup("spec.containers", own, None), None);
        let template = Some("spec.template.spec");
        assert_eq!(lookup("spec.template.spec.containers", own, template), Some(&["name"][..]));
        let ports = lookup("spec.template.spec.initContainers.ports", own, template);
        assert_eq!(ports, Some(&["containerPort", "protocol"][..]));
        assert_eq!(lookup("spec.template.spec.containers.args", own, template), None);
        assert_eq!(lookup("spec.containers.env", own, Some("spec")), Some(&["name"][..]));
        assert_eq!(lookup("spec.tolerations", own, Some("spec")), None);
    }
}
