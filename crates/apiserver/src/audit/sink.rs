//! The thread that writes the log. Whoever has a line to say puts it into a bounded queue and goes on; what finds no room
//! there is dropped and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::AuditTarget;
use super::event::Entry;

/// At most this many events wait.
const EVENTS: usize = 10_000;
/// At most about this much memory waits.
const BYTES: usize = 16 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Plugin {
    plugin: &'static str,
}

enum Message {
    Event(Box<Entry>),
    Reopen,
}

/// What both sides count.
#[derive(Default)]
struct Counts {
    queued: AtomicUsize,
    events: Counter,
    errors: Family<Plugin, Counter>,
}

impl Counts {
    fn failed(&self) {
        self.errors.get_or_create(&Plugin { plugin: "log" }).inc();
    }
}

/// See the module.
pub(super) struct Sink {
    counts: Arc<Counts>,
    running: Mutex<Option<(SyncSender<Message>, JoinHandle<()>)>>,
}

impl Sink {
    pub(super) fn open(target: AuditTarget) -> io::Result<Self> {
        let out = open(&target)?;
        let counts = Arc::new(Counts::default());
        let (sender, queue) = sync_channel(EVENTS);
        let writer = Writer { out, target, counts: Arc::clone(&counts), broken: false };
        let thread =
            std::thread::Builder::new().name("audit-log".to_owned()).spawn(move || writer.run(&queue))?;
        Ok(Self { counts, running: Mutex::new(Some((sender, thread))) })
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("apiserver_audit_event", "Events for the audit log", self.counts.events.clone());
        registry.register(
            "apiserver_audit_error",
            "Events that the audit log does not have: they came faster than they could be written, or not at all",
            self.counts.errors.clone(),
        );
    }

    /// Queues an event, or drops it.
    pub(super) fn send(&self, entry: Box<Entry>) {
        self.counts.events.inc();
        let size = entry.size();
        if self.counts.queued.fetch_add(size, Ordering::Relaxed) + size > BYTES
            || !self.queue(Message::Event(entry))
        {
            self.counts.queued.fetch_sub(size, Ordering::Relaxed);
            self.counts.failed();
        }
    }

    pub(super) fn reopen(&self) {
        if !self.queue(Message::Reopen) {
            tracing::warn!("the audit log is too busy to be opened anew; try again");
        }
    }

    fn queue(&self, message: Message) -> bool {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((sender, _)) = running.as_ref() else { return false };
        !matches!(sender.try_send(message), Err(TrySendError::Full(_) | TrySendError::Disconnected(_)))
    }

    pub(super) fn close(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((sender, thread)) = running else { return };
        drop(sender);
        if thread.join().is_err() {
            tracing::error!("the audit log's writer has panicked");
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.close();
    }
}

type Out = BufWriter<Box<dyn Write + Send>>;

fn open(target: &AuditTarget) -> io::Result<Out> {
    let out: Box<dyn Write + Send> = match target {
        AuditTarget::Stdout => Box::new(io::stdout()),
        AuditTarget::File(path) => Box::new(append(path)?),
    };
    Ok(BufWriter::new(out))
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// The thread.
struct Writer {
    out: Out,
    target: AuditTarget,
    counts: Arc<Counts>,
    /// Was the last line not written? Said once, not for every line.
    broken: bool,
}

impl Writer {
    fn run(mut self, queue: &Receiver<Message>) {
        loop {
            let message = match queue.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    self.flush();
                    let Ok(message) = queue.recv() else { break };
                    message
                }
            };
            match message {
                Message::Event(entry) => self.write(&entry),
                Message::Reopen => self.reopen(),
            }
        }
        self.flush();
    }

    fn write(&mut self, entry: &Entry) {
        let mut line = entry.to_value().to_string();
        line.push('\n');
        let written = self.out.write_all(line.as_bytes());
        self.counts.queued.fetch_sub(entry.size(), Ordering::Relaxed);
        self.note(written);
    }

    fn flush(&mut self) {
        let flushed = self.out.flush();
        self.note(flushed);
    }

    fn note(&mut self, result: io::Result<()>) {
        if let Err(error) = &result {
            self.counts.failed();
            if !self.broken {
                tracing::error!(%error, "the audit log cannot be written");
            }
        }
        self.broken = result.is_err();
    }

    fn reopen(&mut self) {
        self.flush();
        match open(&self.target) {
            Ok(out) => self.out = out,
            Err(error) => {
                tracing::error!(%error, "the audit log cannot be opened anew; the old file goes on")
            }
        }
    }
}
