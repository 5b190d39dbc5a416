//! Socket calls that nix lacks or gets wrong: accept with the peer's address, listen with any backlog,
//! TCP_INFO, SO_COOKIE, and taking ownership of inherited descriptors.

use nix::net::if_::{if_indextoname, if_nametoindex};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::fmt;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

/// An address as the kernel gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// IPv4 or IPv6; IPv4-mapped IPv6 has been turned into IPv4.
    Ip(SocketAddr),
    /// A UNIX socket's name: a path, which begins with `/` or `./`; `@name` for the abstract namespace; `None` if it has none.
    Unix(Option<Box<[u8]>>),
    /// VSOCK (vsock(7)).
    Vsock {
        /// Context id: which machine.
        cid: u32,
        /// Port, 32 bits.
        port: u32,
    },
    /// Another family, or none.
    Other,
}

/// An IP address without its port, and with the zone that makes a link-local one unique, as systemd writes it: `fe80::1%eth0`;
/// the interface's number, if it has gone.
pub struct Ip<'a>(pub &'a SocketAddr);

impl fmt::Display for Ip<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0 {
            SocketAddr::V6(at) if at.scope_id() != 0 => match if_indextoname(at.scope_id()) {
                // nix 0.31 takes the null pointer of a failure for an empty name.
                Ok(name) if !name.is_empty() => write!(f, "{}%{}", at.ip(), name.to_string_lossy()),
                _ => write!(f, "{}%{}", at.ip(), at.scope_id()),
            },
            at => write!(f, "{}", at.ip()),
        }
    }
}

/// What [`Ip`] has written, with port 0.
pub fn parse_ip(text: &str) -> Option<SocketAddr> {
    let Some((ip, zone)) = text.split_once('%') else { return Some((text.parse::<IpAddr>().ok()?, 0).into()) };
    let zone = if_nametoindex(zone).or(zone.parse()).ok()?;
    Some(SocketAddrV6::new(ip.parse().ok()?, 0, 0, zone).into())
}

/// The few fields of `struct tcp_info` (tcp(7), linux/tcp.h) that tell about queues and waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// TCP state; 7 is CLOSE: the peer has reset the connection.
    pub state: u8,
    /// On a listener: connections waiting to be accepted.
    pub queued: u32,
    /// On a listener: the backlog in force.
    pub backlog: u32,
    /// On a connection that has sent nothing: milliseconds since its handshake completed.
    pub idle_ms: u32,
}

/// `TCP_CLOSE` of linux/tcp_states.h.
pub const TCP_CLOSE: u8 = 7;

/// Takes ownership of an inherited descriptor and makes it close-on-exec. Each number can be taken once.
///
/// # Errors
/// `EBADF` if it is not open, `EBUSY` if it was taken before.
pub fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());
    let mut taken = TAKEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if taken.contains(&fd) {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: fcntl on any number is sound; a closed one gives EBADF.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error());
    }
    taken.push(fd);
    // SAFETY: it is open, and the list above gives it out once. That no other part of this process owns
    // it holds by when and with what this is called: at start, with the numbers systemd passed.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Accepts the oldest waiting connection: close-on-exec, blocking, with its peer's address.
///
/// nix's `accept4` throws the address away, and asking later fails once the peer has reset.
///
/// # Errors
/// accept(2)'s.
pub fn accept(listener: BorrowedFd) -> io::Result<(OwnedFd, Address)> {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::uninit();
    let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: storage and length describe one writable buffer; a new descriptor has no other owner.
    unsafe {
        let fd = libc::accept4(listener.as_raw_fd(), storage.as_mut_ptr().cast(), &mut length, libc::SOCK_CLOEXEC);
        if fd == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok((OwnedFd::from_raw_fd(fd), decode(&storage, length)))
    }
}

/// A new stream socket, close-on-exec.
///
/// # Errors
/// socket(2)'s.
pub fn stream(family: AddressFamily) -> io::Result<OwnedFd> {
    Ok(socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?)
}

/// The address at the other end (getpeername(2)).
///
/// # Errors
/// `ENOTCONN` if the peer has reset the connection.
pub fn peer_address(socket: BorrowedFd) -> io::Result<Address> {
    address(socket, libc::getpeername)
}

/// The address this socket is bound to (getsockname(2)).
///
/// # Errors
/// getsockname(2)'s.
pub fn local_address(socket: BorrowedFd) -> io::Result<Address> {
    address(socket, libc::getsockname)
}

/// getsockname(2) and getpeername(2).
type AskAddress = unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

fn address(socket: BorrowedFd, ask: AskAddress) -> io::Result<Address> {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::uninit();
    let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: storage and length describe one writable buffer.
    unsafe {
        if ask(socket.as_raw_fd(), storage.as_mut_ptr().cast(), &mut length) == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(decode(&storage, length))
    }
}

/// # Safety
/// The kernel has written `length` bytes to `storage` (or has cut them at its size).
unsafe fn decode(storage: &MaybeUninit<libc::sockaddr_storage>, length: libc::socklen_t) -> Address {
    let length = (length as usize).min(size_of::<libc::sockaddr_storage>());
    let start = storage.as_ptr();
    if length < size_of::<libc::sa_family_t>() {
        return Address::Other;
    }
    // SAFETY: sockaddr_storage is aligned for every family; each cast is guarded by family and length.
    unsafe {
        match i32::from((*start).ss_family) {
            libc::AF_INET if length >= size_of::<libc::sockaddr_in>() => {
                let a = &*start.cast::<libc::sockaddr_in>();
                Address::Ip((Ipv4Addr::from(u32::from_be(a.sin_addr.s_addr)), u16::from_be(a.sin_port)).into())
            }
            libc::AF_INET6 if length >= size_of::<libc::sockaddr_in6>() => {
                let a = &*start.cast::<libc::sockaddr_in6>();
                let (ip, port) = (Ipv6Addr::from(a.sin6_addr.s6_addr), u16::from_be(a.sin6_port));
                Address::Ip(match ip.to_ipv4_mapped() {
                    Some(v4) => (v4, port).into(),
                    None => SocketAddrV6::new(ip, port, 0, a.sin6_scope_id).into(),
                })
            }
            libc::AF_UNIX => {
                let name = std::slice::from_raw_parts(start.cast::<u8>(), length).get(2..).unwrap_or_default();
                Address::Unix(match name {
                    [] => None,
                    [0, rest @ ..] => Some([b"@", rest].concat().into()),
                    path => {
                        let path = path.split(|b| *b == 0).next().unwrap_or_default();
                        Some(if path.starts_with(b"/") { path.into() } else { [b"./", path].concat().into() })
                    }
                })
            }
            libc::AF_VSOCK if length >= size_of::<libc::sockaddr_vm>() => {
                let a = &*start.cast::<libc::sockaddr_vm>();
                Address::Vsock { cid: a.svm_cid, port: a.svm_port }
            }
            _ => Address::Other,
        }
    }
}

pub(super) fn option<T>(socket: BorrowedFd, level: i32, name: i32) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: value and length describe one writable buffer; callers use plain integers and structures
    // of integers, for which all-zero and whatever the kernel writes are valid.
    unsafe {
        match libc::getsockopt(socket.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &mut length) {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(value.assume_init()),
        }
    }
}

/// The address family, `AF_*` (SO_DOMAIN, socket(7)); nix's enum lacks some.
///
/// # Errors
/// `ENOTSOCK`, and getsockopt(2)'s.
pub fn domain(socket: BorrowedFd) -> io::Result<i32> {
    option(socket, libc::SOL_SOCKET, libc::SO_DOMAIN)
}

/// The type, `SOCK_*` (SO_TYPE, socket(7)).
///
/// # Errors
/// As for [`domain`].
pub fn kind(socket: BorrowedFd) -> io::Result<i32> {
    option(socket, libc::SOL_SOCKET, libc::SO_TYPE)
}

/// Whether listen(2) has been called (SO_ACCEPTCONN, socket(7)).
///
/// # Errors
/// As for [`domain`].
pub fn is_listening(socket: BorrowedFd) -> io::Result<bool> {
    Ok(option::<i32>(socket, libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? != 0)
}

/// The kernel's unique number of this socket (SO_COOKIE, Linux 4.12).
///
/// # Errors
/// As for [`domain`].
pub fn cookie(socket: BorrowedFd) -> io::Result<u64> {
    option(socket, libc::SOL_SOCKET, libc::SO_COOKIE)
}

/// A pidfd of the process that connected to a UNIX socket (SO_PEERPIDFD, Linux 6.5).
fn peer_pidfd(socket: BorrowedFd) -> io::Result<OwnedFd> {
    /// asm-generic/socket.h.
    const SO_PEERPIDFD: i32 = 77;
    let pidfd = option::<RawFd>(socket, libc::SOL_SOCKET, SO_PEERPIDFD)?;
    // SAFETY: the kernel has made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(pidfd) })
}

/// Whether the process that connected to a UNIX socket still lives. A kernel before 6.5 does not know, and says yes.
pub fn peer_is_alive(socket: BorrowedFd) -> bool {
    match peer_pidfd(socket) {
        Ok(pidfd) => poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(0),
        Err(error) => error.raw_os_error() == Some(libc::ENOPROTOOPT),
    }
}

/// Whether the kernel knows that.
pub fn knows_peers() -> bool {
    UnixStream::pair().is_ok_and(|(socket, _)| peer_pidfd(socket.as_fd()).is_ok())
}

/// Process, user and group of a UNIX peer when it connected (SO_PEERCRED, unix(7)).
///
/// # Errors
/// As for [`domain`].
pub fn peer_credentials(socket: BorrowedFd) -> io::Result<(i32, u32, u32)> {
    let credentials: libc::ucred = option(socket, libc::SOL_SOCKET, libc::SO_PEERCRED)?;
    Ok((credentials.pid, credentials.uid, credentials.gid))
}

/// What TCP knows of this socket (TCP_INFO, tcp(7)).
///
/// # Errors
/// `EOPNOTSUPP` if it is not TCP; getsockopt(2)'s.
pub fn tcp_info(socket: BorrowedFd) -> io::Result<TcpInfo> {
    let info: libc::tcp_info = option(socket, libc::IPPROTO_TCP, libc::TCP_INFO)?;
    Ok(TcpInfo {
        state: info.tcpi_state,
        queued: info.tcpi_unacked,
        backlog: info.tcpi_sacked,
        idle_ms: info.tcpi_last_data_sent,
    })
}

/// listen(2) with any backlog; on a listening socket it changes the backlog. The kernel clamps it to
/// `net.core.somaxconn`, so that 2147483647 means "as much as the administrator allows".
///
/// # Errors
/// listen(2)'s.
pub fn listen(socket: BorrowedFd, backlog: i32) -> io::Result<()> {
    // SAFETY: two integers; nothing is read or written through them.
    match unsafe { libc::listen(socket.as_raw_fd(), backlog) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn accept_tells_the_peer() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (served, peer) = accept(listener.as_fd()).unwrap();
        assert_eq!(peer, Address::Ip(client.local_addr().unwrap()));
        assert_eq!(local_address(served.as_fd()).unwrap(), Address::Ip(listener.local_addr().unwrap()));
        assert!(is_listening(listener.as_fd()).unwrap());
        assert!(!is_listening(served.as_fd()).unwrap());
        assert_eq!(domain(served.as_fd()).unwrap(), libc::AF_INET);
        assert!(cookie(served.as_fd()).unwrap() > 0);
    }

    #[test]
    fn unix_names_have_systemd_s_form() {
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(local_address(a.as_fd()).unwrap(), Address::Unix(None));
        assert_eq!(peer_credentials(a.as_fd()).unwrap().0, std::process::id() as i32);
    }

    #[test]
    fn a_descriptor_is_taken_once() {
        use std::os::fd::IntoRawFd;
        let fd = std::fs::File::open("/dev/null").unwrap().into_raw_fd();
        let _owned = adopt(fd).unwrap();
        assert_eq!(adopt(fd).unwrap_err().raw_os_error(), Some(libc::EBUSY));
        assert_eq!(adopt(99_999).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}
