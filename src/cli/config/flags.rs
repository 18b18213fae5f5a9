//! The flags of `serve`, most of which `config` takes too.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use clap::{Args, ValueEnum};

use super::form::Given;
use super::load::{ConfigError, Flag, Sources};
use crate::cli::game::Game;
use crate::cli::options::{LinkArguments, LogArguments, Survives};

/// What a server is told on the command line. What it is not told stands in the file, or in the environment, or has a default.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct ServeFlags {
    /// A configuration file. Flags count more than the environment, and that more than the file.
    #[arg(long, env = "ROOMKEEPER_CONFIG", value_name = "FILE")]
    pub(super) config: Option<String>,
    /// Any key of the file, as limits.sessions_max=100 for instance.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Where to listen. Default: 127.0.0.1:5000.
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<SocketAddr>,
    /// The room's name. Default: main, or the file's rooms.
    #[arg(long)]
    room: Option<String>,
    /// The level file; the game's own if none is named.
    #[arg(long, value_name = "FILE")]
    level: Option<String>,
    /// The seed of the room's chance: the same seed and the same commands give the same match. Default: 1.
    #[arg(long)]
    seed: Option<u64>,
    /// Tell with each operation which fact caused it.
    #[arg(long)]
    notes: bool,
    #[command(flatten)]
    link: LinkArguments,
    /// Further rooms of the same kind, by name.
    #[arg(long, value_name = "NAME")]
    also: Vec<String>,
    /// A file with the key for connect tokens: 64 hexadecimal digits. It is made if it does not exist.
    #[arg(long, value_name = "FILE")]
    key: Option<String>,
    /// Let anybody in who reaches the address, without a token. Players can then pretend to be each other.
    #[arg(long, conflicts_with = "key")]
    allow_unauthenticated: bool,
    /// How many threads send, receive and encrypt, each for up to 256 clients; 0 for one if limits.sessions_max is 256 or less, else one for each 192 of it, at most 16.
    /// More than one needs Linux. Default: 0.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=16), value_name = "N")]
    gateway_threads: Option<u8>,
    /// Listen here for WebSocket too, for players whose network lets no UDP through. They look for it at the address and port of UDP, if nobody tells them
    /// otherwise.
    #[arg(long, value_name = "ADDRESS")]
    websocket: Option<SocketAddr>,
    /// Where it is looked into, and given orders, over HTTP: metrics, and a page for browsers. Other addresses than this machine's own want a key.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// A file with the key that its requests must name. It is made if it does not exist.
    #[arg(long, value_name = "FILE")]
    admin_key: Option<String>,
    /// Publish the facts of the rooms to this NATS server, for projections outside the process: nats://host:4222. Wants --data.
    #[arg(long, value_name = "URL")]
    nats: Option<String>,
    /// Print each fact as a line of the story.
    #[arg(long)]
    story: bool,
    /// Keep the rooms in this folder, and bring back those that are there.
    #[arg(long, value_name = "FOLDER")]
    data: Option<String>,
    /// What stored data survives. Default: power-loss.
    #[arg(long, value_enum)]
    survives: Option<Survives>,
    /// Seal rooms, and write their components, with every flush: SQL then sees the state as of the last 50 ms, at about twice the cost.
    #[arg(long)]
    seal_always: bool,
    /// How many kilobytes may wait for the disk. From half of it on commands are refused; when it is full the rooms stand still. Default: 65536.
    #[arg(long, value_name = "KB")]
    store_buffer: Option<u64>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is wanted, as limits.sessions_max=100")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

impl ServeFlags {
    /// All that this process's configuration is put together from.
    pub(super) fn sources(&self, game: &Game, log: &LogArguments, check: bool) -> Result<Sources, Vec<ConfigError>> {
        let file = self.config.as_deref().map(super::read_file).transpose().map_err(|wrong| vec![wrong])?;
        // A name or a value that is not UTF-8 is none of ours.
        let environment: BTreeMap<String, String> =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
        let (room, also) = (self.room.clone(), self.also.clone());
        Ok(Sources { file, environment, flags: self.given(log, check), room, also, level: game.level.clone() })
    }

    fn given(&self, log: &LogArguments, check: bool) -> Vec<Flag> {
        let on = |flag: bool| flag.then_some(Given::Switch(true));
        let format = log.log_format.and_then(|format| format.to_possible_value()).map(|value| Given::plain(value.get_name()));
        let survives = self.survives.and_then(|survives| survives.to_possible_value()).map(|value| Given::plain(value.get_name()));
        let conditions = self.link.link.map(|link| if link.is_perfect() { Given::plain("") } else { Given::plain(link) });
        let rows = [
            ("listen.bind", "--bind", self.bind.map(Given::plain)),
            ("listen.gateway_threads", "--gateway-threads", self.gateway_threads.map(Given::plain)),
            ("listen.websocket", "--websocket", self.websocket.map(Given::plain)),
            ("listen.key", "--key", self.key.as_ref().map(Given::plain)),
            ("listen.allow_unauthenticated", "--allow-unauthenticated", on(self.allow_unauthenticated)),
            ("admin.bind", "--admin", self.admin.map(Given::plain)),
            ("admin.key", "--admin-key", self.admin_key.as_ref().map(Given::plain)),
            ("nats.url", "--nats", self.nats.as_ref().map(Given::plain)),
            ("store.data", "--data", self.data.as_ref().map(Given::plain)),
            ("store.survives", "--survives", survives),
            ("store.seal_always", "--seal-always", on(self.seal_always)),
            ("store.buffer", "--store-buffer", self.store_buffer.map(|kilobytes| Given::Number(i128::from(kilobytes) * 1_024))),
            ("link.seed", "--link-seed", conditions.is_some().then(|| Given::plain(self.link.link_seed))),
            ("link.conditions", "--link", conditions),
            ("log.filter", "--log", log.log.as_ref().map(Given::plain)),
            ("log.format", "--log-format", format),
            ("log.story", "--story", on(self.story)),
            ("templates.*.level", "--level", self.level.as_ref().map(Given::plain)),
            ("templates.*.seed", "--seed", self.seed.map(Given::plain)),
            ("templates.*.notes", "--notes", on(self.notes)),
            ("templates.*.check", "--check", on(check)),
        ];
        let set = self.set.iter().map(|(key, value)| Flag { path: key.clone(), flag: format!("--set {key}"), given: Given::plain(value) });
        let named =
            rows.into_iter().filter_map(|(path, flag, given)| Some(Flag { path: path.to_owned(), flag: flag.to_owned(), given: given? }));
        set.chain(named).collect()
    }
}
