//! Who is asking: a name and groups, as a client certificate or a token says them.

use std::collections::BTreeMap;

use svcd_api::kind::Author;

/// The group that may do everything.
pub const MASTERS: &str = "system:masters";
/// The group of the agents; its members are named `system:node:NAME`.
pub const NODES: &str = "system:nodes";
/// The group of those who hold a join token; they may do nothing but join.
pub const BOOTSTRAPPERS: &str = "system:bootstrappers";
/// The group of everyone who could be told apart.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of everyone else.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group of all ServiceAccounts; those of a namespace are in `system:serviceaccounts:NAMESPACE` too.
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// The user of whom nothing is known.
pub const ANONYMOUS: &str = "system:anonymous";

const NODE_PREFIX: &str = "system:node:";

/// An authenticated user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// `admin`, `system:node:node1`.
    pub name: String,
    /// Group names; `system:authenticated` is always among them.
    pub groups: Vec<String>,
    /// Tells users of one name apart, where something says so.
    pub uid: String,
    /// What else is known, by key.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user of these groups, and of `system:authenticated`.
    pub fn new(name: impl Into<String>, groups: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut groups: Vec<String> = groups.into_iter().map(Into::into).collect();
        if !groups.iter().any(|g| g == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Self { name: name.into(), groups, uid: String::new(), extra: BTreeMap::new() }
    }

    /// Somebody of whom nothing is known.
    pub fn anonymous() -> Self {
        let groups = vec![UNAUTHENTICATED.to_owned()];
        Self { name: ANONYMOUS.to_owned(), groups, uid: String::new(), extra: BTreeMap::new() }
    }

    /// A user who may do everything, for the server's own parts.
    pub fn master(name: impl Into<String>) -> Self {
        Self::new(name, [MASTERS])
    }

    /// The user as the author of a write.
    pub(crate) fn author(&self) -> Author<'_> {
        Author { name: &self.name, uid: &self.uid, groups: &self.groups, extra: &self.extra }
    }

    /// Is the user in this group?
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// The node that an agent's certificate names.
    pub fn node_name(&self) -> Option<&str> {
        if self.is_in(NODES) { self.name.strip_prefix(NODE_PREFIX).filter(|n| !n.is_empty()) } else { None }
    }
}
