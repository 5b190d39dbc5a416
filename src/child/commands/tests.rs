//! Commands that are real processes: how many are under way at once, and what is told and done of them. A child that has not been left
//! its connection waits between clone and exec.
#![forbid(unsafe_code)]

use super::*;
use crate::peer::Peer;
use crate::policy::gate::{Gate, Hold, WhenFull};
use crate::policy::limit::rule::Rules;
use crate::policy::source::Source;
use crate::sys::launch::Pass;
use crate::sys::process::reap;
use crate::sys::socket::Address;
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;
use std::ffi::CStr;
use std::os::unix::net::UnixStream;

mod listing;
mod stop;

const SECOND: Duration = Duration::from_secs(1);

fn commands() -> Commands {
    commands_of(c"/bin/true", &["true"], None, &Poll::new().unwrap())
}

/// None runs yet; each is this program with these words.
fn commands_of(program: &CStr, words: &[&str], time_limit: Option<Duration>, poll: &Poll) -> Commands {
    let template = Template::parse(words.iter().map(|word| word.as_bytes())).unwrap();
    let fixed_vars = FixedVars::new([(&Address::Other, false)].into_iter(), Pass::Stdio);
    let spec = CommandSpec {
        program: program.into(),
        arguments: template.fixed.clone(),
        environment: Vec::new(),
        entries: fixed_vars.all.clone(),
        pass: Pass::Stdio,
        session: Session::Own,
        nofile: None,
        attributes: Box::default(),
    };
    let terms = Terms { room: 0, time_limit, kill_grace: SECOND, asks_for_oom: false, oom_score_adj: None };
    Commands::new(spec, template, fixed_vars, terms, poll).unwrap()
}

/// A command that was started, and the connection that it waits for.
fn start(commands: &mut Commands, now: Instant) -> (Started, ClientFd) {
    start_for(commands, now, &Peer::UNKNOWN, UnixStream::pair().unwrap().0)
}

/// The client's end of a command that runs.
fn serve(commands: &mut Commands, now: Instant) -> (Started, UnixStream) {
    let (theirs, ours) = UnixStream::pair().unwrap();
    let (started, connection) = start_for(commands, now, &Peer::UNKNOWN, ours);
    commands.leave(&started, connection);
    (started, theirs)
}

/// One slot, counted for the listener 0 and this source.
fn slot(source: Source) -> Slot {
    let rules = Rules { max_per_listener: vec![0], exempt: vec!["192.0.2.99".parse().unwrap()], ..Rules::default() };
    let mut gate = Gate::new(&rules, WhenFull::Refuse, Hold::default(), 1);
    gate.adopt(Instant::now(), Some(0), source, &mut VecDeque::new())
}

/// Reaps one that ends, and no other test's.
fn see_end(commands: &mut Commands, now: Instant, pid: i32) -> Option<Ended> {
    waitid(Id::Pid(Pid::from_raw(pid)), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
    let (pid, exit, usage) = reap(Some(pid)).unwrap().unwrap();
    commands.child_ended(now, pid, exit, usage);
    let ended = |news| if let News::Ended(ended) = news { Some(ended) } else { None };
    std::iter::from_fn(|| commands.next_news(now)).find_map(ended)
}

fn start_for(commands: &mut Commands, now: Instant, peer: &Peer, connection: UnixStream) -> (Started, ClientFd) {
    let slot = slot(peer.source());
    let connection = ClientFd::new(connection.into(), true);
    let id = commands.next_id();
    let info =
        ConnectionInfo { id, listener: "web", label: "web", peer, local: &Address::Other, cookie: None, of_source: 1 };
    let who = Arrival { ticket: id, listener: 0, source: peer.source(), is_exempt: false, since: now };
    let started = commands.start(now, (&who, slot), &info, (&connection, None), Some(1_500)).unwrap();
    (started, connection)
}

#[test]
fn so_many_at_once_and_those_that_hang_besides() {
    let (mut commands, now) = (commands(), Instant::now());
    let mut hanging = Vec::new();
    for _ in 0..MAX_UNDER_WAY {
        assert!(!commands.look_at_crowd(now), "{} are no crowd", hanging.len());
        assert_eq!(commands.crowd_deadline(), None);
        hanging.push(start(&mut commands, now));
    }
    assert!(commands.look_at_crowd(now));
    assert_eq!(commands.crowd_deadline(), Some(now + CROWD), "nobody else says that it is over");

    // They take long, and so they delay nobody else.
    let later = now + SECOND;
    assert_eq!(commands.begun_deadline().filter(|at| *at > later), None);
    commands.look_after_begun(later);
    assert!(!commands.look_at_crowd(later));
    assert_eq!(commands.crowd_deadline(), None);
    for _ in 0..MAX_UNDER_WAY {
        assert!(!commands.look_at_crowd(later));
        hanging.push(start(&mut commands, later));
    }
    assert!(commands.look_at_crowd(later));

    let pids: Vec<i32> = hanging.iter().map(|(started, _)| started.pid).collect();
    hanging.into_iter().for_each(|(started, connection)| commands.leave(&started, connection));
    for pid in pids {
        waitpid(Pid::from_raw(pid), None).unwrap();
    }
    assert!(!commands.look_at_crowd(later), "all execs are over");
}
