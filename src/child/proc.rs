//! What /proc says of processes that are not ours: every read has a bound, since a process decides what is in its own files.
#![forbid(unsafe_code)]

use nix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

/// Longer than any stat(5) of a process: 52 numbers and a name of at most 64 bytes.
const MAX_STAT: u64 = 4096;
/// Read of an environment, in bytes. Ours comes first in it and is usually a few KiB; the process may have gigabytes.
const MAX_ENVIRON: u64 = 128 << 10;
/// More than 4 million pids, which is the most that Linux has (proc_sys_kernel(5)).
const MAX_LIST: u64 = 64 << 20;

/// At most `most` bytes of a file.
pub(super) fn read(path: &(impl AsRef<Path> + ?Sized), max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Text of a list of processes, such as cgroup.procs.
pub(super) fn read_list(path: &(impl AsRef<Path> + ?Sized)) -> io::Result<String> {
    read(path, MAX_LIST).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The first part of a process's environment; empty if it may not be read.
pub(super) fn environ(pid: i32) -> Vec<u8> {
    read(&format!("/proc/{pid}/environ"), MAX_ENVIRON).unwrap_or_default()
}

/// The real user of this process (`Uid:` of proc_pid_status(5)).
pub(super) fn user(pid: i32) -> Option<u32> {
    let status = read(&format!("/proc/{pid}/status"), MAX_STAT).ok()?;
    let status = String::from_utf8_lossy(&status);
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Clock ticks per second in which the kernel tells a process's start (sysconf(3)).
fn ticks_per_second() -> u64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    ticks.and_then(|ticks| u64::try_from(ticks).ok()).filter(|ticks| *ticks > 0).unwrap_or(100)
}

/// Time since the system's start, suspension included: the clock of `Stat::started`. Not /proc/uptime, which `ProcSubset=pid` hides.
pub fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// The fields of proc_pid_stat(5) that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// A zombie, or being reaped. Not one whose first thread has ended and whose others go on.
    pub(super) is_dead: bool,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    /// Clock ticks from the system's start to its own.
    pub(super) started: u64,
}

impl Stat {
    /// Of this process; `None` if there is none, or none that we may see (hidepid= of proc(5)).
    pub(super) fn of(pid: i32) -> Option<Stat> {
        let text = read(&format!("/proc/{pid}/stat"), MAX_STAT).ok()?;
        Stat::parse(&String::from_utf8_lossy(&text))
    }

    pub(super) fn parse(text: &str) -> Option<Stat> {
        // The name in parentheses may hold anything, parentheses too.
        let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_whitespace().collect();
        let threads: i64 = fields.get(17)?.parse().ok()?;
        Some(Stat {
            is_dead: matches!(*fields.first()?, "Z" | "X") && threads < 2,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    /// When it was started, rounded down to a clock tick, on the clock of [`uptime`].
    pub(super) fn started(&self) -> Duration {
        let ticks = ticks_per_second();
        let rest = (self.started % ticks) * 1_000_000_000 / ticks;
        Duration::new(self.started / ticks, u32::try_from(rest).unwrap_or(0))
    }

    /// Whether it was started then, given that clock ticks are coarse.
    pub(super) fn was_started(&self, not_before: Duration, not_after: Option<Duration>) -> bool {
        let tick = Duration::from_nanos(1_000_000_000 / ticks_per_second());
        let started = self.started();
        started + tick * 2 > not_before && not_after.is_none_or(|not_after| started <= not_after + tick)
    }

    /// How long it has run.
    pub(super) fn age(&self) -> Duration {
        uptime().saturating_sub(self.started())
    }

    /// Whether both tell of one process, given that they tell of one pid.
    pub(super) fn is_same(&self, other: &Stat) -> bool {
        self.started == other.started
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_of_ourselves_and_of_a_name_that_tries() {
        let own = Stat::of(std::process::id() as i32).unwrap();
        assert!(!own.is_dead && own.started > 0 && own.started() <= uptime());
        assert_eq!(own.parent, nix::unistd::getppid().as_raw());
        let text = format!("12 (a) Z (b) S 1 12 13 0 -1 {} 2 0 512 0", "0 ".repeat(11));
        let stat = Stat::parse(&text).unwrap();
        assert!(!Stat::parse(&text.replace("S", "Z")).unwrap().is_dead, "its other thread lives");
        assert!(Stat::parse(&text.replace("S", "Z").replace(" 2 ", " 1 ")).unwrap().is_dead);
        assert_eq!((stat.is_dead, stat.parent, stat.group, stat.session, stat.started), (false, 1, 12, 13, 512));
        for bad in ["", "12 (a", "12 (a) S 1", &text.replace(" 512", " -1"), &text.replace(" 512", " 1e99")] {
            assert_eq!(Stat::parse(bad), None, "{bad}");
        }
        let at = stat.started();
        let ms = Duration::from_millis;
        for (not_before, not_after, is_it) in [
            (at, Some(at), true),
            (at + ms(9), Some(at + ms(9)), true),
            (at - ms(50), Some(at + ms(50)), true),
            (at, None, true),
            (at + ms(50), None, false),
            (at - ms(100), Some(at - ms(50)), false),
            (Duration::ZERO, Some(Duration::ZERO), false),
        ] {
            assert_eq!(stat.was_started(not_before, not_after), is_it, "{at:?} in {not_before:?} to {not_after:?}");
        }
        let huge = Stat { started: u64::MAX, ..stat };
        assert_eq!(huge.age(), Duration::ZERO);
        assert!(Stat { started: 0, ..stat }.age() > Duration::ZERO, "as old as the system");
    }

    /// A start is rounded down, and so was the time that it is compared with.
    #[test]
    fn a_start_is_known_to_a_clock_tick() {
        let (ticks, ns) = (ticks_per_second(), Duration::from_nanos(1));
        let tick = Duration::from_nanos(1_000_000_000 / ticks);
        let stat = |started| Stat { is_dead: false, parent: 1, group: 1, session: 1, started };
        assert_eq!(stat(ticks * 7).started(), Duration::from_secs(7));
        assert_eq!(stat(ticks * 7 + 3).started(), Duration::from_secs(7) + tick * 3);
        let (stat, at) = (stat(ticks * 7 + 3), Duration::from_secs(7) + tick * 3);
        for (not_before, is_it) in [(at + tick * 2 - ns, true), (at + tick * 2, false), (at + tick * 2 + ns, false)] {
            assert_eq!(stat.was_started(not_before, None), is_it, "not before {not_before:?}");
        }
        for (not_after, is_it) in [(at - tick + ns, true), (at - tick, true), (at - tick - ns, false)] {
            assert_eq!(stat.was_started(Duration::ZERO, Some(not_after)), is_it, "not after {not_after:?}");
        }
    }

    #[test]
    fn user_and_environment_of_ourselves_and_of_nobody() {
        let own = std::process::id() as i32;
        assert_eq!(user(own), Some(nix::unistd::getuid().as_raw()));
        assert_eq!(environ(own), read("/proc/self/environ", MAX_ENVIRON).unwrap());
        assert_eq!((user(-1), environ(-1)), (None, vec![]));
    }

    #[test]
    fn no_read_is_longer_than_its_bound() {
        assert_eq!(read("/dev/zero", 5000).unwrap(), [0; 5000]);
    }
}
