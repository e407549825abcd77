//! Join tokens whose time is over are deleted.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::watcher;
use svcd_client::Objects;

use crate::Error;
use crate::error::{Doing, unless_gone};
use crate::kit::drive::{Again, drive};
use crate::kit::queue::Queue;
use crate::kit::store::{Key, Store};
use crate::kit::world::{Task, World};
use crate::kit::{informer, meta};

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";

pub(crate) fn start(world: &Arc<World>) -> Vec<Task> {
    let queue = Queue::new();
    let secrets: Arc<Store<Secret>> = Store::plain();
    let changed = Arc::clone(&queue);
    secrets.listen(move |change| {
        if change.new.is_some_and(|secret| expiry(secret).is_some()) {
            changed.add(change.key());
        }
    });
    let api = Objects::namespaced(world.client.clone(), NAMESPACE);
    let watch = informer::run(api.clone(), watcher::Config::default(), Arc::clone(&secrets));
    let work = drive("tokencleaner", queue, 1, move |key: Key| {
        let (secrets, api) = (Arc::clone(&secrets), api.clone());
        async move { reconcile(&secrets, &api, &key).await }
    });
    vec![("secret watch", Box::pin(watch)), ("tokencleaner", Box::pin(work))]
}

async fn reconcile(secrets: &Store<Secret>, api: &Objects<Secret>, key: &Key) -> Result<Again, Error> {
    let Some(secret) = secrets.get(key) else { return Ok(None) };
    let Some(expiry) = expiry(&secret) else { return Ok(None) };
    let now = Timestamp::now();
    if expiry > now {
        return Ok(Some(crate::kit::pods::until(expiry, now)));
    }
    tracing::info!(secret = %key, "the token has expired and is deleted");
    let deleted = api.delete(&key.name, &meta::only_this(&secret.metadata)).await;
    unless_gone(deleted.map(|_| ()).doing(|| format!("delete Secret {key}")))?;
    Ok(None)
}

/// When a token ends. One whose end cannot be read has ended, as upstream has it: better no token than an eternal one.
fn expiry(secret: &Secret) -> Option<Timestamp> {
    if secret.type_.as_deref() != Some(TYPE) {
        return None;
    }
    let bytes = &secret.data.as_ref()?.get("expiration")?.0;
    let text = std::str::from_utf8(bytes).ok().map(str::trim);
    Some(text.and_then(|text| text.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    fn secret(kind: &str, expiration: Option<&str>) -> Secret {
        let data = expiration.map(|text| ("expiration".to_owned(), ByteString(text.as_bytes().to_vec())));
        Secret { type_: Some(kind.to_owned()), data: Some(data.into_iter().collect()), ..Secret::default() }
    }

    #[test]
    fn when_tokens_end() {
        let moment = "2026-01-02T03:04:05Z";
        assert_eq!(expiry(&secret(TYPE, Some(moment))), Some(moment.parse().unwrap()));
        assert_eq!(expiry(&secret(TYPE, Some("tomorrow"))), Some(Timestamp::UNIX_EPOCH));
        assert_eq!(expiry(&secret(TYPE, None)), None);
        assert_eq!(expiry(&secret("Opaque", Some(moment))), None);
    }
}
