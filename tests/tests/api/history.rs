//! A history: what many clients did and saw, with the times at which they began and ended. Plain values; `checker` judges
//! them, `drive` records them.

use std::time::Duration;

/// A resourceVersion.
pub(crate) type Revision = u64;
/// Since the beginning of the run.
pub(crate) type Moment = Duration;

/// One state of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) key: String,
    pub(crate) revision: Revision,
    pub(crate) uid: String,
    /// No two writes write the same.
    pub(crate) value: String,
    /// A label.
    pub(crate) on: bool,
    /// A field that can be selected by.
    pub(crate) warning: bool,
}

/// How a watcher was told of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Modified,
    Deleted,
}

/// One event; the state's revision is the change's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) change: Change,
    pub(crate) state: Version,
}

/// What somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Create { value: String },
    Update { value: String, expected: Revision },
    Patch { value: String, expected: Option<Revision> },
    Delete { uid: String, expected: Option<Revision> },
    Get,
}

/// What they were told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Written(Version),
    Deleted,
    Read(Version),
    /// 404.
    NotFound,
    /// 409 Conflict.
    Conflict,
    /// 409 AlreadyExists.
    Exists,
    /// The connection broke before the answer came: it may have happened, or not.
    Unknown,
}

/// One request for one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) key: String,
    pub(crate) action: Action,
    pub(crate) begun: Moment,
    pub(crate) ended: Moment,
    pub(crate) outcome: Outcome,
}

/// What a list or a watch selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    All,
    On(bool),
    Warning(bool),
    Named(String),
}

impl Filter {
    pub(crate) fn matches(&self, state: &Version) -> bool {
        match self {
            Self::All => true,
            Self::On(on) => state.on == *on,
            Self::Warning(warning) => state.warning == *warning,
            Self::Named(key) => state.key == *key,
        }
    }
}

/// From where on a watch was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// All changes after a revision.
    After(Revision),
    /// The state first, ended by a bookmark (a streaming list).
    State,
}

/// What came over a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Event(Event),
    Bookmark { revision: Revision, ends_state: bool },
}

/// One watch, from its request to its end or its cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) who: String,
    pub(crate) filter: Filter,
    pub(crate) from: From,
    pub(crate) seen: Vec<Seen>,
    /// Did it last until everything had been written?
    pub(crate) to_the_end: bool,
}

/// Which state a list asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Newest,
    Any,
    Exactly(Revision),
}

/// One list, with all its pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) filter: Filter,
    pub(crate) wanted: Wanted,
    pub(crate) begun: Moment,
    pub(crate) ended: Moment,
    pub(crate) pages: Vec<(Revision, Vec<Version>)>,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// Nothing existed up to here.
    pub(crate) first: Revision,
    /// All events, as a watch from `first` tells them when all is over.
    pub(crate) truth: Vec<Event>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) listings: Vec<Listing>,
}

impl History {
    /// How many requests ended this way.
    pub(crate) fn told(&self, wanted: &Outcome) -> usize {
        self.operations.iter().filter(|operation| operation.outcome == *wanted).count()
    }

    /// How many requests are known to have changed something.
    pub(crate) fn changes(&self) -> usize {
        let changed = |outcome: &Outcome| matches!(outcome, Outcome::Written(_) | Outcome::Deleted);
        self.operations.iter().filter(|operation| changed(&operation.outcome)).count()
    }
}
