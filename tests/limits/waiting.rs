//! Who waits: served in the order of coming, told when the time or the room is over, and never forgotten or counted twice.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::*;
use nix::poll::PollFlags;
use nix::sys::signal::Signal;

/// Says on stderr, one pipe for all, whom it serves: the order there is the order of service.
const ORDER: &[&str] = &["/bin/sh", "-c", "echo serves $REMOTE_PORT >&2; exec /bin/cat"];
/// The kernel's clock for waits has steps, of 10 ms where they are longest, and who comes in the midst of a turn of the daemon has
/// come when it began, which on a busy machine is longer ago than that.
const STEP: Duration = Duration::from_millis(100);
/// Descriptors that are kept for other things than the held clients of one listener.
const SPARE: u32 = 256 + 64 + 1;

/// A daemon for one at a time, whose others wait, on a listener whose queue can be looked at.
fn one_at_a_time(options: &[&str]) -> (Start, std::net::TcpListener) {
    let queue = tcp_listener("127.0.0.1:0", 1024);
    let args = [&["--max-connections", "1", "--when-full", "wait", "--verbose"], options].concat();
    (sockcap(&args).run(ORDER).pass(queue.try_clone().expect("dup")), queue)
}

/// Waits until so many are left in the kernel's queue: the others have been taken.
#[track_caller]
fn queued(queue: impl AsFd, wanted: u32) {
    until(&format!("{wanted} in the kernel's queue"), || tcp_info(&queue).tcpi_unacked == wanted);
}

fn port(stream: &TcpStream) -> u16 {
    stream.local_addr().expect("address").port()
}

fn ports<'a>(streams: impl IntoIterator<Item = &'a TcpStream>) -> Vec<u16> {
    streams.into_iter().map(port).collect()
}

/// Whom the commands have served, in order.
fn served(daemon: &mut Daemon) -> Vec<u16> {
    daemon.log().iter().filter_map(|l| l.text.strip_prefix("serves ")?.parse().ok()).collect()
}

fn half_close(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).expect("shutdown");
}

/// Nothing has an event here but time itself.
fn pass_time(since: Instant, span: Duration) {
    until("the time", || since.elapsed() >= span);
}

/// The seconds in `waited too long (1.2 s, ...`.
#[track_caller]
fn waited(line: &Line) -> f64 {
    let words = line.text.strip_prefix("rejected connection: waited too long (").unwrap_or_else(|| panic!("{line:?}"));
    words.split(' ').next().expect("a number").parse().expect("a number")
}

/// The milliseconds in `... after 12 ms in the queue`.
#[track_caller]
fn milliseconds(line: &Line) -> u128 {
    let words: Vec<&str> = line.text.split(' ').collect();
    let [.., "after", number, "ms", "in", "the", "queue"] = words[..] else { panic!("no wait in {line:?}") };
    number.parse().expect("a number")
}

/// The `longest wait` at the end, in seconds.
fn longest(daemon: &mut Daemon) -> f64 {
    let last = daemon.log().iter().find_map(|l| l.text.split_once("; longest wait ")).expect("totals").1.to_owned();
    last.strip_suffix(" s").expect("seconds").parse().expect("a number")
}

// ---------------------------------------------------------------------------------------------------------------------
// how many

/// N-1, N and N+1: as many as may wait do, the next is told, and a place that is given back is there for the next.
#[test]
fn exactly_as_many_as_may_wait() {
    for most in [1usize, 2, 5] {
        let (start, queue) = one_at_a_time(&["--max-waiting", &most.to_string()]);
        let mut daemon = start.start();
        let mut living = daemon.connect();
        echoes(&mut living);
        let mut came = vec![port(&living)];
        let mut held: Vec<TcpStream> = (0..most).map(|_| daemon.connect()).collect();
        for _ in 0..2 {
            let late = daemon.connect();
            let from = port(&late);
            refused(late);
            let line = daemon.wait_text("rejected connection: ");
            let words =
                format!("rejected connection: queue full ({most} waiting, 1/1 running): 127.0.0.1 port {from} on ");
            assert!(line.text.starts_with(&words), "{line:?}");
            assert_eq!(line.priority, Some(4), "{line:?}");
        }
        waits(&held[most - 1]);
        queued(&queue, 0);

        // one is served, so that N-1 wait: one more may, and no more than one
        came.extend(ports(&held));
        drop(living);
        let mut living = held.remove(0);
        echoes(&mut living);
        held.push(daemon.connect());
        came.push(port(&held[most - 1]));
        refused(daemon.connect());
        waits(&held[most - 1]);

        drop(living);
        for mut client in held {
            echoes(&mut client);
        }
        let expected = Totals { accepted: most as u64 + 5, served: most as u64 + 2, refused: 3, ..Totals::default() };
        assert_eq!(daemon.stop(), expected, "{most} may wait");
        assert_eq!(served(&mut daemon), came, "{most} may wait");
    }
}

/// More than the descriptors allow: it says so at the start, and the kernel holds the rest. Nobody is lost or told.
#[test]
fn more_than_there_are_descriptors_for() {
    const CLIENTS: usize = 301;
    for options in [["--max-wait", "1h"], ["--max-waiting", "300"]] {
        let (start, queue) = one_at_a_time(&options);
        let mut daemon = start.prelude("ulimit -n 400").start();
        let places = 400 - SPARE;
        let warned = daemon.count(&format!(
            "LimitNOFILE= or FileDescriptorStoreMax= allows only {places} of --max-waiting 300 clients to be held; the rest wait in the kernel's queue"
        ));
        assert_eq!(warned, usize::from(options[0] == "--max-waiting"), "{options:?}: {:#?}", daemon.log());
        let idle = daemon.open_fds().len();
        let mut living = daemon.connect();
        echoes(&mut living);
        let clients: Vec<TcpStream> = (1..CLIENTS).map(|_| daemon.connect()).collect();
        let came: Vec<u16> = [port(&living)].into_iter().chain(ports(&clients)).collect();
        queued(&queue, CLIENTS as u32 - 1 - places);
        assert_eq!(daemon.open_fds().len(), idle + places as usize, "{options:?}");
        clients.iter().for_each(half_close);
        waits_still(&clients);
        drop(living);
        for client in clients {
            assert_eq!(to_end(client), "");
        }
        until("an idle daemon", || daemon.commands().is_empty());
        assert_eq!(daemon.open_fds().len(), idle, "{options:?}");
        assert_eq!(daemon.stop(), Totals { accepted: 301, served: 301, ..Totals::default() });
        assert_eq!(daemon.count("cannot accept"), 0, "{options:?}: out of descriptors");
        assert_eq!(served(&mut daemon), came, "{options:?}");
    }
}

/// So few descriptors that there is hardly a place: one is held, and order and service are the same.
#[test]
fn hardly_a_place() {
    let (start, queue) = one_at_a_time(&["--max-wait", "1h"]);
    let mut daemon = start.prelude("ulimit -n 64").start();
    let mut living = daemon.connect();
    echoes(&mut living);
    let clients: Vec<TcpStream> = (0..10).map(|_| daemon.connect()).collect();
    let came: Vec<u16> = [port(&living)].into_iter().chain(ports(&clients)).collect();
    queued(&queue, 9);
    drop(living);
    for mut client in clients {
        echoes(&mut client);
    }
    assert_eq!(daemon.stop().served, 11);
    assert_eq!(served(&mut daemon), came);
}

/// Nothing has come for any of them so far.
#[track_caller]
fn waits_still(clients: &[TcpStream]) {
    let none = clients.iter().all(|c| !ready(c, PollFlags::POLLIN | HANGUP, Duration::ZERO));
    assert!(none, "somebody who should wait got an answer");
}

// ---------------------------------------------------------------------------------------------------------------------
// order

#[test]
fn the_held_are_served_in_the_order_of_their_coming() {
    let (start, queue) = one_at_a_time(&["--max-waiting", "20"]);
    let mut daemon = start.start();
    let mut living = daemon.connect();
    echoes(&mut living);
    let clients: Vec<TcpStream> = (0..20).map(|_| daemon.connect()).collect();
    refused(daemon.connect()); // so the twenty are held, and not in the kernel's queue
    queued(&queue, 0);
    let came: Vec<u16> = [port(&living)].into_iter().chain(ports(&clients)).collect();
    // in another order they say something, and hang up
    for client in clients.iter().rev() {
        (&mut &*client).write_all(b"last words\n").expect("write");
        half_close(client);
    }
    drop(living);
    for client in clients {
        assert_eq!(to_end(client), "last words\n");
    }
    assert_eq!(daemon.stop(), Totals { accepted: 22, served: 21, refused: 1, ..Totals::default() });
    assert_eq!(served(&mut daemon), came);
}

/// The queue begins here and goes on in the kernel: it is one queue.
#[test]
fn the_order_goes_on_in_the_kernel() {
    let (start, queue) = one_at_a_time(&["--max-wait", "1h"]);
    let places = 9;
    let mut daemon = start.prelude(&format!("ulimit -n {}", SPARE + places)).start();
    let mut living = daemon.connect();
    echoes(&mut living);
    let mut clients: Vec<TcpStream> = (0..40).map(|_| daemon.connect()).collect();
    queued(&queue, 40 - places);
    let mut came: Vec<u16> = [port(&living)].into_iter().chain(ports(&clients)).collect();
    drop(living);
    // each goes when it was served, and one more comes to the end of the queue
    for nth in 0..60 {
        let mut client = clients.remove(0);
        echoes(&mut client);
        if nth < 20 {
            clients.push(daemon.connect());
            came.push(port(&clients[clients.len() - 1]));
        }
    }
    assert_eq!(daemon.stop(), Totals { accepted: 61, served: 61, ..Totals::default() });
    assert_eq!(served(&mut daemon), came);
}

/// Several leave at once: as many of the held come in, the oldest, and the limit holds.
#[test]
fn a_burst_of_ends_lets_in_as_many() {
    let queue = tcp_listener("127.0.0.1:0", 64);
    let mut daemon = sockcap(&["--max-connections", "4", "--when-full", "wait", "--max-waiting", "6"])
        .pass(queue.try_clone().expect("dup"))
        .run(PID_CAT)
        .start();
    let to = daemon.addr(0);
    let living: Vec<Session> = (0..4).map(|_| Session::open(to)).collect();
    let waiting: Vec<TcpStream> = (0..6).map(|_| connect(to)).collect();
    queued(&queue, 0);
    for session in &living {
        nix::sys::signal::kill(session.pid, Signal::SIGKILL).expect("kill");
    }
    let mut waiting = waiting.into_iter();
    let next: Vec<Session> = waiting.by_ref().take(4).map(Session::of).collect();
    let last: Vec<TcpStream> = waiting.collect();
    waits(&last[0]);
    waits_still(&last);
    assert_eq!(daemon.commands().len(), 4);
    next.into_iter().for_each(Session::leave);
    last.into_iter().map(Session::of).for_each(Session::leave);
    assert_eq!(daemon.stop(), Totals { accepted: 10, served: 10, ..Totals::default() });
}

/// Two listeners, the first of them for one at a time, and two over all. It says its name, for it is a pid otherwise.
struct Pair {
    daemon: Daemon,
    queues: [std::net::TcpListener; 2],
    to: [SocketAddr; 2],
}

impl Pair {
    fn new(options: &[&str]) -> Pair {
        let queues = [(); 2].map(|()| tcp_listener("127.0.0.1:0", 64));
        let mut start = sockcap(&[&["--when-full", "wait", "--max-wait", "1h"], options].concat()).names("one:two");
        for queue in &queues {
            start = start.pass(queue.try_clone().expect("dup"));
        }
        let to = [0, 1].map(|n| queues[n].local_addr().expect("address"));
        Pair { daemon: start.run(PID_CAT).start(), queues, to }
    }

    /// Comes after all that came before, at either listener.
    fn wait_at(&self, nth: usize) -> TcpStream {
        let client = connect(self.to[nth]);
        queued(&self.queues[nth], 0);
        client
    }
}

/// A slot goes to the oldest of those whose listener has room: not to the oldest of all, and not to the first listener's.
#[test]
fn the_oldest_whose_listener_has_room() {
    // `two` has room, `one` has none: the younger one is served
    let mut pair = Pair::new(&["--max-connections", "2", "--max-per-listener", "one=1"]);
    let (at_one, at_two) = (Session::open(pair.to[0]), Session::open(pair.to[1]));
    let (older, younger) = (pair.wait_at(0), pair.wait_at(1));
    at_two.leave();
    let younger = Session::of(younger);
    waits(&older);
    at_one.leave();
    Session::of(older).leave();
    younger.leave();
    assert_eq!(pair.daemon.stop(), Totals { accepted: 4, served: 4, ..Totals::default() });

    // both have room: the older one is served, whichever listener is its own
    for first in [0, 1] {
        let mut pair = Pair::new(&["--max-connections", "1"]);
        let living = Session::open(pair.to[0]);
        let (older, younger) = (pair.wait_at(first), pair.wait_at(1 - first));
        living.leave();
        let older = Session::of(older);
        waits(&younger);
        older.leave();
        Session::of(younger).leave();
        assert_eq!(pair.daemon.stop().served, 3);
    }
}

/// Those who wait for a full listener take nothing from the other one: who comes there is served at once.
#[test]
fn a_full_listener_holds_up_no_other() {
    let mut pair = Pair::new(&["--max-per-listener", "one=1"]);
    let living = Session::open(pair.to[0]);
    let held = [pair.wait_at(0), pair.wait_at(0)];
    for _ in 0..3 {
        Session::open(pair.to[1]).leave();
    }
    waits_still(&held);
    living.leave();
    for client in held {
        Session::of(client).leave();
    }
    assert_eq!(pair.daemon.stop().served, 6);
}

// ---------------------------------------------------------------------------------------------------------------------
// how long

/// Told when its time is over, and not before; the others' time is their own.
#[test]
fn told_when_the_time_is_over_and_not_before() {
    unless_stalled(Duration::from_millis(700), || {
        let most = Duration::from_millis(700);
        let (start, queue) = one_at_a_time(&["--max-wait", "700ms"]);
        let mut daemon = start.start();
        let mut living = daemon.connect();
        echoes(&mut living);
        let mut waiting = Vec::new();
        for nth in 0..3 {
            let came = Instant::now();
            waiting.push((came, daemon.connect()));
            queued(&queue, 0);
            if nth < 2 {
                pass_time(came, Duration::from_millis(100));
            }
        }
        for (came, client) in waiting {
            let from = port(&client);
            refused(client);
            let took = came.elapsed();
            assert!(took + STEP >= most, "told after {took:?}");
            let line = daemon.wait_text("rejected connection: ");
            assert!(line.text.contains(&format!(" s, 1/1 running): 127.0.0.1 port {from} on ")), "{line:?}");
            assert!(waited(&line) >= 0.7, "{line:?}");
            assert_eq!(line.priority, Some(4), "{line:?}");
        }
        // a slot in time is as good as one at once
        let mut client = daemon.connect();
        drop(living);
        echoes(&mut client);
        drop(client);
        assert_eq!(daemon.stop(), Totals { accepted: 5, served: 2, refused: 3, ..Totals::default() });
        assert!(longest(&mut daemon) >= 0.7);
    });
}

/// The time before the daemon was there counts. A free slot is better than a refusal, however long somebody has waited.
#[test]
fn the_time_in_the_kernels_queue_counts() {
    let span = Duration::from_millis(1500);
    let (start, queue) = one_at_a_time(&["--max-wait", "1s"]);
    let to = queue.local_addr().expect("address");
    let came = Instant::now();
    let [mut first, second] = [(); 2].map(|()| connect(to));
    let since = Instant::now();
    pass_time(since, span);
    let mut daemon = start.start();
    echoes(&mut first);
    refused(second);
    let all = came.elapsed();
    let line = daemon.wait_text("serving connection 1 ");
    let known = (span - STEP).as_millis()..=(all + STEP).as_millis();
    assert!(known.contains(&milliseconds(&line)), "{line:?} after {all:?}");
    let line = daemon.wait_text("rejected connection: ");
    assert!(waited(&line) >= 1.4, "{line:?} after {all:?}");
    drop(first);
    assert_eq!(daemon.stop(), Totals { accepted: 2, served: 1, refused: 1, ..Totals::default() });
    assert!(longest(&mut daemon) >= 1.4);
}

/// So does the time during which the daemon could not look.
#[test]
fn the_time_of_a_stopped_daemon_counts() {
    unless_stalled(Duration::from_secs(4), || {
        let span = Duration::from_millis(4500);
        let (start, queue) = one_at_a_time(&["--max-wait", "4s"]);
        let mut daemon = start.start();
        let mut living = daemon.connect();
        echoes(&mut living);
        let held = daemon.connect();
        queued(&queue, 0);
        daemon.signal(Signal::SIGSTOP);
        let late = daemon.connect();
        pass_time(Instant::now(), span);
        let fresh = daemon.connect();
        daemon.signal(Signal::SIGCONT);
        for client in [held, late] {
            refused(client);
            let line = daemon.wait_text("rejected connection: ");
            assert!(waited(&line) >= 4.4, "{line:?}");
        }
        drop(living);
        let mut fresh = fresh;
        echoes(&mut fresh);
        drop(fresh);
        assert_eq!(daemon.stop(), Totals { accepted: 4, served: 2, refused: 2, ..Totals::default() });
    });
}

/// Those behind the places have their time, too, and are told in order.
#[test]
fn the_kernels_part_of_the_queue_is_told_too() {
    unless_stalled(Duration::from_secs(1), || {
        let (start, queue) = one_at_a_time(&["--max-wait", "1s"]);
        let places = 5;
        let mut daemon = start.prelude(&format!("ulimit -n {}", SPARE + places)).start();
        let mut living = daemon.connect();
        echoes(&mut living);
        let waiting: Vec<TcpStream> = (0..20).map(|_| daemon.connect()).collect();
        queued(&queue, 20 - places);
        for client in waiting {
            refused(client);
        }
        echoes(&mut living);
        drop(living);
        assert_eq!(daemon.stop(), Totals { accepted: 21, served: 1, refused: 20, ..Totals::default() });
    });
}

/// 0 is no limit, and alone it is as if the option were not there: the kernel's queue is the queue.
#[test]
fn zero_is_for_ever() {
    let (start, queue) = one_at_a_time(&["--max-wait", "0", "--max-waiting", "0"]);
    let mut daemon = start.start();
    let mut living = daemon.connect();
    echoes(&mut living);
    let mut client = daemon.connect();
    waits(&client);
    queued(&queue, 1);
    drop(living);
    echoes(&mut client);
    drop(client);
    assert_eq!(daemon.stop().served, 2);

    let (start, _) = one_at_a_time(&["--max-wait", "0", "--max-waiting", "1"]);
    let mut daemon = start.start();
    let mut living = daemon.connect();
    echoes(&mut living);
    let mut client = daemon.connect();
    waits(&client);
    refused(daemon.connect());
    drop(living);
    echoes(&mut client);
    drop(client);
    assert_eq!(daemon.stop(), Totals { accepted: 3, served: 2, refused: 1, ..Totals::default() });
}

/// With `refuse` nobody waits, whatever the four say; `--check` tells.
#[test]
fn refuse_knows_no_waiting() {
    let options = [
        "--listen",
        "127.0.0.1:0",
        "--max-connections",
        "1",
        "--max-wait",
        "1h",
        "--max-waiting",
        "5",
        "--half-close",
        "gone",
    ];
    let options = [&options[..], &["--queue-order", "fair"]].concat();
    let mut daemon = sockcap(&options).start();
    let mut living = daemon.connect();
    echoes(&mut living);
    refused(daemon.connect());
    daemon.wait_text("rejected connection: at capacity (1/1): ");
    drop(living);
    assert_eq!(daemon.stop(), Totals { accepted: 2, served: 1, refused: 1, ..Totals::default() });

    let unused = |when_full: &str| {
        let all = [&options[..], &["--check", "--when-full", when_full]].concat();
        let lines = sockcap(&all).output().stdout;
        let unused = |name: &str| {
            let line = lines.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("no {name}: {lines}"));
            line.contains("not used")
        };
        ["max-wait ", "max-waiting ", "half-close ", "queue-order "].map(unused)
    };
    assert_eq!(unused("refuse"), [true; 4]);
    assert_eq!(unused("wait"), [false; 4]);
}

// ---------------------------------------------------------------------------------------------------------------------
// who leaves

/// Who resets is forgotten: no command, and its place is another's.
#[test]
fn who_resets_is_gone() {
    let (start, queue) = one_at_a_time(&["--max-waiting", "3"]);
    let mut daemon = start.start();
    let mut living = daemon.connect();
    echoes(&mut living);
    let [first, second, third] = [(); 3].map(|()| daemon.connect());
    queued(&queue, 0);
    let full = daemon.open_fds().len();
    reset(second);
    until("its descriptor is closed", || daemon.open_fds().len() == full - 1);
    let fourth = daemon.connect();
    refused(daemon.connect());
    let came = ports([&living, &first, &third, &fourth]);

    // one that leaves in the same moment in which its turn comes is gone, too
    daemon.signal(Signal::SIGSTOP);
    reset(first);
    let command = daemon.commands()[0];
    let ended = pidfd(command);
    drop(living);
    assert!(ready(&ended, PollFlags::POLLIN, FUSE), "the command does not end");
    daemon.signal(Signal::SIGCONT);

    for mut client in [third, fourth] {
        echoes(&mut client);
    }
    assert_eq!(daemon.stop(), Totals { accepted: 6, served: 3, refused: 1, gone: 2, failed: 0 });
    assert_eq!(served(&mut daemon), [came[0], came[2], came[3]], "somebody else was served");
}

/// Who has only said its last word waits for its answer.
#[test]
fn who_half_closes_is_served() {
    let (start, queue) = one_at_a_time(&["--max-waiting", "5"]);
    let mut daemon = start.start();
    let mut living = daemon.connect();
    echoes(&mut living);
    let mut silent = daemon.connect();
    half_close(&silent);
    let mut talker = daemon.connect();
    talker.write_all(b"a question\n").expect("write");
    half_close(&talker);
    let to = daemon.addr(0);
    let nc = netcat().map(|nc| {
        Command::new(nc)
            .args(["-N", &to.ip().to_string(), &to.port().to_string()])
            .stdin(Stdio::from(std::fs::File::open("/proc/sys/kernel/ostype").expect("a file")))
            .stdout(Stdio::piped())
            .spawn()
            .expect("nc")
    });
    if nc.is_none() {
        skip("who_half_closes_is_served: nc -N", "OpenBSD's netcat is not installed");
    }
    // a reset would have been seen by now
    waits(&talker);
    queued(&queue, 0);
    drop(living);
    assert_eq!(to_end(&mut silent), "");
    assert_eq!(to_end(&mut talker), "a question\n");
    let mut count = 3;
    if let Some(nc) = nc {
        assert_eq!(String::from_utf8_lossy(&nc.wait_with_output().expect("nc").stdout), "Linux\n");
        count += 1;
    }
    assert_eq!(daemon.stop(), Totals { accepted: count, served: count, ..Totals::default() });
}

/// On a UNIX socket a plain close is seen; what somebody has sent before it is served all the same.
#[test]
fn who_closes_a_unix_socket_is_gone() {
    let dir = TempDir::new();
    let path = dir.join("s");
    let options = ["--listen", &path, "--max-connections", "1", "--when-full", "wait", "--max-waiting", "3", "-v"];
    let mut daemon =
        sockcap(&options).run(&["/bin/sh", "-c", "while read line; do echo heard $line >&2; echo $line; done"]).start();
    let connect = || {
        let client = UnixStream::connect(&path).expect("connect");
        client.set_read_timeout(Some(FUSE)).expect("timeout");
        client
    };
    let mut living = connect();
    echoes(&mut living);
    let line = daemon.wait_text("serving connection 1 ");
    assert!(line.text.ends_with("(1/1)"), "nobody knows its wait: {line:?}");
    let idle = daemon.open_fds().len();
    let [leaves, mut speaks] = [(); 2].map(|()| connect());
    speaks.write_all(b"the last word\n").expect("write");
    let since = Instant::now();
    let mut stays = connect();
    until("three held", || daemon.open_fds().len() == idle + 3);
    refused(connect());
    drop(leaves);
    until("one is gone", || daemon.open_fds().len() == idle + 2);
    drop(speaks);
    stays.shutdown(Shutdown::Write).expect("shutdown");
    pass_time(since, QUIET);
    assert_eq!(daemon.open_fds().len(), idle + 2, "one that has spoken was forgotten");
    drop(living);
    assert_eq!(to_end(&mut stays), "");
    let line = daemon.wait_text("serving connection 3 ");
    assert!(milliseconds(&line) >= 250, "{line:?}");
    assert_eq!(daemon.stop(), Totals { accepted: 5, served: 3, refused: 1, gone: 1, failed: 0 });
    assert_eq!(daemon.count("heard the last word"), 1);
}

/// All at once, and at random: each ends in one way, and neither a slot nor a descriptor is left over.
#[test]
fn everybody_ends_once() {
    const CLIENTS: u64 = 300;
    let (start, queue) = one_at_a_time(&["--max-waiting", "40", "--max-wait", "400ms"]);
    let mut daemon = start.run(&["/bin/sh", "-c", "read line"]).start();
    let idle = daemon.open_fds().len();
    let mut later: Vec<TcpStream> = Vec::new();
    let mut chance = 1u32;
    for _ in 0..CLIENTS {
        let mut client = daemon.connect();
        // a linear congruence, the same in every run
        chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        match chance >> 29 {
            0 => reset(client),
            1 => drop(client),
            2 => half_close(&client),
            3 => drop(client.write_all(b"bye\n")),
            4 if !later.is_empty() => reset(later.swap_remove((chance as usize >> 8) % later.len())),
            _ => later.push(client),
        }
    }
    drop(later);
    queued(&queue, 0); // so all have been accepted
    until("an idle daemon", || daemon.commands().is_empty() && daemon.open_fds().len() == idle);
    let mut last = daemon.connect();
    last.write_all(b"bye\n").expect("write");
    assert_eq!(to_end(last), "");
    let totals = daemon.stop();
    assert_eq!((totals.accepted, totals.failed), (CLIENTS + 1, 0), "{totals:?}");
    assert!(totals.gone > 0 && totals.refused > 0, "this test tests little: {totals:?}");
}

// ---------------------------------------------------------------------------------------------------------------------
// what is told

/// The status counts who waits, and says for how long; the log, how long it was.
#[test]
fn the_wait_shows() {
    let mut notify = Notify::new();
    let (start, _) = one_at_a_time(&["--max-waiting", "5"]);
    let mut daemon = start.env("NOTIFY_SOCKET", notify.path()).start();
    let mut living = daemon.connect();
    echoes(&mut living);
    daemon.wait_text("serving connection 1 ");
    let since = Instant::now();
    let mut clients = [(); 3].map(|()| daemon.connect());
    let came = since.elapsed();
    // one a second at most, so that a number may be left out
    let text = notify.wait_for("their wait", |m| {
        m.strip_prefix("STATUS=1/1 active, 3 waiting (longest ").is_some_and(|rest| !rest.starts_with(['0', '1']))
    });
    assert!(text.ends_with(" s), 0 refused, 0 served"), "{text:?}");
    let known = since.elapsed() - came;
    assert!(since.elapsed() + STEP >= Duration::from_secs(2));
    drop(living);
    for client in &mut clients {
        half_close(client);
        assert_eq!(to_end(&*client), "");
        let line = daemon.wait_text("serving connection ");
        assert!(milliseconds(&line) + STEP.as_millis() >= known.as_millis(), "{line:?} after {known:?}");
    }
    notify.wait("STATUS=0/1 active, 0 waiting, 0 refused, 4 served");
    daemon.stop();
    assert!(longest(&mut daemon) + 0.06 >= known.as_secs_f64(), "{:?}", daemon.log().last());
}

// ---------------------------------------------------------------------------------------------------------------------
// trouble and the end

/// A stop tells those that are held. Those behind them are not accepted: they are for the next daemon.
#[test]
fn a_stop_tells_who_is_held() {
    let (start, queue) = one_at_a_time(&["--max-wait", "1h", "--drain-timeout", "60s"]);
    let mut daemon = start.prelude(&format!("ulimit -n {}", SPARE + 3)).start();
    let mut living = daemon.connect();
    echoes(&mut living);
    let held = [(); 3].map(|()| daemon.connect());
    let behind = [(); 2].map(|()| daemon.connect());
    queued(&queue, 2);
    daemon.signal(Signal::SIGTERM);
    for client in held {
        let from = port(&client);
        refused(client);
        let line = daemon.wait_text("rejected connection: ");
        let words = format!("rejected connection: the service is stopping: 127.0.0.1 port {from} on ");
        assert!(line.text.starts_with(&words), "{line:?}");
    }
    echoes(&mut living);
    waits_still(&behind);
    drop(living);
    assert_eq!(daemon.totals(), Totals { accepted: 4, served: 1, refused: 3, ..Totals::default() });
    queued(&queue, 2);
    // and the next daemon serves them
    let mut next = sockcap(&["--when-full", "wait"]).pass(queue).start();
    for mut client in behind {
        echoes(&mut client);
    }
    next.stop();
}

/// No new process allowed: everybody waits, and is served in order when there is one again. Nobody is told anything.
#[test]
fn without_processes_everybody_waits() {
    let Some(user) = another_user("without_processes_everybody_waits") else { return };
    for options in [&[][..], &["--max-waiting", "10"], &["--max-wait", "1h"]] {
        let queue = tcp_listener("127.0.0.1:0", 64);
        let to = queue.local_addr().expect("address");
        let args = [&["--max-connections", "3", "--when-full", "wait", "-v"], options].concat();
        let mut daemon = sockcap(&args).pass(queue.try_clone().expect("dup")).wrap(&user).run(ORDER).start();
        let mut came = Vec::new();
        for episode in 1..=2 {
            prlimit(&user, daemon.pid(), "--nproc=1:");
            let clients: Vec<TcpStream> = (0..6).map(|_| connect(to)).collect();
            came.extend(ports(&clients));
            daemon.wait_text("; its clients wait");
            waits(&clients[0]);
            waits_still(&clients);
            prlimit(&user, daemon.pid(), "--nproc=1000:");
            for mut client in clients {
                half_close(&client);
                assert_eq!(to_end(&mut client), "");
            }
            daemon.wait_text("commands start again after ");
            assert_eq!(daemon.count("cannot start "), episode, "{options:?}: {:#?}", daemon.log());
        }
        assert_eq!(daemon.stop(), Totals { accepted: 12, served: 12, ..Totals::default() }, "{options:?}");
        let port = |l: &Line| l.text.strip_prefix("serving ")?.split(' ').nth(5)?.parse().ok();
        let started: Vec<u16> = daemon.log().iter().filter_map(port).collect();
        assert_eq!(started, came, "{options:?}");
    }
}

/// The same with one at a time, where the order is exact; some of them leave, one's time is over, and a stop tells the rest.
#[test]
fn without_processes_the_queue_is_as_ever() {
    let Some(user) = another_user("without_processes_the_queue_is_as_ever") else { return };
    let (start, queue) = one_at_a_time(&["--max-wait", "1h"]);
    let mut daemon = start.wrap(&user).start();
    prlimit(&user, daemon.pid(), "--nproc=1:");
    let idle = daemon.open_fds().len();
    let mut clients: Vec<TcpStream> = (0..8).map(|_| daemon.connect()).collect();
    queued(&queue, 0);
    until("all are held", || daemon.open_fds().len() == idle + 8);
    reset(clients.remove(0)); // the one that was tried
    reset(clients.remove(3));
    until("two are gone", || daemon.open_fds().len() == idle + 6);
    let came = ports(&clients);
    prlimit(&user, daemon.pid(), "--nproc=1000:");
    for mut client in clients {
        echoes(&mut client);
    }
    until("an idle daemon", || daemon.commands().is_empty());

    prlimit(&user, daemon.pid(), "--nproc=1:");
    let clients: Vec<TcpStream> = (0..3).map(|_| daemon.connect()).collect();
    until("all are held", || daemon.open_fds().len() == idle + 3);
    daemon.signal(Signal::SIGTERM);
    clients.into_iter().for_each(refused);
    assert_eq!(daemon.totals(), Totals { accepted: 11, served: 6, refused: 3, gone: 2, failed: 0 });
    assert_eq!(served(&mut daemon), came);
}

/// Room and time are bounded while no process can be started, too, for each of them and not only for the first.
#[test]
fn without_processes_room_and_time_end_as_ever() {
    unless_stalled(Duration::from_millis(700), || {
        let Some(user) = another_user("without_processes_room_and_time_end_as_ever") else { return };
        let most = Duration::from_millis(700);
        let (start, _) = one_at_a_time(&["--max-wait", "700ms", "--max-waiting", "4"]);
        let mut daemon = start.wrap(&user).start();
        prlimit(&user, daemon.pid(), "--nproc=1:");
        let came = Instant::now();
        let clients = [(); 4].map(|()| daemon.connect());
        refused(daemon.connect());
        daemon.wait_text("rejected connection: queue full (4 waiting, 0 running): ");
        for client in clients {
            refused(client);
            assert!(came.elapsed() + STEP >= most, "told after {:?}", came.elapsed());
            assert!(daemon.wait_text("rejected connection: waited too long (").text.contains(" s, 0 running): "));
        }
        assert_eq!(daemon.stop(), Totals { accepted: 5, refused: 5, ..Totals::default() });
    });
}

/// The held wait for the load, too: a timer looks again, and no end of a command is needed.
#[test]
fn the_load_lets_the_held_in() {
    unless_stalled(Duration::from_millis(1500), || {
        if !is_root() {
            return skip("the_load_lets_the_held_in", "only root can mount over /proc/loadavg");
        }
        let load = Load::new(9.0);
        let mut daemon = load.start(&["--when-full", "wait", "--max-waiting", "2"]);
        let to = daemon.addr(0);
        let mut first = Session::open(to);
        let held = [connect(to), connect(to)];
        refused(connect(to));
        waits(&held[0]);
        waits_still(&held);
        load.set(0.5);
        let mut held = held.map(Session::of);
        for session in held.iter_mut().chain([&mut first]) {
            echoes(&mut session.stream);
        }
        held.into_iter().chain([first]).for_each(Session::leave);
        assert_eq!(daemon.stop(), Totals { accepted: 4, served: 3, refused: 1, ..Totals::default() });

        // one may always run, so that their turn comes even if the load stays; and their time is over as ever
        let load = Load::new(9.0);
        let mut daemon = load.start(&["--when-full", "wait", "--max-wait", "1500ms"]);
        let to = daemon.addr(0);
        let first = Session::open(to);
        let held = connect(to);
        waits(&held);
        first.leave();
        let second = Session::of(held);
        let came = Instant::now();
        refused(connect(to));
        assert!(came.elapsed() + STEP >= Duration::from_millis(1500), "told after {:?}", came.elapsed());
        second.leave();
        assert_eq!(daemon.stop(), Totals { accepted: 3, served: 2, refused: 1, ..Totals::default() });
    });
}

/// `--half-close`: a held client that has shut down its side and sent nothing keeps its place, or is gone; one that has sent
/// something is served either way.
#[test]
fn a_half_closed_client_is_served_or_gone() {
    for (value, gone) in [("serve", 0), ("gone", 1)] {
        let options =
            ["--listen", "127.0.0.1:0", "--max-connections", "1", "--when-full", "wait", "--max-waiting", "9"];
        let options = [&options[..], &["--half-close", value]].concat();
        let mut daemon = sockcap(&options).run(PID_CAT).start();
        let first = Session::open(daemon.addr(0));
        let [silent, mut speaks] = [daemon.connect(), daemon.connect()];
        std::io::Write::write_all(&mut speaks, b"word\n").expect("write");
        for client in [&silent, &speaks] {
            client.shutdown(std::net::Shutdown::Write).expect("shutdown");
        }
        if gone == 1 {
            // At once, and not in its turn.
            assert_eq!(to_end(&silent), "");
        }
        first.leave();
        // cat says its pid, and ends at the end of what its client says.
        assert_eq!(to_end(silent).lines().count(), 1 - gone);
        assert!(to_end(speaks).ends_with("\nword\n"));
        let served = 3 - gone as u64;
        assert_eq!(daemon.stop(), Totals { accepted: 3, served, gone: gone as u64, ..Totals::default() }, "{value}");
    }
}
