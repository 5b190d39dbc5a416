//! Networks: how much of an address is one source, and which addresses an administrator means.
#![forbid(unsafe_code)]

use super::source::Source;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// How many bits of an address make a network; 0 is none, so that all of a family are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefixes {
    /// Of an IPv4 address, 0 to 32; `None`: IPv4 is left out.
    pub v4: Option<u8>,
    /// Of an IPv6 address, 0 to 128; `None`: IPv6 is left out.
    pub v6: Option<u8>,
}

impl Prefixes {
    /// What these and others have in common, if they do.
    pub fn common(self, other: Prefixes) -> Option<Prefixes> {
        let same = |one: Option<u8>, other| one.filter(|_| one == other);
        let common = Prefixes { v4: same(self.v4, other.v4), v6: same(self.v6, other.v6) };
        (common.v4.is_some() || common.v6.is_some()).then_some(common)
    }
}

/// One IPv4 address, and one IPv6 network as a site or a household has it (RFC 6177).
impl Default for Prefixes {
    fn default() -> Self {
        Prefixes { v4: Some(32), v6: Some(64) }
    }
}

/// As `--max-per-source` takes them: one number up to 32 would be of IPv4.
impl fmt::Display for Prefixes {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (self.v4, self.v6) {
            (Some(v4), Some(v6)) => write!(f, "{v4},{v6}"),
            (None, Some(bits)) if bits <= 32 => write!(f, ",{bits}"),
            (Some(bits), None) | (None, Some(bits)) => write!(f, "{bits}"),
            (None, None) => f.write_str("none"),
        }
    }
}

/// A source as limits count it: a network of IP addresses, a user of a UNIX socket, a VSOCK context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    base: Source,
    bits: u8,
}

fn mask(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => mask_v6(ip, bits).into(),
    }
}

fn mask_v6(ip: Ipv6Addr, bits: u8) -> Ipv6Addr {
    let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
    Ipv6Addr::from_bits(ip.to_bits() & mask)
}

impl Network {
    /// That of `source`, for one of these prefixes. `None` for a source that nobody knows, and for a family that is left out.
    pub fn of(source: Source, prefixes: Prefixes) -> Option<Network> {
        let bits = match source {
            Source::Ip(IpAddr::V4(_)) => prefixes.v4?,
            Source::Ip(IpAddr::V6(_)) | Source::Link(..) => prefixes.v6?,
            Source::Uid(_) | Source::Cid(_) => 0,
            Source::Unknown => return None,
        };
        Some(Network { base: masked(source, bits), bits })
    }

    /// Its first address; the user or the context itself.
    pub fn base(self) -> Source {
        self.base
    }

    /// The address alone where all of its bits count.
    pub fn short(self) -> String {
        let bits = match self.base {
            Source::Ip(IpAddr::V4(_)) => 32,
            Source::Ip(IpAddr::V6(_)) | Source::Link(..) => 128,
            _ => 0,
        };
        if self.bits == bits { self.base.to_string() } else { self.to_string() }
    }

    /// A few bits that differ between most networks; others may choose them to be the same.
    pub(super) fn tag(self) -> u32 {
        let fold = |bits: u128| (bits ^ bits >> 64) as u64;
        let bits = match self.base {
            Source::Ip(IpAddr::V4(ip)) => ip.to_bits().into(),
            Source::Ip(IpAddr::V6(ip)) | Source::Link(ip, _) => fold(ip.to_bits()),
            Source::Uid(number) | Source::Cid(number) => number.into(),
            Source::Unknown => 0,
        };
        (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
    }

    /// The network around it with no more bits than these, of a family that they do not leave out.
    pub fn widened(self, prefixes: Prefixes) -> Network {
        Network::of(self.base, prefixes).filter(|wider| wider.bits < self.bits).unwrap_or(self)
    }

    /// Whether this source is in it. A network of IPv6 addresses contains those of each link.
    pub fn contains(self, source: Source) -> bool {
        match (self.base, source) {
            (Source::Ip(IpAddr::V6(base)), Source::Link(ip, _)) => mask_v6(ip, self.bits) == base,
            (Source::Ip(IpAddr::V4(_)), Source::Ip(IpAddr::V6(_)))
            | (Source::Ip(IpAddr::V6(_)), Source::Ip(IpAddr::V4(_))) => false,
            (_, source) => masked(source, self.bits) == self.base,
        }
    }
}

fn masked(source: Source, bits: u8) -> Source {
    match source {
        Source::Ip(ip) => Source::Ip(mask(ip, bits)),
        Source::Link(ip, interface) => Source::Link(mask_v6(ip, bits), interface),
        other => other,
    }
}

/// `192.0.2.0/24`, `fe80::%2/64`, `uid=1000`, `cid=3`.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.base {
            Source::Ip(_) | Source::Link(..) => write!(f, "{}/{}", self.base, self.bits),
            other => other.fmt(f),
        }
    }
}

/// An address, a CIDR (RFC 4632, 3.1), `uid=N` or `cid=N`. Bits beyond the prefix are ignored.
impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let expected =
            || "expected an address, a network such as 192.0.2.0/24 or 2001:db8::/32, uid=N or cid=N".to_owned();
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| expected())?)),
            None => (text, None),
        };
        match (address.parse::<IpAddr>(), bits) {
            (Ok(ip), bits) => {
                let of_v4 = |bits: u8| Some(bits).filter(|bits| *bits <= 32);
                // An IPv4-mapped network, or one behind NAT64, is one of IPv4 addresses, as their sources are.
                let as_source = match Source::ip(ip) {
                    Source::Ip(ip) => ip,
                    _ => ip,
                };
                let bits = match (ip, as_source, bits) {
                    (IpAddr::V4(_), _, bits) => of_v4(bits.unwrap_or(32)),
                    (_, IpAddr::V4(_), bits) => bits.unwrap_or(128).checked_sub(96).and_then(of_v4),
                    (.., bits) => Some(bits.unwrap_or(128)).filter(|bits| *bits <= 128),
                };
                let bits = bits.ok_or_else(expected)?;
                Ok(Network { base: Source::Ip(mask(as_source, bits)), bits })
            }
            (Err(_), None) => match text.parse() {
                Ok(base @ (Source::Uid(_) | Source::Cid(_))) => Ok(Network { base, bits: 0 }),
                _ => Err(expected()),
            },
            _ => Err(expected()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        text.parse().unwrap()
    }

    fn network(text: &str) -> Network {
        text.parse().unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    #[test]
    fn networks_at_their_borders() {
        for (inside, outside, of) in [
            ("192.0.2.0", "192.0.1.255", "192.0.2.0/24"),
            ("192.0.2.255", "192.0.3.0", "192.0.2.77/24"),
            ("192.0.2.1", "192.0.2.2", "192.0.2.1"),
            ("203.0.113.1", "::1", "0.0.0.0/0"),
            ("2001:db8:0:ffff:ffff:ffff:ffff:ffff", "2001:db8:1::", "2001:db8::/48"),
            ("2001:db8::1", "2001:db8::2", "2001:db8::1/128"),
            ("::ffff:192.0.2.9", "192.0.3.9", "::ffff:192.0.2.0/120"),
            ("64:ff9b::192.0.2.9", "192.0.3.9", "192.0.2.0/24"),
            ("192.0.2.9", "192.0.3.9", "64:ff9b::192.0.2.0/120"),
            ("64:ff9b::192.0.2.9", "192.0.2.8", "64:ff9b::192.0.2.9"),
            ("64:ff9b::192.0.2.9", "64:ff9b:1::192.0.2.9", "64:ff9b::/96"),
            ("2001:db8::1", "192.0.2.1", "::/0"),
            ("fe80::1%3", "fec0::1%3", "fe80::/10"),
            ("uid=7", "uid=8", "uid=7"),
            ("cid=7", "uid=7", "cid=7"),
        ] {
            assert!(network(of).contains(source(inside)), "{inside} in {of}");
            assert!(!network(of).contains(source(outside)), "{outside} not in {of}");
            assert!(!network(of).contains(Source::Unknown));
        }
    }

    #[test]
    fn what_is_no_network() {
        for bad in [
            "",
            "/",
            "192.0.2.1/33",
            "::/129",
            "::ffff:192.0.2.0/95",
            "64:ff9b::/95",
            "host",
            "uid=",
            "uid=1/8",
            "?",
            "1.2.3/8",
            "1.2.3.4/-1",
            "fe80::1%3",
        ] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_source_s_network() {
        let of = |text: &str, v4, v6| Network::of(source(text), Prefixes { v4, v6 }).map(|network| network.to_string());
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(of("192.0.2.77", Some(32), Some(64)), is("192.0.2.77/32"));
        assert_eq!(of("192.0.2.77", Some(25), None), is("192.0.2.0/25"));
        assert_eq!(of("192.0.2.77", Some(0), None), is("0.0.0.0/0"));
        assert_eq!(of("192.0.2.77", None, Some(64)), None);
        assert_eq!(of("2001:db8:1:2:3::4", Some(32), Some(64)), is("2001:db8:1:2::/64"));
        assert_eq!(of("2001:db8:1:2:3::4", Some(32), Some(0)), is("::/0"));
        assert_eq!(of("2001:db8:1:2:3::4", Some(32), None), None);
        assert_eq!(of("64:ff9b::c000:24d", Some(32), Some(64)), is("192.0.2.77/32"), "behind NAT64");
        assert_eq!(of("fe80::1%3", Some(32), Some(64)), is("fe80::%3/64"));
        assert_eq!(of("uid=7", None, None), is("uid=7"));
        assert_eq!(of("cid=7", None, None), is("cid=7"));
        assert_eq!(of("?", Some(32), Some(64)), None, "never limited");
    }

    #[test]
    fn prefixes_in_common() {
        let common = |one: [Option<u8>; 2], other: [Option<u8>; 2]| {
            let [one, other] = [one, other].map(|[v4, v6]| Prefixes { v4, v6 });
            one.common(other).map(|common| common.to_string())
        };
        assert_eq!(common([Some(32), Some(64)], [Some(32), Some(64)]).as_deref(), Some("32,64"));
        assert_eq!(common([Some(32), Some(64)], [Some(32), None]).as_deref(), Some("32"));
        assert_eq!(common([Some(24), Some(64)], [None, Some(64)]).as_deref(), Some("64"));
        assert_eq!(common([Some(32), Some(64)], [None, Some(48)]), None);
        assert_eq!(common([None, Some(64)], [Some(24), None]), None);
    }

    #[test]
    fn no_more_bits_than_may_be_shown() {
        let of = |text: &str| {
            Network::of(source(text), Prefixes::default())
                .unwrap()
                .widened(Prefixes { v4: Some(24), v6: Some(48) })
                .to_string()
        };
        assert_eq!(of("192.0.2.77"), "192.0.2.0/24");
        assert_eq!(of("2001:db8:1:2::4"), "2001:db8:1::/48");
        assert_eq!(of("uid=7"), "uid=7");
    }

    #[test]
    fn the_bits_are_told_where_not_all_count() {
        let of = |text: &str, v4, v6| Network::of(source(text), Prefixes { v4, v6 }).unwrap().short();
        for (text, v4, v6, short) in [
            ("192.0.2.77", Some(32), None, "192.0.2.77"),
            ("192.0.2.77", Some(31), None, "192.0.2.76/31"),
            ("2001:db8::4", None, Some(128), "2001:db8::4"),
            ("2001:db8::4", None, Some(127), "2001:db8::4/127"),
            ("2001:db8::4", None, Some(32), "2001:db8::/32"),
            ("fe80::1%3", None, Some(128), "fe80::1%3"),
            ("fe80::1%3", None, Some(64), "fe80::%3/64"),
            ("uid=7", None, None, "uid=7"),
            ("cid=7", None, None, "cid=7"),
        ] {
            assert_eq!(of(text, v4, v6), short);
        }
    }

    /// Whatever is next to each other, in either half of an address: an index of what is alike would be a list.
    #[test]
    fn tags_of_neighbours_differ() {
        let tags = |source: &dyn Fn(u32) -> Source| {
            let prefixes = Prefixes { v4: Some(32), v6: Some(128) };
            let tags = (0..1000).map(|n| Network::of(source(n), prefixes).unwrap().tag());
            tags.collect::<std::collections::HashSet<_>>().len()
        };
        let v6 = |bits: u128| Source::Ip(Ipv6Addr::from_bits(bits).into());
        assert!(tags(&|n| Source::Ip(Ipv4Addr::from_bits(0xc000_0000 | n).into())) > 990);
        assert!(tags(&|n| v6(0x2001 << 112 | u128::from(n))) > 990);
        assert!(tags(&|n| v6(0x2001 << 112 | u128::from(n) << 64)) > 990);
        assert!(tags(&|n| v6(0x2001 << 112 | u128::from(n) << 64 | u128::from(n) << 20)) > 990);
        assert!(tags(&Source::Uid) > 990);
    }
}
