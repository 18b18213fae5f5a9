//! Copies a room with its whole history from one store into another, also while its host goes on with it.

use super::archive::{Archive, Hot};
use super::error::StoreError;
use super::follow::rows_of;
use super::record::Head;
use super::recovery::seal_of;
use super::tables::{ChunkKind, ComponentWrites, Flush, RoomKey, Seal, Store, StoredRoom};
use crate::protocol::RoomTick;

/// How often a copy begins anew because what it copies was sealed or compacted meanwhile.
const TRIES: usize = 8;

/// Copies a room with its whole history, as far as it is durable, from one store into another, which must not have it. `progress` hears how
/// many ticks are done.
///
/// The other store has the room once all of it is there: a copy that was interrupted can be made again.
///
/// # Errors
/// If one can't be read, or the other not be written, or has the room; or if nothing of it is stored.
pub fn copy_room(archive: &mut Archive, name: &str, into: &mut dyn Store, mut progress: impl FnMut(RoomTick)) -> Result<(), StoreError> {
    let unfit = |detail: &str| StoreError::Unfit { place: format!("room {name:?}"), detail: detail.to_owned() };
    archive.check_free(name, into)?;
    for _ in 0..TRIES {
        let room = archive.room(name)?;
        let Hot { ticks, sealed, damage } = archive.hot(&room)?;
        if sealed != room.sealed {
            // It was sealed in between: what stands in the journal does not follow what was read of it.
            continue;
        }
        // What is in the journal of a process that was killed is durable too: whoever opens the room seals it, as is done here.
        let mut report = |found: String| tracing::warn!(found, "a room is copied as far as its journal is whole");
        damage.into_iter().for_each(|(place, what)| report(format!("{place} is damaged: {what}")));
        let left = seal_of(&room, ticks, &mut report);
        if room.sealed.is_none() && left.is_none() {
            if archive.room(name)?.sealed.is_none() {
                return Err(unfit("nothing of it is stored"));
            }
            continue;
        }
        if copy_up_to(archive, &room, left, into, &mut progress)? {
            return into.settle();
        }
    }
    Err(StoreError::damaged(name, "its chunks", "they don't end where the room's row says, however often they are read"))
}

/// Where what is sealed ends, in the numbers of a kind of chunks.
pub(super) fn end_of(kind: ChunkKind, head: Head) -> u64 {
    let end = if kind == ChunkKind::Facts { head.seq.0 } else { u64::from(head.tick.0) };
    end.min(u64::MAX >> 1)
}

/// Copies what is sealed, and what is left in the journal, and the end of both last: before it, the other store has no such room. False if the
/// chunks were put together anew or deleted meanwhile in such a way that the copy would have a gap, or more than its head says.
fn copy_up_to(
    archive: &mut Archive,
    room: &StoredRoom,
    left: Option<Seal>,
    into: &mut dyn Store,
    progress: &mut impl FnMut(RoomTick),
) -> Result<bool, StoreError> {
    let description = archive.store().protocol(room.fingerprint)?.unwrap_or_else(|| archive.protocol().describe());
    let key = into.enter(&room.header, &description)?;
    let mut seals = Vec::new();
    if let Some(head) = room.sealed {
        if !copy_sealed(archive, room, head, key, into, progress)? {
            return Ok(false);
        }
        let components = components_of(archive, room, head)?;
        let (chain, fingerprint) = (room.chain, room.fingerprint);
        seals.push(Seal { key, head, chain, fingerprint, chunks: Vec::new(), components, checkpoint: None });
    }
    for (label, ..) in archive.store().snippets(room.key)? {
        if let Some(snippet) = archive.store().snippet(room.key, &label)? {
            into.save_snippet(key, &snippet)?;
        }
    }
    seals.extend(left.map(|left| Seal { key, ..left }));
    let end = seals.last().map(|seal| seal.head.tick);
    let number = into.last_flush()? + 1;
    into.commit(&Flush { number, seals, ..Flush::default() })?;
    end.into_iter().for_each(progress);
    Ok(true)
}

/// Copies the chunks and checkpoints of a room up to a head. False if the copy would have a gap, or more than the head says.
fn copy_sealed(
    archive: &mut Archive,
    room: &StoredRoom,
    head: Head,
    key: RoomKey,
    into: &mut dyn Store,
    progress: &mut impl FnMut(RoomTick),
) -> Result<bool, StoreError> {
    let (begins, kept) = (firsts(archive, room, head)?, kept_from(archive, room)?);
    for kind in ChunkKind::ALL {
        let (end, mut fits) = (end_of(kind, head), true);
        archive.each_page(room, kind, end, |mut page| {
            page.retain(|chunk| kind != ChunkKind::Ticks || chunk.to >= kept);
            let Some(last) = page.last() else { return Ok(()) };
            fits = last.to <= end;
            if fits {
                into.replace(key, kind, &page)?;
                progress(last.tick_to);
            }
            Ok(())
        })?;
        if !fits {
            return Ok(false);
        }
    }
    for (tick, _) in archive.store().checkpoints(room.key)?.into_iter().filter(|(tick, _)| *tick <= head.tick) {
        if let Some(checkpoint) = archive.store().checkpoint(room.key, tick, false)? {
            into.add_checkpoint(key, &checkpoint)?;
        }
    }
    // A room that is made smaller begins with another checkpoint first, and then with other chunks.
    Ok(firsts(archive, room, head)? == begins)
}

/// The first tick whose chunk is of use: what stands before the first checkpoint of a room that has lost its beginning is about to be deleted.
fn kept_from(archive: &mut Archive, room: &StoredRoom) -> Result<u64, StoreError> {
    if !archive.store().chunks(room.key, ChunkKind::Ticks, 0, 0, 1)?.is_empty() {
        return Ok(0);
    }
    let checkpoints = archive.store().checkpoints(room.key)?;
    Ok(checkpoints.first().map_or(0, |(tick, _)| u64::from(tick.0) + 1))
}

/// The numbers with which the checkpoints begin, and the chunks of each kind that are of use.
fn firsts(archive: &mut Archive, room: &StoredRoom, head: Head) -> Result<Vec<Option<u64>>, StoreError> {
    let mut firsts = vec![archive.store().checkpoints(room.key)?.first().map(|(tick, _)| u64::from(tick.0))];
    for kind in ChunkKind::ALL {
        let from = if kind == ChunkKind::Ticks { kept_from(archive, room)? } else { 0 };
        let chunks = archive.store().chunks(room.key, kind, from, end_of(kind, head), 1)?;
        firsts.push(chunks.first().map(|chunk| chunk.from));
    }
    Ok(firsts)
}

/// The table of components as of a tick that is copied. Where the host writes it meanwhile it is made of the ticks; if that can't be, it is left
/// out, and who goes on with the room writes all of it.
fn components_of(archive: &mut Archive, room: &StoredRoom, head: Head) -> Result<Option<ComponentWrites>, StoreError> {
    let Some(tick) = room.components_tick else { return Ok(None) };
    let all = |tick, entities| ComponentWrites { tick, all: true, gone: Vec::new(), values: rows_of(entities) };
    let entities = archive.store().components(room.key)?;
    if tick <= head.tick && archive.room(&room.header.name)?.components_tick == Some(tick) {
        return Ok(Some(all(tick, entities)));
    }
    let Ok((state, _)) = archive.stand_at(room, head.tick) else { return Ok(None) };
    Ok(archive.entities_of(&state).ok().map(|entities| all(head.tick, entities)))
}
