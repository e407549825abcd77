//! A queue of keys in which every key stands once, however often it is added.
//!
//! Promises: no key is handed out twice at the same time; a key added while it is worked on is handed out again
//! afterwards; nothing waits but what was asked to wait. Refuses: to count attempts for the caller beyond back-off.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

struct State<T> {
    ready: VecDeque<T>,
    /// Waiting in `ready`, or to be put there once it is no longer worked on.
    wanted: HashSet<T>,
    working: HashSet<T>,
    failures: HashMap<T, u32>,
    /// The earliest time at which a key comes back by itself.
    later: HashMap<T, Instant>,
}

/// See the file's documentation.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    wake: Notify,
}

impl<T: Clone + Eq + Hash + Send + 'static> Queue<T> {
    pub(crate) fn new() -> Arc<Self> {
        let state = State {
            ready: VecDeque::new(),
            wanted: HashSet::new(),
            working: HashSet::new(),
            failures: HashMap::new(),
            later: HashMap::new(),
        };
        Arc::new(Self { state: Mutex::new(state), wake: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wants the key worked on as soon as possible.
    pub(crate) fn add(&self, key: T) {
        let mut state = self.lock();
        if state.wanted.insert(key.clone()) && !state.working.contains(&key) {
            state.ready.push_back(key);
            self.wake.notify_one();
        }
    }

    /// Wants the key worked on after a while; an earlier wish stands.
    pub(crate) fn add_after(self: &Arc<Self>, key: T, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let due = Instant::now() + delay;
        let mut state = self.lock();
        if state.later.get(&key).is_some_and(|earlier| *earlier <= due) {
            return;
        }
        state.later.insert(key.clone(), due);
        drop(state);
        let queue = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep_until(due).await;
            if let Some(queue) = queue.upgrade() {
                queue.come_due(key, due);
            }
        });
    }

    fn come_due(&self, key: T, due: Instant) {
        let mut state = self.lock();
        if state.later.get(&key) != Some(&due) {
            return; // An earlier wish has replaced this one.
        }
        state.later.remove(&key);
        drop(state);
        self.add(key);
    }

    /// The next key; the caller must say [`Queue::done`].
    pub(crate) async fn next(&self) -> T {
        loop {
            let woken = self.wake.notified();
            if let Some(key) = self.take() {
                return key;
            }
            woken.await;
        }
    }

    fn take(&self) -> Option<T> {
        let mut state = self.lock();
        let key = state.ready.pop_front()?;
        state.wanted.remove(&key);
        state.working.insert(key.clone());
        Some(key)
    }

    /// The key has been worked on.
    pub(crate) fn done(&self, key: &T) {
        let mut state = self.lock();
        state.working.remove(key);
        if state.wanted.contains(key) {
            state.ready.push_back(key.clone());
            self.wake.notify_one();
        }
    }

    /// It went well: the next failure is a first one.
    pub(crate) fn forget(&self, key: &T) {
        self.lock().failures.remove(key);
    }

    /// Counts a failure and returns how long to wait: 2 ms, doubled each time, at most 5 s.
    pub(crate) fn back_off(&self, key: &T) -> Duration {
        let mut state = self.lock();
        let failures = state.failures.entry(key.clone()).or_default();
        *failures += 1;
        let doubled = Duration::from_millis(1) * 2_u32.saturating_pow((*failures).min(13));
        doubled.min(Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn taken(queue: &Queue<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.take()).collect()
    }

    #[test]
    fn a_key_stands_once() {
        let queue = Queue::new();
        queue.add("a");
        queue.add("b");
        queue.add("a");
        assert_eq!(taken(&queue), ["a", "b"]);
    }

    #[test]
    fn a_key_added_while_worked_on_comes_again_afterwards() {
        let queue = Queue::new();
        queue.add("a");
        assert_eq!(taken(&queue), ["a"]);
        queue.add("a");
        queue.add("a");
        assert!(taken(&queue).is_empty());
        queue.done(&"a");
        assert_eq!(taken(&queue), ["a"]);
        queue.done(&"a");
        assert!(taken(&queue).is_empty());
    }

    #[tokio::test]
    async fn the_earliest_wish_counts_and_the_others_are_void() {
        let queue = Queue::new();
        queue.add_after("a", Duration::from_millis(90));
        queue.add_after("a", Duration::from_millis(10));
        queue.add_after("a", Duration::from_millis(60));
        queue.add_after("b", Duration::from_secs(3600));
        assert_eq!(queue.next().await, "a");
        queue.done(&"a");
        let more = tokio::time::timeout(Duration::from_millis(200), queue.next()).await;
        assert!(more.is_err(), "{more:?}");
    }

    #[test]
    fn back_off_grows_to_five_seconds_and_is_forgotten() {
        let queue = Queue::new();
        assert_eq!(queue.back_off(&"a"), Duration::from_millis(2));
        assert_eq!(queue.back_off(&"a"), Duration::from_millis(4));
        for _ in 0..40 {
            queue.back_off(&"a");
        }
        assert_eq!(queue.back_off(&"a"), Duration::from_secs(5));
        queue.forget(&"a");
        assert_eq!(queue.back_off(&"a"), Duration::from_millis(2));
    }
}
