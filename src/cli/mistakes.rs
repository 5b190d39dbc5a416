//! What clap refuses, in one line that says what to type.
#![forbid(unsafe_code)]

use super::args::Args;
use super::variables::{self, options};
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use clap::{Arg, Command, CommandFactory};
use std::error::Error as _;
use std::ffi::OsString;

/// What an option begins with, and what an editor or a web page makes of that.
const DASHES: [char; 6] = ['-', '\u{2010}', '\u{2011}', '\u{2013}', '\u{2014}', '\u{2212}'];

/// One line that names the option, or the variable that its value came from.
pub(super) fn explain(error: &Error, command: &Command, words: &[OsString]) -> String {
    let invalid = text(error, ContextKind::InvalidArg).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument if invalid.starts_with(DASHES) => {
            return value_with_dash(&invalid, command, words).unwrap_or_else(|| {
                let meant = meant(&invalid, command, words).map(|meant| format!("; did you mean {meant}?"));
                one_line(error) + meant.as_deref().unwrap_or("; --help lists the options")
            });
        }
        ErrorKind::UnknownArgument => {
            return two_words(&invalid, command, words)
                .unwrap_or_else(|| one_line(error) + "; the command comes after --");
        }
        _ => {}
    }
    // "--max-connections <N>", "--dry-run[=<LIMIT,...>]"
    let option = variables::option(command, invalid.split([' ', '[']).next().unwrap_or_default());
    let Some(option) = option else { return one_line(error) };
    let expected = error.source().map(ToString::to_string).or_else(|| {
        let values: Vec<_> = option.get_possible_values().iter().map(|v| v.get_name().to_owned()).collect();
        (error.kind() == ErrorKind::InvalidValue && !values.is_empty()).then(|| format!("expected {}", one_of(&values)))
    });
    let value = text(error, ContextKind::InvalidValue).unwrap_or_default();
    match (variables::source(command, words, option), expected) {
        (Some((name, value)), Some(expected)) => variables::mistake(&name, &value, &expected),
        (Some((name, value)), None) if value.is_empty() => variables::mistake(&name, "", ""),
        (Some((name, _)), None) => one_line(error).replace(&format!("'{invalid}'"), &name),
        (None, expected) if error.kind() == ErrorKind::InvalidValue && value.is_empty() => {
            let name = without_value(command, words, option).unwrap_or_else(|| option.to_string());
            format!("{name} needs a value{}", expected.map_or(String::new(), |expected| format!(": {expected}")))
        }
        (None, Some(expected)) => format!("invalid value '{value}' for '{option}': {expected}"),
        (None, None) => one_line(error),
    }
}

/// The argument that no option has, if this is the mistake.
pub(super) fn unknown(error: &Error) -> Option<String> {
    text(error, ContextKind::InvalidArg).filter(|_| error.kind() == ErrorKind::UnknownArgument)
}

fn text(error: &Error, kind: ContextKind) -> Option<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    }
}

/// `a, b or c`
fn one_of(words: &[String]) -> String {
    match words {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => words.concat(),
    }
}

/// The words before the command.
fn ours(words: &[OsString]) -> impl Iterator<Item = &str> {
    words.iter().take_while(|word| *word != "--").map(|word| word.to_str().unwrap_or_default())
}

/// The option that was meant by one that no option is: misspelt, cut short, or with one dash or another kind of dash.
fn meant(invalid: &str, command: &Command, words: &[OsString]) -> Option<String> {
    // Of a word with one dash clap tells the one letter.
    let letter = invalid.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
    let is_whole = |word: &&str| {
        letter.is_none_or(|letter| word.starts_with('-') && !word.starts_with("--") && word.contains(letter))
    };
    let word = if letter.is_some() { ours(words).find(is_whole)? } else { invalid };
    let name = word.trim_start_matches(DASHES).split('=').next()?;
    let names = |option: &Arg| {
        let aliases = option.get_all_aliases().unwrap_or_default();
        option.get_long().into_iter().chain(aliases).map(|name| format!("--{name}")).collect::<Vec<_>>()
    };
    let others = ["--help", "--version"].map(str::to_owned);
    variables::nearest(&format!("--{name}"), "--", options(command).flat_map(names).chain(others))
}

/// `--max-wait -5s`: a value that looks like an option. What would be said of it after a `=`.
fn value_with_dash(invalid: &str, command: &Command, words: &[OsString]) -> Option<String> {
    invalid.strip_prefix('-').filter(|rest| !rest.starts_with('-'))?;
    let takes_value = |word: &str| {
        !word.contains('=') && variables::option(command, word).is_some_and(|o| o.get_action().takes_values())
    };
    let all: Vec<&str> = ours(words).collect();
    let at = all.windows(2).position(|pair| takes_value(pair[0]) && pair[1].starts_with(invalid))?;
    let joined = format!("{}={}", all[at], all[at + 1]);
    let mut words = words.to_vec();
    words.splice(at..at + 2, [OsString::from(&joined)]);
    Some(match Args::command().try_get_matches_from_mut(&words) {
        Err(error) if error.kind() != ErrorKind::UnknownArgument => explain(&error, command, &words),
        _ => format!("a value that begins with '-' follows a '=': write {joined}"),
    })
}

/// By which of its names an option was given that has no value.
fn without_value(command: &Command, words: &[OsString], option: &Arg) -> Option<String> {
    let all: Vec<&str> = ours(words).collect();
    let is_bare = |at: &usize| {
        let is_it = variables::option(command, all[*at]).is_some_and(|other| other.get_id() == option.get_id());
        is_it
            && (all[*at].ends_with('=') || all.get(at + 1).is_none_or(|next| next.is_empty() || next.starts_with('-')))
    };
    (0..all.len()).find(is_bare).and_then(|at| all[at].split('=').next()).map(str::to_owned)
}

/// `--max-wait 5 min`: the shell, and systemd, have made two words of one.
fn two_words(unit: &str, command: &Command, words: &[OsString]) -> Option<String> {
    let at = words.iter().position(|word| word == unit)?;
    let before = |n: usize| words.get(at.checked_sub(n)?)?.to_str();
    let (name, number) = match before(1)?.split_once('=') {
        Some(pair) => pair,
        None => (before(2)?, before(1)?),
    };
    variables::option(command, name)?;
    let value = format!("{number} {unit}");
    (super::values::duration(&value).is_ok())
        .then(|| format!("{name} {value} is two words: write {name} {number}{unit}"))
}

/// clap explains in paragraphs; the first says what is wrong, and for missing values the next lines name them.
fn one_line(error: &Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let first = text.split("\n\n").next().unwrap_or(text);
    first.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
