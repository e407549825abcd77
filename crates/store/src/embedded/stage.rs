//! A group of transactions on its way: each is checked against the state and what earlier ones of the group did to it,
//! and turned into events. Pure; nothing is visible to anybody before the group is on disk.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::change::Change;
use super::state::State;
use crate::{CommitError, Committed, Event, Expect, Op, Record, Revision, Txn};

/// No transaction may be bigger: a group is built in memory.
const MAX_TRANSACTION: usize = 64 << 20;

pub(super) struct Stage<'a> {
    state: &'a State,
    revision: Revision,
    changed: HashMap<Arc<str>, Option<Arc<Record>>>,
    events: Vec<Arc<Event>>,
}

impl<'a> Stage<'a> {
    pub(super) fn on(state: &'a State) -> Self {
        Self { state, revision: state.revision(), changed: HashMap::new(), events: Vec::new() }
    }

    /// Applies one transaction, or leaves everything as it was.
    pub(super) fn run(&mut self, txn: Txn) -> Result<Committed, CommitError> {
        validate(&txn)?;
        self.check(&txn.expect)?;
        let next = Revision(self.revision.0 + 1);
        let records: Vec<_> = txn.ops.into_iter().map(|op| self.apply(op, next)).collect();
        if records.iter().any(Option::is_some) {
            self.revision = next;
        }
        Ok(Committed { revision: self.revision, records })
    }

    /// What the group comes to, in order.
    pub(super) fn into_events(self) -> Vec<Arc<Event>> {
        self.events
    }

    fn get(&self, key: &str) -> Option<&Arc<Record>> {
        match self.changed.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.state.get(key),
        }
    }

    fn check(&self, expectations: &[(String, Expect)]) -> Result<(), CommitError> {
        for (key, expect) in expectations {
            let found = self.get(key);
            let holds = match expect {
                Expect::Absent => found.is_none(),
                Expect::At(revision) => found.is_some_and(|record| record.modified == *revision),
            };
            if !holds {
                return Err(CommitError::Conflict { key: key.clone(), found: found.cloned() });
            }
        }
        Ok(())
    }

    fn apply(&mut self, op: Op, revision: Revision) -> Option<Arc<Record>> {
        let change = Change::of(op, revision);
        let previous = self.get(change.key()).cloned();
        let event = Arc::new(change.event(revision, previous)?);
        let record = event.record.clone();
        self.changed.insert(record.key.clone(), (!event.deleted).then(|| record.clone()));
        self.events.push(event);
        Some(record)
    }
}

fn validate(txn: &Txn) -> Result<(), CommitError> {
    let mut keys = HashSet::new();
    let mut bytes = 0;
    for op in &txn.ops {
        bytes += size(op);
        let (Op::Put { key, .. } | Op::Delete { key, .. }) = op;
        if txn.ops.len() > 1 && !keys.insert(key) {
            return Err(CommitError::Invalid(format!("{key} stands in two operations")));
        }
    }
    if bytes > MAX_TRANSACTION {
        return Err(CommitError::Invalid(format!(
            "{bytes} bytes are more than the {MAX_TRANSACTION} allowed"
        )));
    }
    Ok(())
}

/// About how many bytes an operation will write.
pub(super) fn size(op: &Op) -> usize {
    match op {
        Op::Put { key, value, meta } => key.len() + value.len() + meta.len(),
        Op::Delete { key, last } => key.len() + last.as_ref().map_or(0, |value| value.len()),
    }
}
