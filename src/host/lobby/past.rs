//! Rooms as they were some time ago, and who watches them.
//!
//! What is stored of a room is what went out of it, so whoever watches its past is sent the same batches, later. No world runs for that, and
//! no tick of a live room waits for it: somebody else [reads](PastRequest), and what it read waits here until its time has come.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::Lobby;
use crate::host::limits::HostLimits;
use crate::host::session::{ConnectionId, Session, Stage};
use crate::protocol::limits::{BATCH_MESSAGE_BYTES_MAX, TICKS_PER_SECOND};
use crate::protocol::{CommandId, EntityId, Fingerprint, Moment, Refusal, Rejection, RoomId, RoomTick, ServerMessage, When, batch_message};

/// With fewer ticks in hand than this, or half of what there can be, more are asked for.
const IN_HAND_MIN: u32 = 50;

/// A snapshot is asked for so many ticks ahead, so that it is here when its time has come.
const SNAPSHOT_AHEAD: u32 = 4;

/// For how many ticks a past that nobody watches any more is kept ready.
const UNWATCHED_MAX: u32 = 100;

/// What a lobby wants to know of a room's past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastRequest {
    pub(crate) serial: u64,
    /// The room.
    pub room: String,
    /// The ticks after this one are wanted.
    pub after: RoomTick,
    /// The state of this tick is wanted too.
    pub snapshot: Option<RoomTick>,
}

/// What was read for a [`PastRequest`].
#[derive(Clone, Debug, Default)]
pub struct PastAnswer {
    pub(crate) serial: u64,
    /// The batches, as they went out, but without hashes.
    pub(crate) batches: Vec<(RoomTick, Bytes)>,
    /// The state, as messages, and its tick: the first that is kept, if the one that was asked for is not.
    pub(crate) snapshot: Option<(RoomTick, Vec<Bytes>)>,
    /// All ticks up to this one have been read.
    pub(crate) read_to: RoomTick,
    /// Nothing of the room is stored after that.
    pub(crate) at_end: bool,
    /// Why it could not be read.
    pub(crate) failed: Option<String>,
}

impl PastAnswer {
    /// The answer if nobody can read.
    pub(crate) fn nobody(request: &PastRequest) -> Self {
        Self { serial: request.serial, failed: Some("nobody reads it".to_owned()), ..Self::default() }
    }
}

/// Something whose time has not come yet.
#[derive(Debug)]
enum Step {
    Snapshot(Vec<Bytes>),
    Batch(Bytes),
}

/// A room as it was some time ago.
#[derive(Debug)]
struct PastRoom {
    serial: u64,
    room: String,
    id: RoomId,
    /// By how many ticks it is behind its room.
    behind: u32,
    /// The tick that is shown.
    position: RoomTick,
    /// The tick whose time has come, if the room is gone.
    alone: Option<RoomTick>,
    steps: VecDeque<(RoomTick, Step)>,
    read_to: RoomTick,
    at_end: bool,
    /// A request is on its way.
    reading: bool,
    /// The snapshot that is on its way: until it is here nothing after it is shown.
    snapshot_due: Option<RoomTick>,
    members: BTreeSet<ConnectionId>,
    arriving: BTreeSet<ConnectionId>,
    unwatched: u32,
}

/// The pasts that are watched, by their room and by how far they are behind.
#[derive(Debug, Default)]
pub(super) struct Pasts {
    rooms: BTreeMap<String, PastRoom>,
    requests: Vec<PastRequest>,
    serial: u64,
    /// Whether somebody reads what is asked for.
    can_read: bool,
    /// It was told that something can't be read.
    is_failure_told: bool,
}

impl Pasts {
    /// Takes somebody out of a past. False if that is none.
    pub(super) fn leave(&mut self, key: &str, connection: ConnectionId) -> bool {
        let Some(past) = self.rooms.get_mut(key) else { return false };
        past.members.remove(&connection);
        past.arriving.remove(&connection);
        true
    }

    /// How many watch, or are about to.
    pub(super) fn watchers(&self) -> usize {
        self.rooms.values().map(|past| past.members.len() + past.arriving.len()).sum()
    }

    /// The tick that a past shows.
    pub(super) fn position(&self, key: &str) -> Option<RoomTick> {
        self.rooms.get(key).map(|past| past.position)
    }
}

fn refusal(code: &'static str, why: impl Into<String>) -> Refusal {
    Refusal::Rejected(Rejection::new(code).because(why))
}

fn secretive() -> Refusal {
    refusal("secretive", "not everybody may know everything there any more, so its past is not shown")
}

/// How people write a span of ticks.
fn seconds(ticks: u32) -> f64 {
    f64::from(ticks) / f64::from(TICKS_PER_SECOND)
}

impl Lobby {
    /// Says that what is [asked](Self::past_requests) of the past of rooms will be answered. Without it nobody can watch a past.
    pub fn can_read_pasts(&mut self) {
        self.pasts.can_read = true;
    }

    /// True if somebody watches the past of a room.
    pub fn has_pasts(&self) -> bool {
        !self.pasts.rooms.is_empty()
    }

    /// True if it wants to know anything of the past of rooms.
    pub(crate) fn wants_pasts(&self) -> bool {
        !self.pasts.requests.is_empty()
    }

    /// What it wants to know of the past of rooms.
    pub fn past_requests(&mut self) -> Vec<PastRequest> {
        std::mem::take(&mut self.pasts.requests)
    }

    /// The way to a room's present, for one who only watches. A host may show it to nobody but those who play.
    pub(super) fn check_present(limits: &HostLimits, room: &str) -> Result<(), Refusal> {
        match limits.spectators_behind_min {
            0 => Ok(()),
            ticks => {
                let seconds = seconds(ticks);
                Err(refusal("too_close", format!("spectators see this room {seconds} s late or more: ask for {room}@-{seconds}s")))
            }
        }
    }

    /// Lets somebody watch a room's past.
    pub(super) fn hello_past(&mut self, connection: ConnectionId, fingerprint: Fingerprint, moment: Moment<'_>, spectate: bool) {
        let watched = self.watch(connection, fingerprint, moment, spectate);
        if let Err(why) = watched {
            self.counters.refused += 1;
            self.refuse(connection, &why);
        }
    }

    fn watch(&mut self, connection: ConnectionId, fingerprint: Fingerprint, moment: Moment<'_>, spectate: bool) -> Result<(), Refusal> {
        let name = moment.room;
        let hosted = self.rooms.get(name).ok_or_else(|| Refusal::NoSuchRoom(name.to_owned()))?;
        hosted.check_protocol(fingerprint)?;
        let now = hosted.room.tick_now();
        let behind = match moment.when {
            When::Ago(ticks) => ticks,
            When::At(tick) if tick > now => {
                return Err(refusal("not_yet", format!("{name} is at tick {now}: tick {tick} is not past")));
            }
            When::At(tick) => now.0 - tick.0,
        };
        let min = self.limits.spectators_behind_min;
        if !spectate {
            return Err(refusal("only_to_watch", "nobody plays in the past: join as a spectator"));
        }
        if !self.pasts.can_read {
            return Err(refusal("no_past", "this server does not keep what happened: it has no store"));
        }
        if behind < min {
            return Err(refusal("too_close", format!("spectators see this room {} s late or more", seconds(min))));
        }
        if hosted.room.is_secretive() {
            return Err(refusal("secretive", format!("not everybody may know everything in {name}, so its past is not shown")));
        }
        let key = format!("{name}@-{behind}");
        if !self.pasts.rooms.contains_key(&key) {
            if self.pasts.rooms.len() >= self.limits.pasts_max {
                return Err(refusal("pasts_full", "as many pasts are watched as this server shows"));
            }
            let begin = RoomTick(now.0.saturating_sub(behind)).max(hosted.room.public_since());
            self.pasts.serial += 1;
            let past = PastRoom::new(self.pasts.serial, (name, hosted.room.info().id), behind, begin);
            self.pasts.rooms.insert(key.clone(), past);
        }
        let Some(past) = self.pasts.rooms.get_mut(&key) else { return Ok(()) };
        if past.members.len() + past.arriving.len() >= self.limits.members_per_room_max {
            return Err(refusal("room_full", "as many watch it as may"));
        }
        past.arriving.insert(connection);
        if let Some(session) = self.sessions.get_mut(&connection) {
            session.joins(key, (true, None), self.now, self.limits.bytes_per_second_max);
        }
        Ok(())
    }

    /// Takes what was read.
    pub fn past_answer(&mut self, answer: PastAnswer) {
        let found = self.pasts.rooms.iter_mut().find(|(_, past)| past.serial == answer.serial);
        // One that nobody watches any more may be gone.
        let Some((key, past)) = found else { return };
        match answer.failed {
            None => past.take(answer),
            Some(why) => {
                // Whoever watches can have it tried again as often as they like.
                if std::mem::replace(&mut self.pasts.is_failure_told, true) {
                    tracing::debug!(room = past.room, why, "a room's past can't be read");
                } else {
                    tracing::error!(room = past.room, why, "a room's past can't be read; from now on that is told at the level debug");
                }
                let key = key.clone();
                self.close_past(&key, &Refusal::RoomClosed("its past can't be read".to_owned()));
            }
        }
    }

    fn close_past(&mut self, key: &str, why: &Refusal) {
        let Some(past) = self.pasts.rooms.remove(key) else { return };
        for connection in past.members.iter().chain(&past.arriving) {
            self.refuse(*connection, why);
        }
    }

    /// Ends the pasts of a room in which not everybody may know everything. To be called as soon as it ticked: what comes next may end the room, which
    /// can't be asked any more then, while its past would go on.
    pub(super) fn end_secret_pasts(&mut self, name: &str) {
        if self.pasts.rooms.is_empty() || !self.rooms.get(name).is_some_and(|hosted| hosted.room.is_secretive()) {
            return;
        }
        let of_room = self.pasts.rooms.iter().filter(|(_, past)| past.room == name);
        let keys: Vec<String> = of_room.map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| self.close_past(key, &secretive()));
    }

    /// Shows the pasts that are watched a tick further, and asks for what comes next. To be called once per tick.
    pub fn tick_pasts(&mut self) {
        let mut over: Vec<(String, Option<Refusal>)> = Vec::new();
        for (key, past) in &mut self.pasts.rooms {
            let live = self.rooms.get(&past.room).map(|hosted| &hosted.room);
            if live.is_some_and(|room| room.is_secretive() || room.public_since() > past.position) {
                over.push((key.clone(), Some(secretive())));
                continue;
            }
            let due = past.due(live.map(|room| room.tick_now()));
            past.go_on(due, &mut self.sessions, &self.limits);
            for connection in &past.members {
                let Some(session) = self.sessions.get_mut(connection) else { continue };
                session.served = self.now;
                session.delivery.round(self.now, past.position, None);
                if session.delivery.has_packets() {
                    self.served.push(*connection);
                }
            }
            self.pasts.requests.extend(past.next_request(due, &self.sessions));
            let is_over = live.is_none() && past.is_over(&self.sessions);
            past.unwatched = if past.members.is_empty() && past.arriving.is_empty() { past.unwatched + 1 } else { 0 };
            if is_over || past.unwatched > UNWATCHED_MAX {
                over.push((key.clone(), is_over.then(|| Refusal::RoomClosed("that was the end of it".to_owned()))));
            }
        }
        for (key, why) in over {
            self.close_past(&key, &why.unwrap_or(Refusal::ShuttingDown));
        }
    }
}

impl PastRoom {
    fn new(serial: u64, (room, id): (&str, RoomId), behind: u32, begin: RoomTick) -> Self {
        let (steps, members, arriving) = Default::default();
        Self {
            serial,
            room: room.to_owned(),
            id,
            behind,
            position: begin,
            alone: None,
            steps,
            read_to: begin,
            at_end: false,
            reading: false,
            snapshot_due: None,
            members,
            arriving,
            unwatched: 0,
        }
    }

    /// The tick whose time has come. Once the room is gone, time goes on without it.
    fn due(&mut self, live: Option<RoomTick>) -> RoomTick {
        let due = match (live, self.alone) {
            (Some(live), _) => RoomTick(live.0.saturating_sub(self.behind)),
            (None, alone) => RoomTick(alone.unwrap_or(self.position).0.saturating_add(1)),
        };
        self.alone = Some(due);
        due
    }

    /// True if all that is stored was shown, and has arrived or had the time to.
    fn is_over(&self, sessions: &BTreeMap<ConnectionId, Session>) -> bool {
        let has_all = |connection: &ConnectionId| sessions.get(connection).is_none_or(|session| session.delivery.is_there());
        let waited = self.alone.is_some_and(|due| due.0.saturating_sub(self.read_to.0) > UNWATCHED_MAX);
        self.at_end && self.position >= self.read_to && self.steps.is_empty() && (waited || self.members.iter().all(has_all))
    }

    fn take(&mut self, answer: PastAnswer) {
        self.reading = false;
        (self.read_to, self.at_end) = (self.read_to.max(answer.read_to), answer.at_end);
        self.steps.extend(answer.batches.into_iter().map(|(tick, batch)| (tick, Step::Batch(batch))));
        if let Some((tick, messages)) = answer.snapshot {
            self.snapshot_due = None;
            // After the batches that are in it.
            let place = self.steps.partition_point(|(before, _)| *before <= tick);
            self.steps.insert(place, (tick, Step::Snapshot(messages)));
        }
    }

    /// Shows what there is up to a tick.
    fn go_on(&mut self, due: RoomTick, sessions: &mut BTreeMap<ConnectionId, Session>, limits: &HostLimits) {
        let shown = due.min(self.read_to).min(self.snapshot_due.unwrap_or(due));
        while let Some((tick, step)) = self.steps.pop_front_if(|(tick, _)| *tick <= shown) {
            match step {
                Step::Snapshot(messages) => self.give_snapshot(tick, &messages, sessions),
                Step::Batch(batch) => self.give_batch(tick, &batch, sessions, limits),
            }
        }
        self.position = self.position.max(shown);
    }

    fn give_snapshot(&mut self, tick: RoomTick, messages: &[Bytes], sessions: &mut BTreeMap<ConnectionId, Session>) {
        for connection in std::mem::take(&mut self.arriving) {
            let Some(session) = sessions.get_mut(&connection) else { continue };
            let name = format!("{}@-{}s", self.room, seconds(self.behind));
            let (user, last_command) = (EntityId::NIL, CommandId(0));
            let welcome = ServerMessage::Welcome { room: self.id, epoch: 0, resumed: false, name, user, last_command };
            session.push(welcome.encode().unwrap_or_default());
            session.stage = Stage::Live;
            give_snapshot(session, tick, messages);
            self.members.insert(connection);
            tracing::info!(connection = connection.0, room = self.room, behind = self.behind, "watches the past");
        }
        for connection in &self.members {
            sessions.get_mut(connection).filter(|session| wants_again(session)).into_iter().for_each(|session| {
                give_snapshot(session, tick, messages);
            });
        }
    }

    fn give_batch(&self, tick: RoomTick, batch: &Bytes, sessions: &mut BTreeMap<ConnectionId, Session>, limits: &HostLimits) {
        let message = batch_message(batch);
        for connection in &self.members {
            let Some(session) = sessions.get_mut(connection).filter(|session| !session.wants_snapshot) else { continue };
            if message.len() > BATCH_MESSAGE_BYTES_MAX || session.delivery.is_clogged(limits.queue_bytes_max, tick) {
                session.delivery.drop_superseded();
                session.wants_snapshot = true;
            } else {
                session.delivery.push(tick, message.clone());
            }
        }
    }

    /// What is to be read next, if anything is.
    fn next_request(&mut self, due: RoomTick, sessions: &BTreeMap<ConnectionId, Session>) -> Option<PastRequest> {
        let wanted = !self.arriving.is_empty() || self.members.iter().any(|id| sessions.get(id).is_some_and(wants_again));
        let is_here = self.snapshot_due.is_some() || self.steps.iter().any(|(_, step)| matches!(step, Step::Snapshot(_)));
        if wanted && !is_here {
            let ahead = RoomTick(self.position.0.max(due.0).saturating_add(SNAPSHOT_AHEAD));
            self.snapshot_due = Some(ahead.min(self.read_to).max(self.position));
        }
        let in_hand = self.read_to.0.saturating_sub(due.0);
        let is_low = in_hand < IN_HAND_MIN.min(self.behind / 2).max(1);
        // A snapshot is asked for but once; what was on its way before it was wanted does not bring it.
        if self.reading || !(is_low || self.snapshot_due.is_some()) {
            return None;
        }
        self.reading = true;
        let room = self.room.clone();
        Some(PastRequest { serial: self.serial, room, after: self.read_to, snapshot: self.snapshot_due })
    }
}

/// True if somebody could not keep up, and can take a snapshot now.
fn wants_again(session: &Session) -> bool {
    session.wants_snapshot && session.delivery.takes_snapshot()
}

fn give_snapshot(session: &mut Session, tick: RoomTick, messages: &[Bytes]) {
    (session.wants_snapshot, session.last_snapshot_tick) = (false, tick.0);
    messages.iter().for_each(|message| session.push(message.clone()));
    session.delivery.snapshot_pushed(tick);
}
