//! As much of HTTP/1.1 as `GET /metrics` needs: one request of at most 8 KiB, one response, and the connection is closed.
//!
//! Pure: bytes in, bytes out, and nothing that a client sends makes it panic. RFC 9112 says what is a request.
#![forbid(unsafe_code)]

/// A request line and the header fields after it may have so many bytes.
pub const MAX_REQUEST: usize = 8 * 1024;

/// Status of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 200.
    Ok,
    /// 400: not a request.
    BadRequest,
    /// 404: there is no such page.
    NotFound,
    /// 405: neither GET nor HEAD.
    MethodNotAllowed,
    /// 431: longer than [`MAX_REQUEST`].
    TooLarge,
    /// 505: neither HTTP/1.0 nor HTTP/1.1.
    VersionNotSupported,
}

impl Status {
    /// Code and phrase.
    pub fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::TooLarge => "431 Request Header Fields Too Large",
            Status::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

/// What has been received so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// More is to come.
    Incomplete,
    /// GET or HEAD.
    Get {
        /// Of the target, without a query.
        path: &'a str,
        /// The `Accept` fields, joined; empty if there is none.
        accept: String,
        /// HEAD: the response has no body.
        is_head: bool,
    },
    /// Nothing that is answered, whatever comes next.
    Bad(Status),
}

/// Reads a request. More bytes change nothing of what is not [`Request::Incomplete`].
pub fn read(received: &[u8]) -> Request<'_> {
    // Empty lines may come first (section 2.2).
    let start = received.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(received.len());
    let mut lines = Lines { received, at: start };
    let mut head = None;
    let mut fields = Fields::default();
    loop {
        let line = match lines.next() {
            Next::Line(line) => line,
            Next::Incomplete => return Request::Incomplete,
            Next::TooLong => return Request::Bad(Status::TooLarge),
        };
        let read = match head {
            None => request_line(line).map(|read| head = Some(read)),
            Some(_) if line.is_empty() => break,
            Some(_) => fields.read(line),
        };
        if let Err(status) = read {
            return Request::Bad(status);
        }
    }
    match head {
        // Section 3.2: HTTP/1.1 has exactly one Host, HTTP/1.0 at most one.
        Some(head) if fields.hosts == 1 || (fields.hosts == 0 && head.is_1_0) => {
            Request::Get { path: head.path, accept: fields.accept, is_head: head.is_head }
        }
        _ => Request::Bad(Status::BadRequest),
    }
}

struct Lines<'a> {
    received: &'a [u8],
    at: usize,
}

enum Next<'a> {
    Line(&'a [u8]),
    Incomplete,
    TooLong,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Next<'a> {
        let rest = &self.received[self.at..];
        let Some(length) = rest.iter().take(MAX_REQUEST - self.at.min(MAX_REQUEST)).position(|byte| *byte == b'\n')
        else {
            return if self.received.len() < MAX_REQUEST { Next::Incomplete } else { Next::TooLong };
        };
        self.at += length + 1;
        // A line feed alone ends a line too (section 2.2).
        Next::Line(rest[..length].strip_suffix(b"\r").unwrap_or(&rest[..length]))
    }
}

struct Head<'a> {
    path: &'a str,
    is_head: bool,
    is_1_0: bool,
}

fn request_line(line: &[u8]) -> Result<Head<'_>, Status> {
    let line = std::str::from_utf8(line).map_err(|_| Status::BadRequest)?;
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Status::BadRequest);
    };
    let version = version.strip_prefix("HTTP/").ok_or(Status::BadRequest)?;
    if !is_token(method.as_bytes()) || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Status::BadRequest);
    }
    let is_1_0 = match version.as_bytes() {
        [b'1', b'.', minor] if minor.is_ascii_digit() => *minor == b'0',
        [major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            return Err(Status::VersionNotSupported);
        }
        _ => return Err(Status::BadRequest),
    };
    if !matches!(method, "GET" | "HEAD") {
        return Err(Status::MethodNotAllowed);
    }
    Ok(Head { path: path(target).ok_or(Status::BadRequest)?, is_head: method == "HEAD", is_1_0 })
}

/// Of `/path?query`, or of `http://host/path?query`, as a proxy is asked for (section 3.2.2).
fn path(target: &str) -> Option<&str> {
    let scheme = "http://";
    let path = match target.get(..scheme.len()) {
        Some(start) if start.eq_ignore_ascii_case(scheme) => {
            let authority_and_path = &target[scheme.len()..];
            let end = authority_and_path.find(['/', '?']).unwrap_or(authority_and_path.len());
            &authority_and_path[end..]
        }
        _ if target.starts_with('/') => target,
        _ => return None,
    };
    let path = path.split('?').next().unwrap_or_default();
    Some(if path.is_empty() { "/" } else { path })
}

#[derive(Default)]
struct Fields {
    hosts: u32,
    accept: String,
}

impl Fields {
    fn read(&mut self, line: &[u8]) -> Result<(), Status> {
        let colon = line.iter().position(|byte| *byte == b':').ok_or(Status::BadRequest)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        // A continued line and a space before the colon are refused with it (sections 5.1 and 5.2).
        if !is_token(name) || value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(Status::BadRequest);
        }
        if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
        } else if name.eq_ignore_ascii_case(b"accept") {
            if !self.accept.is_empty() {
                self.accept.push(',');
            }
            self.accept.push_str(String::from_utf8_lossy(value).trim());
        }
        Ok(())
    }
}

/// RFC 9110, section 5.6.2.
fn is_token(word: &[u8]) -> bool {
    !word.is_empty() && word.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// A response, after which the connection is closed.
pub fn response(status: Status, content_type: &str, body: &str, is_head: bool) -> Vec<u8> {
    let allow = if status == Status::MethodNotAllowed { "Allow: GET, HEAD\r\n" } else { "" };
    let mut bytes = format!(
        "HTTP/1.1 {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\r\n",
        status.line(),
        body.len()
    );
    // The response to HEAD tells of a body and has none (RFC 9110, section 9.3.2).
    if !is_head {
        bytes.push_str(body);
    }
    bytes.into_bytes()
}

/// The response to [`Request::Bad`].
pub fn refusal(status: Status) -> Vec<u8> {
    response(status, "text/plain", &format!("{}\n", status.line()), false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn get<'a>(path: &'a str, accept: &str) -> Request<'a> {
        Request::Get { path, accept: accept.to_owned(), is_head: false }
    }

    #[test]
    fn requests_of_real_clients() {
        let curl = b"GET /metrics HTTP/1.1\r\nHost: localhost:9000\r\nUser-Agent: curl/8.14.1\r\nAccept: */*\r\n\r\n";
        assert_eq!(read(curl), get("/metrics", "*/*"));
        let through_a_proxy =
            b"GET http://[::1]:9000/metrics?a=b HTTP/1.1\nhost: a\nACCEPT: text/plain\naccept:\t*/*;q=0.1\n\n";
        assert_eq!(read(through_a_proxy), get("/metrics", "text/plain,*/*;q=0.1"));
        assert_eq!(read(b"\r\n\r\nGET / HTTP/1.0\r\n\r\nmore"), get("/", ""));
        assert_eq!(read(b"GET HTTP://a?b HTTP/1.0\r\n\r\n"), get("/", ""));
        let head = Request::Get { path: "/metrics", accept: String::new(), is_head: true };
        assert_eq!(read(b"HEAD /metrics HTTP/1.1\r\nHost:\r\n\r\n"), head);
    }

    #[test]
    fn what_is_no_request_is_told_so() {
        let cases: [(&[u8], Status); 23] = [
            (b"hello\n", Status::BadRequest),
            (b"GET /\r\n", Status::BadRequest),
            (b"GET  / HTTP/1.1\r\n", Status::BadRequest),
            (b" GET / HTTP/1.1\r\n", Status::BadRequest),
            (b"GET / HTTP/1.1 \r\n", Status::BadRequest),
            (b"GET / http/1.1\r\n", Status::BadRequest),
            (b"GET / HTTP/1\r\n", Status::BadRequest),
            (b"GET * HTTP/1.1\r\n", Status::BadRequest),
            (b"GET metrics HTTP/1.1\r\n", Status::BadRequest),
            (b"GET ftp://a/metrics HTTP/1.1\r\n", Status::BadRequest),
            (b"GET /\xff HTTP/1.1\r\n", Status::BadRequest),
            (b"GET /\0 HTTP/1.1\r\n", Status::BadRequest),
            (b"GET / HTTP/1.1\r\n\r\n", Status::BadRequest),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Status::BadRequest),
            (b"GET / HTTP/1.1\r\nHost : a\r\n", Status::BadRequest),
            (b"GET / HTTP/1.1\r\nHost: a\r\n more\r\n", Status::BadRequest),
            (b"GET / HTTP/1.1\r\nHost: a\rb\r\n", Status::BadRequest),
            (b"POST / HTTP/1.1\r\n", Status::MethodNotAllowed),
            (b"get / HTTP/1.1\r\n", Status::MethodNotAllowed),
            (b"PRI * HTTP/2.0\r\n", Status::VersionNotSupported),
            (b"GET / HTTP/1.x\r\n", Status::BadRequest),
            (b"GET / HTTP/x.1\r\n", Status::BadRequest),
            (b"GET / HTTP/2.x\r\n", Status::BadRequest),
        ];
        for (request, status) in cases {
            assert_eq!(read(request), Request::Bad(status), "{}", request.escape_ascii());
        }
    }

    #[test]
    fn a_request_has_at_most_8_kib() {
        let request = |length: usize| {
            let (start, end) = ("GET / HTTP/1.1\r\nHost: a\r\nX: ", "\r\n\r\n");
            format!("{start}{}{end}", "x".repeat(length - start.len() - end.len())).into_bytes()
        };
        assert_eq!(read(&request(MAX_REQUEST)), get("/", ""));
        assert_eq!(read(&request(MAX_REQUEST + 1)), Request::Bad(Status::TooLarge));
        assert_eq!(read(&request(2 * MAX_REQUEST)), Request::Bad(Status::TooLarge));
        for endless in [&b"\r\n"[..], b"x", b"GET / HTTP/1.1\r\nX: x"] {
            let request: Vec<u8> =
                endless.iter().chain(std::iter::repeat_n(&endless[0], MAX_REQUEST)).copied().collect();
            assert_eq!(read(&request[..MAX_REQUEST - 1]), Request::Incomplete);
            assert_eq!(read(&request[..MAX_REQUEST]), Request::Bad(Status::TooLarge));
        }
    }

    #[test]
    fn responses() {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        assert_eq!(
            text(response(Status::Ok, "text/plain", "ten bytes\n", false)),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\nConnection: close\r\n\r\nten bytes\n"
        );
        assert!(
            text(response(Status::Ok, "text/plain", "ten bytes\n", true))
                .ends_with("Content-Length: 10\r\nConnection: close\r\n\r\n")
        );
        assert!(text(refusal(Status::MethodNotAllowed)).contains("\r\nAllow: GET, HEAD\r\n"));
    }

    /// Pieces of requests, which get further than random bytes do.
    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let words: &[&[u8]] = &[
            b"GET ",
            b"HEAD ",
            b"POST ",
            b"/metrics",
            b"/",
            b"?",
            b"http://a",
            b"HTTP://",
            b" ",
            b" HTTP/1.1",
            b" HTTP/1.0",
            b"\r\n",
            b"\n",
            b"\r\n\r\n",
            b"Host: a\r\n",
            b"Accept: */*",
            b":",
            b"\t",
            b"\xc3",
            b"\0",
        ];
        let piece = prop_oneof![
            proptest::sample::select(words).prop_map(<[u8]>::to_vec),
            any::<u8>().prop_map(|byte| vec![byte])
        ];
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn what_is_read_once_stays_so(bytes in pieces(), more in pieces()) {
            let mut decided = None;
            for end in 0..=bytes.len() {
                let request = read(&bytes[..end]);
                if let Some(decided) = &decided {
                    prop_assert_eq!(&request, decided);
                } else if request != Request::Incomplete {
                    decided = Some(request);
                }
            }
            if let Some(decided) = decided {
                let all = [bytes.as_slice(), &more].concat();
                prop_assert_eq!(read(&all), decided);
            }
        }

        #[test]
        fn a_good_request_is_awaited_to_its_end(path in "/[!-~&&[^?]]{0,20}", accept in "[!-~]{0,20}") {
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n");
            for end in 0..request.len() {
                prop_assert_eq!(read(&request.as_bytes()[..end]), Request::Incomplete);
            }
            let expected = Request::Get { path: &path, accept, is_head: false };
            prop_assert_eq!(read(request.as_bytes()), expected);
        }
    }
}
