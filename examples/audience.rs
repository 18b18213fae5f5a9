//! Who may know what: cards that only their owner sees, and walkers that only those see who are near.
//!
//! `cargo run --example audience`
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::prelude::*;
use roomkeeper::room::Reach;
use roomkeeper::sim::Sim;
use serde::{Deserialize, Serialize};

/// Wherever a card comes from, nobody but its owner knows that it is there.
#[derive(Component, Serialize, Deserialize, Debug)]
#[require(Audience = Audience::OWNER)]
struct Card(String);

#[derive(Component, Serialize, Deserialize)]
struct Position([f32; 2]);

/// A part of what everybody sees, for its owner alone.
#[derive(Component, Serialize, Deserialize)]
struct Mana(u32);

fn protocol(app: &mut App) {
    app.sync::<Card>("card");
    app.sync::<Position>("position").latest();
    app.sync::<Mana>("mana").to_owner();
    app.sync_relationship::<OwnedBy>("owned_by");
    app.sync_audience();
}

fn rules(app: &mut App) {
    app.places_by(|position: &Position| position.0);
    app.apply(|joined: On<Happened<UserJoined>>, mut commands: Commands| {
        let senses = Senses::new().with_reach(Reach::within(10.0));
        let player = commands.spawn((joined.user, senses, Position([0.0, 0.0]), Mana(3))).id();
        commands.spawn((Card(format!("the secret of {}", joined.name)), OwnedBy(player)));
    });
}

/// What a client's world holds. What it may not know never was on its way.
fn look(sim: &mut Sim, name: &str) {
    let world = sim.client_mut(name).world_mut();
    let cards: Vec<&str> = world.query::<&Card>().iter(world).map(|card| card.0.as_str()).collect();
    println!("{name} knows of the cards {cards:?}");
    let places: Vec<f32> = world.query::<&Position>().iter(world).map(|position| position.0[0]).collect();
    println!("{name} sees somebody at {places:?}, and the mana of {}", world.query::<&Mana>().iter(world).count());
}

fn main() {
    let mut sim = Sim::new(protocol, rules).client("ann").client("bob");
    let walker = sim.room_mut().world_mut().spawn((Position([50.0, 0.0]), Audience::EVERYONE.near())).id();
    sim.run_ticks(2);
    look(&mut sim, "ann");
    look(&mut sim, "bob");
    println!("The walker comes near.");
    sim.room_mut().world_mut().entity_mut(walker).insert(Position([8.0, 0.0]));
    sim.run_ticks(2);
    look(&mut sim, "ann");
}
