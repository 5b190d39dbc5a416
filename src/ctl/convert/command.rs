//! `ExecStart=` with sockcap before the command, and where its streams go.
#![forbid(unsafe_code)]

use super::busy::{self, Hints, guess};
use super::pair::{Lines, Listening, Notes, Pair};
use super::words::{Change, CommandLine, argument, instance};
use crate::ctl::syntax;

/// How the command gets its connection, and what has to stand between sockcap and it for that.
#[derive(Debug, Default)]
struct Streams {
    is_passed: bool,
    /// What a shell redirects.
    redirect: Option<&'static str>,
    /// What `--stderr` is to be.
    stderr: Option<&'static str>,
    /// Lines that stay.
    kept: Lines,
}

/// The new `ExecStart=` and the lines that belong to it.
#[derive(Debug, Default)]
pub struct Command {
    /// Lines for `[Service]`.
    pub lines: Lines,
    /// The name of the program, by which the journal knows what it writes.
    pub program: String,
}

/// # Errors
/// One line.
pub fn convert(pair: &Pair, listening: &Listening, notes: &mut Notes) -> Result<Command, String> {
    let name = pair.names.service();
    let all: Vec<&str> = exec_start(pair);
    let [exec] = all[..] else {
        return Err(match all.len() {
            0 => format!("{name} has no ExecStart="),
            n => format!("{name} has {n} lines ExecStart=: put the commands into one script"),
        });
    };
    let line = CommandLine::parse(exec).map_err(|why| format!("{name}: {why}"))?;
    if line.has('|') {
        return Err(format!("{name}: ExecStart={exec} runs a login shell, which sockcap cannot"));
    }
    for (prefix, meaning) in [('+', "with full privileges"), ('!', "with elevated privileges")] {
        if line.has(prefix) {
            notes.say(format!(
                "'{prefix}' in ExecStart= of {name} is for sockcap now: it and all commands run {meaning}"
            ));
        }
    }
    let streams = streams(pair, notes);
    let text = text(pair, &line, &streams, listening, notes)?;
    let mut lines = vec![text];
    lines.extend(streams.kept);
    let program = line.words.first().map(|word| busy::base(word)).unwrap_or_default();
    Ok(Command { lines, program: program.to_owned() })
}

fn exec_start(pair: &Pair) -> Vec<&str> {
    let settings = pair.service.settings("Service").into_iter();
    settings.filter(|(key, _)| *key == "ExecStart").map(|(_, value)| value).collect()
}

fn text(
    pair: &Pair,
    line: &CommandLine,
    streams: &Streams,
    listening: &Listening,
    notes: &mut Notes,
) -> Result<String, String> {
    let (names, service) = (&pair.names, pair.names.service());
    let (expands, instance) = (!line.has(':'), instance(listening.is_unix()));
    let mut changes = Vec::new();
    let mut converted = |word: &str| {
        let (text, changed) = argument(word, expands, names, instance);
        changes.extend(changed);
        text
    };
    // systemd replaced nothing in the program's name, which is an argument of sockcap now.
    let program = line.words[0].replace('$', if expands { "$$" } else { "$" });
    let mut words = vec![converted(&program)];
    words.extend(line.words[1..].iter().map(|word| converted(word)));
    let all = [Change::Instance, Change::Name, Change::Variable];
    for change in all.into_iter().filter(|change| changes.contains(change)) {
        notes.say(match change {
            Change::Instance => format!("the connection's name, %i in ExecStart= of {service}, is {instance} now"),
            Change::Name => format!("the unit's name, in ExecStart= of {service}, is another one now"),
            Change::Variable => {
                format!("a variable in ExecStart= of {service} is replaced by systemd, once, and sockcap has no placeholder for it: read it in the command")
            }
        });
    }
    let (preset, is_known) = guess(Hints {
        words: &words,
        listens: &listening.listens.iter().map(String::as_str).collect::<Vec<_>>(),
        is_varlink: listening.descriptor_name.as_deref() == Some("varlink"),
    });
    notes.say(match (preset, is_known) {
        ("none", _) => "a client over the limit finds its connection closed, as before (--busy-reply none)".to_owned(),
        (_, true) => format!("a client over the limit is told so in its protocol: --busy-reply {preset}"),
        (_, false) => format!("a client over the limit is told so in a line of text (--busy-reply {preset}): see whether that fits its protocol"),
    });

    let argv0 = if line.has('@') { Some(argv0(&mut words, line, &service)?) } else { None };
    let name = listen_name(pair, streams, listening);
    let wrapper = match (streams.redirect, &name) {
        (Some(redirect), _) => {
            let dollar = if expands { "$$" } else { "$" };
            format!("/bin/sh -c 'exec \"{dollar}0\" \"{dollar}@\" {redirect}' ")
        }
        (None, Some(name)) => format!("/usr/bin/env LISTEN_FDNAMES={name} "),
        (None, None) => {
            // sockcap takes COMMAND itself literally.
            words[0] = words[0].replace("{{", "{").replace("}}", "}");
            String::new()
        }
    };
    let kept: String = line.prefixes.chars().filter(|prefix| ":+!".contains(*prefix)).collect();
    let mut text = format!("ExecStart={kept}/usr/bin/sockcap --busy-reply {preset} ");
    if streams.is_passed {
        text.push_str("--pass listen-fds ");
    }
    text.extend(streams.stderr.map(|stderr| format!("--stderr {stderr} ")));
    match argv0 {
        Some(_) if !wrapper.is_empty() => {
            notes.say(format!("'@' in ExecStart= of {service} has no effect: the command has its usual name"))
        }
        Some(argv0) => text.push_str(&format!("--argv0 {argv0} ")),
        None => {}
    }
    Ok(format!("{text}-- {wrapper}{}", words.join(" ")))
}

/// Takes the word after the program out, which is not for sockcap to fill in.
fn argv0(words: &mut Vec<String>, line: &CommandLine, service: &str) -> Result<String, String> {
    let name = line.words.get(1).ok_or_else(|| format!("{service}: ExecStart=@ needs a name after the program"))?;
    words.remove(1);
    // One at the end of the line was itself; now it would escape the blank that follows.
    Ok(format!("{name}{}", if syntax::continued(name).is_some() { "\\" } else { "" }))
}

/// The name that a command looks for in `LISTEN_FDNAMES`, which systemd sets since version 257; sockcap says `connection`, as systemd did before.
fn listen_name(pair: &Pair, streams: &Streams, listening: &Listening) -> Option<String> {
    let settings = pair.service.settings("Service");
    let of_its_own = settings
        .iter()
        .filter(|(key, _)| *key == "Environment")
        .find_map(|(_, value)| value.strip_prefix("LISTEN_FDNAMES="));
    let name = of_its_own.or(listening.descriptor_name.as_deref())?;
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    (streams.is_passed && is_plain).then(|| name.to_owned())
}

fn streams(pair: &Pair, notes: &mut Notes) -> Streams {
    let (name, mut streams) = (pair.names.service(), Streams::default());
    // What systemd makes of it, with a warning.
    let of = |key| {
        pair.service.get("Service", key).map(|value| match value {
            "syslog" => "journal",
            "syslog+console" => "journal+console",
            value => value,
        })
    };
    let [input, output, error] = ["StandardInput", "StandardOutput", "StandardError"].map(of);
    let is_socket = |value: Option<&str>| value.is_some_and(|value| value == "socket" || value.starts_with("fd"));
    streams.is_passed = ![input, output, error].into_iter().any(is_socket);
    if streams.is_passed {
        if input.is_some_and(|input| input.starts_with("tty")) {
            notes.say(format!("StandardInput= of {name} is left out: commands do not share a terminal"));
        } else {
            streams.kept.extend(input.map(|input| format!("StandardInput={input}")));
        }
        streams.kept.extend(output.map(|output| format!("StandardOutput={output}")));
    } else if !is_socket(input) {
        streams.redirect = Some("</dev/null");
    } else if let Some(output) = output.filter(|output| !is_socket(Some(output)) && *output != "inherit") {
        streams.redirect = Some(if output == "null" { ">/dev/null" } else { ">&2" });
        if !matches!(output, "null" | "journal") {
            notes.say(format!("StandardOutput={output} of {name} is left out: what a command writes to stdout goes where its stderr goes"));
        }
    }
    // One that is not set is the output's, and that the input's (systemd.exec(5)).
    let is_set = |value: &&str| *value != "inherit";
    let is_implied = error.filter(is_set).is_none() && !streams.is_passed;
    let error = if is_implied { output.filter(is_set).or(input.filter(|_| is_socket(input))) } else { error };
    match error {
        None | Some("inherit") => {}
        Some("null") => streams.stderr = Some("null"),
        // The shell would send its output there, too.
        socket if is_socket(socket) && streams.redirect == Some(">&2") => notes.say(format!(
            "what a command of {name} writes to stderr is in the journal now, and not sent to the client"
        )),
        socket if is_socket(socket) => {
            streams.stderr = Some("socket");
            if is_implied {
                notes.say(format!("what a command of {name} writes to stderr is sent to its client, as before (--stderr socket); without it, it is in the journal"));
            }
        }
        Some(error) => streams.kept.push(format!("StandardError={error}")),
    }
    let elsewhere = |line: &String| {
        !line.starts_with("StandardInput") && !line.ends_with("=journal") && !line.ends_with("=inherit")
    };
    if streams.kept.iter().any(elsewhere) {
        streams.kept.push("Environment=SOCKCAP_LOG_TARGET=journal".into());
    }
    streams
}
