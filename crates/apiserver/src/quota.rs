//! What lasts or is held for a client (watches, bodies on their way, connections), counted in all and for each client.
//! Nobody holds more than half of anything, so that one client alone never takes it from all others.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An amount that is shared by clients known by `K`.
pub(crate) struct Quota<K>(Arc<Shared<K>>);

struct Shared<K> {
    total: usize,
    each: usize,
    held: Mutex<Held<K>>,
}

struct Held<K> {
    all: usize,
    by: HashMap<K, usize>,
}

impl<K: Eq + Hash> Quota<K> {
    pub(crate) fn new(total: usize) -> Self {
        let held = Held { all: 0, by: HashMap::new() };
        Self(Arc::new(Shared { total, each: total.div_ceil(2), held: Mutex::new(held) }))
    }

    /// Takes a share for somebody until it is dropped; `None` when there is not that much left for them.
    pub(crate) fn take(&self, who: K, amount: usize) -> Option<Share<K>>
    where
        K: Clone,
    {
        let mut held = self.0.held();
        let theirs = held.by.get(&who).copied().unwrap_or(0);
        if held.all.saturating_add(amount) > self.0.total || theirs.saturating_add(amount) > self.0.each {
            return None;
        }
        held.all += amount;
        *held.by.entry(who.clone()).or_default() += amount;
        drop(held);
        Some(Share { of: Arc::clone(&self.0), who, amount })
    }
}

impl<K> Shared<K> {
    fn held(&self) -> MutexGuard<'_, Held<K>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something taken; given back when dropped.
#[must_use]
pub(crate) struct Share<K: Eq + Hash> {
    of: Arc<Shared<K>>,
    who: K,
    amount: usize,
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut held = self.of.held();
        held.all -= self.amount;
        if let Some(theirs) = held.by.get_mut(&self.who) {
            *theirs -= self.amount;
            if *theirs == 0 {
                held.by.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_more_than_half_and_all_together_not_more_than_there_is() {
        let quota = Quota::new(5);
        let first = quota.take("a", 2).unwrap();
        let second = quota.take("a", 1).unwrap();
        assert!(quota.take("a", 1).is_none(), "three of five are the larger half");
        let others = quota.take("b", 2).unwrap();
        assert!(quota.take("c", 1).is_none(), "all five are taken");
        drop(first);
        assert!(quota.take("c", 3).is_none());
        let third = quota.take("c", 2).unwrap();
        drop((second, others, third));
        assert!(quota.0.held().by.is_empty(), "nothing is remembered of who holds nothing");
        assert!(quota.take("a", usize::MAX).is_none());
    }

    #[test]
    fn what_there_is_one_of_can_be_had() {
        let quota = Quota::new(1);
        assert!(quota.take((), 1).is_some());
    }
}
