//! The verbs that every game's binary gets: `play`, `serve`, `config`, `demo`, `capacity`, `rooms`, `watch`, `dump`, `bot`, `handlers`, `ledger`, `simulate`, `snippet`, `soak`, `swarm`, `token`.
//!
//! A game's `main` is `Game::new("name", protocol, rules).run()`.
//!
//! May use: everything. Prints: nothing else in the library does.

mod aside;
mod beat;
mod capacity;
mod config;
mod demo;
mod fleet;
mod game;
mod handlers;
mod ledger;
mod memory;
mod options;
mod output;
mod player;
mod processor;
mod recorded;
mod rooms;
mod serve;
mod signals;
mod simulate;
mod soak;
mod svg;
mod swarm;
mod system;
mod token;
#[cfg(feature = "terminal")]
mod view;
mod watch;

pub use self::config::ConfigError;
#[cfg(all(any(test, fuzzing), feature = "admin"))]
pub(crate) use self::config::config_door;
pub use self::game::{BotBrain, Game, Narrator};
pub use self::memory::Allocator;
pub use self::options::CliError;
pub use self::processor::require_processor;
pub use crate::client::picture::{Actor, Ending, Eyes, Form, Gauge, Key, Keys, Picture, Pilot, Shape, Spot, Tint, View};
