//! `sockcapctl check`: the shipped units have no findings, and what an administrator breaks in a drop-in is found.

use super::rig::{Rig, SERVICE, SOCKET, shipped, until};
use std::collections::BTreeSet;

/// What it says of a unit: the rules above a note, and the exit status.
fn check(rig: &Rig, unit: &str) -> (Vec<String>, i32) {
    let out = rig.sh(&format!("sockcapctl check --json {unit}"));
    let said = String::from_utf8_lossy(&out.stdout);
    let findings: serde_json::Value = serde_json::from_str(&said)
        .unwrap_or_else(|error| panic!("{error}: {said}{}", String::from_utf8_lossy(&out.stderr)));
    let findings = findings.as_array().expect("an array").iter();
    let text = |value: &serde_json::Value| value.as_str().expect("a string").to_owned();
    let rules = findings.filter(|finding| finding["severity"] != "note").map(|finding| text(&finding["rule"]));
    (rules.collect(), out.status.code().expect("no signal"))
}

/// The same, where the order says nothing.
fn found(rig: &Rig, unit: &str) -> BTreeSet<String> {
    let (rules, code) = check(rig, unit);
    assert_eq!(code, i32::from(!rules.is_empty()), "{rules:?}");
    rules.into_iter().collect()
}

fn rules(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Before they are started, and while they run.
pub fn check_finds_nothing_in_the_shipped_units(rig: &Rig) {
    rig.ok("mkdir -p /etc/sockcap && ln -sf /usr/bin/cat /etc/sockcap/probe && rm -f /etc/sockcap/probe.conf");
    let services = shipped().into_iter().map(|unit| unit.replace('@', "@probe"));
    let serve = |unit: &String| unit.ends_with("-capped.service") || unit.starts_with("sockcap@");
    for service in services.filter(|unit| unit.ends_with(".service")).filter(serve) {
        let stem = service.trim_end_matches(".service");
        let said = |when: &str| {
            let out = rig.sh(&format!("sockcapctl check {stem}"));
            let said = String::from_utf8_lossy(&out.stdout).into_owned();
            assert_eq!(out.status.code(), Some(0), "{when}: {said}{}", String::from_utf8_lossy(&out.stderr));
            assert!(
                said.trim_end()
                    .lines()
                    .last()
                    .is_some_and(|l| l.starts_with(&format!("{service}: 0 errors, 0 warnings"))),
                "{said}"
            );
            said
        };
        said("before the start");
        rig.ok(&format!("systemctl start {stem}.socket {service}"));
        let said = said("while it runs");
        assert!(!said.contains("[set]") && !said.contains("[no-control]"), "{said}");
        assert_eq!(check(rig, &format!("{stem}.socket")), (vec![], 0));
        rig.ok(&format!("systemctl stop {stem}.socket {service}"));
    }
}

/// Units that run sockcapctl are no services of sockcap.
pub fn check_knows_the_units_of_sockcapctl(rig: &Rig) {
    for unit in ["sockcap-metrics", "sockcap-report", "sockcap-report.socket"] {
        let out = rig.sh(&format!("sockcapctl check {unit}"));
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!((out.status.code(), out.stdout.as_slice()), (Some(1), &b""[..]), "{said}");
        assert!(said.ends_with(" runs sockcapctl, not sockcap: there is nothing to check\n"), "{said}");
    }
}

/// Drop-ins with several mistakes each: all are found, and nothing else.
pub fn check_finds_what_a_drop_in_breaks(rig: &Rig) {
    rig.edit(
        "KillMode=control-group\nRestartKillSignal=SIGTERM\nStandardInput=socket\nRestart=no\nStartLimitIntervalSec=10\nOOMPolicy=stop\n\
         Environment=SOCKCAP_MAX_WAIT=1h 30min\nFileDescriptorStoreMax=0\nLimitNOFILE=1024:1024\nTasksMax=5\nTimeoutStopSec=10\n\
         Environment=SOCKCAP_MAX_CONNECTIONS=900 SOCKCAP_MAX_WAITING=1000\nWatchdogSec=1s\n",
    );
    let expected = [
        "environment-words",
        "fd-store",
        "kill-mode",
        "limit-nofile",
        "limit-nofile-soft",
        "oom-policy",
        "restart",
        "restart-kill-signal",
        "section",
        "stdin",
        "tasks-max",
        "timeout-stop",
        "watchdog",
    ];
    assert_eq!(found(rig, SERVICE), rules(&expected));

    rig.edit(
        "Environment=SOCKCAP_MAX_CONECTIONS=5\nRestrictAddressFamilies=\nRestrictAddressFamilies=AF_INET\nSystemCallFilter=~@network-io\n\
         Type=simple\nRemainAfterExit=yes\nEnvironmentFile=/etc/no-such-file\nUser=nobody\n",
    );
    let expected = ["address-families", "environment-file", "remain-after-exit", "settings", "system-calls", "type"];
    assert_eq!(found(rig, "rsync-capped"), rules(&expected));
    let said = rig.sh("sockcapctl check rsync-capped");
    let said = String::from_utf8_lossy(&said.stdout);
    assert!(said.contains("unknown variable SOCKCAP_MAX_CONECTIONS; did you mean SOCKCAP_MAX_CONNECTIONS?"), "{said}");
    assert!(said.contains("systemctl edit rsync-capped.service"), "{said}");

    rig.edit("ExecStart=\nExecStart=/usr/bin/sockcap --max-connections 0 --max-wait '1h 30min' --proxy-protocol --proxy-from 0.0.0.0/0 -- /usr/bin/no-such-program");
    assert_eq!(found(rig, SERVICE), rules(&["command", "overridden"]));
    rig.edit("ExecStart=\nExecStart=/usr/bin/sockcap --max-wait '1h 30min' --proxy-protocol --proxy-from 0.0.0.0/0 -- /usr/bin/cat\nExecStop=/bin/true");
    assert_eq!(found(rig, SERVICE), rules(&["exec-stop", "overridden", "proxy-from"]));
    rig.edit("");
    assert_eq!(found(rig, SERVICE), rules(&[]));

    rig.edit_unit(SOCKET, "[Socket]\nMaxConnections=10\nKeepAlive=no\nTriggerLimitBurst=2\n[Unit]\nListenStream=874\n");
    assert_eq!(found(rig, SOCKET), rules(&["keep-alive", "section", "socket-max", "trigger-limit"]));
    rig.edit_unit(SOCKET, "[Socket]\nAccept=yes\n");
    assert!(found(rig, SERVICE).contains("accept"));
    rig.edit_unit(SOCKET, "[Socket]\nService=other.service\n");
    assert!(found(rig, SERVICE).contains("socket-service"));
}

/// A bare pair of units has all that matters to be told of.
pub fn check_tells_what_bare_units_lack(rig: &Rig) {
    rig.unit("probe-bare.service", "[Service]\nExecStart=/usr/bin/sockcap -- /usr/bin/cat\n");
    rig.unit("probe-bare.socket", "[Socket]\nListenStream=7070\n");
    rig.ok("systemctl daemon-reload");
    let expected = [
        "fd-store",
        "install",
        "keep-alive",
        "kill-mode",
        "notify-access",
        "oom-policy",
        "restart",
        "restart-kill-signal",
        "socket-wants",
        "start-limit",
        "type",
    ];
    assert_eq!(found(rig, "probe-bare"), rules(&expected));
    rig.unit("probe-alone.service", "[Service]\nExecStart=/usr/bin/sockcap -- /usr/bin/cat\n");
    rig.ok("systemctl daemon-reload");
    assert!(found(rig, "probe-alone").contains("no-socket"));
    for (unit, code) in [("probe-none", 3), ("'sockcap@'", 2), ("../x", 2)] {
        assert_eq!(rig.sh(&format!("sockcapctl check {unit}")).status.code(), Some(code), "{unit}");
    }
}

/// What runs is compared with what is there: settings, the program, and limits that were set meanwhile.
pub fn check_tells_of_an_old_daemon(rig: &Rig) {
    rig.ok("rm -f /run/sockcap-old && cp /usr/bin/sockcap /run/sockcap-old");
    rig.edit("ExecStart=\nExecStart=/run/sockcap-old --busy-reply rsync -- /usr/bin/rsync --daemon");
    rig.ok(&format!("systemctl restart {SERVICE}"));
    assert_eq!(found(rig, SERVICE), rules(&[]));
    rig.ok("cp /usr/bin/sockcap /run/sockcap-new && mv /run/sockcap-new /run/sockcap-old");
    assert_eq!(found(rig, SERVICE), rules(&["old-program"]));
    rig.edit("ExecStart=\nExecStart=/run/sockcap-old --busy-reply rsync -- /usr/bin/rsync --daemon\nEnvironment=SOCKCAP_MAX_CONNECTIONS=7");
    rig.ok(&format!("systemctl restart {SERVICE}"));
    assert_eq!(found(rig, SERVICE), rules(&[]));
    rig.edit("ExecStart=\nExecStart=/run/sockcap-old --busy-reply rsync -- /usr/bin/rsync --daemon\nEnvironment=SOCKCAP_MAX_CONNECTIONS=9");
    assert_eq!(found(rig, SERVICE), rules(&["old-settings"]));
    rig.ok("sockcapctl drain rsync-capped");
    assert!(rig.ok("sockcapctl check rsync-capped || :").contains("[drained]"));
    rig.ok("sockcapctl resume rsync-capped");
    rig.write("/etc/systemd/system/rsync-capped.service.d/more.conf", "[Service]\nEnvironment=A=1\n");
    until("its files are newer", || {
        rig.ok("touch /etc/systemd/system/rsync-capped.service.d/more.conf");
        found(rig, SERVICE).contains("reload").then_some(())
    });
}
