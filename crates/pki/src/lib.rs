//! The cluster's certificate authority, what it signs, join tokens, kubeconfigs, and how all of them stand on disk.
//!
//! Promises: what is on disk is whole (a crash leaves the old file or the new one, never half of one) and private
//! (keys 0600, directories 0700); a broken file is named in the error.
//! Refuses: to talk to a network, to know Kubernetes objects, to keep any certificate besides the authority's own.

mod authority;
mod certificate;
mod error;
mod file;
mod identity;
mod kubeconfig;
mod pin;
mod request;
mod tls;
mod token;

pub use authority::{AltName, Ca, KeyPairPem, VALIDITY, csr};
pub use certificate::{Certificate, certificate_der, certificate_pem, certificates_der};
pub use error::Error;
pub use file::{ensure_private_dir, read, write_public, write_secret, write_secret_pieces};
pub use identity::Identity;
pub use kubeconfig::kubeconfig;
pub use pin::CaPin;
pub use request::Usage;
pub use tls::{
    NewcomersVerifier, PinMismatch, client_config, provider, server_config, unverified_client_config,
};
pub use token::{JoinToken, TokenError, hash_secret};
