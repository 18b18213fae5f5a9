//! A small game for the tests of the store: things that move, burn down and are born by chance, doors that users open.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, clippy::allow_attributes, reason = "each test takes what it needs")]

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::prelude::*;
use roomkeeper::protocol::{CommandId, State, UserJoined};
use roomkeeper::room::{Blueprint, Incoming, Room, RoomOptions};
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub struct Position(pub [f32; 2]);
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub struct Health(pub i32);
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoorState {
    Closed,
    Open,
}
#[derive(Component, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Avatar(pub String);

impl Quantity for Health {
    type Amount = i32;
    fn amount(&self) -> i32 {
        self.0
    }
    fn set_amount(&mut self, amount: i32) {
        self.0 = amount;
    }
}

#[derive(Serialize, Deserialize)]
pub struct Open {
    pub door: EntityId,
}
#[derive(Serialize, Deserialize)]
pub struct Heal {
    pub by: i32,
}
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DoorOpened {
    pub by: EntityId,
    pub door: EntityId,
}
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Healed {
    pub who: EntityId,
    pub by: i32,
}
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SparkBorn {
    pub spark: EntityId,
    pub at: [f32; 2],
}

pub fn protocol(app: &mut App) {
    app.sync::<Position>("position").latest();
    app.sync::<Health>("health").quantity();
    app.sync::<DoorState>("door_state");
    app.sync::<Avatar>("avatar");
    app.sync::<Ttl>("ttl");
    app.sync_relationship::<OwnedBy>("owned_by");
    app.command::<Open>("open").command::<Heal>("heal");
    app.fact::<DoorOpened>("door_opened").fact::<Healed>("healed").fact::<SparkBorn>("spark_born");
}

pub fn rules(app: &mut App) {
    app.decide(|open: In<Issued<Open>>, doors: Query<&DoorState>, index: Res<EntityIndex>| -> Decision {
        let door = index.entity(open.door).ok_or_else(|| Rejection::new("no_door"))?;
        if doors.get(door)? == &DoorState::Open {
            return reject("open_already");
        }
        accept(DoorOpened { by: open.author_id, door: open.door })
    });
    app.decide(|heal: In<Issued<Heal>>| -> Decision { accept(Healed { who: heal.author_id, by: heal.by }) });
    app.apply(|joined: On<Happened<UserJoined>>, mut commands: Commands| {
        commands.spawn((joined.user, Avatar(joined.name.clone()), Health(50), Position([0.0, 0.0])));
    });
    app.apply(|opened: On<Happened<DoorOpened>>, index: Res<EntityIndex>, mut doors: Query<&mut DoorState>| {
        if let Some(mut door) = index.entity(opened.door).and_then(|door| doors.get_mut(door).ok()) {
            *door = DoorState::Open;
        }
    });
    app.apply(|healed: On<Happened<Healed>>, index: Res<EntityIndex>, mut health: Patch<Health>| {
        if let Some(who) = index.entity(healed.who) {
            health.inc_max(who, healed.by, 100);
        }
    });
    app.apply(|born: On<Happened<SparkBorn>>, mut commands: Commands| {
        commands.spawn((born.spark, Position(born.at), Health(3), Ttl::millis(900)));
    });
    app.add_systems(FixedUpdate, (spark, drift, burn).chain());
}

fn spark(mut rng: ResMut<RoomRng>, mut record: Recorder) {
    if rng.chance(0.2) {
        let (spark, at) = (record.new_id(), [rng.unit_f32(), rng.unit_f32()]);
        record.fact(SparkBorn { spark, at });
    }
}

fn drift(mut things: Query<(&EntityId, &mut Position)>, clock: Res<RoomClock>) {
    for (id, mut position) in &mut things {
        if (clock.tick().0 + id.as_uuid().as_bytes()[0] as u32).is_multiple_of(3) {
            position.0[0] += 0.25;
        }
    }
}

fn burn(mut health: Patch<Health>, things: Query<Entity, (With<Ttl>, With<Health>)>) {
    let mut order: Vec<Entity> = things.iter().collect();
    order.sort_unstable();
    for entity in order {
        health.dec_min(entity, 1, 0);
    }
}

pub const LEVEL: &str = r#"{"door_a": {"door_state": "Closed", "position": [1, 1]}, "door_b": {"door_state": "Closed"}, "crate": {"position": [2.5, 0.1], "health": 7, "owned_by": "door_a"}}"#;

pub fn blueprint() -> Blueprint {
    Blueprint::new(protocol, rules)
}

pub fn options(name: &str) -> RoomOptions {
    let level = roomkeeper::room::Level::from_text("arena.json", LEVEL);
    RoomOptions { seed: 7, level: Some(level), notes: true, check: true, ..RoomOptions::named(name) }
}

/// What comes in at a tick: users join, act, and leave.
pub fn script(room: &Room, tick: u32) -> Vec<Incoming> {
    let protocol = room.world().resource::<roomkeeper::protocol::Protocol>();
    let kind = |name: &str| protocol.command_names().position(|known| known == name).unwrap();
    let encode = |door: &str| {
        let mut bytes = EntityId::named(door).as_uuid().as_bytes().to_vec();
        bytes.truncate(16);
        bytes::Bytes::from(bytes)
    };
    let (ann, bob) = (EntityId::named("ann"), EntityId::named("bob"));
    let command = |user, id, kind, payload| Incoming::Command { user, id: CommandId(id), kind, seen: None, payload };
    match tick % 100 {
        5 => vec![Incoming::Join { user: ann, name: "ann".to_owned() }],
        10 => vec![Incoming::Join { user: bob, name: "bob".to_owned() }],
        20 => vec![command(ann, tick, kind("open"), encode("door_a")), command(bob, tick, kind("open"), encode("door_a"))],
        30 => vec![command(bob, tick, kind("heal"), bytes::Bytes::from_static(&[20]))],
        40 => vec![command(ann, tick, kind("open"), encode("door_b"))],
        90 if tick > 250 => vec![Incoming::Leave { user: bob, reason: roomkeeper::protocol::LeaveReason::Left }],
        _ => vec![],
    }
}

pub fn state_of(room: &mut Room) -> State {
    room.state().unwrap()
}
