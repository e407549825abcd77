//! DNS messages as bytes, for the paths where every nanosecond and every bit counts.
//!
//! `query` reads plain questions, `reply` writes answers of the zone, `message` takes apart what upstreams say and writes it
//! on unchanged but for what is the client's own. What is not plain goes to hickory (`handler`).

pub(crate) mod message;
pub(crate) mod query;
pub(crate) mod reply;

/// The size of a message's header.
pub(crate) const HEADER: usize = 12;
/// The size of an OPT record without options.
pub(crate) const OPT_SIZE: usize = 11;
/// The payload that we say we take over UDP: what fits into every path's packets (DNS flag day 2020).
pub(crate) const OUR_PAYLOAD: u16 = 1232;
/// The longest datagram that we send, whatever a client says it takes.
pub(crate) const MAX_DATAGRAM: u16 = 4096;
/// What a client without EDNS takes.
pub(crate) const PLAIN_DATAGRAM: u16 = 512;

/// Header flags, as the two bytes after the id.
pub(crate) mod flag {
    pub(crate) const RESPONSE: u16 = 0x8000;
    pub(crate) const OPCODE: u16 = 0x7800;
    pub(crate) const AUTHORITATIVE: u16 = 0x0400;
    pub(crate) const TRUNCATED: u16 = 0x0200;
    pub(crate) const RECURSION_DESIRED: u16 = 0x0100;
    pub(crate) const RECURSION_AVAILABLE: u16 = 0x0080;
    pub(crate) const AUTHENTIC: u16 = 0x0020;
    pub(crate) const CHECKING_DISABLED: u16 = 0x0010;
    pub(crate) const RCODE: u16 = 0x000f;
}

/// What a client says in its OPT record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edns {
    /// The longest datagram it takes.
    pub(crate) payload: u16,
    /// Whether it wants DNSSEC's records.
    pub(crate) dnssec_ok: bool,
}

/// The longest datagram to send to a client who said `edns`.
pub(crate) fn datagram_limit(edns: Option<Edns>) -> usize {
    usize::from(edns.map_or(PLAIN_DATAGRAM, |edns| edns.payload.clamp(PLAIN_DATAGRAM, MAX_DATAGRAM)))
}

/// Appends our OPT record.
pub(crate) fn push_opt(out: &mut Vec<u8>, edns: Edns, high_rcode: u8) {
    let payload = OUR_PAYLOAD.to_be_bytes();
    let flags = if edns.dnssec_ok { 0x80 } else { 0 };
    out.extend_from_slice(&[0, 0, 41, payload[0], payload[1], high_rcode, 0, flags, 0, 0, 0]);
}

/// The two bytes at `at`.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]))
}

/// The four bytes at `at`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}

/// Overwrites the two bytes at `at`.
pub(crate) fn put_u16(out: &mut [u8], at: usize, value: u16) {
    out[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
