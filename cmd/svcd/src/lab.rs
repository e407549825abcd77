//! `svcd lab …`: what each command prints.

use std::process::Command;

use svcd_lab::up::Report;
use svcd_lab::{Layout, Plan, State, demo, enter, rootless};

use crate::block_on;
use crate::cli::LabCommand;
use crate::failure::Failure;

pub(crate) fn run(command: LabCommand) -> Result<(), Failure> {
    // Namespaces are entered before the runtime starts its threads.
    let layout = rootless::enter(matches!(command, LabCommand::Up { .. }))?;
    if !matches!(command, LabCommand::Up { .. }) {
        rootless::join_host(&layout)?;
    }
    match command {
        LabCommand::Up { nodes, subnet, proxy_mode } => up(&layout, nodes, subnet, proxy_mode),
        LabCommand::Status => status(&layout),
        LabCommand::Exec { node, command } => {
            running(&layout)?.node(&node)?;
            Err(enter::exec(&layout, &node, &command).into())
        }
        LabCommand::Kubeconfig => {
            running(&layout)?;
            println!("{}", layout.kubeconfig().display());
            Ok(())
        }
        LabCommand::Shell => shell(&layout),
        LabCommand::Down => {
            block_on(async { svcd_lab::down(&layout).await.map_err(Failure::from) })?;
            println!("the lab is gone");
            Ok(())
        }
    }
}

fn running(layout: &Layout) -> Result<State, Failure> {
    Ok(State::load(layout)?.ok_or(svcd_lab::Error::NotRunning)?)
}

fn up(layout: &Layout, nodes: u8, subnet: ipnet::Ipv4Net, proxy_mode: String) -> Result<(), Failure> {
    crate::privileges::check("lab up")?;
    let plan = Plan::new(subnet, nodes, proxy_mode).map_err(svcd_lab::Error::Plan)?;
    let report = block_on(async { svcd_lab::up(layout, plan).await.map_err(Failure::from) })?;
    print!("{}", welcome(&report, rootless::is_inside()));
    Ok(())
}

/// What to type next.
fn welcome(report: &Report, rootless: bool) -> String {
    let (plan, svcd) = (&report.plan, program());
    let mut text =
        format!("A cluster of {} nodes is up in {:.1} s:\n\n", plan.nodes.len(), report.took.as_secs_f64());
    for node in &plan.nodes {
        text += &format!("  {:<15} {}\n", node.name, node.address);
    }
    text += "\nNext:\n\n";
    if rootless {
        text += &format!("  {svcd} lab shell\n");
    } else {
        if std::env::var_os("SUDO_UID").is_some() {
            text += "  sudo -s                                   # the admin's kubeconfig is root's\n";
        }
        text += &format!("  export KUBECONFIG=$({svcd} lab kubeconfig)\n");
    }
    text += "  kubectl get nodes -o wide\n";
    let last = plan.workers().first().unwrap_or_else(|| plan.control_plane());
    if !plan.workers().is_empty() {
        let (name, port) = (demo::NAME, demo::NODE_PORT);
        text += &format!("  kubectl get pods,svc,endpointslices -l app={name} -o wide\n");
        text += &format!("  curl {}:{port}   # the Service {name} at a node's port\n", last.address);
        let exec = format!("{svcd} lab exec {} -- curl -s", last.name);
        text += &format!("  {exec} {}   # … at its virtual address\n", report.demo_address);
        text += &format!("  {exec} {name}.default.svc.cluster.local\n");
    }
    text += &format!("  {svcd} lab exec {} -- iptables -t nat -S KUBE-SERVICES\n", last.name);
    text + &format!("  {svcd} lab down\n")
}

/// This program as it was typed, so that what is printed can be typed too.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "svcd".to_owned())
}

fn status(layout: &Layout) -> Result<(), Failure> {
    let lines = block_on(async { svcd_lab::status(layout).await.map_err(Failure::from) })?;
    println!("{:<15} {:<16} {:<8} STATUS", "NODE", "ADDRESS", "PID");
    for line in lines {
        let pid = line.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        println!("{:<15} {:<16} {:<8} {}", line.name, line.address, pid, line.condition);
    }
    Ok(())
}

fn shell(layout: &Layout) -> Result<(), Failure> {
    use std::os::unix::process::CommandExt;
    running(layout)?;
    let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let error = Command::new(&shell).env("KUBECONFIG", layout.kubeconfig()).exec();
    Err(Failure::new(
        format!("cannot run {}: {error}", shell.display()),
        "set SHELL to a shell that is there",
    ))
}
