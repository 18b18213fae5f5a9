//! What waits for the writer, and how much of it a round takes.

use bytes::Bytes;

use super::super::record::TickRecord;
use super::super::tables::RoomKey;
use super::{Asked, Opened};
use crate::protocol::{FactSeq, RoomTick};

/// How many bytes of ticks one round writes, unless a single tick has more. What waited while nothing could be written is written piece by piece: all
/// of it at once may take a database longer than it is waited for, and would be tried again for ever.
const ROUND_BYTES_MAX: usize = 8 << 20;

#[derive(Default)]
pub(super) struct Waiting {
    pub(super) opened: Vec<Opened>,
    pub(super) records: Vec<(u64, TickRecord)>,
    /// Snapshots of rooms, to be compared with what the batches tell of these ticks.
    pub(super) audits: Vec<(u64, RoomTick, Bytes)>,
    pub(super) bytes: usize,
    pub(super) closed: Vec<u64>,
    pub(super) cursors: Vec<(String, RoomKey, FactSeq, String)>,
    pub(super) answered: Vec<(i64, String)>,
    pub(super) asked: Vec<Asked>,
    /// Flush at once, and seal everything, for those who wait for it.
    pub(super) syncs_asked: u64,
    pub(super) stop: bool,
    /// More ticks wait than are taken here.
    pub(super) is_cut: bool,
    /// What waits here was left by a round that was cut: it has waited long enough.
    pub(super) is_rest: bool,
}

impl Waiting {
    /// What a round writes, and how often somebody asked for a flush: all that waits, or the first ticks of it.
    pub(super) fn take(&mut self) -> (Self, u64) {
        let mut bytes = 0;
        let fits = |(_, record): &&(u64, TickRecord)| {
            let is_first = bytes == 0;
            bytes += record.weight();
            is_first || bytes <= ROUND_BYTES_MAX
        };
        let count = self.records.iter().take_while(fits).count();
        let asked = std::mem::take(&mut self.asked);
        let rest = Self { syncs_asked: self.syncs_asked, stop: self.stop, asked, ..Self::default() };
        let mut taken = std::mem::replace(self, rest);
        if count < taken.records.len() {
            taken.leave(count, self);
        }
        (taken, self.syncs_asked)
    }

    /// Leaves the ticks after the first `count` for later, and what has to come after them.
    fn leave(&mut self, count: usize, rest: &mut Self) {
        let records = self.records.split_off(count);
        let is_later = |(number, tick, _): &(u64, RoomTick, Bytes)| records.iter().any(|(of, record)| of == number && record.tick == *tick);
        (rest.audits, self.audits) = std::mem::take(&mut self.audits).into_iter().partition(is_later);
        rest.closed = std::mem::take(&mut self.closed);
        let audits = rest.audits.iter().map(|(.., snapshot)| snapshot.len());
        rest.bytes = records.iter().map(|(_, record)| record.weight()).chain(audits).sum();
        rest.records = records;
        self.bytes = self.bytes.saturating_sub(rest.bytes);
        (self.is_cut, rest.is_rest) = (true, true);
    }
}
