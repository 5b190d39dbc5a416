//! How many commands are under way at once. A child that has not been left its connection waits between clone and exec.
#![forbid(unsafe_code)]

use super::*;
use crate::peer::Peer;
use crate::policy::gate::{Gate, Hold, WhenFull};
use crate::policy::limit::rule::Rules;
use crate::policy::source::Source;
use crate::sys::launch::Pass;
use crate::sys::socket::Address;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::os::unix::net::UnixStream;

const SECOND: Duration = Duration::from_secs(1);

fn commands() -> Commands {
    let template = Template::parse([&b"true"[..]].into_iter()).unwrap();
    let fixed_vars = FixedVars::new([(&Address::Other, false)].into_iter(), Pass::Stdio);
    let spec = CommandSpec {
        program: c"/bin/true".into(),
        arguments: template.fixed.clone(),
        environment: Vec::new(),
        entries: fixed_vars.all.clone(),
        pass: Pass::Stdio,
        session: Session::Own,
        nofile: None,
    };
    let terms = Terms { room: 0, time_limit: None, kill_grace: SECOND, asks_for_oom: false };
    Commands::new(spec, template, fixed_vars, terms, &Poll::new().unwrap()).unwrap()
}

/// A command that was started, and the connection that it waits for.
fn start(commands: &mut Commands, now: Instant) -> (Started, ClientFd) {
    let rules = Rules { max_per_listener: vec![0], ..Rules::default() };
    let mut gate = Gate::new(&rules, WhenFull::Refuse, Hold::default(), 1);
    let slot = gate.adopt(now, Some(0), Source::Unknown, &mut VecDeque::new());
    let connection = ClientFd::new(UnixStream::pair().unwrap().0.into(), true);
    let id = commands.next_id();
    let info = ConnectionInfo {
        id,
        listener: "web",
        label: "web",
        peer: &Peer::UNKNOWN,
        local: &Address::Other,
        cookie: None,
        of_source: 1,
    };
    let who = Arrival { ticket: id, listener: 0, source: Source::Unknown, is_exempt: false, since: now };
    let started = commands.start(now, (&who, slot), &info, &connection, None).unwrap();
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
