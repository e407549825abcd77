//! Links between namespaces: veth pairs and bridges with addresses, made with `ip`. Duplicate address detection is off,
//! so that IPv6 addresses work at once.

use std::time::Duration;

use crate::{Netns, eventually};

/// One end of a link: where, under which interface name, with which addresses (`10.0.0.1/24`).
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// The namespace.
    pub netns: &'a Netns,
    /// The interface's name there; at most 15 characters.
    pub name: &'a str,
    /// Its addresses with prefix lengths.
    pub addresses: &'a [&'a str],
}

/// Joins two namespaces by a veth pair.
#[track_caller]
pub fn veth(one: End<'_>, other: End<'_>) {
    let peer = other.netns.path();
    one.netns.ip(&format!(
        "link add {} type veth peer name {} netns {}",
        one.name,
        other.name,
        peer.display()
    ));
    configure(one);
    configure(other);
    carries(one);
    carries(other);
}

/// Makes a bridge at `end`.
#[track_caller]
pub fn bridge(end: End<'_>) {
    end.netns.ip(&format!("link add {} type bridge", end.name));
    configure(end);
}

/// Joins a namespace to a bridge in another one, by a veth pair whose bridge side is called `port`.
#[track_caller]
pub fn plug(bridge_netns: &Netns, bridge: &str, port: &str, end: End<'_>) {
    veth(End { netns: bridge_netns, name: port, addresses: &[] }, end);
    bridge_netns.ip(&format!("link set {port} master {bridge}"));
}

#[track_caller]
fn configure(end: End<'_>) {
    end.netns.sysctl(&format!("net.ipv6.conf.{}.accept_dad", end.name), "0");
    for address in end.addresses {
        end.netns.ip(&format!("addr add {address} dev {}", end.name));
    }
    end.netns.ip(&format!("link set {} up", end.name));
}

/// Waits until an end that has IPv6 addresses carries them: the kernel tells its IPv6 part that a link is up at most
/// once a second, and neighbour solicitations of that second are lost.
#[track_caller]
fn carries(end: End<'_>) {
    if end.addresses.iter().any(|address| address.contains(':')) {
        eventually(Duration::from_secs(5), || {
            let state = end.netns.ip(&format!("link show {}", end.name));
            if state.contains("state UP") { Ok(()) } else { Err(state) }
        });
    }
}
