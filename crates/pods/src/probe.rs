//! When a probe's answers add up to a verdict. Pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;

/// What a probe decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    /// As messages name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// A probe's timing, with defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    pub(crate) initial_delay: Duration,
    pub(crate) period: Duration,
    pub(crate) timeout: Duration,
    successes: u32,
    failures: u32,
}

impl Timing {
    pub(crate) fn of(probe: &Probe) -> Self {
        let number = |value: Option<i32>, least: u64, default: u64| {
            value
                .and_then(|value| u64::try_from(value).ok())
                .filter(|value| *value >= least)
                .unwrap_or(default)
        };
        let count =
            |value: Option<i32>, default: u64| u32::try_from(number(value, 1, default)).unwrap_or(u32::MAX);
        Self {
            initial_delay: Duration::from_secs(number(probe.initial_delay_seconds, 0, 0)),
            period: Duration::from_secs(number(probe.period_seconds, 1, 10)),
            timeout: Duration::from_secs(number(probe.timeout_seconds, 1, 1)),
            successes: count(probe.success_threshold, 1),
            failures: count(probe.failure_threshold, 3),
        }
    }
}

/// Counts answers of one kind in a row.
#[derive(Clone, Debug)]
pub(crate) struct Counter {
    timing: Timing,
    successes: u32,
    failures: u32,
}

impl Counter {
    pub(crate) fn new(timing: Timing) -> Self {
        Self { timing, successes: 0, failures: 0 }
    }

    /// Takes an answer; returns a verdict while a threshold is reached.
    pub(crate) fn observe(&mut self, healthy: bool) -> Option<bool> {
        if healthy {
            self.failures = 0;
            self.successes = self.successes.saturating_add(1);
            (self.successes >= self.timing.successes).then_some(true)
        } else {
            self.successes = 0;
            self.failures = self.failures.saturating_add(1);
            (self.failures >= self.timing.failures).then_some(false)
        }
    }

    /// Whether one success is a verdict: then asking more often than the period makes a pod ready earlier.
    pub(crate) fn eager(&self) -> bool {
        self.timing.successes == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_upstreams() {
        let timing = Timing::of(&Probe::default());
        assert_eq!(timing.period, Duration::from_secs(10));
        assert_eq!(timing.timeout, Duration::from_secs(1));
        assert_eq!((timing.successes, timing.failures), (1, 3));
        let zero = Probe { period_seconds: Some(0), failure_threshold: Some(-1), ..Probe::default() };
        assert_eq!(Timing::of(&zero), timing);
    }

    #[test]
    fn verdicts_need_answers_in_a_row() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Probe::default() };
        let mut counter = Counter::new(Timing::of(&probe));
        let answers = [true, false, true, true, false, false, true, false, false, false, false, true];
        let verdicts: Vec<_> = answers.iter().map(|answer| counter.observe(*answer)).collect();
        let none = None;
        let expected =
            [none, none, none, Some(true), none, none, none, none, none, Some(false), Some(false), none];
        assert_eq!(verdicts, expected);
        assert!(!counter.eager());
    }
}
