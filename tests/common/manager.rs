//! A small service manager: it has a store for descriptors and a cgroup for the service, and it starts one daemon after the other.

use super::*;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The manager of one service, which has TCP listeners with these names.
pub struct Manager {
    listeners: Vec<(String, TcpListener)>,
    notify: UnixDatagram,
    dir: TempDir,
    /// What the service has stored and not taken back: name and descriptor.
    pub store: Vec<(String, OwnedFd)>,
    /// Whether what is sent for the store is kept, and passed to the next daemon.
    pub stores: bool,
    cgroup: PathBuf,
}

impl Manager {
    /// `None`, and said so, where cgroups cannot be made.
    pub fn new(what: &str, names: &[&str]) -> Option<Manager> {
        // The hierarchies that a service is looked for in: version 1's, or version 2's.
        let root = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup"].map(Path::new);
        let root = root.into_iter().find(|root| root.join("cgroup.procs").exists());
        let Some(cgroup) = root.and_then(|root| own_dir(root, "sockcap-test").ok()) else {
            skip(what, "cannot make a cgroup");
            return None;
        };
        let dir = TempDir::new();
        let notify = UnixDatagram::bind(dir.join("notify")).expect("bind");
        let listener = |name: &&str| (name.to_string(), tcp_listener("127.0.0.1:0", 128));
        let listeners = names.iter().map(listener).collect();
        Some(Manager { listeners, notify, dir, store: Vec::new(), stores: true, cgroup })
    }

    /// Where the nth listener is.
    pub fn addr(&self, nth: usize) -> SocketAddr {
        self.listeners[nth].1.local_addr().expect("an address")
    }

    /// Starts the service, with all that is stored, and returns when it is ready.
    pub fn start(&mut self, start: Start) -> Daemon {
        let mut daemon = self.passed(start).start();
        self.wait_until_ready();
        daemon.log();
        daemon
    }

    /// The same of one whose log goes elsewhere.
    pub fn start_silent(&mut self, start: Start) -> Daemon {
        let daemon = self.passed(start).spawn();
        self.wait_until_ready();
        daemon
    }

    fn wait_until_ready(&mut self) {
        while !self.next().lines().any(|line| line == "READY=1") {}
    }

    fn passed(&mut self, start: Start) -> Start {
        self.catch_up(); // what the daemon before has said at its end comes first
        let cgroup = self.cgroup.display();
        let mut start = start
            .prelude(&format!("echo 0 >{cgroup}/cgroup.procs; export SYSTEMD_EXEC_PID=$$"))
            .env("NOTIFY_SOCKET", self.dir.join("notify"))
            .env("FDSTORE", "100");
        let mut names = Vec::new();
        for (name, listener) in &self.listeners {
            start = start.pass(listener.try_clone().expect("dup"));
            names.push(name.as_str());
        }
        for (name, fd) in &self.store {
            start = start.pass(fd.try_clone().expect("dup"));
            names.push(name);
        }
        start.names(&names.join(":"))
    }

    /// The next message, carried out.
    #[track_caller]
    fn next(&mut self) -> String {
        assert!(ready(&self.notify, nix::poll::PollFlags::POLLIN, FUSE), "no message from the daemon");
        let (message, fds) = receive(&self.notify);
        let name = message.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored");
        if message.lines().any(|line| line == "FDSTORE=1") && self.stores {
            self.store.extend(fds.into_iter().map(|fd| (name.to_owned(), fd)));
        }
        if message.lines().any(|line| line == "FDSTOREREMOVE=1") {
            self.store.retain(|(stored, _)| stored != name);
        }
        message
    }

    /// Carries out what the daemon has sent so far.
    pub fn catch_up(&mut self) {
        while ready(&self.notify, nix::poll::PollFlags::POLLIN, Duration::ZERO) {
            self.next();
        }
    }

    /// The daemon alone gets this signal and ends; commands run on.
    #[track_caller]
    pub fn end(&mut self, daemon: Daemon, signal: Signal) {
        daemon.signal(signal);
        self.ended(daemon);
    }

    /// The daemon ends by itself; commands run on.
    #[track_caller]
    pub fn ended(&mut self, daemon: Daemon) {
        let pidfd = pidfd(daemon.pid());
        assert!(ready(&pidfd, nix::poll::PollFlags::POLLIN, FUSE), "the daemon does not end");
        drop(daemon);
        self.catch_up();
    }

    /// All processes of the service.
    pub fn processes(&self) -> Vec<Pid> {
        let list = fs::read_to_string(self.cgroup.join("cgroup.procs")).expect("cgroup.procs");
        list.lines().map(|line| Pid::from_raw(line.parse().expect("a number"))).collect()
    }
}

/// A message that is there, and the descriptors that came with it.
fn receive(from: &UnixDatagram) -> (String, Vec<OwnedFd>) {
    let (mut bytes, mut control) = ([0u8; 4096], [0u64; 8]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut fds = Vec::new();
    // SAFETY: all buffers live across the call and are as long as it is told; CMSG_* stay within `control`; descriptors that
    // have just arrived are nobody else's.
    let length = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&mut part, 1);
        (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control) as _);
        let length =
            Errno::result(libc::recvmsg(from.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC)).expect("recvmsg");
        let mut header = libc::CMSG_FIRSTHDR(&message);
        while !header.is_null() {
            if (*header).cmsg_type == libc::SCM_RIGHTS {
                let count = ((*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize) / size_of::<i32>();
                for nth in 0..count {
                    let fd = libc::CMSG_DATA(header).cast::<i32>().add(nth).read_unaligned();
                    fds.push(OwnedFd::from_raw_fd(fd));
                }
            }
            header = libc::CMSG_NXTHDR(&message, header);
        }
        length as usize
    };
    (String::from_utf8_lossy(&bytes[..length]).into_owned(), fds)
}

impl Drop for Manager {
    fn drop(&mut self) {
        let end = std::time::Instant::now() + FUSE;
        while fs::remove_dir(&self.cgroup).is_err() && std::time::Instant::now() < end {
            for pid in self.processes() {
                let _ = kill(pid, Signal::SIGKILL);
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}
