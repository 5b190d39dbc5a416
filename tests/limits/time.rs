//! What ends by the clock and by signals: a command's time, a stop without systemd, an idle daemon. Where systemd starts the daemon
//! again, the test does, and keeps the listening socket meanwhile.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::common::*;
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A command that says its pid and that of a member of its group, which holds no connection. `$on_term` is what each does about SIGTERM.
fn pair(leader: &str, member: &str) -> [String; 3] {
    let member =
        format!("trap '{member}' TERM; echo $$ >&3; exec 3>&- >/dev/null </dev/null; while :; do sleep 1000; done");
    let leader = format!("trap '{leader}' TERM; sh -c \"$0\" 3>&1 & echo $$; while :; do wait; done");
    [
        "/bin/sh".into(),
        "-c".into(),
        format!("m='{}'; set -- \"$m\"; {}", member.replace('\'', r"'\''"), leader.replace("$0", "$1")),
    ]
}

/// The two of [`pair`], leader first.
fn both(client: &mut TcpStream) -> [Pid; 2] {
    let mut pids = [line(client), line(client)].map(|l| Pid::from_raw(l.parse().expect("a pid")));
    // The leader's pid is the group's.
    if nix::unistd::getpgid(Some(pids[0])) != Ok(pids[0]) {
        pids.swap(0, 1);
    }
    assert_eq!(nix::unistd::getpgid(Some(pids[1])), Ok(pids[0]));
    pids
}

fn has_ended(pid: Pid) -> bool {
    kill(pid, None) == Err(Errno::ESRCH)
}

const LIMIT: Duration = Duration::from_millis(600);
const GRACE: Duration = Duration::from_millis(1500);

fn limited(more: &[&str]) -> Start {
    let grace = format!("{}ms", GRACE.as_millis());
    let limit = format!("{}ms", LIMIT.as_millis());
    let all = [&["--listen", "127.0.0.1:0", "--time-limit", &limit, "--kill-grace", &grace][..], more].concat();
    sockcap(&all)
}

// ---------------------------------------------------------------------------------------------------------------------
// --time-limit

/// SIGTERM at the limit and not before; the slot comes back to whoever waits. Who ends before the limit is not touched, nor is
/// whoever came later.
#[test]
fn a_command_is_told_at_its_limit_and_gives_its_slot_back() {
    unless_stalled(LIMIT, || {
        let mut daemon = limited(&["--max-connections", "1", "--when-full", "wait", "--max-wait", "1min", "-v"])
            .run(PID_CAT)
            .start();
        Session::open(daemon.addr(0)).leave();
        let began = Instant::now();
        let mut over = Session::open(daemon.addr(0));
        let next = daemon.connect();
        echoes(&mut over.stream);
        assert_eq!(to_end(&mut over.stream), "");
        let lasted = began.elapsed();
        assert!(lasted >= LIMIT, "{lasted:?}");
        daemon.wait_text("reached the time limit of 0.6 s: sending SIGTERM to pid");
        daemon.wait_text("was killed by signal 15");
        Session::of(next).leave();
        assert_eq!(daemon.count("reached the time limit"), 1);
        assert_eq!(daemon.stop(), Totals { accepted: 3, served: 3, ..Totals::default() });
    });
}

/// A command that ignores SIGTERM is killed after the grace; so is a member of its group that does, when the command itself heeds it.
#[test]
fn the_whole_group_is_killed_after_the_grace() {
    unless_stalled(LIMIT, || {
        for (leader, is_heeded, session) in [("", false, "own"), ("exit 0", true, "own"), ("exit 0", true, "shared")] {
            let words = pair(leader, "");
            let mut daemon = limited(&["--session", session]).run(&words).start();
            let began = Instant::now();
            let mut client = daemon.connect();
            let [leader, member] = both(&mut client);
            let (leader_fd, member_fd) = (pidfd(leader), pidfd(member));
            let lasts = |fd: &OwnedFd| {
                assert!(ready(fd, PollFlags::POLLIN, FUSE), "never ended");
                began.elapsed()
            };
            if is_heeded {
                let lasted = lasts(&leader_fd);
                assert!(lasted >= LIMIT, "{lasted:?}");
                let is_over = ready(&member_fd, PollFlags::POLLIN, Duration::from_millis(1));
                assert!(!is_over || began.elapsed() >= LIMIT + GRACE, "its member had no grace");
            }
            for fd in [leader_fd, member_fd] {
                let lasted = lasts(&fd);
                let least = if is_heeded { LIMIT } else { LIMIT + GRACE };
                assert!(lasted >= least, "{lasted:?}");
            }
            assert!(began.elapsed() >= LIMIT + GRACE);
            assert_eq!(to_end(client), "");
            assert_eq!(daemon.stop().served, 1);
        }
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// the stop

/// Without systemd: the first Ctrl-C lets the living finish, the second kills, and the exit is a good one.
#[test]
fn ctrl_c_drains_and_a_second_one_kills() {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--drain-timeout", "1min"]).run(PID_CAT).start();
    let mut session = Session::open(daemon.addr(0));
    daemon.signal(Signal::SIGINT);
    daemon.wait_text("SIGINT: accepting no more connections, waiting up to 60.0 s for 1 command");
    echoes(&mut session.stream);
    daemon.signal(Signal::SIGINT);
    daemon.wait_text("sending SIGKILL to 1 command ");
    assert_eq!(daemon.totals().served, 1);
    assert_eq!(to_end(session.stream), "");
}

/// The second SIGTERM is passed on at once, the third is SIGKILL.
#[test]
fn each_sigterm_skips_a_wait() {
    let words = pair("", "");
    let mut daemon =
        sockcap(&["--listen", "127.0.0.1:0", "--drain-timeout", "1min", "--kill-grace", "1min"]).run(&words).start();
    let mut client = daemon.connect();
    let pids = both(&mut client);
    for said in
        ["SIGTERM: accepting no more connections", "sending SIGTERM to 1 command ", "sending SIGKILL to 1 command "]
    {
        daemon.signal(Signal::SIGTERM);
        daemon.wait_text(said);
    }
    assert_eq!(daemon.totals().served, 1);
    assert!(
        pids.into_iter().all(has_ended) || {
            until("the group's end", || pids.into_iter().all(has_ended));
            true
        }
    );
}

/// Without systemd's sockets there is nobody to hand over to: SIGUSR1 changes nothing.
#[test]
fn without_systemd_nothing_is_handed_over() {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0"]).run(PID_CAT).start();
    let session = Session::open(daemon.addr(0));
    daemon.signal(Signal::SIGUSR1);
    daemon.wait_text("SIGUSR1 ignored");
    Session::open(daemon.addr(0)).leave();
    session.leave();
    assert_eq!(daemon.stop().served, 2);
}

// ---------------------------------------------------------------------------------------------------------------------
// --idle-exit

/// Starts the daemon again whenever it has ended and somebody is in the socket's queue, as systemd does.
struct Manager {
    socket: TcpListener,
    options: Vec<String>,
    command: Vec<String>,
    daemon: Option<Daemon>,
    starts: usize,
    totals: Totals,
}

impl Manager {
    fn new(options: &[&str], command: &[&str]) -> Manager {
        let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
        let socket = tcp_listener("127.0.0.1:0", 4096);
        Manager {
            socket,
            options: words(options),
            command: words(command),
            daemon: None,
            starts: 0,
            totals: Totals::default(),
        }
    }

    fn addr(&self) -> SocketAddr {
        self.socket.local_addr().expect("an address")
    }

    /// Looks after the daemon until this descriptor has something to read.
    #[track_caller]
    fn serve_until(&mut self, fd: &TcpStream) {
        let end = Instant::now() + FUSE;
        loop {
            assert!(Instant::now() < end, "nobody answers, after {} starts", self.starts);
            match &self.daemon {
                // Its end is an event; so is the answer.
                Some(daemon) => {
                    let of_daemon = pidfd(daemon.pid());
                    let mut fds = [&of_daemon as &dyn std::os::fd::AsFd, fd as _]
                        .map(|fd| nix::poll::PollFd::new(fd.as_fd(), PollFlags::POLLIN | HANGUP));
                    match nix::poll::poll(&mut fds, nix::poll::PollTimeout::from(20_000u16)) {
                        Err(Errno::EINTR) => continue,
                        some => some.expect("poll"),
                    };
                    let [ended, answered] = fds.map(|fd| fd.any().unwrap_or(false));
                    if ended {
                        self.reap();
                    }
                    if answered {
                        return;
                    }
                }
                None => {
                    let fds = [self.socket_is_ready(), ready(fd, PollFlags::POLLIN | HANGUP, Duration::ZERO)];
                    match fds {
                        [_, true] => return,
                        [true, _] => self.start(),
                        _ => {}
                    }
                }
            }
        }
    }

    fn socket_is_ready(&self) -> bool {
        ready(&self.socket, PollFlags::POLLIN, Duration::from_millis(10))
    }

    fn start(&mut self) {
        let socket = self.socket.try_clone().expect("dup");
        self.daemon = Some(sockcap(&self.options).run(&self.command).pass(socket).spawn());
        self.starts += 1;
    }

    /// It must have ended in good order, with everybody it accepted served.
    #[track_caller]
    fn reap(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        let t = daemon.totals();
        self.totals.accepted += t.accepted;
        self.totals.served += t.served;
        assert_eq!((t.refused, t.gone, t.failed), (0, 0, 0));
    }
}

/// Clients that connect just as the daemon exits: each is answered, by it or by the next.
fn races(rounds: usize, idle: Duration) -> (usize, usize) {
    let mut manager = Manager::new(&["--idle-exit", &format!("{}ms", idle.as_millis())], &["/bin/echo", "hello"]);
    let mut pause = idle;
    let mut done = 0;
    while done < rounds {
        let client = connect(manager.addr());
        let starts = manager.starts;
        manager.serve_until(&client);
        assert_eq!(to_end(client), "hello\n", "round {done}");
        done += 1;
        // Around the moment at which it decides, wherever that is on this machine just now, and over it.
        match manager.starts > starts {
            true => pause -= pause / 16,
            false => pause += pause / 16,
        }
        let due = Instant::now() + pause + Duration::from_micros((done as u64 * 37) % 1000);
        while Instant::now() < due {
            std::hint::spin_loop();
        }
    }
    if let Some(daemon) = &manager.daemon {
        assert!(ready(pidfd(daemon.pid()), PollFlags::POLLIN, FUSE), "it does not end");
    }
    manager.reap();
    assert!(!manager.socket_is_ready(), "somebody was left in the queue");
    assert_eq!(manager.totals.served as usize, done);
    (done, manager.starts)
}

#[test]
fn nobody_is_lost_between_an_idle_daemon_and_the_next() {
    // Both sides of the moment are met, or nothing is tried. Where all takes its time, so does the moment.
    let mut met = Vec::new();
    for idle in [5, 25, 125].map(Duration::from_millis) {
        let (done, starts) = races(300, idle);
        if starts > 10 && done - starts > 10 {
            return;
        }
        met.push((done, starts));
    }
    panic!("rounds and starts: {met:?}");
}

/// By hand: `cargo test --release --test limits time -- --ignored --nocapture`.
#[test]
#[ignore = "minutes; the one above is the same in short"]
fn nobody_is_lost_in_ten_thousand_rounds() {
    let (done, starts) = races(10_000, Duration::from_millis(5));
    eprintln!("{done} rounds, {starts} starts");
    assert_eq!(done, 10_000);
}

/// Time counts from the last command's end and the last client's coming, however quick both were.
#[test]
fn quick_commands_keep_it_busy() {
    const IDLE: Duration = Duration::from_secs(1);
    let mut manager = Manager::new(&["--idle-exit", "1s"], &["/bin/true"]);
    let end = Instant::now() + IDLE * 3;
    let mut last = Instant::now();
    while Instant::now() < end {
        // Where the test itself is stopped for so long, the daemon is idle.
        let was_idle = last.elapsed() >= IDLE;
        last = Instant::now();
        let client = connect(manager.addr());
        let starts = manager.starts;
        manager.serve_until(&client);
        let was_idle = was_idle || last.elapsed() >= IDLE;
        assert!(starts == 0 || manager.starts == starts || was_idle, "it ended in the midst of clients");
        assert_eq!(to_end(client), "");
        std::thread::park_timeout(IDLE / 10);
    }
    if let Some(daemon) = &manager.daemon {
        assert!(ready(pidfd(daemon.pid()), PollFlags::POLLIN, FUSE), "it does not end");
    }
    assert!(last.elapsed() >= IDLE, "{:?} after the last client", last.elapsed());
    manager.reap();
}

/// The last look: who came before the daemon found itself idle is its own, and not left to a next one.
#[test]
fn who_is_in_the_queue_when_it_decides_is_served() {
    const IDLE: Duration = Duration::from_secs(1);
    for _ in 0..20 {
        let socket = tcp_listener("127.0.0.1:0", 64);
        let to = socket.local_addr().expect("an address");
        let mut daemon = sockcap(&["--idle-exit", "1s", "-v"]).run(&["/bin/echo", "hello"]).pass(socket).start();
        assert_eq!(to_end(connect(to)), "hello\n");
        daemon.wait_text("connection 1 ended");
        // Its time has begun; stopped dead until it is over.
        daemon.signal(Signal::SIGSTOP);
        let of_daemon = pidfd(daemon.pid());
        let client = TcpStream::connect(to);
        let answered = client.as_ref().is_ok_and(|client| ready(client, PollFlags::POLLIN | HANGUP, IDLE + QUIET));
        if answered || ready(&of_daemon, PollFlags::POLLIN, Duration::ZERO) {
            continue; // this test was stopped for longer than that, and the daemon ended before
        }
        daemon.signal(Signal::SIGCONT);
        assert_eq!(to_end(client.expect("a connection")), "hello\n");
        assert_eq!(daemon.totals(), Totals { accepted: 2, served: 2, ..Totals::default() });
        return;
    }
    panic!("it was over before it could be stopped, twenty times");
}

/// A running command is not idleness, nor is a refused client that has not read its answer.
#[test]
fn what_lasts_keeps_it_busy() {
    unless_stalled(Duration::from_secs(2), || {
        let socket = tcp_listener("127.0.0.1:0", 64);
        let to = socket.local_addr().expect("an address");
        // Who is there before the daemon finds it busy.
        let session = connect(to);
        let mut daemon = sockcap(&["--idle-exit", "100ms", "--max-connections", "1"]).run(PID_CAT).pass(socket).start();
        let mut session = Session::of(session);
        waits(&session.stream);
        echoes(&mut session.stream);
        let refused_one = connect(to);
        assert_eq!(line(&mut &refused_one), BUSY.trim_end());
        session.leave();
        assert!(!ready(pidfd(daemon.pid()), PollFlags::POLLIN, QUIET), "it left a client whose reply was on the way");
        drop(refused_one);
        assert_eq!(daemon.totals(), Totals { accepted: 2, served: 1, refused: 1, ..Totals::default() });
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// the manager hears little

/// A message wakes PID 1 for everybody: none for a connection.
#[test]
fn a_thousand_connections_are_a_handful_of_messages() {
    let mut notify = Notify::new();
    let socket = tcp_listener("127.0.0.1:0", 64);
    let to = socket.local_addr().expect("an address");
    let began = Instant::now();
    let mut daemon = sockcap::<&str>(&[]).run(&["/bin/true"]).env("NOTIFY_SOCKET", notify.path()).pass(socket).start();
    notify.wait("READY=1");
    let mut messages = 0;
    let mut read = |within: Duration| {
        while let Some(message) = notify.next(within) {
            assert!(message.starts_with("STATUS="), "{message}");
            messages += 1;
        }
    };
    for _ in 0..1000 {
        assert_eq!(to_end(connect(to)), "");
        read(Duration::ZERO);
    }
    read(Duration::from_millis(1));
    let seconds = began.elapsed().as_secs();
    // The status line, once a second at most.
    assert!(messages <= seconds + 2, "{messages} messages in {seconds} s");
    assert_eq!(daemon.stop().served, 1000);
}
