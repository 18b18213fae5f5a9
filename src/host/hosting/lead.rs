//! Leads who comes to the room that it wants.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::{Host, Part, Place, Route, Wait};
use crate::host::bans::Ban;
use crate::host::berth::Mail;
use crate::host::clock::unix_time;
use crate::host::gateway::GatewayEvent;
use crate::host::session::{ConnectionId, Visitor};
use crate::protocol::limits::NAME_BYTES_MAX;
use crate::protocol::{ClientMessage, EntityId, LeaveReason, Moment, REPORT, Refusal};

/// For how long nobody tries a room again that could not be opened. Whoever asks would have it read and built once more, while others wait for theirs.
const UNOPENED_FOR: Duration = Duration::from_secs(5);

/// How many digits a fresh room's number may have beside the host's name.
const NUMBER_BYTES: usize = 10;

impl Host {
    /// A name that a room can have: one that a client can ask for, and that does not ask for any room of a template.
    ///
    /// # Errors
    /// What is wanted instead.
    pub(crate) fn check_name(room: &str) -> Result<(), String> {
        let is_plain = !room.chars().any(char::is_control) && !room.ends_with("/*");
        let wanted = || format!("a name of 1 to {NAME_BYTES_MAX} bytes is wanted, without control characters, that does not end in \"/*\"");
        ((1..=NAME_BYTES_MAX).contains(&room.len()) && is_plain).then_some(()).ok_or_else(wanted)
    }

    pub(super) fn lead(&mut self, event: GatewayEvent) {
        match event {
            GatewayEvent::Connected(connection, admission) => {
                let (player, visitor) = (admission.player, Visitor::from(admission));
                let thread = self.gateway.thread_of(connection).unwrap_or_default();
                self.foyer.connected(connection, visitor.clone());
                let full = self.routes.len() >= self.options.limits.sessions_max;
                self.routes.insert(connection, Route { visitor, thread, room: None, waits: None });
                let why = full.then_some(Refusal::HostFull).filter(|_| !self.draining).or_else(|| {
                    // Who may want a room that goes on elsewhere in a while, and is still here, is asked which one it wants.
                    if self.hands_over() && !full { self.why_banned(player) } else { self.why_not_in(player) }
                });
                why.into_iter().for_each(|why| self.send_away(connection, &why));
            }
            GatewayEvent::Message(connection, message) => self.pass_on(connection, message, false),
            GatewayEvent::Packet(connection, message) => self.pass_on(connection, message, true),
            GatewayEvent::Disconnected(connection, how) => self.gone(connection, how.into()),
        }
    }

    fn pass_on(&mut self, connection: ConnectionId, message: Bytes, may_be_lost: bool) {
        let Some(route) = self.routes.get(&connection) else { return };
        let place = route.room.as_ref().and_then(|(room, _)| self.places.get(room));
        let Some(place) = place else { return self.knock(connection, message) };
        if !place.berth.deliver(connection, message) && !may_be_lost {
            // Of what has an order nothing may be left out.
            self.outlet.close(route.thread, connection);
        }
    }

    /// Why nobody is let in any more, or this player is not.
    fn why_not_in(&self, player: EntityId) -> Option<Refusal> {
        if self.draining {
            return Some(self.farewell());
        }
        self.why_banned(player)
    }

    fn why_banned(&self, player: EntityId) -> Option<Refusal> {
        self.bans.of(player, unix_time()).map(Ban::refusal)
    }

    /// True while this host stops, and another one will have its rooms.
    fn hands_over(&self) -> bool {
        self.draining && self.ousted.is_none() && self.sharing.as_ref().is_some_and(|sharing| sharing.peer().is_some())
    }

    /// True for a room that another host will have, and does not have yet: that one would send whoever wants it back to this one.
    fn is_still_here(&self, room: &str) -> bool {
        let is_open = self.places.get(room).is_some_and(|place| place.ending.is_none());
        is_open && self.hands_over() && self.sharing.as_ref().is_some_and(|sharing| !sharing.given.contains(room))
    }

    fn gone(&mut self, connection: ConnectionId, reason: LeaveReason) {
        let Some(route) = self.routes.remove(&connection) else { return };
        let room = route.room.and_then(|(room, part)| Some((self.places.get_mut(&room)?, part)));
        match room {
            Some((place, part)) => {
                place.count_out(part);
                place.berth.part(connection, reason);
                if part == Part::Plays && reason == LeaveReason::Timeout && self.options.limits.grace_ticks > 0 {
                    // Until the room has kept the seat, nobody who wants any room is to be led to it.
                    place.berth.expects_back();
                }
            }
            None => self.foyer.disconnected(connection, reason),
        }
    }

    /// Somebody who is in no room says something: which one it wants, if all is well.
    pub(super) fn knock(&mut self, connection: ConnectionId, message: Bytes) {
        let Some(route) = self.routes.get(&connection) else { return };
        if route.waits.is_some() {
            // It has said which one it wants. What has arrived of what it was told before counts all the same, and that it wants none any more.
            let leaves = matches!(ClientMessage::decode(&message), Ok(ClientMessage::Leave));
            if let Some(route) = self.routes.get_mut(&connection).filter(|_| leaves) {
                route.waits = None;
            }
            if leaves || message.first() == Some(&REPORT) {
                self.foyer.message(connection, &message);
            }
            return;
        }
        let wanted = match ClientMessage::decode(&message) {
            // Who was turned away may have said it before it heard so.
            Ok(ClientMessage::Hello { room, spectate, .. }) if self.foyer.may_ask(connection) => Some((room, spectate)),
            _ => None,
        };
        let Some((asked, spectates)) = wanted else { return self.foyer.message(connection, &message) };
        // Who may come into a room may look back at it.
        let moment = Moment::parse(&asked).filter(|_| !self.places.contains_key(&asked)).map(|moment| moment.room);
        let wanted = route.visitor.room.as_deref().or(moment).unwrap_or(&asked).to_owned();
        let player = route.visitor.player;
        let why = if self.is_still_here(&wanted) { self.why_banned(player) } else { self.why_not_in(player) };
        if let Some(why) = why {
            return self.send_away(connection, &why);
        }
        let room = match self.find(&wanted) {
            Ok(room) => room,
            Err(why) => return self.send_away(connection, &why),
        };
        let Some(route) = self.routes.get_mut(&connection) else { return };
        let Some(place) = self.places.get_mut(&room).filter(|place| place.ending.is_none()) else {
            // It ends, and will be woken; or it is about to be opened; or the directory is asked for it.
            let any = room != wanted;
            route.waits = Some(Wait { room, hello: message, any });
            self.foyer.waits(connection);
            return;
        };
        let part = match moment == Some(&*room) {
            _ if !spectates => Part::Plays,
            true => Part::LooksBack,
            false => Part::Watches,
        };
        place.count_in(part);
        let mut visitor = route.visitor.clone();
        if room != wanted {
            visitor.room = Some(room.clone());
        }
        // What it was told so far, and what is on its way, belongs to what it will be told: it may have asked which rooms there are.
        let way = self.foyer.hand_on(connection).map(Box::new);
        place.berth.send(Mail::Connected(connection, visitor, route.thread, way));
        place.berth.send(Mail::Message(connection, message));
        route.room = Some((room, part));
    }

    /// Lets somebody go who is in no room, and counts it as rooms do. Who can go on elsewhere was not refused.
    pub(super) fn send_away(&mut self, connection: ConnectionId, why: &Refusal) {
        let counters = &mut self.ended.counters;
        match why {
            Refusal::Elsewhere(_) => {}
            Refusal::HostFull => counters.refused_full += 1,
            _ => counters.refused += 1,
        }
        self.foyer.turn_away(connection, LeaveReason::Left, why);
    }

    /// Those who wait for a room.
    pub(super) fn take_waiting(&mut self, name: &str) -> Vec<(ConnectionId, Wait)> {
        let waiting = self.routes.iter_mut().filter(|(_, route)| route.waits.as_ref().is_some_and(|wait| wait.room == name));
        waiting.filter_map(|(connection, route)| Some((*connection, route.waits.take()?))).collect()
    }

    /// The name of the room that is meant. It is opened if it can be; where rooms are shared with other hosts, the directory is asked first.
    fn find(&mut self, wanted: &str) -> Result<String, Refusal> {
        if self.places.contains_key(wanted) {
            return Ok(wanted.to_owned());
        }
        if wanted.ends_with("/*") {
            return self.find_any(wanted);
        }
        if self.sharing.is_some() {
            self.check_put_off(wanted)?;
            let has_place = self.has_place_for(wanted);
            return self.ask_where(wanted, has_place).map(|()| wanted.to_owned());
        }
        if self.is_to_be_opened(wanted) {
            return Ok(wanted.to_owned());
        }
        let rests = self.resting.get(wanted).map(|resting| resting.template.clone());
        // Who asks for what can be no room's name is told so like anybody else, and not in the log.
        let template = rests.or_else(|| self.template_for_new(wanted)).ok_or_else(|| Refusal::NoSuchRoom(wanted.to_owned()))?;
        self.open_for(wanted, wanted, &template)
    }

    /// A room of a template with a free seat, one that is about to be opened, or a new one.
    fn find_any(&mut self, wanted: &str) -> Result<String, Refusal> {
        let no_room = || Refusal::NoSuchRoom(wanted.to_owned());
        let template = wanted.split_once('/').filter(|(_, name)| *name == "*").map(|(template, _)| template).ok_or_else(no_room)?;
        let found = self.templates.get(template).ok_or_else(no_room)?;
        let limits = &self.options.limits;
        let is_open = |place: &Place| place.template_name == template && place.ending.is_none();
        let now = self.scheduler.now();
        let is_free = |place: &Place| is_open(place) && place.taken() < place.seats_max(limits) && place.berth.takes_in(now);
        // The fullest one, so that people meet.
        let free = self.places.iter().filter(|(_, place)| is_free(place)).max_by_key(|(_, place)| place.seats);
        if let Some((room, _)) = free {
            return Ok(room.clone());
        }
        if let Some(room) = self.about_to_open(template, found.seats_max(limits)) {
            return Ok(room);
        }
        if !found.on_demand {
            let are_there = self.places.values().any(is_open);
            return Err(if are_there { Refusal::HostFull } else { no_room() });
        }
        self.check_put_off(wanted)?;
        if self.places.len() + self.opening() + self.fresh_asked() >= limits.rooms_max {
            return Err(Refusal::HostFull);
        }
        let room = self.fresh_name(template);
        if self.sharing.is_some() {
            return self.ask_where(&room, true).map(|()| room);
        }
        self.open_for(wanted, &room, template)
    }

    /// A room of a template that is about to be opened on this host, and for which fewer wait than it has seats: that takes a while, in which many may ask for
    /// any.
    fn about_to_open(&self, template: &str, seats: usize) -> Option<String> {
        let stem = self.stem(template);
        // Of what others may have by now nothing is known.
        let asked = self.sharing.iter().flat_map(|sharing| &sharing.asked).filter(|room| room.starts_with(&stem));
        let in_line = self.to_open.iter().filter(|to_open| to_open.template == template).map(|to_open| &to_open.room);
        let being_built = self.building.iter().filter(|(_, building)| building.template() == template).map(|(room, _)| room);
        let mut about_to_be = asked.chain(in_line).chain(being_built).peekable();
        about_to_be.peek()?;
        let mut waiting: BTreeMap<&str, usize> = BTreeMap::new();
        for wait in self.routes.values().filter_map(|route| route.waits.as_ref()) {
            *waiting.entry(&wait.room).or_default() += 1;
        }
        about_to_be.find(|room| waiting.get(room.as_str()).is_none_or(|waiting| *waiting < seats)).cloned()
    }

    /// How many rooms were asked for that will be opened here: fresh ones. Those that somebody named may be another host's, or nobody's.
    fn fresh_asked(&self) -> usize {
        let Some(sharing) = &self.sharing else { return 0 };
        let of_template = |template: &String| {
            let stem = self.stem(template);
            sharing.asked.range(stem.clone()..).take_while(|room| room.starts_with(&stem)).count()
        };
        self.templates.keys().map(of_template).sum()
    }

    /// What the names of a template's rooms begin with that are opened because somebody asks for any. Where rooms are shared, no other host has such,
    /// and none that ran under this one's name before: it has as much of the host's name as fits, and a number of this run.
    pub(super) fn stem(&self, template: &str) -> String {
        let Some(sharing) = &self.sharing else { return format!("{template}/") };
        let run = format!("{:08x}", sharing.run);
        let place = NAME_BYTES_MAX.saturating_sub(template.len() + run.len() + "/--".len() + NUMBER_BYTES);
        let host = sharing.host.get(..sharing.host.floor_char_boundary(place)).unwrap_or_default();
        format!("{template}/{host}-{run}-")
    }

    /// A name that no room of a template has.
    fn fresh_name(&mut self, template: &str) -> String {
        let (stem, last) = (self.stem(template), self.numbers.get(template).copied().unwrap_or(0));
        let number = (last + 1..).find(|number| !self.is_taken(&format!("{stem}{number}"))).unwrap_or(last);
        self.numbers.insert(template.to_owned(), number);
        format!("{stem}{number}")
    }

    fn is_taken(&self, room: &str) -> bool {
        let is_asked = self.sharing.as_ref().is_some_and(|sharing| sharing.asked.contains(room));
        // One that failed, or was closed, is not gone on with by who wants any.
        let is_kept = self.keeper.as_ref().is_some_and(|keeper| keeper.has_had(room));
        self.places.contains_key(room) || self.is_to_be_opened(room) || self.resting.contains_key(room) || is_asked || is_kept
    }

    /// Has a room opened for somebody who wants it, or any of its template, and who waits for it.
    fn open_for(&mut self, wanted: &str, room: &str, template: &str) -> Result<String, Refusal> {
        if !self.is_to_be_opened(room) {
            self.check_put_off(wanted)?;
            if self.is_full() {
                return Err(Refusal::HostFull);
            }
            self.put_in_line(room, template, room != wanted);
        }
        Ok(room.to_owned())
    }

    /// Notes that a room, or any of a template, could not be opened: for a while nobody tries it again.
    pub(super) fn put_off(&mut self, wanted: &str) {
        let now = self.scheduler.now();
        self.unopened.retain(|_, until| *until > now);
        if self.unopened.len() < self.options.limits.rooms_max {
            self.unopened.insert(wanted.to_owned(), now + UNOPENED_FOR);
        }
    }

    fn check_put_off(&self, wanted: &str) -> Result<(), Refusal> {
        let is_put_off = self.unopened.get(wanted).is_some_and(|until| self.scheduler.now() < *until);
        if is_put_off { Err(cant_be_opened()) } else { Ok(()) }
    }
}

/// What those hear who want a room that can't be opened.
pub(super) fn cant_be_opened() -> Refusal {
    Refusal::RoomClosed("it can't be opened".to_owned())
}
