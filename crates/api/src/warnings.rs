//! What the author of a write is warned of, where several kinds have the same reasons: addresses in forms that readers
//! other than Go's take differently, names that are no DNS labels.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::field::Path;
use crate::names;

/// An address that is not in its canonical form.
pub(crate) fn ip(path: &Path<'_>, text: &str) -> Option<String> {
    let IpAddr::V6(address) = text.parse().ok()? else { return None };
    if let Some(v4) = address.to_ipv4_mapped() {
        return Some(format!("{path}: non-standard IP address {text:?} is invalid: use \"{v4}\""));
    }
    let canonical = address.to_string();
    (canonical != text).then(|| {
        format!("{path}: IPv6 address {text:?} should be in RFC 5952 canonical format ({canonical:?})")
    })
}

/// A range that is not in its canonical form, or whose address has bits beyond the prefix.
pub(crate) fn cidr(path: &Path<'_>, text: &str) -> Vec<String> {
    let Ok(net) = text.parse::<IpNet>() else { return Vec::new() };
    let (range, mut warnings) = (net.trunc(), Vec::new());
    if net.addr() != range.addr() {
        let single = format!("{}/{}", net.addr(), net.max_prefix_len());
        warnings.push(format!(
            "{path}: CIDR value {text:?} is ambiguous in this context (should be \"{range}\" or {single:?}?)"
        ));
    }
    let mapped = |address: Ipv6Addr| address.to_ipv4_mapped().is_some();
    match net {
        IpNet::V6(net) if mapped(net.addr()) => {
            warnings.push(format!("{path}: non-standard CIDR value {text:?} is invalid: use \"{range}\""));
        }
        IpNet::V6(net) if warnings.is_empty() && net.to_string() != text => warnings.push(format!(
            "{path}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format (\"{net}\")"
        )),
        _ => {}
    }
    warnings
}

/// A name that will be a part of pods' names and hostnames, as `what` says.
pub(crate) fn host_name(meta: &ObjectMeta, what: &str) -> Option<String> {
    let wrong = names::label(meta.name.as_deref().unwrap_or_default());
    (!wrong.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in {what}, which can result in surprising behavior; a DNS label is \
             recommended: [{}]",
            wrong.join(" ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_others_read_otherwise() {
        let path = Path::new("f");
        for good in ["10.0.0.1", "fd00::1", "::", "no address"] {
            assert_eq!(ip(&path, good), None, "{good}");
        }
        assert_eq!(
            ip(&path, "FD00:0::1").unwrap(),
            "f: IPv6 address \"FD00:0::1\" should be in RFC 5952 canonical format (\"fd00::1\")"
        );
        assert_eq!(
            ip(&path, "::ffff:1.2.3.4").unwrap(),
            "f: non-standard IP address \"::ffff:1.2.3.4\" is invalid: use \"1.2.3.4\""
        );
    }

    #[test]
    fn ranges_that_others_read_otherwise() {
        let path = Path::new("f");
        for good in ["10.0.0.0/8", "fd00::/64", "no range"] {
            assert!(cidr(&path, good).is_empty(), "{good}");
        }
        assert_eq!(
            cidr(&path, "10.1.2.3/8"),
            [
                "f: CIDR value \"10.1.2.3/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.1.2.3/32\"?)"
            ]
        );
        assert_eq!(
            cidr(&path, "fd00:0::/64"),
            ["f: IPv6 CIDR value \"fd00:0::/64\" should be in RFC 5952 canonical format (\"fd00::/64\")"]
        );
    }
}
