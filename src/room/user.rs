//! How a room applies the facts about its users, unless the game does it.

use bevy_ecs::prelude::*;

use super::index::EntityIndex;
use crate::protocol::{Happened, User, UserJoined, UserLeft};

/// How the room applies [`UserJoined`] by itself.
pub(crate) fn spawn_user(joined: On<Happened<UserJoined>>, mut commands: Commands) {
    commands.spawn((joined.user, User { name: joined.name.clone() }));
}

/// How the room applies [`UserLeft`] by itself.
pub(crate) fn despawn_user(left: On<Happened<UserLeft>>, index: Res<EntityIndex>, mut commands: Commands) {
    if let Some(entity) = index.entity(left.user) {
        commands.entity(entity).try_despawn();
    }
}
