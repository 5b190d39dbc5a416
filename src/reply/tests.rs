//! Every preset against first words whole, in pieces and made up.
#![forbid(unsafe_code)]

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
            match reply.answer(Input { bytes: &rest, is_all: part.is_none() }, &mut out) {
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

fn all_of(reply: &Reply, input: &[u8]) -> Vec<u8> {
    all_of_parts(reply, &[input])
}

/// What a client is told that says `input` and is over the limit of 4; `text`: what the administrator chose.
pub(super) fn told(preset: &str, text: Option<&str>, input: &[u8]) -> Vec<u8> {
    let message = text.map_or_else(Message::default, |text| text.parse().unwrap());
    all_of(&replies(preset, message).busy(4, 4, None), input)
}

/// The same if the command cannot be started.
pub(super) fn unavailable(preset: &str, input: &[u8]) -> Vec<u8> {
    all_of(&replies(preset, Message::default()).unavailable(), input)
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
    let busy = |preset, max| all_of(&replies(preset, Message::default()).busy(max, max, None), b"");
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
            let bytes = all_of(&replies.busy(active, max, None), words);
            let text = String::from_utf8_lossy(&bytes);
            assert!(text.contains(&format!("{active} of {max}, again in 10 s")), "{}: {text}", preset.name);
        }
    }
}

#[test]
fn lines_are_not_too_long() {
    let lines = ["smtp", "lmtp", "ftp", "imap", "pop3", "ssh", "redis", "memcached", "nntp", "irc", "managesieve"];
    let longest = "x".repeat(MAX_TEXT);
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
    for preset in PRESETS.iter().filter(|preset| matches!(preset.speaks_first, SpeaksFirst::Client { .. })) {
        assert!(first_words(preset.name).next().is_some(), "{} has no first words", preset.name);
    }
    for (preset, words) in FIRST_WORDS {
        let reply = replies(preset, Message::default()).busy(4, 4, None);
        let bytes: Vec<_> = words.chunks(1).collect();
        assert_eq!(all_of_parts(&reply, &bytes), all_of(&reply, words), "{preset}: {words:x?}");
        assert!(all_of(&reply, words).len() > reply.opening().len(), "{preset}: {words:x?}");
    }
}

/// Anything, or what a client says with some bytes changed and more after it.
fn babble() -> impl Strategy<Value = Vec<u8>> {
    let bytes = || vec(any::<u8>(), 0..300);
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    let nearly = (prop::sample::select(&FIRST_WORDS[..]), changes, bytes()).prop_map(|((_, words), changes, more)| {
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
            let reply = if is_up { replies.busy(4, 4, None) } else { replies.unavailable() };
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
    assert_eq!(all_of(&replies.busy(1, 1, None), b""), b"\0\r\nany {max}");
    assert!(Choice::file("/x", vec![0; MAX_FILE]).is_ok());
    assert!(Choice::file("/x", vec![0; MAX_FILE + 1]).is_err());
}

#[test]
fn a_host_name_that_is_none_is_not_sent() {
    for (host, sent) in [("mx1.example", "mx1.example"), ("", "localhost"), ("a b\r\n", "localhost")] {
        assert_eq!(&*Replies::new(Choice::Preset(&PRESETS[0]), Message::default(), host).host, sent);
    }
}

#[test]
fn what_would_break_a_protocol_is_refused() {
    for bad in ["", "a\nb", "a\r", "h\u{e9}", "{what}", "{", "{max", &"x".repeat(MAX_TEXT + 1)] {
        assert!(bad.parse::<Message>().is_err(), "{bad:?}");
    }
    assert!("x".repeat(MAX_TEXT).parse::<Message>().is_ok());
    // What is filled in has to fit, too: 4294967295 is longer than its name.
    assert!("{max}".repeat(MAX_TEXT / 10).parse::<Message>().is_ok());
    assert!("{max}".repeat(MAX_TEXT / 10 + 1).parse::<Message>().is_err());
    assert!("smoke-signals".parse::<Choice>().is_err());
}

/// The words of [`Choice`] and [`Message`] are those of errors and of `--check`.
#[test]
fn choices_and_messages_read_as_they_are_given() {
    for name in ["text", "http"] {
        assert_eq!(name.parse::<Choice>().unwrap().to_string(), name);
    }
    assert_eq!(Choice::file("/x", vec![0; 7]).unwrap().to_string(), "file:/x (7 bytes)");
    assert_eq!("full: {max}".parse::<Message>().unwrap().to_string(), "full: {max}");
}

#[test]
fn a_message_that_does_not_fit_says_why() {
    let why = |text: &str| text.parse::<Message>().unwrap_err();
    assert!(why(&"x".repeat(MAX_TEXT + 1)).starts_with(&format!("it has {} bytes", MAX_TEXT + 1)));
    assert!(why(&"{max}".repeat(MAX_TEXT / 10 + 1)).starts_with("it may have"));
    assert!(why("a {what} b").starts_with("'{what}' is not one of"));
    assert!(why("a {what").starts_with("'{what' is not one of"));
}

#[test]
fn a_message_is_checked_against_its_protocol() {
    let check = |choice: &str, text: &str| choice.parse::<Choice>().unwrap().check(&text.parse().unwrap());
    assert_eq!(check("http", "SSH-2.0"), Ok(()));
    assert_eq!(check("mysql", "full #1"), Ok(()));
    assert!(check("mysql", "#full").unwrap_err().starts_with("'#full' would break the protocol mysql: "));
    assert_eq!(Choice::file("/x", b"#".to_vec()).unwrap().check(&"#full".parse().unwrap()), Ok(()));
}

#[test]
fn only_a_client_that_speaks_first_is_heard() {
    for (preset, hears) in [("text", false), ("smtp", false), ("http", true), ("mqtt", true)] {
        assert_eq!(replies(preset, Message::default()).busy(4, 4, None).hears(), hears, "{preset}");
    }
}

#[test]
fn who_is_refused_is_told_when_to_come_back_where_that_is_known() {
    let seconds = |retry| {
        let message: Message = "in {retry} s".parse().unwrap();
        let text = String::from_utf8(all_of(&replies("text", message).busy(1, 1, retry), b"")).unwrap();
        let header =
            String::from_utf8(all_of(&replies("http", Message::default()).busy(1, 1, retry), b"GET /\n")).unwrap();
        let told: u32 =
            text.trim_end().strip_prefix("in ").and_then(|t| t.strip_suffix(" s")).unwrap().parse().unwrap();
        assert!(header.contains(&format!("\r\nRetry-After: {told}\r\n")), "{header}");
        told
    };
    assert_eq!(seconds(None), RETRY_SECONDS);
    for (millis, told) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (59_999, 60), (u64::MAX, u32::MAX)] {
        assert_eq!(seconds(Some(Duration::from_millis(millis))), told, "{millis} ms");
    }
}

#[test]
fn the_last_reply_is_kept_for_the_same_figures_alone() {
    let mut replies = replies("text", "{active} {max} {retry}".parse().unwrap());
    let second = Some(Duration::from_secs(1));
    for (active, max, retry, told) in [(1, 2, None, "1 2 10\n"), (1, 2, second, "1 2 1\n"), (2, 2, second, "2 2 1\n")] {
        let reply = replies.busy(active, max, retry);
        assert_eq!(all_of(&reply, b""), told.as_bytes());
        assert!(Rc::ptr_eq(&reply, &replies.busy(active, max, retry)), "made once");
    }
}
