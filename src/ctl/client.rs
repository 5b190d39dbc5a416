//! A client of one daemon: Varlink (varlink.org), a JSON object and a NUL byte at a time.
//!
//! It waits a few seconds for an answer and reads no more than an answer may have, so that one daemon which does not play by the rules
//! keeps nobody from asking the others.
#![forbid(unsafe_code)]

use super::failure::Failure;
use super::units::Unit;
use crate::observe::snapshot::NAME;
use crate::sys::plain;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Seconds for a step: connecting, taking a request, the next part of a reply.
const PATIENCE: u64 = 5;
/// Bytes of a reply.
const MOST: usize = 1 << 20;
/// Bytes of all replies to a method that lists something: some 300,000 connections.
const MOST_OF_LIST: usize = 64 << 20;
/// Bytes that are read at once.
const AT_ONCE: usize = 8192;

/// A connection to the control socket of a unit.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    /// What has come and was not taken yet.
    buffer: Vec<u8>,
    /// How long its next reply has been waited for, in which each byte may come in time.
    waited: Duration,
    is_patient: bool,
    unit: String,
}

#[derive(Serialize)]
struct Request<'a> {
    method: &'a str,
    parameters: Value,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
}

/// What the fields of the parameters are depends on the method, and on the error if it is one.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Reply {
    error: Option<String>,
    parameters: Option<Value>,
    continues: bool,
    /// In bytes.
    #[serde(skip)]
    length: usize,
}

/// No parameters.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Nothing {}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// That it does not run, or that it may not be asked, in one line.
    pub fn connect(unit: &Unit) -> Result<Client, Failure> {
        let to_socket = || -> io::Result<UnixStream> {
            let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
            // It bounds the wait of connect(2), too (unix(7)).
            setsockopt(&fd, sockopt::SendTimeout, &TimeVal::seconds(PATIENCE as i64))?;
            setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE as i64))?;
            let (_file, path) = place(unit)?;
            connect(fd.as_raw_fd(), &UnixAddr::new(&path)?)?;
            Ok(fd.into())
        };
        match to_socket() {
            Ok(stream) => {
                let (buffer, waited) = (Vec::new(), Duration::ZERO);
                Ok(Client { stream, buffer, waited, is_patient: false, unit: unit.name.clone() })
            }
            Err(error) => {
                let (name, path, why) = (&unit.name, unit.path.display(), plain(&error));
                let line = |words: &str| format!("{words} (connecting to {path}: {why})");
                Err(match error.kind() {
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                        Failure::not_running(line(&format!("'{name}' is not running")))
                    }
                    ErrorKind::PermissionDenied => Failure::failed(line(&format!(
                        "'{name}' may be asked only by root, or by the owner of its socket"
                    ))),
                    ErrorKind::WouldBlock => Failure::failed(line(&format!("'{name}' takes no connection"))),
                    _ if error.raw_os_error() == Some(libc::ELOOP) => Failure::failed(line(&format!(
                        "the socket of '{name}' is a symbolic link, which sockcapctl does not follow: if it is right, ask at the path that it leads to"
                    ))),
                    _ => Failure::failed(line(&format!("cannot ask '{name}'"))),
                })
            }
        }
    }

    /// For poll(2).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// The unit's name.
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// Calls one of our interface's methods that has one reply.
    ///
    /// # Errors
    /// One line: no answer, or the error that was the answer.
    pub fn call<R: DeserializeOwned>(&mut self, method: &str, parameters: impl Serialize) -> Result<R, Failure> {
        self.call_any(&format!("{NAME}.{method}"), parameters)
    }

    /// Calls a method of any interface that has one reply.
    ///
    /// # Errors
    /// As of [`Client::call`].
    pub fn call_any<R: DeserializeOwned>(&mut self, method: &str, parameters: impl Serialize) -> Result<R, Failure> {
        self.send(method, json!(parameters), false)?;
        let parameters = self.receive()?.parameters.ok_or_else(|| self.strange("a reply without parameters"))?;
        self.understood(parameters)
    }

    /// Asks what has one reply, which [`Client::try_next_reply`] returns once it has come.
    ///
    /// # Errors
    /// If it does not take the request.
    pub fn ask(&mut self, method: &str, parameters: impl Serialize) -> Result<(), Failure> {
        self.send(&format!("{NAME}.{method}"), json!(parameters), false)
    }

    /// Calls one of our interface's methods that has several replies, which [`Client::next_reply`] returns.
    ///
    /// # Errors
    /// If it does not take the request.
    pub fn begin(&mut self, method: &str, parameters: impl Serialize) -> Result<(), Failure> {
        self.send(&format!("{NAME}.{method}"), json!(parameters), true)
    }

    /// The next reply, and whether another one follows.
    ///
    /// # Errors
    /// As of [`Client::call`].
    pub fn next_reply<R: DeserializeOwned>(&mut self) -> Result<(Option<R>, bool), Failure> {
        let reply = self.receive()?;
        Ok((reply.parameters.map(|parameters| self.understood(parameters)).transpose()?, reply.continues))
    }

    /// All replies of a method that lists something, until `each` says that these are enough. One that is empty stands for none at all.
    ///
    /// # Errors
    /// As of [`Client::call`], or of `each`.
    pub fn list<R: DeserializeOwned>(
        &mut self,
        method: &str,
        parameters: impl Serialize,
        mut each: impl FnMut(R) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        self.begin(method, parameters)?;
        let mut left = MOST_OF_LIST;
        loop {
            let Reply { parameters, continues: goes_on, length, .. } = self.receive()?;
            left = left.checked_sub(length).ok_or_else(|| self.strange("a list of more than 64 MiB"))?;
            let one = parameters.map(|parameters| self.understood(parameters)).transpose()?;
            let has_enough = match one {
                Some(one) => !each(one)?,
                None => false,
            };
            if has_enough || !goes_on {
                return Ok(());
            }
        }
    }

    /// From here on a reply may take as long as it likes: the next change is not due at any time.
    pub fn be_patient(&mut self) {
        self.is_patient = true;
        let _ = self.stream.set_read_timeout(None); // cannot fail on a socket
    }

    fn send(&mut self, method: &str, parameters: Value, more: bool) -> Result<(), Failure> {
        let request = serde_json::to_vec(&Request { method, parameters, more });
        let mut request = request.map_err(|error| Failure::failed(format!("cannot write the request: {error}")))?;
        request.push(0);
        self.stream.write_all(&request).map_err(|error| self.lost(&error))
    }

    fn receive(&mut self) -> Result<Reply, Failure> {
        loop {
            if let Some(reply) = self.take()? {
                return Ok(reply);
            }
            self.fill()?;
        }
    }

    /// Reads what has come, and waits if there is nothing.
    ///
    /// # Errors
    /// If nothing comes, or nothing ever will.
    pub fn fill(&mut self) -> Result<(), Failure> {
        let mut bytes = [0; AT_ONCE];
        loop {
            let begun = Instant::now();
            let read = self.stream.read(&mut bytes);
            self.waited += begun.elapsed();
            match read {
                Ok(0) => {
                    let line =
                        format!("'{}' has closed the connection: it has stopped, or has too many clients", self.unit);
                    return Err(Failure::not_running(line));
                }
                Ok(n) => {
                    self.buffer.extend_from_slice(&bytes[..n]);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lost(&error)),
            }
        }
    }

    /// A reply that has come in full.
    fn take(&mut self) -> Result<Option<Reply>, Failure> {
        let Some(end) = self.buffer.iter().position(|byte| *byte == 0) else {
            return match self.buffer.len() > MOST {
                true => Err(self.strange("a reply of more than 1 MiB")),
                false if !self.is_patient && self.waited > Duration::from_secs(PATIENCE) => {
                    Err(self.lost(&ErrorKind::TimedOut.into()))
                }
                false => Ok(None),
            };
        };
        self.waited = Duration::ZERO;
        let message: Vec<u8> = self.buffer.drain(..=end).collect();
        let message = &message[..end];
        let reply = serde_json::from_slice(message).map_err(|error| self.strange(&error.to_string()))?;
        let reply = Reply { length: end, ..reply };
        match reply.error {
            Some(name) => Err(self.refused(&name, &reply.parameters.unwrap_or_default())),
            None => Ok(Some(reply)),
        }
    }

    fn understood<R: DeserializeOwned>(&self, parameters: Value) -> Result<R, Failure> {
        serde_json::from_value(parameters).map_err(|error| self.strange(&error.to_string()))
    }

    /// A reply that has come in full, to a client that polls: `None` if there is none yet.
    ///
    /// # Errors
    /// As of [`Client::call`].
    pub fn try_next_reply<R: DeserializeOwned>(&mut self) -> Result<Option<R>, Failure> {
        let parameters = self.take()?.and_then(|reply| reply.parameters);
        parameters.map(|parameters| self.understood(parameters)).transpose()
    }

    fn lost(&self, error: &io::Error) -> Failure {
        let unit = &self.unit;
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                Failure::failed(format!("'{unit}' has not answered for {PATIENCE} s: is it stopped, or overloaded?"))
            }
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Failure::not_running(format!(
                "'{unit}' has closed the connection: it has stopped, or has too many clients"
            )),
            _ => Failure::failed(format!("cannot talk to '{unit}': {}", plain(error))),
        }
    }

    fn strange(&self, what: &str) -> Failure {
        Failure::failed(format!("'{}' answers what sockcapctl does not understand: {what}", self.unit))
    }

    /// What an error means, in words.
    fn refused(&self, name: &str, details: &Value) -> Failure {
        const OLD: &str = "restart the service after the upgrade";
        let unit = &self.unit;
        let text = |field: &str| details[field].as_str().unwrap_or_default();
        let own = name.strip_prefix(NAME).and_then(|rest| rest.strip_prefix('.'));
        let line = match own.or_else(|| name.strip_prefix("org.varlink.service.")).unwrap_or_default() {
            "MethodNotFound" => format!("this sockcap has no method {}; {OLD}", text("method")),
            "InterfaceNotFound" => format!("this sockcap has no interface {}; {OLD}", text("interface")),
            "InvalidParameter" => {
                format!("this sockcap takes no such {}; if it is an older one, {OLD}", text("parameter"))
            }
            "PermissionDenied" => {
                "permission denied: only root, and the user that sockcap runs as, may change it, and no process of the service itself may ask"
                    .into()
            }
            "NoSuchConnection" => format!("no command runs for connection {}", details["id"]),
            "NoSuchSource" => {
                let source = text("source");
                format!(
                    "source '{source}' has no penalty and no rate to lift: `sockcapctl sources` shows those that have one"
                )
            }
            "NotSettable" => format!("cannot set {}: {}", super::limits::option_of(text("field")), text("reason")),
            _ => format!("answered with the error {name}"),
        };
        Failure::failed(format!("{unit}: {line}"))
    }
}

/// The path to connect to, as long as this file is open. The directory of a unit belongs to the user that it runs as: a symbolic link
/// there would have root ask, and change, whatever that user chooses. Whoever names a path means where it leads.
fn place(unit: &Unit) -> io::Result<(Option<File>, PathBuf)> {
    if unit.is_path() {
        return Ok((None, unit.path.clone()));
    }
    let file = File::options().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(&unit.path)?;
    if file.metadata()?.is_symlink() {
        return Err(io::Error::from_raw_os_error(libc::ELOOP));
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
    Ok((Some(file), path))
}

#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
#[cfg(test)]
mod tests;
