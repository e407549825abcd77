//! Endpoints and EndpointSlices.

use serde_json::{Value, json};

use crate::harness::{create, errors, merged, patched, row};

fn endpoints(subsets: Value) -> Result<Value, Vec<String>> {
    create("Endpoints", json!({ "subsets": subsets }))
}

fn slice(address_type: &str, endpoints: Value, ports: Value) -> Result<Value, Vec<String>> {
    create("EndpointSlice", json!({ "addressType": address_type, "endpoints": endpoints, "ports": ports }))
}

#[test]
fn rows_of_endpoints() {
    let shown = |subsets: Value| row(&endpoints(subsets).unwrap())[1].clone();
    assert_eq!(shown(json!([])), "<none>");
    assert_eq!(
        shown(
            json!([{ "addresses": [{ "ip": "10.9.8.7" }], "ports": [{ "port": 36443, "name": "https" }] }])
        ),
        "10.9.8.7:36443"
    );
    let manual = json!([{
        "addresses": [{ "ip": "192.0.2.10" }, { "ip": "192.0.2.11" }],
        "ports": [{ "name": "http", "port": 8080 }, { "name": "dns", "port": 53, "protocol": "UDP" }],
    }]);
    assert_eq!(shown(manual), "192.0.2.10:8080,192.0.2.11:8080,192.0.2.10:53 + 1 more...");
    assert_eq!(
        shown(json!([{ "addresses": [{ "ip": "192.0.2.10" }, { "ip": "fd00::1" }] }])),
        "192.0.2.10,fd00::1"
    );
    assert_eq!(
        shown(json!([{ "notReadyAddresses": [{ "ip": "192.0.2.10" }], "ports": [{ "port": 80 }] }])),
        "<none>"
    );
}

#[test]
fn bad_endpoints() {
    for (subset, want) in [
        (
            json!({ "ports": [{ "port": 80 }] }),
            &["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"][..],
        ),
        (
            json!({ "addresses": [{ "ip": "127.0.0.1" }, { "ip": "169.254.1.1" }] }),
            &[
                "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                "subsets[0].addresses[1].ip: Invalid value: \"169.254.1.1\": may not be in the link-local range (169.254.0.0/16, fe80::/10)",
            ],
        ),
        (
            json!({ "addresses": [{ "ip": "0.0.0.0" }, { "ip": "224.0.0.1" }] }),
            &[
                "subsets[0].addresses[0].ip: Invalid value: \"0.0.0.0\": may not be unspecified (0.0.0.0 or ::)",
                "subsets[0].addresses[1].ip: Invalid value: \"224.0.0.1\": may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
            ],
        ),
        (
            json!({ "addresses": [{ "ip": "10.0.0.1" }], "ports": [{ "port": 0 }, { "port": 80, "protocol": "X" }] }),
            &[
                "subsets[0].ports[0].name: Required value",
                "subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "subsets[0].ports[1].name: Required value",
                "subsets[0].ports[1].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ],
        ),
    ] {
        assert_eq!(errors(endpoints(json!([subset]))), want);
    }
}

#[test]
fn slices() {
    let ready = json!([{ "addresses": ["10.9.8.7"], "conditions": { "ready": true } }]);
    let slice = slice("IPv4", ready, json!([{ "port": 36443 }])).unwrap();
    assert_eq!(slice["ports"], json!([{ "name": "", "port": 36443, "protocol": "TCP" }]));
    assert_eq!(slice["metadata"]["generation"], 1);
    assert_eq!(row(&slice), ["x", "IPv4", "36443", "10.9.8.7", "42s"]);

    let labelled = patched(&slice, json!({ "metadata": { "labels": { "a": "b" } } })).unwrap();
    assert_eq!(labelled["metadata"]["generation"], 1);
    let grown = json!({ "endpoints": [{ "addresses": ["10.0.0.1"] }, { "addresses": ["10.0.0.2"] }, { "addresses": ["10.0.0.3"] }, { "addresses": ["10.0.0.4"] }] });
    let grown = patched(&slice, grown).unwrap();
    assert_eq!(grown["metadata"]["generation"], 2);
    assert_eq!(row(&grown)[3], "10.0.0.1,10.0.0.2,10.0.0.3 + 1 more...");
    assert_eq!(
        errors(merged(&slice, json!({ "addressType": "IPv6", "endpoints": [] }))),
        ["addressType: Invalid value: \"IPv6\": field is immutable"]
    );
}

#[test]
fn empty_slices_say_so() {
    let empty = slice("IPv4", json!([]), json!([])).unwrap();
    assert_eq!(row(&empty)[1..4], ["IPv4", "<unset>", "<unset>"]);
    let any_port = slice("IPv4", json!([]), json!([{ "name": "" }])).unwrap();
    assert_eq!(row(&any_port)[2], "*");
}

#[test]
fn bad_slices() {
    let many: Vec<Value> = (0..1001).map(|_| json!({ "addresses": ["10.0.0.1"] })).collect();
    for (result, want) in [
        (slice("", json!([]), json!([])), &["addressType: Required value"][..]),
        (
            slice("IPv5", json!([]), json!([])),
            &["addressType: Unsupported value: \"IPv5\": supported values: \"FQDN\", \"IPv4\", \"IPv6\""],
        ),
        (slice("IPv4", json!(many), json!([])), &["endpoints: Too many: 1001: must have at most 1000 items"]),
        (
            slice("IPv4", json!([{ "addresses": [] }, { "addresses": ["fd00::1"] }]), json!([])),
            &[
                "endpoints[0].addresses: Required value: must contain at least 1 address",
                "endpoints[1].addresses[0]: Invalid value: \"fd00::1\": must be an IPv4 address",
            ],
        ),
        (
            slice("FQDN", json!([{ "addresses": ["com"] }]), json!([])),
            &[
                "endpoints[0].addresses[0]: Invalid value: \"com\": should be a domain with at least two segments separated by dots",
            ],
        ),
        (
            slice("IPv4", json!([]), json!([{ "name": "a", "port": 1 }, { "name": "a", "port": 0 }])),
            &[
                "ports[1].name: Duplicate value: \"a\"",
                "ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        ),
    ] {
        assert_eq!(errors(result), want);
    }
}
