//! `resolv.conf`: reading the machine's, writing a pod's.
//!
//! Pure text in, text out. What kubelet does with `dnsPolicy` and `dnsConfig` is followed, limits included.

use std::net::IpAddr;

/// More name servers than this are ignored by resolvers.
const MAX_NAME_SERVERS: usize = 3;
/// More search domains than this are refused by the API.
const MAX_SEARCH_DOMAINS: usize = 32;
/// The search line's longest text.
const MAX_SEARCH_LENGTH: usize = 2048;

/// What a `resolv.conf` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// `nameserver` lines.
    pub name_servers: Vec<IpAddr>,
    /// The last `search` (or `domain`) line.
    pub search: Vec<String>,
    /// All `options`.
    pub options: Vec<String>,
}

/// `spec.dnsPolicy`. A pod on the node's own network with `ClusterFirst` counts as `Default`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsPolicy {
    /// The cluster's DNS, which forwards what is not the cluster's.
    #[default]
    ClusterFirst,
    /// As the node resolves.
    Default,
    /// Only what `dnsConfig` says.
    None,
}

/// Everything that a pod's `resolv.conf` comes from.
#[derive(Clone, Debug, Default)]
pub struct PodDns<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The cluster's domain, such as `cluster.local`.
    pub cluster_domain: &'a str,
    /// The cluster's DNS addresses, as the pod reaches them.
    pub cluster_dns: &'a [IpAddr],
    /// What the node's own file says.
    pub host: ResolvConf,
    /// `spec.dnsPolicy`.
    pub policy: DnsPolicy,
    /// `spec.dnsConfig`; options as `name` or `name:value`.
    pub config: ResolvConf,
}

impl ResolvConf {
    /// Reads a file's text; what makes no sense is skipped, as resolvers do.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => conf.name_servers.extend(words.next().and_then(parse_address)),
                Some("search" | "domain") => {
                    conf.search = words
                        .map(|word| word.trim_end_matches('.'))
                        .filter(|w| !w.is_empty())
                        .map(str::to_owned)
                        .collect();
                }
                Some("options") => conf.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        conf
    }

    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for server in &self.name_servers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        for (word, values) in [("search", &self.search), ("options", &self.options)] {
            if !values.is_empty() {
                text.push_str(&format!("{word} {}\n", values.join(" ")));
            }
        }
        text
    }
}

/// The text of a pod's `/etc/resolv.conf`.
#[must_use]
pub fn pod_resolv_conf(pod: &PodDns<'_>) -> String {
    let mut conf = match pod.policy {
        DnsPolicy::ClusterFirst => cluster_first(pod),
        DnsPolicy::Default => pod.host.clone(),
        DnsPolicy::None => ResolvConf::default(),
    };
    append_new(&mut conf.name_servers, &pod.config.name_servers);
    append_new(&mut conf.search, &pod.config.search);
    for option in &pod.config.options {
        conf.options.retain(|present| option_name(present) != option_name(option));
        conf.options.push(option.clone());
    }
    conf.name_servers.truncate(MAX_NAME_SERVERS);
    limit_search(&mut conf.search);
    conf.to_text()
}

fn cluster_first(pod: &PodDns<'_>) -> ResolvConf {
    let domain = pod.cluster_domain.trim_end_matches('.');
    let own = [format!("{}.svc.{domain}", pod.namespace), format!("svc.{domain}"), domain.to_owned()];
    let mut search = own.to_vec();
    append_new(&mut search, &pod.host.search);
    ResolvConf { name_servers: pod.cluster_dns.to_vec(), search, options: vec!["ndots:5".to_owned()] }
}

fn append_new<T: Clone + PartialEq>(list: &mut Vec<T>, more: &[T]) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

fn limit_search(search: &mut Vec<String>) {
    search.truncate(MAX_SEARCH_DOMAINS);
    while search.iter().map(|domain| domain.len() + 1).sum::<usize>() > MAX_SEARCH_LENGTH + 1 {
        search.pop();
    }
}

fn option_name(option: &str) -> &str {
    option.split(':').next().unwrap_or(option)
}

/// An address, its interface (`fe80::1%eth0`) left off.
fn parse_address(word: &str) -> Option<IpAddr> {
    word.split('%').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod<'a>(dns: &'a [IpAddr]) -> PodDns<'a> {
        PodDns { namespace: "shop", cluster_domain: "cluster.local", cluster_dns: dns, ..PodDns::default() }
    }

    #[test]
    fn cluster_first_searches_the_namespace() {
        let dns = ["10.96.0.10".parse().unwrap()];
        let expected = "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n";
        assert_eq!(pod_resolv_conf(&pod(&dns)), expected);
    }

    #[test]
    fn host_search_and_pod_config_are_merged() {
        let dns = ["10.96.0.10".parse().unwrap()];
        let host =
            ResolvConf::parse("search corp.example. cluster.local\nnameserver 192.0.2.1\noptions edns0\n");
        let config = ResolvConf::parse("nameserver 192.0.2.9\nsearch extra.example\noptions ndots:2 edns0");
        let text = pod_resolv_conf(&PodDns { host, config, ..pod(&dns) });
        let expected = "nameserver 10.96.0.10\nnameserver 192.0.2.9\n\
            search shop.svc.cluster.local svc.cluster.local cluster.local corp.example extra.example\n\
            options ndots:2 edns0\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn default_is_the_hosts_and_none_is_empty() {
        let host = ResolvConf::parse(
            "# mine\nnameserver 192.0.2.1 ; first\nnameserver fe80::1%eth0\nnameserver nonsense\n",
        );
        let text = pod_resolv_conf(&PodDns { host, policy: DnsPolicy::Default, ..pod(&[]) });
        assert_eq!(text, "nameserver 192.0.2.1\nnameserver fe80::1\n");
        assert_eq!(pod_resolv_conf(&PodDns { policy: DnsPolicy::None, ..pod(&[]) }), "");
    }

    #[test]
    fn limits_hold() {
        let servers: Vec<IpAddr> = (1..6).map(|n| IpAddr::from([192, 0, 2, n])).collect();
        let search: Vec<String> = (0..40).map(|n| format!("{n}.{}", "x".repeat(100))).collect();
        let config = ResolvConf { name_servers: servers, search, options: Vec::new() };
        let text = pod_resolv_conf(&PodDns { config, policy: DnsPolicy::None, ..pod(&[]) });
        let conf = ResolvConf::parse(&text);
        assert_eq!(conf.name_servers.len(), 3);
        assert!(conf.search.len() < 32 && conf.search.join(" ").len() <= 2048, "{}", conf.search.len());
    }
}
