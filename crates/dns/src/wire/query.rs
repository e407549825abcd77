//! Reads a client's packet as far as it is a plain question.
//!
//! Plain is: a standard query, one question of class IN for a type that is no zone transfer, no other records but at most
//! one OPT of version 0, no compression. That is all that resolvers and libraries send; anything else is `Odd`, and hickory's
//! parser has the last word on it. Promises: never panics, never allocates.

use super::{Edns, HEADER, OPT_SIZE, flag, u16_at};
use crate::name::Name;
use crate::zone::{Question, rtype};

/// A packet, judged.
#[derive(Debug)]
pub(crate) enum Packet<'p> {
    /// A plain question.
    Plain(Box<Query<'p>>),
    /// Perhaps a good message, but not a plain question.
    Odd,
    /// A header whose counts no sensible message has: an error in format, without looking further.
    Malformed,
    /// No query at all: not to be answered, lest two servers talk for ever.
    Noise,
}

/// A plain question.
#[derive(Debug)]
pub(crate) struct Query<'p> {
    /// The whole packet.
    pub(crate) packet: &'p [u8],
    /// The name and type asked for.
    pub(crate) question: Question,
    /// Where the question section ends.
    pub(crate) question_end: usize,
    /// What the OPT record says.
    pub(crate) edns: Option<Edns>,
}

impl Query<'_> {
    /// The message's id.
    pub(crate) fn id(&self) -> u16 {
        u16::from_be_bytes([self.packet[0], self.packet[1]])
    }

    /// The flags that a reply repeats.
    pub(crate) fn repeated_flags(&self) -> u16 {
        self.flags() & (flag::RECURSION_DESIRED | flag::CHECKING_DISABLED)
    }

    /// Whether the client checks signatures itself.
    pub(crate) fn checking_disabled(&self) -> bool {
        self.flags() & flag::CHECKING_DISABLED != 0
    }

    /// The question section as it came.
    pub(crate) fn question_bytes(&self) -> &[u8] {
        &self.packet[HEADER..self.question_end]
    }

    fn flags(&self) -> u16 {
        u16::from_be_bytes([self.packet[2], self.packet[3]])
    }
}

/// Judges `packet`.
pub(crate) fn parse(packet: &[u8]) -> Packet<'_> {
    let Some(flags) = u16_at(packet, 2).filter(|_| packet.len() >= HEADER) else { return Packet::Noise };
    if flags & flag::RESPONSE != 0 {
        return Packet::Noise;
    }
    if flags & flag::OPCODE != 0 {
        return Packet::Odd;
    }
    match [4, 6, 8, 10].map(|at| u16_at(packet, at).unwrap_or(0)) {
        [1, 0, 0, additional @ (0 | 1)] => {
            plain(packet, additional == 1).map_or(Packet::Odd, |q| Packet::Plain(Box::new(q)))
        }
        [1, 0..=8, 0..=8, 0..=8] => Packet::Odd,
        _ => Packet::Malformed,
    }
}

fn plain(packet: &[u8], with_opt: bool) -> Option<Query<'_>> {
    let (name, length) = Name::from_wire(&packet[HEADER..])?;
    let at = HEADER + length;
    let (rtype, class) = (u16_at(packet, at)?, u16_at(packet, at + 2)?);
    let question_end = at + 4;
    if class != 1 || matches!(rtype, rtype::AXFR | rtype::IXFR | rtype::OPT) {
        return None;
    }
    let edns = if with_opt { Some(opt(packet.get(question_end..)?)?) } else { None };
    if !with_opt && packet.len() != question_end {
        return None;
    }
    Some(Query { packet, question: Question { name, rtype }, question_end, edns })
}

/// Reads an OPT record of version 0 that fills `bytes`.
fn opt(bytes: &[u8]) -> Option<Edns> {
    let [0, 0, 41, high, low, _, 0, flags, _, length_high, length_low, rest @ ..] = bytes else {
        return None;
    };
    debug_assert!(bytes.len() - rest.len() == OPT_SIZE);
    let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
    let edns = Edns { payload: u16::from_be_bytes([*high, *low]), dnssec_ok: flags & 0x80 != 0 };
    (rest.len() == length && options_are_whole(rest)).then_some(edns)
}

fn options_are_whole(mut options: &[u8]) -> bool {
    while let [_, _, high, low, rest @ ..] = options {
        let Some(next) = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..) else { return false };
        options = next;
    }
    options.is_empty()
}
