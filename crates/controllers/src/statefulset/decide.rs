//! The next steps of a StatefulSet: a pure function of the set and its pods.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;

use super::pod;
use crate::kit::amount::{Round, resolve};
use crate::kit::{meta, pods};

/// A set with its pods and revisions.
pub(super) struct Scene {
    set: StatefulSet,
    /// The pods that belong there, by number.
    replicas: BTreeMap<i32, Arc<Pod>>,
    /// The pods beyond, by number.
    condemned: BTreeMap<i32, Arc<Pod>>,
    current: String,
    newest: String,
    now: Timestamp,
}

/// What is to be done.
#[derive(Default)]
pub(super) struct Plan {
    /// Numbers, each with the name of the revision to take.
    pub(super) create: Vec<(i32, String)>,
    pub(super) delete: Vec<Arc<Pod>>,
}

/// Whether a step lets others be taken beside it.
enum Step {
    /// On with the next pod.
    On,
    /// The others wait.
    Wait,
}

impl Scene {
    pub(super) fn new(
        set: &StatefulSet,
        owned: Vec<Arc<Pod>>,
        current: &str,
        newest: &str,
        now: Timestamp,
    ) -> Self {
        let name = meta::name(&set.metadata);
        let (mut replicas, mut condemned) = (BTreeMap::new(), BTreeMap::new());
        let scene_set = set.clone();
        let wanted = wanted(&scene_set);
        for pod in owned {
            let Some(ordinal) = pod::ordinal(name, &pod) else { continue };
            let side = if wanted.contains(&ordinal) { &mut replicas } else { &mut condemned };
            side.insert(ordinal, pod);
        }
        Self {
            set: scene_set,
            replicas,
            condemned,
            current: current.to_owned(),
            newest: newest.to_owned(),
            now,
        }
    }

    fn in_order(&self) -> bool {
        self.set.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    fn rolls(&self) -> bool {
        let strategy = self.set.spec.update_strategy.as_ref();
        strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
    }

    /// The first number that an update touches.
    fn partition(&self) -> i32 {
        let rolling = self.set.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let partition = rolling.and_then(|rolling| rolling.partition).unwrap_or_default();
        wanted(&self.set).start.saturating_add(partition)
    }

    fn max_unavailable(&self) -> i32 {
        let rolling = self.set.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let most = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        let replicas = self.set.spec.replicas.unwrap_or(1);
        most.map_or(1, |most| resolve(most, replicas, Round::Up)).max(1)
    }

    fn min_ready(&self) -> SignedDuration {
        SignedDuration::from_secs(self.set.spec.min_ready_seconds.unwrap_or_default().into())
    }

    fn is_available(&self, pod: &Pod) -> bool {
        !pods::is_terminating(pod)
            && pods::available_at(pod, self.min_ready()).is_some_and(|moment| moment <= self.now)
    }

    /// The revision for a new pod: below the partition everything stays as it was.
    fn revision_for(&self, ordinal: i32) -> String {
        let stays = self.rolls() && ordinal < self.partition();
        if stays { self.current.clone() } else { self.newest.clone() }
    }

    /// The next steps. With `Parallel`, all that do not depend on each other.
    pub(super) fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        for ordinal in wanted(&self.set) {
            let step = self.fill(ordinal, &mut plan);
            if self.in_order() && matches!(step, Step::Wait) {
                return plan;
            }
        }
        for pod in self.condemned.values().rev() {
            let step = self.shrink(pod, &mut plan);
            if self.in_order() && matches!(step, Step::Wait) {
                return plan;
            }
        }
        if plan.create.is_empty() && plan.delete.is_empty() && self.rolls() {
            plan.delete = self.outdated();
        }
        plan
    }

    fn fill(&self, ordinal: i32, plan: &mut Plan) -> Step {
        match self.replicas.get(&ordinal) {
            None => {
                plan.create.push((ordinal, self.revision_for(ordinal)));
                Step::Wait
            }
            Some(pod) if pods::is_terminating(pod) => Step::Wait,
            // It ended, and is made anew under its name.
            Some(pod) if pods::is_terminal(pod) => {
                plan.delete.push(Arc::clone(pod));
                Step::Wait
            }
            Some(pod) if self.is_available(pod) => Step::On,
            Some(pod) if self.is_stuck(ordinal, pod) => {
                plan.delete.push(Arc::clone(pod));
                Step::Wait
            }
            Some(_) => Step::Wait,
        }
    }

    /// An unready pod of an old template would stop the very update that may repair it (upstream waits for ever).
    fn is_stuck(&self, ordinal: i32, pod: &Pod) -> bool {
        self.rolls()
            && ordinal >= self.partition()
            && pod::revision(pod) != Some(&self.newest)
            && !pods::is_ready(pod)
    }

    fn shrink(&self, pod: &Arc<Pod>, plan: &mut Plan) -> Step {
        if !pods::is_terminating(pod) {
            plan.delete.push(Arc::clone(pod));
        }
        Step::Wait
    }

    /// The pods that give way to the newest template, the highest number first, as many as may be missing.
    fn outdated(&self) -> Vec<Arc<Pod>> {
        let (mut budget, mut found) = (self.max_unavailable(), Vec::new());
        let reached = self.replicas.range(self.partition()..).rev();
        for (_, pod) in reached {
            if budget == 0 {
                break;
            }
            if pod::revision(pod) != Some(&self.newest) && !pods::is_terminating(pod) {
                found.push(Arc::clone(pod));
                budget -= 1;
            } else if !self.is_available(pod) {
                budget -= 1;
            }
        }
        found
    }

    /// How long until some ready pod becomes available.
    pub(super) fn next_available(&self) -> Option<Duration> {
        let moments = self.replicas.values().filter_map(|pod| pods::available_at(pod, self.min_ready()));
        let next = moments.filter(|moment| *moment > self.now).min();
        next.map(|moment| pods::until(moment, self.now))
    }

    pub(super) fn status(&self) -> StatefulSetStatus {
        let all = || self.replicas.values().chain(self.condemned.values());
        let count = |wanted: &dyn Fn(&Pod) -> bool| {
            i32::try_from(all().filter(|pod| wanted(pod)).count()).unwrap_or(i32::MAX)
        };
        let some = |count: i32| Some(count).filter(|count| *count > 0);
        let of =
            |revision: &str| count(&|pod| !pods::is_terminating(pod) && pod::revision(pod) == Some(revision));
        let former = self.set.status.as_ref();
        let mut status = StatefulSetStatus {
            replicas: count(&|_| true),
            ready_replicas: some(count(&|pod| pods::is_ready(pod))),
            available_replicas: Some(count(&|pod| self.is_available(pod))),
            current_replicas: some(of(&self.current)),
            updated_replicas: some(of(&self.newest)),
            current_revision: Some(self.current.clone()),
            update_revision: Some(self.newest.clone()),
            observed_generation: self.set.metadata.generation,
            collision_count: former.and_then(|status| status.collision_count).or(Some(0)),
            conditions: former.and_then(|status| status.conditions.clone()),
        };
        // The update is through: what was new is what there is.
        let whole = Some(status.replicas).filter(|count| *count > 0);
        if self.rolls() && status.updated_replicas == whole && status.ready_replicas == whole {
            status.current_revision = Some(self.newest.clone());
            status.current_replicas = status.updated_replicas;
        }
        status
    }
}

/// The numbers that the set should have.
fn wanted(set: &StatefulSet) -> std::ops::Range<i32> {
    let start = set.spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or_default();
    start..start.saturating_add(set.spec.replicas.unwrap_or(1))
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
