//! What things of the game are made of.
//!
//! Job: the synced components. Invariant: everything the rules remember stands here, so a room that was recovered from
//! its checkpoint goes on exactly as it would have; there is no hidden state in resources or `Local`s.
//!
//! Only unit enums and plain structs: the wire's codec needs no self-describing formats, and JSON stays readable.
//! Points in time are room ticks, because a room has no other clock.
//!
//! May use: serde, the ECS. Never: rules.

use crate::map::Point;
use bevy_ecs::prelude::*;
use roomkeeper::prelude::{EntityId, Quantity};
use roomkeeper::protocol::{Interpolation, RoomTick};
use serde::{Deserialize, Serialize};

/// Where a thing is, in level units; the middle of it. Wire name: `position`, latest.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position(pub Point);

/// How things get from one place to the next: a room that looks back finds them there. Nothing walks or flies further than this in a tick.
pub fn positions() -> Interpolation<Position> {
    Interpolation::linear(|position: &Position| position.0, Position).teleport_beyond(2.0)
}

/// Where a thing faces, in radians counter-clockwise from the x axis. Wire name: `rotation`, latest.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rotation(pub f32);

/// What a player looks like; the mark of a player's entity. Wire name: `avatar`.
#[derive(Component, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Avatar(pub String);

/// Life left, 0 to [`HEALTH_MAX`](crate::rules::tuning::HEALTH_MAX) for a player. Wire name: `health`, a quantity.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health(pub i32);

/// Rounds left, for all weapons together. Wire name: `ammo`, a quantity.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ammo(pub i32);

/// On a player: the weapon in hand. On an item: the weapon it is. Wire name: `weapon`.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weapon(pub WeaponKind);

/// The weapons there are. Everybody has fist and pistol; others are entities that somebody owns (`owned_by`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeaponKind {
    /// Reaches an arm's length and needs no ammunition.
    Fist,
    /// Reaches far.
    Pistol,
    /// Slow and strong.
    Shotgun,
}

/// Something nobody walks, sees or shoots through. Wire name: `wall`.
#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wall {
    /// Half the width and half the height, in level units.
    pub half: Point,
}

/// A wall while it is closed. Wire name: `door`.
#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Door {
    /// Half the width and half the height, in level units.
    pub half: Point,
}

/// Whether a door is in the way. Wire name: `door_state`.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DoorState {
    /// Free to pass.
    Opened,
    /// As good as a wall.
    Closed,
}

/// A door that opens and closes by itself and obeys nobody. Wire name: `door_timer`.
#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DoorTimer {
    /// From one opening to the next, in seconds of room time. The first opening is one such time after the start.
    pub open_every_s: f32,
    /// How long it stays open, in seconds; longer while somebody stands in it.
    pub open_for_s: f32,
}

/// A door that wants a key. Wire name: `lock`.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// The colour the key must have.
    pub key: Colour,
}

/// An item that opens locks of its colour. Wire name: `key`.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key(pub Colour);

/// The colours of keys and locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Colour {
    /// Red.
    Red,
    /// Blue.
    Blue,
    /// Yellow.
    Yellow,
}

/// Something to collect by walking over it. Wire name: `item`.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// Health points, rounds or seconds of immunity; 1 for a key or a weapon.
    pub amount: i32,
}

/// The items there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemKind {
    /// Used up at once.
    Health,
    /// Used up at once.
    Immunity,
    /// Used up at once.
    Ammo,
    /// Unique: hidden and owned. Its entity has a [`Key`].
    Key,
    /// Unique: hidden and owned. Its entity has a [`Weapon`].
    Weapon,
}

/// Whether a thing is in the scene. A hidden item cannot be collected, a hidden monster sleeps. Wire name: `visibility`.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visibility(pub bool);

/// A monster. Wire name: `monster`.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Monster(pub MonsterKind);

/// The monsters there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MonsterKind {
    /// Throws weak fireballs now and then.
    Imp,
    /// Throws strong fireballs often.
    Baron,
}

/// What a monster is up to. Wire name: `monster_state`.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MonsterState {
    /// Stands.
    #[serde(rename = "monster_idle")]
    Idle,
    /// Walks from one patrol point to the next.
    #[serde(rename = "monster_patrol")]
    Patrol,
    /// Walks to where it sees or last saw a player.
    #[serde(rename = "monster_chase")]
    Chase,
    /// Was hit a moment ago and does nothing.
    #[serde(rename = "monster_pain")]
    Pain,
    /// Falls; can be neither hit nor feared any more.
    #[serde(rename = "monster_dying")]
    Dying,
}

/// The round a monster makes when it sees nobody. Wire name: `patrol`.
#[derive(Component, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Patrol {
    /// The places, in order, round and round.
    pub points: Vec<Point>,
    /// The number of the place it goes to next.
    pub next: u32,
}

/// The place a monster walks straight to. Wire name: `heading`.
#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heading(pub Point);

/// The tick at which a monster's pain is over. Wire name: `pain_until`.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PainUntil(pub RoomTick);

/// The tick from which a player may fire or a monster may throw again. Wire name: `ready_at`.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyAt(pub RoomTick);

/// What a monster threw. Wire name: `fireball`.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fireball {
    /// Health it takes from a player.
    pub damage: i32,
    /// The monster that threw it.
    pub thrown_by: EntityId,
}

/// Whether a fireball still flies. Wire name: `fireball_state`.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FireballState {
    /// On its way.
    Flying,
    /// Bursts; gone at the end of the tick.
    Hit,
}

/// What a weapon discharged; a fist's blow is a very short bullet. Wire name: `bullet`.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bullet {
    /// Health it takes from a monster.
    pub damage: i32,
    /// The player who fired.
    pub fired_by: EntityId,
}

/// How far back the player who fired saw the world, in 256ths of a tick: the bullet strikes where monsters were then. Wire name: `hindsight`.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hindsight(pub u32);

/// Whether a bullet still flies. Wire name: `bullet_state`.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BulletState {
    /// On its way.
    Flying,
    /// Struck; gone at the end of the tick.
    Hit,
}

/// Where a projectile flies, a displacement of length one. Wire name: `direction`.
#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Direction(pub Point);

/// Where and when a projectile took its present direction. With `direction` it says where the projectile is at any
/// tick, so a client may animate it from one message or follow the streamed `position`: both agree. Wire name: `origin`.
#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The place.
    pub at: Point,
    /// The tick.
    pub since: RoomTick,
}

/// Fireballs do no harm before this tick. Wire name: `immune_until`.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Immunity {
    /// The first tick at which they do again.
    pub until_tick: RoomTick,
}

/// How far a player may still go at once. It grows with every tick up to a bound, so moves that arrive together after
/// a hiccup of the network all count, and no player is faster than another for long. Wire name: `stride`.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stride {
    /// Level units, as of `tick`.
    pub left: f32,
    /// When it was last used.
    pub tick: RoomTick,
}

/// The way out. Wire name: `exit`.
#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// How near a player must come, in level units.
    pub radius: f32,
}

/// Of a player `alive` or `died`; of the game `playing`, `level_won` or `level_lost`. Wire name: `status`.
#[derive(Component, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status(pub String);

impl Status {
    /// A player who acts.
    pub const ALIVE: &str = "alive";
    /// A player who does not any more.
    pub const DIED: &str = "died";
    /// A level that goes on.
    pub const PLAYING: &str = "playing";
    /// A level that somebody left through the exit.
    pub const WON: &str = "level_won";
    /// A level in which everybody died.
    pub const LOST: &str = "level_lost";

    /// Whether the status is this one.
    pub fn is(&self, status: &str) -> bool {
        self.0 == status
    }
}

/// What an entity is for; `game_state` marks the one that stands for the level. Wire name: `tag`.
#[derive(Component, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag(pub String);

/// Where players begin. Wire name: `spawn_point`.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnPoint {
    /// The smallest free one is taken.
    pub order: u32,
}

impl Quantity for Health {
    type Amount = i32;

    fn amount(&self) -> i32 {
        self.0
    }

    fn set_amount(&mut self, amount: i32) {
        self.0 = amount;
    }
}

impl Quantity for Ammo {
    type Amount = i32;

    fn amount(&self) -> i32 {
        self.0
    }

    fn set_amount(&mut self, amount: i32) {
        self.0 = amount;
    }
}
