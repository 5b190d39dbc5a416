//! Restart, upgrade, crash and stop under load: nothing that runs is cut, nobody who waits is refused or loses the place, and the
//! next daemon counts as if it were the one before. And a stop leaves nothing behind.

use super::client::{Client, Transfer, rsync_ok};
use super::journal::Journal;
use super::rig::{Rig, SERVICE, SOCKET, until};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// What the daemon keeps its descriptors for besides held clients, with one listener: so many more make so many places.
const NOT_PLACES: u32 = 256 + 64 + 1;
/// A command that says which client it serves and how many of that source, and then echoes.
const TALK: &str = "#!/bin/sh\necho \"$REMOTE_PORT $TCPCONNNUM\"\nexec cat\n";
/// The same, then as another user: whose environment the daemon may not read.
const TALK_AS_NOBODY: &str = "#!/bin/sh\nexec setpriv --reuid=65534 --regid=65534 --clear-groups sh -c 'echo \"$REMOTE_PORT $TCPCONNNUM\"; exec cat'\n";

/// The shipped service with another command in place of rsync.
fn edit_with(rig: &Rig, script: &str, lines: &str) {
    rig.write("/run/talk", script);
    rig.ok("chmod +x /run/talk");
    rig.edit(&format!("ExecStart=\nExecStart=/usr/bin/sockcap --busy-reply rsync -- /run/talk\n{lines}"));
}

/// Connects, and is served by `TALK` as the nth of its source.
fn talks(rig: &Rig, port: u16, nth: u32) -> Client {
    let mut client = Client::to(rig, Ipv4Addr::LOCALHOST, port);
    is_served(&mut client, nth);
    client
}

fn is_served(client: &mut Client, nth: u32) {
    assert_eq!(client.line(), format!("{} {nth}\n", client.port()));
    answers(client);
}

/// The same command as ever is at the other end.
fn answers(client: &mut Client) {
    client.send("still there?\n");
    assert_eq!(client.line(), "still there?\n");
}

/// The end of a session: the client says that it is done, the command ends, and nobody else holds the connection open.
fn ends(mut client: Client) {
    client.close_sending();
    assert_eq!(client.rest(), "");
}

fn main_pid(rig: &Rig, service: &str) -> String {
    let pid = rig.show(service, "MainPID");
    assert_ne!(pid, "0", "{service} does not run");
    pid
}

/// Restarts, and returns when the next daemon has taken over: READY=1 comes after that.
fn restart(rig: &Rig, service: &str) {
    let before = main_pid(rig, service);
    rig.ok(&format!("systemctl restart {service}"));
    assert_ne!(main_pid(rig, service), before);
    store_has_the_state_alone(rig, service);
}

/// Kills the daemon itself, and returns when there is another.
fn crash(rig: &Rig, service: &str, signal: &str) {
    let before = main_pid(rig, service);
    rig.ok(&format!("kill -{signal} {before}"));
    until("another daemon", || {
        let state = rig.show(service, "ActiveState");
        let pid = rig.show(service, "MainPID");
        (state == "active" && pid != before && pid != "0").then_some(())
    });
    store_has_the_state_alone(rig, service);
}

/// Of the clients that waited.
fn store_has_the_state_alone(rig: &Rig, service: &str) {
    until("the state alone in the store", || (rig.show(service, "NFileDescriptorStore") == "1").then_some(()));
}

fn descriptors(rig: &Rig, service: &str) -> Vec<String> {
    let list = rig.ok(&format!("ls -l /proc/{}/fd | sed -n 's/.*-> //p' | tr -d '0-9'", main_pid(rig, service)));
    let mut all: Vec<String> = list.lines().map(str::to_owned).collect();
    all.sort();
    all
}

/// What the daemon that runs now says it has found. Whose it is depends on how the rig's clients come.
fn taken_over(rig: &Rig, service: &str) -> String {
    let pid = main_pid(rig, service);
    until("a word about the daemon before", || {
        let said = rig.ok(&format!("journalctl -q -b -o cat _PID={pid} _SYSTEMD_UNIT={service}"));
        said.lines()
            .find_map(|l| l.strip_prefix("took over from the previous daemon: ").map(str::to_owned))
            .map(|said| said.split("; most from ").next().unwrap_or_default().to_owned())
    })
}

/// A real rsync that has begun to copy and is stopped amid it, so that it lasts as long as the test wants.
struct Copy {
    rsync: Child,
    to: String,
}

impl Copy {
    fn begin(rig: &Rig, to: &str) -> Copy {
        let mut rsync = rig
            .enter_to_kill(&[
                "rsync",
                "--bwlimit=4000",
                "--info=progress2",
                "--outbuf=L",
                "rsync://127.0.0.1/files/medium",
                to,
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("nsenter");
        let mut first = [0];
        rsync.stdout.as_mut().expect("piped").read_exact(&mut first).expect("progress");
        let copy = Copy { rsync, to: to.to_owned() };
        copy.signal(Signal::SIGSTOP);
        copy
    }

    fn signal(&self, signal: Signal) {
        killpg(Pid::from_raw(self.rsync.id() as i32), signal).expect("kill");
    }

    fn completes(mut self, rig: &Rig) {
        self.signal(Signal::SIGCONT);
        let mut said = String::new();
        self.rsync.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
        let status = self.rsync.wait().expect("wait");
        assert!(status.success(), "{status}: {said}");
        rig.ok(&format!("cmp /srv/files/medium {}", self.to));
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Ok(None) = self.rsync.try_wait() {
            self.signal(Signal::SIGKILL);
            let _ = self.rsync.wait();
        }
    }
}

/// Three restarts in a row, with transfers that run, clients that are held and clients in the kernel's queue: for a smaller limit,
/// for another binary, for a larger limit.
pub fn restart_cuts_nobody_and_refuses_nobody(rig: &Rig) {
    rig.ok("head -c 6000000 /dev/urandom >/srv/files/medium; rm -f /tmp/copy-*");
    let places = format!("LimitNOFILE={}", NOT_PLACES + 3);
    rig.edit(&format!("Environment=SOCKCAP_MAX_CONNECTIONS=3\n{places}"));
    rsync_ok(rig, &["rsync://127.0.0.1/files/"]);
    rig.until_served("0/3 active, 0 waiting", 1);
    let idle = descriptors(rig, SERVICE);

    let copies = [Copy::begin(rig, "/tmp/copy-1"), Copy::begin(rig, "/tmp/copy-2")];
    let bare = Client::served(rig);
    rig.until_status("3/3 active, 0 waiting");
    let real = rig.enter(&["rsync", "rsync://127.0.0.1/files/"]).stdout(Stdio::piped()).spawn().expect("nsenter");
    rig.until_status("3/3 active, 1 waiting");
    // Two more are held, three are in the kernel's queue.
    let waiting = [(); 5].map(|()| Client::to_rsync(rig));
    rig.until_status("3/3 active, 6 waiting");

    rig.edit(&format!("Environment=SOCKCAP_MAX_CONNECTIONS=2\n{places}"));
    restart(rig, SERVICE);
    rig.until_status("3/2 active, 6 waiting");
    assert_eq!(taken_over(rig, SERVICE), "3 commands running, 3 clients held");

    rig.ok("cp /usr/bin/sockcap /run/sockcap-new");
    let new = "ExecStart=\nExecStart=/run/sockcap-new --busy-reply rsync -- /usr/bin/rsync --daemon";
    rig.edit(&format!("Environment=SOCKCAP_MAX_CONNECTIONS=1\n{places}\n{new}"));
    restart(rig, SERVICE);
    rig.until_status("3/1 active, 6 waiting");
    assert_eq!(taken_over(rig, SERVICE), "3 commands running, 3 clients held");
    assert_eq!(rig.ok(&format!("readlink /proc/{}/exe", main_pid(rig, SERVICE))), "/run/sockcap-new");

    // Room again only when all three have gone; then each in its turn.
    copies.into_iter().for_each(|copy| copy.completes(rig));
    rig.until_status("1/1 active, 6 waiting");
    bare.finish_with_a_list();
    let out = real.wait_with_output().expect("wait");
    assert!(out.status.success() && String::from_utf8_lossy(&out.stdout).contains("medium"), "{out:?}");
    for mut next in waiting {
        next.await_greeting();
        next.finish_with_a_list();
    }
    rig.until_status("0/1 active, 0 waiting, 0 refused");
    // One more while the log asks whether the journal is there.
    until("no more descriptors than before", || (descriptors(rig, SERVICE) == idle).then_some(()));
    rig.assert_unharmed();

    // Ten connections, whoever counted them.
    rig.edit("");
    let journal = Journal::of_daemon(rig, "");
    rig.ok(&format!("systemctl stop {SERVICE}"));
    let last = journal.until(|e| e.message().starts_with("stopped: "));
    assert!(last.message().starts_with("stopped: 10 accepted, 10 served, 0 refused, 0 gone"), "{}", last.message());
}

/// The command's end is the connection's end, though the manager had a copy, and the order holds across two restarts.
pub fn the_held_keep_their_order_and_see_the_end(rig: &Rig) {
    edit_with(rig, TALK, "Environment=SOCKCAP_MAX_CONNECTIONS=1");
    let mut living = talks(rig, 873, 1);
    let mut held: Vec<Client> = (0..20).map(|_| Client::to_rsync(rig)).collect();
    rig.until_status("1/1 active, 20 waiting");
    let late = held.split_off(10);
    for half in [held, late] {
        restart(rig, SERVICE);
        answers(&mut living);
        for mut next in half {
            ends(living);
            is_served(&mut next, 1);
            living = next;
        }
    }
    ends(living);
    rig.until_status("0/1 active, 0 waiting, 0 refused");
}

/// Who leaves while the manager has the connection is still one who came.
pub fn every_client_is_accounted_for(rig: &Rig) {
    // No daemon for as long as the test wants: the next one cannot start at first, and its clients wait all the same.
    let settings = "Environment=SOCKCAP_MAX_CONNECTIONS=2\nRestartSec=50ms";
    edit_with(rig, TALK, settings);
    let [ended, living] = [talks(rig, 873, 1), talks(rig, 873, 2)];
    let [gone, mut stays] = [(); 2].map(|()| Client::to_rsync(rig));
    rig.until_status("2/2 active, 2 waiting");
    edit_with(rig, TALK, &format!("{settings}\nEnvironment=SOCKCAP_MAX_WAIT=soon"));
    rig.sh(&format!("systemctl restart {SERVICE}"));
    until("a daemon that does not start", || (rig.show(SERVICE, "ExecMainStatus") == "2").then_some(()));
    assert_eq!(rig.show(SERVICE, "NFileDescriptorStore"), "3");
    gone.reset();
    // The manager closes its copy, or the connection would be one that waits.
    until("a smaller store", || (rig.show(SERVICE, "NFileDescriptorStore") == "2").then_some(()));
    ends(ended);
    edit_with(rig, TALK, settings);
    is_served(&mut stays, 2);
    assert_eq!(rig.show(SOCKET, "ActiveState"), "active");
    [living, stays].into_iter().for_each(ends);
    rig.until_status("0/2 active, 0 waiting, 0 refused");
    let journal = Journal::of_daemon(rig, "");
    rig.ok(&format!("systemctl stop {SERVICE}"));
    let last = journal.until(|e| e.message().starts_with("stopped: "));
    assert!(last.message().starts_with("stopped: 4 accepted, 3 served, 0 refused, 1 gone"), "{}", last.message());
}

/// Limits of each listener, told apart by name, or by position where two have one name; after a restart, and after a crash.
pub fn each_listener_keeps_its_own_count(rig: &Rig) {
    let service = "probe-caps.service";
    for script in [TALK, TALK_AS_NOBODY] {
        rig.write("/run/talk", script);
        rig.ok("chmod +x /run/talk");
        for (name, ports) in [
            ("one", "ListenStream=127.0.0.1:7101"),
            ("two", "ListenStream=127.0.0.1:7102\nListenStream=127.0.0.1:7103"),
        ] {
            rig.unit(
                &format!("probe-{name}.socket"),
                &format!("[Socket]\n{ports}\nFileDescriptorName={name}\nService={service}\n"),
            );
        }
        rig.unit(
            service,
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=notify\nSockets=probe-one.socket probe-two.socket\n\
             ExecStart=/usr/bin/sockcap --when-full=wait --max-wait=1h --max-per-listener=1 --max-per-listener=one=2 -- /run/talk\n\
             KillMode=process\nRestartKillSignal=SIGUSR1\nFileDescriptorStoreMax=64\nRestart=always\nRestartSec=50ms\n\
             CapabilityBoundingSet=CAP_KILL CAP_SETUID CAP_SETGID\n",
        );
        rig.ok("systemctl daemon-reload; systemctl start probe-one.socket probe-two.socket");

        // Ports in no order: the limit of the third must not be taken for the second's.
        let ones = [talks(rig, 7101, 1), talks(rig, 7101, 2)];
        let third = talks(rig, 7103, 3);
        let mut held = [7101, 7103].map(|port| Client::to(rig, Ipv4Addr::LOCALHOST, port));
        let says = |status: &str, served: u32| rig.until_served_by(service, status, served);
        says("3/100 active, 2 waiting", 0);
        for _ in 0..2 {
            restart(rig, service);
            says("3/100 active, 2 waiting", 0);
            assert_eq!(taken_over(rig, service), "3 commands running, 2 clients held");
        }
        // The second port has a place, and the fourth of this source is the fourth.
        ends(talks(rig, 7102, 4));
        says("3/100 active, 2 waiting", 1);
        ends(third);
        is_served(&mut held[1], 3);
        let [one, other] = ones;
        ends(one);
        is_served(&mut held[0], 3);

        // A crash loses who waits, who sees a close and does not hang; what runs is found again, and counted where it was.
        let lost = Client::to(rig, Ipv4Addr::LOCALHOST, 7103);
        says("3/100 active, 1 waiting", 3);
        crash(rig, service, "KILL");
        lost.sees_a_close();
        let said = taken_over(rig, service);
        let [mut first, mut second] = held;
        [&mut first, &mut second].into_iter().for_each(answers);
        let mut next = Client::to(rig, Ipv4Addr::LOCALHOST, 7103);
        assert_eq!(said, "3 commands running, 0 clients held");
        says("3/100 active, 1 waiting", 3);
        ends(talks(rig, 7102, 4));
        says("3/100 active, 1 waiting", 4);
        ends(second);
        is_served(&mut next, 3);
        [first, other, next].into_iter().for_each(ends);
        says("0/100 active, 0 waiting", 8);
        rig.ok(&format!("systemctl stop {service} probe-one.socket probe-two.socket"));
    }
}

/// N-1, N and N+1 after a crash: real rsync, one that has become another user and one that has not yet.
pub fn the_cap_is_exact_after_a_crash(rig: &Rig) {
    for (signal, session) in [("KILL", "own"), ("ABRT", "own"), ("KILL", "shared")] {
        rig.edit(&format!("Environment=SOCKCAP_MAX_CONNECTIONS=2 SOCKCAP_SESSION={session}\nRestartSec=50ms"));
        let transfer = Transfer::begin(rig);
        let bare = Client::served(rig);
        rig.until_status("2/2 active, 0 waiting");
        crash(rig, SERVICE, signal);
        assert_eq!(taken_over(rig, SERVICE), "2 commands running, 0 clients held");
        rig.until_status("2/2 active, 0 waiting");

        let mut waits = Client::to_rsync(rig);
        rig.until_status("2/2 active, 1 waiting");
        bare.finish_with_a_list();
        waits.await_greeting();
        rig.until_status("2/2 active, 0 waiting");
        waits.finish_with_a_list();
        rig.until_status("1/2 active, 0 waiting");
        let two = Client::served(rig);
        let three = Client::to_rsync(rig);
        rig.until_status("2/2 active, 1 waiting");
        drop(transfer);
        let mut three = three;
        three.await_greeting();
        [two, three].into_iter().for_each(Client::finish_with_a_list);
        rig.until_status("0/2 active, 0 waiting, 0 refused");
        assert_eq!(rig.show(SOCKET, "ActiveState"), "active");
        rig.ok(&format!("systemctl stop {SERVICE}"));
    }
}

/// A lowered limit ends nobody and lets nobody in until there is room; a raised one serves at once who waits; and who waits for a
/// daemon that no longer lets anybody wait is told.
pub fn new_limits_hold_from_the_restart_on(rig: &Rig) {
    let max = |max: u32| format!("Environment=SOCKCAP_MAX_CONNECTIONS={max}");
    edit_with(rig, TALK, &max(2));
    let [mut one, mut two] = [talks(rig, 873, 1), talks(rig, 873, 2)];
    let mut held = [(); 3].map(|()| Client::to_rsync(rig));
    rig.until_status("2/2 active, 3 waiting");
    edit_with(rig, TALK, &max(1));
    restart(rig, SERVICE);
    rig.until_status("2/1 active, 3 waiting");
    ends(one);
    rig.until_status("1/1 active, 3 waiting");
    answers(&mut two);
    edit_with(rig, TALK, &max(3));
    restart(rig, SERVICE);
    is_served(&mut held[0], 2);
    is_served(&mut held[1], 3);
    rig.until_status("3/3 active, 1 waiting");
    edit_with(rig, TALK, &format!("{}\nEnvironment=SOCKCAP_WHEN_FULL=refuse", max(3)));
    restart(rig, SERVICE);
    let [mut first, mut second, mut third] = held;
    assert_eq!(third.rest(), super::client::refusal(3));
    rig.until_status("3/3 active, 0 waiting, 1 refused");
    one = two;
    [&mut one, &mut first, &mut second].into_iter().for_each(answers);
    [one, first, second].into_iter().for_each(ends);
}

/// A command that ignores SIGTERM, and a process that it has sent out of its session, which ignores it too.
const STUBBORN: &str = "#!/bin/sh\ntrap '' TERM\nsetsid sh -c 'echo $$; exec sleep 100000' &\nsleep 100000\n";

/// Patience, SIGTERM, SIGKILL; whoever started the commands, and whatever these have started. systemd, whose own patience is shorter,
/// is asked for more.
pub fn stop_counts_down_and_leaves_nothing(rig: &Rig) {
    rig.unless_stalled(Duration::from_secs(2), || {
        let settings =
            "Environment=SOCKCAP_DRAIN_TIMEOUT=1min\nEnvironment=SOCKCAP_KILL_GRACE=300ms\nTimeoutStopSec=2s";
        edit_with(rig, STUBBORN, settings);
        for is_adopted in [false, true] {
            let mut client = Client::to_rsync(rig);
            let stray = client.line();
            if is_adopted {
                restart(rig, SERVICE);
            }
            let journal = Journal::of_daemon(rig, "");
            let began = Instant::now();
            rig.ok(&format!("systemctl stop --no-block {SERVICE}"));
            // A second may be missed on a busy machine, but the number goes down.
            until("a countdown", || {
                let status = rig.show(SERVICE, "StatusText");
                let left = status
                    .strip_prefix("stopping: 1 active, killed in at most ")?
                    .split(' ')
                    .next()?
                    .parse::<u64>()
                    .ok()?;
                (left <= 56).then_some(())
            });
            assert!(began.elapsed().as_secs() >= 3, "{:?}", began.elapsed());
            rig.ok(&format!("systemctl kill -s TERM --kill-whom=main {SERVICE}"));
            rig.until_state(SERVICE, "inactive");
            assert_eq!(rig.show(SERVICE, "Result"), "success");
            assert_eq!(client.rest(), "");
            let said = |text: &str| journal.until(|e| e.message().starts_with(text));
            // The command and its session, and what has left it.
            for signal in ["SIGTERM", "SIGKILL"] {
                said(&format!("sending {signal} to "));
            }
            said("stopped: 1 accepted, 1 served");
            assert!(!rig.sh(&format!("kill -0 {stray}")).status.success(), "{stray} was left behind");
            let group = format!("/sys/fs/cgroup/system.slice/{SERVICE}");
            assert_eq!(rig.ok(&format!("[ ! -e {group} ] || cat {group}/cgroup.procs")), "");
            rig.until_state(SOCKET, "active");
        }
    });
}

/// Who waits is told at once when the service stops, and who is served may finish.
pub fn stop_tells_those_who_wait(rig: &Rig) {
    edit_with(rig, TALK, "Environment=SOCKCAP_MAX_CONNECTIONS=1");
    let mut living = talks(rig, 873, 1);
    let mut held = [(); 3].map(|()| Client::to_rsync(rig));
    rig.until_status("1/1 active, 3 waiting");
    let journal = Journal::of_daemon(rig, "SOCKCAP_REASON=stopping");
    rig.ok(&format!("systemctl stop --no-block {SOCKET} {SERVICE}"));
    for client in &mut held {
        assert_eq!(client.rest(), super::client::refusal(1));
        assert!(journal.next().message().starts_with("rejected connection: the service is stopping: 127.0.0.1 port "));
    }
    answers(&mut living);
    ends(living);
    rig.until_state(SERVICE, "inactive");
    assert_eq!(rig.show(SERVICE, "Result"), "success");
}

/// The socket alone stops: the service, its commands and those who wait do not.
pub fn stop_of_the_socket_leaves_the_living_alone(rig: &Rig) {
    edit_with(rig, TALK, "Environment=SOCKCAP_MAX_CONNECTIONS=1");
    let mut living = talks(rig, 873, 1);
    let mut held = Client::to_rsync(rig);
    rig.until_status("1/1 active, 1 waiting");
    rig.ok(&format!("systemctl stop {SOCKET}"));
    assert_eq!(rig.show(SERVICE, "ActiveState"), "active");
    answers(&mut living);
    ends(living);
    is_served(&mut held, 1);
    ends(held);
    rig.until_status("0/1 active, 0 waiting, 0 refused");
}

/// Nothing to do: the daemon goes, the socket stays, the next client starts it again.
pub fn an_idle_daemon_goes_and_comes_back(rig: &Rig) {
    edit_with(rig, TALK, "Restart=on-failure\nEnvironment=SOCKCAP_IDLE_EXIT=300ms");
    for _ in 0..5 {
        let client = talks(rig, 873, 1);
        let pid = main_pid(rig, SERVICE);
        // Twice its time with a command that runs.
        client.waits(Duration::from_millis(600));
        assert_eq!(main_pid(rig, SERVICE), pid);
        ends(client);
        rig.until_state(SERVICE, "inactive");
        assert_eq!(rig.show(SERVICE, "Result"), "success");
        assert_eq!(rig.show(SERVICE, "ExecMainStatus"), "0");
        assert_eq!(rig.show(SOCKET, "SubState"), "listening");
    }
}

/// The limit counts from the command's start, not from a daemon's.
pub fn a_time_limit_holds_across_a_restart(rig: &Rig) {
    rig.unless_stalled(Duration::from_secs(10), || {
        const LIMIT: Duration = Duration::from_secs(10);
        const GRACE: Duration = Duration::from_millis(300);
        let settings = "Environment=SOCKCAP_TIME_LIMIT=10s\nEnvironment=SOCKCAP_KILL_GRACE=300ms\nRestartSec=50ms";
        edit_with(rig, "#!/bin/sh\ntrap '' TERM\necho here\nexec cat\n", settings);
        let began = Instant::now();
        let mut client = Client::to_rsync(rig);
        assert_eq!(client.line(), "here\n");
        restart(rig, SERVICE);
        answers(&mut client);
        // By so much at least it would last too long if the next daemon began to count anew.
        client.waits(Duration::from_secs(3));
        let before_the_last = began.elapsed();
        crash(rig, SERVICE, "KILL");
        answers(&mut client);
        assert_eq!(client.rest(), "");
        let lasted = began.elapsed();
        assert!(lasted >= LIMIT && lasted < LIMIT + GRACE + before_the_last, "{lasted:?}; {before_the_last:?}");
        rig.until_status("0/10 active, 0 waiting");
    });
}

/// systemd passes no more descriptors than the soft limit has room for, or starts no daemon at all, try after try: what cannot
/// be handed over is not taken from the kernel's queue.
pub fn more_wait_than_descriptors_can_be_passed(rig: &Rig) {
    edit_with(rig, TALK, "Environment=SOCKCAP_MAX_CONNECTIONS=1\nLimitNOFILE=200:16384");
    let living = talks(rig, 873, 1);
    let mut waiting: Vec<Client> = (0..250).map(|_| Client::to_rsync(rig)).collect();
    rig.until_status("1/1 active, 250 waiting");
    restart(rig, SERVICE);
    let said = taken_over(rig, SERVICE);
    let held: usize = said.split(' ').nth(3).and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{said}"));
    assert!((100..200).contains(&held), "{said}");
    rig.until_status("1/1 active, 250 waiting");
    ends(living);
    is_served(&mut waiting[0], 1);
    drop(waiting);
    rig.until_status("0/1 active, 0 waiting, 0 refused");
    rig.assert_unharmed();
}
