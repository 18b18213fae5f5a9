//! The gateway: encrypted UDP, behind a gate that lets through only what a well-formed peer can send.
//!
//! One [`Shard`] is one socket with at most 256 clients. It receives at any time. What a host says leaves as packets of its own, several at once where the system takes them so;
//! the transport's channel carries what clients ask for, and once per tick it is acknowledged. No clock inside: the time comes in. A [`Gateway`] is one shard on the host's thread, or several
//! on threads of their own that share a port; and one more for those who come by WebSocket.
//!
//! May use: protocol, net. The only place, with the client's own end, that knows the transport's crates.

mod config;
mod counters;
mod event;
mod exchange;
mod front;
mod keys;
mod outlet;
mod pool;
mod shard;
mod threads;
mod together;
mod wait;

#[cfg(feature = "client")]
pub(crate) use self::config::CLIENTS_MAX;
pub(crate) use self::config::can_share;
pub(super) use self::config::spread;
pub use self::config::{Access, BindError, CLIENTS_PER_THREAD, ShardConfig, threads_for};
pub use self::counters::{GatewayCounters, GatewayLimits};
pub use self::event::{GatewayEvent, Gone};
pub use self::front::Gateway;
pub use self::keys::KEYS_MAX;
pub(super) use self::outlet::Outlet;
pub use self::shard::Shard;
