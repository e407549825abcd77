//! The embedded engine: all current state in memory, a log of our own for durability, and sled for checkpoints.
//!
//! A commit is one frame in the log and one fdatasync, shared by all that wait. Readers and watchers see memory only and
//! never wait for the disk. The log is cut when a checkpoint of the state stands in sled. Closing and being killed leave the
//! same on disk, so that there is one way to open and it is always the tested one.
//!
//! A data directory holds `VERSION`, `LOCK`, `log/<first revision>.log`, the two slots `sled-a` and `sled-b`, and a mark
//! `sled-*.complete` for each slot that can be used.

mod change;
mod checkpoint;
mod checkpointer;
mod committer;
mod cursor;
mod directory;
mod error;
mod frame;
mod garbage;
mod history;
mod interests;
mod log;
mod recover;
mod restore;
mod shared;
mod stage;
mod state;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::{CommitError, Committed, ListRequest, Page, ReadError, Record, Revision, Store, Txn, Watch};
use committer::{Committer, Request};
use cursor::Cursor;
use directory::Directory;
use error::At;
pub use error::OpenError;
pub use history::HistoryBounds;
use recover::Recovered;
use shared::Shared;

/// How an embedded store behaves. The defaults are meant for use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How much of the past can be read and watched.
    pub history: HistoryBounds,
    /// At most this many transactions share one sync.
    pub group: usize,
    /// The log is cut by a checkpoint each time it has grown by this much. Opening reads up to about twice of it.
    pub checkpoint_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { history: HistoryBounds::default(), group: 512, checkpoint_bytes: 32 << 20 }
    }
}

/// A store in a directory of its own. Dropping it closes it.
pub struct Embedded {
    shared: Arc<Shared>,
    /// How many more transactions may wait; whoever finds no room waits for it without being queued.
    room: Arc<Semaphore>,
    running: Mutex<Option<Running>>,
}

struct Running {
    requests: mpsc::UnboundedSender<Request>,
    committer: JoinHandle<()>,
    /// Given back last.
    _directory: Directory,
}

impl Embedded {
    /// Opens a data directory, or makes one. Blocks while it reads.
    ///
    /// # Errors
    /// When the directory cannot be used, is in use, is of a newer format or is damaged.
    pub fn open(directory: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        let directory = Directory::open(directory.as_ref())?;
        let Recovered { state, log, checkpointer } = recover::recover(&directory, &options.history)?;
        let shared = Arc::new(Shared::new(state));
        let room = Arc::new(Semaphore::new(options.group.max(1) * 2));
        let (requests, queue) = mpsc::unbounded_channel();
        let committer = Committer::new(shared.clone(), log, checkpointer, options);
        let committer = std::thread::Builder::new()
            .name("store-commit".to_owned())
            .spawn(move || committer.run(queue))
            .at("start the committer of", directory.path())?;
        let running = Running { requests, committer, _directory: directory };
        Ok(Self { shared, room, running: Mutex::new(Some(running)) })
    }

    /// Whether a process has this directory open. Nothing is changed.
    pub fn is_in_use(directory: impl AsRef<Path>) -> bool {
        directory::is_locked(directory.as_ref())
    }

    /// Makes a directory, which must be empty or not there, hold these records of a snapshot. The store begins well after
    /// the snapshot's `revision`, see [`JUMP`](crate::snapshot::JUMP), and knows nothing of what was before.
    ///
    /// # Errors
    /// When the directory holds something or cannot be written.
    pub fn restore(
        directory: impl AsRef<Path>,
        records: Vec<Arc<Record>>,
        revision: Revision,
    ) -> Result<(), OpenError> {
        let revision = Revision(revision.0.saturating_add(crate::snapshot::JUMP));
        restore::restore(directory.as_ref(), records, revision)
    }

    /// Answers what is waiting, ends all watches and lets go of the directory. Blocks until that is done; a second call
    /// does nothing.
    pub fn close(&self) {
        self.room.close();
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { requests, committer, _directory }) = running else { return };
        drop(requests);
        if committer.join().is_err() {
            tracing::error!("the store's committer has panicked");
        }
        self.shared.close();
    }

    fn enqueue(&self, request: Request) -> Result<(), CommitError> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Running { requests, .. } = running.as_ref().ok_or(CommitError::Closed)?;
        requests.send(request).map_err(|_| CommitError::Closed)
    }
}

/// Says where it stands and not what is in it: Secrets are.
impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl Store for Embedded {
    fn revision(&self) -> Revision {
        self.shared.state().revision()
    }

    async fn get(&self, key: &str) -> Result<Option<Arc<Record>>, ReadError> {
        Ok(self.shared.open()?.get(key).cloned())
    }

    async fn list(&self, request: ListRequest) -> Result<Page, ReadError> {
        self.shared.open()?.list(&request)
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let room = self.room.clone().acquire_owned().await.map_err(|_| CommitError::Closed)?;
        let (answer, answered) = oneshot::channel();
        self.enqueue(Request { txn, answer, _room: room })?;
        answered.await.map_err(|_| CommitError::Closed)?
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, ReadError> {
        Ok(Box::new(Cursor::start(self.shared.clone(), prefix, after)?))
    }
}
