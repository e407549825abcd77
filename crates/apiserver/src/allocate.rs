//! Claims: service addresses and node ports, of which the cluster has one each. A claim is a key of its own whose value
//! names its owner; it is written in the transaction that writes the object, expecting the key to be absent, and removed
//! in the transaction that gives it up. So nothing is granted twice and nothing leaks, whatever crashes in between.
//!
//! A free one is found by looking at random places; the lower band of a range is left to those who ask for a number,
//! as upstream does, until the upper band is full.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use bytes::Bytes;
use ipnet::IpNet;
use rand::RngExt as _;
use serde_json::{Value, json};
use svcd_api::field::FieldError;
use svcd_api::kind::{Claim, Grant};
use svcd_store::{Expect, ListRequest, Op, Txn};

use crate::errors::Failure;
use crate::metadata;
use crate::resources::Resource;
use crate::server::ApiServer;

const ADDRESSES: &str = "/claims/service-ip/";
const PORTS: &str = "/claims/node-port/";
/// How many random places are looked at before all claims are read.
const PROBES: usize = 16;

/// Is this the key of a claim?
pub(crate) fn is_claim(key: &str) -> bool {
    key.starts_with("/claims/")
}

fn address_key(address: IpAddr) -> String {
    format!("{ADDRESSES}{address}")
}

fn port_key(protocol: &str, port: u16) -> String {
    format!("{PORTS}{protocol}/{port}")
}

/// The key of a claim that says what it wants.
fn exact_key(claim: &Claim) -> Option<String> {
    match claim {
        Claim::ServiceIp { exact, .. } => exact.map(address_key),
        Claim::NodePort { exact, protocol, .. } => exact.map(|port| port_key(protocol, port)),
    }
}

/// The keys that a stored object holds.
fn held(resource: &Resource, object: &Value) -> HashSet<String> {
    resource.kind.claims(object, None).iter().filter_map(exact_key).collect()
}

/// Adds to a transaction the release of everything that an object holds.
pub(crate) fn release_all(resource: &Resource, object: &Value, txn: &mut Txn) {
    txn.ops.extend(held(resource, object).into_iter().map(|key| Op::Delete { key, last: None }));
}

/// One write's claims while they are being settled.
struct Settling<'a> {
    server: &'a ApiServer,
    invalid: &'a (dyn Fn(FieldError) -> Failure + Sync),
    held: HashSet<String>,
    kept: HashSet<String>,
    acquired: Vec<String>,
    /// Numbers of the groups of ports that share one.
    groups: HashMap<usize, u16>,
    addresses_seen: usize,
}

impl ApiServer {
    /// Settles what an object wants exclusively: writes the grants into it, and adds the claims that it gains and gives
    /// up to the transaction.
    pub(crate) async fn settle_claims(
        &self,
        resource: &Resource,
        new: &mut Value,
        old: Option<&Value>,
        txn: &mut Txn,
    ) -> Result<(), Failure> {
        let claims = resource.kind.claims(new, old);
        let held = old.map(|old| held(resource, old)).unwrap_or_default();
        if claims.is_empty() && held.is_empty() {
            return Ok(());
        }
        let info = resource.info;
        let name = metadata::text(new, "name").to_owned();
        let invalid = |error: FieldError| Failure::invalid(info.group, info.kind, &name, &[error]);
        let mut settling = Settling {
            server: self,
            invalid: &invalid,
            held,
            kept: HashSet::new(),
            acquired: Vec::new(),
            groups: HashMap::new(),
            addresses_seen: 0,
        };
        let mut grants = Vec::with_capacity(claims.len());
        for claim in &claims {
            grants.push(settling.grant(claim).await?);
        }
        resource.kind.grant(new, &grants);
        settling.write(resource, new, txn);
        Ok(())
    }
}

impl Settling<'_> {
    async fn grant(&mut self, claim: &Claim) -> Result<Grant, Failure> {
        match claim {
            Claim::ServiceIp { exact, field } => {
                let nth = self.addresses_seen;
                self.addresses_seen += 1;
                let address = match exact {
                    Some(address) => self.exact_address(*address, field).await?,
                    None => self.any_address(nth).await?,
                };
                Ok(Grant::ServiceIp(address))
            }
            Claim::NodePort { exact, protocol, field, group } => {
                let shared = self.groups.get(group).copied();
                let port = match exact.or(shared) {
                    Some(port) => self.exact_port(port, protocol, field).await?,
                    None => self.any_port(protocol).await?,
                };
                self.groups.insert(*group, port);
                Ok(Grant::NodePort(port))
            }
        }
    }

    /// Takes a key, when it is the object's already or nobody's.
    async fn take(&mut self, key: String) -> Result<bool, Failure> {
        if self.held.contains(&key) {
            return Ok(self.kept.insert(key));
        }
        if self.acquired.contains(&key) || self.server.store.get(&key).await?.is_some() {
            return Ok(false);
        }
        self.acquired.push(key);
        Ok(true)
    }

    async fn exact_address(&mut self, address: IpAddr, field: &str) -> Result<IpAddr, Failure> {
        let key = address_key(address);
        let why = if self.held.contains(&key) {
            self.kept.insert(key);
            return Ok(address);
        } else if !self.server.config.service_cidrs.iter().any(|range| usable(range).contains(&address)) {
            // Upstream's words, and the range, which upstream leaves to be guessed.
            let ranges: Vec<String> =
                self.server.config.service_cidrs.iter().map(ToString::to_string).collect();
            format!("the provided network does not match the current range {}", ranges.join(","))
        } else if self.take(key).await? {
            return Ok(address);
        } else {
            "provided IP is already allocated".to_owned()
        };
        // Upstream speaks of the list, not of its element.
        let list = field.split('[').next().unwrap_or(field);
        let shown = json!([address.to_string()]);
        Err((self.invalid)(FieldError::invalid(
            list,
            &shown,
            format!("failed to allocate IP {address}: {why}"),
        )))
    }

    async fn any_address(&mut self, nth: usize) -> Result<IpAddr, Failure> {
        let range = self.server.config.service_cidrs.get(nth).copied();
        let full = || Failure::internal("failed to allocate a serviceIP: range is full");
        let range = usable(&range.ok_or_else(full)?);
        let taken = |key: String| {
            key.strip_prefix(ADDRESSES).and_then(|ip| ip.parse().ok()).map(|ip| range.offset(ip))
        };
        for band in bands(range.size(), 16, 256) {
            if let Some(offset) = self.probe(ADDRESSES, &band, &|n| address_key(range.at(n)), &taken).await? {
                return Ok(range.at(offset));
            }
        }
        Err(full())
    }

    async fn exact_port(&mut self, port: u16, protocol: &str, field: &str) -> Result<u16, Failure> {
        let key = port_key(protocol, port);
        let range = &self.server.config.node_port_range;
        let why = if self.held.contains(&key) {
            self.kept.insert(key);
            return Ok(port);
        } else if !range.contains(&port) {
            format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                range.start(),
                range.end()
            )
        } else if self.take(key).await? {
            return Ok(port);
        } else {
            "provided port is already allocated".to_owned()
        };
        Err((self.invalid)(FieldError::invalid(field, port, why)))
    }

    async fn any_port(&mut self, protocol: &str) -> Result<u16, Failure> {
        let range = self.server.config.node_port_range.clone();
        let first = u128::from(*range.start());
        let last = *range.end();
        let port = |offset: u128| u16::try_from(first + offset).unwrap_or(last);
        let prefix = format!("{PORTS}{protocol}/");
        let taken = |key: String| {
            key.strip_prefix(&prefix)
                .and_then(|p| p.parse::<u16>().ok())
                .and_then(|p| u128::from(p).checked_sub(first))
        };
        for band in bands(u128::try_from(range.len()).unwrap_or(0), 32, 128) {
            if let Some(offset) = self.probe(&prefix, &band, &|n| port_key(protocol, port(n)), &taken).await?
            {
                return Ok(port(offset));
            }
        }
        Err(Failure::internal("failed to allocate a nodePort: range is full"))
    }

    /// Takes a free place of a band: random ones first, then one of those that a look at all claims shows to be free.
    async fn probe(
        &mut self,
        prefix: &str,
        band: &RangeInclusive<u128>,
        key: &(dyn Fn(u128) -> String + Sync),
        taken: &(dyn Fn(String) -> Option<u128> + Sync),
    ) -> Result<Option<u128>, Failure> {
        if band.is_empty() {
            return Ok(None);
        }
        for _ in 0..PROBES {
            let offset = rand::rng().random_range(band.clone());
            if self.take_new(key(offset)).await? {
                return Ok(Some(offset));
            }
        }
        let request = ListRequest { prefix: prefix.to_owned(), ..ListRequest::default() };
        let claims = self.server.store.list(request).await?.records;
        let taken: HashSet<u128> = claims.iter().filter_map(|r| taken(r.key.to_string())).collect();
        // From a random place on, around the band, so that those who look at the same time find different ones.
        let start = rand::rng().random_range(band.clone());
        let around = (start..=*band.end()).chain(*band.start()..start);
        for offset in around.filter(|offset| !taken.contains(offset)) {
            if self.take_new(key(offset)).await? {
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }

    /// Takes a key that the object does not have already.
    async fn take_new(&mut self, key: String) -> Result<bool, Failure> {
        if self.held.contains(&key) { Ok(false) } else { self.take(key).await }
    }

    fn write(self, resource: &Resource, object: &Value, txn: &mut Txn) {
        let owner = json!({
            "group": resource.info.group, "resource": resource.info.plural,
            "namespace": metadata::text(object, "namespace"), "name": metadata::text(object, "name"),
            "uid": metadata::text(object, "uid"),
        });
        for key in self.acquired {
            txn.expect.push((key.clone(), Expect::Absent));
            let value = svcd_store::Value::plain(owner.to_string());
            txn.ops.push(Op::Put { key, value, meta: Bytes::new() });
        }
        let released = self.held.into_iter().filter(|key| !self.kept.contains(key));
        txn.ops.extend(released.map(|key| Op::Delete { key, last: None }));
    }
}

/// The addresses of a range that can be given out: not the network's own, and not an IPv4 range's last.
struct Usable {
    first: u128,
    last: u128,
    v4: bool,
}

fn usable(range: &IpNet) -> Usable {
    match range {
        IpNet::V4(net) => Usable {
            first: u128::from(u32::from(net.network())) + 1,
            last: u128::from(u32::from(net.broadcast())).saturating_sub(1),
            v4: true,
        },
        IpNet::V6(net) => Usable {
            first: u128::from(net.network()).saturating_add(1),
            last: u128::from(net.broadcast()),
            v4: false,
        },
    }
}

impl Usable {
    fn size(&self) -> u128 {
        (self.last + 1).saturating_sub(self.first)
    }

    fn contains(&self, address: &IpAddr) -> bool {
        address.is_ipv4() == self.v4 && (self.first..=self.last).contains(&number(*address))
    }

    fn at(&self, offset: u128) -> IpAddr {
        let number = self.first + offset;
        if self.v4 {
            let number = u32::try_from(number).expect("an offset within an IPv4 range gives an IPv4 address");
            IpAddr::V4(number.into())
        } else {
            IpAddr::V6(number.into())
        }
    }

    fn offset(&self, address: IpAddr) -> u128 {
        number(address).saturating_sub(self.first)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

/// The upper and the lower band of a range, as offsets. The lower one has `size / divisor` places, at least 16 and at
/// most `largest`; upstream's proportions.
fn bands(size: u128, divisor: u128, largest: u128) -> [RangeInclusive<u128>; 2] {
    // Upstream leaves a range alone that is hardly larger than the band would be.
    let lower = if size <= 16 { 0 } else { (size / divisor).clamp(16, largest) };
    let empty = RangeInclusive::new(1, 0);
    let upper = if size > lower { lower..=size - 1 } else { empty.clone() };
    [upper, if lower == 0 { empty } else { 0..=lower - 1 }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_and_broadcast_addresses_are_not_given_out() {
        let range = usable(&"10.96.0.0/24".parse().unwrap());
        assert_eq!(range.size(), 254);
        for (address, inside) in
            [("10.96.0.0", false), ("10.96.0.1", true), ("10.96.0.254", true), ("10.96.0.255", false)]
        {
            assert_eq!(range.contains(&address.parse().unwrap()), inside, "{address}");
        }
        assert_eq!(range.at(0).to_string(), "10.96.0.1");
        assert_eq!(range.offset("10.96.0.10".parse().unwrap()), 9);
        assert!(!range.contains(&"fd00::1".parse().unwrap()));
    }

    #[test]
    fn the_lower_band_has_upstreams_size() {
        assert_eq!(bands(254, 16, 256), [16..=253, 0..=15]);
        assert_eq!(bands(1_048_574, 16, 256)[1], 0..=255);
        assert_eq!(bands(2768, 32, 128)[1], 0..=85);
        assert!(bands(8, 16, 256)[1].is_empty());
    }
}
