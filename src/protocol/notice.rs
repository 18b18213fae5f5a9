//! What a world is told about its entities, its facts and its commands: events for observers.

use std::ops::Deref;

use bevy_ecs::prelude::*;

use super::ids::{CommandId, EntityId, FactSeq, RoomTick};

/// A fact happened. In a room its one observer applies it to the state; in a replica observers show it (a sound, a
/// subtitle), after the state of its tick has been applied.
#[derive(Event, Debug, Clone)]
pub struct Happened<F: Send + Sync + 'static> {
    /// What happened.
    pub fact: F,
    /// Its number in the room's ledger.
    pub seq: FactSeq,
    /// The tick in which it happened.
    pub tick: RoomTick,
    /// The user whose command brought it about, if one did.
    pub author: Option<EntityId>,
}

impl<F: Send + Sync + 'static> Deref for Happened<F> {
    type Target = F;
    fn deref(&self) -> &F {
        &self.fact
    }
}

/// A replica gained an entity, with all its components.
#[derive(Event, Debug, Clone, Copy)]
pub struct EntityAdded {
    /// The entity in the client's world.
    pub entity: Entity,
    /// Its id.
    pub id: EntityId,
}

/// A replica is about to lose an entity. Its components can still be read; it is despawned right after.
#[derive(Event, Debug, Clone, Copy)]
pub struct EntityRemoved {
    /// The entity in the client's world.
    pub entity: Entity,
    /// Its id.
    pub id: EntityId,
    /// Why.
    pub why: Removal,
}

/// Why a replica loses an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The room has it no more.
    Gone,
    /// It lives on, out of this client's sight.
    OutOfSight,
    /// One or the other: it was not in a snapshot that put the replica right.
    Unknown,
}

/// Operations changed, added or removed a component of an entity that the replica already had: once a batch, however many
/// operations there were. Comes from applying operations, so what the game itself writes into its world does not trigger it.
#[derive(Event, Debug, Clone)]
pub struct ComponentChanged<T: Send + Sync + 'static> {
    /// The entity in the client's world; the new value is its component.
    pub entity: Entity,
    /// Its id.
    pub id: EntityId,
    /// The value before, if there was one. Relationships don't keep it.
    pub old: Option<T>,
    /// True if the entity no longer has the component.
    pub removed: bool,
}

/// The room accepted a command of this client.
#[derive(Event, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The number that the client gave it.
    pub id: CommandId,
    /// The tick in which its facts happened.
    pub tick: RoomTick,
}

/// What a command of this client did is stored: it would survive the end of the host. Comes after [`Accepted`], from hosts that store; not for
/// what was accepted before a client joined anew.
#[derive(Event, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durable {
    /// The number that the client gave it.
    pub id: CommandId,
    /// The tick in which its facts happened.
    pub tick: RoomTick,
}

/// The room rejected a command of this client. Nothing happened.
#[derive(Event, Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The number that the client gave it.
    pub id: CommandId,
    /// Why, in a form that a program can act on: `no_ammo`.
    pub code: String,
    /// Why, for a person; may be empty.
    pub detail: String,
}
