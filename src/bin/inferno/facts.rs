//! What happens in the game, past tense. Two more are the library's: `user_joined` and `user_left`.
//!
//! Motion: not every step is a fact; the batch records the steps. `player_moved` is an accepted move command.
//! `monster_moved` is a monster that sets out, turns or stops, and names the place it goes to. `fireball_moved` is a
//! fireball that takes a new direction; until the next one its flight is a straight line at a known speed.
//!
//! Facts carry what cannot be worked out again from them and the state they are applied to: ids of new things, places,
//! amounts after all rules. So replaying facts needs no rules, only the observers.
//!
//! May use: serde, components. Never: rules.

use crate::components::{Colour, MonsterKind, MonsterState, WeaponKind};
use crate::map::Point;
use roomkeeper::prelude::EntityId;
use serde::{Deserialize, Serialize};

/// A player took some steps. Wire name: `player_moved`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlayerMoved {
    /// Who.
    pub player: EntityId,
    /// Where the walk ended, walls and speed considered.
    pub to: Point,
    /// The direction of the walk, in radians.
    pub facing: f32,
}

/// A player discharged a weapon. Wire name: `bullet_fired`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BulletFired {
    /// Who.
    pub player: EntityId,
    /// The new bullet.
    pub bullet: EntityId,
    /// With what.
    pub weapon: WeaponKind,
    /// From where.
    pub from: Point,
    /// A direction of length one.
    pub direction: Point,
    /// How far back the player saw the world, in 256ths of a tick. Older ledgers do not say.
    #[serde(default)]
    pub behind: u32,
}

/// A door opened. Wire name: `door_opened`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DoorOpened {
    /// Which.
    pub door: EntityId,
    /// Who opened it; nobody when it opened by itself.
    pub player: Option<EntityId>,
}

/// A door closed by itself. Wire name: `door_closed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DoorClosed {
    /// Which.
    pub door: EntityId,
}

/// A fireball struck a player. Wire name: `player_hit_by_fireball`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlayerHitByFireball {
    /// Who was struck.
    pub player: EntityId,
    /// By which fireball.
    pub fireball: EntityId,
    /// The monster that threw it.
    pub thrown_by: EntityId,
    /// Health it takes; 0 from an immune player.
    pub damage: i32,
}

/// A bullet struck a monster. Wire name: `monster_hit_by_bullet`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MonsterHitByBullet {
    /// Which monster.
    pub monster: EntityId,
    /// Which bullet.
    pub bullet: EntityId,
    /// The player who fired it.
    pub fired_by: EntityId,
    /// Health it takes.
    pub damage: i32,
}

/// A monster has no health left. Wire name: `monster_died`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MonsterDied {
    /// Which.
    pub monster: EntityId,
    /// What it was; the entity is gone when a reader asks.
    pub kind: MonsterKind,
}

/// A player took a weapon from the floor. Wire name: `player_collected_weapon`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlayerCollectedWeapon {
    /// Who.
    pub player: EntityId,
    /// The weapon's entity.
    pub item: EntityId,
    /// What it is.
    pub weapon: WeaponKind,
}

/// A player took another weapon in hand. Wire name: `player_switched_weapon`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlayerSwitchedWeapon {
    /// Who.
    pub player: EntityId,
    /// Which.
    pub weapon: WeaponKind,
}

/// A player used a medical kit. Wire name: `player_collected_health`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlayerCollectedHealth {
    /// Who.
    pub player: EntityId,
    /// The kit, gone now.
    pub item: EntityId,
    /// Health it gives; what exceeds the maximum is lost.
    pub amount: i32,
}

/// A player became immune to fireballs for a while. Wire name: `player_collected_immunity`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlayerCollectedImmunity {
    /// Who.
    pub player: EntityId,
    /// The item, gone now.
    pub item: EntityId,
    /// For how long, in ticks.
    pub for_ticks: u32,
}

/// A player took ammunition. Wire name: `player_collected_ammo`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlayerCollectedAmmo {
    /// Who.
    pub player: EntityId,
    /// The box, gone now.
    pub item: EntityId,
    /// Rounds it gives; what exceeds the maximum is lost.
    pub amount: i32,
}

/// A player took a key. Wire name: `player_collected_key`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlayerCollectedKey {
    /// Who.
    pub player: EntityId,
    /// The key's entity.
    pub item: EntityId,
    /// Its colour.
    pub colour: Colour,
}

/// A player has no health left. Wire name: `player_killed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlayerKilled {
    /// Who.
    pub player: EntityId,
    /// Where; what the player carried lies there.
    pub at: Point,
}

/// A monster set out, turned or stopped. Wire name: `monster_moved`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MonsterMoved {
    /// Which.
    pub monster: EntityId,
    /// Where it was.
    pub from: Point,
    /// Where it goes, straight; its own place when it stops.
    pub to: Point,
    /// What it is up to: idle, patrol or chase.
    pub state: MonsterState,
    /// The number of the patrol point it goes to now or after the chase.
    pub patrol_next: u32,
}

/// A monster threw a fireball. Wire name: `monster_threw_fireball`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MonsterThrewFireball {
    /// Which monster.
    pub monster: EntityId,
    /// The new fireball.
    pub fireball: EntityId,
    /// The player it was meant for.
    pub target: EntityId,
    /// From where.
    pub from: Point,
    /// A direction of length one.
    pub direction: Point,
    /// Health it takes.
    pub damage: i32,
    /// Ticks until the monster may throw again.
    pub ready_after_ticks: u32,
}

/// A fireball took a new direction. Wire name: `fireball_moved`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FireballMoved {
    /// Which.
    pub fireball: EntityId,
    /// Where.
    pub at: Point,
    /// A direction of length one.
    pub direction: Point,
}

/// A player reached the exit. Wire name: `level_won`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LevelWon {
    /// The entity of the game.
    pub game: EntityId,
    /// Who reached it.
    pub player: EntityId,
}

/// Nobody is left alive. Wire name: `level_lost`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LevelLost {
    /// The entity of the game.
    pub game: EntityId,
}
