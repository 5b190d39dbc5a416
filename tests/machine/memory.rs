//! Out of memory, by `MemoryMax=` of the unit: the kernel kills commands and spares the daemon.

use crate::common::{BUSY, line};
use crate::guest::{Machine, SERVICE, answer, ask, connect_from, until};
use std::io::Write as _;

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
