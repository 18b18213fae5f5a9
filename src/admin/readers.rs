//! Those who read the store beside its writer: a few, so that nobody can let the disk do nothing else.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::Failure;
use super::game::AdminGame;
use super::paint::Painter;
use crate::protocol::{EntityId, FactSeq, Protocol};
use crate::store::{Archive, RoomKey, Store, StoreError, StoredFact};

/// How long a request waits for a reader.
const TURN_WITHIN: Duration = Duration::from_secs(10);

/// Of how many rooms a reader remembers who is who, and how many facts it reads at once for that.
const ROOMS_REMEMBERED_MAX: usize = 64;
const FACTS_AT_ONCE: usize = 10_000;

/// Names by ids, of which room, and up to which fact they are known.
type Names = (RoomKey, u64, BTreeMap<EntityId, String>);

/// Somebody who reads, and draws what was read.
pub(super) struct Reader {
    /// Nothing if nothing is kept.
    pub(super) archive: Option<Archive>,
    protocol: Arc<Protocol>,
    pub(super) painter: Painter,
    names: BTreeMap<String, Names>,
    /// Whether who asked has hung up.
    pub(super) gone: Arc<AtomicBool>,
}

/// Ends what takes long once nobody waits for it.
pub(super) fn still_wanted(gone: &AtomicBool) -> Result<(), Failure> {
    match gone.load(Ordering::Relaxed) {
        true => Err(Failure::broken("nobody waits for the answer any more")),
        false => Ok(()),
    }
}

impl Reader {
    pub(super) fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// The archive, if the room is in it.
    pub(super) fn stored(&mut self, room: &str) -> Result<Option<&mut Archive>, Failure> {
        let Some(archive) = &mut self.archive else { return Ok(None) };
        Ok(archive.store().room(room)?.is_some().then_some(archive))
    }

    /// The archive.
    pub(super) fn archive(&mut self) -> Result<&mut Archive, Failure> {
        let none = || Failure::new(StatusCode::NOT_FOUND, "not_kept", "this host keeps nothing: there is no past to read");
        self.archive.as_mut().ok_or_else(none)
    }

    /// How people call whom a room ever had. Of its facts only those are read that are new.
    pub(super) fn names(&mut self, room: &str) -> Result<BTreeMap<EntityId, String>, Failure> {
        // Another room may have the name by now.
        let key = self.archive()?.room(room)?.key;
        let known = self.names.remove(room).filter(|(of, ..)| *of == key);
        let (_, mut last, mut names) = known.unwrap_or_else(|| (key, 0, BTreeMap::new()));
        let gone = self.gone.clone();
        let archive = self.archive()?;
        loop {
            if let Err(failure) = still_wanted(&gone) {
                // Whoever asks again goes on from there.
                self.remember(room, (key, last, names));
                return Err(failure);
            }
            let facts = archive.facts(room, FactSeq(last + 1), FACTS_AT_ONCE)?;
            let Some(newest) = facts.last().map(|fact| fact.seq.0) else { break };
            last = newest;
            names.extend(facts.iter().filter_map(StoredFact::joined).map(|joined| (joined.user, joined.name)));
        }
        let mut all = archive.names_of_things(room)?;
        all.extend(names.iter().map(|(id, name)| (*id, name.clone())));
        self.remember(room, (key, last, names));
        Ok(all)
    }

    fn remember(&mut self, room: &str, names: Names) {
        if self.names.len() >= ROOMS_REMEMBERED_MAX {
            self.names.pop_first();
        }
        self.names.insert(room.to_owned(), names);
    }
}

/// The readers.
pub(super) struct Readers {
    /// Opens further ones.
    source: Mutex<Option<Box<dyn Store>>>,
    game: AdminGame,
    idle: Mutex<Vec<Reader>>,
    turns: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(game: AdminGame, source: Option<Box<dyn Store>>, readers_max: usize) -> Self {
        Self { source: Mutex::new(source), game, idle: Mutex::default(), turns: Arc::new(Semaphore::new(readers_max.max(1))) }
    }

    /// Waits until a reader is free. What is given goes with the work: who asked may be gone before it is done.
    pub(super) async fn turn(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let busy = || Failure::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "all readers of the store are busy");
        let turn = tokio::time::timeout(TURN_WITHIN, self.turns.clone().acquire_owned()).await;
        turn.map_err(|_| busy())?.map_err(|_| busy())
    }

    /// An idle reader, or a new one.
    pub(super) fn take(&self) -> Result<Reader, Failure> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(reader) = idle {
            return Ok(reader);
        }
        let protocol = self.game.protocol();
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        let store = source.as_ref().map(|source| source.reader()).transpose().map_err(|error: StoreError| Failure::from(error))?;
        let archive = store.map(|store| Archive::new(store, protocol.clone()));
        Ok(Reader { archive, protocol, painter: Painter::new(&self.game), names: BTreeMap::new(), gone: Arc::default() })
    }

    pub(super) fn give_back(&self, reader: Reader) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
    }
}
