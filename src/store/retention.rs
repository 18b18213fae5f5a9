//! What is kept for how long, and what is made smaller meanwhile.

use super::archive::{Archive, CHUNKS_A_PAGE};
use super::error::StoreError;
use super::follow::checkpoint_payload;
use super::frame::{pack, unpack};
use super::items::{append, closed, inner};
use super::tables::{Checkpoint, Chunk, ChunkKind, StoredRoom};
use crate::protocol::RoomTick;

/// What is kept for how long, counted back from the last tick of a room. Facts are the story and small; batches are the film.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// Ticks whose state can be told, and run again. Of a fork the beginning of the chain of hashes goes with its first ticks. Default: all.
    pub ticks: Option<u32>,
    /// Ticks whose facts and refusals are kept. As long as no fact is so old that it is deleted, no refusal is either: the hashes of both are
    /// one chain. What is left of a chain without its beginning can't be [checked](super::Verified::unchained) against it. Default: all.
    pub facts: Option<u32>,
    /// How many ticks are packed together once they are old. Default: 1,200, a minute.
    pub chunk_ticks: u32,
    /// How many ticks lie between checkpoints that are kept, once they are old. Default: 1,200.
    pub checkpoint_ticks: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { ticks: None, facts: None, chunk_ticks: 1_200, checkpoint_ticks: 1_200 }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Chunks before.
    pub chunks_before: u64,
    /// Chunks after.
    pub chunks_after: u64,
    /// Their bytes before.
    pub bytes_before: u64,
    /// Their bytes after.
    pub bytes_after: u64,
    /// Chunks and checkpoints that were deleted because of their age.
    pub deleted: u64,
}

impl Archive {
    /// Deletes what is older than `retention` says, and packs what remains together. Every tick that is still kept reads as before.
    /// `progress` hears the tick that is done. The host may run meanwhile: what it seals is behind what is touched here.
    ///
    /// Of ticks that another protocol wrote more are kept than `retention` says: from the last state before on that is stored as a checkpoint.
    ///
    /// # Errors
    /// If what is stored can't be read or written; what was done up to there is done.
    pub fn compact(&mut self, name: &str, retention: Retention, mut progress: impl FnMut(RoomTick)) -> Result<Compacted, StoreError> {
        let room = self.room(name)?;
        let mut compacted = Compacted::default();
        let Some(head) = room.sealed else { return Ok(compacted) };
        (compacted.chunks_before, compacted.bytes_before) = self.weigh(&room)?;
        if let Some(keep) = retention.ticks {
            compacted.deleted += self.forget_ticks(&room, RoomTick(head.tick.0.saturating_sub(keep)))?;
        }
        if let Some(keep) = retention.facts {
            let before = RoomTick(head.tick.0.saturating_sub(keep));
            compacted.deleted += self.store().forget(room.key, before, &[ChunkKind::Facts], false)?;
            let first = self.store().chunks(room.key, ChunkKind::Facts, 0, u64::MAX >> 1, 1)?;
            // Refusals that are missing can't be told from ones that were taken away after the event, but for the facts that are missing with them.
            if !self.has_first_fact(&room, first.first())? {
                compacted.deleted += self.store().forget(room.key, before, &[ChunkKind::Refusals], false)?;
            }
        }
        for kind in ChunkKind::ALL {
            self.merge(&room, kind, retention.chunk_ticks.max(1), &mut progress)?;
        }
        compacted.deleted += self.thin_checkpoints(&room, retention.checkpoint_ticks)?;
        (compacted.chunks_after, compacted.bytes_after) = self.weigh(&room)?;
        Ok(compacted)
    }

    fn weigh(&mut self, room: &StoredRoom) -> Result<(u64, u64), StoreError> {
        let (mut chunks, mut bytes) = (0, 0);
        for kind in ChunkKind::ALL {
            self.each_page(room, kind, u64::MAX >> 1, |page| {
                chunks += page.len() as u64;
                bytes += page.iter().map(|chunk| chunk.payload.len() as u64).sum::<u64>();
                Ok(())
            })?;
        }
        Ok((chunks, bytes))
    }

    /// The tick with which what is kept can begin, at or before `edge` and after `first`: one whose state stands in a checkpoint.
    fn begin_kept(&mut self, room: &StoredRoom, first: RoomTick, edge: RoomTick) -> Result<Option<RoomTick>, StoreError> {
        let known = self.store().checkpoint(room.key, edge, false)?.map(|known| known.tick);
        if known == Some(edge) {
            return Ok(known);
        }
        match self.stand_at(room, edge) {
            Ok((state, standing)) => {
                let payload = checkpoint_payload(self.protocol(), &state, &standing);
                let fingerprint = self.protocol().fingerprint();
                self.store().add_checkpoint(room.key, &Checkpoint { tick: edge, resumed: false, fingerprint, payload })?;
                Ok(Some(edge))
            }
            // Ticks of another protocol can't be followed here: the last state that it stored itself has to do.
            Err(StoreError::Protocol { .. }) => Ok(known.filter(|known| *known > first)),
            Err(error) => Err(error),
        }
    }

    /// Deletes the ticks before one, whose state is kept as a checkpoint first.
    fn forget_ticks(&mut self, room: &StoredRoom, before: RoomTick) -> Result<u64, StoreError> {
        let (first, _) = self.kept_ticks(room)?;
        // The first chunk that stays must go on from the checkpoint.
        let chunks = self.store().chunks(room.key, ChunkKind::Ticks, u64::from(before.0), u64::MAX >> 1, 1)?;
        let edge = chunks.first().map_or(before, |chunk| chunk.tick_from.min(before));
        let Some(edge) = edge.0.checked_sub(1).map(RoomTick).filter(|edge| *edge >= first) else { return Ok(0) };
        let Some(edge) = self.begin_kept(room, first, edge)? else { return Ok(0) };
        // The checkpoints first: from one whose ticks are gone a state would be told that there never was, by whoever reads what an interruption leaves.
        let checkpoints = self.store().forget(room.key, edge, &[], true)?;
        let after = RoomTick(edge.0 + 1);
        Ok(checkpoints + self.store().forget(room.key, after, &[ChunkKind::Ticks], false)?)
    }

    /// Packs neighbours together that lie in the same stretch of `ticks` ticks.
    fn merge(&mut self, room: &StoredRoom, kind: ChunkKind, ticks: u32, progress: &mut impl FnMut(RoomTick)) -> Result<(), StoreError> {
        let stretch = |chunk: &Chunk| (chunk.tick_from.0 / ticks, chunk.fingerprint);
        let mut from = 0;
        loop {
            let found = self.store().chunks(room.key, kind, from, u64::MAX >> 1, CHUNKS_A_PAGE)?;
            let is_all = found.len() < CHUNKS_A_PAGE;
            let mut groups: Vec<&[Chunk]> = found.chunk_by(|one, next| stretch(one) == stretch(next)).collect();
            // The last one may go on behind what was read.
            if !is_all && groups.len() > 1 {
                groups.pop();
            }
            for group in groups {
                let Some(last) = group.last() else { continue };
                from = last.to + 1;
                progress(last.tick_to);
                if group.len() > 1 {
                    self.store().replace(room.key, kind, &[merged(kind, group)?])?;
                }
            }
            if is_all {
                return Ok(());
            }
        }
    }

    fn thin_checkpoints(&mut self, room: &StoredRoom, ticks: u32) -> Result<u64, StoreError> {
        let all = self.store().checkpoints(room.key)?;
        let (mut kept, mut drop) = (None::<RoomTick>, Vec::new());
        let newest = all.last().map(|(tick, _)| *tick);
        for (tick, resumed) in all {
            let near = kept.is_some_and(|kept| tick.0 - kept.0 < ticks);
            if near && !resumed && Some(tick) != newest {
                drop.push(tick);
            } else {
                kept = Some(tick);
            }
        }
        self.store().drop_checkpoints(room.key, &drop)
    }
}

/// Several chunks as one.
fn merged(kind: ChunkKind, group: &[Chunk]) -> Result<Chunk, StoreError> {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return Err(StoreError::Stopped) };
    let mut payload = Vec::new();
    if kind == ChunkKind::Ticks {
        for chunk in group {
            payload.extend_from_slice(&unpack(&chunk.payload)?);
        }
        payload = pack(&payload);
    } else {
        for chunk in group {
            append(inner(&chunk.payload), &mut payload);
        }
        payload = closed(payload);
    }
    Ok(Chunk { from: first.from, to: last.to, tick_from: first.tick_from, tick_to: last.tick_to, fingerprint: first.fingerprint, payload })
}
