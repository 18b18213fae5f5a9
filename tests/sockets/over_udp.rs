//! A lobby behind a real socket, with the time passed in.

use std::time::Duration;

use roomkeeper::host::Lobby;
use roomkeeper::host::gateway::{GatewayEvent, Gone, Shard};
use roomkeeper::protocol::LeaveReason;

/// Hands what has come to the lobby.
pub fn receive(lobby: &mut Lobby, shard: &mut Shard, now: Duration) {
    lobby.advance(now);
    shard.receive(now, 10_000);
    for event in shard.drain_events() {
        match event {
            GatewayEvent::Connected(id, admission) => lobby.connected(id, admission.into()),
            GatewayEvent::Message(id, message) | GatewayEvent::Packet(id, message) => lobby.message(id, &message),
            GatewayEvent::Disconnected(id, Gone::Lost) => lobby.disconnected(id, LeaveReason::Timeout),
            GatewayEvent::Disconnected(id, _) => lobby.disconnected(id, LeaveReason::Left),
        }
    }
}

/// Sends what the lobby has to say.
pub fn send(lobby: &mut Lobby, shard: &mut Shard, now: Duration) {
    let closed = lobby.pump(|id, own, shared| {
        shard.send_packet_parts(id, &[own, shared]);
    });
    for closed in closed {
        shard.disconnect(closed);
    }
    shard.flush(now);
}
