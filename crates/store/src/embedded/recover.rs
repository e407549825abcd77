//! Opening: a checkpoint, and the log after it. There is no other way: closing cleanly and being killed leave the same.
//!
//! Promises: of the complete checkpoints the older one is preferred, since the log from there on gives the longer
//! history; if it cannot be read the newer one serves. Never a state older than a complete checkpoint.

use std::path::Path;
use std::time::Instant;

use super::checkpoint::{Mark, Slot};
use super::checkpointer::Checkpointer;
use super::committer::now;
use super::directory::Directory;
use super::error::OpenError;
use super::history::HistoryBounds;
use super::log::{self, End, Log};
use super::state::{EMPTY, State};
use crate::Revision;

/// What opening finds.
pub(super) struct Recovered {
    pub(super) state: State,
    pub(super) log: Log,
    pub(super) checkpointer: Checkpointer,
}

/// Where the log is replayed from.
enum Base {
    Nothing,
    Checkpoint(Slot, Mark),
}

impl Base {
    fn revision(&self) -> Revision {
        match self {
            Self::Nothing => EMPTY,
            Self::Checkpoint(_, mark) => mark.revision,
        }
    }

    fn load(self, directory: &Path) -> Result<State, OpenError> {
        match self {
            Self::Nothing => Ok(State::empty()),
            Self::Checkpoint(slot, mark) => match slot.load(mark) {
                Ok(records) => Ok(State::starting_with(records, mark.revision)),
                Err(error) => Err(OpenError::Unreadable {
                    directory: directory.to_owned(),
                    reason: format!("the checkpoint of revision {}: {error}", mark.revision),
                }),
            },
        }
    }
}

/// Brings back the state of a data directory.
pub(super) fn recover(directory: &Directory, bounds: &HistoryBounds) -> Result<Recovered, OpenError> {
    let started = Instant::now();
    let checkpointer = Checkpointer::new(directory.path());
    let (state, end, checkpointer) = replay_best(directory, bounds, checkpointer)?;
    let log = Log::resume(&directory.log(), end, Revision(state.revision().0 + 1))?;
    tracing::info!(
        directory = %directory.path().display(),
        revision = %state.revision(),
        oldest = %state.oldest(),
        records = state.records().len(),
        elapsed = ?started.elapsed(),
        "store opened"
    );
    Ok(Recovered { state, log, checkpointer })
}

fn replay_best(
    directory: &Directory,
    bounds: &HistoryBounds,
    mut checkpointer: Checkpointer,
) -> Result<(State, Option<End>, Checkpointer), OpenError> {
    let complete = checkpointer.complete();
    let at_least = complete.last().map_or(EMPTY, |(_, mark)| mark.revision);
    let mut refusal = None;
    for base in bases(directory, complete)? {
        let from = base.revision();
        checkpointer.distrust_before(from);
        match replay(directory, bounds, base, &mut checkpointer) {
            Ok((state, _)) if state.revision() < at_least => {
                tracing::warn!(revision = %state.revision(), "the log ends before the newest checkpoint");
            }
            Ok((state, end)) => return Ok((state, end, checkpointer)),
            Err(error) => {
                tracing::warn!(%error, %from, "cannot open from here");
                refusal = Some(error);
            }
        }
    }
    Err(refusal.unwrap_or_else(|| OpenError::Unreadable {
        directory: directory.path().to_owned(),
        reason: "the beginning of the log is missing, and there is no complete checkpoint".to_owned(),
    }))
}

/// What the log may be replayed from, best first.
fn bases(directory: &Directory, complete: Vec<(Slot, Mark)>) -> Result<Vec<Base>, OpenError> {
    let start = log::start(&directory.log())?;
    let from_nothing = match start {
        Some(start) => start.0 <= EMPTY.0 + 1,
        None => complete.is_empty(),
    };
    let nothing = (from_nothing && complete.len() < 2).then_some(Base::Nothing);
    Ok(nothing
        .into_iter()
        .chain(complete.into_iter().map(|(slot, mark)| Base::Checkpoint(slot, mark)))
        .collect())
}

fn replay(
    directory: &Directory,
    bounds: &HistoryBounds,
    base: Base,
    checkpointer: &mut Checkpointer,
) -> Result<(State, Option<End>), OpenError> {
    let mut state = base.load(directory.path())?;
    let now = now();
    let end = log::replay(&directory.log(), state.revision(), |group| {
        for (revision, changes) in group.transactions {
            let keys = state.replay(revision, changes, group.time);
            checkpointer.changed(revision, keys.iter());
        }
        state.trim(bounds, now);
    })?;
    Ok((state, end))
}
