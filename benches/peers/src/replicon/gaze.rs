//! Members that see a part of the world, told to bevy_replicon by [`ClientVisibility::set`]: entity by entity, and only what
//! changed, which is the way that its documentation shows for distances.

use bevy::prelude::*;
use bevy_replicon::server::visibility::client_visibility::ClientVisibility;
use bevy_replicon::server::visibility::filters_mask::FilterBit;
use bevy_replicon::server::visibility::registry::FilterRegistry;
use bevy_replicon::shared::backend::connected_client::NetworkId;
use bevy_replicon::shared::replication::registry::ReplicationRegistry;
use bevy_replicon::shared::replication::visibility::ScopeLifetime;

use crate::measure::timed;
use crate::sight::{Sights, Turn};
use crate::workload::{Changes, Population, Workload};

/// Who sees what, and what replicon needs to hear of it.
#[derive(Resource)]
pub struct Gaze {
    bit: FilterBit,
    sights: Sights,
    turns: Vec<Turn>,
    entities: Vec<Entity>,
    /// The members' entities on the server.
    clients: Vec<Entity>,
}

impl Gaze {
    /// Lets the members of a server's app see a part of the world. Before any of them connects; client ids are those of the
    /// members, from 1.
    pub fn install(app: &mut App, workload: &Workload, population: &Population) {
        let bit = app.world_mut().resource_scope(|world, mut filters: Mut<FilterRegistry>| {
            world.resource_scope(|world, mut registry: Mut<ReplicationRegistry>| {
                filters.register_scope::<Entity>(world, &mut registry, ScopeLifetime::WhileVisible)
            })
        });
        let clients = vec![Entity::PLACEHOLDER; workload.clients];
        let entities = population.entities().to_vec();
        app.insert_resource(Self { bit, sights: Sights::new(workload), turns: Vec::new(), entities, clients });
        app.add_observer(hide_the_rest);
    }

    /// Whether a member sees an entity.
    pub fn sees(&self, member: usize, slot: usize) -> bool {
        self.sights.sees(member, slot)
    }

    /// Finds out who sees what after the changes of a tick, and tells replicon. CPU time of the finding out, in nanoseconds.
    pub fn step(world: &mut World, changes: &Changes) -> u64 {
        if !world.contains_resource::<Self>() {
            return 0;
        }
        world.resource_scope(|world, mut gaze: Mut<Self>| {
            let Self { bit, sights, turns, entities, clients } = &mut *gaze;
            let ((), sight_ns) = timed(|| sights.update(changes, turns));
            // The turns come member by member.
            for turns in turns.chunk_by(|one, other| one.member == other.member) {
                let Some(mut visibility) = world.get_mut::<ClientVisibility>(clients[turns[0].member]) else { continue };
                for turn in turns {
                    visibility.set(entities[turn.slot], *bit, turn.visible);
                }
            }
            sight_ns
        })
    }
}

/// Hides from a client that connects what its member does not see.
fn hide_the_rest(add: On<Add<ClientVisibility>>, mut gaze: ResMut<Gaze>, mut clients: Query<(&NetworkId, &mut ClientVisibility)>) {
    let (id, mut visibility) = clients.get_mut(add.entity).expect("a client has a number");
    let member = usize::try_from(id.get() - 1).expect("a client's number is that of a member");
    gaze.clients[member] = add.entity;
    for (slot, &entity) in gaze.entities.iter().enumerate() {
        if !gaze.sights.sees(member, slot) {
            visibility.set(entity, gaze.bit, false);
        }
    }
}
