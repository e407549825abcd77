//! UDP has no connections, but the kernel tracks flows all the same: a client that keeps its socket would go on
//! reaching an endpoint that is gone, for as long as it keeps sending. So after a change flows to whom nobody would be
//! sent any more are deleted, and only those: flows of endpoints that still answer, and of a restarted proxy, live on.
//!
//! Speaks CTNETLINK by hand: one dump, one deletion for each stale flow.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use svcd_svcmap::{Family, Protocol};

use crate::ServicePlan;

const UDP: u8 = 17;
/// `NFNL_SUBSYS_CTNETLINK << 8` and the two messages used.
const GET: u16 = 0x0101;
const DELETE: u16 = 0x0102;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ZONE: u16 = 18;
/// `nlmsghdr` and `nfgenmsg`.
const HEADERS: usize = 16 + 4;

/// Where a flow was sent to by its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Front {
    Address(SocketAddr),
    NodePort(bool, u16),
}

/// The UDP fronts of some Services, each with the endpoints that still answer for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fronts(BTreeMap<Front, BTreeSet<SocketAddr>>);

impl Fronts {
    /// Adds the fronts of a plan that no longer holds: nobody answers there, unless a later [`Self::add`] says so.
    pub(crate) fn withdraw(&mut self, plan: &ServicePlan) {
        for (front, _) in fronts(plan) {
            self.0.entry(front).or_default();
        }
    }

    /// Adds the fronts of a plan that holds.
    pub(crate) fn add(&mut self, plan: &ServicePlan) {
        for (front, answering) in fronts(plan) {
            self.0.entry(front).or_default().extend(answering);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a flow leads to somebody who does not answer for its front.
    fn is_stale(&self, flow: &Flow) -> bool {
        let front = Front::Address(flow.to);
        if let Some(answering) = self.0.get(&front) {
            return !answering.contains(&flow.answered_by);
        }
        // To a port of the node only if it was translated; the node's own services have flows too.
        let node_port = self.0.get(&Front::NodePort(flow.to.is_ipv4(), flow.to.port()));
        node_port
            .is_some_and(|answering| flow.to != flow.answered_by && !answering.contains(&flow.answered_by))
    }
}

fn fronts(plan: &ServicePlan) -> impl Iterator<Item = (Front, &[SocketAddr])> {
    let ports = plan.ports.iter().filter(|port| port.protocol == Protocol::Udp);
    ports.flat_map(|port| {
        let addresses = port.cluster_ips.iter().chain(&port.external_ips).chain(&port.load_balancer_ips);
        let addresses = addresses.map(|ip| Front::Address(SocketAddr::new(*ip, port.port)));
        let node_port = port.node_port.map(|number| Front::NodePort(port.family == Family::V4, number));
        addresses.chain(node_port).map(|front| (front, port.answering.as_slice()))
    })
}

/// Deletes the stale flows of these fronts; returns how many.
pub(crate) fn clean(fronts: &Fronts) -> io::Result<usize> {
    let mut deleted = 0;
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let socket = Socket::open()?;
        let stale: Vec<Flow> =
            socket.dump(family as u8)?.into_iter().filter(|flow| fronts.is_stale(flow)).collect();
        for flow in stale {
            deleted += usize::from(socket.delete(family as u8, &flow)?);
        }
    }
    Ok(deleted)
}

#[derive(Debug, PartialEq, Eq)]
struct Flow {
    /// Where its client sent it.
    to: SocketAddr,
    /// Who it really goes to.
    answered_by: SocketAddr,
    /// The attributes that name it to the kernel, as they came.
    name: Vec<u8>,
}

struct Socket(OwnedFd);

impl Socket {
    fn open() -> io::Result<Self> {
        let protocol = SockProtocol::NetlinkNetFilter;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        // The kernel answers at once; this only bounds a surprise.
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(5, 0))?;
        Ok(Self(fd))
    }

    fn send(&self, kind: u16, flags: u16, family: u8, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(HEADERS + body.len()).map_err(io::Error::other)?;
        let mut message = Vec::with_capacity(HEADERS + body.len());
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((REQUEST | flags).to_ne_bytes());
        message.extend([0; 8]);
        message.extend([family, 0, 0, 0]);
        message.extend(body);
        send(self.0.as_raw_fd(), &message, MsgFlags::empty())?;
        Ok(())
    }

    fn dump(&self, family: u8) -> io::Result<Vec<Flow>> {
        self.send(GET, DUMP, family, &[])?;
        let mut flows = Vec::new();
        let mut buffer = vec![0; 1 << 18];
        loop {
            let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            for (kind, body) in messages(&buffer[..length]) {
                match kind {
                    DONE => return Ok(flows),
                    ERROR => return Err(error(body)),
                    _ => flows.extend(body.get(4..).and_then(flow)),
                }
            }
        }
    }

    /// False when it was gone already.
    fn delete(&self, family: u8, flow: &Flow) -> io::Result<bool> {
        self.send(DELETE, ACK, family, &flow.name)?;
        let mut buffer = vec![0; 1 << 12];
        let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let answer = messages(&buffer[..length]).next().map(|(_, body)| error(body));
        match answer {
            Some(error) if error.raw_os_error() == Some(0) => Ok(true),
            Some(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Some(error) => Err(error),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// The number in an error message, 0 for an acknowledgement.
fn error(body: &[u8]) -> io::Error {
    let number = body.first_chunk::<4>().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    io::Error::from_raw_os_error(number.wrapping_neg())
}

/// Splits what was received into messages: type and body.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk::<4>()?) as usize;
        let kind = u16::from_ne_bytes([*bytes.get(4)?, *bytes.get(5)?]);
        let body = bytes.get(16..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// Splits attributes: type (without its flags), value, and the whole of it.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8], &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk::<2>()?));
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]) & 0x3fff;
        let value = bytes.get(4..length)?;
        let whole = &bytes[..length.next_multiple_of(4).min(bytes.len())];
        bytes = &bytes[whole.len()..];
        Some((kind, value, whole))
    })
}

fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, ..)| *kind == wanted).map(|(_, value, _)| value)
}

/// A UDP flow; `None` for other protocols and shapes.
fn flow(bytes: &[u8]) -> Option<Flow> {
    let (_, to) = tuple(attribute(bytes, TUPLE_ORIGINAL)?)?;
    let (answered_by, _) = tuple(attribute(bytes, TUPLE_REPLY)?)?;
    let named = attributes(bytes).filter(|(kind, ..)| matches!(*kind, TUPLE_ORIGINAL | ZONE));
    Some(Flow { to, answered_by, name: named.flat_map(|(_, _, whole)| whole.iter().copied()).collect() })
}

/// Source and destination of one direction.
fn tuple(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (ip, proto) = (attribute(bytes, 1)?, attribute(bytes, 2)?);
    if attribute(proto, 1)? != [UDP] {
        return None;
    }
    let address = |v4, v6| attribute(ip, v4).or_else(|| attribute(ip, v6)).and_then(address);
    let port = |kind| attribute(proto, kind)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
    Some((SocketAddr::new(address(1, 3)?, port(2)?), SocketAddr::new(address(2, 4)?, port(3)?)))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
        16 => Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(to: &str, answered_by: &str) -> Flow {
        Flow { to: to.parse().unwrap(), answered_by: answered_by.parse().unwrap(), name: Vec::new() }
    }

    #[test]
    fn flows_to_whoever_does_not_answer_are_stale() {
        let set =
            |text: &str| text.split_whitespace().map(|one| one.parse().unwrap()).collect::<BTreeSet<_>>();
        let fronts = Fronts(BTreeMap::from([
            (Front::Address("10.96.0.7:53".parse().unwrap()), set("10.0.0.1:5353")),
            (Front::Address("10.96.0.8:53".parse().unwrap()), set("")),
            (Front::NodePort(true, 30053), set("10.0.0.1:5353")),
        ]));
        #[rustfmt::skip]
        let table = [
            ("10.96.0.7:53", "10.0.0.1:5353", false),
            ("10.96.0.7:53", "10.0.0.2:5353", true),
            ("10.96.0.7:53", "10.96.0.7:53", true), // from before there were rules
            ("10.96.0.7:54", "10.0.0.2:5353", false),
            ("10.96.0.8:53", "10.0.0.1:5353", true),
            ("192.168.0.1:30053", "10.0.0.1:5353", false),
            ("192.168.0.1:30053", "10.0.0.2:5353", true),
            ("192.168.0.1:30053", "192.168.0.1:30053", false), // somebody else's, untranslated
            ("[fd00::1]:30053", "[fd00::2]:5353", false),
        ];
        for (to, answered_by, stale) in table {
            assert_eq!(fronts.is_stale(&flow(to, answered_by)), stale, "{to} {answered_by}");
        }
    }

    proptest::proptest! {
        /// Whatever comes from the kernel, reading it ends, and without a panic.
        #[test]
        fn any_bytes_can_be_read(bytes: Vec<u8>) {
            let _ = super::flow(&bytes);
            for (_, body) in messages(&bytes) {
                let _ = super::flow(body);
            }
        }
    }
}
