//! The plugin that a game adds to its own `App`.

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;

use super::connection::{Connection, receive};
use super::replica::Replica;
use crate::protocol::{Protocol, register_built_in};

/// When the replica changes.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplicaSystems {
    /// Messages that arrived are applied and the observers told. In `PreUpdate`, so that `Update` sees the newest state.
    Receive,
    /// What is [interpolated](super::InterpolateAppExt) goes on to this frame. In `PreUpdate`, after `Receive`.
    Show,
}

/// Keeps a replica of a room in the game's own world. Add it before the game's protocol.
///
/// Observe [`EntityAdded`](crate::protocol::EntityAdded), [`ComponentChanged`](crate::protocol::ComponentChanged) and the like, which come when all of a message
/// is in. Bevy's own observers and hooks, of [`Add`] for instance, run in the midst of it: [`Replica`] knows its room and its user then, and nothing else.
///
/// ```
/// use bevy_app::prelude::*;
/// use bevy_ecs::prelude::*;
/// use roomkeeper::client::{Replica, ReplicaPlugin};
/// use roomkeeper::prelude::*;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Component, Serialize, Deserialize)]
/// # struct Health(i32);
/// # fn protocol(app: &mut App) { app.sync::<Health>("health"); }
/// let mut app = App::new();
/// app.add_plugins(ReplicaPlugin);
/// protocol(&mut app);
/// app.add_observer(|added: On<EntityAdded>| println!("{} is here", added.id));
/// app.add_observer(|changed: On<ComponentChanged<Health>>, health: Query<&Health>| {
///     if let Ok(health) = health.get(changed.entity) {
///         println!("{} has {} left", changed.id, health.0);
///     }
/// });
/// assert!(!app.world().resource::<Replica>().is_live());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplicaPlugin;

impl Plugin for ReplicaPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<Protocol>().init_resource::<Replica>().init_resource::<Connection>();
        register_built_in(app);
        app.add_systems(PreUpdate, receive.in_set(ReplicaSystems::Receive));
    }
}
