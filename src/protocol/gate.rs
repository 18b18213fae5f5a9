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
/// How far packet numbers may jump: further than any pause within the time-out explains, in which a client says all that may wait again and again, each time by
/// new numbers: some eighty packets 33 times.
const SEQUENCE_JUMP_MAX: u64 = 4_096;

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
    use std::cell::Cell;

    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;
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

    #[test]
    fn a_number_of_a_datagram_has_eight_bytes_at_most_and_there_is_a_whole_tag_behind_it() {
        let kind = |bytes: u8, size: usize| {
            let mut datagram = vec![0_u8; size];
            datagram[0] = bytes << 4 | 5;
            datagram_kind(&datagram)
        };
        for bytes in 0..=15 {
            assert_eq!(kind(bytes, 60).is_some(), bytes <= 8, "{bytes}");
        }
        // Shorter ones are below what any datagram has.
        for bytes in 2..=8_u8 {
            let size = usize::from(bytes) + TAG_BYTES;
            assert_eq!([kind(bytes, size), kind(bytes, size + 1)], [None, Some(DatagramKind::Session)], "{bytes}");
        }
        let mut datagram = vec![0_u8; 60];
        (datagram[0], datagram[6]) = (0x85, 1);
        assert!(datagram_kind(&datagram).is_some());
        for byte in [7, 8] {
            let mut datagram = datagram.clone();
            datagram[byte] = 1;
            assert!(datagram_kind(&datagram).is_none(), "2^48 or more: {byte}");
        }
    }

    #[test]
    fn a_packet_number_is_near_the_newest_and_one_that_is_late_does_not_take_that_back() {
        let packet = |sequence: u64| [vec![ACKNOWLEDGEMENT], varints([sequence, 1, 0, 0])].concat();
        assert!(!PayloadGate::new(From::Host).admits(&packet(4_097)));
        let mut gate = PayloadGate::new(From::Host);
        for sequence in [4_096, 5_000, 1_000, 9_096] {
            assert!(gate.admits(&packet(sequence)), "{sequence}");
        }
        assert!(!gate.admits(&packet(13_193)) && !gate.admits(&packet(4_999)));
        assert!(gate.admits(&packet(5_000)) && gate.admits(&packet(13_192)));
        // What is refused for something else moves nothing.
        let mut gate = PayloadGate::new(From::Host);
        assert!(!gate.admits(&[packet(4_000), vec![0]].concat()) && !gate.admits(&packet(5_500)));
    }

    #[test]
    fn who_says_as_much_as_may_wait_and_is_not_heard_for_as_long_as_a_connection_lasts_is_heard_then() {
        use super::super::channel::{TIMEOUT_SECONDS, connection_config};
        let step = std::time::Duration::from_millis(50);
        for size in [1_040, 8] {
            let mut client = RenetClient::new(connection_config());
            client.set_connected();
            let mut gate = PayloadGate::new(From::Client);
            let mut said = Vec::new();
            for _ in 0..TIMEOUT_SECONDS * 20 {
                client.update(step);
                while client.can_send_message(CHANNEL, size) {
                    client.send_message(CHANNEL, vec![1; size]);
                }
                // All but the last are lost.
                let packets = client.get_packets_to_send();
                said = if packets.is_empty() { said } else { packets };
            }
            assert!(!said.is_empty() && said.iter().all(|packet| gate.admits(packet)), "{size}");
        }
    }

    #[test]
    fn a_packet_has_a_message_and_no_more_than_fit_one() {
        let packet = |count: u16| {
            let mut out = vec![0, 1, CHANNEL];
            out.extend(count.to_be_bytes());
            (0..count).for_each(|_| out.extend([0, 1, 7]));
            out
        };
        for (count, passes) in [(0, false), (1, true), (600, true), (601, false)] {
            assert_eq!(PayloadGate::new(From::Client).admits(&packet(count)), passes, "{count}");
        }
        assert!(!PayloadGate::new(From::Host).admits(&packet(1)), "a host sends none");
    }

    /// Integers of the transport, each below 2^14 and in two bytes.
    fn varints(values: impl IntoIterator<Item = u64>) -> Vec<u8> {
        values.into_iter().flat_map(|value| (0x4000 | value as u16).to_be_bytes()).collect()
    }

    /// Payloads that are formed as the transport's are, with numbers that may not go together; in half of them one byte is another one.
    fn payload() -> impl Strategy<Value = Vec<u8>> {
        let ranges = prop::collection::vec((0..40_u64, 0..40_u64), 0..4);
        let acknowledgement = (0..1_500_u64, 0..1_600_u64, 0..1_600_u64, ranges).prop_map(|(sequence, end, size, more)| {
            let head = [sequence, end, size, more.len() as u64];
            let more = more.into_iter().flat_map(|(gap, size)| [gap, size]);
            [vec![ACKNOWLEDGEMENT], varints(head.into_iter().chain(more))].concat()
        });
        let messages = prop::collection::vec((0..100_u64, prop::collection::vec(any::<u8>(), 1..40)), 1..4);
        let messages = (0..1_500_u64, messages).prop_map(|(sequence, messages)| {
            let mut out = [vec![0], varints([sequence]), vec![CHANNEL, 0, messages.len() as u8]].concat();
            for (number, message) in messages {
                out.extend(varints([number, message.len() as u64]));
                out.extend(message);
            }
            out
        });
        let broken = prop::option::of((any::<prop::sample::Index>(), any::<u8>()));
        (prop_oneof![acknowledgement, messages], broken).prop_map(|(mut payload, broken)| {
            if let Some((at, byte)) = broken {
                let at = at.index(payload.len());
                payload[at] = byte;
            }
            payload
        })
    }

    #[test]
    fn what_passes_does_no_harm() {
        let [to_client, to_host] = [Cell::new(0), Cell::new(0)];
        let config = ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() };
        let checked = TestRunner::new(config).run(&prop::collection::vec(payload(), 1..40), |payloads| {
            let config = super::super::channel::connection_config();
            let (mut client, mut host) = (RenetClient::new(config.clone()), renet::RenetServer::new(config));
            client.set_connected();
            host.add_connection(1);
            let (mut from_client, mut from_host) = (PayloadGate::new(From::Client), PayloadGate::new(From::Host));
            for payload in payloads.iter().filter(|payload| !is_raw(payload)) {
                // There is something to acknowledge.
                client.send_message(CHANNEL, vec![1]);
                drop((client.get_packets_to_send(), host.get_packets_to_send(1).unwrap()));
                if from_host.admits(payload) {
                    client.process_packet(payload);
                    to_client.set(to_client.get() + 1);
                }
                if from_client.admits(payload) {
                    host.process_packet_from(payload, 1).unwrap();
                    to_host.set(to_host.get() + 1);
                }
                let reasons = [client.disconnect_reason(), host.disconnect_reason(1)];
                prop_assert!(reasons.iter().all(Option::is_none), "{payload:?}: {reasons:?}");
                while host.receive_message(1, CHANNEL).is_some() {}
            }
            Ok(())
        });
        checked.unwrap();
        // Of some 5,000: else it was not tried at all.
        assert!(to_client.get() > 100 && to_host.get() > 500, "{to_client:?} and {to_host:?} passed");
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = datagram_kind(&bytes);
            for from in [From::Client, From::Host] {
                let _ = PayloadGate::new(from).admits(&bytes);
            }
        }
    }
}
