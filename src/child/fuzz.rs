//! What /proc says of processes that we did not start, and names that an earlier daemon gave.
#![forbid(unsafe_code)]

use super::cgroup::{folder, of_service};
use super::cgroups::fuzz as cgroups;
use super::proc::Stat;
use super::survivors::fuzz::{marked, said_of};
use super::{oom, pressure};
use crate::fuzzing::bytes::Choices;
use std::time::Duration;

/// `KIND BYTES`: a file of one of these kinds.
pub(crate) fn found(data: &[u8]) {
    const KINDS: [fn(&[u8]); 5] = [stat, environment, marks, groups, figures];
    let mut from = Choices(data);
    let kind = from.one_of(&KINDS);
    kind(from.0);
}

/// proc_pid_stat(5): whatever a process calls itself, the rest is the kernel's.
fn stat(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let stat = Stat::parse(&text);
    let named = format!("1 ({text}) S 7 8 9 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 2 0 512 0");
    let found = Stat::parse(&named).filter(|_| !text.contains(')')).map(|stat| (stat.parent, stat.group, stat.session));
    assert!(text.contains(')') || found == Some((7, 8, 9)), "{named:?}");
    let Some(stat) = stat else { return };
    assert!(stat.is_same(&stat) && stat.was_started(stat.started(), Some(stat.started())), "{stat:?}");
    assert!(!stat.was_started(stat.started() + Duration::from_secs(1), None), "{stat:?}");
    let (_, rest) = text.rsplit_once(')').unwrap();
    for name in ["", "a b", ") Z (", "\n"] {
        assert_eq!(Stat::parse(&format!("1 ({name}){rest}")), Some(stat), "{name:?}");
    }
}

/// The environment of a process that is found in our cgroup.
fn environment(bytes: &[u8]) {
    if let Some((Some(id), leader)) = marked(bytes) {
        assert!((1..=1 << 53).contains(&id));
        // What it has after the variables of ours, it may say of anything.
        let more = [bytes, b"\0SOCKCAP_CONNECTION=9 x 1\0REMOTE_PORT=1"].concat();
        assert_eq!(marked(&more), Some((Some(id), leader)));
    }
}

/// The environment of a command is understood, whatever its listener is called.
fn marks(bytes: &[u8]) {
    let label: String = String::from_utf8_lossy(bytes).chars().filter(|letter| *letter != '\0').collect();
    for (variables, source) in [
        ("REMOTE_ADDR=192.0.2.1\0REMOTE_PORT=7\0", "192.0.2.1"),
        ("REMOTE_ADDR=fe80::1%7\0REMOTE_PORT=7\0", "fe80::1%7"),
        ("REMOTE_ADDR=vsock:3\0REMOTE_PORT=7\0", "cid=3"),
        ("IPCREMOTEEUID=7\0REMOTE_PORT=7\0", "uid=7"),
    ] {
        let environment = format!("PATH=/bin\0{variables}SOCKCAP_CONNECTION=17 {label} 4242\0MORE=1\0");
        assert_eq!(said_of(environment.as_bytes()), Some((17, label.clone(), source.parse().unwrap(), 7, 4242)));
    }
}

/// proc_pid_cgroup(5), proc_pid_mountinfo(5), and the names of cgroups.
fn groups(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    cgroups::names(&text);
    for line in text.lines() {
        let service = of_service(line);
        assert!(line.starts_with(service), "{service}");
        let rest = &line[service.len()..];
        assert!(rest.is_empty() || service.ends_with(".service") && rest.starts_with('/'), "{line}");
        assert_eq!(of_service(service), service, "of {line}");
        assert!(folder(line).is_none_or(|folder| folder.starts_with("/sys/fs/cgroup") && !folder.ends_with('/')));
    }
}

/// memory.events, io.stat and the like, and what tells of pressure.
fn figures(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    oom::count(&text);
    cgroups::figures(&text);
    assert!(pressure::some_avg10(bytes).is_none_or(|level| (0.0..=100.0).contains(&level)));
}
