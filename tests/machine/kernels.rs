//! What differs from kernel to kernel: the ways that the daemon falls back to, which it names, and what must hold by each of them.

use crate::apart::{DELEGATE, group};
use crate::common::{BUSY, line};
use crate::guest::{Machine, PORT, SERVICE, SOCKET, answer, ask, connect, until};
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;

/// What the daemon finds on a kernel.
pub struct Kernel {
    pub landlock_abi: Option<u32>,
    has_cgroup_kill: bool,
    /// SO_PEERPIDFD.
    has_peer_pidfds: bool,
    /// Signals to process groups through pidfds.
    has_group_pidfds: bool,
    /// Whether it kills whoever is born in a cgroup that was killed before. Updates have mended that in some.
    kills_newborn: Option<bool>,
}

impl Kernel {
    pub fn of(machine: &Machine) -> Kernel {
        let release = machine.ok("uname -r");
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
        let [major, minor] = [(); 2].map(|()| numbers.next().unwrap_or_default());
        let version = (major, minor);
        let is_since = |wanted| version >= wanted;
        Kernel {
            landlock_abi: match version {
                (5, 10) => None,
                (6, 1) => Some(2),
                (6, 12) => Some(6),
                // Its own word, which landlock(7) has no other source for.
                _ => Some(abi_of_a_newer_one(machine)),
            },
            has_cgroup_kill: is_since((5, 14)),
            has_peer_pidfds: is_since((6, 5)),
            has_group_pidfds: is_since((6, 9)),
            kills_newborn: if is_since((5, 14)) && !is_since((6, 19)) { None } else { Some(false) },
        }
    }

    /// What the daemon says of it with `-v`.
    fn fallbacks(&self, is_killing_newborn: bool) -> Option<String> {
        let all = [
            (
                !self.has_group_pidfds,
                "process groups are signalled by number, and what is left of one is looked for in /proc (through a pidfd since Linux 6.9)",
            ),
            (
                !self.has_peer_pidfds,
                "who asks at the control socket is known by its process number (through SO_PEERPIDFD since Linux 6.5)",
            ),
            (
                is_killing_newborn,
                "no cgroup is used twice, since whoever is born in one that was killed before is killed, too (a fault of Linux 5.14 to 6.18)",
            ),
        ];
        let all: Vec<&str> = all.into_iter().filter_map(|(is_in_use, words)| is_in_use.then_some(words)).collect();
        (!all.is_empty()).then(|| format!("fallbacks for this kernel: {}", all.join("; ")))
    }
}

fn abi_of_a_newer_one(machine: &Machine) -> u32 {
    let said =
        machine.ok("env -u SOCKCAP_MACHINE sockcap --check --listen 127.0.0.1:0 --isolate=-signals -- /bin/true");
    let (_, abi) = said.split_once("Landlock ABI ").expect("an ABI");
    let abi = abi.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).expect("a number");
    assert!(abi > 6, "{said}");
    abi
}

/// Leaves others behind, in a session of their own, who take no SIGTERM; one of them starts ever new ones, and one is in a cgroup below.
const HIDES: &str = "group=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
setsid sh -c 'trap \"\" TERM HUP; sleep 100000' </dev/null >/dev/null 2>&1 &
setsid sh -c 'trap \"\" TERM HUP; while :; do sleep 0.01; done' </dev/null >/dev/null 2>&1 &
mkdir \"$group/below\"
setsid sh -c 'trap \"\" TERM HUP; echo 0 >\"$1/below/cgroup.procs\"; sleep 100000' sh \"$group\" </dev/null >/dev/null 2>&1 &
until read -r pid <\"$group/below/cgroup.procs\"; do sleep 0.01; done
echo \"${group##*/conn-}\"; exec cat";

fn hidden() -> (TcpStream, u64) {
    let mut client = connect();
    let id = line(&mut client);
    (client, id.parse().unwrap_or_else(|error| panic!("{error}: {id:?}")))
}

fn until_gone(id: u64) {
    until("its cgroup is gone", || (!Path::new(&group(id)).exists()).then_some(()));
}

/// By `sockcapctl stop`, by a time limit and by the stop of the service.
pub fn fallbacks_are_named_and_no_end_leaves_anything(machine: &Machine) {
    let kernel = Kernel::of(machine);
    let options = "-v --isolate --tasks-max 30 --memory-max 64M --kill-grace 1s --drain-timeout 1s";
    machine.serve(DELEGATE, options, HIDES);
    let mut clients = [(); 3].map(|()| hidden());
    let said = || machine.ok(&format!("journalctl -q -b -u {SERVICE} -o cat"));
    machine.until_said("ready: ");
    let how = said().lines().find(|line| line.starts_with("each connection gets a cgroup")).map(str::to_owned);
    let own = format!("each connection gets a cgroup of its own: /system.slice/{SERVICE}/conn-N");
    let singly =
        "the kernel has no cgroup.kill (Linux 5.14): a cgroup is frozen, and its processes are killed one by one";
    let expected = if kernel.has_cgroup_kill { own } else { format!("{own}; {singly}") };
    assert_eq!(how, Some(expected), "{}", said());
    let fallbacks = said().lines().find(|line| line.starts_with("fallbacks for")).map(str::to_owned);
    match kernel.kills_newborn {
        Some(is) => assert_eq!(fallbacks, kernel.fallbacks(is)),
        None => assert!([kernel.fallbacks(true), kernel.fallbacks(false)].contains(&fallbacks), "{fallbacks:?}"),
    }

    // One by one, so that those who come afterwards are born beside cgroups that were killed.
    for (client, id) in &mut clients {
        machine.ok(&format!("sockcapctl stop --force {SERVICE} {id}"));
        assert_eq!(answer(client), None);
        until_gone(*id);
        let (mut next, id) = hidden();
        assert_eq!(ask(&mut next, "bread"), "bread");
        machine.ok(&format!("sockcapctl stop {SERVICE} {id}"));
        assert_eq!(answer(&mut next), None);
        until_gone(id);
    }
    machine.until_status("0/100 active");
    let living = hidden();
    machine.assert_unharmed();
    machine.ok(&format!("systemctl stop {SOCKET} {SERVICE}"));
    assert!(!Path::new(&format!("/sys/fs/cgroup/system.slice/{SERVICE}")).exists());
    drop(living);

    // A slow machine may reach it before the command has said anything.
    machine.serve(DELEGATE, &format!("{options} --time-limit 3s"), HIDES);
    let mut client = connect();
    while answer(&mut client).is_some() {}
    machine.until_status("0/100 active");
    until_gone(1);
    machine.assert_unharmed();
}

/// A client for whom a proxy speaks.
fn of(address: &str) -> TcpStream {
    let mut client = connect();
    let header = format!("PROXY TCP4 {address} 198.51.100.2 4711 443\r\n");
    client.write_all(header.as_bytes()).expect("write");
    client
}

pub fn clients_behind_a_proxy_are_counted_over_restart_and_crash(machine: &Machine) {
    let options = "--proxy-protocol --max-connections 2 --when-full wait --max-per-source 1";
    machine.serve("", options, "echo \"$REMOTE_ADDR\"; exec cat");
    // A header that is late is refused. So nobody is there before its header.
    machine.unit(SOCKET, &format!("[Socket]\nListenStream=127.0.0.1:{PORT}\nDeferAcceptSec=180\n"));
    machine.ok(&format!("systemctl stop {SOCKET}; systemctl daemon-reload; systemctl start {SOCKET}"));
    let [one, two, three] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
    let (mut first, mut second) = (of(one), of(two));
    assert_eq!([line(&mut first), line(&mut second)], [one, two]);
    let mut third = of(three);
    machine.until_status("2/2 active, 1 waiting");
    let main = || machine.show(SERVICE, "MainPID");
    let again = |how: &str| {
        let before = main();
        machine.ok(how);
        until("another daemon", || {
            let is_new = main() != before && machine.show(SERVICE, "ActiveState") == "active";
            is_new.then_some(())
        });
    };
    again(&format!("systemctl restart {SERVICE}"));
    machine.until_status("2/2 active, 1 waiting");
    assert_eq!(answer(&mut of(one)).as_deref(), Some(BUSY.trim_end()));
    drop(first);
    assert_eq!(line(&mut third), three);
    again(&format!("kill -9 $(systemctl show -P MainPID {SERVICE})"));
    machine.until_status("2/2 active");
    for taken in [two, three] {
        assert_eq!(answer(&mut of(taken)).as_deref(), Some(BUSY.trim_end()));
    }
    let mut next = of(one);
    machine.until_status("2/2 active, 1 waiting");
    assert_eq!([ask(&mut second, "still"), ask(&mut third, "still")], ["still"; 2]);
    drop(second);
    assert_eq!(line(&mut next), one);
}
