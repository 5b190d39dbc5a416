//! Whom the kernel kills when memory runs out: a command, and not the daemon that all others depend on.
//!
//! Without this it is the daemon, and each that is started after it: `cat` and `sh` are smaller. A command inherits the
//! daemon's `oom_score_adj` (proc_pid_oom_score_adj(5)), whatever `OOMScoreAdjust=` says. It cannot set its own before its
//! exec, since until then it shares the daemon's memory, and the kernel gives all who share it the same score. So the daemon
//! sets it a moment later: raises it, which anybody may do, or sets it to what is asked for. A daemon of another user than root may
//! do so too, though it may not change its own, being closed to others of its user (`process::close_to_others`).
#![forbid(unsafe_code)]

use crate::policy::episode::{Edge, Episode};
use std::fs::{File, OpenOptions, read_to_string};
use std::io::{self, Read, Write};
use std::time::Instant;

/// How far commands are above the daemon, unless something else is asked for: half of the memory that there is under the limit in
/// question, which is more than the daemon ever needs. With `OOMScoreAdjust=-500` for the unit, commands have the usual 0.
pub const ABOVE: i32 = 500;
/// OOM_SCORE_ADJ_MAX of linux/oom.h.
const MAX_SCORE: i32 = 1000;

const OWN: &str = "/proc/self/oom_score_adj";

/// Which score commands get.
#[derive(Debug, Default)]
pub struct Victims {
    /// `--oom-score-adjust`; `None` is [`ABOVE`] the daemon's.
    wanted: Option<i32>,
    failing: Episode,
}

/// A command that does not have the score that was asked for.
#[derive(Debug)]
pub struct NotSet {
    /// Its process.
    pub pid: i32,
    /// The score.
    pub score: i32,
    /// Why.
    pub error: io::Error,
}

/// What has come of a look at commands.
#[derive(Debug, Default)]
pub struct Looked {
    /// Those to be looked at again, since they may have been met in the middle of their exec.
    pub again: Vec<i32>,
    /// The first failure of an episode, which is to be told.
    pub failed: Option<NotSet>,
}

impl Victims {
    /// With the score that is asked for, if any.
    pub fn new(wanted: Option<i32>) -> Victims {
        Victims { wanted, failing: Episode::default() }
    }

    /// Sets the score of these processes, unless they have chosen one themselves. They are children that are not
    /// reaped yet, so that each number is theirs, and are past their exec.
    ///
    /// To raise it is done as well as it can be: a command that has become another user may not be ours to change, and without
    /// /proc nothing is. Of a score that was asked for the first failure of an episode is told, if it `is_last` that is tried.
    pub fn set(&mut self, now: Instant, pids: &[i32], is_last: impl Fn(i32) -> bool) -> Looked {
        let Some(first) = pids.first() else { return Looked::default() };
        let (failed, is_unsure) = match own() {
            Ok(ours) => set_each(pids, ours, self.wanted.unwrap_or((ours + ABOVE).min(MAX_SCORE))),
            Err(error) => (vec![(*first, error)], false),
        };
        let mut again: Vec<i32> = pids.iter().copied().filter(|pid| is_unsure && !is_last(*pid)).collect();
        let Some(score) = self.wanted else { return Looked { again, failed: None } };
        let (last, others): (Vec<_>, Vec<_>) = failed.into_iter().partition(|(pid, _)| is_last(*pid));
        if !is_unsure {
            again.extend(others.iter().map(|(pid, _)| *pid));
        }
        // Of others it is not known yet.
        let is_known = !last.is_empty() || others.is_empty();
        let edge = if is_known { self.failing.note(now, !last.is_empty()) } else { None };
        let told = last.into_iter().next().filter(|_| edge == Some(Edge::Begun));
        Looked { again, failed: told.map(|(pid, error)| NotSet { pid, score, error }) }
    }
}

/// Those for which it fails, and whether any other may not have it for certain.
fn set_each(pids: &[i32], ours: i32, theirs: i32) -> (Vec<(i32, io::Error)>, bool) {
    let set = |pid: &i32| Some((*pid, set_one(&format!("/proc/{pid}/oom_score_adj"), ours, theirs).err()?));
    let failed = pids.iter().filter_map(set).collect();
    // The kernel says that an exec is over a moment before the memory is changed. Whoever is met in that moment changes ours, too, and
    // has ours again then.
    let is_changed = own().is_ok_and(|now| now == theirs && now != ours);
    if is_changed {
        let _ = std::fs::write(OWN, ours.to_string());
    }
    (failed, is_changed)
}

fn own() -> io::Result<i32> {
    parse(&read_to_string(OWN)?)
}

fn parse(text: &str) -> io::Result<i32> {
    text.trim_ascii().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

fn set_one(path: &str, inherited: i32, to: i32) -> io::Result<()> {
    let mut file: File = OpenOptions::new().read(true).write(true).open(path)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    if parse(&text)? == inherited && to != inherited {
        file.write_all(to.to_string().as_bytes())?; // in one call
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::episode::CALM;

    /// No process has this number (PID_MAX_LIMIT is 2^22).
    const NOBODY: i32 = (1 << 22) + 1;

    #[test]
    fn what_was_not_asked_for_fails_in_silence() {
        let looked = Victims::new(None).set(Instant::now(), &[NOBODY], |_| true);
        assert!(looked.failed.is_none() && looked.again.is_empty(), "{looked:?}");
    }

    #[test]
    fn an_episode_is_told_once_and_not_at_the_first_look() {
        let (mut victims, now) = (Victims::new(Some(700)), Instant::now());
        let mut set = |after, pids: &[i32], is_last| {
            let Looked { again, failed } = victims.set(now + after, pids, |_| is_last);
            (again, failed.map(|NotSet { pid, score, .. }| (pid, score)))
        };
        assert_eq!(set(CALM / 8, &[], true), (vec![], None));
        assert_eq!(set(CALM / 8, &[NOBODY], false), (vec![NOBODY], None));
        assert_eq!(set(CALM / 4, &[NOBODY, NOBODY + 1], true), (vec![], Some((NOBODY, 700))));
        assert_eq!(set(CALM / 2, &[NOBODY], true), (vec![], None), "the same");
        assert_eq!(set(CALM * 9, &[NOBODY], true), (vec![], None), "it has never been over");
    }
}
