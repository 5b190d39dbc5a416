//! A real Prometheus scrapes a real daemon while clients come and go: both formats are read, and the books balance in every scrape.

use super::metrics::is_installed;
use crate::common::*;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Ended with its test.
struct Prometheus {
    child: Child,
    at: SocketAddr,
    _data: TempDir,
}

impl Prometheus {
    /// Scrapes these targets, each as a job of this name, twice a second.
    fn start(jobs: &[(&str, SocketAddr)]) -> Prometheus {
        let data = TempDir::new();
        let config = data.join("prometheus.yml");
        let mut text = "global: {scrape_interval: 500ms}\nscrape_configs:\n".to_owned();
        for (job, target) in jobs {
            text.push_str(&format!("- {{job_name: {job}, static_configs: [{{targets: [\"{target}\"]}}]}}\n"));
        }
        fs::write(&config, text).unwrap();
        let mut child = Command::new("prometheus")
            .args([&format!("--config.file={config}"), &format!("--storage.tsdb.path={}", data.join("data"))])
            .arg("--web.listen-address=127.0.0.1:0")
            .stderr(Stdio::piped())
            .spawn()
            .expect("prometheus");
        // It says which port it has got: `msg="Listening on" address=127.0.0.1:38217`
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = lines.by_ref().map_while(Result::ok).find(|line| line.contains("Listening on"));
        let said = said.unwrap_or_else(|| panic!("prometheus has ended: {:?}", child.wait()));
        thread::spawn(move || lines.for_each(drop));
        let at = said.split("address=").nth(1).unwrap().trim().parse().unwrap();
        Prometheus { child, at, _data: data }
    }

    /// The value of an expression for each job, if it has one.
    fn query(&self, expression: &str) -> Vec<(String, f64)> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let mut stream = TcpStream::connect(self.at).unwrap();
        write!(stream, "GET /api/v1/query?query={encoded} HTTP/1.0\r\n\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        // Until it is ready it says so instead, in words.
        if response.starts_with("HTTP/1.0 503") {
            return Vec::new();
        }
        let body = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{response}")).1;
        let reply: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {response}"));
        let results = reply["data"]["result"].as_array().unwrap_or_else(|| panic!("{expression}: {reply}"));
        let value = |one: &Value| one["value"][1].as_str().unwrap().parse().unwrap();
        results.iter().map(|one| (one["metric"]["job"].as_str().unwrap_or_default().to_owned(), value(one))).collect()
    }

    /// Asks until both jobs have a value that fits: the next scrape is no event here.
    #[track_caller]
    fn until(&self, expression: &str, fits: impl Fn(f64) -> bool) {
        let begun = Instant::now();
        loop {
            let values = self.query(expression);
            if values.len() == 2 && values.iter().all(|(_, value)| fits(*value)) {
                return;
            }
            assert!(begun.elapsed() < FUSE, "{expression} is {values:?}; {:?}", self.query("up"));
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks the daemon for text 0.0.4 in the name of Prometheus, which would rather have OpenMetrics; whatever comes goes back as it is.
fn as_text(metrics: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            // A scrape that is given up half way is Prometheus' to tell.
            let _ = forward(client, metrics);
        }
    });
    at
}

fn forward(client: TcpStream, metrics: SocketAddr) -> std::io::Result<()> {
    let mut lines = BufReader::new(client.try_clone()?).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let mut daemon = TcpStream::connect(metrics)?;
    write!(daemon, "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: text/plain;version=0.0.4\r\n\r\n")?;
    std::io::copy(&mut daemon, &mut &client).map(drop)
}

/// What does not balance, per job; 0 at any scrape. A series that is not there counts for nothing.
const BOOKS: &str = "sum by (job) (sockcap_connections_accepted_total) - sum by (job) (sockcap_connections_served_total) \
     - sum by (job) (sockcap_connections_refused_total) - sum by (job) (sockcap_connections_gone_total) \
     - sum by (job) (sockcap_connections_active) - sum by (job) (sockcap_connections_waiting{place=\"held\"})";

/// Ends the clients, however their test ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Clients that come and go until they are told to stop; so many came.
fn churn(to: SocketAddr, is_over: &AtomicBool, came: &AtomicU64) {
    while !is_over.load(Ordering::Relaxed) {
        let mut client = TcpStream::connect(to).unwrap();
        came.fetch_add(1, Ordering::Relaxed);
        // An echo, or a refusal, or a reset after it: all the same here.
        let _ = client.write_all(b"x\n");
        let _ = client.read(&mut [0; 64]);
        drop(client);
        // Not as fast as can be: the ports of this machine are for all tests.
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn prometheus_reads_both_formats_and_the_books_balance() {
    if !is_installed("prometheus") {
        return;
    }
    let (service, metrics) = (tcp_listener("127.0.0.1:0", 64), tcp_listener("127.0.0.1:0", 64));
    let (to, metrics_at) = (service.local_addr().unwrap(), metrics.local_addr().unwrap());
    let options = ["--max-connections", "2", "--when-full", "wait", "--max-waiting", "1", "--max-wait", "60s"];
    let _daemon = sockcap(&options).pass(service).pass(metrics).names("service:metrics").start();
    let prometheus = Prometheus::start(&[("open", metrics_at), ("text", as_text(metrics_at))]);
    prometheus.until("up", |up| up == 1.0);

    let (is_over, came) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| churn(to, &is_over, &came));
        }
        let _over = Over(&is_over);
        // Five scrapes that differ from the ones before.
        prometheus.until("changes(sockcap_connections_accepted_total{listener=\"service\"}[5m])", |times| times >= 5.0);
    });
    let mut last = connect(to);
    echoes(&mut last);
    let came = came.load(Ordering::Relaxed) as f64 + 1.0;

    prometheus.until("sum by (job) (sockcap_connections_accepted_total)", |accepted| accepted == came);
    prometheus.until("sum by (job) (sockcap_connections_active)", |active| active == 1.0);
    prometheus.until("sum by (job) (sockcap_connections_refused_total)", |refused| refused > 0.0);
    prometheus.until("sum by (job) (sockcap_connections_limit{limit=\"total\"})", |limit| limit == 2.0);
    prometheus.until("sum by (job) (sockcap_wait_limit_seconds)", |limit| limit == 60.0);
    // Every scrape that there was, one by one.
    let always = format!("max_over_time(abs({BOOKS})[5m:50ms])");
    prometheus.until(&always, |missing| missing == 0.0);
}
