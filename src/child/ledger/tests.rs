//! What one daemon writes and the next one reads.
#![forbid(unsafe_code)]

use super::*;

fn entry_of(id: u64, source: Source) -> Entry {
    let listener = (id > 0).then(|| listener_key("web"));
    let (not_before, not_after) = (Duration::from_nanos(id), (id > 1).then(|| Duration::from_secs(id)));
    let peer_port = if id > 0 { u32::MAX - id as u32 } else { 0 };
    Entry { id: (id > 0).then_some(id), listener, source, peer_port, not_before, not_after }
}

fn fd(ledger: &Ledger) -> OwnedFd {
    ledger.fd().unwrap().try_clone_to_owned().unwrap()
}

fn commands(ledger: &Ledger) -> Vec<(i32, Entry)> {
    let mut all: Vec<_> =
        Ledger::reopen(fd(ledger)).unwrap().1.commands.iter().map(|one| (one.pid, one.entry)).collect();
    all.sort_by_key(|(pid, _)| *pid);
    all
}

#[test]
fn the_next_daemon_reads_what_this_one_wrote_and_goes_on_with_it() {
    let mut ledger = Ledger::new(3);
    let ip = |text: &str| Source::ip(text.parse().unwrap());
    let link = Source::Link("fe80::7".parse().unwrap(), 3);
    let sources = [ip("192.0.2.1"), ip("2001:db8::7"), link, Source::Uid(7), Source::Cid(u32::MAX), Source::Unknown];
    let all: Vec<(i32, Entry)> = (10..).zip((0..).zip(sources).map(|(id, of)| entry_of(id, of))).collect();
    let mut places = Vec::new();
    for (pid, entry) in &all {
        places.push(ledger.keep(*pid, entry)); // more than three: it grows
    }
    ledger.name(0, key("number", "next"));
    ledger.note(0, u64::MAX - 5);
    assert_eq!(commands(&ledger), all);
    let (mut next, past) = Ledger::reopen(fd(&ledger)).unwrap();
    assert!(past.is_complete);
    assert_eq!((past.number(key("number", "next")), past.number(1)), (Some(u64::MAX - 5), None));
    next.end(places[1]);
    assert_eq!(commands(&next), [all[0], all[2], all[3], all[4], all[5]]);
    assert_eq!(next.keep(99, &all[1].1), places[1], "a free place is used again");
    assert_eq!(next.keep(98, &all[1].1), Some(Place(6)));
}

/// What a SIGKILL leaves before, amid and after the start of a command.
#[test]
fn an_entry_counts_from_the_instant_when_its_pid_is_there() {
    let mut ledger = Ledger::new(1);
    let mut entry = Entry { not_before: Duration::from_secs(8), ..entry_of(1, Source::Uid(0)) };
    assert_eq!(commands(&ledger), []);
    let place = ledger.begin(&entry);
    assert_eq!(commands(&ledger), []);
    ledger.pid(place.unwrap()).unwrap().store(77, Ordering::Relaxed);
    assert_eq!(commands(&ledger), [(77, entry)]);
    ledger.put(HEADER + 8, nanoseconds(Duration::from_secs(9)) as u32);
    assert_eq!(commands(&ledger), [(77, entry)], "half a number");
    entry.not_after = Some(Duration::from_secs(9));
    ledger.started(place.unwrap(), Duration::from_secs(9));
    assert_eq!(commands(&ledger), [(77, entry)]);
    entry.not_after = Some(entry.not_before);
    ledger.started(place.unwrap(), entry.not_before);
    assert_eq!(commands(&ledger), [(77, entry)], "in the same instant");
    ledger.end(place);
    assert_eq!(commands(&ledger), []);
}

#[test]
fn who_has_no_entry_is_known_to_be_missing() {
    let mut ledger = Ledger::new(1);
    ledger.memory = Err(io::Error::from_raw_os_error(libc::ENOMEM));
    assert_eq!(ledger.begin(&entry_of(1, Source::Unknown)), None);
    assert_eq!((ledger.missing, ledger.fd().is_err()), (1, true));
    ledger.end(None);
    assert_eq!(ledger.missing, 0);
    let ledger = Ledger::new(1);
    ledger.put(MISSING, 1);
    assert!(!Ledger::reopen(fd(&ledger)).unwrap().1.is_complete);
}

#[test]
fn what_cannot_be_true_is_not_believed() {
    let forged = |at: usize, word: u32| {
        let mut ledger = Ledger::new(2);
        ledger.keep(77, &entry_of(5, Source::Uid(1)));
        ledger.keep(78, &entry_of(6, Source::Uid(1)));
        ledger.put(at, word);
        Ledger::reopen(fd(&ledger)).is_none()
    };
    assert!(!forged(100, 5), "a number more");
    let first = HEADER;
    // Another version; more places than there are; pids that are negative, too large, or there twice; an unknown kind; an id
    // that was made up.
    for (at, word) in [
        (0, 0),
        (USED, 3),
        (USED, u32::MAX),
        (first, u32::MAX),
        (first, 1 << 31),
        (first, LAST_PID as u32 + 1),
        (first, 78),
        (first + 1, 6),
        (first + 3, 1 << 22),
    ] {
        assert!(forged(at, word), "word {at}: {word}");
    }
    let ledger = Ledger::new(1);
    ledger.put_long(0, u64::from_be_bytes(*b"sockcap1"));
    assert!(Ledger::reopen(fd(&ledger)).is_none(), "another version, which has its places elsewhere");
    let short = Shared::new(c"test", 100).unwrap();
    assert!(Ledger::reopen(short.as_fd().try_clone_to_owned().unwrap()).is_none());
}
