//! What a server is told: a file, over which the environment counts, over which flags count. The verb `config` prints it.
//!
//! `keys` has every key once: its name, its place, its form and its bounds. Reading, printing, the environment and the hints of
//! what was meant all go by that table, so a key can't be known to one of them and not to another.
//!
//! May use: host, room, store, protocol. Never: sockets, threads.

mod agree;
#[cfg(all(any(test, fuzzing), feature = "admin"))]
mod door;
mod flags;
mod form;
mod keys;
mod load;
mod print;
mod settings;
#[cfg(test)]
mod tests;

use clap::Args;

#[cfg(all(any(test, fuzzing), feature = "admin"))]
pub(crate) use self::door::config_door;
pub(super) use self::flags::ServeFlags;
pub(super) use self::form::{Seed, time_with_unit};

pub use self::load::ConfigError;
pub(super) use self::load::Loaded;
use self::load::{Origin, Sources};
pub(super) use self::settings::{Config, Template};
use super::game::Game;
use super::options::{CliError, LogArguments};
use super::output::say;

#[derive(Debug, Args)]
pub(super) struct ConfigOptions {
    #[command(flatten)]
    flags: ServeFlags,
    /// Only say what is wrong with a file, all of it; the environment and flags count too.
    #[arg(long, value_name = "FILE")]
    check: Option<String>,
}

/// Reads a file. Its name stands in what is said of it.
fn read_file(name: &str) -> Result<(String, String), ConfigError> {
    let read = std::fs::read_to_string(name).map(|text| (name.to_owned(), text));
    read.map_err(|error| ConfigError { origin: Origin::Flag("--config".to_owned()), what: format!("{name}: {error}") })
}

/// Everything that a server's configuration comes from, kept so that it can be read again.
#[derive(Clone, Debug)]
pub(super) struct Telling {
    game: Game,
    flags: ServeFlags,
    log: LogArguments,
    check: bool,
}

impl Telling {
    pub(super) fn new(game: &Game, flags: &ServeFlags, log: &LogArguments, check: bool) -> Self {
        Self { game: game.clone(), flags: flags.clone(), log: log.clone(), check }
    }

    /// True if there is a file that can be read again.
    pub(super) fn has_file(&self) -> bool {
        self.flags.config.is_some()
    }

    /// Reads it, again if it was read before.
    ///
    /// # Errors
    /// All that is wrong.
    pub(super) fn load(&self) -> Result<Loaded, CliError> {
        let sources = self.flags.sources(&self.game, &self.log, self.check).map_err(CliError::Config)?;
        loaded(&sources)
    }
}

fn loaded(sources: &Sources) -> Result<Loaded, CliError> {
    let loaded = load::resolve(sources).map_err(CliError::Config)?;
    let wrong = agree::levels(&loaded);
    if wrong.is_empty() { Ok(loaded) } else { Err(CliError::Config(wrong)) }
}

/// The verb `config`.
pub(super) fn config(game: &Game, options: &ConfigOptions, log: &LogArguments) -> Result<(), CliError> {
    let mut flags = options.flags.clone();
    if options.check.is_some() {
        flags.config.clone_from(&options.check);
    }
    let loaded = Telling::new(game, &flags, log, false).load()?;
    match &options.check {
        Some(file) => say(&format!("{file} is in order")),
        None => say(print::print(&loaded).trim_end()),
    }
    Ok(())
}
