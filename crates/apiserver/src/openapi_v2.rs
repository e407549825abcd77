//! OpenAPI v2, in protobuf only, which is how kubectl asks for it: all versions for files with a `List`, versions before
//! 1.27 for everything. It names the kinds and leaves their fields open: the client then takes any field, and the server,
//! which validates anyway, has the last word.

use svcd_api::kind::KindInfo;

use crate::document::Document;
use crate::openapi::schema_name;
use crate::resources::Resources;

const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Numbers of the fields of gnostic's `openapi.v2` messages.
mod number {
    pub(super) const DOCUMENT_SWAGGER: u32 = 1;
    pub(super) const DOCUMENT_INFO: u32 = 2;
    pub(super) const DOCUMENT_PATHS: u32 = 8;
    pub(super) const DOCUMENT_DEFINITIONS: u32 = 9;
    pub(super) const INFO_TITLE: u32 = 1;
    pub(super) const INFO_VERSION: u32 = 2;
    pub(super) const DEFINITIONS_ENTRY: u32 = 1;
    pub(super) const NAMED_NAME: u32 = 1;
    pub(super) const NAMED_VALUE: u32 = 2;
    pub(super) const SCHEMA_DESCRIPTION: u32 = 4;
    pub(super) const SCHEMA_EXTENSION: u32 = 31;
    pub(super) const ANY_YAML: u32 = 2;
}

/// The document.
pub(crate) fn document(resources: &Resources, version: &str) -> Document {
    let mut info = Message::default();
    info.text(number::INFO_TITLE, "Kubernetes");
    info.text(number::INFO_VERSION, version);
    let mut definitions = Message::default();
    for resource in resources.iter() {
        let schema = schema(resource.info);
        definitions.message(number::DEFINITIONS_ENTRY, named(&schema_name(resource), schema));
    }
    let mut document = Message::default();
    document.text(number::DOCUMENT_SWAGGER, "2.0");
    document.message(number::DOCUMENT_INFO, info);
    document.message(number::DOCUMENT_PATHS, Message::default());
    document.message(number::DOCUMENT_DEFINITIONS, definitions);
    Document::new(document.0.into(), MEDIA_TYPE)
}

/// A schema without type and properties: anything goes.
fn schema(info: &KindInfo) -> Message {
    let mut kind = Message::default();
    // JSON is YAML, too.
    let gvk = serde_json::json!([{ "group": info.group, "kind": info.kind, "version": info.version }]);
    kind.text(number::ANY_YAML, &gvk.to_string());
    let mut schema = Message::default();
    schema.text(number::SCHEMA_DESCRIPTION, &format!("{} of {}.", info.kind, info.api_version()));
    schema.message(number::SCHEMA_EXTENSION, named("x-kubernetes-group-version-kind", kind));
    schema
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
