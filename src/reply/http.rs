//! HTTP: 503 with Retry-After, after the request has been read (RFC 9110 sections 15.6.4 and 10.2.3).
//!
//! Without a request there is nothing to respond to (RFC 9112 section 9.6), so the client speaks first. What is not
//! HTTP at all gets the same answer, once it has said a line, ended, or taken too long.
#![forbid(unsafe_code)]

use super::preset::{Input, Notice, Preset, SpeaksFirst, Step};
use std::io::Write;

pub(super) const PRESET: Preset = Preset {
    name: "http",
    about: "503 with Retry-After",
    speaks_first: SpeaksFirst::Client { greeting: b"", answer },
    rejects_text: super::preset::any_line,
};

fn answer(input: Input, notice: &Notice, out: &mut Vec<u8>) -> Step {
    let bytes = input.bytes;
    // Line ends may come before a request (RFC 9112 section 2.2).
    let start = bytes.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(bytes.len());
    let request = &bytes[start..];
    if !input.is_all && is_incomplete(request) {
        return Step::More;
    }
    // Writing to a Vec cannot fail.
    let _ = write!(
        out,
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {}\r\nConnection: close\r\n\
         Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        notice.retry,
        notice.text.len() + 1
    );
    // The answer to HEAD has the length of a body and no body (RFC 9110 section 9.3.2).
    if !request.starts_with(b"HEAD ") {
        let _ = writeln!(out, "{}", notice.text);
    }
    Step::Done
}

/// A request whose header section has not ended. A first line that names no HTTP version has none.
fn is_incomplete(request: &[u8]) -> bool {
    let Some(end) = request.iter().position(|byte| *byte == b'\n') else { return true };
    let line = request[..end].strip_suffix(b"\r").unwrap_or(&request[..end]);
    let has_version = line.windows(6).any(|window| window == b" HTTP/");
    has_version && !request.windows(4).any(|end| end == b"\r\n\r\n") && !request.windows(2).any(|end| end == b"\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(request: &[u8], is_all: bool) -> Option<String> {
        let notice =
            Notice { text: "server at capacity", chosen: false, max: 4, retry: 7, busy: true, host: "host.example" };
        let mut out = Vec::new();
        let step = answer(Input { bytes: request, is_all }, &notice, &mut out);
        (step == Step::Done).then(|| String::from_utf8(out).unwrap())
    }

    /// HTTP/0.9 has no headers to wait for.
    #[test]
    fn a_line_without_a_version_is_a_whole_request() {
        assert!(answered(b"GET /index.html\n", false).is_some());
        assert!(answered(b"GET /index.html HTTP/1.1\n", false).is_none());
        assert!(answered(b"GET /index.html HTTP/1.1\n", true).is_some());
    }

    #[test]
    fn the_whole_request_is_read_first() {
        let request = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for heard in 0..request.len() {
            assert_eq!(answered(&request[..heard], false), None, "after {heard} bytes");
        }
        let text = answered(request, false).unwrap();
        assert_eq!(
            text,
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nConnection: close\r\nContent-Type: text/plain\r\n\
             Content-Length: 19\r\n\r\nserver at capacity\n"
        );
    }

    #[test]
    fn head_has_a_length_and_no_body() {
        let text = answered(b"HEAD / HTTP/1.1\r\n\r\n", false).unwrap();
        assert!(text.ends_with("Content-Length: 19\r\n\r\n"), "{text}");
    }

    #[test]
    fn garbage_is_answered_after_a_line_and_silence_at_the_end() {
        assert_eq!(answered(b"hello", false), None);
        for (said, is_all) in [(&b"hello\n"[..], false), (b"GET /\r\n", false), (b"\x16\x03\x01", true), (b"", true)] {
            assert!(answered(said, is_all).unwrap().starts_with("HTTP/1.1 503 "));
        }
    }
}
