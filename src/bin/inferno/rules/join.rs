//! Players come and go: `user_joined`, `user_left`.

use super::combat::drop_belongings;
use super::tuning::{AMMO_START, HEALTH_MAX, PLAYER_RADIUS, STRIDE_MAX};
use crate::components::*;
use crate::map::distance;
use bevy_ecs::prelude::*;
use roomkeeper::prelude::{EntityId, EntityIndex, Happened, OwnedBy, UserJoined, UserLeft};
use roomkeeper::protocol::{Owns, User};

/// Applies `user_joined`: a new player at the first spawn point on which nobody stands.
pub fn spawn_player(
    joined: On<Happened<UserJoined>>,
    spawn_points: Query<(&SpawnPoint, &Position)>,
    players: Query<&Position, With<Avatar>>,
    mut commands: Commands,
) {
    let mut points: Vec<(u32, Position)> = spawn_points.iter().map(|(point, at)| (point.order, *at)).collect();
    points.sort_by_key(|(order, at)| (*order, at.0.map(f32::to_bits)));
    let is_free = |at: &Position| players.iter().all(|other| distance(other.0, at.0) > 2.0 * PLAYER_RADIUS);
    let free = points.iter().find(|(_, at)| is_free(at)).or(points.first());
    let at = free.map(|(_, at)| *at).unwrap_or_default();
    commands.spawn((
        (joined.user, User { name: joined.name.clone() }, Avatar("marine".into())),
        (at, Rotation::default(), Stride { left: STRIDE_MAX, tick: joined.tick }),
        (Health(HEALTH_MAX), Ammo(AMMO_START), Weapon(WeaponKind::Pistol)),
        (Immunity::default(), ReadyAt::default(), Status(Status::ALIVE.into())),
    ));
}

/// Applies `user_left`: what the player carried stays, the player is gone.
pub fn remove_player(
    left: On<Happened<UserLeft>>,
    index: Res<EntityIndex>,
    players: Query<(&Position, Option<&Owns>), With<Avatar>>,
    mut items: Query<(&mut Position, &mut Visibility), (With<OwnedBy>, Without<Avatar>)>,
    mut commands: Commands,
) {
    let user: EntityId = left.user;
    let Some(player) = index.entity(user) else { return };
    if let Ok((at, owns)) = players.get(player) {
        drop_belongings(at.0, owns, &mut items, &mut commands);
    }
    commands.entity(player).despawn();
}
