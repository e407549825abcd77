//! What time the server has: the Date of an answer. There is nothing yet to trust the server by, and nothing is trusted to
//! it: no name, no token, and its time decides nothing but a finding.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::header::{DATE, HOST};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::Clock;

const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn ask(server: Option<&(String, u16)>) -> Clock {
    let server = match server {
        None => None,
        Some((host, port)) => {
            let asked = tokio::time::timeout(PATIENCE, apart(host, *port)).await;
            Some(asked.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}"))))
        }
    };
    Clock { now: Timestamp::now().as_second(), server }
}

/// How far the server's clock and this one are apart.
async fn apart(host: &str, port: u16) -> Result<Duration, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let tcp = TcpStream::connect((host, port)).await.map_err(|error| text(&error))?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| text(&error))?;
    let tls = svcd_pki::unverified_client_config().map_err(|error| text(&error))?;
    let stream = TlsConnector::from(Arc::new(tls)).connect(name, tcp).await.map_err(|error| text(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
    // Ends with the sender; its own error shows on the request as well.
    tokio::spawn(connection);
    let request = Request::get("/version").header(HOST, host).body(Empty::<Bytes>::new());
    let answer =
        sender.send_request(request.map_err(|error| text(&error))?).await.map_err(|error| text(&error))?;
    let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
    let theirs =
        date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).ok_or("its answer has no date")?;
    Ok(theirs.timestamp().duration_since(Timestamp::now()).unsigned_abs())
}
