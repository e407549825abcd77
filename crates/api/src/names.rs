//! The rules for names, labels and keys, each returning what is wrong in upstream's words. Checked by hand instead of
//! by regular expressions: they are short, and run on every write.

use std::net::IpAddr;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
    start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
    '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must \
    consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. \
    '*.example.com', regex used for validation is \
    '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
    '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
    used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. \
    'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

/// The rule that an object's name follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 label, at most 63 characters.
    Label,
    /// RFC 1123 subdomain, at most 253 characters.
    Subdomain,
    /// Anything that can stand between two slashes of a path.
    PathSegment,
    /// An address in its canonical form.
    Address,
}

impl NameRule {
    /// What is wrong with the name.
    pub fn check(self, name: &str) -> Vec<String> {
        match self {
            Self::Label => label(name),
            Self::Subdomain => subdomain(name),
            Self::PathSegment => path_segment(name),
            Self::Address => canonical_address(name).into_iter().collect(),
        }
    }

    /// What is wrong with the name's start, to which a suffix will be added.
    pub fn check_prefix(self, prefix: &str) -> Vec<String> {
        if self == Self::PathSegment {
            return path_segment_parts(prefix);
        }
        match prefix.strip_suffix('-') {
            Some(start) if !start.is_empty() => self.check(&format!("{start}a")),
            _ => self.check(prefix),
        }
    }
}

const NOT_AN_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// An address, or what is wrong with it.
pub(crate) fn address(text: &str) -> Result<IpAddr, &'static str> {
    let octets = || text.split('.');
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => Err("must not be an IPv4-mapped IPv6 address"),
        Ok(address) => Ok(address),
        Err(_) if octets().count() == 4 && octets().all(|o| o.parse::<u8>().is_ok()) => {
            Err("must not have leading 0s")
        }
        Err(_) => Err(NOT_AN_ADDRESS),
    }
}

fn canonical_address(text: &str) -> Option<String> {
    match address(text) {
        Ok(address) if address.to_string() == text => None,
        Ok(address) => Some(format!("must be in canonical form ({:?})", address.to_string())),
        Err(message) => Some(message.to_owned()),
    }
}

fn path_segment(name: &str) -> Vec<String> {
    if matches!(name, "." | "..") { vec![format!("may not be '{name}'")] } else { path_segment_parts(name) }
}

fn path_segment_parts(name: &str) -> Vec<String> {
    ['/', '%'].into_iter().filter(|c| name.contains(*c)).map(|c| format!("may not contain '{c}'")).collect()
}

fn longer_than(max: usize, text: &str) -> Option<String> {
    (text.len() > max).then(|| format!("must be no more than {max} characters"))
}

fn is_label_shaped(text: &str) -> bool {
    let inside = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(&a), Some(&z)) if inside(a) && inside(z))
        && bytes.iter().all(|&c| inside(c) || c == b'-')
}

fn is_qualified_shaped(text: &str) -> bool {
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(a), Some(z)) if a.is_ascii_alphanumeric() && z.is_ascii_alphanumeric())
        && bytes.iter().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(c))
}

/// RFC 1123 label.
pub(crate) fn label(text: &str) -> Vec<String> {
    let shape = (!is_label_shaped(text)).then(|| LABEL.to_owned());
    longer_than(63, text).into_iter().chain(shape).collect()
}

/// RFC 1123 subdomain.
pub(crate) fn subdomain(text: &str) -> Vec<String> {
    let shape = (!text.split('.').all(is_label_shaped)).then(|| SUBDOMAIN.to_owned());
    longer_than(253, text).into_iter().chain(shape).collect()
}

/// `*.` and an RFC 1123 subdomain.
pub(crate) fn wildcard(text: &str) -> Vec<String> {
    let fits = text.strip_prefix("*.").is_some_and(|rest| rest.split('.').all(is_label_shaped));
    longer_than(253, text).into_iter().chain((!fits).then(|| WILDCARD.to_owned())).collect()
}

/// `name` or `prefix/name`: keys of labels, annotations, taints; names of finalizers and resources.
pub(crate) fn qualified(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) if !name.contains('/') => (Some(prefix), name),
        None => (None, text),
        Some(_) => {
            wrong.push(format!(
                "a qualified name {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
            return wrong;
        }
    };
    match prefix {
        Some("") => wrong.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => wrong.extend(subdomain(prefix).into_iter().map(|m| format!("prefix part {m}"))),
        None => {}
    }
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else {
        wrong.extend(longer_than(63, name).map(|m| format!("name part {m}")));
    }
    if !is_qualified_shaped(name) {
        wrong.push(format!("name part {QUALIFIED}"));
    }
    wrong
}

/// A label's value.
pub(crate) fn label_value(text: &str) -> Vec<String> {
    let shape = (!text.is_empty() && !is_qualified_shaped(text)).then(|| LABEL_VALUE.to_owned());
    longer_than(63, text).into_iter().chain(shape).collect()
}

/// A port's name in a container, or as a `targetPort` (IANA service name).
pub(crate) fn port_name(text: &str) -> Vec<String> {
    let mut wrong: Vec<String> = longer_than(15, text).into_iter().collect();
    if !text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-') || text.is_empty() {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|c| c.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        wrong.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".to_owned());
    }
    wrong
}

/// A key of a ConfigMap or Secret.
pub(crate) fn config_key(text: &str) -> Vec<String> {
    let mut wrong: Vec<String> = longer_than(253, text).into_iter().collect();
    if text.is_empty() || !text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c)) {
        wrong.push(CONFIG_KEY.to_owned());
    }
    match text {
        "." => wrong.push("must not be '.'".to_owned()),
        ".." => wrong.push("must not be '..'".to_owned()),
        _ if text.starts_with("..") => wrong.push("must not start with '..'".to_owned()),
        _ => {}
    }
    wrong
}

/// An environment variable's name.
pub(crate) fn env_var(text: &str) -> Vec<String> {
    let printable = |c: u8| (b' '..=b'~').contains(&c) && c != b'=';
    if !text.is_empty() && text.bytes().all(printable) {
        return Vec::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other than '='"
            .to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        for good in ["a", "1web", "a-b", "0"] {
            assert!(label(good).is_empty(), "{good}");
        }
        for bad in ["", "A", "-a", "a-", "a.b", "a_b", "é"] {
            assert_eq!(label(bad), [LABEL], "{bad}");
        }
        assert_eq!(label(&"a".repeat(64)), ["must be no more than 63 characters"]);
    }

    #[test]
    fn subdomains() {
        for good in ["a", "a.b", "10.0.0.1", "a-b.c"] {
            assert!(subdomain(good).is_empty(), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "Bad_Name!"] {
            assert_eq!(subdomain(bad).len(), 1, "{bad}");
        }
    }

    #[test]
    fn wildcards() {
        for good in ["*.a", "*.b.example.com"] {
            assert!(wildcard(good).is_empty(), "{good}");
        }
        for bad in ["*", "a", "*.*.a", "*a.b", "a.*", "*."] {
            assert_eq!(wildcard(bad), [WILDCARD], "{bad}");
        }
    }

    #[test]
    fn qualified_names() {
        for good in ["a", "A_b.c-d", "example.com/x", "kubernetes.io/metadata.name"] {
            assert!(qualified(good).is_empty(), "{good}");
        }
        assert_eq!(qualified("bad key!"), [format!("name part {QUALIFIED}")]);
        assert_eq!(qualified("/x"), ["prefix part must be non-empty"]);
        assert_eq!(qualified("").len(), 2);
        assert_eq!(qualified("a/b/c").len(), 1);
    }

    #[test]
    fn port_names() {
        assert!(port_name("http").is_empty());
        assert_eq!(
            port_name("BAD_NAME"),
            [
                "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
                "must contain at least one letter (a-z)"
            ]
        );
        assert_eq!(port_name("this-name-is-too-long"), ["must be no more than 15 characters"]);
        assert_eq!(port_name("a--b"), ["must not contain consecutive hyphens"]);
        assert_eq!(port_name("80"), ["must contain at least one letter (a-z)"]);
    }

    #[test]
    fn prefixes_may_end_with_a_hyphen() {
        assert!(NameRule::Label.check_prefix("web-").is_empty());
        assert_eq!(NameRule::Label.check_prefix("-").len(), 1);
        assert_eq!(NameRule::Label.check_prefix("Web-").len(), 1);
    }

    #[test]
    fn names_of_roles_are_segments_of_paths() {
        assert!(NameRule::PathSegment.check("system:aggregate-to-view").is_empty());
        assert_eq!(NameRule::PathSegment.check(".."), ["may not be '..'"]);
        assert_eq!(NameRule::PathSegment.check("a/b%"), ["may not contain '/'", "may not contain '%'"]);
        assert!(NameRule::PathSegment.check_prefix(".").is_empty());
    }

    #[test]
    fn addresses() {
        for good in ["10.96.0.1", "fd00::1", "::"] {
            assert!(NameRule::Address.check(good).is_empty(), "{good}");
        }
        for (bad, message) in [
            ("web", NOT_AN_ADDRESS),
            ("10.96.0", NOT_AN_ADDRESS),
            ("10.96.0.256", NOT_AN_ADDRESS),
            ("010.96.0.1", "must not have leading 0s"),
            ("::ffff:10.96.0.1", "must not be an IPv4-mapped IPv6 address"),
            ("FD00::1", "must be in canonical form (\"fd00::1\")"),
            ("fd00:0::1", "must be in canonical form (\"fd00::1\")"),
        ] {
            assert_eq!(NameRule::Address.check(bad), [message], "{bad}");
        }
    }

    #[test]
    fn keys_and_variables() {
        assert!(config_key("a.b_C-d").is_empty());
        assert_eq!(config_key("..").len(), 1);
        assert_eq!(config_key("..a"), ["must not start with '..'"]);
        assert_eq!(config_key("a b"), [CONFIG_KEY]);
        assert!(env_var("MY VAR.x").is_empty());
        assert_eq!(env_var("A=B").len(), 1);
    }
}
