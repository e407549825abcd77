//! How objects stand in the store. The bytes are the final JSON, and begin for every object of a kind with the same
//! head, `{"apiVersion":…,"kind":…,"metadata":{"resourceVersion":"`, so that the revision's place is known without
//! looking, and the metadata can be cut out by matching braces. Labels and selectable fields stand beside the bytes,
//! so that selection parses nothing.
//!
//! A kind whose objects are stored as another's is translated here, on the way in and out, and nowhere else.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value};
use svcd_store::{Record, Revision};

use crate::resources::Resource;

/// The value to store for an object; the store fills in the revision.
pub(crate) fn encode(resource: &Resource, object: &Value) -> svcd_store::Value {
    svcd_store::Value::with_revision_at(without_revision(resource, object), resource.head.len())
}

/// An object as it is stored.
fn stored<'a>(resource: &Resource, object: &'a Value) -> Cow<'a, Value> {
    resource.kind.renamed().map_or(Cow::Borrowed(object), |renamed| Cow::Owned(renamed.to_stored(object)))
}

/// Stored bytes as they are served.
pub(crate) fn served<'a>(resource: &Resource, value: &'a [u8]) -> Cow<'a, [u8]> {
    if resource.kind.renamed().is_none() {
        return Cow::Borrowed(value);
    }
    Cow::Owned(parse(resource, value).to_string().into_bytes())
}

/// The object in stored bytes, as it is served.
pub(crate) fn parse(resource: &Resource, value: &[u8]) -> Value {
    let object = serde_json::from_slice(value).expect("the store holds the JSON that was put into it");
    match resource.kind.renamed() {
        None => object,
        Some(renamed) => renamed.from_stored(object),
    }
}

/// The bytes of an object in the store's layout, with nothing where the revision goes.
pub(crate) fn without_revision(resource: &Resource, object: &Value) -> Vec<u8> {
    let object = &*stored(resource, object);
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(resource.head.as_bytes());
    let empty = Map::new();
    let metadata = object.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    out.push(b'"');
    for (key, value) in metadata.iter().filter(|(key, _)| *key != "resourceVersion") {
        member(&mut out, key, value);
    }
    out.push(b'}');
    let fields = object.as_object().unwrap_or(&empty).iter();
    for (key, value) in fields.filter(|(key, _)| !matches!(key.as_str(), "apiVersion" | "kind" | "metadata"))
    {
        member(&mut out, key, value);
    }
    out.push(b'}');
    out
}

fn member(out: &mut Vec<u8>, key: &str, value: &Value) {
    out.push(b',');
    serde_json::to_writer(&mut *out, key).expect("a string can be written to memory");
    out.push(b':');
    serde_json::to_writer(out, value).expect("a value can be written to memory");
}

/// The object in a record, as it is stored.
pub(crate) fn decode(record: &Record) -> Value {
    serde_json::from_slice(&record.value).expect("the store holds the JSON that was put into it")
}

/// Is the object on its way out? Hardly ever parses: what says so would stand in its metadata.
pub(crate) fn is_deleting(resource: &Resource, record: &Record) -> bool {
    let metadata = str::from_utf8(metadata(resource, &record.value));
    let metadata = metadata.expect("the store holds the JSON that was put into it");
    metadata.contains("\"deletionTimestamp\":") && crate::metadata::is_deleting(&decode(record))
}

/// The stored bytes of a record with another revision in them.
pub(crate) fn at_revision(resource: &Resource, record: &Record, revision: Revision) -> Bytes {
    let start = resource.head.len();
    let end = start + record.value[start..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut out = BytesMut::with_capacity(record.value.len() + 20);
    out.extend_from_slice(&record.value[..start]);
    out.extend_from_slice(revision.to_string().as_bytes());
    out.extend_from_slice(&record.value[end..]);
    out.freeze()
}

/// The metadata object within stored bytes.
pub(crate) fn metadata<'a>(resource: &Resource, value: &'a [u8]) -> &'a [u8] {
    let bytes = &value[resource.metadata_at..];
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return &bytes[..=at];
                }
            }
            _ => {}
        }
    }
    bytes
}

/// The side data of an object: `count (length key length value)* count (length value)*`, numbers as u32.
pub(crate) fn side_data(resource: &Resource, object: &Value) -> Bytes {
    let mut out = BytesMut::new();
    let labels: Vec<(&str, &str)> = object["metadata"]["labels"]
        .as_object()
        .map(|labels| labels.iter().filter_map(|(k, v)| Some((k.as_str(), v.as_str()?))).collect())
        .unwrap_or_default();
    put_count(&mut out, labels.len());
    for (key, value) in labels {
        put_text(&mut out, key);
        put_text(&mut out, value);
    }
    let kind = resource.kind.renamed().map_or(resource.kind, |renamed| renamed.stored());
    let fields = kind.selectable_fields(&stored(resource, object));
    let names = kind.selectable_field_names();
    put_count(&mut out, names.len());
    for name in names {
        let value = fields.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str());
        put_text(&mut out, value);
    }
    out.freeze()
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u32(u32::try_from(count).expect("an object's parts are fewer than 2^32"));
}

fn put_text(out: &mut BytesMut, text: &str) {
    put_count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// Reads side data. Anything cut off reads as absent.
#[derive(Clone, Copy)]
pub(crate) struct SideData<'a>(&'a [u8]);

impl<'a> SideData<'a> {
    pub(crate) fn of(record: &'a Record) -> Self {
        Self(&record.meta)
    }

    pub(crate) fn label(self, key: &str) -> Option<&'a str> {
        let mut rest = self.0;
        for _ in 0..take_count(&mut rest)? {
            let (k, v) = (take_text(&mut rest)?, take_text(&mut rest)?);
            if k == key {
                return Some(v);
            }
        }
        None
    }

    /// The selectable field at this place of the kind's names.
    pub(crate) fn field(self, index: usize) -> Option<&'a str> {
        let mut rest = self.0;
        for _ in 0..take_count(&mut rest)?.checked_mul(2)? {
            take_text(&mut rest)?;
        }
        let count = take_count(&mut rest)?;
        if index >= count {
            return None;
        }
        for _ in 0..index {
            take_text(&mut rest)?;
        }
        take_text(&mut rest)
    }
}

fn take_count(rest: &mut &[u8]) -> Option<usize> {
    let (head, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    usize::try_from(u32::from_be_bytes(*head)).ok()
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let length = take_count(rest)?;
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    std::str::from_utf8(head).ok()
}
