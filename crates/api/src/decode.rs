//! From JSON values to typed objects, the way upstream's decoder goes: unknown fields are noticed by path, a null is as
//! good as nothing, and what Go's `omitempty` would not write is not kept.
//!
//! The types of `k8s-openapi` read every field as an `Option`, which is where "empty" is decided: an empty list, an
//! empty string and, for the fields that are not pointers upstream, `false` and `0` are read as absent. Required fields
//! keep their zero value. This makes the canonical form: decode, encode, decode is a fixpoint.

use std::cell::RefCell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Number, Value};

use crate::field::Path;
use crate::quantity;

/// A typed object, and what was noticed on the way.
pub(crate) struct Typed<T> {
    pub(crate) object: T,
    pub(crate) unknown: Vec<String>,
    /// JSON pointers of maps without entries.
    pub(crate) empty_maps: Vec<String>,
}

/// Decodes a value; the error names the field, the value and the type wanted.
pub(crate) fn typed<T: de::DeserializeOwned>(value: &Value) -> Result<Typed<T>, Error> {
    let log = Log::default();
    let object = T::deserialize(Node { value, path: &Path::Root, within: "", log: &log })?;
    Ok(Typed { object, unknown: log.unknown.into_inner(), empty_maps: log.empty_maps.into_inner() })
}

/// Boolean and integer fields that are not pointers upstream, so that their zero value is not written.
const OMITTED_WHEN_ZERO: &[(&str, &[&str])] = &[
    ("PodSpec", &["hostNetwork", "hostPID", "hostIPC"]),
    ("Container", &["stdin", "stdinOnce", "tty"]),
    ("EphemeralContainer", &["stdin", "stdinOnce", "tty"]),
    ("ContainerPort", &["hostPort"]),
    ("VolumeMount", &["readOnly"]),
    ("PersistentVolumeClaimVolumeSource", &["readOnly"]),
    ("NFSVolumeSource", &["readOnly"]),
    (
        "Probe",
        &["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"],
    ),
    ("ServiceBackendPort", &["number"]),
    ("ServicePort", &["nodePort"]),
    ("ServiceSpec", &["publishNotReadyAddresses", "healthCheckNodePort"]),
    ("NodeSpec", &["unschedulable"]),
    ("ObjectMeta", &["generation"]),
    ("Event", &["count"]),
    ("EventSeries", &["count"]),
    ("PodDisruptionBudgetStatus", &["observedGeneration"]),
    ("PodStatus", &["observedGeneration"]),
    ("PodCondition", &["observedGeneration"]),
    ("Condition", &["observedGeneration"]),
    ("ContainerStateTerminated", &["signal"]),
    ("DeploymentSpec", &["minReadySeconds", "paused"]),
    (
        "DeploymentStatus",
        &[
            "replicas",
            "readyReplicas",
            "availableReplicas",
            "updatedReplicas",
            "unavailableReplicas",
            "observedGeneration",
        ],
    ),
    ("DaemonSetSpec", &["minReadySeconds"]),
    (
        "DaemonSetStatus",
        &["observedGeneration", "updatedNumberScheduled", "numberAvailable", "numberUnavailable"],
    ),
    ("StatefulSetSpec", &["minReadySeconds"]),
    ("StatefulSetStatus", &["observedGeneration", "readyReplicas", "currentReplicas", "updatedReplicas"]),
    ("ReplicationControllerSpec", &["minReadySeconds"]),
    (
        "ReplicationControllerStatus",
        &["readyReplicas", "availableReplicas", "fullyLabeledReplicas", "observedGeneration"],
    ),
    ("ReplicaSetSpec", &["minReadySeconds"]),
    (
        "ReplicaSetStatus",
        &["readyReplicas", "availableReplicas", "fullyLabeledReplicas", "observedGeneration"],
    ),
];

/// Strings that are pointers upstream and mean something when empty.
const KEPT_WHEN_EMPTY: &[(&str, &str)] = &[
    ("EndpointPort", "name"),
    ("IngressSpec", "ingressClassName"),
    ("LeaseSpec", "holderIdentity"),
    ("PersistentVolumeClaimSpec", "storageClassName"),
];

/// Why a value does not decode.
#[derive(Debug)]
pub(crate) struct Error {
    message: String,
    located: bool,
}

impl Error {
    fn at(self, path: &Path<'_>) -> Self {
        if self.located {
            return self;
        }
        Self { message: format!("{path}: {}", self.message), located: true }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), located: false }
    }
}

#[derive(Default)]
struct Log {
    unknown: RefCell<Vec<String>>,
    empty_maps: RefCell<Vec<String>>,
}

/// One value on the way down.
#[derive(Clone, Copy)]
struct Node<'a> {
    value: &'a Value,
    path: &'a Path<'a>,
    /// The innermost struct's name, for errors.
    within: &'static str,
    log: &'a Log,
}

impl<'a> Node<'a> {
    /// Go's words for a value of the wrong type.
    fn mismatch(&self, wanted: &str) -> Error {
        let got = match self.value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(n) => number_text(n, wanted),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        let message = match field_names(self.path) {
            names if names.is_empty() => {
                format!("json: cannot unmarshal {got} into Go value of type {wanted}")
            }
            names => format!(
                "json: cannot unmarshal {got} into Go struct field {}.{names} of type {wanted}",
                self.within
            ),
        };
        Error { message, located: true }
    }

    fn is_omitted(&self) -> bool {
        match self.value {
            Value::Null => true,
            Value::Array(list) => list.is_empty(),
            Value::String(text) => text.is_empty() && !self.is_listed_in(KEPT_WHEN_EMPTY),
            Value::Bool(false) => self.is_omitted_zero(),
            Value::Number(n) => n.as_i64() == Some(0) && self.is_omitted_zero(),
            Value::Bool(true) | Value::Object(_) => false,
        }
    }

    fn is_omitted_zero(&self) -> bool {
        let Path::Field(_, name) = self.path else { return false };
        OMITTED_WHEN_ZERO.iter().any(|(within, fields)| *within == self.within && fields.contains(name))
    }

    fn is_listed_in(&self, list: &[(&str, &str)]) -> bool {
        let Path::Field(_, name) = self.path else { return false };
        list.contains(&(self.within, name))
    }

    fn integer<T: TryFrom<i64>>(&self, wanted: &str) -> Result<T, Error> {
        match self.value {
            Value::Null => T::try_from(0).map_err(|_| self.mismatch(wanted)),
            Value::Number(n) => {
                whole(n).and_then(|n| T::try_from(n).ok()).ok_or_else(|| self.mismatch(wanted))
            }
            _ => Err(self.mismatch(wanted)),
        }
    }

    fn quantity(&self) -> Result<String, Error> {
        let text = match self.value {
            Value::String(text) => text.clone(),
            Value::Number(n) => n.to_string(),
            _ => return Err(self.mismatch("resource.Quantity")),
        };
        quantity::canonical(&text).map_err(de::Error::custom)
    }
}

/// `1.0` is a whole number in JSON; `1.5` is not.
fn whole(n: &Number) -> Option<i64> {
    n.as_i64().or_else(|| {
        n.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 9e15).map(
            #[allow(clippy::cast_possible_truncation, reason = "checked to be whole and in range")]
            |f| f as i64,
        )
    })
}

fn number_text(n: &Number, wanted: &str) -> String {
    if wanted.starts_with("int") { format!("number {n}") } else { "number".to_owned() }
}

/// The path without indices and map keys, as Go's decoder shows it.
fn field_names(path: &Path<'_>) -> String {
    match path {
        Path::Root => String::new(),
        Path::Index(parent, _) | Path::Key(parent, _) => field_names(parent),
        Path::Field(parent, name) => match field_names(parent) {
            names if names.is_empty() => (*name).to_owned(),
            names => format!("{names}.{name}"),
        },
    }
}

fn pointer(path: &Path<'_>) -> String {
    match path {
        Path::Root => String::new(),
        Path::Index(parent, index) => format!("{}/{index}", pointer(parent)),
        Path::Field(parent, name) | Path::Key(parent, name) => {
            format!("{}/{}", pointer(parent), name.replace('~', "~0").replace('/', "~1"))
        }
    }
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        // The value is cloned so that nothing borrows from it for 'de.
        self.value.clone().deserialize_any(visitor).map_err(|e| <Error as de::Error>::custom(e).at(self.path))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::Null => visitor.visit_bool(false),
            _ => Err(self.mismatch("bool")),
        }
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i32(self.integer("int32")?)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i64(self.integer("int64")?)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let number = self.value.as_f64().ok_or_else(|| self.mismatch("float64"))?;
        visitor.visit_f64(number)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::String(text) => visitor.visit_str(text).map_err(|e: Error| e.at(self.path)),
            Value::Null => visitor.visit_str(""),
            _ => Err(self.mismatch("string")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_omitted() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == "Quantity" {
            return visitor.visit_string(self.quantity().map_err(|e| e.at(self.path))?);
        }
        visitor.visit_newtype_struct(self).map_err(|e| e.at(self.path))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Array(list) => visitor.visit_seq(Elements { node: self, list: list.iter().enumerate() }),
            Value::Null => visitor.visit_seq(Elements { node: self, list: [].iter().enumerate() }),
            _ => Err(self.mismatch("array")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Value::Object(map) = self.value else { return Err(self.mismatch("map")) };
        if map.is_empty() {
            self.log.empty_maps.borrow_mut().push(pointer(self.path));
        }
        visitor.visit_map(Entries { node: self, keys: Keys::Map, entries: map.iter(), current: None })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let empty = serde_json::Map::new();
        let map = match self.value {
            Value::Object(map) => map,
            Value::Null => &empty,
            _ => return Err(self.mismatch(&format!("v1.{name}"))),
        };
        let node = Node { within: name, ..self };
        let entries = Entries { node, keys: Keys::Struct, entries: map.iter(), current: None };
        visitor.visit_map(entries).map_err(|e| e.at(self.path))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if !self.value.is_null() {
            self.log.unknown.borrow_mut().push(self.path.to_string());
        }
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u32 u64 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
    }
}

struct Elements<'a> {
    node: Node<'a>,
    list: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some((index, value)) = self.list.next() else { return Ok(None) };
        let path = self.node.path.index(index);
        seed.deserialize(Node { value, path: &path, ..self.node }).map(Some)
    }
}

#[derive(Clone, Copy)]
enum Keys {
    Struct,
    Map,
}

struct Entries<'a> {
    node: Node<'a>,
    keys: Keys,
    entries: serde_json::map::Iter<'a>,
    current: Option<(&'a str, &'a Value)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.current = Some((key, value));
        seed.deserialize(de::value::StrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (key, value) = self.current.take().expect("serde asks for a value only after its key");
        let path = match self.keys {
            Keys::Struct => self.node.path.child(key),
            Keys::Map => self.node.path.key(key),
        };
        seed.deserialize(Node { value, path: &path, ..self.node })
    }
}
