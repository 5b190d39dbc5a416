//! Every error path of serving, walked on the real binary: strace makes a system call fail at its first, second or n-th time.
//!
//! A fault may cost the one client that it hits its answer, where nothing else is possible. It never costs the daemon, a
//! slot, a descriptor or a count, and no other client notices. close(2) is left out: a call that strace lets fail is
//! not made at all, so the descriptor would stay open, which no real close does.

use crate::common::*;
use nix::poll::PollFlags;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CAP: usize = 2;
/// At least so many, and at most so many until the call has failed: how often it is made depends on what comes together.
const ROUNDS: std::ops::RangeInclusive<usize> = 5..=100;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Refuse,
    /// Clients wait in the kernel's queue.
    Queue,
    /// Clients are accepted and held.
    Hold,
}

use Mode::{Hold, Queue, Refuse};

const ALL: &[Mode] = &[Refuse, Queue, Hold];

impl Mode {
    fn options(self) -> &'static [&'static str] {
        match self {
            Refuse => &["--when-full", "refuse"],
            Queue => &["--when-full", "wait"],
            Hold => &["--when-full", "wait", "--max-wait", "10min"],
        }
    }
}

/// What a client that is closed without a word was counted as.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Closed {
    /// There must be none.
    Never,
    Refused,
    Served,
}

/// One way to fail.
struct Fault {
    /// The call, and what else has to fail so that it is made at all.
    call: &'static str,
    along: &'static [&'static str],
    errors: &'static [&'static str],
    at: &'static [u32],
    modes: &'static [Mode],
    /// In the child between clone and exec, too.
    follow: bool,
    closed: Closed,
    /// Each time it is hit counts a client as gone whom the kernel keeps, since a call that strace lets fail takes nobody.
    gone: bool,
    /// A place becomes free only when the client over the limit is held.
    held_first: bool,
    /// What the log must say.
    says: &'static [&'static str],
}

impl Default for Fault {
    fn default() -> Fault {
        Fault {
            call: "",
            along: &[],
            errors: &[],
            at: &[1, 2, 5],
            modes: ALL,
            follow: false,
            closed: Closed::Never,
            gone: false,
            held_first: false,
            says: &[],
        }
    }
}

/// strace on a running daemon.
pub(crate) struct Tracer {
    strace: Child,
    table: String,
    _dir: TempDir,
}

impl Tracer {
    /// `None` if strace cannot be had.
    pub(crate) fn attach(to: Pid, follow: bool, injections: &[String]) -> Option<Tracer> {
        let dir = TempDir::new();
        let table = dir.join("calls");
        let mut command = Command::new("strace");
        command.args(["-p", &to.to_string(), "-o", &table]);
        if follow {
            command.arg("-f");
        }
        let mut names = Vec::new();
        for injection in injections {
            let (call, how) = injection.split_once(':').expect("a call, and what becomes of it");
            names.push(each_name_of(call));
            command.args(["-e", &format!("inject={}:{how}", each_name_of(call))]);
        }
        command.args(["-e", &format!("trace={}", names.join(","))]);
        let mut strace = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().ok()?;
        let mut said = BufReader::new(strace.stderr.take().expect("piped"));
        let mut line = String::new();
        let attached = said.read_line(&mut line).is_ok() && line.contains(" attached");
        if !attached {
            let _ = strace.wait();
            return None;
        }
        // Nobody reads on, and strace says little more.
        strace.stderr = Some(said.into_inner());
        Some(Tracer { strace, table, _dir: dir })
    }

    /// Lets go; returns how often the call was made to fail.
    pub(crate) fn detach(mut self, call: &str) -> usize {
        end_tracer(&mut self.strace);
        self.hits(call)
    }

    /// How often the call was made to fail so far.
    fn hits(&self, call: &str) -> usize {
        let text = fs::read_to_string(&self.table).expect("what strace has written");
        // Where processes interleave a call has two lines: its name is on the second, too.
        let names = each_name_of(call).replace('?', "");
        let names: Vec<String> = names.split(',').flat_map(|c| [format!("{c}("), format!(" {c} resumed>")]).collect();
        let hit = |l: &&str| l.contains("(INJECTED)") && names.iter().any(|name| l.contains(name));
        text.lines().filter(hit).count()
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        end_tracer(&mut self.strace);
    }
}

/// How clients ended, as they saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Tally {
    connections: u64,
    served: u64,
    busy: u64,
    unavailable: u64,
    closed: u64,
}

/// Reads a client's answer: a command's pid, or what it is told instead.
fn answer(mut stream: TcpStream, tally: &mut Tally) -> Option<Session> {
    let mut first = [0];
    let mut said = match uninterrupted(|| stream.read(&mut first)) {
        Ok(1) => String::from(char::from(first[0])),
        Ok(_) => String::new(),
        Err(e) if e.kind() == ErrorKind::ConnectionReset => String::new(),
        Err(e) => panic!("no answer: {e}"),
    };
    if said.starts_with(|c: char| c.is_ascii_digit()) {
        said.push_str(&line(&mut stream));
        tally.served += 1;
        return Some(Session::known(stream, said.parse().expect("a pid")));
    }
    let _ = stream.read_to_string(&mut said);
    match said.as_str() {
        BUSY => tally.busy += 1,
        UNAVAILABLE => tally.unavailable += 1,
        "" => tally.closed += 1,
        other => panic!("neither an answer nor a refusal: {other:?}"),
    }
    None
}

/// A full house, one client more, and everybody leaves; nobody before the one is held, which is a descriptor above so many.
fn round(daemon: &Daemon, mode: Mode, held_above: Option<usize>, tally: &mut Tally) {
    let mut inside = Vec::new();
    for _ in 0..CAP {
        tally.connections += 1;
        inside.extend(answer(daemon.connect(), tally));
    }
    tally.connections += 1;
    let over = daemon.connect();
    if let Some(fds) = held_above {
        until("a held client", || daemon.open_fds().len() > fds);
    }
    if mode != Refuse && inside.len() == CAP {
        inside.remove(0).leave();
    }
    inside.extend(answer(over, tally));
    inside.into_iter().for_each(Session::leave);
}

fn walk(fault: &Fault) {
    if !can_trace(fault.call) {
        return;
    }
    for mode in fault.modes {
        for error in fault.errors {
            for at in fault.at {
                let main = format!("{}:error={error}:when={at}", fault.call);
                let along = fault.along.iter().map(|call| (*call).to_owned());
                hit(fault, *mode, &std::iter::once(main).chain(along).collect::<Vec<_>>());
            }
        }
    }
}

fn hit(fault: &Fault, mode: Mode, injections: &[String]) {
    let what = format!("{injections:?}, {mode:?}");
    let options: Vec<&str> =
        ["--listen", "127.0.0.1:0", "--max-connections", "2"].iter().chain(mode.options()).copied().collect();
    let mut daemon = sockcap(&options).run(PID_CAT).start();
    let fds = daemon.open_fds();
    let mut tally = Tally::default();
    round(&daemon, mode, None, &mut tally);
    // Whoever was refused may linger for a moment after the last command.
    until("an idle daemon", || daemon.commands().is_empty() && daemon.open_fds() == fds);
    let ticks = daemon.cpu_ticks();
    let held_above = fault.held_first.then_some(fds.len());
    let healthy = Tally { connections: 3, served: if mode == Refuse { 2 } else { 3 }, ..Tally::default() };
    assert_eq!(tally, Tally { busy: 3 - healthy.served, ..healthy });

    let tracer =
        Tracer::attach(daemon.pid(), fault.follow, injections).unwrap_or_else(|| panic!("cannot trace {what}"));
    for nth in 1..=*ROUNDS.end() {
        round(&daemon, mode, held_above, &mut tally);
        if nth >= *ROUNDS.start() && tracer.hits(fault.call) > 0 {
            break;
        }
    }
    let hits = tracer.detach(fault.call) as u64;
    assert!(hits > 0, "it never failed, so this tests nothing: {what}");

    // Nothing is left of it: all slots, and no more than that.
    until(&format!("an idle daemon after {what}"), || daemon.commands().is_empty());
    until(&format!("its descriptors after {what}: {fds:?}"), || daemon.open_fds() == fds);
    let used = daemon.cpu_ticks() - ticks;
    assert!(used < 50, "{used} ticks of processor time: {what}");
    let before = tally;
    round(&daemon, mode, held_above, &mut tally);
    assert_eq!(
        (tally.served - before.served, tally.busy - before.busy),
        (healthy.served, 3 - healthy.served),
        "not healed: {what}; {:#?}",
        daemon.log()
    );
    until(&format!("an idle daemon after {what}"), || daemon.commands().is_empty());

    let mut expected = Totals {
        accepted: tally.connections,
        served: tally.served,
        refused: tally.busy,
        gone: 0,
        failed: tally.unavailable,
    };
    match fault.closed {
        Closed::Never => assert_eq!(tally.closed, 0, "closed without a word: {what}; {:#?}", daemon.log()),
        Closed::Refused => expected.refused += tally.closed,
        Closed::Served => expected.served += tally.closed,
    }
    if fault.gone {
        expected.accepted += hits;
        expected.gone += hits;
    }
    assert_eq!(daemon.stop(), expected, "{what}: {tally:?}; {:#?}", daemon.log());
    for words in fault.says {
        assert!(daemon.count(words) > 0, "the log does not say '{words}': {what}; {:#?}", daemon.log());
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// accepting

#[test]
fn accept_runs_out() {
    walk(&Fault {
        call: "accept4",
        errors: &["EMFILE", "ENFILE", "ENOMEM", "ENOBUFS"],
        at: &[1, 5],
        says: &[
            "cannot accept on '127.0.0.1:",
            "; clients wait, trying again in 100 ms",
            "accepting again after 1 failure ",
        ],
        ..Fault::default()
    });
}

#[test]
fn accept_loses_a_client() {
    walk(&Fault { call: "accept4", errors: &["ECONNABORTED"], gone: true, ..Fault::default() });
}

#[test]
fn accept_is_forbidden() {
    walk(&Fault {
        call: "accept4",
        errors: &["EPERM", "EACCES"],
        at: &[1, 5],
        says: &[
            "cannot accept on '127.0.0.1:",
            "; clients wait, trying again in 100 ms",
            "accepting again after 1 failure ",
        ],
        ..Fault::default()
    });
}

#[test]
fn accept_finds_nobody() {
    walk(&Fault { call: "accept4", errors: &["EINTR", "EAGAIN"], ..Fault::default() });
}

#[test]
fn what_is_asked_of_a_connection() {
    walk(&Fault { call: "getsockopt", errors: &["ENOBUFS"], ..Fault::default() });
}

// ---------------------------------------------------------------------------------------------------------------------
// starting

#[test]
fn clone_fails_and_its_client_is_told() {
    walk(&Fault {
        call: "clone",
        errors: &["EAGAIN", "ENOMEM"],
        modes: &[Refuse],
        says: &["cannot start /bin/sh: ", "; its clients are refused", "commands start again after 1 failure "],
        ..Fault::default()
    });
}

#[test]
fn clone_fails_and_its_client_waits() {
    walk(&Fault {
        call: "clone",
        errors: &["EAGAIN", "ENOMEM"],
        modes: &[Queue, Hold],
        says: &["cannot start /bin/sh: ", "; its clients wait", "commands start again after 1 failure "],
        ..Fault::default()
    });
}

/// Where a child in the same memory cannot be had (qemu-user) it is one for which the daemon waits; the client notices nothing.
#[test]
fn clone_knows_forks_alone() {
    if !can_trace("a clone that knows forks alone") {
        return;
    }
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0"]).run(PID_CAT).start();
    let tracer = Tracer::attach(daemon.pid(), false, &["clone:error=EINVAL:when=1".into()]).expect("strace");
    for _ in 0..3 {
        let mut session = Session::of(daemon.connect());
        echoes(&mut session.stream);
        session.leave();
    }
    assert_eq!(tracer.detach("clone"), 1);
    assert_eq!(daemon.stop(), Totals { accepted: 3, served: 3, ..Totals::default() });
    assert_eq!(daemon.count("cannot start"), 0);
}

/// strace counts in each process, so that every command fails while it looks.
#[test]
fn exec_fails() {
    walk(&Fault {
        call: "execve",
        errors: &["ENOENT", "E2BIG", "EAGAIN"],
        at: &[1],
        follow: true,
        says: &["cannot start /bin/sh: ", "; its clients are refused", "commands start again after "],
        ..Fault::default()
    });
}

/// With the error that it was.
#[test]
fn the_child_cannot_place_its_connection() {
    walk(&Fault {
        call: "dup3",
        errors: &["EBUSY"],
        at: &[1, 2],
        follow: true,
        says: &["cannot start /bin/sh: ", "(EBUSY); "],
        ..Fault::default()
    });
}

/// What cannot be told of a failed exec is a plain close for the client, and an end like any other for the daemon.
#[test]
fn exec_fails_and_cannot_say_so() {
    walk(&Fault {
        call: "sendmsg",
        along: &["execve:error=ENOENT:when=1"],
        errors: &["EAGAIN", "ENOBUFS"],
        at: &[1],
        follow: true,
        closed: Closed::Served,
        ..Fault::default()
    });
}

/// The report stays where it is until it can be read.
#[test]
fn the_report_of_a_failed_exec_cannot_be_read() {
    walk(&Fault {
        call: "recvmsg",
        along: &["execve:error=ENOENT:when=1"],
        errors: &["ENOMEM", "EINTR"],
        at: &[1, 2],
        follow: true,
        says: &["cannot start /bin/sh: "],
        ..Fault::default()
    });
}

#[test]
fn what_the_child_sets_before_its_exec() {
    let faults: [(_, &[_]); 2] = [("prlimit64", &["EPERM"]), ("rt_sigprocmask", &["EFAULT"])];
    for (call, errors) in faults {
        walk(&Fault { call, errors, at: &[1], modes: &[Refuse], follow: true, ..Fault::default() });
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// the loop

#[test]
fn waiting_for_events_is_interrupted() {
    walk(&Fault { call: "epoll_wait", errors: &["EINTR"], ..Fault::default() });
}

#[test]
fn signals_cannot_be_read() {
    walk(&Fault { call: "read", errors: &["EAGAIN", "EINTR"], ..Fault::default() });
}

/// Ends that are not read at once are read later.
#[test]
fn ends_cannot_be_read() {
    walk(&Fault { call: "wait4", errors: &["EINTR", "ECHILD"], ..Fault::default() });
}

/// Of a listener, of a client that is held, or of a refusal that lingers.
#[test]
fn the_poll_set_does_not_take_it() {
    let fault = Fault { call: "epoll_ctl", errors: &["ENOMEM", "ENOSPC"], ..Fault::default() };
    walk(&Fault { at: &[1, 2, 3, 4], modes: &[Refuse, Queue], ..fault });
    // Whoever comes while a place is being given back need not be held, and then there is no call.
    walk(&Fault { at: &[1, 2], modes: &[Hold], held_first: true, ..fault });
}

// ---------------------------------------------------------------------------------------------------------------------
// refusing

#[test]
fn the_reply_has_to_wait() {
    walk(&Fault { call: "sendto", errors: &["EAGAIN", "EINTR"], at: &[1, 2, 4], modes: &[Refuse], ..Fault::default() });
}

#[test]
fn the_reply_cannot_be_sent() {
    walk(&Fault {
        call: "sendto",
        errors: &["EPIPE", "ENOBUFS"],
        at: &[1, 2, 4],
        modes: &[Refuse],
        closed: Closed::Refused,
        ..Fault::default()
    });
}

#[test]
fn the_reply_cannot_be_ended_in_order() {
    walk(&Fault { call: "shutdown", errors: &["ENOTCONN"], at: &[1, 2, 4], modes: &[Refuse], ..Fault::default() });
}

/// Not even reading what a refused client sends.
#[test]
fn the_lingering_cannot_be_read() {
    walk(&Fault {
        call: "recvfrom",
        errors: &["EAGAIN", "ECONNRESET"],
        at: &[1, 2, 4],
        modes: &[Refuse],
        ..Fault::default()
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// what does not pass by itself

/// A fault that stays is tried again seldom, and is over when it is.
#[test]
fn a_lasting_fault_is_no_reason_to_spin() {
    unless_stalled(Duration::from_secs(1), || {
        if !can_trace("lasting faults") {
            return;
        }
        for (call, error, mode) in [
            ("accept4", "ENFILE", Refuse),
            ("accept4", "EPERM", Refuse),
            ("accept4", "EACCES", Queue),
            ("clone", "EAGAIN", Queue),
            ("clone", "ENOMEM", Hold),
            ("epoll_ctl", "ENOSPC", Queue),
        ] {
            let options: Vec<&str> =
                ["--listen", "127.0.0.1:0", "--max-connections", "1"].iter().chain(mode.options()).copied().collect();
            let mut daemon = sockcap(&options).run(PID_CAT).start();
            let fds = daemon.open_fds().len();
            let first = Session::open(daemon.addr(0));
            until("the first one's connection is its command's alone", || daemon.open_fds().len() == fds);
            let next = (mode != Refuse).then(|| daemon.connect());
            if mode == Hold {
                // Held, and not only in the kernel's queue, when the fault begins.
                until("the second is held", || daemon.open_fds().len() > fds);
            }
            let tracer =
                Tracer::attach(daemon.pid(), false, &[format!("{call}:error={error}:when=1+")]).expect("strace");
            let since = Instant::now();
            first.leave();
            let next = next.unwrap_or_else(|| daemon.connect());
            let answered = ready(&next, PollFlags::POLLIN | HANGUP, Duration::from_secs(1));
            let tries = tracer.detach(call);
            let took = since.elapsed();
            assert!(!answered, "answered although {call} failed: {:#?}", daemon.log());
            // After 100, 200 and 400 ms, then once a second.
            let most = 5 + took.as_secs() as usize;
            assert!((1..=most).contains(&tries), "{call} was tried {tries} times in {took:?}");
            Session::of(next).leave();
            assert_eq!(daemon.stop(), Totals { accepted: 2, served: 2, ..Totals::default() }, "{call} {mode:?}");
        }
    });
}

/// A command that hangs before its exec (a dead network file system) has a copy of each socket that was open at its start. A
/// refused client that leaves meanwhile is no reason to spin.
#[test]
fn a_client_leaves_while_an_exec_hangs() {
    if !can_trace("an exec that hangs") {
        return;
    }
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--max-connections", "1"]).run(PID_CAT).start();
    let first = Session::open(daemon.addr(0));
    let mut lingering = daemon.connect();
    assert_eq!(line(&mut lingering) + "\n", BUSY);
    let tracer = Tracer::attach(daemon.pid(), true, &["execve:delay_enter=1000000:when=1".into()]).expect("strace");
    first.leave();
    let next = daemon.connect();
    until("the next command", || !daemon.commands().is_empty());
    let ticks = daemon.cpu_ticks();
    drop(lingering);
    Session::of(next).leave();
    let used = daemon.cpu_ticks() - ticks;
    drop(tracer);
    assert!(used < 20, "{used} ticks of processor time in a second");
    assert_eq!(daemon.stop(), Totals { accepted: 3, served: 2, refused: 1, ..Totals::default() });
}

/// The manager must not take a lack of descriptors for a hang.
#[test]
fn the_watchdog_is_fed_without_descriptors() {
    let mut notify = Notify::new();
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0"])
        .env("NOTIFY_SOCKET", notify.path())
        .env("WATCHDOG_USEC", "200000")
        .prelude("export WATCHDOG_PID=$$")
        .start();
    notify.wait("WATCHDOG=1");
    let open = daemon.open_fds();
    let first_free = (0..).find(|n| !open.contains(n)).expect("a free number");
    prlimit(&[], daemon.pid(), &format!("--nofile={first_free}:"));
    let mut waiting = daemon.connect();
    daemon.wait_text("cannot accept on ");
    while notify.next(Duration::ZERO).is_some() {}
    notify.wait("WATCHDOG=1");
    prlimit(&[], daemon.pid(), "--nofile=1024:");
    echoes(&mut waiting);
    drop(waiting);
    daemon.stop();
}

// ---------------------------------------------------------------------------------------------------------------------
// handing over

/// A full house with a manager, a command that runs and a client that is held.
struct Full {
    daemon: Daemon,
    running: Session,
    held: TcpStream,
    _notify: Notify,
}

impl Full {
    fn new(prepare: impl FnOnce(Start) -> Start) -> Full {
        let ours = tcp_listener("127.0.0.1:0", 8);
        let to = ours.local_addr().expect("an address");
        let notify = Notify::new();
        let start = sockcap(&["--max-connections", "1", "--when-full", "wait", "--max-wait", "1h"])
            .pass(ours.try_clone().expect("dup"))
            .env("NOTIFY_SOCKET", notify.path())
            .run(PID_CAT);
        let daemon = prepare(start).start();
        let running = Session::open(to);
        let held = connect(to);
        until("the kernel's queue is empty", || tcp_info(&ours).tcpi_unacked == 0);
        Full { daemon, running, held, _notify: notify }
    }

    /// The client that is held cannot be handed over: for `why`, if that is known. It is closed, and in the count.
    fn loses_the_client(&mut self, why: &str) {
        let failed = self.daemon.wait_text("could not hand everything over to the next daemon: ");
        assert!(failed.text.ends_with(&format!("{why}; closed 1 held client")), "{failed:?}");
        let said = self.daemon.wait_text("handed over to the next daemon: 1 command running, 0 clients held");
        assert!(said.text.contains("2 accepted, 0 served, 0 refused, 1 gone"), "in no count: {said:?}");
        assert!(ready(&self.held, HANGUP, FUSE), "it is not closed");
    }

    fn ends(mut self) {
        echoes(&mut self.running.stream);
        self.running.leave();
        assert_eq!(self.daemon.finish().code(), Some(0));
    }
}

/// A manager without a store drops what it is sent and says nothing: no client is claimed to be handed over.
#[test]
fn a_hand_over_without_a_store_claims_no_client() {
    let mut full = Full::new(|start| start.env("MEMORY_PRESSURE_WATCH", "/dev/null"));
    full.daemon.signal(Signal::SIGUSR1);
    full.loses_the_client(": the service has no FileDescriptorStoreMax=");
    full.ends();
}

/// A filter of system calls may refuse a command its session (seccomp(2)): it is not started without one.
#[test]
fn a_command_without_a_session_is_not_started() {
    if !can_trace("a session that cannot be made") {
        return;
    }
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0"]).run(PID_CAT).start();
    let tracer = Tracer::attach(daemon.pid(), true, &["setsid:error=EPERM:when=1+".into()]).expect("strace");
    assert_eq!(to_end(daemon.connect()), UNAVAILABLE);
    drop(tracer);
    daemon.wait_text("Operation not permitted (EPERM)");
    Session::open(daemon.addr(0)).leave();
    assert_eq!(daemon.stop(), Totals { accepted: 2, served: 1, failed: 1, ..Totals::default() });
}

/// What cannot be left to the next daemon is said to be lost, and only that; the kernel's queue is not ours to lose.
#[test]
fn a_hand_over_that_fails() {
    if !can_trace("failing hand-overs") {
        return;
    }
    let call = "sendmsg";
    for error in ["EPIPE", "EAGAIN", "ENOBUFS", "ECONNREFUSED"] {
        let mut full = Full::new(|start| start);
        let pid = full.daemon.pid();
        let tracer = Tracer::attach(pid, false, &[format!("{call}:error={error}:when=1+")]).expect("strace");
        let ended = pidfd(pid);
        full.daemon.signal(Signal::SIGUSR1);
        full.loses_the_client("");
        assert!(ready(&ended, PollFlags::POLLIN, FUSE), "it does not end");
        assert!(tracer.detach(call) > 0, "{call} was not called");
        full.ends();
    }
}

/// Errors that mean "this client has gone" are believed a few hundred times in a row, and no more.
#[test]
fn a_lasting_loss_of_clients_is_no_reason_to_spin() {
    if !can_trace("lasting losses") {
        return;
    }
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0"]).run(PID_CAT).start();
    let tracer = Tracer::attach(daemon.pid(), false, &["accept4:error=ECONNABORTED:when=1+".into()]).expect("strace");
    let client = daemon.connect();
    daemon.wait_for("the pause", |l| l.text.starts_with("cannot accept on '127.0.0.1:"));
    tracer.detach("accept4");
    Session::of(client).leave();
    let totals = daemon.stop();
    assert_eq!((totals.served, totals.refused, totals.failed), (1, 0, 0), "{totals:?}");
    assert_eq!((totals.accepted, totals.gone), (257, 256), "only as many as are believed count as gone");
}
