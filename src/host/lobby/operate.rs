//! What an operator does to a lobby and its rooms, and sees of them.

use super::{HostedRoom, Lobby};
use crate::host::session::{ConnectionId, Stage};
use crate::protocol::{EntityId, LeaveReason, Protocol, Refusal, RoomTick, ServerMessage, Speed, State};
use crate::room::{Beholder, Incoming, ToldReferences};

impl Lobby {
    /// Lets a room have fewer members and spectators than [`HostLimits::members_per_room_max`](crate::host::HostLimits::members_per_room_max). Those who are in it stay.
    pub fn set_capacity(&mut self, name: &str, members_max: usize) {
        if let Some(hosted) = self.rooms.get_mut(name) {
            hosted.capacity = members_max.min(self.limits.members_per_room_max);
        }
    }

    /// Lets who is in no room yet know of a room, by its name and how full it is, or no longer. By default nobody is told: names serve as codes.
    pub fn set_listed(&mut self, name: &str, is_listed: bool) {
        self.rooms.get_mut(name).into_iter().for_each(|hosted| hosted.is_listed = is_listed);
    }

    /// Tells those who are in a room, and those who come, how fast it goes from now on. Whoever ticks it does so accordingly.
    pub fn set_speed(&mut self, name: &str, speed: Speed) {
        let Some(hosted) = self.rooms.get_mut(name).filter(|hosted| hosted.speed != speed) else { return };
        hosted.speed = speed;
        let message = ServerMessage::Speed(speed).encode().unwrap_or_default();
        for session in self.sessions.values_mut().filter(|session| session.room.as_deref() == Some(name)) {
            session.push(message.clone());
        }
    }

    /// What the replica of somebody who is in a room holds once it has all that it was told: the room's state, or where something is not for
    /// everybody what this one may know. Costs a snapshot; for tests and tools.
    pub fn state_for(&mut self, connection: ConnectionId) -> Option<State> {
        let session = self.sessions.get(&connection)?;
        let hosted = self.rooms.get_mut(session.room.as_ref()?)?;
        let (id, tick) = (hosted.room.info().id, hosted.room.tick_now());
        let snapshot = match session.viewer.filter(|_| hosted.room.is_secretive()) {
            None => hosted.room.snapshot().ok()?,
            Some(viewer) => {
                let (beholder, writer) = (Beholder { viewers: &hosted.viewers, viewer }, &mut hosted.writer);
                hosted.room.with_world(|world| writer.write_snapshot(world, tick, beholder, &mut ToldReferences::new())).ok()?
            }
        };
        State::from_snapshot(hosted.room.world().resource::<Protocol>(), id, &snapshot).ok()
    }

    /// The connection of a user who is in a room.
    pub fn connection_of(&self, room: &str, user: EntityId) -> Option<ConnectionId> {
        self.rooms.get(room)?.users.get(&user).copied()
    }

    /// Closes all rooms, and lets nobody in any more: who is here, and who comes later, is told that the host shuts down.
    pub fn shut_down(&mut self) {
        self.shutting_down = true;
        let names: Vec<String> = self.rooms.keys().cloned().collect();
        names.iter().for_each(|name| self.close_room(name, &Refusal::ShuttingDown));
        let others: Vec<ConnectionId> =
            self.sessions.iter().filter(|(_, session)| session.stage != Stage::Closing).map(|(connection, _)| *connection).collect();
        others.iter().for_each(|connection| self.refuse(*connection, &Refusal::ShuttingDown));
    }

    /// The tick of a room, how many members and spectators it has, and for how many users it waits.
    pub(crate) fn standing_of(&self, name: &str) -> (RoomTick, usize, usize) {
        let standing = |hosted: &HostedRoom| (hosted.room.tick_now(), hosted.members.len(), hosted.vacant.len());
        self.rooms.get(name).map(standing).unwrap_or_default()
    }

    /// Whether who comes again takes its own place over.
    pub(crate) fn takes_over(&self) -> bool {
        self.takeover
    }

    /// True if a connection may say which room it wants: it is here, and not about to be closed.
    pub(crate) fn may_ask(&self, connection: ConnectionId) -> bool {
        self.sessions.get(&connection).is_some_and(|session| session.stage != Stage::Closing)
    }

    /// True if anybody is connected.
    pub fn has_sessions(&self) -> bool {
        !self.sessions.is_empty()
    }

    /// What waits for a room's next tick.
    pub(crate) fn waiting(&self, name: &str) -> &[Incoming] {
        self.rooms.get(name).map(|hosted| hosted.inbox.as_slice()).unwrap_or_default()
    }

    /// Puts a user out of a room, and says why. False if it is not there.
    pub fn kick(&mut self, name: &str, user: EntityId, why: &str) -> bool {
        let Some(hosted) = self.rooms.get_mut(name) else { return false };
        if hosted.vacant.remove(&user).is_some() {
            // It is away: its seat is kept no longer, and if it comes back it asks like anybody else.
            hosted.inbox.push(Incoming::Leave { user, reason: LeaveReason::Kicked });
            self.counters.kicked += 1;
            return true;
        }
        let found = hosted.users.get(&user).copied();
        if let Some(connection) = found {
            self.counters.kicked += 1;
            self.turn_away(connection, LeaveReason::Kicked, &Refusal::Kicked(why.to_owned()));
        }
        found.is_some()
    }

    /// Takes all out that are still here, and tells them why: those who watch the past of a room that is gone.
    pub(crate) fn turn_all_away(&mut self, why: &Refusal) {
        let still_here = self.sessions.iter().filter(|(_, session)| session.stage != Stage::Closing);
        let still_here: Vec<ConnectionId> = still_here.map(|(connection, _)| *connection).collect();
        still_here.into_iter().for_each(|connection| self.turn_away(connection, LeaveReason::Kicked, why));
    }

    /// Takes a connection out of its room, tells it why, and closes it when that is sent.
    pub fn turn_away(&mut self, connection: ConnectionId, reason: LeaveReason, why: &Refusal) {
        self.detach(connection, reason);
        self.refuse(connection, why);
    }
}
