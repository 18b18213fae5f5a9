//! Players walk: `move`, `player_moved`.

use super::tuning::{PLAYER_RADIUS, PLAYER_STEP, STRIDE_MAX, TOO_FAST};
use super::{Actors, Obstacles};
use crate::commands::Move;
use crate::components::{Position, Rotation, Stride};
use crate::facts::PlayerMoved;
use crate::map::{distance, facing, is_finite, sub, towards};
use bevy_ecs::prelude::*;
use roomkeeper::prelude::{Decision, EntityIndex, Happened, Issued, accept, reject};
use roomkeeper::protocol::RoomTick;

/// How far a player may go at `tick`.
fn stride_at(stride: &Stride, tick: RoomTick) -> f32 {
    let rested = tick.0.saturating_sub(stride.tick.0) as f32 * PLAYER_STEP;
    (stride.left + rested).min(STRIDE_MAX)
}

/// Decides `move`: a walk is cut short at walls and where speed ends, a leap is refused.
pub fn decide_move(asked: In<Issued<Move>>, actors: Actors, players: Query<(&Position, &Stride)>, mut obstacles: Obstacles) -> Decision {
    actors.check(asked.author)?;
    let (at, stride) = players.get(asked.author)?;
    if !is_finite(asked.to) {
        return reject("bad_place");
    }
    let left = stride_at(stride, asked.tick);
    if distance(at.0, asked.to) > TOO_FAST || left < 0.01 {
        return reject("too_fast");
    }
    let step = towards(at.0, asked.to, left);
    let to = obstacles.now().slide(at.0, step, PLAYER_RADIUS);
    accept(PlayerMoved { player: asked.author_id, to, facing: facing(step) })
}

/// Applies `player_moved`.
pub fn place_player(
    moved: On<Happened<PlayerMoved>>,
    index: Res<EntityIndex>,
    mut players: Query<(&mut Position, &mut Rotation, &mut Stride)>,
) {
    let Some(player) = index.entity(moved.player) else { return };
    let Ok((mut at, mut rotation, mut stride)) = players.get_mut(player) else { return };
    let went = distance(at.0, moved.to);
    *stride = Stride { left: (stride_at(&stride, moved.tick) - went).max(0.0), tick: moved.tick };
    if sub(moved.to, at.0) != [0.0; 2] {
        at.0 = moved.to;
    }
    rotation.set_if_neq(Rotation(moved.facing));
}
