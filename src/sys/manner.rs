//! In which manner a command is started.
#![forbid(unsafe_code)]

/// How the command finds its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// On descriptors 0 and 1, as inetd does.
    Stdio,
    /// On descriptor 3, with LISTEN_FDS=1 and the command's own LISTEN_PID.
    ListenFds,
}

impl std::fmt::Display for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Pass::Stdio => "stdio",
            Pass::ListenFds => "listen-fds",
        })
    }
}

/// Whose session (setsid(2)) a command is in. It leads a process group of its own in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Its own. For each the kernel makes a scheduling group with a part for every processor that the machine may have, and
    /// frees it at the end (sched_autogroup_create_attach, Linux 2.6.38).
    Own,
    /// The daemon's.
    Shared,
}

impl std::fmt::Display for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Session::Own => "own",
            Session::Shared => "shared",
        })
    }
}

/// Where a command's standard error goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandardError {
    /// Where the daemon's does.
    Inherit,
    /// To its client, as under inetd.
    Socket,
    /// Nowhere.
    Null,
    /// To the log, line by line, with the number of its connection.
    Stream,
}

impl std::fmt::Display for StandardError {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            StandardError::Inherit => "inherit",
            StandardError::Socket => "socket",
            StandardError::Null => "null",
            StandardError::Stream => "stream",
        })
    }
}
