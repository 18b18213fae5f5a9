//! The commands that go out from a client, and why one can't be sent.

use bevy_ecs::prelude::*;
use bevy_ecs::system::{SystemParam, SystemState};
use bytes::Bytes;
use serde::Serialize;
use thiserror::Error;

use super::connection::Connection;
use super::journal::Note;
use super::replica::Replica;
use super::shown::ShownTime;
use super::state::ConnectionState;
use crate::protocol::limits::COMMAND_BYTES_MAX;
use crate::protocol::{ClientMessage, CodecError, CommandId, Protocol, SeenTick, encode_into};

/// How many commands a client remembers until they are answered.
const UNANSWERED_MAX: usize = 4_096;

/// Why a command can't be sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The command is not in the protocol.
    #[error("the command {0} is not in the protocol: add it there by `app.command::<..>(\"its_name\")`")]
    Unknown(&'static str),
    /// The command is too large, or can't be encoded.
    #[error("the command can't be sent: {0}")]
    Codec(#[from] CodecError),
    /// The client is not in a room.
    #[error("a command can be sent only from within a room; now: {0}")]
    NotLive(String),
    /// The client is a spectator.
    #[error("a spectator can't send commands")]
    Spectator,
    /// The numbers of commands are used up.
    #[error("the {0} numbers that commands can have in a room are used up")]
    UsedUp(u32),
}

/// Sends commands.
///
/// ```
/// use bevy_ecs::prelude::*;
/// use roomkeeper::client::Issue;
/// # #[derive(serde::Serialize)]
/// # struct Fire { aim: [f32; 2] }
/// fn shoot(mut issue: Issue) -> Result {
///     issue.send(&Fire { aim: [1.0, 0.0] })?;
///     Ok(())
/// }
/// ```
#[derive(SystemParam)]
pub struct Issue<'w> {
    protocol: Res<'w, Protocol>,
    replica: Res<'w, Replica>,
    connection: ResMut<'w, Connection>,
    shown: Option<Res<'w, ShownTime>>,
}

impl Issue<'_> {
    /// Where the client stands. A system that takes an `Issue` can't take the [`Connection`] beside it.
    pub fn state(&self) -> &ConnectionState {
        &self.connection.state
    }

    /// The moment of the room that the player sees: the [shown](ShownTime) one, or where nothing is interpolated the newest.
    pub fn seen(&self) -> SeenTick {
        let shown = self.shown.as_ref().and_then(|shown| shown.tick());
        shown.map_or_else(|| SeenTick::of(self.replica.tick()), SeenTick::from_ticks)
    }

    /// Sends a command, with the moment that the player [sees](Self::seen). The answer comes as
    /// [`Accepted`](crate::protocol::Accepted) or [`Rejected`](crate::protocol::Rejected) with the same number.
    ///
    /// # Errors
    /// If it can't be sent; nothing was.
    pub fn send<C: Serialize + 'static>(&mut self, command: &C) -> Result<CommandId, IssueError> {
        let kind = self.protocol.command_index(std::any::TypeId::of::<C>());
        let kind = kind.ok_or(IssueError::Unknown(std::any::type_name::<C>()))?;
        self.check()?;
        let mut payload = Vec::new();
        encode_into(command, &mut payload)?;
        self.send_encoded(kind, payload.into())
    }

    /// The same for a command that is encoded already, by its number in the protocol: one that was recorded, for instance.
    ///
    /// # Errors
    /// If it can't be sent; nothing was.
    pub fn send_encoded(&mut self, kind: usize, payload: Bytes) -> Result<CommandId, IssueError> {
        self.check()?;
        if kind >= self.protocol.commands.len() {
            return Err(IssueError::Unknown("with that number"));
        }
        if payload.len() > COMMAND_BYTES_MAX {
            let detail = format!("{} bytes, at most {COMMAND_BYTES_MAX} allowed", payload.len());
            return Err(CodecError::Encode { detail }.into());
        }
        let (seen, connection) = (Some(self.seen()), &mut *self.connection);
        connection.last_command = connection.last_command.checked_add(1).ok_or(IssueError::UsedUp(u32::MAX))?;
        let id = CommandId(connection.last_command);
        let server_tick = connection.server_tick();
        if let Some(journal) = &mut connection.journal {
            journal.notes.push(Note::Issued { id, kind, seen, payload: payload.clone(), server_tick });
        }
        if connection.unanswered.len() >= UNANSWERED_MAX {
            connection.unanswered.pop_front();
        }
        connection.unanswered.push_back(id);
        connection.outgoing.push_back(ClientMessage::Command { id, kind, seen, payload }.encode());
        Ok(id)
    }

    /// Whether commands can be sent at all.
    fn check(&self) -> Result<(), IssueError> {
        if !self.connection.state.is_in_room() {
            return Err(IssueError::NotLive(self.connection.state.to_string()));
        }
        if self.replica.user.is_nil() { Err(IssueError::Spectator) } else { Ok(()) }
    }
}

/// Sends a command from outside of systems, as [`Issue::send`] does from within one.
///
/// ```
/// use bevy_ecs::prelude::*;
/// use roomkeeper::client::issue;
/// # #[derive(serde::Serialize)]
/// # struct Fire { aim: [f32; 2] }
/// fn brain(world: &mut World) {
///     // What can't be sent, because the connection has just ended, need not be.
///     let _ = issue(world, &Fire { aim: [1.0, 0.0] });
/// }
/// ```
///
/// # Errors
/// If it can't be sent, or the world has no [`ReplicaPlugin`](super::ReplicaPlugin); nothing was.
pub fn issue<C: Serialize + 'static>(world: &mut World, command: &C) -> Result<CommandId, IssueError> {
    let mut state = SystemState::<Issue>::new(world);
    match state.get_mut(world) {
        Ok(mut issue) => issue.send(command),
        Err(error) => Err(IssueError::NotLive(error.to_string())),
    }
}

/// A run condition: the client is in the room, so commands can be sent.
///
/// ```
/// use bevy_app::prelude::*;
/// use bevy_ecs::prelude::*;
/// use roomkeeper::client::{Issue, in_room};
/// # #[derive(serde::Serialize)]
/// # struct Fire;
/// # fn shoot(mut issue: Issue) -> Result {
/// #     issue.send(&Fire)?;
/// #     Ok(())
/// # }
/// # fn add(app: &mut App) {
/// app.add_systems(Update, shoot.run_if(in_room));
/// # }
/// ```
pub fn in_room(connection: Res<Connection>) -> bool {
    connection.state.is_in_room()
}
