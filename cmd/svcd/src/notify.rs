//! Tells whoever started this process that it is ready, and that it is well: systemd's protocol (sd_notify), which `svcd lab`
//! speaks too.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::stat::fstat;
use sd_notify::NotifyState;
use svcd_store::{Store, Txn};

/// Says `READY=1`, where somebody listens.
pub(crate) fn ready() {
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        tracing::warn!(%error, "cannot tell the service manager that svcd is ready");
    }
}

/// Says `WATCHDOG=1` as often as the service manager wants to hear it: as long as the runtime runs this task and `is_well`
/// says yes in time. Otherwise nothing is said, and the service manager starts svcd anew. Ends at once where nobody asks.
pub(crate) async fn keep_alive<F: Future<Output = bool>>(is_well: impl Fn() -> F) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    // Twice may be missed.
    let every = (limit / 3).max(Duration::from_millis(1));
    loop {
        match tokio::time::timeout(every, is_well()).await {
            Ok(true) => {
                if let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
                    tracing::warn!(%error, "cannot tell the service manager that svcd is well");
                }
            }
            _ => tracing::error!(
                ?limit,
                "svcd is not well; the service manager will start it anew unless that ends"
            ),
        }
        tokio::time::sleep(every).await;
    }
}

/// Whether standard output is systemd's journal.
pub(crate) fn prints_to_journal() -> bool {
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| is_stream(std::io::stdout(), &stream))
}

/// Is this what systemd calls `device:inode`?
fn is_stream(output: impl AsFd, stream: &str) -> bool {
    let parts =
        stream.split_once(':').and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    fstat(output).is_ok_and(|stat| parts == Some((stat.st_dev, stat.st_ino)))
}

/// Whether the store takes transactions: an empty one goes the way of all, but to the disk. A full disk is no illness that a
/// new start would heal.
pub(crate) async fn commits(store: Arc<dyn Store>) -> bool {
    store.commit(Txn::default()).await.is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn the_journal_is_known_by_its_inode() {
        let file = tempfile::tempfile().unwrap();
        let seen = file.metadata().unwrap();
        assert!(is_stream(&file, &format!("{}:{}", seen.dev(), seen.ino())));
        for other in ["", "1", "0:0", "x:y"] {
            assert!(!is_stream(&file, other), "{other}");
        }
    }
}
