//! The newest values of the components whose delivery is `latest`: when each changed, and the parts of the tick.

use std::sync::Arc;

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::index::EntityIndex;
use crate::protocol::limits::{LATEST_VALUE_BYTES_MAX, PART_BYTES_MAX};
use crate::protocol::{Delivery, NetId, PartItem, PartSource, Protocol, RoomTick, place};

/// For so many ticks after its creation, parts say which batch creates an entity. Members that are further behind are sent none.
pub(crate) const NEEDS_TICKS: u32 = 200;

/// Values of a tick that fit a datagram, encoded once for all members.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) body: Bytes,
    pub(crate) items: Vec<PartItem>,
}

/// Where an encoded value stands, and the tick in which it was encoded.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    tick: u32,
    start: u32,
    end: u32,
}

/// What is known of one component, by net id.
#[derive(Debug, Default)]
struct Column {
    /// The tick of the last change; 0 if there was none since the entity was created.
    changed: Vec<u32>,
    spans: Vec<Span>,
}

/// The newest values of a room's `latest` components.
#[derive(Resource, Debug, Default)]
pub(crate) struct LatestValues {
    tick: u32,
    /// The places of components among the latest ones, by their numbers.
    ordinals: Vec<Option<u8>>,
    /// The numbers of the latest components, by their places.
    components: Vec<usize>,
    columns: Vec<Column>,
    /// How much the values of each component matter.
    weights: Vec<u16>,
    /// The tick in which each net id's entity was created.
    created: Vec<u32>,
    /// The values that were encoded in this tick.
    bytes: Vec<u8>,
    /// What changed in this tick: net id, place, and where the value stands.
    fresh: Vec<(u32, u8, Span)>,
    /// The same of that of which not everybody may know. No part of the room's has it.
    private: Vec<(u32, u8)>,
    source: PartSource,
    parts: Vec<Arc<Part>>,
}

impl LatestValues {
    /// Begins a tick. `created` and `deleted` are net ids.
    pub(crate) fn begin(&mut self, protocol: &Protocol, tick: RoomTick, created: &[u32], deleted: impl Iterator<Item = u32>) {
        if self.ordinals.len() != protocol.components.len() {
            let latest = protocol.components.iter().enumerate().filter(|(_, entry)| entry.delivery == Delivery::Latest);
            (self.components, self.weights) = latest.map(|(component, entry)| (component, entry.priority)).unzip();
            self.ordinals = vec![None; protocol.components.len()];
            for (ordinal, component) in self.components.iter().enumerate() {
                self.ordinals.get_mut(*component).into_iter().for_each(|place| *place = Some(ordinal as u8));
            }
            self.columns.resize_with(self.components.len(), Column::default);
        }
        self.tick = tick.0;
        self.bytes.clear();
        self.fresh.clear();
        self.private.clear();
        self.parts.clear();
        if self.components.is_empty() {
            return;
        }
        for id in created {
            *place(&mut self.created, *id as usize) = tick.0;
        }
        for id in created.iter().copied().chain(deleted) {
            for column in &mut self.columns {
                column.changed.get_mut(id as usize).into_iter().for_each(|changed| *changed = 0);
            }
        }
    }

    /// Takes note that an entity has become public in this tick: those who did not see it are told of it now.
    pub(crate) fn became_public(&mut self, id: u32) {
        *place(&mut self.created, id as usize) = self.tick;
    }

    /// True if changes of a component travel in parts.
    pub(crate) fn is_latest(&self, component: usize) -> bool {
        self.ordinals.get(component).is_some_and(Option::is_some)
    }

    fn ordinal(&self, component: usize) -> Option<u8> {
        self.ordinals.get(component).copied().flatten()
    }

    /// Takes note that a value changed, or was removed, whichever way that travels.
    pub(crate) fn changed(&mut self, component: usize, id: u32) {
        let (tick, ordinal) = (self.tick, self.ordinal(component));
        if let Some(column) = ordinal.and_then(|ordinal| self.columns.get_mut(usize::from(ordinal))) {
            *place(&mut column.changed, id as usize) = tick;
        }
    }

    /// Takes a value that changed in this tick into the tick's parts. False if it is too large for them.
    pub(crate) fn take(&mut self, component: usize, id: u32, value: &[u8], private: bool) -> bool {
        let Some(ordinal) = self.ordinal(component) else { return false };
        if value.len() > LATEST_VALUE_BYTES_MAX {
            return false;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        let span = self.place(ordinal, id, start);
        if private {
            self.private.push((id, ordinal));
        } else {
            self.fresh.push((id, ordinal, span));
        }
        true
    }

    /// Notes where the value that was just appended stands.
    fn place(&mut self, ordinal: u8, id: u32, start: usize) -> Span {
        let span = Span { tick: self.tick, start: start as u32, end: self.bytes.len() as u32 };
        if let Some(column) = self.columns.get_mut(usize::from(ordinal)) {
            *place(&mut column.spans, id as usize) = span;
        }
        span
    }

    /// Writes the parts of the tick.
    pub(crate) fn write_parts(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        if !self.fresh.is_sorted_by_key(|(id, ordinal, _)| (*id, *ordinal)) {
            self.fresh.sort_unstable_by_key(|(id, ordinal, _)| (*id, *ordinal));
        }
        for (id, ordinal, span) in &self.fresh {
            self.source.push(*id, usize::from(*ordinal), (span.start as usize, span.end as usize));
        }
        let mut source = std::mem::take(&mut self.source);
        let mut parts = std::mem::take(&mut self.parts);
        self.write(&mut source, |_| 0, &mut parts);
        (self.source, self.parts) = (source, parts);
    }

    /// Writes what a source holds into parts. `entered` tells in which tick an entity came into sight of whom the parts are for, or 0.
    pub(crate) fn write(&self, source: &mut PartSource, entered: impl Fn(u32) -> u32, parts: &mut Vec<Arc<Part>>) {
        let needs = |id: u32| {
            let created = self.created.get(id as usize).copied().unwrap_or_default().max(entered(id));
            let back = self.tick.saturating_sub(created);
            (created > 0 && back < NEEDS_TICKS).then_some(back)
        };
        source.write(&self.components, &self.bytes, PART_BYTES_MAX, needs, |body, items| {
            parts.push(Arc::new(Part { body: Bytes::copy_from_slice(body), items: items.to_vec() }));
        });
    }

    /// The parts of the tick, for members who see everything.
    pub(crate) fn parts(&self) -> &[Arc<Part>] {
        &self.parts
    }

    /// What changed in this tick and travels in parts: net ids that ascend, and the places of the components.
    pub(crate) fn fresh(&self) -> impl Iterator<Item = (u32, u8)> + '_ {
        self.fresh.iter().map(|(id, ordinal, _)| (*id, *ordinal))
    }

    /// The same of that of which not everybody may know, component by component.
    pub(crate) fn private(&self) -> impl Iterator<Item = (u32, u8)> + '_ {
        self.private.iter().copied()
    }

    /// True if a value has not changed since a tick, and its entity is still the same.
    pub(crate) fn stands_since(&self, ordinal: u8, id: u32, tick: RoomTick) -> bool {
        let column = self.columns.get(usize::from(ordinal));
        let changed = column.and_then(|column| column.changed.get(id as usize)).copied().unwrap_or_default();
        changed != 0 && changed <= tick.0
    }

    /// All values that changed after a tick, as net ids and places.
    pub(crate) fn changed_since(&self, tick: RoomTick) -> impl Iterator<Item = (u32, u8)> + '_ {
        (0..).zip(&self.columns).flat_map(move |(ordinal, column)| {
            let changed = column.changed.iter().enumerate().filter(move |(_, changed)| **changed > tick.0);
            changed.map(move |(id, _)| (id as u32, ordinal))
        })
    }

    /// The net ids of which the value of a component changed after a tick, or was removed. `None` if the component is not `latest`.
    pub(crate) fn changed_of(&self, component: usize, tick: RoomTick) -> Option<impl Iterator<Item = u32> + '_> {
        let column = self.columns.get(usize::from(self.ordinal(component)?))?;
        Some((0..).zip(&column.changed).filter(move |(_, changed)| **changed > tick.0).map(|(id, _)| id))
    }

    /// The number of the component at a place.
    pub(crate) fn component(&self, ordinal: u8) -> usize {
        self.components.get(usize::from(ordinal)).copied().unwrap_or_default()
    }

    /// The size of a value that is as new as this tick, encoded now if no member asked for it before. `None` if there is none.
    pub(crate) fn encode(&mut self, world: &World, id: u32, ordinal: u8) -> Option<usize> {
        let span = self.span(id, ordinal);
        if span.tick == self.tick && self.tick > 0 {
            return Some((span.end - span.start) as usize);
        }
        let index = world.resource::<EntityIndex>();
        let slot = index.slot(NetId(id)).filter(|slot| slot.state == super::index::SlotState::Shown)?;
        let start = self.bytes.len();
        let entry = world.resource::<Protocol>().components.get(self.component(ordinal))?;
        let encoded = entry.column.one(world, slot.entity, None, &mut self.bytes);
        let size = self.bytes.len() - start;
        if !matches!(encoded, Ok(Some(_))) || size > LATEST_VALUE_BYTES_MAX {
            self.bytes.truncate(start);
            return None;
        }
        self.place(ordinal, id, start);
        Some(size)
    }

    /// How much a value matters, where not all can be sent.
    pub(crate) fn weight(&self, ordinal: u8) -> u16 {
        self.weights.get(usize::from(ordinal)).copied().unwrap_or(1)
    }

    fn span(&self, id: u32, ordinal: u8) -> Span {
        let column = self.columns.get(usize::from(ordinal));
        column.and_then(|column| column.spans.get(id as usize)).copied().unwrap_or_default()
    }

    /// Puts a value that was [encoded](Self::encode) in this tick into a source. Entity by entity, places ascending.
    pub(crate) fn stage(&self, source: &mut PartSource, id: u32, ordinal: u8) {
        let span = self.span(id, ordinal);
        source.push(id, usize::from(ordinal), (span.start as usize, span.end as usize));
    }
}
