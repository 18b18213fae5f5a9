//! A whole game in one file: the server, and a player's client as a Bevy app of its own.
//!
//! In one terminal `cargo run --example shooter -- serve`, in another `cargo run --example shooter -- play ann`.
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::process::ExitCode;
use std::time::Duration;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::cli::Game;
use roomkeeper::client::{Connection, ConnectionState, Credentials, Issue, ReplicaPlugin, UdpPlugin, UdpTransport, in_room};
use roomkeeper::prelude::*;
use roomkeeper::protocol::User;
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize)]
struct Ammo(u32);
#[derive(Serialize, Deserialize)]
struct Fire;
#[derive(Clone, Serialize, Deserialize)]
struct Fired {
    by: EntityId,
}

/// Both sides.
fn protocol(app: &mut App) {
    app.sync::<User>("user");
    app.sync::<Ammo>("ammo");
    app.command::<Fire>("fire").fact::<Fired>("fired");
}

/// The server.
fn rules(app: &mut App) {
    app.decide(decide_fire).apply(use_ammo).apply(equip);
}

fn equip(joined: On<Happened<UserJoined>>, mut commands: Commands) {
    commands.spawn((joined.user, User { name: joined.name.clone() }, Ammo(3)));
}

fn decide_fire(fire: In<Issued<Fire>>, shooters: Query<&Ammo>) -> Decision {
    if shooters.get(fire.author)?.0 == 0 {
        return reject("no_ammo");
    }
    accept(Fired { by: fire.author_id })
}

fn use_ammo(fired: On<Happened<Fired>>, index: Res<EntityIndex>, mut ammo: Query<&mut Ammo>) {
    if let Some(mut ammo) = index.entity(fired.by).and_then(|shooter| ammo.get_mut(shooter).ok()) {
        ammo.0 -= 1;
    }
}

fn fire_once_a_second(mut frame: Local<u32>, mut issue: Issue) -> Result {
    *frame += 1;
    if frame.is_multiple_of(60) {
        issue.send(&Fire)?;
    }
    Ok(())
}

/// The client: fires once a second and says what it hears. A real one would draw.
fn play(name: &str) -> Result {
    let credentials = Credentials::unauthenticated("127.0.0.1:5000".parse()?, name);
    let mut app = App::new();
    app.add_plugins((ReplicaPlugin, UdpPlugin));
    protocol(&mut app);
    app.insert_resource(UdpTransport::connect(&credentials, "main", false)?);
    app.add_observer(|fired: On<Happened<Fired>>| println!("somebody fires: {}", fired.by));
    app.add_observer(|rejected: On<Rejected>| println!("rejected: {}", rejected.code));
    app.add_observer(|changed: On<ComponentChanged<Ammo>>, ammo: Query<&Ammo>| {
        println!("ammo of {}: {}", changed.id, ammo.get(changed.entity).map_or(0, |ammo| ammo.0));
    });
    app.add_systems(Update, fire_once_a_second.run_if(in_room));
    while !matches!(app.world().resource::<Connection>().state(), ConnectionState::Refused(..) | ConnectionState::Broken(_)) {
        app.update();
        std::thread::sleep(Duration::from_millis(16));
    }
    println!("{}", app.world().resource::<Connection>().state());
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "play", name] => play(name).map_or_else(
            |error| {
                println!("error: {error}");
                ExitCode::FAILURE
            },
            |()| ExitCode::SUCCESS,
        ),
        _ => Game::new("shooter", protocol, rules).run(),
    }
}
