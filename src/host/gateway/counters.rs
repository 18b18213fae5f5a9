//! What a gateway allows, and how often each limit was met.

use super::config::CLIENTS_MAX;

/// What a gateway allows. The counter that tells how often each was met stands behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GatewayLimits {
    /// Most clients of one shard. Default and most: 256. More are refused by the transport.
    pub clients_max: usize,
    /// Most datagrams of one client between two flushes. Default: 64. Those of which nothing comes, because somebody else sent them from its address for
    /// instance, are not among them: of those 1,024 are looked at. Counter: `rate_limited`.
    pub datagrams_per_tick_max: u32,
    /// Most messages of one client between two flushes; the rest waits. Default: 64.
    pub messages_per_tick_max: u32,
    /// Connection requests that are looked at per second, all strangers together. Default: 500. Counter: `requests_limited`.
    pub requests_per_second: u32,
    /// Connection requests that may come at once. Default: 500. Counter: `requests_limited`.
    pub requests_burst: u32,
    /// Most strangers that are half-way in. Default: 1,024. Counter: `requests_limited`.
    pub pending_max: usize,
    /// Most clients of one shard with the same IP address, but for those of this machine. Default: 64. Counter: `addresses_limited`.
    pub clients_per_address_max: usize,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            clients_max: CLIENTS_MAX,
            datagrams_per_tick_max: 64,
            messages_per_tick_max: 64,
            requests_per_second: 500,
            requests_burst: 500,
            pending_max: 1_024,
            clients_per_address_max: 64,
        }
    }
}

/// Most datagrams from a client's address between two flushes of which nothing comes. Anybody can write its address on theirs, so they take nothing of what
/// it may say; but each is to be deciphered.
const JUNK_MAX: u32 = 1_024;

/// What one client has said since the last flush.
#[derive(Debug, Default)]
pub(super) struct Share {
    round: u64,
    /// Those that are proven to be its own.
    pub(super) datagrams: u32,
    pub(super) junk: u32,
    pub(super) messages: u32,
}

impl Share {
    /// What was counted in a round: each begins with nothing.
    pub(super) fn of(&mut self, round: u64) -> &mut Self {
        if self.round != round {
            *self = Self { round, ..Self::default() };
        }
        self
    }

    pub(super) fn is_used_up(&self, limits: &GatewayLimits) -> bool {
        self.datagrams >= limits.datagrams_per_tick_max || self.junk >= JUNK_MAX
    }
}

/// What a gateway has counted since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GatewayCounters {
    /// Datagrams that came in.
    pub datagrams_in: u64,
    /// Bytes that came in, without the headers of UDP and IP.
    pub bytes_in: u64,
    /// Datagrams that went out.
    pub datagrams_out: u64,
    /// Bytes that went out, without the headers of UDP and IP.
    pub bytes_out: u64,
    /// Datagrams that no well-formed peer sends.
    pub malformed: u64,
    /// Datagrams of a session from an address that has none.
    pub unknown_address: u64,
    /// Connection requests from an address that is connected: they would hide that it is silent.
    pub requests_while_connected: u64,
    /// Connection requests beyond the limit.
    pub requests_limited: u64,
    /// Connection requests from an IP address that has as many clients as it may.
    pub addresses_limited: u64,
    /// Datagrams that carried nothing that the transport could use: a wrong key, a replay, a wrong token.
    pub unusable: u64,
    /// Decrypted payloads that no well-formed client sends.
    pub payloads_refused: u64,
    /// Packets beside the channels that came in.
    pub packets_in: u64,
    /// Packets beside the channels that went out.
    pub packets_out: u64,
    /// Datagrams that came to another thread than their client's, and were passed on.
    pub forwarded: u64,
    /// Datagrams of clients that sent too many, or from whose addresses too many came of which nothing comes.
    pub rate_limited: u64,
    /// Connections whose token was not what it said.
    pub forged: u64,
    /// Connections by a token that is in use, and requests by one that was used before.
    pub duplicates: u64,
    /// Panics of the transport. Each one is a hole in the gate.
    pub panics_caught: u64,
    /// Datagrams that the system did not take, and those that were handed over with such a one.
    pub sends_failed: u64,
    /// Clients that connected.
    pub connected: u64,
    /// Clients that are gone.
    pub disconnected: u64,
}

impl std::ops::Add for GatewayCounters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            datagrams_in: self.datagrams_in + other.datagrams_in,
            bytes_in: self.bytes_in + other.bytes_in,
            datagrams_out: self.datagrams_out + other.datagrams_out,
            bytes_out: self.bytes_out + other.bytes_out,
            malformed: self.malformed + other.malformed,
            unknown_address: self.unknown_address + other.unknown_address,
            requests_while_connected: self.requests_while_connected + other.requests_while_connected,
            requests_limited: self.requests_limited + other.requests_limited,
            addresses_limited: self.addresses_limited + other.addresses_limited,
            unusable: self.unusable + other.unusable,
            payloads_refused: self.payloads_refused + other.payloads_refused,
            packets_in: self.packets_in + other.packets_in,
            packets_out: self.packets_out + other.packets_out,
            forwarded: self.forwarded + other.forwarded,
            rate_limited: self.rate_limited + other.rate_limited,
            forged: self.forged + other.forged,
            duplicates: self.duplicates + other.duplicates,
            panics_caught: self.panics_caught + other.panics_caught,
            sends_failed: self.sends_failed + other.sends_failed,
            connected: self.connected + other.connected,
            disconnected: self.disconnected + other.disconnected,
        }
    }
}
