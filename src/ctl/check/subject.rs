//! All that rules look at: the units as systemd sees them, what sockcap makes of its settings, and what runs.
#![forbid(unsafe_code)]

use super::daemon::{Exec, Settings};
use super::show::Show;
use super::text::Text;
use crate::observe::snapshot::Snapshot;
use std::collections::BTreeMap;

/// A unit.
#[derive(Clone, Debug, Default)]
pub(super) struct Unit {
    /// With its suffix.
    pub(super) name: String,
    pub(super) show: Show,
    pub(super) text: Text,
}

impl Unit {
    /// Whether systemd knows it.
    pub(super) fn exists(&self) -> bool {
        !matches!(self.show.get("LoadState"), "not-found" | "")
    }

    /// Whether commands serve those who connect to this socket: it is none for questions, which takes no slot.
    pub(super) fn has_clients(&self) -> bool {
        !["varlink", "metrics", "agent-check"].contains(&self.show.get("FileDescriptorName"))
    }

    /// Whether systemd has read it without an error.
    pub(super) fn is_loaded(&self) -> bool {
        self.show.get("LoadState") == "loaded"
    }
}

/// What the machine allows.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    /// `net.core.somaxconn`.
    pub(super) somaxconn: Option<u64>,
    /// `net.ipv4.ip_unprivileged_port_start`.
    pub(super) first_free_port: Option<u64>,
    /// Whether the folder of the control socket is there already.
    pub(super) has_control_folder: bool,
}

/// The daemon, if it runs and may be looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Running {
    /// Where `/proc/PID/exe` leads; empty if that is not known.
    pub(super) exe: String,
    /// Its arguments, without its name.
    pub(super) words: Option<Vec<String>>,
    /// Its environment.
    pub(super) variables: Option<BTreeMap<String, String>>,
    /// What it says of itself.
    pub(super) snapshot: Option<Snapshot>,
}

/// The service with all that belongs to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Subject {
    /// Of the user's own manager.
    pub(super) is_user: bool,
    pub(super) service: Unit,
    /// Those that start it, and the one of its name.
    pub(super) sockets: Vec<Unit>,
    /// The environment of sockcap.
    pub(super) variables: BTreeMap<String, String>,
    /// Files of `EnvironmentFile=` that are needed and cannot be read, with the reason.
    pub(super) unreadable: Vec<(String, String)>,
    pub(super) exec: Exec,
    /// What holds, if sockcap accepts its settings.
    pub(super) settings: Option<Settings>,
    /// Why sockcap cannot even be asked.
    pub(super) unstartable: Option<String>,
    /// What sockcap says of its settings, if it does not.
    pub(super) mistake: Option<String>,
    pub(super) machine: Machine,
    pub(super) running: Option<Running>,
}

impl Subject {
    /// The command for this manager.
    pub(super) fn systemctl(&self) -> &'static str {
        if self.is_user { "systemctl --user" } else { "systemctl" }
    }

    /// `rsync-capped` of `rsync-capped.service`.
    pub(super) fn stem(&self) -> &str {
        self.service.name.trim_end_matches(".service")
    }

    /// Whether an option is set, and where: the command line wins.
    pub(super) fn sets(&self, option: &str) -> bool {
        self.exec.has(option) || self.variables.contains_key(&super::daemon::variable(option))
    }

    /// Whether an option has one of these values, as far as sockcap says it.
    pub(super) fn has(&self, option: &str, values: &[&str]) -> bool {
        self.settings.as_ref().is_some_and(|settings| values.contains(&settings.get(option)))
    }

    /// Whether sockcap opens its sockets itself.
    pub(super) fn listens(&self) -> bool {
        self.sets("listen")
    }

    /// The sockets that systemd passes.
    pub(super) fn passing(&self) -> impl Iterator<Item = &Unit> {
        self.sockets.iter().filter(|socket| socket.is_loaded() && !socket.show.is_on("Accept"))
    }

    /// How many listening sockets there are.
    pub(super) fn listeners(&self) -> u64 {
        self.passing().map(|socket| socket.show.all("Listen").len() as u64).sum()
    }

    /// Whether the service runs as root.
    pub(super) fn is_root(&self) -> bool {
        let user = self.service.show.get("User");
        !self.is_user && matches!(user, "" | "root" | "0") && !self.service.show.is_on("DynamicUser")
    }

    /// Whether a capability is in the bounding set; systemctl shows no empty set.
    pub(super) fn may(&self, capability: &str) -> bool {
        self.service.show.list("CapabilityBoundingSet").contains(&capability)
    }

    /// The name of COMMAND's program, without its folder.
    pub(super) fn command(&self) -> &str {
        let program = self.exec.command().first().map_or("", String::as_str);
        program.rsplit('/').next().unwrap_or(program)
    }

    /// The path of the control socket.
    pub(super) fn control(&self) -> Option<String> {
        let mut own = self.exec.own();
        let typed = own.find_map(|word| word.strip_prefix("--control").map(str::to_owned));
        match typed {
            Some(value) => value.strip_prefix('=').map(str::to_owned).or_else(|| own.next().map(str::to_owned)),
            None => self.variables.get("SOCKCAP_CONTROL").cloned(),
        }
    }
}
