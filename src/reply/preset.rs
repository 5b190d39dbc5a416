//! What a protocol needs to refuse a client: its words, and what has to be heard before them.
#![forbid(unsafe_code)]

use std::borrow::Cow;

/// Bytes that are heard of one client, answered or not, before the last word; more than any request line or
/// startup packet of an honest client.
pub const MAX_INPUT: usize = 16 << 10;

/// One protocol's way of saying "come back later".
pub struct Preset {
    /// The value of `--busy-reply`.
    pub name: &'static str,
    /// For help: what a client of this protocol sees.
    pub about: &'static str,
    pub(super) speaks_first: SpeaksFirst,
    /// Why this text would break the protocol, although it is printable and on one line.
    pub(super) rejects_text: fn(&str) -> Option<&'static str>,
}

/// Who speaks first. The text in [`Notice`] is printable ASCII on one line, at most a little over 400 bytes.
pub(super) enum SpeaksFirst {
    /// The server: these bytes go out at once, whatever the client does.
    Server(fn(&Notice, &mut Vec<u8>)),
    /// The client, perhaps after a greeting of ours.
    Client {
        greeting: &'static [u8],
        /// Appends what is to be sent now.
        answer: Answer,
    },
}

pub(super) type Answer = fn(Input, &Notice, &mut Vec<u8>) -> Step;

impl Preset {
    /// Of a protocol in which the server speaks first, in lines that any printable text fits into.
    pub(super) const fn server(name: &'static str, about: &'static str, render: fn(&Notice, &mut Vec<u8>)) -> Preset {
        Preset { name, about, speaks_first: SpeaksFirst::Server(render), rejects_text: any_line }
    }
}

/// What a client has said so far and what has not been answered of it.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The bytes; at most [`MAX_INPUT`].
    pub bytes: &'a [u8],
    /// No more will be heard: it has ended, said too much, or taken too long. Then the answer is [`Step::Done`].
    pub is_all: bool,
}

/// How the conversation goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The client has to say more first.
    More,
    /// So many bytes of what was heard are answered; what follows is heard anew.
    Next(usize),
    /// That was the last word.
    Done,
}

/// No objection: for protocols that carry any printable line.
pub(super) fn any_line(_: &str) -> Option<&'static str> {
    None
}

/// What a preset may put into words.
pub(super) struct Notice<'a> {
    pub(super) text: &'a str,
    /// Whether the administrator chose the text.
    pub(super) chosen: bool,
    /// The limit that was reached; 0 if there is no such number.
    pub(super) max: u32,
    /// Seconds after which the client may come back.
    pub(super) retry: u32,
    /// Refused by a limit, and not since the command could not be started.
    pub(super) busy: bool,
    /// The name of this machine, for protocols whose replies begin with it.
    pub(super) host: &'a str,
}

impl<'a> Notice<'a> {
    /// The text, and that it is for now only, unless the administrator chose the words.
    pub(super) fn with_retry_hint(&self) -> Cow<'a, str> {
        if self.chosen { self.text.into() } else { format!("{}, try again later", self.text).into() }
    }

    /// `words`, by which the tools of this protocol know a full house, unless the administrator chose others or
    /// it is not full.
    pub(super) fn or_servers_own(&self, words: &'static str) -> &'a str {
        if self.busy && !self.chosen { words } else { self.text }
    }
}
