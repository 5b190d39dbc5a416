//! A real socket, and a reader that reads when it is told to.
#![forbid(unsafe_code)]

use super::*;
use crate::policy::grounds::Figures;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// A manager that reads when it is told to.
struct Reader(UnixDatagram, String);

impl Reader {
    fn new() -> Reader {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sockcap-notify-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        Reader(socket, format!("@{name}"))
    }

    fn notify(&self, watchdog: Option<Duration>, now: Instant) -> Notify {
        Notify::new(Some(self.1.as_ref()), watchdog, now)
    }

    /// Fills the queue with messages of somebody else's.
    fn fill(&self) {
        let other = Manager::new(self.1.as_ref()).unwrap();
        while other.send("other\n", None, None).is_ok() {}
    }

    /// All messages that are ours, without their line ends.
    fn read(&self) -> Vec<String> {
        let mut buffer = [0; 256];
        let all = std::iter::from_fn(|| {
            let length = self.0.recv(&mut buffer).ok()?;
            Some(buffer[..length].to_vec())
        });
        let all = all.map(|bytes| String::from_utf8(bytes).unwrap().trim_end().to_owned());
        all.filter(|text| text != "other").collect()
    }
}

fn status(active: u32) -> Status {
    Status { active, max: 10, ..Status::default() }
}

fn refused(counts: &[(&str, u64)]) -> [u64; Reason::ALL.len()] {
    let of = |reason: Reason| counts.iter().find(|(slug, _)| *slug == reason.slug());
    Reason::ALL.map(|reason| of(reason).map_or(0, |(_, count)| *count))
}

#[test]
fn the_status_line() {
    let full = Status {
        active: 3,
        max: 10,
        waiting: 2,
        longest: Some(7),
        refused: refused(&[("total-limit", 15), ("waited-too-long", 2)]),
        served: 1234,
        closed: None,
        is_drained: false,
        stopping: None,
    };
    let text = "3/10 active, 2 waiting (longest 7 s), 17 refused (15 at capacity, 2 waited too long), 1234 served";
    assert_eq!(full.text(), text);
    assert_eq!(Status { is_drained: true, ..full }.text(), format!("drained: {text}"));
    assert_eq!(Status { stopping: Some(9), ..full }.text(), "stopping: 3 active, killed in at most 9 s");
    assert_eq!(status(0).text(), "0/10 active, 0 waiting, 0 refused, 0 served");
    let failed = Status { refused: refused(&[("start-failed", 2)]), ..status(0) };
    assert_eq!(failed.text(), "0/10 active, 0 waiting, 0 refused, 0 served, 2 failed to start");
}

/// The most frequent reasons first, three at most, and fewer if the line would not fit.
#[test]
fn the_reasons_in_the_status_line() {
    let counts = [("rate", 4), ("queue-full", 1), ("load", 9), ("drained", 5), ("start-failed", 99)];
    let some = Status { refused: refused(&counts), ..status(1) };
    let text = "1/10 active, 0 waiting, 19 refused (9 load too high, 5 while drained, 4 over the rate limit), 0 served";
    assert_eq!(some.text(), format!("{text}, 99 failed to start"));
    let all = Reason::ALL.map(|_| 1_000_000_000);
    for number in [0, 1, 1000, u32::MAX] {
        let status = Status { active: number, max: number, waiting: number, refused: all, ..Status::default() };
        assert!(status.text().len() <= WIDTH && status.text().contains(" refused ("), "{}", status.text());
    }
    let load = Reason::ALL.into_iter().find(|reason| reason.slug() == "load").unwrap();
    let why = Refusal::of(load, Figures::Level { is: 1e60, below: 1e60, active: 1 });
    let long = Status { closed: Some(why), ..some }.text();
    assert!(long.starts_with("1/10 active, 0 waiting, 19 refused, 0 served, 99 failed to start; not "), "{long}");
}

#[test]
fn what_the_manager_did_not_take_is_kept_in_order() {
    let (reader, now) = (Reader::new(), Instant::now());
    let mut notify = reader.notify(None, now);
    reader.fill();
    notify.forget(now, "sockcap-state");
    notify.ready(now);
    notify.extend_timeout(now, Duration::from_secs(1));
    notify.stopping(now);
    notify.extend_timeout(now, Duration::from_secs(2));
    let again = notify.deadline().expect("it is tried again");
    assert!(again > now && again <= now + RETRY);
    notify.on_time(again);
    assert!(notify.deadline().expect("and again") > again);
    assert_eq!(reader.read(), [""; 0]);
    notify.on_time(notify.deadline().unwrap());
    let expected = ["FDSTOREREMOVE=1\nFDNAME=sockcap-state", "READY=1", "STOPPING=1", "EXTEND_TIMEOUT_USEC=2000000"];
    assert_eq!(reader.read(), expected);
    assert_eq!(notify.deadline(), None);
}

#[test]
fn a_status_that_did_not_go_is_sent_later() {
    let (reader, now) = (Reader::new(), Instant::now());
    let mut notify = reader.notify(None, now);
    notify.status(now, status(0));
    assert!(notify.was_told(0, false, &Counters::default()));
    reader.read();
    reader.fill();
    let next = notify.status_deadline().unwrap();
    notify.status(next, status(1));
    assert!(!notify.was_told(1, false, &Counters::default()), "it did not go");
    assert!(!notify.status_is_due(next) && notify.status_deadline() == Some(next + STATUS_INTERVAL));
    reader.read();
    let next = notify.status_deadline().unwrap();
    notify.status(next, status(1));
    assert!(notify.was_told(1, false, &Counters::default()));
    assert_eq!(reader.read(), ["STATUS=1/10 active, 0 waiting, 0 refused, 0 served"]);
    assert!(!notify.was_told(1, true, &Counters::default()), "it was not drained");
    for reason in Reason::ALL {
        let mut counters = Counters::default();
        counters.total.refused[reason.index()] = 1;
        assert!(!notify.was_told(1, false, &counters), "{reason:?}");
    }
}

/// After a take-over there may be no event for long; and the first event's is not held back by it.
#[test]
fn the_first_status_and_the_next_are_sent_at_once() {
    let (reader, now) = (Reader::new(), Instant::now());
    let mut notify = reader.notify(None, now);
    notify.ready(now);
    notify.first_status(now, status(0));
    assert!(notify.status_is_due(now) && notify.status_deadline() == Some(now + STATUS_INTERVAL));
    notify.status(now, status(1));
    assert!(!notify.status_is_due(now));
    let [first, next] = [0, 1].map(|active| format!("STATUS={}", status(active).text()));
    assert_eq!(reader.read(), ["READY=1", &first, &next]);
}

/// Or the loop would not sleep until there is another.
#[test]
fn a_status_that_is_not_new_is_looked_at_a_second_later() {
    let (reader, now) = (Reader::new(), Instant::now());
    let mut notify = reader.notify(None, now);
    assert_eq!(notify.status_deadline(), None);
    notify.status(now, status(0));
    let later = now + 10 * STATUS_INTERVAL;
    notify.status(later, status(0));
    assert_eq!(notify.status_deadline(), Some(later + STATUS_INTERVAL));
    assert!(notify.status_is_due(later), "a new one need not wait");
}

/// What is older goes first, also when the status finds room before it was to be tried again.
#[test]
fn a_status_does_not_overtake() {
    let (reader, now) = (Reader::new(), Instant::now());
    let mut notify = reader.notify(None, now);
    reader.fill();
    notify.ready(now);
    notify.status(now, status(0));
    reader.read();
    notify.status(now + STATUS_INTERVAL, status(0));
    assert_eq!(reader.read(), ["READY=1", "STATUS=0/10 active, 0 waiting, 0 refused, 0 served"]);
}

#[test]
fn a_watchdog_that_was_not_fed_is_fed_within_a_fraction_of_its_period() {
    for period in [Duration::from_secs(30), Duration::from_millis(40)] {
        let (reader, now) = (Reader::new(), Instant::now());
        let mut notify = reader.notify(Some(period), now);
        let due = notify.deadline().expect("a watchdog");
        assert_eq!(due, now + period / 2);
        reader.fill();
        notify.on_time(due);
        let again = notify.deadline().unwrap();
        assert!(again > due && again <= due + period / 8, "{:?} of {period:?}", again - due);
        reader.read();
        notify.on_time(again);
        assert_eq!(reader.read(), ["WATCHDOG=1"]);
        assert_eq!(notify.deadline(), Some(again + period / 2));
    }
}

/// A manager that reads late has all; one that never reads costs a bounded time for all together.
#[test]
fn descriptors_are_stored_or_given_up_in_bounded_time() {
    let fd = File::open("/dev/null").unwrap();
    let reader = Reader::new();
    let mut notify = reader.notify(None, Instant::now());
    reader.fill();
    notify.forget(Instant::now(), "a");
    let (until, late) =
        (Instant::now() + Duration::from_secs(60), Reader(reader.0.try_clone().unwrap(), String::new()));
    let reads = thread::spawn(move || late.read());
    notify.store("a", fd.as_fd(), until).unwrap();
    let all = [reads.join().unwrap(), reader.read()].concat();
    assert_eq!(all, ["FDSTOREREMOVE=1\nFDNAME=a", "FDSTORE=1\nFDNAME=a"]);

    reader.fill();
    let until = Instant::now() + Duration::from_millis(200);
    for _ in 0..100 {
        let error = notify.store("b", fd.as_fd(), until).expect_err("nobody reads");
        assert_eq!(error.to_string(), "the service manager did not read its socket for 3 s");
    }
    assert!(Instant::now() < until + Duration::from_secs(10), "each had a time limit of its own");
}

#[test]
fn nothing_is_kept_for_nobody() {
    let now = Instant::now();
    let mut notify = Notify::new(Some("@sockcap-nobody-is-here".as_ref()), None, now);
    notify.ready(now);
    notify.status(now, status(1));
    assert!(notify.is_enabled() && notify.was_told(1, false, &Counters::default()));
    assert_eq!(notify.deadline(), None);
    let mut notify = Notify::new(None, None, now);
    notify.stopping(now);
    assert!(!notify.is_enabled() && !notify.status_is_due(now));
    assert_eq!(notify.deadline(), None);
}
