//! Out of processes, by `TasksMax=` of the unit.

use crate::common::{UNAVAILABLE, line};
use crate::guest::{ECHO, Machine, SERVICE, answer, ask, connect, until};

const CLIENTS: usize = 40;
const LIMIT: &str = "TasksMax=20";

pub fn over_tasks_max_clients_are_told(machine: &Machine) {
    machine.serve(LIMIT, "", ECHO);
    for round in 0..2 {
        let mut living = Vec::new();
        let mut told = 0;
        for _ in 0..CLIENTS {
            let mut client = connect();
            match answer(&mut client).as_deref() {
                Some("in") => living.push(client),
                Some(said) if said == UNAVAILABLE.trim_end() => told += 1,
                other => panic!("round {round}, {} served and {told} told, and then: {other:?}", living.len()),
            }
        }
        assert!(!living.is_empty() && told > 0, "round {round}: {} served, {told} told", living.len());
        assert!(machine.count(SERVICE, "pids.events", "max") > 0);
        for client in &mut living {
            assert_eq!(ask(client, "still"), "still");
        }
        drop(living);
        until("a client that is served", || answer(&mut connect()).filter(|said| said == "in"));
    }
    machine.until_said("commands start again after ");
    machine.assert_unharmed();
}

pub fn over_tasks_max_clients_wait(machine: &Machine) {
    machine.serve(LIMIT, "--when-full wait", ECHO);
    let clients = [(); CLIENTS].map(|()| connect());
    until("more commands than may be", || {
        let has_group = machine.show(SERVICE, "ActiveState") == "active";
        (has_group && machine.count(SERVICE, "pids.events", "max") > 0).then_some(())
    });
    // In the order of their coming; each that leaves makes room for another.
    for mut client in clients {
        assert_eq!(line(&mut client), "in");
        assert_eq!(ask(&mut client, "still"), "still");
    }
    machine.assert_unharmed();
}
