//! What tests of a prediction ask: what a client shows, and what is so in the room.

use bevy_ecs::prelude::*;
use roomkeeper::client::Replica;
use roomkeeper::prelude::*;
use roomkeeper::sim::{LinkConditions, Sim};

/// A link that is slow and loses nothing.
pub fn even() -> LinkConditions {
    LinkConditions { delay_millis: 75, ..LinkConditions::PERFECT }
}

/// What a client shows of an entity.
pub fn shown<C: Component + Copy>(sim: &Sim, name: &str, of: EntityId) -> Option<C> {
    let world = sim.client_of(name).world();
    world.get::<C>(world.resource::<Replica>().entity(of)?).copied()
}

/// What it is in the room.
pub fn rooms<C: Component + Copy>(sim: &Sim, of: EntityId) -> Option<C> {
    sim.room().world().get::<C>(sim.room().entity(of)?).copied()
}
