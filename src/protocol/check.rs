//! A hash of the replicated state, kept up at the cost of the changes.

use twox_hash::XxHash3_64;

#[cfg(feature = "host")]
use super::fold::Dirty;
#[cfg(feature = "host")]
use super::ids::NetId;
#[cfg(feature = "host")]
use super::state::State;
use super::versions::place;

/// The sum of a hash of each value with its place. Equal states have equal sums, whatever order they came about in.
#[derive(Clone, Debug, Default)]
pub(crate) struct StateHash {
    sum: u64,
    /// By net id: the components that the entity has, in order, and the share of each value. Few each, and near each other.
    values: Vec<Vec<(usize, u64)>>,
}

/// The share of one value in the sum.
pub(crate) fn value_hash(component: usize, id: u32, value: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed((component as u64) << 32 | u64::from(id), value)
}

impl StateHash {
    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }

    /// The caller bounds `id`.
    pub(crate) fn set(&mut self, component: usize, id: u32, value: &[u8]) {
        let hash = value_hash(component, id, value);
        let values = place(&mut self.values, id as usize);
        let mut old = 0;
        match values.binary_search_by_key(&component, |(of, _)| *of) {
            Ok(at) => values.get_mut(at).into_iter().for_each(|(_, share)| old = std::mem::replace(share, hash)),
            Err(at) => values.insert(at, (component, hash)),
        }
        self.sum = self.sum.wrapping_sub(old).wrapping_add(hash);
    }

    pub(crate) fn unset(&mut self, component: usize, id: u32) {
        let Some(values) = self.values.get_mut(id as usize) else { return };
        if let Ok(at) = values.binary_search_by_key(&component, |(of, _)| *of) {
            let (_, old) = values.remove(at);
            self.sum = self.sum.wrapping_sub(old);
        }
    }

    pub(crate) fn forget(&mut self, id: u32) {
        for (_, hash) in self.values.get_mut(id as usize).map(std::mem::take).unwrap_or_default() {
            self.sum = self.sum.wrapping_sub(hash);
        }
    }
}

#[cfg(feature = "host")]
impl StateHash {
    /// That of a state.
    pub(crate) fn of(state: &State) -> Self {
        let mut hash = Self::default();
        for (id, entity) in state.entities() {
            entity.components.iter().for_each(|(component, value)| hash.set(*component, id.get(), value));
        }
        hash
    }

    /// Goes on to what a state has become, where that was noted. What was noted is forgotten.
    pub(crate) fn follow(&mut self, state: &State, dirty: &mut Dirty) {
        if !std::mem::take(&mut dirty.gone).is_empty() {
            let here = (0..).zip(&self.values).filter(|(_, values)| !values.is_empty()).map(|(id, _)| id);
            let gone: Vec<u32> = here.filter(|id| !state.entities().contains_key(&NetId(*id))).collect();
            gone.into_iter().for_each(|id| self.forget(id));
        }
        for (id, component) in std::mem::take(&mut dirty.values) {
            // An entity that came is noted too, as a component that none has.
            match state.entities().get(&id).and_then(|entity| entity.components.get(&component)) {
                Some(value) => self.set(component, id.get(), value),
                None => self.unset(component, id.get()),
            }
        }
    }
}
