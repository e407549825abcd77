//! The client with which a joined node talks to its server.

use svcd_client::{Access, Renewable};

use crate::{Credentials, Error};

impl Credentials {
    /// What a client needs of them.
    pub(crate) fn access(&self) -> Access {
        Access {
            server: self.server.clone(),
            ca: self.ca.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
        }
    }
}

/// A client that trusts the cluster's CA only and shows the node's own certificate, and its connections, for whoever renews
/// that.
///
/// # Errors
/// [`Error::Client`]; the server is not asked anything yet.
pub fn connect(credentials: &Credentials) -> Result<(kube::Client, Renewable), Error> {
    svcd_client::connect_renewable(&credentials.access())
        .map_err(|error| Error::Client { server: credentials.server.clone(), reason: error.to_string() })
}
