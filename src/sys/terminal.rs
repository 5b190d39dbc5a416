//! A terminal: how large it is, and keys as they are pressed.

use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Lines and columns, if this is a terminal that knows them.
pub fn size(terminal: impl AsFd) -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes one winsize to where it is told to.
    let result = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// A terminal that gives each key as it is pressed, and shows none. It is as it was when this is dropped.
#[must_use]
#[derive(Debug)]
pub struct Keys {
    terminal: OwnedFd,
    before: Termios,
}

impl Keys {
    /// # Errors
    /// If this is no terminal, or a process in the background may not change it.
    pub fn of(terminal: OwnedFd) -> nix::Result<Keys> {
        let before = tcgetattr(&terminal)?;
        let mut now = before.clone();
        // Ctrl-C and Ctrl-Z stay signals.
        now.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        now.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        now.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        tcsetattr(&terminal, SetArg::TCSADRAIN, &now)?;
        Ok(Keys { terminal, before })
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.before); // a terminal that has gone needs nothing
    }
}
