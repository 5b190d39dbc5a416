//! Whom the kernel kills when memory runs out: a command, and not the daemon that all others depend on.
//!
//! Without this it is the daemon, and each that is started after it: `cat` and `sh` are smaller. A command inherits the
//! daemon's `oom_score_adj` (proc_pid_oom_score_adj(5)), whatever `OOMScoreAdjust=` says. It cannot raise its own before its
//! exec, since until then it shares the daemon's memory, and the kernel gives all who share it the same score. So the daemon
//! raises it a moment later, which anybody may do: also a daemon of another user than root, which may not change its own, being closed to
//! others of its user (`process::close_to_others`).
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions, read_to_string};
use std::io::{Read, Write};

/// How far commands are above the daemon: half of the memory that there is under the limit in question, which is more than
/// the daemon ever needs. With `OOMScoreAdjust=-500` for the unit, commands have the usual 0.
pub const ABOVE: i32 = 500;
/// OOM_SCORE_ADJ_MAX of linux/oom.h.
const MAX_SCORE: i32 = 1000;

const OWN: &str = "/proc/self/oom_score_adj";

/// Raises the score of these processes above ours, unless they have chosen one themselves. They are children that are not
/// reaped yet, so that each number is theirs, and are past their exec.
///
/// It is done as well as it can be: a command that has become another user may not be ours to change, and without /proc
/// nothing is.
pub fn raise(pids: impl Iterator<Item = i32>) {
    let mut pids = pids.peekable();
    if pids.peek().is_none() {
        return;
    }
    let Some(ours) = read_to_string(OWN).ok().and_then(|text| parse(&text)) else { return };
    let theirs = (ours + ABOVE).min(MAX_SCORE);
    for pid in pids {
        let _ = raise_one(&format!("/proc/{pid}/oom_score_adj"), ours, theirs);
    }
    // The kernel says that an exec is over a moment before the memory is changed. Whoever is met in that moment raises us too.
    if read_to_string(OWN).ok().and_then(|text| parse(&text)) == Some(theirs) && theirs != ours {
        let _ = std::fs::write(OWN, ours.to_string());
    }
}

fn parse(text: &str) -> Option<i32> {
    text.trim_ascii().parse().ok()
}

fn raise_one(path: &str, inherited: i32, to: i32) -> std::io::Result<()> {
    let mut file: File = OpenOptions::new().read(true).write(true).open(path)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    if parse(&text) == Some(inherited) && to != inherited {
        file.write_all(to.to_string().as_bytes())?; // in one call
    }
    Ok(())
}
