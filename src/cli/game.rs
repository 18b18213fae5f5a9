//! A game, as its binary runs it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use bevy_app::App;
use bevy_ecs::prelude::*;
use clap::{CommandFactory, FromArgMatches};
use serde_json::Value;

use super::aside::Aside;
use super::options::{Cli, CliError, Verb};
use super::processor::require_processor;
#[cfg(feature = "terminal")]
use super::view;
use super::{capacity, config, demo, handlers, ledger, output, rooms, serve, simulate, soak, swarm, token, watch};
use crate::client::picture::View;
use crate::client::{ReplicaPlugin, UdpPlugin};
use crate::host::{LogFormat, Logs};
use crate::predict::PredictPlugin;
use crate::protocol::Protocol;
use crate::room::Blueprint;

/// What a bot does each tick in the client's world that it plays in.
pub type BotBrain = Box<dyn FnMut(&mut World)>;

/// Tells a fact as a sentence: its wire name, what it says as JSON, and who stands behind an id. `None` for a fact that is
/// not worth a sentence.
pub type Narrator = fn(&str, &Value, &dyn Fn(&str) -> String) -> Option<String>;

type MakeBot = Arc<dyn Fn(u64) -> BotBrain + Send + Sync>;

/// A game, with the command line that its binary gets.
///
/// ```no_run
/// // Not run: it would serve until it is stopped.
/// use bevy_app::prelude::*;
/// use roomkeeper::cli::Game;
///
/// fn protocol(app: &mut App) {}
/// fn rules(app: &mut App) {}
///
/// fn main() -> std::process::ExitCode {
///     Game::new("shooter", protocol, rules).level("assets/levels/one.json").run()
/// }
/// ```
#[derive(Clone)]
pub struct Game {
    pub(super) name: &'static str,
    pub(super) blueprint: Blueprint,
    pub(super) level: Option<PathBuf>,
    pub(super) bot: Option<MakeBot>,
    pub(super) narrator: Option<Narrator>,
    pub(super) view: Option<View>,
    pub(super) ends: Vec<String>,
    pub(super) kinds: Vec<String>,
}

impl std::fmt::Debug for Game {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Game").field("name", &self.name).field("level", &self.level).finish_non_exhaustive()
    }
}

impl Game {
    /// A game by its name, the protocol that both sides add, and the rules that the server adds.
    pub fn new(
        name: &'static str,
        protocol: impl Fn(&mut App) + Send + Sync + 'static,
        rules: impl Fn(&mut App) + Send + Sync + 'static,
    ) -> Self {
        require_processor();
        let blueprint = Blueprint::new(protocol, rules);
        Self { name, blueprint, level: None, bot: None, narrator: None, view: None, ends: Vec::new(), kinds: Vec::new() }
    }

    /// The level that rooms start with unless `--level`, or a template of the configuration, names another. A relative path is taken from the working
    /// directory, so a server that is run elsewhere wants one in its configuration.
    #[must_use]
    pub fn level(mut self, path: impl Into<PathBuf>) -> Self {
        self.level = Some(path.into());
        self
    }

    /// Makes a bot that plays the game, from a seed. `demo`, `bot`, `soak`, `play --bots`, and `swarm` without `--from` need it; `capacity`,
    /// `simulate` and `handlers` use it.
    #[must_use]
    pub fn bot(mut self, make: impl Fn(u64) -> BotBrain + Send + Sync + 'static) -> Self {
        self.bot = Some(Arc::new(make));
        self
    }

    /// Tells the game's facts as a story.
    #[must_use]
    pub fn narrator(mut self, narrator: Narrator) -> Self {
        self.narrator = Some(narrator);
        self
    }

    /// Shows the game in a terminal, and lets somebody play it there: `play`, `watch --view` and `ledger view` need it.
    #[must_use]
    pub fn view(mut self, view: View) -> Self {
        self.view = Some(view);
        self
    }

    /// The facts that end a match, by their wire names. `demo` and `handlers` stop after one, `soak` closes the room and opens another. Without any a `demo`
    /// goes on until its `--limit`, and has failed then.
    #[must_use]
    pub fn ends_with(mut self, facts: &[&str]) -> Self {
        self.ends = facts.iter().map(|fact| (*fact).to_owned()).collect();
        self
    }

    /// The components that say what sort of thing an entity is, by their wire names; the first that an entity has counts.
    /// `dump --by kind` arranges a state by them.
    #[must_use]
    pub fn kinds(mut self, components: &[&str]) -> Self {
        self.kinds = components.iter().map(|component| (*component).to_owned()).collect();
        self
    }

    /// What an [admin server](crate::admin::Admin) knows of this game.
    #[cfg(feature = "admin")]
    pub fn admin(&self) -> crate::admin::AdminGame {
        let mut game = crate::admin::AdminGame::new(self.name, self.blueprint.clone());
        (game.teller, game.view) = (self.narrator, self.view);
        (game.kinds, game.ends) = (self.kinds.clone(), self.ends.clone());
        game
    }

    /// Runs the command line that the process was given.
    pub fn run(&self) -> ExitCode {
        self.run_with(std::env::args_os())
    }

    /// Runs a command line.
    pub fn run_with(&self, arguments: impl IntoIterator<Item = impl Into<std::ffi::OsString> + Clone>) -> ExitCode {
        super::memory::keep_huge_pages_whole();
        let command = Cli::command().name(self.name).bin_name(self.name);
        let parsed = command.try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
        let cli = match parsed {
            Ok(cli) => cli,
            Err(error) => {
                // Help and version come this way too; clap knows where each goes.
                let _ = error.print();
                return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
            }
        };
        // A server has done what it is for also where nobody could be told of it.
        let is_server = matches!(cli.verb, Verb::Serve(_));
        let said = || if is_server { Ok(()) } else { output::unsaid() };
        match self.verb(&cli).and_then(|()| said()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                print_error(&error);
                match error {
                    // Whoever has no terminal has said something that can't be, as one who named an unknown verb.
                    CliError::NoTerminal(_) => ExitCode::from(2),
                    // What was run came out otherwise: a script can tell that from what could not be run.
                    CliError::Differs { .. } => ExitCode::from(3),
                    _ => ExitCode::FAILURE,
                }
            }
        }
    }

    fn verb(&self, cli: &Cli) -> Result<(), CliError> {
        let (filter, format) = cli.log.settings();
        match &cli.verb {
            // Its file has a say.
            Verb::Serve(_) | Verb::Config(_) => {}
            // It goes until the host falls behind, and tells of it in its own words.
            Verb::Capacity(_) => drop(start_log(&format!("roomkeeper::host::complaints=error,{filter}"), format)?),
            _ => drop(start_log(&filter, format)?),
        }
        match &cli.verb {
            #[cfg(feature = "terminal")]
            Verb::Play(options) => view::play(self, options),
            Verb::Serve(options) => serve::serve(self, options, &cli.log),
            Verb::Config(options) => config::config(self, options, &cli.log),
            Verb::Demo(options) => demo::demo(self, options),
            Verb::Capacity(options) => capacity::capacity(self, options),
            Verb::CapacityClients(options) => capacity::clients(self, options),
            Verb::Rooms(options) => rooms::rooms(self, options),
            #[cfg(feature = "terminal")]
            Verb::Watch(options) if options.view => view::watch(self, options),
            Verb::Watch(options) => watch::watch(self, options),
            Verb::Dump(options) => watch::dump(self, options),
            Verb::Bot(options) => demo::bot(self, options),
            Verb::Swarm(options) => swarm::swarm(self, options),
            Verb::Soak(options) => soak::soak(self, options),
            Verb::SoakBots(options) => soak::bots(self, options),
            Verb::Simulate(options) => simulate::simulate(self, options),
            Verb::Handlers(options) => handlers::handlers(self, options),
            Verb::Ledger(options) => ledger::ledger(self, options),
            Verb::Snippet(options) => ledger::snippet(self, options),
            Verb::Token(options) => token::token(options),
        }
    }

    /// A client's app with this game's protocol, a replica, and UDP.
    pub(super) fn client_app(&self) -> App {
        self.app_with(|_| {})
    }

    /// The same for somebody at a screen: with what the game shows smoothly, and for one who plays with the prediction.
    pub(super) fn player_app(&self, plays: bool) -> App {
        self.app_with(|app| {
            self.view.iter().for_each(|view| (view.client)(app));
            if plays {
                app.add_plugins(PredictPlugin::of(self.blueprint.clone()));
            }
        })
    }

    fn app_with(&self, add: impl FnOnce(&mut App)) -> App {
        let mut app = App::new();
        app.add_plugins((ReplicaPlugin, UdpPlugin));
        self.blueprint.add_protocol(&mut app);
        add(&mut app);
        app.finish();
        app.cleanup();
        app
    }

    /// A bot, if the game has any.
    pub(super) fn brain(&self, seed: u64) -> Result<BotBrain, CliError> {
        Ok(self.bot.as_ref().ok_or(CliError::NoBot)?(seed))
    }

    /// This game's protocol by itself.
    pub(super) fn protocol(&self) -> Protocol {
        self.client_app().world_mut().remove_resource::<Protocol>().unwrap_or_default()
    }

    /// A fact as a line of the story. A game without a narrator gets the bare fact.
    pub(super) fn tell(&self, fact: &str, json: &Value, who: &dyn Fn(&str) -> String) -> Option<String> {
        if let Some(narrator) = self.narrator {
            return narrator(fact, json, who);
        }
        Some(format!("{fact} {json}"))
    }
}

#[expect(clippy::print_stderr, reason = "the binary's word to the person who ran it")]
fn print_error(error: &CliError) {
    eprintln!("error: {error}");
}

/// Structured logs on stderr, beside the screen if there is one.
pub(super) fn start_log(filter: &str, format: LogFormat) -> Result<Logs, CliError> {
    Ok(Logs::start(filter, format, Aside::has_colours(), || Aside)?)
}
