//! The verbs that every game's binary gets: `play`, `serve`, `config`, `demo`, `capacity`, `watch`, `dump`, `bot`, `handlers`, `ledger`, `simulate`, `snippet`, `swarm`, `token`.
//!
//! A game's `main` is `Game::new("name", protocol, rules).run()`.
//!
//! May use: everything. Prints: nothing else in the library does.

mod aside;
mod capacity;
mod config;
mod demo;
mod fleet;
mod game;
mod handlers;
mod ledger;
mod options;
mod processor;
mod recorded;
mod serve;
mod signals;
mod simulate;
mod swarm;
#[cfg(feature = "terminal")]
mod view;
mod watch;

pub use self::config::ConfigError;
#[cfg(all(any(test, fuzzing), feature = "admin", unix))]
pub(crate) use self::config::config_door;
pub use self::game::{BotBrain, Game, Narrator};
pub use self::options::CliError;
pub use self::processor::require_processor;
pub use crate::client::picture::{Actor, Ending, Eyes, Form, Gauge, Key, Keys, Picture, Pilot, Shape, Spot, Tint, View};
