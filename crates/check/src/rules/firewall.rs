//! What would drop packets that the cluster needs: named, with the commands that let them through.
//!
//! Which of them a long list of rules lets through already cannot be told without doing the kernel's work, so these are
//! warnings; where the own tool of a firewall shows the rule, nothing is said.

use crate::{Facts, Finding, Plan, Policy, Role};

const CHECK: &str = "firewall";

pub(super) fn filters(plan: &Plan, facts: &Facts) -> Vec<Finding> {
    let firewall = &facts.firewall;
    let mut found = mixed(facts);
    if let Some(status) = &firewall.ufw {
        found.extend(ufw(plan, status));
    } else if firewall.firewalld {
        let message = "firewalld is active: it rejects what is not opened, also between pods";
        found.push(Finding::warning(CHECK, message, firewalld(plan)));
    } else {
        found.extend(firewall.policies.iter().filter_map(|policy| dropped(plan, policy)));
    }
    found
}

/// The port of the API, where there is one.
fn port(plan: &Plan) -> Option<u16> {
    (plan.role == Role::Server).then(|| plan.listen.port())
}

fn ufw(plan: &Plan, status: &str) -> Option<Finding> {
    let mut missing = Vec::new();
    if let Some(port) = port(plan).filter(|port| !status.contains(&port.to_string())) {
        missing.push(format!("ufw allow {port}/tcp"));
    }
    if !status.contains("svcd0") {
        missing.push("ufw allow in on svcd0".to_owned());
        missing.push("ufw route allow in on svcd0".to_owned());
        missing.push("ufw route allow out on svcd0".to_owned());
    }
    let message = "ufw is active, and no rule of it lets the cluster through";
    (!missing.is_empty()).then(|| Finding::warning(CHECK, message, missing.join("; ")))
}

fn firewalld(plan: &Plan) -> String {
    let mut commands = vec![
        "firewall-cmd --permanent --zone=trusted --add-interface=svcd0".to_owned(),
        format!("firewall-cmd --permanent --zone=trusted --add-source={}", plan.pods.trunc()),
    ];
    commands.extend(port(plan).map(|port| format!("firewall-cmd --permanent --add-port={port}/tcp")));
    commands.push("firewall-cmd --reload".to_owned());
    commands.join("; ")
}

fn dropped(plan: &Plan, policy: &Policy) -> Option<Finding> {
    let chain = &policy.chain;
    if !policy.input {
        // svcd lets pods through in iptables' own chain; a chain of another table has its own say.
        let message =
            format!("{chain} drops what passes through this machine: packets between pods would be lost");
        let fix = format!(
            "let {0} through in it, both ways: ip saddr {0} accept; ip daddr {0} accept",
            plan.pods.trunc()
        );
        return (!policy.iptables).then(|| Finding::warning(CHECK, message, fix));
    }
    let mut opens = vec![("-i svcd0".to_owned(), "iifname svcd0".to_owned())];
    opens.extend(port(plan).map(|port| (format!("-p tcp --dport {port}"), format!("tcp dport {port}"))));
    let message = format!("{chain} drops what is sent to this machine and not let in: pods' DNS queries too");
    let commands: Vec<String> = opens
        .into_iter()
        .map(|(rule, nft)| {
            if policy.iptables {
                format!("iptables -I INPUT {rule} -j ACCEPT")
            } else {
                format!("add to it: {nft} accept")
            }
        })
        .collect();
    Some(Finding::warning(CHECK, message, commands.join("; ")))
}

fn mixed(facts: &Facts) -> Vec<Finding> {
    let firewall = &facts.firewall;
    let nft = firewall.iptables.as_ref().is_some_and(|version| version.contains("nf_tables"));
    let message = "there are rules of both iptables-legacy and iptables-nft: each is blind to the other's, and packets pass both";
    let fix = "remove the old ones: iptables-legacy-save shows them, iptables-legacy -F removes them";
    if nft && firewall.legacy_rules { vec![Finding::warning(CHECK, message, fix)] } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Firewall;
    use crate::rules::tests::{plan, well};

    fn fixes(role: Role, firewall: Firewall) -> Vec<String> {
        let facts = Facts { firewall, ..well() };
        filters(&plan(role), &facts).into_iter().map(|finding| finding.fix).collect()
    }

    #[test]
    fn ufw_is_told_what_it_lacks() {
        let of = |status: &str| Firewall { ufw: Some(status.to_owned()), ..Firewall::default() };
        let fix = &fixes(Role::Server, of("Status: active"))[0];
        assert!(fix.contains("ufw allow 6443/tcp") && fix.contains("ufw route allow in on svcd0"), "{fix}");
        assert!(!fixes(Role::Agent, of("Status: active"))[0].contains("6443"));
        assert!(
            fixes(Role::Server, of("6443/tcp ALLOW Anywhere\nAnywhere on svcd0 ALLOW Anywhere")).is_empty()
        );
    }

    #[test]
    fn chains_that_drop_are_named() {
        let policy = |input, iptables| Firewall {
            policies: vec![Policy { chain: "table inet filter, chain x".to_owned(), input, iptables }],
            ..Firewall::default()
        };
        assert!(
            fixes(Role::Server, policy(true, true))[0]
                .contains("iptables -I INPUT -p tcp --dport 6443 -j ACCEPT")
        );
        assert!(fixes(Role::Agent, policy(true, false))[0].contains("iifname svcd0 accept"));
        assert!(fixes(Role::Agent, policy(false, false))[0].contains("ip saddr 10.244.0.0/16 accept"));
        // svcd's own chain lets pods through there.
        assert!(fixes(Role::Agent, policy(false, true)).is_empty());
    }

    #[test]
    fn two_kinds_of_iptables() {
        let iptables = Some("iptables v1.8.11 (nf_tables)".to_owned());
        let firewall = Firewall { legacy_rules: true, iptables, ..Firewall::default() };
        assert_eq!(fixes(Role::Agent, firewall.clone()).len(), 1);
        assert!(fixes(Role::Agent, Firewall { legacy_rules: false, ..firewall }).is_empty());
    }

    #[test]
    fn firewalld_gets_its_commands() {
        let firewall = Firewall { firewalld: true, ..Firewall::default() };
        assert!(fixes(Role::Server, firewall)[0].ends_with("--add-port=6443/tcp; firewall-cmd --reload"));
    }
}
