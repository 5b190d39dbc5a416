//! Asks systemd, sockcap and the kernel for what the rules look at.
#![forbid(unsafe_code)]

use super::daemon::{Exec, Settings, assign, environment_file};
use super::show::{Show, words};
use super::subject::{Machine, Running, Subject, Unit};
use super::text::Text;
use crate::ctl::ask;
use crate::ctl::failure::Failure;
use crate::ctl::units;
use crate::sys::plain;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The service of this name, with or without a suffix, or that of the socket of this name.
///
/// # Errors
/// One line, if systemd cannot be asked, or knows neither a service nor a socket of this name.
pub(super) fn subject(name: &str, is_user: bool) -> Result<Subject, Failure> {
    let systemd = Systemd { is_user };
    let stem = name.strip_suffix(".service").or_else(|| name.strip_suffix(".socket")).unwrap_or(name);
    if stem.is_empty() || stem.starts_with('-') || stem.contains(['/', '*', '?', '[']) || stem.ends_with('@') {
        return Err(Failure::usage(format!(
            "'{name}' is not the name of a unit: expected one as in rsync-capped or sockcap@NAME"
        )));
    }
    let own_socket = systemd.unit(&format!("{stem}.socket"))?;
    let triggers = own_socket.show.get("Triggers");
    let service = if name.ends_with(".socket") && !triggers.is_empty() { triggers } else { &format!("{stem}.service") };
    let service = systemd.unit(service)?;
    if !service.exists() && !own_socket.exists() {
        let line = format!(
            "there is neither a {stem}.service nor a {stem}.socket: systemctl list-unit-files '*.socket' shows which there are"
        );
        return Err(Failure::not_running(line));
    }
    // With Accept=yes there is a service for each client alone.
    let of_client = match own_socket.show.is_on("Accept") && !service.exists() {
        true => Some(systemd.unit(&format!("{stem}@check.service"))?),
        false => None,
    };
    for unit in std::iter::once(&service).chain(&of_client) {
        if Exec::parse(&unit.show, &unit.text, &BTreeMap::new()).is_ctl() {
            return Err(Failure::failed(format!("{stem} runs sockcapctl, not sockcap: there is nothing to check")));
        }
    }
    let mut sockets = Vec::new();
    for other in service.show.list("TriggeredBy").into_iter().filter(|unit| unit.ends_with(".socket")) {
        if other != own_socket.name {
            sockets.push(systemd.unit(other)?);
        }
    }
    if own_socket.exists() {
        sockets.insert(0, own_socket);
    }
    let Environment { variables, unreadable, is_whole } = environment(&service, systemd.environment()?);
    let exec = Exec::parse(&service.show, &service.text, &variables);
    let mut subject = Subject { is_user, service, sockets, variables, unreadable, exec, ..Subject::default() };
    ask_sockcap(&mut subject);
    subject.machine = machine(&subject);
    subject.running = running(&subject).filter(|_| is_whole);
    Ok(subject)
}

struct Systemd {
    is_user: bool,
}

impl Systemd {
    fn ask(&self, what: &[&str]) -> Result<Output, Failure> {
        let mut systemctl = Command::new("systemctl");
        systemctl.args(self.is_user.then_some("--user")).args(what);
        systemctl.env("SYSTEMD_COLORS", "0").env("SYSTEMD_PAGER", "").env("LC_ALL", "C").stdin(Stdio::null());
        systemctl.output().map_err(|error| Failure::failed(format!("cannot run systemctl: {}", plain(&error))))
    }

    /// What systemd says of a unit; of one that it does not know, that.
    fn unit(&self, name: &str) -> Result<Unit, Failure> {
        let shown = self.ask(&["show", "--no-pager", "--", name])?;
        let text = String::from_utf8_lossy(&shown.stdout);
        if !shown.status.success() || text.is_empty() {
            let why = String::from_utf8_lossy(&shown.stderr);
            return Err(Failure::failed(format!(
                "cannot ask systemd for {name}: {}",
                why.lines().last().unwrap_or("no answer")
            )));
        }
        let show = Show::parse(&text);
        let has_files = !show.get("FragmentPath").is_empty() || !show.get("DropInPaths").is_empty();
        let text = match has_files {
            true => Text::parse(&String::from_utf8_lossy(&self.ask(&["cat", "--no-pager", "--", name])?.stdout)),
            false => Text::default(),
        };
        Ok(Unit { name: name.to_owned(), show, text })
    }

    /// What every service finds in its environment.
    fn environment(&self) -> Result<BTreeMap<String, String>, Failure> {
        let shown = self.ask(&["show-environment"])?;
        let mut variables = BTreeMap::new();
        let text = String::from_utf8_lossy(&shown.stdout);
        assign(&mut variables, text.lines().map(|line| words(line.trim_start_matches('$')).concat()));
        Ok(variables)
    }
}

struct Environment {
    variables: BTreeMap<String, String>,
    unreadable: Vec<(String, String)>,
    /// Whether we may read all files.
    is_whole: bool,
}

/// In the order of systemd.exec(5).
fn environment(service: &Unit, mut variables: BTreeMap<String, String>) -> Environment {
    assign(&mut variables, words(service.show.get("Environment")));
    let (mut unreadable, mut is_whole) = (Vec::new(), true);
    for file in service.show.all("EnvironmentFiles") {
        let (path, is_optional) = match file.rsplit_once(" (ignore_errors=") {
            Some((path, ignored)) => (path, ignored.starts_with("yes")),
            None => (file.as_str(), true),
        };
        match fs::read_to_string(path) {
            Ok(text) => assign(&mut variables, environment_file(&text)),
            // A pattern names any number of files.
            Err(_) if path.contains(['*', '?', '[']) => is_whole = false,
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => is_whole = false,
            Err(_) if is_optional => {}
            Err(error) => unreadable.push((path.to_owned(), format!("cannot read {path}: {}", plain(&error)))),
        }
    }
    for word in words(service.show.get("UnsetEnvironment")) {
        variables.retain(|name, value| *name != word && format!("{name}={value}") != word);
    }
    Environment { variables, unreadable, is_whole }
}

/// Has sockcap itself judge its settings, in the environment that the service would give it.
fn ask_sockcap(s: &mut Subject) {
    let show = &s.service.show;
    // What it would find in another root is not to be found here.
    let is_elsewhere = ["RootDirectory", "RootImage"].iter().any(|name| !show.get(name).is_empty());
    if !s.exec.is_sockcap() || is_elsewhere {
        return;
    }
    let mut check = Command::new(&s.exec.path);
    check.arg("--check").args(&s.exec.words).env_clear().envs(&s.variables).stdin(Stdio::null());
    match check.output() {
        Ok(output) if output.status.success() => {
            s.settings = Some(Settings::parse(&String::from_utf8_lossy(&output.stdout)))
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let line = said.lines().last().unwrap_or("it gives no reason");
            let line = line.trim_start_matches(|c: char| c == '<' || c == '>' || c.is_ascii_digit());
            s.mistake = Some(line.trim_start_matches("sockcap: ").to_owned());
        }
        Err(error) => s.unstartable = Some(format!("cannot run {}: {}", s.exec.path, plain(&error))),
    }
}

fn machine(s: &Subject) -> Machine {
    let number = |path: &str| fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
    let folder = s.control().and_then(|path| Path::new(&path).parent().map(Path::to_owned));
    Machine {
        somaxconn: number("/proc/sys/net/core/somaxconn"),
        first_free_port: number("/proc/sys/net/ipv4/ip_unprivileged_port_start"),
        has_control_folder: folder.is_some_and(|folder| folder.is_dir()),
    }
}

/// The daemon, as /proc shows it to us.
fn running(s: &Subject) -> Option<Running> {
    let pid = s.service.show.number("MainPID").filter(|pid| *pid > 0 && s.exec.is_sockcap())?;
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok();
    let exe = exe.map_or(String::new(), |path| path.to_string_lossy().into_owned());
    let list = |name: &str| -> Option<Vec<String>> {
        let bytes = fs::read(format!("/proc/{pid}/{name}")).ok().filter(|bytes| !bytes.is_empty())?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Some(text.split_terminator('\0').map(str::to_owned).collect())
    };
    // Between fork and exec it is systemd's own process that has this number.
    let is_sockcap = exe.trim_end_matches(" (deleted)") == s.exec.path;
    let variables = list("environ").filter(|_| is_sockcap).map(|all| {
        let mut variables = BTreeMap::new();
        assign(&mut variables, all);
        variables
    });
    let words = list("cmdline").filter(|_| is_sockcap).map(|all| all.into_iter().skip(1).collect());
    // That it does not answer is for other commands to tell.
    let control = s.control().map(|path| units::Unit { name: s.stem().to_owned(), path: path.into() });
    let snapshot = control.and_then(|unit| ask::describe(&unit).ok());
    Some(Running { exe, words, variables, snapshot })
}
