//! Join tokens, as they stand in their Secrets: a hash, perhaps a time at which they end, perhaps how often they may still
//! be used. A use is taken off in a transaction of its own that comes before the answer: of two that hold the last use, one
//! gets a certificate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;
use svcd_pki::hash_secret;

use crate::errors::Failure;
use crate::record;
use crate::resources::Resource;
use crate::server::ApiServer;
use crate::user::User;
use crate::write::{ATTEMPTS, Miss};

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const USES_LEFT: &str = "uses-left";
/// What users who hold a token are named by, before its id.
const USER_PREFIX: &str = "system:bootstrap:";

impl ApiServer {
    /// Who holds this token.
    ///
    /// # Errors
    /// 401, whatever is wrong with it.
    pub(crate) async fn join_token_user(&self, id: &str, secret: &str) -> Result<String, Failure> {
        let (secrets, key) = self.join_token_key(id)?;
        let stored = self.store.get(&key).await?.ok_or_else(Failure::unauthorized)?;
        let token = Token { object: &record::parse(secrets, &stored.value) };
        if token.is_good(Timestamp::now()) && token.is_of(id, secret) {
            Ok(format!("{USER_PREFIX}{id}"))
        } else {
            Err(Failure::unauthorized())
        }
    }

    /// Takes a use off the token of this user, if it is one whose uses are counted. The last use takes the token away.
    pub(super) async fn spend_join_token(&self, user: &User) -> Result<(), Failure> {
        let Some(id) = user.name.strip_prefix(USER_PREFIX) else { return Ok(()) };
        let (secrets, key) = self.join_token_key(id)?;
        for _ in 0..ATTEMPTS {
            let stored = self.store.get(&key).await?.ok_or_else(Failure::unauthorized)?;
            let object = record::parse(secrets, &stored.value);
            let token = Token { object: &object };
            if !token.is_good(Timestamp::now()) {
                return Err(Failure::unauthorized());
            }
            let written = match token.uses_left() {
                None => return Ok(()),
                Some(0 | 1) => self.remove(secrets, &stored, &object, &object, false).await,
                Some(uses) => {
                    let mut next = object.clone();
                    next["data"][USES_LEFT] = STANDARD.encode((uses - 1).to_string()).into();
                    self.put_next(secrets, &stored, &object, next, false).await
                }
            };
            match written {
                Ok(_) => return Ok(()),
                Err(Miss::Raced(_)) => {}
                Err(Miss::Refused(failure)) => return Err(failure),
            }
        }
        Err(Failure::unauthorized())
    }

    fn join_token_key(&self, id: &str) -> Result<(&Resource, String), Failure> {
        let secrets = self.resources.find("", "v1", "secrets").ok_or_else(Failure::unauthorized)?;
        Ok((secrets, secrets.key(NAMESPACE, &format!("bootstrap-token-{id}"))))
    }
}

/// A token's Secret.
struct Token<'a> {
    object: &'a Value,
}

impl Token<'_> {
    fn data(&self, name: &str) -> Option<String> {
        let bytes = STANDARD.decode(self.object["data"][name].as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    }

    /// Whether it is one, and neither its time nor its uses are over. What cannot be read counts as over.
    fn is_good(&self, now: Timestamp) -> bool {
        let unexpired = match self.data("expiration") {
            None => true,
            Some(text) => text.parse::<Timestamp>().is_ok_and(|expiration| now < expiration),
        };
        self.object["type"] == TYPE && unexpired && self.uses_left() != Some(0)
    }

    fn is_of(&self, id: &str, secret: &str) -> bool {
        let hash = self.data("token-secret-sha256").unwrap_or_default();
        self.data("token-id").as_deref() == Some(id)
            && same(hash.trim().as_bytes(), hash_secret(secret).as_bytes())
    }

    /// How often it may still be used; `None` when that is not counted.
    fn uses_left(&self) -> Option<u32> {
        let field = &self.object["data"][USES_LEFT];
        (!field.is_null())
            .then(|| self.data(USES_LEFT).and_then(|text| text.trim().parse().ok()).unwrap_or(0))
    }
}

/// Compares without telling by the time it takes where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(expiration: &str, uses: &str) -> Value {
        json!({ "type": TYPE, "data": {
            "token-id": STANDARD.encode("abc123"),
            "token-secret-sha256": STANDARD.encode(hash_secret("s3cret")),
            "expiration": STANDARD.encode(expiration),
            USES_LEFT: STANDARD.encode(uses),
        } })
    }

    #[test]
    fn a_token_is_good_until_its_time_or_its_uses_are_over() {
        let now: Timestamp = "2024-01-01T00:00:00Z".parse().unwrap();
        for (expiration, uses, good) in [
            ("2024-01-01T00:00:01Z", "1", true),
            ("2023-12-31T23:59:59Z", "1", false),
            ("soon", "1", false),
            ("2024-01-01T00:00:01Z", "0", false),
            ("2024-01-01T00:00:01Z", "many", false),
        ] {
            let object = token(expiration, uses);
            assert_eq!(Token { object: &object }.is_good(now), good, "{expiration} {uses}");
        }
    }

    #[test]
    fn only_its_own_secret_fits() {
        let object = token("2024-01-01T00:00:01Z", "1");
        let token = Token { object: &object };
        assert!(token.is_of("abc123", "s3cret"));
        assert!(!token.is_of("abc123", "guess") && !token.is_of("other", "s3cret"));
    }
}
