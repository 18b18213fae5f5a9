//! A host among others: it asks who has a room, sends people on, takes over what a lost host had, and hands over what it has.

use std::collections::BTreeMap;

use super::lead::cant_be_opened;
use super::share::{Ask, Heard, Sharing};
use super::{Ending, Host, ShareOptions};
use crate::host::clerk::{Led, News};
use crate::host::server::ServerError;
use crate::protocol::Refusal;
use crate::room::RoomError;
use crate::store::{Directory, Load, Store, StoreError};

/// How many rooms a line of the log names.
const NAMED_MAX: usize = 8;

impl Host {
    /// Shares rooms with other hosts: from now on it opens only those that the directory says are its own, sends those who ask for another
    /// host's on to that one, and takes over the rooms of hosts that are gone. The store is to be one that they all have, written by the
    /// leases of this directory; `stored` reads it.
    ///
    /// # Errors
    /// If the system gives no thread, or no random number.
    pub fn share(
        &mut self,
        directory: Box<dyn Directory>,
        stored: Option<Box<dyn Store>>,
        options: &ShareOptions,
    ) -> Result<(), ServerError> {
        let failed = |error: std::io::Error| {
            let detail = format!("the system does not give what asking the directory takes: {error}");
            ServerError::Keep(StoreError::Unfit { place: "the directory of rooms".to_owned(), detail }.into())
        };
        // Rooms are shared once, before any is open.
        let _ = self.weather.leases.set(directory.leases());
        self.sharing = Some(Sharing::start(directory, stored, options).map_err(failed)?);
        Ok(())
    }

    /// Opens a room once the directory has given it to this host.
    pub(super) fn open_shared(&mut self, room: &str, template: &str) -> Result<(), ServerError> {
        Self::check_name(room).map_err(|wanted| not_opened(room, wanted))?;
        // Once it is wanted by a template that is not there, nobody who asks for the room could have it opened.
        if !self.templates.contains_key(template) {
            return Err(no_template(room, template));
        }
        // Its place is its own until it has ended, and then nobody would open it. One that was lost is opened again by itself.
        if self.places.get(room).is_some_and(|place| place.ending.is_some_and(|ending| ending != Ending::Lost)) {
            return Err(not_opened(room, "it is just ending: try again once it has".to_owned()));
        }
        self.wanted.insert(room.to_owned(), template.to_owned());
        self.ask_where(room, true).map_err(|_| not_opened(room, "the directory has too much to do".to_owned()))
    }

    /// Asks the directory where a room is. Those who wait for it hear of it later. Without a place for it this host does not take it.
    pub(super) fn ask_where(&mut self, room: &str, has_place: bool) -> Result<(), Refusal> {
        let may_create = self.template_for_new(room).is_some();
        let asked = self.sharing.as_mut().is_some_and(|sharing| sharing.lead(room, may_create, has_place));
        asked.then_some(()).ok_or(Refusal::HostFull)
    }

    /// True if one room more could be opened, or this one is this host's already. Otherwise it would be taken and given back for each who asks.
    pub(super) fn has_place_for(&self, room: &str) -> bool {
        !self.is_full() || self.sharing.as_ref().is_some_and(|sharing| sharing.holds(room))
    }

    /// The template of a room that may be created because somebody asks for it.
    pub(super) fn template_for_new(&self, room: &str) -> Option<String> {
        if let Some(template) = self.wanted.get(room) {
            return Some(template.clone());
        }
        let (template, name) = room.split_once('/')?;
        let is_name = !name.is_empty() && Self::check_name(room).is_ok();
        self.templates.get(template).filter(|found| found.on_demand && is_name).map(|_| template.to_owned())
    }

    /// The template by which a stored room is opened: what it is created from it knows itself. Where nothing tells which one it was made by, it is guessed,
    /// and noted that it was.
    pub(super) fn template_for_stored(&mut self, room: &str) -> Option<String> {
        let named = room.split_once('/').map(|(template, _)| template).filter(|template| self.templates.contains_key(*template));
        let known = self.template_for_new(room).or_else(|| named.map(str::to_owned));
        if known.is_some() {
            return known;
        }
        // One that is open has its own.
        if !self.places.contains_key(room) {
            self.guessed.insert(room.to_owned());
        }
        self.templates.keys().find(|template| *template == "default").or_else(|| self.templates.keys().next()).cloned()
    }

    pub(super) fn hear_the_directory(&mut self) {
        while let Some(heard) = self.sharing.as_mut().and_then(Sharing::next_news) {
            let news = match heard {
                Heard::News(news) => news,
                Heard::Ousted(there) => {
                    self.is_ousted(there.as_ref());
                    continue;
                }
            };
            match news {
                News::Led(room, Led::Here) => self.is_given(room),
                News::Led(room, Led::There(host)) => self.let_waiting_go(&room, &Refusal::Elsewhere(host)),
                News::Led(room, Led::Full) => self.let_waiting_go(&room, &Refusal::HostFull),
                News::Led(room, Led::Nowhere) => self.let_waiting_go(&room, &Refusal::NoSuchRoom(room.clone())),
                News::Led(room, Led::Unknown) => {
                    self.let_waiting_go(&room, &Refusal::RoomClosed("nobody can say where it is at the moment".to_owned()));
                }
                News::Taken(rooms) => {
                    tracing::warn!(?rooms, "their host is gone: this one takes them over");
                    rooms.into_iter().for_each(|room| self.is_given(room));
                }
                News::Lost(rooms) => self.lose(rooms),
                News::Released(room) => self.is_released(&room),
            }
        }
        if self.draining {
            self.open_no_more();
        } else {
            self.open_next();
        }
    }

    /// True if who opens this room would wait for the store.
    pub(super) fn waits_for_store(&self, room: &str) -> bool {
        self.keeper.as_ref().is_some_and(|keeper| keeper.why_not_again(room).is_some())
    }

    /// The directory gave this host a room.
    pub(super) fn is_given(&mut self, room: String) {
        // It may be given twice: because its host is gone, and because somebody asked for it. One that ends because it was lost is opened
        // again once it has.
        if let Some(place) = self.places.get(&room) {
            // By a lease that nobody knew to have run out yet: what is open stands still for good, and nothing more would be heard of it.
            if place.token != self.weather.leases.get().and_then(|leases| leases.token(&room)) {
                self.lose(vec![(room, None)]);
            }
            return;
        }
        if self.is_to_be_opened(&room) {
            return self.build_anew(&room);
        }
        if self.draining {
            return self.pass_up(&room);
        }
        match self.template_for_stored(&room) {
            Some(template) => self.put_in_line(&room, &template, room.starts_with(&self.stem(&template))),
            None => self.give_back(&room, "there is no template for it", &cant_be_opened()),
        }
    }

    /// A host that stops was given a room: another one may have it at once.
    pub(super) fn pass_up(&mut self, room: &str) {
        // Of one that it had before something may be left to write, which counts only as long as it has the lease.
        if !self.waits_for_store(room) {
            self.written(room);
        }
        let why = self.farewell();
        self.let_waiting_go(room, &why);
    }

    /// Gives back a room that can't be opened, if rooms are shared. Who waits for it is told why; who asked for any asks for another one.
    pub(super) fn give_back(&mut self, room: &str, why: &str, refusal: &Refusal) {
        if matches!(refusal, Refusal::HostFull) && !self.wanted.contains_key(room) {
            // Of more who ask at once than there are places for.
            tracing::debug!(room, why, "a room can't be opened");
        } else {
            tracing::error!(room, why, "a room can't be opened");
        }
        self.written(room);
        for (connection, wait) in self.take_waiting(room) {
            if wait.any {
                self.knock(connection, wait.hello);
            } else {
                self.send_away(connection, refusal);
            }
        }
    }

    pub(super) fn let_waiting_go(&mut self, room: &str, why: &Refusal) {
        for (connection, _) in self.take_waiting(room) {
            self.send_away(connection, why);
        }
    }

    /// Rooms are not this host's any more, and where they are.
    pub(super) fn lose(&mut self, rooms: Vec<(String, Option<String>)>) {
        let mut by_host: BTreeMap<Option<String>, Vec<String>> = BTreeMap::new();
        for (room, host) in rooms {
            if self.is_lost(&room, host.clone()) {
                by_host.entry(host).or_default().push(room);
            }
        }
        // A database that was gone for too long costs a host all that it has, at once.
        for (host, rooms) in by_host {
            match (rooms.as_slice(), host) {
                ([room], Some(host)) => tracing::error!(room, host, "another host has it now: nothing more of it counts here"),
                ([room], None) => tracing::error!(room, "its lease ran out: nothing more of it counts here"),
                (rooms, Some(host)) => {
                    let (count, rooms) = (rooms.len(), some_of(rooms));
                    tracing::error!(count, rooms, host, "another host has them now: nothing more of them counts here");
                }
                (rooms, None) => {
                    let (count, rooms) = (rooms.len(), some_of(rooms));
                    tracing::error!(count, rooms, "their leases ran out: nothing more of them counts here");
                }
            }
        }
    }

    /// The directory says so of a room, or the store that refuses what is written of it. True if it was open.
    fn is_lost(&mut self, room: &str, host: Option<String>) -> bool {
        if self.places.get(room).is_none_or(|place| place.ending == Some(Ending::Lost)) {
            // It may not have been opened yet.
            self.let_be(room, &gone_to(host));
            return false;
        }
        // Where nobody says who has it, those who were in it ask here again: it is known by then, or this host has it anew.
        let there = host.or_else(|| self.sharing.as_ref().and_then(Sharing::here));
        self.end(room, gone_to(there), Ending::Lost)
    }

    /// Another process has this host's name, and with it all that the directory gave to it; or so it looks, where the database has gone back to before this one
    /// took the name. What is open ends as it is: the store takes nothing more of it. Who is here is sent to that process, if it is known where that is.
    fn is_ousted(&mut self, there: Option<&String>) {
        let Some(name) = self.sharing.as_ref().map(|sharing| sharing.host.clone()) else { return };
        let why = format!(
            "another process has the name {name:?} by now, by which this server shared its rooms, or the database has gone back to an earlier \
             state: nothing more of the rooms counts here, and this server ends; start it again, and if another process is to go on under the \
             name, under a name that no other has"
        );
        tracing::error!(there, "{why}");
        (self.ousted, self.draining) = (Some(why), true);
        let open: Vec<String> = self.places.keys().cloned().collect();
        for room in open {
            self.end(&room, gone_to(there.cloned()), Ending::Lost);
        }
        self.open_no_more();
        self.let_strangers_go();
    }

    /// All that there is of a room is stored, or nothing of it is open: another host may have it.
    pub(super) fn written(&mut self, room: &str) {
        if let Some(sharing) = &mut self.sharing {
            sharing.ask(Ask::Release(room.to_owned()));
            if self.draining {
                sharing.given.insert(room.to_owned());
            }
        }
    }

    /// A room was given back: who is still in it is sent to where it can go on.
    fn is_released(&mut self, room: &str) {
        if self.draining {
            self.end(room, self.farewell(), Ending::Close);
        }
    }

    /// What those hear who are here, or come, while the host stops: where they can go on, if there is such a place.
    pub(super) fn farewell(&self) -> Refusal {
        self.sharing.as_ref().and_then(Sharing::peer).map_or(Refusal::ShuttingDown, Refusal::Elsewhere)
    }

    /// Tells the directory how full this host is; and lets its rooms stand still while its leases may have run out. True if they may have.
    pub(super) fn tell_the_directory(&self) -> bool {
        let Some(sharing) = &self.sharing else { return false };
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let limits = &self.options.limits;
        // A host that stops takes no more, nor does one whose store fails: others may fare better.
        let takes_none = self.draining || self.keeper.as_ref().is_some_and(|keeper| keeper.trouble().is_some());
        let (rooms_max, members_max) = (if takes_none { 0 } else { count(limits.rooms_max) }, count(limits.sessions_max));
        sharing.set_load(Load {
            rooms: count(self.places.len() + self.opening()),
            rooms_max,
            members: count(self.routes.len()),
            members_max,
        });
        sharing.has_lapsed()
    }
}

/// Why a room is not opened, in a sentence.
pub(super) fn not_opened(room: &str, why: String) -> ServerError {
    ServerError::Room { name: room.to_owned(), error: RoomError::Rules(vec![why]) }
}

pub(super) fn no_template(room: &str, template: &str) -> ServerError {
    not_opened(room, format!("there is no template {template:?}"))
}

/// Rooms by name, not all if they are many.
fn some_of(rooms: &[String]) -> String {
    let (named, others) = rooms.split_at_checked(NAMED_MAX).unwrap_or((rooms, &[]));
    let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
    named.join(", ") + &more
}

/// What those hear whose room another host has, as far as it is known which.
fn gone_to(host: Option<String>) -> Refusal {
    host.map_or_else(|| Refusal::RoomClosed("it went to another server".to_owned()), Refusal::Elsewhere)
}
