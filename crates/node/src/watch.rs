//! Watching the server: kube-rs's watcher as three plain events, with the objects of a relist gathered.
//!
//! What was seen stays valid while the server is away: nothing is said until a new list is complete, and that is a `Reset`.
//! Waiting happens after errors only; an event passes without a timer.

use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::ResourceExt;
use kube::runtime::watcher;
use svcd_api::Wire;
use svcd_client::{Event, Objects};
use tracing::{debug, warn};

/// The server ends a watch after this time, and a dead connection is noticed shortly after.
const WATCH_SECONDS: u32 = 60;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What happened to the objects of a kind.
#[derive(Debug)]
pub(crate) enum Change<K> {
    /// These are all there are.
    Reset(Vec<K>),
    /// This one is new or different.
    Apply(K),
    /// This one is gone; it is as it was last.
    Delete(K),
}

/// The kinds' objects as they change, for ever. `fields` is a field selector.
pub(crate) fn changes<K>(
    objects: &Objects<K>,
    fields: Option<&str>,
) -> impl Stream<Item = Change<K>> + Send + Unpin + use<K>
where
    K: Wire,
{
    let mut config = watcher::Config::default().timeout(WATCH_SECONDS).streaming_lists();
    if let Some(fields) = fields {
        config = config.fields(fields);
    }
    let events = objects.watch(config);
    let gathering = Gathering { events, gathered: Vec::new(), pause: FIRST_PAUSE };
    stream::unfold(gathering, |mut gathering| async move {
        gathering.next().await.map(|change| (change, gathering))
    })
    .boxed()
}

struct Gathering<S, K> {
    events: S,
    gathered: Vec<K>,
    pause: Duration,
}

impl<S, K> Gathering<S, K>
where
    S: Stream<Item = watcher::Result<Event<K>>> + Unpin,
    K: Wire,
{
    async fn next(&mut self) -> Option<Change<K>> {
        loop {
            let event = match self.events.next().await? {
                Ok(event) => event,
                Err(error) => {
                    self.wait(&error).await;
                    continue;
                }
            };
            if let Some(change) = self.take(event) {
                self.pause = FIRST_PAUSE;
                return Some(change);
            }
        }
    }

    fn take(&mut self, event: Event<K>) -> Option<Change<K>> {
        match event {
            Event::Init => self.gathered.clear(),
            Event::InitApply(object) => self.gathered.push(lean(object)),
            Event::InitDone => return Some(Change::Reset(std::mem::take(&mut self.gathered))),
            Event::Apply(object) => return Some(Change::Apply(lean(object))),
            Event::Delete(object) => return Some(Change::Delete(lean(object))),
        }
        None
    }

    /// Half of the pause is random, so that the agents of a server that comes back do not all call at once.
    async fn wait(&mut self, error: &watcher::Error) {
        let kind = K::KIND;
        if self.pause == FIRST_PAUSE {
            warn!(%kind, error = %chain(error), "the watch broke; what is known stays in force");
        } else {
            debug!(%kind, error = %chain(error), "the watch is still broken");
        }
        let half = self.pause / 2;
        tokio::time::sleep(half + half.mul_f64(rand::random::<f64>())).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

/// Nothing here reads who owns which field, and that can be most of an object.
fn lean<K: Wire>(mut object: K) -> K {
    object.managed_fields_mut().clear();
    object
}

/// An error with all its causes in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // Many errors repeat their cause in their own words.
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn object(name: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.to_owned());
        object.metadata.managed_fields = Some(vec![Default::default()]);
        object
    }

    fn names(change: &Change<ConfigMap>) -> String {
        match change {
            Change::Reset(all) => {
                format!("={}", all.iter().map(|o| o.name_any()).collect::<Vec<_>>().join(","))
            }
            Change::Apply(one) => format!("+{}", one.name_any()),
            Change::Delete(one) => format!("-{}", one.name_any()),
        }
    }

    #[test]
    fn a_relist_is_one_event_and_starts_anew_when_it_breaks() {
        let events = vec![
            Ok(Event::Init),
            Ok(Event::InitApply(object("lost"))),
            Err(watcher::Error::NoResourceVersion),
            Ok(Event::Init),
            Ok(Event::InitApply(object("a"))),
            Ok(Event::InitApply(object("b"))),
            Ok(Event::InitDone),
            Ok(Event::Apply(object("c"))),
            Ok(Event::Delete(object("a"))),
            Ok(Event::Init),
            Ok(Event::InitDone),
        ];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let seen = runtime.block_on(async {
            let mut gathering =
                Gathering { events: stream::iter(events), gathered: Vec::new(), pause: FIRST_PAUSE };
            let mut seen = Vec::new();
            while let Some(change) = gathering.next().await {
                seen.push(names(&change));
            }
            seen
        });
        assert_eq!(seen, ["=a,b", "+c", "-a", "="]);
    }

    #[test]
    fn objects_are_lean() {
        let mut gathering = Gathering {
            events: stream::iter([Ok(Event::Apply(object("a")))]),
            gathered: Vec::new(),
            pause: FIRST_PAUSE,
        };
        let Some(Change::Apply(seen)) = block_on(gathering.next()) else { panic!("one event") };
        assert!(seen.managed_fields().is_empty());
    }
}
