//! A room that goes on from where another process left it: from its replicated state, and where it stood besides.

use bevy_ecs::prelude::*;
use bevy_ecs::schedule::ScheduleLabel;
use bevy_time::{Fixed, Time, Virtual};
use thiserror::Error;

use super::clock::RoomClock;
use super::collect::{Collector, collect};
use super::index::EntityIndex;
use super::intake::{Member, Members};
use super::ledger::Ledger;
use super::level::{Level, LevelError};
use super::outbox::Outbox;
use super::rng::RoomRng;
use crate::protocol::{
    CodecError, FactHead, Identity, NetId, NetMap, Places, Protocol, Reader, RoomId, RosterEntry, SnapshotHead, Staged, Standing, State,
    UpdateKind, Visit, insert_staged, read_snapshot, stage,
};

/// A schedule that runs in a room that goes on from what was stored, where `Startup` would run in a new one: for what the
/// game keeps besides its synced components, and has to work out from them again.
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

/// Fills a new world. Gives the snapshot that it was filled from, if it was.
pub(crate) fn resume(world: &mut World, scene: Scene<'_>, standing: &Standing) -> Result<Option<Vec<u8>>, ResumeError> {
    set_time(world, standing);
    world.resource_mut::<Ledger>().go_on(standing.next_seq);
    world.resource_mut::<EntityIndex>().go_on(standing.next_serial);
    if !standing.rng.is_empty() {
        world.resource_mut::<RoomRng>().go_on(&standing.rng)?;
    }
    let members = standing.members.iter().map(|(user, last)| (*user, Member::with_last_command(*last)));
    world.resource_mut::<Members>().by_id.extend(members);
    let filled_from = match scene {
        Scene::Exact(state) => Some(fill(world, state, standing)?),
        Scene::Json(level) => {
            level.spawn(world)?;
            None
        }
    };
    let _ = world.try_run_schedule(Resumed);
    Ok(filled_from)
}

/// Takes note that all of what a world was filled with has been told before: no batch comes of it.
pub(crate) fn settle(world: &mut World, standing: &Standing) {
    world.flush();
    collect(world);
    drop(std::mem::take(&mut *world.resource_mut::<Outbox>()));
    let mut collector = world.resource_mut::<Collector>();
    (collector.last_batch, collector.last_ordered) = (standing.last_batch, standing.last_batch);
    world.resource_mut::<RoomRng>().take_moved();
    world.clear_trackers();
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
    let mut protocol = std::mem::take(&mut *world.resource_mut::<Protocol>());
    let snapshot = state.to_snapshot(&protocol, standing.tick, standing.next_seq);
    let mut reader = Reader::new(&snapshot);
    let filled = SnapshotHead::read(&mut reader).and_then(|_| {
        let (room, map) = (state.room(), NetMap::default());
        let mut fill = Fill { world, protocol: &mut protocol, room, map, entities: Vec::new(), net_ids: Vec::new(), staged: Vec::new() };
        read_snapshot(&mut reader, &mut fill)
    });
    *world.resource_mut::<Protocol>() = protocol;
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
}

impl Visit for Fill<'_> {
    fn create(&mut self, roster: Vec<RosterEntry>) -> Result<(), CodecError> {
        let (mut ids, mut named, mut names) = (Vec::with_capacity(roster.len()), Vec::new(), Vec::new());
        for (place, entry) in roster.into_iter().enumerate() {
            let entity = self.world.spawn_empty().id();
            self.map.set(entry.net_id, entity);
            self.entities.push(entity);
            ids.push(entry.identity.id(self.room));
            self.net_ids.push(entry.net_id);
            if let Identity::Named(name) = entry.identity {
                named.push(place as u32);
                names.push(Name::new(name));
            }
        }
        self.world.resource_mut::<EntityIndex>().expect(&self.net_ids);
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
        let staged = entry.column.stage(self.world, places, members.len(), input, &self.map)?;
        self.staged.push(staged);
        Ok(())
    }

    fn created(&mut self) -> Result<(), CodecError> {
        // The index and the game's own observers ask for the protocol while entities come in.
        std::mem::swap(&mut *self.world.resource_mut::<Protocol>(), self.protocol);
        insert_staged(self.world, self.entities.iter().copied(), &mut self.staged);
        self.world.flush();
        std::mem::swap(&mut *self.world.resource_mut::<Protocol>(), self.protocol);
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
