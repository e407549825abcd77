//! The short way: from a packet's bytes to a reply's bytes, without a task and almost without an allocation.
//!
//! Takes plain questions that the zone or the cache can answer at once. Everything else becomes a `Job` for the runtime:
//! outside names to be asked for, and odd packets, which go to hickory. Must say what `handler` says: a test compares them.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::core::Core;
use crate::forward::Ask;
use crate::handler;
use crate::metrics::{Served, Side};
use crate::wire::query::{Packet, Query, parse};
use crate::wire::{datagram_limit, flag, reply, u16_at};
use crate::zone::Zone;

/// What became of a packet.
#[derive(Debug)]
pub(crate) enum Step {
    /// The reply is written.
    Reply(Option<Served>),
    /// The reply needs time.
    Later(Job),
    /// There is to be no reply.
    Nothing,
}

/// A packet that cannot be answered at once.
#[derive(Debug)]
pub(crate) struct Job {
    packet: Vec<u8>,
    kind: JobKind,
}

#[derive(Debug)]
enum JobKind {
    Forward(Box<Ask>),
    Odd,
}

/// Answers `packet` into `out`, if that can be done at once.
pub(crate) fn step(core: &Core, zone: &Zone, packet: &[u8], out: &mut Vec<u8>) -> Step {
    let query = match parse(packet) {
        Packet::Plain(query) => query,
        Packet::Odd => return Step::Later(Job { packet: packet.to_vec(), kind: JobKind::Odd }),
        Packet::Malformed => {
            reply::write_format_error(packet, out);
            return Step::Reply(None);
        }
        Packet::Noise => return Step::Nothing,
    };
    let limit = datagram_limit(query.edns);
    match zone.lookup(&query.question, query.id().into()) {
        Some(answer) if answer.chase.is_none() => {
            reply::write(&query, &answer, limit, out);
            Step::Reply(Some(served(&query, Side::Cluster, out)))
        }
        Some(_) => Step::Later(Job { packet: packet.to_vec(), kind: JobKind::Odd }),
        None => match core.forwarder.cached(&query) {
            Some(outcome) => {
                outcome.write(&query, limit, out);
                Step::Reply(Some(served(&query, Side::Outside, out)))
            }
            None => Step::Later(Job {
                packet: packet.to_vec(),
                kind: JobKind::Forward(Box::new(Ask::of(&query))),
            }),
        },
    }
}

impl Job {
    /// Does what is left to do. What comes is the reply, and what to count where nobody did yet.
    pub(crate) async fn run(self, core: &Arc<Core>, from: SocketAddr) -> Option<(Vec<u8>, Option<Served>)> {
        match self.kind {
            JobKind::Odd => Some((handler::datagram(core, self.packet, from).await?, None)),
            JobKind::Forward(ask) => {
                let outcome = core.forwarder.resolve(*ask).await;
                let Packet::Plain(query) = parse(&self.packet) else { return None };
                let mut out = Vec::with_capacity(512);
                outcome.write(&query, datagram_limit(query.edns), &mut out);
                let served = served(&query, Side::Outside, &out);
                Some((out, Some(served)))
            }
        }
    }
}

fn served(query: &Query<'_>, side: Side, out: &[u8]) -> Served {
    let rcode = u16_at(out, 2).unwrap_or(0) & flag::RCODE;
    Served { side, rtype: query.question.rtype, rcode }
}
