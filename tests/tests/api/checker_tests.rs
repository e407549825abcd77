//! The checker finds what is wrong: a sound history passes, and each way of breaking it is noticed.

use std::time::Duration;

use crate::checker::check;
use crate::history::{
    Action, Change, Event, Filter, From, History, Listing, Moment, Operation, Outcome, Seen, Session,
    Version, Wanted,
};

fn at(millis: u64) -> Moment {
    Duration::from_millis(millis)
}

fn version(key: &str, revision: u64, uid: &str, value: &str, on: bool) -> Version {
    let (key, uid, value) = (key.to_owned(), uid.to_owned(), value.to_owned());
    Version { key, revision, uid, value, on, warning: false }
}

fn event(change: Change, state: &Version) -> Event {
    Event { change, state: state.clone() }
}

fn operation(key: &str, begun: u64, action: Action, outcome: Outcome) -> Operation {
    Operation { key: key.to_owned(), action, begun: at(begun), ended: at(begun + 9), outcome }
}

fn create(value: &str) -> Action {
    Action::Create { value: value.to_owned() }
}

fn update(value: &str, expected: u64) -> Action {
    Action::Update { value: value.to_owned(), expected }
}

fn delete(uid: &str) -> Action {
    Action::Delete { uid: uid.to_owned(), expected: None }
}

fn session(filter: Filter, from: From, seen: Vec<Seen>) -> Session {
    Session { who: format!("{filter:?} {from:?}"), filter, from, seen, to_the_end: true }
}

fn listing(begun: u64, wanted: Wanted, filter: Filter, pages: Vec<(u64, Vec<Version>)>) -> Listing {
    Listing { filter, wanted, begun: at(begun), ended: at(begun + 9), pages }
}

/// a: created at 11, switched off at 13, deleted at 15 (nobody heard of that), made anew at 16. b: created at 12.
fn sound() -> History {
    let a1 = version("a", 11, "u1", "v1", true);
    let b1 = version("b", 12, "u2", "v2", true);
    let a2 = version("a", 13, "u1", "v3", false);
    let gone = version("a", 15, "u1", "v3", false);
    let a3 = version("a", 16, "u3", "v4", true);
    let off = version("a", 13, "u1", "v1", true);
    let saw = |change, state: &Version| Seen::Event(event(change, state));
    let bookmark = |revision| Seen::Bookmark { revision, ends_state: false };
    History {
        first: 10,
        truth: vec![
            event(Change::Added, &a1),
            event(Change::Added, &b1),
            event(Change::Modified, &a2),
            event(Change::Deleted, &gone),
            event(Change::Added, &a3),
        ],
        operations: vec![
            operation("a", 0, create("v1"), Outcome::Written(a1.clone())),
            operation("b", 10, create("v2"), Outcome::Written(b1.clone())),
            operation("a", 20, create("x1"), Outcome::Exists),
            operation("a", 30, update("v3", 11), Outcome::Written(a2.clone())),
            operation("a", 32, update("x2", 11), Outcome::Conflict),
            operation("a", 32, Action::Get, Outcome::Read(a1.clone())),
            operation("a", 40, Action::Get, Outcome::Read(a2.clone())),
            operation("a", 50, delete("u1"), Outcome::Unknown),
            operation("a", 60, Action::Get, Outcome::NotFound),
            operation("a", 60, delete("u1"), Outcome::NotFound),
            operation("a", 70, create("v4"), Outcome::Written(a3.clone())),
            operation(
                "b",
                80,
                Action::Delete { uid: "u2".to_owned(), expected: Some(11) },
                Outcome::Conflict,
            ),
            operation("c", 80, Action::Get, Outcome::NotFound),
        ],
        sessions: vec![
            session(
                Filter::All,
                From::After(10),
                vec![
                    saw(Change::Added, &a1),
                    saw(Change::Added, &b1),
                    bookmark(12),
                    saw(Change::Modified, &a2),
                    saw(Change::Deleted, &gone),
                    bookmark(15),
                    saw(Change::Added, &a3),
                    bookmark(20),
                ],
            ),
            session(
                Filter::On(true),
                From::After(10),
                vec![
                    saw(Change::Added, &a1),
                    saw(Change::Added, &b1),
                    saw(Change::Deleted, &off),
                    bookmark(15),
                    saw(Change::Added, &a3),
                ],
            ),
            session(
                Filter::All,
                From::State,
                vec![
                    saw(Change::Added, &a1),
                    saw(Change::Added, &b1),
                    Seen::Bookmark { revision: 12, ends_state: true },
                    saw(Change::Modified, &a2),
                    saw(Change::Deleted, &gone),
                    saw(Change::Added, &a3),
                ],
            ),
        ],
        listings: vec![
            listing(45, Wanted::Newest, Filter::All, vec![(14, vec![a2.clone()]), (14, vec![b1.clone()])]),
            listing(45, Wanted::Exactly(11), Filter::All, vec![(11, vec![a1])]),
            listing(45, Wanted::Any, Filter::On(true), vec![(13, vec![b1])]),
        ],
    }
}

#[test]
fn a_sound_history_passes() {
    assert_eq!(check(&sound()), [""; 0]);
}

/// Breaks the sound history; something with these words must be complained about.
#[track_caller]
fn caught(words: &str, breakage: impl FnOnce(&mut History)) {
    let mut history = sound();
    breakage(&mut history);
    let violations = check(&history);
    assert!(violations.iter().any(|v| v.contains(words)), "{words:?} is not in {violations:#?}");
}

#[test]
fn lost_and_invented_writes_are_caught() {
    caught("an acknowledged write is lost", |h| drop(h.truth.remove(1)));
    caught("an acknowledged write is lost", |h| h.truth[1].state.revision = 14);
    caught("an acknowledged delete is lost", |h| {
        h.operations[7].outcome = Outcome::Deleted;
        h.operations[7].action = delete("u2");
    });
    caught("was deleted 2 times", |h| {
        h.operations[7].outcome = Outcome::Deleted;
        h.operations[9].outcome = Outcome::Deleted;
    });
    caught("nobody asked for", |h| drop(h.operations.remove(7)));
    caught("nobody asked for", |h| h.operations[0].outcome = Outcome::Conflict);
    caught("something else was written", |h| h.operations[0].action = create("other"));
}

#[test]
fn a_log_that_is_none_is_caught() {
    caught("the log goes back", |h| h.truth.swap(0, 1));
    caught("the log does not follow", |h| h.truth[2].change = Change::Added);
    caught("the log does not follow", |h| h.truth[3].state.value = "other".to_owned());
    caught("the log does not follow", |h| h.truth[2].state.uid = "u9".to_owned());
}

#[test]
fn stale_and_early_answers_are_caught() {
    let stale = |h: &History| h.operations[5].outcome.clone();
    caught("no state explains the answer", |h| h.operations[6].outcome = stale(h));
    caught("no state explains the answer", |h| h.operations[6].outcome = Outcome::NotFound);
    caught("no state explains the answer", |h| {
        // Read before it was asked for.
        (h.operations[6].begun, h.operations[6].ended) = (at(21), at(29));
    });
    caught("a write came before what had ended", |h| {
        (h.operations[1].begun, h.operations[1].ended) = (at(100), at(101));
        h.operations[0].ended = at(5);
    });
}

#[test]
fn preconditions_that_were_not_minded_are_caught() {
    // A conflict where nothing was stale.
    caught("no state explains the answer", |h| {
        h.operations[4] = operation("b", 32, update("x2", 12), Outcome::Conflict);
    });
    caught("no state explains the answer", |h| {
        h.operations[4] = operation("a", 52, delete("u1"), Outcome::Conflict);
    });
    // A success where something was.
    caught("no state explains the answer", |h| h.operations[3].action = update("v3", 10));
    caught("no state explains the answer", |h| {
        h.operations[11].outcome = Outcome::Deleted;
    });
    // A create that took the place of something.
    caught("no state explains the answer", |h| {
        h.operations[2] = operation("c", 20, create("x1"), Outcome::Exists)
    });
}

fn seen(history: &mut History, session: usize) -> &mut Vec<Seen> {
    &mut history.sessions[session].seen
}

#[test]
fn watches_that_lie_are_caught() {
    caught("instead of", |h| drop(seen(h, 0).remove(1)));
    caught("instead of", |h| {
        let again = seen(h, 0)[0].clone();
        seen(h, 0).insert(1, again);
    });
    caught("instead of", |h| seen(h, 0).swap(0, 1));
    caught("was never told of", |h| seen(h, 0).truncate(5));
    caught("is ahead of", |h| seen(h, 0)[2] = Seen::Bookmark { revision: 13, ends_state: false });
    caught("a bookmark at 11 after 12", |h| {
        seen(h, 0)[2] = Seen::Bookmark { revision: 11, ends_state: false }
    });
    // A selector's DELETED shows the last state that matched, at the revision of the change.
    caught("instead of", |h| {
        let Seen::Event(event) = &mut seen(h, 1)[2] else { panic!() };
        event.state.value = "v3".to_owned();
    });
    caught("instead of", |h| {
        let Seen::Event(event) = &mut seen(h, 1)[2] else { panic!() };
        event.state.revision = 11;
    });
    caught("instead of", |h| drop(seen(h, 1).remove(2)));
    caught("instead of", |h| h.sessions[0].from = From::After(11));
}

#[test]
fn streaming_lists_that_lie_are_caught() {
    caught("is not the state at 12", |h| drop(seen(h, 2).remove(0)));
    caught("is not the state at 13", |h| seen(h, 2)[2] = Seen::Bookmark { revision: 13, ends_state: true });
    caught("never ended", |h| seen(h, 2).truncate(2));
    caught("is no part of a state", |h| seen(h, 2).swap(2, 3));
    caught("instead of", |h| drop(seen(h, 2).remove(3)));
}

#[test]
fn lists_that_lie_are_caught() {
    caught("is not the state at its revision", |h| h.listings[0].pages[0].1.clear());
    caught("are not of one revision", |h| h.listings[0].pages[1].0 = 15);
    caught("a list at 11 shows 12", |h| h.listings[1].pages[0].0 = 12);
    caught("older than what was known", |h| {
        let old = h.listings[1].pages.clone();
        h.listings[0].pages = old;
    });
    caught("asked for after its end", |h| {
        (h.listings[0].begun, h.listings[0].ended) = (at(1), at(2));
    });
}
