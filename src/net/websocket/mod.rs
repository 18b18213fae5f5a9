//! Datagrams over WebSocket, for networks that let no UDP through: each binary message is one datagram, encrypted as it would be over UDP.
//!
//! What is lost on the way is sent again by the system, in order, so one packet that is late delays those behind it: UDP is better where it passes.
//! [`WebSocketListener`] is a host's end, a [`WebSocketDial`] opens a client's.

#[cfg(feature = "client")]
mod dial;
#[cfg(all(any(test, fuzzing), feature = "admin"))]
mod door;
#[cfg(feature = "host")]
mod listener;
mod tunnel;

#[cfg(feature = "client")]
pub use self::dial::WebSocketDial;
#[cfg(all(any(test, fuzzing), feature = "admin"))]
pub(crate) use self::door::websocket_door;
#[cfg(feature = "host")]
pub use self::listener::{Crowd, WebSocketListener};
