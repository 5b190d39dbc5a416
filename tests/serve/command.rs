//! What the command finds when it starts: a clean process, a connection, and the words that describe it.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use crate::common::*;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};

/// Runs a command for one client of a daemon that `prepare` may spoil, and returns what the command wrote.
#[track_caller]
fn output_of(command: &[&str], prepare: impl FnOnce(Start) -> Start) -> String {
    let mut daemon = prepare(sockcap(&["--listen", "127.0.0.1:0"]).run(command)).start();
    let text = to_end(daemon.connect());
    assert_eq!(daemon.stop().served, 1);
    text
}

/// The value after `Name:` in a file like /proc/self/status.
#[track_caller]
fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim()
}

// ---------------------------------------------------------------------------------------------------------------------
// a clean start

#[test]
fn signals_are_as_they_come_from_the_factory() {
    let spoil = |s: Start| s.wrap(&["env", "--ignore-signal=PIPE", "--ignore-signal=HUP", "--block-signal=USR1"]);
    // that this spoils anything at all shows in a command run without sockcap between
    let spoilt = Command::new("env")
        .args(["--ignore-signal=PIPE", "--ignore-signal=HUP", "--block-signal=USR1", "cat", "/proc/self/status"])
        .output()
        .expect("env");
    let spoilt = String::from_utf8(spoilt.stdout).expect("text");
    assert_ne!(field(&spoilt, "SigIgn"), "0000000000000000");
    assert_ne!(field(&spoilt, "SigBlk"), "0000000000000000");

    for prepare in [|s| s, spoil] {
        let status = output_of(&["/bin/cat", "/proc/self/status"], prepare);
        assert_eq!(field(&status, "SigBlk"), "0000000000000000");
        assert_eq!(field(&status, "SigIgn"), "0000000000000000");
    }
}

/// Only 0, 1 and 2, even when somebody left another one open for sockcap.
#[test]
fn no_stray_descriptors() {
    // `; :` keeps the shell from becoming ls, which would count its own
    let list = &["/bin/sh", "-c", "ls /proc/$$/fd; :"];
    assert_eq!(output_of(list, |s| s), "0\n1\n2\n");
    assert_eq!(output_of(list, |s| s.prelude("exec 9</dev/null")), "0\n1\n2\n");
}

/// The passed listeners are the daemon's alone.
#[test]
fn no_listeners() {
    let (one, two) = (tcp_listener("127.0.0.1:0", 16), tcp_listener("127.0.0.1:0", 16));
    let to = two.local_addr().expect("address");
    let mut daemon = sockcap::<&str>(&[]).pass(one).pass(two).run(&["/bin/sh", "-c", "ls /proc/$$/fd; :"]).start();
    // others are being served meanwhile
    let _crowd: Vec<TcpStream> = (0..5).map(|_| connect(to)).collect();
    assert_eq!(to_end(connect(to)), "0\n1\n2\n");
    daemon.stop();
}

#[test]
fn the_connection_is_0_and_1_and_blocks() {
    let text = output_of(&["/bin/sh", "-c", "readlink /proc/$$/fd/0 /proc/$$/fd/1; cat /proc/$$/fdinfo/0"], |s| s);
    let links: Vec<&str> = text.lines().take(2).collect();
    assert!(links[0].starts_with("socket:["), "{text}");
    assert_eq!(links[0], links[1]);
    let flags = u32::from_str_radix(field(&text, "flags"), 8).expect("octal");
    assert_eq!(flags & libc::O_NONBLOCK as u32, 0, "O_NONBLOCK is set: {text}");
}

#[test]
fn stderr_is_the_daemons() {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0"]).run(&["/bin/sh", "-c", "echo from the command >&2"]).start();
    assert_eq!(to_end(daemon.connect()), "");
    daemon.wait_for("the command's own line", |l| l.text == "from the command");
    daemon.stop();
}

#[test]
fn a_group_of_its_own_and_a_session_of_its_own_unless_it_is_shared() {
    // The daemon is in the test's.
    let ours = nix::unistd::getsid(None).expect("getsid").to_string();
    for (whose, is_own) in [(None, true), (Some("own"), true), (Some("shared"), false)] {
        let stat = output_of(&["/bin/cat", "/proc/self/stat"], |s| match whose {
            Some(whose) => s.env("SOCKCAP_SESSION", whose),
            None => s,
        });
        let pid = stat.split(' ').next().expect("pid");
        let rest: Vec<&str> = stat[stat.rfind(')').expect("name") + 2..].split(' ').collect();
        assert_eq!(rest[2], pid, "process group: {stat}");
        assert_eq!(rest[3], if is_own { pid } else { &ours }, "session, {whose:?}: {stat}");
    }
}

/// However many descriptors the daemon allows itself, the command gets what sockcap was started with.
#[test]
fn the_soft_limit_on_descriptors_is_restored() {
    let limits = output_of(&["/bin/cat", "/proc/self/limits"], |s| s.wrap(&["prlimit", "--nofile=123:456"]));
    let files: Vec<&str> =
        limits.lines().find(|l| l.starts_with("Max open files")).expect("the limit").split_whitespace().collect();
    assert_eq!(files[3..5], ["123", "456"], "{limits}");
}

// ---------------------------------------------------------------------------------------------------------------------
// the environment

/// With too few descriptors it says how many it needs, and with so many it serves.
#[test]
fn too_few_descriptors_are_counted() {
    let with = |limit: u64| sockcap(&["--listen", "127.0.0.1:0"]).prelude(&format!("ulimit -n {limit}"));
    let need = |limit: u64| -> u64 {
        let line = with(limit).output().one_line(&[1]);
        let words = format!("LimitNOFILE={limit} is too low: at least ");
        let rest = line.split_once(&words).unwrap_or_else(|| panic!("{line}")).1;
        rest.strip_suffix(" descriptors are needed").and_then(|number| number.parse().ok()).expect("a number")
    };
    let least = need(8);
    assert_eq!(need(least - 1), least);
    let mut daemon = with(least).start();
    echoes(&mut daemon.connect());
    assert_eq!(daemon.stop().served, 1);
}

/// A small stack is enough to serve from, and commands have it as it was.
#[test]
fn the_soft_limit_on_the_stack_is_restored() {
    let limits = output_of(&["/bin/cat", "/proc/self/limits"], |s| s.prelude("ulimit -S -s 64"));
    assert!(limits.lines().any(|l| l.starts_with("Max stack size") && l.contains(" 65536 ")), "{limits}");
    let line = sockcap(&["--listen", "127.0.0.1:0"]).prelude("ulimit -s 64").output().one_line(&[1]);
    assert!(line.contains("the stack is limited to 64 KiB (LimitSTACK=, ulimit -s)"), "{line}");
}

fn environment(text: &str) -> HashMap<String, String> {
    text.lines().filter_map(|l| l.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

const ENV: &[&str] = &["/usr/bin/env"];

#[track_caller]
fn is(env: &HashMap<String, String>, name: &str, value: &str) {
    assert_eq!(env.get(name).map(String::as_str), Some(value), "{name} in {env:#?}");
}

#[track_caller]
fn is_unset(env: &HashMap<String, String>, names: &[&str]) {
    for name in names {
        assert!(!env.contains_key(*name), "{name} in {env:#?}");
    }
}

#[track_caller]
fn tcp_environment(listener: &str, ip: &str) {
    let ours = tcp_listener(listener, 16);
    let port = ours.local_addr().expect("address").port();
    let to = std::net::SocketAddr::new(ip.parse().expect("ip"), port);
    let mut daemon = sockcap::<&str>(&[]).pass(ours).run(ENV).start();
    let client = connect(to);
    let from = client.local_addr().expect("address").port().to_string();
    let env = environment(&to_end(client));
    is(&env, "REMOTE_ADDR", ip);
    is(&env, "REMOTE_PORT", &from);
    is(&env, "PROTO", "TCP");
    is(&env, "TCPLOCALIP", ip);
    is(&env, "TCPLOCALPORT", &port.to_string());
    is(&env, "TCPREMOTEIP", ip);
    is(&env, "TCPREMOTEPORT", &from);
    is(&env, "TCPCONNNUM", "1");
    assert!(env["SO_COOKIE"].parse::<u64>().is_ok_and(|c| c > 0), "{env:#?}");
    let other = environment(&to_end(connect(to)));
    assert_ne!(env["SO_COOKIE"], other["SO_COOKIE"]);
    is_unset(&env, &["IPCREMOTEEUID", "IPCREMOTEEGID", "IPCREMOTEPATH", "IPCCONNNUM"]);
    daemon.stop();
}

#[test]
fn the_environment_of_ipv4() {
    tcp_environment("127.0.0.1:0", "127.0.0.1");
}

#[test]
fn the_environment_of_ipv6() {
    tcp_environment("[::1]:0", "::1");
}

#[test]
fn the_environment_of_a_mapped_address_is_that_of_ipv4() {
    tcp_environment("[::ffff:127.0.0.1]:0", "127.0.0.1");
}

#[test]
fn the_environment_of_unix() {
    let dir = TempDir::new();
    let path = dir.join("s");
    let mut daemon = sockcap(&["--listen", &path])
        .run(ENV)
        // what a client has not got must not come from somewhere else
        .env("REMOTE_ADDR", "stale")
        .env("REMOTE_PORT", "stale")
        .env("TCPREMOTEIP", "stale")
        .env("TCPREMOTEHOST", "stale")
        .env("TCPREMOTEINFO", "stale")
        .env("TCPLOCALHOST", "stale")
        .env("REMOTE_HOST", "stale")
        .env("REMOTE_IDENT", "stale")
        .env("UNIXREMOTEPID", "stale")
        .env("SSLREMOTEHOST", "stale")
        .env("TCP6REMOTEIP", "stale")
        .env("VSOCKREMOTECID", "stale")
        .env("MONITOR_SERVICE_RESULT", "stale")
        .env("MAINPID", "stale")
        .env("IPCREMOTEPATH", "stale")
        .start();
    let env = environment(&to_end(UnixStream::connect(&path).expect("connect")));
    is(&env, "PROTO", "IPC");
    is(&env, "IPCREMOTEEUID", &nix::unistd::geteuid().to_string());
    is(&env, "IPCREMOTEEGID", &nix::unistd::getegid().to_string());
    is(&env, "IPCCONNNUM", "1");
    assert!(env["SO_COOKIE"].parse::<u64>().is_ok_and(|c| c > 0), "{env:#?}");
    is_unset(&env, &["REMOTE_ADDR", "REMOTE_PORT", "TCPREMOTEIP", "TCPREMOTEPORT", "TCPLOCALIP", "TCPCONNNUM"]);
    assert!(!env.values().any(|value| value == "stale"), "{env:#?}");

    // a client that has a name of its own
    let fd = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("socket");
    let own = dir.join("client");
    socket::bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &UnixAddr::new(own.as_str()).expect("path")).expect("bind");
    socket::connect(std::os::fd::AsRawFd::as_raw_fd(&fd), &UnixAddr::new(path.as_str()).expect("path"))
        .expect("connect");
    let env = environment(&to_end(UnixStream::from(fd)));
    is(&env, "IPCREMOTEPATH", &own);
    is(&env, "REMOTE_ADDR", &own);
    daemon.stop();
}

/// How many there are from the same address, this one included.
#[test]
fn connnum_counts_those_of_the_same_source() {
    let mut daemon =
        sockcap(&["--listen", "127.0.0.1:0"]).run(&["/bin/sh", "-c", "echo $TCPCONNNUM; exec cat"]).start();
    let mut clients: Vec<TcpStream> = Vec::new();
    for nth in 1..=3 {
        let mut client = daemon.connect();
        assert_eq!(line(&mut client), nth.to_string());
        clients.push(client);
    }
    drop(clients);
    until("an empty daemon", || daemon.commands().is_empty());
    assert_eq!(line(&mut daemon.connect()), "1");
    daemon.stop();
}

/// What the service manager told sockcap is none of the command's business; everything else is handed on.
#[test]
fn private_variables_are_removed() {
    let notify = Notify::new();
    let private = [
        ("NOTIFY_SOCKET", notify.path()),
        ("WATCHDOG_USEC", "60000000".into()),
        ("WATCHDOG_PID", "1".into()),
        ("FDSTORE", "8".into()),
        ("LISTEN_PIDFDID", "1".into()),
        ("MEMORY_PRESSURE_WATCH", "/dev/null".into()),
        ("MEMORY_PRESSURE_WRITE", "c29tZSAyMDAwMDAgMjAwMDAwMAA=".into()),
        ("SOCKCAP_MAX_CONNECTIONS", "5".into()),
        ("SOCKCAP_BUSY_MESSAGE", "no".into()),
    ];
    let ours = tcp_listener("127.0.0.1:0", 16);
    let to = ours.local_addr().expect("address");
    let mut start =
        sockcap(&["--busy-reply", "text"]).pass(ours).names("web").run(ENV).env("KEPT", "as it is").env("EMPTY", "");
    for (name, value) in private.iter().filter(|(n, _)| *n != "LISTEN_PIDFDID") {
        start = start.env(name, value.clone());
    }
    let mut daemon = start.start();
    let env = environment(&to_end(connect(to)));
    is_unset(&env, &private.iter().map(|(n, _)| *n).collect::<Vec<_>>());
    is_unset(&env, &["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"]);
    is(&env, "KEPT", "as it is");
    is(&env, "EMPTY", "");
    is(&env, "PATH", &std::env::var("PATH").expect("PATH"));
    daemon.stop();

    // the number of a pidfd that is not ours says that the sockets are not ours either; without sockets it is just removed
    let env = environment(&output_of(ENV, |s| s.env("LISTEN_PIDFDID", "1")));
    is_unset(&env, &["LISTEN_PIDFDID"]);
}

// ---------------------------------------------------------------------------------------------------------------------
// placeholders

#[test]
fn placeholders_of_tcp() {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0"])
        .run(&[
            "/bin/echo",
            "{remote_addr} {remote_port}",
            "{local_addr}:{local_port}",
            "{listener}",
            "{{x",
            "a{id}b",
            "$HOME",
        ])
        .start();
    let local = daemon.addr(0);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let client = daemon.connect();
        let from = client.local_addr().expect("address");
        let text = to_end(client);
        let start = format!("{} {} {local} 127.0.0.1:0 {{x a", from.ip(), from.port());
        let id = text.strip_prefix(&start).unwrap_or_else(|| panic!("{text:?} does not begin with {start:?}"));
        ids.push(id.strip_suffix("b $HOME\n").unwrap_or_else(|| panic!("{text:?}")).to_owned());
    }
    assert!(!ids[0].is_empty());
    assert_ne!(ids[0], ids[1], "an id is one connection's own");
    daemon.stop();
}

#[test]
fn placeholders_of_unix() {
    let dir = TempDir::new();
    let path = dir.join("s");
    let mut daemon = sockcap(&["--listen", &path]).run(&["/bin/echo", "{uid} {pid} {listener}"]).start();
    let client = UnixStream::connect(&path).expect("connect");
    assert_eq!(to_end(client), format!("{} {} {path}\n", nix::unistd::geteuid(), std::process::id()));
    daemon.stop();
}

/// `--argv0`: tcpd starts the program that its own name says, and would start itself for ever under its path.
#[test]
fn argv0_is_the_command_s_own_name() {
    let own_name = |options: &[&str]| {
        let args = [&["--listen", "127.0.0.1:0"], options].concat();
        let daemon = sockcap(&args).run(&["/bin/sh", "-c", "tr '\\0' '\\n' </proc/$$/cmdline | head -n 1"]).start();
        to_end(daemon.connect())
    };
    assert_eq!(own_name(&[]), "/bin/sh\n");
    // It is taken as it is.
    assert_eq!(own_name(&["--argv0", "{id}.fingerd"]), "{id}.fingerd\n");
    let line = sockcap(&["--listen", "127.0.0.1:0", "--argv0", ""]).output().mistake();
    assert!(line.contains("--argv0"), "{line}");
}

/// What a client could choose stays one argument: it can neither add words nor be read by a shell.
#[test]
fn a_placeholder_is_one_argument() {
    let dir = TempDir::new();
    let path = dir.join("s");
    let ours = UnixListener::bind(&path).expect("bind");
    let mut daemon = sockcap::<&str>(&[])
        .pass(ours)
        .names("two words; $(false)")
        .run(&["/usr/bin/printf", "<%s>", "{listener}", "end"])
        .start();
    assert_eq!(to_end(UnixStream::connect(&path).expect("connect")), "<two words; $(false)><end>");
    daemon.stop();
}

// ---------------------------------------------------------------------------------------------------------------------
// --pass listen-fds

#[test]
fn the_connection_as_descriptor_3() {
    let command = &[
        "/bin/sh",
        "-c",
        "echo $LISTEN_FDS $LISTEN_FDNAMES >&3; [ $LISTEN_PID = $$ ] && echo mine >&3; exec /bin/cat <&3 >&3",
    ];
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--pass", "listen-fds"]).run(command).start();
    let mut client = daemon.connect();
    assert_eq!(line(&mut client), "1 connection");
    assert_eq!(line(&mut client), "mine", "LISTEN_PID is not the command's own");
    echoes(&mut client);
    drop(client);
    assert_eq!(daemon.stop().served, 1);
}

/// Seen from outside, since a shell that redirects keeps descriptors of its own.
#[test]
fn the_connection_is_descriptor_3_alone() {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--pass", "listen-fds", "--drain-timeout", "0s"])
        .run(&["/bin/sleep", "60"])
        .prelude("exec 9</dev/null")
        .start();
    let _client = daemon.connect();
    let comm = |pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    until("the command", || daemon.commands().iter().any(|pid| comm(*pid) == "sleep\n"));
    let pid = daemon.commands()[0];
    let fd = |n: u32| fs::read_link(format!("/proc/{pid}/fd/{n}")).map(|l| l.to_string_lossy().into_owned());
    let open: Vec<u32> = (0..1024).filter(|n| fd(*n).is_ok()).collect();
    assert_eq!(open, [0, 1, 2, 3]);
    assert!(fd(3).is_ok_and(|l| l.starts_with("socket:[")), "{:?}", fd(3));
    assert_ne!(fd(0).expect("stdin"), fd(3).expect("connection"));
    assert_ne!(fd(1).expect("stdout"), fd(3).expect("connection"));
    daemon.stop();
}

// ---------------------------------------------------------------------------------------------------------------------
// commands that cannot be started

/// Gone after the start: every client is told, no slot is lost, the log has one line per episode, and it heals by itself.
#[test]
fn a_command_that_disappears_and_comes_back() {
    let dir = TempDir::new();
    let command = dir.join("command");
    symlink("/bin/cat", &command).expect("symlink");
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--max-connections", "1"]).run(&[&command]).start();
    let serve = |daemon: &Daemon| {
        let mut client = daemon.connect();
        echoes(&mut client);
        drop(client);
        until("an empty daemon", || daemon.commands().is_empty());
    };
    let told = |daemon: &Daemon| {
        for _ in 0..3 {
            assert_eq!(to_end(daemon.connect()), UNAVAILABLE);
            // the client is told a moment before the process that could not become the command is gone
            until("an empty daemon", || daemon.commands().is_empty());
        }
    };
    serve(&daemon);
    let before = daemon.log().len();
    fs::remove_file(&command).expect("remove");
    told(&daemon);
    symlink("/bin/cat", &command).expect("symlink");
    serve(&daemon);
    fs::remove_file(&command).expect("remove");
    told(&daemon);

    let totals = daemon.stop();
    assert_eq!(totals, Totals { accepted: 8, served: 2, refused: 0, gone: 0, failed: 6 });
    let lines: Vec<&Line> = daemon.log()[before..].iter().filter(|l| l.text.contains(&command)).collect();
    assert_eq!(lines.len(), 2, "one line per episode: {lines:#?}");
    assert!(lines.iter().all(|l| l.priority.is_some_and(|p| p <= 4)), "{lines:#?}");
}

/// That commands start again is said when one does, and not when it ends.
#[test]
fn a_command_that_comes_back_and_stays() {
    let dir = TempDir::new();
    let command = dir.join("command");
    symlink("/bin/cat", &command).expect("symlink");
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0"]).run(&[&command]).start();
    fs::remove_file(&command).expect("remove");
    for _ in 0..2 {
        assert_eq!(to_end(daemon.connect()), UNAVAILABLE);
    }
    symlink("/bin/cat", &command).expect("symlink");
    let mut client = daemon.connect();
    echoes(&mut client);
    daemon.wait_text("commands start again after 2 failures");
    echoes(&mut client);
    drop(client);
    assert_eq!(daemon.stop(), Totals { accepted: 3, served: 1, failed: 2, ..Totals::default() });
}

#[test]
fn a_command_that_disappears_under_the_rsync_preset() {
    let dir = TempDir::new();
    let command = dir.join("command");
    symlink("/bin/cat", &command).expect("symlink");
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--busy-reply", "rsync"]).run(&[&command]).start();
    fs::remove_file(&command).expect("remove");
    let mut client = daemon.connect();
    client.write_all(b"@RSYNCD: 31.0\n\n").expect("write");
    assert_eq!(to_end(client), "@RSYNCD: 31.0\n@ERROR: service unavailable -- try again later\n");
    assert_eq!(daemon.stop().failed, 1);
}

/// Whether this machine can execute more than ELF and scripts (binfmt_misc).
fn executes_other_formats() -> bool {
    fs::read_dir("/proc/sys/fs/binfmt_misc").is_ok_and(|entries| entries.count() > 2)
}

/// Files that are there and cannot be executed, and what is said of them.
const UNFIT: [(&[u8], &str); 4] = [
    (
        b"#!/nonexistent/interpreter -x\n",
        "No such file or directory (ENOENT): the interpreter '/nonexistent/interpreter' of its '#!' line",
    ),
    (b"#!/bin/sh\r\necho\r\n", "No such file or directory (ENOENT): its '#!' line ends with a carriage return"),
    (b"echo\n", "Exec format error (ENOEXEC): a script must begin with a line such as #!/bin/sh"),
    (b"", "Exec format error (ENOEXEC): the file is empty"),
];

/// What can be known at the start is the user's mistake then.
#[test]
fn a_script_that_cannot_run_is_refused_at_the_start() {
    let dir = TempDir::new();
    let command = dir.join("command");
    for (text, says) in UNFIT {
        if says.contains("ENOEXEC") && executes_other_formats() {
            skip("a script without its first line", "another format may be registered for it");
            continue;
        }
        write_program(&command, text);
        let line = sockcap(&["--listen", "127.0.0.1:0"]).run(&[&command]).output().mistake();
        assert!(line.starts_with(&format!("sockcap: cannot run '{command}': {says}")), "{line}");
    }
}

/// Later it fails in exec only: the client hears of it all the same, and the log has the reason and each client.
#[test]
fn a_script_that_cannot_run_any_more() {
    let dir = TempDir::new();
    let command = dir.join("command");
    for (text, says) in UNFIT {
        write_program(&command, b"#!/bin/sh\n");
        let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--max-connections", "1"]).run(&[&command]).start();
        write_program(&command, text);
        for at in 0..3 {
            let mut client = daemon.connect();
            let from = client.local_addr().expect("address").port();
            assert_eq!(to_end(&mut client), UNAVAILABLE);
            if at == 0 {
                daemon.wait_text(&format!("cannot start {command}: {says}"));
            }
            daemon.wait_text(&format!(
                "rejected connection: the command could not be started: 127.0.0.1 port {from} on "
            ));
            until("an empty daemon", || daemon.commands().is_empty());
        }
        assert_eq!(daemon.stop(), Totals { accepted: 3, failed: 3, ..Totals::default() });
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// clients that are gone

/// A client that reset its connection while it waited costs no process.
#[test]
fn nobody_is_started_for_who_has_gone() {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--max-connections", "1", "--when-full", "wait"])
        .run(&["/bin/sh", "-c", "echo started >&2; exec /bin/cat"])
        .start();
    let mut first = daemon.connect();
    echoes(&mut first);
    for _ in 0..3 {
        let mut resets = daemon.connect();
        resets.write_all(b"never mind\n").expect("write");
        reset(resets);
    }
    let mut last = daemon.connect();
    waits(&last);
    drop(first);
    echoes(&mut last);
    drop(last);
    assert_eq!(daemon.stop(), Totals { accepted: 5, served: 2, gone: 3, ..Totals::default() });
    assert_eq!(daemon.count("started"), 2);
}

/// A half-close is not an absence: this client still wants its answer.
#[test]
fn who_only_stopped_sending_is_served() {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--max-connections", "1", "--when-full", "wait"]).start();
    let mut first = daemon.connect();
    echoes(&mut first);
    let mut asks = daemon.connect();
    asks.write_all(b"a question").expect("write");
    asks.shutdown(std::net::Shutdown::Write).expect("shutdown");
    drop(first);
    assert_eq!(to_end(asks), "a question");
    assert_eq!(daemon.stop().served, 2);
}
