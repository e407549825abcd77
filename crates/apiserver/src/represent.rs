//! Records in the form that the client asked for: as they stand, as rows of a table, or their metadata only. The first
//! and the last copy stored bytes; only tables read the object.

use axum::body::Body;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use svcd_store::Record;

use crate::errors::Failure;
use crate::negotiate::{Form, MetaVersion};
use crate::query::Query;
use crate::record;
use crate::resources::Resource;

/// What a table's rows carry besides their cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IncludeObject {
    None,
    Metadata,
    Object,
}

/// How to show the objects of one kind.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) resource: &'a Resource,
    pub(crate) form: Form,
    pub(crate) include: IncludeObject,
}

impl<'a> View<'a> {
    pub(crate) fn new(resource: &'a Resource, form: Form, query: &Query) -> Result<Self, Failure> {
        let include = match query.get("includeObject") {
            None | Some("Metadata") => IncludeObject::Metadata,
            Some("None") => IncludeObject::None,
            Some("Object") => IncludeObject::Object,
            Some(other) => {
                return Err(Failure::bad_request(format!("unrecognized includeObject value: {other:?}")));
            }
        };
        Ok(Self { resource, form, include })
    }

    /// Appends one object of a list, or a row in a table.
    pub(crate) fn write_item(&self, out: &mut Vec<u8>, value: &[u8]) {
        match self.form {
            Form::Whole => out.extend_from_slice(&record::served(self.resource, value)),
            Form::Metadata(version) => self.write_metadata(out, value, version),
            Form::Table(version) => self.write_row(out, value, version),
        }
    }

    /// Appends one object standing alone: a table of one row where a table is wanted.
    pub(crate) fn write_single(&self, out: &mut Vec<u8>, value: &[u8], with_columns: bool) {
        let Form::Table(version) = self.form else { return self.write_item(out, value) };
        let metadata = json!({ "resourceVersion": revision_in(self.resource, value) });
        out.extend_from_slice(self.table_head(version, &metadata, with_columns).as_bytes());
        self.write_row(out, value, version);
        out.extend_from_slice(b"]}");
    }

    fn write_metadata(&self, out: &mut Vec<u8>, value: &[u8], version: MetaVersion) {
        out.extend_from_slice(br#"{"kind":"PartialObjectMetadata","apiVersion":""#);
        out.extend_from_slice(version.api_version().as_bytes());
        out.extend_from_slice(br#"","metadata":"#);
        out.extend_from_slice(record::metadata(self.resource, value));
        out.push(b'}');
    }

    fn write_row(&self, out: &mut Vec<u8>, value: &[u8], version: MetaVersion) {
        let object = record::parse(self.resource, value);
        let cells = self.resource.kind.cells(&object, jiff::Timestamp::now());
        out.extend_from_slice(br#"{"cells":"#);
        serde_json::to_writer(&mut *out, &cells).expect("cells can be written to memory");
        match self.include {
            IncludeObject::None => {}
            IncludeObject::Metadata => {
                out.extend_from_slice(br#","object":"#);
                self.write_metadata(out, value, version);
            }
            IncludeObject::Object => {
                out.extend_from_slice(br#","object":"#);
                out.extend_from_slice(&record::served(self.resource, value));
            }
        }
        out.push(b'}');
    }

    /// Everything of a list before its first item.
    pub(crate) fn list_head(&self, metadata: &Value) -> String {
        let info = self.resource.info;
        match self.form {
            Form::Whole => format!(
                r#"{{"kind":"{}List","apiVersion":"{}","metadata":{metadata},"items":["#,
                info.kind, self.resource.api_version
            ),
            Form::Metadata(version) => format!(
                r#"{{"kind":"PartialObjectMetadataList","apiVersion":"{}","metadata":{metadata},"items":["#,
                version.api_version()
            ),
            Form::Table(version) => self.table_head(version, metadata, true),
        }
    }

    /// A table up to its rows; the second and later tables of a watch leave the columns out.
    pub(crate) fn table_head(&self, version: MetaVersion, metadata: &Value, with_columns: bool) -> String {
        let columns = if with_columns { columns(self.resource) } else { Value::Null };
        format!(
            r#"{{"kind":"Table","apiVersion":"{}","metadata":{metadata},"columnDefinitions":{columns},"rows":["#,
            version.api_version()
        )
    }

    /// An answer with one object.
    pub(crate) fn single(&self, status: StatusCode, value: &Bytes) -> Response<Body> {
        let body = if self.form == Form::Whole && self.resource.kind.renamed().is_none() {
            value.clone()
        } else {
            let mut out = Vec::with_capacity(value.len());
            self.write_single(&mut out, value, true);
            out.into()
        };
        json_response(status, &self.form.content_type(), body)
    }

    /// An answer with one record.
    pub(crate) fn record(&self, status: StatusCode, record: &Record) -> Response<Body> {
        self.single(status, &record.value)
    }
}

/// The revision in stored bytes.
fn revision_in<'v>(resource: &Resource, value: &'v [u8]) -> &'v str {
    let digits = value.get(resource.head.len()..).unwrap_or_default();
    let end = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(&digits[..end]).unwrap_or_default()
}

fn columns(resource: &Resource) -> Value {
    let column = |c: &svcd_api::kind::Column| {
        json!({
            "name": c.name, "type": c.kind, "format": c.format,
            "description": c.description, "priority": c.priority,
        })
    };
    Value::Array(resource.kind.columns().iter().map(column).collect())
}

/// An answer whose body is finished.
pub(crate) fn json_response(status: StatusCode, content_type: &str, body: impl Into<Body>) -> Response<Body> {
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, content_type)
        .body(body.into())
        .expect("status and content type are well-formed")
}

/// An answer with a value as JSON.
pub(crate) fn value_response(status: StatusCode, value: &Value) -> Response<Body> {
    json_response(status, "application/json", value.to_string())
}
