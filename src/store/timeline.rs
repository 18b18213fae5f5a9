//! Any moment again: the state at any tick, what changed between two, who changed what, and why.

use std::collections::BTreeMap;

use serde_json::Value;

use super::archive::Archive;
use super::error::StoreError;
use super::record::StoredFact;
use super::tables::{ChunkKind, StoredRoom};
use crate::protocol::{Change, EntityId, FactSeq, FactState, Followed, Incoming, Op, Operation, RoomTick, State, UpdateKind};

/// How many ticks are read at once, back and forth.
const WINDOW: u32 = 600;

/// What differs between two states: each component of each entity that does, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateDiff {
    /// The changes.
    pub changes: Vec<Change>,
}

/// A change of a component, with the tick, and the fact that brought it about.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// The tick.
    pub tick: RoomTick,
    /// The operation.
    pub operation: Operation,
    /// The value before; nothing if there was none.
    pub before: Option<Value>,
    /// The value after; nothing if there is none.
    pub after: Option<Value>,
    /// The fact; nothing if a system wrote the component without one, or the room does not tell causes.
    pub fact: Option<FactSeq>,
}

#[cfg(feature = "client")]
impl Link {
    /// The write, and what else is to be told of it: `{"tick": .., "operation": .., "before": .., "after": .., ..}`. A value that is null itself is
    /// `{"$value": null}`; `null` is none.
    pub(crate) fn to_json(&self, more: Value) -> Value {
        // A change knows how both are told.
        let change = Change { entity: String::new(), component: String::new(), before: self.before.clone(), after: self.after.clone() };
        let (told, operation) = (serde_json::json!(change), self.operation.to_envelope());
        let (before, after) = (told.get("before"), told.get("after"));
        let mut json = serde_json::json!({ "tick": self.tick, "operation": operation, "before": before, "after": after });
        if let (Some(all), Value::Object(more)) = (json.as_object_mut(), more) {
            all.extend(more);
        }
        json
    }
}

/// Why a component has a value: the write, the fact behind it, the facts behind that, and the command where it began.
#[derive(Clone, Debug)]
pub struct Why {
    /// The last write up to the tick that was asked for.
    pub link: Link,
    /// The fact that caused it, the one that caused that, and so on.
    pub facts: Vec<StoredFact>,
    /// The command that the first of them came from, as its wire name and what it said.
    pub command: Option<(String, Value)>,
}

impl Archive {
    /// The first tick whose state can be told, and the last.
    pub(crate) fn kept_ticks(&mut self, room: &StoredRoom) -> Result<(RoomTick, RoomTick), StoreError> {
        let last = self.head_of(room)?.map_or(RoomTick(0), |head| head.tick);
        let first_chunk = self.store().chunks(room.key, ChunkKind::Ticks, 0, u64::MAX >> 1, 1)?;
        if first_chunk.first().is_some_and(|chunk| chunk.from == 0) {
            return Ok((RoomTick(0), last));
        }
        // Where there is no chunk they may all have been deleted: then there is the checkpoint that was made of them.
        let checkpoints = self.store().checkpoints(room.key)?;
        let without = if first_chunk.is_empty() { RoomTick(0) } else { last };
        Ok((checkpoints.first().map_or(without, |(tick, _)| *tick), last))
    }

    /// The first tick whose state can be told.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn first_kept(&mut self, name: &str) -> Result<RoomTick, StoreError> {
        let room = self.room(name)?;
        Ok(self.kept_ticks(&room)?.0)
    }

    /// The first tick since a process went on with a room, the last time before a tick.
    #[cfg(feature = "admin")]
    pub(crate) fn went_on(&mut self, name: &str, before: RoomTick) -> Result<Option<RoomTick>, StoreError> {
        let key = self.room(name)?.key;
        Ok(since_resumed(&self.store().checkpoints(key)?, before))
    }

    pub(crate) fn check_tick(&mut self, room: &StoredRoom, tick: RoomTick) -> Result<(), StoreError> {
        let (first, last) = self.kept_ticks(room)?;
        if (first..=last).contains(&tick) {
            return Ok(());
        }
        Err(StoreError::NoTick { room: room.header.name.clone(), tick, first, last })
    }

    /// The state of a room at a tick.
    ///
    /// # Errors
    /// If the tick is not kept, another protocol wrote it, or what is stored can't be read.
    pub fn state_at(&mut self, name: &str, tick: RoomTick) -> Result<State, StoreError> {
        self.standing_at(name, tick).map(|(state, _)| state)
    }

    /// A cursor at a tick.
    ///
    /// # Errors
    /// See [`state_at`](Self::state_at).
    pub fn cursor(&mut self, name: &str, tick: RoomTick) -> Result<Cursor<'_>, StoreError> {
        let room = self.room(name)?;
        self.check_tick(&room, tick)?;
        let (state, _) = self.stand_at(&room, tick)?;
        Ok(Cursor { archive: self, room, tick, state, ahead: BTreeMap::new(), loaded: None })
    }

    /// What differs between the states of two ticks.
    ///
    /// # Errors
    /// See [`state_at`](Self::state_at).
    pub fn diff(&mut self, name: &str, from: RoomTick, to: RoomTick) -> Result<StateDiff, StoreError> {
        let (before, after) = (self.state_at(name, from)?, self.state_at(name, to)?);
        self.difference(&before, &after)
    }

    /// What differs between two states.
    ///
    /// # Errors
    /// If a value has no JSON form.
    pub fn difference(&self, before: &State, after: &State) -> Result<StateDiff, StoreError> {
        let (before, after) = (before.to_json(self.protocol())?, after.to_json(self.protocol())?);
        let (empty, mut changes) = (serde_json::Map::new(), Vec::new());
        let all = |json: &Value| json.as_object().cloned().unwrap_or_default();
        let (before, after) = (all(&before), all(&after));
        let mut entities: Vec<&String> = before.keys().chain(after.keys()).collect();
        entities.sort_unstable();
        entities.dedup();
        for entity in entities {
            let components = |side: &'_ serde_json::Map<String, Value>| {
                side.get(entity).and_then(Value::as_object).cloned().unwrap_or_else(|| empty.clone())
            };
            let (ours, theirs) = (components(&before), components(&after));
            let mut names: Vec<&String> = ours.keys().chain(theirs.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for component in names.into_iter().filter(|name| ours.get(*name) != theirs.get(*name)) {
                let (before, after) = (ours.get(component).cloned(), theirs.get(component).cloned());
                changes.push(Change { entity: entity.clone(), component: component.clone(), before, after });
            }
        }
        Ok(StateDiff { changes })
    }

    /// Every write of an entity, or of one of its components, from one tick to another.
    ///
    /// # Errors
    /// See [`state_at`](Self::state_at); also if another protocol wrote any of these ticks.
    pub fn history(
        &mut self,
        name: &str,
        entity: &str,
        component: Option<&str>,
        from: RoomTick,
        to: RoomTick,
    ) -> Result<Vec<Link>, StoreError> {
        let room = self.room(name)?;
        self.check_tick(&room, from)?;
        let to = to.min(self.kept_ticks(&room)?.1);
        let id = EntityId::parse(entity);
        let mut state = match from.0.checked_sub(1) {
            Some(before) if self.check_tick(&room, RoomTick(before)).is_ok() => self.stand_at(&room, RoomTick(before))?.0,
            Some(_) => self.stand_at(&room, from)?.0,
            None => State::new(room.header.id()),
        };
        let mut now = values_of(&self.shared_protocol(), &state, id);
        let (mut links, mut at) = (Vec::new(), from);
        while at <= to {
            let end = RoomTick(at.0.saturating_add(WINDOW - 1)).min(to);
            for kept in self.own_ticks_of(&room, at, end)? {
                let Some(batch) = &kept.batch else { continue };
                self.links_of(&room, (&mut state, &mut now), kept.tick, batch, (id, component), &mut links)?;
            }
            let Some(next) = end.next() else { break };
            at = next;
        }
        Ok(links)
    }

    /// Follows a batch and notes what it wrote of an entity, which has these values.
    fn links_of(
        &mut self,
        room: &StoredRoom,
        (state, now): (&mut State, &mut Values),
        tick: RoomTick,
        batch: &[u8],
        (id, component): (EntityId, Option<&str>),
        links: &mut Vec<Link>,
    ) -> Result<(), StoreError> {
        let protocol = self.shared_protocol();
        let followed = state.follow(&protocol, batch);
        let Followed { operations, causes, .. } =
            followed.map_err(|error| StoreError::State { room: room.header.name.clone(), tick, error })?;
        if operations.iter().all(|operation| operation.id != id) {
            return Ok(());
        }
        let after = values_of(&protocol, state, id);
        for (operation, fact) in operations.into_iter().zip(causes).filter(|(operation, _)| operation.id == id) {
            for (name, value) in touched(&operation, now, &after) {
                if component.is_some_and(|component| component != name) {
                    continue;
                }
                let before = now.get(&name).cloned();
                let operation = operation.clone();
                links.push(Link { tick, operation, before, after: value.clone(), fact });
                match value {
                    Some(value) => now.insert(name, value),
                    None => now.remove(&name),
                };
            }
        }
        *now = after;
        Ok(())
    }

    /// Why a component has the value that it has at a tick.
    ///
    /// # Errors
    /// If the tick is not kept; or if the component was not written since another protocol wrote the room. Nothing if it was not written up to the tick, as
    /// far as is kept.
    pub fn why(&mut self, name: &str, entity: &str, component: &str, tick: RoomTick) -> Result<Option<Why>, StoreError> {
        self.why_since(name, entity, component, tick, RoomTick(0))
    }

    /// The same, if it was written in one tick or after it: nothing older is looked at, which takes long where a room is old.
    ///
    /// # Errors
    /// As [`why`](Self::why).
    pub fn why_since(
        &mut self,
        name: &str,
        entity: &str,
        component: &str,
        tick: RoomTick,
        since: RoomTick,
    ) -> Result<Option<Why>, StoreError> {
        let room = self.room(name)?;
        self.check_tick(&room, tick)?;
        if since > tick {
            return Ok(None);
        }
        let first = self.kept_ticks(&room)?.0.max(since);
        let checkpoints = self.store().checkpoints(room.key)?;
        let mut end = tick;
        let link = loop {
            // Where a process went on, another protocol may have written what was before: that is looked at only if nothing is found since.
            let own = since_resumed(&checkpoints, end).unwrap_or_default();
            let start = RoomTick(end.0.saturating_sub(WINDOW - 1)).max(first).max(own);
            let mut links = self.history(name, entity, Some(component), start, end)?;
            match links.pop() {
                Some(link) => break link,
                None if start <= first => return Ok(None),
                None => end = RoomTick(start.0 - 1),
            }
        };
        let (mut facts, mut next) = (Vec::new(), link.fact);
        while let Some(seq) = next {
            let Some(fact) = self.fact(name, seq)? else { break };
            // A cause is earlier than what it causes; whatever says otherwise is not followed.
            next = fact.cause.filter(|cause| *cause < seq);
            facts.push(fact);
        }
        let command = match facts.last() {
            Some(fact) => self.command_of(&room, &fact.clone())?,
            None => None,
        };
        Ok(Some(Why { link, facts, command }))
    }

    /// The command that a fact came from, as it was taken in.
    fn command_of(&mut self, room: &StoredRoom, fact: &StoredFact) -> Result<Option<(String, Value)>, StoreError> {
        let (Some(author), Some(command)) = (fact.author, fact.command) else { return Ok(None) };
        // Another protocol's commands have other numbers.
        let (ticks, _) = self.own_part_of(room, fact.tick, fact.tick)?;
        let found = ticks.iter().flat_map(|kept| &kept.taken).find_map(|taken| match &taken.incoming {
            Incoming::Command { user, id, kind, payload, .. } if *user == author && *id == command => Some((*kind, payload)),
            _ => None,
        });
        let Some((kind, payload)) = found else { return Ok(None) };
        let entry = self.protocol().commands.get(kind);
        Ok(entry.and_then(|entry| Some((entry.name.clone(), (entry.to_json)(payload).ok()?))))
    }

    /// What a fact changed, from before to after, for undoing it. Needs a room that tells causes.
    ///
    /// Where others wrote the same in the same tick it is not known what the fact alone did. Such a change has what was before the tick as both its values,
    /// so that a room changes nothing, and names it as a conflict. That is seen where the batch has several steps, and of facts of the same kind; of
    /// plain values a batch has the last: what another kind of fact wrote before in the same tick is undone with it.
    ///
    /// # Errors
    /// If the fact is not there, or its tick is not kept or was written by another protocol.
    pub fn changes_of(&mut self, name: &str, seq: FactSeq) -> Result<Vec<Change>, StoreError> {
        let room = self.room(name)?;
        let Some(fact) = self.fact(name, seq)? else { return Ok(Vec::new()) };
        let before = fact.tick.0.checked_sub(1).map(RoomTick);
        // Of the first tick that is kept there is the state after it, and no batch.
        self.check_tick(&room, before.unwrap_or(fact.tick))?;
        let mut state = match before {
            Some(before) => self.stand_at(&room, before)?.0,
            None => State::new(room.header.id()),
        };
        let protocol = self.shared_protocol();
        let mut changes: BTreeMap<(String, String), Change> = BTreeMap::new();
        for kept in self.own_ticks_of(&room, fact.tick, fact.tick)? {
            let Some(batch) = &kept.batch else { continue };
            let before = state.clone();
            let followed = state.follow(&protocol, batch);
            let followed = followed.map_err(|error| StoreError::State { room: name.to_owned(), tick: kept.tick, error })?;
            for (operation, cause) in followed.operations.iter().zip(&followed.causes) {
                if *cause != Some(seq) {
                    continue;
                }
                let (old, new) = (values_of(&protocol, &before, operation.id), values_of(&protocol, &state, operation.id));
                for (component, _) in touched(operation, &old, &new).into_iter().filter(|(name, _)| old.get(name) != new.get(name)) {
                    let before = old.get(&component).cloned();
                    let alone = !is_shared(&followed, seq, operation, &component);
                    let after = if alone { new.get(&component).cloned() } else { before.clone() };
                    let (entity, place) = (operation.name.clone(), (operation.name.clone(), component.clone()));
                    changes.insert(place, Change { entity, component, before, after });
                }
            }
        }
        Ok(changes.into_values().collect())
    }
}

type Values = BTreeMap<String, Value>;

/// An entity's components as JSON.
fn values_of(protocol: &crate::protocol::Protocol, state: &State, id: EntityId) -> Values {
    let names = protocol.component_names();
    names.filter_map(|name| Some((name.to_owned(), state.component(protocol, id, name)?))).collect()
}

/// What an operation wrote: each component with its value after the operation. Of several steps in one batch only the last value is known.
fn touched(operation: &Operation, before: &Values, after: &Values) -> Vec<(String, Option<Value>)> {
    match &operation.op {
        Op::Create { components } => components.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect(),
        Op::Update { kind: UpdateKind::Set, component, value } => vec![(component.clone(), Some(value.clone()))],
        Op::Update { component, .. } => vec![(component.clone(), after.get(component).cloned())],
        Op::Remove { component } => vec![(component.clone(), None)],
        Op::Delete => before.keys().map(|name| (name.clone(), None)).collect(),
    }
}

/// True if what an operation of a fact wrote was written by others too in its tick, as far as that can be told. What was deleted is deleted.
fn is_shared(followed: &Followed, seq: FactSeq, operation: &Operation, component: &str) -> bool {
    let (id, facts) = (operation.id, &followed.facts);
    let writes = |other: &&Operation| match &other.op {
        _ if other.id != id => false,
        Op::Create { components } => components.contains_key(component),
        Op::Update { component: written, .. } | Op::Remove { component: written } => written == component,
        Op::Delete => false,
    };
    let own = facts.iter().find(|fact| fact.head.seq == seq);
    let before = |own: &FactState| facts.iter().any(|fact| fact.head.seq < seq && fact.name == own.name && may_mean(&fact.json, id));
    operation.op != Op::Delete && (followed.operations.iter().filter(writes).count() > 1 || own.is_some_and(before))
}

/// True if a fact names an entity, or nobody at all.
fn may_mean(fact: &Value, id: EntityId) -> bool {
    fn ids(value: &Value, found: &mut Vec<EntityId>) {
        match value {
            Value::String(text) => found.extend(uuid::Uuid::try_parse(text).map(EntityId::from_uuid)),
            Value::Array(items) => items.iter().for_each(|item| ids(item, found)),
            Value::Object(fields) => fields.values().for_each(|field| ids(field, found)),
            _ => {}
        }
    }
    let mut named = Vec::new();
    ids(fact, &mut named);
    named.is_empty() || named.contains(&id)
}

/// Looks at a room tick by tick, forward and backward.
#[derive(Debug)]
pub struct Cursor<'a> {
    archive: &'a mut Archive,
    room: StoredRoom,
    tick: RoomTick,
    state: State,
    /// Batches that were read ahead.
    ahead: BTreeMap<RoomTick, bytes::Bytes>,
    loaded: Option<(RoomTick, RoomTick)>,
}

impl Cursor<'_> {
    /// The tick.
    pub fn tick(&self) -> RoomTick {
        self.tick
    }

    /// The state at the tick.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Goes to another tick, in either direction.
    ///
    /// # Errors
    /// If it is not kept.
    pub fn seek(&mut self, tick: RoomTick) -> Result<(), StoreError> {
        if tick < self.tick || tick.0 - self.tick.0 > WINDOW {
            self.refresh()?;
            self.archive.check_tick(&self.room, tick)?;
            (self.state, _) = self.archive.stand_at(&self.room, tick)?;
            self.tick = tick;
            return Ok(());
        }
        while self.tick < tick {
            self.forward()?;
        }
        Ok(())
    }

    /// The room may have gone on, and been sealed, since it was read.
    fn refresh(&mut self) -> Result<(), StoreError> {
        self.room = self.archive.room(&self.room.header.name)?;
        Ok(())
    }

    /// Goes on by so many ticks, or back. Stops at the ends of what is kept. Returns the tick that it is at.
    ///
    /// # Errors
    /// If what is stored can't be read.
    pub fn advance(&mut self, ticks: i64) -> Result<RoomTick, StoreError> {
        self.refresh()?;
        let (first, last) = self.archive.kept_ticks(&self.room)?;
        let wanted = i64::from(self.tick.0).saturating_add(ticks).clamp(i64::from(first.0), i64::from(last.0));
        self.seek(RoomTick(wanted as u32))?;
        Ok(self.tick)
    }

    /// Goes one tick on, and tells what it did.
    ///
    /// # Errors
    /// If there is none, another protocol wrote it, or what is stored can't be read.
    pub fn forward(&mut self) -> Result<Followed, StoreError> {
        let next = RoomTick(self.tick.0.saturating_add(1));
        if self.loaded.is_none_or(|(from, to)| !(from..=to).contains(&next)) {
            self.refresh()?;
            self.archive.check_tick(&self.room, next)?;
            let mut end = RoomTick(next.0.saturating_add(WINDOW - 1)).min(self.archive.kept_ticks(&self.room)?.1);
            let (ticks, foreign) = self.archive.own_part_of(&self.room, next, end)?;
            if let Some((first, theirs)) = foreign {
                if first <= next {
                    self.archive.check_fingerprint(&self.room, theirs)?;
                }
                end = RoomTick(first.0.saturating_sub(1));
            }
            self.ahead = ticks.into_iter().filter_map(|kept| Some((kept.tick, kept.batch?))).collect();
            self.loaded = Some((next, end));
        }
        self.tick = next;
        let Some(batch) = self.ahead.get(&next) else { return Ok(Followed::default()) };
        let followed = self.state.follow(self.archive.protocol(), batch);
        followed.map_err(|error| StoreError::State { room: self.room.header.name.clone(), tick: next, error })
    }
}

#[cfg(all(test, feature = "client"))]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::protocol::{FactHead, Producer};

    #[test]
    fn what_a_fact_wrote_is_shared_where_another_wrote_the_same_component_of_the_same_entity_in_its_tick() {
        let [ann, bob] = ["ann", "bob"].map(EntityId::named);
        let of = |id, op| Operation { note: None, id, name: String::new(), op };
        let set = |id, component: &str| of(id, Op::Update { kind: UpdateKind::Set, component: component.to_owned(), value: json!(1) });
        let fact = |seq, name: &str, said: &Value| FactState {
            head: FactHead { seq: FactSeq(seq), kind: 0, producer: Producer::User, author: None, cause: None },
            name: name.to_owned(),
            json: said.clone(),
        };
        let shared = |operations: &[Operation], facts: &[FactState], of: &Operation| {
            let followed = Followed { operations: operations.to_vec(), facts: facts.to_vec(), causes: Vec::new() };
            is_shared(&followed, FactSeq(2), of, "health")
        };
        let own = set(ann, "health");
        assert!(!shared(std::slice::from_ref(&own), &[], &own));
        let created = |component: &str| of(ann, Op::Create { components: [(component.to_owned(), json!(1))].into() });
        let (removed, deleted) = (of(ann, Op::Remove { component: "health".to_owned() }), of(ann, Op::Delete));
        for (beside, is) in [
            (set(ann, "health"), true),
            (set(bob, "health"), false),
            (set(ann, "place"), false),
            (created("health"), true),
            (created("place"), false),
            (removed, true),
            (deleted.clone(), false),
        ] {
            assert_eq!(shared(&[own.clone(), beside.clone()], &[], &own), is, "{beside:?}");
        }
        assert!(!shared(&[own.clone(), set(ann, "health"), deleted.clone()], &[], &deleted), "what was deleted is deleted");
        // An earlier fact of its kind in its tick that may mean the same entity may have written it too.
        let [of_ann, of_bob] = [ann, bob].map(|id| json!(id.to_string()));
        for (before, is) in [
            (fact(1, "healed", &of_ann), true),
            (fact(1, "healed", &json!({ "by": 3 })), true),
            (fact(1, "healed", &json!([of_bob, { "who": of_ann }])), true),
            (fact(1, "healed", &of_bob), false),
            (fact(1, "hurt", &of_ann), false),
            (fact(3, "healed", &of_ann), false),
        ] {
            assert_eq!(shared(std::slice::from_ref(&own), &[before.clone(), fact(2, "healed", &of_ann)], &own), is, "{before:?}");
        }
    }

    #[test]
    fn a_value_that_is_null_is_told_apart_from_none() {
        let operation = Operation { note: None, id: EntityId::NIL, name: "heart".to_owned(), op: Op::Delete };
        let link =
            |before, after| Link { tick: RoomTick(3), operation: operation.clone(), before, after, fact: None }.to_json(json!({ "by": 1 }));
        let (none, null) = (Value::Null, json!({ "$value": null }));
        let came = link(None, Some(Value::Null));
        assert_eq!([&came["before"], &came["after"]], [&none, &null]);
        let went = link(Some(Value::Null), None);
        assert_eq!([&went["before"], &went["after"]], [&null, &none]);
        let plain = link(Some(json!(7)), Some(json!({ "x": 8 })));
        assert_eq!(
            [&plain["before"], &plain["after"], &plain["tick"], &plain["by"]],
            [&json!(7), &json!({ "x": 8 }), &json!(3), &json!(1)]
        );
    }
}

/// The first tick behind the last checkpoint before a tick at which a process went on.
fn since_resumed(checkpoints: &[(RoomTick, bool)], before: RoomTick) -> Option<RoomTick> {
    let last = checkpoints.iter().rev().find(|(tick, resumed)| *resumed && *tick < before);
    last.map(|(tick, _)| RoomTick(tick.0.saturating_add(1)))
}
