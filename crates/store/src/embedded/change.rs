//! What one operation does to one key, once its bytes are final. The same step makes events out of fresh transactions
//! and out of replayed log frames, so that a reopened store cannot differ from the one that wrote the log.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Event, Op, Record, Revision};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Put {
        key: Arc<str>,
        value: Bytes,
        meta: Bytes,
    },
    /// `last` is the deleted state; the stored one when `None`.
    Delete {
        key: Arc<str>,
        last: Option<Bytes>,
    },
}

impl Change {
    pub(super) fn of(op: Op, revision: Revision) -> Self {
        match op {
            Op::Put { key, value, meta } => {
                Self::Put { key: key.into(), value: value.render(revision), meta }
            }
            Op::Delete { key, last } => {
                Self::Delete { key: key.into(), last: last.map(|value| value.render(revision)) }
            }
        }
    }

    pub(super) fn key(&self) -> &Arc<str> {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    /// The event of doing this to a key in the state `previous`; `None` when nothing happens.
    pub(super) fn event(self, revision: Revision, previous: Option<Arc<Record>>) -> Option<Event> {
        match self {
            Self::Put { key, value, meta } => Some(put(key, value, meta, revision, previous)),
            Self::Delete { last, .. } => previous.map(|previous| delete(last, revision, previous)),
        }
    }
}

fn put(key: Arc<str>, value: Bytes, meta: Bytes, revision: Revision, previous: Option<Arc<Record>>) -> Event {
    // One copy of each key, however often it is written.
    let (key, created) = match &previous {
        Some(previous) => (previous.key.clone(), previous.created),
        None => (key, revision),
    };
    let record = Arc::new(Record { key, value, meta, created, modified: revision });
    Event { revision, deleted: false, record, previous }
}

fn delete(last: Option<Bytes>, revision: Revision, previous: Arc<Record>) -> Event {
    let record = match last {
        None => previous.clone(),
        Some(value) => Arc::new(Record {
            key: previous.key.clone(),
            value,
            meta: previous.meta.clone(),
            created: previous.created,
            modified: revision,
        }),
    };
    Event { revision, deleted: true, record, previous: Some(previous) }
}
