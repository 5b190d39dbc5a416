//! What each command gets of its own as a process: what is asked for, what cannot be had at the start, and what fails later.

use crate::common::*;
use crate::usage::{mistake, with};
use nix::unistd::Pid;
use std::fs;
use std::io::Write;
use std::process::Command;

/// Runs a shell script for one client of a daemon with these options, and returns what it wrote.
#[track_caller]
fn said(options: &[&str], script: &str) -> String {
    said_by(with(options).run(&["/bin/sh", "-c", script]))
}

#[track_caller]
fn said_by(start: Start) -> String {
    let mut daemon = start.start();
    let text = to_end(daemon.connect());
    assert_eq!(daemon.stop().served, 1);
    text
}

/// Without the privileges that set what a process may only lower.
fn unprivileged(options: &[&str]) -> Start {
    let start = with(options);
    if is_root() { start.wrap(&["setpriv", "--bounding-set=-sys_nice,-sys_resource"]) } else { start }
}

/// Whether we have CAP_SYS_NICE, which root in a container may lack.
fn may_lower_nice() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("our status");
    let all = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("capabilities");
    u64::from_str_radix(all.trim(), 16).expect("hexadecimal") & 1 << 23 != 0
}

/// The soft and the hard limit of this line of /proc/PID/limits.
#[track_caller]
fn limits<'a>(text: &'a str, line: &str) -> (&'a str, &'a str) {
    let rest = text.lines().find_map(|l| l.strip_prefix(line)).unwrap_or_else(|| panic!("no {line} in {text}"));
    let mut words = rest.split_whitespace();
    (words.next().expect("soft"), words.next().expect("hard"))
}

/// Our own nice value, which may be raised.
fn our_nice() -> i32 {
    // SAFETY: integers; the result is a value from -20 to 19.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

#[test]
fn nice_is_absolute() {
    let own = our_nice();
    let lowest = if may_lower_nice() { -20 } else { own };
    let above = |more: i32| (own + more).min(19);
    for nice in [lowest, own, above(1), 19].map(|nice| nice.to_string()) {
        assert_eq!(said(&["--nice", &nice], "nice"), format!("{nice}\n"));
    }
    let nicer = |options: &[&str]| said_by(with(options).wrap(&["nice", "-n", "3"]).run(&["/usr/bin/nice"]));
    assert_eq!(nicer(&["--nice", &above(7).to_string()]), format!("{}\n", above(7)));
    assert_eq!(nicer(&[]), format!("{}\n", above(3)), "without the option");
}

#[test]
fn each_limit_has_its_place() {
    let all = [
        ("cpu=1min 40s:200", "Max cpu time", ("100", "200")),
        ("fsize=1M:2M", "Max file size", ("1048576", "2097152")),
        ("data=1G:2G", "Max data size", ("1073741824", "2147483648")),
        ("stack=1M:4M", "Max stack size", ("1048576", "4194304")),
        ("core=0", "Max core file size", ("0", "0")),
        ("rss=1G:2G", "Max resident set", ("1073741824", "2147483648")),
        ("nofile=100:200", "Max open files", ("100", "200")),
        ("as=4G:8G", "Max address space", ("4294967296", "8589934592")),
        ("nproc=40:50", "Max processes", ("40", "50")),
        ("memlock=16K:32K", "Max locked memory", ("16384", "32768")),
        ("locks=10:20", "Max file locks", ("10", "20")),
        ("sigpending=100:200", "Max pending signals", ("100", "200")),
        ("msgqueue=1K:2K", "Max msgqueue size", ("1024", "2048")),
        ("nice=0", "Max nice priority", ("0", "0")),
        ("rtprio=0", "Max realtime priority", ("0", "0")),
        ("rttime=1ms:2s", "Max realtime timeout", ("1000", "2000000")),
    ];
    let mut options = vec!["--limit", "nofile=7", "--limit", "core=infinity"];
    options.extend(all.iter().flat_map(|(limit, ..)| ["--limit", *limit]));
    let text = said(&options, "exec cat /proc/self/limits");
    for (limit, line, expected) in all {
        assert_eq!(limits(&text, line), expected, "{limit}: {text}");
    }
}

/// Descriptors are the daemon's own need, too: it keeps what it has.
#[test]
fn a_limit_on_descriptors_is_not_the_daemon_s() {
    let start = |limit: &[&str]| {
        with(limit).wrap(&["prlimit", "--nofile=300:4000"]).run(&["/bin/sh", "-c", "cat /proc/self/limits; exec cat"])
    };
    for (limit, expected) in [(&["--limit", "nofile=20:30"][..], ("20", "30")), (&[], ("300", "4000"))] {
        let mut daemon = start(limit).start();
        let client = daemon.connect();
        let own = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).expect("its limits");
        assert_eq!(limits(&own, "Max open files"), ("4000", "4000"));
        client.shutdown(std::net::Shutdown::Write).expect("shutdown");
        assert_eq!(limits(&to_end(client), "Max open files"), expected);
        daemon.stop();
    }
}

#[test]
fn umask_and_directory() {
    let dir = TempDir::new();
    let (path, file) = (fs::canonicalize(dir.path()).expect("a path"), dir.join("file"));
    let path = path.to_str().expect("a plain path");
    let options = ["--umask", "0137", "--chdir", path];
    assert_eq!(said(&options, "umask; pwd; echo >file; stat -c %a file"), format!("0137\n{path}\n640\n"));
    assert!(fs::metadata(file).is_ok());
    let variables =
        with(&[]).env("SOCKCAP_UMASK", "0").env("SOCKCAP_CHDIR", "/").env("SOCKCAP_LIMIT", "core=0 nofile=9");
    let text = said_by(variables.run(&["/bin/sh", "-c", "umask; pwd; cat /proc/self/limits"]));
    assert!(text.starts_with("0000\n/\n"), "{text}");
    assert_eq!((limits(&text, "Max open files"), limits(&text, "Max core file size")), (("9", "9"), ("0", "0")));
}

/// However the connection is passed.
#[test]
fn standard_error_goes_where_it_is_told() {
    for (pass, out) in [("stdio", 1), ("listen-fds", 3)] {
        let script = |words: &str| format!("exec >&{out}; {words}");
        let options = ["--pass", pass, "--stderr"];
        let to = |stderr| [&options[..], &[stderr]].concat();
        assert_eq!(said(&to("socket"), &script("echo one; echo two >&2; exec 2>&-; echo three")), "one\ntwo\nthree\n");
        let links = "readlink /proc/$$/fd/2; readlink /proc/$$/fd/1";
        let text = said(&to("null"), &script(links));
        assert!(text.starts_with("/dev/null\nsocket:["), "{text}");
        for pipe in ["inherit", "stream"] {
            let text = said(&to(pipe), &script(links));
            assert!(text.starts_with("pipe:["), "{text}");
        }
    }
    // What is written to the log does not go there.
    let mut daemon = with(&["--stderr", "null", "-v"]).run(&["/bin/sh", "-c", "echo lost >&2"]).start();
    assert_eq!(to_end(daemon.connect()), "");
    daemon.wait_text("connection 1 ended");
    assert_eq!((daemon.stop().served, daemon.count("lost")), (1, 0));
}

/// With as many descriptors as it says that it needs, it serves.
#[test]
fn the_descriptor_of_dev_null_is_counted() {
    let start = |options: &[&str], limit: &str| with(options).wrap(&["prlimit", &format!("--nofile={limit}")]);
    let need = |options: &[&str]| {
        let line = start(options, "8").output().one_line(&[1]);
        let number = line.split(" is too low: at least ").nth(1).and_then(|rest| rest.split(' ').next());
        number.and_then(|number| number.parse::<u64>().ok()).unwrap_or_else(|| panic!("{line}"))
    };
    let null = ["--stderr", "null"];
    let least = need(&null);
    assert_eq!(least, need(&[]) + 1);
    let mut daemon = start(&null, &least.to_string()).start();
    echoes(&mut daemon.connect());
    assert_eq!(daemon.stop().served, 1);
}

/// What no client could have is told before the first one comes.
#[test]
fn what_cannot_be_had_is_known_at_the_start() {
    let refused = |options: &[&str], says: &str| {
        let start = unprivileged(options).wrap(&["prlimit", "--nice=0", "--core=0", "--nofile=1000:4000"]);
        let line = start.output().one_line(&[1]);
        assert!(line.starts_with(&format!("sockcap: {says}")), "{line}");
    };
    refused(&["--nice", "-1"], "cannot give commands the nice value -1 (--nice): Permission denied (EACCES): ");
    for (limit, remedy) in [
        ("core=1024:2048", "a hard limit above sockcap's own, 0, needs CAP_SYS_RESOURCE; LimitCORE= of the service"),
        (
            "nofile=5:4001",
            "a hard limit above sockcap's own, 4000, needs CAP_SYS_RESOURCE; LimitNOFILE= of the service",
        ),
        ("nofile=infinity", "no process may have more than "),
    ] {
        let says =
            format!("cannot give commands the limit {limit} (--limit): Operation not permitted (EPERM): {remedy}");
        refused(&["--limit", limit], &says);
    }
}

#[test]
fn a_directory_has_to_be_there_at_the_start() {
    let enter = |path: &str, why: &str| {
        let line = with(&["--chdir", path]).output().mistake();
        assert_eq!(line, format!("sockcap: cannot start commands in '{path}' (--chdir): {why}"));
        mistake(&["--check", "--chdir", path], &format!("'{path}' (--chdir): {why}"));
    };
    enter("/nowhere/at/all", "No such file or directory (ENOENT)");
    enter("/etc/passwd", "it is not a directory");
}

#[test]
fn bad_values_of_attributes() {
    for (option, bad) in [
        ("--nice", &["", "-21", "20", "x", "1.5"][..]),
        ("--limit", &["", "nofile", "disk=1", "nofile=x", "nofile=2:1", "cpu=1x", "as=1k"]),
        ("--oom-score-adjust", &["", "-1001", "1001", "x"]),
        ("--umask", &["", "8", "1000", "-1", "u=rwx"]),
        ("--chdir", &["", "here", "./here"]),
        ("--stderr", &["", "journal", "2"]),
    ] {
        for value in bad {
            mistake(&[&format!("{option}={value}")], option);
        }
        mistake(&[option], option);
    }
    let line = with(&[]).env("SOCKCAP_LIMIT", "core=0 disk=1").output().mistake();
    assert!(line.starts_with("sockcap: SOCKCAP_LIMIT=disk=1: 'disk' is no resource: expected one of cpu, "), "{line}");
}

/// A client whose command cannot be given what it is to get is told as one whose command cannot be executed; the log says what it was.
#[track_caller]
fn fails_later(start: Start, spoil: impl FnOnce(&Daemon), says: &str) {
    let mut daemon = start.run(&["/bin/echo", "served"]).start();
    assert_eq!(to_end(daemon.connect()), "served\n");
    spoil(&daemon);
    assert_eq!(to_end(daemon.connect()), UNAVAILABLE);
    daemon.wait_text(&format!("cannot start /bin/echo: {says}; its clients are refused"));
    daemon.wait_text("rejected connection: the command could not be started: ");
    let totals = daemon.stop();
    assert_eq!((totals.served, totals.failed), (1, 1));
}

#[track_caller]
fn run(words: &[&str]) {
    assert!(Command::new(words[0]).args(&words[1..]).output().expect("run it").status.success(), "{words:?}");
}

#[test]
fn a_directory_that_vanishes() {
    let dir = TempDir::new();
    let inner = dir.join("inner");
    fs::create_dir(&inner).expect("mkdir");
    let says = "cannot enter its working directory (--chdir): No such file or directory (ENOENT)";
    fails_later(with(&["--chdir", &inner]), |_| fs::remove_dir(&inner).expect("rmdir"), says);
}

#[test]
fn a_limit_that_is_lowered_from_outside() {
    let lower = |daemon: &Daemon| prlimit(&[], daemon.pid(), "--locks=10:10");
    let says = "cannot set its limit locks (--limit): Operation not permitted (EPERM)";
    fails_later(unprivileged(&["--limit", "locks=20"]), lower, says);
}

#[test]
fn a_nice_value_that_is_out_of_reach() {
    let [wanted, beyond] = [our_nice() + 1, our_nice() + 2].map(|nice| nice.to_string());
    if our_nice() > 17 {
        return skip("a nice value out of reach", "everything here is as nice as can be");
    }
    let renice = |daemon: &Daemon| run(&["renice", "-n", &beyond, "-p", &daemon.pid().to_string()]);
    let says = "cannot set its nice value (--nice): Permission denied (EACCES)";
    fails_later(unprivileged(&["--nice", &wanted]).wrap(&["prlimit", "--nice=0"]), renice, says);
}

/// `oom_score_adj`.
fn score(pid: Pid) -> i32 {
    let text = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("a score");
    text.trim().parse().expect("a number")
}

/// A daemon whose own score is 900, which anybody may raise it to.
fn easily_killed(start: Start) -> Start {
    start.prelude("echo 900 >/proc/$$/oom_score_adj")
}

/// Exactly what is asked for, be it above or below the daemon's, a moment after its exec; but a command that has chosen itself has its
/// choice, and the daemon keeps its own.
#[test]
fn a_score_is_exactly_what_is_asked_for() {
    if score(Pid::this()) > 800 {
        return skip("the score of commands", "everything here has a high score");
    }
    let choice = "read chosen; [ -z \"$chosen\" ] || echo $chosen >/proc/$$/oom_score_adj; echo $$; exec /bin/cat";
    for wanted in [800, 901, 1000] {
        let options = ["--oom-score-adjust", &wanted.to_string()];
        let mut daemon = easily_killed(with(&options)).run(&["/bin/sh", "-c", choice]).start();
        let open = |said: &[u8]| {
            let mut client = daemon.connect();
            client.write_all(said).expect("write");
            Session::of(client)
        };
        let (own_mind, other) = (open(b"950\n"), open(b"\n"));
        until("its score", || score(other.pid) == wanted);
        assert_eq!((score(own_mind.pid), score(daemon.pid())), (950, 900));
        [own_mind, other].into_iter().for_each(Session::leave);
        daemon.stop();
    }
}

#[test]
fn a_score_out_of_reach_is_known_at_the_start() {
    let line = unprivileged(&["--oom-score-adjust", "-1000"]).output().one_line(&[1]);
    let says =
        "sockcap: cannot give commands the oom_score_adj -1000 (--oom-score-adjust): Permission denied (EACCES): ";
    assert!(line.starts_with(says), "{line}");
}

/// A copy of this program that runs as its owner, root, whoever starts it; `None`, and said so, where there is no such thing.
fn setuid(dir: &TempDir, program: &str, user: &[&str], what: &str) -> Option<String> {
    let copy = |program: &str| {
        let copy = dir.join(program);
        run(&["install", "-m", "4755", &format!("/usr/bin/{program}"), &copy]);
        copy
    };
    let shown = Command::new(user[0]).args(&user[1..]).args([&copy("id"), "-u"]).output().expect("run it");
    if shown.stdout != b"0\n" {
        skip(what, "no program runs as its owner here");
        return None;
    }
    Some(copy(program))
}

/// A command that has become another user is not ours to change.
#[test]
fn a_score_that_cannot_be_set_is_told_once() {
    let what = "a score that cannot be set";
    let Some(user) = another_user(what) else { return };
    let dir = TempDir::new();
    let Some(command) = setuid(&dir, "cat", &user, what) else { return };
    let mut daemon = with(&["--oom-score-adjust", "950"]).wrap(&user).run(&[&command]).start();
    let ours = score(daemon.pid());
    let mut client = daemon.connect();
    echoes(&mut client);
    let pid = daemon.commands()[0];
    daemon.wait_text(&format!(
        "cannot set the oom_score_adj of a command (pid {pid}) to 950 (--oom-score-adjust): Permission denied (EACCES); it keeps"
    ));
    let mut other = daemon.connect();
    echoes(&mut other);
    assert_eq!((score(pid), score(daemon.pid())), (ours, ours));
    drop((client, other));
    assert_eq!((daemon.stop().served, daemon.count("oom_score_adj")), (2, 1));
}
