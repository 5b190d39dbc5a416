//! A cgroup for the daemon of one test, as a manager with `Delegate=yes` would make it.

use crate::common::*;
use std::fs;
use std::path::{Path, PathBuf};

/// Gone, with all that is in it, when it is dropped.
pub struct Group(PathBuf);

fn hierarchy() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?;
    Some(mount.into())
}

impl Group {
    /// `None` where none can be made, which is said.
    pub fn new() -> Option<Group> {
        let made = hierarchy().and_then(|folder| own_dir(&folder, "sockcap-test").ok());
        if made.is_none() {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "no cgroup of version 2 can be made");
            skip("a test of --isolate=cgroup", "needs root and cgroups of version 2");
        }
        made.map(Group)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A daemon in it.
    pub fn sockcap<S: AsRef<str>>(&self, args: &[S]) -> Start {
        sockcap(&["--isolate=cgroup", "--verbose"]).args(args).prelude(&self.enter())
    }

    /// What a shell does to be in it.
    pub fn enter(&self) -> String {
        format!("echo $$ >{}/cgroup.procs", self.0.display())
    }

    /// The numbers of the connections that have a cgroup in which somebody lives, in order.
    pub fn living(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.ids().into_iter().filter(|id| self.is_populated(*id)).collect();
        ids.sort_unstable();
        ids
    }

    /// And those of all that have one.
    pub fn ids(&self) -> Vec<u64> {
        let names = fs::read_dir(&self.0).expect("its folder").flatten().map(|entry| entry.file_name());
        names.filter_map(|name| name.to_str()?.strip_prefix("conn-")?.parse().ok()).collect()
    }

    pub fn is_populated(&self, id: u64) -> bool {
        let events = fs::read_to_string(self.0.join(format!("conn-{id}/cgroup.events"))).unwrap_or_default();
        events.contains("populated 1")
    }

    /// The processes in that of a connection.
    pub fn members(&self, id: u64) -> Vec<i32> {
        let list = fs::read_to_string(self.0.join(format!("conn-{id}/cgroup.procs"))).unwrap_or_default();
        list.lines().map(|pid| pid.parse().expect("a pid")).collect()
    }

    /// Removes what daemons have left.
    pub fn clear(&self) {
        for entry in fs::read_dir(&self.0).expect("its folder").flatten().filter(|entry| entry.path().is_dir()) {
            remove(&entry.path());
        }
    }

    /// Waits until nobody lives in any.
    #[track_caller]
    pub fn until_empty(&self) {
        until("all connections' cgroups are empty", || self.living().is_empty());
    }
}

/// The cgroup of a process, without that of the test.
pub fn cgroup_of(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a process");
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).expect("cgroups of version 2");
    path.rsplit('/').next().expect("a path").to_owned()
}

fn remove(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        let is_empty =
            || !fs::read_to_string(self.0.join("cgroup.events")).is_ok_and(|text| text.contains("populated 1"));
        if !std::thread::panicking() {
            until("the test's cgroup is empty", is_empty);
        }
        remove(&self.0);
    }
}
