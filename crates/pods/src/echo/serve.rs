//! The sockets of the echo server, all on one thread.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Options;
use super::answer::{Health, answer};

/// For requests in flight when the end comes.
const DRAIN: Duration = Duration::from_secs(10);
/// Told to end, the server goes on until nobody has come for this long: the nodes' rules still name it for a moment.
const QUIET: Duration = Duration::from_millis(500);
/// But no longer than this.
const LAST_CALL: Duration = Duration::from_secs(10);
/// For a client to send its request's head, also on an idle connection.
const HEAD: Duration = Duration::from_secs(60);
/// A pause after a failed accept (no file descriptors left), so as not to spin.
const PAUSE: Duration = Duration::from_millis(50);

/// Binds everything, says so in one line (which is what whoever started us waits for), and serves until `SIGTERM`.
pub(crate) async fn run(options: Options) -> io::Result<()> {
    let mut end = signal(SignalKind::terminate())?;
    let options = Arc::new(options);
    let health = Arc::new(Health::default());
    let graceful = Arc::new(GracefulShutdown::new());
    let arrivals = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    for port in &options.http {
        let door = Door { listener: bind(*port).await?, arrivals: Arc::clone(&arrivals) };
        tasks.spawn(serve_http(door, Arc::clone(&options), Arc::clone(&health), Arc::clone(&graceful)));
    }
    for port in &options.tcp {
        tasks.spawn(serve_tcp(Door { listener: bind(*port).await?, arrivals: Arc::clone(&arrivals) }));
    }
    for port in &options.udp {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, *port)).await.map_err(named("UDP", *port))?;
        tasks.spawn(serve_udp(socket));
    }
    println!("echo: listening (http {:?}, tcp {:?}, udp {:?})", options.http, options.tcp, options.udp);
    end.recv().await;
    // Cut short or not, the last guests have been served.
    let _ = timeout(LAST_CALL, async { while timeout(QUIET, arrivals.notified()).await.is_ok() {} }).await;
    // Listeners close, so new connections are refused while old requests get their answers.
    tasks.shutdown().await;
    if let Some(graceful) = Arc::into_inner(graceful) {
        // What is not done by then is cut off.
        let _ = timeout(DRAIN, graceful.shutdown()).await;
    }
    Ok(())
}

async fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.map_err(named("TCP", port))
}

fn named(protocol: &'static str, port: u16) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("cannot listen on {protocol} port {port}: {error}"))
}

/// Where clients come in, and who hears that one came.
struct Door {
    listener: TcpListener,
    arrivals: Arc<Notify>,
}

async fn serve_http(door: Door, options: Arc<Options>, health: Arc<Health>, graceful: Arc<GracefulShutdown>) {
    loop {
        let Some((stream, client)) = door.accept().await else { continue };
        let server = stream.local_addr().unwrap_or_else(|_| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        let (options, health) = (Arc::clone(&options), Arc::clone(&health));
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let (request, _) = request.into_parts();
            let response = answer(&options, &health, &request, client, server);
            async { Ok::<_, Infallible>(response) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .serve_connection(TokioIo::new(stream), service);
        // Errors are clients that went away.
        tokio::spawn(graceful.watch(connection));
    }
}

async fn serve_tcp(door: Door) {
    loop {
        let Some((mut stream, _)) = door.accept().await else { continue };
        tokio::spawn(async move {
            let (mut reader, mut writer) = stream.split();
            // Errors are clients that went away.
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
        });
    }
}

impl Door {
    async fn accept(&self) -> Option<(TcpStream, SocketAddr)> {
        match self.listener.accept().await {
            Ok(accepted) => {
                self.arrivals.notify_one();
                Some(accepted)
            }
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                None
            }
        }
    }
}

async fn serve_udp(socket: UdpSocket) {
    let mut buffer = vec![0; 65_536];
    loop {
        // Errors are ICMP messages about earlier answers.
        if let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..length], client).await;
        }
    }
}
