//! Kinds written against typed objects, and the adapter that shows them to the server as [`Kind`]s over JSON.
//!
//! [`Behavior`] has a default for everything that most kinds do alike; a kind's file says only what is its own. The
//! adapter adds what is the same for all: metadata rules, `status` that only `/status` writes, and
//! `metadata.generation`.

use std::marker::PhantomData;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::addresses::{AddressClaims, AddressRanges, Cluster};
use crate::decode;
use crate::field::FieldError;
use crate::kind::{Author, Claim, Column, Decoded, Grant, Kind, KindInfo, Right, Subresource, Write};
use crate::metadata;
use crate::names::NameRule;

/// What a kind's file defines.
pub(crate) trait Behavior: Send + Sync + 'static {
    /// The type in `k8s-openapi`.
    type Object: Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned;

    const INFO: &'static KindInfo;
    /// See [`Kind::is_virtual`].
    const VIRTUAL: bool = false;
    const NAMES: NameRule = NameRule::Subdomain;
    /// What a new object's `status` is, whatever the client sent; `None` keeps what it sent.
    const INITIAL_STATUS: Option<&'static str> = None;
    /// The top-level fields whose change raises `metadata.generation`.
    const GENERATION: &'static [&'static str] = &[];
    const COLUMNS: &'static [Column];
    const SELECTABLE: &'static [&'static str] = &[];
    /// Merge keys besides those of metadata: path, keys (see [`Kind::merge_keys`]).
    const MERGE_KEYS: &'static [(&'static str, &'static [&'static str])] = &[];
    /// See [`Kind::returns_deleted`].
    const RETURNS_DELETED: bool = false;
    /// Where the kind has a pod's spec: `spec`, `spec.template.spec`.
    const POD_SPEC: Option<&'static str> = None;
    /// See [`Kind::address_claims`].
    const ADDRESS_CLAIMS: Option<&'static dyn AddressClaims> = None;
    /// See [`Kind::address_ranges`].
    const ADDRESS_RANGES: Option<&'static dyn AddressRanges> = None;
    /// See [`Kind::deprecation`].
    const DEPRECATION: Option<&'static str> = None;

    // What not every kind has. Where it is absent, nothing is decoded for it.

    /// See [`Kind::set_defaults`].
    const DEFAULT: Option<Change<Self::Object>> = None;
    /// See [`Kind::prepare_create`].
    const PREPARE_CREATE: Option<Change<Self::Object>> = None;
    /// See [`Kind::prepare_update`].
    const PREPARE_UPDATE: Option<Update<Self::Object>> = None;
    /// Fills in what depends on the cluster; follows the two above.
    const SETTLE: Option<Settle<Self::Object>> = None;
    /// See [`Kind::claims`] and [`Kind::grant`].
    const CLAIMS: Option<Claims<Self::Object>> = None;
    /// See [`Kind::deletion_grace_seconds`].
    const DELETION_GRACE: Option<DeletionGrace<Self::Object>> = None;
    /// See [`Kind::warnings`].
    const WARNINGS: Option<Warnings<Self::Object>> = None;
    /// See [`Kind::set_author`].
    const SET_AUTHOR: Option<fn(&mut Self::Object, &Author<'_>)> = None;
    /// See [`Kind::admit`]: the new object and the old one, and the write that they are of.
    const ADMIT: Option<Admit<Self::Object>> = None;
    /// What is special about writing a part; see [`Kind::prepare_part`].
    const PREPARE_PART: Option<PreparePart<Self::Object>> = None;

    fn validate(_object: &Self::Object, _errors: &mut Vec<FieldError>) {}

    fn validate_create(_object: &Self::Object, _errors: &mut Vec<FieldError>) {}

    fn validate_update(_new: &Self::Object, _old: &Self::Object, _errors: &mut Vec<FieldError>) {}

    fn validate_approval(_new: &Self::Object, _old: &Self::Object, _errors: &mut Vec<FieldError>) {}

    fn validate_status(_new: &Self::Object, _old: &Self::Object, _errors: &mut Vec<FieldError>) {}

    /// The values of [`Behavior::SELECTABLE`], in its order.
    fn selectable(_object: &Self::Object) -> Vec<String> {
        Vec::new()
    }

    fn cells(object: &Self::Object, now: Timestamp) -> Vec<Value>;
}

/// What is done to an object by itself.
pub(crate) type Change<T> = fn(&mut T);

/// What is done to a new object in view of the one before.
pub(crate) type Update<T> = fn(&mut T, &T);

/// What is done to a new object in view of the one before and the cluster; returns what cannot be had in it.
pub(crate) type Settle<T> = fn(&mut T, Option<&T>, &Cluster) -> Vec<FieldError>;

/// What an object wants exclusively, and how what it was granted is written into it.
pub(crate) struct Claims<T> {
    pub(crate) of: fn(&T) -> Vec<Claim>,
    pub(crate) grant: fn(&mut T, &[Grant]),
}

/// How long an object has to wind down, in seconds.
pub(crate) type DeletionGrace<T> = fn(&T) -> Option<i64>;

/// From a new object and the one before to warnings.
pub(crate) type Warnings<T> = fn(&T, Option<&T>) -> Vec<String>;

/// From a new object, the one before and the write to what the write needs.
pub(crate) type Admit<T> = fn(&T, Option<&T>, &Write<'_>) -> Result<Option<Right>, String>;

/// Makes a part of a new object what may be written of it; given are the object before and the time.
pub(crate) type PreparePart<T> = fn(Subresource, &mut T, &T, Timestamp);

/// The [`Kind`] of a [`Behavior`].
pub(crate) struct Adapter<B>(PhantomData<fn() -> B>);

impl<B> Adapter<B> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<B: Behavior> Adapter<B> {
    fn has_status() -> bool {
        B::INFO.subresources.contains(&Subresource::Status)
    }

    /// Canonical objects decode; of anything else nothing typed is known.
    fn read(value: &Value) -> Option<B::Object> {
        decode::typed(value).ok().map(|typed| typed.object)
    }

    fn change<R: Default>(value: &mut Value, change: impl FnOnce(&mut B::Object) -> R) -> R {
        let Some(mut object) = Self::read(value) else { return R::default() };
        let result = change(&mut object);
        *value = encode(&object);
        result
    }

    /// What of the metadata a client does not set at creation.
    fn begin_metadata(object: &mut Value) {
        if let Some(metadata) = metadata_mut(object) {
            metadata.remove("generation");
            metadata.remove("selfLink");
        }
        if !B::GENERATION.is_empty() {
            set_generation(object, 1);
        }
    }

    /// Raises the generation when one of the wanted-state fields differs.
    fn bump_generation(new: &mut Value, old: &Value) {
        if B::GENERATION.is_empty() {
            return;
        }
        let changed = B::GENERATION.iter().any(|field| new.get(field) != old.get(field));
        let before = old["metadata"]["generation"].as_i64().unwrap_or(0);
        set_generation(new, before + i64::from(changed));
    }

    fn prepare_typed_update(new: &mut Value, old: &Value, cluster: &Cluster) -> Vec<FieldError> {
        if B::PREPARE_UPDATE.is_none() && B::SETTLE.is_none() {
            return Vec::new();
        }
        let Some(old) = Self::read(old) else { return Vec::new() };
        Self::change(new, |new| {
            if let Some(prepare) = B::PREPARE_UPDATE {
                prepare(new, &old);
            }
            B::SETTLE.map(|settle| settle(new, Some(&old), cluster)).unwrap_or_default()
        })
    }

    fn initial_status() -> Option<Value> {
        B::INITIAL_STATUS.map(|text| serde_json::from_str(text).expect("initial statuses are JSON"))
    }
}

fn encode<T: Serialize>(object: &T) -> Value {
    serde_json::to_value(object).expect("API types serialise to JSON: their map keys are strings")
}

fn metadata_mut(object: &mut Value) -> Option<&mut serde_json::Map<String, Value>> {
    object.get_mut("metadata")?.as_object_mut()
}

fn set_generation(object: &mut Value, generation: i64) {
    if let Some(metadata) = metadata_mut(object) {
        metadata.insert("generation".to_owned(), json!(generation));
    }
}

fn replace_field(object: &mut Value, field: &str, value: Option<&Value>) {
    let Some(map) = object.as_object_mut() else { return };
    match value {
        Some(value) => map.insert(field.to_owned(), value.clone()),
        None => map.remove(field),
    };
}

fn carry_metadata(new: &mut Value, old: &Value) {
    let (Ok(mut new_meta), Ok(old_meta)) =
        (decode::typed::<ObjectMeta>(&new["metadata"]), decode::typed::<ObjectMeta>(&old["metadata"]))
    else {
        return;
    };
    metadata::carry_over(&mut new_meta.object, &old_meta.object);
    new["metadata"] = encode(&new_meta.object);
}

/// Takes what Go's `omitempty` leaves out of an encoded object: maps that came without entries.
fn prune(object: &mut Value, empty_maps: &[String]) {
    for pointer in empty_maps {
        let Some((parent, key)) = pointer.rsplit_once('/') else { continue };
        let key = key.replace("~1", "/").replace("~0", "~");
        if let Some(Value::Object(parent)) = object.pointer_mut(parent)
            && parent.get(&key).and_then(Value::as_object).is_some_and(serde_json::Map::is_empty)
        {
            parent.remove(&key);
        }
    }
}

impl<B: Behavior> Kind for Adapter<B> {
    fn info(&self) -> &'static KindInfo {
        B::INFO
    }

    fn decode(&self, mut raw: Value) -> Result<Decoded, String> {
        if let Some(map) = raw.as_object_mut() {
            map.insert("apiVersion".to_owned(), json!(B::Object::API_VERSION));
            map.insert("kind".to_owned(), json!(B::Object::KIND));
        }
        let typed = decode::typed::<B::Object>(&raw).map_err(|e| e.to_string())?;
        let mut object = encode(&typed.object);
        prune(&mut object, &typed.empty_maps);
        Ok(Decoded { object, unknown: typed.unknown })
    }

    fn set_defaults(&self, object: &mut Value) {
        if let Some(default) = B::DEFAULT {
            Self::change(object, default);
        }
    }

    fn prepare_create(&self, object: &mut Value, cluster: &Cluster) -> Vec<FieldError> {
        if let Some(status) = Self::initial_status() {
            replace_field(object, "status", Some(&status));
        }
        Self::begin_metadata(object);
        if B::PREPARE_CREATE.is_none() && B::SETTLE.is_none() {
            return Vec::new();
        }
        Self::change(object, |object| {
            if let Some(prepare) = B::PREPARE_CREATE {
                prepare(object);
            }
            B::SETTLE.map(|settle| settle(object, None, cluster)).unwrap_or_default()
        })
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, cluster: &Cluster) -> Vec<FieldError> {
        if Self::has_status() {
            replace_field(new, "status", old.get("status"));
        }
        carry_metadata(new, old);
        let errors = Self::prepare_typed_update(new, old, cluster);
        Self::bump_generation(new, old);
        errors
    }

    fn prepare_part(&self, part: Subresource, new: &mut Value, old: &Value, now: Timestamp) {
        let fields: Vec<String> =
            [new, old].iter().filter_map(|o| o.as_object()).flat_map(|o| o.keys().cloned()).collect();
        for field in fields.iter().filter(|f| !["metadata", "status"].contains(&f.as_str())) {
            replace_field(new, field, old.get(field));
        }
        carry_metadata(new, old);
        let owners = old["metadata"].get("ownerReferences");
        replace_field(&mut new["metadata"], "ownerReferences", owners);
        let Some(prepare) = B::PREPARE_PART else { return };
        if let Some(old) = Self::read(old) {
            Self::change(new, |new| prepare(part, new, &old, now));
        }
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let Some(object) = Self::read(new) else {
            return vec![FieldError::internal("", "the object does not decode")];
        };
        if B::VIRTUAL {
            metadata::validate_virtual(object.metadata(), &mut errors);
            B::validate(&object, &mut errors);
            return errors;
        }
        let old = old.and_then(Self::read);
        metadata::validate(object.metadata(), B::INFO.namespaced, B::NAMES, &mut errors);
        if let Some(old) = &old {
            metadata::validate_update(object.metadata(), old.metadata(), &mut errors);
        }
        B::validate(&object, &mut errors);
        match &old {
            Some(old) => B::validate_update(&object, old, &mut errors),
            None => B::validate_create(&object, &mut errors),
        }
        errors
    }

    fn validate_part(&self, part: Subresource, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let (Some(new), Some(old)) = (Self::read(new), Self::read(old)) else {
            return vec![FieldError::internal("", "the object does not decode")];
        };
        metadata::validate(new.metadata(), B::INFO.namespaced, B::NAMES, &mut errors);
        metadata::validate_update(new.metadata(), old.metadata(), &mut errors);
        match part {
            Subresource::Approval => B::validate_approval(&new, &old, &mut errors),
            _ => B::validate_status(&new, &old, &mut errors),
        }
        errors
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let Some(warnings) = B::WARNINGS else { return Vec::new() };
        let old = old.and_then(Self::read);
        Self::read(new).map(|new| warnings(&new, old.as_ref())).unwrap_or_default()
    }

    fn deprecation(&self) -> Option<&'static str> {
        B::DEPRECATION
    }

    fn set_author(&self, object: &mut Value, author: &Author<'_>) {
        if let Some(set) = B::SET_AUTHOR {
            Self::change(object, |object| set(object, author));
        }
    }

    fn admit(&self, write: &Write<'_>) -> Result<Option<Right>, String> {
        let Some(admit) = B::ADMIT else { return Ok(None) };
        let old = write.old.and_then(Self::read);
        Self::read(write.new).map_or(Ok(None), |new| admit(&new, old.as_ref(), write))
    }

    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        if B::SELECTABLE.is_empty() {
            return Vec::new();
        }
        let values = Self::read(object).map(|object| B::selectable(&object)).unwrap_or_default();
        B::SELECTABLE.iter().copied().zip(values).collect()
    }

    fn selectable_field_names(&self) -> &'static [&'static str] {
        B::SELECTABLE
    }

    fn columns(&self) -> &'static [Column] {
        B::COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        Self::read(object).map(|object| B::cells(&object, now)).unwrap_or_default()
    }

    fn claims(&self, object: &Value) -> Vec<Claim> {
        let Some(claims) = B::CLAIMS else { return Vec::new() };
        Self::read(object).map(|object| (claims.of)(&object)).unwrap_or_default()
    }

    fn grant(&self, object: &mut Value, grants: &[Grant]) {
        if let Some(claims) = B::CLAIMS {
            Self::change(object, |object| (claims.grant)(object, grants));
        }
    }

    fn deletion_grace_seconds(&self, object: &Value) -> Option<i64> {
        B::DELETION_GRACE?(&Self::read(object)?)
    }

    fn is_virtual(&self) -> bool {
        B::VIRTUAL
    }

    fn returns_deleted(&self) -> bool {
        B::RETURNS_DELETED
    }

    fn address_claims(&self) -> Option<&'static dyn AddressClaims> {
        B::ADDRESS_CLAIMS
    }

    fn address_ranges(&self) -> Option<&'static dyn AddressRanges> {
        B::ADDRESS_RANGES
    }

    fn merge_keys(&self, path: &str) -> Option<&'static [&'static str]> {
        crate::patch::keys::lookup(path, B::MERGE_KEYS, B::POD_SPEC)
    }
}
