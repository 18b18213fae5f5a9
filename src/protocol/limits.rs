//! The limits that both sides keep. Each is checked when writing and when reading.

/// Simulated time per tick, in milliseconds.
pub const TICK_MILLIS: u64 = 50;

/// Ticks per second.
pub const TICKS_PER_SECOND: u32 = 20;

/// Largest encoded value of one component, one command or one fact, in bytes. More is refused by the codec.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// Most synced components, commands or facts in one protocol, each.
pub const KINDS_MAX: usize = 1024;

/// Most components whose delivery is `latest` in one protocol.
pub const LATEST_MAX: usize = 64;

/// Largest value of a `latest` component that travels in a datagram, in bytes. A larger one goes with the ordered batch.
pub const LATEST_VALUE_BYTES_MAX: usize = 1_024;

/// Largest packet from a host to a client, in bytes: with the transport's and the network's own it stays below what every path carries.
pub const PACKET_BYTES_MAX: usize = 1_200;

/// Largest part: values of `latest` components, in bytes. It fits a packet beside the packet's head.
pub const PART_BYTES_MAX: usize = 1_184;

/// Longest wire name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Longest readable name of an entity in a level file, in bytes.
pub const ENTITY_NAME_BYTES_MAX: usize = 128;

/// Most entities that one room keeps synced.
pub const ENTITIES_MAX: usize = 1 << 20;

/// Largest batch, in bytes. A tick that changes more closes its room with a clear message.
pub const BATCH_BYTES_MAX: usize = 16 << 20;

/// Largest batch that is sent as one message, in bytes. Instead of a larger one the members are sent a snapshot, in chunks.
pub const BATCH_MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// Largest snapshot, in bytes.
pub const SNAPSHOT_BYTES_MAX: usize = 256 << 20;

/// Size of the pieces in which a snapshot travels, in bytes.
pub const SNAPSHOT_CHUNK_BYTES: usize = 16 * 1024;

/// Largest command, in bytes of payload. More is refused before it is decoded.
pub const COMMAND_BYTES_MAX: usize = 1024;

/// Most commands that one member may have obeyed in one tick. More are rejected as `too_many_commands`.
pub const COMMANDS_PER_TICK_MAX: usize = 32;

/// Longest JSON text of a fact that an operator lets happen, in bytes. More is refused before it is read.
pub const EVENT_BYTES_MAX: usize = 16 * 1024;

/// Most facts that operators may let happen in one room in one tick. More are rejected as `too_many_events`.
pub const EVENTS_PER_TICK_MAX: usize = 32;

/// Most facts that one room records in one tick. A room that records more is in a loop and closes.
pub const FACTS_PER_TICK_MAX: usize = 4096;

/// Most facts of which each is recorded while the one before is applied. Each takes its part of the thread's stack: a room whose facts go on and on
/// closes before the stack ends, which would end the process.
pub const FACT_CHAIN_MAX: usize = 128;

/// Longest name of a user, in bytes.
pub const USER_NAME_BYTES_MAX: usize = 32;

/// Longest code of a rejection, in bytes; longer ones are cut.
pub const REJECTION_CODE_BYTES_MAX: usize = 64;

/// Longest detail of a rejection, in bytes; longer ones are cut.
pub const REJECTION_DETAIL_BYTES_MAX: usize = 256;

/// Most rooms in one [list of rooms](super::RoomList). Of more a host tells those made on demand, then those that are open, then those at rest, of each
/// kind the first by name; and how many there are.
pub const ROOMS_LISTED_MAX: usize = 256;
