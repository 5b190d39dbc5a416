//! Two versions after each other: what a daemon finds of one that left more than it knows, as after a downgrade. Nothing is lost
//! without a word, and nothing that is left keeps the service from starting.

use crate::common::*;
use nix::sys::signal::Signal;
use std::ffi::OsString;
use std::fs::File;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// A service that runs one command at once, and lets others wait.
struct Service {
    manager: Manager,
    folder: ControlFolder,
}

impl Service {
    fn new(what: &str, listener: &str) -> Option<Service> {
        let manager = Manager::new(what, &[listener])?;
        Some(Service { manager, folder: ControlFolder::new(&what.replace(' ', "-")) })
    }

    fn start(&mut self) -> Daemon {
        self.start_version(binary())
    }

    fn start_version(&mut self, program: OsString) -> Daemon {
        let control = format!("--control={}", self.folder.socket().display());
        let start = sockcap(&["--max-connections=1", "--when-full=wait", "--max-waiting=9", &control]);
        self.manager.start(start.program(program))
    }

    /// A client that is served, and so many that wait, in their order.
    fn clients(&self, held: u64) -> (TcpStream, Vec<TcpStream>) {
        let connect = || connect(self.manager.addr(0));
        let mut served = connect();
        echoes(&mut served);
        let mut control = Control::connect(&self.folder.socket());
        let holds = |count: u64| {
            let client = connect();
            control.until("one more is held", |runtime| runtime["held"] == count);
            client
        };
        (served, (1..=held).map(holds).collect())
    }

    /// What the previous daemon has written down.
    fn record(&self) -> File {
        let (_, state) = self.manager.store.iter().find(|(name, _)| name == "sockcap-state").expect("a state");
        state.try_clone().expect("dup").into()
    }

    /// Names of all that is stored.
    fn stored(&mut self) -> Vec<&str> {
        self.manager.catch_up();
        self.manager.store.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// Who runs is found all the same, who waits keeps the place, and it is said that counts begin anew.
#[test]
fn a_record_in_another_format() {
    for (signal, held) in [(Signal::SIGKILL, 0), (Signal::SIGUSR1, 1)] {
        let Some(mut service) = Service::new("another format", "web") else { return };
        let daemon = service.start();
        let (mut served, mut waiting) = service.clients(held);
        service.manager.end(daemon, signal);
        service.record().write_all_at(&u64::from_be_bytes(*b"sockcap9").to_ne_bytes(), 0).expect("write");
        let mut daemon = service.start();
        let line = daemon.wait_text("cannot read what the previous daemon has recorded: ");
        assert_eq!(line.priority, Some(4));
        daemon.wait_text("took over from the previous daemon: 1 command running, ");
        echoes(&mut served);
        if let Some(waiting) = waiting.first_mut() {
            drop(served);
            echoes(waiting);
        }
        service.manager.end(daemon, Signal::SIGKILL);
        assert_eq!(service.stored(), ["sockcap-state"], "it has a record of its own");
        let mut daemon = service.start();
        daemon.wait_text("took over from the previous daemon: 1 command running, 0 clients held");
        assert_eq!(daemon.count("cannot read what "), 0);
    }
}

/// A record in this format with a number that this version does not know: nothing is lost, and nothing has to be said.
#[test]
fn a_number_that_is_not_known() {
    let Some(mut service) = Service::new("unknown numbers", "web") else { return };
    let daemon = service.start();
    let (served, _) = service.clients(0);
    service.manager.end(daemon, Signal::SIGKILL);
    // In the last place for one: its key, and its value.
    let number = [u64::MAX - 17, 4711].map(u64::to_ne_bytes).concat();
    service.record().write_all_at(&number, 4 * (4096 - 4)).expect("write");
    let mut daemon = service.start();
    daemon.wait_text("took over from the previous daemon: 1 command running, ");
    assert!(daemon.log().iter().all(|line| line.priority == Some(5)), "{:?}", daemon.log());
    drop(served);
    let totals = daemon.stop();
    assert_eq!((totals.accepted, totals.served, totals.gone), (1, 1, 0));
}

/// It is let go, and not left hanging; the others keep their places.
#[test]
fn a_client_that_waits_in_another_way() {
    let Some(mut service) = Service::new("another way to wait", "web") else { return };
    let daemon = service.start();
    let (served, mut waiting) = service.clients(2);
    service.manager.end(daemon, Signal::SIGUSR1);
    let store = service.manager.store.iter_mut();
    let ticket = |name: &str| name.strip_prefix("sockcap-held-")?.split('-').next()?.parse::<u64>().ok();
    let first = store.filter(|(name, _)| ticket(name).is_some()).min_by_key(|(name, _)| ticket(name)).expect("held");
    first.0.push_str("-later");
    let mut daemon = service.start();
    let line =
        daemon.wait_text("closed 1 descriptor of the previous daemon that this version does not know: sockcap-held-");
    assert_eq!(line.priority, Some(4));
    daemon.wait_text("took over from the previous daemon: 1 command running, 1 client held");
    assert_eq!(service.stored(), ["sockcap-state"]);
    assert_eq!(to_end(waiting.remove(0)), "");
    drop(served);
    echoes(&mut waiting[0]);
    drop(waiting);
    let totals = daemon.stop();
    assert_eq!((totals.accepted, totals.served, totals.gone), (3, 2, 1));
}

/// Whatever it is, the service starts. A name is not enough: a listening socket is one.
#[test]
fn something_that_is_not_known() {
    let Some(mut service) = Service::new("something unknown", "sockcap-web") else { return };
    let daemon = service.start();
    service.manager.end(daemon, Signal::SIGUSR1);
    let file: OwnedFd = File::open("/dev/null").expect("open").into();
    service.manager.store.push(("sockcap-things".into(), file));
    let mut daemon = service.start();
    daemon.wait_text("closed 1 descriptor of the previous daemon that this version does not know: sockcap-things");
    let _served = service.clients(0);
    assert_eq!(service.stored(), ["sockcap-state"]);
}

/// From the version before to this one, back, and to this one again, by a restart and by a crash: commands and counts go on, and with a
/// restart clients that wait. `SOCKCAP_PREVIOUS_BIN` is that version's program; without it this one is both.
#[test]
fn from_one_version_to_the_other_and_back() {
    let previous = std::env::var_os("SOCKCAP_PREVIOUS_BIN").unwrap_or_else(binary);
    for (signal, held) in [(Signal::SIGUSR1, 1), (Signal::SIGKILL, 0)] {
        let Some(mut service) = Service::new("versions", "web") else { return };
        let mut daemon = service.start_version(previous.clone());
        let (served, mut waiting) = service.clients(held);
        for program in [binary(), previous.clone(), binary()] {
            service.manager.end(daemon, signal);
            daemon = service.start_version(program);
            daemon.wait_text("took over from the previous daemon: 1 command running, ");
            assert!(daemon.log().iter().all(|line| line.priority == Some(5)), "{:?}", daemon.log());
        }
        let runtime = Control::connect(&service.folder.socket()).runtime();
        assert_eq!(
            (&runtime["active"], &runtime["held"], &runtime["accepted"]),
            (&1.into(), &held.into(), &(1 + held).into())
        );
        drop(served);
        waiting.iter_mut().for_each(echoes);
    }
}
