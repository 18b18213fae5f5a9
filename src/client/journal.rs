//! What a prediction wants to know of the replica and of the conversation: what was touched, what was asked and answered. Kept only where somebody
//! asked for it.

use super::interpolate::ShowsNewest;
use bevy_ecs::prelude::*;
use bytes::Bytes;

use crate::protocol::{CommandId, EntityId, RoomTick, SeenTick};

/// More entries than these are not kept: everything counts as touched then.
const TOUCHES_MAX: usize = 32_768;

/// An entity that this client has created ahead of its room: by a command of its own, which is on its way.
///
/// The mark goes when the room's entity comes, which is then this one. That it [shows the newest](ShowsNewest) stays, or it would leap back.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
#[require(ShowsNewest)]
pub struct Predicted {
    /// The command that creates it.
    pub command: CommandId,
}

/// What messages did to the replica.
#[derive(Debug, Default)]
pub(crate) struct Touches {
    /// Anything may have changed.
    pub(crate) whole: bool,
    pub(crate) added: Vec<Entity>,
    pub(crate) gone: Vec<Entity>,
    /// Components that were written or removed, by their numbers.
    pub(crate) values: Vec<(usize, Entity)>,
    /// How many of them the prediction has looked at.
    pub(crate) seen: usize,
}

impl Touches {
    pub(crate) fn value(&mut self, component: usize, entity: Entity) {
        self.values.push((component, entity));
        if self.values.len() > TOUCHES_MAX {
            // What was not looked at keeps its place behind what was.
            let fresh = self.values.split_off(self.seen.min(self.values.len()));
            self.values.sort_unstable();
            self.values.dedup();
            self.seen = self.values.len();
            self.values.extend(fresh);
            if self.values.len() > TOUCHES_MAX / 2 {
                self.everything();
            }
        }
    }

    pub(crate) fn added(&mut self, entity: Entity) {
        self.added.push(entity);
        if self.added.len() > TOUCHES_MAX {
            self.everything();
        }
    }

    pub(crate) fn gone(&mut self, entity: Entity) {
        self.gone.push(entity);
        if self.gone.len() > TOUCHES_MAX {
            self.everything();
        }
    }

    pub(crate) fn everything(&mut self) {
        *self = Self { whole: true, ..Self::default() };
    }

    /// The prediction has looked at all of them.
    pub(crate) fn look(&mut self) {
        self.seen = self.values.len();
    }

    /// True if no entity came or went.
    pub(crate) fn is_of_values(&self) -> bool {
        !self.whole && self.added.is_empty() && self.gone.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.is_of_values() && self.values.is_empty()
    }
}

/// What was said.
#[derive(Debug)]
pub(crate) enum Note {
    /// The client was let in: what was on its way before is not any more.
    Joined,
    /// A command was sent.
    Issued {
        id: CommandId,
        kind: usize,
        /// Which moment its author saw.
        seen: Option<SeenTick>,
        payload: Bytes,
        /// The tick that it was at the server then, as far as is known.
        server_tick: Option<f64>,
    },
    /// A command was answered.
    Verdict { id: CommandId, tick: RoomTick, accepted: bool },
}

/// What was said since the prediction last looked, and what it does before the first message is applied, and after each.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) notes: Vec<Note>,
    pub(crate) before: fn(&mut World),
    pub(crate) after_each: fn(&mut World),
}

impl Journal {
    pub(crate) fn new(before: fn(&mut World), after_each: fn(&mut World)) -> Self {
        Self { notes: Vec::new(), before, after_each }
    }
}

/// The entities that were created ahead of the room, by their ids.
pub(crate) type Ahead = bevy_platform::collections::HashMap<EntityId, Entity>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_looked_at_stays_behind_what_was() {
        let (mut touches, mut world) = (Touches::default(), World::new());
        let entities: Vec<Entity> = (0..10).map(|_| world.spawn_empty().id()).collect();
        for n in 0..TOUCHES_MAX {
            touches.value(n % 3, entities[n % 10]);
        }
        touches.seen = TOUCHES_MAX - 1;
        touches.value(7, entities[0]);
        assert!(!touches.whole);
        assert_eq!((touches.seen, touches.values.len()), (30, 32), "each once, and the two that are new");
        assert_eq!(touches.values.last(), Some(&(7, entities[0])));
    }
}
