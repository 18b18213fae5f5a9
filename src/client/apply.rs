//! Applies batches and snapshots to a world, then tells its observers what happened.
//!
//! All of a batch is applied before anybody is told, so no observer sees a fireball that hit and a player unhurt. Then:
//! added, changed, facts, removed; and only then are the deleted entities despawned.

use bevy_ecs::entity::EntityHashSet;
use bevy_ecs::prelude::*;
use thiserror::Error;

use super::check::{agrees, forget_losses};
use super::interpolate::follow;
use super::journal::Touches;
use super::replica::{AnyHappened, Replica};
use crate::protocol::{
    BatchHead, CodecError, ComponentEntry, Delivery, DifferenceHead, EntityAdded, EntityId, EntityRemoved, Fact, FactHead, Identity, NetId,
    Places, Protocol, Reader, Removal, RoomTick, Roster, SnapshotHead, Staged, UpdateKind, Visit, VisitPart, insert_staged, part_needs,
    read_batch, read_difference, read_part, read_private, read_private_head, read_snapshot, spawn_staged, stage,
};

/// Why a replica could not take a message. It must join again.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The bytes are malformed, or don't fit the replica.
    #[error("the server's message can't be applied: {0}")]
    Codec(#[from] CodecError),
    /// A batch is missing in between.
    #[error("the batch of tick {tick} follows that of tick {after}, but the replica is at tick {replica}")]
    Gap {
        /// The batch's tick.
        tick: RoomTick,
        /// The tick of the batch before it.
        after: RoomTick,
        /// Where the replica is.
        replica: RoomTick,
    },
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It is in.
    Done,
    /// It was in already.
    Duplicate,
    /// It is in, but the state is not what its hash says, or it steps what is not here.
    Diverged(RoomTick),
}

impl Applied {
    /// It is in, and nothing tells that the state is not the room's, or something does.
    fn of(is_whole: bool, tick: RoomTick) -> Self {
        if is_whole { Self::Done } else { Self::Diverged(tick) }
    }
}

/// Applies a batch, with what this client is told of the tick beside it, and tells the observers.
pub(crate) fn apply_batch(world: &mut World, batch: &[u8], private: Option<&[u8]>) -> Result<Applied, ApplyError> {
    let mut reader = Reader::new(batch);
    let head = BatchHead::read(&mut reader)?;
    let replica_tick = world.resource::<Replica>().tick;
    if head.tick <= replica_tick {
        return Ok(Applied::Duplicate);
    }
    if head.after > replica_tick {
        return Err(ApplyError::Gap { tick: head.tick, after: head.after, replica: replica_tick });
    }
    let (told, hash) = visit(world, head.tick, |visitor| {
        let hash = read_batch(head, &mut reader, visitor)?;
        if let Some(private) = private {
            let mut reader = Reader::new(private);
            let (beside, _) = read_private_head(&mut reader)?;
            // The batch it came with may have been dropped for a snapshot, in which it is.
            if beside.tick == head.tick {
                read_private(beside, &mut reader, visitor)?;
            }
        }
        Ok(hash)
    })?;
    let mut replica = world.resource_mut::<Replica>();
    replica.tick = head.tick;
    replica.batches += 1;
    let agrees = match hash {
        Some(hash) => agrees(world, hash, &told.removed, &told.deleted),
        None => {
            forget_losses(world);
            true
        }
    };
    let is_whole = agrees && !told.astray;
    told.announce(world, head.tick);
    Ok(Applied::of(is_whole, head.tick))
}

/// The tick of what this client is told beside the batch for all, and whether that batch follows.
pub(crate) fn private_head(private: &[u8]) -> Result<(RoomTick, bool), ApplyError> {
    let (head, follows) = read_private_head(&mut Reader::new(private))?;
    Ok((head.tick, follows))
}

/// Applies what this client is told of a tick of which there is no batch for all, and tells the observers.
pub(crate) fn apply_private(world: &mut World, private: &[u8]) -> Result<Applied, ApplyError> {
    let mut reader = Reader::new(private);
    let (head, _) = read_private_head(&mut reader)?;
    if head.tick <= world.resource::<Replica>().tick {
        return Ok(Applied::Duplicate);
    }
    let (told, ()) = visit(world, head.tick, |visitor| read_private(head, &mut reader, visitor))?;
    world.resource_mut::<Replica>().tick = head.tick;
    let is_whole = !told.astray;
    told.announce(world, head.tick);
    Ok(Applied::of(is_whole, head.tick))
}

/// Applies a part as of a tick: those of its values that are newer than what is here. False if the replica has not the batch yet
/// that it needs; nothing was applied then.
pub(crate) fn apply_part(world: &mut World, tick: RoomTick, part: &[u8]) -> Result<bool, ApplyError> {
    let replica_tick = world.resource::<Replica>().tick;
    if part_needs(part)?.is_some_and(|back| tick.0.saturating_sub(back) > replica_tick.0) {
        return Ok(false);
    }
    let (told, ()) = visit(world, tick, |visitor| read_part(part, visitor))?;
    told.announce(world, tick);
    Ok(true)
}

/// Fills an empty replica from a snapshot and tells the observers.
pub(crate) fn apply_first_snapshot(world: &mut World, snapshot: &[u8]) -> Result<(), ApplyError> {
    let mut reader = Reader::new(snapshot);
    let head = SnapshotHead::read(&mut reader)?;
    world.resource_mut::<Replica>().versions.clear();
    let (told, ()) = visit(world, head.tick, |visitor| read_snapshot(&mut reader, visitor))?;
    let mut replica = world.resource_mut::<Replica>();
    replica.completed(head.tick);
    replica.touches.iter_mut().for_each(Touches::everything);
    told.announce(world, head.tick);
    Ok(())
}

/// Brings a replica that was away to the state of now, and tells the observers.
pub(crate) fn apply_difference(world: &mut World, difference: &[u8]) -> Result<Applied, ApplyError> {
    let mut reader = Reader::new(difference);
    let head = DifferenceHead::read(&mut reader)?;
    let replica_tick = world.resource::<Replica>().tick;
    if head.from > replica_tick || head.tick < replica_tick {
        return Err(ApplyError::Gap { tick: head.tick, after: head.from, replica: replica_tick });
    }
    let (mut told, ()) = visit(world, head.tick, |visitor| read_difference(head, &mut reader, visitor))?;
    told.gone_first = true;
    let mut replica = world.resource_mut::<Replica>();
    replica.completed(head.tick);
    replica.touches.iter_mut().for_each(Touches::everything);
    let is_whole = !told.astray;
    told.announce(world, head.tick);
    Ok(Applied::of(is_whole, head.tick))
}

fn visit<T>(
    world: &mut World,
    tick: RoomTick,
    read: impl FnOnce(&mut Apply<'_>) -> Result<T, CodecError>,
) -> Result<(Told, T), CodecError> {
    let mut protocol = std::mem::take(&mut *world.resource_mut::<Protocol>());
    protocol.look_up_together(world);
    let mut replica = Replica::take_out(world);
    let mut visitor = Apply {
        world,
        protocol: &mut protocol,
        replica: &mut replica,
        told: Told::default(),
        created: Vec::new(),
        ids: Vec::new(),
        entities: Vec::new(),
        staged: Vec::new(),
        tick,
    };
    let read = read(&mut visitor);
    let mut told = visitor.told;
    if read.is_err() {
        told.take_back(world, &mut replica);
    }
    follow(world, &protocol, tick, told.added.iter().map(|(entity, _)| *entity));
    for entry in &mut protocol.components {
        told.changes.extend(entry.column.announcement());
    }
    *world.resource_mut::<Protocol>() = protocol;
    *world.resource_mut::<Replica>() = replica;
    match read {
        Ok(value) => Ok((told, value)),
        Err(error) => {
            told.break_off(world, tick);
            Err(error)
        }
    }
}

/// What a message did, until the observers are told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) added: Vec<(Entity, EntityId)>,
    /// Those of them that were there ahead of the room, and told.
    pub(crate) adopted: Vec<Entity>,
    pub(crate) changes: Vec<crate::protocol::Announcement>,
    facts: Vec<(FactHead, Box<dyn Fact>)>,
    pub(crate) gone: Vec<(Entity, EntityId, Removal)>,
    removed: Vec<(usize, u32)>,
    deleted: Vec<u32>,
    /// What was added and is none of the replica's after all.
    untold: Vec<Entity>,
    /// Those that are gone are told of first: one that is added may have the id of one of them.
    gone_first: bool,
    /// A step was of a component that is not here.
    astray: bool,
}

impl Told {
    /// The message can't be applied to its end: the replica does not have what it has added so far. To be [broken off](Self::break_off) then.
    pub(crate) fn take_back(&mut self, world: &World, replica: &mut Replica) {
        let added: EntityHashSet = self.added.iter().map(|(entity, _)| *entity).collect();
        let numbers: Vec<NetId> = replica.map.iter().filter(|(_, entity)| added.contains(entity)).map(|(id, _)| id).collect();
        for id in numbers {
            replica.map.unset(id);
        }
        let Replica { map, by_id, touches, .. } = replica;
        by_id.retain(|_, entity| !added.contains(&*entity));
        // One that was added may have had the id of another that was to be deleted.
        for (_, entity) in map.iter() {
            if let Some(id) = world.get::<EntityId>(entity) {
                by_id.entry(*id).or_insert(entity);
            }
        }
        touches.iter_mut().for_each(Touches::everything);
        self.gone.retain(|(entity, ..)| !added.contains(entity));
        // Nobody was told of them, but of those that were there ahead of the room.
        for (entity, id) in std::mem::take(&mut self.added) {
            match self.adopted.contains(&entity) {
                true => self.gone.push((entity, id, Removal::Unknown)),
                false => self.untold.push(entity),
            }
        }
        self.facts.clear();
    }

    /// Tells of what was changed and deleted before the message broke off, since no later one will, and despawns what nobody was told of.
    pub(crate) fn break_off(mut self, world: &mut World, tick: RoomTick) {
        for entity in std::mem::take(&mut self.untold) {
            if let Ok(entity) = world.get_entity_mut(entity) {
                entity.despawn();
            }
        }
        self.announce(world, tick);
    }

    /// Tells the observers, then despawns what was deleted.
    pub(crate) fn announce(mut self, world: &mut World, tick: RoomTick) {
        let gone = std::mem::take(&mut self.gone);
        let tell_gone = |world: &mut World| {
            gone.iter().for_each(|(entity, id, why)| world.trigger(EntityRemoved { entity: *entity, id: *id, why: *why }));
        };
        if self.gone_first {
            tell_gone(world);
        }
        // Nobody listens in most clients; asking once is cheaper than telling ten thousand times.
        if is_observed::<EntityAdded>(world) {
            for (entity, id) in self.added.into_iter().filter(|(entity, _)| !self.adopted.contains(entity)) {
                world.trigger(EntityAdded { entity, id });
            }
        }
        for announce in self.changes {
            announce(world);
        }
        let plainly = is_observed::<AnyHappened>(world);
        for (head, fact) in self.facts {
            let plain = if plainly { as_plain(world, &head, &*fact, tick) } else { None };
            fact.trigger(world, head.seq, tick, head.author);
            plain.into_iter().for_each(|plain| world.trigger(plain));
        }
        if !self.gone_first {
            tell_gone(world);
        }
        for (entity, ..) in gone {
            // One that was its child, and went with its parent, is not there any more.
            if let Ok(entity) = world.get_entity_mut(entity) {
                entity.despawn();
            }
        }
        world.flush();
    }
}

fn as_plain(world: &World, head: &FactHead, fact: &dyn Fact, tick: RoomTick) -> Option<AnyHappened> {
    let name = world.resource::<Protocol>().facts.get(head.kind)?.name.clone();
    Some(AnyHappened { name, json: fact.to_json().ok()?, seq: head.seq, tick })
}

fn is_observed<E: Event>(world: &mut World) -> bool {
    let key = world.register_event_key::<E>();
    world.observers().try_get_observers(key).is_some()
}

pub(crate) struct Apply<'a> {
    world: &'a mut World,
    protocol: &'a mut Protocol,
    replica: &'a mut Replica,
    told: Told,
    /// The net ids of the entities that are being created.
    created: Vec<NetId>,
    /// Their ids.
    ids: Vec<EntityId>,
    /// The entities themselves, once they are there.
    entities: Vec<Entity>,
    /// What their entities are about to be given.
    staged: Vec<Box<dyn Staged>>,
    tick: RoomTick,
}

fn entry_of(protocol: &mut Protocol, component: usize, at: usize) -> Result<&mut ComponentEntry, CodecError> {
    let entry = protocol.components.get_mut(component);
    entry.ok_or(CodecError::Unknown { what: "component", value: component as u64, at })
}

impl Apply<'_> {
    /// Lets the entities of the roster be there before their components, bare: what is new may refer to each other, or be there already, ahead of the room.
    fn bring_forth(&mut self) {
        if self.entities.len() == self.created.len() {
            return;
        }
        let bare = if self.replica.ahead.is_empty() { self.created.len() } else { 0 };
        // From the last to the first: where the last one goes, Bevy need not move another into its place.
        let mut spawned: Vec<Entity> = self.world.spawn_batch(std::iter::repeat_n((), bare)).collect();
        for id in &self.ids {
            let adopted = self.replica.adopt(self.world, self.protocol, *id);
            self.told.adopted.extend(adopted);
            self.entities.push(adopted.or_else(|| spawned.pop()).unwrap_or_else(|| self.world.spawn_empty().id()));
        }
        self.enter();
    }

    /// Takes the entities of the roster into the replica.
    fn enter(&mut self) {
        self.replica.reserve(&self.created);
        self.replica.versions.created_all(&self.created, self.tick);
        self.told.added.reserve(self.entities.len());
        for ((net_id, id), entity) in self.created.iter().zip(&self.ids).zip(&self.entities) {
            if let Some(touches) = &mut self.replica.touches {
                touches.added(*entity);
            }
            // One who left and joins again in the same tick: the one with the other number is among the deletes.
            self.told.gone_first |= self.replica.enter(*net_id, *id, *entity);
            self.told.added.push((*entity, *id));
        }
    }

    #[inline]
    fn entity(&self, id: NetId) -> Result<Entity, CodecError> {
        let entity = self.replica.map.get(id);
        entity.ok_or(CodecError::Unknown { what: "net id", value: u64::from(id.get()), at: 0 })
    }

    /// Takes an entity out of the replica; it is told of, and despawned, at the end.
    fn lose(&mut self, id: NetId, why: Removal) -> Result<(), CodecError> {
        let entity = self.entity(id)?;
        self.replica.map.unset(id);
        let entity_id = self.world.get::<EntityId>(entity).copied().unwrap_or_default();
        if self.replica.by_id.get(&entity_id) == Some(&entity) {
            self.replica.by_id.remove(&entity_id);
        }
        self.told.gone.push((entity, entity_id, why));
        if let Some(touches) = &mut self.replica.touches {
            touches.gone(entity);
        }
        self.told.deleted.push(id.get());
        Ok(())
    }
}

impl Visit for Apply<'_> {
    fn create(&mut self, roster: Roster) -> Result<(), CodecError> {
        let room = self.replica.room;
        let (net_ids, runs) = roster.into_parts();
        let (mut ids, mut named, mut names) = (Vec::with_capacity(net_ids.len()), Vec::new(), Vec::new());
        for run in runs {
            // Those that the room minted are most of what there is: all of a row at once.
            ids.extend(run.minted().map(|serial| EntityId::minted(room, serial)));
            for identity in run.others {
                let place = ids.len() as u32;
                ids.push(identity.id(room));
                if let Identity::Named(name) = identity {
                    named.push(place);
                    names.push(Name::new(name));
                }
            }
        }
        if let Some((net_id, id)) = net_ids.iter().zip(&ids).find(|(net_id, _)| self.replica.map.get(**net_id).is_some()) {
            let number = net_id.get();
            return Err(CodecError::Value { at: 0, detail: format!("entity {id} with net id {number} is created twice") });
        }
        let (known, who) = (net_ids.iter().copied(), ids.iter().copied());
        self.staged.extend([stage(self.world, Places::All, known), stage(self.world, Places::All, who)]);
        if !named.is_empty() {
            self.staged.push(stage(self.world, Places::Some(named), names));
        }
        (self.created, self.ids, self.entities) = (net_ids, ids, Vec::new());
        if !self.replica.ahead.is_empty() {
            self.bring_forth();
        }
        Ok(())
    }

    fn column(&mut self, component: usize, members: &[NetId], input: &mut Reader<'_>) -> Result<(), CodecError> {
        if entry_of(self.protocol, component, input.at())?.column.refers() {
            self.bring_forth();
        }
        let entry = entry_of(self.protocol, component, input.at())?;
        let places = if members.len() == self.created.len() {
            Places::All
        } else {
            // Both ascend.
            let mut members = members.iter().peekable();
            let is_member = |(_, id): &(u32, &NetId)| members.next_if(|member| *member == *id).is_some();
            Places::Some((0..).zip(&self.created).filter(is_member).map(|(place, _)| place).collect())
        };
        let staged = entry.column.stage(self.world, places, members.len(), input, &self.replica.map)?;
        self.staged.push(staged);
        Ok(())
    }

    fn created(&mut self) -> Result<(), CodecError> {
        if self.entities.len() == self.created.len() {
            insert_staged(self.world, &self.entities, &mut self.staged, &self.protocol.together);
        } else {
            self.entities = spawn_staged(self.world, self.created.len(), &mut self.staged, &self.protocol.together);
            self.enter();
        }
        self.staged.clear();
        Ok(())
    }

    #[inline]
    fn update(&mut self, component: usize, kind: UpdateKind, id: NetId, input: &mut Reader<'_>) -> Result<(), CodecError> {
        let entity = self.entity(id)?;
        let entry = entry_of(self.protocol, component, input.at())?;
        // Something newer may have come beside the batches.
        if entry.delivery == Delivery::Latest && !self.replica.versions.in_order(component, id, self.tick) {
            return entry.column.skip_update(kind, input);
        }
        if let Some(touches) = &mut self.replica.touches {
            touches.value(component, entity);
        }
        match entry.column.update(self.world, entity, kind, input, &self.replica.map) {
            // The game took it away. All else can be applied; from what was the room goes on, only a snapshot tells.
            Err(error) if kind != UpdateKind::Set && error.is_nothing_to_step() => {
                self.told.astray = true;
                Ok(())
            }
            done => done,
        }
    }

    fn remove(&mut self, component: usize, id: NetId) -> Result<(), CodecError> {
        let entity = self.entity(id)?;
        let entry = entry_of(self.protocol, component, 0)?;
        if entry.delivery == Delivery::Latest && !self.replica.versions.in_order(component, id, self.tick) {
            return Ok(());
        }
        entry.column.remove(self.world, entity);
        if let Some(touches) = &mut self.replica.touches {
            touches.value(component, entity);
        }
        self.told.removed.push((component, id.get()));
        Ok(())
    }

    fn delete(&mut self, id: NetId) -> Result<(), CodecError> {
        self.lose(id, Removal::Gone)
    }

    fn leave(&mut self, id: NetId) -> Result<(), CodecError> {
        self.lose(id, Removal::OutOfSight)
    }

    fn delete_known(&mut self, id: NetId) -> Result<(), CodecError> {
        if self.replica.map.get(id).is_some() { self.delete(id) } else { Ok(()) }
    }

    fn fact(&mut self, head: FactHead, input: &mut Reader<'_>) -> Result<(), CodecError> {
        let kind = self.protocol.facts.get(head.kind);
        let kind = kind.ok_or(CodecError::Unknown { what: "kind of fact", value: head.kind as u64, at: input.at() })?;
        self.told.facts.push((head, (kind.decode)(input)?));
        Ok(())
    }

    fn note(&mut self, _: usize, _: usize) -> Result<(), CodecError> {
        Ok(())
    }
}

impl VisitPart for Apply<'_> {
    fn value(&mut self, component: usize, id: NetId, input: &mut Reader<'_>) -> Result<(), CodecError> {
        let entry = entry_of(self.protocol, component, input.at())?;
        let Some(entity) = self.replica.map.get(id) else { return entry.column.skip(input) };
        if !self.replica.versions.supersedes(component, id, self.tick) {
            return entry.column.skip(input);
        }
        if let Some(touches) = &mut self.replica.touches {
            touches.value(component, entity);
        }
        entry.column.update(self.world, entity, UpdateKind::Set, input, &self.replica.map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{ProtocolAppExt, write_varint};
    use bevy_app::App;

    #[derive(Component, serde::Serialize, serde::Deserialize)]
    struct Height(u8);

    /// A snapshot of one entity with so many columns of its one component.
    fn snapshot(columns: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Tick, next seq; one entity, its net id, a run of one, its serial.
        for number in [7, 1, 1, 0, 1 << 2, 0, columns] {
            write_varint(number, &mut bytes);
        }
        for _ in 0..columns {
            // The first component, all of the roster, the value.
            bytes.extend_from_slice(&[0, 0, 42]);
        }
        bytes
    }

    fn app() -> App {
        let mut app = App::new();
        app.add_plugins(super::super::ReplicaPlugin);
        // The first component of a protocol is built in; this one is then first.
        app.sync::<Height>("height");
        let mut protocol = app.world_mut().resource_mut::<Protocol>();
        let height = protocol.components.iter().position(|entry| entry.name == "height").unwrap_or_default();
        protocol.components.swap(0, height);
        app
    }

    #[test]
    fn who_hears_by_bevy_of_a_component_that_comes_is_told_where_and_whose_the_replica_is() {
        #[derive(Resource, Default)]
        struct Heard(Vec<(EntityId, String, usize)>);

        let (ann, mut app) = (EntityId::named("ann"), app());
        app.init_resource::<Heard>().add_observer(|_: On<Add<Height>>, replica: Res<Replica>, mut heard: ResMut<Heard>| {
            heard.0.push((replica.user(), replica.room_name().to_owned(), replica.len()));
        });
        let mut replica = app.world_mut().resource_mut::<Replica>();
        (replica.user, replica.room_name) = (ann, "hall".to_owned());
        apply_first_snapshot(app.world_mut(), &snapshot(1)).unwrap();
        // What else it has is not to be seen until all of the message is in.
        assert_eq!(app.world().resource::<Heard>().0, [(ann, "hall".to_owned(), 0)]);
        let replica = app.world().resource::<Replica>();
        assert_eq!((replica.user(), replica.room_name(), replica.len()), (ann, "hall", 1));
    }

    #[test]
    fn a_component_that_stands_twice_is_refused_before_anything_is_inserted() {
        let mut app = app();
        apply_first_snapshot(app.world_mut(), &snapshot(1)).unwrap();
        assert_eq!(app.world_mut().query::<&Height>().iter(app.world()).map(|height| height.0).collect::<Vec<_>>(), [42]);
        let mut app = self::app();
        let error = apply_first_snapshot(app.world_mut(), &snapshot(2)).unwrap_err();
        assert!(error.to_string().contains("the component with the number 0 has two columns"), "{error}");
        assert_eq!(app.world_mut().query::<&Height>().iter(app.world()).count(), 0);
    }
}
