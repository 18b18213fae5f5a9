//! Authoritative multiplayer game rooms on Bevy ECS.
pub mod protocol;
/// The names that games use most.
pub mod prelude { pub use crate::protocol::{EntityId, Quantity, ProtocolAppExt}; }
