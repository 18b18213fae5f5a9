//! Where a room stands on its way to the stream, and what the ledger has of it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::archive::read_facts;
use super::super::error::StoreError;
use super::super::record::StoredFact;
use super::super::tables::{ChunkKind, RoomKey, Store, StoredRoom, find_room};
use super::super::writer::{RoomFate, RoomNews};
use super::fact::ToldFact;
use crate::protocol::{FactSeq, RoomId};

/// How many facts of a room are had in memory; the ledger has the others.
const QUEUE_MAX: usize = 512;

/// How many chunks of facts are read at once.
const CHUNKS_AT_ONCE: usize = 8;

/// After which time it is tried again where a room's facts can't be told.
pub(super) const PUT_OFF_FOR: Duration = Duration::from_secs(10);

/// What is known of how far the stream has come.
#[derive(Debug)]
pub(super) enum Place {
    /// It is to be asked.
    Unknown,
    /// As far as the line says.
    Known,
    /// The stream has facts that are not sealed in the ledger: another host may have the room, and is about to seal them.
    Ahead(Instant),
    /// The stream, or the ledger, has what it should not.
    Refused(Instant),
}

/// A room on its way.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) key: RoomKey,
    pub(super) room: String,
    /// By which its facts are told.
    pub(super) id: RoomId,
    /// Its facts go on with the numbers of another room.
    pub(super) is_fork: bool,
    pub(super) fate: RoomFate,
    pub(super) place: Place,
    /// The last durable fact.
    pub(super) head: u64,
    /// The last fact that the stream has for sure.
    pub(super) told: u64,
    /// The last that the store was told to be told, and when.
    pub(super) kept: Option<(u64, Instant)>,
    /// The facts after it, as many as are in memory.
    pub(super) queue: VecDeque<StoredFact>,
    /// Why it was refused last.
    pub(super) why: Option<String>,
    /// The last fact that the stream had when it was found to have more than is sealed.
    pub(super) ahead: Option<Box<ToldFact>>,
}

impl Line {
    pub(super) fn new(key: RoomKey, room: &str, id: RoomId, head: FactSeq, fate: RoomFate) -> Self {
        let (queue, room) = (VecDeque::new(), room.to_owned());
        let (is_fork, place, head, told, kept, why, ahead) = (false, Place::Unknown, head.0, 0, None, None, None);
        Self { key, room, id, is_fork, fate, place, head, told, kept, queue, why, ahead }
    }

    /// Takes up what is new. Facts are taken into memory if they are the next ones, and there is place.
    pub(super) fn hear(&mut self, news: &RoomNews) {
        (self.head, self.fate) = (self.head.max(news.head.0), news.fate);
        if news.is_opened {
            self.forget();
        }
        if matches!(self.place, Place::Known) {
            // What could not be read here can't be read in the ledger either, and is named there.
            for fact in news.facts().unwrap_or_default() {
                let next = self.told + self.queue.len() as u64 + 1;
                if fact.seq.0 == next && self.queue.len() < QUEUE_MAX {
                    self.queue.push_back(fact);
                }
            }
        }
    }

    /// The stream is to be asked again before anything is told.
    pub(super) fn forget(&mut self) {
        (self.queue, self.ahead, self.kept) = (VecDeque::new(), None, None);
        if matches!(self.place, Place::Known | Place::Ahead(_)) {
            self.place = Place::Unknown;
        }
    }

    /// How many facts wait.
    pub(super) fn waits(&self) -> u64 {
        self.head.saturating_sub(self.told)
    }

    /// True if there is something to do for it.
    pub(super) fn is_due(&self) -> bool {
        self.waits() > 0 && !self.is_put_off()
    }

    /// Since when it waits to be looked at again, if it does.
    pub(super) fn put_off(&self) -> Option<Instant> {
        match self.place {
            Place::Ahead(since) | Place::Refused(since) => Some(since),
            Place::Known | Place::Unknown => None,
        }
    }

    pub(super) fn is_put_off(&self) -> bool {
        self.put_off().is_some()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.fate != RoomFate::Open
    }

    pub(super) fn is_refused(&self) -> bool {
        matches!(self.place, Place::Refused(_))
    }

    /// The stream has everything up to a fact.
    pub(super) fn stands_at(&mut self, seq: u64) {
        self.told = seq.min(self.head);
        (self.place, self.why) = (Place::Known, None);
        self.queue.clear();
    }

    /// So many facts of the queue are in the stream.
    pub(super) fn advance(&mut self, facts: usize) {
        self.told += facts as u64;
        self.queue.drain(..facts.min(self.queue.len()));
    }

    /// Nothing of it is told until somebody mends it. It is logged once.
    pub(super) fn refuse(&mut self, now: Instant, why: String) {
        if self.why.as_ref() != Some(&why) {
            tracing::error!(room = self.room, why, "the facts of a room are not published");
        }
        (self.place, self.why) = (Place::Refused(now), Some(why));
        self.queue.clear();
    }

    /// Takes the next facts from the ledger, if they are there. Returns how many are gone for ever that were to be told before them.
    pub(super) fn load(&mut self, store: &mut dyn Store) -> Result<u64, StoreError> {
        let next = self.told + 1;
        match Sealed::read(store, &self.room, next)? {
            Sealed::NotYet => Ok(0),
            Sealed::Facts(facts) => {
                self.queue = facts.into_iter().take(QUEUE_MAX).collect();
                Ok(0)
            }
            Sealed::Gone { until } => {
                self.told = until;
                self.head = self.head.max(until);
                // What a fork has no facts of before its first is another room's, and told as that.
                Ok(if self.is_fork && next == 1 { 0 } else { until + 1 - next })
            }
        }
    }
}

/// What the chunks of a room have from a fact on. The journal is not read: what is in it is in memory, or in chunks within a second.
pub(super) enum Sealed {
    /// These, without a gap.
    Facts(Vec<StoredFact>),
    /// It is not sealed yet.
    NotYet,
    /// It was deleted, and so were all up to this one.
    Gone { until: u64 },
}

impl Sealed {
    pub(super) fn read(store: &mut dyn Store, room: &str, from: u64) -> Result<Self, StoreError> {
        // In this order: whatever is sealed meanwhile, chunks that are missing up to this head were there once.
        let stored: StoredRoom = find_room(store, room)?;
        let Some(head) = stored.sealed.filter(|head| head.seq.0 >= from) else { return Ok(Self::NotYet) };
        let chunks = store.chunks(stored.key, ChunkKind::Facts, from, u64::MAX >> 1, CHUNKS_AT_ONCE)?;
        match chunks.first() {
            None => return Ok(Self::Gone { until: head.seq.0 }),
            Some(first) if first.from > from => return Ok(Self::Gone { until: first.from - 1 }),
            Some(_) => {}
        }
        let mut facts = Vec::new();
        for chunk in &chunks {
            let follows = chunk.from <= from + facts.len() as u64;
            if !follows || facts.len() >= QUEUE_MAX {
                break;
            }
            read_facts(room, chunk, from, &mut facts)?;
        }
        Ok(Self::Facts(facts))
    }
}
