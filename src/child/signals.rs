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
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Time between two looks at all processes, which take a system call for each of them.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whether a kernel before 6.9 has said that it knows no groups of pidfds, or a filter that it gives us none.
fn cannot(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EPERM))
}

/// Whether the kernel finds process groups by pidfds here.
pub fn knows_groups() -> bool {
    let asked = pidfd(std::process::id() as i32).and_then(|own| send_signal(&own, 0, true));
    !asked.is_err_and(|error| cannot(&error))
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

/// Groups whose leaders have been reaped, and of which something is left that is to be ended.
///
/// The kernel finds them by their leaders' pidfds since Linux 6.9. Of the others a member has to be found among all processes, which
/// takes time that the loop does not have for each of them: many are looked for at once, and no more often than each second.
#[derive(Debug, Default)]
pub struct Left {
    unsure: Vec<Group>,
    not_before: Option<Instant>,
}

impl Left {
    /// Ends these, or does it at [`Left::deadline`].
    pub fn kill(&mut self, now: Instant, groups: Vec<Group>) {
        let is_unsure = |group: &Group| match &group.leader {
            Some(leader) => send_signal(leader, libc::SIGKILL, true).is_err_and(|error| cannot(&error)),
            None => true,
        };
        self.unsure.extend(groups.into_iter().filter(is_unsure));
        if self.deadline().is_some_and(|at| at <= now) || (self.not_before.is_none() && !self.unsure.is_empty()) {
            kill_unsure(std::mem::take(&mut self.unsure));
            self.not_before = Some(now + LOOK_EVERY);
        }
    }

    /// When to call [`Left::kill`] again, even with no more of them.
    pub fn deadline(&self) -> Option<Instant> {
        self.not_before.filter(|_| !self.unsure.is_empty())
    }
}

fn kill_unsure(unsure: Vec<Group>) {
    // The group that has the number is the old one if it has a member from before the leader's end: no later one had it since.
    let mut ended: HashMap<i32, Option<Duration>> =
        unsure.into_iter().map(|group| (group.number, group.ended)).collect();
    for pid in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = pid.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(number) = getpgid(Some(Pid::from_raw(pid))).map(Pid::as_raw) else { continue };
        let Some(Some(then)) = ended.get(&number).copied() else { continue };
        if Stat::of(pid).is_some_and(|stat| stat.group == number && stat.started() <= then) {
            let _ = kill(Pid::from_raw(-number), Signal::SIGKILL);
            ended.remove(&number);
            if ended.is_empty() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read};
    use std::os::unix::process::CommandExt;
    use std::process::{ChildStdout, Command, Stdio};

    /// A group whose leader has been reaped and that is known by its number alone, and an end of file at its end.
    fn left() -> (Group, BufReader<ChildStdout>) {
        let mut leader = Command::new("sh");
        leader.args(["-c", "sleep 100000 & echo; exec sleep 100000"]).process_group(0).stdout(Stdio::piped());
        let mut leader = leader.spawn().unwrap();
        let mut stdout = BufReader::new(leader.stdout.take().unwrap());
        stdout.read_line(&mut String::new()).unwrap();
        let mut group = Group::of(leader.id() as i32, None, false).unwrap();
        leader.kill().unwrap();
        leader.wait().unwrap();
        assert!(group.is_left());
        (group, stdout)
    }

    #[test]
    fn many_are_looked_for_at_once_and_not_at_any_time() {
        let (mut left_over, now) = (Left::default(), Instant::now());
        assert_eq!(left_over.deadline(), None);
        let (group, mut stdout) = left();
        left_over.kill(now, vec![group]);
        stdout.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(left_over.deadline(), None);

        let ((second, mut of_second), (third, mut of_third)) = (left(), left());
        let [two, three] = [second.number, third.number].map(|number| Pid::from_raw(-number));
        left_over.kill(now, vec![second]);
        left_over.kill(now + LOOK_EVERY / 2, vec![third]);
        assert_eq!((kill(two, None), kill(three, None)), (Ok(()), Ok(())), "not each at once");
        let then = left_over.deadline().unwrap();
        assert_eq!(then, now + LOOK_EVERY);
        left_over.kill(then, Vec::new());
        for stdout in [&mut of_second, &mut of_third] {
            stdout.read_to_end(&mut Vec::new()).unwrap();
        }
        assert_eq!(left_over.deadline(), None);
    }
}
