//! Every way in which joining fails: `Display` is what went wrong, [`JoinError::advice`] what to do, one line each.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use svcd_pki::{CaPin, PinMismatch};

use super::ServerUrl;

/// Why this machine could not join.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The URL cannot be a server's.
    #[error("{given:?} is not a server's address")]
    BadUrl {
        /// What was given.
        given: String,
    },
    /// No certificate and no token.
    #[error("this machine has not joined a cluster ({path} is not there) and no token was given", path = path.display())]
    NoToken {
        /// Where the certificate would be.
        path: PathBuf,
    },
    /// It belongs to another cluster already.
    #[error("this machine has joined another cluster ({server})")]
    OtherCluster {
        /// Where that is written.
        path: PathBuf,
        /// That cluster's server.
        server: String,
    },
    /// The name does not resolve.
    #[error("cannot find the address of {host}: {source}")]
    UnknownHost {
        /// Which name.
        host: String,
        /// Why not.
        source: io::Error,
    },
    /// Nobody listens there.
    #[error("nothing listens at {server}: connection refused")]
    Refused {
        /// Where.
        server: ServerUrl,
    },
    /// No answer in time.
    #[error("{server} did not answer within {after:?}")]
    Timeout {
        /// Where.
        server: ServerUrl,
        /// How long was waited.
        after: Duration,
    },
    /// No way there.
    #[error("cannot reach {server}: {source}")]
    Unreachable {
        /// Where.
        server: ServerUrl,
        /// Why not.
        source: io::Error,
    },
    /// The server's CA is not the one that the token pins.
    #[error(
        "the token is for another cluster's CA: the certificate authority of {server} is not the one it names"
    )]
    WrongCa {
        /// Which server.
        server: ServerUrl,
        /// What the token pins.
        pin: CaPin,
    },
    /// A certificate is not valid at this machine's time, or the two clocks differ.
    #[error("the clock of this machine is off: {detail}")]
    Clock {
        /// What shows it.
        detail: String,
    },
    /// The server's certificate does not carry the name used.
    #[error("the server's certificate is not for {host:?}")]
    WrongName {
        /// The name used.
        host: String,
    },
    /// The TLS handshake failed in another way.
    #[error("cannot talk TLS with {server}: {reason}")]
    Tls {
        /// Which server.
        server: ServerUrl,
        /// Why not.
        reason: String,
    },
    /// 401.
    #[error("the server refused the token {id}: {message}")]
    TokenRefused {
        /// The token's id.
        id: String,
        /// What the server said.
        message: String,
    },
    /// 409.
    #[error("the name {name:?} is taken by a node that is alive: {message}")]
    NameTaken {
        /// Which name.
        name: String,
        /// What the server said.
        message: String,
    },
    /// Something else answers there.
    #[error("what answers at {server} is not a svcd server: {reason}")]
    NotSvcd {
        /// Where.
        server: ServerUrl,
        /// What shows it.
        reason: String,
    },
    /// The server answered with another error.
    #[error("the server answered {code}: {message}")]
    Server {
        /// The HTTP status.
        code: u16,
        /// What it said.
        message: String,
    },
    /// The connection broke on the way.
    #[error("the connection to {server} broke: {reason}")]
    Broken {
        /// Which server.
        server: ServerUrl,
        /// Why.
        reason: String,
    },
    /// Keys, certificates and their files.
    #[error(transparent)]
    Pki(#[from] svcd_pki::Error),
}

impl JoinError {
    /// Whether trying again may help without anybody doing anything.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Refused { .. }
            | Self::Timeout { .. }
            | Self::Unreachable { .. }
            | Self::UnknownHost { .. }
            | Self::Broken { .. } => true,
            Self::Server { code, .. } => *code == 429 || *code >= 500,
            _ => false,
        }
    }

    /// What to do about it, one line.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            Self::BadUrl { .. } => "give it as https://ADDRESS:6443, as `svcd server` prints it".into(),
            Self::NoToken { .. } => "create one on the control plane with `svcd token create`, and give it with --token".into(),
            Self::OtherCluster { path, .. } => format!(
                "run `svcd agent --cleanup` and remove {} to leave that cluster, then join again",
                path.display()
            ),
            Self::UnknownHost { .. } => "check the name's spelling, or use the server's IP address".into(),
            Self::Refused { .. } => "check that `svcd server` runs there, and the port".into(),
            Self::Timeout { .. } | Self::Unreachable { .. } => {
                "check the address, and that no firewall is between this machine and that port".into()
            }
            Self::WrongCa { .. } => {
                "create a token on that very control plane with `svcd token create`, or check the address".into()
            }
            Self::Clock { .. } => "set it (`timedatectl set-ntp true`, or `date -s`), then join again".into(),
            Self::WrongName { .. } => {
                "use the address that `svcd server` printed, or give the server this name too (--tls-san)".into()
            }
            Self::Tls { .. } => "check that the address is that of a svcd server".into(),
            Self::TokenRefused { .. } => {
                "it may be expired, revoked or used up: create another with `svcd token create` on the control plane".into()
            }
            Self::NameTaken { .. } => {
                "give this machine another name with --node-name; if that node is gone, wait until its lease runs out".into()
            }
            Self::NotSvcd { .. } => "check the address and the port (6443 by default)".into(),
            Self::Server { .. } => "look into the server's log".into(),
            Self::Broken { .. } => "try again; if it stays so, look into the server's log".into(),
            Self::Pki(svcd_pki::Error::Expired { .. }) => {
                "join again with a token: `svcd token create` on the control plane prints the line".into()
            }
            Self::Pki(svcd_pki::Error::NotYetValid { .. }) => "set the clock, then start again".into(),
            Self::Pki(_) => "check the file and the directory's permissions".into(),
        }
    }

    /// What a failed TLS handshake means.
    pub(super) fn from_handshake(server: &ServerUrl, error: io::Error) -> Self {
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Self::Broken {
                    server: server.clone(),
                    reason: "it was closed during the TLS handshake".into(),
                },
                _ => Self::Unreachable { server: server.clone(), source: error },
            };
        };
        Self::from_tls(server, tls)
    }

    fn from_tls(server: &ServerUrl, error: &rustls::Error) -> Self {
        use rustls::CertificateError as Certificate;
        if let Some(mismatch) = PinMismatch::find(error) {
            return Self::WrongCa { server: server.clone(), pin: mismatch.pin };
        }
        match error {
            rustls::Error::InvalidCertificate(certificate) => match certificate {
                Certificate::NotValidYet
                | Certificate::NotValidYetContext { .. }
                | Certificate::Expired
                | Certificate::ExpiredContext { .. } => Self::Clock {
                    detail: format!("the server's certificate is {}", time_problem(certificate)),
                },
                Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                    Self::WrongName { host: server.host().to_owned() }
                }
                other => Self::Tls { server: server.clone(), reason: other.to_string() },
            },
            rustls::Error::InvalidMessage(_) => {
                Self::NotSvcd { server: server.clone(), reason: "it does not talk TLS".into() }
            }
            other => Self::Tls { server: server.clone(), reason: other.to_string() },
        }
    }
}

fn time_problem(error: &rustls::CertificateError) -> String {
    let show = |time: &rustls_pki_types::UnixTime| {
        i64::try_from(time.as_secs())
            .ok()
            .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
            .map_or_else(|| "an impossible time".to_owned(), |time| time.to_string())
    };
    match error {
        rustls::CertificateError::NotValidYetContext { time, not_before } => {
            format!("valid only from {}, and it is {} here", show(not_before), show(time))
        }
        rustls::CertificateError::ExpiredContext { time, not_after } => {
            format!("valid only until {}, and it is {} here", show(not_after), show(time))
        }
        other => other.to_string(),
    }
}
