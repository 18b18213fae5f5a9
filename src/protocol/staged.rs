//! Values that were read and wait for their entities: all components of an entity are inserted at once, whatever they are.
//!
//! Most of the unsafe code of the library. Bevy's safe interface inserts types that the compiler knows together, and a protocol's
//! are put together at run time; one type at a time, each entity moves from archetype to archetype once per component, which
//! makes the join of a room with 10,000 entities of four components more than twice as dear (`cargo bench --bench hot_path -- "W4 replica"`).
#![expect(unsafe_code, reason = "see above; each block says why it is sound")]

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use bevy_ecs::component::ComponentId;
use bevy_ecs::prelude::*;
use bevy_ecs::ptr::OwningPtr;

/// Values of one component for some of a row of entities, in their order. An entity is named by its place in the row.
///
/// # Safety
///
/// What is handed over are values of the type of the component, as many as were asked for if a run of so many was told of.
pub(crate) unsafe trait Staged {
    /// The component, in the world that the values were staged for.
    fn component(&self) -> ComponentId;
    /// Whether the next value is for this place, and up to which place that stays so. It is asked of places that ascend, once all values for those before
    /// were handed over.
    fn run(&mut self, place: usize) -> Run;
    /// Hands over the next `count` values, or as many as there are. Who does not use them leaks them.
    fn hand_over(&mut self, count: usize) -> HandedOver;
}

/// Places in a row that all have a value, or all have none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) has_value: bool,
    /// The first place that is otherwise.
    pub(crate) until: usize,
}

/// Values that belong to whoever has this; they stand where they were staged.
pub(crate) struct HandedOver {
    first: NonNull<u8>,
    /// From one to the next, in bytes.
    stride: usize,
    /// Drops one.
    drop: unsafe fn(OwningPtr<'_>),
}

impl HandedOver {
    /// One of them.
    ///
    /// # Safety
    ///
    /// There are more than `nth` of them, each is taken once, and the staged values that they are of are not touched until what is given here is gone.
    unsafe fn value(&self, nth: usize) -> OwningPtr<'_> {
        // SAFETY: by the promise it is within what was handed over, and nobody else has it.
        unsafe { OwningPtr::new(self.first.byte_add(nth * self.stride)) }
    }
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
    /// The first `done` are not here any more.
    values: Vec<MaybeUninit<T>>,
    done: usize,
    places: Places,
    /// What was said last, so that each place is looked at once.
    run: Run,
}

/// Stages values for a world: one for each of the places.
pub(crate) fn stage<T: Component>(world: &mut World, places: Places, values: Vec<T>) -> Box<dyn Staged> {
    let component = world.register_component::<T>();
    let values = values.into_iter().map(MaybeUninit::new).collect();
    Box::new(StagedValues { component, values, done: 0, places, run: Run { has_value: false, until: 0 } })
}

// SAFETY: the component is that of `T`, and a run of places with values is as long as there are values left, at most.
unsafe impl<T: Component> Staged for StagedValues<T> {
    fn component(&self) -> ComponentId {
        self.component
    }

    fn run(&mut self, place: usize) -> Run {
        let left = self.values.len() - self.done;
        if place < self.run.until && (!self.run.has_value || self.run.until - place <= left) {
            return self.run;
        }
        self.run = match &self.places {
            Places::All => Run { has_value: left > 0, until: if left > 0 { place + left } else { usize::MAX } },
            Places::Some(places) => {
                let next = places.get(self.done..).unwrap_or_default().iter().take(left).map(|next| *next as usize);
                match next.clone().zip(place..).take_while(|(next, place)| next == place).count() {
                    // One that was passed over is for no place any more.
                    0 => Run { has_value: false, until: next.clone().next().filter(|next| *next > place).unwrap_or(usize::MAX) },
                    length => Run { has_value: true, until: place + length },
                }
            }
        };
        self.run
    }

    fn hand_over(&mut self, count: usize) -> HandedOver {
        let values = self.values.get_mut(self.done..).unwrap_or_default();
        self.done += count.min(values.len());
        // SAFETY: who calls this says that it is a `T`, and that it is theirs.
        let drop = |value: OwningPtr<'_>| unsafe { value.drop_as::<T>() };
        HandedOver { first: NonNull::from(values).cast(), stride: size_of::<T>(), drop }
    }
}

impl<T> Drop for StagedValues<T> {
    fn drop(&mut self) {
        for value in self.values.get_mut(self.done..).unwrap_or_default() {
            // SAFETY: all were written when they were staged, and those from `done` on were handed to nobody.
            unsafe { value.assume_init_drop() };
        }
    }
}

/// What of a run is in no world yet. Should an observer panic it is dropped.
struct Rest<'a> {
    values: &'a [HandedOver],
    next: usize,
    count: usize,
}

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        for nth in self.next..self.count {
            // SAFETY: so many were handed over, and from `next` on nobody was given any. Each is dropped as what it was staged as.
            self.values.iter().for_each(|values| unsafe { (values.drop)(values.value(nth)) });
        }
    }
}

/// Inserts what was staged, entity by entity. `columns` were staged for this world, each for another component.
pub(crate) fn insert_staged(world: &mut World, mut entities: impl ExactSizeIterator<Item = Entity>, columns: &mut [Box<dyn Staged>]) {
    let (mut ids, mut values) = (Vec::with_capacity(columns.len()), Vec::with_capacity(columns.len()));
    let mut place = 0;
    while entities.len() > 0 {
        let until = columns.iter_mut().map(|column| column.run(place).until).min().unwrap_or(usize::MAX);
        let count = until.saturating_sub(place).clamp(1, entities.len());
        ids.clear();
        values.clear();
        for column in columns.iter_mut().filter_map(|column| column.run(place).has_value.then_some(column)) {
            ids.push(column.component());
            values.push(column.hand_over(count));
        }
        let mut rest = Rest { values: &values, next: 0, count };
        for entity in entities.by_ref().take(count) {
            let nth = rest.next;
            rest.next += 1;
            // SAFETY: all columns have a value for each of the `count` places, since none of their runs ends before. Each is taken here, once, and nothing
            // touches the columns meanwhile.
            let row = values.iter().map(|values| unsafe { values.value(nth) });
            match world.get_entity_mut(entity) {
                // Somebody who watched an earlier one despawned it.
                // SAFETY: each is dropped as what it was staged as.
                Err(_) => row.zip(&values).for_each(|(value, values)| unsafe { (values.drop)(value) }),
                Ok(_) if ids.is_empty() => {}
                // SAFETY: the ids come from `register_component` of this world, and are distinct. The iterator gives, in the order of the ids, a
                // value of each one's type.
                Ok(mut target) => unsafe {
                    target.insert_by_ids(&ids, row);
                },
            }
        }
        place += count;
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
        let (entity, two) = (world.spawn_empty().id(), vec![Name(text.clone()), Name(text.clone())]);
        let mut columns = [stage(&mut world, Places::All, two)];
        insert_staged(&mut world, std::iter::once(entity), &mut columns);
        drop(columns);
        assert_eq!(Arc::strong_count(&text), 2, "the one that has a place, and ours");
    }

    #[test]
    fn what_is_left_when_an_observer_panics_is_dropped() {
        let mut world = World::new();
        let entities: Vec<Entity> = (0..9).map(|_| world.spawn_empty().id()).collect();
        world.add_observer(|added: On<Add<Score>>, scores: Query<&Score>| assert!(scores.get(added.entity).is_ok_and(|score| score.0 < 4)));
        let text: Arc<str> = "shared".into();
        let names = stage(&mut world, Places::All, entities.iter().map(|_| Name(text.clone())).collect());
        let scores = stage(&mut world, Places::All, (0..9).map(Score).collect());
        let inserts = || insert_staged(&mut world, entities.iter().copied(), &mut [names, scores]);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(inserts)).is_err());
        drop(world);
        assert_eq!(Arc::strong_count(&text), 1);
    }

    #[test]
    fn who_despawns_another_that_is_still_to_be_filled_harms_nobody() {
        let mut world = World::new();
        let entities: Vec<Entity> = (0..9).map(|_| world.spawn_empty().id()).collect();
        let others = entities.clone();
        world.add_observer(move |added: On<Add<Score>>, scores: Query<&Score>, mut commands: Commands| {
            if scores.get(added.entity).is_ok_and(|score| score.0 % 2 == 0) {
                let next = others.iter().skip_while(|other| **other != added.entity).nth(1);
                next.into_iter().for_each(|next| commands.entity(*next).despawn());
            }
        });
        let text: Arc<str> = "shared".into();
        let names = stage(&mut world, Places::All, vec![(); 9].into_iter().map(|()| Name(text.clone())).collect());
        let scores = stage(&mut world, Places::All, (0..9).map(Score).collect());
        insert_staged(&mut world, entities.iter().copied(), &mut [names, scores]);
        let alive: Vec<u64> = world.query::<&Score>().iter(&world).map(|score| score.0).collect();
        assert_eq!(alive, [0, 2, 4, 6, 8]);
        assert_eq!(Arc::strong_count(&text), 1 + 5);
    }

    proptest::proptest! {
        #[test]
        fn each_place_gets_what_was_staged_for_it(columns in proptest::collection::vec(proptest::collection::vec(proptest::bool::ANY, 24), 3)) {
            let mut world = World::new();
            let entities: Vec<Entity> = (0..24).map(|_| world.spawn_empty().id()).collect();
            let places = |column: usize| -> Vec<u32> { (0..).zip(&columns[column]).filter_map(|(place, has)| has.then_some(place)).collect() };
            let text: Arc<str> = "shared".into();
            let names = places(0).iter().map(|_| Name(text.clone())).collect();
            let names = stage(&mut world, Places::Some(places(0)), names);
            let scores = places(1).iter().map(|place| Score(u64::from(*place))).collect();
            let scores = stage(&mut world, Places::Some(places(1)), scores);
            let flags = places(2).iter().map(|_| Flag).collect();
            let flags = stage(&mut world, Places::Some(places(2)), flags);
            insert_staged(&mut world, entities.iter().copied(), &mut [names, scores, flags]);
            for (place, entity) in entities.iter().enumerate() {
                assert_eq!(world.get::<Name>(*entity).is_some(), columns[0][place]);
                assert_eq!(world.get::<Score>(*entity).map(|score| score.0), columns[1][place].then_some(place as u64));
                assert_eq!(world.get::<Flag>(*entity).is_some(), columns[2][place]);
            }
            assert_eq!(Arc::strong_count(&text), 1 + places(0).len());
        }
    }
}
