//! From method, path and query to what is wanted, as a type: nothing after this looks at a path again.

use std::sync::Arc;

use http::Method;
use svcd_api::kind::Subresource;

use crate::query::Query;
use crate::resources::{Resource, Resources};

/// What a path names.
pub(crate) enum Route {
    /// `/`: the list of paths.
    Index,
    /// `/version`.
    Version,
    /// `/healthz`, `/livez`, `/readyz` and their single checks.
    Health {
        /// `healthz`, `livez` or `readyz`.
        endpoint: &'static str,
        /// The single check asked for.
        check: Option<String>,
    },
    /// `/metrics`.
    Metrics,
    /// `/api`: the versions of the core group.
    CoreVersions,
    /// `/apis`: all other groups.
    Groups,
    /// `/apis/GROUP`.
    Group(String),
    /// `/api/v1`, `/apis/GROUP/VERSION`.
    GroupVersion {
        /// Empty for the core group.
        group: String,
        /// The version.
        version: String,
    },
    /// `/openapi/v3`: where the documents are.
    OpenApiIndex,
    /// `/openapi/v3/api/v1`: one document; the rest of the path.
    OpenApi(String),
    /// `/openapi/v2`.
    OpenApiV2,
    /// `/.well-known/openid-configuration`.
    OpenIdConfiguration,
    /// `/openid/v1/jwks`.
    KeySet,
    /// `/svcd.io/v1/join`.
    Join,
    /// `/svcd.io/v1/cluster`.
    Cluster,
    /// `/svcd.io/v1/snapshot`.
    Snapshot,
    /// Objects.
    Object(Target),
    /// Nothing of ours.
    Unknown,
}

/// The objects a path names.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) resource: Arc<Resource>,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<Subresource>,
    /// The path begins with `watch/`, as old clients write it: nothing but a watch can be had there.
    pub(crate) watch_only: bool,
    /// The one name that the field selector of a list or a watch asks for: rights by name hold for it too.
    pub(crate) selected: Option<String>,
}

impl Target {
    /// The namespace, empty where there is none.
    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("")
    }

    /// The name, empty for collections.
    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("")
    }

    /// The name that rights are held against: the object's, or the only one that a list or a watch selects.
    pub(crate) fn concerned_name(&self) -> &str {
        self.name.as_deref().or(self.selected.as_deref()).unwrap_or("")
    }

    fn watched(mut self) -> Option<Self> {
        self.watch_only = true;
        self.subresource.is_none().then_some(self)
    }
}

/// What is to be done with the objects; the names are those of RBAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    pub(crate) fn mutates(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch)
    }

    /// The verb of a request on a target; `None` when the target does not have the method.
    pub(crate) fn of(method: &Method, target: &Target, query: &Query) -> Option<Self> {
        let named = target.name.is_some();
        // One object is read, not watched, whatever the query says: a watch of one is a field selector.
        let watches = query.flag("watch").unwrap_or(false) && !named;
        // Objects in a namespace are created and bulk-deleted in one namespace, never across all.
        let placed = target.namespace.is_some() || !target.resource.info.namespaced;
        let is_virtual = target.resource.kind.is_virtual();
        match (target.subresource, method) {
            (None, &Method::POST) if is_virtual && !named && placed => Some(Self::Create),
            _ if is_virtual => None,
            (_, &Method::GET | &Method::HEAD) if target.watch_only => Some(Self::Watch),
            _ if target.watch_only => None,
            (Some(Subresource::Binding | Subresource::Eviction | Subresource::Token), &Method::POST) => {
                Some(Self::Create)
            }
            (Some(Subresource::Binding | Subresource::Eviction | Subresource::Token), _) => None,
            (Some(Subresource::Finalize), &Method::PUT) => Some(Self::Update),
            (Some(Subresource::Finalize), _) => None,
            (_, &Method::GET | &Method::HEAD) if watches => Some(Self::Watch),
            (_, &Method::GET | &Method::HEAD) if named => Some(Self::Get),
            (_, &Method::GET | &Method::HEAD) => Some(Self::List),
            (None, &Method::POST) if !named && placed => Some(Self::Create),
            (_, &Method::PUT) if named => Some(Self::Update),
            (_, &Method::PATCH) if named => Some(Self::Patch),
            (None, &Method::DELETE) if named => Some(Self::Delete),
            (None, &Method::DELETE) if placed => Some(Self::DeleteCollection),
            _ => None,
        }
    }
}

/// Finds out what a path names.
pub(crate) fn parse(path: &str, resources: &Resources) -> Route {
    let Some(segments) = segments(path) else { return Route::Unknown };
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    match parts.as_slice() {
        [] => Route::Index,
        ["version"] => Route::Version,
        ["metrics"] => Route::Metrics,
        ["healthz", rest @ ..] => health("healthz", rest),
        ["livez", rest @ ..] => health("livez", rest),
        ["readyz", rest @ ..] => health("readyz", rest),
        ["api"] => Route::CoreVersions,
        ["apis"] => Route::Groups,
        ["apis", group] => Route::Group((*group).to_owned()),
        ["api", version] => Route::GroupVersion { group: String::new(), version: (*version).to_owned() },
        ["apis", group, version] => {
            Route::GroupVersion { group: (*group).to_owned(), version: (*version).to_owned() }
        }
        ["openapi", "v3"] => Route::OpenApiIndex,
        ["openapi", "v3", rest @ ..] => Route::OpenApi(rest.join("/")),
        ["openapi", "v2"] => Route::OpenApiV2,
        [".well-known", "openid-configuration"] => Route::OpenIdConfiguration,
        ["openid", "v1", "jwks"] => Route::KeySet,
        ["svcd.io", "v1", "join"] => Route::Join,
        ["svcd.io", "v1", "cluster"] => Route::Cluster,
        ["svcd.io", "v1", "snapshot"] => Route::Snapshot,
        ["api", version, "watch", rest @ ..] => watched("", version, rest, resources),
        ["apis", group, version, "watch", rest @ ..] => watched(group, version, rest, resources),
        ["api", version, rest @ ..] => objects("", version, rest, resources),
        ["apis", group, version, rest @ ..] => objects(group, version, rest, resources),
        _ => Route::Unknown,
    }
}

fn health(endpoint: &'static str, rest: &[&str]) -> Route {
    match rest {
        [] => Route::Health { endpoint, check: None },
        [check] => Route::Health { endpoint, check: Some((*check).to_owned()) },
        _ => Route::Unknown,
    }
}

/// The decoded segments of a path; a trailing slash changes nothing. `None` for what is not UTF-8 or hides a slash.
fn segments(path: &str) -> Option<Vec<String>> {
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Some(Vec::new());
    }
    path.split('/')
        .map(|raw| {
            let segment = percent_encoding::percent_decode_str(raw).decode_utf8().ok()?.into_owned();
            let fits =
                !segment.is_empty() && segment != "." && segment != ".." && !segment.contains(['/', '\0']);
            fits.then_some(segment)
        })
        .collect()
}

fn objects(group: &str, version: &str, rest: &[&str], resources: &Resources) -> Route {
    let found = match rest {
        // `/namespaces/x/services…` is about services, `/namespaces/x/status` about the namespace.
        ["namespaces", namespace, plural, rest @ ..] => resources
            .find(group, version, plural)
            .filter(|r| r.info.namespaced)
            .and_then(|r| target(r, Some((*namespace).to_owned()), rest))
            .or_else(|| {
                cluster_wide(group, version, rest_of(rest, plural), "namespaces", namespace, resources)
            }),
        [plural, rest @ ..] => resources.find(group, version, plural).and_then(|r| {
            // Without a namespace, objects that live in one can only be listed and watched.
            let across_all = r.info.namespaced && !rest.is_empty();
            if across_all { None } else { target(r, None, rest) }
        }),
        [] => None,
    };
    found.map_or(Route::Unknown, Route::Object)
}

/// `/api/v1/watch/…`: deprecated since before 1.11, and served all the same.
fn watched(group: &str, version: &str, rest: &[&str], resources: &Resources) -> Route {
    match objects(group, version, rest, resources) {
        Route::Object(target) => target.watched().map_or(Route::Unknown, Route::Object),
        _ => Route::Unknown,
    }
}

/// The slice that begins with `first` again.
fn rest_of<'a>(rest: &'a [&'a str], first: &'a str) -> Vec<&'a str> {
    std::iter::once(first).chain(rest.iter().copied()).collect()
}

fn cluster_wide(
    group: &str,
    version: &str,
    rest: Vec<&str>,
    plural: &str,
    name: &str,
    resources: &Resources,
) -> Option<Target> {
    let resource = resources.find(group, version, plural)?;
    let with_name: Vec<&str> = std::iter::once(name).chain(rest).collect();
    target(resource, None, &with_name)
}

fn target(resource: &Arc<Resource>, namespace: Option<String>, rest: &[&str]) -> Option<Target> {
    let (name, subresource) = match rest {
        [] => (None, None),
        [name] => (Some((*name).to_owned()), None),
        [name, sub] => (Some((*name).to_owned()), Some(subresource(resource, sub)?)),
        _ => return None,
    };
    let resource = Arc::clone(resource);
    Some(Target { resource, namespace, name, subresource, watch_only: false, selected: None })
}

fn subresource(resource: &Resource, name: &str) -> Option<Subresource> {
    resource.info.subresources.iter().copied().find(|s| subresource_name(*s) == name)
}

/// How a subresource is called in paths.
pub(crate) fn subresource_name(subresource: Subresource) -> &'static str {
    match subresource {
        Subresource::Status => "status",
        Subresource::Scale => "scale",
        Subresource::Binding => "binding",
        Subresource::Eviction => "eviction",
        Subresource::Finalize => "finalize",
        Subresource::Token => "token",
        Subresource::Approval => "approval",
    }
}
