//! The values that a member is owed: lost on their way, or put off because the way is narrow.

use std::collections::BTreeMap;

use super::Offer;
use crate::protocol::{PartSource, RoomTick};

/// From this age on a value goes before all that matters more. 2 s.
pub(crate) const STALE_TICKS: u32 = 40;

/// What a value costs besides its own bytes, about: its net id.
const COST: usize = 2;

/// The values that a member is owed.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    /// By net id: which components, as bits, and since when.
    items: BTreeMap<u32, (u64, RoomTick)>,
    /// Scratch: what could go, how much it matters, and its size.
    candidates: Vec<(u32, u8, u64, usize)>,
}

impl Owed {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.items.clear();
    }

    /// A value is owed since a tick.
    pub(crate) fn add(&mut self, id: u32, ordinal: u8, since: RoomTick) {
        let (mask, oldest) = self.items.entry(id).or_insert((0, since));
        *mask |= 1 << ordinal;
        *oldest = (*oldest).min(since);
    }

    /// A value is owed no more.
    pub(crate) fn settle(&mut self, id: u32, ordinal: u8) {
        if let Some((mask, _)) = self.items.get_mut(&id) {
            *mask &= !(1 << ordinal);
            if *mask == 0 {
                self.items.remove(&id);
            }
        }
    }

    /// Puts what matters most into `source`, about `allowance` bytes of it, but at least one value. It is owed no more.
    pub(crate) fn choose(&mut self, tick: RoomTick, offer: &mut Offer<'_>, allowance: usize, source: &mut PartSource) {
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        let mut total = 0;
        self.items.retain(|id, (mask, since)| {
            for ordinal in (0..64).filter(|ordinal| *mask >> ordinal & 1 == 1).collect::<Vec<u8>>() {
                // What is gone, or too large for a part, travels with the batches.
                let encoded = if offer.may_have(*id, ordinal) { offer.latest.encode(offer.world, *id, ordinal) } else { None };
                let Some(size) = encoded else {
                    *mask &= !(1 << ordinal);
                    continue;
                };
                candidates.push((*id, ordinal, offer.score(*id, ordinal, tick.0.saturating_sub(since.0)), size + COST));
                total += size + COST;
            }
            *mask != 0
        });
        if total > allowance {
            candidates.sort_unstable_by_key(|(id, ordinal, score, _)| (std::cmp::Reverse(*score), *id, *ordinal));
            let mut left = allowance;
            let fits = candidates.iter().take_while(|(_, _, _, size)| {
                let fits = left > 0;
                left = left.saturating_sub(*size);
                fits
            });
            let count = fits.count().max(1);
            candidates.truncate(count);
            candidates.sort_unstable_by_key(|(id, ordinal, ..)| (*id, *ordinal));
        }
        for (id, ordinal, ..) in &candidates {
            offer.latest.stage(source, *id, *ordinal);
            self.settle(*id, *ordinal);
        }
        self.candidates = candidates;
    }
}

impl Offer<'_> {
    /// How much a value matters: by its age and by the weight that the game gives it.
    fn score(&self, id: u32, ordinal: u8, age: u32) -> u64 {
        let weight = u64::from(self.latest.weight(id, ordinal));
        let age = u64::from(age) + 1;
        // Nothing starves.
        if age > u64::from(STALE_TICKS) { u64::from(u32::MAX) + age } else { age * weight }
    }
}
