//! Other limits for a running daemon: what may be set, judged as the same words would be on the command line.
#![forbid(unsafe_code)]

use super::settings::Settings;
use crate::observe::snapshot::{self, Limits, ListenerLimit, SourceLimit};
use crate::policy::gate::WhenFull;
use crate::policy::limit::gcra::Rate;
use crate::policy::network::Prefixes;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::time::Duration;

/// Why a limit cannot be set so: its field, and the reason.
#[derive(Debug, PartialEq)]
pub(super) struct NotSettable(pub(super) String, pub(super) String);

type Result<T> = std::result::Result<T, NotSettable>;

fn not(field: &str, reason: impl Into<String>) -> NotSettable {
    NotSettable(field.into(), reason.into())
}

/// The field's value, if it is given and not null.
fn value<T: for<'a> Deserialize<'a>>(wanted: &Map<String, Value>, field: &str, expected: &str) -> Result<Option<T>> {
    match wanted.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => T::deserialize(value).map(Some).map_err(|_| not(field, format!("expected {expected}"))),
    }
}

/// These settings with other limits, for listeners of these names; all that is wanted, or nothing.
pub(super) fn apply(wanted: &Map<String, Value>, settings: &Settings, names: &[&str]) -> Result<Settings> {
    let count = "a number from 0 to 4294967295; 0 is no limit";
    let mut new = settings.clone();
    known_only(wanted)?;
    if let Some(max) = value(wanted, "maxConnections", count)? {
        new.max_connections = max;
    }
    if let Some(limits) = value::<Vec<ListenerLimit>>(wanted, "maxPerListener", "a list of listener and max")? {
        for ListenerLimit { listener, max } in limits {
            per_listener(&mut new, names, listener, max)?;
        }
    }
    if let Some(levels) = value::<Vec<SourceLimit>>(wanted, "maxPerSource", "a list of max, ipv4Prefix, ipv6Prefix")? {
        new.max_per_source = per_source(&levels, settings.source_prefix)?;
    }
    let as_rate = "count, perUSec and burst";
    if let Some(wanted) = value(wanted, "maxRate", as_rate)? {
        new.max_rate = rate("maxRate", wanted)?;
    }
    if let Some(wanted) = value(wanted, "maxRatePerSource", as_rate)? {
        new.max_rate_per_source = rate("maxRatePerSource", wanted)?;
    }
    if let Some(reserved) = value(wanted, "reserved", count)? {
        new.reserved = reserved;
    }
    if let Some(below) = value::<f64>(wanted, "loadAverage", "a number; 0 is no limit")? {
        if !below.is_finite() || below < 0.0 {
            return Err(not("loadAverage", "expected a number that is not negative"));
        }
        new.load_average = Some(below).filter(|below| *below > 0.0);
    }
    if let Some(usec) = value(wanted, "maxWaitUSec", count)? {
        new.max_wait = Some(Duration::from_micros(usec)).filter(|span| !span.is_zero());
    }
    if let Some(max) = value(wanted, "maxWaiting", count)? {
        new.max_waiting = max;
    }
    if let Some((first, last)) =
        new.uid_pool.filter(|(first, last)| new.max_connections == 0 || new.max_connections > last - first + 1)
    {
        return Err(not(
            "maxConnections",
            format!("expected a number from 1 to {}, as many as --uid-pool has users", last - first + 1),
        ));
    }
    together(wanted, &new)?;
    Ok(new)
}

/// These limits as the command line has them, as far as they are wanted.
pub(super) fn words(wanted: &Map<String, Value>, new: &Settings) -> String {
    let rate = |rate: Option<Rate>| rate.map_or("0".to_owned(), |rate| rate.to_string());
    let per_source = |(max, prefixes): &(u32, Prefixes)| format!("max-per-source={max}@{prefixes}");
    let is_wanted = |field: &&String| wanted.get(*field).is_some_and(|value| !value.is_null());
    let word = |field: &String| match field.as_str() {
        "maxConnections" => format!("max-connections={}", new.max_connections),
        "maxPerListener" => {
            let named = new.max_per_listener.iter().filter_map(|(name, max)| Some((name.as_deref()?, max)));
            named.map(|(name, max)| format!("max-per-listener={name}={max}")).collect::<Vec<_>>().join(" ")
        }
        "maxPerSource" if new.max_per_source.is_empty() => "max-per-source=0".into(),
        "maxPerSource" => new.max_per_source.iter().map(per_source).collect::<Vec<_>>().join(" "),
        "maxRate" => format!("max-rate={}", rate(new.max_rate)),
        "maxRatePerSource" => format!("max-rate-per-source={}", rate(new.max_rate_per_source)),
        "reserved" => format!("reserved={}", new.reserved),
        "loadAverage" => format!("load-average={}", new.load_average.unwrap_or(0.0)),
        "maxWaitUSec" => {
            let span = new.max_wait.unwrap_or_default();
            format!("max-wait={}", humantime::format_duration(span).to_string().replace(' ', ""))
        }
        _ => format!("max-waiting={}", new.max_waiting),
    };
    wanted.keys().filter(is_wanted).map(word).collect::<Vec<_>>().join(" ")
}

/// Nothing that is misspelt is passed over.
fn known_only(wanted: &Map<String, Value>) -> Result<()> {
    let all = serde_json::to_value(Limits {
        max_connections: Some(0),
        max_per_listener: Some(vec![ListenerLimit::default()]),
        max_per_source: Some(vec![SourceLimit::default()]),
        max_rate: Some(snapshot::Rate::default()),
        max_rate_per_source: Some(snapshot::Rate::default()),
        reserved: Some(0),
        load_average: Some(0.0),
        max_wait_usec: Some(0),
        max_waiting: Some(0),
    });
    let all = all.unwrap_or_default();
    for (name, value) in wanted {
        let Some(known) = all.get(name.as_str()) else {
            return Err(not(name, "it is none of the limits that can be set while the service runs"));
        };
        let of_known = known.get(0).unwrap_or(known);
        let parts = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        let mut fields = parts.iter().filter_map(Value::as_object).flat_map(Map::keys);
        if let Some(field) = fields.find(|field| of_known.get(field.as_str()).is_none()) {
            return Err(not(name, format!("'{field}' is not known")));
        }
    }
    Ok(())
}

/// What the limits have to be beside each other.
fn together(wanted: &Map<String, Value>, new: &Settings) -> Result<()> {
    if new.reserved > 0 && new.exempt.is_empty() {
        return Err(not("reserved", "the service has no --exempt: nobody else may take these slots"));
    }
    if new.reserved > 0 && new.reserved >= new.max_connections {
        let field = if wanted.contains_key("reserved") { "reserved" } else { "maxConnections" };
        let Settings { reserved, max_connections, .. } = *new;
        let reason =
            format!("{reserved} reserved slots have to be less than max-connections, which would be {max_connections}");
        return Err(not(field, reason));
    }
    let for_waiting = [("maxWaitUSec", new.max_wait.is_some()), ("maxWaiting", new.max_waiting > 0)];
    for (field, _) in for_waiting.into_iter().filter(|(field, is_set)| *is_set && wanted.contains_key(*field)) {
        if new.when_full == WhenFull::Refuse {
            return Err(not(field, "nobody waits: the service has --when-full=refuse"));
        }
    }
    Ok(())
}

fn per_listener(new: &mut Settings, names: &[&str], listener: String, max: u32) -> Result<()> {
    if !names.contains(&listener.as_str()) {
        let known: Vec<_> = names.iter().map(|name| format!("'{name}'")).collect();
        let reason = format!("no listener has the name '{listener}'; known names: {}", known.join(", "));
        return Err(not("maxPerListener", reason));
    }
    let all = &mut new.max_per_listener;
    all.retain(|(name, _)| name.as_deref() != Some(listener.as_str()));
    all.push((Some(listener), max));
    Ok(())
}

fn per_source(levels: &[SourceLimit], default: Prefixes) -> Result<Vec<(u32, Prefixes)>> {
    const FIELD: &str = "maxPerSource";
    let mut all = Vec::<(u32, Prefixes)>::new();
    for SourceLimit { max, ipv4_prefix: v4, ipv6_prefix: v6 } in levels.iter().copied() {
        if v4.is_some_and(|bits| bits > 32) || v6.is_some_and(|bits| bits > 128) {
            return Err(not(FIELD, "expected prefixes up to 32 (IPv4) and 128 (IPv6)"));
        }
        let prefixes = if v4.is_none() && v6.is_none() { default } else { Prefixes { v4, v6 } };
        if let Some(twice) = all.iter().find_map(|(_, other)| prefixes.common(*other)) {
            return Err(not(FIELD, format!("there are two limits for the prefix {twice}")));
        }
        all.push((max, prefixes));
    }
    all.retain(|(max, _)| *max > 0);
    Ok(all)
}

fn rate(field: &str, snapshot::Rate { count, per_usec, burst }: snapshot::Rate) -> Result<Option<Rate>> {
    if count == 0 {
        return Ok(None);
    }
    let burst = Some(burst).filter(|burst| *burst > 0);
    Rate::new(count, Duration::from_micros(per_usec), burst).map(Some).map_err(|why| not(field, why))
}
