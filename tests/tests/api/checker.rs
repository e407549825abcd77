//! Judges a history: linearizable for each key, watches without gaps and repeats, lists of one state, 409 exactly when a
//! precondition was stale, and nothing lost that was acknowledged.
//!
//! The truth is the server's own log of events. That it is one is checked first: each of its events is what exactly one
//! request asked for, and each acknowledged request is in it at the revision that its answer named. Then everything that
//! anybody saw is held against it. Since revisions number all changes, a request's place in the order is known, and
//! linearizability comes down to intervals: a state of a key can be seen by a request if it was still there after
//! everything that had ended before the request began, and had been asked for before the request ended.

use std::collections::{BTreeMap, HashMap};

use crate::history::{
    Action, Change, Event, Filter, From, History, Listing, Moment, Operation, Outcome, Revision, Seen,
    Session, Version, Wanted,
};

/// What does not hold, in words.
pub(crate) type Violation = String;

/// Everything that does not hold of a history.
pub(crate) fn check(history: &History) -> Vec<Violation> {
    let mut judge = Judge::new(history);
    judge.truth();
    for operation in &history.operations {
        judge.operation(operation);
    }
    for session in &history.sessions {
        judge.session(session);
    }
    for listing in &history.listings {
        judge.listing(listing);
    }
    judge.violations
}

/// A key's state from one revision until the next change.
struct Interval<'a> {
    from: Revision,
    until: Revision,
    state: Option<&'a Version>,
}

struct Judge<'a> {
    history: &'a History,
    /// By key, without gaps, from the first revision on.
    intervals: HashMap<&'a str, Vec<Interval<'a>>>,
    /// When the request was begun that made the change at a revision.
    asked: HashMap<Revision, Moment>,
    /// By time: the highest revision that anybody had been told of by then.
    known: Vec<(Moment, Revision)>,
    violations: Vec<Violation>,
}

fn value_of(action: &Action) -> Option<&str> {
    match action {
        Action::Create { value } | Action::Update { value, .. } | Action::Patch { value, .. } => Some(value),
        Action::Delete { .. } | Action::Get => None,
    }
}

impl<'a> Judge<'a> {
    fn new(history: &'a History) -> Self {
        let mut known: Vec<(Moment, Revision)> = Vec::new();
        for operation in &history.operations {
            if let Outcome::Written(state) | Outcome::Read(state) = &operation.outcome {
                known.push((operation.ended, state.revision));
            }
        }
        for listing in &history.listings {
            known.extend(listing.pages.first().map(|(revision, _)| (listing.ended, *revision)));
        }
        known.sort();
        let mut highest = history.first;
        for (_, revision) in &mut known {
            highest = highest.max(*revision);
            *revision = highest;
        }
        let (intervals, asked) = (intervals(history), HashMap::new());
        Self { history, intervals, asked, known, violations: Vec::new() }
    }

    fn broken(&mut self, what: String) {
        self.violations.push(what);
    }

    /// The highest revision that somebody had been told of before this moment.
    fn known_before(&self, moment: Moment) -> Revision {
        let count = self.known.partition_point(|(ended, _)| *ended < moment);
        count.checked_sub(1).map_or(self.history.first, |last| self.known[last].1)
    }

    /// When the change at a revision was asked for; what nobody asked for is complained about elsewhere.
    fn asked_at(&self, revision: Revision) -> Moment {
        self.asked.get(&revision).copied().unwrap_or_default()
    }

    /// Is the truth one? Fills in who asked for what.
    fn truth(&mut self) {
        let mut last = self.history.first;
        let mut before: HashMap<&str, &Version> = HashMap::new();
        for event in &self.history.truth {
            let state = &event.state;
            if state.revision <= last {
                self.broken(format!("the log goes back: {state:?} after {last}"));
            }
            last = last.max(state.revision);
            let previous = before.get(state.key.as_str()).copied();
            match (event.change, previous) {
                (Change::Added, None) => {}
                (Change::Modified, Some(previous)) if previous.uid == state.uid => {}
                (Change::Deleted, Some(previous)) if same_but_revision(previous, state) => {}
                _ => self.broken(format!("the log does not follow: {event:?} after {previous:?}")),
            }
            if event.change == Change::Deleted {
                before.remove(state.key.as_str());
            } else {
                before.insert(&state.key, state);
            }
            self.asker(event);
        }
        self.acknowledged();
    }

    /// Who asked for an event?
    fn asker(&mut self, event: &Event) {
        let state = &event.state;
        let askers = self.history.operations.iter().filter(|operation| {
            operation.key == state.key
                && match (&operation.action, event.change) {
                    (Action::Delete { uid, .. }, Change::Deleted) => *uid == state.uid,
                    (Action::Create { value }, Change::Added) => *value == state.value,
                    (Action::Update { value, .. } | Action::Patch { value, .. }, Change::Modified) => {
                        *value == state.value
                    }
                    _ => false,
                }
        });
        let possible = |operation: &&Operation| match &operation.outcome {
            Outcome::Unknown | Outcome::Deleted => true,
            Outcome::Written(written) => written.revision == state.revision,
            _ => false,
        };
        match askers.filter(possible).map(|operation| operation.begun).min() {
            Some(begun) => {
                self.asked.insert(state.revision, begun);
            }
            None => self.broken(format!("nobody asked for {event:?}, or they were told otherwise")),
        }
    }

    /// Is everything that was acknowledged in the log, once?
    fn acknowledged(&mut self) {
        let events: HashMap<Revision, &Event> =
            self.history.truth.iter().map(|event| (event.state.revision, event)).collect();
        let mut deleted: HashMap<&str, usize> = HashMap::new();
        for operation in &self.history.operations {
            match (&operation.action, &operation.outcome) {
                (_, Outcome::Written(state)) => {
                    if events.get(&state.revision).is_none_or(|event| event.state != *state) {
                        self.broken(format!("an acknowledged write is lost: {operation:?}"));
                    }
                    if value_of(&operation.action) != Some(&state.value) {
                        self.broken(format!("something else was written: {operation:?}"));
                    }
                }
                (Action::Delete { uid, .. }, Outcome::Deleted) => {
                    let found = |e: &&Event| e.change == Change::Deleted && e.state.uid == *uid;
                    if !self.history.truth.iter().any(|event| found(&event)) {
                        self.broken(format!("an acknowledged delete is lost: {operation:?}"));
                    }
                    *deleted.entry(uid).or_default() += 1;
                }
                _ => {}
            }
        }
        for (uid, times) in deleted {
            if times > 1 {
                self.broken(format!("{uid} was deleted {times} times"));
            }
        }
    }

    /// The states of a key that a request can have seen.
    fn visible(&self, key: &str, begun: Moment, ended: Moment) -> Vec<Option<&'a Version>> {
        let after = self.known_before(begun);
        let intervals = self.intervals.get(key).map(Vec::as_slice).unwrap_or_default();
        if intervals.is_empty() {
            return vec![None];
        }
        let visible = intervals.iter().filter(|interval| {
            interval.until > after
                && (interval.from == self.history.first || self.asked_at(interval.from) < ended)
        });
        visible.map(|interval| interval.state).collect()
    }

    fn operation(&mut self, operation: &Operation) {
        let Operation { key, action, begun, ended, outcome } = operation;
        let visible = self.visible(key, *begun, *ended);
        let is_expected = |state: &Version| match action {
            Action::Update { expected, .. } => state.revision == *expected,
            Action::Patch { expected, .. } => expected.is_none_or(|expected| state.revision == expected),
            Action::Delete { uid, expected } => {
                state.uid == *uid && expected.is_none_or(|expected| state.revision == expected)
            }
            Action::Create { .. } | Action::Get => true,
        };
        let fits = match outcome {
            Outcome::Unknown => true,
            Outcome::Read(read) => visible.contains(&Some(read)),
            Outcome::NotFound => visible.contains(&None),
            Outcome::Exists => matches!(action, Action::Create { .. }) && visible.iter().any(Option::is_some),
            // Kinds that an update may create answer 409 where nothing is left of what was expected.
            Outcome::Conflict => {
                let gone = matches!(action, Action::Update { .. }) && visible.contains(&None);
                gone || visible.iter().flatten().any(|state| !is_expected(state))
            }
            Outcome::Deleted => visible.iter().flatten().any(|state| is_expected(state)),
            Outcome::Written(written) => {
                if written.revision <= self.known_before(*begun) {
                    self.broken(format!("a write came before what had ended when it began: {operation:?}"));
                }
                let before = self.before(key, written.revision);
                match action {
                    Action::Create { .. } => before.is_none(),
                    _ => before.is_some_and(is_expected),
                }
            }
        };
        if !fits {
            self.broken(format!("no state explains the answer: {operation:?}; there was {visible:?}"));
        }
    }

    /// The state of a key right before a revision.
    fn before(&self, key: &str, revision: Revision) -> Option<&'a Version> {
        let intervals = self.intervals.get(key)?;
        intervals.iter().find(|interval| interval.until == revision)?.state
    }

    fn session(&mut self, session: &Session) {
        let mut seen = session.seen.as_slice();
        let after = match session.from {
            From::After(revision) => revision,
            From::State => match self.initial_state(session) {
                Some((revision, rest)) => {
                    seen = rest;
                    revision
                }
                None => return,
            },
        };
        self.live(session, after, seen);
    }

    /// The state at the beginning of a streaming list; its revision and what follows it.
    fn initial_state<'s>(&mut self, session: &'s Session) -> Option<(Revision, &'s [Seen])> {
        let is_end = |seen: &Seen| matches!(seen, Seen::Bookmark { ends_state: true, .. });
        let end = session.seen.iter().position(is_end);
        let begun = &session.seen[..end.unwrap_or(session.seen.len())];
        let mut found = Vec::new();
        for seen in begun {
            match seen {
                Seen::Event(Event { change: Change::Added, state }) => found.push(state.clone()),
                other => self.broken(format!("{}: {other:?} is no part of a state", session.who)),
            }
        }
        let end = end.or_else(|| {
            if session.to_the_end {
                self.broken(format!("{}: its state never ended", session.who));
            }
            None
        })?;
        let Seen::Bookmark { revision, .. } = session.seen[end] else { return None };
        if found != fold(&self.history.truth, revision, &session.filter) {
            self.broken(format!("{}: what it began with is not the state at {revision}", session.who));
        }
        Some((revision, &session.seen[end + 1..]))
    }

    /// The changes after a revision: all of them, once, in order, as far as the session lasted.
    fn live(&mut self, session: &Session, after: Revision, seen: &[Seen]) {
        let changes = changes(&self.history.truth, &session.filter);
        let mut coming = changes.iter().filter(|event| event.state.revision > after).peekable();
        let mut last = after;
        for seen in seen {
            match seen {
                Seen::Event(event) => {
                    let expected = coming.next();
                    if expected != Some(event) {
                        let who = &session.who;
                        return self.broken(format!("{who}: it saw {event:?} instead of {expected:?}"));
                    }
                    if event.state.revision <= last {
                        self.broken(format!("{}: {event:?} after {last}", session.who));
                    }
                    last = event.state.revision;
                }
                Seen::Bookmark { revision, ends_state } => {
                    let missed = coming.peek().filter(|event| event.state.revision <= *revision);
                    if let Some(missed) = missed {
                        let what =
                            format!("{}: a bookmark at {revision} is ahead of {missed:?}", session.who);
                        self.broken(what);
                    }
                    if *revision < last || *ends_state {
                        self.broken(format!("{}: a bookmark at {revision} after {last}", session.who));
                    }
                    last = *revision;
                }
            }
        }
        if let Some(missed) = coming.next().filter(|_| session.to_the_end) {
            self.broken(format!("{}: it was never told of {missed:?}", session.who));
        }
    }

    fn listing(&mut self, listing: &Listing) {
        let Some((revision, _)) = listing.pages.first() else {
            return self.broken(format!("a list without a page: {listing:?}"));
        };
        if listing.pages.iter().any(|(other, _)| other != revision) {
            self.broken(format!("the pages of a list are not of one revision: {listing:?}"));
        }
        match listing.wanted {
            Wanted::Exactly(wanted) if wanted != *revision => {
                self.broken(format!("a list at {wanted} shows {revision}"));
            }
            Wanted::Newest if *revision < self.known_before(listing.begun) => {
                self.broken(format!(
                    "the newest list shows {revision}, older than what was known: {listing:?}"
                ));
            }
            _ => {}
        }
        let newest = self.history.truth.iter().rev().map(|e| e.state.revision).find(|r| r <= revision);
        if newest.is_some_and(|newest| self.asked_at(newest) > listing.ended) {
            self.broken(format!("a list shows what was asked for after its end: {listing:?}"));
        }
        let found: Vec<Version> = listing.pages.iter().flat_map(|(_, states)| states.clone()).collect();
        if found != fold(&self.history.truth, *revision, &listing.filter) {
            self.broken(format!("a list is not the state at its revision: {listing:?}"));
        }
    }
}

fn same_but_revision(a: &Version, b: &Version) -> bool {
    Version { revision: 0, ..a.clone() } == Version { revision: 0, ..b.clone() }
}

fn intervals(history: &History) -> HashMap<&str, Vec<Interval<'_>>> {
    let mut all: HashMap<&str, Vec<Interval<'_>>> = HashMap::new();
    for event in &history.truth {
        let state = &event.state;
        let of_key = all
            .entry(&state.key)
            .or_insert_with(|| vec![Interval { from: history.first, until: Revision::MAX, state: None }]);
        if let Some(last) = of_key.last_mut() {
            last.until = state.revision;
        }
        let state = (event.change != Change::Deleted).then_some(state);
        of_key.push(Interval { from: event.state.revision, until: Revision::MAX, state });
    }
    all
}

/// The state at a revision, in the order of the keys.
fn fold(truth: &[Event], revision: Revision, filter: &Filter) -> Vec<Version> {
    let mut states: BTreeMap<&str, &Version> = BTreeMap::new();
    for event in truth.iter().take_while(|event| event.state.revision <= revision) {
        match event.change {
            Change::Deleted => states.remove(event.state.key.as_str()),
            _ => states.insert(&event.state.key, &event.state),
        };
    }
    states.into_values().filter(|state| filter.matches(state)).cloned().collect()
}

/// The events as a filter shows them.
pub(crate) fn changes(truth: &[Event], filter: &Filter) -> Vec<Event> {
    let mut before: HashMap<&str, &Version> = HashMap::new();
    let mut changes = Vec::new();
    for event in truth {
        let previous = before.remove(event.state.key.as_str()).filter(|state| filter.matches(state));
        let next = (event.change != Change::Deleted).then_some(&event.state);
        if let Some(next) = next {
            before.insert(&next.key, next);
        }
        let revision = event.state.revision;
        let shown = match (previous, next.filter(|state| filter.matches(state))) {
            (None, None) => continue,
            (None, Some(next)) => (Change::Added, next.clone()),
            (Some(_), Some(next)) => (Change::Modified, next.clone()),
            // The last state that matched, at the revision of the change.
            (Some(last), None) => (Change::Deleted, Version { revision, ..last.clone() }),
        };
        changes.push(Event { change: shown.0, state: shown.1 });
    }
    changes
}
