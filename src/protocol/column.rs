//! A synced component, with its type erased: how its rows are read from a world and written into one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bevy_ecs::change_detection::{ContiguousRef, Tick};
use bevy_ecs::component::Mutable;
use bevy_ecs::entity::EntityHashSet;
use bevy_ecs::prelude::*;
use bevy_ecs::world::DeferredWorld;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::codec::{CodecError, Reader};
use super::ids::{EntityId, NetId};
use super::notice::ComponentChanged;
use super::quantity::{QuantityHooks, StepLog, UpdateKind};
use super::registry::Protocol;
use super::rows::{Lost, LostRow, NetMap, Rows};
use super::staged::{Places, Staged, StagedValues};
use super::wire::{Names, Wire};

/// What every synced component must be.
pub trait SyncComponent: Component + Serialize + DeserializeOwned {}
impl<T: Component + Serialize + DeserializeOwned> SyncComponent for T {}

/// Tells a world's observers what was done to a component.
pub(crate) type Announcement = Box<dyn FnOnce(&mut World)>;

/// A synced component, with its type erased.
pub(crate) trait Column: Send + Sync {
    /// Gathers every row that changed after `since`. `structural` says that entities were created or deleted since: references
    /// that led nowhere may lead somewhere now, and the other way round.
    fn changed(&mut self, world: &World, since: Tick, now: Tick, structural: bool, out: &mut Rows) -> Result<(), CodecError>;
    /// Gathers the net ids of all rows that changed after `since`, each with the tick of the change.
    #[cfg(feature = "client")]
    fn changed_ids(&mut self, world: &World, since: Tick, now: Tick, out: &mut Vec<(u32, Tick)>);
    /// Appends the values of all rows, if the world has them in tables in exactly the order of `ids`. False, and nothing
    /// appended, if it does not.
    fn all_in_order(&mut self, world: &World, ids: &[u32], out: &mut Vec<u8>) -> Result<bool, CodecError>;
    /// Gathers every row.
    fn all(&mut self, world: &World, out: &mut Rows) -> Result<(), CodecError>;
    /// Appends one entity's value, and says when it changed, or `None` if it has none that changed after `since`.
    fn one(&self, world: &World, entity: Entity, since: Option<Tick>, out: &mut Vec<u8>) -> Result<Option<Tick>, CodecError>;
    /// Lets a room's world note in [`Lost`] which entities lose this component, the `index`-th of the protocol.
    fn watch(&self, world: &mut World, index: usize);
    /// Makes relative updates known. `hooks` is the `QuantityHooks` of the column's type.
    fn set_hooks(&mut self, hooks: Box<dyn std::any::Any>);
    /// Forgets the steps that the last batch has told.
    fn restart_steps(&self, world: &mut World, now: Tick);
    /// Inserts a value into an entity that has none.
    #[cfg(feature = "client")]
    fn insert(&self, world: &mut World, entity: Entity, input: &mut Reader<'_>, map: &NetMap) -> Result<(), CodecError>;
    /// Reads a value for each of `count` entities that have none, those at `places`, to be inserted with those of other components.
    fn stage(
        &self,
        world: &mut World,
        places: Places,
        count: usize,
        input: &mut Reader<'_>,
        map: &NetMap,
    ) -> Result<Box<dyn Staged>, CodecError>;
    /// Applies one update to an entity. A `set` gives it the component if it had none.
    fn update(
        &mut self,
        world: &mut World,
        entity: Entity,
        kind: UpdateKind,
        input: &mut Reader<'_>,
        map: &NetMap,
    ) -> Result<(), CodecError>;
    /// Gives an entity a value, and tells nobody.
    #[cfg(feature = "client")]
    fn put(&self, world: &mut World, entity: Entity, input: &mut Reader<'_>, map: &NetMap) -> Result<(), CodecError>;
    /// Removes the component, and tells nobody.
    fn strip(&self, world: &mut World, entity: Entity);
    /// Removes the component.
    fn remove(&mut self, world: &mut World, entity: Entity);
    /// What triggers [`ComponentChanged`] for all that was updated and removed since this was last called, in that order.
    fn announcement(&mut self) -> Option<Announcement>;
    /// Appends the entities that were updated, or lost it, since [`announcement`](Self::announcement) was last called.
    fn touched(&self, out: &mut Vec<Entity>);
    /// True if values may refer to entities.
    fn refers(&self) -> bool;
    /// Reads past one value.
    fn skip(&self, input: &mut Reader<'_>) -> Result<(), CodecError>;
    /// Reads past what an update of a kind has: a value, or the operands of a step.
    fn skip_update(&self, kind: UpdateKind, input: &mut Reader<'_>) -> Result<(), CodecError> {
        if kind == UpdateKind::Set { self.skip(input) } else { self.step_to_json(kind, input).map(drop) }
    }
    /// Reads one value as JSON.
    fn to_json(&self, input: &mut Reader<'_>, names: &dyn Names) -> Result<Value, CodecError>;
    /// Writes one value from JSON.
    fn encode_json(&self, value: &Value, names: &dyn Names, out: &mut Vec<u8>) -> Result<(), CodecError>;
    /// Reads past the operands of a step, and gives them as JSON.
    fn step_to_json(&self, kind: UpdateKind, input: &mut Reader<'_>) -> Result<Value, CodecError>;
    /// Writes the operands of a step from JSON.
    fn step_from_json(&self, kind: UpdateKind, value: &Value, out: &mut Vec<u8>) -> Result<(), CodecError>;
    /// Takes a step on an encoded value.
    fn fold(&self, value: &[u8], kind: UpdateKind, input: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), CodecError>;
}

pub(crate) type WriteFn<T> = fn(&mut World, Entity, T) -> Result<Option<T>, T>;

/// A column of a known type. `C` is how a value becomes bytes.
pub(crate) struct TypedColumn<T: Component, C> {
    rows: QueryState<(&'static NetId, Ref<'static, T>)>,
    dense: QueryState<(&'static NetId, Ref<'static, T>)>,
    pub(crate) wire: C,
    write: WriteFn<T>,
    pub(crate) quantity: Option<QuantityHooks<T>>,
    notices: Vec<(Entity, Option<T>)>,
    /// What the replicas were told of values that refer to entities, so that it shows when a reference leads elsewhere
    /// although nobody wrote it.
    told: BTreeMap<u32, Vec<u8>>,
}

impl<T: Component, C> fmt::Debug for TypedColumn<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedColumn").finish_non_exhaustive()
    }
}

/// Overwrites a mutable component in place and gives the old value back. `Err` gives the new one back if there is none.
pub(crate) fn write_in_place<T: Component<Mutability = Mutable>>(world: &mut World, entity: Entity, value: T) -> Result<Option<T>, T> {
    match world.get_mut::<T>(entity) {
        Some(mut slot) => Ok(Some(std::mem::replace(&mut *slot, value))),
        None => Err(value),
    }
}

/// Overwrites an immutable component by inserting it again, so that its hooks run. The old value is not kept.
pub(crate) fn write_by_insert<T: Component>(world: &mut World, entity: Entity, value: T) -> Result<Option<T>, T> {
    match world.get_entity_mut(entity) {
        Ok(mut entity) if entity.contains::<T>() => {
            entity.insert(value);
            Ok(None)
        }
        _ => Err(value),
    }
}

impl<T: SyncComponent, C: Wire<T>> TypedColumn<T, C> {
    pub(crate) fn new(world: &mut World, wire: C, write: WriteFn<T>) -> Self {
        Self {
            rows: QueryState::new(world),
            dense: QueryState::new(world),
            wire,
            write,
            quantity: None,
            notices: Vec::new(),
            told: BTreeMap::new(),
        }
    }

    /// The rows of dense storage, a table at a time; the 64-row look-ahead is branch-free, so that unchanged rows cost
    /// a comparison of integers each.
    fn changed_dense(&mut self, world: &World, since: Tick, now: Tick, out: &mut Rows) -> Result<bool, CodecError> {
        let age_max = now.get().wrapping_sub(since.get());
        let Ok(tables) = self.dense.contiguous_iter(world) else { return Ok(false) };
        for (ids, values) in tables {
            let ticks = values.changed_ticks_slice();
            let (values, _) = ContiguousRef::split(values);
            for (n, block) in ticks.chunks(64).enumerate() {
                let any = block.iter().fold(false, |any, tick| any | (now.get().wrapping_sub(tick.get()) < age_max));
                if !any {
                    continue;
                }
                let rows = ids.iter().zip(values.iter()).skip(n * 64);
                for ((id, value), tick) in rows.zip(block) {
                    if now.get().wrapping_sub(tick.get()) < age_max {
                        self.wire.encode(value, world, &mut out.bytes)?;
                        out.push(*id, *tick);
                    }
                }
            }
        }
        Ok(true)
    }

    /// The rows one by one, for sparse storage and for quantities that may go out as steps.
    fn changed_sparse(&mut self, world: &World, since: Tick, now: Tick, out: &mut Rows) -> Result<(), CodecError> {
        let log = self.quantity.as_ref().and_then(|hooks| Some((hooks, world.get_resource::<StepLog<T>>()?)));
        for (id, value) in self.rows.query(world) {
            let tick = value.last_changed();
            if !tick.is_newer_than(since, now) {
                continue;
            }
            self.wire.encode(&value, world, &mut out.bytes)?;
            if let Some(steps) = log.and_then(|(hooks, log)| (hooks.logged)(log, *id, &value)) {
                out.steps.push((out.len() as u32, steps.to_vec()));
            }
            out.push(*id, tick);
        }
        Ok(())
    }

    /// The rows whose values refer to entities: those that changed, and those that say something else than was told.
    fn changed_references(&mut self, world: &World, since: Tick, now: Tick, structural: bool, out: &mut Rows) -> Result<(), CodecError> {
        let (known, mut met) = (self.told.len(), 0);
        for (id, value) in self.rows.query(world) {
            let tick = value.last_changed();
            let newer = tick.is_newer_than(since, now);
            if !newer && !structural {
                continue;
            }
            met += usize::from(structural && self.told.contains_key(&id.0));
            let start = out.bytes.len();
            let complete = self.wire.encode(&value, world, &mut out.bytes)?;
            let bytes = out.bytes.get(start..).unwrap_or_default();
            if !complete && C::NEEDS_TARGET {
                out.bytes.truncate(start);
                if self.told.remove(&id.0).is_some() {
                    out.gone.push((id.0, tick));
                }
            } else if newer || self.told.get(&id.0).is_none_or(|told| told != bytes) {
                self.told.insert(id.0, bytes.to_vec());
                out.push(*id, tick);
            } else {
                out.bytes.truncate(start);
            }
        }
        // Nearly always all that were told of are there, and which is not need not be found out.
        if structural && met < known {
            let here: BTreeSet<u32> = self.rows.query(world).iter().map(|(id, _)| id.0).collect();
            self.told.retain(|id, _| here.contains(id));
        }
        Ok(())
    }
}

/// Notes that a living entity loses a component, with the value that it had if that is newer than the last batch.
fn note_loss(index: usize, entity: Entity, world: &mut DeferredWorld<'_>) {
    let Some(id) = world.get::<NetId>(entity).copied() else { return };
    let Some(lost) = world.get_resource::<Lost>() else { return };
    if lost.dying == Some(entity) {
        return;
    }
    let mut value = Vec::new();
    let entry = world.get_resource::<Protocol>().and_then(|protocol| protocol.components.get(index));
    let changed = entry.and_then(|entry| entry.column.one(world, entity, Some(lost.since), &mut value).ok().flatten());
    let row = LostRow { component: index, id, entity, value: changed.map(|tick| (tick, value)) };
    world.resource_mut::<Lost>().rows.push(row);
}

impl<T: SyncComponent, C: Wire<T>> Column for TypedColumn<T, C> {
    fn changed(&mut self, world: &World, since: Tick, now: Tick, structural: bool, out: &mut Rows) -> Result<(), CodecError> {
        let stepped = self.quantity.is_some() && world.get_resource::<StepLog<T>>().is_some_and(StepLog::any);
        if C::REFERS {
            return self.changed_references(world, since, now, structural, out);
        }
        if stepped || !self.changed_dense(world, since, now, out)? {
            self.changed_sparse(world, since, now, out)?;
        }
        Ok(())
    }

    #[cfg(feature = "client")]
    fn changed_ids(&mut self, world: &World, since: Tick, now: Tick, out: &mut Vec<(u32, Tick)>) {
        let age_max = now.get().wrapping_sub(since.get());
        let is_new = |tick: &Tick| now.get().wrapping_sub(tick.get()) < age_max;
        let Ok(tables) = self.dense.contiguous_iter(world) else {
            let rows = self.rows.query(world);
            out.extend(rows.iter().map(|(id, value)| (id.0, value.last_changed())).filter(|(_, tick)| is_new(tick)));
            return;
        };
        for (ids, values) in tables {
            let ticks = values.changed_ticks_slice();
            for (ids, ticks) in ids.chunks(64).zip(ticks.chunks(64)) {
                if ticks.iter().fold(false, |any, tick| any | is_new(tick)) {
                    out.extend(ids.iter().zip(ticks).filter(|(_, tick)| is_new(tick)).map(|(id, tick)| (id.0, *tick)));
                }
            }
        }
    }

    fn all_in_order(&mut self, world: &World, ids: &[u32], out: &mut Vec<u8>) -> Result<bool, CodecError> {
        let (start, mut left) = (out.len(), ids);
        if C::REFERS {
            return Ok(false);
        }
        let Ok(tables) = self.dense.contiguous_iter(world) else { return Ok(false) };
        for (net_ids, values) in tables {
            // Without a way out in the middle the comparison is done by many at once.
            let equal = |here: &[u32]| net_ids.iter().zip(here).fold(0, |differs, (id, here)| differs | (id.0 ^ here)) == 0;
            let in_order = left.split_at_checked(net_ids.len()).filter(|(here, _)| equal(here));
            let Some((_, rest)) = in_order else {
                out.truncate(start);
                return Ok(false);
            };
            left = rest;
            self.wire.encode_all(values.iter(), world, out)?;
        }
        if !left.is_empty() {
            out.truncate(start);
        }
        Ok(left.is_empty() && !ids.is_empty())
    }

    fn refers(&self) -> bool {
        C::REFERS
    }

    fn all(&mut self, world: &World, out: &mut Rows) -> Result<(), CodecError> {
        for (id, value) in self.rows.query(world) {
            let start = out.bytes.len();
            if self.wire.encode(&value, world, &mut out.bytes)? || !C::NEEDS_TARGET {
                out.push(*id, value.last_changed());
            } else {
                out.bytes.truncate(start);
            }
        }
        Ok(())
    }

    fn one(&self, world: &World, entity: Entity, since: Option<Tick>, out: &mut Vec<u8>) -> Result<Option<Tick>, CodecError> {
        let Ok(entity) = world.get_entity(entity) else { return Ok(None) };
        let Some(value) = entity.get_ref::<T>() else { return Ok(None) };
        let changed = value.last_changed();
        if since.is_some_and(|since| !changed.is_newer_than(since, world.read_change_tick())) {
            return Ok(None);
        }
        let start = out.len();
        if self.wire.encode(&value, world, out)? || !C::NEEDS_TARGET {
            return Ok(Some(changed));
        }
        out.truncate(start);
        Ok(None)
    }

    fn watch(&self, world: &mut World, index: usize) {
        world.add_observer(move |removed: On<Remove<T>>, mut world: DeferredWorld| note_loss(index, removed.entity, &mut world));
    }

    fn set_hooks(&mut self, hooks: Box<dyn std::any::Any>) {
        self.quantity = hooks.downcast().ok().map(|hooks| *hooks);
    }

    fn restart_steps(&self, world: &mut World, now: Tick) {
        if let Some(hooks) = &self.quantity {
            (hooks.restart)(world, now);
        }
    }

    fn stage(
        &self,
        world: &mut World,
        places: Places,
        count: usize,
        input: &mut Reader<'_>,
        map: &NetMap,
    ) -> Result<Box<dyn Staged>, CodecError> {
        let mut staged = StagedValues::<T>::with_capacity(world, count);
        let mut left_out = Vec::new();
        for nth in 0..count {
            match self.wire.decode(input, map)? {
                Some(value) => staged.push(value),
                None => left_out.push(nth),
            }
        }
        Ok(staged.at(places.without(count, &left_out)))
    }

    #[cfg(feature = "client")]
    fn insert(&self, world: &mut World, entity: Entity, input: &mut Reader<'_>, map: &NetMap) -> Result<(), CodecError> {
        if let Some(value) = self.wire.decode(input, map)? {
            world.insert_batch([(entity, value)]);
        }
        // What the components' hooks have asked for, the other side of a relationship for instance, is done before anything else.
        world.flush();
        Ok(())
    }

    fn update(
        &mut self,
        world: &mut World,
        entity: Entity,
        kind: UpdateKind,
        input: &mut Reader<'_>,
        map: &NetMap,
    ) -> Result<(), CodecError> {
        if kind != UpdateKind::Set {
            let hooks = self.quantity.as_ref();
            let hooks = hooks.ok_or(CodecError::Unknown { what: "step of a component", value: kind as u64, at: input.at() })?;
            let old = (hooks.apply)(world, entity, kind, input)?;
            self.notices.push((entity, Some(old)));
            return Ok(());
        }
        let Some(value) = self.wire.decode(input, map)? else {
            self.remove(world, entity);
            return Ok(());
        };
        let old = (self.write)(world, entity, value).unwrap_or_else(|value| {
            if let Ok(mut entity) = world.get_entity_mut(entity) {
                entity.insert(value);
            }
            None
        });
        self.notices.push((entity, old));
        Ok(())
    }

    #[cfg(feature = "client")]
    fn put(&self, world: &mut World, entity: Entity, input: &mut Reader<'_>, map: &NetMap) -> Result<(), CodecError> {
        let Some(value) = self.wire.decode(input, map)? else {
            self.strip(world, entity);
            return Ok(());
        };
        if let Err(value) = (self.write)(world, entity, value)
            && let Ok(mut entity) = world.get_entity_mut(entity)
        {
            entity.insert(value);
        }
        Ok(())
    }

    fn strip(&self, world: &mut World, entity: Entity) {
        if let Ok(mut target) = world.get_entity_mut(entity) {
            target.remove::<T>();
        }
    }

    fn remove(&mut self, world: &mut World, entity: Entity) {
        if let Ok(mut target) = world.get_entity_mut(entity)
            && let Some(old) = target.take::<T>()
        {
            self.notices.push((entity, Some(old)));
        }
    }

    fn announcement(&mut self) -> Option<Announcement> {
        if self.notices.is_empty() {
            return None;
        }
        let notices = std::mem::take(&mut self.notices);
        Some(Box::new(move |world| {
            let key = world.register_event_key::<ComponentChanged<T>>();
            if world.observers().try_get_observers(key).is_none() {
                return;
            }
            // Several steps in one batch are one change: from the value before the first to the one after the last.
            let mut told = EntityHashSet::default();
            for (entity, old) in notices.into_iter().filter(|(entity, _)| told.insert(*entity)) {
                let Ok(target) = world.get_entity(entity) else { continue };
                let id = target.get::<EntityId>().copied().unwrap_or_default();
                let removed = !target.contains::<T>();
                world.trigger(ComponentChanged { entity, id, old, removed });
            }
        }))
    }

    fn touched(&self, out: &mut Vec<Entity>) {
        out.extend(self.notices.iter().map(|(entity, _)| *entity));
    }

    fn skip(&self, input: &mut Reader<'_>) -> Result<(), CodecError> {
        self.wire.skip(input)
    }

    fn to_json(&self, input: &mut Reader<'_>, names: &dyn Names) -> Result<Value, CodecError> {
        self.wire.to_json(input, names)
    }

    fn encode_json(&self, value: &Value, names: &dyn Names, out: &mut Vec<u8>) -> Result<(), CodecError> {
        self.wire.encode_json(value, names, out)
    }

    fn step_to_json(&self, kind: UpdateKind, input: &mut Reader<'_>) -> Result<Value, CodecError> {
        let hooks = self.quantity.as_ref();
        let hooks = hooks.ok_or(CodecError::Unknown { what: "step of a component", value: kind as u64, at: input.at() })?;
        (hooks.to_json)(kind, input)
    }

    fn step_from_json(&self, kind: UpdateKind, value: &Value, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let hooks = self.quantity.as_ref();
        let hooks = hooks.ok_or(CodecError::Unknown { what: "step of a component", value: kind as u64, at: 0 })?;
        (hooks.from_json)(kind, value, out)
    }

    fn fold(&self, value: &[u8], kind: UpdateKind, input: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let hooks = self.quantity.as_ref();
        let hooks = hooks.ok_or(CodecError::Unknown { what: "step of a component", value: kind as u64, at: input.at() })?;
        let folded = self.wire.decode(&mut Reader::new(value), &NetMap::default())?;
        let mut folded = folded.ok_or(CodecError::Unknown { what: "component to step", value: 0, at: input.at() })?;
        (hooks.fold)(&mut folded, kind, input)?;
        self.wire.encode_detached(&folded, out)
    }
}
