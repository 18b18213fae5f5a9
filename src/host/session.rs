//! What the host knows of one connection.

use std::time::Duration;

use bytes::Bytes;

use super::delivery::Delivery;
use crate::protocol::{Admission, EntityId, Resume, RoomTick};
use crate::room::{ToldReferences, ViewerId};

/// How long after it connects somebody who knows where to asks for a room at most.
const DOORWAY_MAX: Duration = Duration::from_secs(1);

/// A connection, as its token numbers it, or a client that needs none. No two that stand have the same, and a thread of the gateway lets in by a token once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Who is at the other end, as the connect token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// The player. It becomes the id of its entity.
    pub player: EntityId,
    /// The name that others see.
    pub name: String,
    /// The room that the token is bound to.
    pub room: Option<String>,
}

impl From<Admission> for Visitor {
    fn from(admission: Admission) -> Self {
        Self { player: admission.player, name: admission.name, room: admission.room }
    }
}

/// Where a connection stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its hello is awaited.
    Greeting,
    /// It waits for the room's next tick, as a user or a spectator.
    Joining,
    /// It receives batches.
    Live,
    /// What is queued goes out, then it is closed.
    Closing,
}

/// What the host knows of one connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) visitor: Visitor,
    pub(crate) stage: Stage,
    /// When it came, or asked for a room that is not there yet.
    pub(crate) since: Duration,
    pub(crate) room: Option<String>,
    pub(crate) spectator: bool,
    /// What it still holds of the room, as it says.
    pub(crate) resume: Option<Resume>,
    /// The commands that came since the room's tick `commands_tick`.
    pub(crate) commands_waiting: usize,
    pub(crate) commands_tick: RoomTick,
    pub(crate) mistakes: u32,
    pub(crate) wants_snapshot: bool,
    pub(crate) last_snapshot_tick: u32,
    /// The ticks of the first and the last accepted command that is not known to be stored.
    pub(crate) unconfirmed: Option<RoomTick>,
    pub(crate) unconfirmed_last: Option<RoomTick>,
    /// Who it is among those who look into its room.
    pub(crate) viewer: Option<ViewerId>,
    /// What it was told of references to entities that are not for everybody.
    pub(crate) told: ToldReferences,
    /// What it is sent.
    pub(crate) delivery: Delivery,
    /// When it was last sent what is due.
    pub(crate) served: Duration,
    /// Since when it is to be closed.
    pub(crate) closing: Option<Duration>,
    /// What the names of the rooms are to begin with that it asks for, if it waits for an answer.
    pub(crate) asks_for: Option<String>,
    /// When it was told last which rooms there are.
    pub(crate) listed: Option<Duration>,
}

impl Session {
    pub(crate) fn new(visitor: Visitor, now: Duration, rate_max: u32) -> Self {
        Self {
            visitor,
            stage: Stage::Greeting,
            since: now,
            room: None,
            spectator: false,
            resume: None,
            commands_waiting: 0,
            commands_tick: RoomTick(0),
            mistakes: 0,
            wants_snapshot: false,
            last_snapshot_tick: 0,
            unconfirmed: None,
            unconfirmed_last: None,
            viewer: None,
            told: ToldReferences::new(),
            delivery: Delivery::new(now, f64::from(rate_max)),
            served: now,
            closing: None,
            asks_for: None,
            listed: None,
        }
    }

    /// It is on its way into a room, perhaps after it was told which there are, or has stood in the doorway: so little was sent then that its rate says
    /// nothing of its way.
    pub(crate) fn joins(&mut self, room: String, (spectator, resume): (bool, Option<Resume>), now: Duration, rate_max: u32) {
        (self.room, self.spectator, self.resume, self.stage) = (Some(room), spectator, resume, Stage::Joining);
        if self.listed.is_some() || now > self.since + DOORWAY_MAX {
            self.delivery.enter(now, f64::from(rate_max));
        }
    }

    /// Queues a message that is not a batch.
    pub(crate) fn push(&mut self, message: Bytes) {
        self.delivery.push(RoomTick(0), message);
    }
}
