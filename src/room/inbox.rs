//! What a room takes in: joins, leaves and commands, in the order in which they count.

use std::collections::VecDeque;

use bevy_ecs::prelude::*;
use bytes::Bytes;

use crate::protocol::{CommandId, EntityId, LeaveReason};

/// One thing that reaches a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A user wants in.
    Join {
        /// The user, and the id of its entity.
        user: EntityId,
        /// The name that others see.
        name: String,
    },
    /// A user is gone.
    Leave {
        /// The user.
        user: EntityId,
        /// Why.
        reason: LeaveReason,
    },
    /// A user asks for something.
    Command {
        /// The user.
        user: EntityId,
        /// The number that its client gave it.
        id: CommandId,
        /// The kind, as an index into the protocol.
        kind: usize,
        /// The command, encoded. Untrusted.
        payload: Bytes,
    },
}

/// What the room has not taken up yet. The same inbox always gives the same outbox.
#[derive(Resource, Debug, Default)]
pub struct Inbox {
    pub(crate) items: VecDeque<Incoming>,
}

impl Inbox {
    /// Puts something behind everything else.
    pub fn push(&mut self, item: Incoming) {
        self.items.push_back(item);
    }

    /// How many things wait.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}
