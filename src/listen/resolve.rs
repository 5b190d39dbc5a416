//! Names into addresses, without being deaf to those who do not want to wait for that.
#![forbid(unsafe_code)]

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread::Builder;

/// What getaddrinfo(3) says, without what the standard library says before it; an error of the system stays as it is.
fn in_our_words(error: io::Error) -> io::Error {
    if error.raw_os_error().is_some() {
        return error;
    }
    let text = error.to_string();
    let why = text.split_once(": ").map_or(&*text, |(_, why)| why);
    io::Error::new(error.kind(), format!("the name cannot be resolved ({why})"))
}

/// The addresses of `host` (getaddrinfo(3)). A name server that is silent takes 10 s and more (resolv.conf(5)); `None`: SIGTERM
/// or SIGINT, which have to be blocked, came first. It is still there to be read.
///
/// # Errors
/// getaddrinfo(3)'s, and those of a thread that cannot be started.
pub fn resolve(host: &str, port: u16) -> io::Result<Option<Vec<SocketAddr>>> {
    let stop: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    let signals = SignalFd::with_flags(&stop, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let (over, asking) = UnixStream::pair()?;
    let host = host.to_owned();
    let asker = Builder::new().name("resolve".into()).spawn(move || {
        let _until_the_end = asking;
        (host.as_str(), port).to_socket_addrs().map(Vec::from_iter).map_err(in_our_words)
    })?;
    loop {
        let [signals, over] = [signals.as_fd(), over.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let mut either = [signals, over];
        match poll(&mut either, PollTimeout::NONE) {
            Err(nix::Error::EINTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(_) if either[0].any() == Some(true) => return Ok(None),
            Ok(_) => break,
        }
    }
    asker.join().unwrap_or_else(|_| Err(io::Error::other("the resolver has failed"))).map(Some)
}
