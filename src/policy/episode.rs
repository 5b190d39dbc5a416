//! A state that comes and goes, told when it begins and when it has been over for a while: one that flaps is one episode.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// How long it has to be over. The kernel renews its load average every 5 seconds.
pub const CALM: Duration = Duration::from_secs(10);
/// How often to look while it is on.
const LOOK: Duration = Duration::from_secs(1);

/// It.
#[derive(Debug, Default)]
pub struct Episode {
    began: Option<Instant>,
    /// When it was seen to be on last.
    last: Option<Instant>,
    noted: Option<Instant>,
}

/// What is to be told.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// It has begun.
    Begun,
    /// It is over, and has lasted so long.
    Over(Duration),
}

impl Episode {
    /// Notes whether it is on now.
    pub fn note(&mut self, now: Instant, is_on: bool) -> Option<Edge> {
        self.noted = Some(now);
        if is_on {
            self.last = Some(now);
            return self.began.replace(self.began.unwrap_or(now)).is_none().then_some(Edge::Begun);
        }
        let (began, last) = (self.began?, self.last?);
        if last + CALM > now {
            return None;
        }
        self.began = None;
        Some(Edge::Over(last - began))
    }

    /// Whether it was told that it has begun, and not that it is over.
    pub fn is_on(&self) -> bool {
        self.began.is_some()
    }

    /// When to note it again, whatever happens.
    pub fn deadline(&self) -> Option<Instant> {
        self.noted.filter(|_| self.is_on()).map(|noted| noted + LOOK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_flaps_is_one_episode() {
        let (mut episode, t0, second) = (Episode::default(), Instant::now(), Duration::from_secs(1));
        assert_eq!((episode.note(t0, false), episode.deadline()), (None, None));
        assert_eq!(episode.note(t0, true), Some(Edge::Begun));
        assert_eq!((episode.note(t0 + second, true), episode.is_on()), (None, true));
        assert_eq!(episode.deadline(), Some(t0 + second + LOOK));
        assert_eq!(episode.note(t0 + 2 * second, false), None);
        assert_eq!(episode.note(t0 + 9 * second, true), None);
        assert_eq!(episode.note(t0 + 9 * second + CALM - Duration::from_nanos(1), false), None);
        assert_eq!(episode.note(t0 + 9 * second + CALM, false), Some(Edge::Over(9 * second)));
        assert_eq!((episode.is_on(), episode.deadline()), (false, None));
        assert_eq!(episode.note(t0 + 60 * second, true), Some(Edge::Begun), "another");
    }
}
