//! Facts that became durable just now, for who tells them on without reading them back: in bounded memory, and how far each room has come.
//!
//! Nobody is waited for. Facts for which there is no room here are left out, and who wants them reads the ledger, which has all of them.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::super::archive::item;
use super::super::error::StoreError;
use super::super::record::{RoomHeader, StoredFact};
use super::super::tables::RoomKey;
use super::{Shared, Work};
use crate::protocol::{FactSeq, RoomId};

/// Most bytes of facts that wait to be taken.
const FRESH_BYTES_MAX: usize = 4 << 20;

/// What became of a room in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomFate {
    /// It is open.
    Open,
    /// It was closed; all of it is written.
    Closed,
    /// It is another host's.
    Lost,
}

/// What is new of a room.
#[derive(Debug)]
pub struct RoomNews {
    /// Its number.
    pub key: RoomKey,
    /// Its name.
    pub room: String,
    /// The id by which its facts are told: see [`RoomHeader::told_id`].
    pub id: RoomId,
    /// True if it was made of another room: its facts go on with that one's numbers.
    pub is_fork: bool,
    /// Its last durable fact.
    pub head: FactSeq,
    /// What became of it.
    pub fate: RoomFate,
    /// True if it was opened since this was last asked: others may have had it before.
    pub is_opened: bool,
    texts: Vec<(FactSeq, Vec<u8>)>,
}

impl RoomNews {
    /// Its facts that are new, in order, without gaps between them. There may be others before and after them.
    ///
    /// # Errors
    /// If a text is no fact's: a fault of ours.
    pub fn facts(&self) -> Result<Vec<StoredFact>, StoreError> {
        let read = |(seq, text): &(FactSeq, Vec<u8>)| {
            let text =
                std::str::from_utf8(text).map_err(|error| StoreError::damaged(&self.room, format!("the fact {seq}"), error.to_string()))?;
            Ok(item(text)?.into_fact(*seq))
        };
        self.texts.iter().map(read).collect()
    }
}

/// What waits to be taken.
#[derive(Debug, Default)]
pub(super) struct Board {
    is_wanted: bool,
    bytes: usize,
    rooms: BTreeMap<RoomKey, RoomNews>,
}

impl Board {
    fn add(&mut self, key: RoomKey, header: &RoomHeader, head: FactSeq, texts: Vec<(FactSeq, Vec<u8>)>) -> &mut RoomNews {
        let new = || RoomNews {
            key,
            room: header.name.clone(),
            id: header.told_id(),
            is_fork: header.forked_from.is_some(),
            head,
            fate: RoomFate::Open,
            is_opened: false,
            texts: Vec::new(),
        };
        let news = self.rooms.entry(key).or_insert_with(new);
        (news.head, news.fate) = (head, RoomFate::Open);
        let bytes: usize = texts.iter().map(|(_, text)| text.len()).sum();
        let follows = news.texts.last().is_none_or(|(last, _)| texts.first().is_some_and(|(first, _)| first.0 == last.0 + 1));
        if follows && self.bytes + bytes <= FRESH_BYTES_MAX {
            self.bytes += bytes;
            news.texts.extend(texts);
        }
        news
    }
}

/// Tells which facts became durable, from any thread.
#[derive(Clone)]
pub struct FreshFacts(Arc<Shared>);

impl std::fmt::Debug for FreshFacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FreshFacts")
    }
}

impl FreshFacts {
    pub(super) fn of(shared: Arc<Shared>) -> Self {
        let fresh = Self(shared);
        fresh.0.fresh().is_wanted = true;
        fresh
    }

    /// What is new since this was last called. One process has one that asks: what is taken is gone.
    pub fn take(&self) -> Vec<RoomNews> {
        let mut board = self.0.fresh();
        board.bytes = 0;
        std::mem::take(&mut board.rooms).into_values().collect()
    }
}

impl Shared {
    fn fresh(&self) -> MutexGuard<'_, Board> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    /// Lets rooms keep the texts of the facts that they hand over, if anybody wants them.
    pub(super) fn keep_fresh(&mut self) {
        if self.shared.fresh().is_wanted {
            for room in self.rooms.values_mut() {
                room.follower.fresh.get_or_insert_default();
            }
        }
    }

    /// Tells what became durable.
    pub(super) fn tell_fresh(&mut self) {
        let mut board = self.shared.fresh();
        if !board.is_wanted {
            return;
        }
        for room in self.rooms.values_mut() {
            let texts = room.follower.fresh.as_mut().map(std::mem::take).unwrap_or_default();
            let head = room.follower.head();
            if room.told == Some((head, room.closed)) {
                continue;
            }
            let news = board.add(room.follower.key, &room.follower.header, head, texts);
            news.is_opened |= room.told.is_none();
            if room.closed {
                news.fate = RoomFate::Closed;
            }
            room.told = Some((head, room.closed));
        }
    }

    /// Tells which rooms are another host's.
    pub(super) fn tell_lost(&self, rooms: &[String]) {
        let mut board = self.shared.fresh();
        if !board.is_wanted {
            return;
        }
        for room in self.rooms.values().filter(|room| rooms.contains(&room.follower.header.name)) {
            // What of it was not written was not durable, and never told.
            let head = room.told.map_or(FactSeq(0), |(head, _)| head);
            board.add(room.follower.key, &room.follower.header, head, Vec::new()).fate = RoomFate::Lost;
        }
    }
}
