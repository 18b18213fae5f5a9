#![expect(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark, read by people")]
//! Who sees what: one update of the viewers of a room of 10,000 entities, without the tick that moves them.
//!
//! An entity a square unit; 256 viewers, each with a reach that holds about 100. Run: `cargo bench --bench audience`.

use std::time::Duration;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use cpu_time::ThreadTime;
use criterion::{Criterion, criterion_group, criterion_main};
use roomkeeper::prelude::*;
use roomkeeper::protocol::Incoming;
use roomkeeper::room::{Reach, Room, RoomOptions, Viewers};
use serde::{Deserialize, Serialize};

const SIDE: f32 = 100.0;

#[derive(Component, Serialize, Deserialize, Clone, Copy)]
struct Position([f32; 2]);

struct Plain {
    room: Room,
    viewers: Viewers,
    entities: Vec<Entity>,
    bodies: Vec<Entity>,
    rng: RoomRng,
}

/// Who moves in a tick, and how far at most.
#[derive(Clone, Copy)]
struct Moves {
    entities: usize,
    bodies: usize,
    step: f32,
}

impl Plain {
    fn new(entities: usize, viewers: usize, audience: Audience) -> Self {
        let protocol = |app: &mut App| {
            app.sync::<Position>("position").latest();
        };
        let rules = |app: &mut App| {
            app.places_by(|position: &Position| position.0);
        };
        let mut room = Room::new(RoomOptions::named("plain"), protocol, rules).unwrap();
        let mut rng = RoomRng::new(7);
        let users: Vec<EntityId> = (0..viewers).map(|n| EntityId::named(&n.to_string())).collect();
        room.tick(users.iter().map(|user| Incoming::Join { user: *user, name: String::new() })).unwrap();
        let mut seats = Viewers::new();
        let mut somewhere = || Position([0.0; 2].map(|_| rng.unit_f32() * SIDE));
        let bodies: Vec<Entity> = users.iter().filter_map(|user| room.entity(*user)).collect();
        // A disc of 100 square units.
        let senses = Senses::new().with_mask(1).with_reach(Reach { enter: 5.64, leave: 6.0 });
        for (body, user) in bodies.iter().zip(&users) {
            room.world_mut().entity_mut(*body).insert((somewhere(), senses, audience));
            seats.add(Some(*user));
        }
        let entities = (0..entities).map(|_| room.world_mut().spawn((somewhere(), audience)).id()).collect();
        let mut plain = Self { room, viewers: seats, entities, bodies, rng };
        plain.room.tick([]).unwrap();
        plain.viewers.update(plain.room.world_mut());
        plain
    }

    fn change(&mut self, moves: Moves) {
        let (rng, world) = (&mut self.rng, self.room.world_mut());
        for (things, count) in [(&mut self.entities, moves.entities), (&mut self.bodies, moves.bodies)] {
            for n in 0..count {
                // A partial shuffle: distinct entities.
                let other = n + rng.range(0..(things.len() - n) as u32) as usize;
                things.swap(n, other);
                let mut position = world.get_mut::<Position>(things[n]).unwrap();
                position.0 = position.0.map(|at| (at + (rng.unit_f32() - 0.5) * 2.0 * moves.step).rem_euclid(SIDE));
            }
        }
        self.room.tick([]).unwrap();
    }

    fn update(&mut self) -> Duration {
        let start = ThreadTime::now();
        self.viewers.update(self.room.world_mut());
        start.elapsed()
    }
}

fn measure(criterion: &mut Criterion, name: &str, plain: &mut Plain, moves: Moves) {
    criterion.bench_function(name, |bencher| {
        bencher.iter_custom(|rounds| {
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                plain.change(moves);
                total += plain.update();
            }
            total
        });
    });
}

fn workloads(criterion: &mut Criterion) {
    let near = Audience::EVERYONE.near();
    let mut plain = Plain::new(10_000, 256, near);
    let walk = |entities, bodies| Moves { entities, bodies, step: 0.3 };
    measure(criterion, "idle", &mut plain, walk(0, 0));
    measure(criterion, "walk, 10 % of all", &mut plain, walk(1_000, 26));
    measure(criterion, "walk, 10 % and all viewers", &mut plain, walk(1_000, 256));
    measure(criterion, "teleport, 10 % and all viewers", &mut plain, Moves { entities: 1_000, bodies: 256, step: SIDE });
    measure(
        criterion,
        "walk, 10 % and all viewers, team and near",
        &mut Plain::new(10_000, 256, Audience::mask(1).near()),
        walk(1_000, 256),
    );
    measure(criterion, "walk, public", &mut Plain::new(10_000, 256, Audience::EVERYONE), walk(1_000, 256));
}

criterion_group! {
    name = audience;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = workloads
}
criterion_main!(audience);
