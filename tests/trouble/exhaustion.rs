//! When something runs out, stops or comes all at once: no spin, no flood, no lost client, no lost count.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::common::*;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;
use nix::sys::signal::Signal;

// ---------------------------------------------------------------------------------------------------------------------
// the cap

/// Under, at and over the cap, refusing: the last may, the next is told, and a slot given back is there for the next.
#[test]
fn exactly_at_the_cap_when_refusing() {
    for cap in [1, 2, 5] {
        let mut daemon =
            sockcap(&["--listen", "127.0.0.1:0", "--max-connections", &cap.to_string()]).run(PID_CAT).start();
        let to = daemon.addr(0);
        let mut living: Vec<Session> = (0..cap).map(|_| Session::open(to)).collect();
        refused(connect(to));
        refused(connect(to));
        for session in &mut living {
            echoes(&mut session.stream);
        }
        assert_eq!(daemon.commands().len(), cap);
        // the command's end is known to the daemon before this connection is: it must not be refused
        for _ in 0..20 {
            living.remove(0).leave();
            living.push(Session::open(to));
            refused(connect(to));
        }
        living.into_iter().for_each(Session::leave);
        let totals = daemon.stop();
        assert_eq!(
            totals,
            Totals { accepted: cap as u64 + 42, served: cap as u64 + 20, refused: 22, ..Totals::default() },
            "cap {cap}"
        );
    }
}

/// A client that comes after a command's end is not refused, however many signals the daemon has to read before that of the end.
#[test]
fn an_end_counts_before_its_signal_is_read() {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--max-connections", "1"]).run(PID_CAT).start();
    let first = Session::open(daemon.addr(0));
    daemon.signal(Signal::SIGSTOP);
    let stat = format!("/proc/{}/stat", daemon.pid());
    until("the stop", || std::fs::read_to_string(&stat).expect("stat").contains(") T "));
    // The kernel gives signals out by number: SIGCHLD's is above these.
    daemon.signal(Signal::SIGUSR1);
    daemon.signal(Signal::SIGUSR2);
    first.leave();
    let next = daemon.connect();
    daemon.signal(Signal::SIGCONT);
    Session::of(next).leave();
    assert_eq!(daemon.stop(), Totals { accepted: 2, served: 2, ..Totals::default() });
}

/// The same, waiting. The marks of the commands come through one pipe: their order is the order of the events.
#[test]
fn exactly_at_the_cap_when_waiting() {
    for cap in [1usize, 2, 5] {
        let mut daemon =
            sockcap(&["--listen", "127.0.0.1:0", "--max-connections", &cap.to_string(), "--when-full", "wait"])
                .run(&["/bin/sh", "-c", "echo start >&2; /bin/cat; echo end >&2"])
                .start();
        let mut clients: Vec<TcpStream> = (0..cap).map(|_| daemon.connect()).collect();
        for client in &mut clients {
            echoes(client);
        }
        let waiting: Vec<TcpStream> = (0..20).map(|_| daemon.connect()).collect();
        waits(&waiting[0]);
        until("their marks", || daemon.count("start") >= cap);
        assert_eq!(daemon.count("start"), cap);
        drop(clients);
        for mut client in waiting {
            echoes(&mut client);
        }
        assert_eq!(daemon.stop().served, cap as u64 + 20);
        let (mut alive, mut most) = (0, 0);
        for line in daemon.log() {
            match line.text.as_str() {
                "start" => alive += 1,
                "end" => alive -= 1,
                _ => {}
            }
            most = most.max(alive);
        }
        assert_eq!((alive, most), (0, cap), "cap {cap}");
    }
}

#[test]
fn fifty_are_served_in_the_order_of_their_coming() {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--max-connections", "1", "--when-full", "wait"])
        .run(&["/bin/sh", "-c", "echo serves $REMOTE_PORT >&2; exec /bin/cat"])
        .start();
    let clients: Vec<TcpStream> = (0..50).map(|_| daemon.connect()).collect();
    let came: Vec<String> =
        clients.iter().map(|c| format!("serves {}", c.local_addr().expect("address").port())).collect();
    // all hang up at once but the last: their turn comes all the same, and in order
    let mut clients = clients;
    let mut last = clients.pop().expect("the last");
    for client in &clients {
        client.shutdown(std::net::Shutdown::Write).expect("shutdown");
    }
    for client in clients {
        assert_eq!(to_end(client), "");
    }
    echoes(&mut last);
    drop(last);
    assert_eq!(daemon.stop().served, 50);
    let served: Vec<String> =
        daemon.log().iter().map(|l| l.text.clone()).filter(|t| t.starts_with("serves ")).collect();
    assert_eq!(served, came);
}

/// Exits that come all at once are all counted: the signals for them merge into one.
#[test]
fn a_burst_of_exits_gives_back_every_slot() {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--max-connections", "30"]).run(PID_CAT).start();
    for _ in 0..3 {
        let sessions: Vec<Session> = (0..30).map(|_| Session::open(daemon.addr(0))).collect();
        refused(daemon.connect());
        for session in &sessions {
            nix::sys::signal::kill(session.pid, Signal::SIGKILL).expect("kill");
        }
        sessions.into_iter().for_each(Session::leave);
    }
    assert_eq!(daemon.stop(), Totals { accepted: 93, served: 90, refused: 3, ..Totals::default() });
}

// ---------------------------------------------------------------------------------------------------------------------
// what runs out

/// Out of descriptors: the clients wait in the kernel, the processor is left alone, the log has one line, and it heals.
#[test]
fn out_of_descriptors() {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0"]).start();
    let mut living = daemon.connect();
    echoes(&mut living);
    let complains = |daemon: &mut Daemon| {
        let words = ["descriptor", "too many open files", "emfile"];
        daemon.log().iter().filter(|l| words.iter().any(|w| l.text.to_lowercase().contains(w))).count()
    };
    for episode in 1..=2 {
        let open = daemon.open_fds();
        let first_free = (0..).find(|n| !open.contains(n)).expect("a free number");
        prlimit(&[], daemon.pid(), &format!("--nofile={first_free}:"));
        let mut waiting: Vec<TcpStream> = (0..3).map(|_| daemon.connect()).collect();

        let before = daemon.cpu_ticks();
        let window = Duration::from_secs(2);
        assert!(!ready(&waiting[0], PollFlags::POLLIN | HANGUP, window), "answered without a descriptor");
        let used = daemon.cpu_ticks() - before;
        assert!(used < 10, "{used} ticks of processor time in {window:?}: it spins");
        echoes(&mut living);
        until("a complaint", || complains(&mut daemon) >= episode);
        assert_eq!(complains(&mut daemon), episode, "one line per episode: {:#?}", daemon.log());

        prlimit(&[], daemon.pid(), "--nofile=1024:");
        for client in &mut waiting {
            echoes(client);
        }
        drop(waiting);
        until("only one left", || daemon.commands().len() == 1);
    }
    drop(living);
    assert_eq!(daemon.stop(), Totals { accepted: 7, served: 7, ..Totals::default() });
}

/// No new process allowed: the client is told, the slot is given back, and it heals.
#[test]
fn out_of_processes() {
    let Some(user) = another_user("out_of_processes") else { return };
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--max-connections", "1"]).wrap(&user).run(PID_CAT).start();
    Session::open(daemon.addr(0)).leave();
    let mut refused = 0;
    for _ in 0..2 {
        prlimit(&user, daemon.pid(), "--nproc=1:");
        for _ in 0..3 {
            let said = to_end(daemon.connect());
            assert_eq!(said, UNAVAILABLE, "after {refused} that were told");
            refused += 1;
        }
        prlimit(&user, daemon.pid(), "--nproc=1000:");
        let mut session = Session::open(daemon.addr(0));
        echoes(&mut session.stream);
        session.leave();
    }
    assert_eq!(daemon.stop(), Totals { accepted: 9, served: 3, failed: 6, ..Totals::default() });
}

// ---------------------------------------------------------------------------------------------------------------------
// the end

#[test]
fn sigterm_lets_the_living_finish() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut notify = Notify::new();
        let mut daemon =
            sockcap(&["--listen", "127.0.0.1:0", "--drain-timeout", "60s"]).env("NOTIFY_SOCKET", notify.path()).start();
        let mut living = daemon.connect();
        echoes(&mut living);
        daemon.signal(signal);
        notify.wait("STOPPING=1");
        echoes(&mut living);
        let late = TcpStream::connect(daemon.addr(0)).expect_err("nobody comes in any more");
        assert_eq!(late.kind(), std::io::ErrorKind::ConnectionRefused);
        echoes(&mut living);
        drop(living);
        assert_eq!(daemon.totals().served, 1);
    }
}

/// systemd's sockets go on listening: the next daemon serves who came meanwhile.
#[test]
fn sigterm_leaves_passed_sockets_alone() {
    let ours = tcp_listener("127.0.0.1:0", 8);
    let mut daemon = sockcap::<&str>(&[]).pass(ours.try_clone().unwrap()).start();
    daemon.stop();
    let late = TcpStream::connect(ours.local_addr().unwrap()).unwrap();
    ours.set_nonblocking(false).unwrap(); // sockcap made the open file, which is ours too, non-blocking
    let (_served, peer) = ours.accept().unwrap_or_else(|error| panic!("the queue is gone: {error}"));
    assert_eq!(peer, late.local_addr().unwrap());
}

#[test]
fn a_second_sigterm_does_not_wait() {
    let mut notify = Notify::new();
    let mut daemon =
        sockcap(&["--listen", "127.0.0.1:0", "--drain-timeout", "60s"]).env("NOTIFY_SOCKET", notify.path()).start();
    let mut living = daemon.connect();
    echoes(&mut living);
    daemon.signal(Signal::SIGTERM);
    notify.wait("STOPPING=1");
    let second = Instant::now();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(to_end(living), "");
    assert_eq!(daemon.totals().served, 1);
    assert!(second.elapsed() < Duration::from_secs(30), "it took {:?}", second.elapsed());
}

/// The drain has an end; who does not listen to SIGTERM gets SIGKILL after the grace, and so does its whole group.
#[test]
fn the_kill_ladder() {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--drain-timeout", "300ms", "--kill-grace", "300ms"])
        .run(&["/bin/sh", "-c", "trap '' TERM; exec 4<&0; echo deaf; (/bin/cat; :) <&4 & wait"])
        .start();
    let mut deaf = daemon.connect();
    assert_eq!(line(&mut deaf), "deaf");
    echoes(&mut deaf);
    let since = Instant::now();
    let totals = daemon.stop();
    assert_eq!(to_end(deaf), "");
    assert_eq!(totals.served, 1);
    assert!(since.elapsed() >= Duration::from_millis(600), "it was not given its time: {:?}", since.elapsed());
    assert!(since.elapsed() < Duration::from_secs(30), "it took {:?}", since.elapsed());
}

#[test]
fn the_ladder_begins_with_sigterm() {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--drain-timeout", "300ms", "--kill-grace", "60s"])
        .run(&["/bin/sh", "-c", "trap 'echo bye; exit' TERM; echo hello; read line"])
        .start();
    let mut client = daemon.connect();
    assert_eq!(line(&mut client), "hello");
    daemon.stop();
    assert_eq!(to_end(client), "bye\n");
}

// ---------------------------------------------------------------------------------------------------------------------
// the service manager

#[test]
fn notify_tells_state() {
    let mut notify = Notify::new();
    let mut daemon =
        sockcap(&["--listen", "127.0.0.1:0", "--max-connections", "1"]).env("NOTIFY_SOCKET", notify.path()).spawn();
    notify.wait("READY=1");
    daemon.wait_text("ready: ");
    let addr = daemon
        .log()
        .iter()
        .find_map(|l| l.text.strip_prefix("listening on ")?.split(' ').next()?.parse().ok())
        .expect("address");
    let mut living = connect(addr);
    echoes(&mut living);
    notify.wait_for("one active", |m| m.starts_with("STATUS=1/1 active"));
    refused(connect(addr));
    notify.wait_for("one refused", |m| m == "STATUS=1/1 active, 0 waiting, 1 refused (1 at capacity), 0 served");
    daemon.signal(Signal::SIGTERM);
    notify.wait("STOPPING=1");
    // a drain that takes its time asks for it
    let more = notify.wait_for("more time", |m| m.starts_with("EXTEND_TIMEOUT_USEC="));
    let micros: u64 = more.split('=').nth(1).expect("a value").parse().expect("a number");
    assert!(micros >= 1_000_000, "{more}");
    drop(living);
    daemon.totals();
}

#[test]
fn notify_counts_who_waits() {
    let mut notify = Notify::new();
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--max-connections", "1", "--when-full", "wait"])
        .env("NOTIFY_SOCKET", notify.path())
        .start();
    let mut living = daemon.connect();
    echoes(&mut living);
    let mut waiting: Vec<TcpStream> = (0..2).map(|_| daemon.connect()).collect();
    notify.wait_for("two waiting", |m| m == "STATUS=1/1 active, 2 waiting, 0 refused, 0 served");
    drop(living);
    echoes(&mut waiting[0]);
    notify.wait_for("one waiting", |m| m == "STATUS=1/1 active, 1 waiting, 0 refused, 1 served");
    drop(waiting);
    daemon.stop();
}

/// The status is free to be sent again when the second client comes: it must tell of a client in service, not of one that waits.
/// (A daemon that is stopped on its way to the status finds the second client in the kernel's queue.)
#[test]
fn whoever_is_served_at_once_is_never_told_as_waiting() {
    unless_stalled(Duration::from_secs(1), || {
        let mut notify = Notify::new();
        let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--max-connections", "2"])
            .env("NOTIFY_SOCKET", notify.path())
            .run(&["/bin/sh", "-c", "sleep 2.2; echo late; exec cat"]) // longer than from one status to the next but one
            .start();
        let mut first = daemon.connect();
        notify.wait_for("one active", |m| m == "STATUS=1/2 active, 0 waiting, 0 refused, 0 served");
        assert_eq!(line(&mut first), "late");
        let second = daemon.connect();
        assert_eq!(
            notify.wait_for("the next status", |m| m.starts_with("STATUS=")),
            "STATUS=2/2 active, 0 waiting, 0 refused, 0 served"
        );
        drop((first, second));
        daemon.stop();
    });
}

/// Nobody reads the manager's socket (PID 1 busy, stopped or frozen), and all services share its queue: clients are served and
/// refused, and all that mattered is there when it reads again.
#[test]
fn a_manager_that_does_not_read_holds_up_nobody() {
    let mut notify = Notify::new();
    notify.fill();
    let mut daemon =
        sockcap(&["--listen", "127.0.0.1:0", "--max-connections", "1"]).env("NOTIFY_SOCKET", notify.path()).start();
    for _ in 0..3 {
        let mut living = daemon.connect();
        echoes(&mut living);
        refused(daemon.connect());
        drop(living);
        until("an idle daemon", || daemon.commands().is_empty());
    }
    notify.wait("READY=1");
    notify.wait("STATUS=0/1 active, 0 waiting, 3 refused (3 at capacity), 3 served");
    notify.fill();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.totals().served, 3);
}

/// The end waits for the manager, and not for ever.
#[test]
fn a_hand_over_to_a_manager_that_does_not_read() {
    let ours = tcp_listener("127.0.0.1:0", 8);
    let to = ours.local_addr().expect("address");
    let notify = Notify::new();
    let mut daemon = sockcap(&["--max-connections", "1", "--when-full", "wait", "--max-wait", "1h"])
        .pass(ours.try_clone().expect("dup"))
        .env("NOTIFY_SOCKET", notify.path())
        .start();
    let mut living = connect(to);
    echoes(&mut living);
    let held = [(); 5].map(|()| connect(to));
    until("the kernel's queue is empty", || tcp_info(&ours).tcpi_unacked == 0);
    notify.fill();
    daemon.signal(Signal::SIGUSR1);
    let said = daemon.wait_text("could not hand everything over to the next daemon: ");
    assert!(said.text.contains("the service manager did not read its socket for 3 s; closed 5 "), "{said:?}");
    held.into_iter().for_each(|held| assert_eq!(to_end(held), ""));
    drop(living);
    assert_eq!(daemon.finish().code(), Some(0));
}

/// An outage shows in the status: nobody is active, waits or is refused by a limit, and yet nobody is served.
#[test]
fn the_status_tells_of_commands_that_do_not_start() {
    let (mut notify, dir) = (Notify::new(), TempDir::new());
    let program = dir.join("program");
    write_program(&program, b"#!/bin/sh\nexec cat\n");
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--max-connections", "1"])
        .env("NOTIFY_SOCKET", notify.path())
        .run(&[&program])
        .start();
    echoes(&mut daemon.connect());
    notify.wait("STATUS=0/1 active, 0 waiting, 0 refused, 1 served");
    std::fs::remove_file(&program).expect("remove");
    for failed in 1..=2 {
        to_end(daemon.connect());
        notify.wait(&format!("STATUS=0/1 active, 0 waiting, 0 refused, 1 served, {failed} failed to start"));
    }
    assert_eq!(daemon.stop().served, 1);
}

#[test]
fn status_without_a_cap() {
    let mut notify = Notify::new();
    let mut daemon =
        sockcap(&["--listen", "127.0.0.1:0", "--max-connections", "0"]).env("NOTIFY_SOCKET", notify.path()).start();
    let mut living = daemon.connect();
    echoes(&mut living);
    notify.wait_for("the status", |m| m == "STATUS=1/unlimited active, 0 waiting, 0 refused, 0 served");
    drop(living);
    daemon.stop();
}

#[test]
fn the_watchdog_is_fed_when_it_is_ours() {
    let pings = |pid: &str| {
        let mut notify = Notify::new();
        let mut daemon = sockcap(&["--listen", "127.0.0.1:0"])
            .env("NOTIFY_SOCKET", notify.path())
            .env("WATCHDOG_USEC", "200000")
            .prelude(&format!("export WATCHDOG_PID={pid}"))
            .start();
        notify.wait("READY=1");
        let (mut fed, end) = (0, Instant::now() + Duration::from_secs(1));
        while Instant::now() < end {
            fed += u32::from(notify.next(end - Instant::now()).is_some_and(|m| m.contains("WATCHDOG=1")));
        }
        daemon.stop();
        fed
    };
    // Once per half period is ten times; a busy machine may stop either of us for a while, so that there are few, or many at once.
    unless_stalled(Duration::from_secs(1), || {
        let fed = pings("$$");
        assert!((5..=11).contains(&fed), "fed {fed} times in a second");
    });
    assert_eq!(pings("1"), 0, "it feeds somebody else's watchdog");
}

#[test]
fn notify_on_an_abstract_socket() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("sockcap-notify-{}", std::process::id());
    let addr = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("name");
    let socket = std::os::unix::net::UnixDatagram::bind_addr(&addr).expect("bind");
    socket.set_read_timeout(Some(FUSE)).expect("timeout");
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0"]).env("NOTIFY_SOCKET", format!("@{name}")).start();
    let mut buffer = [0; 4096];
    while !buffer.starts_with(b"READY=1\n") {
        uninterrupted(|| socket.recv(&mut buffer)).expect("a message");
    }
    daemon.stop();
}

/// A service manager that is not there is no reason to stop working.
#[test]
fn notify_into_the_void() {
    let dir = TempDir::new();
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0"]).env("NOTIFY_SOCKET", dir.join("nobody")).start();
    echoes(&mut daemon.connect());
    daemon.stop();
}

// ---------------------------------------------------------------------------------------------------------------------
// the log

/// How many refusals the log accounts for, and with how many lines of their own.
fn refusals(log: &[Line]) -> (u64, u64) {
    let (mut single, mut summed) = (0, 0);
    for line in log {
        if line.text.starts_with("rejected connection: ") {
            single += 1;
        } else if let Some(rest) = line.text.strip_prefix("refused ") {
            let number = rest.split(' ').next().expect("a word");
            summed += number.parse::<u64>().unwrap_or_else(|_| panic!("no number in {line:?}"));
        }
    }
    (single, summed)
}

/// Five hundred refusals are a handful of lines, and none is missing from the sum.
#[test]
fn a_flood_of_refusals_is_a_handful_of_lines() {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--max-connections", "1"]).start();
    let mut living = daemon.connect();
    echoes(&mut living);
    let since = Instant::now();
    for _ in 0..500 {
        refused(daemon.connect());
    }
    let intervals = since.elapsed().as_secs() / 10 + 1;
    drop(living);
    assert_eq!(daemon.stop().refused, 500);
    let (single, summed) = refusals(daemon.log());
    assert!(single >= 1 && single <= 5 * intervals, "{single} lines in {intervals} intervals");
    assert_eq!(single + summed, 500);
}

/// The summary comes by itself when the interval is over, not only at the end.
#[test]
fn the_summary_comes_with_the_interval() {
    unless_stalled(Duration::from_secs(10), || {
        let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--max-connections", "1"]).start();
        let mut living = daemon.connect();
        echoes(&mut living);
        for _ in 0..8 {
            refused(daemon.connect());
        }
        let line = daemon.wait_for("a summary", |l| l.text.starts_with("refused "));
        assert!(line.text.starts_with("refused 3 more connections in the last "), "{line:?}");
        assert!(line.text.ends_with(" s: at capacity; most from 127.0.0.1 (3)"), "{line:?}");
        assert_eq!(line.priority, Some(4));
        refused(daemon.connect());
        daemon.wait_text("rejected connection: at capacity (1/1)");
        drop(living);
        daemon.stop();
        assert_eq!(refusals(daemon.log()), (6, 3));
    });
}

/// Nobody reads stderr and its pipe is full: that is the reader's trouble, not the clients'. The totals are still right.
#[test]
fn a_log_that_nobody_reads_delays_nobody() {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).expect("pipe");
    fill(&writer);
    let ours = tcp_listener("127.0.0.1:0", 1024);
    let to = ours.local_addr().expect("address");
    let mut notify = Notify::new();
    let mut daemon = sockcap(&["--max-connections", "1", "--verbose"])
        .pass(ours)
        .env("NOTIFY_SOCKET", notify.path())
        .stderr(writer)
        .spawn();
    notify.wait("READY=1");
    let mut living = connect(to);
    echoes(&mut living);
    let since = Instant::now();
    for _ in 0..300 {
        refused(connect(to));
    }
    assert!(since.elapsed() < FUSE, "300 refusals took {:?}", since.elapsed());
    echoes(&mut living);
    drop(living);
    // now somebody reads
    let text = all_of(std::fs::File::from(reader));
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.finish().code(), Some(0));
    let text = text.recv_timeout(FUSE).expect("the log's end");
    let totals = text.lines().find_map(|l| Totals::parse(l.split_once('>')?.1));
    let expected = Totals { accepted: 301, served: 1, refused: 300, ..Totals::default() };
    assert_eq!(totals, Some(expected), "the end of the log: {:?}", text.trim_start_matches('x'));
}

/// More entries than may wait for the log: what is left out is counted, and the totals at the end are not among it.
#[test]
fn a_log_that_falls_behind_counts_what_it_lost() {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).expect("pipe");
    fill(&writer);
    let ours = tcp_listener("127.0.0.1:0", 1024);
    let to = ours.local_addr().expect("address");
    let mut notify = Notify::new();
    let mut daemon = sockcap(&["--verbose"]).pass(ours).env("NOTIFY_SOCKET", notify.path()).stderr(writer).spawn();
    notify.wait("READY=1");
    // each is a line at its start and one at its end
    for _ in 0..400 {
        echoes(&mut connect(to));
    }
    until("an idle daemon", || daemon.commands().is_empty());
    let text = all_of(std::fs::File::from(reader));
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.finish().code(), Some(0));
    let text = text.recv_timeout(FUSE).expect("the log's end");
    let texts: Vec<&str> = text.lines().filter_map(|l| Some(l.split_once('>')?.1)).collect();
    let told = texts.iter().filter(|t| t.starts_with("serving ") || t.contains(" ended: ")).count();
    let lost: Vec<usize> =
        texts.iter().filter_map(|t| t.strip_prefix("lost ")?.split_once(" log entr")?.0.parse().ok()).collect();
    assert!(told < 800, "nothing was lost, so this test tests nothing");
    let expected = Totals { accepted: 400, served: 400, ..Totals::default() };
    assert_eq!(
        texts.iter().find_map(|t| Totals::parse(t)),
        Some(expected),
        "no totals; the end: {:?}",
        texts.iter().rev().take(3).collect::<Vec<_>>()
    );
    assert!(told + lost.iter().sum::<usize>() >= 800, "{told} told and {lost:?} lost of 800");
}

/// Nobody ever reads: it must end nevertheless.
#[test]
fn a_log_that_nobody_reads_does_not_hold_up_a_stop() {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).expect("pipe");
    fill(&writer);
    let mut notify = Notify::new();
    let mut daemon =
        sockcap(&["--listen", "127.0.0.1:0", "--verbose"]).env("NOTIFY_SOCKET", notify.path()).stderr(writer).spawn();
    notify.wait("READY=1");
    let ended = pidfd(daemon.pid());
    daemon.signal(Signal::SIGTERM);
    assert!(ready(&ended, PollFlags::POLLIN, FUSE), "it waits for a reader");
    assert_eq!(daemon.finish().code(), Some(0));
    drop(reader);
}

/// A reader that is slow and takes every line gets the last one.
#[test]
fn a_slow_reader_gets_the_totals() {
    unless_stalled(Duration::from_secs(3), || {
        let (reader, writer) = UnixStream::pair().expect("pair");
        // Each line is a packet here, and few fit.
        nix::sys::socket::setsockopt(&writer, nix::sys::socket::sockopt::SndBuf, &0).expect("SO_SNDBUF");
        reader.set_read_timeout(Some(FUSE)).expect("timeout");
        let mut notify = Notify::new();
        let options = ["--listen", "127.0.0.1:0", "--verbose", "--log-target", "stderr"];
        let mut daemon = sockcap(&options).env("NOTIFY_SOCKET", notify.path()).stderr(writer.into()).spawn();
        let mut lines = BufReader::new(reader).lines().map(|line| line.expect("a line"));
        let mut next = || Line::parse(&lines.next().expect("a line")).text;
        let first = next();
        let address =
            first.strip_prefix("listening on ").and_then(|rest| rest.split(" as ").next()).expect("an address");
        let to = address.parse().expect("an address");
        notify.wait("READY=1");
        for _ in 0..20 {
            echoes(&mut connect(to));
        }
        daemon.signal(Signal::SIGTERM);
        while !next().starts_with("stopped: ") {
            std::thread::park_timeout(QUIET);
        }
        assert_eq!(daemon.finish().code(), Some(0));
    });
}

/// The same for the last word of a start that fails.
#[test]
fn an_error_that_nobody_reads_does_not_hold_up_the_end() {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).expect("pipe");
    fill(&writer);
    let mut failed = sockcap::<&str>(&[]).stderr(writer).spawn();
    let ended = pidfd(failed.pid());
    assert!(ready(&ended, PollFlags::POLLIN, FUSE), "it waits for a reader");
    assert_eq!(failed.finish().code(), Some(2));
    drop(reader);
}

/// A reader that goes away (SIGPIPE, EPIPE) is no reason to die.
#[test]
fn a_log_whose_reader_has_gone_kills_nobody() {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).expect("pipe");
    let ours = tcp_listener("127.0.0.1:0", 64);
    let to = ours.local_addr().expect("address");
    let mut notify = Notify::new();
    let mut daemon =
        sockcap(&["--max-connections", "1"]).pass(ours).env("NOTIFY_SOCKET", notify.path()).stderr(writer).spawn();
    notify.wait("READY=1");
    drop(reader);
    let mut living = connect(to);
    echoes(&mut living);
    for _ in 0..10 {
        refused(connect(to));
    }
    echoes(&mut living);
    drop(living);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.finish().code(), Some(0));
}

/// Fills a pipe to the brim and leaves it blocking.
fn fill(writer: &OwnedFd) {
    let flags = OFlag::from_bits_retain(fcntl(writer, FcntlArg::F_GETFL).expect("F_GETFL"));
    fcntl(writer, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).expect("F_SETFL");
    let mut pipe = std::fs::File::from(writer.try_clone().expect("dup"));
    for size in [4096, 1] {
        while pipe.write(&b"x".repeat(size)).is_ok() {}
    }
    fcntl(writer, FcntlArg::F_SETFL(flags)).expect("F_SETFL");
}
