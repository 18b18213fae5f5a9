//! Values that were read and wait for their entities: all components of an entity are inserted at once, whatever they are.
//!
//! Most of the unsafe code of the library. Bevy's safe interface inserts types that the compiler knows together, and a protocol's
//! are put together at run time; one type at a time, each entity moves from archetype to archetype once per component, which
//! makes the join of a room with 10,000 entities of four components more than twice as dear (`cargo bench --bench hot_path -- "W4 replica"`).
#![expect(unsafe_code, reason = "see above; each block says why it is sound")]

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use bevy_ecs::bundle::{BundleFromComponents, NoBundleEffect};
use bevy_ecs::component::ComponentId;
use bevy_ecs::prelude::*;
use bevy_ecs::ptr::OwningPtr;
use bevy_ecs::world::WorldId;

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

pub(crate) struct StagedValues<T> {
    component: ComponentId,
    /// The first `done` are not here any more.
    values: Vec<MaybeUninit<T>>,
    done: usize,
    places: Places,
    /// What was said last, so that each place is looked at once.
    run: Run,
}

impl<T: Component> StagedValues<T> {
    /// Makes place for `count` values. What of them is put there is dropped with this, if nobody is given it.
    pub(crate) fn with_capacity(world: &mut World, count: usize) -> Self {
        Self::new(world, Vec::with_capacity(count))
    }

    /// Every value is there.
    fn new(world: &mut World, values: Vec<MaybeUninit<T>>) -> Self {
        let (component, run) = (world.register_component::<T>(), Run { has_value: false, until: 0 });
        Self { component, values, done: 0, places: Places::All, run }
    }

    #[inline]
    pub(crate) fn push(&mut self, value: T) {
        self.values.push(MaybeUninit::new(value));
    }

    /// These are the places of the values.
    pub(crate) fn at(mut self, places: Places) -> Box<dyn Staged> {
        self.places = places;
        Box::new(self)
    }
}

/// Stages values for a world: one for each of the places.
pub(crate) fn stage<T: Component>(world: &mut World, places: Places, values: impl IntoIterator<Item = T>) -> Box<dyn Staged> {
    StagedValues::new(world, values.into_iter().map(MaybeUninit::new).collect()).at(places)
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

impl Rest<'_> {
    /// The next row, as a bundle.
    ///
    /// # Safety
    ///
    /// There is a row left, and the values are of the types of the components of `B`, in their order.
    unsafe fn row<B: BundleFromComponents>(&mut self) -> B {
        let (nth, mut values) = (self.next, self.values.iter());
        self.next += 1;
        // SAFETY: by the promise there is a value for each component of the bundle, of its type. Each is taken here, once.
        unsafe { B::from_components(&mut values, &mut |values| values.next().unwrap_unchecked().value(nth)) }
    }
}

/// Components that the compiler knows together, as a bundle: entities that have just these are spawned by Bevy's own batches.
pub(crate) struct Together {
    /// Where they were looked up: in another world the ids stand for other components.
    world: WorldId,
    /// In the order of the bundle.
    components: Vec<ComponentId>,
    spawn: unsafe fn(&mut World, &mut Rest<'_>, &mut Vec<Entity>),
    insert: unsafe fn(&mut World, &[Entity], &mut Rest<'_>),
}

impl Together {
    pub(crate) fn of<B: Bundle<Effect: NoBundleEffect> + BundleFromComponents>(world: &mut World) -> Self {
        let components = world.register_bundle::<B>().explicit_components().to_vec();
        Self { world: world.id(), components, spawn: spawn_together::<B>, insert: insert_together::<B> }
    }

    /// Where each of its components stands among `ids` of that world, which are distinct, if those are its components.
    fn order(&self, world: WorldId, ids: &[ComponentId]) -> Option<Vec<usize>> {
        if world != self.world || ids.len() != self.components.len() {
            return None;
        }
        self.components.iter().map(|component| ids.iter().position(|id| id == component)).collect()
    }
}

/// # Safety
///
/// See [`Rest::row`].
unsafe fn spawn_together<B: Bundle<Effect: NoBundleEffect> + BundleFromComponents>(
    world: &mut World,
    rest: &mut Rest<'_>,
    spawned: &mut Vec<Entity>,
) {
    let rows = rest.next..rest.count;
    // Should an observer panic Bevy spawns the rest nevertheless, while it unwinds: a second panic would end the process.
    let goes_on = Cell::new(true);
    // SAFETY: by the promise.
    let batch = world.spawn_batch(rows.map_while(|_| goes_on.replace(false).then(|| unsafe { rest.row::<B>() })));
    for entity in batch {
        goes_on.set(true);
        spawned.push(entity);
    }
}

/// # Safety
///
/// See [`Rest::row`]; there are as many entities as rows.
unsafe fn insert_together<B: Bundle<Effect: NoBundleEffect> + BundleFromComponents>(
    world: &mut World,
    entities: &[Entity],
    rest: &mut Rest<'_>,
) {
    // SAFETY: by the promise.
    let rows = entities.iter().map(|entity| (*entity, unsafe { rest.row::<B>() }));
    // Of one that somebody despawned the bundle is dropped.
    let _ = world.try_insert_batch(rows);
    world.flush();
}

/// So many sets of components are remembered while a roster is spawned: who sends more of them waits longer.
const SETS_MAX: usize = 64;

/// Which sets of components the compiler knows.
struct Plans<'a> {
    world: WorldId,
    together: &'a [Together],
    met: Vec<(Vec<ComponentId>, Option<(&'a Together, Vec<usize>)>)>,
}

impl<'a> Plans<'a> {
    fn of(&mut self, ids: &[ComponentId]) -> Option<&(&'a Together, Vec<usize>)> {
        if self.together.is_empty() {
            return None;
        }
        let at = match self.met.iter().position(|(met, _)| met == ids) {
            Some(at) => at,
            None if self.met.len() >= SETS_MAX => return None,
            None => {
                let plan = self.together.iter().find_map(|together| Some((together, together.order(self.world, ids)?)));
                self.met.push((ids.to_vec(), plan));
                self.met.len() - 1
            }
        };
        self.met.get(at)?.1.as_ref()
    }
}

/// Whose the staged values are.
enum Whose<'a> {
    /// Entities that are spawned for them.
    New(&'a mut Vec<Entity>),
    /// These, in the order of the row.
    Theirs(&'a [Entity]),
}

/// Spawns an entity for each of `count` places, with what was staged. `columns` were staged for this world, each for another component.
#[cfg(any(test, feature = "client"))]
pub(crate) fn spawn_staged(world: &mut World, count: usize, columns: &mut [Box<dyn Staged>], together: &[Together]) -> Vec<Entity> {
    let mut spawned = Vec::with_capacity(count);
    place_staged(world, count, Whose::New(&mut spawned), columns, together);
    spawned
}

/// Inserts what was staged, entity by entity. `columns` were staged for this world, each for another component.
pub(crate) fn insert_staged(world: &mut World, entities: &[Entity], columns: &mut [Box<dyn Staged>], together: &[Together]) {
    place_staged(world, entities.len(), Whose::Theirs(entities), columns, together);
}

fn place_staged(world: &mut World, all: usize, mut whose: Whose<'_>, columns: &mut [Box<dyn Staged>], together: &[Together]) {
    let (mut ids, mut having, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let mut plans = Plans { world: world.id(), together, met: Vec::new() };
    let mut place = 0;
    while place < all {
        let until = columns.iter_mut().map(|column| column.run(place).until).min().unwrap_or(usize::MAX);
        let count = until.saturating_sub(place).clamp(1, all - place);
        ids.clear();
        having.clear();
        values.clear();
        for (at, column) in columns.iter_mut().enumerate() {
            if column.run(place).has_value {
                ids.push(column.component());
                having.push(at);
            }
        }
        let mut hand_over = |at: Option<&usize>| at.and_then(|at| columns.get_mut(*at)).map(|column| column.hand_over(count));
        if let Some((together, order)) = plans.of(&ids) {
            values.extend(order.iter().filter_map(|nth| hand_over(having.get(*nth))));
            let mut rest = Rest { values: &values, next: 0, count };
            // SAFETY: all of these columns have a value for each of the `count` places, since none of their runs ends before; they are those of the
            // bundle, in its order. Nothing touches the columns meanwhile.
            match &mut whose {
                Whose::New(spawned) => unsafe { (together.spawn)(world, &mut rest, spawned) },
                Whose::Theirs(entities) => unsafe {
                    (together.insert)(world, entities.get(place..place + count).unwrap_or_default(), &mut rest);
                },
            }
        } else {
            values.extend(having.iter().filter_map(|at| hand_over(Some(at))));
            one_by_one(world, &mut whose, (place, count), &ids, &values);
        }
        place += count;
    }
}

/// Inserts values of components that the compiler does not know together: those of the `count` places from `place` on.
fn one_by_one(world: &mut World, whose: &mut Whose<'_>, (place, count): (usize, usize), ids: &[ComponentId], values: &[HandedOver]) {
    let mut rest = Rest { values, next: 0, count };
    while rest.next < count {
        let nth = rest.next;
        rest.next += 1;
        // SAFETY: all columns have a value for each of the `count` places, since none of their runs ends before. Each is taken here, once, and nothing
        // touches the columns meanwhile.
        let row = values.iter().map(|values| unsafe { values.value(nth) });
        let target = match whose {
            Whose::Theirs(entities) => entities.get(place + nth).and_then(|entity| world.get_entity_mut(*entity).ok()),
            Whose::New(spawned) => {
                // Bare for a moment, and the only one: nobody has to take its place among the bare ones when it goes.
                let entity = world.spawn_empty();
                spawned.push(entity.id());
                Some(entity)
            }
        };
        match target {
            // Somebody who watched an earlier one despawned it.
            // SAFETY: each is dropped as what it was staged as.
            None => row.zip(values).for_each(|(value, values)| unsafe { (values.drop)(value) }),
            Some(_) if ids.is_empty() => {}
            // SAFETY: the ids come from `register_component` of this world, and are distinct. The iterator gives, in the order of the ids, a
            // value of each one's type.
            Some(mut target) => unsafe {
                target.insert_by_ids(ids, row);
            },
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
        let names = stage(&mut world, Places::All, entities.iter().map(|_| Name(text.clone())));
        let scores = stage(&mut world, Places::Some(vec![1, 2, 3]), vec![Score(1), Score(2), Score(3)]);
        let flags = stage(&mut world, Places::Some(vec![0, 3]), vec![Flag, Flag]);
        let mut columns = [names, scores, flags];
        world.despawn(entities[2]);
        insert_staged(&mut world, &entities, &mut columns, &[]);
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
        insert_staged(&mut world, &[entity], &mut columns, &[]);
        drop(columns);
        assert_eq!(Arc::strong_count(&text), 2, "the one that has a place, and ours");
    }

    #[test]
    fn what_is_left_when_an_observer_panics_is_dropped() {
        let mut world = World::new();
        let entities: Vec<Entity> = (0..9).map(|_| world.spawn_empty().id()).collect();
        world.add_observer(|added: On<Add<Score>>, scores: Query<&Score>| assert!(scores.get(added.entity).is_ok_and(|score| score.0 < 4)));
        let text: Arc<str> = "shared".into();
        let names = stage(&mut world, Places::All, entities.iter().map(|_| Name(text.clone())));
        let scores = stage(&mut world, Places::All, (0..9).map(Score));
        let inserts = || insert_staged(&mut world, &entities, &mut [names, scores], &[]);
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
        let names = stage(&mut world, Places::All, vec![(); 9].into_iter().map(|()| Name(text.clone())));
        let scores = stage(&mut world, Places::All, (0..9).map(Score));
        insert_staged(&mut world, &entities, &mut [names, scores], &[]);
        let alive: Vec<u64> = world.query::<&Score>().iter(&world).map(|score| score.0).collect();
        assert_eq!(alive, [0, 2, 4, 6, 8]);
        assert_eq!(Arc::strong_count(&text), 1 + 5);
    }

    #[test]
    fn what_the_compiler_knows_is_spawned_as_what_it_does_not() {
        let text: Arc<str> = "shared".into();
        for known in [false, true] {
            let mut world = World::new();
            // In another order than they are staged in.
            let together = if known { vec![Together::of::<(Score, Name)>(&mut world)] } else { Vec::new() };
            let names = stage(&mut world, Places::All, (0..5).map(|_| Name(text.clone())));
            let scores = stage(&mut world, Places::All, (0..5).map(Score));
            let flags = stage(&mut world, Places::Some(vec![3]), vec![Flag]);
            let entities = spawn_staged(&mut world, 5, &mut [names, scores, flags], &together);
            let scores = entities.iter().map(|entity| world.get::<Score>(*entity).map(|score| score.0));
            assert_eq!(scores.collect::<Vec<_>>(), [Some(0), Some(1), Some(2), Some(3), Some(4)]);
            let flagged = entities.iter().filter(|entity| world.get::<Flag>(**entity).is_some());
            assert_eq!(flagged.collect::<Vec<_>>(), [&entities[3]]);
            assert_eq!(Arc::strong_count(&text), 1 + 5);
            drop(world);
            assert_eq!(Arc::strong_count(&text), 1);
        }
    }

    #[test]
    fn what_is_left_of_what_the_compiler_knows_when_an_observer_panics_is_dropped() {
        let text: Arc<str> = "shared".into();
        for new in [false, true] {
            let mut world = World::new();
            let entities: Vec<Entity> = (0..9).map(|_| world.spawn_empty().id()).collect();
            world.add_observer(|added: On<Add<Score>>, scores: Query<&Score>| {
                assert!(scores.get(added.entity).is_ok_and(|score| score.0 < 4));
            });
            let together = [Together::of::<(Name, Score)>(&mut world)];
            let names = stage(&mut world, Places::All, entities.iter().map(|_| Name(text.clone())));
            let scores = stage(&mut world, Places::All, (0..9).map(Score));
            let mut columns = [names, scores];
            let places = || match new {
                true => drop(spawn_staged(&mut world, 9, &mut columns, &together)),
                false => insert_staged(&mut world, &entities, &mut columns, &together),
            };
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(places)).is_err());
            let having = world.query::<&Name>().iter(&world).count();
            assert_eq!((having, Arc::strong_count(&text)), (5, 1 + 5), "none beyond the one at which it was");
            drop(world);
            assert_eq!(Arc::strong_count(&text), 1);
        }
    }

    #[test]
    fn what_was_looked_up_in_another_world_is_not_gone_by() {
        let (mut one, mut other) = (World::new(), World::new());
        let together = [Together::of::<(Name, Score)>(&mut one)];
        // The same numbers, for other components.
        other.register_component::<Score>();
        let text: Arc<str> = "shared".into();
        let names = stage(&mut other, Places::All, vec![Name(text.clone())]);
        let scores = stage(&mut other, Places::All, vec![Score(7)]);
        let entities = spawn_staged(&mut other, 1, &mut [names, scores], &together);
        assert_eq!(other.get::<Score>(entities[0]).map(|score| score.0), Some(7));
        assert_eq!(Arc::strong_count(&text), 1 + 1);
    }

    proptest::proptest! {
        #[test]
        fn each_place_gets_what_was_staged_for_it(columns in proptest::collection::vec(proptest::collection::vec(proptest::bool::ANY, 24), 3)) {
            let mut world = World::new();
            let entities: Vec<Entity> = (0..24).map(|_| world.spawn_empty().id()).collect();
            let places = |column: usize| -> Vec<u32> { (0..).zip(&columns[column]).filter_map(|(place, has)| has.then_some(place)).collect() };
            let text: Arc<str> = "shared".into();
            let names: Vec<_> = places(0).iter().map(|_| Name(text.clone())).collect();
            let names = stage(&mut world, Places::Some(places(0)), names);
            let scores: Vec<_> = places(1).iter().map(|place| Score(u64::from(*place))).collect();
            let scores = stage(&mut world, Places::Some(places(1)), scores);
            let flags: Vec<_> = places(2).iter().map(|_| Flag).collect();
            let flags = stage(&mut world, Places::Some(places(2)), flags);
            let together = [Together::of::<(Score, Name)>(&mut world), Together::of::<(Flag, (Score, Name))>(&mut world)];
            insert_staged(&mut world, &entities, &mut [names, scores, flags], &together);
            for (place, entity) in entities.iter().enumerate() {
                assert_eq!(world.get::<Name>(*entity).is_some(), columns[0][place]);
                assert_eq!(world.get::<Score>(*entity).map(|score| score.0), columns[1][place].then_some(place as u64));
                assert_eq!(world.get::<Flag>(*entity).is_some(), columns[2][place]);
            }
            assert_eq!(Arc::strong_count(&text), 1 + places(0).len());
        }
    }
}
