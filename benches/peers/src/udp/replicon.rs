//! bevy_replicon over its own renet backend, `bevy_replicon_renet`, with the netcode transport: as its documentation sets it up.
//!
//! Kinder than that: no check of the protocol, one tick per update, and the budget per tick is as large as anybody's here
//! (renet's default would spread a join over seven ticks).

use std::net::SocketAddr;
use std::time::Duration;

use bevy::prelude::*;
use bevy::time::TimeUpdateStrategy;
use bevy_replicon::prelude::*;
use bevy_replicon_renet::netcode::{
    ClientAuthentication, NetcodeClientTransport, NetcodeServerTransport, ServerAuthentication, ServerConfig,
};
use bevy_replicon_renet::renet::ConnectionConfig;
use bevy_replicon_renet::{RenetChannelsExt, RenetClient, RenetServer, RepliconRenetClientPlugin, RepliconRenetServerPlugin};

use super::{BEGIN, BYTES_PER_TICK_MAX, Bare, Client, Cost, Entry, Newcomer, PROTOCOL_ID, Server, Setting, TICK, Truth, socket};
use crate::measure::timed;
use crate::replicon::{Gaze, app, bare_app, finish, held, truth};
use crate::workload::{Changes, Play, Population};

/// As it comes.
pub const ENTRY: Entry = Entry {
    name: "replicon over renet",
    server: |setting| Box::new(Host::new(setting)),
    client: |newcomer| Box::new(Member::new(newcomer)),
    bare: Bare::App(bare_app),
};

fn config(app: &App) -> ConnectionConfig {
    let channels = app.world().resource::<RepliconChannels>();
    ConnectionConfig {
        available_bytes_per_tick: BYTES_PER_TICK_MAX,
        server_channels_config: channels.server_configs(),
        client_channels_config: channels.client_configs(),
    }
}

struct Host {
    app: App,
    population: Population,
    address: SocketAddr,
}

impl Host {
    fn new(setting: &Setting) -> Self {
        let mut app = app(false);
        app.add_plugins(RepliconRenetServerPlugin).insert_resource(TimeUpdateStrategy::ManualDuration(TICK));
        let mut app = finish(app);
        let socket = socket();
        let address = socket.local_addr().expect("a bound socket has an address");
        let server_config = ServerConfig {
            current_time: BEGIN,
            max_clients: setting.workload.clients + 1,
            protocol_id: PROTOCOL_ID,
            public_addresses: vec![address],
            authentication: ServerAuthentication::Unsecure,
        };
        let config = config(&app);
        app.insert_resource(RenetServer::new(config));
        app.insert_resource(NetcodeServerTransport::new(server_config, socket).expect("the socket is good"));
        // Until the server runs.
        app.update();
        app.update();
        let population = Population::spawn(&setting.workload, app.world_mut(), Replicated);
        if setting.workload.play == Play::Walk {
            Gaze::install(&mut app, &setting.workload, &population);
        }
        Self { app, population, address }
    }
}

impl Server for Host {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn tick(&mut self, _now: Duration, changes: &Changes) -> Cost {
        let (sight_ns, server_ns) = timed(|| {
            self.population.change(changes, self.app.world_mut(), Replicated);
            let sight_ns = Gaze::step(self.app.world_mut(), changes);
            self.app.update();
            sight_ns
        });
        Cost { server_ns, receive_ns: None, sight_ns }
    }

    fn truth(&self, member: usize) -> Option<Truth> {
        Some(truth(self.app.world(), &self.population, member))
    }
}

struct Member {
    app: App,
}

impl Member {
    fn new(Newcomer { server: server_addr, number: client_id, now, .. }: Newcomer) -> Self {
        let mut app = app(true);
        app.add_plugins(RepliconRenetClientPlugin).insert_resource(TimeUpdateStrategy::ManualDuration(TICK));
        let mut app = finish(app);
        let config = config(&app);
        let authentication = ClientAuthentication::Unsecure { protocol_id: PROTOCOL_ID, client_id, server_addr, user_data: None };
        app.insert_resource(RenetClient::new(config));
        app.insert_resource(NetcodeClientTransport::new(now, authentication, socket()).expect("an address makes a token"));
        Self { app }
    }
}

impl Client for Member {
    fn tick(&mut self, _now: Duration) {
        self.app.update();
    }

    fn held(&mut self) -> usize {
        let world = self.app.world_mut();
        world.query_filtered::<(), With<Remote>>().iter(world).count()
    }

    fn state(&mut self) -> Truth {
        held(&mut self.app)
    }

    fn leave(&mut self) {
        self.app.world_mut().resource_mut::<NetcodeClientTransport>().disconnect();
    }
}
