//! What to do when something runs out that passes: pauses that grow, and two lines in the log however often it fails.
//!
//! The two are apart because they end at different times: a pause is short again once a try has not failed, while the trouble may be
//! over only when its result is known.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// First and longest pause.
pub const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Pauses between tries: each twice as long as the last, from 100 ms to 1 s.
#[derive(Debug, Default)]
pub struct BackOff {
    /// `None` between two pauses: it is being tried.
    until: Option<Instant>,
    last: Option<Duration>,
}

impl BackOff {
    /// Begins the next pause, from now, and tells how long it is.
    pub fn pause(&mut self, now: Instant) -> Duration {
        let pause = self.last.map_or(PAUSE.0, |last| (last * 2).min(PAUSE.1));
        (self.until, self.last) = (Some(now + pause), Some(pause));
        pause
    }

    /// Whether nothing is to be tried now.
    pub fn is_pausing(&self) -> bool {
        self.until.is_some()
    }

    /// When the pause is over.
    pub fn deadline(&self) -> Option<Instant> {
        self.until
    }

    /// Ends a pause whose time is over; whether it has just ended, so that it may be tried again.
    pub fn try_again(&mut self, now: Instant) -> bool {
        self.until.take_if(|until| *until <= now).is_some()
    }

    /// A try has succeeded: the next pause is a short one. A pause that lasts is not cut short by it.
    pub fn succeeded(&mut self) {
        if self.until.is_none() {
            self.last = None;
        }
    }
}

/// A run of failures of one kind: told when it begins and when it is over.
#[derive(Debug, Default)]
pub struct Trouble {
    run: Option<Run>,
}

#[derive(Debug)]
struct Run {
    began: Instant,
    failures: u64,
}

/// A run of failures that is over.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Over {
    /// How many there were.
    pub failures: u64,
    /// How long it took from the first of them.
    pub lasted: Duration,
}

impl Trouble {
    /// Counts a failure; whether it is the first, which is to be told.
    pub fn failed(&mut self, now: Instant) -> bool {
        let is_first = self.run.is_none();
        self.run.get_or_insert(Run { began: now, failures: 0 }).failures += 1;
        is_first
    }

    /// Whether it has failed and not succeeded since.
    pub fn is_on(&self) -> bool {
        self.run.is_some()
    }

    /// What was begun at `tried` has succeeded: the run is over unless it began after that.
    pub fn succeeded(&mut self, tried: Instant, now: Instant) -> Option<Over> {
        let Run { began, failures } = self.run.take_if(|run| run.began <= tried)?;
        Some(Over { failures, lasted: now.saturating_duration_since(began) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn pauses_grow_to_the_longest_and_begin_anew_after_a_success() {
        let (mut back_off, now) = (BackOff::default(), Instant::now());
        assert_eq!((back_off.is_pausing(), back_off.deadline(), back_off.try_again(now)), (false, None, false));
        for ms in [100, 200, 400, 800, 1000, 1000] {
            assert_eq!(back_off.pause(now), ms * MS);
            assert_eq!((back_off.is_pausing(), back_off.deadline()), (true, Some(now + ms * MS)));
            assert!(!back_off.try_again(now + ms * MS - Duration::from_nanos(1)), "not yet");
            assert!(back_off.try_again(now + ms * MS));
            assert!(!back_off.is_pausing() && !back_off.try_again(now + ms * MS), "once");
        }
        back_off.succeeded();
        assert_eq!(back_off.pause(now), PAUSE.0);
    }

    #[test]
    fn a_success_within_a_pause_does_not_end_it() {
        let (mut back_off, now) = (BackOff::default(), Instant::now());
        let _ = back_off.pause(now);
        back_off.succeeded();
        assert!(back_off.is_pausing());
        assert_eq!(back_off.pause(now), PAUSE.0 * 2);
    }

    #[test]
    fn trouble_is_told_once_and_over_once() {
        let (mut trouble, now) = (Trouble::default(), Instant::now());
        assert_eq!((trouble.is_on(), trouble.succeeded(now, now)), (false, None));
        assert!(trouble.failed(now + MS));
        assert!(!trouble.failed(now + MS * 2) && !trouble.failed(now + MS * 3));
        assert_eq!(trouble.succeeded(now, now + MS * 4), None, "tried before it began");
        assert!(trouble.is_on());
        let over = Over { failures: 3, lasted: MS * 4 };
        assert_eq!(trouble.succeeded(now + MS, now + MS * 5), Some(over));
        assert!(!trouble.is_on());
        assert!(trouble.failed(now + MS * 6), "a new one");
    }
}
