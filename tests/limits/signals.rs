//! Who gets a signal: the command and the group that are meant, wherever they have moved, and nobody who has their number since.

use crate::common::*;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::Write;
use std::process::Command;
use std::time::Duration;

/// Leaves its group for the daemon's, with one in it that ignores SIGTERM and ends with the command.
const MOVES: &str = r#"
    $SIG{{TERM}} = "IGNORE";
    pipe(my $hears, my $holds);
    fork or (close $holds, close STDIN, close STDOUT, <$hears>, exit);
    $SIG{{TERM}} = "DEFAULT";
    setpgrp(0, getpgrp(getppid)) or die $!;
    syswrite STDOUT, "moved\n";
    sleep 100000"#;

/// `--session shared`: a command that has moved to another process group is ended by its time limit and by a stop.
#[test]
fn a_command_that_left_its_group_is_ended() {
    unless_stalled(Duration::from_secs(1), || {
        if !Command::new("perl").args(["-e", ""]).status().is_ok_and(|status| status.success()) {
            return skip("a command that leaves its group", "perl is not installed");
        }
        for (option, value) in [("--time-limit", "1s"), ("--drain-timeout", "0")] {
            let options = ["--listen", "127.0.0.1:0", "--session", "shared", "--kill-grace", "1min", option, value];
            let mut daemon = sockcap(&options).run(&["perl", "-e", MOVES]).start();
            let mut client = daemon.connect();
            assert_eq!(line(&mut client), "moved");
            if option == "--drain-timeout" {
                daemon.signal(Signal::SIGTERM);
            }
            assert_eq!(to_end(client), "");
            until("the command's end", || daemon.commands().is_empty());
            daemon.signal(Signal::SIGTERM);
            assert_eq!(daemon.totals().served, 1);
        }
    });
}

/// What a command leaves in its group after SIGTERM is to be killed. When that has ended meanwhile, and a stranger has its number,
/// the stranger is left alone.
#[test]
fn a_number_that_was_given_out_again_is_not_killed() {
    unless_stalled(Duration::from_secs(1), || {
        let what = "a number that was given out again";
        let alone = ["unshare", "--pid", "--fork", "--mount-proc"];
        if !is_root()
            || !Command::new(alone[0]).args(&alone[1..]).arg("true").status().is_ok_and(|status| status.success())
        {
            return skip(what, "no pid namespace for us");
        }
        let dir = TempDir::new();
        let told = dir.join("told");
        nix::unistd::mkfifo(told.as_str(), nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
        // Open on both sides, so that nobody waits for the other one.
        let tells = fs::OpenOptions::new().read(true).write(true).open(&told).expect("open");
        let options = ["--listen", "127.0.0.1:0", "--time-limit", "1s", "--kill-grace", "4s", "-v"];
        let does_as_told = ["/bin/sh", "-c", "echo $$; read -r words; eval \"$words\""];
        let mut daemon = sockcap(&options).wrap(&alone).run(&does_as_told).start();
        let inner = daemon.commands()[0];
        let tell = |words: &str| {
            let mut client = daemon.connect();
            let pid: i32 = line(&mut client).parse().expect("a pid");
            writeln!(client, "{words}").expect("write");
            (client, pid)
        };

        let (first, number) = tell(&format!("(trap '' TERM; exec >&-; exec <{told}; read -r end) & exec sleep 100000"));
        let group = children(inner)[0];
        let (second, _) = tell("trap '' TERM; exec sleep 100000");
        assert_eq!(to_end(first), "");
        let ended = |pid: Pid| kill(Pid::from_raw(-pid.as_raw()), None) == Err(Errno::ESRCH);
        assert!(!ended(group), "nothing is left of its group");
        drop(tells);
        until("the end of its group", || ended(group));
        let last = number - 1;
        let stranger = format!("echo {last} >/proc/sys/kernel/ns_last_pid; setsid sleep 100000 <&- >&- & echo $!");
        assert_eq!(to_end(tell(&stranger).0), format!("{number}\n"));
        // The second's grace ends after the first's.
        assert_eq!(to_end(second), "");
        assert_eq!(to_end(tell(&format!("kill -0 {number} && echo lives")).0), "lives\n");

        kill(inner, Signal::SIGTERM).expect("signal sockcap");
        assert_eq!(daemon.totals().served, 4);
    });
}
