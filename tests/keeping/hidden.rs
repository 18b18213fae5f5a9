//! What is hidden stays hidden, wherever it comes from: after a restart, and when a scene is reset.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::host::{HostLimits, Keeper, Lobby};
use roomkeeper::prelude::*;
use roomkeeper::protocol::RoomTick;
use roomkeeper::room::{Blueprint, RoomClock, RoomOptions};
use roomkeeper::store::{Archive, MemoryStore, Store, WriterOptions};
use serde::{Deserialize, Serialize};

const RED: u64 = 1;
const BLUE: u64 = 2;

#[derive(Component, Serialize, Deserialize)]
struct Trap {
    of: u64,
}

fn protocol(app: &mut App) {
    let _ = app.sync::<Trap>("trap");
}

fn rules(app: &mut App) {
    app.audience_by(|trap: &Trap| Audience::mask(trap.of));
    app.add_systems(Startup, |mut commands: Commands| {
        commands.spawn((EntityId::with_name("first"), Trap { of: RED }));
    });
    app.add_systems(FixedUpdate, |mut traps: Query<(Entity, &EntityId, &mut Trap)>, clock: Res<RoomClock>, mut commands: Commands| {
        for (entity, id, mut trap) in &mut traps {
            match clock.tick().0 {
                // It changes sides, and who may know of it with that.
                10 => trap.of = BLUE,
                // It is gone: a reset has to bring it back.
                30 if *id == EntityId::named("first") => commands.entity(entity).despawn(),
                _ => {}
            }
        }
    });
}

fn audiences(lobby: &mut Lobby) -> Vec<Option<Audience>> {
    let world = lobby.room_mut("arena").unwrap().world_mut();
    world.query::<(&Trap, Option<&Audience>)>().iter(world).map(|(_, audience)| audience.copied()).collect()
}

fn tick(lobby: &mut Lobby, keeper: &mut Keeper, ticks: u32) {
    for _ in 0..ticks {
        let mut report = lobby.tick_room("arena").unwrap();
        keeper.record("arena", &mut report);
    }
    keeper.writer().sync().unwrap();
}

#[test]
fn an_audience_that_follows_from_a_component_is_there_after_a_restart_and_a_reset() {
    let (store, blueprint) = (MemoryStore::new(), Blueprint::new(protocol, rules));
    let open = || {
        let mut keeper = Keeper::by_hand(Box::new(store.clone()), WriterOptions::default()).unwrap();
        let mut lobby = Lobby::new(HostLimits::default(), true);
        lobby.admit_room(keeper.room(&blueprint, RoomOptions::named("arena")).unwrap()).unwrap();
        (keeper, lobby)
    };
    let (mut keeper, mut lobby) = open();
    assert_eq!(audiences(&mut lobby), [Some(Audience::mask(RED))]);
    tick(&mut lobby, &mut keeper, 15);
    assert_eq!(audiences(&mut lobby), [Some(Audience::mask(BLUE))]);
    keeper.stop();

    let (mut keeper, mut lobby) = open();
    assert_eq!(lobby.room("arena").unwrap().tick_now(), RoomTick(15));
    assert_eq!(audiences(&mut lobby), [Some(Audience::mask(BLUE))], "before anybody could have been told");
    let mut archive = Archive::new(store.reader().unwrap(), blueprint.protocol());
    let snippet = archive.save_snippet("arena", "then", RoomTick(15)).unwrap();
    tick(&mut lobby, &mut keeper, 20);
    assert_eq!(audiences(&mut lobby), []);
    assert!(lobby.push("arena", snippet.reset()));
    tick(&mut lobby, &mut keeper, 1);
    assert_eq!(audiences(&mut lobby), [Some(Audience::mask(BLUE))]);
}
