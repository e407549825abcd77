//! RBAC: who holds which rules. An index by user and group, kept up by `keep`; a decision looks only at the bindings
//! of the user and of its groups.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use super::{Asked, Objects};
use crate::user::User;

pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";
pub(crate) const ROLES: &str = "roles";
pub(crate) const CLUSTER_ROLES: &str = "clusterroles";
pub(crate) const CLUSTER_ROLE_BINDINGS: &str = "clusterrolebindings";
const ALL: &str = "*";

/// What a role allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rule {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) api_groups: Vec<String>,
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub(crate) paths: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) resource_names: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) resources: Vec<String>,
    pub(crate) verbs: Vec<String>,
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == ALL || one == wanted)
}

impl Rule {
    fn allows(&self, asked: &Asked<'_>) -> bool {
        match asked {
            Asked::Objects(objects) => {
                has(&self.verbs, objects.verb)
                    && has(&self.api_groups, objects.group)
                    && self.has_resource(objects)
                    && (self.resource_names.is_empty()
                        || self.resource_names.iter().any(|n| n == objects.name))
            }
            Asked::Path { verb, path } => has(&self.verbs, verb) && self.has_path(path),
        }
    }

    fn has_resource(&self, objects: &Objects<'_>) -> bool {
        let Objects { resource, subresource, .. } = objects;
        self.resources.iter().any(|one| match one.split_once('/') {
            _ if one == ALL => true,
            None => subresource.is_empty() && one == resource,
            Some((parent, child)) => {
                !subresource.is_empty() && child == *subresource && (parent == ALL || parent == *resource)
            }
        })
    }

    pub(crate) fn has_path(&self, path: &str) -> bool {
        self.paths.iter().any(|one| match one.strip_suffix('*') {
            Some(start) => path.starts_with(start),
            None => one == path,
        })
    }
}

/// What is stored of a role.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RoleObject {
    rules: Option<Vec<Rule>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BindingObject {
    role_ref: RoleRef,
    #[serde(default)]
    subjects: Vec<SubjectObject>,
}

#[derive(Debug, Deserialize)]
struct RoleRef {
    kind: String,
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SubjectObject {
    kind: String,
    name: String,
    namespace: String,
}

/// Somebody whom a binding names; a ServiceAccount is the user that it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

/// A role's place: the namespace is empty for a ClusterRole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RoleKey {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// Who is given which role, and where: everywhere when the namespace is empty.
#[derive(Debug)]
pub(crate) struct Binding {
    namespace: String,
    name: String,
    role: RoleKey,
    subjects: Vec<Subject>,
}

impl Binding {
    fn read(namespace: &str, name: &str, value: &[u8]) -> Result<Self, serde_json::Error> {
        let object: BindingObject = serde_json::from_slice(value)?;
        let of_namespace = object.role_ref.kind == "Role";
        let role = RoleKey {
            namespace: if of_namespace { namespace.to_owned() } else { String::new() },
            name: object.role_ref.name,
        };
        let subjects = object.subjects.into_iter().filter_map(|subject| match subject.kind.as_str() {
            "User" => Some(Subject::User(subject.name)),
            "Group" => Some(Subject::Group(subject.name)),
            "ServiceAccount" => {
                let place = if subject.namespace.is_empty() { namespace } else { &subject.namespace };
                Some(Subject::User(format!("system:serviceaccount:{place}:{}", subject.name)))
            }
            _ => None,
        });
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            role,
            subjects: subjects.collect(),
        })
    }
}

/// Why something is allowed.
#[derive(Debug)]
pub(crate) struct Grounds {
    binding: Arc<Binding>,
    subject: Subject,
}

impl std::fmt::Display for Grounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Binding { namespace, name, role, .. } = &*self.binding;
        let role_kind = if role.namespace.is_empty() { "ClusterRole" } else { "Role" };
        if namespace.is_empty() {
            write!(f, "RBAC: allowed by ClusterRoleBinding {name:?}")?;
        } else {
            write!(f, "RBAC: allowed by RoleBinding \"{name}/{namespace}\"")?;
        }
        write!(f, " of {role_kind} {:?} to ", role.name)?;
        match &self.subject {
            Subject::User(name) => write!(f, "User {name:?}"),
            Subject::Group(name) => write!(f, "Group {name:?}"),
        }
    }
}

/// By namespace, empty for everywhere.
type Bindings = HashMap<String, Vec<Arc<Binding>>>;

#[derive(Default)]
struct Tables {
    roles: HashMap<RoleKey, Arc<[Rule]>>,
    bindings: HashMap<(String, String), Arc<Binding>>,
    users: HashMap<String, Bindings>,
    groups: HashMap<String, Bindings>,
}

/// Roles and bindings, found by whom they are for.
#[derive(Default)]
pub(crate) struct Index(RwLock<Tables>);

impl Index {
    /// What allows this, if anything does.
    pub(crate) fn grounds(&self, user: &User, asked: &Asked<'_>) -> Option<Grounds> {
        let namespace = match asked {
            Asked::Objects(objects) => objects.namespace,
            Asked::Path { .. } => "",
        };
        self.look(user, namespace, |binding, subject, rules| {
            if rules.iter().any(|rule| rule.allows(asked)) {
                let grounds = Grounds { binding: Arc::clone(binding), subject: subject() };
                return ControlFlow::Break(grounds);
            }
            ControlFlow::Continue(())
        })
    }

    /// Everything that a user may do in a namespace (outside of all when it is empty).
    pub(crate) fn rules(&self, user: &User, namespace: &str) -> Vec<Rule> {
        let mut found = Vec::new();
        self.look(user, namespace, |_, _, rules| {
            found.extend_from_slice(rules);
            ControlFlow::<()>::Continue(())
        });
        found
    }

    /// The rules of a role.
    pub(crate) fn role(&self, key: &RoleKey) -> Option<Arc<[Rule]>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).roles.get(key).cloned()
    }

    /// Visits the roles that are given to a user here and everywhere.
    fn look<T>(
        &self,
        user: &User,
        namespace: &str,
        mut visit: impl FnMut(&Arc<Binding>, &dyn Fn() -> Subject, &[Rule]) -> ControlFlow<T>,
    ) -> Option<T> {
        let tables = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut visit_all = |bindings: Option<&Bindings>, subject: &dyn Fn() -> Subject| {
            let bindings = bindings?;
            let everywhere = bindings.get("").into_iter().flatten();
            let here = bindings.get(namespace).filter(|_| !namespace.is_empty()).into_iter().flatten();
            for binding in everywhere.chain(here) {
                let Some(rules) = tables.roles.get(&binding.role) else { continue };
                if let ControlFlow::Break(found) = visit(binding, subject, rules) {
                    return Some(found);
                }
            }
            None
        };
        if let Some(found) = visit_all(tables.users.get(&user.name), &|| Subject::User(user.name.clone())) {
            return Some(found);
        }
        user.groups
            .iter()
            .find_map(|group| visit_all(tables.groups.get(group), &|| Subject::Group(group.clone())))
    }

    /// Takes an object as it is stored.
    pub(crate) fn apply(&self, plural: &str, namespace: &str, name: &str, value: &[u8]) {
        let result = match plural {
            ROLES | CLUSTER_ROLES => serde_json::from_slice(value).map(|role: RoleObject| {
                let key = RoleKey { namespace: namespace.to_owned(), name: name.to_owned() };
                self.write().roles.insert(key, role.rules.unwrap_or_default().into());
            }),
            _ => Binding::read(namespace, name, value).map(|binding| self.write().bind(Arc::new(binding))),
        };
        if let Err(error) = result {
            tracing::warn!(plural, namespace, name, %error, "it cannot be read and gives no rights");
            self.delete(plural, namespace, name);
        }
    }

    pub(crate) fn delete(&self, plural: &str, namespace: &str, name: &str) {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        match plural {
            ROLES | CLUSTER_ROLES => drop(self.write().roles.remove(&RoleKey { namespace, name })),
            _ => self.write().unbind(&(namespace, name)),
        }
    }

    /// Knows what another index knows, and nothing else.
    pub(crate) fn replace(&self, other: Self) {
        *self.write() = other.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Tables> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn of(&mut self, subject: &Subject) -> (&mut HashMap<String, Bindings>, String) {
        match subject {
            Subject::User(name) => (&mut self.users, name.clone()),
            Subject::Group(name) => (&mut self.groups, name.clone()),
        }
    }

    fn bind(&mut self, binding: Arc<Binding>) {
        let key = (binding.namespace.clone(), binding.name.clone());
        self.unbind(&key);
        for subject in &binding.subjects {
            let (table, name) = self.of(subject);
            table.entry(name).or_default().entry(key.0.clone()).or_default().push(Arc::clone(&binding));
        }
        self.bindings.insert(key, binding);
    }

    fn unbind(&mut self, key: &(String, String)) {
        let Some(binding) = self.bindings.remove(key) else { return };
        for subject in &binding.subjects {
            let (table, name) = self.of(subject);
            let Some(places) = table.get_mut(&name) else { continue };
            if let Some(list) = places.get_mut(&key.0) {
                list.retain(|other| other.name != key.1);
                if list.is_empty() {
                    places.remove(&key.0);
                }
            }
            if places.is_empty() {
                table.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ROLE_BINDINGS: &str = "rolebindings";

    fn put(index: &Index, plural: &str, namespace: &str, name: &str, value: &serde_json::Value) {
        index.apply(plural, namespace, name, value.to_string().as_bytes());
    }

    fn role(resources: &[&str], names: &[&str]) -> serde_json::Value {
        json!({ "rules": [{ "apiGroups": [""], "resources": resources, "resourceNames": names, "verbs": ["get"] }] })
    }

    fn binding(kind: &str, role: &str, subject: &serde_json::Value) -> serde_json::Value {
        json!({ "roleRef": { "kind": kind, "name": role, "apiGroup": GROUP }, "subjects": [subject] })
    }

    fn get<'a>(resource: &'a str, namespace: &'a str) -> Objects<'a> {
        Objects { verb: "get", resource, namespace, name: "x", ..Objects::default() }
    }

    #[test]
    fn a_binding_gives_its_role_to_its_subjects_where_it_is() {
        let index = Index::default();
        let alice = User::new("alice", ["people"]);
        let may = |user: &User, objects| index.grounds(user, &Asked::Objects(objects)).map(|g| g.to_string());
        put(&index, CLUSTER_ROLES, "", "reader", &role(&["pods", "pods/log", "*/scale"], &[]));
        let group = json!({ "kind": "Group", "name": "people" });
        put(&index, ROLE_BINDINGS, "ns", "b", &binding("ClusterRole", "reader", &group));
        assert_eq!(
            may(&alice, get("pods", "ns")).unwrap(),
            "RBAC: allowed by RoleBinding \"b/ns\" of ClusterRole \"reader\" to Group \"people\""
        );
        assert!(may(&alice, get("pods", "other")).is_none());
        assert!(may(&alice, get("pods", "")).is_none());
        assert!(may(&alice, Objects { verb: "list", ..get("pods", "ns") }).is_none());
        assert!(may(&alice, Objects { group: "apps", ..get("pods", "ns") }).is_none());
        for (subresource, allowed) in [("log", true), ("scale", true), ("status", false)] {
            assert_eq!(
                may(&alice, Objects { subresource, ..get("pods", "ns") }).is_some(),
                allowed,
                "{subresource}"
            );
        }
        let account = json!({ "kind": "ServiceAccount", "name": "bot", "namespace": "ns" });
        put(&index, ROLES, "ns", "one", &role(&["secrets"], &["x"]));
        put(&index, ROLE_BINDINGS, "ns", "c", &binding("Role", "one", &account));
        let bot = User::new("system:serviceaccount:ns:bot", ["people"]);
        assert!(may(&bot, get("secrets", "ns")).is_some());
        assert!(may(&bot, Objects { name: "y", ..get("secrets", "ns") }).is_none());
        assert!(may(&bot, Objects { name: "", ..get("secrets", "ns") }).is_none());
        assert_eq!(index.rules(&bot, "ns").len(), 2);
        index.delete(ROLE_BINDINGS, "ns", "b");
        index.delete(ROLES, "ns", "one");
        assert!(may(&alice, get("pods", "ns")).is_none() && may(&bot, get("secrets", "ns")).is_none());
        index.delete(ROLE_BINDINGS, "ns", "c");
        let tables = index.0.read().unwrap();
        assert!(tables.users.is_empty() && tables.groups.is_empty(), "nothing is left behind");
    }

    #[test]
    fn paths_are_matched_whole_or_by_their_beginning() {
        let rule = Rule { paths: vec!["/healthz".into(), "/api/*".into()], ..Rule::default() };
        for (path, matches) in [
            ("/healthz", true),
            ("/healthz/x", false),
            ("/api/v1", true),
            ("/api", false),
            ("/apis/x", false),
        ] {
            assert_eq!(rule.has_path(path), matches, "{path}");
        }
    }
}
