//! Manifests and answers that the walkthroughs share.

use std::collections::BTreeSet;

use svcd_tests::{Lab, eventually};

/// A Service with the given `spec` (YAML in flow style), selecting `app: NAME` unless the spec says otherwise.
pub(crate) fn service(name: &str, spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{ name: {name} }}\nspec: {spec}\n")
}

/// A ClusterIP Service on port 80 for the echo pods `app: NAME`.
pub(crate) fn plain_service(name: &str) -> String {
    service(name, &format!("{{ selector: {{ app: {name} }}, ports: [{{ port: 80, targetPort: 8080 }}] }}"))
}

/// The pod that answered, as the echo server writes it.
pub(crate) fn pod_of(answer: &str) -> Option<String> {
    answer.lines().find_map(|line| line.strip_prefix("pod: ")).map(str::to_owned)
}

/// The pods that answer a URL when it is asked `times` times from a node.
pub(crate) fn pods_behind(
    lab: &Lab,
    node: &str,
    url: &str,
    times: usize,
) -> Result<BTreeSet<String>, String> {
    let script = format!("for i in $(seq {times}); do curl -sS -m 2 {url} || exit 1; echo; done");
    let done = lab.on(node, &script);
    if done.code != 0 {
        return Err(format!("{url} from {node}: {}{}", done.out, done.err));
    }
    Ok(done.out.lines().filter_map(pod_of).collect())
}

/// Waits until exactly `count` pods answer a URL from a node.
#[track_caller]
pub(crate) fn until_pods(lab: &Lab, node: &str, url: &str, count: usize) -> BTreeSet<String> {
    eventually(&format!("{count} pods behind {url}"), || {
        let pods = pods_behind(lab, node, url, 12 * count)?;
        if pods.len() == count { Ok(pods) } else { Err(format!("{pods:?} answered")) }
    })
}

/// All nodes of the shared lab.
pub(crate) const NODES: [&str; 4] = ["control-plane", "node1", "node2", "node3"];
