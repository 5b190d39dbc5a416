//! `--listen` where something is in the way: a path that is somebody's, a name server that is silent, an address that is not there;
//! and peers whose address or name needs care.

use crate::common::*;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use std::fs;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

/// Words that give sockcap a network and a mount namespace of its own, in which `script` has run.
fn apart(script: &str) -> Vec<String> {
    let script = format!("ip link set lo up && {script} && exec \"$@\"");
    ["unshare", "-n", "-m", "sh", "-c", &script, "sh"].map(str::to_owned).into()
}

fn can_be_apart(what: &str) -> bool {
    let words = apart("true");
    let can = is_root()
        && std::process::Command::new(&words[0]).args(&words[1..]).arg("true").status().is_ok_and(|s| s.success());
    if !can {
        skip(what, "cannot make a network of its own (root, unshare, ip)");
    }
    can
}

// ---------------------------------------------------------------------------------------------------------------------
// paths

/// The owner has a full queue, in which a client that asks would wait, and never hears of the asking.
#[test]
fn a_path_with_a_full_queue_is_in_use() {
    let dir = TempDir::new();
    let path = dir.join("s");
    let owner = UnixListener::bind(&path).expect("bind");
    listen(&owner, 0);
    let first = UnixStream::connect(&path).expect("connect");
    let line = sockcap(&["--listen", &path]).output().one_line(&[1]);
    assert!(line.contains(&path) && line.contains("EADDRINUSE"), "{line}");
    owner.set_nonblocking(true).expect("O_NONBLOCK");
    owner.accept().expect("the first client");
    assert!(owner.accept().is_err(), "somebody else has connected");
    drop(first);
}

/// Bound is in use, even if nobody listens yet, or no more.
#[test]
fn a_path_that_is_only_bound_is_in_use() {
    let dir = TempDir::new();
    for (name, kind) in
        [("stream", SockType::Stream), ("packets", SockType::SeqPacket), ("datagrams", SockType::Datagram)]
    {
        let path = dir.join(name);
        let owner = socket::socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None).expect("socket");
        socket::bind(owner.as_raw_fd(), &UnixAddr::new(path.as_str()).expect("path")).expect("bind");
        let line = sockcap(&["--listen", &path]).output().one_line(&[1]);
        assert!(line.contains("EADDRINUSE"), "{line}");
        assert!(fs::symlink_metadata(&path).is_ok(), "{name} was removed");
    }
}

/// A daemon that only waits for its last commands leaves the path to the next one, and does not take it away from that.
#[test]
fn a_path_passes_to_the_next_daemon_while_the_last_one_drains() {
    let dir = TempDir::new();
    let path = dir.join("s");
    let connect = || {
        let stream = UnixStream::connect(&path).expect("connect");
        stream.set_read_timeout(Some(FUSE)).expect("timeout");
        stream
    };
    let mut last = sockcap(&["--listen", &path]).start();
    let mut client = connect();
    echoes(&mut client);
    last.signal(Signal::SIGTERM);
    last.wait_text("SIGTERM");
    let mut next = sockcap(&["--listen", &path]).start();
    echoes(&mut connect());
    drop(client);
    assert!(last.finish().success());
    echoes(&mut connect());
    next.stop();
    assert!(fs::symlink_metadata(&path).is_err(), "the path outlives its daemon");
}

// ---------------------------------------------------------------------------------------------------------------------
// names

/// The answer would be waited for over two minutes.
#[test]
fn a_silent_name_server_does_not_keep_it_from_ending() {
    if !can_be_apart("a silent name server") {
        return;
    }
    let dir = TempDir::new();
    let conf = dir.join("resolv.conf");
    fs::write(&conf, "nameserver 127.53.53.1\noptions timeout:30 attempts:5\n").expect("write");
    // It hears the question, which the test may then know of, and says nothing.
    let server = match UdpSocket::bind("127.53.53.1:53") {
        Ok(server) => server,
        Err(why) => return skip("a silent name server", &format!("port 53 is not to be had: {why}")),
    };
    server.set_read_timeout(Some(FUSE)).expect("timeout");
    let words = ["unshare", "-m", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"", &conf];
    for (signal, name) in [(Signal::SIGTERM, "term"), (Signal::SIGINT, "int")] {
        let mut daemon = sockcap(&["--listen", &format!("{name}.invalid:7000")]).wrap(&words).spawn();
        let mut question = [0; 512];
        // More than one question is asked for a name, and one of the last may still be here.
        while !question.windows(name.len()).any(|part| part == name.as_bytes()) {
            uninterrupted(|| server.recv(&mut question)).expect("a question");
        }
        daemon.signal(signal);
        assert!(daemon.finish().success(), "{signal}");
    }
}

/// `::1` is in most hosts(5), and on no interface of many a container.
#[test]
fn as_many_addresses_of_a_name_as_there_are() {
    if !can_be_apart("addresses of a name") {
        return;
    }
    let dir = TempDir::new();
    let hosts = dir.join("hosts");
    fs::write(&hosts, "::1 localhost\n127.0.0.1 localhost\n192.0.2.1 nowhere\n").expect("write");
    let words = apart(&format!("ip -6 addr flush dev lo && mount --bind {hosts} /etc/hosts"));
    let mut daemon = sockcap(&["--listen", "localhost:7000"]).wrap(&words).start();
    assert_eq!(daemon.listeners(), ["127.0.0.1:7000 as 'localhost:7000'"]);
    assert_eq!(daemon.count("cannot listen on [::1]:7000: "), 1, "{:#?}", daemon.log());
    let why = " (EADDRNOTAVAIL); serving the other addresses of 'localhost:7000'";
    assert_eq!(daemon.count(why), 1, "{:#?}", daemon.log());
    daemon.stop();

    let line = sockcap(&["--listen", "nowhere:7000"]).wrap(&words).output().one_line(&[1]);
    assert!(line.contains("cannot listen on 'nowhere:7000'") && line.contains("EADDRNOTAVAIL"), "{line}");
}

/// One line that says what to type.
#[test]
fn an_address_in_another_form_is_answered_with_ours() {
    for (typed, answer) in [
        (":8080", "write '8080' for all addresses"),
        ("*:8080", "write '8080' for all addresses"),
        ("[::1]", "a port is missing: write '[::1]:PORT'"),
        ("::1:7000", "write '[::1]:7000'"),
        ("localhost", "a port is missing: write 'localhost:PORT'"),
        ("127.0.0.1:7000,[::1]:7001", "give --listen once for each address"),
        ("udp:53", "UDP has no connections"),
    ] {
        let line = sockcap(&["--listen", typed]).output().mistake();
        assert!(line.contains(typed) && line.contains(answer), "{line}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// peers

/// Who has come by an address of one link can be answered only with the link's name. Here the link is the loopback.
#[test]
fn a_link_local_peer_keeps_its_zone() {
    if !can_be_apart("a link-local peer") {
        return;
    }
    let tell = "echo \"$REMOTE_ADDR $TCPREMOTEIP $TCPLOCALIP $1 $2\"";
    let script = "ip -6 addr add fe80::7/64 dev lo nodad && until ip -6 route show table all | grep -q fe80::7; do sleep 0.05; done";
    for at in ["[fe80::7%lo]:7000", "7000"] {
        let mut daemon = sockcap(&["--listen", at, "-v"])
            .wrap(&apart(script))
            .run(&["/bin/sh", "-c", tell, "sh", "{remote_addr}", "{local_addr}"])
            .start();
        let call = "exec 3<>/dev/tcp/fe80::7%lo/7000 && cat <&3";
        let client = ["nsenter", "-n", "-t", &daemon.pid().to_string(), "bash", "-c", call].map(str::to_owned);
        let said = std::process::Command::new(&client[0]).args(&client[1..]).output().expect("nsenter");
        let said = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.trim_end(), ["fe80::7%lo"; 5].join(" "), "{at}");
        daemon.wait_text("from fe80::7%lo port ");
        daemon.stop();
    }
}

/// A name is the client's choice: in arguments it is no option, and nowhere does it begin a line or move a cursor.
#[test]
fn a_unix_peer_s_name_is_no_option_and_has_no_control_characters() {
    let dir = TempDir::new();
    let path = dir.join("s");
    let tell = "printf '%s|%s|%s' \"$1\" \"$REMOTE_ADDR\" \"$IPCREMOTEPATH\"";
    let mut daemon = sockcap(&["--listen", &path]).run(&["/bin/sh", "-c", tell, "sh", "{remote_addr}"]).start();
    let abstract_name = |name: &[u8]| UnixAddr::new_abstract(name).expect("name");
    let file = |name: &str| UnixAddr::new(name).expect("name");
    let home = TempDir::new();
    for (name, told) in [
        (abstract_name(b"two\nlines\x1b[2J"), r"@two\nlines\033[2J"),
        (abstract_name(b"--help"), "@--help"),
        (file("--help"), "./--help"),
        (file("@not-abstract"), "./@not-abstract"),
    ] {
        // A relative name needs a working directory, which all threads share until one has its own.
        let client = thread::scope(|scope| {
            let called = scope.spawn(|| {
                // SAFETY: unshare takes a number, and concerns this thread alone.
                Errno::result(unsafe { libc::unshare(libc::CLONE_FS) }).expect("unshare");
                std::env::set_current_dir(home.path()).expect("chdir");
                let kind = SockType::Stream;
                let fd = socket::socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None).expect("socket");
                socket::bind(fd.as_raw_fd(), &name).expect("bind");
                socket::connect(fd.as_raw_fd(), &file(&path)).expect("connect");
                UnixStream::from(fd)
            });
            called.join().expect("client")
        });
        client.set_read_timeout(Some(FUSE)).expect("timeout");
        assert_eq!(to_end(client), format!("{told}|{told}|{told}"));
    }
    daemon.stop();
}

// ---------------------------------------------------------------------------------------------------------------------
// options of the socket

/// A client whose machine has gone gives its place back some time.
#[test]
fn connections_have_keepalive() {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0"]).start();
    let mut client = daemon.connect();
    echoes(&mut client);
    let [ours, theirs] = [daemon.addr(0).port(), client.local_addr().expect("address").port()];
    // Local and remote address in hexadecimal, the state (1: established), the queues; and which timer runs (2: keepalive).
    let timer = || {
        let table = fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
        let ends = format!(" 0100007F:{ours:04X} 0100007F:{theirs:04X} 01 ");
        let line = table.lines().find(|line| line.contains(&ends)).expect("the connection").to_owned();
        line.split_whitespace().nth(5).expect("a timer").to_owned()
    };
    until("the keepalive timer runs", || timer().starts_with("02:"));
    drop(client);
    daemon.stop();
}
