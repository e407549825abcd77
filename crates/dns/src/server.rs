//! The server: sockets, threads, and the handle by which the zone is fed.
//!
//! Promises: everything is bound before anything is answered, or nothing is; an address not there yet can be bound
//! (IP_FREEBIND), so that order against the node's links does not matter; a socket held by another is an error even where
//! SO_REUSEPORT would share it; on shutdown all threads end.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hickory_server::Server as TcpServer;
use ipnet::IpNet;
use prometheus_client::registry::Registry;
use socket2::{Domain, Protocol, Socket, Type};
use svcd_svcmap::Update;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::core::Core;
use crate::error::Error;
use crate::forward::ForwardSettings;
use crate::handler::Handler;
use crate::metrics::Metrics;
use crate::udp::{Worker, wake};
use crate::zone::{Prepared, Settings, Zone};

/// A TCP connection without a question for so long is closed.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Replies that may wait in a TCP connection.
const TCP_REPLIES: usize = 64;
/// Connections that may wait to be accepted.
const TCP_BACKLOG: i32 = 1024;
/// Packets that need time and may be under way.
const MAX_JOBS: usize = 4096;
/// How often a free port is looked for that both UDP and TCP can have.
const PORT_TRIES: usize = 16;
/// A worker's stack: its buffers are on the heap.
const STACK: usize = 256 << 10;

/// How to serve.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster's domain.
    pub cluster_domain: String,
    /// The time to live of the cluster's records, in seconds.
    pub ttl: u32,
    /// Where to listen, UDP and TCP. Port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// The addresses of the DNS Service: the zone's name server, and never an upstream.
    pub service_addresses: Vec<IpAddr>,
    /// The ranges of Services and pods: nobody else is asked for names of their addresses.
    pub networks: Vec<IpNet>,
    /// Threads for each address; 0 for one a core, four at most.
    pub threads: usize,
    /// What becomes of other names.
    pub forward: ForwardSettings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cluster_domain: "cluster.local".to_owned(),
            ttl: 5,
            listen: Vec::new(),
            service_addresses: Vec::new(),
            networks: Vec::new(),
            threads: 0,
            forward: ForwardSettings::default(),
        }
    }
}

/// A bound server.
pub struct Server {
    core: Arc<Core>,
    udp: Vec<Arc<UdpSocket>>,
    tcp: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
}

/// Feeds a server's zone. None of it blocks for longer than a few map operations.
#[derive(Clone, Debug)]
pub struct Handle {
    core: Arc<Core>,
}

impl Server {
    /// Binds every address and registers the metrics. Nothing is answered before `run`.
    ///
    /// # Errors
    /// When the domain is no name, or an address cannot be had.
    pub fn bind(config: Config, registry: &mut Registry) -> Result<Self, Error> {
        let Config { cluster_domain, ttl, listen, service_addresses, networks, threads, forward } = config;
        let settings = Settings {
            domain: cluster_domain,
            ttl,
            name_servers: service_addresses.clone(),
            networks,
            serial: first_serial(),
        };
        let zone = Zone::new(settings)?;
        let threads = if threads == 0 { default_threads() } else { threads };
        let (mut udp, mut tcp, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
        for address in listen {
            let (bound, datagrams, listener) = bind_both(address, threads)?;
            addresses.push(bound);
            udp.extend(datagrams.into_iter().map(Arc::new));
            tcp.push(listener);
        }
        if addresses.is_empty() {
            return Err(Error::NoAddress);
        }
        let own =
            service_addresses.into_iter().map(|ip| SocketAddr::new(ip, 53)).chain(addresses.iter().copied());
        let metrics = Metrics::new(&zone.origin().to_string(), registry);
        let core = Core::new(zone, forward, own.collect(), metrics);
        Ok(Self { core, udp, tcp, addresses })
    }

    /// What feeds the zone.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { core: Arc::clone(&self.core) }
    }

    /// Where it listens, in the order asked for.
    #[must_use]
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves until `shutdown`.
    ///
    /// # Errors
    /// When a thread cannot be started, or a socket dies.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Self { core, udp, tcp, addresses } = self;
        let mut tcp_server = TcpServer::new(Handler::new(Arc::clone(&core)));
        for (listener, address) in tcp.into_iter().zip(&addresses) {
            let bound = tokio::net::TcpListener::from_std(listener);
            let bound = bound.map_err(|source| Error::Bind { address: *address, protocol: "tcp", source })?;
            tcp_server.register_listener(bound, TCP_IDLE, TCP_REPLIES);
        }
        let mut threads = Threads::default();
        let (failed, mut failure) = mpsc::channel(1);
        let jobs = Arc::new(Semaphore::new(MAX_JOBS));
        for socket in udp {
            threads.start(&core, socket, &jobs, failed.clone())?;
        }
        info!(?addresses, "DNS answers");
        let result = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            Some(error) = failure.recv() => Err(error),
            stopped = tcp_server.block_until_done() => Err(Error::Tcp(stopped.err().map_or_else(String::new, |e| e.to_string()))),
        };
        threads.stop().await;
        // Connections end with their tasks when the server is dropped: a client that keeps one open must not hold us up.
        tcp_server.shutdown_token().cancel();
        result
    }
}

impl Handle {
    /// Takes over what changed among Services.
    pub fn apply(&self, update: &Update) {
        let prepared = Prepared::new(update);
        let old = self.core.zone_mut().install(prepared);
        // Dropped here, not under the lock: a reset leaves the whole former index behind.
        drop(old);
    }

    /// Says which namespaces exist.
    pub fn reset_namespaces<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        self.core.zone_mut().reset_namespaces(names);
    }

    /// Says that a namespace exists.
    pub fn apply_namespace(&self, name: &str) {
        self.core.zone_mut().apply_namespace(name);
    }

    /// Says that a namespace is gone.
    pub fn delete_namespace(&self, name: &str) {
        self.core.zone_mut().delete_namespace(name);
    }

    /// Whether the zone has been told everything once; before, it answers SERVFAIL.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.core.zone().is_synced()
    }
}

/// The worker threads; stopped when dropped, too.
#[derive(Default)]
struct Threads {
    stopped: Arc<AtomicBool>,
    running: Vec<(Arc<UdpSocket>, std::thread::JoinHandle<()>)>,
}

impl Threads {
    fn start(
        &mut self,
        core: &Arc<Core>,
        socket: Arc<UdpSocket>,
        jobs: &Arc<Semaphore>,
        failed: mpsc::Sender<Error>,
    ) -> Result<(), Error> {
        let worker = Worker {
            socket: Arc::clone(&socket),
            core: Arc::clone(core),
            runtime: tokio::runtime::Handle::current(),
            jobs: Arc::clone(jobs),
            stopped: Arc::clone(&self.stopped),
        };
        let run = move || {
            let address = worker.socket.local_addr();
            if let (Err(source), Ok(address)) = (worker.run(), address) {
                let _ = failed.try_send(Error::Worker { address, source });
            }
        };
        let thread = std::thread::Builder::new().name("dns".to_owned()).stack_size(STACK).spawn(run);
        self.running.push((socket, thread.map_err(Error::Thread)?));
        Ok(())
    }

    fn signal(&self) {
        self.stopped.store(true, Ordering::Release);
        for (socket, _) in &self.running {
            wake(socket);
        }
    }

    async fn stop(mut self) {
        self.signal();
        let running = std::mem::take(&mut self.running);
        let join = move || running.into_iter().for_each(|(_, thread)| drop(thread.join()));
        let _ = tokio::task::spawn_blocking(join).await;
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.signal();
    }
}

/// Serials grow over restarts, too.
fn first_serial() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(now.as_secs()).unwrap_or(1)
}

fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(4)
}

/// Binds UDP (`threads` times) and TCP at the same port.
fn bind_both(
    address: SocketAddr,
    threads: usize,
) -> Result<(SocketAddr, Vec<UdpSocket>, TcpListener), Error> {
    let error = |protocol| move |source| Error::Bind { address, protocol, source };
    let mut tries = if address.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        // Without sharing: tells whether somebody else has the port, which sharing would hide.
        let probe = bind_udp(address, false).map_err(error("udp"))?;
        let bound = probe.local_addr().map_err(error("udp"))?;
        match bind_tcp(bound) {
            Err(source) if source.kind() == io::ErrorKind::AddrInUse && tries > 0 => continue,
            Err(source) => return Err(error("tcp")(source)),
            Ok(listener) if threads == 1 => return Ok((bound, vec![probe], listener)),
            Ok(listener) => {
                drop(probe);
                let sockets = (0..threads).map(|_| bind_udp(bound, true)).collect::<io::Result<_>>();
                return Ok((bound, sockets.map_err(error("udp"))?, listener));
            }
        }
    }
}

fn bind_udp(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = new_socket(address, Type::DGRAM, Protocol::UDP)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = new_socket(address, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(TCP_BACKLOG)?;
    Ok(socket.into())
}

fn new_socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    }
    Ok(socket)
}
