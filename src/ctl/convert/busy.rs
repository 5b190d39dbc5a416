//! In which protocol a client over the limit is told so, guessed from the program or the port.
#![forbid(unsafe_code)]

/// Programs by the last part of their path, and the preset of `--busy-reply` that their clients understand.
const PROGRAMS: [(&str, &[&str]); 13] = [
    ("rsync", &["rsync", "rsyncd"]),
    ("git", &["git-daemon"]),
    ("ssh", &["sshd", "tinysshd", "dropbear"]),
    ("ftp", &["proftpd", "vsftpd", "ftpd", "pure-ftpd", "bftpd", "wu-ftpd"]),
    ("nntp", &["leafnode", "nnrpd", "sn-nntpd"]),
    (
        "http",
        &[
            "approx",
            "micro-httpd",
            "micro_httpd",
            "mini_httpd",
            "mini-httpd",
            "tangd",
            "httpd",
            "webfsd",
            "thttpd",
            "bozohttpd",
            "althttpd",
        ],
    ),
    ("smtp", &["exim", "exim4", "smtpd", "qmail-smtpd", "sendmail"]),
    ("imap", &["imapd", "imap-login", "uw-imapd"]),
    ("pop3", &["popa3d", "ipop3d", "pop3d", "qmail-popup", "solid-pop3d"]),
    ("irc", &["bitlbee", "ngircd"]),
    ("vnc", &["Xvnc", "Xtigervnc", "x11vnc", "x0vncserver"]),
    ("text", &["fingerd", "efingerd", "cfingerd", "telnetd", "gophernicus", "uucpd", "date"]),
    // Words would be a reply that their clients take for another.
    (
        "none",
        &[
            "saned",
            "oidentd",
            "nullidentd",
            "identd",
            "cockpit-session",
            "cockpit-wsinstance-factory",
            "systemd-coredump",
        ],
    ),
];

/// Ports that are whose they are.
const PORTS: [(&str, &[u16]); 14] = [
    ("rsync", &[873]),
    ("git", &[9418]),
    ("ssh", &[22]),
    ("ftp", &[21]),
    ("nntp", &[119]),
    ("http", &[80, 8000, 8080]),
    ("smtp", &[25, 587]),
    ("imap", &[143]),
    ("pop3", &[110]),
    ("irc", &[6667]),
    ("vnc", &[5900]),
    ("ldap", &[389]),
    ("tls", &[443, 465, 636, 853, 993, 995]),
    ("none", &[113]),
];

/// What is known of a service.
#[derive(Clone, Copy, Debug)]
pub struct Hints<'a> {
    /// The command's words.
    pub words: &'a [String],
    /// What `ListenStream=` and its like have.
    pub listens: &'a [&'a str],
    /// Whether `FileDescriptorName=varlink` tells the protocol.
    pub is_varlink: bool,
}

/// The preset, and whether it is more than the default.
pub fn guess(hints: Hints) -> (&'static str, bool) {
    if hints.is_varlink {
        return ("none", true);
    }
    let names: Vec<&str> = hints.words.iter().map(|word| base(word)).collect();
    if names.first() == Some(&"git") && names.contains(&"daemon") {
        return ("git", true);
    }
    // Of a wrapper (tcpd, env, sh) it is a later word.
    let known = names.iter().find_map(|name| {
        let name = name.strip_prefix("in.").unwrap_or(name);
        PROGRAMS.iter().find(|(_, programs)| programs.contains(&name))
    });
    let by_port = || {
        let [listen] = hints.listens else { return None };
        let port: u16 = listen.rsplit(':').next()?.parse().ok()?;
        PORTS.iter().find(|(_, ports)| ports.contains(&port)).map(|(preset, _)| *preset)
    };
    known.map(|(preset, _)| *preset).or_else(by_port).map_or(("text", false), |preset| (preset, true))
}

/// The name of the program in `"/usr/sbin/in.ftpd"`.
pub fn base(word: &str) -> &str {
    let word = word.trim_matches(['"', '\'']);
    word.rsplit('/').next().unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(command: &str, listens: &[&str]) -> (&'static str, bool) {
        let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
        guess(Hints { words: &words, listens, is_varlink: false })
    }

    #[test]
    fn by_program_then_by_port() {
        assert_eq!(of("/usr/bin/rsync --daemon", &["1"]), ("rsync", true));
        assert_eq!(of("/usr/bin/git daemon --inetd", &[]), ("git", true));
        assert_eq!(of("/usr/sbin/in.proftpd", &["80"]), ("ftp", true));
        assert_eq!(of("/usr/sbin/tcpd in.fingerd", &[]), ("text", true));
        assert_eq!(of("/opt/x", &["[::]:443"]), ("tls", true));
        assert_eq!(of("/opt/x", &["443", "80"]), ("text", false));
        assert_eq!(of("/opt/x", &["/run/x"]), ("text", false));
        assert_eq!(guess(Hints { words: &[], listens: &[], is_varlink: true }), ("none", true));
    }

    #[test]
    fn every_guess_is_a_preset() {
        for name in PROGRAMS.iter().map(|(name, _)| name).chain(PORTS.iter().map(|(name, _)| name)) {
            assert!(crate::reply::PRESETS.iter().any(|preset| preset.name == *name), "{name}");
        }
    }
}
