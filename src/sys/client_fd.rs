//! Descriptors that a client may have loaded with others, and closing them without waiting.
//!
//! What lies unread in a UNIX connection is closed with its last copy, the files passed in it too (SCM_RIGHTS, unix(7)), and
//! so is what is read without a control buffer. Some files take their time: a TCP socket with SO_LINGER as long as its
//! sender chose (socket(7)). A thread that just closed them would hang as long, and with it whoever is behind
//! in its queue. The kernel does not linger for a task that is ending (`PF_EXITING` in inet_release(), net/ipv4/af_inet.c;
//! sctp, vsock and Bluetooth alike). So the last copy is left to a thread with a descriptor table of its own, which then ends.
//!
//! Nothing of this exists before the first such descriptor is dropped, and TCP connections never are: nobody can load them.

use nix::sys::socket::{SockType, getsockopt, sockopt};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread::{self, Builder};
use std::time::Duration;
use std::{io, iter};

/// How long descriptors are gathered, since a thread is made for each lot.
const GATHER: Duration = Duration::from_millis(100);
/// How long a thread keeps its lot. A child that was cloned meanwhile has copies until its exec, and must not be the last:
/// its command would begin late.
const HOLD: Duration = Duration::from_millis(500);
const STACK: usize = 64 << 10;
/// How long to wait for room for one more thread.
const AGAIN: Duration = Duration::from_millis(100);

/// A client's connection, or a listening socket with clients in its queue. Dropping it never waits.
#[derive(Debug)]
pub struct ClientFd {
    fd: ManuallyDrop<OwnedFd>,
    is_loadable: bool,
}

impl ClientFd {
    /// `is_loadable`: descriptors can be passed over it, as over every UNIX socket.
    pub fn new(fd: OwnedFd, is_loadable: bool) -> ClientFd {
        ClientFd { fd: ManuallyDrop::new(fd), is_loadable }
    }

    /// Whether descriptors can be passed over it, so that reading it may cost more than reading.
    pub fn is_loadable(&self) -> bool {
        self.is_loadable
    }

    /// Its end of file has been read. A stream has nothing in it then and gets nothing any more, so that its close is a plain one;
    /// with packets one without a byte looks the same.
    pub fn ended(&mut self) {
        let is_stream = || getsockopt(self, sockopt::SockType).is_ok_and(|kind| kind == SockType::Stream);
        self.is_loadable = self.is_loadable && !is_stream();
    }

    /// Closes this copy, which is not the last one.
    pub(super) fn close_as_one_of_many(mut self) {
        self.is_loadable = false;
    }
}

impl AsFd for ClientFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for ClientFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Drop for ClientFd {
    fn drop(&mut self) {
        // SAFETY: taken once, since nothing looks at it after this.
        let fd = unsafe { ManuallyDrop::take(&mut self.fd) };
        if self.is_loadable {
            close_elsewhere(fd);
        }
    }
}

thread_local! {
    static CLOSER: std::cell::RefCell<Closer> = const { std::cell::RefCell::new(Closer { queue: None, kept: Vec::new() }) };
}

/// The way to the closing thread.
struct Closer {
    queue: Option<Sender<OwnedFd>>,
    /// What could not be given to it, for want of a thread: until the next try, or the end of the process.
    kept: Vec<OwnedFd>,
}

fn close_elsewhere(fd: OwnedFd) {
    let mut given = Some(fd);
    let _ = CLOSER.try_with(|closer| {
        let mut closer = closer.borrow_mut();
        closer.kept.extend(given.take());
        if closer.queue.is_none() {
            let (queue, receiver) = channel();
            let started = Builder::new().name("closer".into()).stack_size(STACK).spawn(move || serve(&receiver));
            closer.queue = started.is_ok().then_some(queue);
        }
        let Closer { queue: Some(queue), kept } = &mut *closer else { return };
        // It lives as long as its queue; should it not, what is given back is kept.
        let refused: Vec<OwnedFd> = kept.drain(..).filter_map(|fd| queue.send(fd).err().map(|back| back.0)).collect();
        closer.kept = refused;
    });
    // The thread itself is ending: then nothing lingers.
    drop(given);
}

fn serve(queue: &Receiver<OwnedFd>) {
    while let Ok(first) = queue.recv() {
        thread::sleep(GATHER);
        close(iter::once(first).chain(queue.try_iter()).collect());
    }
}

/// Closes all copies but those of a thread that ends after it.
fn close(batch: Vec<OwnedFd>) {
    let mut numbers: Vec<RawFd> = batch.iter().map(AsRawFd::as_raw_fd).collect();
    numbers.sort_unstable();
    let told = loop {
        let told = Arc::new(Barrier::new(2));
        let tell = Arc::clone(&told);
        let numbers = numbers.clone();
        let hold = move || {
            let has_copies = keep_only(&numbers).is_ok();
            tell.wait();
            // Where a filter forbids it there is nothing to hold, and the other thread may wait in its closes.
            if has_copies {
                thread::sleep(HOLD);
            }
        };
        match Builder::new().name("closing".into()).stack_size(STACK).spawn(hold) {
            Ok(_) => break told,
            Err(_) => thread::sleep(AGAIN), // no room for a thread, which passes
        }
    };
    told.wait();
    drop(batch);
}

/// Gives the calling thread a descriptor table of its own with just these, in ascending order. It must end without using any other.
fn keep_only(numbers: &[RawFd]) -> io::Result<()> {
    // SAFETY: the table of this thread alone changes from here on, and the thread does nothing more but wait and end.
    unsafe {
        if libc::unshare(libc::CLONE_FILES) == -1 {
            return Err(io::Error::last_os_error());
        }
        let mut from = 0;
        for number in numbers.iter().map(|number| *number as u32) {
            if number > from {
                libc::syscall(libc::SYS_close_range, from, number - 1, 0);
            }
            from = number + 1;
        }
        libc::syscall(libc::SYS_close_range, from, u32::MAX, 0);
    }
    Ok(())
}
