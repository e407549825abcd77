//! What a node keeps once it has joined: one file, so that key, certificate and CA always belong together.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::JoinError;
use crate::{AGENT_DIR, ClusterInfo};

/// A node's identity in its cluster.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// The server's URL.
    pub server: String,
    /// The node's name, which the certificate carries.
    pub node_name: String,
    /// The client certificate, PEM.
    pub certificate: String,
    /// Its private key, PEM.
    pub key: String,
    /// The cluster's CA certificate, PEM.
    pub ca: String,
    /// The cluster's facts at the time of joining.
    pub cluster: ClusterInfo,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("server", &self.server)
            .field("node_name", &self.node_name)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Where they are kept under a data directory.
    #[must_use]
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join(AGENT_DIR).join("credentials.json")
    }

    /// Reads them; `None` when this machine has never joined.
    pub fn load(path: &Path) -> Result<Option<Self>, JoinError> {
        let text = match svcd_pki::read(path) {
            Ok(text) => text,
            Err(svcd_pki::Error::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        serde_json::from_str(&text).map(Some).map_err(|error| {
            svcd_pki::Error::Broken { path: path.to_owned(), reason: error.to_string() }.into()
        })
    }

    /// Keeps them: whole or not at all, readable by the owner only.
    pub fn store(&self, path: &Path) -> Result<(), JoinError> {
        if let Some(dir) = path.parent() {
            svcd_pki::ensure_private_dir(dir)?;
        }
        let text = serde_json::to_string_pretty(self).expect("strings and numbers always become JSON");
        Ok(svcd_pki::write_secret(path, text)?)
    }
}
