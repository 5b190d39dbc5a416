//! The sandbox, where it takes away what sockcap or its command needs.
#![forbid(unsafe_code)]

use crate::ctl::check::daemon::Settings;
use crate::ctl::check::rule::Severity::{Error, Note, Warning};
use crate::ctl::check::rule::{Hit, Rule, rule};
use crate::ctl::check::subject::Subject;
use crate::ctl::words::distinct;

/// System calls without which sockcap cannot serve.
const NEEDED: [&str; 12] = [
    "accept4",
    "clone",
    "execve",
    "epoll_create1",
    "epoll_ctl",
    "signalfd4",
    "setsid",
    "wait4",
    "listen",
    "getsockopt",
    "socket",
    "sendmsg",
];
/// Those that may fail, but not kill.
const TRIED: [&str; 3] = ["prlimit64", "pidfd_open", "pidfd_send_signal"];
/// Those of `--isolate=signals`.
const LANDLOCK: [&str; 3] = ["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"];
/// Actions of a filter that end the process (`kill`), by the number that systemctl shows.
const KILL: &str = "2147483646";

/// Whether commands are put into Landlock domains, as far as the system has them.
fn keeps_apart(s: &Subject) -> bool {
    s.settings.as_ref().is_some_and(|settings| settings.get("isolate").contains("signals"))
}

pub(super) const RULES: &[Rule] = &[
    rule(
        "address-families",
        Error,
        "without AF_UNIX sockcap can talk neither to systemd nor to the journal: its start is never done",
        |s| {
            let is_none = s.service.text.last("Service", "RestrictAddressFamilies") == Some("none");
            let allows = s.service.show.allows("RestrictAddressFamilies", "AF_UNIX") && !is_none;
            Hit::service(
                &s.service,
                "RestrictAddressFamilies",
                s.service.show.get("RestrictAddressFamilies"),
                "RestrictAddressFamilies=AF_UNIX",
            )
            .when(!allows)
        },
    ),
    rule("listen-families", Error, "--listen cannot open a socket of {}", |s| {
        let Some(settings) = s.settings.as_ref().filter(|_| s.listens()) else { return Vec::new() };
        let family = |listen: &str| match listen {
            path if path.starts_with(['/', '@']) => "AF_UNIX",
            vsock if vsock.starts_with("vsock:") => "AF_VSOCK",
            _ => "AF_INET",
        };
        let families = distinct(settings.all("listen").map(family));
        let lacking = families.into_iter().filter(|family| !s.service.show.allows("RestrictAddressFamilies", family));
        let value = s.service.show.get("RestrictAddressFamilies");
        lacking
            .map(|family| {
                Hit::service(&s.service, "RestrictAddressFamilies", value, format!("RestrictAddressFamilies={family}"))
                    .saying(family)
            })
            .collect()
    }),
    rule("listen-network", Error, "--listen opens its port in a network of its own, where no client is", |s| {
        let has_port = |settings: &Settings| {
            settings.all("listen").any(|listen| !listen.starts_with(['/', '@', 't']) && !listen.starts_with("vsock"))
        };
        let is_so = s.listens() && s.service.show.is_on("PrivateNetwork") && s.settings.as_ref().is_some_and(has_port);
        Hit::service(&s.service, "PrivateNetwork", "yes", "PrivateNetwork=no, or a socket unit instead").when(is_so)
    }),
    rule("listen-port", Error, "only root may open port {}", |s| {
        let Some(settings) = s.settings.as_ref().filter(|_| s.listens() && !s.is_root()) else { return Vec::new() };
        let first = s.machine.first_free_port.unwrap_or(1024);
        let port = settings.all("listen").filter_map(|listen| listen.rsplit(':').next()?.parse::<u64>().ok());
        let low = port.filter(|port| {
            *port < first && !s.service.show.list("AmbientCapabilities").contains(&"cap_net_bind_service")
        });
        let line = "AmbientCapabilities=CAP_NET_BIND_SERVICE, or a socket unit instead";
        low.map(|port| Hit::service(&s.service, "User", s.service.show.get("User"), line).saying(port)).collect()
    }),
    rule("system-calls", Error, "sockcap needs {}", |s| {
        let lacking: Vec<_> =
            NEEDED.into_iter().filter(|call| !s.service.show.allows("SystemCallFilter", call)).collect();
        let written = s.service.text.last("Service", "SystemCallFilter").unwrap_or_default();
        let line = format!("SystemCallFilter={}", lacking.join(" "));
        Hit::service(&s.service, "SystemCallFilter", written, line).saying(lacking.join(", ")).when(!lacking.is_empty())
    }),
    rule("system-call-error", Error, "sockcap tries {}, can do without, and is killed for it", |s| {
        let tried = TRIED.into_iter().chain(LANDLOCK.into_iter().filter(|_| keeps_apart(s)));
        let lacking: Vec<_> = tried.filter(|call| !s.service.show.allows("SystemCallFilter", call)).collect();
        let kills = s.service.show.get("SystemCallErrorNumber") == KILL;
        let hit = Hit::service(&s.service, "SystemCallErrorNumber", "", "SystemCallErrorNumber=EPERM");
        hit.saying(lacking.join(", ")).when(kills && !lacking.is_empty())
    }),
    rule("isolate-calls", Warning, "--isolate=signals has no effect, or is an error at the start: it needs {}", |s| {
        let lacking: Vec<_> =
            LANDLOCK.into_iter().filter(|call| !s.service.show.allows("SystemCallFilter", call)).collect();
        let written = s.service.text.last("Service", "SystemCallFilter").unwrap_or_default();
        let line = format!("SystemCallFilter={}", lacking.join(" "));
        let hit = Hit::service(&s.service, "SystemCallFilter", written, line).saying(lacking.join(", "));
        hit.when(keeps_apart(s) && !lacking.is_empty())
    }),
    rule("nice-calls", Error, "the service does not start: no command can be given the nice value of --nice", |s| {
        let written = s.service.text.last("Service", "SystemCallFilter").unwrap_or_default();
        let hit = Hit::service(&s.service, "SystemCallFilter", written, "SystemCallFilter=setpriority");
        hit.when(s.sets("nice") && !s.service.show.allows("SystemCallFilter", "setpriority"))
    }),
    rule(
        "isolate-login",
        Warning,
        "a login cannot run sudo, nor signal what another login of its user has started",
        |s| {
            let hit = Hit::service(&s.service, "SOCKCAP_ISOLATE", "", "Environment=SOCKCAP_ISOLATE=no");
            hit.when(s.command() == "sshd" && keeps_apart(s))
        },
    ),
    rule(
        "private-pids",
        Error,
        "sockcap is the first process of a namespace: when it ends, for a restart or in a crash, the kernel kills every command",
        |s| Hit::service(&s.service, "PrivatePIDs", "yes", "PrivatePIDs=no").when(s.service.show.is_on("PrivatePIDs")),
    ),
    rule(
        "protect-proc",
        Warning,
        "after a restart sockcap cannot look at commands that have become another user, and knows them only by their number",
        |s| {
            let value = s.service.show.get("ProtectProc");
            let hides = matches!(value, "invisible" | "noaccess" | "ptraceable");
            let changes = s.is_root() && s.may("cap_setuid") && !s.may("cap_sys_ptrace");
            Hit::service(&s.service, "ProtectProc", value, "ProtectProc=default").when(hides && changes)
        },
    ),
    rule(
        "hidden-proc",
        Warning,
        "sockcap does not find the processes of the service: a stop does not end what commands leave behind",
        |s| {
            let paths = s.service.show.list("InaccessiblePaths");
            let hidden = paths.iter().find(|path| {
                matches!(path.trim_start_matches(['-', '+']), "/proc" | "/sys" | "/sys/fs" | "/sys/fs/cgroup")
            });
            let value = hidden.copied().unwrap_or_default();
            Hit::service(&s.service, "InaccessiblePaths", value, "InaccessiblePaths=").when(hidden.is_some())
        },
    ),
    rule(
        "proc-subset",
        Note,
        "--max-pressure can be read from the service's own cgroup alone, which takes cgroup v2",
        |s| {
            let limits = s.settings.as_ref().map_or("", |settings| settings.get("max-pressure"));
            let is_so = s.service.show.get("ProcSubset") == "pid" && !matches!(limits, "" | "off");
            Hit::service(&s.service, "ProcSubset", "pid", "ProcSubset=all").when(is_so)
        },
    ),
    rule("hidden-program", Error, "the command is not there for sockcap: {} hides it", |s| {
        let program = s.exec.command().first().map_or("", String::as_str);
        let is_below = |folders: &[&str]| folders.iter().any(|folder| program.starts_with(folder));
        let (home, tmp) = (s.service.show.get("ProtectHome"), s.service.show.get("PrivateTmp"));
        let name = match () {
            () if matches!(home, "yes" | "tmpfs") && is_below(&["/home/", "/root/", "/run/user/"]) => "ProtectHome",
            () if !matches!(tmp, "no" | "") && is_below(&["/tmp/", "/var/tmp/"]) => "PrivateTmp",
            () => return Vec::new(),
        };
        let line = if name == "ProtectHome" { "ProtectHome=read-only" } else { "PrivateTmp=no" };
        vec![Hit::service(&s.service, name, s.service.show.get(name), line).saying(format!("{name}="))]
    }),
    rule("login", Error, "{} has to be root to log others in", |s| {
        let command = s.command();
        let is_login = matches!(command, "sshd" | "login" | "in.telnetd" | "telnetd" | "in.rlogind" | "in.rshd");
        let hit = match () {
            () if !is_login => return Vec::new(),
            () if s.service.show.is_on("DynamicUser") => {
                Hit::service(&s.service, "DynamicUser", "yes", "DynamicUser=no")
            }
            () if !s.is_root() && !s.is_user => {
                Hit::service(&s.service, "User", s.service.show.get("User"), "User=root")
            }
            () if !s.may("cap_setuid") || !s.may("cap_setgid") => {
                Hit::service(&s.service, "CapabilityBoundingSet", "", "CapabilityBoundingSet=CAP_SETUID CAP_SETGID")
            }
            () => return Vec::new(),
        };
        vec![hit.saying(command)]
    }),
    rule("no-new-privileges", Warning, "a login cannot run sudo or any other program that changes its user", |s| {
        let is_so = s.command() == "sshd" && s.service.show.is_on("NoNewPrivileges");
        Hit::service(&s.service, "NoNewPrivileges", "yes", "NoNewPrivileges=no").when(is_so)
    }),
    rule("manager-access", Error, "systemd-run has to be root, or it may start no service", |s| {
        let is_so = s.command() == "systemd-run" && !s.is_root() && !s.is_user;
        Hit::service(&s.service, "User", s.service.show.get("User"), "User=root, and DynamicUser=no").when(is_so)
    }),
    rule(
        "cap-kill",
        Warning,
        "sockcap cannot end a command that has become another user, neither at --time-limit nor on a stop",
        |s| {
            let is_so = s.is_root() && s.may("cap_setuid") && !s.may("cap_kill");
            Hit::service(&s.service, "CapabilityBoundingSet", "without CAP_KILL", "CapabilityBoundingSet=CAP_KILL")
                .when(is_so)
        },
    ),
    rule(
        "address-list",
        Warning,
        "it does not hold for clients: systemd asks the socket's own list for a socket that it passes",
        |s| {
            let written = s.service.text.last("Service", "IPAddressAllow").unwrap_or_default();
            let is_so = !written.is_empty() && !s.listens() && s.passing().next().is_some();
            let mine = |subject: &Subject| subject.passing().next().map_or(String::new(), |socket| socket.name.clone());
            let what = format!("move it to [Socket] of {}, with IPAddressDeny=any", mine(s));
            let is_there = s.passing().all(|socket| !socket.show.get("IPAddressAllow").is_empty());
            Hit::other(&s.service, "IPAddressAllow", written, what).when(is_so && !is_there)
        },
    ),
];
