//! The shadow as a copy of the replica: only what was touched, on either side, is set again.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use bevy_ecs::entity::EntityHashMap;
use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;

use crate::client::{Replica, Touches};
use crate::protocol::{CodecError, Delivery, EntityId, NetId, NetMap, Protocol, Reader};
use crate::room::{EntityIndex, Foreign, Ledger, Shadow, Touched, stood};

/// Most values of one component that wait for the batches of their ticks.
const AHEAD_MAX: usize = 64;

/// A value of a `latest` component, as of a tick.
pub(super) type Stand = (u32, Option<Vec<u8>>);

/// A value of which the replica has one that is newer than its batches: what is known of it, tick by tick. Commands whose answers are not here yet
/// may be in the newer ones.
#[derive(Debug)]
struct Track {
    base: Stand,
    ahead: VecDeque<Stand>,
}

/// An entity of the shadow that stands for one of the replica, with the numbers that the two have.
#[derive(Clone, Copy, Debug)]
struct Pair {
    twin: Entity,
    net_id: NetId,
    twin_net_id: NetId,
}

/// What was done to the shadow that is to be put back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Undo<'a> {
    pub(super) touched: &'a Touched,
    pub(super) foreign: &'a Foreign,
    /// The tick as of which the replica's values are.
    pub(super) base: u32,
}

/// Which entity of the shadow stands for which of the replica, and which values don't count yet.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    /// By the replica's net ids: entities of the shadow.
    to_shadow: NetMap,
    /// By the shadow's net ids: entities of the replica.
    pub(super) to_replica: NetMap,
    pairs: EntityHashMap<Pair>,
    back: EntityHashMap<Entity>,
    tracks: BTreeMap<(usize, Entity), Track>,
    /// Rows of the replica that are to be set again.
    dirty: Vec<(usize, Entity)>,
    bytes: Vec<u8>,
}

/// Lets nothing be recorded in a shadow, or something again. Gives how it was. A client's own world records nothing.
fn mute(world: &mut World, muted: bool) -> bool {
    world.get_resource_mut::<Ledger>().is_some_and(|mut ledger| std::mem::replace(&mut ledger.muted, muted))
}

/// Takes the protocol out of a world while its columns work on the world. What comes in has happened: observers of what comes and goes don't record it again.
pub(super) fn with_columns<T>(world: &mut World, act: impl FnOnce(&mut World, &mut Protocol) -> T) -> T {
    let muted = mute(world, true);
    let mut protocol = std::mem::take(&mut *world.resource_mut::<Protocol>());
    let done = catch_unwind(AssertUnwindSafe(|| act(world, &mut protocol)));
    *world.resource_mut::<Protocol>() = protocol;
    mute(world, muted);
    done.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Sets a component to an encoded value, or removes it, and tells nobody.
pub(super) fn put(
    world: &mut World,
    protocol: &Protocol,
    (component, entity): (usize, Entity),
    value: Option<&[u8]>,
    map: &NetMap,
) -> Result<(), CodecError> {
    let Some(entry) = protocol.components.get(component) else { return Ok(()) };
    match value {
        Some(value) => entry.column.put(world, entity, &mut Reader::new(value), map),
        None => {
            entry.column.strip(world, entity);
            Ok(())
        }
    }
}

/// A component's value, encoded.
pub(super) fn value_of(world: &World, protocol: &Protocol, (component, entity): (usize, Entity)) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let entry = protocol.components.get(component)?;
    entry.column.one(world, entity, None, &mut out).ok().flatten().map(|_| out)
}

impl Mirror {
    /// The entity of the replica that one of the shadow stands for.
    pub(super) fn replica_entity(&self, shadow: Entity) -> Option<Entity> {
        self.back.get(&shadow).copied()
    }

    /// The entity of the shadow that stands for one of the replica.
    pub(super) fn shadow_entity(&self, entity: Entity) -> Option<Entity> {
        self.pairs.get(&entity).map(|pair| pair.twin)
    }

    /// By the replica's net ids: entities of the shadow.
    pub(super) fn to_shadow(&self) -> &NetMap {
        &self.to_shadow
    }

    /// Rows of the replica of which another value may count than when the shadow was set last, besides those that messages touched.
    pub(super) fn unsure(&self) -> impl Iterator<Item = (usize, Entity)> + '_ {
        self.dirty.iter().chain(self.tracks.keys()).copied()
    }

    /// What the shadow has is what counts.
    pub(super) fn is_sure(&mut self) {
        self.dirty.clear();
    }

    fn pair(&mut self, entity: Entity, pair: Pair) {
        self.to_shadow.set(pair.net_id, pair.twin);
        self.to_replica.set(pair.twin_net_id, entity);
        self.pairs.insert(entity, pair);
        self.back.insert(pair.twin, entity);
    }

    fn part(&mut self, entity: Entity) -> Option<Entity> {
        let Pair { twin, net_id, twin_net_id } = self.pairs.remove(&entity)?;
        self.back.remove(&twin);
        // The numbers may stand for others by now.
        if self.to_shadow.get(net_id) == Some(twin) {
            self.to_shadow.unset(net_id);
        }
        if self.to_replica.get(twin_net_id) == Some(entity) {
            self.to_replica.unset(twin_net_id);
        }
        Some(twin)
    }

    /// Takes note that the shadow was filled anew.
    pub(super) fn refilled(&mut self, world: &World, replica: &Replica, shadow: &World) {
        *self = Self::default();
        let index = shadow.resource::<EntityIndex>();
        for (net_id, entity) in replica.map.iter() {
            let id = world.get::<EntityId>(entity).copied().unwrap_or_default();
            let Some(twin) = index.entity(id) else { continue };
            let twin_net_id = shadow.get::<NetId>(twin).copied().unwrap_or_default();
            self.pair(entity, Pair { twin, net_id, twin_net_id });
        }
    }

    /// Puts everything back that was touched in the shadow, and takes over what messages did to the replica.
    pub(super) fn rewind(
        &mut self,
        world: &World,
        (protocol, replica): (&Protocol, &mut Replica),
        shadow: &mut Shadow,
        undo: Undo<'_>,
    ) -> Result<(), CodecError> {
        let mut touches = replica.touches.as_mut().map(std::mem::take).unwrap_or_default();
        let replica: &Replica = replica;
        let revived = with_columns(shadow.world_mut(), |shadow, columns| {
            let revived = self.bury(shadow, &mut touches, undo.touched);
            self.take_in(world, (protocol, replica), (shadow, columns), &touches, undo.base)?;
            let mut rows = std::mem::take(&mut self.dirty);
            let undone = undo.touched.rows.iter().chain(undo.foreign.keys());
            rows.extend(undone.filter_map(|(component, twin)| Some((*component, self.replica_entity(*twin)?))));
            rows.extend(&touches.values);
            rows.extend(self.tracks.keys());
            if revived {
                // What referred to one that died refers to nobody now.
                let refers = (0..).zip(&protocol.components).filter(|(_, entry)| entry.column.refers());
                rows.extend(refers.flat_map(|(component, _)| self.pairs.keys().map(move |entity| (component, *entity))));
            }
            rows.sort_unstable();
            rows.dedup();
            for row in rows {
                self.set(world, (protocol, replica), (shadow, columns), row, undo.base)?;
            }
            Ok::<_, CodecError>(revived)
        })?;
        if revived || !touches.added.is_empty() || !touches.gone.is_empty() {
            shadow.note_members();
        }
        Ok(())
    }

    /// Despawns what came in the shadow and what is gone from the replica, and enables what was disabled. Whatever else died in the shadow, by
    /// itself or with one of those, is noted to be taken in again, if the replica has it. Gives whether anything is back.
    fn bury(&mut self, shadow: &mut World, touches: &mut Touches, touched: &Touched) -> bool {
        for birth in &touched.born {
            self.to_replica.unset(birth.net_id);
            if birth.lives {
                despawn(shadow, birth.entity);
            }
        }
        for entity in &touches.gone {
            self.tracks.retain(|(_, tracked), _| tracked != entity);
            let twin = self.part(*entity);
            twin.into_iter().for_each(|twin| despawn(shadow, twin));
        }
        let index = shadow.resource::<EntityIndex>();
        let twins = index.deaths.iter().filter_map(|death| index.slot(death.id)).map(|slot| slot.entity);
        let dead: Vec<Entity> = twins.filter_map(|twin| self.replica_entity(twin)).collect();
        for entity in &dead {
            self.part(*entity);
        }
        // The replica has nobody who is disabled.
        let toggled = index.toggled.iter().filter_map(|id| index.slot(*id)).map(|slot| slot.entity);
        let disabled: Vec<Entity> = toggled.filter(|twin| shadow.get::<Disabled>(*twin).is_some()).collect();
        let revived = !dead.is_empty() || !disabled.is_empty();
        for twin in disabled {
            shadow.entity_mut(twin).remove::<Disabled>();
        }
        touches.added.extend(dead);
        revived
    }

    /// Copies entities into the shadow.
    fn take_in(
        &mut self,
        world: &World,
        (protocol, replica): (&Protocol, &Replica),
        (shadow, columns): (&mut World, &Protocol),
        touches: &Touches,
        base: u32,
    ) -> Result<(), CodecError> {
        let mut new = Vec::new();
        for entity in &touches.added {
            let Ok(source) = world.get_entity(*entity) else { continue };
            let (Some(id), Some(net_id)) = (source.get::<EntityId>(), source.get::<NetId>()) else { continue };
            if replica.map.get(*net_id) != Some(*entity) || self.pairs.contains_key(entity) {
                continue;
            }
            let twin = match source.get::<Name>() {
                Some(name) => shadow.spawn((name.clone(), *id)).id(),
                None => shadow.spawn(*id).id(),
            };
            let twin_net_id = shadow.get::<NetId>(twin).copied().unwrap_or_default();
            self.pair(*entity, Pair { twin, net_id: *net_id, twin_net_id });
            new.push((*entity, twin));
        }
        for (entity, twin) in new {
            for (component, (from, to)) in protocol.components.iter().zip(&columns.components).enumerate() {
                self.bytes.clear();
                if from.column.one(world, entity, None, &mut self.bytes)?.is_some() {
                    to.column.insert(shadow, twin, &mut Reader::new(&self.bytes), &self.to_shadow)?;
                    let as_of = self.as_of((protocol, replica), (component, entity), base);
                    stood(shadow, to.type_id, twin, as_of);
                }
            }
        }
        Ok(())
    }

    /// Since which tick a component of the replica is what it is, as far as is known.
    fn as_of(&self, (protocol, replica): (&Protocol, &Replica), (component, entity): (usize, Entity), base: u32) -> u32 {
        let latest = protocol.components.get(component).is_some_and(|entry| entry.delivery == Delivery::Latest);
        self.pairs.get(&entity).filter(|_| latest).map_or(base, |pair| replica.versions.of(component, pair.net_id))
    }

    /// Sets one component of the shadow to what counts, and did as of the end of a tick.
    fn set(
        &mut self,
        world: &World,
        (protocol, replica): (&Protocol, &Replica),
        (shadow, columns): (&mut World, &Protocol),
        (component, entity): (usize, Entity),
        base: u32,
    ) -> Result<(), CodecError> {
        let Some(twin) = self.shadow_entity(entity) else { return Ok(()) };
        let (Some(from), Some(to)) = (protocol.components.get(component), columns.components.get(component)) else { return Ok(()) };
        self.bytes.clear();
        let (as_of, value) = match self.tracks.get(&(component, entity)) {
            Some(track) => (track.base.0, track.base.1.as_deref()),
            None => {
                let has = from.column.one(world, entity, None, &mut self.bytes)?.is_some();
                (self.as_of((protocol, replica), (component, entity), base), has.then_some(self.bytes.as_slice()))
            }
        };
        put(shadow, columns, (component, twin), value, &self.to_shadow)?;
        stood(shadow, to.type_id, twin, as_of);
        Ok(())
    }

    /// The replica has a value that is newer than its batches. `before` is the one that it had.
    pub(super) fn hold(&mut self, row: (usize, Entity), before: &Stand, newer: Stand) {
        let track = self.tracks.entry(row).or_insert_with(|| Track { base: before.clone(), ahead: VecDeque::new() });
        track.ahead.push_back(newer);
        if track.ahead.len() > AHEAD_MAX {
            track.base = track.ahead.pop_front().unwrap_or_default();
        }
    }

    /// The batches of a tick are in: values up to it count.
    pub(super) fn release(&mut self, tick: u32) {
        let dirty = &mut self.dirty;
        self.tracks.retain(|row, track| {
            while let Some(stand) = track.ahead.pop_front_if(|(version, _)| *version <= tick) {
                track.base = stand;
            }
            if track.ahead.is_empty() {
                dirty.push(*row);
            }
            !track.ahead.is_empty()
        });
    }

    /// The value that counts, if that is not the replica's own.
    pub(super) fn held(&self, row: (usize, Entity)) -> Option<&Stand> {
        self.tracks.get(&row).map(|track| &track.base)
    }
}

fn despawn(world: &mut World, entity: Entity) {
    if let Ok(entity) = world.get_entity_mut(entity) {
        entity.despawn();
    }
    world.flush();
}
