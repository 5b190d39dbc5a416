//! From words to settings: the command line, and the environment for what it does not say.
#![forbid(unsafe_code)]

mod args;
mod help;
mod values;

pub use args::Args;
pub use help::help;

use crate::daemon::settings::Settings;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches};
use std::ffi::OsString;
use values::per_listener;

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

/// Reads the command line, and the environment for what it does not say.
///
/// # Errors
/// One line that names the option, the value and what was expected.
#[inline(never)] // its frame of 50 KiB would be `main`'s, and stay
pub fn parse(words: impl Iterator<Item = OsString>) -> Result<Task, String> {
    let matches = match help::marked(Args::command()).try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            return Ok(Task::Print(help::help(help::is_whole(&error.to_string()))));
        }
        Err(error) if error.kind() == ErrorKind::DisplayVersion => return Ok(Task::Print(error.to_string())),
        Err(error) => {
            let hint = if is_bare_word(&error) { "; the command comes after --" } else { "" };
            return Err(one_line(&error.to_string()) + hint);
        }
    };
    let args = Args::from_arg_matches(&matches).map_err(|error| one_line(&error.to_string()))?;
    let all = |id: &str, given: &[String]| -> Vec<String> {
        // From the environment a list comes as one value; on the command line a path may hold blanks.
        match matches.value_source(id) {
            Some(ValueSource::EnvVariable) => {
                given.iter().flat_map(|all| all.split_whitespace()).map(str::to_owned).collect()
            }
            _ => given.to_vec(),
        }
    };
    let (mut places, mut limits) = (Vec::new(), Vec::new());
    for text in all("listen", &args.listen) {
        let place = text.parse().map_err(|why| format!("invalid value '{text}' for '--listen <ADDR>': {why}"))?;
        places.push((text, place));
    }
    for text in all("max_per_listener", &args.max_per_listener) {
        let limit = per_listener(&text);
        limits.push(limit.map_err(|why| format!("invalid value '{text}' for '--max-per-listener <N|NAME=N>': {why}"))?);
    }
    if let Err(why) = args.busy_reply.check(&args.busy_message) {
        return Err(format!("invalid value for '--busy-message <TEXT>': {why}"));
    }
    if args.idle_exit.is_some_and(|idle| !idle.is_zero()) && !places.is_empty() {
        return Err("--idle-exit needs systemd's sockets: with --listen nobody would start sockcap again".into());
    }
    let check = args.check;
    let settings = Box::new(args.settings(places, limits));
    Ok(if check { Task::Check(settings) } else { Task::Run(settings) })
}

/// Whether a word that is no option stands before "--": a command, most likely.
fn is_bare_word(error: &clap::Error) -> bool {
    let word = error.get(ContextKind::InvalidArg);
    error.kind() == ErrorKind::UnknownArgument
        && matches!(word, Some(ContextValue::String(word)) if !word.starts_with('-'))
}

/// clap explains in paragraphs; the first says what is wrong, and for missing values the next lines name them.
fn one_line(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let first = text.split("\n\n").next().unwrap_or(text);
    first.lines().map(str::trim).collect::<Vec<_>>().join(" ")
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
