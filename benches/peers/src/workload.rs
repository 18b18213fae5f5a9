//! The workloads: what the world holds, and what changes in it each tick.
//!
//! Everything here is chosen by a seeded generator and knows no contestant, so that all of them replicate the same game.

use bevy::prelude::*;
use rand_core::{RngCore, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

/// Where an entity is, in metres.
// The summary tick is there for contestants that look at it. It makes a mutation dearer by about a nanosecond, for the game
// without replication as well.
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub struct Position {
    /// East.
    pub x: f32,
    /// Up.
    pub y: f32,
    /// South.
    pub z: f32,
}

/// How an entity is turned: a unit quaternion.
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub struct Rotation {
    /// i
    pub x: f32,
    /// j
    pub y: f32,
    /// k
    pub z: f32,
    /// The real part.
    pub w: f32,
}

/// Hit points.
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub struct Health(pub i32);

/// Which sort of thing an entity is.
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub struct Kind(pub u8);

/// Gives some entities an archetype of their own. Not replicated.
#[derive(Component, Clone, Copy)]
pub struct Mover;

/// What every entity carries.
pub type Thing = (Position, Rotation, Health, Kind);

/// The bits of a [`Thing`].
pub type Bits = [u32; 9];

/// The bits of the four components of an entity, or nothing if one of them is missing.
pub fn bits(entity: EntityRef) -> Option<Bits> {
    let (p, r) = (entity.get::<Position>()?, entity.get::<Rotation>()?);
    let (health, kind) = (entity.get::<Health>()?, entity.get::<Kind>()?);
    let [px, py, pz] = [p.x, p.y, p.z].map(f32::to_bits);
    let [rx, ry, rz, rw] = [r.x, r.y, r.z, r.w].map(f32::to_bits);
    Some([px, py, pz, rx, ry, rz, rw, health.0.cast_unsigned(), kind.0.into()])
}

/// What happens in a workload.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Play {
    /// Random entities get a new position, and a new rotation if `turn`.
    Move {
        /// Whether the rotation changes too.
        turn: bool,
    },
    /// As `Move` without turning, but the same entities in every tick, in an archetype of their own.
    Movers,
    /// Nothing.
    Still,
    /// Nothing in the world, but clients join one after the other.
    Join,
    /// Random entities are despawned, and as many others spawned.
    Churn,
    /// Random entities take a step, and every member sees those near its own: see `sight`.
    Walk,
}

/// A world, its audience, and what changes.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Its number and name.
    pub name: &'static str,
    /// How many entities the world holds at the end of each tick.
    pub entities: usize,
    /// How many clients are connected. For [`Play::Join`]: those who are there before the one who joins.
    pub clients: usize,
    /// What happens.
    pub play: Play,
    /// How many entities it happens to in each tick.
    pub changed: usize,
    /// Ticks (or joins) that are measured in a round.
    pub samples: usize,
}

const fn workload(name: &'static str, entities: usize, clients: usize, play: Play, changed: usize, samples: usize) -> Workload {
    Workload { name, entities, clients, play, changed, samples }
}

/// All workloads, in the order of the table.
pub const WORKLOADS: [Workload; 9] = [
    workload("W1 arena", 1_000, 32, Play::Move { turn: true }, 100, 500),
    workload("W2 crowd", 10_000, 32, Play::Move { turn: false }, 100, 160),
    workload("W2s crowd, movers apart", 10_000, 32, Play::Movers, 100, 400),
    workload("W3 idle", 10_000, 32, Play::Still, 0, 800),
    workload("W4 join, 0 others", 10_000, 0, Play::Join, 0, 30),
    workload("W4 join, 31 others", 10_000, 31, Play::Join, 0, 15),
    workload("W5 churn", 1_000, 32, Play::Churn, 50, 500),
    workload("W6 many", 1_000, 256, Play::Move { turn: true }, 100, 80),
    workload("V sight", 10_000, 256, Play::Walk, 1_000, 40),
];

impl Workload {
    /// The number, which stands first in the name.
    pub fn number(&self) -> &'static str {
        self.name.split_whitespace().next().unwrap_or(self.name)
    }

    /// What the world holds in the beginning, slot by slot.
    pub fn things(&self) -> impl Iterator<Item = Thing> {
        let mut dice = Dice::new(0xe471);
        (0..self.entities).map(move |_| dice.thing())
    }
}

/// What changes in one tick. A slot is an index into the entities of a [`Population`]; the slots of a tick are distinct.
#[derive(Default, Debug)]
pub struct Changes {
    /// Slots that get a new position, and perhaps a new rotation.
    pub moves: Vec<(usize, Position, Option<Rotation>)>,
    /// Slots whose entity is despawned and another spawned.
    pub replaced: Vec<(usize, Thing)>,
}

/// Half the width of the square that walkers stay in, in metres.
pub const WORLD_HALF: f32 = 500.0;

/// The longest step of a walker along each axis, in metres: 20 a second are a fast run.
const STEP: f32 = 0.5;

/// Writes the changes of one tick after the other, the same for everybody.
pub struct Script {
    workload: Workload,
    dice: Dice,
    slots: Vec<usize>,
    /// Where the walkers are; empty where nobody walks.
    places: Vec<Position>,
}

impl Script {
    /// The script of a workload.
    pub fn new(workload: &Workload) -> Self {
        let places = if workload.play == Play::Walk { workload.things().map(|(place, ..)| place).collect() } else { Vec::new() };
        Self { workload: *workload, dice: Dice::new(0x5c81), slots: (0..workload.entities).collect(), places }
    }

    /// What changes in the next tick.
    pub fn next_tick(&mut self) -> Changes {
        let mut changes = Changes::default();
        if self.workload.play != Play::Movers {
            self.shuffle();
        }
        for &slot in &self.slots[..self.workload.changed] {
            match self.workload.play {
                Play::Move { turn } => changes.moves.push((slot, self.dice.position(), turn.then(|| self.dice.rotation()))),
                Play::Movers => changes.moves.push((slot, self.dice.position(), None)),
                Play::Churn => changes.replaced.push((slot, self.dice.thing())),
                Play::Walk => {
                    let place = &mut self.places[slot];
                    place.x = (place.x + self.dice.unit() * STEP).clamp(-WORLD_HALF, WORLD_HALF);
                    place.z = (place.z + self.dice.unit() * STEP).clamp(-WORLD_HALF, WORLD_HALF);
                    changes.moves.push((slot, *place, None));
                }
                Play::Still | Play::Join => {}
            }
        }
        changes
    }

    /// A partial shuffle: the first slots become distinct random ones.
    fn shuffle(&mut self) {
        for n in 0..self.workload.changed {
            let other = n + self.dice.below(self.slots.len() - n);
            self.slots.swap(n, other);
        }
    }
}

/// The entities of a server's world.
pub struct Population {
    slots: Vec<Entity>,
}

impl Population {
    /// Fills a world. Every entity also gets `extra`: what a contestant needs to replicate it.
    pub fn spawn<B: Bundle + Clone>(workload: &Workload, world: &mut World, extra: B) -> Self {
        Self::spawn_each(workload, world, |_| extra.clone())
    }

    /// Fills a world. The entity of each slot gets an `extra` of its own.
    pub fn spawn_each<B: Bundle>(workload: &Workload, world: &mut World, extra: impl Fn(usize) -> B) -> Self {
        let slots = workload
            .things()
            .enumerate()
            .map(|(slot, thing)| {
                let mut entity = world.spawn((thing, extra(slot)));
                if workload.play == Play::Movers && slot < workload.changed {
                    entity.insert(Mover);
                }
                entity.id()
            })
            .collect();
        Self { slots }
    }

    /// Plays the changes of a tick. The `extra` is that of [`Population::spawn`].
    pub fn change<B: Bundle + Clone>(&mut self, changes: &Changes, world: &mut World, extra: B) {
        for &(slot, position, rotation) in &changes.moves {
            let mut entity = world.entity_mut(self.slots[slot]);
            *entity.get_mut::<Position>().expect("every entity has a position") = position;
            if let Some(rotation) = rotation {
                *entity.get_mut::<Rotation>().expect("every entity has a rotation") = rotation;
            }
        }
        for &(slot, _) in &changes.replaced {
            world.despawn(self.slots[slot]);
        }
        for &(slot, thing) in &changes.replaced {
            self.slots[slot] = world.spawn((thing, extra.clone())).id();
        }
    }

    /// The entities that are alive.
    pub fn entities(&self) -> &[Entity] {
        &self.slots
    }
}

/// Seeded chance.
struct Dice(Pcg64Mcg);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed))
    }

    fn below(&mut self, bound: usize) -> usize {
        // Slightly uneven for bounds that are no power of two; of no account here.
        ((u64::from(self.0.next_u32()) * bound as u64) >> 32) as usize
    }

    /// Within -1 and 1, with all bits of the mantissa in use.
    fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / (1_u32 << 23) as f32 - 1.0
    }

    fn position(&mut self) -> Position {
        let [x, y, z] = [self.unit(), self.unit(), self.unit()].map(|unit| unit * WORLD_HALF);
        Position { x, y, z }
    }

    fn rotation(&mut self) -> Rotation {
        loop {
            let [x, y, z, w] = [self.unit(), self.unit(), self.unit(), self.unit()];
            let length = (x * x + y * y + z * z + w * w).sqrt();
            if length > 0.1 {
                return Rotation { x: x / length, y: y / length, z: z / length, w: w / length };
            }
        }
    }

    fn thing(&mut self) -> Thing {
        let (health, kind) = (self.below(100), self.below(8));
        (self.position(), self.rotation(), Health(health as i32), Kind(kind as u8))
    }
}
