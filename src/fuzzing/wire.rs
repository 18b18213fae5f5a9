//! What comes from the other end: datagrams, messages, packets, batches, snapshots.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use renet::{RenetClient, RenetServer};

use super::host::of_today;
use super::{Steps, chosen, game};
use crate::client::{Credentials, UdpLink};
use crate::net::MemoryNetwork;
use crate::protocol::{
    Admission, CHANNEL, ClientMessage, CodecError, DATAGRAM_BYTES_MAX, Delivery, Description, DifferenceHead, Fingerprint, Frame, NetId,
    Operation, PartSource, PayloadFrom, PayloadGate, Protocol, Reader, Refusal, Report, ServerMessage, SnapshotAssembly, State,
    USER_DATA_BYTES, VisitPart, connection_config, datagram_kind, is_packet, is_raw, part_needs, read_packet, read_part, snapshot_messages,
};

/// Datagrams as strangers send them; decrypted payloads of one connection in turn, those that pass given to the transport.
pub(super) fn gate(data: &[u8]) {
    let (choice, data) = chosen(data);
    let from = if choice % 2 == 0 { PayloadFrom::Client } else { PayloadFrom::Host };
    let mut gate = PayloadGate::new(from);
    let (mut client, mut host) = (RenetClient::new(connection_config()), RenetServer::new(connection_config()));
    client.set_connected();
    host.add_connection(1);
    for (kind, payload) in Steps(data) {
        match kind % 4 {
            0 => assert!(datagram_kind(payload).is_none() || (18..=DATAGRAM_BYTES_MAX).contains(&payload.len())),
            1 => {
                host.update(Duration::from_millis(50));
                client.update(Duration::from_millis(50));
            }
            _ if !gate.admits(payload) => {}
            _ if is_raw(payload) => assert!(is_packet(payload)),
            _ if from == PayloadFrom::Client => {
                let _ = host.process_packet_from(payload, 1);
                while let Some(message) = host.receive_message(1, CHANNEL) {
                    assert!(!message.is_empty(), "the gate lets no empty message pass");
                }
            }
            _ => client.process_packet(payload),
        }
    }
}

/// What the other end of a WebSocket connection says and takes.
#[cfg(feature = "websocket")]
pub(super) fn websocket(data: &[u8]) {
    let (choice, data) = chosen(data);
    crate::net::websocket_door(choice, Steps(data));
}

/// Messages of clients and of hosts, and what stands in a token. What can be read is written and read as the same.
pub(super) fn envelope(data: &[u8]) {
    let (choice, data) = chosen(data);
    let message = Bytes::copy_from_slice(data);
    match choice % 4 {
        0 => {
            let mut message = data.to_vec();
            of_today(&mut message, false);
            if let Ok(read) = ClientMessage::decode(&message.into()) {
                assert_eq!(ClientMessage::decode(&read.encode()).as_ref(), Ok(&read));
                if let ClientMessage::Command { kind, payload, .. } = read {
                    command(kind, &payload);
                }
            }
        }
        1 => {
            let Ok(read) = ServerMessage::decode(&message) else { return };
            let again = read.encode().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(ServerMessage::decode(&again).as_ref(), Ok(&read));
            if let ServerMessage::Refused(Refusal::ProtocolDiffers(theirs)) = &read {
                description(theirs);
            }
        }
        2 => token(data),
        _ => {
            if let Ok(theirs) = serde_json::from_slice::<Description>(data) {
                description(&theirs);
            }
            let mut user_data = [0; USER_DATA_BYTES];
            user_data.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
            if let Ok(admission) = Admission::decode(&user_data) {
                let again = admission.encode().unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(Admission::decode(&again), Ok(admission));
            }
        }
    }
}

/// What a room does with a command before its game sees it.
fn command(kind: usize, payload: &[u8]) {
    let protocol = game::protocol();
    let Some(entry) = protocol.commands.get(kind % protocol.commands.len()) else { return };
    let decoded = (entry.decode)(payload);
    assert_eq!(decoded.is_ok(), (entry.to_json)(payload).is_ok());
    if let Ok(command) = decoded {
        let _ = (entry.named)(&*command);
    }
}

fn description(theirs: &Description) {
    let ours = game::protocol().describe();
    let same = ours.names == theirs.names;
    assert_eq!(same, ours.fingerprint() == theirs.fingerprint());
    let _ = (ours.differences(theirs), theirs.differences(&ours), ours.changes_since(theirs), theirs.changes_since(&ours));
    let _: Fingerprint = theirs.fingerprint();
}

/// A connect token, as a client reads it.
fn token(data: &[u8]) {
    let credentials = Credentials::Token(data.to_vec());
    let hosts: BTreeSet<SocketAddr> = credentials.hosts().into_iter().collect();
    for host in &hosts {
        let Some(there) = credentials.at(*host) else { panic!("{host} stands in the token") };
        assert_eq!(there.hosts().first(), Some(host));
        assert_eq!(there.hosts().into_iter().collect::<BTreeSet<_>>(), hosts);
    }
    let Ok(socket) = MemoryNetwork::new().bind(([10, 0, 0, 1], 1).into()) else { return };
    if let Ok(mut link) = UdpLink::connect_over(Box::new(socket), &credentials, Duration::from_secs(1_800_000_000)) {
        link.receive(Duration::from_secs(1_800_000_001));
        link.flush();
        let _ = link.status();
    }
}

/// Keeps the values of a part, and where their bytes are.
struct Gather<'a> {
    protocol: &'a Protocol,
    latest: &'a [usize],
    bytes: Vec<u8>,
    values: BTreeMap<(u32, usize), (usize, usize)>,
}

impl VisitPart for Gather<'_> {
    fn value(&mut self, component: usize, id: NetId, input: &mut Reader<'_>) -> Result<(), CodecError> {
        let start = input.at();
        self.protocol.component_at(component, start)?.column.skip(input)?;
        if let Some(ordinal) = self.latest.iter().position(|latest| *latest == component) {
            let begin = self.bytes.len();
            self.bytes.extend_from_slice(input.since(start));
            self.values.insert((id.get(), ordinal), (begin, self.bytes.len()));
        }
        Ok(())
    }
}

impl Gather<'_> {
    fn values(&self) -> BTreeMap<(u32, usize), &[u8]> {
        self.values.iter().map(|(place, (start, end))| (*place, self.bytes.get(*start..*end).unwrap_or_default())).collect()
    }
}

fn part(protocol: &Protocol, part: &[u8]) {
    let latest: Vec<usize> = (0..).zip(&protocol.components).filter(|(_, e)| e.delivery == Delivery::Latest).map(|(at, _)| at).collect();
    let gather = || Gather { protocol, latest: &latest, bytes: Vec::new(), values: BTreeMap::new() };
    let (mut first, mut second) = (gather(), gather());
    let needs = part_needs(part);
    if read_part(part, &mut first).is_err() {
        return;
    }
    assert!(needs.is_ok(), "a part that can be read says what it needs");
    let mut source = PartSource::default();
    for ((id, ordinal), span) in &first.values {
        source.push(*id, *ordinal, *span);
    }
    source.write(
        &latest,
        &first.bytes,
        crate::protocol::limits::PART_BYTES_MAX,
        |_| None,
        |part, _| {
            assert_eq!(read_part(part, &mut second), Ok(()));
        },
    );
    assert_eq!(first.values(), second.values());
}

/// A datagram of a host beside the transport's channels, the parts in it; a report of a client.
pub(super) fn packet(data: &[u8]) {
    let (choice, data) = chosen(data);
    match choice % 3 {
        0 => {
            let packet = Bytes::copy_from_slice(data);
            let Ok((_, _, frames)) = read_packet(&packet) else { return };
            let size = |frame: &Frame| match frame {
                Frame::Ordered { bytes, .. } | Frame::Part(bytes) => bytes.len() + 1,
                Frame::Echo { .. } => 6,
            };
            assert!(frames.iter().map(size).sum::<usize>() < data.len(), "a packet holds no more than it has bytes");
            for frame in &frames {
                if let Frame::Part(body) = frame {
                    part(&game::protocol(), body);
                }
            }
        }
        1 => part(&game::protocol(), data),
        _ => {
            let Ok(report) = Report::decode(data) else { return };
            assert_eq!(Report::decode(&report.encode()).as_ref(), Ok(&report));
            let ones: u32 = report.bits.iter().map(|byte| byte.count_ones()).sum();
            assert_eq!((1..=2_048).filter(|back| report.has(*back)).count(), ones as usize);
        }
    }
}

/// Both ways in which a state follows a room, in step: one that tells what was done and one that does not.
pub(super) fn batch(data: &[u8]) {
    let protocol = game::protocol();
    let (choice, data) = chosen(data);
    let mut told = if choice % 4 == 0 { State::new(game::state().room()) } else { game::state().clone() };
    let (mut quick, mut versions) = (told.clone(), Default::default());
    for (kind, bytes) in Steps(data) {
        if kind % 4 == 3 {
            let done = told.follow_private(&protocol, bytes, &mut versions);
            let Ok(followed) = done else { return };
            operations(&followed.operations);
            quick = told.clone();
            continue;
        }
        let (followed, folded) = (told.follow(&protocol, bytes), quick.fold(&protocol, bytes));
        let Ok(followed) = followed else { return };
        let folded = folded.unwrap_or_else(|error| panic!("it was followed, but is not folded: {error}"));
        assert_eq!(followed.facts.len() as u64, folded.facts);
        assert_eq!(followed.operations.len(), followed.causes.len());
        assert!(told == quick, "two readers of a batch disagree");
        operations(&followed.operations);
    }
    whole(&protocol, &told);
}

/// Their JSON forms are read as what they are of.
fn operations(operations: &[Operation]) {
    for operation in operations.iter().take(64) {
        let again = Operation::from_envelope(&operation.to_envelope());
        assert_eq!(again.as_ref().map(Vec::len), Ok(1), "{operation:?}");
        // A name with a dot in it, of what is deleted, can't be told from a component of another.
        if let Ok(again) = Operation::from_key_path(&operation.to_key_path()) {
            assert!(operation.name.contains('.') || again.op == operation.op, "{operation:?}");
        }
    }
}

/// A state is the same after it was a snapshot.
fn whole(protocol: &Protocol, state: &State) {
    let snapshot = state.to_snapshot(protocol, state.tick(), crate::protocol::FactSeq(3));
    let again = State::from_snapshot(protocol, state.room(), &snapshot).unwrap_or_else(|error| panic!("{error}"));
    assert!(again.entities() == state.entities() && again.tick() == state.tick(), "a snapshot is another state");
    assert_eq!(again.to_snapshot(protocol, state.tick(), crate::protocol::FactSeq(3)), snapshot);
    assert_eq!(again.hash(), state.hash());
    let json = state.to_json(protocol);
    assert!(json.is_ok(), "{json:?}");
}

/// A snapshot, whole or in pieces as it travels.
pub(super) fn snapshot(data: &[u8]) {
    let protocol = game::protocol();
    let (choice, data) = chosen(data);
    if choice % 3 == 0 {
        if let Ok(state) = State::from_snapshot(&protocol, game::state().room(), data) {
            whole(&protocol, &state);
        }
        let (bytes, mut assembly, mut put) = (Bytes::copy_from_slice(data), SnapshotAssembly::default(), None);
        for message in snapshot_messages(&bytes) {
            let Ok(ServerMessage::Chunk(chunk)) = ServerMessage::decode(&message) else { panic!("a piece is a piece") };
            put = assembly.add(&chunk).unwrap_or_else(|error| panic!("{error}"));
        }
        assert!(data.is_empty() || put == Some(bytes), "pieces put together are another snapshot");
        return;
    }
    let mut assembly = SnapshotAssembly::default();
    for (_, message) in Steps(data) {
        let Ok(ServerMessage::Chunk(chunk) | ServerMessage::Difference(chunk)) = ServerMessage::decode(&Bytes::copy_from_slice(message))
        else {
            continue;
        };
        let whole_one = assembly.add(&chunk);
        assert!((0.0..=1.0).contains(&assembly.progress()));
        if let Ok(Some(put)) = whole_one {
            assert_eq!(put.len(), chunk.size);
            let _ = DifferenceHead::read(&mut Reader::new(&put));
            let _ = State::from_snapshot(&protocol, game::state().room(), &put);
        }
    }
}
