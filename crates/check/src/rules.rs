//! From facts to findings: one file for what belongs together, one function a check.

mod firewall;
mod kernel;
mod machine;
mod network;
mod ports;

pub use self::network::Choice;
pub(crate) use self::network::choose;
use crate::{Facts, Finding, Plan};

type Rule = fn(&Plan, &Facts) -> Vec<Finding>;

/// Every check, in the order in which it is told.
const RULES: [(&str, Rule); 15] = [
    ("rights", kernel::rights),
    ("kernel", kernel::features),
    ("parameters", kernel::parameters),
    ("rootless lab", kernel::rootless),
    ("memory", machine::memory),
    ("disk", machine::disk),
    ("clock", machine::clock),
    ("certificates", machine::certificates),
    ("ports", ports::taken),
    ("addresses", network::addresses),
    ("twins", network::twins),
    ("ranges", network::ranges),
    ("resolver", network::resolver),
    ("firewall", firewall::filters),
    ("others", machine::others),
];

/// What the facts come to: for each check what is wrong, or that nothing is.
#[must_use]
pub fn judge(plan: &Plan, facts: &Facts) -> Vec<Finding> {
    let one = |(check, rule): &(&'static str, Rule)| {
        let found = rule(plan, facts);
        if found.is_empty() { vec![Finding::ok(check)] } else { found }
    };
    RULES.iter().flat_map(one).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Role, Severity};

    pub(crate) fn plan(role: Role) -> Plan {
        Plan {
            role,
            node_ip: None,
            join: None,
            services: "10.96.0.0/12".parse().unwrap(),
            pods: "10.244.0.0/16".parse().unwrap(),
            listen: "0.0.0.0:6443".parse().unwrap(),
            data_dir: "/var/lib/svcd".into(),
        }
    }

    /// A machine on which all is well.
    pub(crate) fn well() -> Facts {
        Facts {
            root: true,
            parameters_writable: true,
            address: Some([192, 168, 56, 11].into()),
            interfaces: vec![crate::Interface {
                name: "eth0".to_owned(),
                addresses: vec!["192.168.56.11/24".parse().unwrap()],
            }],
            clock: crate::Clock { now: 1_800_000_000, server: None },
            ..Facts::default()
        }
    }

    /// What a rule says that is not well.
    pub(crate) fn told(plan: &Plan, facts: &Facts) -> Vec<(&'static str, Severity, String)> {
        let bad = judge(plan, facts).into_iter().filter(|finding| finding.severity != Severity::Ok);
        bad.map(|finding| {
            assert!(!finding.fix.is_empty(), "{finding:?}");
            (finding.check, finding.severity, finding.message)
        })
        .collect()
    }

    #[test]
    fn where_all_is_well_every_check_says_so() {
        let findings = judge(&plan(Role::Server), &well());
        assert_eq!(findings.len(), RULES.len());
        assert!(findings.iter().all(|finding| finding.severity == Severity::Ok), "{findings:?}");
    }

    #[test]
    fn findings_bear_the_name_of_their_check() {
        let findings = judge(&plan(Role::Agent), &Facts::default());
        assert!(findings.iter().all(|finding| RULES.iter().any(|(name, _)| *name == finding.check)));
    }
}
