//! Finding the commands of an earlier daemon: those that still run in our own cgroup.
//!
//! Each command leads a session of its own, or with `--session shared` a process group, which anybody may see (proc_pid_stat(5)),
//! and carries [`MARK`] in its environment, which only its own user and root with CAP_SYS_PTRACE may read. So a command that has
//! become another user is still counted, without being recognized. Its exit code is lost: PID 1 is its parent now.
//!
//! The other ways were a pidfd for each command in the manager's store, which costs a message to PID 1 and a descriptor
//! for each connection, and asking the manager, which does not know which of a service's processes were given one.
#![forbid(unsafe_code)]

use super::environment::MARK;
use crate::policy::source::Source;
use crate::sys::launch::Session;
use crate::sys::process::pidfd;
use nix::time::{ClockId, clock_gettime};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

/// A process in our cgroup that we did not start.
#[derive(Debug)]
pub struct Found {
    /// Its number, which is its process group's too if it is a command.
    pub pid: i32,
    /// Readable once it has ended.
    pub pidfd: OwnedFd,
    /// How long it has run.
    pub age: Duration,
    /// What it says of its connection, if it can be read.
    pub mark: Option<Mark>,
}

/// What a command's environment says of its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Number of the connection in the daemon that started the command.
    pub id: u64,
    /// Label of the listener.
    pub listener: String,
    /// Whom the connection is counted for.
    pub source: Source,
}

/// The kinds of process in a cgroup.
#[derive(Debug, PartialEq)]
enum Kind {
    Command(Option<Mark>),
    /// What a command has started.
    Descendant,
}

/// Our own cgroup's directory, if the service manager made it for this process alone; `None` for a process that somebody
/// else's service or session started (`SYSTEMD_EXEC_PID`, systemd.exec(5), since 248).
pub fn own_cgroup() -> Option<PathBuf> {
    let exec_pid = std::env::var("SYSTEMD_EXEC_PID").ok()?;
    (exec_pid.parse() == Ok(std::process::id())).then_some(())?;
    let lines = fs::read_to_string("/proc/self/cgroup").ok()?;
    // cgroups(7): "0::PATH" in version 2, "N:name=systemd:PATH" in version 1.
    lines.lines().find_map(|line| {
        let (root, path) = match line.split_once("::") {
            Some(("0", path)) => ("/sys/fs/cgroup", path),
            _ => ("/sys/fs/cgroup/systemd", line.split_once(":name=systemd:")?.1),
        };
        let directory = PathBuf::from(format!("{root}{path}"));
        directory.join("cgroup.procs").exists().then_some(directory)
    })
}

/// The commands of an earlier daemon that still run here: those that it `left`, if it said which; else those that look like
/// one. Call it before a command is started.
///
/// # Errors
/// If the cgroup's processes cannot be listed.
pub fn commands(
    cgroup: &std::path::Path,
    session: Session,
    left: impl Fn(i32) -> Option<bool>,
) -> io::Result<Vec<Found>> {
    let kind = |pid, stat: Option<&Stat>| match stat {
        Some(stat) => stat.kind(pid, session, &fs::read(format!("/proc/{pid}/environ")).unwrap_or_default()),
        // hidepid= of proc(5): all that is known is that it is there.
        None => Kind::Command(None),
    };
    let mut found = Vec::new();
    for (process, kind) in processes(cgroup, |_| false, kind)? {
        let (mark, looks_like_one) = match kind {
            Kind::Command(mark) => (mark, true),
            Kind::Descendant => (None, false),
        };
        if left(process.pid).unwrap_or(looks_like_one) {
            found.push(Found { mark, ..process });
        }
    }
    Ok(found)
}

/// All processes that still run here but this one and those that are `known`.
///
/// # Errors
/// If the cgroup's processes cannot be listed.
pub fn strays(cgroup: &std::path::Path, known: impl Fn(i32) -> bool) -> io::Result<Vec<Found>> {
    Ok(processes(cgroup, known, |_, _| ())?.into_iter().map(|(process, ())| process).collect())
}

/// Each with what `look` sees in it, which gets its number and its stat, where that can be read.
fn processes<T>(
    cgroup: &std::path::Path,
    known: impl Fn(i32) -> bool,
    look: impl Fn(i32, Option<&Stat>) -> T,
) -> io::Result<Vec<(Found, T)>> {
    let own = std::process::id() as i32;
    // The clock of `Stat::started`; not /proc/uptime, which ProcSubset=pid hides.
    let uptime = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from).as_secs_f64();
    let mut all = Vec::new();
    let list = fs::read_to_string(cgroup.join("cgroup.procs"))?;
    // A process of another pid namespace is listed as 0.
    for pid in list.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0 && *pid != own && !known(*pid)) {
        // Taken before anything is read of it: what is read is of this process if it lives afterwards.
        let Ok(pidfd) = pidfd(pid) else { continue };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|text| Stat::parse(&text));
        if stat.as_ref().is_some_and(|stat| stat.is_dead) {
            continue;
        }
        let age = stat.as_ref().map_or(0.0, |stat| (uptime - stat.started).max(0.0));
        let seen = look(pid, stat.as_ref());
        if !crate::sys::process::has_ended(&pidfd) {
            all.push((Found { pid, pidfd, age: Duration::from_secs_f64(age), mark: None }, seen));
        }
    }
    Ok(all)
}

/// The mark and the pid in it.
fn marked(environ: &[u8]) -> Option<(Mark, i32)> {
    let value = |name: &str| {
        let mut entries = environ.split(|byte| *byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok());
        entries.find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
    };
    let (id, rest) = value(MARK)?.split_once(' ')?;
    let (listener, pid) = rest.rsplit_once(' ')?;
    let ip = || value("REMOTE_ADDR")?.parse().ok().map(Source::ip);
    let cid = || value("REMOTE_ADDR")?.strip_prefix("vsock:")?.parse().ok().map(Source::Cid);
    let uid = || value("IPCREMOTEEUID")?.parse().ok().map(Source::Uid);
    let source = ip().or_else(cid).or_else(uid).unwrap_or(Source::Unknown);
    Some((Mark { id: id.parse().ok()?, listener: listener.to_owned(), source }, pid.parse().ok()?))
}

/// The fields of proc_pid_stat(5) that matter here.
#[derive(Debug, PartialEq)]
struct Stat {
    is_dead: bool,
    group: i32,
    session: i32,
    /// Seconds after the system's start.
    started: f64,
}

impl Stat {
    fn parse(text: &str) -> Option<Stat> {
        // The name in parentheses may hold anything, parentheses too.
        let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_whitespace().collect();
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()?? as f64;
        Some(Stat {
            is_dead: matches!(*fields.first()?, "Z" | "X"),
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            started: fields.get(19)?.parse::<f64>().ok()? / ticks,
        })
    }

    /// What the process `pid` is where commands are in such a session. The mark decides if it can be read: a leader that it does not
    /// name was started by a command, as a daemon or as a job of a shell. The daemon before us may have had the other setting.
    fn kind(&self, pid: i32, session: Session, environ: &[u8]) -> Kind {
        let is_leader = self.session == pid || (session == Session::Shared && self.group == pid);
        match marked(environ) {
            Some((mark, leader)) if leader == pid => Kind::Command(Some(mark)),
            None if is_leader => Kind::Command(None),
            _ => Kind::Descendant,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_names_connection_listener_and_leader() {
        let environ = b"PATH=/bin\0REMOTE_ADDR=::ffff:192.0.2.1\0SOCKCAP_CONNECTION=17 my ) port 4242\0";
        let source = Source::ip("192.0.2.1".parse().unwrap());
        let mark = Mark { id: 17, listener: "my ) port".into(), source };
        assert_eq!(marked(environ), Some((mark, 4242)));
        let unix = b"SOCKCAP_CONNECTION=1 u 2\0IPCREMOTEEUID=7\0REMOTE_ADDR=@x\0";
        assert_eq!(marked(unix).map(|(mark, _)| mark.source), Some(Source::Uid(7)));
        for bad in
            [&b""[..], b"SOCKCAP_CONNECTION=", b"SOCKCAP_CONNECTION=1 2\0", b"SOCKCAP_CONNECTION=x y 3\0", b"\xff"]
        {
            assert_eq!(marked(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn stat_of_ourselves_and_of_a_name_that_tries() {
        let own = Stat::parse(&fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
        assert!(!own.is_dead && own.started > 0.0);
        let text = format!("12 (a) Z (b) S 1 12 13 0 -1 {} 500 0", "0 ".repeat(13));
        let stat = Stat::parse(&text).unwrap();
        assert_eq!((stat.is_dead, stat.group, stat.session), (false, 12, 13));
        assert_eq!(Stat::parse("12 (a) S 1"), None);
    }

    #[test]
    fn a_command_is_a_leader_whose_mark_does_not_name_another() {
        let stat = |group, session| Stat { is_dead: false, group, session, started: 0.0 };
        let mark = |pid: i32| format!("SOCKCAP_CONNECTION=3 web {pid}\0").into_bytes();
        let marked = || Kind::Command(Some(Mark { id: 3, listener: "web".into(), source: Source::Unknown }));
        for session in [Session::Own, Session::Shared] {
            for (group, of) in [(7, 7), (7, 1), (6, 1)] {
                assert_eq!(stat(group, of).kind(7, session, &mark(7)), marked());
                assert_eq!(stat(group, of).kind(7, session, &mark(8)), Kind::Descendant);
            }
            assert_eq!(stat(7, 7).kind(7, session, b""), Kind::Command(None));
            assert_eq!(stat(6, 1).kind(7, session, b""), Kind::Descendant);
        }
        assert_eq!(stat(7, 1).kind(7, Session::Own, b""), Kind::Descendant, "a job of somebody's shell");
        assert_eq!(stat(7, 1).kind(7, Session::Shared, b""), Kind::Command(None));
    }
}
