//! A hash of the replicated state, kept up at the cost of the changes.

use std::collections::BTreeMap;

use twox_hash::XxHash3_64;

/// The sum of a hash of each value with its place. Equal states have equal sums, whatever order they came about in.
#[derive(Clone, Debug, Default)]
pub(crate) struct StateHash {
    sum: u64,
    values: BTreeMap<u32, BTreeMap<usize, u64>>,
}

/// The share of one value in the sum.
pub(crate) fn value_hash(component: usize, id: u32, value: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed((component as u64) << 32 | u64::from(id), value)
}

impl StateHash {
    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }

    pub(crate) fn set(&mut self, component: usize, id: u32, value: &[u8]) {
        let hash = value_hash(component, id, value);
        let old = self.values.entry(id).or_default().insert(component, hash);
        self.sum = self.sum.wrapping_sub(old.unwrap_or(0)).wrapping_add(hash);
    }

    pub(crate) fn unset(&mut self, component: usize, id: u32) {
        let old = self.values.get_mut(&id).and_then(|values| values.remove(&component));
        self.sum = self.sum.wrapping_sub(old.unwrap_or(0));
    }

    pub(crate) fn forget(&mut self, id: u32) {
        for hash in self.values.remove(&id).unwrap_or_default().into_values() {
            self.sum = self.sum.wrapping_sub(hash);
        }
    }
}
