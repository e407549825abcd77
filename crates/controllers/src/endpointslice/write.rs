//! Carries out a [`Plan`], and shows the cache what the server answered.

use futures::future::try_join_all;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;

use super::pack::Plan;
use crate::Error;
use crate::error::{Doing, unless_gone};
use crate::kit::meta;
use crate::kit::store::Key;
use crate::kit::world::{SERVICE_NAME, World};

/// New slices first, then changed ones, then those to go, so that no endpoint is missing in between.
pub(crate) async fn execute(world: &World, plan: Plan) -> Result<(), Error> {
    try_join_all(plan.create.iter().map(|slice| create(world, slice))).await?;
    try_join_all(plan.update.iter().map(|slice| update(world, slice))).await?;
    try_join_all(plan.delete.iter().map(|slice| delete(world, slice))).await?;
    Ok(())
}

async fn create(world: &World, slice: &EndpointSlice) -> Result<(), Error> {
    let namespace = meta::namespace(&slice.metadata);
    let prefix = slice.metadata.generate_name.as_deref().unwrap_or_default();
    let api = world.namespaced::<EndpointSlice>(namespace);
    let written = api.create(slice).await;
    match written.doing(|| format!("create EndpointSlice {namespace}/{prefix}*")) {
        Ok(slice) => world.slices.wrote(slice),
        // The Service is going with its namespace; there is nothing left to do for it.
        Err(error) if error.is_namespace_terminating() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

async fn update(world: &World, slice: &EndpointSlice) -> Result<(), Error> {
    let key = Key::of(&slice.metadata);
    let api = world.namespaced::<EndpointSlice>(&key.namespace);
    let written = api.replace(&key.name, slice).await;
    world.slices.wrote(written.doing(|| format!("update EndpointSlice {key}"))?);
    Ok(())
}

async fn delete(world: &World, slice: &EndpointSlice) -> Result<(), Error> {
    let key = Key::of(&slice.metadata);
    let api = world.namespaced::<EndpointSlice>(&key.namespace);
    let deleted = api.delete(&key.name, &meta::only_this(&slice.metadata)).await;
    unless_gone(deleted.map(|_| ()).doing(|| format!("delete EndpointSlice {key}")))?;
    world.slices.bury(&key, meta::uid(&slice.metadata));
    Ok(())
}

/// A Service's slices as the server has them right now.
pub(crate) async fn fresh(world: &World, service: &Key) -> Result<Vec<EndpointSlice>, Error> {
    let api = world.namespaced::<EndpointSlice>(&service.namespace);
    let params = ListParams::default().labels(&format!("{SERVICE_NAME}={}", service.name));
    let list = api.list(&params).await.doing(|| format!("list EndpointSlices of {service}"))?;
    Ok(list.items)
}
