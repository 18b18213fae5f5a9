//! The verbs that every game's binary gets: `serve`, `demo`, `capacity`, `watch`, `dump`, `bot`, `handlers`, `ledger`, `snippet`, `token`.
//!
//! A game's `main` is `Game::new("name", protocol, rules).run()`.
//!
//! May use: everything. Prints: nothing else in the library does.

mod capacity;
mod demo;
mod game;
mod handlers;
mod ledger;
mod options;
mod processor;
mod serve;
mod swarm;
mod watch;

pub use self::game::{BotBrain, Game, Narrator};
pub use self::options::CliError;
pub use self::processor::require_processor;
