//! The past of rooms, asked of a lobby alone. Over UDP: `tests/sockets/past.rs`.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::host::{ConnectionId, HostLimits, Lobby, Visitor};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{ClientMessage, Protocol};
use roomkeeper::room::{Blueprint, RoomOptions};
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize)]
struct Fuse(u32);

fn protocol(app: &mut App) {
    app.sync::<Fuse>("fuse");
}

fn burn(mut fuses: Query<&mut Fuse>) {
    for mut fuse in &mut fuses {
        fuse.0 = fuse.0.checked_sub(1).expect("the fuse has burnt down");
    }
}

fn rules(app: &mut App) {
    app.add_systems(FixedUpdate, burn);
}

#[test]
fn the_past_of_a_room_ends_with_its_first_secret_though_the_room_fails_before_anybody_looks() {
    let mut lobby = Lobby::new(HostLimits::default(), false);
    lobby.can_read_pasts();
    lobby.open_room(&Blueprint::new(protocol, rules), RoomOptions::named("main")).unwrap();
    for _ in 0..40 {
        assert!(lobby.tick_room("main").unwrap().fault.is_none());
    }
    let fingerprint = lobby.room("main").unwrap().world().resource::<Protocol>().fingerprint();
    let (eve, player) = (ConnectionId(1), EntityId::named("eve"));
    lobby.connected(eve, Visitor { player, name: "eve".to_owned(), room: None });
    lobby.message(eve, &ClientMessage::Hello { fingerprint, room: "main@-1s".to_owned(), spectate: true, resume: None }.encode());
    lobby.tick_pasts();
    assert!(lobby.has_pasts());
    // The host makes up for a tick that it missed: two in one round.
    lobby.room_mut("main").unwrap().world_mut().spawn((Fuse(1), Audience::OWNER));
    assert!(lobby.tick_room("main").unwrap().fault.is_none());
    assert!(lobby.tick_room("main").unwrap().fault.is_some());
    lobby.tick_pasts();
    assert!(!lobby.has_pasts());
    let mut sent: Vec<u8> = Vec::new();
    for round in 1..4 {
        lobby.advance(Duration::from_millis(round * 50));
        lobby.pump(|_, own, shared| sent.extend([own, shared].concat()));
    }
    assert!(sent.windows(9).any(|window| window == b"secretive"));
}
