//! What a value may be; a mistake is told in words that say what to type.
#![forbid(unsafe_code)]

use crate::policy::limit::LIMITS;
use crate::policy::network::Prefixes;
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
        Some(("", _)) => return Err("a name is missing before the '='; expected N or NAME=N".into()),
        Some((name, number)) => (Some(name.to_owned()), number),
        None if text.contains(|letter: char| letter.is_alphabetic()) => return Err("expected N or NAME=N".into()),
        None => (None, text),
    };
    Ok((name, self::number(number)?))
}

/// `N`, or `N@PREFIX` for networks of their own; 0 is no limit. One number after the `@` is of the family that it can only be
/// meant for: up to 32 of IPv4, above of IPv6.
pub(super) fn per_source(text: &str) -> Result<(u32, Option<Prefixes>), String> {
    let (max, prefixes) = match text.split_once('@') {
        None => (text, None),
        Some((max, bits)) if bits.contains(',') => (max, Some(self::prefixes(bits)?)),
        Some((max, bits)) => {
            let bits = bits.parse::<u8>().ok().filter(|bits| *bits <= 128);
            let bits = bits.ok_or("expected N@PREFIX with a prefix from 0 to 128, as in 40@48 or 40@24,48")?;
            let is_v4 = bits <= 32;
            (max, Some(Prefixes { v4: is_v4.then_some(bits), v6: (!is_v4).then_some(bits) }))
        }
    };
    Ok((number(max)?, prefixes))
}

/// The prefix of each family.
pub(super) fn prefixes(text: &str) -> Result<Prefixes, String> {
    let bits = |text: &str, max: u8| text.parse::<u8>().ok().filter(|bits| *bits <= max);
    text.split_once(',')
        .and_then(|(v4, v6)| Some(Prefixes { v4: Some(bits(v4, 32)?), v6: Some(bits(v6, 128)?) }))
        .ok_or_else(|| "expected the bits of an IPv4 and of an IPv6 prefix, as in 32,64".into())
}

/// What `--dry-run` is for, by the names of options.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DryRun(pub(super) Vec<&'static str>);

/// Limits by the names of their options, or all but that on all connections.
pub(super) fn dry_run(text: &str) -> Result<DryRun, String> {
    let names = || LIMITS.iter().filter_map(|kind| kind.info.option);
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

/// On or off, in systemd's words (systemd.syntax(7)).
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Ok(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Ok(false),
        _ => Err("expected true or false".into()),
    }
}

/// A number that is no limit.
pub(super) fn count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("expected a number from 0 to {}", u32::MAX))
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
    fn sources_and_their_prefixes() {
        let of = |v4, v6| Some(Prefixes { v4, v6 });
        assert_eq!(per_source("3"), Ok((3, None)));
        assert_eq!(per_source("40@48"), Ok((40, of(None, Some(48)))));
        assert_eq!(per_source("40@32"), Ok((40, of(Some(32), None))));
        assert_eq!(per_source("40@33"), Ok((40, of(None, Some(33)))));
        assert_eq!(per_source("40@24,48"), Ok((40, of(Some(24), Some(48)))));
        assert_eq!(per_source("0@128"), Ok((0, of(None, Some(128)))));
        for bad in ["", "x", "-1", "3@", "3@129", "3@33,64", "3@24,129", "3@24,48,1", "@48", "4294967296"] {
            assert!(per_source(bad).is_err(), "{bad}");
        }
        assert_eq!(prefixes("0,0"), Ok(Prefixes { v4: Some(0), v6: Some(0) }));
        for bad in ["", "32", "33,64", "32,129", "32,64,1", "-1,64"] {
            assert!(prefixes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_dry_run_spares_the_total_unless_it_is_named() {
        let named = |text: &str| dry_run(text).map(|DryRun(all)| all);
        assert_eq!(named("no"), Ok(vec![]));
        let all = named("yes").unwrap();
        assert_eq!((all.len(), all.contains(&"max-connections")), (LIMITS.len() - 1, false));
        assert_eq!(named("max-connections,max-per-source"), Ok(vec!["max-connections", "max-per-source"]));
        for bad in ["", "max-wait", "max-connections,", "load"] {
            assert!(dry_run(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_and_names() {
        assert_eq!(per_listener("3"), Ok((None, 3)));
        assert_eq!(per_listener("a=b=3"), Ok((Some("a=b".into()), 3)));
        for bad in ["", "x", "a=", "a=-1", "=5", "a:5", "4294967296"] {
            assert!(per_listener(bad).is_err(), "{bad}");
        }
        for bad in ["0", "-1", "nan", "inf", "x"] {
            assert!(load(bad).is_err(), "{bad}");
        }
    }
}
