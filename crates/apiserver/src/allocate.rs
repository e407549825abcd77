//! Claims: service addresses and node ports, of which the cluster has one each. A claim is a key of its own; it is written
//! in the transaction that writes the object, expecting the key to be absent, and removed in the transaction that gives it
//! up. So nothing is granted twice and nothing leaks, whatever crashes in between.
//!
//! An address is taken from a range whose object is expected to stand as it was read: none comes out of a range that is
//! on its way out. A free one is found by looking at random places; the lower band of a range is left to those who ask
//! for a number, as upstream does, until the upper band is full.

mod keys;
mod migrate;
mod open;
mod ranges;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use rand::RngExt as _;
use serde_json::Value;
use svcd_api::addresses::{Family, Owner};
use svcd_api::field::FieldError;
use svcd_api::kind::{Claim, Grant};
use svcd_store::{Expect, ListRequest, Txn};

use self::keys::{Keys, PORTS, Thing};
use self::open::OpenRange;
use self::ranges::port_bands;
use crate::errors::Failure;
use crate::metadata;
use crate::resources::Resource;
use crate::server::ApiServer;

/// How many random places are looked at before all claims are read.
const PROBES: usize = 16;

/// What a claim says it wants.
fn exact(claim: &Claim) -> Option<Thing> {
    match claim {
        Claim::ServiceIp { exact, .. } => exact.map(Thing::Address),
        Claim::NodePort { exact, .. } => exact.map(Thing::Port),
    }
}

/// What a stored object holds.
fn held(resource: &Resource, object: &Value) -> HashSet<Thing> {
    resource.kind.claims(object).iter().filter_map(exact).collect()
}

/// One write's claims while they are being settled.
struct Settling<'a> {
    server: &'a ApiServer,
    keys: Keys<'a>,
    invalid: &'a (dyn Fn(FieldError) -> Failure + Sync),
    /// The addresses that are asked for, as error messages show them.
    asked: Vec<String>,
    held: HashSet<Thing>,
    kept: HashSet<Thing>,
    acquired: Vec<Thing>,
    /// Numbers of the groups of ports that share one.
    groups: HashMap<usize, u16>,
    /// What must stand besides, when addresses were taken from ranges.
    stands: Vec<(String, Expect)>,
    /// Read when first needed.
    ranges: Option<Vec<OpenRange>>,
}

impl ApiServer {
    /// Settles what an object wants exclusively: writes the grants into it, and adds the claims that it gains and gives
    /// up to the transaction.
    pub(crate) async fn settle_claims(
        &self,
        resource: &Resource,
        new: &mut Cow<'_, Value>,
        old: Option<&Value>,
        txn: &mut Txn,
    ) -> Result<(), Failure> {
        let claims = resource.kind.claims(new);
        let held = old.map(|old| held(resource, old)).unwrap_or_default();
        if claims.is_empty() && held.is_empty() {
            return Ok(());
        }
        let info = resource.info;
        let name = metadata::text(new, "name").to_owned();
        let invalid = |error: FieldError| Failure::invalid(info.group, info.kind, &name, &[error]);
        let addresses = claims.iter().filter_map(|claim| match exact(claim)? {
            Thing::Address(address) => Some(address.to_string()),
            Thing::Port(_) => None,
        });
        let mut settling = Settling {
            server: self,
            keys: Keys::of(self),
            invalid: &invalid,
            asked: addresses.collect(),
            held,
            kept: HashSet::new(),
            acquired: Vec::new(),
            groups: HashMap::new(),
            stands: Vec::new(),
            ranges: None,
        };
        let grants = settling.grant_all(&claims).await?;
        resource.kind.grant(new.to_mut(), &grants);
        settling.write(keys::owner(resource, new), txn).await
    }

    /// Adds to a transaction the release of everything that an object holds.
    pub(crate) async fn release_all(
        &self,
        resource: &Resource,
        object: &Value,
        txn: &mut Txn,
    ) -> Result<(), Failure> {
        let held = held(resource, object);
        self.release(held.into_iter(), keys::owner(resource, object), txn).await
    }

    async fn release(
        &self,
        things: impl Iterator<Item = Thing> + Send,
        owner: Owner<'_>,
        txn: &mut Txn,
    ) -> Result<(), Failure> {
        let keys = Keys::of(self);
        for thing in things {
            let Some(claim) = self.store.get(&keys.key(thing)).await? else { continue };
            if let Some(op) = keys.give_up(thing, owner, &claim) {
                txn.expect.push((claim.key.to_string(), Expect::At(claim.modified)));
                txn.ops.push(op);
            }
        }
        Ok(())
    }
}

impl Settling<'_> {
    /// The grants, in the order of the claims. What is asked for by value is taken first: nothing that is only wanted
    /// may get it, and those of its group follow it.
    async fn grant_all(&mut self, claims: &[Claim]) -> Result<Vec<Grant>, Failure> {
        let mut order: Vec<usize> = (0..claims.len()).collect();
        order.sort_by_key(|index| exact(&claims[*index]).is_none());
        let mut grants = Vec::with_capacity(claims.len());
        for index in order {
            grants.push((index, self.grant(&claims[index]).await?));
        }
        grants.sort_by_key(|(index, _)| *index);
        Ok(grants.into_iter().map(|(_, grant)| grant).collect())
    }

    async fn grant(&mut self, claim: &Claim) -> Result<Grant, Failure> {
        match claim {
            Claim::ServiceIp { exact: Some(address), field, .. } => {
                self.exact_address(*address, field).await?;
                Ok(Grant::ServiceIp(*address))
            }
            Claim::ServiceIp { exact: None, family, .. } => {
                Ok(Grant::ServiceIp(self.any_address(*family).await?))
            }
            Claim::NodePort { exact, field, group } => {
                let port = match exact.or(self.groups.get(group).copied()) {
                    Some(port) => self.exact_port(port, field).await?,
                    None => self.any_port().await?,
                };
                self.groups.entry(*group).or_insert(port);
                Ok(Grant::NodePort(port))
            }
        }
    }

    /// Keeps what the object has already. A claim of its that somebody has removed is put back.
    async fn keep(&mut self, thing: Thing) -> Result<bool, Failure> {
        if !self.held.contains(&thing) {
            return Ok(false);
        }
        if self.kept.insert(thing) && self.is_free(thing).await? {
            self.acquired.push(thing);
        }
        Ok(true)
    }

    async fn is_free(&self, thing: Thing) -> Result<bool, Failure> {
        Ok(self.server.store.get(&self.keys.key(thing)).await?.is_none())
    }

    /// Takes what is nobody's.
    async fn take(&mut self, thing: Thing) -> Result<bool, Failure> {
        let is_ours = self.held.contains(&thing) || self.acquired.contains(&thing);
        if is_ours || !self.is_free(thing).await? {
            return Ok(false);
        }
        self.acquired.push(thing);
        Ok(true)
    }

    async fn open_ranges(&mut self) -> Result<&[OpenRange], Failure> {
        if self.ranges.is_none() {
            self.ranges = Some(self.server.open_ranges().await?);
        }
        Ok(self.ranges.as_deref().unwrap_or_default())
    }

    async fn exact_address(&mut self, address: IpAddr, field: &str) -> Result<(), Failure> {
        if self.keep(Thing::Address(address)).await? {
            return Ok(());
        }
        let range = self.open_ranges().await?.iter().find(|range| range.usable.contains(address));
        let stands = range.map(|range| range.stands.clone());
        let why = match stands {
            None => self.out_of_range(address),
            Some(stands) => {
                if self.take(Thing::Address(address)).await? {
                    self.stands.push(stands);
                    return Ok(());
                }
                "provided IP is already allocated".to_owned()
            }
        };
        let detail = format!("failed to allocate IP {address}: {why}");
        Err((self.invalid)(FieldError::invalid(field, &self.asked, detail)))
    }

    /// Upstream's words, and the ranges, which upstream leaves to be guessed.
    fn out_of_range(&self, address: IpAddr) -> String {
        let open = self.ranges.iter().flatten().filter(|range| range.family == Family::of(address));
        let shown: Vec<String> = open.map(|range| range.range.to_string()).collect();
        let words = "the provided network does not match the current range";
        if shown.is_empty() { words.to_owned() } else { format!("{words} {}", shown.join(",")) }
    }

    async fn any_address(&mut self, family: Family) -> Result<IpAddr, Failure> {
        let open = self.open_ranges().await?.iter().filter(|range| range.family == family);
        let open: Vec<_> = open.map(|range| (range.usable, range.stands.clone())).collect();
        let prefix = self.keys.address_prefix();
        for (range, stands) in open {
            let place = |offset| Thing::Address(range.at(offset));
            let taken = |keys: &Keys<'_>, key: &str| keys.address(key).and_then(|ip| range.offset(ip));
            for band in range.bands() {
                if let Some(offset) = self.probe(&prefix, &band, &place, &taken).await? {
                    self.stands.push(stands);
                    return Ok(range.at(offset));
                }
            }
        }
        Err(Failure::internal("failed to allocate a serviceIP: range is full"))
    }

    async fn exact_port(&mut self, port: u16, field: &str) -> Result<u16, Failure> {
        let thing = Thing::Port(port);
        // The same number for two protocols of one object is one claim.
        if self.keep(thing).await? || self.acquired.contains(&thing) {
            return Ok(port);
        }
        let range = &self.server.config.node_port_range;
        let why = if !range.contains(&port) {
            format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                range.start(),
                range.end()
            )
        } else if self.take(thing).await? {
            return Ok(port);
        } else {
            "provided port is already allocated".to_owned()
        };
        Err((self.invalid)(FieldError::invalid(field, port, why)))
    }

    async fn any_port(&mut self) -> Result<u16, Failure> {
        let range = self.server.config.node_port_range.clone();
        let first = u128::from(*range.start());
        let last = *range.end();
        let port = |offset: u128| u16::try_from(first + offset).unwrap_or(last);
        let place = |offset| Thing::Port(port(offset));
        let taken = |_: &Keys<'_>, key: &str| {
            let port = key.strip_prefix(PORTS)?.parse::<u16>().ok()?;
            u128::from(port).checked_sub(first)
        };
        for band in port_bands(u128::try_from(range.len()).unwrap_or(0)) {
            if let Some(offset) = self.probe(PORTS, &band, &place, &taken).await? {
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
        place: &(dyn Fn(u128) -> Thing + Sync),
        taken: &(dyn Fn(&Keys<'_>, &str) -> Option<u128> + Sync),
    ) -> Result<Option<u128>, Failure> {
        if band.is_empty() {
            return Ok(None);
        }
        for _ in 0..PROBES {
            let offset = rand::rng().random_range(band.clone());
            if self.take(place(offset)).await? {
                return Ok(Some(offset));
            }
        }
        let request = ListRequest { prefix: prefix.to_owned(), ..ListRequest::default() };
        let claims = self.server.store.list(request).await?.records;
        let taken: HashSet<u128> = claims.iter().filter_map(|r| taken(&self.keys, &r.key)).collect();
        // From a random place on, around the band, so that those who look at the same time find different ones.
        let start = rand::rng().random_range(band.clone());
        let around = (start..=*band.end()).chain(*band.start()..start);
        for offset in around.filter(|offset| !taken.contains(offset)) {
            if self.take(place(offset)).await? {
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }

    async fn write(self, owner: Owner<'_>, txn: &mut Txn) -> Result<(), Failure> {
        for stands in self.stands {
            if !txn.expect.contains(&stands) {
                txn.expect.push(stands);
            }
        }
        for thing in self.acquired {
            txn.expect.push((self.keys.key(thing), Expect::Absent));
            txn.ops.push(self.keys.put(thing, owner));
        }
        let released = self.held.into_iter().filter(|thing| !self.kept.contains(thing));
        self.server.release(released, owner, txn).await
    }
}
