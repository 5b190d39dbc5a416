//! What is printed: to a reader that may go at any time, with nothing in it that a terminal would obey.
#![forbid(unsafe_code)]

use super::failure::Failure;
use crate::sys::plain;
use std::io::{ErrorKind, Write};

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
    let is_direction =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0'..='\u{7f}' if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() || is_direction(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor() {
        assert_eq!(visible("192.0.2.1 ü\u{4e2d}"), "192.0.2.1 ü\u{4e2d}");
        assert_eq!(visible("a\x1b[2J\r\n\x7f\u{9b}2J\u{202e}"), "a\\x1b[2J\\x0d\\x0a\\x7f\\u{9b}2J\\u{202e}");
    }
}
