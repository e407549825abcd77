//! From plans to rules: the one place that knows what the rules look like. Every line is as `iptables-save` prints it,
//! which is what an operator sees, and what lets a restart find that nothing has to be written.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use svcd_svcmap::{Family, Protocol};

use super::names::{self, PortChains, endpoint_chain, protocol_name};
use super::rules::{Rules, Table};
use crate::{Config, PortPlan, Target};

/// The packet mark that means "masquerade this".
const MARK: &str = "0x4000";

/// A jump from a built-in chain: table, chain, rule. In the order that they stand in.
pub(super) const JUMPS: [(Table, &str, &str); 15] = {
    const NEW_EXTERNAL: &str = "-m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES";
    const NEW_PORTAL: &str =
        "-m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES";
    const NEW_FIREWALL: &str = "-m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL";
    const FORWARDING: &str = "-m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD";
    const HEALTH: &str = "-m comment --comment \"kubernetes health check service ports\" -j KUBE-NODEPORTS";
    const PORTAL: &str = "-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES";
    const POSTROUTING: &str = "-m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING";
    [
        (Table::Filter, "INPUT", NEW_FIREWALL),
        (Table::Filter, "INPUT", HEALTH),
        (Table::Filter, "INPUT", NEW_EXTERNAL),
        (Table::Filter, "INPUT", "-j KUBE-FIREWALL"),
        (Table::Filter, "FORWARD", NEW_FIREWALL),
        (Table::Filter, "FORWARD", FORWARDING),
        (Table::Filter, "FORWARD", NEW_PORTAL),
        (Table::Filter, "FORWARD", NEW_EXTERNAL),
        (Table::Filter, "OUTPUT", NEW_FIREWALL),
        (Table::Filter, "OUTPUT", NEW_PORTAL),
        // Not upstream's: without it the node itself would send what nobody serves out to the default route.
        (Table::Filter, "OUTPUT", NEW_EXTERNAL),
        (Table::Filter, "OUTPUT", "-j KUBE-FIREWALL"),
        (Table::Nat, "PREROUTING", PORTAL),
        (Table::Nat, "OUTPUT", PORTAL),
        (Table::Nat, "POSTROUTING", POSTROUTING),
    ]
};

/// What rules of one address family depend on besides plans.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) family: Family,
    /// Who counts as a pod.
    pub(super) pods: Option<IpNet>,
    pub(super) node_addresses: Vec<IpAddr>,
    pub(super) localhost_node_ports: bool,
    /// `MASQUERADE --random-fully` is there.
    pub(super) random_fully: bool,
}

impl Facts {
    pub(super) fn new(config: &Config, family: Family, random_fully: bool) -> Self {
        Self {
            family,
            pods: config.pod_ranges.iter().find(|range| Family::of(range.addr()) == family).map(IpNet::trunc),
            node_addresses: config.node_addresses.clone(),
            localhost_node_ports: config.localhost_node_ports,
            random_fully,
        }
    }

    /// The rules that stand whatever Services there are.
    pub(super) fn frame(&self) -> Rules {
        let mut rules = Rules::with_shared_chains();
        let random = if self.random_fully { " --random-fully" } else { "" };
        rules.own(Table::Nat, names::MARK_MASQ).push(format!("-j MARK --set-xmark {MARK}/{MARK}"));
        rules.own(Table::Nat, names::POSTROUTING).extend([
            format!("-m mark ! --mark {MARK}/{MARK} -j RETURN"),
            // Taken off again, so that a packet that passes twice is not masqueraded twice.
            format!("-j MARK --set-xmark {MARK}/0x0"),
            format!(
                "-m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE{random}"
            ),
        ]);
        rules.own(Table::Filter, names::FORWARD).extend([
            // Out-of-window packets escape translation; answering them would reset the connection (k/k 74839).
            "-m conntrack --ctstate INVALID -j DROP".to_owned(),
            format!("-m comment --comment \"kubernetes forwarding rules\" -m mark --mark {MARK}/{MARK} -j ACCEPT"),
            "-m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT".to_owned(),
        ]);
        let firewall = rules.own(Table::Filter, names::FIREWALL);
        if self.family == Family::V4 && self.localhost_node_ports {
            // What route_localnet would open to neighbours (k/k 90259).
            firewall.push("! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment \"block incoming localnet connections\" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP".to_owned());
        }
        rules.last.insert((Table::Nat, names::SERVICES.to_owned()), self.node_ports_rule());
        rules
    }

    fn node_ports_rule(&self) -> String {
        let not_localhost = match self.family {
            Family::V6 => "! -d ::1/128 ",
            Family::V4 if !self.localhost_node_ports => "! -d 127.0.0.0/8 ",
            Family::V4 => "",
        };
        format!(
            "{not_localhost}-m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" -m addrtype --dst-type LOCAL -j {}",
            names::NODE_PORTS
        )
    }

    /// Adds what one Service port needs.
    pub(super) fn port(&self, plan: &PortPlan, rules: &mut Rules) {
        if plan.family == self.family {
            Port { facts: self, plan, chains: PortChains::new(&plan.label, plan.protocol), rules }.write();
        }
    }
}

/// One Service port while its rules are written.
struct Port<'a> {
    facts: &'a Facts,
    plan: &'a PortPlan,
    chains: PortChains,
    rules: &'a mut Rules,
}

impl Port<'_> {
    fn write(mut self) {
        self.dispatch_internal();
        self.dispatch_external();
        if self.plan.served() {
            self.internal_masquerade();
            self.external_chain();
            self.firewall_chain();
            self.policy_chains();
        }
        if let Some(port) = self.plan.health_check_node_port {
            let comment = comment(&format!("{} health check node port", self.plan.label));
            self.rules.share(
                Table::Filter,
                names::NODE_PORTS,
                format!("-p tcp {comment} -m tcp --dport {port} -j ACCEPT"),
            );
        }
    }

    /// From virtual addresses to endpoints or to a refusal.
    fn dispatch_internal(&mut self) {
        let target = self.plan.internal;
        for ip in &self.plan.cluster_ips {
            let (table, text, jump) = match refusal(target) {
                None => (Table::Nat, "cluster IP", self.policy_chain(target).to_owned()),
                Some(text) => (Table::Filter, text, self.refusal_jump(target)),
            };
            let rule = self.to_address(*ip, text, &jump);
            self.rules.share(table, names::SERVICES, rule);
        }
    }

    /// From outside addresses and the node port. Where policy Local drops, the chain still takes pods and the node
    /// itself to all endpoints, and what is left meets the drop.
    fn dispatch_external(&mut self) {
        let plan = self.plan;
        let guarded = self.guarded();
        let balancer = if guarded { self.chains.firewall.clone() } else { self.chains.external.clone() };
        let external = self.chains.external.clone();
        let named = plan.external_ips.iter().map(|ip| (*ip, "external IP", &external));
        let balanced = plan.load_balancer_ips.iter().map(|ip| (*ip, "loadbalancer IP", &balancer));
        for (ip, text, chain) in named.chain(balanced) {
            if plan.served() {
                let rule = self.to_address(ip, text, chain);
                self.rules.share(Table::Nat, names::SERVICES, rule);
            }
            if let Some(text) = refusal(plan.external) {
                let rule = self.to_address(ip, text, &self.refusal_jump(plan.external));
                self.rules.share(Table::Filter, names::EXTERNAL_SERVICES, rule);
            }
        }
        if guarded {
            let text = format!("traffic not accepted by {}", self.chains.firewall);
            for ip in &plan.load_balancer_ips {
                let rule = self.to_address(*ip, &text, "DROP");
                self.rules.share(Table::Filter, names::PROXY_FIREWALL, rule);
            }
        }
        self.dispatch_node_port();
    }

    fn dispatch_node_port(&mut self) {
        let plan = self.plan;
        let Some(port) = plan.node_port else { return };
        let protocol = protocol_name(plan.protocol);
        if plan.served() {
            let comment = comment(&plan.label);
            let chain = &self.chains.external;
            let rule = format!("-p {protocol} {comment} -m {protocol} --dport {port} -j {chain}");
            self.rules.share(Table::Nat, names::NODE_PORTS, rule);
        }
        if let Some(text) = refusal(plan.external) {
            let comment = comment(&format!("{} {text}", plan.label));
            let jump = self.refusal_jump(plan.external);
            let rule = format!(
                "-p {protocol} {comment} -m addrtype --dst-type LOCAL -m {protocol} --dport {port} -j {jump}"
            );
            self.rules.share(Table::Filter, names::EXTERNAL_SERVICES, rule);
        }
    }

    /// Clients that are no pods may be answered by a pod of another node, which would answer them directly.
    fn internal_masquerade(&mut self) {
        let plan = self.plan;
        let (Some(pods), true) = (self.facts.pods, refusal(plan.internal).is_none()) else { return };
        let chain = self.policy_chain(plan.internal).to_owned();
        for ip in &plan.cluster_ips {
            let rule = format!("! -s {pods} {}", self.to_address(*ip, "cluster IP", names::MARK_MASQ));
            self.rules.own(Table::Nat, &chain).push(rule);
        }
    }

    fn external_chain(&mut self) {
        let plan = self.plan;
        if !plan.reachable_from_outside() {
            return;
        }
        let label = &plan.label;
        let mut rules = Vec::new();
        if matches!(plan.external, Target::Local | Target::Drop) {
            // Pods and the node itself go to any endpoint, as if they had gone out to a load balancer and come back.
            let cluster = &self.chains.cluster;
            let remark = |text: &str| comment(&format!("{text} traffic for {label} external destinations"));
            if let Some(pods) = self.facts.pods {
                rules.push(format!("-s {pods} {} -j {cluster}", remark("pod")));
            }
            let local = "-m addrtype --src-type LOCAL";
            rules.push(format!("{} {local} -j {}", remark("masquerade LOCAL"), names::MARK_MASQ));
            rules.push(format!("{} {local} -j {cluster}", remark("route LOCAL")));
        } else {
            let comment = comment(&format!("masquerade traffic for {label} external destinations"));
            rules.push(format!("{comment} -j {}", names::MARK_MASQ));
        }
        if refusal(plan.external).is_none() {
            rules.push(format!("-j {}", self.policy_chain(plan.external)));
        }
        *self.rules.own(Table::Nat, &self.chains.external) = rules;
    }

    fn firewall_chain(&mut self) {
        if !self.guarded() {
            return;
        }
        let plan = self.plan;
        let remark = comment(&format!("{} loadbalancer IP", plan.label));
        let external = &self.chains.external;
        let mut rules: Vec<String> =
            plan.source_ranges.iter().map(|range| from(&range.to_string(), &remark, external)).collect();
        // A node's own packets to an address that it holds itself carry that address as their source.
        let node_allowed =
            |range: &IpNet| self.facts.node_addresses.iter().any(|address| range.contains(address));
        if plan.source_ranges.iter().any(node_allowed) {
            rules.extend(plan.load_balancer_ips.iter().map(|ip| from(&host(*ip), &remark, external)));
        }
        let rest = format!("other traffic to {} will be dropped by KUBE-PROXY-FIREWALL", plan.label);
        rules.push(comment(&rest));
        *self.rules.own(Table::Nat, &self.chains.firewall) = rules;
    }

    fn policy_chains(&mut self) {
        let plan = self.plan;
        let chains = [(self.chains.cluster.clone(), &plan.cluster), (self.chains.local.clone(), &plan.local)];
        for (chain, endpoints) in chains {
            if !endpoints.is_empty() {
                self.policy_rules(&chain, endpoints);
            }
        }
        for endpoint in plan.cluster.iter().chain(&plan.local) {
            self.endpoint_rules(*endpoint);
        }
    }

    /// A known client goes where it went before; others are spread evenly: each rule takes its share of what is left.
    fn policy_rules(&mut self, chain: &str, endpoints: &[SocketAddr]) {
        let plan = self.plan;
        let named: Vec<(String, String)> = endpoints
            .iter()
            .map(|endpoint| {
                let remark = comment(&format!("{} -> {endpoint}", plan.label));
                (remark, endpoint_chain(&plan.label, plan.protocol, *endpoint))
            })
            .collect();
        let mask = self.recent_mask();
        let rules = self.rules.own(Table::Nat, chain);
        if let Some(seconds) = plan.affinity {
            rules.extend(named.iter().map(|(remark, to)| {
                format!("{remark} -m recent --rcheck --seconds {seconds} --reap --name {to} --mask {mask} --rsource -j {to}")
            }));
        }
        for (left, (remark, to)) in (1..=named.len()).rev().zip(&named) {
            let share = if left > 1 { probability(left) } else { String::new() };
            rules.push(format!("{remark}{share} -j {to}"));
        }
    }

    fn endpoint_rules(&mut self, endpoint: SocketAddr) {
        let plan = self.plan;
        let chain = endpoint_chain(&plan.label, plan.protocol, endpoint);
        let remark = comment(&plan.label);
        let protocol = protocol_name(plan.protocol);
        let remember = match plan.affinity {
            Some(_) => format!(" -m recent --set --name {chain} --mask {} --rsource", self.recent_mask()),
            None => String::new(),
        };
        let rules = vec![
            // A pod that meets itself has to be answered through the node, or it would see its own address.
            from(&host(endpoint.ip()), &remark, names::MARK_MASQ),
            format!("-p {protocol} {remark}{remember} -m {protocol} -j DNAT --to-destination {endpoint}"),
        ];
        *self.rules.own(Table::Nat, &chain) = rules;
    }

    /// Whether the load balancer's addresses take only some sources.
    fn guarded(&self) -> bool {
        let plan = self.plan;
        plan.served() && !plan.load_balancer_ips.is_empty() && !plan.source_ranges.is_empty()
    }

    fn policy_chain(&self, target: Target) -> &str {
        if target == Target::Local { &self.chains.local } else { &self.chains.cluster }
    }

    fn refusal_jump(&self, target: Target) -> String {
        let with = match (target, self.plan.protocol, self.facts.family) {
            (Target::Drop, ..) => return "DROP".to_owned(),
            // Better than upstream's ICMP message: the kernel limits those to one a second for each client, and a
            // process on the node itself would notice one only after a second.
            (_, Protocol::Tcp, _) => "tcp-reset",
            (_, _, Family::V4) => "icmp-port-unreachable",
            (_, _, Family::V6) => "icmp6-port-unreachable",
        };
        format!("REJECT --reject-with {with}")
    }

    fn to_address(&self, ip: IpAddr, text: &str, jump: &str) -> String {
        let protocol = protocol_name(self.plan.protocol);
        let remark = comment(&format!("{} {text}", self.plan.label));
        let port = self.plan.port;
        format!("-d {} -p {protocol} {remark} -m {protocol} --dport {port} -j {jump}", host(ip))
    }

    fn recent_mask(&self) -> &'static str {
        match self.facts.family {
            Family::V4 => "255.255.255.255",
            Family::V6 => "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        }
    }
}

/// Why packets are refused or dropped, if they are.
fn refusal(target: Target) -> Option<&'static str> {
    match target {
        Target::Reject => Some("has no endpoints"),
        Target::Drop => Some("has no local endpoints"),
        Target::Cluster | Target::Local => None,
    }
}

fn from(source: &str, remark: &str, jump: &str) -> String {
    format!("-s {source} {remark} -j {jump}")
}

fn host(ip: IpAddr) -> String {
    IpNet::from(ip).to_string()
}

/// `-m comment --comment "…"`. Names come from outside: only letters that can neither end the text nor the line pass,
/// and no more than the kernel takes.
fn comment(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || " -_./:>;[]".contains(letter);
    let text: String =
        text.chars().take(255).map(|letter| if plain(letter) { letter } else { '_' }).collect();
    format!("-m comment --comment \"{text}\"")
}

/// One in `left`, as the kernel keeps it: in parts of 2^31.
fn probability(left: usize) -> String {
    let parts = f64::from(1_u32 << 31);
    let kept = (parts / left as f64).round() / parts;
    format!(" -m statistic --mode random --probability {kept:.11}")
}
