//! The game of the guide's first chapter, as it stands there: `cargo run --example orchard -- serve`.
use std::process::ExitCode;
use std::time::Duration;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::cli::Game;
use roomkeeper::prelude::*;
use roomkeeper::room::every;
use serde::{Deserialize, Serialize};

/// How many apples hang on a tree.
#[derive(Component, Serialize, Deserialize)]
struct Apples(u32);

/// What server and clients agree on.
fn protocol(app: &mut App) {
    app.sync::<Apples>("apples");
}

/// What the server does.
fn rules(app: &mut App) {
    app.add_systems(Startup, plant);
    app.add_systems(FixedUpdate, grow.run_if(every(Duration::from_secs(1))));
}

fn plant(mut commands: Commands) {
    commands.spawn((EntityId::with_name("tree"), Apples(0)));
}

fn grow(mut trees: Query<&mut Apples>) {
    trees.iter_mut().filter(|apples| apples.0 < 5).for_each(|mut apples| apples.0 += 1);
}

fn main() -> ExitCode {
    Game::new("orchard", protocol, rules).run()
}
