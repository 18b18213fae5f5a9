//! A store around whose commits something is done: fails, waits, crashes.

use crate::protocol::{Description, FactSeq, Fingerprint, RoomTick};
use crate::store::{
    Checkpoint, Chunk, ChunkKind, Entities, Flush, Head, Request, RoomHeader, RoomKey, Snippet, Store, StoreError, StoredRoom,
};

/// What is done in the place of a commit. It is given the store that it is around.
type Around = Box<dyn FnMut(&mut dyn Store, &Flush) -> Result<(), StoreError> + Send>;

/// A store that is another one, but for its commits: what is done there can fail, wait, or be lost after it was done.
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
}

impl std::fmt::Debug for AroundCommits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AroundCommits")
    }
}

impl AroundCommits {
    /// Does something in the place of each commit. Readers of the store are those of the store itself.
    pub fn new(store: Box<dyn Store>, around: impl FnMut(&mut dyn Store, &Flush) -> Result<(), StoreError> + Send + 'static) -> Self {
        Self { store, around: Box::new(around) }
    }
}

macro_rules! pass {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {$(
        fn $name(&mut self, $($argument: $type),*) -> Result<$result, StoreError> {
            self.store.$name($($argument),*)
        }
    )*};
}

impl Store for AroundCommits {
    pass! {
        rooms() -> Vec<StoredRoom>;
        room(name: &str) -> Option<StoredRoom>;
        sealed(room: RoomKey) -> Option<Head>;
        enter(header: &RoomHeader, protocol: &Description) -> RoomKey;
        protocol(fingerprint: Fingerprint) -> Option<Description>;
        last_flush() -> u64;
        journal() -> Vec<(u64, Vec<u8>, bool)>;
        journal_of(room: RoomKey) -> Vec<(u64, Vec<u8>, bool)>;
        take_over(room: &str) -> Vec<String>;
        chunks(room: RoomKey, kind: ChunkKind, from: u64, to: u64, limit: usize) -> Vec<Chunk>;
        checkpoint(room: RoomKey, tick: RoomTick, resumed: bool) -> Option<Checkpoint>;
        checkpoints(room: RoomKey) -> Vec<(RoomTick, bool)>;
        add_checkpoint(room: RoomKey, checkpoint: &Checkpoint) -> ();
        components(room: RoomKey) -> Entities;
        save_snippet(room: RoomKey, snippet: &Snippet) -> ();
        snippet(room: RoomKey, label: &str) -> Option<Snippet>;
        snippets(room: RoomKey) -> Vec<(String, RoomTick, u64)>;
        cursor(projection: &str, room: RoomKey) -> Option<(FactSeq, String)>;
        ask(room: RoomKey, kind: &str, subject: &str) -> i64;
        requests() -> Vec<Request>;
        answer(request: i64) -> Option<String>;
        forget(room: RoomKey, before: RoomTick, kinds: &[ChunkKind], checkpoints: bool) -> u64;
        drop_checkpoints(room: RoomKey, ticks: &[RoomTick]) -> u64;
        replace(room: RoomKey, kind: ChunkKind, chunks: &[Chunk]) -> ();
        shrink() -> ();
        examine() -> Vec<String>;
        missing() -> Vec<String>;
        reopen() -> ();
        settle() -> ();
    }

    fn commit(&mut self, flush: &Flush) -> Result<(), StoreError> {
        (self.around)(&mut *self.store, flush)
    }

    fn reader(&self) -> Result<Box<dyn Store>, StoreError> {
        self.store.reader()
    }
}
