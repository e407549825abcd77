//! What a lookup says: a response code and records that borrow from the zone.
//!
//! Nothing here knows a wire format or a library's types: two writers (`wire::reply` and `handler`) turn an `Answer` into
//! bytes, and a test holds them to the same result.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::name::Name;

/// Record types by number, as far as this server knows them by name.
#[allow(missing_docs, reason = "the names are the registry's own")]
pub mod rtype {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const MX: u16 = 15;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const OPT: u16 = 41;
    pub const HTTPS: u16 = 65;
    pub const IXFR: u16 = 251;
    pub const AXFR: u16 = 252;
    pub const ANY: u16 = 255;
}

/// A response code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the registry's own")]
pub enum Rcode {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
}

/// What is asked of the zone. The class is always IN.
#[derive(Clone, Debug)]
pub struct Question {
    /// The name, lower-cased.
    pub name: Name,
    /// The record type's number.
    pub rtype: u16,
}

/// An answer from the zone.
#[derive(Clone, Debug)]
pub struct Answer<'z> {
    /// The response code.
    pub rcode: Rcode,
    /// The answer section.
    pub answers: Vec<Record<'z>>,
    /// The authority section: the SOA of a negative answer.
    pub authority: Option<Record<'z>>,
    /// The additional section.
    pub additional: Vec<Record<'z>>,
    /// The CNAME's target outside of the zone, whose records should follow.
    pub chase: Option<Box<Name>>,
}

/// One record.
#[derive(Clone, Debug)]
pub struct Record<'z> {
    /// Whose it is.
    pub owner: Owner<'z>,
    /// For how long it may be kept, in seconds.
    pub ttl: u32,
    /// What it says.
    pub data: Data<'z>,
}

/// The owner of a record.
#[derive(Clone, Debug)]
pub enum Owner<'z> {
    /// The question's name from this label on, in the question's case.
    Question(usize),
    /// Another name.
    Name(FullName<'z>),
}

/// A record's data.
#[derive(Clone, Debug)]
pub enum Data<'z> {
    /// A or AAAA.
    Address(IpAddr),
    /// A service's port. The priority is always 0.
    Srv {
        /// The share of the load.
        weight: u16,
        /// The port's number.
        port: u16,
        /// The host.
        target: FullName<'z>,
    },
    /// The name of an address.
    Ptr(FullName<'z>),
    /// The name that this is an alias of.
    Cname(FullName<'z>),
    /// A name server of the zone.
    Ns(FullName<'z>),
    /// One short text.
    Txt(&'static str),
    /// The zone's head, for negative answers.
    Soa {
        /// The zone's name: the name server is `ns.dns.` and the mailbox `hostmaster.` below it.
        origin: &'z [u8],
        /// Grows with every change.
        serial: u32,
        /// How long a negative answer may be kept.
        minimum: u32,
    },
}

impl Data<'_> {
    /// The record type's number.
    #[must_use]
    pub fn rtype(&self) -> u16 {
        match self {
            Self::Address(IpAddr::V4(_)) => rtype::A,
            Self::Address(IpAddr::V6(_)) => rtype::AAAA,
            Self::Srv { .. } => rtype::SRV,
            Self::Ptr(_) => rtype::PTR,
            Self::Cname(_) => rtype::CNAME,
            Self::Ns(_) => rtype::NS,
            Self::Txt(_) => rtype::TXT,
            Self::Soa { .. } => rtype::SOA,
        }
    }
}

/// The SOA's refresh, retry and expire.
pub(crate) const SOA_TIMES: [u32; 3] = [7200, 1800, 86400];
/// What the SOA's name server has in front of the origin, in wire form.
pub(crate) const SOA_SERVER: &[u8] = b"\x02ns\x03dns";
/// What the SOA's mailbox has in front of the origin, in wire form.
pub(crate) const SOA_MAILBOX: &[u8] = b"\x0ahostmaster";

/// A full name, in the pieces that the index holds: nothing is joined before it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullName<'z> {
    /// A host's label in wire form, or nothing.
    pub(crate) host: Cow<'z, [u8]>,
    /// `service.namespace` in wire form, or nothing.
    pub(crate) service: &'z [u8],
    /// The rest in wire form, with the root.
    pub(crate) rest: Cow<'z, [u8]>,
}

impl FullName<'_> {
    /// The pieces in order; joined they are the name in wire form.
    #[must_use]
    pub fn pieces(&self) -> [&[u8]; 3] {
        [&self.host, self.service, &self.rest]
    }
}

impl std::fmt::Display for FullName<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Name::from_wire(&self.pieces().concat()) {
            Some((name, _)) => name.fmt(f),
            None => f.write_str("?"),
        }
    }
}
