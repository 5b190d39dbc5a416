//! The unit files themselves: systemd understands all of them, and their sandbox fits rsync.

use super::client::{Transfer, rsync_ok};
use super::rig::{Rig, SERVICE, SOCKET};
use std::io::{self, Write as _};

pub fn verify_finds_nothing_to_say(rig: &Rig) {
    // Without the manual: the tree has no man(1) to look the pages up with.
    let out = rig.sh(&format!("systemd-analyze verify --man=no {SOCKET} {SERVICE} 2>&1"));
    let said = String::from_utf8_lossy(&out.stdout);
    let ours: Vec<&str> = said.lines().filter(|l| l.contains("rsync-capped") || l.contains("sockcap")).collect();
    assert!(out.status.success() && ours.is_empty(), "{}: {said}", out.status);
    assert!(
        !rig.ok("journalctl -q -b -o cat _PID=1").lines().any(|l| l.contains("rsync-capped") && l.contains("nknown"))
    );
}

pub fn the_exposure_stays_low(rig: &Rig) {
    let said = rig.ok(&format!("systemd-analyze security --no-pager --offline=true {SERVICE}"));
    let overall = said.lines().last().unwrap_or_default();
    let _ = writeln!(io::stderr(), "{}: {overall}", rig.ok("systemctl --version | head -n1"));
    let score: f32 = overall
        .split_once(": ")
        .and_then(|(_, rest)| rest.split_whitespace().next())
        .and_then(|score| score.parse().ok())
        .unwrap_or_else(|| panic!("no score in {said}"));
    assert!(score <= 4.0, "{said}");
}

/// A daemon that reads as another user in a chroot, and one that stores owners, modes and set-uid bits as root.
pub fn the_hardening_leaves_rsync_whole(rig: &Rig) {
    rig.ok("rm -rf /tmp/got /tmp/tree; mkdir /tmp/tree; echo x >/tmp/tree/f; chown 1234:4321 /tmp/tree/f; chmod 4750 /tmp/tree/f");

    rsync_ok(rig, &["-a", "--exclude=large", "rsync://127.0.0.1/files/", "/tmp/got/"]);
    assert_eq!(rig.ok("cat /tmp/got/one /tmp/got/two"), "one\ntwo");

    rsync_ok(rig, &["-a", "--numeric-ids", "/tmp/tree/", "rsync://127.0.0.1/attic/"]);
    assert_eq!(rig.ok("stat -c '%u:%g %a' /srv/attic/f"), "1234:4321 4750");

    let _transfer = Transfer::begin(rig);
    let pids = rig.ok(&format!("cat /sys/fs/cgroup/system.slice/{SERVICE}/cgroup.procs"));
    let daemon = rig.show(SERVICE, "MainPID");
    let theirs: Vec<&str> = pids.lines().filter(|p| *p != daemon).collect();
    assert_eq!(theirs.len(), 1, "one rsync beside the daemon: {pids}");
    assert_eq!(rig.ok(&format!("ps -o user= -p {}", theirs[0])), "nobody");
    assert_eq!(rig.ok(&format!("readlink /proc/{}/root", theirs[0])), "/srv/files");
}
