//! Which prefixes are being watched, so that an event wakes those it concerns and nobody else.
//!
//! Promises: an interest's `last` and `forgotten` are never behind the published state, and a signal is sent after every change of it;
//! who looks at its signal first, then at `last`, and only then waits, loses no wake-up.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::{Event, Revision};

/// All watchers of one prefix.
#[derive(Debug)]
pub(super) struct Interest {
    /// No event after this revision concerned the prefix.
    last: AtomicU64,
    /// No event after this revision that concerned the prefix has left the history.
    forgotten: AtomicU64,
    signal: watch::Sender<()>,
}

impl Interest {
    fn since(oldest: Revision, newest: Revision) -> Self {
        let (last, forgotten) = (AtomicU64::new(newest.0), AtomicU64::new(oldest.0));
        Self { last, forgotten, signal: watch::Sender::new(()) }
    }

    pub(super) fn last(&self) -> Revision {
        Revision(self.last.load(Ordering::Acquire))
    }

    pub(super) fn forgotten(&self) -> Revision {
        Revision(self.forgotten.load(Ordering::Acquire))
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.signal.subscribe()
    }

    pub(super) fn wake(&self) {
        self.signal.send_replace(());
    }
}

#[derive(Debug, Default)]
pub(super) struct Interests(BTreeMap<Arc<str>, (Arc<Interest>, usize)>);

impl Interests {
    /// Adds a watcher. The history reaches from `oldest` to `newest`, and in it anything may have happened under the
    /// prefix.
    pub(super) fn add(&mut self, prefix: &Arc<str>, oldest: Revision, newest: Revision) -> Arc<Interest> {
        let fresh = || (Arc::new(Interest::since(oldest, newest)), 0);
        let (interest, watchers) = self.0.entry(prefix.clone()).or_insert_with(fresh);
        *watchers += 1;
        interest.clone()
    }

    pub(super) fn remove(&mut self, prefix: &str) {
        let Some((_, watchers)) = self.0.get_mut(prefix) else { return };
        *watchers -= 1;
        if *watchers == 0 {
            self.0.remove(prefix);
        }
    }

    /// Marks every prefix that a group's events concern, and hands those out to be woken.
    pub(super) fn mark(&self, events: &[Arc<Event>]) -> Vec<Arc<Interest>> {
        let Some(first) = events.first() else { return Vec::new() };
        let mut marked = Vec::new();
        for event in events {
            self.concerned(&event.record.key, |interest| {
                let before = interest.last.swap(event.revision.0, Ordering::AcqRel);
                if before < first.revision.0 {
                    marked.push(interest.clone());
                }
            });
        }
        marked
    }

    /// Notes that events have left the history.
    pub(super) fn forget<'a>(&self, events: impl Iterator<Item = &'a Arc<Event>>) {
        for event in events {
            self.concerned(&event.record.key, |interest| {
                interest.forgotten.store(event.revision.0, Ordering::Release);
            });
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Interest>> {
        self.0.values().map(|(interest, _)| interest)
    }

    /// Visits every prefix of a key, longest first, in steps that grow with their number and not with all watchers'.
    fn concerned(&self, key: &str, mut visit: impl FnMut(&Arc<Interest>)) {
        let mut end = Bound::Included(key);
        while let Some((prefix, (interest, _))) = self.0.range::<str, _>((Bound::Unbounded, end)).next_back()
        {
            if key.starts_with(&**prefix) {
                visit(interest);
                end = Bound::Excluded(prefix);
            } else {
                // Any prefix of the key that sorts before this one is also a prefix of what both begin with.
                end = Bound::Included(common_prefix(key, prefix));
            }
        }
    }
}

fn common_prefix<'a>(a: &'a str, b: &str) -> &'a str {
    let length = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
    &a[..length]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concerned_visits_exactly_the_prefixes() {
        let mut interests = Interests::default();
        let prefixes = ["", "/a", "/a/", "/a/b", "/a/b/c", "/a/bc", "/a/é", "/b", "/", "0", "/a/b/c/d/e"];
        for prefix in prefixes {
            interests.add(&prefix.into(), Revision(1), Revision(1));
        }
        for key in ["/a/b/c/d", "/a/bcd", "/a/è", "/a/é/x", "/", "x", "", "/c", "/a/b/c/d/e"] {
            let mut visited = 0;
            interests.concerned(key, |_| visited += 1);
            assert_eq!(visited, prefixes.iter().filter(|prefix| key.starts_with(**prefix)).count(), "{key}");
        }
    }

    #[test]
    fn an_interest_lives_as_long_as_its_watchers() {
        let mut interests = Interests::default();
        let prefix: Arc<str> = "/a".into();
        interests.add(&prefix, Revision(1), Revision(1));
        interests.add(&prefix, Revision(1), Revision(1));
        interests.remove(&prefix);
        assert_eq!(interests.all().count(), 1);
        interests.remove(&prefix);
        assert_eq!(interests.all().count(), 0);
    }
}
