//! Limits in the words of sockcap's options: `max-connections=8` to what Set takes, and back to what a unit's drop-in has.
#![forbid(unsafe_code)]

use crate::cli::values::{self, RateLimit};
use crate::cli::variables::nearest;
use crate::observe::snapshot::{Limits, ListenerLimit, Rate, SourceLimit};
use crate::policy::network::Prefixes;
use std::time::Duration;

/// What can be changed: the option, and the field of the interface.
const SETTABLE: [(&str, &str); 9] = [
    ("max-connections", "maxConnections"),
    ("max-per-listener", "maxPerListener"),
    ("max-per-source", "maxPerSource"),
    ("max-rate", "maxRate"),
    ("max-rate-per-source", "maxRatePerSource"),
    ("reserved", "reserved"),
    ("load-average", "loadAverage"),
    ("max-wait", "maxWaitUSec"),
    ("max-waiting", "maxWaiting"),
];

/// The option of a field; what is none stays as it is.
pub fn option_of(field: &str) -> &str {
    SETTABLE.iter().find(|(_, name)| *name == field).map_or(field, |(option, _)| option)
}

/// What `words` ask for, each `NAME=VALUE`, of a daemon with these listeners.
///
/// # Errors
/// One line that says what to write.
pub fn parse(words: &[String], listeners: &[String]) -> Result<Limits, String> {
    let mut limits = Limits::default();
    for word in words {
        let (name, value) = word.split_once('=').ok_or_else(|| {
            format!("'{word}' is not NAME=VALUE, as in max-connections=8; `sockcapctl set --help` lists the names")
        })?;
        let name = name.trim_start_matches('-');
        let wrong = |why: String| match value {
            "" => format!("{name} needs a value: {why}"),
            value => format!("invalid value '{value}' for {name}: {why}"),
        };
        let once = |is_given: bool| match is_given {
            true => Err(format!("{name} is given twice: leave one out")),
            false => Ok(()),
        };
        match name {
            "max-connections" => {
                once(limits.max_connections.is_some())?;
                limits.max_connections = Some(values::number(value).map_err(wrong)?);
            }
            "max-per-listener" => {
                let all = limits.max_per_listener.get_or_insert_default();
                for limit in per_listener(value, listeners).map_err(wrong)? {
                    all.retain(|other| other.listener != limit.listener);
                    all.push(limit);
                }
            }
            "max-per-source" => {
                let level = per_source(value).map_err(wrong)?;
                limits.max_per_source.get_or_insert_default().push(level);
            }
            "max-rate" => {
                once(limits.max_rate.is_some())?;
                limits.max_rate = Some(rate(value).map_err(wrong)?);
            }
            "max-rate-per-source" => {
                once(limits.max_rate_per_source.is_some())?;
                limits.max_rate_per_source = Some(rate(value).map_err(wrong)?);
            }
            "reserved" => {
                once(limits.reserved.is_some())?;
                limits.reserved = Some(values::count(value).map_err(wrong)?);
            }
            "load-average" => {
                once(limits.load_average.is_some())?;
                let is_off = value == "0";
                let load = if is_off { Ok(0.0) } else { values::load(value) };
                limits.load_average = Some(load.map_err(|why| wrong(why + ", or 0 for no limit"))?);
            }
            "max-wait" => {
                once(limits.max_wait_usec.is_some())?;
                limits.max_wait_usec = Some(usec(values::limit(value).map_err(wrong)?));
            }
            "max-waiting" => {
                once(limits.max_waiting.is_some())?;
                limits.max_waiting = Some(values::number(value).map_err(wrong)?);
            }
            _ => return Err(unknown(name)),
        }
    }
    if let Some(levels) = &mut limits.max_per_source {
        levels.retain(|level| level.max > 0);
    }
    Ok(limits)
}

fn unknown(name: &str) -> String {
    let names = || SETTABLE.iter().map(|(option, _)| (*option).to_owned());
    match nearest(name, "", names()) {
        Some(meant) => format!("'{name}' cannot be set; did you mean {meant}?"),
        None => format!("'{name}' cannot be set; what can: {}", names().collect::<Vec<_>>().join(", ")),
    }
}

fn per_listener(value: &str, listeners: &[String]) -> Result<Vec<ListenerLimit>, String> {
    let (name, max) = values::per_listener(value)?;
    let Some(name) = name else {
        return Ok(listeners.iter().map(|listener| ListenerLimit { listener: listener.clone(), max }).collect());
    };
    match listeners.contains(&name) {
        true => Ok(vec![ListenerLimit { listener: name, max }]),
        false => Err(format!("no listener has this name; there are: {}", listeners.join(", "))),
    }
}

/// Without a prefix that of `--source-prefix`, which the daemon knows.
fn per_source(value: &str) -> Result<SourceLimit, String> {
    let (max, prefixes) = values::per_source(value)?;
    let Prefixes { v4, v6 } = prefixes.unwrap_or(Prefixes { v4: None, v6: None });
    Ok(SourceLimit { max, ipv4_prefix: v4, ipv6_prefix: v6 })
}

fn rate(value: &str) -> Result<Rate, String> {
    let RateLimit(rate) = values::rate(value)?;
    let Some((count, per, burst)) = rate.map(crate::policy::limit::gcra::Rate::parts) else {
        return Ok(Rate::default());
    };
    match usec(per) {
        per_usec if Duration::from_micros(per_usec) == per => Ok(Rate { count, per_usec, burst }),
        _ => Err("DURATION is in whole microseconds".to_owned()),
    }
}

/// Rounded up, so that what is something does not become nothing.
fn usec(span: Duration) -> u64 {
    span.as_nanos().div_ceil(1000) as u64 // at most ten years
}

/// Each limit as its option takes it: `("max-rate", "10/1s:20")`. A limit that is none is `0`.
pub fn told(limits: &Limits) -> Vec<(&'static str, String)> {
    let number = |max: Option<u32>| max.map(|max| max.to_string());
    let per_listener = |all: &Vec<ListenerLimit>| {
        all.iter().map(|limit| format!("{}={}", limit.listener, limit.max)).collect::<Vec<_>>().join(" ")
    };
    let per_source = |all: &Vec<SourceLimit>| match all.is_empty() {
        true => "0".to_owned(),
        false => all.iter().map(level).collect::<Vec<_>>().join(" "),
    };
    let all = [
        ("max-connections", number(limits.max_connections)),
        ("max-per-listener", limits.max_per_listener.as_ref().map(per_listener)),
        ("max-per-source", limits.max_per_source.as_ref().map(per_source)),
        ("max-rate", limits.max_rate.as_ref().map(words_of_rate)),
        ("max-rate-per-source", limits.max_rate_per_source.as_ref().map(words_of_rate)),
        ("reserved", number(limits.reserved)),
        ("load-average", limits.load_average.map(|load| load.to_string())),
        ("max-wait", limits.max_wait_usec.map(duration)),
        ("max-waiting", number(limits.max_waiting)),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Whether a limit, as [`told`] has it, limits anything.
pub fn is_limit(value: &str) -> bool {
    !value.is_empty() && value.split(' ').any(|part| part.rsplit('=').next() != Some("0"))
}

fn level(level: &SourceLimit) -> String {
    let prefixes = Prefixes { v4: level.ipv4_prefix, v6: level.ipv6_prefix };
    format!("{}@{prefixes}", level.max)
}

fn words_of_rate(rate: &Rate) -> String {
    match rate.count {
        0 => "0".to_owned(),
        count if count == rate.burst => format!("{count}/{}", duration(rate.per_usec)),
        count => format!("{count}/{}:{}", duration(rate.per_usec), rate.burst),
    }
}

/// `1min30s`, without a blank, so that it is one word of a variable.
fn duration(usec: u64) -> String {
    match usec {
        0 => "0".to_owned(),
        usec => humantime::format_duration(Duration::from_micros(usec)).to_string().replace(' ', ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Limits, String> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        parse(&words, &["a".to_owned(), "b".to_owned()])
    }

    /// Each word that is told is understood again, and means the same.
    #[test]
    fn limits_there_and_back() {
        let all = [
            "max-connections=8",
            "max-per-listener=a=4",
            "max-per-source=8@32,64",
            "max-rate=10/1s:20",
            "max-rate-per-source=10/1m",
            "reserved=2",
            "load-average=4.5",
            "max-wait=1m30s",
            "max-waiting=0",
        ];
        let limits = parsed(&all).unwrap();
        let told: Vec<_> = told(&limits).iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(told, all);
        assert_eq!(all.map(|word| word.split('=').next().unwrap()), SETTABLE.map(|(option, _)| option));
        assert_eq!(limits.max_rate, Some(Rate { count: 10, per_usec: 1_000_000, burst: 20 }));
        assert_eq!(limits.max_wait_usec, Some(90_000_000));
    }

    #[test]
    fn several_of_one_kind() {
        let limits =
            parsed(&["max-per-listener=3", "max-per-listener=b=4", "--max-per-source=8@32", "max-per-source=64@24,48"]);
        let limits = limits.unwrap();
        let told: Vec<_> = told(&limits).into_iter().map(|(_, value)| value).collect();
        assert_eq!(told, ["a=3 b=4", "8@32 64@24,48"]);
        assert_eq!(parsed(&["max-per-source=0"]).unwrap().max_per_source, Some(vec![]));
        assert_eq!(parsed(&["max-rate=0"]).unwrap().max_rate, Some(Rate::default()));
        assert_eq!(parsed(&["max-wait=1ns"]).unwrap().max_wait_usec, Some(1));
        assert!(parsed(&["max-rate=1/1500ns"]).is_err());
        assert_eq!(parsed(&["load-average=0"]).unwrap().load_average, Some(0.0));
    }

    /// Which sources a number without a prefix is about is known to the daemon alone.
    #[test]
    fn no_prefix_is_left_to_the_daemon() {
        let limits = parsed(&["max-per-source=8"]).unwrap();
        let told = serde_json::to_value(limits.max_per_source).unwrap();
        assert_eq!(told, serde_json::json!([{ "max": 8, "ipv4Prefix": null, "ipv6Prefix": null }]));
    }

    #[test]
    fn mistakes_say_what_to_write() {
        let why = |word: &str| parsed(&[word]).unwrap_err();
        assert!(why("max-connections").contains("is not NAME=VALUE"));
        assert_eq!(
            why("max-connections=x"),
            "invalid value 'x' for max-connections: expected a number from 0 to 4294967295, where 0 is no limit"
        );
        assert!(why("max-conections=8").ends_with("did you mean max-connections?"));
        assert!(why("time-limit=8").contains("max-wait, max-waiting"));
        assert!(why("max-per-listener=c=1").ends_with("there are: a, b"));
        for bad in
            ["max-rate=", "max-rate=1", "load-average=-1", "max-wait=x", "reserved=-1", "max-per-source=3@129", "=5"]
        {
            assert!(parsed(&[bad]).is_err(), "{bad}");
        }
        assert_eq!(parsed(&["reserved=1", "reserved=2"]).unwrap_err(), "reserved is given twice: leave one out");
    }

    #[test]
    fn what_limits_nothing() {
        for none in ["", "0", "a=0 b=0"] {
            assert!(!is_limit(none), "{none}");
        }
        for some in ["1", "10/1s", "a=0 b=1", "0.5"] {
            assert!(is_limit(some), "{some}");
        }
    }
}
