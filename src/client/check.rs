//! Compares the replica with the hashes that a room in check mode puts on its batches, and puts a replica right by the
//! difference to a snapshot.

use std::collections::BTreeSet;

use bevy_ecs::change_detection::Tick;
use bevy_ecs::prelude::*;
use serde_json::Value;

use super::apply::{ApplyError, Told, apply_first_snapshot};
use super::interpolate::follow;
use super::journal::Touches;
use super::replica::{Checker, Diverged, Replica};
use crate::protocol::{
    ChangedComponents, CodecError, Delivery, EntityId, FactSeq, Identity, Lost, NetId, Protocol, Reader, Removal, RoomTick, Rows, State,
    StateError, StateHash, UpdateKind, watch_losses,
};

/// Most losses that are noted for the next check.
const LOSSES_MAX: usize = 4_096;

/// Whether the replica's state has that hash. Costs a hash per value that changed since the last check, by whoever's hand.
pub(crate) fn agrees(world: &mut World, hash: u64, removed: &[(usize, u32)], deleted: &[u32]) -> bool {
    let checker = world.resource_mut::<Replica>().checker.take();
    let fresh = || Checker {
        since: Tick::new(world.change_tick().get().wrapping_sub(Tick::MAX.get())),
        hash: StateHash::default(),
        rows: Rows::default(),
        changed: ChangedComponents::default(),
    };
    let mut checker = checker.unwrap_or_else(fresh);
    start_watching(world);
    let mut protocol = std::mem::take(&mut *world.resource_mut::<Protocol>());
    let (since, now) = (checker.since, world.increment_change_tick());
    checker.changed.look(world, &protocol, since, now);
    for (component, entry) in protocol.components.iter_mut().enumerate() {
        // What travels beside the batches may be newer or older than they are.
        if entry.delivery == Delivery::Latest || !checker.changed.may_have_changed(component) {
            continue;
        }
        checker.rows.clear();
        if entry.column.changed(world, since, now, false, &mut checker.rows).is_err() {
            continue;
        }
        for row in 0..checker.rows.len() {
            let id = checker.rows.id(row);
            if id != NetId::UNASSIGNED.get() && !deleted.contains(&id) {
                checker.hash.set(component, id, checker.rows.value(row));
            }
        }
    }
    forget_lost(world, &protocol, &mut checker.hash, now);
    removed.iter().for_each(|(component, id)| checker.hash.unset(*component, *id));
    deleted.iter().for_each(|id| checker.hash.forget(*id));
    checker.since = now;
    let agrees = checker.hash.sum() == hash;
    *world.resource_mut::<Protocol>() = protocol;
    world.resource_mut::<Replica>().checker = Some(checker);
    agrees
}

/// From the first check on the world notes which components its entities lose: what is removed leaves no change tick behind.
fn start_watching(world: &mut World) {
    if world.contains_resource::<Lost>() {
        return;
    }
    world.init_resource::<Lost>();
    watch_losses(world);
}

/// Takes out of the hash what entities lost since the last check, unless they have it again.
fn forget_lost(world: &mut World, protocol: &Protocol, hash: &mut StateHash, now: Tick) {
    let mut lost = world.resource_mut::<Lost>();
    lost.since = now;
    let rows = std::mem::take(&mut lost.rows);
    let mut scratch = Vec::new();
    for row in rows {
        // A net id may stand for another entity by now.
        let is_it = world.resource::<Replica>().map.get(row.id) == Some(row.entity);
        let Some(entry) = protocol.components.get(row.component).filter(|_| is_it) else { continue };
        scratch.clear();
        if entry.column.one(world, row.entity, None, &mut scratch).ok().flatten().is_none() {
            hash.unset(row.component, row.id.get());
        }
    }
}

/// A batch came without a hash. The next may carry one, but in a room that does not check itself none ever does: what entities lost is not kept for it
/// without end. Beyond a bound the next check begins anew with all that there is then.
pub(crate) fn forget_losses(world: &mut World) {
    let Some(mut lost) = world.get_resource_mut::<Lost>().filter(|lost| lost.rows.len() > LOSSES_MAX) else { return };
    lost.rows = Vec::new();
    world.resource_mut::<Replica>().checker = None;
}

/// Puts a replica to a state that comes from elsewhere than a host, a store's for instance: a world in which a recorded match is looked at as a
/// live one is. What differs is told to observers; facts are not.
///
/// # Errors
/// If the state is of another protocol.
pub fn show_state(world: &mut World, state: &State, tick: RoomTick) -> Result<(), ApplyError> {
    let snapshot = state.to_snapshot(world.resource::<Protocol>(), tick, FactSeq(1));
    let mut replica = world.resource_mut::<Replica>();
    (replica.room, replica.heard) = (state.room(), tick);
    if replica.is_empty() {
        apply_first_snapshot(world, &snapshot)?;
    } else {
        reconcile(world, &snapshot, false)?;
    }
    world.resource_mut::<Replica>().live = true;
    Ok(())
}

/// Takes everything out of a replica: a client that leaves a room for good has nothing of it in its world any more. Observers are told of each
/// entity that goes. Entering another room does it too.
///
/// # Errors
/// If the replica can't be read.
pub fn clear_replica(world: &mut World) -> Result<(), ApplyError> {
    let replica = world.resource::<Replica>();
    if !replica.is_empty() {
        let (state, tick) = (State::new(replica.room), replica.tick);
        let snapshot = state.to_snapshot(world.resource::<Protocol>(), tick, FactSeq(1));
        reconcile(world, &snapshot, false)?;
    }
    let mut replica = world.resource_mut::<Replica>();
    (replica.live, replica.whole) = (false, false);
    Ok(())
}

/// Puts a replica that holds something to the state of a snapshot: only what differs is touched, and told.
/// With `report`, each difference is told as [`Diverged`] first.
pub(crate) fn reconcile(world: &mut World, snapshot: &[u8], report: bool) -> Result<(), ApplyError> {
    let room = world.resource::<Replica>().room;
    let theirs = match State::from_snapshot(world.resource::<Protocol>(), room, snapshot) {
        Ok(theirs) => theirs,
        Err(StateError::Codec(error)) => return Err(error.into()),
        Err(other) => return Err(CodecError::Value { at: 0, detail: other.to_string() }.into()),
    };
    let mut protocol = std::mem::take(&mut *world.resource_mut::<Protocol>());
    let mut replica = Replica::take_out(world);
    let mut told = Told::default();
    renumber(world, &protocol, &mut replica, &theirs, &mut told);
    replica.touches.iter_mut().for_each(Touches::everything);
    let ours = state_of(world, &mut protocol, &replica);
    let done = ours.and_then(|ours| {
        let diverged = if report { differences(&protocol, &ours, &theirs) } else { Vec::new() };
        let new: BTreeSet<Entity> = told.added.iter().map(|(entity, _)| *entity).collect();
        become_theirs(world, &mut protocol, &replica, &new, (&ours, &theirs))?;
        Ok(diverged)
    });
    if done.is_err() {
        told.take_back(world, &mut replica);
    }
    follow(world, &protocol, theirs.tick(), told.added.iter().map(|(entity, _)| *entity));
    for entry in &mut protocol.components {
        told.changes.extend(entry.column.announcement());
    }
    replica.completed(theirs.tick());
    replica.versions.clear();
    theirs.entities().keys().for_each(|id| replica.versions.created(*id, theirs.tick()));
    *world.resource_mut::<Protocol>() = protocol;
    replica.whole = done.is_ok();
    *world.resource_mut::<Replica>() = replica;
    match done {
        Ok(diverged) => {
            diverged.into_iter().for_each(|diverged| world.trigger(diverged));
            told.announce(world, theirs.tick());
            Ok(())
        }
        Err(error) => {
            told.break_off(world, theirs.tick());
            Err(error.into())
        }
    }
}

/// Gives every entity of the snapshot its net id, spawning those that are missing, and lets go of those that the snapshot
/// does not have.
fn renumber(world: &mut World, protocol: &Protocol, replica: &mut Replica, theirs: &State, told: &mut Told) {
    let keep: BTreeSet<EntityId> = theirs.entities().values().map(|entity| entity.identity.id(theirs.room())).collect();
    let mut gone: Vec<(EntityId, Entity)> =
        replica.by_id.iter().filter(|(id, _)| !keep.contains(*id)).map(|(id, entity)| (*id, *entity)).collect();
    gone.sort_unstable_by_key(|(id, _)| *id);
    for (id, entity) in gone {
        replica.by_id.remove(&id);
        // In another run of the room its number stands for another entity, which must not be taken to have what this one has until it is despawned.
        if let Ok(mut gone) = world.get_entity_mut(entity) {
            gone.insert(NetId::UNASSIGNED);
        }
        told.gone.push((entity, id, Removal::Unknown));
    }
    replica.map.clear();
    for (net_id, entity_state) in theirs.entities() {
        let id = entity_state.identity.id(theirs.room());
        let known = replica.by_id.get(&id).copied().filter(|entity| world.get_entity(*entity).is_ok());
        let entity = known.unwrap_or_else(|| {
            let adopted = replica.adopt(world, protocol, id);
            told.adopted.extend(adopted);
            let entity = adopted.unwrap_or_else(|| world.spawn((id, *net_id)).id());
            if let Identity::Named(name) = &entity_state.identity {
                world.entity_mut(entity).insert(Name::new(name.clone()));
            }
            told.added.push((entity, id));
            entity
        });
        world.entity_mut(entity).insert((id, *net_id));
        replica.enter(*net_id, id, entity);
    }
}

/// The replica as plain data: what the world holds now, by whoever's hand. For tests and tools; costs a pass over everything.
///
/// # Errors
/// If a component can't be encoded.
pub fn replica_state(world: &mut World) -> Result<State, CodecError> {
    let mut protocol = std::mem::take(&mut *world.resource_mut::<Protocol>());
    let state = state_of(world, &mut protocol, world.resource::<Replica>());
    *world.resource_mut::<Protocol>() = protocol;
    state
}

/// The replica's own components as plain data.
fn state_of(world: &World, protocol: &mut Protocol, replica: &Replica) -> Result<State, CodecError> {
    let mut state = State::new(replica.room);
    for (net_id, entity) in replica.map.iter() {
        let id = world.get::<EntityId>(entity).copied().unwrap_or_default();
        let name = world.get::<Name>(entity).map(|name| name.as_str().to_owned()).filter(|name| EntityId::named(name) == id);
        state.insert_as(net_id, name.map_or(Identity::Foreign(id.as_uuid()), Identity::Named), id);
    }
    let mut rows = Rows::default();
    for (component, entry) in protocol.components.iter_mut().enumerate() {
        rows.clear();
        entry.column.all(world, &mut rows)?;
        for row in 0..rows.len() {
            state.set(NetId(rows.id(row)), component, rows.value(row));
        }
    }
    state.set_tick(replica.tick);
    Ok(state)
}

fn differences(protocol: &Protocol, ours: &State, theirs: &State) -> Vec<Diverged> {
    let mut all = Vec::new();
    for (net_id, their_entity) in theirs.entities() {
        let Some(our_entity) = ours.entities().get(net_id) else { continue };
        for (component, entry) in protocol.components.iter().enumerate() {
            let (our_value, their_value) = (our_entity.components.get(&component), their_entity.components.get(&component));
            if our_value == their_value {
                continue;
            }
            let json =
                |value: Option<&Vec<u8>>, state: &State| -> Option<Value> { entry.column.to_json(&mut Reader::new(value?), state).ok() };
            all.push(Diverged {
                tick: theirs.tick(),
                entity: their_entity.identity.display(theirs.room()),
                id: their_entity.identity.id(theirs.room()),
                component: entry.name.clone(),
                ours: json(our_value, ours),
                theirs: json(their_value, theirs),
            });
        }
    }
    all
}

/// Gives the entities their components. What becomes of those that are `new` is told by their being added.
fn become_theirs(
    world: &mut World,
    protocol: &mut Protocol,
    replica: &Replica,
    new: &BTreeSet<Entity>,
    (ours, theirs): (&State, &State),
) -> Result<(), CodecError> {
    for (net_id, their_entity) in theirs.entities() {
        let Some(entity) = replica.map.get(*net_id) else { continue };
        let our_components = ours.entities().get(net_id).map(|entity| &entity.components);
        for (component, entry) in protocol.components.iter_mut().enumerate() {
            let our_value = our_components.and_then(|components| components.get(&component));
            match their_entity.components.get(&component) {
                Some(value) if new.contains(&entity) => {
                    entry.column.insert(world, entity, &mut Reader::new(value), &replica.map)?;
                }
                Some(value) if our_value != Some(value) => {
                    entry.column.update(world, entity, UpdateKind::Set, &mut Reader::new(value), &replica.map)?;
                }
                None if our_value.is_some() => entry.column.remove(world, entity),
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bevy_app::App;

    use super::*;
    use crate::protocol::ProtocolAppExt;

    #[derive(Component, serde::Serialize, serde::Deserialize)]
    struct Height(u8);

    #[test]
    fn what_is_lost_in_a_room_that_does_not_check_itself_is_not_kept_without_end() {
        let mut app = App::new();
        app.add_plugins(super::super::ReplicaPlugin);
        app.sync::<Height>("height");
        let world = app.world_mut();
        // It was in a room that does.
        agrees(world, 0, &[], &[]);
        let tree = world.spawn((EntityId::named("tree"), NetId(0))).id();
        for _ in 0..=LOSSES_MAX {
            world.entity_mut(tree).insert(Height(2)).remove::<Height>();
        }
        assert_eq!(world.resource::<Lost>().rows.len(), LOSSES_MAX + 1);
        forget_losses(world);
        assert!(world.resource::<Lost>().rows.is_empty() && world.resource::<Replica>().checker.is_none());
        // Few are kept: the next batch may carry a hash.
        world.entity_mut(tree).insert(Height(2)).remove::<Height>();
        forget_losses(world);
        assert_eq!(world.resource::<Lost>().rows.len(), 1);
    }
}
