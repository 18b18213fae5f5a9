//! What is predicted, shown in the replica's own entities; and taken back before anything is applied to them.

use std::collections::{BTreeMap, BTreeSet};

use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;

use super::engine::{Predictor, with_replica};
use super::mirror::{put, value_of};
use super::smooth::Smoothers;
use crate::client::{Connection, Predicted, Replica};
use crate::protocol::{CodecError, CommandId, Delivery, EntityAdded, EntityId, EntityRemoved, NetId, Protocol, Removal};
use crate::room::Birth;

/// A component of the replica that is predicted, and what the room says of it.
#[derive(Debug)]
pub(super) struct Shown {
    row: (usize, Entity),
    theirs: Option<Vec<u8>>,
    version: u32,
    written: bool,
}

/// Entities that came ahead of the room, and such that don't come after all.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    added: Vec<(Entity, EntityId)>,
    removed: Vec<(Entity, EntityId)>,
}

impl Arrivals {
    /// Tells the observers.
    pub(super) fn announce(self, world: &mut World) {
        for (entity, id) in self.added {
            world.trigger(EntityAdded { entity, id });
        }
        for (entity, id) in self.removed {
            world.trigger(EntityRemoved { entity, id, why: Removal::Gone });
            if let Ok(entity) = world.get_entity_mut(entity) {
                entity.despawn();
            }
        }
        world.flush();
    }
}

impl Predictor {
    /// Lets the replica's entities have what the room says.
    pub(super) fn take_back(&mut self, world: &mut World) -> Result<(), CodecError> {
        if self.shown.is_empty() && self.hidden.is_empty() {
            return Ok(());
        }
        self.is_bare = true;
        with_replica(world, |world, protocol, replica| {
            for shown in self.shown.drain(..) {
                if shown.written {
                    put(world, protocol, shown.row, shown.theirs.as_deref(), &replica.map)?;
                }
                self.before.insert(shown.row, (shown.version, shown.theirs));
            }
            for entity in self.hidden.drain(..) {
                if let Ok(mut entity) = world.get_entity_mut(entity) {
                    entity.remove::<Disabled>();
                }
            }
            Ok(())
        })
    }

    /// Shows what the shadow says. What was shown before was taken back.
    pub(super) fn show(&mut self, world: &mut World) -> Result<Arrivals, CodecError> {
        self.before.clear();
        self.is_bare = false;
        self.pending.iter_mut().for_each(|pending| pending.is_shown = true);
        let arrivals = with_replica(world, |world, protocol, replica| {
            let arrivals = self.show_births(world, protocol, replica)?;
            for at in 0..self.touched.rows.len() {
                let Some((component, twin)) = self.touched.rows.get(at).copied() else { continue };
                let Some(entity) = self.mirror.replica_entity(twin) else { continue };
                self.show_row(world, (protocol, replica), (component, entity), twin)?;
            }
            for (_, twin) in &self.touched.dead {
                let Some(entity) = self.mirror.replica_entity(*twin) else { continue };
                hide(world, with_its_own(world, entity), &mut self.hidden);
            }
            self.smooth(world, protocol, replica);
            Ok::<_, CodecError>(arrivals)
        })?;
        Ok(arrivals)
    }

    /// Shows entities that the shadow has and the room has not yet; those that it no longer has are let go.
    fn show_births(&mut self, world: &mut World, protocol: &mut Protocol, replica: &mut Replica) -> Result<Arrivals, CodecError> {
        let mut arrivals = Arrivals::default();
        let mut born: Vec<(Birth, Entity)> = Vec::new();
        let births = self.pending.iter().flat_map(|pending| pending.births.iter().map(|birth| (*birth, pending.id)));
        let commands: BTreeMap<EntityId, CommandId> = if self.touched.born.is_empty() { BTreeMap::new() } else { births.collect() };
        let shadow = self.shadow.world();
        for birth in self.touched.born.iter().filter(|birth| !birth.minted && !replica.by_id.contains_key(&birth.id)) {
            let Some(command) = commands.get(&birth.id).copied() else { continue };
            // Who was disabled is dead, as in the room.
            let birth = Birth { lives: birth.lives && shadow.get::<Disabled>(birth.entity).is_none(), ..*birth };
            let known = replica.ahead.get(&birth.id).copied().filter(|entity| world.get_entity(*entity).is_ok());
            // What came and went between two looks was never seen.
            if known.is_none() && !birth.lives {
                continue;
            }
            let entity = known.unwrap_or_else(|| {
                let entity = world.spawn((birth.id, Predicted { command })).id();
                arrivals.added.push((entity, birth.id));
                replica.ahead.insert(birth.id, entity);
                entity
            });
            if birth.lives {
                self.mirror.to_replica.set(birth.net_id, entity);
            }
            born.push((birth, entity));
        }
        for (birth, entity) in &born {
            let Ok(mut target) = world.get_entity_mut(*entity) else { continue };
            match (birth.lives, target.contains::<Disabled>()) {
                (true, true) => drop(target.remove::<Disabled>()),
                // It came and went before the room has even heard of it. The room's may come yet.
                (false, false) => drop(target.insert(Disabled)),
                _ => {}
            }
            // They are seen again when all is taken back, as what else is hidden.
            let own = if birth.lives { Vec::new() } else { with_its_own(world, *entity) };
            hide(world, own.into_iter().skip(1), &mut self.hidden);
            for component in (0..protocol.components.len()).filter(|_| birth.lives) {
                let ours = value_of(shadow, shadow.resource::<Protocol>(), (component, birth.entity));
                if ours != value_of(world, protocol, (component, *entity)) {
                    put(world, protocol, (component, *entity), ours.as_deref(), &self.mirror.to_replica)?;
                }
            }
        }
        let lives: BTreeSet<EntityId> = born.iter().map(|(birth, _)| birth.id).collect();
        let mut gone: Vec<(Entity, EntityId)> =
            replica.ahead.iter().filter(|(id, _)| !lives.contains(*id)).map(|(id, entity)| (*entity, *id)).collect();
        gone.sort_unstable_by_key(|(_, id)| *id);
        for (entity, id) in &gone {
            replica.ahead.remove(id);
            if let Ok(mut entity) = world.get_entity_mut(*entity) {
                entity.remove::<Disabled>();
            }
        }
        arrivals.removed = gone;
        Ok(arrivals)
    }

    fn show_row(
        &mut self,
        world: &mut World,
        (protocol, replica): (&mut Protocol, &Replica),
        row: (usize, Entity),
        twin: Entity,
    ) -> Result<(), CodecError> {
        let Some(entry) = protocol.components.get(row.0) else { return Ok(()) };
        let (latest, refers) = (entry.delivery == Delivery::Latest, entry.column.refers());
        let shadow = self.shadow.world();
        let ours = value_of(shadow, shadow.resource::<Protocol>(), (row.0, twin));
        let theirs = value_of(world, protocol, row);
        let written = refers || ours != theirs;
        if written {
            put(world, protocol, row, ours.as_deref(), &self.mirror.to_replica)?;
        }
        if written || latest {
            let version = world.get::<NetId>(row.1).map_or(0, |id| replica.versions.of(row.0, *id));
            self.shown.push(Shown { row, theirs, version, written });
        }
        Ok(())
    }

    /// Lets corrections fade.
    fn smooth(&mut self, world: &mut World, protocol: &Protocol, replica: &Replica) {
        let now = world.resource::<Connection>().now();
        world.resource_scope(|world, mut smoothers: Mut<Smoothers>| {
            let share = smoothers.share(now);
            let mut places: BTreeMap<(usize, Entity), usize> =
                if smoothers.all.is_empty() { BTreeMap::new() } else { self.shown.iter().map(|shown| shown.row).zip(0..).collect() };
            for smooth in &mut smoothers.all {
                let Some(component) = protocol.components.iter().position(|entry| entry.type_id == (**smooth).type_id()) else { continue };
                let of_rows = self.touched.rows.iter().filter(|(touched, _)| *touched == component);
                let entities = of_rows.filter_map(|(_, twin)| self.mirror.replica_entity(*twin));
                let named = entities.filter_map(|entity| Some((entity, *world.get::<EntityId>(entity)?)));
                let predicted: BTreeMap<Entity, EntityId> = named.chain(replica.ahead.iter().map(|(id, entity)| (*entity, *id))).collect();
                let mut rows: Vec<(Entity, EntityId, bool)> = predicted.iter().map(|(entity, id)| (*entity, *id, true)).collect();
                let fading = smooth.shown().into_iter().filter(|(entity, _)| !predicted.contains_key(entity));
                rows.extend(fading.filter(|(entity, _)| world.get_entity(*entity).is_ok()).map(|(entity, id)| (entity, id, false)));
                for (entity, ..) in rows.iter().filter(|(_, id, _)| !replica.ahead.contains_key(id)) {
                    let row = (component, *entity);
                    let at = *places.entry(row).or_insert_with(|| {
                        let version = world.get::<NetId>(*entity).map_or(0, |id| replica.versions.of(component, *id));
                        self.shown.push(Shown { row, theirs: value_of(world, protocol, row), version, written: true });
                        self.shown.len() - 1
                    });
                    self.shown.get_mut(at).into_iter().for_each(|shown| shown.written = true);
                }
                smooth.show(world, self.shadow.world(), &rows, share);
            }
        });
    }
}

/// Takes entities out of sight, and notes which, for when all is taken back.
fn hide(world: &mut World, entities: impl IntoIterator<Item = Entity>, hidden: &mut Vec<Entity>) {
    for entity in entities {
        if let Ok(mut target) = world.get_entity_mut(entity) {
            target.insert(Disabled);
            hidden.push(entity);
        }
    }
}

/// An entity, and what the game has hung on it: its descendants, but for those that are the room's, or out of sight already.
fn with_its_own(world: &World, entity: Entity) -> Vec<Entity> {
    let (mut all, mut at) = (vec![entity], 0);
    while let Some(of) = all.get(at).copied() {
        at += 1;
        for child in world.get::<Children>(of).into_iter().flatten() {
            let is_own =
                |child: EntityRef<'_>| !child.contains::<NetId>() && !child.contains::<Predicted>() && !child.contains::<Disabled>();
            if world.get_entity(*child).is_ok_and(is_own) {
                all.push(*child);
            }
        }
    }
    all
}
