//! Clients, and what they may expect to read.

use super::*;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::poll::PollFlags;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage};
use nix::unistd::Pid;

/// Connects, with the fuse on every read and write.
#[track_caller]
pub fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, FUSE).unwrap_or_else(|e| panic!("connect to {to}: {e}"));
    stream.set_read_timeout(Some(FUSE)).expect("timeout");
    stream.set_write_timeout(Some(FUSE)).expect("timeout");
    stream
}

/// The same from an address of the client's own, such as `127.0.0.2:0`.
#[track_caller]
pub fn connect_from(from: &str, to: SocketAddr) -> TcpStream {
    let fd = socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("socket");
    let from: SocketAddr = from.parse().expect("an address");
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(from)).expect("bind");
    socket::connect(fd.as_raw_fd(), &SockaddrStorage::from(to)).expect("connect");
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(FUSE)).expect("timeout");
    stream.set_write_timeout(Some(FUSE)).expect("timeout");
    stream
}

/// The same words must come back.
#[track_caller]
pub fn echoes<S: Read + Write>(stream: &mut S) {
    stream.write_all(b"are you there\n").expect("write to the command");
    assert_eq!(line(stream), "are you there", "the command does not answer");
}

/// One line, byte by byte, so that nothing behind it is lost.
#[track_caller]
pub fn line<S: Read>(stream: &mut S) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    loop {
        match uninterrupted(|| stream.read(&mut byte)) {
            Ok(1) if byte[0] == b'\n' => break,
            Ok(1) => text.push(byte[0]),
            Ok(_) => panic!("the end after {:?}", String::from_utf8_lossy(&text)),
            Err(e) => panic!("{e} after {:?}", String::from_utf8_lossy(&text)),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// One call with a time limit, which the kernel does not restart (signal(7)): a machine that was stopped cuts it short.
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Everything to the end of file, which must be a clean one.
#[track_caller]
pub fn to_end<S: Read>(mut stream: S) -> String {
    let mut all = Vec::new();
    if let Err(e) = stream.read_to_end(&mut all) {
        panic!("no clean end of file: {e} after {:?}", String::from_utf8_lossy(&all));
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// The client must be told the default reason, and then nothing.
#[track_caller]
pub fn refused(stream: impl Read) {
    assert_eq!(to_end(stream), BUSY, "not refused as it should be");
}

/// Nothing must come for a while: the client waits.
#[track_caller]
pub fn waits(stream: &TcpStream) {
    assert!(!ready(stream, PollFlags::POLLIN | HANGUP, QUIET), "somebody who should wait got an answer");
}

/// A client of `PID_CAT`, and the process that serves it.
pub struct Session {
    pub stream: TcpStream,
    pub pid: Pid,
    pidfd: OwnedFd,
}

impl Session {
    /// Takes over a connection whose command is expected to say its pid.
    #[track_caller]
    pub fn of(mut stream: TcpStream) -> Session {
        let first = line(&mut stream);
        let pid = first.parse().unwrap_or_else(|e| panic!("not served ({e}): {first:?}"));
        Session::known(stream, pid)
    }

    /// The same, where the pid has been read already.
    pub fn known(stream: TcpStream, pid: i32) -> Session {
        let pid = Pid::from_raw(pid);
        Session { stream, pid, pidfd: pidfd(pid) }
    }

    #[track_caller]
    pub fn open(to: SocketAddr) -> Session {
        Session::of(connect(to))
    }

    /// Leaves, and returns when the command has ended: its slot is free for whoever comes after this.
    #[track_caller]
    pub fn leave(self) {
        drop(self.stream);
        assert!(ready(&self.pidfd, PollFlags::POLLIN, FUSE), "the command does not end");
    }
}
