//! A Landlock domain for each command (landlock(7)), in which it can signal, trace and read nobody but what it started itself.
//!
//! The rule set is made once at the start and denies no access to files. Since Linux 6.12 (ABI 6) a domain can be for signals and
//! abstract UNIX sockets alone. Before, it has to be about some kind of access, which is then allowed everywhere: what is left of it is
//! that nobody traces across its border, and signals still pass.

use super::{errno_words, filter};
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

/// The first ABI in which links and renames between folders can be allowed (LANDLOCK_ACCESS_FS_REFER), Linux 5.19.
const WITH_REFER: u32 = 2;
/// The first ABI that keeps signals in, Linux 6.12.
const WITH_SCOPES: u32 = 6;

// linux/landlock.h
const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;
const ACCESS_FS_MAKE_BLOCK: u64 = 1 << 11;
const ACCESS_FS_REFER: u64 = 1 << 13;
const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
const SCOPE_SIGNAL: u64 = 1 << 1;

/// `struct landlock_ruleset_attr`; older kernels take the first field alone.
#[repr(C)]
#[derive(Default)]
struct RulesetAttr {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: i32,
}

/// What makes a domain of its own for each command.
#[derive(Debug)]
pub struct RuleSet {
    /// For landlock_restrict_self(2).
    pub fd: OwnedFd,
    /// The kernel's version of Landlock.
    pub abi: u32,
}

impl RuleSet {
    /// Makes it, and sets for this process no_new_privs (PR_SET_NO_NEW_PRIVS), which landlock_restrict_self(2) asks for, and the filter of
    /// [`filter::keep_limits`].
    ///
    /// # Errors
    /// Why commands cannot have a domain here.
    pub fn new() -> Result<RuleSet, Missing> {
        let abi = version().map_err(Missing::System)?;
        if abi < WITH_REFER {
            return Err(Missing::Old);
        }
        let fd = if abi < WITH_SCOPES { for_traces_alone() } else { scoped() };
        let fd = fd.and_then(|fd| may_restrict().map(|()| fd)).map_err(Missing::System)?;
        filter::keep_limits().map_err(Missing::Filter)?;
        Ok(RuleSet { fd, abi })
    }

    /// Whether a domain keeps signals in, not only traces.
    pub fn has_scopes(&self) -> bool {
        self.abi >= WITH_SCOPES
    }
}

/// Why there is no Landlock for commands.
#[derive(Debug)]
pub enum Missing {
    /// The kernel's (5.13 to 5.18) forbids links and renames between folders to whoever is in a domain.
    Old,
    /// It cannot be used at all.
    System(io::Error),
    /// The filter that belongs to it cannot be set.
    Filter(io::Error),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let error = match self {
            Missing::Old => {
                return f.write_str(
                    "the Landlock of Linux 5.13 to 5.18 forbids a command to rename files between folders: it needs Linux 5.19, better 6.12",
                );
            }
            Missing::Filter(error) => {
                let why = errno_words(error.raw_os_error().unwrap_or_default());
                return write!(f, "cannot filter prlimit(2), for which the kernel needs CONFIG_SECCOMP_FILTER: {why}");
            }
            Missing::System(error) => error.raw_os_error().unwrap_or_default(),
        };
        let remedy = match error {
            libc::ENOSYS => {
                "the kernel has no Landlock: it needs Linux 5.19, better 6.12, with CONFIG_SECURITY_LANDLOCK"
            }
            libc::EOPNOTSUPP => "Landlock is off: add landlock to lsm= on the kernel's command line",
            libc::EPERM => {
                "a system call filter forbids Landlock: SystemCallFilter= needs landlock_create_ruleset landlock_add_rule landlock_restrict_self"
            }
            _ => "Landlock cannot be used",
        };
        write!(f, "{remedy}: {}", errno_words(error))
    }
}

/// The kernel's ABI, from 1.
fn version() -> io::Result<u32> {
    // SAFETY: with this flag there is no structure to read.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0usize, 0usize, CREATE_RULESET_VERSION) };
    if version < 0 { Err(io::Error::last_os_error()) } else { Ok(version as u32) }
}

fn create(rules: &RulesetAttr, size: usize) -> io::Result<OwnedFd> {
    // SAFETY: the structure lives across the call and is no smaller than `size`; what comes back is new, ours, and close-on-exec.
    unsafe {
        match libc::syscall(libc::SYS_landlock_create_ruleset, &raw const *rules, size, 0) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd as RawFd)),
        }
    }
}

/// About signals and abstract sockets, not about files.
fn scoped() -> io::Result<OwnedFd> {
    let rules = RulesetAttr { scoped: SCOPE_SIGNAL | SCOPE_ABSTRACT_UNIX_SOCKET, ..RulesetAttr::default() };
    create(&rules, size_of::<RulesetAttr>())
}

/// About block devices, and renames, which nobody may that is in a domain unless it is allowed. Both are, everywhere.
fn for_traces_alone() -> io::Result<OwnedFd> {
    let all = ACCESS_FS_MAKE_BLOCK | ACCESS_FS_REFER;
    let fd = create(&RulesetAttr { handled_access_fs: all, ..RulesetAttr::default() }, size_of::<u64>())?;
    let root = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open("/")?;
    let rule = PathBeneathAttr { allowed_access: all, parent_fd: root.as_raw_fd() };
    // SAFETY: the structure lives across the call.
    let added =
        unsafe { libc::syscall(libc::SYS_landlock_add_rule, fd.as_raw_fd(), RULE_PATH_BENEATH, &raw const rule, 0) };
    if added < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
}

/// Whether a command will be let into its domain, which a filter may forbid.
fn may_restrict() -> io::Result<()> {
    nix::sys::prctl::set_no_new_privs()?;
    // SAFETY: two integers. No descriptor has this number: EBADF is the answer of a kernel that would take another one.
    let refused = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, -1, 0) };
    match io::Error::last_os_error() {
        error if refused < 0 && error.raw_os_error() != Some(libc::EBADF) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::kill;
    use nix::unistd::Pid;
    use std::fs::{self, File};
    use std::process::{Child, Command};

    /// In a domain of this rule set: whether a child from outside can be signalled, and how the rename of a file between folders and the
    /// opening of the child's memory end.
    fn tried(fd: OwnedFd, folder: &std::path::Path, child: &Child) -> (bool, io::Result<()>, io::Result<File>) {
        let restrict = move || {
            may_restrict().unwrap();
            // SAFETY: two integers. It restricts this thread alone, which ends with the test.
            assert_eq!(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, fd.as_raw_fd(), 0) }, 0);
            let pid = Pid::from_raw(child.id() as i32);
            let renamed = fs::rename(folder.join("a/file"), folder.join("b/file"));
            (kill(pid, None).is_ok(), renamed, File::open(format!("/proc/{pid}/mem")))
        };
        std::thread::scope(|scope| scope.spawn(restrict).join().unwrap())
    }

    /// What kernels before 6.12 have, tried on whichever this is: no access to files is lost.
    #[test]
    fn without_scopes_traces_alone_are_closed() {
        if version().is_ok_and(|abi| abi >= WITH_REFER) {
            let folder = std::env::temp_dir().join(format!("sockcap-landlock-{}", std::process::id()));
            ["a", "b"].iter().for_each(|name| fs::create_dir_all(folder.join(name)).unwrap());
            fs::write(folder.join("a/file"), "").unwrap();
            let mut child = Command::new("sleep").arg("60").spawn().unwrap();
            let (is_signalled, renamed, memory) = tried(for_traces_alone().unwrap(), &folder, &child);
            child.kill().unwrap();
            child.wait().unwrap();
            fs::remove_dir_all(&folder).unwrap();
            assert!(is_signalled && renamed.is_ok(), "{is_signalled} {renamed:?}");
            assert_eq!(memory.unwrap_err().raw_os_error(), Some(libc::EACCES));
        }
    }

    /// Each reason says what to do.
    #[test]
    fn what_is_missing_is_told_with_a_remedy() {
        let said = |errno| Missing::System(io::Error::from_raw_os_error(errno)).to_string();
        assert!(said(libc::ENOSYS).starts_with("the kernel has no Landlock: it needs Linux 5.19, better 6.12"));
        assert!(said(libc::ENOSYS).ends_with("(ENOSYS)"));
        assert!(said(libc::EOPNOTSUPP).contains("add landlock to lsm="));
        assert!(said(libc::EPERM).contains("SystemCallFilter= needs landlock_create_ruleset landlock_add_rule"));
        assert!(Missing::Filter(io::Error::from_raw_os_error(libc::EINVAL)).to_string().ends_with("(EINVAL)"));
        assert!(Missing::Old.to_string().contains("5.13 to 5.18"));
    }
}
