//! How a command fails: one line of what went wrong, one of what to do, exit code 1.

use std::fmt::Display;
use std::process::ExitCode;

/// Why a command could not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    fix: String,
}

impl Failure {
    /// `what` went wrong, `fix` is what the person can do.
    pub(crate) fn new(what: impl Display, fix: impl Into<String>) -> Self {
        Self { what: what.to_string(), fix: fix.into() }
    }

    /// Prints both lines.
    pub(crate) fn report(&self) -> ExitCode {
        eprintln!("svcd: {}", one_line(&self.what));
        if !self.fix.is_empty() {
            eprintln!("      {}", one_line(&self.fix));
        }
        ExitCode::FAILURE
    }
}

fn one_line(text: &str) -> String {
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

impl From<svcd_lab::Error> for Failure {
    fn from(error: svcd_lab::Error) -> Self {
        let fix = error.fix();
        Self::new(error, fix)
    }
}

impl From<svcd_runtime::Error> for Failure {
    fn from(error: svcd_runtime::Error) -> Self {
        Self::new(error, "the log above says more; --log-level debug makes it say all")
    }
}

impl From<svcd_pki::Error> for Failure {
    fn from(error: svcd_pki::Error) -> Self {
        Self::new(error, "look at the rights and the contents of the data directory's pki folder")
    }
}

impl From<svcd_node::JoinError> for Failure {
    fn from(error: svcd_node::JoinError) -> Self {
        let fix = error.advice();
        Self::new(error, fix)
    }
}

impl From<svcd_node::Error> for Failure {
    fn from(error: svcd_node::Error) -> Self {
        Self::new(error, "what is already there stays as it is: mend this and run the same command again")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_of_what_and_one_of_what_to_do() {
        assert_eq!(one_line("a\n  b\n\nc"), "a; b; c");
    }
}
