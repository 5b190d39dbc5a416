//! Every listening socket, and whether it is watched: as far as the gate, the pauses and the stop let it.
#![forbid(unsafe_code)]

use super::Listener;
use super::accept::{Accepted, Connection, accept};
use crate::policy::arrival::ListenerId;
use crate::policy::back_off::{BackOff, Over, Trouble};
use crate::poll::{Poll, Watch};
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{Shutdown, shutdown};
use std::collections::VecDeque;
use std::io;
use std::ops::Index;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Clients in a row that had gone when they were accepted. More are not believed: an error that stays would turn the loop without end.
const MAX_GONE: u32 = 256;

/// All of them, by [`ListenerId`].
#[derive(Debug)]
pub struct Listeners {
    all: Vec<Entry>,
    /// No more once the daemon is on its way out.
    is_closed: bool,
    is_crowded: bool,
    pauses: BackOff,
    trouble: Trouble,
    errors: [u64; 4],
    news: VecDeque<News>,
}

#[derive(Debug)]
struct Entry {
    listener: Listener,
    is_watched: bool,
    is_broken: bool,
    is_full: bool,
    /// Pauses of this one alone, where accepting is forbidden or finds nothing but clients that have gone.
    forbidden: BackOff,
    trouble: Trouble,
    gone_in_a_row: u32,
}

impl Entry {
    fn new(listener: Listener) -> Entry {
        let (forbidden, trouble) = (BackOff::default(), Trouble::default());
        Entry { listener, is_watched: false, is_broken: false, is_full: false, forbidden, trouble, gone_in_a_row: 0 }
    }
}

/// What came of looking at a listener.
#[derive(Debug)]
pub enum Taken {
    /// A client, which may have left again.
    Client(Connection),
    /// A client that the network took away while it queued.
    Gone,
    /// Nobody, for now.
    Nobody,
}

/// Something worth logging has happened to a listener.
#[derive(Debug)]
pub enum News {
    /// Accepting has failed for something that passes: the first time. It is tried again after this pause.
    Paused {
        /// Name of the listener.
        listener: Arc<str>,
        /// accept(2)'s, or epoll_ctl(2)'s.
        error: io::Error,
        /// How long the first pause is.
        pause: Duration,
    },
    /// It goes on.
    Resumed(Over),
    /// A listener has failed for good.
    Broken {
        /// Its name.
        listener: Arc<str>,
        /// accept(2)'s, or epoll_ctl(2)'s.
        error: io::Error,
    },
}

/// Whether an error of epoll_ctl(2) passes: no memory for now, or more watches than the user may have.
fn runs_out(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::ENOSPC))
}

/// Several `ListenStream=` of one unit have one name: the second is `NAME:2`. systemd allows no colon in a name.
fn label(listeners: &mut [Listener]) {
    for at in 0..listeners.len() {
        let same = listeners[..at].iter().filter(|before| before.name == listeners[at].name).count();
        if same > 0 {
            listeners[at].label = format!("{}:{}", listeners[at].name, same + 1);
        }
    }
}

impl Listeners {
    /// These, watched from now on.
    ///
    /// # Errors
    /// epoll_ctl(2)'s.
    pub fn new(mut listeners: Vec<Listener>, poll: &Poll) -> io::Result<Listeners> {
        label(&mut listeners);
        let mut all = Listeners {
            all: listeners.into_iter().map(Entry::new).collect(),
            is_closed: false,
            is_crowded: false,
            pauses: BackOff::default(),
            trouble: Trouble::default(),
            errors: [0; 4],
            news: VecDeque::new(),
        };
        (0..all.all.len()).try_for_each(|id| all.set_interest(id, poll))?;
        Ok(all)
    }

    /// Takes the oldest client from this listener's queue, if that is watched.
    pub fn accept(&mut self, now: Instant, id: ListenerId, poll: &Poll) -> Taken {
        if !self.all[id].is_watched {
            return Taken::Nobody;
        }
        let accepted = accept(&self.all[id].listener, id);
        self.count(&accepted);
        match accepted {
            Accepted::Connection(connection) => {
                let entry = &mut self.all[id];
                entry.gone_in_a_row = 0;
                entry.forbidden.succeeded();
                let over = [entry.trouble.succeeded(now, now), self.trouble.succeeded(now, now)];
                self.news.extend(over.into_iter().flatten().map(News::Resumed));
                return Taken::Client(connection);
            }
            Accepted::PeerGone(error) if self.all[id].gone_in_a_row == MAX_GONE => {
                self.forbidden(now, id, error, poll);
            }
            Accepted::PeerGone(_) => {
                self.all[id].gone_in_a_row += 1;
                return Taken::Gone;
            }
            Accepted::Nothing => self.all[id].gone_in_a_row = 0,
            Accepted::Forbidden(error) => self.forbidden(now, id, error, poll),
            Accepted::Exhausted(error) => self.failed(now, id, error, poll),
            Accepted::Broken(error) => {
                self.give_up(id, error);
                self.keep_interest(now, id, poll);
            }
        }
        Taken::Nobody
    }

    fn count(&mut self, accepted: &Accepted) {
        let class = match accepted {
            Accepted::PeerGone(_) => 0,
            Accepted::Exhausted(_) => 1,
            Accepted::Forbidden(_) => 2,
            Accepted::Broken(_) => 3,
            Accepted::Connection(_) | Accepted::Nothing => return,
        };
        self.errors[class] += 1;
    }

    /// How often accept(2) has failed so far, by what it meant.
    pub fn accept_errors(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ["gone", "exhausted", "forbidden", "broken"].into_iter().zip(self.errors)
    }

    /// Nothing is short any more: the next pause is a short one.
    pub fn recovered(&mut self) {
        // During a pause only a listener that epoll_ctl could not remove yields a client; that says nothing about the others.
        self.pauses.succeeded();
    }

    /// The gate has room for clients of this listener, or has none.
    pub fn set_full(&mut self, now: Instant, id: ListenerId, is_full: bool, poll: &Poll) {
        self.all[id].is_full = is_full;
        self.keep_interest(now, id, poll);
    }

    /// So many commands are being started that nobody is to be taken, or no longer.
    pub fn set_crowded(&mut self, now: Instant, is_crowded: bool, poll: &Poll) {
        if is_crowded != self.is_crowded {
            self.is_crowded = is_crowded;
            self.keep_all(now, poll);
        }
    }

    /// Takes all listeners out of the poll set for a while: clients wait in the kernel's queue.
    pub fn pause(&mut self, now: Instant, poll: &Poll) -> Duration {
        let pause = self.pauses.pause(now);
        for id in 0..self.all.len() {
            match self.set_interest(id, poll) {
                Err(error) if !runs_out(&error) => self.give_up(id, error),
                _ => {} // what has run out is tried again after the pause
            }
        }
        pause
    }

    /// Takes nobody any more.
    pub fn close(&mut self, now: Instant, poll: &Poll) {
        self.is_closed = true;
        self.keep_all(now, poll);
    }

    /// Resets who is in the queues of our own sockets, and who comes: nobody will serve them. The next daemon may have their paths.
    /// systemd's sockets stay as they are, since it has the next daemon.
    pub fn shut_down(&mut self) {
        for listener in self.all.iter_mut().map(|entry| &mut entry.listener).filter(|listener| listener.opened_here) {
            listener.path = None;
            let _ = shutdown(listener.fd.as_raw_fd(), Shutdown::Both);
        }
    }

    /// Removes the files of our own sockets.
    pub fn remove_files(&mut self) {
        self.all.iter_mut().for_each(|entry| entry.listener.path = None);
    }

    /// When the next pause is over.
    pub fn deadline(&self) -> Option<Instant> {
        let each = self.all.iter().filter_map(|entry| entry.forbidden.deadline());
        each.chain(self.pauses.deadline()).min()
    }

    /// Ends the pauses whose time is over.
    pub fn on_time(&mut self, now: Instant, poll: &Poll) {
        if self.pauses.try_again(now) {
            self.keep_all(now, poll);
        }
        for id in 0..self.all.len() {
            if self.all[id].forbidden.try_again(now) {
                self.keep_interest(now, id, poll);
            }
        }
    }

    /// What is to be told, in order.
    pub fn next_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.all.iter().map(|entry| &entry.listener)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether each has failed for good.
    pub fn are_lost(&self) -> bool {
        self.all.iter().all(|entry| entry.is_broken)
    }

    /// Whether all are in the poll set. A queue grows unseen only while a listener is not.
    pub fn are_watched(&self) -> bool {
        self.all.iter().all(|entry| entry.is_watched)
    }

    /// Whether this one is in the poll set.
    pub fn is_watched(&self, id: ListenerId) -> bool {
        self.all[id].is_watched
    }

    /// Connections in the kernel's queues, as far as they are known.
    pub fn queued(&self) -> u32 {
        self.iter().filter_map(Listener::queued).sum()
    }

    /// The listener whose label it is; with one listener, that one whatever it was called.
    pub fn labelled(&self, is_it: impl Fn(&str) -> bool) -> Option<ListenerId> {
        if self.all.len() == 1 {
            return Some(0);
        }
        self.iter().position(|listener| is_it(&listener.label))
    }

    fn keep_all(&mut self, now: Instant, poll: &Poll) {
        (0..self.all.len()).for_each(|id| self.keep_interest(now, id, poll));
    }

    /// Makes the poll set agree with gate, pause and stop.
    fn keep_interest(&mut self, now: Instant, id: ListenerId, poll: &Poll) {
        match self.set_interest(id, poll) {
            Ok(()) => {}
            Err(error) if runs_out(&error) => self.failed(now, id, error, poll),
            Err(error) => self.give_up(id, error),
        }
    }

    fn set_interest(&mut self, id: ListenerId, poll: &Poll) -> io::Result<()> {
        let is_stopped = self.is_closed || self.is_crowded || self.pauses.is_pausing();
        let entry = &mut self.all[id];
        let wanted = !is_stopped && !entry.is_full && !entry.is_broken && !entry.forbidden.is_pausing();
        if wanted == entry.is_watched {
            return Ok(());
        }
        match wanted {
            true => poll.add(&entry.listener.fd, Watch::Listener(id), EpollFlags::EPOLLIN)?,
            false => poll.delete(&entry.listener.fd)?,
        }
        entry.is_watched = wanted;
        Ok(())
    }

    /// Something has run out that passes.
    fn failed(&mut self, now: Instant, id: ListenerId, error: io::Error, poll: &Poll) {
        let pause = self.pause(now, poll);
        if self.trouble.failed(now) {
            self.news.push_back(News::Paused { listener: self.all[id].listener.name.clone(), error, pause });
        }
    }

    /// Something keeps this listener from giving a client, and may stop to.
    fn forbidden(&mut self, now: Instant, id: ListenerId, error: io::Error, poll: &Poll) {
        let entry = &mut self.all[id];
        let pause = entry.forbidden.pause(now);
        if entry.trouble.failed(now) {
            self.news.push_back(News::Paused { listener: entry.listener.name.clone(), error, pause });
        }
        self.keep_interest(now, id, poll);
    }

    fn give_up(&mut self, id: ListenerId, error: io::Error) {
        self.all[id].is_broken = true;
        self.news.push_back(News::Broken { listener: self.all[id].listener.name.clone(), error });
    }
}

impl Index<ListenerId> for Listeners {
    type Output = Listener;

    fn index(&self, id: ListenerId) -> &Listener {
        &self.all[id].listener
    }
}

#[cfg(test)]
mod tests;
