//! roomkeeper as it is: a room in a lobby behind a shard, driven as `host::Server` does it but with a counted time, and clients
//! with a replica behind a link. The only file here that knows how roomkeeper sends.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bevy::prelude::*;
use roomkeeper::client::{Connection, Credentials, LinkStatus, Replica, ReplicaPlugin, UdpLink};
use roomkeeper::host::gateway::{Access, GatewayEvent, GatewayLimits, Shard, ShardConfig};
use roomkeeper::host::{HostLimits, Lobby, Visitor};
use roomkeeper::protocol::{Admission, LeaveReason, Protocol};
use roomkeeper::room::RoomOptions;

use super::{BEGIN, Bare, Client, Cost, Entry, Newcomer, Server, Setting, Truth};
use crate::measure::timed;
use crate::roomkeeper::{Gaze, Precision, blueprint, player, populate};
use crate::workload::{Changes, Play, Population, bits};

/// As it comes.
pub const ENTRY: Entry = Entry {
    name: "roomkeeper",
    server: |setting| Box::new(Host::new(setting, Precision::Full)),
    client: |newcomer| Box::new(Member::new(newcomer, Precision::Full)),
    bare: Bare::World,
};

/// With as many bits as a game may need.
pub const QUANTISED: Entry = Entry {
    name: "roomkeeper, quantised",
    server: |setting| Box::new(Host::new(setting, Precision::Quantised)),
    client: |newcomer| Box::new(Member::new(newcomer, Precision::Quantised)),
    ..ENTRY
};

const ROOM: &str = "arena";

/// More than ever arrives in a tick.
const DATAGRAMS_MAX: usize = 20_000;

struct Host {
    lobby: Lobby,
    shard: Shard,
    population: Population,
    precision: Precision,
    /// What members are to hold.
    gaze: Gaze,
}

impl Host {
    fn new(setting: &Setting, precision: Precision) -> Self {
        let config = ShardConfig {
            bind: (Ipv4Addr::LOCALHOST, 0).into(),
            public_addresses: Vec::new(),
            access: Access::Loopback,
            limits: GatewayLimits::default(),
        };
        let shard = Shard::bind(&config, BEGIN).expect("loopback has a free port");
        let mut lobby = Lobby::new(HostLimits::default(), false);
        lobby.open_room(&blueprint(&setting.workload, precision), RoomOptions::named(ROOM)).expect("the room can be built");
        let world = lobby.room_mut(ROOM).expect("opened above").world_mut();
        let population = populate(&setting.workload, world);
        Self { lobby, shard, population, precision, gaze: Gaze::new(&setting.workload) }
    }

    fn receive(&mut self, now: Duration) {
        self.lobby.advance(now);
        self.shard.receive(now, DATAGRAMS_MAX);
        for event in self.shard.drain_events() {
            match event {
                GatewayEvent::Connected(connection, Admission { player, name, room, .. }) => {
                    self.lobby.connected(connection, Visitor { player, name, room });
                }
                GatewayEvent::Message(connection, message) | GatewayEvent::Packet(connection, message) => {
                    self.lobby.message(connection, &message);
                }
                GatewayEvent::Disconnected(connection, _) => self.lobby.disconnected(connection, LeaveReason::Left),
            }
        }
    }

    fn play(&mut self, changes: &Changes) {
        let world = self.lobby.room_mut(ROOM).expect("the room is open").world_mut();
        self.population.change(changes, world, ());
        self.lobby.tick_room(ROOM).expect("the room is open");
    }

    fn send(&mut self, now: Duration) {
        let Self { lobby, shard, .. } = self;
        let closed = lobby.pump(|connection, own, shared| {
            shard.send_packet_parts(connection, &[own, shared]);
        });
        assert!(closed.is_empty(), "nobody is sent away");
        shard.flush(now);
    }
}

impl Server for Host {
    fn address(&self) -> SocketAddr {
        self.shard.local_address().expect("a bound socket has an address")
    }

    fn tick(&mut self, now: Duration, changes: &Changes) -> Cost {
        let ((), receive_ns) = timed(|| self.receive(now));
        let ((), rest_ns) = timed(|| {
            self.play(changes);
            self.send(now);
        });
        self.gaze.follow(changes);
        Cost { server_ns: receive_ns + rest_ns, receive_ns: Some(receive_ns), sight_ns: 0 }
    }

    fn truth(&self, member: usize) -> Option<Truth> {
        let room = self.lobby.room(ROOM).expect("the room is open").world();
        Some(self.gaze.truth(room, &self.population, self.precision, member))
    }
}

struct Member {
    app: App,
    link: UdpLink,
    /// Whether it watches, or plays because it is to have an entity of its own.
    spectates: bool,
    greeted: bool,
}

impl Member {
    fn new(Newcomer { server, number, play, now }: Newcomer, precision: Precision) -> Self {
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, ReplicaPlugin));
        precision.protocol()(&mut app);
        app.finish();
        app.cleanup();
        app.update();
        let admission = Admission { client_id: number, player: player(number), name: String::new(), room: None };
        let link = UdpLink::connect(&Credentials::Unauthenticated { server, admission }, now).expect("the system gives a socket");
        Self { app, link, spectates: play != Play::Walk, greeted: false }
    }
}

impl Client for Member {
    fn drain(&mut self, now: Duration) {
        self.link.receive(now);
    }

    fn tick(&mut self, now: Duration) {
        self.link.receive(now);
        let Self { app, link, spectates, greeted } = self;
        app.world_mut().resource_scope(|world, mut connection: Mut<Connection>| {
            connection.set_now(now);
            while let Some(packet) = link.next_packet() {
                connection.deliver(packet);
            }
            if !*greeted && link.status() == LinkStatus::Connected {
                *greeted = true;
                connection.join(world.resource::<Protocol>(), ROOM, *spectates);
            }
        });
        app.update();
        let mut connection = app.world_mut().resource_mut::<Connection>();
        if let Some(report) = connection.next_report() {
            link.send_packet(&report);
        }
        while let Some(message) = connection.next_outgoing() {
            link.send(message).expect("little is sent");
        }
        link.flush();
    }

    fn held(&mut self) -> usize {
        let replica = self.app.world().resource::<Replica>();
        if replica.is_live() { replica.len() } else { 0 }
    }

    fn state(&mut self) -> Truth {
        let world = self.app.world();
        let whole = |entity: Entity| bits(world.entity(entity)).expect("every entity is whole");
        world.resource::<Replica>().entities().map(|(net_id, entity)| (net_id.get().into(), whole(entity))).collect()
    }

    fn leave(&mut self) {
        self.link.disconnect();
    }
}
