//! Members that see a part of the world, as a game says it to roomkeeper: every entity is for whoever is near, each member's own
//! entity is that of its user, and who is near what is the room's business. The game tells it nothing in a tick.

use std::collections::BTreeMap;

use bevy::prelude::*;
use roomkeeper::prelude::{Audience, Happened, RulesAppExt, Senses, UserJoined};
use roomkeeper::protocol::{EntityId, NetId, User};
use roomkeeper::room::{Blueprint, EntityIndex, Reach};

use super::Precision;
use crate::sight::{RANGE, Sights, Turn, own_slot};
use crate::workload::{Bits, Changes, Play, Population, Position, Workload, bits};

/// Without the margin that keeps what is at the edge from coming and going: then who sees what follows from where everybody is, and
/// [`Gaze`] can know it without asking the room.
const REACH: Reach = Reach { enter: RANGE, leave: RANGE };

/// The player with a number, which is that of a member, from 1.
pub fn player(number: u64) -> EntityId {
    EntityId::named(&number.to_string())
}

/// The game of a workload.
pub fn blueprint(workload: &Workload, precision: Precision) -> Blueprint {
    if workload.play == Play::Walk { Blueprint::new(precision.protocol(), rules) } else { Blueprint::new(precision.protocol(), |_| {}) }
}

fn rules(app: &mut App) {
    app.places_by(|at: &Position| [at.x, at.z]).apply(settle_in);
}

/// Who joins looks from the entity that was kept for it.
fn settle_in(joined: On<Happened<UserJoined>>, index: Res<EntityIndex>, mut commands: Commands) {
    let body = index.entity(joined.user).expect("every player has an entity");
    commands.entity(body).insert(Senses::new().with_reach(REACH));
}

/// Fills the room of a workload.
pub fn populate(workload: &Workload, world: &mut World) -> Population {
    if workload.play != Play::Walk {
        return Population::spawn(workload, world, ());
    }
    let mut players = vec![EntityId::NIL; workload.entities];
    for (member, number) in (0..workload.clients).zip(1..) {
        players[own_slot(member, workload.clients, workload.entities)] = player(number);
    }
    // Without an id of their own entities are given one.
    let population = Population::spawn_each(workload, world, |slot| (Audience::EVERYONE.near(), players[slot]));
    // An entity that waits for its player says that it is one: who came in by the id of another would be refused.
    for id in players.into_iter().filter(|id| *id != EntityId::NIL) {
        let body = world.resource::<EntityIndex>().entity(id).expect("it has just been spawned");
        world.entity_mut(body).insert(User { name: String::new() });
    }
    population
}

/// What members are to see, worked out beside the room and by other code than the room's. The run is checked by it; it is in no figure.
pub struct Gaze {
    /// Nothing where everybody sees everything.
    sights: Option<Sights>,
    turns: Vec<Turn>,
}

impl Gaze {
    /// In the beginning of a workload.
    pub fn new(workload: &Workload) -> Self {
        Self { sights: (workload.play == Play::Walk).then(|| Sights::new(workload)), turns: Vec::new() }
    }

    /// True if everybody sees everything.
    pub fn is_whole(&self) -> bool {
        self.sights.is_none()
    }

    /// Follows the changes of a tick.
    pub fn follow(&mut self, changes: &Changes) {
        if let Some(sights) = &mut self.sights {
            sights.update(changes, &mut self.turns);
        }
    }

    /// How many of the entities a member is to see.
    pub fn count(&self, member: usize, population: &Population) -> usize {
        (0..population.entities().len()).filter(|slot| self.sees(member, *slot)).count()
    }

    fn sees(&self, member: usize, slot: usize) -> bool {
        self.sights.as_ref().is_none_or(|sights| sights.sees(member, slot))
    }

    /// What a member is to hold, by net ids.
    pub fn truth(&self, room: &World, population: &Population, precision: Precision, member: usize) -> BTreeMap<u64, Bits> {
        let seen = |slot: &(usize, &Entity)| self.sees(member, slot.0);
        let held = |entity: EntityRef| {
            let net_id = entity.get::<NetId>().expect("every entity of a room has a net id");
            (net_id.get().into(), precision.held(bits(entity).expect("every entity is whole")))
        };
        population.entities().iter().enumerate().filter(seen).map(|(_, &entity)| held(room.entity(entity))).collect()
    }
}
