//! Checkpoints: the state at one revision as a sled database, so that the log before it may go.
//!
//! There are two slots, written in turn, and a slot is only ever written while the other one stands complete and
//! synced. That is what makes sled safe to use here: its flush is no fsync, and its log moves records around in place, so
//! a power cut while it writes may cost records that were safe before. Here it costs a slot that is not needed, and
//! the log since the other one still has everything. A slot counts from the moment its mark is written, and no longer
//! from the moment the mark is removed. sled is open only while a slot is read or written.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::directory::{remove_if_there, sync_directory, sync_tree, tree_size, write_atomically};
use super::garbage;
use crate::codec::{Malformed, Reader, put_bytes, put_u64};
use crate::{Record, Revision};

/// The records of a state.
pub(super) type Records = BTreeMap<Arc<str>, Arc<Record>>;

/// Keys with what they are now; `None` for those that are gone.
pub(super) type Changes = Vec<(Arc<str>, Option<Arc<Record>>)>;

const CACHE: u64 = 16 << 20;
/// sled applies a batch as a whole, in memory.
const BATCH_RECORDS: usize = 256;
const BATCH_BYTES: usize = 4 << 20;
/// sled's own threads may keep a database's lock for a moment after it was closed.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// A slot that takes this much more room than what is in it is written anew: sled does not give all space back.
const BLOAT_FACTOR: u64 = 4;
const BLOAT_FREE: u64 = 64 << 20;

/// Why a checkpoint could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckpointError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("sled: {0}")]
    Sled(#[from] sled::Error),
    #[error("sled panicked: {0}")]
    Panic(String),
    #[error("the checkpoint is not what its mark says: {0}")]
    Inconsistent(String),
    #[error("the store is being closed")]
    Cancelled,
}

/// One of the two places for a checkpoint.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    database: PathBuf,
    mark: PathBuf,
}

/// What a slot holds, as its mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) revision: Revision,
    records: usize,
}

/// What to write into a slot.
pub(super) enum Content {
    /// What has changed since the checkpoint that the slot holds.
    Since(Changes),
    /// Everything.
    Whole(Vec<Arc<Record>>),
}

/// A checkpoint to be written.
pub(super) struct Job {
    pub(super) revision: Revision,
    /// How many records the state has, and how many bytes they are.
    pub(super) records: usize,
    pub(super) bytes: u64,
    pub(super) content: Content,
}

impl Slot {
    pub(super) fn both(directory: &Path) -> [Self; 2] {
        ["sled-a", "sled-b"].map(|name| Self {
            database: directory.join(name),
            mark: directory.join(format!("{name}.complete")),
        })
    }

    /// What the slot holds; nothing unless it is complete.
    pub(super) fn mark(&self) -> Option<Mark> {
        let text = std::fs::read_to_string(&self.mark).ok()?;
        let mut numbers = text.split_whitespace();
        let revision = Revision(numbers.next()?.parse().ok()?);
        Some(Mark { revision, records: numbers.next()?.parse().ok()? })
    }

    /// Whether the slot takes so much more room than its content that it should be written anew.
    pub(super) fn is_bloated(&self, content_bytes: u64) -> bool {
        tree_size(&self.database).is_ok_and(|size| size > BLOAT_FREE + BLOAT_FACTOR * content_bytes)
    }

    /// Reads the whole checkpoint.
    pub(super) fn load(&self, mark: Mark) -> Result<Records, CheckpointError> {
        guarded(|| {
            let database = open(&self.database)?;
            let records = database.iter().map(|item| decode(&item?)).collect::<Result<Records, _>>()?;
            if records.len() != mark.records {
                let found = records.len();
                return Err(CheckpointError::Inconsistent(format!(
                    "{found} records instead of {}",
                    mark.records
                )));
            }
            Ok(records)
        })
    }

    /// Makes the slot hold the state at the job's revision. On error the slot holds nothing.
    pub(super) fn write(&self, job: &Job, cancelled: &AtomicBool) -> Result<(), CheckpointError> {
        let written = guarded(|| self.write_database(job, cancelled));
        if written.is_err() {
            // What is half-written is of no use, and may be what fills the disk.
            remove_if_there(std::fs::remove_dir_all(&self.database))?;
            return written;
        }
        write_atomically(&self.mark, &format!("{}\n{}\n", job.revision, job.records))?;
        Ok(())
    }

    fn write_database(&self, job: &Job, cancelled: &AtomicBool) -> Result<(), CheckpointError> {
        remove_if_there(std::fs::remove_file(&self.mark))?;
        let directory = self.mark.parent().unwrap_or_else(|| Path::new("."));
        sync_directory(directory)?;
        if matches!(job.content, Content::Whole(_)) {
            remove_if_there(std::fs::remove_dir_all(&self.database))?;
        }
        let database = open(&self.database)?;
        match &job.content {
            Content::Since(changes) => {
                let changes = changes.iter().map(|(key, record)| (&**key, record.as_deref()));
                // In key order, as sled's pages are: each is then touched once.
                let sorted: BTreeMap<_, _> = changes.collect();
                insert(&database, sorted.into_iter(), cancelled)?;
            }
            Content::Whole(records) => {
                insert(&database, records.iter().map(|record| (&*record.key, Some(&**record))), cancelled)?;
            }
        }
        database.flush()?;
        drop(database);
        sync_tree(&self.database)?;
        sync_directory(directory)?;
        Ok(())
    }
}

/// sled has assertions where others have errors, and keeps what it used.
fn guarded<T>(work: impl FnOnce() -> Result<T, CheckpointError>) -> Result<T, CheckpointError> {
    let result = catch_unwind(AssertUnwindSafe(work));
    garbage::free();
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(CheckpointError::Panic(text.unwrap_or_default()))
    })
}

fn open(path: &Path) -> Result<sled::Db, CheckpointError> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        let opened = sled::Config::new().path(path).cache_capacity(CACHE).flush_every_ms(None).open();
        match opened {
            Err(sled::Error::Io(error)) if is_locked(&error) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return Ok(other?),
        }
    }
}

fn is_locked(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

fn insert<'a>(
    database: &sled::Db,
    changes: impl Iterator<Item = (&'a str, Option<&'a Record>)>,
    cancelled: &AtomicBool,
) -> Result<(), CheckpointError> {
    let mut batch = sled::Batch::default();
    let (mut count, mut bytes) = (0, 0);
    for (key, record) in changes {
        match record {
            Some(record) => {
                let encoded = encode(record);
                bytes += encoded.len();
                batch.insert(key, encoded);
            }
            None => batch.remove(key),
        }
        count += 1;
        if count >= BATCH_RECORDS || bytes >= BATCH_BYTES {
            if cancelled.load(Ordering::Relaxed) {
                return Err(CheckpointError::Cancelled);
            }
            database.apply_batch(std::mem::take(&mut batch))?;
            (count, bytes) = (0, 0);
        }
    }
    database.apply_batch(batch)?;
    Ok(())
}

fn encode(record: &Record) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + record.meta.len() + record.value.len());
    put_u64(&mut out, record.created.0);
    put_u64(&mut out, record.modified.0);
    put_bytes(&mut out, &record.meta);
    put_bytes(&mut out, &record.value);
    out
}

fn decode((key, value): &(sled::IVec, sled::IVec)) -> Result<(Arc<str>, Arc<Record>), CheckpointError> {
    let inconsistent =
        |_| CheckpointError::Inconsistent(format!("the record of {}", String::from_utf8_lossy(key)));
    let record = decode_record(key, value).map_err(inconsistent)?;
    Ok((record.key.clone(), Arc::new(record)))
}

fn decode_record(key: &[u8], value: &[u8]) -> Result<Record, Malformed> {
    let key: Arc<str> = std::str::from_utf8(key).map_err(|_| Malformed)?.into();
    let mut reader = Reader(value);
    let (created, modified) = (Revision(reader.u64()?), Revision(reader.u64()?));
    let meta = Bytes::copy_from_slice(reader.bytes()?);
    let value = Bytes::copy_from_slice(reader.bytes()?);
    if !reader.is_empty() {
        return Err(Malformed);
    }
    Ok(Record { key, value, meta, created, modified })
}
