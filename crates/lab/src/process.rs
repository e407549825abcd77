//! The lab's processes: known by pid and start time, so that a number that the kernel has given to somebody else since
//! is never signalled.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// In the environment of everything that the lab starts; the value is the lab's directory. Finds what a crash left.
/// Nothing but the lab sets it, so that nobody's shell is taken for a part of the lab.
pub(crate) const MARK: &str = "SVCD_LAB_PROCESS";

/// One process, told apart from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its start, in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub started: u64,
}

impl Process {
    /// The process that now has this number, if there is one.
    pub fn find(pid: i32) -> Option<Self> {
        let (state, started) = stat(pid)?;
        (state != 'Z').then_some(Self { pid, started })
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        Self::find(self.pid) == Some(*self)
    }

    /// Sends a signal; nothing happens when the process is gone.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Waits until it has ended; false when it has not by then.
    pub fn wait_gone(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.is_alive() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

/// State letter and start time of a process.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold blanks and parentheses: fields count from after the last ')'.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.first()?.chars().next()?, fields.get(19)?.parse().ok()?))
}

/// Every process whose environment carries the mark of the lab in `dir`, this one excepted.
pub(crate) fn marked(dir: &str) -> Vec<Process> {
    let wanted = format!("{MARK}={dir}");
    let own = std::process::id().cast_signed();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environ| environ.split(|b| *b == 0).any(|var| var == wanted.as_bytes()))
        })
        .filter_map(Process::find)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn another_start_time_is_another_process() {
        let me = Process::find(std::process::id().cast_signed()).unwrap();
        assert!(me.is_alive());
        assert!(!Process { started: me.started + 1, ..me }.is_alive());
    }

    #[test]
    fn marked_processes_are_found_and_end() {
        let mut child = Command::new("sleep").arg("60").env(MARK, "/nowhere/test-mark").spawn().unwrap();
        // A process that has only just been started may not show its environment yet.
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut found = marked("/nowhere/test-mark");
        while found.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
            found = marked("/nowhere/test-mark");
        }
        assert_eq!(found.iter().map(|p| p.pid).collect::<Vec<_>>(), [child.id().cast_signed()]);
        found[0].signal(Signal::SIGKILL);
        assert!(found[0].wait_gone(Duration::from_secs(5)));
        child.wait().unwrap();
    }
}
