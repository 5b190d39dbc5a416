//! What is printed: to a reader that may go at any time, with nothing in it that a terminal would obey.
#![forbid(unsafe_code)]

use super::failure::Failure;
use crate::sys::plain;
use crate::sys::terminal;
use std::env;
use std::io::{ErrorKind, IsTerminal, Write, stdout};

/// Writes to stdout.
///
/// # Errors
/// [`Failure::unread`] if its reader has gone.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::unread(),
        _ => Failure::failed(format!("cannot write to stdout: {}", plain(&error))),
    })
}

/// Writes one line, prefixed with the program's name, to stderr. Nobody may be there to read it; the exit code says the same.
pub fn complain(line: &str) {
    if !line.is_empty() {
        let _ = std::io::stderr().lock().write_all(format!("sockcapctl: {}\n", visible(line)).as_bytes());
    }
}

/// `text` with its control characters, and those that turn the direction of writing, as `\x1b` or `\u{202e}`: names and
/// addresses come from outside, and are not to move the cursor.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0'..='\u{7f}' if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if is_obeyed(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// Control characters, ends of lines, and what turns the direction of writing.
fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Columns of the terminal that is printed to, if it is one: what is read by a program is not cut.
pub fn width() -> Option<usize> {
    const COLUMNS: usize = 80;
    stdout().is_terminal().then(|| terminal::size(stdout()).map_or(COLUMNS, |(_, columns)| columns.into()))
}

/// What a colour says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// As it should be.
    Green,
    /// Nearly full, or not at work.
    Yellow,
    /// Full.
    Red,
}

/// Whether there are colours: on a terminal, where `NO_COLOR` (no-color.org) is not set.
#[derive(Clone, Copy, Debug)]
pub struct Paint(bool);

impl Paint {
    /// Of stdout.
    pub fn new() -> Self {
        let is_dumb = env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
        Self(stdout().is_terminal() && !is_dumb && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    /// Without colours.
    pub fn none() -> Self {
        Self(false)
    }

    /// `text` in a colour, and the usual one after it.
    pub fn paint(self, colour: Colour, text: &str) -> String {
        let number = match colour {
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Red => 31,
        };
        if self.0 { format!("\x1b[{number}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

impl Default for Paint {
    fn default() -> Self {
        Self::new()
    }
}

/// JSON in one line, with what [`visible`] escapes in JSON's own way.
pub fn json(value: &serde_json::Value) -> String {
    let text = value.to_string();
    let mut out = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        match is_obeyed(c) {
            true => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor() {
        assert_eq!(visible("192.0.2.1 ü\u{4e2d}"), "192.0.2.1 ü\u{4e2d}");
        assert_eq!(json(&serde_json::json!({"a": "\x1b\u{9b}\u{202e}ü"})), "{\"a\":\"\\u001b\\u009b\\u202eü\"}\n");
        assert_eq!(visible("a\x1b[2J\r\n\x7f\u{9b}2J\u{202e}"), "a\\x1b[2J\\x0d\\x0a\\x7f\\u{9b}2J\\u{202e}");
    }
}
