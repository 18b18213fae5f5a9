//! Carries a [`Connection`] over encrypted UDP.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;

use super::connection::{Connection, ConnectionState};
use super::plugin::ReplicaSystems;
use super::udp::{Credentials, LinkError, LinkStatus, UdpLink};
use crate::protocol::limits::TICK_MILLIS;
use crate::protocol::{LinkConditions, Protocol};

/// A [`UdpLink`] as a resource, and what it joins. Insert it to connect; remove it to hang up.
#[derive(Resource, Debug)]
pub struct UdpTransport {
    link: UdpLink,
    room: String,
    spectate: bool,
    greeted: bool,
    last_flush: Duration,
}

impl UdpTransport {
    /// Begins to connect, to join a room as a user or a spectator.
    ///
    /// # Errors
    /// If the system gives no socket, or the credentials are malformed.
    pub fn connect(credentials: &Credentials, room: &str, spectate: bool) -> Result<Self, LinkError> {
        let link = UdpLink::connect(credentials, unix_time())?;
        Ok(Self { link, room: room.to_owned(), spectate, greeted: false, last_flush: Duration::ZERO })
    }

    /// Puts a simulated link before the host, in both directions.
    pub fn set_link(&mut self, conditions: LinkConditions, seed: u64) {
        self.link.set_link(conditions, seed);
    }

    /// Where the link stands.
    pub fn status(&self) -> LinkStatus {
        self.link.status()
    }

    /// Sends what is queued at once and hangs up.
    pub fn hang_up(&mut self) {
        self.link.flush();
        self.link.disconnect();
    }
}

/// The time since the Unix epoch, which the transport's tokens go by.
#[expect(clippy::disallowed_methods, reason = "the client's end of the network is where real time comes in")]
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Carries the client's messages over UDP. Add it after [`ReplicaPlugin`](super::ReplicaPlugin), and insert a [`UdpTransport`].
#[derive(Clone, Copy, Debug, Default)]
pub struct UdpPlugin;

impl Plugin for UdpPlugin {
    fn build(&self, app: &mut App) {
        app.add_systems(PreUpdate, take_in.before(ReplicaSystems::Receive).run_if(resource_exists::<UdpTransport>));
        app.add_systems(PostUpdate, give_out.run_if(resource_exists::<UdpTransport>));
    }
}

fn take_in(mut transport: ResMut<UdpTransport>, mut connection: ResMut<Connection>, protocol: Res<Protocol>) {
    let transport = &mut *transport;
    let now = unix_time();
    connection.set_now(now);
    transport.link.receive(now);
    while let Some(packet) = transport.link.next_packet() {
        connection.deliver(packet);
    }
    match transport.link.status() {
        LinkStatus::Connecting => {}
        LinkStatus::Connected if !transport.greeted => {
            transport.greeted = true;
            connection.join(&protocol, &transport.room, transport.spectate);
        }
        LinkStatus::Connected => {}
        LinkStatus::Disconnected(reason) => {
            if !transport.greeted && *connection.state() == ConnectionState::Idle {
                transport.greeted = true;
                connection.join(&protocol, &transport.room, transport.spectate);
            }
            connection.lost(reason);
        }
    }
}

/// Sends at most once per tick, however often the game draws.
fn give_out(mut transport: ResMut<UdpTransport>, mut connection: ResMut<Connection>) {
    let transport = &mut *transport;
    if transport.link.status() != LinkStatus::Connected {
        return;
    }
    while let Some(message) = connection.next_outgoing() {
        if let Err(error) = transport.link.send(message) {
            connection.lost(error.to_string());
            break;
        }
    }
    let now = unix_time();
    connection.set_now(now);
    if let Some(report) = connection.next_report() {
        transport.link.send_packet(&report);
    }
    // A little less than a tick, so that a loop of 50 ms sends in each round.
    if now.saturating_sub(transport.last_flush) >= Duration::from_millis(TICK_MILLIS - 5) {
        transport.last_flush = now;
        transport.link.flush();
    }
}
