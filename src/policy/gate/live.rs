//! What an administrator asks of the gate while it works. Nothing of it ends a command, and nobody who waits loses a place.
#![forbid(unsafe_code)]

use super::{Action, Gate};
use std::collections::VecDeque;
use std::time::Instant;

impl Gate {
    /// Begins, or ends, to let no command start for anybody, those of `--exempt` among them: clients are refused for
    /// [`Reason::DRAINED`](super::Reason::DRAINED), or wait with [`WhenFull::Wait`](super::WhenFull::Wait), and `--max-wait` goes on.
    /// At the end of it those who wait are admitted in their order. Asking for what is so already changes nothing.
    pub fn set_drained(&mut self, now: Instant, is_drained: bool, out: &mut VecDeque<Action>) {
        self.limits.set_drained(is_drained);
        self.settle(now, out);
    }

    /// Whether no command starts for anybody, since that was asked for.
    pub fn is_drained(&self) -> bool {
        self.limits.is_drained()
    }
}
