//! A room that is not what is told and stored of it is found out while it runs.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bevy_app::prelude::*;
use bevy_ecs::change_detection::DetectChangesMut;
use bevy_ecs::prelude::*;
use roomkeeper::host::{HostLimits, Keeper, Lobby};
use roomkeeper::prelude::*;
use roomkeeper::protocol::RoomTick;
use roomkeeper::room::{Blueprint, RoomClock, RoomOptions};
use roomkeeper::store::{MemoryStore, WriterOptions};
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize)]
struct Health(u32);
#[derive(Component, Serialize, Deserialize)]
struct Beat(u32);

fn protocol(app: &mut App) {
    app.sync::<Health>("health");
    app.sync::<Beat>("beat").latest();
}

/// From tick 30 on it forgets to say what it does, if it is one that forgets.
fn rules(forgets: bool) -> impl Fn(&mut App) {
    move |app| {
        app.add_systems(Startup, |mut commands: Commands| {
            commands.spawn((EntityId::with_name("ann"), Health(100), Beat(0)));
        });
        app.add_systems(FixedUpdate, move |mut all: Query<(&mut Health, &mut Beat)>, clock: Res<RoomClock>| {
            for (mut health, mut beat) in &mut all {
                beat.0 = clock.tick().0;
                if clock.tick().0 == 30 {
                    let health = if forgets { health.bypass_change_detection() } else { &mut *health };
                    health.0 = 90;
                }
            }
        });
    }
}

/// What is found in 100 ticks, of which each tenth is looked at.
fn found(forgets: bool) -> (u64, Vec<String>) {
    let blueprint = Blueprint::new(protocol, rules(forgets));
    let mut keeper = Keeper::by_hand(Box::new(MemoryStore::new()), WriterOptions::default()).unwrap();
    let mut lobby = Lobby::new(HostLimits::default(), true);
    lobby.admit_room(keeper.room(&blueprint, RoomOptions::named("arena")).unwrap()).unwrap();
    for tick in 1..=100 {
        let mut report = lobby.tick_room("arena").unwrap();
        assert_eq!(report.tick, RoomTick(tick));
        keeper.record("arena", &mut report);
        if tick % 10 == 0 {
            keeper.audit("arena", &mut lobby);
        }
        // Not after each tick: what is compared is compared as of its own.
        if tick % 7 == 0 {
            keeper.writer().step();
        }
    }
    keeper.writer().sync().unwrap();
    let report = keeper.writer().report();
    (report.differences, report.told)
}

#[test]
fn a_rule_that_writes_behind_change_detection_is_found_by_entity_and_component() {
    let (differences, told) = found(true);
    assert_eq!(differences, 8, "in each look from then on: {told:?}");
    assert!(told.first().is_some_and(|first| first.starts_with("arena, tick 30: ") && first.contains("ann.health")), "{told:?}");
    assert_eq!(found(false), (0, Vec::new()));
}
