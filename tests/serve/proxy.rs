//! `--proxy-protocol`: whom a proxy speaks for is who the client is, and the command gets the client's own bytes, all of them and no others.

use std::io::{IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::common::*;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// How long a header is awaited. A machine that stops the test for as long between a connection and its header makes it late.
const PATIENCE: Duration = Duration::from_secs(2);
/// Headers that are awaited at once.
const MOST: usize = 256;
/// Tells whom it serves, and echoes.
const WHO: &[&str] = &[
    "/bin/sh",
    "-c",
    r#"echo "$REMOTE_ADDR $REMOTE_PORT $TCPREMOTEIP $TCPREMOTEPORT $TCPLOCALIP $TCPLOCALPORT $IPCREMOTEEUID"; exec /bin/cat"#,
];
const V1: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\n";
const TOLD: &str = "192.0.2.1 4711 192.0.2.1 4711 198.51.100.2 443 ";

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &(rest.len() as u16).to_be_bytes(), rest].concat()
}

/// As [`V1`], with these TLVs.
fn v2_with(tlvs: &[u8]) -> Vec<u8> {
    v2(0x21, 0x11, &[&[192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x67, 0x01, 0xbb], tlvs].concat())
}

fn proxied(args: &[&str]) -> Start {
    let mut all = vec!["--listen", "127.0.0.1:0", "--proxy-protocol"];
    all.extend(args);
    sockcap(&all).run(WHO)
}

/// What a client is told whose connection begins with these bytes.
#[track_caller]
fn served(daemon: &Daemon, header: &[u8]) -> (TcpStream, String) {
    let mut client = daemon.connect();
    client.write_all(header).expect("write");
    let told = line(&mut client);
    (client, told)
}

/// Whom a command names that serves the proxy itself.
fn itself(client: &TcpStream) -> String {
    let (own, to) = (client.local_addr().expect("address"), client.peer_addr().expect("address"));
    let from = format!("{} {}", own.ip(), own.port());
    format!("{from} {from} {} {} ", to.ip(), to.port())
}

/// The client is refused, and the log says why.
#[track_caller]
fn refused_for(daemon: &mut Daemon, client: impl Read, why: &str) {
    assert_eq!(to_end(client), UNAVAILABLE);
    daemon.wait_text(&format!("rejected connection: {why}: "));
}

#[test]
fn the_client_is_whom_the_header_names() {
    unless_stalled(PATIENCE, || {
        let mut daemon = proxied(&[]).start();
        let noop = [4, 0, 3, 1, 2, 3];
        for header in [V1.to_vec(), v2_with(&[]), v2_with(&noop)] {
            let (mut client, told) = served(&daemon, &header);
            assert_eq!(told, TOLD);
            echoes(&mut client);
        }
        let (client, told) = served(&daemon, b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n");
        assert_eq!(told, "2001:db8::1 1 2001:db8::1 1 2001:db8::2 2 ");
        drop(client);
        let totals = daemon.stop();
        assert_eq!((totals.accepted, totals.served), (4, 4));
    });
}

#[test]
fn what_follows_the_header_is_the_command_s() {
    unless_stalled(PATIENCE, || {
        let daemon = proxied(&[]).start();
        for header in [V1.to_vec(), v2_with(&[4, 0, 0])] {
            let mut client = daemon.connect();
            client.write_all(&[&header, &b"PROXY \r\n\0payload"[..]].concat()).expect("write");
            client.shutdown(Shutdown::Write).expect("shutdown");
            assert_eq!(to_end(client), format!("{TOLD}\nPROXY \r\n\0payload"));
        }
    });
}

#[test]
fn a_header_that_comes_byte_by_byte() {
    unless_stalled(PATIENCE, || {
        let daemon = proxied(&[]).start();
        for header in [V1.to_vec(), v2_with(&[])] {
            let mut client = daemon.connect();
            client.set_nodelay(true).expect("TCP_NODELAY");
            for byte in &header {
                client.write_all(&[*byte]).expect("write");
            }
            assert_eq!(line(&mut client), TOLD);
            echoes(&mut client);
        }
    });
}

#[test]
fn a_proxy_that_speaks_for_itself_or_does_not_know() {
    unless_stalled(PATIENCE, || {
        let daemon = proxied(&[]).start();
        for header in [
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(),
            v2(0x20, 0x00, &[]),
            v2(0x20, 0x11, &[9; 12]),
            v2(0x21, 0x00, &[]),
        ] {
            let (mut client, told) = served(&daemon, &header);
            assert_eq!(told, itself(&client), "{header:?}");
            echoes(&mut client);
        }
    });
}

#[test]
fn a_checksum_is_verified() {
    unless_stalled(PATIENCE, || {
        let mut daemon = proxied(&[]).start();
        // Taken from HAProxy's `proxy-v2-options crc32c` by hand: CRC32C of the header with zeros in its place.
        let mut good = v2_with(&[3, 0, 4, 0, 0, 0, 0]);
        let sum = !good.iter().fold(!0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
        });
        let at = good.len() - 4;
        good[at..].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(served(&daemon, &good).1, TOLD);
        good[at] ^= 1;
        let mut client = daemon.connect();
        client.write_all(&good).expect("write");
        refused_for(&mut daemon, client, "broken PROXY header: wrong CRC32C");
    });
}

/// Each is refused at its first wrong byte, for its own reason, and not after a while.
#[test]
fn broken_headers() {
    unless_stalled(PATIENCE, || {
        let long = [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat();
        let broken = [
            (&b"GET / HTTP/1.0\r\n\r\n"[..], "no signature"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", "invalid port"),
            (b"PROXY UNKNOWN\n", "no CRLF at the end of the line"),
            (&long, "line too long"),
            (&v2(0x21, 0x12, &[0; 12]), "of datagrams"),
            (&v2(0x21, 0x21, &[0; 12]), "too short for its addresses"),
            (&v2(0x21, 0x00, &[0; 5000]), "longer than 4096 bytes"),
            (&v2_with(&[1, 0]), "TLV cut short"),
        ];
        // No more of a daemon than are logged singly.
        for some in broken.chunks(4) {
            let mut daemon = proxied(&[]).start();
            for (bytes, why) in some {
                let mut client = daemon.connect();
                client.write_all(bytes).expect("write");
                refused_for(&mut daemon, client, &format!("broken PROXY header: {why}"));
            }
            let totals = daemon.stop();
            assert_eq!((totals.accepted, totals.refused), (4, 4));
        }
    });
}

#[test]
fn a_header_that_does_not_come() {
    let mut daemon = proxied(&[]).start();
    let mut half = daemon.connect();
    half.write_all(&V1[..20]).expect("write");
    refused_for(&mut daemon, half, "no PROXY header within 2 s");
    for bytes in [&b""[..], &V1[..20]] {
        let mut client = daemon.connect();
        client.write_all(bytes).expect("write");
        client.shutdown(Shutdown::Write).expect("shutdown");
        // On a machine that was stopped for that long it is late first.
        assert_eq!(to_end(client), UNAVAILABLE);
        daemon.wait_for("its refusal", |line| {
            line.text.contains("closed before its PROXY header was complete") || line.text.contains("within 2 s")
        });
    }
    reset(daemon.connect());
    let totals = daemon.stop();
    assert_eq!((totals.accepted - totals.gone, totals.refused), (3, 3));
}

#[test]
fn a_header_from_elsewhere() {
    unless_stalled(PATIENCE, || {
        let mut daemon = proxied(&["--proxy-from", "192.0.2.0/24", "--proxy-from", "uid=0"]).start();
        let mut client = daemon.connect();
        let _ = client.write_all(V1);
        refused_for(&mut daemon, client, "peer is not in --proxy-from");
        let daemon = proxied(&[]).env("SOCKCAP_PROXY_FROM", "192.0.2.0/24 127.0.0.0/8").start();
        assert_eq!(served(&daemon, V1).1, TOLD);
    });
}

/// Silent ones cannot keep others out: the one that has been silent for longest makes room.
#[test]
fn a_bound_on_the_headers_that_are_awaited() {
    unless_stalled(PATIENCE, || {
        let mut daemon = proxied(&[]).start();
        let mut silent: Vec<TcpStream> = (0..MOST - 1).map(|_| daemon.connect()).collect();
        // Accepted after all of them.
        assert_eq!(served(&daemon, V1).1, TOLD);
        silent.push(daemon.connect());
        assert_eq!(daemon.count("no PROXY header yet"), 0, "there is room for all");
        silent.push(daemon.connect());
        let first = silent[0].local_addr().expect("address").port();
        let line = daemon.wait_text("no PROXY header yet, and too many connections wait for theirs");
        assert!(line.text.contains(&format!(" port {first} on ")), "{}", line.text);
        assert_eq!(to_end(&silent[0]), UNAVAILABLE);
        assert_eq!(served(&daemon, V1).1, TOLD);
    });
}

/// The connection comes back from the child then, and what it says of its peer is the proxy.
#[test]
fn a_command_that_cannot_be_started() {
    unless_stalled(PATIENCE, || {
        let dir = TempDir::new();
        let program = dir.join("program");
        std::fs::write(&program, "#!/bin/sh\n").expect("write");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).expect("chmod");
        let mut daemon = proxied(&[]).run(&[&program]).start();
        std::fs::remove_file(&program).expect("unlink");
        let mut client = daemon.connect();
        client.write_all(V1).expect("write");
        assert_eq!(to_end(client), UNAVAILABLE);
        daemon.wait_text("rejected connection: the command could not be started: 192.0.2.1 port ");
    });
}

#[test]
fn limits_count_whom_the_header_names() {
    unless_stalled(PATIENCE, || {
        let mut daemon = proxied(&["--max-per-source", "1"]).start();
        let (_one, told) = served(&daemon, V1);
        assert_eq!(told, TOLD);
        let mut second = daemon.connect();
        second.write_all(V1).expect("write");
        refused(second);
        daemon.wait_text("192.0.2.1 port 4711 on ");
        let (_other, told) = served(&daemon, b"PROXY TCP4 192.0.2.2 198.51.100.2 1 443\r\n");
        assert!(told.starts_with("192.0.2.2 1 "), "{told}");
    });
}

/// Else the proxy's health checks, and whom it does not know, would be refused for each other, and the service taken for down.
#[test]
fn a_proxy_that_names_nobody_is_not_limited() {
    unless_stalled(PATIENCE, || {
        let limits = ["--max-per-source", "1", "--max-rate-per-source", "1/1h", "--penalty", "0=1h"];
        let mut daemon = proxied(&limits).start();
        let headers = || [v2(0x20, 0x00, &[]), v2(0x21, 0x00, &[]), b"PROXY UNKNOWN\r\n".to_vec()];
        let together: Vec<_> = headers().iter().map(|header| served(&daemon, header)).collect();
        for (mut client, told) in together {
            assert_eq!(told, itself(&client));
            client.shutdown(Shutdown::Write).expect("shutdown");
            assert_eq!(to_end(&mut client), "", "its command has ended");
        }
        headers().iter().for_each(|header| drop(served(&daemon, header)));
        let totals = daemon.stop();
        assert_eq!((totals.served, totals.refused), (6, 0));
    });
}

#[test]
fn a_client_that_is_held() {
    unless_stalled(PATIENCE, || {
        let mut daemon = proxied(&["--max-connections", "1", "--when-full", "wait"]).start();
        let (holder, _) = served(&daemon, V1);
        let mut held = daemon.connect();
        held.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.2 7 443\r\nare you there\n").expect("write");
        waits(&held);
        drop(holder);
        assert_eq!(line(&mut held), "192.0.2.7 7 192.0.2.7 7 198.51.100.2 443 ");
        assert_eq!(line(&mut held), "are you there");
        drop(held);
        assert_eq!(daemon.stop().served, 2);
    });
}

/// It has sent nothing but what its proxy said.
#[test]
fn a_held_client_that_leaves() {
    unless_stalled(PATIENCE, || {
        let mut daemon = proxied(&["--max-connections", "1", "--when-full", "wait", "--half-close", "gone"]).start();
        let (holder, _) = served(&daemon, V1);
        let mut leaves = daemon.connect();
        leaves.write_all(V1).expect("write");
        leaves.shutdown(Shutdown::Write).expect("shutdown");
        assert_eq!(to_end(leaves), "", "closed without a word");
        let mut stays = daemon.connect();
        stays.write_all(&[V1, b"last words"].concat()).expect("write");
        stays.shutdown(Shutdown::Write).expect("shutdown");
        waits_open(&stays);
        drop(holder);
        assert_eq!(to_end(stays), format!("{TOLD}\nlast words"));
        let totals = daemon.stop();
        assert_eq!((totals.gone, totals.served), (1, 2));
    });
}

/// Nothing comes, and no end of file.
#[track_caller]
fn waits_open(client: &TcpStream) {
    assert!(!ready(client, nix::poll::PollFlags::POLLIN, QUIET), "somebody who should wait got an answer");
}

/// What it has to hear is what the client says, not what its proxy says.
#[test]
fn a_refusal_that_listens_first() {
    unless_stalled(PATIENCE, || {
        let daemon = proxied(&["--max-connections", "1", "--busy-reply", "postgresql"]).start();
        let (_holder, _) = served(&daemon, V1);
        // Asks for TLS first, and only whoever reads that from its first byte on says no to it.
        let startup = b"\0\0\0\x08\x04\xd2\x16\x2f\0\0\0\x10\0\x03\0\0user\0x\0\0";
        for header in [V1.to_vec(), v2_with(&[])] {
            let mut client = daemon.connect();
            client.write_all(&[&header[..], startup].concat()).expect("write");
            let reply = to_end(client);
            assert!(reply.starts_with("NE") && reply.contains("too many clients"), "{reply:?}");
        }
    });
}

#[test]
fn unix_sockets() {
    unless_stalled(PATIENCE, || {
        let dir = TempDir::new();
        let path = dir.join("socket");
        let mut daemon = sockcap(&["--listen", &path, "--proxy-protocol"]).run(WHO).start();
        let talk = |bytes: &[u8]| {
            let mut client = UnixStream::connect(&path).expect("connect");
            client.set_read_timeout(Some(FUSE)).expect("timeout");
            client.write_all(bytes).expect("write");
            let told = line(&mut client);
            echoes(&mut client);
            told
        };
        assert_eq!(talk(V1), TOLD);
        let own = nix::unistd::geteuid();
        assert_eq!(talk(b"PROXY UNKNOWN\r\n"), format!("      {own}"));
        let end = |name: &[u8]| [name, &vec![0; 108 - name.len()]].concat();
        let named = v2(0x21, 0x31, &[end(b"/run/client\n"), end(b"/run/front")].concat());
        assert_eq!(talk(&named), "/run/client\\n      ", "nobody knows its user");
        // Descriptors that come with a header would be closed here.
        let client = UnixStream::connect(&path).expect("connect");
        let passed = [client.as_raw_fd()];
        let parts = [IoSlice::new(V1)];
        sendmsg::<()>(client.as_raw_fd(), &parts, &[ControlMessage::ScmRights(&passed)], MsgFlags::empty(), None)
            .expect("sendmsg");
        refused_for(&mut daemon, client, "broken PROXY header: descriptors passed with it");
    });
}

#[test]
fn a_stop_while_a_header_is_awaited() {
    unless_stalled(PATIENCE, || {
        let mut daemon = proxied(&[]).start();
        let before = daemon.open_fds().len();
        let silent = daemon.connect();
        until("it is accepted", || daemon.open_fds().len() > before);
        let totals = daemon.stop();
        assert_eq!((totals.accepted, totals.refused), (1, 1));
        refused(silent);
        assert_eq!(daemon.count("rejected connection: the service is stopping: "), 1);
    });
}

/// The next daemon reads the header of a client that is held again, and goes on with one that has not all come.
#[test]
fn headers_at_a_hand_over() {
    unless_stalled(PATIENCE, || {
        let Some(mut manager) = Manager::new("PROXY headers at a hand-over", &["web"]) else { return };
        let start = || sockcap(&["--proxy-protocol", "--max-connections", "1", "--when-full", "wait"]).run(WHO);
        let daemon = manager.start(start());
        let to = manager.addr(0);
        let talk = |bytes: &[u8]| {
            let mut client = connect(to);
            client.write_all(bytes).expect("write");
            client
        };
        let mut holder = talk(V1);
        assert_eq!(line(&mut holder), TOLD);
        let before = daemon.open_fds().len();
        let mut held = talk(b"PROXY TCP4 192.0.2.7 198.51.100.2 7 443\r\nare you there\n");
        until("it is held", || daemon.open_fds().len() == before + 1);
        let mut half = talk(b"PROXY TCP4 192.0.2.8 198");
        until("it is awaited", || daemon.open_fds().len() == before + 2);
        manager.end(daemon, nix::sys::signal::Signal::SIGUSR1);
        for end in ["-proxy", "-proxy-awaited"] {
            let fitting = manager.store.iter().filter(|(name, _)| name.ends_with(end)).count();
            assert_eq!(fitting, 1, "{:?}", manager.store);
        }

        let mut daemon = manager.start(start());
        half.write_all(b".51.100.2 8 443\r\n").expect("write");
        echoes(&mut holder);
        drop(holder);
        assert_eq!(line(&mut held), "192.0.2.7 7 192.0.2.7 7 198.51.100.2 443 ");
        assert_eq!(line(&mut held), "are you there");
        drop(held);
        assert_eq!(line(&mut half), "192.0.2.8 8 192.0.2.8 8 198.51.100.2 443 ");
        drop(half);
        let totals = daemon.stop();
        assert_eq!((totals.accepted, totals.served), (3, 3));
    });
}

/// Whose header comes while no daemon is there has not got past any limit.
#[test]
fn a_header_that_comes_between_two_daemons() {
    unless_stalled(PATIENCE, || {
        let Some(mut manager) = Manager::new("a PROXY header between two daemons", &["web"]) else { return };
        let start = || sockcap(&["--proxy-protocol", "--max-per-source", "1"]).run(WHO);
        let daemon = manager.start(start());
        let mut holder = connect(manager.addr(0));
        holder.write_all(V1).expect("write");
        assert_eq!(line(&mut holder), TOLD);
        let before = daemon.open_fds().len();
        let mut second = connect(manager.addr(0));
        second.write_all(&V1[..20]).expect("write");
        until("it is awaited", || daemon.open_fds().len() > before);
        manager.end(daemon, nix::sys::signal::Signal::SIGUSR1);
        second.write_all(&V1[20..]).expect("write");
        let mut daemon = manager.start(start());
        refused(second);
        daemon.wait_text("rejected connection: at capacity (1/1) of this source: 192.0.2.1 port 4711 ");
        drop(holder);
        let totals = daemon.stop();
        assert_eq!((totals.accepted, totals.served, totals.refused), (2, 1, 1));
    });
}

#[test]
fn curl_as_a_proxy() {
    unless_stalled(PATIENCE, || {
        if std::process::Command::new("curl").arg("--version").output().is_err() {
            return skip("curl --haproxy-protocol", "no curl");
        }
        const HTTP: &str = r#"while read -r line && [ "${{#line}}" -gt 1 ]; do :; done
        printf 'HTTP/1.0 200 OK\r\n\r\n%s %s' "$REMOTE_ADDR" "$REMOTE_PORT""#;
        let daemon = proxied(&[]).run(&["/bin/sh", "-c", HTTP]).start();
        let url = format!("http://{}/", daemon.addr(0));
        let args = ["-sS", "--noproxy", "*", "--haproxy-protocol", "-w", " %{local_ip} %{local_port}", &url];
        let output = std::process::Command::new("curl").args(args).output().expect("curl");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let words: Vec<&str> = said.split(' ').collect();
        assert_eq!(words.len(), 4, "{said:?}, {:?}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(words[..2], words[2..]);
    });
}

/// A real HAProxy, which speaks either version, with a checksum in the second, and checks its server with LOCAL headers.
#[test]
fn haproxy_in_front() {
    unless_stalled(PATIENCE, || {
        let Some(haproxy) = haproxy() else { return skip("a real HAProxy", "no haproxy") };
        for send in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"] {
            let mut daemon = proxied(&["--max-per-source", "2"]).start();
            let front = tcp_listener("127.0.0.1:0", 128);
            let at: SocketAddr = front.local_addr().expect("address");
            let dir = TempDir::new();
            let config = dir.join("haproxy.cfg");
            let text = format!(
                "defaults\n mode tcp\n timeout connect 60s\n timeout client 60s\n timeout server 60s\n\
             frontend f\n bind fd@0\n unique-id-format %pid\n default_backend b\n\
             backend b\n server s {} {send} check inter 100ms\n",
                daemon.addr(0)
            );
            std::fs::write(&config, text).expect("write");
            let mut proxy = std::process::Command::new(haproxy);
            let proxy = proxy.args(["-db", "-f", &config]).stdin(std::os::fd::OwnedFd::from(front));
            let mut proxy = Ended(proxy.stderr(std::process::Stdio::null()).spawn().expect("haproxy"));
            let mut client = connect(at);
            let own = client.local_addr().expect("address");
            let told = line(&mut client);
            let from = format!("{} {}", own.ip(), own.port());
            assert_eq!(told, format!("{from} {from} {} {} ", at.ip(), at.port()), "{send}");
            echoes(&mut client);
            client.shutdown(Shutdown::Write).expect("shutdown");
            assert_eq!(to_end(client), "");
            assert_eq!(daemon.count("broken PROXY header"), 0, "{send}");
            proxy.0.kill().expect("kill");
            proxy.0.wait().expect("wait");
            daemon.stop();
        }
    });
}

/// Ended with the test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
