//! `--isolate=cgroup` with limits for each connection, which need the controllers of a kernel of its own.

use crate::common::line;
use crate::guest::{Machine, SERVICE, answer, ask, connect, until};
use std::io::Write as _;
use std::net::TcpStream;

/// As docs/options.md has it. Before systemd 254 there is no DelegateSubgroup=.
pub const DELEGATE: &str = "Delegate=memory pids cpu io
DelegateSubgroup=daemon
";

/// And what it needs there instead: after each end of a daemon, nothing may be on in the way of the next.
const MAKE_WAY: &str = "ExecStopPost=-/bin/sh -c 'for c in memory pids cpu io; do echo -$$c >/sys/fs/cgroup/system.slice/%n/cgroup.subtree_control; done'
";

/// Says which connection it is, and does what it is told.
const COMMAND: &str = "sed -n 's,^0::.*/conn-,,p' /proc/self/cgroup
while read word; do
    case $word in
        eat) tail /dev/zero ;;
        bomb) (i=0; while [ $i -lt 100 ]; do sleep 100000 </dev/null >/dev/null 2>&1 & i=$((i+1)); done) ;;
        hide) (setsid sh -c 'trap \"\" TERM HUP; sleep 100000' </dev/null >/dev/null 2>&1 &) ;;
    esac
    echo \"$word\"
done";

/// A client that is served, and the number of its connection.
fn served() -> (TcpStream, u64) {
    let mut client = connect();
    let id = line(&mut client);
    (client, id.parse().unwrap_or_else(|error| panic!("{error}: {id:?}")))
}

pub fn group(id: u64) -> String {
    format!("/sys/fs/cgroup/system.slice/{SERVICE}/conn-{id}")
}

/// The entry of the end of a connection, as journalctl prints it with all fields.
fn end(machine: &Machine, id: u64) -> String {
    let matches = format!("SOCKCAP_CONNECTION={id} SOCKCAP_RESULT=oom");
    until("the entry of its end", || {
        let entry = machine.ok(&format!("journalctl -q -b -u {SERVICE} -o json {matches}"));
        (!entry.is_empty()).then_some(entry)
    })
}

pub fn one_of_ten_runs_out_of_memory_and_nine_go_on(machine: &Machine) {
    machine.serve(DELEGATE, "--isolate=cgroup --memory-max 32M --tasks-max 20", COMMAND);
    let mut clients: Vec<(TcpStream, u64)> = (0..10).map(|_| served()).collect();
    let (mut eater, id) = clients.remove(4);
    assert_eq!(machine.read(&format!("{}/memory.max", group(id))), "33554432");
    eater.write_all(b"eat\n").expect("write");
    assert_eq!(answer(&mut eater), None);
    for (client, _) in &mut clients {
        assert_eq!(ask(client, "bread"), "bread");
    }
    let entry = end(machine, id);
    assert!(entry.contains("ran out of memory and was killed"), "{entry}");
    // The kernel of bookworm has both peaks, too.
    for field in ["SOCKCAP_MEMORY_PEAK", "SOCKCAP_TASKS_PEAK", "SOCKCAP_CPU_USEC"] {
        assert!(entry.contains(field), "{field}: {entry}");
    }
    let said = machine.ok(&format!("journalctl -q -b -u {SERVICE} -o cat"));
    assert!(!said.contains("after their birth"), "{said}");
    until("its cgroup is gone", || (!std::path::Path::new(&group(id)).exists()).then_some(()));
    machine.assert_unharmed();
}

pub fn a_connection_cannot_fill_the_service_with_processes(machine: &Machine) {
    machine.serve(DELEGATE, "--isolate=cgroup --tasks-max 10 --cpu-max 50% --cpu-weight idle", COMMAND);
    let ((mut bomber, id), (mut other, _)) = (served(), served());
    assert_eq!(machine.read(&format!("{}/cpu.max", group(id))), "50000 100000");
    assert_eq!(machine.read(&format!("{}/cpu.idle", group(id))), "1");
    bomber.write_all(b"bomb\n").expect("write");
    until("it has as many as it may have", || {
        (machine.read(&format!("{}/pids.events", group(id))) != "max 0").then_some(())
    });
    assert_eq!(ask(&mut other, "bread"), "bread");
    assert_eq!(served().1, 3);
    machine.assert_unharmed();
}

/// The limits of those who live hold on, under the next daemon as well, and nobody is cut.
pub fn limits_hold_over_restart_and_crash(machine: &Machine) {
    let version = machine.ok("systemctl --version | sed -n '1s,systemd \\([0-9]*\\).*,\\1,p'");
    let is_old = version.parse::<u32>().unwrap_or_else(|error| panic!("{error}: {version}")) < 254;
    let lines = format!("{DELEGATE}{}", if is_old { MAKE_WAY } else { "" });
    machine.serve(&lines, "--isolate=cgroup --memory-max 32M --tasks-max 10 --max-connections 2", COMMAND);
    let (mut client, id) = served();
    for how in ["systemctl restart", "systemctl kill -s KILL --kill-whom=main"] {
        let before = machine.show(SERVICE, "MainPID");
        machine.ok(&format!("{how} {SERVICE}"));
        until("another daemon", || {
            let pid = machine.show(SERVICE, "MainPID");
            (pid != before && pid != "0" && machine.show(SERVICE, "ActiveState") == "active").then_some(())
        });
        machine.until_status("1/2 active");
        assert_eq!(ask(&mut client, "bread"), "bread");
        for (file, value) in [("memory.max", "33554432"), ("pids.max", "10"), ("memory.oom.group", "1")] {
            assert_eq!(machine.read(&format!("{}/{file}", group(id))), value, "after {how}");
        }
        let (mut next, next_id) = served();
        assert_eq!(machine.read(&format!("{}/memory.max", group(next_id))), "33554432");
        next.shutdown(std::net::Shutdown::Write).expect("shutdown");
        assert_eq!(answer(&mut next), None);
    }
    client.write_all(b"eat\n").expect("write");
    assert_eq!(answer(&mut client), None);
    machine.ok(&format!("systemctl stop probe.socket {SERVICE}"));
    assert!(!std::path::Path::new(&format!("/sys/fs/cgroup/system.slice/{SERVICE}")).exists());
}

/// Kernels from 5.14 to 6.18 may kill at birth whoever comes after a cgroup.kill: nobody does here.
pub fn many_ends_by_cgroup_kill_harm_nobody(machine: &Machine) {
    let options = "--isolate=cgroup --memory-max 64M --tasks-max 20 --max-connections 30 --kill-grace 1s";
    machine.serve(DELEGATE, options, COMMAND);
    for _ in 0..3 {
        let mut clients: Vec<(TcpStream, u64)> = (0..20).map(|_| served()).collect();
        for (client, _) in &mut clients {
            assert_eq!(ask(client, "hide"), "hide");
        }
        let ids: Vec<String> = clients.iter().map(|(_, id)| id.to_string()).collect();
        // A machine on a busy host may not answer in time; who has ended by then is not there any more.
        let stop = format!("sockcapctl stop --force {SERVICE} {} 2>&1 || :", ids.join(" "));
        machine.until("told to end", &stop, |said| !said.contains("has not answered"));
        for (mut client, id) in clients {
            assert_eq!(answer(&mut client), None);
            until("its cgroup is gone", || (!std::path::Path::new(&group(id)).exists()).then_some(()));
        }
    }
    machine.assert_unharmed();
}
