//! Our two iptables chains: `SVCD-MASQ` gives what leaves the cluster the node's address, `SVCD-FORWARD` lets pod
//! traffic through where the machine's policy is to drop (Docker and ufw set it so).
//!
//! Both are hooked in last: rules that reject a Service without endpoints, or enforce a policy, must see packets first.
//! Blocking, since the iptables crate runs a program for every call: only for `spawn_blocking`.

use ipnet::Ipv4Net;
use iptables::IPTables;

use crate::error::{Error, Result};

/// A chain of ours, with the built-in chain that jumps to it.
#[derive(Debug, PartialEq, Eq)]
struct Chain {
    table: &'static str,
    name: &'static str,
    hook: &'static str,
    /// As `iptables -S` prints them, without `-A NAME `.
    rules: Vec<String>,
}

/// The rules that must be there.
fn wanted(node: Ipv4Net, cluster: Ipv4Net) -> [Chain; 2] {
    let (node, cluster) = (node.trunc(), cluster.trunc());
    [
        Chain {
            table: "nat",
            name: "SVCD-MASQ",
            hook: "POSTROUTING",
            rules: vec![
                format!("-s {node} -d {cluster} -j RETURN"),
                format!("-s {node} -d 224.0.0.0/4 -j RETURN"),
                format!("-s {node} -j MASQUERADE"),
            ],
        },
        Chain {
            table: "filter",
            name: "SVCD-FORWARD",
            hook: "FORWARD",
            rules: vec![format!("-s {cluster} -j ACCEPT"), format!("-d {cluster} -j ACCEPT")],
        },
    ]
}

/// Makes the chains be there; where they are right nothing is written.
pub(crate) fn ensure(node: Ipv4Net, cluster: Ipv4Net) -> Result<()> {
    let iptables = open()?;
    for chain in wanted(node, cluster) {
        // The built-in chain first: when that can be read, a failure below means that ours is not there.
        let hooked = hooked(&iptables, &chain)?;
        let prefix = format!("-A {} ", chain.name);
        let actual = list(&iptables, chain.table, chain.name).ok();
        let rules: Option<Vec<&str>> =
            actual.as_ref().map(|lines| lines.iter().filter_map(|line| line.strip_prefix(&prefix)).collect());
        if rules.is_none() {
            iptables.new_chain(chain.table, chain.name).map_err(refused("make", &chain))?;
        }
        if rules.is_none_or(|rules| rules != chain.rules) {
            iptables.flush_chain(chain.table, chain.name).map_err(refused("flush", &chain))?;
            for rule in &chain.rules {
                iptables.append(chain.table, chain.name, rule).map_err(refused("fill", &chain))?;
            }
        }
        if !hooked {
            iptables.append(chain.table, chain.hook, &jump(&chain)).map_err(refused("hook in", &chain))?;
        }
    }
    Ok(())
}

/// Removes the chains and the jumps to them.
pub(crate) fn remove() -> Result<()> {
    let Some(iptables) = find()? else { return Ok(()) };
    let any = Ipv4Net::default();
    for chain in wanted(any, any) {
        while hooked(&iptables, &chain)? {
            iptables.delete(chain.table, chain.hook, &jump(&chain)).map_err(refused("unhook", &chain))?;
        }
        if list(&iptables, chain.table, chain.name).is_ok() {
            iptables.flush_chain(chain.table, chain.name).map_err(refused("flush", &chain))?;
            iptables.delete_chain(chain.table, chain.name).map_err(refused("remove", &chain))?;
        }
    }
    Ok(())
}

/// What of ours is there, in words.
pub(crate) fn leftovers() -> Result<Vec<String>> {
    let Some(iptables) = find()? else { return Ok(Vec::new()) };
    let mut left = Vec::new();
    let any = Ipv4Net::default();
    for chain in wanted(any, any) {
        if hooked(&iptables, &chain)? {
            left.push(format!("rule of chain {} of table {}: {}", chain.hook, chain.table, jump(&chain)));
        }
        if list(&iptables, chain.table, chain.name).is_ok() {
            left.push(format!("chain {} of table {}", chain.name, chain.table));
        }
    }
    Ok(left)
}

fn open() -> Result<IPTables> {
    iptables::new(false).map_err(|error| missing(&*error))
}

/// Where the program is not, no rule of ours can be.
fn find() -> Result<Option<IPTables>> {
    match iptables::new(false) {
        Ok(iptables) => Ok(Some(iptables)),
        Err(error) => match error.downcast_ref::<std::io::Error>() {
            Some(absent) if absent.kind() == std::io::ErrorKind::NotFound => Ok(None),
            _ => Err(missing(&*error)),
        },
    }
}

fn missing(error: &dyn std::error::Error) -> Error {
    Error::Iptables {
        what: "set up masquerading".to_owned(),
        message: format!("{error}; install it (apt-get install iptables)"),
    }
}

fn jump(chain: &Chain) -> String {
    format!("-j {}", chain.name)
}

fn hooked(iptables: &IPTables, chain: &Chain) -> Result<bool> {
    let lines = list(iptables, chain.table, chain.hook)?;
    Ok(lines.contains(&format!("-A {} {}", chain.hook, jump(chain))))
}

/// The lines of a chain. The crate's own `list` and `exists` take every failure, also missing rights, for an empty
/// chain; and how a missing chain is reported differs between the versions of iptables.
fn list(iptables: &IPTables, table: &str, chain: &str) -> Result<Vec<String>> {
    let refused =
        |message: String| Error::Iptables { what: format!("list chain {chain} of table {table}"), message };
    let output =
        iptables.execute(table, &format!("-S {chain}")).map_err(|error| refused(error.to_string()))?;
    if !output.status.success() {
        return Err(refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().map(|line| line.trim().to_owned()).collect())
}

fn refused(what: &str, chain: &Chain) -> impl FnOnce(Box<dyn std::error::Error>) -> Error {
    let what = format!("{what} chain {} of table {}", chain.name, chain.table);
    move |error| Error::Iptables { what, message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_name_the_networks_as_iptables_prints_them() {
        let [masquerade, forward] =
            wanted("10.244.1.7/24".parse().unwrap(), "10.244.0.0/16".parse().unwrap());
        assert_eq!(
            masquerade.rules,
            [
                "-s 10.244.1.0/24 -d 10.244.0.0/16 -j RETURN",
                "-s 10.244.1.0/24 -d 224.0.0.0/4 -j RETURN",
                "-s 10.244.1.0/24 -j MASQUERADE"
            ]
        );
        assert_eq!(forward.rules, ["-s 10.244.0.0/16 -j ACCEPT", "-d 10.244.0.0/16 -j ACCEPT"]);
    }
}
