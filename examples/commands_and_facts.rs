//! Commands are asked for and decided; what is accepted becomes a fact, and an observer turns it into state.
//!
//! `cargo run --example commands_and_facts`
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::prelude::*;
use roomkeeper::sim::Sim;
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize)]
struct Gold(u32);

/// A user asks for it. It may be refused.
#[derive(Serialize, Deserialize)]
struct Buy {
    price: u32,
}

/// It happened, and stands in the ledger.
#[derive(Clone, Serialize, Deserialize)]
struct Bought {
    by: EntityId,
    price: u32,
}

fn protocol(app: &mut App) {
    app.sync::<Gold>("gold");
    app.command::<Buy>("buy").fact::<Bought>("bought");
}

fn rules(app: &mut App) {
    app.decide(decide_buy).apply(pay).apply(equip);
}

/// Decides, and changes nothing.
fn decide_buy(buy: In<Issued<Buy>>, purses: Query<&Gold>) -> Decision {
    if purses.get(buy.author)?.0 < buy.price {
        return reject("too_expensive");
    }
    accept(Bought { by: buy.author_id, price: buy.price })
}

/// Changes, and decides nothing.
fn pay(bought: On<Happened<Bought>>, index: Res<EntityIndex>, mut purses: Query<&mut Gold>) {
    if let Some(mut purse) = index.entity(bought.by).and_then(|by| purses.get_mut(by).ok()) {
        purse.0 -= bought.price;
    }
}

fn equip(joined: On<Happened<UserJoined>>, mut commands: Commands) {
    commands.spawn((joined.user, Gold(10)));
}

fn main() {
    let mut sim = Sim::new(protocol, rules).client("ann").client("bob");
    sim.issue("ann", &Buy { price: 7 }).issue("ann", &Buy { price: 7 }).issue("bob", &Buy { price: 2 });
    sim.run_ticks(4);
    println!("ann was refused: {:?}", sim.rejections("ann"));
    for fact in sim.ledger() {
        println!("{} in tick {}: {}", fact.seq, fact.tick, fact.name);
    }
    // Each replica equals the room.
    let state = sim.room_state().to_json(sim.room().world().resource()).unwrap_or_default();
    println!("{} clients agree: {state}", sim.assert_converged());
}
