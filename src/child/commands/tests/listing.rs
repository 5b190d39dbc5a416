//! The pages of a list of commands.
#![forbid(unsafe_code)]

use super::*;
use crate::child::survivors::Survivor;
use crate::child::watched::Watched;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// A process that ends with its stdin, as one that an earlier daemon has left running.
pub(super) fn stray() -> Child {
    Command::new("cat").stdin(Stdio::piped()).process_group(0).spawn().unwrap()
}

pub(super) fn adopt(commands: &mut Commands, now: Instant, id: Option<u64>, process: &Child, poll: &Poll) {
    let source = Source::ip("192.0.2.99".parse().unwrap());
    let process = Watched::new(process.id() as i32).unwrap();
    let found = Survivor { source, peer_port: 7, age: SECOND, ..Survivor::from(process) };
    commands.adopt(now, (found, slot(source)), id, None, None, poll);
}

#[test]
fn each_is_listed_once_by_number_and_all_that_is_known_of_it() {
    let (poll, now) = (Poll::new().unwrap(), Instant::now());
    let mut commands = commands_of(c"/bin/true", &["true"], None, &poll);
    assert_eq!(commands.listing((0, 0), 9), []);
    let mut strays = [stray(), stray(), stray()];
    adopt(&mut commands, now, Some(5), &strays[0], &poll);
    let peer = Peer::new(Address::Ip("192.0.2.1:873".parse().unwrap()), None);
    let (started, connection) = start_for(&mut commands, now, &peer, UnixStream::pair().unwrap().0);
    assert_eq!(started.id, 6);
    strays[1..].iter().for_each(|stray| adopt(&mut commands, now, None, stray, &poll));

    let all = commands.listing((0, 0), 9);
    let mut unknown = [1, 2].map(|nth| strays[nth].id() as i32);
    unknown.sort();
    let expected = [(None, unknown[0]), (None, unknown[1]), (Some(5), strays[0].id() as i32), (Some(6), started.pid)];
    assert_eq!(all.iter().map(|one| (one.id, one.pid)).collect::<Vec<_>>(), expected);
    let told = |at: usize| {
        let crate::child::commands::listing::Listed { listener, source, peer_port, is_exempt, since, waited, .. } =
            all[at];
        (listener, source.to_string(), peer_port, is_exempt, since, waited)
    };
    assert_eq!(told(2), (Some(0), "192.0.2.99".into(), 7, true, now - SECOND, None));
    assert_eq!(told(3), (Some(0), "192.0.2.1".into(), 873, false, now, Some(Duration::from_millis(1))));

    // In pages of any size each comes once, and a page after the last is empty.
    for count in 1..=all.len() + 1 {
        let (mut after, mut paged) = ((0, 0), Vec::new());
        loop {
            let page = commands.listing(after, count);
            assert_eq!(page.len(), count.min(all.len() - paged.len()));
            let Some(last) = page.last() else { break };
            after = last.cursor();
            paged.extend(page);
        }
        assert_eq!(paged, all, "pages of {count}");
    }
    assert_eq!(commands.listing((0, 0), 0), []);
    assert_eq!(commands.listing((5, i32::MAX), 9), all[3..], "one that has ended meanwhile was the last");

    strays.iter_mut().for_each(|stray| {
        stray.kill().unwrap();
        stray.wait().unwrap();
    });
    commands.leave(&started, connection);
    assert!(see_end(&mut commands, now, started.pid).is_some());
    commands.look_for_adopted_ends(now, &poll);
    assert_eq!(commands.listing((0, 0), 9), []);
}
