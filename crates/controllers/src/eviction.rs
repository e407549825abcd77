//! `NoExecute` taints: pods that do not tolerate them leave, at once or after the time they tolerate.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};

use crate::Error;
use crate::kit::drive::{Again, drive};
use crate::kit::queue::Queue;
use crate::kit::store::{Change, Key};
use crate::kit::taints::{NOT_READY, UNREACHABLE, tolerates, tolerations};
use crate::kit::workload::delete_pod;
use crate::kit::world::{Task, World};
use crate::kit::{meta, pods};

pub(crate) fn start(world: &Arc<World>) -> Task {
    let queue = Queue::new();
    listen(world, &queue);
    let shell = Arc::clone(world);
    let work = drive("eviction", queue, 8, move |key| {
        let world = Arc::clone(&shell);
        async move { reconcile(&world, &key).await }
    });
    ("eviction", world.when_ready(work))
}

fn listen(world: &Arc<World>, queue: &Arc<Queue<Key>>) {
    let (weak, tainted) = (Arc::downgrade(world), Arc::clone(queue));
    world.nodes.listen(move |change: &Change<'_, Node>| {
        let (Some(node), Some(world)) = (change.new, weak.upgrade()) else { return };
        if change.old.map(no_execute).unwrap_or_default() != no_execute(node) {
            let pods = world.pods_on(meta::name(&node.metadata));
            pods.iter().for_each(|pod| tainted.add(Key::of(&pod.metadata)));
        }
    });
    let (weak, queue) = (Arc::downgrade(world), Arc::clone(queue));
    world.pods.listen(move |change: &Change<'_, Pod>| {
        let (Some(pod), Some(world)) = (change.new, weak.upgrade()) else { return };
        let Some(name) = pods::node(pod).filter(|name| change.old.and_then(pods::node) != Some(name)) else {
            return;
        };
        if world.nodes.get(&Key::new("", name)).is_some_and(|node| !no_execute(&node).is_empty()) {
            queue.add(change.key());
        }
    });
}

fn no_execute(node: &Node) -> Vec<Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).into_iter().flatten();
    taints.filter(|taint| taint.effect == "NoExecute").cloned().collect()
}

async fn reconcile(world: &World, key: &Key) -> Result<Again, Error> {
    let Some(pod) = world.pods.get(key).filter(|pod| pods::is_active(pod)) else { return Ok(None) };
    let Some(node) = pods::node(&pod).and_then(|name| world.nodes.get(&Key::new("", name))) else {
        return Ok(None);
    };
    let now = Timestamp::now();
    match eviction(&no_execute(&node), tolerations(&pod), world.config.eviction_after, now) {
        Eviction::Never => Ok(None),
        Eviction::At(moment) if moment > now => Ok(Some(pods::until(moment, now))),
        Eviction::At(_) => {
            let message = format!("Marking for deletion Pod {key}");
            world.events.normal("taint-eviction-controller", pod.as_ref(), "TaintManagerEviction", message);
            delete_pod(world, &pod).await?;
            Ok(None)
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Eviction {
    Never,
    At(Timestamp),
}

/// When a pod must leave. Pods that say nothing of nodes that are not ready or unreachable tolerate them for `default`,
/// as upstream's admission would have written onto them.
fn eviction(taints: &[Taint], tolerations: &[Toleration], default: Duration, now: Timestamp) -> Eviction {
    let moments = taints.iter().filter_map(|taint| leaves_at(taint, tolerations, default, now));
    moments.min().map_or(Eviction::Never, Eviction::At)
}

fn leaves_at(
    taint: &Taint,
    tolerations: &[Toleration],
    default: Duration,
    now: Timestamp,
) -> Option<Timestamp> {
    let since = taint.time_added.as_ref().map_or(now, |time| time.0);
    let matching: Vec<&Toleration> = tolerations.iter().filter(|t| tolerates(t, taint)).collect();
    let patience = if matching.is_empty() {
        let lenient = [NOT_READY, UNREACHABLE].contains(&taint.key.as_str());
        if lenient { SignedDuration::try_from(default).ok()? } else { SignedDuration::ZERO }
    } else {
        // Of several times the shortest counts; one without a time tolerates for ever only if there is no other.
        let seconds = matching.iter().filter_map(|t| t.toleration_seconds).min()?;
        SignedDuration::from_secs(seconds.max(0))
    };
    since.checked_add(patience).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn taint(key: &str, at: i64) -> Taint {
        Taint {
            key: key.to_owned(),
            effect: "NoExecute".to_owned(),
            time_added: Some(Time(Timestamp::from_second(at).unwrap())),
            value: None,
        }
    }

    fn toleration(key: &str, seconds: Option<i64>) -> Toleration {
        Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            toleration_seconds: seconds,
            ..Toleration::default()
        }
    }

    #[test]
    fn when_pods_leave() {
        let at = |second| Eviction::At(Timestamp::from_second(second).unwrap());
        let unreachable = || taint(UNREACHABLE, 1000);
        let cases = [
            (vec![], vec![], Eviction::Never),
            (vec![unreachable()], vec![], at(1300)),
            (vec![taint("mine", 1000)], vec![], at(1000)),
            (vec![unreachable()], vec![toleration(UNREACHABLE, None)], Eviction::Never),
            (vec![unreachable()], vec![toleration(UNREACHABLE, Some(30))], at(1030)),
            (
                vec![unreachable()],
                vec![toleration(UNREACHABLE, Some(30)), toleration(UNREACHABLE, Some(10))],
                at(1010),
            ),
            (vec![unreachable()], vec![toleration(UNREACHABLE, Some(-5))], at(1000)),
            (vec![unreachable(), taint("mine", 2000)], vec![toleration("mine", None)], at(1300)),
        ];
        let now = Timestamp::from_second(5000).unwrap();
        for (taints, tolerations, expected) in cases {
            let found = eviction(&taints, &tolerations, Duration::from_secs(300), now);
            assert_eq!(found, expected, "{taints:?} {tolerations:?}");
        }
    }
}
