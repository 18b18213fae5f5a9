#![expect(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "a benchmark, read by people")]
//! The hot path in memory: collect and encode, fan-out to members up to the transport, apply on a replica.
//!
//! Workloads W1 to W6 of docs/performance.md. What is timed on the host's side is a whole tick of the lobby, from intake to
//! the queues of the members, without the mutations; and, as `bare`, the same tick of a room whose protocol is empty and that
//! has no members. For the replica of W4 `bare` is Bevy alone: as many entities, and a table by their ids. Run: `cargo bench --bench hot_path`.

use std::collections::BTreeMap;
use std::time::Duration;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use bevy_platform::collections::HashMap;
use bytes::Bytes;
use cpu_time::ThreadTime;
use criterion::{Criterion, criterion_group, criterion_main};
use roomkeeper::client::{Connection, Replica, ReplicaPlugin};
use roomkeeper::host::{ConnectionId, HostLimits, Lobby, Visitor};
use roomkeeper::protocol::{ClientMessage, EntityId, Protocol, ProtocolAppExt, ServerMessage, batch_message, snapshot_messages};
use roomkeeper::room::{Blueprint, Room, RoomOptions, RoomRng};
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize, Clone, Copy)]
struct Position([f32; 3]);
#[derive(Component, Serialize, Deserialize, Clone, Copy)]
struct Rotation([f32; 4]);
#[derive(Component, Serialize, Deserialize, Clone, Copy)]
struct Health(i32);
#[derive(Component, Serialize, Deserialize, Clone, Copy)]
struct Kind(u8);

fn protocol(app: &mut App) {
    app.sync::<Position>("position").latest();
    app.sync::<Rotation>("rotation").latest();
    app.sync::<Health>("health");
    app.sync::<Kind>("kind");
    app.spawn_together::<(Position, Rotation, Health, Kind)>();
}

/// What changes in a tick.
#[derive(Clone, Copy)]
enum Change {
    Nothing,
    Move { entities: usize, turn: bool },
    Churn(usize),
}

struct Arena {
    lobby: Lobby,
    entities: Vec<Entity>,
    rng: RoomRng,
    bytes: usize,
    ticks: usize,
    now: Duration,
    newest: Vec<(u64, [u8; 2])>,
    reports: Vec<(ConnectionId, Bytes)>,
}

fn thing(rng: &mut RoomRng) -> (Position, Rotation, Health, Kind) {
    let mut number = || rng.unit_f32() * 100.0;
    (Position([number(), number(), number()]), Rotation([number(), number(), number(), number()]), Health(100), Kind(3))
}

impl Arena {
    fn new(entities: usize, members: u64) -> Self {
        Self::with(protocol, entities, members)
    }

    /// The same game without replication: nothing is synced and nobody is there.
    fn bare(entities: usize) -> Self {
        Self::with(|_| {}, entities, 0)
    }

    fn with(protocol: fn(&mut App), entities: usize, members: u64) -> Self {
        let blueprint = Blueprint::new(protocol, |_| {});
        let mut lobby = Lobby::new(HostLimits::default(), false);
        lobby.open_room(&blueprint, RoomOptions::named("arena")).unwrap();
        let mut rng = RoomRng::new(7);
        let world = lobby.room_mut("arena").unwrap().world_mut();
        let entities = (0..entities).map(|_| world.spawn(thing(&mut rng)).id()).collect();
        let fingerprint = world.resource::<Protocol>().fingerprint();
        for member in 0..members {
            let visitor = Visitor { player: EntityId::named(&member.to_string()), name: String::new(), room: None };
            lobby.connected(ConnectionId(member), visitor);
            lobby.message(
                ConnectionId(member),
                &ClientMessage::Hello { fingerprint, room: "arena".into(), spectate: true, resume: None }.encode(),
            );
        }
        let (newest, reports) = Default::default();
        let mut arena = Self { lobby, entities, rng, bytes: 0, ticks: 0, now: Duration::ZERO, newest, reports };
        for _ in 0..20 {
            arena.tick();
            arena.acknowledge();
        }
        (arena.bytes, arena.ticks) = (0, 0);
        arena
    }

    /// Changes the world, as a game would; not timed.
    fn change(&mut self, change: Change) {
        let room = self.lobby.room_mut("arena").unwrap();
        let world = room.world_mut();
        match change {
            Change::Nothing => {}
            Change::Move { entities, turn } => {
                for n in 0..entities {
                    // A partial shuffle: distinct entities.
                    let other = n + self.rng.range(0..(self.entities.len() - n) as u32) as usize;
                    self.entities.swap(n, other);
                    let (position, rotation, ..) = thing(&mut self.rng);
                    let mut entity = world.entity_mut(self.entities[n]);
                    *entity.get_mut::<Position>().unwrap() = position;
                    if turn {
                        *entity.get_mut::<Rotation>().unwrap() = rotation;
                    }
                }
            }
            Change::Churn(entities) => {
                for n in 0..entities {
                    let other = n + self.rng.range(0..(self.entities.len() - n) as u32) as usize;
                    self.entities.swap(n, other);
                    world.despawn(self.entities[n]);
                    self.entities[n] = world.spawn(thing(&mut self.rng)).id();
                }
            }
        }
    }

    /// Lets every member report that all has come; not timed.
    fn acknowledge(&mut self) {
        let newest: BTreeMap<u64, [u8; 2]> = self.newest.drain(..).collect();
        self.reports.clear();
        for (member, [low, high]) in newest {
            // See protocol/packet.rs: the newest packet, no wait, and everything before it.
            self.reports.push((ConnectionId(member), Bytes::copy_from_slice(&[17, 0, 0, low, high, 0, 255, 255])));
        }
    }

    /// A tick up to the transport, with the members' reports. Gives the batch.
    fn tick(&mut self) -> Option<Bytes> {
        self.now += Duration::from_millis(50);
        self.lobby.advance(self.now);
        for (connection, report) in &self.reports {
            self.lobby.message(*connection, report);
        }
        let batch = self.lobby.tick_room("arena").unwrap().batch;
        let bytes = &mut self.bytes;
        let newest = &mut self.newest;
        self.lobby.pump(|ConnectionId(member), own, shared| {
            *bytes += own.len() + shared.len();
            newest.extend_from_slice(&[(member, [own[1], own[2]])]);
        });
        self.ticks += 1;
        batch
    }
}

fn host_side(criterion: &mut Criterion, name: &str, entities: usize, members: u64, change: Change) {
    // What replication costs is the first less the second. Both read the clock twice.
    whole_ticks(criterion, &format!("{name} host"), &mut Arena::bare(entities), change, " bare");
    let mut arena = Arena::new(entities, members);
    whole_ticks(criterion, &format!("{name} host"), &mut arena, change, "");
    let per_member = arena.bytes as f64 / arena.ticks as f64 / members.max(1) as f64;
    println!("{name} bytes per member and tick: {per_member:.0}");
}

fn whole_ticks(criterion: &mut Criterion, name: &str, arena: &mut Arena, change: Change, kind: &str) {
    criterion.bench_function(&format!("{name}{kind}"), |bencher| {
        bencher.iter_custom(|rounds| {
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                arena.change(change);
                let start = ThreadTime::now();
                std::hint::black_box(arena.tick());
                total += start.elapsed();
                arena.acknowledge();
            }
            total
        });
    });
}

/// A client's app that holds the arena's state.
fn replica(room: &mut Room) -> App {
    let mut app = App::new();
    app.add_plugins(ReplicaPlugin);
    protocol(&mut app);
    // A game's schedules are built when it starts, long before it joins.
    app.update();
    let welcome = ServerMessage::Welcome {
        room: room.info().id,
        epoch: 0,
        resumed: false,
        name: "arena".into(),
        user: EntityId::NIL,
        last_command: Default::default(),
    };
    deliver(&mut app, welcome.encode().unwrap());
    for message in snapshot_messages(&room.snapshot().unwrap()) {
        deliver(&mut app, message);
    }
    app
}

fn deliver(app: &mut App, message: Bytes) {
    app.world_mut().resource_mut::<Connection>().deliver(message);
}

fn replica_side(criterion: &mut Criterion, name: &str, entities: usize, change: Change) {
    let mut arena = Arena::new(entities, 0);
    let mut app = replica(arena.lobby.room_mut("arena").unwrap());
    app.update();
    criterion.bench_function(&format!("{name} replica"), |bencher| {
        bencher.iter_custom(|rounds| {
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                arena.change(change);
                if let Some(batch) = arena.tick() {
                    deliver(&mut app, batch_message(&batch));
                }
                let start = ThreadTime::now();
                app.world_mut().run_schedule(PreUpdate);
                total += start.elapsed();
            }
            total
        });
    });
    assert_eq!(app.world().resource::<Replica>().tick(), arena.lobby.room("arena").unwrap().tick_now());
}

fn join(criterion: &mut Criterion) {
    let mut arena = Arena::new(10_000, 0);
    let room = arena.lobby.room_mut("arena").unwrap();
    criterion.bench_function("W4 host", |bencher| bencher.iter(|| snapshot_messages(&room.snapshot().unwrap())));
    println!("W4 bytes: {}", room.snapshot().unwrap().len());
    criterion.bench_function("W4 replica", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                let mut app = replica(room);
                let start = ThreadTime::now();
                app.world_mut().run_schedule(PreUpdate);
                total += start.elapsed();
                assert_eq!(app.world().resource::<Replica>().len(), 10_000);
            }
            total
        });
    });
    let mut rng = RoomRng::new(7);
    let things: Vec<_> = (0..10_000_u64).map(|n| (EntityId::named(&n.to_string()), thing(&mut rng))).collect();
    // What a replica can't do without, with everything known beforehand: the entities in Bevy's world, and which is which.
    criterion.bench_function("W4 replica bare", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                let mut world = World::new();
                let start = ThreadTime::now();
                let spawned = world.spawn_batch(things.iter().map(|(id, thing)| (*id, *thing)));
                let known: HashMap<EntityId, Entity> = things.iter().map(|(id, _)| *id).zip(spawned).collect();
                total += start.elapsed();
                assert_eq!(known.len(), 10_000);
            }
            total
        });
    });
}

fn workloads(criterion: &mut Criterion) {
    let crowd = Change::Move { entities: 100, turn: false };
    let arena = Change::Move { entities: 100, turn: true };
    host_side(criterion, "W1 arena", 1_000, 32, arena);
    replica_side(criterion, "W1 arena", 1_000, arena);
    host_side(criterion, "W2 crowd", 10_000, 32, crowd);
    replica_side(criterion, "W2 crowd", 10_000, crowd);
    host_side(criterion, "W3 idle", 10_000, 32, Change::Nothing);
    join(criterion);
    host_side(criterion, "W5 churn", 1_000, 32, Change::Churn(50));
    replica_side(criterion, "W5 churn", 1_000, Change::Churn(50));
    host_side(criterion, "W6 many", 1_000, 256, arena);
}

criterion_group! {
    name = hot_path;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = workloads
}
criterion_main!(hot_path);
