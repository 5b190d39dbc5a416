//! Commands that outlive their daemon: whatever became of it, the next one counts those that run, and nothing else.

use crate::common::*;
use crate::faults::Tracer;
use nix::sys::signal::Signal;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// At most so many, and each start and end told.
fn capped(max: u32) -> Start {
    sockcap(&["--verbose", "--max-connections", &max.to_string()])
}

fn can_mount(what: &str) -> bool {
    let mounted = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/sys"]).status();
    let mounted = mounted.is_ok_and(|status| status.success());
    if !mounted {
        skip(what, "cannot mount");
    }
    mounted
}

/// A client that has been served already.
fn served(manager: &Manager, nth: usize) -> TcpStream {
    let mut stream = connect(manager.addr(nth));
    echoes(&mut stream);
    stream
}

/// Whoever comes is served or told to come back, until somebody is served.
fn until_served(manager: &Manager) -> TcpStream {
    let mut last = None;
    until("a client that is served", || {
        let mut stream = connect(manager.addr(0));
        let (_, mut first) = (stream.write_all(b"x"), [0]);
        let is_served = matches!(uninterrupted(|| stream.read(&mut first)), Ok(1)) && first == *b"x";
        last = is_served.then_some(stream);
        last.is_some()
    });
    last.expect("a client")
}

/// Which of the next daemon's words about it are true.
fn taken_over(daemon: &mut Daemon, running: &str) {
    daemon.wait_text(&format!("took over from the previous daemon: {running} running, 0 clients held"));
}

/// Like an ssh login that leaves tmux behind: a session of its own, one that has lost its parent, one that has lost its environment,
/// too, and one that says it is another connection's command.
const BUSY_COMMAND: [&str; 3] = [
    "/bin/sh",
    "-c",
    "(setsid sleep 1000 >/dev/null 2>&1 &); (env -i setsid sleep 1000 >/dev/null 2>&1 &); setsid sleep 1000 >/dev/null & exec \
    env SOCKCAP_CONNECTION=\"18446744073709551614 b $$\" REMOTE_ADDR=192.0.2.1 /bin/cat",
];

/// What the daemon wrote down wins: number of commands, their listener, their connection's number.
#[test]
fn a_crash_is_as_exact_as_a_hand_over() {
    for signal in [Signal::SIGKILL, Signal::SIGUSR1] {
        let Some(mut manager) = Manager::new("a crash", &["a", "b"]) else { return };
        let start = || capped(4).args(&["--max-per-listener", "2"]).run(&BUSY_COMMAND);
        let daemon = manager.start(start());
        let clients = [served(&manager, 0), served(&manager, 0)];
        let mut daemon = {
            manager.end(daemon, signal);
            manager.start(start())
        };
        taken_over(&mut daemon, "2 commands");
        refused(connect(manager.addr(0)));
        // A crash of the daemon that has adopted them, and of one that has commands of both kinds.
        manager.end(daemon, Signal::SIGKILL);
        let mut daemon = manager.start(start());
        taken_over(&mut daemon, "2 commands");
        let third = served(&manager, 1);
        daemon.wait_text("serving connection 3 from ");
        manager.end(daemon, signal);
        let mut daemon = manager.start(start());
        taken_over(&mut daemon, "3 commands");
        let fourth = served(&manager, 1);
        daemon.wait_text("serving connection 4 from ");
        [0, 1].into_iter().for_each(|nth| refused(connect(manager.addr(nth))));
        drop((clients, third, fourth));
        until_served(&manager);
    }
}

/// What became of the connections of each listener is known to the next daemon, and goes on.
#[test]
fn the_counts_of_each_listener_go_on() {
    for signal in [Signal::SIGKILL, Signal::SIGUSR1] {
        let Some(mut manager) = Manager::new("counts by listener", &["a", "b"]) else { return };
        let folder = ControlFolder::new(&format!("counts-{signal}"));
        let start = || capped(2).args(&["--control", folder.socket().to_str().expect("a path")]);
        let mut daemon = manager.start(start());
        let (_first, second) = (served(&manager, 0), served(&manager, 1));
        refused(connect(manager.addr(1)));
        drop(second);
        let mut control = Control::connect(&folder.socket());
        control.until("an end", |runtime| runtime["served"] == 1);
        let _third = served(&manager, 1);
        for _ in 0..2 {
            let runtime = control.runtime(); // whoever was told this is answered after it was written down
            let counts = |nth: usize| {
                let listener = &runtime["listeners"][nth];
                let refused = listener["refused"].as_array().expect("refused").iter();
                let refused: u64 = refused.map(|one| one["count"].as_u64().expect("a count")).sum();
                let number = |name: &str| listener[name].as_u64().expect("a number");
                [number("accepted"), number("served"), number("gone"), refused, number("active")]
            };
            assert_eq!((counts(0), counts(1)), ([1, 0, 0, 0, 1], [3, 1, 0, 1, 1]), "{signal}");
            control.runtime();
            manager.end(daemon, signal);
            daemon = manager.start(start());
            control = Control::connect(&folder.socket());
        }
    }
}

/// The worst instant: the daemon is killed in clone(2), and never learns of the command that runs already.
#[test]
fn a_command_counts_before_its_daemon_knows_of_it() {
    let Some(mut manager) = Manager::new("a crash in clone(2)", &["web"]) else { return };
    if !can_trace("a crash in clone(2)") {
        return;
    }
    let held = "inject=clone:delay_exit=2000000:when=2";
    let start = capped(2).wrap(&["strace", "-D", "-o", "/dev/null", "-e", held]);
    let daemon = manager.start(start);
    let mut clients = [served(&manager, 0), served(&manager, 0)];
    manager.end(daemon, Signal::SIGKILL);
    let mut daemon = manager.start(capped(2));
    taken_over(&mut daemon, "2 commands");
    clients.iter_mut().for_each(echoes);
    refused(connect(manager.addr(0)));
    drop(clients);
    until_served(&manager);
}

/// A command ends while there is no daemon.
#[test]
fn who_ended_meanwhile_is_not_counted() {
    let Some(mut manager) = Manager::new("ends without a daemon", &["web"]) else { return };
    let daemon = manager.start(capped(2).run(PID_CAT));
    let (first, second) = (Session::open(manager.addr(0)), Session::open(manager.addr(0)));
    manager.end(daemon, Signal::SIGKILL);
    first.leave();
    let mut daemon = manager.start(capped(2).run(PID_CAT));
    taken_over(&mut daemon, "1 command");
    let third = Session::open(manager.addr(0));
    refused(connect(manager.addr(0)));
    second.leave();
    third.leave();
    let totals = daemon.stop();
    assert_eq!((totals.accepted, totals.served, totals.refused), (4, 3, 1));
    manager.catch_up();
    assert!(manager.store.is_empty(), "left in the store of a stopped service");
}

/// As if a command had ended and its number were another process's by now.
#[test]
fn who_has_the_number_of_a_command_is_not_counted() {
    let Some(mut manager) = Manager::new("another process's number", &["web"]) else { return };
    let mut other = Command::new("/bin/cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("cat");
    let since = Instant::now();
    until("an older process", || since.elapsed() > Duration::from_millis(100)); // the kernel's clock has ticks
    let daemon = manager.start(capped(1).run(PID_CAT));
    let session = Session::open(manager.addr(0));
    manager.end(daemon, Signal::SIGKILL);
    let state = File::from(manager.store[0].1.try_clone().expect("dup"));
    let mut bytes = vec![0; state.metadata().expect("stat").len() as usize];
    state.read_exact_at(&mut bytes, 0).expect("read");
    let number = session.pid.as_raw().to_ne_bytes();
    let nth = bytes.chunks_exact(4).position(|word| word == number).expect("the command's number");
    state.write_all_at(&(other.id() as i32).to_ne_bytes(), nth as u64 * 4).expect("write");
    session.leave();
    let daemon = manager.start(capped(1).run(PID_CAT));
    Session::open(manager.addr(0)).leave();
    manager.end(daemon, Signal::SIGTERM);
    other.kill().and_then(|()| other.wait()).expect("an end of its own");
}

/// Whatever lies in the store under our name: it is not believed, it harms nobody, and it is replaced.
#[test]
fn a_state_that_cannot_be_read_is_replaced() {
    let Some(mut manager) = Manager::new("a state that cannot be read", &["web"]) else { return };
    let daemon = manager.start(capped(1));
    let client = served(&manager, 0);
    manager.end(daemon, Signal::SIGKILL);
    let forged = File::open("/dev/zero").expect("open");
    manager.store = vec![("sockcap-state".into(), forged.into())];
    let mut daemon = manager.start(capped(1));
    taken_over(&mut daemon, "1 command");
    refused(connect(manager.addr(0)));
    manager.end(daemon, Signal::SIGKILL);
    assert_eq!(manager.store.len(), 1);
    let mut daemon = manager.start(capped(1));
    taken_over(&mut daemon, "1 command");
    drop(client);
    until_served(&manager);
}

/// There is no memory for a state: the next daemon looks for itself, and this one says what it could not leave.
#[test]
fn without_a_state_what_runs_is_found() {
    let Some(mut manager) = Manager::new("no state", &["web"]) else { return };
    if !can_trace("no state") {
        return;
    }
    for errno in ["ENOMEM", "EMFILE"] {
        let inject = format!("inject=memfd_create:error={errno}");
        let start = capped(1).wrap(&["strace", "-D", "-o", "/dev/null", "-e", &inject]);
        let mut daemon = manager.start(start);
        let client = served(&manager, 0);
        daemon.signal(Signal::SIGUSR1);
        let line = daemon.wait_text("could not hand everything over to the next daemon: ");
        assert!(line.text.contains(&format!(" ({errno}); ")), "{line:?}");
        manager.ended(daemon);
        assert!(manager.store.is_empty());
        let mut daemon = manager.start(capped(1));
        taken_over(&mut daemon, "1 command");
        refused(connect(manager.addr(0)));
        drop(client);
        until_served(&manager);
        manager.end(daemon, Signal::SIGTERM);
    }
}

/// A process that is stopped and goes on, as in a container that is paused, finds its wait for the manager cut short.
#[test]
fn a_hand_over_that_is_interrupted_is_complete() {
    let Some(mut manager) = Manager::new("an interrupted hand-over", &["web"]) else { return };
    if !can_trace("an interrupted hand-over") {
        return;
    }
    let start = || capped(1).args(&["--when-full", "wait", "--max-wait", "1h"]);
    let daemon = manager.start(start());
    let client = served(&manager, 0);
    let idle = daemon.open_fds().len();
    let mut waits = connect(manager.addr(0));
    until("it is held", || daemon.open_fds().len() > idle);
    // Every second call, so that each message goes at its second try at the latest.
    let tracer = Tracer::attach(daemon.pid(), false, &["sendmsg:error=EINTR:when=1+2".into()]).expect("strace");
    manager.end(daemon, Signal::SIGUSR1);
    assert!(tracer.detach("sendmsg") > 0, "nothing was interrupted");
    let mut daemon = manager.start(start());
    daemon.wait_text("took over from the previous daemon: 1 command running, 1 client held");
    drop(client);
    echoes(&mut waits);
    manager.end(daemon, Signal::SIGTERM);
}

/// `InaccessiblePaths=/sys`: /proc says of each process where it is. The next daemon counts, and a stop leaves nothing.
#[test]
fn a_hidden_sys_hides_no_command() {
    let Some(mut manager) = Manager::new("a hidden /sys", &["web"]) else { return };
    if !can_mount("a hidden /sys") {
        return;
    }
    manager.stores = false;
    let hidden = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /sys && exec \"$@\"", "sh"];
    let command = ["/bin/sh", "-c", "setsid sleep 1000 >/dev/null & exec cat"];
    let start = || capped(1).args(&["--drain-timeout", "0s"]).wrap(&hidden).run(&command);
    let daemon = manager.start(start());
    let mut client = served(&manager, 0);
    manager.end(daemon, Signal::SIGKILL);
    let mut daemon = manager.start(start());
    taken_over(&mut daemon, "1 command");
    echoes(&mut client);
    refused(connect(manager.addr(0)));
    daemon.wait_text("rejected connection: ");
    assert_eq!(daemon.count("cannot search"), 0);
    manager.end(daemon, Signal::SIGTERM);
    assert_eq!(manager.processes(), []);
}

/// Nothing shows who is in the service: what was recorded is counted, and what is not known is said.
#[test]
fn what_nothing_shows_is_said_once() {
    let Some(mut manager) = Manager::new("a hidden cgroup", &["web"]) else { return };
    if !can_mount("a hidden cgroup") {
        return;
    }
    let hide = "mount -t tmpfs none /sys && mount --bind /dev/null /proc/$$/cgroup && exec \"$@\"";
    let start = || capped(1).wrap(&["unshare", "-m", "sh", "-c", hide, "sh"]);
    let mut daemon = manager.start(start());
    let _client = served(&manager, 0);
    for counted in ["counted as it recorded them", "not counted"] {
        manager.end(daemon, Signal::SIGKILL);
        if counted == "not counted" {
            manager.store.clear();
        }
        daemon = manager.start(start());
        let said = daemon.wait_text("cannot search for processes of this service: ");
        assert!(said.priority == Some(4) && said.text.contains(counted), "{said:?}");
        match counted {
            "not counted" => {
                drop(served(&manager, 0));
                daemon.wait_text("serving connection ");
            }
            _ => {
                refused(connect(manager.addr(0)));
                daemon.wait_text("rejected connection: ");
            }
        }
        assert_eq!(daemon.count("cannot search"), 1);
    }
}

/// No limit, and more commands than there was room for at first.
#[test]
fn the_state_grows_with_the_commands() {
    const COMMANDS: usize = 1100;
    let Some(mut manager) = Manager::new("many commands", &["web"]) else { return };
    // Nobody but the daemon knows whose they are.
    let command = ["/usr/bin/env", "-i", "/bin/cat"];
    let daemon = manager.start(capped(0).run(&command));
    let clients: Vec<_> = (0..COMMANDS).map(|_| served(&manager, 0)).collect();
    manager.end(daemon, Signal::SIGKILL);
    let mut daemon = manager.start(capped(0).run(&command));
    let said = daemon.wait_text("took over ").text;
    let most = format!("most from 127.0.0.1 ({COMMANDS})");
    assert_eq!(
        said,
        format!("took over from the previous daemon: {COMMANDS} commands running, 0 clients held; {most}")
    );
    drop(clients);
}

/// As a login shell's is: two logins are two commands, not four.
#[test]
fn a_session_that_a_command_starts_is_not_counted_after_a_crash() {
    let Some(mut manager) = Manager::new("sessions of commands", &["web"]) else { return };
    manager.stores = false;
    let command = ["/bin/sh", "-c", "setsid -w env -i /bin/cat; :"];
    let daemon = manager.start(capped(3).run(&command));
    let mut clients = [served(&manager, 0), served(&manager, 0)];
    manager.end(daemon, Signal::SIGKILL);
    let mut daemon = manager.start(capped(3).run(&command));
    taken_over(&mut daemon, "2 commands");
    clients.iter_mut().for_each(echoes);
    let third = served(&manager, 0);
    refused(connect(manager.addr(0)));
    drop(third);
}

/// No descriptor, no memory, or a filter that forbids it: a pidfd that cannot be had is no end.
#[test]
fn a_command_without_a_pidfd_counts_until_it_ends() {
    let Some(mut manager) = Manager::new("commands without a pidfd", &["web"]) else { return };
    if !can_trace("commands without a pidfd") {
        return;
    }
    manager.stores = false;
    let daemon = manager.start(capped(2));
    let clients = [served(&manager, 0), served(&manager, 0)];
    manager.end(daemon, Signal::SIGKILL);
    for errno in ["EPERM", "EMFILE", "ENOMEM"] {
        let inject = format!("inject=pidfd_open:error={errno}");
        let mut daemon = manager.start(capped(2).wrap(&["strace", "-D", "-o", "/dev/null", "-e", &inject]));
        taken_over(&mut daemon, "2 commands");
        refused(connect(manager.addr(0)));
        manager.end(daemon, Signal::SIGKILL);
    }
    let inject = "inject=pidfd_open:error=EPERM";
    let _daemon = manager.start(capped(2).wrap(&["strace", "-D", "-o", "/dev/null", "-e", inject]));
    drop(clients);
    let mut two = [until_served(&manager), until_served(&manager)];
    two.iter_mut().for_each(echoes);
}

/// A stop ends what is left in the service's cgroup. A group that has others in it, too, is not the service's, whatever the
/// environment says: the root of a hierarchy has everybody in it. In a pid namespace of its own, so that nobody else can be hit.
#[test]
fn a_stop_spares_those_who_only_share_the_cgroup() {
    if !is_root() {
        return skip("a_stop_spares_those_who_only_share_the_cgroup", "only root can make a pid namespace");
    }
    for hide in ["", "mount -t tmpfs none /sys;"] {
        let dir = TempDir::new();
        let script = format!(
            "{hide} cd $2; setsid sleep 1000 & bystander=$!
            sh -c 'export SYSTEMD_EXEC_PID=$$; exec \"$0\" --listen 127.0.0.1:0 --drain-timeout 0 --kill-grace 0 -- /bin/cat' $1 2>log & daemon=$!
            until grep -q 'ready: ' log; do sleep 0.05; done
            kill -TERM $daemon; wait $daemon; echo exit $?; kill -0 $bystander && echo spared"
        );
        let mut command = std::process::Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--cgroup", "sh", "-c", &script, "sh"]);
        let out = command.arg(binary()).arg(dir.path()).output().expect("unshare");
        let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
        assert_eq!(String::from_utf8_lossy(&out.stdout), "exit 0\nspared\n", "{hide} {out:?}\n{log}");
        assert!(log.contains("cannot search for processes of this service: "), "{log}");
    }
}
