//! What a player may ask for. Items need no command: whoever walks over one collects it.
//!
//! May use: serde, components. Never: rules.

use crate::components::WeaponKind;
use crate::map::Point;
use roomkeeper::prelude::EntityId;
use serde::{Deserialize, Serialize};

/// Go to a place within a few steps. Wire name: `move`. Refused: `too_fast`, `dead`, `level_over`, `bad_place`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Move {
    /// The place. The walk ends earlier at a wall, or where a player's speed ends.
    pub to: Point,
}

/// Discharge the weapon in hand. Wire name: `fire`. Refused: `no_ammo`, `reloading`, `dead`, `level_over`, `bad_aim`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fire {
    /// A direction of any length but none.
    pub aim: Point,
}

/// Open a door. Wire name: `open_door`. Refused: `too_far`, `locked`, `on_a_timer`, `already_opened`, `not_a_door`,
/// `dead`, `level_over`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenDoor {
    /// Which.
    pub door: EntityId,
}

/// Take another weapon in hand. Wire name: `switch_weapon`. Refused: `not_owned`, `already_in_hand`, `dead`,
/// `level_over`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SwitchWeapon {
    /// Which.
    pub weapon: WeaponKind,
}
