#![forbid(unsafe_code)]

use super::*;
use crate::cli::Args;
use crate::ctl::convert::names::Names;
use crate::ctl::convert::unit::Unit;
use clap::CommandFactory;
use proptest::prelude::*;

const SOCKET: &str =
    "[Unit]\nDescription=Foo\n[Socket]\nListenStream=70\nAccept=yes\n[Install]\nWantedBy=sockets.target\n";
const SERVICE: &str = "[Service]\nExecStart=-/usr/sbin/foo\nStandardInput=socket\nStandardError=journal\n";

fn unit(texts: &[&str]) -> Unit {
    let mut unit = Unit::default();
    texts.iter().for_each(|text| unit.read(text));
    unit
}

fn pair(name: &str, socket: &[&str], service: &[&str]) -> Pair {
    Pair {
        names: Names::parse(name).unwrap(),
        socket: unit(socket),
        service: unit(service),
        slice: None,
        files: vec!["/etc/systemd/system/foo.socket".into()],
        is_user: false,
    }
}

/// With these lines added to `[Socket]` and `[Service]`.
fn with(socket: &str, service: &str) -> Converted {
    let (socket, service) = (format!("[Socket]\n{socket}\n"), format!("[Service]\n{service}\n"));
    convert(&pair("foo.socket", &[SOCKET, &socket], &[SERVICE, &service])).unwrap()
}

fn refused(socket: &str, service: &str) -> String {
    let (socket, service) = (format!("[Socket]\n{socket}\n"), format!("[Service]\n{service}\n"));
    convert(&pair("foo.socket", &[SOCKET, &socket], &[SERVICE, &service])).unwrap_err()
}

impl Converted {
    /// Whether the service has the line.
    #[track_caller]
    fn has(&self, line: &str) -> &Self {
        assert!(self.service.1.lines().any(|it| it == line), "no line {line} in\n{}", self.service.1);
        self
    }

    #[track_caller]
    fn socket_has(&self, line: &str) -> &Self {
        assert!(self.socket.1.lines().any(|it| it == line), "no line {line} in\n{}", self.socket.1);
        self
    }

    /// Whether the service has no line that begins so.
    #[track_caller]
    fn lacks(&self, start: &str) -> &Self {
        assert!(!self.service.1.lines().any(|it| it.starts_with(start)), "a line {start} in\n{}", self.service.1);
        self
    }

    #[track_caller]
    fn says(&self, words: &str) -> &Self {
        assert!(self.notes.iter().any(|note| note.contains(words)), "nothing says {words}: {:#?}", self.notes);
        self
    }
}

#[test]
fn a_plain_pair_has_nothing_to_tell_but_the_reply() {
    let it = with("", "");
    assert_eq!((it.socket.0.as_str(), it.service.0.as_str()), ("foo-capped.socket", "foo-capped.service"));
    assert_eq!(it.notes.len(), 1, "{:#?}", it.notes);
    it.says("--busy-reply text")
        .has("ExecStart=/usr/bin/sockcap --busy-reply text -- /usr/sbin/foo")
        .has("Environment=SOCKCAP_MAX_CONNECTIONS=64")
        .has("Wants=foo-capped.socket")
        .has("SyslogIdentifier=foo")
        .has("KillMode=process")
        .has("Also=foo-capped.socket")
        .lacks("StandardInput")
        .socket_has("ListenStream=70")
        .socket_has("Accept=no")
        .socket_has("Conflicts=foo.socket")
        .socket_has("Description=Foo, with a connection limit");
    assert!(!it.socket.1.contains("Accept=yes"));
}

#[test]
fn limits_become_sockcap_s() {
    let it = with(
        "MaxConnections=7\nMaxConnectionsPerSource=2\nBacklog=9\nTriggerLimitBurst=30\nKeepAlive=no",
        "RuntimeMaxSec=1h\nTimeoutStopSec=5\nLimitNOFILE=100\nOOMScoreAdjust=100\nTasksMax=3\nMemoryMax=10M",
    );
    it.has("Environment=SOCKCAP_MAX_CONNECTIONS=7")
        .has("Environment=SOCKCAP_MAX_PER_SOURCE=2")
        .has("Environment=SOCKCAP_SOURCE_PREFIX=32,128")
        .has("Environment=SOCKCAP_BACKLOG=9")
        .has("Environment=SOCKCAP_TIME_LIMIT=60min")
        .has("Environment=SOCKCAP_KILL_GRACE=5s")
        .has("TimeoutStopSec=45s")
        .has("LimitNOFILE=100:16384")
        .has("OOMScoreAdjust=-400")
        .has("TasksMax=37")
        .has("MemoryMax=70M")
        .says("MemoryMax=10M")
        .socket_has("Backlog=9")
        .socket_has("TriggerLimitBurst=30")
        .socket_has("KeepAlive=no");
    assert!(!it.socket.1.contains("MaxConnections"), "{}", it.socket.1);
    assert!(refused("MaxConnections=many", "").contains("MaxConnections=many"));
    assert!(refused("", "RuntimeMaxSec=x").contains("RuntimeMaxSec=x"));
}

/// What `sockcapctl check` would find.
#[test]
fn a_socket_of_one_service_has_what_it_needs() {
    for line in ["TriggerLimitBurst=0", "TriggerLimitIntervalSec=0s"] {
        let it = with(line, "");
        it.says(line).socket_has("KeepAlive=yes");
        assert!(!it.socket.1.contains("TriggerLimit"), "{}", it.socket.1);
    }
    let it = with("ListenStream=\nListenStream=/run/foo", "");
    assert!(!it.socket.1.contains("KeepAlive"), "{}", it.socket.1);
}

#[test]
fn ipv6_is_spoken_of_where_there_may_be_some() {
    for (listen, may_be) in [
        ("70", true),
        ("[::]:70", true),
        ("0.0.0.0:70", false),
        ("127.0.0.1:70", false),
        ("/run/foo", false),
        ("@foo", false),
        ("vsock::70", false),
        ("/run/foo\nListenStream=70", true),
    ] {
        let it = with(&format!("ListenStream=\nListenStream={listen}\nMaxConnectionsPerSource=2"), "");
        it.has("Environment=SOCKCAP_MAX_PER_SOURCE=2");
        assert_eq!(it.notes.iter().any(|note| note.contains("IPv6")), may_be, "{listen}: {:?}", it.notes);
        assert_eq!(it.service.1.contains("SOCKCAP_SOURCE_PREFIX=32,128"), may_be, "{listen}");
    }
}

#[test]
fn a_slice_with_a_soft_limit_is_a_queue() {
    let mut pair = pair("foo.socket", &[SOCKET], &[SERVICE]);
    pair.slice = Some(unit(&["[Slice]\nConcurrencySoftMax=4\nConcurrencyHardMax=9\nMemoryMax=1G\n"]));
    let it = convert(&pair).unwrap();
    it.has("Environment=SOCKCAP_MAX_CONNECTIONS=4")
        .has("Environment=SOCKCAP_WHEN_FULL=wait")
        .has("Environment=SOCKCAP_MAX_WAITING=60")
        .says("ConcurrencyHardMax=9")
        .says("MemoryMax= of the slice");
}

#[test]
fn prefixes_of_the_command() {
    with("", "ExecStart=\nExecStart=-@/usr/bin/tcpd in.fingerd -w")
        .has("ExecStart=/usr/bin/sockcap --busy-reply text --argv0 in.fingerd -- /usr/bin/tcpd -w");
    with("", "ExecStart=\nExecStart=:/bin/a ${x}")
        .has("ExecStart=:/usr/bin/sockcap --busy-reply text -- /bin/a ${{x}}");
    with("", "ExecStart=\nExecStart=+/bin/a$b")
        .has("ExecStart=+/usr/bin/sockcap --busy-reply text -- /bin/a$$b")
        .says("privileges");
    for bad in ["/bin/a\nExecStart=/bin/b", "|/bin/a", "/bin/a ; /bin/b", "-", "/bin/a '"] {
        assert!(refused("", &format!("ExecStart=\nExecStart={bad}")).starts_with("foo@.service"), "{bad}");
    }
    assert!(refused("", "ExecStart=").contains("no ExecStart="));
}

#[test]
fn the_connection_s_name_is_filled_in_or_left_out() {
    with("", "ExecStart=\nExecStart=/bin/a %i {}\nRuntimeDirectory=a/%i\nSyslogIdentifier=foo-%i\nStateDirectory=%p")
        .has("ExecStart=/usr/bin/sockcap --busy-reply text -- /bin/a {id}-{local_addr}:{local_port}-{remote_addr}:{remote_port} {{}}")
        .has("SyslogIdentifier=a")
        .has("Environment=SOCKCAP_CONTROL=%t/sockcap/%N/control.sock")
        .has("RuntimeDirectory=sockcap/%N")
        .has("StateDirectory=foo")
        .says("RuntimeDirectory=a/%i")
        .lacks("RuntimeDirectory=a");
    with("ListenStream=\nListenStream=/run/%N", "ExecStart=\nExecStart=/bin/a %i")
        .has("ExecStart=/usr/bin/sockcap --busy-reply text -- /bin/a {id}-{pid}-{uid}")
        .socket_has("ListenStream=/run/foo");
}

#[test]
fn streams_go_where_they_went() {
    let listen = "StandardInput=null\nStandardError=append:/var/log/foo";
    with("FileDescriptorName=varlink", listen)
        .has("ExecStart=/usr/bin/sockcap --busy-reply none --pass listen-fds -- /usr/bin/env LISTEN_FDNAMES=varlink /usr/sbin/foo")
        .has("StandardInput=null")
        .has("StandardError=append:/var/log/foo")
        .has("Environment=SOCKCAP_LOG_TARGET=journal")
        .socket_has("FileDescriptorName=foo");
    with("FileDescriptorName=bar", "StandardInput=\nStandardOutput=socket\nExecStart=\nExecStart=/bin/a {b}")
        .has(
            "ExecStart=/usr/bin/sockcap --busy-reply text -- /bin/sh -c 'exec \"$$0\" \"$$@\" </dev/null' /bin/a {{b}}",
        )
        .socket_has("FileDescriptorName=bar");
    with("", "StandardOutput=null").has(
        "ExecStart=/usr/bin/sockcap --busy-reply text -- /bin/sh -c 'exec \"$$0\" \"$$@\" >/dev/null' /usr/sbin/foo",
    );
    let sends = "ExecStart=/usr/bin/sockcap --busy-reply text --stderr socket -- /usr/sbin/foo";
    with("", "StandardError=").has(sends).says("as before (--stderr socket)");
    with("", "StandardError=inherit").has(sends).says("as before (--stderr socket)");
    with("", "StandardError=socket").has(sends).lacks("StandardError");
    with("", "StandardError=null")
        .has("ExecStart=/usr/bin/sockcap --busy-reply text --stderr null -- /usr/sbin/foo")
        .lacks("StandardError")
        .lacks("SOCKCAP_LOG_TARGET");
    with("", "StandardInput=null\nStandardError=null")
        .has("ExecStart=/usr/bin/sockcap --busy-reply text --pass listen-fds --stderr null -- /usr/sbin/foo");
    with("", "StandardOutput=null\nStandardError=").has(
        "ExecStart=/usr/bin/sockcap --busy-reply text --stderr null -- /bin/sh -c 'exec \"$$0\" \"$$@\" >/dev/null' /usr/sbin/foo",
    );
    with("", "StandardOutput=journal\nStandardError=inherit").has("StandardError=journal");
    with("", "StandardOutput=journal\nStandardError=socket").says("not sent to the client");
    with("", "StandardError=syslog").has("StandardError=journal");
}

#[test]
fn what_each_connection_had_is_told() {
    let lost = [
        "ExecStartPost=/bin/a",
        "ExecStopPost=/bin/a",
        "Restart=always",
        "PAMName=login",
        "Type=forking",
        "KillSignal=SIGINT",
        "WatchdogSec=1",
        "NonBlocking=yes",
        "OpenFile=/etc/passwd",
        "IgnoreSIGPIPE=yes",
        "UtmpIdentifier=x",
        "ExecCondition=/bin/a",
    ];
    for line in lost {
        with("", line).says(line);
    }
    for line in ["DynamicUser=yes", "PrivateTmp=yes", "ExecStartPre=/bin/a", "EnvironmentFile=/a"] {
        with("", line).has(line).says(line.split('=').next().unwrap());
    }
    with("", "RuntimeDirectory=foo")
        .has("RuntimeDirectoryPreserve=restart")
        .has("RuntimeDirectory=foo")
        .says("$RUNTIME_DIRECTORY");
    with("", "ExecStart=\nExecStart=/bin/sh -c '/bin/a b'").has("SyslogIdentifier=foo");
    with("SELinuxContextFromNet=yes", "").says("SELinuxContextFromNet");
}

#[test]
fn the_sandbox_lets_sockcap_work() {
    with("", "RestrictAddressFamilies=AF_INET\nSystemCallFilter=read write\nCapabilityBoundingSet=CAP_CHOWN")
        .has("RestrictAddressFamilies=AF_INET")
        .has("RestrictAddressFamilies=AF_UNIX")
        .has("SystemCallFilter=@system-service")
        .has("CapabilityBoundingSet=CAP_KILL");
    let it = with(
        "",
        "User=foo\nRestrictAddressFamilies=AF_INET AF_UNIX\nSystemCallFilter=@system-service\nSystemCallFilter=~@privileged\nCapabilityBoundingSet=",
    );
    it.has("CapabilityBoundingSet=").lacks("CapabilityBoundingSet=CAP").lacks("RestrictAddressFamilies=AF_UNIX");
    assert_eq!(it.service.1.matches("@system-service").count(), 1);
    with("", "RestrictAddressFamilies=~AF_NETLINK").lacks("RestrictAddressFamilies=AF_UNIX");
    with("", "RestrictAddressFamilies=~AF_UNIX").has("RestrictAddressFamilies=AF_UNIX");
}

#[test]
fn dependencies_follow_the_new_names() {
    let socket = "[Unit]\nBefore=foo@.service a.service\nPartOf=b.service\n[Install]\nAlso=foo@.service\n";
    let service = "[Unit]\nDescription=Foo (%i)\nRequires=foo.socket c.service\nAfter=foo.socket\nConditionPathExists=/a\nCollectMode=inactive-or-failed\n";
    let it = convert(&pair("foo.socket", &[SOCKET, socket], &[SERVICE, service])).unwrap();
    it.socket_has("Before=foo-capped.service a.service")
        .socket_has("PartOf=b.service")
        .socket_has("Also=foo-capped.service")
        .socket_has("ConditionPathExists=/a")
        .has("Requires=c.service")
        .has("Description=Foo with a connection limit")
        .lacks("ConditionPathExists")
        .lacks("CollectMode");
    assert!(!it.service.1.contains("Requires=foo"), "{}", it.service.1);
    let without = convert(&pair("foo.socket", &["[Socket]\nListenStream=1\nAccept=1\n"], &[SERVICE])).unwrap();
    without.socket_has("WantedBy=sockets.target").says("cannot be enabled");
}

#[test]
fn a_template_stays_one() {
    let it = convert(&pair("foo@.socket", &[SOCKET, "[Socket]\nListenStream=\nListenStream=/run/%i\n"], &[SERVICE]))
        .unwrap();
    assert_eq!(it.socket.0, "foo-capped@.socket");
    it.socket_has("ListenStream=/run/%i").socket_has("Conflicts=foo@%i.socket").has("Wants=foo-capped@%i.socket");
}

#[test]
fn what_sockcap_cannot_serve_is_refused() {
    assert!(refused("Accept=no", "").contains("does not have Accept=yes"));
    assert!(refused("ListenDatagram=1", "").contains("ListenDatagram=1"));
    assert!(refused("ListenStream=", "").contains("no ListenStream="));
}

#[test]
fn a_user_s_unit_asks_for_nothing_that_users_may_not() {
    let mut pair = pair("foo.socket", &[SOCKET], &[SERVICE]);
    pair.is_user = true;
    let it = convert(&pair).unwrap();
    it.lacks("OOMScoreAdjust").lacks("LimitNOFILE");
    assert!(it.service.1.contains("systemctl --user"));
}

#[test]
fn every_variable_is_an_option() {
    let mut pair = pair(
        "foo.socket",
        &[SOCKET, "[Socket]\nMaxConnectionsPerSource=1\nBacklog=1\n"],
        &[SERVICE, "[Service]\nRuntimeMaxSec=1\nStandardError=null\n"],
    );
    pair.slice = Some(unit(&["[Slice]\nConcurrencySoftMax=4\n"]));
    let it = convert(&pair).unwrap();
    let command = Args::command();
    let variables: Vec<&str> =
        it.service.1.lines().filter_map(|line| line.strip_prefix("Environment=")?.split('=').next()).collect();
    assert!(variables.len() > 8, "{variables:?}");
    for variable in variables {
        assert!(command.get_opts().any(|option| option.get_env().is_some_and(|env| env == variable)), "{variable}");
    }
}

#[test]
fn comments_fit() {
    let it = with("", "StandardError=\nDynamicUser=yes");
    for line in it.service.1.lines().filter(|line| line.starts_with('#')) {
        assert!(line.len() <= WIDTH, "{line}");
    }
}

proptest! {
    #[test]
    fn any_pair_is_converted_or_refused(
        socket in "([A-Z][a-z]{3,8}=(\\PC|[%${}\"'\\\\]){0,12}\n){0,5}",
        exec in "(\\PC|[%${}\"'\\\\;@:+!| -]){0,40}",
        service in "((RuntimeMaxSec|TasksMax|MemoryMax|User|LimitNOFILE|StandardOutput|SystemCallFilter|Description)=(\\PC|[%~0-9]){0,12}\n){0,5}",
    ) {
        let socket = format!("[Socket]\n{socket}");
        let service = format!("[Service]\n{service}ExecStart=\nExecStart={exec}\n[Unit]\n{service}");
        let _ = convert(&pair("foo.socket", &[SOCKET, &socket], &[SERVICE, &service]));
    }
}

/// systemd takes it for a backslash, with a warning; in its new place it would take the blank behind it, and `--`, along.
#[test]
fn a_backslash_that_ends_the_command_line_escapes_nothing() {
    let of = |exec: &str| format!("ExecStart=\nExecStart={exec} \n");
    with("", &of("@/bin/a b\\")).has("ExecStart=/usr/bin/sockcap --busy-reply text --argv0 b\\\\ -- /bin/a");
    with("", &of("/bin/a b\\")).has("ExecStart=/usr/bin/sockcap --busy-reply text -- /bin/a b\\\\");
}

/// A blank behind it keeps systemd from taking the next line with it, in the old unit and in the new one.
#[test]
fn a_backslash_before_blanks_continues_no_line() {
    with("", "Environment=A=1\\ \nUser=foo").has("Environment=A=1\\ ").has("User=foo");
    with("", "Environment=A=1\\\\\nUser=foo").has("Environment=A=1\\\\").has("User=foo");
}
