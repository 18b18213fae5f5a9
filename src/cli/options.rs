//! What can be said on the command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
#[cfg(feature = "websocket")]
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Args, Parser, Subcommand, ValueEnum};
use thiserror::Error;

use super::capacity::{CapacityOptions, ClientsOptions};
use super::config::{ConfigError, ConfigOptions, ServeFlags};
use super::game::Game;
use super::ledger::{LedgerOptions, SnippetOptions};
use super::rooms::RoomsOptions;
use super::simulate::SimulateOptions;
use super::soak::{BotsOptions, SoakOptions};
use super::swarm::SwarmOptions;
#[cfg(feature = "terminal")]
use super::view::PlayOptions;
use crate::client::{Credentials, LinkError, UdpLink, UdpTransport, unix_time};
use crate::host::{KeepError, LogError, LogFormat, ServerError, TokenError, ViewError};
use crate::net::{Dial, UdpDial};
#[cfg(feature = "websocket")]
use crate::net::{FallbackDial, WebSocketDial};
use crate::protocol::LinkConditions;
use crate::room::{Level, LevelError, RoomOptions};
use crate::store::StoreError;

/// After so long without an answer by UDP a host is tried by WebSocket as well. A way that loses half of what is sent answers sooner.
#[cfg(feature = "websocket")]
const FALLS_BACK_AFTER: Duration = Duration::from_secs(2);

/// Why a verb failed, in a sentence for the person who ran it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CliError {
    /// The server can't start.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// What is stored can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A room can't be kept, or brought back.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// It can't be told what somebody had been told.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The level can't be read.
    #[error(transparent)]
    Level(#[from] LevelError),
    /// There is no way to the server.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A promise was not kept in a simulation.
    #[error("{0}")]
    Simulation(#[from] crate::sim::Failure),
    /// A token can't be made.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The client was refused, or lost the server.
    #[error("{0}")]
    Connection(String),
    /// The game has no bot.
    #[error("this game has no bots; its `main` gives one by `Game::bot`")]
    NoBot,
    /// The game can't be drawn.
    #[error("this game can't be drawn; its `main` says how by `Game::view`")]
    NoView,
    /// There is no terminal to draw in.
    #[error(
        "`{0}` needs a terminal: its standard input and output must both be one. Without: `watch --format story` tells a match, `bot` plays, `ledger at` prints a moment"
    )]
    NoTerminal(&'static str),
    /// The configuration is wrong: each line says where, and what is wanted.
    #[error("{}", Lines(.0))]
    Config(Vec<ConfigError>),
    /// What is to be logged can't be told.
    #[error(transparent)]
    Log(#[from] LogError),
    /// An argument is none.
    #[error("{what}: {detail}")]
    Argument {
        /// Which one.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The system refuses.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// A run differs from what was recorded.
    #[error("the run differs in tick {tick}: {what}")]
    Differs {
        /// The first tick that differs.
        tick: u32,
        /// What differs.
        what: String,
    },
    /// What is stored is not what was written.
    #[error("{0} things are wrong with what is stored")]
    Damaged(usize),
    /// The store failed until the end.
    #[error("what happened last could not be stored: {0}")]
    Lost(String),
    /// The match did not end in time.
    #[error("the match had not ended after {0} s (`--limit`); which facts end one the game's `main` says by `Game::ends_with`")]
    TimeUp(u64),
    /// In a soak, things did not stay as they should.
    #[error("did not stay as it should: {}", .0.join(", "))]
    Unsteady(Vec<&'static str>),
    /// Replicas don't equal the room.
    #[error("{differ} of {of} replicas differ from the room")]
    Differ {
        /// How many differ.
        differ: usize,
        /// How many there are.
        of: usize,
    },
}

/// Things that are wrong, a line each.
struct Lines<'a>(&'a [ConfigError]);

impl std::fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            [one] => write!(f, "{one}"),
            all => {
                write!(f, "{} things are wrong with the configuration", all.len())?;
                all.iter().try_for_each(|one| write!(f, "\n{one}"))
            }
        }
    }
}

#[derive(Debug, Parser)]
#[command(version, about = "A multiplayer game on roomkeeper.", propagate_version = true)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) log: LogArguments,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

/// What is logged.
#[derive(Clone, Debug, Args)]
pub(super) struct LogArguments {
    /// What to log, as module=level pairs; or ROOMKEEPER_LOG_FILTER, or ROOMKEEPER_LOG, which counts less. The log goes to stderr. Default: warn.
    #[arg(long, global = true, value_name = "FILTER")]
    pub(super) log: Option<String>,
    /// How lines of the log look; or ROOMKEEPER_LOG_FORMAT. Default: text.
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    pub(super) log_format: Option<LogFormat>,
}

impl LogArguments {
    /// What a verb without a configuration logs.
    pub(super) fn settings(&self) -> (String, LogFormat) {
        let variable = |name| std::env::var(name).ok();
        let filter = self.log.clone().or_else(|| variable("ROOMKEEPER_LOG_FILTER")).or_else(|| variable("ROOMKEEPER_LOG"));
        let format = self.log_format.or_else(|| LogFormat::from_str(&variable("ROOMKEEPER_LOG_FORMAT")?, false).ok());
        (filter.unwrap_or_else(|| "warn".to_owned()), format.unwrap_or_default())
    }
}

impl ValueEnum for LogFormat {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Text, Self::Json]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Text => PossibleValue::new("text").help("For people"),
            Self::Json => PossibleValue::new("json").help("A JSON object a line, for machines"),
        })
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Play in the terminal: on a server of your own, or on another.
    #[cfg(feature = "terminal")]
    Play(PlayOptions),
    /// Run a dedicated server until it is stopped.
    Serve(ServeOptions),
    /// Print what a server would be told by file, environment and flags, and where each value comes from; or check a file.
    Config(ConfigOptions),
    /// Play a match: a server and bots in one process, over real UDP, telling the story as it happens.
    Demo(DemoOptions),
    /// Find how many members and rooms this machine holds: a growing load of clients over real UDP, and a plot of it.
    Capacity(CapacityOptions),
    /// Be the clients of `capacity`, until the standard input ends.
    #[command(hide = true)]
    CapacityClients(ClientsOptions),
    /// List the rooms that a server tells of, and how full they are.
    Rooms(RoomsOptions),
    /// Join a room as a spectator and print what happens, or look at it.
    Watch(WatchOptions),
    /// Print the state of a room once, as JSON.
    Dump(DumpOptions),
    /// Join a room as bots that play.
    Bot(BotOptions),
    /// Let hundreds of bots play by the rules, come and go, each a real client; and say what players would feel.
    Swarm(SwarmOptions),
    /// Let bots come and go in hundreds of rooms for hours, and judge whether what the server takes stays as it was: memory, handles, lateness; and a
    /// plot of it.
    Soak(SoakOptions),
    /// Be the bots of `soak`, until the standard input ends.
    #[command(hide = true)]
    SoakBots(BotsOptions),
    /// Simulate clusters of hosts and players, as fast as it goes, with crashes, stalls, bad links and hostile players; and check what must hold.
    Simulate(SimulateOptions),
    /// List the handlers: what decides each command, what applies each fact, and what that does to components.
    Handlers(HandlersOptions),
    /// Look at what is stored: facts, any moment of any room, why it is as it is.
    Ledger(LedgerOptions),
    /// Save states of a room under names, and reset it to them.
    Snippet(SnippetOptions),
    /// Make a connect token for a player, with the server's key.
    Token(TokenOptions),
}

/// What a room is made from.
#[derive(Clone, Debug, Args)]
pub(super) struct RoomArguments {
    /// The room's name.
    #[arg(long, default_value = "main")]
    pub(super) room: String,
    /// The level file; the game's own if none is named.
    #[arg(long, value_name = "FILE")]
    pub(super) level: Option<PathBuf>,
    /// The seed of the room's chance: the same seed and the same commands give the same match.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Tell with each operation which fact caused it.
    #[arg(long)]
    pub(super) notes: bool,
    /// Put a hash of the state on each batch, so that a replica that differs notices.
    #[arg(long)]
    pub(super) check: bool,
}

impl RoomArguments {
    pub(super) fn room_options(&self, game: &Game) -> Result<RoomOptions, CliError> {
        let path = self.level.as_ref().or(game.level.as_ref());
        let level = path.map(Level::open).transpose()?;
        Ok(RoomOptions { seed: self.seed, level, notes: self.notes, check: self.check, ..RoomOptions::named(&self.room) })
    }
}

/// A simulated link before the socket.
#[derive(Clone, Debug, Args)]
pub(super) struct LinkArguments {
    /// Simulate a bad link, in both directions. Any of these, with commas between:
    /// loss=5%, burst=4, rtt=120ms, jitter=30ms, dup=1%, reorder=2%, rate=256kbit, mtu=1280; or lan, cable, wifi, mobile, train or overseas, and what
    /// differs from it.
    #[arg(long, value_name = "CONDITIONS")]
    pub(super) link: Option<LinkConditions>,
    /// The seed of the simulated link's chance.
    #[arg(long, default_value_t = 1, requires = "link", value_name = "SEED")]
    pub(super) link_seed: u64,
}

/// What carries datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Carrier {
    /// UDP; and WebSocket, where nothing comes by that for two seconds.
    #[cfg(feature = "websocket")]
    #[default]
    Auto,
    /// UDP.
    #[cfg_attr(not(feature = "websocket"), default)]
    Udp,
    /// WebSocket, at the same address and port. The server must listen for it: `serve --websocket`.
    #[cfg(feature = "websocket")]
    Websocket,
}

impl Carrier {
    pub(super) fn dial(self) -> Arc<dyn Dial> {
        match self {
            #[cfg(feature = "websocket")]
            Self::Auto => Arc::new(FallbackDial::new(UdpDial, WebSocketDial::default(), FALLS_BACK_AFTER)),
            Self::Udp => Arc::new(UdpDial),
            #[cfg(feature = "websocket")]
            Self::Websocket => Arc::new(WebSocketDial::default()),
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct ServeOptions {
    #[command(flatten)]
    pub(super) flags: ServeFlags,
    /// Put a hash of the state on each batch, so that a replica that differs notices.
    #[arg(long)]
    pub(super) check: bool,
}

/// What stored data survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Survives {
    /// The end of the process.
    ProcessCrash,
    /// The loss of power.
    PowerLoss,
}

#[derive(Debug, Args)]
pub(super) struct DemoOptions {
    #[command(flatten)]
    pub(super) room: RoomArguments,
    #[command(flatten)]
    pub(super) link: LinkArguments,
    /// How many bots play.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(super) bots: u32,
    /// Give up after so many seconds.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub(super) limit: u64,
    /// Print facts as JSON lines instead of sentences.
    #[arg(long)]
    pub(super) json: bool,
    /// Keep the match in this folder, to be looked at by `ledger`.
    #[arg(long, value_name = "FOLDER")]
    pub(super) data: Option<PathBuf>,
}

/// How a client finds its way in.
#[derive(Clone, Debug, Args)]
pub(super) struct ClientArguments {
    /// The server; with commas between, several that share their rooms: if one is gone the next is tried.
    #[arg(long, default_value = "127.0.0.1:5000", value_name = "ADDRESS,..")]
    pub(super) server: String,
    /// The room.
    #[arg(long, default_value = "main")]
    pub(super) room: String,
    /// A file with a connect token, made by `token`.
    #[arg(long, value_name = "FILE")]
    pub(super) token: Option<PathBuf>,
    /// By what it gets there.
    #[arg(long, value_enum, default_value_t = Carrier::default())]
    pub(super) transport: Carrier,
    #[command(flatten)]
    pub(super) link: LinkArguments,
}

impl ClientArguments {
    pub(super) fn credentials(&self, name: &str) -> Result<Credentials, CliError> {
        if let Some(path) = &self.token {
            let what = format!("the token file {}", path.display());
            return std::fs::read(path).map(Credentials::Token).map_err(|error| CliError::Io { what, error });
        }
        Ok(Credentials::unauthenticated(self.servers()?.0, name))
    }

    /// The server, and the others that may have its rooms.
    fn servers(&self) -> Result<(SocketAddr, Vec<SocketAddr>), CliError> {
        let resolve = |server: &str| {
            let bad = |detail: String| CliError::Argument { what: format!("the server {server:?}"), detail };
            let mut addresses = server.trim().to_socket_addrs().map_err(|error| bad(error.to_string()))?;
            addresses.next().ok_or_else(|| bad("no such address".to_owned()))
        };
        let mut servers = self.server.split(',').map(resolve);
        // `split` gives something even of nothing.
        let first = servers.next().unwrap_or_else(|| resolve(&self.server))?;
        Ok((first, servers.collect::<Result<_, _>>()?))
    }

    /// The same for each server that is named, alone. A token has its own addresses.
    pub(super) fn one_by_one(&self) -> Vec<Self> {
        let servers = if self.token.is_some() { vec![self.server.as_str()] } else { self.server.split(',').collect() };
        servers.into_iter().map(|server| Self { server: server.to_owned(), ..self.clone() }).collect()
    }

    /// The bare way to the server, with the simulated link before it that is asked for.
    pub(super) fn link(&self, name: &str) -> Result<UdpLink, CliError> {
        let mut link = UdpLink::connect_by(self.transport.dial(), &self.credentials(name)?, unix_time())?;
        if let Some(conditions) = self.link.link {
            link.set_link(conditions, self.link.link_seed);
        }
        Ok(link)
    }

    /// The way to a room, with the simulated link before it that is asked for, whose chance has this seed.
    pub(super) fn transport(&self, name: &str, room: &str, spectate: bool, link_seed: u64) -> Result<UdpTransport, CliError> {
        let mut transport = UdpTransport::connect_by(self.transport.dial(), &self.credentials(name)?, room, spectate)?;
        if self.token.is_none() {
            transport.also_at(self.servers()?.1);
        }
        if let Some(conditions) = self.link.link {
            transport.set_link(conditions, link_seed);
        }
        Ok(transport)
    }
}

/// How a watcher prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum WatchFormat {
    /// A sentence for each fact.
    Story,
    /// A line of JSON for each fact and each operation, as entity envelopes.
    Json,
    /// A line of JSON for each fact and each operation, by key paths.
    KeyPath,
}

#[derive(Debug, Args)]
pub(super) struct WatchOptions {
    #[command(flatten)]
    pub(super) client: ClientArguments,
    /// How to print.
    #[arg(long, value_enum, default_value_t = WatchFormat::Json)]
    pub(super) format: WatchFormat,
    /// The server: another way to say `--server`.
    #[arg(value_name = "ADDRESS", conflicts_with = "server")]
    pub(super) address: Option<String>,
    /// Look at it in the terminal instead.
    #[cfg(feature = "terminal")]
    #[arg(long, conflicts_with = "format")]
    pub(super) view: bool,
}

impl WatchOptions {
    /// How to get to the room.
    pub(super) fn client(&self) -> ClientArguments {
        let server = self.address.clone().unwrap_or_else(|| self.client.server.clone());
        ClientArguments { server, ..self.client.clone() }
    }
}

/// How a state is arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DumpBy {
    /// Each entity with its components.
    Entity,
    /// Each component with its entities.
    Component,
    /// The entities of each kind: of those components that the game calls kinds.
    Kind,
}

#[derive(Debug, Args)]
pub(super) struct DumpOptions {
    #[command(flatten)]
    pub(super) client: ClientArguments,
    /// How to arrange it.
    #[arg(long, value_enum, default_value_t = DumpBy::Entity)]
    pub(super) by: DumpBy,
}

#[derive(Debug, Args)]
pub(super) struct BotOptions {
    #[command(flatten)]
    pub(super) client: ClientArguments,
    /// How many.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(super) bots: u32,
    /// The name of the first; the others get a number.
    #[arg(long, default_value = "bot")]
    pub(super) name: String,
    /// Leave after so many seconds; 0 for never.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    pub(super) limit: u64,
}

#[derive(Debug, Args)]
pub(super) struct HandlersOptions {
    #[command(flatten)]
    pub(super) room: RoomArguments,
    /// How many bots play the match from which operations and times are read.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) bots: u32,
    /// How long the match goes on at most, in seconds of the room's time.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(0..=3_600), value_name = "SECONDS")]
    pub(super) limit: u32,
}

#[derive(Debug, Args)]
pub(super) struct TokenOptions {
    /// The file with the server's key, which `serve` makes.
    #[arg(long, value_name = "FILE")]
    pub(super) key: PathBuf,
    /// The address at which the player reaches the server.
    #[arg(long, value_name = "ADDRESS")]
    pub(super) server: SocketAddr,
    /// The player's name. The same name is the same player.
    #[arg(long)]
    pub(super) player: String,
    /// The only room that the token is good for; any if none is named.
    #[arg(long)]
    pub(super) room: Option<String>,
    /// For how long it lets in.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub(super) expires: u64,
    /// Where to write it, for its owner's eyes alone; it is secret, and good for one connection.
    #[arg(long, value_name = "FILE")]
    pub(super) out: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_read_and_a_bad_one_is_named() {
        let cli = Cli::try_parse_from(["inferno", "demo", "--link", "loss=5%,rtt=120ms", "--link-seed", "9"]).unwrap();
        let Verb::Demo(options) = cli.verb else { panic!("another verb") };
        assert_eq!(options.link.link.map(|link| link.to_string()).as_deref(), Some("loss=5%,rtt=120ms"));
        assert_eq!(options.link.link_seed, 9);
        for verb in ["serve", "demo", "watch", "dump", "bot"] {
            let error = Cli::try_parse_from(["inferno", verb, "--link", "loss=5"]).unwrap_err().to_string();
            assert!(error.contains("loss=5: a number with % is wanted, at most 100"), "{error}");
            let error = Cli::try_parse_from(["inferno", verb, "--link", "speed=3"]).unwrap_err().to_string();
            assert!(error.contains("\"speed=3\" is none of loss=5%, burst=4, rtt=120ms"), "{error}");
            assert!(Cli::try_parse_from(["inferno", verb, "--link-seed", "9"]).is_err());
        }
    }
}
