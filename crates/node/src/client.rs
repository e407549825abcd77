//! The client with which a joined node talks to its server.

use svcd_client::Access;

use crate::{Credentials, Error};

/// A client that trusts the cluster's CA only and shows the node's own certificate.
///
/// # Errors
/// [`Error::Client`]; the server is not asked anything yet.
pub fn client(credentials: &Credentials) -> Result<kube::Client, Error> {
    let access = Access {
        server: credentials.server.clone(),
        ca: credentials.ca.clone(),
        certificate: credentials.certificate.clone(),
        key: credentials.key.clone(),
    };
    svcd_client::connect(&access)
        .map_err(|error| Error::Client { server: access.server, reason: error.to_string() })
}
