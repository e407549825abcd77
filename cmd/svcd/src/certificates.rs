//! What a server shows of itself, and what its admin shows: issued when it starts, and again when two thirds of their lives
//! are over. Both are of one age, so one time decides. The server's key is in memory only.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use svcd_pki::{AltName, Ca, Identity};

use crate::data_dir::{Entry, serving_certificate};
use crate::failure::Failure;

/// How long to wait where renewing failed, on a full disk for example.
const AGAIN: Duration = Duration::from_secs(60);

/// A server's certificates.
pub(crate) struct Certificates {
    ca: Arc<Ca>,
    identity: Arc<Identity>,
    wanted: Wanted,
}

/// What they are for.
pub(crate) struct Wanted {
    pub(crate) data_dir: PathBuf,
    /// What clients may call the server by.
    pub(crate) names: Vec<AltName>,
    /// The server's URL, for the admin.
    pub(crate) url: String,
    pub(crate) validity: Duration,
}

impl Certificates {
    /// Issues them, and writes the admin's kubeconfig.
    pub(crate) fn issue(ca: &Arc<Ca>, wanted: Wanted) -> Result<Self, Failure> {
        let identity = Identity::issue(ca, &wanted.names, wanted.validity)?;
        let certificates = Self { ca: Arc::clone(ca), identity, wanted };
        certificates.write()?;
        Ok(certificates)
    }

    /// What the server shows; it is exchanged in place.
    pub(crate) fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.identity)
    }

    /// Renews them for ever.
    pub(crate) async fn keep(self) {
        loop {
            match self.identity.certificate() {
                Ok(certificate) => svcd_runtime::sleep_until(certificate.renewal().into()).await,
                Err(error) => {
                    tracing::warn!(%error, "the server's certificate cannot be read; a new one is issued");
                    tokio::time::sleep(AGAIN).await;
                }
            }
            while let Err(error) = self.renew() {
                tracing::warn!(%error, "certificates could not be renewed; trying again");
                tokio::time::sleep(AGAIN).await;
            }
            tracing::info!("the server's and the admin's certificates are renewed");
        }
    }

    /// What is in memory first: a full disk must not let the server's own certificate run out.
    fn renew(&self) -> Result<(), svcd_pki::Error> {
        self.identity.reissue(&self.ca, &self.wanted.names, self.wanted.validity)?;
        self.write()
    }

    fn write(&self) -> Result<(), svcd_pki::Error> {
        let Wanted { data_dir, url, validity, .. } = &self.wanted;
        let admin = self.ca.issue_client("kubernetes-admin", &["system:masters"], *validity)?;
        let kubeconfig =
            svcd_pki::kubeconfig(url, self.ca.certificate_pem(), &admin.cert, &admin.key, "svcd");
        svcd_pki::write_secret(&Entry::AdminKubeconfig.within(data_dir), kubeconfig)?;
        svcd_pki::write_public(&serving_certificate(data_dir), self.identity.certificate_pem())
    }
}
