//! A store in memory, for tests and for rooms that need not outlive their process.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::chain::Chain;
use super::clock::instant;
use super::directory::{Directory, MemoryDirectory, Token};
use super::error::StoreError;
use super::frame::{HotTick, join_frame, read_frame, split_frame};
use super::record::{Entities, RoomHeader, Snippet};
use super::recovery::seal_of;
use super::tables::{Checkpoint, Chunk, ChunkKind, ComponentWrites, Flush, Request, RoomKey, Seal, Store, StoredRoom, UnusedRoom};
use crate::protocol::{Description, FactSeq, Fingerprint, RoomTick};

#[derive(Debug, Default)]
struct Tables {
    rooms: Vec<StoredRoom>,
    protocols: BTreeMap<u64, Description>,
    flush: u64,
    journal: BTreeMap<u64, Vec<u8>>,
    chunks: BTreeMap<(RoomKey, ChunkKind, u64), Chunk>,
    checkpoints: BTreeMap<(RoomKey, RoomTick), Checkpoint>,
    components: BTreeMap<RoomKey, Entities>,
    snippets: BTreeMap<(RoomKey, String), Snippet>,
    cursors: BTreeMap<(String, RoomKey), (FactSeq, String)>,
    requests: BTreeMap<i64, (Request, Option<String>)>,
    /// When something of each room was last written.
    used: BTreeMap<RoomKey, Instant>,
    /// The number of the last room that there was.
    last_room: i64,
    deleted: u64,
    /// The last flush of each host that shares the store.
    flushes: BTreeMap<String, u64>,
    /// What those hosts have in their journals, in the order in which it was written.
    shared: Vec<SharedRow>,
}

impl Tables {
    fn unused_for(&self, room: RoomKey) -> Duration {
        self.used.get(&room).map_or(Duration::MAX, Instant::elapsed)
    }

    fn forget_room(&mut self, room: RoomKey) {
        self.rooms.retain(|stored| stored.key != room);
        self.used.remove(&room);
        self.components.remove(&room);
        self.chunks.retain(|(of, ..), _| *of != room);
        self.checkpoints.retain(|(of, _), _| *of != room);
        self.snippets.retain(|(of, _), _| *of != room);
        self.cursors.retain(|(_, of), _| *of != room);
        self.requests.retain(|_, (request, _)| request.key != room);
        self.shared.retain(|row| row.room != room);
        self.deleted += 1;
    }
}

/// What a flush of a host that shares the store has of one room.
#[derive(Debug)]
struct SharedRow {
    host: String,
    flush: u64,
    room: RoomKey,
    /// A frame with this room alone.
    frame: Vec<u8>,
}

/// A host that shares the store with others.
#[derive(Clone, Debug)]
struct Sharer {
    directory: MemoryDirectory,
    /// The tokens by which rooms are written.
    opened: BTreeMap<RoomKey, (String, Token)>,
}

/// A store in memory. Its clones are the same store.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    tables: Arc<Mutex<Tables>>,
    sharer: Option<Sharer>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same store, as one of several hosts writes it: only rooms that it has by a lease of the directory, whatever it believes.
    #[must_use]
    pub fn shared_by(&self, directory: &MemoryDirectory) -> Self {
        Self { tables: self.tables.clone(), sharer: Some(Sharer { directory: directory.clone(), opened: BTreeMap::new() }) }
    }

    /// Notes a room, unless anything of it is stored.
    fn note_room(&self, header: &RoomHeader, protocol: &Description) -> RoomKey {
        let mut tables = self.tables();
        let fingerprint = protocol.fingerprint();
        tables.protocols.insert(fingerprint.0, protocol.clone());
        if let Some(room) = tables.rooms.iter_mut().find(|room| room.header.name == header.name) {
            let (key, is_sealed) = (room.key, room.sealed.is_some());
            if !is_sealed {
                (room.fingerprint, room.chain, room.header) = (fingerprint, Chain::new(header.id()), header.clone());
                tables.chunks.retain(|(of, ..), _| *of != key);
                tables.checkpoints.retain(|(of, _), _| *of != key);
            }
            return key;
        }
        tables.last_room += 1;
        let key = RoomKey(tables.last_room);
        tables.used.insert(key, instant());
        let (chain, header) = (Chain::new(header.id()), header.clone());
        tables.rooms.push(StoredRoom { key, header, sealed: None, chain, components_tick: None, fingerprint, intact: true });
        key
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Each change is made whole before the lock is given back; who panicked with it changed nothing halfway.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_components(table: &mut Entities, writes: &ComponentWrites) {
    if writes.all {
        table.clear();
    }
    for name in &writes.gone {
        table.remove(name);
    }
    for (entity, component, value) in &writes.values {
        match value {
            Some(_) if component.is_empty() => {
                table.entry(entity.clone()).or_default();
            }
            Some(value) => {
                table.entry(entity.clone()).or_default().insert(component.clone(), value.clone());
            }
            None => {
                table.entry(entity.clone()).or_default().remove(component);
            }
        }
    }
}

fn write_seal(tables: &mut Tables, seal: &Seal) {
    tables.used.insert(seal.key, instant());
    for (kind, chunk) in &seal.chunks {
        tables.chunks.insert((seal.key, *kind, chunk.from), chunk.clone());
    }
    if let Some(checkpoint) = &seal.checkpoint {
        tables.checkpoints.insert((seal.key, checkpoint.tick), checkpoint.clone());
    }
    let room = tables.rooms.iter_mut().find(|room| room.key == seal.key);
    if let Some(room) = room {
        (room.sealed, room.chain, room.fingerprint) = (Some(seal.head), seal.chain, seal.fingerprint);
        if let Some(writes) = &seal.components {
            room.components_tick = Some(writes.tick);
            write_components(tables.components.entry(seal.key).or_default(), writes);
        }
    }
}

impl Sharer {
    /// The token of a room, if the room is this host's by it.
    fn held(&self, room: &str, token: Option<Token>) -> Result<Token, StoreError> {
        token.filter(|token| self.directory.holds(room, *token)).ok_or_else(|| StoreError::Lost { rooms: vec![room.to_owned()] })
    }

    /// Refuses a flush with anything of rooms that are not this host's.
    fn check(&mut self, rooms: impl Iterator<Item = RoomKey>) -> Result<(), StoreError> {
        let mut lost = BTreeSet::new();
        for key in rooms {
            match self.opened.get(&key) {
                Some((room, token)) if self.directory.holds(room, *token) => {}
                // What stands of it in the journal is for who takes it over.
                Some(_) => lost.extend(self.opened.remove(&key).map(|(room, _)| room)),
                None => drop(lost.insert(format!("room number {}", key.0))),
            }
        }
        if lost.is_empty() { Ok(()) } else { Err(StoreError::Lost { rooms: lost.into_iter().collect() }) }
    }

    /// Writes what the journal is to have. False if it has it.
    fn write_journal(&self, tables: &mut Tables, flush: &Flush, frames: &[(RoomKey, &[u8])]) -> bool {
        let host = self.directory.host();
        let last = tables.flushes.entry(host.to_owned()).or_default();
        if *last >= flush.number {
            return false;
        }
        *last = flush.number;
        let row = |(room, frame): &(RoomKey, &[u8])| SharedRow {
            host: host.to_owned(),
            flush: flush.number,
            room: *room,
            frame: join_frame(&[(*room, *frame)]),
        };
        tables.shared.extend(frames.iter().map(row));
        let is_done = |row: &SharedRow| row.host == host && row.flush <= flush.journal_done && self.opened.contains_key(&row.room);
        tables.shared.retain(|row| !is_done(row));
        true
    }

    /// Seals what earlier hosts of a room left of it in their journals.
    fn take_over(&self, tables: &mut Tables, name: &str) -> Result<Vec<String>, StoreError> {
        self.held(name, self.directory.leases().open(name))?;
        let Some(room) = tables.rooms.iter().find(|room| room.header.name == name).cloned() else { return Ok(Vec::new()) };
        let (mut found, mut ticks): (Vec<String>, Vec<HotTick>) = Default::default();
        for row in tables.shared.iter().filter(|row| row.room == room.key) {
            ticks.extend(read_frame(&row.frame, None)?.into_iter().flat_map(|(_, ticks)| ticks));
        }
        if let Some(seal) = seal_of(&room, ticks, &mut |finding| found.push(finding)) {
            write_seal(tables, &seal);
        }
        tables.shared.retain(|row| row.room != room.key);
        Ok(found)
    }
}

impl Store for MemoryStore {
    fn rooms(&mut self) -> Result<Vec<StoredRoom>, StoreError> {
        Ok(self.tables().rooms.clone())
    }

    fn room(&mut self, name: &str) -> Result<Option<StoredRoom>, StoreError> {
        Ok(self.tables().rooms.iter().find(|room| room.header.name == name).cloned())
    }

    fn enter(&mut self, header: &RoomHeader, protocol: &Description) -> Result<RoomKey, StoreError> {
        let name = &header.name;
        let token = self.sharer.as_ref().map(|sharer| sharer.held(name, sharer.directory.leases().opened(name))).transpose()?;
        let key = self.note_room(header, protocol);
        if let (Some(sharer), Some(token)) = (&mut self.sharer, token) {
            sharer.opened.insert(key, (name.clone(), token));
        }
        Ok(key)
    }

    fn take_over(&mut self, room: &str) -> Result<Vec<String>, StoreError> {
        let Some(sharer) = &self.sharer else { return Ok(Vec::new()) };
        sharer.take_over(&mut self.tables(), room)
    }

    fn protocol(&mut self, fingerprint: Fingerprint) -> Result<Option<Description>, StoreError> {
        Ok(self.tables().protocols.get(&fingerprint.0).cloned())
    }

    fn commit(&mut self, flush: &Flush) -> Result<(), StoreError> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let tables = &mut *tables;
        if let Some(sharer) = &mut self.sharer {
            let frames = split_frame(&flush.frame)?;
            sharer.check(frames.iter().map(|(room, _)| *room).chain(flush.seals.iter().map(|seal| seal.key)))?;
            if !sharer.write_journal(tables, flush, &frames) {
                return Ok(());
            }
        } else {
            tables.flush = flush.number;
            if !flush.frame.is_empty() {
                tables.journal.insert(flush.number, flush.frame.clone());
            }
            tables.journal.retain(|number, _| *number > flush.journal_done);
            // What hosts with leases left, this one has sealed when it began.
            tables.shared.clear();
        }
        flush.seals.iter().for_each(|seal| write_seal(tables, seal));
        for (name, key, seq, memory) in &flush.cursors {
            let place = (name.clone(), *key);
            // Who lost a room may have a projection left that lags behind that of the room's host.
            if self.sharer.is_none() || tables.cursors.get(&place).is_none_or(|(known, _)| known <= seq) {
                tables.cursors.insert(place, (*seq, memory.clone()));
            }
        }
        for (id, answer) in &flush.answered {
            if let Some((_, slot)) = tables.requests.get_mut(id) {
                *slot = Some(answer.clone());
            }
        }
        Ok(())
    }

    fn last_flush(&mut self) -> Result<u64, StoreError> {
        let tables = self.tables();
        Ok(match &self.sharer {
            Some(sharer) => tables.flushes.get(sharer.directory.host()).copied().unwrap_or(0),
            None => tables.flush,
        })
    }

    fn journal(&mut self) -> Result<Vec<(u64, Vec<u8>, bool)>, StoreError> {
        if self.sharer.is_some() {
            // What stands there is other hosts', or is sealed when its room is taken over.
            return Ok(Vec::new());
        }
        let tables = self.tables();
        let own = tables.journal.iter().map(|(number, frame)| (*number, frame.clone(), true));
        Ok(own.chain(tables.shared.iter().map(|row| (row.flush, row.frame.clone(), true))).collect())
    }

    fn journal_of(&mut self, room: RoomKey) -> Result<Vec<(u64, Vec<u8>, bool)>, StoreError> {
        let tables = self.tables();
        let own = tables.journal.iter().map(|(number, frame)| (*number, frame.clone(), true));
        let shared = tables.shared.iter().filter(|row| row.room == room).map(|row| (row.flush, row.frame.clone(), true));
        Ok(own.chain(shared).collect())
    }

    fn chunks(&mut self, room: RoomKey, kind: ChunkKind, from: u64, to: u64, limit: usize) -> Result<Vec<Chunk>, StoreError> {
        let tables = self.tables();
        let of_room = tables.chunks.range((room, kind, 0)..=(room, kind, to)).map(|(_, chunk)| chunk);
        Ok(of_room.filter(|chunk| chunk.to >= from).take(limit).cloned().collect())
    }

    fn checkpoint(&mut self, room: RoomKey, tick: RoomTick, resumed: bool) -> Result<Option<Checkpoint>, StoreError> {
        let tables = self.tables();
        let mut of_room = tables.checkpoints.range((room, RoomTick(0))..=(room, tick)).rev().map(|(_, checkpoint)| checkpoint);
        Ok(of_room.find(|checkpoint| checkpoint.resumed || !resumed).cloned())
    }

    fn checkpoints(&mut self, room: RoomKey) -> Result<Vec<(RoomTick, bool)>, StoreError> {
        let tables = self.tables();
        let of_room = tables.checkpoints.range((room, RoomTick(0))..=(room, RoomTick(u32::MAX)));
        Ok(of_room.map(|((_, tick), checkpoint)| (*tick, checkpoint.resumed)).collect())
    }

    fn add_checkpoint(&mut self, room: RoomKey, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        self.tables().checkpoints.insert((room, checkpoint.tick), checkpoint.clone());
        Ok(())
    }

    fn components(&mut self, room: RoomKey) -> Result<Entities, StoreError> {
        Ok(self.tables().components.get(&room).cloned().unwrap_or_default())
    }

    fn save_snippet(&mut self, room: RoomKey, snippet: &Snippet) -> Result<(), StoreError> {
        self.tables().snippets.insert((room, snippet.label.clone()), snippet.clone());
        Ok(())
    }

    fn snippet(&mut self, room: RoomKey, label: &str) -> Result<Option<Snippet>, StoreError> {
        Ok(self.tables().snippets.get(&(room, label.to_owned())).cloned())
    }

    fn snippets(&mut self, room: RoomKey) -> Result<Vec<(String, RoomTick, u64)>, StoreError> {
        let tables = self.tables();
        let of_room = tables.snippets.iter().filter(|((key, _), _)| *key == room);
        Ok(of_room.map(|((_, label), snippet)| (label.clone(), snippet.tick, snippet.entities.len() as u64)).collect())
    }

    fn cursor(&mut self, projection: &str, room: RoomKey) -> Result<Option<(FactSeq, String)>, StoreError> {
        Ok(self.tables().cursors.get(&(projection.to_owned(), room)).cloned())
    }

    fn ask(&mut self, room: RoomKey, kind: &str, subject: &str) -> Result<i64, StoreError> {
        let mut tables = self.tables();
        let id = tables.requests.last_key_value().map_or(1, |(last, _)| last + 1);
        let request = Request { id, key: room, kind: kind.to_owned(), subject: subject.to_owned() };
        tables.requests.insert(id, (request, None));
        Ok(id)
    }

    fn requests(&mut self) -> Result<Vec<Request>, StoreError> {
        let tables = self.tables();
        let open = tables.requests.values().filter(|(_, answer)| answer.is_none());
        Ok(open.map(|(request, _)| request.clone()).collect())
    }

    fn answer(&mut self, request: i64) -> Result<Option<String>, StoreError> {
        Ok(self.tables().requests.get(&request).and_then(|(_, answer)| answer.clone()))
    }

    fn answer_open(&mut self, request: i64, answer: &str) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let open = tables.requests.get_mut(&request).map(|(_, answer)| answer).filter(|answer| answer.is_none());
        Ok(open.map(|open| *open = Some(answer.to_owned())).is_some())
    }

    fn forget(&mut self, room: RoomKey, before: RoomTick, kinds: &[ChunkKind], checkpoints: bool) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let rows = tables.chunks.len() + tables.checkpoints.len();
        tables.chunks.retain(|(key, kind, _), chunk| *key != room || !kinds.contains(kind) || chunk.tick_to >= before);
        if checkpoints {
            tables.checkpoints.retain(|(key, tick), _| *key != room || *tick >= before);
        }
        Ok((rows - tables.chunks.len() - tables.checkpoints.len()) as u64)
    }

    fn drop_checkpoints(&mut self, room: RoomKey, ticks: &[RoomTick]) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        Ok(ticks.iter().filter(|tick| tables.checkpoints.remove(&(room, **tick)).is_some()).count() as u64)
    }

    fn replace(&mut self, room: RoomKey, kind: ChunkKind, chunks: &[Chunk]) -> Result<(), StoreError> {
        let mut tables = self.tables();
        // One that is not there was deleted meanwhile.
        let Some(is_sealed) = tables.rooms.iter().find(|of| of.key == room).map(|of| of.sealed.is_some()) else { return Ok(()) };
        let is_whole = |chunk: &Chunk| {
            let is_within = |(key, of, from): (RoomKey, ChunkKind, u64)| (key, of) == (room, kind) && from <= chunk.to;
            let within = tables.chunks.range((room, kind, chunk.from)..).take_while(|(place, _)| is_within(**place));
            let within: Vec<&Chunk> = within.map(|(_, chunk)| chunk).collect();
            within.first().is_some_and(|first| first.from == chunk.from) && within.last().is_some_and(|last| last.to == chunk.to)
        };
        if is_sealed && !chunks.iter().all(is_whole) {
            return Ok(());
        }
        for chunk in chunks {
            tables.chunks.retain(|(key, of, from), _| *key != room || *of != kind || !(chunk.from..=chunk.to).contains(from));
            tables.chunks.insert((room, kind, chunk.from), chunk.clone());
        }
        Ok(())
    }

    fn unused(&mut self, prefix: &str, unused_for: Duration, most: usize) -> Result<Vec<UnusedRoom>, StoreError> {
        let tables = self.tables();
        let unused = tables.rooms.iter().filter(|room| room.header.name.starts_with(prefix)).map(|room| UnusedRoom {
            key: room.key,
            name: room.header.name.clone(),
            unused_for: tables.unused_for(room.key),
        });
        let mut unused: Vec<UnusedRoom> = unused.filter(|room| room.unused_for >= unused_for).collect();
        unused.sort_by_key(|room| (Reverse(room.unused_for), room.key));
        unused.truncate(most);
        Ok(unused)
    }

    fn delete(&mut self, room: RoomKey, unused_for: Duration) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let Some(name) = tables.rooms.iter().find(|stored| stored.key == room).map(|stored| stored.header.name.clone()) else {
            return Ok(false);
        };
        if tables.unused_for(room) < unused_for {
            return Ok(false);
        }
        if let Some(owner) = self.sharer.as_ref().map(|sharer| sharer.directory.clone().find(&name)).transpose()?.flatten() {
            return Err(StoreError::Held { room: name, host: owner.host });
        }
        tables.forget_room(room);
        Ok(true)
    }

    fn deleted(&mut self) -> Result<u64, StoreError> {
        Ok(self.tables().deleted)
    }

    fn shrink(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn examine(&mut self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    fn missing(&mut self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn reader(&self) -> Result<Box<dyn Store>, StoreError> {
        Ok(Box::new(self.clone()))
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}
