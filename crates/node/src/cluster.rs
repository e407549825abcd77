//! What a node must know of its cluster, as the server tells it (`GET /svcd.io/v1/cluster`, and the answer to a join).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The cluster's fixed facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterInfo {
    /// The DNS zone, `cluster.local` by default.
    pub cluster_domain: String,
    /// The virtual address of the cluster's DNS.
    pub dns_address: IpAddr,
    /// Where virtual addresses come from.
    pub service_cidr: Ranges,
    /// Where every node's pod range comes from.
    pub pod_cidr: Ranges,
    /// Which ports a node port may have.
    pub node_port_range: PortRange,
}

/// One range of addresses, or one of each family; written `10.96.0.0/12` or `10.96.0.0/12,fd00::/108`. The first is the
/// usual one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ranges(Vec<IpNet>);

impl Ranges {
    /// The ranges, the usual one first.
    pub fn all(&self) -> &[IpNet] {
        &self.0
    }

    /// The usual one.
    pub fn first(&self) -> IpNet {
        *self.0.first().expect("there is at least one range")
    }

    /// The IPv6 range.
    pub fn v6(&self) -> Option<IpNet> {
        self.0.iter().copied().find(|range| range.addr().is_ipv6())
    }
}

impl From<IpNet> for Ranges {
    fn from(range: IpNet) -> Self {
        Self(vec![range.trunc()])
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&all.join(","))
    }
}

impl From<Ranges> for String {
    fn from(ranges: Ranges) -> Self {
        ranges.to_string()
    }
}

impl FromStr for Ranges {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = |text: &str| {
            let range: Result<IpNet, _> = text.trim().parse();
            range.map(|range| range.trunc()).map_err(|_| format!("{text:?} is not a range like 10.96.0.0/12"))
        };
        let ranges: Vec<IpNet> = text.split(',').map(one).collect::<Result<_, _>>()?;
        match ranges[..] {
            [_] => Ok(Self(ranges)),
            [a, b] if a.addr().is_ipv4() != b.addr().is_ipv4() => Ok(Self(ranges)),
            _ => Err(format!("{text:?} must be one range, or two of which one is IPv4 and one IPv6")),
        }
    }
}

impl TryFrom<String> for Ranges {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A range of ports, both ends included; written `30000-32767`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last one.
    pub last: u16,
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        range.to_string()
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split_once('-')
            .and_then(|(first, last)| Some(Self { first: first.parse().ok()?, last: last.parse().ok()? }))
            .filter(|range| range.first > 0 && range.first <= range.last)
            .ok_or_else(|| format!("{text:?} is not a range of ports like 30000-32767"))
    }
}

impl TryFrom<String> for PortRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges() {
        assert_eq!("30000-32767".parse(), Ok(PortRange { first: 30000, last: 32767 }));
        for bad in ["", "1", "2-1", "0-5", "1-70000", "a-b", "1-2-3"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges() {
        for (text, shown) in [
            ("10.96.0.0/12", "10.96.0.0/12"),
            ("fd00::/108", "fd00::/108"),
            ("10.96.0.1/12, fd00::/108", "10.96.0.0/12,fd00::/108"),
            ("fd00::/108,10.96.0.0/12", "fd00::/108,10.96.0.0/12"),
        ] {
            assert_eq!(text.parse::<Ranges>().map(|ranges| ranges.to_string()), Ok(shown.to_owned()));
        }
        for bad in [
            "",
            "10.96.0.0",
            "10.96.0.0/12,",
            "10.96.0.0/12,10.97.0.0/16",
            "fd00::/108,10.96.0.0/12,fd01::/108",
        ] {
            assert!(bad.parse::<Ranges>().is_err(), "{bad}");
        }
        assert_eq!("fd00::/108,10.96.0.0/12".parse::<Ranges>().unwrap().v6(), "fd00::/108".parse().ok());
    }

    #[test]
    fn reads_what_the_server_writes() {
        let text = r#"{"clusterDomain":"cluster.local","dnsAddress":"10.96.0.10","serviceCidr":"10.96.0.0/12",
            "podCidr":"10.244.0.0/16","nodePortRange":"30000-32767"}"#;
        let info: ClusterInfo = serde_json::from_str(text).unwrap();
        assert_eq!(info.dns_address, IpAddr::from([10, 96, 0, 10]));
        assert_eq!(serde_json::to_value(&info).unwrap()["nodePortRange"], "30000-32767");
    }
}
