//! A room that goes on from where another process left it: from its replicated state, and where it stood besides.

use std::any::TypeId;
use std::cell::UnsafeCell;

use bevy_ecs::archetype::Archetype;
use bevy_ecs::change_detection::Tick;
use bevy_ecs::component::ComponentId;
use bevy_ecs::prelude::*;
use bevy_ecs::schedule::ScheduleLabel;
use bevy_time::{Fixed, Time, Virtual};
use thiserror::Error;

use super::audience::{AsStored, Audience};
use super::clock::RoomClock;
use super::collect::{Collector, collect};
use super::index::EntityIndex;
use super::intake::{Member, Members};
use super::ledger::Ledger;
use super::level::{Level, LevelError, watched};
use super::outbox::Outbox;
use super::rewind::recollect;
use super::rng::RoomRng;
use crate::protocol::{
    CodecError, EntityId, FactHead, Identity, NetId, NetMap, Places, Protocol, Reader, RoomId, RoomTick, Roster, SnapshotHead, Staged,
    Standing, State, UpdateKind, Visit, insert_staged, read_snapshot, stage,
};

/// A schedule that runs in a room that goes on from what was stored, where `Startup` would run in a new one: for what the
/// game keeps besides its synced components, and has to work out from them again.
///
/// It alone sees what the room was filled with as added and changed; for other systems that was so before, but what this schedule changes is new to them.
/// Facts that are recorded meanwhile, by it or by observers of what comes in, are not: what is there has happened, and was recorded when it did.
///
/// ```
/// use bevy_app::prelude::*;
/// use roomkeeper::room::Resumed;
/// fn read_the_map() {}
/// fn rules(app: &mut App) {
///     app.add_systems(Startup, read_the_map).add_systems(Resumed, read_the_map);
/// }
/// ```
#[derive(ScheduleLabel, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resumed;

/// Why a room can't go on from what was stored.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// The stored state is malformed, or does not fit the protocol.
    #[error("the stored state can't be read: {0}")]
    Codec(#[from] CodecError),
    /// The stored state, as JSON, can't be loaded.
    #[error(transparent)]
    Level(#[from] LevelError),
    /// The room that was built from the state does not have that state.
    #[error("the room that was rebuilt differs from what was stored: {0}; something changes entities while they are inserted")]
    Differs(String),
}

/// The state from which a room goes on.
#[derive(Clone, Copy, Debug)]
pub enum Scene<'a> {
    /// As its own protocol wrote it: exact.
    Exact(&'a State),
    /// As JSON, from a room with another protocol.
    Json(&'a Level),
}

/// Fills a new world. Gives the snapshot that it was filled from, if it was, and when all was in it. Until it is [settled](settle) no facts are recorded.
pub(crate) fn resume(world: &mut World, scene: Scene<'_>, standing: &Standing) -> Result<(Option<Vec<u8>>, Tick), ResumeError> {
    set_time(world, standing);
    let mut ledger = world.resource_mut::<Ledger>();
    ledger.go_on(standing.next_seq);
    ledger.muted = true;
    world.resource_mut::<EntityIndex>().go_on(standing.next_serial);
    if !standing.rng.is_empty() {
        world.resource_mut::<RoomRng>().go_on(&standing.rng)?;
    }
    let members = standing.members.iter().map(|(user, last)| (*user, Member::at(*last, standing.silent.contains(user))));
    let mut room_members = world.resource_mut::<Members>();
    room_members.by_id.extend(members);
    room_members.next_stay = standing.next_stay;
    let filled_from = match scene {
        Scene::Exact(state) => Some(fill(world, state, standing)?),
        Scene::Json(level) => {
            level.spawn(world)?;
            None
        }
    };
    recollect(world);
    let filled_at = world.increment_change_tick();
    let _ = world.try_run_schedule(Resumed);
    Ok((filled_from, filled_at))
}

/// Takes note that all of what a world was filled with has been told, and seen, before: no batch comes of it, and no system sees it as new.
pub(crate) fn settle(world: &mut World, standing: &Standing, filled_at: Tick) {
    world.flush();
    collect(world);
    drop(std::mem::take(&mut *world.resource_mut::<Outbox>()));
    let mut collector = world.resource_mut::<Collector>();
    (collector.last_batch, collector.last_ordered) = (standing.last_batch, standing.last_batch);
    world.resource_mut::<RoomRng>().take_moved();
    world.clear_trackers();
    // What a level brought in tick 0 no system has seen yet.
    if standing.tick > RoomTick(0) {
        age(world, filled_at);
    }
    world.resource_mut::<Ledger>().muted = false;
}

/// Lets nothing of what was stored count as added or changed: what was to follow from it has followed. What comes with it and was not stored, a plugin's
/// own components for instance, is new in this process, and so are they to that plugin.
///
/// A system that has never run takes for new what is less than [`Tick::MAX`] ticks old, and counts no further than that: what is as old is new to nobody.
#[expect(unsafe_code, reason = "Bevy sets the ticks of one mutable component at a time; relationships, for one, are not mutable")]
fn age(world: &mut World, filled_at: Tick) {
    let now = world.change_tick();
    let old = Tick::new(now.get().wrapping_sub(Tick::MAX.get()));
    let set_back = |tick: &UnsafeCell<Tick>| {
        // SAFETY: the world is borrowed for us alone until we return, so nobody else reads or writes the tick meanwhile.
        let tick = unsafe { &mut *tick.get() };
        if !tick.is_newer_than(filled_at, now) {
            *tick = old;
        }
    };
    let stored: Vec<ComponentId> = {
        let types = world.resource::<Protocol>().components.iter().map(|entry| entry.type_id);
        let built_in = [TypeId::of::<NetId>(), TypeId::of::<EntityId>(), TypeId::of::<Name>()];
        types.chain(built_in).filter_map(|component| world.components().get_id(component)).collect()
    };
    let (storages, net_id) = (world.storages(), world.component_id::<NetId>());
    let synced = |archetype: &&Archetype| net_id.is_some_and(|net_id| archetype.contains(net_id));
    for archetype in world.archetypes().iter().filter(synced) {
        let table = storages.tables.get(archetype.table_id());
        for component in archetype.table_components().filter(|component| stored.contains(component)) {
            let ticks = table.map(|table| [table.get_added_ticks_slice_for(component), table.get_changed_ticks_slice_for(component)]);
            ticks.into_iter().flatten().flatten().flatten().for_each(set_back);
        }
        let sparse = archetype.sparse_set_components().filter(|component| stored.contains(component));
        for set in sparse.filter_map(|component| storages.sparse_sets.get(component)) {
            let ticks = archetype.entities().iter().flat_map(|entity| [set.get_added_tick(entity.id()), set.get_changed_tick(entity.id())]);
            ticks.flatten().for_each(set_back);
        }
    }
}

fn set_time(world: &mut World, standing: &Standing) {
    world.resource_mut::<RoomClock>().tick = standing.tick;
    let Some(before) = standing.tick.0.checked_sub(1) else { return };
    let steps = [RoomClock::STEP * before, RoomClock::STEP];
    for step in steps {
        world.resource_mut::<Time>().advance_by(step);
        world.resource_mut::<Time<Virtual>>().advance_by(step);
        world.resource_mut::<Time<Fixed>>().advance_by(step);
    }
}

/// Fills an empty world with a state. Gives the snapshot of it.
pub(super) fn fill(world: &mut World, state: &State, standing: &Standing) -> Result<Vec<u8>, CodecError> {
    // What comes in has happened: it is not for the observers of what comes in to tell it again, in a prediction neither.
    let muted = std::mem::replace(&mut world.resource_mut::<Ledger>().muted, true);
    let mut protocol = std::mem::take(&mut *world.resource_mut::<Protocol>());
    let snapshot = state.to_snapshot(&protocol, standing.tick, standing.next_seq);
    let mut reader = Reader::new(&snapshot);
    let filled = SnapshotHead::read(&mut reader).and_then(|_| {
        let (room, map) = (state.room(), NetMap::default());
        let (entities, net_ids, staged, hiding) = Default::default();
        let mut fill = Fill { world, protocol: &mut protocol, room, map, entities, net_ids, staged, hiding };
        read_snapshot(&mut reader, &mut fill)
    });
    *world.resource_mut::<Protocol>() = protocol;
    world.resource_mut::<Ledger>().muted = muted;
    filled.map(|()| snapshot)
}

/// Fills a room's world from a snapshot: every entity gets all its components at once.
struct Fill<'a> {
    world: &'a mut World,
    protocol: &'a mut Protocol,
    room: RoomId,
    map: NetMap,
    entities: Vec<Entity>,
    net_ids: Vec<NetId>,
    staged: Vec<Box<dyn Staged>>,
    /// The places of those whose audience is stored.
    hiding: Vec<u32>,
}

/// Audiences are as they are stored, where they are, those at the places `hiding`: whatever a component requires, or a rule's function says of it,
/// somebody may have opened it.
fn open_what_was_open(world: &mut World, entities: &[Entity], hiding: &[u32]) {
    for (place, entity) in entities.iter().enumerate() {
        if hiding.binary_search(&(place as u32)).is_err()
            && let Ok(mut entity) = world.get_entity_mut(*entity)
        {
            entity.remove::<Audience>();
        }
    }
}

impl Visit for Fill<'_> {
    fn create(&mut self, roster: Roster) -> Result<(), CodecError> {
        let (mut ids, mut named, mut names) = (Vec::with_capacity(roster.len()), Vec::new(), Vec::new());
        let mut expected = Vec::with_capacity(roster.len());
        for (place, entry) in roster.into_entries().enumerate() {
            let entity = self.world.spawn_empty().id();
            self.map.set(entry.net_id, entity);
            self.entities.push(entity);
            ids.push(entry.identity.id(self.room));
            self.net_ids.push(entry.net_id);
            if let Identity::Named(name) = &entry.identity {
                named.push(place as u32);
                names.push(Name::new(name.clone()));
            }
            expected.push((entry.net_id, entry.identity));
        }
        self.world.resource_mut::<EntityIndex>().expect(expected.into_iter());
        self.staged.push(stage(self.world, Places::All, self.net_ids.clone()));
        self.staged.push(stage(self.world, Places::All, ids));
        if !named.is_empty() {
            self.staged.push(stage(self.world, Places::Some(named), names));
        }
        Ok(())
    }

    fn column(&mut self, component: usize, members: &[NetId], input: &mut Reader<'_>) -> Result<(), CodecError> {
        let entry = self.protocol.component_at(component, input.at())?;
        let places = if members.len() == self.net_ids.len() {
            Places::All
        } else {
            let place_of = |id: &NetId| self.net_ids.binary_search(id).ok().map(|place| place as u32);
            Places::Some(members.iter().filter_map(place_of).collect())
        };
        if entry.type_id == TypeId::of::<Audience>() {
            let all = 0..self.entities.len() as u32;
            self.hiding =
                all.filter(|place| self.net_ids.get(*place as usize).is_some_and(|id| members.binary_search(id).is_ok())).collect();
        }
        let staged = entry.column.stage(self.world, places, members.len(), input, &self.map)?;
        self.staged.push(staged);
        Ok(())
    }

    fn created(&mut self) -> Result<(), CodecError> {
        let has_audiences = self.protocol.components.iter().any(|entry| entry.type_id == TypeId::of::<Audience>());
        let Self { world, protocol, entities, staged, hiding, .. } = self;
        watched(world, protocol, |world| {
            if has_audiences {
                world.insert_resource(AsStored);
            }
            insert_staged(world, entities, staged, &[]);
            world.flush();
            if has_audiences {
                open_what_was_open(world, entities, hiding);
                world.remove_resource::<AsStored>();
            }
        });
        Ok(())
    }

    fn update(&mut self, _: usize, _: UpdateKind, _: NetId, _: &mut Reader<'_>) -> Result<(), CodecError> {
        Ok(())
    }

    fn remove(&mut self, _: usize, _: NetId) -> Result<(), CodecError> {
        Ok(())
    }

    fn delete(&mut self, _: NetId) -> Result<(), CodecError> {
        Ok(())
    }

    fn fact(&mut self, _: FactHead, _: &mut Reader<'_>) -> Result<(), CodecError> {
        Ok(())
    }

    fn note(&mut self, _: usize, _: usize) -> Result<(), CodecError> {
        Ok(())
    }
}
