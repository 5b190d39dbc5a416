//! What breaks each rule.
#![forbid(unsafe_code)]

use super::super::subject::{Subject, Unit};
use super::super::text::Line;
use super::read;
use crate::observe::snapshot::{Limits, Phase, Snapshot};

type Case = (&'static str, fn(&mut Subject));

/// As `--check` says that each connection has to have a cgroup.
const APART: &str = "a cgroup for each connection (needs Delegate=)";

/// By the name of the rule.
pub(super) const ALL: &[Case] = &[
    ("accept", |s| socket(s, "Accept", "yes")),
    ("no-socket", |s| s.sockets.clear()),
    ("socket-service", |s| {
        socket(s, "Triggers", "other.service");
        service(s, "TriggeredBy", "");
    }),
    ("load", |s| {
        socket(s, "LoadState", "bad-setting");
        socket(s, "LoadError", "org.freedesktop.systemd1.BadUnitSetting \"Unit has a bad unit file setting.\"");
    }),
    ("load", |s| {
        let show = super::super::show::Show::parse("LoadState=not-found\n");
        s.sockets.push(Unit { name: "more.socket".to_owned(), show, ..Unit::default() });
        service(s, "TriggeredBy", "rsync-capped.socket more.socket");
    }),
    ("socket-failed", |s| socket(s, "ActiveState", "failed")),
    ("socket-condition", |s| {
        stopped(s);
        socket(s, "UnitFileState", "disabled");
        socket(s, "ActiveState", "condition");
        socket(s, "ConditionResult", "no");
    }),
    ("socket-stopped", |s| socket(s, "ActiveState", "inactive")),
    ("socket-stopped", |s| {
        stopped(s);
        socket(s, "ActiveState", "inactive");
    }),
    ("socket-off", |s| {
        stopped(s);
        socket(s, "ActiveState", "inactive");
        socket(s, "UnitFileState", "disabled");
    }),
    ("install", |s| {
        socket(s, "UnitFileState", "static");
        socket(s, "WantedBy", "rsync-capped.service");
    }),
    ("not-enabled", |s| socket(s, "UnitFileState", "disabled")),
    ("listen-kind", |s| socket(s, "Listen", "[::]:873 (Datagram)")),
    ("socket-requires", |s| service(s, "Requires", "system.slice rsync-capped.socket")),
    ("socket-requires", |s| service(s, "PartOf", "rsync-capped.socket")),
    ("socket-wants", |s| service(s, "Wants", "tmp.mount")),
    ("socket-max", |s| write_socket(s, "MaxConnections", "10")),
    ("socket-max", |s| write_socket(s, "MaxConnectionsPerSource", "2")),
    ("backlog", |s| write_socket(s, "Backlog", "10")),
    ("trigger-limit", |s| socket(s, "TriggerLimitIntervalUSec", "0")),
    ("trigger-limit", |s| socket(s, "TriggerLimitBurst", "1")),
    ("keep-alive", |s| socket(s, "KeepAlive", "no")),
    ("flush-pending", |s| socket(s, "FlushPending", "yes")),
    ("program", |s| s.unstartable = Some("cannot run /usr/bin/sockcap: No such file or directory (ENOENT)".to_owned())),
    ("wrapper", |s| {
        exec(s, "/bin/sh -c sockcap");
        s.running = None;
        s.settings = None;
    }),
    ("ignored-failure", |s| {
        s.exec.ignores_failure = true;
        service(s, "Restart", "on-failure");
    }),
    ("type-wrong", |s| service(s, "Type", "forking")),
    ("type-wrong", |s| service(s, "Type", "notify-reload")),
    ("type", |s| service(s, "Type", "simple")),
    ("exit-type", |s| service(s, "ExitType", "cgroup")),
    ("notify-access", |s| service(s, "NotifyAccess", "none")),
    ("notify-access", |s| service(s, "NotifyAccess", "all")),
    ("restart", |s| service(s, "Restart", "no")),
    ("restart", |s| service(s, "Restart", "on-abnormal")),
    ("idle-exit", |s| set(s, "idle-exit", "1m")),
    ("restart-sec", |s| service(s, "RestartUSec", "0")),
    ("restart-sec", |s| service(s, "RestartUSec", "5min")),
    ("start-limit", |s| service(s, "StartLimitIntervalUSec", "10s")),
    ("condition", |s| write(s, "Unit", "ConditionPathExists", "/etc/rsyncd.conf")),
    ("condition", |s| write(s, "Service", "ExecCondition", "/bin/true")),
    ("section", |s| write(s, "Service", "StartLimitIntervalSec", "0")),
    ("section", |s| write(s, "Unit", "KillMode", "process")),
    ("section", |s| write(s, "", "Restart", "always")),
    ("section", |s| {
        s.sockets[0].text.0.push(line("Service", "ListenStream", "874"));
    }),
    ("remain-after-exit", |s| service(s, "RemainAfterExit", "yes")),
    ("unneeded", |s| service(s, "StopWhenUnneeded", "yes")),
    ("runtime-max", |s| service(s, "RuntimeMaxUSec", "1d")),
    ("watchdog", |s| write(s, "Service", "WatchdogSec", "1s")),
    ("watchdog", |s| write(s, "Service", "WatchdogSec", "4")),
    ("no-watchdog", |s| write(s, "Service", "WatchdogSec", "")),
    ("stdin", |s| service(s, "StandardInput", "socket")),
    ("stdin", |s| service(s, "StandardOutput", "socket")),
    ("stderr", |s| service(s, "StandardOutput", "null")),
    ("log-level", |s| service(s, "LogLevelMax", "3")),
    ("identifier", |s| service(s, "SyslogIdentifier", "")),
    ("exec-reload", |s| service(s, "ExecReload", "{ path=/bin/kill ; argv[]=/bin/kill -HUP $MAINPID }")),
    ("kill-mode", |s| service(s, "KillMode", "control-group")),
    ("kill-mode", |s| service(s, "KillMode", "none")),
    ("restart-kill-signal", |s| {
        service(s, "RestartKillSignal", "15");
        service(s, "SuccessExitStatus", "");
    }),
    ("kill-signal", |s| service(s, "KillSignal", "10")),
    ("kill-signal", |s| service(s, "KillSignal", "1")),
    ("exit-status", |s| service(s, "SuccessExitStatus", "")),
    ("timeout-stop", |s| service(s, "TimeoutStopUSec", "40s")),
    ("timeout-stop", |s| set(s, "drain-timeout", "5m")),
    ("send-sighup", |s| service(s, "SendSIGHUP", "yes")),
    ("send-sigkill", |s| service(s, "SendSIGKILL", "no")),
    ("exec-stop", |s| service(s, "ExecStop", "{ path=/bin/kill ; argv[]=/bin/kill $MAINPID }")),
    ("fd-store", |s| service(s, "FileDescriptorStoreMax", "0")),
    ("fd-store-preserve", |s| service(s, "FileDescriptorStorePreserve", "no")),
    ("oom-policy", |s| service(s, "OOMPolicy", "stop")),
    ("oomd", |s| service(s, "ManagedOOMMemoryPressure", "kill")),
    ("oom-score", |s| service(s, "OOMScoreAdjust", "0")),
    ("settings", |s| mistake(s, "unknown variable SOCKCAP_MAX_CONECTIONS; did you mean SOCKCAP_MAX_CONNECTIONS?")),
    ("command", |s| mistake(s, "cannot run '/usr/bin/rsync': No such file or directory (ENOENT)")),
    ("listener-name", |s| set(s, "max-per-listener", "'web': 3")),
    ("environment-file", |s| s.unreadable = vec![("/etc/x".to_owned(), "cannot read /etc/x".to_owned())]),
    ("environment-words", |s| write(s, "Service", "Environment", "SOCKCAP_MAX_WAIT=1h 30min")),
    ("overridden", |s| exec(s, "/usr/bin/sockcap --processes=3 -- /usr/bin/rsync --daemon")),
    ("unset", |s| service(s, "UnsetEnvironment", "SOCKCAP_MAX_WAIT")),
    ("unlimited", |s| set(s, "max-connections", "unlimited")),
    ("never-reached", |s| {
        set(s, "when-full", "refuse");
        set(s, "max-per-source", "10 per network of prefix 32,64");
    }),
    ("never-reached", |s| set(s, "max-per-listener", "'rsync': 12")),
    ("not-used", |s| {
        s.variables.insert("SOCKCAP_PENALTY_MIN".to_owned(), "1s".to_owned());
        s.running = None;
    }),
    ("not-used", |s| {
        set(s, "max-per-source", "unlimited");
    }),
    ("dry-run", |s| set(s, "dry-run", "max-per-source")),
    ("proxy-from", |s| set(s, "proxy-from", "0.0.0.0/0")),
    ("time-limit-unit", |s| {
        exec(s, "/usr/bin/sockcap -- /usr/bin/systemd-run --pipe -- /bin/cat");
        set(s, "time-limit", "1m");
    }),
    ("control-folder", |s| s.machine.has_control_folder = false),
    ("control-place", |s| {
        s.variables.insert("SOCKCAP_CONTROL".to_owned(), "/run/rsync.sock".to_owned());
        s.running = None;
    }),
    ("no-control", |s| {
        s.variables.remove("SOCKCAP_CONTROL");
        s.running = None;
    }),
    ("limit-nofile", |s| {
        service(s, "LimitNOFILE", "512");
        set(s, "max-connections", "200");
        set(s, "max-per-source", "8 per network of prefix 32,64");
    }),
    ("limit-nofile-least", |s| {
        service(s, "LimitNOFILE", "16");
        service(s, "LimitNOFILESoft", "16");
    }),
    ("limit-nofile-soft", |s| set(s, "max-waiting", "1000")),
    ("fd-store-size", |s| service(s, "FileDescriptorStoreMax", "100")),
    ("tasks-max", |s| service(s, "TasksMax", "11")),
    ("tasks-max", |s| service(s, "EffectiveTasksMax", "11")),
    ("limit-nproc", |s| {
        service(s, "User", "rsync");
        service(s, "LimitNPROC", "5");
    }),
    ("limit-cpu", |s| service(s, "LimitCPU", "60")),
    ("somaxconn", |s| s.machine.somaxconn = Some(128)),
    ("address-families", |s| service(s, "RestrictAddressFamilies", "AF_INET AF_INET6")),
    ("address-families", |s| service(s, "RestrictAddressFamilies", "~AF_UNIX AF_NETLINK")),
    ("address-families", |s| {
        service(s, "RestrictAddressFamilies", "");
        write(s, "Service", "RestrictAddressFamilies", "none");
    }),
    ("listen-families", |s| {
        listen(s, "873");
        service(s, "RestrictAddressFamilies", "AF_UNIX");
    }),
    ("listen-network", |s| {
        listen(s, "873");
        service(s, "PrivateNetwork", "yes");
    }),
    ("listen-port", |s| {
        listen(s, "[::1]:873");
        service(s, "User", "rsync");
    }),
    ("system-calls", |s| {
        let allowed = s.service.show.get("SystemCallFilter").replace(" accept4 ", " ");
        service(s, "SystemCallFilter", &allowed);
    }),
    ("system-calls", |s| service(s, "SystemCallFilter", "~epoll_ctl listen:EPERM")),
    ("system-call-error", |s| {
        let allowed = s.service.show.get("SystemCallFilter").replace(" prlimit64 ", " ");
        service(s, "SystemCallFilter", &allowed);
        service(s, "SystemCallErrorNumber", "2147483646");
    }),
    ("isolate-calls", |s| {
        set(s, "isolate", "signals (Landlock ABI 7)");
        let allowed = s.service.show.get("SystemCallFilter").replace(" landlock_restrict_self ", " ");
        service(s, "SystemCallFilter", &allowed);
    }),
    ("delegate", |s| {
        set(s, "isolate", APART);
        service(s, "ProtectControlGroups", "no");
    }),
    ("control-groups", |s| {
        set(s, "isolate", APART);
        service(s, "Delegate", "yes");
    }),
    ("delegate-subgroup", |s| {
        set(s, "isolate", APART);
        set(s, "memory-max", "67108864 (memory.max)");
        service(s, "Delegate", "yes");
        service(s, "ProtectControlGroups", "no");
    }),
    ("nice-calls", |s| {
        s.variables.insert("SOCKCAP_NICE".to_owned(), "5".to_owned());
        s.running = None;
        let allowed = s.service.show.get("SystemCallFilter").replace(" setpriority ", " ");
        service(s, "SystemCallFilter", &allowed);
    }),
    ("isolate-login", |s| {
        service(s, "NoNewPrivileges", "no");
        set(s, "isolate", "signals (Landlock ABI 7)");
        exec(s, "/usr/bin/sockcap -- /usr/sbin/sshd -i");
    }),
    ("private-pids", |s| service(s, "PrivatePIDs", "yes")),
    ("protect-proc", |s| service(s, "ProtectProc", "invisible")),
    ("hidden-proc", |s| service(s, "InaccessiblePaths", "/srv -/proc")),
    ("proc-subset", |s| {
        service(s, "ProcSubset", "pid");
        set(s, "max-pressure", "memory=10");
    }),
    ("hidden-program", |s| {
        service(s, "ProtectHome", "yes");
        exec(s, "/usr/bin/sockcap -- /home/a/serve");
    }),
    ("hidden-program", |s| exec(s, "/usr/bin/sockcap -- /tmp/serve")),
    ("login", |s| {
        service(s, "User", "sshd");
        service(s, "NoNewPrivileges", "no");
        exec(s, "/usr/bin/sockcap -- /usr/sbin/sshd -i");
    }),
    ("login", |s| {
        service(s, "CapabilityBoundingSet", "cap_chown cap_kill");
        exec(s, "/usr/bin/sockcap -- /usr/bin/login");
    }),
    ("no-new-privileges", |s| exec(s, "/usr/bin/sockcap -- /usr/sbin/sshd -i")),
    ("manager-access", |s| {
        service(s, "DynamicUser", "yes");
        exec(s, "/usr/bin/sockcap -- /usr/bin/systemd-run --pipe /bin/cat");
    }),
    ("cap-kill", |s| service(s, "CapabilityBoundingSet", "cap_setuid cap_setgid")),
    ("address-list", |s| write(s, "Service", "IPAddressAllow", "192.0.2.0/24")),
    ("reload", |s| service(s, "NeedDaemonReload", "yes")),
    ("failing", |s| {
        service(s, "ActiveState", "activating");
        service(s, "SubState", "auto-restart");
        service(s, "Result", "exit-code");
    }),
    ("old-program", |s| running(s, |running| running.exe.push_str(" (deleted)"))),
    ("old-settings", |s| {
        let variables = |running: &mut super::Running| running.variables.as_mut().unwrap().remove("SOCKCAP_MAX_WAIT");
        running(s, |running| drop(variables(running)));
    }),
    ("old-settings", |s| running(s, |running| running.words.as_mut().unwrap().push("--no".to_owned()))),
    ("set", |s| {
        let limits = Limits { max_connections: Some(8), max_wait_usec: Some(60_000_000), ..Limits::default() };
        running(s, |running| running.snapshot.get_or_insert_default().context.limits = limits);
    }),
    ("drained", |s| {
        let mut snapshot = Snapshot::default();
        snapshot.runtime.phase = Phase::Drained;
        running(s, |running| running.snapshot = Some(snapshot));
    }),
];

fn service(s: &mut Subject, name: &str, value: &str) {
    s.service.show.set(name, value);
}

fn socket(s: &mut Subject, name: &str, value: &str) {
    s.sockets[0].show.set(name, value);
}

fn set(s: &mut Subject, option: &str, value: &str) {
    s.settings.as_mut().unwrap().set(option, value);
}

fn running(s: &mut Subject, change: impl FnOnce(&mut super::Running)) {
    change(s.running.as_mut().unwrap());
}

fn line(section: &str, key: &str, value: &str) -> Line {
    let file = "/etc/systemd/system/rsync-capped.service.d/override.conf".to_owned();
    Line { section: section.to_owned(), key: key.to_owned(), value: value.to_owned(), file }
}

/// A line of a drop-in.
fn write(s: &mut Subject, section: &str, key: &str, value: &str) {
    s.service.text.0.push(line(section, key, value));
}

fn write_socket(s: &mut Subject, key: &str, value: &str) {
    s.sockets[0].text.0.push(line("Socket", key, value));
}

/// Another line of `ExecStart=`, with which the daemon runs.
fn exec(s: &mut Subject, words: &str) {
    let path = words.split(' ').next().unwrap();
    service(s, "ExecStart", &format!("{{ path={path} ; argv[]={words} ; ignore_errors=no }}"));
    write(s, "Service", "ExecStart", words);
    read(s);
    let (path, words) = (s.exec.path.clone(), s.exec.words.clone());
    running(s, |running| (running.exe, running.words) = (path, Some(words)));
}

fn mistake(s: &mut Subject, said: &str) {
    s.settings = None;
    s.mistake = Some(said.to_owned());
}

fn stopped(s: &mut Subject) {
    service(s, "ActiveState", "inactive");
    s.running = None;
}

/// Without systemd's sockets.
fn listen(s: &mut Subject, place: &str) {
    exec(s, &format!("/usr/bin/sockcap --listen={place} -- /usr/bin/rsync --daemon"));
    set(s, "listen", place);
    s.sockets.clear();
    service(s, "TriggeredBy", "");
}
