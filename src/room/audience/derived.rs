//! Audiences and senses that follow from other components of their entity, and audiences that follow from none.
//!
//! What follows from a component is there wherever the component comes from, the store among it. What a rule sets by hand is not, and where
//! it is gone everybody sees the entity: so a room says once that it has such a thing.

use bevy_app::App;
use bevy_ecs::archetype::{Archetype, ArchetypeId};
use bevy_ecs::change_detection::Tick;
use bevy_ecs::component::ComponentId;
use bevy_ecs::entity::EntityHashMap;
use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use bevy_ecs::system::SystemChangeTick;
use bevy_ecs::world::DeferredWorld;

use super::rule::{Audience, Senses};
use crate::protocol::{EntityId, NetId, Protocol};
use crate::room::index::EntityIndex;
use crate::room::lifetime::expire;
use crate::room::runner::RoomEnd;

/// A component that can follow from others.
pub(crate) trait Derived: Component + PartialEq {
    /// True if everybody sees the entity that has none.
    const HIDES: bool;
}

/// There while a room is filled with a state in which audiences stand: they are as they are stored, whatever follows from other components.
#[derive(Resource)]
pub(crate) struct AsStored;

/// Which entities were given their components as a level or a reset has them, an audience among these: it stands, whatever follows from the others, until
/// one of those changes. A resource of a room in which anything follows.
#[derive(Resource, Debug, Default)]
struct PutAsStored {
    /// Who is being given them.
    now: Option<Entity>,
    /// Who was since the last tick ended, and when.
    done: EntityHashMap<Tick>,
}

/// Gives an entity its components as they are stored, its audience among them.
pub(crate) fn put_as_stored<T>(world: &mut World, entity: Entity, put: impl FnOnce(&mut World) -> T) -> T {
    if let Some(mut stored) = world.get_resource_mut::<PutAsStored>() {
        stored.now = Some(entity);
    }
    let done = put(world);
    // What comes from here on is later.
    let at = world.increment_change_tick();
    if let Some(mut stored) = world.get_resource_mut::<PutAsStored>() {
        stored.now = None;
        stored.done.insert(entity, at);
    }
    done
}

/// What there is as it is stored.
type Stored<'w> = (Option<Res<'w, AsStored>>, Res<'w, PutAsStored>);

/// True if what an entity has of `D` is as it is stored, whatever comes to it now, or goes.
fn stands<D: Derived>((filled, put): &Stored<'_>, entity: Entity) -> bool {
    D::HIDES && (filled.is_some() || put.now == Some(entity))
}

/// What keeps components as others say, once a tick.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Following;

impl Derived for Audience {
    const HIDES: bool = true;
}

impl Derived for Senses {
    const HIDES: bool = false;
}

/// What an entity says by one component, if it has that.
type Says<D> = Box<dyn Fn(EntityRef<'_>) -> Option<D> + Send + Sync>;

/// The components that `D` follows from, in the order in which they were named.
#[derive(Resource)]
struct Sources<D: Send + Sync + 'static>(Vec<(ComponentId, Says<D>)>);

impl<D: Send + Sync + 'static> Default for Sources<D> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// Keeps a component as another one of its entity says, disabled or not: as soon as that is there, with each tick in which it changed, and until it is
/// removed.
pub(crate) fn follow<T: Component, D: Derived>(app: &mut App, says: impl Fn(&T) -> D + Clone + Send + Sync + 'static) {
    if !app.world().contains_resource::<PutAsStored>() {
        app.init_resource::<PutAsStored>();
        app.add_systems(RoomEnd, (|mut stored: ResMut<PutAsStored>| stored.done.clear()).after(Following));
    }
    let world = app.world_mut();
    let component = world.register_component::<T>();
    let (of_value, of_removed) = (says.clone(), says);
    let of_entity: Says<D> = Box::new(move |entity: EntityRef<'_>| entity.get::<T>().map(&of_value));
    world.get_resource_or_init::<Sources<D>>().0.push((component, of_entity));
    world.add_observer(move |inserted: On<Insert<T>>, stored: Stored<'_>, mut commands: Commands| {
        let entity = inserted.entity;
        if !stands::<D>(&stored, entity) {
            commands.queue(move |world: &mut World| follow_last::<D>(world, entity));
        }
    });
    world.add_observer(
        move |removed: On<Remove<T>>, values: Query<(&T, Option<&D>), Allow<Disabled>>, stored: Stored<'_>, mut commands: Commands| {
            let entity = removed.entity;
            // What a rule hid by hand since stays hidden.
            let is_by_hand = |(value, there): (&T, Option<&D>)| D::HIDES && there.is_some_and(|there| *there != of_removed(value));
            if !values.get(entity).is_ok_and(is_by_hand) && !stands::<D>(&stored, entity) {
                commands.queue(move |world: &mut World| take_back::<T, D>(world, entity));
            }
        },
    );
    let update = move |changed: Query<(Entity, Ref<T>), (Changed<T>, Allow<Disabled>)>,
                       stored: Res<PutAsStored>,
                       ticks: SystemChangeTick,
                       mut commands: Commands| {
        for (entity, value) in &changed {
            let is_later = |at: &Tick| value.last_changed().is_newer_than(*at, ticks.this_run());
            if !D::HIDES || stored.done.get(&entity).is_none_or(is_later) {
                commands.queue(move |world: &mut World| follow_last::<D>(world, entity));
            }
        }
    };
    // The last thing before the batch: what the end of a lifetime changes is in time too.
    app.add_systems(RoomEnd, update.in_set(Following).after(expire));
}

/// What an entity says by its components: the last that was named has the word, whichever was written last.
fn said_of<D: Derived>(world: &World, there: EntityRef<'_>) -> Option<D> {
    let sources = world.get_resource::<Sources<D>>()?;
    sources.0.iter().rev().find_map(|(_, says)| says(there))
}

/// Lets an entity have what its components say. What it has already is left alone.
fn follow_last<D: Derived>(world: &mut World, entity: Entity) {
    let Ok(there) = world.get_entity(entity) else { return };
    let said = said_of::<D>(world, there).filter(|said| there.get::<D>() != Some(said));
    if let (Some(said), Ok(mut there)) = (said, world.get_entity_mut(entity)) {
        there.insert(said);
    }
}

/// Takes from an entity what it has by a component that it lost, unless another one says something too.
fn take_back<T: Component, D: Derived>(world: &mut World, entity: Entity) {
    // It may be gone, or have the component again.
    let Some(there) = world.get_entity(entity).ok().filter(|there| !there.contains::<T>()) else { return };
    let said = said_of::<D>(world, there);
    // What something else requires stays: nothing is opened that is to be hidden in any case.
    if said.is_none() && D::HIDES && world.component_id::<D>().is_some_and(|id| is_required(world, id, there.archetype().components())) {
        return;
    }
    let Ok(mut there) = world.get_entity_mut(entity) else { return };
    match said {
        Some(said) => drop(there.insert(said)),
        None => drop(there.remove::<D>()),
    }
}

/// True if one of some components requires another one.
fn is_required(world: &World, required: ComponentId, by: &[ComponentId]) -> bool {
    let infos = by.iter().filter_map(|id| world.components().get_info(*id));
    infos.map(|info| info.required_components()).any(|all| all.iter_ids().any(|id| id == required))
}

/// Most entities that wait to be looked at.
const SUSPECTS_MAX: usize = 1_024;

/// Entities that came to be restricted, until it is known whether they would be after a restart. A resource of a room.
#[derive(Resource, Debug, Default)]
pub(crate) struct HiddenByHand {
    suspects: Vec<Entity>,
    /// Whose entities are restricted by what is stored with them. They ascend.
    kept: Vec<ArchetypeId>,
    /// It was told of one.
    told: bool,
}

/// Lets an entity that is restricted be looked at when the tick ends.
pub(super) fn suspect(world: &mut DeferredWorld<'_>, entity: Entity) {
    let archetype = world.get_entity(entity).ok().map(|entity| entity.archetype().id());
    let Some((mut by_hand, archetype)) = world.get_resource_mut::<HiddenByHand>().zip(archetype) else { return };
    if !by_hand.told && by_hand.suspects.len() < SUSPECTS_MAX && by_hand.kept.binary_search(&archetype).is_err() {
        by_hand.suspects.push(entity);
    }
}

/// Says, once in a room, that everybody would see an entity after a restart that is restricted now.
pub(crate) fn tell_of_hidden_by_hand(world: &mut World, protocol: &Protocol) {
    if world.resource::<HiddenByHand>().suspects.is_empty() {
        return;
    }
    let mut by_hand = std::mem::take(&mut *world.resource_mut::<HiddenByHand>());
    let HiddenByHand { suspects, kept, told } = &mut by_hand;
    for entity in suspects.drain(..).filter_map(|entity| world.get_entity(entity).ok()) {
        let is_restricted = entity.contains::<NetId>() && entity.get::<Audience>().is_some_and(Audience::is_restricted);
        let Err(place) = kept.binary_search(&entity.archetype().id()) else { continue };
        if !is_restricted {
            continue;
        }
        if is_kept(world, protocol, entity.archetype()) {
            kept.insert(place, entity.archetype().id());
            continue;
        }
        let id = entity.get::<EntityId>().copied().unwrap_or_default();
        tracing::error!(
            entity = world.resource::<EntityIndex>().display(id),
            "the audience of an entity is set by hand, and not stored: after a restart or a reset everybody sees the entity; \
             add `app.sync_audience()` to the protocol, or let it follow from a synced component"
        );
        *told = true;
        break;
    }
    *world.resource_mut::<HiddenByHand>() = by_hand;
}

/// True if the entities of an archetype have their audience by what is stored with them.
fn is_kept(world: &World, protocol: &Protocol, archetype: &Archetype) -> bool {
    let Some(audience) = world.component_id::<Audience>() else { return true };
    let follows = |sources: &Sources<Audience>| sources.0.iter().any(|(component, _)| archetype.contains(*component));
    let ids = protocol.components.iter().filter_map(|entry| world.components().get_id(entry.type_id));
    let stored: Vec<ComponentId> = ids.filter(|id| archetype.contains(*id)).collect();
    world.get_resource::<Sources<Audience>>().is_some_and(follows) || stored.contains(&audience) || is_required(world, audience, &stored)
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::protocol::ProtocolAppExt;
    use crate::room::{Room, RoomOptions, RulesAppExt};

    #[derive(Component, Serialize, Deserialize)]
    struct Kind;
    #[derive(Component, Serialize, Deserialize)]
    struct Trap;
    #[derive(Component, Serialize, Deserialize)]
    #[require(Audience = Audience::OWNER)]
    struct Card;
    #[derive(Component, Serialize, Deserialize)]
    struct Side(u64);

    fn room(stored: bool) -> Room {
        let protocol = move |app: &mut App| {
            app.sync::<Kind>("kind");
            app.sync::<Trap>("trap");
            app.sync::<Card>("card");
            if stored {
                app.sync_audience();
            }
        };
        let rules = |app: &mut App| {
            app.audience_by(|_: &Trap| Audience::mask(1));
        };
        Room::new(RoomOptions::named("moor"), protocol, rules).unwrap()
    }

    #[test]
    fn of_two_components_that_say_who_sees_an_entity_the_one_named_last_counts_whichever_is_written() {
        let protocol = |app: &mut App| {
            // In the other order than that in which they have the word.
            app.sync::<Trap>("trap");
            app.sync::<Side>("side");
        };
        let rules = |app: &mut App| {
            app.audience_by(|side: &Side| Audience::mask(side.0));
            app.audience_by(|_: &Trap| Audience::OWNER);
        };
        let mut room = Room::new(RoomOptions::named("moor"), protocol, rules).unwrap();
        let traps = [room.world_mut().spawn((Trap, Side(1))).id(), room.world_mut().spawn((Side(1), Trap)).id()];
        for side in 2..4 {
            room.tick([]).unwrap();
            for trap in traps {
                assert_eq!(room.world().get::<Audience>(trap), Some(&Audience::OWNER));
                room.world_mut().get_mut::<Side>(trap).unwrap().0 = side;
            }
        }
    }

    fn tells_of(room: &mut Room, hidden: impl Bundle) -> bool {
        room.world_mut().spawn(hidden);
        room.tick([]).unwrap();
        let by_hand = room.world().resource::<HiddenByHand>();
        assert!(by_hand.suspects.is_empty());
        by_hand.told
    }

    #[test]
    fn of_what_a_restart_would_show_it_is_told_and_of_nothing_else() {
        let mut opened = room(false);
        assert!(!tells_of(&mut opened, (Kind, Audience::EVERYONE)));
        assert!(!tells_of(&mut opened, (Kind, Trap)));
        assert!(!tells_of(&mut opened, (Kind, Card)));
        assert!(!tells_of(&mut opened, Audience::OWNER), "it is not synced, so nobody would see it");
        assert!(tells_of(&mut opened, (Kind, Audience::OWNER)));
        assert!(!tells_of(&mut room(true), (Kind, Audience::OWNER)), "it is stored");
    }

    #[test]
    fn what_a_lost_component_said_is_taken_back_but_for_what_another_one_says() {
        let mut room = room(false);
        let world = room.world_mut();
        let [alone, card, again] = [world.spawn((Kind, Trap)).id(), world.spawn((Card, Trap)).id(), world.spawn((Kind, Trap)).id()];
        for entity in [alone, card, again] {
            assert_eq!(world.get::<Audience>(entity), Some(&Audience::mask(1)));
            world.commands().entity(entity).remove::<Trap>();
        }
        world.commands().entity(again).insert(Trap);
        world.flush();
        assert_eq!(world.get::<Audience>(alone), None);
        assert!(world.get::<Audience>(card).is_some_and(Audience::is_restricted), "a card is hidden in any case");
        assert_eq!(world.get::<Audience>(again), Some(&Audience::mask(1)));
        world.entity_mut(again).insert(Audience::OWNER).remove::<Trap>();
        assert_eq!(world.get::<Audience>(again), Some(&Audience::OWNER), "a rule hid it since");
        world.entity_mut(again).despawn();
        assert!(world.get_entity(again).is_err());
    }
}
