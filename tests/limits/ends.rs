//! A slot that has come free is seen before anybody is refused, however much happens in the same moment.

use crate::common::*;
use nix::sys::signal::Signal;
use std::fs;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// `--max-wait` of these tests.
const MOST: Duration = Duration::from_secs(1);
/// The kernel's clock for waits has steps of at most a tenth of it.
const STEPS: Duration = Duration::from_millis(100);
/// More events than one look at them brings.
const MANY: usize = 80;

/// Does `what` while the daemon cannot look.
#[track_caller]
fn unseen<T>(daemon: &Daemon, what: impl FnOnce() -> T) -> T {
    daemon.signal(Signal::SIGSTOP);
    let stat = format!("/proc/{}/stat", daemon.pid());
    until("a stopped daemon", || {
        fs::read_to_string(&stat).is_ok_and(|text| text.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
    });
    let came = what();
    daemon.signal(Signal::SIGCONT);
    came
}

/// As many are held as commands run, and `more` have been refused and linger. All of that ends while the daemon cannot look, and so does
/// the time of those who are held. `false`: their time was over before that, on a machine that slow.
fn are_served(manager: &mut Manager, max: usize, more: usize, is_adopted: bool) -> bool {
    let max_is = max.to_string();
    let options = ["--max-connections", &max_is, "--when-full", "wait", "--max-wait", "1s", "--max-waiting", &max_is];
    let mut daemon = manager.start(sockcap(&options).run(PID_CAT));
    let living: Vec<Session> = (0..max).map(|_| Session::open(manager.addr(0))).collect();
    if is_adopted {
        manager.end(daemon, Signal::SIGKILL);
        daemon = manager.start(sockcap(&options).run(PID_CAT));
    }
    let idle = daemon.open_fds().len();
    let first = Instant::now();
    let held: Vec<TcpStream> = (0..max).map(|_| connect(manager.addr(0))).collect();
    let last = Instant::now();
    until("all are held", || daemon.open_fds().len() == idle + max || first.elapsed() > MOST);
    let lingering: Vec<TcpStream> = (0..more).map(|_| connect(manager.addr(0))).collect();
    lingering.iter().for_each(|client| drop(to_end(client)));
    let is_in_time = unseen(&daemon, || {
        let is_in_time = first.elapsed() + STEPS < MOST;
        drop(lingering);
        living.into_iter().for_each(Session::leave);
        until("the time", || last.elapsed() > MOST + STEPS); // nothing has an event here but time itself
        is_in_time
    });
    if is_in_time {
        held.into_iter().map(Session::of).for_each(Session::leave);
    }
    manager.end(daemon, Signal::SIGTERM);
    is_in_time
}

#[track_caller]
fn all_are_served(max: usize, more: usize) {
    let Some(mut manager) = Manager::new("ends of both kinds", &["web"]) else { return };
    for is_adopted in [false, true] {
        assert!((0..20).any(|_| are_served(&mut manager, max, more, is_adopted)), "late, twenty times");
    }
}

/// Nobody is refused between the first end that is seen and the second.
#[test]
fn each_slot_that_came_free_is_given_before_the_time_is_over() {
    all_are_served(2, 0);
}

/// The end of the command is not among the first events, and the time is over before the next ones are asked for.
#[test]
fn an_end_is_looked_for_before_the_time_is_over() {
    all_are_served(1, MANY);
}

/// The end of a command that the daemon before has started is not among the first events, and a client that comes after it is.
#[test]
fn an_adopted_command_that_has_ended_counts_against_nobody() {
    let Some(mut manager) = Manager::new("an adopted command's end", &["web"]) else { return };
    let start = || sockcap(&["--max-connections", "1"]).run(PID_CAT);
    let daemon = manager.start(start());
    let living = Session::open(manager.addr(0));
    manager.end(daemon, Signal::SIGKILL);
    let mut daemon = manager.start(start());
    let lingering: Vec<TcpStream> = (0..MANY).map(|_| connect(manager.addr(0))).collect();
    lingering.iter().for_each(refused);
    let client = unseen(&daemon, || {
        let gone = connect(manager.addr(0)); // the listener's event is the first
        reset(gone);
        drop(lingering);
        living.leave();
        connect(manager.addr(0))
    });
    Session::of(client).leave();
    let Totals { accepted, served, refused, gone, .. } = daemon.stop();
    assert_eq!((accepted, served, refused, gone), (MANY as u64 + 3, 2, MANY as u64, 1));
}
