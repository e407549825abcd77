//! The addresses of Services, as far as several kinds and the server speak of them: the two families, what a cluster is
//! set up for, and the kinds whose objects stand for addresses and for ranges of them.
//!
//! The server finds those kinds by what they are ([`AddressClaims`], [`AddressRanges`]), not by name: a granted address
//! *is* an object of the one, and may be taken from the open ranges of the other.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The family that is called so in objects.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "IPv4" => Some(Self::V4),
            "IPv6" => Some(Self::V6),
            _ => None,
        }
    }

    /// What it is called in objects.
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The `n`th address of a range after the network's own, if Services can have it: 1 is the API's, 10 the DNS's.
pub fn nth(range: &IpNet, n: u8) -> Option<IpAddr> {
    let address = match range.network() {
        IpAddr::V4(v4) => IpAddr::V4(u32::from(v4).checked_add(n.into())?.into()),
        IpAddr::V6(v6) => IpAddr::V6(u128::from(v6).checked_add(n.into())?.into()),
    };
    holds(range, address).then_some(address)
}

/// Can Services have this address out of this range? The network's own is not given out, nor an IPv4 range's last.
pub fn holds(range: &IpNet, address: IpAddr) -> bool {
    let is_last = address.is_ipv4() && address == range.broadcast();
    range.contains(&address) && address != range.network() && !is_last
}

/// What kinds must know of the cluster that their objects come into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    families: Vec<Family>,
}

impl Cluster {
    /// A cluster with these ranges of service addresses; the family of the first is the usual one.
    pub fn new(service_ranges: &[IpNet]) -> Self {
        let mut families = Vec::with_capacity(2);
        for family in service_ranges.iter().map(|range| Family::of(range.addr())) {
            if !families.contains(&family) {
                families.push(family);
            }
        }
        Self { families }
    }

    /// The families that Services can have addresses of, the usual one first.
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// Can Services have addresses of both families?
    pub fn is_dual(&self) -> bool {
        self.families.len() == 2
    }
}

/// The object that holds a claim: of an address, or of a node port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner<'a> {
    /// Its group, empty for the core group.
    pub group: &'a str,
    /// Its kind's plural: `services`.
    pub resource: &'a str,
    /// Its namespace, empty for kinds without.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// The label that says which family an IPAddress is of.
pub const FAMILY_LABEL: &str = "ipaddress.kubernetes.io/ip-family";
/// The label that says who keeps an IPAddress.
pub const MANAGED_BY_LABEL: &str = "ipaddress.kubernetes.io/managed-by";
/// What [`MANAGED_BY_LABEL`] says of those that come with Services.
pub const MANAGED_BY_SERVER: &str = "ipallocator.k8s.io";

/// A kind whose objects are claims: each stands for the address that is its name, and while it exists nobody else can
/// have that address.
pub trait AddressClaims: Send + Sync {
    /// The object that claims `address` for `owner`, without what the server adds to every object.
    fn claim(&self, address: IpAddr, owner: Owner<'_>) -> Value;

    /// Who has claimed the address that an object stands for.
    fn owner<'a>(&self, object: &'a Value) -> Option<Owner<'a>>;
}

/// A kind whose objects are ranges from which addresses are taken.
pub trait AddressRanges: Send + Sync {
    /// The name of the range that the cluster was set up with; it is the first that addresses are taken from.
    fn usual_name(&self) -> &'static str;

    /// The object of that name.
    fn usual(&self, ranges: &[IpNet]) -> Value;

    /// The ranges of an object that addresses may be taken from now.
    fn open(&self, object: &Value) -> Vec<IpNet>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_addresses_of_a_range() {
        for (range, n, want) in [
            ("10.96.0.0/12", 1, Some("10.96.0.1")),
            ("10.96.0.0/12", 10, Some("10.96.0.10")),
            ("10.96.0.0/29", 10, None),
            ("10.96.0.0/30", 3, None),
            ("fd00::/108", 1, Some("fd00::1")),
            ("fd00::/127", 1, Some("fd00::1")),
            ("fd00::/128", 1, None),
            ("255.255.255.255/32", 1, None),
        ] {
            let want = want.map(|address: &str| address.parse::<IpAddr>().unwrap());
            assert_eq!(nth(&range.parse().unwrap(), n), want, "{range} {n}");
        }
    }

    #[test]
    fn the_first_range_decides_the_usual_family() {
        let cluster = |ranges: &[&str]| {
            Cluster::new(&ranges.iter().map(|range| range.parse().unwrap()).collect::<Vec<_>>())
        };
        assert_eq!(cluster(&["fd00::/108", "10.96.0.0/12"]).families(), [Family::V6, Family::V4]);
        assert!(cluster(&["10.96.0.0/12", "fd00::/108"]).is_dual() && !cluster(&["10.96.0.0/12"]).is_dual());
    }
}
