//! What filters packets here, asked of the programs that know.

use std::process::Command;

use super::read;
use crate::{Firewall, Policy};

pub(super) fn look() -> Firewall {
    let ufw = run("ufw", &["status"]).filter(|status| status.contains("Status: active"));
    let mut policies = policies_of_iptables(&run("iptables-save", &["-t", "filter"]).unwrap_or_default());
    policies.extend(policies_of_nft(&run("nft", &["list", "ruleset"]).unwrap_or_default()));
    Firewall {
        ufw,
        firewalld: run("firewall-cmd", &["--state"]).is_some_and(|state| state.contains("running")),
        policies,
        legacy_rules: legacy_rules(),
        iptables: run("iptables", &["--version"]).map(|version| version.trim().to_owned()),
    }
}

/// What a program prints; nothing where it is missing or refuses.
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).env("LC_ALL", "C").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The old program loads the old tables when it is asked, so it is asked only where they are loaded already.
fn legacy_rules() -> bool {
    let loaded = !read("/proc/net/ip_tables_names").trim().is_empty();
    loaded
        && run("iptables-legacy-save", &[])
            .is_some_and(|saved| saved.lines().any(|line| line.starts_with("-A")))
}

fn policies_of_iptables(saved: &str) -> Vec<Policy> {
    let drops = |chain: &str| saved.lines().any(|line| line.starts_with(&format!(":{chain} DROP")));
    let policy = |(chain, input): (&str, bool)| {
        let chain = format!("chain {chain} of iptables' table filter");
        Policy { chain, input, iptables: true }
    };
    [("INPUT", true), ("FORWARD", false)].into_iter().filter(|(chain, _)| drops(chain)).map(policy).collect()
}

/// Chains of nftables that drop, but for those that iptables made and shows.
fn policies_of_nft(ruleset: &str) -> Vec<Policy> {
    let mut found = Vec::new();
    let (mut table, mut chain) = ("", "");
    for line in ruleset.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("table ") {
            table = name.trim_end_matches(" {");
        } else if let Some(name) = line.strip_prefix("chain ") {
            chain = name.trim_end_matches(" {");
        } else if line.starts_with("type filter hook") && line.contains("policy drop") {
            let input = line.contains("hook input");
            let passes = input || line.contains("hook forward");
            if passes && !matches!(table, "ip filter" | "ip6 filter" | "ip6 nat" | "ip nat") {
                let chain = format!("chain {chain} of nftables' table {table}");
                found.push(Policy { chain, input, iptables: false });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_that_drop_are_found() {
        let saved = "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT DROP [0:0]\nCOMMIT\n";
        let found = policies_of_iptables(saved);
        assert_eq!(found.len(), 1);
        assert!(found[0].input && found[0].chain.contains("INPUT"));
        let ruleset = "table ip filter {\n\tchain INPUT {\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n}\n\
            table inet fw {\n\tchain in {\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n\
            \tchain out {\n\t\ttype filter hook output priority filter; policy drop;\n\t}\n\
            \tchain fwd {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n";
        let found = policies_of_nft(ruleset);
        let names: Vec<(&str, bool)> = found.iter().map(|policy| (&*policy.chain, policy.input)).collect();
        let name = |chain| format!("chain {chain} of nftables' table inet fw");
        assert_eq!(names, [(&*name("in"), true), (&*name("fwd"), false)]);
    }
}
