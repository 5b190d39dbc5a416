//! Signals to commands: to the process and to the process group that is meant, never to whoever has their number by now.
//!
//! The number of a child is its own until it is reaped, and that of a process group until its last member has ended
//! (credentials(7)). What is neither is meant through a pidfd, or gets nothing.
#![forbid(unsafe_code)]

use super::proc::{Stat, uptime};
use super::watched::Watched;
use crate::sys::process::{pidfd, send_signal};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Whether a kernel before 6.9 has said that it knows no groups of pidfds, or a filter that it gives us none.
fn cannot(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EPERM))
}

/// Sends a signal to a command that is not reaped yet, and to its process group: each command leads one. `adopted` is the same
/// process, if it is not our child.
pub fn signal_command(pid: i32, adopted: Option<&Watched>, signal: Signal) {
    let number = Pid::from_raw(pid);
    // With `--session shared` a command may move to another group and leave others of its own behind.
    let is_in_group = getpgid(Some(number)) == Ok(number);
    let is_there = || adopted.is_none_or(|process| !process.has_ended());
    let by_number = |to: i32| is_there() && kill(Pid::from_raw(to), signal).is_ok();
    let through = |to_group, number| match adopted.and_then(Watched::pidfd) {
        None => by_number(number),
        Some(pidfd) => match send_signal(pidfd, signal as i32, to_group) {
            Err(error) if cannot(&error) => by_number(number),
            sent => sent.is_ok(),
        },
    };
    let group_has_it = through(true, -pid);
    // Nobody gets SIGTERM twice. A child that has not yet made its group has none.
    if !group_has_it || !is_in_group || signal == Signal::SIGKILL {
        through(false, pid);
    }
}

/// The process group of a command that was sent SIGTERM. It may outlive the command.
#[derive(Debug)]
pub struct Group {
    number: i32,
    /// Of its leader, whose number no longer tells who is meant once it is reaped.
    leader: Option<OwnedFd>,
    /// When its leader was known to have ended, on the clock of [`uptime`].
    ended: Option<Duration>,
}

impl Group {
    /// That of a command that is not reaped yet; `adopted` is the same process, if it is not our child. `None` if it has ended
    /// and may be reaped by now. Without a descriptor to spare it is known by its number alone.
    pub fn of(pid: i32, adopted: Option<&Watched>, has_spare: bool) -> Option<Group> {
        let leader = if has_spare { pidfd(pid).ok() } else { None };
        // Asked after it was opened: so it is of the process that was meant.
        let is_there = adopted.is_none_or(|process| !process.has_ended());
        is_there.then_some(Group { number: pid, leader, ended: None })
    }

    /// Its leader has just been reaped. `false`: it had no other member.
    pub fn is_left(&mut self) -> bool {
        self.ended = Some(uptime());
        match self.leader.as_ref().map(|leader| send_signal(leader, 0, true)) {
            Some(Err(error)) if !cannot(&error) => false,
            Some(Ok(())) => true,
            _ => kill(Pid::from_raw(-self.number), None).is_ok(),
        }
    }
}

/// Ends what is left of these groups, whose leaders have been reaped.
pub fn kill_left(groups: Vec<Group>) {
    let unsure = |group: &Group| match &group.leader {
        Some(leader) => send_signal(leader, libc::SIGKILL, true).is_err_and(|error| cannot(&error)),
        None => true,
    };
    let unsure: Vec<Group> = groups.into_iter().filter(unsure).collect();
    if unsure.is_empty() {
        return;
    }
    // The group that has the number is the old one if it has a member from before the leader's end: no later one had it since.
    let numbers: HashSet<i32> = unsure.iter().map(|group| group.number).collect();
    for pid in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = pid.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(number) = getpgid(Some(Pid::from_raw(pid))).map(Pid::as_raw) else { continue };
        if !numbers.contains(&number) {
            continue;
        }
        let ended = unsure.iter().find(|group| group.number == number).and_then(|group| group.ended);
        let is_older = |stat: Stat| stat.group == number && ended.is_some_and(|ended| stat.started() <= ended);
        if Stat::of(pid).is_some_and(is_older) {
            let _ = kill(Pid::from_raw(-number), Signal::SIGKILL);
        }
    }
}
