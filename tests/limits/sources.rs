//! One source among others: never more of it than `--max-per-source`, told at once and alone, and all that it had is given back;
//! whom the limits spare; what `--dry-run` says and does.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;
use std::{fs, io, thread};

use crate::common::*;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, VsockAddr, sockopt};

/// A client from this address of the machine's own, whatever the route says.
#[track_caller]
fn from(ip: impl Into<IpAddr>, port: u16) -> TcpStream {
    let ip = ip.into();
    let (family, to) = match ip {
        IpAddr::V4(_) => (AddressFamily::Inet, SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        IpAddr::V6(_) => (AddressFamily::Inet6, SocketAddr::from((Ipv6Addr::LOCALHOST, port))),
    };
    let fd = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("socket");
    // The port is chosen at connect, so that a source does not run out of them.
    socket::setsockopt(&fd, sockopt::IpBindAddressNoPort, &true).expect("IP_BIND_ADDRESS_NO_PORT");
    let bound = SocketAddr::from((ip, 0));
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(bound)).unwrap_or_else(|e| panic!("bind to {ip}: {e}"));
    socket::connect(fd.as_raw_fd(), &SockaddrStorage::from(to)).unwrap_or_else(|e| panic!("{ip} to {to}: {e}"));
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(FUSE)).expect("timeout");
    stream.set_write_timeout(Some(FUSE)).expect("timeout");
    stream
}

/// 127.0.0.N, or 127.0.M.N.
fn host(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(127, 0, high, low)
}

/// A daemon that all addresses of the loopback reach, and its port.
fn on_all_addresses(options: &[&str]) -> (Daemon, u16) {
    let daemon = sockcap(&[&["--listen", "0.0.0.0:0"], options].concat()).run(PID_CAT).start();
    let port = daemon.addr(0).port();
    (daemon, port)
}

#[track_caller]
fn served(number: u16, port: u16) -> Session {
    Session::of(from(host(number), port))
}

/// Refused, and told in the log with this reason and its own address.
#[track_caller]
fn over(daemon: &mut Daemon, client: TcpStream, reason: &str) {
    let at = client.local_addr().expect("address");
    refused(client);
    let line = daemon.wait_text("rejected connection: ");
    let words = format!("rejected connection: {reason}: {} port {} on ", at.ip(), at.port());
    assert!(line.text.starts_with(&words), "{line:?} is not {words:?}");
    assert_eq!(line.priority, Some(4), "{line:?}");
}

fn of_source(active: usize, max: usize) -> String {
    format!("at capacity ({active}/{max}) of this source")
}

/// Exactly so many of this source are served, so nothing that it had before is still counted.
#[track_caller]
fn all_given_back(number: u16, port: u16, max: usize) {
    let sessions: Vec<Session> = (0..max).map(|_| served(number, port)).collect();
    refused(from(host(number), port));
    sessions.into_iter().for_each(Session::leave);
}

// ---------------------------------------------------------------------------------------------------------------------
// borders

#[test]
fn borders_of_the_cap_on_a_source() {
    for max in [1, 2, 5] {
        let (mut daemon, port) = on_all_addresses(&["--max-per-source", &max.to_string()]);
        let mut sessions: Vec<Session> = (0..max).map(|_| served(2, port)).collect();
        over(&mut daemon, from(host(2), port), &of_source(max, max));
        // Others have their own.
        sessions.extend((0..max).map(|_| served(3, port)));
        over(&mut daemon, from(host(3), port), &of_source(max, max));
        sessions.remove(0).leave();
        sessions.push(served(2, port));
        over(&mut daemon, from(host(2), port), &of_source(max, max));
        sessions.into_iter().for_each(Session::leave);
        [2, 3].into_iter().for_each(|number| all_given_back(number, port, max));
        let served = 4 * max as u64 + 1;
        assert_eq!(daemon.stop(), Totals { accepted: served + 5, served, refused: 5, ..Totals::default() });
    }
}

/// Two levels: one address has its share of what its network has.
#[test]
fn a_network_has_a_limit_of_its_own() {
    let (mut daemon, port) = on_all_addresses(&["--max-per-source", "2", "--max-per-source", "3@24,48"]);
    let mut sessions = vec![served(2, port), served(2, port)];
    over(&mut daemon, from(host(2), port), &of_source(2, 2));
    sessions.push(served(3, port));
    for number in [2, 3, 4] {
        let (active, max) = if number == 2 { (2, 2) } else { (3, 3) };
        over(&mut daemon, from(host(number), port), &of_source(active, max));
    }
    sessions.push(served(0x0102, port));
    sessions.remove(0).leave();
    sessions.push(served(4, port));
    sessions.into_iter().for_each(Session::leave);
    all_given_back(2, port, 2);
    daemon.stop();
}

/// All listeners count together, and a source may have another address family at each.
#[test]
fn listeners_count_together() {
    let mut daemon = sockcap(&["--listen", "0.0.0.0:0", "--listen", "0.0.0.0:0", "--listen", "[::1]:0"])
        .args(&["--max-per-source", "2"])
        .run(PID_CAT)
        .start();
    let ports = [0, 1, 2].map(|nth| daemon.addr(nth).port());
    let sessions = [served(2, ports[0]), served(2, ports[1])];
    ports[..2].iter().for_each(|port| over(&mut daemon, from(host(2), *port), &of_source(2, 2)));
    let local = [(); 2].map(|()| Session::of(from(Ipv6Addr::LOCALHOST, ports[2])));
    over(&mut daemon, from(Ipv6Addr::LOCALHOST, ports[2]), &of_source(2, 2));
    sessions.into_iter().chain(local).for_each(Session::leave);
    daemon.stop();
}

/// A client of an abstract UNIX socket that is another user's, if it may be.
fn as_user(uid: Option<u32>, name: &str) -> UnixStream {
    let client = thread::scope(|scope| {
        let connects = scope.spawn(|| {
            if let Some(uid) = uid {
                // The C library would change all threads.
                // SAFETY: a system call on integers, which changes only this thread, and it ends here.
                let changed = unsafe { libc::syscall(libc::SYS_setresuid, -1, uid, -1) };
                assert_eq!(changed, 0, "setresuid: {}", io::Error::last_os_error());
            }
            UnixStream::connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name).expect("a name"))
        });
        connects.join().expect("a thread").expect("connect")
    });
    client.set_read_timeout(Some(FUSE)).expect("timeout");
    client
}

/// On a UNIX socket a source is a user.
#[test]
fn users_of_a_unix_socket() {
    let name = format!("sockcap-sources-{}", std::process::id());
    let options = ["--listen", &format!("@{name}"), "--max-per-source", "2"];
    let mut daemon = sockcap(&options).start();
    let users = if is_root() { vec![None, Some(61_901), Some(61_902)] } else { vec![None] };
    if users.len() == 1 {
        skip("other users of a UNIX socket", "only root can be another user");
    }
    let mut living = Vec::new();
    for user in users {
        for _ in 0..2 {
            let mut client = as_user(user, &name);
            echoes(&mut client);
            living.push(client);
        }
        refused(as_user(user, &name));
        let line = daemon.wait_text("rejected connection: ");
        assert!(line.text.starts_with(&format!("rejected connection: {}: ", of_source(2, 2))), "{line:?}");
    }
    drop(living);
    daemon.stop();
}

#[test]
fn contexts_of_vsock() {
    let listener = socket::socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).ok();
    let local = VsockAddr::new(libc::VMADDR_CID_LOCAL, libc::VMADDR_PORT_ANY);
    let Some(listener) = listener.filter(|fd| socket::bind(fd.as_raw_fd(), &local).is_ok()) else {
        return skip("contexts_of_vsock", "no vsock loopback (vsock_loopback is not loaded)");
    };
    listen(&listener, 16);
    let bound: VsockAddr = socket::getsockname(listener.as_raw_fd()).expect("getsockname");
    let connect = || {
        let fd = socket::socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("socket");
        socket::connect(fd.as_raw_fd(), &VsockAddr::new(libc::VMADDR_CID_LOCAL, bound.port())).expect("connect");
        let client = UnixStream::from(fd);
        client.set_read_timeout(Some(FUSE)).expect("timeout");
        client
    };
    let mut daemon = sockcap(&["--max-per-source", "1"]).pass(listener).start();
    let mut living = connect();
    echoes(&mut living);
    refused(connect());
    drop(living);
    daemon.stop();
}

/// A network of our own, with these addresses. What `run` starts is in it.
fn in_a_network(what: &str, addresses: &[&str], run: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            // SAFETY: unshare takes a number, and concerns this thread alone, which ends here.
            let made = Errno::result(unsafe { libc::unshare(libc::CLONE_NEWNET) }).map_err(io::Error::from);
            let ip = |words: &[&str]| match Command::new("ip").args(words).status()? {
                status if status.success() => Ok(()),
                status => Err(io::Error::other(format!("ip {}: {status}", words.join(" ")))),
            };
            let made = made.and_then(|_| ip(&["link", "set", "lo", "up"])).and_then(|()| {
                addresses.iter().try_for_each(|address| match address.contains(':') {
                    true => ip(&["-6", "addr", "add", &format!("{address}/128"), "dev", "lo", "nodad"]),
                    false => ip(&["addr", "add", &format!("{address}/32"), "dev", "lo"]),
                })
            });
            match made {
                Ok(()) => run(),
                Err(why) => {
                    assert!(std::env::var("CI").as_deref() != Ok("true"), "cannot make a network: {why}");
                    skip(what, &format!("cannot make a network of its own: {why}"));
                }
            }
        });
        if let Err(panic) = inside.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn dual_stack() -> TcpListener {
    let fd = socket::socket(AddressFamily::Inet6, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("socket");
    socket::setsockopt(&fd, sockopt::Ipv6V6Only, &false).expect("IPV6_V6ONLY");
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(any)).expect("bind");
    listen(&fd, 64);
    TcpListener::from(fd)
}

/// An IPv4 host is one source in all forms of its address, and not one with all others behind NAT64; 64 bits of an IPv6 address are one.
#[test]
fn one_host_in_all_its_forms() {
    const NAT64: [&str; 2] = ["64:ff9b::c000:201", "64:ff9b::c000:202"];
    const SITE: [&str; 5] =
        ["2001:db8:1:1::1", "2001:db8:1:1:8000::2", "2001:db8:1:2::1", "2001:db8:1:3::1", "2001:db8:2:1::1"];
    let addresses = [&["192.0.2.1", "192.0.2.2"], &NAT64[..], &SITE[..]].concat();
    in_a_network("one_host_in_all_its_forms", &addresses, || {
        let (v4, dual) = (tcp_listener("0.0.0.0:0", 64), dual_stack());
        let [v4_port, port] = [&v4, &dual].map(|l| l.local_addr().expect("address").port());
        let options = ["--max-per-source", "2", "--max-per-source", "3@48"];
        let mut daemon = sockcap(&options).pass(v4).pass(dual).run(PID_CAT).start();
        let at = |address: &str, port| from(address.parse::<IpAddr>().expect("an address"), port);

        let mut sessions = vec![Session::of(at("192.0.2.1", v4_port)), Session::of(at("192.0.2.1", port))];
        over(&mut daemon, at(NAT64[0], port), &of_source(2, 2));
        over(&mut daemon, at("192.0.2.1", v4_port), &of_source(2, 2));
        sessions.push(Session::of(at(NAT64[1], port)));
        sessions.push(Session::of(at("192.0.2.2", port)));
        over(&mut daemon, at("192.0.2.2", v4_port), &of_source(2, 2));
        sessions.remove(0).leave();
        sessions.push(Session::of(at(NAT64[0], port)));
        sessions.into_iter().for_each(Session::leave);
        daemon.stop();

        let mut daemon = sockcap(&options).pass(dual_stack()).run(PID_CAT).start();
        let port = daemon.addr(0).port();
        let mut sessions = vec![Session::of(at(SITE[0], port)), Session::of(at(SITE[1], port))];
        over(&mut daemon, at(SITE[0], port), &of_source(2, 2));
        sessions.push(Session::of(at(SITE[2], port)));
        over(&mut daemon, at(SITE[3], port), &of_source(3, 3));
        sessions.push(Session::of(at(SITE[4], port)));
        sessions.into_iter().for_each(Session::leave);
        daemon.stop();

        // Spared by the address that the log shows.
        let options = ["--max-per-source", "1", "--exempt", NAT64[0]];
        let mut daemon = sockcap(&options).pass(dual_stack()).run(PID_CAT).start();
        let port = daemon.addr(0).port();
        let spared = [NAT64[0], "192.0.2.1"].map(|address| Session::of(at(address, port)));
        let other = Session::of(at(NAT64[1], port));
        over(&mut daemon, at(NAT64[1], port), &of_source(1, 1));
        spared.into_iter().chain([other]).for_each(Session::leave);
        daemon.stop();
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// with wait

/// One source cannot fill the queue: it is told at once what is over its limit, held clients counted, and another waits and is served.
#[test]
fn no_source_fills_the_queue() {
    let options = ["--max-connections", "1", "--when-full", "wait", "--max-waiting", "3", "--max-per-source", "3"];
    let (mut daemon, port) = on_all_addresses(&options);
    let living = served(2, port);
    let held = [(); 2].map(|()| from(host(2), port));
    for _ in 0..3 {
        over(&mut daemon, from(host(2), port), &of_source(3, 3));
    }
    let other = from(host(3), port);
    refused(from(host(4), port)); // so `other` is held
    daemon.wait_text("rejected connection: queue full");
    held.iter().chain([&other]).for_each(|client| assert!(!ready(client, HANGUP, Duration::ZERO)));
    living.leave();
    held.into_iter().for_each(|client| Session::of(client).leave());
    Session::of(other).leave();
    // Who was held and has been served is not counted any more.
    let living = served(3, port);
    let held = [(); 3].map(|()| from(host(2), port));
    over(&mut daemon, from(host(2), port), &of_source(3, 3));
    living.leave();
    held.into_iter().for_each(|client| Session::of(client).leave());
    daemon.stop();
}

/// Who was held and has left counts no more for the next of its source or of its network, however many events come before its own.
#[test]
fn the_held_who_left_do_not_count() {
    const CROWD: u16 = 100;
    for (limit, other) in [("1", 6), ("1@31", 7)] {
        let options = ["--max-connections", "1", "--when-full", "wait", "--max-wait", "1h", "--max-per-source", limit];
        let (mut daemon, port) = on_all_addresses(&options);
        let living = served(2, port);
        let crowd: Vec<TcpStream> = (0..CROWD).map(|number| from(host(0x0200 + 2 * number), port)).collect();
        let leaver = from(host(6), port);
        over(&mut daemon, from(host(other), port), &of_source(1, 1)); // so all are held
        daemon.signal(Signal::SIGSTOP);
        let first = from(host(4), port);
        crowd.into_iter().for_each(reset);
        reset(leaver);
        let next = from(host(other), port);
        daemon.signal(Signal::SIGCONT);
        living.leave();
        Session::of(first).leave();
        Session::of(next).leave();
        let gone = u64::from(CROWD) + 1;
        assert_eq!(daemon.stop(), Totals { accepted: 4 + gone, served: 3, refused: 1, gone, ..Totals::default() });
    }
}

/// However its clients end, nothing of a source is left behind: those who leave while they are held, are refused, are told that their
/// command cannot start, or are killed.
#[test]
fn whatever_happens_is_given_back() {
    let dir = TempDir::new();
    let program = dir.join("program");
    write_program(&program, b"#!/bin/sh\necho $$\nexec cat\n");
    for when_full in ["refuse", "wait"] {
        let options = ["--listen", "0.0.0.0:0", "--max-per-source", "4", "--when-full", when_full];
        let mut daemon = sockcap(&options).args(&["--max-wait", "1h"]).run(&[&program]).start();
        let port = daemon.addr(0).port();
        // A command that cannot start.
        fs::rename(&program, dir.join("away")).expect("rename");
        for _ in 0..6 {
            assert_eq!(to_end(from(host(2), port)), UNAVAILABLE);
            // The client is told a moment before the process that could not become the command is gone.
            until("an idle daemon", || daemon.commands().is_empty());
        }
        fs::rename(dir.join("away"), &program).expect("rename");
        all_given_back(2, port, 4);
        // Clients that reset at once, and commands that are killed.
        (0..20).for_each(|_| reset(from(host(2), port)));
        served(3, port).leave(); // so they have been accepted
        until("an idle daemon", || daemon.commands().is_empty());
        for _ in 0..3 {
            let sessions: Vec<Session> = (0..4).map(|_| served(2, port)).collect();
            refused(from(host(2), port));
            for session in &sessions {
                nix::sys::signal::kill(session.pid, Signal::SIGKILL).expect("kill");
            }
            sessions.into_iter().for_each(Session::leave);
        }
        all_given_back(2, port, 4);
        daemon.stop();
    }
}

/// Four sources that come and leave as they like, in a few ways and in no order, at a service that is full all the time.
#[test]
fn a_storm_leaves_nothing_behind() {
    let options = ["--max-connections", "3", "--when-full", "wait", "--max-per-source", "4", "--max-wait", "1h"];
    let (mut daemon, port) = on_all_addresses(&options);
    let (mut random, mut clients) = (7u64, Vec::new());
    for _ in 0..400 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let dice = random >> 33;
        clients.push(from(host(2 + (dice % 4) as u16), port));
        if clients.len() > 12 {
            let leaver = clients.swap_remove((dice / 4) as usize % clients.len());
            match dice / 64 % 3 {
                0 => reset(leaver),
                1 => drop(leaver),
                _ => leaver.shutdown(std::net::Shutdown::Write).expect("shutdown"),
            }
        }
        assert!(daemon.commands_at_once() <= 3);
    }
    // Those who are left are served or refused, and it is over for all.
    for client in &clients {
        let _ = client.shutdown(std::net::Shutdown::Write);
    }
    for mut client in clients {
        let _ = client.read_to_end(&mut Vec::new());
    }
    (2..6).for_each(|number| {
        let living = [(); 3].map(|()| served(9, port));
        let held = [(); 4].map(|()| from(host(number), port));
        refused(from(host(number), port));
        living.into_iter().for_each(Session::leave);
        held.into_iter().for_each(|client| Session::of(client).leave());
    });
    daemon.stop();
}

// ---------------------------------------------------------------------------------------------------------------------
// who is spared

#[test]
fn the_exempt_get_in_when_the_rest_is_full() {
    let options = ["--max-connections", "3", "--max-per-source", "2", "--exempt", "127.0.1.0/24", "--reserved", "1"];
    let (mut daemon, port) = on_all_addresses(&options);
    let mut ordinary = vec![served(2, port), served(3, port)];
    over(&mut daemon, from(host(4), port), "at capacity (2/2)");
    let mut exempt = vec![served(0x0101, port)];
    over(&mut daemon, from(host(0x0101), port), "at capacity (3/3)");
    // What the others leave is theirs, too, and no limit on sources is for them.
    ordinary.drain(..).for_each(Session::leave);
    exempt.extend([served(0x0101, port), served(0x0101, port)]);
    over(&mut daemon, from(host(2), port), "at capacity (3/2)");
    exempt.into_iter().for_each(Session::leave);
    all_given_back(2, port, 2);
    daemon.stop();
}

#[test]
fn the_exempt_pass_those_who_wait() {
    let options = [
        "--when-full",
        "wait",
        "--max-connections",
        "2",
        "--max-waiting",
        "2",
        "--exempt",
        "127.0.1.1",
        "--reserved=1",
    ];
    let (mut daemon, port) = on_all_addresses(&options);
    let ordinary = served(2, port);
    let waiting = [(); 2].map(|()| from(host(2), port));
    refused(from(host(2), port)); // so both are held
    daemon.wait_text("rejected connection: queue full");
    served(0x0101, port).leave();
    let exempt = served(0x0101, port);
    assert!(waiting.iter().all(|client| !ready(client, nix::poll::PollFlags::POLLIN, Duration::ZERO)));
    // The exempt has its place among those that are taken, so one that comes free is kept for the next of them.
    ordinary.leave();
    waits(&waiting[0]);
    served(0x0101, port).leave();
    exempt.leave();
    let [first, second] = waiting;
    let first = Session::of(first);
    waits(&second);
    first.leave();
    Session::of(second).leave();
    daemon.stop();
}

// ---------------------------------------------------------------------------------------------------------------------
// what is told

/// The address of a client that is not to be logged is not in the limit's words either.
#[test]
fn no_address_is_told_that_is_not_to_be() {
    for (how, shown) in [("prefix", "127.0.0.0/24"), ("none", "a client")] {
        let (mut daemon, port) = on_all_addresses(&["--max-per-source", "1", "--log-peer", how, "--verbose"]);
        let living = served(77, port);
        refused(from(host(77), port));
        let line = daemon.wait_text("rejected connection: ");
        assert!(line.text.starts_with(&format!("rejected connection: {}: {shown} on '", of_source(1, 1))), "{line:?}");
        living.leave();
        daemon.stop();
        assert_eq!(daemon.count("127.0.0.77"), 0, "{how}: {:#?}", daemon.log());
    }
}

/// A summary names who most of its refusals are of, and no more of them than may be told. Those that are told singly are none of it.
#[test]
fn a_summary_names_the_sources() {
    for (how, most) in [
        ("full", "; most from 127.0.0.3 (4), 127.0.0.4 (3), 127.0.0.2 (2)"),
        ("prefix", "; most from 127.0.0.0/24 (10)"),
        ("none", ""),
    ] {
        unless_stalled(Duration::from_secs(10), || {
            let (mut daemon, port) = on_all_addresses(&["--max-connections", "1", "--log-peer", how]);
            let living = served(9, port);
            for source in [2, 2, 2, 2, 2, /* singly so far */ 5, 2, 4, 3, 4, 3, 3, 2, 3, 4] {
                refused(from(host(source), port));
            }
            living.leave();
            assert_eq!(daemon.stop().refused, 15);
            let summary = daemon.wait_text("refused 10 more connections in the last ").text;
            assert!(summary.ends_with(&format!(" s: at capacity{most}")), "{how}: {summary}");
        });
    }
}

/// A limit that only judges says what it would do, and does nothing.
#[test]
fn a_dry_run_tells_and_lets_in() {
    unless_stalled(Duration::from_secs(10), || {
        let (mut daemon, port) = on_all_addresses(&["--max-per-source", "1", "--dry-run", "--max-connections", "9"]);
        let mut sessions = vec![served(2, port), served(3, port)];
        for nth in 1..=7 {
            let client = from(host(2), port);
            let from = client.local_addr().expect("address").port();
            sessions.push(Session::of(client));
            if nth <= 5 {
                let line = daemon.wait_text("dry run: ");
                let words = format!(
                    "dry run: would reject connection: at capacity ({nth}/1) of this source: 127.0.0.2 port {from} on "
                );
                assert!(line.text.starts_with(&words), "{line:?} is not {words:?}");
            }
        }
        // The total is none of it.
        refused(from(host(4), port));
        // An end that nobody has heard of yet is not told as one too many.
        sessions.remove(1).leave();
        served(3, port).leave();
        served(3, port).leave();
        sessions.into_iter().for_each(Session::leave);
        assert_eq!(daemon.stop(), Totals { accepted: 12, served: 11, refused: 1, ..Totals::default() });
        assert_eq!(daemon.count("dry run: would reject connection: "), 5, "{:#?}", daemon.log());
        let summary = daemon.wait_text("dry run: would reject 2 more connections in the last ");
        assert!(summary.text.ends_with(" s: source at capacity; most from 127.0.0.2 (2)"), "{summary:?}");
        assert!(
            daemon.log().iter().any(|l| l.text.ends_with(" s; dry run: 7 clients over a limit")),
            "{:#?}",
            daemon.log()
        );
    });
}

/// With `wait` it says whom it would hold.
#[test]
fn a_dry_run_of_the_total_says_who_would_wait() {
    let options = ["--max-connections", "1", "--when-full", "wait", "--dry-run=max-connections,max-per-source"];
    let (mut daemon, port) = on_all_addresses(&options);
    let first = served(2, port);
    let second = served(3, port);
    let line = daemon.wait_text("dry run: ");
    assert!(line.text.starts_with("dry run: would hold connection: at capacity (1/1): 127.0.0.3 port "), "{line:?}");
    first.leave();
    second.leave();
    served(2, port).leave();
    assert_eq!(daemon.stop(), Totals { accepted: 3, served: 3, ..Totals::default() });
    assert!(daemon.log().iter().any(|l| l.text.ends_with(" s; dry run: 1 client over a limit")), "{:#?}", daemon.log());
}
