//! Priority and fairness: how many requests are worked on at once, and whose. Every request belongs to a level (nodes,
//! leader election, workloads, …), each level has seats of its own, and within a level users take turns. Who finds no
//! seat waits in a bounded queue for a bounded time, and is then told 429. So a client that asks without pause delays
//! others of its level by one turn each, and other levels not at all.
//!
//! Levels, shares and the rules that choose between them are upstream's defaults, under their names. They are fixed: the
//! kinds of `flowcontrol.apiserver.k8s.io` are not served, and every request takes one seat.

mod levels;
mod metrics;
mod seats;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

pub(crate) use levels::{Schema, schema};
pub(crate) use metrics::FlowMetrics;
use metrics::Labels;
use seats::{Arrival, Seats, Source, Ticket};

use crate::errors::Failure;

/// See the module.
pub(crate) struct Fairness {
    shared: Arc<Shared>,
    patience: Duration,
}

struct Shared {
    state: Mutex<State>,
    metrics: FlowMetrics,
}

struct State {
    seats: Seats,
    /// Those who wait, to be told that they have a seat.
    waiting: HashMap<Ticket, oneshot::Sender<Seat>>,
}

impl Fairness {
    pub(crate) fn new(total: usize, patience: Duration) -> Self {
        let seats = Seats::new(total, levels::LEVELS);
        let metrics = FlowMetrics::default();
        for (level, nominal) in seats.nominal() {
            metrics.nominal(level, nominal);
        }
        let state = Mutex::new(State { seats, waiting: HashMap::new() });
        Self { shared: Arc::new(Shared { state, metrics }), patience }
    }

    pub(crate) fn metrics(&self) -> &FlowMetrics {
        &self.shared.metrics
    }

    /// Waits for a seat; 429 when there is no room to wait, or it takes too long.
    pub(crate) async fn enter(&self, schema: &'static Schema, flow: &str) -> Result<Seat, Failure> {
        let (labels, arrived) = (Labels::of(schema), Instant::now());
        let Some(level) = schema.level else {
            self.shared.metrics.dispatched(&labels, Duration::ZERO);
            return Ok(Seat::exempt(&self.shared, labels));
        };
        let (ticket, granted) = {
            let mut state = self.shared.state();
            match state.seats.arrive(level, flow) {
                Arrival::Seated(source) => {
                    drop(state);
                    self.shared.metrics.dispatched(&labels, Duration::ZERO);
                    return Ok(Seat::new(&self.shared, labels, source));
                }
                Arrival::Refused => {
                    drop(state);
                    self.shared.metrics.rejected(&labels, "queue-full", Duration::ZERO);
                    return Err(Failure::too_many_requests());
                }
                Arrival::Waits(ticket) => {
                    let (seat, granted) = oneshot::channel();
                    state.waiting.insert(ticket, seat);
                    (ticket, granted)
                }
            }
        };
        let waiting = Waiting::new(&self.shared, labels.clone(), ticket);
        let granted = tokio::time::timeout(self.patience, granted).await;
        drop(waiting);
        let waited = arrived.elapsed();
        match granted {
            Ok(Ok(seat)) => {
                self.shared.metrics.dispatched(&labels, waited);
                Ok(seat.labelled(labels))
            }
            _ => {
                self.shared.metrics.rejected(&labels, "time-out", waited);
                Err(Failure::too_many_requests())
            }
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat is free: whoever is next has it. Told outside of the lock, since a seat that nobody takes comes back.
    fn leave(self: &Arc<Self>, source: Source) {
        let next = {
            let mut state = self.state();
            state
                .seats
                .leave(source)
                .and_then(|(ticket, source)| state.waiting.remove(&ticket).map(|waiter| (waiter, source)))
        };
        if let Some((waiter, source)) = next {
            let unlabelled = Seat { shared: Arc::clone(self), labels: None, source: Some(source) };
            drop(waiter.send(unlabelled));
        }
    }
}

/// The right to be worked on; given back when dropped.
#[must_use]
pub(crate) struct Seat {
    shared: Arc<Shared>,
    /// What it is counted under; nothing while it is on its way to who waits for it.
    labels: Option<Labels>,
    /// Where the seat is from; none of an exempt request.
    source: Option<Source>,
}

impl Seat {
    fn new(shared: &Arc<Shared>, labels: Labels, source: Source) -> Self {
        Self { shared: Arc::clone(shared), labels: None, source: Some(source) }.labelled(labels)
    }

    fn exempt(shared: &Arc<Shared>, labels: Labels) -> Self {
        Self { shared: Arc::clone(shared), labels: None, source: None }.labelled(labels)
    }

    fn labelled(mut self, labels: Labels) -> Self {
        self.shared.metrics.executing(&labels, 1);
        self.labels = Some(labels);
        self
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(labels) = &self.labels {
            self.shared.metrics.executing(labels, -1);
        }
        if let Some(source) = self.source.take() {
            self.shared.leave(source);
        }
    }
}

/// A place in a queue; given up when dropped, also by a client that goes away.
struct Waiting {
    shared: Arc<Shared>,
    labels: Labels,
    ticket: Ticket,
}

impl Waiting {
    fn new(shared: &Arc<Shared>, labels: Labels, ticket: Ticket) -> Self {
        shared.metrics.queued(&labels, 1);
        Self { shared: Arc::clone(shared), labels, ticket }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.metrics.queued(&self.labels, -1);
        let mut state = self.shared.state();
        if state.waiting.remove(&self.ticket).is_some() {
            state.seats.abandon(self.ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::{NODES, User};

    const SOON: Duration = Duration::from_millis(20);

    fn workload() -> &'static Schema {
        schema(&User::new("alice", ["devs"]), None)
    }

    #[tokio::test]
    async fn a_seat_goes_on_to_who_waits_and_time_runs_out_for_the_rest() {
        let fairness = Arc::new(Fairness::new(0, Duration::from_millis(500)));
        let mut held = Vec::new();
        while let Ok(seat) = fairness.enter(workload(), "alice").await {
            held.push(seat);
        }
        assert!(!held.is_empty(), "every level has a seat");
        let node = schema(&User::new("system:node:n1", [NODES]), None);
        let nodes = fairness.enter(node, "system:node:n1").await;
        assert!(nodes.is_ok(), "another level is not held up");
        let patient = tokio::spawn({
            let fairness = Arc::clone(&fairness);
            async move { fairness.enter(workload(), "bob").await.map(drop) }
        });
        while fairness.shared.state().waiting.is_empty() {
            tokio::task::yield_now().await;
        }
        drop(held.pop());
        assert!(patient.await.unwrap().is_ok());
        let text = fairness.shared.metrics.describe(workload());
        assert_eq!(text, (0, held.len() as i64), "nobody waits, and the others are worked on");
    }

    #[tokio::test]
    async fn who_goes_away_while_waiting_leaves_no_trace() {
        let fairness = Fairness::new(0, Duration::from_secs(3600));
        let mut held = Vec::new();
        while let Ok(seat) = tokio::time::timeout(SOON, fairness.enter(workload(), "alice")).await {
            held.push(seat.unwrap());
        }
        assert!(fairness.shared.state().waiting.is_empty());
        drop(held);
        assert!(fairness.shared.state().seats.is_idle());
    }

    #[tokio::test]
    async fn masters_are_never_held_up() {
        let fairness = Fairness::new(0, SOON);
        let master = schema(&User::master("admin"), None);
        let mut held = Vec::new();
        for _ in 0..1000 {
            held.push(fairness.enter(master, "admin").await.unwrap());
        }
        assert_eq!(fairness.shared.metrics.describe(master), (0, 1000));
    }
}
