//! What the host knows of one connection.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::protocol::{EntityId, RoomTick};

/// A connection, as the gateway numbers it. Never used again in one process.
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
    pub(crate) room: Option<String>,
    pub(crate) spectator: bool,
    /// The commands that came since the room's tick `commands_tick`.
    pub(crate) commands_waiting: usize,
    pub(crate) commands_tick: RoomTick,
    pub(crate) mistakes: u32,
    pub(crate) wants_snapshot: bool,
    pub(crate) last_snapshot_tick: u32,
    /// The ticks of the first and the last accepted command that is not known to be stored.
    pub(crate) unconfirmed: Option<RoomTick>,
    pub(crate) unconfirmed_last: Option<RoomTick>,
    queue: VecDeque<Bytes>,
    queue_bytes: usize,
}

/// The first byte of the messages that a snapshot makes superfluous: chunks and batches.
const SUPERSEDED: [u8; 2] = [3, 4];

impl Session {
    pub(crate) fn new(visitor: Visitor) -> Self {
        Self {
            visitor,
            stage: Stage::Greeting,
            room: None,
            spectator: false,
            commands_waiting: 0,
            commands_tick: RoomTick(0),
            mistakes: 0,
            wants_snapshot: false,
            last_snapshot_tick: 0,
            unconfirmed: None,
            unconfirmed_last: None,
            queue: VecDeque::new(),
            queue_bytes: 0,
        }
    }

    pub(crate) fn push(&mut self, message: Bytes) {
        self.queue_bytes += message.len();
        self.queue.push_back(message);
    }

    /// True if the other end can't keep up: more than `max` bytes wait. Batches are then dropped in favour of a snapshot.
    pub(crate) fn is_clogged(&self, max: usize) -> bool {
        self.queue_bytes > max
    }

    /// Drops what a snapshot will supersede.
    pub(crate) fn drop_superseded(&mut self) {
        self.queue.retain(|message| message.first().is_none_or(|kind| !SUPERSEDED.contains(kind)));
        self.queue_bytes = self.queue.iter().map(Bytes::len).sum();
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.queue.is_empty()
    }

    /// Hands messages over for as long as they are taken.
    pub(crate) fn pump(&mut self, mut take: impl FnMut(&Bytes) -> bool) {
        while let Some(message) = self.queue.front() {
            if !take(message) {
                return;
            }
            self.queue_bytes -= message.len();
            self.queue.pop_front();
        }
    }
}
