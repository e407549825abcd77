//! Ports that could not be had: when each is tried again, and whether that is news. Somebody else's change is no reason to
//! try one sooner.

use std::collections::BTreeMap;
use std::time::Duration;

use svcd_svcmap::ServiceName;
use tokio::time::Instant;

/// How long to wait after a port could not be had, doubled each time.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// The ports that are refused now.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<ServiceName, Refusal>);

#[derive(Debug)]
struct Refusal {
    port: u16,
    reason: String,
    pause: Duration,
    due: Instant,
}

impl Refusals {
    /// Not before it is due.
    pub(super) fn may_try(&self, name: &ServiceName, port: u16, now: Instant) -> bool {
        self.0.get(name).is_none_or(|refusal| refusal.port != port || refusal.due <= now)
    }

    /// Notes that a port was refused. True when that has not been said of this Service yet.
    pub(super) fn note(&mut self, name: &ServiceName, port: u16, reason: String, now: Instant) -> bool {
        let before = self.0.remove(name).filter(|refusal| refusal.port == port);
        let pause = before.as_ref().map_or(FIRST_RETRY, |refusal| (refusal.pause * 2).min(LONGEST_RETRY));
        let is_news = before.is_none_or(|refusal| refusal.reason != reason);
        self.0.insert(name.clone(), Refusal { port, reason, pause, due: now + pause });
        is_news
    }

    /// A port that is free again is tried at once.
    pub(super) fn freed(&mut self, port: u16, now: Instant) {
        self.0.values_mut().filter(|refusal| refusal.port == port).for_each(|refusal| refusal.due = now);
    }

    /// Forgets all but these.
    pub(super) fn keep(&mut self, is_refused: impl Fn(&ServiceName) -> bool) {
        self.0.retain(|name, _| is_refused(name));
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(|refusal| refusal.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKEN: &str = "address in use";

    #[test]
    fn each_waits_for_its_own_time_twice_as_long_after_each_refusal() {
        let (mut refusals, web, now) = (Refusals::default(), ServiceName::new("ns", "web"), Instant::now());
        let mut due = now;
        for seconds in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            refusals.note(&web, 30_000, TAKEN.to_owned(), due);
            let next = due + Duration::from_secs_f64(seconds);
            assert_eq!(refusals.next(), Some(next));
            assert!(!refusals.may_try(&web, 30_000, next - Duration::from_millis(1)));
            assert!(refusals.may_try(&web, 30_000, next));
            due = next;
        }
        assert!(refusals.may_try(&web, 30_001, now), "another port has not been refused");
        assert!(refusals.may_try(&ServiceName::new("ns", "other"), 30_000, now));
    }

    #[test]
    fn what_was_said_is_not_said_again() {
        let (mut refusals, web, now) = (Refusals::default(), ServiceName::new("ns", "web"), Instant::now());
        assert!(refusals.note(&web, 30_000, TAKEN.to_owned(), now));
        assert!(!refusals.note(&web, 30_000, TAKEN.to_owned(), now));
        assert!(refusals.note(&web, 30_000, "permission denied".to_owned(), now));
        assert!(refusals.note(&web, 30_001, "permission denied".to_owned(), now));
        refusals.keep(|_| false);
        assert_eq!(refusals.next(), None);
        assert!(refusals.note(&web, 30_001, "permission denied".to_owned(), now), "after it could be had");
    }

    #[test]
    fn a_port_that_is_free_again_is_tried_at_once() {
        let (mut refusals, web, now) = (Refusals::default(), ServiceName::new("ns", "web"), Instant::now());
        refusals.note(&web, 30_000, TAKEN.to_owned(), now);
        refusals.freed(30_001, now);
        assert!(!refusals.may_try(&web, 30_000, now));
        refusals.freed(30_000, now);
        assert!(refusals.may_try(&web, 30_000, now));
    }
}
