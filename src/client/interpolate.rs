//! Others as they were a moment ago: between two values that came, however often the game draws.
//!
//! What is shown never touches the replica: the component keeps what the room said, and [`Shown`] stands beside it.

use std::any::TypeId;
use std::ops::{Deref, RangeInclusive};
use std::time::Duration;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;

use super::connection::Connection;
use super::inflow::Gaps;
use super::plugin::ReplicaSystems;
use super::replica::Replica;
use super::shown::{ShownTime, advance};
use super::track::Track;
use crate::protocol::{Delivery, Interpolation, Protocol, RoomTick, SyncComponent};

/// A component as it is to be drawn: between two values of the replica's, as of [`ShownTime`]; of the client's own entity, and of what
/// [shows the newest](ShowsNewest), as it is now, prediction included. On each entity that has the component, and gone together with it, and with
/// the entity, at once: an entity's end is not delayed, nor is its beginning, when it shows its first value.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown<T: Send + Sync + 'static>(pub T);

impl<T: Send + Sync + 'static> Deref for Shown<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// Shows an entity as new as it is known: where the prediction has it, or else the room. The entity of the client's own user is shown so without
/// it; what the user drives, or has fired, may be.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShowsNewest;

/// Leaves an entity alone: what it shows is the game's, or a prediction's, to write.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NotInterpolated;

/// How a component is interpolated.
#[derive(Resource)]
struct Manner<T: Clone + Send + Sync + 'static>(Interpolation<T>);

/// A component that is interpolated, with its type erased.
struct Follower {
    type_id: TypeId,
    take: fn(&mut World, &[Entity], RoomTick, Gaps),
}

/// The components that are interpolated.
#[derive(Resource, Default)]
struct Followers(Vec<Follower>);

/// Lets a client interpolate. Implemented for Bevy's [`App`].
///
/// ```
/// use bevy_app::prelude::*;
/// use bevy_ecs::prelude::*;
/// use roomkeeper::client::{InterpolateAppExt, ReplicaPlugin, Shown};
/// use roomkeeper::prelude::*;
/// use roomkeeper::protocol::Interpolation;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Component, Clone, Serialize, Deserialize)]
/// struct Position([f32; 2]);
///
/// let mut app = App::new();
/// app.add_plugins(ReplicaPlugin);
/// app.sync::<Position>("position").latest();
/// app.interpolate(Interpolation::linear(|position: &Position| position.0, Position).teleport_beyond(5.0));
/// app.add_systems(Update, |drawn: Query<&Shown<Position>>| drawn.iter().for_each(|at| println!("{:?}", at.0.0)));
/// app.update();
/// ```
pub trait InterpolateAppExt {
    /// Shows a synced component between its values, by [`Shown`]. The entity of the client's own user shows the newest value there is: what a
    /// prediction says. After [`ReplicaPlugin`](super::ReplicaPlugin); once for each component.
    fn interpolate<T: SyncComponent + Clone>(&mut self, manner: Interpolation<T>) -> &mut Self;

    /// How far the shown time may be behind what the quickest packets bring. Default: 50 to 300 ms, of which it takes as little as jitter and
    /// loss allow. The same bound twice makes it fixed.
    fn interpolation_delay(&mut self, bounds: RangeInclusive<Duration>) -> &mut Self;
}

impl InterpolateAppExt for App {
    fn interpolate<T: SyncComponent + Clone>(&mut self, manner: Interpolation<T>) -> &mut Self {
        prepare(self);
        let world = self.world_mut();
        world.insert_resource(Manner(manner));
        let mut followers = world.resource_mut::<Followers>();
        let type_id = TypeId::of::<T>();
        if followers.0.iter().any(|follower| follower.type_id == type_id) {
            return self;
        }
        followers.0.push(Follower { type_id, take: take::<T> });
        world.add_observer(|left: On<Add<NotInterpolated>>, mut commands: Commands| {
            commands.entity(left.entity).try_remove::<Track<T>>();
        });
        world.add_observer(|back: On<Remove<NotInterpolated>>, values: Query<&T>, replica: Res<Replica>, mut commands: Commands| {
            if let Ok(value) = values.get(back.entity) {
                commands.entity(back.entity).try_insert((Track::new(replica.tick().0, value.clone()), Shown(value.clone())));
            }
        });
        // What is issued in between is predicted after it.
        self.add_systems(PostUpdate, (agree::<T>, show_newest::<T>).chain().in_set(ReplicaSystems::Show));
        self.add_systems(PreUpdate, (agree::<T>, show::<T>, show_newest::<T>).chain().in_set(ReplicaSystems::Show))
    }

    fn interpolation_delay(&mut self, bounds: RangeInclusive<Duration>) -> &mut Self {
        prepare(self);
        self.world_mut().resource_mut::<ShownTime>().bounds = bounds;
        self
    }
}

fn prepare(app: &mut App) {
    if !app.world().contains_resource::<ShownTime>() {
        app.init_resource::<ShownTime>().init_resource::<Followers>();
        app.configure_sets(PreUpdate, ReplicaSystems::Show.after(ReplicaSystems::Receive));
        app.add_systems(PreUpdate, advance.after(ReplicaSystems::Receive).before(ReplicaSystems::Show));
    }
}

/// Takes note of the values that a message brought as of a tick: to entities that are new, and to others. To be called while the protocol
/// still holds its notices.
pub(super) fn follow(world: &mut World, protocol: &Protocol, tick: RoomTick, added: impl Iterator<Item = Entity>) {
    let Some(followers) = world.remove_resource::<Followers>() else { return };
    let gaps = world.get_resource::<Connection>().map(|connection| connection.inflow().gaps()).unwrap_or_default();
    let mut entities: Vec<Entity> = added.collect();
    let added = entities.len();
    for follower in &followers.0 {
        let Some(entry) = protocol.components.iter().find(|entry| entry.type_id == follower.type_id) else { continue };
        entities.truncate(added);
        entry.column.touched(&mut entities);
        // Batches come in order and without gaps: what they do not say did not change.
        let gaps = if entry.delivery == Delivery::Latest { gaps } else { Gaps::default() };
        (follower.take)(world, &entities, tick, gaps);
    }
    world.insert_resource(followers);
}

fn take<T: SyncComponent + Clone>(world: &mut World, entities: &[Entity], tick: RoomTick, gaps: Gaps) {
    let mut new = Vec::new();
    for entity in entities {
        let Ok(mut entity) = world.get_entity_mut(*entity) else { continue };
        let Some(value) = entity.get::<T>().cloned() else {
            if entity.contains::<Track<T>>() {
                entity.remove::<(Track<T>, Shown<T>)>();
            }
            continue;
        };
        if let Some(mut track) = entity.get_mut::<Track<T>>() {
            track.push(tick.0, value, gaps);
        } else if !entity.contains::<NotInterpolated>() {
            new.push((entity.id(), (Track::new(tick.0, value.clone()), Shown(value))));
        }
    }
    if !new.is_empty() {
        world.insert_batch(new);
    }
}

/// Shows nothing of what a prediction took away, and again what it gave back: of which no message tells.
fn agree<T: SyncComponent + Clone>(
    gone: Query<Entity, (With<Shown<T>>, Without<T>, Without<NotInterpolated>)>,
    back: Query<(Entity, &T), (With<Track<T>>, Without<Shown<T>>, Without<NotInterpolated>)>,
    mut commands: Commands,
) {
    for entity in &gone {
        commands.entity(entity).try_remove::<Shown<T>>();
    }
    for (entity, value) in &back {
        commands.entity(entity).try_insert(Shown(value.clone()));
    }
}

fn show<T: SyncComponent + Clone>(
    time: Res<ShownTime>,
    replica: Res<Replica>,
    manner: Res<Manner<T>>,
    mut tracks: Query<(Entity, &mut Track<T>, &mut Shown<T>, Has<ShowsNewest>), Without<NotInterpolated>>,
) {
    let Some(tick) = time.tick() else { return };
    let ((passed, leap), own) = (time.frame(), replica.user_entity());
    for (entity, mut track, mut shown, newest) in &mut tracks {
        let track = track.bypass_change_detection();
        if newest || own == Some(entity) {
            track.forget();
        } else if !track.is_at_rest()
            && let Some(value) = track.advance(tick, passed, leap, &manner.0)
        {
            shown.0 = value;
        }
    }
}

/// Shows the client's own entity, and what is marked, as they are now.
fn show_newest<T: SyncComponent + Clone>(
    replica: Res<Replica>,
    marked: Query<Entity, (With<T>, With<ShowsNewest>)>,
    mut values: Query<(&T, Option<&mut Shown<T>>), Without<NotInterpolated>>,
    mut commands: Commands,
) {
    for entity in marked.iter().chain(replica.user_entity()) {
        match values.get_mut(entity) {
            Ok((value, Some(mut shown))) => shown.0 = value.clone(),
            Ok((value, None)) => drop(commands.entity(entity).try_insert(Shown(value.clone()))),
            Err(_) => {}
        }
    }
}
