//! The echo server, `image: svcd.io/echo`: says who answers and who asked, over HTTP, raw TCP and UDP.
//!
//! Runs as a process of its own (`__echo`), on one thread, in a few megabytes. HTTP on the pod's TCP container ports, or
//! 8080; UDP ports send datagrams back; `--tcp PORT` (an argument of the container, or `ECHO_TCP` in its environment)
//! makes a port send raw bytes back. On `SIGTERM` it serves until nobody new comes.

mod answer;
mod options;
mod serve;

use std::process::ExitCode;

pub(crate) use options::Options;

/// Runs the server until it is told to end. `args` are those after the hidden subcommand.
pub fn main(args: &[String]) -> ExitCode {
    let options = match Options::parse(args.iter().cloned(), |name| std::env::var(name).ok()) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("echo: {message}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served = runtime.and_then(|runtime| runtime.block_on(serve::run(options)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}
