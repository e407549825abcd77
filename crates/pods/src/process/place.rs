//! Where one start of a container keeps its records, and what they tell.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal as Number, killpg};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::error::{Error, Result};
use crate::runtime::{ContainerId, Exit, Record, Signal};
use crate::shim::{self, Ended, Started, start_time};
use crate::time::from_micros;

/// As from a process that was killed.
const UNKNOWN: i32 = 137;

/// The directory of one start.
#[derive(Clone, Debug)]
pub(super) struct Place {
    id: ContainerId,
    dir: PathBuf,
}

/// The names in a directory; none when it is not there.
pub(super) fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        other => other.map_err(Error::io("list", dir))?,
    };
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}

/// All starts of a pod's containers that are remembered; those of one container oldest first.
pub(super) fn all(state_dir: &Path, uid: &str) -> Result<Vec<Place>> {
    let containers = state_dir.join(uid).join(CONTAINERS);
    let mut ids = Vec::new();
    for name in names(&containers)? {
        let attempts = names(&containers.join(&name))?;
        let attempts = attempts.into_iter().filter_map(|attempt| attempt.parse().ok());
        ids.extend(attempts.map(|attempt| ContainerId { uid: uid.to_owned(), name: name.clone(), attempt }));
    }
    ids.sort();
    Ok(ids.iter().map(|id| Place::of(state_dir, id)).collect())
}

/// Beside the pod's own files.
const CONTAINERS: &str = "containers";

impl Place {
    pub(super) fn of(state_dir: &Path, id: &ContainerId) -> Self {
        let dir = state_dir.join(&id.uid).join(CONTAINERS).join(&id.name).join(id.attempt.to_string());
        Self { id: id.clone(), dir }
    }

    pub(super) fn id(&self) -> &ContainerId {
        &self.id
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path("c.log")
    }

    /// Makes the directory anew, with its FIFO.
    pub(super) fn prepare(&self) -> Result<()> {
        super::remove_dir(&self.dir)?;
        fs::create_dir_all(&self.dir).map_err(Error::io("create", &self.dir))?;
        let fifo = self.path("alive");
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|error| Error::io("make FIFO", &fifo)(error.into()))
    }

    /// Forgets the starts before the last one: statuses tell of two.
    pub(super) fn prune(&self) -> Result<()> {
        let Some(parent) = self.dir.parent() else { return Ok(()) };
        for name in names(parent)? {
            if name.parse::<u32>().is_ok_and(|attempt| attempt + 1 < self.id.attempt) {
                super::remove_dir(&parent.join(name))?;
            }
        }
        Ok(())
    }

    /// That it was started; `None` when it never was.
    pub(super) fn started(&self) -> Option<Started> {
        shim::read(&self.path("started.json")).ok()
    }

    /// Whether its shim lives: then somebody holds the FIFO open for writing, and reading would block.
    pub(super) fn alive(&self) -> bool {
        let open =
            OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(self.path("alive"));
        open.is_ok_and(|mut fifo: File| match fifo.read(&mut [0; 64]) {
            Ok(read) => read > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        })
    }

    /// Waits until its shim has ended, without polling: that closes the FIFO.
    pub(super) async fn ended(&self) {
        let Ok(mut alive) = pipe::OpenOptions::new().open_receiver(self.path("alive")) else { return };
        // The kernel reports no end to a reader that came after the last writer: looked at once, after opening.
        if !self.alive() {
            return;
        }
        let mut ignored = [0; 64];
        while let Ok(1..) = alive.read(&mut ignored).await {}
    }

    /// How it ended. A shim that was killed left no word: then what it left running is killed too.
    pub(super) fn exit(&self) -> Exit {
        let path = self.path("exit.json");
        let ended = shim::read(&path).unwrap_or_else(|_| {
            self.signal(Signal::Kill);
            let now = Timestamp::now().as_microsecond();
            let ended = Ended {
                code: UNKNOWN,
                signal: None,
                reason: "ContainerStatusUnknown".to_owned(),
                message: Some("The container could not be located: its process ended without a record, perhaps with the machine".to_owned()),
                started_at: self.started().map_or(now, |started| started.started_at),
                finished_at: now,
            };
            // So that it has ended at the same time whenever somebody asks.
            let _ = shim::write(&path, &ended);
            ended
        });
        Exit {
            code: ended.code,
            signal: ended.signal,
            reason: ended.reason,
            message: ended.message,
            started_at: from_micros(ended.started_at),
            finished_at: from_micros(ended.finished_at),
        }
    }

    /// What is known of it; nothing of one that was only prepared.
    pub(super) fn record(&self) -> Option<Record> {
        let alive = self.alive();
        let started = self.started();
        if started.is_none() && !self.path("exit.json").exists() {
            return None;
        }
        let exit = (!alive).then(|| self.exit());
        let started_at = match (&started, &exit) {
            (Some(started), _) => from_micros(started.started_at),
            (None, Some(exit)) => exit.started_at,
            (None, None) => return None,
        };
        Some(Record { id: self.id.clone(), started_at, exit })
    }

    /// Signals the container's processes. Numbers that have come to mean another process are left alone.
    pub(super) fn signal(&self, signal: Signal) {
        let Some(started) = self.started() else { return };
        let number = match signal {
            Signal::Terminate => Number::SIGTERM,
            Signal::Kill => Number::SIGKILL,
        };
        if start_time(started.pid) == Some(started.pid_start) {
            // It may end at this very moment.
            let _ = killpg(Pid::from_raw(started.pid), number);
        }
    }
}
