//! What a client needs to reach a server, and how it stands in a kubeconfig.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// A server, the authority that it is recognised by, and who one is there.
#[derive(Clone)]
pub struct Access {
    /// The server's URL.
    pub server: String,
    /// The cluster's CA certificate, PEM.
    pub ca: String,
    /// The client certificate, PEM.
    pub certificate: String,
    /// Its private key, PEM.
    pub key: String,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Why a kubeconfig cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not a kubeconfig.
    #[error("not a kubeconfig: {0}")]
    Parse(#[from] serde_norway::Error),
    /// A part of the current context is missing, or not embedded in the file.
    #[error("the kubeconfig has no {0} for its current context")]
    Missing(&'static str),
    /// An embedded part is not base64 of text.
    #[error("the kubeconfig's {0} is not base64 of PEM")]
    Encoding(&'static str),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    user: String,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority_data: Option<String>,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

impl Access {
    /// Out of a kubeconfig with everything embedded, as `svcd server` writes them.
    ///
    /// # Errors
    /// See [`KubeconfigError`].
    pub fn from_kubeconfig(text: &str) -> Result<Self, KubeconfigError> {
        let file: File = serde_norway::from_str(text)?;
        let context = file.contexts.into_iter().find(|context| context.name == file.current_context);
        let context = context.ok_or(KubeconfigError::Missing("context"))?.context;
        let cluster = file.clusters.into_iter().find(|cluster| cluster.name == context.cluster);
        let cluster = cluster.ok_or(KubeconfigError::Missing("cluster"))?.cluster;
        let user = file.users.into_iter().find(|user| user.name == context.user);
        let user = user.ok_or(KubeconfigError::Missing("user"))?.user;
        Ok(Self {
            ca: pem("certificate-authority-data", cluster.certificate_authority_data)?,
            certificate: pem("client-certificate-data", user.client_certificate_data)?,
            key: pem("client-key-data", user.client_key_data)?,
            server: cluster.server,
        })
    }

    /// As [`Access::from_kubeconfig`], out of a file.
    ///
    /// # Errors
    /// See [`KubeconfigError`].
    pub fn from_file(path: &Path) -> Result<Self, KubeconfigError> {
        let text = std::fs::read_to_string(path);
        Self::from_kubeconfig(
            &text.map_err(|source| KubeconfigError::Read { path: path.to_owned(), source })?,
        )
    }
}

fn pem(field: &'static str, data: Option<String>) -> Result<String, KubeconfigError> {
    let data = data.ok_or(KubeconfigError::Missing(field))?;
    let bytes = STANDARD.decode(data.trim()).map_err(|_| KubeconfigError::Encoding(field))?;
    String::from_utf8(bytes).map_err(|_| KubeconfigError::Encoding(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> String {
        svcd_pki::kubeconfig("https://192.0.2.1:6443", "CA", "CERT", "KEY", "a \"name\"")
    }

    #[test]
    fn what_is_written_can_be_read() {
        let access = Access::from_kubeconfig(&text()).unwrap();
        assert_eq!(access.server, "https://192.0.2.1:6443");
        assert_eq!((&*access.ca, &*access.certificate, &*access.key), ("CA", "CERT", "KEY"));
        assert!(!format!("{access:?}").contains("KEY"));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (cut, what) in [("client-key-data", "client-key-data"), ("current-context", "context")] {
            let text: String =
                text().lines().filter(|line| !line.contains(cut)).map(|line| format!("{line}\n")).collect();
            let error = Access::from_kubeconfig(&text).unwrap_err().to_string();
            assert!(error.contains(&format!("no {what} ")), "{error}");
        }
        let error = Access::from_kubeconfig(&text().replace("Q0E=", "Q0_E")).unwrap_err().to_string();
        assert!(error.contains("certificate-authority-data"), "{error}");
    }
}
