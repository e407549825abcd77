//! The files by which agent and shim know what the other did. Written whole or not at all; readable only by root, since
//! an environment may hold secrets.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A command with all that it needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Program {
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) working_dir: Option<PathBuf>,
    pub(crate) user: Option<u32>,
    pub(crate) group: Option<u32>,
    pub(crate) no_new_privileges: bool,
}

/// What `run` is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunSpec {
    pub(crate) program: Program,
    /// The pod's network; the caller's own when absent.
    pub(crate) netns: Option<PathBuf>,
    /// The host name inside; the machine's when absent.
    pub(crate) hostname: Option<String>,
    /// Files and directories to be seen at other places.
    pub(crate) binds: Vec<(PathBuf, PathBuf)>,
    pub(crate) log: PathBuf,
    /// The program says by its first line of output that it is up.
    pub(crate) wait_for_output: bool,
}

/// What `exec` is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ExecSpec {
    pub(crate) program: Program,
    pub(crate) shim: i32,
}

/// That a container runs. Start times tell a process from a later one of the same number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Started {
    pub(crate) pid: i32,
    pub(crate) pid_start: u64,
    pub(crate) shim: i32,
    pub(crate) shim_start: u64,
    /// Microseconds since 1970.
    pub(crate) started_at: i64,
}

/// How a container ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) signal: Option<i32>,
    pub(crate) reason: String,
    pub(crate) message: Option<String>,
    pub(crate) started_at: i64,
    pub(crate) finished_at: i64,
}

pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let text = fs::read(path)?;
    serde_json::from_slice(&text).map_err(io::Error::from)
}

pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    fs::rename(draft, path)
}

pub(crate) fn now_micros() -> i64 {
    Timestamp::now().as_microsecond()
}

/// When a process was started, in ticks since boot; `None` when there is none of this number.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, which may hold blanks; the start time is the 22nd.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_told_apart_by_their_start() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(start_time(own).unwrap() > 0);
        assert_eq!(start_time(own), start_time(own));
        assert_eq!(start_time(i32::MAX), None);
    }

    #[test]
    fn records_come_back_and_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("started.json");
        write(&path, &Started { pid: 1, pid_start: 2, shim: 3, shim_start: 4, started_at: 5 }).unwrap();
        let back: Started = read(&path).unwrap();
        assert_eq!((back.pid, back.started_at), (1, 5));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(dir.path().read_dir().unwrap().count(), 1);
    }
}
