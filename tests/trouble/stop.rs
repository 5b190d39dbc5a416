//! A stop whose signals do not end what they are sent to, as where a process hangs in the kernel.

use crate::common::*;
use crate::faults::Tracer;
use nix::poll::PollFlags;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::time::Duration;

/// A command that SIGKILL does not end is left to itself, and named; the daemon ends, and with 0.
#[test]
fn a_stop_ends_though_a_command_does_not() {
    if !can_trace("a command that does not end") {
        return;
    }
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--drain-timeout", "1min"]).run(PID_CAT).start();
    let session = Session::open(daemon.addr(0));
    let tracer = Tracer::attach(daemon.pid(), false, &["kill:retval=0".into()]).expect("strace");
    for said in ["SIGTERM: accepting", "sending SIGTERM to 1 command", "sending SIGKILL to 1 command"] {
        daemon.signal(Signal::SIGTERM);
        daemon.wait_text(said);
    }
    daemon.wait_text("exiting although SIGKILL has not ended 1 command still running");
    assert!(ready(pidfd(daemon.pid()), PollFlags::POLLIN, FUSE), "it does not end");
    drop(tracer);
    session.leave();
    assert_eq!(daemon.finish().code(), Some(0));
}

/// Before Linux 6.9 a group cannot be meant by a pidfd: what a command leaves in its group is killed all the same.
#[test]
fn a_group_is_killed_without_pidfds_of_groups() {
    unless_stalled(Duration::from_secs(1), || {
        if !can_trace("a kernel without pidfds of groups") {
            return;
        }
        let leaves = "(trap '' TERM; exec sleep 100000) <&- >&- & echo $!; exec sleep 100000";
        let options = ["--listen", "127.0.0.1:0", "--time-limit", "1s", "--kill-grace", "1s"];
        let mut daemon = sockcap(&options).run(&["/bin/sh", "-c", leaves]).start();
        let tracer = Tracer::attach(daemon.pid(), false, &["pidfd_send_signal:error=EINVAL".into()]).expect("strace");
        let mut client = daemon.connect();
        let left = pidfd(Pid::from_raw(line(&mut client).parse().expect("a pid")));
        assert_eq!(to_end(client), "");
        assert!(ready(left, PollFlags::POLLIN, FUSE), "what was left of the group lives");
        assert!(tracer.detach("pidfd_send_signal") > 0, "it was not asked");
        assert_eq!(daemon.stop().served, 1);
    });
}
