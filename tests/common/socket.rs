//! Sockets of the tests' own.

use std::fs;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, sockopt};

/// A listening TCP socket of our own, at first with this backlog.
pub fn tcp_listener(addr: &str, backlog: i32) -> TcpListener {
    let addr: SocketAddr = addr.parse().expect("an address");
    let family = if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("socket");
    if addr.is_ipv6() {
        // a mapped address stands for dual stack without leaving the loopback
        let mapped = addr.to_string().contains("ffff:");
        socket::setsockopt(&fd, sockopt::Ipv6V6Only, &!mapped).expect("IPV6_V6ONLY");
    }
    socket::bind(fd.as_raw_fd(), &socket::SockaddrStorage::from(addr)).expect("bind");
    listen(&fd, backlog);
    TcpListener::from(fd)
}

/// listen(2) with any number at all.
pub fn listen(fd: impl AsFd, backlog: i32) {
    // SAFETY: listen takes an open descriptor and a number; it touches no memory of ours.
    Errno::result(unsafe { libc::listen(fd.as_fd().as_raw_fd(), backlog) }).expect("listen");
}

/// TCP_INFO: of a listener `tcpi_unacked` is the queue's length and `tcpi_sacked` its limit.
pub fn tcp_info(fd: impl AsFd) -> libc::tcp_info {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut size = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `size` is the room behind the pointer; the struct is integers only, so zeroes and whatever the kernel
    // writes over them are a valid one.
    unsafe {
        let fd = fd.as_fd().as_raw_fd();
        let to = info.as_mut_ptr().cast();
        Errno::result(libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, to, &mut size)).expect("TCP_INFO");
        info.assume_init()
    }
}

/// The largest backlog that the kernel grants.
pub fn somaxconn() -> u32 {
    fs::read_to_string("/proc/sys/net/core/somaxconn").expect("somaxconn").trim().parse().expect("a number")
}

/// Resets the connection instead of closing it in good order.
pub fn reset(stream: TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    socket::setsockopt(&stream, sockopt::Linger, &linger).expect("SO_LINGER");
}
