//! How long a container that ended waits for its next start: at first not at all, then 10 s, doubling to 5 minutes,
//! and from the beginning again once it ran for 10 minutes. As the kubelet does.

use std::time::Duration;

use jiff::Timestamp;

use crate::time::{after, until};

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);
const FORGIVEN: Duration = Duration::from_secs(600);

/// One container's back-off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    delay: Duration,
    updated: Option<Timestamp>,
}

impl Backoff {
    /// When a container that ended at `ended` may start again.
    pub(crate) fn due(&self, ended: Timestamp) -> Timestamp {
        if self.expired(ended) { ended } else { after(ended, self.delay) }
    }

    /// The present delay, for messages.
    pub(crate) fn delay(&self) -> Duration {
        self.delay
    }

    /// A restart happens at `now`.
    pub(crate) fn restarted(&mut self, now: Timestamp) {
        self.delay = if self.expired(now) { FIRST } else { (self.delay * 2).min(LONGEST) };
        self.updated = Some(now);
    }

    fn expired(&self, at: Timestamp) -> bool {
        self.updated.is_none_or(|updated| until(updated, at) > FORGIVEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_first_restart_is_at_once_and_later_ones_wait_longer() {
        let mut backoff = Backoff::default();
        let mut now = at(1000);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let due = backoff.due(now);
            waits.push(due.as_second() - now.as_second());
            backoff.restarted(due);
            // It crashes one second after it was started.
            now = after(due, Duration::from_secs(1));
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn ten_good_minutes_are_forgiveness() {
        let mut backoff = Backoff::default();
        backoff.restarted(at(0));
        backoff.restarted(at(11));
        assert_eq!(backoff.due(at(12)), at(32));
        assert_eq!(backoff.due(at(612)), at(612));
        backoff.restarted(at(612));
        assert_eq!(backoff.delay(), FIRST);
    }
}
