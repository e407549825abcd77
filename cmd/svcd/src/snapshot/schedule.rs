//! Snapshots on a schedule, by the server itself. The names tell the times, so that a restart neither skips one nor takes
//! one too many, and that only what was made here is ever removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::civil::DateTime;
use k8s_openapi::jiff::tz::TimeZone;
use svcd_store::Store;
use svcd_store::snapshot::pieces;

use super::{attachments, now, page};
use crate::cli::ScheduleArgs;
use crate::data_dir::Entry;
use crate::failure::Failure;

/// How long to wait at most where saving failed, on a full disk for example.
const AGAIN: Duration = Duration::from_secs(60);
const NAME: &str = "svcd-%Y%m%dT%H%M%SZ.snapshot";

/// What a server saves, when and where.
pub(crate) struct Schedule {
    store: Arc<dyn Store>,
    data_dir: PathBuf,
    dir: PathBuf,
    every: Duration,
    keep: usize,
}

impl Schedule {
    /// The one that was asked for, if one was.
    pub(crate) fn of(args: &ScheduleArgs, data_dir: &Path, store: Arc<dyn Store>) -> Option<Self> {
        let dir = args.snapshot_dir.clone().unwrap_or_else(|| Entry::Snapshots.within(data_dir));
        let keep = usize::try_from(args.snapshot_keep).unwrap_or(usize::MAX);
        let every = args.snapshot_every?;
        Some(Self { store, data_dir: data_dir.to_owned(), dir, every, keep })
    }

    /// Saves for ever.
    pub(crate) async fn keep(self) {
        loop {
            // One of a clock that ran ahead says nothing of when the next is due.
            let last = made_in(&self.dir).into_iter().map(|(time, _)| time).rfind(|time| *time <= now());
            let due = last.map_or(UNIX_EPOCH, |last| UNIX_EPOCH + Duration::from_secs(last) + self.every);
            svcd_runtime::sleep_until(due).await;
            if let Err(error) = self.save().await {
                tracing::error!(%error, dir = %self.dir.display(), "a snapshot could not be saved; trying again");
                tokio::time::sleep(AGAIN.min(self.every)).await;
            }
        }
    }

    async fn save(&self) -> Result<(), Failure> {
        svcd_pki::ensure_private_dir(&self.dir)?;
        let page = page(&*self.store).await?;
        let (time, revision) = (now(), page.revision);
        let file = self.dir.join(name(time));
        let pieces = pieces(page, time, attachments(&self.data_dir)?);
        let target = file.clone();
        let written =
            tokio::task::spawn_blocking(move || svcd_pki::write_secret_pieces(&target, pieces)).await;
        written.map_err(|error| Failure::new(error, ""))??;
        tracing::info!(%revision, file = %file.display(), "saved a snapshot");
        self.prune();
        Ok(())
    }

    fn prune(&self) {
        let made = made_in(&self.dir);
        for (_, old) in &made[..made.len().saturating_sub(self.keep)] {
            if let Err(error) = fs::remove_file(old) {
                tracing::warn!(%error, file = %old.display(), "an old snapshot cannot be removed");
            }
        }
    }
}

fn name(time: u64) -> String {
    let time = i64::try_from(time).ok().and_then(|time| Timestamp::from_second(time).ok());
    time.unwrap_or_default().strftime(NAME).to_string()
}

/// The time that a name tells.
fn time(name: &str) -> Option<u64> {
    let time = DateTime::strptime(NAME, name).ok()?.to_zoned(TimeZone::UTC).ok()?;
    time.timestamp().as_second().try_into().ok()
}

/// Whether a file of this name was saved by a schedule.
pub(crate) fn is_of_schedule(file: &str) -> bool {
    time(file).is_some()
}

/// What a schedule has saved in a directory, oldest first.
fn made_in(dir: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut made: Vec<(u64, PathBuf)> =
        entries.filter_map(|entry| Some((time(entry.file_name().to_str()?)?, entry.path()))).collect();
    made.sort();
    made
}

#[cfg(test)]
mod tests {
    use svcd_store::{Embedded, Options};

    use super::*;

    #[test]
    fn a_name_tells_its_time() {
        assert_eq!(name(1_700_000_000), "svcd-20231114T221320Z.snapshot");
        assert_eq!(time("svcd-20231114T221320Z.snapshot"), Some(1_700_000_000));
        for other in ["before-upgrade.snapshot", "svcd-20231114T221320Z.snapshot.bak", "svcd-.snapshot"] {
            assert_eq!(time(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn the_newest_stay_and_what_others_made_stays() {
        let dir = tempfile::tempdir().unwrap();
        drop(svcd_pki::Ca::load_or_create(&dir.path().join("pki")).unwrap());
        let store = Arc::new(Embedded::open(dir.path().join("store"), Options::default()).unwrap());
        let args = ScheduleArgs {
            snapshot_every: Some(Duration::from_secs(60)),
            snapshot_keep: 2,
            snapshot_dir: None,
        };
        let schedule = Schedule::of(&args, dir.path(), store).unwrap();
        let snapshots = dir.path().join("snapshots");
        fs::create_dir(&snapshots).unwrap();
        for old in [name(100), name(200), name(300), "mine.snapshot".to_owned()] {
            fs::write(snapshots.join(old), "").unwrap();
        }
        schedule.save().await.unwrap();
        let made = made_in(&snapshots);
        assert_eq!((made.len(), made[0].0), (2, 300));
        assert!(snapshots.join("mine.snapshot").exists());
        let contents = svcd_store::snapshot::Contents::read(fs::File::open(&made[1].1).unwrap()).unwrap();
        assert_eq!(contents.files.len(), 2);
    }
}
