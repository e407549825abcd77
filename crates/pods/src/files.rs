//! The files that make a pod's idea of names: `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`. Pure.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Pod;

/// What the cluster's DNS is called, and what the node itself uses.
#[derive(Clone, Debug)]
pub(crate) struct Dns<'a> {
    pub(crate) address: Ipv4Addr,
    pub(crate) domain: &'a str,
    /// The node's own `resolv.conf`.
    pub(crate) node: &'a str,
}

/// The host name of a pod: its own choice or its name, 63 characters at most; a host-network pod has the node's.
pub(crate) fn hostname(pod: &Pod, node_name: &str) -> String {
    let spec = pod.spec.as_ref();
    if spec.and_then(|spec| spec.host_network) == Some(true) {
        return node_name.to_owned();
    }
    let chosen = spec.and_then(|spec| spec.hostname.clone()).filter(|name| !name.is_empty());
    let name = chosen.or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    name.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned()
}

/// `/etc/hosts`.
pub(crate) fn hosts(pod: &Pod, hostname: &str, address: Ipv4Addr, domain: &str) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    let spec = pod.spec.as_ref();
    let subdomain = spec.and_then(|spec| spec.subdomain.as_deref()).filter(|name| !name.is_empty());
    match subdomain {
        Some(subdomain) => {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            text += &format!("{address}\t{hostname}.{subdomain}.{namespace}.svc.{domain}\t{hostname}\n");
        }
        None => text += &format!("{address}\t{hostname}\n"),
    }
    let aliases = spec.and_then(|spec| spec.host_aliases.as_ref()).into_iter().flatten();
    let lines: Vec<_> = aliases
        .map(|alias| {
            format!(
                "{}\t{}\n",
                alias.ip,
                alias.hostnames.iter().flatten().cloned().collect::<Vec<_>>().join("\t")
            )
        })
        .collect();
    if !lines.is_empty() {
        text += "\n# Entries added by HostAliases.\n";
        text += &lines.concat();
    }
    text
}

/// `/etc/resolv.conf`, by the pod's `dnsPolicy` and `dnsConfig`.
pub(crate) fn resolv_conf(pod: &Pod, dns: &Dns<'_>) -> String {
    let spec = pod.spec.as_ref();
    let host_network = spec.and_then(|spec| spec.host_network) == Some(true);
    let policy = spec.and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let mut conf = match policy {
        "None" => Conf::default(),
        "ClusterFirstWithHostNet" => cluster(pod, dns),
        "ClusterFirst" if !host_network => cluster(pod, dns),
        _ => Conf::parse(dns.node),
    };
    if let Some(config) = spec.and_then(|spec| spec.dns_config.as_ref()) {
        conf.nameservers.extend(config.nameservers.iter().flatten().cloned());
        conf.searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            // The pod's own value of an option replaces the default one.
            conf.options.retain(|existing| existing.split(':').next() != Some(name));
            let value = option.value.as_ref().map(|value| format!(":{value}")).unwrap_or_default();
            conf.options.push(format!("{name}{value}"));
        }
    }
    conf.print()
}

fn cluster(pod: &Pod, dns: &Dns<'_>) -> Conf {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let domain = dns.domain;
    let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
    searches.extend(Conf::parse(dns.node).searches);
    Conf { nameservers: vec![dns.address.to_string()], searches, options: vec!["ndots:5".to_owned()] }
}

#[derive(Debug, Default)]
struct Conf {
    nameservers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl Conf {
    fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let keyword = words.next();
            let words = words.map(ToOwned::to_owned);
            match keyword {
                Some("nameserver") => conf.nameservers.extend(words.take(1)),
                // The last one counts.
                Some("search" | "domain") => conf.searches = words.filter(|word| word != ".").collect(),
                Some("options") => conf.options.extend(words),
                _ => {}
            }
        }
        conf
    }

    fn print(mut self) -> String {
        let mut seen = std::collections::BTreeSet::new();
        self.searches.retain(|search| seen.insert(search.clone()));
        let mut text = String::new();
        for nameserver in &self.nameservers {
            text += &format!("nameserver {nameserver}\n");
        }
        for (keyword, words) in [("search", &self.searches), ("options", &self.options)] {
            if !words.is_empty() {
                text += &format!("{keyword} {}\n", words.join(" "));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: &str) -> Pod {
        let text = format!(
            r#"{{"metadata": {{"name": "web-0", "namespace": "shop"}}, "spec": {{"containers": [], {spec} "priority": 0}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn conf(spec: &str) -> String {
        let node = "# by hand\nnameserver 192.0.2.1\nsearch example.com\noptions edns0 ndots:1\n";
        let dns = Dns { address: Ipv4Addr::new(10, 96, 0, 10), domain: "cluster.local", node };
        resolv_conf(&pod(spec), &dns)
    }

    #[test]
    fn pods_ask_the_cluster_first() {
        let expected = "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local example.com\noptions ndots:5\n";
        assert_eq!(conf(""), expected);
        assert_eq!(conf(r#""hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet","#), expected);
        let node = "nameserver 192.0.2.1\nsearch example.com\noptions edns0 ndots:1\n";
        assert_eq!(conf(r#""dnsPolicy": "Default","#), node);
        assert_eq!(conf(r#""hostNetwork": true,"#), node);
    }

    #[test]
    fn a_pods_own_configuration_adds_and_replaces() {
        let config = r#""dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.9"], "searches": ["a.b"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]},"#;
        assert_eq!(conf(config), "nameserver 192.0.2.9\nsearch a.b\noptions ndots:2 edns0\n");
        let more = r#""dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},"#;
        assert!(conf(more).ends_with("options ndots:2\n"), "{}", conf(more));
    }

    #[test]
    fn hosts_name_the_pod_as_its_headless_service_does() {
        let address = Ipv4Addr::new(10, 244, 1, 5);
        let plain = pod("");
        assert!(hosts(&plain, "web-0", address, "cluster.local").ends_with("10.244.1.5\tweb-0\n"));
        let named =
            pod(r#""subdomain": "web", "hostAliases": [{"ip": "10.1.2.3", "hostnames": ["a", "b"]}],"#);
        let text = hosts(&named, &hostname(&named, "n"), address, "cluster.local");
        assert!(text.contains("10.244.1.5\tweb-0.web.shop.svc.cluster.local\tweb-0\n"), "{text}");
        assert!(text.ends_with("# Entries added by HostAliases.\n10.1.2.3\ta\tb\n"), "{text}");
    }

    #[test]
    fn host_names() {
        assert_eq!(hostname(&pod(r#""hostname": "busybox-1","#), "n"), "busybox-1");
        assert_eq!(hostname(&pod(r#""hostNetwork": true,"#), "node1"), "node1");
        let mut long = pod("");
        long.metadata.name = Some(format!("{}-{}", "a".repeat(62), "b".repeat(20)));
        assert_eq!(hostname(&long, "n"), "a".repeat(62));
    }
}
