//! How a command fails: one line of what went wrong, one of what to do, exit code 1.

use std::error::Error;
use std::fmt::Display;
use std::io::ErrorKind;
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

    /// Of an error that says what to do after its last semicolon; `fix` where it does not.
    pub(crate) fn split(error: &dyn Display, fix: &str) -> Self {
        let text = error.to_string();
        match text.rsplit_once("; ") {
            Some((what, fix)) => Self::new(what, fix),
            None => Self::new(text, fix),
        }
    }

    /// Of an error about files below the data directory.
    fn of_files(error: &(dyn Error + 'static), fix: &str) -> Self {
        match disk_fix(error) {
            Some(fix) => Self::new(error, fix),
            None => Self::split(&error, fix),
        }
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

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&one_line(&self.what))?;
        if self.fix.is_empty() { Ok(()) } else { write!(f, "; {}", one_line(&self.fix)) }
    }
}

fn one_line(text: &str) -> String {
    let lines = text.split('\n').map(str::trim).filter(|line| !line.is_empty());
    lines.fold(String::new(), |line, next| match line.as_str() {
        "" => next.to_owned(),
        open if open.ends_with(':') => line + " " + next,
        _ => line + "; " + next,
    })
}

impl From<svcd_lab::Error> for Failure {
    fn from(error: svcd_lab::Error) -> Self {
        let fix = error.fix();
        Self::new(error, fix)
    }
}

impl From<svcd_runtime::Error> for Failure {
    fn from(error: svcd_runtime::Error) -> Self {
        Self::split(&error, "the log above says more; --log-level debug makes it say all")
    }
}

impl From<svcd_pki::Error> for Failure {
    fn from(error: svcd_pki::Error) -> Self {
        Self::of_files(&error, "look at the owner, the rights and the contents of that directory")
    }
}

impl From<svcd_store::OpenError> for Failure {
    fn from(error: svcd_store::OpenError) -> Self {
        use svcd_store::OpenError::{Foreign, Locked, Newer};
        let text = error.to_string();
        match (&error, text.rsplit_once(": ")) {
            (Locked { .. } | Newer { .. } | Foreign { .. }, Some((what, fix))) => Self::new(what, fix),
            _ => Self::of_files(
                &error,
                "nothing was changed; --data-dir names the directory of the server's data",
            ),
        }
    }
}

impl From<svcd_node::JoinError> for Failure {
    fn from(error: svcd_node::JoinError) -> Self {
        let fix = match &error {
            svcd_node::JoinError::Pki(inner) => disk_fix(inner),
            _ => None,
        };
        let fix = fix.map_or_else(|| error.advice(), str::to_owned);
        Self::new(error, fix)
    }
}

impl From<svcd_node::Error> for Failure {
    fn from(error: svcd_node::Error) -> Self {
        Self::split(&error, "what is already there stays as it is: mend this and run the same command again")
    }
}

/// What to do where the disk, not the program, is the cause.
fn disk_fix(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut causes = std::iter::successors(Some(error), |error| (*error).source());
    match causes.find_map(|cause| cause.downcast_ref::<std::io::Error>())?.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Some("make room on that disk (`df -h` and `df -i` show it), or give another --data-dir")
        }
        ErrorKind::PermissionDenied => Some("run it as root, or give a --data-dir that this user may write"),
        ErrorKind::ReadOnlyFilesystem => Some("give a --data-dir on a file system that can be written"),
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            Some("a file is in the way: give another --data-dir")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_of_what_and_one_of_what_to_do() {
        assert_eq!(one_line("a\n  b\n\nc"), "a; b; c");
        assert_eq!(one_line("missing:\n  --join <URL>"), "missing: --join <URL>");
    }

    #[test]
    fn what_to_do_is_taken_from_the_message_where_it_says_so() {
        let failure = Failure::split(&"the port is taken; choose another", "read the log");
        assert_eq!((failure.what.as_str(), failure.fix.as_str()), ("the port is taken", "choose another"));
        assert_eq!(Failure::split(&"odd", "read the log").fix, "read the log");
    }

    #[test]
    fn a_full_disk_is_told_from_a_missing_right() {
        let error = |kind| svcd_pki::Error::Write { path: "/x".into(), source: std::io::Error::from(kind) };
        assert!(Failure::from(error(ErrorKind::StorageFull)).fix.contains("df -h"));
        assert!(Failure::from(error(ErrorKind::PermissionDenied)).fix.contains("root"));
    }
}
