//! One Service, made ready for being asked about: its addresses, host names and ports in the shape of DNS.
//!
//! Made outside of any lock, once for each change of the Service. Headless Services get their hosts laid out in advance;
//! for those with a virtual address hosts are rarely asked for and are worked out then, which saves the memory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use svcd_svcmap::{Endpoint, Entry, Protocol, ServiceKind};

use crate::name::{Name, dashed, label_wire};

/// A Service as DNS sees it.
#[derive(Debug)]
pub(crate) struct Records {
    /// `name.namespace` in wire form, without the root: the index's key.
    pub(crate) key: Box<[u8]>,
    /// What there is to say.
    pub(crate) shape: Shape,
    entry: Arc<Entry>,
}

/// The three kinds of Service that DNS tells apart.
#[derive(Debug)]
pub(crate) enum Shape {
    /// Has addresses of its own.
    Virtual,
    /// Its hosts' addresses are its addresses.
    Headless(Hosts),
    /// An alias; without a target when what was given is no name.
    External(Option<Box<Name>>),
}

/// The ready endpoints of a Service by name.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    /// Every address once, in order.
    pub(crate) addresses: Vec<IpAddr>,
    /// Each host's label in wire form and its addresses.
    pub(crate) by_label: BTreeMap<Box<[u8]>, Vec<IpAddr>>,
}

/// A place where a named port is served.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target<'e> {
    /// The host's label in wire form; empty for the Service's own name.
    pub(crate) host: Cow<'e, [u8]>,
    /// The address behind it.
    pub(crate) address: IpAddr,
    /// The port's number.
    pub(crate) port: u16,
}

impl Records {
    /// Lays out `entry`; none when its name cannot be in DNS.
    pub(crate) fn new(entry: &Arc<Entry>) -> Option<Self> {
        let name = &entry.service.name;
        let key = [label_wire(name.name.as_bytes())?, label_wire(name.namespace.as_bytes())?].concat();
        let shape = match &entry.service.kind {
            ServiceKind::ExternalName(target) => Shape::External(external_target(target)),
            ServiceKind::Headless => Shape::Headless(Hosts::new(entry)),
            ServiceKind::ClusterIp | ServiceKind::NodePort | ServiceKind::LoadBalancer => Shape::Virtual,
        };
        Some(Self { key: key.into_boxed_slice(), shape, entry: Arc::clone(entry) })
    }

    /// The namespace's label in wire form.
    pub(crate) fn namespace(&self) -> &[u8] {
        &self.key[1 + usize::from(self.key[0])..]
    }

    /// The Service's own addresses.
    pub(crate) fn cluster_ips(&self) -> &[IpAddr] {
        &self.entry.service.cluster_ips
    }

    /// The addresses whose PTR leads to this Service or its hosts.
    pub(crate) fn reverse_addresses(&self) -> Vec<IpAddr> {
        match &self.shape {
            Shape::Virtual => {
                let named = ready(&self.entry).filter(|e| e.hostname.is_some()).map(|e| e.address);
                let mut all: Vec<_> = self.cluster_ips().iter().copied().chain(named).collect();
                all.sort_unstable();
                all.dedup();
                all
            }
            Shape::Headless(hosts) => hosts.addresses.clone(),
            Shape::External(_) => Vec::new(),
        }
    }

    /// The labels of the hosts at `address` that its PTR names.
    pub(crate) fn hosts_at(&self, address: IpAddr) -> Vec<Box<[u8]>> {
        let mut labels: Vec<_> = ready(&self.entry)
            .filter(|endpoint| endpoint.address == address)
            .filter(|endpoint| endpoint.hostname.is_some() || matches!(self.shape, Shape::Headless(_)))
            .filter_map(host_label)
            .collect();
        labels.sort_unstable();
        labels.dedup();
        labels
    }

    /// The addresses of the host named `label` (in wire form).
    pub(crate) fn host(&self, label: &[u8]) -> Vec<IpAddr> {
        match &self.shape {
            Shape::Headless(hosts) => hosts.by_label.get(label).cloned().unwrap_or_default(),
            Shape::Virtual => Hosts::new(&self.entry).by_label.remove(label).unwrap_or_default(),
            Shape::External(_) => Vec::new(),
        }
    }

    /// The ready addresses in the topology zone `zone`.
    pub(crate) fn addresses_in(&self, zone: &[u8]) -> Vec<IpAddr> {
        let here = |e: &&Endpoint| e.zone.as_deref().is_some_and(|z| z.as_bytes().eq_ignore_ascii_case(zone));
        let mut all: Vec<_> = ready(&self.entry).filter(here).map(|e| e.address).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Where the ports of the Service itself are served. `wanted` narrows it to one port name and protocol.
    pub(crate) fn own_targets(&self, wanted: Option<(&[u8], Protocol)>) -> Vec<Target<'_>> {
        match &self.shape {
            Shape::Virtual => self.virtual_targets(wanted),
            Shape::Headless(_) => self.host_targets(wanted, None),
            Shape::External(_) => Vec::new(),
        }
    }

    fn virtual_targets(&self, wanted: Option<(&[u8], Protocol)>) -> Vec<Target<'_>> {
        let ports = self.entry.service.ports.iter();
        ports
            .filter(|port| wanted.is_none_or(|wanted| matches_port(wanted, &port.name, port.protocol)))
            .flat_map(|port| {
                let port = port.port;
                let target = move |address| Target { host: Cow::Borrowed(&[][..]), address, port };
                self.cluster_ips().iter().copied().map(target)
            })
            .collect()
    }

    /// Where named ports are served by hosts; `host` narrows it to one label (in wire form).
    pub(crate) fn host_targets(
        &self,
        wanted: Option<(&[u8], Protocol)>,
        host: Option<&[u8]>,
    ) -> Vec<Target<'_>> {
        let publish = self.entry.service.publish_not_ready;
        let mut targets = Vec::new();
        for ((name, protocol), endpoints) in &self.entry.endpoints {
            let asked = wanted.is_none_or(|wanted| matches_port(wanted, name, *protocol));
            if name.is_empty() || !asked {
                continue;
            }
            for endpoint in endpoints.iter().filter(|endpoint| endpoint.ready || publish) {
                let Some(label) = host_label(endpoint) else { continue };
                if host.is_none_or(|host| *host == *label) {
                    let host = Cow::Owned(label.into_vec());
                    targets.push(Target { host, address: endpoint.address, port: endpoint.port });
                }
            }
        }
        targets
    }

    /// Whether one of the Service's own ports, or of its ready endpoints' when headless, has this name and protocol.
    pub(crate) fn has_port(&self, wanted: (&[u8], Protocol)) -> bool {
        match &self.shape {
            Shape::Virtual => {
                self.entry.service.ports.iter().any(|p| matches_port(wanted, &p.name, p.protocol))
            }
            Shape::Headless(_) => {
                let publish = self.entry.service.publish_not_ready;
                let named = |((name, protocol), _): &(&(Arc<str>, Protocol), _)| {
                    matches_port(wanted, name, *protocol)
                };
                let mut ports = self.entry.endpoints.iter().filter(named);
                ports.any(|(_, endpoints)| endpoints.iter().any(|endpoint| endpoint.ready || publish))
            }
            Shape::External(_) => false,
        }
    }
}

impl Hosts {
    fn new(entry: &Entry) -> Self {
        let mut hosts = Self::default();
        for endpoint in ready(entry) {
            hosts.addresses.push(endpoint.address);
            if let Some(label) = host_label(endpoint) {
                hosts.by_label.entry(label).or_default().push(endpoint.address);
            }
        }
        for addresses in hosts.by_label.values_mut().chain([&mut hosts.addresses]) {
            addresses.sort_unstable();
            addresses.dedup();
            addresses.shrink_to_fit();
        }
        hosts
    }
}

/// The endpoints that DNS may name, those of several ports several times.
fn ready(entry: &Entry) -> impl Iterator<Item = &Endpoint> {
    let publish = entry.service.publish_not_ready;
    let all = entry.endpoints.values().flatten().chain(&entry.portless);
    all.filter(move |endpoint| endpoint.ready || publish)
}

/// The endpoint's label in wire form: its host name, or its address with dashes.
fn host_label(endpoint: &Endpoint) -> Option<Box<[u8]>> {
    match &endpoint.hostname {
        Some(hostname) => label_wire(hostname.as_bytes()),
        None => label_wire(dashed(endpoint.address).as_bytes()),
    }
}

fn matches_port(wanted: (&[u8], Protocol), name: &str, protocol: Protocol) -> bool {
    wanted.1 == protocol && !name.is_empty() && wanted.0.eq_ignore_ascii_case(name.as_bytes())
}

/// An external name as a DNS name; an address is not one.
fn external_target(text: &str) -> Option<Box<Name>> {
    if text.parse::<IpAddr>().is_ok() {
        return None;
    }
    Name::parse(text).filter(|name| name.label_count() > 0).map(Box::new)
}
