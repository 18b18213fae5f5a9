//! What a host makes of what PROTOCOL.md lets a client say, and of what it does not.

use bevy_app::prelude::*;
use bytes::Bytes;
use roomkeeper::client::{HeadlessReplica, ReplicaPlugin, unix_time};
use roomkeeper::host::{ConnectionId, HostLimits, Lobby, Visitor};
use roomkeeper::prelude::*;
use roomkeeper::protocol::Protocol;
use roomkeeper::room::RoomOptions;

use crate::beats::protocol;
use crate::host::blueprint;

#[test]
fn a_first_byte_that_must_not_be_sent_is_a_mistake_to_a_host_and_the_end_to_a_client() {
    let mut lobby = Lobby::new(HostLimits::default(), false);
    lobby.open_room(&blueprint(), RoomOptions::named("main")).unwrap();
    let ann = ConnectionId(1);
    lobby.connected(ann, Visitor { player: EntityId::named("ann"), name: "ann".to_owned(), room: None });
    let mut app = App::new();
    app.add_plugins(ReplicaPlugin);
    protocol(&mut app);
    let mut replica = HeadlessReplica::new(app.world_mut().remove_resource::<Protocol>().unwrap());
    for (nth, kind) in [18, 24, 31].into_iter().enumerate() {
        let packet = Bytes::from(vec![kind, 1, 0, 0]);
        lobby.message(ann, &packet);
        assert_eq!(lobby.counters().malformed, nth as u64 + 1);
        assert!(replica.deliver(unix_time(), &packet).is_err());
    }
}
