//! `svcd check`: what would keep svcd from working on this machine. Exit code 1 where something does.

use ipnet::{IpNet, Ipv4Net};
use svcd_check::{Facts, Finding, Plan, Role, Severity, gather, judge};
use svcd_node::{Ranges, ServerUrl};

use crate::certs;
use crate::cli::{CheckArgs, CheckedRole, Output};
use crate::failure::Failure;

pub(crate) async fn run(args: CheckArgs) -> Result<(), Failure> {
    let plan = plan(&args)?;
    let facts = Facts { certificates: certs::lasting(&args.data_dir)?, ..gather(&plan).await };
    let findings = judge(&plan, &facts);
    match args.output {
        Output::Text => print!("{}", text(&findings)),
        Output::Json => println!("{}", serde_json::json!({ "findings": findings })),
    }
    match findings.iter().filter(|finding| finding.severity == Severity::Error).count() {
        0 => Ok(()),
        count => {
            let what = format!("{count} of these would keep svcd from working");
            Err(Failure::new(what, "mend them, and run the same command again"))
        }
    }
}

fn plan(args: &CheckArgs) -> Result<Plan, Failure> {
    let form = "give it as the server printed it: --join https://ADDRESS:6443";
    let join = args.join.as_deref().map(str::parse::<ServerUrl>).transpose();
    let join = join.map_err(|error| Failure::new(error, form))?;
    Ok(Plan {
        role: match args.role {
            CheckedRole::Server => Role::Server,
            CheckedRole::Agent => Role::Agent,
        },
        node_ip: args.node_ip,
        join: join.map(|server| (server.host().to_owned(), server.port())),
        services: v4(&args.service_cidr)?,
        pods: v4(&args.pod_cidr)?,
        listen: args.listen,
        data_dir: args.data_dir.clone(),
    })
}

/// Nodes forward IPv4 only, so it is that range that must fit the machine.
fn v4(ranges: &Ranges) -> Result<Ipv4Net, Failure> {
    let found = ranges.all().iter().find_map(|range| match range {
        IpNet::V4(range) => Some(*range),
        IpNet::V6(_) => None,
    });
    let none = || {
        Failure::new(
            format!("{ranges} has no range of IPv4"),
            "give one, or both: 10.96.0.0/12,fd00:96::/108",
        )
    };
    found.ok_or_else(none)
}

/// A line for each finding, and its fix below it.
fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { check, severity, message, fix } in findings {
        let word = match severity {
            Severity::Ok => "ok",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        text += &format!("{word:<8} {check:<13} {message}\n");
        if !fix.is_empty() {
            text += &format!("{:<22} fix: {fix}\n", "");
        }
    }
    text
}
