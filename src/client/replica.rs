//! The client's copy of a room: real components on real entities of the game's own world.

use bevy_ecs::change_detection::Tick;
use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use bevy_platform::collections::HashMap;

use super::journal::{Ahead, Predicted, Touches};
use crate::protocol::{ChangedComponents, EntityId, FactSeq, NetId, NetMap, Protocol, Resume, RoomId, RoomTick, Rows, StateHash, Versions};

/// The id of a room without a name, [`RoomId::named`]`("")`: worked out once, since a replica is taken out of its world at each message.
const NOWHERE: RoomId = RoomId::from_uuid(uuid::Uuid::from_u128(0x0a68_eb57_c88a_5f34_9e9d_27f8_5e68_af4f));

/// The client's copy of a room. A resource of the game's world, added by [`ReplicaPlugin`](super::ReplicaPlugin).
#[derive(Resource, Debug)]
pub struct Replica {
    pub(crate) room: RoomId,
    pub(crate) room_name: String,
    pub(crate) user: EntityId,
    pub(crate) tick: RoomTick,
    /// Which run of the room this is a state of.
    pub(crate) epoch: u64,
    /// The tick as of which all values of `latest` components are here.
    pub(crate) complete: RoomTick,
    /// True while what is here is a whole state of the room, with which a host could go on.
    pub(crate) whole: bool,
    pub(crate) live: bool,
    pub(crate) map: NetMap,
    pub(crate) by_id: HashMap<EntityId, Entity>,
    pub(crate) checker: Option<Checker>,
    pub(crate) batches: u64,
    /// As of which ticks the values of `latest` components are.
    pub(crate) versions: Versions,
    /// The newest tick that the host spoke of.
    pub(crate) heard: RoomTick,
    /// What messages did, kept for a prediction.
    pub(crate) touches: Option<Touches>,
    /// What a prediction has created that the room has not yet.
    pub(crate) ahead: Ahead,
}

/// What a replica keeps to compare itself with the hashes on the batches.
#[derive(Debug)]
pub(crate) struct Checker {
    pub(crate) since: Tick,
    pub(crate) hash: StateHash,
    pub(crate) rows: Rows,
    pub(crate) changed: ChangedComponents,
}

impl Default for Replica {
    fn default() -> Self {
        Self {
            room: NOWHERE,
            room_name: String::new(),
            user: EntityId::NIL,
            tick: RoomTick(0),
            epoch: 0,
            complete: RoomTick(0),
            whole: false,
            live: false,
            map: NetMap::default(),
            by_id: HashMap::default(),
            checker: None,
            batches: 0,
            versions: Versions::default(),
            heard: RoomTick(0),
            touches: None,
            ahead: Ahead::default(),
        }
    }
}

impl Replica {
    /// Takes it out of its world, to be changed beside it. An empty one stands in for it that knows where and whose it is: Bevy's own observers and hooks,
    /// which hear of each component at once, may ask for that.
    pub(crate) fn take_out(world: &mut World) -> Self {
        let here = &mut *world.resource_mut::<Self>();
        let stand_in = Self { room: here.room, room_name: here.room_name.clone(), user: here.user, ..Self::default() };
        std::mem::replace(here, stand_in)
    }

    /// Takes note that all of the room's state as of a tick is here.
    pub(crate) fn completed(&mut self, tick: RoomTick) {
        (self.tick, self.complete, self.whole) = (tick, tick, true);
        // Everything is hashed at the next check.
        self.checker = None;
    }

    /// What a host could go on with.
    pub(crate) fn resumable(&self) -> Option<Resume> {
        // Epoch 0 says that the host goes on with nothing.
        let is_held = self.whole && self.epoch != 0;
        is_held.then_some(Resume { room: self.room, epoch: self.epoch, tick: self.tick, latest: self.complete })
    }

    /// The entity of the client's world that stands for an id.
    pub fn entity(&self, id: EntityId) -> Option<Entity> {
        self.by_id.get(&id).or_else(|| self.ahead.get(&id)).copied()
    }

    /// The client's own user, whose entity its commands come from; the nil id for a spectator.
    pub fn user(&self) -> EntityId {
        self.user
    }

    /// The entity of the client's own user.
    pub fn user_entity(&self) -> Option<Entity> {
        self.entity(self.user)
    }

    /// The tick whose state this is: that of the newest packet that came. What is ordered may still be on its way; see
    /// [`ordered_tick`](Self::ordered_tick).
    pub fn tick(&self) -> RoomTick {
        self.tick.max(self.heard)
    }

    /// The tick of the last batch that is in: everything that is not `latest` is as of it.
    pub fn ordered_tick(&self) -> RoomTick {
        self.tick
    }

    /// True once the snapshot is in.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// The room's name.
    pub fn room_name(&self) -> &str {
        &self.room_name
    }

    /// The room's id.
    pub fn room(&self) -> RoomId {
        self.room
    }

    /// How many entities the room has.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// True if the room has none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// How many batches were applied to it, in whatever rooms.
    pub fn batches(&self) -> u64 {
        self.batches
    }

    /// The entities of the room, by their net ids.
    pub fn entities(&self) -> impl Iterator<Item = (NetId, Entity)> + '_ {
        self.map.iter()
    }

    /// Makes place for more entities, whose net ids ascend.
    pub(crate) fn reserve(&mut self, net_ids: &[NetId]) {
        self.by_id.reserve(net_ids.len());
        net_ids.last().into_iter().for_each(|last| self.map.reach(*last));
    }

    /// The entity that was created ahead of the room's with that id, if one was: bare, to become the room's.
    pub(crate) fn adopt(&mut self, world: &mut World, protocol: &Protocol, id: EntityId) -> Option<Entity> {
        // It is asked of each entity that comes, and as a rule there is none.
        let entity = if self.ahead.is_empty() { None } else { self.ahead.remove(&id) }?;
        for entry in &protocol.components {
            entry.column.strip(world, entity);
        }
        world.get_entity_mut(entity).ok()?.remove::<(Predicted, Disabled)>();
        Some(entity)
    }

    /// Takes in an entity. True if there is one of that id already.
    pub(crate) fn enter(&mut self, net_id: NetId, id: EntityId, entity: Entity) -> bool {
        self.map.set(net_id, entity);
        self.by_id.insert(id, entity).is_some()
    }
}

/// The replica differs from its room: one component of one entity. It is about to be put right.
#[derive(Event, Clone, Debug, PartialEq)]
pub struct Diverged {
    /// The tick in which the difference was found.
    pub tick: RoomTick,
    /// The entity, as people write it.
    pub entity: String,
    /// Its id.
    pub id: EntityId,
    /// The component's wire name.
    pub component: String,
    /// The value in the replica, as JSON; nothing if it has none.
    pub ours: Option<serde_json::Value>,
    /// The value in the room, as JSON; nothing if it has none.
    pub theirs: Option<serde_json::Value>,
}

/// A fact of whatever kind happened: as plain data, for what shows any game's facts. Comes after [`Happened`](crate::protocol::Happened), and
/// costs nothing where nobody observes it.
#[derive(Event, Clone, Debug, PartialEq)]
pub struct AnyHappened {
    /// Its wire name.
    pub name: String,
    /// What it says.
    pub json: serde_json::Value,
    /// Its number in the room's ledger.
    pub seq: FactSeq,
    /// The tick in which it happened.
    pub tick: RoomTick,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_of_no_name_has_the_id_of_no_name() {
        assert_eq!(NOWHERE, RoomId::named(""));
    }
}
