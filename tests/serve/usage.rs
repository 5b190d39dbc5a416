//! What the words of the command line and the environment mean, and what a mistake in them looks like: one line, exit 2.

use std::fs;
use std::time::Duration;

use crate::common::*;
use clap::CommandFactory;
use sockcap::cli::Args;

/// Complete but for what a test adds.
pub fn with(args: &[&str]) -> Start {
    let mut all = vec!["--listen", "127.0.0.1:0"];
    all.extend(args);
    sockcap(&all)
}

/// A mistake whose line names the word that is wrong.
#[track_caller]
pub fn mistake(args: &[&str], named: &str) {
    let line = with(args).output().mistake();
    assert!(line.contains(named), "{args:?}: the line does not name {named:?}: {line}");
}

#[test]
fn unknown_options() {
    mistake(&["--no-such-thing"], "--no-such-thing");
    mistake(&["--max-connection", "3"], "--max-connection");
    mistake(&["-x"], "-x");
    // not built yet: unknown, never ignored
    mistake(&["--uid-pool", "1-2"], "--uid-pool");
}

#[test]
fn bad_numbers() {
    for bad in ["x", "-1", "1.5", "", "99999999999999999999", "3 "] {
        mistake(&[&format!("--max-connections={bad}")], "--max-connections");
        mistake(&[&format!("--max-per-listener={bad}")], "--max-per-listener");
        mistake(&[&format!("--max-waiting={bad}")], "--max-waiting");
        mistake(&[&format!("--max-per-source={bad}")], "--max-per-source");
        mistake(&["--exempt=::1", &format!("--reserved={bad}")], "--reserved");
        mistake(&[&format!("--backlog={bad}")], "--backlog");
        mistake(&[&format!("--agent-share={bad}")], "--agent-share");
    }
    for bad in ["x", "-1", "", "NaN", "inf"] {
        mistake(&[&format!("--load-average={bad}")], "--load-average");
    }
    mistake(&["--max-connections"], "--max-connections");
    mistake(&["--agent-share", "0"], "--agent-share");
}

#[test]
fn bad_durations() {
    for bad in ["x", "-1s", "", "5 parsecs", "99999999999999999999s"] {
        mistake(&[&format!("--drain-timeout={bad}")], "--drain-timeout");
        mistake(&[&format!("--kill-grace={bad}")], "--kill-grace");
        mistake(&[&format!("--max-wait={bad}")], "--max-wait");
    }
}

#[test]
fn bad_addresses() {
    for bad in [
        "",
        "70000",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:70000",
        "127.0.0.1:x",
        ":::80",
        "[::1]",
        "@",
        "relative/path",
        "vsock:1",
        "vsock:x:1",
    ] {
        let line = sockcap(&[&format!("--listen={bad}")]).output().mistake();
        assert!(line.contains("--listen"), "--listen={bad}: {line}");
    }
    // longer than sun_path
    let long = format!("/{}", "x".repeat(200));
    sockcap(&["--listen", &long]).output().one_line(&[2]);
}

#[test]
fn bad_words() {
    mistake(&["--when-full", "maybe"], "--when-full");
    mistake(&["--busy-reply", "morse"], "--busy-reply");
    mistake(&["--pass", "pigeon"], "--pass");
    mistake(&["--isolate=pigeon"], "--isolate");
    mistake(&["--log-target", "wall"], "--log-target");
    mistake(&["--max-per-listener", "=3"], "--max-per-listener");
    mistake(&["--max-per-listener", "web=many"], "--max-per-listener");
    mistake(&["--busy-message", "{nonsense}"], "nonsense");
}

/// A limit for a listener that does not exist limits nothing: it is a slip of the pen.
#[test]
fn a_limit_for_nobody() {
    mistake(&["--max-per-listener", "nobody=3"], "nobody");
}

#[test]
fn unknown_placeholders() {
    let line = with(&[]).run(&["/bin/echo", "{remote_addr} {nonsense}"]).output().mistake();
    assert!(line.contains("nonsense"), "{line}");
    with(&[]).run(&["/bin/echo", "{"]).output().mistake();
    with(&[]).run(&["/bin/echo", "{}"]).output().mistake();
    with(&[]).run(&["/bin/echo", "{remote_addr"]).output().mistake();
}

#[test]
fn no_command() {
    let line = with(&[]).no_command().output().mistake();
    assert!(line.starts_with("sockcap: no command was given"), "{line}");
    let line = with(&["--"]).no_command().output().mistake();
    assert!(line.starts_with("sockcap: no command was given"), "{line}");
    with(&[]).run(&[""]).output().mistake();
    says(with(&[]).run(&["/etc"]), "cannot run '/etc': is a directory");
    says(with(&[]).run(&["/etc/passwd"]), "cannot run '/etc/passwd': is not executable: chmod +x /etc/passwd");
    let line = with(&["/bin/cat"]).no_command().output().mistake();
    assert_eq!(line, "sockcap: unexpected argument '/bin/cat' found; the command comes after --");
    let line = with(&["--no-such-option"]).no_command().output().mistake();
    assert_eq!(line, "sockcap: unexpected argument '--no-such-option' found; --help lists the options");
}

#[test]
fn no_sockets() {
    let line = sockcap::<&str>(&[]).output().mistake();
    assert_eq!(
        line,
        "sockcap: no listening sockets were passed and no --listen was given: start the .socket unit, or give --listen"
    );
}

#[test]
fn a_command_that_cannot_run() {
    let dir = TempDir::new();
    let text = dir.join("text");
    fs::write(&text, "not a program").expect("write");
    for missing in [dir.join("missing"), text, dir.join(""), "no-such-program-anywhere".into()] {
        let line = with(&[]).run(&[&missing]).output().mistake();
        assert!(line.contains(missing.trim_end_matches('/')), "the command is not named: {line}");
    }
}

/// A name without a slash is looked for in PATH, once, at the start.
#[test]
fn a_command_from_path() {
    let mut daemon = with(&[]).run(&["cat"]).start();
    let ready = daemon.log().iter().find(|l| l.text.starts_with("ready: ")).expect("ready").text.clone();
    assert!(ready.ends_with("/cat"), "{ready}");
    echoes(&mut daemon.connect());
    daemon.stop();
}

/// Every option, its name in the environment, and a value that is not its default; and another for the environment, of those
/// that have one.
const OPTIONS: &[(&[&str], &str, &str, Option<&str>)] = &[
    (&["--backlog", "7"], "SOCKCAP_BACKLOG", "7", Some("8")),
    (&["--max-connections", "7"], "SOCKCAP_MAX_CONNECTIONS", "7", Some("8")),
    (&["--max-per-listener", "7"], "SOCKCAP_MAX_PER_LISTENER", "7", Some("8")),
    (&["--max-per-source", "7"], "SOCKCAP_MAX_PER_SOURCE", "7", Some("8")),
    (&["--source-prefix", "24,48"], "SOCKCAP_SOURCE_PREFIX", "24,48", Some("24,56")),
    (&["--exempt", "192.0.2.0/24"], "SOCKCAP_EXEMPT", "192.0.2.0/24", Some("uid=7")),
    (&["--dry-run"], "SOCKCAP_DRY_RUN", "yes", None),
    (&["--load-average", "7.5"], "SOCKCAP_LOAD_AVERAGE", "7.5", Some("8.5")),
    (&["--max-pressure", "cpu=70"], "SOCKCAP_MAX_PRESSURE", "cpu=70", Some("io=70,cpu=10")),
    (&["--when-full", "wait"], "SOCKCAP_WHEN_FULL", "wait", Some("refuse")),
    (&["--max-wait", "7s"], "SOCKCAP_MAX_WAIT", "7s", Some("8s")),
    (&["--max-waiting", "7"], "SOCKCAP_MAX_WAITING", "7", Some("8")),
    (&["--proxy-protocol"], "SOCKCAP_PROXY_PROTOCOL", "true", None),
    (&["--max-rate", "7/1m"], "SOCKCAP_MAX_RATE", "7/1m", Some("8/1m")),
    (&["--max-rate-per-source", "7/1m"], "SOCKCAP_MAX_RATE_PER_SOURCE", "7/1m", Some("8/1m")),
    (&["--penalty", "7=7s"], "SOCKCAP_PENALTY", "7=7s", Some("7=8s")),
    (&["--penalty-min", "7s"], "SOCKCAP_PENALTY_MIN", "7s", Some("8s")),
    (&["--penalty-max", "7min"], "SOCKCAP_PENALTY_MAX", "7min", Some("8min")),
    (&["--max-sources", "7"], "SOCKCAP_MAX_SOURCES", "7", Some("8")),
    (&["--half-close", "gone"], "SOCKCAP_HALF_CLOSE", "gone", Some("serve")),
    (&["--queue-order", "fair"], "SOCKCAP_QUEUE_ORDER", "fair", Some("fifo")),
    (&["--busy-reply", "rsync"], "SOCKCAP_BUSY_REPLY", "rsync", Some("none")),
    (&["--busy-message", "go away"], "SOCKCAP_BUSY_MESSAGE", "go away", Some("come back")),
    (&["--pass", "listen-fds"], "SOCKCAP_PASS", "listen-fds", Some("stdio")),
    (&["--session", "shared"], "SOCKCAP_SESSION", "shared", Some("own")),
    (&["--isolate"], "SOCKCAP_ISOLATE", "yes", Some("no")),
    (&["--time-limit", "7s"], "SOCKCAP_TIME_LIMIT", "7s", Some("8s")),
    (&["--argv0", "it"], "SOCKCAP_ARGV0", "it", Some("that")),
    (&["--stderr", "stream"], "SOCKCAP_STDERR", "stream", Some("null")),
    (&["--nice", "7"], "SOCKCAP_NICE", "7", Some("8")),
    (&["--oom-score-adjust", "7"], "SOCKCAP_OOM_SCORE_ADJUST", "7", Some("8")),
    (&["--limit", "core=7"], "SOCKCAP_LIMIT", "core=7", Some("core=8")),
    (&["--umask", "7"], "SOCKCAP_UMASK", "7", Some("17")),
    (&["--chdir", "/"], "SOCKCAP_CHDIR", "/", Some("/etc")),
    (&["--drain-timeout", "7s"], "SOCKCAP_DRAIN_TIMEOUT", "7s", Some("8s")),
    (&["--kill-grace", "7s"], "SOCKCAP_KILL_GRACE", "7s", Some("8s")),
    (&["--control", "/run/a.sock"], "SOCKCAP_CONTROL", "/run/a.sock", Some("/run/b.sock")),
    (&["--log-target", "stderr"], "SOCKCAP_LOG_TARGET", "stderr", Some("journal")),
    (&["--log-peer", "prefix"], "SOCKCAP_LOG_PEER", "prefix", Some("none")),
    (&["--agent-share", "7"], "SOCKCAP_AGENT_SHARE", "7", Some("8")),
    (&["--ipv4"], "SOCKCAP_IPV4", "true", None),
    (&["--ipv6"], "SOCKCAP_IPV6", "true", None),
    (&["--verbose"], "SOCKCAP_VERBOSE", "true", None),
    (&["--quiet"], "SOCKCAP_QUIET", "true", None),
];
/// Options with tests of their own.
const APART: [&str; 13] = [
    "listen",
    "proxy-from",
    "reserved",
    "idle-exit",
    "check",
    // with a cgroup for each connection: tests/apart
    "memory-max",
    "memory-high",
    "tasks-max",
    "cpu-weight",
    "cpu-max",
    "io-weight",
    "slot-until",
    "uid-pool",
];

/// What `--check` prints.
#[track_caller]
pub fn checked(start: Start) -> String {
    let ended = start.output();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(ended.stderr, "", "{ended:?}");
    assert!(!ended.stdout.is_empty(), "--check prints nothing");
    ended.stdout
}

#[test]
fn the_environment_says_the_same_as_the_option() {
    for option in Args::command().get_opts().filter_map(|option| option.get_long()) {
        let is_tried = APART.contains(&option) || OPTIONS.iter().any(|(words, ..)| words[0][2..] == *option);
        assert!(is_tried, "--{option} is not tried");
    }
    // A bare port, which either IP version has.
    let with = |args: &[&str]| sockcap(&[&["--listen", "0", "--check"], args].concat());
    let plain = checked(with(&[]));
    for (option, name, value, _) in OPTIONS {
        let by_option = checked(with(option));
        assert_ne!(by_option, plain, "{option:?} changes nothing in --check");
        let by_name = checked(with(&[]).env(name, *value));
        assert_eq!(by_name, by_option, "{name}={value} is not {option:?}");
    }
    let by_option = checked(sockcap(&["--check", "--listen", "127.0.0.1:0"]));
    let by_name = checked(sockcap(&["--check"]).env("SOCKCAP_LISTEN", "127.0.0.1:0"));
    assert_eq!(by_name, by_option);
}

#[test]
fn the_command_line_beats_the_environment() {
    for (option, name, _, other) in OPTIONS {
        let Some(other) = *other else { continue };
        let mut args = vec!["--check"];
        args.extend(*option);
        assert_eq!(checked(with(&args).env(name, other)), checked(with(&args)), "{name} beats {option:?}");
        assert_ne!(
            checked(with(&["--check"]).env(name, other)),
            checked(with(&args)),
            "{name}={other} changes nothing"
        );
    }
}

#[test]
fn a_bad_environment_is_a_mistake() {
    let takes_any_text = |name: &str| ["SOCKCAP_BUSY_MESSAGE", "SOCKCAP_ARGV0"].contains(&name);
    for (option, name, ..) in OPTIONS.iter().filter(|(_, name, ..)| !takes_any_text(name)) {
        let line = with(&[]).env(name, "nonsense!").output().mistake();
        assert!(line.contains(option[0]) || line.contains(name), "neither {} nor {name} is named: {line}", option[0]);
    }
}

#[test]
fn the_aliases_are_the_option() {
    let expected = checked(with(&["--check", "--max-connections", "7"]));
    for alias in ["--max-clients", "--maxclients", "--processes"] {
        assert_eq!(checked(with(&["--check", alias, "7"])), expected, "{alias}");
    }
    assert_eq!(checked(with(&["--check", "--max-load", "3"])), checked(with(&["--check", "--load-average", "3"])));
}

#[test]
fn check_prints_the_settings_and_listens_to_nothing() {
    let taken = tcp_listener("127.0.0.1:0", 16);
    let addr = taken.local_addr().expect("address").to_string();
    let text = checked(sockcap(&["--check", "--listen", &addr, "--max-connections", "7", "--busy-message", "go away"]));
    for part in ["max-connections", "7", "go away", "when-full", "refuse", "/bin/cat", &addr] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[test]
fn check_finds_mistakes() {
    mistake(&["--check", "--max-connections", "x"], "--max-connections");
    with(&["--check"]).run(&["/nonexistent/command"]).output().mistake();
    with(&["--check"]).run(&["/bin/echo", "{nonsense}"]).output().mistake();
    with(&["--check"]).no_command().output().mistake();
    let line = with(&["--check", "--max-per-listener", "nobody=3"]).output().mistake();
    assert!(line.contains("nobody=3") && line.contains("known names: '127.0.0.1:0'"), "{line}");
    let line = sockcap(&["--check", "--max-per-listener", "nobody=3"])
        .pass(tcp_listener("127.0.0.1:0", 16))
        .names("web")
        .output()
        .mistake();
    assert!(line.contains("nobody=3") && line.contains("known names: 'web'"), "{line}");
    for (option, listen, version) in [("--ipv4", "[::1]:7000", "IPv6"), ("--ipv6", "127.0.0.1:7000", "IPv4")] {
        let line = format!("{option} excludes '{listen}' of --listen, an address of {version}: leave one out");
        says(sockcap(&[option, "--listen", listen]), &line);
        says(sockcap(&[option, "--listen", listen, "--check"]), &line);
    }
    // A label of more than 63 letters: no name server is asked.
    let nowhere = format!("{}:80", "x".repeat(64));
    let args = ["--listen", &nowhere, "--check"];
    let line = sockcap(&args).output().one_line(&[1]);
    let unresolved = format!("sockcap: cannot listen on '{nowhere}': the name cannot be resolved (");
    assert!(line.starts_with(&unresolved) && !line.contains("lookup"), "{line}");
    assert_eq!(line, sockcap(&args[..2]).output().one_line(&[1]), "the start says another thing");
    let line = with(&[]).env("SOCKCAP_MAX_PER_LISTENER", "nobody=3").output().mistake();
    assert!(line.starts_with("sockcap: SOCKCAP_MAX_PER_LISTENER=nobody=3: no listener has this name"), "{line}");
    // What cannot be known without the sockets is not refused, and what has no effect is said to have none.
    checked(sockcap(&["--check", "--max-per-listener", "nobody=3"]));
    let text = checked(with(&["--check", "--max-wait", "3s"]));
    assert!(text.contains("3s (not used: needs --when-full wait)"), "{text}");
    let text = checked(with(&["--check", "--half-close", "gone"]));
    assert!(text.contains("gone (not used: needs --when-full wait)"), "{text}");
    let family = |args: &[&str]| checked(sockcap(args)).lines().find(|l| l.starts_with("family")).map(str::to_owned);
    let words = |line: Option<String>| line.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    let unused = words(family(&["--check", "--ipv4"]));
    assert_eq!(unused.as_deref(), Some("family IPv4 (not used: needs --listen)"));
    let used = words(family(&["--check", "--ipv4", "--listen", "0"]));
    assert_eq!(used.as_deref(), Some("family IPv4"));
}

/// `--help` has every option, `-h` those that most people need, and says where the others are.
#[test]
fn help_and_version() {
    let said = |word: &str| {
        let ended = sockcap(&[word]).no_command().output();
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        assert_eq!(ended.stderr, "");
        ended.stdout
    };
    let (short, whole) = (said("-h"), said("--help"));
    for (option, ..) in OPTIONS {
        assert!(whole.contains(option[0]), "{} is not in --help", option[0]);
    }
    for word in ["--listen", "--max-connections", "--when-full", "--check", "--help has all"] {
        assert!(short.contains(word), "{word} is not in -h: {short}");
    }
    assert!(!short.contains("--log-peer"), "-h is to be short: {short}");
    for text in [short, whole] {
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
        assert!(text.contains("\nWaiting and refusing:\n"), "no groups: {text}");
    }
    let ended = sockcap(&["--version"]).no_command().output();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(ended.stdout.trim_end(), concat!("sockcap ", env!("CARGO_PKG_VERSION")));
}

/// `--quiet` says less, `--verbose` more, and neither changes what is done.
#[test]
fn quiet_and_verbose() {
    let lines = |option: &str| {
        let mut notify = Notify::new();
        let ours = tcp_listener("127.0.0.1:0", 16);
        let to = ours.local_addr().expect("address");
        let mut daemon =
            sockcap(&["--max-connections", "1", option]).pass(ours).env("NOTIFY_SOCKET", notify.path()).spawn();
        notify.wait("READY=1");
        let mut client = connect(to);
        echoes(&mut client);
        refused(connect(to));
        drop(client);
        daemon.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(daemon.finish().code(), Some(0));
        daemon.log().to_vec()
    };
    let (quiet, verbose) = (lines("--quiet"), lines("--verbose"));
    assert!(quiet.len() < verbose.len(), "quiet: {quiet:#?} verbose: {verbose:#?}");
    assert!(quiet.iter().any(|l| l.text.starts_with("rejected connection: ")), "a warning is not noise: {quiet:#?}");
}

/// Exit 2 and this very line.
#[track_caller]
pub fn says(start: Start, line: &str) {
    assert_eq!(start.output().mistake(), format!("sockcap: {line}"));
}

/// A limit that is misspelt limits nothing: it is a mistake, and the line says what was meant.
#[test]
fn a_variable_that_no_option_has() {
    let variable = |name: &str, line: &str| {
        says(with(&[]).env(name, "3"), line);
        says(with(&["--check"]).env(name, "3"), line);
    };
    variable(
        "SOCKCAP_MAX_CONECTIONS",
        "unknown variable SOCKCAP_MAX_CONECTIONS; did you mean SOCKCAP_MAX_CONNECTIONS?",
    );
    for alias in ["MAX_CLIENTS", "MAXCLIENTS", "PROCESSES"] {
        let option = alias.to_lowercase().replace('_', "-");
        let line = format!("unknown variable SOCKCAP_{alias}: --{option} is read from SOCKCAP_MAX_CONNECTIONS");
        variable(&format!("SOCKCAP_{alias}"), &line);
    }
    variable("SOCKCAP_HELP", "unknown variable SOCKCAP_HELP; --help lists the options, each is also a variable");
    variable("SOCKCAP_MAX_LOAD", "unknown variable SOCKCAP_MAX_LOAD: --max-load is read from SOCKCAP_LOAD_AVERAGE");
    // Help is for those who do not know the names.
    assert_eq!(sockcap(&["--help"]).env("SOCKCAP_HELP", "1").no_command().output().status.code(), Some(0));
}

/// sockcap as a command of sockcap: what the outer one sets for it is no option that the inner one misses.
#[test]
fn a_command_may_be_sockcap() {
    let inner = binary().into_string().expect("text");
    let mut daemon =
        with(&[]).run(&["/bin/sh", "-c", &format!("exec {inner} --check --listen 0 -- /bin/cat 2>&1")]).start();
    let said = to_end(daemon.connect());
    assert!(said.contains("max-connections"), "{said}");
    daemon.stop();
}

/// A mistake in a variable names the variable: the option is nowhere to be seen in the unit.
#[test]
fn a_mistake_in_a_variable_names_it() {
    let variable = |name: &str, value: &str, why: &str| says(with(&[]).env(name, value), &format!("{name}{why}"));
    let number = "expected a number from 0 to 4294967295, where 0 is no limit";
    variable("SOCKCAP_MAX_CONNECTIONS", "x", &format!("=x: {number}"));
    variable("SOCKCAP_MAX_CONNECTIONS", "infinity", &format!("=infinity: {number}"));
    variable("SOCKCAP_MAX_PER_LISTENER", "web=x", &format!("=web=x: {number}"));
    variable("SOCKCAP_WHEN_FULL", "drop", "=drop: expected refuse or wait");
    variable("SOCKCAP_BUSY_MESSAGE", "{x}", "={x}: '{x}' is not one of {max}, {active}, {retry}");
    variable("SOCKCAP_QUIET", "maybe", "=maybe: expected true or false");
    for name in ["MAX_CONNECTIONS", "MAX_PER_LISTENER", "WHEN_FULL", "MAX_WAIT", "BUSY_MESSAGE", "QUIET", "LOG_PEER"] {
        variable(&format!("SOCKCAP_{name}"), "", " is set, but empty: give it a value, or unset it");
    }
    says(sockcap(&["-v"]).env("SOCKCAP_QUIET", "yes"), "--verbose and SOCKCAP_QUIET exclude each other: leave one out");
    checked(with(&["-v", "--check"]).env("SOCKCAP_QUIET", "no"));
    // The command line wins, and then the variable's value does not matter.
    checked(with(&["--check", "--max-connections", "3"]).env("SOCKCAP_MAX_CONNECTIONS", "x"));
    says(
        with(&["--max-connections", "y"]).env("SOCKCAP_MAX_CONNECTIONS", "x"),
        &format!("invalid value 'y' for '--max-connections <N>': {number}"),
    );
}

/// What people type who know other programs.
#[test]
fn mistakes_say_what_to_type() {
    let number = "expected a number from 0 to 4294967295, where 0 is no limit";
    let duration = "expected a duration such as 30s, 5min or '1h 30min', at most ten years";
    says(with(&["--max-connections", "-1"]), &format!("invalid value '-1' for '--max-connections <N>': {number}"));
    says(
        with(&["--max-wait", "infinity"]),
        &format!("invalid value 'infinity' for '--max-wait <DURATION>': {duration}, where 0 is no limit"),
    );
    says(
        with(&["--kill-grace", "infinity"]),
        &format!("invalid value 'infinity' for '--kill-grace <DURATION>': {duration}"),
    );
    says(with(&["--max-wait", "5", "min"]), "--max-wait 5 min is two words: write --max-wait 5min");
    says(with(&["--max-wait=5", "min"]), "--max-wait 5 min is two words: write --max-wait 5min");
    says(
        with(&["--max-conections", "5"]),
        "unexpected argument '--max-conections' found; did you mean --max-connections?",
    );
    for (typed, meant) in [
        (&["--max-conn", "5"][..], "'--max-conn' found; did you mean --max-connections?"),
        (&["--max-conn=5"], "'--max-conn' found; did you mean --max-connections?"),
        (&["-max-connections", "5"], "'-m' found; did you mean --max-connections?"),
        (&["-verbose"], "'-e' found; did you mean --verbose?"),
        (&["\u{2014}max-connections", "5"], "'\u{2014}max-connections' found; did you mean --max-connections?"),
        (&["\u{2013}max-connections=5"], "'\u{2013}max-connections=5' found; did you mean --max-connections?"),
        (&["--halp"], "'--halp' found; did you mean --help?"),
        (&["--max", "5"], "'--max' found; --help lists the options"),
        (&["-c", "5"], "'-c' found; --help lists the options"),
        (&["-?"], "'-?' found; --help lists the options"),
    ] {
        says(with(typed), &format!("unexpected argument {meant}"));
    }
    says(
        with(&["--max-wait", "-5s"]),
        &format!("invalid value '-5s' for '--max-wait <DURATION>': {duration}, where 0 is no limit"),
    );
    says(with(&["--argv0", "-sh"]), "a value that begins with '-' follows a '=': write --argv0=-sh");
    for name in ["--max-connections", "--maxclients", "--listen", "--argv0"] {
        says(with(&[name]), &format!("{name} needs a value"));
    }
    says(with(&["--maxclients", "--quiet"]), "--maxclients needs a value");
    says(with(&["--log-target"]), "--log-target needs a value: expected auto, journal or stderr");
    says(
        with(&["--log-target", "syslog"]),
        "invalid value 'syslog' for '--log-target <auto|journal|stderr>': expected auto, journal or stderr",
    );
    for (typed, why) in [
        ("hello:5", "expected N or NAME=N"),
        ("=5", "a name is missing before the '='; expected N or NAME=N"),
        ("-1", number),
    ] {
        says(
            with(&["--max-per-listener", typed]),
            &format!("invalid value '{typed}' for '--max-per-listener <N|NAME=N>': {why}"),
        );
    }
    let line = with(&[]).run(&["/usr/bin/env", "{print}"]).output().mistake();
    assert!(line.contains("unknown placeholder '{print}' in '{print}'; write {{print}} for literal braces"), "{line}");
}

/// A signal that means nothing may come as often as it likes: once in ten seconds.
#[test]
fn an_ignored_signal_is_told_once() {
    unless_stalled(Duration::from_secs(10), || {
        let mut daemon = sockcap(&["--listen", "127.0.0.1:0"]).start();
        daemon.signal(nix::sys::signal::Signal::SIGUSR1);
        daemon.wait_text("SIGUSR1 ignored");
        for _ in 0..20 {
            daemon.signal(nix::sys::signal::Signal::SIGUSR2);
            to_end({
                let stream = daemon.connect();
                stream.shutdown(std::net::Shutdown::Write).expect("shutdown");
                stream
            });
        }
        daemon.stop();
        assert_eq!(daemon.count(" ignored"), 1, "{:#?}", daemon.log());
    });
}

/// Nobody reads stderr, which has room for 4 KiB: a line that names a longer word is cut, and waits for nobody.
#[test]
fn a_long_line_does_not_wait_for_its_reader() {
    let (reader, writer) = nix::unistd::pipe().expect("pipe");
    let room = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETPIPE_SZ(4096)).expect("F_SETPIPE_SZ");
    assert!(room >= libc::PIPE_BUF as i32);
    let word = format!("--{}", "\u{fc}".repeat(room as usize));
    let mut daemon = with(&[&word]).stderr(writer).spawn();
    let ended = pidfd(daemon.pid());
    assert!(ready(&ended, nix::poll::PollFlags::POLLIN, FUSE), "it waits for a reader");
    assert_eq!(daemon.finish().code(), Some(2));
    drop(daemon);
    let line = to_end(fs::File::from(reader));
    assert!(line.starts_with("sockcap: unexpected argument '--\u{fc}") && line.ends_with("\u{fc}...\n"), "{line}");
}
