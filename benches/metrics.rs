//! The second picture in the README: one burst as the metrics tell it.
//!
//! `cargo bench --bench metrics >benches/metrics.svg` starts sockcap with a listener named `metrics`, lets 40 clients come to a cap of 4,
//! and scrapes all the while. Nothing is drawn unless the books balance in every scrape and the clients agree with the last.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const CAP: u64 = 4;
const MAX_WAITING: u64 = 8;
const CLIENTS: u32 = 40;
const APART: Duration = Duration::from_millis(24);
/// Between two scrapes.
const EVERY: Duration = Duration::from_millis(10);
const SCRIPT: &str = "exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$ exec \"$@\"";
const COMMAND: [&str; 2] = ["sleep", "0.3"];

/// Ended with the run.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What one scrape has told, and when, in seconds since the first client set out.
#[derive(Clone, Default)]
struct Scrape {
    at: f64,
    accepted: u64,
    served: u64,
    gone: u64,
    active: u64,
    held: u64,
    refused: BTreeMap<String, u64>,
}

impl Scrape {
    fn all_refused(&self) -> u64 {
        self.refused.values().sum()
    }
}

fn scrape(metrics: SocketAddr, begin: Instant) -> Scrape {
    let mut stream = TcpStream::connect(metrics).expect("connect");
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("ask");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("read");
    let mut told = Scrape { at: begin.elapsed().as_secs_f64(), ..Scrape::default() };
    for line in page.lines() {
        let Some((name, rest)) = line.strip_prefix("sockcap_").and_then(|line| line.split_once('{')) else { continue };
        let (labels, value) = rest.rsplit_once("} ").expect("a sample");
        let Ok(value) = value.parse::<u64>() else { continue };
        match name {
            "connections_accepted_total" => told.accepted += value,
            "connections_served_total" => told.served += value,
            "connections_gone_total" => told.gone += value,
            "connections_active" => told.active += value,
            "connections_waiting" if labels.contains("place=\"held\"") => told.held += value,
            "connections_refused_total" if value > 0 => {
                let reason = labels.split("reason=\"").nth(1).and_then(|rest| rest.split('"').next());
                *told.refused.entry(reason.expect("a reason").to_owned()).or_default() += value;
            }
            _ => {}
        }
    }
    let out = told.served + told.all_refused() + told.gone + told.active + told.held;
    assert_eq!(told.accepted, out, "the books do not balance:\n{page}");
    told
}

/// All scrapes, and how many clients were told why they are refused.
fn run() -> (Vec<Scrape>, u64) {
    let listen = || TcpListener::bind("127.0.0.1:0").expect("listen");
    let (service, metrics) = (listen(), listen());
    let (to, metrics_at) = (service.local_addr().expect("an address"), metrics.local_addr().expect("an address"));
    let server = Command::new("sh")
        .args(["-c", SCRIPT, "sh", env!("CARGO_BIN_EXE_sockcap"), "--when-full", "wait", "--max-wait", "500ms", "-q"])
        .args(["--max-connections", &CAP.to_string(), "--max-waiting", &MAX_WAITING.to_string(), "--"])
        .args(COMMAND)
        .env("LISTEN_FDS", "2")
        .env("LISTEN_FDNAMES", "burst:metrics")
        .stdin(OwnedFd::from(service))
        .stdout(OwnedFd::from(metrics))
        .stderr(Stdio::null())
        .spawn();
    let _server = Server(server.expect("start sockcap"));
    // It answers once it is ready.
    scrape(metrics_at, Instant::now());

    let (begin, is_over) = (Instant::now(), AtomicBool::new(false));
    thread::scope(|scope| {
        let scraper = scope.spawn(|| {
            let mut scrapes = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                scrapes.push(scrape(metrics_at, begin));
                thread::sleep(EVERY);
            }
            scrapes
        });
        let client = |n| {
            thread::sleep((begin + APART * n).saturating_duration_since(Instant::now()));
            let mut seen = String::new();
            TcpStream::connect(to).expect("connect").read_to_string(&mut seen).expect("read");
            u64::from(!seen.is_empty())
        };
        let clients: Vec<_> = (0..CLIENTS).map(|n| scope.spawn(move || client(n))).collect();
        let refused = clients.into_iter().map(|client| client.join().expect("a client")).sum();
        // The last command has ended for its client, and a moment later for sockcap.
        while scrape(metrics_at, begin).active > 0 {
            thread::sleep(EVERY);
        }
        is_over.store(true, Ordering::Relaxed);
        let mut scrapes = scraper.join().expect("the scraper");
        scrapes.push(scrape(metrics_at, begin));
        (scrapes, refused)
    })
}

// The frames of the two plots.
const LEFT: f64 = 58.0;
const RIGHT: f64 = 742.0;
const UPPER: (f64, f64) = (96.0, 260.0);
const LOWER: (f64, f64) = (304.0, 424.0);

/// The upper edge of an area as a path without its start: a value holds until the next scrape.
fn edge(scrapes: &[Scrape], x: impl Fn(f64) -> f64, y: impl Fn(&Scrape) -> f64) -> String {
    scrapes.iter().map(|scrape| format!("H{:.1}V{:.1}", x(scrape.at), y(scrape))).collect()
}

fn draw(scrapes: &[Scrape]) -> String {
    let last = scrapes.last().expect("scrapes");
    let end = (last.at * 5.0).ceil() / 5.0;
    let x = |at: f64| LEFT + (RIGHT - LEFT) * at / end;
    let scale = |(top, bottom): (f64, f64), most: u64| move |n: u64| bottom - (bottom - top) * n as f64 / most as f64;
    let refused = last.all_refused();
    let (full, most) = (CAP + MAX_WAITING, (refused / 5 + 1) * 5);
    let (upper, lower) = (scale(UPPER, full + 2), scale(LOWER, most));
    let title = format!("The metrics of one burst through a cap of {CAP}");
    let about = format!(
        "{} scrapes while {CLIENTS} clients come: {} served, {refused} refused, and the books balance in each",
        scrapes.len(),
        last.served
    );
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 780 486" role="img" aria-labelledby="title about">
<!-- benches/metrics.rs has drawn this from a run. -->
<title id="title">{title}</title>
<desc id="about">{about}. Above, sockcap_connections_active rises to {CAP} and stays there while sockcap_connections_waiting rises to {MAX_WAITING}; below, sockcap_connections_refused_total grows by reason.</desc>
<style>
  text {{ font: 14px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328 }}
  .title {{ font-size: 18px; font-weight: 600 }} .quiet {{ fill: #59636e }} .end {{ text-anchor: end }} .middle {{ text-anchor: middle }}
  .card {{ fill: #ffffff; stroke: #d1d9e0 }} .axis {{ stroke: #59636e }} .grid {{ stroke: #d1d9e0 }}
  .active {{ fill: #2a78b5 }} .held {{ fill: #f0c674 }} .r0 {{ fill: #c4321c }} .r1 {{ fill: #e39a8c }} .r2 {{ fill: #8f4a9e }}
  .on-active {{ fill: #ffffff; font-weight: 600 }} .on-held {{ fill: #3d2a00; font-weight: 600 }}
  @media (prefers-color-scheme: dark) {{
    text {{ fill: #f0f6fc }} .quiet {{ fill: #9198a1 }} .card {{ fill: #0d1117; stroke: #3d444d }} .axis {{ stroke: #9198a1 }} .grid {{ stroke: #2a313a }}
    .active {{ fill: #2f7bbd }} .held {{ fill: #c9982f }} .r0 {{ fill: #ff7b66 }} .r1 {{ fill: #8c4a3f }} .r2 {{ fill: #b87cc6 }} .on-held {{ fill: #1a1200 }}
  }}
</style>
<rect class="card" x=".5" y=".5" width="779" height="485" rx="8"/>
<text class="title" x="20" y="32">{title}</text>
<text class="quiet" x="20" y="54">{about}</text>
"#
    );
    // Writing to a String cannot fail.
    let mut line = |text: String| writeln!(svg, "{text}").expect("write");
    let mut grid = |at: f64, n: u64| {
        line(format!(r#"<path class="grid" d="M{LEFT} {at:.1}H{RIGHT}"/>"#));
        line(format!(r#"<text class="quiet end" x="{}" y="{:.1}">{n}</text>"#, LEFT - 8.0, at + 5.0));
    };
    (0..=full).step_by(CAP as usize).for_each(|n| grid(upper(n), n));
    (0..=most).step_by(5).for_each(|n| grid(lower(n), n));
    let mut area = |class: &str, bottom: f64, edge: String| {
        line(format!(r#"<path class="{class}" d="M{LEFT} {bottom}{edge}V{bottom}Z"/>"#));
    };
    area("held", UPPER.1, edge(scrapes, x, |scrape| upper(scrape.active + scrape.held)));
    area("active", UPPER.1, edge(scrapes, x, |scrape| upper(scrape.active)));
    // One upon the other, so the highest comes first.
    for (at, _) in last.refused.keys().enumerate().rev() {
        let up_to = |scrape: &Scrape| {
            let counted = last.refused.keys().take(at + 1).filter_map(|reason| scrape.refused.get(reason));
            lower(counted.sum())
        };
        area(&format!("r{}", at % 3), LOWER.1, edge(scrapes, x, up_to));
    }
    for bottom in [UPPER.1, LOWER.1] {
        line(format!(r#"<path class="axis" d="M{LEFT} {bottom}H{RIGHT}"/>"#));
    }
    for tick in 0..=(end * 5.0).round() as u32 {
        let at = f64::from(tick) / 5.0;
        line(format!(r#"<path class="axis" d="M{:.1} {}v5"/>"#, x(at), LOWER.1));
        line(format!(r#"<text class="quiet middle" x="{:.1}" y="{}">{at:.1}</text>"#, x(at), LOWER.1 + 21.0));
    }
    let middle = (LEFT + RIGHT) / 2.0;
    line(format!(
        r#"<text class="quiet middle" x="{middle}" y="{}">seconds since the first client</text>"#,
        LOWER.1 + 45.0
    ));
    line(format!(r#"<text class="quiet" x="20" y="{}">connections</text>"#, UPPER.0 - 12.0));
    line(format!(r#"<text class="quiet" x="20" y="{}">refused so far</text>"#, LOWER.0 - 12.0));
    line(format!(r#"<text class="on-active middle" x="{middle}" y="{:.1}">active</text>"#, upper(CAP / 2) + 5.0));
    line(format!(
        r#"<text class="on-held middle" x="{middle}" y="{:.1}">held</text>"#,
        upper(CAP + MAX_WAITING / 2) + 5.0
    ));
    for (at, (reason, count)) in last.refused.iter().enumerate() {
        let y = LOWER.0 + 14.0 + 20.0 * (last.refused.len() - 1 - at) as f64;
        line(format!(r#"<rect class="r{}" x="{}" y="{}" width="12" height="12"/>"#, at % 3, LEFT + 14.0, y - 10.0));
        line(format!(r#"<text x="{}" y="{y}">{reason}: {count}</text>"#, LEFT + 32.0));
    }
    svg + "</svg>\n"
}

fn main() {
    let (scrapes, refused) = run();
    let last = scrapes.last().expect("scrapes");
    assert_eq!((last.accepted, last.gone), (u64::from(CLIENTS), 0));
    assert_eq!((last.active, last.held, last.all_refused()), (0, 0, refused));
    let most = |of: fn(&Scrape) -> u64| scrapes.iter().map(of).max().unwrap_or(0);
    assert!(most(|scrape| scrape.active) == CAP && most(|scrape| scrape.held) == MAX_WAITING, "no burst");
    print!("{}", draw(&scrapes));
}
