//! What a tick changed of which not everybody may know, and the message that tells one member its share of it.
//!
//! The values are encoded once, by [`collect`](super::collect); a member's message is put together from them. What comes into a member's
//! sight is encoded anew, and so are values that refer to entities of which it may not know.

use std::collections::BTreeMap;

use bevy_ecs::change_detection::Tick;
use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::audience::{ViewerId, Viewers};
use super::index::EntityIndex;
use super::snapshot::write_snapshot;
use crate::protocol::{
    CREATES, ComponentAudience, DELETES, FACTS, FactHead, HiddenFrom, LEFT, NetId, Protocol, Recorded, RoomTick, RosterWriter, Rows,
    UPDATES, write_column, write_net_ids, write_private_head, write_removals, write_updates, write_varint,
};

/// One value of one entity.
#[derive(Clone, Copy, Debug)]
struct Row {
    component: u16,
    id: u32,
    /// Where the value stands; nowhere if the component was removed.
    value: Option<(u32, u32)>,
}

/// A fact, and the restricted entities that it names.
#[derive(Debug, Default)]
pub(crate) struct NamedByFact {
    pub(crate) named: Vec<NetId>,
    pub(crate) author: Option<NetId>,
}

/// What the last tick changed of which not everybody may know. A resource of a room.
#[derive(Resource, Debug, Default)]
pub(crate) struct Private {
    /// Whether there is anything at all in the room of which not everybody may know.
    pub(crate) secretive: bool,
    rows: Vec<Row>,
    bytes: Vec<u8>,
    /// For each fact of the tick, if one of them names somebody of whom not everybody may know: no batch tells them then.
    pub(crate) facts: Vec<NamedByFact>,
    /// Components whose values refer to entities. In a secretive room each member is told its own.
    refer: Vec<bool>,
    audiences: Vec<ComponentAudience>,
}

impl Private {
    /// Begins a tick.
    pub(crate) fn begin(&mut self, protocol: &Protocol, index: &EntityIndex) {
        if self.audiences.len() != protocol.components.len() {
            self.audiences = protocol.components.iter().map(|entry| entry.audience).collect();
            self.refer = protocol.components.iter().map(|entry| entry.column.refers()).collect();
        }
        let of_components = self.audiences.iter().any(|audience| *audience != ComponentAudience::Everyone);
        self.secretive = of_components || index.any_restricted();
        self.rows.clear();
        self.bytes.clear();
        self.facts.clear();
    }

    /// True if no batch tells of a component: its audience is not everyone, or each member is told its own.
    pub(crate) fn is_private(&self, component: usize) -> bool {
        self.secretive && (self.refer.get(component) == Some(&true) || self.audiences.get(component) != Some(&ComponentAudience::Everyone))
    }

    pub(crate) fn set(&mut self, component: usize, id: u32, value: &[u8]) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        self.rows.push(Row { component: component as u16, id, value: Some((start, self.bytes.len() as u32)) });
    }

    pub(crate) fn removed(&mut self, component: usize, id: u32) {
        self.rows.push(Row { component: component as u16, id, value: None });
    }

    fn audience(&self, component: usize) -> ComponentAudience {
        self.audiences.get(component).copied().unwrap_or_default()
    }
}

/// What one member was told of values that refer to entities which are not for everybody, by component and net id.
pub(crate) type ToldReferences = BTreeMap<(u16, u32), Vec<u8>>;

/// What it takes to write messages for single members, kept for its buffers.
#[derive(Debug, Default)]
pub(crate) struct PrivateWriter {
    rows: Rows,
    picks: Vec<usize>,
    /// Entities that lost the component.
    removed: Vec<u32>,
    roster: RosterWriter,
    creates: Vec<u8>,
    updates: Vec<u8>,
    value: Vec<u8>,
    /// The rows that read otherwise for those who don't see everything. Once per tick.
    masked: Vec<(u16, u32)>,
    masked_at: Option<RoomTick>,
}

/// For whom a message is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beholder<'a> {
    pub(crate) viewers: &'a Viewers,
    pub(crate) viewer: ViewerId,
}

impl Beholder<'_> {
    /// True if an entity has come into its sight in this tick.
    pub(crate) fn is_new(&self, id: u32) -> bool {
        self.viewers.entered(self.viewer).binary_search(&NetId(id)).is_ok()
    }

    /// True if something came into its sight, left it, or changed hands in it.
    fn sees_otherwise(&self) -> bool {
        let (viewers, viewer) = (self.viewers, self.viewer);
        let sight = [viewers.entered(viewer), viewers.left(viewer), viewers.gone(viewer)];
        sight.into_iter().chain([viewers.gained(viewer), viewers.lost(viewer)]).any(|ids| !ids.is_empty())
    }

    /// True if it may know of a component of an entity.
    pub(crate) fn may_have(&self, id: u32, audience: ComponentAudience) -> bool {
        let id = NetId(id);
        self.viewers.sees(self.viewer, id) && self.viewers.may_have(self.viewer, id, audience)
    }
}

impl PrivateWriter {
    /// Appends what a member is told of a tick beside the batch for all. False if that need not be sent.
    pub(crate) fn write(
        &mut self,
        world: &mut World,
        tick: RoomTick,
        beholder: Beholder<'_>,
        told: &mut ToldReferences,
        (facts, batch_follows): (&[Recorded], bool),
        out: &mut Vec<u8>,
    ) -> bool {
        let private = std::mem::take(&mut *world.resource_mut::<Private>());
        let mut protocol = std::mem::take(&mut *world.resource_mut::<Protocol>());
        let Beholder { viewers, viewer } = beholder;
        // References are worth a look only where one changed, or the member sees otherwise than before.
        let changed = || private.rows.iter().any(|row| private.refer.get(usize::from(row.component)) == Some(&true));
        if private.refer.contains(&true) && (beholder.sees_otherwise() || changed()) {
            self.find_masked(world, &mut protocol, &private, tick, viewers);
            world.insert_resource(HiddenFrom { words: viewers.hidden_from(viewer) });
        }
        let entered = viewers.entered(viewer);
        let columns = self.write_creates(world, &protocol, &private, beholder, told);
        let sections = self.write_sections(world, &protocol, &private, beholder, told);
        world.remove_resource::<HiddenFrom>();
        let ascending = |ids: &[NetId]| {
            let mut ids: Vec<u32> = ids.iter().map(|id| id.get()).collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let (deletes, mut left) = (ascending(viewers.gone(viewer)), ascending(viewers.left(viewer)));
        left.retain(|id| deletes.binary_search(id).is_err());
        told.retain(|(_, id), _| deletes.binary_search(id).is_err() && left.binary_search(id).is_err());
        let seen = |fact: &NamedByFact| fact.named.iter().all(|id| viewers.knew(viewer, *id));
        let facts: Vec<_> = facts.iter().zip(&private.facts).filter(|(_, named)| seen(named)).collect();
        let flag = |present: bool, flag: u8| if present { flag } else { 0 };
        let flags = flag(!entered.is_empty(), CREATES)
            | flag(sections > 0, UPDATES)
            | flag(!deletes.is_empty(), DELETES)
            | flag(!left.is_empty(), LEFT)
            | flag(!facts.is_empty(), FACTS);
        write_private_head(tick, flags, batch_follows, out);
        if !entered.is_empty() {
            out.extend_from_slice(&self.creates);
            write_varint(columns, out);
            out.extend_from_slice(&self.value);
        }
        if sections > 0 {
            write_varint(sections, out);
            out.extend_from_slice(&self.updates);
        }
        for ids in [&deletes, &left].into_iter().filter(|ids| !ids.is_empty()) {
            write_net_ids(ids.iter().copied(), out);
        }
        if !facts.is_empty() {
            write_varint(facts.len() as u64, out);
            for (fact, named) in facts {
                write_fact(&protocol, fact, named.author.is_none_or(|author| viewers.knew(viewer, author)), out);
            }
        }
        *world.resource_mut::<Protocol>() = protocol;
        *world.resource_mut::<Private>() = private;
        // Parts about what has become public wait for a message of this tick, so that they don't come before its create.
        flags != 0 || !viewers.released().is_empty()
    }

    /// Writes what came into sight, as of now: the roster into `creates`, the columns into `value`. Returns how many columns.
    fn write_creates(
        &mut self,
        world: &World,
        protocol: &Protocol,
        private: &Private,
        beholder: Beholder<'_>,
        told: &mut ToldReferences,
    ) -> u64 {
        self.creates.clear();
        self.value.clear();
        let entered = beholder.viewers.entered(beholder.viewer);
        if entered.is_empty() {
            return 0;
        }
        let index = world.resource::<EntityIndex>();
        let known = entered.iter().filter_map(|id| Some((id.get(), &index.slot(*id)?.identity)));
        self.roster.write(known, &mut self.creates);
        let ids: Vec<u32> = entered.iter().map(|id| id.get()).collect();
        let mut columns = 0;
        for (component, entry) in protocol.components.iter().enumerate() {
            let rows = &mut self.rows;
            rows.clear();
            for id in entered.iter().filter(|id| beholder.may_have(id.get(), private.audience(component))) {
                let Some(slot) = index.slot(*id) else { continue };
                let start = rows.bytes.len();
                let encoded = entry.column.one(world, slot.entity, None, &mut rows.bytes);
                let key = (component as u16, id.get());
                if self.masked.binary_search(&key).is_ok() {
                    told.insert(key, rows.bytes.get(start..).unwrap_or_default().to_vec());
                }
                if let Ok(Some(tick)) = encoded {
                    rows.push(*id, tick);
                }
            }
            if !rows.is_empty() {
                rows.sort();
                self.picks.clear();
                self.picks.extend(rows.sorted());
                write_column(component, &ids, rows, &self.picks, &mut self.value);
                columns += 1;
            }
        }
        columns
    }

    /// Writes the updates of one member. Returns how many sections.
    fn write_sections(
        &mut self,
        world: &World,
        protocol: &Protocol,
        private: &Private,
        beholder: Beholder<'_>,
        told: &mut ToldReferences,
    ) -> u64 {
        self.updates.clear();
        let (mut sections, mut from) = (0, 0);
        for component in 0..protocol.components.len() {
            let rest = private.rows.get(from..).unwrap_or_default();
            let of_component = rest.get(..rest.partition_point(|row| usize::from(row.component) == component)).unwrap_or_default();
            from += of_component.len();
            self.rows.clear();
            self.removed.clear();
            if private.refer.get(component) == Some(&true) {
                self.add_references(world, (protocol, component), (private, of_component), beholder, told);
            } else {
                self.add_values(private, of_component, beholder);
            }
            self.add_own(world, (protocol, component), private.audience(component), beholder);
            self.rows.sort();
            self.picks.clear();
            self.picks.extend(self.rows.sorted());
            sections += write_updates(component, &self.rows, &self.picks, &mut self.updates, |_| {});
            if !self.removed.is_empty() {
                self.removed.sort_unstable();
                self.removed.dedup();
                write_removals(component, &self.removed, &mut self.updates);
                sections += 1;
            }
        }
        sections
    }

    /// What changed in the tick, as it was encoded for everybody.
    fn add_values(&mut self, private: &Private, rows: &[Row], beholder: Beholder<'_>) {
        for row in rows.iter().filter(|row| !beholder.is_new(row.id) && beholder.may_have(row.id, private.audience(row.component.into()))) {
            match row.value {
                None => self.removed.push(row.id),
                Some((start, end)) => {
                    self.rows.bytes.extend_from_slice(private.bytes.get(start as usize..end as usize).unwrap_or_default());
                    self.rows.push(NetId(row.id), Tick::new(0));
                }
            }
        }
    }

    /// References that changed, or that lead elsewhere for this member because something came into its sight or left it.
    fn add_references(
        &mut self,
        world: &World,
        (protocol, component): (&Protocol, usize),
        (private, changed): (&Private, &[Row]),
        beholder: Beholder<'_>,
        told: &mut ToldReferences,
    ) {
        let (Some(entry), index) = (protocol.components.get(component), world.resource::<EntityIndex>()) else { return };
        let audience = private.audience(component);
        let mut ids: Vec<u32> = changed.iter().map(|row| row.id).collect();
        let masked_at = |id: u32, masked: &[(u16, u32)]| masked.binary_search(&(component as u16, id)).is_ok();
        if beholder.sees_otherwise() {
            ids.extend(self.masked.iter().filter(|(of, _)| usize::from(*of) == component).map(|(_, id)| *id));
            ids.sort_unstable();
            ids.dedup();
        }
        for id in ids.into_iter().filter(|id| !beholder.is_new(*id) && beholder.may_have(*id, audience)) {
            let entity = index.slot(NetId(id)).map(|slot| slot.entity);
            let start = self.rows.bytes.len();
            let encoded = entity.and_then(|entity| entry.column.one(world, entity, None, &mut self.rows.bytes).ok().flatten());
            let value = self.rows.bytes.get(start..).unwrap_or_default();
            let key = (component as u16, id);
            if !masked_at(id, &self.masked) {
                told.remove(&key);
            } else if told.get(&key).map(Vec::as_slice) == Some(value) {
                self.rows.bytes.truncate(start);
                continue;
            } else {
                told.insert(key, value.to_vec());
            }
            match encoded {
                Some(tick) => self.rows.push(NetId(id), tick),
                None => self.removed.push(id),
            }
        }
    }

    /// What it may have or may not have any more because an entity changed hands.
    fn add_own(&mut self, world: &World, (protocol, component): (&Protocol, usize), audience: ComponentAudience, beholder: Beholder<'_>) {
        let Beholder { viewers, viewer } = beholder;
        let Some(entry) = protocol.components.get(component).filter(|_| audience != ComponentAudience::Everyone) else { return };
        let index = world.resource::<EntityIndex>();
        for id in viewers.gained(viewer).iter().chain(viewers.lost(viewer)) {
            let Some(slot) = index.slot(*id).filter(|_| !self.rows.ids.contains(&id.get()) && !beholder.is_new(id.get())) else { continue };
            if !viewers.sees(viewer, *id) {
                continue;
            }
            let start = self.rows.bytes.len();
            if let Ok(Some(tick)) = entry.column.one(world, slot.entity, None, &mut self.rows.bytes) {
                if beholder.may_have(id.get(), audience) {
                    self.rows.push(*id, tick);
                } else {
                    self.rows.bytes.truncate(start);
                    self.removed.push(id.get());
                }
            }
        }
    }

    /// Finds, once per tick, the references that read otherwise for those who don't see everything.
    fn find_masked(&mut self, world: &mut World, protocol: &mut Protocol, private: &Private, tick: RoomTick, viewers: &Viewers) {
        if self.masked_at.replace(tick) == Some(tick) {
            return;
        }
        self.masked.clear();
        for (component, entry) in protocol.components.iter_mut().enumerate().filter(|(at, _)| private.refer.get(*at) == Some(&true)) {
            self.rows.clear();
            if entry.column.all(world, &mut self.rows).is_err() {
                continue;
            }
            world.insert_resource(HiddenFrom { words: viewers.restricted_words().to_vec() });
            self.rows.sort();
            let index = world.resource::<EntityIndex>();
            for row in self.rows.sorted() {
                self.value.clear();
                let id = self.rows.id(row);
                let Some(slot) = index.slot(NetId(id)) else { continue };
                let encoded = entry.column.one(world, slot.entity, None, &mut self.value);
                if !matches!(encoded, Ok(Some(_))) || self.rows.value(row) != self.value {
                    self.masked.push((component as u16, id));
                }
            }
            world.remove_resource::<HiddenFrom>();
        }
    }

    /// Encodes all that a member may know, as a snapshot, and takes note of the references in it.
    pub(crate) fn write_snapshot(&mut self, world: &mut World, tick: RoomTick, beholder: Beholder<'_>, told: &mut ToldReferences) -> Bytes {
        let private = std::mem::take(&mut *world.resource_mut::<Private>());
        let mut protocol = std::mem::take(&mut *world.resource_mut::<Protocol>());
        self.find_masked(world, &mut protocol, &private, tick, beholder.viewers);
        world.insert_resource(HiddenFrom { words: beholder.viewers.hidden_from(beholder.viewer) });
        told.clear();
        let index = world.resource::<EntityIndex>();
        for (component, id) in &self.masked {
            let known = beholder.may_have(*id, private.audience((*component).into()));
            let entry = protocol.components.get(usize::from(*component)).filter(|_| known);
            let Some((entry, slot)) = entry.zip(index.slot(NetId(*id))) else { continue };
            let mut value = Vec::new();
            let _ = entry.column.one(world, slot.entity, None, &mut value);
            told.insert((*component, *id), value);
        }
        let audiences = private.audiences.clone();
        *world.resource_mut::<Protocol>() = protocol;
        *world.resource_mut::<Private>() = private;
        let may_have = |id: u32, component: Option<usize>| {
            let audience = component.and_then(|component| audiences.get(component).copied()).unwrap_or_default();
            beholder.may_have(id, audience)
        };
        let snapshot = write_snapshot(world, Some(&may_have));
        world.remove_resource::<HiddenFrom>();
        snapshot
    }
}

/// Appends a fact, with its number; its author only where that may be known.
fn write_fact(protocol: &Protocol, fact: &Recorded, tell_author: bool, out: &mut Vec<u8>) {
    write_varint(fact.seq.0, out);
    let kind = protocol.fact_index(fact.fact.kind()).unwrap_or_default();
    let author = fact.author.filter(|_| tell_author);
    FactHead { seq: fact.seq, kind, producer: fact.producer.clone(), author, cause: fact.cause }.write(out);
    // It was encoded once already, when it was recorded.
    let _ = fact.fact.encode(out);
}
