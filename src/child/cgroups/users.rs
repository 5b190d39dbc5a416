//! `--uid-pool`: a user of its own for each connection that lives.
#![forbid(unsafe_code)]

use crate::child::proc;
use std::collections::HashMap;

/// Which numbers are free, and who has the others.
#[derive(Debug)]
pub struct Users {
    first: u32,
    last: u32,
    /// Those that were given back, the one that was free for longest first.
    free: std::collections::VecDeque<u32>,
    /// The lowest that was never given.
    fresh: u32,
    of: HashMap<u64, u32>,
}

impl Users {
    /// All of these, both ends included, are free.
    pub fn new(first: u32, last: u32) -> Users {
        Users { first, last, free: Default::default(), fresh: first, of: HashMap::new() }
    }

    /// One for this connection. `None`: all are in use.
    pub fn claim(&mut self, id: u64) -> Option<u32> {
        let fresh = (self.fresh <= self.last).then_some(self.fresh);
        let number = fresh.or_else(|| self.free.pop_front())?;
        if fresh.is_some() {
            self.fresh += 1;
        }
        self.of.insert(id, number);
        Some(number)
    }

    /// Nothing of this connection lives any more.
    pub fn release(&mut self, id: u64) {
        self.free.extend(self.of.remove(&id));
    }

    /// An earlier daemon has given a number to this connection, whose processes these are: a command cannot change it.
    pub fn recognize(&mut self, id: u64, members: &[i32]) {
        let range = self.first..=self.last;
        let Some(number) = members.iter().filter_map(|pid| proc::user(*pid)).find(|user| range.contains(user)) else {
            return;
        };
        self.free.extend(self.fresh..number);
        self.fresh = self.fresh.max(number + 1);
        self.free.retain(|free| *free != number);
        self.of.insert(id, number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_one_that_nobody_else_has() {
        let mut users = Users::new(700, 702);
        assert_eq!([1, 2, 3, 4].map(|id| users.claim(id)), [Some(700), Some(701), Some(702), None]);
        users.release(2);
        users.release(2);
        users.release(1);
        assert_eq!([5, 6, 7].map(|id| users.claim(id)), [Some(701), Some(700), None]);
    }

    #[test]
    fn what_an_earlier_daemon_has_given_is_taken() {
        let own = nix::unistd::getuid().as_raw();
        let mut users = Users::new(own, own + 2);
        users.recognize(9, &[i32::MAX, std::process::id() as i32]);
        assert_eq!([1, 2, 3].map(|id| users.claim(id)), [Some(own + 1), Some(own + 2), None]);
        users.release(9);
        assert_eq!(users.claim(4), Some(own));
        let mut users = Users::new(own + 5, own + 6);
        users.recognize(9, &[std::process::id() as i32]);
        assert_eq!(users.claim(1), Some(own + 5), "whose number is none of them");
    }
}
