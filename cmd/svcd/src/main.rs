//! The `svcd` binary: reads the command line, hands over to a role, turns the result into an exit code. No logic of its
//! own.

mod address;
mod agent;
mod audit;
mod certificates;
mod certs;
mod check;
mod cli;
mod data_dir;
mod failure;
mod lab;
mod memory;
mod moves;
mod names;
mod notify;
mod privileges;
mod ranges;
mod server;
mod snapshot;
mod token;
mod uninstall;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::cli::{Cli, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // What svcd starts of itself. It must come before anything that starts a thread: these enter namespaces.
    match arguments.get(1).and_then(|a| a.to_str()) {
        Some("__pod-exec") => return svcd_pods::shim::main(&texts(&arguments[2..])),
        Some("__echo") => return svcd_pods::echo::main(&texts(&arguments[2..])),
        Some("__lab-node") => return Failure::from(svcd_lab::enter::node_main(&arguments[2..])).report(),
        _ => {}
    }
    privileges::find_system_programs();
    match Cli::try_parse_from(&arguments) {
        Ok(cli) => run(cli).map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS),
        Err(error) => usage(&error),
    }
}

/// What svcd passes to itself is text.
fn texts(arguments: &[OsString]) -> Vec<String> {
    arguments.iter().map(|a| a.to_string_lossy().into_owned()).collect()
}

fn run(cli: Cli) -> Result<(), Failure> {
    let log = cli.log;
    if !matches!(cli.command, Command::Server(_) | Command::Agent(_) | Command::Uninstall(_)) {
        end_with_the_reader();
    }
    match cli.command {
        Command::Server(args) => {
            log.init()?;
            block_on(memory::giving_back(server::run(*args)))
        }
        Command::Agent(args) => {
            log.init()?;
            block_on(memory::giving_back(agent::run(args)))
        }
        Command::Check(args) => block_on(check::run(args)),
        Command::Token(command) => block_on(token::run(command)),
        Command::Certs(args) => certs::run(&args),
        Command::Snapshot(command) => block_on(snapshot::run(command)),
        Command::Uninstall(args) => block_on(uninstall::run(args)),
        Command::Lab(command) => lab::run(command),
    }
}

/// What only prints ends quietly when nobody reads on (`svcd check | head`). Rust ignores the signal that says so.
#[allow(
    unsafe_code,
    reason = "the disposition of a signal, set back to its default before there are threads"
)]
fn end_with_the_reader() {
    // SAFETY: no handler is installed, and none is replaced. It cannot fail for a signal that exists.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}

/// Every connection is an open file, and the usual limit of 1024 would end at a thousand watches. The administrator's
/// hard limit stays; where that is none at all, programs in pods would suffer from more.
fn raise_file_limit() {
    const ENOUGH: u64 = 1 << 20;
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard.min(ENOUGH).max(soft), hard)
    {
        tracing::warn!(%error, soft, "the limit of open files cannot be raised");
    }
}

/// Runs a role on a runtime with as many threads as the machine has cores.
fn block_on<T>(role: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let no_threads =
        |e| Failure::new(format!("cannot start threads: {e}"), "raise the limits of processes and files");
    let runtime = runtime.map_err(no_threads)?;
    let result = runtime.block_on(role);
    // A blocking call that hangs must not keep an ended process alive.
    runtime.shutdown_background();
    result
}

/// Help and version go to standard output; anything wrong is one line, the help to look at, and exit code 1.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // Nothing can be done where even the help cannot be printed.
            let _ = error.print();
            if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        _ => {
            let text = error.render().to_string();
            let what = text.split("\n\n").next().unwrap_or(&text).trim_start_matches("error: ");
            Failure::new(what, "see `svcd --help` and `svcd <command> --help`").report()
        }
    }
}
