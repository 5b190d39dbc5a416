//! Which refusals get a journal entry of their own: a few per interval, the rest are one exact number.
#![forbid(unsafe_code)]

use super::reason::Reason;
use std::time::{Duration, Instant};

/// Refusals logged singly in one interval, per reason.
pub const SINGLY: u32 = 5;
/// Length of an interval. It begins with the first refusal, not with the clock.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// "N more were refused for this reason": due at an interval's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Why they were refused.
    pub reason: Reason,
    /// How many had no entry of their own.
    pub count: u64,
    /// Time since the interval began.
    pub lasted: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    began: Option<Instant>,
    logged: u32,
    unlogged: u64,
}

/// One window per reason.
#[derive(Debug, Default)]
pub struct Throttle {
    windows: [Window; Reason::ALL.len()],
}

impl Throttle {
    /// Counts one refusal; `true` if it deserves an entry of its own.
    pub fn admit(&mut self, now: Instant, reason: Reason) -> bool {
        let window = &mut self.windows[reason.index()];
        window.began.get_or_insert(now);
        if window.logged < SINGLY {
            window.logged += 1;
            return true;
        }
        window.unlogged += 1;
        false
    }

    /// A line that was due could not be delivered: it goes into the summary instead.
    pub fn missed(&mut self, now: Instant, reason: Reason, count: u64) {
        let window = &mut self.windows[reason.index()];
        window.began.get_or_insert(now);
        window.unlogged += count;
    }

    /// When the next interval ends.
    pub fn deadline(&self) -> Option<Instant> {
        self.windows.iter().filter_map(|window| window.began).min().map(|began| began + INTERVAL)
    }

    /// The summaries of intervals that have ended by `now`; `all` ends every interval, as at exit.
    pub fn due(&mut self, now: Instant, all: bool) -> impl Iterator<Item = Summary> + use<> {
        let mut out = [None; Reason::ALL.len()];
        for reason in Reason::ALL {
            let window = &mut self.windows[reason.index()];
            let Some(began) = window.began else { continue };
            let lasted = now.saturating_duration_since(began);
            if all || lasted >= INTERVAL {
                if window.unlogged > 0 {
                    out[reason.index()] = Some(Summary { reason, count: window.unlogged, lasted });
                }
                *window = Window::default();
            }
        }
        out.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTAL: Reason = Reason::ALL[0];
    const LOAD: Reason = Reason::ALL[2];

    #[test]
    fn five_singly_then_one_exact_number() {
        let (mut throttle, t0) = (Throttle::default(), Instant::now());
        assert_eq!(throttle.deadline(), None);
        let told = (0..500).filter(|_| throttle.admit(t0, TOTAL)).count();
        assert_eq!(told as u32, SINGLY);
        assert!(throttle.admit(t0, LOAD), "each reason has a budget of its own");
        assert_eq!(throttle.deadline(), Some(t0 + INTERVAL));
        let before = t0 + INTERVAL - Duration::from_millis(1);
        assert_eq!(throttle.due(before, false).count(), 0);
        let at = t0 + INTERVAL;
        let summary = Summary { reason: TOTAL, count: 495, lasted: INTERVAL };
        assert_eq!(throttle.due(at, false).collect::<Vec<_>>(), [summary]);
        assert_eq!(throttle.deadline(), None);
        assert!(throttle.admit(at, TOTAL));
    }

    #[test]
    fn a_line_that_was_lost_is_in_the_summary() {
        let (mut throttle, t0) = (Throttle::default(), Instant::now());
        assert!(throttle.admit(t0, TOTAL));
        throttle.missed(t0, TOTAL, 1);
        assert_eq!(throttle.due(t0, true).map(|s| s.count).collect::<Vec<_>>(), [1]);
    }
}
