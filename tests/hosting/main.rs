//! A host as an operator runs it: the real server, its admin server, its terminal.

mod admin;
mod agones;
mod beats;
#[path = "../binary/mod.rs"]
mod binary;
mod capacity;
mod deleting;
mod host;
#[cfg(unix)]
#[path = "../installed/mod.rs"]
mod installed;
mod listing;
mod newcomers;
#[cfg(unix)]
mod play;
mod serve;
mod sharing;
#[cfg(unix)]
mod terminal;
mod websocket;
mod wire;
