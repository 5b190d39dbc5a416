//! Reads the container's journal: `journalctl -o json`, an object of texts per line, parsed by hand, and followed, so that
//! waiting for an entry is waiting for a line.

use super::rig::{FUSE, Rig, SERVICE};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

pub const TOTAL_LIMIT: &str = "5c1cbd7bcb154a4b9f7e0b4d4b1d0a01";
pub const WAITED_TOO_LONG: &str = "5c1cbd7bcb154a4b9f7e0b4d4b1d0a05";
pub const SOURCE_LIMIT: &str = "5c1cbd7bcb154a4b9f7e0b4d4b1d0a08";
/// Those that have no entry of their own.
pub const REFUSED_MORE: &str = "5c1cbd7bcb154a4b9f7e0b4d4b1d0b01";
pub const STOPPING: &str = "5c1cbd7bcb154a4b9f7e0b4d4b1d0a07";

pub struct Entry(BTreeMap<String, String>);

impl Entry {
    /// The field's value; a missing one fails the test, and shows what there was.
    pub fn get(&self, field: &str) -> &str {
        self.0.get(field).unwrap_or_else(|| panic!("no field {field} in {:#?}", self.0))
    }

    /// The field's value, if there is such a field.
    pub fn find(&self, field: &str) -> Option<&str> {
        self.0.get(field).map(String::as_str)
    }

    /// Whether any field of the daemon's own has this text.
    pub fn has_text(&self, text: &str) -> bool {
        self.0
            .iter()
            .any(|(field, value)| (field == "MESSAGE" || field.starts_with("SOCKCAP_")) && value.contains(text))
    }

    pub fn message(&self) -> &str {
        self.get("MESSAGE")
    }
}

/// The entries that match, from the service's current start on, as they come.
pub struct Journal {
    journalctl: Child,
    lines: Receiver<String>,
}

impl Journal {
    /// What the running daemon process itself logged.
    pub fn of_daemon(rig: &Rig, matches: &str) -> Journal {
        let pid = rig.show(SERVICE, "MainPID");
        assert_ne!(pid, "0", "the service does not run");
        Journal::follow(rig, &format!("_PID={pid} {matches}"))
    }

    /// What has been logged by anybody since the container was booted.
    pub fn of_boot(rig: &Rig, matches: &str) -> Journal {
        Journal::follow(rig, &format!("--boot {matches}"))
    }

    fn follow(rig: &Rig, matches: &str) -> Journal {
        // Its standard input is its leash: nsenter's child could not be killed from here.
        let script = format!("journalctl -q --follow --lines=all --output=json {matches} & cat >/dev/null; kill $!");
        let mut journalctl =
            rig.enter(&["sh", "-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("nsenter");
        let out = BufReader::new(journalctl.stdout.take().expect("piped"));
        let (tx, lines) = channel();
        // A pipe has no timeout of its own; a channel has one.
        thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| tx.send(line)));
        Journal { journalctl, lines }
    }

    pub fn next(&self) -> Entry {
        match self.lines.recv_timeout(FUSE) {
            Ok(line) => Entry(parse(&line)),
            Err(e) => panic!("no journal entry came: {e}"),
        }
    }

    /// The first entry that answers, among those to come.
    pub fn until(&self, mut wanted: impl FnMut(&Entry) -> bool) -> Entry {
        loop {
            let entry = self.next();
            if wanted(&entry) {
                return entry;
            }
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        drop(self.journalctl.stdin.take());
        let _ = self.journalctl.wait();
    }
}

/// One flat object. Values are texts; of a repeated field, an array, the last is kept; null and bytes (too long, or not
/// text) become empty.
fn parse(line: &str) -> BTreeMap<String, String> {
    let mut rest = line.chars().peekable();
    let mut fields = BTreeMap::new();
    while rest.by_ref().any(|c| c == '"') {
        let key = string(&mut rest);
        let mut value = String::new();
        let end = |c: &char, array: bool| {
            if array { *c == ']' } else { matches!(*c, ',' | '}') }
        };
        let mut array = false;
        rest.next_if_eq(&':');
        while let Some(c) = rest.next_if(|c| !end(c, array)) {
            match c {
                '"' => value = string(&mut rest),
                '[' => array = true,
                _ => {}
            }
        }
        rest.next_if_eq(&']');
        fields.insert(key, value);
    }
    fields
}

#[test]
fn a_line_of_the_journal() {
    let line = r#"{"A":"x\"y,\u00e9","B":["1","2"],"C":null,"D":[104,105],"E":"}"}"#;
    let fields = parse(line);
    let values: Vec<&str> = fields.values().map(String::as_str).collect();
    assert_eq!(values, ["x\"y,\u{e9}", "2", "", "", "}"]);
}

fn string(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let mut text = String::new();
    while let Some(c) = rest.next() {
        match c {
            '"' => break,
            '\\' => match rest.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some('u') => {
                    let code: String = rest.by_ref().take(4).collect();
                    text.extend(u32::from_str_radix(&code, 16).ok().and_then(char::from_u32));
                }
                Some(other) => text.push(other),
                None => break,
            },
            c => text.push(c),
        }
    }
    text
}
