//! `sockcapctl convert`: what it writes and where, and how it ends. What becomes of a unit is tested beside the code, and under
//! systemd in tests/system/convert.rs.

use crate::common::*;
use std::fs;
use std::process::Command;

const SOCKET: &str = "[Socket]\nListenStream=1\nAccept=yes\n[Install]\nWantedBy=sockets.target\n";
const SERVICE: &str = "[Service]\nExecStart=/bin/cat\nStandardInput=socket\nStandardError=journal\n";

/// A folder with a pair, `foo.socket` and `foo@.service`.
fn pair() -> TempDir {
    let dir = TempDir::new();
    fs::write(dir.join("foo.socket"), SOCKET).expect("write");
    fs::write(dir.join("foo@.service"), SERVICE).expect("write");
    dir
}

/// Exit status, stdout, stderr.
fn convert(words: &[&str]) -> (i32, String, String) {
    let out = Command::new(ctl_binary()).arg("convert").args(words).output().expect("sockcapctl");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (out.status.code().expect("an exit status"), text(&out.stdout), text(&out.stderr))
}

#[test]
fn both_units_are_printed_or_written_once() {
    let (dir, output) = (pair(), TempDir::new());
    let (socket, folder) = (dir.join("foo.socket"), output.path().to_str().expect("a plain path").to_owned());
    let (code, out, err) = convert(&[&socket]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("ListenStream=1") && out.contains("-- /bin/cat"), "{out}");
    assert!(err.lines().all(|line| line.starts_with("sockcapctl: ")) && err.contains("--busy-reply"), "{err}");

    let (code, out, _) = convert(&[&socket, "--output", &folder]);
    let [new_socket, new_service] = ["foo-capped.socket", "foo-capped.service"].map(|name| output.join(name));
    assert_eq!((code, out), (0, format!("{new_socket}\n{new_service}\n")));
    fs::write(&new_service, "mine").expect("write");
    let (code, _, err) = convert(&[&socket, "--output", &folder]);
    assert!(code == 1 && err.contains("--force"), "{code} {err}");
    assert_eq!(fs::read_to_string(&new_service).expect("read"), "mine");
    assert_eq!(convert(&[&socket, "--output", &folder, "--force"]).0, 0);
    assert!(fs::read_to_string(&new_service).expect("read").contains("-- /bin/cat"));
    assert_eq!(fs::read_dir(output.path()).expect("a folder").count(), 2, "nothing else is left");
}

#[test]
fn as_json_it_is_one_object() {
    let dir = pair();
    let (code, out, err) = convert(&["--json", &dir.join("foo.socket")]);
    assert_eq!((code, err.as_str()), (0, ""));
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(json["service"]["name"], "foo-capped.service");
    assert!(json["socket"]["text"].as_str().expect("text").contains("Accept=no"));
    assert_eq!(json["files"].as_array().expect("files").len(), 2);
}

#[test]
fn the_exit_status_says_why_not() {
    let dir = pair();
    let socket = dir.join("foo.socket");
    assert_eq!(convert(&[]).0, 2);
    assert_eq!(convert(&["a b"]).0, 2);
    assert_eq!(convert(&[&dir.join("bar.socket")]).0, 3);
    let root = dir.path().to_str().expect("a plain path").to_owned();
    let (code, _, err) = convert(&["bar.socket", "--root", &root]);
    assert!(code == 3 && err.contains("bar.socket"), "{code} {err}");
    fs::write(&socket, "[Socket]\nListenStream=1\n").expect("write");
    let (code, out, err) = convert(&[&socket]);
    assert!(code == 1 && out.is_empty() && err.contains("Accept=yes"), "{code} {err}");
    // Its service, which need not be a template, is not looked for.
    fs::remove_file(dir.join("foo@.service")).expect("remove");
    for accept in ["", "Accept=no\n"] {
        fs::write(&socket, format!("[Socket]\nListenStream=1\n{accept}")).expect("write");
        let (code, _, err) = convert(&[&socket]);
        assert!(code == 1 && err.contains("does not have Accept=yes"), "{code} {err}");
    }
    fs::write(dir.join("foo@.service"), SERVICE).expect("write");
    fs::write(&socket, "[Socket]\nListenDatagram=1\nAccept=yes\n").expect("write");
    assert_eq!(convert(&[&socket]).0, 1);
}
