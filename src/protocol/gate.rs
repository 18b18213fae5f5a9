//! Lets through only datagrams and payloads that a well-formed peer can send.
//!
//! The transport's crates trust lengths that a stranger writes (see "The transport's weaknesses" in ARCHITECTURE.md, and SECURITY.md);
//! nothing reaches them that did not pass here.

use std::ops::RangeInclusive;

use super::channel::CHANNEL;
use super::limits::PACKET_BYTES_MAX;

/// Smallest datagram: a kind, one byte of content, and the authentication tag.
const DATAGRAM_BYTES_MIN: usize = 18;
/// Largest datagram.
pub const DATAGRAM_BYTES_MAX: usize = 1_400;
/// Size of a connection request, the only datagram that a stranger may send.
const REQUEST_BYTES: usize = 1_078;
const TAG_BYTES: usize = 16;
/// Most messages in one packet.
const MESSAGES_PER_PACKET_MAX: u64 = 600;
/// How far packet numbers may jump: further than any pause within the time-out explains.
const SEQUENCE_JUMP_MAX: u64 = 1_024;

/// The first bytes of payloads that are packets of our own beside the transport's channels: its own begin with 0 to 4.
pub const RAW_KINDS: RangeInclusive<u8> = 16..=31;
/// Largest packet of our own, in bytes, with its kind.
pub const RAW_BYTES_MAX: usize = PACKET_BYTES_MAX;

/// The first byte of a payload that only acknowledges.
const ACKNOWLEDGEMENT: u8 = 4;

/// True if a payload is a packet of our own, and not too large for one.
pub fn is_packet(payload: &[u8]) -> bool {
    is_raw(payload) && payload.len() <= RAW_BYTES_MAX
}

/// Whether a decrypted payload is a packet of our own, which is not given to the transport's channels.
pub fn is_raw(payload: &[u8]) -> bool {
    payload.first().is_some_and(|kind| RAW_KINDS.contains(kind))
}

/// Whether a payload of the transport's channels says nothing but which ones came. It is not answered: else the answers would be answered
/// too, by two ends that have nothing to say, at every flush and for ever.
pub fn is_acknowledgement(payload: &[u8]) -> bool {
    payload.first() == Some(&ACKNOWLEDGEMENT)
}

/// The kind of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatagramKind {
    /// A connection request, not encrypted with a session's keys.
    Request,
    /// Anything else.
    Session,
}

/// What kind of datagram this is, or `None` if no well-formed peer sends it.
pub fn datagram_kind(datagram: &[u8]) -> Option<DatagramKind> {
    if !(DATAGRAM_BYTES_MIN..=DATAGRAM_BYTES_MAX).contains(&datagram.len()) {
        return None;
    }
    let (first, rest) = datagram.split_first()?;
    if first & 15 == 0 {
        return (*first == 0 && datagram.len() == REQUEST_BYTES).then_some(DatagramKind::Request);
    }
    let sequence_bytes = usize::from(first >> 4);
    let fits = sequence_bytes <= 8 && datagram.len() > sequence_bytes + TAG_BYTES;
    // Little-endian: a number of 2^48 or more has something in its last two bytes. No session lives that long.
    let small = rest.get(..sequence_bytes)?.iter().skip(6).all(|byte| *byte == 0);
    (first & 15 <= 6 && fits && small).then_some(DatagramKind::Session)
}

/// Which end a payload comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// A client: its messages, and acknowledgements.
    Client,
    /// A host: acknowledgements alone.
    Host,
}

/// Checks the decrypted payloads of one connection, in the order in which they arrive.
#[derive(Clone, Debug)]
pub struct PayloadGate {
    from: From,
    newest: u64,
}

impl PayloadGate {
    /// For payloads that come from that end.
    pub fn new(from: From) -> Self {
        Self { from, newest: 0 }
    }

    /// Whether a payload may be handed on. It may not be empty, nor hold an empty message, a packet number from nowhere,
    /// or anything behind its end, nor be what that end never sends. Of a packet of our own only the size is looked at: what it
    /// says is for its reader to judge.
    pub fn admits(&mut self, payload: &[u8]) -> bool {
        if is_raw(payload) {
            return is_packet(payload);
        }
        self.check(&mut Octets(payload)).unwrap_or(false)
    }

    fn check(&mut self, octets: &mut Octets<'_>) -> Option<bool> {
        let kind = octets.byte()?;
        let sequence = octets.varint()?;
        if sequence.abs_diff(self.newest) > SEQUENCE_JUMP_MAX {
            return Some(false);
        }
        let well_formed = match kind {
            0 if self.from == From::Client => octets.byte()? == CHANNEL && octets.messages()?,
            ACKNOWLEDGEMENT => octets.acks()?,
            _ => false,
        };
        if well_formed {
            self.newest = self.newest.max(sequence);
        }
        Some(well_formed)
    }
}

/// Reads the transport's own integers (those of QUIC, RFC 9000 section 16).
struct Octets<'a>(&'a [u8]);

impl Octets<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn varint(&mut self) -> Option<u64> {
        let first = self.byte()?;
        let more = (1_usize << (first >> 6)) - 1;
        let (bytes, rest) = self.0.split_at_checked(more)?;
        self.0 = rest;
        Some(bytes.iter().fold(u64::from(first & 63), |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn skip(&mut self, count: u64) -> Option<bool> {
        self.0 = self.0.get(usize::try_from(count).ok()?..)?;
        Some(true)
    }

    fn messages(&mut self) -> Option<bool> {
        let count = u64::from(self.byte()?) << 8 | u64::from(self.byte()?);
        if !(1..=MESSAGES_PER_PACKET_MAX).contains(&count) {
            return Some(false);
        }
        for _ in 0..count {
            let _number = self.varint()?;
            let size = self.varint()?;
            if size == 0 || !self.skip(size)? {
                return Some(false);
            }
        }
        Some(self.0.is_empty())
    }

    fn acks(&mut self) -> Option<bool> {
        let (end, size, more) = (self.varint()?, self.varint()?, self.varint()?);
        let mut start = end.checked_sub(size)?;
        for _ in 0..more.min(64) {
            let (gap, size) = (self.varint()?, self.varint()?);
            start = start.checked_sub(gap.checked_add(2)?)?.checked_sub(size)?;
        }
        Some(more <= 64 && self.0.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use renet::RenetClient;

    #[test]
    fn what_a_real_peer_sends_passes() {
        let config = super::super::channel::connection_config();
        let (mut client, mut host) = (RenetClient::new(config.clone()), renet::RenetServer::new(config));
        client.set_connected();
        host.add_connection(1);
        let (mut from_client, mut from_host) = (PayloadGate::new(From::Client), PayloadGate::new(From::Host));
        for round in 0..2_000_usize {
            client.send_message(CHANNEL, vec![1; 1 + round % 1_150]);
            for packet in client.get_packets_to_send() {
                assert!(!is_raw(&packet));
                assert!(from_client.admits(&packet), "round {round}: {packet:?}");
                host.process_packet_from(&packet, 1).unwrap();
            }
            for packet in host.get_packets_to_send(1).unwrap() {
                assert!(!is_raw(&packet));
                assert!(from_host.admits(&packet), "round {round}: {} bytes", packet.len());
                client.process_packet(&packet);
            }
            while host.receive_message(1, CHANNEL).is_some() {}
        }
        assert!(!client.is_disconnected() && host.is_connected(1));
    }

    #[test]
    fn no_packet_of_the_transport_looks_like_one_of_ours() {
        for kind in 0..=u8::MAX {
            let mut peer = RenetClient::new(super::super::channel::connection_config());
            peer.set_connected();
            // A number, then what every kind that the transport knows is too short with: it knows 0 to 4.
            peer.process_packet(&[kind, 1]);
            let reason = peer.disconnect_reason().unwrap().to_string();
            assert_eq!(reason.contains("invalid packet type"), kind > 4, "{kind}: {reason}");
            assert!(kind > 4 || !is_raw(&[kind]));
        }
    }

    #[test]
    fn packets_of_our_own_are_bounded_and_nothing_more() {
        let mut gate = PayloadGate::new(From::Client);
        for kind in 0..=u8::MAX {
            let ours = RAW_KINDS.contains(&kind);
            assert_eq!(gate.admits(&[kind]), ours);
            assert_eq!(gate.admits(&[kind; RAW_BYTES_MAX]), ours);
            assert!(!gate.admits(&[kind; RAW_BYTES_MAX + 1]));
        }
        assert!(!gate.admits(&[]));
    }

    proptest! {
        #[test]
        fn what_passes_does_no_harm(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..40)) {
            let mut client = RenetClient::new(super::super::channel::connection_config());
            client.set_connected();
            let mut gate = PayloadGate::new(From::Host);
            for payload in payloads {
                if gate.admits(&payload) && !is_raw(&payload) {
                    client.process_packet(&payload);
                }
                let _ = datagram_kind(&payload);
            }
        }
    }
}
