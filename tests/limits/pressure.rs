//! `--max-pressure`: while tasks are stalled too much, one command at a time.

use crate::common::*;

/// Whether this can be tried here.
fn at(percent: f32, name: &str) -> Option<MemoryPressure> {
    let pressure = MemoryPressure::new(percent);
    if pressure.is_none() {
        skip(name, "only root can mount over /proc/pressure/memory, of a kernel with psi=1");
    }
    pressure
}

#[test]
fn a_second_command_is_refused_while_the_pressure_lasts() {
    let Some(pressure) = at(34.5, "a_second_command_is_refused_while_the_pressure_lasts") else { return };
    let mut notify = Notify::new();
    let mut daemon = pressure.start(&[]).env("NOTIFY_SOCKET", notify.path()).start();
    let first = Session::open(daemon.addr(0));
    refused(daemon.connect());
    let begun = daemon.wait_text("not starting further commands");
    assert_eq!(
        begun.text,
        "memory pressure 34.5 % is not below 20.0 %: not starting further commands; their clients are refused"
    );
    daemon.wait_text("rejected connection: memory pressure 34.5 % is not below 20.0 %: 127.0.0.1 port ");
    notify.wait_for("a status", |line| {
        line.contains("; not starting further commands: memory pressure 34.5 % is not below 20.0 %")
    });
    // One may always run.
    first.leave();
    let second = Session::open(daemon.addr(0));
    // Below the limit, and not below what opens it again.
    pressure.set(17.0);
    notify.wait_for("a status", |line| line.contains("memory pressure 17.0 % is not below 16.0 %"));
    refused(daemon.connect());
    pressure.set(15.9);
    let over = daemon.wait_text("starting further commands again");
    assert!(over.text.starts_with("starting further commands again: pressure too high for "), "{over:?}");
    let third = Session::open(daemon.addr(0));
    [second, third].into_iter().for_each(Session::leave);
    assert_eq!(daemon.stop(), Totals { accepted: 5, served: 3, refused: 2, ..Totals::default() });
    let told = daemon.log().iter().filter(|line| line.text.contains("further commands")).count();
    assert_eq!(told, 2, "once when it begins, and once when it is over");
}

#[test]
fn who_waits_for_the_pressure_is_let_in() {
    let Some(pressure) = at(34.5, "who_waits_for_the_pressure_is_let_in") else { return };
    let mut daemon = pressure.start(&["--when-full", "wait", "--max-waiting", "2"]).start();
    let to = daemon.addr(0);
    let first = Session::open(to);
    let held = [connect(to), connect(to)];
    refused(connect(to));
    held.iter().for_each(waits);
    pressure.set(0.0);
    let held = held.map(Session::of);
    held.into_iter().chain([first]).for_each(Session::leave);
    assert_eq!(daemon.stop(), Totals { accepted: 4, served: 3, refused: 1, ..Totals::default() });
}

/// Whoever asks for the state, as load balancers and scrapers do again and again, keeps nobody from looking.
#[test]
fn the_end_of_the_pressure_is_seen_by_whoever_asks() {
    let Some(pressure) = at(34.5, "the_end_of_the_pressure_is_seen_by_whoever_asks") else { return };
    let folder = ControlFolder::new("pressure");
    let daemon = pressure.start(&["--control", folder.socket().to_str().unwrap()]).start();
    let _first = Session::open(daemon.addr(0));
    refused(daemon.connect());
    let mut control = Control::connect(&folder.socket());
    assert_eq!(control.runtime()["gatesClosed"], serde_json::json!(["memory"]));
    pressure.set(0.0);
    control.until("it is over", |runtime| runtime["gatesClosed"] == serde_json::json!([]));
    let _second = Session::open(daemon.addr(0));
}

#[test]
fn what_cannot_be_read_is_told_at_the_start() {
    if !is_root() {
        return skip("what_cannot_be_read_is_told_at_the_start", "only root can mount over /proc/pressure");
    }
    let dir = TempDir::new();
    let script = "mount --bind \"$0\" /proc/pressure && exec \"$@\"";
    let dir = dir.path().to_str().expect("UTF-8");
    for check in [&[][..], &["--check"]] {
        let args = [&["--listen", "127.0.0.1:0", "--max-pressure", "io=20"], check].concat();
        let ended = sockcap(&args).wrap(&["unshare", "-m", "sh", "-c", script, dir]).output();
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        let expected = "cannot read how much I/O pressure there is (--max-pressure): No such file or directory";
        assert!(ended.stderr.contains(expected) && ended.stderr.lines().count() == 1, "{ended:?}");
    }
}
