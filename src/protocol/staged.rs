//! Values that were read and wait for their entities: all components of an entity are inserted at once, whatever they are.
//!
//! Most of the unsafe code of the library. Bevy's safe interface inserts types that the compiler knows together, and a protocol's
//! are put together at run time; one type at a time, each entity moves from archetype to archetype once per component, which
//! makes the join of a room with 10,000 entities of four components more than twice as dear (`cargo bench --bench hot_path -- "W4 replica"`).
#![expect(unsafe_code, reason = "see above; each block says why it is sound")]

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::vec::IntoIter;

use bevy_ecs::component::ComponentId;
use bevy_ecs::prelude::*;
use bevy_ecs::ptr::OwningPtr;

/// Values of one component for some of a row of entities, in their order. An entity is named by its place in the row.
pub(crate) trait Staged {
    /// True if the next value is for this place.
    fn is_next(&self, place: usize) -> bool;
    /// The component, in the world that the values were staged for.
    fn component(&self) -> ComponentId;
    /// Takes the next value if it is for this place: a value of the type of [`component`](Self::component). Who does not use it leaks it.
    fn take(&mut self, place: usize) -> Option<OwningPtr<'_>>;
    /// Drops the next value if it is for this place.
    fn discard(&mut self, place: usize);
}

/// The places that have a value.
#[derive(Debug)]
pub(crate) enum Places {
    /// All of them.
    All,
    /// These, ascending.
    Some(Vec<u32>),
}

impl Places {
    /// These places, but not the `left_out`, which ascend: the first has the number 0.
    pub(crate) fn without(self, count: usize, left_out: &[usize]) -> Self {
        if left_out.is_empty() {
            return self;
        }
        let places = match self {
            Self::All => (0..count as u32).collect(),
            Self::Some(places) => places,
        };
        let stays = |(nth, place): (usize, u32)| left_out.binary_search(&nth).is_err().then_some(place);
        Self::Some(places.into_iter().enumerate().filter_map(stays).collect())
    }
}

struct StagedValues<T> {
    component: ComponentId,
    values: IntoIter<T>,
    places: Places,
    /// How many values were taken.
    done: usize,
    /// Where a value stands while its new owner fetches it.
    taken: MaybeUninit<T>,
}

/// Stages values for a world: one for each of the places.
pub(crate) fn stage<T: Component>(world: &mut World, places: Places, values: Vec<T>) -> Box<dyn Staged> {
    let component = world.register_component::<T>();
    Box::new(StagedValues { component, values: values.into_iter(), places, done: 0, taken: MaybeUninit::uninit() })
}

impl<T> StagedValues<T> {
    fn next_if(&mut self, place: usize) -> Option<T> {
        if !self.stands_at(place) {
            return None;
        }
        self.done += 1;
        self.values.next()
    }

    fn stands_at(&self, place: usize) -> bool {
        match &self.places {
            Places::All => place == self.done,
            Places::Some(places) => places.get(self.done).is_some_and(|next| *next as usize == place),
        }
    }
}

impl<T: Component> Staged for StagedValues<T> {
    fn is_next(&self, place: usize) -> bool {
        self.stands_at(place) && self.values.len() > 0
    }

    fn component(&self) -> ComponentId {
        self.component
    }

    fn take(&mut self, place: usize) -> Option<OwningPtr<'_>> {
        let value = self.next_if(place)?;
        let taken = NonNull::from(self.taken.write(value));
        // SAFETY: `taken` is aligned and holds a `T` that was just written. It may be read and written, because it comes from `&mut
        // self`, which the result keeps borrowed. Nobody else drops the value: a `MaybeUninit` never does.
        Some(unsafe { OwningPtr::new(taken.cast()) })
    }

    fn discard(&mut self, place: usize) {
        drop(self.next_if(place));
    }
}

/// Inserts what was staged, entity by entity. `columns` were staged for this world, each for another component.
pub(crate) fn insert_staged(world: &mut World, entities: impl Iterator<Item = Entity>, columns: &mut [Box<dyn Staged>]) {
    let mut ids = Vec::with_capacity(columns.len());
    for (place, entity) in entities.enumerate() {
        ids.clear();
        ids.extend(columns.iter().filter(|column| column.is_next(place)).map(|column| column.component()));
        match world.get_entity_mut(entity) {
            // Somebody who watched an earlier one despawned it.
            Err(_) => columns.iter_mut().for_each(|column| column.discard(place)),
            Ok(_) if ids.is_empty() => {}
            Ok(mut target) => {
                let values = columns.iter_mut().filter_map(|column| column.take(place));
                // SAFETY: the ids come from `register_component` of this world, and are distinct. The iterator gives, in the order of the
                // ids, a value of each one's type: both go over the columns in their order, and `take` gives one exactly if `is_next` said so.
                unsafe { target.insert_by_ids(&ids, values) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Component)]
    struct Name(Arc<str>);
    #[derive(Component)]
    struct Score(u64);
    #[derive(Component)]
    struct Flag;

    #[test]
    fn each_entity_gets_its_own_values_and_none_is_dropped_twice_or_kept() {
        let mut world = World::new();
        let entities: Vec<Entity> = (0..4).map(|_| world.spawn_empty().id()).collect();
        let text: Arc<str> = "shared".into();
        let names = stage(&mut world, Places::All, entities.iter().map(|_| Name(text.clone())).collect());
        let scores = stage(&mut world, Places::Some(vec![1, 2, 3]), vec![Score(1), Score(2), Score(3)]);
        let flags = stage(&mut world, Places::Some(vec![0, 3]), vec![Flag, Flag]);
        let mut columns = [names, scores, flags];
        world.despawn(entities[2]);
        insert_staged(&mut world, entities.iter().copied(), &mut columns);
        let score = |entity: usize| world.get::<Score>(entities[entity]).map(|score| score.0);
        assert_eq!([score(0), score(1), score(3)], [None, Some(1), Some(3)]);
        assert!(world.get::<Flag>(entities[0]).is_some() && world.get::<Flag>(entities[1]).is_none());
        assert!(entities.iter().all(|entity| world.get::<Name>(*entity).is_none_or(|name| &*name.0 == "shared")));
        drop(columns);
        assert_eq!(Arc::strong_count(&text), 1 + 3, "the three that live, and ours");
        drop(world);
        assert_eq!(Arc::strong_count(&text), 1);
    }

    #[test]
    fn what_is_never_inserted_is_dropped() {
        let mut world = World::new();
        let text: Arc<str> = "shared".into();
        drop(stage(&mut world, Places::All, vec![Name(text.clone())]));
        assert_eq!(Arc::strong_count(&text), 1);
    }
}
