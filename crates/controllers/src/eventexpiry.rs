//! Events are news: an hour after they were last told they are deleted, as upstream's store forgets them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;
use kube::api::{DeleteParams, ListParams};
use svcd_client::Objects;

use crate::Error;
use crate::error::{Doing, unless_gone};
use crate::kit::drive::{Again, drive};
use crate::kit::meta;
use crate::kit::queue::Queue;
use crate::kit::world::{Task, World};

/// How long news stay news.
const LIFE: SignedDuration = SignedDuration::from_hours(1);
/// How often old ones are looked for.
const ROUND: Duration = Duration::from_secs(300);
/// Events in memory at a time.
const PAGE: u32 = 500;

/// The one thing to do.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Round;

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("all events")
    }
}

pub(crate) fn start(world: &Arc<World>) -> Task {
    let queue = Queue::new();
    queue.add(Round);
    let shell = Arc::clone(world);
    let work = drive("eventexpiry", queue, 1, move |_: Round| {
        let world = Arc::clone(&shell);
        async move { round(&world).await }
    });
    ("eventexpiry", world.when_ready(work))
}

async fn round(world: &World) -> Result<Again, Error> {
    let api: Objects<Event> = Objects::all(world.client.clone());
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = api.list(&page).await.doing(|| "list events".to_owned())?;
        let now = Timestamp::now();
        for event in list.items.iter().filter(|event| is_old(event, now)) {
            delete(world, event).await?;
        }
        match list.next {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(Some(ROUND)),
        }
    }
}

async fn delete(world: &World, event: &Event) -> Result<(), Error> {
    let (namespace, name) = (meta::namespace(&event.metadata), meta::name(&event.metadata));
    let api = world.namespaced::<Event>(namespace);
    let deleted = api.delete(name, &DeleteParams::default()).await;
    unless_gone(deleted.map(|_| ()).doing(|| format!("delete event {namespace}/{name}")))
}

/// Whether an Event was told for the last time long ago. Of its many times the latest counts.
fn is_old(event: &Event, now: Timestamp) -> bool {
    let told = [
        event.last_timestamp.as_ref().map(|t| t.0),
        event.event_time.as_ref().map(|t| t.0),
        event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|t| t.0),
        event.metadata.creation_timestamp.as_ref().map(|t| t.0),
    ];
    told.into_iter().flatten().max().is_none_or(|told| now.duration_since(told) > LIFE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

    #[test]
    fn news_of_the_last_hour_are_kept() {
        let at = |second: i64| Some(Time(Timestamp::from_second(second).unwrap()));
        let event = |created, told| Event {
            metadata: ObjectMeta { creation_timestamp: created, ..ObjectMeta::default() },
            last_timestamp: told,
            ..Event::default()
        };
        let now = Timestamp::from_second(10_000).unwrap();
        let cases = [
            (event(at(9_000), None), false),
            (event(at(6_000), None), true),
            (event(at(100), at(9_000)), false),
            (event(at(100), at(6_000)), true),
            (event(None, None), true),
        ];
        for (event, expected) in cases {
            assert_eq!(is_old(&event, now), expected, "{event:?}");
        }
    }
}
