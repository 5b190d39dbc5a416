//! Sockets at which others ask about the daemon, and whoever asks: `--control`, and passed listeners that are named for it.
//!
//! They have the least priority: the loop serves clients first, and does one asker's work a turn. An asker costs a descriptor, its
//! buffers and no more: a request and what is to be sent are bounded, who does not read is sent nothing more and is closed after a while, and who
//! does nothing makes room for who comes. What is asked and answered is not known here, but for where a request ends.
#![forbid(unsafe_code)]

mod asker;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod insiders;

pub use asker::{Answer, Due, Kind, MAX_OUTPUT, Stream, VARLINK, Work};
pub use insiders::Insiders;

use super::Listener;
use super::accept::{Accepted, accept};
use super::listeners::News;
use crate::policy::back_off::{BackOff, Trouble};
use crate::poll::{Poll, Ready, Watch};
use crate::sys::socket::Address;
use asker::Asker;
use nix::sys::epoll::EpollFlags;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Instant;

#[derive(Debug)]
struct Socket {
    kind: Kind,
    listener: Listener,
    is_watched: bool,
    is_broken: bool,
    pauses: BackOff,
    trouble: Trouble,
}

/// The sockets, and who asks.
#[derive(Debug, Default)]
pub struct Queries {
    sockets: Vec<Socket>,
    insiders: Insiders,
    askers: Vec<Option<Asker>>,
    /// Whose turn is next, so that none is passed over for ever.
    next: usize,
    news: VecDeque<News>,
}

impl Queries {
    /// These sockets, watched from now on. `insiders` are not to ask about what is not theirs.
    ///
    /// # Errors
    /// epoll_ctl(2)'s.
    pub fn new(listeners: Vec<(Kind, Listener)>, insiders: Insiders, poll: &Poll) -> io::Result<Queries> {
        let mut queries = Queries { insiders, ..Queries::default() };
        for (kind, listener) in listeners {
            let (pauses, trouble) = (BackOff::default(), Trouble::default());
            let nth = queries.sockets.len() as u32;
            poll.add(&listener.fd, Watch::QuerySocket(nth), EpollFlags::EPOLLIN)?;
            queries.sockets.push(Socket { kind, listener, is_watched: true, is_broken: false, pauses, trouble });
        }
        Ok(queries)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Whether there is one of this kind.
    pub fn has(&self, kind: Kind) -> bool {
        self.sockets.iter().any(|socket| socket.kind == kind)
    }

    /// Their names and addresses.
    pub fn listeners(&self) -> impl Iterator<Item = (&Arc<str>, &Address)> {
        self.sockets.iter().map(|socket| (&socket.listener.name, &socket.listener.local))
    }

    /// Removes the files of our own sockets.
    pub fn remove_files(&mut self) {
        self.sockets.iter_mut().for_each(|socket| socket.listener.path = None);
    }

    /// What is to be told, in order.
    pub fn next_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// Does one piece of what has become ready: takes an asker in, hears it, or sends it something. Whose turn it is goes around.
    pub fn one_of(&mut self, now: Instant, ready: &Ready, poll: &Poll) {
        if self.sockets.is_empty() {
            return;
        }
        let all = self.sockets.len() + self.askers.len();
        let place = |watch| match watch {
            Watch::QuerySocket(nth) => Some(nth as usize),
            Watch::Asker(at) => Some(self.sockets.len() + at as usize),
            _ => None,
        };
        let after = |at: usize| (at + all - self.next % all.max(1)) % all.max(1);
        let Some(at) = ready.iter().filter_map(place).min_by_key(|at| after(*at)) else { return };
        self.next = at + 1;
        match at.checked_sub(self.sockets.len()) {
            None => self.accept(now, at, poll),
            Some(at) => self.asker_ready(now, at, poll),
        }
    }

    fn accept(&mut self, now: Instant, nth: usize, poll: &Poll) {
        let socket = &mut self.sockets[nth];
        let failed = match accept(&socket.listener, 0) {
            Accepted::Connection(connection) => {
                socket.pauses.succeeded();
                let over = socket.trouble.succeeded(now, now);
                self.news.extend(over.map(News::Resumed));
                let asker = Asker::new(now, self.sockets[nth].kind, connection, &self.insiders);
                return self.admit(asker, poll);
            }
            Accepted::Nothing | Accepted::PeerGone(_) => return,
            Accepted::Broken(error) => {
                let listener = socket.listener.name.clone();
                self.news.push_back(News::Broken { listener, error });
                socket.is_broken = true;
                return self.keep_interest(nth, poll);
            }
            Accepted::Exhausted(error) | Accepted::Forbidden(error) => error,
        };
        let pause = socket.pauses.pause(now);
        if socket.trouble.failed(now) {
            self.news.push_back(News::Paused { listener: socket.listener.name.clone(), error: failed, pause });
        }
        self.keep_interest(nth, poll);
    }

    fn keep_interest(&mut self, nth: usize, poll: &Poll) {
        let socket = &mut self.sockets[nth];
        let wanted = !socket.is_broken && !socket.pauses.is_pausing();
        if wanted == socket.is_watched {
            return;
        }
        let changed = match wanted {
            true => poll.add(&socket.listener.fd, Watch::QuerySocket(nth as u32), EpollFlags::EPOLLIN),
            false => poll.delete(&socket.listener.fd),
        };
        socket.is_watched = if changed.is_ok() { wanted } else { socket.is_watched };
    }

    /// Gives an asker a place, for which another may have to go: a command of ours; the one that has been idle for longest; or, for root,
    /// anybody else. Nobody goes for a command.
    fn admit(&mut self, asker: Asker, poll: &Poll) {
        let kind = asker.kind;
        let of_kind = |place: &Option<Asker>| place.as_ref().is_some_and(|other| other.kind == kind);
        if self.askers.iter().filter(|place| of_kind(place)).count() >= kind.terms().clients {
            let others = || self.askers.iter().enumerate().filter_map(|(at, place)| Some((at, place.as_ref()?)));
            let others = || others().filter(|(_, other)| other.kind == kind);
            let is_idle = |other: &Asker| other.is_idle() || (kind != Kind::Control && other.output.is_empty());
            let idle = others().filter(|(_, other)| is_idle(other)).min_by_key(|(_, other)| other.since);
            let of_root = asker.is_root();
            let lesser = others().filter(|(_, other)| of_root && !other.is_root()).min_by_key(|(_, other)| other.since);
            let command = others().find(|(_, other)| other.is_command);
            match command.or(idle).or(lesser) {
                Some((at, _)) if !asker.is_command => self.drop(at, poll),
                _ => return,
            }
        }
        let at = self.askers.iter().position(Option::is_none).unwrap_or(self.askers.len());
        if poll.add(&asker.fd, Watch::Asker(at as u32), EpollFlags::EPOLLIN).is_err() {
            return; // it sees its connection closed, and asks again
        }
        if at == self.askers.len() {
            self.askers.push(None);
        }
        self.askers[at] = Some(asker);
    }

    fn drop(&mut self, at: usize, poll: &Poll) {
        if let Some(asker) = self.askers[at].take() {
            let _ = poll.delete(&asker.fd);
        }
        while self.askers.last().is_some_and(Option::is_none) {
            self.askers.pop();
        }
    }

    fn asker_ready(&mut self, now: Instant, at: usize, poll: &Poll) {
        let Some(asker) = self.askers.get_mut(at).and_then(Option::as_mut) else { return };
        let stays = if asker.output.is_empty() { asker.hear(now) } else { asker.send(now) };
        // The rest of the answer goes first. Who has closed its side is told all that it has asked for.
        self.settle(at, stays, poll);
    }

    /// The next thing to do for an asker, if it is time: a request is whole, or an answer has a next part. [`Queries::answer`] is to follow.
    pub fn next_due(&mut self, now: Instant) -> Option<Due> {
        let all = self.askers.len();
        let from = self.next.saturating_sub(self.sockets.len());
        let is_due = |at: &usize| self.askers[*at].as_ref().is_some_and(|asker| asker.is_due(now));
        let at = (0..all).map(|step| (from + step) % all).find(is_due)?;
        self.next = self.sockets.len() + at + 1;
        let asker = self.askers[at].as_mut()?;
        let work = match asker.stream.take() {
            Some(stream) => Work::Part(stream),
            None => Work::Request(asker.take_request()),
        };
        Some(Due { at, kind: asker.kind, credentials: asker.credentials, is_command: asker.is_command, work })
    }

    /// Sends an asker what it gets, as far as it takes it now.
    pub fn answer(&mut self, now: Instant, at: usize, answer: Answer, poll: &Poll) {
        let Some(asker) = self.askers.get_mut(at).and_then(Option::as_mut) else { return };
        (asker.since, asker.has_asked, asker.stream) = (now, true, answer.stream);
        asker.output.extend_from_slice(&answer.bytes);
        asker.is_closing = answer.is_last;
        if answer.is_last {
            asker.forget();
        }
        let stays = asker.send(now) && !(asker.is_deaf && asker.is_idle());
        self.settle(at, stays, poll);
    }

    fn settle(&mut self, at: usize, stays: bool, poll: &Poll) {
        if !stays {
            return self.drop(at, poll);
        }
        let Some(asker) = self.askers[at].as_mut() else { return };
        // Nothing is heard meanwhile, so that who asks and does not read costs its buffers alone; but who has left is seen.
        let wants = match () {
            () if !asker.output.is_empty() => EpollFlags::EPOLLOUT,
            () if asker.has_ended() => EpollFlags::empty(),
            () => EpollFlags::EPOLLIN,
        };
        if poll.modify(&asker.fd, Watch::Asker(at as u32), wants).is_err() {
            self.drop(at, poll);
        }
    }

    /// When [`Queries::on_time`] or [`Queries::next_due`] has something to do.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let pauses = self.sockets.iter().filter_map(|socket| socket.pauses.deadline());
        let askers = self.askers.iter().flatten();
        pauses.chain(askers.flat_map(|asker| asker.deadline().into_iter().chain(asker.next_work(now)))).min()
    }

    /// Ends pauses, and closes who has made no progress for too long.
    pub fn on_time(&mut self, now: Instant, poll: &Poll) {
        for nth in 0..self.sockets.len() {
            if self.sockets[nth].pauses.try_again(now) {
                self.keep_interest(nth, poll);
            }
        }
        for at in (0..self.askers.len()).rev() {
            let is_late = |asker: &Asker| asker.deadline().is_some_and(|at| at <= now) && !asker.is_due(now);
            if self.askers[at].as_ref().is_some_and(is_late) {
                self.drop(at, poll);
            }
        }
    }
}
