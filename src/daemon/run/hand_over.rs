//! From one daemon to the next, so that a restart, an upgrade or a crash cuts nobody and the caps stay exact.
//!
//! Commands simply go on (`KillMode=process`). Which of them run is in the ledger at any time, and the manager's store
//! (sd_notify(3), FDSTORE=1) has that from the start on, so nothing is sent to the manager while connections are served. Without a store
//! the next daemon looks for commands in its cgroup. At an orderly hand-over the waiting clients go into the store, too.
#![forbid(unsafe_code)]

use super::Daemon;
use crate::child::ledger::{Place, SavedState, listener_key};
use crate::child::survivors::{self, Survivor};
use crate::daemon::state::{self, HandedOver, Inventory, Numbers};
use crate::listen::accept::Connection;
use crate::listen::adopt::{self, Preamble, StoredClient};
use crate::listen::waiting::Held;
use crate::observe::event::Event;
use crate::policy::arrival::ListenerId;
use crate::policy::queue::Ticket;
use crate::policy::source::Source;
use crate::sys::plain;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// Whether the manager may have a store for us. Since systemd 254 it says so (`FDSTORE`, systemd.exec(5)), and such a one is known
/// by another variable that it sets; asked in vain it would complain in the journal at each start.
fn may_have_store() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some();
    is_set("FDSTORE") || !is_set("MEMORY_PRESSURE_WATCH")
}

impl Daemon {
    /// Counts what an earlier daemon has left running, and gives its waiting clients their places again.
    pub(super) fn take_over(&mut self, now: Instant, handed_over: HandedOver) {
        let HandedOver { held: stored, state, unknown } = handed_over;
        self.let_go(now, unknown);
        let past = self.open_ledger(now, state);
        if let Some(error) = self.commands.blindness() {
            let is_recorded = past.as_ref().is_some_and(|past| past.is_complete);
            self.report.log(Event::NotFound { error: plain(error), is_recorded });
        }
        let none = || Numbers::new(self.listeners.len());
        let numbers = past.as_ref().map_or_else(none, |past| state::read(past, self.labels()));
        self.commands.go_on_from(numbers.next_id);
        self.waiting.go_on_from(numbers.next_ticket);
        let recorded = past.as_ref().map(|past| past.commands.as_slice()).unwrap_or_default();
        self.commands.take_over_cgroups(now);
        let mut inventory = Inventory::new(self.listeners.len());
        for command in recorded {
            let (key, place) = (command.entry.listener, command.place);
            let somebody = || survivors::of_connection(command, self.commands.somebody_of(command.entry.id)?);
            match survivors::recorded(command).or_else(somebody) {
                Some(found) => {
                    let listener = self.count(now, found, command.entry.id, key, Some(place));
                    inventory.count(listener, |remains| remains.running += 1);
                }
                None => {
                    inventory.count(self.listener_of(key), |remains| remains.ended += 1);
                    self.commands.has_ended(place);
                }
            }
        }
        let mut unknown = 0;
        // What was written down is all there is, whatever else looks like a command.
        if past.as_ref().is_none_or(|past| !past.is_complete) {
            for found in self.look_for_survivors() {
                if self.is_counted(&found) {
                    continue;
                }
                let (found, id) = self.identify(found);
                let listener = found.mark.as_ref().map(|mark| listener_key(&mark.listener));
                unknown += usize::from(id.is_none());
                let listener = self.count(now, found, id, listener, None);
                inventory.count(listener, |remains| remains.running += 1);
            }
        }
        if past.as_ref().is_none_or(|past| !past.is_complete) {
            // Whose command has ended, and who is counted all the same.
            for (id, somebody) in self.commands.unadopted() {
                let Some(found) = survivors::anybody(somebody) else { continue };
                let listener = self.count(now, found, Some(id), None, None);
                inventory.count(listener, |remains| remains.running += 1);
            }
        }
        for client in &stored {
            let listener = self.listener_of(Some(client.listener)).unwrap_or(0);
            inventory.count(Some(listener), |remains| remains.waiting += 1);
        }
        self.report.go_on_from(inventory.books(&numbers));
        self.note_numbers();
        let (running, held) = (inventory.total.running as usize, stored.len());
        stored.into_iter().for_each(|stored| self.take_back(now, stored));
        self.settle(now);
        if running + held > 0 {
            let prefixes = self.report.shown_prefix();
            let sources = prefixes.map_or_else(Vec::new, |prefixes| self.gate.most(prefixes, 3));
            self.report.log(Event::TakenOver { running, unknown, held, sources });
        }
    }

    /// Takes out of the manager's store what this version does not know: what was a client would wait there for ever.
    fn let_go(&mut self, now: Instant, unknown: Vec<String>) {
        unknown.iter().for_each(|name| self.manager.forget(now, name));
        let count = unknown.len() as u64;
        if let Some(first) = unknown.into_iter().next() {
            self.report.log(Event::NotKnown { count, first });
        }
    }

    /// Goes on with the ledger of an earlier daemon, if it has left one that can be believed, or begins another.
    fn open_ledger(&mut self, now: Instant, state: Option<OwnedFd>) -> Option<SavedState> {
        let was_stored = state.is_some();
        if let Some(past) = state.and_then(|state| self.commands.reopen_ledger(state)) {
            self.manager.is_stored = Some(true);
            state::name(self.commands.ledger(), self.labels());
            return Some(past);
        }
        if was_stored {
            self.manager.forget(now, adopt::STATE);
            self.report.log(Event::NotRead);
        }
        if self.manager.is_enabled() && may_have_store() {
            self.commands.begin_ledger(self.settings.max_connections as usize);
            state::name(self.commands.ledger(), self.labels());
            self.manager.is_stored = Some(false);
            let _ = self.store_ledger(now); // tried again until it is there
        }
        None
    }

    /// Has the manager store the ledger, if it has not yet. Waits for the manager, but not beyond `until`.
    pub(super) fn store_ledger(&mut self, until: Instant) -> io::Result<()> {
        if self.manager.is_stored == Some(false) {
            self.manager.store(adopt::STATE, self.commands.ledger().fd()?, until)?;
            self.manager.is_stored = Some(true);
        }
        Ok(())
    }

    /// What looks like a command of an earlier daemon and has no entry in the ledger.
    fn look_for_survivors(&mut self) -> Vec<Survivor> {
        self.commands.look_for_survivors().unwrap_or_else(|error| {
            self.report.log(Event::NotFound { error: plain(&error), is_recorded: false });
            Vec::new()
        })
    }

    /// Whether another process in the cgroup of this one is counted for their connection already.
    fn is_counted(&self, found: &Survivor) -> bool {
        self.commands.connection_of(found.process.pid()).is_some_and(|id| self.commands.has_adopted(id))
    }

    /// The connection of a process. The name of its cgroup says it, and then its environment has to say the same to be believed.
    fn identify(&self, found: Survivor) -> (Survivor, Option<u64>) {
        let said = found.mark.as_ref().map(|mark| mark.id);
        match self.commands.connection_of(found.process.pid()) {
            Some(id) if said == Some(id) => (found, Some(id)),
            Some(id) => (Survivor { mark: None, source: Source::Unknown, peer_port: 0, ..found }, Some(id)),
            None => (found, said),
        }
    }

    fn labels(&self) -> impl Iterator<Item = &str> {
        self.listeners.iter().map(|listener| listener.label.as_str())
    }

    /// The listener that has this key, if it is known.
    fn listener_of(&self, key: Option<u64>) -> Option<ListenerId> {
        self.listeners.labelled(|label| Some(listener_key(label)) == key)
    }

    /// Counts a command that an earlier daemon has started. Returns its listener, if it is known.
    fn count(
        &mut self,
        now: Instant,
        found: Survivor,
        id: Option<u64>,
        key: Option<u64>,
        place: Option<Place>,
    ) -> Option<ListenerId> {
        let listener = self.listener_of(key);
        let slot = self.gate.adopt(now, listener, found.source, &mut self.actions);
        self.commands.adopt(now, (found, slot), id, key, place, &self.poll);
        listener
    }

    /// A client that waited when the earlier daemon ended.
    fn take_back(&mut self, now: Instant, stored: StoredClient) {
        let StoredClient { name, ticket, waited_usec, listener, preamble, fd } = stored;
        // The manager's copy would keep the connection open after the command's end.
        self.manager.forget(now, &name);
        let listener = self.listener_of(Some(listener)).unwrap_or(0);
        self.waiting.go_on_from(ticket.saturating_add(1));
        match Connection::restored(fd, listener, waited_usec) {
            Err(_) => self.report.gone(listener, Some(waited_usec)),
            Ok(connection) => match preamble {
                Preamble::None => self.come_back(now, ticket, connection),
                Preamble::Whole => self.take_back_headed(now, ticket, connection),
                Preamble::Awaited => self.go_on_awaiting(now, ticket, connection),
            },
        }
    }

    /// It has its old place again.
    pub(super) fn come_back(&mut self, now: Instant, ticket: Ticket, connection: Connection) {
        let who = self.arrival(now, ticket, &connection);
        let verdict = self.gate.come_back(now, who, &mut self.actions);
        self.carry_out_verdict(now, who, connection, verdict);
    }

    /// Whether the manager will start another daemon with what this one leaves: it has to be the one that passed all sockets.
    pub(super) fn can_hand_over(&self) -> bool {
        self.manager.is_enabled() && self.listeners.iter().all(|listener| !listener.opened_here)
    }

    /// Leaves everything to the next daemon, as far as the manager takes it by then. Returns how many clients are held there.
    pub(super) fn leave_behind(&mut self, now: Instant, until: Instant) -> usize {
        self.commands.sweep();
        self.settle(now);
        self.note_numbers();
        let held = self.clients_to_store(now);
        // Without the ledger the next daemon still serves who waits, and counts from there.
        let mut trouble = self.store_ledger(until).err();
        let mut lost = 0;
        for (name, connection) in &held {
            let stored = match may_have_store() {
                true => self.manager.store(name, connection.fd.as_fd(), until),
                // What is sent to a store that is not there is dropped without a word.
                false => Err(io::Error::other("the service has no FileDescriptorStoreMax=")),
            };
            if let Err(error) = stored {
                lost += 1;
                trouble.get_or_insert(error);
                // As the next daemon counts those that it does not find.
                self.report.gone(connection.listener, connection.waited_usec);
            }
        }
        if let Some(error) = trouble {
            self.report.log(Event::NotStored { held: lost, error: plain(&error) });
        }
        held.len() - lost
    }

    /// Who is held and whose header is awaited, each with the name that it is stored under.
    fn clients_to_store(&mut self, now: Instant) -> Vec<(String, Connection)> {
        let held = self.waiting.take_all().into_iter().map(|Held { who, connection }| {
            let headed = if connection.is_headed() { adopt::HEADED } else { "" };
            (who.ticket, who.since, connection, headed)
        });
        let awaited = self.waiting.preambles.take_all(now, &self.poll).into_iter();
        let awaited = awaited.map(|(ticket, connection)| (ticket, connection.since(now), connection, adopt::AWAITED));
        let named = |(ticket, since, connection, headed): (Ticket, Instant, Connection, &str)| {
            let waited = now.saturating_duration_since(since).as_micros();
            let listener = listener_key(&self.listeners[connection.listener].label);
            (format!("{}{ticket}-{waited}-{listener}{headed}", adopt::HELD), connection)
        };
        held.chain(awaited).map(named).collect()
    }

    /// Writes our own numbers to the ledger.
    pub(super) fn note_numbers(&mut self) {
        let (next_id, next_ticket) = (self.commands.next_id(), self.waiting.next_ticket());
        state::note(self.commands.ledger(), next_id, next_ticket, self.report.books());
    }
}
