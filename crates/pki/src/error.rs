//! What can go wrong with keys, certificates and their files: each variant says what was tried and with what.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or directory could not be written.
    #[error("cannot write {path}: {source}", path = path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is there, but is not what it should be.
    #[error("{path} is broken: {reason}; restore it from a backup, or move it away to start anew", path = path.display())]
    Broken {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The authority's certificate is there and its key is not.
    #[error("{certificate} is there but {key} is missing; restore the key from a backup, or move the certificate away to start a new cluster",
        certificate = certificate.display(), key = key.display())]
    KeyMissing {
        /// The certificate that is there.
        certificate: PathBuf,
        /// The key that is not.
        key: PathBuf,
    },
    /// A certificate is not valid yet, which a clock that runs late looks like.
    #[error(
        "{what} is valid only from {not_before}, and it is {now} here: the clock of this machine is off; set it (timedatectl set-ntp true)"
    )]
    NotYetValid {
        /// Which certificate.
        what: String,
        /// When it starts to be valid.
        not_before: Timestamp,
        /// What this machine thinks the time is.
        now: Timestamp,
    },
    /// A certificate's time is over.
    #[error(
        "{what} expired at {not_after}, and it is {now} here; renew it, or set the clock of this machine if it is off"
    )]
    Expired {
        /// Which certificate.
        what: String,
        /// When it ended.
        not_after: Timestamp,
        /// What this machine thinks the time is.
        now: Timestamp,
    },
    /// A text is not a certificate.
    #[error("not a certificate: {0}")]
    NotACertificate(String),
    /// A text is not a certificate signing request whose signature holds.
    #[error("not a valid certificate signing request: {0}")]
    BadRequest(String),
    /// A certificate can carry one organization only, a limit of how subjects are written here.
    #[error("a certificate for {common_name:?} with {count} organizations: at most one is possible")]
    Organizations {
        /// The subject's common name.
        common_name: String,
        /// How many were asked for.
        count: usize,
    },
    /// A name cannot stand in a certificate.
    #[error("{0:?} cannot be a name in a certificate")]
    BadName(String),
    /// Making a key or a signature failed.
    #[error("cannot make {what}: {source}")]
    Crypto {
        /// What was to be made.
        what: &'static str,
        /// Why not.
        source: rcgen::Error,
    },
    /// A TLS configuration could not be built.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}
