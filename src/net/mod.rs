//! Sockets for datagrams: the system's, one with a simulated link before it, and a network in memory.
//!
//! No clock inside: the time comes in, by [`DatagramSocket::advance`].
//!
//! May use: protocol, for the link.

mod linked;
mod memory;
#[cfg(feature = "host")]
mod segmented;
mod socket;

pub use self::linked::{LANES_MAX, LinkedSocket};
pub use self::memory::{MemoryNetwork, MemorySocket};
#[cfg(feature = "host")]
pub(crate) use self::segmented::SegmentedSocket;
pub use self::socket::DatagramSocket;
pub(crate) use self::socket::is_passing;
#[cfg(feature = "client")]
pub(crate) use self::socket::is_refused;
