//! The limit as rsync's users and the administrator see it: exact, told in rsync's own words, written down once per refusal,
//! and no load takes the socket down.

use super::client::{Client, Transfer, Waiting, refusal, rsync, rsync_ok};
use super::journal::{Journal, REFUSED_MORE, STOPPING, TOTAL_LIMIT, WAITED_TOO_LONG};
use super::rig::{FUSE, Rig, SERVICE, until};
use std::io::Read as _;
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// N clients are served, real ones and bare ones; N+1 is refused; one leaves, the next is served.
pub fn the_cap_is_exact_and_says_so(rig: &Rig) {
    rig.edit("Environment=SOCKCAP_MAX_CONNECTIONS=3\nEnvironment=SOCKCAP_WHEN_FULL=refuse");
    let real = Transfer::begin(rig);
    let bare = [Client::served(rig), Client::served(rig)];
    rig.until_status("3/3 active, 0 waiting, 0 refused");

    let out = rsync(rig, &["rsync://127.0.0.1/files/"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(5), "{out:?}");
    assert!(said.contains("@ERROR: max connections (3) reached -- try again later"), "{said}");
    assert_eq!(Client::to_rsync(rig).rest(), refusal(3));
    rig.until_status("3/3 active, 0 waiting, 2 refused");

    // A bare client's place is free again, and just that one.
    let [gone, held] = bare;
    drop(gone);
    rig.until_status("2/3 active");
    assert!(rsync_ok(rig, &["rsync://127.0.0.1/files/"]).contains("one"));
    rig.until_served("2/3 active", 2);
    let third = Client::served(rig);
    assert_eq!(Client::to_rsync(rig).rest(), refusal(3));
    held.finish_with_a_list();
    third.finish_with_a_list();

    // And so is that of a real one which was killed.
    rig.until_status("1/3 active");
    drop(real);
    rig.until_status("0/3 active, 0 waiting, 3 refused");
    rig.assert_unharmed();
}

pub fn the_journal_entry_has_every_field(rig: &Rig) {
    rig.edit("Environment=SOCKCAP_MAX_CONNECTIONS=2\nEnvironment=SOCKCAP_WHEN_FULL=refuse");
    let held = [Client::served(rig), Client::served(rig)];
    let journal = Journal::of_daemon(rig, &format!("MESSAGE_ID={TOTAL_LIMIT}"));

    let mut refused = Client::to_rsync(rig);
    let port = refused.port().to_string();
    assert_eq!(refused.rest(), refusal(2));
    let entry = journal.next();
    let wanted = [
        ("MESSAGE", format!("rejected connection: at capacity (2/2): 127.0.0.1 port {port} on 'rsync'")),
        ("PRIORITY", "4".into()),
        ("MESSAGE_ID", TOTAL_LIMIT.into()),
        ("SYSLOG_IDENTIFIER", "sockcap".into()),
        ("SOCKCAP_REASON", "total-limit".into()),
        ("SOCKCAP_LISTENER", "rsync".into()),
        ("SOCKCAP_PEER", format!("127.0.0.1 port {port}")),
        ("SOCKCAP_PEER_ADDR", "127.0.0.1".into()),
        ("SOCKCAP_PEER_PORT", port),
        ("SOCKCAP_ACTIVE", "2".into()),
        ("SOCKCAP_MAX", "2".into()),
        ("SOCKCAP_WAITING", "0".into()),
        ("SOCKCAP_REFUSED_TOTAL", "1".into()),
        ("_SYSTEMD_UNIT", SERVICE.into()),
        ("_TRANSPORT", "journal".into()),
    ];
    for (field, value) in wanted {
        assert_eq!(entry.get(field), value, "{field}");
    }
    entry.get("SOCKCAP_QUEUE_DEPTH").parse::<u32>().expect("a number");
    let wait: u64 = entry.get("SOCKCAP_WAIT_USEC").parse().expect("a number");
    assert!(u128::from(wait) < FUSE.as_micros(), "waited {wait} us");

    // The next one counts on, and shows an IPv6 peer as such.
    let mut refused = Client::to(rig, Ipv6Addr::LOCALHOST, 873);
    let port = refused.port();
    assert_eq!(refused.rest(), refusal(2));
    let entry = journal.next();
    assert_eq!(entry.get("SOCKCAP_REFUSED_TOTAL"), "2");
    assert_eq!(entry.get("SOCKCAP_PEER_ADDR"), "::1");
    assert_eq!(entry.get("SOCKCAP_PEER_PORT"), port.to_string());
    assert_eq!(entry.get("SOCKCAP_PEER"), format!("::1 port {port}"));

    // Those that have none are summed up, and whose they are.
    let journal = Journal::of_daemon(rig, &format!("MESSAGE_ID={REFUSED_MORE}"));
    for _ in 0..10 {
        assert_eq!(Client::to_rsync(rig).rest(), refusal(2));
    }
    held.into_iter().for_each(Client::finish_with_a_list);
    rig.ok(&format!("systemctl stop {SERVICE}"));
    let entry = journal.next();
    let count = entry.get("SOCKCAP_COUNT");
    assert!(
        entry.message().ends_with(&format!(" s: at capacity; most from 127.0.0.1 ({count})")),
        "{}",
        entry.message()
    );
    assert_eq!(entry.get("SOCKCAP_TOP_SOURCES"), format!("127.0.0.1={count}"));
    assert_eq!(entry.get("SOCKCAP_REASON"), "total-limit");
}

/// A place that becomes free goes to the longest waiting, and nobody is refused.
pub fn waiting_clients_are_served_in_turn(rig: &Rig) {
    // No ping before the fuse: the status must be brought up to date for its own sake.
    rig.edit("Environment=SOCKCAP_MAX_CONNECTIONS=1\nWatchdogSec=1min");
    let mut held = Client::served(rig);
    let waiting = [(); 3].map(|()| Client::to_rsync(rig));
    for mut next in waiting {
        held.finish_with_a_list();
        next.await_greeting();
        held = next;
    }
    held.finish_with_a_list();
    rig.until_status("0/1 active, 0 waiting, 0 refused");
    rig.assert_unharmed();
}

/// A real client over the limit says nothing until a transfer ends, and is served then. The status counts it meanwhile.
pub fn a_real_client_waits_for_its_turn(rig: &Rig) {
    rig.edit("Environment=SOCKCAP_MAX_CONNECTIONS=1");
    let transfer = Transfer::begin(rig);
    let mut waiting = [(); 2].map(|()| Waiting::begin(rig));
    rig.until_status("1/1 active, 2 waiting (longest ");
    until("a second of waiting", || {
        let text = rig.show(SERVICE, "StatusText");
        let rest = text.strip_prefix("1/1 active, 2 waiting (longest ")?;
        let (seconds, _) = rest.split_once(" s), 0 refused, ").unwrap_or_else(|| panic!("{text:?}"));
        (seconds.parse::<u64>().expect("a number") >= 1).then_some(())
    });
    assert!(waiting.iter_mut().all(Waiting::waits));
    drop(transfer);
    for waiting in waiting {
        let out = waiting.outcome();
        assert!(out.status.success(), "{out:?}");
        assert!(String::from_utf8_lossy(&out.stdout).contains("one"), "{out:?}");
    }
    rig.until_status("0/1 active, 0 waiting, 0 refused");
    rig.assert_unharmed();
}

/// A real client that waits in vain hears what it would have heard at once, after its time and not before.
pub fn who_waits_in_vain_is_told(rig: &Rig) {
    rig.edit("Environment=SOCKCAP_MAX_CONNECTIONS=1\nEnvironment=SOCKCAP_MAX_WAIT=2s");
    let held = Client::served(rig);
    let journal = Journal::of_daemon(rig, &format!("MESSAGE_ID={WAITED_TOO_LONG}"));
    let start = Instant::now();
    let out = rsync(rig, &["rsync://127.0.0.1/files/"]);
    let took = start.elapsed();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(5), "{out:?}");
    assert!(said.contains("@ERROR: max connections (1) reached -- try again later"), "{said}");
    // Less what a turn of the daemon may have lasted that began before the client came.
    assert!(took >= Duration::from_millis(1500), "told after {took:?}");

    let entry = journal.next();
    let wanted = [
        ("PRIORITY", "4"),
        ("SOCKCAP_REASON", "waited-too-long"),
        ("SOCKCAP_LISTENER", "rsync"),
        ("SOCKCAP_ACTIVE", "1"),
        ("SOCKCAP_MAX", "1"),
        ("SOCKCAP_WAITING", "1"),
        ("SOCKCAP_REFUSED_TOTAL", "1"),
        ("SOCKCAP_PEER_ADDR", "127.0.0.1"),
    ];
    for (field, value) in wanted {
        assert_eq!(entry.get(field), value, "{field}");
    }
    let wait: u64 = entry.get("SOCKCAP_WAIT_USEC").parse().expect("a number");
    assert!(wait >= 2_000_000 && u128::from(wait) <= took.as_micros() + 10_000, "waited {wait} us of {took:?}");
    let words =
        format!("rejected connection: waited too long ({:.1} s, 1/1 running): 127.0.0.1 port ", wait as f64 / 1e6);
    assert!(entry.message().starts_with(&words), "{}", entry.message());
    assert!(entry.message().ends_with(" on 'rsync'"), "{}", entry.message());
    rig.until_status("1/1 active, 0 waiting, 1 refused");
    held.finish_with_a_list();
    rig.assert_unharmed();
}

/// A stop tells who waits, while the transfers may still finish.
pub fn a_stop_tells_who_waits(rig: &Rig) {
    rig.edit("Environment=SOCKCAP_MAX_CONNECTIONS=1");
    let held = Client::served(rig);
    let waiting = Waiting::begin(rig);
    rig.until_status("1/1 active, 1 waiting (longest ");
    let journal = Journal::of_daemon(rig, &format!("MESSAGE_ID={STOPPING}"));
    rig.ok(&format!("systemctl stop --no-block {SERVICE}"));
    let out = waiting.outcome();
    assert_eq!(out.status.code(), Some(5), "{out:?}");
    let entry = journal.next();
    assert_eq!(entry.get("SOCKCAP_REASON"), "stopping");
    assert!(entry.message().starts_with("rejected connection: the service is stopping: 127.0.0.1 port "));
    assert!(entry.get("SOCKCAP_WAIT_USEC").parse::<u64>().is_ok_and(|wait| wait > 0));
    held.finish_with_a_list();
    rig.until_state(SERVICE, "inactive");
    assert_eq!(rig.show(SERVICE, "Result"), "success");
}

/// More than five times the number that fails an Accept=yes socket for good; the first hits the service not yet started.
pub fn a_thousand_quick_connections_leave_the_socket_up(rig: &Rig) {
    const CLIENTS: usize = 8;
    const EACH: usize = 125;
    rig.edit("Environment=SOCKCAP_MAX_CONNECTIONS=4\nEnvironment=SOCKCAP_WHEN_FULL=refuse");
    let start = Instant::now();
    rig.inside(|| {
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                scope.spawn(move || {
                    for n in 0..EACH {
                        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, 873)).expect("connect");
                        stream.set_read_timeout(Some(FUSE)).expect("a timeout");
                        // Half of them leave at once, half take the first bytes: a greeting in both outcomes.
                        if (client + n) % 2 == 0 {
                            let mut first = [0; 9];
                            stream.read_exact(&mut first).expect("a greeting or a refusal");
                            assert_eq!(&first, b"@RSYNCD: ");
                        }
                    }
                });
            }
        });
    });
    rig.until_status("0/4 active");
    rig.assert_unharmed();
    rsync_ok(rig, &["rsync://127.0.0.1/files/"]);

    // Each has one end, and the journal was not flooded: five lines and a summary per ten seconds.
    let journal = Journal::of_daemon(rig, "");
    rig.ok(&format!("systemctl stop {SERVICE}"));
    let mut lines = 0;
    let last = journal.until(|entry| {
        let message = entry.message();
        lines += usize::from(message.starts_with("rejected ") || message.starts_with("refused "));
        entry.message().starts_with("stopped: ")
    });
    let counts = last.message().split(';').next().unwrap();
    let numbers: Vec<usize> = counts.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    let [accepted, ends @ ..] = &numbers[..] else { panic!("no numbers: {}", last.message()) };
    assert_eq!(*accepted, CLIENTS * EACH + 1, "{}", last.message());
    assert_eq!(*accepted, ends.iter().sum::<usize>(), "{}", last.message());
    let intervals = start.elapsed().as_secs() as usize / 10 + 2;
    assert!(lines <= 6 * intervals, "{lines} lines about refusals in {intervals} intervals");
}
