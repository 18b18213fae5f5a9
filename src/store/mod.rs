//! The store: what rooms leave behind, so that they outlive their process and any moment can be seen again.
//!
//! A [`Writer`] takes what the rooms of a host hand over, in memory, and commits all of it together every 50 ms: the rooms never wait.
//! A [`Store`] is where it goes: [`SqliteStore`] on disk, [`MemoryStore`] for tests, `PostgresStore` (feature `postgres`) for
//! many hosts, which a [`Directory`] tells whose which room is. An [`Archive`] reads it again: facts, the state at any tick, who changed what. A [`Stream`] follows the facts as they become durable, for projections.
//! With the feature `nats` they go out to NATS JetStream as well, for projections outside the process.
//!
//! May use: protocol. Never: rooms, clients; sockets only in `postgres` and `nats`.

mod archive;
mod chain;
mod clock;
mod copy;
mod directory;
mod error;
mod follow;
mod frame;
mod items;
mod memory;
#[cfg(feature = "nats")]
pub mod nats;
mod place;
#[cfg(feature = "postgres")]
mod postgres;
mod projection;
mod record;
mod recovery;
mod retention;
mod snippets;
mod sqlite;
mod stream;
#[cfg_attr(
    not(any(feature = "nats", all(feature = "client", feature = "host"))),
    expect(dead_code, reason = "nobody publishes, and nothing is configured")
)]
mod subjects;
mod sums;
mod tables;
mod timeline;
mod unsealed;
mod verify;
mod writer;

#[cfg(feature = "client")]
pub(crate) use self::archive::name_of;
pub use self::archive::{Archive, Audited, Recovered, RecoveredScene};
pub use self::copy::copy_room;
pub use self::directory::{Claim, Directory, HostEntry, Lease, Leases, Load, MemoryDirectory, Owner, RoomEntry, Token};
pub use self::error::StoreError;
pub use self::memory::MemoryStore;
pub use self::place::{is_served, reader_at, share_at, store_at};
#[cfg(all(feature = "client", feature = "host"))]
pub(crate) use self::place::{names_postgres, place_for_people};
#[cfg(feature = "postgres")]
pub use self::postgres::{PostgresDirectory, PostgresOptions, PostgresStore};
pub use self::projection::{Narration, Projection, Projector, Scoreboard, Teller};
pub use self::record::{Entities, Head, KeptTick, RoomHeader, Snippet, StoredFact, StoredRefusal, TickRecord};
pub use self::retention::{Compacted, Retention};
pub use self::sqlite::{Durability, SqliteStore, data_file};
pub use self::stream::{Stream, StreamItem};
#[cfg(all(feature = "client", feature = "host"))]
pub(crate) use self::subjects::{PREFIX, STREAM, is_prefix, is_stream};
#[cfg(feature = "host")]
pub(crate) use self::tables::intact_room;
pub use self::tables::{Checkpoint, Chunk, ChunkKind, ComponentWrites, Flush, Request, RoomKey, Seal, Store, StoredRoom, UnusedRoom};
#[cfg(all(feature = "client", feature = "host"))]
pub(crate) use self::tables::{TAKEN_UP, some_of};
pub use self::timeline::{Cursor, Link, StateDiff, Why};
pub use self::verify::{Finding, Verified};
pub use self::writer::{
    Asked, CursorKeeper, FreshFacts, Handle, Opening, Pressure, RoomFate, RoomNews, Writer, WriterOptions, WriterReport,
};
#[cfg(all(any(test, fuzzing), feature = "admin"))]
pub(crate) use self::{
    follow::{checkpoint_payload, read_checkpoint},
    frame::{HotTick, join_frame, pack, read_chunk, read_frame, read_tick, split_frame, unpack, write_kept, write_texts},
    items::unmarked,
    record::Item,
    recovery::seal_journal,
};
