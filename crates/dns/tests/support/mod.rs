//! What the tests of the whole server share: a server on loopback, clients, and upstreams that do as they are told.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use prometheus_client::registry::Registry;
use svcd_dns::{Config, ForwardSettings, Handle, Server, Upstreams};
use svcd_svcmap::{Endpoint, Entry, Protocol, Service, ServiceKind, ServiceName, ServicePort, Update};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything here should take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A server that ends with the test.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) handle: Handle,
    pub(crate) registry: Registry,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), svcd_dns::Error>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Settings that wait for a slow machine, where upstreams answer and are counted.
pub(crate) fn patient(upstreams: &[SocketAddr]) -> ForwardSettings {
    ForwardSettings { timeout: PATIENCE, overtake: PATIENCE, deadline: PATIENCE, ..forward(upstreams) }
}

/// Settings that fail fast, where upstreams do not answer.
pub(crate) fn forward(upstreams: &[SocketAddr]) -> ForwardSettings {
    ForwardSettings {
        upstreams: Upstreams::Fixed(upstreams.to_vec()),
        timeout: Duration::from_millis(800),
        overtake: Duration::from_millis(300),
        deadline: Duration::from_millis(1500),
        ..ForwardSettings::default()
    }
}

pub(crate) fn config(forward: ForwardSettings) -> Config {
    Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        service_addresses: vec!["10.96.0.10".parse().unwrap()],
        networks: vec!["10.96.0.0/12".parse().unwrap()],
        threads: 2,
        forward,
        ..Config::default()
    }
}

pub(crate) fn start(config: Config) -> Running {
    let mut registry = Registry::default();
    let server = Server::bind(config, &mut registry).unwrap();
    let (address, handle) = (server.local_addresses()[0], server.handle());
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(server.run(shutdown.clone()));
    Running { address, handle, registry, shutdown, task }
}

/// A server that knows the Service `web.default` and the headless `crowd.default` with 200 endpoints.
pub(crate) fn start_with_services(config: Config) -> Running {
    let running = start(config);
    let crowd = (0..200).map(|n| IpAddr::from([10, 244, 0, n])).collect();
    running.handle.apply(&Update::Reset(vec![
        entry("web", ServiceKind::ClusterIp, vec!["10.96.0.20".parse().unwrap()], Vec::new()),
        entry("crowd", ServiceKind::Headless, Vec::new(), crowd),
        entry("ext", ServiceKind::ExternalName("www.example.org".into()), Vec::new(), Vec::new()),
    ]));
    running.handle.reset_namespaces(["default"]);
    running
}

pub(crate) fn service_name(name: &str) -> ServiceName {
    ServiceName { namespace: "default".into(), name: name.into() }
}

pub(crate) fn entry(
    name: &str,
    kind: ServiceKind,
    cluster_ips: Vec<IpAddr>,
    endpoints: Vec<IpAddr>,
) -> Arc<Entry> {
    let port = ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
    let service = Service { cluster_ips, ports: vec![port], ..Service::new(service_name(name), kind) };
    let endpoint = |address| Endpoint::new(address, 8080);
    let list: Vec<_> = endpoints.into_iter().map(endpoint).collect();
    let endpoints = BTreeMap::from([(("http".into(), Protocol::Tcp), list)]);
    Arc::new(Entry { service, endpoints, portless: Vec::new() })
}

pub(crate) fn question(name: &str, rtype: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), rtype));
    message
}

pub(crate) fn with_edns(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.set_edns(edns);
    message
}

pub(crate) async fn ask_udp(server: SocketAddr, message: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&message.to_vec().unwrap(), server).await.unwrap();
    let mut buffer = vec![0; 65535];
    let length = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await.expect("a reply").unwrap();
    let reply = Message::from_vec(&buffer[..length]).unwrap();
    assert_eq!(reply.metadata.id, message.metadata.id);
    reply
}

pub(crate) async fn ask_tcp(server: SocketAddr, message: &Message) -> Message {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let bytes = message.to_vec().unwrap();
    stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let read = async {
        let mut reply = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut reply).await.unwrap();
        reply
    };
    Message::from_vec(&tokio::time::timeout(PATIENCE, read).await.expect("a reply")).unwrap()
}

pub(crate) async fn ask(server: SocketAddr, name: &str, rtype: RecordType) -> Message {
    ask_udp(server, &question(name, rtype)).await
}

pub(crate) fn data(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

/// What an upstream does with questions.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// Gives this address, with this TTL.
    Address([u8; 4], u32),
    /// Says that there is no such name, with an SOA of this minimum; none without an SOA.
    NoSuchName(Option<u32>),
    /// Fails with this code.
    Code(ResponseCode),
    /// Says nothing.
    Silent,
    /// Gives 3,000 bytes of text: cut over UDP, whole over TCP.
    Long,
    /// An alias and its address, with flags and an OPT in front of another additional record.
    Rich,
    /// First a forged reply with another id, then one to another question, then the true one.
    Forged,
}

/// An upstream on loopback, UDP and TCP at one port.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    asked: Arc<AtomicUsize>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Upstream {
    pub(crate) async fn start(manner: Manner) -> Self {
        let (udp, tcp) = Self::bind().await;
        let address = udp.local_addr().unwrap();
        let (manner, asked) = (Arc::new(Mutex::new(manner)), Arc::new(AtomicUsize::new(0)));
        let by_udp = tokio::spawn(serve_udp(udp, manner.clone(), asked.clone()));
        let by_tcp = tokio::spawn(serve_tcp(tcp, manner.clone()));
        Self { address, manner, asked, tasks: [by_udp, by_tcp] }
    }

    async fn bind() -> (UdpSocket, TcpListener) {
        for _ in 0..16 {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                return (udp, tcp);
            }
        }
        panic!("no port that UDP and TCP can both have")
    }

    /// How many datagrams came.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn change(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }
}

async fn serve_udp(socket: UdpSocket, manner: Arc<Mutex<Manner>>, asked: Arc<AtomicUsize>) {
    let mut buffer = vec![0; 4096];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { return };
        asked.fetch_add(1, Ordering::SeqCst);
        let manner = manner.lock().unwrap().clone();
        for reply in replies(&buffer[..length], &manner, false) {
            socket.send_to(&reply, from).await.unwrap();
        }
    }
}

async fn serve_tcp(listener: TcpListener, manner: Arc<Mutex<Manner>>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { return };
        let Ok(length) = stream.read_u16().await else { continue };
        let mut message = vec![0; usize::from(length)];
        if stream.read_exact(&mut message).await.is_err() {
            continue;
        }
        let manner = manner.lock().unwrap().clone();
        for reply in replies(&message, &manner, true) {
            let length = u16::try_from(reply.len()).unwrap();
            stream.write_all(&[&length.to_be_bytes(), &reply[..]].concat()).await.unwrap();
        }
    }
}

fn replies(bytes: &[u8], manner: &Manner, tcp: bool) -> Vec<Vec<u8>> {
    let asked = Message::from_vec(bytes).unwrap();
    let query = asked.queries[0].clone();
    let mut reply = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
    reply.metadata.recursion_available = true;
    reply.metadata.recursion_desired = asked.metadata.recursion_desired;
    reply.add_query(query.clone());
    let record = |ttl, data| Record::from_rdata(query.name().clone(), ttl, data);
    match manner {
        Manner::Silent => return Vec::new(),
        Manner::Address(address, ttl) => {
            if query.query_type() == RecordType::A {
                reply.add_answer(record(*ttl, address_data(*address)));
            }
        }
        Manner::NoSuchName(minimum) => {
            reply.metadata.response_code = ResponseCode::NXDomain;
            reply.authorities.extend(minimum.map(|minimum| {
                let root = Name::root();
                Record::from_rdata(
                    root.clone(),
                    600,
                    RData::SOA(SOA::new(root.clone(), root, 1, 2, 3, 4, minimum)),
                )
            }));
        }
        Manner::Code(code) => reply.metadata.response_code = *code,
        Manner::Long if tcp => {
            for n in 0..15 {
                reply.add_answer(record(60, RData::TXT(TXT::new(vec![format!("{n:0200}")]))));
            }
        }
        Manner::Long => reply.metadata.truncation = true,
        Manner::Rich => return vec![rich(&asked)],
        Manner::Forged => {
            reply.add_answer(record(60, address_data([192, 0, 2, 1])));
            let mut other_id = reply.clone();
            other_id.metadata.id ^= 1;
            other_id.answers[0].data = address_data([203, 0, 113, 66]);
            let mut other_question = other_id.clone();
            other_question.metadata.id = reply.metadata.id;
            other_question.queries[0] =
                Query::query(Name::from_ascii("other.example.").unwrap(), RecordType::A);
            return [other_id, other_question, reply]
                .iter()
                .map(|message| message.to_vec().unwrap())
                .collect();
        }
    }
    vec![reply.to_vec().unwrap()]
}

/// AD set, an alias, an unknown type, the OPT not at the end.
fn rich(asked: &Message) -> Vec<u8> {
    let mut out = asked.metadata.id.to_be_bytes().to_vec();
    out.extend_from_slice(&[0x81, 0xa0, 0, 1, 0, 3, 0, 0, 0, 2]);
    for label in asked.queries[0].name().iter() {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend_from_slice(label);
    }
    out.extend_from_slice(&[0, 0, 1, 0, 1]);
    // The owner CNAME real.example; it has an address and a record of type 65280.
    let target = b"\x04real\x07example\0";
    out.extend_from_slice(&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, u8::try_from(target.len()).unwrap()]);
    let target_at = u8::try_from(out.len()).unwrap();
    out.extend_from_slice(target);
    out.extend_from_slice(&[0xc0, target_at, 0, 1, 0, 1, 0, 0, 0, 50, 0, 4, 192, 0, 2, 77]);
    out.extend_from_slice(&[0xc0, target_at, 0xff, 0, 0, 1, 0, 0, 0, 40, 0, 3, 1, 2, 3]);
    out.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&[0xc0, target_at, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 192, 0, 2, 78]);
    out
}

fn address_data(octets: [u8; 4]) -> RData {
    RData::from(IpAddr::from(octets))
}
