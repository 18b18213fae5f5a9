//! How a level ends: `level_won`, `level_lost`.

use crate::components::{Avatar, Exit, Position, Status, Tag};
use crate::facts::{LevelLost, LevelWon};
use crate::map::distance;
use bevy_ecs::prelude::*;
use roomkeeper::prelude::{EntityId, EntityIndex, Happened, Recorder};

/// Whether anything happens at all: nothing moves once a level is over.
pub fn is_on(games: Query<&Status, With<Tag>>) -> bool {
    games.iter().any(|status| status.is(Status::PLAYING))
}

/// Records the end, once: won when a living player is at the exit, else lost when there are players and all are dead.
/// One system judges both, so it cannot be both.
pub fn judge(
    games: Query<(&EntityId, &Status), With<Tag>>,
    exits: Query<(&Position, &Exit)>,
    players: Query<(&EntityId, &Position, &Status), With<Avatar>>,
    mut record: Recorder,
) {
    let Some(game) = games.iter().filter(|(_, status)| status.is(Status::PLAYING)).map(|(id, _)| *id).min() else {
        return;
    };
    let alive = || players.iter().filter(|(.., status)| status.is(Status::ALIVE));
    let is_out = |at: &Position| exits.iter().any(|(exit_at, exit)| distance(at.0, exit_at.0) <= exit.radius);
    if let Some(player) = alive().filter(|(_, at, _)| is_out(at)).map(|(id, ..)| *id).min() {
        record.fact(LevelWon { game, player });
    } else if !players.is_empty() && alive().next().is_none() {
        record.fact(LevelLost { game });
    }
}

/// Applies `level_won`.
pub fn win(won: On<Happened<LevelWon>>, index: Res<EntityIndex>, mut games: Query<&mut Status, With<Tag>>) {
    end(won.game, Status::WON, &index, &mut games);
}

/// Applies `level_lost`.
pub fn lose(lost: On<Happened<LevelLost>>, index: Res<EntityIndex>, mut games: Query<&mut Status, With<Tag>>) {
    end(lost.game, Status::LOST, &index, &mut games);
}

fn end(game: EntityId, status: &str, index: &EntityIndex, games: &mut Query<&mut Status, With<Tag>>) {
    if let Some(mut now) = index.entity(game).and_then(|game| games.get_mut(game).ok()) {
        now.set_if_neq(Status(status.into()));
    }
}
