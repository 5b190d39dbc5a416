//! `--stderr stream`: what the journal has of one client, with its fields as journald takes them.

use super::client::Client;
use super::rig::{Rig, SERVICE, until};
use std::net::Ipv4Addr;

/// Each line that its client sends goes to its standard error, and then back.
const WRITER: &str = "#!/bin/sh\nwhile read -r line; do echo \"$line\" >&2; echo \"$line\"; done\n";

/// With these options, and these lines in the unit.
fn run(rig: &Rig, options: &str, unit: &str, script: &str) {
    rig.write("/run/writer", script);
    rig.ok("chmod +x /run/writer");
    let drop_in = format!("Environment=SOCKCAP_DRAIN_TIMEOUT=100ms\n{unit}");
    rig.edit(&format!("{drop_in}\nExecStart=\nExecStart=/usr/bin/sockcap {options} --stderr stream -- /run/writer"));
    // Numbers begin at 1 with each case, and the journal has those of others.
    rig.ok("journalctl -q --rotate --vacuum-time=1us 2>&1");
}

#[track_caller]
fn says(client: &mut Client, words: &str) {
    client.send(&format!("{words}\n"));
    assert_eq!(client.line(), format!("{words}\n"));
}

/// The messages that match, once there are so many.
fn messages(rig: &Rig, matches: &str, count: usize) -> Vec<String> {
    let ask = || rig.ok(&format!("journalctl -q -b -a -o cat -u {SERVICE} {matches}"));
    let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
    until(&format!("{count} entries of {matches}"), || Some(lines(ask())).filter(|lines| lines.len() >= count))
}

/// All processes of the service, those in cgroups below its own included.
fn processes(rig: &Rig) -> Vec<String> {
    let lists =
        format!("find /sys/fs/cgroup/system.slice/{SERVICE} -name cgroup.procs -exec cat {{}} + 2>/dev/null || :");
    rig.ok(&lists).lines().map(str::to_owned).collect()
}

fn main_pid(rig: &Rig) -> String {
    rig.show(SERVICE, "MainPID")
}

/// Two at once, over a restart and a crash, to the end of a stop.
pub fn the_journal_has_all_of_one_client(rig: &Rig) {
    all_of_one_client(rig, "");
}

/// The same where each command has a cgroup and a domain of its own.
pub fn the_journal_has_all_of_one_client_apart(rig: &Rig) {
    all_of_one_client(rig, "Delegate=yes\nProtectControlGroups=no\nEnvironment=\"SOCKCAP_ISOLATE=-signals,cgroup\"");
}

fn all_of_one_client(rig: &Rig, unit: &str) {
    run(rig, "--verbose", unit, WRITER);
    let mut one = Client::from(rig, Ipv4Addr::new(127, 0, 0, 2).into(), Ipv4Addr::LOCALHOST, 873);
    says(&mut one, "of one");
    let mut two = Client::from(rig, Ipv4Addr::new(127, 0, 0, 3).into(), Ipv4Addr::LOCALHOST, 873);
    says(&mut two, "of two");
    says(&mut one, "<3>trouble");

    rig.ok(&format!("systemctl restart {SERVICE}"));
    says(&mut one, "after a restart");
    let killed = main_pid(rig);
    rig.ok(&format!("systemctl kill -s KILL --kill-whom=main {SERVICE}"));
    until("another daemon", || {
        let pid = main_pid(rig);
        (pid != "0" && pid != killed).then_some(())
    });
    rig.until_status("2/10 active");
    says(&mut one, "after a crash");
    let mut three = Client::to_rsync(rig);
    says(&mut three, "of three");
    drop((one, two));
    // The collectors of the earlier daemons have ended with their commands.
    until("one daemon, one collector, one command", || (processes(rig).len() == 3).then_some(()));

    // Its own entries come from sockcap, and its lines from another process: who is first is nobody's promise.
    let of = |id: u32, count: usize| {
        let is_ours = |message: &String| message.contains(&format!("connection {id} "));
        messages(rig, &format!("SOCKCAP_CONNECTION={id}"), count).into_iter().partition::<Vec<_>, _>(is_ours)
    };
    let (ours, lines) = of(1, 6);
    assert_eq!(lines, ["of one", "trouble", "after a restart", "after a crash"]);
    assert!(ours[0].starts_with("serving connection 1 from 127.0.0.2 port "), "{ours:?}");
    assert!(ours[1].starts_with("connection 1 ended: ") && ours.len() == 2, "{ours:?}");
    let (ours, lines) = of(2, 3);
    assert_eq!((ours.len(), lines.as_slice()), (2, &["of two".to_owned()][..]), "{ours:?}");
    let written = "-t writer";
    assert_eq!(messages(rig, &format!("{written} -p err"), 1), ["trouble"]);
    assert_eq!(messages(rig, &format!("{written} SOCKCAP_PEER_ADDR=127.0.0.3 SOCKCAP_LISTENER=rsync"), 1), ["of two"]);

    // A stop leaves nothing for systemd to complain about.
    let complaints = || rig.said_so_far(&format!("-u {SERVICE}")).matches("(sockcap-stderr)").count();
    let before = complaints();
    rig.ok(&format!("systemctl stop {SERVICE}"));
    assert!(processes(rig).is_empty(), "{:?}", processes(rig));
    assert_eq!(complaints(), before);
    assert_eq!(three.rest(), "");
    assert_eq!(messages(rig, &format!("{written} SOCKCAP_CONNECTION=3"), 1), ["of three"]);
}

/// One that floods, which the journal limits for a service as a whole, beside one that does not; and lines as long as journald's own limit.
pub fn a_flood_of_lines_is_its_own_client_s(rig: &Rig) {
    run(
        rig,
        "",
        "",
        "#!/bin/sh
        while read -r line; do
            case $line in
                flood) exec yes >&2 ;;
                [0-9]*) { head -c $line /dev/zero | tr '\\0' x; echo; } >&2 ;;
                *) echo \"$line\" >&2 ;;
            esac
            echo \"$line\"
        done",
    );
    let mut flood = Client::to_rsync(rig);
    flood.send("flood\n");
    until("the flood", || rig.ok("journalctl -q -b -o cat -n 1 -t writer").contains('y').then_some(()));
    let mut other = Client::to_rsync(rig);
    says(&mut other, "mine");
    assert_eq!(messages(rig, "-t writer SOCKCAP_CONNECTION=2", 1), ["mine"]);
    rig.ok("sockcapctl stop rsync-capped 1 --force");
    flood.rest();

    let of_flood = messages(rig, "SOCKCAP_CONNECTION=1", 2501);
    assert!(
        of_flood[..2500].iter().all(|line| line == "y") && of_flood[2500].starts_with("suppressed "),
        "{}",
        of_flood[2500]
    );
    let mut long = Client::to_rsync(rig);
    for length in ["49151", "49152", "49153"] {
        says(&mut long, length);
    }
    let all = messages(rig, "-t writer SOCKCAP_CONNECTION=3", 4);
    assert_eq!(all.iter().map(String::len).collect::<Vec<_>>(), [49151, 49152, 49152, 1]);
}

/// No user of its own, no network, no view of other processes, no memory that is written and executed.
pub fn lines_leave_a_tight_sandbox(rig: &Rig) {
    let script = "/bin/sh -c 'echo trouble >&2; echo done'";
    rig.edit_unit(
        "daytime-capped.service",
        &format!("[Service]\nExecStart=\nExecStart=/usr/bin/sockcap --stderr stream -- {script}"),
    );
    rig.ok("journalctl -q --rotate --vacuum-time=1us 2>&1; systemctl start daytime-capped.socket");
    let mut client = Client::to(rig, Ipv4Addr::LOCALHOST, 13);
    assert_eq!(client.rest(), "done\n");
    rig.until_said("-u daytime-capped -t sh SOCKCAP_CONNECTION=1", "trouble");
    rig.ok("systemctl stop daytime-capped.service");
}
