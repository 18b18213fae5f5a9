//! The two channels of a connection, and the limits that both ends keep.

use std::time::Duration;

use renet::{ChannelConfig, ConnectionConfig, SendType};

/// One of the two channels; each end has both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Reliable and in order.
    Ordered = 0,
    /// Unreliable: what is lost is superseded, or repaired by its sender.
    Latest = 1,
}

impl Channel {
    /// Both, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Ordered, Self::Latest];
}

impl From<Channel> for u8 {
    fn from(channel: Channel) -> Self {
        channel as Self
    }
}

/// When a lost reliable message is sent again. Above the round trip of most players, so that little is sent twice.
pub const RESEND_AFTER: Duration = Duration::from_millis(150);

/// Most unacknowledged bytes that a host keeps for one client. Hosts say nothing by renet any more but that something came.
pub const HOST_RELIABLE_BYTES_MAX: usize = 1 << 20;

/// Most unacknowledged bytes that a client keeps, and that a host keeps of a client's messages that came out of order.
pub const CLIENT_RELIABLE_BYTES_MAX: usize = 64 << 10;

/// Most bytes that leave for one client in one flush. Packets beside renet have a bound of their own.
pub const BYTES_PER_FLUSH_MAX: u64 = 256 << 10;

/// Largest message from a client, in bytes: one that fits a datagram, since hosts take no slices.
pub const CLIENT_MESSAGE_BYTES_MAX: usize = 1_150;

/// The version of the transport: peers of another one don't understand each other's datagrams. Which game they speak is
/// settled later, by name, so that a mismatch can be explained.
pub const TRANSPORT_ID: u64 = 0x726f_6f6d_6b65_0001;

/// How long an end waits for a silent other one, in seconds.
pub const TIMEOUT_SECONDS: i32 = 5;

/// Most unacknowledged bytes that the transport itself keeps of one channel of a host: more than we give it.
const HOST_CHANNEL_BYTES: usize = HOST_RELIABLE_BYTES_MAX * 2;

/// How many bytes wait in a channel of a host, unsent or unacknowledged, if so many are free.
pub fn host_channel_waiting(free: usize) -> usize {
    HOST_CHANNEL_BYTES.saturating_sub(free)
}

/// How many bytes wait in a channel of a client, unsent or unacknowledged, if so many are free.
pub fn client_channel_waiting(free: usize) -> usize {
    CLIENT_RELIABLE_BYTES_MAX.saturating_sub(free)
}

/// The configuration that both ends must share.
pub fn connection_config() -> ConnectionConfig {
    let channels = |max_memory_usage_bytes: usize| {
        vec![
            ChannelConfig {
                channel_id: Channel::Ordered.into(),
                max_memory_usage_bytes,
                send_type: SendType::ReliableOrdered { resend_time: RESEND_AFTER },
            },
            ChannelConfig { channel_id: Channel::Latest.into(), max_memory_usage_bytes, send_type: SendType::Unreliable },
        ]
    };
    ConnectionConfig {
        available_bytes_per_tick: BYTES_PER_FLUSH_MAX,
        // A receiver counts slices that are whole multiples of 1,200 bytes, so it needs more than the sender holds.
        server_channels_config: channels(HOST_CHANNEL_BYTES),
        client_channels_config: channels(CLIENT_RELIABLE_BYTES_MAX),
    }
}
