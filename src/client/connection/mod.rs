//! What is said between a client and its host. Bytes in, bytes out: what carries them is somebody else's.

use std::collections::VecDeque;
use std::time::Duration;

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::apply::{Applied, ApplyError, apply_batch, apply_difference, apply_first_snapshot, apply_part, apply_private, private_head};
use super::check::{clear_replica, reconcile};
use super::clock::ServerClock;
use super::inflow::{Arrival, Inflow, Waiting};
use super::journal::{Journal, Note};
use super::listing::{Browsing, take_rooms};
use super::replica::Replica;
use super::state::{ConnectionChanged, ConnectionState, Unanswered};
use crate::protocol::{
    Accepted, ClientMessage, CodecError, CommandId, Durable, PACKET, Protocol, Refusal, Rejected, Resume, RoomId, RoomTick, ServerMessage,
    SnapshotAssembly, SnapshotChunk, Speed, VerdictMessage,
};

/// How many accepted commands a client remembers until they are said to be stored.
const ACCEPTED_MAX: usize = 4_096;

/// From so long a silence of the host on the client says that it is [degraded](ConnectionState::Degraded). Hosts say something four times a second.
const DEGRADED_AFTER: Duration = Duration::from_secs(1);

/// The client's end of the conversation. A resource, added by [`ReplicaPlugin`](super::ReplicaPlugin).
///
/// ```
/// use bevy_ecs::prelude::*;
/// use roomkeeper::client::{Connection, ConnectionState};
/// use roomkeeper::protocol::Speed;
///
/// fn show(connection: Res<Connection>) {
///     match connection.state() {
///         ConnectionState::Live if connection.speed() == Speed::STILL => println!("an operator lets the room stand still"),
///         ConnectionState::Live => println!("the server is at tick {:?}", connection.server_tick()),
///         other => println!("{other}"), // joining, reconnecting, not let in and why
///     }
/// }
/// ```
#[derive(Resource, Debug, Default)]
pub struct Connection {
    pub(super) state: ConnectionState,
    pub(super) incoming: VecDeque<Arrival>,
    pub(super) inflow: Inflow,
    now: Duration,
    pub(super) outgoing: VecDeque<Bytes>,
    pub(super) browsing: Browsing,
    assembly: SnapshotAssembly,
    /// The difference that is on its way.
    difference: SnapshotAssembly,
    /// What the replica holds of the room of that name.
    held: Option<(String, Resume)>,
    /// What the host was offered to go on with.
    offered: Option<Resume>,
    /// What came while the snapshot was on its way: for everybody, or for this client.
    waiting: Waiting,
    /// What this client is told beside the batch that follows.
    private: Option<Bytes>,
    pub(super) last_command: u32,
    /// The room that it was let into last, to which what was not answered was sent.
    room: Option<RoomId>,
    /// It said goodbye: what is still on its way is not for it.
    pub(super) left: bool,
    resyncing: bool,
    /// Commands that were accepted, and not yet said to be stored.
    accepted: VecDeque<(CommandId, RoomTick)>,
    /// Commands that were sent and not answered.
    pub(super) unanswered: VecDeque<CommandId>,
    /// For how long nothing has come from the host, as far as what carries the messages tells.
    silence: Duration,
    told: Option<ConnectionState>,
    /// It was just told that another host has the room.
    sent_on: bool,
    /// Kept for a prediction.
    pub(crate) journal: Option<Journal>,
}

impl Connection {
    /// Asks for a room. `spectate` joins without a user: the client sees everything and can do nothing.
    ///
    /// A client that was in the room before, and kept its [`Replica`], offers what it still holds: the host then sends what it missed, not
    /// everything, if that is less and the room is still the same run.
    ///
    /// Of commands that were accepted before, and not yet said to be stored, no [`Durable`] will come.
    pub fn join(&mut self, protocol: &Protocol, room: &str, spectate: bool) {
        let held = self.held.take();
        let resume = held.as_ref().filter(|(name, _)| name == room).map(|(_, resume)| *resume);
        let (mut journal, unanswered, told) = (self.journal.take(), std::mem::take(&mut self.unanswered), self.told.take());
        journal.iter_mut().for_each(|journal| journal.notes.push(Note::Joined));
        *self = Self { now: self.now, room: self.room, held, offered: resume, journal, unanswered, told, ..self.carried() };
        self.state = ConnectionState::Joining(0.0);
        let hello = ClientMessage::Hello { fingerprint: protocol.fingerprint(), room: room.to_owned(), spectate, resume };
        self.outgoing.push_back(hello.encode());
    }

    /// Says goodbye. The replica stays as it is until another room is entered, or it is [cleared](super::clear_replica). What is still on its way
    /// changes nothing any more.
    pub fn leave(&mut self) {
        self.outgoing.push_back(ClientMessage::Leave.encode());
        (self.state, self.left) = (ConnectionState::Idle, true);
    }

    /// Notes that what carried the messages is gone. Where it is over already, the first reason stays.
    pub fn lost(&mut self, reason: impl Into<String>) {
        self.browsing.is_open = false;
        if self.state != ConnectionState::Idle && !self.state.is_over() {
            // What is asked from now on is for the next way.
            self.browsing = Browsing::default();
            self.state = ConnectionState::Broken(reason.into());
        }
    }

    /// True if what comes is for this client still: it has not left, and was not put out.
    pub(super) fn listens(&self) -> bool {
        !self.left && !self.state.is_over()
    }

    /// Notes that it is on the way to a host.
    pub(crate) fn connecting(&mut self) {
        (self.state, self.browsing.is_open) = (ConnectionState::Connecting, false);
    }

    /// Notes that what carried the messages is gone, and that it is tried again, after so many times before.
    pub(crate) fn reconnecting(&mut self, tried: u32) {
        self.state = ConnectionState::Reconnecting(tried);
    }

    /// Tells for how long nothing has come from the host. Without it the client never counts as degraded.
    pub fn set_silence(&mut self, silence: Duration) {
        self.silence = silence;
    }

    /// For how long nothing has come from the host.
    pub fn silence(&self) -> Duration {
        self.silence
    }

    /// Tells the time, by a clock that never goes back. What is delivered and asked for from now on is taken to be of that time.
    pub fn set_now(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    /// Takes a packet that arrived, or a message by itself. What is in it is applied when
    /// [`receive`](super::ReplicaSystems::Receive) runs.
    pub fn deliver(&mut self, message: Bytes) {
        // Whoever left or was put out goes on reporting what comes, so that the host knows that all has arrived. Where it broke nobody is believed.
        if matches!(self.state, ConnectionState::Broken(_)) {
            return;
        }
        if message.first() != Some(&PACKET) {
            self.incoming.push_back(Arrival::Message(message));
        } else if let Err(error) = self.inflow.take(self.now, &message, &mut self.incoming) {
            self.lost(format!("the server's packet can't be read: {error}"));
        }
    }

    /// The report of what arrived that is due now, if one is. It goes out as a packet of its own, not on a channel, and may be lost.
    pub fn next_report(&mut self) -> Option<Bytes> {
        self.inflow.report(self.now)
    }

    /// What is known of the server's time, and of the round trip.
    pub fn server_clock(&self) -> &ServerClock {
        self.inflow.clock()
    }

    /// The tick that it is at the server now, with a fraction. `None` until the first packet came.
    pub fn server_tick(&self) -> Option<f64> {
        self.inflow.clock().server_tick(self.now)
    }

    /// How fast the room goes: an operator can let it stand still, which a game should show, or go slower or faster.
    pub fn speed(&self) -> Speed {
        self.inflow.clock().speed()
    }

    /// The clock's time now.
    pub(crate) fn now(&self) -> Duration {
        self.now
    }

    /// What came, and what did not.
    pub(crate) fn inflow(&self) -> &Inflow {
        &self.inflow
    }

    /// How many packets came since the client joined, and how many bytes they were.
    pub fn received(&self) -> (u64, u64) {
        self.inflow.received()
    }

    /// How many of the newest packets did not come or have not come yet, and how many those are: a thousand at most.
    pub fn missing(&self) -> (usize, usize) {
        self.inflow.missing()
    }

    /// The number of the last command that was sent; before the first, the number after which those of this stay begin: 0 if nobody has left the room.
    pub fn last_command(&self) -> CommandId {
        CommandId(self.last_command)
    }

    /// How many commands were sent and not answered.
    #[cfg(feature = "terminal")]
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// True if a packet with that number, as the host counts, is here. For simulations.
    #[cfg(feature = "host")]
    pub(crate) fn has_packet(&self, seq: u64) -> bool {
        self.inflow.is_known(seq)
    }

    /// The next message to send, in order, on the reliable channel.
    pub fn next_outgoing(&mut self) -> Option<Bytes> {
        self.outgoing.pop_front()
    }

    /// Takes a message back that could not be sent yet: it is the next one again.
    pub(super) fn put_back(&mut self, message: Bytes) {
        self.outgoing.push_front(message);
    }

    /// How many messages are to be sent.
    pub(super) fn outgoing_len(&self) -> usize {
        self.outgoing.len()
    }

    /// Where the client stands.
    pub fn state(&self) -> &ConnectionState {
        &self.state
    }

    /// True if something arrived that was not applied yet.
    pub(crate) fn has_incoming(&self) -> bool {
        !self.incoming.is_empty()
    }
}

/// Applies every message that arrived.
pub(crate) fn receive(world: &mut World) {
    let connection = world.resource::<Connection>();
    let hooks = connection.journal.as_ref().filter(|_| connection.has_incoming()).map(|journal| (journal.before, journal.after_each));
    if let Some((before, _)) = hooks {
        before(world);
    }
    while let Some(message) = world.resource_mut::<Connection>().incoming.pop_front() {
        if !world.resource::<Connection>().listens() {
            continue;
        }
        let handled = match message {
            Arrival::Message(message) => {
                ServerMessage::decode(&message).map_err(ApplyError::from).and_then(|message| handle(world, message))
            }
            Arrival::Part(tick, part) => take_part(world, tick, part),
            Arrival::Complete(tick) => {
                take_complete(world, tick);
                Ok(())
            }
        };
        if let Err(error) = handled {
            let mut replica = world.resource_mut::<Replica>();
            (replica.live, replica.whole) = (false, false);
            let mut connection = world.resource_mut::<Connection>();
            if connection.listens() {
                connection.state = ConnectionState::Broken(error.to_string());
            }
        }
        if let Some((_, after_each)) = hooks {
            after_each(world);
        }
    }
    let heard = world.resource::<Connection>().inflow.heard();
    let mut replica = world.resource_mut::<Replica>();
    if replica.live {
        replica.heard = heard;
    }
    hold(world);
    let mut connection = world.resource_mut::<Connection>();
    match (&connection.state, connection.silence >= DEGRADED_AFTER) {
        (ConnectionState::Live, true) => connection.state = ConnectionState::Degraded,
        (ConnectionState::Degraded, false) => connection.state = ConnectionState::Live,
        _ => {}
    }
    // Whoever carries the messages may go there at once; if it does not, that is told the next time.
    let is_new = matches!(&connection.state, ConnectionState::Refused(Refusal::Elsewhere(_), _))
        && !std::mem::replace(&mut connection.sent_on, true);
    if is_new {
        return;
    }
    connection.sent_on = false;
    if connection.told.as_ref() != Some(&connection.state) {
        let state = connection.state.clone();
        connection.told = Some(state.clone());
        world.trigger(ConnectionChanged { state });
    }
}

/// Takes note of what could be offered, should the connection break.
fn hold(world: &mut World) {
    // Not by `resource_scope`: a resource is an entity, which would be moved to another table and back in each frame.
    let replica = world.resource::<Replica>();
    let resume = replica.resumable();
    let is_named = world.resource::<Connection>().held.as_ref().is_some_and(|(name, _)| *name == replica.room_name);
    let other_name = resume.filter(|_| !is_named).map(|_| replica.room_name.clone());
    let mut connection = world.resource_mut::<Connection>();
    let name = other_name.or_else(|| connection.held.take().map(|(name, _)| name));
    connection.held = name.zip(resume);
}

/// The client is let in: with nothing, or with what it offered.
fn enter(world: &mut World, welcome: Replica, resumed: bool, last_command: CommandId) -> Result<(), ApplyError> {
    if world.resource::<Replica>().room != welcome.room {
        clear_replica(world)?;
    }
    let mut connection = world.resource_mut::<Connection>();
    connection.last_command = last_command.0;
    // What another room has taken in is counted by that room.
    let is_same = connection.room.replace(welcome.room) == Some(welcome.room);
    let unanswered = std::mem::take(&mut connection.unanswered);
    connection.journal.iter_mut().for_each(|journal| journal.notes.push(Note::Joined));
    let offered = connection.offered.take();
    if resumed && offered.is_none() {
        return Err(CodecError::Value { at: 0, detail: "the server goes on with a state that it was not offered".to_owned() }.into());
    }
    let mut replica = world.resource_mut::<Replica>();
    // The game may have put another one in its place meanwhile.
    let goes_on = resumed && offered == replica.resumable();
    (replica.room, replica.room_name, replica.user, replica.epoch) = (welcome.room, welcome.room_name, welcome.user, welcome.epoch);
    (replica.live, replica.whole) = (goes_on, goes_on);
    let tick = replica.tick;
    if resumed && !goes_on {
        world.resource_mut::<Connection>().outgoing.push_back(ClientMessage::Diverged { tick }.encode());
    }
    unanswered.into_iter().for_each(|id| world.trigger(Unanswered { id, arrived: is_same && id <= last_command }));
    Ok(())
}

/// All values of `latest` components as of a tick came before.
fn take_complete(world: &mut World, tick: RoomTick) {
    if !world.resource::<Connection>().inflow.lacks_parts() {
        let mut replica = world.resource_mut::<Replica>();
        replica.complete = replica.complete.max(tick);
    }
}

fn handle(world: &mut World, message: ServerMessage) -> Result<(), ApplyError> {
    match message {
        ServerMessage::Welcome { room, epoch, resumed, name, user, last_command } => {
            enter(world, Replica { room, room_name: name, user, epoch, ..Replica::default() }, resumed, last_command)
        }
        ServerMessage::Refused(refusal) => {
            let differences = match &refusal {
                Refusal::ProtocolDiffers(theirs) => world.resource::<Protocol>().describe().differences(theirs),
                _ => Vec::new(),
            };
            world.resource_mut::<Replica>().live = false;
            world.resource_mut::<Connection>().state = ConnectionState::Refused(refusal, differences);
            Ok(())
        }
        ServerMessage::Chunk(chunk) => take_chunk(world, &chunk),
        ServerMessage::Difference(chunk) => take_difference(world, &chunk),
        ServerMessage::Batch(batch) => take_batch(world, batch),
        ServerMessage::Private(private) => take_private(world, private),
        ServerMessage::Verdicts { tick, verdicts } => {
            if verdicts.is_empty() {
                // A stay begins in which nothing was taken yet, and whose numbers say nothing of what was asked in an earlier one.
                let unanswered = std::mem::take(&mut world.resource_mut::<Connection>().unanswered);
                unanswered.into_iter().for_each(|id| world.trigger(Unanswered { id, arrived: false }));
            }
            for VerdictMessage { id, rejection } in verdicts {
                if let Some(journal) = &mut world.resource_mut::<Connection>().journal {
                    journal.notes.push(Note::Verdict { id, tick, accepted: rejection.is_none() });
                }
                world.resource_mut::<Connection>().unanswered.retain(|waiting| *waiting != id);
                match rejection {
                    None => {
                        let mut connection = world.resource_mut::<Connection>();
                        // A host that stores nothing never confirms.
                        if connection.accepted.len() >= ACCEPTED_MAX {
                            connection.accepted.pop_front();
                        }
                        connection.accepted.push_back((id, tick));
                        world.trigger(Accepted { id, tick });
                    }
                    Some(rejection) => world.trigger(Rejected { id, code: rejection.code, detail: rejection.detail }),
                }
            }
            Ok(())
        }
        ServerMessage::Speed(speed) => {
            let connection = &mut *world.resource_mut::<Connection>();
            connection.inflow.set_speed(connection.now, speed);
            Ok(())
        }
        ServerMessage::Rooms(list) => take_rooms(world, list),
        ServerMessage::Durable { tick: durable } => {
            let accepted = &mut world.resource_mut::<Connection>().accepted;
            let stored = accepted.iter().take_while(|(_, tick)| *tick <= durable).count();
            let stored: Vec<_> = accepted.drain(..stored).collect();
            stored.into_iter().for_each(|(id, tick)| world.trigger(Durable { id, tick }));
            Ok(())
        }
    }
}

fn take_chunk(world: &mut World, chunk: &SnapshotChunk) -> Result<(), ApplyError> {
    let mut connection = world.resource_mut::<Connection>();
    let snapshot = connection.assembly.add(chunk)?;
    let Some(snapshot) = snapshot else {
        if !connection.resyncing {
            connection.state = ConnectionState::Joining(connection.assembly.progress());
        }
        return Ok(());
    };
    let waiting = connection.waiting.take();
    // What was too much to keep is older here than in the room, and no wonder.
    let report = std::mem::take(&mut connection.resyncing) && !connection.inflow.gave_up();
    connection.state = ConnectionState::Live;
    if world.resource::<Replica>().is_empty() {
        apply_first_snapshot(world, &snapshot)?;
    } else {
        reconcile(world, &snapshot, report)?;
    }
    world.resource_mut::<Replica>().live = true;
    filled(world);
    for (message, private) in waiting {
        if private { take_private(world, message)? } else { take_batch(world, message)? }
    }
    retry_parts(world)
}

fn take_difference(world: &mut World, chunk: &SnapshotChunk) -> Result<(), ApplyError> {
    let mut connection = world.resource_mut::<Connection>();
    let Some(difference) = connection.difference.add(chunk)? else {
        connection.state = ConnectionState::Joining(connection.difference.progress());
        return Ok(());
    };
    if !world.resource::<Replica>().live {
        // It is to what is not here any more: a snapshot was asked for.
        return Ok(());
    }
    // Before anybody is told: who leaves because of what it hears stays away.
    world.resource_mut::<Connection>().state = ConnectionState::Live;
    let applied = apply_difference(world, &difference)?;
    filled(world);
    heal(world, applied);
    retry_parts(world)
}

/// All that there was as of the replica's tick is here. Values that came since, and were too many to keep, are asked for again.
fn filled(world: &mut World) {
    let tick = world.resource::<Replica>().tick;
    let missing = world.resource_mut::<Connection>().inflow.filled(tick);
    if let Some(tick) = missing {
        ask_for_snapshot(world, tick);
    }
}

/// A replica that is not what the room is gets a snapshot.
fn heal(world: &mut World, applied: Applied) {
    if let Applied::Diverged(tick) = applied {
        ask_for_snapshot(world, tick);
    }
}

/// Asks for a snapshot of that tick or a later one, unless one that was asked for is still to come.
fn ask_for_snapshot(world: &mut World, tick: RoomTick) {
    world.resource_mut::<Replica>().whole = false;
    let connection = &mut *world.resource_mut::<Connection>();
    if !std::mem::replace(&mut connection.resyncing, true) {
        connection.outgoing.push_back(ClientMessage::Diverged { tick }.encode());
    }
}

/// Takes a part, or lets it wait for the batch that it needs.
fn take_part(world: &mut World, tick: RoomTick, part: Bytes) -> Result<(), ApplyError> {
    let is_live = world.resource::<Replica>().live;
    if is_live && apply_part(world, tick, &part)? {
        return Ok(());
    }
    let inflow = &mut world.resource_mut::<Connection>().inflow;
    if inflow.wait(tick, part).is_err() {
        let newest = inflow.give_up(tick);
        // Else a snapshot is on its way, and may have all of them.
        if is_live {
            ask_for_snapshot(world, newest);
        }
    }
    Ok(())
}

/// Tries the parts again that waited for a batch.
fn retry_parts(world: &mut World) -> Result<(), ApplyError> {
    let waited = world.resource_mut::<Connection>().inflow.waited();
    waited.into_iter().try_for_each(|(tick, part)| take_part(world, tick, part))
}

/// Lets something wait for the snapshot.
fn wait(world: &mut World, message: Bytes, private: bool) -> Result<(), ApplyError> {
    Ok(world.resource_mut::<Connection>().waiting.push(message, private)?)
}

/// Takes what only this client is told: with the batch of the tick, if there is one.
fn take_private(world: &mut World, private: Bytes) -> Result<(), ApplyError> {
    if !world.resource::<Replica>().live {
        return wait(world, private, true);
    }
    if private_head(&private)?.1 {
        world.resource_mut::<Connection>().private = Some(private);
        return Ok(());
    }
    let applied = apply_private(world, &private)?;
    heal(world, applied);
    retry_parts(world)
}

fn take_batch(world: &mut World, batch: Bytes) -> Result<(), ApplyError> {
    if !world.resource::<Replica>().live {
        return wait(world, batch, false);
    }
    let private = world.resource_mut::<Connection>().private.take();
    let applied = apply_batch(world, &batch, private.as_deref())?;
    heal(world, applied);
    retry_parts(world)
}

#[cfg(test)]
mod tests;
