//! A terminal that is drawn on in place, and is as it was before when this is dropped.
#![forbid(unsafe_code)]

use super::failure::Failure;
use super::output::print;
use crate::sys::errno_words;
use crate::sys::terminal::{self, Keys};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io::{Read, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const TO_END_OF_LINE: &str = "\x1b[K";
const TO_END_OF_SCREEN: &str = "\x1b[J";

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The wait is over.
    Time,
    /// These descriptors, of those that were waited for, can be read.
    Readable(Vec<usize>),
    /// The size has changed, or the screen has to be drawn anew.
    Redraw,
    /// A key, or a signal, ends the program.
    Quit,
}

/// The terminal, while it is ours.
#[derive(Debug)]
pub struct Screen {
    signals: SignalFd,
    /// None if there is no keyboard.
    keys: Option<Keys>,
}

impl Screen {
    /// Takes over the terminal at stdout, and the keyboard at stdin, if it is one.
    ///
    /// # Errors
    /// One line.
    pub fn enter() -> Result<Screen, Failure> {
        use Signal::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
        let mask: SigSet = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP, SIGCONT].into_iter().collect();
        let signals = mask
            .thread_block()
            .and_then(|()| SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC))
            .map_err(|error| Failure::failed(format!("cannot wait for signals: {}", errno_words(error as i32))))?;
        let mut screen = Screen { signals, keys: None };
        screen.begin()?;
        Ok(screen)
    }

    fn begin(&mut self) -> Result<(), Failure> {
        self.keys = stdin().as_fd().try_clone_to_owned().ok().and_then(|stdin| Keys::of(stdin).ok());
        print(ENTER)
    }

    fn end(&mut self) {
        let _ = print(LEAVE); // to a terminal that has gone
        self.keys = None;
    }

    /// Lines and columns.
    pub fn size(&self) -> (usize, usize) {
        let (rows, columns) = terminal::size(stdout()).unwrap_or((24, 80));
        (rows.into(), columns.into())
    }

    /// Shows these lines, cut to the screen. They have no control characters.
    ///
    /// # Errors
    /// If the terminal has gone.
    pub fn draw(&self, lines: &[String]) -> Result<(), Failure> {
        let (rows, columns) = self.size();
        print(&frame(lines, rows, columns))
    }

    /// Waits for one of `fds`, a key, a signal, or until then.
    ///
    /// # Errors
    /// One line.
    pub fn wait(&mut self, until: Instant, fds: &[BorrowedFd]) -> Result<Event, Failure> {
        let left = until.saturating_duration_since(Instant::now());
        // Rounded up: the last millisecond is not to be spun away.
        let timeout = PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
        let stdin = stdin();
        let mut all: Vec<_> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        all.push(PollFd::new(self.signals.as_fd(), PollFlags::POLLIN));
        if self.keys.is_some() {
            all.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut all, timeout) {
            Ok(0) => return Ok(Event::Time),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(Failure::failed(format!("cannot wait: {}", errno_words(error as i32)))),
        }
        let is_ready = |at: usize| all.get(at).and_then(PollFd::revents).is_some_and(|events| !events.is_empty());
        let (of_signals, of_keys) = (is_ready(fds.len()), is_ready(fds.len() + 1));
        let readable: Vec<_> = (0..fds.len()).filter(|at| is_ready(*at)).collect();
        if of_keys && self.has_quit_key() {
            return Ok(Event::Quit);
        }
        let event = if of_signals { self.signal()? } else { None };
        if let Some(event) = event {
            return Ok(event);
        }
        Ok(Event::Readable(readable))
    }

    /// Whether q was pressed. At the end of the keyboard there will be no more keys.
    fn has_quit_key(&mut self) -> bool {
        let mut bytes = [0; 64];
        match stdin().read(&mut bytes) {
            Ok(0) | Err(_) => {
                self.keys = None;
                false
            }
            Ok(n) => bytes[..n].iter().any(|key| matches!(key, b'q' | b'Q')),
        }
    }

    fn signal(&mut self) -> Result<Option<Event>, Failure> {
        let Ok(Some(info)) = self.signals.read_signal() else { return Ok(None) };
        match Signal::try_from(info.ssi_signo as i32) {
            Ok(Signal::SIGWINCH) => Ok(Some(Event::Redraw)),
            Ok(Signal::SIGTSTP) => {
                self.end();
                let _ = raise(Signal::SIGSTOP); // returns when we are continued
                self.begin()?;
                Ok(Some(Event::Redraw))
            }
            Ok(Signal::SIGCONT) => Ok(Some(Event::Redraw)),
            _ => Ok(Some(Event::Quit)),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.end();
    }
}

/// What is written to show `lines` on so large a screen, in place of what was there.
fn frame(lines: &[String], rows: usize, columns: usize) -> String {
    let mut out = HOME.to_owned();
    for (at, line) in lines.iter().take(rows).enumerate() {
        if at > 0 {
            out += "\r\n";
        }
        out.extend(line.chars().take(columns));
        // In the last column this would clear the last letter.
        if line.chars().count() < columns {
            out += TO_END_OF_LINE;
        }
    }
    if lines.len() < rows {
        out += TO_END_OF_SCREEN;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_stays_on_the_screen() {
        let lines = ["abcdef", "ab", "c"].map(str::to_owned);
        assert_eq!(frame(&lines, 2, 4), "\x1b[Habcd\r\nab\x1b[K");
        assert_eq!(frame(&lines[1..], 4, 4), "\x1b[Hab\x1b[K\r\nc\x1b[K\x1b[J");
    }
}
