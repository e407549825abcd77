//! D: the API and kubectl.

use serde_json::Value;
use svcd_tests::{Lab, eventually};

use crate::pages::{plain_service, service};

#[test]
fn d1_create_apply_replace_patch_delete() {
    let lab = Lab::shared();
    let ns = lab.namespace("d1");
    let one = plain_service("one");
    assert_eq!(lab.kubectl_with(&one, &["create", "-n", &ns]).ok(), "service/one created\n");
    let again = lab.kubectl_with(&one, &["create", "-n", &ns]).failed();
    assert!(
        again.contains("(AlreadyExists)") && again.contains("services \"one\" already exists"),
        "{again}"
    );

    let two =
        service("two", "{ selector: { app: two }, ports: [{ name: a, port: 80 }, { name: b, port: 81 }] }");
    assert_eq!(lab.kubectl_with(&two, &["apply", "-n", &ns]).ok(), "service/two created\n");
    assert_eq!(lab.kubectl_with(&two, &["apply", "-n", &ns]).ok(), "service/two unchanged\n");
    let less = service("two", "{ selector: { app: two }, ports: [{ name: b, port: 82 }] }");
    assert_eq!(lab.kubectl_with(&less, &["apply", "-n", &ns]).ok(), "service/two configured\n");
    assert_eq!(lab.get(&ns, "svc two", "{.spec.ports[*].port}"), "82");

    let mut object: Value =
        serde_json::from_str(&lab.kubectl(&["get", "svc", "two", "-n", &ns, "-o", "json"]).ok()).unwrap();
    object["spec"]["ports"][0]["port"] = 83.into();
    assert_eq!(lab.kubectl_with(&object.to_string(), &["replace", "-n", &ns]).ok(), "service/two replaced\n");
    object["spec"]["ports"][0]["port"] = 84.into();
    let stale = lab.kubectl_with(&object.to_string(), &["replace", "-n", &ns]).failed();
    assert!(stale.contains("the object has been modified"), "{stale}");

    for (kind, patch) in [
        ("strategic", r#"{"metadata":{"labels":{"x":"1"}}}"#),
        ("merge", r#"{"metadata":{"labels":{"x":"2"}}}"#),
        ("json", r#"[{"op":"replace","path":"/metadata/labels/x","value":"3"}]"#),
    ] {
        lab.kubectl(&["patch", "svc", "two", "-n", &ns, "--type", kind, "-p", patch]).ok();
    }
    assert_eq!(lab.get(&ns, "svc two", "{.metadata.labels.x}"), "3");

    assert_eq!(lab.kubectl(&["delete", "svc", "one", "-n", &ns]).ok(), "service \"one\" deleted\n");
    let gone = lab.kubectl(&["get", "svc", "one", "-n", &ns]).failed();
    assert_eq!(gone, "Error from server (NotFound): services \"one\" not found\n");
}

#[test]
fn d1_folders_lists_and_json_work_too() {
    let lab = Lab::shared();
    let ns = lab.namespace("d1-folder");
    let folder = lab.scratch().join("d1");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("a.yaml"), format!("{}---\n{}", plain_service("a"), plain_service("b")))
        .unwrap();
    let map = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": "v"}});
    std::fs::write(folder.join("c.json"), map.to_string()).unwrap();
    let path = folder.to_str().unwrap();
    lab.kubectl(&["apply", "-n", &ns, "-f", path]).ok();
    assert_eq!(lab.get(&ns, "svc", "{.items[*].metadata.name}"), "a b");
    assert_eq!(lab.get(&ns, "configmap m", "{.data.k}"), "v");
    lab.kubectl(&["delete", "-n", &ns, "-f", path]).ok();
    assert_eq!(lab.get(&ns, "svc", "{.items[*].metadata.name}"), "");
}

#[test]
fn d2_get_in_all_its_forms() {
    let lab = Lab::shared();
    let ns = lab.namespace("d2");
    lab.echo(&ns, "web", 2);
    lab.apply(&ns, &plain_service("web"));
    let get = |rest: &[&str]| lab.kubectl(&[&["get", "-n", &ns], rest].concat()).ok();
    let heading =
        |text: &str| text.lines().next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(heading(&get(&["svc"])), "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE");
    assert_eq!(
        heading(&get(&["svc", "-o", "wide"])),
        "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE SELECTOR"
    );
    assert_eq!(heading(&get(&["pods"])), "NAME READY STATUS RESTARTS AGE");
    assert_eq!(
        heading(&get(&["pods", "-o", "wide"])),
        "NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES"
    );
    assert_eq!(heading(&get(&["deploy"])), "NAME READY UP-TO-DATE AVAILABLE AGE");
    assert_eq!(heading(&get(&["rs"])), "NAME DESIRED CURRENT READY AGE");
    assert_eq!(heading(&get(&["endpointslices"])), "NAME ADDRESSTYPE PORTS ENDPOINTS AGE");
    assert_eq!(heading(&get(&["nodes"])), "NAME STATUS ROLES AGE VERSION");
    assert_eq!(get(&["svc", "-o", "name"]), "service/web\n");
    let json: Value = serde_json::from_str(&get(&["svc", "web", "-o", "json"])).unwrap();
    assert_eq!(json["kind"], "Service");
    assert!(get(&["svc", "web", "-o", "yaml"]).starts_with("apiVersion: v1\n"));
    let columns = get(&["svc", "-o", "custom-columns=N:.metadata.name,P:.spec.ports[0].port"]);
    assert_eq!(columns.split_whitespace().collect::<Vec<_>>(), ["N", "P", "web", "80"]);
    assert_eq!(get(&["pods", "-l", "app=web", "-o", "name"]).lines().count(), 2);
    assert_eq!(get(&["pods", "-l", "app!=web", "-o", "name"]), "");
    assert_eq!(get(&["pods", "--field-selector", "status.phase=Running", "-o", "name"]).lines().count(), 2);
    assert!(get(&["pods", "--show-labels"]).contains("app=web"));
    assert!(get(&["svc", "-A"]).contains("kube-system"));
    assert!(get(&["pods", "--sort-by", ".metadata.name"]).contains("web-"));
    let all = get(&["all"]);
    for kind in ["pod/", "service/", "deployment.apps/", "replicaset.apps/"] {
        assert!(all.contains(kind), "{kind} is not in\n{all}");
    }
    let watch = lab.run("timeout", &["2", "kubectl", "get", "svc", "-n", &ns, "-w", "--no-headers"]);
    assert!(watch.out.starts_with("web "), "{}{}", watch.out, watch.err);
}

#[test]
fn d5_a_new_cluster_has_four_namespaces() {
    let lab = Lab::shared();
    let names = lab.get("default", "namespaces", "{.items[*].metadata.name}");
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        assert!(names.split(' ').any(|n| n == name), "{name} is not in {names}");
    }
    assert_eq!(lab.get("default", "ns default", "{.status.phase}"), "Active");
}

#[test]
fn d6_kubectl_run_runs_a_pod() {
    let lab = Lab::shared();
    let ns = lab.namespace("d6-run");
    assert_eq!(lab.kubectl(&["run", "one", "-n", &ns, "--image=svcd.io/echo"]).ok(), "pod/one created\n");
    lab.kubectl(&["wait", "--for=condition=Ready", "pod/one", "-n", &ns, "--timeout=30s"]).ok();
    assert_ne!(lab.get(&ns, "pod one", "{.spec.nodeName}"), "control-plane");
    lab.kubectl(&["run", "other", "-n", &ns, "--image=nginx"]).ok();
    eventually("the reason why it waits", || {
        let message = lab.get(&ns, "pod other", "{.status.containerStatuses[0].state.waiting.message}");
        if message.contains("svcd.io/echo") { Ok(()) } else { Err(message) }
    });
}

#[test]
fn d6_deployments_scale_roll_and_spread() {
    let lab = Lab::shared();
    let ns = lab.namespace("d6-deploy");
    lab.echo(&ns, "web", 3);
    let nodes = lab.get(&ns, "pods -l app=web", "{.items[*].spec.nodeName}");
    let mut spread: Vec<&str> = nodes.split(' ').collect();
    spread.sort_unstable();
    assert_eq!(spread, ["node1", "node2", "node3"]);
    for count in ["5", "2"] {
        lab.kubectl(&["scale", "deployment", "web", "-n", &ns, &format!("--replicas={count}")]).ok();
        eventually("scaled", || {
            let pods = lab
                .get(&ns, "pods -l app=web", "{.items[*].metadata.name}")
                .split_whitespace()
                .count()
                .to_string();
            let ready = lab.get(&ns, "deployment web", "{.status.readyReplicas}");
            if pods == count && ready == count { Ok(()) } else { Err(format!("{pods} pods, {ready} ready")) }
        });
    }
    let before = lab.get(&ns, "pods -l app=web", "{.items[*].metadata.name}");
    lab.kubectl(&["set", "env", "deployment/web", "-n", &ns, "COLOUR=blue"]).ok();
    lab.rolled_out(&ns, "web");
    eventually("all pods are new", || {
        let after = lab.get(&ns, "pods -l app=web", "{.items[*].metadata.name}");
        let kept = after.split(' ').any(|name| before.split(' ').any(|old| old == name));
        if kept { Err(after) } else { Ok(()) }
    });
}

#[test]
fn d6_a_replica_set_with_match_expressions() {
    let lab = Lab::shared();
    let ns = lab.namespace("d6-rs");
    lab.apply(
        &ns,
        r"
apiVersion: apps/v1
kind: ReplicaSet
metadata: { name: rs }
spec:
  replicas: 2
  selector: { matchExpressions: [{ key: tier, operator: In, values: [front, web] }] }
  template:
    metadata: { labels: { tier: front } }
    spec: { containers: [{ name: c, image: svcd.io/echo }] }
",
    );
    eventually("two ready", || {
        let ready = lab.get(&ns, "rs rs", "{.status.readyReplicas}");
        if ready == "2" { Ok(()) } else { Err(ready) }
    });
    let victim = lab.get(&ns, "pods", "{.items[0].metadata.name}");
    lab.kubectl(&["delete", "pod", &victim, "-n", &ns]).ok();
    eventually("replaced", || {
        let names = lab.get(&ns, "pods", "{.items[*].metadata.name}");
        let ready = lab.get(&ns, "rs rs", "{.status.readyReplicas}");
        if ready == "2" && !names.contains(&victim) { Ok(()) } else { Err(names) }
    });
}

#[test]
fn d9_a_node_whose_agent_stops_is_not_ready_and_its_pods_leave() {
    let lab = Lab::up(2);
    lab.echo("default", "web", 2);
    lab.apply("default", &plain_service("web"));
    let wide = lab.kubectl(&["get", "nodes", "-o", "wide", "--no-headers"]).ok();
    for (name, address) in
        [("control-plane", "192.168.56.11"), ("node1", "192.168.56.21"), ("node2", "192.168.56.22")]
    {
        let line =
            wide.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name} is not in\n{wide}"));
        assert!(
            line.contains(" Ready ") && line.contains(address) && line.contains("v1.37.0+svcd"),
            "{line}"
        );
    }
    let status = lab.svcd(&["lab", "status"]).ok();
    let line = status.lines().find(|l| l.starts_with("node2")).unwrap().to_owned();
    lab.run("kill", &["-9", line.split_whitespace().nth(2).unwrap()]).ok();
    eventually("NotReady", || {
        let line = lab.kubectl(&["get", "node", "node2", "--no-headers"]).ok();
        if line.contains("NotReady") { Ok(()) } else { Err(line) }
    });
    eventually("its pod is no longer ready", || {
        let slices = "endpointslices -l kubernetes.io/service-name=web";
        let ready =
            lab.get("default", slices, "{.items[*].endpoints[?(@.nodeName=='node2')].conditions.ready}");
        if ready.contains("true") { Err(ready) } else { Ok(()) }
    });
}

#[test]
fn d3_explain_says_what_fields_mean() {
    let lab = Lab::shared();
    let ports = lab.kubectl(&["explain", "service.spec.ports"]).ok();
    assert!(
        ports.starts_with("KIND:       Service\nVERSION:    v1\n\nFIELD: ports <[]ServicePort>\n"),
        "{ports}"
    );
    assert!(
        ports.contains("  port\t<integer> -required-\n    The port that will be exposed by this service.\n"),
        "{ports}"
    );
    let spec = lab.kubectl(&["explain", "svc.spec", "--recursive"]).ok();
    assert!(
        spec.contains("    targetPort\t<IntOrString>\n")
            && spec.contains("  selector\t<map[string]string>\n"),
        "{spec}"
    );
    let conditions = lab.kubectl(&["explain", "endpointslice.endpoints.conditions"]).ok();
    assert!(
        conditions.starts_with("GROUP:      discovery.k8s.io\nKIND:       EndpointSlice\n"),
        "{conditions}"
    );
    let missing = lab.kubectl(&["explain", "service.spec.nosuch"]).failed();
    assert!(missing.contains("error: field \"nosuch\" does not exist"), "{missing}");
}

/// A workload of echo pods labelled `app=NAME`.
fn workload(kind: &str, name: &str, spec: &str, pod: &str) -> String {
    format!(
        r"
apiVersion: apps/v1
kind: {kind}
metadata: {{ name: {name} }}
spec:
  {spec}
  selector: {{ matchLabels: {{ app: {name} }} }}
  template:
    metadata: {{ labels: {{ app: {name} }} }}
    spec: {{ {pod} containers: [{{ name: c, image: svcd.io/echo }}] }}
"
    )
}

fn nodes_of(lab: &Lab, ns: &str, app: &str) -> String {
    let found = lab.get(ns, &format!("pods -l app={app}"), "{.items[*].spec.nodeName}");
    let mut nodes: Vec<&str> = found.split_whitespace().collect();
    nodes.sort_unstable();
    nodes.join(" ")
}

fn equals(found: String, wanted: &str) -> Result<(), String> {
    if found == wanted { Ok(()) } else { Err(found) }
}

#[test]
fn d6_a_daemon_set_follows_the_labels_of_nodes() {
    let lab = Lab::shared();
    let ns = lab.namespace("d6-ds");
    lab.apply(&ns, &workload("DaemonSet", "agent", "", "nodeSelector: { d6-disk: ssd },"));
    assert_eq!(nodes_of(lab, &ns, "agent"), "");
    lab.kubectl(&["label", "nodes", "node1", "node3", "d6-disk=ssd"]).ok();
    eventually("on the labelled nodes", || equals(nodes_of(lab, &ns, "agent"), "node1 node3"));
    let done = lab.kubectl(&["rollout", "status", "ds/agent", "-n", &ns, "--timeout=30s"]).ok();
    assert!(done.contains("daemon set \"agent\" successfully rolled out"), "{done}");
    let table = lab.kubectl(&["get", "ds", "-n", &ns, "--no-headers"]).ok();
    let row: Vec<&str> = table.split_whitespace().collect();
    assert_eq!(row[..7], ["agent", "2", "2", "2", "2", "2", "d6-disk=ssd"], "{table}");
    lab.kubectl(&["label", "node", "node1", "d6-disk-"]).ok();
    eventually("only where the label is", || equals(nodes_of(lab, &ns, "agent"), "node3"));
    lab.kubectl(&["label", "node", "node3", "d6-disk-"]).ok();
    eventually("nowhere", || equals(nodes_of(lab, &ns, "agent"), ""));
}

#[test]
fn d4_rollouts_of_every_workload_restart_and_go_back() {
    let lab = Lab::shared();
    let ns = lab.namespace("d4-rollout");
    for (kind, spec) in [("DaemonSet", ""), ("StatefulSet", "replicas: 2"), ("Deployment", "replicas: 2")] {
        let name = kind.to_lowercase();
        let target = format!("{name}/{name}");
        let rollout = |rest: &[&str]| {
            lab.kubectl(&[&["rollout", rest[0], &target, "-n", &ns], &rest[1..]].concat()).ok()
        };
        let colour =
            || lab.get(&ns, &format!("{name} {name}"), "{.spec.template.spec.containers[0].env[0].value}");
        lab.apply(&ns, &workload(kind, &name, spec, ""));
        rollout(&["status", "--timeout=60s"]);
        for value in ["red", "blue"] {
            lab.kubectl(&["set", "env", &target, "-n", &ns, &format!("COLOUR={value}")]).ok();
            rollout(&["status", "--timeout=60s"]);
        }
        let history = rollout(&["history"]);
        let numbers: Vec<&str> =
            history.lines().skip(2).filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(numbers, ["1", "2", "3"], "{history}");
        assert!(rollout(&["history", "--revision=2"]).contains("red"), "{target}");
        rollout(&["undo"]);
        assert_eq!(colour(), "red", "{target}");
        rollout(&["status", "--timeout=60s"]);
        rollout(&["undo", "--to-revision=1"]);
        assert_eq!(colour(), "", "{target}");
        rollout(&["status", "--timeout=60s"]);
        rollout(&["restart"]);
        rollout(&["status", "--timeout=60s"]);
        let noted = "{.items[*].metadata.annotations.kubectl\\.kubernetes\\.io/restartedAt}";
        eventually("every pod is new", || {
            let stamps = lab.get(&ns, &format!("pods -l app={name}"), noted);
            let pods = lab.get(&ns, &format!("pods -l app={name}"), "{.items[*].metadata.name}");
            let same = stamps.split_whitespace().count() == pods.split_whitespace().count();
            if same { Ok(()) } else { Err(format!("{pods}: {stamps}")) }
        });
        lab.kubectl(&["delete", &target, "-n", &ns]).ok();
    }
}

#[test]
fn d6_a_stateful_set_has_names_that_last() {
    let lab = Lab::shared();
    let ns = lab.namespace("d6-sts");
    lab.apply(&ns, &service("db", "{ clusterIP: None, selector: { app: db }, ports: [{ port: 8080 }] }"));
    lab.apply(&ns, &workload("StatefulSet", "db", "replicas: 3\n  serviceName: db", ""));
    lab.kubectl(&["rollout", "status", "sts/db", "-n", &ns, "--timeout=60s"]).ok();
    assert_eq!(lab.get(&ns, "pods -l app=db", "{.items[*].metadata.name}"), "db-0 db-1 db-2");
    assert_eq!(lab.get(&ns, "pod db-1", "{.metadata.labels.apps\\.kubernetes\\.io/pod-index}"), "1");
    let table = lab.kubectl(&["get", "sts", "-n", &ns, "--no-headers"]).ok();
    assert_eq!(table.split_whitespace().nth(1), Some("3/3"), "{table}");
    eventually("its name is in DNS", || {
        let hosts = lab.get(&ns, "endpointslices", "{.items[*].endpoints[*].hostname}");
        let mut names: Vec<&str> = hosts.split_whitespace().collect();
        names.sort_unstable();
        equals(names.join(" "), "db-0 db-1 db-2")
    });
    let uid = lab.get(&ns, "pod db-1", "{.metadata.uid}");
    lab.kubectl(&["delete", "pod", "db-1", "-n", &ns]).ok();
    eventually("db-1 is back", || {
        let now = lab.kubectl(&["get", "pod", "db-1", "-n", &ns, "-o", "jsonpath={.metadata.uid}"]).out;
        if now.is_empty() || now == uid { Err(now) } else { Ok(()) }
    });
    lab.kubectl(&["scale", "sts/db", "-n", &ns, "--replicas=1"]).ok();
    eventually("the first one stays", || {
        equals(lab.get(&ns, "pods -l app=db", "{.items[*].metadata.name}"), "db-0")
    });
}

#[test]
fn d6_a_replication_controller() {
    let lab = Lab::shared();
    let ns = lab.namespace("d6-rc");
    lab.apply(
        &ns,
        r"
apiVersion: v1
kind: ReplicationController
metadata: { name: rc }
spec:
  replicas: 2
  template:
    metadata: { labels: { app: rc } }
    spec: { containers: [{ name: c, image: svcd.io/echo, ports: [{ containerPort: 8080 }] }] }
",
    );
    eventually("two ready", || equals(lab.get(&ns, "rc rc", "{.status.readyReplicas}"), "2"));
    lab.kubectl(&["scale", "rc", "rc", "-n", &ns, "--replicas=3"]).ok();
    eventually("three ready", || equals(lab.get(&ns, "rc rc", "{.status.readyReplicas}"), "3"));
    lab.kubectl(&["expose", "rc", "rc", "-n", &ns, "--name=web", "--port=80", "--target-port=8080"]).ok();
    assert_eq!(lab.get(&ns, "svc web", "{.spec.selector.app}"), "rc");
}

#[test]
fn d1_server_side_apply_conflicts_forces_and_takes_over() {
    let lab = Lab::shared();
    let ns = lab.namespace("d1-ssa");
    let map = |a: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: c1 }}\ndata: {{ a: \"{a}\" }}\n")
    };
    let apply = |page: &str, rest: &[&str]| {
        lab.kubectl_with(page, &[&["apply", "--server-side", "-n", &ns], rest].concat())
    };
    let applied = "configmap/c1 serverside-applied\n";
    assert_eq!(apply(&map("1"), &["--field-manager=m1"]).ok(), applied);
    let refused = apply(&map("2"), &["--field-manager=m2"]).failed();
    assert!(
        refused.starts_with("error: Apply failed with 1 conflict: conflict with \"m1\": .data.a\n"),
        "{refused}"
    );
    assert_eq!(apply(&map("2"), &["--field-manager=m2", "--force-conflicts"]).ok(), applied);
    assert_eq!(lab.get(&ns, "cm c1", "{.data.a}"), "2");
    let fields = lab.get(&ns, "cm c1 --show-managed-fields", "{.metadata.managedFields[*].manager}");
    assert_eq!(fields, "m2");

    let ports = |ports: &str| service("ap", &format!("{{ selector: {{ app: ap }}, ports: [{ports}] }}"));
    let (one, two) = ("{ name: a, port: 80 }", "{ name: a, port: 80 }, { name: b, port: 81 }");
    lab.kubectl_with(&ports(one), &["apply", "-n", &ns]).ok();
    assert_eq!(apply(&ports(two), &[]).ok(), "service/ap serverside-applied\n");
    assert_eq!(apply(&ports(one), &[]).ok(), "service/ap serverside-applied\n");
    assert_eq!(lab.get(&ns, "svc ap", "{.spec.ports[*].port}"), "80");
    let bogus = service("ap", "{ bogus: 1, ports: [{ name: a, port: 80 }] }");
    let refused = apply(&bogus, &[]).failed();
    let wanted = format!("({ns}/ap; /v1, Kind=Service): .spec.bogus: field not declared in schema");
    assert!(refused.contains(&wanted), "{refused}");
}

#[test]
fn d3_auth_shows_who_may_do_what() {
    let lab = Lab::shared();
    let ns = lab.namespace("d3-auth");
    let kubectl = |line: &str| lab.kubectl(&line.split(' ').collect::<Vec<_>>());
    let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(kubectl("auth can-i * *").ok(), "yes\n");
    let me = squeezed(&kubectl("auth whoami").ok());
    assert!(me.starts_with("ATTRIBUTE VALUE Username kubernetes-admin Groups"), "{me}");
    assert!(me.contains("Groups [system:masters system:authenticated]"), "{me}");
    let roles = kubectl("get clusterroles").ok();
    assert_eq!(squeezed(roles.lines().next().unwrap()), "NAME CREATED AT");
    for role in ["admin", "cluster-admin", "edit", "system:discovery", "view"] {
        assert!(roles.lines().any(|line| line.split(' ').next() == Some(role)), "{role}: {roles}");
    }

    kubectl(&format!("create role reader --verb=get,list --resource=services -n {ns}")).ok();
    let refused = kubectl(&format!("get svc -n {ns} --as=alice")).failed();
    assert_eq!(
        refused,
        format!(
            "Error from server (Forbidden): services is forbidden: User \"alice\" cannot list resource \"services\" in \
             API group \"\" in the namespace \"{ns}\"\n"
        )
    );
    kubectl(&format!("create rolebinding rb --role=reader --user=alice -n {ns}")).ok();
    kubectl(&format!("get svc -n {ns} --as=alice")).ok();
    assert_eq!(kubectl(&format!("auth can-i list services -n {ns} --as=alice")).ok(), "yes\n");
    let no = kubectl(&format!("auth can-i create services -n {ns} --as=alice"));
    assert_eq!((no.code, no.out.as_str()), (1, "no\n"));
    let list = squeezed(&kubectl(&format!("auth can-i --list -n {ns} --as=alice")).ok());
    assert!(list.starts_with("Resources Non-Resource URLs Resource Names Verbs"), "{list}");
    assert!(list.contains("services [] [] [get list]") && list.contains("[/healthz] [] [get]"), "{list}");
    let bindings = kubectl(&format!("get rolebinding -o wide -n {ns}")).ok();
    assert_eq!(squeezed(bindings.lines().next().unwrap()), "NAME ROLE AGE USERS GROUPS SERVICEACCOUNTS");
    assert!(squeezed(&bindings).contains("rb Role/reader"), "{bindings}");

    let token = kubectl(&format!("create token default -n {ns}")).ok();
    let server =
        lab.kubectl(&["config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"]).ok();
    let curl = |path: &str| {
        let header = format!("Authorization: Bearer {}", token.trim());
        lab.run("curl", &["-sk", "-H", &header, &format!("{server}{path}")]).ok()
    };
    let answer = curl(&format!("/api/v1/namespaces/{ns}/services"));
    let user = format!("User \\\"system:serviceaccount:{ns}:default\\\" cannot list resource");
    assert!(answer.contains(&user), "{answer}");
    kubectl(&format!("create rolebinding view --clusterrole=view --serviceaccount={ns}:default -n {ns}"))
        .ok();
    let answer = curl(&format!("/api/v1/namespaces/{ns}/services"));
    assert!(answer.contains("\"kind\":\"ServiceList\""), "{answer}");
}

#[test]
fn d6_a_budget_holds_up_an_eviction() {
    let lab = Lab::shared();
    let ns = lab.namespace("d6-pdb");
    lab.echo(&ns, "web", 2);
    let budget = ["create", "pdb", "web", "-n", &ns, "--selector=app=web", "--min-available=2"];
    assert_eq!(lab.kubectl(&budget).ok(), "poddisruptionbudget.policy/web created\n");
    let row = |wanted: &'static str| {
        eventually("the budget is counted", || {
            let table = lab.kubectl(&["get", "pdb", "-n", &ns, "--no-headers"]).ok();
            let cells: Vec<&str> = table.split_whitespace().take(4).collect();
            equals(cells.join(" "), wanted)
        });
    };
    row("web 2 N/A 0");
    let pod = lab.get(&ns, "pods -l app=web", "{.items[0].metadata.name}");
    let eviction = format!(
        r#"{{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {{"name": "{pod}", "namespace": "{ns}"}}}}"#
    );
    // What `kubectl drain` sends, without closing a node that other tests use.
    let path = format!("/api/v1/namespaces/{ns}/pods/{pod}/eviction");
    let evict = || lab.kubectl_with(&eviction, &["create", "--raw", &path]);
    let held = evict().failed();
    assert!(held.contains("Cannot evict pod as it would violate the pod's disruption budget."), "{held}");
    lab.kubectl(&["scale", "deployment", "web", "-n", &ns, "--replicas=3"]).ok();
    row("web 2 N/A 1");
    evict().ok();
    eventually("it is gone", || {
        let names = lab.get(&ns, "pods -l app=web", "{.items[*].metadata.name}");
        if names.contains(&pod) { Err(names) } else { Ok(()) }
    });
}

/// What the table shows, without the ages.
fn cells(lab: &Lab, ns: &str, kind: &str) -> String {
    let table = lab.kubectl(&["get", kind, "-n", ns, "--no-headers"]).ok();
    let words: Vec<&str> = table.split_whitespace().collect();
    words[..words.len().saturating_sub(1)].join(" ")
}

#[test]
fn d2_ingresses_and_network_policies_are_kept() {
    let lab = Lab::shared();
    let ns = lab.namespace("d2-networking");
    let rule = "--rule=foo.example/bar*=web:80,tls=sec";
    let made = lab.kubectl(&[
        "create",
        "ingress",
        "ing",
        "-n",
        &ns,
        "--class=nginx",
        rule,
        "--rule=*.x.example/=web:http",
    ]);
    assert_eq!(made.ok(), "ingress.networking.k8s.io/ing created\n");
    assert_eq!(cells(lab, &ns, "ing"), "ing nginx foo.example,*.x.example 80, 443");
    let described = lab.kubectl(&["describe", "ingress", "ing", "-n", &ns]).ok();
    for line in ["Ingress Class:    nginx", "  sec terminates foo.example", "               /bar   web:80 ("]
    {
        assert!(described.contains(line), "{line} is not in\n{described}");
    }
    let policy = serde_json::json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "np" },
        "spec": { "podSelector": { "matchLabels": { "app": "a" } },
            "ingress": [{ "from": [{ "ipBlock": { "cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"] } }], "ports": [{ "port": 80, "endPort": 90 }] }] } });
    let made = lab.kubectl_with(&policy.to_string(), &["create", "-n", &ns]);
    assert!(
        made.err.starts_with("Warning: ") && made.err.contains("nothing on svcd enforces it"),
        "{}",
        made.err
    );
    made.ok();
    assert_eq!(cells(lab, &ns, "netpol"), "np app=a");
    let described = lab.kubectl(&["describe", "netpol", "np", "-n", &ns]).ok();
    assert!(described.contains("    To Port Range: 80-90/TCP\n"), "{described}");
    let old = lab.kubectl(&["get", "endpoints", "-n", &ns]);
    assert_eq!(
        old.err.lines().next(),
        Some("Warning: v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
    );
}

#[test]
fn d3_events_are_the_same_in_both_groups() {
    let lab = Lab::shared();
    let ns = lab.namespace("d3-events");
    lab.kubectl(&["create", "deployment", "web", "-n", &ns, "--image=svcd.io/echo"]).ok();
    eventually("an event in the newer group", || {
        let notes = lab.get(&ns, "events.events.k8s.io", "{.items[*].note}");
        if notes.contains("Scaled up replica set web-") { Ok(()) } else { Err(notes) }
    });
    let names = |kind: &str| lab.get(&ns, kind, "{.items[?(@.reason=='ScalingReplicaSet')].metadata.name}");
    assert_eq!(names("events.events.k8s.io"), names("events"));
    let table = lab.kubectl(&["events", "-n", &ns, "--for", "deployment/web"]).ok();
    assert!(table.contains("ScalingReplicaSet") && table.starts_with("LAST SEEN"), "{table}");
}

#[test]
fn d3_a_certificate_is_requested_approved_and_used() {
    let lab = Lab::shared();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "carol");
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "people");
    let request = params.serialize_request(&key).unwrap().pem().unwrap();
    let folder = lab.scratch();
    let [key_file, certificate_file] =
        ["carol.key", "carol.crt"].map(|name| folder.join(name).display().to_string());
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let encoded = {
        std::fs::write(folder.join("carol.csr"), request).unwrap();
        lab.run("base64", &["-w0", &folder.join("carol.csr").display().to_string()]).ok()
    };
    let manifest = serde_json::json!({ "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": { "name": "carol" }, "spec": { "request": encoded, "usages": ["client auth"],
            "signerName": "kubernetes.io/kube-apiserver-client", "expirationSeconds": 3600 } });
    lab.kubectl_with(&manifest.to_string(), &["create"]).ok();
    let row = || lab.kubectl(&["get", "csr", "carol", "--no-headers"]).ok();
    assert!(row().contains("kubernetes.io/kube-apiserver-client   kubernetes-admin   60m"), "{}", row());
    assert!(row().ends_with("Pending\n"), "{}", row());
    let approved = lab.kubectl(&["certificate", "approve", "carol"]).ok();
    assert_eq!(approved, "certificatesigningrequest.certificates.k8s.io/carol approved\n");
    eventually("it is issued", || if row().ends_with("Approved,Issued\n") { Ok(()) } else { Err(row()) });
    let refused = lab.kubectl(&["certificate", "deny", "carol"]).failed();
    assert_eq!(refused, "error: certificate signing request \"carol\" is already Approved\n");
    let encoded = lab.get("default", "csr carol", "{.status.certificate}");
    std::fs::write(folder.join("carol.b64"), encoded).unwrap();
    let certificate = lab.run("base64", &["-d", &folder.join("carol.b64").display().to_string()]).ok();
    std::fs::write(&certificate_file, certificate).unwrap();
    let server =
        lab.kubectl(&["config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"]).ok();
    let authority = lab.dir().join("control-plane/pki/ca.crt").display().to_string();
    let whoami = lab.kubectl(&[
        "auth",
        "whoami",
        "-o",
        "jsonpath={.status.userInfo.username} {.status.userInfo.groups}",
        "--kubeconfig",
        "/dev/null",
        "--server",
        &server,
        "--certificate-authority",
        &authority,
        "--client-certificate",
        &certificate_file,
        "--client-key",
        &key_file,
    ]);
    assert_eq!(whoami.ok(), "carol [\"people\",\"system:authenticated\"]");
}
