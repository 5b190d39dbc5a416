//! Whoever asks a daemon: a client of its control socket.

use super::*;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// A folder of a test's own for a control socket, removed with it.
pub struct ControlFolder(TempDir);

impl ControlFolder {
    pub fn new(name: &str) -> ControlFolder {
        ControlFolder(TempDir::called(&format!("sockcap-{name}")))
    }

    pub fn socket(&self) -> PathBuf {
        self.path().join("control.sock")
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// The interface's name.
pub const DAEMON: &str = "io.github.sockcap.Daemon";

/// A connection to a control socket.
pub struct Control {
    pub stream: UnixStream,
    input: Vec<u8>,
}

impl Control {
    #[track_caller]
    pub fn connect(path: &Path) -> Control {
        Control::over(UnixStream::connect(path).unwrap_or_else(|error| panic!("connect to {path:?}: {error}")))
    }

    pub fn over(stream: UnixStream) -> Control {
        stream.set_read_timeout(Some(FUSE)).expect("timeout");
        stream.set_write_timeout(Some(FUSE)).expect("timeout");
        Control { stream, input: Vec::new() }
    }

    /// Sends a call; a method without a dot is one of ours.
    #[track_caller]
    pub fn send(&mut self, method: &str, parameters: Value, more: bool) {
        let method = if method.contains('.') { method.to_owned() } else { format!("{DAEMON}.{method}") };
        let mut bytes = json!({ "method": method, "parameters": parameters, "more": more }).to_string().into_bytes();
        bytes.push(0);
        self.stream.write_all(&bytes).expect("a call is sent");
    }

    /// The next reply, whole; `None` at the end of file.
    #[track_caller]
    pub fn reply(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == 0) {
                let one: Vec<u8> = self.input.drain(..=end).collect();
                return Some(serde_json::from_slice(&one[..end]).expect("JSON"));
            }
            let mut buffer = [0; 4096];
            match uninterrupted(|| self.stream.read(&mut buffer)) {
                Ok(0) => return None,
                Ok(got) => self.input.extend_from_slice(&buffer[..got]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no reply: {error}"),
            }
        }
    }

    /// One call and the parameters of its reply.
    #[track_caller]
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.send(method, parameters, false);
        let reply = self.reply().expect("a reply");
        assert!(reply.get("error").is_none(), "{method}: {reply}");
        reply["parameters"].clone()
    }

    /// One call that fails; the error's name without that of our interface, and its parameters.
    #[track_caller]
    pub fn error(&mut self, method: &str, parameters: Value) -> (String, Value) {
        self.send(method, parameters, false);
        let reply = self.reply().expect("a reply");
        let name = reply["error"].as_str().unwrap_or_else(|| panic!("{method} succeeds: {reply}"));
        (name.trim_start_matches(DAEMON).trim_start_matches('.').to_owned(), reply["parameters"].clone())
    }

    /// All records of a list, each under this name.
    #[track_caller]
    pub fn list(&mut self, method: &str, name: &str) -> Vec<Value> {
        self.send(method, json!({}), true);
        let mut records = Vec::new();
        loop {
            let reply = self.reply().expect("a reply");
            assert!(reply.get("error").is_none(), "{method}: {reply}");
            records.extend(reply["parameters"].get(name).cloned());
            if reply.get("continues").is_none() {
                return records;
            }
        }
    }

    /// The state.
    #[track_caller]
    pub fn runtime(&mut self) -> Value {
        self.call("Describe", json!({}))["runtime"].clone()
    }

    /// The state, as soon as it is so. Asked again and again, since what leads to it need not pass by here.
    #[track_caller]
    pub fn until(&mut self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let begun = std::time::Instant::now();
        loop {
            let runtime = self.runtime();
            if is_so(&runtime) {
                return runtime;
            }
            assert!(begun.elapsed() < FUSE, "{what}: never so: {runtime}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
