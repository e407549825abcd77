//! Names that are not the cluster's: asked of the machine's upstreams, and remembered.
//!
//! Promises: the same question is asked once at a time, however many wait for it; a slow or failing upstream is overtaken by
//! the next after a short while; every question ends within the deadline; with no upstream at all the answer is SERVFAIL at
//! once. When nobody answers, an answer past its time is better than none.

mod cache;
mod exchange;
mod upstreams;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::metrics::Metrics;
use crate::name::Name;
use crate::wire::message::{Kind, Message};
use crate::wire::query::Query;
use crate::zone::Rcode;
use cache::{Cache, Key};
use upstreams::{Roster, Upstream};

pub use upstreams::Upstreams;

/// The TTL on an answer past its time (RFC 8767 proposes 30 seconds).
const STALE_TTL: u32 = 30;

/// How forwarding is done.
#[derive(Clone, Debug)]
pub struct ForwardSettings {
    /// Who is asked.
    pub upstreams: Upstreams,
    /// How long one upstream has for its reply.
    pub timeout: Duration,
    /// After how long without a reply the next upstream is asked as well.
    pub overtake: Duration,
    /// How long all of them have together. Resolvers in pods give up after 5 seconds.
    pub deadline: Duration,
    /// How many different questions may be under way; more are refused.
    pub max_questions: usize,
    /// The cache's size in bytes.
    pub cache_bytes: usize,
    /// For how long an answer past its time may still be given when no upstream answers.
    pub stale: Duration,
}

impl Default for ForwardSettings {
    fn default() -> Self {
        Self {
            upstreams: Upstreams::default(),
            timeout: Duration::from_secs(2),
            overtake: Duration::from_millis(500),
            deadline: Duration::from_millis(4500),
            max_questions: 1000,
            cache_bytes: 4 << 20,
            stale: Duration::from_secs(3600),
        }
    }
}

/// A question for upstreams.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// The name, lower-cased.
    pub(crate) name: Name,
    /// The type.
    pub(crate) rtype: u16,
    /// The question section as the client wrote it.
    pub(crate) question: Box<[u8]>,
    /// The client's CD flag.
    pub(crate) checking_disabled: bool,
    /// The client's DO flag.
    pub(crate) dnssec_ok: bool,
}

impl Ask {
    /// What `query` asks.
    pub(crate) fn of(query: &Query<'_>) -> Self {
        Self {
            name: query.question.name.clone(),
            rtype: query.question.rtype,
            question: query.question_bytes().into(),
            checking_disabled: query.checking_disabled(),
            dnssec_ok: query.edns.is_some_and(|edns| edns.dnssec_ok),
        }
    }

    fn key(&self) -> Key {
        key(&self.name, self.rtype, self.checking_disabled, self.dnssec_ok).as_slice().into()
    }
}

fn key(name: &Name, rtype: u16, checking_disabled: bool, dnssec_ok: bool) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.as_wire().len() + 3);
    key.extend_from_slice(name.as_wire());
    key.extend_from_slice(&rtype.to_be_bytes());
    key.push(u8::from(checking_disabled) << 1 | u8::from(dnssec_ok));
    key
}

/// What came of a question.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// A message, and its age in seconds; no age when it is past its time.
    Reply(Arc<Message>, Option<u32>),
    /// Nobody could say.
    Failure(Rcode),
}

impl Outcome {
    /// Writes it for `query`.
    pub(crate) fn write(&self, query: &Query<'_>, limit: usize, out: &mut Vec<u8>) {
        match self {
            Self::Reply(message, age) => message.write(query, aged(*age), limit, out),
            Self::Failure(rcode) => crate::wire::reply::write_failure(query, *rcode, out),
        }
    }
}

/// How a TTL looks after so many seconds.
pub(crate) fn aged(age: Option<u32>) -> impl Fn(u32) -> u32 {
    move |ttl| match age {
        Some(age) => ttl.saturating_sub(age),
        None => STALE_TTL.min(ttl.max(1)),
    }
}

/// Asks upstreams and remembers.
#[derive(Debug)]
pub(crate) struct Forwarder {
    settings: ForwardSettings,
    roster: Roster,
    cache: Cache,
    under_way: Mutex<HashMap<Key, watch::Receiver<Option<Outcome>>>>,
    metrics: Metrics,
}

impl Forwarder {
    /// `own` are the addresses at which we answer ourselves.
    pub(crate) fn new(settings: ForwardSettings, own: Vec<SocketAddr>, metrics: Metrics) -> Arc<Self> {
        let roster = Roster::new(settings.upstreams.clone(), own);
        let cache = Cache::new(settings.cache_bytes, settings.stale);
        Arc::new(Self { settings, roster, cache, under_way: Mutex::default(), metrics })
    }

    /// The answer to `query`, where it is known already.
    pub(crate) fn cached(&self, query: &Query<'_>) -> Option<Outcome> {
        let dnssec_ok = query.edns.is_some_and(|edns| edns.dnssec_ok);
        let question = &query.question;
        self.look_up(&key(&question.name, question.rtype, query.checking_disabled(), dnssec_ok))
    }

    fn look_up(&self, key: &[u8]) -> Option<Outcome> {
        let found = self.cache.fresh(key, std::time::Instant::now())?;
        self.metrics.cache_hit(found.message.kind());
        Some(Outcome::Reply(found.message, found.age))
    }

    /// The answer to `ask`.
    pub(crate) async fn resolve(self: &Arc<Self>, ask: Ask) -> Outcome {
        let key = ask.key();
        if let Some(known) = self.look_up(&key) {
            return known;
        }
        self.metrics.cache_miss();
        let Some(mut answer) = self.join(key, ask) else { return Outcome::Failure(Rcode::Refused) };
        let told = answer.wait_for(Option::is_some).await;
        told.ok().and_then(|outcome| outcome.clone()).unwrap_or(Outcome::Failure(Rcode::ServFail))
    }

    /// Joins those who wait for the same, or begins; none when too many are under way.
    fn join(self: &Arc<Self>, key: Key, ask: Ask) -> Option<watch::Receiver<Option<Outcome>>> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = under_way.get(&key) {
            return Some(answer.clone());
        }
        if under_way.len() >= self.settings.max_questions {
            self.metrics.forward_refused();
            return None;
        }
        let (tell, answer) = watch::channel(None);
        under_way.insert(Arc::clone(&key), answer.clone());
        drop(under_way);
        let this = Arc::clone(self);
        // A task of its own: the first who asked may go away, the others still wait.
        tokio::spawn(async move {
            let _done = Done { forwarder: &this, key: &key };
            let outcome = this.ask_all(&key, &ask).await;
            let _ = tell.send(Some(outcome));
        });
        Some(answer)
    }

    async fn ask_all(&self, key: &Key, ask: &Ask) -> Outcome {
        let now = std::time::Instant::now();
        let reply = match self.race(self.roster.in_order(), ask).await {
            Some(reply) if reply.kind() != Kind::Failure => Some(reply),
            other => {
                if let Some(found) =
                    self.cache.find(key, now).filter(|found| found.message.kind() != Kind::Failure)
                {
                    debug!(name = %ask.name, "no upstream answers: giving an answer past its time");
                    return Outcome::Reply(found.message, found.age);
                }
                other
            }
        };
        let Some(reply) = reply else { return Outcome::Failure(Rcode::ServFail) };
        let reply = Arc::new(reply);
        self.cache.keep(key, &reply, now);
        self.metrics.cache_entries(self.cache.len());
        Outcome::Reply(reply, Some(0))
    }

    /// Asks one upstream after the other, each sooner when the one before fails, and takes the first good reply. Twice
    /// around, since datagrams get lost. A bad reply is returned when there is no better one.
    async fn race(&self, upstreams: Vec<Arc<Upstream>>, ask: &Ask) -> Option<Message> {
        let deadline = Instant::now() + self.settings.deadline;
        let mut plan: VecDeque<_> = upstreams.iter().chain(&upstreams).cloned().collect();
        let mut running = JoinSet::new();
        let (mut last, mut bad) = (None, None);
        loop {
            if let Some(next) = plan.pop_front() {
                running.spawn(self.attempt(&next, ask, deadline));
                last = Some(next);
            } else if running.is_empty() {
                return bad;
            }
            let overtake = Instant::now() + self.settings.overtake;
            let until = if plan.is_empty() { deadline } else { deadline.min(overtake) };
            match tokio::time::timeout_at(until, running.join_next()).await {
                Err(_) => {
                    last.iter().for_each(|slow| note(slow, false));
                    if Instant::now() >= deadline {
                        return bad;
                    }
                }
                Ok(Some(Ok((_, Some(reply))))) if reply.kind() != Kind::Failure => return Some(reply),
                Ok(Some(Ok((upstream, Some(reply))))) => {
                    plan.retain(|other| other.address != upstream);
                    bad = Some(reply);
                }
                Ok(_) => {}
            }
        }
    }

    /// Asks one upstream, once.
    fn attempt(
        &self,
        upstream: &Arc<Upstream>,
        ask: &Ask,
        deadline: Instant,
    ) -> impl Future<Output = (SocketAddr, Option<Message>)> + 'static {
        let (upstream, ask, metrics) = (Arc::clone(upstream), ask.clone(), self.metrics.clone());
        let until = deadline.min(Instant::now() + self.settings.timeout);
        async move {
            let begun = Instant::now();
            let reply = exchange::exchange(upstream.address, &ask, until).await;
            metrics.forwarded(upstream.address, reply.as_ref().ok().map(Message::rcode), begun.elapsed());
            note(&upstream, reply.is_ok());
            if let Err(error) = &reply {
                debug!(upstream = %upstream.address, name = %ask.name, %error, "DNS upstream gave no answer");
            }
            (upstream.address, reply.ok())
        }
    }
}

fn note(upstream: &Upstream, worked: bool) {
    if upstream.note(worked) {
        warn!(upstream = %upstream.address, "DNS upstream does not answer: asking it last for a while");
    }
}

/// Takes a question off the list when it is done, also when its task dies.
struct Done<'f> {
    forwarder: &'f Forwarder,
    key: &'f Key,
}

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.forwarder.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(self.key);
    }
}
