//! What clap refuses, in one line that says what to type.
#![forbid(unsafe_code)]

use super::variables::{self, options};
use clap::Command;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use std::error::Error as _;
use std::ffi::OsString;

/// One line that names the option, or the variable that its value came from.
pub(super) fn explain(error: &Error, command: &Command, words: &[OsString]) -> String {
    let invalid = text(error, ContextKind::InvalidArg).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument if invalid.starts_with("--") => {
            let longs = options(command).filter_map(|option| Some(format!("--{}", option.get_long()?)));
            let meant =
                variables::nearest(&invalid, longs).map_or(String::new(), |meant| format!("; did you mean {meant}?"));
            return one_line(error) + &meant;
        }
        ErrorKind::UnknownArgument if !invalid.starts_with('-') => {
            return two_words(&invalid, command, words)
                .unwrap_or_else(|| one_line(error) + "; the command comes after --");
        }
        _ => {}
    }
    // "--max-connections <N>"
    let option = variables::option(command, invalid.split(' ').next().unwrap_or_default());
    let Some(option) = option else { return one_line(error) };
    let expected = error.source().map(ToString::to_string).or_else(|| {
        let values: Vec<_> = option.get_possible_values().iter().map(|v| v.get_name().to_owned()).collect();
        (error.kind() == ErrorKind::InvalidValue && !values.is_empty())
            .then(|| format!("expected {}", values.join(" or ")))
    });
    let value = text(error, ContextKind::InvalidValue).unwrap_or_default();
    match (variables::source(command, words, option), expected) {
        (Some((name, value)), Some(expected)) => variables::mistake(&name, &value, &expected),
        (Some((name, value)), None) if value.is_empty() => variables::mistake(&name, "", ""),
        (Some((name, _)), None) => one_line(error).replace(&format!("'{invalid}'"), &name),
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
