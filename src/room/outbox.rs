//! What a room gives out in a tick.

use bevy_ecs::prelude::*;
use bytes::Bytes;

use crate::protocol::{CommandId, EntityId, Recorded, RoomTick, Taken, Trail, Verdict};

/// An answer to one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Whether the user was let in.
    Join {
        /// The user.
        user: EntityId,
        /// Let in, or why not.
        verdict: Verdict,
    },
    /// What became of a command.
    Command {
        /// The user.
        user: EntityId,
        /// The number that its client gave it.
        id: CommandId,
        /// What became of it.
        verdict: Verdict,
    },
}

/// What a room gives out in a tick.
#[derive(Resource, Clone, Debug, Default)]
pub struct Outbox {
    /// The tick.
    pub tick: RoomTick,
    /// All operations and facts of the tick, for every member; nothing if nothing changed.
    pub batch: Option<Bytes>,
    /// The same without what travels in parts and what is not for everybody: what all members receive, in order.
    pub ordered: Option<Bytes>,
    /// Answers to single members, in the order of the inbox.
    pub answers: Vec<Answer>,
    /// The facts of the tick, for projections and the store.
    pub facts: Vec<Recorded>,
    /// What was taken in, with what became of it: enough, with the seed, to run the tick again.
    pub taken: Vec<Taken>,
    /// What a room that goes on from here needs besides its state.
    pub trail: Trail,
}
