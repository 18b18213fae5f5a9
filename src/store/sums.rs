//! Checksums of rows, which every store on a disk carries, and what else their rows have in common.

use twox_hash::XxHash3_64;

use super::chain::Chain;
use super::record::{Entities, Head, RoomHeader};
use super::tables::{Checkpoint, Chunk, ChunkKind};
use crate::protocol::{FactSeq, RoomId, RoomTick};

pub(super) fn sum_of(payload: &[u8]) -> i64 {
    XxHash3_64::oneshot(payload).cast_signed()
}

/// A checksum over some bytes and where they belong.
pub(super) fn sum_with_place(place: &[u64], payload: &[u8]) -> i64 {
    let seed = place.iter().fold(0, |sum: u64, number| sum.wrapping_mul(31).wrapping_add(*number));
    XxHash3_64::oneshot_with_seed(seed, payload).cast_signed()
}

/// A checksum over a chunk and where it belongs: a place that was damaged must not lead anywhere.
pub(super) fn sum_of_chunk(chunk: &Chunk) -> i64 {
    let place = [chunk.from, chunk.to, u64::from(chunk.tick_from.0), u64::from(chunk.tick_to.0), chunk.fingerprint.0];
    sum_with_place(&place, &chunk.payload)
}

/// A checksum over where a room's ledger stands.
pub(super) fn sum_of_head(fingerprint: i64, tick: Option<u32>, seq: Option<i64>, chain: &[u8]) -> i64 {
    let place =
        [fingerprint.cast_unsigned(), tick.map_or(0, |tick| u64::from(tick) + 1), seq.map_or(0, |seq| seq.cast_unsigned().wrapping_add(1))];
    sum_with_place(&place, chain)
}

pub(super) fn sum_of_checkpoint(checkpoint: &Checkpoint) -> i64 {
    let seed = checkpoint.fingerprint.0.wrapping_add(u64::from(checkpoint.tick.0) * 2 + u64::from(checkpoint.resumed));
    XxHash3_64::oneshot_with_seed(seed, &checkpoint.payload).cast_signed()
}

/// A header that can't be read: of its room nothing is known but the name.
pub(super) fn lost_header(name: String) -> RoomHeader {
    let uid = RoomId::named(&name).as_uuid();
    RoomHeader { name, uid, seed: 0, notes: false, check: false, level: None, forked_from: None }
}

/// The chain that bytes stand for; that of an empty ledger where they stand for none.
pub(super) fn chain_of(bytes: &[u8], header: &RoomHeader) -> Chain {
    Chain::from_bytes(bytes).unwrap_or_else(|| Chain::new(header.id()))
}

/// The tables that hold a room's past.
pub(super) const LEDGER_TABLES: [&str; 4] = ["fact_chunk", "refusal_chunk", "tick_chunk", "checkpoint"];

/// The tables that hold anything of a room, but for the one that says that there is one, and the journal.
pub(super) const ROOM_TABLES: [&str; 9] =
    ["fact_chunk", "refusal_chunk", "tick_chunk", "checkpoint", "component", "snippet", "snippet_label", "projection", "request"];

/// A tick, as a row has it. A number that is none becomes the last tick of all, to which no room comes.
pub(super) fn tick_of(number: i64) -> RoomTick {
    RoomTick(u32::try_from(number).unwrap_or(u32::MAX))
}

/// Where what is sealed of a room ends, as its row says. Where that is half of an answer, or a number that can't be, it is one to which no room
/// comes, and not the answer that nothing is sealed: then the room would begin anew.
pub(super) fn head_of(tick: Option<i64>, seq: Option<i64>) -> Option<Head> {
    if tick.is_none() && seq.is_none() {
        return None;
    }
    let tick = tick.map_or(RoomTick(u32::MAX), tick_of);
    Some(Head { tick, seq: FactSeq(seq.map_or(u64::MAX, i64::cast_unsigned)) })
}

pub(super) fn table(kind: ChunkKind) -> &'static str {
    match kind {
        ChunkKind::Facts => "fact_chunk",
        ChunkKind::Refusals => "refusal_chunk",
        ChunkKind::Ticks => "tick_chunk",
    }
}

/// Entities from rows of entity, component and value. A row without a component name says that the entity is there.
pub(super) fn gathered(rows: Vec<(String, String, String)>) -> Entities {
    let mut entities = Entities::new();
    for (entity, component, value) in rows {
        let components = entities.entry(entity).or_default();
        if !component.is_empty() {
            components.insert(component, value);
        }
    }
    entities
}
