//! Messages that carry a descriptor from one process to another (unix(7), SCM_RIGHTS).

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Room for one descriptor, aligned as a `cmsghdr` must be.
type Control = [u64; 4];

/// Sends a message, which may not be empty, with a copy of a descriptor, without waiting.
///
/// # Errors
/// sendmsg(2)'s: `EAGAIN` if the receiver is behind, `EPIPE` or `ECONNRESET` if there is none, `ETOOMANYREFS`.
pub fn send(socket: BorrowedFd, bytes: &[u8], fd: BorrowedFd) -> io::Result<()> {
    debug_assert!(!bytes.is_empty(), "no bytes are the end of file");
    let (flags, fds) = (MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL, [fd.as_raw_fd()]);
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(socket.as_raw_fd(), &[io::IoSlice::new(bytes)], &rights, flags, None)?;
    Ok(())
}

/// The next message, without waiting: its bytes, 0 at the end of file, and the descriptor, which is missing if there was no room for
/// it (RLIMIT_NOFILE).
///
/// # Errors
/// recvmsg(2)'s: `EAGAIN` if there is none yet.
pub fn receive(socket: BorrowedFd, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut control: Control = [0; 4];
    // SAFETY: all buffers live across the call; a msghdr of zeros is one; a descriptor that arrives is new, and ours alone. A
    // second one finds no room, and the kernel drops it.
    unsafe {
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let mut message: libc::msghdr = MaybeUninit::zeroed().assume_init();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_LEN(size_of::<c_int>() as u32) as _;
        let got = libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC);
        if got == -1 {
            return Err(io::Error::last_os_error());
        }
        let header = libc::CMSG_FIRSTHDR(&message);
        let has_fd = !header.is_null()
            && (*header).cmsg_type == libc::SCM_RIGHTS
            && (*header).cmsg_len as usize >= libc::CMSG_LEN(size_of::<c_int>() as u32) as usize;
        let fd = has_fd.then(|| OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned()));
        Ok((got as usize, fd))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;

    #[test]
    fn a_descriptor_comes_with_its_message() {
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let mut buffer = [0; 8];
        let none = receive(other.as_fd(), &mut buffer).unwrap_err();
        assert_eq!(none.raw_os_error(), Some(libc::EAGAIN));
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        send(one.as_fd(), b"seven", reader.as_fd()).unwrap();
        drop(reader);
        let (length, fd) = receive(other.as_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"seven");
        std::fs::File::from(writer).write_all(b"x").unwrap();
        let mut text = String::new();
        std::fs::File::from(fd.unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
        drop(one);
        assert_eq!(receive(other.as_fd(), &mut buffer).unwrap().0, 0, "the end");
        let gone = send(other.as_fd(), b"x", std::io::stdin().as_fd()).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::EPIPE));
    }
}
