//! Upstreams' answers, kept for as long as they say.
//!
//! Promises: bounded in bytes, whatever comes in; what came first goes first. What is past its time is kept a while longer,
//! for when no upstream answers (RFC 8767), and never counts as a hit otherwise.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::wire::message::{Kind, Message};

/// What the bookkeeping of an entry takes, about.
const OVERHEAD: usize = 160;
/// No answer is kept longer.
const MAX_SUCCESS: u32 = 3600;
/// No denial is kept longer.
const MAX_DENIAL: u32 = 1800;
/// For how long a failure of all upstreams is remembered (RFC 9520 wants a second at least).
const FAILURE: u32 = 1;

/// A question as the cache knows it: the name in wire form, the type and the flags that change answers.
pub(crate) type Key = Arc<[u8]>;

/// The cache.
#[derive(Debug)]
pub(crate) struct Cache {
    limit: usize,
    stale: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<Key, Entry>,
    order: VecDeque<Key>,
    size: usize,
}

#[derive(Debug)]
struct Entry {
    message: Arc<Message>,
    born: Instant,
    lifetime: Duration,
    size: usize,
}

/// What was found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// The message.
    pub(crate) message: Arc<Message>,
    /// Its age in seconds; none when it is past its time.
    pub(crate) age: Option<u32>,
}

impl Cache {
    /// A cache of at most `limit` bytes that keeps things for `stale` past their time.
    pub(crate) fn new(limit: usize, stale: Duration) -> Self {
        Self { limit, stale, inner: Mutex::default() }
    }

    /// What is still good at `now`.
    pub(crate) fn fresh(&self, key: &[u8], now: Instant) -> Option<Found> {
        self.find(key, now).filter(|found| found.age.is_some())
    }

    /// What is good at `now`, or was until lately.
    pub(crate) fn find(&self, key: &[u8], now: Instant) -> Option<Found> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = inner.entries.get(key)?;
        let age = now.saturating_duration_since(entry.born);
        let message = Arc::clone(&entry.message);
        if age < entry.lifetime {
            return Some(Found { message, age: Some(u32::try_from(age.as_secs()).unwrap_or(u32::MAX)) });
        }
        let usable = message.kind() != Kind::Failure && age < entry.lifetime + self.stale;
        usable.then_some(Found { message, age: None })
    }

    /// Keeps `message`, where it may be kept.
    pub(crate) fn keep(&self, key: &Key, message: &Arc<Message>, now: Instant) {
        let seconds = match message.kind() {
            Kind::Success => message.lifetime().map(|seconds| seconds.min(MAX_SUCCESS)),
            Kind::Denial => message.lifetime().map(|seconds| seconds.min(MAX_DENIAL)),
            Kind::Failure => Some(FAILURE),
        };
        let Some(seconds) = seconds else { return };
        let size = message.size() + 2 * key.len() + OVERHEAD;
        if size > self.limit / 4 {
            return;
        }
        let lifetime = Duration::from_secs(seconds.into());
        let entry = Entry { message: Arc::clone(message), born: now, lifetime, size };
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).insert(key, entry, self.limit);
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).entries.len()
    }
}

impl Inner {
    fn insert(&mut self, key: &Key, entry: Entry, limit: usize) {
        self.size += entry.size;
        match self.entries.insert(Arc::clone(key), entry) {
            Some(old) => self.size -= old.size,
            None => self.order.push_back(Arc::clone(key)),
        }
        while self.size > limit {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(old) = self.entries.remove(&oldest) {
                self.size -= old.size;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;
    use crate::wire::query::{Packet, parse};

    /// An answer for `name` with one address and this TTL.
    fn message(name: &str, ttl: u32) -> Arc<Message> {
        let mut question = Name::parse(name).unwrap().as_wire().to_vec();
        question.extend_from_slice(&[0, 1, 0, 1]);
        let mut bytes = vec![0, 7, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
        bytes.extend_from_slice(&question);
        bytes.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
        bytes.extend_from_slice(&ttl.to_be_bytes());
        bytes.extend_from_slice(&[0, 4, 192, 0, 2, 1]);
        Arc::new(Message::new(bytes, |_| None).unwrap())
    }

    fn key(name: &str) -> Key {
        Arc::from(name.as_bytes())
    }

    #[test]
    fn answers_age_and_expire() {
        let (cache, now) = (Cache::new(10_000, Duration::from_secs(60)), Instant::now());
        cache.keep(&key("a"), &message("a.example", 30), now);
        assert_eq!(cache.fresh(b"a", now + Duration::from_secs(29)).unwrap().age, Some(29));
        assert!(cache.fresh(b"a", now + Duration::from_secs(30)).is_none());
        assert!(cache.find(b"a", now + Duration::from_secs(80)).unwrap().age.is_none(), "stale");
        assert!(cache.find(b"a", now + Duration::from_secs(90)).is_none());
        cache.keep(&key("b"), &message("b.example", 0), now);
        assert!(cache.find(b"b", now).is_none(), "a TTL of 0 is not kept");
    }

    #[test]
    fn stays_within_its_bytes() {
        let (cache, now) = (Cache::new(8_000, Duration::ZERO), Instant::now());
        for n in 0..1000 {
            cache.keep(&key(&format!("{n}")), &message("a.example", 30), now);
            cache.keep(&key("same"), &message("a.example", 30), now);
        }
        assert!((2..40).contains(&cache.len()), "{}", cache.len());
        assert!(cache.fresh(b"999", now).is_some() && cache.fresh(b"0", now).is_none());
    }

    #[test]
    fn ttls_are_written_aged() {
        let mut packet = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        packet.extend_from_slice(b"\x01A\x07exAMPle\0\0\x01\0\x01");
        let Packet::Plain(query) = parse(&packet) else { panic!("plain") };
        let mut out = Vec::new();
        message("a.example", 30).write(&query, |ttl| ttl - 12, 512, &mut out);
        assert_eq!(out[..2], [0xab, 0xcd]);
        assert_eq!(&out[12..27], &packet[12..27], "the question's case");
        assert_eq!(out[out.len() - 10..out.len() - 6], [0, 0, 0, 18]);
    }
}
