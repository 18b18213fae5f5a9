//! The world as it was a moment ago: by it a room decides fairly what a player meant who saw it so.
//!
//! Of each registered component the last values of each entity are kept, with the ticks in which they came about: what does not change costs
//! nothing, and nothing is copied but what changed. It is not stored. A room that goes on in another process remembers nothing from before
//! it, and is run again from there too, so it decides the same.

#[cfg(feature = "client")]
use std::any::TypeId;
use std::collections::VecDeque;
use std::time::Duration;

use bevy_app::App;
use bevy_ecs::change_detection::ContiguousRef;
use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use bevy_ecs::system::{RunSystemOnce, SystemParam};

use super::clock::RoomClock;
use super::lifetime::expire;
use super::runner::RoomEnd;
use crate::protocol::limits::TICK_MILLIS;
use crate::protocol::{Interpolation, RoomTick, SeenTick, place};

/// How far a room looks back for a player, unless it says otherwise.
pub const REWIND_DEFAULT: Duration = Duration::from_millis(200);

/// How far a room looks back at most: who is further behind must aim ahead.
pub const REWIND_MAX: Duration = Duration::from_millis(250);

/// How far the room looks back, in 256ths of a tick.
#[derive(Resource, Clone, Copy, Debug)]
pub(crate) struct RewindLimit(u64);

impl Default for RewindLimit {
    fn default() -> Self {
        Self::of(REWIND_DEFAULT)
    }
}

impl RewindLimit {
    fn of(limit: Duration) -> Self {
        Self(limit.as_millis() as u64 * SeenTick::PER_TICK / TICK_MILLIS)
    }

    /// What a client says that it saw, as far as it counts in a tick.
    pub(crate) fn clamp(self, seen: Option<SeenTick>, tick: RoomTick) -> SeenTick {
        let now = SeenTick::of(tick);
        seen.unwrap_or(now).clamp(now.back(self.0), now)
    }

    /// The ticks before the newest of which values are needed.
    fn ticks(self) -> u32 {
        self.0.div_ceil(SeenTick::PER_TICK) as u32
    }
}

/// Lets a room look back. Implemented for Bevy's [`App`].
pub trait RewindAppExt {
    /// Keeps the values of a component for a moment, to be asked for by [`Rewind`]. What lies between two ticks is found as the
    /// interpolation says: give it the one by which clients show the component, and a room finds what a player saw.
    fn rewindable<T: Component + Clone>(&mut self, manner: Interpolation<T>) -> &mut Self;

    /// How far the room looks back. Default: 200 ms. A client that says that it saw what is older, or does, gains no more.
    ///
    /// # Panics
    /// If it is more than [`REWIND_MAX`].
    fn rewind_limit(&mut self, limit: Duration) -> &mut Self;
}

impl RewindAppExt for App {
    fn rewindable<T: Component + Clone>(&mut self, manner: Interpolation<T>) -> &mut Self {
        let is_new = !self.world().contains_resource::<Pasts<T>>();
        self.insert_resource(Pasts { manner, first: None, newest: 0, by_index: Vec::new() });
        if is_new {
            #[cfg(feature = "client")]
            self.world_mut().get_resource_or_init::<PastHooks>().0.push(PastHook::of::<T>());
            self.add_systems(RoomEnd, remember::<T>.after(expire));
            self.world_mut().add_observer(
                |gone: On<Remove<T>>, clock: Res<RoomClock>, limit: Res<RewindLimit>, mut pasts: ResMut<Pasts<T>>| {
                    // What was kept of a tick stands: what happens after its end is of the next one.
                    let tick = clock.tick().0.max(pasts.newest.saturating_add(1));
                    pasts.push(gone.entity, None, tick, tick.saturating_sub(limit.ticks()));
                },
            );
            // It can only fail to get what has just been inserted.
            let at_once = |world: &mut World| drop(world.run_system_once(remember::<T>));
            self.world_mut().get_resource_or_init::<Recollections>().0.push(at_once);
        }
        self
    }

    fn rewind_limit(&mut self, limit: Duration) -> &mut Self {
        assert!(limit <= REWIND_MAX, "a room looks back for at most {REWIND_MAX:?}, not {limit:?}");
        self.insert_resource(RewindLimit::of(limit))
    }
}

/// What notes for each rewindable component how things stand.
#[derive(Resource, Default)]
struct Recollections(Vec<fn(&mut World)>);

/// Notes how things stand in a room that goes on: later they would not be seen as changed, and nothing would be known of what stands still.
pub(super) fn recollect(world: &mut World) {
    let notes = world.get_resource::<Recollections>().map(|notes| notes.0.clone()).unwrap_or_default();
    notes.into_iter().for_each(|note| note(world));
}

/// The last values of one component of one entity, oldest first, each with the tick in which it came about. `None` where it had none.
struct Past<T> {
    entity: Option<Entity>,
    values: VecDeque<(u32, Option<T>)>,
}

impl<T> Default for Past<T> {
    fn default() -> Self {
        Self { entity: None, values: VecDeque::new() }
    }
}

/// The last values of one component.
#[derive(Resource)]
pub(crate) struct Pasts<T: Send + Sync + 'static> {
    manner: Interpolation<T>,
    /// The first tick of which anything is known. What was there then may have been there before.
    first: Option<u32>,
    newest: u32,
    /// By the index of the entity. The room's own bounds are its bounds.
    by_index: Vec<Past<T>>,
}

impl<T: Clone + Send + Sync + 'static> Pasts<T> {
    fn push(&mut self, entity: Entity, value: Option<&T>, tick: u32, oldest: u32) {
        let past = place(&mut self.by_index, entity.index_u32() as usize);
        if past.entity.replace(entity) != Some(entity) {
            past.values.clear();
        }
        // A prediction may know what came later: that stands.
        if past.values.back().is_some_and(|(since, _)| *since > tick) {
            return;
        }
        if let Some((_, last)) = past.values.back_mut().filter(|(since, _)| *since == tick) {
            *last = value.cloned();
            return;
        }
        // One that is older than all that is asked for says what it was then.
        while past.values.get(1).is_some_and(|(tick, _)| *tick <= oldest) {
            past.values.pop_front();
        }
        past.values.push_back((tick, value.cloned()));
    }

    /// Forgets what an entity had from a tick on.
    #[cfg(feature = "client")]
    fn cut(&mut self, entity: Entity, from: u32) {
        if let Some(past) = self.by_index.get_mut(entity.index_u32() as usize).filter(|past| past.entity == Some(entity)) {
            while past.values.pop_back_if(|(tick, _)| *tick >= from).is_some() {}
        }
    }

    /// The value as of the end of a tick. `now` is what it is in the tick that runs.
    fn of_tick<'a>(&'a self, past: Option<&'a Past<T>>, tick: u32, now: &'a T) -> Option<&'a T> {
        if tick > self.newest {
            return Some(now);
        }
        let values = &past?.values;
        let then = values.iter().rev().find(|(since, _)| *since <= tick);
        let (_, value) = then.or_else(|| values.front().filter(|(since, _)| Some(*since) == self.first))?;
        value.as_ref()
    }
}

/// What a prediction does to the values of one component that are kept, with its type erased: it goes back, and puts right what was.
#[cfg(feature = "client")]
#[derive(Clone, Copy)]
struct PastHook {
    component: TypeId,
    begin: fn(&mut World, u32),
    go_back: fn(&mut World, u32),
    stood: fn(&mut World, Entity, u32),
}

/// The components of which values are kept.
#[cfg(feature = "client")]
#[derive(Resource, Default)]
struct PastHooks(Vec<PastHook>);

#[cfg(feature = "client")]
impl PastHook {
    fn of<T: Component + Clone>() -> Self {
        Self {
            component: TypeId::of::<T>(),
            begin: |world, tick| {
                let mut values = world.query_filtered::<(Entity, &T), DisabledToo>();
                world.resource_scope(|world, mut pasts: Mut<Pasts<T>>| {
                    (pasts.first, pasts.newest) = (Some(tick), tick);
                    pasts.by_index.clear();
                    values.iter(world).for_each(|(entity, value)| pasts.push(entity, Some(value), tick, tick));
                });
            },
            go_back: |world, tick| world.resource_mut::<Pasts<T>>().newest = tick,
            stood: |world, entity, tick| {
                let value = world.get::<T>(entity).cloned();
                let oldest = tick.saturating_sub(world.resource::<RewindLimit>().ticks());
                let mut pasts = world.resource_mut::<Pasts<T>>();
                pasts.cut(entity, tick);
                pasts.push(entity, value.as_ref(), tick, oldest);
            },
        }
    }
}

/// Forgets what was, since the world was filled anew: with what there was at the end of a tick.
#[cfg(feature = "client")]
pub(super) fn begin_pasts(world: &mut World, tick: u32) {
    if let Some(hooks) = world.get_resource::<PastHooks>() {
        hooks.0.clone().iter().for_each(|hook| (hook.begin)(world, tick));
    }
}

/// The world goes back to the end of a tick.
#[cfg(feature = "client")]
pub(crate) fn turn_back_pasts(world: &mut World, tick: u32) {
    if let Some(hooks) = world.get_resource::<PastHooks>() {
        hooks.0.clone().iter().for_each(|hook| (hook.go_back)(world, tick));
    }
}

/// What an entity has of a component now is what it had at the end of a tick, and what was kept of later ticks was not so.
#[cfg(feature = "client")]
pub(crate) fn stood(world: &mut World, component: TypeId, entity: Entity, tick: u32) {
    let hook = world.get_resource::<PastHooks>().and_then(|hooks| hooks.0.iter().find(|hook| hook.component == component).copied());
    hook.into_iter().for_each(|hook| (hook.stood)(world, entity, tick));
}

/// Everything, disabled or not: who is disabled may be moved, and is to be found where it was once it is back. By naming [`Disabled`] it turns off
/// Bevy's default filter as [`Allow`] does, but lets slices be read, which that does not.
type DisabledToo = Or<(With<Disabled>, Without<Disabled>)>;

/// Keeps what changed in the tick that ends.
fn remember<T: Component + Clone>(
    clock: Res<RoomClock>,
    limit: Res<RewindLimit>,
    mut pasts: ResMut<Pasts<T>>,
    values: Query<(Entity, Ref<T>), DisabledToo>,
) {
    let tick_now = clock.tick().0;
    pasts.first.get_or_insert(tick_now);
    pasts.newest = tick_now;
    let oldest = tick_now.saturating_sub(limit.ticks());
    let Ok(tables) = values.contiguous_iter() else {
        for (entity, value) in values.iter().filter(|(_, value)| value.is_changed()) {
            pasts.push(entity, Some(&*value), tick_now, oldest);
        }
        return;
    };
    for (entities, values) in tables {
        let (since, now) = (values.last_run_tick(), values.this_run_tick());
        let ticks = values.changed_ticks_slice();
        let (values, _) = ContiguousRef::split(values);
        // As the scan of synced components: what did not change costs a comparison of integers.
        let age_max = now.get().wrapping_sub(since.get());
        for (n, block) in ticks.chunks(64).enumerate() {
            if !block.iter().fold(false, |any, tick| any | (now.get().wrapping_sub(tick.get()) < age_max)) {
                continue;
            }
            for ((entity, value), tick) in entities.iter().zip(values.iter()).skip(n * 64).zip(block) {
                if now.get().wrapping_sub(tick.get()) < age_max {
                    pasts.push(*entity, Some(value), tick_now, oldest);
                }
            }
        }
    }
}

/// The values of a [rewindable](RewindAppExt::rewindable) component as they were a moment ago. A handler asks for what its command's author
/// [saw](super::Issued::seen):
///
/// ```
/// use bevy_app::prelude::*;
/// use bevy_ecs::prelude::*;
/// use roomkeeper::prelude::*;
/// use roomkeeper::protocol::Interpolation;
/// use roomkeeper::room::{Rewind, RewindAppExt};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Component, Clone, Serialize, Deserialize)]
/// # struct Position([f32; 2]);
/// # #[derive(Serialize, Deserialize)]
/// # struct Fire { at: [f32; 2] }
/// # #[derive(Clone, Serialize, Deserialize)]
/// # struct Hit { whom: EntityId }
/// fn decide_fire(fire: In<Issued<Fire>>, past: Rewind<Position>, things: Query<(Entity, &EntityId, &Position)>) -> Decision {
///     for (entity, id, now) in &things {
///         let Some(then) = past.at(entity, fire.seen, now) else { continue };
///         if (then.0[0] - fire.at[0]).abs() + (then.0[1] - fire.at[1]).abs() < 0.5 {
///             return accept(Hit { whom: *id });
///         }
///     }
///     reject("missed")
/// }
/// fn rules(app: &mut App) {
///     app.rewindable(Interpolation::linear(|position: &Position| position.0, Position));
///     app.decide(decide_fire);
/// }
/// ```
#[derive(SystemParam)]
pub struct Rewind<'w, T: Component + Clone> {
    pasts: Res<'w, Pasts<T>>,
}

impl<T: Component + Clone> Rewind<'_, T> {
    /// The value of an entity's component at a moment, where it is `now` in the tick that runs. `None` if the entity did not have it then.
    /// Further back than the room [looks](RewindAppExt::rewind_limit) it may be a newer one.
    pub fn at(&self, entity: Entity, moment: SeenTick, now: &T) -> Option<T> {
        let past = self.pasts.by_index.get(entity.index_u32() as usize).filter(|past| past.entity == Some(entity));
        let RoomTick(tick) = moment.tick();
        let from = self.pasts.of_tick(past, tick, now)?;
        let share = moment.share();
        if share == 0.0 {
            return Some(from.clone());
        }
        let to = self.pasts.of_tick(past, tick.saturating_add(1), now)?;
        Some(self.pasts.manner.blend(from, to, share))
    }
}
