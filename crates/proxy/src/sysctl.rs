//! Kernel parameters that forwarding needs. What cannot be set is a warning that says what to do: a container may not
//! be allowed to, while its host has set it already.

use std::fs;
use std::path::PathBuf;

/// What forwarding needs, each parameter with its value. `localhost` also lets node ports answer at 127.0.0.1.
pub fn wanted(localhost: bool) -> Vec<(&'static str, &'static str)> {
    let mut wanted = vec![("net.ipv4.ip_forward", "1")];
    if fs::exists("/proc/sys/net/ipv6").unwrap_or(false) {
        wanted.push(("net.ipv6.conf.all.forwarding", "1"));
    }
    if localhost {
        wanted.push(("net.ipv4.conf.all.route_localnet", "1"));
    }
    wanted
}

/// Sets what is [`wanted`].
pub(crate) fn prepare(localhost: bool) {
    wanted(localhost).into_iter().for_each(|(key, value)| set(key, value));
    // Only there with the module br_netfilter. Without it, answers between pods of one bridge would not pass the rules
    // that turn them back, unless the pod network routes them through the node.
    let bridged = fs::read_to_string(path("net.bridge.bridge-nf-call-iptables"));
    if !bridged.is_ok_and(|value| value.trim() == "1") {
        tracing::info!(
            "net.bridge.bridge-nf-call-iptables is not 1: pods on one bridge reach each other's Services only if the pod network routes them"
        );
    }
}

fn path(key: &str) -> PathBuf {
    // Only dots between names separate; names themselves have none here.
    format!("/proc/sys/{}", key.replace('.', "/")).into()
}

fn set(key: &str, wanted: &str) {
    let path = path(key);
    if fs::read_to_string(&path).is_ok_and(|value| value.trim() == wanted) {
        return;
    }
    if let Err(error) = fs::write(&path, wanted) {
        tracing::warn!(key, wanted, %error, "a kernel parameter cannot be set; set it with sysctl -w");
    }
}
