//! How long clients waited and commands ran, and how commands ended or did not start: since this daemon's start, in fixed memory.
#![forbid(unsafe_code)]

use crate::policy::limit::rule::Outcome;
use std::time::Duration;

/// Upper bounds of waits in microseconds: 1 ms to 5 min.
const WAITS: &[u64] = &[1_000, 10_000, 100_000, 500_000, 1_000_000, 5_000_000, 15_000_000, 60_000_000, 300_000_000];
/// Upper bounds of sessions in microseconds: 10 ms to 1 h.
const SESSIONS: &[u64] = &[10_000, 100_000, 1_000_000, 10_000_000, 60_000_000, 600_000_000, 3_600_000_000];
/// What a command ends with. The order is that of [`result`].
const RESULTS: [&str; 7] = ["ok", "failed", "signal", "time-limit", "oom", "stopped", "unknown"];
/// The errors of starts that have a name of their own (clone(2), execve(2)). The last is all others.
const ERRORS: [(&str, i32); 19] = [
    ("E2BIG", libc::E2BIG),
    ("EACCES", libc::EACCES),
    ("EAGAIN", libc::EAGAIN),
    ("EINVAL", libc::EINVAL),
    ("EIO", libc::EIO),
    ("EISDIR", libc::EISDIR),
    ("ELIBBAD", libc::ELIBBAD),
    ("ELOOP", libc::ELOOP),
    ("EMFILE", libc::EMFILE),
    ("ENAMETOOLONG", libc::ENAMETOOLONG),
    ("ENFILE", libc::ENFILE),
    ("ENOENT", libc::ENOENT),
    ("ENOEXEC", libc::ENOEXEC),
    ("ENOMEM", libc::ENOMEM),
    ("ENOSPC", libc::ENOSPC),
    ("ENOTDIR", libc::ENOTDIR),
    ("EPERM", libc::EPERM),
    ("ETXTBSY", libc::ETXTBSY),
    ("other", 0),
];

/// Spans by length. Each is in one bucket alone.
#[derive(Clone, Copy, Debug)]
pub struct Histogram {
    bounds_usec: &'static [u64],
    counts: [u64; WAITS.len() + 1],
    sum_usec: u64,
}

impl Histogram {
    const fn new(bounds_usec: &'static [u64]) -> Histogram {
        Histogram { bounds_usec, counts: [0; WAITS.len() + 1], sum_usec: 0 }
    }

    fn add(&mut self, usec: u64) {
        let bucket = self.bounds_usec.iter().filter(|bound| usec > **bound).count();
        self.counts[bucket] += 1;
        self.sum_usec = self.sum_usec.saturating_add(usec);
    }

    /// How long the longest span of each bucket but the last may be, in microseconds.
    pub fn bounds_usec(&self) -> &[u64] {
        self.bounds_usec
    }

    /// How many are in each bucket, one more than there are bounds.
    pub fn counts(&self) -> &[u64] {
        &self.counts[..=self.bounds_usec.len()]
    }

    /// All spans together, in microseconds.
    pub fn sum_usec(&self) -> u64 {
        self.sum_usec
    }
}

/// What has become of a client that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// A command was started for it.
    Served,
    /// It was told to come back.
    Refused,
    /// It has left.
    Gone,
}

/// All of it. Nothing here outlives the daemon.
#[derive(Clone, Copy, Debug)]
pub struct Statistics {
    waits: [Histogram; 3],
    sessions: Histogram,
    results: [u64; RESULTS.len()],
    start_failures: [u64; ERRORS.len()],
}

impl Default for Statistics {
    fn default() -> Statistics {
        Statistics {
            waits: [Histogram::new(WAITS); 3],
            sessions: Histogram::new(SESSIONS),
            results: [0; RESULTS.len()],
            start_failures: [0; ERRORS.len()],
        }
    }
}

fn result(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Status(0) => 0,
        Outcome::Status(_) => 1,
        Outcome::Signal => 2,
        Outcome::TimeLimit => 3,
        Outcome::Oom => 4,
        Outcome::Stopped => 5,
        Outcome::Unknown => 6,
    }
}

impl Statistics {
    /// A client has waited so long. `None`: nothing is known of a wait.
    pub(super) fn waited(&mut self, usec: Option<u64>, what: Waited) {
        self.waits[what as usize].add(usec.unwrap_or(0));
    }

    /// A command that had been started has ended.
    pub(super) fn ended(&mut self, outcome: Outcome, after: Duration) {
        self.results[result(outcome)] += 1;
        self.sessions.add(after.as_micros() as u64);
    }

    /// A command could not be started.
    pub(super) fn start_failed(&mut self, errno: i32) {
        let known = ERRORS.iter().position(|(_, known)| *known == errno);
        self.start_failures[known.unwrap_or(ERRORS.len() - 1)] += 1;
    }

    /// How long clients have waited: from the end of the handshake where the kernel tells, else from accept(2). Of those that were
    /// refused at once the kernel is not asked: they have not waited.
    pub fn wait_times(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
        ["served", "refused", "gone"].into_iter().zip(&self.waits)
    }

    /// How long commands have run that are over.
    pub fn session_times(&self) -> &Histogram {
        &self.sessions
    }

    /// How commands have ended, by result.
    pub fn results(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RESULTS.into_iter().zip(self.results)
    }

    /// Starts that failed, by error: the names of errno(3), and `other`.
    pub fn start_failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ERRORS.into_iter().map(|(name, _)| name).zip(self.start_failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_in_the_bucket_that_ends_with_it_or_after_it() {
        let mut histogram = Histogram::new(SESSIONS);
        [0, 10_000, 10_001, 3_600_000_000, 3_600_000_001, u64::MAX].into_iter().for_each(|usec| histogram.add(usec));
        assert_eq!(histogram.counts(), [2, 1, 0, 0, 0, 0, 1, 2]);
        assert_eq!(histogram.counts().len(), histogram.bounds_usec().len() + 1);
        assert_eq!(histogram.sum_usec(), u64::MAX, "it does not wrap");
    }

    #[test]
    fn each_end_and_each_failure_has_a_name() {
        let mut all = Statistics::default();
        let outcomes = [
            Outcome::Status(0),
            Outcome::Status(1),
            Outcome::Signal,
            Outcome::TimeLimit,
            Outcome::Oom,
            Outcome::Stopped,
            Outcome::Unknown,
        ];
        outcomes.into_iter().for_each(|outcome| all.ended(outcome, Duration::ZERO));
        assert!(all.results().all(|(_, count)| count == 1));
        let named = |outcome: Outcome| RESULTS[result(outcome)] == outcome.to_string();
        assert!(outcomes.into_iter().skip(2).all(named), "the words of --penalty");
        [libc::ENOENT, libc::EAGAIN, libc::ENOENT, libc::ENOSYS, 0]
            .into_iter()
            .for_each(|errno| all.start_failed(errno));
        let some: Vec<_> = all.start_failures().filter(|(_, count)| *count > 0).collect();
        assert_eq!(some, [("EAGAIN", 1), ("ENOENT", 2), ("other", 2)]);
    }
}
