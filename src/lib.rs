//! Authoritative multiplayer game rooms on Bevy ECS.
#[cfg(all(feature = "client", feature = "host"))]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "host")]
pub mod host;
pub mod protocol;
pub mod room;
#[cfg(all(feature = "client", feature = "host"))]
pub mod sim;
pub use bevy_app;
pub use bevy_ecs;
pub use bevy_time;
/// The names that games use most.
pub mod prelude {
    pub use crate::protocol::{ComponentChanged, EntityAdded, EntityId, EntityRemoved, Happened, OwnedBy, ProtocolAppExt, Quantity, Rejected, UserJoined, UserLeft};
    pub use crate::room::{
        Decision, EntityIndex, Issued, Patch, Recorder, RoomClock, RoomRng, RulesAppExt, Ttl, accept, reject,
    };
}
