//! The picture in the README: one burst through a cap of 4, drawn from a run of the real program.
//!
//! `cargo bench --bench burst >benches/burst.svg` starts sockcap on the loopback and lets 24 clients come. Who runs is what
//! sockcap tells with `-v`; who came and who was refused is what the clients saw. Nothing is drawn unless both agree with the
//! counters that sockcap stops with, so a picture that breaks the cap or loses a client cannot be made.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

const CAP: u32 = 4;
const MAX_WAITING: u32 = 8;
const CLIENTS: u32 = 24;
/// No divisor of the time that a command takes, so that ends and arrivals do not coincide.
const APART: Duration = Duration::from_millis(24);
/// What each client is served.
const COMMAND: [&str; 2] = ["sleep", "0.3"];

/// What happened at a moment, in seconds since the first client set out.
struct Moment {
    at: f64,
    what: What,
}

enum What {
    /// A client set out, from this port, that was served later.
    Came(u16),
    /// A client had read the refusal, so many seconds after it set out.
    Refused(f64),
    /// A command was started for the client at this port, and so many ran then.
    Started(u16, u32),
    Ended,
}

/// The run as sockcap and its clients tell it.
struct Run {
    moments: Vec<Moment>,
    /// sockcap's last words.
    stopped: String,
}

fn run() -> Run {
    let mut server = Command::new(env!("CARGO_BIN_EXE_sockcap"))
        .args(["-v", "--log-target", "stderr", "--listen", "127.0.0.1:0", "--when-full", "wait"])
        .args(["--max-connections", &CAP.to_string(), "--max-waiting", &MAX_WAITING.to_string(), "--"])
        .args(COMMAND)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start sockcap");
    let mut lines =
        BufReader::new(server.stderr.take().expect("a pipe")).lines().map(|line| line.expect("read the log"));
    let at = lines.find_map(|line| line.split(' ').nth(2).filter(|_| line.contains("listening on"))?.parse().ok());
    let at: SocketAddr = at.expect("an address");
    assert!(lines.any(|line| line.contains("ready: ")));

    let (told, moments) = mpsc::channel();
    let begin = Instant::now();
    let stopped = thread::scope(|scope| {
        let tell = told.clone();
        let log = scope.spawn(move || {
            for line in lines {
                let what = if line.contains("serving connection") {
                    let after = |word: &str, end: char| line.split_once(word)?.1.split_once(end)?.0.parse().ok();
                    let (port, active) = (after(" port ", ' '), after(" (", '/'));
                    What::Started(port.expect("a port") as u16, active.expect("(n/max)"))
                } else if line.contains(" ended: pid") {
                    What::Ended
                } else if let Some((_, counters)) = line.split_once("stopped: ") {
                    return counters.to_owned();
                } else {
                    continue;
                };
                tell.send(Moment { at: begin.elapsed().as_secs_f64(), what }).expect("tell");
            }
            panic!("sockcap did not say that it stopped");
        });
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let tell = told.clone();
                scope.spawn(move || {
                    thread::sleep((begin + APART * n).saturating_duration_since(Instant::now()));
                    let came = begin.elapsed().as_secs_f64();
                    let mut seen = String::new();
                    let mut stream = TcpStream::connect(at).expect("connect");
                    let port = stream.local_addr().expect("a port").port();
                    stream.read_to_string(&mut seen).expect("read");
                    let (at, what) = match seen.as_str() {
                        "" => (came, What::Came(port)),
                        "server at capacity\n" => {
                            let read = begin.elapsed().as_secs_f64();
                            (read, What::Refused(read - came))
                        }
                        _ => panic!("client {n} was told {seen:?}"),
                    };
                    tell.send(Moment { at, what }).expect("tell");
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().expect("a client"));
        kill(Pid::from_raw(server.id() as i32), Signal::SIGTERM).expect("stop sockcap");
        log.join().expect("the log")
    });
    assert!(server.wait().expect("wait").success());
    drop(told);
    let mut moments: Vec<_> = moments.into_iter().collect();
    moments.sort_by(|a, b| a.at.total_cmp(&b.at));
    Run { moments, stopped }
}

/// How many ran and how many waited from a moment on.
struct Step {
    at: f64,
    running: u32,
    waiting: u32,
}

fn steps(moments: &[Moment]) -> Vec<Step> {
    let (mut came, mut started, mut ended, mut running) = (0, 0, 0, 0);
    let mut steps = Vec::new();
    for Moment { at, what } in moments {
        match what {
            What::Came(_) => came += 1,
            What::Refused(_) => continue,
            // Who takes over a place is told of before the end that made it free.
            What::Started(_, active) => (started, running) = (started + 1, *active),
            What::Ended => (ended, running) = (ended + 1, started - ended - 1),
        }
        steps.push(Step { at: *at, running, waiting: came - started });
    }
    assert_eq!((started, running), (ended, 0));
    steps
}

// The plot's frame in the picture, and how much of each axis it shows.
const LEFT: f64 = 58.0;
const RIGHT: f64 = 742.0;
const TOP: f64 = 92.0;
const BOTTOM: f64 = 330.0;
const MOST: u32 = CAP + MAX_WAITING + 2;

fn y(connections: u32) -> f64 {
    BOTTOM - (BOTTOM - TOP) * f64::from(connections) / f64::from(MOST)
}

/// The upper edge of an area as a path without its start.
fn edge(steps: &[Step], x: impl Fn(f64) -> f64, height: impl Fn(&Step) -> u32) -> String {
    steps.iter().map(|step| format!("H{:.1}V{:.1}", x(step.at), y(height(step)))).collect()
}

fn draw(run: &Run, served: usize, refusals: &[(f64, f64)]) -> String {
    let steps = steps(&run.moments);
    let end = steps.last().expect("steps").at;
    let last = (end * 5.0).ceil() / 5.0;
    let x = |at: f64| LEFT + (RIGHT - LEFT) * at / last;
    let coming = (APART * (CLIENTS - 1)).as_secs_f64();
    let command = COMMAND.join(" ");
    let full = CAP + MAX_WAITING;
    let (refused, slowest) = (refusals.len(), refusals.iter().map(|(_, took)| *took).fold(0.0, f64::max));
    let title = format!("One burst through a cap of {CAP}");
    let about = format!(
        "{CLIENTS} clients in {coming:.2} s for `{command}`: {served} served in order, {refused} refused within {:.0} ms, none lost",
        (slowest * 1000.0).ceil()
    );
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 780 392" role="img" aria-labelledby="title about">
<!-- benches/burst.rs has drawn this from a run. -->
<title id="title">{title}</title>
<desc id="about">{about}. The number of running commands rises to {CAP} and stays there until nobody waits; up to {MAX_WAITING} clients wait; who comes then is refused. sockcap counted: {}</desc>
<style>
  text {{ font: 14px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328 }}
  .title {{ font-size: 18px; font-weight: 600 }} .quiet {{ fill: #59636e }} .end {{ text-anchor: end }} .middle {{ text-anchor: middle }}
  .card {{ fill: #ffffff; stroke: #d1d9e0 }} .axis {{ stroke: #59636e }} .grid {{ stroke: #d1d9e0 }}
  .running {{ fill: #2a78b5 }} .waiting {{ fill: #f0c674 }} .on-running {{ fill: #ffffff; font-weight: 600 }} .on-waiting {{ fill: #3d2a00; font-weight: 600 }}
  .cap {{ stroke: #1f2328; stroke-width: 1.5; stroke-dasharray: 6 4 }} .refused {{ stroke: #c4321c; stroke-width: 2.2 }} .told {{ fill: #b02a15; font-weight: 600 }}
  @media (prefers-color-scheme: dark) {{
    text {{ fill: #f0f6fc }} .quiet {{ fill: #9198a1 }} .card {{ fill: #0d1117; stroke: #3d444d }} .axis {{ stroke: #9198a1 }} .grid {{ stroke: #2a313a }}
    .running {{ fill: #2f7bbd }} .waiting {{ fill: #c9982f }} .on-running {{ fill: #ffffff }} .on-waiting {{ fill: #1a1200 }}
    .cap {{ stroke: #f0f6fc }} .refused {{ stroke: #ff7b66 }} .told {{ fill: #ff9482 }}
  }}
</style>
<defs><path id="x" d="M-4.5-4.5 4.5 4.5M-4.5 4.5 4.5-4.5"/></defs>
<rect class="card" x=".5" y=".5" width="779" height="391" rx="8"/>
<text class="title" x="20" y="32">{title}</text>
<text class="quiet" x="20" y="54">{}</text>
"#,
        run.stopped,
        about.replace('`', "")
    );
    // Writing to a String cannot fail.
    let mut line = |text: String| writeln!(svg, "{text}").expect("write");
    for n in (0..=full).step_by(CAP as usize) {
        let at = y(n);
        line(format!(r#"<path class="grid" d="M{LEFT} {at:.1}H{RIGHT}"/>"#));
        line(format!(r#"<text class="quiet end" x="{}" y="{:.1}">{n}</text>"#, LEFT - 8.0, at + 5.0));
    }
    let all = edge(&steps, x, |step| step.running + step.waiting);
    let running = edge(&steps, x, |step| step.running);
    line(format!(r#"<path class="waiting" d="M{LEFT} {BOTTOM}{all}Z"/>"#));
    line(format!(r#"<path class="running" d="M{LEFT} {BOTTOM}{running}Z"/>"#));
    line(format!(r#"<path class="axis" d="M{LEFT} {BOTTOM}H{RIGHT}"/>"#));
    for tick in 0..=(last * 5.0).round() as u32 {
        let at = f64::from(tick) / 5.0;
        line(format!(r#"<path class="axis" d="M{:.1} {BOTTOM}v5"/>"#, x(at)));
        line(format!(r#"<text class="quiet middle" x="{:.1}" y="{}">{at:.1}</text>"#, x(at), BOTTOM + 21.0));
    }
    let middle = (LEFT + RIGHT) / 2.0;
    line(format!(
        r#"<text class="quiet middle" x="{middle}" y="{}">seconds since the first client</text>"#,
        BOTTOM + 45.0
    ));
    line(format!(r#"<text class="quiet" x="20" y="{}">connections</text>"#, TOP - 12.0));
    for (at, what) in [(CAP, format!("--max-connections {CAP}")), (full, format!("--max-waiting {MAX_WAITING}"))] {
        line(format!(r#"<path class="cap" d="M{LEFT} {0:.1}H{RIGHT}"/>"#, y(at)));
        line(format!(r#"<text class="end" x="{RIGHT}" y="{:.1}">{what}</text>"#, y(at) - 6.0));
    }
    for (at, _) in refusals {
        line(format!(r##"<use class="refused" href="#x" x="{:.1}" y="{:.1}"/>"##, x(*at), y(full + 1)));
    }
    if let Some((at, _)) = refusals.last() {
        let (at, text) = (x(*at) + 14.0, format!("{refused} refused: “server at capacity”"));
        line(format!(r#"<text class="told" x="{at:.1}" y="{:.1}">{text}</text>"#, y(full + 1) + 5.0));
    }
    let label = x(end / 2.0);
    line(format!(r#"<text class="on-running middle" x="{label:.1}" y="{:.1}">active</text>"#, y(CAP / 2) + 5.0));
    line(format!(
        r#"<text class="on-waiting middle" x="{:.1}" y="{:.1}">waiting</text>"#,
        x(end * 0.3),
        y(full / 2) + 5.0
    ));
    svg + "</svg>\n"
}

fn main() {
    let run = run();
    let (mut came, mut started, mut ended, mut most, mut refusals) = (Vec::new(), Vec::new(), 0, 0, Vec::new());
    for Moment { at, what } in &run.moments {
        match what {
            What::Came(port) => came.push(*port),
            What::Refused(took) => refusals.push((*at, *took)),
            What::Started(port, active) => {
                started.push(*port);
                most = most.max(*active);
            }
            What::Ended => ended += 1,
        }
    }
    assert_eq!(started, came, "first come, first served");
    assert_eq!((most, ended), (CAP, came.len()));
    let came = came.len();
    let counted = format!("{CLIENTS} accepted, {came} served, {} refused, 0 gone, 0 failed to start;", refusals.len());
    assert!(run.stopped.starts_with(&counted), "{counted} by the clients; by sockcap {}", run.stopped);
    print!("{}", draw(&run, came, &refusals));
    eprintln!("{}", run.stopped);
}
