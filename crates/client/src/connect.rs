//! From an [`Access`] to a kube client: kube's layers over our own TLS, without what we never use (exec plugins, token
//! files, proxies).

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::Client;
use kube::client::Body;
use kube::client::middleware::BaseUriLayer;
use tower::{BoxError, Service, ServiceBuilder};

use crate::Access;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server's URL is none.
    #[error("{server:?} is not a server's URL: {reason}")]
    Server {
        /// As it was given.
        server: String,
        /// Why.
        reason: http::uri::InvalidUri,
    },
    /// Certificates or key cannot be used.
    #[error(transparent)]
    Tls(#[from] svcd_pki::Error),
}

/// A client. Requests are tried once: whoever asks tries again by itself, with the newest value.
///
/// # Errors
/// See [`ConnectError`]. The server is not asked anything yet.
pub fn connect(access: &Access) -> Result<Client, ConnectError> {
    connect_renewable(access).map(|(client, _)| client)
}

/// The same, with the means to have its certificate renewed while it is used.
///
/// # Errors
/// See [`ConnectError`].
pub fn connect_renewable(access: &Access) -> Result<(Client, Renewable), ConnectError> {
    let server: Uri = access
        .server
        .parse()
        .map_err(|reason| ConnectError::Server { server: access.server.clone(), reason })?;
    let connections = Renewable(Arc::new(ArcSwap::from_pointee(pool(access)?)));
    let service = ServiceBuilder::new()
        .layer(BaseUriLayer::new(server))
        .map_err(BoxError::from)
        .service(connections.clone());
    Ok((Client::new(service, "default"), connections))
}

type Pool = legacy::Client<HttpsConnector<HttpConnector>, Body>;

/// The connections of a client; clones share them.
#[derive(Clone, Debug)]
pub struct Renewable(Arc<ArcSwap<Pool>>);

impl Renewable {
    /// From now on requests go over new connections that show this certificate. What is under way ends on the connection
    /// that it began on; idle ones of before are closed, since the server knows them by the old certificate.
    ///
    /// # Errors
    /// [`ConnectError::Tls`]; then all stays as it was.
    pub fn renew(&self, access: &Access) -> Result<(), ConnectError> {
        self.0.store(Arc::new(pool(access)?));
        Ok(())
    }
}

impl Service<Request<Body>> for Renewable {
    type Response = Response<Incoming>;
    type Error = legacy::Error;
    type Future = legacy::ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), legacy::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> legacy::ResponseFuture {
        self.0.load().request(request)
    }
}

fn pool(access: &Access) -> Result<Pool, ConnectError> {
    let tls = svcd_pki::client_config(&access.ca, &access.certificate, &access.key)?;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_nodelay(true);
    let https =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().wrap_connector(tcp);
    Ok(legacy::Client::builder(TokioExecutor::new()).build(https))
}
