//! A ledger in which somebody has changed some words.
#![forbid(unsafe_code)]

use super::*;
use crate::fuzzing::bytes::Choices;

/// `COMMANDS`, and then as often as there are bytes for it `WHERE WHAT`, the number of a word and its new value. `name` gives the numbers
/// of the daemon their keys.
pub(crate) fn left_behind(data: &[u8], name: impl Fn(&Ledger)) -> OwnedFd {
    let mut from = Choices(data);
    let commands = usize::from(from.byte() % 16);
    let mut ledger = Ledger::new(16);
    name(&ledger);
    (0..7).for_each(|nth| ledger.note(nth, 10 + nth as u64));
    let sources = ["192.0.2.1", "2001:db8::1", "fe80::1%3", "uid=7", "cid=3", "?"];
    for nth in 0..commands {
        let entry = Entry {
            id: (nth > 0).then_some(nth as u64),
            listener: (nth % 2 > 0).then(|| listener_key("web")),
            source: sources[nth % sources.len()].parse().unwrap(),
            peer_port: 4000,
            not_before: Duration::from_millis(7),
            not_after: (nth % 3 > 0).then_some(Duration::from_millis(8)),
        };
        ledger.keep(1000 + nth as i32, &entry);
    }
    let words = ledger.words().unwrap();
    while from.0.len() >= 6 {
        let (at, word) = (from.number::<2>() as usize % words.len(), from.number::<4>() as u32);
        words[at].store(word, Ordering::Relaxed);
    }
    ledger.fd().unwrap().try_clone_to_owned().unwrap()
}
