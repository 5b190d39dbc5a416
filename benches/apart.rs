//! What it costs to keep commands apart: none, signals, cgroup and both, side by side, one client at a time.
//!
//! `cargo bench --bench apart`, or `cargo bench --bench apart -- COMMAND` with another one than `/bin/echo`. It needs root, and cgroups of
//! version 2. In each round every daemon serves the same number of clients; what is told is the median over all, and the median
//! of the differences to none between rounds. Figures of a shared machine drift, the differences less.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 16;
const CLIENTS: usize = 150;
/// How long a daemon may take for its start.
const FUSE: Duration = Duration::from_secs(10);

/// One daemon, and what its clients have seen.
struct Variant {
    name: &'static str,
    address: SocketAddr,
    daemon: Child,
    group: Option<PathBuf>,
    /// To the first byte, in microseconds, of each client.
    first: Vec<f64>,
    /// The median of each round.
    rounds: Vec<f64>,
    ticks: u64,
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// A cgroup for one daemon.
fn group(name: &str) -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("cgroups of version 2");
    let folder = Path::new(mount.split(' ').nth(4).expect("a mount")).join(format!("sockcap-bench-{name}"));
    fs::create_dir_all(&folder).expect("a cgroup: this needs root");
    folder
}

fn start(name: &'static str, command: &str) -> Variant {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("its number");
    drop(free);
    let group = name.contains("cgroup").then(|| group(&name.replace(',', "-")));
    let enter = group.as_ref().map_or(String::new(), |group| format!("echo $$ >{}/cgroup.procs; ", group.display()));
    let isolate = if name == "none" { "no" } else { name };
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{enter}exec \"$@\""), "sh", env!("CARGO_BIN_EXE_sockcap"), "--quiet"]);
    shell.args(["--listen", &address.to_string(), &format!("--isolate={isolate}"), "--", command]);
    let daemon = shell.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("sh");
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(began.elapsed() < FUSE, "{name} does not start");
    }
    Variant { name, address, daemon, group, first: Vec::new(), rounds: Vec::new(), ticks: 0 }
}

impl Variant {
    /// Clock ticks of processor time that the daemon itself has used.
    fn used(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.daemon.id())).expect("the daemon");
        let fields: Vec<&str> = stat[stat.rfind(')').expect("a name") + 2..].split(' ').collect();
        fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum()
    }

    fn round(&mut self) {
        let before = self.used();
        let mut times = Vec::with_capacity(CLIENTS);
        for _ in 0..CLIENTS {
            let began = Instant::now();
            let mut client = TcpStream::connect(self.address).expect("connect");
            let mut first = [0];
            let _ = client.read(&mut first).expect("read"); // a byte, or the end
            times.push(began.elapsed().as_nanos() as f64 / 1000.0);
            let _ = client.read_to_end(&mut Vec::new());
        }
        self.ticks += self.used() - before;
        self.rounds.push(median(&times));
        self.first.append(&mut times);
    }

    fn end(mut self) {
        let pid = nix::unistd::Pid::from_raw(self.daemon.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("kill");
        self.daemon.wait().expect("wait");
        let folders = self.group.iter().flat_map(|group| fs::read_dir(group).into_iter().flatten().flatten());
        folders.filter(|entry| entry.path().is_dir()).for_each(|entry| drop(fs::remove_dir(entry.path())));
        self.group.iter().for_each(|group| drop(fs::remove_dir(group)));
    }
}

fn main() {
    let command = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_else(|| "/bin/echo".into());
    let mut all = ["none", "signals", "cgroup", "signals,cgroup"].map(|name| start(name, &command));
    for round in 0..ROUNDS {
        match round % 2 {
            0 => all.iter_mut().for_each(Variant::round),
            _ => all.iter_mut().rev().for_each(Variant::round),
        }
    }
    let none = all[0].rounds.clone();
    let tick = 1e6 / 100.0 / (ROUNDS * CLIENTS) as f64;
    for Variant { name, first, rounds, ticks, .. } in &all {
        let differences: Vec<f64> = rounds.iter().zip(&none).map(|(one, other)| one - other).collect();
        println!(
            "{name:<15} first byte {:>5.0} us ({:+.0}), CPU of the server {:>5.0} us",
            median(first),
            median(&differences),
            *ticks as f64 * tick
        );
    }
    all.into_iter().for_each(Variant::end);
}
