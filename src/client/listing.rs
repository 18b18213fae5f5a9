//! Which rooms a host has: asked before one of them is joined.

use bevy_ecs::prelude::*;

use super::apply::ApplyError;
use super::connection::Connection;
use super::state::ConnectionState;
use crate::protocol::limits::NAME_BYTES_MAX;
use crate::protocol::{ClientMessage, RoomList};

/// A host has told which rooms it has: the answer to the last [question](Connection::list_rooms).
///
/// It tells of those rooms alone that its operator lets it; names serve as codes. To who comes by a token for one room it tells of no other.
#[derive(Event, Clone, Debug, PartialEq, Eq)]
pub struct RoomsListed {
    /// The rooms, by name, and what was asked for.
    pub list: RoomList,
}

/// What is asked of a host before one of its rooms is joined.
#[derive(Debug, Default)]
pub(super) struct Browsing {
    /// What comes now comes over the way by which the room will be joined.
    pub(super) is_open: bool,
    /// What the names are to begin with of which no answer came yet.
    asked: Option<String>,
}

impl Connection {
    /// Asks the host which rooms it has whose names begin with `prefix`; nothing for all. The answer is told as [`RoomsListed`], perhaps half a second later: a
    /// host answers a client no more often. Of several questions that wait only the last one is answered; to ask the same again costs nothing. For a list on
    /// the screen that stays up to date, ask again with each answer, or once in a second.
    ///
    /// Only who is in no room, and not on the way into one, is told: over UDP, by a transport that [browses](super::UdpTransport::browse). What was not
    /// answered before a room is joined is not answered any more. Who has left, was refused, or lost its host asks over the next way: by the next transport that browses. False if it can't be asked, or the prefix is longer than a name.
    pub fn list_rooms(&mut self, prefix: &str) -> bool {
        let is_free = matches!(self.state, ConnectionState::Idle | ConnectionState::Connecting) || self.state.is_over();
        if !is_free || prefix.len() > NAME_BYTES_MAX {
            return false;
        }
        let is_asked = self.browsing.asked.as_deref() == Some(prefix);
        self.browsing.asked = Some(prefix.to_owned());
        match self.browsing.is_open {
            // Its goodbye may not have gone out yet, or it was refused, or the way broke: it is asked over the next way.
            _ if !self.listens() => {}
            false => self.browse(),
            true if is_asked => {}
            true => self.ask_for_rooms(),
        }
        true
    }

    /// Begins to speak with a host of which no room is joined yet. What came and what was to be said over another way is forgotten, but for the last question.
    pub(super) fn browse(&mut self) {
        self.inflow = Default::default();
        self.incoming.clear();
        self.outgoing.clear();
        (self.browsing.is_open, self.left) = (true, false);
        self.ask_for_rooms();
    }

    fn ask_for_rooms(&mut self) {
        if let Some(prefix) = self.browsing.asked.clone() {
            self.outgoing.push_back(ClientMessage::ListRooms { prefix }.encode());
        }
    }

    /// What somebody begins with who joins a room: with nothing, or over a way by which the host was asked before, of which what comes next is the next.
    pub(super) fn carried(&mut self) -> Self {
        let mut next = Self::default();
        if self.browsing.is_open && self.listens() {
            next.inflow = std::mem::take(&mut self.inflow);
            next.incoming = std::mem::take(&mut self.incoming);
            next.outgoing = std::mem::take(&mut self.outgoing);
        }
        next
    }
}

/// The host tells its rooms. What nobody waits for is not told on.
pub(super) fn take_rooms(world: &mut World, list: RoomList) -> Result<(), ApplyError> {
    let asked = &mut world.resource_mut::<Connection>().browsing.asked;
    if asked.as_ref() == Some(&list.prefix) {
        *asked = None;
        world.trigger(RoomsListed { list });
    }
    Ok(())
}
