//! `--slot-until cgroup`: a slot is free when the last process of its connection has ended.

use crate::common::*;
use crate::group::Group;
use serde_json::json;
use std::fs;
use std::os::unix::fs::OpenOptionsExt;

/// Ends at once, and leaves one process behind that ends when its client's line of a fifo is closed.
fn leaves_behind(fifo: &std::path::Path) -> String {
    format!("(setsid cat {} </dev/null >/dev/null 2>&1 &); echo left", fifo.display())
}

fn fifo(folder: &TempDir) -> std::path::PathBuf {
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    fifo
}

/// Ends whoever reads from it by now.
fn wakes(fifo: &std::path::Path) -> bool {
    drop(fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(fifo));
    true
}

#[test]
fn it_is_held_until_the_last_has_ended() {
    let Some(group) = Group::new() else { return };
    let (folder, control) = (TempDir::new(), ControlFolder::new("apart-slots"));
    let fifo = fifo(&folder);
    let socket = control.socket().display().to_string();
    let args = ["--listen", "127.0.0.1:0", "--max-connections", "2", "--slot-until", "cgroup", "--control", &socket];
    let mut daemon = group.sockcap(&args).run(&["/bin/sh", "-c", &leaves_behind(&fifo)]).start();
    for _ in 0..2 {
        assert_eq!(to_end(daemon.connect()), "left\n");
    }
    until("their commands have ended", || [1, 2].iter().all(|id| group.members(*id).len() == 1));
    refused(daemon.connect());
    let mut ask = Control::connect(&control.socket());
    until("both are listed without a process", || {
        let listed = ask.list("ListConnections", "connection");
        listed.len() == 2 && listed.iter().all(|one| one["pid"] == 0)
    });
    assert_eq!(daemon.count("ended:"), 0);

    until("both have ended", || wakes(&fifo) && daemon.count(" ended: ") == 2);
    assert_eq!(to_end(daemon.connect()), "left\n");
    until("its command has ended", || ask.list("ListConnections", "connection")[0]["pid"] == 0);
    assert_eq!(ask.call("Stop", json!({ "id": 3, "force": true }))["pid"], 0);
    daemon.wait_text("killing what is left of the command of connection 3 (pid 0), as asked by ");
    daemon.wait_text("connection 3 ended: ");
    assert_eq!(to_end(daemon.connect()), "left\n");
    ask.call("Stop", json!({ "id": 4, "force": false }));
    daemon.wait_text("connection 4 ended: ");
    let totals = daemon.stop();
    assert_eq!((totals.served, totals.refused), (4, 1));
}

#[test]
fn a_time_limit_is_the_connections_not_the_commands() {
    let Some(group) = Group::new() else { return };
    let folder = TempDir::new();
    let fifo = fifo(&folder);
    let args = ["--listen", "127.0.0.1:0", "--max-connections", "1", "--slot-until", "cgroup", "--time-limit", "1s"];
    let mut daemon = group.sockcap(&args).run(&["/bin/sh", "-c", &leaves_behind(&fifo)]).start();
    assert_eq!(to_end(daemon.connect()), "left\n");
    daemon.wait_text(
        "connection 1 reached the time limit of 1.0 s: sending SIGTERM to all that its command has left behind",
    );
    daemon.wait_text("connection 1 ended: ");
    group.until_empty();
    assert_eq!(to_end(daemon.connect()), "left\n");
}

/// By default it is the command that counts, and what it leaves behind lives on.
#[test]
fn by_default_it_is_free_with_the_commands_end() {
    let Some(group) = Group::new() else { return };
    let folder = TempDir::new();
    let fifo = fifo(&folder);
    let args = ["--listen", "127.0.0.1:0", "--max-connections", "1"];
    let mut daemon = group.sockcap(&args).run(&["/bin/sh", "-c", &leaves_behind(&fifo)]).start();
    assert_eq!(to_end(daemon.connect()), "left\n");
    daemon.wait_text("connection 1 ended: ");
    assert_eq!(to_end(daemon.connect()), "left\n");
    daemon.wait_text("connection 2 ended: ");
    assert_eq!(group.living(), [1, 2]);
    until("both are gone", || {
        wakes(&fifo) && [1, 2].iter().all(|id| !group.path().join(format!("conn-{id}")).exists())
    });
}

#[test]
fn limits_need_a_cgroup_and_their_controllers() {
    for option in
        ["--memory-max=1M", "--memory-high=1M", "--tasks-max=3", "--cpu-weight=3", "--cpu-max=5%", "--io-weight=7"]
    {
        let line = sockcap(&["--listen", "127.0.0.1:0", option]).output().mistake();
        let name = option.split('=').next().expect("a name");
        assert!(line.contains(&format!("{name} needs a cgroup for each connection: add --isolate=cgroup")), "{line}");
    }
    let Some(group) = Group::new() else { return };
    let available = fs::read_to_string(group.path().join("cgroup.controllers")).expect("cgroup.controllers");
    if !available.contains("memory") {
        let line = group.sockcap(&["--listen", "127.0.0.1:0", "--memory-max=100M"]).output().one_line(&[1]);
        assert!(line.contains("--memory-max: the controller 'memory' is missing in "), "{line}");
    }
}

/// Each option by its name and by its variable, and a variable loses.
#[test]
fn options_of_each_connection() {
    let options = [
        ("memory-max", "64M", "67108864 (memory.max)"),
        ("memory-high", "32M", "33554432 (memory.high)"),
        ("tasks-max", "7", "7 (pids.max)"),
        ("cpu-weight", "idle", "1 (cpu.idle)"),
        ("cpu-max", "150%", "150000 100000 (cpu.max)"),
        ("io-weight", "20", "20 (io.weight)"),
        ("slot-until", "cgroup", "cgroup"),
        ("uid-pool", "70000-70099", "70000-70099"),
    ];
    let variable = |name: &str| format!("SOCKCAP_{}", name.to_uppercase().replace('-', "_"));
    let all = ["--listen", "127.0.0.1:0", "--check", "--isolate=cgroup"];
    let by_name: Vec<String> =
        options.iter().flat_map(|(name, value, _)| [format!("--{name}"), (*value).into()]).collect();
    let by_variable = options.iter().fold(sockcap(&all), |start, (name, value, _)| start.env(&variable(name), *value));
    let others = ["1G", "1G", "1", "1", "1%", "1", "command", "1-100"];
    let both =
        options.iter().zip(others).fold(sockcap(&all), |start, ((name, ..), value)| start.env(&variable(name), value));
    for start in [sockcap(&all).args(&by_name), by_variable, both.args(&by_name)] {
        let ended = start.output();
        for (name, _, effect) in options {
            let line = ended.stdout.lines().find(|line| line.split(' ').next() == Some(name));
            let shown = line.and_then(|line| line.split_once(' ')).map(|(_, shown)| shown.trim_start());
            assert_eq!(shown, Some(effect), "{name}: {ended:?}");
        }
    }
}
