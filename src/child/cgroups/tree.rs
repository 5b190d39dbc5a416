//! The cgroups of a service that were delegated to it (`Delegate=`, systemd.resource-control(5)): this process in a leaf of its own, each
//! connection in one beside it.
//!
//! ```text
//! UNIT/daemon-PID    this process; a new name at each start
//! UNIT/conn-17       the command of connection 17, and all that it has started
//! UNIT/before-PID    what ran in UNIT itself, left by a daemon that made no cgroups
//! ```
//!
//! Kernels from 5.14 to 6.18 kill what clone3(2) puts into a cgroup at birth, if that cgroup, or the one of whoever makes the call, was
//! killed before by cgroup.kill. So no cgroup is used twice, a leaf has a new name at each start, and a trial shows what can be done.
#![forbid(unsafe_code)]

use super::files::{CONNECTION, DAEMON, cannot, is_delegated, mount, number, open_folder, own_path, set, write};
use super::limits::{Limits, Setting};
use super::removal::{Removal, remove_some};
use super::trial;
use super::usage;
use crate::child::cgroup::{as_owner, is_gone, is_managed, pids_below};
use crate::child::proc;
use crate::sys::launch::Way;
use crate::sys::plain;
use crate::sys::process::{Usage, pidfd, send_signal};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Attempts to find all processes of a cgroup, where the kernel does not.
const PASSES: usize = 3;

/// Processes of a connection that are sent SIGTERM singly, each of which needs a descriptor: the others are killed with it.
const MAX_AT_ONCE: usize = 256;

/// Cgroups below a connection's that are looked into for its processes. Whoever hides in more of them ends with it all the same.
const MAX_BELOW: usize = 256;

/// The name of our leaf.
fn own_leaf() -> String {
    format!("{DAEMON}{}", std::process::id())
}

/// The cgroups of our service.
#[derive(Debug)]
pub struct Tree {
    folder: String,
    /// The part of the folder's path that the manager and journald call it by.
    path: String,
    /// How commands come into theirs.
    way: Way,
    settings: Vec<Setting>,
    /// Whether the manager starts us in the service's own cgroup, not in one below it (`DelegateSubgroup=`, systemd 254): then the next
    /// daemon can only be started where no controller is on below it.
    starts_at_top: bool,
}

impl Tree {
    /// Takes possession: moves this process to its leaf, has controllers on, and tries one cgroup with these limits. With it a clause for
    /// each fallback.
    ///
    /// # Errors
    /// One line, that says what could not be done, why, and what to do.
    pub fn begin(limits: &Limits) -> Result<(Tree, Vec<String>), String> {
        let read = |path| proc::read_list(path).map_err(|error| cannot(&format!("read {path}"), &error));
        let (mounts, cgroups) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
        let (Some(mount), Some(path)) = (mount(&mounts), own_path(&cgroups)) else {
            return Err("this system has no cgroups of version 2 (or they are hidden from this service)".into());
        };
        let folder = format!("{mount}{}", path.trim_end_matches('/'));
        // Root could do without, and the manager would do as it likes with what it does not know of.
        if is_managed() && is_delegated(&folder) == Some(false) {
            return Err(format!("the cgroup {folder} is the manager's own: the unit needs Delegate=yes"));
        }
        let own = std::process::id();
        let leaf = format!("{folder}/{}", own_leaf());
        let _ = fs::remove_dir(&leaf); // of a daemon that had our number
        fs::create_dir(&leaf).map_err(|error| cannot(&format!("make the cgroup {leaf}"), &error))?;
        let starts_at_top = proc::read_list(&format!("{folder}/cgroup.procs"))
            .is_ok_and(|pids| pids.lines().any(|pid| pid == own.to_string()));
        write(&format!("{leaf}/cgroup.procs"), "0")
            .map_err(|error| cannot(&format!("move to the cgroup {leaf}"), &error))?;
        let mut tree =
            Tree { path: path.to_owned(), folder, way: Way::Enters, settings: limits.settings(), starts_at_top };
        match tree.settle(own) {
            Ok(fallbacks) => Ok((tree, fallbacks)),
            Err(why) => {
                tree.move_back();
                Err(why)
            }
        }
    }

    /// What there is to do from our leaf.
    fn settle(&mut self, own: u32) -> Result<Vec<String>, String> {
        if let Some(other) = self.other_daemon().filter(|_| !is_managed()) {
            return Err(format!("process {other}, another sockcap, makes cgroups in {} already", self.folder));
        }
        self.clear_out(own).map_err(|error| cannot(&format!("empty the cgroup {}", self.folder), &error))?;
        self.switch_controllers()?;
        let (way, fallbacks) = self.try_one(own, trial::of)?;
        self.way = way;
        Ok(fallbacks)
    }

    /// A daemon in a leaf beside ours, but for what collects its commands' standard error. A manager starts none before the end of the last.
    fn other_daemon(&self) -> Option<i32> {
        let leaves = self.others(&[DAEMON]);
        let mut members = leaves.flat_map(|leaf| pids_below(&leaf.to_string_lossy(), 1).unwrap_or_default());
        let is_daemon = |pid: &i32| proc::read_list(&format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sockcap\n");
        members.find(is_daemon)
    }

    /// The folders whose names begin so, but for our leaf.
    fn others(&self, kinds: &[&str]) -> impl Iterator<Item = PathBuf> {
        let own = own_leaf();
        let is_other = move |name: &str| kinds.iter().any(|kind| name.starts_with(kind)) && name != own;
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.filter(move |entry| entry.file_name().to_str().is_some_and(&is_other)).map(|entry| entry.path())
    }

    /// Back to where we came from, as far as that can be, so that nothing is left of us.
    pub fn move_back(&self) {
        let leaf = format!("{}/{}", self.folder, own_leaf());
        if write(&format!("{}/cgroup.procs", self.folder), "0").is_ok() {
            let _ = fs::remove_dir(leaf);
        }
    }

    /// Moves out of the service's own cgroup whoever is there: what an earlier daemon has started that made no cgroups.
    fn clear_out(&self, own: u32) -> io::Result<()> {
        let list = format!("{}/cgroup.procs", self.folder);
        for _ in 0..PASSES {
            let members = proc::read_list(&list)?;
            if members.is_empty() {
                return Ok(());
            }
            if !is_managed() {
                return Err(io::Error::other("other processes are in it, too: this process needs a cgroup to itself"));
            }
            let to = format!("{}/before-{own}", self.folder);
            match fs::create_dir(&to) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            for pid in members.lines() {
                match write(&format!("{to}/cgroup.procs"), pid) {
                    Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
                    _ => {}
                }
            }
        }
        Err(io::Error::other("ever more processes come into it"))
    }

    /// Has those controllers on that the limits need, and no others while nothing is limited by them. Connections that live get the limits
    /// of a controller that was off: it counts nothing of what they have by now, so that none of them is ended for it.
    fn switch_controllers(&self) -> Result<(), String> {
        let (folder, control) = (&self.folder, format!("{}/cgroup.subtree_control", self.folder));
        let available = proc::read_list(&format!("{folder}/cgroup.controllers")).unwrap_or_default();
        let on = proc::read_list(&control).unwrap_or_default();
        for setting in &self.settings {
            let Setting { option, controller, .. } = setting;
            if !available.split_whitespace().any(|name| name == *controller) {
                return Err(format!(
                    "cannot limit each connection by {option}: the controller '{controller}' is missing in {folder}/cgroup.controllers, which has '{}' (the unit needs Delegate={controller} or Delegate=yes; the kernel may have it off, see cgroup_disable=)",
                    available.trim()
                ));
            }
            if on.split_whitespace().any(|name| name == *controller) {
                continue;
            }
            write(&control, &format!("+{controller}")).map_err(|error| {
                let why = cannot(&format!("turn on the controller '{controller}' in {control}"), &error);
                format!("cannot limit each connection by {option}: {why}")
            })?;
        }
        let is_new = |setting: &&Setting| !on.split_whitespace().any(|name| name == setting.controller);
        for id in self.ids() {
            for setting in self.settings.iter().filter(is_new) {
                let _ = set(&self.of(id), setting); // it may have ended
            }
        }
        if self.ids().is_empty() {
            let is_needed = |name: &str| self.settings.iter().any(|setting| setting.controller == name);
            for name in on.split_whitespace().filter(|name| !is_needed(name)) {
                let _ = write(&control, &format!("-{name}")); // one that stays on costs a little time
            }
        }
        Ok(())
    }

    /// Turns controllers off for the start of the next daemon, if they would be in its way. It turns them on again.
    pub fn make_way(&self) {
        if self.starts_at_top {
            let control = format!("{}/cgroup.subtree_control", self.folder);
            for setting in &self.settings {
                let _ = write(&control, &format!("-{}", setting.controller)); // what is off already is no error
            }
        }
    }

    /// Does this with a cgroup that is made as for a connection.
    fn try_one<T>(&self, own: u32, try_it: impl FnOnce(&str, &OwnedFd) -> T) -> Result<T, String> {
        let folder = format!("{}/probe-{own}", self.folder);
        let tried = self.make_folder(&folder).map(|opened| try_it(&folder, &opened));
        let _ = fs::remove_dir(&folder);
        tried
    }

    /// Whether the kernel would kill at birth who is born in a cgroup that is used twice.
    pub fn kills_newborn(&self) -> bool {
        self.try_one(std::process::id(), trial::kills_newborn).unwrap_or(false)
    }

    fn make_folder(&self, folder: &str) -> Result<OwnedFd, String> {
        fs::create_dir(folder).map_err(|error| cannot(&format!("make the cgroup {folder}"), &error))?;
        self.furnish(folder).map_err(|(setting, error)| match setting {
            None => cannot(&format!("open the cgroup {folder}"), &error),
            Some(Setting { option, files, value, .. }) => {
                let (file, why) = (files.first().copied().unwrap_or_default(), plain(&error));
                format!("cannot limit each connection by {option}: cannot write {value} to {folder}/{file}: {why}")
            }
        })
    }

    /// Sets all limits of a cgroup that was made, and opens it, or removes it again. With an error the setting that it is about.
    fn furnish(&self, folder: &str) -> Result<OwnedFd, (Option<&Setting>, io::Error)> {
        let all = self.settings.iter();
        let set_all = all.map(|setting| set(folder, setting).map_err(|error| (Some(setting), error)));
        let opened =
            set_all.collect::<Result<(), _>>().and_then(|()| open_folder(folder).map_err(|error| (None, error)));
        opened.inspect_err(|_| drop(fs::remove_dir(folder)))
    }

    /// The path that the manager, systemd-cgls(1) and journald (`_SYSTEMD_CGROUP=`) know the service's cgroup by.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The folder of the service's cgroup.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// How commands come into their cgroups.
    pub fn way(&self) -> Way {
        self.way
    }

    fn of(&self, id: u64) -> String {
        format!("{}/{CONNECTION}{id}", self.folder)
    }

    /// Makes the cgroup of a connection, with its limits. One of that number is made anew, and whoever is in it has made it himself, and is
    /// ended.
    ///
    /// # Errors
    /// mkdir(2)'s, open(2)'s and write(2)'s.
    pub fn make(&self, id: u64) -> io::Result<OwnedFd> {
        let folder = self.of(id);
        if let Err(error) = fs::create_dir(&folder) {
            if error.kind() != io::ErrorKind::AlreadyExists {
                return Err(error);
            }
            match self.remove(id) {
                Removal::Done => fs::create_dir(&folder)?,
                Removal::Inhabited => {
                    self.kill(id);
                    return Err(io::Error::from_raw_os_error(libc::EBUSY));
                }
                Removal::Begun | Removal::Stuck => return Err(io::Error::from_raw_os_error(libc::EBUSY)),
            }
        }
        self.furnish(&folder).map_err(|(_, error)| error)
    }

    /// Removes that of a connection, or a part of what a command has made below it.
    pub fn remove(&self, id: u64) -> Removal {
        let folder = self.of(id);
        match fs::remove_dir(&folder) {
            Ok(()) => return Removal::Done,
            Err(error) if is_gone(&error) => return Removal::Done,
            Err(_) => {}
        }
        let is_empty = || self.is_populated(id) == Some(false);
        match is_empty().then(|| remove_some(Path::new(&folder))) {
            Some(Removal::Stuck) if !is_empty() => Removal::Inhabited,
            Some(removal) => removal,
            None => Removal::Inhabited,
        }
    }

    /// Whether somebody is in that of a connection, or below it. `None`: it cannot be seen.
    pub fn is_populated(&self, id: u64) -> Option<bool> {
        let folder = self.of(id);
        match as_owner(Path::new(&folder), |path| fs::read_to_string(path), "cgroup.events") {
            Ok(events) => Some(events.lines().any(|line| line == "populated 1")),
            Err(error) => is_gone(&error).then_some(false),
        }
    }

    /// What changes when the last process leaves that of a connection (cgroup.events).
    pub fn events_file(&self, id: u64) -> String {
        format!("{}/cgroup.events", self.of(id))
    }

    /// The processes in that of a connection.
    pub fn members(&self, id: u64) -> Vec<i32> {
        let mut pids = pids_below(&self.of(id), MAX_BELOW).unwrap_or_default();
        pids.retain(|pid| *pid > 0);
        pids
    }

    /// Sends a signal to each process in that of a connection that is not of this process group. A number is a process's that is listed
    /// after its pidfd was opened, or nobody's.
    pub fn signal_others(&self, id: u64, signal: Signal, group: i32) {
        let is_other = |pid: &i32| getpgid(Some(Pid::from_raw(*pid))).is_ok_and(|of| of.as_raw() != group);
        let others = self.members(id).into_iter().filter(is_other).take(MAX_AT_ONCE);
        let opened: Vec<_> = others.filter_map(|pid| Some((pid, pidfd(pid).ok()?))).collect();
        if opened.is_empty() {
            return;
        }
        let listed: HashSet<i32> = self.members(id).into_iter().collect();
        for (_, pidfd) in opened.iter().filter(|(pid, _)| listed.contains(pid)) {
            let _ = send_signal(pidfd, signal as i32, false); // it may have ended
        }
    }

    /// Ends all that is in that of a connection, at once. `false`: some may be left, since the kernel (before 5.14) has no cgroup.kill.
    pub fn kill(&self, id: u64) -> bool {
        let folder = self.of(id);
        let kills = |path: &Path| write(&path.to_string_lossy(), "1");
        match as_owner(Path::new(&folder), kills, "cgroup.kill") {
            Err(error) if error.raw_os_error() != Some(libc::ENODEV) => self.kill_each(id, &folder),
            _ => true,
        }
    }

    /// Who is frozen starts nobody.
    fn kill_each(&self, id: u64, folder: &str) -> bool {
        let freeze = |how: &str| {
            let _ = as_owner(Path::new(folder), |path| write(&path.to_string_lossy(), how), "cgroup.freeze");
        };
        freeze("1");
        for _ in 0..PASSES {
            for pid in self.members(id) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL); // it may have ended
            }
        }
        freeze("0");
        self.is_populated(id) == Some(false)
    }

    /// The numbers of the connections that have one.
    pub fn ids(&self) -> Vec<u64> {
        let names = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.filter_map(|name| number(name.to_str()?)).collect()
    }

    /// The connection in whose cgroup, or below it, this process is.
    pub fn connection_of(&self, pid: i32) -> Option<u64> {
        let cgroups = proc::read_list(&format!("/proc/{pid}/cgroup")).ok()?;
        let path = cgroups.lines().find_map(|line| line.strip_prefix("0::"))?;
        let rest = path.strip_prefix(self.path.trim_end_matches('/'))?.strip_prefix('/')?;
        number(rest.split('/').next()?)
    }

    /// Removes what dead daemons have left and nobody is in: their leaves, and what they found when they began.
    pub fn sweep(&self) {
        for folder in self.others(&[DAEMON, "before-", "probe-"]) {
            let _ = fs::remove_dir(folder);
        }
    }

    /// What that of a connection has used; what it does not say is as `known`.
    pub fn usage(&self, id: u64, known: Usage) -> Usage {
        usage::read(&self.of(id), known)
    }

    /// Whether the kernel has killed somebody in that of a connection, since its memory was used up. `None`: not known, without the
    /// controller.
    pub fn ran_out_of_memory(&self, id: u64) -> Option<bool> {
        usage::oom_kills(&self.of(id)).map(|kills| kills > 0)
    }
}
