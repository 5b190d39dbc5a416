//! The host's side: boots a machine, has it run cases, and ends it.
//!
//! Its disks are never written to (QEMU keeps changes apart and drops them). A serial line carries the names of tests in, and
//! what they print out; another one is the console, which is shown when something goes wrong.

use crate::common::{TempDir, binary, ctl_binary, is_root, skip};
use crate::guest::Machine;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use std::{env, thread};

/// How long a machine may take to boot, or for one case. Never reached by a test that passes; the machine's own fuses are
/// shorter (`guest::FUSE`).
const FUSE: Duration = Duration::from_secs(600);

/// The kernel's words. No cure for faults of processors, no security module that wants rules, no tests of its own: each costs a
/// second under emulation. The clock is that of the board, since the emulated processor's counters need not agree; whether its timer works is
/// not tried, since on a busy host too few ticks come in time, which is a panic.
const WORDS: &str = "console=ttyS0 quiet root=/dev/nvme0n1 rootfstype=ext4 rootwait rw init=/lib/systemd/systemd \
    panic=-1 mitigations=off nokaslr tsc=unstable no_timer_check audit=0 selinux=0 apparmor=0 random.trust_cpu=on nowatchdog \
    raid=noautodetect cryptomgr.notests rcupdate.rcu_expedited=1 psi=1 systemd.unit=machine.service systemd.show_status=0 \
    systemd.log_color=0 systemd.unified_cgroup_hierarchy=1";

/// The machines: whose kernel each has, and the release whose disk it boots from.
const DISKS: [(&str, &str); 4] =
    [("bullseye", "bookworm"), ("bookworm", "bookworm"), ("trixie", "trixie"), ("backports", "trixie")];

/// A mirror may not have these kernels, in a lane, too.
const MAY_BE_MISSING: [&str; 2] = ["bullseye", "backports"];

/// What a machine boots.
#[derive(Debug)]
struct Images {
    kernel: PathBuf,
    disk: PathBuf,
}

/// In a machine: runs the case. Outside: has the machine of this name run `test`, or says why it cannot.
pub fn with(name: &str, test: &str, case: fn(&Machine)) {
    static MACHINES: OnceLock<Mutex<HashMap<String, Slot>>> = OnceLock::new();
    type Slot = Arc<Mutex<Option<Guest>>>;

    if let Some(machine) = Machine::here() {
        return case(&machine);
    }
    let (_, release) = DISKS.iter().find(|(machine, _)| *machine == name).expect("a machine of this name");
    let folder = rig_dir().join(format!("{release}.machine"));
    let images = Images { kernel: folder.join(format!("{name}.kernel")), disk: folder.join("root.ext4") };
    if let Some(why) = missing(&folder) {
        assert_ne!(env::var("CI").as_deref(), Ok("true"), "cannot boot a machine: {why}");
        return skip(test, &why);
    }
    if !images.kernel.exists() {
        assert!(MAY_BE_MISSING.contains(&name), "no {}; run tests/machine/images.sh", images.kernel.display());
        return skip(test, &format!("the mirror had no kernel of {name} (tests/machine/images.sh)"));
    }

    let machines = MACHINES.get_or_init(Mutex::default);
    let slot = Arc::clone(machines.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default());
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    // One that has come to an end, or may be in the midst of something, is of no use to the next case.
    let mut machine = slot.take().unwrap_or_else(|| Guest::boot(&images));
    let outcome = machine.run(test);
    if outcome.is_ok() || machine.is_idle {
        *slot = Some(machine);
    }
    drop(slot);
    if let Err(why) = outcome {
        panic!("{test} in the machine of {name}: {why}");
    }
}

fn rig_dir() -> PathBuf {
    env::var_os("SOCKCAP_RIG_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/rig"), PathBuf::from)
}

fn missing(images: &Path) -> Option<String> {
    if !is_root() {
        return Some("not root".to_owned());
    }
    for program in ["qemu-system-x86_64", "mke2fs", "strip"] {
        if tool(program).is_none() {
            return Some(format!("{program} is not installed"));
        }
    }
    // The stamp is the last thing that images.sh writes.
    (!images.join("stamp").exists()).then(|| format!("no {}; run tests/machine/images.sh", images.display()))
}

/// Where a program is, also one of the folders that only root has in its PATH.
fn tool(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).map(|d| d.join(name)).find(|p| p.exists())
}

fn run(command: &mut Command) {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A disk with the programs under test, this program, and what calls it.
fn payload(folder: &Path) -> PathBuf {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
    let content = folder.join("payload");
    fs::create_dir_all(content.join("units")).expect("a folder");
    let this = env::current_exe().expect("the path of this program").into_os_string();
    for (name, program) in [("sockcap", binary()), ("sockcapctl", ctl_binary()), ("machine", this)] {
        // Debugging symbols would be most of the disk.
        run(Command::new("strip").arg("-o").arg(content.join(name)).arg(program));
    }
    for unit in fs::read_dir(sources.join("units")).expect("units") {
        let unit = unit.expect("an entry");
        fs::copy(unit.path(), content.join("units").join(unit.file_name())).expect("copy a unit");
    }
    fs::copy(sources.join("tests/machine/guest.sh"), content.join("guest.sh")).expect("copy guest.sh");

    let image = folder.join("payload.ext4");
    let used: u64 = fs::read_dir(&content).expect("payload").map(|e| e.unwrap().metadata().unwrap().len()).sum();
    File::create(&image).expect("a file").set_len(used + used / 8 + (8 << 20)).expect("its size");
    run(Command::new(tool("mke2fs").unwrap())
        .args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d"])
        .args([content, image.clone()]));
    image
}

/// A machine that runs.
struct Guest {
    qemu: Arc<Mutex<Child>>,
    /// Names of tests go in here.
    orders: ChildStdin,
    /// And lines come out here, until the machine is gone.
    lines: Receiver<String>,
    console: File,
    /// No case is under way.
    is_idle: bool,
}

impl Guest {
    /// Emulation is not perfect: a boot that fails is tried again, and twice at most.
    fn boot(images: &Images) -> Guest {
        let mut failures = String::new();
        for _ in 0..3 {
            match Guest::try_boot(images) {
                Ok(guest) => return guest,
                Err(why) => failures.push_str(&why),
            }
        }
        panic!("{} does not boot: {failures}", images.kernel.display());
    }

    fn try_boot(images: &Images) -> Result<Guest, String> {
        // QEMU keeps open what it needs of it.
        let folder = TempDir::new();
        let payload = payload(folder.path());
        let path = folder.path().join("console");
        let said = File::options().create(true).append(true).open(&path).expect("a file for the console");
        let console = File::open(&path).expect("the console");
        let drive = |id: &str, path: &Path, more: &str| {
            format!("id={id},if=none,format=raw,file={},cache=unsafe,file.locking=off,{more}", path.display())
        };
        let mut qemu = Command::new(tool("qemu-system-x86_64").unwrap());
        // One thread for both processors: with one each, QEMU 7.2 lets a kernel stumble over code that the other processor is
        // patching (`Oops: int3`).
        qemu.args(["-M", "q35,usb=off,smbus=off,sata=off,vmport=off", "-accel", "tcg,thread=single,tb-size=256"])
            .args(["-cpu", "max", "-smp", "2", "-m", "2G", "-nodefaults", "-no-user-config", "-no-reboot"])
            .args(["-display", "none", "-monitor", "none", "-net", "none"])
            .args(["-chardev", &format!("file,id=console,append=on,path={}", path.display())])
            .args(["-serial", "chardev:console", "-chardev", "stdio,id=orders,signal=off", "-serial", "chardev:orders"])
            .args(["-drive", &drive("root", &images.disk, "snapshot=on"), "-device", "nvme,drive=root,serial=root"])
            .args(["-drive", &drive("more", &payload, "readonly=on"), "-device", "virtio-blk-pci,drive=more"])
            .arg("-kernel")
            .arg(&images.kernel)
            .args(["-append", WORDS])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(said);

        let (sender, lines) = channel();
        let (started, child) = channel();
        // The kernel ends QEMU with the thread that has started it, so with this one, which lives as long as the program.
        thread::spawn(move || {
            // SAFETY: one system call, without locks or allocation, between fork and exec.
            unsafe { qemu.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
            let mut child = qemu.spawn().expect("qemu");
            let output = child.stdout.take().expect("piped");
            let orders = child.stdin.take().expect("piped");
            let child = Arc::new(Mutex::new(child));
            started.send((Arc::clone(&child), orders)).expect("a machine is wanted");
            pass_on(BufReader::new(output), &sender);
            let _ = child.lock().unwrap_or_else(PoisonError::into_inner).wait();
        });
        let (qemu, orders) = child.recv().expect("qemu");
        let mut guest = Guest { qemu, orders, lines, console, is_idle: false };
        let start = Instant::now();
        while guest.line(start)? != "ready" {}
        guest.is_idle = true;
        Ok(guest)
    }

    /// The next line from inside.
    fn line(&self, start: Instant) -> Result<String, String> {
        let left = FUSE.saturating_sub(start.elapsed());
        self.lines.recv_timeout(left).map_err(|why| {
            let why = match why {
                RecvTimeoutError::Timeout => format!("nothing within {FUSE:?}"),
                RecvTimeoutError::Disconnected => "it is gone".to_owned(),
            };
            format!("{why}; the end of its console:\n{}", self.end_of_console())
        })
    }

    fn end_of_console(&self) -> String {
        let size = self.console.metadata().map_or(0, |m| m.len());
        let mut end = vec![0; 4096];
        let n = self.console.read_at(&mut end, size.saturating_sub(4096)).unwrap_or(0);
        String::from_utf8_lossy(&end[..n]).into_owned()
    }

    /// Runs one test; what it printed is printed here.
    fn run(&mut self, test: &str) -> Result<(), String> {
        self.is_idle = false;
        let start = Instant::now();
        writeln!(self.orders, "{test}").map_err(|e| format!("cannot tell it: {e}; {}", self.end_of_console()))?;
        let mut has_passed = false;
        let status = loop {
            let line = self.line(start)?;
            // The guest's line ends with what it says of itself; a name that no test has would pass as well.
            has_passed |= line.contains("test result: ok. 1 passed");
            match line.split_once(' ') {
                Some(("=", status)) => break status.to_owned(),
                _ => println!("{}", line.strip_prefix('|').unwrap_or(&line)),
            }
        };
        self.is_idle = true;
        match &status[..] {
            "0" if has_passed => Ok(()),
            "0" => Err("no such test".to_owned()),
            _ => Err(format!("exit status {status}")),
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.qemu.lock().unwrap_or_else(PoisonError::into_inner).kill();
    }
}

/// Lines, whatever bytes are in them, until the end of file.
fn pass_on(mut from: impl BufRead, to: &Sender<String>) {
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        if to.send(text).is_err() {
            return;
        }
    }
}
