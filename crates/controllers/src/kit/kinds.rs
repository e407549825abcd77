//! Which kinds the server has, found out through discovery.

use kube::core::ApiResource;
use kube::discovery::{Discovery, Scope, verbs};

use crate::Error;
use crate::error::Doing;

/// A kind whose objects can be listed, watched and deleted.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) resource: ApiResource,
    pub(crate) namespaced: bool,
    pub(crate) verbs: Vec<String>,
}

/// All kinds that hold objects, each in its preferred version.
pub(crate) async fn discover(client: &kube::Client) -> Result<Vec<Kind>, Error> {
    let found =
        Discovery::new(client.clone()).run_aggregated().await.doing(|| "discover kinds".to_owned())?;
    let all = found.groups().flat_map(|group| group.recommended_resources());
    let kinds = all.map(|(resource, capabilities)| Kind {
        resource,
        namespaced: capabilities.scope == Scope::Namespaced,
        verbs: capabilities.operations,
    });
    let has = |kind: &Kind, verb: &str| kind.verbs.iter().any(|v| v == verb);
    Ok(kinds.filter(|k| [verbs::LIST, verbs::WATCH, verbs::DELETE].iter().all(|verb| has(k, verb))).collect())
}
