//! How much of a client is logged: `--log-peer`, for those who may not store addresses.
#![forbid(unsafe_code)]

use crate::peer::Peer;
use crate::policy::network::{Network, Prefixes};
use crate::policy::source::Source;
use crate::sys::socket::{Address, Ip};
use std::fmt;
use std::net::{IpAddr, SocketAddrV6};

/// What [`LogPeer::Prefix`] shows.
const SHOWN: Prefixes = Prefixes { v4: Some(24), v6: Some(48) };

/// How much of a client is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogPeer {
    /// Address and port; user and process of a UNIX peer.
    Full,
    /// The first 24 bits of an IPv4 address, 48 of an IPv6 address: a network, no person. The user of a UNIX peer.
    Prefix,
    /// Nothing.
    None,
}

impl fmt::Display for LogPeer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            LogPeer::Full => "full",
            LogPeer::Prefix => "prefix",
            LogPeer::None => "none",
        })
    }
}

/// A client, as far as the log shows it.
#[derive(Clone, Debug)]
pub struct ShownPeer {
    peer: Peer,
    detail: LogPeer,
}

impl ShownPeer {
    /// This much of this client.
    pub fn new(peer: Peer, detail: LogPeer) -> Self {
        ShownPeer { peer, detail }
    }

    /// For the journal fields that hold just an address and a port.
    pub fn address(&self) -> (Option<String>, Option<u64>) {
        match (self.detail, &self.peer.address) {
            (LogPeer::Full, Address::Ip(at)) => (Some(Ip(at).to_string()), Some(at.port().into())),
            (LogPeer::Full, Address::Vsock { cid, port }) => (Some(format!("vsock:{cid}")), Some((*port).into())),
            (LogPeer::Full, Address::Unix(Some(name))) => (Some(String::from_utf8_lossy(name).into_owned()), None),
            (LogPeer::Prefix, Address::Ip(at)) => (Some(network(at.ip())), None),
            (LogPeer::Prefix, Address::Vsock { cid, .. }) => (Some(format!("vsock:{cid}")), None),
            _ => (None, None),
        }
    }
}

impl fmt::Display for ShownPeer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (self.detail, &self.peer.address, self.peer.credentials) {
            (LogPeer::Full, ..) => self.peer.fmt(f),
            (LogPeer::Prefix, Address::Ip(at), _) => f.write_str(&network(at.ip())),
            (LogPeer::Prefix, Address::Vsock { cid, .. }, _) => write!(f, "vsock {cid}"),
            (LogPeer::Prefix, _, Some((_, uid, _))) => write!(f, "uid {uid}"),
            _ => f.write_str("a client"),
        }
    }
}

/// A client of whom no more is known than whom it was counted for: in words, and for the journal field that holds just an address.
pub fn shown_client(source: Source, detail: LogPeer) -> (String, Option<String>) {
    let address = match source {
        Source::Ip(ip) => Address::Ip((ip, 0).into()),
        Source::Link(ip, interface) => Address::Ip(SocketAddrV6::new(ip, 0, 0, interface).into()),
        Source::Cid(cid) => Address::Vsock { cid, port: 0 },
        Source::Uid(_) | Source::Unknown => Address::Other,
    };
    let shown = ShownPeer::new(Peer::new(address, None), detail);
    let words = match (detail, source) {
        (LogPeer::None, _) => shown.to_string(),
        (_, Source::Uid(uid)) => format!("uid {uid}"),
        (_, Source::Cid(cid)) => format!("vsock {cid}"),
        _ => shown.address().0.unwrap_or_else(|| shown.to_string()),
    };
    (words, shown.address().0)
}

impl LogPeer {
    /// How much of an address makes a network that may be shown, where so much of it makes a source; `None`: nothing may be shown.
    pub fn prefixes(self, of_a_source: Prefixes) -> Option<Prefixes> {
        let less = |one: Option<u8>, other: Option<u8>| one.map(|one| other.map_or(one, |other| one.min(other)));
        match self {
            LogPeer::Full => Some(of_a_source),
            LogPeer::Prefix => {
                Some(Prefixes { v4: less(of_a_source.v4, SHOWN.v4), v6: less(of_a_source.v6, SHOWN.v6) })
            }
            LogPeer::None => None,
        }
    }
}

/// The network of a limit, as far as the log shows it.
pub fn shown_source(network: Network, detail: LogPeer) -> Option<String> {
    match detail {
        LogPeer::Full => Some(network.to_string()),
        LogPeer::Prefix => Some(network.widened(SHOWN).to_string()),
        LogPeer::None => None,
    }
}

fn network(ip: IpAddr) -> String {
    Network::of(Source::Ip(ip.to_canonical()), SHOWN).map_or_else(String::new, |network| network.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_tells_a_network_and_none_tells_nothing() {
        let told = |address: Address, detail| {
            let peer = ShownPeer::new(Peer { address, credentials: Some((7, 1000, 100)) }, detail);
            (peer.to_string(), peer.address())
        };
        let ip = |text: &str| Address::Ip(text.parse().unwrap());
        let network = |text: &str| (text.to_owned(), (Some(text.to_owned()), None));
        assert_eq!(told(ip("192.0.2.77:873"), LogPeer::Prefix), network("192.0.2.0/24"));
        assert_eq!(told(ip("[2001:db8:1:2::3]:873"), LogPeer::Prefix), network("2001:db8:1::/48"));
        assert_eq!(
            told(Address::Unix(Some(b"/home/me".to_vec().into())), LogPeer::Prefix),
            ("uid 1000".into(), (None, None))
        );
        for address in [ip("192.0.2.77:873"), Address::Unix(None), Address::Vsock { cid: 3, port: 4 }] {
            assert_eq!(told(address, LogPeer::None), ("a client".into(), (None, None)));
        }
        let full = ("192.0.2.77 port 873".into(), (Some("192.0.2.77".into()), Some(873)));
        assert_eq!(told(ip("192.0.2.77:873"), LogPeer::Full), full);
    }

    #[test]
    fn no_more_of_a_source_is_shown_than_of_a_client() {
        let shown = |detail: LogPeer, v4, v6| detail.prefixes(Prefixes { v4, v6 }).map(|shown| shown.to_string());
        assert_eq!(shown(LogPeer::Full, Some(32), Some(64)).as_deref(), Some("32,64"));
        assert_eq!(shown(LogPeer::Prefix, Some(32), Some(64)).as_deref(), Some("24,48"));
        assert_eq!(shown(LogPeer::Prefix, Some(16), Some(0)).as_deref(), Some("16,0"));
        assert_eq!(shown(LogPeer::Prefix, Some(25), None).as_deref(), Some("24"));
        assert_eq!(shown(LogPeer::None, Some(32), Some(64)), None);
    }

    #[test]
    fn a_source_is_shown_as_its_clients_are() {
        let told = |source: &str, detail| shown_client(source.parse().unwrap(), detail);
        let address = |text: &str| (text.to_owned(), Some(text.to_owned()));
        let words = |text: &str| (text.to_owned(), None);
        for (source, full, prefix) in [
            ("192.0.2.77", address("192.0.2.77"), address("192.0.2.0/24")),
            ("2001:db8:1:2::3", address("2001:db8:1:2::3"), address("2001:db8:1::/48")),
            ("fe80::1%4294967295", address("fe80::1%4294967295"), address("fe80::/48")),
            ("uid=7", words("uid 7"), words("uid 7")),
            ("cid=3", ("vsock 3".into(), Some("vsock:3".into())), ("vsock 3".into(), Some("vsock:3".into()))),
            ("?", words("an unknown peer"), words("a client")),
        ] {
            assert_eq!(told(source, LogPeer::Full), full);
            assert_eq!(told(source, LogPeer::Prefix), prefix);
            assert_eq!(told(source, LogPeer::None), words("a client"));
        }
    }
}
