//! Out of memory, by `MemoryMax=` of the unit: the kernel kills commands and spares the daemon.

use crate::common::{BUSY, line};
use crate::guest::{Machine, SERVICE, answer, ask, connect, connect_from, until};
use std::fs;
use std::io::Write as _;

/// Each command is far smaller than the daemon, which the kernel would choose by size. They come a few at a time, since a command
/// is put above the daemon only when its exec is over.
pub fn oom_kills_commands_and_not_the_daemon(machine: &Machine) {
    // Half of it is more than the daemon needs, which is how far that is put below the commands.
    machine.serve("MemoryMax=32M", "--max-connections 500", "echo $$; exec cat");
    let mut clients = vec![connect()];
    until_raised(&line(&mut clients[0]));
    let daemon = machine.show(SERVICE, "MainPID");

    let kills = || machine.count(SERVICE, "memory.events", "oom_kill");
    // Further ones after the first that is killed, which must still be answered.
    let mut after = 0;
    while after < 3 {
        assert!(clients.len() < 400, "there is memory for all");
        let mut new = [(); 16].map(|()| connect());
        new.iter_mut().filter_map(answer).for_each(|pid| until_raised(&pid));
        clients.extend(new);
        println!("{} clients, {} bytes", clients.len(), machine.group(SERVICE, "memory.current"));
        after += u32::from(kills() > 0);
    }
    // Each is served, or its connection was closed.
    let all = clients.len();
    clients.retain_mut(|client| {
        let _ = client.write_all(b"still\n");
        answer(client).is_some_and(|said| said == "still")
    });
    println!("{} of {all} served, {} processes killed", clients.len(), kills());
    assert!(!clients.is_empty(), "all were killed");
    assert_eq!(machine.show(SERVICE, "MainPID"), daemon);
    machine.assert_unharmed();

    // There is room again when they have gone.
    drop(clients);
    until("a client that is served", || answer(&mut connect()).filter(|said| said.parse::<u32>().is_ok()));
    machine.assert_unharmed();
}

/// Until this command is more likely to be killed than the daemon, or is over. Words that are no number are those of a refusal.
fn until_raised(pid: &str) {
    if pid.parse::<u32>().is_ok() {
        until("a raised command", || match fs::read_to_string(format!("/proc/{pid}/oom_score_adj")) {
            Ok(score) if score.trim() == "-500" => None,
            _ => Some(()),
        });
    }
}

pub fn oom_costs_its_source_a_penalty(machine: &Machine) {
    let options = "--penalty oom=1h --penalty-min 1s --penalty-max 1h";
    let command = "echo in; read word; [ \"$word\" != eat ] || exec tail /dev/zero; echo \"$word\"";
    machine.serve("MemoryMax=64M", options, command);
    let (eater, other) = ([127, 0, 0, 2], [127, 0, 0, 3]);
    let mut client = connect_from(eater);
    assert_eq!(line(&mut client), "in");
    client.write_all(b"eat\n").expect("write");
    assert_eq!(answer(&mut client), None);
    assert!(machine.count(SERVICE, "memory.events", "oom_kill") > 0);

    // The client may know of the end before the daemon does.
    until("a refusal", || {
        let said = answer(&mut connect_from(eater)).expect("a greeting or a refusal");
        assert!(said == "in" || said == BUSY.trim_end(), "{said}");
        (said != "in").then_some(())
    });
    let mut client = connect_from(other);
    assert_eq!(line(&mut client), "in");
    assert_eq!(ask(&mut client, "bread"), "bread");
    assert_eq!(answer(&mut connect_from(eater)).as_deref(), Some(BUSY.trim_end()));
    machine.assert_unharmed();
}
