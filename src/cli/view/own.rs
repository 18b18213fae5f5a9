//! A server in this process, for somebody who plays and names none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::super::game::Game;
use super::super::options::CliError;
use super::super::player::{Player, until};
use super::super::rooms::free_name;
use super::super::system::instant;
use super::options::PlayOptions;
use crate::client::Credentials;
use crate::host::gateway::{Access, GatewayLimits, ShardConfig};
use crate::host::{HostLimits, KeepOptions, Keeper, Server};
use crate::store::{MemoryStore, WriterOptions, WriterReport};

/// A server that runs until it is dropped.
pub(super) struct Own {
    pub(super) address: SocketAddr,
    pub(super) room: String,
    stop: Arc<AtomicBool>,
    server: Option<JoinHandle<Option<WriterReport>>>,
    company: Option<JoinHandle<()>>,
}

impl Own {
    /// Starts a server with the `nth` match: each has another seed, and if matches are kept, a room of its own.
    pub(super) fn start(game: &Game, options: &PlayOptions, nth: u32) -> Result<Self, CliError> {
        let bind = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = ShardConfig { bind, public_addresses: Vec::new(), access: Access::Loopback, limits: GatewayLimits::default() };
        let mut server = Server::bind(&config, HostLimits::default())?;
        let mut room = options.room.room_options(game)?;
        room.seed = room.seed.wrapping_add(u64::from(nth));
        if let Some(folder) = &options.data {
            // The ledger is to tell why anything changed.
            room.notes = true;
            let stored = server.keep(&KeepOptions::in_folder(folder))?.stored()?;
            room.name = free_name(&stored, &room.name);
        } else {
            // In memory, so that the last seconds can be seen again.
            server.keep_by(Keeper::start(Box::new(MemoryStore::default()), WriterOptions::default())?);
        }
        let (name, seed) = (room.name.clone(), room.seed);
        server.open_room(&game.blueprint, room)?;
        let address = server.local_address().map_err(|error| CliError::Io { what: "the server's address".to_owned(), error })?;
        let stop = Arc::new(AtomicBool::new(false));
        let (ends, stops) = (stop.clone(), stop.clone());
        let server = std::thread::spawn(move || {
            server.run(&ends, |_, _, _| {});
            server.stop_keeping()
        });
        let (others, bots, room) = (game.clone(), options.bots, name.clone());
        let company = (bots > 0).then(|| std::thread::spawn(move || company(&others, bots, (address, &room), seed, &stops)));
        Ok(Self { address, room: name, stop, server: Some(server), company })
    }

    /// Ends it.
    ///
    /// # Errors
    /// If what happened could not be kept.
    pub(super) fn stop(mut self) -> Result<(), CliError> {
        let given_up = self.end().and_then(|kept| kept.given_up);
        given_up.map_or(Ok(()), |reason| Err(CliError::Lost(reason)))
    }

    fn end(&mut self) -> Option<WriterReport> {
        self.stop.store(true, Ordering::Relaxed);
        // One that panicked has said so.
        self.company.take().map(JoinHandle::join).into_iter().for_each(drop);
        self.server.take().and_then(|server| server.join().ok()).flatten()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        drop(self.end());
    }
}

/// Lets bots play until it is over.
fn company(game: &Game, bots: u32, (address, room): (SocketAddr, &str), seed: u64, stop: &AtomicBool) {
    let connect = |number: u32| {
        let name = format!("bot{number}");
        let credentials = Credentials::unauthenticated(address, &name);
        Player::connect(game, &credentials, room, &name, seed.wrapping_mul(1_000).wrapping_add(u64::from(number)))
    };
    let (mut players, refused): (Vec<_>, Vec<_>) = (1..=bots).map(connect).partition(Result::is_ok);
    refused.into_iter().filter_map(Result::err).for_each(|error| tracing::error!(%error, "a bot can't play"));
    let mut next = instant();
    while !stop.load(Ordering::Relaxed) {
        players.iter_mut().flatten().for_each(Player::play);
        until(&mut next);
    }
    players.iter_mut().flatten().for_each(Player::hang_up);
}
