//! The part of `metadata` that belongs to the server: what it sets at creation, what an update cannot touch, and when a
//! deleted object may go.

use rand::RngExt as _;
use serde_json::{Map, Value, json};
use svcd_api::kind::Subresource;

use crate::errors::Failure;
use crate::query;
use crate::resources::Resource;
use crate::route::Target;

/// Letters of generated names; the same as upstream's: no vowels, so no words.
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
/// Longest base of a generated name, so that the name fits a label.
const LONGEST_BASE: usize = 63 - SUFFIX_LENGTH;

/// The metadata of an object, made when it is missing.
pub(crate) fn of(object: &mut Value) -> &mut Map<String, Value> {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    object["metadata"].as_object_mut().expect("it has just been made an object")
}

/// The same object with a name.
pub(crate) fn named(mut object: Value, name: String) -> Value {
    of(&mut object).insert("name".to_owned(), name.into());
    object
}

/// A text in the metadata, empty when absent.
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or("")
}

/// Now, as Kubernetes writes times.
pub(crate) fn timestamp(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Fills in what stands in the path and checks what the object says against it.
pub(crate) fn place(object: &mut Value, target: &Target) -> Result<(), Failure> {
    let said = text(object, "namespace").to_owned();
    if !said.is_empty() && said != target.namespace() {
        return Err(Failure::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let name = text(object, "name").to_owned();
    if let Some(wanted) = &target.name
        && !name.is_empty()
        && name != *wanted
    {
        return Err(Failure::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({wanted})"
        )));
    }
    let metadata = of(object);
    if let Some(wanted) = &target.name {
        metadata.insert("name".to_owned(), wanted.as_str().into());
    }
    match &target.namespace {
        Some(namespace) => metadata.insert("namespace".to_owned(), namespace.as_str().into()),
        None => metadata.remove("namespace"),
    };
    Ok(())
}

/// Gives a new object what only the server gives.
pub(crate) fn begin(object: &mut Value) {
    let metadata = of(object);
    for field in SERVERS_OWN {
        metadata.remove(*field);
    }
    metadata.insert("uid".to_owned(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".to_owned(), timestamp(jiff::Timestamp::now()).into());
}

const SERVERS_OWN: &[&str] = &[
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "resourceVersion",
    "selfLink",
    "managedFields",
];

/// A name from `generateName`.
pub(crate) fn generate_name(base: &str) -> String {
    let base: String = base.chars().take(LONGEST_BASE).collect();
    let mut random = rand::rng();
    let suffix =
        (0..SUFFIX_LENGTH).map(|_| char::from(SUFFIX_LETTERS[random.random_range(..SUFFIX_LETTERS.len())]));
    base.chars().chain(suffix).collect()
}

/// Holds an update against the version and the identity that it names.
pub(crate) fn check_preconditions(resource: &Resource, new: &Value, old: &Value) -> Result<(), Failure> {
    let name = text(old, "name");
    let version = text(new, "resourceVersion");
    if !version.is_empty()
        && version != "0"
        && query::revision(version)?.to_string() != text(old, "resourceVersion")
    {
        return Err(Failure::modified(resource.info, name));
    }
    let uid = text(new, "uid");
    if !uid.is_empty() && uid != text(old, "uid") {
        return Err(uid_mismatch(resource, name, uid, text(old, "uid")));
    }
    Ok(())
}

pub(crate) fn uid_mismatch(resource: &Resource, name: &str, wanted: &str, found: &str) -> Failure {
    let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}");
    Failure::conflict(resource.info, name, &why)
}

/// Carries over what an update cannot change.
pub(crate) fn carry_over(new: &mut Value, old: &Value) {
    let metadata = of(new);
    for field in SERVERS_OWN {
        match old["metadata"].get(*field) {
            Some(value) => metadata.insert((*field).to_owned(), value.clone()),
            None => metadata.remove(*field),
        };
    }
    // A name that was generated says so for ever.
    if let Some(base) = old["metadata"].get("generateName") {
        metadata.entry("generateName").or_insert_with(|| base.clone());
    }
}

pub(crate) fn finalizers(object: &Value) -> Vec<String> {
    let list = object["metadata"]["finalizers"].as_array();
    list.into_iter().flatten().filter_map(|f| f.as_str().map(str::to_owned)).collect()
}

pub(crate) fn set_finalizers(object: &mut Value, finalizers: &[String]) {
    let metadata = of(object);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".to_owned(), json!(finalizers));
    }
}

pub(crate) fn is_deleting(object: &Value) -> bool {
    object["metadata"].get("deletionTimestamp").is_some_and(|t| !t.is_null())
}

/// Is something still to be done before the object may go?
pub(crate) fn is_held(resource: &Resource, object: &Value) -> bool {
    let spec_holds = resource.serves(Subresource::Finalize)
        && object["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
    spec_holds || !finalizers(object).is_empty()
}

/// Has the last thing been done that a deleted object waited for?
pub(crate) fn is_finished(resource: &Resource, object: &Value) -> bool {
    let grace = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    is_deleting(object) && grace == 0 && !is_held(resource, object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_keep_their_base_and_fit_a_label() {
        let name = generate_name("web-");
        assert!(name.starts_with("web-") && name.len() == 9, "{name}");
        assert_eq!(generate_name(&"x".repeat(100)).len(), 63);
    }

    #[test]
    fn an_update_cannot_touch_what_is_the_servers() {
        let old = json!({ "metadata": { "uid": "u", "creationTimestamp": "t", "generation": 3 } });
        let mut new =
            json!({ "metadata": { "uid": "x", "deletionTimestamp": "now", "labels": { "a": "b" } } });
        carry_over(&mut new, &old);
        let metadata =
            json!({ "uid": "u", "creationTimestamp": "t", "generation": 3, "labels": { "a": "b" } });
        assert_eq!(new["metadata"], metadata);
    }

    #[test]
    fn times_are_whole_seconds_in_utc() {
        let time: jiff::Timestamp = "2024-05-06T07:08:09.123Z".parse().unwrap();
        assert_eq!(timestamp(time), "2024-05-06T07:08:09Z");
    }
}
