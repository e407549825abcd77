//! A bare HTTPS client with the admin's certificate: one connection, requests one after another, so that the client's own
//! cost stays small beside the server's.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How to reach a server: taken from its admin's kubeconfig.
#[derive(Clone)]
pub(crate) struct Target {
    address: String,
    connector: TlsConnector,
}

/// One connection.
pub(crate) struct Connection {
    send: SendRequest<Full<Bytes>>,
}

impl Target {
    /// Reads a kubeconfig as svcd writes it; waits until it is there.
    pub(crate) async fn from_kubeconfig(path: &Path) -> Result<Self> {
        let text = wait_for_file(path).await?;
        let field = |name: &str| {
            let line = text.lines().find_map(|l| l.trim().strip_prefix(name)?.strip_prefix(": "));
            line.map(|value| value.trim_matches('"').to_owned())
                .with_context(|| format!("{name} in {}", path.display()))
        };
        let pem = |name: &str| -> Result<Vec<u8>> {
            Ok(base64::engine::general_purpose::STANDARD.decode(field(name)?)?)
        };
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem("certificate-authority-data")?) {
            roots.add(certificate?)?;
        }
        let certificates = CertificateDer::pem_slice_iter(&pem("client-certificate-data")?)
            .collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(&pem("client-key-data")?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates, key)?;
        let address = field("server")?.trim_start_matches("https://").to_owned();
        Ok(Self { address, connector: TlsConnector::from(Arc::new(config)) })
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let tcp = TcpStream::connect(&self.address).await?;
        tcp.set_nodelay(true)?;
        let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host);
        let tls = self.connector.connect(ServerName::try_from(host.to_owned())?, tcp).await?;
        let (send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
        tokio::spawn(connection);
        Ok(Connection { send })
    }

    /// Waits until `/readyz` answers 200.
    pub(crate) async fn ready(&self) -> Result<Connection> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if let Ok(mut connection) = self.connect().await
                && connection.get("/readyz").await.is_ok()
            {
                return Ok(connection);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        bail!("{} was not ready within 60 s", self.address)
    }
}

impl Connection {
    /// Sends a request and returns the response without its body.
    pub(crate) async fn open(
        &mut self,
        method: Method,
        path: &str,
        kind: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "svcd")
            .header("content-type", kind)
            .header("accept", "application/json")
            .body(Full::new(body))?;
        self.send.ready().await?;
        Ok(self.send.send_request(request).await?)
    }

    /// Sends a request that must succeed, and returns the length of the body.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        kind: &str,
        body: Bytes,
    ) -> Result<Bytes> {
        let response = self.open(method, path, kind, body).await?;
        let status = response.status();
        let bytes = response.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "{path}: {status}: {}", String::from_utf8_lossy(&bytes));
        Ok(bytes)
    }

    /// GET.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Bytes> {
        self.send(Method::GET, path, "application/json", Bytes::new()).await
    }

    /// POST of JSON.
    pub(crate) async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Result<Bytes> {
        self.send(Method::POST, path, "application/json", body.into()).await
    }
}

async fn wait_for_file(path: &Path) -> Result<String> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) => return Ok(text),
            Err(error) if Instant::now() > deadline => bail!("{}: {error}", path.display()),
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}
