//! The numbers that make the game hard or easy. Times are in ticks of 50 ms, lengths in level units.

use crate::components::{MonsterKind, WeaponKind};
use roomkeeper::protocol::RoomTick;

/// Ticks in a second.
pub const TICKS_PER_S: f32 = 20.0;

/// Half the breadth of a player.
pub const PLAYER_RADIUS: f32 = 0.4;
/// Half the breadth of a monster.
pub const MONSTER_RADIUS: f32 = 0.45;
/// Half the breadth of a fireball. A bullet has none.
pub const FIREBALL_RADIUS: f32 = 0.2;

/// How far a player goes in a tick: 5 units a second.
pub const PLAYER_STEP: f32 = 0.25;
/// How far a player may go at once after standing still; four ticks' worth, for commands that arrive together.
pub const STRIDE_MAX: f32 = 4.0 * PLAYER_STEP;
/// A move further than this is no walk but an attempt to teleport. Between this and the stride the walk is cut short.
pub const TOO_FAST: f32 = 2.0 * STRIDE_MAX;

/// A player's health at the start, and the most a medical kit restores to.
pub const HEALTH_MAX: i32 = 100;
/// The rounds a player starts with.
pub const AMMO_START: i32 = 30;
/// The most rounds a player carries.
pub const AMMO_MAX: i32 = 60;

/// How near a player collects an item, from middle to middle.
pub const COLLECT_REACH: f32 = 0.8;
/// How near a player must stand to open a door, from middle to the nearest place of the door.
pub const DOOR_REACH: f32 = 1.5;

/// How far a monster goes in a tick: 2 units a second.
pub const MONSTER_STEP: f32 = 0.1;
/// How far a monster sees.
pub const MONSTER_SIGHT: f32 = 14.0;
/// How far a monster throws.
pub const THROW_REACH: f32 = 12.0;
/// How near a monster comes; it prefers to keep its distance.
pub const MONSTER_HOLD: f32 = 3.5;
/// A player must have gone this far from where a monster heads before it turns.
pub const RETHINK: f32 = 1.5;
/// How long a monster that was hit does nothing.
pub const PAIN_TICKS: u32 = 6;

/// How far a fireball flies in a tick: 7 units a second.
pub const FIREBALL_STEP: f32 = 0.35;
/// How long a fireball flies at most.
pub const FIREBALL_LIFE_MILLIS: u32 = 3_000;
/// How often a fireball looks where its prey is.
pub const FIREBALL_TURN_EVERY_TICKS: u32 = 10;
/// Cosine and sine of the most it turns then: 15 degrees.
pub const FIREBALL_TURN: [f32; 2] = [0.965_925_8, 0.258_819_05];
/// How far a bullet flies in a tick: 20 units a second.
pub const BULLET_STEP: f32 = 1.0;

/// How long something that struck stays, so that clients see it strike: less than a tick.
pub const STRUCK_MILLIS: u32 = 10;
/// How long a monster lies before it is gone.
pub const DYING_MILLIS: u32 = 2_000;
/// What a tick lasts.
pub const TICK_MILLIS: u32 = 50;

/// What a weapon can do.
#[derive(Clone, Copy, Debug)]
pub struct Discharge {
    /// Health it takes.
    pub damage: i32,
    /// How many ticks its bullet flies.
    pub flight_ticks: u32,
    /// Ticks until the next.
    pub reload_ticks: u32,
    /// Rounds it uses.
    pub rounds: i32,
}

/// What each weapon can do.
pub fn discharge(weapon: WeaponKind) -> Discharge {
    let (damage, flight_ticks, reload_ticks, rounds) = match weapon {
        WeaponKind::Fist => (15, 2, 10, 0),
        WeaponKind::Pistol => (12, 16, 8, 1),
        WeaponKind::Shotgun => (35, 9, 18, 1),
    };
    Discharge { damage, flight_ticks, reload_ticks, rounds }
}

/// Damage of a monster's fireball and ticks between two throws.
pub fn throws(kind: MonsterKind) -> (i32, u32) {
    match kind {
        MonsterKind::Imp => (10, 40),
        MonsterKind::Baron => (20, 16),
    }
}

/// A tick so many ticks later.
pub fn later(tick: RoomTick, ticks: u32) -> RoomTick {
    RoomTick(tick.0.saturating_add(ticks))
}

/// Seconds in a level file as ticks, at least one.
pub fn ticks(seconds: f32) -> u32 {
    // A saturating cast: a level file may say anything.
    (libm::roundf(seconds * TICKS_PER_S) as u32).max(1)
}
