//! The game's binary: `serve`, `play`, `watch`, `ledger` and the rest.

use std::process::ExitCode;

use orchard::{protocol::protocol, rules::rules, view::view};
use roomkeeper::cli::Game;

fn main() -> ExitCode {
    Game::new("orchard", protocol, rules).view(view()).kinds(&["apples", "basket"]).run()
}
