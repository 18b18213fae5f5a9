//! What a server can be told, as plain data with its defaults.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::form::Seed;
use crate::cli::options::Survives;
use crate::host::gateway::GatewayLimits;
use crate::host::{HostLimits, LogFormat};
use crate::store::{PREFIX, STREAM, WriterOptions};

/// The template of rooms that name none, and of those that flags open. There always is one.
pub(crate) const DEFAULT: &str = "default";

/// What a server is told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    pub(crate) listen: Listen,
    pub(crate) limits: HostLimits,
    pub(crate) gateway: GatewayLimits,
    pub(crate) hosting: Hosting,
    pub(crate) store: Keeping,
    pub(crate) share: Sharing,
    pub(crate) admin: Administration,
    pub(crate) agones: InFleet,
    pub(crate) nats: Publishing,
    pub(crate) link: SimulatedLink,
    pub(crate) log: Logging,
    pub(crate) stop: Stopping,
    pub(crate) templates: BTreeMap<String, Template>,
    pub(crate) rooms: Vec<Room>,
}

/// Where it listens, and who may connect.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listen {
    pub(crate) bind: SocketAddr,
    pub(crate) public_addresses: Vec<SocketAddr>,
    pub(crate) gateway_threads: u8,
    pub(crate) websocket: Option<SocketAddr>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) allow_unauthenticated: bool,
}

/// How it goes about its rooms.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hosting {
    pub(crate) room_threads: u16,
    pub(crate) rest_after: Option<Duration>,
    pub(crate) bans: Option<PathBuf>,
}

/// Whether it shares its rooms with other servers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sharing {
    pub(crate) host: Option<String>,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) lease: Duration,
}

/// Whether it is a game server of an Agones fleet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InFleet {
    pub(crate) port: Option<u16>,
    pub(crate) ready_again_after: Option<Duration>,
}

/// Where it is looked into, and given orders, over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Administration {
    pub(crate) bind: Option<SocketAddr>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) token_key: Option<PathBuf>,
}

/// Where the facts of kept rooms are published.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Publishing {
    pub(crate) url: Option<String>,
    pub(crate) stream: String,
    pub(crate) prefix: String,
    pub(crate) credentials: Option<PathBuf>,
}

/// Where rooms are kept, and how.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Keeping {
    pub(crate) data: Option<PathBuf>,
    pub(crate) survives: Survives,
    pub(crate) seal_always: bool,
    pub(crate) writer: WriterOptions,
}

/// A simulated link before each client.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SimulatedLink {
    pub(crate) conditions: Option<String>,
    pub(crate) seed: u64,
}

/// What is told, and how.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Logging {
    pub(crate) filter: String,
    pub(crate) format: LogFormat,
    pub(crate) story: bool,
}

/// How it stops.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stopping {
    pub(crate) announce: Duration,
    pub(crate) within: Duration,
}

/// What rooms of a kind are made from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    pub(crate) level: Option<PathBuf>,
    pub(crate) seed: Seed,
    pub(crate) capacity: Option<usize>,
    pub(crate) notes: bool,
    pub(crate) check: bool,
    pub(crate) deny_ambiguity: bool,
    pub(crate) on_demand: bool,
    pub(crate) listed: bool,
    pub(crate) delete_after: Option<Duration>,
}

/// A room that is opened at the start.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Room {
    pub(crate) name: String,
    pub(crate) template: String,
}

impl Template {
    /// A template that says nothing: the game's own level.
    pub(super) fn new(level: Option<PathBuf>) -> Self {
        Self {
            level,
            seed: Seed::Fixed(1),
            capacity: None,
            notes: false,
            check: false,
            deny_ambiguity: false,
            on_demand: false,
            listed: false,
            delete_after: None,
        }
    }
}

impl Room {
    pub(super) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), template: DEFAULT.to_owned() }
    }
}

impl Config {
    /// What a server does that is told nothing: one room on the loopback address, not kept.
    pub(super) fn new(level: Option<PathBuf>) -> Self {
        Self {
            listen: Listen {
                bind: SocketAddr::from(([127, 0, 0, 1], 5_000)),
                public_addresses: Vec::new(),
                gateway_threads: 0,
                websocket: None,
                key: None,
                allow_unauthenticated: false,
            },
            limits: HostLimits::default(),
            gateway: GatewayLimits::default(),
            hosting: Hosting { room_threads: 0, rest_after: None, bans: None },
            admin: Administration { bind: None, key: None, token_key: None },
            nats: Publishing { url: None, stream: STREAM.to_owned(), prefix: PREFIX.to_owned(), credentials: None },
            share: Sharing { host: None, address: None, lease: Duration::from_secs(10) },
            store: Keeping { data: None, survives: Survives::PowerLoss, seal_always: false, writer: WriterOptions::default() },
            agones: InFleet { port: None, ready_again_after: None },
            link: SimulatedLink { conditions: None, seed: 1 },
            log: Logging { filter: "warn".to_owned(), format: LogFormat::Text, story: false },
            stop: Stopping { announce: Duration::ZERO, within: Duration::from_secs(10) },
            templates: BTreeMap::from([(DEFAULT.to_owned(), Template::new(level))]),
            rooms: vec![Room::named("main")],
        }
    }
}
