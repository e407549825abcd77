//! The keys that tokens are signed with. They stand in the store, beside the objects and out of reach of the API, so that
//! every server has the same. A key is made a month after the last one, is published a day before it signs, and goes when
//! no token that it signed can be good any more.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use svcd_store::{Expect, ListRequest, Op, Txn};

use super::jwt::ALGORITHM;
use crate::errors::Failure;
use crate::server::ApiServer;

const PREFIX: &str = "/keys/service-accounts/";
const DAY: i64 = 24 * 3600;
/// How long a key signs before it gets a successor.
const TERM: i64 = 30 * DAY;
/// How long a successor is known before it signs.
const NOTICE: i64 = DAY;
/// The longest that a token is good.
pub(super) const LONGEST_TOKEN: i64 = 365 * DAY;
const LIFE: i64 = TERM + NOTICE + LONGEST_TOKEN;
/// How a point on the curve begins that is written with both of its coordinates.
const UNCOMPRESSED: u8 = 4;

/// A key as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredKey {
    created: i64,
    pkcs8: String,
}

/// A key.
pub(super) struct Key {
    /// The public key's hash.
    pub(super) id: String,
    created: i64,
    pair: EcdsaKeyPair,
    pkcs8: Vec<u8>,
}

impl Key {
    /// A new one; `None` when the system has no randomness.
    pub(super) fn generate(now: i64) -> Option<Self> {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).ok()?;
        Self::new(document.as_ref().to_vec(), now)
    }

    fn new(pkcs8: Vec<u8>, created: i64) -> Option<Self> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &random).ok()?;
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(pair.public_key().as_ref()));
        Some(Self { id, created, pair, pkcs8 })
    }

    fn read(stored: &[u8]) -> Option<Self> {
        let StoredKey { created, pkcs8 } = serde_json::from_slice(stored).ok()?;
        Self::new(STANDARD.decode(pkcs8).ok()?, created)
    }

    fn stored(&self) -> Vec<u8> {
        let stored = StoredKey { created: self.created, pkcs8: STANDARD.encode(&self.pkcs8) };
        serde_json::to_vec(&stored).expect("a number and a text are JSON")
    }

    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.pair.sign(&SystemRandom::new(), message).ok().map(|signature| signature.as_ref().to_vec())
    }

    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref());
        key.verify(message, signature).is_ok()
    }

    /// The public half, as a JSON Web Key.
    pub(super) fn public_jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let coordinates = point.strip_prefix(&[UNCOMPRESSED]).unwrap_or(point);
        let (x, y) = coordinates.split_at(coordinates.len() / 2);
        json!({
            "use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": ALGORITHM,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        })
    }
}

/// The keys that this server has read.
#[derive(Default)]
pub(super) struct Known(RwLock<HashMap<String, Arc<Key>>>);

/// What is to be done with the keys, oldest first, before one signs: is another one to be made, and which must go?
fn plan(created: &[i64], now: i64) -> (bool, usize) {
    let wanted = created.last().is_none_or(|newest| now - newest >= TERM);
    (wanted, created.iter().take_while(|created| now - **created >= LIFE).count())
}

/// Which of the keys, oldest first, signs: the newest that has been known for long enough.
fn signing(created: &[i64], now: i64) -> usize {
    created.iter().rposition(|created| now - created >= NOTICE).unwrap_or(0)
}

impl ApiServer {
    /// All keys, the oldest first.
    pub(super) async fn all_keys(&self) -> Result<Vec<Arc<Key>>, Failure> {
        let page =
            self.store.list(ListRequest { prefix: PREFIX.to_owned(), ..ListRequest::default() }).await?;
        let mut keys: Vec<Arc<Key>> =
            page.records.iter().filter_map(|stored| Key::read(&stored.value)).map(Arc::new).collect();
        keys.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(keys)
    }

    /// The key to check a token's signature with.
    pub(super) async fn verifying_key(&self, id: &str) -> Result<Option<Arc<Key>>, Failure> {
        let known = &self.tokens.keys.0;
        if let Some(key) = known.read().unwrap_or_else(PoisonError::into_inner).get(id) {
            return Ok(Some(Arc::clone(key)));
        }
        let fits = id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        let stored = if fits { self.store.get(&format!("{PREFIX}{id}")).await? } else { None };
        let Some(key) = stored.and_then(|stored| Key::read(&stored.value)).map(Arc::new) else {
            return Ok(None);
        };
        known.write().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), Arc::clone(&key));
        Ok(Some(key))
    }

    /// The key to sign with; makes the next one when it is time, and drops those that are of no use.
    pub(super) async fn signing_key(&self, now: i64) -> Result<Arc<Key>, Failure> {
        let mut keys = self.all_keys().await?;
        let created = |keys: &[Arc<Key>]| keys.iter().map(|key| key.created).collect::<Vec<_>>();
        let (wanted, spent) = plan(&created(&keys), now);
        if wanted {
            let no_key =
                || Failure::internal("a signing key could not be made: the system has no randomness");
            let key = Key::generate(now).ok_or_else(no_key)?;
            self.store_key(&key, &keys[..spent]).await?;
            keys.push(Arc::new(key));
        }
        let at = signing(&created(&keys), now);
        keys.get(at).cloned().ok_or_else(|| Failure::internal("there is no signing key"))
    }

    async fn store_key(&self, new: &Key, spent: &[Arc<Key>]) -> Result<(), Failure> {
        let place = |key: &Key| format!("{PREFIX}{}", key.id);
        let value = svcd_store::Value::plain(new.stored());
        let mut txn = Txn { expect: vec![(place(new), Expect::Absent)], ops: Vec::new() };
        txn.ops.push(Op::Put { key: place(new), value, meta: Bytes::new() });
        txn.ops.extend(spent.iter().map(|key| Op::Delete { key: place(key), last: None }));
        self.store.commit(txn).await?;
        tracing::info!(key = %new.id, dropped = spent.len(), "a new key for ServiceAccount tokens");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_each_other_without_a_gap() {
        assert_eq!(plan(&[], 0), (true, 0));
        assert_eq!(plan(&[0], TERM - 1), (false, 0));
        assert_eq!(plan(&[0], TERM), (true, 0));
        assert_eq!(plan(&[0, TERM], LIFE), (true, 1));
        assert_eq!(signing(&[0], 0), 0, "the first key signs at once");
        assert_eq!(signing(&[0, TERM], TERM + NOTICE - 1), 0, "a new key is only known at first");
        assert_eq!(signing(&[0, TERM], TERM + NOTICE), 1);
    }

    #[test]
    fn a_stored_key_is_the_same_key() {
        let key = Key::generate(7).unwrap();
        let read = Key::read(&key.stored()).unwrap();
        assert_eq!((&read.id, read.created), (&key.id, 7));
        assert!(read.has_signed(b"text", &key.sign(b"text").unwrap()));
        let jwk = key.public_jwk();
        assert_eq!(URL_SAFE_NO_PAD.decode(jwk["x"].as_str().unwrap()).unwrap().len(), 32);
        assert_eq!(URL_SAFE_NO_PAD.decode(jwk["y"].as_str().unwrap()).unwrap().len(), 32);
    }
}
