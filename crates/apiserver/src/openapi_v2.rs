//! OpenAPI v2, from the schemas of v3: in protobuf for kubectl (all versions for files with a `List`, versions before 1.27
//! for everything), in JSON for others. It has the types; what the paths take stands in v3.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::document::Document;

const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Numbers of the fields of gnostic's `openapi.v2` messages.
mod number {
    pub(super) const DOCUMENT_SWAGGER: u32 = 1;
    pub(super) const DOCUMENT_INFO: u32 = 2;
    pub(super) const DOCUMENT_PATHS: u32 = 8;
    pub(super) const DOCUMENT_DEFINITIONS: u32 = 9;
    pub(super) const INFO_TITLE: u32 = 1;
    pub(super) const INFO_VERSION: u32 = 2;
    /// Of every message that is a map or a list: the entries.
    pub(super) const ENTRY: u32 = 1;
    pub(super) const NAMED_NAME: u32 = 1;
    pub(super) const NAMED_VALUE: u32 = 2;
    pub(super) const SCHEMA_REF: u32 = 1;
    pub(super) const SCHEMA_FORMAT: u32 = 2;
    pub(super) const SCHEMA_DESCRIPTION: u32 = 4;
    pub(super) const SCHEMA_REQUIRED: u32 = 19;
    pub(super) const SCHEMA_ADDITIONAL: u32 = 21;
    pub(super) const SCHEMA_TYPE: u32 = 22;
    pub(super) const SCHEMA_ITEMS: u32 = 23;
    pub(super) const SCHEMA_PROPERTIES: u32 = 25;
    pub(super) const SCHEMA_EXTENSION: u32 = 31;
    pub(super) const ANY_YAML: u32 = 2;
}

type Schemas<'a> = BTreeMap<String, &'a str>;

/// The document as JSON.
pub(crate) fn json(schemas: &Schemas<'_>, version: &str) -> Document {
    let info = json!({ "title": "Kubernetes", "version": version });
    let mut out = format!(r#"{{"swagger":"2.0","info":{info},"paths":{{}},"definitions":{{"#);
    // One after the other, so that only one of them is in memory as a tree.
    for (at, (name, schema)) in schemas.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        out.push_str(&format!("{comma}\"{name}\":{}", parsed(schema)));
    }
    out.push_str("}}");
    Document::new(out.into(), "application/json")
}

/// The document in protobuf.
pub(crate) fn protobuf(schemas: &Schemas<'_>, version: &str) -> Document {
    let mut info = Message::default();
    info.text(number::INFO_TITLE, "Kubernetes");
    info.text(number::INFO_VERSION, version);
    let mut definitions = Message::default();
    for (name, schema) in schemas {
        definitions.message(number::ENTRY, named(name, message(&parsed(schema))));
    }
    let mut document = Message::default();
    document.text(number::DOCUMENT_SWAGGER, "2.0");
    document.message(number::DOCUMENT_INFO, info);
    document.message(number::DOCUMENT_PATHS, Message::default());
    document.message(number::DOCUMENT_DEFINITIONS, definitions);
    Document::new(document.0.into(), MEDIA_TYPE)
}

fn parsed(schema: &str) -> Value {
    downgraded(serde_json::from_str(schema).expect("schemas are packed as JSON"))
}

/// A v3 schema as v2 says the same: references stand alone, and what may be of several types is a string.
fn downgraded(schema: Value) -> Value {
    let Value::Object(mut map) = schema else { return schema };
    for word in ["default", "enum"] {
        map.remove(word);
    }
    if map.remove("oneOf").is_some() {
        map.insert("type".to_owned(), "string".into());
    }
    if let Some(Value::Array(all)) = map.remove("allOf") {
        map.extend(
            all.into_iter()
                .filter_map(|one| match one {
                    Value::Object(one) => Some(one),
                    _ => None,
                })
                .flatten(),
        );
    }
    if let Some(Value::String(reference)) = map.get_mut("$ref") {
        *reference = reference.replacen("#/components/schemas/", "#/definitions/", 1);
    }
    for word in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(word) {
            *inner = downgraded(inner.take());
        }
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(|property| *property = downgraded(property.take()));
    }
    Value::Object(map)
}

/// A v2 schema as a message.
fn message(schema: &Value) -> Message {
    let mut out = Message::default();
    let texts = [
        ("$ref", number::SCHEMA_REF),
        ("format", number::SCHEMA_FORMAT),
        ("description", number::SCHEMA_DESCRIPTION),
    ];
    for (word, field) in texts {
        if let Some(text) = schema[word].as_str().filter(|text| !text.is_empty()) {
            out.text(field, text);
        }
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        out.text(number::SCHEMA_REQUIRED, name.as_str().unwrap_or_default());
    }
    if let Some(values) = schema.get("additionalProperties") {
        out.message(number::SCHEMA_ADDITIONAL, entry(message(values)));
    }
    if let Some(kind) = schema["type"].as_str() {
        let mut kinds = Message::default();
        kinds.text(number::ENTRY, kind);
        out.message(number::SCHEMA_TYPE, kinds);
    }
    if let Some(items) = schema.get("items") {
        out.message(number::SCHEMA_ITEMS, entry(message(items)));
    }
    if let Some(properties) = schema["properties"].as_object() {
        let mut all = Message::default();
        for (name, property) in properties {
            all.message(number::ENTRY, named(name, message(property)));
        }
        out.message(number::SCHEMA_PROPERTIES, all);
    }
    for (word, value) in schema.as_object().into_iter().flatten().filter(|(word, _)| word.starts_with("x-")) {
        let mut any = Message::default();
        // JSON is YAML, too.
        any.text(number::ANY_YAML, &value.to_string());
        out.message(number::SCHEMA_EXTENSION, named(word, any));
    }
    out
}

fn entry(value: Message) -> Message {
    let mut out = Message::default();
    out.message(number::ENTRY, value);
    out
}

fn named(name: &str, value: Message) -> Message {
    let mut entry = Message::default();
    entry.text(number::NAMED_NAME, name);
    entry.message(number::NAMED_VALUE, value);
    entry
}

/// A protobuf message being written; all of our fields are length-delimited.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn text(&mut self, field: u32, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    fn message(&mut self, field: u32, message: Self) {
        self.bytes(field, &message.0);
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        const LENGTH_DELIMITED: u64 = 2;
        self.varint(u64::from(field) << 3 | LENGTH_DELIMITED);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_as_protobuf_writes_them() {
        let mut message = Message::default();
        message.text(31, "ab");
        assert_eq!(message.0, [0xfa, 0x01, 2, b'a', b'b']);
        let mut long = Message::default();
        long.text(1, &"x".repeat(300));
        assert_eq!(long.0[..3], [0x0a, 0xac, 0x02]);
    }

    #[test]
    fn references_and_alternatives_are_said_as_v2_says_them() {
        let v3 = json!({ "type": "object", "properties": {
            "meta": { "default": {}, "description": "d", "allOf": [{ "$ref": "#/components/schemas/a.Meta" }] },
            "port": { "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }] },
            "list": { "type": "array", "items": { "default": "", "type": "string" } },
        } });
        let v2 = json!({ "type": "object", "properties": {
            "meta": { "description": "d", "$ref": "#/definitions/a.Meta" },
            "port": { "format": "int-or-string", "type": "string" },
            "list": { "type": "array", "items": { "type": "string" } },
        } });
        assert_eq!(downgraded(v3), v2);
    }
}
