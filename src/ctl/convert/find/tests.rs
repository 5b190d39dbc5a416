#![forbid(unsafe_code)]

use super::*;
use std::os::unix::fs::symlink;

/// A root directory that goes with the test.
struct Root(PathBuf);

impl Root {
    fn new(name: &str) -> Root {
        let path = std::env::temp_dir().join(format!("sockcap-convert-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Root(path)
    }

    fn write(&self, path: &str, text: &str) -> &Self {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn pair(&self, name: &str) -> Result<Pair, Missing> {
        Folders::new(&self.0, false, None).pair(&Names::parse(name).unwrap(), false)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const SOCKET: &str = "[Socket]\nListenStream=1\nAccept=yes\n";
const SERVICE: &str = "[Service]\nExecStart=/bin/a\n";

#[test]
fn the_first_folder_wins_and_drop_ins_are_read_by_name() {
    let root = Root::new("drop-ins");
    root.write("usr/lib/systemd/system/foo.socket", SOCKET)
        .write("usr/lib/systemd/system/foo@.service", "[Service]\nExecStart=/bin/old\n")
        .write("etc/systemd/system/foo@.service", SERVICE)
        .write("usr/lib/systemd/system/foo.socket.d/20.conf", "[Socket]\nMaxConnections=1\n")
        .write("etc/systemd/system/foo.socket.d/20.conf", "[Socket]\nMaxConnections=2\n")
        .write("run/systemd/system/foo.socket.d/10.conf", "[Socket]\nMaxConnections=3\nBacklog=4\n")
        .write("etc/systemd/system/foo.socket.d/30.conf~", "[Socket]\nMaxConnections=5\n")
        .write("etc/systemd/system/foo-.socket.d/40.conf", "[Socket]\nMaxConnections=6\n")
        .write("etc/systemd/system/system-foo.slice.d/a.conf", "[Slice]\nConcurrencySoftMax=7\n");
    let pair = root.pair("foo.socket").unwrap();
    assert_eq!(pair.socket.get("Socket", "MaxConnections"), Some("2"));
    assert_eq!(pair.socket.get("Socket", "Backlog"), Some("4"));
    assert_eq!(pair.service.get("Service", "ExecStart"), Some("/bin/a"));
    assert_eq!(pair.slice.unwrap().get("Slice", "ConcurrencySoftMax"), Some("7"));
    assert_eq!(pair.files.len(), 5, "{:#?}", pair.files);
}

#[test]
fn links_stay_below_the_root() {
    let root = Root::new("links");
    root.write("usr/lib/systemd/system/foo.socket", SOCKET).write("opt/foo", SERVICE);
    symlink("/opt/foo", root.0.join("usr/lib/systemd/system/foo@.service")).unwrap();
    symlink("foo.socket", root.0.join("usr/lib/systemd/system/alias.socket")).unwrap();
    let pair = root.pair("alias.socket").unwrap();
    assert_eq!(pair.names.socket(), "foo.socket");
    assert_eq!(pair.service.get("Service", "ExecStart"), Some("/bin/a"));
}

#[test]
fn what_is_missing_or_masked_is_named() {
    let root = Root::new("missing");
    assert!(matches!(root.pair("foo.socket"), Err(Missing::Unit(why)) if why.contains("foo.socket")));
    root.write("usr/lib/systemd/system/foo.socket", SOCKET);
    assert!(matches!(root.pair("foo.socket"), Err(Missing::Unusable(why)) if why.contains("foo@.service")));
    root.write("usr/lib/systemd/system/foo@.service", SERVICE).write("etc/systemd/system/keep", "");
    symlink("/dev/null", root.0.join("etc/systemd/system/foo.socket")).unwrap();
    assert!(matches!(root.pair("foo.socket"), Err(Missing::Unusable(why)) if why.contains("masked")));
    // Round and round is no unit either.
    fs::remove_file(root.0.join("etc/systemd/system/foo.socket")).unwrap();
    symlink("foo.socket", root.0.join("etc/systemd/system/foo.socket")).unwrap();
    assert!(matches!(root.pair("foo.socket"), Err(Missing::Unusable(_))));
}

#[test]
fn what_systemctl_cat_prints_is_taken_apart() {
    let printed = "# /usr/lib/systemd/system/foo.socket\n# a comment\n[Socket]\nAccept=yes\n\n\
        # /etc/systemd/system/foo.socket.d/a.conf\nBacklog=1\n[Socket]\nMaxConnections=2\n\n\
        # /usr/lib/systemd/system/socket.d/b.conf\n[Socket]\nMaxConnections=3\n";
    let mut files = Vec::new();
    let unit = printed_unit("foo.socket", printed, &mut files);
    assert_eq!(unit.settings("Socket"), [("Accept", "yes"), ("MaxConnections", "2")]);
    assert_eq!(files, ["/usr/lib/systemd/system/foo.socket", "/etc/systemd/system/foo.socket.d/a.conf"]);
}
