//! Reading what a client has sent, without waiting for it nor for what may come with it.

use super::client_fd::ClientFd;
use super::socket::option;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, recvmsg, setsockopt, sockopt};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// What came of reading a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes; 0 at the end of file.
    Bytes(usize),
    /// Nothing was read, since descriptors lie among it: they would be closed, and some of them take their time.
    Loaded,
}

/// Reads without waiting for anything; `is_thrown_away`: TCP need not even copy it (`MSG_TRUNC`, tcp(7)).
///
/// # Errors
/// recv(2)'s; `EAGAIN` if nothing is there.
pub fn receive(socket: &ClientFd, buffer: &mut [u8], is_thrown_away: bool) -> io::Result<Received> {
    let flags = MsgFlags::MSG_DONTWAIT | if is_thrown_away { MsgFlags::MSG_TRUNC } else { MsgFlags::empty() };
    if !socket.is_loadable() {
        return Ok(Received::Bytes(recv(socket.as_raw_fd(), buffer, flags)?));
    }
    // With a byte out of band in the queue (unix(7)) looking and reading would not meet the same bytes.
    let _ = setsockopt(socket, sockopt::OobInline, &true); // a kernel without such bytes may not know it
    let (mut bytes, mut is_loaded) = look(socket, buffer)?;
    if is_loaded && stop_passing_identity(socket) {
        (bytes, is_loaded) = look(socket, buffer)?;
    }
    if is_loaded {
        return Ok(Received::Loaded);
    }
    Ok(Received::Bytes(recv(socket.as_raw_fd(), &mut buffer[..bytes], MsgFlags::MSG_DONTWAIT)?))
}

/// How many bytes could be read, and whether something comes with them that was not asked for.
fn look(socket: &ClientFd, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
    let mut parts = [io::IoSliceMut::new(buffer)];
    let seen = recvmsg::<()>(socket.as_raw_fd(), &mut parts, None, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK)?;
    Ok((seen.bytes, seen.flags.contains(MsgFlags::MSG_CTRUNC)))
}

/// Takes so many bytes, which are there, from what a client has sent, and leaves all else as it is for whoever gets the connection.
/// [`Received::Bytes`] has their number: all of them.
///
/// # Errors
/// recv(2)'s; `ECONNRESET` if they are not there.
pub fn take(socket: &ClientFd, length: usize) -> io::Result<Received> {
    const FLAGS: [i32; 4] = [libc::SO_OOBINLINE, libc::SO_PASSCRED, libc::SO_PASSSEC, SO_PASSPIDFD];
    let is_on = |name: i32| option::<i32>(socket.as_fd(), libc::SOL_SOCKET, name).is_ok_and(|on| on != 0);
    // `receive` changes them for a connection that nobody else will read.
    let before = if socket.is_loadable() { FLAGS.map(is_on) } else { [false; 4] };
    let (mut left, mut buffer) = (length, [0; 512]);
    let result = loop {
        let part = left.min(buffer.len());
        match receive(socket, &mut buffer[..part], false) {
            Ok(Received::Bytes(0)) if left > 0 => break Err(io::Error::from_raw_os_error(libc::ECONNRESET)),
            Ok(Received::Bytes(taken)) => left -= taken,
            other => break other,
        }
        if left == 0 {
            break Ok(Received::Bytes(length));
        }
    };
    if socket.is_loadable() {
        FLAGS
            .into_iter()
            .zip(before)
            .filter(|(name, on)| is_on(*name) != *on)
            .for_each(|(name, on)| switch(socket, name, on));
    }
    result
}

/// Whether the peer has shut down its side: all that it ever sends has come.
pub fn is_half_closed(socket: BorrowedFd) -> bool {
    let half = PollFlags::from_bits_retain(libc::POLLRDHUP);
    let mut asked = [PollFd::new(socket, half)];
    poll(&mut asked, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

fn switch(socket: &ClientFd, name: i32, on: bool) {
    let (on, length) = (i32::from(on), size_of::<i32>() as libc::socklen_t);
    // SAFETY: the option's value is one readable integer.
    unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, (&raw const on).cast(), length) };
}

/// Makes who has sent a message no part of it: with `PassCredentials=` and its like (systemd.socket(5)) it is a part of each. `true`:
/// it was until now.
fn stop_passing_identity(socket: &ClientFd) -> bool {
    let is_on = |name| option::<i32>(socket.as_fd(), libc::SOL_SOCKET, name).is_ok_and(|on| on != 0);
    let mut was_on = false;
    for name in [libc::SO_PASSCRED, libc::SO_PASSSEC, SO_PASSPIDFD] {
        if is_on(name) {
            switch(socket, name, false);
            was_on = true;
        }
    }
    was_on
}

/// linux/socket.h, Linux 6.5.
const SO_PASSPIDFD: i32 = 76;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    /// Whoever gets the connection finds it as it was.
    #[test]
    fn what_is_taken_is_all_that_changes() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        setsockopt(&ours, sockopt::PassCred, &true).unwrap();
        let ours = ClientFd::new(ours.into(), true);
        let long = [7; 1500];
        theirs.write_all(&long).unwrap();
        theirs.write_all(b"rest").unwrap();
        assert_eq!(take(&ours, long.len()).unwrap(), Received::Bytes(long.len()));
        assert!(nix::sys::socket::getsockopt(&ours, sockopt::PassCred).unwrap());
        assert!(!nix::sys::socket::getsockopt(&ours, sockopt::OobInline).unwrap());
        drop(theirs);
        let mut rest = String::new();
        UnixStream::from(ours.as_fd().try_clone_to_owned().unwrap()).read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "rest");
        assert!(take(&ours, 1).is_err(), "more than is there");
    }
}
