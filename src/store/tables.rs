//! What a store is: tables that are written by one transaction at a time, and read while that goes on.

use std::time::Duration;

use super::chain::Chain;
use super::error::{CHECKSUM, StoreError};
use super::record::{Entities, Head, RoomHeader, Snippet};
use crate::protocol::{Description, FactSeq, Fingerprint, RoomTick};

/// The number by which a store knows a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomKey(pub i64);

/// A room in a store.
#[derive(Clone, Debug)]
pub struct StoredRoom {
    /// Its number.
    pub key: RoomKey,
    /// Who it is.
    pub header: RoomHeader,
    /// Everything up to this tick and fact is in chunks; what follows is in the journal.
    pub sealed: Option<Head>,
    /// Where the chain of hashes stands after what is in chunks.
    pub chain: Chain,
    /// The tick whose values the table of components has.
    pub components_tick: Option<RoomTick>,
    /// The protocol that wrote it last.
    pub fingerprint: Fingerprint,
    /// False if this row is not what was written: nothing of the room can be relied on.
    pub intact: bool,
}

/// What a chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChunkKind {
    /// Facts, as a JSON array, by their numbers.
    Facts,
    /// Refusals, as a JSON array, by their ticks.
    Refusals,
    /// Ticks, packed, by their numbers.
    Ticks,
}

/// Numbers of facts and ticks are below this, so that one can be added to each and databases know them.
const NUMBER_MAX: u64 = (u64::MAX >> 1) - 1;

impl ChunkKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Facts, Self::Refusals, Self::Ticks];
}

/// A row of facts, refusals or ticks, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The number of the first: a fact's, or a tick's.
    pub from: u64,
    /// The number of the last.
    pub to: u64,
    /// The tick of the first.
    pub tick_from: RoomTick,
    /// The tick of the last.
    pub tick_to: RoomTick,
    /// The protocol that wrote it.
    pub fingerprint: Fingerprint,
    /// What it holds.
    pub payload: Vec<u8>,
}

impl Chunk {
    /// Whether anything can stand where it says that it stands. A forged row may say anything, with a checksum that is right.
    pub(crate) fn is_possible(&self) -> bool {
        self.from <= self.to && self.to < NUMBER_MAX
    }
}

impl Head {
    /// Whether a room can have come so far.
    pub(crate) fn is_possible(&self) -> bool {
        self.tick.0 < u32::MAX && self.seq.0 < NUMBER_MAX
    }
}

/// A head, if a room can have come so far.
pub(super) fn possible(head: Option<Head>, room: impl FnOnce() -> String) -> Result<Option<Head>, StoreError> {
    match head {
        Some(head) if !head.is_possible() => Err(StoreError::damaged(&room(), "its row", "no room can have come so far")),
        head => Ok(head),
    }
}

/// A state that the store took by itself, so that recovery and seeking replay little.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The tick whose state it is.
    pub tick: RoomTick,
    /// True where the room went on from here in a new process: running it again starts here too.
    pub resumed: bool,
    /// The protocol that wrote it.
    pub fingerprint: Fingerprint,
    /// The standing, then the snapshot, packed.
    pub payload: Vec<u8>,
}

/// What the table of components is to hold of a room from now on.
#[derive(Clone, Debug, Default)]
pub struct ComponentWrites {
    /// The tick whose values these are.
    pub tick: RoomTick,
    /// Forget everything first.
    pub all: bool,
    /// Entities that are gone.
    pub gone: Vec<String>,
    /// Values by entity and component; nothing for a component that is gone.
    pub values: Vec<(String, String, Option<String>)>,
}

/// What is written of one room when its ticks go from the journal into chunks.
#[derive(Clone, Debug)]
pub struct Seal {
    /// The room.
    pub key: RoomKey,
    /// Where its ledger stands after it.
    pub head: Head,
    /// The chain of hashes after it.
    pub chain: Chain,
    /// The protocol.
    pub fingerprint: Fingerprint,
    /// The chunks.
    pub chunks: Vec<(ChunkKind, Chunk)>,
    /// What changed among the components.
    pub components: Option<ComponentWrites>,
    /// Checkpoints.
    pub checkpoint: Option<Checkpoint>,
}

/// Everything that is written at once.
#[derive(Clone, Debug, Default)]
pub struct Flush {
    /// Its number; one more than that of the flush before.
    pub number: u64,
    /// The journal of the ticks that are not sealed yet; empty if all are.
    pub frame: Vec<u8>,
    /// Rooms whose ticks are sealed.
    pub seals: Vec<Seal>,
    /// Journals up to this flush hold nothing any more that is not sealed.
    pub journal_done: u64,
    /// Where projections stand: by name and room, the last fact, and what they remember.
    pub cursors: Vec<(String, RoomKey, FactSeq, String)>,
    /// Requests that were carried out, and what came of each.
    pub answered: Vec<(i64, String)>,
}

/// What a request is answered with that was taken back.
const GIVEN_UP: &str = "given up";

/// What a request is answered with that a host is about to carry out.
pub(crate) const TAKEN_UP: &str = "taken up";

/// What somebody asks of a host through its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its number.
    pub id: i64,
    /// The room.
    pub key: RoomKey,
    /// What is asked: `reset`, `revert` or `snippet`.
    pub kind: String,
    /// Of what: the name of a snippet, or the number of a fact.
    pub subject: String,
}

/// A room of which nothing has been written for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusedRoom {
    /// Its number.
    pub key: RoomKey,
    /// Its name.
    pub name: String,
    /// How long ago anything was written of it, by the store's clock.
    pub unused_for: Duration,
}

/// Where rooms are kept. Whatever is written by [`commit`](Self::commit) is there entirely or not at all; it returns when what it wrote
/// would survive what the store promises to survive. Readers see whole commits.
pub trait Store: Send {
    /// Everything that is known of each room, in the order of creation.
    fn rooms(&mut self) -> Result<Vec<StoredRoom>, StoreError>;
    /// The names of the rooms, in the order of creation, and where what is sealed of each ends; of those that are damaged too.
    fn room_heads(&mut self) -> Result<Vec<(String, Option<Head>)>, StoreError> {
        Ok(self.rooms()?.into_iter().map(|room| (room.header.name, room.sealed)).collect())
    }
    /// What is known of the room of that name.
    fn room(&mut self, name: &str) -> Result<Option<StoredRoom>, StoreError>;
    /// Where what is sealed of a room ends.
    fn sealed(&mut self, room: RoomKey) -> Result<Option<Head>, StoreError> {
        Ok(self.rooms()?.into_iter().find(|stored| stored.key == room).and_then(|stored| stored.sealed))
    }
    /// Notes a room, and what its protocol consists of. One of which anything is sealed already stays as it is. Of any other, chunks and
    /// checkpoints are deleted: they are left of a copy that was interrupted.
    fn enter(&mut self, header: &RoomHeader, protocol: &Description) -> Result<RoomKey, StoreError>;
    /// What a protocol consisted of.
    fn protocol(&mut self, fingerprint: Fingerprint) -> Result<Option<Description>, StoreError>;
    /// Writes a flush.
    fn commit(&mut self, flush: &Flush) -> Result<(), StoreError>;
    /// The number of the last flush.
    fn last_flush(&mut self) -> Result<u64, StoreError>;
    /// The journals that are not sealed, oldest first, and whether each is as it was written.
    fn journal(&mut self) -> Result<Vec<(u64, Vec<u8>, bool)>, StoreError>;
    /// As [`journal`](Self::journal), of one room; what stands there of others may be among it.
    fn journal_of(&mut self, room: RoomKey) -> Result<Vec<(u64, Vec<u8>, bool)>, StoreError> {
        let _ = room;
        self.journal()
    }
    /// Gets a room ready to be opened by this process: what another one left of it in the journal is sealed. Returns what was found
    /// damaged, a sentence each. There is nothing to do where one process has all rooms.
    fn take_over(&mut self, room: &str) -> Result<Vec<String>, StoreError> {
        let _ = room;
        Ok(Vec::new())
    }
    /// The chunks of one kind that reach from `from` to `to`, in order, at most `limit`.
    fn chunks(&mut self, room: RoomKey, kind: ChunkKind, from: u64, to: u64, limit: usize) -> Result<Vec<Chunk>, StoreError>;
    /// The newest checkpoint at or before a tick; if asked for, the newest where a process went on.
    fn checkpoint(&mut self, room: RoomKey, tick: RoomTick, resumed: bool) -> Result<Option<Checkpoint>, StoreError>;
    /// The ticks of the checkpoints, and where a process went on.
    fn checkpoints(&mut self, room: RoomKey) -> Result<Vec<(RoomTick, bool)>, StoreError>;
    /// Adds a checkpoint of a tick that is stored, in place of an older one of that tick; whoever writes the room meanwhile.
    fn add_checkpoint(&mut self, room: RoomKey, checkpoint: &Checkpoint) -> Result<(), StoreError>;
    /// The components as of the tick that [`rooms`](Self::rooms) tells.
    fn components(&mut self, room: RoomKey) -> Result<Entities, StoreError>;
    /// Saves a snippet under its name, in place of an older one.
    fn save_snippet(&mut self, room: RoomKey, snippet: &Snippet) -> Result<(), StoreError>;
    /// A snippet.
    fn snippet(&mut self, room: RoomKey, label: &str) -> Result<Option<Snippet>, StoreError>;
    /// The names of the snippets, and how many entities each has.
    fn snippets(&mut self, room: RoomKey) -> Result<Vec<(String, RoomTick, u64)>, StoreError>;
    /// Where a projection stands.
    fn cursor(&mut self, projection: &str, room: RoomKey) -> Result<Option<(FactSeq, String)>, StoreError>;
    /// Asks the host that serves the data for something.
    fn ask(&mut self, room: RoomKey, kind: &str, subject: &str) -> Result<i64, StoreError>;
    /// What is asked for and not answered, in order; of each room at least the first few.
    fn requests(&mut self) -> Result<Vec<Request>, StoreError>;
    /// What came of a request, once it was carried out.
    fn answer(&mut self, request: i64) -> Result<Option<String>, StoreError>;
    /// Answers a request that has no answer yet. False if it has one: that counts, then.
    fn answer_open(&mut self, request: i64, answer: &str) -> Result<bool, StoreError>;
    /// Takes a request back that nobody has taken up: it is answered with `given up`. False if it has an answer.
    fn withdraw(&mut self, request: i64) -> Result<bool, StoreError> {
        self.answer_open(request, GIVEN_UP)
    }
    /// Takes a request up that nobody has taken back: it is answered with `taken up`. False if it has an answer, and is not to be carried
    /// out.
    fn take_up(&mut self, request: i64) -> Result<bool, StoreError> {
        self.answer_open(request, TAKEN_UP)
    }
    /// Deletes chunks and checkpoints: those whose last tick is before `before`, of some kinds. The oldest go first, so that what an interruption
    /// leaves has no gap.
    fn forget(&mut self, room: RoomKey, before: RoomTick, kinds: &[ChunkKind], checkpoints: bool) -> Result<u64, StoreError>;
    /// Deletes the checkpoints of these ticks.
    fn drop_checkpoints(&mut self, room: RoomKey, ticks: &[RoomTick]) -> Result<u64, StoreError>;
    /// Puts chunks in the place of those of the same kind that lie within them: all of them, or none if those are not there any more from the
    /// first to the last, since somebody else deleted some or put them together with others. Of a room of which nothing is sealed yet, as
    /// one that is being copied, they are put there in any case.
    fn replace(&mut self, room: RoomKey, kind: ChunkKind, chunks: &[Chunk]) -> Result<(), StoreError>;
    /// The rooms of which nothing has been written for so long, whose names begin with `prefix`: those first that were left first, at most `most`.
    fn unused(&mut self, prefix: &str, unused_for: Duration, most: usize) -> Result<Vec<UnusedRoom>, StoreError>;
    /// Deletes a room with all that is stored of it, if nothing has been written of it for so long. False if something has, or if there is none of
    /// this number, which no other room ever gets. From then on nobody finds it; what it leaves in the store may be deleted by
    /// [`clear`](Self::clear) only. Whoever deletes a room sees to it that no process of this store has it open; one that another host has is
    /// refused, if rooms are shared.
    fn delete(&mut self, room: RoomKey, unused_for: Duration) -> Result<bool, StoreError>;
    /// Deletes some of what is left of rooms that were deleted, no more than who writes meanwhile can wait for. True if there may be more of it.
    fn clear(&mut self) -> Result<bool, StoreError> {
        Ok(false)
    }
    /// How many rooms were ever deleted. A room that is made when some were is to have an id of its own: there may have been one of its name.
    fn deleted(&mut self) -> Result<u64, StoreError>;
    /// Gives the space of what was deleted back.
    fn shrink(&mut self) -> Result<(), StoreError>;
    /// Checks what only this kind of store can check of itself; a sentence for each thing that is wrong.
    fn examine(&mut self) -> Result<Vec<String>, StoreError>;
    /// True if a process has the data open for writing, or some of it, where that can be told.
    fn is_served(&mut self) -> Result<bool, StoreError> {
        Ok(false)
    }
    /// What was committed once and is not there any more; a sentence for each.
    fn missing(&mut self) -> Result<Vec<String>, StoreError>;
    /// Starts over after an error: what was not committed is gone.
    fn reopen(&mut self) -> Result<(), StoreError>;
    /// Another way to read the same data, for another thread.
    fn reader(&self) -> Result<Box<dyn Store>, StoreError>;
    /// The same, which waits for answers no longer than so long, where the store may have to.
    fn reader_within(&self, _patience: Duration) -> Result<Box<dyn Store>, StoreError> {
        self.reader()
    }
    /// The last flush was the last that has anything of a room, until it is [entered](Self::enter) again.
    fn leave(&mut self, _room: RoomKey) {}
    /// Waits until everything that was committed is in its final place, where the store has several.
    fn settle(&mut self) -> Result<(), StoreError>;
}

/// A room by its name, if there is one. One whose row is not what was written is refused: it only looks like one that is new.
pub(crate) fn intact_room(store: &mut dyn Store, name: &str) -> Result<Option<StoredRoom>, StoreError> {
    match store.room(name)? {
        Some(room) if !room.intact => Err(StoreError::damaged(name, "its row in the table of rooms", CHECKSUM)),
        room => Ok(room),
    }
}

/// A room by its name.
pub(crate) fn find_room(store: &mut dyn Store, name: &str) -> Result<StoredRoom, StoreError> {
    if let Some(room) = intact_room(store, name)? {
        return Ok(room);
    }
    let known = store.room_heads()?.into_iter().map(|(name, _)| name).collect();
    Err(StoreError::NoRoom { room: name.to_owned(), known: some_of(known) })
}

/// Names, in order, for a sentence: as many as anybody reads.
pub(crate) fn some_of(mut names: Vec<String>) -> String {
    const TOLD: usize = 20;
    names.sort_unstable();
    let others = names.len().saturating_sub(TOLD);
    names.truncate(TOLD);
    let told = names.join(", ");
    if others > 0 { format!("{told} and {others} more") } else { told }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_names_are_told_as_anybody_reads() {
        let names = |many: usize| (0..many).rev().map(|nth| format!("r{nth:04}")).collect::<Vec<_>>();
        assert_eq!(some_of(names(0)), "");
        assert_eq!(some_of(names(3)), "r0000, r0001, r0002");
        assert!(some_of(names(20)).ends_with(", r0019") && some_of(names(10_000)).ends_with(", r0019 and 9980 more"));
    }
}
