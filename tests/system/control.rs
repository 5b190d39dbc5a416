//! The control sockets of the shipped units: root reaches them, whoever the service runs as, and nobody else; each daemon has its own.

use super::client::Client;
use super::rig::{Rig, SERVICE, until};
use crate::common::Control;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// Where the socket of a service is, as this side sees it.
fn path(rig: &Rig, unit: &str) -> PathBuf {
    format!("/proc/{}/root/run/sockcap/{}/control.sock", rig.leader(), unit.trim_end_matches(".service")).into()
}

/// Asks once; `None` if nobody answers.
fn describe(rig: &Rig, unit: &str) -> Option<Value> {
    let stream = UnixStream::connect(path(rig, unit)).ok()?;
    Some(Control::over(stream).call("Describe", json!({})))
}

/// The running commands that the service in `unit` has at its next answer.
fn active(rig: &Rig, unit: &str) -> u64 {
    until(&format!("{unit} answers"), || describe(rig, unit))["runtime"]["active"].as_u64().expect("a number")
}

/// Another user may not even look for a socket below /run/private, and not connect to one of a service that runs as root.
fn is_closed_to_others(rig: &Rig, unit: &str) {
    let name = unit.trim_end_matches(".service");
    let may = |user: &str| {
        let test =
            format!("setpriv --reuid={user} --regid={user} --clear-groups test -w /run/sockcap/{name}/control.sock");
        rig.sh(&test).status.success()
    };
    assert_eq!((may("0"), may("65534"), may("1")), (true, false, false), "{unit}");
}

pub fn root_alone_reaches_each_control_socket(rig: &Rig) {
    rig.write("/run/hello", "#!/bin/sh\necho hello\ncat\n");
    rig.ok("mkdir -p /etc/sockcap; cp --remove-destination /run/hello /etc/sockcap/probe; chmod +x /etc/sockcap/probe");
    let units = ["rsync-capped", "git-capped", "ssh-capped", "daytime-capped", "sandbox-capped", "sockcap@probe"];
    for unit in units.map(|name| format!("{name}.service")) {
        rig.ok(&format!("systemctl start {}", unit.replace(".service", ".socket")));
        rig.ok(&format!("systemctl start {unit}"));
        let told = describe(rig, &unit).unwrap_or_else(|| panic!("{unit} does not answer"));
        assert_eq!(told["context"]["unit"], unit.as_str());
        // Root is root also to a service that has users of its own (PrivateUsers=).
        Control::connect(&path(rig, &unit)).call("io.systemd.service.SetLogLevel", json!({ "level": 6 }));
        is_closed_to_others(rig, &unit);
        rig.ok(&format!("systemctl stop {unit} {}", unit.replace(".service", ".socket")));
        assert_eq!(rig.ok(&format!("ls /run/sockcap/{}/ 2>/dev/null || :", unit.trim_end_matches(".service"))), "");
    }
}

/// After a restart, a crash and an upgrade the socket is there again as soon as the service is, and tells of the same clients.
pub fn a_control_socket_comes_back(rig: &Rig) {
    rig.write("/run/hello", "#!/bin/sh\necho hello\nexec cat\n");
    rig.ok("mkdir -p /etc/sockcap; cp --remove-destination /run/hello /etc/sockcap/probe; chmod +x /etc/sockcap/probe");
    rig.edit_unit("sockcap@probe.socket", "[Socket]\nListenStream=7020");
    rig.ok("systemctl start sockcap@probe.socket");
    for (unit, port) in [(SERVICE, 873), ("sockcap@probe.service", 7020)] {
        let mut client = Client::to(rig, Ipv4Addr::LOCALHOST, port);
        assert!(!client.line().is_empty());
        assert_eq!(active(rig, unit), 1);
        for round in ["systemctl restart", "systemctl kill -s KILL --kill-whom=main", "systemctl restart"] {
            let before = rig.show(unit, "MainPID");
            rig.ok(&format!("{round} {unit}"));
            until("another daemon", || {
                let pid = rig.show(unit, "MainPID");
                (pid != before && pid != "0" && rig.show(unit, "ActiveState") == "active").then_some(())
            });
            assert_eq!(describe(rig, unit).expect("an answer")["runtime"]["active"], 1, "{unit} after {round}");
            is_closed_to_others(rig, unit);
        }
    }
}

/// What a command gets that asks at the control socket of its own service, here from a session of its own whose parent is gone. It has the
/// daemon's user, or is root.
pub fn no_command_is_answered_at_the_control_socket(rig: &Rig) {
    let ask = |unit: &str| {
        let call = |method: &str, parameters: &str| {
            format!(r#"{{"method":"io.github.sockcap.Daemon.{method}","parameters":{parameters},"more":true}}\0"#)
        };
        let ways = [
            call("Describe", "{}"),
            call("ListConnections", "{}"),
            call("Subscribe", "{}"),
            call("Drain", "{}"),
            call("Stop", r#"{"id":1}"#),
            call("Set", r#"{"limits":{"maxConnections":1}}"#),
        ];
        let talk = format!("setsid -f -w socat -t 60 - UNIX-CONNECT:/run/sockcap/{unit}/control.sock");
        let lines = ways.map(|call| format!("printf '%b' '{call}' | {talk}\n"));
        format!("#!/bin/sh\n{}", lines.concat())
    };
    rig.ok("mkdir -p /etc/sockcap");
    let own_cgroups = "Delegate=yes\nProtectControlGroups=no\nEnvironment=SOCKCAP_ISOLATE=cgroup";
    for (unit, port, lines) in
        [("sockcap@probe", 7020, ""), ("sockcap@probe", 7020, own_cgroups), ("rsync-capped", 873, "")]
    {
        rig.write("/run/ask", &ask(unit));
        rig.ok("cp --remove-destination /run/ask /etc/sockcap/probe; chmod +x /etc/sockcap/probe");
        if port == 873 {
            rig.edit("ExecStart=\nExecStart=/usr/bin/sockcap -- /etc/sockcap/probe");
        } else {
            rig.edit_unit("sockcap@probe.socket", "[Socket]\nListenStream=7020");
            rig.edit_unit("sockcap@probe.service", &format!("[Service]\n{lines}"));
        }
        // The start of a socket right after a stop was once seen to fail (257, a busy machine); this case is about what comes then.
        let begin = format!("systemctl stop {unit}.socket {unit}.service; systemctl start {unit}.socket");
        until("its socket", || rig.sh(&begin).status.success().then_some(()));
        let told = rig.inside(|| crate::common::to_end(crate::common::connect((Ipv4Addr::LOCALHOST, port).into())));
        assert_eq!(told.matches("org.varlink.service.PermissionDenied").count(), 6, "{unit}: {told}");
        assert_eq!(told.matches('\0').count(), 6, "{unit}: {told}");
        // Root from anywhere else is answered as ever, in a unit or not.
        let told = rig.ok(&format!("systemd-run -q --pipe --wait sockcapctl --json status {unit}"));
        assert!(told.contains("\"running\""), "{told}");
        rig.ok(&format!("sockcapctl drain {unit} && sockcapctl resume {unit}"));
    }
}
