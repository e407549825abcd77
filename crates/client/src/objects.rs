//! The objects of one kind, in one namespace or in all.

use std::marker::PhantomData;

use futures::StreamExt;
use futures::stream::BoxStream;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::runtime::watcher::{self, watcher};
use kube::{Client, Error, Result};
use serde::de::Error as _;
use serde_json::Value;
use svcd_api::Wire;

use crate::Raw;

/// What a watch tells: kube's events, of typed objects.
pub type Event<K> = watcher::Event<K>;

/// The objects of a kind; see `kube::Api` for what each call means.
pub struct Objects<K> {
    api: Api<Raw>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Objects<K> {
    fn clone(&self) -> Self {
        Self { api: self.api.clone(), kind: PhantomData }
    }
}

/// One page of a list.
#[derive(Debug)]
pub struct Page<K> {
    /// The objects.
    pub items: Vec<K>,
    /// What to ask the next page with, if there is one.
    pub next: Option<String>,
}

impl<K: Wire> Objects<K> {
    /// Of all namespaces, or of a kind that has none.
    pub fn all(client: Client) -> Self {
        Self { api: Api::all_with(client, &resource::<K>()), kind: PhantomData }
    }

    /// Of one namespace.
    pub fn namespaced(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced_with(client, namespace, &resource::<K>()), kind: PhantomData }
    }

    /// The same objects, untyped.
    pub fn raw(&self) -> &Api<Raw> {
        &self.api
    }

    /// One object.
    ///
    /// # Errors
    /// The server's refusal (404 when there is none), no connection, or an answer that is not of the kind.
    pub async fn get(&self, name: &str) -> Result<K> {
        typed(&self.api.get(name).await?)
    }

    /// One object, if there is one.
    ///
    /// # Errors
    /// As [`Objects::get`], but for 404.
    pub async fn get_opt(&self, name: &str) -> Result<Option<K>> {
        self.api.get_opt(name).await?.map(|raw| typed(&raw)).transpose()
    }

    /// The objects, a page of them.
    ///
    /// # Errors
    /// As [`Objects::get`].
    pub async fn list(&self, params: &ListParams) -> Result<Page<K>> {
        let list = self.api.list(params).await?;
        let items = list.items.iter().map(typed).collect::<Result<_>>()?;
        Ok(Page { items, next: list.metadata.continue_.filter(|token| !token.is_empty()) })
    }

    /// Creates an object; returns it as it was stored.
    ///
    /// # Errors
    /// As [`Objects::get`].
    pub async fn create(&self, object: &K) -> Result<K> {
        typed(&self.api.create(&PostParams::default(), &raw(object)).await?)
    }

    /// Replaces an object.
    ///
    /// # Errors
    /// As [`Objects::get`]; 409 when it has changed since the version that `object` names.
    pub async fn replace(&self, name: &str, object: &K) -> Result<K> {
        typed(&self.api.replace(name, &PostParams::default(), &raw(object)).await?)
    }

    /// Replaces what a subresource shows of an object.
    ///
    /// # Errors
    /// As [`Objects::replace`].
    pub async fn replace_subresource(&self, subresource: &str, name: &str, object: &K) -> Result<K> {
        let params = PostParams::default();
        typed(&self.api.replace_subresource::<Raw>(subresource, name, &params, &raw(object)).await?)
    }

    /// Asks something of an object by creating a subresource.
    ///
    /// # Errors
    /// As [`Objects::get`].
    pub async fn create_subresource(&self, subresource: &str, name: &str, what: &Value) -> Result<()> {
        let params = PostParams::default();
        self.api.create_subresource::<Value, Value>(subresource, name, &params, what).await.map(drop)
    }

    /// Patches an object.
    ///
    /// # Errors
    /// As [`Objects::get`].
    pub async fn patch(&self, name: &str, patch: &Patch<Value>) -> Result<K> {
        typed(&self.api.patch(name, &PatchParams::default(), patch).await?)
    }

    /// Patches an object's status.
    ///
    /// # Errors
    /// As [`Objects::get`].
    pub async fn patch_status(&self, name: &str, patch: &Patch<Value>) -> Result<K> {
        typed(&self.api.patch_status(name, &PatchParams::default(), patch).await?)
    }

    /// Deletes an object; returns it when it stays for a while, and for some kinds (pods) also when it is gone.
    ///
    /// # Errors
    /// As [`Objects::get`].
    pub async fn delete(&self, name: &str, params: &DeleteParams) -> Result<Option<K>> {
        self.api.delete(name, params).await?.left().map(|raw| typed(&raw)).transpose()
    }

    /// The objects as they change, for ever; see `kube::runtime::watcher`. An object that does not decode is logged and
    /// left out: one bad object does not hide the others.
    pub fn watch(&self, config: watcher::Config) -> BoxStream<'static, watcher::Result<Event<K>>> {
        let events = events(self.api.clone(), config);
        events.filter_map(|event| std::future::ready(event.map(read_event).transpose())).boxed()
    }
}

fn read_event<K: Wire>(event: Event<Raw>) -> Option<Event<K>> {
    Some(match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(raw) => Event::InitApply(readable(&raw)?),
        Event::Apply(raw) => Event::Apply(readable(&raw)?),
        Event::Delete(raw) => Event::Delete(readable(&raw)?),
    })
}

fn readable<K: Wire>(raw: &Raw) -> Option<K> {
    K::from_json(raw.value())
        .map_err(|why| tracing::warn!(object = ?raw, %why, "an object cannot be read, and is left out"))
        .ok()
}

/// kube's watcher, once for all kinds.
fn events(api: Api<Raw>, config: watcher::Config) -> BoxStream<'static, watcher::Result<Event<Raw>>> {
    watcher(api, config).boxed()
}

fn resource<K: Wire>() -> ApiResource {
    ApiResource {
        group: K::GROUP.to_owned(),
        version: K::VERSION.to_owned(),
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        plural: K::URL_PATH_SEGMENT.to_owned(),
    }
}

fn typed<K: Wire>(raw: &Raw) -> Result<K> {
    K::from_json(raw.value()).map_err(unreadable)
}

fn unreadable(why: String) -> Error {
    Error::SerdeError(serde_json::Error::custom(why))
}

fn raw<K: Wire>(object: &K) -> Raw {
    Raw::new(object.to_json())
}
