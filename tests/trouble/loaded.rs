//! Clients of a UNIX socket that pass descriptors whose last close takes its time: here a TCP connection that lingers for an hour,
//! since its other end does not read. Wherever the daemon lets go of such a client, nobody else may notice.

use super::faults::Tracer;
use crate::common::*;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::socket::{self, AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sockopt};
use std::io::{IoSlice, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};

/// A connection whose close takes an hour, and the end that must not read meanwhile.
fn lingering() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let mut stream = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
    let (other, _) = listener.accept().expect("accept");
    stream.set_nonblocking(true).expect("O_NONBLOCK");
    while stream.write(&[b'x'; 1 << 16]).is_ok() {}
    socket::setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 3600 }).expect("SO_LINGER");
    (stream, other)
}

/// A client of the UNIX socket at `path` that has passed its only copy of such a connection.
struct Loaded {
    stream: UnixStream,
    other: TcpStream,
}

impl Loaded {
    fn connect(path: &str) -> Loaded {
        let stream = UnixStream::connect(path).expect("connect");
        stream.set_read_timeout(Some(FUSE)).expect("timeout");
        let (passed, other) = lingering();
        pass(&stream, passed, MsgFlags::empty()).expect("sendmsg");
        Loaded { stream, other }
    }

    /// Leaves; what is returned keeps the passed connection alive.
    fn leave(self) -> TcpStream {
        self.other
    }
}

/// Sends one byte, and the only copy of `passed` with it.
fn pass(over: &UnixStream, passed: TcpStream, flags: MsgFlags) -> nix::Result<usize> {
    let (fds, parts) = ([passed.as_raw_fd()], [IoSlice::new(b"x")]);
    socket::sendmsg::<()>(over.as_raw_fd(), &parts, &[ControlMessage::ScmRights(&fds)], flags, None)
}

/// A daemon at a UNIX path and a TCP port, `max` connections, and the path.
fn both(max: &str, options: &[&str]) -> (Start, String, TempDir) {
    let dir = TempDir::new();
    let path = dir.join("s");
    let args = [&["--listen", "127.0.0.1:0", "--listen", &path, "--max-connections", max], options].concat();
    (sockcap(&args), path, dir)
}

#[test]
fn refused() {
    let (start, path, _dir) = both("1", &[]);
    let mut daemon = start.run(PID_CAT).start();
    let first = Session::open(daemon.addr(0));
    let clients: Vec<Loaded> = (0..3).map(|_| Loaded::connect(&path)).collect();
    for client in &clients {
        assert_eq!(line(&mut &client.stream) + "\n", BUSY);
    }
    for _ in 0..3 {
        crate::common::refused(daemon.connect());
    }
    first.leave();
    Session::open(daemon.addr(0)).leave();
    daemon.stop();
}

/// A client that has been told and closes is closed as plainly as one of TCP.
#[test]
fn refused_clients_that_close_need_no_thread() {
    let (start, path, _dir) = both("1", &[]);
    let mut daemon = start.run(PID_CAT).start();
    let first = Session::open(daemon.addr(0));
    let threads = || std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("tasks").count();
    let (before, fds) = (threads(), daemon.open_fds().len());
    for _ in 0..10 {
        let mut client = UnixStream::connect(&path).expect("connect");
        client.set_read_timeout(Some(FUSE)).expect("timeout");
        client.write_all(b"a word").expect("write");
        assert_eq!(to_end(client), BUSY);
    }
    until("they are closed", || daemon.open_fds().len() <= fds);
    assert_eq!(threads(), before);
    first.leave();
    daemon.stop();
}

/// With `PassCredentials=yes` something comes with each byte, and it is no descriptor: the client is read, and sees a clean end.
#[test]
fn refused_by_a_socket_that_passes_credentials() {
    let dir = TempDir::new();
    let unix = UnixListener::bind(dir.join("s")).expect("bind");
    socket::setsockopt(&unix, sockopt::PassCred, &true).expect("SO_PASSCRED");
    let mut daemon =
        sockcap(&["--max-connections", "1"]).pass(tcp_listener("127.0.0.1:0", 16)).pass(unix).run(PID_CAT).start();
    let first = Session::open(daemon.addr(0));
    let mut client = UnixStream::connect(dir.join("s")).expect("connect");
    client.set_read_timeout(Some(FUSE)).expect("timeout");
    client.set_write_timeout(Some(FUSE)).expect("timeout");
    client.write_all(&[b'x'; 1 << 20]).expect("more than fits unread");
    assert_eq!(to_end(client), BUSY);
    first.leave();
    daemon.stop();
}

/// A byte out of band is met by reading, and not by looking.
#[test]
fn refused_with_a_byte_out_of_band() {
    let (start, path, _dir) = both("1", &[]);
    let mut daemon = start.run(PID_CAT).start();
    let first = Session::open(daemon.addr(0));
    let stream = UnixStream::connect(&path).expect("connect");
    stream.set_read_timeout(Some(FUSE)).expect("timeout");
    let (passed, _other) = lingering();
    match pass(&stream, passed, MsgFlags::MSG_OOB) {
        Err(Errno::EOPNOTSUPP) => return skip("a byte out of band", "this kernel has none on UNIX sockets"),
        sent => drop(sent.expect("sendmsg")),
    }
    (&stream).write_all(b"more").expect("write");
    assert_eq!(line(&mut &stream) + "\n", BUSY);
    crate::common::refused(daemon.connect());
    first.leave();
    daemon.stop();
}

/// What is heard before it is answered is looked at without being taken.
#[test]
fn refused_by_a_reply_that_hears() {
    let (start, path, _dir) = both("1", &["--busy-reply", "redis"]);
    let mut daemon = start.run(PID_CAT).start();
    let first = Session::open(daemon.addr(0));
    let client = Loaded::connect(&path);
    assert!(!line(&mut &client.stream).is_empty());
    assert!(!to_end(daemon.connect()).is_empty());
    first.leave();
    daemon.stop();
}

/// Who has left and still said something is served; a packet without a byte says nothing, and has descriptors all the same.
#[test]
fn held_and_gone() {
    let dir = TempDir::new();
    let unix = socket::socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).expect("socket");
    socket::bind(unix.as_raw_fd(), &UnixAddr::new(dir.join("s").as_str()).expect("path")).expect("bind");
    socket::listen(&unix, Backlog::MAXCONN).expect("listen");
    let mut daemon = sockcap(&["--max-connections", "1", "--when-full", "wait", "--max-waiting", "5"])
        .pass(tcp_listener("127.0.0.1:0", 16))
        .pass(unix)
        .run(PID_CAT)
        .start();
    let fds = daemon.open_fds().len();
    let first = Session::open(daemon.addr(0));
    until("the first one's connection is its command's alone", || daemon.open_fds().len() == fds);
    let client =
        socket::socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).expect("socket");
    socket::connect(client.as_raw_fd(), &UnixAddr::new(dir.join("s").as_str()).expect("path")).expect("connect");
    let (passed, _other) = lingering();
    let fd = [passed.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&fd)];
    socket::sendmsg::<()>(client.as_raw_fd(), &[IoSlice::new(b"")], &control, MsgFlags::empty(), None)
        .expect("sendmsg");
    drop(passed);
    until("it is held", || daemon.open_fds().len() > fds);
    drop(client);
    first.leave();
    Session::open(daemon.addr(0)).leave();
    assert_eq!(daemon.stop(), Totals { accepted: 3, served: 2, gone: 1, ..Totals::default() });
}

/// A stop refuses who waits, and the daemon ends.
#[test]
fn held_until_the_stop() {
    let (start, path, _dir) = both("1", &["--when-full", "wait", "--max-waiting", "5"]);
    let mut daemon = start.run(PID_CAT).start();
    let fds = daemon.open_fds().len();
    let first = Session::open(daemon.addr(0));
    until("the first one's connection is its command's alone", || daemon.open_fds().len() == fds);
    let _client = Loaded::connect(&path);
    until("it is held", || daemon.open_fds().len() > fds);
    daemon.signal(Signal::SIGTERM);
    daemon.wait_text("SIGTERM");
    first.leave();
    daemon.stop();
}

/// Our own listening socket is closed at the end, and with it who was never accepted.
#[test]
fn in_the_kernel_s_queue_until_the_end() {
    let (start, path, _dir) = both("1", &["--when-full", "wait"]);
    let mut daemon = start.run(PID_CAT).start();
    let first = Session::open(daemon.addr(0));
    let _client = Loaded::connect(&path);
    daemon.signal(Signal::SIGTERM);
    daemon.wait_text("SIGTERM");
    first.leave();
    daemon.stop();
}

/// The connection comes back with the report of a failed exec.
#[test]
fn not_started() {
    let (start, path, dir) = both("4", &[]);
    let script = dir.join("script");
    write_program(&script, b"#!/bin/sh\n");
    let mut daemon = start.run(&[&script]).start();
    // It was sound when it was looked at.
    write_program(&script, b"#!/nonexistent/interpreter\n");
    let client = Loaded::connect(&path);
    assert_eq!(line(&mut &client.stream) + "\n", UNAVAILABLE);
    let _other = client.leave();
    assert_eq!(to_end(daemon.connect()), UNAVAILABLE);
    daemon.stop();
}

/// A command that ends before the daemon has closed its own copy leaves it the last one.
#[test]
fn served_by_a_command_that_has_ended() {
    let (start, path, _dir) = both("4", &[]);
    let mut daemon = start.run(&["/bin/true"]).start();
    if !can_trace("a daemon that is slow to close") {
        return;
    }
    // Half a second before each close of the main thread.
    let tracer = Tracer::attach(daemon.pid(), false, &["close:delay_enter=500000".into()]).expect("strace");
    let client = Loaded::connect(&path);
    assert!(ready(&client.stream, HANGUP, FUSE), "the command has ended, and nobody has the connection");
    assert_eq!(to_end(daemon.connect()), "");
    tracer.detach("close");
    daemon.stop();
}
