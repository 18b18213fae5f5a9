//! As of which tick a replica has each value of the components whose delivery is `latest`: older ones must not overwrite newer ones.

use super::ids::{NetId, RoomTick};

/// The ticks of a replica's values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Versions {
    /// By net id: the tick of the batch or the snapshot that brought the entity.
    created: Vec<u32>,
    /// By component and net id: the tick of the value, or of its removal.
    values: Vec<Vec<u32>>,
}

impl Versions {
    /// Starts over, with what a snapshot brings.
    pub(crate) fn clear(&mut self) {
        self.created.clear();
        self.values.clear();
    }

    /// An entity came into being with its values.
    pub(crate) fn created(&mut self, id: NetId, tick: RoomTick) {
        self.created_all(&[id], tick);
    }

    /// The same of many, in the order of their net ids.
    pub(crate) fn created_all(&mut self, ids: &[NetId], tick: RoomTick) {
        let Some(last) = ids.last() else { return };
        place(&mut self.created, last.get() as usize);
        ids.iter().for_each(|id| self.created.get_mut(id.get() as usize).into_iter().for_each(|created| *created = tick.0));
        for values in self.values.iter_mut().filter(|values| !values.is_empty()) {
            ids.iter().for_each(|id| values.get_mut(id.get() as usize).into_iter().for_each(|value| *value = 0));
        }
    }

    /// As of which tick a value is.
    pub(crate) fn of(&self, component: usize, id: NetId) -> u32 {
        let at = id.get() as usize;
        let value = self.values.get(component).and_then(|values| values.get(at)).copied().unwrap_or_default();
        value.max(self.created.get(at).copied().unwrap_or_default())
    }

    /// True if what a part says as of a tick is newer than what is there; it is then taken to be there.
    pub(crate) fn supersedes(&mut self, component: usize, id: NetId, tick: RoomTick) -> bool {
        self.set_over(component, id, tick, |there| there < tick.0)
    }

    /// The same for what a batch says: it may say two things of one tick.
    pub(crate) fn in_order(&mut self, component: usize, id: NetId, tick: RoomTick) -> bool {
        self.set_over(component, id, tick, |there| there <= tick.0)
    }

    fn set_over(&mut self, component: usize, id: NetId, tick: RoomTick, gives_way: impl Fn(u32) -> bool) -> bool {
        let newer = gives_way(self.of(component, id));
        if newer {
            *place(place(&mut self.values, component), id.get() as usize) = tick.0;
        }
        newer
    }
}

/// The place in a table by number, which grows as far as it is needed. The caller bounds it.
pub(crate) fn place<T: Default>(values: &mut Vec<T>, at: usize) -> &mut T {
    if at >= values.len() {
        values.resize_with(at + 1, T::default);
    }
    #[expect(clippy::indexing_slicing, reason = "it was just made long enough")]
    &mut values[at]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_taken_only_over_an_older_one() {
        let (mut versions, id) = (Versions::default(), NetId(3));
        versions.created(id, RoomTick(5));
        assert!(!versions.supersedes(1, id, RoomTick(5)), "the create brought it");
        assert!(versions.supersedes(1, id, RoomTick(7)));
        assert!(!versions.supersedes(1, id, RoomTick(7)), "twice");
        assert!(!versions.in_order(1, id, RoomTick(6)), "late");
        assert!(versions.in_order(1, id, RoomTick(8)) && versions.in_order(1, id, RoomTick(8)));
        assert!(versions.supersedes(2, id, RoomTick(6)), "another component");
        assert_eq!((versions.of(1, id), versions.of(2, id), versions.of(3, id)), (8, 6, 5));
        versions.created(id, RoomTick(7));
        assert_eq!((versions.of(1, id), versions.of(2, id)), (7, 7), "what was newer was another entity's");
        versions.created(id, RoomTick(9));
        assert!(!versions.supersedes(2, id, RoomTick(9)), "another entity with that number");
    }
}
