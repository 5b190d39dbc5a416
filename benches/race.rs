//! The race: sockcap beside whichever public peers are installed, in interleaved rounds on the loopback.
//!
//! `cargo bench --bench race` (peers on Debian: apt install ucspi-tcp ipsvd socat). Each round starts a server, lets 1 and
//! then 32 clients connect, read to the end of file and come back, and stops it. Figures of a shared machine
//! drift: read the ratios, which are made round by round, and no single number.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
const SPAN: Duration = Duration::from_millis(700);
const CAP: &str = "64";
const BACKLOG: &str = "1024";

struct Contestant {
    name: &'static str,
    words: Vec<String>,
    /// Connections per second, by round: with one client, with 32.
    rates: [Vec<f64>; 2],
}

fn contestants(port: u16) -> Vec<(&'static str, Vec<String>)> {
    let port = port.to_string();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let ours = env!("CARGO_BIN_EXE_sockcap");
    vec![
        (
            "sockcap",
            words(&format!("{ours} --listen 127.0.0.1:{port} --max-connections {CAP} --when-full wait -- /bin/true")),
        ),
        ("tcpserver", words(&format!("tcpserver -c {CAP} -b {BACKLOG} -H -R -l 0 127.0.0.1 {port} /bin/true"))),
        ("tcpsvd", words(&format!("tcpsvd -E -l localhost -c {CAP} -b {BACKLOG} 127.0.0.1 {port} /bin/true"))),
        (
            "socat",
            words(&format!(
                "socat TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,backlog={BACKLOG},fork,max-children={CAP} EXEC:/bin/true,nofork"
            )),
        ),
    ]
}

fn installed(program: &str) -> bool {
    let found = |folder: std::path::PathBuf| folder.join(program).is_file();
    program.contains('/') || std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(found)
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).map(|at| at.port()).expect("a free port")
}

fn start(words: &[String], at: SocketAddr) -> Child {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C");
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start");
    let fuse = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(at).is_err() {
        assert!(Instant::now() < fuse, "{words:?} does not listen");
        thread::yield_now(); // no peer says when it is ready
    }
    child
}

/// Connections per second with so many clients, each of which comes back at once.
fn rate(at: SocketAddr, clients: usize) -> f64 {
    let (served, since) = (AtomicU64::new(0), Instant::now());
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                while since.elapsed() < SPAN {
                    let mut end = Vec::new();
                    if TcpStream::connect(at).and_then(|mut client| client.read_to_end(&mut end)).is_ok() {
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    served.into_inner() as f64 / since.elapsed().as_secs_f64()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<_> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn main() {
    let mut all: Vec<Contestant> = contestants(0)
        .into_iter()
        .filter(|(name, words)| {
            installed(&words[0]) || {
                println!("{name}: not installed, left out");
                false
            }
        })
        .map(|(name, words)| Contestant { name, words, rates: [Vec::new(), Vec::new()] })
        .collect();
    for _ in 0..ROUNDS {
        for contestant in &mut all {
            let port = free_port();
            let words = contestants(port).into_iter().find(|(name, _)| *name == contestant.name);
            contestant.words = words.expect("the same list").1;
            let at = SocketAddr::from(([127, 0, 0, 1], port));
            let mut server = start(&contestant.words, at);
            for (rates, clients) in contestant.rates.iter_mut().zip([1, 32]) {
                rates.push(rate(at, clients));
            }
            server.kill().expect("kill"); // its commands are /bin/true: none is left in a moment
            server.wait().expect("wait");
        }
    }
    println!("\n/bin/true, cap {CAP}; connections per second, median of {ROUNDS} rounds; sockcap = 1.00");
    println!("{:<10} {:>9} {:>6} {:>9} {:>6}", "", "1 client", "ratio", "32", "ratio");
    for contestant in &all {
        let [one, many] = [0, 1].map(|which| {
            let (ours, theirs) = (&all[0].rates[which], &contestant.rates[which]);
            (median(theirs.iter().copied()), median(theirs.iter().zip(ours).map(|(theirs, ours)| theirs / ours)))
        });
        println!("{:<10} {:>9.0} {:>6.2} {:>9.0} {:>6.2}", contestant.name, one.0, one.1, many.0, many.1);
    }
}
