//! Accept=yes and sockcap side by side, with the same command and the same hardening: connections a second, in turn on one machine.
//!
//! Figures, and no promise: it asserts only that every client is served. By hand, on a quiet machine, two minutes for each systemd:
//!
//!     cargo test --release --test system beside -- --ignored --nocapture --test-threads=1

use super::rig::{FUSE, Rig};
use std::fs;
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
const SPAN: Duration = Duration::from_secs(2);
const CLIENTS: [usize; 2] = [1, 16];
/// A way to serve, and where.
struct Way {
    name: &'static str,
    port: u16,
}

const WAYS: [Way; 5] = [
    Way { name: "Accept=yes, bare", port: 7101 },
    Way { name: "sockcap, bare", port: 7102 },
    Way { name: "Accept=yes, hardened", port: 7103 },
    Way { name: "sockcap, hardened", port: 7104 },
    Way { name: "sockcap, hardened, a cgroup each", port: 7105 },
];

/// The sandbox of rsync-capped.service, as it is shipped.
fn hardening() -> String {
    const KINDS: [&str; 8] =
        ["Capability", "NoNew", "Protect", "Private", "Lock", "MemoryDeny", "Restrict", "SystemCall"];
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("units/rsync-capped.service");
    let text = fs::read_to_string(path).expect("the unit");
    let lines =
        text.lines().filter(|line| !line.starts_with("Restart") && KINDS.iter().any(|kind| line.starts_with(kind)));
    lines.map(|line| format!("{line}\n")).collect()
}

fn make(rig: &Rig, way: &Way) {
    let Way { name, port } = way;
    let is_hardened = name.contains("hardened");
    let unit = format!("probe-{port}");
    let is_accept = name.starts_with("Accept");
    let accept = if is_accept { "Accept=yes\nMaxConnections=4096" } else { "Accept=no" };
    // What would end a race: too many starts, or connections, in a short time.
    rig.unit(
        &format!("{unit}.socket"),
        &format!(
            "[Socket]\nListenStream=127.0.0.1:{port}\n{accept}\nBacklog=4096\n\
             TriggerLimitIntervalSec=0\nPollLimitIntervalSec=0\n"
        ),
    );
    let mut sandbox = if is_hardened { hardening() } else { String::new() };
    if name.contains("cgroup") {
        sandbox.push_str("ProtectControlGroups=no\n"); // the only line of it that would keep sockcap from making them
    }
    let (file, how) = if is_accept {
        (format!("{unit}@.service"), "ExecStart=/bin/true\nStandardInput=socket\n".to_owned())
    } else {
        let apart =
            if name.contains("cgroup") { "Delegate=yes\nEnvironment=SOCKCAP_ISOLATE=signals,cgroup\n" } else { "" };
        let start = "ExecStart=/usr/bin/sockcap --max-connections 64 --when-full wait -- /bin/true\nType=notify\n";
        (format!("{unit}.service"), format!("{start}NotifyAccess=main\nKillMode=process\n{apart}"))
    };
    rig.unit(
        &file,
        &format!("[Unit]\nStartLimitIntervalSec=0\nCollectMode=inactive-or-failed\n[Service]\n{how}{sandbox}"),
    );
}

/// One client after the other until the time is over: how many were served.
fn clients(port: u16, until: Instant) -> usize {
    let mut served = 0;
    while Instant::now() < until {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connect");
        stream.set_read_timeout(Some(FUSE)).expect("a timeout");
        let ended = stream.read(&mut [0]);
        assert!(matches!(ended, Ok(0)), "port {port}: {ended:?}");
        served += 1;
    }
    served
}

/// Connections a second.
fn rate(rig: &Rig, port: u16, number: usize) -> f64 {
    rig.inside(|| {
        let begun = Instant::now();
        let all: Vec<_> = (0..number).map(|_| thread::spawn(move || clients(port, begun + SPAN))).collect();
        let served: usize = all.into_iter().map(|one| one.join().expect("a client")).sum();
        served as f64 / begun.elapsed().as_secs_f64()
    })
}

pub fn accept_yes_beside_sockcap(rig: &Rig) {
    WAYS.iter().for_each(|way| make(rig, way));
    let sockets: Vec<String> = WAYS.iter().map(|way| format!("probe-{}.socket", way.port)).collect();
    rig.ok(&format!("systemctl daemon-reload; systemctl start {}", sockets.join(" ")));
    // The first client starts a daemon.
    for way in &WAYS {
        rate(rig, way.port, 1);
    }
    println!("{}", rig.ok("systemctl --version | sed 1q"));
    for number in CLIENTS {
        let mut rates = vec![Vec::new(); WAYS.len()];
        for _ in 0..ROUNDS {
            for (way, rates) in WAYS.iter().zip(&mut rates) {
                rates.push(rate(rig, way.port, number));
            }
        }
        for (way, rates) in WAYS.iter().zip(&mut rates) {
            rates.sort_unstable_by(f64::total_cmp);
            let (least, median, most) = (rates[0], rates[ROUNDS / 2], rates[ROUNDS - 1]);
            println!("{number:>3} clients  {:34} {median:8.1}/s ({least:.1} to {most:.1})", way.name);
        }
    }
}
