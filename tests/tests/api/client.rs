//! A client that does what it is told and no more: no retries, no caches, every broken connection seen.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The connection broke, or could not be made.
#[derive(Debug)]
pub(crate) struct Broken;

/// How to reach a server, as somebody.
#[derive(Clone)]
pub(crate) struct Target {
    address: String,
    roots: rustls::RootCertStore,
    identity: Arc<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl Target {
    /// Reads a kubeconfig as svcd writes it; `None` while it is not there.
    pub(crate) fn from_kubeconfig(path: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(path).ok()?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
            line.map(|value| value.trim_matches('"').to_owned())
        };
        let pem = |name: &str| STANDARD.decode(field(name)?).ok();
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem("certificate-authority-data")?) {
            roots.add(certificate.ok()?).ok()?;
        }
        let chain =
            CertificateDer::pem_slice_iter(&pem("client-certificate-data")?).collect::<Result<_, _>>();
        let key = PrivateKeyDer::from_pem_slice(&pem("client-key-data")?).ok()?;
        let address = field("server")?.trim_start_matches("https://").to_owned();
        Some(Self { address, roots, identity: Arc::new((chain.ok()?, key)) })
    }

    async fn tls(&self, protocol: &[u8]) -> Result<TlsStream<TcpStream>, Broken> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (chain, key) = &*self.identity;
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider knows them")
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .expect("the key is the certificate's");
        config.alpn_protocols = vec![protocol.to_vec()];
        let tcp = TcpStream::connect(&self.address).await.map_err(|_| Broken)?;
        tcp.set_nodelay(true).map_err(|_| Broken)?;
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|_| Broken)
    }

    /// A connection for requests one after another.
    pub(crate) async fn connect(&self) -> Result<Connection, Broken> {
        let io = TokioIo::new(self.tls(b"http/1.1").await?);
        let (send, connection) = http1::handshake(io).await.map_err(|_| Broken)?;
        tokio::spawn(connection);
        Ok(Connection { send })
    }

    /// A connection for many requests at once, each with a small window of its own.
    pub(crate) async fn connect_many(&self) -> Result<http2::SendRequest<Full<Bytes>>, Broken> {
        let io = TokioIo::new(self.tls(b"h2").await?);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(64 * 1024).initial_connection_window_size(1 << 30);
        let (send, connection) = builder.handshake(io).await.map_err(|_| Broken)?;
        tokio::spawn(connection);
        Ok(send)
    }

    /// A connection on which the test itself speaks.
    pub(crate) async fn connect_raw(&self) -> Result<TlsStream<TcpStream>, Broken> {
        self.tls(b"http/1.1").await
    }
}

pub(crate) struct Connection {
    send: http1::SendRequest<Full<Bytes>>,
}

/// An answer that arrived whole.
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) body: Value,
}

/// A request; the body is a content type and a value.
pub(crate) fn request(method: Method, path: &str, body: Option<(&str, &Value)>) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    let mut bytes = Bytes::new();
    if let Some((content_type, value)) = body {
        request = request.header("content-type", content_type);
        bytes = value.to_string().into();
    }
    request.body(Full::new(bytes)).expect("a well-formed request")
}

impl Connection {
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Reply, Broken> {
        let response = self.open(method, path, body).await?;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.map_err(|_| Broken)?.to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(Reply { code, body })
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn open(
        &mut self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Response<Incoming>, Broken> {
        self.send.ready().await.map_err(|_| Broken)?;
        self.send.send_request(request(method, path, body)).await.map_err(|_| Broken)
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Reply, Broken> {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> Result<Reply, Broken> {
        self.send(Method::POST, path, Some(("application/json", body))).await
    }
}

/// The lines of an answer's body, as they come.
pub(crate) struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(response: Response<Incoming>) -> Self {
        Self { body: response.into_body(), buffer: Vec::new() }
    }

    /// The next line; `None` when the body has ended properly.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>, Broken> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line).expect("every line is JSON")));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(_)) => return Err(Broken),
                Some(Ok(frame)) => self.buffer.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            }
        }
    }
}
