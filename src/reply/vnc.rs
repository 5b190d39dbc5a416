//! VNC: version 3.8 of RFB, then no security type and the reason (RFC 6143 sections 7.1.1 and 7.1.2).
//!
//! How the reason is framed depends on the version that the client chooses: 3.7 and 3.8 count security types in
//! a byte, 3.3 names the one in four, and by appendix A all others are to be taken for 3.3. Who chooses none
//! could not read a reason.
#![forbid(unsafe_code)]

use super::preset::{Input, Notice, Preset, SpeaksFirst, Step};

pub(super) const PRESET: Preset = Preset {
    name: "vnc",
    about: "a reason instead of security types",
    speaks_first: SpeaksFirst::Client { greeting: b"RFB 003.008\n", answer },
    rejects_text: super::preset::any_line,
};

/// Bytes of a version.
const VERSION: usize = 12;

fn answer(input: Input, notice: &Notice, out: &mut Vec<u8>) -> Step {
    let version = &input.bytes[..input.bytes.len().min(VERSION)];
    let same = version.iter().zip(b"RFB ").all(|(said, expected)| said == expected);
    match version.len() {
        _ if !same => return Step::Done,
        ..VERSION => return Step::More,
        _ => {}
    }
    let none: &[u8] = match version {
        b"RFB 003.007\n" | b"RFB 003.008\n" => &[0],
        _ => &[0; 4],
    };
    let text = notice.with_retry_hint();
    out.extend_from_slice(none);
    out.extend_from_slice(&(text.len() as u32).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
    Step::Done
}

#[cfg(test)]
mod tests {
    use crate::reply::tests::{told, unavailable};

    #[test]
    fn golden() {
        for version in ["7", "8"] {
            let said = format!("RFB 003.00{version}\n");
            assert_eq!(told("vnc", Some("full"), said.as_bytes()), b"RFB 003.008\n\0\0\0\0\x04full");
        }
        for version in ["003.003", "003.005", "abc.def"] {
            let said = format!("RFB {version}\n");
            assert_eq!(told("vnc", Some("full"), said.as_bytes()), b"RFB 003.008\n\0\0\0\0\0\0\0\x04full");
        }
        let text = b"RFB 003.008\n\0\0\0\0\x24service unavailable, try again later";
        assert_eq!(unavailable("vnc", b"RFB 003.008\n"), text);
    }

    #[test]
    fn silence_and_garbage_get_the_greeting_alone() {
        for said in [&b""[..], b"RFB 003.008", b"GET / HTTP/1.1\r\n"] {
            assert_eq!(told("vnc", None, said), b"RFB 003.008\n", "{said:x?}");
        }
    }
}
