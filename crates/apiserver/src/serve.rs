//! The socket: TLS handshakes, connections, and how they end. The identity of a connection is its client certificate's.
//! On shutdown nothing new is accepted, watches end cleanly, requests under way are finished.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authn::Peer;
use crate::deadlines::Deadlines;
use crate::quota::Quota;
use crate::server::ApiServer;

/// How long requests under way may take once the server shuts down.
const DRAIN: Duration = Duration::from_secs(10);
/// How long to wait when the system has no more file descriptors for us.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Largest head of a request.
const HEAD_BYTES: u32 = 64 * 1024;
const STREAMS: u32 = 1000;
/// How much is kept of an HTTP/2 stream whose client does not read.
const SEND_BYTES: usize = 64 * 1024;
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Why serving could not begin.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The listener is unusable.
    #[error("the listening socket cannot be used: {0}")]
    Listener(#[from] std::io::Error),
    /// The first objects could not be made.
    #[error("the system's namespaces and roles could not be made: {0}")]
    Bootstrap(String),
}

impl ApiServer {
    /// Serves until the token is cancelled, and then until what is under way has ended (ten seconds at most).
    ///
    /// # Errors
    /// Only before the first connection is accepted.
    pub async fn serve(
        self: Arc<Self>,
        listener: std::net::TcpListener,
        tls: Arc<rustls::ServerConfig>,
        shutdown: CancellationToken,
    ) -> Result<(), ServeError> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        self.bootstrap().await.map_err(ServeError::Bootstrap)?;
        let acceptor = TlsAcceptor::from(tls);
        let slots = Quota::new(self.config.limits.connections);
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(slot) = slots.take(from.ip(), 1) else {
                tracing::warn!(%from, "too many connections, from there or in all; one was refused");
                continue;
            };
            let (server, acceptor, shutdown) = (Arc::clone(&self), acceptor.clone(), shutdown.clone());
            tasks.spawn(async move {
                server.metrics.connections().inc();
                server.connection(stream, from, &acceptor, shutdown).await;
                server.metrics.connections().dec();
                drop(slot);
            });
        }
        // First it says so, then it does not listen any more: whoever looks at `/readyz` is never ahead of it.
        self.drain();
        drop(listener);
        tasks.close();
        tasks.wait().await;
        Ok(())
    }

    /// One connection, from its handshake to its end.
    async fn connection(
        self: &Arc<Self>,
        stream: TcpStream,
        from: SocketAddr,
        acceptor: &TlsAcceptor,
        shutdown: CancellationToken,
    ) {
        let limits = &self.config.limits;
        // Small answers must not wait for more of the same.
        let _ = stream.set_nodelay(true);
        let handshake = tokio::time::timeout(limits.handshake_timeout, acceptor.accept(stream));
        let tls = tokio::select! {
            () = shutdown.cancelled() => return,
            tls = handshake => tls,
        };
        let tls = match tls {
            Ok(Ok(tls)) => tls,
            Ok(Err(error)) => return tracing::debug!(%from, %error, "TLS handshake failed"),
            Err(_) => return tracing::debug!(%from, "TLS handshake took too long"),
        };
        let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        let certificate = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let peer = Arc::new(Peer::from_certificate(certificate, from, shutdown.clone()));
        // No router: all requests go one way.
        let service = service_fn(|request: Request<Incoming>| {
            let (server, peer) = (Arc::clone(self), Arc::clone(&peer));
            async move { Ok::<_, Infallible>(server.respond(&peer, request.map(Body::new)).await) }
        });
        let io = TokioIo::new(Deadlines::new(tls, limits.header_timeout, limits.write_timeout));
        let builder = builder(limits.header_timeout, h2);
        let connection = builder.serve_connection(io, service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(DRAIN, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%from, %error, "connection ended");
        }
    }
}

/// The protocol is what the handshake agreed on: looking at the first bytes would wait for them without end.
fn builder(header_timeout: Duration, h2: bool) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(HEAD_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BYTES)
        .max_concurrent_streams(STREAMS)
        .max_send_buf_size(SEND_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    if h2 { builder.http2_only() } else { builder.http1_only() }
}
