//! VSOCK, by the loopback of the machine: its context (CID) is 1.

use crate::common::{BUSY, line};
use crate::guest::{ECHO, FUSE, Machine, PORT, SERVICE, SOCKET, answer, ask, connect, until};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, VsockAddr};

/// The standard library has no stream for it; reading and writing are the same.
fn connect_vsock() -> UnixStream {
    let fd = socket::socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("socket");
    socket::connect(fd.as_raw_fd(), &VsockAddr::new(libc::VMADDR_CID_LOCAL, PORT.into())).expect("connect");
    let stream = UnixStream::from(fd);
    stream.set_read_timeout(Some(FUSE)).expect("timeout");
    stream.set_write_timeout(Some(FUSE)).expect("timeout");
    stream
}

fn served(client: &mut UnixStream) {
    assert_eq!(line(client), "in");
    assert_eq!(ask(client, "still"), "still");
}

fn refused() {
    let mut client = connect_vsock();
    assert_eq!(answer(&mut client).as_deref(), Some(BUSY.trim_end()));
    assert_eq!(answer(&mut client), None);
}

pub fn the_cap_is_exact_over_vsock(machine: &Machine) {
    machine.listen("", &format!("--listen vsock:1:{PORT} --max-connections 3"), ECHO);
    let mut living = Vec::from([(); 3].map(|()| connect_vsock()));
    living.iter_mut().for_each(served);
    for _ in 0..3 {
        refused();
        machine.until_status("3/3 active");
        living.remove(0);
        machine.until_status("2/3 active");
        living.push(connect_vsock());
        served(living.last_mut().expect("three"));
    }
    refused();
    machine.until_said("rejected connection: at capacity (3/3): vsock 1 port ");
    machine.until_status("3/3 active, 0 waiting, 4 refused");
    drop(living);
    machine.until_status("0/3 active");

    // Those who may wait are served in turn.
    machine.listen("", &format!("--listen vsock:1:{PORT} --max-connections 1 --when-full wait"), ECHO);
    let clients = [(); 4].map(|()| connect_vsock());
    for mut client in clients {
        served(&mut client);
    }
    machine.until_status("0/1 active, 0 waiting, 0 refused");
    machine.assert_unharmed();
}

pub fn a_context_is_a_source(machine: &Machine) {
    let command = "echo in; echo \"$PROTO ${REMOTE_ADDR-unset}\"; exec cat";
    let options = format!("--listen vsock::{PORT} --listen 127.0.0.1:{PORT} --max-per-source 2");
    machine.listen("", &options, command);
    let mut living = Vec::from([(); 2].map(|()| connect_vsock()));
    for client in &mut living {
        assert_eq!(line(client), "in");
        assert_eq!(line(client), " vsock:1");
        assert_eq!(ask(client, "still"), "still");
    }
    refused();
    // Nobody else is concerned.
    assert_eq!(line(&mut connect()), "in");
    drop(living);
    until("a place of the context", || answer(&mut connect_vsock()).filter(|said| said == "in"));

    machine.listen("", &format!("{options} --exempt cid=1"), command);
    let mut living = [(); 3].map(|()| connect_vsock());
    living.iter_mut().for_each(|client| assert_eq!(line(client), "in"));
    machine.assert_unharmed();
}

pub fn a_socket_unit_of_vsock_is_served(machine: &Machine) {
    machine.serve("", "--max-connections 2", ECHO);
    machine.unit(SOCKET, &format!("[Socket]\nListenStream=vsock:1:{PORT}\nFileDescriptorName=vm\n"));
    machine.ok(&format!("systemctl stop {SOCKET}; systemctl daemon-reload; systemctl start {SOCKET}"));
    let mut living = [(); 2].map(|()| connect_vsock());
    living.iter_mut().for_each(served);
    refused();
    // The socket is systemd's, so nobody is lost between two daemons.
    machine.ok(&format!("systemctl restart {SERVICE}"));
    refused();
    living.iter_mut().for_each(|client| assert_eq!(ask(client, "still"), "still"));
    machine.assert_unharmed();
}
