//! The numbers of a rollout: a pure function of a Deployment and its ReplicaSets.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::TEMPLATE_HASH;
use crate::kit::amount::{Round, resolve};
use crate::kit::selector::Labels;
use crate::kit::{hash, meta};

/// What `kubectl rollout history` counts.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Earlier revisions of a set that was rolled back to.
pub(super) const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// What the Deployment wanted when it sized the set.
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// How many pods it allowed then.
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const ROLLBACK: &str = "deprecated.deployment.rollback.to";

/// A Deployment's sets, sorted out.
pub(super) struct Rollout {
    spec: DeploymentSpec,
    /// How many pods are asked for.
    pub(super) wanted: i32,
    /// The set with the present template.
    pub(super) current: Option<Arc<ReplicaSet>>,
    /// The others, oldest first.
    pub(super) old: Vec<Arc<ReplicaSet>>,
}

/// How many pods a set is told to have.
pub(super) fn replicas_of(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

/// The available pods, but no more than the set is told to have: a status may lag behind a set that was shrunk.
pub(super) fn available_of(set: &ReplicaSet) -> i32 {
    let reported = set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default();
    reported.min(replicas_of(set))
}

/// The pods that a set has, by its status.
pub(super) fn actual_of(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map(|status| status.replicas).unwrap_or_default()
}

fn revision_of(set: &ReplicaSet) -> i64 {
    meta::annotation(&set.metadata, REVISION).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Whether the set was made from the Deployment's present template.
pub(super) fn has_template(set: &ReplicaSet, deployment: &Deployment) -> bool {
    set.spec.template.clone().map(plain) == Some(plain(deployment.spec.template.clone()))
}

/// A template without the label that we add, and without what says nothing.
fn plain(mut template: PodTemplateSpec) -> PodTemplateSpec {
    let meta = template.metadata.get_or_insert_default();
    meta.creation_timestamp = None;
    if let Some(labels) = &mut meta.labels {
        labels.remove(TEMPLATE_HASH);
    }
    meta.labels = meta.labels.take().filter(|labels| !labels.is_empty());
    meta.annotations = meta.annotations.take().filter(|annotations| !annotations.is_empty());
    template
}

impl Rollout {
    /// `sets` oldest first. Of several sets with the present template the oldest counts, as upstream has it.
    pub(super) fn of(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Self {
        let spec = deployment.spec.clone();
        let living = || sets.iter().filter(|set| !meta::is_deleted(&set.metadata));
        let current = living().find(|set| has_template(set, deployment)).cloned();
        let is_current =
            |set: &ReplicaSet| current.as_ref().is_some_and(|c| c.metadata.uid == set.metadata.uid);
        let old = sets.iter().filter(|set| !is_current(set)).cloned().collect();
        Self { wanted: spec.replicas.unwrap_or(1), spec, current, old }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(&self.current)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.spec.paused == Some(true)
    }

    pub(super) fn is_recreate(&self) -> bool {
        self.spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
    }

    /// `maxSurge` and `maxUnavailable` as numbers; not both can be zero.
    fn bounds(&self) -> (i32, i32) {
        if self.is_recreate() {
            return (0, 0);
        }
        let rolling = self.spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".to_owned());
        let surge = rolling.and_then(|rolling| rolling.max_surge.clone()).unwrap_or_else(|| quarter.clone());
        let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.clone()).unwrap_or(quarter);
        let surge = resolve(&surge, self.wanted, Round::Up);
        let unavailable = resolve(&unavailable, self.wanted, Round::Down).min(self.wanted);
        if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
    }

    /// How many pods there may be at a time.
    pub(super) fn max_pods(&self) -> i32 {
        self.wanted + self.bounds().0
    }

    pub(super) fn max_unavailable(&self) -> i32 {
        self.bounds().1
    }

    fn old_replicas(&self) -> i32 {
        self.old.iter().map(|set| replicas_of(set)).sum()
    }

    /// The size of a set that is yet to be made.
    pub(super) fn first_target(&self) -> i32 {
        if self.is_recreate() { self.wanted } else { self.room().clamp(0, self.wanted) }
    }

    fn room(&self) -> i32 {
        self.max_pods() - self.all().map(|set| replicas_of(set)).sum::<i32>()
    }

    /// The size of the present set: it grows as far as the surge allows.
    pub(super) fn current_target(&self) -> i32 {
        let now = self.current.as_ref().map_or(0, |set| replicas_of(set));
        if self.is_recreate() || now >= self.wanted {
            return self.wanted;
        }
        now + self.room().clamp(0, self.wanted - now)
    }

    /// The sizes of the old sets that shrink: unhealthy pods first, then as many as leave enough available ones.
    /// `current` is the size that the present set has been told to have.
    pub(super) fn shrink_old(&self, current: i32) -> Vec<(Arc<ReplicaSet>, i32)> {
        let Some(present) = self.current.as_ref().filter(|_| !self.is_recreate()) else { return Vec::new() };
        let min_available = self.wanted - self.max_unavailable();
        let missing = current - available_of(present);
        let mut budget = self.old_replicas() + current - min_available - missing.max(0);
        if budget <= 0 {
            return Vec::new();
        }
        let mut sizes: Vec<i32> = self.old.iter().map(|set| replicas_of(set)).collect();
        for (size, set) in sizes.iter_mut().zip(&self.old) {
            let unhealthy = (*size - available_of(set)).clamp(0, budget);
            *size -= unhealthy;
            budget -= unhealthy;
        }
        let available: i32 = self.all().map(|set| available_of(set)).sum();
        let mut spare = available - min_available;
        for size in &mut sizes {
            let less = (*size).min(spare.max(0));
            *size -= less;
            spare -= less;
        }
        let changed = self.old.iter().cloned().zip(sizes).filter(|(set, size)| replicas_of(set) != *size);
        changed.collect()
    }

    fn active(&self) -> Vec<Arc<ReplicaSet>> {
        self.all().filter(|set| replicas_of(set) > 0).cloned().collect()
    }

    /// Whether the Deployment was resized since it last sized its sets.
    pub(super) fn is_scaling(&self) -> bool {
        let noted =
            |set: &ReplicaSet| meta::annotation(&set.metadata, DESIRED).and_then(|n| n.parse::<i32>().ok());
        // `Recreate` has one size at a time, and finds it on its usual way.
        !self.is_recreate()
            && self.active().iter().any(|set| noted(set).is_some_and(|desired| desired != self.wanted))
    }

    /// New sizes after a resize: a single set takes all; during a rollout each set takes its share.
    pub(super) fn proportional(&self) -> Vec<(Arc<ReplicaSet>, i32)> {
        let mut active = self.active();
        if active.len() <= 1 {
            let only = active.pop().or_else(|| self.current.clone());
            return only.map(|set| (set, self.wanted)).into_iter().collect();
        }
        let saturated =
            |set: &ReplicaSet| available_of(set) >= self.wanted && replicas_of(set) == self.wanted;
        match &self.current {
            Some(current) if saturated(current) => {
                let size =
                    |set: &ReplicaSet| if set.metadata.uid == current.metadata.uid { self.wanted } else { 0 };
                active.into_iter().map(|set| (Arc::clone(&set), size(&set))).collect()
            }
            _ => self.shares(active),
        }
    }

    fn shares(&self, mut active: Vec<Arc<ReplicaSet>>) -> Vec<(Arc<ReplicaSet>, i32)> {
        let total: i32 = active.iter().map(|set| replicas_of(set)).sum();
        let allowed = if self.wanted > 0 { self.max_pods() } else { 0 };
        let mut to_add = allowed - total;
        // The largest first; when growing the newest of equals, when shrinking the oldest.
        active.sort_by_key(|set| std::cmp::Reverse(replicas_of(set)));
        let mut shares = Vec::new();
        for set in &active {
            let former = meta::annotation(&set.metadata, MAX).and_then(|n| n.parse::<i32>().ok());
            let size = f64::from(replicas_of(set));
            let grown =
                size * f64::from(allowed) / f64::from(former.filter(|n| *n > 0).unwrap_or(total).max(1));
            let part = (grown.round() - size).clamp(f64::from(to_add.min(0)), f64::from(to_add.max(0)));
            #[allow(clippy::cast_possible_truncation, reason = "clamped to the range of an i32 just above")]
            let part = part as i32;
            to_add -= part;
            shares.push((Arc::clone(set), (replicas_of(set) + part).max(0)));
        }
        if let Some((_, size)) = shares.first_mut() {
            *size = (*size + to_add).max(0);
        }
        shares
    }

    /// The revision of the present template: one more than all others, unless it has the highest already.
    pub(super) fn revision(&self) -> i64 {
        let highest = self.old.iter().map(|set| revision_of(set)).max().unwrap_or_default();
        let own = self.current.as_ref().map_or(0, |set| revision_of(set));
        if own > highest { own } else { highest + 1 }
    }

    /// The sets beyond `revisionHistoryLimit`.
    pub(super) fn forgotten(&self) -> Vec<Arc<ReplicaSet>> {
        let limit = usize::try_from(self.spec.revision_history_limit.unwrap_or(10)).unwrap_or_default();
        let unused = |set: &&Arc<ReplicaSet>| {
            replicas_of(set) == 0 && actual_of(set) == 0 && !meta::is_deleted(&set.metadata)
        };
        let mut cleanable: Vec<_> = self.old.iter().filter(unused).cloned().collect();
        cleanable.sort_by_key(|set| revision_of(set));
        let excess = cleanable.len().saturating_sub(limit);
        cleanable.truncate(excess);
        cleanable
    }
}

/// A set for the present template; the caller sizes it.
pub(super) fn new_set(deployment: &Deployment, rollout: &Rollout, collisions: Option<i32>) -> ReplicaSet {
    let spec = &rollout.spec;
    let hash = hash::template_hash(&plain(spec.template.clone()), collisions);
    let mut metadata = super::set_meta(deployment, &hash);
    let mut template = spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(TEMPLATE_HASH.to_owned(), hash.clone());
    metadata.labels = Some(labels.clone());
    let mut selector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(TEMPLATE_HASH.to_owned(), hash);
    let mut annotations = inherited(deployment);
    annotations.insert(REVISION.to_owned(), rollout.revision().to_string());
    annotations.insert(DESIRED.to_owned(), rollout.wanted.to_string());
    annotations.insert(MAX.to_owned(), rollout.max_pods().to_string());
    metadata.annotations = Some(annotations);
    let spec = ReplicaSetSpec {
        replicas: None,
        min_ready_seconds: spec.min_ready_seconds,
        selector,
        template: Some(template),
    };
    ReplicaSet { metadata, spec, status: None }
}

/// The Deployment's annotations that its sets share.
fn inherited(deployment: &Deployment) -> Labels {
    let mut annotations = deployment.metadata.annotations.clone().unwrap_or_default();
    let own = [LAST_APPLIED, REVISION, REVISION_HISTORY, DESIRED, MAX, ROLLBACK];
    annotations.retain(|key, _| !own.contains(&key.as_str()));
    annotations
}

/// The annotations that the present set lacks.
pub(super) fn annotations(deployment: &Deployment, current: &ReplicaSet, rollout: &Rollout) -> Labels {
    let mut wanted = inherited(deployment);
    let (former, revision) = (revision_of(current), rollout.revision());
    if former != revision {
        wanted.insert(REVISION.to_owned(), revision.to_string());
        if former > 0 {
            let history = meta::annotation(&current.metadata, REVISION_HISTORY);
            let history = history.map_or_else(|| former.to_string(), |earlier| format!("{earlier},{former}"));
            wanted.insert(REVISION_HISTORY.to_owned(), history);
        }
    }
    wanted.retain(|key, value| meta::annotation(&current.metadata, key) != Some(value));
    wanted
}

#[cfg(test)]
#[path = "decide_tests.rs"]
pub(super) mod tests;
