//! `--listen`: our own listening sockets, for use without systemd.
//!
//! A bare port listens on IPv6 and IPv4 with one socket, as `ListenStream=PORT` does (systemd.socket(5)). Connections have
//! keepalive, so that a client whose machine has gone does not keep its place for ever.
#![forbid(unsafe_code)]

use super::Listener;
use super::path::OwnPath;
use super::place::{Family, Place};
use super::resolve::resolve;
use crate::sys::socket;
use nix::sys::socket as ns;
use nix::sys::stat::Mode;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// Seconds without a byte after which the other end is asked whether it is still there, as in the shipped units.
const KEEPALIVE_IDLE: u32 = 300;

/// What came of one `--listen`.
#[derive(Debug, Default)]
pub struct Opened {
    /// At least one, unless it was interrupted.
    pub listeners: Vec<Listener>,
    /// Addresses of a name that could not be opened, while another one could.
    pub missing: Vec<(SocketAddr, io::Error)>,
    /// SIGTERM or SIGINT came while the name was being resolved.
    pub is_interrupted: bool,
}

impl From<Listener> for Opened {
    fn from(listener: Listener) -> Self {
        Opened { listeners: vec![listener], ..Opened::default() }
    }
}

/// Opens what `text` names; a host name may give several sockets.
///
/// # Errors
/// socket(2)'s, bind(2)'s and listen(2)'s; `EADDRINUSE` if somebody listens at that path.
pub fn open(place: &Place, text: &str, family: Family) -> io::Result<Opened> {
    let finish = |fd| finish(fd, text);
    match place {
        Place::Port(port) => {
            let any4 = || tcp((Ipv4Addr::UNSPECIFIED, *port).into(), false).and_then(finish);
            let any6 = |only| tcp((Ipv6Addr::UNSPECIFIED, *port).into(), only).and_then(finish);
            let listener = match family {
                Family::V4 => any4()?,
                Family::V6 => any6(true)?,
                // A kernel without IPv6 still serves.
                Family::Any => match any6(false) {
                    Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => any4()?,
                    other => other?,
                },
            };
            Ok(listener.into())
        }
        Place::Host(host, port) => match addresses(host, *port, family)? {
            Some(addresses) => all(addresses, text),
            None => Ok(Opened { is_interrupted: true, ..Opened::default() }),
        },
        Place::Path(path) => {
            let (fd, path) = OwnPath::bind(path.clone(), Mode::from_bits_truncate(0o777))?;
            let mut listener = finish(fd)?;
            listener.path = Some(path);
            Ok(listener.into())
        }
        Place::Abstract(name) => {
            let fd = socket::stream(ns::AddressFamily::Unix)?;
            ns::bind(fd.as_raw_fd(), &ns::UnixAddr::new_abstract(name.as_bytes())?)?;
            Ok(finish(fd)?.into())
        }
        Place::Vsock(cid, port) => {
            let fd = socket::stream(ns::AddressFamily::Vsock)?;
            ns::bind(fd.as_raw_fd(), &ns::VsockAddr::new(*cid, *port))?;
            Ok(finish(fd)?.into())
        }
    }
}

/// A socket for its owner and root alone, by this name.
///
/// # Errors
/// As for [`open`].
pub fn open_private(path: &Path, name: &str) -> io::Result<Listener> {
    let (fd, own) = OwnPath::bind(path.to_owned(), Mode::S_IRUSR | Mode::S_IWUSR)?;
    let mut listener = finish(fd, name)?;
    listener.path = Some(own);
    Ok(listener)
}

fn finish(fd: OwnedFd, text: &str) -> io::Result<Listener> {
    socket::listen(fd.as_fd(), i32::MAX)?;
    let mut listener = Listener::new(fd, text.to_owned()).map_err(|unfit| io::Error::other(unfit.to_string()))?;
    listener.opened_here = true;
    Ok(listener)
}

/// Whether a name has an address to open.
///
/// # Errors
/// As for [`open`].
pub fn check(place: &Place, family: Family) -> io::Result<()> {
    match place {
        Place::Host(host, port) if host.parse::<IpAddr>().is_err() => addresses(host, *port, family).map(drop),
        _ => Ok(()),
    }
}

/// The addresses of a host, at least one; `None` if a signal came first.
fn addresses(host: &str, port: u16, family: Family) -> io::Result<Option<Vec<SocketAddr>>> {
    let found = match host.parse::<IpAddr>() {
        Ok(ip) => Some(vec![(ip, port).into()]),
        Err(_) => resolve(host, port)?,
    };
    let Some(mut addresses) = found else { return Ok(None) };
    addresses.retain(|at: &SocketAddr| match family {
        Family::Any => true,
        Family::V4 => at.is_ipv4(),
        Family::V6 => at.is_ipv6(),
    });
    addresses.dedup();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "no address of the wanted IP version"));
    }
    Ok(Some(addresses))
}

/// As many of a name's addresses as can be had: `localhost` has `::1` in many a hosts(5) of machines without IPv6.
fn all(addresses: Vec<SocketAddr>, text: &str) -> io::Result<Opened> {
    let mut opened = Opened::default();
    for at in addresses {
        match tcp(at, true).and_then(|fd| finish(fd, text)) {
            Ok(listener) => opened.listeners.push(listener),
            Err(error) => opened.missing.push((at, error)),
        }
    }
    if !opened.listeners.is_empty() {
        return Ok(opened);
    }
    Err(opened.missing.into_iter().next().map_or_else(|| io::ErrorKind::AddrNotAvailable.into(), |(_, error)| error))
}

fn tcp(at: SocketAddr, v6_only: bool) -> io::Result<OwnedFd> {
    let fd = socket::stream(if at.is_ipv4() { ns::AddressFamily::Inet } else { ns::AddressFamily::Inet6 })?;
    ns::setsockopt(&fd, ns::sockopt::ReuseAddr, &true)?;
    // What is accepted inherits both (tcp(7)).
    ns::setsockopt(&fd, ns::sockopt::KeepAlive, &true)?;
    ns::setsockopt(&fd, ns::sockopt::TcpKeepIdle, &KEEPALIVE_IDLE)?;
    if at.is_ipv6() {
        ns::setsockopt(&fd, ns::sockopt::Ipv6V6Only, &v6_only)?;
    }
    ns::bind(fd.as_raw_fd(), &ns::SockaddrStorage::from(at))?;
    Ok(fd)
}
