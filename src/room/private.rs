//! What a tick changed of which not everybody may know, and the message that tells one member its share of it.
//!
//! The values are encoded once, by [`collect`](super::collect); a member's message is put together from them. What comes into a member's
//! sight is encoded anew, and so are values that refer to entities of which it may not know.

use std::collections::{BTreeMap, VecDeque};

use bevy_ecs::change_detection::Tick;
use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::audience::{Audience, ViewerId, Viewers};
use super::history::History;
use super::index::EntityIndex;
use super::ledger::Ledger;
use super::snapshot::write_snapshot;
use crate::protocol::{
    CREATES, ComponentAudience, DELETES, EntityId, FACTS, FactHead, HiddenFrom, LEFT, NetId, Protocol, Recorded, RoomTick, RosterWriter,
    Rows, UPDATES, write_column, write_net_ids, write_private_head, write_removals, write_updates, write_varint,
};

/// For how many ticks it is remembered that an entity was hidden when it ended: half a minute.
const ENDED_TICKS: u32 = 600;

/// Of how many such entities at most.
const ENDED_MAX: usize = 16_384;

/// One value of one entity.
#[derive(Clone, Copy, Debug)]
struct Row {
    component: u16,
    id: u32,
    /// Where the value stands; nowhere if the component was removed.
    value: Option<(u32, u32)>,
}

/// Somebody of whom not everybody may know.
#[derive(Clone, Copy, Debug)]
enum Hidden {
    /// Those may know of it who see it, or saw it until it ended in this tick.
    Seen(NetId),
    /// It was hidden when it ended, and who saw it then is not known any more: nobody may know of it but itself.
    Ended(EntityId),
}

impl Hidden {
    fn is_known(self, beholder: Beholder<'_>) -> bool {
        match self {
            Self::Seen(id) => beholder.viewers.knew(beholder.viewer, id),
            Self::Ended(id) => beholder.viewers.is_user(beholder.viewer, id),
        }
    }
}

/// Whom a fact names of whom not everybody may know.
#[derive(Debug, Default)]
pub(crate) struct NamedByFact {
    named: Vec<Hidden>,
    author: Option<Hidden>,
}

/// The entities that were hidden when they ended. They have no place in the index any more, but facts may still name them.
#[derive(Debug, Default)]
struct Ended {
    since: BTreeMap<EntityId, RoomTick>,
    /// The same in the order in which they ended, to be forgotten in that order.
    order: VecDeque<(RoomTick, EntityId)>,
}

impl Ended {
    /// Takes note of who ended in a tick, and forgets those of long ago.
    fn note(&mut self, index: &EntityIndex, tick: RoomTick) {
        for slot in index.deaths.iter().filter_map(|death| index.slot(death.id)) {
            if slot.restricted {
                self.since.insert(slot.id, tick);
                self.order.push_back((tick, slot.id));
            } else {
                self.since.remove(&slot.id);
            }
        }
        let is_old = |(since, _): &(RoomTick, EntityId)| tick.0.saturating_sub(since.0) > ENDED_TICKS;
        while self.order.len() > ENDED_MAX || self.order.front().is_some_and(is_old) {
            let Some((since, id)) = self.order.pop_front() else { break };
            // It may have come back, and ended again.
            if self.since.get(&id) == Some(&since) {
                self.since.remove(&id);
            }
        }
    }

    fn contains(&self, index: &EntityIndex, id: EntityId) -> bool {
        index.net_id(id).is_none() && self.since.contains_key(&id)
    }

    /// True if a fact names one of them, or one is its author.
    fn is_named_by(&self, index: &EntityIndex, fact: &Recorded) -> bool {
        !self.since.is_empty() && fact.fact.named().into_iter().chain(fact.author).any(|id| self.contains(index, id))
    }
}

/// What the last tick changed of which not everybody may know. A resource of a room.
#[derive(Resource, Debug, Default)]
pub(crate) struct Private {
    /// Whether there is anything at all in the room of which not everybody may know.
    pub(crate) secretive: bool,
    rows: Vec<Row>,
    bytes: Vec<u8>,
    /// For each fact of the tick, if one of them names somebody of whom not everybody may know: no batch tells them then.
    pub(crate) facts: Vec<NamedByFact>,
    ended: Ended,
    /// Whose numbers are new, in a secretive room. They ascend.
    born: Vec<u32>,
    /// Components whose values refer to entities. In a secretive room each member is told its own.
    refer: Vec<bool>,
    audiences: Vec<ComponentAudience>,
}

impl Private {
    /// Begins a tick: `born` are the numbers of those whom its batch creates.
    pub(crate) fn begin(&mut self, world: &World, protocol: &Protocol, tick: RoomTick, born: &[u32]) {
        if self.audiences.len() != protocol.components.len() {
            self.audiences = protocol.components.iter().map(|entry| entry.audience).collect();
            self.refer = protocol.components.iter().map(|entry| entry.column.refers()).collect();
        }
        let (index, facts) = (world.resource::<EntityIndex>(), &world.resource::<Ledger>().facts);
        self.ended.note(index, tick);
        let of_components = self.audiences.iter().any(|audience| *audience != ComponentAudience::Everyone);
        // What was hidden may be all gone, but not what is said of it.
        self.secretive = of_components || index.any_restricted() || facts.iter().any(|fact| self.ended.is_named_by(index, fact));
        self.rows.clear();
        self.bytes.clear();
        self.facts.clear();
        self.born.clear();
        if self.secretive {
            self.born.extend_from_slice(born);
            self.name_facts(index, facts);
        }
    }

    /// Finds whom the facts of the tick name of whom not everybody may know.
    fn name_facts(&mut self, index: &EntityIndex, facts: &[Recorded]) {
        // Those that ended in this tick have no id any more.
        let dying = |id: EntityId| {
            let mut deaths = index.deaths.iter().map(|death| death.id);
            deaths.find(|net_id| index.slot(*net_id).is_some_and(|slot| slot.id == id))
        };
        let ended = &self.ended;
        let hidden = |id: EntityId| match index.net_id(id).or_else(|| dying(id)) {
            Some(net_id) => index.is_restricted(net_id).then_some(Hidden::Seen(net_id)),
            None => ended.contains(index, id).then_some(Hidden::Ended(id)),
        };
        let of_fact = |fact: &Recorded| {
            let named = fact.fact.named().into_iter().filter_map(hidden).collect();
            NamedByFact { named, author: fact.author.and_then(hidden) }
        };
        self.facts.extend(facts.iter().map(of_fact));
        if self.facts.iter().all(|fact| fact.named.is_empty() && fact.author.is_none()) {
            self.facts.clear();
        }
    }

    /// True if no batch tells of a component: its audience is not everyone, or each member is told its own.
    pub(crate) fn is_private(&self, component: usize) -> bool {
        self.secretive && (self.refer.get(component) == Some(&true) || self.audiences.get(component) != Some(&ComponentAudience::Everyone))
    }

    pub(crate) fn set(&mut self, component: usize, id: u32, value: &[u8]) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        self.rows.push(Row { component: component as u16, id, value: Some((start, self.bytes.len() as u32)) });
    }

    pub(crate) fn removed(&mut self, component: usize, id: u32) {
        self.rows.push(Row { component: component as u16, id, value: None });
    }

    fn audience(&self, component: usize) -> ComponentAudience {
        self.audiences.get(component).copied().unwrap_or_default()
    }

    /// True if the tick created the entity with that number.
    fn is_new(&self, id: u32) -> bool {
        self.born.binary_search(&id).is_ok()
    }
}

/// True if everybody may be told the name of an entity, and of a component of it, in a room whose facts say so: what is hidden, and what is gone
/// where something may have been hidden, has none.
pub(super) fn may_be_named(world: &World, id: EntityId, audience: ComponentAudience) -> bool {
    let is_public = match world.resource::<EntityIndex>().entity(id) {
        // Not as the index has it, which says what is public only once the viewers have been told: a run again has none, and records the same fact.
        Some(entity) => !world.get::<Audience>(entity).is_some_and(Audience::is_restricted),
        None => !world.resource::<Private>().secretive && world.resource::<History>().known_after == RoomTick(0),
    };
    is_public && audience == ComponentAudience::Everyone
}

/// What one member was told of values that refer to entities which are not for everybody.
#[derive(Debug, Default)]
pub(crate) struct ToldReferences {
    /// The tick of which it was told last.
    tick: Option<RoomTick>,
    /// By component and net id.
    values: BTreeMap<(u16, u32), Vec<u8>>,
}

impl ToldReferences {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Begins a tick. A number that is new stands for another entity than the one of which something was told by it; and who ended in a tick
    /// of which the member was not told its share is not known.
    fn begin(&mut self, tick: RoomTick, born: &[u32]) {
        if self.tick.replace(tick).map(|last| last.0) != tick.0.checked_sub(1) {
            self.values.clear();
        } else if !born.is_empty() {
            self.values.retain(|(_, id), _| born.binary_search(id).is_err());
        }
    }
}

/// What it takes to write messages for single members, kept for its buffers.
#[derive(Debug, Default)]
pub(crate) struct PrivateWriter {
    rows: Rows,
    picks: Vec<usize>,
    /// Entities that lost the component.
    removed: Vec<u32>,
    roster: RosterWriter,
    creates: Vec<u8>,
    updates: Vec<u8>,
    value: Vec<u8>,
    /// The rows that read otherwise for those who don't see everything. Once per tick.
    masked: Vec<(u16, u32)>,
    masked_at: Option<RoomTick>,
}

/// For whom a message is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beholder<'a> {
    pub(crate) viewers: &'a Viewers,
    pub(crate) viewer: ViewerId,
}

impl Beholder<'_> {
    /// True if an entity has come into its sight in this tick.
    pub(crate) fn is_new(&self, id: u32) -> bool {
        self.viewers.entered(self.viewer).binary_search(&NetId(id)).is_ok()
    }

    /// True if something came into its sight, left it, or changed hands in it.
    fn sees_otherwise(&self) -> bool {
        let (viewers, viewer) = (self.viewers, self.viewer);
        let sight = [viewers.entered(viewer), viewers.left(viewer), viewers.gone(viewer)];
        sight.into_iter().chain([viewers.gained(viewer), viewers.lost(viewer)]).any(|ids| !ids.is_empty())
    }

    /// True if it may know of a component of an entity.
    pub(crate) fn may_have(&self, id: u32, audience: ComponentAudience) -> bool {
        let id = NetId(id);
        self.viewers.sees(self.viewer, id) && self.viewers.may_have(self.viewer, id, audience)
    }
}

impl PrivateWriter {
    /// Appends what a member is told of a tick beside the batch for all. False if that need not be sent.
    pub(crate) fn write(
        &mut self,
        world: &mut World,
        tick: RoomTick,
        beholder: Beholder<'_>,
        told: &mut ToldReferences,
        (facts, batch_follows): (&[Recorded], bool),
        out: &mut Vec<u8>,
    ) -> bool {
        let private = std::mem::take(&mut *world.resource_mut::<Private>());
        let mut protocol = std::mem::take(&mut *world.resource_mut::<Protocol>());
        let Beholder { viewers, viewer } = beholder;
        told.begin(tick, &private.born);
        // References are worth a look only where one changed, or the member sees otherwise than before.
        let changed = || private.rows.iter().any(|row| private.refer.get(usize::from(row.component)) == Some(&true));
        if private.refer.contains(&true) && (beholder.sees_otherwise() || changed()) {
            self.find_masked(world, &mut protocol, &private, tick, viewers);
            world.insert_resource(HiddenFrom { words: viewers.hidden_from(viewer) });
        }
        let entered = viewers.entered(viewer);
        let columns = self.write_creates(world, &protocol, &private, beholder, told);
        let sections = self.write_sections(world, &protocol, &private, beholder, told);
        world.remove_resource::<HiddenFrom>();
        let ascending = |ids: &[NetId]| {
            let mut ids: Vec<u32> = ids.iter().map(|id| id.get()).collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let (deletes, mut left) = (ascending(viewers.gone(viewer)), ascending(viewers.left(viewer)));
        left.retain(|id| deletes.binary_search(id).is_err());
        told.values.retain(|(_, id), _| deletes.binary_search(id).is_err() && left.binary_search(id).is_err());
        let seen = |fact: &NamedByFact| fact.named.iter().all(|hidden| hidden.is_known(beholder));
        let facts: Vec<_> = facts.iter().zip(&private.facts).filter(|(_, named)| seen(named)).collect();
        let flag = |present: bool, flag: u8| if present { flag } else { 0 };
        let flags = flag(!entered.is_empty(), CREATES)
            | flag(sections > 0, UPDATES)
            | flag(!deletes.is_empty(), DELETES)
            | flag(!left.is_empty(), LEFT)
            | flag(!facts.is_empty(), FACTS);
        write_private_head(tick, flags, batch_follows, out);
        if !entered.is_empty() {
            out.extend_from_slice(&self.creates);
            write_varint(columns, out);
            out.extend_from_slice(&self.value);
        }
        if sections > 0 {
            write_varint(sections, out);
            out.extend_from_slice(&self.updates);
        }
        for ids in [&deletes, &left].into_iter().filter(|ids| !ids.is_empty()) {
            write_net_ids(ids.iter().copied(), out);
        }
        if !facts.is_empty() {
            write_varint(facts.len() as u64, out);
            for (fact, named) in facts {
                write_fact(&protocol, fact, named.author.is_none_or(|author| author.is_known(beholder)), out);
            }
        }
        *world.resource_mut::<Protocol>() = protocol;
        *world.resource_mut::<Private>() = private;
        // Parts about what has become public wait for a message of this tick, so that they don't come before its create.
        flags != 0 || !viewers.released().is_empty()
    }

    /// Writes what came into sight, as of now: the roster into `creates`, the columns into `value`. Returns how many columns.
    fn write_creates(
        &mut self,
        world: &World,
        protocol: &Protocol,
        private: &Private,
        beholder: Beholder<'_>,
        told: &mut ToldReferences,
    ) -> u64 {
        self.creates.clear();
        self.value.clear();
        let entered = beholder.viewers.entered(beholder.viewer);
        if entered.is_empty() {
            return 0;
        }
        let index = world.resource::<EntityIndex>();
        let known = entered.iter().filter_map(|id| Some((id.get(), &index.slot(*id)?.identity)));
        self.roster.write(known, &mut self.creates);
        let ids: Vec<u32> = entered.iter().map(|id| id.get()).collect();
        let mut columns = 0;
        for (component, entry) in protocol.components.iter().enumerate() {
            let rows = &mut self.rows;
            rows.clear();
            for id in entered.iter().filter(|id| beholder.may_have(id.get(), private.audience(component))) {
                let Some(slot) = index.slot(*id) else { continue };
                let start = rows.bytes.len();
                let encoded = entry.column.one(world, slot.entity, None, &mut rows.bytes);
                let key = (component as u16, id.get());
                if self.masked.binary_search(&key).is_ok() {
                    told.values.insert(key, rows.bytes.get(start..).unwrap_or_default().to_vec());
                }
                if let Ok(Some(tick)) = encoded {
                    rows.push(*id, tick);
                }
            }
            if !rows.is_empty() {
                rows.sort();
                self.picks.clear();
                self.picks.extend(rows.sorted());
                write_column(component, &ids, rows, &self.picks, &mut self.value);
                columns += 1;
            }
        }
        columns
    }

    /// Writes the updates of one member. Returns how many sections.
    fn write_sections(
        &mut self,
        world: &World,
        protocol: &Protocol,
        private: &Private,
        beholder: Beholder<'_>,
        told: &mut ToldReferences,
    ) -> u64 {
        self.updates.clear();
        let (mut sections, mut from) = (0, 0);
        for component in 0..protocol.components.len() {
            let rest = private.rows.get(from..).unwrap_or_default();
            let of_component = rest.get(..rest.partition_point(|row| usize::from(row.component) == component)).unwrap_or_default();
            from += of_component.len();
            self.rows.clear();
            self.removed.clear();
            if private.refer.get(component) == Some(&true) {
                self.add_references(world, (protocol, component), (private, of_component), beholder, told);
            } else {
                self.add_values(private, of_component, beholder);
            }
            self.add_own(world, (protocol, component), private.audience(component), beholder, told);
            self.rows.sort();
            self.picks.clear();
            self.picks.extend(self.rows.sorted());
            sections += write_updates(component, &self.rows, &self.picks, &mut self.updates, |_| {});
            if !self.removed.is_empty() {
                self.removed.sort_unstable();
                self.removed.dedup();
                write_removals(component, &self.removed, &mut self.updates);
                sections += 1;
            }
        }
        sections
    }

    /// What changed in the tick, as it was encoded for everybody.
    fn add_values(&mut self, private: &Private, rows: &[Row], beholder: Beholder<'_>) {
        for row in rows.iter().filter(|row| !beholder.is_new(row.id) && beholder.may_have(row.id, private.audience(row.component.into()))) {
            match row.value {
                None => self.removed.push(row.id),
                Some((start, end)) => {
                    self.rows.bytes.extend_from_slice(private.bytes.get(start as usize..end as usize).unwrap_or_default());
                    self.rows.push(NetId(row.id), Tick::new(0));
                }
            }
        }
    }

    /// References that changed, or that lead elsewhere for this member because something came into its sight or left it.
    fn add_references(
        &mut self,
        world: &World,
        (protocol, component): (&Protocol, usize),
        (private, changed): (&Private, &[Row]),
        beholder: Beholder<'_>,
        told: &mut ToldReferences,
    ) {
        let (Some(entry), index) = (protocol.components.get(component), world.resource::<EntityIndex>()) else { return };
        let audience = private.audience(component);
        let mut ids: Vec<u32> = changed.iter().map(|row| row.id).collect();
        let masked_at = |id: u32, masked: &[(u16, u32)]| masked.binary_search(&(component as u16, id)).is_ok();
        if beholder.sees_otherwise() {
            ids.extend(self.masked.iter().filter(|(of, _)| usize::from(*of) == component).map(|(_, id)| *id));
            ids.sort_unstable();
            ids.dedup();
        }
        for id in ids.into_iter().filter(|id| !beholder.is_new(*id) && beholder.may_have(*id, audience)) {
            let entity = index.slot(NetId(id)).map(|slot| slot.entity);
            let start = self.rows.bytes.len();
            let encoded = entity.and_then(|entity| entry.column.one(world, entity, None, &mut self.rows.bytes).ok().flatten());
            let value = self.rows.bytes.get(start..).unwrap_or_default();
            let key = (component as u16, id);
            // Of what has just been created, or is its own only now, it holds nothing. Who is told that a value is gone that it never had knows that
            // there is one.
            let is_gained = audience != ComponentAudience::Everyone && beholder.viewers.gained(beholder.viewer).contains(&NetId(id));
            let held = told.values.get(&key).map(Vec::as_slice);
            let held = held.or_else(|| (is_gained || private.is_new(id)).then_some::<&[u8]>(&[]));
            let same = held == Some(value);
            match masked_at(id, &self.masked) {
                true => drop(told.values.insert(key, value.to_vec())),
                false => drop(told.values.remove(&key)),
            }
            if same {
                self.rows.bytes.truncate(start);
                continue;
            }
            match encoded {
                Some(tick) => self.rows.push(NetId(id), tick),
                None => self.removed.push(id),
            }
        }
    }

    /// What it may have or may not have any more because an entity changed hands.
    fn add_own(
        &mut self,
        world: &World,
        (protocol, component): (&Protocol, usize),
        audience: ComponentAudience,
        beholder: Beholder<'_>,
        told: &mut ToldReferences,
    ) {
        let Beholder { viewers, viewer } = beholder;
        let Some(entry) = protocol.components.get(component).filter(|_| audience != ComponentAudience::Everyone) else { return };
        let index = world.resource::<EntityIndex>();
        for id in viewers.gained(viewer).iter().chain(viewers.lost(viewer)) {
            let Some(slot) = index.slot(*id).filter(|_| !self.rows.ids.contains(&id.get()) && !beholder.is_new(id.get())) else { continue };
            if !viewers.sees(viewer, *id) {
                continue;
            }
            if !beholder.may_have(id.get(), audience) {
                // Should it be its own once more, it is told anew.
                told.values.remove(&(component as u16, id.get()));
                // Whether it is there or not: if it went in this tick too, that was told to those alone who may have it now.
                self.removed.push(id.get());
            } else if let Ok(Some(tick)) = entry.column.one(world, slot.entity, None, &mut self.rows.bytes) {
                self.rows.push(*id, tick);
            }
        }
    }

    /// Finds, once per tick, the references that read otherwise for those who don't see everything.
    fn find_masked(&mut self, world: &mut World, protocol: &mut Protocol, private: &Private, tick: RoomTick, viewers: &Viewers) {
        if self.masked_at.replace(tick) == Some(tick) {
            return;
        }
        self.masked.clear();
        for (component, entry) in protocol.components.iter_mut().enumerate().filter(|(at, _)| private.refer.get(*at) == Some(&true)) {
            self.rows.clear();
            if entry.column.all(world, &mut self.rows).is_err() {
                continue;
            }
            world.insert_resource(HiddenFrom { words: viewers.restricted_words().to_vec() });
            self.rows.sort();
            let index = world.resource::<EntityIndex>();
            for row in self.rows.sorted() {
                self.value.clear();
                let id = self.rows.id(row);
                let Some(slot) = index.slot(NetId(id)) else { continue };
                let encoded = entry.column.one(world, slot.entity, None, &mut self.value);
                if !matches!(encoded, Ok(Some(_))) || self.rows.value(row) != self.value {
                    self.masked.push((component as u16, id));
                }
            }
            world.remove_resource::<HiddenFrom>();
        }
    }

    /// Encodes all that a member may know, as a snapshot, and takes note of the references in it.
    pub(crate) fn write_snapshot(&mut self, world: &mut World, tick: RoomTick, beholder: Beholder<'_>, told: &mut ToldReferences) -> Bytes {
        let private = std::mem::take(&mut *world.resource_mut::<Private>());
        let mut protocol = std::mem::take(&mut *world.resource_mut::<Protocol>());
        self.find_masked(world, &mut protocol, &private, tick, beholder.viewers);
        world.insert_resource(HiddenFrom { words: beholder.viewers.hidden_from(beholder.viewer) });
        told.values.clear();
        told.tick = Some(tick);
        let index = world.resource::<EntityIndex>();
        for (component, id) in &self.masked {
            let known = beholder.may_have(*id, private.audience((*component).into()));
            let entry = protocol.components.get(usize::from(*component)).filter(|_| known);
            let Some((entry, slot)) = entry.zip(index.slot(NetId(*id))) else { continue };
            let mut value = Vec::new();
            let _ = entry.column.one(world, slot.entity, None, &mut value);
            told.values.insert((*component, *id), value);
        }
        let audiences = private.audiences.clone();
        *world.resource_mut::<Protocol>() = protocol;
        *world.resource_mut::<Private>() = private;
        let may_have = |id: u32, component: Option<usize>| {
            let audience = component.and_then(|component| audiences.get(component).copied()).unwrap_or_default();
            beholder.may_have(id, audience)
        };
        let snapshot = write_snapshot(world, Some(&may_have));
        world.remove_resource::<HiddenFrom>();
        snapshot
    }
}

/// Appends a fact, with its number; its author only where that may be known.
fn write_fact(protocol: &Protocol, fact: &Recorded, tell_author: bool, out: &mut Vec<u8>) {
    write_varint(fact.seq.0, out);
    let kind = protocol.fact_index(fact.fact.kind()).unwrap_or_default();
    let author = fact.author.filter(|_| tell_author);
    FactHead { seq: fact.seq, kind, producer: fact.producer.clone(), author, cause: fact.cause }.write(out);
    // It was encoded once already, when it was recorded.
    let _ = fact.fact.encode(out);
}
