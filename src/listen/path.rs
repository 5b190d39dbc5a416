//! A UNIX socket's path: taken from nobody who lives, and left as it was found.
#![forbid(unsafe_code)]

use crate::sys::socket;
use nix::sys::socket as ns;
use nix::sys::stat::{Mode, fchmod};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The path of a socket that we made.
#[derive(Debug)]
pub struct OwnPath {
    path: PathBuf,
    /// Device and inode, by which it is known to be ours still.
    file: (u64, u64),
}

impl OwnPath {
    /// Binds a socket at `path`. A socket file that no socket is bound to any more is replaced, as systemd does
    /// (`socket_address_listen` unlinks on EADDRINUSE); one that is in use is left alone, and so is any other file. Its mode is at most
    /// `mode`, less the umask, from the moment on at which it is there.
    ///
    /// # Errors
    /// bind(2)'s; `EADDRINUSE` if the path is somebody's.
    pub fn bind(path: PathBuf, mode: Mode) -> io::Result<(OwnedFd, OwnPath)> {
        let (fd, at) = (socket::stream(ns::AddressFamily::Unix)?, ns::UnixAddr::new(&path)?);
        // The file gets the mode that its socket has (unix_bind_bsd(), net/unix/af_unix.c).
        fchmod(&fd, mode)?;
        match ns::bind(fd.as_raw_fd(), &at) {
            Ok(()) => {}
            Err(nix::Error::EADDRINUSE) if is_abandoned(&path, &at)? => {
                std::fs::remove_file(&path)?;
                ns::bind(fd.as_raw_fd(), &at)?;
            }
            Err(error) => return Err(error.into()),
        }
        let file = std::fs::symlink_metadata(&path)?;
        Ok((fd, OwnPath { path, file: (file.dev(), file.ino()) }))
    }
}

impl Drop for OwnPath {
    /// Removes it, unless it is somebody else's by now.
    fn drop(&mut self) {
        let is_ours = |file: &std::fs::Metadata| (file.dev(), file.ino()) == self.file;
        if std::fs::symlink_metadata(&self.path).is_ok_and(|file| is_ours(&file)) {
            let _ = std::fs::remove_file(&self.path); // gone already is as good
        }
    }
}

/// Whether it is a socket file without a socket. A datagram socket asks, which is no client of anybody and waits for no
/// queue: connect(2) gives EPROTOTYPE for a stream socket that is bound, and ECONNREFUSED where none is.
fn is_abandoned(path: &Path, at: &ns::UnixAddr) -> io::Result<bool> {
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        return Ok(false);
    }
    let probe = ns::socket(ns::AddressFamily::Unix, ns::SockType::Datagram, ns::SockFlag::SOCK_CLOEXEC, None)?;
    Ok(ns::connect(probe.as_raw_fd(), at) == Err(nix::Error::ECONNREFUSED))
}
