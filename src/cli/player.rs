//! Clients that play by themselves.

use std::time::{Duration, Instant};

use bevy_app::App;

use super::game::{BotBrain, Game};
use super::options::{CliError, ClientArguments};
use super::system::instant;
use crate::client::{Connection, ConnectionState, Credentials, UdpTransport};

/// A round of the bots, as long as a tick.
const ROUND: Duration = Duration::from_millis(50);

/// A client that plays by itself.
pub(super) struct Player {
    pub(super) name: String,
    pub(super) app: App,
    pub(super) brain: BotBrain,
}

impl Player {
    pub(super) fn connect(game: &Game, credentials: &Credentials, room: &str, name: &str, seed: u64) -> Result<Self, CliError> {
        Ok(Self::over(UdpTransport::connect(credentials, room, false)?, (game.client_app(), game.brain(seed)?), name))
    }

    fn over(transport: UdpTransport, (mut app, brain): (App, BotBrain), name: &str) -> Self {
        app.insert_resource(transport);
        Self { name: name.to_owned(), app, brain }
    }

    /// Connects as the arguments say, over the link that they name, whose chance is this player's own.
    pub(super) fn connect_by(game: &Game, client: &ClientArguments, name: &str, number: u32, seed: u64) -> Result<Self, CliError> {
        Self::connect_by_in((game.client_app(), game.brain(seed)?), client, name, number)
    }

    /// The same in an app that has this game's protocol.
    pub(super) fn connect_by_in(
        (app, brain): (App, BotBrain),
        client: &ClientArguments,
        name: &str,
        number: u32,
    ) -> Result<Self, CliError> {
        let seed = client.link.link_seed.wrapping_add(u64::from(number) << 32);
        Ok(Self::over(client.transport(name, &client.room, false, seed)?, (app, brain), name))
    }

    pub(super) fn state(&self) -> &ConnectionState {
        self.app.world().resource::<Connection>().state()
    }

    pub(super) fn play(&mut self) {
        if self.state().is_in_room() {
            (self.brain)(self.app.world_mut());
        }
        self.app.update();
    }

    pub(super) fn hang_up(&mut self) {
        hang_up(&mut self.app);
    }
}

/// Lets a client say goodbye.
pub(super) fn hang_up(app: &mut App) {
    app.world_mut().resource_mut::<Connection>().leave();
    app.update();
    app.world_mut().resource_mut::<UdpTransport>().hang_up();
}

/// Sleeps until the next round.
pub(super) fn until(next: &mut Instant) {
    *next += ROUND;
    std::thread::sleep(next.saturating_duration_since(instant()));
}
