//! A client that does not wait: what its user asks for is applied at once, by the rules that the server has too, and the server's word counts
//! when it comes. A game's client adds one plugin for it: `PredictPlugin::new(protocol, rules)`.
//!
//! `cargo run --example prediction`
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::client::Replica;
use roomkeeper::prelude::*;
use roomkeeper::sim::Sim;
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize)]
struct Place(i32);
#[derive(Serialize, Deserialize)]
struct Step;
#[derive(Clone, Serialize, Deserialize)]
struct Stepped {
    who: EntityId,
    to: i32,
}

fn protocol(app: &mut App) {
    app.sync::<Place>("place");
    app.command::<Step>("step").fact::<Stepped>("stepped");
}

/// Run by the room, and by the client's prediction of it.
fn rules(app: &mut App) {
    app.apply(|joined: On<Happened<UserJoined>>, mut commands: Commands| {
        commands.spawn((joined.user, Place(0)));
    });
    app.decide(|step: In<Issued<Step>>, places: Query<&Place>| -> Decision {
        accept(Stepped { who: step.author_id, to: places.get(step.author)?.0 + 1 })
    });
    app.apply(|stepped: On<Happened<Stepped>>, index: Res<EntityIndex>, mut places: Query<&mut Place>| {
        if let Some(mut place) = index.entity(stepped.who).and_then(|who| places.get_mut(who).ok()) {
            place.0 = stepped.to;
        }
    });
}

fn main() -> Result {
    // 75 ms each way, as on many a mobile network.
    let mut sim = Sim::new(protocol, rules).link("rtt=150ms".parse()?).predicting().client("ann");
    for tick in 0..12 {
        if tick < 6 {
            sim.issue("ann", &Step);
        }
        sim.tick();
        let room = sim.room().entity(EntityId::named("ann")).and_then(|ann| sim.room().world().get::<Place>(ann)).map(|place| place.0);
        let world = sim.client_of("ann").world();
        let shown = world.resource::<Replica>().user_entity().and_then(|ann| world.get::<Place>(ann)).map(|place| place.0);
        println!(
            "ann sees herself at {shown:?}, the room has her at {room:?}, {} steps on their way",
            sim.client_of("ann").prediction().pending
        );
    }
    println!("{} client agrees with the room; {:?}", sim.assert_converged(), sim.client_of("ann").prediction());
    Ok(())
}
