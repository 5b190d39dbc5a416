//! Clients that are refused: what each is told, and their orderly close.
#![forbid(unsafe_code)]

use super::linger::{self, Lingering};
use crate::policy::reason::Refusal;
use crate::poll::Poll;
use crate::reply::Replies;
use crate::sys::client_fd::ClientFd;
use std::time::Instant;

/// The replies, and the clients that have not closed yet.
pub struct Refusals {
    replies: Replies,
    lingering: Lingering,
}

impl Refusals {
    /// Nobody has been refused.
    pub fn new(replies: Replies) -> Refusals {
        Refusals { replies, lingering: Lingering::new() }
    }

    /// Tells a client that it is refused, and lets its connection linger.
    pub fn busy(&mut self, now: Instant, connection: ClientFd, refusal: &Refusal, poll: &Poll) {
        let figures = refusal.grounds.figures;
        let reply = self.replies.busy(figures.active(), figures.max(), refusal.retry);
        self.lingering.refuse(now, connection, reply, poll);
    }

    /// Tells a client that its command could not be started, and lets its connection linger.
    pub fn unavailable(&mut self, now: Instant, connection: ClientFd, poll: &Poll) {
        let reply = self.replies.unavailable();
        self.lingering.refuse(now, connection, reply, poll);
    }

    /// Something has happened to the one that is watched as [`crate::poll::Watch::Lingering`] of this number.
    pub fn ready(&mut self, now: Instant, number: u32, poll: &Poll) {
        self.lingering.ready(now, number, poll);
    }

    /// When the next one's time may be over.
    pub fn deadline(&self) -> Option<Instant> {
        self.lingering.deadline()
    }

    /// Lets go of those whose time is over.
    pub fn on_time(&mut self, now: Instant, poll: &Poll) {
        self.lingering.expire(now, poll);
    }

    /// Whether nobody lingers.
    pub fn is_empty(&self) -> bool {
        self.lingering.is_empty()
    }

    /// How many were closed early, since more than so many lingered; none if that is told already.
    pub fn cut_short(&self) -> Option<(u64, usize)> {
        let count = self.lingering.cut_short;
        (count > 0).then_some((count, linger::MAX_LINGERING))
    }

    /// What [`Refusals::cut_short`] says has been told.
    pub fn told_cut_short(&mut self) {
        self.lingering.cut_short = 0;
    }
}
