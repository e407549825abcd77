//! Waiting for a time of the day. The runtime's own timers stand still while a machine sleeps and know nothing of a clock
//! that is set, so the clock is looked at now and then.

use std::time::{Duration, SystemTime};

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(60);

/// Waits until the machine's clock shows this time; not at all when it has passed.
pub async fn sleep_until(time: SystemTime) {
    while let Ok(left) = time.duration_since(SystemTime::now()) {
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LOOK)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_clock_decides() {
        sleep_until(SystemTime::UNIX_EPOCH).await;
        let time = SystemTime::now() + Duration::from_millis(30);
        sleep_until(time).await;
        assert!(SystemTime::now() >= time);
    }
}
