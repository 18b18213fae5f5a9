//! What a gateway tells.

use bytes::Bytes;

use crate::host::session::ConnectionId;
use crate::protocol::{Admission, LeaveReason};

/// Why a client is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It said so.
    Left,
    /// Nothing was heard of it for too long, or it broke the transport's rules.
    Lost,
    /// The host closed the connection.
    Closed,
}

impl From<Gone> for LeaveReason {
    fn from(how: Gone) -> Self {
        match how {
            Gone::Left => Self::Left,
            Gone::Lost => Self::Timeout,
            Gone::Closed => Self::Kicked,
        }
    }
}

/// What a shard saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GatewayEvent {
    /// Somebody connected.
    Connected(ConnectionId, Admission),
    /// A message came in over a channel.
    Message(ConnectionId, Bytes),
    /// A packet came in beside the channels: perhaps not in order, perhaps not all of them, each at most once. Its first byte is one of
    /// [`RAW_KINDS`](crate::protocol::RAW_KINDS), and it has at most [`RAW_BYTES_MAX`](crate::protocol::RAW_BYTES_MAX) bytes; nothing else is known of it.
    Packet(ConnectionId, Bytes),
    /// A client is gone.
    Disconnected(ConnectionId, Gone),
}
