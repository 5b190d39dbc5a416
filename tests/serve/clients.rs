//! A refused client of each protocol tells its user what the server said, and exits as its scripts expect.
//!
//! Here the clients are the real ones, from Debian's packages (`tests/run.sh` installs them), each against a daemon whose
//! one slot is taken. They run with an empty home and nothing but loopback. A client that is not installed is a named
//! skip, and a failure where CI=true, so that a lane cannot stop testing unnoticed.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use std::{env, fs, thread};

use crate::common::*;
use nix::poll::PollFlags;
use nix::unistd::Pid;

/// The time that a refused client has to speak, and then to close.
const PATIENCE: Duration = Duration::from_secs(2);

/// A daemon whose one slot is taken, and a home for the client it will refuse.
struct House {
    daemon: Daemon,
    holder: TcpStream,
    home: TempDir,
}

/// What a client said, and how it ended.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    #[track_caller]
    fn exits(&self, code: i32) -> &Said {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    fn prints(&self, words: &str) -> &Said {
        assert!(self.out.contains(words), "not on stdout: {words:?}: {self:#?}");
        self
    }

    #[track_caller]
    fn complains(&self, words: &str) -> &Said {
        assert!(self.err.contains(words), "not on stderr: {words:?}: {self:#?}");
        self
    }
}

fn is_installed(program: &str) -> bool {
    env::split_paths(&env::var_os("PATH").expect("PATH")).any(|folder| folder.join(program).is_file())
}

/// A full house for this client, unless that is not here.
#[track_caller]
fn full(preset: &str, program: &str) -> Option<House> {
    full_saying(preset, "server at capacity", program)
}

#[track_caller]
fn full_saying(preset: &str, message: &str, program: &str) -> Option<House> {
    if !is_installed(program) {
        assert!(env::var("CI").as_deref() != Ok("true"), "{program} is not installed: tests/run.sh would do it");
        skip(&format!("{preset} with {program}"), "not installed; tests/run.sh would do it");
        return None;
    }
    let reply = ["--busy-reply", preset, "--busy-message", message];
    let daemon = sockcap(&[&["--listen", "127.0.0.1:0", "--max-connections", "1"][..], &reply].concat()).start();
    let mut holder = daemon.connect();
    echoes(&mut holder);
    Some(House { daemon, holder, home: TempDir::new() })
}

impl House {
    fn command(&self, words: &[&str]) -> Command {
        let port = self.daemon.addr(0).port().to_string();
        let home = self.home.path();
        let words: Vec<String> = words
            .iter()
            .map(|w| w.replace("{port}", &port).replace("{home}", home.to_str().expect("a path")))
            .collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(home).env_clear();
        command.env("PATH", env::var_os("PATH").expect("PATH")).env("HOME", home).env("LC_ALL", "C");
        // what these read besides their home: git's and OpenLDAP's files in /etc
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("LDAPNOINIT", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a client to its end, with nothing on its stdin; `{port}` and `{home}` are filled in.
    #[track_caller]
    fn client(&self, words: &[&str]) -> Said {
        end(self.command(words).spawn().expect("start the client"))
    }

    /// The same, with a stdin that stays open, for clients that end with it.
    #[track_caller]
    fn client_at_a_terminal(&self, words: &[&str]) -> Said {
        let mut child = self.command(words).stdin(Stdio::piped()).spawn().expect("start the client");
        let _open = child.stdin.take();
        end(child)
    }

    fn write(&self, name: &str, text: &str) {
        let text = text.replace("{port}", &self.daemon.addr(0).port().to_string());
        fs::write(self.home.join(name), text.replace("{home}", self.home.path().to_str().expect("a path")))
            .expect("write");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.home.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// That many were refused, and it was no trouble for the one who is served.
    #[track_caller]
    fn refused(mut self, times: u64) {
        echoes(&mut self.holder);
        drop(self.holder);
        let all = Totals { accepted: times + 1, served: 1, refused: times, gone: 0, failed: 0 };
        assert_eq!(self.daemon.stop(), all, "{:#?}", self.daemon.log());
    }
}

/// Waits for the end of a client, which must come by itself.
#[track_caller]
fn end(mut child: Child) -> Said {
    let out = all_of(child.stdout.take().expect("piped"));
    let err = all_of(child.stderr.take().expect("piped"));
    let ended = ready(pidfd(Pid::from_raw(child.id() as i32)), PollFlags::POLLIN, FUSE);
    if !ended {
        let _ = child.kill();
    }
    let code = child.wait().expect("wait").code();
    let text = |from: Receiver<String>| from.recv_timeout(FUSE).expect("the end of its output");
    let said = Said { code, out: text(out), err: text(err) };
    assert!(ended, "the client does not end by itself: {said:#?}");
    said
}

// ---------------------------------------------------------------------------------------------------------------------
// text

#[test]
fn telnet() {
    unless_stalled(PATIENCE, || {
        let Some(house) = full("text", "telnet") else { return };
        // Its exit code is 0 or 1, by version: it tells nothing.
        house.client_at_a_terminal(&["telnet", "127.0.0.1", "{port}"]).prints("server at capacity");
        house.refused(1);
    });
}

#[test]
fn openbsd_netcat() {
    unless_stalled(PATIENCE, || {
        let nc = netcat().unwrap_or("nc.openbsd");
        let Some(house) = full("text", nc) else { return };
        house.client(&[nc, "-d", "127.0.0.1", "{port}"]).exits(0).prints("server at capacity\n");
        // shuts its side down before it has read anything
        house.client(&[nc, "-N", "127.0.0.1", "{port}"]).exits(0).prints("server at capacity\n");
        house.refused(2);
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// files and the web

#[test]
fn rsync() {
    unless_stalled(PATIENCE, || {
        let Some(house) = full("rsync", "rsync") else { return };
        house.write("file", "what would be sent");
        for words in [
            &["rsync", "rsync://127.0.0.1:{port}/"][..],
            &["rsync", "rsync://127.0.0.1:{port}/module/", "{home}/"],
            &["rsync", "{home}/file", "rsync://127.0.0.1:{port}/module/"],
        ] {
            let said = house.client(words);
            // 5 is what mirror scripts take for "try again"; a broken stream would be 12
            said.exits(5);
            assert!(
                format!("{}{}", said.out, said.err).contains("@ERROR: max connections (1) reached -- try again later"),
                "{said:#?}"
            );
        }
        house.refused(3);
    });
}

const CURL: &[&str] = &["curl", "-q", "--silent", "--show-error"];

fn curl<'a>(words: &[&'a str]) -> Vec<&'a str> {
    CURL.iter().chain(words).copied().collect()
}

#[test]
fn curl_http() {
    unless_stalled(PATIENCE, || {
        let Some(house) = full("http", "curl") else { return };
        let url = "http://127.0.0.1:{port}/";
        house.client(&curl(&["-w", "%{http_code}", url])).exits(0).prints("server at capacity\n503");
        house.client(&curl(&["--fail", url])).exits(22).complains("503");
        let head = house.client(&curl(&["--head", url]));
        head.exits(0).prints("HTTP/1.1 503 ").prints("Retry-After: 10\r\n");
        assert!(!head.out.contains("server at capacity"), "a body after HEAD: {head:#?}");
        house.refused(3);
    });
}

/// With and without `Expect: 100-continue`: the second client is still sending when it is answered.
#[test]
fn curl_http_uploads() {
    unless_stalled(PATIENCE, || {
        let Some(house) = full("http", "curl") else { return };
        fs::write(house.home.join("3mb"), vec![b'x'; 3_000_000]).expect("write");
        let url = "http://127.0.0.1:{port}/";
        for _ in 0..10 {
            for expect in ["Expect: 100-continue", "Expect:"] {
                let words = curl(&["-H", expect, "-w", "%{http_code}", "-T", "3mb", url]);
                house.client(&words).exits(0).prints("server at capacity\n503");
            }
        }
        house.refused(20);
    });
}

#[test]
fn curl_http_retries_when_it_is_told_to() {
    unless_stalled(PATIENCE, || {
        let Some(house) = full("http", "curl") else { return };
        let words = curl(&["--no-silent", "--retry", "3", "http://127.0.0.1:{port}/"]);
        let mut child = house.command(&words).spawn().expect("curl");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let (send, lines) = channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(|line| drop(send.send(line))));
        let mut seen = Vec::new();
        // By itself curl would come back after 1 s: the 10 are from Retry-After.
        while !seen.iter().any(|line: &String| line.contains("Will retry in 10")) {
            match lines.recv_timeout(FUSE) {
                Ok(line) => seen.push(line),
                Err(e) => {
                    let _ = child.kill();
                    panic!("{e}: {seen:#?}");
                }
            }
        }
        child.kill().expect("kill");
        child.wait().expect("wait");

        // and gives up at once when that is too late for its user
        let words = curl(&["--no-silent", "--retry", "3", "--retry-max-time", "5", "http://127.0.0.1:{port}/"]);
        let said = house.client(&words);
        said.exits(0).prints("server at capacity\n").complains("Retry-After: time would make this command line exceed");
        house.refused(2);
    });
}

#[test]
fn curl_ftp() {
    unless_stalled(PATIENCE, || {
        let Some(house) = full("ftp", "curl") else { return };
        // It takes any 421 for a timeout, which is its code 28.
        let said = house.client(&curl(&["-v", "ftp://127.0.0.1:{port}/"]));
        said.exits(28).complains("< 421 ").complains("server at capacity");
        house.refused(1);
    });
}

#[test]
fn git_ls_remote() {
    unless_stalled(PATIENCE, || {
        let Some(house) = full("git", "git") else { return };
        house
            .client(&["git", "ls-remote", "git://127.0.0.1:{port}/project"])
            .exits(128)
            .complains("fatal: remote error: server at capacity");
        house.refused(1);
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// mail and news

#[test]
fn curl_smtp() {
    unless_stalled(PATIENCE, || {
        let Some(house) = full("smtp", "curl") else { return };
        house.write("mail", "Subject: x\r\n\r\nx\r\n");
        let to = ["--mail-from", "a@host.example", "--mail-rcpt", "b@host.example", "-T", "mail"];
        let said = house.client(&[&curl(&["-v", "smtp://127.0.0.1:{port}/"])[..], &to].concat());
        said.exits(8).complains("< 421 ").complains("server at capacity");
        house.refused(1);
    });
}

#[test]
fn swaks() {
    unless_stalled(PATIENCE, || {
        for (preset, protocol) in [("smtp", "SMTP"), ("lmtp", "LMTP")] {
            let Some(house) = full(preset, "swaks") else { return };
            let server = ["swaks", "--server", "127.0.0.1", "--port", "{port}", "--protocol", protocol];
            let mail = ["--helo", "host.example", "--from", "a@host.example", "--to", "b@host.example"];
            // 21 is "error in the banner"; it then says QUIT to somebody who has left.
            let said = house.client(&[&server[..], &mail].concat());
            said.exits(21).prints("<** 421 ").prints("server at capacity");
            house.refused(1);
        }
    });
}

#[test]
fn curl_imap() {
    unless_stalled(PATIENCE, || {
        let Some(house) = full("imap", "curl") else { return };
        let said = house.client(&curl(&["-v", "-u", "me:secret", "imap://127.0.0.1:{port}/"]));
        said.exits(8).complains("< * BYE [UNAVAILABLE] ").complains("server at capacity");
        house.refused(1);
    });
}

#[test]
fn mbsync() {
    unless_stalled(PATIENCE, || {
        let Some(house) = full("imap", "mbsync") else { return };
        fs::create_dir(house.home.join("mail")).expect("folder");
        // `SSLType` is `TLSType` since 1.5, which warns of the old name
        house.write(
            "rc",
            "IMAPStore far\nHost 127.0.0.1\nPort {port}\nUser me\nPass secret\nSSLType None\nAuthMechs LOGIN\n\n\
         MaildirStore near\nPath {home}/mail/\nInbox {home}/mail/inbox\n\nChannel all\nFar :far:\nNear :near:\n",
        );
        house
            .client(&["mbsync", "-c", "{home}/rc", "all"])
            .exits(1)
            .complains("BYE response: [UNAVAILABLE] server at capacity");
        house.refused(1);
    });
}

#[test]
fn curl_pop3() {
    unless_stalled(PATIENCE, || {
        let Some(house) = full("pop3", "curl") else { return };
        let said = house.client(&curl(&["-v", "-u", "me:secret", "pop3://127.0.0.1:{port}/"]));
        said.exits(8).complains("< -ERR [SYS/TEMP] ").complains("server at capacity");
        house.refused(1);
    });
}

#[test]
fn mpop() {
    unless_stalled(PATIENCE, || {
        let Some(house) = full("pop3", "mpop") else { return };
        let server = ["mpop", "--host=127.0.0.1", "--port={port}", "--tls=off", "--user=me", "--auth=user"];
        let mail = ["--passwordeval=echo secret", "--delivery=maildir,{home}/mail"];
        house
            .client(&[&server[..], &mail].concat())
            .exits(76) // EX_PROTOCOL of sysexits(3)
            .complains("POP3 server message: -ERR [SYS/TEMP] server at capacity");
        house.refused(1);
    });
}

/// Of the package suck.
#[test]
fn testhost() {
    unless_stalled(PATIENCE, || {
        let Some(house) = full("nntp", "testhost") else { return };
        let said = house.client(&["testhost", "127.0.0.1", "-N", "{port}"]);
        said.exits(255).prints("server at capacity");
        house.refused(1);
    });
}

#[test]
fn sieve_connect() {
    unless_stalled(PATIENCE, || {
        let Some(house) = full("managesieve", "sieve-connect") else { return };
        // It understands the BYE, says LOGOUT, and complains that nobody answers that.
        let server = ["sieve-connect", "--debug", "--server", "127.0.0.1", "--port", "{port}", "--notlsverify"];
        let said = house.client(&[&server[..], &["--user", "me", "--list"]].concat());
        said.exits(255).complains("<<< BYE (TRYLATER) ").complains("server at capacity").complains(">>> LOGOUT");
        house.refused(1);
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// shells and screens

#[test]
fn ssh() {
    unless_stalled(PATIENCE, || {
        let Some(house) = full("ssh", "ssh") else { return };
        // its home is the one in passwd, whatever HOME says
        let files =
            ["-F", "none", "-o", "IdentityFile=none", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"];
        let to = ["-p", "{port}", "me@127.0.0.1", "true"];
        let quiet = house.client(&[&["ssh"][..], &files, &to].concat());
        quiet.exits(255).complains("Connection closed by ");
        let loud = house.client(&[&["ssh", "-v"][..], &files, &to].concat());
        loud.exits(255).complains("banner line 0: server at capacity");
        house.refused(2);
    });
}

#[test]
fn vncsnapshot() {
    unless_stalled(PATIENCE, || {
        let Some(house) = full("vnc", "vncsnapshot") else { return };
        // The one client that needs no screen speaks version 3.3, where the answer has another form than in 3.8.
        house
            .client(&["vncsnapshot", "127.0.0.1::{port}", "{home}/x.jpg"])
            .exits(1)
            .complains("VNC connection failed: server at capacity");
        house.refused(1);
    });
}

#[test]
fn ii() {
    unless_stalled(PATIENCE, || {
        let Some(house) = full("irc", "ii") else { return };
        let said = house.client(&["ii", "-s", "127.0.0.1", "-p", "{port}", "-n", "me", "-i", "{home}/irc"]);
        said.exits(1).prints(" ERROR :Closing Link: ");
        let shown = house.read("irc/127.0.0.1/out");
        assert!(shown.contains("Closing Link: ") && shown.contains("server at capacity"), "{shown}");
        house.refused(1);
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// databases

/// Words of one's own, for protocols whose servers have words of their own.
const CLOSED: &str = "closed for lunch";

#[test]
fn psql() {
    unless_stalled(PATIENCE, || {
        for (message, shown) in [("server at capacity", "sorry, too many clients already"), (CLOSED, CLOSED)] {
            let Some(house) = full_saying("postgresql", message, "psql") else { return };
            let client = |mode: &str| {
                let to = format!("host=127.0.0.1 port={{port}} user=me dbname=x connect_timeout=15 sslmode={mode}");
                house.client(&["psql", "--no-psqlrc", "--no-password", "-c", "select 1", &to])
            };
            for mode in ["disable", "allow", "prefer"] {
                client(mode).exits(2).complains(&format!("failed: FATAL:  {shown}\n"));
            }
            client("require").exits(2).complains("server does not support SSL, but SSL was required");
            // `allow` comes back to try with SSL what failed without
            house.refused(5);
        }
    });
}

#[test]
fn mariadb() {
    unless_stalled(PATIENCE, || {
        for (message, shown) in [("server at capacity", "Too many connections"), (CLOSED, CLOSED)] {
            let Some(house) = full_saying("mysql", message, "mariadb") else { return };
            let server =
                ["mariadb", "--no-defaults", "--host=127.0.0.1", "--port={port}", "--user=me", "-e", "select 1"];
            let plain = house.client(&[&server[..], &["--skip-ssl"]].concat());
            plain.exits(1).complains(&format!("ERROR 1040 (HY000): {shown}\n"));
            // With TLS, which is its default, it adds that nobody can vouch for these words.
            house.client(&server).exits(1).complains(&format!("1040 - {shown}\n"));
            house.refused(2);
        }
    });
}

#[test]
fn redis_cli() {
    unless_stalled(PATIENCE, || {
        for (message, shown) in [("server at capacity", "max number of clients reached"), (CLOSED, CLOSED)] {
            let Some(house) = full_saying("redis", message, "redis-cli") else { return };
            let said = house.client(&["redis-cli", "-e", "-h", "127.0.0.1", "-p", "{port}", "PING"]);
            assert!(format!("{}{}", said.out, said.err).contains(&format!("ERR {shown}\n")), "{said:#?}");
            said.exits(1);
            house.refused(1);
        }
    });
}

#[test]
fn libmemcached() {
    unless_stalled(PATIENCE, || {
        let Some(house) = full("memcached", "memccapable") else { return };
        // Most of its tools keep to themselves what they were told. This one connects once more when its test has failed.
        let said =
            house.client(&["memccapable", "-h", "127.0.0.1", "-p", "{port}", "-t", "10", "-a", "-T", "ascii get"]);
        said.exits(1).complains("[ERROR Too many open connections");
        house.client(&["memcexist", "--servers=127.0.0.1:{port}", "key"]).exits(1);
        house.refused(3);
        let Some(house) = full_saying("memcached", CLOSED, "memcexist") else { return };
        house.client(&["memcexist", "--servers=127.0.0.1:{port}", "key"]).exits(1).complains(CLOSED);
        house.client(&["memcping", "--servers=127.0.0.1:{port}"]).exits(1);
        house.refused(2);
    });
}

#[test]
fn ldapsearch() {
    unless_stalled(PATIENCE, || {
        let Some(house) = full("ldap", "ldapsearch") else { return };
        let search = ["-x", "-H", "ldap://127.0.0.1:{port}", "-b", "dc=example", "-s", "base"];
        // its exit code is LDAP's result code, busy
        let said = house.client(&[&["ldapsearch"][..], &search].concat());
        said.exits(51).complains("ldap_bind: Server is busy (51)").complains("additional info: server at capacity");
        let said = house.client(&[&["ldapsearch", "-ZZ"][..], &search].concat());
        said.complains("ldap_start_tls: Server is busy (51)").complains("additional info: server at capacity");
        assert_ne!(said.code, Some(0), "{said:#?}");
        house.refused(2);
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// TLS and things

#[test]
fn openssl() {
    unless_stalled(PATIENCE, || {
        let Some(house) = full("tls", "openssl") else { return };
        house
            .client(&["openssl", "s_client", "-connect", "127.0.0.1:{port}"])
            .exits(1)
            .complains("tlsv1 alert internal error")
            .complains("SSL alert number 80");
        house.refused(1);
    });
}

#[test]
fn curl_https() {
    unless_stalled(PATIENCE, || {
        let Some(house) = full("tls", "curl") else { return };
        house.client(&curl(&["--insecure", "https://127.0.0.1:{port}/"])).exits(35).complains("alert internal error");
        house.refused(1);
    });
}

#[test]
fn mosquitto_pub() {
    unless_stalled(PATIENCE, || {
        let Some(house) = full("mqtt", "mosquitto_pub") else { return };
        let publish = ["mosquitto_pub", "-h", "127.0.0.1", "-p", "{port}", "-t", "topic", "-m", "message"];
        let client = |version: &str| house.client(&[&publish[..], &["-V", version]].concat());
        for version in ["mqttv31", "mqttv311"] {
            client(version).exits(3).complains("Connection Refused: broker unavailable");
        }
        // the reason code, 0x89
        client("mqttv5").exits(0x89).complains("Server busy");
        house.refused(3);
    });
}
