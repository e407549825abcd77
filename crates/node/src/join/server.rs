//! The address of a server, as an operator types it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::Uri;

use super::JoinError;

const DEFAULT_PORT: u16 = 6443;

/// `https://host:port`; the scheme may be left out, the port is 6443 when it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    host: String,
    port: u16,
}

impl ServerUrl {
    /// The host: a name or an address (IPv6 without brackets).
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port` as it stands in a URL and in the Host header.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Its addresses; an address is its own.
    pub async fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        Ok(tokio::net::lookup_host((self.host.as_str(), self.port)).await?.collect())
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

impl FromStr for ServerUrl {
    type Err = JoinError;

    fn from_str(text: &str) -> Result<Self, JoinError> {
        let bad = || JoinError::BadUrl { given: text.to_owned() };
        let trimmed = text.trim();
        let rest = match trimmed.split_once("://") {
            Some(("https", rest)) => rest,
            Some(_) => return Err(bad()),
            None => trimmed,
        };
        // An IPv6 address without brackets would be read as host and port.
        if let Ok(address) = rest.parse::<IpAddr>() {
            return Ok(Self { host: address.to_string(), port: DEFAULT_PORT });
        }
        let uri: Uri = format!("https://{rest}").parse().map_err(|_| bad())?;
        let host = uri.host().ok_or_else(bad)?.trim_matches(['[', ']']).to_owned();
        if host.is_empty() || !matches!(uri.path(), "" | "/") || uri.query().is_some() || rest.contains('@') {
            return Err(bad());
        }
        // http::Uri takes a number that is no port for none at all.
        let port = match uri.authority().and_then(|authority| authority.as_str().rsplit_once(':')) {
            Some((_, port)) if !port.ends_with(']') => port.parse().map_err(|_| bad())?,
            _ => DEFAULT_PORT,
        };
        Ok(Self { host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted() {
        for (given, shown) in [
            ("https://192.168.56.11:6443", "https://192.168.56.11:6443"),
            ("192.168.56.11", "https://192.168.56.11:6443"),
            ("https://control.example.com:443/", "https://control.example.com:443"),
            ("https://[fd00::1]:7000", "https://[fd00::1]:7000"),
            ("fd00::1", "https://[fd00::1]:6443"),
        ] {
            assert_eq!(given.parse::<ServerUrl>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn refused() {
        for bad in
            ["", "http://a:6443", "https://", "https://a/path", "a b", "https://user@host", "https://a:99999"]
        {
            assert!(matches!(bad.parse::<ServerUrl>(), Err(JoinError::BadUrl { .. })), "{bad}");
        }
    }
}
