//! Where entities are: read from a component that the game names.

use bevy_app::App;
use bevy_ecs::change_detection::{ContiguousRef, Tick};
#[cfg(feature = "host")]
use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use bevy_ecs::world::DeferredWorld;

#[cfg(feature = "host")]
use super::rule::Senses;
use super::rule::touch_entity;
#[cfg(feature = "host")]
use crate::protocol::EntityId;
use crate::protocol::{NetId, Protocol};
#[cfg(feature = "host")]
use crate::room::index::EntityIndex;

/// A place: finite, and zero in the dimensions that the game does not have.
pub(super) type Place = [f32; 3];

/// The component that gives places, with its type erased.
pub(super) trait Source: Send + Sync {
    /// Gives the places of all that moved after `since`. `None`: it is nowhere now.
    fn moved(&mut self, world: &World, since: Tick, now: Tick, out: &mut Vec<(NetId, Option<Place>)>);
    /// The place of one entity.
    fn place(&self, entity: EntityRef<'_>) -> Option<Place>;
}

/// Within which distance things matter most, where not all can be sent. A resource, if the game says so.
#[derive(Resource, Clone, Copy, Debug)]
pub(crate) struct NearerFirst(#[cfg_attr(not(feature = "host"), expect(dead_code, reason = "what only a host asks for"))] pub(crate) f32);

/// Where a member looks from, for what matters to it.
#[cfg(feature = "host")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vantage {
    from: Place,
    square: f32,
}

#[cfg(feature = "host")]
impl Vantage {
    /// What matters fully.
    pub(crate) const FULL: u32 = 256;

    /// What matters least, however far it is: nothing starves.
    const LEAST: f32 = 4.0;

    /// Where a user looks from. `None` if that does not matter, or it stands nowhere.
    pub(crate) fn of(world: &World, user: EntityId) -> Option<Self> {
        let NearerFirst(distance) = *world.get_resource::<NearerFirst>()?;
        let body = world.resource::<EntityIndex>().entity(user)?;
        let focus = world.get::<Senses>(body).and_then(|senses| senses.focus).unwrap_or(body);
        let focus = world.get_entity(focus).ok().filter(|focus| !focus.contains::<Disabled>())?;
        let from = world.get_resource::<Places>()?.source.as_ref()?.place(focus)?;
        Some(Self { from, square: distance * distance })
    }

    /// How much an entity matters, out of [`FULL`](Self::FULL): half as much at the distance that the game named, and less with the square of it. What is
    /// nowhere matters fully.
    pub(crate) fn share(&self, world: &World, id: u32) -> u32 {
        let slot = world.resource::<EntityIndex>().slot(NetId(id));
        let entity = slot.and_then(|slot| world.get_entity(slot.entity).ok());
        let source = world.get_resource::<Places>().and_then(|places| places.source.as_ref());
        let Some(place) = entity.and_then(|entity| source?.place(entity)) else { return Self::FULL };
        let far: f32 = self.from.iter().zip(place).map(|(from, to)| (from - to) * (from - to)).sum();
        (Self::FULL as f32 / (1.0 + far / self.square)).max(Self::LEAST) as u32
    }
}

/// What gives places. A resource.
#[derive(Resource, Default)]
pub(super) struct Places {
    pub(super) source: Option<Box<dyn Source>>,
    /// How many dimensions the game has.
    pub(super) dimensions: usize,
}

struct TypedSource<T: Component, F> {
    dense: QueryState<(&'static NetId, Ref<'static, T>)>,
    sparse: QueryState<(&'static NetId, Ref<'static, T>)>,
    read: F,
}

impl<T: Component, F: Fn(&T) -> Option<Place> + Send + Sync> Source for TypedSource<T, F> {
    fn moved(&mut self, world: &World, since: Tick, now: Tick, out: &mut Vec<(NetId, Option<Place>)>) {
        let age_max = now.get().wrapping_sub(since.get());
        let newer = |tick: &Tick| now.get().wrapping_sub(tick.get()) < age_max;
        let Ok(tables) = self.dense.contiguous_iter(world) else {
            let rows = self.sparse.query(world);
            let moved = rows.iter().filter(|(_, value)| newer(&value.last_changed()));
            out.extend(moved.map(|(id, value)| (*id, (self.read)(&value))));
            return;
        };
        for (ids, values) in tables {
            let ticks = values.changed_ticks_slice();
            let (values, _) = ContiguousRef::split(values);
            for (n, block) in ticks.chunks(64).enumerate() {
                // Without a way out in the middle the comparison is done by many at once.
                if !block.iter().fold(false, |any, tick| any | newer(tick)) {
                    continue;
                }
                let rows = ids.iter().zip(values.iter()).skip(n * 64).zip(block);
                let moved = rows.filter(|(_, tick)| newer(tick));
                out.extend(moved.map(|((id, value), _)| (*id, (self.read)(value))));
            }
        }
    }

    fn place(&self, entity: EntityRef<'_>) -> Option<Place> {
        entity.get::<T>().and_then(&self.read)
    }
}

/// Lets a component give places.
pub(crate) fn add_places<T: Component, const N: usize>(app: &mut App, read: impl Fn(&T) -> [f32; N] + Send + Sync + 'static) {
    const { assert!(N >= 1 && N <= 3, "a place has one to three dimensions") };
    let world = app.world_mut();
    let read = move |value: &T| {
        let mut place = [0.0; 3];
        place.iter_mut().zip(read(value)).for_each(|(to, from)| *to = from);
        place.iter().all(|number| number.is_finite()).then_some(place)
    };
    let source = TypedSource { dense: QueryState::new(world), sparse: QueryState::new(world), read };
    world.add_observer(|lost: On<Remove<T>>, mut world: DeferredWorld| touch_entity(&mut world, lost.entity));
    let mut places = world.get_resource_or_init::<Places>();
    places.dimensions = N;
    if places.source.replace(Box::new(source)).is_some() {
        let error = format!("`places_by` was called twice, then for {}; places come from one component", std::any::type_name::<T>());
        world.get_resource_or_init::<Protocol>().complain(error);
    }
}
