//! Running programs and waiting for what they show.

use std::process::Output;
use std::time::{Duration, Instant};

/// What became of a command.
#[derive(Debug)]
pub struct Done {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Done {
    /// The standard output of a command that must have worked.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "exit code {}\n{}{}", self.code, self.out, self.err);
        self.out
    }

    /// The standard error of a command that must have failed.
    ///
    /// # Panics
    /// When it worked.
    #[track_caller]
    pub fn failed(self) -> String {
        assert_ne!(self.code, 0, "this should have failed:\n{}", self.out);
        self.err
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
}

/// Tries until `check` returns a value, for at most 30 seconds, and then shows what it said last.
///
/// # Panics
/// When it never does.
#[track_caller]
pub fn eventually<T>(what: &str, mut check: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match check() {
            Ok(value) => return value,
            Err(last) if Instant::now() > deadline => panic!("{what}: not within 30 s; last: {last}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
