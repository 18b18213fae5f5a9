//! The game's binary: `serve`, `play`, `watch`, `ledger` and the rest.

use std::process::ExitCode;

use orchard::{protocol::protocol, rules::rules, view::view};
use roomkeeper::cli::{Allocator, Game};

/// Rooms tick in less time by it than by the system's.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    Game::new("orchard", protocol, rules).view(view()).kinds(&["apples", "basket"]).run()
}
