//! `roomkeeper`: a lobby with one room, and client apps with a replica, whose packets are carried by hand.
//!
//! Nothing but the changes of the world is taken off the server's figure: the whole tick of the lobby is in it, and the reports of
//! what arrived. A transport would copy and encrypt each packet; here only what is a packet's own is copied, and each part that
//! members share once.
//!
//! The clients apply a stretch of ticks at once (see `measure`), so the reports that they are going to send are written by hand in
//! the tick of the packets: each tick, which is twice as often as they do where nothing is missing. That they report the same is asserted.

mod gaze;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use bevy::prelude::*;
use bytes::{Bytes, BytesMut};
use roomkeeper::client::{Connection, Replica, ReplicaPlugin};
use roomkeeper::host::{ConnectionId, HostLimits, Lobby, Visitor};
use roomkeeper::protocol::{
    ClientMessage, Codec, Fingerprint, LeaveReason, NetId, Protocol, ProtocolAppExt, Quantised, REPORT, Reader, SmallestThree,
};
use roomkeeper::room::RoomOptions;

pub use self::gaze::{Gaze, blueprint, player, populate};
use crate::measure::{Contestant, Entry, JoinCost, TICK, TickCost, timed};
use crate::workload::{Bits, Changes, Health, Kind, Population, Position, Rotation, WORLD_HALF, Workload, bits};

/// With whole numbers, and with as many bits as a game may need.
pub const ENTRIES: &[Entry] = &[
    Entry {
        name: "roomkeeper",
        setup: |workload| Box::new(Roomkeeper::setup(workload, Precision::Full)),
        bare_server: None,
        bare_client: Some(bare_app),
        joins: true,
        sees: true,
    },
    Entry {
        name: "roomkeeper, quantised",
        setup: |workload| Box::new(Roomkeeper::setup(workload, Precision::Quantised)),
        bare_server: None,
        bare_client: Some(bare_app),
        joins: true,
        sees: true,
    },
];

const ROOM: &str = "arena";

/// Where a room has parts that members share, they are among the first that are handed over.
const SHARED_PARTS: usize = 8;

/// What is the packets' own in a tick, about; joins have more.
const OWN_BYTES: usize = 16 << 10;

/// After so many ticks everybody should hold the world.
const PATIENCE: usize = 600;

/// What positions and rotations are written as.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Precision {
    /// Each number as an `f32`: 12 bytes and 16.
    Full,
    /// Positions in millimetres, 8 bytes; rotations in 4.
    Quantised,
}

impl Precision {
    /// What a room and its replicas share.
    pub fn protocol(self) -> fn(&mut App) {
        match self {
            Self::Full => |app| {
                app.sync::<Position>("position").latest();
                app.sync::<Rotation>("rotation").latest();
                rest_of_protocol(app);
            },
            Self::Quantised => |app| {
                app.sync_with("position", position_codec()).latest();
                app.sync_with("rotation", rotation_codec()).latest();
                rest_of_protocol(app);
            },
        }
    }

    /// What a replica is to hold of what a room holds.
    pub fn held(self, room: Bits) -> Bits {
        if self == Self::Full {
            return room;
        }
        let [x, y, z, i, j, k, w, health, kind] = room;
        let [x, y, z] = [x, y, z].map(f32::from_bits);
        let Position { x, y, z } = there_and_back(&position_codec(), &Position { x, y, z });
        let [px, py, pz] = [x, y, z].map(f32::to_bits);
        let [x, y, z, w] = [i, j, k, w].map(f32::from_bits);
        let Rotation { x, y, z, w } = there_and_back(&rotation_codec(), &Rotation { x, y, z, w });
        let [rx, ry, rz, rw] = [x, y, z, w].map(f32::to_bits);
        [px, py, pz, rx, ry, rz, rw, health, kind]
    }
}

fn rest_of_protocol(app: &mut App) {
    app.sync::<Health>("health");
    app.sync::<Kind>("kind");
}

fn position_codec() -> impl Codec<Position> {
    Quantised::new(-WORLD_HALF..=WORLD_HALF, 0.001).via(|at: &Position| [at.x, at.y, at.z], |[x, y, z]| Position { x, y, z })
}

fn rotation_codec() -> impl Codec<Rotation> {
    SmallestThree.via(|turn: &Rotation| [turn.x, turn.y, turn.z, turn.w], |[x, y, z, w]| Rotation { x, y, z, w })
}

fn there_and_back<T>(codec: &impl Codec<T>, value: &T) -> T {
    let mut out = Vec::new();
    codec.encode(value, &mut out);
    codec.decode(&mut Reader::new(&out)).expect("a codec reads what it wrote")
}

struct Roomkeeper {
    lobby: Lobby,
    population: Population,
    precision: Precision,
    /// What members are to hold.
    gaze: Gaze,
    fingerprint: Fingerprint,
    /// In the order of their connections' numbers.
    clients: Vec<Client>,
    connections: u64,
    now: Duration,
    sent: Sent,
}

struct Client {
    app: App,
    id: ConnectionId,
    /// Packets that the client has not applied, by tick: what is their own, and a part that others have too.
    sent: Vec<(Duration, Vec<(Bytes, Bytes)>)>,
    /// What it is going to report of the last tick's packets.
    report: Option<Bytes>,
}

/// What a pump handed over.
#[derive(Default)]
struct Sent {
    own: BytesMut,
    /// Each part, and where it was when it was handed over.
    parts: Vec<(*const u8, Bytes)>,
    packets: Vec<(ConnectionId, Range<usize>, usize)>,
}

impl Sent {
    fn note(&mut self, id: ConnectionId, own: &[u8], shared: &[u8]) {
        let start = self.own.len();
        self.own.extend_from_slice(own);
        let known = self.parts.iter().take(SHARED_PARTS).position(|(place, part)| *place == shared.as_ptr() && part.len() == shared.len());
        let part = known.unwrap_or_else(|| {
            self.parts.push((shared.as_ptr(), Bytes::copy_from_slice(shared)));
            self.parts.len() - 1
        });
        self.packets.push((id, start..self.own.len(), part));
    }
}

impl Roomkeeper {
    fn setup(workload: &Workload, precision: Precision) -> Self {
        let mut lobby = Lobby::new(HostLimits::default(), false);
        lobby.open_room(&blueprint(workload, precision), RoomOptions::named(ROOM)).expect("the room can be built");
        let world = lobby.room_mut(ROOM).expect("opened above").world_mut();
        let population = populate(workload, world);
        let fingerprint = world.resource::<Protocol>().fingerprint();
        let (gaze, (clients, sent)) = (Gaze::new(workload), Default::default());
        let mut this = Self { lobby, population, precision, gaze, fingerprint, clients, connections: 0, now: Duration::ZERO, sent };
        // What exists is told to nobody; who joins from now on gets a snapshot.
        let _ = this.tick(&Changes::default());
        for _ in 0..workload.clients {
            let client = Client::new(this.next_id(), precision);
            this.knock(client.id);
            this.clients.push(client);
        }
        let ticks = (0..PATIENCE).take_while(|_| {
            let _ = this.tick(&Changes::default());
            let _ = this.apply();
            !this.clients.iter().enumerate().all(|(member, client)| client.holds(this.gaze.count(member, &this.population)))
        });
        assert!(ticks.count() < PATIENCE, "everybody comes in");
        this.rest();
        this
    }

    /// Ticks until no packet is under way in either direction.
    fn rest(&mut self) {
        for _ in 0..3 {
            let _ = self.tick(&Changes::default());
        }
        let _ = self.apply();
    }

    fn next_id(&mut self) -> ConnectionId {
        self.connections += 1;
        ConnectionId(self.connections)
    }

    /// Lets a connection ask to watch the room, or to play in it where members have an entity of their own.
    fn knock(&mut self, id: ConnectionId) {
        let visitor = Visitor { player: player(id.0), name: String::new(), room: None };
        self.lobby.connected(id, visitor);
        let hello = ClientMessage::Hello { fingerprint: self.fingerprint, room: ROOM.into(), spectate: self.gaze.is_whole(), resume: None };
        self.lobby.message(id, &hello.encode());
    }

    /// Some work and a tick of the lobby, from the reports up to the transport. Its CPU time, and how many bytes it sent.
    fn server_tick(&mut self, work: impl FnOnce(&mut Self)) -> (u64, u64) {
        self.now += TICK;
        let mut sent = std::mem::take(&mut self.sent);
        sent.own.reserve(OWN_BYTES);
        let ((), server_ns) = timed(|| {
            self.lobby.advance(self.now);
            for client in &self.clients {
                client.report.iter().for_each(|report| self.lobby.message(client.id, report));
            }
            work(self);
            self.lobby.tick_room(ROOM).expect("the room is open");
            let closed = self.lobby.pump(|id, own, shared| sent.note(id, own, shared));
            assert!(closed.is_empty(), "nobody is sent away");
        });
        for client in &mut self.clients {
            client.sent.push((self.now, Vec::new()));
            client.report = None;
        }
        let own = sent.own.split().freeze();
        let mut bytes = 0;
        for (id, range, part) in sent.packets.drain(..) {
            let packet = (own.slice(range), sent.parts[part].1.clone());
            bytes += (packet.0.len() + packet.1.len()) as u64;
            let place = self.clients.binary_search_by_key(&id, |client| client.id).expect("only clients are sent something");
            self.clients[place].sent.last_mut().expect("pushed above").1.push(packet);
        }
        sent.parts.clear();
        self.clients.iter_mut().for_each(Client::write_report);
        self.sent = sent;
        (server_ns, bytes)
    }
}

impl Client {
    fn new(id: ConnectionId, precision: Precision) -> Self {
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, ReplicaPlugin));
        precision.protocol()(&mut app);
        app.finish();
        app.cleanup();
        app.update();
        Self { app, id, sent: Vec::new(), report: None }
    }

    /// True if it is in, with so many entities.
    fn holds(&self, entities: usize) -> bool {
        let replica = self.app.world().resource::<Replica>();
        replica.is_live() && replica.len() == entities
    }

    /// Writes what it is going to report of the packets of the last tick: all are here.
    fn write_report(&mut self) {
        let Some((_, packets)) = self.sent.last() else { return };
        self.report = packets.last().map(|(own, _)| {
            let mut report = vec![REPORT, 0, 0, own[1], own[2], 0];
            report.resize(report.len() + packets.len().div_ceil(8), 0xff);
            report.into()
        });
    }

    /// Applies the next ticks. CPU time of each.
    fn apply(&mut self) -> Vec<u64> {
        let apply = |(now, packets): (Duration, Vec<(Bytes, Bytes)>)| {
            let packets: Vec<Bytes> = packets.iter().map(|(own, part)| [&own[..], part].concat().into()).collect();
            let newest = packets.last().map(|packet| [packet[1], packet[2]]);
            let (report, ns) = timed(|| {
                let mut connection = self.app.world_mut().resource_mut::<Connection>();
                connection.set_now(now);
                for packet in packets {
                    connection.deliver(packet);
                }
                self.app.update();
                self.app.world_mut().resource_mut::<Connection>().next_report()
            });
            let reported = report.map(|report| [report[3], report[4]]);
            let same = reported.zip(newest).is_none_or(|(reported, newest)| reported == newest);
            assert!(same, "the client reports what has been reported for it, or leaves it to the next report");
            ns
        };
        self.sent.drain(..).map(apply).collect()
    }
}

impl Contestant for Roomkeeper {
    fn tick(&mut self, changes: &Changes) -> TickCost {
        let (server_ns, bytes) = self.server_tick(|this| {
            let world = this.lobby.room_mut(ROOM).expect("the room is open").world_mut();
            this.population.change(changes, world, ());
        });
        self.gaze.follow(changes);
        TickCost { server_ns, sight_ns: 0, bytes_per_client: bytes as f64 / self.clients.len().max(1) as f64 }
    }

    fn apply(&mut self) -> Vec<u64> {
        self.clients.iter_mut().flat_map(Client::apply).collect()
    }

    fn join(&mut self) -> JoinCost {
        // A client's app exists before its join counts.
        let client = Client::new(self.next_id(), self.precision);
        let id = client.id;
        self.clients.push(client);
        let entities = self.population.entities().len();
        let mut cost = JoinCost::default();
        let mut there = false;
        // When it holds the world its last reports are still on their way.
        while !std::mem::replace(&mut there, self.clients.last().is_some_and(|client| client.holds(entities))) {
            let (server_ns, bytes) = self.server_tick(|this| {
                if cost.ticks == 0 {
                    this.knock(id);
                }
            });
            let client_ns: u64 = self.clients.last_mut().expect("pushed above").apply().iter().sum();
            cost = JoinCost {
                server_ns: cost.server_ns + server_ns,
                bytes: cost.bytes + bytes,
                client_ns: cost.client_ns + client_ns,
                ticks: cost.ticks + 1,
            };
            assert!((cost.ticks as usize) < PATIENCE, "the joiner comes in");
        }
        cost
    }

    fn leave(&mut self) {
        if let Some(client) = self.clients.pop() {
            self.lobby.disconnected(client.id, LeaveReason::Left);
        }
        let _ = self.tick(&Changes::default());
        let _ = self.apply();
    }

    fn assert_equal(&mut self) {
        let room = self.lobby.room(ROOM).expect("the room is open").world();
        let whole = |entity: EntityRef| bits(entity).expect("every entity is whole");
        let truth = |member| self.gaze.truth(room, &self.population, self.precision, member);
        let mut expected = truth(0);
        for (member, Client { app, id, .. }) in self.clients.iter().enumerate() {
            if !self.gaze.is_whole() {
                expected = truth(member);
            }
            let world = app.world();
            let held = |(net_id, entity): (NetId, Entity)| (net_id.get().into(), whole(world.entity(entity)));
            let replica: BTreeMap<u64, Bits> = world.resource::<Replica>().entities().map(held).collect();
            assert_eq!(replica.len(), expected.len(), "client {} holds as many entities as it is to see", id.0);
            assert!(replica == expected, "client {} holds the server's state bit for bit", id.0);
        }
    }
}

/// The game without replication.
fn bare_app() -> App {
    let mut app = App::new();
    app.add_plugins(MinimalPlugins);
    app.finish();
    app.cleanup();
    app.update();
    app
}
