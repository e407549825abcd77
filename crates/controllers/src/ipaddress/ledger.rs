//! The addresses about which Services and IPAddresses do not agree, kept up event by event: a Service's address and the
//! IPAddress that claims it for that Service cancel each other out, whichever is seen first, so that of a cluster in order
//! nothing is left. What stays open for longer than two watches can be apart is handed out to be looked at, once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::IPAddress;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::decide;
use crate::kit::meta;
use crate::kit::queue::Queue;
use crate::kit::store::{Key, index_of};
use crate::kit::world::cluster_ips;

/// On which side something came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Came,
    Went,
}

struct Entry {
    address: IpAddr,
    /// The Service that has the address, or is claimed to have it.
    service: Option<Key>,
    /// Above zero the Service has it and the claim is missing, below zero the other way round.
    balance: i32,
    since: Instant,
    handed_out: bool,
}

/// See the file's documentation.
#[derive(Default)]
pub(super) struct Ledger {
    open: Mutex<HashMap<u64, Entry>>,
    wake: Notify,
}

impl Ledger {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A Service in a state that came, or went.
    pub(super) fn service(&self, service: &Service, side: Side) {
        let key = Key::of(&service.metadata);
        let by = if side == Side::Came { 1 } else { -1 };
        for address in cluster_ips(service) {
            self.add(mark(address, &key), address, Some(&key), by);
        }
    }

    /// The same for an IPAddress.
    pub(super) fn claim(&self, claim: &IPAddress, side: Side) {
        let name = meta::name(&claim.metadata);
        let Ok(address) = name.parse::<IpAddr>() else { return };
        let by = if side == Side::Came { -1 } else { 1 };
        if decide::is_as_written(address, claim) {
            let parent = &claim.spec.parent_ref;
            let key = Key::new(parent.namespace.clone().unwrap_or_default(), &parent.name);
            self.add(mark(address, &key), address, Some(&key), by);
        } else {
            // It answers to no Service, only to itself.
            self.add(index_of(&["odd", name, meta::uid(&claim.metadata)]), address, None, by);
        }
    }

    fn add(&self, mark: u64, address: IpAddr, service: Option<&Key>, by: i32) {
        let mut open = self.open();
        let new = || Entry {
            address,
            service: service.cloned(),
            balance: 0,
            since: Instant::now(),
            handed_out: false,
        };
        let entry = open.entry(mark).or_insert_with(new);
        entry.balance += by;
        if entry.balance == 0 {
            open.remove(&mark);
            // At the start one side is seen as a whole before the other.
            if open.is_empty() {
                open.shrink_to_fit();
            }
        } else {
            self.wake.notify_one();
        }
    }

    /// The Services that have an address without the claim for it.
    pub(super) fn services_at(&self, address: IpAddr) -> Vec<Key> {
        let open = self.open();
        let here = open.values().filter(|entry| entry.address == address && entry.balance > 0);
        let mut found: Vec<Key> = here.filter_map(|entry| entry.service.clone()).collect();
        found.sort();
        found
    }

    /// Hands out what stays open for `settle`, for ever.
    pub(super) async fn hand_out(&self, settle: Duration, queue: &Arc<Queue<String>>) {
        loop {
            if !self.is_young() {
                self.wake.notified().await;
            }
            tokio::time::sleep(settle).await;
            for entry in self.open().values_mut() {
                if !entry.handed_out && entry.since.elapsed() >= settle {
                    entry.handed_out = true;
                    queue.add(entry.address.to_string());
                }
            }
        }
    }

    /// Is there something that was not handed out yet?
    fn is_young(&self) -> bool {
        self.open().values().any(|entry| !entry.handed_out)
    }
}

fn mark(address: IpAddr, service: &Key) -> u64 {
    index_of(&[&address.to_string(), &service.namespace, &service.name])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Side::{Came, Went};
    use super::*;

    const SETTLE: Duration = Duration::from_secs(1);

    fn service(name: &str, ips: &[&str]) -> Service {
        let object =
            json!({ "metadata": { "namespace": "ns", "name": name }, "spec": { "clusterIPs": ips } });
        serde_json::from_value(object).unwrap()
    }

    fn claim(address: &str, parent: &str, managed: bool) -> IPAddress {
        let family = if address.contains(':') { "IPv6" } else { "IPv4" };
        let labels = json!({
            "ipaddress.kubernetes.io/managed-by": if managed { "ipallocator.k8s.io" } else { "me" },
            "ipaddress.kubernetes.io/ip-family": family,
        });
        let object = json!({
            "metadata": { "name": address, "labels": labels },
            "spec": { "parentRef": { "resource": "services", "namespace": "ns", "name": parent } },
        });
        serde_json::from_value(object).unwrap()
    }

    fn open(ledger: &Ledger) -> usize {
        ledger.open().len()
    }

    #[test]
    fn a_service_and_its_claims_cancel_each_other_out_in_any_order() {
        let both = service("web", &["10.96.0.5", "fd00::5"]);
        let claims = [claim("10.96.0.5", "web", true), claim("fd00::5", "web", true)];
        let four = [10, 96, 0, 5].into();
        let ledger = Ledger::default();
        ledger.claim(&claims[0], Came);
        assert_eq!(ledger.services_at(four), []);
        ledger.service(&both, Came);
        assert_eq!(open(&ledger), 1);
        ledger.claim(&claims[1], Came);
        assert_eq!(open(&ledger), 0);
        // The Service changes; then its claims go, and it follows.
        ledger.service(&both, Went);
        ledger.service(&both, Came);
        claims.iter().for_each(|claim| ledger.claim(claim, Went));
        assert_eq!(ledger.services_at(four), [Key::new("ns", "web")]);
        ledger.service(&both, Went);
        assert_eq!(open(&ledger), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_agree_is_handed_out_once_after_a_while() {
        let (ledger, queue) = (Arc::new(Ledger::default()), Queue::new());
        let (held, out) = (Arc::clone(&ledger), Arc::clone(&queue));
        let handing = tokio::spawn(async move { held.hand_out(SETTLE, &out).await });
        ledger.service(&service("web", &["10.96.0.5"]), Came);
        ledger.claim(&claim("10.96.0.5", "other", true), Came);
        ledger.claim(&claim("10.96.0.6", "x", false), Came);
        let soon = tokio::time::timeout(SETTLE / 2, queue.next()).await;
        assert!(soon.is_err(), "{soon:?}");
        let mut seen = vec![queue.next().await, queue.next().await];
        seen.sort();
        assert_eq!(seen, ["10.96.0.5", "10.96.0.6"]);
        seen.iter().for_each(|address| queue.done(address));
        let again = tokio::time::timeout(SETTLE * 20, queue.next()).await;
        assert!(again.is_err(), "{again:?}");
        ledger.service(&service("late", &["10.96.0.7"]), Came);
        assert_eq!(queue.next().await, "10.96.0.7");
        handing.abort();
    }
}
