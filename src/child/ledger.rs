//! Which commands run, written where it outlives this daemon: in shared memory that the manager's store holds, too.
//!
//! A start and an end are a few writes to memory, and no system call. What the next daemon finds is as exact after a SIGKILL at any
//! instant as after an orderly end: an entry is complete before its command exists, and it is the kernel that
//! writes the pid to it, which makes it count, before the command runs (CLONE_PARENT_SETTID).
//!
//! The layout, in words of 32 bits and the machine's byte order; numbers of 64 bits are two of them, the low one first:
//!
//! | words | what |
//! |---|---|
//! | 0, 1 | `MAGIC`, with the version |
//! | 2 | places that were ever used |
//! | 3 | commands that run without an entry |
//! | 16 to 4095 | numbers of the daemon's, each with a key before it |
//! | 4096 on | places, of 16 words: pid (0: free), kind of source, id, listener's key, start's bounds (two, in nanoseconds), source (five), the peer's port |
#![forbid(unsafe_code)]

use crate::policy::source::Source;
use crate::sys::shared::Shared;
use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering, compiler_fence};
use std::time::Duration;

/// More connections than any daemon serves: a million a second for 285 years. A number beyond it was made up.
pub(super) const LAST_ID: u64 = 1 << 53;
const MAGIC: u64 = u64::from_be_bytes(*b"sockcap2");
const USED: usize = 2;
const MISSING: usize = 3;
const NUMBERS: usize = 16;
const NUMBER: usize = 4;
const HEADER: usize = 4096;
/// Numbers of the daemon's that there is room for.
pub const MAX_NUMBERS: usize = (HEADER - NUMBERS) / NUMBER;
const PLACE: usize = 16;
/// Places to begin with where there is no limit, and at most; each time they are used up there are twice as many.
const FIRST: usize = 1 << 10;
/// A million commands: 64 MiB. Those beyond it have no entry.
const MAX_PLACES: usize = 1 << 20;
/// The largest pid that Linux has (PID_MAX_LIMIT of proc_sys_kernel(5)).
const LAST_PID: i32 = 1 << 22;

/// A short number for a name, by which another version finds it again: 64 bits of FNV-1a.
pub fn key(of: &str, name: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    of.bytes().chain([0]).chain(name.bytes()).fold(0xcbf2_9ce4_8422_2325, step)
}

/// The key of a listener, by its label.
pub fn listener_key(label: &str) -> u64 {
    key("listener", label)
}

/// Where a command's entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u32);

/// What is known of a command beside its pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Number of its connection, if known.
    pub id: Option<u64>,
    /// Key of its listener, if known.
    pub listener: Option<u64>,
    /// Whom the connection is counted for.
    pub source: Source,
    /// The peer's port, or its process; 0 is not known.
    pub peer_port: u32,
    /// It was not started before this; on the clock of [`super::proc::uptime`].
    pub not_before: Duration,
    /// Nor after this; `None` if the daemon did not live to see it.
    pub not_after: Option<Duration>,
}

/// An entry of an earlier daemon's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its command.
    pub pid: i32,
    /// Where it is.
    pub place: Place,
    /// What it says.
    pub entry: Entry,
}

/// What an earlier daemon has written.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SavedState {
    /// The commands that it has not seen the end of.
    pub commands: Vec<Recorded>,
    /// Whether these are all.
    pub is_complete: bool,
    numbers: Vec<(u64, u64)>,
}

impl SavedState {
    /// The number with this key.
    pub fn number(&self, key: u64) -> Option<u64> {
        self.numbers.iter().find(|(of, _)| *of == key).map(|(_, number)| *number)
    }
}

/// The commands that run now.
#[derive(Debug)]
pub struct Ledger {
    /// Or why there is none.
    memory: io::Result<Shared>,
    /// Places that were used and are free.
    free: Vec<u32>,
    used: usize,
    missing: u32,
}

impl Ledger {
    /// An empty one for so many commands; 0 is no limit. Nothing is written where there is no memory for it.
    pub fn new(commands: usize) -> Ledger {
        let places = if commands == 0 { FIRST } else { commands.min(MAX_PLACES) };
        let memory = Shared::new(c"sockcap-state", HEADER + places * PLACE);
        let ledger = Ledger { memory, ..Ledger::none() };
        ledger.put_long(0, MAGIC);
        ledger
    }

    /// One in which nothing is written.
    pub fn none() -> Ledger {
        Ledger { memory: Err(io::ErrorKind::Unsupported.into()), free: Vec::new(), used: 0, missing: 0 }
    }

    /// That of an earlier daemon, to be gone on with, and what it says. `None` if it is no ledger of this version, or if any
    /// part of it cannot be true.
    pub fn reopen(fd: OwnedFd) -> Option<(Ledger, SavedState)> {
        let memory = Shared::open(fd, HEADER + MAX_PLACES * PLACE).ok()?;
        let words = memory.words();
        let used = get(words, USED) as usize;
        if get_long(words, 0) != MAGIC || words.len() < HEADER || used > (words.len() - HEADER) / PLACE {
            return None;
        }
        let (mut past, mut free, mut pids) = (SavedState::default(), Vec::new(), HashSet::new());
        // The first places are the first to be taken again.
        for place in (0..used).rev() {
            let at = HEADER + place * PLACE;
            let pid = get(words, at) as i32;
            if pid == 0 {
                free.push(place as u32);
                continue;
            }
            let entry = entry(&words[at..at + PLACE])?;
            if !(1..=LAST_PID).contains(&pid) || !pids.insert(pid) {
                return None;
            }
            past.commands.push(Recorded { pid, place: Place(place as u32), entry });
        }
        past.is_complete = get(words, MISSING) == 0;
        let numbers = (NUMBERS..HEADER).step_by(NUMBER).map(|at| (get_long(words, at), get_long(words, at + 2)));
        past.numbers = numbers.filter(|(key, _)| *key != 0).collect();
        let ledger = Ledger { memory: Ok(memory), free, used, missing: 0 };
        ledger.put(MISSING, 0);
        Some((ledger, past))
    }

    /// What the manager is to store.
    ///
    /// # Errors
    /// Why nothing is written.
    pub fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        self.memory
            .as_ref()
            .map(AsFd::as_fd)
            .map_err(|error| io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::ENOSYS)))
    }

    /// Gives the nth number of the daemon's its key. Other numbers than before had this place if an earlier version wrote it.
    pub fn name(&self, nth: usize, key: u64) {
        debug_assert!(nth < MAX_NUMBERS);
        let at = NUMBERS + nth * NUMBER;
        if self.words().is_some_and(|words| get_long(words, at) != key) {
            self.put_long(at + 2, 0);
            self.put_long(at, key);
        }
    }

    /// Writes the nth number.
    pub fn note(&self, nth: usize, number: u64) {
        debug_assert!(nth < MAX_NUMBERS);
        self.put_long(NUMBERS + nth * NUMBER + 2, number);
    }

    /// Writes the entry of a command that is about to be started. It counts once its pid is in [`Ledger::pid`]. `None`: there is
    /// no place for it, which the next daemon is told.
    pub fn begin(&mut self, entry: &Entry) -> Option<Place> {
        let place = self.free.pop().or_else(|| self.another());
        let Some(place) = place else {
            self.missing += 1;
            self.put(MISSING, self.missing);
            return None;
        };
        let at = HEADER + place as usize * PLACE;
        let (kind, value) = source_words(entry.source);
        self.put(at + 1, kind);
        self.put_long(at + 2, entry.id.unwrap_or(0));
        self.put_long(at + 4, entry.listener.unwrap_or(0));
        self.put_long(at + 6, nanoseconds(entry.not_before));
        self.put_long(at + 8, entry.not_after.map_or(0, nanoseconds));
        for (nth, word) in value.into_iter().enumerate() {
            self.put(at + 10 + nth, word);
        }
        self.put(at + 15, entry.peer_port);
        compiler_fence(Ordering::SeqCst); // whoever kills us sees the rest first
        Some(Place(place))
    }

    /// Where the pid of a place is written; not zero once the command exists.
    pub fn pid(&self, place: Place) -> Option<&AtomicU32> {
        self.words()?.get(HEADER + place.0 as usize * PLACE)
    }

    /// The command of this place exists, and was not started after this.
    pub fn started(&self, place: Place, not_after: Duration) {
        self.put_long(HEADER + place.0 as usize * PLACE + 8, nanoseconds(not_after));
    }

    /// Writes the entry of a command that runs already.
    pub fn keep(&mut self, pid: i32, entry: &Entry) -> Option<Place> {
        let place = self.begin(entry)?;
        self.put(HEADER + place.0 as usize * PLACE, pid as u32);
        Some(place)
    }

    /// A command has ended, or was not started. `None` is one that had no place.
    pub fn end(&mut self, place: Option<Place>) {
        match place {
            Some(Place(place)) => {
                self.put(HEADER + place as usize * PLACE, 0);
                self.free.push(place);
            }
            None => {
                self.missing = self.missing.saturating_sub(1);
                self.put(MISSING, self.missing);
            }
        }
    }

    /// A place that was never used, if there is memory for it.
    fn another(&mut self) -> Option<u32> {
        let memory = self.memory.as_mut().ok()?;
        let places = (memory.words().len() - HEADER) / PLACE;
        if self.used >= places {
            memory.grow(HEADER + (places * 2).clamp(FIRST, MAX_PLACES) * PLACE).ok()?;
        }
        let place = self.used;
        if place >= (memory.words().len() - HEADER) / PLACE {
            return None;
        }
        self.used += 1;
        self.put(USED, self.used as u32);
        Some(place as u32)
    }

    fn words(&self) -> Option<&[AtomicU32]> {
        self.memory.as_ref().ok().map(Shared::words)
    }

    fn put(&self, at: usize, word: u32) {
        if let Some(place) = self.words().and_then(|words| words.get(at)) {
            compiler_fence(Ordering::SeqCst);
            place.store(word, Ordering::Relaxed);
            compiler_fence(Ordering::SeqCst);
        }
    }

    fn put_long(&self, at: usize, number: u64) {
        self.put(at, number as u32);
        self.put(at + 1, (number >> 32) as u32);
    }
}

fn get(words: &[AtomicU32], at: usize) -> u32 {
    words.get(at).map_or(0, |word| word.load(Ordering::Relaxed))
}

fn get_long(words: &[AtomicU32], at: usize) -> u64 {
    u64::from(get(words, at)) | u64::from(get(words, at + 1)) << 32
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// `None` if it cannot be true.
fn entry(words: &[AtomicU32]) -> Option<Entry> {
    let known = |number| if number == 0 { None } else { Some(number) };
    let (id, not_before) = (get_long(words, 2), get_long(words, 6));
    let value = [10, 11, 12, 13].map(|at| get(words, at));
    let bits = value.into_iter().fold(0u128, |bits, word| bits << 32 | u128::from(word));
    let source = match get(words, 1) {
        0 => Source::Unknown,
        1 => Source::ip(Ipv4Addr::from_bits(value[3]).into()),
        2 => Source::ip(Ipv6Addr::from_bits(bits).into()),
        3 => Source::Uid(value[3]),
        4 => Source::Cid(value[3]),
        5 => Source::Link(Ipv6Addr::from_bits(bits), get(words, 14)),
        _ => return None,
    };
    (id <= LAST_ID).then_some(Entry {
        id: known(id),
        listener: known(get_long(words, 4)),
        source,
        peer_port: get(words, 15),
        not_before: Duration::from_nanos(not_before),
        // Before the start is the half of a number that a SIGKILL has left.
        not_after: known(get_long(words, 8)).filter(|at| *at >= not_before).map(Duration::from_nanos),
    })
}

fn source_words(source: Source) -> (u32, [u32; 5]) {
    match source {
        Source::Unknown => (0, [0; 5]),
        Source::Ip(std::net::IpAddr::V4(ip)) => (1, [0, 0, 0, ip.to_bits(), 0]),
        Source::Ip(std::net::IpAddr::V6(ip)) => (2, ip_words(ip, 0)),
        Source::Link(ip, interface) => (5, ip_words(ip, interface)),
        Source::Uid(uid) => (3, [0, 0, 0, uid, 0]),
        Source::Cid(cid) => (4, [0, 0, 0, cid, 0]),
    }
}

fn ip_words(ip: Ipv6Addr, interface: u32) -> [u32; 5] {
    let [a, b, c, d] = [96, 64, 32, 0].map(|shift| (ip.to_bits() >> shift) as u32);
    [a, b, c, d, interface]
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
