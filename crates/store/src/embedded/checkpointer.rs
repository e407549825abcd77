//! Decides when a checkpoint is due, which slot it goes to and what has to be written, and runs it beside the commits.
//!
//! Promises: at any moment one slot (or the empty store) together with the kept log is the whole truth.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::checkpoint::{CheckpointError, Content, Job, Mark, Slot};
use super::log::{Log, remove_up_to};
use super::state::State;
use crate::Revision;

/// How long to leave it after a checkpoint could not even be begun.
const PAUSE: Duration = Duration::from_secs(10);

/// A slot, and what a checkpoint into it would have to write.
struct Tracked {
    slot: Slot,
    /// What it holds; `None` while it is empty, broken or being written.
    holds: Option<Revision>,
    /// The keys that have changed since.
    dirty: HashSet<Arc<str>>,
}

pub(super) struct Checkpointer {
    slots: [Tracked; 2],
    running: Option<Running>,
    not_before: Option<Instant>,
    cancelled: Arc<AtomicBool>,
}

struct Running {
    slot: usize,
    revision: Revision,
    thread: JoinHandle<Result<(), CheckpointError>>,
}

impl Checkpointer {
    /// Begins with what the slots of a data directory hold.
    pub(super) fn new(directory: &Path) -> Self {
        let track = |slot: Slot| Tracked {
            holds: slot.mark().map(|mark| mark.revision),
            slot,
            dirty: HashSet::new(),
        };
        Self {
            slots: Slot::both(directory).map(track),
            running: None,
            not_before: None,
            cancelled: Arc::default(),
        }
    }

    /// The complete slots, oldest first.
    pub(super) fn complete(&self) -> Vec<(Slot, Mark)> {
        let marked = self.slots.iter().filter(|tracked| tracked.holds.is_some());
        let mut slots: Vec<_> =
            marked.filter_map(|tracked| Some((tracked.slot.clone(), tracked.slot.mark()?))).collect();
        slots.sort_by_key(|(_, mark)| mark.revision);
        slots
    }

    /// Whatever the slots before this revision hold is not to be used again.
    pub(super) fn distrust_before(&mut self, revision: Revision) {
        for tracked in &mut self.slots {
            tracked.holds = tracked.holds.filter(|holds| *holds >= revision);
        }
    }

    /// Notes that keys have changed at a revision.
    pub(super) fn changed<'a>(
        &mut self,
        revision: Revision,
        keys: impl Iterator<Item = &'a Arc<str>> + Clone,
    ) {
        for (index, tracked) in self.slots.iter_mut().enumerate() {
            let writing = || self.running.as_ref().filter(|running| running.slot == index);
            let holds = tracked.holds.or_else(|| writing().map(|running| running.revision));
            if holds.is_some_and(|holds| holds < revision) {
                tracked.dirty.extend(keys.clone().cloned());
            }
        }
    }

    /// Begins a checkpoint if the log has grown enough and none is running.
    pub(super) fn consider(&mut self, log: &mut Log, threshold: u64, state: &State) {
        self.collect();
        let pausing = || self.not_before.is_some_and(|time| Instant::now() < time);
        if self.running.is_some() || log.bytes() < threshold || pausing() {
            return;
        }
        if let Err(error) = self.begin(log, state) {
            self.not_before = Some(Instant::now() + PAUSE);
            tracing::warn!(%error, "cannot begin a checkpoint; the log goes on growing");
        }
    }

    /// Ends what is running, at the next good moment.
    pub(super) fn stop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        if let Some(running) = self.running.take() {
            self.finish(running);
        }
    }

    /// Takes in the result of a checkpoint that has ended.
    fn collect(&mut self) {
        if let Some(running) = self.running.take_if(|running| running.thread.is_finished()) {
            self.finish(running);
        }
    }

    fn finish(&mut self, Running { slot, revision, thread }: Running) {
        match thread.join() {
            Ok(Ok(())) => self.slots[slot].holds = Some(revision),
            Ok(Err(CheckpointError::Cancelled)) => {
                tracing::debug!(%revision, "checkpoint given up for closing")
            }
            Ok(Err(error)) => tracing::warn!(%revision, %error, "checkpoint failed; the log is kept"),
            Err(_) => tracing::warn!(%revision, "checkpoint failed in a way it should not; the log is kept"),
        }
    }

    fn begin(&mut self, log: &mut Log, state: &State) -> std::io::Result<()> {
        let revision = state.revision();
        log.rotate(Revision(revision.0 + 1))?;
        let index = usize::from(self.slots[1].holds < self.slots[0].holds);
        let other = self.slots[1 - index].holds;
        let tracked = &mut self.slots[index];
        let dirty = std::mem::take(&mut tracked.dirty);
        let whole = tracked.holds.take().is_none() || tracked.slot.is_bloated(state.bytes());
        let content = if whole {
            Content::Whole(state.records().cloned().collect())
        } else {
            Content::Since(dirty.into_iter().map(|key| (key.clone(), state.get(&key).cloned())).collect())
        };
        let job = Job { revision, records: state.records().len(), bytes: state.bytes(), content };
        let work = Work { slot: tracked.slot.clone(), job, other, log: log.directory().to_owned() };
        let cancelled = self.cancelled.clone();
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".to_owned())
            .spawn(move || work.run(&cancelled))?;
        self.running = Some(Running { slot: index, revision, thread });
        Ok(())
    }
}

/// A checkpoint, on its own thread.
struct Work {
    slot: Slot,
    job: Job,
    /// What the other slot holds: the log after it is kept, so that either slot may turn out to be unreadable.
    other: Option<Revision>,
    log: PathBuf,
}

impl Work {
    fn run(self, cancelled: &AtomicBool) -> Result<(), CheckpointError> {
        let Self { slot, job, other, log } = self;
        let span = tracing::info_span!("checkpoint", revision = %job.revision, records = job.records);
        let _entered = span.enter();
        let started = Instant::now();
        slot.write(&job, cancelled)?;
        if let Some(other) = other {
            remove_up_to(&log, other)?;
        }
        tracing::info!(bytes = job.bytes, elapsed = ?started.elapsed(), "checkpoint written");
        Ok(())
    }
}
