//! Memory that outlives this process: a memfd that is mapped, and that others can hold (memfd_create(2)).

use nix::unistd::{Whence, lseek64};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

/// Bytes of one word.
pub const WORD: usize = size_of::<u32>();

/// Words in a memfd that is sealed against shrinking, so that no access to them can fail. Writing to them is no system call, and what
/// was written is there for whoever maps it next, however this process ends.
#[derive(Debug)]
pub struct Shared {
    fd: OwnedFd,
    start: NonNull<AtomicU32>,
    words: usize,
}

impl Shared {
    /// New ones, all zero. Memory is used for those that are written to.
    ///
    /// # Errors
    /// memfd_create(2)'s, ftruncate(2)'s (`EFBIG` beyond RLIMIT_FSIZE), fcntl(2)'s and mmap(2)'s.
    pub fn new(name: &CStr, words: usize) -> io::Result<Shared> {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: a NUL-terminated name and flags; the descriptor is new, and ours alone. Linux before 6.3 knows no
        // MFD_NOEXEC_SEAL; later ones may allow nothing else (vm.memfd_noexec).
        let fd = unsafe {
            let fd = match libc::memfd_create(name.as_ptr(), flags | libc::MFD_NOEXEC_SEAL) {
                -1 => libc::memfd_create(name.as_ptr(), flags),
                fd => fd,
            };
            match fd {
                -1 => return Err(io::Error::last_os_error()),
                fd => OwnedFd::from_raw_fd(fd),
            }
        };
        set_size(&fd, words)?;
        // SAFETY: a descriptor and two integers.
        if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL) } == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(Shared { start: map(&fd, words)?, fd, words })
    }

    /// Those that another process has made, and at most so many.
    ///
    /// # Errors
    /// `EINVAL` if they might shrink or are too many or none, `ESPIPE` if it is no memory, mmap(2)'s.
    pub fn open(fd: OwnedFd, max: usize) -> io::Result<Shared> {
        // SAFETY: a descriptor and an integer; only a memfd has seals.
        let seals = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
        // Not fstat(2), which fails where the C library has times of 32 bits and the file one after 2038.
        let size = lseek64(&fd, 0, Whence::SeekEnd)?;
        let words = usize::try_from(size).unwrap_or(0) / WORD;
        if seals == -1 || seals & libc::F_SEAL_SHRINK == 0 || words == 0 || words > max {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Ok(Shared { start: map(&fd, words)?, fd, words })
    }

    /// All of them.
    pub fn words(&self) -> &[AtomicU32] {
        // SAFETY: mapped from here on for so many words until this is dropped, and the memfd behind it cannot shrink. Others
        // that write to it do so to atomics, whatever they write.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }

    /// More of them, zero at first.
    ///
    /// # Errors
    /// ftruncate(2)'s and mmap(2)'s; then they are as many as before.
    pub fn grow(&mut self, words: usize) -> io::Result<()> {
        if words > self.words {
            set_size(&self.fd, words)?;
            let start = map(&self.fd, words)?;
            unmap(self.start, self.words);
            (self.start, self.words) = (start, words);
        }
        Ok(())
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        unmap(self.start, self.words);
    }
}

fn set_size(fd: &OwnedFd, words: usize) -> io::Result<()> {
    let bytes = words.checked_mul(WORD).and_then(|bytes| libc::off64_t::try_from(bytes).ok());
    let bytes = bytes.ok_or_else(|| io::Error::from_raw_os_error(libc::EFBIG))?;
    // SAFETY: a descriptor and an integer.
    match unsafe { libc::ftruncate64(fd.as_raw_fd(), bytes) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn map(fd: &OwnedFd, words: usize) -> io::Result<NonNull<AtomicU32>> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at a place of the kernel's choice; it is page-aligned.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), words * WORD, access, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
}

fn unmap(start: NonNull<AtomicU32>, words: usize) {
    // SAFETY: one of our own mappings, to which no reference is left.
    unsafe { libc::munmap(start.as_ptr().cast(), words * WORD) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, FileTimes};
    use std::sync::atomic::Ordering::Relaxed;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn what_one_has_written_the_next_one_reads() {
        let mut one = Shared::new(c"test", 10).unwrap();
        one.words()[9].store(7, Relaxed);
        one.grow(2000).unwrap();
        one.grow(5).unwrap();
        one.words()[1999].store(3, Relaxed);
        assert_eq!((one.words().len(), one.words()[9].load(Relaxed)), (2000, 7));
        let fd = || one.as_fd().try_clone_to_owned().unwrap();
        let next = Shared::open(fd(), 2000).unwrap();
        one.words()[0].store(5, Relaxed);
        assert_eq!((next.words().len(), next.words()[0].load(Relaxed)), (2000, 5));
        assert_eq!((next.words()[9].load(Relaxed), next.words()[1999].load(Relaxed)), (7, 3));
        assert!(Shared::open(fd(), 1999).is_err(), "more than allowed");
        assert!(File::from(fd()).set_len(8).is_err(), "it has shrunk");
        assert!(Shared::new(c"test", usize::MAX).is_err());
    }

    /// Where times have 32 bits, fstat(2) fails with EOVERFLOW.
    #[test]
    fn what_was_written_after_2038_is_read() {
        let one = Shared::new(c"test", 10).unwrap();
        one.words()[9].store(7, Relaxed);
        let fd = || one.as_fd().try_clone_to_owned().unwrap();
        let late = UNIX_EPOCH + Duration::from_secs(1 << 32);
        File::from(fd()).set_times(FileTimes::new().set_accessed(late).set_modified(late)).unwrap();
        assert_eq!(Shared::open(fd(), 10).unwrap().words()[9].load(Relaxed), 7);
    }

    #[test]
    fn what_may_shrink_is_not_mapped() {
        let plain = File::open("/proc/self/exe").unwrap();
        assert!(Shared::open(plain.into(), 1 << 30).is_err());
        // SAFETY: a name and flags; the descriptor is new.
        let unsealed = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"test".as_ptr(), libc::MFD_CLOEXEC)) };
        set_size(&unsealed, 10).unwrap();
        assert!(Shared::open(unsealed, 10).is_err());
        let empty = Shared::new(c"test", 1).unwrap();
        let (reader, _writer) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(Shared::open(reader.into(), 10).is_err());
        assert!(Shared::open(empty.as_fd().try_clone_to_owned().unwrap(), 0).is_err());
    }
}
