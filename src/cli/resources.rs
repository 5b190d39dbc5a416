//! What the limits of a connection may be: sizes, shares and weights, as systemd.resource-control(5) has them.
#![forbid(unsafe_code)]

use super::values::size;
use crate::child::cgroups::limits::{CpuMax, CpuWeight};
use crate::child::commands::SlotUntil;
use std::time::Duration;

/// A number of bytes, or no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Option<u64>);

/// A number of tasks, or no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tasks(pub(crate) Option<u64>);

/// Time on processors, or no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CpuTime(pub(crate) Option<CpuMax>);

/// Numbers of users, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UserPool(pub(crate) u32, pub(crate) u32);

/// The period of cpu.max that systemd takes, too.
const PERIOD: Duration = Duration::from_millis(100);
/// What the kernel takes for a period.
const PERIODS: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(1);
/// What the kernel takes for a quota (`tg_set_cfs_bandwidth`, kernel/sched/core.c), up to a round number below its own.
const QUOTAS: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(200 * 24 * 3600);

/// `100M`, `50%` of the machine's memory, `infinity`.
pub(super) fn bytes(text: &str) -> Result<Bytes, String> {
    let expected = || "expected bytes with K, M, G or T, a percentage of this machine's memory, or infinity".to_owned();
    if text == "infinity" {
        return Ok(Bytes(None));
    }
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.parse().map_err(|_| expected())?;
        if !(percent > 0.0 && percent <= 100.0) {
            return Err("a percentage of memory is above 0% and at most 100%".into());
        }
        let total = physical_memory().ok_or("the size of this machine's memory is not known")?;
        return some_bytes((total as f64 * percent / 100.0) as u64);
    }
    some_bytes(size(text, &["", "K", "M", "G", "T"]).ok_or_else(expected)?)
}

fn some_bytes(number: u64) -> Result<Bytes, String> {
    match number {
        0 => Err("0 bytes are not enough for any command; infinity is no limit".into()),
        _ => Ok(Bytes(Some(number))),
    }
}

fn physical_memory() -> Option<u64> {
    use nix::unistd::{SysconfVar, sysconf};
    let value = |name| sysconf(name).ok().flatten().and_then(|value| u64::try_from(value).ok());
    value(SysconfVar::_PHYS_PAGES)?.checked_mul(value(SysconfVar::PAGE_SIZE)?)
}

/// At least the command itself.
pub(super) fn tasks(text: &str) -> Result<Tasks, String> {
    match text.parse::<u32>() {
        _ if text == "infinity" => Ok(Tasks(None)),
        Ok(tasks @ 1..) if !text.starts_with('+') => Ok(Tasks(Some(tasks.into()))),
        _ => Err("expected a number of processes and threads from 1, or infinity".into()),
    }
}

fn weight(text: &str) -> Option<u32> {
    text.parse().ok().filter(|weight| (1..=10_000).contains(weight) && !text.starts_with('+'))
}

/// As CPUWeight= has it.
pub(super) fn cpu_weight(text: &str) -> Result<CpuWeight, String> {
    match text {
        "idle" => Ok(CpuWeight::Idle),
        _ => weight(text).map(CpuWeight::Weight).ok_or_else(|| "expected a weight from 1 to 10000, or idle".into()),
    }
}

/// As IOWeight= has it.
pub(super) fn io_weight(text: &str) -> Result<u32, String> {
    weight(text).ok_or_else(|| "expected a weight from 1 to 10000".into())
}

/// `20%`, as CPUQuota= has it, of one processor; `200%` is two. Or time in a period: `50ms/250ms`.
pub(super) fn cpu_max(text: &str) -> Result<CpuTime, String> {
    let expected =
        || "expected a percentage of one processor (20%, 200%), TIME/PERIOD (50ms/100ms), or infinity".to_owned();
    if text == "infinity" {
        return Ok(CpuTime(None));
    }
    let (quota, period) = match (text.strip_suffix('%'), text.split_once('/')) {
        (Some(percent), _) => {
            let percent: u32 = percent.parse().ok().filter(|percent| *percent > 0).ok_or_else(expected)?;
            (PERIOD * percent / 100, PERIOD)
        }
        (None, Some((quota, period))) => {
            let span = |text: &str| humantime::parse_duration(text).map_err(|_| expected());
            (span(quota)?, span(period)?)
        }
        (None, None) => return Err(expected()),
    };
    if !QUOTAS.contains(&quota) || !PERIODS.contains(&period) {
        return Err("a period is from 1ms to 1s, and the time in it from 1ms to 200 days".into());
    }
    Ok(CpuTime(Some(CpuMax { quota_usec: quota.as_micros() as u64, period_usec: period.as_micros() as u64 })))
}

/// When a slot is free again.
pub(super) fn slot_until(text: &str) -> Result<SlotUntil, String> {
    match text {
        "command" => Ok(SlotUntil::Command),
        "cgroup" => Ok(SlotUntil::Cgroup),
        _ => Err("expected command or cgroup".into()),
    }
}

/// `FIRST-LAST`, neither of them root or nobody's number (65534) or the one that means none (65535, 4294967295).
pub(super) fn uid_pool(text: &str) -> Result<UserPool, String> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| !text.starts_with('+'));
    let ends = text.split_once('-').and_then(|(first, last)| Some((number(first)?, number(last)?)));
    let (first, last) = ends.ok_or("expected numbers of users, FIRST-LAST")?;
    if first > last {
        return Err(format!("{first} is above {last}: expected FIRST-LAST"));
    }
    for (reserved, whose) in [(0, "root's"), (65534, "nobody's"), (65535, "no user's"), (u32::MAX, "no user's")] {
        if (first..=last).contains(&reserved) {
            return Err(format!("{reserved} is {whose} number and cannot be one of them"));
        }
    }
    Ok(UserPool(first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes_of) in [("1", 1), ("64K", 64 << 10), ("3M", 3 << 20), ("2G", 2 << 30), ("1T", 1 << 40)] {
            assert_eq!(bytes(text), Ok(Bytes(Some(bytes_of))), "{text}");
        }
        assert_eq!(bytes("infinity"), Ok(Bytes(None)));
        let (half, whole) = (bytes("50%").unwrap().0.unwrap(), bytes("100%").unwrap().0.unwrap());
        assert_eq!((half, whole), (whole / 2, physical_memory().unwrap()));
        for bad in [
            "",
            "0",
            "K",
            "-1",
            "+1",
            "1k",
            "1.5G",
            "0%",
            "1e-300%",
            "101%",
            "%",
            "18446744073709551616",
            "16777216T",
            "max",
        ] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shares_and_weights() {
        let time = |quota_usec, period_usec| Ok(CpuTime(Some(CpuMax { quota_usec, period_usec })));
        assert_eq!(cpu_max("20%"), time(20_000, 100_000));
        assert_eq!(cpu_max("250%"), time(250_000, 100_000));
        assert_eq!(cpu_max("50ms/1s"), time(50_000, 1_000_000));
        assert_eq!(cpu_max("infinity"), Ok(CpuTime(None)));
        for bad in ["", "0%", "-1%", "50", "50ms", "50ms/", "50ms/2s", "50ms/999us", "999us/1s", "x/1s", "201days/1s"] {
            assert!(cpu_max(bad).is_err(), "{bad}");
        }
        assert_eq!((io_weight("1"), io_weight("10000")), (Ok(1), Ok(10_000)));
        assert_eq!(cpu_weight("idle"), Ok(CpuWeight::Idle));
        for bad in ["", "0", "10001", "+5", "-5", "idle!"] {
            assert!(io_weight(bad).is_err() && cpu_weight(bad).is_err(), "{bad}");
        }
        assert_eq!((tasks("1"), tasks("infinity")), (Ok(Tasks(Some(1))), Ok(Tasks(None))));
        for bad in ["", "0", "-1", "+1", "4294967296", "max"] {
            assert!(tasks(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_at_all_is_told_by_what_it_is_nothing_of() {
        assert_eq!(bytes("0%").unwrap_err(), "a percentage of memory is above 0% and at most 100%");
        assert!(cpu_max("0%").unwrap_err().starts_with("expected a percentage of one processor"));
    }

    #[test]
    fn users() {
        assert_eq!(uid_pool("1-65533"), Ok(UserPool(1, 65533)));
        assert_eq!(uid_pool("70000-70000"), Ok(UserPool(70000, 70000)));
        for bad in ["", "7", "7-", "-7", "8-7", "0-7", "65534-65534", "65000-66000", "7-4294967295", "+1-2", "1 - 2"] {
            assert!(uid_pool(bad).is_err(), "{bad}");
        }
    }
}
