//! A game seen from above: find the key, open the door, reach the exit, mind the fireballs.
//!
//! A guest of the library: it uses only what any game can use.

mod bot;
mod commands;
mod components;
mod facts;
mod map;
mod protocol;
mod rules;
mod story;
mod view;

use std::process::ExitCode;

use roomkeeper::cli::{Allocator, Game};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    roomkeeper::cli::require_processor();
    Game::new("inferno", protocol::add, rules::add)
        .level(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/levels/e1m1.json"))
        .bot(bot::brain)
        .narrator(story::narrate)
        .view(view::view())
        .kinds(&["monster", "avatar", "item", "door", "fireball", "bullet", "wall"])
        .ends_with(&["level_won", "level_lost"])
        .run()
}
