//! The limit on a source under real systemd: across a restart and a crash, in the journal, and beside `MaxConnectionsPerSource=`.

use super::client::Client;
use super::journal::{Journal, SOURCE_LIMIT};
use super::rig::{Rig, SERVICE, until};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A command that says so when it begins, and then echoes.
const COMMAND: &str = "/bin/sh -c 'echo served; exec cat'";

/// The shipped service with `COMMAND` in place of rsync, and without its exemption of this machine.
fn edit(rig: &Rig, variables: &str) {
    let start = format!("ExecStart=\nExecStart=/usr/bin/sockcap -- {COMMAND}");
    rig.edit(&format!("{start}\nUnsetEnvironment=SOCKCAP_EXEMPT\nEnvironment={variables}\nRestartSec=50ms"));
}

fn host(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, number).into()
}

fn client(rig: &Rig, number: u8) -> Client {
    Client::from(rig, host(number), Ipv4Addr::LOCALHOST, 873)
}

fn is_served(client: &mut Client) {
    assert_eq!(client.line(), "served\n");
}

fn answers(client: &mut Client) {
    client.send("still there?\n");
    assert_eq!(client.line(), "still there?\n");
}

fn ends(client: Client) {
    client.close_sending();
    let mut client = client;
    assert_eq!(client.rest(), "");
}

fn is_told(mut client: Client) {
    assert_eq!(client.rest(), "server at capacity\n");
}

/// Running and held clients count for their source with the next daemon, whether the one before handed over or was killed.
pub fn a_source_has_no_more_after_a_restart_or_a_crash(rig: &Rig) {
    edit(rig, "SOCKCAP_MAX_CONNECTIONS=2 SOCKCAP_WHEN_FULL=wait SOCKCAP_MAX_PER_SOURCE=3");
    let mut living = [(); 2].map(|()| client(rig, 2));
    living.iter_mut().for_each(is_served);
    let held = client(rig, 2);
    is_told(client(rig, 2));
    let other = client(rig, 3);
    rig.until_status("2/2 active, 2 waiting");

    rig.ok(&format!("systemctl restart {SERVICE}"));
    rig.until_status("2/2 active, 2 waiting");
    is_told(client(rig, 2));
    living.iter_mut().for_each(answers);

    // Until the manager has dropped its copies of the held, a crash would not close them.
    until("the state alone in the store", || (rig.show(SERVICE, "NFileDescriptorStore") == "1").then_some(()));
    let before = rig.show(SERVICE, "MainPID");
    rig.ok(&format!("kill -KILL {before}"));
    [held, other].into_iter().for_each(Client::sees_a_close);
    until("another daemon", || {
        let pid = rig.show(SERVICE, "MainPID");
        (rig.show(SERVICE, "ActiveState") == "active" && pid != before && pid != "0").then_some(())
    });
    // Who was held is gone, and what runs counts.
    let mut held = client(rig, 2);
    is_told(client(rig, 2));
    let mut other = client(rig, 3);
    rig.until_status("2/2 active, 2 waiting");
    living.iter_mut().for_each(answers);
    living.into_iter().for_each(ends);
    [&mut held, &mut other].into_iter().for_each(is_served);
    [held, other].into_iter().for_each(ends);
    rig.until_status("0/2 active, 0 waiting");

    // Nothing is left of what was counted.
    let mut again = [(); 3].map(|()| client(rig, 2));
    is_told(client(rig, 2));
    again[..2].iter_mut().for_each(is_served);
    let [first, second, mut third] = again;
    [first, second].into_iter().for_each(ends);
    is_served(&mut third);
    ends(third);
    rig.until_status("0/2 active, 0 waiting");
}

/// The fields of the limit, and no more of the address than may be logged.
pub fn the_journal_has_the_source_that_is_over(rig: &Rig) {
    for (how, source, peer) in [
        ("full", Some("127.0.0.2/32"), "127.0.0.2"),
        ("prefix", Some("127.0.0.0/24"), "127.0.0.0/24"),
        ("none", None, "a client"),
    ] {
        let limit = "SOCKCAP_MAX_CONNECTIONS=9 SOCKCAP_MAX_PER_SOURCE=2";
        edit(rig, &format!("{limit} SOCKCAP_WHEN_FULL=wait SOCKCAP_LOG_PEER={how}"));
        rig.ok(&format!("systemctl stop {SERVICE}"));
        let mut living = [(); 2].map(|()| client(rig, 2));
        living.iter_mut().for_each(is_served);
        let journal = Journal::of_daemon(rig, &format!("MESSAGE_ID={SOURCE_LIMIT}"));
        is_told(client(rig, 2));
        let entry = journal.next();
        let words = format!("rejected connection: at capacity (2/2) of this source: {peer}");
        assert!(entry.message().starts_with(&words), "{how}: {}", entry.message());
        for (field, value) in [
            ("PRIORITY", "4"),
            ("SOCKCAP_REASON", "source-limit"),
            ("SOCKCAP_SOURCE_ACTIVE", "2"),
            ("SOCKCAP_SOURCE_MAX", "2"),
            ("SOCKCAP_REFUSED_TOTAL", "1"),
        ] {
            assert_eq!(entry.get(field), value, "{how}: {field}");
        }
        assert_eq!(entry.find("SOCKCAP_SOURCE"), source, "{how}");
        assert!(how == "full" || !entry.has_text("127.0.0.2"), "{how} tells the address");
        living.into_iter().for_each(ends);
    }
}

/// The same clients, one after the other, have the same outcome.
pub fn max_connections_per_source_says_the_same(rig: &Rig) {
    rig.unit("probe-yes.socket", "[Socket]\nListenStream=7201\nAccept=yes\nMaxConnectionsPerSource=2\n");
    rig.unit("probe-yes@.service", &format!("[Service]\nExecStart={COMMAND}\nStandardInput=socket\n"));
    rig.unit("probe-cap.socket", "[Socket]\nListenStream=7202\n");
    let options = "--max-per-source 2 --source-prefix 32,128";
    let start = format!("[Service]\nType=notify\nExecStart=/usr/bin/sockcap {options} -- {COMMAND}\n");
    rig.unit("probe-cap.service", &start);
    rig.ok("systemctl daemon-reload; systemctl start probe-yes.socket probe-cap.socket");
    let outcome = |port| {
        let addresses = [host(1), host(2), Ipv6Addr::LOCALHOST.into()];
        let clients = [3, 3, 3].into_iter().zip(addresses).flat_map(|(count, from)| [from].repeat(count));
        // Kept to the end, so that they count.
        let all: Vec<(IpAddr, Client, bool)> = clients
            .map(|from| {
                let to: IpAddr = if from.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { from };
                let mut client = Client::from(rig, from, to, port);
                let is_served = client.line() == "served\n";
                (from, client, is_served)
            })
            .collect();
        all.into_iter().map(|(from, _, is_served)| (from, is_served)).collect::<Vec<_>>()
    };
    let (yes, cap) = (outcome(7201), outcome(7202));
    assert_eq!(yes, cap);
    assert_eq!(cap.iter().filter(|(_, is_served)| *is_served).count(), 6, "{cap:?}");
}
