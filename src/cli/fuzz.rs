//! The command line, its values one by one, and the names of variables.
#![forbid(unsafe_code)]

use super::resources::{self, Bytes, CpuTime, UserPool};
use super::values::{self, Penalized, Pressures, RateLimit};
use super::*;
use crate::fuzzing::bytes::{Choices, is_plain_line};
use crate::policy::limit::rule::Penalties;
use std::time::Duration;

/// `KIND TEXT`: a command line, a word in each line of the text; the name of a variable; or a value of some option.
pub(crate) fn options(data: &[u8]) {
    let mut from = Choices(data);
    let kind = from.byte();
    let text = String::from_utf8_lossy(from.0);
    match kind {
        b'-' => command_line(&text),
        b'$' => {
            let said = variables::check(&Args::command(), [OsString::from(format!("SOCKCAP_{text}"))].into_iter());
            assert!(said.is_err() || is_plain_line(&text));
        }
        _ => value(&text),
    }
}

/// A command line that is taken has settings that can be true.
fn command_line(text: &str) {
    // A file of which a reply would be made is not for a fuzzer to choose.
    if text.contains("file:") || text.contains("help") {
        return;
    }
    let words = std::iter::once("sockcap").chain(text.split('\n')).map(OsString::from);
    let settings = match parse(words) {
        Ok(Task::Run(settings) | Task::Check(settings)) => settings,
        Ok(Task::Print(text)) => return assert!(!text.is_empty()),
        Err(line) => return assert!(!line.is_empty()),
    };
    assert!(settings.reserved == 0 || settings.reserved < settings.max_connections && !settings.exempt.is_empty());
    assert!(settings.backlog >= 0 && (1..=1 << 24).contains(&settings.max_sources));
    assert!(settings.load_average.is_none_or(|load| load.is_finite() && load > 0.0));
    if let Some((first, last)) = settings.uid_pool {
        assert!(first > 0 && first <= last && (1..=last - first + 1).contains(&settings.max_connections));
    }
    let spans = [settings.max_wait, settings.time_limit, settings.idle_exit].into_iter().flatten();
    for span in spans.chain([settings.drain_timeout, settings.kill_grace]) {
        assert!(span <= TEN_YEARS, "{span:?}");
    }
}

const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What is taken is what is promised, and is taken again as it is shown.
fn value(text: &str) {
    if let Ok(RateLimit(Some(rate))) = values::rate(text) {
        let again = values::rate(&rate.to_string());
        assert_eq!(again, Ok(RateLimit(Some(rate))), "{rate}");
        assert!(rate.interval() > Duration::ZERO && rate.tolerance() <= Duration::from_secs(366 * 86_400));
    }
    if let Ok(span) = values::duration(text) {
        assert!(span <= TEN_YEARS);
        assert_eq!(values::duration(&humantime::format_duration(span).to_string()), Ok(span));
    }
    if let Ok(Penalized(of)) = values::penalties(text) {
        let shown = Penalties { of, ..Penalties::default() }.to_string();
        let again = values::penalties(if shown.is_empty() { "0" } else { &shown });
        let again = again.map(|Penalized(of)| Penalties { of, ..Penalties::default() }.to_string());
        assert_eq!(again, Ok(shown));
    }
    if let Ok(network) = text.parse::<Network>() {
        assert_eq!(network.to_string().parse(), Ok(network), "{network}");
        assert!(network.contains(network.base()), "{network}");
    }
    if let Ok((_, Some(prefixes))) = values::per_source(text) {
        assert!(prefixes.v4.or(prefixes.v6).is_some());
        assert!(prefixes.v4.is_none_or(|bits| bits <= 32) && prefixes.v6.is_none_or(|bits| bits <= 128));
        assert_eq!(values::per_source(&format!("1@{prefixes}")), Ok((1, Some(prefixes))));
    }
    if let Ok(Pressures(all)) = values::pressure(text) {
        assert!(!all.is_empty() && all.iter().all(|(_, percent)| *percent > 0.0 && *percent <= 100.0));
    }
    if let Ok(Bytes(Some(bytes))) = resources::bytes(text) {
        assert!(bytes > 0, "no memory at all");
    }
    if let Ok(CpuTime(Some(max))) = resources::cpu_max(text) {
        assert!(max.quota_usec >= 1000 && (1000..=1_000_000).contains(&max.period_usec), "{max:?}");
        if let Some((Ok(quota), _)) = text.split_once('/').map(|(quota, rest)| (humantime::parse_duration(quota), rest))
        {
            assert_eq!(u128::from(max.quota_usec), quota.as_micros());
        }
    }
    if let Ok(UserPool(first, last)) = resources::uid_pool(text) {
        assert!((1..=last).contains(&first) && last < u32::MAX);
    }
    if let Ok(limit) = process::limit(text) {
        assert!(limit.soft <= limit.hard);
        assert_eq!(
            process::limit(&limit.to_string()).map(|again| (again.soft, again.hard)),
            Ok((limit.soft, limit.hard))
        );
    }
    if let Ok((Some(name), _)) = values::per_listener(text) {
        assert!(!name.is_empty() && text.starts_with(&name));
    }
    if let Ok(place) = text.parse::<Place>() {
        match &place {
            Place::Path(path) => assert!((2..108).contains(&path.as_os_str().len())),
            Place::Abstract(name) => assert!((1..107).contains(&name.len())),
            _ => {}
        }
    }
    if let Ok(path) = values::control(text) {
        assert!(path.is_absolute());
    }
    let _ = (values::dry_run(text), values::sources(text), values::switch(text), connection::isolate(text));
}
