//! hickory, and everything of it that this crate uses: its server's trait for TCP and odd packets, and its parser for messages
//! that need taking apart.
//!
//! hickory's traits change between its versions; nothing outside of this file and the listening in `server` names them. The
//! handler answers completely by itself, so that it must say the same as the short way (`fast`).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use hickory_proto::op::{Edns, Header, HeaderCounts, Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::name::{CNAME, NS, PTR};
use hickory_proto::rr::rdata::{SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name as HickoryName, RData, Record as HickoryRecord, RecordType};
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::NetError;
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::{MessageResponse, MessageResponseBuilder};

use crate::core::Core;
use crate::forward::{Ask, Outcome, aged};
use crate::metrics::{Served, Side, Way};
use crate::name::Name;
use crate::wire::{self, OPT_SIZE, OUR_PAYLOAD};
use crate::zone::{
    Answer, Data, FullName, Owner, Question, Rcode, Record, SOA_MAILBOX, SOA_SERVER, SOA_TIMES,
};

/// Answers requests that hickory has parsed.
#[derive(Clone, Debug)]
pub(crate) struct Handler {
    core: Arc<Core>,
}

/// A response in hickory's terms.
#[derive(Default)]
struct Sections {
    rcode: ResponseCode,
    authoritative: bool,
    authentic: bool,
    truncated: bool,
    answers: Vec<HickoryRecord>,
    authority: Vec<HickoryRecord>,
    additional: Vec<HickoryRecord>,
}

impl Handler {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// What to say, and about whose names.
    async fn sections(&self, request: &Request) -> (Side, Sections) {
        let (query, edns) = match (request.metadata.op_code, request.queries.queries(), &request.edns) {
            (OpCode::Query, [query], edns) => (query, edns),
            (OpCode::Query, _, _) => return (Side::Outside, Sections::failure(ResponseCode::FormErr)),
            _ => return (Side::Outside, Sections::failure(ResponseCode::NotImp)),
        };
        if edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return (Side::Outside, Sections::failure(ResponseCode::BADVERS));
        }
        let transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
        if query.query_class() != DNSClass::IN || transfer {
            return (Side::Outside, Sections::failure(ResponseCode::Refused));
        }
        let original = query.original();
        let Some(name) = Name::from_labels(original.name().iter()) else {
            return (Side::Outside, Sections::failure(ResponseCode::FormErr));
        };
        let question = Question { name, rtype: query.query_type().into() };
        let ask = |name: Name, written: &HickoryName| Ask {
            question: question_bytes(written, question.rtype),
            name,
            rtype: question.rtype,
            checking_disabled: request.metadata.checking_disabled,
            dnssec_ok: edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok),
        };
        let Some((mut sections, chase)) = self.in_zone(&question, original.name(), request.metadata.id)
        else {
            let outcome = self.core.forwarder.resolve(ask(question.name.clone(), original.name())).await;
            return (Side::Outside, Sections::of_outcome(&outcome));
        };
        if let Some(target) = chase {
            let written = hickory_name(&[target.as_wire()]);
            let followed = Sections::of_outcome(&self.core.forwarder.resolve(ask(*target, &written)).await);
            sections.answers.extend(followed.answers);
        }
        (Side::Cluster, sections)
    }

    /// The zone's answer, and the name to be followed; none for names outside of the zone.
    fn in_zone(
        &self,
        question: &Question,
        asked: &HickoryName,
        id: u16,
    ) -> Option<(Sections, Option<Box<Name>>)> {
        let zone = self.core.zone();
        let mut answer = zone.lookup(question, id.into())?;
        let chase = answer.chase.take();
        Some((Sections::of_answer(&answer, asked), chase))
    }

    fn count(&self, request: &Request, side: Side, rcode: ResponseCode, begun: Instant) {
        let rtype = request.queries.queries().first().map_or(0, |query| query.query_type().into());
        let way = Way { tcp: request.protocol() != Protocol::Udp, v6: request.src().is_ipv6() };
        self.core.metrics.served(way, Served { side, rtype, rcode: rcode.into() }, begun.elapsed());
    }
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut respond: R,
    ) -> ResponseInfo {
        let begun = Instant::now();
        let (side, sections) = self.sections(request).await;
        self.count(request, side, sections.rcode, begun);
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.recursion_available = true;
        metadata.authoritative = sections.authoritative;
        metadata.authentic_data = sections.authentic;
        metadata.truncation = sections.truncated;
        metadata.response_code = sections.rcode;
        let edns = request.edns.as_ref().map(our_edns);
        let mut builder = MessageResponseBuilder::from_message_request(request);
        // Over UDP the OPT is added by `Datagram`, for which it must not fall victim to the size.
        if let Some(edns) = edns.as_ref().filter(|_| request.protocol() != Protocol::Udp) {
            builder.edns(edns);
        }
        let none: [HickoryRecord; 0] = [];
        let response =
            builder.build(metadata, &sections.answers, &sections.authority, &none, &sections.additional);
        match respond.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, client = %request.src(), "DNS reply not sent");
                ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
            }
        }
    }
}

impl Sections {
    fn failure(rcode: ResponseCode) -> Self {
        Self { rcode, ..Self::default() }
    }

    fn of_answer(answer: &Answer<'_>, asked: &HickoryName) -> Self {
        let records =
            |records: &[Record<'_>]| records.iter().map(|record| hickory_record(record, asked)).collect();
        Self {
            rcode: ResponseCode::from_low(answer.rcode as u8),
            authoritative: answer.rcode != Rcode::ServFail,
            answers: records(&answer.answers),
            authority: records(answer.authority.as_slice()),
            additional: records(&answer.additional),
            ..Self::default()
        }
    }

    fn of_outcome(outcome: &Outcome) -> Self {
        let (message, age) = match outcome {
            Outcome::Reply(message, age) => (message, *age),
            Outcome::Failure(rcode) => return Self::failure(ResponseCode::from_low(*rcode as u8)),
        };
        let Ok(parsed) = Message::from_vec(&message.bytes_aged(aged(age))) else {
            return Self::failure(ResponseCode::ServFail);
        };
        Self {
            rcode: ResponseCode::from((message.rcode() >> 4) as u8, (message.rcode() & 15) as u8),
            authoritative: parsed.metadata.authoritative,
            authentic: parsed.metadata.authentic_data,
            truncated: parsed.metadata.truncation,
            answers: parsed.answers,
            authority: parsed.authorities,
            additional: parsed.additionals,
        }
    }
}

/// The reply to a datagram, by way of hickory; none when it is not to be answered.
pub(crate) async fn datagram(core: &Arc<Core>, packet: Vec<u8>, from: SocketAddr) -> Option<Vec<u8>> {
    let header: [u8; 4] = packet.get(..4)?.try_into().ok()?;
    let Ok(request) = Request::from_bytes(packet, from, Protocol::Udp) else {
        let mut out = Vec::new();
        wire::reply::write_format_error(&header, &mut out);
        return Some(out);
    };
    if request.metadata.message_type == MessageType::Response {
        return None;
    }
    let edns = request.edns.as_ref();
    let asked =
        edns.map(|edns| wire::Edns { payload: edns.max_payload(), dnssec_ok: edns.flags().dnssec_ok });
    let reply = Datagram { edns: asked, out: Arc::default() };
    Handler::new(Arc::clone(core))
        .handle_request::<_, hickory_server::net::runtime::TokioTime>(&request, reply.clone())
        .await;
    let mut out = reply.out.lock().unwrap_or_else(PoisonError::into_inner);
    Some(std::mem::take(&mut *out)).filter(|out| !out.is_empty())
}

/// Takes a response as a datagram for a client that said `edns`.
#[derive(Clone)]
struct Datagram {
    edns: Option<wire::Edns>,
    out: Arc<Mutex<Vec<u8>>>,
}

#[async_trait]
impl ResponseHandler for Datagram {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a HickoryRecord> + Send + 'a,
            impl Iterator<Item = &'a HickoryRecord> + Send + 'a,
            impl Iterator<Item = &'a HickoryRecord> + Send + 'a,
            impl Iterator<Item = &'a HickoryRecord> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let room = wire::datagram_limit(self.edns) - self.edns.map_or(0, |_| OPT_SIZE);
        let high = response.metadata().response_code.high();
        let mut bytes = Vec::with_capacity(512);
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(u16::try_from(room).unwrap_or(u16::MAX));
        let info = response.destructive_emit(&mut encoder)?;
        // A record that did not fit is rolled back by the offset only: its bytes are still there.
        encoder.trim();
        if let Some(edns) = self.edns {
            wire::put_u16(&mut bytes, 10, info.counts().additionals + 1);
            wire::push_opt(&mut bytes, edns, high);
        }
        *self.out.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
        Ok(info)
    }
}

/// The message without its OPT record, written anew.
pub(crate) fn without_edns(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut message = Message::from_vec(bytes).ok()?;
    message.edns = None;
    message.metadata.response_code = ResponseCode::from_low(message.metadata.response_code.low());
    message.to_vec().ok()
}

fn our_edns(theirs: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(OUR_PAYLOAD).set_version(0).set_dnssec_ok(theirs.flags().dnssec_ok);
    edns
}

/// A question section for `name`, as it is written.
fn question_bytes(name: &HickoryName, rtype: u16) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(name.len() + 5);
    for label in name.iter() {
        bytes.push(u8::try_from(label.len()).unwrap_or(0));
        bytes.extend_from_slice(label);
    }
    bytes.push(0);
    bytes.extend_from_slice(&rtype.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    bytes.into_boxed_slice()
}

fn hickory_record(record: &Record<'_>, asked: &HickoryName) -> HickoryRecord {
    let owner = match &record.owner {
        // Not `trim_to`: it does not count a label that is a star.
        Owner::Question(label) => HickoryName::from_labels(asked.iter().skip(*label)).unwrap_or_default(),
        Owner::Name(name) => full_name(name),
    };
    HickoryRecord::from_rdata(owner, record.ttl, hickory_data(&record.data))
}

fn hickory_data(data: &Data<'_>) -> RData {
    match data {
        Data::Address(address) => RData::from(*address),
        Data::Srv { weight, port, target } => RData::SRV(SRV::new(0, *weight, *port, full_name(target))),
        Data::Ptr(name) => RData::PTR(PTR(full_name(name))),
        Data::Cname(name) => RData::CNAME(CNAME(full_name(name))),
        Data::Ns(name) => RData::NS(NS(full_name(name))),
        Data::Txt(text) => RData::TXT(TXT::new(vec![(*text).to_owned()])),
        Data::Soa { origin, serial, minimum } => {
            let [server, mailbox] = [SOA_SERVER, SOA_MAILBOX].map(|front| hickory_name(&[front, origin]));
            let [refresh, retry, expire] = SOA_TIMES.map(u32::cast_signed);
            RData::SOA(SOA::new(server, mailbox, *serial, refresh, retry, expire, *minimum))
        }
    }
}

fn full_name(name: &FullName<'_>) -> HickoryName {
    hickory_name(&name.pieces())
}

/// A name from pieces of its wire form. They come from the index or a parsed question, so that they always make one.
fn hickory_name(pieces: &[&[u8]]) -> HickoryName {
    let wire = pieces.concat();
    let name = Name::from_wire(&wire).and_then(|(name, _)| HickoryName::from_labels(name.labels()).ok());
    name.unwrap_or_default()
}
