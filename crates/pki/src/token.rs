//! Join tokens: what an operator carries from the control plane to a new machine.
//!
//! `svcd1.<pin of the CA>.<id>.<secret>`. The pin lets the agent know the server before it says anything; the id names the
//! token (it may be listed and logged); the secret never is, and the cluster keeps only its SHA-256.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::CaPin;

const PREFIX: &str = "svcd";
const VERSION: &str = "1";
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 32;
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A join token.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The cluster's CA.
    pub pin: CaPin,
    /// The public name of the token.
    pub id: String,
    /// The secret.
    pub secret: String,
}

impl JoinToken {
    /// A new token with a random id and secret.
    #[must_use]
    pub fn generate(pin: CaPin) -> Self {
        Self { pin, id: random_text(ID_LENGTH), secret: random_text(SECRET_LENGTH) }
    }

    /// What goes into `Authorization: Bearer …`.
    #[must_use]
    pub fn bearer(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}

/// The hex of a secret's SHA-256: the only form in which the cluster keeps it.
#[must_use]
pub fn hash_secret(secret: &str) -> String {
    use fmt::Write;
    Sha256::digest(secret).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn random_text(length: usize) -> String {
    (0..length).map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())])).collect()
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{VERSION}.{}.{}.{}", self.pin, self.id, self.secret)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("pin", &self.pin).field("id", &self.id).finish_non_exhaustive()
    }
}

/// Which part of a token is wrong. The text never repeats the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not begin as one.
    #[error("this is not a svcd token; one begins with svcd1. and is printed by `svcd token create`")]
    NotAToken,
    /// It is of another version.
    #[error(
        "this token is of version {0:?}, which this svcd does not know; create one with the same version of svcd"
    )]
    UnknownVersion(String),
    /// It has too few or too many parts.
    #[error("this token has {found} parts, not 4; copy the whole line that `svcd token create` printed")]
    Parts {
        /// How many there are.
        found: usize,
    },
    /// A part has the wrong length.
    #[error(
        "the {part} in this token has {found} characters, not {expected}; copy the whole line that `svcd token create` printed"
    )]
    Length {
        /// Which part.
        part: &'static str,
        /// How many it should have.
        expected: usize,
        /// How many it has.
        found: usize,
    },
    /// A part has characters that cannot be there.
    #[error(
        "the {part} in this token has characters that no token has; copy the whole line that `svcd token create` printed"
    )]
    Characters {
        /// Which part.
        part: &'static str,
    },
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let version = parts[0].strip_prefix(PREFIX).ok_or(TokenError::NotAToken)?;
        if version.is_empty() || !version.bytes().all(|b| b.is_ascii_digit()) {
            return Err(TokenError::NotAToken);
        }
        if version != VERSION {
            return Err(TokenError::UnknownVersion(version.to_owned()));
        }
        let [_, pin, id, secret] = parts[..] else {
            return Err(TokenError::Parts { found: parts.len() });
        };
        check_part("id", id, ID_LENGTH)?;
        check_part("secret", secret, SECRET_LENGTH)?;
        Ok(Self { pin: pin.parse()?, id: id.to_owned(), secret: secret.to_owned() })
    }
}

fn check_part(part: &'static str, text: &str, expected: usize) -> Result<(), TokenError> {
    let found = text.chars().count();
    if found != expected {
        return Err(TokenError::Length { part, expected, found });
    }
    if !text.bytes().all(|b| ALPHABET.contains(&b)) {
        return Err(TokenError::Characters { part });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken::generate(CaPin::of(b"a certificate"))
    }

    #[test]
    fn round_trip() {
        let token = token();
        assert_eq!(token.to_string().parse::<JoinToken>().unwrap(), token);
        assert_eq!(format!(" {token}\n").parse::<JoinToken>().unwrap(), token);
        assert_eq!(token.bearer(), format!("{}.{}", token.id, token.secret));
        assert_ne!(token, self::token());
    }

    #[test]
    fn debug_hides_the_secret() {
        let token = token();
        assert!(!format!("{token:?}").contains(&token.secret));
    }

    #[test]
    fn secrets_are_hashed_with_sha256() {
        assert_eq!(hash_secret("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn errors_say_which_part_is_wrong() {
        let good = token().to_string();
        let parse = |text: &str| text.parse::<JoinToken>().unwrap_err();
        assert_eq!(parse(""), TokenError::NotAToken);
        assert_eq!(parse("K10abc::server:xyz"), TokenError::NotAToken);
        assert_eq!(parse("svcd"), TokenError::NotAToken);
        assert_eq!(parse(&good.replacen("svcd1", "svcd2", 1)), TokenError::UnknownVersion("2".into()));
        assert_eq!(parse("svcd1.abc"), TokenError::Parts { found: 2 });
        assert_eq!(parse(&format!("{good}.x")), TokenError::Parts { found: 5 });
        let short = &good[..good.len() - 1];
        assert_eq!(parse(short), TokenError::Length { part: "secret", expected: 32, found: 31 });
        assert_eq!(parse(&format!("{short}!")), TokenError::Characters { part: "secret" });
        let short_pin = good.replacen("svcd1.", "svcd1.a", 1);
        assert!(matches!(parse(&short_pin), TokenError::Length { expected: 43, found: 44, .. }));
        let bad_pin = format!("svcd1.!{}", &good[7..]);
        assert!(matches!(parse(&bad_pin), TokenError::Characters { .. }));
    }

    #[test]
    fn errors_never_repeat_the_secret() {
        let token = token();
        let error = format!("{token}x").parse::<JoinToken>().unwrap_err().to_string();
        assert!(!error.contains(&token.secret), "{error}");
    }
}
