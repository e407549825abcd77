//! The arithmetic of ranges: which addresses of a range can be given out, and in which order its two bands are.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

/// The addresses of a range that can be given out: not the network's own, and not an IPv4 range's last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usable {
    first: u128,
    last: u128,
    v4: bool,
    /// How many addresses the range has, usable or not.
    whole: u128,
}

impl Usable {
    pub(super) fn of(range: &IpNet) -> Self {
        let (network, broadcast) = (number(range.network()), number(range.broadcast()));
        let v4 = range.addr().is_ipv4();
        Self {
            first: network.saturating_add(1),
            last: if v4 { broadcast.saturating_sub(1) } else { broadcast },
            v4,
            whole: (broadcast - network).saturating_add(1),
        }
    }

    fn size(&self) -> u128 {
        self.last.saturating_add(1).saturating_sub(self.first)
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.v4 && (self.first..=self.last).contains(&number(address))
    }

    pub(super) fn at(&self, offset: u128) -> IpAddr {
        let number = self.first + offset;
        if self.v4 {
            let number = u32::try_from(number).expect("an offset within an IPv4 range gives an IPv4 address");
            IpAddr::V4(number.into())
        } else {
            IpAddr::V6(number.into())
        }
    }

    /// Where an address stands in the range, if it does.
    pub(super) fn offset(&self, address: IpAddr) -> Option<u128> {
        self.contains(address).then(|| number(address) - self.first)
    }

    /// Upstream's bands for addresses.
    pub(super) fn bands(&self) -> [RangeInclusive<u128>; 2] {
        bands(self.size(), lower(self.whole, 16, 256))
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

/// Upstream's bands for a range of ports.
pub(super) fn port_bands(size: u128) -> [RangeInclusive<u128>; 2] {
    bands(size, lower(size, 32, 128))
}

/// How many places the lower band has: `size / divisor`, at least 16 and at most `largest`. Upstream leaves a range
/// alone that is no larger than the smallest band.
fn lower(size: u128, divisor: u128, largest: u128) -> u128 {
    if size <= 16 { 0 } else { (size / divisor).clamp(16, largest) }
}

/// The upper band, which is given out first, and the lower one, as offsets.
fn bands(size: u128, lower: u128) -> [RangeInclusive<u128>; 2] {
    let empty = RangeInclusive::new(1, 0);
    let lower = lower.min(size);
    let upper = if size > lower { lower..=size - 1 } else { empty.clone() };
    [upper, if lower == 0 { empty } else { 0..=lower - 1 }]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usable(range: &str) -> Usable {
        Usable::of(&range.parse().unwrap())
    }

    #[test]
    fn network_and_broadcast_addresses_are_not_given_out() {
        let range = usable("10.96.0.0/24");
        assert_eq!(range.size(), 254);
        for (address, inside) in
            [("10.96.0.0", false), ("10.96.0.1", true), ("10.96.0.254", true), ("10.96.0.255", false)]
        {
            assert_eq!(range.contains(address.parse().unwrap()), inside, "{address}");
        }
        assert_eq!(range.at(0).to_string(), "10.96.0.1");
        assert_eq!(range.offset("10.96.0.10".parse().unwrap()), Some(9));
        assert_eq!(range.offset("10.95.0.10".parse().unwrap()), None);
        assert!(!range.contains("fd00::1".parse().unwrap()));
        let six = usable("fd00::/120");
        assert!(six.contains("fd00::ff".parse().unwrap()) && !six.contains("fd00::".parse().unwrap()));
    }

    #[test]
    fn ranges_of_every_length_have_a_size() {
        for (range, size) in [
            ("10.96.0.0/32", 0),
            ("10.96.0.0/31", 0),
            ("10.96.0.0/30", 2),
            ("255.255.255.252/30", 2),
            ("0.0.0.0/0", (1 << 32) - 2),
            ("fd00::/128", 0),
            ("fd00::/127", 1),
            ("fd00::/64", (1 << 64) - 1),
            ("::/0", u128::MAX - 1),
        ] {
            let range = usable(range);
            assert!(range.size() == size || (size == u128::MAX - 1 && range.size() >= size), "{range:?}");
            for band in range.bands().into_iter().filter(|band| !band.is_empty()) {
                assert!(
                    range.contains(range.at(*band.start())) && range.contains(range.at(*band.end())),
                    "{range:?}"
                );
            }
        }
    }

    #[test]
    fn the_lower_band_has_upstreams_size() {
        for (range, upper, lower) in [
            ("10.96.0.0/24", 16..=253, 0..=15),
            ("10.96.0.0/12", 256..=1_048_573, 0..=255),
            ("10.96.0.0/20", 256..=4093, 0..=255),
            ("10.96.0.0/21", 128..=2045, 0..=127),
            ("10.96.0.0/27", 16..=29, 0..=15),
        ] {
            assert_eq!(usable(range).bands(), [upper, lower], "{range}");
        }
        assert_eq!(usable("10.96.0.0/28").bands()[0], 0..=13);
        assert!(usable("10.96.0.0/28").bands()[1].is_empty());
        assert_eq!(port_bands(2768), [86..=2767, 0..=85]);
        assert!(port_bands(16)[1].is_empty());
    }
}
