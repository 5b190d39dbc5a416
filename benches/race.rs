//! The race: sockcap beside whichever public peers are installed, in interleaved rounds on the loopback.
//!
//! `cargo bench --bench race [-- COMMAND]` (peers on Debian: apt install ucspi-tcp ipsvd socat). COMMAND is `/bin/true` unless one is given. Each
//! round starts a server, lets 1 and then 32 clients connect, read to the end of file and come back, and stops it. Figures
//! of a shared machine drift: read the ratios, which are made round by round, and no single number.
//!
//! The limit is this program itself: a loop that accepts, starts the command exactly as sockcap does and reaps it, with no word to anybody
//! and no look at anything. What lies between it and sockcap is the price of everything else that sockcap does.

use nix::sys::wait::{WaitPidFlag, waitpid};
use sockcap::child::environment::cleaned;
use sockcap::sys::client_fd::ClientFd;
use sockcap::sys::launch::{CommandSpec, Pass, Session, Spawner};
use sockcap::sys::process::default_signal_actions;
use std::ffi::CString;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;
const SPAN: Duration = Duration::from_millis(700);
/// Commands at once; also in the words below.
const CAP: usize = 64;
const BACKLOG: i32 = 1024;

struct Contestant {
    name: &'static str,
    rounds: Vec<[Lap; 2]>,
}

/// What so many clients saw in one round.
struct Lap {
    per_second: f64,
    /// From before connect(2) to the end of file, microseconds.
    p50: f64,
    p99: f64,
    /// Of the server itself for each connection, microseconds.
    cpu: f64,
}

fn contestants(port: u16, command: &str) -> Vec<(&'static str, Vec<String>)> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (ours, this) = (env!("CARGO_BIN_EXE_sockcap"), std::env::current_exe().expect("our own path"));
    let mut limit = vec![this.to_str().expect("a path in UTF-8").to_owned()];
    limit.extend(words(&format!("--limit {port} {command}")));
    vec![
        ("limit", limit),
        (
            "sockcap",
            words(&format!("{ours} --listen 127.0.0.1:{port} --max-connections {CAP} --when-full wait -- {command}")),
        ),
        ("tcpserver", words(&format!("tcpserver -c {CAP} -b {BACKLOG} -H -R -l 0 127.0.0.1 {port} {command}"))),
        ("tcpsvd", words(&format!("tcpsvd -E -l localhost -c {CAP} -b {BACKLOG} 127.0.0.1 {port} {command}"))),
        (
            "socat",
            words(&format!(
                "socat TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,backlog={BACKLOG},fork,max-children={CAP} EXEC:{command},nofork"
            )),
        ),
    ]
}

/// What one thread of this kernel can do. Ends when it is killed.
fn limit(port: u16, command: &str) -> ! {
    default_signal_actions();
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port that was free a moment ago");
    sockcap::sys::socket::listen(listener.as_fd(), BACKLOG).expect("listen");
    let program = CString::new(command).expect("no NUL in an argument");
    let spec = CommandSpec {
        arguments: vec![program.clone()],
        program,
        environment: cleaned(std::env::vars_os(), Pass::Stdio),
        entries: Vec::new(),
        pass: Pass::Stdio,
        session: Session::Own,
        nofile: None,
        attributes: Box::default(),
    };
    let (mut spawner, _reports) = Spawner::new(spec).expect("memory for stacks");
    let mut running = 0;
    loop {
        let (connection, _) = sockcap::sys::socket::accept(listener.as_fd()).expect("accept");
        let mut words = spawner.begin().expect("a free slot");
        words.arg_fixed(0);
        let connection = ClientFd::new(connection, false);
        let (_, launch) = words.spawn(&connection, None).expect("clone");
        spawner.leave(launch, connection);
        running += 1;
        while running > 0 {
            let flags = if running < CAP { WaitPidFlag::WNOHANG } else { WaitPidFlag::empty() };
            match waitpid(None, Some(flags)).expect("a child").pid() {
                Some(_) => running -= 1,
                None => break,
            }
        }
    }
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

/// Processor time of a process without its children, microseconds (proc_pid_schedstat: nanoseconds, for each thread).
fn cpu(pid: u32) -> f64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let spent = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    spent.sum::<f64>() / 1000.0
}

/// So many clients, each of which comes back at once.
fn lap(server: &Child, at: SocketAddr, clients: usize) -> Lap {
    let (all, before, since) = (Mutex::new(Vec::new()), cpu(server.id()), Instant::now());
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let (mut took, mut end) = (Vec::new(), Vec::new());
                while since.elapsed() < SPAN {
                    let begun = Instant::now();
                    if TcpStream::connect(at).and_then(|mut client| client.read_to_end(&mut end)).is_ok() {
                        took.push(begun.elapsed().as_secs_f64() * 1e6);
                    }
                }
                all.lock().expect("no client panics").extend(took);
            });
        }
    });
    let (elapsed, mut took) = (since.elapsed().as_secs_f64(), all.into_inner().expect("no client panics"));
    took.sort_by(f64::total_cmp);
    let (n, at) = (took.len(), |share: f64| took[((took.len() - 1) as f64 * share) as usize]);
    Lap { per_second: n as f64 / elapsed, p50: at(0.5), p99: at(0.99), cpu: (cpu(server.id()) - before) / n as f64 }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<_> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn main() {
    // cargo adds --bench.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [flag, port, command] = &words[..] {
        assert_eq!(flag, "--limit");
        limit(port.parse().expect("a port"), command);
    }
    let command = words.first().map_or("/bin/true", String::as_str);
    let mut all: Vec<Contestant> = contestants(0, command)
        .into_iter()
        .filter(|(name, words)| {
            installed(&words[0]) || {
                println!("{name}: not installed, left out");
                false
            }
        })
        .map(|(name, _)| Contestant { name, rounds: Vec::new() })
        .collect();
    for round in 0..ROUNDS {
        // Who comes first comes last the next time.
        let turn = round % all.len();
        all.rotate_left(turn);
        for contestant in &mut all {
            let port = free_port();
            let words = contestants(port, command).into_iter().find(|(name, _)| *name == contestant.name);
            let at = SocketAddr::from(([127, 0, 0, 1], port));
            let mut server = start(&words.expect("the same list").1, at);
            contestant.rounds.push([1, 32].map(|clients| lap(&server, at, clients)));
            server.kill().expect("kill"); // its commands end by themselves in a moment
            server.wait().expect("wait");
        }
        all.rotate_right(turn);
    }
    println!(
        "\n{command}, cap {CAP}, medians of {ROUNDS} rounds; ratios to the limit of the same round; microseconds\n"
    );
    println!(
        "{:<10} {:>24} {:>14} {:>14} {:>7}   {:>17} {:>7}",
        "", "1 client/s", "p50", "p99", "cpu", "32 clients/s", "cpu"
    );
    for contestant in &all {
        let column = |which: usize, of: fn(&Lap) -> f64| {
            let pairs = contestant.rounds.iter().zip(&all[0].rounds);
            let value = median(contestant.rounds.iter().map(|round| of(&round[which])));
            (value, median(pairs.map(|(theirs, limit)| of(&theirs[which]) / of(&limit[which]))))
        };
        let [one, p50, p99] =
            [|lap: &Lap| lap.per_second, |lap: &Lap| lap.p50, |lap: &Lap| lap.p99].map(|of| column(0, of));
        let many = column(1, |lap| lap.per_second);
        println!(
            "{:<10} {:>15.0} ({:>5.2}) {:>6.0} ({:>5.2}) {:>6.0} ({:>5.2}) {:>7.1}   {:>9.0} ({:>5.2}) {:>7.1}",
            contestant.name,
            one.0,
            one.1,
            p50.0,
            p50.1,
            p99.0,
            p99.1,
            column(0, |lap| lap.cpu).0,
            many.0,
            many.1,
            column(1, |lap| lap.cpu).0,
        );
    }
}
