//! Options for what each command gets of its own as a process, and what their values may be.
#![forbid(unsafe_code)]

use super::values::{duration, size};
use crate::child::attributes::Wanted;
use crate::child::rlimit::{INFINITY, Limit, RESOURCES, Resource, Unit};
use crate::sys::launch::StandardError;
use std::path::PathBuf;

/// A part of the command line.
#[derive(Debug, clap::Args)]
pub(super) struct ProcessArgs {
    /// Where a command's standard error goes: where sockcap's does, to the log with its connection's number, to its client, or nowhere
    #[arg(long, value_name = "inherit|stream|socket|null", env = "SOCKCAP_STDERR", default_value = "inherit",
          value_parser = ["inherit", "stream", "socket", "null"], help_heading = "The command", hide_short_help = true)]
    stderr: String,

    /// Nice value of each command, from -20 to 19
    #[arg(long, value_name = "N", env = "SOCKCAP_NICE", value_parser = nice, help_heading = "The command",
          hide_short_help = true, allow_negative_numbers = true)]
    nice: Option<i32>,

    /// The oom_score_adj of each command, -1000 to 1000: whom the kernel kills first; default 500 above sockcap's
    #[arg(long, value_name = "N", env = "SOCKCAP_OOM_SCORE_ADJUST", value_parser = score, help_heading = "The command",
          hide_short_help = true, allow_negative_numbers = true)]
    oom_score_adjust: Option<i32>,

    /// Resource limit of each command, as Limit*= in units: nofile=1024:4096, core=0, as=2G, cpu=5min (repeatable)
    #[arg(
        long,
        value_name = "NAME=SOFT[:HARD]",
        env = "SOCKCAP_LIMIT",
        help_heading = "The command",
        hide_short_help = true
    )]
    pub(super) limit: Vec<String>,

    /// What [`limit`] makes of them: a variable holds several.
    #[arg(skip)]
    pub(super) limits: Vec<Limit>,

    /// File mode creation mask of each command, in octal
    #[arg(long, value_name = "MODE", env = "SOCKCAP_UMASK", value_parser = umask, help_heading = "The command",
          hide_short_help = true)]
    umask: Option<u32>,

    /// Working directory of each command
    #[arg(long, value_name = "PATH", env = "SOCKCAP_CHDIR", value_parser = directory, help_heading = "The command",
          hide_short_help = true)]
    chdir: Option<PathBuf>,
}

impl ProcessArgs {
    /// Of two limits for one resource the later counts.
    pub(super) fn wanted(self) -> Wanted {
        let mut limits: Vec<Limit> = Vec::new();
        for limit in self.limits {
            limits.retain(|other| other.resource != limit.resource);
            limits.push(limit);
        }
        let stderr = match self.stderr.as_str() {
            "socket" => StandardError::Socket,
            "null" => StandardError::Null,
            "stream" => StandardError::Stream,
            _ => StandardError::Inherit,
        };
        Wanted {
            stderr,
            nice: self.nice,
            oom_score_adj: self.oom_score_adjust,
            limits,
            umask: self.umask,
            directory: self.chdir,
        }
    }
}

fn nice(text: &str) -> Result<i32, String> {
    let expected = || "expected a number from -20 (served first) to 19 (served last)".to_owned();
    text.parse().ok().filter(|nice| (-20..=19).contains(nice)).ok_or_else(expected)
}

fn score(text: &str) -> Result<i32, String> {
    let expected = || "expected a number from -1000 (never killed) to 1000 (killed first)".to_owned();
    text.parse().ok().filter(|score| (-1000..=1000).contains(score)).ok_or_else(expected)
}

fn umask(text: &str) -> Result<u32, String> {
    let is_octal = !text.is_empty() && text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    let mask = u32::from_str_radix(text, 8).ok().filter(|mask| is_octal && *mask <= 0o777);
    mask.ok_or_else(|| "expected an octal number from 0 to 777, as in 027".into())
}

fn directory(text: &str) -> Result<PathBuf, String> {
    if text.starts_with('/') { Ok(text.into()) } else { Err("expected an absolute path".into()) }
}

/// `NAME=SOFT[:HARD]`; SOFT alone is for both.
pub(super) fn limit(text: &str) -> Result<Limit, String> {
    let expected = "expected NAME=SOFT[:HARD], as in nofile=1024:4096";
    let (name, values) = text.split_once('=').ok_or(expected)?;
    let resource = Resource::of_name(name).ok_or_else(|| {
        let names: Vec<&str> = RESOURCES.iter().map(|resource| resource.name).collect();
        format!("'{name}' is no resource: expected one of {}", names.join(", "))
    })?;
    let of = |text: &str| value(resource.unit, text).ok_or_else(|| expected_value(resource, text));
    let (soft, hard) = match values.split_once(':') {
        Some((soft, hard)) => (of(soft)?, of(hard)?),
        None => (of(values)?, of(values)?),
    };
    if soft > hard {
        return Err("the soft limit is above the hard one".into());
    }
    Ok(Limit { resource, soft, hard })
}

fn expected_value(resource: &Resource, text: &str) -> String {
    let what = match resource.unit {
        Unit::Number => "a number",
        Unit::Bytes => "a number of bytes, as in 512M (K, M, G, T: of 1024)",
        Unit::Seconds => "a number of seconds, or a duration as in 5min",
        Unit::Microseconds => "a number of microseconds, or a duration as in 200ms",
        Unit::Nice => "a nice value with its sign from -20 to +19, or a number from 0 to 40",
    };
    format!("'{text}' is no limit of {}: expected {what}, or infinity", resource.name)
}

/// A value as systemd reads it (systemd.exec(5), "Process Properties").
fn value(unit: Unit, text: &str) -> Option<u64> {
    if text == "infinity" {
        return Some(INFINITY);
    }
    // Not with a sign, which `parse` takes.
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.starts_with(|c: char| c.is_ascii_digit()));
    let value = match unit {
        Unit::Number => number(text),
        Unit::Bytes => size(text, &["", "K", "M", "G", "T", "P", "E"]),
        Unit::Seconds => number(text).or_else(|| {
            let span = duration(text).ok()?;
            Some(span.as_secs() + u64::from(span.subsec_nanos() > 0))
        }),
        Unit::Microseconds => number(text).or_else(|| duration(text).ok()?.as_micros().try_into().ok()),
        Unit::Nice => match text.as_bytes().first()? {
            b'-' => number(&text[1..]).filter(|below| *below <= 20).map(|below| 20 + below),
            b'+' => number(&text[1..]).filter(|above| *above <= 19).map(|above| 20 - above),
            _ => number(text).filter(|raw| *raw <= 40),
        },
    };
    value.filter(|value| *value < INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_as_systemd_reads_them() {
        let of = |text: &str| limit(text).map(|limit| (limit.soft, limit.hard));
        let both = |value| Ok((value, value));
        assert_eq!(of("nofile=1024"), both(1024));
        assert_eq!(of("nofile=1024:infinity"), Ok((1024, INFINITY)));
        assert_eq!(of("core=0"), both(0));
        assert_eq!(of("as=2G:1T"), Ok((2 << 30, 1 << 40)));
        assert_eq!(of("fsize=15E"), both(15 << 60));
        assert_eq!(of("cpu=90"), both(90));
        assert_eq!(of("cpu=1min 30s:1h"), Ok((90, 3600)));
        assert_eq!(of("cpu=1500ms"), both(2), "rounded up");
        assert_eq!(of("rttime=500"), both(500));
        assert_eq!(of("rttime=200ms:1s"), Ok((200_000, 1_000_000)));
        assert_eq!(of("nice=-20"), both(40));
        assert_eq!((of("nice=+1"), of("nice=+0")), (both(19), both(20)));
        assert_eq!(of("nice=+19:-0"), Ok((1, 20)));
        assert_eq!(of("nice=0:40"), Ok((0, 40)));
        let bad = [
            "",
            "nofile",
            "nofile=",
            "=1",
            "NOFILE=1",
            "disk=1",
            "nofile=1:",
            "nofile=:1",
            "nofile=2:1",
            "nofile=1:2:3",
            "nofile=-1",
            "nofile=+1",
            "nofile=1K",
            "nofile=18446744073709551615",
            "nofile=infinity:1",
            "as=1k",
            "as=G",
            "as=16E",
            "as=1.5G",
            "as=1 G",
            "as=1GB",
            "cpu=-1",
            "cpu=x",
            "rttime=1x",
            "nice=-21",
            "nice=+20",
            "nice=41",
            "nice=--1",
            "nice=",
        ];
        for bad in bad {
            assert!(limit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn borders_of_the_others() {
        assert_eq!(["-20", "0", "19"].map(nice), [Ok(-20), Ok(0), Ok(19)]);
        assert_eq!(["-1000", "0", "1000"].map(score), [Ok(-1000), Ok(0), Ok(1000)]);
        assert_eq!(["0", "0777", "27"].map(umask), [Ok(0), Ok(0o777), Ok(0o27)]);
        for bad in ["", "-21", "20", "x", "1.5"] {
            assert!(nice(bad).is_err(), "{bad}");
        }
        for bad in ["", "-1001", "1001", "x"] {
            assert!(score(bad).is_err(), "{bad}");
        }
        for bad in ["", "8", "1000", "-1", "+7", "0x7", "u=rwx", "07 "] {
            assert!(umask(bad).is_err(), "{bad}");
        }
        assert!(directory("here").is_err() && directory("").is_err());
    }
}
