//! The least there is: a component, a system, a room, and what a tick gives out.
//!
//! `cargo run --example minimal_room`
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::prelude::*;
use roomkeeper::protocol::Protocol;
use roomkeeper::room::{Room, RoomOptions};
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize)]
struct Position([f32; 2]);

/// What server and clients agree on.
fn protocol(app: &mut App) {
    app.sync::<Position>("position").latest();
}

/// What only the server does.
fn rules(app: &mut App) {
    app.add_systems(FixedUpdate, |mut positions: Query<&mut Position>| {
        positions.iter_mut().for_each(|mut position| position.0[0] += 0.5);
    });
}

fn main() -> Result {
    let mut room = Room::new(RoomOptions::named("lobby"), protocol, rules)?;
    room.world_mut().spawn(Position([0.0, 1.0]));
    for _ in 0..3 {
        let outbox = room.tick([])?;
        println!("tick {}: a batch of {} bytes", outbox.tick, outbox.batch.map_or(0, |batch| batch.len()));
    }
    let state = room.state()?;
    println!("{}", state.to_json(room.world().resource::<Protocol>())?);
    Ok(())
}
