//! Varlink (varlink.org): calls and replies in JSON with a NUL behind each, and the methods that every service has.
//!
//! Nothing in here knows a connection. What cannot be read as a call at all has no reply: its sender is closed.
#![forbid(unsafe_code)]

use super::snapshot::{INTERFACE, NAME};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// `org.varlink.service`, as every service has it (varlink.org, "Service").
pub const SERVICE: &str = include_str!("org.varlink.service.varlink");
/// `io.systemd.service`, as far as it is meant here.
const SYSTEMD: &str = include_str!("io.systemd.service.varlink");
/// What a daemon offers: names, in their order, and definitions.
pub const INTERFACES: &[(&str, &str)] =
    &[(NAME, INTERFACE), ("io.systemd.service", SYSTEMD), ("org.varlink.service", SERVICE)];

/// A call.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Call {
    /// Interface and method.
    pub method: String,
    /// Its arguments: an object, or nothing.
    pub parameters: Value,
    /// Whether several replies may come.
    pub more: bool,
    /// Whether none is to come.
    pub oneway: bool,
}

/// Reads a call.
///
/// # Errors
/// If it is none.
pub fn read(request: &[u8]) -> Result<Call, serde_json::Error> {
    // As a structure a list would do, too.
    let fields: serde_json::Map<String, Value> = serde_json::from_slice(request)?;
    serde_json::from_value(Value::Object(fields))
}

impl Call {
    /// One of its arguments; `None` if it is left out or null.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] if it is not what is wanted.
    pub fn argument<T: for<'a> Deserialize<'a>>(&self, name: &'static str) -> Result<Option<T>, Error> {
        match self.parameters.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => T::deserialize(value).map(Some).map_err(|_| Error::InvalidParameter(name)),
        }
    }

    /// One that has to be there.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] if it is not, or not what is wanted.
    pub fn needed<T: for<'a> Deserialize<'a>>(&self, name: &'static str) -> Result<T, Error> {
        self.argument(name)?.ok_or(Error::InvalidParameter(name))
    }
}

/// Why there is no answer to a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// No such interface.
    InterfaceNotFound(String),
    /// No such method.
    MethodNotFound(String),
    /// An argument is missing or cannot be.
    InvalidParameter(&'static str),
    /// It is not for this user.
    PermissionDenied,
    /// It gives several replies, which were not asked for.
    ExpectedMore,
    /// An error of our own interface, by its name there, and what belongs to it.
    Own(&'static str, Value),
    /// An error of another interface, by its full name.
    Foreign(&'static str),
}

/// Puts a reply behind what is there.
pub fn reply(out: &mut Vec<u8>, parameters: &impl Serialize, continues: bool) {
    #[derive(Serialize)]
    struct Reply<'a, T> {
        parameters: &'a T,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        continues: bool,
    }
    // Writing to a Vec cannot fail, and no map in here has a key that is no string.
    let _ = serde_json::to_writer(&mut *out, &Reply { parameters, continues });
    out.push(0);
}

/// Puts an error behind what is there.
pub fn refuse(out: &mut Vec<u8>, error: Error) {
    let service = |name: &str| format!("org.varlink.service.{name}");
    let (name, parameters) = match error {
        Error::InterfaceNotFound(interface) => (service("InterfaceNotFound"), json!({ "interface": interface })),
        Error::MethodNotFound(method) => (service("MethodNotFound"), json!({ "method": method })),
        Error::InvalidParameter(parameter) => (service("InvalidParameter"), json!({ "parameter": parameter })),
        Error::PermissionDenied => (service("PermissionDenied"), json!({})),
        Error::ExpectedMore => (service("ExpectedMore"), json!({})),
        Error::Foreign(name) => (name.to_owned(), json!({})),
        Error::Own(name, parameters) => (format!("{NAME}.{name}"), parameters),
    };
    let _ = serde_json::to_writer(&mut *out, &json!({ "error": name, "parameters": parameters }));
    out.push(0);
}

/// The answer of `org.varlink.service` to this method, of a service that offers these interfaces.
///
/// # Errors
/// If there is no such method or interface.
pub fn about(call: &Call, method: &str, interfaces: &[(&str, &str)]) -> Result<Value, Error> {
    match method {
        "GetInfo" => Ok(json!({
            "vendor": "sockcap",
            "product": "sockcap",
            "version": env!("CARGO_PKG_VERSION"),
            "url": "",
            "interfaces": interfaces.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        })),
        "GetInterfaceDescription" => {
            let wanted: String = call.needed("interface")?;
            let found = interfaces.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, text)| json!({ "description": text })).ok_or(Error::InterfaceNotFound(wanted))
        }
        _ => Err(Error::MethodNotFound(call.method.clone())),
    }
}

/// Why there is no such method: because there is no such interface, perhaps.
pub fn unknown(call: &Call, interfaces: &[(&str, &str)]) -> Error {
    match call.method.rsplit_once('.') {
        Some((interface, _)) if !interfaces.iter().any(|(name, _)| *name == interface) => {
            Error::InterfaceNotFound(interface.to_owned())
        }
        _ => Error::MethodNotFound(call.method.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_read_and_its_arguments_are_judged() {
        let call = read(br#"{"method":"a.b.C","parameters":{"id":7,"no":null},"more":true,"new":1}"#).unwrap();
        assert_eq!((call.method.as_str(), call.more, call.oneway), ("a.b.C", true, false));
        assert_eq!((call.needed::<u64>("id"), call.argument::<u64>("no")), (Ok(7), Ok(None)));
        assert_eq!(call.needed::<u64>("no"), Err(Error::InvalidParameter("no")));
        assert_eq!(call.needed::<String>("id"), Err(Error::InvalidParameter("id")));
        for bad in [&b""[..], b"{", b"[]", b"[1]", b"7", b"{\"method\":1}", b"\xff"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert!(read("[".repeat(16 << 10).as_bytes()).is_err(), "deep nesting has a bound");
    }

    #[test]
    fn replies_and_errors_end_in_nul() {
        let mut out = Vec::new();
        reply(&mut out, &json!({ "pid": 3 }), true);
        reply(&mut out, &json!({}), false);
        refuse(&mut out, Error::MethodNotFound("a.B".into()));
        refuse(&mut out, Error::Own("NoSuchConnection", json!({ "id": 1 })));
        let texts: Vec<_> = out.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        assert_eq!(
            texts,
            [
                r#"{"parameters":{"pid":3},"continues":true}"#,
                r#"{"parameters":{}}"#,
                r#"{"error":"org.varlink.service.MethodNotFound","parameters":{"method":"a.B"}}"#,
                r#"{"error":"io.github.sockcap.Daemon.NoSuchConnection","parameters":{"id":1}}"#,
                "",
            ]
        );
    }

    #[test]
    fn every_interface_is_described() {
        for (name, text) in INTERFACES {
            assert!(text.contains(&format!("\ninterface {name}\n")), "{name}");
        }
        let call = |method: &str| Call { method: method.into(), ..Call::default() };
        assert_eq!(unknown(&call("a.b.C"), INTERFACES), Error::InterfaceNotFound("a.b".into()));
        assert_eq!(
            unknown(&call("io.systemd.service.Reload"), INTERFACES),
            Error::MethodNotFound("io.systemd.service.Reload".into())
        );
        assert_eq!(unknown(&call(""), INTERFACES), Error::MethodNotFound("".into()));
    }
}
