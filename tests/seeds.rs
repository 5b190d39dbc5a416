//! The promises of the five programs and lessons that sockcap grew from, each under its own name.

mod common;

use std::net::TcpStream;
use std::time::Instant;

use common::*;

/// Net::Daemon's `--maxclients`: two may come, the third is refused, and a free slot is used again.
#[test]
fn net_daemon_maxclients() {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--maxclients", "2"]).run(PID_CAT).start();
    let to = daemon.addr(0);
    let mut first = Session::open(to);
    let mut second = Session::open(to);
    echoes(&mut first.stream);
    echoes(&mut second.stream);
    refused(connect(to));
    daemon.wait_text("rejected connection: at capacity (2/2)");
    echoes(&mut second.stream);

    first.leave();
    let mut fourth = Session::open(to);
    echoes(&mut fourth.stream);
    refused(connect(to));

    second.leave();
    fourth.leave();
    let totals = daemon.stop();
    assert_eq!(totals, Totals { accepted: 5, served: 3, refused: 2, gone: 0, failed: 0 });
}

/// libmultiprocess' `max_connections`, cap 1: the second stays in the kernel's queue, and is served when the first has left.
#[test]
fn libmultiprocess_listener_limit() {
    let ours = tcp_listener("127.0.0.1:0", 64);
    let to = ours.local_addr().expect("address");
    let queue = ours.try_clone().expect("dup");
    let mut daemon = sockcap(&["--max-per-listener", "1", "--when-full", "wait"]).pass(ours).run(PID_CAT).start();
    let mut first = Session::open(to);
    let second = connect(to);
    waits(&second);
    assert_eq!(tcp_info(&queue).tcpi_unacked, 1, "the second is not in the kernel's queue");
    echoes(&mut first.stream);
    first.leave();
    let mut second = Session::of(second);
    echoes(&mut second.stream);
    assert_eq!(tcp_info(&queue).tcpi_unacked, 0);
    second.leave();
    assert_eq!(daemon.stop(), Totals { accepted: 2, served: 2, ..Totals::default() });
}

/// Cap 2: two at once, the third only when one of them has left; the other stays.
#[test]
fn libmultiprocess_listener_limit_of_two() {
    let mut daemon =
        sockcap(&["--listen", "127.0.0.1:0", "--max-per-listener", "2", "--when-full", "wait"]).run(PID_CAT).start();
    let to = daemon.addr(0);
    let first = Session::open(to);
    let mut second = Session::open(to);
    let third = connect(to);
    waits(&third);
    first.leave();
    let mut third = Session::of(third);
    echoes(&mut third.stream);
    echoes(&mut second.stream);
    second.leave();
    third.leave();
    assert_eq!(daemon.stop().served, 3);
}

/// After everybody has left and nobody waited, the listener must be armed again.
#[test]
fn libmultiprocess_listener_limit_after_an_idle_gap() {
    let mut daemon =
        sockcap(&["--listen", "127.0.0.1:0", "--max-per-listener", "1", "--when-full", "wait"]).run(PID_CAT).start();
    for _ in 0..3 {
        Session::open(daemon.addr(0)).leave();
        until("an idle daemon", || daemon.commands().is_empty());
    }
    assert_eq!(daemon.stop().served, 3);
}

/// Many leave at once: as many of the waiting come in, in order, and the cap holds again afterwards.
#[test]
fn libmultiprocess_listener_limit_in_a_burst_of_disconnects() {
    let mut daemon =
        sockcap(&["--listen", "127.0.0.1:0", "--max-per-listener", "4", "--when-full", "wait"]).run(PID_CAT).start();
    let to = daemon.addr(0);
    let living: Vec<Session> = (0..4).map(|_| Session::open(to)).collect();
    let waiting: Vec<TcpStream> = (0..6).map(|_| connect(to)).collect();
    waits(&waiting[0]);
    for session in living {
        session.stream.shutdown(std::net::Shutdown::Both).expect("shutdown");
    }
    let mut waiting = waiting.into_iter();
    let mut next: Vec<Session> = waiting.by_ref().take(4).map(Session::of).collect();
    let fifth = waiting.next().expect("the fifth");
    waits(&fifth);
    for session in &mut next {
        echoes(&mut session.stream);
    }
    assert_eq!(daemon.commands().len(), 4);
    next.into_iter().for_each(Session::leave);
    Session::of(fifth).leave();
    Session::of(waiting.next().expect("the sixth")).leave();
    assert_eq!(daemon.stop().served, 10);
}

/// The limit is the listener's own: a full one does not keep anybody from the other, and NAME=N names one.
#[test]
fn libmultiprocess_listener_limit_is_per_listener() {
    let (one, two) = (tcp_listener("127.0.0.1:0", 64), tcp_listener("127.0.0.1:0", 64));
    let (to_one, to_two) = (one.local_addr().expect("address"), two.local_addr().expect("address"));
    let mut daemon = sockcap(&["--max-per-listener", "one=1", "--max-per-listener", "two=2", "--when-full", "wait"])
        .pass(one)
        .pass(two)
        .names("one:two")
        .run(PID_CAT)
        .start();
    let _first = Session::open(to_one);
    let full = connect(to_one);
    let _others = [Session::open(to_two), Session::open(to_two)];
    let full_too = connect(to_two);
    waits(&full);
    waits(&full_too);
    drop((_first, _others));
    Session::of(full).leave();
    Session::of(full_too).leave();
    assert_eq!(daemon.stop().served, 5);
}

/// The lesson on `--max-clients`: the fourth of three is told why, in one line, and so is the log.
#[test]
fn lesson_refuse_when_full() {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--max-clients", "3"]).run(PID_CAT).start();
    let to = daemon.addr(0);
    let mut living: Vec<Session> = (0..3).map(|_| Session::open(to)).collect();
    let fourth = connect(to);
    let port = fourth.local_addr().expect("address").port();
    assert_eq!(to_end(fourth), "server at capacity\n");
    let line = daemon.wait_text("rejected connection: at capacity (3/3)");
    assert!(line.text.starts_with("rejected connection: at capacity (3/3)"), "{line:?}");
    assert!(line.text.contains(&format!("127.0.0.1 port {port}")), "the peer is not named: {line:?}");
    assert!(line.text.contains("127.0.0.1:0"), "the listener is not named: {line:?}");
    assert_eq!(line.priority, Some(4), "{line:?}");
    for session in &mut living {
        echoes(&mut session.stream);
    }
    living.remove(0).leave();
    living.push(Session::open(to));
    living.into_iter().for_each(Session::leave);
    assert_eq!(daemon.stop(), Totals { accepted: 5, served: 4, refused: 1, gone: 0, failed: 0 });
}

/// FastAGI's backlog: an inherited listener gets whatever the kernel allows, with no sysctl read.
#[test]
fn fastagi_backlog_int_max() {
    let ours = tcp_listener("127.0.0.1:0", 1);
    let kept = ours.try_clone().expect("dup");
    assert_eq!(tcp_info(&kept).tcpi_sacked, 1);
    let mut daemon = sockcap::<&str>(&[]).pass(ours).start();
    assert_eq!(tcp_info(&kept).tcpi_sacked, somaxconn());
    daemon.stop();

    let ours = tcp_listener("127.0.0.1:0", 1);
    let kept = ours.try_clone().expect("dup");
    let mut daemon = sockcap(&["--backlog", "7"]).pass(ours).start();
    assert_eq!(tcp_info(&kept).tcpi_sacked, 7);
    daemon.stop();
}

/// socket-burst-dampener: who comes first is served first, one at a time.
#[test]
fn socket_burst_dampener_order() {
    // the marks go to stderr, one pipe for all of them: their order there is the order of the events
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--processes", "1", "--when-full", "wait"])
        .run(&["/bin/sh", "-c", "echo start $REMOTE_PORT >&2; /bin/cat; echo end $REMOTE_PORT >&2"])
        .start();
    let clients: Vec<TcpStream> = (0..12).map(|_| daemon.connect()).collect();
    let ports: Vec<u16> = clients.iter().map(|c| c.local_addr().expect("address").port()).collect();
    for mut client in clients {
        echoes(&mut client);
    }
    assert_eq!(daemon.stop().served, 12);
    let marks: Vec<String> = daemon
        .log()
        .iter()
        .map(|l| l.text.clone())
        .filter(|t| t.starts_with("start ") || t.starts_with("end "))
        .collect();
    let expected: Vec<String> = ports.iter().flat_map(|p| [format!("start {p}"), format!("end {p}")]).collect();
    assert_eq!(marks, expected);
}

/// `--processes 0` is no limit: more than the default come in at once.
#[test]
fn socket_burst_dampener_zero_is_unlimited() {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--processes", "0"]).start();
    let mut clients: Vec<TcpStream> = (0..110).map(|_| daemon.connect()).collect();
    for client in &mut clients {
        echoes(client);
    }
    assert_eq!(daemon.commands().len(), 110);
    drop(clients);
    assert_eq!(daemon.stop(), Totals { accepted: 110, served: 110, ..Totals::default() });
}

/// Waiting for the load needs no departure: a timer looks again. (The original stalls here until a child ends.)
#[test]
fn socket_burst_dampener_load_average_wait() {
    if !is_root() {
        return skip("socket_burst_dampener_load_average_wait", "only root can mount over /proc/loadavg");
    }
    let load = Load::new(9.0);
    let mut daemon = load.start(&["--when-full", "wait"]);
    let to = daemon.addr(0);
    let mut first = Session::open(to);
    let second = connect(to);
    waits(&second);
    load.set(0.5);
    let second = Session::of(second);
    echoes(&mut first.stream);

    // and high again: with one alive nobody joins it, and when none is left one always runs
    load.set(9.0);
    second.leave();
    until("a daemon that sees the high load", || {
        let probe = connect(to);
        !ready(&probe, nix::poll::PollFlags::POLLIN, QUIET)
    });
    first.leave();
    Session::open(to).leave();
    daemon.stop();
}

/// With `refuse` the second is told, and the next after the load has fallen is served.
#[test]
fn socket_burst_dampener_load_average_refuse() {
    if !is_root() {
        return skip("socket_burst_dampener_load_average_refuse", "only root can mount over /proc/loadavg");
    }
    let load = Load::new(9.0);
    let mut daemon = load.start(&["--when-full", "refuse"]);
    let to = daemon.addr(0);
    let first = Session::open(to);
    refused(connect(to));
    refused(connect(to));
    let line = daemon.wait_text("rejected connection: ");
    assert_eq!(line.priority, Some(4), "{line:?}");
    load.set(0.5);
    let fell = Instant::now();
    let second = loop {
        let mut stream = connect(to);
        let answer = common::line(&mut stream);
        if answer != BUSY.trim_end() {
            break stream;
        }
        assert!(fell.elapsed() < FUSE, "still refused {:?} after the load had fallen", fell.elapsed());
    };
    drop(second);
    first.leave();

    // one always runs, whatever the load
    load.set(9.0);
    until("an empty daemon", || daemon.commands().is_empty());
    for _ in 0..3 {
        Session::open(to).leave();
    }
    daemon.stop();
}
