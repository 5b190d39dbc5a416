//! The two new unit files.
#![forbid(unsafe_code)]

use super::pair::{Lines, Notes, Pair};
use super::service;
use super::socket;
use crate::ctl::syntax;

/// What a pair becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// Name and text of the socket unit.
    pub socket: (String, String),
    /// Name and text of the service.
    pub service: (String, String),
    /// What is different from before, a line each.
    pub notes: Vec<String>,
}

/// Widest line of a comment.
const WIDTH: usize = 120;

/// Converts a pair.
///
/// # Errors
/// One line, if sockcap cannot serve what the pair serves.
pub fn convert(pair: &Pair) -> Result<Converted, String> {
    let mut notes = Notes::default();
    let (listening, of_socket) = socket::convert(pair, &mut notes)?;
    let of_service = service::convert(pair, &listening, &mut notes)?;
    let names = &pair.names;
    let (new_socket, new_service) = (names.new_socket(), names.new_service());
    let socket = sections(
        &comment(&format!("{} with a limit that sockcap holds: see {new_service}.", names.socket())),
        "Socket",
        &of_socket,
    );
    let service = sections(&head(pair, &notes), "Service", &of_service);
    Ok(Converted { socket: (new_socket, socket), service: (new_service, service), notes: notes.0 })
}

fn head(pair: &Pair, notes: &Notes) -> String {
    let (old, new) = (pair.names.socket(), pair.names.new_socket());
    let systemctl = if pair.is_user { "systemctl --user" } else { "systemctl" };
    let mut head = format!("# Made by `sockcapctl convert {old}` of\n");
    pair.files.iter().for_each(|file| head.push_str(&format!("#   {file}\n")));
    head.push_str(&format!(
        "#\n# To change over, and back:\n#   {systemctl} disable --now {old}; {systemctl} enable --now {new}\n"
    ));
    head.push_str(&format!("#   {systemctl} disable --now {new}; {systemctl} enable --now {old}\n"));
    if !notes.0.is_empty() {
        head.push_str("#\n# What is different:\n");
        notes.0.iter().for_each(|note| head.push_str(&bullet(note)));
    }
    head
}

fn comment(text: &str) -> String {
    format!("# {text}\n")
}

/// A note, broken at blanks.
fn bullet(note: &str) -> String {
    let (mut out, mut line) = (String::new(), "# -".to_owned());
    for word in note.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH && line.len() > 3 {
            out.push_str(&line);
            out.push('\n');
            line = "#  ".to_owned();
        }
        line.push(' ');
        line.push_str(word);
    }
    format!("{out}{line}\n")
}

fn sections(head: &str, of: &str, lines: &[Lines; 3]) -> String {
    let mut text = head.to_owned();
    for (name, lines) in ["Unit", of, "Install"].iter().zip(lines) {
        text.push_str(&format!("\n[{name}]\n"));
        lines.iter().for_each(|line| {
            text.push_str(line);
            // A backslash at the end would take the next line with it; with a blank behind it stays one.
            text.push_str(if syntax::continued(line).is_some() { " \n" } else { "\n" });
        });
    }
    text
}

#[cfg(test)]
mod tests;
