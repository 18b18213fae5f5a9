//! What a room gives out in a tick.

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::ledger::Recorded;
use crate::protocol::{CommandId, EntityId, Rejection, RoomTick};

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It became facts.
    Accepted,
    /// It became nothing.
    Rejected(Rejection),
}

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
    /// Answers to single members, in the order of the inbox.
    pub answers: Vec<Answer>,
    /// The facts of the tick, for projections and the store.
    pub facts: Vec<Recorded>,
}
