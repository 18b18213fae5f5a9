//! Runs what was recorded again: the same intake on the same start gives the same batches, or the first difference is named.
//!
//! This is the third replay: of the intake, through the whole game. It is exact while the game keeps to what a room promises about clocks,
//! chance and order. The others read batches ([`Archive::state_at`]) and facts ([`rebuild_from_facts`]).
//!
//! A room that went on in another process went on from its stored state, so running it again does too: the order in which a world goes
//! over its entities is history, and a restored world has another one.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use serde_json::Value;

use crate::protocol::{EntityId, FactSeq, Incoming, Protocol, RoomTick, State, Trail};
use crate::room::{Blueprint, Outbox, Room, RoomError, RoomOptions, Scene};
use crate::store::{Archive, Checkpoint, KeptTick, RoomHeader, RoomKey, Store, StoreError};

use super::keeper::{KeepError, options_of};

/// Where a run differs from what was recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The first tick whose batch differs.
    pub tick: RoomTick,
    /// The first entity and component, with both values; or what else differs.
    pub what: String,
}

/// What came of running a room again.
#[derive(Clone, Debug, PartialEq)]
pub struct Rerun {
    /// How many ticks were run.
    pub ticks: u32,
    /// How many batches were the same, byte for byte.
    pub equal_batches: u32,
    /// The first difference, if there is one.
    pub difference: Option<Difference>,
    /// The state in the end.
    pub end: State,
    /// The kinds of the facts in the end, with their numbers.
    pub facts: Vec<(String, u64)>,
}

/// Changes what comes in at a tick: what-if.
pub type Edit<'a> = &'a mut dyn FnMut(RoomTick, &mut Vec<Incoming>);

/// How many ticks are read at once.
const TICKS_AT_ONCE: u32 = 600;

/// A room that runs again, tick by tick, on what was recorded.
pub(super) struct Again<'a> {
    pub(super) archive: &'a mut Archive,
    blueprint: &'a Blueprint,
    name: &'a str,
    key: RoomKey,
    /// The room as it is by now.
    pub(super) room: Room,
    /// Whether it began as a new room, with its start-up schedules, and not from a stored state.
    pub(super) is_new: bool,
    /// The tick that ran last.
    pub(super) at: RoomTick,
    /// The tick after which it need not go on.
    to: RoomTick,
    /// After which ticks another process went on with it.
    resumes: BTreeSet<u32>,
    /// What was recorded of the ticks that come, up to `read`.
    ahead: VecDeque<KeptTick>,
    read: RoomTick,
}

/// A tick that ran again.
pub(super) struct AgainTick {
    /// What was recorded of it.
    pub(super) kept: KeptTick,
    /// What came of it now.
    pub(super) outbox: Outbox,
    /// With which state another process went on before it, if one did.
    pub(super) resumed: Option<State>,
}

impl<'a> Again<'a> {
    /// The room at its creation or where a process went on with it, at or before `from`; where that is not kept any more, at the first tick
    /// that is. With its state then.
    pub(super) fn begin(
        archive: &'a mut Archive,
        blueprint: &'a Blueprint,
        name: &'a str,
        (from, to): (RoomTick, RoomTick),
    ) -> Result<(Self, State), KeepError> {
        let key = archive.room(name)?.key;
        let mut checkpoint = archive.store().checkpoint(key, from, true)?;
        let first = archive.first_kept(name)?;
        if checkpoint.as_ref().is_none_or(|checkpoint| checkpoint.tick < first) && first > RoomTick(0) {
            // What came before is not kept any more. The order in which the world goes over its entities may then be another one.
            checkpoint = archive.store().checkpoint(key, first, false)?;
        }
        let is_new = checkpoint.is_none();
        let (room, state, at) = begin(archive, blueprint, name, checkpoint)?;
        let all = archive.store().checkpoints(key)?.into_iter();
        let resumes = all.filter(|(tick, resumed)| *resumed && *tick > at).map(|(tick, _)| tick.0).collect();
        Ok((Self { archive, blueprint, name, key, room, is_new, at, to, resumes, ahead: VecDeque::new(), read: at }, state))
    }

    /// The room at its creation, from other options than it was created from, or by another protocol: it goes on in one process to the end.
    pub(super) fn anew(
        archive: &'a mut Archive,
        blueprint: &'a Blueprint,
        name: &'a str,
        options: RoomOptions,
        to: RoomTick,
    ) -> Result<Self, KeepError> {
        let key = archive.room(name)?.key;
        let (room, at) = (blueprint.room(options)?, RoomTick(0));
        let (resumes, ahead) = Default::default();
        Ok(Self { archive, blueprint, name, key, room, is_new: true, at, to, resumes, ahead, read: at })
    }

    /// Goes on in the same process from now on, wherever another one went on with what was recorded: it is not that room any more.
    pub(super) fn stay(&mut self) {
        self.resumes.clear();
    }

    /// Runs the next tick. With an `edit` on what the edit makes of its intake, and on in the same process.
    pub(super) fn tick(&mut self, edit: Option<&mut Edit<'_>>) -> Result<AgainTick, KeepError> {
        let mut resumed = None;
        if self.resumes.contains(&self.at.0) && edit.is_none() {
            let checkpoint = self.archive.store().checkpoint(self.key, self.at, true)?;
            let (room, state, at) = begin(self.archive, self.blueprint, self.name, checkpoint)?;
            (self.room, self.at, resumed) = (room, at, Some(state));
        }
        let next = RoomTick(self.at.0.saturating_add(1));
        if next > self.read {
            self.read = RoomTick(self.at.0.saturating_add(TICKS_AT_ONCE)).min(self.to.max(next));
            self.ahead = self.archive.ticks(self.name, next, self.read)?.into();
            // Somebody may compact the room meanwhile: what is not kept any more would be taken for ticks in which nothing happened.
            let first = self.archive.first_kept(self.name)?;
            if first >= next {
                return Err(StoreError::NoTick { room: self.name.to_owned(), tick: next, first, last: self.to }.into());
            }
        }
        self.at = next;
        let kept = if self.ahead.front().is_some_and(|kept| kept.tick == next) { self.ahead.pop_front() } else { None };
        let kept = kept.unwrap_or_else(|| quiet(next));
        let mut incoming: Vec<Incoming> = kept.taken.iter().map(|taken| taken.incoming.clone()).collect();
        if let Some(edit) = edit {
            edit(next, &mut incoming);
        }
        let outbox = self.room.tick(incoming).map_err(RoomError::from)?;
        Ok(AgainTick { kept, outbox, resumed })
    }

    /// What was recorded of a tick.
    pub(super) fn recorded(&mut self, tick: RoomTick) -> Result<KeptTick, KeepError> {
        Ok(self.archive.ticks(self.name, tick, tick)?.pop().unwrap_or_else(|| quiet(tick)))
    }

    /// True once in a while, and in the end: somebody may be waiting.
    pub(super) fn is_at_a_mark(&self) -> bool {
        self.at.0.is_multiple_of(TICKS_AT_ONCE) || self.at == self.to
    }
}

/// A tick of which nothing is kept, because nothing happened in it.
fn quiet(tick: RoomTick) -> KeptTick {
    KeptTick { tick, batch: None, taken: Vec::new(), trail: Trail::default() }
}

/// Runs a room again, from its creation or from where a process went on with it at or before `from`, to `to`, and compares every batch. With
/// an `edit` the intake is another one, and differences are what it asks for: the run then goes on to the end. `progress` hears the ticks.
///
/// # Errors
/// If what is stored can't be read, or the room can't be built.
pub fn rerun(
    archive: &mut Archive,
    blueprint: &Blueprint,
    name: &str,
    (from, to): (RoomTick, RoomTick),
    mut edit: Option<Edit<'_>>,
    mut progress: impl FnMut(RoomTick),
) -> Result<Rerun, KeepError> {
    let (mut again, mut state) = Again::begin(archive, blueprint, name, (from, to))?;
    let protocol = blueprint.protocol();
    let mut run = Rerun { ticks: 0, equal_batches: 0, difference: None, end: state.clone(), facts: Vec::new() };
    let mut facts = std::collections::BTreeMap::<String, u64>::new();
    if again.is_new {
        let recorded = again.recorded(RoomTick(0))?;
        compare(&mut run, &protocol, &mut state, &recorded, again.room.opening().batch.as_ref())?;
    }
    while again.at < to && (run.difference.is_none() || edit.is_some()) {
        let AgainTick { kept, outbox, resumed } = again.tick(edit.as_mut())?;
        state = resumed.unwrap_or(state);
        run.ticks += 1;
        outbox.facts.iter().for_each(|fact| *facts.entry(fact.name.to_string()).or_default() += 1);
        compare(&mut run, &protocol, &mut state, &kept, outbox.batch.as_ref())?;
        if again.is_at_a_mark() {
            progress(again.at);
        }
    }
    run.facts = facts.into_iter().collect();
    run.end = again.room.state().map_err(RoomError::from)?;
    Ok(run)
}

/// The room as it began: new, or from a checkpoint; with its state and the tick that ran last.
fn begin(archive: &mut Archive, blueprint: &Blueprint, name: &str, from: Option<Checkpoint>) -> Result<(Room, State, RoomTick), KeepError> {
    let header = archive.room(name)?.header;
    let options = options_of(&header);
    let Some(checkpoint) = from else {
        let room = blueprint.room(options)?;
        return Ok((room, State::new(header.id()), RoomTick(0)));
    };
    let (state, standing) = archive.stand(name, &checkpoint)?;
    let room = blueprint.resume(&options, Scene::Exact(&state), &standing)?;
    Ok((room, state, standing.tick))
}

/// Compares the batch of a tick with the recorded one. `state` follows the recorded ones until the first difference.
fn compare(run: &mut Rerun, protocol: &Protocol, state: &mut State, recorded: &KeptTick, ours: Option<&Bytes>) -> Result<(), KeepError> {
    if run.difference.is_none() {
        match batches_apart(protocol, state, recorded, ours)? {
            None => run.equal_batches += u32::from(ours.is_some()),
            Some(what) => run.difference = Some(Difference { tick: recorded.tick, what }),
        }
    }
    Ok(())
}

/// What differs between the batch of a tick and the recorded one; nothing if they are the same. `state` is the state before, and follows the recorded one.
pub(super) fn batches_apart(
    protocol: &Protocol,
    state: &mut State,
    recorded: &KeptTick,
    ours: Option<&Bytes>,
) -> Result<Option<String>, KeepError> {
    let fold = |state: &mut State, batch: Option<&Bytes>| batch.map_or(Ok(()), |batch| state.fold(protocol, batch).map(drop));
    if recorded.batch.as_ref() == ours {
        let tick = recorded.tick;
        return match fold(state, ours) {
            Ok(()) => Ok(None),
            Err(error) => Err(StoreError::State { room: String::new(), tick, error }.into()),
        };
    }
    let (before, mut rerun) = (state.clone(), state.clone());
    let what = match (fold(state, recorded.batch.as_ref()), fold(&mut rerun, ours)) {
        (Ok(()), Ok(())) => state.difference(protocol, &rerun).map(recorded_and_now).unwrap_or_else(|| {
            let facts = |batch: Option<&Bytes>| -> Vec<Told> {
                let followed = batch.and_then(|batch| before.clone().follow(protocol, batch).ok()).unwrap_or_default();
                followed.facts.into_iter().map(|fact| (fact.name, fact.json)).collect()
            };
            let what = facts_apart(&facts(recorded.batch.as_ref()), &facts(ours));
            let what = what.unwrap_or_else(|| {
                "and what the facts say; a value was written again, or in another way or order, or facts have other causes".to_owned()
            });
            format!("the states are the same, {what}")
        }),
        (Err(error), _) | (_, Err(error)) => error.to_string(),
    };
    Ok(Some(what))
}

/// A fact: its wire name, and what it says.
pub(super) type Told = (String, Value);

/// The first fact of a tick that is another one; nothing if all are the same.
pub(super) fn facts_apart(recorded: &[Told], ours: &[Told]) -> Option<String> {
    let place = (0..recorded.len().max(ours.len())).find(|place| recorded.get(*place) != ours.get(*place))?;
    let text = |facts: &[Told]| facts.get(place).map_or_else(|| "none".to_owned(), |(kind, json)| format!("{kind} {json}"));
    Some(format!("fact {} of the tick is {} recorded, {} now", place + 1, text(recorded), text(ours)))
}

/// Notes a new room in a store, which must have none of that name, that goes on from a tick of an old one. It keeps the old one's ids, so that
/// what its values name is found. A host that opens it by its name goes on with it.
///
/// # Errors
/// If the tick is not kept, or the store can't be written, or has a room of that name.
pub fn fork(archive: &mut Archive, name: &str, tick: RoomTick, new_name: &str, into: &mut dyn Store) -> Result<(), StoreError> {
    let (state, standing) = archive.standing_at(name, tick)?;
    let header = archive.room(name)?.header;
    let header = RoomHeader { name: new_name.to_owned(), forked_from: Some((name.to_owned(), tick)), ..header };
    archive.found_room(&header, &state, &standing, into)
}

/// What facts alone give, compared with the state that batches give.
#[derive(Clone, Debug, PartialEq)]
pub struct FromFacts {
    /// How many facts were applied.
    pub facts: u64,
    /// The components that are the same for every entity.
    pub exact: Vec<String>,
    /// The components that are not: they change otherwise than by facts. Each with the first entity that differs.
    pub otherwise: Vec<(String, String)>,
    /// Entities that are there or not otherwise than by facts: those that a `Ttl` or a system ends, or begins.
    pub lifetimes: Vec<String>,
}

/// Applies the facts of a room up to a tick to a room in which nothing else happens, and tells which components come out right.
///
/// # Errors
/// If what is stored can't be read, the room can't be built, or its first facts are not kept: of a fork they are another room's.
pub fn rebuild_from_facts(archive: &mut Archive, blueprint: &Blueprint, name: &str, to: RoomTick) -> Result<FromFacts, KeepError> {
    let header = archive.room(name)?.header;
    let last = archive.head(name)?.map_or(0, |head| head.seq.0);
    let facts = archive.facts(name, FactSeq(1), usize::MAX)?;
    // Where there is none any more, all were deleted up to the last.
    let first = facts.first().map_or(last + 1, |fact| fact.seq.0);
    if header.forked_from.is_some() || first != 1 {
        let detail = "its first facts are not kept here: nothing can be told from the others alone".to_owned();
        return Err(StoreError::Unfit { place: format!("room {name:?}"), detail }.into());
    }
    let mut room = blueprint.room_of_facts(options_of(&header))?;
    let mut count = 0;
    for fact in facts.into_iter().take_while(|fact| fact.tick <= to) {
        count += u64::from(room.apply_fact(&fact.kind, fact.tick, fact.author, &fact.json()).map_err(RoomError::from)?);
    }
    let protocol = blueprint.protocol();
    let (ours, theirs) = (room.state().map_err(RoomError::from)?, archive.state_at(name, to)?);
    let diff = archive.difference(&theirs, &ours)?;
    let (in_both, mut lifetimes) =
        (|entity: &str| ours.get(EntityId::parse(entity)).is_some() && theirs.get(EntityId::parse(entity)).is_some(), BTreeSet::new());
    let mut otherwise = std::collections::BTreeMap::<String, String>::new();
    for change in &diff.changes {
        if !in_both(&change.entity) {
            lifetimes.insert(change.entity.clone());
            continue;
        }
        otherwise.entry(change.component.clone()).or_insert_with(|| change.entity.clone());
    }
    let exact = protocol.component_names().filter(|name| !otherwise.contains_key(*name)).map(str::to_owned).collect();
    Ok(FromFacts { facts: count, exact, otherwise: otherwise.into_iter().collect(), lifetimes: lifetimes.into_iter().collect() })
}

/// A difference in the words of a run: `here` is what was recorded, `there` is what came now.
fn recorded_and_now(difference: String) -> String {
    if let Some(what) = difference.strip_suffix(" is only here") {
        return format!("{what} is recorded, but not there now");
    }
    if let Some(what) = difference.strip_suffix(" is only there") {
        return format!("{what} is there now, but not recorded");
    }
    let Some((head, tail)) = difference.rsplit_once(" here, ") else { return difference };
    format!("{head} recorded, {} now", tail.strip_suffix(" there").unwrap_or(tail))
}
