//! The registry and the headings of the tables.

use svcd_api::registry;

use crate::harness::kind;

#[test]
fn headings() {
    for (name, always, wide) in [
        ("CertificateSigningRequest", "Name Age SignerName Requestor RequestedDuration Condition", ""),
        ("ClusterRole", "Name Created At", ""),
        ("ClusterRoleBinding", "Name Role Age", "Users Groups ServiceAccounts"),
        ("ConfigMap", "Name Data Age", ""),
        ("ControllerRevision", "Name Controller Revision Age", ""),
        (
            "DaemonSet",
            "Name Desired Current Ready Up-to-date Available Node Selector Age",
            "Containers Images Selector",
        ),
        ("Deployment", "Name Ready Up-to-date Available Age", "Containers Images Selector"),
        ("EndpointSlice", "Name AddressType Ports Endpoints Age", ""),
        ("Endpoints", "Name Endpoints Age", ""),
        ("Event", "Last Seen Type Reason Object Message", "Subobject Source First Seen Count Name"),
        ("Ingress", "Name Class Hosts Address Ports Age", ""),
        ("IngressClass", "Name Controller Parameters Age", ""),
        ("IPAddress", "Name ParentRef", ""),
        ("Lease", "Name Holder Age", ""),
        ("Namespace", "Name Status Age", ""),
        ("NetworkPolicy", "Name Pod-Selector Age", ""),
        (
            "Node",
            "Name Status Roles Age Version",
            "Internal-IP External-IP OS-Image Kernel-Version Container-Runtime",
        ),
        ("Pod", "Name Ready Status Restarts Age", "IP Node Nominated Node Readiness Gates"),
        ("PodDisruptionBudget", "Name Min Available Max Unavailable Allowed Disruptions Age", ""),
        ("ReplicaSet", "Name Desired Current Ready Age", "Containers Images Selector"),
        ("Role", "Name Created At", ""),
        ("RoleBinding", "Name Role Age", "Users Groups ServiceAccounts"),
        ("ReplicationController", "Name Desired Current Ready Age", "Containers Images Selector"),
        ("Secret", "Name Type Data Age", ""),
        ("Service", "Name Type Cluster-IP External-IP Port(s) Age", "Selector"),
        ("ServiceAccount", "Name Age", ""),
        ("ServiceCIDR", "Name CIDRs Age", ""),
        ("StatefulSet", "Name Ready Age", "Containers Images"),
    ] {
        let headings = |priority: i32| {
            let columns = kind(name).columns().iter().filter(|c| c.priority == priority);
            columns.map(|c| c.name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!((headings(0).as_str(), headings(1).as_str()), (always, wide), "{name}");
    }
}

#[test]
fn every_kind_is_found_by_each_of_its_names() {
    let mut count = 0;
    for kind in registry().all() {
        let info = kind.info();
        let found = registry().by_plural(info.group, info.version, info.plural).unwrap();
        assert_eq!(found.info().kind, info.kind);
        assert_eq!(registry().by_kind(&info.api_version(), info.kind).unwrap().info().plural, info.plural);
        assert_eq!(info.plural, info.plural.to_lowercase());
        assert_eq!(info.singular, info.kind.to_lowercase());
        count += 1;
    }
    assert_eq!(count, 35);
    assert!(registry().by_plural("apps", "v1", "services").is_none());
    assert!(registry().by_kind("v2", "Service").is_none());
}
