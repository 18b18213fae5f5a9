//! What every room and every client knows without being told: users, what belongs to them, and the facts about them.

use std::any::TypeId;

use bevy_app::App;
use bevy_ecs::prelude::*;
use serde::{Deserialize, Serialize};

use super::ids::{EntityId, FactSeq};
use super::registry::ProtocolAppExt;

/// Registers the facts that every protocol has.
pub(crate) fn register_built_in(app: &mut App) {
    app.stateless_fact::<RoomCreated>("room_created").stateless_fact::<SceneReset>("scene_reset");
    app.stateless_fact::<Reverted>("reverted").fact::<UserJoined>("user_joined").fact::<UserLeft>("user_left");
}

/// Whether a fact is one that only the room itself can tell.
pub(crate) fn is_built_in(fact: TypeId) -> bool {
    let own = [TypeId::of::<RoomCreated>(), TypeId::of::<SceneReset>(), TypeId::of::<Reverted>()];
    own.contains(&fact) || [TypeId::of::<UserJoined>(), TypeId::of::<UserLeft>()].contains(&fact)
}

/// A fact: the room was created. Number 1 of every ledger. Wire name: `room_created`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomCreated {
    /// The room's name.
    pub room: String,
    /// The seed of its chance.
    pub seed: u64,
    /// The level file that it started from.
    pub level: Option<String>,
}

/// A fact: the scene was reset to a stored state. Wire name: `scene_reset`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SceneReset {
    /// The name of the snippet or level.
    pub snippet: String,
}

/// A fact: what an earlier fact changed was undone. Wire name: `reverted`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reverted {
    /// The fact whose changes were undone.
    pub seq: FactSeq,
    /// How many of them were.
    pub undone: u32,
    /// Those that something else has changed since, and that stay: `door123.door_state`. What not everybody may know is not named: everybody hears of this fact.
    pub conflicts: Vec<String>,
}

/// Why a user left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaveReason {
    /// It said so.
    Left,
    /// The server heard nothing of it for too long.
    Timeout,
    /// The server sent it away.
    Kicked,
}

/// A user joined. The room records it when it lets one in. Wire name: `user_joined`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserJoined {
    /// The user, and the id of the entity that its commands come from.
    pub user: EntityId,
    /// The name that others see.
    pub name: String,
}

/// A user left, by its own word or because the server lost it. Wire name: `user_left`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserLeft {
    /// The user.
    pub user: EntityId,
    /// Why.
    pub reason: LeaveReason,
}

/// The entity of a user, and the name that others see. Spawned for it unless the game applies [`UserJoined`] itself.
#[derive(Component, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name.
    pub name: String,
}

/// The entity belongs to another one: an item to a user. A command may name only what is its author's, or nobody's.
///
/// Sync it by `app.sync_relationship::<OwnedBy>("owned_by")`.
#[derive(Component, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[relationship(relationship_target = Owns)]
pub struct OwnedBy(#[entities] pub Entity);

/// What belongs to an entity. Kept by Bevy from [`OwnedBy`].
#[derive(Component, Clone, Debug, Default, PartialEq, Eq)]
#[relationship_target(relationship = OwnedBy)]
pub struct Owns(Vec<Entity>);

impl Owns {
    /// The entities, in the order in which they were gained.
    pub fn iter(&self) -> impl Iterator<Item = Entity> + '_ {
        self.0.iter().copied()
    }
}
