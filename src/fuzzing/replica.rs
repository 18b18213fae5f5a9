//! A whole client: packets in any order, messages, time. Beside it a client without a world is given the same.

use std::sync::OnceLock;
use std::time::Duration;

use bevy_app::App;
use bytes::Bytes;

use super::{Steps, chosen, game, reached, step};
use crate::client::{Connection, HeadlessReplica, Replica, ReplicaPlugin, replica_state};
use crate::host::{ConnectionId, HostLimits, Lobby, Visitor};
use crate::protocol::limits::PACKET_BYTES_MAX;
use crate::protocol::{
    ClientMessage, CommandId, EntityId, PACKET, Protocol, RoomTick, register_built_in, write_ordered_head, write_packet_head,
    write_part_head,
};

/// What a client is sent that joins, acts, and stays for a while.
pub(super) fn packets() -> &'static [Vec<u8>] {
    static PACKETS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    PACKETS.get_or_init(|| {
        let mut lobby = Lobby::new(HostLimits::default(), false);
        lobby.begin_epoch(7);
        let opened = lobby.open_room(game::blueprint(false), game::options(game::LEVEL));
        assert!(opened.is_ok(), "{opened:?}");
        let ann = ConnectionId(1);
        lobby.connected(ann, Visitor { player: EntityId::named("ann"), name: "Ann".into(), room: None });
        let fingerprint = game::protocol().fingerprint();
        lobby.message(ann, &ClientMessage::Hello { fingerprint, room: "moor".into(), spectate: false, resume: None }.encode());
        let (mut packets, mut now) = (Vec::new(), Duration::from_secs(1));
        for tick in 0..12_u32 {
            if (2..9).contains(&tick) {
                let payload: &'static [u8] = if tick % 2 == 0 { &[40] } else { &[3, b's', b'a', b'y', 0, 0] };
                let command = ClientMessage::Command {
                    id: CommandId(tick - 1),
                    kind: (tick % 2) as usize,
                    seen: None,
                    payload: Bytes::from_static(payload),
                };
                lobby.message(ann, &command.encode());
            }
            now += Duration::from_millis(50);
            lobby.advance(now);
            let _ = lobby.tick_room("moor");
            lobby.pump(|_, own, shared| packets.push([own, shared].concat()));
        }
        packets
    })
}

fn client() -> App {
    let mut app = App::new();
    app.add_plugins(ReplicaPlugin);
    game::blueprint(false).add_protocol(&mut app);
    let world = app.world_mut();
    world.resource_scope(|world, protocol: bevy_ecs::prelude::Mut<Protocol>| {
        world.resource_mut::<Connection>().join(&protocol, "moor", false);
    });
    app
}

fn headless() -> HeadlessReplica {
    let mut app = App::new();
    app.init_resource::<Protocol>();
    register_built_in(&mut app);
    game::blueprint(false).add_protocol(&mut app);
    HeadlessReplica::new(std::mem::take(&mut *app.world_mut().resource_mut::<Protocol>()))
}

/// A packet with what a step says: as it stands, or with a head that fits.
fn packet_of(kind: u8, seq: u64, bytes: &[u8]) -> Bytes {
    let mut out = Vec::new();
    let (tick, bytes) = chosen(bytes);
    write_packet_head(seq, RoomTick(u32::from(tick)), &mut out);
    match kind {
        1 => write_part_head(&mut out),
        _ => {
            let (offset, _) = chosen(bytes);
            write_ordered_head(u64::from(offset) * 16, None, &mut out);
        }
    }
    out.extend_from_slice(bytes);
    out.truncate(PACKET_BYTES_MAX);
    Bytes::from(out)
}

/// The seed of this door: all that is sent, in order.
pub(super) fn seed(reorder: bool) -> Vec<u8> {
    let mut out = vec![0];
    let mut packets: Vec<&Vec<u8>> = packets().iter().collect();
    if reorder {
        packets.reverse();
    }
    for packet in packets {
        step(0, packet, &mut out);
        step(4, &[50], &mut out);
    }
    out
}

pub(super) fn replica(data: &[u8]) {
    let (choice, data) = chosen(data);
    let (mut app, mut watcher) = (client(), Some(headless()));
    let (mut now, mut live) = (Duration::from_secs(1), false);
    let known = packets().iter().take(usize::from(choice) % (packets().len() + 1));
    let known = known.map(|packet| (0, Bytes::from(packet.clone())));
    let given = Steps(data).enumerate().map(|(nth, (kind, bytes))| match kind % 6 {
        kind @ (1 | 2) => (0, packet_of(kind, 400 + nth as u64, bytes)),
        kind => (kind, Bytes::copy_from_slice(bytes.get(..if kind == 0 { PACKET_BYTES_MAX } else { usize::MAX }).unwrap_or(bytes))),
    });
    for (kind, bytes) in known.chain(given) {
        if kind == 4 {
            now += Duration::from_millis(u64::from(chosen(&bytes).0));
            app.world_mut().resource_mut::<Connection>().set_now(now);
            app.update();
            live |= app.world().resource::<Replica>().is_live();
            let _ = app.world_mut().resource_mut::<Connection>().next_report();
            continue;
        }
        // What is in a datagram has passed the gate; what stands in the stream has any size.
        if kind == 0 || bytes.first() != Some(&PACKET) {
            app.world_mut().resource_mut::<Connection>().deliver(bytes.clone());
            watcher = watcher.take().and_then(|mut watcher| watcher.deliver(now, &bytes).is_ok().then_some(watcher));
        }
    }
    app.update();
    reached(live || app.world().resource::<Replica>().is_live());
    let state = replica_state(app.world_mut());
    assert!(state.is_ok(), "{state:?}");
    if let Some(watcher) = watcher {
        let json = watcher.state().to_json(watcher.protocol());
        assert!(json.is_ok(), "{json:?}");
    }
}
