//! A restart and a crash of the daemon, as `tests/system/` has them with the shipped units, on these kernels.

use crate::common::{BUSY, line};
use crate::guest::{ECHO, Machine, SERVICE, answer, ask, connect, until};

pub fn a_restart_and_a_crash_keep_the_count(machine: &Machine) {
    machine.serve("", "--max-connections 3", ECHO);
    let mut living = Vec::from([(); 3].map(|()| connect()));
    living.iter_mut().for_each(|client| assert_eq!(line(client), "in"));
    let main = || machine.show(SERVICE, "MainPID");
    for end in ["systemctl restart probe.service", "kill -9 $(systemctl show -P MainPID probe.service)"] {
        let before = main();
        machine.ok(end);
        until("another daemon", || {
            let is_new = main() != before && machine.show(SERVICE, "ActiveState") == "active";
            is_new.then_some(())
        });
        assert_eq!(answer(&mut connect()).as_deref(), Some(BUSY.trim_end()), "after {end}");
        living.iter_mut().for_each(|client| assert_eq!(ask(client, "still"), "still", "after {end}"));
        living.remove(0);
        machine.until_status("2/3 active");
        living.push(connect());
        assert_eq!(line(living.last_mut().expect("three")), "in");
    }
    assert_eq!(machine.show(SERVICE, "NRestarts"), "1");
}
