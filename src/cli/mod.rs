//! From words to settings: the command line, and the environment for what it does not say.
#![forbid(unsafe_code)]

mod args;
mod connection;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod help;
mod mistakes;
mod process;
mod resources;
pub(crate) mod values;
pub(crate) mod variables;

pub use args::Args;

use crate::daemon::settings::Settings;
use crate::listen::place::{Family, Place};
use crate::policy::network::{Network, Prefixes};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches};
use std::ffi::OsString;
use values::{per_listener, per_source};
use variables::is_empty;

/// What to do.
#[derive(Debug)]
pub enum Task {
    /// Serve.
    Run(Box<Settings>),
    /// Print what would hold.
    Check(Box<Settings>),
    /// Print this (help or version).
    Print(String),
}

/// `--help`, or `-h` with the options that matter most.
pub fn help(whole: bool) -> String {
    help::help(&Args::command(), whole)
}

/// Reads the command line, and the environment for what it does not say.
///
/// # Errors
/// One line that names the option or the variable, the value and what was expected.
#[inline(never)] // its frame of 50 KiB would be `main`'s, and stay
pub fn parse(words: impl Iterator<Item = OsString>) -> Result<Task, String> {
    let words: Vec<OsString> = words.collect();
    let mut command = Args::command();
    let matches = match command.try_get_matches_from_mut(&words) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::DisplayVersion => return Ok(Task::Print(error.to_string())),
        Err(error) => {
            let help = mistakes::unknown(&error).and_then(|word| help::asked_by(&command, &word));
            return help.map(Task::Print).ok_or_else(|| mistakes::explain(&error, &command, &words));
        }
    };
    variables::check(&command, std::env::vars_os().map(|(name, _)| name))?;
    let from_variable = |id: &str| matches.value_source(id) == Some(ValueSource::EnvVariable);
    if let Some(empty) =
        variables::options(&command).find(|option| from_variable(option.get_id().as_str()) && is_empty(option))
    {
        return Err(variables::mistake(&variables::variable(empty), "", ""));
    }
    let mut args = Args::from_arg_matches(&matches).map_err(|error| mistakes::explain(&error, &command, &words))?;
    // What is judged here and not by clap, since a variable holds a list, or since it takes two options to know.
    let invalid = |id: &str, value: &str, why: String| {
        let option = variables::options(&command).find(|option| option.get_id() == id);
        let (name, usage) = option.map_or_else(Default::default, |o| (variables::variable(o), o.to_string()));
        if from_variable(id) {
            variables::mistake(&name, value, &why)
        } else {
            format!("invalid value '{value}' for '{usage}': {why}")
        }
    };
    // By which of its names an option was given.
    let name = |id: &str| match from_variable(id) {
        true => format!("SOCKCAP_{}", id.to_ascii_uppercase()),
        false => format!("--{}", id.replace('_', "-")),
    };
    let all = |id: &str, given: &[String]| -> Vec<String> {
        // From the environment a list comes as one value; on the command line a path may hold blanks.
        let list = from_variable(id);
        given
            .iter()
            .flat_map(|all| if list { all.split_whitespace().collect() } else { vec![&all[..]] })
            .map(str::to_owned)
            .collect()
    };
    let (mut places, mut limits) = (Vec::new(), Vec::new());
    for text in all("listen", &args.listen) {
        let place: Place = text.parse().map_err(|why: String| invalid("listen", &text, why))?;
        places.push((text, place));
    }
    for text in all("max_per_listener", &args.max_per_listener) {
        limits.push(per_listener(&text).map_err(|why| invalid("max_per_listener", &text, why))?);
    }
    let networks = |id: &str, given: &[String]| -> Result<Vec<Network>, String> {
        all(id, given).iter().map(|text| text.parse().map_err(|why| invalid(id, text, why))).collect()
    };
    let mut per_sources = Vec::<(u32, Prefixes)>::new();
    for text in all("max_per_source", &args.max_per_source) {
        let (max, prefixes) = per_source(&text).map_err(|why| invalid("max_per_source", &text, why))?;
        let prefixes = prefixes.unwrap_or(args.source_prefix);
        if let Some(twice) = per_sources.iter().find_map(|(_, other)| prefixes.common(*other)) {
            let why = format!("there is another limit for the prefix {twice}: leave one out");
            return Err(invalid("max_per_source", &text, why));
        }
        per_sources.push((max, prefixes));
    }
    per_sources.retain(|(max, _)| *max > 0);
    let parse = |text: &String| process::limit(text).map_err(|why| invalid("limit", text, why));
    let resource_limits = all("limit", &args.process.limit).iter().map(parse).collect::<Result<_, _>>()?;
    let exempt = networks("exempt", &args.exempt)?;
    let proxy_from = networks("proxy_from", &args.proxy_from)?;
    if !proxy_from.is_empty() && !args.proxy_protocol {
        let [proxy_from, proxy_protocol] = ["proxy_from", "proxy_protocol"].map(name);
        return Err(format!("{proxy_from} needs {proxy_protocol}: without it no header is read"));
    }
    if args.reserved > 0 && exempt.is_empty() {
        return Err(format!("{} needs {}: nobody else may take these slots", name("reserved"), name("exempt")));
    }
    if args.reserved > 0 && args.reserved >= args.max_connections {
        let (reserved, max) = (args.reserved, args.max_connections);
        let why = match max {
            0 => format!("there is no limit to reserve slots of ({} is 0)", name("max_connections")),
            max => format!("expected a number below {max}, which is {}", name("max_connections")),
        };
        return Err(invalid("reserved", &reserved.to_string(), why));
    }
    if !args.penalty_max.is_zero() && args.penalty_max < args.penalty_min {
        let (max, min) = (humantime::format_duration(args.penalty_max), humantime::format_duration(args.penalty_min));
        let why = format!(
            "expected at least {min}, which is {}: less is never enough to refuse anybody",
            name("penalty_min")
        );
        return Err(invalid("penalty_max", &max.to_string(), why));
    }
    connection::consistent(&args.connection, args.isolate.unwrap_or_default(), args.max_connections, name)?;
    // Not clap's conflicts_with, to which SOCKCAP_QUIET=false is a --quiet, too.
    for (one, other, both) in
        [("verbose", "quiet", args.verbose && args.quiet), ("ipv4", "ipv6", args.ipv4 && args.ipv6)]
    {
        if both {
            return Err(format!("{} and {} exclude each other: leave one out", name(one), name(other)));
        }
    }
    let family = if args.ipv4 { Some(Family::V4) } else { args.ipv6.then_some(Family::V6) };
    for (text, place) in &places {
        let both = family.zip(place.ip_version());
        if let Some((_, version)) = both.filter(|(family, version)| family != version) {
            let (option, listen) = (name(if args.ipv4 { "ipv4" } else { "ipv6" }), name("listen"));
            return Err(format!("{option} excludes '{text}' of {listen}, an address of {version}: leave one out"));
        }
    }
    if let Err(why) = args.busy_reply.check(&args.busy_message) {
        return Err(invalid("busy_message", &args.busy_message.to_string(), why));
    }
    if args.idle_exit.is_some_and(|idle| !idle.is_zero()) && !places.is_empty() {
        let [idle_exit, listen] = ["idle_exit", "listen"].map(name);
        return Err(format!("{idle_exit} needs sockets from systemd: with {listen} nothing would start sockcap again"));
    }
    args.process.limits = resource_limits;
    let check = args.check;
    let origin = name("max_per_listener") + if from_variable("max_per_listener") { "=" } else { " " };
    let settings = Box::new(args.settings(places, limits, origin, per_sources, exempt, proxy_from));
    Ok(if check { Task::Check(settings) } else { Task::Run(settings) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_has_its_variable() {
        let command = Args::command();
        command.clone().debug_assert();
        for option in command.get_opts() {
            let long = option.get_long().unwrap();
            let expected = format!("SOCKCAP_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(option.get_env().unwrap().to_str(), Some(expected.as_str()), "--{long}");
        }
    }
}
