//! What upstream says of its own types: the OpenAPI v3 schema of each, with its descriptions. The data is written by
//! `schema/generate` and kept compressed; whoever needs it unpacks it and drops it again, since documents are asked for
//! once in a client's life and the text is larger than the rest of the server's memory for small clusters.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::kind::KindInfo;

static PACKED: &[u8] = include_bytes!("../schema/openapi.z");
const REFERENCE: &str = "\"#/components/schemas/";

/// The name of a kind's type: `io.k8s.api.core.v1.Service`.
pub fn type_name(info: &KindInfo) -> String {
    let group = if info.group.is_empty() { "core" } else { info.group };
    let group = group.split('.').next().unwrap_or(group);
    format!("io.k8s.api.{group}.{}.{}", info.version, info.kind)
}

/// The schemas, unpacked.
pub struct Definitions {
    text: String,
    /// Names and schemas, in the order of the names.
    lines: Vec<(Range<usize>, Range<usize>)>,
}

impl Definitions {
    /// Unpacks them.
    pub fn unpack() -> Self {
        let bytes = miniz_oxide::inflate::decompress_to_vec_zlib(PACKED).expect("the data was packed whole");
        let text = String::from_utf8(bytes).expect("the data is text");
        let mut lines = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let tab = line.find('\t').expect("a tab stands after the name");
            lines.push((start..start + tab, start + tab + 1..start + line.trim_end().len()));
            start += line.len();
        }
        Self { text, lines }
    }

    /// The schema of a type, as JSON.
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.lines.binary_search_by(|(found, _)| self.text[found.clone()].cmp(name)).ok()?;
        Some(&self.text[self.lines[at].1.clone()])
    }

    /// The schemas of these types and of all that they refer to.
    pub fn closure(&self, roots: impl IntoIterator<Item = String>) -> BTreeMap<String, &str> {
        let mut wanted: Vec<String> = roots.into_iter().collect();
        let mut found = BTreeMap::new();
        while let Some(name) = wanted.pop() {
            let Some(schema) = self.get(&name).filter(|_| !found.contains_key(&name)) else { continue };
            wanted.extend(references(schema).map(str::to_owned));
            found.insert(name, schema);
        }
        found
    }
}

fn references(schema: &str) -> impl Iterator<Item = &str> {
    schema.split(REFERENCE).skip(1).filter_map(|rest| rest.split('"').next())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::registry;

    #[test]
    fn every_served_kind_and_its_list_have_a_schema() {
        let definitions = Definitions::unpack();
        for kind in registry().all() {
            let info = kind.info();
            let name = type_name(info);
            let schema: Value = serde_json::from_str(definitions.get(&name).unwrap()).unwrap();
            let gvk = &schema["x-kubernetes-group-version-kind"][0];
            assert_eq!((gvk["group"].as_str(), gvk["kind"].as_str()), (Some(info.group), Some(info.kind)));
            assert!(schema["description"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
            // What is only a question is never listed.
            let listed = definitions.get(&format!("{name}List")).is_some();
            assert_eq!(listed, !kind.is_virtual(), "{name}List");
        }
    }

    #[test]
    fn a_closure_has_no_loose_ends() {
        let definitions = Definitions::unpack();
        let closure = definitions.closure(["io.k8s.api.core.v1.Service".to_owned()]);
        for schema in closure.values() {
            assert!(references(schema).all(|name| closure.contains_key(name)));
        }
        assert!(closure.contains_key("io.k8s.apimachinery.pkg.util.intstr.IntOrString"));
        assert!(!closure.contains_key("io.k8s.api.core.v1.Pod"));
    }

    #[test]
    fn lists_say_how_they_merge() {
        let definitions = Definitions::unpack();
        let spec = definitions.get("io.k8s.api.core.v1.ServiceSpec").unwrap();
        let spec: Value = serde_json::from_str(spec).unwrap();
        let ports = &spec["properties"]["ports"];
        assert_eq!(ports["x-kubernetes-list-map-keys"], serde_json::json!(["port", "protocol"]));
        assert_eq!(ports["x-kubernetes-patch-merge-key"], "port");
        assert_eq!(spec["properties"]["clusterIPs"]["x-kubernetes-list-type"], "atomic");
    }
}
