//! What only a kernel of its own can show: memory, pids, cpu and io controllers, out of memory, a clock that jumps, VSOCK.
//!
//! Four machines under QEMU without KVM, from what `tests/machine/images.sh` makes: Linux 6.1 with systemd 252 (bookworm), and
//! 6.12 with 257 (trixie), which run all cases; and with these versions of systemd Linux 5.10 (bullseye) and the newest that
//! Debian 13 has (backports), which run those that differ by kernel. Each is booted by the first test that needs it, runs the
//! cases one after the other, and is gone a moment after this program is, however that ended. Nothing in it is kept.
//!
//! A case is a function that runs in the machine, as root, as a child of a unit of systemd. This very program is called there
//! with the name of one test, and calls the case; outside, the test asks a machine for that and shows what was printed.
//! To add one: write `pub fn name(machine: &Machine)` in a file here, with the helpers of `guest.rs`, and its line below. To
//! run one, or those of one kernel:
//!
//!     cargo test --test machine a_unit_has_all_controllers
//!     cargo test --test machine trixie
//!
//! Units of a case begin with `probe`, and are gone before the next. What else it changes (sysctl, the clock, files outside
//! /run/systemd) it puts back, also when it fails. The machine has two slow processors and 2 GiB: wait for events, never for
//! time.
//!
//! Needs root, qemu-system-x86_64, mke2fs, strip and the images. Without these each case says SKIPPED on stderr and passes;
//! where CI=true it fails instead, so that a lane cannot stop testing unnoticed. Only the kernels of bullseye and of the
//! backports may be missing there, too.

#[path = "../common/mod.rs"]
mod common;

mod guest;
mod host;

mod apart;
mod clock;
mod controllers;
mod isolate;
mod kernels;
mod memory;
mod pids;
mod restart;
mod vsock;

/// Each case is a module with a test for each of its machines: `a_unit_has_all_controllers::bookworm`. Tests start in the order of their names,
/// so that this way round several machines are busy from the start.
macro_rules! cases {
    (@ [$($machine:ident)*] $file:ident $case:ident) => { $(
        #[test]
        fn $machine() {
            let test = concat!(stringify!($case), "::", stringify!($machine));
            crate::host::with(stringify!($machine), test, crate::$file::$case);
        }
    )* };
    ($($machines:tt { $($file:ident :: $case:ident,)* })*) => { $($(
        mod $case {
            cases!(@ $machines $file $case);
        }
    )*)* };
}

cases! {
    [bullseye bookworm trixie backports] {
        isolate::a_command_is_kept_apart_as_far_as_the_kernel_can,
        apart::limits_hold_over_restart_and_crash,
        kernels::fallbacks_are_named_and_no_end_leaves_anything,
        kernels::clients_behind_a_proxy_are_counted_over_restart_and_crash,
    }
    [bookworm trixie] {
        controllers::a_unit_has_all_controllers,
        memory::oom_kills_commands_and_not_the_daemon,
        apart::one_of_ten_runs_out_of_memory_and_nine_go_on,
        apart::a_connection_cannot_fill_the_service_with_processes,
        apart::many_ends_by_cgroup_kill_harm_nobody,
        memory::oom_costs_its_source_a_penalty,
        pids::over_tasks_max_clients_are_told,
        pids::over_tasks_max_clients_wait,
        clock::a_clock_that_jumps_ends_nobody,
        clock::a_clock_set_back_delays_no_end,
        clock::a_clock_that_jumps_leaves_rates_and_penalties_alone,
        vsock::the_cap_is_exact_over_vsock,
        vsock::a_context_is_a_source,
        vsock::a_socket_unit_of_vsock_is_served,
        restart::a_restart_and_a_crash_keep_the_count,
    }
}
