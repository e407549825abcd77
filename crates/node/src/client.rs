//! The client with which a joined node talks to its server.

use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::{Credentials, Error};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client that trusts the cluster's CA only and shows the node's own certificate.
pub async fn client(credentials: &Credentials) -> Result<kube::Client, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Client {
        server: credentials.server.clone(),
        reason: error.to_string(),
    };
    let kubeconfig = Kubeconfig::from_yaml(&credentials.kubeconfig()).map_err(|error| failed(&error))?;
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| failed(&error))?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // Whoever asks tries again by itself, with the newest value.
    config.default_retry = false;
    kube::Client::try_from(config).map_err(|error| failed(&error))
}
