//! A fleet: three sockcaps behind a real HAProxy, with the configuration of examples/fleet. The sum of their caps is the fleet's cap, and
//! the queue is HAProxy's.

use crate::common::*;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Condvar, Mutex};
use std::thread;

use nix::poll::PollFlags;
use nix::sys::signal::Signal;

const NAMES: [char; 3] = ['A', 'B', 'C'];
const CAPS: [usize; 3] = [1, 2, 3];
/// Writes down that it runs, says who it is, and goes when it is told to, which it writes down, too.
const COMMAND: &str = r#"echo "+$1" >>"$2"; echo "$1"; read -r go; echo "-$1" >>"$2""#;

/// Killed and waited for with the test.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Fleet {
    // In this order, so that the members end first.
    members: Vec<Daemon>,
    _proxy: Proxy,
    front: SocketAddr,
    dir: TempDir,
}

impl Fleet {
    /// `None`, and said so, where there is no HAProxy.
    fn start(what: &str) -> Option<Fleet> {
        let Some(haproxy) = haproxy() else {
            skip(what, "haproxy is not installed");
            return None;
        };
        let dir = TempDir::new();
        let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/fleet/haproxy.cfg")).unwrap();
        let mut text = text
            .replace("/run/haproxy/admin.sock mode 660", &dir.join("admin"))
            .replace("bind :873", "bind fd@0")
            .replace("inter 1s", "inter 50ms")
            // sockcap awaits a header for 2 s, by which a busy machine may be late. tests/serve/proxy.rs has HAProxy's headers.
            .replace("default-server send-proxy-v2", "");
        let mut members = Vec::new();
        for (nth, (name, cap)) in NAMES.into_iter().zip(CAPS).enumerate() {
            let sockets = [(); 2].map(|()| tcp_listener("127.0.0.1:0", 128));
            let [work, ask] = sockets.each_ref().map(|socket| socket.local_addr().expect("an address"));
            let example = format!("server {} 192.0.2.{}:873", name.to_lowercase(), 11 + nth);
            assert!(text.contains(&example), "{text}");
            text = text.replace(&example, &format!("{example} agent-port {} port {}", ask.port(), ask.port()));
            text = text.replace(&format!("192.0.2.{}:873", 11 + nth), &work.to_string());
            let options = ["--when-full", "wait", "--max-wait", "60s", "--max-connections"];
            let log = dir.join("log");
            let start = sockcap(&options).args(&[cap.to_string(), "--control".into(), dir.join(&name.to_string())]);
            let start = sockets.into_iter().fold(start, Start::pass).names("work:agent-check");
            members.push(start.run(&["/bin/sh", "-c", COMMAND, "sh", &name.to_string(), &log]).start());
        }
        let config = dir.join("haproxy.cfg");
        fs::write(&config, text).expect("write");
        let front = tcp_listener("127.0.0.1:0", 128);
        let at = front.local_addr().expect("an address");
        let mut proxy = Command::new(haproxy);
        let proxy = proxy.args(["-db", "-f", &config]).stdin(OwnedFd::from(front)).stderr(Stdio::null());
        let proxy = Proxy(proxy.spawn().expect("haproxy"));
        let fleet = Fleet { members, _proxy: proxy, front: at, dir };
        fleet.until_told(CAPS);
        Some(fleet)
    }

    /// One field of HAProxy's statistics, of a server, or of BACKEND, which has the queue.
    fn stat(&self, of: &str, field: &str) -> String {
        let Ok(mut admin) = UnixStream::connect(self.dir.join("admin")) else { return String::new() };
        admin.set_read_timeout(Some(FUSE)).expect("timeout");
        admin.write_all(b"show stat\n").expect("ask");
        let text = to_end(admin);
        let mut lines = text.trim_start_matches("# ").lines().map(|line| line.split(',').collect::<Vec<_>>());
        let at = lines.next().and_then(|names| names.iter().position(|name| *name == field)).expect("a field");
        let of = lines.find(|line| line[..] != [""] && line[1] == of).unwrap_or_else(|| panic!("no {of} in {text}"));
        of[at].to_owned()
    }

    /// Waits until HAProxy knows these caps.
    #[track_caller]
    fn until_told(&self, caps: [usize; 3]) {
        for (server, cap) in ["a", "b", "c"].into_iter().zip(caps) {
            until(&format!("{server} has told {cap}"), || self.stat(server, "slim") == cap.to_string());
        }
    }

    /// Waits until so many clients are in HAProxy's queue.
    #[track_caller]
    fn until_queued(&self, clients: usize) {
        until(&format!("{clients} in the queue"), || self.stat("BACKEND", "qcur") == clients.to_string());
    }

    fn come(&self) -> Client {
        Client(connect(self.front))
    }

    /// Asks a member by its control socket.
    #[track_caller]
    fn ask(&self, member: char, method: &str, parameters: Value) {
        Control::connect(Path::new(&self.dir.join(&member.to_string()))).call(method, parameters);
    }

    /// Changes a member's cap, as an administrator does.
    #[track_caller]
    fn set(&self, member: char, cap: usize) {
        let mut set = Command::new(ctl_binary());
        let set = set.args(["set", &self.dir.join(&member.to_string()), &format!("max-connections={cap}")]).output();
        let set = set.expect("sockcapctl");
        assert!(set.status.success(), "{set:?}");
    }

    /// Notes that a member may run no more than so many from now on.
    fn note(&self, member: char, cap: usize) {
        let log = OpenOptions::new().append(true).create(true).open(self.dir.join("log"));
        log.and_then(|mut log| log.write_all(format!("={member}{cap}\n").as_bytes())).expect("write");
    }

    /// How many commands a member has started.
    fn starts(&self, member: char) -> usize {
        let log = fs::read_to_string(self.dir.join("log")).expect("the log");
        log.lines().filter(|line| *line == format!("+{member}")).count()
    }

    /// How many were served. At no time were there more than the members' caps allowed.
    fn served(&self) -> usize {
        let (mut caps, mut running, mut served) = (CAPS, [0; 3], 0);
        for line in fs::read_to_string(self.dir.join("log")).expect("the log").lines() {
            let who = NAMES.iter().position(|name| line[1..].starts_with(*name)).expect("a member");
            match line.split_at(1).0 {
                "+" => {
                    running[who] += 1;
                    served += 1;
                }
                "-" => running[who] -= 1,
                _ => caps[who] = line[2..].parse().expect("a cap"),
            }
            assert!(running[who] <= caps[who], "{running:?} run, of at most {caps:?}");
        }
        served
    }

    /// Everybody was served, none refused, and the books of each member agree.
    fn end(mut self, clients: usize) {
        assert_eq!(self.served(), clients);
        for member in &mut self.members {
            let totals = member.stop();
            assert_eq!((totals.refused, totals.failed), (0, 0), "{totals:?}");
        }
    }
}

struct Client(TcpStream);

impl Client {
    /// Waits until it is served, and tells by whom.
    #[track_caller]
    fn served(&mut self) -> char {
        match line(&mut self.0).chars().collect::<Vec<_>>()[..] {
            [name] if NAMES.contains(&name) => name,
            ref other => panic!("not served but told {other:?}"),
        }
    }

    /// Its command ends.
    #[track_caller]
    fn leave(mut self) {
        self.0.write_all(b"go\n").expect("write");
        assert_eq!(to_end(self.0), "");
    }
}

/// So many clients that are all being served, and by whom.
#[track_caller]
fn fill(fleet: &Fleet, clients: usize) -> Vec<(char, Client)> {
    let mut all: Vec<Client> = (0..clients).map(|_| fleet.come()).collect();
    all.drain(..).map(|mut client| (client.served(), client)).collect()
}

fn count(all: &[(char, Client)], member: char) -> usize {
    all.iter().filter(|(by, _)| *by == member).count()
}

#[test]
fn the_queue_of_a_fleet_is_in_order() {
    let Some(fleet) = Fleet::start("a fleet in order") else { return };
    let mut running: VecDeque<Client> = fill(&fleet, 6).into_iter().map(|(_, client)| client).collect();
    let mut waiting = VecDeque::new();
    for nth in 1..=20 {
        waiting.push_back(fleet.come());
        fleet.until_queued(nth);
    }
    while let Some(mut next) = waiting.pop_front() {
        running.pop_front().expect("one that runs").leave();
        // Whoever came later has no slot to be served in.
        next.served();
        running.push_back(next);
    }
    running.into_iter().for_each(Client::leave);
    fleet.end(26);
}

/// One is drained and comes back, and the cap of another is changed; nobody who is served notices.
#[test]
fn members_leave_return_and_change() {
    let Some(fleet) = Fleet::start("a fleet that changes") else { return };
    let mut all = fill(&fleet, 6);
    assert_eq!(NAMES.map(|name| count(&all, name)), CAPS);

    fleet.ask('B', "Drain", json!({}));
    until("B is drained", || fleet.stat("b", "status").starts_with("DRAIN"));
    let (of_b, others) = all.into_iter().partition(|(by, _)| *by == 'B');
    all = others;
    let leaving: Vec<(char, Client)> = of_b;
    leaving.into_iter().for_each(|(_, client)| client.leave());
    let mut waiting = [fleet.come(), fleet.come()];
    fleet.until_queued(2);
    assert!(waiting.iter().all(|client| !ready(&client.0, PollFlags::POLLIN, QUIET)), "served by whom?");
    fleet.ask('B', "Resume", json!({}));
    assert_eq!(waiting.each_mut().map(Client::served), ['B', 'B']);
    all.extend(waiting.map(|client| ('B', client)));

    let mut waiting = [fleet.come(), fleet.come(), fleet.come()];
    fleet.until_queued(3);
    fleet.note('A', 4);
    fleet.set('A', 4);
    assert_eq!(waiting.each_mut().map(Client::served), ['A', 'A', 'A']);
    all.extend(waiting.map(|client| ('A', client)));

    // A cap that is lowered ends nobody.
    fleet.set('C', 1);
    fleet.until_told([4, 2, 1]);
    let mut last = fleet.come();
    fleet.until_queued(1);
    for _ in 0..2 {
        let of_c = all.iter().position(|(by, _)| *by == 'C').expect("three");
        all.remove(of_c).1.leave();
    }
    fleet.note('C', 1);
    fleet.until_queued(1);
    let of_c = all.iter().position(|(by, _)| *by == 'C').expect("one is left");
    all.remove(of_c).1.leave();
    assert_eq!(last.served(), 'C');
    last.leave();
    all.into_iter().for_each(|(_, client)| client.leave());
    fleet.end(12);
}

/// What the clients of C do when they have been served.
#[derive(Default)]
struct Crowd {
    /// Whether they stay, and how many do.
    staying: Mutex<(bool, usize)>,
    changed: Condvar,
    /// Nobody comes any more.
    is_over: AtomicBool,
}

impl Crowd {
    /// Returns when it may leave.
    fn leaves(&self) {
        let mut staying = self.staying.lock().unwrap();
        staying.1 += 1;
        self.changed.notify_all();
        staying = self.changed.wait_while(staying, |staying| staying.0).unwrap();
        staying.1 -= 1;
    }

    /// Returns when so many are served and stay.
    #[track_caller]
    fn stays(&self, clients: usize) {
        let mut staying = self.staying.lock().unwrap();
        staying.0 = true;
        let waited = self.changed.wait_timeout_while(staying, FUSE, |staying| staying.1 < clients).unwrap();
        let seen = waited.0.1;
        drop(waited);
        assert_eq!(seen, clients, "so many are served");
    }

    fn goes(&self) {
        self.staying.lock().unwrap().0 = false;
        self.changed.notify_all();
    }
}

/// Whatever happens, the crowd goes in the end.
struct End<'a>(&'a Crowd);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
        self.0.goes();
    }
}

/// A thousand clients and more, at most `CROWD` of them at once, while members are drained, changed and killed.
#[test]
fn a_thousand_clients_of_a_fleet() {
    const CLIENTS: usize = 1000;
    const CROWD: usize = 32;
    let Some(mut fleet) = Fleet::start("a thousand clients of a fleet") else { return };
    let (crowd, clients) = (Crowd::default(), AtomicUsize::new(0));
    let (send, served) = channel();
    let killed = fleet.members.pop().expect("C");
    thread::scope(|scope| {
        for _ in 0..CROWD {
            let (front, crowd, clients, send) = (fleet.front, &crowd, &clients, send.clone());
            scope.spawn(move || {
                while clients.load(Ordering::Relaxed) < CLIENTS || !crowd.is_over.load(Ordering::Relaxed) {
                    clients.fetch_add(1, Ordering::Relaxed);
                    let mut client = Client(connect(front));
                    let by = client.served();
                    if by == 'C' {
                        crowd.leaves();
                    }
                    client.leave();
                    let _ = send.send(by);
                }
            });
        }
        drop(send);
        let _end = End(&crowd);
        let mut by = [0; 3];
        let mut next = || {
            let who = served.recv_timeout(FUSE).expect("the next that was served");
            by[NAMES.iter().position(|name| *name == who).unwrap()] += 1;
            by
        };
        let mut until_more = |who: usize| {
            let now = next()[who];
            while next()[who] < now + 10 {}
        };
        (0..3).for_each(&mut until_more);

        fleet.ask('B', "Drain", json!({}));
        until("B is drained", || fleet.stat("b", "status").starts_with("DRAIN") && fleet.stat("b", "scur") == "0");
        let of_b = fleet.starts('B');
        until_more(0);
        assert_eq!(fleet.starts('B'), of_b);
        fleet.ask('B', "Resume", json!({}));
        until_more(1);

        fleet.note('A', 4);
        fleet.set('A', 4);
        fleet.until_told([4, 2, 3]);
        until_more(0);

        // When C has as many as HAProxy gives it, and none of them goes, nobody is on the way to it.
        crowd.stays(3);
        let pidfd = pidfd(killed.pid());
        killed.signal(Signal::SIGKILL);
        assert!(ready(&pidfd, PollFlags::POLLIN, FUSE), "C is not dead");
        crowd.goes();
        until_more(0);
        until_more(1);
    });
    until("C is known to be down", || fleet.stat("c", "status").starts_with("DOWN"));
    fleet.end(clients.into_inner());
}
