//! Commands that are on their way, applied to the shadow again whenever the state that they start from changed.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use bevy_ecs::prelude::*;

use super::course::Course;
use super::lead::Lead;
use super::mirror::{Mirror, Stand, Undo, put, value_of, with_columns};
use super::pending::{Pending, Row};
use super::prediction::{Mispredicted, Prediction};
use super::show::Shown;
use super::smooth::Smoothers;
use crate::client::{Connection, Note, Replica, Touches, replica_state};
use crate::protocol::{CodecError, CommandId, Delivery, EntityId, NetId, NetMap, Protocol, RoomTick};
use crate::room::{EntityIndex, Shadow, Touched, stood, turn_back_pasts};

/// Most commands on their way that are predicted; what is beyond is sent all the same.
const PENDING_MAX: usize = 256;

/// Most ticks between what is known of the room and what is shown of the prediction.
pub(super) const TICKS_AHEAD_MAX: u32 = 100;

/// Who is further ahead than that, in ticks, is so by a clock that was wrong: the host stood still, and left ticks out.
const CLOCK_OFF_MAX: u32 = TICKS_AHEAD_MAX / 5;

/// How many ticks before the first command the shadow begins, where nothing happens by itself.
const TICKS_BEFORE: u32 = 4;

/// How long a command waits for the batch of its tick, in ticks that the room was heard of since: if nothing of the tick is for this client, none
/// comes.
const SILENT_TICKS: u32 = 400;

/// How long a command waits for an answer, in ticks that the room was heard of since it should have been decided.
const UNANSWERED_TICKS: u32 = 400;

/// What predicts.
#[derive(Debug)]
pub(super) struct Predictor {
    pub(super) shadow: Shadow,
    pub(super) mirror: Mirror,
    pub(super) pending: VecDeque<Pending>,
    lead: Lead,
    /// What the shadow foresaw.
    pub(super) course: Course,
    /// The tick that runs in the shadow.
    pub(super) open: u32,
    present: u32,
    /// The newest tick of which an answer told.
    answered: u32,
    pub(super) touched: Touched,
    pub(super) filled: bool,
    /// What is on its way is to be applied again: it is not what it was.
    pub(super) stale: bool,
    /// The room has said something of what was foreseen.
    pub(super) moved: bool,
    /// What was known when the room's word was last looked at: the ticks as of which it is, and how much of it.
    settled: Option<([u32; 4], usize)>,
    pub(super) shown: Vec<Shown>,
    pub(super) hidden: Vec<Entity>,
    /// What the replica had of what is predicted before the messages came.
    pub(super) before: BTreeMap<(usize, Entity), Stand>,
    pub(super) wrong: Vec<Mispredicted>,
    pub(super) off: bool,
    /// What was shown was taken back.
    pub(super) is_bare: bool,
    /// How many commands came out otherwise when they were predicted again.
    pub(super) revised: u64,
    scratch: Vec<u8>,
}

impl Predictor {
    pub(super) fn new(shadow: Shadow) -> Self {
        Self {
            shadow,
            mirror: Mirror::default(),
            pending: VecDeque::new(),
            lead: Lead::default(),
            course: Course::default(),
            open: 0,
            present: 0,
            answered: 0,
            touched: Touched::default(),
            filled: false,
            stale: false,
            moved: false,
            settled: None,
            shown: Vec::new(),
            hidden: Vec::new(),
            before: BTreeMap::new(),
            wrong: Vec::new(),
            off: false,
            is_bare: false,
            revised: 0,
            scratch: Vec::new(),
        }
    }

    /// True if there is nothing to predict, and nothing predicted to take back.
    pub(super) fn is_idle(&self, world: &World) -> bool {
        let nothing = self.touched.rows.is_empty() && self.touched.born.is_empty() && self.touched.dead.is_empty();
        let shows = !self.shown.is_empty() || !self.hidden.is_empty() || world.resource::<Smoothers>().fades();
        self.pending.is_empty() && nothing && !shows && !self.stale && !self.shadow.has_update()
    }

    /// Forgets what is on its way, and what was shown.
    pub(super) fn forget(&mut self, world: &mut World) {
        self.pending.clear();
        self.mirror.release(u32::MAX);
        self.touched = Touched::default();
        (self.present, self.answered, self.stale, self.filled, self.settled) = (0, 0, true, false, None);
        world.resource_mut::<Smoothers>().clear();
    }

    /// Everything ordered of that tick, and of those before, is in.
    pub(super) fn base(&self, replica: &Replica) -> u32 {
        let heard = replica.tick().0;
        // Where nothing happens no batch comes. What is on its way is decided after it was sent, and so in none of the ticks before.
        let not_before = |pending: &Pending| match pending.answer {
            Some((tick, _)) => tick.saturating_sub(1),
            None => pending.server_tick.map_or(0, |tick| (tick as u32).saturating_sub(2)),
        };
        let quiet = self.pending.iter().filter(|pending| pending.is_ahead()).map(not_before).min().unwrap_or(u32::MAX);
        let ordered = replica.ordered_tick().0.max(self.answered.saturating_sub(1));
        ordered.max(heard.min(quiet)).max(heard.saturating_sub(SILENT_TICKS))
    }

    /// Takes up what was said. What is shown was taken back.
    pub(super) fn hear(&mut self, world: &mut World) -> Result<(), CodecError> {
        let mut connection = world.resource_mut::<Connection>();
        let rtt = connection.server_clock().rtt();
        let Some(journal) = &mut connection.journal else { return Ok(()) };
        let mut answers = Vec::new();
        for note in std::mem::take(&mut journal.notes) {
            match note {
                Note::Joined => {
                    answers.clear();
                    self.forget(world);
                }
                Note::Issued { id, kind, seen, payload, server_tick } => {
                    if self.pending.len() >= PENDING_MAX {
                        world.resource_mut::<Prediction>().unpredicted += 1;
                        continue;
                    }
                    let guess = server_tick.map_or(0, |tick| self.lead.expect(tick, rtt));
                    self.pending.push_back(Pending::new(id, (kind, seen, payload), server_tick, guess));
                }
                Note::Verdict { id, tick, accepted } => answers.push((id, tick.0, accepted)),
            }
        }
        if answers.is_empty() { Ok(()) } else { self.take_answers(world, &answers) }
    }

    fn take_answers(&mut self, world: &mut World, answers: &[(CommandId, u32, bool)]) -> Result<(), CodecError> {
        let (mut retimed, mut anew) = (0, false);
        for (id, tick, accepted) in answers {
            // Those before one that was obeyed were answered before; if they were not, the host dropped them.
            let count = self.pending.len();
            self.pending.retain(|pending| !*accepted || pending.id >= *id || pending.answer.is_some());
            self.stale |= self.pending.len() != count;
            self.answered = self.answered.max(*tick);
            let Some(pending) = self.pending.iter_mut().find(|pending| pending.id == *id) else { continue };
            pending.answer = Some((*tick, *accepted));
            pending.server_tick.into_iter().for_each(|sent| self.lead.learn(sent, *tick));
            retimed += u64::from(pending.obeyed_at.is_some_and(|expected| expected != *tick));
            // What the room alone moved meanwhile may be why it came out otherwise.
            anew |= pending.obeyed_at != Some(*tick) || (self.course.taken_over.is_some() && pending.accepted != *accepted);
        }
        self.settled = None;
        anew |= self.pending.iter().any(|pending| pending.answer.is_none() && pending.obeyed_at.is_some_and(|tick| tick <= self.answered));
        world.resource_mut::<Prediction>().retimed += retimed;
        if anew {
            // With the tick that is known now it may come out as it did in the room, if that is all that was not known.
            self.settle(world);
            self.replay(world)?;
        }
        let user = world.resource::<Replica>().user();
        let mut prediction = world.resource_mut::<Prediction>();
        for (id, tick, accepted) in answers {
            let Some(at) = self.pending.iter().position(|pending| pending.id == *id) else { continue };
            let Some(pending) = self.pending.get_mut(at) else { continue };
            if pending.accepted != *accepted {
                pending.differs = true;
                self.wrong.push(Mispredicted { command: *id, tick: RoomTick(*tick), entity: None, id: user, component: None });
            }
            if !*accepted {
                prediction.rejected.0 += 1;
                prediction.rejected.1 += u64::from(!pending.accepted);
                prediction.corrected += u64::from(pending.differs);
                self.stale |= pending.accepted;
                self.pending.remove(at);
            }
        }
        Ok(())
    }

    /// A message was applied. What is shown was taken back.
    pub(super) fn look(&mut self, world: &mut World) -> Result<(), CodecError> {
        self.hear(world)?;
        self.settle(world);
        Ok(())
    }

    /// Looks at what the room says of commands that it obeyed.
    fn settle(&mut self, world: &mut World) {
        if self.pending.is_empty() {
            self.mirror.release(u32::MAX);
            world.resource_mut::<Replica>().touches.iter_mut().for_each(Touches::look);
            return;
        }
        self.note_versions(world);
        let replica = world.resource::<Replica>();
        let base = self.base(replica);
        let known = [base, replica.ordered_tick().0, replica.complete.0, replica.heard.0];
        let known = Some((known, replica.touches.as_ref().map_or(0, |touches| touches.seen)));
        if std::mem::replace(&mut self.settled, known) == known {
            return;
        }
        let is_in = |pending: &Pending| pending.is_ahead() && pending.obeyed().is_some_and(|tick| tick <= base);
        if let Some(newest) = self.pending.iter().filter(|pending| is_in(pending)).filter_map(Pending::obeyed).max() {
            // The prediction of that tick is complete only at its end.
            self.advance_to(newest.saturating_add(1));
        }
        with_replica(world, |world, protocol, replica| self.confirm(world, protocol, replica, base));
    }

    /// Lets newer values of what is predicted wait for the batches of their ticks.
    fn note_versions(&mut self, world: &mut World) {
        let (replica, protocol) = (world.resource::<Replica>(), world.resource::<Protocol>());
        let Some(touches) = &replica.touches else { return };
        let base = self.base(replica);
        for row in touches.values.get(touches.seen..).unwrap_or_default() {
            let latest = protocol.components.get(row.0).is_some_and(|entry| entry.delivery == Delivery::Latest);
            let Some(before) = self.before.get(row).filter(|_| latest) else { continue };
            let Some(id) = world.get::<NetId>(row.1) else { continue };
            let version = replica.versions.of(row.0, *id);
            let stand = (version, value_of(world, protocol, *row));
            if version > base || self.mirror.held(*row).is_some() {
                self.mirror.hold(*row, before, stand.clone());
            }
            self.before.insert(*row, stand);
        }
        self.mirror.release(base);
        world.resource_mut::<Replica>().touches.iter_mut().for_each(Touches::look);
    }

    /// Compares what commands did with what the room says, of those whose tick is in, and lets go of those of which everything is.
    fn confirm(&mut self, world: &mut World, protocol: &Protocol, replica: &Replica, base: u32) {
        let (ordered, heard) = (replica.ordered_tick().0, replica.tick().0);
        let mut confirmed = 0;
        let (mirror, wrong, mut corrected, stale, moved) = (&self.mirror, &mut self.wrong, 0, &mut self.stale, &mut self.moved);
        self.pending.retain_mut(|pending| {
            if pending.answer.is_none() {
                let waits = pending.guess.saturating_add(UNANSWERED_TICKS) > heard;
                *stale |= !waits;
                return waits;
            }
            let Some(tick) = pending.obeyed().filter(|tick| *tick <= base) else { return true };
            *moved |= pending.is_ahead();
            let (first, command, differs) = (!std::mem::replace(&mut pending.is_in, true), pending.id, &mut pending.differs);
            for row in pending.rows.iter_mut().filter(|row| !row.settled) {
                let Some(entry) = protocol.components.get(row.component) else { continue };
                let entity = replica.by_id.get(&row.id).copied();
                let net_id = entity.and_then(|entity| world.get::<NetId>(entity));
                let theirs = || entity.and_then(|entity| value_of(world, protocol, (row.component, entity)));
                let (exact, theirs) = match (entry.delivery, net_id, entity) {
                    (Delivery::Latest, Some(net_id), Some(entity)) => {
                        // What waits is newer than this tick: what was predicted stays on top of what is older.
                        let held = mirror.held((row.component, entity));
                        let version = held.map_or_else(|| replica.versions.of(row.component, *net_id), |(version, _)| *version);
                        row.settled = version >= tick || (held.is_none() && replica.complete.0 >= tick);
                        (row.settled && version <= tick, held.map_or_else(theirs, |(_, value)| value.clone()))
                    }
                    _ => {
                        row.settled = true;
                        (first && ordered <= tick, theirs())
                    }
                };
                *moved |= row.settled;
                // What refers to entities is encoded by numbers of the shadow's own.
                if !exact || entry.column.refers() {
                    continue;
                }
                // The room went on from what it had, the shadow from what the codec left of it: a step of it apart is no mistake.
                let differs_here = if entry.exact { theirs != row.value } else { theirs.is_some() != row.value.is_some() };
                if differs_here {
                    *differs = true;
                    let component = Some(entry.name.clone());
                    wrong.push(Mispredicted { command, tick: RoomTick(tick), entity, id: row.id, component });
                }
            }
            let done = pending.rows.iter().all(|row| row.settled);
            confirmed += u64::from(done);
            corrected += u64::from(done && *differs);
            !done
        });
        let mut prediction = world.resource_mut::<Prediction>();
        prediction.confirmed += confirmed;
        prediction.corrected += corrected;
    }

    /// Puts the shadow back to what the room says, and applies what is on its way again. What is shown was taken back.
    pub(super) fn replay(&mut self, world: &mut World) -> Result<(), CodecError> {
        let base = self.base(world.resource::<Replica>());
        let whole = world.resource::<Replica>().touches.as_ref().is_none_or(|touches| touches.whole);
        if whole || !self.filled {
            let state = replica_state(world)?;
            let mut replica = world.resource_mut::<Replica>();
            replica.touches = Some(Touches::default());
            let (name, user) = (replica.room_name().to_owned(), replica.user());
            self.shadow.fill(&state, &name, user)?;
            self.mirror.refilled(world, world.resource::<Replica>(), self.shadow.world());
            self.filled = true;
        } else {
            self.touched = self.all_touched();
            let undo = Undo { touched: &self.touched, foreign: &self.course.foreign, base };
            let (shadow, mirror) = (&mut self.shadow, &mut self.mirror);
            with_replica(world, |world, protocol, replica| mirror.rewind(world, (protocol, replica), shadow, undo))?;
        }
        let since = self.shadow.forget_changes();
        self.touched = Touched::default();
        self.lay_over(base)?;
        self.open = self.first_tick(world, base);
        turn_back_pasts(self.shadow.world_mut(), self.open.saturating_sub(1));
        self.course.begin(since, self.open.saturating_sub(1));
        self.shadow.begin(RoomTick(self.open));
        (self.stale, self.moved) = (false, false);
        world.resource_mut::<Smoothers>().sample_anew();
        let ahead: Vec<usize> = (0..).zip(&self.pending).filter(|(_, pending)| pending.is_ahead()).map(|(at, _)| at).collect();
        ahead.into_iter().for_each(|at| self.obey(world, at));
        self.go_on(world);
        self.find_ground(world);
        Ok(())
    }

    /// The tick that runs first after a replay: the one after those that are known, unless nothing happens until later.
    fn first_tick(&self, world: &World, base: u32) -> u32 {
        let next = base.saturating_add(1);
        if self.shadow.has_update() {
            return next;
        }
        let soonest = self.pending.iter().filter(|pending| pending.is_ahead()).map(|pending| self.expected(pending)).min();
        next.max(soonest.unwrap_or_else(|| self.now(world)).saturating_sub(TICKS_BEFORE))
    }

    /// The tick in which a command was decided, or is expected to be.
    fn expected(&self, pending: &Pending) -> u32 {
        // What was decided in a tick is told together: what was not answered comes later than all that was.
        pending.answer.map_or_else(|| pending.guess.max(self.answered.saturating_add(1)), |(tick, _)| tick)
    }

    /// The tick in which a command would be decided that was sent now.
    fn now(&self, world: &World) -> u32 {
        let connection = world.resource::<Connection>();
        connection.server_tick().map_or(0, |tick| self.lead.expect(tick, connection.server_clock().rtt()))
    }

    /// What a command did to `latest` components, where the room's own values of its tick are still on their way.
    fn lay_over(&mut self, base: u32) -> Result<(), CodecError> {
        let waiting = self.pending.iter().filter(|pending| pending.is_in);
        let waiting = waiting.flat_map(|pending| pending.rows.iter().map(|row| (row, pending.obeyed().unwrap_or(base))));
        with_columns(self.shadow.world_mut(), |shadow, columns| {
            for (row, tick) in waiting.filter(|(row, _)| !row.settled) {
                let Some(twin) = shadow.resource::<EntityIndex>().entity(row.id) else { continue };
                // `latest` components refer to nobody.
                put(shadow, columns, (row.component, twin), row.value.as_deref(), &NetMap::default())?;
                let component = columns.components.get(row.component).map(|entry| entry.type_id);
                component.into_iter().for_each(|component| stood(shadow, component, twin, tick));
            }
            Ok(())
        })
    }

    /// All that the shadow has otherwise than the room.
    fn all_touched(&mut self) -> Touched {
        let mut touched = match self.course.is_vague {
            true => self.shadow.touched(self.course.since, &self.course.foreign),
            false => self.shadow.came_and_went(),
        };
        let world = self.shadow.world();
        let known = self.course.cells().chain(self.course.open.iter().copied());
        touched.rows.extend(known.filter(|(_, twin)| world.get_entity(*twin).is_ok()));
        // What the room's own values have not replaced yet.
        let index = world.resource::<EntityIndex>();
        let laid = self.pending.iter().filter(|pending| pending.is_in).flat_map(|pending| &pending.rows).filter(|row| !row.settled);
        touched.rows.extend(laid.filter_map(|row| Some((row.component, index.entity(row.id)?))));
        touched.rows.sort_unstable();
        touched.rows.dedup();
        touched
    }

    /// Lets time pass up to now, obeys what was not obeyed yet, and looks at what came of it.
    pub(super) fn go_on(&mut self, world: &mut World) {
        let fresh = self.pending.iter().position(|pending| pending.obeyed_at.is_none());
        (fresh.unwrap_or(self.pending.len())..self.pending.len()).for_each(|at| self.obey(world, at));
        let now = self.now(world);
        // It does not go back by a tick because the clock is a guess; but it does if the clock was wrong.
        let present = if self.present > now.saturating_add(CLOCK_OFF_MAX) { now } else { now.max(self.present) };
        let base = self.base(world.resource::<Replica>());
        self.present = present.clamp(base.saturating_add(1), base.saturating_add(TICKS_AHEAD_MAX));
        // What passed in the shadow meanwhile was too much, unless a command is expected that late.
        let due = self.pending.iter().filter_map(|pending| pending.obeyed_at).fold(self.present, u32::max);
        self.stale |= self.shadow.has_update() && self.open > due.saturating_add(CLOCK_OFF_MAX);
        let shown = world.resource::<Prediction>().tick.0;
        self.advance_to(self.present.min(shown));
        self.sample(world);
        self.advance_to(self.present);
        self.touched = self.all_touched();
        self.course.keep_ground(|cell| self.touched.rows.binary_search(cell).is_ok());
    }

    /// True if time has passed, or something was not obeyed yet.
    pub(super) fn is_behind(&self, world: &World) -> bool {
        self.now(world) > self.present || self.pending.iter().any(|pending| pending.obeyed_at.is_none())
    }

    fn advance_to(&mut self, tick: u32) {
        while self.open < tick {
            self.shadow.end();
            self.record();
            self.course.close(&mut self.shadow, self.open);
            self.open += 1;
            self.shadow.begin(RoomTick(self.open));
        }
    }

    /// Keeps what the commands of the tick that ends did.
    fn record(&mut self) {
        let world = self.shadow.world();
        let (protocol, index) = (world.resource::<Protocol>(), world.resource::<EntityIndex>());
        let of_now = |pending: &&mut Pending| pending.is_ahead() && pending.obeyed_at == Some(self.open);
        for pending in self.pending.iter_mut().filter(of_now) {
            let known = std::mem::replace(&mut pending.is_recorded, true);
            for row in &mut pending.rows {
                self.scratch.clear();
                let entry = protocol.components.get(row.component).zip(index.entity(row.id));
                let has =
                    entry.and_then(|(entry, entity)| entry.column.one(world, entity, None, &mut self.scratch).ok().flatten()).is_some();
                let value = has.then_some(self.scratch.as_slice());
                if row.value.as_deref() == value {
                    continue;
                }
                row.value = value.map(<[u8]>::to_vec);
                if known && !std::mem::replace(&mut pending.is_revised, true) {
                    self.revised += 1;
                }
            }
        }
    }

    /// Lets the shadow decide a command in the tick in which the room did, or is expected to.
    fn obey(&mut self, world: &mut World, at: usize) {
        let Some(pending) = self.pending.get(at) else { return };
        let tick = self.expected(pending).clamp(self.open, self.open.saturating_add(TICKS_AHEAD_MAX));
        let (fresh, unseen) = (pending.obeyed_at.is_none(), !pending.is_shown);
        if tick > self.open || unseen {
            // What was shown last may be of this tick.
            let shown = world.resource::<Prediction>().tick.0;
            if tick > shown || unseen {
                self.advance_to(shown.clamp(self.open, tick));
                self.sample(world);
            }
        }
        self.advance_to(tick);
        let Some(pending) = self.pending.get_mut(at) else { return };
        let births = self.shadow.births();
        let mark = self.shadow.world_mut().increment_change_tick();
        let accepted = self.shadow.obey(pending.id, (pending.kind, pending.seen, &pending.payload));
        let known = std::mem::replace(&mut pending.accepted, accepted) && !fresh;
        if !fresh && known != accepted && !std::mem::replace(&mut pending.is_revised, true) {
            self.revised += 1;
        }
        pending.obeyed_at = Some(tick);
        pending.births.clear();
        if !accepted {
            pending.rows.clear();
            return;
        }
        let born = self.shadow.born_after(births).into_iter().filter(|birth| !birth.minted);
        pending.births.extend(born.clone().map(|birth| birth.id));
        pending.is_recorded &= known;
        // When it is predicted again it may do something else than it did before.
        let before = pending.rows.drain(..).filter(|_| known).map(|row| ((row.component, row.id), row.value));
        let before: BTreeMap<(usize, EntityId), Option<Vec<u8>>> = before.collect();
        let rows = self.shadow.touched(mark, &self.course.foreign).rows;
        match known {
            true => self.course.is_vague = true,
            false => self.course.open.extend(&rows),
        }
        let world = self.shadow.world();
        let protocol = world.resource::<Protocol>();
        let row = |component: usize, id: EntityId| {
            let value = before.get(&(component, id)).cloned().flatten();
            Row { component, id, value, settled: false }
        };
        pending.rows.extend(rows.iter().filter_map(|(component, entity)| Some(row(*component, *world.get::<EntityId>(*entity)?))));
        for birth in born.filter(|birth| birth.lives) {
            let has = |component: &usize| value_of(world, protocol, (*component, birth.entity)).is_some();
            pending.rows.extend((0..protocol.components.len()).filter(has).map(|component| row(component, birth.id)));
        }
    }

    /// If the shadow is at the tick that was shown last, takes note of what it says now of what was shown then.
    fn sample(&mut self, world: &mut World) {
        if world.resource::<Prediction>().tick.0 == self.open {
            world.resource_mut::<Smoothers>().sample(self.shadow.world());
        }
    }
}

/// Takes protocol and replica out of the client's world while it is worked on.
pub(super) fn with_replica<T>(world: &mut World, act: impl FnOnce(&mut World, &mut Protocol, &mut Replica) -> T) -> T {
    let mut replica = Replica::take_out(world);
    let done = catch_unwind(AssertUnwindSafe(|| with_columns(world, |world, protocol| act(world, protocol, &mut replica))));
    *world.resource_mut::<Replica>() = replica;
    done.unwrap_or_else(|panic| resume_unwind(panic))
}
