//! `sockcapctl convert` on real pairs with Accept=yes, from Debian's packages (tests/system/pairs.sh): what a simple client reads
//! before and after is the same, byte by byte, and neither systemd nor `sockcapctl check` has anything to say about the new units.

use super::client::Client;
use super::rig::Rig;
use std::fs::File;
use std::net::Ipv4Addr;

/// A pair, and how to talk to it.
struct Service {
    name: &'static str,
    port: u16,
    request: &'static str,
    /// It is read up to this, or to the end.
    until: Option<&'static str>,
    /// Some of what has to be in the reply, so that two failures are not the same.
    has: &'static str,
}

const SERVICES: [Service; 10] = [
    Service { name: "approx", port: 9999, request: "GET / HTTP/1.0\r\n\r\n", until: None, has: "HTTP/1" },
    Service { name: "gophernicus", port: 70, request: "/\r\n", until: None, has: "\t" },
    Service { name: "leafnode", port: 119, request: "QUIT\r\n", until: None, has: "Leafnode" },
    Service { name: "micro-httpd", port: 80, request: "GET /hello HTTP/1.0\r\n\r\n", until: None, has: "it works" },
    Service { name: "oidentd", port: 113, request: "1, 2\r\n", until: Some("\n"), has: "ERROR" },
    Service { name: "proftpd", port: 21, request: "QUIT\r\n", until: None, has: "220 " },
    Service {
        name: "saned",
        port: 6566,
        request: "\0\0\0\0\x01\0\0\x03\0\0\0\x05root\0",
        until: Some("\x03"),
        has: "\0",
    },
    Service { name: "tangd", port: 80, request: "GET /adv HTTP/1.1\r\n\r\n", until: Some("\r\n\r\n"), has: "HTTP/1.1" },
    Service { name: "tinysshd", port: 22, request: "", until: Some(" "), has: "SSH-2.0-tinyssh" },
    Service { name: "uucp", port: 540, request: "", until: Some(": "), has: "login: " },
];

/// What the packages' own scripts would do, as far as these clients need it.
const PREPARE: &str = r"
for user in approx _gophernicus saned _tang proftpd oident; do
    id $user >/dev/null 2>&1 || useradd --system --user-group --no-create-home $user; done
install -d -o approx /var/cache/approx; install -d -o _tang -g _tang /var/lib/tang; install -d /var/www/html /var/gopher /etc/proftpd /etc/news/leafnode /etc/tinyssh
install -d -o news -g news /var/spool/news /var/spool/news/interesting.groups /var/spool/news/leaf.node /var/lib/news /var/spool/news/message.id
echo 'it works' >/var/www/html/hello; echo 'it works' >/var/gopher/hello
printf 'ServerType inetd\nServerName here\nUser proftpd\nGroup proftpd\nUseReverseDNS off\nDefaultAddress 127.0.0.1\n' >/etc/proftpd/proftpd.conf
printf 'server = localhost\nexpire = 20\nhostname = news.sockcap.org\n' >/etc/news/leafnode/config; chown news:news /etc/news/leafnode/config
[ -d /etc/tinyssh/sshkeydir ] || tinysshd-makekey -q /etc/tinyssh/sshkeydir
ldconfig; systemctl daemon-reload";

/// Nothing of it stays, whatever becomes of the test: others need these ports.
struct Installed<'a>(&'a Rig);

impl Drop for Installed<'_> {
    fn drop(&mut self) {
        let units = |suffix: &str| SERVICES.map(|it| format!("{}{suffix}", it.name)).join(" ");
        let (old, new, services) = (units(".socket"), units("-capped.socket"), units("-capped.service"));
        // in.uucpd, for one, goes on for ever where its client has left, and takes a processor for it.
        let instances = units("@*.service");
        self.0.sh(&format!(
            "systemctl stop {old} {new} {services} '{}'; cd /run/systemd/system && rm -f {new} {services}; systemctl daemon-reload",
            instances.replace(' ', "' '"),
        ));
    }
}

fn talk(rig: &Rig, to: &Service) -> String {
    let mut client = Client::to(rig, Ipv4Addr::LOCALHOST, to.port);
    client.send(to.request);
    let text = client.reply(to.until);
    // The one thing that is another each second.
    text.lines().filter(|line| !line.starts_with("Date: ")).map(|line| format!("{line}\n")).collect()
}

pub fn real_pairs_serve_the_same(rig: &Rig) {
    let archive = rig.tree.with_extension("pairs.tar");
    let archive =
        File::open(&archive).unwrap_or_else(|why| panic!("{}: {why}; run tests/system/pairs.sh", archive.display()));
    let unpacked =
        rig.enter(&["tar", "-C", "/", "--keep-directory-symlink", "-x"]).stdin(archive).status().expect("tar");
    assert!(unpacked.success(), "{unpacked}");
    let _installed = Installed(rig);
    rig.ok(PREPARE);

    for service in &SERVICES {
        let name = service.name;
        rig.ok(&format!("systemctl start {name}.socket"));
        let before = talk(rig, service);
        assert!(before.contains(service.has), "{name}, as Debian has it, says {before:?}");

        rig.ok(&format!("sockcapctl convert {name}.socket --output /run/systemd/system"));
        rig.ok(&format!("systemctl daemon-reload; systemctl start {name}-capped.socket"));
        // Only one of them can have the port.
        assert_eq!(rig.show(&format!("{name}.socket"), "ActiveState"), "inactive", "{name}");
        let after = talk(rig, service);
        assert_eq!(before, after, "{name}");
        assert_eq!(rig.show(&format!("{name}-capped.service"), "ActiveState"), "active", "{name}");
        let check = rig.sh(&format!("sockcapctl check {name}-capped"));
        assert_eq!(check.status.code(), Some(0), "{name}: {}", String::from_utf8_lossy(&check.stdout));
        rig.ok(&format!("systemctl stop {name}-capped.socket {name}-capped.service"));
    }
    let units = SERVICES
        .map(|it| format!("/run/systemd/system/{0}-capped.socket /run/systemd/system/{0}-capped.service", it.name));
    let said = rig.ok(&format!("systemd-analyze verify --man=no {} 2>&1", units.join(" ")));
    assert!(!said.contains("-capped"), "{said}");
}
