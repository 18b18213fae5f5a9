//! A store around whose commits something is done, and whose rows may be damaged: fails, waits, crashes.

use std::sync::Arc;
use std::time::Duration;

use crate::protocol::{Description, FactSeq, Fingerprint, RoomTick};
use crate::store::{
    Checkpoint, Chunk, ChunkKind, Entities, Flush, Head, Request, RoomHeader, RoomKey, Snippet, Store, StoreError, StoredRoom, UnusedRoom,
};

/// What is done in the place of a commit. It is given the store that it is around.
type Around = Box<dyn FnMut(&mut dyn Store, &Flush) -> Result<(), StoreError> + Send>;

/// Says of a row that is about to be read, by what it has, whether it can be.
type Read = Arc<dyn Fn(&'static str) -> Result<(), StoreError> + Send + Sync>;

/// A store that is another one, but for its commits: what is done there can fail, wait, or be lost after it was done. Its
/// [rows](Self::reading) may turn out damaged, too.
///
/// ```
/// use roomkeeper::sim::AroundCommits;
/// use roomkeeper::store::{Flush, MemoryStore, Store, StoreError};
///
/// let mut full = AroundCommits::new(Box::new(MemoryStore::new()), |store, flush| match flush.number {
///     1 => Err(StoreError::Io { what: "a flush can't be written".to_owned(), error: std::io::ErrorKind::StorageFull.into() }),
///     _ => store.commit(flush),
/// });
/// assert!(full.commit(&Flush { number: 1, ..Flush::default() }).is_err());
/// assert!(full.commit(&Flush { number: 2, ..Flush::default() }).is_ok());
/// ```
pub struct AroundCommits {
    store: Box<dyn Store>,
    around: Around,
    read: Option<Read>,
}

impl std::fmt::Debug for AroundCommits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AroundCommits")
    }
}

impl AroundCommits {
    /// Does something in the place of each commit. Readers of the store are those of the store itself, but for [damage](Self::reading).
    pub fn new(store: Box<dyn Store>, around: impl FnMut(&mut dyn Store, &Flush) -> Result<(), StoreError> + Send + 'static) -> Self {
        Self { store, around: Box::new(around), read: None }
    }

    /// Asks before rows of a room's past are read, by this store and by its readers, whether they can be. What is asked is told what the rows have.
    #[must_use]
    pub fn reading(mut self, read: impl Fn(&'static str) -> Result<(), StoreError> + Send + Sync + 'static) -> Self {
        self.read = Some(Arc::new(read));
        self
    }

    fn check_rows(&self, what: &'static str) -> Result<(), StoreError> {
        self.read.as_ref().map_or(Ok(()), |read| read(what))
    }
}

macro_rules! pass {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {$(
        fn $name(&mut self, $($argument: $type),*) -> Result<$result, StoreError> {
            self.store.$name($($argument),*)
        }
    )*};
}

macro_rules! read {
    ($($what:literal $name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {$(
        fn $name(&mut self, $($argument: $type),*) -> Result<$result, StoreError> {
            self.check_rows($what)?;
            self.store.$name($($argument),*)
        }
    )*};
}

impl Store for AroundCommits {
    read! {
        "its row" room(name: &str) -> Option<StoredRoom>;
        "a journal" journal_of(room: RoomKey) -> Vec<(u64, Vec<u8>, bool)>;
        "a chunk" chunks(room: RoomKey, kind: ChunkKind, from: u64, to: u64, limit: usize) -> Vec<Chunk>;
        "a checkpoint" checkpoint(room: RoomKey, tick: RoomTick, resumed: bool) -> Option<Checkpoint>;
        "its components" components(room: RoomKey) -> Entities;
        "a snippet" snippet(room: RoomKey, label: &str) -> Option<Snippet>;
    }

    pass! {
        rooms() -> Vec<StoredRoom>;
        sealed(room: RoomKey) -> Option<Head>;
        enter(header: &RoomHeader, protocol: &Description) -> RoomKey;
        protocol(fingerprint: Fingerprint) -> Option<Description>;
        last_flush() -> u64;
        journal() -> Vec<(u64, Vec<u8>, bool)>;
        take_over(room: &str) -> Vec<String>;
        checkpoints(room: RoomKey) -> Vec<(RoomTick, bool)>;
        add_checkpoint(room: RoomKey, checkpoint: &Checkpoint) -> ();
        save_snippet(room: RoomKey, snippet: &Snippet) -> ();
        snippets(room: RoomKey) -> Vec<(String, RoomTick, u64)>;
        cursor(projection: &str, room: RoomKey) -> Option<(FactSeq, String)>;
        ask(room: RoomKey, kind: &str, subject: &str) -> i64;
        requests() -> Vec<Request>;
        answer(request: i64) -> Option<String>;
        answer_open(request: i64, answer: &str) -> bool;
        forget(room: RoomKey, before: RoomTick, kinds: &[ChunkKind], checkpoints: bool) -> u64;
        drop_checkpoints(room: RoomKey, ticks: &[RoomTick]) -> u64;
        replace(room: RoomKey, kind: ChunkKind, chunks: &[Chunk]) -> ();
        unused(prefix: &str, unused_for: Duration, most: usize) -> Vec<UnusedRoom>;
        delete(room: RoomKey, unused_for: Duration) -> bool;
        clear() -> bool;
        deleted() -> u64;
        shrink() -> ();
        examine() -> Vec<String>;
        missing() -> Vec<String>;
        reopen() -> ();
        settle() -> ();
    }

    fn commit(&mut self, flush: &Flush) -> Result<(), StoreError> {
        (self.around)(&mut *self.store, flush)
    }

    fn leave(&mut self, room: RoomKey) {
        self.store.leave(room);
    }

    fn reader(&self) -> Result<Box<dyn Store>, StoreError> {
        let (store, read) = (self.store.reader()?, self.read.clone());
        Ok(match read {
            None => store,
            read => Box::new(Self { store, around: Box::new(|store, flush| store.commit(flush)), read }),
        })
    }
}
