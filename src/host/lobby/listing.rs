//! Who is in no room yet asks which there are, and is told of those that are listed.
//!
//! What an answer costs is bounded, however often it is asked for: the list is made once in a while, by whoever has the rooms; an answer is encoded once for
//! all who ask for the same; and nobody is given another one before the last one is known to have arrived, and some time has passed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::{HostedRoom, Lobby};
use crate::host::session::{ConnectionId, Stage};
use crate::protocol::{Availability, ListedRoom, RoomList, ServerMessage, can_be_listed};

/// How old a list may be that somebody is told, where it is quickly made.
const LIST_EVERY: Duration = Duration::from_secs(1);

/// How many times longer a list counts at least than it took to make: of the time of whoever makes it, lists take a fiftieth at most.
const LIST_FOR_TIMES: u32 = 50;

/// How long a list counts at most: it may have taken long because the processor was busy with something else.
const LIST_FOR_MAX: Duration = Duration::from_secs(10);

/// How long lies between two answers to one connection at least.
const ANSWER_EVERY: Duration = Duration::from_millis(500);

/// Most answers that are kept encoded, each for another beginning of names.
const ANSWERS_MAX: usize = 64;

/// Which rooms there are, and who wants to know.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Those who asked and were not answered; some may be gone.
    curious: BTreeSet<ConnectionId>,
    /// The rooms, by name, as they were at a time.
    rooms: Vec<ListedRoom>,
    made: Option<Duration>,
    /// For how long they count from then on.
    holds: Duration,
    /// What is told, by what names begin with.
    answers: BTreeMap<String, Bytes>,
    /// Whoever leads people to rooms tells them, and not this lobby.
    by_host: bool,
}

impl Listing {
    /// The answer to who may know of all rooms.
    fn answer(&mut self, prefix: &str) -> Bytes {
        if let Some(answer) = self.answers.get(prefix) {
            return answer.clone();
        }
        let answer = encoded(prefix, &self.rooms);
        if self.answers.len() < ANSWERS_MAX {
            self.answers.insert(prefix.to_owned(), answer.clone());
        }
        answer
    }

    /// The answer to who may come into one room only, and learns of no other.
    fn answer_of(&self, room: &str, prefix: &str) -> Bytes {
        let found = self.rooms.binary_search_by(|listed| listed.name.as_str().cmp(room)).ok().and_then(|at| self.rooms.get(at));
        encoded(prefix, found.map(std::slice::from_ref).unwrap_or_default())
    }
}

fn encoded(prefix: &str, rooms: &[ListedRoom]) -> Bytes {
    ServerMessage::Rooms(RoomList::of(prefix, rooms)).encode().unwrap_or_default()
}

impl Lobby {
    /// Somebody who is in no room asks which there are. Of several questions that wait the last one is answered.
    pub(super) fn ask_for_rooms(&mut self, connection: ConnectionId, prefix: String) {
        if let Some(session) = self.sessions.get_mut(&connection) {
            session.asks_for = Some(prefix);
            self.listing.curious.insert(connection);
        }
    }

    /// Leaves it to the host to tell which rooms there are.
    pub(crate) fn leave_rooms_to_host(&mut self) {
        self.listing.by_host = true;
    }

    /// Those who are to be told now which rooms there are.
    fn due_for_rooms(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        let is_due = move |connection: &&ConnectionId| {
            self.sessions.get(connection).is_some_and(|session| {
                let has_waited = session.listed.is_none_or(|listed| self.now >= listed + ANSWER_EVERY);
                has_waited && session.delivery.is_there()
            })
        };
        self.listing.curious.iter().filter(is_due).copied()
    }

    /// True if somebody is to be told which rooms there are, and what is known of it is too old.
    pub(crate) fn wants_rooms(&self) -> bool {
        let is_old = self.listing.made.is_none_or(|made| self.now >= made + self.listing.holds);
        is_old && self.due_for_rooms().next().is_some()
    }

    /// Takes note of the rooms that there are, sorted by name, and of how long it took to find them.
    pub(crate) fn take_rooms(&mut self, rooms: Vec<ListedRoom>, took: Duration) {
        self.listing.rooms = rooms;
        self.listing.holds = took.saturating_mul(LIST_FOR_TIMES).clamp(LIST_EVERY, LIST_FOR_MAX);
        self.listing.made = Some(self.now);
        self.listing.answers.clear();
    }

    /// Tells those which rooms there are who asked, and for whom it is time.
    pub(crate) fn tell_rooms(&mut self) {
        if self.listing.curious.is_empty() {
            return;
        }
        let sessions = &self.sessions;
        // Who came into a room meanwhile, or is about to go, waits for nothing.
        self.listing.curious.retain(|connection| sessions.get(connection).is_some_and(|session| session.stage == Stage::Greeting));
        let due: Vec<ConnectionId> = self.due_for_rooms().collect();
        for connection in due {
            self.listing.curious.remove(&connection);
            let Some(session) = self.sessions.get_mut(&connection) else { continue };
            let Some(prefix) = session.asks_for.take() else { continue };
            let answer = match &session.visitor.room {
                Some(room) => self.listing.answer_of(room, &prefix),
                None => self.listing.answer(&prefix),
            };
            session.listed = Some(self.now);
            session.push(answer);
            self.restless = true;
        }
    }

    /// The same, where nobody else has the rooms.
    pub(super) fn tell_own_rooms(&mut self) {
        if self.listing.by_host || self.listing.curious.is_empty() {
            return;
        }
        if self.wants_rooms() {
            let listed = self.rooms.iter().filter(|(name, hosted)| hosted.is_listed && can_be_listed(name));
            let room = |(name, hosted): (&String, &HostedRoom)| {
                ListedRoom::new(name, (hosted.seats(&self.sessions), hosted.capacity), Availability::Open)
            };
            let rooms = listed.map(room).collect();
            self.take_rooms(rooms, Duration::ZERO);
        }
        self.tell_rooms();
    }
}
