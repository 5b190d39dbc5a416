//! What the unit asks of sockcap: its words and variables, and what `sockcap --check` makes of them.
#![forbid(unsafe_code)]

use super::show::{Show, span, words};
use super::text::Text;
use std::collections::BTreeMap;
use std::time::Duration;

/// Names of one option besides its own.
const ALIASES: [(&str, &str); 4] = [
    ("max-clients", "max-connections"),
    ("maxclients", "max-connections"),
    ("processes", "max-connections"),
    ("max-load", "load-average"),
];

/// `ExecStart=`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Exec {
    /// The program; empty if there is no line.
    pub(super) path: String,
    /// Its arguments, without its name.
    pub(super) words: Vec<String>,
    /// Whether a failure does not count (`-`).
    pub(super) ignores_failure: bool,
    /// How many lines there are.
    pub(super) lines: usize,
}

impl Exec {
    /// From what systemd shows, which joins words by blanks, and from the file, which has the quotes.
    pub(super) fn parse(show: &Show, text: &Text, variables: &BTreeMap<String, String>) -> Exec {
        let lines = show.all("ExecStart");
        let field = |name: &str| {
            let shown = lines.first().map_or("", String::as_str);
            let start = shown.find(&format!("{name}=")).map(|at| at + name.len() + 1);
            start.and_then(|at| shown[at..].split(" ; ").next()).unwrap_or_default().trim()
        };
        let shown = field("argv[]");
        let written = text
            .last("Service", "ExecStart")
            .map(|line| words(line.trim_start_matches(['-', '@', ':', '+', '!', '|'])));
        let written = written.unwrap_or_default();
        // With a specifier in it, or with another name (`@`), it is not the same.
        let with_name = [field("path").to_owned()];
        let whole = [written.clone(), [&with_name[..], written.get(1..).unwrap_or_default()].concat()];
        let same = whole.into_iter().find(|words| words.join(" ") == shown);
        let skips_name = text.last("Service", "ExecStart").is_some_and(|line| prefix(line).contains('@'));
        let all = match same {
            Some(words) => words,
            None if skips_name && written.get(1..).is_some_and(|rest| rest.join(" ") == shown) => written[1..].to_vec(),
            None => shown.split_whitespace().map(str::to_owned).collect(),
        };
        Exec {
            path: field("path").to_owned(),
            words: all.iter().skip(1).flat_map(|word| expand(word, variables)).collect(),
            ignores_failure: field("ignore_errors") == "yes",
            lines: lines.len(),
        }
    }

    /// Whether the program is sockcap itself, by its name.
    pub(super) fn is_sockcap(&self) -> bool {
        self.path.rsplit('/').next().is_some_and(|name| name == "sockcap" || name.starts_with("sockcap-"))
    }

    /// Whether it is sockcapctl, which some units of its own run.
    pub(super) fn is_ctl(&self) -> bool {
        self.path.rsplit('/').next() == Some("sockcapctl")
    }

    /// The words before the command.
    pub(super) fn own(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(String::as_str).take_while(|word| *word != "--")
    }

    /// COMMAND and its arguments.
    pub(super) fn command(&self) -> &[String] {
        let at = self.words.iter().position(|word| word == "--");
        at.map_or(&[], |at| &self.words[at + 1..])
    }

    /// Whether an option is given, by this name or another.
    pub(super) fn has(&self, option: &str) -> bool {
        self.own().filter_map(|word| word.strip_prefix("--")).any(|word| {
            let name = word.split('=').next().unwrap_or(word);
            name == option || ALIASES.contains(&(name, option))
        })
    }
}

fn prefix(line: &str) -> &str {
    &line[..line.len() - line.trim_start_matches(['-', '@', ':', '+', '!', '|']).len()]
}

/// `${NAME}` in a word is replaced, `$NAME` that is a word is split, and `$$` is a `$` (systemd.service(5)).
fn expand(word: &str, variables: &BTreeMap<String, String>) -> Vec<String> {
    let value = |name: &str| variables.get(name).map_or("", String::as_str);
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if let Some(name) = word.strip_prefix('$').filter(|name| is_name(name)) {
        return words(value(name));
    }
    let (mut out, mut rest) = (String::new(), word);
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let braced = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        if let Some((name, after)) = braced.filter(|(name, _)| is_name(name)) {
            out.push_str(value(name));
            rest = after;
        } else {
            out.push('$');
            rest = after.strip_prefix('$').unwrap_or(after);
        }
    }
    vec![out + rest]
}

/// The effective settings, as `sockcap --check` prints them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings(Vec<(String, String)>);

impl Settings {
    /// Lines of a name and what holds.
    pub(super) fn parse(text: &str) -> Settings {
        let pair = |line: &str| line.split_once(' ').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        Settings(text.lines().filter_map(pair).collect())
    }

    /// Every value of an option, without what is said of it in brackets.
    pub(super) fn all<'a>(&'a self, option: &str) -> impl Iterator<Item = &'a str> {
        let of = self.0.iter().filter(move |(name, _)| name == option);
        of.map(|(_, value)| value.split(" (not used").next().unwrap_or(value))
    }

    /// What holds; empty if sockcap does not say it.
    pub(super) fn get(&self, option: &str) -> &str {
        self.all(option).next().unwrap_or_default()
    }

    /// A count; 0 is no limit.
    pub(super) fn number(&self, option: &str) -> u64 {
        self.get(option).parse().unwrap_or(0)
    }

    /// A span; `None` is no limit, or off.
    pub(super) fn span(&self, option: &str) -> Option<Duration> {
        span(self.get(option))
    }

    /// Whether clients over a limit wait.
    pub(super) fn waits(&self) -> bool {
        self.get("when-full") == "wait"
    }

    /// Options that mean nothing, with what they need.
    pub(super) fn unused(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(name, value)| {
            let (_, needs) = value.split_once(" (not used: needs ")?;
            Some((name.as_str(), needs.trim_end_matches(')')))
        })
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn set(&mut self, option: &str, value: &str) {
        self.0.retain(|(name, _)| name != option);
        self.0.push((option.to_owned(), value.to_owned()));
    }
}

/// The variable of an option.
pub(super) fn variable(option: &str) -> String {
    format!("SOCKCAP_{}", option.to_ascii_uppercase().replace('-', "_"))
}

/// `NAME=VALUE` words, where a later one wins.
pub(super) fn assign(variables: &mut BTreeMap<String, String>, words: impl IntoIterator<Item = String>) {
    for word in words {
        if let Some((name, value)) = word.split_once('=') {
            variables.insert(name.to_owned(), value.to_owned());
        }
    }
}

/// The lines of an `EnvironmentFile=`.
pub(super) fn environment_file(text: &str) -> Vec<String> {
    let lines = text.replace("\\\n", "");
    let lines = lines.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| format!("{}={}", name.trim(), words(value).join(" ")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(line: &str, shown: &str, variables: &[(&str, &str)]) -> Exec {
        let show = Show::parse(&format!(
            "ExecStart={{ path=/usr/bin/sockcap ; argv[]={shown} ; ignore_errors=no ; start_time=[n/a] ; pid=0 }}\n"
        ));
        let text = Text::parse(&format!("[Service]\nExecStart={line}\n"));
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Exec::parse(&show, &text, &variables)
    }

    #[test]
    fn words_of_exec_start() {
        let of = |line, shown, variables: &[(&str, &str)]| exec(line, shown, variables).words.join("|");
        let quoted = "/usr/bin/sockcap --busy-message 'all  full' -- /bin/cat";
        assert_eq!(
            of(quoted, "/usr/bin/sockcap --busy-message all  full -- /bin/cat", &[]),
            "--busy-message|all  full|--|/bin/cat"
        );
        let named = "@-/usr/bin/sockcap sock --max-wait '1 s' -- /bin/cat";
        assert_eq!(of(named, "sock --max-wait 1 s -- /bin/cat", &[]), "--max-wait|1 s|--|/bin/cat");
        let specifier = "/usr/bin/sockcap -- /etc/%i";
        assert_eq!(of(specifier, "/usr/bin/sockcap -- /etc/a", &[]), "--|/etc/a");
        let variable = "/usr/bin/sockcap --max-connections=${N} $MORE -- /bin/echo $$x";
        let set = [("N", "8"), ("MORE", "-v --quiet")];
        assert_eq!(of(variable, variable, &set), "--max-connections=8|-v|--quiet|--|/bin/echo|$x");
        let exec = exec(
            "/usr/bin/sockcap --max-clients 3 -- /bin/cat -n",
            "/usr/bin/sockcap --max-clients 3 -- /bin/cat -n",
            &[],
        );
        assert!(exec.has("max-connections") && !exec.has("max-wait") && exec.is_sockcap() && exec.lines == 1);
        assert_eq!(exec.command(), ["/bin/cat", "-n"]);
    }

    #[test]
    fn settings_as_check_prints_them() {
        let settings = Settings::parse(
            "max-connections     10\nmax-wait            1m 30s (not used: needs --when-full wait)\nexempt              ::1\nexempt 127.0.0.1\nmax-waiting         unlimited\n",
        );
        assert_eq!((settings.number("max-connections"), settings.number("max-waiting")), (10, 0));
        assert_eq!(settings.span("max-wait"), Some(Duration::from_secs(90)));
        assert_eq!(settings.all("exempt").collect::<Vec<_>>(), ["::1", "127.0.0.1"]);
        assert_eq!(settings.unused().collect::<Vec<_>>(), [("max-wait", "--when-full wait")]);
    }

    #[test]
    fn files_of_variables() {
        let text = "# A comment\nA=1\n B = \"two words\" \nC=a\\\nb\nno assignment\n";
        assert_eq!(environment_file(text), ["A=1", "B=two words", "C=ab"]);
    }
}
