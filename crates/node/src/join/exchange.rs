//! The one request that joins: token and signing request go out, the certificate comes back.
//!
//! Every step has its own time limit; the token is sent only after the pinned verifier accepted the server.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HOST};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};
use svcd_pki::{CaPin, JoinToken, NewcomersVerifier};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Credentials, JoinConfig, JoinError, MAX_SKEW, ServerUrl};
use crate::ClusterInfo;

const STEP_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
const MAX_ANSWER: usize = 1 << 20;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JoinRequest<'a> {
    node_name: &'a str,
    csr: &'a str,
}

#[derive(Deserialize)]
struct JoinAnswer {
    certificate: String,
    cluster: ClusterInfo,
}

/// Asks the server for this node's certificate.
pub(super) async fn exchange(config: &JoinConfig, token: &JoinToken) -> Result<Credentials, JoinError> {
    let (csr, key) = svcd_pki::csr(&format!("system:node:{}", config.node_name), &[])?;
    let (stream, ca) = connect(&config.server, token.pin).await?;
    let body = serde_json::to_vec(&JoinRequest { node_name: &config.node_name, csr: &csr })
        .expect("two strings always become JSON");
    let (head, answer) = post(&config.server, stream, token, body).await?;
    check_clock(head.headers.get(DATE).and_then(|date| date.to_str().ok()), Timestamp::now())?;
    if head.status != StatusCode::OK {
        return Err(refusal(config, token, head.status, &answer));
    }
    let JoinAnswer { certificate, cluster } = serde_json::from_slice(&answer)
        .map_err(|error| not_svcd(&config.server, format!("its answer does not read as one ({error})")))?;
    svcd_pki::Certificate::from_pem(&certificate)?
        .check_time("the certificate that the server just made", Timestamp::now())
        .map_err(|error| JoinError::Clock { detail: error.to_string() })?;
    Ok(Credentials {
        server: config.server.to_string(),
        node_name: config.node_name.clone(),
        certificate,
        key,
        ca,
        cluster,
    })
}

fn not_svcd(server: &ServerUrl, reason: String) -> JoinError {
    JoinError::NotSvcd { server: server.clone(), reason }
}

/// Connects, and returns the CA that the pin found.
async fn connect(server: &ServerUrl, pin: CaPin) -> Result<(TlsStream<TcpStream>, String), JoinError> {
    let tcp = connect_tcp(server).await?;
    let name = ServerName::try_from(server.host().to_owned())
        .map_err(|_| JoinError::BadUrl { given: server.to_string() })?;
    let mut tls = rustls::ClientConfig::builder_with_provider(svcd_pki::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| JoinError::Tls { server: server.clone(), reason: error.to_string() })?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(NewcomersVerifier::pinned(pin)))
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = tokio::time::timeout(STEP_TIMEOUT, TlsConnector::from(Arc::new(tls)).connect(name, tcp))
        .await
        .map_err(|_| timeout(server, STEP_TIMEOUT))?
        .map_err(|error| JoinError::from_handshake(server, error))?;
    let ca = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.iter().find(|certificate| CaPin::of(certificate) == pin))
        .map(svcd_pki::certificate_pem)
        .ok_or_else(|| JoinError::WrongCa { server: server.clone(), pin })?;
    Ok((stream, ca))
}

fn timeout(server: &ServerUrl, after: Duration) -> JoinError {
    JoinError::Timeout { server: server.clone(), after }
}

async fn connect_tcp(server: &ServerUrl) -> Result<TcpStream, JoinError> {
    let unknown = |source| JoinError::UnknownHost { host: server.host().to_owned(), source };
    let addresses = tokio::time::timeout(STEP_TIMEOUT, server.resolve())
        .await
        .map_err(|_| unknown(io::Error::new(io::ErrorKind::TimedOut, "the DNS did not answer")))?
        .map_err(unknown)?;
    if addresses.is_empty() {
        return Err(unknown(io::Error::other("it has no address")));
    }
    match tokio::time::timeout(STEP_TIMEOUT, TcpStream::connect(&addresses[..])).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Err(JoinError::Refused { server: server.clone() })
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => Err(timeout(server, STEP_TIMEOUT)),
        Ok(Err(source)) => Err(JoinError::Unreachable { server: server.clone(), source }),
        Err(_) => Err(timeout(server, STEP_TIMEOUT)),
    }
}

async fn post(
    server: &ServerUrl,
    stream: TlsStream<TcpStream>,
    token: &JoinToken,
    body: Vec<u8>,
) -> Result<(http::response::Parts, Bytes), JoinError> {
    let broken = |error: &dyn std::fmt::Display| JoinError::Broken {
        server: server.clone(),
        reason: error.to_string(),
    };
    let request = Request::post("/svcd.io/v1/join")
        .header(HOST, server.authority())
        .header(AUTHORIZATION, format!("Bearer {}", token.bearer()))
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| broken(&error))?;
    let talk = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the sender; its own error shows on the request as well.
        let connection = tokio::spawn(connection);
        let response: Response<Incoming> = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        connection.abort();
        Ok::<_, hyper::Error>((head, body))
    };
    let (head, body) = tokio::time::timeout(ANSWER_TIMEOUT, talk)
        .await
        .map_err(|_| timeout(server, ANSWER_TIMEOUT))?
        .map_err(|error| {
            if error.is_parse() {
                not_svcd(server, format!("it does not talk HTTP ({error})"))
            } else {
                broken(&error)
            }
        })?;
    Ok((head, body.map_err(|error| broken(&error))?.to_bytes()))
}

/// Turns the server's refusal into the error that says what to do.
fn refusal(config: &JoinConfig, token: &JoinToken, status: StatusCode, body: &[u8]) -> JoinError {
    let message = status_message(body);
    let said = || message.clone().unwrap_or_else(|| status.to_string());
    match status {
        StatusCode::UNAUTHORIZED => JoinError::TokenRefused { id: token.id.clone(), message: said() },
        StatusCode::CONFLICT => JoinError::NameTaken { name: config.node_name.clone(), message: said() },
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            not_svcd(&config.server, format!("it answers {status} to a join"))
        }
        _ if message.is_none() && !status.is_server_error() => {
            not_svcd(&config.server, format!("it answers {status} to a join"))
        }
        _ => JoinError::Server { code: status.as_u16(), message: said() },
    }
}

/// The message of a Kubernetes `Status`.
fn status_message(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    (value["kind"] == "Status").then(|| value["message"].as_str().unwrap_or_default().to_owned())
}

/// Compares the server's clock with ours. Beyond what certificates are backdated, leases and tokens stop to mean anything.
pub(super) fn check_clock(date: Option<&str>, here: Timestamp) -> Result<(), JoinError> {
    let Some(there) = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|time| time.timestamp())
    else {
        return Ok(());
    };
    let ahead = here.duration_since(there);
    if ahead.unsigned_abs() <= MAX_SKEW {
        return Ok(());
    }
    let direction = if ahead.is_negative() { "behind" } else { "ahead of" };
    Err(JoinError::Clock {
        detail: format!(
            "it is {here:.0} here and {there} at the server, {} s {direction} it",
            ahead.as_secs().abs()
        ),
    })
}
