//! Turns what changed since the last batch into the next one: create, then update, then delete, component first.

use std::collections::BTreeMap;

use bevy_ecs::change_detection::Tick;
use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use bevy_platform::collections::HashSet;
use bytes::Bytes;

use super::audience::tell_of_hidden_by_hand;
use super::clock::RoomClock;
use super::history::History;
use super::index::{EntityIndex, SlotState};
use super::latest::LatestValues;
use super::ledger::Ledger;
use super::outbox::Outbox;
use super::private::Private;
use crate::protocol::limits::{BATCH_BYTES_MAX, ENTITIES_MAX};
use crate::protocol::{
    BatchHead, CREATES, ChangedComponents, DELETES, FACTS, FactSeq, HASH, Lost, NOTES, NetId, Protocol, RoomTick, RosterWriter, Rows,
    StateHash, UPDATES, write_column, write_net_ids, write_removals, write_updates, write_varint,
};

/// The buffers of [`collect`], kept from tick to tick.
#[derive(Resource, Default)]
pub(crate) struct Collector {
    pub(crate) last_batch: RoomTick,
    /// The tick of the last batch without the values that travel in parts.
    pub(crate) last_ordered: RoomTick,
    rows: Rows,
    roster: Vec<u32>,
    /// Those of the roster of whom everybody may know.
    public: Vec<u32>,
    roster_writer: RosterWriter,
    deletes: Vec<(u32, Option<Tick>)>,
    created: Vec<usize>,
    updated: Vec<usize>,
    /// Those of the updated that travel in parts.
    latest: Vec<usize>,
    removed: Vec<(u32, Option<Tick>)>,
    columns: Columns,
    /// What of them everybody may know. Empty where that is all.
    public_columns: Columns,
    /// The updates of the tick.
    all: Updates,
    /// Those of them that don't travel in parts.
    ordered: Updates,
    out: Vec<u8>,
    notes: bool,
    pub(crate) hash: Option<StateHash>,
    /// The hash without the components whose delivery is `latest`.
    pub(crate) ordered_hash: Option<StateHash>,
    changed: ChangedComponents,
    /// By component and net id, what was sent last, of the components that are sent only when different.
    told: BTreeMap<usize, BTreeMap<u32, Vec<u8>>>,
}

/// The columns of created entities.
#[derive(Default)]
struct Columns {
    bytes: Vec<u8>,
    count: u64,
}

impl Columns {
    fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }
}

/// Sections of updates, and the notes on them.
#[derive(Default)]
struct Updates {
    sections: Vec<u8>,
    count: u64,
    notes: Vec<u8>,
}

impl Updates {
    fn clear(&mut self) {
        self.sections.clear();
        self.notes.clear();
        self.count = 0;
    }

    /// Appends what `from` has beyond a point.
    fn extend(&mut self, from: &Self, (sections, notes, count): (usize, usize, u64)) {
        self.sections.extend_from_slice(from.sections.get(sections..).unwrap_or_default());
        self.notes.extend_from_slice(from.notes.get(notes..).unwrap_or_default());
        self.count += from.count - count;
    }

    fn end(&self) -> (usize, usize, u64) {
        (self.sections.len(), self.notes.len(), self.count)
    }
}

impl Collector {
    /// `notes`: tell the cause of each operation. `check`: put a hash of the state on each batch.
    pub(crate) fn new(notes: bool, check: bool) -> Self {
        let hash = check.then(StateHash::default);
        Self { notes, ordered_hash: hash.clone(), hash, ..Self::default() }
    }
}

/// Which fact a change came from, as a note.
struct Causes<'a> {
    ledger: &'a Ledger,
    now: Tick,
    first: u64,
}

impl Causes<'_> {
    fn note(&self, changed: Option<Tick>, out: &mut Vec<u8>) {
        let cause = changed.and_then(|tick| self.ledger.cause_of(tick, self.now));
        write_varint(cause.map_or(0, |FactSeq(seq)| seq - self.first + 1), out);
    }
}

/// Writes the batch of the tick into the outbox, if anything changed.
///
/// # Panics
/// If a component can't be encoded, or the batch is larger than [`BATCH_BYTES_MAX`]: faults of the game, which close its room.
pub(crate) fn collect(world: &mut World) {
    let mut collector = std::mem::take(&mut *world.resource_mut::<Collector>());
    let mut protocol = std::mem::take(&mut *world.resource_mut::<Protocol>());
    tell_of_hidden_by_hand(world, &protocol);
    let since = world.resource::<Lost>().since;
    let now = world.increment_change_tick();
    let mut latest = std::mem::take(&mut *world.resource_mut::<LatestValues>());
    let mut private = std::mem::take(&mut *world.resource_mut::<Private>());
    let mut history = std::mem::take(&mut *world.resource_mut::<History>());
    let (batch, ordered) = collector.write_batch(world, &mut protocol, (&mut latest, &mut private, &mut history), (since, now));
    *world.resource_mut::<History>() = history;
    *world.resource_mut::<LatestValues>() = latest;
    *world.resource_mut::<Private>() = private;
    for entry in protocol.components.iter().filter(|entry| entry.quantity) {
        entry.column.restart_steps(world, now);
    }
    let mut lost = world.resource_mut::<Lost>();
    lost.since = now;
    lost.rows.clear();
    lost.dying = None;
    *world.resource_mut::<Protocol>() = protocol;
    *world.resource_mut::<Collector>() = collector;
    let facts = world.resource_mut::<Ledger>().take();
    let tick = world.resource::<RoomClock>().tick;
    let mut outbox = world.resource_mut::<Outbox>();
    outbox.tick = tick;
    outbox.batch = batch;
    outbox.ordered = ordered;
    outbox.facts = facts;
}

impl Collector {
    fn write_batch(
        &mut self,
        world: &mut World,
        protocol: &mut Protocol,
        (latest, private, history): (&mut LatestValues, &mut Private, &mut History),
        (since, now): (Tick, Tick),
    ) -> (Option<Bytes>, Option<Bytes>) {
        self.columns.clear();
        self.public_columns.clear();
        self.all.clear();
        self.ordered.clear();
        self.find_births_and_deaths(world);
        let (tick, index) = (world.resource::<RoomClock>().tick, world.resource::<EntityIndex>());
        latest.begin(protocol, tick, &self.roster, self.deletes.iter().map(|(id, _)| *id));
        history.begin(tick, &self.roster, self.deletes.iter().map(|(id, _)| *id));
        private.begin(world, protocol, tick, &self.roster);
        let secretive = private.secretive;
        self.public.clear();
        self.public.extend(self.roster.iter().filter(|id| !secretive || !index.is_restricted(NetId(**id))));
        let births = !self.roster.is_empty();
        // Otherwise there is more to tell than what changed in a table.
        let no_more = index.last_values.is_empty() && world.resource::<Lost>().rows.is_empty();
        let only_changes = !births && self.deletes.is_empty() && no_more;
        if only_changes {
            self.changed.look(world, protocol, since, now);
        }
        for component in 0..protocol.components.len() {
            if only_changes && !self.changed.may_have_changed(component) {
                continue;
            }
            self.gather(world, protocol, component, since, now);
            self.sort_out(births);
            if protocol.components.get(component).is_some_and(|entry| entry.when_different) {
                self.drop_equal(component);
            }
            let (is_private, index) = (private.is_private(component), world.resource::<EntityIndex>());
            self.take_latest(component, latest, |id| is_private || (secretive && index.is_restricted(NetId(id))));
            self.write_component(world, component, now, private, latest.is_latest(component));
            if !latest.is_latest(component) {
                let updated = self.updated.iter().map(|row| self.rows.id(*row));
                history.changed(tick, component, updated.chain(self.removed.iter().map(|(id, _)| *id)));
            }
        }
        latest.write_parts();
        let deletes = &self.deletes;
        let [sum, ordered_sum] = [&mut self.hash, &mut self.ordered_hash].map(|hash| {
            hash.as_mut().map(|hash| {
                deletes.iter().for_each(|(id, _)| hash.forget(*id));
                hash.sum()
            })
        });
        let (all, ordered) = (std::mem::take(&mut self.all), std::mem::take(&mut self.ordered));
        let batch = self.assemble(world, now, &all, None, (self.last_batch, sum));
        let same = self.last_ordered == self.last_batch && ordered.count == all.count && sum == ordered_sum && !secretive;
        let ordered_batch = match same {
            true => batch.clone(),
            false => self.assemble(world, now, &ordered, Some(private), (self.last_ordered, ordered_sum.filter(|_| !secretive))),
        };
        (self.all, self.ordered) = (all, ordered);
        self.last_batch = if batch.is_some() { tick } else { self.last_batch };
        self.last_ordered = if ordered_batch.is_some() { tick } else { self.last_ordered };
        history.keep(tick, ordered_batch.as_ref(), secretive);
        self.settle(world);
        (batch, ordered_batch)
    }

    /// Finds who is created and who is deleted by this batch.
    fn find_births_and_deaths(&mut self, world: &mut World) {
        self.roster.clear();
        self.deletes.clear();
        let mut index = world.resource_mut::<EntityIndex>();
        assert!(!index.full, "the room has more than {ENTITIES_MAX} entities");
        let (born, toggled) = (std::mem::take(&mut index.born), std::mem::take(&mut index.toggled));
        for id in born {
            let index = world.resource::<EntityIndex>();
            let Some(slot) = index.slot(id).filter(|slot| slot.state == SlotState::Born) else { continue };
            if world.get::<Disabled>(slot.entity).is_some() {
                world.resource_mut::<EntityIndex>().set_state(id, SlotState::Hidden);
            } else {
                self.roster.push(id.get());
            }
        }
        for id in toggled {
            let index = world.resource::<EntityIndex>();
            let Some(slot) = index.slot(id) else { continue };
            let disabled = world.get::<Disabled>(slot.entity).is_some();
            match (slot.state, disabled) {
                (SlotState::Shown, true) => {
                    self.deletes.push((id.get(), None));
                    world.resource_mut::<EntityIndex>().set_state(id, SlotState::Hidden);
                }
                // Back in sight: `gather` reads all it has, changed or not.
                (SlotState::Hidden, false) if !self.roster.contains(&id.get()) => {
                    self.roster.push(id.get());
                }
                _ => {}
            }
        }
        for death in world.resource::<EntityIndex>().deaths.iter().filter(|death| death.told) {
            self.deletes.push((death.id.get(), Some(death.tick)));
            if death.newborn {
                self.roster.push(death.id.get());
            }
        }
        self.roster.sort_unstable();
        self.deletes.sort_unstable_by_key(|(id, _)| *id);
    }

    /// Gathers the rows of one component: what changed in the world, and what died or came back with its entity.
    fn gather(&mut self, world: &mut World, protocol: &mut Protocol, component: usize, since: Tick, now: Tick) {
        let rows = &mut self.rows;
        rows.clear();
        let Some(entry) = protocol.components.get_mut(component) else { return };
        let structural = !self.roster.is_empty() || !self.deletes.is_empty();
        let scanned = entry.column.changed(world, since, now, structural, rows);
        let index = world.resource::<EntityIndex>();
        for value in index.last_values.iter().filter(|value| value.component == component) {
            rows.bytes.extend_from_slice(&value.bytes);
            rows.push(value.id, value.tick);
        }
        let mut returned = Ok(None);
        let hidden = |id: &u32| index.slot(NetId(*id)).is_some_and(|slot| slot.state == SlotState::Hidden);
        let lost = || world.resource::<Lost>().rows.iter().filter(|row| row.component == component);
        // Who has it. It is asked for each that lost it: to look through all rows each time would take the square of a mass removal.
        let is_asked = lost().next().is_some() || self.roster.iter().any(hidden);
        let mut here: HashSet<u32> = if is_asked { rows.ids.iter().copied().collect() } else { HashSet::default() };
        for id in &self.roster {
            let Some(slot) = index.slot(NetId(*id)).filter(|slot| slot.state == SlotState::Hidden) else { continue };
            if here.contains(id) {
                continue;
            }
            returned = entry.column.one(world, slot.entity, None, &mut rows.bytes);
            if let Ok(Some(tick)) = returned {
                rows.push(NetId(*id), tick);
                here.insert(*id);
            }
        }
        self.removed.clear();
        let gone = rows.gone.iter().filter(|(id, _)| index.state(*id) == SlotState::Shown && self.roster.binary_search(id).is_err());
        self.removed.extend(gone.map(|(id, tick)| (*id, Some(*tick))));
        let mut removed: HashSet<u32> = if is_asked { self.removed.iter().map(|(id, _)| *id).collect() } else { HashSet::default() };
        for row in lost() {
            let id = row.id.get();
            let told = matches!(index.state(id), SlotState::Shown) && self.roster.binary_search(&id).is_err();
            let lives = index.slot(row.id).is_some_and(|slot| slot.entity == row.entity);
            if told && lives && !here.contains(&id) && removed.insert(id) {
                self.removed.push((id, row.value.as_ref().map(|(tick, _)| *tick)));
            }
        }
        for row in lost() {
            if let Some((tick, value)) = &row.value
                && removed.contains(&row.id.get())
                && here.insert(row.id.get())
            {
                rows.bytes.extend_from_slice(value);
                rows.push(row.id, *tick);
            }
        }
        self.removed.sort_unstable_by_key(|(id, _)| *id);
        if let Err(error) = scanned.and(returned) {
            panic!("the component {} can't be encoded: {error}", entry.name);
        }
        rows.sort();
    }

    /// Tells the rows of created entities from the others.
    fn sort_out(&mut self, births: bool) {
        self.created.clear();
        self.updated.clear();
        if births {
            for row in self.rows.sorted() {
                let created = self.roster.binary_search(&self.rows.id(row)).is_ok();
                if created { &mut self.created } else { &mut self.updated }.push(row);
            }
        } else {
            self.updated.extend(self.rows.sorted());
        }
    }

    /// Drops the updates that say what was said last. Steps are told in any case.
    fn drop_equal(&mut self, component: usize) {
        let told = self.told.entry(component).or_default();
        let rows = &self.rows;
        let mut differs = |row: usize| {
            let (last, value) = (told.entry(rows.id(row)).or_default(), rows.value(row));
            // A value may be empty, and is then told when it comes.
            let equal = !last.is_empty() && last == value;
            last.clear();
            last.extend_from_slice(value);
            !equal || rows.steps_of(row).is_some()
        };
        for row in &self.created {
            differs(*row);
        }
        self.updated.retain(|row| differs(*row));
        for (id, _) in self.removed.iter().chain(&self.deletes) {
            told.remove(id);
        }
    }

    /// Tells the updates that travel in parts from those that go with the batch.
    fn take_latest(&mut self, component: usize, latest: &mut LatestValues, is_private: impl Fn(u32) -> bool) {
        self.latest.clear();
        if !latest.is_latest(component) {
            return;
        }
        for row in self.removed.iter().map(|(id, _)| *id) {
            latest.changed(component, row);
        }
        let rows = &self.rows;
        // What is removed or deleted in the same tick keeps its order with that.
        let removed = |id: u32| {
            let among = |gone: &[(u32, Option<Tick>)]| gone.binary_search_by_key(&id, |(id, _)| *id).is_ok();
            among(&self.removed) || among(&self.deletes)
        };
        for row in &self.updated {
            let id = rows.id(*row);
            latest.changed(component, id);
            if !removed(id) && latest.take(component, id, rows.value(*row), is_private(id)) {
                self.latest.push(*row);
            }
        }
    }

    /// Writes the gathered rows: those of created entities into a column, the others into sections of updates.
    fn write_component(&mut self, world: &World, component: usize, now: Tick, private: &mut Private, is_latest: bool) {
        if self.rows.is_empty() && self.removed.is_empty() {
            return;
        }
        if !self.created.is_empty() {
            self.columns.count += 1;
            write_column(component, &self.roster, &self.rows, &self.created, &mut self.columns.bytes);
        }
        let ledger = world.resource::<Ledger>();
        let causes = self.notes.then_some(Causes { ledger, now, first: first_seq(ledger) });
        let write = |rows: &Rows, picks: &[usize], all: &mut Updates| {
            let Updates { sections, notes, count } = all;
            *count += write_updates(component, rows, picks, sections, |row| {
                if let Some(causes) = &causes {
                    causes.note(rows.ticks.get(row).copied(), notes);
                }
            });
        };
        let all = &mut self.all;
        write(&self.rows, &self.latest, all);
        let end = all.end();
        if is_latest {
            // The rest goes in order, as sets: who lost a part does not have what a step is to be taken from.
            self.rows.steps.clear();
        }
        if !self.latest.is_empty() {
            // Both ascend.
            let mut latest = self.latest.iter().peekable();
            self.updated.retain(|row| latest.next_if_eq(&row).is_none());
        }
        write(&self.rows, &self.updated, all);
        if !self.removed.is_empty() {
            all.count += 1;
            let ids: Vec<u32> = self.removed.iter().map(|(id, _)| *id).collect();
            write_removals(component, &ids, &mut all.sections);
            if let Some(causes) = &causes {
                self.removed.iter().for_each(|(_, tick)| causes.note(*tick, &mut all.notes));
            }
        }
        if private.secretive {
            self.write_public(world, component, private);
        } else {
            self.ordered.extend(&self.all, end);
        }
        let hashes = [self.hash.as_mut(), self.ordered_hash.as_mut().filter(|_| !is_latest)];
        for hash in hashes.into_iter().flatten() {
            for row in self.rows.sorted() {
                hash.set(component, self.rows.id(row), self.rows.value(row));
            }
            self.removed.iter().for_each(|(id, _)| hash.unset(component, *id));
        }
    }

    /// Tells what everybody may know from what goes to single members, where there is a difference. What travels in parts is out already.
    fn write_public(&mut self, world: &World, component: usize, private: &mut Private) {
        let (is_private, index) = (private.is_private(component), world.resource::<EntityIndex>());
        let hidden = |id: u32| is_private || index.is_restricted(NetId(id));
        let rows = &self.rows;
        for row in self.created.iter().filter(|_| is_private) {
            // What is restricted itself is encoded for those into whose sight it comes.
            if !index.is_restricted(NetId(rows.id(*row))) {
                private.set(component, rows.id(*row), rows.value(*row));
            }
        }
        self.updated.iter().filter(|row| hidden(rows.id(**row))).for_each(|row| private.set(component, rows.id(*row), rows.value(*row)));
        self.removed.iter().filter(|(id, _)| hidden(*id)).for_each(|(id, _)| private.removed(component, *id));
        if is_private {
            return;
        }
        self.created.retain(|row| !hidden(rows.id(*row)));
        self.updated.retain(|row| !hidden(rows.id(*row)));
        if !self.created.is_empty() {
            self.public_columns.count += 1;
            write_column(component, &self.public, rows, &self.created, &mut self.public_columns.bytes);
        }
        let ordered = &mut self.ordered;
        ordered.count += write_updates(component, rows, &self.updated, &mut ordered.sections, |_| {});
        let removed: Vec<u32> = self.removed.iter().map(|(id, _)| *id).filter(|id| !hidden(*id)).collect();
        if !removed.is_empty() {
            ordered.count += 1;
            write_removals(component, &removed, &mut ordered.sections);
        }
    }

    /// Puts a batch together: of all that happened, or for everybody.
    fn assemble(
        &mut self,
        world: &World,
        now: Tick,
        updates: &Updates,
        public: Option<&Private>,
        (after, hash): (RoomTick, Option<u64>),
    ) -> Option<Bytes> {
        let (ledger, index) = (world.resource::<Ledger>(), world.resource::<EntityIndex>());
        let secretive = public.is_some_and(|private| private.secretive);
        let (roster, columns) = if secretive { (&self.public, &self.public_columns) } else { (&self.roster, &self.columns) };
        let may_know = |id: u32| !secretive || !index.is_restricted(NetId(id));
        let deletes: Vec<u32> = self.deletes.iter().map(|(id, _)| *id).filter(|id| may_know(*id)).collect();
        let facts = !ledger.facts.is_empty() && public.is_none_or(|private| private.facts.is_empty());
        let flag = |present: bool, flag: u8| if present { flag } else { 0 };
        let mut flags =
            flag(!roster.is_empty(), CREATES) | flag(updates.count > 0, UPDATES) | flag(!deletes.is_empty(), DELETES) | flag(facts, FACTS);
        if flags == 0 {
            return None;
        }
        flags |= flag(hash.is_some(), HASH) | flag(self.notes && facts && !secretive, NOTES);
        let tick = world.resource::<RoomClock>().tick;
        let out = &mut self.out;
        out.clear();
        BatchHead { tick, after, flags }.write(out);
        if !roster.is_empty() {
            let entities = roster.iter().filter_map(|id| Some((*id, &index.slot(NetId(*id))?.identity)));
            self.roster_writer.write(entities, out);
            write_varint(columns.count, out);
            out.extend_from_slice(&columns.bytes);
        }
        if updates.count > 0 {
            write_varint(updates.count, out);
            out.extend_from_slice(&updates.sections);
        }
        if !deletes.is_empty() {
            write_net_ids(deletes.iter().copied(), out);
        }
        if facts {
            write_varint(first_seq(ledger), out);
            write_varint(ledger.facts.len() as u64, out);
            out.extend_from_slice(&ledger.bytes);
        }
        if flags & NOTES != 0 {
            let causes = Causes { ledger, now, first: first_seq(ledger) };
            for id in roster {
                causes.note(index.slot(NetId(*id)).map(|slot| slot.born), out);
            }
            out.extend_from_slice(&updates.notes);
            self.deletes.iter().for_each(|(_, tick)| causes.note(*tick, out));
        }
        if let Some(hash) = hash {
            out.extend_from_slice(&hash.to_le_bytes());
        }
        assert!(out.len() <= BATCH_BYTES_MAX, "the batch of tick {tick} has {} bytes, at most {BATCH_BYTES_MAX} allowed", out.len());
        Some(Bytes::copy_from_slice(out))
    }

    /// Takes note of what the replicas know now.
    fn settle(&mut self, world: &mut World) {
        let mut index = world.resource_mut::<EntityIndex>();
        for id in &self.roster {
            if !matches!(index.state(*id), SlotState::Buried) {
                index.set_state(NetId(*id), SlotState::Shown);
            }
        }
        index.free_the_dead();
    }
}

fn first_seq(ledger: &Ledger) -> u64 {
    ledger.facts.first().map_or(0, |fact| fact.seq.0)
}
