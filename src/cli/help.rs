//! `-h` and `--help`: the options in groups, in two columns, at most 100 wide.
//!
//! clap lays out neither: its long form gives each option three lines, and it wraps only with a crate that asks the terminal. So
//! its help is left out of the program.
#![forbid(unsafe_code)]

use crate::reply::PRESETS;
use clap::{Arg, Command};
use std::fmt::Write;

/// Widest line.
const WIDTH: usize = 100;
/// Where explanations begin.
const COLUMN: usize = 32;
/// A blank at which no line ends.
const NO_BREAK: &str = "\u{a0}";

pub(super) const USAGE: &str = "sockcap [OPTIONS] -- COMMAND [ARG...]";

/// What COMMAND may hold.
const COMMAND: &str = "\
In COMMAND's arguments {remote_addr} {remote_port} {local_addr} {local_port} {listener} {id} {uid} {pid} {cid} are replaced; \
{{ and }} are literal braces.";

const NOTES: &str = "\
Each option is also read from the environment (SOCKCAP_MAX_CONNECTIONS=8); the command line wins.
DURATION: 30s, 5min, '1h 30min', 500ms, or a bare number of seconds.
Exit status: 0; 1 if the system failed; 2 for a mistake in options, variables or sockets.";

/// What stands below the options.
pub(super) fn after() -> String {
    let presets: String = PRESETS.iter().map(|preset| format!("  {:<12} {}\n", preset.name, preset.about)).collect();
    format!("{COMMAND}\n\nPRESET, and what a refused client gets:\n{presets}\n{NOTES}")
}

/// `--help`, or `-h` with the options that matter most.
pub(super) fn help(command: &Command, whole: bool) -> String {
    let mut out = String::new();
    wrap(&command.get_about().map(ToString::to_string).unwrap_or_default(), 0, 0, &mut out);
    let _ = writeln!(out, "\nUsage: {USAGE}"); // writing to a String cannot fail
    let mut heading = None;
    for option in options(command).filter(|option| whole || !option.is_hide_short_help_set()) {
        if option.get_help_heading() != heading {
            heading = option.get_help_heading();
            let _ = writeln!(out, "\n{}:", heading.unwrap_or_default());
        }
        row(&names(option), &about(option), &mut out);
    }
    row(
        "  -h, --help",
        if whole {
            "Print this help; -h prints a short one"
        } else {
            "Print the short help; --help has all options and presets"
        },
        &mut out,
    );
    row("  -V, --version", "Print the version", &mut out);
    out.push('\n');
    if whole {
        after().lines().for_each(|line| wrap(line, 0, 0, &mut out));
    } else {
        NOTES.lines().take(2).for_each(|line| wrap(line, 0, 0, &mut out));
    }
    out
}

/// Flags among them: clap's `get_opts` has those only until the command has parsed something. Its own two are not.
fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_positional() && !["help", "version"].contains(&arg.get_id().as_str()))
}

pub(crate) fn names(option: &Arg) -> String {
    let short = option.get_short().map_or("    ".to_owned(), |short| format!("-{short}, "));
    let value = option.get_value_names().filter(|_| option.get_action().takes_values());
    // A value that may be left out comes after a `=`.
    let value = value.map(|names| match option.is_require_equals_set() {
        true => format!("[={}]", names.join(" ")),
        false => format!(" {}", names.join(" ")),
    });
    let value = value.unwrap_or_default();
    format!("  {short}--{}{value}", option.get_long().unwrap_or_default())
}

pub(crate) fn about(option: &Arg) -> String {
    let mut text = option.get_help().map(ToString::to_string).unwrap_or_default();
    if let ([default], true) = (option.get_default_values(), option.get_action().takes_values()) {
        let _ = write!(text, " [default:{NO_BREAK}{}]", default.to_string_lossy().replace(' ', NO_BREAK));
    }
    if let Some(aliases) = option.get_visible_aliases().filter(|aliases| !aliases.is_empty()) {
        let aliases: Vec<_> = aliases.iter().map(|alias| format!("--{alias}")).collect();
        let _ = write!(text, " [also {}]", aliases.join(", "));
    }
    text
}

/// Names at the left, what they mean at the right; names that are too long have a line of their own.
pub(crate) fn row(names: &str, about: &str, out: &mut String) {
    if names.len() + 2 > COLUMN {
        let _ = writeln!(out, "{names}");
        out.push_str(&" ".repeat(COLUMN));
    } else {
        let _ = write!(out, "{names:<COLUMN$}");
    }
    wrap(about, COLUMN, COLUMN, out);
}

/// Adds `text` from column `at` on, and its further lines from column `indent` on.
pub(crate) fn wrap(text: &str, mut at: usize, indent: usize, out: &mut String) {
    let mut first = true;
    // Blanks at the begin of a line, and in its columns, stay: only lines that are too long are broken.
    for word in if text.chars().count() + at <= WIDTH { vec![text] } else { text.split(' ').collect() } {
        if !first && at + 1 + word.chars().count() > WIDTH {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            at = indent;
        } else if !first {
            out.push(' ');
            at += 1;
        }
        out.push_str(&word.replace(NO_BREAK, " "));
        at += word.chars().count();
        first = false;
    }
    out.push('\n');
}

/// The help that an argument asks for which clap does not know.
pub(super) fn asked_by(command: &Command, unknown: &str) -> Option<String> {
    match unknown {
        "-h" => Some(help(command, false)),
        "--help" => Some(help(command, true)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Args;
    use clap::CommandFactory;

    #[test]
    fn help_fits_and_is_grouped() {
        let command = Args::command();
        let (short, whole) = (help(&command, false), help(&command, true));
        for text in [&short, &whole] {
            for line in text.lines() {
                assert!(line.chars().count() <= WIDTH, "{} columns: {line}", line.chars().count());
                assert_eq!(line, line.trim_end(), "blanks at the end");
            }
        }
        let headings: Vec<_> =
            whole.lines().filter(|line| line.ends_with(':') && !line.starts_with([' ', 'P'])).collect();
        let expected = [
            "Listening:",
            "Limits:",
            "Waiting and refusing:",
            "The command:",
            "Each connection (with --isolate=cgroup):",
            "Stopping:",
            "Observing:",
            "Logging:",
            "Other:",
        ];
        assert_eq!(headings, expected, "each group once, in this order");
        let rows = |text: &str| text.lines().filter(|line| line.trim_start().starts_with('-')).count();
        assert!((10..=14).contains(&rows(&short)), "{short}");
        assert_eq!(rows(&whole), options(&command).count() + 2);
    }
}
