//! What a machine is like, as plain values.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::Ipv4Net;

/// The probe of what the rules of Services need of iptables.
pub const SERVICE_PROBE: &str = "iptables";

/// What was found out; empty where something could not be.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Whether this was asked with root's rights.
    pub root: bool,
    /// What the kernel was asked to do in a namespace of its own.
    pub probes: Vec<Probe>,
    /// Kernel parameters, as `net.ipv4.ip_forward`.
    pub parameters: BTreeMap<String, String>,
    /// Whether they can be written.
    pub parameters_writable: bool,
    /// Ports that are taken.
    pub listeners: Vec<Listener>,
    /// Links with addresses.
    pub interfaces: Vec<Interface>,
    /// The IPv4 routes of the main table.
    pub routes: Vec<Route>,
    /// The address that the node would have if none were given.
    pub address: Option<IpAddr>,
    /// Another machine at that address.
    pub twin: Option<Twin>,
    /// Who resolves names.
    pub resolvers: Option<Resolvers>,
    /// Names of running programs.
    pub programs: BTreeSet<String>,
    /// What filters packets.
    pub firewall: Firewall,
    /// What time it is.
    pub clock: Clock,
    /// Certificates that are there and that a start does not issue anew. [`gather`](crate::gather) does not know them.
    pub certificates: Vec<Dated>,
    /// Memory that could be had, in KiB.
    pub memory_kib: Option<u64>,
    /// Room where the data will be, in KiB.
    pub disk_kib: Option<u64>,
}

/// Something that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What.
    pub what: &'static str,
    /// Why it did not work.
    pub refusal: Option<String>,
}

/// The two kinds of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A port that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its kind.
    pub protocol: Protocol,
    /// Where.
    pub address: SocketAddr,
    /// By which program.
    pub program: Option<String>,
}

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its IPv4 addresses.
    pub addresses: Vec<Ipv4Net>,
}

/// Another machine that has an address of this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twin {
    /// The address.
    pub address: Ipv4Addr,
    /// This machine's link on which the other was heard.
    pub interface: String,
    /// The other's hardware address.
    pub hardware: String,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub destination: Ipv4Net,
    /// Through which link.
    pub interface: String,
    /// Whether svcd set it.
    pub ours: bool,
}

/// Who resolves names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolvers {
    /// As `/etc/resolv.conf` says.
    pub usual: Vec<IpAddr>,
    /// The real ones, where systemd-resolved stands in front.
    pub behind_stub: Vec<IpAddr>,
}

/// What filters packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    /// What ufw says of itself, if it is active.
    pub ufw: Option<String>,
    /// Whether firewalld runs.
    pub firewalld: bool,
    /// Chains that drop what no rule lets through.
    pub policies: Vec<Policy>,
    /// Whether there are rules of the kernel's old tables.
    pub legacy_rules: bool,
    /// What `iptables --version` says.
    pub iptables: Option<String>,
}

/// A chain that drops what no rule lets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// As a person would name it: `table inet filter, chain input`.
    pub chain: String,
    /// For packets to this machine, not for those that pass through.
    pub input: bool,
    /// The chain is one that `iptables` shows, so that rules of svcd's in it count.
    pub iptables: bool,
}

/// A certificate, with the time in which it is valid, in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dated {
    /// Whose it is.
    pub name: String,
    /// The first second.
    pub not_before: i64,
    /// The last second.
    pub not_after: i64,
}

/// What time it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// In seconds since 1970.
    pub now: i64,
    /// How far the server's clock is off from here, or why it could not be asked.
    pub server: Option<Result<Duration, String>>,
}
