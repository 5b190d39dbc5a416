//! Chaos, from a seed: clients that talk, stall, half-close, reset, close or vanish without a packet, while the daemon is
//! handed over, hung or killed, journald frozen or restarted, descriptors or processes run out, and commands crash.
//!
//! At each moment, from outside: no more live commands than the cap. At the end: every client was served, told, or itself
//! gone; the counters of the last daemon agree with the clients' own tally; no zombie, no stray descriptor, no growth; the
//! socket active all the time. Every second seed has no SIGKILL: then the counters must agree exactly, however often the
//! daemon was replaced. After a SIGKILL they begin anew, and whoever the dead daemon held is lost with it, but nobody else.
//!
//! What a seed does is printed when it fails. `SOCKCAP_CHAOS_SEEDS=17` repeats it, as far as time itself can be repeated;
//! `SOCKCAP_CHAOS_SEEDS=1..1000` is a night's work. Not here: a clock that jumps, since the wall clock belongs to the host.

use super::journal::Journal;
use super::rig::{FUSE, Rig, SERVICE, SOCKET, until};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::fd::AsRawFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SEEDS: std::ops::RangeInclusive<u64> = 1..=30;
/// Clients at once.
const WORKERS: usize = 8;
/// Clients of each worker, one after the other.
const EACH: usize = 10;
const ACTIONS: usize = 6;
/// A user of its own, since root has no limit of processes.
const USER: u32 = 61874;
/// kB of the last daemon's own memory: three times what it has when nothing has happened yet.
const MEMORY: u64 = 1024;

const BUSY: &str = "server at capacity\n";
const UNAVAILABLE: &str = "service unavailable\n";

/// Says its pid, echoes, and ends as its client says, or by the end of file.
const COMMAND: &str = r#"#!/bin/sh
exec 2>/dev/null
echo "pid $$"
while read -r word rest; do
    case $word in
        bye) echo bye; exit 0 ;;
        fail) exit 3 ;;
        crash) kill -KILL $$ ;;
        *) echo "$word $rest" ;;
    esac
done
"#;

/// splitmix64: a few lines, the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn millis(&mut self, end: u64) -> Duration {
        Duration::from_millis(self.below(end))
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// what is done

/// What happens to daemon and surroundings, and for how long.
#[derive(Clone, Copy, Debug)]
enum Action {
    /// `systemctl restart`: a hand-over.
    Restart,
    /// SIGKILL of the daemon.
    Kill,
    /// SIGKILL amid a hand-over, or just before or after it.
    KillAmidRestart(Duration),
    /// SIGSTOP and SIGCONT.
    Hang(Duration),
    /// No more descriptors.
    Descriptors(Duration),
    /// No more processes.
    Processes(Duration),
    FreezeJournald,
    ThawJournald,
    RestartJournald,
}

/// What a client does.
#[derive(Clone, Copy, Debug)]
enum Behaviour {
    /// So many lines, then the last word.
    Talk(u64, &'static str),
    /// So many lines, then the end of file, and reads on.
    HalfClose(u64),
    /// Keeps its place for a while.
    Stall(Duration),
    /// Reads nothing for a while, whatever it is told.
    Deaf(Duration),
    CloseAtOnce,
    ResetAtOnce,
    /// Without a packet, as when the network goes.
    VanishAtOnce,
    /// After a while, unanswered or not.
    ResetLater(Duration),
    ResetAmidTalk,
    VanishAmidTalk,
}

#[derive(Debug)]
struct Plan {
    cap: usize,
    /// `--max-wait` in ms; `None`: refuse.
    max_wait: Option<u64>,
    max_waiting: u64,
    actions: Vec<(Duration, Action)>,
    clients: Vec<Vec<Behaviour>>,
}

impl Plan {
    fn of(seed: u64) -> Plan {
        let mut random = Random(seed);
        let kills = seed % 2 == 1;
        let cap = 1 + random.below(6) as usize;
        let waits = random.below(3) > 0;
        let max_wait = waits.then(|| [60_000, 300 + random.below(700)][random.below(2) as usize]);
        let max_waiting = if random.below(4) == 0 { 1 + random.below(4) } else { 0 };
        let actions = (0..ACTIONS).map(|_| (random.millis(120), action(&mut random, kills))).collect();
        let clients = (0..WORKERS).map(|_| (0..EACH).map(|_| behaviour(&mut random)).collect()).collect();
        Plan { cap, max_wait, max_waiting, actions, clients }
    }

    fn settings(&self) -> String {
        let hold = match self.max_wait {
            None => "Environment=SOCKCAP_WHEN_FULL=refuse".to_owned(),
            Some(ms) => format!(
                "Environment=SOCKCAP_WHEN_FULL=wait SOCKCAP_MAX_WAIT={ms}ms SOCKCAP_MAX_WAITING={}",
                self.max_waiting
            ),
        };
        format!(
            "User=chaos\nExecStart=\nExecStart=/usr/bin/sockcap -- /run/chaos\nRestartSec=20ms\n\
             Environment=SOCKCAP_MAX_CONNECTIONS={} SOCKCAP_HALF_CLOSE=serve\n{hold}",
            self.cap
        )
    }

    fn kills(&self) -> usize {
        let kills = |action: &Action| matches!(action, Action::Kill | Action::KillAmidRestart(_));
        self.actions.iter().filter(|(_, action)| kills(action)).count()
    }

    fn has_none_left(&self) -> bool {
        self.actions.iter().any(|(_, action)| matches!(action, Action::Processes(_)))
    }
}

fn action(random: &mut Random, kills: bool) -> Action {
    match random.below(if kills { 13 } else { 10 }) {
        0..3 => Action::Restart,
        3 => Action::Hang(random.millis(150)),
        4 | 5 => Action::Descriptors(random.millis(250)),
        6 => Action::Processes(random.millis(250)),
        7 => Action::FreezeJournald,
        8 => Action::ThawJournald,
        9 => Action::RestartJournald,
        10 | 11 => Action::Kill,
        _ => Action::KillAmidRestart(random.millis(30)),
    }
}

fn behaviour(random: &mut Random) -> Behaviour {
    match random.below(16) {
        0..3 => Behaviour::Talk(random.below(6), "bye"),
        3 => Behaviour::Talk(random.below(3), "fail"),
        4 => Behaviour::Talk(random.below(3), "crash"),
        5 | 6 => Behaviour::HalfClose(random.below(4)),
        7..9 => Behaviour::Stall(random.millis(120)),
        9 => Behaviour::Deaf(random.millis(200)),
        10 => Behaviour::CloseAtOnce,
        11 => Behaviour::ResetAtOnce,
        12 => Behaviour::VanishAtOnce,
        13 => Behaviour::ResetLater(random.millis(100)),
        14 => Behaviour::ResetAmidTalk,
        _ => Behaviour::VanishAmidTalk,
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// clients

/// How a client ended, as it saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Served,
    Busy,
    Unavailable,
    /// It went without having heard anything.
    Gone,
    /// It was closed without a word.
    Lost,
}

type Tally = BTreeMap<Outcome, u64>;

fn reset(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(stream, sockopt::Linger, &linger).expect("SO_LINGER");
}

/// A socket in repair mode is closed without a FIN (tcp_close in Linux); the other end hears of it when it asks.
fn vanish(stream: &TcpStream) {
    let on = 1i32;
    // SAFETY: an open descriptor, and an integer with its size.
    let failed =
        unsafe { libc::setsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_REPAIR, (&raw const on).cast(), 4) };
    assert_eq!(failed, 0, "TCP_REPAIR: {}", io::Error::last_os_error());
}

struct Talker(BufReader<TcpStream>);

impl Talker {
    /// The first line: the command's, or why there is none.
    fn first(&mut self) -> Outcome {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(_) => match line.as_str() {
                BUSY => Outcome::Busy,
                UNAVAILABLE => Outcome::Unavailable,
                "" => Outcome::Lost,
                served if served.starts_with("pid ") && served.ends_with('\n') => Outcome::Served,
                other => panic!("neither served nor told: {other:?}"),
            },
            Err(e) if e.kind() == ErrorKind::ConnectionReset && line.is_empty() => Outcome::Lost,
            Err(e) => panic!("{e} after {line:?}"),
        }
    }

    fn say(&mut self, lines: u64) {
        for n in 0..lines {
            let said = format!("line {n}\n");
            self.0.get_mut().write_all(said.as_bytes()).expect("the command listens");
            let mut line = String::new();
            self.0.read_line(&mut line).expect("the command answers");
            assert_eq!(line, said, "not an echo");
        }
    }

    fn last(&mut self, word: &str) -> String {
        self.0.get_mut().write_all(format!("{word}\n").as_bytes()).expect("the command listens");
        self.rest()
    }

    fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).expect("a clean end");
        rest
    }
}

/// One client's life. Its pauses are part of what it does, not a way of waiting for anything.
fn client(behaviour: Behaviour) -> Outcome {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, 873)).expect("connect");
    stream.set_read_timeout(Some(FUSE)).expect("a timeout");
    match behaviour {
        Behaviour::CloseAtOnce => return Outcome::Gone,
        Behaviour::ResetAtOnce => {
            reset(&stream);
            return Outcome::Gone;
        }
        Behaviour::VanishAtOnce => {
            vanish(&stream);
            return Outcome::Gone;
        }
        Behaviour::ResetLater(after) => {
            thread::sleep(after);
            reset(&stream);
            return Outcome::Gone;
        }
        Behaviour::HalfClose(0) => stream.shutdown(Shutdown::Write).expect("half-close"),
        Behaviour::Deaf(span) => thread::sleep(span),
        _ => {}
    }
    let mut talker = Talker(BufReader::new(stream));
    let first = talker.first();
    if first != Outcome::Served {
        return first;
    }
    match behaviour {
        Behaviour::Talk(lines, word) => {
            talker.say(lines);
            assert_eq!(talker.last(word), if word == "bye" { "bye\n" } else { "" });
        }
        Behaviour::HalfClose(lines) => {
            if lines > 0 {
                talker.say(lines);
                talker.0.get_ref().shutdown(Shutdown::Write).expect("half-close");
            }
            assert_eq!(talker.rest(), "");
        }
        Behaviour::Stall(span) => {
            thread::sleep(span);
            talker.say(1);
        }
        Behaviour::ResetAmidTalk => {
            talker.say(1);
            reset(talker.0.get_ref());
        }
        Behaviour::VanishAmidTalk => {
            talker.say(1);
            vanish(talker.0.get_ref());
        }
        _ => {}
    }
    first
}

// ---------------------------------------------------------------------------------------------------------------------
// what is seen from outside

/// State, parent and session of a process, and its name.
struct Stat {
    name: String,
    state: char,
    parent: i32,
    session: i32,
}

impl Stat {
    fn of(pid: i32) -> Option<Stat> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (open, close) = (text.find('(')?, text.rfind(')')?);
        let mut rest = text[close + 1..].split_whitespace();
        let state = rest.next()?.chars().next()?;
        let parent = rest.next()?.parse().ok()?;
        let session = rest.nth(1)?.parse().ok()?;
        Some(Stat { name: text[open + 1..close].to_owned(), state, parent, session })
    }

    /// The daemon, or what is about to become it: systemd's child, which no command is by name.
    fn is_daemon(&self, rig: &Rig) -> bool {
        let starting = self.name.starts_with('(') || self.name.starts_with("systemd") || self.name.starts_with("sd-");
        self.parent == rig.leader() && (self.name == "sockcap" || starting)
    }
}

fn daemon(rig: &Rig) -> Option<i32> {
    let is_daemon =
        |pid: &i32| Stat::of(*pid).is_some_and(|stat| stat.name == "sockcap" && stat.parent == rig.leader());
    rig.processes().into_iter().find(is_daemon)
}

/// The commands that live: leaders of sessions. The list is older than what is read of each, so all that are counted
/// lived at one moment.
fn commands(rig: &Rig) -> usize {
    let lives = |pid: &i32| {
        Stat::of(*pid)
            .is_some_and(|stat| !matches!(stat.state, 'Z' | 'X') && stat.session == *pid && !stat.is_daemon(rig))
    };
    rig.processes().iter().filter(|pid| lives(pid)).count()
}

fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// kB of memory that is its own.
fn memory(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("smaps_rollup");
    let line = text.lines().find(|l| l.starts_with("Pss_Anon:")).expect("Pss_Anon");
    line.split_whitespace().nth(1).expect("a value").parse().expect("a number")
}

// ---------------------------------------------------------------------------------------------------------------------
// the surroundings

/// As the user itself: root in a container may lack CAP_SYS_RESOURCE. The daemon may be gone.
fn prlimit(pid: i32, limit: &str) {
    let user = [format!("--reuid={USER}"), format!("--regid={USER}"), "--clear-groups".into(), "prlimit".into()];
    let out = Command::new("setpriv").args(user).args([format!("--pid={pid}"), limit.to_owned()]).output();
    let out = out.expect("setpriv");
    assert!(out.status.success() || Stat::of(pid).is_none(), "prlimit {limit}: {out:?}");
}

/// Leaves it just those that it has.
fn take_descriptors(pid: i32) {
    let is_open = |n: &i32| fs::symlink_metadata(format!("/proc/{pid}/fd/{n}")).is_ok();
    let first_free = (0..).find(|n| !is_open(n)).expect("a free number");
    prlimit(pid, &format!("--nofile={first_free}:"));
}

fn act(rig: &Rig, action: Action) {
    match action {
        Action::Restart => drop(rig.ok(&format!("systemctl restart {SERVICE}"))),
        Action::Kill => signal(rig, Signal::SIGKILL),
        Action::KillAmidRestart(after) => {
            rig.ok(&format!("systemctl restart --no-block {SERVICE}"));
            thread::sleep(after);
            signal(rig, Signal::SIGKILL);
        }
        Action::Hang(span) => {
            let Some(pid) = daemon(rig) else { return };
            let _ = kill(Pid::from_raw(pid), Signal::SIGSTOP);
            thread::sleep(span);
            let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
        }
        Action::Descriptors(span) => {
            let Some(pid) = daemon(rig) else { return };
            take_descriptors(pid);
            thread::sleep(span);
            prlimit(pid, "--nofile=16384:");
        }
        Action::Processes(span) => {
            let Some(pid) = daemon(rig) else { return };
            prlimit(pid, "--nproc=1:");
            thread::sleep(span);
            prlimit(pid, "--nproc=1000:");
        }
        Action::FreezeJournald => drop(rig.ok("systemctl kill -s STOP systemd-journald")),
        Action::ThawJournald => drop(rig.ok("systemctl kill -s CONT systemd-journald")),
        Action::RestartJournald => {
            // It has a start limit of its own, which is not what is tested here.
            rig.ok("systemctl kill -s CONT systemd-journald; systemctl reset-failed systemd-journald; \
                systemctl restart systemd-journald");
        }
    }
}

fn signal(rig: &Rig, signal: Signal) {
    if let Some(pid) = daemon(rig) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// one seed

/// Every third seed of `SOCKCAP_CHAOS_SEEDS`, or of the thirty that every run has; seeds with and without SIGKILL in each third.
pub fn seeds(rig: &Rig, third: u64) {
    let asked = std::env::var("SOCKCAP_CHAOS_SEEDS").ok();
    let number = |text: &str| text.parse().expect("SOCKCAP_CHAOS_SEEDS is a number or FROM..TO");
    let seeds = match asked.as_deref().map(|text| text.split_once("..").ok_or(text)) {
        None => SEEDS,
        Some(Ok((from, to))) => number(from)..=number(to),
        Some(Err(one)) => number(one)..=number(one),
    };
    prepare(rig);
    let (mut run, mut failed) = (0, Vec::new());
    for seed in seeds.filter(|seed| seed / 2 % 3 == third) {
        let plan = Plan::of(seed);
        let start = Instant::now();
        run += 1;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| one(rig, &plan))) {
            let said = rig.sh(&format!(
                "systemctl kill -s CONT systemd-journald; systemctl kill -s KILL --kill-whom=all {SERVICE}; \
                 journalctl -q -n 60 -o short-precise -u {SERVICE} -u systemd-journald"
            ));
            let said = String::from_utf8_lossy(&said.stdout);
            let _ = writeln!(io::stderr(), "seed {seed} failed after {:?}: {plan:?}\n{said}", start.elapsed());
            if asked.is_none() {
                resume_unwind(panic);
            }
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "of {run} seeds failed: {failed:?}");
}

/// Command and user, and a socket that misses whoever has vanished.
fn prepare(rig: &Rig) {
    rig.write("/run/chaos", COMMAND);
    rig.ok(&format!(
        "chmod 755 /run/chaos; mkdir -p /etc/systemd/system/{SOCKET}.d; grep -qs ^chaos: /etc/passwd || \
         {{ echo chaos:x:{USER}:{USER}::/:/bin/sh >>/etc/passwd; echo chaos:x:{USER}: >>/etc/group; }}"
    ));
    rig.write(
        &format!("/etc/systemd/system/{SOCKET}.d/chaos.conf"),
        "[Unit]\nConditionPathExists=\n[Socket]\nKeepAliveTimeSec=1\nKeepAliveIntervalSec=1\nKeepAliveProbes=1\n",
    );
    rig.ok(&format!("systemctl daemon-reload; systemctl restart {SOCKET}"));
}

fn one(rig: &Rig, plan: &Plan) {
    rig.ok(&format!("systemctl stop {SERVICE}"));
    rig.edit(&plan.settings());
    // The first client starts the daemon; what it has then is what it may have at the end.
    assert_eq!(rig.inside(|| client(Behaviour::Talk(1, "bye"))), Outcome::Served);
    let started = until("an idle daemon", || daemon(rig).filter(|_| rig.processes().len() == 1));
    // The log opens its own, and has them once it has told something.
    Journal::of_daemon(rig, "").until(|entry| entry.message().starts_with("ready: "));
    let fds = descriptors(started);

    let (over, most) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut tally = Tally::from([(Outcome::Served, 1)]);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(commands(rig), Ordering::Relaxed);
                thread::yield_now();
            }
        });
        let clients = scope.spawn(|| rig.inside(|| crowd(plan)));
        let acted = catch_unwind(AssertUnwindSafe(|| {
            for (before, action) in &plan.actions {
                thread::sleep(*before);
                act(rig, *action);
                assert_eq!(rig.show(SOCKET, "ActiveState"), "active", "after {action:?}");
            }
            rig.ok("systemctl kill -s CONT systemd-journald");
        }));
        let ended = clients.join();
        let idle = catch_unwind(AssertUnwindSafe(|| {
            // Whoever has vanished is missed, the kernel's queue is empty, and every place is given back.
            let idle = format!("0/{} active, 0 waiting", plan.cap);
            let (mut status, mut left) = Default::default();
            let came = catch_unwind(AssertUnwindSafe(|| {
                until("nobody but the daemon", || {
                    (status, left) = (rig.show(SERVICE, "StatusText"), rig.processes());
                    (status.starts_with(&idle) && left.len() == 1 && daemon(rig).is_some()).then_some(())
                });
            }));
            let names: Vec<_> = left.iter().filter_map(|pid| Some(Stat::of(*pid)?.name)).collect();
            assert!(came.is_ok(), "not idle: {status:?}, {names:?}");
        }));
        over.store(true, Ordering::Relaxed);
        acted.unwrap_or_else(|panic| resume_unwind(panic));
        let ended = ended.unwrap_or_else(|panic| resume_unwind(panic));
        ended.into_iter().for_each(|outcome| *tally.entry(outcome).or_default() += 1);
        idle.unwrap_or_else(|panic| resume_unwind(panic));
    });
    let most = most.into_inner();
    assert!(most <= plan.cap, "{most} commands at once, {} allowed", plan.cap);
    assert_eq!(rig.show(SOCKET, "ActiveState"), "active");
    let last = daemon(rig).expect("a daemon");
    assert_eq!(rig.processes(), [last], "something is left");
    // One less where the journal could not be reached at its start, one more while it asks whether the journal is there.
    until(&format!("at most {fds} descriptors"), || (descriptors(last) <= fds).then_some(()));
    // The manager drops what it had of the held when it is told to.
    until("the state alone in the store", || (rig.show(SERVICE, "NFileDescriptorStore") == "1").then_some(()));
    assert!(memory(last) <= MEMORY, "{} kB", memory(last));
    add_up(rig, plan, &tally);
}

fn crowd(plan: &Plan) -> Vec<Outcome> {
    thread::scope(|scope| {
        let workers: Vec<_> = plan
            .clients
            .iter()
            .map(|clients| scope.spawn(|| clients.iter().map(|one| client(*one)).collect::<Vec<_>>()))
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// Stops the last daemon and compares its totals with what the clients have seen.
fn add_up(rig: &Rig, plan: &Plan, tally: &Tally) {
    let journal = Journal::of_daemon(rig, "");
    rig.ok(&format!("systemctl stop {SERVICE}"));
    let last = journal.until(|entry| entry.message().starts_with("stopped: "));
    let counts = last.message().split(';').next().unwrap_or_default();
    let numbers: Vec<u64> = counts.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    let [accepted, served, refused, gone, failed] = numbers[..] else { panic!("no numbers: {}", last.message()) };
    let of = |outcome| tally.get(&outcome).copied().unwrap_or(0);
    let shown = format!("{counts}, and the clients: {tally:?}");
    assert_eq!(accepted, served + refused + gone + failed, "somebody was forgotten: {shown}");
    assert!(plan.has_none_left() || (failed, of(Outcome::Unavailable)) == (0, 0), "{shown}");
    let clients = (WORKERS * EACH + 1) as u64;
    // At a SIGKILL each worker has one client, which the daemon may have held.
    assert!(of(Outcome::Lost) <= (plan.kills() * WORKERS) as u64, "{shown}");
    if plan.kills() > 0 {
        return assert!(accepted <= clients, "{shown}");
    }
    assert_eq!(accepted, clients, "{shown}");
    // Of those who went without a word it is not known what became of them.
    for (counted, seen) in [(served, Outcome::Served), (refused, Outcome::Busy), (failed, Outcome::Unavailable)] {
        assert!((of(seen)..=of(seen) + of(Outcome::Gone)).contains(&counted), "{seen:?}: {shown}");
    }
    assert!(gone <= of(Outcome::Gone), "{shown}");
}

/// The line that says so takes no descriptor.
pub fn a_lack_of_descriptors_is_in_the_journal(rig: &Rig) {
    prepare(rig);
    rig.edit(&Plan::of(0).settings());
    assert_eq!(rig.inside(|| client(Behaviour::Talk(1, "bye"))), Outcome::Served);
    let pid = until("an idle daemon", || daemon(rig).filter(|_| rig.processes().len() == 1));
    let journal = Journal::of_daemon(rig, "");
    take_descriptors(pid);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| rig.inside(|| client(Behaviour::Talk(1, "bye"))));
        journal.until(|entry| entry.message().starts_with("cannot accept on 'rsync': "));
        prlimit(pid, "--nofile=16384:");
        assert_eq!(waiting.join().expect("a client"), Outcome::Served);
    });
    journal.until(|entry| entry.message().starts_with("accepting again after "));
}
