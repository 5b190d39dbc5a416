//! The machine's side: what a case finds there.

use crate::common::{line, uninterrupted, until_answered};
use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd as _;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn};

/// A command that says that it runs, and then echoes.
pub const ECHO: &str = "echo in; exec cat";

/// How long anything that must happen may take before the case gives up. Never reached by a case that passes.
pub const FUSE: Duration = Duration::from_secs(180);

/// The service of most cases, and its port.
pub const SERVICE: &str = "probe.service";
pub const SOCKET: &str = "probe.socket";
pub const PORT: u16 = 7000;

/// What every service of these cases has: that of the shipped template, without its sandbox.
const UNIT: &str = "\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=notify
NotifyAccess=main
TimeoutStartSec=infinity
TimeoutStopSec=60s
KillMode=process
RestartKillSignal=SIGUSR1
SuccessExitStatus=SIGUSR1
FileDescriptorStoreMax=2048
Environment=SOCKCAP_CONTROL=%t/sockcap/%N/control.sock
RuntimeDirectory=sockcap/%N
Restart=always
RestartSec=1
OOMPolicy=continue
OOMScoreAdjust=-500
LimitNOFILE=1024:16384
";

/// The machine that a case runs in, with nothing left of the case before.
pub struct Machine(());

impl Machine {
    /// None on a host.
    pub fn here() -> Option<Machine> {
        env::var_os("SOCKCAP_MACHINE")?;
        let machine = Machine(());
        machine.reset();
        Some(machine)
    }

    fn reset(&self) {
        self.sh("set -- /run/systemd/system/probe*; [ -e \"$1\" ] || exit 0
            systemctl kill -s KILL --kill-whom=all 'probe*.service'; systemctl stop 'probe*'
            rm -rf \"$@\"; systemctl daemon-reload; systemctl reset-failed");
    }

    /// A socket on `PORT` of the loopback, and its service, not started yet: `sockcap OPTIONS -- COMMAND`, the command a script
    /// of the shell. `lines` are added to the section `[Service]`.
    pub fn serve(&self, lines: &str, options: &str, command: &str) {
        self.service(lines, options, command);
        self.unit(SOCKET, &format!("[Socket]\nListenStream=127.0.0.1:{PORT}\n"));
        self.ok(&format!("systemctl daemon-reload; systemctl start {SOCKET}"));
    }

    /// A service that makes its sockets itself (`--listen`), and so cannot hand them over. It runs when this returns, instead of
    /// one that did.
    pub fn listen(&self, lines: &str, options: &str, command: &str) {
        self.ok(&format!("systemctl stop {SERVICE} 2>&1 || :"));
        self.service(&format!("RestartKillSignal=SIGTERM\n{lines}"), options, command);
        self.ok(&format!("systemctl daemon-reload; systemctl start {SERVICE}"));
    }

    fn service(&self, lines: &str, options: &str, command: &str) {
        // A file of its own, so that nobody has to quote for systemd.
        self.write("/run/probe-command", command);
        let start = format!("ExecStart=/usr/bin/sockcap {options} -- /bin/sh /run/probe-command\n");
        self.unit(SERVICE, &format!("{UNIT}{start}{lines}\n"));
    }

    /// A unit of the case's own; its name begins with `probe`, by which it is removed.
    pub fn unit(&self, name: &str, text: &str) {
        assert!(name.starts_with("probe"));
        fs::create_dir_all("/run/systemd/system").expect("a folder");
        self.write(&format!("/run/systemd/system/{name}"), text);
    }

    pub fn write(&self, path: &str, text: &str) {
        fs::write(path, text).unwrap_or_else(|e| panic!("write {path}: {e}"));
    }

    /// A file without its last newline.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(path).unwrap_or_else(|e| panic!("read {path}: {e}")).trim_end().to_owned()
    }

    pub fn sh(&self, script: &str) -> Output {
        Command::new("timeout").args(["180", "sh", "-c", script]).stdin(Stdio::null()).output().expect("sh")
    }

    /// The output of a script that must succeed, without the last newline.
    pub fn ok(&self, script: &str) -> String {
        let out = self.sh(script);
        let text = String::from_utf8_lossy(&out.stdout).trim_end().to_owned();
        assert!(out.status.success(), "{script}: {}\n{text}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
        text
    }

    /// One property of a unit, as `systemctl show` prints it.
    pub fn show(&self, unit: &str, property: &str) -> String {
        self.ok(&format!("systemctl show -P {property} {unit}"))
    }

    /// A file in the cgroup of a unit, such as `memory.events`.
    pub fn group(&self, unit: &str, file: &str) -> String {
        self.read(&format!("/sys/fs/cgroup{}/{file}", self.show(unit, "ControlGroup")))
    }

    /// A number in such a file that has a name on each line.
    pub fn count(&self, unit: &str, file: &str, name: &str) -> u64 {
        let text = self.group(unit, file);
        let number = text.lines().find_map(|l| l.strip_prefix(name)?.trim().parse().ok());
        number.unwrap_or_else(|| panic!("no {name} in {file}:\n{text}"))
    }

    /// Waits until STATUS= begins with this, e.g. `2/2 active,`.
    pub fn until_status(&self, wanted: &str) {
        self.until(wanted, "systemctl show -P StatusText probe.service", |text| text.starts_with(wanted));
    }

    /// Waits until the journal has an entry with these words: what was logged may still be on its way.
    pub fn until_said(&self, words: &str) {
        self.until(words, "journalctl -q -b -o cat -u probe.service", |text| text.contains(words));
    }

    /// Runs a script until its output fits.
    pub fn until(&self, what: &str, script: &str, fits: impl Fn(&str) -> bool) {
        let mut last = String::new();
        let start = Instant::now();
        while start.elapsed() < FUSE {
            last = self.ok(script);
            if fits(&last) {
                return;
            }
            thread::sleep(Duration::from_millis(100)); // what a script tells has no event
        }
        panic!("in {FUSE:?} never {what:?}; the last was:\n{last}");
    }

    /// The daemon runs, and is the one that was started first.
    pub fn assert_unharmed(&self) {
        assert_eq!(self.show(SERVICE, "ActiveState"), "active");
        assert_eq!(self.show(SERVICE, "NRestarts"), "0");
    }
}

/// Asks again until there is an answer. Only for what no event tells.
pub fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    until_answered(what, FUSE, Duration::from_millis(100), ask)
}

/// A client of the service on `PORT`, from an address of this loopback network: `127.0.0.2` is another source.
pub fn connect_from(source: [u8; 4]) -> TcpStream {
    let fd = socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("socket");
    socket::bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(source.into(), 0))).expect("bind");
    let to = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, PORT));
    socket::connect(fd.as_raw_fd(), &to).expect("connect");
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(FUSE)).expect("timeout");
    stream.set_write_timeout(Some(FUSE)).expect("timeout");
    stream
}

pub fn connect() -> TcpStream {
    connect_from([127, 0, 0, 1])
}

/// The next line, or nothing: however the connection ends, since a command that is killed may leave a reset behind.
pub fn answer(stream: &mut impl Read) -> Option<String> {
    let mut text = Vec::new();
    let mut byte = [0];
    loop {
        match uninterrupted(|| stream.read(&mut byte)) {
            Ok(1) if byte[0] == b'\n' => return Some(String::from_utf8_lossy(&text).into_owned()),
            Ok(1) => text.push(byte[0]),
            Err(e) if e.kind() != io::ErrorKind::ConnectionReset => panic!("{e}, after {text:?}"),
            _ => return None,
        }
    }
}

/// Says a line and reads one.
pub fn ask<S: Read + Write>(stream: &mut S, words: &str) -> String {
    stream.write_all(format!("{words}\n").as_bytes()).expect("write to the command");
    line(stream)
}
