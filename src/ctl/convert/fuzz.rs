//! Pairs of units, whatever is in their files.
#![forbid(unsafe_code)]

use super::find::printed_unit;
use super::names::Names;
use super::pair::Pair;
use super::render::{Converted, convert};
use super::unit::Unit;
use super::words::CommandLine;
use crate::child::template::Template;
use crate::ctl::syntax;

/// `SOCKET FF SERVICE FF SLICE`: the texts of three files; the last need not be there.
pub(crate) fn units(data: &[u8]) {
    let texts: Vec<_> = data.split(|byte| *byte == 0xff).map(String::from_utf8_lossy).collect();
    let text = |nth: usize| texts.get(nth).map_or("", |text| text.as_ref());
    let unit = |text: &str| {
        let mut unit = Unit::default();
        unit.read(text);
        unit
    };
    let mut files = Vec::new();
    printed_unit("foo.socket", text(0), &mut files);
    assert!(files.iter().all(|file| file.starts_with('/') && !file.contains([' ', '\n'])), "{files:?}");
    for (name, is_user) in [("foo.socket", false), ("a\\x2db@.socket", true)] {
        let pair = Pair {
            names: Names::parse(name).unwrap(),
            socket: unit(text(0)),
            service: unit(text(1)),
            slice: texts.get(2).map(|text| unit(text)),
            files: vec!["/etc/systemd/system/foo.socket".into()],
            is_user,
        };
        match convert(&pair) {
            Ok(converted) => judge(&converted),
            Err(why) => assert!(!why.is_empty()),
        }
    }
}

/// Two files that systemd reads as they are meant: sections in their order, and lines that are comments or settings.
fn judge(converted: &Converted) {
    for ((_, text), section) in [(&converted.socket, "[Socket]"), (&converted.service, "[Service]")] {
        let sections: Vec<&str> = text.lines().filter(|line| line.starts_with('[') && line.ends_with(']')).collect();
        assert_eq!(sections, ["[Unit]", section, "[Install]"], "{text}");
        for line in text.lines() {
            let is_setting = line.split_once('=').is_some_and(|(key, _)| !key.is_empty());
            let is_other = line.is_empty() || line.starts_with(['#', '[']);
            assert!(is_setting || is_other, "{line:?} in {text}");
            // It would take the next line with it.
            assert!(line.starts_with('#') || syntax::continued(line).is_none(), "{line:?} in {text}");
        }
    }
    let mut service = Unit::default();
    service.read(&converted.service.1);
    let settings = service.settings("Service");
    let exec: Vec<&str> = settings.iter().filter(|(key, _)| *key == "ExecStart").map(|(_, value)| *value).collect();
    let [exec] = exec[..] else { panic!("{exec:?}") };
    let line = CommandLine::parse(exec).unwrap();
    assert_eq!(line.words[0], "/usr/bin/sockcap");
    let at = line.words.iter().position(|word| *word == "--").unwrap();
    assert!(at + 1 < line.words.len(), "no command in {exec}");
    // Quotes and escapes are systemd's, and have no braces.
    let words: Vec<String> = line.words[at + 1..].iter().map(|word| expanded(word, !line.has(':'))).collect();
    let taken = Template::parse(words.iter().map(String::as_bytes));
    taken.unwrap_or_else(|why| panic!("{why} in {exec}"));
}

/// Without the variables that systemd replaces before sockcap sees the word.
fn expanded(word: &str, expands: bool) -> String {
    let (mut out, mut rest) = (String::new(), word);
    while let Some((before, after)) = rest.split_once('$').filter(|_| expands) {
        out.push_str(before);
        rest = match after.strip_prefix('{').and_then(|name| name.split_once('}')) {
            Some((_, after)) => after,
            None => after.strip_prefix('$').unwrap_or(after),
        };
    }
    out + rest
}
