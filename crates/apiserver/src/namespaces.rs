//! The namespaces that every cluster has, and the server's other first objects. The server makes them itself, at its
//! start; a namespace again when it is missing as something is created in it.

use std::sync::Arc;

use futures::future::{try_join_all, try_join3};
use http::StatusCode;
use serde_json::json;

use crate::create::Creation;
use crate::errors::Failure;
use crate::managed::Managing;
use crate::server::ApiServer;

const SYSTEM: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

impl ApiServer {
    /// Makes the system's namespaces, the range of service addresses and the default roles where they do not exist,
    /// brings the claims of older versions into today's form, and begins to keep the index of who may do what. Call it
    /// once before serving; [`ApiServer::serve`] does.
    ///
    /// # Errors
    /// One sentence, when the store cannot be read or written.
    pub async fn bootstrap(self: &Arc<Self>) -> Result<(), String> {
        let namespaces = try_join_all(SYSTEM.iter().map(|name| self.ensure_namespace(name)));
        let addresses = async {
            self.migrate_claims().await?;
            self.ensure_usual_range().await
        };
        let made = try_join3(namespaces, addresses, self.reconcile_defaults()).await;
        made.map_err(|failure| failure.message().to_owned())?;
        self.keep_index().await.map_err(|failure| failure.message().to_owned())
    }

    pub(crate) fn is_system_namespace(name: &str) -> bool {
        SYSTEM.contains(&name)
    }

    pub(crate) async fn ensure_namespace(&self, name: &str) -> Result<(), Failure> {
        let Some(resource) = self.resources.namespaces() else { return Ok(()) };
        if self.store.get(&resource.key("", name)).await?.is_some() {
            return Ok(());
        }
        let object = json!({ "apiVersion": resource.api_version, "kind": resource.info.kind, "metadata": { "name": name } });
        let decoded = resource.kind.decode(object).map_err(Failure::internal)?;
        let managing = Managing::by_server(resource);
        match self.create_named(resource, decoded.object, Creation::by_server(&managing)).await {
            Err(failure) if failure.code() != StatusCode::CONFLICT => Err(failure),
            _ => Ok(()),
        }
    }
}
