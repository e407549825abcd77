//! IPAddresses and ServiceCIDRs, against what a real server answers.

use ipnet::IpNet;
use serde_json::{Value, json};
use svcd_api::addresses::Owner;

use crate::harness::{create_named, errors, kind, merged, row, status};

fn address(name: &str, spec: Value) -> Result<Value, Vec<String>> {
    create_named("IPAddress", name, json!({ "spec": spec }))
}

fn range(cidrs: &[&str]) -> Result<Value, Vec<String>> {
    create_named("ServiceCIDR", "sc2", json!({ "spec": { "cidrs": cidrs } }))
}

#[test]
fn the_claim_of_a_service() {
    let owner = Owner { group: "", resource: "services", namespace: "default", name: "kubernetes" };
    let claims = kind("IPAddress").address_claims().unwrap();
    let claim = claims.claim("10.96.0.1".parse().unwrap(), owner);
    assert_eq!(
        claim,
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IPAddress",
            "metadata": {
                "name": "10.96.0.1",
                "labels": {
                    "ipaddress.kubernetes.io/ip-family": "IPv4",
                    "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
                },
            },
            "spec": { "parentRef": { "name": "kubernetes", "namespace": "default", "resource": "services" } },
        })
    );
    assert_eq!(kind("IPAddress").decode(claim.clone()).unwrap().object, claim, "it is canonical");
    assert_eq!(claims.owner(&claim), Some(owner));
    assert_eq!(row(&claim), ["10.96.0.1", "services/default/kubernetes"]);
    let six = claims.claim(
        "fd00::1".parse().unwrap(),
        Owner { group: "g.io", resource: "things", namespace: "", ..owner },
    );
    assert_eq!(six["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"], "IPv6");
    assert_eq!(row(&six), ["fd00::1", "things.g.io/kubernetes"]);
}

#[test]
fn bad_addresses() {
    let parent = || json!({ "parentRef": { "resource": "services", "namespace": "t1", "name": "web" } });
    assert!(address("10.96.0.200", parent()).is_ok());
    assert!(address("fd00::1", parent()).is_ok());
    assert_eq!(
        errors(address("web", parent())),
        [
            "metadata.name: Invalid value: \"web\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
        ]
    );
    assert_eq!(
        errors(address("fd00::0:1", parent())),
        ["metadata.name: Invalid value: \"fd00::0:1\": must be in canonical form (\"fd00::1\")"]
    );
    assert_eq!(errors(address("10.0.0.1", json!({}))), ["spec.parentRef: Required value"]);
    assert_eq!(
        errors(address(
            "10.0.0.1",
            json!({ "parentRef": { "group": "G", "namespace": "a/b", "name": "x" } })
        ))
        .len(),
        3
    );
    assert_eq!(
        errors(address("10.0.0.1", json!({ "parentRef": { "resource": "services" } }))),
        ["spec.parentRef.name: Required value"]
    );
}

#[test]
fn the_parent_of_an_address_stays() {
    let held = address("10.0.0.1", json!({ "parentRef": { "resource": "services", "name": "a" } })).unwrap();
    assert!(merged(&held, json!({ "metadata": { "labels": { "a": "b" } } })).is_ok());
    assert_eq!(
        errors(merged(&held, json!({ "spec": { "parentRef": { "name": "b" } } }))),
        [r#"spec.parentRef: Invalid value: {"name":"b","resource":"services"}: field is immutable"#]
    );
}

#[test]
fn bad_ranges() {
    let kinds = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
    for (cidrs, want) in [
        (&[][..], "spec.cidrs: Required value: at least one CIDR required".to_owned()),
        (
            &["10.97.0.1/28"],
            r#"spec.cidrs[0]: Invalid value: "10.97.0.1/28": must not have bits set beyond the prefix length"#.to_owned(),
        ),
        (
            &["10.97.0.0"],
            r#"spec.cidrs[0]: Invalid value: "10.97.0.0": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"#
                .to_owned(),
        ),
        (
            &["FD00::/108"],
            r#"spec.cidrs[0]: Invalid value: "FD00::/108": must be in canonical form ("fd00::/108")"#.to_owned(),
        ),
        (
            &["10.97.0.0/28", "10.98.0.0/28"],
            format!(r#"spec.cidrs: Invalid value: ["10.97.0.0/28","10.98.0.0/28"]: {kinds}"#),
        ),
        (
            &["10.97.0.0/28", "fd00::/108", "fd01::/108"],
            r#"spec.cidrs: Invalid value: ["10.97.0.0/28","fd00::/108","fd01::/108"]: may only hold up to 2 values"#
                .to_owned(),
        ),
    ] {
        assert_eq!(errors(range(cidrs)), [want], "{cidrs:?}");
    }
    assert!(range(&["fd00::/108", "10.97.0.0/28"]).is_ok());
}

#[test]
fn a_range_stays_but_for_a_second_family() {
    let single = range(&["10.97.0.0/28"]).unwrap();
    let change = |old: &Value, cidrs: &[&str]| merged(old, json!({ "spec": { "cidrs": cidrs } }));
    assert_eq!(
        errors(change(&single, &["10.98.0.0/28"])),
        [r#"spec.cidrs[0]: Invalid value: "10.98.0.0/28": field is immutable"#]
    );
    let both = change(&single, &["10.97.0.0/28", "fd00::/108"]).unwrap();
    assert_eq!(
        errors(change(&single, &["10.98.0.0/28", "fd00::/108"])),
        [r#"spec.cidrs[0]: Invalid value: "10.98.0.0/28": field is immutable"#]
    );
    assert_eq!(
        errors(change(&both, &["10.97.0.0/28"])),
        [r#"spec.cidrs: Invalid value: ["10.97.0.0/28"]: field is immutable"#]
    );
    assert_eq!(
        errors(change(&both, &["fd00::/108", "10.97.0.0/28"])).len(),
        2,
        "the order counts, since the first is the usual family"
    );
    assert_eq!(row(&both)[1], "10.97.0.0/28,fd00::/108");
}

#[test]
fn which_ranges_are_open() {
    let ranges = kind("ServiceCIDR").address_ranges().unwrap();
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    let range = range(&["10.97.0.0/28", "fd00::/108"]).unwrap();
    let both = vec![net("10.97.0.0/28"), net("fd00::/108")];
    assert_eq!(ranges.open(&range), both);
    let condition = |value: &str| {
        json!({ "conditions": [{
            "type": "Ready", "status": value, "reason": "", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }] })
    };
    assert_eq!(ranges.open(&status(&range, condition("True")).unwrap()), both);
    assert_eq!(ranges.open(&status(&range, condition("False")).unwrap()), []);
    let mut deleted = range.clone();
    deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    assert_eq!(ranges.open(&deleted), []);
    let usual = ranges.usual(&[net("10.96.0.0/24"), net("fd00::/108")]);
    assert_eq!((usual["metadata"]["name"].as_str(), ranges.open(&usual).len()), (Some("kubernetes"), 2));
    assert_eq!(kind("ServiceCIDR").decode(usual.clone()).unwrap().object, usual);
}
