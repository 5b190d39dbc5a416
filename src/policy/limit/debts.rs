//! Who is in debt, and until when: the bounded table that limits on sources with a memory keep.
//!
//! * A source without a debt takes no entry, and nothing is allocated before the first debt.
//! * Never more than `max` entries. A full table lets go of a source that is not limited; it never forgets one that is. Who
//!   finds no room is not entered.
//! * Every call takes the same time, however many entries there are and whoever chose them: keys are hashed with a secret, and
//!   each debt looks at `SWEPT` entries, or at `LOOKED_AT` if the table is full.
#![forbid(unsafe_code)]

use crate::policy::source::Source;
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// Entries looked at with each debt, of which those that are paid are dropped. One more may come with it, so they become fewer.
const SWEPT: usize = 2;
/// Entries looked at for one that can go: the first number, and up to the second as long as none is found. If all of those are
/// limited the table counts as full.
const LOOKED_AT: RangeInclusive<usize> = 32..=1024;
/// A table of fewer entries is not worth shrinking.
const SMALL: usize = 64;

/// A source in 16 bytes, so that an entry takes 24.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key([u64; 2]);

impl Key {
    /// The source that it was made of.
    pub fn source(self) -> Source {
        let Key([high, low]) = self;
        if high >> 56 != 0xff {
            let ip = Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low));
            return Source::Ip(IpAddr::V6(ip).to_canonical());
        }
        match high >> 48 & 0xff {
            1 => {
                let upper = 0xfe80 << 48 | (high >> 32 & 0xffff);
                Source::Link(Ipv6Addr::from_bits(u128::from(upper) << 64 | u128::from(low)), high as u32)
            }
            2 => Source::Uid(low as u32),
            3 => Source::Cid(low as u32),
            _ => Source::Unknown,
        }
    }

    /// That of a source, or of a network's first address. `None` if nobody knows who it is.
    ///
    /// An IPv6 address stands for itself. The others take what no IPv6 source is: IPv4 the mapped addresses (`::ffff:0:0/96`, which
    /// [`Source::ip`] has made IPv4), the rest multicast ones (`ff00::/8`).
    pub fn of(source: Source) -> Option<Key> {
        const OTHERS: u64 = 0xff << 56;
        let halves = |bits: u128| [(bits >> 64) as u64, bits as u64];
        Some(Key(match source {
            Source::Ip(IpAddr::V4(ip)) => halves(ip.to_ipv6_mapped().to_bits()),
            Source::Ip(IpAddr::V6(ip)) if ip.is_multicast() => [OTHERS, 0],
            Source::Ip(IpAddr::V6(ip)) => halves(ip.to_bits()),
            // Bits 10 to 48 of a link-local address are 0 (RFC 4291, 2.5.6).
            Source::Link(ip, interface) => {
                let [high, low] = halves(ip.to_bits());
                [OTHERS | 1 << 48 | (high & 0xffff) << 32 | u64::from(interface), low]
            }
            Source::Uid(uid) => [OTHERS | 2 << 48, uid.into()],
            Source::Cid(cid) => [OTHERS | 3 << 48, cid.into()],
            Source::Unknown => return None,
        }))
    }
}

/// When a debt limits its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The largest debt that limits nobody.
    pub free: Duration,
    /// A debt never grows beyond this.
    pub most: Duration,
    /// Whether who has owed more than `free` is limited until all is paid; else until no more than `free` is left.
    pub until_paid: bool,
}

/// Time since the table's first debt.
type Nanos = u64;

fn nanos(span: Duration) -> Nanos {
    // One bit less: see `Entry::until`. That is 292 years.
    span.as_nanos().min(u128::from(u64::MAX >> 1)) as Nanos
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: Key,
    /// When its debt ends; in the lowest bit, whether it is limited until then.
    bits: u64,
}

impl Entry {
    fn until(self) -> Nanos {
        self.bits >> 1
    }

    fn is_held(self) -> bool {
        self.bits & 1 == 1
    }

    fn debt(self, now: Nanos) -> Nanos {
        self.until().saturating_sub(now)
    }

    fn set(&mut self, until: Nanos, is_held: bool) {
        self.bits = until.min(u64::MAX >> 1) << 1 | u64::from(is_held);
    }
}

/// The table.
#[derive(Debug)]
pub struct Debts {
    terms: Terms,
    max: usize,
    /// When there was the first debt.
    origin: Option<Instant>,
    /// In no order.
    entries: Vec<Entry>,
    /// Where in `entries` a key is.
    index: HashTable<u32>,
    hash: RandomState,
    /// The entry that is looked at next.
    hand: usize,
    /// So many in a row were limited when they were looked at, until this at the least.
    in_vain: (usize, Nanos),
}

const NOT_LOOKED: (usize, Nanos) = (0, Nanos::MAX);

impl Debts {
    /// A table of at most `max` entries (at most 2^32), empty.
    pub fn new(terms: Terms, max: u32) -> Debts {
        Debts {
            terms,
            max: max as usize,
            origin: None,
            entries: Vec::new(),
            index: HashTable::new(),
            hash: RandomState::new(),
            hand: 0,
            in_vain: NOT_LOOKED,
        }
    }

    /// Until when this source is limited, if it is.
    pub fn limited_until(&self, now: Instant, key: Key) -> Option<Instant> {
        let entry = self.entries[self.find(key)?];
        let left = self.limited_for(entry, self.since_origin(now));
        (left > 0).then(|| now + Duration::from_nanos(left))
    }

    /// A source owes `more`, from now on or from where its debt ends. `false` if it is not in the table, and all that could go
    /// are limited.
    #[must_use = "who is not in the table is not limited"]
    pub fn owe(&mut self, now: Instant, key: Key, more: Duration) -> bool {
        self.origin.get_or_insert(now);
        let now = self.since_origin(now);
        self.sweep(now);
        let (entry, is_new) = match self.find(key) {
            Some(at) => (self.entries[at], false),
            None => (Entry { key, bits: 0 }, true),
        };
        let entry = self.raised(entry, now, nanos(more));
        match (entry.debt(now), is_new) {
            (0, _) => true,
            (_, false) => {
                let at = self.find(key).expect("it was found above");
                self.entries[at] = entry;
                true
            }
            (_, true) => self.insert(now, entry),
        }
    }

    /// A source owes so much less.
    pub fn forgive(&mut self, key: Key, less: Duration) {
        if let Some(at) = self.find(key) {
            self.in_vain = NOT_LOOKED;
            let entry = &mut self.entries[at];
            entry.set(entry.until().saturating_sub(nanos(less)), entry.is_held());
        }
    }

    /// From now on under other terms: each debt becomes what this makes of it. Looks at all entries.
    pub fn set_terms(&mut self, now: Instant, terms: Terms, debt: impl Fn(Duration) -> Duration) {
        (self.terms, self.in_vain) = (terms, NOT_LOOKED);
        let now = self.since_origin(now);
        for entry in self.entries.iter_mut().filter(|entry| entry.debt(now) > 0) {
            let owed = nanos(debt(Duration::from_nanos(entry.debt(now))));
            entry.set(now.saturating_add(owed), entry.is_held());
        }
    }

    /// Forgets what these owe; whether any of them owed anything. Looks at all entries.
    pub fn forget(&mut self, now: Instant, is_meant: impl Fn(Key) -> bool) -> bool {
        let (now, mut has_owed) = (self.since_origin(now), false);
        for at in (0..self.entries.len()).rev() {
            if is_meant(self.entries[at].key) {
                has_owed |= self.entries[at].debt(now) > 0;
                self.remove(at);
                self.in_vain = NOT_LOOKED;
            }
        }
        has_owed
    }

    /// Those that are limited, in no order. Looks at all entries.
    pub fn limited(&self, now: Instant) -> impl Iterator<Item = Key> + use<'_> {
        let now = self.since_origin(now);
        self.entries.iter().filter(move |entry| self.limited_for(**entry, now) > 0).map(|entry| entry.key)
    }

    /// Entries, those among them that are paid and not dropped yet.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the next new source makes another one go, or finds no room.
    pub fn is_full(&self) -> bool {
        self.entries.len() >= self.max
    }

    fn since_origin(&self, now: Instant) -> Nanos {
        self.origin.map_or(0, |origin| nanos(now.saturating_duration_since(origin)))
    }

    fn raised(&self, mut entry: Entry, now: Nanos, more: Nanos) -> Entry {
        let was_limited = self.limited_for(entry, now) > 0;
        let until = now.max(entry.until()).saturating_add(more).min(now.saturating_add(nanos(self.terms.most)));
        // What it owes already is not made less, neither by a clock that lags nor by `most`.
        let until = until.max(entry.until());
        let is_held = self.terms.until_paid && (was_limited || until.saturating_sub(now) > nanos(self.terms.free));
        entry.set(until, is_held);
        entry
    }

    fn limited_for(&self, entry: Entry, now: Nanos) -> Nanos {
        match self.terms.until_paid {
            true if entry.is_held() => entry.debt(now),
            true => 0,
            false => entry.debt(now).saturating_sub(nanos(self.terms.free)),
        }
    }

    fn find(&self, key: Key) -> Option<usize> {
        if self.entries.is_empty() {
            return None;
        }
        self.index.find(self.hash.hash_one(key.0), |at| self.entries[*at as usize].key == key).map(|at| *at as usize)
    }

    fn insert(&mut self, now: Nanos, entry: Entry) -> bool {
        if self.is_full() {
            let Some(at) = self.dispensable(now) else { return false };
            self.remove(at);
        }
        if self.entries.len() == self.entries.capacity() {
            let capacity = (self.entries.len() * 2).max(4).min(self.max);
            self.entries.reserve_exact(capacity - self.entries.len());
        }
        self.point_at(entry.key, self.entries.len());
        self.entries.push(entry);
        true
    }

    fn point_at(&mut self, key: Key, at: usize) {
        let Debts { entries, index, hash, .. } = self;
        let rehash = |at: &u32| hash.hash_one(entries[*at as usize].key.0);
        // No place is free, and many are only marked as used since somebody has gone: hashbrown would grow.
        if index.len() == index.capacity() && index.len() <= index.num_buckets() / 4 * 3 {
            index.clear();
            for at in 0..at as u32 {
                index.insert_unique(rehash(&at), at, rehash);
            }
        }
        index.insert_unique(hash.hash_one(key.0), at as u32, rehash);
    }

    /// Removes an entry; the last one takes its place.
    fn remove(&mut self, at: usize) {
        let Debts { entries, index, hash, .. } = self;
        let last = entries.len() - 1;
        if let Ok(found) = index.find_entry(hash.hash_one(entries[at].key.0), |other| *other as usize == at) {
            found.remove();
        }
        if let Some(moved) = index.find_mut(hash.hash_one(entries[last].key.0), |other| *other as usize == last) {
            *moved = at as u32;
        }
        entries.swap_remove(at);
    }

    /// Drops what is paid among the next few, and gives memory back that has become far too much.
    fn sweep(&mut self, now: Nanos) {
        for _ in 0..SWEPT.min(self.entries.len()) {
            match self.next() {
                at if self.entries[at].debt(now) == 0 => {
                    self.remove(at);
                    self.hand = at; // another one is there now
                }
                _ => {}
            }
        }
        let len = self.entries.len();
        if self.entries.capacity() > SMALL.max(len * 4) {
            self.entries.shrink_to(len * 2);
            let Debts { entries, index, hash, .. } = self;
            index.shrink_to(len * 2, |at| hash.hash_one(entries[*at as usize].key.0));
        }
    }

    /// The hand goes on by one.
    fn next(&mut self) -> usize {
        let at = if self.hand < self.entries.len() { self.hand } else { 0 };
        self.hand = at + 1;
        at
    }

    /// Who can go: of those looked at, the one that is not limited whose debt ends first.
    fn dispensable(&mut self, now: Nanos) -> Option<usize> {
        let (in_vain, until) = self.in_vain;
        if in_vain >= self.entries.len() && now < until {
            return None; // debts have only grown since
        }
        let mut best: Option<usize> = None;
        let mut soonest = Nanos::MAX;
        for looked_at in 1..=self.entries.len().min(*LOOKED_AT.end()) {
            let at = self.next();
            let entry = self.entries[at];
            let limited_for = self.limited_for(entry, now);
            soonest = soonest.min(now.saturating_add(limited_for));
            if limited_for == 0 && best.is_none_or(|best| entry.until() < self.entries[best].until()) {
                best = Some(at);
            }
            if looked_at >= *LOOKED_AT.start() && best.is_some() {
                break;
            }
        }
        let (in_vain, until) = if in_vain >= self.entries.len() { NOT_LOOKED } else { self.in_vain };
        let looked_at = self.entries.len().min(*LOOKED_AT.end());
        self.in_vain = if best.is_none() { (in_vain + looked_at, until.min(soonest)) } else { NOT_LOOKED };
        best
    }
}

#[cfg(test)]
mod tests;
