//! A client without a window, a frame loop or a Bevy world: a tool that joins over UDP and looks on. The server is in the same process.
//!
//! `cargo run --example headless_client`
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::client::{Credentials, HeadlessReplica, LinkStatus, ReplicaPlugin, Sight, UdpLink, unix_time};
use roomkeeper::host::gateway::{Access, GatewayLimits, ShardConfig};
use roomkeeper::host::{HostLimits, Server};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{ClientMessage, Protocol};
use roomkeeper::room::{Blueprint, RoomOptions};
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize)]
struct Score(u32);

fn protocol(app: &mut App) {
    app.sync::<Score>("score");
}

fn rules(app: &mut App) {
    app.add_systems(Startup, |mut commands: Commands| {
        commands.spawn(Score(0));
    });
    app.add_systems(FixedUpdate, |mut scores: Query<&mut Score>| scores.iter_mut().for_each(|mut score| score.0 += 1));
}

fn main() -> Result {
    let config = ShardConfig {
        bind: "127.0.0.1:0".parse()?,
        public_addresses: Vec::new(),
        access: Access::Loopback,
        limits: GatewayLimits::default(),
    };
    let mut server = Server::bind(&config, HostLimits::default())?;
    server.open_room(&Blueprint::new(protocol, rules), RoomOptions::named("main"))?;
    let (address, stop) = (server.local_address()?, Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&stop);
    let host = std::thread::spawn(move || server.run(&stopped, |_, _, _| {}));

    let mut app = App::new();
    app.add_plugins(ReplicaPlugin);
    protocol(&mut app);
    let protocol = app.world_mut().remove_resource::<Protocol>().unwrap_or_default();
    let hello = ClientMessage::Hello { fingerprint: protocol.fingerprint(), room: "main".into(), spectate: true, resume: None };
    let mut link = UdpLink::connect(&Credentials::unauthenticated(address, "tool"), unix_time())?;
    let (mut replica, mut greeted, mut batches) = (HeadlessReplica::new(protocol), false, 0);
    while batches < 10 {
        link.receive(unix_time());
        if link.status() == LinkStatus::Connected && !std::mem::replace(&mut greeted, true) {
            link.send(hello.encode())?;
        }
        while let Some(packet) = link.next_packet() {
            for sight in replica.deliver(unix_time(), &packet)? {
                if let Sight::Batch(_) = sight {
                    batches += 1;
                    println!("tick {}: {}", replica.state().tick(), replica.state().to_json(replica.protocol())?);
                }
            }
        }
        if let Some(report) = replica.next_report(unix_time()) {
            link.send_packet(&report);
        }
        link.flush();
        std::thread::sleep(Duration::from_millis(10));
    }
    link.disconnect();
    stop.store(true, Ordering::Relaxed);
    host.join().map_err(|_| "the server panicked")?;
    Ok(())
}
