//! Every way a listening socket comes to sockcap: passed by a service manager or opened by itself, and what it will not take.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{SocketAddr as UnixSocketAddr, UnixDatagram, UnixListener, UnixStream};

use crate::common::*;
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, UnixAddr, VsockAddr};

/// Says through which listener and from where it was called, then ends.
const WHO: &[&str] = &["/bin/sh", "-c", "echo \"$0 $PROTO ${{REMOTE_ADDR-unset}\"", "{listener}"];

fn new_socket(family: AddressFamily, kind: SockType) -> OwnedFd {
    socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, None).expect("socket")
}

fn seqpacket_listener(path: &str) -> OwnedFd {
    let fd = new_socket(AddressFamily::Unix, SockType::SeqPacket);
    socket::bind(fd.as_raw_fd(), &UnixAddr::new(path).expect("path")).expect("bind");
    socket::listen(&fd, Backlog::MAXCONN).expect("listen");
    fd
}

/// Wears a stream's methods (timeouts, read, write), which are the same calls on a packet socket.
fn seqpacket_client(path: &str) -> UnixStream {
    let fd = new_socket(AddressFamily::Unix, SockType::SeqPacket);
    socket::connect(fd.as_raw_fd(), &UnixAddr::new(path).expect("path")).expect("connect");
    bounded(UnixStream::from(fd))
}

fn bounded(stream: UnixStream) -> UnixStream {
    stream.set_read_timeout(Some(FUSE)).expect("timeout");
    stream
}

fn abstract_name(what: &str) -> String {
    format!("sockcap-test-{}-{what}", std::process::id())
}

fn connect_abstract(name: &str) -> UnixStream {
    bounded(UnixStream::connect_addr(&UnixSocketAddr::from_abstract_name(name).expect("name")).expect("connect"))
}

#[test]
fn all_families_in_one_process() {
    let dir = TempDir::new();
    let v4 = tcp_listener("127.0.0.1:0", 16);
    let v6 = tcp_listener("[::1]:0", 16);
    let dual = tcp_listener("[::ffff:127.0.0.1]:0", 16);
    let stream = UnixListener::bind(dir.join("stream")).expect("bind");
    let packet = seqpacket_listener(&dir.join("packet"));
    let named = UnixListener::bind_addr(&UnixSocketAddr::from_abstract_name(abstract_name("mixed")).expect("name"))
        .expect("bind");
    let to_v4 = v4.local_addr().expect("address");
    let to_v6 = v6.local_addr().expect("address");
    let to_dual = (Ipv4Addr::LOCALHOST, dual.local_addr().expect("address").port()).into();
    let mut daemon = sockcap::<&str>(&[])
        .pass(v4)
        .pass(v6)
        .pass(dual)
        .pass(stream)
        .pass(packet)
        .pass(named)
        .names("v4:v6:dual:stream:packet:abstract")
        .run(WHO)
        .start();
    assert_eq!(daemon.listeners().len(), 6, "{:?}", daemon.listeners());
    for (listener, name) in daemon.listeners().iter().zip(["v4", "v6", "dual", "stream", "packet", "abstract"]) {
        assert!(listener.ends_with(&format!("as '{name}'")), "{listener}");
    }
    assert_eq!(daemon.addr(0), to_v4);
    assert_eq!(daemon.addr(1), to_v6);

    assert_eq!(to_end(connect(to_v4)), "v4 TCP 127.0.0.1\n");
    assert_eq!(to_end(connect(to_v6)), "v6 TCP ::1\n");
    assert_eq!(to_end(connect(to_dual)), "dual TCP 127.0.0.1\n", "a mapped address is the IPv4 one");
    let unix = bounded(UnixStream::connect(dir.join("stream")).expect("connect"));
    assert_eq!(to_end(unix), "stream IPC unset\n");
    assert_eq!(to_end(seqpacket_client(&dir.join("packet"))), "packet IPC unset\n");
    assert_eq!(to_end(connect_abstract(&abstract_name("mixed"))), "abstract IPC unset\n");
    assert_eq!(daemon.stop().served, 6);
}

/// Records stay records in both directions, and a refused one gets its line as one record.
#[test]
fn seqpacket_keeps_records() {
    let dir = TempDir::new();
    let mut daemon = sockcap(&["--max-connections", "1"]).pass(seqpacket_listener(&dir.join("s"))).start();
    let mut client = seqpacket_client(&dir.join("s"));
    let mut buffer = [0; 64];
    for record in ["one", "three"] {
        client.write_all(record.as_bytes()).expect("write");
        let n = uninterrupted(|| client.read(&mut buffer)).expect("read");
        assert_eq!(&buffer[..n], record.as_bytes());
    }
    refused(seqpacket_client(&dir.join("s")));
    drop(client);
    assert_eq!(daemon.stop(), Totals { accepted: 2, served: 1, refused: 1, ..Totals::default() });
}

#[test]
fn vsock_is_adopted() {
    let fd = match socket::socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None) {
        Ok(fd) => fd,
        Err(e) => return skip("vsock_is_adopted", &format!("no AF_VSOCK here: {e}")),
    };
    let any_port = libc::VMADDR_PORT_ANY;
    let local = VsockAddr::new(libc::VMADDR_CID_LOCAL, any_port);
    let loopback = socket::bind(fd.as_raw_fd(), &local).is_ok();
    if !loopback && socket::bind(fd.as_raw_fd(), &VsockAddr::new(libc::VMADDR_CID_ANY, any_port)).is_err() {
        return skip("vsock_is_adopted", "AF_VSOCK cannot be bound here");
    }
    socket::listen(&fd, Backlog::MAXCONN).expect("listen");
    let bound: VsockAddr = socket::getsockname(fd.as_raw_fd()).expect("getsockname");
    let mut daemon = sockcap::<&str>(&[]).pass(fd).names("vm").run(WHO).start();
    assert!(daemon.listeners()[0].contains(&bound.port().to_string()), "{:?}", daemon.listeners());
    assert!(daemon.listeners()[0].ends_with("as 'vm'"), "{:?}", daemon.listeners());
    if loopback {
        let client = new_socket(AddressFamily::Vsock, SockType::Stream);
        let to = VsockAddr::new(libc::VMADDR_CID_LOCAL, bound.port());
        socket::connect(client.as_raw_fd(), &to as &dyn SockaddrLike).expect("connect");
        assert_eq!(to_end(bounded(UnixStream::from(client))), "vm  vsock:1\n");
    } else {
        skip("vsock_is_adopted: the connection", "no vsock loopback (vsock_loopback is not loaded)");
    }
    daemon.stop();
}

/// The names that three listeners get for a LISTEN_FDNAMES.
fn names_of_three(names: Option<&str>) -> Vec<String> {
    let mut start = sockcap::<&str>(&[]);
    for _ in 0..3 {
        start = start.pass(tcp_listener("127.0.0.1:0", 16));
    }
    if let Some(names) = names {
        start = start.names(names);
    }
    let mut daemon = start.run(WHO).start();
    let names = (0..3).map(|n| to_end(connect(daemon.addr(n))).split(' ').next().expect("a name").to_owned()).collect();
    daemon.stop();
    names
}

#[test]
fn names_are_given_in_order() {
    assert_eq!(names_of_three(Some("a:b:c")), ["a", "b", "c"]);
}

#[test]
fn names_may_repeat() {
    assert_eq!(names_of_three(Some("web:web:web")), ["web", "web", "web"]);
}

#[test]
fn names_may_be_absent() {
    assert_eq!(names_of_three(None), ["unknown", "unknown", "unknown"]);
}

#[test]
fn names_may_be_fewer_or_more() {
    assert_eq!(names_of_three(Some("a"))[1..], ["unknown", "unknown"], "nobody may get somebody else's name");
    assert_eq!(names_of_three(Some("a:b:c:d")).len(), 3);
}

// ---------------------------------------------------------------------------------------------------------------------
// what is not taken

/// One passed descriptor, named `thing`, that must be turned down by number and name.
#[track_caller]
fn not_adopted(fd: impl Into<OwnedFd>) -> String {
    let line = sockcap::<&str>(&[]).pass(fd).names("thing").output().mistake();
    assert!(line.contains("fd 3") && line.contains("thing"), "the descriptor is not named: {line}");
    line
}

#[test]
fn a_datagram_socket_is_not_taken() {
    not_adopted(UdpSocket::bind("127.0.0.1:0").expect("bind"));
    let dir = TempDir::new();
    not_adopted(UnixDatagram::bind(dir.join("s")).expect("bind"));
}

#[test]
fn a_fifo_or_a_file_is_not_taken() {
    let (reader, _writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("pipe");
    not_adopted(reader);
    not_adopted(fs::File::open("/dev/null").expect("open"));
}

#[test]
fn an_unconnected_socket_is_not_taken() {
    not_adopted(new_socket(AddressFamily::Inet, SockType::Stream));
    not_adopted(new_socket(AddressFamily::Unix, SockType::Stream));
}

#[test]
fn a_connected_socket_is_not_taken() {
    let listener = tcp_listener("127.0.0.1:0", 16);
    let client = connect(listener.local_addr().expect("address"));
    let (accepted, _) = listener.accept().expect("accept");
    not_adopted(accepted);
    drop(client);
    let (ours, _theirs) = UnixStream::pair().expect("pair");
    not_adopted(ours);
}

#[test]
fn a_closed_number_is_not_taken() {
    let line = sockcap::<&str>(&[])
        .pass(tcp_listener("127.0.0.1:0", 16))
        .listen_fds("2")
        .names("good:thing")
        .output()
        .mistake();
    assert!(line.contains("fd 4"), "the descriptor is not named: {line}");
}

/// One that is good does not excuse one that is not: nothing runs with half of its sockets.
#[test]
fn one_bad_descriptor_among_good_ones_is_a_mistake() {
    let line = sockcap::<&str>(&[])
        .pass(tcp_listener("127.0.0.1:0", 16))
        .pass(UdpSocket::bind("127.0.0.1:0").expect("bind"))
        .pass(tcp_listener("127.0.0.1:0", 16))
        .names("good:thing:fine")
        .output()
        .mistake();
    assert!(line.contains("fd 4") && line.contains("thing"), "{line}");
}

#[test]
fn a_senseless_listen_fds_is_a_mistake() {
    for count in ["18446744073709551615", "9223372036854775807", "2147483647", "-1", "many", "1x", ""] {
        let ended = sockcap::<&str>(&[]).pass(tcp_listener("127.0.0.1:0", 16)).listen_fds(count).output();
        assert_eq!(ended.status.code(), Some(2), "LISTEN_FDS={count}: {ended:?}");
        ended.mistake();
    }
}

#[test]
fn no_sockets_is_a_mistake() {
    let expected =
        "sockcap: no listening sockets were passed and no --listen was given: start the .socket unit, or give --listen";
    assert_eq!(sockcap::<&str>(&[]).output().mistake(), expected);
    assert_eq!(sockcap::<&str>(&[]).listen_fds("0").output().mistake(), expected);
}

/// Sockets that were meant for another process are not ours, whatever else is set.
#[test]
fn a_wrong_listen_pid_is_not_ours() {
    for (pid, says) in [
        ("1", "LISTEN_FDS=1 is for process 1, this is "),
        ("$PPID", "LISTEN_FDS=1 is for process "),
        (
            "''",
            "LISTEN_FDS=1 is for no process, since LISTEN_PID is not set: unset LISTEN_FDS, or start sockcap by its socket unit",
        ),
        ("me", "LISTEN_FDS=1 is for process me, this is "),
    ] {
        let line = sockcap::<&str>(&[])
            .pass(tcp_listener("127.0.0.1:0", 16))
            .prelude(&format!("export LISTEN_PID={pid}"))
            .output()
            .mistake();
        assert!(line.contains(says), "{line}");
    }
}

/// systemd says it since version 258, and `tests/system` has one that does: the pid alone may be that of another process by now.
#[test]
fn a_wrong_number_of_our_pidfd_is_not_ours() {
    for id in ["1", "0", "-1", "x", "''"] {
        let line = sockcap::<&str>(&[])
            .pass(tcp_listener("127.0.0.1:0", 16))
            .prelude(&format!("export LISTEN_PID=$$ LISTEN_PIDFDID={id}"))
            .output()
            .mistake();
        let (before, after) =
            line.split_once("LISTEN_FDS=1 is for an earlier process ").unwrap_or_else(|| panic!("{line}"));
        assert_eq!(before, "sockcap: ");
        assert!(after.ends_with(" (LISTEN_PIDFDID): unset LISTEN_FDS, or start sockcap by its socket unit"), "{line}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// --listen

#[test]
fn listen_on_host_and_port() {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--listen", "[::1]:0"]).run(WHO).start();
    assert!(daemon.listeners()[0].starts_with("127.0.0.1:"), "{:?}", daemon.listeners());
    assert!(daemon.listeners()[1].starts_with("[::1]:"), "{:?}", daemon.listeners());
    assert_eq!(to_end(daemon.connect()), "127.0.0.1:0 TCP 127.0.0.1\n");
    assert_eq!(to_end(connect(daemon.addr(1))), "[::1]:0 TCP ::1\n");
    daemon.stop();
}

#[test]
fn listen_on_a_name_narrowed_to_one_family() {
    let mut daemon = sockcap(&["--listen", "localhost:0", "--ipv4"]).start();
    assert!(daemon.listeners().iter().all(|l| l.starts_with("127.0.0.1:")), "{:?}", daemon.listeners());
    echoes(&mut daemon.connect());
    daemon.stop();
}

/// A bare port is every address of the machine, so this runs in a network of its own, which has none.
#[test]
fn listen_on_a_bare_port() {
    if !is_root() {
        return skip("listen_on_a_bare_port", "only root can have a network of its own");
    }
    let families = |args: &[&str]| {
        let mut daemon = sockcap(args).wrap(&["unshare", "-n"]).start();
        let v6 = daemon.listeners().iter().any(|l| l.starts_with("[::]:5001"));
        let v4 = daemon.listeners().iter().any(|l| l.starts_with("0.0.0.0:5001"));
        daemon.stop();
        (v4, v6)
    };
    assert_eq!(families(&["--listen", "5001", "--ipv4"]), (true, false));
    assert_eq!(families(&["--listen", "5001", "--ipv6"]), (false, true));
    assert!(families(&["--listen", "5001"]).1, "a bare port includes IPv6");
}

#[test]
fn listen_on_an_address_in_use_or_not_ours_is_told() {
    let taken = tcp_listener("127.0.0.1:0", 16);
    let addr = taken.local_addr().expect("address").to_string();
    let line = sockcap(&["--listen", &addr]).output().one_line(&[1, 2]);
    assert!(line.contains(&addr), "the address is not named: {line}");
    // TEST-NET-1: nobody's address
    let line = sockcap(&["--listen", "192.0.2.1:5001"]).output().one_line(&[1, 2]);
    assert!(line.contains("192.0.2.1:5001"), "the address is not named: {line}");
}

/// A daemon that comes back at once is not kept out by what its predecessor left in TIME_WAIT.
#[test]
fn listen_again_on_the_same_port() {
    // An address of its own, so that no client of another test has the port meanwhile.
    let mut daemon = sockcap(&["--listen", "127.77.0.1:0"]).run(WHO).start();
    let to = daemon.addr(0);
    to_end(connect(to)); // the server's side ends first: TIME_WAIT is ours
    daemon.stop();
    let mut daemon = sockcap(&["--listen", &to.to_string()]).run(WHO).start();
    to_end(connect(to));
    daemon.stop();
}

#[test]
fn listen_on_a_path() {
    let dir = TempDir::new();
    let path = dir.join("s");
    let mut daemon = sockcap(&["--listen", &path]).start();
    let mut client = bounded(UnixStream::connect(&path).expect("connect"));
    echoes(&mut client);
    drop(client);
    daemon.stop();

    // whatever a stop leaves behind, the next start must work
    let mut daemon = sockcap(&["--listen", &path]).start();
    echoes(&mut bounded(UnixStream::connect(&path).expect("connect")));
    daemon.stop();
}

#[test]
fn a_stale_path_is_replaced() {
    let dir = TempDir::new();
    let path = dir.join("s");
    drop(UnixListener::bind(&path).expect("bind"));
    assert!(fs::symlink_metadata(&path).expect("left over").file_type().is_socket());
    let mut daemon = sockcap(&["--listen", &path]).start();
    echoes(&mut bounded(UnixStream::connect(&path).expect("connect")));
    daemon.stop();
}

#[test]
fn a_live_path_is_left_alone() {
    let dir = TempDir::new();
    let path = dir.join("s");
    let live = UnixListener::bind(&path).expect("bind");
    let line = sockcap(&["--listen", &path]).output().one_line(&[1, 2]);
    assert!(line.contains(&path), "the path is not named: {line}");
    live.set_nonblocking(true).expect("O_NONBLOCK");
    while live.accept().is_ok() {} // the probe, if there was one
    let _client = UnixStream::connect(&path).expect("the path still leads to its owner");
    live.accept().expect("accept");
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let dir = TempDir::new();
    let path = dir.join("s");
    fs::write(&path, "somebody's data").expect("write");
    let line = sockcap(&["--listen", &path]).output().one_line(&[1, 2]);
    assert!(line.contains(&path), "the path is not named: {line}");
    assert_eq!(fs::read_to_string(&path).expect("read"), "somebody's data");
}

#[test]
fn listen_on_an_abstract_name() {
    let name = abstract_name("own");
    let mut daemon = sockcap(&["--listen", &format!("@{name}")]).start();
    let mut client = connect_abstract(&name);
    echoes(&mut client);
    drop(client);
    daemon.stop();
}

#[test]
fn listen_on_vsock() {
    let usable = socket::socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).is_ok_and(|fd| {
        socket::bind(fd.as_raw_fd(), &VsockAddr::new(libc::VMADDR_CID_LOCAL, libc::VMADDR_PORT_ANY)).is_ok()
    });
    if !usable {
        // it must still be understood, and fail as an address that this machine lacks
        let line = sockcap(&["--listen", "vsock:1:5001"]).output().one_line(&[1, 2]);
        assert!(line.contains("vsock:1:5001"), "the address is not named: {line}");
        return skip("listen_on_vsock", "no vsock loopback (vsock_loopback is not loaded)");
    }
    let port = 40_000 + std::process::id() % 20_000;
    let mut daemon = sockcap(&["--listen", &format!("vsock:1:{port}")]).run(WHO).start();
    let client = new_socket(AddressFamily::Vsock, SockType::Stream);
    socket::connect(client.as_raw_fd(), &VsockAddr::new(libc::VMADDR_CID_LOCAL, port)).expect("connect");
    assert_eq!(to_end(bounded(UnixStream::from(client))), format!("vsock:1:{port}  vsock:1\n"));
    daemon.stop();
}

/// Sockets that wait are not lost between two daemons on the same listener.
#[test]
fn a_restart_loses_nobody() {
    let ours = tcp_listener("127.0.0.1:0", 16);
    let to = ours.local_addr().expect("address");
    let again = ours.try_clone().expect("dup");
    let mut notify = Notify::new();
    let mut daemon = sockcap::<&str>(&[]).pass(ours).env("NOTIFY_SOCKET", notify.path()).start();
    let mut living = connect(to);
    echoes(&mut living);
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    notify.wait("STOPPING=1");
    let mut during: Vec<TcpStream> = (0..3).map(|_| connect(to)).collect();
    echoes(&mut living);
    drop(living);
    assert_eq!(daemon.totals(), Totals { accepted: 1, served: 1, ..Totals::default() });
    let mut after = connect(to);

    let mut daemon = sockcap::<&str>(&[]).pass(again).start();
    for client in &mut during {
        echoes(client);
    }
    echoes(&mut after);
    drop((during, after));
    assert_eq!(daemon.stop().served, 4);
}
