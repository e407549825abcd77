//! IPAddresses and Services that do not agree are brought together again. The API server writes both in one transaction,
//! so that only a hand can part them: one that deleted an IPAddress, or made one that says something untrue.
//!
//! Promises: a Service whose IPAddress is gone gets it back; an IPAddress that the server's own label claims, but no
//! Service, goes. Refuses: to touch IPAddresses of others.

mod decide;
mod ledger;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::IPAddress;
use svcd_api::addresses::{Family, Owner};
use svcd_api::{Json, registry};
use svcd_client::Objects;

use self::decide::Step;
pub(crate) use self::decide::is_ours;
use self::ledger::{Ledger, Side};
use crate::Error;
use crate::error::{Doing, unless_gone};
use crate::kit::drive::{Again, drive};
use crate::kit::meta;
use crate::kit::queue::Queue;
use crate::kit::store::{Change, Key};
use crate::kit::world::{Task, World, cluster_ips};

const COMPONENT: &str = "ipallocator-repair-controller";
/// Services and IPAddresses are watched apart: so long may one be ahead of the other.
const SETTLE: Duration = Duration::from_secs(1);

pub(crate) fn start(world: &Arc<World>) -> Task {
    let (ledger, queue) = (Arc::new(Ledger::default()), Queue::new());
    let services = Arc::clone(&ledger);
    world.services.listen(move |change: &Change<'_, Service>| {
        change.old.iter().for_each(|service| services.service(service, Side::Went));
        change.new.iter().for_each(|service| services.service(service, Side::Came));
    });
    let claims = Arc::clone(&ledger);
    world.service_addresses.listen(move |change: &Change<'_, IPAddress>| {
        change.old.iter().for_each(|claim| claims.claim(claim, Side::Went));
        change.new.iter().for_each(|claim| claims.claim(claim, Side::Came));
    });
    let shell = Arc::clone(world);
    let work = async move {
        let (held, waiting) = (Arc::clone(&ledger), Arc::clone(&queue));
        let work = drive("ipaddress", queue, 4, move |address: String| {
            let (world, ledger) = (Arc::clone(&shell), Arc::clone(&ledger));
            async move { reconcile(&world, &ledger, &address).await }
        });
        tokio::join!(held.hand_out(SETTLE, &waiting), work);
    };
    ("ipaddress", world.when_ready(work))
}

/// What an address needs, as far as the caches know.
fn look(world: &World, ledger: &Ledger, address: &str) -> Step {
    let Ok(ip) = address.parse::<IpAddr>() else { return Step::Nothing };
    let claim = world.service_addresses.get(&Key::new("", address));
    let parent = claim.as_ref().and_then(|claim| {
        let parent = &claim.spec.parent_ref;
        world.services.get(&Key::new(parent.namespace.clone().unwrap_or_default(), &parent.name))
    });
    let open = ledger.services_at(ip);
    let mut having: Vec<_> = open.iter().filter_map(|key| world.services.get(key)).collect();
    having.extend(parent.iter().filter(|parent| !open.contains(&Key::of(&parent.metadata))).cloned());
    having.retain(|service| cluster_ips(service).any(|other| other == ip));
    let ranges = world.service_ranges.all();
    let cidrs = ranges.iter().filter_map(|range| range.spec.as_ref()?.cidrs.as_ref()).flatten();
    let ranges: Vec<IpNet> = cidrs.filter_map(|cidr| cidr.parse().ok()).collect();
    let facts = decide::Facts {
        address: ip,
        claim: claim.as_deref(),
        parent: parent.as_deref(),
        having: &having,
        ranges: &ranges,
    };
    decide::step(&facts, meta::now())
}

async fn reconcile(world: &World, ledger: &Ledger, address: &str) -> Result<Again, Error> {
    match look(world, ledger, address) {
        Step::Nothing => Ok(None),
        Step::Wait(time) => Ok(Some(time)),
        Step::Shared(service) => {
            let message = format!(
                "Cluster IP {} was assigned to multiple services; please recreate service",
                named(address)
            );
            tell(world, &service, "ClusterIPAlreadyAllocated", message);
            Ok(None)
        }
        Step::OutOfRange(service) => {
            let message = format!(
                "Cluster IP {} is not within any configured Service CIDR; please recreate service",
                named(address)
            );
            tell(world, &service, "ClusterIPOutOfRange", message);
            Ok(None)
        }
        Step::Claim(service) => {
            let message = format!("Cluster IP {} is not allocated; repairing", named(address));
            tell(world, &service, "ClusterIPNotAllocated", message);
            claim(world, address, &service).await
        }
        Step::Reclaim(service, wrong) => {
            let message = format!("the ClusterIP {} has a wrong reference; repairing", named(address));
            tell(world, &service, "ClusterIPNotAllocated", message);
            remove(world, &wrong).await?;
            claim(world, address, &service).await
        }
        Step::Remove(claim, reason, message) => {
            tracing::warn!(address, reason, message, "an IPAddress is removed");
            world.events.warning(COMPONENT, claim.as_ref(), reason, message);
            remove(world, &claim).await?;
            Ok(None)
        }
    }
}

/// `[IPv4]: 10.96.0.1`
fn named(address: &str) -> String {
    let family = address.parse().map_or("", |ip| Family::of(ip).name());
    format!("[{family}]: {address}")
}

fn tell(world: &World, service: &Service, reason: &'static str, message: String) {
    tracing::warn!(service = %Key::of(&service.metadata), reason, message, "a Service's address");
    world.events.warning(COMPONENT, service, reason, message);
}

/// Writes the claim of a Service, if the server still has that Service at that address.
async fn claim(world: &World, address: &str, service: &Service) -> Result<Again, Error> {
    let key = Key::of(&service.metadata);
    let services = world.namespaced::<Service>(&key.namespace);
    let now = services.get_opt(&key.name).await.doing(|| format!("look at Service {key}"))?;
    let stands = now.is_some_and(|now| {
        now.metadata.uid == service.metadata.uid && cluster_ips(&now).any(|ip| ip.to_string() == address)
    });
    if !stands {
        return Ok(None);
    }
    let Some(wanted) = object(address, &key) else { return Ok(None) };
    let api: Objects<IPAddress> = Objects::all(world.client.clone());
    match api.create(&wanted).await.doing(|| format!("create IPAddress {address}")) {
        Ok(created) => world.service_addresses.wrote(created),
        // Somebody else was faster; the watch brings it, and us back here if it is wrong.
        Err(error) if error.is_already_exists() => {}
        Err(error) => return Err(error),
    }
    Ok(None)
}

/// The claim as the API server would have written it.
fn object(address: &str, service: &Key) -> Option<IPAddress> {
    let claims = registry().all().find_map(|kind| kind.address_claims())?;
    let owner = Owner { group: "", resource: "services", namespace: &service.namespace, name: &service.name };
    IPAddress::from_json(&claims.claim(address.parse().ok()?, owner)).ok()
}

async fn remove(world: &World, claim: &IPAddress) -> Result<(), Error> {
    let key = Key::of(&claim.metadata);
    let api: Objects<IPAddress> = Objects::all(world.client.clone());
    let deleted = api.delete(&key.name, &meta::only_this(&claim.metadata)).await;
    unless_gone(deleted.map(|_| ()).doing(|| format!("delete IPAddress {key}")))?;
    world.service_addresses.bury(&key, meta::uid(&claim.metadata));
    Ok(())
}
