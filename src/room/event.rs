//! Lets a fact happen because an operator says so: checked, recorded as the server's, and applied as any other.
//!
//! No rule of the game is asked whether it can be so: an operator may let happen what no player could bring about.

use bevy_ecs::prelude::*;

use super::index::EntityIndex;
use super::ledger::{Origin, record};
use crate::protocol::limits::EVENTS_PER_TICK_MAX;
use crate::protocol::{Fact, Producer, Protocol, Rejection, Verdict};

/// Lets a fact happen, the `nth` that operators ask for in this tick.
pub(super) fn event(world: &mut World, nth: usize, name: &str, text: &str) -> Verdict {
    if nth > EVENTS_PER_TICK_MAX {
        return Verdict::Rejected(Rejection::new("too_many_events").because(format!("at most {EVENTS_PER_TICK_MAX} in a tick")));
    }
    match read_event(world, name, text) {
        Ok(fact) => {
            record(world, fact, Origin::new(Producer::Server));
            Verdict::Accepted
        }
        Err(rejection) => Verdict::Rejected(rejection),
    }
}

/// Reads a fact that could happen in this room now: the entities that it names are there.
pub(crate) fn read_event(world: &World, name: &str, text: &str) -> Result<Box<dyn Fact>, Rejection> {
    let fact = world.resource::<Protocol>().read_event(name, text)?;
    let index = world.resource::<EntityIndex>();
    match fact.named().into_iter().find(|id| index.entity(*id).is_none()) {
        Some(missing) => Err(Rejection::new("no_such_entity").because(format!("{name} names {missing}, which is not in the room"))),
        None => Ok(fact),
    }
}
