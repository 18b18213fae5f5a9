//! The code of a game, from which any number of rooms and replicas is built.

use std::sync::Arc;

use bevy_app::App;

use super::runner::{Room, RoomError, RoomOptions};

type Build = Arc<dyn Fn(&mut App) + Send + Sync>;

/// A game's protocol, which both sides add, and its rules, which the server adds.
#[derive(Clone)]
pub struct Blueprint {
    protocol: Build,
    rules: Build,
}

impl std::fmt::Debug for Blueprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Blueprint")
    }
}

impl Blueprint {
    /// Takes the two functions of a game.
    pub fn new(protocol: impl Fn(&mut App) + Send + Sync + 'static, rules: impl Fn(&mut App) + Send + Sync + 'static) -> Self {
        Self { protocol: Arc::new(protocol), rules: Arc::new(rules) }
    }

    /// Builds a room.
    ///
    /// # Errors
    /// See [`Room::new`].
    pub fn room(&self, options: RoomOptions) -> Result<Room, RoomError> {
        Room::new(options, &*self.protocol, &*self.rules)
    }

    /// Adds the protocol to a client's app.
    pub fn add_protocol(&self, app: &mut App) {
        (self.protocol)(app);
    }
}
