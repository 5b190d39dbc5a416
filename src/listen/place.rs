//! `--listen`: where to listen, as typed.
//!
//! `PORT`, `HOST:PORT`, `[::1]:PORT`, `/path`, `@abstract`, `vsock:CID:PORT`. What else people type is answered with what to type.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

/// Where to listen, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A bare port: every address.
    Port(u16),
    /// An address, or a name that may have several.
    Host(String, u16),
    /// A UNIX stream socket at this path.
    Path(PathBuf),
    /// A UNIX stream socket in the abstract namespace, without the `@`.
    Abstract(String),
    /// VSOCK context id and port; an empty CID is any.
    Vsock(u32, u32),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |port: &str| port.parse::<u16>().map_err(|_| format!("'{port}' is not a port from 0 to 65535"));
        if let Some(rest) = text.strip_prefix("vsock:") {
            let (cid, port) = rest.split_once(':').ok_or("vsock needs the form vsock:CID:PORT")?;
            let any = if cid.is_empty() { Ok(libc::VMADDR_CID_ANY) } else { cid.parse() };
            let cid = any.map_err(|_| format!("'{cid}' is not a VSOCK context id"))?;
            return Ok(Place::Vsock(cid, port.parse().map_err(|_| format!("'{port}' is not a VSOCK port"))?));
        }
        if text.starts_with('/') {
            return match text.len() {
                2..108 => Ok(Place::Path(text.into())),
                _ => Err("a UNIX socket's path has 1 to 107 bytes".into()),
            };
        }
        if let Some(name) = text.strip_prefix('@') {
            return match name.len() {
                1..107 => Ok(Place::Abstract(name.into())),
                _ => Err("an abstract name has 1 to 106 bytes".into()),
            };
        }
        if let Some(hint) = hint(text) {
            return Err(hint);
        }
        match text.rsplit_once(':') {
            None => Ok(Place::Port(port(text)?)),
            Some((host, number)) => {
                let inner = host.strip_prefix('[').map(|h| h.strip_suffix(']').ok_or("a ']' is missing"));
                let host = match inner {
                    Some(inner) => inner?,
                    None => host,
                };
                Ok(Place::Host(host.to_owned(), port(number)?))
            }
        }
    }
}

/// What to type instead of an address in a form that is not ours, as systemd, ssh, Go or a browser have it.
fn hint(text: &str) -> Option<String> {
    let write = |right: &str| Some(format!("write '{right}'"));
    if text.is_empty() {
        return Some("an address is missing".into());
    }
    if let Some((scheme, rest)) = text.split_once(':') {
        let rest = rest.strip_prefix("//").unwrap_or(rest).trim_end_matches('/');
        let is_port = rest.parse::<u16>().is_ok();
        match scheme {
            "" | "*" if is_port => return Some(format!("write '{rest}' for all addresses")),
            "udp" => {
                return Some(
                    "UDP has no connections, so there is nothing to limit; for TCP write the port alone".into(),
                );
            }
            "tcp" | "tcp4" | "tcp6" | "http" | "https" if !rest.is_empty() => return write(rest),
            "unix" | "local" if !rest.is_empty() => return write(rest),
            _ => {}
        }
    }
    let missing_port = || Some(format!("a port is missing: write '{text}:PORT'"));
    if text.parse::<Ipv4Addr>().is_ok() || (text.starts_with('[') && text.ends_with(']')) {
        return missing_port();
    }
    if text.contains([',', ' ']) {
        return Some("give --listen once for each address; in SOCKCAP_LISTEN put blanks between them".into());
    }
    // "::1:7000" is an address, too, but hardly the one that was meant.
    let with_port = |(host, port): (&str, &str)| host.parse::<Ipv6Addr>().is_ok() && port.parse::<u16>().is_ok();
    if text.parse::<Ipv6Addr>().is_ok() && !text.rsplit_once(':').is_some_and(with_port) {
        return Some(format!("an IPv6 address needs brackets, and a port: write '[{text}]:PORT'"));
    }
    match text.rsplit_once(':') {
        Some(("", _)) => Some("a host is missing before the ':'".into()),
        Some((_, "")) => Some("a port is missing after the ':'".into()),
        Some((host, port)) if host.contains(':') && !host.starts_with('[') => {
            Some(format!("an IPv6 address needs brackets: write '[{host}]:{port}'"))
        }
        None if text.contains('/') => Some("a UNIX socket's path begins with '/'".into()),
        None if text.parse::<f64>().is_err() => missing_port(),
        _ => None,
    }
}

impl Place {
    /// The IP version of an address; `None` if it is none, but a name, a port or no address of IP.
    pub fn ip_version(&self) -> Option<Family> {
        let Place::Host(host, _) = self else { return None };
        let address = host.split('%').next().unwrap_or(host); // without its zone
        match address.parse().ok()? {
            IpAddr::V4(_) => Some(Family::V4),
            IpAddr::V6(_) => Some(Family::V6),
        }
    }
}

/// Which IP versions a bare port or a name may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Both.
    Any,
    /// `--ipv4`.
    V4,
    /// `--ipv6`.
    V6,
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Family::Any => "IPv4 and IPv6",
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_table() {
        assert_eq!("873".parse(), Ok(Place::Port(873)));
        assert_eq!("127.0.0.1:0".parse(), Ok(Place::Host("127.0.0.1".into(), 0)));
        assert_eq!("[::1]:80".parse(), Ok(Place::Host("::1".into(), 80)));
        assert_eq!("[fe80::1%eth0]:80".parse(), Ok(Place::Host("fe80::1%eth0".into(), 80)));
        assert_eq!("localhost:80".parse(), Ok(Place::Host("localhost".into(), 80)));
        assert_eq!("/run/x".parse(), Ok(Place::Path("/run/x".into())));
        assert_eq!("@x".parse(), Ok(Place::Abstract("x".into())));
        assert_eq!("vsock:2:873".parse(), Ok(Place::Vsock(2, 873)));
        assert_eq!("vsock::873".parse(), Ok(Place::Vsock(libc::VMADDR_CID_ANY, 873)));
    }

    #[test]
    fn other_forms_are_answered_with_ours() {
        for (typed, answer) in [
            (":8080", "write '8080' for all addresses"),
            ("*:8080", "write '8080' for all addresses"),
            ("[::1]", "a port is missing: write '[::1]:PORT'"),
            ("127.0.0.1", "a port is missing: write '127.0.0.1:PORT'"),
            ("::1", "an IPv6 address needs brackets, and a port: write '[::1]:PORT'"),
            ("udp:53", "UDP has no connections, so there is nothing to limit; for TCP write the port alone"),
            ("tcp:8080", "write '8080'"),
            ("tcp://127.0.0.1:8080", "write '127.0.0.1:8080'"),
            ("http://localhost:8080/", "write 'localhost:8080'"),
            ("unix:/run/x", "write '/run/x'"),
            ("2001:db8::1:x", "an IPv6 address needs brackets: write '[2001:db8::1]:x'"),
            ("run/x", "a UNIX socket's path begins with '/'"),
            ("localhost", "a port is missing: write 'localhost:PORT'"),
            ("localhost:", "a port is missing after the ':'"),
            ("::1:7000", "an IPv6 address needs brackets: write '[::1]:7000'"),
            ("fe80::1", "an IPv6 address needs brackets, and a port: write '[fe80::1]:PORT'"),
            ("a:1,b:2", "give --listen once for each address; in SOCKCAP_LISTEN put blanks between them"),
            ("1 2", "give --listen once for each address; in SOCKCAP_LISTEN put blanks between them"),
            ("65536", "'65536' is not a port from 0 to 65535"),
            ("localhost:http", "'http' is not a port from 0 to 65535"),
        ] {
            assert_eq!(typed.parse::<Place>(), Err(answer.to_owned()), "{typed}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let long = format!("/{}", "x".repeat(107));
        for bad in [
            "",
            "x",
            "65536",
            "-1",
            ":80",
            "::1:80",
            "[::1:80",
            "[::1]:x",
            "h:99999",
            "/",
            "@",
            "vsock:1",
            "vsock:x:1",
            &long,
        ] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }
}
