//! A host: the process that keeps many rooms, their sessions and the sockets.
//!
//! The [`Lobby`] knows no socket and no clock; the server drives it with both.
//!
//! May use: protocol, room. The only place where the wall clock is read and threads run.

pub mod gateway;
mod limits;
mod lobby;
mod pacer;
mod server;
mod session;
mod token;

pub use self::limits::{HostCounters, HostLimits};
pub use self::lobby::{Lobby, TickReport};
pub use self::pacer::{CATCH_UP_TICKS_MAX, Due, Pacer};
pub use self::server::{Server, ServerError};
pub use self::session::{ConnectionId, Visitor};
pub use self::token::{HostKey, TokenError, TokenIssuer};
