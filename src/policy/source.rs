//! Who a connection comes from, as a key to count by.
//!
//! An IPv4-mapped IPv6 address is the IPv4 address, so that a dual-stack listener and an IPv4 one agree. So is an address behind the
//! well-known prefix of NAT64: all IPv4 hosts would be one /64 otherwise.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// `64:ff9b::/96` (RFC 6052, 2.1).
const NAT64: u128 = 0x0064_ff9b << 64;

/// The source of a connection. Keys are chosen by peers, so tables over them use the standard library's flood-proof hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A full IPv4 or IPv6 address.
    Ip(IpAddr),
    /// An address of one link (`fe80::/10`), and the number of the interface that leads there: on another link it is another host.
    Link(Ipv6Addr, u32),
    /// The user id of a UNIX socket's peer (`SO_PEERCRED`, unix(7)).
    Uid(u32),
    /// The context id of a VSOCK peer (vsock(7)).
    Cid(u32),
    /// Nothing is known, since the peer had already gone.
    Unknown,
}

impl Source {
    /// The source of an IP peer.
    pub fn at(at: &SocketAddr) -> Self {
        match at {
            SocketAddr::V6(at) if at.scope_id() != 0 => Source::Link(*at.ip(), at.scope_id()),
            at => Source::ip(at.ip()),
        }
    }

    /// The source of an IP peer, with IPv4-mapped addresses and those of NAT64 folded into IPv4.
    pub fn ip(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V6(ip) if ip.to_bits() >> 32 == NAT64 => {
                Source::Ip(Ipv4Addr::from_bits(ip.to_bits() as u32).into())
            }
            other => Source::Ip(other.to_canonical()),
        }
    }
}

/// One word, which [`FromStr`] reads again.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Source::Ip(ip) => write!(f, "{ip}"),
            Source::Link(ip, interface) => write!(f, "{ip}%{interface}"),
            Source::Uid(uid) => write!(f, "uid={uid}"),
            Source::Cid(cid) => write!(f, "cid={cid}"),
            Source::Unknown => f.write_str("?"),
        }
    }
}

impl FromStr for Source {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        if let Some((ip, interface)) = word.split_once('%') {
            let interface = interface.parse().map_err(drop)?;
            return ip.parse().map(|ip| Source::Link(ip, interface)).map_err(drop);
        }
        match word.split_once('=') {
            Some(("uid", uid)) => uid.parse().map(Source::Uid).map_err(drop),
            Some(("cid", cid)) => cid.parse().map(Source::Cid).map_err(drop),
            _ if word == "?" => Ok(Source::Unknown),
            _ => word.parse().map(Source::ip).map_err(drop),
        }
    }
}

/// How many connections of each source are being served: what `TCPCONNNUM` and `IPCCONNNUM` tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sources {
    live: HashMap<Source, u32>,
}

impl Sources {
    /// Counts one more.
    pub fn enter(&mut self, source: Source) {
        *self.live.entry(source).or_insert(0) += 1;
    }

    /// How many of this source there are now.
    pub fn count(&self, source: Source) -> u32 {
        self.live.get(&source).copied().unwrap_or(0)
    }

    /// Counts one less; a source without connections is forgotten.
    pub fn leave(&mut self, source: Source) {
        if let Some(n) = self.live.get_mut(&source) {
            *n -= 1;
            if *n == 0 {
                self.live.remove(&source);
            }
        }
    }

    /// Each, with how many of it there are, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Source, u32)> {
        self.live.iter().map(|(source, count)| (*source, *count))
    }

    /// Sources that have at least one connection.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether nobody is being served.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_for_each() {
        let ip = |text: &str| Source::ip(text.parse().unwrap());
        let link = Source::at(&"[fe80::1%3]:873".parse().unwrap());
        assert_eq!(link.to_string(), "fe80::1%3");
        for source in [ip("192.0.2.1"), ip("2001:db8::1"), link, Source::Uid(7), Source::Cid(3), Source::Unknown] {
            assert_eq!(source.to_string().parse(), Ok(source));
        }
        for bad in ["", "-", "uid", "uid=x", "gid=1", "1.2.3"] {
            assert_eq!(bad.parse::<Source>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn mapped_is_ipv4_and_counts_come_back_to_nothing() {
        let mut sources = Sources::default();
        let v4 = Source::ip("192.0.2.1".parse().unwrap());
        let mapped = Source::ip("::ffff:192.0.2.1".parse().unwrap());
        for (source, count) in [(v4, 1), (mapped, 2), (Source::Uid(0), 1)] {
            sources.enter(source);
            assert_eq!(sources.count(source), count);
        }
        assert_eq!(sources.count(Source::Uid(1)), 0);
        assert!(sources.len() == 2 && !sources.is_empty());
        sources.leave(v4);
        sources.leave(mapped);
        sources.leave(Source::Uid(0));
        sources.leave(Source::Uid(7));
        assert!(sources.is_empty());
    }
}
