//! `--stderr stream` when things end that should not: the daemon, the collector, the journal, descriptors.

use crate::common::*;
use nix::poll::PollFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;

/// Each line that its client sends goes to its standard error, and then back.
const ECHO: [&str; 3] = ["/bin/sh", "-c", "while read -r line; do echo \"$line\" >&2; echo \"$line\"; done"];

/// What the command has written it has written before it answers.
#[track_caller]
fn says(client: &mut TcpStream, words: &str) {
    client.write_all(format!("{words}\n").as_bytes()).expect("write");
    assert_eq!(line(client), words);
}

fn ends(pid: Pid) -> impl FnOnce() {
    let process = pidfd(pid);
    move || assert!(ready(&process, PollFlags::POLLIN, FUSE), "{pid} does not end")
}

/// Whatever becomes of the daemon, its commands' standard error is whole, and the process that reads it is nobody's command.
#[test]
fn lines_come_whatever_becomes_of_the_daemon() {
    for (signal, stores) in [(Signal::SIGKILL, true), (Signal::SIGUSR1, true), (Signal::SIGKILL, false)] {
        let what = "lines of commands over a restart";
        let (Some(mut journal), Some(mut manager)) = (Journal::new(what), Manager::new(what, &["web"])) else { return };
        manager.stores = stores;
        let around = journal.around();
        let args = ["--stderr", "stream", "--log-target", "journal", "--max-connections", "2", "--drain-timeout", "0s"];
        let start = || sockcap(&args).wrap(&around).run(&ECHO);
        let daemon = manager.start_silent(start());
        let first = daemon.collector();
        let mut old = connect(manager.addr(0));
        says(&mut old, "before");
        assert_eq!(journal.line_of("1").get("MESSAGE"), "before");
        manager.end(daemon, signal);

        let daemon = manager.start_silent(start());
        let took_over = journal.said("took over from the previous daemon: ").get("MESSAGE");
        assert!(took_over.contains(": 1 command running, 0 clients held"), "{took_over}");
        says(&mut old, "after");
        assert_eq!(journal.line_of("1").get("MESSAGE"), "after");
        let mut new = connect(manager.addr(0));
        says(&mut new, "new");
        assert_eq!(journal.line_of("2").get("MESSAGE"), "new");

        let its_end = ends(first);
        assert!(manager.processes().contains(&first));
        drop(old);
        its_end();
        let second = daemon.collector();
        assert!(manager.processes().contains(&second));
        // The last words of a command that a stop ends.
        new.write_all(b"last\n").expect("write");
        assert_eq!(line(&mut new), "last");
        manager.end(daemon, Signal::SIGTERM);
        assert_eq!(journal.line_of("2").get("MESSAGE"), "last");
        assert_eq!(manager.processes(), []);
    }
}

/// Nor does a restart end the standard error of what a command has left behind.
#[test]
fn lines_come_of_what_a_command_has_left_behind() {
    let what = "lines of what commands leave behind";
    let (Some(mut journal), Some(mut manager)) = (Journal::new(what), Manager::new(what, &["web"])) else { return };
    let dir = TempDir::new();
    let gate = dir.join("gate");
    nix::unistd::mkfifo(gate.as_str(), nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    let script = format!("setsid sh -c 'read -r line <{gate}; echo $line >&2' </dev/null >/dev/null & echo");
    let around = journal.around();
    let args = ["--stderr", "stream", "--log-target", "journal"];
    let start = || sockcap(&args).wrap(&around).run(&["/bin/sh", "-c", &script]);
    let daemon = manager.start_silent(start());
    to_end(connect(manager.addr(0)));
    until("the command has ended", || daemon.commands().len() == 1);
    manager.end(daemon, Signal::SIGUSR1);
    let daemon = manager.start_silent(start());
    journal.said("ready: ");
    fs::write(&gate, "late\n").expect("write");
    assert_eq!(journal.line_of("1").get("MESSAGE"), "late");
    manager.end(daemon, Signal::SIGTERM);
    assert_eq!(manager.processes(), []);
}

/// A stop that finds an earlier collector at work leaves nothing either.
#[test]
fn a_stop_ends_the_commands_of_two_daemons() {
    let what = "a stop with lines of commands";
    let (Some(mut journal), Some(mut manager)) = (Journal::new(what), Manager::new(what, &["web"])) else { return };
    let around = journal.around();
    let args = ["--stderr", "stream", "--log-target", "journal", "--drain-timeout", "0s"];
    let command = ["/bin/sh", "-c", "trap 'echo ending >&2; exit' TERM; echo; while :; do read -r line; done"];
    let start = || sockcap(&args).wrap(&around).run(&command);
    let daemon = manager.start_silent(start());
    let mut old = connect(manager.addr(0));
    line(&mut old);
    manager.end(daemon, Signal::SIGKILL);
    let daemon = manager.start_silent(start());
    journal.said("took over from the previous daemon: "); // few entries fit into the socket, and a stop waits for no reader
    let mut new = connect(manager.addr(0));
    line(&mut new);
    manager.end(daemon, Signal::SIGTERM);
    for id in ["1", "2"] {
        assert_eq!(journal.line_of(id).get("MESSAGE"), "ending");
    }
    assert_eq!(manager.processes(), []);
}

#[test]
fn an_idle_daemon_does_not_wait_for_its_collector() {
    let Some(mut manager) = Manager::new("an idle daemon with a collector", &["web"]) else { return };
    let start = sockcap(&["--stderr", "stream", "--idle-exit", "1s"]).run(&ECHO);
    let mut daemon = manager.start(start);
    let mut client = connect(manager.addr(0));
    says(&mut client, "line");
    daemon.wait_text("[1] line");
    drop(client);
    daemon.wait_text(", exiting");
    manager.ended(daemon);
    assert_eq!(manager.processes(), []);
}

/// Nobody takes the last lines: they are lost, and the service is over.
#[test]
fn a_stop_does_not_wait_for_a_stuck_journal() {
    let what = "a stop with a stuck journal";
    let (Some(journal), Some(mut manager)) = (Journal::new(what), Manager::new(what, &["web"])) else { return };
    let args = ["--stderr", "stream", "--log-target", "journal", "--drain-timeout", "0s", "--kill-grace", "1s"];
    let daemon =
        manager.start_silent(sockcap(&args).wrap(&journal.around()).run(&["/bin/sh", "-c", "echo; exec yes >&2"]));
    let collector = daemon.collector();
    let mut client = connect(manager.addr(0));
    line(&mut client);
    let waits_in_send = || {
        let path = format!("/proc/{collector}/syscall");
        // The second is socketcall(2) of i386.
        let numbers = [libc::SYS_sendto, 102].map(|number| format!("{number} "));
        fs::read_to_string(path).is_ok_and(|text| numbers.iter().any(|number| text.starts_with(number)))
    };
    if fs::read_to_string("/proc/self/syscall").is_ok() {
        until("the collector waits for the journal", waits_in_send);
    }
    manager.end(daemon, Signal::SIGTERM);
    to_end(client);
    until("nothing is left", || manager.processes().is_empty());
}

/// Whoever ends it takes the standard error of those commands that run, and of no other.
#[test]
fn a_collector_that_was_killed_has_a_successor() {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--stderr", "stream"]).run(&ECHO).start();
    let mut running = daemon.connect();
    says(&mut running, "first");
    daemon.wait_text("[1] first");
    let collector = daemon.collector();
    let its_end = ends(collector);
    kill(collector, Signal::SIGKILL).expect("kill");
    its_end();
    running.write_all(b"nobody reads this\n").expect("write");
    assert_eq!(to_end(running), "", "SIGPIPE has ended it, or its write has failed");

    let mut next = daemon.connect();
    says(&mut next, "second");
    daemon.wait_text("[2] second");
    assert_ne!(daemon.collector(), collector);
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE] {
        kill(daemon.collector(), signal).expect("kill");
    }
    says(&mut next, "third");
    daemon.wait_text("[2] third");
    drop(next);
    assert_eq!(daemon.stop().served, 2);
    assert_eq!(daemon.count("nobody reads this"), 0);
}

/// Then the line comes without a number, and that is told once.
#[test]
fn without_a_descriptor_a_line_has_no_number() {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--stderr", "stream"]).run(&ECHO).start();
    let open = daemon.open_fds();
    let free: Vec<_> = (0..1000).filter(|fd| !open.contains(fd)).take(3).collect();
    // One for the client and one of a pipe's two.
    let (few, enough) = (format!("--nofile={}:", free[2]), format!("--nofile={}:", free[2] + 100));
    prlimit(&[], daemon.pid(), &few);
    for words in ["one", "two"] {
        let mut client = daemon.connect();
        says(&mut client, words);
        daemon.wait_for(words, |line| line.text == words && line.priority.is_none());
    }
    prlimit(&[], daemon.pid(), &enough);
    says(&mut daemon.connect(), "three");
    daemon.wait_for("three", |line| line.text == "[3] three");
    assert_eq!(daemon.stop().served, 3);
    let told = daemon.log().iter().filter(|line| line.text.starts_with("cannot pass on what commands write to stderr"));
    let told: Vec<_> = told.collect();
    assert!(matches!(told[..], [line] if line.priority == Some(4) && line.text.contains("(EMFILE)")), "{told:?}");
    assert_eq!(daemon.count("has the number of their connection again, after 2 failures"), 1);
}

/// No descriptor of a command is the daemon's.
#[test]
fn commands_cost_the_daemon_no_descriptors() {
    let daemon = sockcap(&["--listen", "127.0.0.1:0", "--stderr", "stream"]).run(&ECHO).start();
    let before = daemon.open_fds();
    let mut clients: Vec<_> = (0..5).map(|_| daemon.connect()).collect();
    clients.iter_mut().for_each(|client| says(client, "line"));
    assert_eq!(daemon.open_fds(), before);
}

#[test]
fn a_hidden_proc_hides_no_collector() {
    let hidden = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/proc"]).output();
    if !hidden.is_ok_and(|output| output.status.success()) {
        return skip("a collector where /proc is hidden", "cannot mount");
    }
    let around = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /proc && exec \"$@\"", "sh"];
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--stderr", "stream"]).wrap(&around).run(&ECHO).start();
    says(&mut daemon.connect(), "line");
    daemon.wait_text("[1] line");
    daemon.stop();
}
