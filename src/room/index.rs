//! Which entity stands behind which id, and what happened to them since the last batch.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use bevy_ecs::change_detection::Tick;
use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::lifecycle::HookContext;
use bevy_ecs::prelude::*;
use bevy_ecs::world::DeferredWorld;
use bevy_platform::collections::HashMap;

use super::audience::{Audience, Bits};
use crate::protocol::limits::{ENTITIES_MAX, ENTITY_NAME_BYTES_MAX};
use crate::protocol::{EntityId, Identity, Lost, NetId, Protocol, RoomId, Saved};

/// Where an entity stands between the room and its replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotState {
    /// Nobody has the number.
    Free,
    /// Spawned since the last batch.
    Born,
    /// The replicas know it.
    Shown,
    /// It lives, but the replicas don't know it: it is `Disabled`.
    Hidden,
    /// Despawned since the last batch; the number is freed when the batch has told.
    Buried,
}

#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) entity: Entity,
    pub(crate) id: EntityId,
    pub(crate) identity: Identity,
    pub(crate) state: SlotState,
    /// When it was spawned.
    pub(crate) born: Tick,
    /// The next batch for all may not tell of it. Set at once when it gets its [`Audience`]; kept while it is buried, and until the
    /// viewers have been told that it became public.
    pub(crate) restricted: bool,
}

/// A value that died with its entity before a batch told it.
#[derive(Debug)]
pub(crate) struct LastValue {
    pub(crate) component: usize,
    pub(crate) id: NetId,
    pub(crate) tick: Tick,
    pub(crate) bytes: Vec<u8>,
}

/// An entity that was despawned since the last batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Death {
    pub(crate) id: NetId,
    /// True if the replicas, or this batch's creates, know it.
    pub(crate) told: bool,
    /// True if it was born since the last batch too.
    pub(crate) newborn: bool,
    pub(crate) tick: Tick,
}

/// The entities of a room by their ids. Commands and facts name entities by id, systems have them as Bevy's `Entity`.
///
/// ```
/// use bevy_ecs::prelude::*;
/// use roomkeeper::prelude::*;
///
/// #[derive(Component)]
/// struct Apples(u32);
/// #[derive(Clone)]
/// struct Picked { tree: EntityId }
///
/// fn pick(picked: On<Happened<Picked>>, index: Res<EntityIndex>, mut trees: Query<&mut Apples>) {
///     // It may be gone by now.
///     let tree = index.entity(picked.tree);
///     if let Some(mut apples) = tree.and_then(|tree| trees.get_mut(tree).ok()) {
///         apples.0 -= 1;
///     }
/// }
/// ```
#[derive(Resource, Debug)]
pub struct EntityIndex {
    room: RoomId,
    by_id: HashMap<EntityId, NetId>,
    pub(crate) slots: Vec<Slot>,
    free: BinaryHeap<Reverse<u32>>,
    next_serial: u64,
    /// The numbers that the next entities are to have, and who they are: so it was in another process.
    expected: VecDeque<(NetId, Identity)>,
    pub(crate) born: Vec<NetId>,
    pub(crate) toggled: Vec<NetId>,
    pub(crate) deaths: Vec<Death>,
    pub(crate) last_values: Vec<LastValue>,
    /// Set once the room has more entities than a batch can name.
    pub(crate) full: bool,
    /// How many slots are restricted.
    restricted: usize,
    /// The numbers of the entities of which something changed that decides who sees them.
    pub(crate) touched: Bits,
}

impl EntityIndex {
    pub(crate) fn new(room: RoomId) -> Self {
        Self {
            room,
            by_id: HashMap::default(),
            slots: Vec::new(),
            free: BinaryHeap::new(),
            next_serial: 1,
            expected: VecDeque::new(),
            born: Vec::new(),
            toggled: Vec::new(),
            deaths: Vec::new(),
            last_values: Vec::new(),
            full: false,
            restricted: 0,
            touched: Bits::default(),
        }
    }

    /// The entity with that id, if the room has one.
    pub fn entity(&self, id: EntityId) -> Option<Entity> {
        self.slot(*self.by_id.get(&id)?).map(|slot| slot.entity)
    }

    /// The id as people write it: the readable name of the level if there is one, else the UUID.
    pub fn display(&self, id: EntityId) -> String {
        let slot = self.by_id.get(&id).and_then(|net_id| self.slot(*net_id));
        slot.map_or_else(|| id.to_string(), |slot| slot.identity.display(self.room))
    }

    /// How many entities the room keeps synced.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// True if the room keeps none synced.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The id of the room.
    pub fn room(&self) -> RoomId {
        self.room
    }

    pub(crate) fn slot(&self, id: NetId) -> Option<&Slot> {
        self.slots.get(id.get() as usize)
    }

    pub(crate) fn state(&self, id: u32) -> SlotState {
        self.slots.get(id as usize).map_or(SlotState::Free, |slot| slot.state)
    }

    pub(crate) fn set_state(&mut self, id: NetId, state: SlotState) {
        if let Some(slot) = self.slots.get_mut(id.get() as usize) {
            slot.state = state;
        }
        self.touched.set(id.get());
    }

    /// True if the next batch for all may not tell of the entity with that number: not everyone may see it, or it has just become public,
    /// and [`Viewers`](super::Viewers) that don't know it are to be told of it first.
    pub fn is_restricted(&self, id: NetId) -> bool {
        self.slot(id).is_some_and(|slot| slot.restricted)
    }

    /// True if there is any such entity.
    pub fn any_restricted(&self) -> bool {
        self.restricted > 0
    }

    /// Takes note of who may see an entity.
    pub(crate) fn restrict(&mut self, id: NetId, restricted: bool) {
        self.touched.set(id.get());
        // Those who know it are all only after the viewers' next update.
        if restricted || self.state(id.get()) != SlotState::Shown {
            self.set_restricted(id, restricted);
        }
    }

    /// Lets the next batch for all tell of an entity, or not.
    pub(crate) fn set_restricted(&mut self, id: NetId, restricted: bool) {
        let Some(slot) = self.slots.get_mut(id.get() as usize) else { return };
        match (std::mem::replace(&mut slot.restricted, restricted), restricted) {
            (false, true) => self.restricted += 1,
            (true, false) => self.restricted -= 1,
            _ => {}
        }
    }

    /// Mints an id ahead of its entity, so that a fact can name what it will create. Spawn the entity with it.
    pub fn mint(&mut self) -> EntityId {
        let serial = self.next_free_serial();
        EntityId::minted(self.room, serial)
    }

    /// The next serial whose id nobody has. A level that was exported from a room of the same name, or a stored state, may have brought one that the
    /// room has not come to yet.
    fn next_free_serial(&mut self) -> u64 {
        loop {
            let serial = self.next_serial;
            self.next_serial += 1;
            if !self.by_id.contains_key(&EntityId::minted(self.room, serial)) {
                return serial;
            }
        }
    }

    /// Gives an entity a number and, if it asks for none or for one that is taken, an id.
    fn enter(&mut self, entity: Entity, asked: EntityId, name: Option<&str>, born: Tick) -> (NetId, EntityId) {
        let (number, known_as) = self.number();
        let taken = self.by_id.contains_key(&asked);
        if taken {
            tracing::error!(room = %self.room, id = %asked, "an entity was spawned with the id of another one; it is given a new id");
        }
        let (id, identity) = match asked.is_nil() || taken {
            true => {
                let serial = self.next_free_serial();
                (EntityId::minted(self.room, serial), Identity::Minted(serial))
            }
            // In batches an id of the room's own form is a foreign one if it came before the room had minted so far: as that it is stored, and as
            // that it goes on, however far the room has come.
            false => {
                let known_as = known_as.filter(|identity| identity.id(self.room) == asked);
                (asked, known_as.unwrap_or_else(|| self.identity_of(asked, name)))
            }
        };
        let net_id = NetId(number);
        let slot = Slot { entity, id, identity, state: SlotState::Born, born, restricted: false };
        match self.slots.get_mut(number as usize) {
            Some(place) => *place = slot,
            None => self.slots.push(slot),
        }
        self.full |= number as usize >= ENTITIES_MAX;
        self.by_id.insert(id, net_id);
        self.born.push(net_id);
        (net_id, id)
    }

    /// Gives an entity of which no batch has told another id, if nobody has that one. False if it keeps its own.
    fn rename(&mut self, id: NetId, asked: EntityId, name: Option<&str>) -> bool {
        let identity = self.identity_of(asked, name);
        let is_free = !asked.is_nil() && !self.by_id.contains_key(&asked);
        let slot = self.slots.get_mut(id.get() as usize).filter(|slot| is_free && slot.state == SlotState::Born);
        let Some(slot) = slot else { return false };
        slot.identity = identity;
        let old = std::mem::replace(&mut slot.id, asked);
        self.by_id.remove(&old);
        self.by_id.insert(asked, id);
        true
    }

    /// Who an entity is that comes with an id.
    fn identity_of(&self, id: EntityId, name: Option<&str>) -> Identity {
        if let Some(serial) = id.serial_in(self.room).filter(|serial| *serial < self.next_serial) {
            return Identity::Minted(serial);
        }
        // What has that name in a file is no entity.
        let is_told = |name: &&str| name.len() <= ENTITY_NAME_BYTES_MAX && *name != Saved::NAME && EntityId::named(name) == id;
        let name = name.filter(is_told);
        name.map_or(Identity::Foreign(id.as_uuid()), |name| Identity::Named(name.to_owned()))
    }

    /// A free number: the one that is expected, with who has it, or else the lowest.
    fn number(&mut self) -> (u32, Option<Identity>) {
        let Some((NetId(number), identity)) = self.expected.pop_front() else {
            return (self.free.pop().map_or(self.slots.len() as u32, |Reverse(number)| number), None);
        };
        while self.slots.len() < number as usize {
            self.free.push(Reverse(self.slots.len() as u32));
            let (id, identity) = (EntityId::NIL, Identity::Minted(0));
            let (entity, born) = (Entity::PLACEHOLDER, Tick::new(0));
            self.slots.push(Slot { entity, id, identity, state: SlotState::Free, born, restricted: false });
        }
        (number, Some(identity))
    }

    /// Lets the next entities have these numbers, which ascend and are free, and be those whom they name. No other entity may come between them.
    pub(crate) fn expect(&mut self, entities: impl Iterator<Item = (NetId, Identity)>) {
        self.expected.extend(entities);
    }

    /// Goes on minting from a serial number.
    pub(crate) fn go_on(&mut self, next_serial: u64) {
        self.next_serial = next_serial.max(1);
    }

    /// The serial number of the next id.
    pub(crate) fn next_serial(&self) -> u64 {
        self.next_serial
    }

    pub(crate) fn net_id(&self, id: EntityId) -> Option<NetId> {
        self.by_id.get(&id).copied()
    }

    fn bury(&mut self, id: NetId, tick: Tick) {
        let Some(slot) = self.slots.get_mut(id.get() as usize) else { return };
        let state = std::mem::replace(&mut slot.state, SlotState::Buried);
        let entity_id = slot.id;
        self.by_id.remove(&entity_id);
        self.deaths.push(Death { id, told: state != SlotState::Hidden, newborn: state == SlotState::Born, tick });
    }

    /// Frees the numbers of the dead: their batch is written.
    pub(crate) fn free_the_dead(&mut self) {
        for death in self.deaths.drain(..) {
            if let Some(slot) = self.slots.get_mut(death.id.get() as usize) {
                slot.state = SlotState::Free;
                self.free.push(Reverse(death.id.get()));
                self.restricted -= usize::from(slot.restricted);
                self.touched.set(death.id.get());
            }
        }
        self.last_values.clear();
    }
}

/// Makes a world keep its [`EntityIndex`] by itself.
pub(crate) fn keep_index(world: &mut World, room: RoomId) {
    world.insert_resource(EntityIndex::new(room));
    world.init_resource::<Lost>();
    world.register_component_hooks::<NetId>().on_add(on_add).on_despawn(on_end).on_remove(on_end);
    world.register_component_hooks::<EntityId>().on_insert(on_named);
    world.add_observer(|added: On<Insert<Disabled>>, ids: Query<&NetId, Allow<Disabled>>, mut index: ResMut<EntityIndex>| {
        if let Ok(id) = ids.get(added.entity) {
            index.toggled.push(*id);
        }
    });
    world.add_observer(|removed: On<Remove<Disabled>>, ids: Query<&NetId, Allow<Disabled>>, mut index: ResMut<EntityIndex>| {
        if let Ok(id) = ids.get(removed.entity) {
            index.toggled.push(*id);
        }
    });
}

fn on_add(mut world: DeferredWorld<'_>, context: HookContext) {
    let entity = context.entity;
    let asked = world.get::<EntityId>(entity).copied().unwrap_or_default();
    let name = world.get::<Name>(entity).map(|name| name.as_str().to_owned());
    let now = world.read_change_tick();
    let restricted = world.get::<Audience>(entity).is_some_and(Audience::is_restricted);
    let mut index = world.resource_mut::<EntityIndex>();
    let (net_id, id) = index.enter(entity, asked, name.as_deref(), now);
    index.restrict(net_id, restricted);
    if let Some(mut slot) = world.get_mut::<NetId>(entity) {
        *slot = net_id;
    }
    if let Some(mut slot) = world.get_mut::<EntityId>(entity).filter(|_| id != asked) {
        *slot = id;
    }
}

/// Somebody gives an entity another id than it has: whoever spawns first and names it then.
fn on_named(mut world: DeferredWorld<'_>, context: HookContext) {
    let entity = context.entity;
    let (Some(net_id), Some(asked)) = (world.get::<NetId>(entity).copied(), world.get::<EntityId>(entity).copied()) else { return };
    let index = world.resource::<EntityIndex>();
    let Some(id) = index.slot(net_id).filter(|slot| slot.entity == entity).map(|slot| slot.id) else { return };
    // So it is for all that come with their ids.
    if id == asked {
        return;
    }
    let name = world.get::<Name>(entity).map(|name| name.as_str().to_owned());
    if world.resource_mut::<EntityIndex>().rename(net_id, asked, name.as_deref()) {
        return;
    }
    tracing::error!(%id, %asked, "an entity gets no other id once it was told of, and none that is taken; spawn it with its id");
    if let Some(mut there) = world.get_mut::<EntityId>(entity) {
        *there = id;
    }
}

/// Keeps what the last batch has not told yet of an entity that is going, while its components can still be read.
fn on_end(mut world: DeferredWorld<'_>, context: HookContext) {
    let entity = context.entity;
    let Some(net_id) = world.get::<NetId>(entity).copied() else { return };
    let state = world.resource::<EntityIndex>().state(net_id.get());
    if matches!(state, SlotState::Buried | SlotState::Free) {
        return;
    }
    let mut last = Vec::new();
    if state != SlotState::Hidden {
        let since = world.resource::<Lost>().since;
        for (component, entry) in world.resource::<Protocol>().components.iter().enumerate() {
            let mut bytes = Vec::new();
            if let Ok(Some(tick)) = entry.column.one(&world, entity, Some(since), &mut bytes) {
                last.push(LastValue { component, id: net_id, tick, bytes });
            }
        }
    }
    world.resource_mut::<Lost>().dying = Some(entity);
    let now = world.read_change_tick();
    let mut index = world.resource_mut::<EntityIndex>();
    index.last_values.append(&mut last);
    index.bury(net_id, now);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_full_with_the_first_entity_whose_number_no_batch_can_name() {
        let mut index = EntityIndex::new(RoomId::named("crowd"));
        let last = ENTITIES_MAX as u32 - 1;
        for (number, is_full) in [(last, false), (last + 1, true)] {
            index.expect([(NetId(number), Identity::Minted(0))].into_iter());
            let (given, _) = index.enter(Entity::PLACEHOLDER, EntityId::NIL, None, Tick::new(0));
            assert_eq!((given.get(), index.full), (number, is_full));
        }
    }
}
