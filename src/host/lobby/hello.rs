//! Who asks to come into a room, and whether there is a seat.

use std::collections::BTreeMap;

use super::{HostedRoom, Lobby};
use crate::host::delivery::Delivery;
use crate::host::session::{ConnectionId, Session, Visitor};
use crate::protocol::{EntityId, Fingerprint, LeaveReason, Moment, Refusal, Rejection, Resume, ServerMessage, Speed};
use crate::room::Incoming;

impl HostedRoom {
    /// How many of its seats are taken: by users, whether they are in already, about to come, or away; and by those who watch.
    pub(super) fn seats(&self, sessions: &BTreeMap<ConnectionId, Session>) -> usize {
        let now = self.room.tick_now();
        let watches = |connection: &&ConnectionId| sessions.get(connection).is_some_and(|session| session.spectator);
        self.users.len()
            + self.vacant.values().filter(|until| **until > now).count()
            + self.members.iter().chain(&self.arriving).filter(watches).count()
    }

    /// Whether a client speaks the room's protocol. One that does not hears the names of it, if there are no more than can be said.
    pub(super) fn check_protocol(&self, theirs: Fingerprint) -> Result<(), Refusal> {
        if self.fingerprint == theirs {
            return Ok(());
        }
        let told = ServerMessage::Refused(Refusal::ProtocolDiffers(self.description.clone()));
        match (told.encode(), told) {
            (Ok(_), ServerMessage::Refused(why)) => Err(why),
            _ => {
                let why = Rejection::new("protocol_differs").because("the server speaks another protocol, of very many names");
                Err(Refusal::Rejected(why))
            }
        }
    }

    /// Lets the room know that a user has another connection. Once a tick, however many it has had: a room that stands still may not tick for long.
    fn returned(&mut self, user: EntityId) {
        let is_known = self.inbox.iter().any(|item| matches!(item, Incoming::Return { user: other } if *other == user));
        if !is_known {
            self.inbox.push(Incoming::Return { user });
        }
    }
}

impl Lobby {
    /// Somebody connected; to whom another lobby may have told something already, over a way that this one goes on with.
    pub(crate) fn connected_by(&mut self, connection: ConnectionId, visitor: Visitor, way: Option<Delivery>) {
        // Who comes from another lobby was counted there.
        self.counters.connected += u64::from(way.is_none());
        let full = self.sessions.len() >= self.limits.sessions_max;
        let mut session = Session::new(visitor, self.now, self.limits.bytes_per_second_max);
        if let Some(way) = way {
            session.delivery = way;
            session.delivery.enter(self.now, f64::from(self.limits.bytes_per_second_max));
        }
        self.sessions.insert(connection, session);
        if self.shutting_down {
            self.counters.refused += 1;
            self.refuse(connection, &Refusal::ShuttingDown);
        } else if full {
            self.counters.refused_full += 1;
            self.refuse(connection, &Refusal::HostFull);
        }
    }

    /// Takes note that somebody has asked for a room that is not there yet.
    pub(crate) fn waits(&mut self, connection: ConnectionId) {
        if let Some(session) = self.sessions.get_mut(&connection) {
            session.since = self.now;
        }
    }

    /// Lets somebody go on to another lobby, with the way to it.
    pub(crate) fn hand_on(&mut self, connection: ConnectionId) -> Option<Delivery> {
        self.detach(connection, LeaveReason::Left);
        self.sessions.remove(&connection).map(|session| session.delivery)
    }

    fn check_way_in(&self, name: &str, fingerprint: Fingerprint, spectate: bool) -> Result<(), Refusal> {
        let hosted = self.rooms.get(name).ok_or_else(|| Refusal::NoSuchRoom(name.to_owned()))?;
        hosted.check_protocol(fingerprint)?;
        if spectate { Self::check_present(&self.limits, name) } else { Ok(()) }
    }

    /// Somebody says which room it wants.
    pub(super) fn hello(
        &mut self,
        connection: ConnectionId,
        fingerprint: Fingerprint,
        room: String,
        (spectate, resume): (bool, Option<Resume>),
    ) {
        let Some(session) = self.sessions.get(&connection) else { return };
        let (bound, user) = (session.visitor.room.clone(), session.visitor.player);
        // Who may come into a room may look back at it.
        let moment = Moment::parse(&room).filter(|moment| bound.as_ref().is_none_or(|bound| bound == moment.room));
        if let Some(moment) = moment.filter(|_| !self.rooms.contains_key(&room)) {
            return self.hello_past(connection, fingerprint, moment, spectate);
        }
        let name = bound.unwrap_or(room);
        if let Err(why) = self.check_way_in(&name, fingerprint, spectate) {
            self.counters.refused += 1;
            return self.refuse(connection, &why);
        }
        let Some(hosted) = self.rooms.get_mut(&name) else { return };
        let has_seat = !spectate
            && (hosted.vacant.get(&user).is_some_and(|until| *until > hosted.room.tick_now()) || hosted.users.contains_key(&user));
        if !has_seat && hosted.seats(&self.sessions) >= hosted.capacity {
            self.counters.refused_full += 1;
            return self.refuse(connection, &Refusal::Rejected(Rejection::new("room_full")));
        }
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        session.joins(name, (spectate, resume), self.now, self.limits.bytes_per_second_max);
        if hosted.speed != Speed::FULL {
            // Before all else: in a room that stands still nobody gets any further.
            session.push(ServerMessage::Speed(hosted.speed).encode().unwrap_or_default());
        }
        if spectate {
            hosted.arriving.push(connection);
            return;
        }
        match hosted.users.get(&user).copied() {
            // Its seat was kept: the room goes on with it.
            None if hosted.vacant.remove(&user).is_some() => {
                self.counters.returned += 1;
                hosted.users.insert(user, connection);
                hosted.returned(user);
                hosted.arriving.push(connection);
            }
            None => {
                hosted.users.insert(user, connection);
                hosted.asking.insert(user);
                hosted.inbox.push(Incoming::Join { user, name: session.visitor.name.clone() });
            }
            Some(_) if !self.takeover => {
                session.room = None;
                self.counters.refused += 1;
                self.refuse(connection, &Refusal::Rejected(Rejection::new("already_joined")));
            }
            Some(older) => {
                hosted.users.insert(user, connection);
                hosted.members.remove(&older);
                hosted.arriving.retain(|arriving| *arriving != older);
                // Of one who is not in yet the room's answer decides.
                if !hosted.asking.contains(&user) {
                    hosted.returned(user);
                    hosted.arriving.push(connection);
                }
                let viewer = self.sessions.get_mut(&older).and_then(|older| older.viewer.take());
                viewer.into_iter().for_each(|viewer| hosted.viewers.remove(viewer));
                self.refuse(older, &Refusal::Kicked("you joined from elsewhere".to_owned()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::host::limits::HostLimits;
    use crate::protocol::{ClientMessage, DescribedName};
    use crate::room::{Blueprint, RoomOptions};

    /// What somebody of another game is sent by a room whose protocol has so many names.
    fn refused_by(names: usize) -> Vec<u8> {
        let mut lobby = Lobby::new(HostLimits::default(), false);
        lobby.open_room(&Blueprint::new(|_| {}, |_| {}), RoomOptions::named("main")).unwrap();
        let name = |nth: usize| DescribedName { what: "fact".to_owned(), name: format!("{nth:064}"), shape: 7 };
        lobby.rooms.get_mut("main").unwrap().description.names = (0..names).map(name).collect();
        let stranger = ConnectionId(1);
        lobby.connected(stranger, Visitor { player: EntityId::named("ann"), name: "ann".to_owned(), room: None });
        let hello = ClientMessage::Hello { fingerprint: Fingerprint(1), room: "main".to_owned(), spectate: false, resume: None };
        lobby.message(stranger, &hello.encode());
        lobby.advance(Duration::from_secs(1));
        let mut said = Vec::new();
        lobby.pump(|_, own, shared| said.extend([own, shared].concat()));
        assert_eq!(lobby.counters().refused, 1);
        said
    }

    #[test]
    fn who_speaks_another_protocol_hears_so_however_many_names_it_has() {
        let tells = |said: &[u8], what: &[u8]| said.windows(what.len()).any(|window| window == what);
        let few = refused_by(3);
        assert!(tells(&few, format!("{:064}", 2).as_bytes()) && !tells(&few, b"protocol_differs"));
        assert!(tells(&refused_by(3_000), b"protocol_differs"));
    }
}
