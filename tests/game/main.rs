//! The demo game, as it is played: its rules event by event, its geometry and its picture, matches over UDP, and servers that are killed.

#[path = "../../src/bin/inferno/bot/mod.rs"]
mod bot;
#[path = "../../src/bin/inferno/commands.rs"]
mod commands;
#[path = "../../src/bin/inferno/components.rs"]
mod components;
#[path = "../../src/bin/inferno/facts.rs"]
mod facts;
#[path = "../links/foreseen.rs"]
mod foreseen;
#[path = "../../src/bin/inferno/map/mod.rs"]
mod map;
#[path = "../sockets/over_udp.rs"]
mod over_udp;
#[path = "../../src/bin/inferno/protocol.rs"]
mod protocol;
#[path = "../../src/bin/inferno/rules/mod.rs"]
mod rules;
#[path = "../../src/bin/inferno/story.rs"]
mod story;
#[path = "../../src/bin/inferno/view/mod.rs"]
mod view;

mod backtest;
#[cfg(feature = "admin")]
mod browser;
mod crash;
mod domain_events;
mod doom_events;
mod geometry;
mod growth;
#[expect(dead_code, reason = "the unit tests take more of it")]
#[path = "../../src/fuzzing/held.rs"]
mod held;
#[cfg(feature = "admin")]
mod inspector;
#[cfg(feature = "admin")]
#[path = "../installed/mod.rs"]
mod installed;
mod ledger;
mod prediction;
mod server;
mod soak;
mod swarm;
