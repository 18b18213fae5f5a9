//! The channel of a connection, and the limits that both ends keep.

use std::time::Duration;

use renet::{ChannelConfig, ConnectionConfig, SendType};

/// The only channel of the transport: a client's messages, reliable and in order. What a host says goes in packets of its own.
pub const CHANNEL: u8 = 0;

/// When a lost reliable message is sent again. Above the round trip of most players, so that little is sent twice.
pub const RESEND_AFTER: Duration = Duration::from_millis(150);

/// Most unacknowledged bytes that a client keeps, and that a host keeps of a client's messages that came out of order.
pub const CLIENT_RELIABLE_BYTES_MAX: usize = 64 << 10;

/// Largest message from a client, in bytes: one that fits a datagram, since hosts take no slices.
pub const CLIENT_MESSAGE_BYTES_MAX: usize = 1_150;

/// The version of the transport: peers of another one don't understand each other's datagrams. Which game they speak is
/// settled later, by name, so that a mismatch can be explained.
pub const TRANSPORT_ID: u64 = 0x726f_6f6d_6b65_0001;

/// How long an end waits for a silent other one, in seconds.
pub const TIMEOUT_SECONDS: i32 = 5;

/// The configuration that both ends must share.
pub fn connection_config() -> ConnectionConfig {
    let channel = ChannelConfig {
        channel_id: CHANNEL,
        max_memory_usage_bytes: CLIENT_RELIABLE_BYTES_MAX,
        send_type: SendType::ReliableOrdered { resend_time: RESEND_AFTER },
    };
    ConnectionConfig {
        available_bytes_per_tick: CLIENT_RELIABLE_BYTES_MAX as u64,
        server_channels_config: Vec::new(),
        client_channels_config: vec![channel],
    }
}
