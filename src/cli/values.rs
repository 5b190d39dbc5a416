//! What a value may be; a mistake is told in words that say what to type.
#![forbid(unsafe_code)]

use crate::listen::place::Place;
use crate::policy::limit::INFOS;
use crate::policy::limit::gcra::Rate;
use crate::policy::limit::rule::{Outcome, Penalty};
use crate::policy::network::Prefixes;
use crate::policy::resource::Resource;
use crate::reply::{Choice, MAX_FILE};
use crate::sys::plain;
use std::fs::{self, File};
use std::io::Read;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

pub(super) fn busy_reply(text: &str) -> Result<Choice, String> {
    let Some(path) = text.strip_prefix("file:") else { return text.parse() };
    let cannot = |error| format!("cannot read '{path}': {}", plain(&error));
    let about = fs::metadata(path).map_err(cannot)?;
    if !about.is_file() {
        return Err(format!("'{path}' is not a regular file"));
    }
    // One byte more than is allowed is enough to know.
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).map_err(cannot)?;
    Choice::file(path, bytes)
}

/// The path of a socket that we make; absolute, since sockcapctl is elsewhere.
pub(super) fn control(text: &str) -> Result<PathBuf, String> {
    match text.parse() {
        Ok(Place::Path(path)) => Ok(path),
        Err(why) if text.starts_with('/') => Err(why),
        _ => Err("expected an absolute path of at most 107 bytes, as in /run/sockcap/NAME/control.sock".into()),
    }
}

pub(crate) fn per_listener(text: &str) -> Result<(Option<String>, u32), String> {
    let (name, number) = match text.rsplit_once('=') {
        Some(("", _)) => return Err("a name is missing before the '='; expected N or NAME=N".into()),
        Some((name, number)) => (Some(name.to_owned()), number),
        None if text.contains(|letter: char| letter.is_alphabetic()) => return Err("expected N or NAME=N".into()),
        None => (None, text),
    };
    Ok((name, self::number(number)?))
}

/// `N`, or `N@PREFIX` for networks of their own; 0 is no limit. One number after the `@` is of the family that it can only be
/// meant for: up to 32 of IPv4, above of IPv6; one after a comma is of IPv6.
pub(crate) fn per_source(text: &str) -> Result<(u32, Option<Prefixes>), String> {
    let (max, prefixes) = match text.split_once('@') {
        None => (text, None),
        Some((max, bits)) if bits.starts_with(',') => {
            let v6 = self::bits(&bits[1..], 128).ok_or("expected a prefix of IPv6 from 0 to 128, as in 40@,32")?;
            (max, Some(Prefixes { v4: None, v6: Some(v6) }))
        }
        Some((max, bits)) if bits.contains(',') => (max, Some(self::prefixes(bits)?)),
        Some((max, bits)) => {
            let bits = self::bits(bits, 128)
                .ok_or("expected N@PREFIX with a prefix from 0 to 128, as in 40@48 or 40@24,48")?;
            let is_v4 = bits <= 32;
            (max, Some(Prefixes { v4: is_v4.then_some(bits), v6: (!is_v4).then_some(bits) }))
        }
    };
    Ok((number(max)?, prefixes))
}

/// Of a prefix, up to so many.
fn bits(text: &str, max: u8) -> Option<u8> {
    text.parse().ok().filter(|bits| *bits <= max)
}

/// The prefix of each family.
pub(crate) fn prefixes(text: &str) -> Result<Prefixes, String> {
    text.split_once(',')
        .and_then(|(v4, v6)| Some(Prefixes { v4: Some(bits(v4, 32)?), v6: Some(bits(v6, 128)?) }))
        .ok_or_else(|| "expected the bits of an IPv4 and of an IPv6 prefix, as in 32,64".into())
}

/// The limits of `--max-pressure`, in percent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pressures(pub(super) Vec<(Resource, f64)>);

pub(super) fn pressure(text: &str) -> Result<Pressures, String> {
    let expected = || {
        "expected some of cpu=P, memory=P and io=P with percentages above 0 up to 100, as in memory=10,io=30".to_owned()
    };
    let mut limits: Vec<(Resource, f64)> = Vec::new();
    for word in text.split(',') {
        let (name, percent) = word.split_once('=').ok_or_else(expected)?;
        let resource = Resource::ALL.into_iter().find(|resource| resource.name() == name).ok_or_else(expected)?;
        let percent = percent.strip_suffix('%').unwrap_or(percent).parse::<f64>().ok();
        let percent = percent.filter(|percent| *percent > 0.0 && *percent <= 100.0).ok_or_else(expected)?;
        if limits.iter().any(|(other, _)| *other == resource) {
            return Err(format!("{name} is given twice: leave one out"));
        }
        limits.push((resource, percent));
    }
    Ok(Pressures(limits))
}

/// What `--dry-run` is for, by the names of options.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DryRun(pub(super) Vec<&'static str>);

/// Limits by the names of their options, or all but that on all connections.
pub(super) fn dry_run(text: &str) -> Result<DryRun, String> {
    let names = || INFOS.iter().filter_map(|info| info.option);
    if let Ok(is_on) = switch(text) {
        return Ok(DryRun(names().filter(|name| is_on && *name != "max-connections").collect()));
    }
    let one = |word: &str| {
        let word = word.trim_start_matches("--");
        names().find(|name| *name == word).ok_or_else(|| {
            format!("'{word}' is no limit: expected some of {}, or yes", names().collect::<Vec<_>>().join(","))
        })
    };
    text.split(',').map(one).collect::<Result<_, _>>().map(DryRun)
}

/// A number of bytes with one of these units, each of 1024 times the one before.
pub(super) fn size(text: &str, units: &[&str]) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let exponent = units.iter().position(|unit| *unit == &text[digits.len()..])?;
    // Not with a sign, which `parse` takes.
    let number = digits.parse::<u64>().ok().filter(|_| digits.starts_with(|c: char| c.is_ascii_digit()));
    number?.checked_mul(1 << (10 * exponent))
}

/// A rate, or none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RateLimit(pub(crate) Option<Rate>);

/// `N/DURATION[:BURST]`, as in `10/1min` and `10/min:3`.
pub(crate) fn rate(text: &str) -> Result<RateLimit, String> {
    if text == "0" {
        return Ok(RateLimit(None));
    }
    let parts = || {
        let (count, rest) = text.split_once('/')?;
        let (per, burst) = match rest.rsplit_once(':') {
            Some((per, burst)) => (per, Some(burst.parse().ok()?)),
            None => (rest, None),
        };
        let one = if per.starts_with(|c: char| c.is_ascii_alphabetic()) { "1" } else { "" };
        Some((count.parse().ok()?, duration(&format!("{one}{per}")).ok()?, burst))
    };
    let (count, per, burst) = parts().ok_or("expected N/DURATION[:BURST], as in 10/1min, or 0 for no limit")?;
    Rate::new(count, per, burst).map(|rate| RateLimit(Some(rate))).map_err(str::to_owned)
}

/// What `--penalty` is for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Penalized(pub(super) Vec<Penalty>);

/// What a plain sshd(8) asks for its own sessions' exit statuses (srclimit.h and servconf.c of OpenSSH 9.9 to 10.5), but for 255: its
/// listener knows who has logged in, and asks 1 s of a client that has gone before (`noauth`). Of an ordinary login the end is 255, too.
const SSHD: &str = "3=10s,4=90s,5=5s,6=10s,7=5s";

/// `STATUS=DURATION[:always],...`, or a preset's name; of two for one end the later one.
pub(super) fn penalties(text: &str) -> Result<Penalized, String> {
    let mut of: Vec<Penalty> = Vec::new();
    if text == "0" {
        return Ok(Penalized(of));
    }
    let words = text.split(',').flat_map(|word| if word == "sshd" { SSHD } else { word }.split(','));
    for penalty in words.map(penalty) {
        let penalty = penalty?;
        of.retain(|other| other.outcome != penalty.outcome);
        of.push(penalty);
    }
    of.retain(|penalty| !penalty.span.is_zero());
    Ok(Penalized(of))
}

fn penalty(word: &str) -> Result<Penalty, String> {
    let parts = || {
        let (outcome, price) = word.split_once('=')?;
        let (span, always) = price.strip_suffix(":always").map_or((price, false), |span| (span, true));
        let outcome = match outcome {
            "signal" => Outcome::Signal,
            "time-limit" => Outcome::TimeLimit,
            "oom" => Outcome::Oom,
            status => Outcome::Status(status.parse().ok()?),
        };
        Some(Penalty { outcome, span: duration(span).ok()?, always })
    };
    parts().ok_or_else(|| {
        format!("'{word}' is not STATUS=DURATION[:always] with a STATUS of 0 to 255, signal, time-limit or oom, nor the preset sshd")
    })
}

/// A number of entries.
pub(super) fn sources(text: &str) -> Result<u32, String> {
    const MOST: u32 = 1 << 24;
    let expected = || format!("expected a number from 1 to {MOST}; each takes some 35 bytes");
    text.parse().ok().filter(|max| (1..=MOST).contains(max)).ok_or_else(expected)
}

/// On or off, in systemd's words (systemd.syntax(7)).
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Ok(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Ok(false),
        _ => Err("expected true or false".into()),
    }
}

/// Among so many.
pub(super) fn share(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| format!("expected a number from 1 to {}", u32::MAX))
}

/// A number that is no limit.
pub(crate) fn count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("expected a number from 0 to {}", u32::MAX))
}

/// A limit.
pub(crate) fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("expected a number from 0 to {}, where 0 is no limit", u32::MAX))
}

pub(super) fn backlog(text: &str) -> Result<i32, String> {
    let expected = || format!("expected a number from 0 to {}", i32::MAX);
    text.parse().ok().filter(|backlog| *backlog >= 0).ok_or_else(expected)
}

pub(crate) fn load(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|load: &f64| load.is_finite() && *load > 0.0).ok_or("expected a number above 0".into())
}

/// A bare number is seconds, as in unit files (systemd.time(7)); the rest is humantime's.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
    let span = match text.parse::<u32>() {
        Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
        Err(_) => humantime::parse_duration(text),
    };
    span.ok()
        .filter(|span| *span <= MAX_DURATION)
        .ok_or_else(|| "expected a duration such as 30s, 5min or '1h 30min', at most ten years".into())
}

/// A duration that bounds something.
pub(crate) fn limit(text: &str) -> Result<Duration, String> {
    duration(text).map_err(|why| why + ", where 0 is no limit")
}

#[cfg(test)]
mod tests;
