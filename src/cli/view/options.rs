//! What can be said to `play`.

use std::path::PathBuf;

use clap::Args;

use super::super::options::{Carrier, ClientArguments, LinkArguments, RoomArguments};

#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct PlayOptions {
    /// The server to join. If none is named, one is started in this process, for as long as you play; it can be reached from this machine only.
    #[arg(value_name = "ADDRESS")]
    pub(super) address: Option<String>,
    /// Your name; who you are on this machine, if you don't say. The same name is the same player.
    #[arg(long, env = "USER", hide_env_values = true, default_value = "you")]
    pub(super) name: String,
    #[command(flatten)]
    pub(super) room: RoomArguments,
    #[command(flatten)]
    pub(super) link: LinkArguments,
    /// By what a server is reached.
    #[arg(long, value_enum, default_value_t = Carrier::default(), requires = "address")]
    pub(super) transport: Carrier,
    /// A file with a connect token, made by `token`; it says who you are.
    #[arg(long, value_name = "FILE", requires = "address")]
    pub(super) token: Option<PathBuf>,
    /// How many bots play with you, on a server of your own.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=30), conflicts_with = "address")]
    pub(super) bots: u32,
    /// Keep the matches of a server of your own in this folder, to be looked at by `ledger view`.
    #[arg(long, value_name = "FOLDER", conflicts_with = "address")]
    pub(super) data: Option<PathBuf>,
}

impl PlayOptions {
    /// How to get to a room on a server.
    pub(super) fn client(&self, server: String, room: String) -> ClientArguments {
        ClientArguments { server, room, token: self.token.clone(), transport: self.transport, link: self.link.clone() }
    }
}
