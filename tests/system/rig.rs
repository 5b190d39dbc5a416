//! One container per root: systemd as PID 1, journald, an own network, the binary under test and the shipped units.
//!
//! The tree is never written to (an overlay in memory takes the changes), the container lives in a cgroup of its own, and
//! it is gone a moment after this process is, however that ended.

use crate::common::{binary, ctl_binary, unless_stalled, until_answered};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use std::{env, thread};

/// How long anything that must happen may take before the test gives up. Never reached by a test that passes.
pub const FUSE: Duration = Duration::from_secs(90);

/// The units under test, as a package would name them.
pub const SOCKET: &str = "rsync-capped.socket";
pub const SERVICE: &str = "rsync-capped.service";

const CONF: &str = "\
[files]
path = /srv/files
uid = nobody
gid = nogroup
read only = yes
[attic]
path = /srv/attic
uid = root
gid = root
read only = no
";

/// What nspawn forbids in a container, and no machine does.
const SYSTEM_CALLS: &str = "--system-call-filter=bpf landlock_create_ruleset landlock_add_rule landlock_restrict_self";

/// Its tree may be missing in a lane, too: an unreleased suite cannot be built at any time.
const UNRELEASED: &str = "forky";

/// Runs a case in the container of `root`, alone, with the units as shipped; or says why it cannot.
pub fn with(root: &str, case: fn(&Rig)) {
    static RIGS: OnceLock<Mutex<HashMap<String, Slot>>> = OnceLock::new();
    type Slot = Arc<Mutex<Option<Rig>>>;

    let tree = rig_dir().join(root);
    if let Some(why) = missing(&tree) {
        assert!(root == UNRELEASED || env::var("CI").as_deref() != Ok("true"), "cannot test under systemd: {why}");
        // Not eprintln!, which the test harness would swallow.
        let _ = writeln!(io::stderr(), "SKIPPED under systemd ({root}): {why}");
        return;
    }

    let rigs = RIGS.get_or_init(Mutex::default);
    let slot = Arc::clone(rigs.lock().unwrap_or_else(PoisonError::into_inner).entry(root.to_owned()).or_default());
    // A case that panicked has left nothing behind that `reset` does not clear.
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    let rig = slot.get_or_insert_with(|| Rig::boot(&tree));
    rig.reset();
    case(rig);
}

fn rig_dir() -> PathBuf {
    env::var_os("SOCKCAP_RIG_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/rig"), PathBuf::from)
}

/// The names of the files in `units/`.
pub fn shipped() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("units");
    let files = fs::read_dir(folder).expect("units").map(|entry| entry.expect("an entry").file_name());
    files.map(|name| name.into_string().expect("a name")).collect()
}

fn missing(tree: &Path) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    for tool in ["systemd-nspawn", "nsenter"] {
        if !env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(|d| d.join(tool).exists()) {
            return Some(format!("{tool} is not installed"));
        }
    }
    // The stamp is the last thing that roots.sh writes.
    (!tree.join(".rig-stamp").exists()).then(|| format!("no root tree {}; run tests/system/roots.sh", tree.display()))
}

/// Asks again until there is an answer. Only for what no event tells us of: unit states are signalled on D-Bus alone, for which
/// these tests would need a client, and a command's end is known to no one but the daemon under test.
pub fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    until_answered(what, FUSE, Duration::from_millis(20), ask)
}

pub struct Rig {
    /// The root tree that the container is of.
    pub tree: PathBuf,
    leader: String,
    net: File,
    /// Its end, which is ours at the latest, makes the undertaker work.
    _undertaker: Child,
    _nspawn: Child,
}

impl Rig {
    fn boot(tree: &Path) -> Rig {
        let name = format!("sockcap-{}-{}", process::id(), tree.file_name().unwrap_or_default().to_string_lossy());
        let notify = env::temp_dir().join(format!("{name}.notify"));
        let console = env::temp_dir().join(format!("{name}.console"));
        // Left by a run that was killed and had our number.
        let _ = fs::remove_file(&notify);
        let socket = UnixDatagram::bind(&notify).expect("a socket for nspawn's messages");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");

        // One tree of groups on a host of today, two on one that still has the first version beside the second.
        let groups: Vec<PathBuf> = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup"]
            .iter()
            .filter(|d| Path::new(d).join("cgroup.procs").exists())
            .map(|d| Path::new(d).join(&name))
            .collect();
        for group in &groups {
            // Left by a run that was killed and had our number.
            let _ =
                Command::new("find").arg(group).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]).output();
            fs::create_dir(group).expect("an own cgroup");
        }

        let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("units");
        let mut nspawn = Command::new("sh")
            .args(["-c", r#"for g in $GROUPS_; do echo 0 >"$g/cgroup.procs"; done; exec systemd-nspawn "$@""#, "sh"])
            .env("GROUPS_", groups.iter().map(|g| g.display().to_string()).collect::<Vec<_>>().join(" "))
            .args(["--register=no", "--keep-unit", "--quiet", "--boot", "--private-network", "--volatile=overlay"])
            .args(["--console=pipe", "--notify-ready=yes", SYSTEM_CALLS, "--link-journal=no"])
            .args(["--resolv-conf=off", "--timezone=off"])
            .arg(format!("--machine={name}"))
            .arg(format!("--directory={}", tree.display()))
            .arg(format!("--bind-ro={}:/usr/bin/sockcap", Path::new(&binary()).display()))
            .arg(format!("--bind-ro={}:/usr/bin/sockcapctl", Path::new(&ctl_binary()).display()))
            .args(
                shipped().iter().map(|u| format!("--bind-ro={}:/usr/lib/systemd/system/{u}", units.join(u).display())),
            )
            .env("NOTIFY_SOCKET", &notify)
            // The only layout that all systemd versions boot with; and several containers may share the tree.
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .env("SYSTEMD_NSPAWN_LOCK", "0")
            .stdin(Stdio::null())
            .stdout(File::create(&console).expect("a file for the console"))
            .stderr(File::options().append(true).open(&console).expect("the console"))
            .spawn()
            .expect("systemd-nspawn");

        // Its standard input ends with this process, in whatever way that ends. SIGTERM is the orderly halt; a
        // container outlives its nspawn, but not cgroup.kill.
        let undertaker = Command::new("sh")
            .args([
                "-c",
                r#"pid=$1 notify=$2 console=$3; shift 3; cat >/dev/null; kill "$pid"; n=0
                while grep -qs 'populated 1' "$1/cgroup.events" && [ $n -lt 100 ]; do sleep 0.05; n=$((n+1)); done
                for g; do [ ! -e "$g/cgroup.kill" ] || echo 1 >"$g/cgroup.kill"; done
                for n in 1 2 3 4 5 6 7 8 9; do find "$@" -depth -type d -exec rmdir {} \; 2>/dev/null; [ -e "$1" ] || break; sleep 0.2; done
                rm -f "$notify" "$console""#,
                "sh",
                &nspawn.id().to_string(),
            ])
            .args([&notify, &console])
            .args(&groups)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");

        let start = Instant::now();
        let mut leader = None;
        let mut buf = [0; 4096];
        loop {
            let n = socket.recv(&mut buf).unwrap_or(0);
            let message = String::from_utf8_lossy(&buf[..n]).into_owned();
            for line in message.lines() {
                leader = line.strip_prefix("X_NSPAWN_LEADER_PID=").map(str::to_owned).or(leader);
            }
            if message.lines().any(|l| l == "READY=1") {
                break;
            }
            let over = nspawn.try_wait().expect("wait").is_some() || start.elapsed() > FUSE;
            assert!(!over, "{} did not boot:\n{}", tree.display(), fs::read_to_string(&console).unwrap_or_default());
        }
        let leader = leader.expect("X_NSPAWN_LEADER_PID before READY");
        let net = File::open(format!("/proc/{leader}/ns/net")).expect("the container's network");
        let rig = Rig { tree: tree.to_owned(), leader, net, _undertaker: undertaker, _nspawn: nspawn };

        rig.write("/etc/rsyncd.conf", CONF);
        rig.ok("mkdir -p /srv/files /srv/attic && chmod 755 /srv/files
            echo one >/srv/files/one; echo two >/srv/files/two; truncate -s 1G /srv/files/large");
        rig.ok(&format!("systemctl -q enable {SOCKET} 2>&1"));
        rig
    }

    /// The units as shipped: socket listening, service not started, no trace of the case before.
    fn reset(&self) {
        self.sh("systemctl kill -s CONT systemd-journald; \
             systemctl kill -s KILL --kill-whom=all '*-capped*.service' 'sockcap@*.service' 'probe*.service'; \
             systemctl stop '*-capped*.service' '*-capped.socket' 'sockcap@*' 'sockcap-*' 'probe*'");
        self.ok(&format!(
            "rm -rf /etc/systemd/system/*-capped.*.d /etc/systemd/system/sockcap@*.d /run/systemd/system/probe* /etc/sockcap/*; \
             systemctl daemon-reload; systemctl reset-failed; systemctl start {SOCKET}; rm -rf /srv/attic/*"
        ));
    }

    /// Like the harness's, with the units as shipped each time.
    pub fn unless_stalled(&self, span: Duration, run: impl Fn()) {
        unless_stalled(span, || {
            self.reset();
            run();
        });
    }

    /// What `systemctl edit rsync-capped.service` does.
    pub fn edit(&self, lines: &str) {
        self.edit_unit(SERVICE, &format!("[Service]\n{lines}"));
    }

    /// What `systemctl edit UNIT` does.
    pub fn edit_unit(&self, unit: &str, lines: &str) {
        let dir = format!("/etc/systemd/system/{unit}.d");
        self.ok(&format!("mkdir -p {dir}"));
        self.write(&format!("{dir}/override.conf"), &format!("{lines}\n"));
        self.ok("systemctl daemon-reload");
    }

    /// A unit of the test's own; its name begins with `probe`, by which `reset` knows it.
    pub fn unit(&self, name: &str, text: &str) {
        assert!(name.starts_with("probe"));
        self.write(&format!("/run/systemd/system/{name}"), text);
    }

    pub fn write(&self, path: &str, text: &str) {
        let mut cat =
            self.enter(&["sh", "-c", &format!("cat >{path}")]).stdin(Stdio::piped()).spawn().expect("nsenter");
        cat.stdin.take().expect("piped").write_all(text.as_bytes()).expect("write");
        assert!(cat.wait().expect("wait").success(), "write {path}");
    }

    /// A command among the container's processes. It is root, but in none of the container's cgroups.
    pub fn enter(&self, command: &[&str]) -> Command {
        let mut c = Command::new("nsenter");
        c.args(["-t", &self.leader, "-a", "--"]).args(command);
        c.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
        c
    }

    /// The same, but the child is the command itself, which can be killed: nsenter must fork only for the container's pids.
    pub fn enter_to_kill(&self, command: &[&str]) -> Command {
        let mut c = Command::new("nsenter");
        c.args(["-t", &self.leader, "-m", "-n", "-u", "-i", "--"]).args(command);
        c.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
        c
    }

    pub fn sh(&self, script: &str) -> Output {
        self.enter(&["sh", "-c", script]).output().expect("nsenter")
    }

    /// The output of a script that must succeed, without the last newline.
    pub fn ok(&self, script: &str) -> String {
        let out = self.sh(script);
        let text = String::from_utf8_lossy(&out.stdout).trim_end().to_owned();
        assert!(out.status.success(), "{script}: {}\n{text}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
        text
    }

    /// PID 1 of the container, as this side numbers it.
    pub fn leader(&self) -> i32 {
        self.leader.parse().expect("a pid")
    }

    /// The processes of the service, as this side numbers them; none while it does not run.
    pub fn processes(&self) -> Vec<i32> {
        let group = format!("/proc/{}/root/sys/fs/cgroup/system.slice/{SERVICE}/cgroup.procs", self.leader);
        fs::read_to_string(group).unwrap_or_default().lines().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// One property of a unit, as `systemctl show` prints it.
    pub fn show(&self, unit: &str, property: &str) -> String {
        self.ok(&format!("systemctl show -P {property} {unit}"))
    }

    /// Both units as they must be after any load: the socket listening, the daemon running and never started anew.
    pub fn assert_unharmed(&self) {
        assert_eq!(self.show(SOCKET, "ActiveState"), "active", "{}", self.ok(&format!("systemctl status {SOCKET}||:")));
        assert_eq!(
            self.show(SERVICE, "ActiveState"),
            "active",
            "{}",
            self.ok(&format!("systemctl status {SERVICE}||:"))
        );
        assert_eq!(self.show(SERVICE, "NRestarts"), "0");
    }

    /// Waits for a state of the unit.
    pub fn until_state(&self, unit: &str, wanted: &str) {
        let mut seen = String::new();
        until(&format!("{unit} {wanted}"), || {
            seen = self.show(unit, "ActiveState");
            (seen == wanted).then_some(())
        });
    }

    /// Waits until STATUS= begins with this, e.g. `2/2 active,`.
    pub fn until_status(&self, wanted: &str) {
        self.until_status_of(SERVICE, wanted);
    }

    /// The same of another service.
    pub fn until_status_of(&self, service: &str, wanted: &str) {
        until(&format!("status {wanted}"), || self.show(service, "StatusText").starts_with(wanted).then_some(()));
    }

    /// Waits until it begins with this, and says that so many have been served: a line from before the last of them ended may say the same otherwise.
    pub fn until_served(&self, wanted: &str, served: u32) {
        self.until_served_by(SERVICE, wanted, served);
    }

    /// The same of another service.
    pub fn until_served_by(&self, service: &str, wanted: &str, served: u32) {
        let served = format!(", {served} served");
        until(&format!("status {wanted}{served}"), || {
            let status = self.show(service, "StatusText");
            (status.starts_with(wanted) && status.ends_with(&served)).then_some(())
        });
    }

    /// Waits until the journal has an entry that matches and has these words: what was logged may still be on its way.
    pub fn until_said(&self, matches: &str, words: &str) {
        until(&format!("{words:?} in the journal"), || {
            self.ok(&format!("journalctl -q -b -o cat {matches}")).contains(words).then_some(())
        });
    }

    /// The entries that match, of all that has been logged until now. For what must not be there: what must, is waited for.
    pub fn said_so_far(&self, matches: &str) -> String {
        // The journal answers when it has read whatever had been sent to it.
        self.ok(&format!("journalctl --sync; journalctl -q -b -o cat {matches}"))
    }

    /// Runs `f` on a thread whose network is the container's; sockets made there stay in it.
    pub fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                // SAFETY: a system call on a descriptor that `self` keeps open; it changes only this thread, which is ours.
                let failed = unsafe { libc::setns(self.net.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(failed, 0, "setns: {}", io::Error::last_os_error());
                f()
            });
            inside.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }
}
