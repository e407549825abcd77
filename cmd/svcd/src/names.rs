//! Names that are typed: checked before anything is made with them.

/// The longest name that DNS carries.
const MAX_LENGTH: usize = 253;
/// The longest part of one.
const MAX_LABEL: usize = 63;

/// Whether it is a name as Kubernetes has them (RFC 1123 subdomain): labels of small letters, digits and inner dashes,
/// with dots between.
pub(crate) fn is_dns_name(text: &str) -> bool {
    text.len() <= MAX_LENGTH && text.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=MAX_LABEL).contains(&label.len())
        && label.chars().all(|c| plain(c) || c == '-')
        && label.starts_with(plain)
        && label.ends_with(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_what_is_none() {
        for good in ["a", "node1", "node1.example.com", "0-a.b"] {
            assert!(is_dns_name(good), "{good}");
        }
        for bad in ["", "Bad", "a_b", "a b", "-a", "a-", "a..b", ".a", "a.", "ä", &"a".repeat(64)] {
            assert!(!is_dns_name(bad), "{bad}");
        }
    }
}
