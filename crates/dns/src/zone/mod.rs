//! The cluster zone: an index of Services, fed with what changed, and a pure lookup over it.
//!
//! Promises: a lookup costs the same whatever the number of Services; a change costs what the Services it names hold; no
//! name is denied before everything that exists has been told (SERVFAIL until then). Refuses sockets, clocks and locks:
//! `Prepared` is made outside of the caller's lock, installing it is a handful of map operations.

mod answer;
mod index;
mod lookup;
mod records;
#[cfg(test)]
pub(crate) mod table;

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use svcd_svcmap::Update;

pub use answer::{Answer, Data, FullName, Owner, Question, Rcode, Record, rtype};
pub(crate) use answer::{SOA_MAILBOX, SOA_SERVER, SOA_TIMES};
pub use index::Prepared;

use crate::error::Error;
use crate::name::{Name, label_wire};
use index::Index;

/// The longest cluster domain in wire form that leaves room for the longest host, service and namespace labels.
pub(crate) const MAX_ZONE_LENGTH: usize = 255 - 3 * 64 - 4;

/// What the zone is called and what else it answers for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The zone's name, such as `cluster.local`.
    pub domain: String,
    /// The time to live of its records, in seconds.
    pub ttl: u32,
    /// The addresses of the DNS Service: the zone's name server.
    pub name_servers: Vec<IpAddr>,
    /// The networks whose addresses only this zone knows: a reverse name in them is never asked elsewhere.
    pub networks: Vec<IpNet>,
    /// Where the SOA's serial starts.
    pub serial: u32,
}

/// The zone's content.
#[derive(Debug)]
pub struct Zone {
    origin: Name,
    /// `svc` and the origin in wire form.
    services_origin: Box<[u8]>,
    ttl: u32,
    name_servers: Vec<IpAddr>,
    networks: Vec<IpNet>,
    serial: u32,
    index: Index,
    synced: bool,
    namespaces: HashSet<Box<[u8]>>,
    namespaces_synced: bool,
}

impl Zone {
    /// An empty zone that knows nothing yet, and says so.
    ///
    /// # Errors
    /// When the domain is not a name, or too long.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let Settings { domain, ttl, name_servers, networks, serial } = settings;
        let origin = Name::parse(&domain).filter(is_usable).ok_or(Error::ClusterDomain(domain))?;
        let services_origin = [b"\x03svc", origin.as_wire()].concat().into_boxed_slice();
        Ok(Self {
            origin,
            services_origin,
            ttl,
            name_servers,
            networks,
            serial,
            index: Index::default(),
            synced: false,
            namespaces: HashSet::new(),
            namespaces_synced: false,
        })
    }

    /// The zone's name.
    #[must_use]
    pub fn origin(&self) -> &Name {
        &self.origin
    }

    /// Whether everything that exists has been told once.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// How many Services are known.
    #[must_use]
    pub fn service_count(&self) -> usize {
        self.index.len()
    }

    /// Lays `update` out and installs it.
    pub fn apply(&mut self, update: &Update) {
        self.install(Prepared::new(update));
    }

    /// Takes over what was prepared. What is returned is of no more use, and better dropped outside of a lock.
    pub fn install(&mut self, prepared: Prepared) -> Prepared {
        self.serial = self.serial.wrapping_add(1);
        self.synced |= prepared.is_reset();
        self.index.install(prepared)
    }

    /// Says which namespaces exist; any other does not.
    pub fn reset_namespaces<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        self.namespaces = names.into_iter().filter_map(|name| label_wire(name.as_bytes())).collect();
        self.namespaces_synced = true;
    }

    /// Says that a namespace exists.
    pub fn apply_namespace(&mut self, name: &str) {
        self.namespaces.extend(label_wire(name.as_bytes()));
    }

    /// Says that a namespace is gone.
    pub fn delete_namespace(&mut self, name: &str) {
        if let Some(label) = label_wire(name.as_bytes()) {
            self.namespaces.remove(&label);
        }
    }
}

/// Whether `name` can be a cluster domain.
fn is_usable(name: &Name) -> bool {
    let host_like =
        |label: &[u8]| label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    name.label_count() > 0 && name.as_wire().len() <= MAX_ZONE_LENGTH && name.labels().all(host_like)
}
