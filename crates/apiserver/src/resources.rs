//! The table of what is served: one entry a kind, with everything that can be computed once: key prefix, the first
//! bytes of every stored object, names. Routing, discovery and OpenAPI all read this one table.

use std::sync::Arc;

use svcd_api::addresses::{AddressClaims, AddressRanges};
use svcd_api::kind::{Kind, KindInfo, Subresource};

/// One served kind. What is about its objects in the store is that of the kind as which they are stored, which may be
/// another (see [`svcd_api::renamed`]).
pub(crate) struct Resource {
    pub(crate) kind: &'static dyn Kind,
    pub(crate) info: &'static KindInfo,
    pub(crate) api_version: String,
    /// All of its keys begin with this: `/objects/core/services/`.
    prefix: String,
    /// How every stored object begins; the revision's digits come next. See `record`.
    pub(crate) head: String,
    /// Where in a stored object the metadata begins.
    pub(crate) metadata_at: usize,
}

impl Resource {
    fn new(kind: &'static dyn Kind) -> Self {
        let info = kind.info();
        let stored = kind.renamed().map_or(info, |renamed| renamed.stored().info());
        let group = if stored.group.is_empty() { "core" } else { stored.group };
        let start =
            format!(r#"{{"apiVersion":"{}","kind":"{}","metadata":"#, stored.api_version(), stored.kind);
        Self {
            kind,
            info,
            prefix: format!("/objects/{group}/{}/", stored.plural),
            metadata_at: start.len(),
            head: start + r#"{"resourceVersion":""#,
            api_version: info.api_version(),
        }
    }

    /// The key of an object; the namespace is empty for kinds outside namespaces.
    pub(crate) fn key(&self, namespace: &str, name: &str) -> String {
        format!("{}{namespace}/{name}", self.prefix)
    }

    /// What the keys of a namespace's objects begin with; of all objects when `None`.
    pub(crate) fn prefix(&self, namespace: Option<&str>) -> String {
        match namespace {
            Some(namespace) => format!("{}{namespace}/", self.prefix),
            None => self.prefix.clone(),
        }
    }

    /// Namespace and name of a key of this kind.
    pub(crate) fn names<'a>(&self, key: &'a str) -> (&'a str, &'a str) {
        key.get(self.prefix.len()..).and_then(|rest| rest.split_once('/')).unwrap_or(("", key))
    }

    pub(crate) fn serves(&self, subresource: Subresource) -> bool {
        self.info.subresources.contains(&subresource)
    }

    /// The place of a selectable field beside the stored objects.
    pub(crate) fn field_at(&self, name: &str) -> Option<usize> {
        let place =
            |kind: &dyn Kind, name: &str| kind.selectable_field_names().iter().position(|n| *n == name);
        match self.kind.renamed() {
            None => place(self.kind, name),
            Some(renamed) => place(renamed.stored(), &renamed.stored_path(name)),
        }
    }

    /// Is this the kind whose objects are the namespaces? (Recognised by what it can do, not by its name.)
    pub(crate) fn is_namespacing(&self) -> bool {
        !self.info.namespaced && self.serves(Subresource::Finalize)
    }
}

/// All served kinds.
pub(crate) struct Resources {
    all: Vec<Arc<Resource>>,
    namespaces: Option<Arc<Resource>>,
}

impl Resources {
    pub(crate) fn new(kinds: impl IntoIterator<Item = &'static dyn Kind>) -> Self {
        let all: Vec<_> = kinds.into_iter().map(|kind| Arc::new(Resource::new(kind))).collect();
        let namespaces = all.iter().find(|r| r.is_namespacing()).cloned();
        Self { all, namespaces }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.all.iter()
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        // A few dozen kinds at most: looking through them is faster than hashing three texts.
        self.all
            .iter()
            .find(|r| r.info.plural == plural && r.info.group == group && r.info.version == version)
    }

    /// Does a path lead below a version of a group that is served (`/apis/apps/v1/…`)?
    pub(crate) fn is_below_a_version(&self, path: &str) -> bool {
        let rest = path.strip_prefix("/apis/").or_else(|| path.strip_prefix("/api/")).unwrap_or_default();
        let mut versions =
            self.all.iter().filter_map(|resource| rest.strip_prefix(resource.api_version.as_str()));
        versions.any(|rest| rest.starts_with('/'))
    }

    /// What a path asks of a pod that only its node could answer (`…/pods/web/log`).
    pub(crate) fn asked_of_a_node(path: &str) -> Option<&str> {
        const ASKED: &[&str] = &["log", "exec", "attach", "portforward"];
        let mut parts = path.strip_prefix("/api/v1/namespaces/")?.split('/').skip(1);
        let what = (parts.next() == Some("pods")).then(|| parts.nth(1))??;
        (ASKED.contains(&what) && parts.next().is_none()).then_some(what)
    }

    /// The kind of the namespaces themselves.
    pub(crate) fn namespaces(&self) -> Option<&Arc<Resource>> {
        self.namespaces.as_ref()
    }

    /// The kind whose objects claim addresses.
    pub(crate) fn address_claims(&self) -> (&Arc<Resource>, &'static dyn AddressClaims) {
        self.all
            .iter()
            .find_map(|resource| Some((resource, resource.kind.address_claims()?)))
            .expect("a kind of the registry claims addresses")
    }

    /// The kind whose objects are ranges of addresses.
    pub(crate) fn address_ranges(&self) -> (&Arc<Resource>, &'static dyn AddressRanges) {
        self.all
            .iter()
            .find_map(|resource| Some((resource, resource.kind.address_ranges()?)))
            .expect("a kind of the registry holds ranges of addresses")
    }

    /// The groups and, for each, its versions, in the registry's order; the core group is named `""`.
    pub(crate) fn groups(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        let mut groups: Vec<(&'static str, Vec<&'static str>)> = Vec::new();
        for resource in &self.all {
            let (group, version) = (resource.info.group, resource.info.version);
            match groups.iter_mut().find(|(name, _)| *name == group) {
                Some((_, versions)) if versions.contains(&version) => {}
                Some((_, versions)) => versions.push(version),
                None => groups.push((group, vec![version])),
            }
        }
        groups
    }

    pub(crate) fn of_version<'a>(
        &'a self,
        group: &'a str,
        version: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.all.iter().filter(move |r| r.info.group == group && r.info.version == version)
    }
}
