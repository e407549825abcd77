//! Joining a cluster: from a server's URL and a token to this node's own certificate.
//!
//! A node that has joined before needs no token: its certificate is kept in one file, `<data-dir>/agent/credentials.json`
//! (0600), written whole or not at all. Nothing is sent before the server has proved to be of the cluster that the
//! token pins. Every way to fail is its own [`JoinError`], in one line, with what to do.

mod credentials;
mod error;
mod exchange;
mod server;

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use svcd_pki::{CaPin, JoinToken};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use credentials::Credentials;
pub use error::JoinError;
pub use server::ServerUrl;

/// How far two clocks may differ before it is said to be an error: as far as certificates are backdated.
const MAX_SKEW: Duration = Duration::from_secs(5 * 60);

/// What joining needs.
#[derive(Clone, Debug)]
pub struct JoinConfig {
    /// Where the server is.
    pub server: ServerUrl,
    /// The token; not needed once joined.
    pub token: Option<JoinToken>,
    /// The name of this node.
    pub node_name: String,
    /// The agent's data directory.
    pub data_dir: PathBuf,
    /// How long to keep trying to reach the server; zero to fail at once.
    pub retry_for: Duration,
}

/// Joins, or finds that this machine has joined before under this name.
pub async fn join(config: &JoinConfig, shutdown: &CancellationToken) -> Result<Credentials, JoinError> {
    let path = Credentials::path(&config.data_dir);
    if let Some(credentials) = reusable(config, Credentials::load(&path)?)? {
        info!(node = config.node_name, "this machine has joined before");
        return Ok(credentials);
    }
    let token = config.token.as_ref().ok_or_else(|| JoinError::NoToken { path: path.clone() })?;
    let credentials = exchange_until_reached(config, token, shutdown).await?;
    credentials.store(&path)?;
    info!(node = config.node_name, server = %config.server, "joined the cluster");
    Ok(credentials)
}

/// Joins again under the same name, since the certificate that is kept has expired.
pub(crate) async fn rejoin(config: &JoinConfig, token: &JoinToken) -> Result<Credentials, JoinError> {
    exchange::exchange(config, token).await
}

/// Decides whether what is kept can still be used; errors where going on would surprise the operator.
fn reusable(config: &JoinConfig, kept: Option<Credentials>) -> Result<Option<Credentials>, JoinError> {
    let Some(kept) = kept else { return Ok(None) };
    if let Some(token) = &config.token
        && CaPin::of(&svcd_pki::certificate_der(&kept.ca)?) != token.pin
    {
        return Err(JoinError::OtherCluster {
            path: Credentials::path(&config.data_dir),
            server: kept.server.clone(),
        });
    }
    if kept.node_name != config.node_name {
        return Ok(None);
    }
    let certificate = svcd_pki::Certificate::from_pem(&kept.certificate)?;
    match certificate.check_time(&format!("the certificate of node {}", kept.node_name), Timestamp::now()) {
        Ok(()) => Ok(Some(Credentials { server: config.server.to_string(), ..kept })),
        Err(expired @ svcd_pki::Error::Expired { .. }) if config.token.is_some() => {
            warn!(%expired, "joining again");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

async fn exchange_until_reached(
    config: &JoinConfig,
    token: &JoinToken,
    shutdown: &CancellationToken,
) -> Result<Credentials, JoinError> {
    let deadline = tokio::time::Instant::now() + config.retry_for;
    let mut pause = Duration::from_millis(200);
    loop {
        let error = match exchange::exchange(config, token).await {
            Ok(credentials) => return Ok(credentials),
            Err(error) => error,
        };
        if !error.is_temporary() || tokio::time::Instant::now() + pause > deadline {
            return Err(error);
        }
        warn!(%error, "cannot join yet");
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(5)),
            () = shutdown.cancelled() => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
