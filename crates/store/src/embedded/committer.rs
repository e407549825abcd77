//! The one writer: a thread that takes transactions as they come, in groups, makes each group durable with one sync, and
//! only then shows it to readers and watchers and answers.
//!
//! Promises: transactions are judged in the order they came, each against all before it; nothing that is not on disk is
//! ever seen, not even in a conflict's answer.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::Options;
use super::checkpointer::Checkpointer;
use super::frame;
use super::history::Millis;
use super::log::{AppendError, Log};
use super::shared::Shared;
use super::stage::{self, Stage};
use crate::{CommitError, Committed, Event, Txn};

/// A group is closed when its transactions reach this size.
const GROUP_BYTES: usize = 8 << 20;
/// The buffer for frames is given back when a big group has blown it up.
const BUFFER_KEPT: usize = 1 << 20;
/// How often others may run before a group is closed, while they bring more.
const TURNS: usize = 4;
/// A sync that takes this long is worth a warning.
const SLOW: Duration = Duration::from_secs(1);

type Answer = Result<Committed, CommitError>;
/// Who waits, and what there is to say if the group gets to disk.
type Answers = Vec<(oneshot::Sender<Answer>, Answer)>;

/// A transaction, and who waits for it.
pub(super) struct Request {
    pub(super) txn: Txn,
    pub(super) answer: oneshot::Sender<Answer>,
    /// Its place in the queue, given up once it is judged.
    pub(super) _room: OwnedSemaphorePermit,
}

pub(super) struct Committer {
    shared: Arc<Shared>,
    log: Log,
    checkpointer: Checkpointer,
    options: Options,
    buffer: Vec<u8>,
    /// Why nothing can be written any more.
    broken: Option<String>,
    /// The last write found no space; it has been said.
    full: bool,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, log: Log, checkpointer: Checkpointer, options: Options) -> Self {
        Self { shared, log, checkpointer, options, buffer: Vec::new(), broken: None, full: false }
    }

    /// Works until every sender is gone and every request answered.
    pub(super) fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request>) {
        let mut busy = false;
        while let Some(first) = requests.blocking_recv() {
            if busy {
                wait_for_company(&requests);
            }
            let group = self.gather(first, &mut requests);
            busy = group.len() > 1;
            self.commit(group);
            let state = self.shared.state();
            self.checkpointer.consider(&mut self.log, self.options.checkpoint_bytes, &state);
        }
        self.checkpointer.stop();
    }

    /// Whatever is waiting by now belongs to the same group.
    fn gather(&self, first: Request, requests: &mut mpsc::UnboundedReceiver<Request>) -> Vec<Request> {
        let mut bytes = size(&first.txn);
        let mut group = vec![first];
        while group.len() < self.options.group && bytes < GROUP_BYTES {
            let Ok(next) = requests.try_recv() else { break };
            bytes += size(&next.txn);
            group.push(next);
        }
        group
    }

    fn commit(&mut self, group: Vec<Request>) {
        let (answers, events) = self.judge(group);
        let time = now();
        match self.write(&events, time) {
            Ok(()) => {
                self.show(&events, time);
                for (asker, answer) in answers {
                    // Who has stopped waiting does not need to know.
                    let _ = asker.send(answer);
                }
            }
            Err(refusal) => {
                for (asker, _) in answers {
                    let _ = asker.send(Err(refusal()));
                }
            }
        }
    }

    fn judge(&self, group: Vec<Request>) -> (Answers, Vec<Arc<Event>>) {
        let state = self.shared.state();
        let mut stage = Stage::on(&state);
        let answers =
            group.into_iter().map(|Request { txn, answer, _room }| (answer, stage.run(txn))).collect();
        (answers, stage.into_events())
    }

    /// Makes a group durable; on failure says what everybody in it is to be told.
    fn write(&mut self, events: &[Arc<Event>], time: Millis) -> Result<(), Box<dyn Fn() -> CommitError>> {
        if let Some(why) = self.broken.clone() {
            return Err(Box::new(move || CommitError::Engine(why.clone())));
        }
        if events.is_empty() {
            return Ok(());
        }
        frame::encode(&mut self.buffer, events, time);
        let started = Instant::now();
        let appended = self.log.append(&self.buffer);
        let (bytes, elapsed) = (self.buffer.len(), started.elapsed());
        tracing::trace!(events = events.len(), bytes, ?elapsed, "group appended");
        if elapsed > SLOW {
            tracing::warn!(bytes, ?elapsed, "the store's disk is slow to sync; every write waits for it");
        }
        if self.buffer.capacity() > BUFFER_KEPT {
            self.buffer = Vec::new();
        }
        match appended {
            Ok(()) => {
                if std::mem::take(&mut self.full) {
                    tracing::info!("there is space for the store again");
                }
                Ok(())
            }
            Err(error) => Err(self.refusal(error)),
        }
    }

    fn refusal(&mut self, error: AppendError) -> Box<dyn Fn() -> CommitError> {
        match error {
            AppendError::Full(error) => {
                if !std::mem::replace(&mut self.full, true) {
                    tracing::warn!(%error, "no space left for the store; writes are refused until there is");
                }
                let why = error.to_string();
                Box::new(move || CommitError::Full(why.clone()))
            }
            AppendError::Broken(error) => {
                tracing::error!(%error, "the store's disk failed; nothing is written any more until a restart");
                let why = format!("{error}; restart once the disk is well");
                self.broken = Some(why.clone());
                Box::new(move || CommitError::Engine(why.clone()))
            }
        }
    }

    fn show(&mut self, events: &[Arc<Event>], time: Millis) {
        let Some(last) = events.last() else { return };
        self.shared.publish(events, time, &self.options.history);
        self.checkpointer.changed(last.revision, events.iter().map(|event| &event.record.key));
    }
}

/// Lets other threads run as long as they bring more to write: a big group costs one sync, as a small one does. Where nothing
/// else is to be done this returns at once.
fn wait_for_company(requests: &mpsc::UnboundedReceiver<Request>) {
    let mut waiting = requests.len();
    for _ in 0..TURNS {
        std::thread::yield_now();
        let now = requests.len();
        if now <= waiting {
            return;
        }
        waiting = now;
    }
}

fn size(txn: &Txn) -> usize {
    txn.ops.iter().map(stage::size).sum()
}

/// The wall clock, for the ages of events.
pub(super) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;
    use tokio::sync::Semaphore;

    use super::super::state::State;
    use super::*;
    use crate::{Expect, Op, Revision, Value};

    fn put(key: &str) -> Txn {
        let op = Op::Put { key: key.into(), value: Value::plain("x"), meta: Bytes::new() };
        Txn { expect: Vec::new(), ops: vec![op] }
    }

    fn committer(log: Log, directory: &Path) -> Committer {
        let shared = Arc::new(Shared::new(State::empty()));
        Committer::new(shared, log, Checkpointer::new(directory), Options::default())
    }

    /// Commits a group, and returns the answers.
    fn answers(committer: &mut Committer, group: Vec<Txn>) -> Vec<Answer> {
        let room = Arc::new(Semaphore::new(group.len()));
        let (requests, answers): (Vec<_>, Vec<_>) = group
            .into_iter()
            .map(|txn| {
                let (answer, answered) = oneshot::channel();
                let _room = room.clone().try_acquire_owned().unwrap();
                (Request { txn, answer, _room }, answered)
            })
            .unzip();
        committer.commit(requests);
        answers.into_iter().map(|mut answer| answer.try_recv().unwrap()).collect()
    }

    #[test]
    fn a_group_sees_itself() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::resume(directory.path(), None, Revision(2)).unwrap();
        let mut committer = committer(log, directory.path());
        let only_once = || Txn { expect: vec![("a".into(), Expect::Absent)], ..put("a") };
        let answers = answers(&mut committer, vec![only_once(), only_once(), put("b")]);
        assert_eq!(answers[0].as_ref().unwrap().revision, Revision(2));
        assert!(matches!(&answers[1], Err(CommitError::Conflict { found: Some(_), .. })));
        assert_eq!(answers[2].as_ref().unwrap().revision, Revision(3));
    }

    #[test]
    fn after_a_failed_sync_nothing_is_written_or_shown() {
        let directory = tempfile::tempdir().unwrap();
        let mut committer = committer(Log::failing(), directory.path());
        for _ in 0..2 {
            let answers = answers(&mut committer, vec![put("a"), put("b")]);
            assert!(
                answers.iter().all(|answer| matches!(answer, Err(CommitError::Engine(_)))),
                "{answers:?}"
            );
        }
        assert_eq!(committer.shared.state().revision(), Revision(1));
        assert!(committer.shared.state().get("a").is_none());
        // Even if the disk seems to be well again.
        committer.log = Log::resume(directory.path(), None, Revision(2)).unwrap();
        assert!(matches!(answers(&mut committer, vec![put("a")])[0], Err(CommitError::Engine(_))));
    }
}
