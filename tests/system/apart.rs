//! `--isolate=cgroup` in a service with `Delegate=`: over restarts, crashes and stops, and what a service without it is told.

use super::client::Client;
use super::rig::{Rig, SERVICE, SOCKET, until};
use std::net::Ipv4Addr;

/// A command that says who it is and where, and then echoes. What it leaves behind is in no group or session of its own.
const TALK: &str = "#!/bin/sh\n(setsid sleep 100000 </dev/null >/dev/null 2>&1 &)\nsed -n 's,^0::.*/,,p' /proc/self/cgroup\nexec cat\n";

const DELEGATE: &str =
    "Delegate=yes\nDelegateSubgroup=daemon\nProtectControlGroups=no\nEnvironment=SOCKCAP_ISOLATE=cgroup";

fn edit_with(rig: &Rig, lines: &str) {
    rig.write("/run/talk", TALK);
    rig.ok("chmod +x /run/talk");
    rig.edit(&format!("ExecStart=\nExecStart=/usr/bin/sockcap --busy-reply rsync -- /run/talk\n{lines}"));
}

/// Is served, in this cgroup.
fn served(rig: &Rig, group: &str) -> Client {
    let mut client = Client::to(rig, Ipv4Addr::LOCALHOST, 873);
    assert_eq!(client.line(), format!("{group}\n"));
    client
}

fn answers(client: &mut Client) {
    client.send("still there?\n");
    assert_eq!(client.line(), "still there?\n");
}

fn again(rig: &Rig, how: &str) {
    let before = rig.show(SERVICE, "MainPID");
    rig.ok(how);
    until("another daemon", || {
        let pid = rig.show(SERVICE, "MainPID");
        (pid != before && pid != "0" && rig.show(SERVICE, "ActiveState") == "active").then_some(())
    });
}

/// The cgroups below the service's.
fn groups(rig: &Rig, pattern: &str) -> Vec<String> {
    let folder = format!("/sys/fs/cgroup/system.slice/{SERVICE}");
    let listed = rig.ok(&format!("cd {folder} 2>/dev/null && ls -d {pattern} 2>/dev/null || :"));
    listed.lines().map(str::to_owned).collect()
}

pub fn each_client_has_a_cgroup_over_restart_and_crash(rig: &Rig) {
    edit_with(rig, &format!("{DELEGATE}\nEnvironment=SOCKCAP_MAX_CONNECTIONS=2 SOCKCAP_WHEN_FULL=refuse"));
    let mut clients = vec![served(rig, "conn-1")];
    let tree = rig.ok(&format!("systemd-cgls -u {SERVICE}"));
    assert!(tree.contains("conn-1") && tree.contains("daemon-"), "{tree}");
    for (round, how) in
        ["systemctl restart", "systemctl kill -s KILL --kill-whom=main", "systemctl restart"].iter().enumerate()
    {
        again(rig, &format!("{how} {SERVICE}"));
        rig.until_status("1/2 active");
        answers(&mut clients[0]);
        clients.push(served(rig, &format!("conn-{}", round + 2)));
        let refused = Client::to(rig, Ipv4Addr::LOCALHOST, 873).rest();
        assert!(refused.contains("max connections (2) reached"), "{refused}");
        let mut gone = clients.pop().expect("a client");
        gone.close_sending();
        assert_eq!(gone.rest(), "");
        rig.until_status("1/2 active");
    }
    assert_eq!(groups(rig, "daemon-*").len(), 1, "{:?}", groups(rig, "*"));
    // What a command leaves behind ends with it, if it is made to end, or at a stop.
    rig.ok(&format!("systemctl stop {SOCKET} {SERVICE}"));
    assert_eq!(groups(rig, "*"), [""; 0], "{:?}", groups(rig, "*"));
    assert_eq!(rig.sh("pgrep -x sleep -a | grep 100000").stdout, b"");
    clients.remove(0).rest();
}

/// From a daemon without to one with cgroups and back: nobody is cut or forgotten.
pub fn an_upgrade_to_cgroups_cuts_nobody(rig: &Rig) {
    edit_with(rig, "Environment=SOCKCAP_MAX_CONNECTIONS=2");
    let mut client = Client::to(rig, Ipv4Addr::LOCALHOST, 873);
    assert_eq!(client.line(), format!("{SERVICE}\n"));
    edit_with(rig, &format!("{DELEGATE}\nEnvironment=SOCKCAP_MAX_CONNECTIONS=2"));
    again(rig, &format!("systemctl restart {SERVICE}"));
    rig.until_status("1/2 active");
    answers(&mut client);
    let mut other = served(rig, "conn-2");
    edit_with(rig, "Environment=SOCKCAP_MAX_CONNECTIONS=2");
    again(rig, &format!("systemctl restart {SERVICE}"));
    rig.until_status("2/2 active");
    answers(&mut client);
    answers(&mut other);
}

/// A service with a user of its own, which owns what is delegated to it, and whose filter forbids clone3.
pub fn a_dynamic_user_has_cgroups_too(rig: &Rig) {
    rig.write("/run/talk", TALK);
    rig.ok("mkdir -p /etc/sockcap; cp --remove-destination /run/talk /etc/sockcap/probe; chmod +x /etc/sockcap/probe");
    rig.edit_unit("sockcap@probe.socket", "[Socket]\nListenStream=7030");
    rig.edit_unit(
        "sockcap@probe.service",
        &format!("[Service]\n{DELEGATE}\nEnvironment=SOCKCAP_TIME_LIMIT=2s SOCKCAP_KILL_GRACE=1s"),
    );
    rig.ok("systemctl start sockcap@probe.socket");
    let mut client = Client::to(rig, Ipv4Addr::LOCALHOST, 7030);
    assert_eq!(client.line(), "conn-1\n");
    let how = "commands enter theirs after their birth: clone3 is not to be had (RestrictNamespaces=";
    rig.until_said("-u sockcap@probe.service", how);
    // Nothing of it outlives the time limit.
    assert_eq!(client.rest(), "");
    until("its cgroup is gone", || {
        rig.sh("ls -d /sys/fs/cgroup/*/*/sockcap@probe.service/conn-1").status.code().filter(|code| *code != 0)
    });
    assert_eq!(rig.sh("pgrep -x sleep -a | grep 100000").stdout, b"");
    rig.ok("systemctl stop sockcap@probe.socket sockcap@probe.service");
}

pub fn without_delegation_it_is_said(rig: &Rig) {
    let is_asked = |isolate: &str, more: &str| {
        edit_with(rig, &format!("Environment=SOCKCAP_ISOLATE={isolate}\nRestart=no\n{more}"));
        rig.ok(&format!("systemctl stop {SERVICE}; systemctl reset-failed {SERVICE}; :"));
    };
    for (more, why) in [
        ("ProtectControlGroups=no", "the unit needs Delegate=yes"),
        ("Delegate=yes", "the unit may not set ProtectControlGroups="),
    ] {
        is_asked("cgroup", more);
        assert!(!rig.sh(&format!("systemctl start {SERVICE}")).status.success());
        rig.until_said(&format!("-u {SERVICE}"), why);
        assert_eq!(rig.show(SERVICE, "ExecMainStatus"), "1");
        is_asked("yes", more);
        rig.ok(&format!("systemctl start {SERVICE}"));
        rig.until_said(&format!("-u {SERVICE}"), "commands run without --isolate=cgroup, which cannot be had here: ");
        let mut client = Client::to(rig, Ipv4Addr::LOCALHOST, 873);
        assert_eq!(client.line(), format!("{SERVICE}\n"));
    }
}
