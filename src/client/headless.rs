//! A replica as plain data, without a Bevy world: for tools that watch, and for clients that are not written with Bevy.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::apply::{ApplyError, private_head};
use super::clock::ServerClock;
use super::inflow::{Arrival, Inflow, Waiting};
use crate::protocol::{
    CodecError, EntityId, Followed, Operation, PACKET, Protocol, Refusal, RoomId, RoomList, RoomTick, ServerMessage, SnapshotAssembly,
    State, StateError, VerdictMessage, Versions, part_needs,
};

/// What a message did to a [`HeadlessReplica`].
#[derive(Clone, Debug, PartialEq)]
pub enum Sight {
    /// It came into the room; the snapshot follows.
    Welcome {
        /// The room's name.
        room: String,
        /// The client's user; the nil id for a spectator.
        user: EntityId,
    },
    /// The snapshot is in.
    Snapshot,
    /// A batch was applied.
    Batch(Followed),
    /// Newer values of `latest` components came, as of a tick.
    Latest(RoomTick, Vec<Operation>),
    /// The answers to its commands.
    Verdicts(Vec<VerdictMessage>),
    /// The host said no, or put it out; for another protocol, what differs.
    Refused(Refusal, Vec<String>),
    /// The rooms of the host, for which it was asked by [`ClientMessage::ListRooms`](crate::protocol::ClientMessage::ListRooms) before its hello.
    Rooms(RoomList),
    /// Nothing that can be seen yet.
    Nothing,
}

/// A replica as plain data.
#[derive(Debug)]
pub struct HeadlessReplica {
    protocol: Protocol,
    state: State,
    assembly: SnapshotAssembly,
    /// What came while the snapshot was on its way: for everybody, or for this client.
    waiting: Waiting,
    /// What this client is told beside the batch that follows.
    private: Option<Bytes>,
    live: bool,
    inflow: Inflow,
    versions: Versions,
}

impl HeadlessReplica {
    /// An empty replica that speaks a protocol: `app.world_mut().remove_resource::<Protocol>()` of an app that a game's
    /// protocol was added to.
    pub fn new(protocol: Protocol) -> Self {
        let state = State::new(RoomId::named(""));
        let (assembly, waiting, private, inflow, versions) = Default::default();
        Self { protocol, state, assembly, waiting, private, live: false, inflow, versions }
    }

    /// The state of the room.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The protocol.
    pub fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// Takes a packet that arrived at a time, by a clock that never goes back, or a message by itself; tells what it did.
    ///
    /// # Errors
    /// If it can't be applied. The replica is then of no more use.
    pub fn deliver(&mut self, now: Duration, packet: &Bytes) -> Result<Vec<Sight>, ApplyError> {
        if packet.first() != Some(&PACKET) {
            return self.message(packet);
        }
        let (mut arrivals, mut sights) = (VecDeque::new(), Vec::new());
        self.inflow.take(now, packet, &mut arrivals)?;
        for arrival in arrivals {
            match arrival {
                Arrival::Message(message) => sights.extend(self.message(&message)?),
                Arrival::Part(tick, part) => sights.extend(self.part(tick, part)?),
                Arrival::Complete(_) => {}
            }
        }
        Ok(sights)
    }

    /// The report of what arrived that is due now, if one is: to be sent as a packet of its own.
    pub fn next_report(&mut self, now: Duration) -> Option<Bytes> {
        self.inflow.report(now)
    }

    /// What is known of the server's time, and of the round trip.
    pub fn server_clock(&self) -> &ServerClock {
        self.inflow.clock()
    }

    fn part(&mut self, tick: RoomTick, part: Bytes) -> Result<Option<Sight>, ApplyError> {
        let early = part_needs(&part)?.is_some_and(|back| tick.0.saturating_sub(back) > self.state.tick().0);
        if early || !self.live {
            self.inflow.wait(tick, part)?;
            return Ok(None);
        }
        let told = self.state.take_part(&self.protocol, (tick, &part), &mut self.versions).map_err(apply_error)?;
        Ok((!told.is_empty()).then_some(Sight::Latest(tick, told)))
    }

    /// Tries the parts again that waited for a batch.
    fn retry_parts(&mut self, sights: &mut Vec<Sight>) -> Result<(), ApplyError> {
        for (tick, part) in self.inflow.waited() {
            sights.extend(self.part(tick, part)?);
        }
        Ok(())
    }

    fn message(&mut self, message: &Bytes) -> Result<Vec<Sight>, ApplyError> {
        Ok(match ServerMessage::decode(message)? {
            ServerMessage::Welcome { room, name, user, .. } => {
                self.state = State::new(room);
                self.live = false;
                vec![Sight::Welcome { room: name, user }]
            }
            ServerMessage::Refused(refusal) => {
                let differences = match &refusal {
                    Refusal::ProtocolDiffers(theirs) => self.protocol.describe().differences(theirs),
                    _ => Vec::new(),
                };
                vec![Sight::Refused(refusal, differences)]
            }
            ServerMessage::Chunk(chunk) => match self.assembly.add(&chunk)? {
                None => vec![Sight::Nothing],
                Some(snapshot) => {
                    self.state = State::from_snapshot(&self.protocol, self.state.room(), &snapshot).map_err(apply_error)?;
                    self.live = true;
                    self.versions.clear();
                    self.state.entities().keys().for_each(|id| self.versions.created(*id, self.state.tick()));
                    let mut sights = vec![Sight::Snapshot];
                    for (message, private) in self.waiting.take() {
                        sights.extend(if private { self.private(message)? } else { Some(self.follow(&message)?) });
                    }
                    self.retry_parts(&mut sights)?;
                    sights
                }
            },
            // It offers no state to go on with, so nobody sends it one.
            ServerMessage::Difference(_) => return Err(CodecError::Unknown { what: "difference", value: 0, at: 0 }.into()),
            ServerMessage::Batch(batch) if self.live => {
                let mut sights = vec![self.follow(&batch)?];
                self.retry_parts(&mut sights)?;
                sights
            }
            ServerMessage::Batch(batch) => {
                self.waiting.push(batch, false)?;
                vec![Sight::Nothing]
            }
            ServerMessage::Private(private) if self.live => {
                let mut sights: Vec<Sight> = self.private(private)?.into_iter().collect();
                self.retry_parts(&mut sights)?;
                sights
            }
            ServerMessage::Private(private) => {
                self.waiting.push(private, true)?;
                vec![Sight::Nothing]
            }
            ServerMessage::Verdicts { verdicts, .. } => vec![Sight::Verdicts(verdicts)],
            ServerMessage::Rooms(list) => vec![Sight::Rooms(list)],
            ServerMessage::Speed(_) | ServerMessage::Durable { .. } => vec![Sight::Nothing],
        })
    }

    /// Takes what only this client is told: with the batch of the tick, if there is one.
    fn private(&mut self, private: Bytes) -> Result<Option<Sight>, ApplyError> {
        if private_head(&private)?.1 {
            self.private = Some(private);
            return Ok(None);
        }
        let followed = self.state.follow_private(&self.protocol, &private, &mut self.versions).map_err(apply_error)?;
        Ok(Some(Sight::Batch(followed)))
    }

    fn follow(&mut self, batch: &Bytes) -> Result<Sight, ApplyError> {
        let private = self.private.take();
        let beside = (private.as_deref(), Some(&mut self.versions));
        self.state.follow_with(&self.protocol, batch, beside).map(Sight::Batch).map_err(apply_error)
    }
}

fn apply_error(error: StateError) -> ApplyError {
    match error {
        StateError::Codec(error) => ApplyError::Codec(error),
        StateError::Gap { tick, after, state } => ApplyError::Gap { tick, after, replica: state },
    }
}
