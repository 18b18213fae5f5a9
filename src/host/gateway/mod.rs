//! The gateway: encrypted UDP, behind a gate that lets through only what a well-formed peer can send.
//!
//! One [`Shard`] is one socket with at most 256 clients. It receives at any time and sends once per tick and client, since
//! the transport acknowledges on every send. No clock inside: the time comes in.
//!
//! May use: protocol. The only place, with the client's own end, that knows the transport's crates.

mod counters;
mod shard;

pub use self::counters::{GatewayCounters, GatewayLimits};
pub use self::shard::{Access, BindError, GatewayEvent, Gone, SendOutcome, Shard, ShardConfig};
