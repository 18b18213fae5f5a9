//! Whether what is stored of a room is what the room is: its state as a whole, compared with the batches, while it runs.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{Handle, Work};
use crate::protocol::RoomTick;

/// How many differences are kept to be told.
const TOLD_MAX: usize = 16;

impl Handle {
    /// Hands over a room's snapshot of the tick that was [recorded](Self::record) last. What it differs by from what the batches tell is logged, and
    /// [counted](super::WriterReport::differences): something wrote a component behind Bevy's change detection, so neither clients nor the store know of it.
    pub fn audit(&self, tick: RoomTick, snapshot: Bytes) {
        self.shared.pending.fetch_add(snapshot.len(), Ordering::Relaxed);
        let mut waiting = self.shared.waiting();
        waiting.bytes += snapshot.len();
        waiting.audits.push((self.number, tick, snapshot));
    }
}

impl Work {
    /// Compares a room with its snapshot of the tick that it was just followed to, if there is one.
    pub(super) fn compare(&mut self, audits: &[(u64, RoomTick, Bytes)], number: u64, tick: RoomTick) {
        let of_tick = |(of, at, _): &&(u64, RoomTick, Bytes)| (*of, *at) == (number, tick);
        let Some(((.., snapshot), room)) = audits.iter().find(of_tick).zip(self.rooms.get(&number)) else { return };
        let Some(difference) = (if room.broken { None } else { room.follower.differs(tick, snapshot) }) else { return };
        let name = &room.follower.header.name;
        tracing::error!(room = name, %tick, difference, "a room is not what is told and stored of it: something writes it without Bevy's change detection");
        self.report.differences += 1;
        if self.report.told.len() < TOLD_MAX {
            self.report.told.push(format!("{name}, tick {tick}: {difference}"));
        }
    }
}
