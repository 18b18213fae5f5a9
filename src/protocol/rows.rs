//! The buffers between a world and a message: rows of one component, and which entity each net id stands for.

use bevy_ecs::change_detection::Tick;
use bevy_ecs::prelude::*;

use super::ids::NetId;
use super::quantity::EncodedStep;
use super::versions::place;

/// Rows of one component: net id, the change tick, and the encoded value. Buffers are kept from tick to tick.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) ids: Vec<u32>,
    pub(crate) ticks: Vec<Tick>,
    ends: Vec<u32>,
    pub(crate) bytes: Vec<u8>,
    /// Steps instead of a value, for some rows: the row's position here, and the steps.
    pub(crate) steps: Vec<(u32, Vec<EncodedStep>)>,
    /// Rows that are as good as gone: relationships to entities that the replicas no longer know.
    pub(crate) gone: Vec<(u32, Tick)>,
    order: Vec<u32>,
}

impl Rows {
    pub(crate) fn clear(&mut self) {
        self.ids.clear();
        self.ticks.clear();
        self.ends.clear();
        self.bytes.clear();
        self.steps.clear();
        self.gone.clear();
        self.order.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Closes the row whose value was just appended to `bytes`.
    #[inline]
    pub(crate) fn push(&mut self, id: NetId, tick: Tick) {
        self.ids.push(id.0);
        self.ticks.push(tick);
        self.ends.push(self.bytes.len() as u32);
    }

    /// The value of the row at `index`.
    #[inline]
    pub(crate) fn value(&self, index: usize) -> &[u8] {
        let start = match index {
            0 => 0,
            _ => self.ends.get(index - 1).copied().unwrap_or_default(),
        };
        let end = self.ends.get(index).copied().unwrap_or_default();
        self.bytes.get(start as usize..end as usize).unwrap_or_default()
    }

    /// The steps of the row at `index`, if it goes out as steps.
    pub(crate) fn steps_of(&self, index: usize) -> Option<&[EncodedStep]> {
        if self.steps.is_empty() {
            return None;
        }
        let found = self.steps.binary_search_by_key(&(index as u32), |(row, _)| *row).ok()?;
        self.steps.get(found).map(|(_, steps)| steps.as_slice())
    }

    /// Lets a row go out as one step more.
    pub(crate) fn add_step(&mut self, row: usize, step: EncodedStep) {
        match self.steps.binary_search_by_key(&(row as u32), |(row, _)| *row) {
            Ok(at) => self.steps.get_mut(at).into_iter().for_each(|(_, steps)| steps.push(step.clone())),
            Err(at) => self.steps.insert(at, (row as u32, vec![step])),
        }
    }

    /// Puts the rows in the order of their net ids, whatever order the world had them in: the world's order is history,
    /// and the same state must give the same bytes.
    pub(crate) fn sort(&mut self) {
        self.order.clear();
        self.order.extend(0..self.ids.len() as u32);
        if !self.ids.is_sorted() {
            let ids = &self.ids;
            self.order.sort_unstable_by_key(|row| ids.get(*row as usize).copied());
        }
    }

    /// The rows' positions in the order of their net ids. Needs [`Rows::sort`] first.
    pub(crate) fn sorted(&self) -> impl ExactSizeIterator<Item = usize> + Clone + '_ {
        self.order.iter().map(|row| *row as usize)
    }

    /// The net id of a row.
    #[inline]
    pub(crate) fn id(&self, index: usize) -> u32 {
        self.ids.get(index).copied().unwrap_or_default()
    }
}

/// Components that living entities lost since the last batch.
#[derive(Resource, Debug)]
pub(crate) struct Lost {
    /// When the last batch was collected.
    pub(crate) since: Tick,
    /// The entity that is being despawned: what it loses is told by its end.
    pub(crate) dying: Option<Entity>,
    pub(crate) rows: Vec<LostRow>,
}

/// A component that an entity lost.
#[derive(Debug)]
pub(crate) struct LostRow {
    pub(crate) component: usize,
    pub(crate) id: NetId,
    pub(crate) entity: Entity,
    /// The value that no batch has told yet, and when it came to be.
    pub(crate) value: Option<(Tick, Vec<u8>)>,
}

impl Default for Lost {
    fn default() -> Self {
        Self { since: Tick::new(0), dying: None, rows: Vec::new() }
    }
}

/// Which entity of a world each net id stands for.
#[derive(Debug, Clone, Default)]
pub struct NetMap {
    entities: Vec<Option<Entity>>,
}

impl NetMap {
    /// The entity, if the net id stands for one.
    #[inline]
    pub fn get(&self, id: NetId) -> Option<Entity> {
        self.entities.get(id.0 as usize).copied().flatten()
    }

    /// Makes place for all net ids up to this one.
    #[cfg(feature = "client")]
    pub(crate) fn reach(&mut self, last: NetId) {
        place(&mut self.entities, last.0 as usize);
    }

    /// Lets `id` stand for `entity`. The caller bounds `id`.
    pub(crate) fn set(&mut self, id: NetId, entity: Entity) {
        *place(&mut self.entities, id.0 as usize) = Some(entity);
    }

    /// Lets `id` stand for nothing.
    pub(crate) fn unset(&mut self, id: NetId) -> Option<Entity> {
        self.entities.get_mut(id.0 as usize).and_then(Option::take)
    }

    pub(crate) fn clear(&mut self) {
        self.entities.clear();
    }

    /// Every net id that stands for an entity, in order.
    pub fn iter(&self) -> impl Iterator<Item = (NetId, Entity)> + '_ {
        self.entities.iter().enumerate().filter_map(|(id, entity)| Some((NetId(id as u32), (*entity)?)))
    }
}
