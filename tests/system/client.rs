//! Clients of the daemon under test: bare connections made here, inside the container's network, and its real rsync.

use super::rig::{FUSE, Rig};
use nix::sys::signal::{Signal, killpg};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use nix::unistd::Pid;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ExitStatus, Output, Stdio};
use std::time::Duration;

/// What a client over the limit reads, byte by byte.
pub fn refusal(max: u32) -> String {
    format!("@RSYNCD: 31.0\n@ERROR: max connections ({max}) reached -- try again later\n")
}

/// One bare connection. It keeps its place until it is dropped.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub fn to(rig: &Rig, ip: impl Into<IpAddr> + Send, port: u16) -> Client {
        let stream = rig.inside(|| TcpStream::connect((ip.into(), port))).expect("connect");
        stream.set_read_timeout(Some(FUSE)).expect("a timeout");
        Client { stream: BufReader::new(stream) }
    }

    /// The same, from this address of the loopback.
    pub fn from(rig: &Rig, from: IpAddr, to: impl Into<IpAddr>, port: u16) -> Client {
        let (from, to) = (SocketAddr::from((from, 0)), SocketAddr::from((to.into(), port)));
        let family = if from.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let fd = rig.inside(|| socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)).expect("socket");
        bind(fd.as_raw_fd(), &SockaddrStorage::from(from)).expect("bind");
        connect(fd.as_raw_fd(), &SockaddrStorage::from(to)).expect("connect");
        let stream = TcpStream::from(fd);
        stream.set_read_timeout(Some(FUSE)).expect("a timeout");
        Client { stream: BufReader::new(stream) }
    }

    pub fn to_rsync(rig: &Rig) -> Client {
        Client::to(rig, Ipv4Addr::LOCALHOST, 873)
    }

    /// A client that has read rsync's greeting: a rsync runs for it, in one place of the limit.
    pub fn served(rig: &Rig) -> Client {
        let mut client = Client::to_rsync(rig);
        client.await_greeting();
        client
    }

    pub fn await_greeting(&mut self) {
        let line = self.line();
        assert!(line.starts_with("@RSYNCD: "), "not a greeting: {line:?}");
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line");
        line
    }

    /// All that comes until the other end closes.
    pub fn rest(&mut self) -> String {
        let mut text = String::new();
        self.stream.read_to_string(&mut text).expect("text, then the end");
        text
    }

    /// All that comes until these words have come, or until the end, be it a reset: a server may leave something unread.
    pub fn reply(&mut self, until: Option<&str>) -> String {
        let (mut text, mut byte) = (Vec::new(), [0]);
        while !until.is_some_and(|words| text.ends_with(words.as_bytes())) {
            match self.stream.read(&mut byte) {
                Ok(0) => break,
                Ok(_) => text.extend(byte),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&text)),
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    pub fn send(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).expect("send");
    }

    /// Says that there is no more to come.
    pub fn close_sending(&self) {
        self.stream.get_ref().shutdown(Shutdown::Write).expect("shutdown");
    }

    /// The other end has gone: without a word, and nobody waits for one.
    pub fn sees_a_close(mut self) {
        let mut all = Vec::new();
        let end = self.stream.read_to_end(&mut all);
        let is_end = end.is_ok() || end.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset);
        assert!(is_end && all.is_empty(), "{:?}", String::from_utf8_lossy(&all));
    }

    /// Has rsync list its modules, which takes both directions, and ends.
    pub fn finish_with_a_list(mut self) {
        self.send("@RSYNCD: 31.0\n#list\n");
        let text = self.rest();
        assert!(text.contains("files") && text.ends_with("@RSYNCD: EXIT\n"), "not a list of modules: {text:?}");
    }

    /// Nothing comes for so long.
    pub fn waits(&self, span: Duration) {
        let stream = self.stream.get_ref();
        stream.set_read_timeout(Some(span)).expect("a timeout");
        let seen = stream.peek(&mut [0]);
        assert!(seen.as_ref().is_err_and(|e| e.kind() == ErrorKind::WouldBlock), "{seen:?}");
        stream.set_read_timeout(Some(FUSE)).expect("a timeout");
    }

    /// Goes as a machine that crashes goes: with a reset.
    pub fn reset(self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(self.stream.get_ref(), sockopt::Linger, &linger).expect("SO_LINGER");
    }

    pub fn port(&self) -> u16 {
        self.stream.get_ref().local_addr().expect("an address").port()
    }
}

/// A real rsync client, to its end.
pub fn rsync(rig: &Rig, arguments: &[&str]) -> Output {
    rig.enter(&[&["rsync"], arguments].concat()).output().expect("nsenter")
}

/// A real rsync client that succeeds.
pub fn rsync_ok(rig: &Rig, arguments: &[&str]) -> String {
    let out = rsync(rig, arguments);
    assert!(out.status.success(), "rsync {arguments:?}: {out:?}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A real rsync client over the limit, which asks for a list of files.
pub struct Waiting(Option<Child>);

impl Waiting {
    pub fn begin(rig: &Rig) -> Waiting {
        let child = rig
            .enter_to_kill(&["rsync", "rsync://127.0.0.1/files/"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nsenter");
        Waiting(Some(child))
    }

    /// Whether it has not ended yet.
    pub fn waits(&mut self) -> bool {
        self.0.as_mut().is_some_and(|child| child.try_wait().expect("wait").is_none())
    }

    /// How it ended, without help from here.
    pub fn outcome(mut self) -> Output {
        self.0.take().expect("a child").wait_with_output().expect("wait")
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A real rsync client amid a transfer that would take hours.
pub struct Transfer(Child);

impl Transfer {
    pub fn begin(rig: &Rig) -> Transfer {
        let large = "rsync://127.0.0.1/files/large";
        let mut child = rig
            .enter_to_kill(&["rsync", "--bwlimit=100", "--info=progress2", "--outbuf=L", large, "/tmp/"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Two processes on this side, which share the connection.
            .process_group(0)
            .spawn()
            .expect("nsenter");
        // The first byte of its progress: the module is open, the daemon's end is now the module's user.
        let mut first = [0];
        child.stdout.as_mut().expect("piped").read_exact(&mut first).expect("progress");
        Transfer(child)
    }

    /// How it ended, without help from here.
    pub fn outcome(mut self) -> ExitStatus {
        self.0.wait().expect("wait")
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            let _ = killpg(Pid::from_raw(self.0.id() as i32), Signal::SIGKILL);
            let _ = self.0.wait();
        }
    }
}
