//! What a value may be; a mistake is told in words that say what to type.
#![forbid(unsafe_code)]

use crate::reply::{Choice, MAX_FILE};
use crate::sys::plain;
use std::fs::{self, File};
use std::io::Read;
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

pub(super) fn per_listener(text: &str) -> Result<(Option<String>, u32), String> {
    let (name, number) = match text.rsplit_once('=') {
        Some((name, number)) => (Some(name.to_owned()), number),
        None => (None, text),
    };
    Ok((name, self::number(number)?))
}

/// On or off, in systemd's words (systemd.syntax(7)).
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Ok(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Ok(false),
        _ => Err("expected true or false".into()),
    }
}

/// A limit.
pub(super) fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("expected a number from 0 to {}, where 0 is no limit", u32::MAX))
}

pub(super) fn backlog(text: &str) -> Result<i32, String> {
    let expected = || format!("expected a number from 0 to {}", i32::MAX);
    text.parse().ok().filter(|backlog| *backlog >= 0).ok_or_else(expected)
}

pub(super) fn load(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|load: &f64| load.is_finite() && *load > 0.0).ok_or("expected a number above 0".into())
}

/// A bare number is seconds, as in unit files (systemd.time(7)); the rest is humantime's.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
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
pub(super) fn limit(text: &str) -> Result<Duration, String> {
    duration(text).map_err(|why| why + ", where 0 is no limit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_in_unit_files() {
        assert_eq!(duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("5min 20s"), Ok(Duration::from_secs(320)));
        for bad in ["", "-1", "5x", "99999999999999999999", "20y"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_and_names() {
        assert_eq!(per_listener("3"), Ok((None, 3)));
        assert_eq!(per_listener("a=b=3"), Ok((Some("a=b".into()), 3)));
        for bad in ["", "x", "a=", "a=-1", "4294967296"] {
            assert!(per_listener(bad).is_err(), "{bad}");
        }
        for bad in ["0", "-1", "nan", "inf", "x"] {
            assert!(load(bad).is_err(), "{bad}");
        }
    }
}
