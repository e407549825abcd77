//! Upstreams' messages: taken apart once, kept as they came, written on for each client.
//!
//! Promises: records pass unchanged but for their TTLs; the id, the question's case, RD, CD, the OPT and the size are each
//! client's own. A message that does not parse to its last byte is refused. Never panics on any bytes.

use super::query::Query;
use super::reply::start;
use super::{HEADER, OPT_SIZE, flag, push_opt, put_u16, u16_at, u32_at};
use crate::name::Name;
use crate::zone::rtype;

/// What is said of the life of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Has what was asked for.
    Success,
    /// Says that there is no such name or no such record.
    Denial,
    /// Anything else.
    Failure,
}

/// An upstream's message, taken apart.
#[derive(Debug)]
pub(crate) struct Message {
    /// The message; without an OPT record.
    bytes: Box<[u8]>,
    question_end: usize,
    records: Box<[Place]>,
    /// The whole response code, with EDNS's high bits.
    rcode: u16,
}

/// Where a record is.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// 0 answer, 1 authority, 2 additional.
    section: u8,
    ttl_at: u16,
    end: u16,
}

/// What the walk over a message finds.
struct Walk {
    question_end: usize,
    records: Vec<Place>,
    /// Start, end and high response code bits of the OPT record.
    opt: Option<(usize, usize, u8)>,
}

impl Message {
    /// Takes `bytes` apart. `strip` removes an OPT record that is not the last one, where cutting it off will not do.
    pub(crate) fn new(mut bytes: Vec<u8>, strip: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Option<Self> {
        let mut found = walk(&bytes)?;
        let mut rcode = u16_at(&bytes, 2)? & flag::RCODE;
        if let Some((start, end, high)) = found.opt {
            rcode |= u16::from(high) << 4;
            if end == bytes.len() {
                bytes.truncate(start);
                let additional = u16_at(&bytes, 10)?.checked_sub(1)?;
                put_u16(&mut bytes, 10, additional);
            } else {
                bytes = strip(&bytes)?;
                found = walk(&bytes).filter(|found| found.opt.is_none())?;
            }
        }
        let (question_end, records) = (found.question_end, found.records.into_boxed_slice());
        Some(Self { bytes: bytes.into_boxed_slice(), question_end, records, rcode })
    }

    /// Whether this is the reply to a question of `id` for `name` and `rtype`.
    pub(crate) fn answers(&self, id: u16, name: &Name, rtype: u16) -> bool {
        let asked = Name::from_wire(&self.bytes[HEADER..]).is_some_and(|(asked, _)| asked == *name);
        let right = [(0, id), (4, 1), (self.question_end - 4, rtype), (self.question_end - 2, 1)];
        asked
            && self.flags() & flag::RESPONSE != 0
            && right.iter().all(|(at, is)| u16_at(&self.bytes, *at) == Some(*is))
    }

    /// The whole response code.
    pub(crate) fn rcode(&self) -> u16 {
        self.rcode
    }

    /// Whether something was left out for the size.
    pub(crate) fn is_truncated(&self) -> bool {
        self.flags() & flag::TRUNCATED != 0
    }

    /// What it is worth.
    pub(crate) fn kind(&self) -> Kind {
        match self.rcode {
            0 if self.records.iter().any(|place| place.section == 0) => Kind::Success,
            0 | 3 => Kind::Denial,
            _ => Kind::Failure,
        }
    }

    /// For how many seconds it may be kept: the least TTL, or what the SOA says of denials (RFC 2308). None when it must not be.
    pub(crate) fn lifetime(&self) -> Option<u32> {
        let seconds = match self.kind() {
            _ if self.is_truncated() => None,
            Kind::Success => {
                self.records.iter().filter_map(|place| u32_at(&self.bytes, place.ttl_at.into())).min()
            }
            Kind::Denial => self.denial_lifetime(),
            Kind::Failure => None,
        };
        // A TTL with the highest bit set is zero (RFC 2181).
        seconds.filter(|seconds| (1..1 << 31).contains(seconds))
    }

    fn denial_lifetime(&self) -> Option<u32> {
        let is_soa = |place: &&Place| {
            place.section == 1 && u16_at(&self.bytes, usize::from(place.ttl_at) - 4) == Some(rtype::SOA)
        };
        let soa = self.records.iter().find(is_soa)?;
        let ttl = u32_at(&self.bytes, soa.ttl_at.into())?;
        let minimum = u32_at(&self.bytes, usize::from(soa.end).checked_sub(4)?)?;
        Some(ttl.min(minimum))
    }

    /// About how much memory it takes.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.bytes.len() + self.records.len() * size_of::<Place>()
    }

    /// Writes it for `query`, with each TTL changed by `ttl`, `limit` bytes at most.
    pub(crate) fn write(&self, query: &Query<'_>, ttl: impl Fn(u32) -> u32, limit: usize, out: &mut Vec<u8>) {
        let kept = flag::AUTHORITATIVE | flag::AUTHENTIC | flag::TRUNCATED | flag::RCODE;
        start(query, self.flags() & kept, out);
        let room = limit - query.edns.map_or(0, |_| OPT_SIZE);
        // Pointers in the records hold only when the question is as long here as there; `answers` made sure of it.
        let fits = self.records.partition_point(|place| usize::from(place.end) <= room);
        let end = fits.checked_sub(1).map_or(self.question_end, |last| self.records[last].end.into());
        out.extend_from_slice(&self.bytes[self.question_end..end]);
        let mut counts = [0_u16; 3];
        for place in &self.records[..fits] {
            counts[usize::from(place.section)] += 1;
            let at = usize::from(place.ttl_at);
            let aged = ttl(u32_at(out, at).unwrap_or(0));
            out[at..at + 4].copy_from_slice(&aged.to_be_bytes());
        }
        if fits < self.records.len() {
            out[2] |= (flag::TRUNCATED >> 8) as u8;
        }
        if let Some(edns) = query.edns {
            counts[2] += 1;
            push_opt(out, edns, u8::try_from(self.rcode >> 4).unwrap_or(0));
        }
        for (at, count) in [6, 8, 10].into_iter().zip(counts) {
            put_u16(out, at, count);
        }
    }

    /// Changes every TTL, for those who read the bytes themselves.
    pub(crate) fn bytes_aged(&self, ttl: impl Fn(u32) -> u32) -> Vec<u8> {
        let mut bytes = self.bytes.to_vec();
        for place in &self.records {
            let at = usize::from(place.ttl_at);
            let aged = ttl(u32_at(&bytes, at).unwrap_or(0));
            bytes[at..at + 4].copy_from_slice(&aged.to_be_bytes());
        }
        bytes
    }

    fn flags(&self) -> u16 {
        u16_at(&self.bytes, 2).unwrap_or(0)
    }
}

/// The bytes of a question to an upstream.
pub(crate) fn question(id: u16, question: &[u8], checking_disabled: bool, dnssec_ok: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + question.len() + OPT_SIZE);
    let cd = if checking_disabled { flag::CHECKING_DISABLED } else { 0 };
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&(flag::RECURSION_DESIRED | cd).to_be_bytes());
    out.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 1]);
    out.extend_from_slice(question);
    push_opt(&mut out, super::Edns { payload: super::OUR_PAYLOAD, dnssec_ok }, 0);
    out
}

fn walk(bytes: &[u8]) -> Option<Walk> {
    if bytes.len() > usize::from(u16::MAX) || u16_at(bytes, 4)? != 1 {
        return None;
    }
    let question_end = skip_name(bytes, HEADER)? + 4;
    let mut found = Walk { question_end, records: Vec::new(), opt: None };
    let mut at = question_end;
    for (section, count_at) in (0_u8..).zip([6, 8, 10]) {
        for _ in 0..u16_at(bytes, count_at)? {
            let start = at;
            let fixed = skip_name(bytes, at)?;
            let ttl = u32_at(bytes, fixed + 4)?;
            at = fixed + 10 + usize::from(u16_at(bytes, fixed + 8)?);
            if at > bytes.len() {
                return None;
            }
            if u16_at(bytes, fixed)? == rtype::OPT {
                if found.opt.replace((start, at, ttl.to_be_bytes()[0])).is_some() || section != 2 {
                    return None;
                }
                continue;
            }
            let place =
                Place { section, ttl_at: u16::try_from(fixed + 4).ok()?, end: u16::try_from(at).ok()? };
            found.records.push(place);
        }
    }
    (question_end <= at && at == bytes.len()).then_some(found)
}

/// Where the name at `at` ends.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            size @ 1..=63 => at += usize::from(size) + 1,
            0xc0.. => return bytes.get(at + 1).map(|_| at + 2),
            64..=0xbf => return None,
        }
    }
}
