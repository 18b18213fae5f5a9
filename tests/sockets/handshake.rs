//! A client built against another protocol is told which names differ; one that names no room is told that.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::client::{Connection, ConnectionState, ReplicaPlugin};
use roomkeeper::host::{ConnectionId, HostLimits, Lobby, Visitor};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{Codec, Protocol, Quantised, Refusal};
use roomkeeper::room::{Blueprint, RoomOptions};
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize)]
struct Health(i32);

#[derive(Component, Serialize, Deserialize)]
struct Heat(f32);

/// Heat in steps of so many degrees.
fn heat(step: f32) -> impl Codec<Heat> {
    Quantised::new(-40.0..=80.0, step).via(|heat: &Heat| [heat.0], |[heat]| Heat(heat))
}

mod old {
    use super::*;
    #[derive(Component, Serialize, Deserialize)]
    pub(crate) struct Health(pub(crate) i64);
}

fn server(app: &mut App) {
    app.sync::<Health>("health");
    app.sync_with("heat", heat(0.5));
    app.stateless_fact::<u8>("door_opened");
}

fn finer(app: &mut App) {
    app.sync::<Health>("health");
    app.sync_with("heat", heat(0.25));
    app.stateless_fact::<u8>("door_opened");
}

fn outdated(app: &mut App) {
    app.sync::<old::Health>("health");
    app.sync_with("heat", heat(0.5));
    app.stateless_fact::<u8>("gate_opened");
}

/// Joins and gives back where the client then stands.
fn join(protocol: fn(&mut App), room: &str) -> ConnectionState {
    let mut lobby = Lobby::new(HostLimits::default(), false);
    lobby.open_room(&Blueprint::new(server, |_| {}), RoomOptions::named("lobby")).unwrap();
    let mut client = App::new();
    client.add_plugins(ReplicaPlugin);
    protocol(&mut client);
    let world = client.world_mut();
    world.resource_scope(|world, mut connection: Mut<Connection>| connection.join(world.resource::<Protocol>(), room, false));
    let id = ConnectionId(1);
    lobby.connected(id, Visitor { player: EntityId::named("ann"), name: "ann".into(), room: None });
    while let Some(message) = world.resource_mut::<Connection>().next_outgoing() {
        lobby.message(id, &message);
    }
    lobby.tick_room("lobby");
    lobby.pump(|_, own, shared| world.resource_mut::<Connection>().deliver([own, shared].concat().into()));
    client.update();
    client.world().resource::<Connection>().state().clone()
}

#[test]
fn the_same_protocol_is_let_in() {
    assert_eq!(join(server, "lobby"), ConnectionState::Live);
}

#[test]
fn another_protocol_is_told_every_name_that_differs() {
    let ConnectionState::Refused(Refusal::ProtocolDiffers(_), lines) = join(outdated, "lobby") else { panic!("it was let in") };
    let text = lines.join("\n");
    assert_eq!(lines.len(), 3, "{text}");
    assert!(text.contains("component \"health\" differs: client "), "{text}");
    assert!(text.contains("fact \"gate_opened\" is unknown to the server"), "{text}");
    assert!(text.contains("fact \"door_opened\" is missing on the client"), "{text}");
}

#[test]
fn a_codec_with_other_settings_is_another_protocol() {
    let ConnectionState::Refused(Refusal::ProtocolDiffers(_), lines) = join(finer, "lobby") else { panic!("it was let in") };
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("component \"heat\" differs: client "), "{lines:?}");
}

#[test]
fn a_room_that_is_not_there_is_named() {
    assert_eq!(join(server, "attic"), ConnectionState::Refused(Refusal::NoSuchRoom("attic".into()), Vec::new()));
}
