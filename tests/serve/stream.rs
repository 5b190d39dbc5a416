//! `--stderr stream`: each line that a command writes to its standard error has the number of its connection.

use crate::common::*;
use nix::poll::PollFlags;
use nix::sys::signal::Signal;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// Writes what its client sends to its standard error; its client hears of its end.
const TEE: [&str; 3] = ["/bin/sh", "-c", "echo $$; exec cat >&2"];

/// A daemon whose log is the journal, and where it listens.
fn start(journal: &mut Journal, options: &[&str], command: &[&str]) -> (Daemon, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("an address");
    let args = [&["--stderr", "stream", "--log-target", "journal"], options].concat();
    let daemon = sockcap(&args).wrap(&journal.around()).pass(listener).names("web").run(command).spawn();
    journal.said("ready: ");
    (daemon, address)
}

/// The command's end comes after its last line was written.
#[track_caller]
fn sends(mut client: TcpStream, text: &[u8]) {
    client.write_all(text).expect("write");
    client.shutdown(std::net::Shutdown::Write).expect("shutdown");
    to_end(client);
}

#[test]
fn each_line_is_an_entry_of_its_connection() {
    let Some(mut journal) = Journal::new("lines of commands in the journal") else { return };
    let (mut daemon, address) = start(&mut journal, &[], &TEE);
    let mut one = connect_from("127.0.0.2:0", address);
    line(&mut one);
    let two = connect_from("127.0.0.3:0", address);
    let port = one.local_addr().expect("an address").port().to_string();
    sends(two, b"of two\n\n\xff\xfe\0<3>trouble\nno end");
    sends(one, b"of one\n");

    let of = |journal: &mut Journal, id: &str| journal.line_of(id);
    let first = of(&mut journal, "1");
    let fields = [
        ("MESSAGE", "of one"),
        ("PRIORITY", "6"),
        ("SYSLOG_IDENTIFIER", "sh"),
        ("SYSLOG_FACILITY", "3"),
        ("SOCKCAP_CONNECTION", "1"),
        ("SOCKCAP_LISTENER", "web"),
        ("SOCKCAP_PEER", &format!("127.0.0.2 port {port}")),
        ("SOCKCAP_PEER_ADDR", "127.0.0.2"),
        ("SOCKCAP_PEER_PORT", &port),
    ];
    for (name, value) in fields {
        assert_eq!(first.get(name), value, "{name}");
    }
    assert_eq!(first.names().len(), fields.len(), "{first:?}");
    let expected = [("6", &b"of two"[..]), ("6", b"\xff\xfe"), ("3", b"trouble"), ("6", b"no end")];
    for (priority, text) in expected {
        let entry = of(&mut journal, "2");
        assert_eq!((entry.get("PRIORITY").as_str(), entry.bytes("MESSAGE")), (priority, text), "{entry:?}");
        assert_eq!(entry.get("SOCKCAP_PEER_ADDR"), "127.0.0.3");
    }
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.finish().code(), Some(0));
    // The collector is gone, too, and nothing else was written.
    let totals = journal.next(|entry| entry.is_of_command() || entry.get("MESSAGE").starts_with("stopped: "));
    assert!(totals.get("MESSAGE").starts_with("stopped: 2 accepted, 2 served"), "{totals:?}");
}

#[test]
fn a_long_line_comes_in_pieces() {
    const MAX: usize = 48 * 1024;
    let Some(mut journal) = Journal::new("long lines of commands") else { return };
    let (_daemon, address) = start(&mut journal, &[], &TEE);
    for (nth, (length, pieces)) in
        [(MAX - 1, &[MAX - 1][..]), (MAX, &[MAX]), (MAX + 1, &[MAX, 1]), (3 * MAX, &[MAX, MAX, MAX])].iter().enumerate()
    {
        let mut client = connect(address);
        line(&mut client);
        sends(client, &[vec![b'x'; *length], b"\nend\n".to_vec()].concat());
        let id = (nth + 1).to_string();
        for piece in *pieces {
            assert_eq!(journal.line_of(&id).bytes("MESSAGE"), vec![b'x'; *piece]);
        }
        assert_eq!(journal.line_of(&id).get("MESSAGE"), "end");
    }
}

#[test]
fn no_more_of_a_client_is_told_than_log_peer_says() {
    let Some(mut journal) = Journal::new("--log-peer with lines of commands") else { return };
    for (detail, shown) in [("prefix", "127.0.0.0/24"), ("none", "a client")] {
        let (mut daemon, address) = start(&mut journal, &["--log-peer", detail], &TEE);
        sends(connect(address), b"line\n");
        let entry = journal.line_of("1");
        assert_eq!(entry.get("SOCKCAP_PEER"), shown);
        assert!(!entry.names().contains(&"SOCKCAP_PEER_PORT"));
        daemon.signal(Signal::SIGTERM);
        daemon.finish();
    }
}

/// Without a journal, the number is in front of the line.
#[test]
fn lines_on_stderr_have_the_number_in_front() {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--stderr", "stream"]).run(&TEE).start();
    let mut one = daemon.connect();
    line(&mut one);
    sends(daemon.connect(), b"<3>trouble\n");
    let first = daemon.wait_text("trouble");
    assert_eq!((first.priority, first.text.as_str()), (Some(3), "[2] trouble"));
    sends(one, b"no end");
    let last = daemon.wait_text("no end");
    assert_eq!((last.priority, last.text.as_str()), (Some(6), "[1] no end"));
    assert_eq!(daemon.stop().served, 2);
}

/// What a flood costs is the journal's reader's time, and nobody's turn.
#[test]
fn a_flood_of_one_leaves_the_others_alone() {
    let Some(mut journal) = Journal::new("a flood of lines") else { return };
    let flood = [
        "/bin/sh",
        "-c",
        "read -r line; case $line in flood) exec yes 0123456789 >&2 ;; *) echo \"$line\" >&2; echo \"$line\" ;; esac",
    ];
    let (_daemon, address) = start(&mut journal, &[], &flood);
    let mut flooding = connect(address);
    flooding.write_all(b"flood\n").expect("write");
    assert_eq!(journal.line_of("1").get("MESSAGE"), "0123456789");
    for id in ["2", "3", "4"] {
        let mut client = connect(address);
        client.write_all(b"mine\n").expect("write");
        assert_eq!(line(&mut client), "mine", "served meanwhile");
        // All entries before it are read on the way, of which most are the flood's.
        assert_eq!(journal.line_of(id).get("MESSAGE"), "mine");
    }
}

/// One command's lines are not all that the journal takes of the service.
#[test]
fn more_lines_than_the_journal_should_get_are_counted() {
    unless_stalled(Duration::from_secs(30), || {
        let Some(mut journal) = Journal::new("many lines of one command") else { return };
        let command = ["/bin/sh", "-c", "yes | head -n 3000 >&2; echo last >&2"];
        let (_daemon, address) = start(&mut journal, &[], &command);
        to_end(connect(address));
        for _ in 0..2500 {
            assert_eq!(journal.line_of("1").get("MESSAGE"), "y");
        }
        let told = journal.said("suppressed 501 lines that ");
        for (name, value) in
            [("SOCKCAP_COUNT", "501"), ("PRIORITY", "4"), ("SOCKCAP_CONNECTION", "1"), ("SOCKCAP_LISTENER", "web")]
        {
            assert_eq!(told.get(name), value, "{name}");
        }
    });
}

/// A journal that takes nothing holds up commands that write, and them alone.
#[test]
fn a_stuck_journal_delays_nobody_else() {
    let Some(mut journal) = Journal::new("a stuck journal") else { return };
    let command = ["/bin/sh", "-c", "echo begun; read -r line; [ \"$line\" = silent ] || yes >&2; echo done"];
    let (mut daemon, address) = start(&mut journal, &["--drain-timeout", "0s"], &command);
    let mut writes = connect(address);
    writes.write_all(b"flood\n").expect("write");
    assert_eq!(line(&mut writes), "begun");
    // Nobody reads the journal from here on. More than the link to the collector holds.
    for _ in 0..1000 {
        let mut client = connect(address);
        client.write_all(b"silent\n").expect("write");
        assert_eq!(to_end(client), "begun\ndone\n");
    }
    let process = pidfd(daemon.pid());
    daemon.signal(Signal::SIGTERM);
    to_end(writes);
    assert!(ready(&process, PollFlags::POLLIN, FUSE), "a stop waits for the journal");
    // What was written before comes when the journal takes it.
    thread::scope(|scope| {
        scope.spawn(|| while !journal.datagram().is_empty() {});
        assert_eq!(daemon.finish().code(), Some(0));
        journal.end();
    });
}

/// Nobody else is to start one.
#[test]
fn a_collector_needs_a_daemon() {
    for arguments in [&["--internal-collect-stderr", "journal"][..], &["--internal-collect-stderr"]] {
        let out = Command::new(binary()).args(arguments).stdin(Stdio::null()).output().expect("start");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(matches!(out.status.code(), Some(1 | 2)), "{out:?}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
