//! The poll set: what is watched, by whom it is meant, and the one place where the loop waits.
//!
//! [`Watch`] is the whole table of what can be watched; how epoll(7)'s 64 bits are spent is known here alone.
#![forbid(unsafe_code)]

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Events taken in one turn; the rest are taken in the next.
const EVENTS: usize = 64;
/// What epoll_wait(2) is asked for at most: its milliseconds are an int.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// The signalfd.
    Signals,
    /// The socket on which children tell that their exec failed.
    FailedExecs,
    /// A listening socket, by its position in the daemon's table.
    Listener(usize),
    /// A refused client that lingers, by its position among them.
    Lingering(u32),
    /// A client that is held, by ticket.
    Held(u64),
    /// A client whose PROXY header is awaited, by ticket.
    Preamble(u64),
    /// A resource whose pressure has reached the limit, by its number.
    Pressure(u32),
    /// A socket at which others ask about the daemon, by its position among them.
    QuerySocket(u32),
    /// Somebody who asks, by position.
    Asker(u32),
    /// Processes that are not our children: a set of their own, so that it can be asked who of them has ended.
    AllAdopted,
    /// One of them, by pid, in that set.
    Adopted(i32),
    /// The cgroups that outlive their commands.
    Cgroups,
}

impl Watch {
    /// Where the kind is in the 64 bits; below it is the number.
    const SHIFT: u32 = 56;

    fn pack(self) -> u64 {
        let (kind, number) = match self {
            Watch::Signals => (0, 0),
            Watch::FailedExecs => (1, 0),
            Watch::Listener(id) => (2, id as u64),
            Watch::Lingering(at) => (3, at.into()),
            Watch::Held(ticket) => (4, ticket),
            Watch::Adopted(pid) => (5, pid as u64),
            Watch::AllAdopted => (6, 0),
            Watch::Preamble(ticket) => (7, ticket),
            Watch::Pressure(number) => (8, number.into()),
            Watch::QuerySocket(at) => (9, at.into()),
            Watch::Asker(at) => (10, at.into()),
            Watch::Cgroups => (11, 0),
        };
        debug_assert!(number >> Self::SHIFT == 0, "{self:?}");
        kind << Self::SHIFT | number
    }

    fn unpack(bits: u64) -> Watch {
        let number = bits & ((1 << Self::SHIFT) - 1);
        match bits >> Self::SHIFT {
            0 => Watch::Signals,
            1 => Watch::FailedExecs,
            2 => Watch::Listener(number as usize),
            3 => Watch::Lingering(number as u32),
            4 => Watch::Held(number),
            5 => Watch::Adopted(number as i32),
            6 => Watch::AllAdopted,
            7 => Watch::Preamble(number),
            8 => Watch::Pressure(number as u32),
            9 => Watch::QuerySocket(number as u32),
            10 => Watch::Asker(number as u32),
            _ => Watch::Cgroups,
        }
    }
}

/// The epoll instance.
#[derive(Debug)]
pub struct Poll(Epoll);

impl Poll {
    /// An empty set.
    ///
    /// # Errors
    /// epoll_create1(2)'s.
    pub fn new() -> io::Result<Poll> {
        Ok(Poll(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// Watches `fd`. Remove it with [`Poll::delete`] if another process may have it, too: closing it does not.
    ///
    /// # Errors
    /// epoll_ctl(2)'s; `ENOMEM` and `ENOSPC` pass.
    pub fn add(&self, fd: impl AsFd, watch: Watch, flags: EpollFlags) -> io::Result<()> {
        Ok(self.0.add(fd, EpollEvent::new(flags, watch.pack()))?)
    }

    /// Watches `fd`, which is watched already, for something else.
    ///
    /// # Errors
    /// epoll_ctl(2)'s.
    pub fn modify(&self, fd: impl AsFd, watch: Watch, flags: EpollFlags) -> io::Result<()> {
        Ok(self.0.modify(fd, &mut EpollEvent::new(flags, watch.pack()))?)
    }

    /// Watches `fd` no longer.
    ///
    /// # Errors
    /// epoll_ctl(2)'s.
    pub fn delete(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(self.0.delete(fd)?)
    }

    /// Waits until something is ready, a signal has interrupted it, or it is `until`; `now` is the time of the call.
    ///
    /// # Errors
    /// epoll_wait(2)'s but `EINTR`.
    pub fn wait(&self, ready: &mut Ready, until: Option<Instant>, now: Instant) -> io::Result<()> {
        ready.count = match self.0.wait(&mut ready.events, timeout(until, now)) {
            Ok(count) => count,
            Err(nix::Error::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        Ok(())
    }
}

/// A set within the set, which can be asked by itself what is ready in it.
#[derive(Debug)]
pub struct Subset(Poll);

impl Subset {
    /// An empty one; the other set says `watch` as long as something in it is ready. Remove it there with [`Poll::delete`].
    ///
    /// # Errors
    /// epoll_create1(2)'s and epoll_ctl(2)'s.
    pub fn new(within: &Poll, watch: Watch) -> io::Result<Subset> {
        let own = Poll::new()?;
        within.add(&own.0.0, watch, EpollFlags::EPOLLIN)?;
        Ok(Subset(own))
    }

    /// What is in it.
    pub fn set(&self) -> &Poll {
        &self.0
    }

    /// Some of what is ready now, and none only if nothing is, or epoll_wait(2) has failed: then the other set says so again.
    pub fn ready(&self, now: Instant) -> Ready {
        let mut ready = Ready::new();
        let waited = self.0.wait(&mut ready, Some(now), now);
        if waited.is_ok() { ready } else { Ready::new() }
    }
}

impl AsFd for Subset {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.0.as_fd()
    }
}

fn timeout(until: Option<Instant>, now: Instant) -> EpollTimeout {
    let Some(until) = until else { return EpollTimeout::NONE };
    let left = until.saturating_duration_since(now).min(MAX_WAIT);
    // Rounded up: a wait that ends a little early would turn the loop for nothing.
    let ms = left.as_secs() * 1000 + u64::from(left.subsec_nanos().div_ceil(1_000_000));
    EpollTimeout::try_from(ms).unwrap_or(EpollTimeout::NONE)
}

/// What is ready. It lives beside the loop, so that it can be looked at while the rooms change.
#[derive(Debug)]
pub struct Ready {
    events: [EpollEvent; EVENTS],
    count: usize,
}

impl Ready {
    /// Nothing yet.
    pub fn new() -> Ready {
        Ready { events: [EpollEvent::empty(); EVENTS], count: 0 }
    }

    /// Whether nothing is: time has passed, no more.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All that is ready.
    pub fn iter(&self) -> impl Iterator<Item = Watch> + use<'_> {
        self.events[..self.count].iter().map(|event| Watch::unpack(event.data()))
    }

    /// The listeners at which somebody waits.
    pub fn listeners(&self) -> impl Iterator<Item = usize> + use<'_> {
        self.iter().filter_map(|watch| match watch {
            Watch::Listener(id) => Some(id),
            _ => None,
        })
    }
}

impl Default for Ready {
    fn default() -> Self {
        Ready::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_is_watched_comes_back_as_it_was() {
        let max = (1 << Watch::SHIFT) - 1;
        for watch in [
            Watch::Signals,
            Watch::FailedExecs,
            Watch::Cgroups,
            Watch::Listener(0),
            Watch::Listener(u32::MAX as usize),
            Watch::Lingering(0),
            Watch::Lingering(u32::MAX),
            Watch::Held(0),
            Watch::Held(max),
            Watch::Preamble(0),
            Watch::Preamble(max),
            Watch::Adopted(1),
            Watch::Adopted(i32::MAX),
            Watch::AllAdopted,
            Watch::Pressure(2),
            Watch::QuerySocket(0),
            Watch::QuerySocket(u32::MAX),
            Watch::Asker(0),
            Watch::Asker(u32::MAX),
        ] {
            assert_eq!(Watch::unpack(watch.pack()), watch);
        }
    }

    #[test]
    fn ready_is_what_has_something_to_read() {
        let (poll, mut ready, now) = (Poll::new().unwrap(), Ready::new(), Instant::now());
        let (ours, theirs) = UnixStream::pair().unwrap();
        poll.add(&ours, Watch::Listener(7), EpollFlags::EPOLLIN).unwrap();
        poll.wait(&mut ready, Some(now), now).unwrap();
        assert!(ready.is_empty());
        drop(theirs);
        poll.wait(&mut ready, None, now).unwrap();
        assert_eq!(ready.iter().collect::<Vec<_>>(), [Watch::Listener(7)]);
        assert_eq!(ready.listeners().collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn a_wait_is_rounded_up_and_bounded() {
        let now = Instant::now();
        let ms = |left: Duration| i32::from(timeout(Some(now + left), now));
        assert_eq!(ms(Duration::ZERO), 0);
        assert_eq!(ms(Duration::from_nanos(1)), 1);
        assert_eq!(ms(Duration::from_millis(1)), 1);
        assert_eq!(ms(Duration::from_nanos(1_000_001)), 2);
        assert_eq!(ms(MAX_WAIT * 9), 3_600_000);
        assert_eq!(i32::from(timeout(Some(now), now + Duration::from_secs(1))), 0, "past");
        assert_eq!(i32::from(timeout(None, now)), -1);
    }
}
