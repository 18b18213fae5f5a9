//! Follows the facts of rooms as they become durable, from any position on.

use std::collections::BTreeMap;

use super::archive::Archive;
use super::error::StoreError;
use super::record::StoredFact;
use super::tables::{RoomKey, StoredRoom};
use crate::protocol::FactSeq;

/// A fact with its room.
#[derive(Clone, Debug)]
pub struct StreamItem {
    /// The room's number.
    pub key: RoomKey,
    /// The room's name.
    pub room: String,
    /// The fact.
    pub fact: StoredFact,
}

/// Reads facts in the order of their numbers, each once. It pulls: nothing is buffered for one that is slow, and nobody waits for it.
#[derive(Debug)]
pub struct Stream {
    archive: Archive,
    only: Option<String>,
    positions: BTreeMap<RoomKey, FactSeq>,
}

impl Stream {
    /// The facts of one room, or of all, from the first one on.
    pub fn from_start(archive: Archive, room: Option<&str>) -> Self {
        Self { archive, only: room.map(str::to_owned), positions: BTreeMap::new() }
    }

    /// The facts of one room, or of all, that happen from now on. Of rooms that come later all.
    ///
    /// # Errors
    /// If the store can't be read.
    pub fn from_now(archive: Archive, room: Option<&str>) -> Result<Self, StoreError> {
        let mut stream = Self::from_start(archive, room);
        for stored in stream.rooms()? {
            let last = stream.archive.head_of(&stored)?.map_or(FactSeq(0), |head| head.seq);
            stream.positions.insert(stored.key, last);
        }
        Ok(stream)
    }

    /// The rooms whose facts it reads.
    pub(super) fn rooms(&mut self) -> Result<Vec<StoredRoom>, StoreError> {
        match &self.only {
            Some(only) => Ok(self.archive.store().room(only)?.into_iter().collect()),
            None => self.archive.store().rooms(),
        }
    }

    /// Goes on after a fact of a room.
    pub fn after(&mut self, room: RoomKey, seq: FactSeq) {
        self.positions.insert(room, seq);
    }

    /// The last fact that was read of a room.
    pub fn position(&self, room: RoomKey) -> FactSeq {
        self.positions.get(&room).copied().unwrap_or_default()
    }

    /// The archive that it reads.
    pub fn archive(&mut self) -> &mut Archive {
        &mut self.archive
    }

    /// The next facts, at most `limit` of each room; none if there are no new ones.
    ///
    /// # Errors
    /// If the store can't be read; the positions stay, those of other rooms too.
    pub fn next(&mut self, limit: usize) -> Result<Vec<StreamItem>, StoreError> {
        let (mut items, mut reached) = (Vec::new(), Vec::new());
        for room in self.rooms()?.into_iter().filter(|room| room.intact) {
            let from = FactSeq(self.position(room.key).0 + 1);
            let facts = self.archive.facts_of(&room, from, limit)?;
            reached.extend(facts.last().map(|last| (room.key, last.seq)));
            items.extend(facts.into_iter().map(|fact| StreamItem { key: room.key, room: room.header.name.clone(), fact }));
        }
        self.positions.extend(reached);
        Ok(items)
    }
}
