//! Domain names in wire form: lower-cased, uncompressed, on the stack.
//!
//! Promises: a `Name` is always well formed (labels of 1 to 63 bytes, 255 bytes at most, ends in the root), so that what
//! works on one need not check again. Lower-casing is ASCII only, as RFC 4343 wants. Refuses compression pointers: no
//! sensible client sends them in a question, and what does is left to the full parser.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest name in wire form.
const MAX_LENGTH: usize = 255;
/// More labels than this do not fit in 255 bytes.
const MAX_LABELS: usize = 127;
/// The longest label.
const MAX_LABEL: usize = 63;

/// A domain name, lower-cased, in wire form.
#[derive(Clone)]
pub struct Name {
    wire: [u8; MAX_LENGTH],
    length: u8,
    starts: [u8; MAX_LABELS],
    labels: u8,
}

impl Name {
    /// Reads an uncompressed name at the start of `bytes`; with it, how many bytes it took.
    #[must_use]
    pub fn from_wire(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut name = Self { wire: [0; MAX_LENGTH], length: 0, starts: [0; MAX_LABELS], labels: 0 };
        let mut at = 0;
        loop {
            let size = usize::from(*bytes.get(at)?);
            if size == 0 {
                name.length = u8::try_from(at + 1).ok()?;
                return Some((name, at + 1));
            }
            if size > MAX_LABEL || at + size + 2 > MAX_LENGTH {
                return None;
            }
            name.starts[usize::from(name.labels)] = u8::try_from(at).ok()?;
            name.labels += 1;
            name.wire[at] = bytes[at];
            let from = bytes.get(at + 1..=at + size)?;
            let into = &mut name.wire[at + 1..=at + size];
            into.copy_from_slice(from);
            into.make_ascii_lowercase();
            at += size + 1;
        }
    }

    /// Makes a name of labels, from the leftmost one.
    #[must_use]
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut wire = Vec::with_capacity(64);
        for label in labels {
            wire.extend_from_slice(&label_wire(label)?);
        }
        wire.push(0);
        Self::from_wire(&wire).map(|(name, _)| name)
    }

    /// Reads `a.b.c` or `a.b.c.`, without escapes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Self::from_wire(&[0]).map(|(name, _)| name);
        }
        Self::from_labels(text.split('.').map(str::as_bytes))
    }

    /// The wire form, with the root's zero at the end.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        &self.wire[..usize::from(self.length)]
    }

    /// How many labels there are, not counting the root.
    #[must_use]
    pub fn label_count(&self) -> usize {
        usize::from(self.labels)
    }

    /// Label number `index`, counted from the left; empty when there is none.
    #[must_use]
    pub fn label(&self, index: usize) -> &[u8] {
        if index >= self.label_count() {
            return &[];
        }
        let start = usize::from(self.starts[index]);
        &self.wire[start + 1..=start + usize::from(self.wire[start])]
    }

    /// Where label number `index` starts in the wire form; the root's place when there is none.
    #[must_use]
    pub fn offset(&self, index: usize) -> usize {
        if index < self.label_count() {
            usize::from(self.starts[index])
        } else {
            usize::from(self.length) - 1
        }
    }

    /// The wire form from label `index` on, with the root.
    #[must_use]
    pub fn suffix(&self, index: usize) -> &[u8] {
        &self.as_wire()[self.offset(index)..]
    }

    /// The wire form of the labels `from` to before `to`.
    #[must_use]
    pub fn between(&self, from: usize, to: usize) -> &[u8] {
        &self.wire[self.offset(from)..self.offset(to)]
    }

    /// The number of labels in front of `suffix`, when this name is `suffix` or below it.
    #[must_use]
    pub fn labels_before(&self, suffix: &Self) -> Option<usize> {
        let index = self.label_count().checked_sub(suffix.label_count())?;
        (self.suffix(index) == suffix.as_wire()).then_some(index)
    }

    /// The labels from the left.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.label_count()).map(|index| self.label(index))
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_wire() == other.as_wire()
    }
}

impl Eq for Name {}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for label in self.labels() {
            write!(f, "{}.", label.escape_ascii())?;
        }
        if self.labels == 0 { f.write_str(".") } else { Ok(()) }
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Name({self})")
    }
}

/// A label with its length in front, lower-cased; none when it is empty or too long.
pub(crate) fn label_wire(label: &[u8]) -> Option<Box<[u8]>> {
    let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
    let mut wire = Vec::with_capacity(label.len() + 1);
    wire.push(length);
    wire.extend(label.iter().map(u8::to_ascii_lowercase));
    Some(wire.into_boxed_slice())
}

/// The address that a full name below `in-addr.arpa` or `ip6.arpa` stands for, the number of labels that spell it in front.
pub(crate) fn reverse_address(name: &Name) -> Option<IpAddr> {
    let count = name.label_count();
    if count < 2 || name.label(count - 1) != b"arpa" {
        return None;
    }
    match (name.label(count - 2), count) {
        (b"in-addr", 6) => reverse_v4(name).map(IpAddr::V4),
        (b"ip6", 34) => reverse_v6(name).map(IpAddr::V6),
        _ => None,
    }
}

fn reverse_v4(name: &Name) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    for (index, octet) in octets.iter_mut().rev().enumerate() {
        let label = std::str::from_utf8(name.label(index)).ok()?;
        let canonical =
            label == "0" || (!label.starts_with('0') && label.bytes().all(|b| b.is_ascii_digit()));
        *octet = label.parse().ok().filter(|_| canonical)?;
    }
    Some(octets.into())
}

fn reverse_v6(name: &Name) -> Option<Ipv6Addr> {
    let mut bits = 0_u128;
    for index in (0..32).rev() {
        let &[digit] = name.label(index) else { return None };
        bits = bits << 4 | u128::from(char::from(digit).to_digit(16)?);
    }
    Some(bits.into())
}

/// The label for an address without a host name: its text with dashes, such as `10-1-2-3`.
pub(crate) fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

/// The address that a dashed label spells, as CoreDNS reads it.
pub(crate) fn parse_dashed(label: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(label).ok()?;
    if text.bytes().filter(|byte| *byte == b'-').count() == 3 && !text.contains("--") {
        return text.replace('-', ".").parse().ok().map(IpAddr::V4);
    }
    text.replace('-', ":").parse().ok().map(IpAddr::V6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_cased_and_split() {
        let name = Name::parse("Web.Default.svc.cluster.local").unwrap();
        assert_eq!(name.to_string(), "web.default.svc.cluster.local.");
        assert_eq!(name.label_count(), 5);
        assert_eq!(name.label(1), b"default");
        assert_eq!(name.between(0, 2), b"\x03web\x07default");
        assert_eq!(name.labels_before(&Name::parse("cluster.local").unwrap()), Some(3));
        assert_eq!(name.labels_before(&Name::parse("luster.local").unwrap()), None);
        assert_eq!(Name::parse(".").unwrap().as_wire(), [0]);
    }

    #[test]
    fn bad_wire_names_are_refused() {
        for wire in [&[][..], &[1], &[3, b'a', 0], &[64; 70], &[0xc0, 0x0c]] {
            assert!(Name::from_wire(wire).is_none(), "{wire:?}");
        }
        let mut long = Vec::new();
        for _ in 0..127 {
            long.extend_from_slice(b"\x01a");
        }
        assert!(Name::from_wire(&[&long[..], &[0]].concat()).is_some(), "255 bytes");
        assert!(Name::from_wire(&[&long[..], b"\x01a\0"].concat()).is_none(), "257 bytes");
    }

    #[test]
    fn reverse_names_and_dashes() {
        let reverse = |text: &str| reverse_address(&Name::parse(text).unwrap());
        assert_eq!(reverse("10.0.96.10.in-addr.arpa"), Some("10.96.0.10".parse().unwrap()));
        for bad in [
            "256.0.96.10.in-addr.arpa",
            "010.0.96.10.in-addr.arpa",
            "0.96.10.in-addr.arpa",
            "+1.0.0.1.in-addr.arpa",
        ] {
            assert_eq!(reverse(bad), None, "{bad}");
        }
        let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.c.b.a.8.7.6.5.ip6.arpa";
        assert_eq!(reverse(v6), Some("5678:abcd::1".parse().unwrap()));
        for (address, label) in [("172.0.0.2", "172-0-0-2"), ("5678:abcd::1", "5678-abcd--1")] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(dashed(address), label);
            assert_eq!(parse_dashed(label.as_bytes()), Some(address));
        }
        for bad in ["pod", "1-2-3", "300-1-1-1", "1-2-3-4-5", ""] {
            assert_eq!(parse_dashed(bad.as_bytes()), None, "{bad}");
        }
    }
}
