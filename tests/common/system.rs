//! Surroundings: files, load, a service manager, other users.

use super::*;
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A directory that goes with the test.
pub struct TempDir(PathBuf);

/// Makes a directory that no other test has, of this run or another one.
pub fn own_dir(folder: &Path, name: &str) -> io::Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("{name}-{}-{n}", std::process::id()));
        match fs::create_dir(&path) {
            // Left by a run that was killed and had our number.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| path),
        }
    }
}

impl TempDir {
    pub fn new() -> TempDir {
        TempDir::called("sockcap")
    }

    /// One whose name begins with this.
    pub fn called(name: &str) -> TempDir {
        TempDir(own_dir(&std::env::temp_dir(), name).expect("temporary directory"))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a plain path").to_owned()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes a program. Another process does it: ours may be forked by another test while the file is open for writing, and
/// then it cannot be executed.
#[track_caller]
pub fn write_program(path: &str, text: &[u8]) {
    let mut shell = Command::new("sh");
    shell.args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh", path]).stdin(Stdio::piped());
    let mut shell = shell.spawn().expect("sh");
    shell.stdin.take().expect("piped").write_all(text).expect("write");
    assert!(shell.wait().expect("wait").success());
}

/// A file of our choice over one of /proc, for one daemon in a mount namespace of its own.
struct ProcFile {
    dir: TempDir,
    over: &'static str,
}

impl ProcFile {
    fn new(over: &'static str, text: &str) -> ProcFile {
        let it = ProcFile { dir: TempDir::new(), over };
        fs::write(it.path(), text).expect("write");
        it
    }

    fn path(&self) -> String {
        self.dir.join("file")
    }

    /// In one write of the same length, so that nobody reads half of it.
    fn set(&self, text: &str) {
        let mut file = fs::OpenOptions::new().write(true).open(self.path()).expect("open");
        file.write_all(text.as_bytes()).expect("write");
    }

    fn start(&self, args: &[&str]) -> Start {
        let script = format!("mount --bind \"$0\" {} && exec \"$@\"", self.over);
        sockcap(args).wrap(&["unshare", "-m", "sh", "-c", &script, &self.path()]).run(PID_CAT)
    }
}

/// A load average of our choice for one daemon.
pub struct Load(ProcFile);

impl Load {
    pub fn new(load: f32) -> Load {
        Load(ProcFile::new("/proc/loadavg", &Load::text(load)))
    }

    fn text(load: f32) -> String {
        format!("{load:.2} {load:.2} {load:.2} 1/100 12345\n")
    }

    pub fn set(&self, load: f32) {
        self.0.set(&Load::text(load));
    }

    /// At most four at once, and a second only while the load is below 2.
    pub fn start(&self, options: &[&str]) -> Daemon {
        let args = ["--listen", "127.0.0.1:0", "--processes", "4", "--load-average", "2"];
        self.0.start(&[&args, options].concat()).start()
    }
}

/// A memory pressure of our choice for one daemon.
pub struct MemoryPressure(ProcFile);

impl MemoryPressure {
    /// `None` where this cannot be done: only root can mount, and the kernel may know no pressure.
    pub fn new(percent: f32) -> Option<MemoryPressure> {
        let over = "/proc/pressure/memory";
        let is_there = is_root() && Path::new(over).exists();
        is_there.then(|| MemoryPressure(ProcFile::new(over, &MemoryPressure::text(percent))))
    }

    fn text(percent: f32) -> String {
        format!("some avg10={percent:05.2} avg60=0.00 avg300=0.00 total=0\n")
    }

    pub fn set(&self, percent: f32) {
        self.0.set(&MemoryPressure::text(percent));
    }

    /// At most four at once, and a second only while the memory pressure is below 20 %.
    pub fn start(&self, options: &[&str]) -> Start {
        let args = ["--listen", "127.0.0.1:0", "--max-connections", "4", "--max-pressure", "memory=20"];
        self.0.start(&[&args, options].concat())
    }
}

/// A service manager's end of NOTIFY_SOCKET.
pub struct Notify {
    socket: UnixDatagram,
    dir: TempDir,
    seen: Vec<String>,
}

impl Notify {
    pub fn new() -> Notify {
        let dir = TempDir::new();
        let socket = UnixDatagram::bind(dir.join("notify")).expect("bind");
        Notify { socket, dir, seen: Vec::new() }
    }

    pub fn path(&self) -> String {
        self.dir.join("notify")
    }

    /// Fills the queue, as other services do when the manager does not read.
    pub fn fill(&self) {
        let other = UnixDatagram::unbound().expect("socket");
        other.set_nonblocking(true).expect("non-blocking");
        while other.send_to(b"OTHER=1", self.path()).is_ok() {}
    }

    /// Waits for the next `NAME=VALUE` that fits.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + FUSE;
        loop {
            match self.next(end.saturating_duration_since(Instant::now())) {
                Some(message) => {
                    if let Some(found) = message.lines().find(|l| fits(l)) {
                        return found.to_owned();
                    }
                }
                None => panic!("no message for '{what}'; there came: {:#?}", self.seen),
            }
        }
    }

    /// Waits for exactly this.
    #[track_caller]
    pub fn wait(&mut self, message: &str) {
        self.wait_for(message, |m| m == message);
    }

    /// The next datagram, if one comes in time.
    pub fn next(&mut self, within: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(within.max(Duration::from_millis(1)))).expect("timeout");
        let mut buffer = [0; 4096];
        let n = uninterrupted(|| self.socket.recv(&mut buffer)).ok()?;
        let message = String::from_utf8_lossy(&buffer[..n]).into_owned();
        self.seen.push(message.clone());
        Some(message)
    }
}

/// Words that make the rest of a command line run as a user of the tests' own: RLIMIT_NPROC counts all of a user's processes,
/// and does not bind root. `None`, and said so, where that cannot be done.
pub fn another_user(what: &str) -> Option<[&'static str; 4]> {
    let user = ["setpriv", "--reuid=61874", "--regid=61874", "--clear-groups"];
    let done = Command::new(user[0]).args(&user[1..]).arg(binary()).arg("--help").output();
    if !done.is_ok_and(|o| o.status.success()) {
        skip(what, "cannot run sockcap as another user");
        return None;
    }
    Some(user)
}

/// Changes a limit of a running process from outside, as an administrator would. Values as prlimit(1) takes them.
/// Done as `user`, whose process it is, since root in a container may lack CAP_SYS_RESOURCE.
pub fn prlimit(user: &[&str], pid: Pid, limit: &str) {
    let pid = format!("--pid={pid}");
    let words: Vec<&str> = user.iter().copied().chain(["prlimit", &pid, limit]).collect();
    let done = Command::new(words[0]).args(&words[1..]).status().expect("prlimit");
    assert!(done.success(), "prlimit {limit}: {done}");
}

/// The netcat that these tests are written for, OpenBSD's: by the name that Debian gives it, or by the usual one. Others have
/// other options, and may have the usual name.
pub fn netcat() -> Option<&'static str> {
    ["nc.openbsd", "nc"].into_iter().find(|name| {
        let help = Command::new(name).arg("-h").output();
        help.is_ok_and(|help| [help.stdout, help.stderr].concat().starts_with(b"OpenBSD netcat"))
    })
}

/// HAProxy, which is not in the PATH of an ordinary user.
pub fn haproxy() -> Option<&'static str> {
    ["haproxy", "/usr/sbin/haproxy"].into_iter().find(|name| Command::new(name).arg("-v").output().is_ok())
}

/// Has strace(1) let go of whom it traces, and waits for its end. It looks whether it has been told to, and then waits for an event of
/// theirs: what it is told in between it sees after that, and where they do nothing, never. So it is told again.
pub fn end_tracer(strace: &mut Child) {
    if let Ok(None) = strace.try_wait() {
        let (pid, start) = (Pid::from_raw(strace.id() as i32), Instant::now());
        let ended = pidfd(pid);
        let tell = |signal| {
            let _ = kill(pid, signal);
            ready(&ended, PollFlags::POLLIN, Duration::from_millis(100))
        };
        while !tell(if start.elapsed() < FUSE { Signal::SIGTERM } else { Signal::SIGKILL }) {}
        let _ = strace.wait();
    }
}
