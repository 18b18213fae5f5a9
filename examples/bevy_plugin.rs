//! A Bevy plugin that knows nothing of rooms, inside a room: Bevy's own transform hierarchy. The tank drives, its gun turns with it, and what
//! clients are sent is where the plugin says that the muzzle is.
//!
//! `cargo run --example bevy_plugin`
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use bevy_transform::prelude::*;
use roomkeeper::prelude::*;
use roomkeeper::sim::Sim;
use serde::{Deserialize, Serialize};

#[derive(Component)]
struct Tank;
/// Where a gun points from. It is all that clients know of it.
#[derive(Component, Serialize, Deserialize, Default, PartialEq)]
struct Muzzle([f32; 3]);

fn protocol(app: &mut App) {
    app.sync::<Muzzle>("muzzle").latest();
}

fn rules(app: &mut App) {
    app.add_plugins(TransformPlugin);
    app.add_systems(Startup, |mut commands: Commands| {
        let muzzle = (Transform::from_xyz(2.0, 1.0, 0.0), Muzzle::default());
        commands.spawn((Tank, Transform::default(), children![muzzle]));
    });
    app.add_systems(FixedUpdate, drive).add_systems(PostUpdate, aim.after(TransformSystems::Propagate));
}

fn drive(mut tanks: Query<&mut Transform, With<Tank>>) {
    tanks.iter_mut().for_each(|mut tank| tank.translation.x += 0.5);
}

fn aim(mut muzzles: Query<(&GlobalTransform, &mut Muzzle)>) {
    for (at, mut muzzle) in &mut muzzles {
        muzzle.set_if_neq(Muzzle(at.translation().to_array()));
    }
}

fn main() {
    let mut sim = Sim::new(protocol, rules).client("ann");
    sim.run_ticks(10).settle();
    let world = sim.client_mut("ann").world_mut();
    for muzzle in world.query::<&Muzzle>().iter(world) {
        println!("ann sees the muzzle at {:?}", muzzle.0);
    }
    println!("{} client agrees", sim.assert_converged());
}
