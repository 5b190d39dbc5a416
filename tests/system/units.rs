//! The unit files themselves: systemd understands all of them, and rsync's sandbox fits rsync.

use super::client::{Transfer, rsync_ok};
use super::rig::{Rig, SERVICE, shipped};
use std::fs;

/// All shipped files, templates as an instance that can be looked at.
fn instances() -> Vec<String> {
    shipped().iter().map(|unit| unit.replace('@', "@probe")).collect()
}

pub fn verify_finds_nothing_to_say(rig: &Rig) {
    // Without the manual: the tree has no man(1) to look the pages up with.
    let out = rig.sh(&format!("systemd-analyze verify --man=no {} 2>&1", instances().join(" ")));
    let said = String::from_utf8_lossy(&out.stdout);
    let is_ours = |line: &&str| line.contains("-capped") || line.contains("sockcap");
    let ours: Vec<&str> = said.lines().filter(is_ours).collect();
    assert!(out.status.success() && ours.is_empty(), "{}: {said}", out.status);
    // Other cases write drop-ins that are wrong on purpose.
    let journal = rig.said_so_far("_PID=1");
    let is_of_a_drop_in = |line: &str| line.contains(".service.d/") || line.contains(".socket.d/");
    let unknown = |line: &&str| is_ours(line) && line.contains("nknown") && !is_of_a_drop_in(line);
    assert_eq!(journal.lines().find(unknown), None);
}

/// Each service's score is the one in the README's table, for this version of systemd; for a newer one that has no column it is
/// no worse than in the last.
pub fn the_exposure_is_as_the_readme_says(rig: &Rig) {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let version = rig.ok("systemctl --version | sed -n '1s/^systemd \\([0-9]*\\).*/\\1/p'");
    let table = readme.split("\n## Units\n").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("Units");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let number = |text: &str| text.parse::<f64>().ok();
    let column = rows[0].iter().rposition(|cell| number(cell) <= number(&version) && number(cell).is_some());
    let column = column.unwrap_or_else(|| panic!("no column for {version}"));
    for service in instances().iter().filter(|unit| unit.ends_with(".service")) {
        let said = rig.ok(&format!("systemd-analyze security --no-pager --offline=true {service}"));
        let score = said.lines().last().unwrap_or_default().split_once(": ").map(|(_, rest)| rest.split(' ').next());
        let score = score.flatten().unwrap_or_else(|| panic!("no score in {said}"));
        let name = service.trim_end_matches(".service").replace("probe", "");
        let names = [name.as_str(), name.trim_end_matches('@')].map(|name| format!("`{name}`"));
        let row =
            rows.iter().find(|row| names.iter().any(|name| row[1] == name)).unwrap_or_else(|| panic!("no row {name}"));
        let fits = if rows[0][column] == version { row[column] == score } else { number(score) <= number(row[column]) };
        assert!(fits && number(score).is_some(), "{service} on {version}: not {}: {said}", row[column]);
    }
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
