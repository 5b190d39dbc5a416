//! A command that somebody has asked to end.
#![forbid(unsafe_code)]

use super::listing::{adopt, stray};
use super::*;
use crate::policy::limit::rule::Outcome;
use crate::sys::process::Exit;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;

const NANO: Duration = Duration::from_nanos(1);
/// It says that it is there, and no SIGTERM ends it.
const STUBBORN: [&str; 3] = ["sh", "-c", "trap '' TERM; echo; read word"];

/// A command of these words that has said a line, and what else it says.
fn told(commands: &mut Commands, now: Instant) -> (Started, BufReader<UnixStream>) {
    let (started, client) = serve(commands, now);
    let mut client = BufReader::new(client);
    client.read_line(&mut String::new()).unwrap();
    (started, client)
}

/// What is news: the numbers of those that are stopped, and whether at once; of an overdue one 0.
fn news(commands: &mut Commands, now: Instant) -> Vec<(u64, bool)> {
    let stopping = |news| match news {
        News::Stopping(Stopping { id, is_forced, asked_by, .. }) if asked_by == "root" => Some((id, is_forced)),
        News::Overdue { .. } => Some((0, false)),
        other => panic!("{other:?}"),
    };
    std::iter::from_fn(|| commands.next_news(now)).filter_map(stopping).collect()
}

fn how(ended: &Ended) -> (Exit, Outcome) {
    (ended.how.unwrap(), ended.outcome)
}

#[test]
fn it_has_its_grace_also_where_no_time_is_limited() {
    let (poll, now) = (Poll::new().unwrap(), Instant::now());
    let mut commands = commands_of(c"/bin/sh", &STUBBORN, None, &poll);
    let (other, _other_s_client) = told(&mut commands, now);
    let (one, _client) = told(&mut commands, now);
    assert_eq!(commands.stop(now, 0, false, "root"), None);
    assert_eq!(commands.stop(now, one.id + 1, false, "root"), None, "there was no such connection");
    assert_eq!(commands.overdue_deadline(), None);
    for at in [now, now + SECOND / 2] {
        assert_eq!(commands.stop(at, one.id, false, "root"), Some(one.pid));
        assert_eq!(commands.overdue_deadline(), Some(now + SECOND), "asked again, it is not given more time");
    }
    assert_eq!(news(&mut commands, now), [(one.id, false)], "once");
    commands.end_overdue(now + SECOND - NANO);
    assert_eq!(commands.overdue_deadline(), Some(now + SECOND));
    commands.end_overdue(now + SECOND);
    assert_eq!(how(&see_end(&mut commands, now, one.pid).unwrap()), (Exit::Signal(9), Outcome::Stopped));
    assert_eq!((commands.overdue_deadline(), commands.stop(now, one.id, false, "root")), (None, None), "it is over");
    assert_eq!(commands.stop(now, other.id, true, "root"), Some(other.pid), "the other was not touched");
    assert_eq!(how(&see_end(&mut commands, now, other.pid).unwrap()), (Exit::Signal(9), Outcome::Stopped));
}

/// What is left of its group has its grace, too.
#[test]
fn its_group_is_ended_with_it() {
    let (poll, now) = (Poll::new().unwrap(), Instant::now());
    let words = ["sh", "-c", "exec 3<&0; sh -c 'trap \"\" TERM; echo; read word <&3' & wait"];
    let mut commands = commands_of(c"/bin/sh", &words, None, &poll);
    let (one, mut client) = told(&mut commands, now);
    assert_eq!(commands.stop(now, one.id, false, "root"), Some(one.pid));
    assert_eq!(how(&see_end(&mut commands, now, one.pid).unwrap()), (Exit::Signal(15), Outcome::Stopped));
    assert_eq!(commands.overdue_deadline(), Some(now + SECOND));
    commands.end_overdue(now + SECOND);
    client.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(commands.overdue_deadline(), None);
}

#[test]
fn force_needs_no_grace_and_comes_after_a_mere_stop_too() {
    let (poll, now) = (Poll::new().unwrap(), Instant::now());
    for is_stopped_before in [false, true] {
        let mut commands = commands_of(c"/bin/sh", &STUBBORN, None, &poll);
        let (one, _client) = told(&mut commands, now);
        let mut expected = Vec::new();
        if is_stopped_before {
            assert_eq!(commands.stop(now, one.id, false, "root"), Some(one.pid));
            expected.push((one.id, false));
        }
        for is_forced in [true, true, false] {
            assert_eq!(commands.stop(now, one.id, is_forced, "root"), Some(one.pid));
        }
        expected.push((one.id, true));
        assert_eq!(news(&mut commands, now), expected);
        assert_eq!(how(&see_end(&mut commands, now, one.pid).unwrap()), (Exit::Signal(9), Outcome::Stopped));
        assert_eq!(commands.overdue_deadline(), None);
    }
}

/// Whichever comes first is why it ends, and it gets one SIGTERM.
#[test]
fn its_own_time_and_a_stop() {
    let (poll, now, limit) = (Poll::new().unwrap(), Instant::now(), SECOND / 2);
    let mut commands = commands_of(c"/bin/sh", &STUBBORN, Some(limit), &poll);
    let (asked, _client) = told(&mut commands, now);
    let (overdue, _other_s_client) = told(&mut commands, now);
    assert_eq!(commands.overdue_deadline(), Some(now + limit));
    assert_eq!(commands.stop(now, asked.id, false, "root"), Some(asked.pid));
    assert_eq!(news(&mut commands, now), [(asked.id, false)]);
    commands.end_overdue(now + limit);
    assert_eq!(news(&mut commands, now), [(0, false)], "the other alone");
    assert_eq!(commands.stop(now + limit, overdue.id, false, "root"), Some(overdue.pid));
    assert_eq!(news(&mut commands, now), [], "it is ending already");
    assert_eq!(commands.overdue_deadline(), Some(now + SECOND), "each has its grace from its own signal on");
    commands.end_overdue(now + SECOND);
    assert_eq!(how(&see_end(&mut commands, now, asked.pid).unwrap()), (Exit::Signal(9), Outcome::Stopped));
    assert_eq!(commands.overdue_deadline(), Some(now + limit + SECOND));
    assert_eq!(commands.stop(now, overdue.id, true, "root"), Some(overdue.pid));
    assert_eq!(news(&mut commands, now), [(overdue.id, true)]);
    assert_eq!(how(&see_end(&mut commands, now, overdue.pid).unwrap()), (Exit::Signal(9), Outcome::TimeLimit));
}

#[test]
fn one_of_an_earlier_daemon_is_stopped_by_its_number() {
    let (poll, now) = (Poll::new().unwrap(), Instant::now());
    for (is_forced, signal) in [(false, 15), (true, 9)] {
        let mut commands = commands_of(c"/bin/true", &["true"], None, &poll);
        let (mut known, mut unknown) = (stray(), stray());
        adopt(&mut commands, now, Some(7), &known, &poll);
        adopt(&mut commands, now, None, &unknown, &poll);
        assert_eq!(commands.stop(now, 0, is_forced, "root"), None, "nobody's number");
        for _ in 0..2 {
            assert_eq!(commands.stop(now, 7, is_forced, "root"), Some(known.id() as i32));
        }
        assert_eq!(news(&mut commands, now), [(7, is_forced)]);
        assert_eq!(known.wait().unwrap().signal(), Some(signal));
        commands.look_for_adopted_ends(now, &poll);
        let Some(News::Ended(ended)) = commands.next_news(now) else { panic!() };
        assert_eq!((ended.id, ended.outcome, ended.how), (7, Outcome::Stopped, None));
        assert_eq!((commands.stop(now, 7, true, "root"), commands.overdue_deadline()), (None, None));
        assert!(unknown.try_wait().unwrap().is_none(), "the other runs");
        unknown.kill().unwrap();
        unknown.wait().unwrap();
        commands.look_for_adopted_ends(now, &poll);
        let Some(News::Ended(ended)) = commands.next_news(now) else { panic!() };
        assert_eq!((ended.id, ended.outcome), (0, Outcome::Unknown));
    }
}
