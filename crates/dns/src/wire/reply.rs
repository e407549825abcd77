//! Writes an answer of the zone as bytes.
//!
//! Promises: the question comes back as it came, in its case; owners in the question are compressed; records that do not
//! fit the limit are left out whole and TC is set; an OPT asked for is always there. Must say the same as `handler`.

use std::net::IpAddr;

use super::query::Query;
use super::{HEADER, OPT_SIZE, flag, push_opt, put_u16};
use crate::name::Name;
use crate::zone::{Answer, Data, FullName, Owner, Rcode, Record, SOA_MAILBOX, SOA_SERVER, SOA_TIMES};

/// Pointers reach this far.
const POINTER_REACH: usize = 0x4000;
/// The high bits of a pointer.
const POINTER: u16 = 0xc000;

/// Writes the reply to `query` into `out`, `limit` bytes at most.
pub(crate) fn write(query: &Query<'_>, answer: &Answer<'_>, limit: usize, out: &mut Vec<u8>) {
    let authoritative = if answer.rcode == Rcode::ServFail { 0 } else { flag::AUTHORITATIVE };
    start(query, authoritative | answer.rcode as u16, out);
    let room = limit - query.edns.map_or(0, |_| OPT_SIZE);
    let mut writer = Writer { out, question: &query.question.name, targets: Vec::new(), next_target: 0 };
    let sections = [answer.answers.as_slice(), answer.authority.as_slice(), answer.additional.as_slice()];
    let mut counts = [0_u16; 3];
    let whole = sections.iter().zip(&mut counts).all(|(records, count)| writer.section(records, room, count));
    for (at, count) in [6, 8, 10].into_iter().zip(counts) {
        put_u16(out, at, count);
    }
    if !whole {
        out[2] |= (flag::TRUNCATED >> 8) as u8;
    }
    if let Some(edns) = query.edns {
        put_u16(out, 10, counts[2] + 1);
        push_opt(out, edns, 0);
    }
}

/// Writes a header without records for `query`'s id, and the question.
pub(crate) fn start(query: &Query<'_>, flags: u16, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&query.packet[..2]);
    let flags = flag::RESPONSE | flag::RECURSION_AVAILABLE | query.repeated_flags() | flags;
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(query.question_bytes());
}

/// Writes a reply without records.
pub(crate) fn write_failure(query: &Query<'_>, rcode: Rcode, out: &mut Vec<u8>) {
    start(query, rcode as u16, out);
    if let Some(edns) = query.edns {
        put_u16(out, 10, 1);
        push_opt(out, edns, 0);
    }
}

/// Writes the reply to a packet of which only the header can be trusted.
pub(crate) fn write_format_error(packet: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&packet[..2]);
    out.extend_from_slice(&[0x80 | packet[2] & 0x79, 0x80 | Rcode::FormErr as u8, 0, 0, 0, 0, 0, 0, 0, 0]);
}

struct Writer<'o, 'q> {
    out: &'o mut Vec<u8>,
    question: &'q Name,
    /// Where SRV targets were written: the owners of the additional section, in the same order.
    targets: Vec<usize>,
    next_target: usize,
}

impl Writer<'_, '_> {
    /// Writes as many of `records` as fit; whether all did.
    fn section(&mut self, records: &[Record<'_>], room: usize, count: &mut u16) -> bool {
        for record in records {
            let before = self.out.len();
            self.record(record);
            if self.out.len() > room || *count == u16::MAX - 1 {
                self.out.truncate(before);
                return false;
            }
            *count += 1;
        }
        true
    }

    fn record(&mut self, record: &Record<'_>) {
        match &record.owner {
            Owner::Question(label) => self.pointer(HEADER + self.question.offset(*label)),
            Owner::Name(name) => self.owner(name),
        }
        self.out.extend_from_slice(&record.data.rtype().to_be_bytes());
        self.out.extend_from_slice(&[0, 1]);
        self.out.extend_from_slice(&record.ttl.to_be_bytes());
        let length_at = self.out.len();
        self.out.extend_from_slice(&[0, 0]);
        self.data(&record.data);
        let length = self.out.len() - length_at - 2;
        put_u16(self.out, length_at, u16::try_from(length).unwrap_or(u16::MAX));
    }

    fn data(&mut self, data: &Data<'_>) {
        match data {
            Data::Address(IpAddr::V4(address)) => self.out.extend_from_slice(&address.octets()),
            Data::Address(IpAddr::V6(address)) => self.out.extend_from_slice(&address.octets()),
            Data::Srv { weight, port, target } => {
                for number in [0, *weight, *port] {
                    self.out.extend_from_slice(&number.to_be_bytes());
                }
                self.targets.push(self.out.len());
                self.name(target);
            }
            Data::Ptr(name) | Data::Cname(name) => self.name(name),
            Data::Ns(name) => {
                self.targets.push(self.out.len());
                self.name(name);
            }
            Data::Txt(text) => {
                self.out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
                self.out.extend(text.bytes().take(255));
            }
            Data::Soa { origin, serial, minimum } => self.soa(origin, [*serial, *minimum]),
        }
    }

    fn soa(&mut self, origin: &[u8], [serial, minimum]: [u32; 2]) {
        for front in [SOA_SERVER, SOA_MAILBOX] {
            self.out.extend_from_slice(front);
            self.origin(origin);
        }
        let [refresh, retry, expire] = SOA_TIMES;
        for number in [serial, refresh, retry, expire, minimum] {
            self.out.extend_from_slice(&number.to_be_bytes());
        }
    }

    /// The zone's name: as a pointer where the question ends in it.
    fn origin(&mut self, origin: &[u8]) {
        let asked = self.question.as_wire();
        match asked.len().checked_sub(origin.len()) {
            Some(offset) if asked[offset..] == *origin => self.pointer(HEADER + offset),
            _ => self.out.extend_from_slice(origin),
        }
    }

    fn name(&mut self, name: &FullName<'_>) {
        for piece in name.pieces() {
            self.out.extend_from_slice(piece);
        }
    }

    /// An owner: as a pointer to the target that it was, else in full.
    fn owner(&mut self, name: &FullName<'_>) {
        while let Some(&at) = self.targets.get(self.next_target) {
            if at < POINTER_REACH && is_at(&self.out[at..], name) {
                return self.pointer(at);
            }
            self.next_target += 1;
        }
        self.name(name);
    }

    fn pointer(&mut self, at: usize) {
        let at = u16::try_from(at).unwrap_or(0);
        self.out.extend_from_slice(&(POINTER | at).to_be_bytes());
    }
}

fn is_at(mut bytes: &[u8], name: &FullName<'_>) -> bool {
    name.pieces().iter().all(|piece| {
        let here = bytes.starts_with(piece);
        bytes = bytes.get(piece.len()..).unwrap_or(&[]);
        here
    })
}
