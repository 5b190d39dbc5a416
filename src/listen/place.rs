//! `--listen`: our own listening sockets, for use without systemd.
//!
//! `PORT`, `HOST:PORT`, `[::1]:PORT`, `/path`, `@abstract`, `vsock:CID:PORT`. A bare port listens on IPv6
//! and IPv4 with one socket, as `ListenStream=PORT` does (systemd.socket(5)).
#![forbid(unsafe_code)]

use super::Listener;
use crate::sys::socket;
use nix::sys::socket as ns;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
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
        match text.rsplit_once(':') {
            None if text.is_empty() => Err("an address is missing".into()),
            None => Ok(Place::Port(port(text).map_err(|_| {
                "expected PORT, HOST:PORT, [IPV6]:PORT, /path, @abstract or vsock:CID:PORT".to_string()
            })?)),
            Some((host, number)) => {
                let inner = host.strip_prefix('[').map(|h| h.strip_suffix(']').ok_or("a ']' is missing"));
                let host = match inner {
                    Some(inner) => inner?,
                    None if host.contains(':') => return Err("an IPv6 address needs brackets: [::1]:PORT".into()),
                    None if host.is_empty() => return Err("a host is missing before the ':'".into()),
                    None => host,
                };
                Ok(Place::Host(host.to_owned(), port(number)?))
            }
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

/// Opens what `text` names; a host name may give several sockets.
///
/// # Errors
/// socket(2)'s, bind(2)'s and listen(2)'s; `AddrInUse` if somebody listens at that path.
pub fn open(place: &Place, text: &str, family: Family) -> io::Result<Vec<Listener>> {
    let finish = |fd: OwnedFd| -> io::Result<Listener> {
        socket::listen(fd.as_fd(), i32::MAX)?;
        let mut listener = Listener::new(fd, text.to_owned()).map_err(|unfit| io::Error::other(unfit.to_string()))?;
        listener.is_own = true;
        Ok(listener)
    };
    match place {
        Place::Port(port) => {
            let any4 = || tcp((Ipv4Addr::UNSPECIFIED, *port).into(), false).and_then(finish);
            let any6 = |only| tcp((Ipv6Addr::UNSPECIFIED, *port).into(), only).and_then(finish);
            Ok(vec![match family {
                Family::V4 => any4()?,
                Family::V6 => any6(true)?,
                // A kernel without IPv6 still serves.
                Family::Any => match any6(false) {
                    Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => any4()?,
                    other => other?,
                },
            }])
        }
        Place::Host(host, port) => {
            let fits = |at: &SocketAddr| match family {
                Family::Any => true,
                Family::V4 => at.is_ipv4(),
                Family::V6 => at.is_ipv6(),
            };
            let mut at: Vec<SocketAddr> = match host.parse::<IpAddr>() {
                Ok(ip) => vec![(ip, *port).into()],
                Err(_) => (host.as_str(), *port).to_socket_addrs()?.collect(),
            };
            at.retain(fits);
            at.dedup();
            if at.is_empty() {
                return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "no address of the wanted IP version"));
            }
            at.into_iter().map(|at| tcp(at, true).and_then(finish)).collect()
        }
        Place::Path(path) => {
            let fd = unix(&ns::UnixAddr::new(path)?, path)?;
            let mut listener = finish(fd)?;
            listener.unlink = Some(path.clone());
            Ok(vec![listener])
        }
        Place::Abstract(name) => {
            let fd = stream(ns::AddressFamily::Unix)?;
            ns::bind(fd.as_raw_fd(), &ns::UnixAddr::new_abstract(name.as_bytes())?)?;
            Ok(vec![finish(fd)?])
        }
        Place::Vsock(cid, port) => {
            let fd = stream(ns::AddressFamily::Vsock)?;
            ns::bind(fd.as_raw_fd(), &ns::VsockAddr::new(*cid, *port))?;
            Ok(vec![finish(fd)?])
        }
    }
}

fn stream(family: ns::AddressFamily) -> io::Result<OwnedFd> {
    Ok(ns::socket(family, ns::SockType::Stream, ns::SockFlag::SOCK_CLOEXEC, None)?)
}

fn tcp(at: SocketAddr, v6_only: bool) -> io::Result<OwnedFd> {
    let fd = stream(if at.is_ipv4() { ns::AddressFamily::Inet } else { ns::AddressFamily::Inet6 })?;
    ns::setsockopt(&fd, ns::sockopt::ReuseAddr, &true)?;
    if at.is_ipv6() {
        ns::setsockopt(&fd, ns::sockopt::Ipv6V6Only, &v6_only)?;
    }
    ns::bind(fd.as_raw_fd(), &ns::SockaddrStorage::from(at))?;
    Ok(fd)
}

/// Binds at a path. A socket file that nobody listens on any more is replaced, as systemd does
/// (`socket_address_listen` unlinks on EADDRINUSE); one that answers is left alone, and so is any other file.
fn unix(at: &ns::UnixAddr, path: &Path) -> io::Result<OwnedFd> {
    let fd = stream(ns::AddressFamily::Unix)?;
    match ns::bind(fd.as_raw_fd(), at) {
        Ok(()) => return Ok(fd),
        Err(nix::Error::EADDRINUSE) => {}
        Err(error) => return Err(error.into()),
    }
    let is_socket = std::os::unix::fs::FileTypeExt::is_socket(&std::fs::symlink_metadata(path)?.file_type());
    let probe = stream(ns::AddressFamily::Unix)?;
    if !is_socket || ns::connect(probe.as_raw_fd(), at) != Err(nix::Error::ECONNREFUSED) {
        return Err(nix::Error::EADDRINUSE.into());
    }
    std::fs::remove_file(path)?;
    ns::bind(fd.as_raw_fd(), at)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_table() {
        assert_eq!("873".parse(), Ok(Place::Port(873)));
        assert_eq!("127.0.0.1:0".parse(), Ok(Place::Host("127.0.0.1".into(), 0)));
        assert_eq!("[::1]:80".parse(), Ok(Place::Host("::1".into(), 80)));
        assert_eq!("localhost:80".parse(), Ok(Place::Host("localhost".into(), 80)));
        assert_eq!("/run/x".parse(), Ok(Place::Path("/run/x".into())));
        assert_eq!("@x".parse(), Ok(Place::Abstract("x".into())));
        assert_eq!("vsock:2:873".parse(), Ok(Place::Vsock(2, 873)));
        assert_eq!("vsock::873".parse(), Ok(Place::Vsock(libc::VMADDR_CID_ANY, 873)));
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
