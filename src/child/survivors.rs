//! Finding the commands of an earlier daemon by looking at what runs in our own cgroup.
//!
//! Each command leads a session of its own, or with `--session shared` a process group, which anybody may see (proc_pid_stat(5)),
//! and its parent, the daemon, has ended: another process has taken its place. Sessions that a command started have a
//! parent among the processes here. Beside that a command carries [`MARK`] in its environment, which only its own user and root with
//! CAP_SYS_PTRACE may read. So a command that has become another user is still counted, without being recognized.
//! Its exit code is lost: PID 1 is its parent now.
#![forbid(unsafe_code)]

use super::cgroup::Cgroup;
use super::environment::MARK;
use super::ledger::{Entry, LAST_ID, Recorded};
use super::proc::{self, Stat};
use super::watched::Watched;
use crate::policy::source::Source;
use crate::sys::launch::Session;
use crate::sys::socket::parse_ip;
use nix::unistd::{Pid, getpgid, getsid};
use std::collections::HashSet;
use std::io;

/// A process in our cgroup that we did not start.
#[derive(Debug)]
pub struct Survivor {
    /// The process. If it is a command, its number is its process group's, too.
    pub process: Watched,
    /// How long it has run.
    pub age: std::time::Duration,
    /// Whom its connection is counted for.
    pub source: Source,
    /// The peer's port, or its process; 0 is not known.
    pub peer_port: u32,
    /// What it says of its connection, if it can be read.
    pub mark: Option<Mark>,
}

/// What a command's environment says of its connection. The command may have changed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Number of the connection in the daemon that started the command, from 1 and never near the end of what a number can hold.
    pub id: u64,
    /// Label of the listener.
    pub listener: String,
}

/// All that a command's environment says.
#[derive(Debug, PartialEq)]
struct Marked {
    mark: Mark,
    source: Source,
    peer_port: u32,
}

/// The kinds of process in a cgroup.
#[derive(Debug, PartialEq)]
enum Kind {
    Command(Option<Marked>),
    /// What a command has started.
    Descendant,
}

/// The command of this entry, if it still runs: wherever it has gone meanwhile, since login sessions move it to a cgroup of their own.
pub fn recorded(recorded: &Recorded) -> Option<Survivor> {
    let Recorded { pid, entry, .. } = recorded;
    let process = Watched::new(*pid)?;
    // Another process may have its number by now. One that may not be looked at is taken for the one that was recorded.
    if process.stat().is_some_and(|stat| !stat.was_started(entry.not_before, entry.not_after)) {
        return None;
    }
    let age = process.stat().map_or(proc::uptime().saturating_sub(entry.not_before), Stat::age);
    Some(Survivor { process, age, source: entry.source, peer_port: entry.peer_port, mark: None })
}

/// Somebody of the connection of this entry, whose command may have ended: who else of it lives counts for it.
pub fn of_connection(recorded: &Recorded, somebody: i32) -> Option<Survivor> {
    let Entry { source, peer_port, not_before, .. } = recorded.entry;
    let age = proc::uptime().saturating_sub(not_before);
    Some(Survivor { process: Watched::new(somebody)?, age, source, peer_port, mark: None })
}

/// Somebody of whom nothing is known.
pub fn anybody(pid: i32) -> Option<Survivor> {
    Watched::new(pid).map(Survivor::from)
}

/// The processes here that look like commands of an earlier daemon, but for those that are `known`. Call it before a command is
/// started.
///
/// # Errors
/// If the cgroup's processes cannot be listed.
pub fn commands(cgroup: &Cgroup, session: Session, known: impl Fn(i32) -> bool) -> io::Result<Vec<Survivor>> {
    let members = cgroup.members()?;
    let here: HashSet<i32> = members.iter().copied().collect();
    let mut found = Vec::new();
    let unknown: Vec<i32> = members.iter().copied().filter(|pid| !known(*pid)).collect();
    for process in watched(&unknown) {
        let pid = process.pid();
        let kind = match process.stat() {
            Some(stat) => kind(pid, stat, session, here.contains(&stat.parent), || proc::environ(pid)),
            // hidepid= of proc(5), or one that is closed to others of its user: all that is known is what it leads.
            None if leads(pid, session) => Kind::Command(None),
            None => Kind::Descendant,
        };
        let Kind::Command(marked) = kind else { continue };
        // What was read is of this process only if it lives now.
        if !process.has_ended() {
            let survivor = Survivor::from(process);
            found.push(match marked {
                Some(Marked { mark, source, peer_port }) => {
                    Survivor { mark: Some(mark), source, peer_port, ..survivor }
                }
                None => survivor,
            });
        }
    }
    Ok(found)
}

impl From<Watched> for Survivor {
    fn from(process: Watched) -> Survivor {
        let age = process.stat().map(Stat::age).unwrap_or_default();
        Survivor { process, age, source: Source::Unknown, peer_port: 0, mark: None }
    }
}

/// Those that run, but for this process.
fn watched(members: &[i32]) -> impl Iterator<Item = Watched> {
    let own = std::process::id() as i32;
    members.iter().filter(move |pid| **pid != own).filter_map(|pid| Watched::new(*pid))
}

/// What the process `pid` is where commands are in such a session. A leader that a process here has started is no command,
/// whatever its environment says; otherwise the mark decides, if it can be read: a leader that it does not name was started by a
/// command, as a daemon or as a job of a shell. The daemon before us may have had the other setting.
fn kind(pid: i32, stat: &Stat, session: Session, has_parent_here: bool, environ: impl FnOnce() -> Vec<u8>) -> Kind {
    if has_parent_here {
        return Kind::Descendant;
    }
    let is_leader = stat.session == pid || (session == Session::Shared && stat.group == pid);
    match marked(&environ()) {
        Some((mark, leader)) if leader == pid => Kind::Command(mark),
        None if is_leader => Kind::Command(None),
        _ => Kind::Descendant,
    }
}

/// Whether it leads a session, or what commands lead instead; also if that cannot be told.
fn leads(pid: i32, session: Session) -> bool {
    let pid = Pid::from_raw(pid);
    let leads = |of: nix::Result<Pid>| of.is_ok_and(|leader| leader == pid) || of.is_err();
    leads(getsid(Some(pid))) || (session == Session::Shared && leads(getpgid(Some(pid))))
}

/// What it says, if that can be true, and the pid in it.
fn marked(environ: &[u8]) -> Option<(Option<Marked>, i32)> {
    let value = |name: &str| {
        let mut entries = environ.split(|byte| *byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok());
        entries.find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
    };
    let (id, rest) = value(MARK)?.split_once(' ')?;
    let (listener, pid) = rest.rsplit_once(' ')?;
    let ip = || parse_ip(value("REMOTE_ADDR")?).map(|at| Source::at(&at));
    let cid = || value("REMOTE_ADDR")?.strip_prefix("vsock:")?.parse().ok().map(Source::Cid);
    let uid = || value("IPCREMOTEEUID")?.parse().ok().map(Source::Uid);
    let source = ip().or_else(cid).or_else(uid).unwrap_or(Source::Unknown);
    let peer_port = value("REMOTE_PORT").and_then(|port| port.parse().ok()).unwrap_or(0);
    let id = id.parse().ok().filter(|id| (1..=LAST_ID).contains(id));
    let mark = id.map(|id| Mark { id, listener: listener.to_owned() });
    Some((mark.map(|mark| Marked { mark, source, peer_port }), pid.parse().ok()?))
}

#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_names_connection_listener_and_leader() {
        let environ =
            b"PATH=/bin\0REMOTE_ADDR=::ffff:192.0.2.1\0REMOTE_PORT=873\0SOCKCAP_CONNECTION=17 my ) port 4242\0";
        let source = Source::ip("192.0.2.1".parse().unwrap());
        let mark = Mark { id: 17, listener: "my ) port".into() };
        assert_eq!(marked(environ), Some((Some(Marked { mark, source, peer_port: 873 }), 4242)));
        let unix = b"SOCKCAP_CONNECTION=1 u 2\0IPCREMOTEEUID=7\0REMOTE_ADDR=@x\0";
        let unix = marked(unix).and_then(|(marked, _)| marked);
        assert_eq!(unix.map(|marked| (marked.source, marked.peer_port)), Some((Source::Uid(7), 0)));
        for bad in
            [&b""[..], b"SOCKCAP_CONNECTION=", b"SOCKCAP_CONNECTION=1 2\0", b"SOCKCAP_CONNECTION=1 y x\0", b"\xff"]
        {
            assert_eq!(marked(bad), None, "{bad:?}");
        }
        for made_up in ["0", "x", "-1", "9007199254740993", "18446744073709551614", "18446744073709551616"] {
            let environ = format!("SOCKCAP_CONNECTION={made_up} web 3\0");
            assert_eq!(marked(environ.as_bytes()), Some((None, 3)), "{made_up}");
        }
    }

    /// As those whose /proc cannot be read are known.
    #[test]
    fn what_a_process_leads_is_no_secret() {
        use std::os::unix::process::CommandExt;
        let cat = |in_group: bool| {
            let mut cat = std::process::Command::new("cat");
            cat.stdin(std::process::Stdio::piped());
            if in_group { cat.process_group(0).spawn().unwrap() } else { cat.spawn().unwrap() }
        };
        for in_group in [false, true] {
            let mut child = cat(in_group);
            let pid = child.id() as i32;
            assert_eq!((leads(pid, Session::Own), leads(pid, Session::Shared)), (false, in_group));
            drop(child.stdin.take());
            child.wait().unwrap();
        }
        let of_this = getsid(None).unwrap().as_raw();
        assert!(of_this == 0 || leads(of_this, Session::Own), "a session's leader, where it can be seen");
        assert!(leads(i32::MAX, Session::Own), "one that is not there");
    }

    #[test]
    fn a_command_is_a_leader_without_a_parent_here_whose_mark_does_not_name_another() {
        let own = Stat::of(std::process::id() as i32).unwrap();
        let stat = |group, session| Stat { group, session, ..own };
        let mark = |pid: i32| move || format!("SOCKCAP_CONNECTION=3 web {pid}\0").into_bytes();
        let web = || Mark { id: 3, listener: "web".into() };
        let marked = || Kind::Command(Some(Marked { mark: web(), source: Source::Unknown, peer_port: 0 }));
        let none = Vec::new;
        for session in [Session::Own, Session::Shared] {
            for (group, of) in [(7, 7), (7, 1), (6, 1)] {
                assert_eq!(kind(7, &stat(group, of), session, false, mark(7)), marked());
                assert_eq!(kind(7, &stat(group, of), session, false, mark(8)), Kind::Descendant);
                assert_eq!(kind(7, &stat(group, of), session, true, mark(7)), Kind::Descendant, "its own word");
            }
            assert_eq!(kind(7, &stat(7, 7), session, false, none), Kind::Command(None));
            assert_eq!(kind(7, &stat(7, 7), session, true, none), Kind::Descendant, "the session of a command");
            assert_eq!(kind(7, &stat(6, 1), session, false, none), Kind::Descendant);
        }
        assert_eq!(kind(7, &stat(7, 1), Session::Own, false, none), Kind::Descendant, "a job of somebody's shell");
        assert_eq!(kind(7, &stat(7, 1), Session::Shared, false, none), Kind::Command(None));
    }
}
