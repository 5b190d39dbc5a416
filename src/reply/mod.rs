//! What a refused client is told, in its own protocol: bytes, and what must be read before them.
//!
//! One small file per protocol and one line in [`PRESETS`]; help, man page and tests loop over the table.
//! Pure: who sends and reads is `listen::linger`.
#![forbid(unsafe_code)]

mod ftp;
mod git;
mod http;
mod imap;
mod irc;
mod ldap;
mod lmtp;
mod managesieve;
mod memcached;
mod mqtt;
mod mysql;
mod nntp;
mod none;
mod pop3;
mod postgresql;
mod reader;
mod redis;
mod rsync;
mod smtp;
mod ssh;
mod text;
mod tls;
mod vnc;

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;

/// Seconds after which a client may well come back; what `{retry}` stands for.
pub const RETRY_SECONDS: u32 = 10;
/// The human part of a refusal by a limit, unless `--busy-message` says otherwise.
pub const BUSY: &str = "server at capacity";
/// The human part when the command cannot be started.
pub const UNAVAILABLE: &str = "service unavailable";
/// The longest text that every line-based protocol carries (RFC 5321 section 4.5.3.1.5: 512 bytes a reply line).
const LONGEST: usize = 400;
/// Bytes that are heard of one client, answered or not, before the last word; more than any request line or
/// startup packet of an honest client.
pub const MOST_HEARD: usize = 16 << 10;
/// The longest reply from a file, in bytes.
pub const LONGEST_FILE: usize = 64 << 10;

/// One protocol's way of saying "come back later".
pub struct Preset {
    /// The value of `--busy-reply`.
    pub name: &'static str,
    /// For help: what a client of this protocol sees.
    pub about: &'static str,
    talk: Talk,
    /// Why this text would break the protocol, although it is printable and on one line.
    objects: fn(&str) -> Option<&'static str>,
}

/// Who speaks first. The text in [`Saying`] is printable ASCII on one line, at most a little over 400 bytes.
enum Talk {
    /// The server: these bytes go out at once, whatever the client does.
    Server(fn(&Saying, &mut Vec<u8>)),
    /// The client, perhaps after a greeting of ours.
    Client {
        greeting: &'static [u8],
        /// Appends what is to be sent now.
        answer: Answer,
    },
}

type Answer = fn(Heard, &Saying, &mut Vec<u8>) -> Step;

/// What a client has said so far and what has not been answered of it.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    /// The bytes; at most [`MOST_HEARD`].
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
fn any_line(_: &str) -> Option<&'static str> {
    None
}

/// Every preset, in the order of help.
pub static PRESETS: [Preset; 22] = [
    text::PRESET,
    none::PRESET,
    rsync::PRESET,
    http::PRESET,
    smtp::PRESET,
    lmtp::PRESET,
    ftp::PRESET,
    imap::PRESET,
    pop3::PRESET,
    ssh::PRESET,
    git::PRESET,
    mysql::PRESET,
    postgresql::PRESET,
    redis::PRESET,
    memcached::PRESET,
    nntp::PRESET,
    ldap::PRESET,
    irc::PRESET,
    tls::PRESET,
    mqtt::PRESET,
    vnc::PRESET,
    managesieve::PRESET,
];

/// What a preset may put into words.
struct Saying<'a> {
    text: &'a str,
    /// Whether the administrator chose the text.
    chosen: bool,
    /// The limit that was reached; 0 if there is no such number.
    max: u32,
    /// Refused by a limit, and not since the command could not be started.
    busy: bool,
    /// The name of this machine, for protocols whose replies begin with it.
    host: &'a str,
}

impl<'a> Saying<'a> {
    /// The text, and that it is for now only, unless the administrator chose the words.
    fn or_later(&self) -> Cow<'a, str> {
        if self.chosen { self.text.into() } else { format!("{}, try again later", self.text).into() }
    }

    /// `words`, by which the tools of this protocol know a full house, unless the administrator chose others or
    /// it is not full.
    fn or_own(&self, words: &'static str) -> &'a str {
        if self.busy && !self.chosen { words } else { self.text }
    }
}

/// `--busy-reply`: a preset or the bytes of a file.
#[derive(Clone)]
pub enum Choice {
    /// One of [`PRESETS`].
    Preset(&'static Preset),
    /// These bytes as they are, and where they came from.
    File(String, Arc<[u8]>),
}

impl Choice {
    /// The bytes of the file at `path`.
    ///
    /// # Errors
    /// If there are more than [`LONGEST_FILE`].
    pub fn file(path: &str, bytes: Vec<u8>) -> Result<Self, String> {
        match bytes.len() {
            0..=LONGEST_FILE => Ok(Choice::File(path.into(), bytes.into())),
            len => Err(format!("'{path}' has {len} bytes, and a reply may have {LONGEST_FILE}")),
        }
    }

    /// # Errors
    /// Why `message` would break this protocol.
    pub fn check(&self, message: &Message) -> Result<(), String> {
        let Choice::Preset(preset) = self else { return Ok(()) };
        match (preset.objects)(&message.text) {
            Some(why) => Err(format!("'{}' would break the protocol {}: {why}", message.text, preset.name)),
            None => Ok(()),
        }
    }
}

impl FromStr for Choice {
    type Err = String;

    /// A preset by its name; [`Choice::file`] makes the other kind.
    fn from_str(name: &str) -> Result<Self, String> {
        let names: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
        let unknown = || format!("expected file:PATH or one of: {}", names.join(", "));
        PRESETS.iter().find(|preset| preset.name == name).map(Choice::Preset).ok_or_else(unknown)
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Choice::Preset(preset) => f.write_str(preset.name),
            Choice::File(path, bytes) => write!(f, "file:{path} ({} bytes)", bytes.len()),
        }
    }
}

impl fmt::Debug for Choice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `--busy-message`: text with `{max}`, `{active}` and `{retry}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    text: String,
    chosen: bool,
}

impl Default for Message {
    fn default() -> Self {
        Message { text: BUSY.into(), chosen: false }
    }
}

impl FromStr for Message {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("it is empty; for a refusal without a word there is --busy-reply none".into());
        }
        if text.len() > LONGEST {
            return Err(format!("it has {} bytes, and {LONGEST} fit into one reply line", text.len()));
        }
        if let Some(bad) = text.chars().find(|c| !(' '..='~').contains(c)) {
            return Err(format!("{bad:?} would break the protocol: only printable ASCII on one line"));
        }
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            rest = &rest[at..];
            let known = ["{max}", "{active}", "{retry}"].into_iter().find(|name| rest.starts_with(name));
            match known {
                Some(name) => rest = &rest[name.len()..],
                None => {
                    let end = rest.find('}').map_or(rest.len(), |end| end + 1);
                    return Err(format!("'{}' is not one of {{max}}, {{active}}, {{retry}}", &rest[..end]));
                }
            }
        }
        // The default, typed out, is still the default.
        Ok(Message { text: text.into(), chosen: text != BUSY })
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Makes the reply for one refusal; keeps the last, since a flood repeats it.
#[derive(Debug)]
pub struct Replies {
    choice: Choice,
    message: Message,
    host: Rc<str>,
    last: Option<((u32, u32), Rc<Reply>)>,
}

impl Replies {
    /// Replies in this protocol, with this text, from the machine of this name.
    pub fn new(choice: Choice, message: Message, host: &str) -> Self {
        // RFC 5321 section 4.1.2, Domain: anything else would break a reply line.
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        let host = if !host.is_empty() && host.chars().all(plain) { host } else { "localhost" };
        Replies { choice, message, host: host.into(), last: None }
    }

    /// For a limit: `active` commands run, `max` may (0: the reason has no such number).
    pub fn busy(&mut self, active: u32, max: u32) -> Rc<Reply> {
        if let Some((key, reply)) = &self.last {
            if *key == (active, max) {
                return reply.clone();
            }
        }
        let text = &self.message.text;
        let filled = text
            .replace("{max}", &max.to_string())
            .replace("{active}", &active.to_string())
            .replace("{retry}", &RETRY_SECONDS.to_string());
        let reply = Rc::new(self.reply(filled, self.message.chosen, max, true));
        self.last = Some(((active, max), reply.clone()));
        reply
    }

    /// For a command that could not be started.
    pub fn unavailable(&self) -> Rc<Reply> {
        Rc::new(self.reply(UNAVAILABLE.into(), false, 0, false))
    }

    fn reply(&self, text: String, chosen: bool, max: u32, busy: bool) -> Reply {
        let mut reply = Reply { opening: Vec::new(), answer: None, text, chosen, max, busy, host: self.host.clone() };
        match &self.choice {
            Choice::File(_, bytes) => reply.opening.extend_from_slice(bytes),
            Choice::Preset(Preset { talk: Talk::Server(render), .. }) => {
                let mut opening = Vec::new();
                render(&reply.saying(), &mut opening);
                reply.opening = opening;
            }
            Choice::Preset(Preset { talk: Talk::Client { greeting, answer }, .. }) => {
                reply.opening.extend_from_slice(greeting);
                reply.answer = Some(*answer);
            }
        }
        reply
    }
}

/// Our side of one refusal.
pub struct Reply {
    opening: Vec<u8>,
    answer: Option<Answer>,
    text: String,
    chosen: bool,
    max: u32,
    busy: bool,
    host: Rc<str>,
}

impl Reply {
    /// What is sent as soon as the client is refused; may be empty.
    pub fn opening(&self) -> &[u8] {
        &self.opening
    }

    /// Whether the client is heard before [`Reply::answer`] has the last word. Otherwise the opening is all.
    pub fn hears(&self) -> bool {
        self.answer.is_some()
    }

    /// Appends to `out` what is to be sent after `heard`.
    pub fn answer(&self, heard: Heard, out: &mut Vec<u8>) -> Step {
        let Some(answer) = self.answer else { return Step::Done };
        match answer(heard, &self.saying(), out) {
            Step::Done => Step::Done,
            // Nothing more will come: a preset that still waits has nothing to say to this client.
            _ if heard.is_all => Step::Done,
            step => step,
        }
    }

    fn saying(&self) -> Saying<'_> {
        let Reply { text, chosen, max, busy, host, .. } = self;
        Saying { text, chosen: *chosen, max: *max, busy: *busy, host }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Reply").field("text", &self.text).field("hears", &self.hears()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn replies(preset: &str, message: Message) -> Replies {
        Replies::new(preset.parse().unwrap(), message, "host.example")
    }

    /// All that a client gets that says these parts one after the other and then no more.
    fn all_of_parts(reply: &Reply, parts: &[&[u8]]) -> Vec<u8> {
        let (mut out, mut rest) = (reply.opening().to_vec(), Vec::new());
        let mut parts = parts.iter();
        while reply.hears() {
            let part = parts.next();
            rest.extend_from_slice(part.copied().unwrap_or_default());
            loop {
                match reply.answer(Heard { bytes: &rest, is_all: part.is_none() }, &mut out) {
                    Step::Done => return out,
                    Step::Next(taken) => {
                        assert!((1..=rest.len()).contains(&taken), "{taken} of {}", rest.len());
                        drop(rest.drain(..taken));
                    }
                    Step::More => break,
                }
            }
            assert!(part.is_some(), "the last word is not said");
        }
        out
    }

    fn all_of(reply: &Reply, heard: &[u8]) -> Vec<u8> {
        all_of_parts(reply, &[heard])
    }

    /// What a client is told that says `heard` and is over the limit of 4; `text`: what the administrator chose.
    pub(super) fn told(preset: &str, text: Option<&str>, heard: &[u8]) -> Vec<u8> {
        let message = text.map_or_else(Message::default, |text| text.parse().unwrap());
        all_of(&replies(preset, message).busy(4, 4), heard)
    }

    /// The same if the command cannot be started.
    pub(super) fn unavailable(preset: &str, heard: &[u8]) -> Vec<u8> {
        all_of(&replies(preset, Message::default()).unavailable(), heard)
    }

    /// What the clients of each protocol that lets them speak say at first.
    const FIRST_WORDS: [(&str, &[u8]); 13] = [
        ("http", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("postgresql", b"\0\0\0\x10\0\x03\0\0user\0a\0\0"),
        ("postgresql", b"\0\0\0\x08\x04\xd2\x16\x2f\0\0\0\x10\0\x03\0\0user\0a\0\0"),
        ("postgresql", b"\0\0\0\x08\x04\xd2\x16\x30\0\0\0\x08\x04\xd2\x16\x2f\0\0\0\x10\0\x03\0\x02user\0a\0\0"),
        ("ldap", b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\0\x80\0"),
        ("ldap", b"\x30\x81\x1e\x02\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"),
        ("mqtt", b"\x10\x0e\0\x04MQTT\x05\x02\0\x3c\0\0\x01a"),
        ("mqtt", b"\x10\x13\0\x04MQTT\x05\x02\0\x3c\x05\x27\0\0\x04\0\0\x01a"),
        ("mqtt", b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0"),
        ("mqtt", b"\x10\x0e\0\x06MQIsdp\x03\x02\0\x3c\0\0"),
        ("vnc", b"RFB 003.008\n"),
        ("vnc", b"RFB 003.007\n"),
        ("vnc", b"RFB 003.003\n"),
    ];

    fn first_words(preset: &str) -> impl Iterator<Item = &'static [u8]> {
        FIRST_WORDS.iter().filter(move |(name, _)| *name == preset).map(|(_, words)| *words)
    }

    #[test]
    fn the_fixed_texts() {
        let busy = |preset, max| all_of(&replies(preset, Message::default()).busy(max, max), b"");
        assert_eq!(busy("text", 3), b"server at capacity\n");
        assert_eq!(busy("none", 3), b"");
        assert_eq!(busy("rsync", 4), b"@RSYNCD: 31.0\n@ERROR: max connections (4) reached -- try again later\n");
        assert_eq!(replies("text", Message::default()).unavailable().opening(), b"service unavailable\n");
    }

    #[test]
    fn a_message_is_filled_in_everywhere() {
        let message: Message = "{active} of {max}, again in {retry} s".parse().unwrap();
        for preset in PRESETS.iter().filter(|preset| !["none", "tls"].contains(&preset.name)) {
            let words = first_words(preset.name).next().unwrap_or(b"");
            let mut replies = replies(preset.name, message.clone());
            for (active, max) in [(3, 4), (4, 4), (4, 4)] {
                let bytes = all_of(&replies.busy(active, max), words);
                let text = String::from_utf8_lossy(&bytes);
                assert!(text.contains(&format!("{active} of {max}, again in 10 s")), "{}: {text}", preset.name);
            }
        }
    }

    #[test]
    fn lines_are_not_too_long() {
        let lines = ["smtp", "lmtp", "ftp", "imap", "pop3", "ssh", "redis", "memcached", "nntp", "irc", "managesieve"];
        let longest = "x".repeat(LONGEST);
        for preset in lines {
            for reply in [told(preset, Some(&longest), b""), told(preset, None, b""), unavailable(preset, b"")] {
                let text = String::from_utf8(reply).unwrap();
                assert_eq!(text.find("\r\n"), Some(text.len() - 2), "{preset}: {text:?}");
                assert!(text.len() <= 512, "{preset}: {} bytes", text.len());
            }
        }
    }

    #[test]
    fn first_words_are_answered_alike_in_one_piece_and_in_many() {
        for preset in PRESETS.iter().filter(|preset| matches!(preset.talk, Talk::Client { .. })) {
            assert!(first_words(preset.name).next().is_some(), "{} has no first words", preset.name);
        }
        for (preset, words) in FIRST_WORDS {
            let reply = replies(preset, Message::default()).busy(4, 4);
            let bytes: Vec<_> = words.chunks(1).collect();
            assert_eq!(all_of_parts(&reply, &bytes), all_of(&reply, words), "{preset}: {words:x?}");
            assert!(all_of(&reply, words).len() > reply.opening().len(), "{preset}: {words:x?}");
        }
    }

    /// Anything, or what a client says with some bytes changed and more after it.
    fn babble() -> impl Strategy<Value = Vec<u8>> {
        let bytes = || vec(any::<u8>(), 0..300);
        let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
        let nearly =
            (prop::sample::select(&FIRST_WORDS[..]), changes, bytes()).prop_map(|((_, words), changes, more)| {
                let mut words = words.to_vec();
                let length = words.len();
                changes.iter().for_each(|(at, byte)| words[at.index(length)] = *byte);
                [words, more].concat()
            });
        prop_oneof![1 => bytes(), 3 => nearly]
    }

    proptest! {
        /// `all_of_parts` sees to it that there is a last word and nothing unheard is answered.
        #[test]
        fn no_babble_confuses_a_preset(
            heard in babble(), sizes in vec(1..40usize, 1..40), text in prop::option::of("[ -z|~]{1,400}"),
            is_up in any::<bool>(),
        ) {
            let (mut parts, mut rest) = (Vec::new(), &heard[..]);
            for size in sizes {
                let (part, after) = rest.split_at(size.min(rest.len()));
                parts.push(part);
                rest = after;
            }
            parts.push(rest);
            for preset in &PRESETS {
                let message = text.as_deref().map_or_else(Message::default, |text| text.parse().unwrap());
                let mut replies = replies(preset.name, message);
                let reply = if is_up { replies.busy(4, 4) } else { replies.unavailable() };
                for parts in [&parts[..], &[&heard]] {
                    let out = all_of_parts(&reply, parts);
                    prop_assert!(out.len() < 2048, "{}: {} bytes", preset.name, out.len());
                }
            }
        }
    }

    #[test]
    fn a_file_is_sent_as_it_is() {
        let choice = Choice::file("/x", b"\0\r\nany {max}".to_vec()).unwrap();
        let mut replies = Replies::new(choice, Message::default(), "host.example");
        assert_eq!(all_of(&replies.busy(1, 1), b""), b"\0\r\nany {max}");
        assert!(Choice::file("/x", vec![0; LONGEST_FILE]).is_ok());
        assert!(Choice::file("/x", vec![0; LONGEST_FILE + 1]).is_err());
    }

    #[test]
    fn a_host_name_that_is_none_is_not_sent() {
        for (host, sent) in [("mx1.example", "mx1.example"), ("", "localhost"), ("a b\r\n", "localhost")] {
            assert_eq!(&*Replies::new(Choice::Preset(&PRESETS[0]), Message::default(), host).host, sent);
        }
    }

    #[test]
    fn what_would_break_a_protocol_is_refused() {
        for bad in ["", "a\nb", "a\r", "h\u{e9}", "{what}", "{", "{max", &"x".repeat(LONGEST + 1)] {
            assert!(bad.parse::<Message>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(LONGEST).parse::<Message>().is_ok());
        assert!("smoke-signals".parse::<Choice>().is_err());
    }
}
