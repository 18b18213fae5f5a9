//! The quick way from batch to batch: a state follows its room without telling what was done, and becomes a snapshot again.
//!
//! What is read here comes from a store and may be damaged: everything is checked, nothing panics.

use std::collections::BTreeSet;

use super::batch::{BatchHead, FACTS, FactHead, HASH, SnapshotHead, Visit, read_operations, read_snapshot, write_members};
use super::check::value_hash;
use super::codec::{CodecError, Reader, write_varint};
use super::ids::{FactSeq, NetId, RoomTick};
use super::limits::FACTS_PER_TICK_MAX;
use super::quantity::UpdateKind;
use super::registry::Protocol;
use super::roster::{Roster, RosterWriter};
use super::state::{State, StateError};

/// What a batch says besides what it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// The hash that it carries, of the state after it.
    pub hash: Option<u64>,
    /// How many facts it tells.
    pub facts: u64,
}

/// Stands among the components for the entity itself, which may have none.
pub(crate) const EXISTS: usize = usize::MAX;

/// Where batches changed a state: what a store that follows has to write again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dirty {
    /// Components that were set or removed, by the numbers of entities and components.
    pub(crate) values: BTreeSet<(NetId, usize)>,
    /// Entities that were deleted, as people write them. What is in `values` came after.
    pub(crate) gone: BTreeSet<String>,
}

impl State {
    /// Applies a batch without telling what it did. A batch that was applied already does nothing.
    ///
    /// # Errors
    /// See [`State::follow`].
    pub fn fold(&mut self, protocol: &Protocol, batch: &[u8]) -> Result<Folded, StateError> {
        self.fold_noting(protocol, batch, None)
    }

    /// Applies a batch and notes where it changed the state.
    pub(crate) fn fold_noting(&mut self, protocol: &Protocol, batch: &[u8], dirty: Option<&mut Dirty>) -> Result<Folded, StateError> {
        let mut reader = Reader::new(batch);
        let head = BatchHead::read(&mut reader)?;
        if !self.is_before(head)? {
            return Ok(Folded::default());
        }
        let mut fold = QuickFold { protocol, state: self, dirty, dead: Vec::new() };
        read_operations(head, &mut reader, &mut fold)?;
        let dead = fold.dead;
        for id in dead {
            self.remove(id);
        }
        self.set_tick(head.tick);
        let mut folded = Folded::default();
        if head.flags & FACTS != 0 {
            // The number of the first one, and how many.
            reader.varint()?;
            folded.facts = reader.count("facts", FACTS_PER_TICK_MAX)? as u64;
        }
        if head.flags & HASH != 0 {
            let tail = batch.last_chunk::<8>().ok_or(CodecError::Truncated { at: batch.len(), wanted: 8 })?;
            folded.hash = Some(u64::from_le_bytes(*tail));
        }
        Ok(folded)
    }

    /// Takes in what follows the head of a snapshot, without telling what it is.
    pub(super) fn fill(&mut self, protocol: &Protocol, reader: &mut Reader<'_>) -> Result<(), CodecError> {
        read_snapshot(reader, &mut QuickFold { protocol, state: self, dirty: None, dead: Vec::new() })
    }

    /// The hash of the state: what a batch of a room with [`check`](crate::room::RoomOptions) carries of the state after it.
    pub fn hash(&self) -> u64 {
        let values =
            self.entities().iter().flat_map(|(id, entity)| entity.components.iter().map(move |(at, value)| (*at, id.get(), value)));
        values.fold(0, |sum: u64, (component, id, value)| sum.wrapping_add(value_hash(component, id, value)))
    }

    /// The state as a snapshot of a tick: the very bytes that its room would give.
    pub fn to_snapshot(&self, protocol: &Protocol, tick: RoomTick, next_seq: FactSeq) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.entities().len() * 32);
        SnapshotHead { tick, next_seq }.write(&mut out);
        let mut roster = RosterWriter::default();
        roster.write(self.entities().iter().map(|(id, entity)| (id.get(), &entity.identity)), &mut out);
        // By component: which entities have it, by their places, and what. All in one pass: few entities have many of the components.
        let mut columns: Vec<Vec<(usize, &[u8])>> = vec![Vec::new(); protocol.components.len()];
        for (place, entity) in self.entities().values().enumerate() {
            for (component, value) in &entity.components {
                columns.get_mut(*component).into_iter().for_each(|column| column.push((place, value.as_slice())));
            }
        }
        let columns = || columns.iter().enumerate().filter(|(_, values)| !values.is_empty());
        write_varint(columns().count() as u64, &mut out);
        for (component, values) in columns() {
            write_members(component, self.entities().len(), values.iter().map(|(place, _)| *place), &mut out);
            values.iter().for_each(|(_, value)| out.extend_from_slice(value));
        }
        out
    }
}

/// Applies a batch to a state and notes where.
struct QuickFold<'a> {
    protocol: &'a Protocol,
    state: &'a mut State,
    dirty: Option<&'a mut Dirty>,
    dead: Vec<NetId>,
}

impl QuickFold<'_> {
    fn note_value(&mut self, id: NetId, component: usize) {
        if let Some(dirty) = &mut self.dirty {
            dirty.values.insert((id, component));
        }
    }
}

fn no_entity(id: NetId) -> CodecError {
    CodecError::Unknown { what: "net id", value: u64::from(id.get()), at: 0 }
}

impl Visit for QuickFold<'_> {
    fn create(&mut self, roster: Roster) -> Result<(), CodecError> {
        for entry in roster.into_entries() {
            if self.state.entities().contains_key(&entry.net_id) {
                return Err(CodecError::Value { at: 0, detail: format!("net id {} is created twice", entry.net_id.get()) });
            }
            self.note_value(entry.net_id, EXISTS);
            self.state.insert(entry.net_id, entry.identity);
        }
        Ok(())
    }

    fn column(&mut self, component: usize, members: &[NetId], input: &mut Reader<'_>) -> Result<(), CodecError> {
        for id in members {
            self.update(component, UpdateKind::Set, *id, input)?;
        }
        Ok(())
    }

    fn created(&mut self) -> Result<(), CodecError> {
        Ok(())
    }

    fn update(&mut self, component: usize, kind: UpdateKind, id: NetId, input: &mut Reader<'_>) -> Result<(), CodecError> {
        let start = input.at();
        let entry = self.protocol.component_at(component, start)?;
        let values = self.state.components_mut(id).ok_or_else(|| no_entity(id))?;
        if kind == UpdateKind::Set {
            entry.column.skip(input)?;
            let value = values.entry(component).or_default();
            value.clear();
            value.extend_from_slice(input.since(start));
        } else {
            let missing = CodecError::Unknown { what: "component to step", value: component as u64, at: start };
            let value = values.get_mut(&component).ok_or(missing)?;
            let mut folded = Vec::with_capacity(value.len());
            entry.column.fold(value, kind, input, &mut folded)?;
            *value = folded;
        }
        self.note_value(id, component);
        Ok(())
    }

    fn remove(&mut self, component: usize, id: NetId) -> Result<(), CodecError> {
        self.state.components_mut(id).ok_or_else(|| no_entity(id))?.remove(&component);
        self.note_value(id, component);
        Ok(())
    }

    fn delete(&mut self, id: NetId) -> Result<(), CodecError> {
        let entity = self.state.entities().get(&id).ok_or_else(|| no_entity(id))?;
        let name = entity.identity.display(self.state.room());
        if let Some(dirty) = &mut self.dirty {
            let of_it: Vec<_> = dirty.values.range((id, 0)..=(id, EXISTS)).copied().collect();
            of_it.iter().for_each(|place| {
                dirty.values.remove(place);
            });
            dirty.gone.insert(name);
        }
        self.dead.push(id);
        Ok(())
    }

    fn fact(&mut self, _: FactHead, _: &mut Reader<'_>) -> Result<(), CodecError> {
        Ok(())
    }

    fn note(&mut self, _: usize, _: usize) -> Result<(), CodecError> {
        Ok(())
    }
}
