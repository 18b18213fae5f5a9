//! A room's replicated state as plain data, without a Bevy world: for tools, for JSON, for comparing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use thiserror::Error;

use super::batch::{BatchHead, FactHead, SnapshotHead, Visit, read_batch, read_private, read_private_head};
use super::codec::{CodecError, Reader};
use super::ids::{EntityId, FactSeq, NetId, RoomId, RoomTick};
use super::operation::{Op, Operation};
use super::part::{VisitPart, read_part};
use super::quantity::UpdateKind;
use super::registry::{Delivery, Protocol};
use super::roster::{Identity, Roster};
use super::versions::Versions;
use super::wire::Names;

/// Why a state could not take a batch or a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StateError {
    /// The bytes are malformed.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A batch is missing in between.
    #[error("the batch of tick {tick} follows that of tick {after}, but the state is that of tick {state}")]
    Gap {
        /// The batch's tick.
        tick: RoomTick,
        /// The tick of the batch before it.
        after: RoomTick,
        /// Where the state is.
        state: RoomTick,
    },
}

/// What a batch did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Followed {
    /// Its operations.
    pub operations: Vec<Operation>,
    /// Its facts.
    pub facts: Vec<FactState>,
    /// For each operation the fact that caused it, where the room tells it.
    pub causes: Vec<Option<FactSeq>>,
}

/// A fact as plain data.
#[derive(Clone, Debug, PartialEq)]
pub struct FactState {
    /// Its number, and where it comes from.
    pub head: FactHead,
    /// Its wire name.
    pub name: String,
    /// What it says.
    pub json: Value,
}

/// One entity of a [`State`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityState {
    /// Who it is.
    pub identity: Identity,
    /// The encoded values, by the components' places in the protocol.
    pub components: BTreeMap<usize, Vec<u8>>,
}

/// A room's replicated state as plain data.
///
/// Folding all batches of a room from its first one gives the same state as a snapshot does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    room: RoomId,
    tick: RoomTick,
    entities: BTreeMap<NetId, EntityState>,
    by_id: BTreeMap<EntityId, NetId>,
}

impl State {
    /// The state of a room before its first batch.
    pub fn new(room: RoomId) -> Self {
        Self { room, tick: RoomTick(0), entities: BTreeMap::new(), by_id: BTreeMap::new() }
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn from_snapshot(protocol: &Protocol, room: RoomId, snapshot: &[u8]) -> Result<Self, StateError> {
        let mut reader = Reader::new(snapshot);
        let head = SnapshotHead::read(&mut reader)?;
        let mut state = Self { tick: head.tick, ..Self::new(room) };
        state.fill(protocol, &mut reader)?;
        Ok(state)
    }

    /// Applies a batch, and tells its operations in order. A batch that was applied already tells none.
    ///
    /// # Errors
    /// See [`State::follow`].
    pub fn apply(&mut self, protocol: &Protocol, batch: &[u8]) -> Result<Vec<Operation>, StateError> {
        Ok(self.follow(protocol, batch)?.operations)
    }

    /// Applies a batch, and tells its operations and its facts, each in order. A batch that was applied already tells none.
    ///
    /// # Errors
    /// If it is malformed (the state must then not be used further), or one is missing before it.
    pub fn follow(&mut self, protocol: &Protocol, batch: &[u8]) -> Result<Followed, StateError> {
        self.follow_with(protocol, batch, (None, None))
    }

    /// The same for a replica that is told more beside the batches: what is for it alone, and values of `latest` components.
    ///
    /// # Errors
    /// See [`State::follow`].
    pub(crate) fn follow_with(
        &mut self,
        protocol: &Protocol,
        batch: &[u8],
        (private, versions): (Option<&[u8]>, Option<&mut Versions>),
    ) -> Result<Followed, StateError> {
        let mut reader = Reader::new(batch);
        let head = BatchHead::read(&mut reader)?;
        if !self.is_before(head)? {
            return Ok(Followed::default());
        }
        let mut fold = Fold::new(protocol, self, head.tick, versions);
        read_batch(head, &mut reader, &mut fold)?;
        if let Some(private) = private {
            let mut reader = Reader::new(private);
            let (beside, _) = read_private_head(&mut reader)?;
            // The batch it came with may have been dropped for a snapshot, in which it is.
            if beside.tick == head.tick {
                read_private(beside, &mut reader, &mut fold)?;
            }
        }
        Ok(fold.finish())
    }

    /// Applies what one replica is told of a tick of which there is no batch for all.
    ///
    /// # Errors
    /// If it is malformed.
    #[cfg_attr(not(any(feature = "client", feature = "host")), expect(dead_code, reason = "what only a replica does"))]
    pub(crate) fn follow_private(&mut self, protocol: &Protocol, private: &[u8], versions: &mut Versions) -> Result<Followed, StateError> {
        let mut reader = Reader::new(private);
        let (head, _) = read_private_head(&mut reader)?;
        if head.tick <= self.tick {
            return Ok(Followed::default());
        }
        let mut fold = Fold::new(protocol, self, head.tick, Some(versions));
        read_private(head, &mut reader, &mut fold)?;
        Ok(fold.finish())
    }

    /// Applies a part as of a tick: those of its values that are newer than what is here. Tells the operations.
    ///
    /// # Errors
    /// If it is malformed.
    #[cfg_attr(not(any(feature = "client", feature = "host")), expect(dead_code, reason = "what only a replica does"))]
    pub(crate) fn take_part(
        &mut self,
        protocol: &Protocol,
        (tick, part): (RoomTick, &[u8]),
        versions: &mut Versions,
    ) -> Result<Vec<Operation>, StateError> {
        let mut fold = Fold::new(protocol, self, tick, Some(versions));
        read_part(part, &mut fold)?;
        Ok(fold.told)
    }

    /// True if a batch is the next one, false if it was applied already.
    pub(crate) fn is_before(&self, head: BatchHead) -> Result<bool, StateError> {
        if head.tick <= self.tick && !(head.tick.0 == 0 && self.entities.is_empty()) {
            return Ok(false);
        }
        match head.after > self.tick {
            true => Err(StateError::Gap { tick: head.tick, after: head.after, state: self.tick }),
            false => Ok(true),
        }
    }

    /// The tick whose state this is.
    pub fn tick(&self) -> RoomTick {
        self.tick
    }

    /// The room.
    pub fn room(&self) -> RoomId {
        self.room
    }

    /// The entities, by their net ids.
    pub fn entities(&self) -> &BTreeMap<NetId, EntityState> {
        &self.entities
    }

    /// The entity with that id.
    pub fn get(&self, id: EntityId) -> Option<&EntityState> {
        self.entities.get(self.by_id.get(&id)?)
    }

    /// A component of an entity, as JSON.
    pub fn component(&self, protocol: &Protocol, id: EntityId, component: &str) -> Option<Value> {
        let at = protocol.component_index(component)?;
        let value = self.get(id)?.components.get(&at)?;
        protocol.components.get(at)?.column.to_json(&mut Reader::new(value), self).ok()
    }

    /// The ids of the entities that have a component.
    pub fn with<'a>(&'a self, protocol: &Protocol, component: &str) -> impl Iterator<Item = EntityId> + 'a {
        let at = protocol.component_index(component);
        let has = move |entity: &&EntityState| at.is_some_and(|at| entity.components.contains_key(&at));
        self.entities.values().filter(has).map(|entity| entity.identity.id(self.room))
    }

    /// The snapshot's JSON form: `{"thing1": {"position": [..]}, ..}`.
    ///
    /// # Errors
    /// If a value has no JSON form.
    pub fn to_json(&self, protocol: &Protocol) -> Result<Value, CodecError> {
        let mut all = serde_json::Map::new();
        for entity in self.entities.values() {
            let mut components = serde_json::Map::new();
            for (at, value) in &entity.components {
                if let Some(entry) = protocol.components.get(*at) {
                    components.insert(entry.name.clone(), entry.column.to_json(&mut Reader::new(value), self)?);
                }
            }
            all.insert(entity.identity.display(self.room), Value::Object(components));
        }
        Ok(Value::Object(all))
    }

    /// The component-first JSON form: `{"position": {"thing1": [..], ..}, ..}`.
    ///
    /// # Errors
    /// If a value has no JSON form.
    pub fn to_component_json(&self, protocol: &Protocol) -> Result<Value, CodecError> {
        let mut all: BTreeMap<String, serde_json::Map<String, Value>> = BTreeMap::new();
        for entity in self.entities.values() {
            for (at, value) in &entity.components {
                if let Some(entry) = protocol.components.get(*at) {
                    let json = entry.column.to_json(&mut Reader::new(value), self)?;
                    all.entry(entry.name.clone()).or_default().insert(entity.identity.display(self.room), json);
                }
            }
        }
        Ok(all.into_iter().map(|(component, entities)| (component, Value::Object(entities))).collect())
    }

    /// The entities by kind: `{"monster": {"imp": {..}, ..}, ..}`. An entity is of the first of `kinds`, wire names of components,
    /// that it has; those that have none are of the kind `other`.
    ///
    /// # Errors
    /// If a value has no JSON form.
    pub fn to_kind_json(&self, protocol: &Protocol, kinds: &[String]) -> Result<Value, CodecError> {
        let Value::Object(entities) = self.to_json(protocol)? else { return Ok(Value::Null) };
        let mut all: BTreeMap<&str, serde_json::Map<String, Value>> = BTreeMap::new();
        for (name, components) in entities {
            let kind = kinds.iter().find(|kind| components.get(kind.as_str()).is_some());
            all.entry(kind.map_or("other", String::as_str)).or_default().insert(name, components);
        }
        Ok(all.into_iter().map(|(kind, entities)| (kind.to_owned(), Value::Object(entities))).collect())
    }

    pub(crate) fn net_id(&self, id: EntityId) -> Option<NetId> {
        self.by_id.get(&id).copied()
    }

    pub(crate) fn insert(&mut self, net_id: NetId, identity: Identity) {
        let id = identity.id(self.room);
        self.insert_as(net_id, identity, id);
    }

    /// The same for who knows already which id the identity stands for: that of a name is a hash.
    pub(crate) fn insert_as(&mut self, net_id: NetId, identity: Identity, id: EntityId) {
        self.by_id.insert(id, net_id);
        self.entities.insert(net_id, EntityState { identity, components: BTreeMap::new() });
    }

    pub(crate) fn remove(&mut self, net_id: NetId) {
        let Some(entity) = self.entities.remove(&net_id) else { return };
        let id = entity.identity.id(self.room);
        // One who left and joins again in the same tick is there under another number already.
        if self.by_id.get(&id) == Some(&net_id) {
            self.by_id.remove(&id);
        }
    }

    pub(crate) fn components_mut(&mut self, net_id: NetId) -> Option<&mut BTreeMap<usize, Vec<u8>>> {
        self.entities.get_mut(&net_id).map(|entity| &mut entity.components)
    }

    pub(crate) fn set(&mut self, net_id: NetId, component: usize, value: &[u8]) {
        if let Some(entity) = self.entities.get_mut(&net_id) {
            entity.components.insert(component, value.to_vec());
        }
    }

    pub(crate) fn set_tick(&mut self, tick: RoomTick) {
        self.tick = tick;
    }

    /// The first difference to another state, in words, or `None` if both hold the same entities with the same bytes.
    pub fn difference(&self, protocol: &Protocol, other: &Self) -> Option<String> {
        // Nearly always there is none, and then no component has to be looked up by its number on both sides.
        if self.by_id == other.by_id && self.values().eq(other.values()) {
            return None;
        }
        let ids: BTreeSet<EntityId> = self.by_id.keys().chain(other.by_id.keys()).copied().collect();
        for id in ids {
            let (Some(ours), Some(theirs)) = (self.get(id), other.get(id)) else {
                let name = self.get(id).or(other.get(id)).map(|entity| entity.identity.display(self.room));
                let place = if self.by_id.contains_key(&id) { "only here" } else { "only there" };
                return Some(format!("entity {} is {place}", name.unwrap_or_default()));
            };
            if self.net_id(id) != other.net_id(id) {
                return Some(format!("entity {id} has net id {:?} here, {:?} there", self.net_id(id), other.net_id(id)));
            }
            for (component, entry) in protocol.components.iter().enumerate() {
                let (our_value, their_value) = (ours.components.get(&component), theirs.components.get(&component));
                if our_value != their_value {
                    let text = |value: Option<&Vec<u8>>, state: &Self| match value {
                        None => "nothing".to_owned(),
                        Some(value) => {
                            let json = entry.column.to_json(&mut Reader::new(value), state);
                            json.map_or_else(|error| error.to_string(), |json| json.to_string())
                        }
                    };
                    let (here, there) = (text(our_value, self), text(their_value, other));
                    return Some(format!("{}.{} is {here} here, {there} there", ours.identity.display(self.room), entry.name));
                }
            }
        }
        None
    }

    /// What its entities have, in the order of their net ids.
    fn values(&self) -> impl Iterator<Item = (NetId, &BTreeMap<usize, Vec<u8>>)> {
        self.entities.iter().map(|(id, entity)| (*id, &entity.components))
    }

    /// The smallest net id that no entity has.
    pub(crate) fn free_net_id(&self) -> NetId {
        let taken = self.entities.keys().zip(0..).take_while(|(id, place)| id.get() == *place).count();
        NetId(taken as u32)
    }
}

impl Names for State {
    fn name(&self, id: NetId) -> Option<String> {
        self.entities.get(&id).map(|entity| entity.identity.display(self.room))
    }

    fn id(&self, name: &str) -> Option<NetId> {
        self.net_id(EntityId::parse(name))
    }
}

/// Applies a message to a state and tells its operations.
struct Fold<'a> {
    protocol: &'a Protocol,
    state: &'a mut State,
    told: Vec<Operation>,
    /// For each operation that the message has where it stands among the told ones: what is older than what is there is not told.
    seen: Vec<Option<usize>>,
    facts: Vec<FactState>,
    causes: Vec<Option<FactSeq>>,
    /// The created entities, and where their operation stands.
    created: Vec<NetId>,
    /// The deleted ones: their names are needed until all is told.
    dead: Vec<NetId>,
    tick: RoomTick,
    versions: Option<&'a mut Versions>,
}

impl<'a> Fold<'a> {
    fn new(protocol: &'a Protocol, state: &'a mut State, tick: RoomTick, versions: Option<&'a mut Versions>) -> Self {
        let (told, seen, facts, causes, created, dead) = Default::default();
        Self { protocol, state, told, seen, facts, causes, created, dead, tick, versions }
    }

    /// All of a tick is in: the state is that of the tick, and what was deleted goes.
    fn finish(mut self) -> Followed {
        self.causes.resize(self.told.len(), None);
        let followed = Followed { operations: self.told, facts: self.facts, causes: self.causes };
        self.state.tick = self.tick;
        self.dead.into_iter().for_each(|id| self.state.remove(id));
        followed
    }

    /// True if what the batch says of a component counts: nothing newer has come beside the batches.
    fn is_in_order(&mut self, component: usize, id: NetId) -> bool {
        let latest = self.protocol.components.get(component).is_some_and(|entry| entry.delivery == Delivery::Latest);
        let versions = self.versions.as_mut().filter(|_| latest);
        versions.is_none_or(|versions| versions.in_order(component, id, self.tick))
    }

    fn entity(&self, id: NetId) -> Result<&EntityState, CodecError> {
        let entity = self.state.entities.get(&id);
        entity.ok_or(CodecError::Unknown { what: "net id", value: u64::from(id.get()), at: 0 })
    }

    fn tell(&mut self, id: NetId, op: Op) -> Result<(), CodecError> {
        let identity = &self.entity(id)?.identity;
        let (id, name) = (identity.id(self.state.room), identity.display(self.state.room));
        self.seen.push(Some(self.told.len()));
        self.told.push(Operation { note: None, id, name, op });
        Ok(())
    }
}

impl Visit for Fold<'_> {
    fn create(&mut self, roster: Roster) -> Result<(), CodecError> {
        for entry in roster.into_entries() {
            if self.state.entities.contains_key(&entry.net_id) {
                let detail = format!("net id {} is created twice", entry.net_id.get());
                return Err(CodecError::Value { at: 0, detail });
            }
            self.created.push(entry.net_id);
            if let Some(versions) = &mut self.versions {
                versions.created(entry.net_id, self.tick);
            }
            self.state.insert(entry.net_id, entry.identity);
        }
        Ok(())
    }

    fn column(&mut self, component: usize, members: &[NetId], input: &mut Reader<'_>) -> Result<(), CodecError> {
        for id in members {
            let start = input.at();
            self.protocol.component_at(component, start)?.column.skip(input)?;
            self.state.set(*id, component, input.since(start));
        }
        Ok(())
    }

    fn created(&mut self) -> Result<(), CodecError> {
        for id in std::mem::take(&mut self.created) {
            let mut components = BTreeMap::new();
            for (at, value) in &self.entity(id)?.components {
                let entry = self.protocol.component_at(*at, 0)?;
                components.insert(entry.name.clone(), entry.column.to_json(&mut Reader::new(value), self.state)?);
            }
            self.tell(id, Op::Create { components })?;
        }
        Ok(())
    }

    fn update(&mut self, component: usize, kind: UpdateKind, id: NetId, input: &mut Reader<'_>) -> Result<(), CodecError> {
        let start = input.at();
        let entry = self.protocol.component_at(component, start)?;
        if !self.is_in_order(component, id) {
            self.seen.push(None);
            return entry.column.skip_update(kind, input);
        }
        let name = entry.name.clone();
        let (value, json) = if kind == UpdateKind::Set {
            let json = entry.column.to_json(input, self.state)?;
            (input.since(start).to_vec(), json)
        } else {
            let before = self.entity(id)?.components.get(&component);
            let before = before.ok_or(CodecError::Unknown { what: "component to step", value: component as u64, at: start })?;
            let mut folded = Vec::new();
            let json = entry.column.step_to_json(kind, &mut input.clone())?;
            entry.column.fold(before, kind, input, &mut folded)?;
            (folded, json)
        };
        self.entity(id)?;
        self.state.set(id, component, &value);
        self.tell(id, Op::Update { kind, component: name, value: json })
    }

    fn remove(&mut self, component: usize, id: NetId) -> Result<(), CodecError> {
        let component_name = self.protocol.component_at(component, 0)?.name.clone();
        if !self.is_in_order(component, id) {
            self.seen.push(None);
            return Ok(());
        }
        if let Some(entity) = self.state.entities.get_mut(&id) {
            entity.components.remove(&component);
        }
        self.tell(id, Op::Remove { component: component_name })
    }

    fn delete(&mut self, id: NetId) -> Result<(), CodecError> {
        self.dead.push(id);
        self.tell(id, Op::Delete)
    }

    fn fact(&mut self, head: FactHead, input: &mut Reader<'_>) -> Result<(), CodecError> {
        let kind = self.protocol.facts.get(head.kind);
        let kind = kind.ok_or(CodecError::Unknown { what: "kind of fact", value: head.kind as u64, at: input.at() })?;
        let json = (kind.decode)(input)?.to_json()?;
        self.facts.push(FactState { head, name: kind.name.clone(), json });
        Ok(())
    }

    fn note(&mut self, operation_at: usize, fact: usize) -> Result<(), CodecError> {
        let Some(told_at) = self.seen.get(operation_at).copied().flatten() else { return Ok(()) };
        if let (Some(operation), Some(fact)) = (self.told.get_mut(told_at), self.facts.get(fact)) {
            operation.note = Some(fact.name.clone());
            self.causes.resize(self.causes.len().max(told_at + 1), None);
            if let Some(cause) = self.causes.get_mut(told_at) {
                *cause = Some(fact.head.seq);
            }
        }
        Ok(())
    }
}

impl VisitPart for Fold<'_> {
    fn value(&mut self, component: usize, id: NetId, input: &mut Reader<'_>) -> Result<(), CodecError> {
        let start = input.at();
        let entry = self.protocol.component_at(component, start)?;
        let known = self.state.entities.contains_key(&id);
        if !known || !self.versions.as_mut().is_some_and(|versions| versions.supersedes(component, id, self.tick)) {
            return entry.column.skip(input);
        }
        let value = entry.column.to_json(input, self.state)?;
        self.state.set(id, component, input.since(start));
        self.tell(id, Op::Update { kind: UpdateKind::Set, component: entry.name.clone(), value })
    }
}

/// The seq that a snapshot's next fact will have.
///
/// # Errors
/// If the snapshot is malformed.
pub fn next_seq_of(snapshot: &[u8]) -> Result<FactSeq, CodecError> {
    Ok(SnapshotHead::read(&mut Reader::new(snapshot))?.next_seq)
}

#[cfg(test)]
mod tests {
    use bevy_app::App;
    use bevy_ecs::prelude::Component;
    use serde::{Deserialize, Serialize};

    use super::super::batch::Producer;
    use super::*;
    use crate::protocol::ProtocolAppExt;

    #[derive(Component, Serialize, Deserialize)]
    struct Place(u8);
    #[derive(Component, Serialize, Deserialize)]
    struct Amount(u8);

    #[test]
    fn a_note_is_of_the_operation_that_it_was_written_for_where_an_older_one_is_not_told() {
        let mut app = App::new();
        app.sync::<Place>("place").latest();
        app.sync::<Amount>("amount");
        let protocol = std::mem::take(&mut *app.world_mut().resource_mut::<Protocol>());
        let (mut state, mut versions, id) = (State::new(RoomId::named("room")), Versions::default(), NetId(3));
        state.insert(id, Identity::Named("thing".to_owned()));
        assert!(versions.supersedes(0, id, RoomTick(5)), "a part came before the batch");
        let mut fold = Fold::new(&protocol, &mut state, RoomTick(4), Some(&mut versions));
        for component in [0, 1] {
            fold.update(component, UpdateKind::Set, id, &mut Reader::new(&[7])).unwrap();
        }
        for (seq, name) in [(8, "moved"), (9, "paid")] {
            let head = FactHead { seq: FactSeq(seq), kind: 0, producer: Producer::User, author: None, cause: None };
            fold.facts.push(FactState { head, name: name.to_owned(), json: Value::Null });
        }
        fold.note(0, 0).unwrap();
        fold.note(1, 1).unwrap();
        let followed = fold.finish();
        let [operation] = &followed.operations[..] else { panic!("{followed:?}") };
        assert_eq!((operation.note.as_deref(), &followed.causes[..]), (Some("paid"), &[Some(FactSeq(9))][..]));
    }
}
