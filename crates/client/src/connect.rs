//! From an [`Access`] to a kube client: kube's layers over our own TLS, without what we never use (exec plugins, token
//! files, proxies).

use std::time::Duration;

use http::Uri;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::Client;
use kube::client::Body;
use kube::client::middleware::BaseUriLayer;
use tower::{BoxError, ServiceBuilder};

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
    let server: Uri = access
        .server
        .parse()
        .map_err(|reason| ConnectError::Server { server: access.server.clone(), reason })?;
    let tls = svcd_pki::client_config(&access.ca, &access.certificate, &access.key)?;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_nodelay(true);
    let https =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().wrap_connector(tcp);
    let http = legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(https);
    let service =
        ServiceBuilder::new().layer(BaseUriLayer::new(server)).map_err(BoxError::from).service(http);
    Ok(Client::new(service, "default"))
}
