//! The command line of `ExecStart=`, and specifiers (systemd.service(5), systemd.unit(5)).
//!
//! Words are taken over as they are written, quotes and escapes in them, since they stand in an `ExecStart=` again.
#![forbid(unsafe_code)]

use super::names::Names;

/// A line of `ExecStart=`, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine<'a> {
    /// `-`, `@`, `:`, `+`, `!` and `|`, which stand before the program.
    pub prefixes: &'a str,
    /// The program and its arguments.
    pub words: Vec<&'a str>,
}

impl<'a> CommandLine<'a> {
    /// Takes a value apart.
    ///
    /// # Errors
    /// One line.
    pub fn parse(value: &'a str) -> Result<Self, String> {
        let program = value.trim_start_matches(['-', '@', ':', '+', '!', '|']);
        let (prefixes, words) = (&value[..value.len() - program.len()], split(program)?);
        if words.is_empty() {
            return Err(format!("ExecStart={value} names no program"));
        }
        if words.contains(&";") {
            return Err(format!("ExecStart={value} is several commands: put them into one script"));
        }
        Ok(Self { prefixes, words })
    }

    /// Whether this prefix is there.
    pub fn has(&self, prefix: char) -> bool {
        self.prefixes.contains(prefix)
    }
}

/// Words with their quotes and escapes.
fn split(text: &str) -> Result<Vec<&str>, String> {
    let (mut words, mut begun, mut quote, mut is_escaped) = (Vec::new(), None, None, false);
    for (at, c) in text.char_indices() {
        if begun.is_none() && !c.is_ascii_whitespace() {
            begun = Some(at);
        }
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if quote == Some(c) => quote = None,
            '\'' | '"' if quote.is_none() => quote = Some(c),
            c if c.is_ascii_whitespace() && quote.is_none() => words.extend(begun.take().map(|from| &text[from..at])),
            _ => {}
        }
    }
    match quote {
        Some(quote) => Err(format!("ExecStart= has a {quote} that is not closed: {text}")),
        None => {
            words.extend(begun.map(|from| &text[from..]));
            Ok(words)
        }
    }
}

/// What a connection's instance name becomes in COMMAND: systemd makes it of these (up to version 257).
pub fn instance(is_unix: bool) -> &'static str {
    if is_unix { "{id}-{pid}-{uid}" } else { "{id}-{local_addr}:{local_port}-{remote_addr}:{remote_port}" }
}

/// What is different about a word in its new place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// `%i` or `%I`, which was the connection's name.
    Instance,
    /// `%n` or `%N`: the new unit's name.
    Name,
    /// `${SO_COOKIE}` or another variable that sockcap sets for each connection, and has no placeholder for.
    Variable,
}

/// An argument of COMMAND, as it must stand behind `sockcap --`: `%i` and `${REMOTE_ADDR}` become placeholders, and braces of its own
/// are doubled. `expands`: systemd replaces variables (no `:` before the program).
pub fn argument(word: &str, expands: bool, names: &Names, instance: &str) -> (String, Vec<Change>) {
    let (mut out, mut changes) = (String::with_capacity(word.len()), Vec::new());
    let mut rest = word;
    while let Some(c) = rest.chars().next() {
        let (mut taken, next) = (c.len_utf8(), rest[c.len_utf8()..].chars().next());
        match (c, next) {
            ('\\', Some(next)) if !matches!(next, '{' | '}') => {
                taken += next.len_utf8();
                out.push_str(&rest[..taken]);
            }
            ('%', Some(next)) if !matches!(next, '{' | '}') => {
                taken += next.len_utf8();
                match specifier(next, names) {
                    Specifier::Kept => out.push_str(&rest[..taken]),
                    Specifier::Text(text) => out.push_str(&text),
                    Specifier::Instance => {
                        out.push_str(instance);
                        changes.push(Change::Instance);
                    }
                    Specifier::Name => {
                        out.push_str(&rest[..taken]);
                        changes.push(Change::Name);
                    }
                }
            }
            ('$', Some('$')) if expands => {
                taken += 1;
                out.push_str("$$");
            }
            ('$', Some(_)) if expands && variable(rest, rest.len() == word.len()).is_some() => {
                let (name, length) = variable(rest, rest.len() == word.len()).unwrap_or_default();
                taken = length;
                match name {
                    "REMOTE_ADDR" => out.push_str("{remote_addr}"),
                    "REMOTE_PORT" => out.push_str("{remote_port}"),
                    _ => out.push_str(&rest[..taken]),
                }
                if matches!(name, "SO_COOKIE" | "LISTEN_FDS" | "LISTEN_PID" | "LISTEN_FDNAMES") {
                    changes.push(Change::Variable);
                }
            }
            ('{', _) => out.push_str("{{"),
            ('}', _) => out.push_str("}}"),
            // At the end of the line systemd takes it for itself, and more follows now.
            ('\\', None) => out.push_str("\\\\"),
            _ => out.push(c),
        }
        rest = &rest[taken..];
    }
    (out, changes)
}

/// The variable that `text` begins with, and how long that is: `${NAME}`, or `$NAME` as a whole word.
fn variable(text: &str, is_word: bool) -> Option<(&str, usize)> {
    if let Some(name) = text.strip_prefix("${") {
        return name.find('}').map(|end| (&name[..end], end + 3));
    }
    let name = text.strip_prefix('$')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (is_word && is_name).then_some((name, text.len()))
}

enum Specifier {
    Kept,
    Text(String),
    Instance,
    Name,
}

fn specifier(c: char, names: &Names) -> Specifier {
    match c {
        'i' | 'I' => Specifier::Instance,
        'n' | 'N' => Specifier::Name,
        // Escapes of the name would be escapes of the word.
        'p' => Specifier::Text(names.prefix.replace('\\', "\\\\")),
        'P' | 'j' | 'J' if names.prefix.contains('\\') => Specifier::Name,
        'P' => Specifier::Text(names.prefix.replace('-', "/")),
        'j' | 'J' => Specifier::Text(names.prefix.rsplit('-').next().unwrap_or_default().to_owned()),
        _ => Specifier::Kept,
    }
}

/// A value of the service other than a command, for its new place: `None` if it has the connection's name in it.
pub fn of_service(value: &str, names: &Names) -> Option<String> {
    replaced(value, |c| match specifier(c, names) {
        Specifier::Text(text) => Some(Some(text)),
        Specifier::Instance => None,
        _ => Some(None),
    })
}

/// A value of the socket, whose name changes: the old one is put in its place. That of a template is known to its instances alone.
pub fn of_socket(value: &str, names: &Names) -> String {
    let value = replaced(value, |c| {
        Some(match c {
            'n' if !names.is_template => Some(names.socket()),
            'N' if !names.is_template => Some(names.prefix.clone()),
            'p' => Some(names.prefix.clone()),
            'j' | 'J' | 'P' => match specifier(c, names) {
                Specifier::Text(text) => Some(text),
                _ => None,
            },
            _ => None,
        })
    });
    value.unwrap_or_default()
}

/// `by` has the text for a specifier, or nothing to keep it; or ends it all.
fn replaced(value: &str, by: impl Fn(char) -> Option<Option<String>>) -> Option<String> {
    let (mut out, mut chars) = (String::with_capacity(value.len()), value.chars());
    while let Some(c) = chars.next() {
        match (c, (c == '%').then(|| chars.next()).flatten()) {
            ('%', Some(next)) => match by(next)? {
                Some(text) => out.push_str(&text),
                None => out.extend(['%', next]),
            },
            _ => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names() -> Names {
        Names::parse("foo-bar.socket").unwrap()
    }

    fn converted(word: &str) -> String {
        argument(word, true, &names(), instance(false)).0
    }

    #[test]
    fn a_command_line_is_taken_apart() {
        let line = CommandLine::parse("-@/bin/a b \"c d\" 'e \"' f\\ g \"h\\\" i\"").unwrap();
        assert_eq!(line.prefixes, "-@");
        assert_eq!(line.words, ["/bin/a", "b", "\"c d\"", "'e \"'", "f\\ g", "\"h\\\" i\""]);
        for bad in ["", "-", "/bin/a 'b", "/bin/a ; /bin/b"] {
            assert!(CommandLine::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(CommandLine::parse("/bin/a \\;").unwrap().words, ["/bin/a", "\\;"]);
    }

    #[test]
    fn what_is_the_connection_s_becomes_a_placeholder() {
        assert_eq!(converted("a=${REMOTE_ADDR}:${REMOTE_PORT}"), "a={remote_addr}:{remote_port}");
        assert_eq!(converted("$REMOTE_ADDR"), "{remote_addr}");
        assert_eq!(converted("x$REMOTE_ADDR"), "x$REMOTE_ADDR", "systemd leaves it alone, too");
        assert_eq!(converted("'$$REMOTE_ADDR'"), "'$$REMOTE_ADDR'", "the shell's own");
        assert_eq!(converted("%i"), instance(false));
        assert_eq!(argument("%I", true, &names(), instance(true)), (instance(true).to_owned(), vec![Change::Instance]));
        assert_eq!(argument("${SO_COOKIE}", true, &names(), "").1, [Change::Variable]);
    }

    #[test]
    fn what_was_meant_literally_stays() {
        assert_eq!(converted("awk '{print $3}'"), "awk '{{print $3}}'");
        assert_eq!(converted("${HOME}/{a}%%i%h"), "${HOME}/{{a}}%%i%h");
        assert_eq!(argument("${HOME}", false, &names(), "").0, "${{HOME}}", "nothing is replaced after a colon");
        assert_eq!(converted("%{a} %}"), "%{{a}} %}}", "no specifiers: systemd leaves them as they are");
        assert_eq!(converted("\\{a\\}\\\\{"), "\\{{a\\}}\\\\{{", "no escapes, either");
        assert_eq!(converted("%p-%j \\% ü$"), "foo-bar-bar \\% ü$");
        assert_eq!(converted("a\\"), "a\\\\", "nothing that it escapes");
        assert_eq!(argument("%n", true, &names(), "").1, [Change::Name]);
        assert_eq!(converted("$${HOME}"), "$${{HOME}}", "the dollar is meant, and so are the braces");
        assert_eq!(converted("$a{b"), "$a{{b", "no name of a variable");
    }

    #[test]
    fn the_old_name_s_parts_stay_what_they_were() {
        assert_eq!(converted("%P %p %j %J"), "foo/bar foo-bar bar bar");
        let escaped = Names::parse("foo\\x2dbar.socket").unwrap();
        for part in ["%P", "%j", "%J"] {
            let (text, changes) = argument(part, true, &escaped, "");
            assert_eq!((text.as_str(), &changes[..]), (part, &[Change::Name][..]), "an escape cannot be written out");
        }
        assert_eq!(argument("%p", true, &escaped, "").1, []);
        assert_eq!(of_socket("/run/%p %P %j", &names()), "/run/foo-bar foo/bar bar");
        let template = Names::parse("foo-a@.socket").unwrap();
        assert_eq!(of_socket("%n %N %p %j", &template), "%n %N foo-a a", "that of a template is its instances'");
    }

    #[test]
    fn values_outside_of_commands() {
        assert_eq!(of_service("a/%i", &names()), None);
        assert_eq!(of_service("%p %t/%%i %", &names()).as_deref(), Some("foo-bar %t/%%i %"));
        assert_eq!(of_socket("/run/%N.sock %n %i", &names()), "/run/foo-bar.sock foo-bar.socket %i");
        assert_eq!(of_socket("/run/%N", &Names::parse("a@.socket").unwrap()), "/run/%N");
    }

    proptest! {
        #[test]
        fn any_words_are_read(text in "(\\PC|[\"'\\\\%${}; \\-@:+!|]){0,80}") {
            if let Ok(line) = CommandLine::parse(&text) {
                for word in line.words {
                    argument(word, true, &names(), instance(true));
                    argument(word, false, &names(), instance(false));
                }
            }
            of_service(&text, &names());
            of_socket(&text, &names());
        }
    }
}
