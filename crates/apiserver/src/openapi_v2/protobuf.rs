//! A v2 document, given as JSON, as gnostic's protobuf messages.

use serde_json::Value;

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
    /// Of `Paths`.
    pub(super) const PATHS_PATH: u32 = 2;
    pub(super) const OPERATION_PARAMETERS: u32 = 8;
    pub(super) const OPERATION_RESPONSES: u32 = 9;
    pub(super) const OPERATION_EXTENSION: u32 = 13;
    /// `ParametersItem`: a parameter; `Parameter`: not the body; `NonBodyParameter`: of the query.
    pub(super) const PARAMETER_IN_QUERY: [u32; 3] = [1, 2, 3];
    pub(super) const QUERY_IN: u32 = 2;
    pub(super) const QUERY_NAME: u32 = 4;
    pub(super) const QUERY_TYPE: u32 = 6;
    pub(super) const RESPONSE_DESCRIPTION: u32 = 1;
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

/// The whole document.
pub(super) fn document<'a>(
    version: &str,
    paths: impl Iterator<Item = (&'a str, Value)>,
    schemas: impl Iterator<Item = (&'a str, Value)>,
) -> Vec<u8> {
    let mut info = Message::default();
    info.text(number::INFO_TITLE, "Kubernetes");
    info.text(number::INFO_VERSION, version);
    let mut all = Message::default();
    for (path, item) in paths {
        all.message(number::PATHS_PATH, named(path, path_item(&item)));
    }
    let mut definitions = Message::default();
    for (name, schema) in schemas {
        definitions.message(number::ENTRY, named(name, message(&schema)));
    }
    let mut document = Message::default();
    document.text(number::DOCUMENT_SWAGGER, "2.0");
    document.message(number::DOCUMENT_INFO, info);
    document.message(number::DOCUMENT_PATHS, all);
    document.message(number::DOCUMENT_DEFINITIONS, definitions);
    document.0
}

fn path_item(item: &Value) -> Message {
    const METHODS: [(&str, u32); 5] = [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8)];
    let mut out = Message::default();
    for (method, field) in METHODS {
        if let Some(operation) = item.get(method) {
            out.message(field, self::operation(operation));
        }
    }
    out
}

fn operation(operation: &Value) -> Message {
    let mut out = Message::default();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        out.message(number::OPERATION_PARAMETERS, query_parameter(parameter));
    }
    let mut responses = Message::default();
    for (code, response) in operation["responses"].as_object().into_iter().flatten() {
        let mut inner = Message::default();
        inner.text(number::RESPONSE_DESCRIPTION, response["description"].as_str().unwrap_or_default());
        responses.message(number::ENTRY, named(code, entry(inner)));
    }
    out.message(number::OPERATION_RESPONSES, responses);
    extensions(&mut out, number::OPERATION_EXTENSION, operation);
    out
}

fn query_parameter(parameter: &Value) -> Message {
    let mut out = Message::default();
    for (word, field) in
        [("in", number::QUERY_IN), ("name", number::QUERY_NAME), ("type", number::QUERY_TYPE)]
    {
        out.text(field, parameter[word].as_str().unwrap_or_default());
    }
    number::PARAMETER_IN_QUERY.iter().rev().fold(out, |inner, field| {
        let mut outer = Message::default();
        outer.message(*field, inner);
        outer
    })
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
    extensions(&mut out, number::SCHEMA_EXTENSION, schema);
    out
}

fn extensions(out: &mut Message, field: u32, of: &Value) {
    for (word, value) in of.as_object().into_iter().flatten().filter(|(word, _)| word.starts_with("x-")) {
        let mut any = Message::default();
        // JSON is YAML, too.
        any.text(number::ANY_YAML, &value.to_string());
        out.message(field, named(word, any));
    }
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
}
