//! Where a client stands, as a game shows it.

use bevy_ecs::prelude::*;

use crate::protocol::{CommandId, Refusal};

/// Where a client stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ConnectionState {
    /// Not in a room, and not on the way.
    #[default]
    Idle,
    /// On the way to the host, which has not answered yet; or there, and [browsing](super::UdpTransport::browse) its rooms.
    Connecting,
    /// Has asked to join; the share of the snapshot, or of the difference to the state that it still had, that is in, from 0 to 1.
    Joining(f32),
    /// In the room.
    Live,
    /// In the room, but nothing has come from the host for [a while](super::Connection::silence). What is asked for now may come too late.
    Degraded,
    /// The connection broke while the client was in the room, and is being made again; how many times it was tried before. What the replica
    /// holds stays, and the host is asked only for what was missed.
    Reconnecting(u32),
    /// The host said no, or put the client out. For another protocol, the lines name what differs.
    Refused(Refusal, Vec<String>),
    /// The connection broke, or the host said what can't be.
    Broken(String),
}

impl ConnectionState {
    /// In the room: commands can be sent.
    pub fn is_in_room(&self) -> bool {
        matches!(self, Self::Live | Self::Degraded)
    }

    /// Nothing more will come of it, unless somebody connects anew.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Refused(..) | Self::Broken(_))
    }
}

impl std::fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Idle => f.write_str("not connected"),
            Self::Connecting => f.write_str("connecting"),
            Self::Joining(share) => write!(f, "joining, {:.0} %", share * 100.0),
            Self::Live => f.write_str("in the room"),
            Self::Degraded => f.write_str("in the room, but nothing comes from the server"),
            Self::Reconnecting(0) => f.write_str("the connection broke; reconnecting"),
            Self::Reconnecting(tried) => write!(f, "the connection broke; reconnecting, tried {tried} times"),
            Self::Refused(refusal, differences) if differences.is_empty() => refusal.fmt(f),
            Self::Refused(refusal, differences) => write!(f, "{refusal}: {}", differences.join("; ")),
            Self::Broken(reason) => f.write_str(reason),
        }
    }
}

/// The state of the connection changed.
#[derive(Event, Clone, Debug, PartialEq)]
pub struct ConnectionChanged {
    /// What it is now.
    pub state: ConnectionState,
}

/// The connection broke before a command was answered, and stands again. No answer will come.
#[derive(Event, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// The command. Where the client came back to its seat, its number is given again to a later one if it did not arrive.
    pub id: CommandId,
    /// True if the room has taken it in: what became of it is in its state. False if it never got there, and where that is not known here: the
    /// client is in another room now than the one that it was sent to, or its seat was gone and it joined anew. Where the same user played by
    /// another client meanwhile, whose commands have the same numbers, it may be true of what never got there.
    pub arrived: bool,
}
