//! What a room takes in: joins, leaves and commands, in the order in which they count.

use std::collections::VecDeque;

use bevy_ecs::prelude::*;

use crate::protocol::Incoming;

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
