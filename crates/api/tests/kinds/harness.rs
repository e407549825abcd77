//! The server's steps without a server: decode, defaults, preparation, validation, and grants from a range that is
//! never full.

use jiff::Timestamp;
use serde_json::{Value, json};
use svcd_api::addresses::{Cluster, Family};
use svcd_api::kind::{Claim, Grant, Kind, Subresource};
use svcd_api::{patch, registry};

/// What is wrong, each as `field: text`.
pub(crate) type Wrong = Vec<String>;

pub(crate) fn kind(name: &str) -> &'static dyn Kind {
    registry().all().find(|kind| kind.info().kind == name).unwrap_or_else(|| panic!("no kind {name}"))
}

/// What the maker of an object is warned of.
pub(crate) fn warnings(object: &Value) -> Vec<String> {
    kind(object["kind"].as_str().unwrap()).warnings(object, None)
}

/// A cluster with these ranges of service addresses.
pub(crate) fn cluster(ranges: &[&str]) -> Cluster {
    let ranges: Vec<_> = ranges.iter().map(|range| range.parse().unwrap()).collect();
    Cluster::new(&ranges)
}

/// The usual one.
pub(crate) fn single() -> Cluster {
    cluster(&["10.96.0.0/12"])
}

/// Reads JSON.
pub(crate) fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Creates an object from its parts besides metadata.
pub(crate) fn create(name: &str, body: Value) -> Result<Value, Wrong> {
    create_named(name, "x", body)
}

pub(crate) fn create_named(kind_name: &str, name: &str, body: Value) -> Result<Value, Wrong> {
    create_in(&single(), kind_name, name, body)
}

/// Creates an object in some cluster.
pub(crate) fn create_in(
    cluster: &Cluster,
    kind_name: &str,
    name: &str,
    mut body: Value,
) -> Result<Value, Wrong> {
    let kind = kind(kind_name);
    let meta = body.as_object_mut().unwrap().entry("metadata").or_insert_with(|| json!({}));
    meta.as_object_mut().unwrap().entry("name").or_insert_with(|| json!(name));
    if kind.info().namespaced {
        meta["namespace"] = json!("t1");
    }
    meta["uid"] = json!("11111111-2222-3333-4444-555555555555");
    meta["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    let decoded = kind.decode(body).map_err(|e| vec![e])?;
    assert_eq!(decoded.unknown, Vec::<String>::new());
    let mut object = decoded.object;
    kind.set_defaults(&mut object);
    refuse(kind.prepare_create(&mut object, cluster))?;
    settle(kind, object, None)
}

/// Writes a whole new version.
pub(crate) fn update(old: &Value, new: Value) -> Result<Value, Wrong> {
    update_in(&single(), old, new)
}

/// Writes a whole new version in some cluster.
pub(crate) fn update_in(cluster: &Cluster, old: &Value, new: Value) -> Result<Value, Wrong> {
    let kind = kind(old["kind"].as_str().unwrap());
    let mut object = kind.decode(new).map_err(|e| vec![e])?.object;
    kind.set_defaults(&mut object);
    refuse(kind.prepare_update(&mut object, old, cluster))?;
    settle(kind, object, Some(old))
}

/// Writes a strategic merge patch.
pub(crate) fn patched(old: &Value, change: Value) -> Result<Value, Wrong> {
    let kind = kind(old["kind"].as_str().unwrap());
    update(old, patch::strategic(kind, old, &change).map_err(|e| vec![e.to_string()])?)
}

/// Writes a JSON merge patch.
pub(crate) fn merged(old: &Value, change: Value) -> Result<Value, Wrong> {
    update(old, patch::json_merge(old, &change).map_err(|e| vec![e.to_string()])?)
}

/// Writes `/status`.
pub(crate) fn status(old: &Value, status: Value) -> Result<Value, Wrong> {
    part(Subresource::Status, old, status)
}

/// Writes the status through a subresource.
pub(crate) fn part(part: Subresource, old: &Value, status: Value) -> Result<Value, Wrong> {
    let kind = kind(old["kind"].as_str().unwrap());
    let mut new = old.clone();
    new["status"] = status;
    let mut object = kind.decode(new).map_err(|e| vec![e])?.object;
    kind.set_defaults(&mut object);
    kind.prepare_part(part, &mut object, old, "2026-01-01T00:00:42.9Z".parse().unwrap());
    refuse(kind.validate_part(part, &object, old))?;
    Ok(object)
}

fn refuse(errors: Vec<svcd_api::field::FieldError>) -> Result<(), Wrong> {
    if errors.is_empty() { Ok(()) } else { Err(errors.iter().map(ToString::to_string).collect()) }
}

fn settle(kind: &dyn Kind, mut object: Value, old: Option<&Value>) -> Result<Value, Wrong> {
    refuse(kind.validate(&object, old))?;
    let claims = kind.claims(&object);
    let mut groups = std::collections::BTreeMap::new();
    let grants: Vec<Grant> = claims
        .iter()
        .enumerate()
        .map(|(at, claim)| match claim {
            Claim::ServiceIp { exact, family, .. } => {
                let any = match family {
                    Family::V4 => "10.96.0.10",
                    Family::V6 => "fd00::10",
                };
                Grant::ServiceIp(exact.unwrap_or_else(|| any.parse().unwrap()))
            }
            Claim::NodePort { exact, group, .. } => {
                let number = exact.unwrap_or(30_000 + u16::try_from(at).unwrap());
                Grant::NodePort(*groups.entry(*group).or_insert(number))
            }
        })
        .collect();
    kind.grant(&mut object, &grants);
    let again = kind.decode(object.clone()).expect("what is stored decodes");
    assert_eq!(again.object, object, "what is stored is canonical");
    Ok(object)
}

/// The first line of a table's cells, without the age, as text.
pub(crate) fn row(object: &Value) -> Vec<String> {
    let kind = kind(object["kind"].as_str().unwrap());
    let now: Timestamp = "2026-01-01T00:00:42Z".parse().unwrap();
    let cells = kind.cells(object, now);
    assert_eq!(cells.len(), kind.columns().len(), "a cell for each column");
    cells.iter().map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)).collect()
}

/// The errors of a refused write.
pub(crate) fn errors(result: Result<Value, Wrong>) -> Wrong {
    match result {
        Ok(object) => panic!("accepted: {object}"),
        Err(errors) => errors,
    }
}
