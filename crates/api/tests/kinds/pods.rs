//! Pods: defaults, rules, what may change, and the words of the status column.

use serde_json::{Value, json};

use crate::harness::{create, errors, kind, merged, patched, row, status};

fn pod(spec: Value) -> Result<Value, Vec<String>> {
    create("Pod", json!({ "spec": spec }))
}

/// A pod with one good container and more.
fn with(extra: Value) -> Value {
    let mut spec = json!({ "containers": [{ "name": "c", "image": "svcd.io/echo" }] });
    json_merge(&mut spec, extra);
    spec
}

fn json_merge(target: &mut Value, extra: Value) {
    for (field, value) in extra.as_object().unwrap() {
        target[field] = value.clone();
    }
}

fn plain() -> Value {
    pod(with(json!({}))).unwrap()
}

#[test]
fn a_new_pod_as_stored() {
    let toleration = |key: &str| json!({ "effect": "NoExecute", "key": key, "operator": "Exists", "tolerationSeconds": 300 });
    let pod = plain();
    assert_eq!(
        pod["spec"],
        json!({
            "containers": [{
                "image": "svcd.io/echo",
                "imagePullPolicy": "Always",
                "name": "c",
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            }],
            "dnsPolicy": "ClusterFirst",
            "enableServiceLinks": true,
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "terminationGracePeriodSeconds": 30,
            "tolerations": [toleration("node.kubernetes.io/not-ready"), toleration("node.kubernetes.io/unreachable")],
        })
    );
    assert_eq!(pod["status"], json!({ "phase": "Pending", "qosClass": "BestEffort" }));
    assert_eq!(pod["metadata"]["generation"], 1);
    assert_eq!(row(&pod), ["x", "0/1", "Pending", "0", "42s", "<none>", "<none>", "<none>", "<none>"]);
}

#[test]
fn defaults_below_containers() {
    let container = json!({
        "name": "c", "image": "i:1",
        "ports": [{ "containerPort": 80 }],
        "env": [{ "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } }],
        "readinessProbe": { "httpGet": { "port": 80 } },
        "resources": { "limits": { "cpu": "1" } },
        "volumeMounts": [{ "name": "v", "mountPath": "/v" }],
    });
    let pod = pod(json!({ "containers": [container], "volumes": [{ "name": "v" }, { "name": "s", "secret": { "secretName": "s" } }], "serviceAccountName": "me" })).unwrap();
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["imagePullPolicy"], "IfNotPresent");
    assert_eq!(container["ports"][0]["protocol"], "TCP");
    assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
    assert_eq!(
        container["readinessProbe"],
        json!({
            "failureThreshold": 3, "httpGet": { "path": "/", "port": 80, "scheme": "HTTP" }, "periodSeconds": 10,
            "successThreshold": 1, "timeoutSeconds": 1,
        })
    );
    assert_eq!(container["resources"]["requests"], json!({ "cpu": "1" }));
    assert_eq!(pod["spec"]["volumes"][0], json!({ "name": "v", "emptyDir": {} }));
    assert_eq!(pod["spec"]["volumes"][1]["secret"]["defaultMode"], 420);
    assert_eq!(pod["spec"]["serviceAccount"], "me");
}

#[test]
fn quality_of_service() {
    let class = |resources: Value| {
        let pod =
            pod(json!({ "containers": [{ "name": "c", "image": "i", "resources": resources }] })).unwrap();
        pod["status"]["qosClass"].as_str().unwrap().to_owned()
    };
    assert_eq!(class(json!({})), "BestEffort");
    assert_eq!(class(json!({ "requests": { "cpu": "1" } })), "Burstable");
    assert_eq!(class(json!({ "limits": { "cpu": "1", "memory": "1Gi" } })), "Guaranteed");
    let uneven = json!({ "limits": { "cpu": "1", "memory": "1Gi" }, "requests": { "cpu": "500m" } });
    assert_eq!(class(uneven), "Burstable");
    assert_eq!(class(json!({ "limits": { "example.com/gpu": "1" } })), "BestEffort");
}

#[test]
fn a_hosts_network_takes_the_hosts_ports() {
    let pod = pod(json!({
        "hostNetwork": true, "containers": [{ "name": "c", "image": "i", "ports": [{ "containerPort": 80 }] }],
    }))
    .unwrap();
    assert_eq!(pod["spec"]["containers"][0]["ports"][0]["hostPort"], 80);
}

#[test]
fn bad_pods() {
    let container = |extra: Value| {
        let mut container = json!({ "name": "c", "image": "i" });
        json_merge(&mut container, extra);
        json!({ "containers": [container] })
    };
    let c = "spec.containers[0]";
    for (spec, want) in [
        (json!({}), vec!["spec.containers: Required value".to_owned()]),
        (json!({ "containers": [{}] }), vec![format!("{c}.name: Required value"), format!("{c}.image: Required value")]),
        (
            json!({ "containers": [{ "name": "c", "image": "i" }, { "name": "c", "image": " i" }] }),
            vec![
                "spec.containers[1].name: Duplicate value: \"c\"".to_owned(),
                "spec.containers[1].image: Invalid value: \" i\": must not have leading or trailing whitespace".to_owned(),
            ],
        ),
        (
            container(json!({ "imagePullPolicy": "Maybe" })),
            vec![format!("{c}.imagePullPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"IfNotPresent\", \"Never\"")],
        ),
        (
            container(json!({ "ports": [{ "name": "a", "containerPort": 1 }, { "name": "a", "containerPort": 70000 }] })),
            vec![
                format!("{c}.ports[1].name: Duplicate value: \"a\""),
                format!("{c}.ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"),
            ],
        ),
        (
            container(json!({ "ports": [{ "containerPort": 1, "hostPort": 9 }, { "containerPort": 2, "hostPort": 9 }] })),
            vec![format!("{c}.ports[1].hostPort: Duplicate value: \"TCP//9\"")],
        ),
        (
            container(json!({ "livenessProbe": {} })),
            vec![format!("{c}.livenessProbe: Required value: must specify a handler type")],
        ),
        (
            container(json!({ "livenessProbe": { "httpGet": { "port": 80 }, "tcpSocket": { "port": 0 }, "successThreshold": 2 } })),
            vec![
                format!("{c}.livenessProbe.tcpSocket.port: Invalid value: 0: must be between 1 and 65535, inclusive"),
                format!("{c}.livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"),
                format!("{c}.livenessProbe.successThreshold: Invalid value: 2: must be 1"),
            ],
        ),
        (
            container(json!({ "resources": { "limits": { "cpu": "1" }, "requests": { "cpu": "2", "memory": "-1" } } })),
            vec![
                format!("{c}.resources.requests[memory]: Invalid value: \"-1\": must be greater than or equal to 0"),
                format!("{c}.resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"),
            ],
        ),
        (
            container(json!({ "resources": { "limits": { "bogus": "1" } } })),
            vec![
                format!("{c}.resources.limits[bogus]: Invalid value: \"bogus\": must be a standard resource type or fully qualified"),
                format!("{c}.resources.requests[bogus]: Invalid value: \"bogus\": must be a standard resource type or fully qualified"),
            ],
        ),
        (
            container(json!({ "env": [{ "name": "A=B" }, { "name": "C", "value": "x", "valueFrom": { "fieldRef": { "fieldPath": "p" } } }, { "name": "D", "valueFrom": {} }] })),
            vec![
                format!("{c}.env[0].name: Invalid value: \"A=B\": a valid environment variable name must consist only of printable ASCII characters other than '='"),
                format!("{c}.env[1].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty"),
                format!("{c}.env[2].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"),
            ],
        ),
        (
            container(json!({ "volumeMounts": [{ "name": "nope", "mountPath": "/a" }] })),
            vec![format!("{c}.volumeMounts[0].name: Not found: \"nope\"")],
        ),
        (
            with(json!({ "restartPolicy": "Sometimes" })),
            vec!["spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"".to_owned()],
        ),
        (
            with(json!({ "dnsPolicy": "None" })),
            vec!["spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None".to_owned()],
        ),
        (
            with(json!({ "tolerations": [{ "operator": "Equal" }, { "key": "k", "effect": "X" }, { "key": "k", "operator": "Exists", "value": "v" }] })),
            vec![
                "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"".to_owned(),
                "spec.tolerations[1].effect: Unsupported value: \"X\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"".to_owned(),
                "spec.tolerations[2].operator: Invalid value: {\"key\":\"k\",\"operator\":\"Exists\",\"value\":\"v\"}: value must be empty when `operator` is 'Exists'".to_owned(),
            ],
        ),
        (
            with(json!({ "volumes": [{ "name": "v", "emptyDir": {}, "hostPath": { "path": "/" } }, { "name": "v", "emptyDir": {} }] })),
            vec![
                "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type".to_owned(),
                "spec.volumes[1].name: Duplicate value: \"v\"".to_owned(),
            ],
        ),
        (
            with(json!({ "activeDeadlineSeconds": 0, "terminationGracePeriodSeconds": -1 })),
            vec![
                "spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0".to_owned(),
                "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive".to_owned(),
            ],
        ),
        (
            with(json!({ "initContainers": [{ "name": "i", "image": "i", "readinessProbe": { "exec": { "command": ["x"] } } }] })),
            vec!["spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always".to_owned()],
        ),
    ] {
        assert_eq!(errors(pod(spec.clone())), want, "{spec}");
    }
    let selector = errors(pod(with(json!({ "nodeSelector": { "a b": "" } }))));
    assert!(selector[0].starts_with("spec.nodeSelector: Invalid value: \"a b\": name part must consist of"));
}

#[test]
fn little_of_a_pod_changes() {
    let pod = plain();
    let image = json!({ "spec": { "containers": [{ "name": "c", "image": "other" }] } });
    let newer = patched(&pod, image).unwrap();
    assert_eq!(newer["metadata"]["generation"], 2);
    let mut tolerations = pod["spec"]["tolerations"].as_array().unwrap().clone();
    tolerations.push(json!({ "key": "k", "operator": "Exists" }));
    assert!(merged(&pod, json!({ "spec": { "tolerations": tolerations } })).is_ok());
    assert!(merged(&pod, json!({ "spec": { "activeDeadlineSeconds": 5 } })).is_ok());

    let fixed = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
        `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
        tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
    for change in [
        json!({ "spec": { "nodeName": "n1" } }),
        json!({ "spec": { "restartPolicy": "Never" } }),
        json!({ "spec": { "containers": [{ "name": "c", "env": [{ "name": "A" }] }] } }),
        json!({ "spec": { "terminationGracePeriodSeconds": 1 } }),
    ] {
        assert_eq!(errors(patched(&pod, change.clone())), [fixed], "{change}");
    }
    assert_eq!(
        errors(merged(&pod, json!({ "spec": { "tolerations": [] } }))),
        ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]
    );
    let more = json!({ "spec": { "containers": [{ "name": "d", "image": "i" }] } });
    assert_eq!(
        errors(patched(&pod, more)),
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
    let with_deadline = merged(&pod, json!({ "spec": { "activeDeadlineSeconds": 5 } })).unwrap();
    assert_eq!(
        errors(merged(&with_deadline, json!({ "spec": { "activeDeadlineSeconds": 6 } }))),
        ["spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value 5"]
    );
}

#[test]
fn grace_is_for_pods_that_run() {
    let grace = |pod: &Value| kind("Pod").deletion_grace_seconds(pod);
    let pending = plain();
    assert_eq!(grace(&pending), None);
    let running = pod(with(json!({ "nodeName": "n1" }))).unwrap();
    assert_eq!(grace(&running), Some(30));
    let hasty = pod(with(json!({ "nodeName": "n1", "terminationGracePeriodSeconds": 0 }))).unwrap();
    assert_eq!(grace(&hasty), None);
    assert_eq!(grace(&status(&running, json!({ "phase": "Succeeded" })).unwrap()), None);
}

#[test]
fn ended_containers_stay_ended() {
    let once = pod(with(json!({ "nodeName": "n1", "restartPolicy": "Never" }))).unwrap();
    let container = |state: Value| json!({ "containerStatuses": [{ "name": "c", "state": state }] });
    let ended = status(&once, container(json!({ "terminated": { "exitCode": 0 } }))).unwrap();
    assert_eq!(
        errors(status(&ended, container(json!({ "running": {} })))),
        ["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"]
    );
}

#[test]
fn fields_to_select_by() {
    let pod = pod(with(json!({ "nodeName": "n1" }))).unwrap();
    let fields = kind("Pod").selectable_fields(&pod);
    assert!(fields.contains(&("spec.nodeName", "n1".to_owned())));
    assert!(fields.contains(&("status.phase", "Pending".to_owned())));
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, kind("Pod").selectable_field_names());
}

/// READY, STATUS and RESTARTS.
fn shown(spec: Value, reported: Value) -> [String; 3] {
    let pod = pod(spec).unwrap();
    let cells = row(&status(&pod, reported).unwrap());
    [cells[1].clone(), cells[2].clone(), cells[3].clone()]
}

#[test]
fn the_status_column() {
    let waiting = |reason: &str| json!({ "waiting": { "reason": reason } });
    let ended = |code: i32, reason: &str| json!({ "terminated": { "exitCode": code, "reason": reason } });
    let one = |phase: &str, ready: bool, restarts: i32, state: Value| {
        json!({
            "phase": phase,
            "containerStatuses": [{ "name": "c", "ready": ready, "restartCount": restarts, "state": state }],
        })
    };
    for (reported, want) in [
        (one("Running", true, 0, json!({ "running": {} })), ["1/1", "Running", "0"]),
        (one("Running", false, 0, json!({ "running": {} })), ["0/1", "Running", "0"]),
        (one("Pending", false, 0, waiting("ContainerCreating")), ["0/1", "ContainerCreating", "0"]),
        (one("Running", false, 3, waiting("CrashLoopBackOff")), ["0/1", "CrashLoopBackOff", "3"]),
        (one("Pending", false, 0, waiting("ErrImagePull")), ["0/1", "ErrImagePull", "0"]),
        (one("Succeeded", false, 0, ended(0, "Completed")), ["0/1", "Completed", "0"]),
        (one("Failed", false, 0, ended(1, "Error")), ["0/1", "Error", "0"]),
        (one("Failed", false, 0, ended(7, "")), ["0/1", "ExitCode:7", "0"]),
        (
            one("Failed", false, 0, json!({ "terminated": { "exitCode": 137, "signal": 9 } })),
            ["0/1", "Signal:9", "0"],
        ),
        (json!({ "phase": "Failed", "reason": "Evicted" }), ["0/1", "Evicted", "0"]),
        (
            json!({
                "phase": "Pending",
                "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "SchedulingGated" }],
            }),
            ["0/1", "SchedulingGated", "0"],
        ),
        (
            json!({
                "phase": "Running",
                "containerStatuses": [{
                    "name": "c", "ready": true, "restartCount": 3, "state": { "running": {} },
                    "lastState": { "terminated": { "exitCode": 1, "finishedAt": "2026-01-01T00:00:32Z" } },
                }],
            }),
            ["1/1", "Running", "3 (10s ago)"],
        ),
    ] {
        assert_eq!(shown(with(json!({})), reported.clone()), want, "{reported}");
    }
}

#[test]
fn one_of_two_has_completed() {
    let spec = json!({ "containers": [{ "name": "a", "image": "i" }, { "name": "b", "image": "i" }] });
    let reported = |ready: &str| {
        json!({
            "phase": "Running",
            "conditions": [{ "type": "Ready", "status": ready }],
            "containerStatuses": [
                { "name": "a", "state": { "terminated": { "exitCode": 0, "reason": "Completed" } } },
                { "name": "b", "ready": true, "state": { "running": {} } },
            ],
        })
    };
    assert_eq!(shown(spec.clone(), reported("False")), ["1/2", "NotReady", "0"]);
    assert_eq!(shown(spec, reported("True")), ["1/2", "Running", "0"]);
}

#[test]
fn init_containers_and_sidecars() {
    let init = |name: &str| json!({ "name": name, "image": "i" });
    let mut sidecar = init("side");
    sidecar["restartPolicy"] = json!("Always");
    let spec = with(json!({ "initContainers": [init("one"), init("two")] }));
    let first = |state: Value| json!({ "phase": "Pending", "initContainerStatuses": [{ "name": "one", "state": state }] });
    assert_eq!(shown(spec.clone(), first(json!({ "running": {} })))[1], "Init:0/2");
    assert_eq!(
        shown(spec.clone(), first(json!({ "waiting": { "reason": "PodInitializing" } })))[1],
        "Init:0/2"
    );
    assert_eq!(
        shown(spec.clone(), first(json!({ "waiting": { "reason": "CrashLoopBackOff" } })))[1],
        "Init:CrashLoopBackOff"
    );
    assert_eq!(shown(spec, first(json!({ "terminated": { "exitCode": 2 } })))[1], "Init:ExitCode:2");

    let spec = with(json!({ "initContainers": [init("one"), sidecar] }));
    let running = json!({
        "phase": "Running",
        "initContainerStatuses": [
            { "name": "one", "restartCount": 5, "state": { "terminated": { "exitCode": 0 } } },
            { "name": "side", "ready": true, "started": true, "restartCount": 1, "state": { "running": {} } },
        ],
        "containerStatuses": [{ "name": "c", "ready": true, "restartCount": 2, "state": { "running": {} } }],
    });
    assert_eq!(shown(spec, running), ["2/2", "Running", "3"]);
}

#[test]
fn going_pods_and_gates() {
    let pod = pod(with(
        json!({ "nodeName": "n1", "readinessGates": [{ "conditionType": "g" }, { "conditionType": "h" }] }),
    ))
    .unwrap();
    let reported = json!({
        "phase": "Running", "podIP": "10.244.1.5", "podIPs": [{ "ip": "10.244.1.5" }],
        "conditions": [{ "type": "g", "status": "True" }],
    });
    let mut pod = status(&pod, reported).unwrap();
    assert_eq!(row(&pod)[5..], ["10.244.1.5", "n1", "<none>", "1/2"]);
    pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:30Z");
    assert_eq!(row(&pod)[2], "Terminating");
    pod["status"]["phase"] = json!("Succeeded");
    assert_eq!(row(&pod)[2], "Succeeded");
    pod["status"]["phase"] = json!("Running");
    pod["status"]["reason"] = json!("NodeLost");
    assert_eq!(row(&pod)[2], "Unknown");
}
