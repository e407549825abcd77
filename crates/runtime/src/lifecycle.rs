//! The life of a process: tasks with names, the order to stop, the end within a deadline.
//!
//! The order to stop is one `CancellationToken`. It is given by a signal, or by the end of an essential task, whose reason
//! becomes the process's. Every task gets until the deadline to end by itself; none is aborted half-way before.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use crate::Error;

/// The tasks of a process. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    token: CancellationToken,
    tracker: TaskTracker,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    running: BTreeMap<&'static str, usize>,
    reason: Option<Error>,
}

impl Lifecycle {
    /// A life that SIGINT and SIGTERM bring to its end.
    pub fn with_signals() -> Result<Self, Error> {
        let lifecycle = Self::default();
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
        let token = lifecycle.token.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => info!(signal = "SIGINT", "stopping"),
                _ = terminate.recv() => info!(signal = "SIGTERM", "stopping"),
                () = token.cancelled() => {}
            }
            token.cancel();
        });
        Ok(lifecycle)
    }

    /// The order to stop, for everything long-running.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Spawns a task whose end, before the order to stop, ends the whole process with its reason.
    pub fn spawn_essential<E: Display>(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let this = self.clone();
        self.spawn(name, async move {
            // On a task of its own, so that a panic is an end like any other.
            let ended = tokio::spawn(async move { task.await.map_err(|error| error.to_string()) }).await;
            let reason = match ended {
                Ok(Ok(())) if this.token.is_cancelled() => return,
                Ok(Ok(())) => "it stopped without being told to".to_owned(),
                Ok(Err(reason)) => reason,
                Err(join) => format!("it broke down: {join}"),
            };
            error!(task = name, reason, "an essential task ended");
            this.shared().reason.get_or_insert(Error::EssentialEnded { name, reason });
            this.token.cancel();
        });
    }

    /// Spawns a task that the end of the process waits for.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let running = Running::new(self, name);
        self.tracker.spawn(async move {
            task.await;
            drop(running);
        });
    }

    /// Spawns a task that the order to stop ends, wherever it is.
    pub fn spawn_until_stopped<T>(&self, name: &'static str, task: impl Future<Output = T> + Send + 'static) {
        let stop = self.token();
        self.spawn(name, async move {
            stop.run_until_cancelled(task).await;
        });
    }

    /// Waits for the order to stop, then for every task. The first essential task that ended is the error; else tasks that
    /// are still running at the deadline are.
    pub async fn finish(&self, deadline: Duration) -> Result<(), Error> {
        self.token.cancelled().await;
        self.tracker.close();
        let drained = tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok();
        let mut shared = self.shared();
        match shared.reason.take() {
            Some(reason) => Err(reason),
            None if drained => Ok(()),
            None => Err(Error::DrainTimeout { deadline, names: shared.running.keys().copied().collect() }),
        }
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a task's name in the list while it runs, also when it panics.
struct Running {
    lifecycle: Lifecycle,
    name: &'static str,
}

impl Running {
    fn new(lifecycle: &Lifecycle, name: &'static str) -> Self {
        *lifecycle.shared().running.entry(name).or_insert(0) += 1;
        Self { lifecycle: lifecycle.clone(), name }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut shared = self.lifecycle.shared();
        if let Some(count) = shared.running.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                shared.running.remove(self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn the_order_to_stop_ends_what_would_go_on() {
        let life = Lifecycle::default();
        life.spawn_until_stopped("endless", std::future::pending::<()>());
        life.token().cancel();
        life.finish(LONG).await.unwrap();
    }

    #[tokio::test]
    async fn an_essential_task_ends_the_process_with_its_reason() {
        let life = Lifecycle::default();
        let token = life.token();
        life.spawn_essential("patient", async move {
            token.cancelled().await;
            Ok::<(), String>(())
        });
        life.spawn_essential("server", async { Err("port 6443 is busy") });
        let error = life.finish(LONG).await.unwrap_err();
        assert_eq!(error.to_string(), "server ended: port 6443 is busy");
    }

    #[tokio::test]
    async fn a_panic_is_an_end_too() {
        let life = Lifecycle::default();
        let nothing: Vec<u8> = Vec::new();
        life.spawn_essential("shaky", async move { Err(nothing[0].to_string()) });
        let error = life.finish(LONG).await.unwrap_err().to_string();
        assert!(error.starts_with("shaky ended"), "{error}");
    }

    #[tokio::test]
    async fn ending_without_being_told_is_an_error_and_with_it_is_not() {
        let life = Lifecycle::default();
        life.spawn_essential("eager", async { Ok::<(), String>(()) });
        assert!(life.finish(LONG).await.is_err());

        let life = Lifecycle::default();
        let token = life.token();
        life.spawn_essential("obedient", async move {
            token.cancelled().await;
            Ok::<(), String>(())
        });
        life.token().cancel();
        life.finish(LONG).await.unwrap();
    }

    #[tokio::test]
    async fn who_does_not_stop_is_named() {
        let life = Lifecycle::default();
        life.spawn("deaf", std::future::pending());
        life.spawn("good", async {});
        life.token().cancel();
        let error = life.finish(Duration::from_millis(50)).await.unwrap_err().to_string();
        assert!(error.ends_with("deaf"), "{error}");
    }
}
