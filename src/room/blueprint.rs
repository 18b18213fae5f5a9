//! The code of a game, from which any number of rooms and replicas is built.

use std::sync::{Arc, OnceLock};

use bevy_app::App;

use super::resume::Scene;
use super::runner::{Room, RoomError, RoomOptions};
use crate::protocol::{Protocol, Standing, register_built_in};

type Build = Arc<dyn Fn(&mut App) + Send + Sync>;

/// A game's protocol, which both sides add, and its rules, which the server adds.
#[derive(Clone)]
pub struct Blueprint {
    protocol: Build,
    rules: Build,
    built: Arc<OnceLock<Arc<Protocol>>>,
}

impl std::fmt::Debug for Blueprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Blueprint")
    }
}

impl Blueprint {
    /// Takes the two functions of a game.
    pub fn new(protocol: impl Fn(&mut App) + Send + Sync + 'static, rules: impl Fn(&mut App) + Send + Sync + 'static) -> Self {
        Self { protocol: Arc::new(protocol), rules: Arc::new(rules), built: Arc::default() }
    }

    /// Builds a room.
    ///
    /// # Errors
    /// See [`Room::new`].
    pub fn room(&self, options: RoomOptions) -> Result<Room, RoomError> {
        Room::new(options, &*self.protocol, &*self.rules)
    }

    /// Builds a room in which nothing happens but the facts that are applied to it, one by one.
    ///
    /// # Errors
    /// See [`Room::new`].
    pub fn room_of_facts(&self, options: RoomOptions) -> Result<Room, RoomError> {
        self.room(options).map(Room::of_facts)
    }

    /// Builds a room that goes on from what was stored of it.
    ///
    /// # Errors
    /// See [`Room::resume`].
    pub fn resume(&self, options: &RoomOptions, scene: Scene<'_>, standing: &Standing) -> Result<Room, RoomError> {
        Room::resume(options, scene, standing, &*self.protocol, &*self.rules)
    }

    /// Builds a room's world for a prediction.
    ///
    /// # Errors
    /// See [`Room::new`].
    #[cfg(feature = "client")]
    pub(crate) fn shadow(&self) -> Result<super::shadow::Shadow, RoomError> {
        super::shadow::Shadow::new(&*self.protocol, &*self.rules)
    }

    /// The protocol by itself, as the rooms have it: for reading what they stored.
    pub fn protocol(&self) -> Arc<Protocol> {
        let build = || {
            let mut app = App::new();
            app.init_resource::<Protocol>();
            register_built_in(&mut app);
            (self.protocol)(&mut app);
            Arc::new(std::mem::take(&mut *app.world_mut().resource_mut::<Protocol>()))
        };
        self.built.get_or_init(build).clone()
    }

    /// Adds the protocol to a client's app.
    pub fn add_protocol(&self, app: &mut App) {
        (self.protocol)(app);
    }
}
