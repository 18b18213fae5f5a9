//! `roomkeeper`: a lobby with one room, and client apps with a replica, whose messages are carried by hand.
//!
//! Nothing but the changes of the world is taken off the server's figure: the whole tick of the lobby is in it.

use std::collections::BTreeMap;

use bevy::prelude::*;
use bytes::Bytes;
use roomkeeper::client::{Connection, Replica, ReplicaPlugin};
use roomkeeper::host::{ConnectionId, HostLimits, Lobby, Visitor};
use roomkeeper::protocol::{ClientMessage, EntityId, Fingerprint, LeaveReason, NetId, Protocol, ProtocolAppExt};
use roomkeeper::room::{Blueprint, RoomOptions};

use crate::measure::{Contestant, Entry, JoinCost, TickCost, timed};
use crate::workload::{Bits, Changes, Health, Kind, Population, Position, Rotation, Workload, bits};

/// As it comes.
pub const ENTRIES: &[Entry] = &[Entry {
    name: "roomkeeper",
    setup: |workload| Box::new(Roomkeeper::setup(workload)),
    bare_server: None,
    bare_client: Some(bare_app),
    joins: true,
    sees: false,
}];

const ROOM: &str = "arena";

struct Roomkeeper {
    lobby: Lobby,
    population: Population,
    fingerprint: Fingerprint,
    clients: Vec<Client>,
    connections: u64,
}

struct Client {
    app: App,
    id: ConnectionId,
    /// Messages that the client has not applied, by tick.
    sent: Vec<Vec<Bytes>>,
}

/// Message by message, to whom.
type Sent = Vec<(ConnectionId, Bytes)>;

impl Roomkeeper {
    fn setup(workload: &Workload) -> Self {
        let mut lobby = Lobby::new(HostLimits::default(), false);
        lobby.open_room(&Blueprint::new(protocol, |_| {}), RoomOptions::named(ROOM)).expect("the room can be built");
        let world = lobby.room_mut(ROOM).expect("opened above").world_mut();
        let population = Population::spawn(workload, world, ());
        let fingerprint = world.resource::<Protocol>().fingerprint();
        let mut this = Self { lobby, population, fingerprint, clients: Vec::new(), connections: 0 };
        // What exists is told to nobody; who joins from now on gets a snapshot.
        let _ = this.tick(&Changes::default());
        for _ in 0..workload.clients {
            let client = Client::new(this.next_id());
            this.knock(client.id);
            this.clients.push(client);
        }
        for _ in 0..3 {
            let _ = this.tick(&Changes::default());
        }
        let _ = this.apply();
        this
    }

    fn next_id(&mut self) -> ConnectionId {
        self.connections += 1;
        ConnectionId(self.connections)
    }

    /// Lets a connection ask to watch the room.
    fn knock(&mut self, id: ConnectionId) {
        let visitor = Visitor { player: EntityId::named(&id.0.to_string()), name: String::new(), room: None };
        self.lobby.connected(id, visitor);
        let hello = ClientMessage::Hello { fingerprint: self.fingerprint, room: ROOM.into(), spectate: true };
        self.lobby.message(id, &hello.encode());
    }

    /// Some work and a tick of the lobby, up to the transport. Its CPU time, and how many bytes it sent.
    fn server_tick(&mut self, work: impl FnOnce(&mut Self)) -> (u64, u64) {
        let (sent, server_ns) = timed(|| {
            work(self);
            let mut sent = Sent::with_capacity(2 * self.clients.len());
            self.lobby.tick_room(ROOM).expect("the room is open");
            let closed = self.lobby.pump(|id, message| {
                sent.push((id, message.clone()));
                true
            });
            assert!(closed.is_empty(), "nobody is sent away");
            sent
        });
        for client in &mut self.clients {
            client.sent.push(Vec::new());
        }
        let mut bytes = 0;
        for (id, message) in sent {
            bytes += message.len() as u64;
            let client = self.clients.iter_mut().find(|client| client.id == id).expect("only clients are sent something");
            client.sent.last_mut().expect("pushed above").push(message);
        }
        (server_ns, bytes)
    }
}

impl Client {
    fn new(id: ConnectionId) -> Self {
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, ReplicaPlugin));
        protocol(&mut app);
        app.finish();
        app.cleanup();
        app.update();
        Self { app, id, sent: Vec::new() }
    }

    /// Applies the next ticks. CPU time of each.
    fn apply(&mut self) -> Vec<u64> {
        let apply = |messages: Vec<Bytes>| {
            let mut connection = self.app.world_mut().resource_mut::<Connection>();
            for message in messages {
                connection.deliver(message);
            }
            timed(|| self.app.update()).1
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
        TickCost { server_ns, sight_ns: 0, bytes_per_client: bytes as f64 / self.clients.len().max(1) as f64 }
    }

    fn apply(&mut self) -> Vec<u64> {
        self.clients.iter_mut().flat_map(Client::apply).collect()
    }

    fn join(&mut self) -> JoinCost {
        // A client's app exists before its join counts.
        let client = Client::new(self.next_id());
        let id = client.id;
        self.clients.push(client);
        let (server_ns, bytes) = self.server_tick(|this| this.knock(id));
        let client_ns = self.clients.last_mut().expect("pushed above").apply().iter().sum();
        JoinCost { server_ns, bytes, client_ns, ticks: 1 }
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
        let truth: BTreeMap<NetId, Bits> = self
            .population
            .entities()
            .iter()
            .map(|&entity| (*room.get::<NetId>(entity).expect("every entity of a room has a net id"), whole(room.entity(entity))))
            .collect();
        for Client { app, id, .. } in &self.clients {
            let world = app.world();
            let replica: BTreeMap<NetId, Bits> =
                world.resource::<Replica>().entities().map(|(net_id, entity)| (net_id, whole(world.entity(entity)))).collect();
            assert_eq!(replica.len(), truth.len(), "client {} holds as many entities as the server", id.0);
            assert!(replica == truth, "client {} holds the server's state bit for bit", id.0);
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

/// What a room and its replicas share.
pub fn protocol(app: &mut App) {
    app.sync::<Position>("position").latest();
    app.sync::<Rotation>("rotation").latest();
    let _ = app.sync::<Health>("health");
    let _ = app.sync::<Kind>("kind");
}
