//! The lab's way out: the machine forwards and masquerades for the lab's network. What is changed here is changed back.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ipnet::Ipv4Net;

use crate::error::{Error, OnFile};

/// The bridge that all nodes hang on, on the machine itself.
pub(crate) const BRIDGE: &str = "svcd-lab0";
/// Turns the machine into a router.
const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// The rules that let the lab's packets through and out, as (table, chain, rule).
fn rules(subnet: &Ipv4Net) -> [(&'static str, &'static str, String); 3] {
    let comment = "-m comment --comment svcd-lab";
    [
        // By the way out, not by destination: with br_netfilter, frames between nodes pass here too, to pods' addresses.
        ("nat", "POSTROUTING", format!("-s {subnet} ! -o {BRIDGE} {comment} -j MASQUERADE")),
        ("filter", "FORWARD", format!("-i {BRIDGE} {comment} -j ACCEPT")),
        ("filter", "FORWARD", format!("-o {BRIDGE} {comment} -j ACCEPT")),
    ]
}

/// The kernel parameters that [`open`] will change, with their values now.
///
/// # Errors
/// When they cannot be read.
pub(crate) fn sysctls() -> Result<BTreeMap<String, String>, Error> {
    let path = Path::new(IP_FORWARD);
    let now = fs::read_to_string(path).on("read", path)?.trim().to_owned();
    Ok(if now == "1" { BTreeMap::new() } else { BTreeMap::from([(IP_FORWARD.to_owned(), now)]) })
}

/// Opens the way.
///
/// # Errors
/// When iptables is missing or refuses, or the kernel parameter cannot be set.
pub(crate) fn open(subnet: &Ipv4Net, sysctls: &BTreeMap<String, String>) -> Result<(), Error> {
    let iptables = probe()?;
    for (table, chain, rule) in rules(subnet) {
        if !iptables.exists(table, chain, &rule).unwrap_or(false) {
            iptables.insert(table, chain, &rule, 1).map_err(|e| refused("add", &rule, &*e))?;
        }
    }
    sysctls.keys().try_for_each(|path| fs::write(path, "1").on("write", Path::new(path)))
}

/// Closes it again. Attempts everything; the first error is returned.
///
/// # Errors
/// When a rule that is there cannot be removed, or a kernel parameter not be set back.
pub(crate) fn close(subnet: &Ipv4Net, sysctls: &BTreeMap<String, String>) -> Result<(), Error> {
    let iptables = probe()?;
    let mut result = Ok(());
    for (table, chain, rule) in rules(subnet) {
        while iptables.exists(table, chain, &rule).unwrap_or(false) {
            if let Err(error) = iptables.delete(table, chain, &rule) {
                result = result.and(Err(refused("remove", &rule, &*error)));
                break;
            }
        }
    }
    for (path, old) in sysctls {
        let restored = fs::write(path, old).on("write", Path::new(path));
        result = result.and(restored);
    }
    result
}

fn probe() -> Result<iptables::IPTables, Error> {
    iptables::new(false).map_err(|_| Error::Missing { program: "iptables", package: "iptables" })
}

fn refused(what: &str, rule: &str, error: &dyn std::error::Error) -> Error {
    Error::Kernel {
        what: format!("{what} the rule {rule:?}"),
        source: std::io::Error::other(error.to_string()),
    }
}
