//! OpenAPI v2, from v3: in protobuf for kubectl (all versions for files with a `List`, versions before 1.27 for everything),
//! in JSON for others. It has the types whole, and of the operations what clients look for: the kind and the query
//! parameters (kubectl up to 1.26 asks for a PATCH with `dryRun` before it sends one). The rest of them stands in v3.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::document::Document;

mod protobuf;

const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

type Schemas<'a> = BTreeMap<String, &'a str>;
type Paths = Map<String, Value>;

/// The document as JSON.
pub(crate) fn json(paths: &Paths, schemas: &Schemas<'_>, version: &str) -> Document {
    let info = json!({ "title": "Kubernetes", "version": version });
    let paths: Value = paths.iter().map(|(path, item)| (path.clone(), path_item(item))).collect();
    let mut out = format!(r#"{{"swagger":"2.0","info":{info},"paths":{paths},"definitions":{{"#);
    // One after the other, so that only one of them is in memory as a tree.
    for (at, (name, schema)) in schemas.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        out.push_str(&format!("{comma}\"{name}\":{}", parsed(schema)));
    }
    out.push_str("}}");
    Document::new(out.into(), "application/json")
}

/// The document in protobuf.
pub(crate) fn protobuf(paths: &Paths, schemas: &Schemas<'_>, version: &str) -> Document {
    let paths = paths.iter().map(|(path, item)| (path.as_str(), path_item(item)));
    let schemas = schemas.iter().map(|(name, schema)| (name.as_str(), parsed(schema)));
    Document::new(protobuf::document(version, paths, schemas).into(), MEDIA_TYPE)
}

/// What can be done at a path of v3, as v2 says the same.
fn path_item(v3: &Value) -> Value {
    let operations = v3.as_object().into_iter().flatten();
    operations.map(|(method, operation)| (method.clone(), self::operation(operation))).collect()
}

fn operation(v3: &Value) -> Value {
    let mut operation = Map::new();
    for (word, value) in v3.as_object().into_iter().flatten().filter(|(word, _)| word.starts_with("x-")) {
        operation.insert(word.clone(), value.clone());
    }
    let parameters = v3["parameters"].as_array().into_iter().flatten();
    let parameter = |name: &Value| json!({ "name": name, "in": "query", "type": "string" });
    operation.insert("parameters".to_owned(), parameters.map(|v3| parameter(&v3["name"])).collect());
    operation.insert("responses".to_owned(), json!({ "200": { "description": "OK" } }));
    operation.into()
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

#[cfg(test)]
mod tests {
    use super::*;

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
