//! Nobody gives away rights that they do not hold: who writes a role must hold its rules or be allowed to `escalate`,
//! who binds one must hold its rules or be allowed to `bind` it.

use std::collections::BTreeMap;

use serde_json::Value;
use svcd_api::{ApiError, ResourceName};

use super::rbac::{CLUSTER_ROLES, GROUP, ROLES, RoleKey, Rule};
use super::{Asked, Objects};
use crate::call::Call;
use crate::errors::Failure;
use crate::metadata;
use crate::server::ApiServer;
use crate::user::MASTERS;

impl ApiServer {
    /// Holds the rights that a new object gives against those of its author.
    pub(crate) async fn check_grants(
        &self,
        call: &Call,
        new: &Value,
        old: Option<&Value>,
    ) -> Result<(), Failure> {
        let info = call.resource().info;
        if info.group != GROUP || call.user.is_in(MASTERS) {
            return Ok(());
        }
        let is_role = matches!(info.plural, ROLES | CLUSTER_ROLES);
        let fields: &[&str] = if is_role { &["rules", "aggregationRule"] } else { &["roleRef", "subjects"] };
        if old.is_some_and(|old| fields.iter().all(|field| old.get(field) == new.get(field))) {
            return Ok(());
        }
        let given = if is_role {
            let resource = info.plural;
            if self.may(call, "escalate", resource, metadata::text(new, "name")).await {
                return Ok(());
            }
            rules_of(new)
        } else {
            let key = role_of(new, call.target.namespace());
            let resource = if key.namespace.is_empty() { CLUSTER_ROLES } else { ROLES };
            if self.may(call, "bind", resource, &key.name).await {
                return Ok(());
            }
            let found = self.authorizer.rbac.role(&key);
            let kind = if key.namespace.is_empty() { "clusterrole" } else { "role" };
            let rules =
                found.ok_or_else(|| ApiError::not_found(&ResourceName::new(GROUP, kind), &key.name))?;
            rules.to_vec()
        };
        let held = self.authorizer.rbac.rules(&call.user, call.target.namespace());
        let missing: Vec<String> = given.iter().flat_map(|rule| missing(&held, rule)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let why = format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            call.user.name,
            list(&call.user.groups),
            missing.join("\n")
        );
        Err(Failure::forbidden(info, metadata::text(new, "name"), &why))
    }

    async fn may(&self, call: &Call, verb: &str, resource: &str, name: &str) -> bool {
        let namespace = call.target.namespace();
        let asked = Objects { verb, group: GROUP, resource, namespace, name, ..Objects::default() };
        self.decide(&call.user, &Asked::Objects(asked)).await.is_allowed()
    }
}

/// What a role gives; one that is summed up from others could come to give anything.
fn rules_of(role: &Value) -> Vec<Rule> {
    let mut rules: Vec<Rule> = serde_json::from_value(role["rules"].clone()).unwrap_or_default();
    if role.get("aggregationRule").is_some_and(Value::is_object) {
        let all = || vec!["*".to_owned()];
        rules.push(Rule { api_groups: all(), resources: all(), verbs: all(), ..Rule::default() });
        rules.push(Rule { paths: all(), verbs: all(), ..Rule::default() });
    }
    rules
}

fn role_of(binding: &Value, namespace: &str) -> RoleKey {
    let text = |field: &str| binding["roleRef"][field].as_str().unwrap_or_default();
    let namespace = if text("kind") == "Role" { namespace } else { "" };
    RoleKey { namespace: namespace.to_owned(), name: text("name").to_owned() }
}

/// Do these rules together allow all that this one does?
pub(crate) fn covers(held: &[Rule], wanted: &Rule) -> bool {
    missing(held, wanted).is_empty()
}

/// What of a rule is not held, as upstream writes it.
fn missing(held: &[Rule], wanted: &Rule) -> Vec<String> {
    let mut by_place: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for verb in &wanted.verbs {
        for path in wanted.paths.iter().filter(|path| !holds_path(held, verb, path)) {
            by_place.entry(format!("NonResourceURLs:[{path:?}]")).or_default().push(verb);
        }
        for group in &wanted.api_groups {
            for resource in &wanted.resources {
                let any = [String::new()];
                let names =
                    if wanted.resource_names.is_empty() { &any } else { wanted.resource_names.as_slice() };
                for name in names.iter().filter(|name| !holds(held, verb, group, resource, name)) {
                    let name =
                        if name.is_empty() { String::new() } else { format!(", ResourceNames:[{name:?}]") };
                    let place = format!("APIGroups:[{group:?}], Resources:[{resource:?}]{name}");
                    by_place.entry(place).or_default().push(verb);
                }
            }
        }
    }
    by_place.into_iter().map(|(place, verbs)| format!("{{{place}, Verbs:{}}}", list(&verbs))).collect()
}

fn holds(held: &[Rule], verb: &str, group: &str, resource: &str, name: &str) -> bool {
    let has = |list: &[String], wanted: &str| list.iter().any(|one| one == "*" || one == wanted);
    held.iter().any(|rule| {
        let resources = has(&rule.resources, resource)
            || resource.split_once('/').is_some_and(|(_, child)| {
                rule.resources.iter().any(|one| one.strip_prefix("*/").is_some_and(|c| c == child))
            });
        let names = rule.resource_names.is_empty() || rule.resource_names.iter().any(|n| n == name);
        has(&rule.verbs, verb) && has(&rule.api_groups, group) && resources && names
    })
}

fn holds_path(held: &[Rule], verb: &str, path: &str) -> bool {
    let verbs = |rule: &Rule| rule.verbs.iter().any(|one| one == "*" || one == verb);
    held.iter().any(|rule| verbs(rule) && rule.has_path(path))
}

/// `["a" "b"]`.
fn list<T: AsRef<str>>(items: &[T]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| format!("{:?}", item.as_ref())).collect();
    format!("[{}]", quoted.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(groups: &[&str], resources: &[&str], names: &[&str], verbs: &[&str]) -> Rule {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Rule {
            api_groups: own(groups),
            resources: own(resources),
            resource_names: own(names),
            verbs: own(verbs),
            ..Rule::default()
        }
    }

    #[test]
    fn what_is_held_covers_what_is_given_piece_by_piece() {
        let held = [
            rule(&[""], &["pods"], &[], &["get", "list"]),
            rule(&[""], &["services"], &[], &["*"]),
            rule(&["apps"], &["*/scale"], &[], &["get"]),
            rule(&[""], &["secrets"], &["mine"], &["get"]),
        ];
        for (given, lacks) in [
            (rule(&[""], &["pods", "services"], &[], &["get"]), ""),
            (rule(&[""], &["pods"], &["x"], &["list"]), ""),
            (rule(&["apps"], &["deployments/scale"], &[], &["get"]), ""),
            (rule(&[""], &["secrets"], &["mine"], &["get"]), ""),
            (
                rule(&[""], &["pods"], &[], &["get", "watch", "delete"]),
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["watch" "delete"]}"#,
            ),
            (
                rule(&[""], &["secrets"], &[], &["get"]),
                r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}"#,
            ),
            (
                rule(&[""], &["secrets"], &["yours"], &["get"]),
                r#"{APIGroups:[""], Resources:["secrets"], ResourceNames:["yours"], Verbs:["get"]}"#,
            ),
            (
                rule(&["*"], &["pods"], &[], &["get"]),
                r#"{APIGroups:["*"], Resources:["pods"], Verbs:["get"]}"#,
            ),
        ] {
            assert_eq!(missing(&held, &given).join("|"), lacks, "{given:?}");
        }
    }
}
