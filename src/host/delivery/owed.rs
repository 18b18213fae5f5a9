//! The values that a member is owed: lost on their way, or put off because the way is narrow.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::Offer;
use crate::protocol::{PartSource, RoomTick};
use crate::room::Vantage;

/// What a value costs besides its own bytes, about: its net id.
const COST: usize = 2;

/// A value that could go.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u32,
    ordinal: u8,
    score: u64,
    size: usize,
}

impl Candidate {
    /// What goes first comes first.
    fn order(&self) -> (Reverse<u64>, u32, u8) {
        (Reverse(self.score), self.id, self.ordinal)
    }
}

/// Since when a value is owed.
#[derive(Clone, Copy, Debug)]
struct Wait {
    /// By which it is chosen.
    since: RoomTick,
    /// The member may lack what became of it from this tick on: it may have been lost more than once.
    lacking: RoomTick,
}

/// The values that a member is owed.
///
/// What has waited longest goes first, where a tick counts as many times as the game says that the component matters, and less for what is far
/// away, if it says so. So where the way
/// is too narrow for all, each value is refreshed in proportion to its priority, and none starves: a member that is sent `b` bytes of
/// values a tick waits for a value of priority `p` at most about `sum(priority * size) / (b * p)` ticks.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    /// By net id and component.
    items: BTreeMap<(u32, u8), Wait>,
    /// Scratch.
    candidates: Vec<Candidate>,
}

impl Owed {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.items.clear();
    }

    /// A value is owed since a tick, and may be lacking since an earlier one.
    pub(crate) fn add(&mut self, id: u32, ordinal: u8, since: RoomTick, lacking: RoomTick) {
        let oldest = self.items.entry((id, ordinal)).or_insert(Wait { since, lacking });
        *oldest = Wait { since: oldest.since.min(since), lacking: oldest.lacking.min(lacking) };
    }

    /// The tick from which on the member may lack something that it is owed.
    pub(crate) fn lacking(&self) -> Option<RoomTick> {
        self.items.values().map(|wait| wait.lacking).min()
    }

    /// A value is owed no more.
    pub(crate) fn settle(&mut self, id: u32, ordinal: u8) {
        self.items.remove(&(id, ordinal));
    }

    /// Puts what matters most into `source`, about `allowance` bytes of it, but at least one value. It is owed no more. Returns since when
    /// the member may lack something of it.
    pub(crate) fn choose(&mut self, tick: RoomTick, offer: &mut Offer<'_>, allowance: usize, source: &mut PartSource) -> RoomTick {
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        let vantage = offer.user.and_then(|user| Vantage::of(offer.world, user));
        let mut total = 0;
        self.items.retain(|(id, ordinal), wait| {
            // What is gone, or too large for a part, travels with the batches.
            let encoded = if offer.may_have(*id, *ordinal) { offer.latest.encode(offer.world, *id, *ordinal) } else { None };
            let Some(size) = encoded else { return false };
            let (size, age) = (size + COST, u64::from(tick.0.saturating_sub(wait.since.0)) + 1);
            let near = vantage.map_or(Vantage::FULL, |vantage| vantage.share(offer.world, *id));
            let score = age * u64::from(offer.latest.weight(*ordinal)) * u64::from(near);
            candidates.push(Candidate { id: *id, ordinal: *ordinal, score, size });
            total += size;
            true
        });
        if total > allowance {
            pick(&mut candidates, allowance);
        }
        let mut lacking = tick;
        for Candidate { id, ordinal, .. } in &candidates {
            offer.latest.stage(source, *id, *ordinal);
            lacking = self.items.remove(&(*id, *ordinal)).map_or(lacking, |wait| lacking.min(wait.lacking));
        }
        self.candidates = candidates;
        lacking
    }
}

/// Leaves what matters most, about `allowance` bytes of it, but at least one, in the order of parts.
fn pick(candidates: &mut Vec<Candidate>, allowance: usize) {
    // No more than that can fit: only they need an order.
    let most = allowance / (COST + 1) + 1;
    if most < candidates.len() {
        candidates.select_nth_unstable_by_key(most, Candidate::order);
        candidates.truncate(most);
    }
    candidates.sort_unstable_by_key(Candidate::order);
    let mut left = allowance;
    let fits = candidates.iter().take_while(|candidate| {
        let fits = left > 0;
        left = left.saturating_sub(candidate.size);
        fits
    });
    let count = fits.count().max(1);
    candidates.truncate(count);
    candidates.sort_unstable_by_key(|candidate| (candidate.id, candidate.ordinal));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_picked_matters_most_and_fits(scores in prop::collection::vec((0..50_u64, 3..200_usize), 1..300), allowance in 0..4_000_usize) {
            let candidate = |(id, (score, size)): (usize, &(u64, usize))| Candidate { id: id as u32, ordinal: 0, score: *score, size: *size };
            let mut candidates: Vec<Candidate> = scores.iter().enumerate().map(candidate).collect();
            pick(&mut candidates, allowance);
            let least = candidates.iter().map(|candidate| candidate.score).min().unwrap();
            let picked: Vec<u32> = candidates.iter().map(|candidate| candidate.id).collect();
            prop_assert!(picked.is_sorted());
            let left_out = |id: &u32| !picked.contains(id);
            prop_assert!((0..scores.len() as u32).filter(left_out).all(|id| scores[id as usize].0 <= least));
            let size: usize = candidates.iter().map(|candidate| candidate.size).sum();
            prop_assert!(size < allowance + 200 || candidates.len() == 1);
        }
    }
}
