//! Polling with a deadline: what tests do instead of sleeping for "long enough".

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(5);

/// Calls `probe` until it gives `Ok`, and returns that; panics with the last error once `deadline` has passed.
#[track_caller]
pub fn eventually<T, E: Display>(deadline: Duration, mut probe: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(error) if start.elapsed() >= deadline => panic!("not within {deadline:?}: {error}"),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// As [`eventually`], for probes that await.
pub async fn eventually_async<T, E, F>(deadline: Duration, mut probe: impl FnMut() -> F) -> T
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let start = Instant::now();
    loop {
        match probe().await {
            Ok(value) => return value,
            Err(error) if start.elapsed() >= deadline => panic!("not within {deadline:?}: {error}"),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
