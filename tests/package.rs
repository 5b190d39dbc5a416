//! What the package adds to the program says what the program says: manual page, completions, message catalog, fail2ban
//! filter, logcheck rules, examples; and its units are those of units/. Each is read by the tool that it is written for.
//!
//! A tool that is not installed is a SKIPPED on stderr; where CI=true it fails instead (tests/run.sh installs them all).

mod common;
#[path = "../debian/pages.rs"]
mod pages;

use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output};
use std::{env, fs};

use clap::CommandFactory;
use clap_complete::Shell;
use common::*;
use nix::sys::signal::Signal;
use sockcap::cli::Args;
use sockcap::ctl;
use sockcap::policy::reason::{Reason, Refusal};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Whether this tool is here.
fn has(tool: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).any(|dir| dir.join(tool).exists());
    if !found {
        assert!(env::var("CI").as_deref() != Ok("true"), "{tool} is not installed");
        skip("a test of the package", &format!("{tool} is not installed"));
    }
    found
}

/// Output of a tool that must be content.
#[track_caller]
fn ok(tool: &str, args: &[&str]) -> String {
    let Output { status, stdout, stderr } = Command::new(tool).args(args).output().expect(tool);
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{tool} {args:?}: {status}\n{out}\n{err}");
    out.into_owned()
}

/// The words in `text` that begin with this and go on with capitals, digits or `_`.
fn words<'a>(text: &'a str, prefix: &'a str) -> BTreeSet<&'a str> {
    let end = |from: usize| {
        let rest = &text[from..];
        from + rest.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')).unwrap_or(rest.len())
    };
    text.match_indices(prefix).map(|(at, _)| &text[at..end(at + prefix.len())]).collect()
}

/// The strings of 32 hexadecimal digits in quotes.
fn ids(source: &str) -> BTreeSet<&str> {
    source.split('"').filter(|part| part.len() == 32 && part.bytes().all(|b| b.is_ascii_hexdigit())).collect()
}

// ---------------------------------------------------------------------------------------------------------------------
// manual page

/// The page as it is read, without markup.
fn manual() -> String {
    let page = pages::manual("2026-01-01").replace("\\-", "-").replace("\\fB", "").replace("\\fR", "");
    for part in ["@DATE@", "@VERSION@", "@OPTIONS@", "@VARIABLES@", "@REASONS@", "@EVENTS@"] {
        assert!(!page.contains(part), "{part} was not filled in");
    }
    page.replace("\\fI", "")
}

/// One section of it, in one line.
fn section(page: &str, name: &str) -> String {
    let text = page.split(".SH ").find(|part| part.trim_start_matches('"').starts_with(name));
    text.unwrap_or_else(|| panic!("no section {name}")).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_manual_has_every_option() {
    let page = manual();
    let (options, environment) = (section(&page, "OPTIONS"), section(&page, "ENVIRONMENT"));
    for option in Args::command().get_opts() {
        let long = format!("--{}", option.get_long().expect("a long name"));
        let at = [' ', '[']
            .iter()
            .find_map(|end| options.find(&format!(" {long}{end}")))
            .unwrap_or_else(|| panic!("{long} is not in the manual"));
        let entry = options[at..].split(".TP").next().expect("an entry");
        let help = option.get_help().expect("help").to_string();
        assert!(entry.contains(&help), "{long}: not what --help says: {entry}");
        if let Some(short) = option.get_short() {
            assert!(options.contains(&format!("-{short}, {long} ")), "-{short}");
        }
        for alias in option.get_visible_aliases().unwrap_or_default() {
            assert!(entry.contains(&format!("--{alias}")), "--{alias}: {entry}");
        }
        if option.get_action().takes_values() {
            for default in option.get_default_values() {
                assert!(entry.contains(&format!("Default: {}.", default.to_string_lossy())), "{long}: {entry}");
            }
            for value in option.get_possible_values() {
                assert!(entry.contains(value.get_name()), "{long}: {}: {entry}", value.get_name());
            }
        }
        let variable = option.get_env().expect("a variable").to_string_lossy();
        assert!(environment.contains(&format!(".B {variable} See .BR {long} ")), "{variable}");
    }
    for placeholder in ["remote_addr", "remote_port", "local_addr", "local_port", "listener", "id", "uid", "pid", "cid"]
    {
        assert!(section(&page, "DESCRIPTION").contains(&format!("{{{placeholder}}}")), "{placeholder}");
    }
}

/// Variables, signals, exit codes and fields, as far as the sources name them.
#[test]
fn the_manual_has_what_the_code_has() {
    let page = manual();

    let environment = section(&page, "ENVIRONMENT");
    let made = read("src/child/environment.rs");
    let quoted = made.split("#[cfg(test)]").next().expect("the code").split('"').skip(1).step_by(2);
    let mut names: Vec<&str> = quoted.filter_map(|text| Some(text.split_once('=')?.0)).collect();
    names.retain(|name| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'));
    assert!(names.len() > 10, "{names:?}");
    let sources = [read("src/listen/adopt.rs"), read("src/observe/notify.rs")].concat();
    let read_by_us = sources.split("env::var").skip(1).filter_map(|rest| rest.split('"').nth(1));
    for name in names.into_iter().chain(read_by_us).chain(["JOURNAL_STREAM", "WATCHDOG_USEC"]) {
        assert!(words(&environment, name).contains(name), "{name} is not in ENVIRONMENT");
    }

    let signals = section(&page, "SIGNALS");
    let stop = read("src/daemon/run/leaving.rs");
    let handler = stop.split("fn read_signal").nth(1).and_then(|rest| rest.split("\n    }\n").next()).expect("it");
    for name in words(handler, "SIG").into_iter().filter(|name| !matches!(*name, "SIGCHLD" | "SIG")) {
        assert!(signals.contains(&format!(".TP .B {name} ")), "{name} is not in SIGNALS");
    }

    let exit = section(&page, "EXIT STATUS");
    let main = read("src/main.rs");
    let mut codes: BTreeSet<&str> =
        main.split("=> (line, ").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    codes.insert("0");
    let told: BTreeSet<&str> = exit.split(".TP .B ").skip(1).filter_map(|rest| rest.split(' ').next()).collect();
    assert_eq!(told, codes);

    let fields = section(&page, "JOURNAL FIELDS");
    for name in words(&read("src/observe/log.rs"), "SOCKCAP_") {
        assert!(words(&fields, "SOCKCAP_").contains(name), "{name} is not in JOURNAL FIELDS");
    }
    for reason in Reason::ALL {
        let (name, id) = (reason.slug(), reason.message_id());
        let entry = fields.split(".TP ").find(|entry| entry.starts_with(&format!(".B {name} ")));
        assert!(entry.is_some_and(|entry| entry.contains(id)), "{name}, {id}");
    }
    for id in ids(&read("src/observe/event.rs")) {
        assert!(fields.contains(id), "{id} is not in JOURNAL FIELDS");
    }
}

#[test]
fn the_manuals_are_clean() {
    let dir = TempDir::new();
    let all = [("sockcap.8", pages::manual("2026-01-01")), ("sockcapctl.8", pages::manual_of_ctl("2026-01-01"))];
    for (name, page) in all {
        let file = dir.join(name);
        fs::write(&file, &page).expect("write");
        if has("mandoc") {
            assert_eq!(ok("mandoc", &["-T", "lint", "-W", "style", &file]), "");
        }
        for section in ["EXAMPLES", "NOTES", "SEE ALSO"] {
            assert!(
                page.contains(&format!(".SH {section}\n")) || page.contains(&format!(".SH \"{section}\"\n")),
                "{name}: {section}"
            );
        }
    }
}

#[test]
fn the_manual_of_sockcapctl_has_every_command() {
    let page = pages::manual_of_ctl("2026-01-01").replace("\\-", "-").replace("\\fB", "").replace("\\fR", "");
    let page = page.replace("\\fI", "").replace("\\e", "\\");
    assert!(!page.contains("@\n"), "something was not filled in");
    let (commands, options, exits) =
        (section(&page, "COMMANDS"), section(&page, "OPTIONS"), section(&page, "EXIT STATUS"));
    let program = ctl::Args::command();
    for command in program.get_subcommands() {
        let usage = ctl::usage(Some(command));
        let (usage, about) = (usage.trim_start_matches("sockcapctl "), command.get_about().expect("help").to_string());
        assert!(commands.contains(&format!(".TP {usage} {about}.")), "{usage}: {about}: {commands}");
        for option in command.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_global_set()) {
            let (long, help) = (option.get_long().expect("a long name"), option.get_help().expect("help").to_string());
            assert!(commands.contains(&format!(" --{long} ")) && commands.contains(&help), "{usage}: --{long}");
        }
        let notes: Vec<&str> = ctl::notes(command.get_name()).split_whitespace().collect();
        assert!(commands.contains(&notes.join(" ")), "{usage}");
    }
    for option in program.get_arguments() {
        let long = option.get_long().expect("a long name");
        assert!(options.contains(&format!("--{long} ")), "--{long}: {options}");
    }
    for (exit, _) in ctl::Exit::ALL {
        assert!(exits.contains(&format!(".TP .B {} ", exit as u8)), "{exits}");
    }
}

/// Both programs, their pages and completions.
#[test]
fn both_programs_are_shipped() {
    let (rules, manuals) = (read("debian/rules"), read("debian/sockcap.manpages"));
    assert!(rules.contains("for program in sockcap sockcapctl; do"));
    assert_eq!(manuals, "target/pages/sockcap.8\ntarget/pages/sockcapctl.8\n");
}

// ---------------------------------------------------------------------------------------------------------------------
// message catalog

#[test]
fn every_message_is_explained() {
    let events = read("src/observe/event.rs");
    let known: BTreeSet<&str> = ids(&events).into_iter().chain(Reason::ALL.map(Reason::message_id)).collect();
    let catalog = pages::catalog();
    assert_eq!(catalog.iter().map(|(id, _)| *id).collect::<BTreeSet<_>>(), known);
    assert_eq!(catalog.len(), known.len(), "an id is explained twice");

    let log = read("src/observe/log.rs");
    for entry in pages::CATALOG.split("\n-- ").skip(1) {
        let (head, body) = entry.split_once("\n\n").expect("a body");
        for line in ["Subject: ", "Defined-By: sockcap", "Documentation: man:sockcap(8)"] {
            assert!(head.lines().any(|l| l.starts_with(line)), "{line}: {entry}");
        }
        assert!(body.trim().split("\n\n").count() >= 2, "not what happened, and what to do: {entry}");
        // An entry is made before its reply is sent, and whether it is read nobody knows.
        let of_refusal = Reason::ALL.iter().any(|reason| entry.starts_with(reason.message_id()));
        assert!(!of_refusal || !(body.contains("read the") || body.contains("was closed")), "not known then: {entry}");
        for field in entry.split('@').skip(1).step_by(2) {
            assert!(words(&log, "SOCKCAP_").contains(field), "no such field: {field}: {entry}");
        }
    }
}

#[test]
fn journald_takes_the_catalog() {
    if !has("journalctl") {
        return;
    }
    let root = TempDir::new();
    let dir = root.join("usr/lib/systemd/catalog");
    fs::create_dir_all(&dir).expect("a directory");
    fs::write(format!("{dir}/sockcap.catalog"), pages::CATALOG).expect("write");
    let root = format!("--root={}", root.path().display());
    ok("journalctl", &["--update-catalog", &root]);
    let list = ok("journalctl", &["--list-catalog", &root]);
    for (id, subject) in pages::catalog() {
        assert!(list.lines().any(|line| line == format!("{id} sockcap: {subject}")), "{id}: {list}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// completions

#[test]
fn shells_complete() {
    let dir = TempDir::new();
    for (shell, name) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
        let text = pages::completions(shell);
        for option in Args::command().get_opts() {
            let long = option.get_long().expect("a long name");
            assert!(text.contains(long), "{name}: --{long}");
        }
        fs::write(dir.join(name), text).expect("write");
    }
    let bash = dir.join("bash");
    ok("bash", &["-n", &bash]);
    let complete = |before: &str, word: &str| {
        let script = format!(
            "source '{bash}'; COMP_WORDS=(sockcap {before} '{word}'); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _sockcap sockcap '{word}' '{before}'; echo \"${{COMPREPLY[*]}}\""
        );
        ok("bash", &["-c", &script]).trim().to_owned()
    };
    assert_eq!(complete("--when-full", ""), "refuse wait");
    assert_eq!(complete("--busy-reply", "rs"), "rsync");
    assert_eq!(complete("", "--max-conn"), "--max-connections");
    if has("zsh") {
        ok("zsh", &["-n", &dir.join("zsh")]);
    }
    if has("fish") {
        let fish = dir.join("fish");
        ok("fish", &["--no-execute", &fish]);
        let script = format!("source '{fish}'; complete -C 'sockcap --when-full '");
        assert_eq!(
            ok("fish", &["--private", "-c", &script]).split_whitespace().collect::<Vec<_>>(),
            ["refuse", "wait"]
        );
    }
}

#[test]
fn shells_complete_sockcapctl() {
    let dir = TempDir::new();
    for (shell, name) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
        let text = pages::completions_of_ctl(shell);
        for command in ctl::Args::command().get_subcommands() {
            assert!(text.contains(command.get_name()), "{name}: {}", command.get_name());
        }
        fs::write(dir.join(name), text).expect("write");
    }
    let bash = dir.join("bash");
    ok("bash", &["-n", &bash]);
    let complete = |words: &str, word: &str| {
        let script = format!(
            "source '{bash}'; COMP_WORDS=(sockcapctl {words} '{word}'); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _sockcapctl sockcapctl '{word}' ''; echo \"${{COMPREPLY[*]}}\""
        );
        ok("bash", &["-c", &script]).trim().to_owned()
    };
    assert_eq!(complete("", "conne"), "connections");
    assert_eq!(complete("drain", "--w"), "--wait");
    assert_eq!(complete("stop", "--f"), "--force");
    if has("zsh") {
        ok("zsh", &["-n", &dir.join("zsh")]);
    }
    if has("fish") {
        ok("fish", &["--no-execute", &dir.join("fish")]);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// log readers

/// Lines of a syslog file, as rsyslog writes them and as fail2ban makes them of journal entries.
fn syslog(lines: &[String]) -> String {
    lines.iter().map(|line| format!("Nov 21 05:35:31 host sockcap[4242]: {line}\n")).collect()
}

/// What sockcap says in its ordinary life; and refusals of IPv4, IPv6 and UNIX clients, by each reason that a test can cause.
struct Said {
    routine: Vec<String>,
    refusals: Vec<String>,
}

fn said() -> Said {
    let dir = TempDir::new();
    let mut all = Vec::new();
    let mut life = |args: &[&str], clients: &mut dyn FnMut(&mut Daemon)| {
        let unix = dir.join("socket");
        let base = ["-v", "--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--listen", &unix];
        let mut daemon = sockcap(&[&base[..], args].concat()).start();
        clients(&mut daemon);
        daemon.stop();
        all.extend(daemon.log().iter().map(|line| line.text.clone()));
    };
    let held = |daemon: &Daemon| {
        let mut stream = daemon.connect();
        echoes(&mut stream);
        stream
    };
    life(&["--max-connections", "1"], &mut |daemon| {
        let _held = held(daemon);
        refused(daemon.connect());
        refused(connect(daemon.addr(1)));
        refused(UnixStream::connect(dir.join("socket")).expect("connect"));
    });
    life(&["--max-per-listener", "1"], &mut |daemon| {
        let _held = held(daemon);
        refused(daemon.connect());
    });
    life(&["--max-per-source", "1"], &mut |daemon| {
        let mut held_v6 = connect(daemon.addr(1));
        echoes(&mut held_v6);
        let _held = held(daemon);
        refused(daemon.connect());
        refused(connect(daemon.addr(1)));
    });
    life(&["--max-rate-per-source", "1/1h"], &mut |daemon| {
        let _held = held(daemon);
        refused(daemon.connect());
    });
    life(&["--max-rate", "1/1h"], &mut |daemon| {
        let _held = held(daemon);
        refused(daemon.connect());
    });
    life(&["--penalty", "0=1h", "--penalty-max", "1h"], &mut |daemon| {
        drop(held(daemon));
        daemon.wait_text(" ended: pid ");
        refused(daemon.connect());
    });
    life(&["--max-connections", "1", "--when-full", "wait", "--max-waiting", "1"], &mut |daemon| {
        let _held = held(daemon);
        // Of one listener, so that they are taken in this order.
        let _waiting = daemon.connect();
        refused(daemon.connect());
    });
    life(&["--max-connections", "1", "--when-full", "wait", "--max-wait", "50ms"], &mut |daemon| {
        let _held = held(daemon);
        refused(daemon.connect());
    });

    // Left to a next daemon, with sockets as systemd passes them.
    let mut notify = Notify::new();
    let ours = tcp_listener("127.0.0.1:0", 16);
    let mut daemon = sockcap::<&str>(&[]).pass(ours).env("NOTIFY_SOCKET", notify.path()).start();
    notify.wait("READY=1");
    daemon.signal(Signal::SIGUSR1);
    daemon.finish();
    all.extend(daemon.log().iter().map(|line| line.text.clone()));

    let (refusals, routine) = all.into_iter().partition(|line| line.starts_with("rejected "));
    Said { routine, refusals }
}

#[test]
fn fail2ban_finds_who_was_refused_at_once() {
    if !has("fail2ban-regex") {
        return;
    }
    let Said { routine, refusals } = said();
    let dir = TempDir::new();
    let (filter, log) = (dir.join("sockcap.conf"), dir.join("log"));
    fs::write(&filter, read("debian/fail2ban/filter.d/sockcap.conf")).expect("write");
    fs::copy("/etc/fail2ban/filter.d/common.conf", dir.join("common.conf")).expect("fail2ban's common.conf");
    let found = |lines: &[String]| {
        fs::write(&log, syslog(lines)).expect("write");
        let out = ok("fail2ban-regex", &["--no-check-all", "-o", "ip", &log, &filter]);
        out.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let at_once = |line: &&String| line.contains(" of this source: ");
    let expected: Vec<String> = refusals
        .iter()
        .filter(at_once)
        .filter_map(|line| line.split(" port ").next()?.rsplit(": ").next().filter(|_| line.contains(" port ")))
        .map(str::to_owned)
        .collect();
    assert_eq!(expected, ["127.0.0.1", "::1", "127.0.0.1", "127.0.0.1"], "{refusals:#?}");
    assert_eq!(found(&refusals), expected, "{refusals:#?}");
    assert!(found(&routine).is_empty(), "{routine:#?}");
    // Each reason there is, whether the program can be brought to say it here or not.
    let one_of =
        |reason: Reason| format!("rejected connection: {}: 192.0.2.1 port 1 on 'x'", Refusal::count(reason, 3, 4));
    for reason in Reason::ALL {
        let is_found = found(&[one_of(reason)]) == ["192.0.2.1"];
        assert_eq!(is_found, reason.info().is_of_source, "{reason:?}");
    }
    // A client of another address cannot speak for this one: nothing that it sends is in the line.
    let forged = "serving connection 1 from uid 0 pid 1 on 'rejected connection: at capacity (1/1) of this source: 192.0.2.1 port 1 on 'x'";
    assert!(found(&[forged.to_owned()]).is_empty());
}

#[test]
fn fail2ban_s_filter_asks_the_journal_for_the_same() {
    let filter = read("debian/fail2ban/filter.d/sockcap.conf");
    let line = filter.lines().find_map(|line| line.strip_prefix("journalmatch = ")).expect("journalmatch");
    let asked: BTreeSet<&str> = line.split(' ').filter_map(|word| word.strip_prefix("MESSAGE_ID=")).collect();
    let wanted = Reason::ALL.into_iter().filter(|reason| reason.info().is_of_source).map(Reason::message_id);
    assert_eq!(asked, wanted.collect());
    assert!(read("debian/fail2ban/jail.d/sockcap.conf").contains("\nenabled = false\n"));
}

#[test]
fn logcheck_is_told_what_is_routine() {
    let Said { routine, refusals } = said();
    let dir = TempDir::new();
    let (rules, log) = (dir.join("rules"), dir.join("log"));
    fs::write(&rules, read("debian/sockcap.logcheck.ignore.server")).expect("write");
    // As logcheck does it.
    let left = |lines: &[String]| {
        fs::write(&log, syslog(lines)).expect("write");
        let out = Command::new("grep").args(["-E", "-v", "-f", &rules, &log]).output().expect("grep");
        assert!(out.stderr.is_empty(), "{out:?}");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    for kind in ["listening", "ready", "serving", "connection", "SIGTERM", "stopped", "handed over"] {
        assert!(routine.iter().any(|line| line.starts_with(kind)), "no {kind} in {routine:#?}");
    }
    assert_eq!(left(&routine), "");
    let each = |reason| format!("rejected connection: {}: 192.0.2.1 port 1 on 'x'", Refusal::count(reason, 3, 4));
    let refusals = [refusals, Reason::ALL.map(each).into()].concat();
    assert_eq!(left(&refusals), syslog(&refusals), "refusals are for the administrator to see");
    for used in read("debian/sockcap.logcheck.ignore.server").lines() {
        assert!(used.ends_with('$') && used.starts_with('^'), "a rule that fits in the middle of a line: {used}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// the rest

/// README.md is shipped, and links to docs/, by relative paths and without .gz.
#[test]
fn the_pages_are_shipped() {
    let (docs, rules) = (read("debian/sockcap.docs"), read("debian/rules"));
    for page in ["README.md", "docs", "SECURITY.md", "THREATS.md", "THIRD-PARTY"] {
        assert!(docs.lines().any(|line| line == page), "{page}");
    }
    assert!(rules.contains("dh_compress -X.md"), "links to .md would find .md.gz");
}

/// Of all packages, and what each of them says of it.
#[test]
fn the_versions_agree() {
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    let begins = |path: &str, line: &str| {
        let text = read(path);
        assert!(text.lines().any(|l| l.starts_with(line)), "{path}: no line begins with {line}");
    };
    let changelog = read("debian/changelog");
    assert!(changelog.starts_with(&format!("sockcap ({VERSION}-")), "{changelog}");
    begins("packaging/PKGBUILD", &format!("pkgver={VERSION}"));
    let spec = read("packaging/sockcap.spec");
    begins("packaging/sockcap.spec", &format!("Version:        {VERSION}"));
    let (_, changes) = spec.split_once("%changelog\n").expect("%changelog");
    let newest = changes.lines().next().expect("a change");
    assert!(newest.starts_with("* ") && newest.contains(&format!(" - {VERSION}-")), "{newest}");
}

/// What packaging/scripts.sh shows of the packages, where there is neither rpm nor pacman.
#[test]
fn the_other_packages_know_all_units() {
    let (spec, install) = (read("packaging/sockcap.spec"), read("packaging/sockcap.install"));
    let listed = |name: &str| {
        let line = spec.lines().find_map(|line| line.strip_prefix(&format!("%global {name} "))).expect("a list");
        line.split(' ').map(str::to_owned).collect::<BTreeSet<String>>()
    };
    let units: BTreeSet<String> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("units"))
        .expect("units")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    let lists = ["sockets", "daemons", "metrics", "templates"].map(listed);
    assert_eq!(lists.iter().flatten().cloned().collect::<BTreeSet<_>>(), units);
    assert!(lists[0].iter().all(|unit| unit.ends_with(".socket")), "{lists:?}");
    // Whose restart is a hand-over.
    let hands_over = |unit: &&String| read(&format!("units/{unit}")).contains("\nRestartKillSignal=");
    let daemons: BTreeSet<String> =
        units.iter().filter(hands_over).filter(|unit| !unit.contains("@.")).cloned().collect();
    assert!(lists[3].iter().all(|unit| unit.contains("@.")), "{lists:?}");
    assert_eq!(lists[1], daemons);
    for unit in daemons {
        let name = unit.trim_end_matches(".service");
        assert!(install.split([' ', '\'', '\n']).any(|word| word == name), "packaging/sockcap.install: {name}");
    }
}

/// All of units/, and nothing else: by links, and by what debian/rules makes of the directory's names.
#[test]
fn the_package_has_all_units_and_no_copies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = |dir: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(root.join(dir)).unwrap_or_else(|e| panic!("{dir}: {e}"));
        let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
        names.filter(|name| [".socket", ".service", ".timer"].iter().any(|kind| name.ends_with(kind))).collect()
    };
    let units = names("units");
    // As dh_installsystemd looks for them: PACKAGE.NAME.KIND, of templates PACKAGE@.NAME.KIND, and no name that is the package's.
    let linked = |unit: &String| match unit.split_once("@.") {
        Some(("sockcap", _)) => unit.clone(),
        Some((name, kind)) => format!("sockcap@.{name}.{kind}"),
        None => format!("sockcap.{unit}"),
    };
    assert_eq!(names("debian"), units.iter().map(linked).collect());
    for unit in &units {
        let target = fs::read_link(root.join("debian").join(linked(unit))).expect("a link");
        assert_eq!(target, Path::new("../units").join(unit));
    }
    if !has("make") {
        return;
    }
    let made = |target| ok("make", &["-C", env!("CARGO_MANIFEST_DIR"), "-f", "debian/rules", "-n", target]);
    let (installed, scripts) = (made("override_dh_installsystemd"), made("override_dh_installdeb"));
    let (by_dh, preset) = installed.split_once("printf 'disable").expect("a preset");
    let words = |text| BTreeSet::from_iter(str::split(text, [' ', ';', '\n']));
    let (by_dh, preset, postrm) = (words(by_dh), words(preset), read("debian/sockcap.postrm"));
    for unit in &units {
        let name = unit.split('.').next().expect("a name");
        let asked = if name == "sockcap@" { format!("{name}.socket") } else { name.trim_end_matches('@').to_owned() };
        assert!(by_dh.contains(asked.as_str()), "{unit} is not installed");
        assert!(preset.contains(unit.as_str()), "{unit} is not in the preset");
        let active = unit.replace('@', "@*");
        // Its instances are one client's each, and end in a moment.
        let is_brief = unit == "sockcap-report@.service";
        assert!(is_brief || scripts.contains(&format!("'{active}'")), "postinst and prerm know nothing of {active}");
        assert!(!unit.ends_with("@.socket") || postrm.contains(&format!("/{active}")), "nor postrm of {active}");
    }
}

/// Options and variables in examples and packaging exist.
#[test]
fn the_examples_use_what_there_is() {
    let command = Args::command();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["debian/examples", "examples/container", "examples/fleet", "examples/fleet/rsync-capped.service.d"];
    let files = folders.into_iter().flat_map(|folder| fs::read_dir(root.join(folder)).expect(folder));
    for path in files.map(|entry| entry.expect("an example").path()).filter(|path| path.is_file()) {
        let text = fs::read_to_string(&path).expect("text");
        for name in words(&text, "SOCKCAP_") {
            assert!(command.get_opts().any(|option| option.get_env().is_some_and(|env| env == name)), "{name}");
        }
        let is_podman_s = path.starts_with(root.join("examples/container"));
        let words = text.split_whitespace().filter(|_| !is_podman_s).filter_map(|word| word.strip_prefix("--"));
        for word in words.filter(|word| !word.is_empty()) {
            let systemctl_s = word == "now";
            assert!(systemctl_s || command.get_opts().any(|option| option.get_long() == Some(word)), "--{word}");
        }
    }
}
