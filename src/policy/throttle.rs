//! Which refusals get a journal entry of their own: a few per interval, the rest are one exact number.
#![forbid(unsafe_code)]

use super::network::Network;
use super::reason::Reason;
use super::top::Top;
use std::time::{Duration, Instant};

/// Refusals logged singly in one interval, per reason.
pub const SINGLY: u32 = 5;
/// Length of an interval. It begins with the first refusal, not with the clock.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// Sources that a summary names.
const NAMED: usize = 3;

/// Whom refusals are counted for, and how often each.
pub type Sources = Vec<(Network, u64)>;

/// "N more were refused for this reason": due at an interval's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Why they were refused.
    pub reason: Reason,
    /// How many had no entry of their own.
    pub count: u64,
    /// Time since the interval began.
    pub lasted: Duration,
    /// From whom most of these came, the first of them first. Of very many sources each may have come more often than it says here.
    pub sources: Sources,
}

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    logged: u32,
    unlogged: u64,
    /// Whom the unlogged came from; there only if there are any.
    sources: Option<Box<Top<16>>>,
}

impl Window {
    fn count(&mut self, network: Network, times: u64) {
        self.sources.get_or_insert_default().add_many(network, times);
    }
}

/// One window per reason.
#[derive(Debug, Default)]
pub struct Throttle {
    windows: [Window; Reason::ALL.len()],
}

impl Throttle {
    /// Counts one refusal; `true` if it deserves an entry of its own. `network`: whose it is, if that is known and may be told.
    pub fn admit(&mut self, now: Instant, reason: Reason, network: Option<Network>) -> bool {
        let window = &mut self.windows[reason.index()];
        window.began.get_or_insert(now);
        if window.logged < SINGLY {
            window.logged += 1;
            return true;
        }
        window.unlogged += 1;
        if let Some(network) = network {
            window.count(network, 1);
        }
        false
    }

    /// Lines that were due could not be delivered: these refusals go into the summary instead.
    pub fn missed(
        &mut self,
        now: Instant,
        reason: Reason,
        count: u64,
        sources: impl IntoIterator<Item = (Network, u64)>,
    ) {
        let window = &mut self.windows[reason.index()];
        window.began.get_or_insert(now);
        window.unlogged += count;
        sources.into_iter().for_each(|(network, times)| window.count(network, times));
    }

    /// When the next interval ends.
    pub fn deadline(&self) -> Option<Instant> {
        self.windows.iter().filter_map(|window| window.began).min().map(|began| began + INTERVAL)
    }

    /// The summaries of intervals that have ended by `now`; `all` ends every interval, as at exit.
    pub fn due(&mut self, now: Instant, all: bool) -> Vec<Summary> {
        let mut out = Vec::new();
        for reason in Reason::ALL {
            let window = &mut self.windows[reason.index()];
            let Some(began) = window.began else { continue };
            let lasted = now.saturating_duration_since(began);
            if all || lasted >= INTERVAL {
                let Window { unlogged: count, sources, .. } = std::mem::take(window);
                if count > 0 {
                    let sources = sources.map_or_else(Vec::new, |sources| sources.surely(NAMED));
                    out.push(Summary { reason, count, lasted, sources });
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTAL: Reason = Reason::ALL[0];
    const LOAD: Reason = Reason::ALL[2];

    fn network(nth: u64) -> Network {
        format!("192.0.{}.{}", nth >> 8, nth & 255).parse().unwrap()
    }

    #[test]
    fn five_singly_then_one_exact_number() {
        let (mut throttle, t0) = (Throttle::default(), Instant::now());
        assert_eq!(throttle.deadline(), None);
        let told = (0..500).filter(|_| throttle.admit(t0, TOTAL, None)).count();
        assert_eq!(told as u32, SINGLY);
        assert!(throttle.admit(t0, LOAD, None), "each reason has a budget of its own");
        assert_eq!(throttle.deadline(), Some(t0 + INTERVAL));
        let before = t0 + INTERVAL - Duration::from_millis(1);
        assert_eq!(throttle.due(before, false), []);
        let at = t0 + INTERVAL;
        let summary = Summary { reason: TOTAL, count: 495, lasted: INTERVAL, sources: vec![] };
        assert_eq!(throttle.due(at, false), [summary]);
        assert_eq!(throttle.deadline(), None);
        assert!(throttle.admit(at, TOTAL, None));
    }

    /// Those told singly are not part of the summary, nor are those of an earlier one, and a reason has sources of its own.
    #[test]
    fn a_summary_names_the_sources_of_what_it_sums_up() {
        let (mut throttle, t0) = (Throttle::default(), Instant::now());
        (0..SINGLY).for_each(|_| assert!(throttle.admit(t0, TOTAL, Some(network(9)))));
        for (nth, times) in [(1, 2), (2, 30), (3, 7), (4, 1)] {
            (0..times).for_each(|_| assert!(!throttle.admit(t0, TOTAL, Some(network(nth)))));
        }
        assert!(!throttle.admit(t0, TOTAL, None), "nobody knows whose it is");
        assert_eq!((0..=SINGLY).filter(|_| throttle.admit(t0, LOAD, Some(network(5)))).count() as u32, SINGLY);
        let due = throttle.due(t0 + INTERVAL, false);
        let told: Vec<_> = due.iter().map(|summary| (summary.count, summary.sources.clone())).collect();
        let most = vec![(network(2), 30), (network(3), 7), (network(1), 2)];
        assert_eq!(told, [(41, most), (1, vec![(network(5), 1)])]);
        assert_eq!((0..=SINGLY).filter(|_| throttle.admit(t0, TOTAL, Some(network(4)))).count() as u32, SINGLY);
        assert_eq!(throttle.due(t0, true)[0].sources, [(network(4), 1)]);
    }

    /// Many more sources than are counted at once: nobody is said to have come more often than is true.
    #[test]
    fn a_flood_from_everywhere_makes_nobody_a_culprit() {
        let (mut throttle, t0) = (Throttle::default(), Instant::now());
        (0..SINGLY).for_each(|_| assert!(throttle.admit(t0, TOTAL, None)));
        (0..5000).for_each(|nth| assert!(!throttle.admit(t0, TOTAL, Some(network(nth)))));
        let summary = throttle.due(t0, true).remove(0);
        assert_eq!(summary.count, 5000);
        assert!(summary.sources.len() == NAMED && summary.sources.iter().all(|(_, count)| *count == 1), "{summary:?}");
    }

    #[test]
    fn a_line_that_was_lost_is_in_the_summary() {
        let (mut throttle, t0) = (Throttle::default(), Instant::now());
        assert!(throttle.admit(t0, TOTAL, Some(network(1))));
        throttle.missed(t0, TOTAL, 1, Some((network(1), 1)));
        let lost = throttle.due(t0, true).remove(0);
        assert_eq!((lost.count, &lost.sources), (1, &vec![(network(1), 1)]));
        throttle.missed(t0, TOTAL, lost.count, lost.sources.clone());
        throttle.missed(t0, TOTAL, 7, [(network(1), 3), (network(2), 4)]);
        let summary = throttle.due(t0, true).remove(0);
        assert_eq!((summary.count, summary.sources), (8, vec![(network(1), 4), (network(2), 4)]));
    }
}
