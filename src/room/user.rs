//! How a room applies the facts about its users, unless the game does it.

use bevy_ecs::prelude::*;

use super::index::EntityIndex;
use crate::protocol::{Happened, User, UserJoined, UserLeft};

/// How the room applies [`UserJoined`] by itself. Where the game keeps the bodies of those who leave, who comes back has its own again.
pub(crate) fn spawn_user(joined: On<Happened<UserJoined>>, index: Res<EntityIndex>, mut commands: Commands) {
    let user = User { name: joined.name.clone() };
    if let Some(entity) = index.entity(joined.user) {
        commands.entity(entity).insert(user);
    } else {
        commands.spawn((joined.user, user));
    }
}

/// How the room applies [`UserLeft`] by itself.
pub(crate) fn despawn_user(left: On<Happened<UserLeft>>, index: Res<EntityIndex>, mut commands: Commands) {
    if let Some(entity) = index.entity(left.user) {
        commands.entity(entity).try_despawn();
    }
}
