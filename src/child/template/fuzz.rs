//! The words of COMMAND, and what connections make of them.
#![forbid(unsafe_code)]

use super::*;
use crate::fuzzing::bytes::Choices;
use crate::peer::Peer;

/// `PEER LISTENER NEWLINE WORD NEWLINE WORD...`: words of COMMAND, and a listener's name.
pub(crate) fn template(data: &[u8]) {
    let mut from = Choices(data);
    let peer = from.byte();
    let listener = String::from_utf8_lossy(from.until(b'\n'));
    let words: Vec<&[u8]> = from.0.split(|byte| *byte == b'\n').collect();
    let has_nul = words.iter().any(|word| word.contains(&0));
    let doubled = |word: &[u8]| -> Vec<u8> {
        word.iter().flat_map(|byte| std::iter::repeat_n(*byte, if b"{}".contains(byte) { 2 } else { 1 })).collect()
    };
    let literal: Vec<Vec<u8>> = words.iter().map(|word| doubled(word)).collect();
    let first: &[u8] = b"{name}";
    let taken = Template::parse(std::iter::once(first).chain(literal.iter().map(Vec::as_slice)));
    match taken {
        Ok(taken) => {
            let fixed: Vec<&[u8]> = taken.fixed.iter().map(|word| word.as_bytes()).collect();
            assert_eq!(fixed, [&[first], &words[..]].concat(), "doubled braces are braces");
        }
        Err(why) => assert!(has_nul, "{why}"),
    }
    let Ok(template) = Template::parse(std::iter::once(first).chain(words.iter().copied())) else { return };
    assert_eq!(template.arguments.len(), words.len() + 1);
    let address = match peer % 4 {
        0 => Address::Ip("192.0.2.1:4000".parse().unwrap()),
        1 => Address::Vsock { cid: 3, port: 4000 },
        2 => Address::Other,
        _ => Address::Unix(Some(words[0].into())),
    };
    let (peer, local) = (Peer::new(address, (peer & 8 != 0).then_some((1, 2, 3))), Address::Unix(None));
    let info = ConnectionInfo {
        id: u64::MAX,
        listener: &listener,
        label: &listener,
        peer: &peer,
        local: &local,
        cookie: None,
        of_source: 1,
    };
    for (argument, word) in template.arguments[1..].iter().zip(&words) {
        let Argument::Filled(tokens) = argument else { continue };
        let mut fields = 0;
        let mut made = Vec::new();
        for token in tokens {
            match token {
                Token::Literal(bytes) => assert!(!bytes.is_empty()),
                Token::Field(field) => {
                    fields += 1;
                    write_field(*field, &info, &mut made);
                }
            }
        }
        assert!((1..=word.len() / 4).contains(&fields), "{fields} of {}", word.escape_ascii());
        // A client's name is no other argument, and none that a terminal obeys.
        let is_listener_s = tokens.contains(&Token::Field(Field::Listener));
        assert!(is_listener_s || made.iter().all(|byte| matches!(byte, b' '..=b'~')), "{}", made.escape_ascii());
    }
}
