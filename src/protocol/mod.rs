//! What both sides agree on: names, values, operations, messages. Pure: bytes in, bytes out, and worlds in between.
//!
//! May use: Bevy's ECS, serde. Never: clocks, sockets, threads, nor the modules beside this one.

mod batch;
mod codec;
mod column;
mod fingerprint;
mod ids;
pub mod limits;
mod named;
mod notice;
mod payload;
mod quantity;
mod registry;
mod roster;
mod rows;
mod wire;

pub use self::batch::{BatchHead, FactHead, Producer, SnapshotHead};
pub use self::codec::{CodecError, Reader, write_varint};
pub use self::column::SyncComponent;
pub use self::fingerprint::{DescribedName, Description, Fingerprint};
pub use self::ids::{CommandId, EntityId, FactSeq, LEVEL_NAMESPACE, NetId, RoomId, RoomTick};
pub use self::notice::{Accepted, ComponentChanged, EntityAdded, EntityRemoved, Happened, Rejected};
pub use self::quantity::{Amount, Quantity, Step, UpdateKind};
pub use self::registry::{Delivery, Protocol, ProtocolAppExt, Synced};
pub use self::roster::{Identity, RosterEntry};
pub use self::rows::NetMap;
pub use self::wire::Codec;
