//! Holds the promise of docs/compatibility.md: whatever stands in stable.txt is there, as it stands there, until a major version.
//!
//! The program itself says what it has: its options, its interface, its tables. What it says of fields and variables in code alone is read
//! from there. After an addition the list of now is in target/tmp/stable.txt.

use super::{read, units};
use clap::{Arg, ArgAction, Command, CommandFactory};
use sockcap::listen::queries::Kind;
use sockcap::observe::metrics::table::METRICS;
use sockcap::observe::varlink::INTERFACES;
use sockcap::policy::reason::Reason;
use sockcap::reply::{Message, PRESETS, Replies};
use sockcap::{cli, ctl};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const LIST: &str = "tests/docs/stable.txt";

/// What stands in a text between each `before` and the first character that `is_part` does not like.
fn after<'a>(text: &'a str, before: &'a str, is_part: fn(char) -> bool) -> impl Iterator<Item = (&'a str, &'a str)> {
    text.split(before).skip(1).map(move |rest| rest.split_at(rest.find(|c| !is_part(c)).unwrap_or(rest.len())))
}

fn is_upper(c: char) -> bool {
    c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'
}

/// Without its tests.
fn source(path: &str) -> String {
    read(path).split("#[cfg(test)]").next().unwrap().to_owned()
}

/// Names of the journal's fields, without `SOCKCAP_`.
pub fn fields() -> BTreeSet<String> {
    let (log, record) = (source("src/observe/log.rs"), source("src/observe/stream/record.rs"));
    let of_events = after(&log, "SOCKCAP_", is_upper).filter(|(_, rest)| rest.starts_with(" = "));
    let of_lines = after(&record, "SOCKCAP_", is_upper).filter(|(_, rest)| rest.starts_with("\", "));
    of_events.chain(of_lines).map(|(name, _)| name.to_owned()).collect()
}

/// What a pattern such as `Event::Ended { how: How::OutOfMemory, .. }` stands for.
fn kinds(pattern: &str) -> Vec<String> {
    let kind =
        |one: &str| after(one, "::", |c| c.is_ascii_alphanumeric()).map(|(name, _)| name).collect::<Vec<_>>().join(".");
    pattern.split('|').filter(|one| one.contains("::")).map(kind).collect()
}

/// Which kinds of entries have which fields, and which `MESSAGE_ID` they have.
fn entries() -> Vec<String> {
    let mut all = Vec::new();
    let log = source("src/observe/log.rs");
    let arms = log.split("fn emit(").nth(1).unwrap().split("\n        Event::").skip(1);
    for (pattern, arm) in arms.filter_map(|arm| arm.split_once("=>")) {
        for kind in kinds(&format!("Event::{pattern}")) {
            let fields = after(arm, "SOCKCAP_", is_upper).filter(|(_, rest)| rest.starts_with(" = "));
            all.extend(fields.map(|(name, _)| format!("entry {kind} SOCKCAP_{name}")));
        }
    }
    let event = source("src/observe/event.rs");
    let ids = event.split("fn message_id(").nth(1).unwrap().lines().filter_map(|line| line.split_once(" => \""));
    for (pattern, id) in ids {
        let id = id.split('"').next().unwrap();
        all.extend(kinds(pattern).into_iter().map(|kind| format!("entry {kind} MESSAGE_ID={id}")));
    }
    all.extend(fields().into_iter().map(|name| format!("field SOCKCAP_{name}")));
    all
}

/// An option or an argument, and the words that it takes, where these are all named. More may be taken some day.
fn argument(of: &str, arg: &Arg) -> Vec<String> {
    let names = arg.get_value_names().unwrap_or_default();
    let mut line = arg.get_long().map_or_else(|| format!("{of} {}", names[0]), |long| format!("{of} --{long}"));
    let mut add = |word: &str| line = format!("{line} {word}");
    arg.get_short().into_iter().for_each(|short| add(&format!("-{short}")));
    arg.get_all_aliases().into_iter().flatten().for_each(|alias| add(&format!("--{alias}")));
    let takes_values = arg.get_action().takes_values();
    if takes_values && arg.get_long().is_some() {
        add(if arg.is_require_equals_set() { "[=VALUE]" } else { "VALUE" });
    }
    if matches!(arg.get_action(), ArgAction::Append) {
        add("...");
    }
    arg.get_env().into_iter().for_each(|name| add(&name.to_string_lossy()));
    let defaults = arg.get_default_values().iter().filter(|_| takes_values);
    defaults.for_each(|value| add(&format!("[default: {}]", value.to_string_lossy())));
    let is_word = |word: &str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let words = names.iter().flat_map(|name| name.split('|')).filter(|word| is_word(word));
    let words = words.map(|word| format!("{of} --{} {word}", arg.get_long().unwrap()));
    words.chain([line.clone()]).collect()
}

fn options() -> Vec<String> {
    let is_ours = |arg: &&Arg| !["help", "version"].contains(&arg.get_id().as_str());
    let all = |of: &str, command: &Command| {
        command.get_arguments().filter(is_ours).flat_map(|arg| argument(of, arg)).collect::<Vec<_>>()
    };
    let program = ctl::Args::command();
    let mut lines = all("sockcap", &cli::Args::command());
    lines.retain(|line| line.contains("--")); // COMMAND itself
    lines.extend(all("sockcapctl", &program));
    for command in program.get_subcommands() {
        let name = format!("sockcapctl {}", command.get_name());
        lines.extend(all(&name, command));
        lines.push(name);
    }
    let help = cli::help(true);
    let codes = help.split("Exit status: ").nth(1).unwrap().split("; ");
    lines.extend(codes.map(|code| format!("exit sockcap {}", code.split([' ', '.', '\n']).next().unwrap())));
    lines.extend(ctl::Exit::ALL.map(|(exit, _)| format!("exit sockcapctl {}", exit as u8)));
    let words = help.split("In COMMAND's arguments ").nth(1).unwrap().split(" are replaced").next().unwrap();
    lines.extend(words.split_whitespace().map(|word| format!("placeholder {word}")));
    lines
}

/// What a command finds in its environment.
fn variables() -> Vec<String> {
    let code = source("src/child/environment.rs");
    let names = ["b\"", "c\"", "format!(\""].into_iter().flat_map(|quote| after(&code, quote, is_upper));
    names
        .filter(|(name, rest)| !name.is_empty() && rest.starts_with('='))
        .map(|(name, _)| format!("variable {name}"))
        .collect()
}

/// `type Phase (running, draining)` and the like, each with what stands in its parentheses.
fn declarations(text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().map(|line| line.split('#').next().unwrap()).collect();
    let code = code.join(" ").replace('(', " ( ").replace(')', " ) ");
    let (mut all, mut depth) = (Vec::<Vec<&str>>::new(), 0);
    for word in code.split_whitespace() {
        if depth == 0 && ["interface", "type", "method", "error"].contains(&word) {
            all.push(Vec::new());
        }
        depth += i32::from(word == "(") - i32::from(word == ")");
        all.last_mut().unwrap().push(word);
    }
    let name = all[0][1];
    let mut lines = vec![format!("varlink {name}")];
    for words in &all[1..] {
        let head = format!("varlink {name} {} {}", words[0], words[1]);
        let text = words[2..].join(" ");
        let parts: Vec<&str> =
            text.split(')').filter_map(|part| part.split_once('(')).map(|(_, inner)| inner).collect();
        for (nth, inner) in parts.iter().enumerate() {
            let way = if words[0] == "method" { [" in", " out"][nth] } else { "" };
            let members = inner.split(',').map(str::trim).filter(|member| !member.is_empty());
            lines.extend(members.map(|member| format!("{head}{way} {member}")));
        }
        lines.push(head);
    }
    lines
}

/// The whole reply where the server speaks first, or its greeting.
fn refusal(name: &str) -> String {
    let mut replies = Replies::new(name.parse().unwrap(), Message::default(), "host.example");
    format!("refusal {name} \"{}\"", replies.busy(4, 4, None).opening().escape_ascii())
}

/// Names of the rules of `sockcapctl check`.
fn rules() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ctl/check/rules");
    let texts = fs::read_dir(folder).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    let id = |rest: &str| Some(rest.trim_start().strip_prefix('"')?.split('"').next()?.to_owned());
    let ids = |text: String| text.split(" rule(").filter_map(id).map(|id| format!("rule {id}")).collect::<Vec<_>>();
    texts.flat_map(ids).collect()
}

/// All that is promised, as it is now.
fn now() -> BTreeSet<String> {
    let mut all: BTreeSet<String> = options().into_iter().chain(variables()).chain(entries()).chain(rules()).collect();
    let reason = |reason: &Reason| format!("reason {} MESSAGE_ID={}", reason.slug(), reason.message_id());
    all.extend(Reason::ALL.iter().map(reason));
    let outcome = source("src/policy/limit/outcome.rs");
    let results = outcome.split("fn result(").nth(1).unwrap().split(" => \"").skip(1);
    all.extend(results.map(|rest| format!("result {}", rest.split('"').next().unwrap())));
    all.extend(METRICS.iter().map(|metric| {
        let labels = metric.labels.iter().map(|label| format!(" {label}")).collect::<String>();
        format!("metric {} {:?} unit{labels}", metric.full_name(), metric.kind)
    }));
    all.extend(INTERFACES.iter().flat_map(|(_, text)| declarations(text)));
    all.extend(PRESETS.iter().map(|preset| refusal(preset.name)));
    let listeners = ["varlink", "metrics", "agent-check"].into_iter().filter(|name| Kind::of_name(name).is_some());
    all.extend(listeners.map(|name| format!("listener {name}")));
    all.extend(units().into_iter().map(|(file, _)| format!("unit {file}")));
    all
}

#[test]
fn what_is_promised_is_there_and_what_is_there_is_promised() {
    let now = now();
    let is_promise = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let (text, mut promised) = (read(LIST), BTreeSet::new());
    promised.extend(text.lines().filter(is_promise).map(str::to_owned));
    let head: String = text.lines().filter(|line| !is_promise(line)).map(|line| format!("{line}\n")).collect();
    let lines = |of: BTreeSet<&String>| of.into_iter().map(|line| format!("\n  {line}")).collect::<String>();
    let broken = lines(promised.difference(&now).collect());
    let new = lines(now.difference(&promised).collect());
    let copy = concat!(env!("CARGO_TARGET_TMPDIR"), "/stable.txt");
    if !broken.is_empty() || !new.is_empty() {
        fs::write(copy, now.into_iter().fold(head, |all, line| all + &line + "\n")).unwrap();
    }
    assert!(
        broken.is_empty(),
        "{LIST} promises what is not there, or not so; that takes a major version (docs/compatibility.md):{broken}\nand now there is:{new}"
    );
    assert!(new.is_empty(), "what is new has to be promised: put it into {LIST} (cp {copy} {LIST}):{new}");
}

/// The list is made from texts and tables: each kind of line is among it, so that no part of it was lost on the way.
#[test]
fn the_list_has_every_kind_of_promise() {
    let now = now();
    for (kind, least) in [
        ("sockcap --", 75),
        ("sockcapctl ", 45),
        ("exit sockcap ", 3),
        ("exit sockcapctl ", 5),
        ("placeholder ", 9),
        ("variable ", 15),
        ("entry ", 90),
        ("field SOCKCAP_", 25),
        ("reason ", 14),
        ("result ", 7),
        ("metric ", 28),
        ("varlink io.github.sockcap.Daemon type ", 90),
        ("varlink io.github.sockcap.Daemon method ", 15),
        ("varlink io.github.sockcap.Daemon error ", 6),
        ("refusal ", 22),
        ("listener ", 3),
        ("rule ", 30),
        ("unit ", 14),
    ] {
        let count = now.iter().filter(|line| line.starts_with(kind)).count();
        assert!(count >= least, "{kind}: {count} lines, of {least} or more");
    }
}
