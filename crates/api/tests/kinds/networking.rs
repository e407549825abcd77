//! Ingresses, IngressClasses, NetworkPolicies.

use serde_json::{Value, json};

use crate::harness::{create, errors, merged, row, status, warnings};

fn path(path: &str, kind: &str) -> Value {
    json!({ "path": path, "pathType": kind, "backend": { "service": { "name": "web", "port": { "number": 80 } } } })
}

fn ingress(rules: Value) -> Result<Value, Vec<String>> {
    create("Ingress", json!({ "spec": { "rules": rules } }))
}

#[test]
fn ingresses() {
    let made = create(
        "Ingress",
        json!({ "spec": {
            "ingressClassName": "nginx",
            "rules": [
                { "host": "foo.example", "http": { "paths": [path("/bar", "Prefix")] } },
                { "host": "*.x.example", "http": { "paths": [path("/", "Exact")] } },
            ],
            "tls": [{ "hosts": ["foo.example"], "secretName": "sec" }],
        } }),
    )
    .unwrap();
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["status"], json!({ "loadBalancer": {} }));
    assert_eq!(row(&made), ["x", "nginx", "foo.example,*.x.example", "", "80, 443", "42s"]);
    let lit = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.2" }, { "hostname": "a.example" }] } });
    let lit = status(&made, lit).unwrap();
    assert_eq!(row(&lit)[3], "192.0.2.2,a.example");
    assert_eq!(lit["metadata"]["generation"], 1);
    let changed = merged(&lit, json!({ "spec": { "ingressClassName": "other" }, "status": null })).unwrap();
    assert_eq!((&changed["metadata"]["generation"], &changed["status"]), (&json!(2), &lit["status"]));
    assert_eq!(
        errors(status(
            &made,
            json!({ "loadBalancer": { "ingress": [{ "ip": "x" }, { "hostname": "10.0.0.1" }] } })
        )),
        [
            "status.loadBalancer.ingress[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            "status.loadBalancer.ingress[1].hostname: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
        ]
    );
}

#[test]
fn hosts_of_ingresses() {
    let hosts = |hosts: &[&str]| {
        let rules: Vec<Value> =
            hosts.iter().map(|h| json!({ "host": h, "http": { "paths": [path("/", "Exact")] } })).collect();
        row(&ingress(json!(rules)).unwrap())[2].clone()
    };
    assert_eq!(hosts(&[""]), "*");
    assert_eq!(hosts(&["a", "b", "c"]), "a,b,c");
    assert_eq!(hosts(&["a", "b", "c", "d", "e"]), "a,b,c + 2 more...");
    assert_eq!(hosts(&["a", "", "b", "c"]), "a,b,c");
    assert_eq!(hosts(&["a", "b", "c", ""]), "a,b,c + 1 more...");
}

#[test]
fn bad_ingresses() {
    let backend = |backend: Value| {
        ingress(json!([{ "http": { "paths": [{ "pathType": "Prefix", "path": "/", "backend": backend }] } }]))
    };
    let at = "spec.rules[0].http.paths[0]";
    for (result, want) in [
        (
            create("Ingress", json!({})),
            vec!["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified".to_owned()],
        ),
        (
            ingress(json!([{ "http": { "paths": [{ "path": "/", "backend": { "service": { "name": "a", "port": { "number": 80 } } } }] } }])),
            vec![format!("{at}.pathType: Required value: pathType must be specified")],
        ),
        (
            ingress(json!([{ "host": "10.0.0.1", "http": { "paths": [path("nopath", "Prefix"), path("/a//b/..", "Exact"), path("", "ImplementationSpecific"), path("/", "Odd")] } }])),
            vec![
                "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address".to_owned(),
                format!("{at}.path: Invalid value: \"nopath\": must be an absolute path"),
                "spec.rules[0].http.paths[1].path: Invalid value: \"/a//b/..\": must not contain '//'".to_owned(),
                "spec.rules[0].http.paths[1].path: Invalid value: \"/a//b/..\": cannot end with '/..'".to_owned(),
                "spec.rules[0].http.paths[3].pathType: Unsupported value: \"Odd\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\"".to_owned(),
            ],
        ),
        (ingress(json!([{ "http": { "paths": [] } }])), vec!["spec.rules[0].http.paths: Required value".to_owned()]),
        (
            backend(json!({})),
            vec![format!("{at}.backend: Invalid value: \"\": resource or service backend is required")],
        ),
        (
            backend(json!({ "service": { "name": "", "port": {} } })),
            vec![
                format!("{at}.backend.service.name: Required value"),
                format!("{at}.backend: Required value: port name or number is required"),
            ],
        ),
        (
            backend(json!({ "service": { "name": "a", "port": { "name": "x", "number": 1 } } })),
            vec![format!("{at}.backend: Invalid value: \"\": cannot set both port name & port number")],
        ),
        (
            backend(json!({ "service": { "name": "a", "port": { "number": 70000 } } })),
            vec![format!("{at}.backend.service.port.number: Invalid value: 70000: must be between 1 and 65535, inclusive")],
        ),
        (
            backend(json!({ "resource": { "kind": "", "name": "a/b" } })),
            vec![
                format!("{at}.backend.resource.kind: Required value"),
                format!("{at}.backend.resource.name: Invalid value: \"a/b\": may not contain '/'"),
            ],
        ),
    ] {
        assert_eq!(errors(result), want);
    }
    let wrong = errors(ingress(json!([{ "host": "*.*.a" }, { "host": "BAD_HOST" }])));
    assert!(
        wrong[0].starts_with("spec.rules[0].host: Invalid value: \"*.*.a\": a wildcard DNS-1123 subdomain")
    );
    assert!(
        wrong[1]
            .starts_with("spec.rules[1].host: Invalid value: \"BAD_HOST\": a lowercase RFC 1123 subdomain")
    );
}

#[test]
fn the_old_way_to_name_a_class() {
    let annotated = |class: Value| {
        create(
            "Ingress",
            json!({
                "metadata": { "annotations": { "kubernetes.io/ingress.class": "old" } },
                "spec": { "ingressClassName": class, "defaultBackend": { "service": { "name": "a", "port": { "number": 80 } } } },
            }),
        )
    };
    let old = annotated(json!(null)).unwrap();
    assert_eq!(
        warnings(&old),
        [
            "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"
        ]
    );
    assert_eq!(row(&old)[1], "<none>");
    assert!(warnings(&annotated(json!("old")).unwrap()).is_empty());
    assert_eq!(
        errors(annotated(json!("new"))),
        [
            "annotations.kubernetes.io/ingress.class: Invalid value: \"old\": must match `ingressClassName` when both are specified"
        ]
    );
    assert!(merged(&old, json!({ "spec": { "ingressClassName": "new" } })).is_ok(), "who migrates goes on");
}

#[test]
fn ingress_classes() {
    let class = |spec: Value| create("IngressClass", json!({ "spec": spec }));
    let plain = class(json!({ "controller": "example.com/ing" })).unwrap();
    assert_eq!(row(&plain), ["x", "example.com/ing", "<none>", "42s"]);
    let parameters = json!({ "apiGroup": "k.example.com", "kind": "Params", "name": "p" });
    let rich = class(json!({ "controller": "example.com/ing", "parameters": parameters })).unwrap();
    assert_eq!(rich["spec"]["parameters"]["scope"], "Cluster");
    assert_eq!(row(&rich)[2], "Params.k.example.com/p");
    let default =
        json!({ "metadata": { "annotations": { "ingressclass.kubernetes.io/is-default-class": "true" } } });
    assert_eq!(row(&merged(&plain, default).unwrap())[0], "x (default)");
    assert_eq!(
        errors(merged(&plain, json!({ "spec": { "controller": "example.com/b" } }))),
        ["spec.controller: Invalid value: \"example.com/b\": field is immutable"]
    );
    for (spec, want) in [
        (json!({}), &["spec.controller: Required value"][..]),
        (
            json!({ "controller": "nodomain" }),
            &[
                "spec.controller: Invalid value: \"nodomain\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            ],
        ),
        (
            json!({ "controller": "a.io/x", "parameters": { "kind": "", "name": "p", "scope": "Namespace" } }),
            &[
                "spec.parameters.kind: Required value",
                "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
            ],
        ),
        (
            json!({ "controller": "a.io/x", "parameters": { "kind": "K", "name": "p", "namespace": "n" } }),
            &["spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"],
        ),
        (
            json!({ "controller": "a.io/x", "parameters": { "kind": "K", "name": "p", "scope": "X" } }),
            &[
                "spec.parameters.scope: Unsupported value: \"X\": supported values: \"Cluster\", \"Namespace\"",
            ],
        ),
    ] {
        assert_eq!(errors(class(spec)), want);
    }
}

fn policy(spec: Value) -> Result<Value, Vec<String>> {
    create("NetworkPolicy", json!({ "spec": spec }))
}

#[test]
fn network_policies() {
    let made = policy(json!({
        "podSelector": { "matchLabels": { "app": "a" } },
        "ingress": [{ "from": [{ "ipBlock": { "cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"] } }], "ports": [{ "port": 80, "endPort": 90 }] }],
    }))
    .unwrap();
    assert_eq!(made["spec"]["policyTypes"], json!(["Ingress"]));
    assert_eq!(
        made["spec"]["ingress"][0]["ports"],
        json!([{ "endPort": 90, "port": 80, "protocol": "TCP" }])
    );
    assert_eq!(row(&made), ["x", "app=a", "42s"]);
    assert_eq!(made["metadata"]["generation"], 1);
    let all = policy(json!({ "podSelector": {}, "egress": [{}] })).unwrap();
    assert_eq!(
        all["spec"],
        json!({ "podSelector": {}, "egress": [{}], "policyTypes": ["Ingress", "Egress"] })
    );
    assert_eq!(row(&all)[1], "<none>");
    let bare = create("NetworkPolicy", json!({})).unwrap();
    assert_eq!(bare["spec"], json!({ "podSelector": {}, "policyTypes": ["Ingress"] }));
}

#[test]
fn whoever_writes_a_network_policy_learns_that_it_does_nothing() {
    let plain = policy(json!({ "podSelector": {} })).unwrap();
    let [said] = &warnings(&plain)[..] else { panic!("one warning") };
    assert!(said.contains("nothing on svcd enforces it"), "{said}");
    let sloppy =
        policy(json!({ "podSelector": {}, "egress": [{ "to": [{ "ipBlock": { "cidr": "10.1.2.3/8" } }] }] }));
    assert_eq!(
        warnings(&sloppy.unwrap())[1],
        "spec.egress[0].to[0].ipBlock.cidr: CIDR value \"10.1.2.3/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.1.2.3/32\"?)"
    );
}

#[test]
fn bad_network_policies() {
    let from = |peer: Value| policy(json!({ "ingress": [{ "from": [peer] }] }));
    let ports = |port: Value| policy(json!({ "egress": [{ "ports": [port] }] }));
    for (result, want) in [
        (
            from(
                json!({ "ipBlock": { "cidr": "10.0.0.0/8", "except": ["11.1.0.0/16", "10.0.0.0/8", "x"] } }),
            ),
            &[
                "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"11.1.0.0/16\": must be a strict subset of `cidr`",
                "spec.ingress[0].from[0].ipBlock.except[1]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
                "spec.ingress[0].from[0].ipBlock.except[2]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ][..],
        ),
        (from(json!({})), &["spec.ingress[0].from[0]: Required value: must specify a peer"]),
        (
            from(json!({ "podSelector": {}, "ipBlock": { "cidr": "10.0.0.0/8" } })),
            &["spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer"],
        ),
        (
            ports(json!({ "port": 80, "endPort": 79 })),
            &["spec.egress[0].ports[0].endPort: Invalid value: 79: must be greater than or equal to `port`"],
        ),
        (
            ports(json!({ "port": "http", "endPort": 79 })),
            &[
                "spec.egress[0].ports[0].endPort: Invalid value: 79: may not be specified when `port` is non-numeric",
            ],
        ),
        (
            ports(json!({ "endPort": 79, "protocol": "X" })),
            &[
                "spec.egress[0].ports[0].protocol: Unsupported value: \"X\": supported values: \"TCP\", \"UDP\", \"SCTP\"",
                "spec.egress[0].ports[0].endPort: Invalid value: 79: may not be specified when `port` is not specified",
            ],
        ),
        (
            policy(json!({ "policyTypes": ["In"] })),
            &["spec.policyTypes[0]: Unsupported value: \"In\": supported values: \"Ingress\", \"Egress\""],
        ),
    ] {
        assert_eq!(errors(result), want);
    }
}
