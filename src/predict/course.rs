//! What the shadow foresaw, tick by tick: where the room says the same, nothing has to be applied again.

use std::collections::{BTreeMap, VecDeque};

use bevy_ecs::change_detection::Tick;
use bevy_ecs::prelude::*;

use super::engine::{Predictor, TICKS_AHEAD_MAX, with_replica};
use super::mirror::{put, value_of, with_columns};
use super::pending::Pending;
use crate::client::{Replica, Touches};
use crate::protocol::{CodecError, Delivery, EntityId, NetId, Protocol};
use crate::room::{Foreign, Shadow, stood};

/// For how many ticks things that the room alone moves are taken over while the commands on their way stand as they were decided.
const TAKEN_OVER_TICKS: u32 = 4;

/// How many ticks are waited for values of `latest` components that are on their way.
const WAITS_TICKS: u32 = 8;

/// A component of an entity, of whichever world.
type Cell = (usize, Entity);

/// What happened in one tick of the shadow.
#[derive(Debug)]
struct Lap {
    tick: u32,
    /// What changed, and the values at its end.
    cells: Vec<(Cell, Option<Vec<u8>>)>,
    /// Nothing had come or gone until its end.
    plain: bool,
}

/// The ticks of the shadow since the last one that came true. Entities are the shadow's.
#[derive(Debug)]
pub(super) struct Course {
    laps: VecDeque<Lap>,
    /// Changes of the tick that runs count from here.
    pub(super) since: Tick,
    /// What changed in it, and whether anything else may have.
    pub(super) open: Vec<Cell>,
    pub(super) is_vague: bool,
    /// All up to the end of this tick is as the room says, and so are these values as of it.
    base: u32,
    ground: BTreeMap<Cell, Option<Vec<u8>>>,
    /// What was taken over from the room while what is on its way stood, and since when.
    pub(super) foreign: Foreign,
    pub(super) taken_over: Option<u32>,
}

impl Default for Course {
    fn default() -> Self {
        Self {
            laps: VecDeque::new(),
            since: Tick::new(0),
            open: Vec::new(),
            is_vague: false,
            base: 0,
            ground: BTreeMap::new(),
            foreign: Foreign::new(),
            taken_over: None,
        }
    }
}

impl Course {
    /// Begins anew after a tick.
    pub(super) fn begin(&mut self, since: Tick, base: u32) {
        *self = Self { since, base, is_vague: true, ..Self::default() };
    }

    /// A tick of the shadow has ended.
    pub(super) fn close(&mut self, shadow: &mut Shadow, tick: u32) {
        let mut lap = Lap { tick, cells: Vec::new(), plain: true };
        let is_lively = std::mem::take(&mut self.is_vague) || !self.open.is_empty();
        self.open.clear();
        if is_lively || shadow.has_update() {
            let touched = shadow.touched(self.since, &self.foreign);
            self.since = touched.until;
            let world = shadow.world();
            let protocol = world.resource::<Protocol>();
            lap.cells.extend(touched.rows.into_iter().map(|cell| (cell, value_of(world, protocol, cell))));
        }
        lap.plain = !shadow.is_reshaped();
        self.laps.push_back(lap);
    }

    /// What has changed since the last tick that came true, but for the tick that runs.
    pub(super) fn cells(&self) -> impl Iterator<Item = Cell> + '_ {
        self.laps.iter().flat_map(|lap| &lap.cells).map(|(cell, _)| *cell)
    }

    /// Notes what values were that are predicted now.
    pub(super) fn stand_on(&mut self, cell: Cell, value: Option<Vec<u8>>) {
        self.ground.insert(cell, value);
    }

    /// What is not predicted is as the shadow has it.
    pub(super) fn keep_ground(&mut self, predicted: impl Fn(&Cell) -> bool) {
        self.ground.retain(|cell, _| predicted(cell));
    }

    /// What was foreseen for the end of a tick of what changed until then; of the rest of what is predicted, from when on it stands.
    fn foreseen(&self, base: u32) -> BTreeMap<Cell, (u32, Option<&[u8]>)> {
        let ground = self.ground.iter().map(|(cell, value)| (*cell, (self.base, value.as_deref())));
        let laps = self.laps.iter().take_while(|lap| lap.tick <= base);
        let cells = laps.flat_map(|lap| lap.cells.iter().map(|(cell, value)| (*cell, (lap.tick, value.as_deref()))));
        ground.chain(cells).collect()
    }

    /// All up to the end of a tick came true.
    fn came_true(&mut self, base: u32) {
        while let Some(lap) = self.laps.pop_front_if(|lap| lap.tick <= base) {
            self.ground.extend(lap.cells);
        }
        self.base = base;
    }
}

/// What the room says of what was foreseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The same.
    Agrees,
    /// Nothing yet of some of it.
    Waits,
    /// Something else.
    Differs,
}

/// Where the room's word is heard: the client's world, and until which tick it counts.
#[derive(Clone, Copy)]
struct Hearing<'a> {
    world: &'a World,
    protocol: &'a Protocol,
    replica: &'a Replica,
    base: u32,
}

/// Something that the room alone moves: where it is in the shadow, its value, and as of which tick that is.
type Moved = (Cell, Vec<u8>, u32);

impl Predictor {
    /// Lets the shadow follow the replica: it goes on where all came true that it foresaw; else what is on its way is applied again.
    pub(super) fn catch_up(&mut self, world: &mut World) -> Result<(), CodecError> {
        self.take_back(world)?;
        if self.stale || (self.is_told_more(world) && self.word(world)? == Word::Differs) {
            return self.replay(world);
        }
        self.go_on(world);
        Ok(())
    }

    /// True if the room has said more than the shadow knows.
    pub(super) fn is_told_more(&self, world: &World) -> bool {
        let replica = world.resource::<Replica>();
        self.stale
            || self.moved
            || self.base(replica) > self.course.base
            || replica.touches.as_ref().is_some_and(|touches| !touches.is_empty())
    }

    /// Asks whether what was foreseen came true; if it did, it is not foreseen any more, but known. What is shown was taken back.
    fn word(&mut self, world: &mut World) -> Result<Word, CodecError> {
        let base = self.base(world.resource::<Replica>()).max(self.course.base);
        let in_order = |pending: &Pending| pending.obeyed_at.is_none_or(|tick| (tick > base) == pending.is_ahead());
        let is_plain = self.course.laps.iter().take_while(|lap| lap.tick <= base).all(|lap| lap.plain);
        if !self.filled || self.open <= base || !is_plain || !self.pending.iter().all(in_order) {
            return Ok(Word::Differs);
        }
        with_replica(world, |world, protocol, replica| {
            let (word, moved) = self.compare(Hearing { world, protocol, replica, base });
            if word == Word::Agrees {
                self.moved = false;
                replica.touches = Some(Touches::default());
                self.mirror.is_sure();
                self.take_over(moved, base)?;
                self.course.came_true(base);
                self.shadow.forget_notes();
            }
            let is_late = base > self.course.base.saturating_add(WAITS_TICKS) || self.course.laps.len() > TICKS_AHEAD_MAX as usize;
            Ok(if word == Word::Waits && is_late { Word::Differs } else { word })
        })
    }

    /// Compares what the room says with what was foreseen, and finds what it alone has moved.
    fn compare(&self, hearing: Hearing<'_>) -> (Word, Vec<Moved>) {
        let mut word = Word::Agrees;
        let mut moved = Vec::new();
        let differs = (Word::Differs, Vec::new());
        let Some(touches) = hearing.replica.touches.as_ref().filter(|touches| touches.is_of_values()) else { return differs };
        let foreseen = self.course.foreseen(hearing.base);
        let mut cells: Vec<(Cell, Option<Entity>)> = Vec::new();
        let told = self.course.laps.iter().take_while(|lap| lap.tick <= hearing.base).flat_map(|lap| &lap.cells);
        cells.extend(told.map(|(cell, _)| (*cell, self.mirror.replica_entity(cell.1))));
        for (component, entity) in touches.values.iter().copied().chain(self.mirror.unsure()) {
            let Some(twin) = self.mirror.shadow_entity(entity) else { return differs };
            cells.push(((component, twin), Some(entity)));
        }
        cells.sort_unstable();
        cells.dedup();
        let (shadow, laid) = (self.shadow.world(), self.laid());
        for (cell, entity) in cells {
            let (Some(entity), Some(entry)) = (entity, hearing.protocol.components.get(cell.0)) else { return differs };
            if entry.column.refers() {
                return differs;
            }
            let latest = entry.delivery == Delivery::Latest;
            let (theirs, version) = self.counts(hearing, (cell.0, entity), &laid);
            match foreseen.get(&cell) {
                Some((_, ours)) if *ours == theirs.as_deref() => {}
                Some((tick, _)) if latest && version < *tick && hearing.replica.complete.0 < *tick => word = Word::Waits,
                Some(_) => return differs,
                // As of when it was otherwise is not known.
                None if self.touched.rows.binary_search(&cell).is_ok() || self.course.cells().any(|other| other == cell) => return differs,
                None => match (value_of(shadow, shadow.resource::<Protocol>(), cell), theirs) {
                    (ours, theirs) if ours == theirs => {}
                    (Some(_), Some(theirs)) if latest => moved.push((cell, theirs, version)),
                    _ => return differs,
                },
            }
        }
        let since = self.course.taken_over.unwrap_or(hearing.base);
        match !moved.is_empty() && hearing.base.saturating_sub(since) >= TAKEN_OVER_TICKS {
            true => differs,
            false => (word, moved),
        }
    }

    /// What commands did of which the room's values are still on their way.
    fn laid(&self) -> BTreeMap<(usize, EntityId), Option<&[u8]>> {
        let rows = self.pending.iter().filter(|pending| pending.is_in).flat_map(|pending| &pending.rows).filter(|row| !row.settled);
        rows.map(|row| ((row.component, row.id), row.value.as_deref())).collect()
    }

    /// What counts of a component of the replica, and as of which tick it is, if it is `latest`.
    fn counts(
        &self,
        Hearing { world, protocol, replica, .. }: Hearing<'_>,
        row: Cell,
        laid: &BTreeMap<(usize, EntityId), Option<&[u8]>>,
    ) -> (Option<Vec<u8>>, u32) {
        let laid = world.get::<EntityId>(row.1).filter(|_| !laid.is_empty()).and_then(|id| laid.get(&(row.0, *id)));
        match (laid, self.mirror.held(row)) {
            (Some(laid), _) => (laid.map(<[u8]>::to_vec), u32::MAX),
            (None, Some((version, value))) => (value.clone(), *version),
            (None, None) => {
                let version = world.get::<NetId>(row.1).map_or(u32::MAX, |id| replica.versions.of(row.0, *id));
                (value_of(world, protocol, row), version)
            }
        }
    }

    /// Sets what the room alone moves. What is on its way stands as it was decided for a few ticks.
    fn take_over(&mut self, moved: Vec<Moved>, base: u32) -> Result<(), CodecError> {
        if moved.is_empty() {
            return Ok(());
        }
        let to_shadow = self.mirror.to_shadow();
        with_columns(self.shadow.world_mut(), |shadow, columns| {
            for ((component, twin), value, as_of) in &moved {
                put(shadow, columns, (*component, *twin), Some(value), to_shadow)?;
                let component = columns.components.get(*component).map(|entry| entry.type_id);
                component.into_iter().for_each(|component| stood(shadow, component, *twin, *as_of));
            }
            Ok::<_, CodecError>(())
        })?;
        let written = self.shadow.world_mut().increment_change_tick();
        self.course.foreign.extend(moved.into_iter().map(|(cell, ..)| (cell, written)));
        if !self.pending.is_empty() || self.course.cells().next().is_some() {
            self.course.taken_over.get_or_insert(base);
        }
        Ok(())
    }

    /// Notes what counted of what is predicted, before it was.
    pub(super) fn find_ground(&mut self, world: &mut World) {
        with_replica(world, |world, protocol, replica| {
            let laid = self.laid();
            let hearing = Hearing { world, protocol, replica, base: self.course.base };
            let rows = self.touched.rows.iter().filter_map(|cell| Some((*cell, (cell.0, self.mirror.replica_entity(cell.1)?))));
            let ground: Vec<_> = rows.map(|(cell, row)| (cell, self.counts(hearing, row, &laid).0)).collect();
            ground.into_iter().for_each(|(cell, value)| self.course.stand_on(cell, value));
        });
    }
}
