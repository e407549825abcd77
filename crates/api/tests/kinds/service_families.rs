//! Address families of Services: upstream's defaults, the ways up and down, and what a cluster does not have.

use serde_json::{Value, json};
use svcd_api::addresses::Cluster;

use crate::harness::{cluster, create_in, errors, parse, update_in};

fn v4() -> Cluster {
    cluster(&["10.96.0.0/12"])
}

fn v6() -> Cluster {
    cluster(&["fd00::/108"])
}

fn v4_v6() -> Cluster {
    cluster(&["10.96.0.0/12", "fd00::/108"])
}

fn v6_v4() -> Cluster {
    cluster(&["fd00::/108", "10.96.0.0/12"])
}

fn service(cluster: &Cluster, spec: &str) -> Result<Value, Vec<String>> {
    let mut spec = parse(spec);
    spec["ports"] = json!([{ "port": 80 }]);
    create_in(cluster, "Service", "x", json!({ "spec": spec }))
}

fn merged(cluster: &Cluster, old: &Value, spec: &Value) -> Result<Value, Vec<String>> {
    let change = json!({ "spec": spec });
    update_in(cluster, old, svcd_api::patch::json_merge(old, &change).unwrap())
}

/// Policy, families, addresses.
fn seen(service: &Value) -> String {
    let list = |field: &str| {
        let all = service["spec"][field].as_array().into_iter().flatten();
        all.map(|v| v.as_str().unwrap()).collect::<Vec<_>>().join(",")
    };
    let policy = service["spec"]["ipFamilyPolicy"].as_str().unwrap_or("-");
    assert_eq!(service["spec"]["clusterIP"], service["spec"]["clusterIPs"][0]);
    format!("{policy} {} {}", list("ipFamilies"), list("clusterIPs"))
}

#[test]
fn new_services_get_the_families_that_upstream_gives_them() {
    let selected = r#""selector": {"app": "web"}"#;
    for (cluster, spec, want) in [
        (v4(), "{}", "SingleStack IPv4 10.96.0.10"),
        (v6(), "{}", "SingleStack IPv6 fd00::10"),
        (v4_v6(), "{}", "SingleStack IPv4 10.96.0.10"),
        (v6_v4(), "{}", "SingleStack IPv6 fd00::10"),
        (v4_v6(), r#"{"ipFamilies": ["IPv6"]}"#, "SingleStack IPv6 fd00::10"),
        (v4_v6(), r#"{"clusterIP": "fd00::7"}"#, "SingleStack IPv6 fd00::7"),
        (v4(), r#"{"ipFamilyPolicy": "PreferDualStack"}"#, "PreferDualStack IPv4 10.96.0.10"),
        (
            v4_v6(),
            r#"{"ipFamilyPolicy": "PreferDualStack"}"#,
            "PreferDualStack IPv4,IPv6 10.96.0.10,fd00::10",
        ),
        (
            v6_v4(),
            r#"{"ipFamilyPolicy": "PreferDualStack"}"#,
            "PreferDualStack IPv6,IPv4 fd00::10,10.96.0.10",
        ),
        (
            v4_v6(),
            r#"{"ipFamilyPolicy": "RequireDualStack"}"#,
            "RequireDualStack IPv4,IPv6 10.96.0.10,fd00::10",
        ),
        (
            v4_v6(),
            r#"{"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}"#,
            "RequireDualStack IPv6,IPv4 fd00::10,10.96.0.10",
        ),
        (
            v4_v6(),
            r#"{"ipFamilyPolicy": "PreferDualStack", "clusterIP": "fd00::7"}"#,
            "PreferDualStack IPv6,IPv4 fd00::7,10.96.0.10",
        ),
        (
            v4_v6(),
            r#"{"ipFamilyPolicy": "RequireDualStack", "clusterIP": "fd00::7", "clusterIPs": ["fd00::7", "10.96.0.7"]}"#,
            "RequireDualStack IPv6,IPv4 fd00::7,10.96.0.7",
        ),
        // Headless with a selector follows the cluster, without one it may name anything.
        (v4(), &format!(r#"{{"clusterIP": "None", {selected}}}"#), "SingleStack IPv4 None"),
        (v4_v6(), &format!(r#"{{"clusterIP": "None", {selected}}}"#), "SingleStack IPv4 None"),
        (
            v4_v6(),
            &format!(r#"{{"clusterIP": "None", "ipFamilyPolicy": "PreferDualStack", {selected}}}"#),
            "PreferDualStack IPv4,IPv6 None",
        ),
        (v4(), r#"{"clusterIP": "None"}"#, "RequireDualStack IPv4,IPv6 None"),
        (v6(), r#"{"clusterIP": "None"}"#, "RequireDualStack IPv6,IPv4 None"),
        (v4(), r#"{"clusterIP": "None", "ipFamilies": ["IPv6"]}"#, "RequireDualStack IPv6,IPv4 None"),
        (
            v4(),
            r#"{"clusterIP": "None", "ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"}"#,
            "SingleStack IPv6 None",
        ),
        // The spelling of an address is the client's.
        (v6(), r#"{"clusterIP": "FD00::0:7"}"#, "SingleStack IPv6 FD00::0:7"),
    ] {
        assert_eq!(seen(&service(&cluster, spec).unwrap()), want, "{spec}");
    }
}

#[test]
fn what_the_cluster_does_not_have_is_refused() {
    let policy =
        |value: &str, detail: &str| format!("spec.ipFamilyPolicy: Invalid value: \"{value}\": {detail}");
    for (cluster, spec, want) in [
        (
            v4(),
            r#"{"clusterIP": "fd00::1"}"#,
            r#"spec.clusterIPs[0]: Invalid value: ["fd00::1"]: IPv6 is not configured on this cluster"#.to_owned(),
        ),
        (
            v6(),
            r#"{"ipFamilies": ["IPv4"]}"#,
            r#"spec.ipFamilies[0]: Invalid value: "IPv4": not configured on this cluster"#.to_owned(),
        ),
        (
            v6(),
            r#"{"ipFamilyPolicy": "RequireDualStack"}"#,
            policy("RequireDualStack", "this cluster is not configured for dual-stack services"),
        ),
        (
            v4(),
            r#"{"clusterIP": "None", "selector": {"a": "b"}, "ipFamilyPolicy": "RequireDualStack"}"#,
            policy("RequireDualStack", "this cluster is not configured for dual-stack services"),
        ),
        (
            v4_v6(),
            r#"{"ipFamilies": ["IPv4", "IPv6"]}"#,
            policy(
                "SingleStack",
                "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
            ),
        ),
        (
            v4_v6(),
            r#"{"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"]}"#,
            policy(
                "SingleStack",
                "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified",
            ),
        ),
        (
            v4_v6(),
            r#"{"clusterIP": "10.96.0.7", "ipFamilies": ["IPv6"]}"#,
            r#"spec.clusterIPs[0]: Invalid value: "10.96.0.7": expected an IPv6 value as indicated by `ipFamilies[0]`"#
                .to_owned(),
        ),
        (
            v4_v6(),
            r#"{"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv4"]}"#,
            r#"spec.ipFamilies[1]: Duplicate value: "IPv4""#.to_owned(),
        ),
        (
            v4_v6(),
            r#"{"ipFamilies": ["IPv5"]}"#,
            r#"spec.ipFamilies[0]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6""#.to_owned(),
        ),
        (
            v4_v6(),
            r#"{"ipFamilyPolicy": "Both"}"#,
            r#"spec.ipFamilyPolicy: Unsupported value: "Both": supported values: "PreferDualStack", "RequireDualStack", "SingleStack""#
                .to_owned(),
        ),
        (
            v4_v6(),
            r#"{"clusterIP": "None", "clusterIPs": ["None", "10.96.0.7"], "ipFamilyPolicy": "RequireDualStack"}"#,
            r#"spec.clusterIPs: Invalid value: ["None","10.96.0.7"]: 'None' must be the first and only value"#.to_owned(),
        ),
        (
            v4_v6(),
            r#"{"clusterIP": "::ffff:10.96.0.7"}"#,
            r#"spec.clusterIPs[0]: Invalid value: "::ffff:10.96.0.7": must not be an IPv4-mapped IPv6 address"#.to_owned(),
        ),
    ] {
        assert_eq!(errors(service(&cluster, spec)), [want], "{spec}");
    }
    let external = r#"{"type": "ExternalName", "externalName": "a.com", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}"#;
    assert_eq!(
        errors(service(&v4_v6(), external)),
        [
            "spec.ipFamilies: Forbidden: may not be set for ExternalName services",
            "spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services",
        ]
    );
}

#[test]
fn up_to_two_families_and_back() {
    let dual = v4_v6();
    let single = service(&dual, "{}").unwrap();
    for (change, want) in [
        (json!({ "ipFamilyPolicy": "PreferDualStack" }), "PreferDualStack IPv4,IPv6 10.96.0.10,fd00::10"),
        (
            json!({ "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"] }),
            "RequireDualStack IPv4,IPv6 10.96.0.10,fd00::10",
        ),
        (
            json!({ "ipFamilyPolicy": "RequireDualStack", "clusterIPs": ["10.96.0.10", "fd00::7"] }),
            "RequireDualStack IPv4,IPv6 10.96.0.10,fd00::7",
        ),
    ] {
        let up = merged(&dual, &single, &change).unwrap();
        assert_eq!(seen(&up), want, "{change}");
        for down in [
            json!({ "ipFamilyPolicy": "SingleStack" }),
            json!({ "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"] }),
            json!({ "ipFamilyPolicy": "SingleStack", "clusterIPs": ["10.96.0.10"] }),
            json!({ "ipFamilyPolicy": "SingleStack", "clusterIPs": ["10.96.0.10"], "ipFamilies": ["IPv4"] }),
        ] {
            assert_eq!(merged(&dual, &up, &down).unwrap()["spec"], single["spec"], "{change}, then {down}");
        }
        // A write that says nothing of all this changes nothing of it.
        let mut silent = up.clone();
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            silent["spec"].as_object_mut().unwrap().remove(field);
        }
        assert_eq!(update_in(&dual, &up, silent).unwrap(), up, "{change}");
    }
}

#[test]
fn families_that_cannot_change() {
    let dual = v4_v6();
    let single = service(&dual, "{}").unwrap();
    let both = service(&dual, r#"{"ipFamilyPolicy": "RequireDualStack"}"#).unwrap();
    let release = |policy: &str, what: &str| {
        format!(
            "spec.ipFamilyPolicy: Invalid value: \"{policy}\": must be 'SingleStack' to release the secondary {what}"
        )
    };
    for (old, change, want) in [
        (
            &single,
            json!({ "ipFamilies": ["IPv6"] }),
            r#"spec.clusterIPs[0]: Invalid value: "10.96.0.10": expected an IPv6 value as indicated by `ipFamilies[0]`"#
                .to_owned(),
        ),
        (
            &single,
            json!({ "ipFamilies": ["IPv6"], "clusterIP": "fd00::7", "clusterIPs": ["fd00::7"] }),
            r#"spec.clusterIPs[0]: Invalid value: ["fd00::7"]: may not change once set"#.to_owned(),
        ),
        (&both, json!({ "ipFamilies": ["IPv4"] }), release("RequireDualStack", "IP family")),
        (&both, json!({ "clusterIPs": ["10.96.0.10"] }), release("RequireDualStack", "cluster IP")),
        (
            &both,
            json!({ "clusterIPs": ["10.96.0.10", "fd00::8"] }),
            r#"spec.clusterIPs[1]: Invalid value: ["10.96.0.10","fd00::8"]: may not change once set"#.to_owned(),
        ),
        (
            &both,
            json!({ "clusterIP": "fd00::10", "clusterIPs": ["fd00::10"], "ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack" }),
            r#"spec.clusterIPs[0]: Invalid value: ["fd00::10"]: may not change once set"#.to_owned(),
        ),
    ] {
        let refused = errors(merged(&dual, old, &change));
        assert_eq!(refused.first(), Some(&want), "{change}");
    }
}

#[test]
fn a_preference_is_not_acted_on_when_only_the_cluster_changes() {
    let preferring = service(&v4(), r#"{"ipFamilyPolicy": "PreferDualStack"}"#).unwrap();
    let labelled = json!({ "metadata": { "labels": { "a": "b" } } });
    let write = |cluster: &Cluster, old: &Value| {
        update_in(cluster, old, svcd_api::patch::json_merge(old, &labelled).unwrap()).unwrap()
    };
    assert_eq!(seen(&write(&v4_v6(), &preferring)), "PreferDualStack IPv4 10.96.0.10");
    let both = service(&v4_v6(), r#"{"ipFamilyPolicy": "PreferDualStack"}"#).unwrap();
    assert_eq!(seen(&write(&v4(), &both)), seen(&both));
    // Asked for, it is.
    let up = merged(&v4_v6(), &preferring, &json!({ "ipFamilyPolicy": "RequireDualStack" })).unwrap();
    assert_eq!(seen(&up), "RequireDualStack IPv4,IPv6 10.96.0.10,fd00::10");
}

#[test]
fn families_follow_the_type() {
    let dual = v4_v6();
    let both = service(&dual, r#"{"ipFamilyPolicy": "RequireDualStack"}"#).unwrap();
    let external = merged(&dual, &both, &json!({ "type": "ExternalName", "externalName": "a.com" })).unwrap();
    assert_eq!(seen(&external), "-  ");
    let back = merged(&dual, &external, &json!({ "type": "ClusterIP", "externalName": null })).unwrap();
    assert_eq!(seen(&back), "SingleStack IPv4 10.96.0.10");
    let headless = service(&dual, r#"{"clusterIP": "None", "selector": {"a": "b"}}"#).unwrap();
    let other = merged(&dual, &headless, &json!({ "ipFamilies": ["IPv6"] })).unwrap();
    assert_eq!(seen(&other), "SingleStack IPv6 None");
}
