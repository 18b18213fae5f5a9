//! Lets a fact happen because an operator says so: checked, recorded as the server's, and applied as any other.
//!
//! No rule of the game is asked whether it can be so: an operator may let happen what no player could bring about.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bevy_ecs::prelude::*;

use super::index::EntityIndex;
use super::ledger::{Ledger, Origin, record};
use crate::protocol::limits::{EVENTS_PER_TICK_MAX, FACTS_PER_TICK_MAX};
use crate::protocol::{Fact, Producer, Protocol, Rejection, Verdict};

/// Lets a fact happen, the `nth` that operators ask for in this tick.
pub(super) fn event(world: &mut World, nth: usize, name: &str, text: &str) -> Verdict {
    let too_many = |why: String| Verdict::Rejected(Rejection::new("too_many_events").because(why));
    if nth > EVENTS_PER_TICK_MAX {
        return too_many(format!("at most {EVENTS_PER_TICK_MAX} in a tick"));
    }
    // What it makes happen counts too: a tick that is full would end the room.
    if world.resource::<Ledger>().facts().len() >= FACTS_PER_TICK_MAX / 2 {
        return too_many(format!("this tick has {} facts or more already", FACTS_PER_TICK_MAX / 2));
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
///
/// Nothing is changed by it, so a room goes on whose game fails in it.
pub(crate) fn read_event(world: &World, name: &str, text: &str) -> Result<Box<dyn Fact>, Rejection> {
    let read = catch_unwind(AssertUnwindSafe(|| {
        let fact = world.resource::<Protocol>().read_event(name, text)?;
        let index = world.resource::<EntityIndex>();
        match fact.named().into_iter().find(|id| index.entity(*id).is_none()) {
            Some(missing) => Err(Rejection::new("no_such_entity").because(format!("{name} names {missing}, which is not in the room"))),
            None => Ok(fact),
        }
    }));
    read.unwrap_or_else(|_| Err(Rejection::new("malformed").because(format!("{name}: the game's own code panics when it reads this"))))
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Deserializer, Serialize};

    use super::*;
    use crate::protocol::{Payload, ProtocolAppExt};
    use crate::room::{Room, RoomOptions};

    #[derive(Clone, Serialize, Deserialize)]
    struct Told(u8);

    #[derive(Clone, Serialize)]
    struct Frail(u8);

    impl<'de> Deserialize<'de> for Frail {
        fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
            let value = u8::deserialize(input)?;
            assert!(value != 7, "seven");
            Ok(Self(value))
        }
    }

    fn room() -> Room {
        let protocol = |app: &mut bevy_app::App| {
            app.stateless_fact::<Told>("told").stateless_fact::<Frail>("frail");
        };
        Room::new(RoomOptions::named("events"), protocol, |_| {}).unwrap()
    }

    fn code(verdict: Verdict) -> Option<String> {
        match verdict {
            Verdict::Rejected(rejection) => Some(rejection.code),
            Verdict::Accepted => None,
        }
    }

    #[test]
    fn no_event_happens_in_a_tick_that_is_half_full() {
        let mut room = room();
        let world = room.world_mut();
        for _ in 1..FACTS_PER_TICK_MAX / 2 {
            record(world, Box::new(Payload(Told(1))), Origin::new(Producer::Server));
        }
        assert_eq!(code(event(world, 1, "told", "2")), None);
        assert_eq!(code(event(world, 2, "told", "3")).as_deref(), Some("too_many_events"));
        assert_eq!(world.resource::<Ledger>().facts().len(), FACTS_PER_TICK_MAX / 2);
    }

    #[test]
    fn a_panic_in_a_facts_own_reading_is_a_refusal() {
        let mut room = room();
        let world = room.world_mut();
        assert_eq!(code(event(world, 1, "frail", "7")).as_deref(), Some("malformed"));
        assert_eq!(code(event(world, 2, "frail", "8")), None);
    }
}
