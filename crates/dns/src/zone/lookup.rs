//! The answer table: from a question to what the zone says, row by row of the DNS specification 1.1.0.
//!
//! Two steps: `find` says which node of the name tree is meant, or that there is none; `tell` says what that node holds of
//! the wanted type. A node that exists but holds nothing of the type is NOERROR with the SOA, one that does not exist
//! NXDOMAIN with the SOA. Where the specification is silent the answers are CoreDNS's.

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::IpAddr;

use svcd_svcmap::Protocol;

use super::Zone;
use super::answer::{Answer, Data, FullName, Owner, Question, Rcode, Record, rtype};
use super::records::{Records, Shape, Target};
use crate::name::{Name, parse_dashed, reverse_address};

/// The specification's version, at `dns-version.`.
const SCHEMA_VERSION: &str = "1.1.0";
/// How long that may be kept; it changes with the binary only.
const SCHEMA_TTL: u32 = 28800;
/// Aliases of aliases are followed this far.
const MAX_ALIASES: usize = 8;

/// A place in the tree of names.
enum Node<'z> {
    /// There is no such name.
    Missing,
    /// Whether there is such a name is not known yet.
    Unknown,
    /// The name exists and holds nothing.
    Empty,
    Apex,
    Version,
    NameServer,
    Service(&'z Records),
    Alias(&'z Name),
    Port(&'z Records, Vec<Target<'z>>),
    /// A host of a Service: its label in wire form and its addresses.
    Host(&'z Records, Box<[u8]>, Vec<IpAddr>),
    /// A name for nothing but addresses.
    Addresses(Vec<IpAddr>),
}

impl Zone {
    /// What the zone says to `question`; none when the name is somebody else's, and to be forwarded. `turn` says which of several addresses comes first, so that callers who take the
    /// first spread out.
    #[must_use]
    pub fn lookup(&self, question: &Question, turn: usize) -> Option<Answer<'_>> {
        if let Some(address) = reverse_address(&question.name) {
            return self.lookup_reverse(address, question.rtype);
        }
        let depth = question.name.labels_before(&self.origin)?;
        if !self.synced {
            return Some(Answer::failure(Rcode::ServFail));
        }
        let mut answer = self.tell(self.find(&question.name, depth), question, turn);
        if answer.is_negative() {
            answer.authority = Some(self.soa(depth));
        }
        Some(answer)
    }

    /// The node at `name`, which has `depth` labels in front of the origin.
    fn find(&self, name: &Name, depth: usize) -> Node<'_> {
        let branch = if depth == 0 { &[][..] } else { name.label(depth - 1) };
        match (branch, depth) {
            (_, 0) => Node::Apex,
            (b"svc" | b"pod", 1) => Node::Empty,
            (b"svc" | b"pod", 2) => self.find_namespace(name.between(0, 1)),
            (b"svc", _) => self.find_service(name, depth),
            (b"pod", 3) => self.find_pod(name),
            (b"dns-version", 1) => Node::Version,
            (b"dns", 1) => Node::Empty,
            (b"dns", 2) if name.label(0) == b"ns" => Node::NameServer,
            _ => Node::Missing,
        }
    }

    fn find_namespace(&self, label: &[u8]) -> Node<'_> {
        if self.namespaces.contains(label) || self.index.has_namespace(label) {
            Node::Empty
        } else if self.namespaces_synced {
            Node::Missing
        } else {
            Node::Unknown
        }
    }

    /// Any address written with dashes, in a namespace that exists ("insecure" pods, as kubeadm sets up CoreDNS).
    fn find_pod(&self, name: &Name) -> Node<'_> {
        match (self.find_namespace(name.between(1, 2)), parse_dashed(name.label(0))) {
            (Node::Empty, Some(address)) => Node::Addresses(vec![address]),
            (Node::Empty, None) => Node::Missing,
            (other, _) => other,
        }
    }

    fn find_service(&self, name: &Name, depth: usize) -> Node<'_> {
        let Some(records) = self.index.service(name.between(depth - 3, depth - 1)) else {
            return Node::Missing;
        };
        match depth {
            3 => service_node(records),
            4 => host_node(records, name.between(0, 1)),
            5 => port_node(records, name.label(0), name.label(1)),
            6 if name.label(2) == b"_zone" => zonal_node(records, name.label(0), name.label(1)),
            _ => Node::Missing,
        }
    }

    fn tell<'z>(&'z self, node: Node<'z>, question: &Question, turn: usize) -> Answer<'z> {
        let ours = |data| vec![Record { owner: Owner::Question(0), ttl: self.ttl, data }];
        match (node, question.rtype) {
            (Node::Missing, _) => Answer::failure(Rcode::NxDomain),
            (Node::Unknown, _) => Answer::failure(Rcode::ServFail),
            (Node::Apex, rtype::SOA) => Answer::of(vec![self.soa(0)]),
            (Node::Apex, rtype::NS) => self.tell_name_server(),
            (Node::Version, rtype::TXT) => {
                let mut answers = ours(Data::Txt(SCHEMA_VERSION));
                answers[0].ttl = SCHEMA_TTL;
                Answer::of(answers)
            }
            // CoreDNS knows this name for TXT only.
            (Node::Version, _) => Answer::failure(Rcode::NxDomain),
            (Node::NameServer, rtype) => self.addresses(&self.name_servers, rtype, turn),
            (Node::Addresses(addresses) | Node::Host(_, _, addresses), rtype @ (rtype::A | rtype::AAAA)) => {
                self.addresses(&addresses, rtype, turn)
            }
            (Node::Host(records, label, _), rtype::SRV) => {
                self.services(records, records.host_targets(None, Some(&label)))
            }
            (Node::Service(records), rtype @ (rtype::A | rtype::AAAA)) => {
                self.addresses(own_addresses(records), rtype, turn)
            }
            (Node::Service(records), rtype::SRV) => self.services(records, records.own_targets(None)),
            (Node::Port(_, targets), rtype @ (rtype::A | rtype::AAAA)) => {
                let mut addresses: Vec<_> = targets.iter().map(|target| target.address).collect();
                addresses.sort_unstable();
                addresses.dedup();
                self.addresses(&addresses, rtype, turn)
            }
            (Node::Port(records, targets), rtype::SRV) => self.services(records, targets),
            (Node::Alias(_), rtype::SRV) => Answer::of(Vec::new()),
            (Node::Alias(target), rtype::CNAME) => Answer::of(ours(Data::Cname(whole(target)))),
            (Node::Alias(target), rtype) => self.follow(target, rtype, turn),
            _ => Answer::of(Vec::new()),
        }
    }

    /// The addresses of the wanted family, beginning at `turn`.
    fn addresses(&self, addresses: &[IpAddr], rtype: u16, turn: usize) -> Answer<'static> {
        let wanted = |address: &&IpAddr| match rtype {
            rtype::A => address.is_ipv4(),
            rtype::AAAA => address.is_ipv6(),
            _ => false,
        };
        let record = |address: &IpAddr| Record {
            owner: Owner::Question(0),
            ttl: self.ttl,
            data: Data::Address(*address),
        };
        let mut answers: Vec<_> = addresses.iter().filter(wanted).map(record).collect();
        if let Some(first) = turn.checked_rem(answers.len()) {
            answers.rotate_left(first);
        }
        Answer::of(answers)
    }

    /// SRV records for `targets` and, beside them, the addresses of their hosts. The weights are CoreDNS's: a hundred,
    /// divided among all targets.
    fn services<'z>(&'z self, records: &'z Records, targets: Vec<Target<'z>>) -> Answer<'z> {
        let weight =
            100_u16.checked_div(u16::try_from(targets.len()).unwrap_or(u16::MAX)).unwrap_or(100).max(1);
        let (mut seen, mut seen_addresses) = (HashSet::new(), HashSet::new());
        let mut answer = Answer::of(Vec::new());
        for Target { host, address, port } in targets {
            let target = self.service_name(host.clone(), records);
            if seen_addresses.insert((host.clone(), address)) {
                let owner = Owner::Name(target.clone());
                answer.additional.push(Record { owner, ttl: self.ttl, data: Data::Address(address) });
            }
            if seen.insert((host, port)) {
                let data = Data::Srv { weight, port, target };
                answer.answers.push(Record { owner: Owner::Question(0), ttl: self.ttl, data });
            }
        }
        answer
    }

    /// The zone's name server is the Service that has our address.
    fn tell_name_server(&self) -> Answer<'_> {
        let mut answer = Answer::of(Vec::new());
        for address in &self.name_servers {
            for records in
                self.index.at(*address).iter().filter(|records| records.cluster_ips().contains(address))
            {
                let name = self.service_name(Cow::Borrowed(&[]), records);
                let (ttl, owner) = (self.ttl, Owner::Name(name.clone()));
                if answer.answers.is_empty() {
                    answer.answers.push(Record { owner: Owner::Question(0), ttl, data: Data::Ns(name) });
                }
                answer.additional.push(Record { owner, ttl, data: Data::Address(*address) });
            }
        }
        answer
    }

    /// The alias and, when its target is in the zone, what is there; a target elsewhere is left to be chased.
    fn follow<'z>(&'z self, first: &'z Name, rtype: u16, turn: usize) -> Answer<'z> {
        let mut answer = Answer::of(Vec::new());
        let (mut owner, mut target) = (Owner::Question(0), first);
        for _ in 0..MAX_ALIASES {
            answer.answers.push(Record { owner, ttl: self.ttl, data: Data::Cname(whole(target)) });
            let Some(depth) = target.labels_before(&self.origin) else {
                answer.chase = Some(Box::new(target.clone()));
                return answer;
            };
            match self.find(target, depth) {
                Node::Alias(next) => (owner, target) = (Owner::Name(whole(target)), next),
                node => {
                    let question = Question { name: target.clone(), rtype };
                    let end = self.tell(node, &question, turn);
                    answer.answers.extend(end.answers.into_iter().map(|record| reown(record, target)));
                    answer.additional = end.additional;
                    return answer;
                }
            }
        }
        Answer::failure(Rcode::ServFail)
    }

    fn lookup_reverse(&self, address: IpAddr, rtype: u16) -> Option<Answer<'_>> {
        let network = self.networks.iter().find(|network| network.contains(&address));
        let holders = self.index.at(address);
        if network.is_none() && holders.is_empty() {
            return None;
        }
        if !self.synced {
            return Some(Answer::failure(Rcode::ServFail));
        }
        let mut answer = if holders.is_empty() {
            Answer::failure(Rcode::NxDomain)
        } else if rtype == rtype::PTR {
            Answer::of(holders.iter().flat_map(|records| self.pointers(records, address)).collect())
        } else {
            Answer::of(Vec::new())
        };
        if answer.is_negative() {
            let labels = network.map_or(0, |network| match network {
                ipnet::IpNet::V4(v4) => 4 - usize::from(v4.prefix_len() / 8),
                ipnet::IpNet::V6(v6) => 32 - usize::from(v6.prefix_len() / 4),
            });
            answer.authority = Some(self.soa(labels));
        }
        Some(answer)
    }

    fn pointers<'z>(&'z self, records: &'z Records, address: IpAddr) -> Vec<Record<'z>> {
        let own = records.cluster_ips().contains(&address).then(|| Cow::Borrowed(&[][..]));
        let hosts = records.hosts_at(address).into_iter().map(|label| Cow::Owned(label.into_vec()));
        own.into_iter()
            .chain(hosts)
            .map(|host| Data::Ptr(self.service_name(host, records)))
            .map(|data| Record { owner: Owner::Question(0), ttl: self.ttl, data })
            .collect()
    }

    /// `host.service.namespace.svc.zone`, or without the host.
    fn service_name<'z>(&'z self, host: Cow<'z, [u8]>, records: &'z Records) -> FullName<'z> {
        FullName { host, service: &records.key, rest: Cow::Borrowed(&self.services_origin) }
    }

    /// The SOA, owned by the question's name from label `from` on.
    fn soa(&self, from: usize) -> Record<'_> {
        let data = Data::Soa { origin: self.origin.as_wire(), serial: self.serial, minimum: self.ttl };
        Record { owner: Owner::Question(from), ttl: self.ttl, data }
    }
}

impl<'z> Answer<'z> {
    fn of(answers: Vec<Record<'z>>) -> Self {
        Self { rcode: Rcode::NoError, answers, authority: None, additional: Vec::new(), chase: None }
    }

    fn failure(rcode: Rcode) -> Self {
        Self { rcode, ..Self::of(Vec::new()) }
    }

    /// Whether this says that there is nothing, and so wants the SOA.
    fn is_negative(&self) -> bool {
        matches!(self.rcode, Rcode::NoError | Rcode::NxDomain) && self.answers.is_empty()
    }
}

fn own_addresses(records: &Records) -> &[IpAddr] {
    match &records.shape {
        Shape::Virtual => records.cluster_ips(),
        Shape::Headless(hosts) => &hosts.addresses,
        Shape::External(_) => &[],
    }
}

fn service_node(records: &Records) -> Node<'_> {
    match &records.shape {
        Shape::External(target) => target.as_ref().map_or(Node::Missing, |target| Node::Alias(target)),
        _ if own_addresses(records).is_empty() => Node::Missing,
        _ => Node::Service(records),
    }
}

fn host_node<'z>(records: &'z Records, label: &[u8]) -> Node<'z> {
    let addresses = records.host(label);
    if addresses.is_empty() { Node::Missing } else { Node::Host(records, label.into(), addresses) }
}

fn port_node<'z>(records: &'z Records, port: &[u8], protocol: &[u8]) -> Node<'z> {
    let protocol = match protocol {
        b"_tcp" => Protocol::Tcp,
        b"_udp" => Protocol::Udp,
        b"_sctp" => Protocol::Sctp,
        _ => return Node::Missing,
    };
    let wanted = port.strip_prefix(b"_").map(|port| (port, protocol));
    match wanted.filter(|wanted| records.has_port(*wanted)) {
        Some(wanted) => Node::Port(records, records.own_targets(Some(wanted))),
        None => Node::Missing,
    }
}

/// `ZONE.pin._zone.` has only that topology zone's endpoints, `ZONE.prefer._zone.` all of them when it has none.
fn zonal_node<'z>(records: &'z Records, zone: &[u8], verb: &[u8]) -> Node<'z> {
    let Shape::Headless(hosts) = &records.shape else { return Node::Missing };
    let here = records.addresses_in(zone);
    match verb {
        b"pin" | b"prefer" if !here.is_empty() => Node::Addresses(here),
        b"prefer" if !hosts.addresses.is_empty() => Node::Addresses(hosts.addresses.clone()),
        _ => Node::Missing,
    }
}

fn whole(name: &Name) -> FullName<'_> {
    FullName { host: Cow::Borrowed(&[]), service: &[], rest: Cow::Borrowed(name.as_wire()) }
}

/// A record of a followed name: what was the question's name there is `owner` here.
fn reown<'z>(record: Record<'z>, owner: &'z Name) -> Record<'z> {
    Record { owner: Owner::Name(whole(owner)), ..record }
}
