//! A replica as plain data, without a Bevy world: for tools that watch, and for clients that are not written with Bevy.

use bytes::Bytes;

use super::apply::ApplyError;
use crate::protocol::{EntityId, Followed, Protocol, Refusal, RoomId, ServerMessage, SnapshotAssembly, State, StateError, VerdictMessage};

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
    /// The answers to its commands.
    Verdicts(Vec<VerdictMessage>),
    /// The host said no, or put it out; for another protocol, what differs.
    Refused(Refusal, Vec<String>),
    /// Nothing that can be seen yet.
    Nothing,
}

/// A replica as plain data.
#[derive(Debug)]
pub struct HeadlessReplica {
    protocol: Protocol,
    state: State,
    assembly: SnapshotAssembly,
    waiting: Vec<Bytes>,
    live: bool,
}

impl HeadlessReplica {
    /// An empty replica that speaks a protocol: `app.world_mut().remove_resource::<Protocol>()` of an app that a game's
    /// protocol was added to.
    pub fn new(protocol: Protocol) -> Self {
        let state = State::new(RoomId::named(""));
        Self { protocol, state, assembly: SnapshotAssembly::default(), waiting: Vec::new(), live: false }
    }

    /// The state of the room.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The protocol.
    pub fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// Takes a message, and tells what it did.
    ///
    /// # Errors
    /// If it can't be applied. The replica is then of no more use.
    pub fn deliver(&mut self, message: &Bytes) -> Result<Vec<Sight>, ApplyError> {
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
            ServerMessage::Chunk { size, at, bytes } => match self.assembly.add(size, at, &bytes)? {
                None => vec![Sight::Nothing],
                Some(snapshot) => {
                    self.state = State::from_snapshot(&self.protocol, self.state.room(), &snapshot).map_err(apply_error)?;
                    self.live = true;
                    let mut sights = vec![Sight::Snapshot];
                    for batch in std::mem::take(&mut self.waiting) {
                        sights.push(self.follow(&batch)?);
                    }
                    sights
                }
            },
            ServerMessage::Batch(batch) if self.live => vec![self.follow(&batch)?],
            ServerMessage::Batch(batch) => {
                self.waiting.push(batch);
                vec![Sight::Nothing]
            }
            ServerMessage::Verdicts { verdicts, .. } => vec![Sight::Verdicts(verdicts)],
            ServerMessage::Durable { .. } => vec![Sight::Nothing],
        })
    }

    fn follow(&mut self, batch: &Bytes) -> Result<Sight, ApplyError> {
        self.state.follow(&self.protocol, batch).map(Sight::Batch).map_err(apply_error)
    }
}

fn apply_error(error: StateError) -> ApplyError {
    match error {
        StateError::Codec(error) => ApplyError::Codec(error),
        StateError::Gap { tick, after, state } => ApplyError::Gap { tick, after, replica: state },
    }
}
