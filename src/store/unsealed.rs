//! What waits to go from the journal into chunks, of one room.

use super::frame::{pack, write_kept};
use super::items::{append, closed};
use super::tables::{Chunk, ChunkKind};
use crate::protocol::{FactSeq, Fingerprint, RoomTick, Taken, Trail};

/// What waits to be sealed.
#[derive(Default)]
pub(crate) struct Unsealed {
    ticks: Vec<u8>,
    span: Option<(RoomTick, RoomTick)>,
    facts: Items,
    refusals: Items,
    /// False while nothing happened that would have to be read again.
    eventful: bool,
}

/// Facts or refusals, as an array that is open.
#[derive(Default)]
struct Items {
    array: Vec<u8>,
    count: u64,
    span: Option<(RoomTick, RoomTick)>,
}

fn widen(span: &mut Option<(RoomTick, RoomTick)>, tick: RoomTick) {
    *span = Some((span.map_or(tick, |(first, _)| first), tick));
}

impl Items {
    fn add(&mut self, tick: RoomTick, texts: &[impl AsRef<[u8]>]) {
        for text in texts {
            append(text.as_ref(), &mut self.array);
            widen(&mut self.span, tick);
        }
        self.count += texts.len() as u64;
    }
}

impl Unsealed {
    /// Takes a tick up; returns it as it is written.
    pub(crate) fn tick(&mut self, tick: RoomTick, batch: Option<&bytes::Bytes>, taken: &[Taken], trail: &Trail) -> &[u8] {
        let start = self.ticks.len();
        write_kept(tick, batch, taken, trail, &mut self.ticks);
        widen(&mut self.span, tick);
        self.eventful |= batch.is_some() || !taken.is_empty() || trail.rng.is_some();
        self.ticks.get(start..).unwrap_or_default()
    }

    /// Takes the facts and refusals of a tick up, as marked texts.
    pub(crate) fn items(&mut self, tick: RoomTick, facts: &[impl AsRef<[u8]>], refusals: &[impl AsRef<[u8]>]) {
        self.facts.add(tick, facts);
        self.refusals.add(tick, refusals);
    }

    /// True if there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.span.is_none()
    }

    /// How many facts there are.
    pub(crate) fn facts(&self) -> u64 {
        self.facts.count
    }

    /// All of it as chunks. `last` is the last fact: facts have numbers without gaps.
    pub(crate) fn into_chunks(self, fingerprint: Fingerprint, last: FactSeq) -> Vec<(ChunkKind, Chunk)> {
        let mut chunks = Vec::new();
        let mut push = |kind, (from, to), (tick_from, tick_to), payload| {
            chunks.push((kind, Chunk { from, to, tick_from, tick_to, fingerprint, payload }));
        };
        let by_tick = |(first, last): (RoomTick, RoomTick)| (u64::from(first.0), u64::from(last.0));
        if let Some(span) = self.facts.span {
            push(ChunkKind::Facts, (last.0 + 1 - self.facts.count, last.0), span, closed(self.facts.array));
        }
        if let Some(span) = self.refusals.span {
            push(ChunkKind::Refusals, by_tick(span), span, closed(self.refusals.array));
        }
        if let Some(span) = self.span.filter(|_| self.eventful) {
            push(ChunkKind::Ticks, by_tick(span), span, pack(&self.ticks));
        }
        chunks
    }
}
