//! A wall clock that is set while clients wait, commands run and rates count. All of these go by the monotonic clock.

use crate::common::{BUSY, line};
use crate::guest::{ECHO, Machine, SERVICE, answer, ask, connect, connect_from};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The clock of the machine, which is right again afterwards.
struct Clock<'a> {
    machine: &'a Machine,
    start: (Duration, Instant),
}

impl Clock<'_> {
    fn of(machine: &Machine) -> Clock<'_> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that was set once");
        Clock { machine, start: (now, Instant::now()) }
    }

    /// Sets it so far ahead of the right time, or behind it.
    fn jump(&self, seconds: i64) {
        let right = self.start.0 + self.start.1.elapsed();
        self.machine.ok(&format!("date -s @{}", right.as_secs() as i64 + seconds));
    }
}

impl Drop for Clock<'_> {
    fn drop(&mut self) {
        self.machine.sh(&format!("date -s @{}", (self.start.0 + self.start.1.elapsed()).as_secs()));
    }
}

const HOUR: i64 = 3600;

pub fn a_clock_that_jumps_ends_nobody(machine: &Machine) {
    let options = "--max-connections 2 --when-full wait --max-wait 50min --time-limit 50min --idle-exit 50min";
    machine.serve("WatchdogSec=10min", options, ECHO);
    let clock = Clock::of(machine);
    for jump in [HOUR, -HOUR, 0] {
        let mut living = [connect(), connect()];
        living.iter_mut().for_each(|client| assert_eq!(line(client), "in"));
        let mut held = connect();
        machine.until_status("2/2 active, 1 waiting (longest ");
        clock.jump(jump);
        // Whoever comes now makes the daemon look at all times.
        let mut later = connect();
        machine.until_status("2/2 active, 2 waiting (longest ");
        let status = machine.show(SERVICE, "StatusText");
        let (_, rest) = status.split_once("(longest ").expect("a time");
        let seconds = rest.split_once(" s)").and_then(|(n, _)| n.parse::<u64>().ok());
        assert!(seconds.is_some_and(|s| s < 1800), "after a jump of {jump} s: {status}");

        living.iter_mut().for_each(|client| assert_eq!(ask(client, "still"), "still"));
        machine.ok(&format!("systemctl restart {SERVICE}"));
        living.iter_mut().for_each(|client| assert_eq!(ask(client, "still"), "still"));
        drop(living);
        for client in [&mut held, &mut later] {
            assert_eq!(line(client), "in");
            assert_eq!(ask(client, "still"), "still");
        }
        drop((held, later));
        machine.until_status("0/2 active, 0 waiting");
    }
    machine.assert_unharmed();
}

pub fn a_clock_set_back_delays_no_end(machine: &Machine) {
    machine.serve("", "--max-connections 1 --when-full wait --max-wait 5s --time-limit 10s", ECHO);
    let clock = Clock::of(machine);
    let mut living = connect();
    assert_eq!(line(&mut living), "in");
    let start = Instant::now();
    let mut held = connect();
    machine.until_status("1/1 active, 1 waiting");
    clock.jump(-24 * HOUR);
    assert_eq!(answer(&mut held).as_deref(), Some(BUSY.trim_end()));
    // Who comes in the midst of a turn of the daemon has come when it began; on an emulated processor turns are long.
    assert!(start.elapsed() >= Duration::from_secs(4), "told after {:?}", start.elapsed());
    assert_eq!(answer(&mut living), None);
    machine.assert_unharmed();
}

pub fn a_clock_that_jumps_leaves_rates_and_penalties_alone(machine: &Machine) {
    let options = "--max-rate-per-source 2/12h --penalty 7=12h --penalty-min 1s --penalty-max 12h";
    machine.serve("", options, "echo in; read word; exit \"$word\"");
    let clock = Clock::of(machine);
    let (often, failed) = ([127, 0, 0, 2], [127, 0, 0, 3]);
    let end = |source, status: &str| {
        let mut client = connect_from(source);
        assert_eq!(line(&mut client), "in");
        std::io::Write::write_all(&mut client, status.as_bytes()).expect("write");
        assert_eq!(answer(&mut client), None);
    };
    end(often, "0\n");
    end(often, "0\n");
    end(failed, "7\n");
    machine.until_status("0/100 active, 0 waiting, 0 refused, 3 served");
    for (n, jump) in [0, 48 * HOUR, -48 * HOUR].into_iter().enumerate() {
        clock.jump(jump);
        for source in [often, failed] {
            let said = answer(&mut connect_from(source));
            assert_eq!(said.as_deref(), Some(BUSY.trim_end()), "of {source:?}, after a jump of {jump} s");
        }
        let other = [127, 0, 1, 1 + n as u8];
        end(other, "0\n");
        end(other, "0\n");
        assert_eq!(answer(&mut connect_from(other)).as_deref(), Some(BUSY.trim_end()));
    }
    machine.assert_unharmed();
}
