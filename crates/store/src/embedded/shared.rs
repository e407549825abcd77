//! What readers, watchers and the committer share: the state behind a lock that is never held across disk work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use super::history::{HistoryBounds, Kept, Millis};
use super::interests::{Interest, Interests};
use super::state::State;
use crate::{Event, ReadError, Revision};

pub(super) struct Shared {
    state: RwLock<State>,
    /// Locked after `state`, never before it.
    interests: Mutex<Interests>,
    closed: AtomicBool,
}

impl Shared {
    pub(super) fn new(state: State) -> Self {
        Self { state: RwLock::new(state), interests: Mutex::default(), closed: AtomicBool::new(false) }
    }

    /// The state, whether closed or not.
    pub(super) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state for a reader.
    pub(super) fn open(&self) -> Result<RwLockReadGuard<'_, State>, ReadError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(ReadError::Closed);
        }
        Ok(self.state())
    }

    /// Shows a durable group to everybody.
    pub(super) fn publish(&self, events: &[Arc<Event>], time: Millis, bounds: &HistoryBounds) {
        let (trimmed, concerned) = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            for event in events {
                state.apply(event.clone(), time);
            }
            let trimmed = state.trim(bounds, time);
            let interests = self.interests();
            interests.forget(trimmed.iter().map(Kept::event));
            (trimmed, interests.mark(events))
        };
        concerned.iter().for_each(|interest| interest.wake());
        drop(trimmed);
    }

    /// Registers a watcher of events after a revision.
    pub(super) fn watch(&self, prefix: &Arc<str>, after: Revision) -> Result<Arc<Interest>, ReadError> {
        let state = self.open()?;
        state.kept(after)?;
        // Still under the state's lock: nothing is published between looking at the revision and being registered.
        Ok(self.interests().add(prefix, state.oldest(), state.revision()))
    }

    pub(super) fn unwatch(&self, prefix: &str) {
        self.interests().remove(prefix);
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.interests().all().for_each(|interest| interest.wake());
    }

    fn interests(&self) -> MutexGuard<'_, Interests> {
        self.interests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
