//! The two ways through the server say the same, and neither panics at anything.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::op::{Message, ResponseCode};
use prometheus_client::registry::Registry;
use proptest::prelude::*;

use crate::core::Core;
use crate::fast::{Step, step};
use crate::fixture::{packet, zone};
use crate::forward::{ForwardSettings, Upstreams};
use crate::handler;
use crate::metrics::Metrics;
use crate::wire::message;
use crate::zone::table::questions;

fn core() -> Arc<Core> {
    let forward = ForwardSettings { upstreams: Upstreams::Fixed(Vec::new()), ..ForwardSettings::default() };
    Core::new(zone(), forward, Vec::new(), Metrics::new("cluster.local.", &mut Registry::default()))
}

fn client() -> SocketAddr {
    "127.0.0.1:5000".parse().unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// What the server as a whole says to a datagram.
async fn whole(core: &Arc<Core>, packet: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let next = step(core, &core.zone(), packet, &mut out);
    match next {
        Step::Reply(_) => Some(out),
        Step::Nothing => None,
        Step::Later(job) => job.run(core, client()).await.map(|(reply, _)| reply),
    }
}

fn parsed(bytes: &[u8]) -> Message {
    Message::from_vec(bytes).unwrap_or_else(|error| panic!("{error}: {bytes:02x?}"))
}

#[tokio::test]
async fn both_ways_say_the_same() {
    let core = core();
    let more =
        ["A many.default.svc", "SRV many.default.svc", "SRV _http._tcp.many.default.svc", "A ExAmPle.org."];
    for asked in questions().chain(more) {
        for payload in [None, Some(100), Some(1232), Some(4096), Some(65535)] {
            for id in [0, 7] {
                let packet = packet(asked, id, payload);
                let by_hand = whole(&core, &packet).await.expect("a reply");
                let by_hickory = handler::datagram(&core, packet.clone(), client()).await.expect("a reply");
                let limit = payload.map_or(512, |payload| usize::from(payload).clamp(512, 4096));
                compare(asked, &packet, (&by_hand, &by_hickory), limit);
            }
        }
    }
}

fn compare(asked: &str, packet: &[u8], (by_hand, by_hickory): (&[u8], &[u8]), limit: usize) {
    assert!(
        by_hand.len() <= limit && by_hickory.len() <= limit,
        "{asked}: {} {}",
        by_hand.len(),
        by_hickory.len()
    );
    let question = Message::from_vec(packet).unwrap().queries[0].clone();
    let question_length = packet.len() - 12 - if packet[11] == 1 { 11 } else { 0 };
    for bytes in [by_hand, by_hickory] {
        assert_eq!(
            bytes[12..12 + question_length],
            packet[12..12 + question_length],
            "{asked}: the question's case"
        );
    }
    let (hand, hickory) = (parsed(by_hand), parsed(by_hickory));
    assert!(hand.queries[0].name().eq_case(question.name()), "{asked}");
    assert_eq!(hand.metadata, hickory.metadata, "{asked}");
    assert_eq!(hand.edns, hickory.edns, "{asked}");
    assert_eq!(hand.edns.is_some(), packet[11] == 1, "{asked}");
    if hand.metadata.truncation {
        // How many records fit depends on how well names are compressed; what is there must be the beginning.
        let (some, more) = (&hand.answers, &hickory.answers);
        let common = some.len().min(more.len());
        assert_eq!(some[..common], more[..common], "{asked}");
        return;
    }
    assert_eq!(hand.answers, hickory.answers, "{asked}");
    assert_eq!(hand.authorities, hickory.authorities, "{asked}");
    assert_eq!(hand.additionals, hickory.additionals, "{asked}");
    let owners =
        |message: &Message| message.all_sections().map(|record| record.name.to_string()).collect::<Vec<_>>();
    assert_eq!(owners(&hand), owners(&hickory), "{asked}: the owners' case");
}

#[tokio::test]
async fn long_answers_are_cut_and_marked() {
    let core = core();
    let cut = parsed(&whole(&core, &packet("A many.default.svc", 1, None)).await.unwrap());
    assert!(cut.metadata.truncation && (20..120).contains(&cut.answers.len()), "{}", cut.answers.len());
    let full = parsed(&whole(&core, &packet("A many.default.svc", 1, Some(4096))).await.unwrap());
    assert!(!full.metadata.truncation);
    let distinct: BTreeSet<_> = full.answers.iter().map(|record| record.data.to_string()).collect();
    assert_eq!(distinct.len(), 120);
}

#[tokio::test]
async fn odd_packets_get_the_right_refusal() {
    let core = core();
    let plain = packet("A web.default.svc", 9, Some(1232));
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = plain.clone();
        change(&mut packet);
        packet
    };
    let class_at = plain.len() - 12;
    let type_at = plain.len() - 14;
    let opt_version_at = plain.len() - 5;
    let cases: [(&str, Vec<u8>, Option<ResponseCode>); 12] = [
        ("status opcode", changed(&|p| p[2] = 0x10), Some(ResponseCode::NotImp)),
        ("update opcode", changed(&|p| p[2] = 0x28), Some(ResponseCode::NotImp)),
        ("two questions", changed(&|p| p[5] = 2), Some(ResponseCode::FormErr)),
        ("no question", changed(&|p| p[5] = 0), Some(ResponseCode::FormErr)),
        ("many questions", changed(&|p| p[4] = 0xff), Some(ResponseCode::FormErr)),
        ("many records", changed(&|p| p[8] = 0xff), Some(ResponseCode::FormErr)),
        ("cut short", changed(&|p| p.truncate(20)), Some(ResponseCode::FormErr)),
        ("class CHAOS", changed(&|p| p[class_at] = 3), Some(ResponseCode::Refused)),
        ("zone transfer", changed(&|p| p[type_at] = 252), Some(ResponseCode::Refused)),
        ("EDNS version 1", changed(&|p| p[opt_version_at] = 1), Some(ResponseCode::BADVERS)),
        ("a response", changed(&|p| p[2] |= 0x80), None),
        ("less than a header", changed(&|p| p.truncate(11)), None),
    ];
    for (what, packet, expected) in cases {
        let reply = whole(&core, &packet).await.map(|reply| parsed(&reply));
        let rcode = reply.as_ref().map(|reply| u16::from(reply.metadata.response_code));
        assert_eq!(rcode, expected.map(u16::from), "{what}");
        assert!(reply.is_none_or(|reply| reply.metadata.id == 9), "{what}");
    }
}

#[tokio::test]
async fn flags_come_back_as_they_should() {
    let core = core();
    let mut asked = packet("A web.default.svc", 3, None);
    asked[3] |= 0x10;
    let reply = parsed(&whole(&core, &asked).await.unwrap()).metadata;
    assert!(
        reply.authoritative
            && reply.recursion_available
            && reply.recursion_desired
            && reply.checking_disabled
    );
    assert!(!reply.authentic_data && !reply.truncation);
    asked[2] = 0;
    assert!(!parsed(&whole(&core, &asked).await.unwrap()).metadata.recursion_desired);
}

#[tokio::test]
async fn outside_names_fail_at_once_without_upstreams() {
    let core = core();
    for asked in ["A example.org.", "PTR 1.2.0.192.in-addr.arpa."] {
        let reply = parsed(&whole(&core, &packet(asked, 1, None)).await.unwrap());
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    }
    let alias = parsed(&whole(&core, &packet("A ext.default.svc", 1, None)).await.unwrap());
    assert_eq!(alias.metadata.response_code, ResponseCode::NoError, "the alias stands without its target");
    assert_eq!(alias.answers.len(), 1);
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let core = core();
        if let Some(reply) = runtime().block_on(whole(&core, &bytes)) {
            prop_assert!(reply.len() >= 12 && reply[2] & 0x80 != 0 && reply[..2] == bytes[..2]);
        }
        let _ = message::Message::new(bytes, handler::without_edns);
    }

    #[test]
    fn changed_packets_never_panic(
        which in 0_usize..80,
        edns in prop::option::of(any::<u16>()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let core = core();
        let mut bytes = packet(questions().nth(which).unwrap(), 5, edns);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Some(reply) = runtime().block_on(whole(&core, &bytes)) {
            prop_assert!(reply.len() >= 12 && reply[..2] == bytes[..2]);
            // And what upstreams send is taken apart as fearlessly.
            if let Some(message) = message::Message::new(reply, handler::without_edns) {
                message.bytes_aged(|ttl| ttl);
            }
        }
    }
}
