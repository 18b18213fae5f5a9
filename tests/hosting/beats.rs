//! A game in which something beats and marks add up, and who plays it over real sockets.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::client::{Connection, ConnectionState, Credentials, Replica, ReplicaPlugin, UdpPlugin, UdpTransport, issue};
use roomkeeper::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Component, Clone, Serialize, Deserialize)]
pub struct Beat(pub u32);
#[derive(Serialize, Deserialize)]
pub struct Mark(pub u32);
#[derive(Clone, Serialize, Deserialize)]
pub struct Marked(pub u32);
#[derive(Component, Serialize, Deserialize, Default)]
pub struct Sum(pub u32);

pub fn protocol(app: &mut App) {
    app.sync::<Beat>("beat");
    app.sync::<Sum>("sum");
    app.command::<Mark>("mark").stateless_fact::<Marked>("marked");
}

pub struct Player(pub App);

impl Player {
    pub fn connect(address: SocketAddr, name: &str, room: &str) -> Self {
        Self::by(&Credentials::unauthenticated(address, name), room)
    }

    pub fn by(credentials: &Credentials, room: &str) -> Self {
        let mut app = App::new();
        app.add_plugins((ReplicaPlugin, UdpPlugin));
        protocol(&mut app);
        app.finish();
        app.cleanup();
        app.insert_resource(UdpTransport::connect(credentials, room, false).unwrap());
        Self(app)
    }

    pub fn state(&self) -> ConnectionState {
        self.0.world().resource::<Connection>().state().clone()
    }

    pub fn room(&self) -> String {
        self.0.world().resource::<Replica>().room_name().to_owned()
    }

    pub fn mark(&mut self, by: u32) {
        let _ = issue(self.0.world_mut(), &Mark(by));
    }

    pub fn sum(&mut self) -> u32 {
        let world = self.0.world_mut();
        world.query::<&Sum>().iter(world).map(|sum| sum.0).sum()
    }

    pub fn leave(&mut self) {
        self.0.world_mut().resource_mut::<Connection>().leave();
        self.0.update();
        self.0.world_mut().resource_mut::<UdpTransport>().hang_up();
    }
}
