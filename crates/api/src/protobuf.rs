//! Objects in Kubernetes' protobuf form, turned into the JSON form that everything else here works on. Stock clients write
//! protobuf (`kubectl create deployment` since 1.32, client-go wherever it is told to), so a server must read it.
//!
//! The messages are data: `proto/schema.txt`, written by `proto/generate` from upstream's types. Promises: never more memory
//! than a small multiple of the body, no panic on any bytes. Refuses: to write protobuf; answers are JSON, which every
//! client accepts.

mod schema;
mod wire;

use base64::Engine;
use jiff::Timestamp;
use serde_json::{Map, Value};

use self::schema::{Field, Form, Mark, Schema};
use self::wire::{Payload, Reader};

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";
/// Deeper nesting than any kind has.
const MAX_DEPTH: usize = 64;

/// Decodes a body: the envelope, then the object that it names.
///
/// # Errors
/// A sentence that says what is wrong with the bytes, or that the kind is not known in this form.
pub fn decode(body: &[u8]) -> Result<Value, String> {
    let envelope =
        body.strip_prefix(MAGIC).ok_or("the body does not begin with the prefix of protobuf objects")?;
    let schema = schema::get();
    let envelope = message(schema, schema.fields("runtime.Unknown")?, envelope, 0)?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text(envelope.get("apiVersion")), text(envelope.get("kind")));
    let raw = base64::engine::general_purpose::STANDARD.decode(text(envelope.get("raw"))).unwrap_or_default();
    let name = schema
        .kind(&api_version, &kind)
        .ok_or_else(|| format!("no kind {kind:?} of {api_version:?} is known in protobuf"))?;
    let mut object = message(schema, schema.fields(name)?, &raw, 0)?;
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    Ok(Value::Object(object))
}

fn message(
    schema: &Schema,
    fields: &[Field],
    bytes: &[u8],
    depth: usize,
) -> Result<Map<String, Value>, String> {
    if depth > MAX_DEPTH {
        return Err(format!("the object is nested deeper than {MAX_DEPTH} levels"));
    }
    let mut object = Map::new();
    let mut reader = Reader::new(bytes);
    while let Some((number, payload)) = reader.next()? {
        // A field from a newer client: unknown here, and dropped as unknown JSON fields are.
        let Some(field) = fields.iter().find(|f| f.number == number) else { continue };
        if let Mark::Map = field.mark {
            let (key, value) = map_entry(schema, field, payload, depth)?;
            member(&mut object, field.name).insert(key, value);
            continue;
        }
        let value = value(schema, &field.form, payload, depth)?;
        match (field.mark, value) {
            (Mark::Repeated, value) => list(&mut object, field.name).push(value),
            (_, Value::Object(inner)) if field.name == schema::INLINE => object.extend(inner),
            (Mark::Plain, value) if is_zero(&value) => {}
            (_, value) => drop(object.insert(field.name.to_owned(), value)),
        }
    }
    Ok(object)
}

fn member<'a>(object: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let slot = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
    slot.as_object_mut().expect("a map field only ever holds a map")
}

fn list<'a>(object: &'a mut Map<String, Value>, name: &str) -> &'a mut Vec<Value> {
    let slot = object.entry(name).or_insert_with(|| Value::Array(Vec::new()));
    slot.as_array_mut().expect("a repeated field only ever holds a list")
}

/// A map is a repeated message of a key (1) and a value (2).
fn map_entry(
    schema: &Schema,
    field: &Field,
    payload: Payload<'_>,
    depth: usize,
) -> Result<(String, Value), String> {
    let mut reader = Reader::new(payload.bytes()?);
    let (mut key, mut found) = (String::new(), None);
    while let Some((number, payload)) = reader.next()? {
        match number {
            1 => key = payload.text()?,
            2 => found = Some(value(schema, &field.form, payload, depth)?),
            _ => {}
        }
    }
    let empty = || value(schema, &field.form, Payload::Bytes(&[]), depth);
    Ok((key, found.map_or_else(empty, Ok)?))
}

fn value(schema: &Schema, form: &Form, payload: Payload<'_>, depth: usize) -> Result<Value, String> {
    Ok(match form {
        Form::Text => payload.text()?.into(),
        Form::Bool => (payload.number()? != 0).into(),
        Form::Int => payload.number()?.into(),
        Form::Bytes => base64::engine::general_purpose::STANDARD.encode(payload.bytes()?).into(),
        Form::Quantity => single(payload.bytes()?, Payload::text)?.unwrap_or_default().into(),
        Form::Json => match single(payload.bytes()?, |p| p.bytes().map(<[u8]>::to_vec))? {
            None => Value::Null,
            Some(raw) => serde_json::from_slice(&raw).map_err(|e| format!("embedded JSON: {e}"))?,
        },
        Form::Time { fraction } => time(payload.bytes()?, *fraction)?,
        Form::IntOrString => int_or_string(payload.bytes()?)?,
        Form::Items(item) => {
            let mut reader = Reader::new(payload.bytes()?);
            let mut items = Vec::new();
            while let Some((_, payload)) = reader.next()? {
                items.push(value(schema, item, payload, depth)?);
            }
            Value::Array(items)
        }
        Form::Message(name) => {
            Value::Object(message(schema, schema.fields(name)?, payload.bytes()?, depth + 1)?)
        }
    })
}

/// The only field of a message that stands for one value.
fn single<'a, T>(
    bytes: &'a [u8],
    read: impl Fn(Payload<'a>) -> Result<T, String>,
) -> Result<Option<T>, String> {
    let mut reader = Reader::new(bytes);
    reader.next()?.map(|(_, payload)| read(payload)).transpose()
}

/// Seconds (1) and nanoseconds (2) as RFC 3339; an empty message is no time at all.
fn time(bytes: &[u8], fraction: bool) -> Result<Value, String> {
    let mut reader = Reader::new(bytes);
    let (mut seconds, mut nanoseconds) = (None, 0);
    while let Some((number, payload)) = reader.next()? {
        match number {
            1 => seconds = Some(payload.number()?),
            2 => nanoseconds = payload.number()?,
            _ => {}
        }
    }
    let Some(seconds) = seconds else { return Ok(Value::Null) };
    let wrong = || format!("{seconds} s and {nanoseconds} ns since 1970 is no time");
    let nanoseconds = i32::try_from(nanoseconds).map_err(|_| wrong())?;
    let time = Timestamp::new(seconds, nanoseconds).map_err(|_| wrong())?;
    let format = if fraction { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(time.strftime(format).to_string().into())
}

/// Which of the two (1: 0 for a number), the number (2), the string (3).
fn int_or_string(bytes: &[u8]) -> Result<Value, String> {
    let mut reader = Reader::new(bytes);
    let (mut is_text, mut number_value, mut text) = (false, 0, String::new());
    while let Some((number, payload)) = reader.next()? {
        match number {
            1 => is_text = payload.number()? == 1,
            2 => number_value = payload.number()?,
            3 => text = payload.text()?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number_value.into() })
}

/// Go writes fields that are not pointers even when they are empty; JSON leaves those out.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_i64() == Some(0),
        Value::String(s) => s.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

#[cfg(test)]
mod tests;
