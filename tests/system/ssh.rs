//! `ssh-capped` with the real sshd and the real ssh: logins are counted across restarts and crashes, who is over the limit is told,
//! and what sshd's listener would do about failed logins (PerSourcePenalties), sockcap does by the exit status of each session.

use super::client::Client;
use super::rig::{Rig, until};
use super::services::{Dialogue, run, text};
use std::net::Ipv4Addr;
use std::process::Output;

const SERVICE: &str = "ssh-capped.service";

const SSH: [&str; 9] = [
    "ssh",
    "-oBatchMode=yes",
    "-oStrictHostKeyChecking=no",
    "-oUserKnownHostsFile=/dev/null",
    "-oConnectTimeout=60",
    "-i",
    "/root/key",
    "-v",
    "127.0.0.1",
];

/// Root's key, and one that opens nothing.
fn make_keys(rig: &Rig) {
    rig.ok("for key in key wrong; do [ -e /root/$key ] || ssh-keygen -q -t ed25519 -N '' -f /root/$key; done
        mkdir -p -m 700 /root/.ssh && cp /root/key.pub /root/.ssh/authorized_keys");
}

/// The unit with a limit of one, and root's key in place; `rest` is what the unit is changed by besides.
fn ssh_with_one_place(rig: &Rig, rest: &str) {
    make_keys(rig);
    rig.edit_unit(SERVICE, &format!("[Service]\nEnvironment=SOCKCAP_MAX_CONNECTIONS=1\n{rest}"));
    rig.ok("systemctl start ssh-capped.socket");
}

/// Somebody who has logged in, and stays.
fn login(rig: &Rig) -> Dialogue {
    login_with(rig, "echo in; cat")
}

fn login_with(rig: &Rig, script: &str) -> Dialogue {
    let mut login = Dialogue::begin(rig, &[&SSH[..], &[script]].concat());
    assert_eq!(login.line(), "in\n");
    login
}

fn is_refused(out: &Output) -> bool {
    let said = text(&out.stderr);
    out.status.code() == Some(255)
        && said.contains(": banner line 0: server at capacity, try again later")
        && said.contains("kex_exchange_identification: Connection closed by remote host")
}

/// One over the limit: the words that ssh shows with -v, and its exit status.
fn ssh_is_refused(rig: &Rig) {
    let out = run(rig, &[&SSH[..], &["true"]].concat());
    assert!(is_refused(&out), "{}", text(&out.stderr));
}

pub fn ssh_is_refused_at_once(rig: &Rig) {
    ssh_with_one_place(rig, "");
    let mut held = login(rig);
    ssh_is_refused(rig);
    held.say("there?\n");
    assert_eq!(held.line(), "there?\n");
    drop(held);
    rig.until_served_by(SERVICE, "0/1 active", 1);
    let out = run(rig, &[&SSH[..], &["id -un; exit 7"]].concat());
    assert_eq!((out.status.code(), text(&out.stdout)), (Some(7), "root\n".to_owned()), "{}", text(&out.stderr));
}

/// What the unit's comments say of restarts: a login that pam_systemd has made a session of its own is counted by the next daemon,
/// whatever became of the one before, and so is one without PAM; what it leaves running is not. A stop ends it.
pub fn ssh_counts_logins_across_restart_and_crash(rig: &Rig) {
    let service = SERVICE;
    ssh_with_one_place(rig, "RestartSec=50ms");
    let mut first = login_with(rig, "setsid -f sleep 100 >/dev/null 2>&1; echo in; cat");
    for next in ["systemctl restart", "systemctl kill --kill-whom=main --signal=KILL", "systemctl restart"] {
        let before = rig.show(service, "MainPID");
        rig.ok(&format!("{next} {service}"));
        until("another daemon", || {
            let pid = rig.show(service, "MainPID");
            (rig.show(service, "ActiveState") == "active" && pid != before && pid != "0").then_some(())
        });
        rig.until_status_of(service, "1/1 active");
        ssh_is_refused(rig);
        first.say("there?\n");
        assert_eq!(first.line(), "there?\n");
    }
    drop(first);
    rig.until_status_of(service, "0/1 active");
    drop(login(rig));

    rig.ok(&format!("systemctl stop {service}"));
    let without = "ExecStart=\nExecStart=/usr/bin/sockcap --busy-reply ssh -- /usr/sbin/sshd -i -o UsePAM=no";
    ssh_with_one_place(rig, &format!("{without}\nEnvironment=SOCKCAP_DRAIN_TIMEOUT=100ms"));
    let mut held = login(rig);
    rig.ok(&format!("systemctl restart {service}"));
    ssh_is_refused(rig);
    rig.ok(&format!("systemctl stop {service}"));
    assert_eq!(held.line(), "");
}

/// Somebody with this key, or with a wrong password, who comes from this address.
fn from(rig: &Rig, address: &str, options: &[&str], user: &str) -> Output {
    let common = ["env", "SSH_ASKPASS=/root/ask", "SSH_ASKPASS_REQUIRE=force", "ssh", "-v", "-b", address];
    let files = ["-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oIdentitiesOnly=yes"];
    let who = format!("{user}@127.0.0.1");
    run(rig, &[&common[..], &files, &["-oNumberOfPasswordPrompts=1"], options, &[&who, "echo in"]].concat())
}

fn with_key(rig: &Rig, address: &str, key: &str) -> Output {
    from(rig, address, &["-oBatchMode=yes", "-i", key], "root")
}

fn is_in(out: &Output) -> bool {
    out.status.success() && text(&out.stdout) == "in\n"
}

/// The exit statuses that penalties go by came with OpenSSH 9.8, and 7 with 10.3.
fn version(rig: &Rig) -> (u32, u32) {
    let said = rig.ok("ssh -V 2>&1");
    let number = said.strip_prefix("OpenSSH_").expect("a version");
    let mut parts = number.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().expect("a number"));
    (parts.next().expect("major"), parts.next().expect("minor"))
}

/// The unit with these penalties, which a restart begins anew, and with sshd's exit status in the journal.
fn ssh_with_penalties(rig: &Rig, rest: &str) {
    let start = "/usr/bin/sockcap -v --busy-reply ssh -- /usr/sbin/sshd -i -o LoginGraceTime";
    rig.edit_unit(SERVICE, &format!("[Service]\nExecStart=\nExecStart={start}={rest}"));
    rig.ok(&format!("systemctl start ssh-capped.socket; systemctl restart {SERVICE}"));
}

/// Each way not to log in has the exit status that the preset goes by, and is followed by a refusal where the preset says so. An
/// ordinary login ends with 255, which must cost nothing.
pub fn sshd_tells_how_a_login_failed(rig: &Rig) {
    make_keys(rig);
    rig.write("/root/ask", "#!/bin/sh\necho wrong\n");
    rig.ok("chmod 755 /root/ask");
    let here = Ipv4Addr::LOCALHOST.to_string();
    let no_key = ["-oPubkeyAuthentication=no"];
    let silent = || assert!(Client::to(rig, Ipv4Addr::LOCALHOST, 22).rest().starts_with("SSH-2.0-"));
    let version = version(rig);
    let told = |since, status| if version >= since { status } else { 255 };
    let ways: [(&str, i32, &dyn Fn()); 5] = [
        ("1m", told((9, 8), 5), &|| assert!(!is_in(&with_key(rig, &here, "/root/wrong")))),
        ("1m", told((9, 8), 5), &|| assert!(!is_in(&from(rig, &here, &no_key, "root")))),
        ("1m", told((9, 8), 5), &|| assert!(!is_in(&from(rig, &here, &no_key, "nobody-by-that-name")))),
        ("1m", told((10, 3), 7), &|| {
            assert!(!is_in(&from(rig, &here, &["-oBatchMode=yes", "-i", "/root/wrong"], "nobody-by-that-name")))
        }),
        ("1s", if version >= (9, 8) { 3 } else { 1 }, &silent),
    ];
    for (grace, status, fail) in ways {
        // One is enough, and it is enforced for longer than this takes.
        let each = ["3", "5", "7"].map(|status| format!("{status}=5min")).join(",");
        ssh_with_penalties(rig, &format!("{grace}\nEnvironment=SOCKCAP_PENALTY=sshd,{each}"));
        let daemon = format!("_PID={}", rig.show(SERVICE, "MainPID"));
        fail();
        rig.until_said(&daemon, " ended: pid ");
        let entry = rig.ok(&format!("journalctl -q -b -o cat {daemon} | grep ' ended: pid '"));
        assert!(entry.contains(&format!(" exited with status {status} ")), "{entry}");
        let costs = [3, 5, 7].contains(&status);
        // Where a login has a second, that may be too short for it on a busy machine, and costs no more than before.
        until("a login or a refusal", || {
            let next = with_key(rig, &here, "/root/key");
            assert_eq!(is_refused(&next), costs, "{status}: {}", text(&next.stderr));
            (costs || is_in(&next)).then_some(())
        });
    }
}

/// Failed logins add up until their source is refused, while others log in.
pub fn ssh_failures_add_up(rig: &Rig) {
    if version(rig) < (9, 8) {
        return;
    }
    make_keys(rig);
    // Two are too few and three enough, however long they take.
    let terms = ["PENALTY=sshd,5=40min", "PENALTY_MIN=100min", "PENALTY_MAX=3h"];
    let rest = format!("30{}", terms.map(|term| format!("\nEnvironment=SOCKCAP_{term}")).concat());
    ssh_with_penalties(rig, &rest);
    let mut failures = 0;
    until("a refusal", || {
        let out = with_key(rig, "127.0.0.1", "/root/wrong");
        let said = text(&out.stderr);
        assert!(is_refused(&out) || said.contains("Permission denied"), "{said}");
        failures += u32::from(!is_refused(&out));
        is_refused(&out).then_some(())
    });
    assert!(failures >= 3, "{failures}");
    rig.until_said(
        "MESSAGE_ID=5c1cbd7bcb154a4b9f7e0b4d4b1d0a0b SOCKCAP_REASON=penalty SOCKCAP_PEER_ADDR=127.0.0.1 SOCKCAP_SOURCE=127.0.0.1/32",
        "rejected connection: penalty",
    );
    let out = with_key(rig, "127.0.0.2", "/root/key");
    assert!(is_in(&out), "{}", text(&out.stderr));
    let out = with_key(rig, "127.0.0.1", "/root/key");
    assert!(is_refused(&out), "{}", text(&out.stderr));
    rig.ok(&format!("systemctl restart {SERVICE}"));
    let out = with_key(rig, "127.0.0.1", "/root/key");
    assert!(is_in(&out), "a new daemon begins anew: {}", text(&out.stderr));
}
