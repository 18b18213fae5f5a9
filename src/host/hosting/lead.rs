//! Leads who comes to the room that it wants.

use bytes::Bytes;

use super::{Host, Place, Route};
use crate::host::bans::Ban;
use crate::host::clock::unix_time;
use crate::host::gateway::GatewayEvent;
use crate::host::session::{ConnectionId, Visitor};
use crate::host::task::Mail;
use crate::protocol::{ClientMessage, LeaveReason, Moment, Refusal};

impl Host {
    pub(super) fn lead(&mut self, event: GatewayEvent) {
        match event {
            GatewayEvent::Connected(connection, admission) => {
                let (player, visitor) = (admission.player, Visitor::from(admission));
                let thread = self.gateway.thread_of(connection).unwrap_or_default();
                self.foyer.connected(connection, visitor.clone());
                let full = self.routes.len() >= self.options.limits.sessions_max;
                self.routes.insert(connection, Route { visitor, thread, room: None, waits: None });
                let banned = || self.bans.of(player, unix_time()).map(Ban::refusal);
                let why = if self.draining { Some(self.farewell()) } else { full.then_some(Refusal::HostFull).or_else(banned) };
                why.into_iter().for_each(|why| self.foyer.turn_away(connection, LeaveReason::Left, &why));
            }
            GatewayEvent::Message(connection, message) | GatewayEvent::Packet(connection, message) => {
                let Some(route) = self.routes.get(&connection) else { return };
                match route.room.as_ref().and_then(|(room, _)| self.places.get(room)) {
                    Some(place) => place.berth.send(Mail::Message(connection, message)),
                    None => self.knock(connection, message),
                }
            }
            GatewayEvent::Disconnected(connection, how) => self.gone(connection, how.into()),
        }
    }

    fn gone(&mut self, connection: ConnectionId, reason: LeaveReason) {
        let Some(route) = self.routes.remove(&connection) else { return };
        let room = route.room.and_then(|(room, plays)| Some((self.places.get_mut(&room)?, plays)));
        match room {
            Some((place, plays)) => {
                place.visitors = place.visitors.saturating_sub(1);
                place.seats = place.seats.saturating_sub(usize::from(plays));
                place.berth.send(Mail::Disconnected(connection, reason));
            }
            None => self.foyer.disconnected(connection, reason),
        }
    }

    /// Somebody who is in no room says something: which one it wants, if all is well.
    pub(super) fn knock(&mut self, connection: ConnectionId, message: Bytes) {
        let Some(route) = self.routes.get(&connection).filter(|route| route.waits.is_none()) else { return };
        let wanted = match ClientMessage::decode(&message) {
            Ok(ClientMessage::Hello { room, spectate, .. }) if !self.foyer.is_closing(connection) => Some((room, !spectate)),
            _ => None,
        };
        let Some((asked, plays)) = wanted else { return self.foyer.message(connection, &message) };
        // Who may come into a room may look back at it.
        let moment = Moment::parse(&asked).filter(|_| !self.places.contains_key(&asked)).map(|moment| moment.room);
        let wanted = route.visitor.room.as_deref().or(moment).unwrap_or(&asked).to_owned();
        let room = match self.find(&wanted) {
            Ok(room) => room,
            Err(why) => return self.foyer.turn_away(connection, LeaveReason::Left, &why),
        };
        let Some(route) = self.routes.get_mut(&connection) else { return };
        let Some(place) = self.places.get_mut(&room).filter(|place| place.ending.is_none()) else {
            // It ends, and will be woken; or the directory is asked for it.
            route.waits = Some((room, message));
            return;
        };
        place.visitors += 1;
        place.seats += usize::from(plays);
        let mut visitor = route.visitor.clone();
        if room != wanted {
            visitor.room = Some(room.clone());
        }
        place.berth.send(Mail::Connected(connection, visitor, route.thread));
        place.berth.send(Mail::Message(connection, message));
        route.room = Some((room, plays));
        self.foyer.disconnected(connection, LeaveReason::Left);
    }

    /// Those who wait for a room, with their hellos.
    pub(super) fn take_waiting(&mut self, name: &str) -> Vec<(ConnectionId, Bytes)> {
        let waiting = self.routes.iter_mut().filter(|(_, route)| route.waits.as_ref().is_some_and(|(room, _)| room == name));
        waiting.filter_map(|(connection, route)| Some((*connection, route.waits.take()?.1))).collect()
    }

    /// The name of the room that is meant. It is opened if it can be; where rooms are shared with other hosts, the directory is asked first.
    fn find(&mut self, wanted: &str) -> Result<String, Refusal> {
        if self.places.contains_key(wanted) {
            return Ok(wanted.to_owned());
        }
        let is_any = wanted.ends_with("/*");
        if self.sharing.is_some() && !is_any {
            return self.ask_where(wanted).map(|()| wanted.to_owned());
        }
        let no_room = || Refusal::NoSuchRoom(wanted.to_owned());
        if let Some(template) = self.resting.get(wanted).map(|resting| resting.template.clone()) {
            return self.open_for(wanted, &template);
        }
        let (template, name) = wanted.split_once('/').ok_or_else(no_room)?;
        let found = self.templates.get(template).ok_or_else(no_room)?;
        if name == "*" {
            let limits = &self.options.limits;
            // Seats that are kept for those whose connections broke are not free.
            let taken = |place: &Place| place.seats + place.berth.away();
            let is_free =
                |place: &Place| place.template_name == template && place.ending.is_none() && taken(place) < place.seats_max(limits);
            // The fullest one, so that people meet.
            let free = self.places.iter().filter(|(_, place)| is_free(place)).max_by_key(|(_, place)| place.seats);
            if let Some((room, _)) = free {
                return Ok(room.clone());
            }
        }
        if !found.on_demand || name.is_empty() {
            return Err(no_room());
        }
        let template = template.to_owned();
        let room = match name {
            "*" => self.fresh_name(&template),
            _ => wanted.to_owned(),
        };
        if self.sharing.is_some() {
            return self.ask_where(&room).map(|()| room);
        }
        self.open_for(&room, &template)
    }

    /// A name that no room of a template has: where rooms are shared, none on this host, by whose name it goes.
    fn fresh_name(&self, template: &str) -> String {
        let host = self.sharing.as_ref().map_or_else(String::new, |sharing| format!("{}-", sharing.host));
        (1..).map(|nth: u64| format!("{template}/{host}{nth}")).find(|room| !self.is_taken(room)).unwrap_or_default()
    }

    fn is_taken(&self, room: &str) -> bool {
        let is_asked = self.sharing.as_ref().is_some_and(|sharing| sharing.asked.contains(room));
        // One that failed, or was closed, is not gone on with by who wants any.
        let is_kept = self.keeper.as_ref().is_some_and(|keeper| keeper.has_had(room));
        self.places.contains_key(room) || self.resting.contains_key(room) || is_asked || is_kept
    }

    fn open_for(&mut self, room: &str, template: &str) -> Result<String, Refusal> {
        if self.places.len() >= self.options.limits.rooms_max {
            return Err(Refusal::HostFull);
        }
        match self.open(room, template) {
            Ok(()) => Ok(room.to_owned()),
            Err(error) => {
                tracing::error!(room, %error, "a room can't be opened");
                Err(Refusal::RoomClosed("it can't be opened".to_owned()))
            }
        }
    }
}
