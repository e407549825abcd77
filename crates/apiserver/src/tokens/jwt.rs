//! JSON Web Tokens, as little of them as is needed: three parts, one algorithm. A token that names another algorithm is
//! not a token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::keys::Key;

pub(super) const ALGORITHM: &str = "ES256";

/// A token that is not yet believed.
pub(super) struct Token<'a> {
    /// Header and payload, as they were signed.
    signed: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
    /// The key's name.
    pub(super) kid: String,
}

impl<'a> Token<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        let kid = header["kid"].as_str()?.to_owned();
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        (header["alg"] == ALGORITHM).then_some(Self { signed, payload, signature, kid })
    }

    /// What it says, if the key has signed it.
    pub(super) fn verified<T: DeserializeOwned>(&self, key: &Key) -> Option<T> {
        if !key.has_signed(self.signed.as_bytes(), &self.signature) {
            return None;
        }
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(self.payload).ok()?).ok()
    }
}

/// A signed token; `None` when the system has no randomness to sign with.
pub(super) fn sign(claims: &impl Serialize, key: &Key) -> Option<String> {
    let header = json!({ "alg": ALGORITHM, "kid": key.id });
    let payload = serde_json::to_vec(claims).expect("claims are JSON");
    let signed =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(payload));
    let signature = key.sign(signed.as_bytes())?;
    Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_signed_by_the_key_is_believed() {
        let (key, other) = (Key::generate(0).unwrap(), Key::generate(0).unwrap());
        let text = sign(&json!({ "a": 1 }), &key).unwrap();
        let token = Token::parse(&text).unwrap();
        assert_eq!(token.kid, key.id);
        assert_eq!(token.verified::<Value>(&key), Some(json!({ "a": 1 })));
        assert_eq!(token.verified::<Value>(&other), None);
        let parts: Vec<&str> = text.split('.').collect();
        let payload = URL_SAFE_NO_PAD.encode(r#"{"a":2}"#);
        let forged = format!("{}.{payload}.{}", parts[0], parts[2]);
        assert_eq!(Token::parse(&forged).unwrap().verified::<Value>(&key), None);
        let none = URL_SAFE_NO_PAD.encode(json!({ "alg": "none", "kid": key.id }).to_string());
        for bad in [format!("{none}.{}.", parts[1]), "a.b.c".to_owned(), "..".to_owned(), String::new()] {
            assert!(Token::parse(&bad).is_none(), "{bad}");
        }
    }
}
