//! Ending a container as its pod asked for it: `preStop`, a request to end, and after the grace period no more asking.

use std::time::Duration;

use k8s_openapi::api::core::v1::LifecycleHandler;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::prober::{Target, exec, http};
use crate::runtime::Signal;

/// What a container has left after its `preStop` used up the grace period.
const LAST: Duration = Duration::from_secs(2);

/// Ends a container; returns when it has ended.
pub(crate) async fn stop(target: Target, pre_stop: Option<LifecycleHandler>, grace: Duration) {
    let Target { runtime, id, .. } = &target;
    if grace.is_zero() {
        signal(&target, Signal::Kill).await;
        runtime.wait(id).await;
        return;
    }
    let start = Instant::now();
    let mut deadline = start + grace;
    if let Some(hook) = pre_stop {
        // The container may end by itself meanwhile.
        tokio::select! {
            done = timeout(grace, run(&target, &hook, grace)) => match done {
                Ok(Ok(())) => {}
                Ok(Err(message)) => tracing::warn!(container = %id, message, "preStop failed"),
                Err(_) => tracing::warn!(container = %id, ?grace, "preStop did not end within the grace period"),
            },
            _ = runtime.wait(id) => return,
        }
        deadline = deadline.max(Instant::now() + LAST.min(grace));
    }
    signal(&target, Signal::Terminate).await;
    if timeout_at(deadline, runtime.wait(id)).await.is_err() {
        signal(&target, Signal::Kill).await;
        runtime.wait(id).await;
    }
}

async fn signal(target: &Target, signal: Signal) {
    if let Err(error) = target.runtime.signal(&target.id, signal).await {
        tracing::warn!(container = %target.id, ?signal, %error, "cannot signal");
    }
}

/// Runs a life-cycle hook.
pub(crate) async fn run(target: &Target, hook: &LifecycleHandler, patience: Duration) -> Result<(), String> {
    if let Some(action) = &hook.exec {
        return exec(target, action, patience).await;
    }
    if let Some(action) = &hook.http_get {
        return http(target, action, patience).await;
    }
    if let Some(action) = &hook.sleep {
        sleep(Duration::from_secs(u64::try_from(action.seconds).unwrap_or(0))).await;
    }
    Ok(())
}
