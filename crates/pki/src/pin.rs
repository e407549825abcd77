//! The pin of an authority: the SHA-256 of its certificate's DER, short enough to stand in a join token.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::TokenError;

/// The SHA-256 of a certificate authority's certificate (DER). Written as base64url without padding.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CaPin([u8; 32]);

impl CaPin {
    /// The pin of this certificate.
    #[must_use]
    pub fn of(certificate_der: &[u8]) -> Self {
        Self(Sha256::digest(certificate_der).into())
    }
}

impl fmt::Display for CaPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for CaPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaPin({self})")
    }
}

impl FromStr for CaPin {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        const LENGTH: usize = 43;
        if text.len() != LENGTH {
            return Err(TokenError::Length {
                part: "pin of the cluster's CA",
                expected: LENGTH,
                found: text.len(),
            });
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| TokenError::Characters { part: "pin of the cluster's CA" })?;
        Ok(Self(bytes.try_into().map_err(|_| TokenError::Characters { part: "pin of the cluster's CA" })?))
    }
}
