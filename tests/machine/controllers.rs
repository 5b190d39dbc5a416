//! The controllers of version 2 of cgroups, without which the other cases would show nothing.

use crate::common::line;
use crate::guest::{Machine, SERVICE, connect};

pub fn a_unit_has_all_controllers(machine: &Machine) {
    machine.serve("Delegate=yes", "", "cat /proc/self/cgroup");
    let group = line(&mut connect());
    assert_eq!(group, format!("0::/system.slice/{SERVICE}"), "another version of cgroups");
    let has = machine.group(SERVICE, "cgroup.controllers");
    for controller in ["cpu", "io", "memory", "pids"] {
        assert!(has.split(' ').any(|c| c == controller), "no {controller} in: {has}");
    }
    machine.assert_unharmed();
}
