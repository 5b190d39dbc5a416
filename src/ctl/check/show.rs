//! What `systemctl show` says of one unit: properties by name, with spans and numbers as systemd writes them.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::Duration;

/// Properties; one that is given several times has several values.
#[derive(Clone, Debug, Default)]
pub(super) struct Show(BTreeMap<String, Vec<String>>);

impl Show {
    /// Lines `NAME=VALUE`.
    pub(super) fn parse(text: &str) -> Show {
        let mut all = Show::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            all.0.entry(name.to_owned()).or_default().push(value.to_owned());
        }
        all
    }

    /// The value; empty if systemd has none, or is too old to know it.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).and_then(|values| values.first()).map_or("", String::as_str)
    }

    /// Every value.
    pub(super) fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether it is `yes`.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.get(name) == "yes"
    }

    /// The words of a list.
    pub(super) fn list(&self, name: &str) -> Vec<&str> {
        self.get(name).split_whitespace().collect()
    }

    /// A count; `None` is no limit, or not known.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.get(name).parse().ok().filter(|number| *number != u64::MAX)
    }

    /// `1min 30s`; `None` is `infinity`, or not known.
    pub(super) fn span(&self, name: &str) -> Option<Duration> {
        span(self.get(name))
    }

    /// Whether a list names every call or family of a filter: it has the name, or forbids others (`~`).
    pub(super) fn allows(&self, name: &str, word: &str) -> bool {
        match self.get(name).strip_prefix('~') {
            Some(forbidden) => !forbidden.split_whitespace().any(|other| of_call(other) == word),
            None if self.get(name).is_empty() => true,
            None => self.list(name).iter().any(|other| of_call(other) == word),
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), vec![value.to_owned()]);
    }
}

/// `socket:EPERM` is a system call with an error of its own.
fn of_call(word: &str) -> &str {
    word.split(':').next().unwrap_or(word)
}

/// A span as systemd and sockcap write it; `None` without an end.
pub(super) fn span(text: &str) -> Option<Duration> {
    match text {
        "0" => Some(Duration::ZERO),
        text => humantime::parse_duration(text).ok(),
    }
}

/// The words of a list in quotes, as systemd reads `Environment=` and `ExecStart=`, and prints them.
pub(super) fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', quote) if quote != Some('\'') => {
                let c = match chars.next() {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('s') => ' ',
                    Some(other) => other,
                    None => '\\',
                };
                word.get_or_insert_default().push(c);
            }
            (c, Some(end)) if c == end => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_numbers_of_systemd() {
        let show = Show::parse("A=1min 30s\nB=infinity\nC=0\nD=18446744073709551615\nE=5\nF=[not set]\nG=200ms\nE=6\n");
        let of = |name| show.span(name).map(|span| span.as_millis());
        assert_eq!([of("A"), of("B"), of("C"), of("G"), of("Z")], [Some(90_000), None, Some(0), Some(200), None]);
        let of = |name| show.number(name);
        assert_eq!([of("B"), of("D"), of("E"), of("F"), of("Z")], [None, None, Some(5), None, None]);
        assert_eq!(show.all("E"), ["5", "6"]);
    }

    #[test]
    fn quotes_of_systemd() {
        let shown = r#"A=1 "B=127.0.0.0/8 ::1" "C=it's \"x\" \\ \$HOME" D='a b'c E= """#;
        let expected = ["A=1", "B=127.0.0.0/8 ::1", r#"C=it's "x" \ $HOME"#, "D=a bc", "E=", ""];
        assert_eq!(words(shown), expected);
        assert_eq!(words(r"a\sb 'c\d'"), ["a b", r"c\d"]);
    }

    #[test]
    fn filters_allow_or_forbid() {
        let show = Show::parse("A=accept bind:EPERM\nB=~bind listen\nC=\n");
        let of = |name| ["accept", "bind", "listen"].map(|call| show.allows(name, call));
        assert_eq!(of("A"), [true, true, false]);
        assert_eq!(of("B"), [true, false, false]);
        assert_eq!(of("C"), [true; 3]);
    }
}
