//! How many lines of one connection the journal gets.
//!
//! journald has one limit for all that comes of a service (`RateLimitBurst=`, journald.conf(5)): a command in a loop of errors would use it
//! up, and neither the lines of its neighbours nor our own entries would be taken. So nobody gets more than a part of it.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// `RateLimitIntervalSec=` as it is by default.
const INTERVAL: Duration = Duration::from_secs(30);
/// Lines in that time: a quarter of the least that journald takes of a service by default.
const MOST: u32 = 2500;

/// What one connection has had.
#[derive(Debug, Default)]
pub(super) struct Quota {
    since: Option<Instant>,
    told: u32,
    suppressed: u64,
}

impl Quota {
    /// How many lines were suppressed, if that is to be told now: an interval is over.
    pub(super) fn due(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_some_and(|since| now < since + INTERVAL) {
            return None;
        }
        (self.since, self.told) = (Some(now), 0);
        self.end()
    }

    /// The same, of a connection that is over.
    pub(super) fn end(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.suppressed)).filter(|suppressed| *suppressed > 0)
    }

    /// Whether there is room for one more line.
    pub(super) fn admits(&mut self) -> bool {
        let admits = self.told < MOST;
        self.told += u32::from(admits);
        self.suppressed += u64::from(!admits);
        admits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_told_when_the_interval_is_over() {
        let (mut quota, start) = (Quota::default(), Instant::now());
        assert_eq!(quota.due(start), None);
        assert!((0..MOST).all(|_| quota.admits()));
        assert!((0..7).all(|_| !quota.admits()));
        assert_eq!(quota.due(start + INTERVAL - Duration::from_nanos(1)), None);
        assert!(!quota.admits());
        assert_eq!(quota.due(start + INTERVAL), Some(8));
        assert!((0..MOST).all(|_| quota.admits()) && !quota.admits());
        assert_eq!((quota.end(), quota.end()), (Some(1), None));
    }
}
