//! Draws states: the world of a replica is put to a state, and the game draws it.

use bevy_app::App;
use bevy_ecs::prelude::*;

use super::answer::Failure;
use super::game::AdminGame;
use crate::client::picture::{Eyes, Picture, View};
use crate::client::{ReplicaPlugin, clear_replica, show_state};
use crate::protocol::{EntityId, RoomId, RoomTick, State};
use crate::room::Blueprint;

/// Draws states of rooms of one game.
pub(super) struct Painter {
    view: Option<View>,
    blueprint: Blueprint,
    /// The world of a replica, and whose state it is in.
    world: Option<(World, RoomId)>,
}

impl Painter {
    pub(super) fn new(game: &AdminGame) -> Self {
        Self { view: game.view, blueprint: game.blueprint.clone(), world: None }
    }

    /// Draws a state through somebody's eyes; the nil id for nobody's. Nothing if the game can't be drawn.
    pub(super) fn draw(&mut self, state: &State, tick: RoomTick, of: EntityId) -> Result<Option<Picture>, Failure> {
        let Some(view) = self.view else { return Ok(None) };
        // After an error, or a panic of the game, the world is not what it should be: the next state gets a new one.
        let (mut world, room) = self.world.take().unwrap_or_else(|| (new_world(&self.blueprint), state.room()));
        let shown = if room == state.room() { Ok(()) } else { clear_replica(&mut world) };
        shown.and_then(|()| show_state(&mut world, state, tick)).map_err(|error| Failure::broken(error.to_string()))?;
        world.clear_trackers();
        let picture = (view.draw)(&mut world, &Eyes { of, tick: tick.0 });
        self.world = Some((world, state.room()));
        Ok(Some(picture))
    }
}

fn new_world(blueprint: &Blueprint) -> World {
    let mut app = App::new();
    app.add_plugins(ReplicaPlugin);
    blueprint.add_protocol(&mut app);
    app.finish();
    app.cleanup();
    std::mem::take(app.world_mut())
}
