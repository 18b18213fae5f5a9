//! What both sides agree on: names, values, operations, messages. Pure: bytes in, bytes out, and worlds in between.
//!
//! May use: Bevy's ECS, serde. Never: clocks, sockets, threads, nor the modules beside this one.

mod admission;
mod alike;
mod batch;
mod built_in;
mod changed;
mod channel;
mod check;
mod chunk;
mod codec;
mod column;
mod depth;
#[cfg_attr(not(feature = "client"), expect(dead_code, reason = "what only a replica reads"))]
mod difference;
mod envelope;
mod event;
#[cfg_attr(not(feature = "host"), expect(dead_code, reason = "what only a store does"))]
mod evolve;
mod fingerprint;
mod fold;
mod gate;
mod ids;
#[cfg_attr(not(feature = "host"), expect(dead_code, reason = "what only a store does"))]
mod incoming;
mod interpolation;
pub mod limits;
mod link;
mod listing;
mod moment;
mod named;
mod notice;
mod operation;
mod pack;
#[cfg_attr(not(all(feature = "client", feature = "host")), expect(dead_code, reason = "one end writes, the other reads"))]
mod packet;
mod part;
mod payload;
mod quantise;
mod quantity;
mod recorded;
mod registry;
mod rejection;
mod roster;
mod rotation;
mod rows;
mod saved;
mod speed;
mod staged;
#[cfg_attr(not(feature = "host"), expect(dead_code, reason = "what only a store does"))]
mod standing;
mod state;
mod versions;
mod wire;

pub use self::admission::{Admission, AdmissionError, USER_DATA_BYTES};
pub use self::batch::{BatchHead, FactHead, Producer, SnapshotHead};
pub use self::built_in::{LeaveReason, OwnedBy, Owns, Reverted, RoomCreated, SceneReset, User, UserJoined, UserLeft};
pub use self::channel::{
    CHANNEL, CLIENT_MESSAGE_BYTES_MAX, CLIENT_RELIABLE_BYTES_MAX, RESEND_AFTER, TIMEOUT_SECONDS, TRANSPORT_ID, connection_config,
};
pub use self::chunk::{SnapshotAssembly, SnapshotChunk, snapshot_messages};
pub use self::codec::{CodecError, Reader, write_varint};
pub use self::column::SyncComponent;
#[cfg(feature = "host")]
pub(crate) use self::envelope::PRIVATE_MESSAGE;
pub use self::envelope::{ClientMessage, Refusal, Resume, ServerMessage, VerdictMessage, WIRE_VERSION, batch_message};
#[cfg(feature = "host")]
pub(crate) use self::evolve::AnyName;
pub use self::evolve::{Entities, EvolveAppExt, Upcast};
pub use self::fingerprint::{DescribedName, Description, Fingerprint};
pub use self::fold::Folded;
pub use self::gate::{
    DATAGRAM_BYTES_MAX, DatagramKind, From as PayloadFrom, PayloadGate, RAW_BYTES_MAX, RAW_KINDS, datagram_kind, is_acknowledgement,
    is_packet, is_raw,
};
pub use self::ids::{CommandId, EntityId, FactSeq, LEVEL_NAMESPACE, NetId, RoomId, RoomTick, SeenTick};
#[cfg(feature = "host")]
pub(crate) use self::incoming::kept_name;
pub use self::incoming::{Change, Incoming, Taken, Verdict};
pub use self::interpolation::Interpolation;
pub use self::link::{LINK_PROFILES, Link, LinkConditions, LinkParseError, QUEUE_MAX};
pub use self::listing::{Availability, ListedRoom, RoomList};
pub use self::moment::{Moment, When};
pub use self::notice::{Accepted, ComponentChanged, Durable, EntityAdded, EntityRemoved, Happened, Rejected, Removal};
pub use self::operation::{Op, Operation, OperationError, encode_operations};
pub use self::quantise::{Angles, Quantised, Ranged};
pub use self::quantity::{Amount, Quantity, Step, UpdateKind};
pub use self::recorded::Recorded;
pub use self::registry::{ComponentAudience, Delivery, Protocol, ProtocolAppExt, Synced};
pub use self::rejection::Rejection;
pub use self::roster::{Identity, RosterEntry};
pub use self::rotation::SmallestThree;
pub use self::rows::NetMap;
pub use self::speed::Speed;
pub use self::standing::{Standing, Trail};
pub use self::state::{EntityState, FactState, Followed, State, StateError, next_seq_of};
pub use self::wire::{Codec, Via};

#[cfg(feature = "client")]
pub(crate) use self::batch::read_batch;
#[cfg(feature = "host")]
pub(crate) use self::batch::without_hash;
pub(crate) use self::batch::{CREATES, DELETES, FACTS, HASH, LEFT, NOTES, UPDATES, write_column, write_removals, write_updates};
pub(crate) use self::batch::{Visit, read_snapshot, write_private_head};
#[cfg(feature = "client")]
pub(crate) use self::batch::{read_private, read_private_head};
pub(crate) use self::built_in::register_built_in;
pub(crate) use self::changed::ChangedComponents;
pub(crate) use self::check::StateHash;
#[cfg(feature = "host")]
pub(crate) use self::chunk::DIFFERENCE;
pub(crate) use self::chunk::difference_messages;
pub(crate) use self::codec::encode_into;
#[cfg(feature = "host")]
pub(crate) use self::codec::write_bytes;
#[cfg(feature = "client")]
pub(crate) use self::column::Announcement;
pub(crate) use self::difference::DifferenceHead;
#[cfg(feature = "client")]
pub(crate) use self::difference::read_difference;
#[cfg(feature = "host")]
pub(crate) use self::fold::{Dirty, EXISTS};
pub(crate) use self::ids::{moved, with_ticks_moved};
#[cfg(feature = "host")]
pub(crate) use self::listing::can_be_listed;
pub(crate) use self::packet::varint_size;
#[cfg(feature = "client")]
pub(crate) use self::packet::{Frame, REPORT_BITS_BYTES_MAX, STREAM_MESSAGE_BYTES_MAX, read_packet};
pub use self::packet::{PACKET, REPORT};
#[cfg(feature = "host")]
pub(crate) use self::packet::{PACKET_HEAD_MAX, PADDING, write_echo, write_ordered_head, write_packet_head, write_part_head};
#[cfg(any(feature = "client", feature = "host"))]
pub(crate) use self::packet::{Report, STREAM_WINDOW_BYTES, unwrap_seq};
pub(crate) use self::part::{PartItem, PartSource};
#[cfg(feature = "client")]
pub(crate) use self::part::{VisitPart, part_needs, read_part};
pub(crate) use self::payload::{Fact, Payload, read_whole};
pub(crate) use self::quantity::StepLog;
pub(crate) use self::registry::ComponentEntry;
pub(crate) use self::registry::{sync_to_owner, watch_losses};
pub(crate) use self::roster::{Roster, RosterWriter, write_net_ids};
pub(crate) use self::rows::{Lost, Rows};
pub(crate) use self::saved::Saved;
#[cfg(feature = "client")]
pub(crate) use self::staged::spawn_staged;
pub(crate) use self::staged::{Places, Staged, insert_staged, stage};
#[cfg(any(feature = "client", feature = "host"))]
pub(crate) use self::versions::Versions;
pub(crate) use self::versions::place;
pub(crate) use self::wire::{HiddenFrom, Names};
