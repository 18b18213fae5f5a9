//! Rooms by name, and who is in them. Messages in, messages out: no socket and no clock.

mod arrive;
mod hello;
mod listing;
mod operate;
mod past;
mod serve;
mod ways;

pub use self::past::{PastAnswer, PastRequest};
pub(super) use self::serve::{share_out, work_out};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use self::listing::Listing;
use self::past::Pasts;
use crate::host::limits::{HostCounters, HostLimits};
use crate::host::session::{ConnectionId, Session, Stage, Visitor};
use crate::protocol::{
    ClientMessage, CommandId, Description, EntityId, Fingerprint, LeaveReason, Protocol, REPORT, Refusal, Rejection, Report, RoomTick,
    SeenTick, ServerMessage, Speed, Taken, Trail, VerdictMessage,
};
use crate::room::{
    Answer, Blueprint, Incoming, Outbox, PrivateWriter, Recorded, Room, RoomError, RoomFault, RoomOptions, Verdict, Viewers,
};

/// How long a connection that is to be closed may take to hear why.
const CLOSING: Duration = Duration::from_secs(1);

/// How long a connection may take to join a room, from when it came.
const GREETING_MAX: Duration = Duration::from_secs(600);

/// How long members wait for what is due if their room does not tick.
const SERVE_AFTER: Duration = Duration::from_millis(90);

/// How often connections are looked after that are in no room, or whose room does not tick.
const LOOK_AROUND_EVERY: Duration = Duration::from_millis(20);

/// A room, and who hears of it.
#[derive(Debug)]
struct HostedRoom {
    room: Room,
    /// Which run of the room this is; 0 if nobody can go on with what it holds of it.
    epoch: u64,
    /// Most members and spectators.
    capacity: usize,
    /// Who asks which rooms there are is told of it.
    is_listed: bool,
    /// How fast it goes, as its members know.
    speed: Speed,
    description: Description,
    /// Of this description: each who comes is asked for it.
    fingerprint: Fingerprint,
    inbox: Vec<Incoming>,
    users: BTreeMap<EntityId, ConnectionId>,
    /// Users who asked to come in, and whom the room has not answered yet.
    asking: BTreeSet<EntityId>,
    members: BTreeSet<ConnectionId>,
    /// The number of the last command that each of the members said, whether the room has taken it or not.
    said: BTreeMap<ConnectionId, CommandId>,
    arriving: Vec<ConnectionId>,
    /// True if a member may want a snapshot again.
    wanting: bool,
    /// Users whose clients are away: their connection was lost, or the room goes on after its process ended. Until when they are waited for.
    vacant: BTreeMap<EntityId, RoomTick>,
    /// Who of the members sees what.
    viewers: Viewers,
    /// By viewer: what changed of which not everybody may know.
    private: Vec<Vec<(u32, u8)>>,
    writer: PrivateWriter,
}

/// What a tick of a room was like.
#[derive(Debug)]
#[non_exhaustive]
pub struct TickReport {
    /// The tick.
    pub tick: RoomTick,
    /// What happened in it.
    pub facts: Vec<Recorded>,
    /// The batch, if anything changed.
    pub batch: Option<Bytes>,
    /// What was taken in, with what became of it.
    pub taken: Vec<Taken>,
    /// What a room that goes on from here needs besides its state.
    pub trail: Trail,
    /// Why the room is gone, if it is.
    pub fault: Option<RoomFault>,
}

/// Rooms by name, and who is in them.
///
/// Whoever drives it tells what the transport saw ([`connected`](Self::connected), [`message`](Self::message),
/// [`disconnected`](Self::disconnected)) and [when](Self::advance), ticks each room at its time, and [pumps](Self::pump) what is to be
/// sent.
#[derive(Debug)]
pub struct Lobby {
    limits: HostLimits,
    rooms: BTreeMap<String, HostedRoom>,
    sessions: BTreeMap<ConnectionId, Session>,
    counters: HostCounters,
    now: Duration,
    /// Whether a player who connects again takes the place of the older connection. Only where identities are proven.
    takeover: bool,
    /// Why commands are refused at the moment.
    refusing: Option<Rejection>,
    /// Who asked for a snapshot sooner than it may be sent one again, and the tick in which it differed: it asks but once.
    postponed: BTreeMap<ConnectionId, RoomTick>,
    /// Whose room was served since the last pump.
    served: Vec<ConnectionId>,
    /// When all connections were looked after, and not only those whose room was served.
    looked_around: Duration,
    /// True if somebody outside of rooms is to be told something.
    restless: bool,
    /// The epoch of the next room, if there is one.
    epoch: Option<u64>,
    pasts: Pasts,
    listing: Listing,
    /// True once nobody is let in any more.
    shutting_down: bool,
}

impl Lobby {
    /// A lobby without rooms. `takeover`: a player who connects again, say after a change of network, takes the place of
    /// its older connection; without it, it is refused while that lives. Say no where players are not authenticated.
    pub fn new(limits: HostLimits, takeover: bool) -> Self {
        let (rooms, sessions, counters, postponed, served, pasts) = Default::default();
        let (now, looked_around) = (Duration::ZERO, Duration::ZERO);
        Self {
            limits,
            rooms,
            sessions,
            counters,
            now,
            takeover,
            refusing: None,
            postponed,
            served,
            looked_around,
            restless: false,
            epoch: None,
            pasts,
            listing: Listing::default(),
            shutting_down: false,
        }
    }

    /// Lets clients that come back go on with what they still hold of the rooms that are opened from now on, and are sent only what they missed.
    ///
    /// The number must be another one in each process that ever has rooms of these names, the time for instance: rooms are given it and
    /// those after it, and by them a client is known to hold a state of this run of the room and of no other.
    pub fn begin_epoch(&mut self, epoch: u64) {
        self.epoch = Some(epoch);
    }

    /// Tells the time, by a clock that never goes back. What happens from now on is taken to be of that time.
    pub fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    /// True if a member has all that it was ever told, or will have with the packets of which `has` says that they are there; it is
    /// given their numbers. For simulations.
    pub fn is_current(&self, connection: ConnectionId, has: impl Fn(u64) -> bool) -> bool {
        self.sessions.get(&connection).is_some_and(|session| session.stage == Stage::Live && session.delivery.is_current(has))
    }

    /// Serves the members of all rooms without a tick. True if all of them are known to have all that they were ever told.
    pub(crate) fn serve_standing(&mut self) -> bool {
        let rooms: Vec<(String, RoomTick)> = self.rooms.iter().map(|(name, hosted)| (name.clone(), hosted.room.tick_now())).collect();
        rooms.iter().for_each(|(name, tick)| drop(self.serve(name, *tick)));
        self.rooms.values().flat_map(|hosted| &hosted.members).all(|connection| self.is_current(*connection, |_| false))
    }

    /// The round trip to a connection, and the rate at which it may be sent, in bytes a second.
    pub fn path(&self, connection: ConnectionId) -> Option<(Duration, f64)> {
        self.sessions.get(&connection).map(|session| session.delivery.path())
    }

    /// Creates a room.
    ///
    /// # Errors
    /// If the room can't be built, its name is taken, or there are too many.
    pub fn open_room(&mut self, blueprint: &Blueprint, options: RoomOptions) -> Result<(), RoomError> {
        self.check_place(&options.name)?;
        self.admit_room(blueprint.room(options)?)
    }

    pub(in crate::host) fn check_place(&self, name: &str) -> Result<(), RoomError> {
        if self.rooms.contains_key(name) {
            return Err(RoomError::Rules(vec![format!("there is a room {name:?} already")]));
        }
        if self.rooms.len() >= self.limits.rooms_max {
            return Err(RoomError::Rules(vec![format!("{} rooms are as many as the host may have", self.rooms.len())]));
        }
        Ok(())
    }

    /// Takes in a room that was built elsewhere. Users that it has already, because it goes on from what was stored, are waited
    /// for: [`HostLimits::seat_ticks`].
    ///
    /// # Errors
    /// If its name is taken, or there are too many.
    pub fn admit_room(&mut self, room: Room) -> Result<(), RoomError> {
        let name = room.info().name.clone();
        self.check_place(&name)?;
        let description = room.world().resource::<Protocol>().describe();
        let vacant_until = RoomTick(room.tick_now().0.saturating_add(self.limits.seat_ticks));
        let vacant = room.members().iter().map(|user| (user, vacant_until)).collect();
        let (inbox, users, asking, members, said, arriving) = Default::default();
        let (viewers, private, writer) = Default::default();
        // 0 says that there is none.
        let epoch = self.epoch.map_or(0, |epoch| epoch.max(1));
        self.epoch = self.epoch.map(|_| epoch.wrapping_add(1));
        let capacity = self.limits.members_per_room_max;
        let hosted = HostedRoom {
            room,
            epoch,
            capacity,
            is_listed: false,
            speed: Speed::FULL,
            fingerprint: description.fingerprint(),
            description,
            inbox,
            users,
            asking,
            members,
            said,
            arriving,
            wanting: false,
            vacant,
            viewers,
            private,
            writer,
        };
        self.rooms.insert(name, hosted);
        Ok(())
    }

    /// Puts something into a room's inbox. False if there is no such room.
    pub fn push(&mut self, name: &str, incoming: Incoming) -> bool {
        self.rooms.get_mut(name).map(|hosted| hosted.inbox.push(incoming)).is_some()
    }

    /// Refuses all commands with a reason, or no longer.
    pub fn refuse_commands(&mut self, why: Option<Rejection>) {
        self.refusing = why;
    }

    /// Tells the members of a room whose commands were accepted that what happened up to a tick is stored.
    pub fn durable(&mut self, name: &str, tick: RoomTick) {
        let Some(hosted) = self.rooms.get(name) else { return };
        for connection in &hosted.members {
            let Some(session) = self.sessions.get_mut(connection) else { continue };
            if session.unconfirmed.is_some_and(|first| first <= tick) {
                session.unconfirmed = session.unconfirmed_last.filter(|last| *last > tick);
                session.push(ServerMessage::Durable { tick }.encode().unwrap_or_default());
            }
        }
    }

    /// Closes a room and tells its members.
    pub fn close_room(&mut self, name: &str, refusal: &Refusal) {
        let Some(hosted) = self.rooms.remove(name) else { return };
        let everybody: BTreeSet<&ConnectionId> = hosted.members.iter().chain(&hosted.arriving).chain(hosted.users.values()).collect();
        for connection in everybody {
            if let Some(session) = self.sessions.get_mut(connection) {
                // Another room may have that name before it is gone, and other viewers that number.
                (session.room, session.viewer) = (None, None);
            }
            self.refuse(*connection, refusal);
        }
    }

    /// The names of the rooms, in order.
    pub fn room_names(&self) -> impl Iterator<Item = &str> {
        self.rooms.keys().map(String::as_str)
    }

    /// A room.
    pub fn room(&self, name: &str) -> Option<&Room> {
        self.rooms.get(name).map(|hosted| &hosted.room)
    }

    /// A room, to be changed from outside: by tests and tools.
    pub fn room_mut(&mut self, name: &str) -> Option<&mut Room> {
        self.rooms.get_mut(name).map(|hosted| &mut hosted.room)
    }

    /// How many members and spectators a room has.
    pub fn member_count(&self, name: &str) -> usize {
        self.rooms.get(name).map_or(0, |hosted| hosted.members.len())
    }

    /// What was counted.
    pub fn counters(&self) -> HostCounters {
        self.counters
    }

    /// Somebody connected.
    pub fn connected(&mut self, connection: ConnectionId, visitor: Visitor) {
        self.connected_by(connection, visitor, None);
    }

    /// A connection is gone.
    pub fn disconnected(&mut self, connection: ConnectionId, reason: LeaveReason) {
        self.detach(connection, reason);
        self.sessions.remove(&connection);
    }

    /// A message of a stranger came in, or a report of what arrived there.
    pub fn message(&mut self, connection: ConnectionId, message: &Bytes) {
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        if message.first() == Some(&REPORT) {
            let now = self.now;
            if let Err(error) = Report::decode(message).and_then(|report| session.delivery.report(now, &report)) {
                self.counters.malformed += 1;
                self.mistake(connection, &error.to_string());
            }
            return;
        }
        let stage = session.stage.clone();
        if stage == Stage::Closing {
            return;
        }
        self.restless |= stage != Stage::Live;
        let decoded = ClientMessage::decode(message);
        match (decoded, stage) {
            (Ok(ClientMessage::Hello { fingerprint, room, spectate, resume }), Stage::Greeting) => {
                self.hello(connection, fingerprint, room, (spectate, resume));
            }
            (Ok(ClientMessage::Command { id, kind, seen, payload }), Stage::Live) => {
                self.command(connection, id, (kind, seen, payload));
            }
            (Ok(ClientMessage::ListRooms { prefix }), Stage::Greeting) => self.ask_for_rooms(connection, prefix),
            (Ok(ClientMessage::Leave), _) => self.leave(connection),
            (Ok(ClientMessage::Diverged { tick }), Stage::Live) => self.diverged(connection, tick),
            (Ok(_), _) => {
                self.counters.out_of_turn += 1;
                self.mistake(connection, "a message out of turn");
            }
            (Err(error), _) => {
                self.counters.malformed += 1;
                self.mistake(connection, &error.to_string());
            }
        }
    }

    fn command(&mut self, connection: ConnectionId, id: CommandId, (kind, seen, payload): (usize, Option<SeenTick>, Bytes)) {
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        if session.spectator {
            self.counters.out_of_turn += 1;
            return self.mistake(connection, "a command of a spectator");
        }
        if session.delivery.lasting_bytes() > self.limits.queue_bytes_max {
            // It goes on asking, and takes no answers: they can't be kept for ever, and none may be dropped.
            self.counters.kicked += 1;
            return self.turn_away(
                connection,
                LeaveReason::Kicked,
                &Refusal::Kicked("you don't take the answers to your commands".to_owned()),
            );
        }
        let Some(hosted) = session.room.as_ref().and_then(|name| self.rooms.get_mut(name)) else { return };
        // Numbers go up by one. One that was said is a copy; and who may leave some out could use up those of all who come later.
        let said = hosted.said.entry(connection).or_default();
        match id.0.checked_sub(said.0) {
            None | Some(0) => return,
            Some(1) => *said = id,
            Some(_) => {
                self.counters.out_of_turn += 1;
                return self.mistake(connection, "a command whose number leaves some out");
            }
        }
        let tick = hosted.room.tick_now();
        if session.commands_tick != tick {
            (session.commands_tick, session.commands_waiting) = (tick, 0);
        }
        let flooded = session.commands_waiting >= self.limits.commands_waiting_max;
        // Who is not answered waits for an answer. One answer a command is all that it costs.
        if let Some(why) = flooded.then(|| Rejection::new("too_many_commands")).or_else(|| self.refusing.clone()) {
            let verdicts = vec![VerdictMessage { id, rejection: Some(why) }];
            self.counters.commands_dropped += 1;
            session.push(ServerMessage::Verdicts { tick, verdicts }.encode().unwrap_or_default());
            return;
        }
        session.commands_waiting += 1;
        self.counters.commands += 1;
        hosted.inbox.push(Incoming::Command { user: session.visitor.player, id, kind, seen, payload });
    }

    fn leave(&mut self, connection: ConnectionId) {
        self.detach(connection, LeaveReason::Left);
        if let Some(session) = self.sessions.get_mut(&connection) {
            (session.stage, self.restless) = (Stage::Closing, true);
        }
    }

    /// True if a member may be sent a snapshot again.
    fn may_have_snapshot(&self, session: &Session) -> bool {
        let name = session.room.as_deref().unwrap_or_default();
        let now = self.rooms.get(name).map(|hosted| hosted.room.tick_now()).or_else(|| self.pasts.position(name)).unwrap_or_default().0;
        now.saturating_sub(session.last_snapshot_tick) >= self.limits.resync_ticks_min
    }

    fn diverged(&mut self, connection: ConnectionId, tick: RoomTick) {
        let Some(session) = self.sessions.get(&connection) else { return };
        if self.may_have_snapshot(session) {
            return self.put_right(connection, tick);
        }
        self.counters.resyncs_refused += 1;
        self.postponed.insert(connection, tick);
    }

    /// Lets those have their snapshots whose time has come.
    fn grant_postponed(&mut self) {
        let is_due = |session: &Session| self.may_have_snapshot(session);
        let due = |(connection, _): &(ConnectionId, RoomTick)| self.sessions.get(connection).is_none_or(is_due);
        let (due, later): (Vec<_>, Vec<_>) = self.postponed.iter().map(|(connection, tick)| (*connection, *tick)).partition(due);
        self.postponed = later.into_iter().collect();
        for (connection, tick) in due {
            // It may have been sent one since, because it could not keep up.
            if self.sessions.get(&connection).is_some_and(|session| session.last_snapshot_tick <= tick.0) {
                self.put_right(connection, tick);
            }
        }
    }

    /// A replica that differs is sent a snapshot.
    fn put_right(&mut self, connection: ConnectionId, tick: RoomTick) {
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        tracing::info!(connection = connection.0, room = session.room, %tick, "a replica differs from its room; it is sent a snapshot");
        session.wants_snapshot = true;
        if let Some(hosted) = session.room.as_ref().and_then(|name| self.rooms.get_mut(name)) {
            hosted.wanting = true;
        }
    }

    /// Counts a mistake; too many close the connection.
    fn mistake(&mut self, connection: ConnectionId, what: &str) {
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        tracing::debug!(connection = connection.0, room = session.room, what, "dropped a message");
        session.mistakes += 1;
        if session.mistakes > self.limits.mistakes_max {
            self.counters.kicked += 1;
            self.turn_away(connection, LeaveReason::Kicked, &Refusal::Kicked("too many malformed messages".to_owned()));
        }
    }

    /// Takes a connection out of its room, and its user with it.
    fn detach(&mut self, connection: ConnectionId, reason: LeaveReason) {
        self.postponed.remove(&connection);
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        let Some(name) = session.room.take().filter(|name| !self.pasts.leave(name, connection)) else { return };
        let Some(hosted) = self.rooms.get_mut(&name) else { return };
        tracing::info!(connection = connection.0, room = name, ?reason, player = %session.visitor.player, "left");
        hosted.members.remove(&connection);
        hosted.said.remove(&connection);
        session.viewer.take().into_iter().for_each(|viewer| hosted.viewers.remove(viewer));
        hosted.arriving.retain(|arriving| *arriving != connection);
        let user = session.visitor.player;
        // A user that came back by another connection has not left.
        if !session.spectator && hosted.users.get(&user) == Some(&connection) {
            hosted.users.remove(&user);
            let is_kept = reason == LeaveReason::Timeout && self.limits.grace_ticks > 0 && hosted.room.members().contains(user);
            if hosted.asking.remove(&user) {
                // The room has not heard of it yet: what waits for a room that stands still must not grow with those who come and go.
                hosted.inbox.retain(|item| !matches!(item, Incoming::Join { user: other, .. } if *other == user));
            } else if is_kept {
                let until = hosted.room.tick_now().0.saturating_add(self.limits.grace_ticks);
                hosted.vacant.insert(user, RoomTick(until));
            } else {
                hosted.inbox.push(Incoming::Leave { user, reason });
            }
            match reason {
                LeaveReason::Left => self.counters.left += 1,
                LeaveReason::Timeout => self.counters.timed_out += 1,
                LeaveReason::Kicked => {}
            }
        }
    }

    /// Tells a connection why it can't stay; it is closed when that is sent.
    fn refuse(&mut self, connection: ConnectionId, refusal: &Refusal) {
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        (session.stage, self.restless) = (Stage::Closing, true);
        session.delivery.drop_superseded();
        if let Ok(message) = ServerMessage::Refused(refusal.clone()).encode() {
            session.push(message);
        }
    }

    /// Runs one tick of a room and queues what it gives out. `None` if there is no such room.
    pub fn tick_room(&mut self, name: &str) -> Option<TickReport> {
        let hosted = self.rooms.get_mut(name)?;
        let now = hosted.room.tick_now();
        if hosted.vacant.values().any(|until| *until <= now) {
            let gone = hosted.vacant.extract_if(.., |_, until| *until <= now);
            hosted.inbox.extend(gone.map(|(user, _)| Incoming::Leave { user, reason: LeaveReason::Timeout }));
        }
        let incoming = std::mem::take(&mut hosted.inbox);
        match hosted.room.tick(incoming) {
            Ok(outbox) => Some(self.give_out(name, outbox)),
            Err(fault) => {
                let tick = fault.tick;
                self.fail(name, &fault);
                let (facts, taken) = Default::default();
                Some(TickReport { tick, facts, batch: None, taken, trail: Trail::default(), fault: Some(fault) })
            }
        }
    }

    /// Closes a room whose game failed. What failed is for the log; the members hear when.
    fn fail(&mut self, name: &str, fault: &RoomFault) {
        tracing::error!(room = name, "{fault}");
        self.counters.room_faults += 1;
        self.close_room(name, &Refusal::RoomClosed(format!("its game failed in tick {}", fault.tick)));
    }

    fn give_out(&mut self, name: &str, outbox: Outbox) -> TickReport {
        self.end_secret_pasts(name);
        self.answer(name, &outbox);
        let fault = self.look(name).or_else(|| self.tell(name, &outbox));
        let fault = fault.or_else(|| self.send_snapshots(name, outbox.tick)).or_else(|| self.serve(name, outbox.tick));
        report_of(outbox, fault)
    }

    /// Queues the room's answers to single members.
    fn answer(&mut self, name: &str, outbox: &Outbox) {
        let mut verdicts: BTreeMap<ConnectionId, Vec<VerdictMessage>> = BTreeMap::new();
        for (at, answer) in outbox.answers.iter().enumerate() {
            let Some(hosted) = self.rooms.get_mut(name) else { return };
            match answer {
                Answer::Join { user, verdict } => {
                    // Who asked, left and asked again within a tick is answered twice: the last answer counts.
                    let again = |later: &Answer| matches!(later, Answer::Join { user: other, .. } if other == user);
                    if outbox.answers.iter().skip(at + 1).any(again) {
                        continue;
                    }
                    hosted.asking.remove(user);
                    let Some(connection) = hosted.users.get(user).copied() else { continue };
                    match verdict {
                        Verdict::Accepted => hosted.arriving.push(connection),
                        Verdict::Rejected(rejection) => {
                            hosted.users.remove(user);
                            self.counters.refused += 1;
                            self.refuse(connection, &Refusal::Rejected(rejection.clone()));
                        }
                    }
                }
                Answer::Command { user, id, verdict } => {
                    let Some(connection) = hosted.users.get(user) else { continue };
                    let rejection = match verdict {
                        Verdict::Accepted => {
                            if let Some(session) = self.sessions.get_mut(connection) {
                                session.unconfirmed.get_or_insert(outbox.tick);
                                session.unconfirmed_last = Some(outbox.tick);
                            }
                            None
                        }
                        Verdict::Rejected(rejection) => {
                            self.counters.rejected += 1;
                            Some(rejection.clone())
                        }
                    };
                    verdicts.entry(*connection).or_default().push(VerdictMessage { id: *id, rejection });
                }
            }
        }
        for (connection, verdicts) in verdicts {
            let message = ServerMessage::Verdicts { tick: outbox.tick, verdicts }.encode();
            if let (Some(session), Ok(message)) = (self.sessions.get_mut(&connection), message) {
                session.push(message);
            }
        }
    }

    /// Hands over the packets that are to be sent, each in two pieces, of which the second is the same for many members. Returns the
    /// connections that are to be closed now.
    pub fn pump(&mut self, mut send: impl FnMut(ConnectionId, &[u8], &[u8])) -> Vec<ConnectionId> {
        let mut closed = Vec::new();
        let now = self.now;
        if !self.postponed.is_empty() {
            self.grant_postponed();
        }
        self.tell_own_rooms();
        // A host of many rooms pumps after each: it must not go through everybody each time.
        if std::mem::take(&mut self.restless) || now >= self.looked_around + LOOK_AROUND_EVERY {
            self.served.clear();
            self.looked_around = now;
            let is_late = |session: &Session| session.stage == Stage::Greeting && now >= session.since + GREETING_MAX;
            let late = self.sessions.iter().filter(|(_, session)| is_late(session));
            let late: Vec<ConnectionId> = late.map(|(connection, _)| *connection).collect();
            for connection in late {
                self.counters.kicked += 1;
                self.refuse(connection, &Refusal::Kicked("you have joined no room for ten minutes".to_owned()));
            }
            for (connection, session) in &mut self.sessions {
                if session.stage != Stage::Live || now >= session.served + SERVE_AFTER {
                    session.served = now;
                    session.delivery.round(now, RoomTick(0), None);
                }
                session.delivery.take(|own, shared| send(*connection, own, shared));
                if session.stage == Stage::Closing {
                    let since = *session.closing.get_or_insert(now);
                    if session.delivery.is_there() || now >= since + CLOSING {
                        closed.push(*connection);
                    }
                }
            }
        }
        for connection in self.served.drain(..) {
            let Some(session) = self.sessions.get_mut(&connection) else { continue };
            session.delivery.take(|own, shared| send(connection, own, shared));
        }
        for connection in &closed {
            self.disconnected(*connection, LeaveReason::Kicked);
        }
        closed
    }
}

fn report_of(outbox: Outbox, fault: Option<RoomFault>) -> TickReport {
    let Outbox { tick, batch, facts, taken, trail, .. } = outbox;
    TickReport { tick, facts, batch, taken, trail, fault }
}
