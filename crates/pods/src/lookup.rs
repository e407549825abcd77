//! What containers' environments may refer to, beyond the pod itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Service;

/// Answers questions about other objects. `Ok(None)`: there is no such object; `Err`: it could not be asked.
#[async_trait]
pub trait Lookup: Send + Sync + 'static {
    /// The data of a ConfigMap.
    async fn config_map(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<BTreeMap<String, String>>, String>;

    /// The data of a Secret, decoded.
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<BTreeMap<String, Vec<u8>>>, String>;

    /// The Services of a namespace, as known now.
    fn services(&self, namespace: &str) -> Vec<Arc<Service>>;
}
