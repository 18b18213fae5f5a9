//! Sockets for datagrams: the system's, one with a simulated link before it, a network in memory, and connections of other kinds that carry them.
//!
//! No clock inside: the time comes in, by [`DatagramSocket::advance`].
//!
//! May use: protocol, for the link.

#[cfg(feature = "client")]
mod dial;
mod linked;
mod memory;
#[cfg(feature = "host")]
mod segmented;
mod socket;
#[cfg(feature = "websocket")]
mod websocket;

#[cfg(feature = "client")]
pub use self::dial::{Dial, FallbackDial, UdpDial};
pub use self::linked::{LANES_MAX, LinkedSocket};
pub use self::memory::{MemoryNetwork, MemorySocket};
#[cfg(feature = "host")]
pub(crate) use self::segmented::SegmentedSocket;
pub use self::socket::DatagramSocket;
pub(crate) use self::socket::is_passing;
#[cfg(feature = "client")]
pub(crate) use self::socket::is_refused;
#[cfg(feature = "host")]
pub(crate) use self::socket::{caught, neighbours};
#[cfg(all(feature = "websocket", feature = "client"))]
pub use self::websocket::WebSocketDial;
#[cfg(all(any(test, fuzzing), feature = "websocket", feature = "admin"))]
pub(crate) use self::websocket::websocket_door;
#[cfg(all(feature = "websocket", feature = "host"))]
pub use self::websocket::{Crowd, WebSocketListener};
