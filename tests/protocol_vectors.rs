//! The bytes that stand in PROTOCOL.md are the bytes that rooms, hosts, clients and stores make: each block of its hexadecimal digits is
//! built here anew, by what any game and any tool can use.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "installed/mod.rs"]
mod installed;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use bytes::Bytes;
use renet::{RenetClient, RenetServer};
use roomkeeper::client::Receiver;
use roomkeeper::host::{ConnectionId, HostLimits, Lobby, Visitor, header_of};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{
    Admission, Angles, Availability, CHANNEL, ClientMessage, Codec, CommandId, Description, Fingerprint, Incoming, LeaveReason, ListedRoom,
    Protocol, Quantised, Ranged, Refusal, Rejection, Resume, RoomId, RoomList, RoomTick, SeenTick, ServerMessage, SmallestThree,
    SnapshotAssembly, Speed, State, connection_config, snapshot_messages, write_varint,
};
use roomkeeper::room::{Blueprint, Level, Room, RoomOptions};
use roomkeeper::store::{ChunkKind, Durability, Opening, SqliteStore, Store, TickRecord, Writer, WriterOptions, data_file};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use twox_hash::XxHash3_64;

/// The game of the vectors.
mod moor {
    use super::*;

    #[derive(Component, Serialize, Deserialize)]
    pub(super) struct Position(pub(super) [f32; 2]);
    #[derive(Component, Clone, PartialEq, Serialize, Deserialize)]
    pub(super) struct Health(pub(super) i32);
    #[derive(Component, Serialize, Deserialize)]
    pub(super) enum Door {
        Closed,
        Open,
    }
    #[derive(Serialize, Deserialize)]
    pub(super) struct Heal {
        pub(super) by: i32,
    }
    #[derive(Clone, Serialize, Deserialize)]
    pub(super) struct Healed {
        pub(super) who: EntityId,
        pub(super) by: i32,
    }

    impl Quantity for Health {
        type Amount = i32;
        fn amount(&self) -> i32 {
            self.0
        }
        fn set_amount(&mut self, amount: i32) {
            self.0 = amount;
        }
    }

    pub(super) fn protocol(app: &mut App) {
        app.sync::<Position>("position").latest();
        app.sync::<Health>("health").quantity();
        app.sync::<Door>("door");
        app.command::<Heal>("heal").fact::<Healed>("healed");
    }

    pub(super) fn rules(app: &mut App) {
        app.decide(|heal: In<Issued<Heal>>| match heal.by {
            0 => Err(Rejection::new("no_use").because("nothing to heal")),
            by => accept(Healed { who: heal.author_id, by }),
        });
        app.apply(|joined: On<Happened<UserJoined>>, mut commands: Commands| {
            commands.spawn((joined.user, Health(50), Position([1.0, 2.0])));
        });
        app.apply(|healed: On<Happened<Healed>>, index: Res<EntityIndex>, mut health: Patch<Health>| {
            let who = index.entity(healed.who).unwrap();
            health.inc_max(who, healed.by, 100);
        });
    }

    pub(super) fn options() -> RoomOptions {
        let level = Level::from_text("moor.json", r#"{"door_a": {"door": "Closed"}, "door_b": {"door": "Open", "position": [0, 4]}}"#);
        RoomOptions { level: Some(level), notes: true, check: true, ..RoomOptions::named("moor") }
    }
}

type Built = BTreeMap<&'static str, Vec<u8>>;

const ANN: ConnectionId = ConnectionId(1);

fn ann() -> EntityId {
    EntityId::named("ann")
}

/// The blocks of PROTOCOL.md that begin with "```hex" and a name, where what follows a `#` is for people, or with "```json" and a name.
fn written() -> BTreeMap<String, Vec<u8>> {
    let text = std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("PROTOCOL.md")).unwrap();
    let mut blocks = BTreeMap::new();
    for block in text.split("\n```hex ").skip(1) {
        let (name, rest) = block.split_once('\n').unwrap();
        let lines = rest.split("\n```").next().unwrap().lines();
        let digits: String = lines.flat_map(|line| line.split('#').next().unwrap().chars()).filter(|c| !c.is_whitespace()).collect();
        let bytes = digits.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
        assert!(blocks.insert(name.to_owned(), bytes.collect()).is_none(), "{name} stands twice");
    }
    for block in text.split("\n```json ").skip(1) {
        let (name, rest) = block.split_once('\n').unwrap();
        blocks.insert(name.to_owned(), rest.split("\n```").next().unwrap().as_bytes().to_vec());
    }
    blocks
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_vector_is_what_is_made() {
    let mut built = Built::new();
    primitives(&mut built);
    transport(&mut built);
    values(&mut built);
    codecs(&mut built);
    messages(&mut built);
    steps(&mut built);
    pieces_and_reports(&mut built);
    echo_alone(&mut built);
    match_of_three_ticks(&mut built);
    stored(&mut built);
    let written = written();
    let wrong = built.iter().filter(|(name, bytes)| written.get(**name) != Some(bytes));
    let wrong: Vec<String> = wrong.map(|(name, bytes)| format!("{name} is\n{}", hex(bytes))).collect();
    assert!(wrong.is_empty(), "PROTOCOL.md says otherwise:\n{}", wrong.join("\n"));
    let unknown: Vec<_> = written.keys().filter(|name| !built.contains_key(name.as_str())).collect();
    assert!(unknown.is_empty(), "nobody makes {unknown:?}");
}

fn primitives(built: &mut Built) {
    let mut integers = Vec::new();
    for value in [0, 240, 241, 2_287, 2_288, 67_823, 67_824, 0xff_ffff, 0x100_0000, u64::from(u32::MAX), 1 << 32, u64::MAX] {
        write_varint(value, &mut integers);
    }
    built.insert("integers", integers);
    let room = RoomId::named("moor");
    built.insert("id-room", room.as_uuid().as_bytes().to_vec());
    built.insert("id-named", ann().as_uuid().as_bytes().to_vec());
    built.insert("id-minted", EntityId::minted(room, 7).as_uuid().as_bytes().to_vec());
    built.insert("id-of-command", EntityId::of_command(ann(), CommandId(3), 0).as_uuid().as_bytes().to_vec());
    let admission = Admission { client_id: 0x0102_0304_0506_0708, player: ann(), name: "Ann".into(), room: None };
    let user_data = admission.encode().unwrap();
    assert!(user_data[64..].iter().all(|byte| *byte == 0));
    built.insert("user-data", user_data[..64].to_vec());
}

/// What renet makes of a client's messages, and of those of its packets that came.
fn transport(built: &mut Built) {
    let mut client = RenetClient::new(connection_config());
    client.set_connected();
    client.send_message(CHANNEL, ClientMessage::ListRooms { prefix: "moo".into() }.encode());
    client.send_message(CHANNEL, ClientMessage::Leave.encode());
    let mut packets = client.get_packets_to_send();
    assert_eq!(packets.len(), 1, "both go in one");
    built.insert("renet-messages", packets[0].clone());
    for _ in 1..7 {
        client.send_message(CHANNEL, ClientMessage::Leave.encode());
        packets.append(&mut client.get_packets_to_send());
    }
    let mut host = RenetServer::new(connection_config());
    host.add_connection(1);
    for came in [0, 1, 2, 5, 6] {
        host.process_packet_from(&packets[came], 1).unwrap();
    }
    built.insert("renet-acknowledgement", host.get_packets_to_send(1).unwrap().remove(0));
}

#[derive(Serialize, Deserialize)]
enum Choice {
    Nothing,
    Number(u16),
    Pair { left: bool, right: bool },
}

/// One of each kind that serde knows.
#[derive(Component, Serialize, Deserialize)]
struct Sample {
    flag: (bool, bool),
    small: (u8, i8),
    unsigned: [u16; 5],
    signed: [i32; 5],
    long: (u64, i64),
    floats: (f32, f64),
    letters: (char, char),
    text: String,
    optional: (Option<u8>, Option<u8>),
    list: Vec<u16>,
    map: BTreeMap<String, u8>,
    choices: [Choice; 3],
    id: EntityId,
    tick: RoomTick,
    unit: (),
}

/// It refers to an entity by Bevy's mapping.
#[derive(Component, Clone, Serialize, Deserialize)]
struct Aim {
    #[entities]
    at: Entity,
}

fn values(built: &mut Built) {
    let protocol = |app: &mut App| {
        app.sync::<Sample>("sample");
        app.sync_mapped::<Aim>("aim");
        app.sync_relationship::<OwnedBy>("owned_by");
    };
    let mut room = Room::new(RoomOptions::named("values"), protocol, |_| {}).unwrap();
    let sample = Sample {
        flag: (false, true),
        small: (255, -1),
        unsigned: [0, 250, 251, 256, 65_535],
        signed: [0, -1, 1, -126, i32::MIN],
        long: (u64::MAX, -5_000_000_000),
        floats: (1.0, -2.5),
        letters: ('a', '\u{20ac}'),
        text: "moor".into(),
        optional: (None, Some(7)),
        list: vec![1, 300],
        map: BTreeMap::from([("k".to_owned(), 9)]),
        choices: [Choice::Nothing, Choice::Number(300), Choice::Pair { left: true, right: false }],
        id: ann(),
        tick: RoomTick(20),
        unit: (),
    };
    let world = room.world_mut();
    let target = world.spawn(sample).id();
    let second = world.spawn((Aim { at: target }, OwnedBy(target))).id();
    world.spawn(Aim { at: Entity::PLACEHOLDER });
    world.spawn(Aim { at: second });
    room.tick([]).unwrap();
    let state = room.state().unwrap();
    let value = |id: usize, component| state.entities().values().nth(id).unwrap().components[&component].clone();
    // The snapshot sorts by net ids, which were handed out in the order of the spawns.
    built.insert("value-sample", value(0, 0));
    built.insert("value-mapped", value(1, 1));
    built.insert("value-mapped-nobody", value(2, 1));
    built.insert("value-mapped-1", value(3, 1));
    built.insert("value-relationship", value(1, 2));
}

fn codecs(built: &mut Built) {
    let mut encode = |name, encode: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        encode(&mut out);
        built.insert(name, out);
    };
    encode("codec-quantised", &|out| Quantised::<3>::new(-500.0..=500.0, 0.001).encode(&[1.5, -2.0, 500.0], out));
    encode("codec-quantised-rounded", &|out| Quantised::<1>::new(-500.0..=500.0, 0.01).encode(&[499.99], out));
    encode("codec-angles", &|out| Angles::<2>::new(12).encode(&[std::f32::consts::FRAC_PI_2, -0.1], out));
    encode("codec-ranged", &|out| Ranged::new([0..=3, 1..=60, -100..=100]).encode(&[2, 60, -100], out));
    encode("codec-smallest-three", &|out| SmallestThree.encode(&[0.0, 0.6, 0.0, -0.8], out));
}

fn messages(built: &mut Built) {
    let command =
        ClientMessage::Command { id: CommandId(3), kind: 0, seen: Some(SeenTick(299 * 256 + 64)), payload: Bytes::from_static(&[20]) };
    built.insert("message-leave", ClientMessage::Leave.encode().to_vec());
    built.insert("message-diverged", ClientMessage::Diverged { tick: RoomTick(300) }.encode().to_vec());
    built.insert("message-command", command.encode().to_vec());
    built.insert("message-durable", ServerMessage::Durable { tick: RoomTick(2) }.encode().unwrap().to_vec());
    built.insert("message-list-rooms", ClientMessage::ListRooms { prefix: "moo".into() }.encode().to_vec());
    let room = |name: &str, (taken, seats), availability| ListedRoom { name: name.into(), taken, seats, availability };
    let rooms = vec![room("moor", (1, 8), Availability::Open), room("moor/*", (0, 2), Availability::OnDemand)];
    let list = RoomList { prefix: "moo".into(), total: 2, rooms };
    built.insert("message-rooms", ServerMessage::Rooms(list).encode().unwrap().to_vec());
    built.insert("message-speed", ServerMessage::Speed(Speed::hundredths(50).unwrap()).encode().unwrap().to_vec());
    let private = Bytes::from_static(&[42, 64 + 4, 1, 7]);
    built.insert("message-private", ServerMessage::Private(private).encode().unwrap().to_vec());
    let refusals = [
        ("refused-no-room", Refusal::NoSuchRoom("attic".into())),
        ("refused-rejected", Refusal::Rejected(Rejection::new("room_full"))),
        ("refused-detail", Refusal::Rejected(Rejection::new("too_close").because("ask for moor@-5s"))),
        ("refused-closed", Refusal::RoomClosed("its game failed in tick 4".into())),
        ("refused-kicked", Refusal::Kicked("bye".into())),
        ("refused-full", Refusal::HostFull),
        ("refused-shutdown", Refusal::ShuttingDown),
        ("refused-elsewhere", Refusal::Elsewhere("10.0.0.7:5000".into())),
    ];
    for (name, refusal) in refusals {
        built.insert(name, ServerMessage::Refused(refusal).encode().unwrap().to_vec());
    }
}

/// A batch of all kinds of steps that the match has not.
fn steps(built: &mut Built) {
    let protocol = |app: &mut App| {
        app.sync::<moor::Health>("health").quantity();
    };
    let rules = |app: &mut App| {
        app.add_systems(Startup, |mut commands: Commands| {
            commands.spawn(moor::Health(50));
            commands.spawn(moor::Health(15));
        });
        app.add_systems(FixedUpdate, |all: Query<Entity, With<moor::Health>>, mut health: Patch<moor::Health>| {
            let [first, second] = [0, 1].map(|nth| all.iter().nth(nth).unwrap());
            health.inc(first, 5);
            health.dec(first, 2);
            health.dec_min(second, 30, 10);
        });
    };
    let mut room = Room::new(RoomOptions::named("steps"), protocol, rules).unwrap();
    built.insert("batch-steps", room.tick([]).unwrap().batch.unwrap().to_vec());
}

fn pieces_and_reports(built: &mut Built) {
    let piece = Bytes::from(b"moor".repeat(20));
    let chunks = snapshot_messages(&piece);
    let ServerMessage::Chunk(chunk) = ServerMessage::decode(&chunks[0]).unwrap() else { panic!("{chunks:?}") };
    assert_eq!((chunks.len(), chunk.packed), (1, piece.len()));
    assert_eq!(SnapshotAssembly::default().add(&chunk), Ok(Some(piece)));
    built.insert("message-chunk-packed", chunks[0].to_vec());

    let (mut receiver, came) = (Receiver::default(), Duration::from_secs(1));
    for number in [1_024_u16, 1_025, 1_027] {
        let [low, high] = number.to_le_bytes();
        assert!(receiver.take(came, &Bytes::from(vec![16, low, high, 0])).unwrap().is_empty());
    }
    built.insert("report-bits", receiver.next_report(came + Duration::from_millis(10)).unwrap().to_vec());
}

/// A packet with something in it is lost, and nothing else happens: the next one asks whether it came, and echoes a report.
fn echo_alone(built: &mut Built) {
    let mut table = Table::new();
    let fingerprint = table.description().fingerprint();
    table.hello(fingerprint);
    table.tick();
    let mut users = table.world().query::<&mut moor::Health>();
    users.iter_mut(table.world()).for_each(|mut health| health.0 += 1);
    table.now += Duration::from_millis(50);
    table.lobby.advance(table.now);
    table.lobby.tick_room("moor").unwrap();
    let mut lost = 0;
    table.lobby.pump(|_, _, _| lost += 1);
    assert_eq!(lost, 1);
    table.report();
    let (packet, messages) = table.tick();
    assert!(messages.is_empty());
    built.insert("packet-echo", packet);
}

/// The hash of a state, as PROTOCOL.md says that it is made, over the components that count.
fn hash_of(state: &State, counts: impl Fn(usize) -> bool) -> [u8; 8] {
    let mut sum = 0_u64;
    for (net_id, entity) in state.entities() {
        for (component, value) in entity.components.iter().filter(|(component, _)| counts(**component)) {
            let seed = (*component as u64) << 32 | u64::from(net_id.get());
            sum = sum.wrapping_add(XxHash3_64::oneshot_with_seed(seed, value));
        }
    }
    sum.to_le_bytes()
}

/// A host with one room and one client, without a network.
struct Table {
    lobby: Lobby,
    receiver: Receiver,
    now: Duration,
}

impl Table {
    fn new() -> Self {
        let mut lobby = Lobby::new(HostLimits::default(), false);
        lobby.begin_epoch(7);
        lobby.open_room(&Blueprint::new(moor::protocol, moor::rules), moor::options()).unwrap();
        lobby.connected(ANN, Visitor { player: ann(), name: "Ann".into(), room: None });
        Self { lobby, receiver: Receiver::default(), now: Duration::from_secs(1) }
    }

    fn description(&self) -> Description {
        self.lobby.room("moor").unwrap().world().resource::<Protocol>().describe()
    }

    fn hello(&mut self, fingerprint: Fingerprint) -> Vec<u8> {
        let hello = ClientMessage::Hello { fingerprint, room: "moor".into(), spectate: false, resume: None }.encode();
        self.lobby.message(ANN, &hello);
        hello.to_vec()
    }

    /// Runs a tick. Gives the packet that the client is sent, and the messages in it.
    fn tick(&mut self) -> (Vec<u8>, Vec<Bytes>) {
        self.now += Duration::from_millis(50);
        self.lobby.advance(self.now);
        self.lobby.tick_room("moor").unwrap();
        self.packet()
    }

    fn packet(&mut self) -> (Vec<u8>, Vec<Bytes>) {
        let mut packets = Vec::new();
        self.lobby.pump(|_, own, shared| packets.push([own, shared].concat()));
        assert_eq!(packets.len(), 1, "one packet");
        let packet = packets.remove(0);
        let arrival = self.now + Duration::from_millis(20);
        let messages = self.receiver.take(arrival, &packet.clone().into()).unwrap();
        (packet, messages)
    }

    /// The client's report, 10 ms after the packet came.
    fn report(&mut self) -> Vec<u8> {
        self.now += Duration::from_millis(30);
        let report = self.receiver.next_report(self.now).unwrap();
        self.lobby.advance(self.now);
        self.lobby.message(ANN, &report);
        report.to_vec()
    }

    fn world(&mut self) -> &mut World {
        self.lobby.room_mut("moor").unwrap().world_mut()
    }
}

fn match_of_three_ticks(built: &mut Built) {
    let mut stranger = Table::new();
    let description = stranger.description();
    stranger.hello(Fingerprint(7));
    stranger.now += Duration::from_millis(100);
    stranger.lobby.advance(stranger.now);
    let (_, messages) = stranger.packet();
    built.insert("refused-protocol", messages[0].to_vec());
    assert_eq!(ServerMessage::decode(&messages[0]), Ok(ServerMessage::Refused(Refusal::ProtocolDiffers(description.clone()))));
    // The fingerprint, as PROTOCOL.md says that it is made.
    let lines: String = description.names.iter().map(|name| format!("{} {} {:08x}\n", name.what, name.name, name.shape)).collect();
    let fingerprint = XxHash3_64::oneshot(lines.as_bytes());
    assert_eq!(description.fingerprint(), Fingerprint(fingerprint));
    built.insert("fingerprint", fingerprint.to_le_bytes().to_vec());

    let mut table = Table::new();
    built.insert("message-hello", table.hello(description.fingerprint()));
    let past = ClientMessage::Hello { fingerprint: description.fingerprint(), room: "moor@-30s".into(), spectate: true, resume: None };
    built.insert("message-hello-past", past.encode().to_vec());
    let (packet, messages) = table.tick();
    let head = 4;
    let padded = [&packet[..head], &[6; 3], &packet[head..]].concat();
    assert_eq!(Receiver::default().take(table.now, &padded.into()).unwrap(), messages);
    let only_padding = [&packet[..head], &[6; 3]].concat();
    assert!(Receiver::default().take(table.now, &only_padding.clone().into()).unwrap().is_empty());
    built.insert("packet-padding", only_padding);
    built.insert("packet-welcome", packet);
    built.insert("message-welcome", messages[0].to_vec());
    built.insert("message-chunk", messages[1].to_vec());
    built.insert("report", table.report());

    // Two commands, of which one is refused; a thing is born, a door opens and another one goes.
    for (id, by) in [(1, 20), (2, 0)] {
        let command = ClientMessage::Command { id: CommandId(id), kind: 0, seen: None, payload: vec![by * 2].into() };
        table.lobby.message(ANN, &command.encode());
    }
    let room = table.lobby.room("moor").unwrap();
    let [a, b] = ["door_a", "door_b"].map(|door| room.entity(EntityId::named(door)).unwrap());
    let world = table.world();
    world.spawn((moor::Position([3.0, 0.5]), moor::Health(7)));
    *world.get_mut::<moor::Door>(a).unwrap() = moor::Door::Open;
    world.despawn(b);
    let (packet, messages) = table.tick();
    built.insert("packet-batch", packet);
    built.insert("message-verdicts", messages[0].to_vec());
    built.insert("message-batch", messages[1].to_vec());
    let state = table.lobby.room_mut("moor").unwrap().state().unwrap();
    assert!(messages[1].ends_with(&hash_of(&state, |component| component != 0)), "all but positions, which are `latest`");

    // Three things move: what was created lately needs its batch.
    let mut things = table.world().query::<&mut moor::Position>();
    for mut position in things.iter_mut(table.world()) {
        position.0[0] += 0.25;
    }
    built.insert("packet-part", table.tick().0);
    let world = table.world();
    let thing = world.query_filtered::<Entity, With<moor::Position>>().iter(world).last().unwrap();
    world.entity_mut(thing).remove::<moor::Health>();
    let (_, messages) = table.tick();
    built.insert("message-batch-remove", messages[0].to_vec());

    // Ann goes; somebody comes back who was there in tick 2.
    table.lobby.disconnected(ANN, LeaveReason::Left);
    table.receiver = Receiver::default();
    let back = ConnectionId(2);
    table.lobby.connected(back, Visitor { player: EntityId::named("bob"), name: "Bob".into(), room: None });
    let resume = Resume { room: RoomId::named("moor"), epoch: 7, tick: RoomTick(2), latest: RoomTick(2) };
    let hello = ClientMessage::Hello { fingerprint: description.fingerprint(), room: "moor".into(), spectate: true, resume: Some(resume) };
    table.lobby.message(back, &hello.encode());
    built.insert("message-hello-held", hello.encode().to_vec());
    let (_, messages) = table.tick();
    assert!(matches!(ServerMessage::decode(&messages[0]), Ok(ServerMessage::Welcome { resumed: true, .. })));
    assert!(matches!(ServerMessage::decode(messages.last().unwrap()), Ok(ServerMessage::Difference(_))));
    built.insert("message-difference", messages.last().unwrap().to_vec());
}

fn varint(bytes: &[u8]) -> (u64, &[u8]) {
    let mut reader = roomkeeper::protocol::Reader::new(bytes);
    (reader.varint().unwrap(), reader.rest())
}

fn unpacked(packed: &[u8]) -> Vec<u8> {
    let (size, rest) = varint(packed);
    zstd::bulk::decompress(rest, size as usize).unwrap()
}

fn stored(built: &mut Built) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("protocol_vectors");
    let _ = std::fs::remove_dir_all(&folder);
    let mut options = WriterOptions::default();
    (options.flush_every, options.seal_every) = (Duration::from_millis(5), u32::MAX);
    let store = SqliteStore::open(&folder, Durability::ProcessCrash).unwrap();
    let writer = Writer::start(Box::new(store), options, |finding| panic!("{finding}")).unwrap();
    let blueprint = Blueprint::new(moor::protocol, moor::rules);
    let mut room = blueprint.room(moor::options()).unwrap();
    let handle = writer.open(header_of(&moor::options()), blueprint.protocol(), Opening::New);
    // A flush for each tick.
    let record = |record: TickRecord| {
        let tick = record.tick;
        handle.record(record);
        while handle.durable() < Some(tick) {
            std::thread::yield_now();
        }
    };
    let command = |id, by: u8| Incoming::Command { user: ann(), id: CommandId(id), kind: 0, seen: None, payload: vec![by * 2].into() };
    record(room.opening().clone().into());
    record(room.tick([Incoming::Join { user: ann(), name: "Ann".into() }]).unwrap().into());
    record(room.tick([command(1, 20), command(2, 0)]).unwrap().into());
    let user = room.entity(ann()).unwrap();
    room.world_mut().get_mut::<moor::Position>(user).unwrap().0[0] += 0.25;
    let outbox = room.tick([]).unwrap();
    assert!(outbox.ordered.is_none(), "what the members are sent of it is a part");
    let state = room.state().unwrap();
    assert!(outbox.batch.as_ref().unwrap().ends_with(&hash_of(&state, |_| true)), "in the store all components count");
    record(outbox.into());
    let mut reader = SqliteStore::read(&folder).unwrap();
    let journal = reader.journal().unwrap();
    assert_eq!(journal.len(), 4);
    let file = rusqlite::Connection::open(data_file(&folder)).unwrap();
    for (flush, frame, _) in &journal {
        let sum: i64 = file.query_row("SELECT sum FROM journal WHERE flush = ?1", [flush.cast_signed()], |row| row.get(0)).unwrap();
        assert_eq!(sum, XxHash3_64::oneshot(frame).cast_signed());
    }
    drop(file);
    built.insert("stored-frame", journal[2].1.clone());
    built.insert("stored-frame-latest", journal[3].1.clone());
    drop(writer.stop());
    let key = reader.room("moor").unwrap().unwrap().key;
    let mut chunk = |kind| reader.chunks(key, kind, 0, u64::MAX >> 1, 10).unwrap().remove(0).payload;
    let (facts, refusals, ticks) = (chunk(ChunkKind::Facts), chunk(ChunkKind::Refusals), unpacked(&chunk(ChunkKind::Ticks)));
    built.insert("stored-ticks", ticks);
    built.insert("stored-facts", facts.clone());
    built.insert("stored-refusals", refusals.clone());
    let checkpoint = reader.checkpoint(key, RoomTick(3), false).unwrap().unwrap();
    built.insert("stored-checkpoint", unpacked(&checkpoint.payload));
    chain_holds(&facts, &refusals, built);
    sums_hold(&data_file(&folder));
    assert_eq!(std::fs::read_to_string(folder.join("mark")).unwrap(), format!("{:020}\n", reader.last_flush().unwrap()));
}

/// The chain of hashes over facts and refusals, as PROTOCOL.md says that it is made.
fn chain_holds(facts: &[u8], refusals: &[u8], built: &mut Built) {
    let items = |array: &[u8]| -> Vec<String> {
        let text = std::str::from_utf8(array).unwrap();
        text.strip_prefix('[').unwrap().strip_suffix(']').unwrap().split(",\n").map(str::to_owned).collect()
    };
    // By tick, of which facts come first: the refusal is of tick 2, as is the last fact.
    let mut head = Sha256::digest(RoomId::named("moor").as_uuid().as_bytes());
    for item in items(facts).iter().chain(&items(refusals)) {
        let (text, mark) = item.split_at(item.len() - 24);
        head = Sha256::new().chain_update(head).chain_update(format!("{text}}}")).finalize();
        assert_eq!(mark, format!(",\"h\":\"{}\"}}", hex(&head[..8])), "{item}");
    }
    built.insert("stored-chain", head.to_vec());
}

/// The checksums of the rows, as PROTOCOL.md says that they are made.
fn sums_hold(file: &std::path::Path) {
    let file = rusqlite::Connection::open(file).unwrap();
    let fold = |place: &[i64]| place.iter().fold(0, |sum: u64, number| sum.wrapping_mul(31).wrapping_add(number.cast_unsigned()));
    let sum = |seed: u64, bytes: &[u8]| XxHash3_64::oneshot_with_seed(seed, bytes).cast_signed();
    for table in ["fact_chunk", "refusal_chunk", "tick_chunk"] {
        let sql = format!("SELECT seq_from, seq_to, tick_from, tick_to, fingerprint, sum, CAST(payload AS BLOB) FROM {table}");
        let mut statement = file.prepare(&sql).unwrap();
        let mut rows = statement.query([]).unwrap();
        let mut count = 0;
        while let Some(row) = rows.next().unwrap() {
            let place: Vec<i64> = (0..5).map(|column| row.get(column).unwrap()).collect();
            assert_eq!(row.get::<_, i64>(5).unwrap(), sum(fold(&place), &row.get::<_, Vec<u8>>(6).unwrap()), "{table}");
            count += 1;
        }
        assert_eq!(count, 1, "{table}");
    }
    let sql = "SELECT fingerprint, tick, resumed, sum, payload FROM checkpoint";
    let check = |row: &rusqlite::Row<'_>| {
        let [fingerprint, tick, resumed, stored] = [0, 1, 2, 3].map(|column| row.get::<_, i64>(column).unwrap());
        let seed = fingerprint.wrapping_add(tick * 2 + resumed).cast_unsigned();
        assert_eq!(stored, sum(seed, &row.get::<_, Vec<u8>>(4).unwrap()));
        Ok(())
    };
    file.query_row(sql, [], check).unwrap();
    let sql = "SELECT fingerprint, sealed_tick, sealed_seq, header_sum, sum, CAST(header AS BLOB), chain FROM room";
    let check = |row: &rusqlite::Row<'_>| {
        let [fingerprint, tick, seq, header_sum, stored] = [0, 1, 2, 3, 4].map(|column| row.get::<_, i64>(column).unwrap());
        assert_eq!(header_sum, sum(0, &row.get::<_, Vec<u8>>(5).unwrap()));
        assert_eq!(stored, sum(fold(&[fingerprint, tick + 1, seq + 1]), &row.get::<_, Vec<u8>>(6).unwrap()));
        Ok(())
    };
    file.query_row(sql, [], check).unwrap();
}

/// Python, if it is new enough for the second implementation.
fn python() -> Option<Command> {
    let is_new = "import sys; sys.exit(sys.version_info < (3, 11))";
    let found = Command::new("python3").args(["-c", is_new]).output().is_ok_and(|said| said.status.success());
    found.then(|| Command::new("python3"))
}

#[test]
fn an_implementation_by_the_document_alone_reads_and_writes_every_vector() {
    let Some(mut python) = installed::if_there(python(), "Python of 3.11 or newer", "python3") else { return };
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    // Nothing is left in the tree.
    let check = python.arg("-B").arg(root.join("tests/second_implementation/check.py")).arg(root.join("PROTOCOL.md")).output().unwrap();
    let told = String::from_utf8(check.stdout).unwrap();
    assert!(check.status.success(), "{told}{}", String::from_utf8_lossy(&check.stderr));
    let document = std::fs::read_to_string(root.join("PROTOCOL.md")).unwrap();
    let blocks = document.lines().filter(|line| line.starts_with("```hex ") || line.starts_with("```json")).count();
    assert_eq!(told.lines().last(), Some(format!("{blocks} blocks, {blocks} whole, 0 partly").as_str()), "{told}");
}
