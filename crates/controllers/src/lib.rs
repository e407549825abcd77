//! The reconcile loops of the control plane, on kube-rs: one file a loop, each a pure core (what must be) in a thin
//! shell (read the caches, write the difference).
//!
//! Promises: level triggered, so that any loop can be stopped and started at any time; a change of a pod reaches the
//! EndpointSlices of its Services with no timer in between. Refuses: to know the API server or the store. All goes
//! through a `kube::Client`, which may well run in process.

mod bootstrap;
mod certificates;
mod config;
mod daemonset;
mod deployment;
mod disruption;
mod endpoints;
mod endpointslice;
mod endpointslicemirroring;
mod error;
mod eventexpiry;
mod eviction;
mod garbagecollector;
mod history;
mod ipaddress;
mod kit;
mod namespace;
mod nodeipam;
mod nodelifecycle;
mod podgc;
mod registry;
mod replicaset;
mod scheduler;
mod servicecidr;
mod statefulset;
mod tokencleaner;

use futures::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::config::Config;
pub use self::error::Error;
use self::kit::events;
use self::kit::world::World;
pub use self::registry::ControllerName;

/// Runs all controllers until `shutdown`.
///
/// # Errors
/// [`Error::Config`] before anything is started; [`Error::Ended`] when a loop comes to an end by itself, upon which
/// all the others are stopped.
pub async fn run(client: kube::Client, config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    config.check()?;
    let (recorder, inbox) = events::Recorder::new();
    let world = World::new(client.clone(), config, recorder);
    // Listeners first, watches last: no change is missed.
    let mut tasks = registry::start(&world, &world.config.disabled);
    tasks.push(("events", events::run(client, inbox).boxed()));
    tasks.extend(world.informers());
    let mut running = JoinSet::new();
    for (name, task) in tasks {
        running.spawn(async move { (name, std::panic::AssertUnwindSafe(task).catch_unwind().await) });
    }
    tokio::select! {
        () = shutdown.cancelled() => {}
        Some(ended) = running.join_next() => return Err(reason(ended)),
    }
    // Nobody is left to complain that the server goes away.
    running.shutdown().await;
    Ok(())
}

type Ending = (&'static str, Result<(), Box<dyn std::any::Any + Send>>);

fn reason(ended: Result<Ending, tokio::task::JoinError>) -> Error {
    match ended {
        Ok((task, Ok(()))) => Error::Ended { task, reason: "its source of events has dried up".to_owned() },
        Ok((task, Err(panic))) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Error::Ended { task, reason: text.unwrap_or_else(|| "it panicked".to_owned()) }
        }
        Err(error) => Error::Ended { task: "unknown", reason: error.to_string() },
    }
}
