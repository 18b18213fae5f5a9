//! The last seconds of somebody who died, once more: a replica of the room's past beside that of its present.

use bevy_app::App;

use super::super::game::Game;
use super::super::options::{CliError, ClientArguments};
use super::super::player::hang_up;
use super::canvas::Camera;
use crate::client::picture::{Eyes, Picture, View};
use crate::client::{Connection, Replica};
use crate::protocol::EntityId;
use crate::protocol::limits::TICKS_PER_SECOND;

/// How many ticks before it ended are shown, and how many after.
const BEFORE: u32 = 5 * TICKS_PER_SECOND;
const AFTER: u32 = TICKS_PER_SECOND;

/// The last seconds of somebody.
pub(super) struct Replay {
    app: App,
    of: EntityId,
    end: u32,
    camera: Camera,
    /// What is to be seen; nothing until it has begun.
    picture: Option<Picture>,
}

impl Replay {
    /// Begins to fetch what was until a tick.
    pub(super) fn begin(
        game: &Game,
        client: &ClientArguments,
        name: &str,
        (of, tick): (EntityId, u32),
        camera: Camera,
    ) -> Result<Self, CliError> {
        let mut app = game.player_app(false);
        let room = format!("{}@{}", client.room, tick.saturating_sub(BEFORE));
        app.insert_resource(client.transport(name, &room, true, client.link.link_seed)?);
        Ok(Self { app, of, end: tick + AFTER, camera, picture: None })
    }

    /// Goes on. False once it is over, or if there is no such past.
    pub(super) fn update(&mut self) -> bool {
        self.app.update();
        let world = self.app.world();
        !world.resource::<Connection>().state().is_over() && world.resource::<Replica>().tick().0 < self.end
    }

    pub(super) fn look(&mut self, view: &View) {
        let world = self.app.world();
        if !world.resource::<Connection>().state().is_in_room() {
            return;
        }
        let tick = world.resource::<Replica>().tick().0;
        let picture = (view.draw)(self.app.world_mut(), &Eyes { of: self.of, tick });
        // Where who died stood last it stays.
        if picture.focus.is_some() {
            self.camera.follow(picture.focus);
        }
        self.picture = Some(picture);
    }

    /// What is to be seen, and from where.
    pub(super) fn shown(&self) -> Option<(&Picture, Camera)> {
        self.picture.as_ref().map(|picture| (picture, self.camera))
    }

    pub(super) fn end(mut self) {
        hang_up(&mut self.app);
    }
}
