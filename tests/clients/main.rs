//! Real clients against the real server: kubectl of several ages, client-go, the Python client. See README.md.
//!
//! What a trial needs (a kubectl of that age, Go, the Python client) is installed by `tests/setup.sh` outside the
//! repository. A trial whose client is not there is counted as ignored, and named with the reason at the end.

mod cache;
mod kubectl;
mod place;
mod programs;
mod transcript;
mod upstream;

use libtest_mimic::{Arguments, Trial};

/// A trial, or what it lacks.
struct Planned {
    trial: Trial,
    lacks: Option<String>,
}

fn main() {
    let arguments = Arguments::from_args();
    let mut planned = kubectl::trials();
    planned.extend(programs::trials());
    planned.extend(upstream::trials());
    let lacking: Vec<String> = planned
        .iter()
        .filter_map(|planned| Some(format!("{}: {}", planned.trial.name(), planned.lacks.as_ref()?)))
        .collect();
    let trials =
        planned.into_iter().map(|planned| planned.trial.with_ignored_flag(planned.lacks.is_some())).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list && !lacking.is_empty() {
        eprintln!("NOT RUN, {} trials lack their client:", lacking.len());
        lacking.iter().for_each(|line| eprintln!("  {line}"));
    }
    conclusion.exit();
}
