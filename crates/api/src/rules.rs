//! Rules about plain values that several kinds share: numbers, ports, protocols, addresses. Upstream's words.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::field::{FieldError, Path};
use crate::names::{self, NameRule};

/// The transports that ports can have.
pub(crate) const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

/// What an update says of a field that may not change.
pub(crate) const IMMUTABLE: &str = "field is immutable";

const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or \
    '93%', regex used for validation is '[0-9]+%')";

/// A port's number.
pub(crate) fn port(path: &Path<'_>, port: i32, errors: &mut Vec<FieldError>) {
    if !(1..=65535).contains(&port) {
        errors.push(FieldError::invalid(path, port, "must be between 1 and 65535, inclusive"));
    }
}

/// A port's number, or its name in the pod.
pub(crate) fn port_or_name(path: &Path<'_>, target: &IntOrString, errors: &mut Vec<FieldError>) {
    match target {
        IntOrString::Int(number) => port(path, *number, errors),
        IntOrString::String(name) => {
            errors.extend(names::port_name(name).into_iter().map(|m| FieldError::invalid(path, name, m)));
        }
    }
}

/// A transport; an absent one is required.
pub(crate) fn protocol(path: &Path<'_>, protocol: Option<&str>, errors: &mut Vec<FieldError>) {
    match protocol.unwrap_or_default() {
        "" => errors.push(FieldError::required(path, "")),
        protocol => one_of(path, protocol, PROTOCOLS, errors),
    }
}

/// One of a few words.
pub(crate) fn one_of(path: &Path<'_>, value: &str, words: &[&str], errors: &mut Vec<FieldError>) {
    if !words.contains(&value) {
        errors.push(FieldError::not_supported(path, value, words));
    }
}

/// A number that may be absent but not negative.
pub(crate) fn not_negative(path: &Path<'_>, number: Option<i64>, errors: &mut Vec<FieldError>) {
    if number.is_some_and(|n| n < 0) {
        errors.push(FieldError::invalid(path, number, "must be greater than or equal to 0"));
    }
}

/// A number that may be absent but not zero or less.
pub(crate) fn positive(path: &Path<'_>, number: Option<i64>, errors: &mut Vec<FieldError>) {
    if number.is_some_and(|n| n <= 0) {
        errors.push(FieldError::invalid(path, number, "must be greater than 0"));
    }
}

/// A number, or a number of percent; returns the number.
pub(crate) fn amount(
    path: &Path<'_>,
    value: Option<&IntOrString>,
    errors: &mut Vec<FieldError>,
) -> Option<i32> {
    match value {
        None => Some(0),
        Some(IntOrString::Int(number)) => {
            not_negative(path, Some(i64::from(*number)), errors);
            Some(*number)
        }
        Some(IntOrString::String(text)) => {
            let digits = text.strip_suffix('%').filter(|d| d.bytes().all(|c| c.is_ascii_digit()));
            let number = digits.and_then(|d| d.parse().ok());
            if number.is_none() {
                errors.push(FieldError::invalid(path, text, PERCENT));
            }
            number
        }
    }
}

/// A share of pods: as [`amount`], and no more than all of them.
pub(crate) fn share(
    path: &Path<'_>,
    value: Option<&IntOrString>,
    errors: &mut Vec<FieldError>,
) -> Option<i32> {
    let number = amount(path, value, errors);
    if number.is_some_and(|n| n > 100) && matches!(value, Some(IntOrString::String(_))) {
        errors.push(FieldError::invalid(path, value, "must not be greater than 100%"));
    }
    number
}

/// A name that refers to another object.
pub(crate) fn label(path: &Path<'_>, name: &str, errors: &mut Vec<FieldError>) {
    errors.extend(names::label(name).into_iter().map(|m| FieldError::invalid(path, name, m)));
}

/// A name that refers to another object.
pub(crate) fn subdomain(path: &Path<'_>, name: &str, errors: &mut Vec<FieldError>) {
    errors.extend(names::subdomain(name).into_iter().map(|m| FieldError::invalid(path, name, m)));
}

/// An address, or an error when it is none.
pub(crate) fn ip(path: &Path<'_>, text: &str, errors: &mut Vec<FieldError>) -> Option<IpAddr> {
    match names::address(text) {
        Ok(address) => Some(address),
        Err(detail) => {
            errors.push(FieldError::invalid(path, text, detail));
            None
        }
    }
}

/// An address that endpoints and external addresses can have: none that means "this machine" or "this link".
pub(crate) fn endpoint_ip(path: &Path<'_>, text: &str, errors: &mut Vec<FieldError>) -> Option<IpAddr> {
    let ip = ip(path, text, errors)?;
    let mut refuse = |detail: &str| errors.push(FieldError::invalid(path, text, detail));
    if ip.is_unspecified() {
        refuse("may not be unspecified (0.0.0.0 or ::)");
    }
    if ip.is_loopback() {
        refuse("may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (link_local, link_multicast) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] & 0xff0f == 0xff02),
    };
    if link_local {
        refuse("may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if link_multicast {
        refuse("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
    Some(ip)
}

/// An address range, or an error when it is none. As upstream has it for older fields, host bits may be set.
pub(crate) fn cidr(path: &Path<'_>, text: &str, errors: &mut Vec<FieldError>) -> Option<IpNet> {
    let range = text.parse().ok();
    if range.is_none() {
        let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        errors.push(FieldError::invalid(path, text, detail));
    }
    range
}

/// An address range in its canonical form.
pub(crate) fn range(path: &Path<'_>, text: &str, errors: &mut Vec<FieldError>) -> Option<IpNet> {
    let range = cidr(path, text, errors)?;
    let detail = if range.trunc() != range {
        "must not have bits set beyond the prefix length".to_owned()
    } else if range.to_string() != text {
        format!("must be in canonical form ({:?})", range.to_string())
    } else {
        return Some(range);
    };
    errors.push(FieldError::invalid(path, text, detail));
    None
}

/// A name without an address in it: of a host that is found by it.
pub(crate) fn host(path: &Path<'_>, name: &str, errors: &mut Vec<FieldError>) {
    subdomain(path, name, errors);
    if name.parse::<IpAddr>().is_ok() {
        errors.push(FieldError::invalid(path, name, "must be a DNS name, not an IP address"));
    }
}

/// What can stand between two slashes of a path.
pub(crate) fn path_segment(path: &Path<'_>, text: &str, errors: &mut Vec<FieldError>) {
    match text {
        "" => errors.push(FieldError::required(path, "")),
        text => {
            let messages = NameRule::PathSegment.check(text);
            errors.extend(messages.into_iter().map(|m| FieldError::invalid(path, text, m)));
        }
    }
}
