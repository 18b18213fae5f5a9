//! Why there is a gate: what netcode and renet do with hostile bytes when nothing stands before them.
//!
//! When a test here fails because nothing panics any more, the libraries have been mended, and the gate may be made simpler.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::any::Any;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use renet::RenetServer;
use renetcode::{ClientAuthentication, NetcodeClient, NetcodeServer, ServerAuthentication, ServerConfig, ServerResult};
use roomkeeper::protocol::{PayloadFrom, PayloadGate, connection_config, datagram_kind};

const NOW: Duration = Duration::from_secs(1_000_000);

fn host_addr() -> SocketAddr {
    "127.0.0.1:4000".parse().unwrap()
}

fn client_addr() -> SocketAddr {
    "127.0.0.1:5000".parse().unwrap()
}

fn server() -> NetcodeServer {
    NetcodeServer::new(ServerConfig {
        current_time: NOW,
        max_clients: 4,
        protocol_id: 1,
        public_addresses: vec![host_addr()],
        authentication: ServerAuthentication::Unsecure,
    })
}

fn client() -> NetcodeClient {
    let authentication = ClientAuthentication::Unsecure { protocol_id: 1, client_id: 1, server_addr: host_addr(), user_data: None };
    NetcodeClient::new(NOW, authentication).unwrap()
}

/// A server that a client has asked to connect.
fn asked_server() -> NetcodeServer {
    let (mut server, mut client) = (server(), client());
    let (request, _) = client.update(Duration::ZERO).unwrap();
    assert!(matches!(server.process_packet(client_addr(), request), ServerResult::PacketToSend { .. }));
    server
}

fn connected_server() -> NetcodeServer {
    let (mut server, mut client) = (server(), client());
    let (request, _) = client.update(Duration::ZERO).unwrap();
    let ServerResult::PacketToSend { payload, .. } = server.process_packet(client_addr(), request) else { panic!("no challenge") };
    client.process_packet(payload);
    let (response, _) = client.update(Duration::from_secs(1)).unwrap();
    assert!(matches!(server.process_packet(client_addr(), response), ServerResult::ClientConnected { .. }));
    server
}

/// What `f` panics with.
fn panic_of(f: impl FnOnce()) -> String {
    let payload: Box<dyn Any + Send> = catch_unwind(AssertUnwindSafe(f)).expect_err("no panic");
    payload.downcast_ref::<String>().cloned().or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()
}

fn long_sequence() -> Vec<u8> {
    vec![0xf5; 40]
}

fn short_seal() -> Vec<u8> {
    let mut datagram = vec![0; 18];
    datagram[0] = 0x85;
    datagram
}

fn last_sequence() -> Vec<u8> {
    let mut datagram = vec![0xff; 60];
    datagram[0] = 0x85;
    datagram
}

#[test]
fn netcode_panics_at_a_sequence_of_fifteen_bytes() {
    for mut server in [asked_server(), connected_server()] {
        let panic = panic_of(|| drop(server.process_packet(client_addr(), &mut long_sequence())));
        assert!(panic.contains("range end index 15"), "{panic}");
    }
    assert!(panic_of(|| assert!(client().process_packet(&mut long_sequence()).is_none())).contains("range end index 15"));
    assert!(datagram_kind(&long_sequence()).is_none());
}

#[test]
fn netcode_panics_at_a_datagram_shorter_than_its_seal() {
    for mut server in [asked_server(), connected_server()] {
        panic_of(|| drop(server.process_packet(client_addr(), &mut short_seal())));
    }
    panic_of(|| assert!(client().process_packet(&mut short_seal()).is_none()));
    assert!(datagram_kind(&short_seal()).is_none());
}

#[test]
fn renet_panics_at_a_slice_beyond_the_last() {
    let mut packet = vec![2, 0, 0, 0, 5, 2, 0x44, 0xb0];
    packet.resize(packet.len() + 1200, 7);
    let mut server = RenetServer::new(connection_config());
    server.add_connection(1);
    let panic = panic_of(|| server.process_packet_from(&packet, 1).unwrap());
    assert!(panic.contains("index out of bounds: the len is 2 but the index is 5"), "{panic}");
    assert!(!PayloadGate::new(PayloadFrom::Client).admits(&packet));
    assert!(!PayloadGate::new(PayloadFrom::Host).admits(&packet));
}

#[cfg(debug_assertions)]
#[test]
fn netcode_overflows_at_the_last_sequence() {
    let mut server = connected_server();
    let panic = panic_of(|| drop(server.process_packet(client_addr(), &mut last_sequence())));
    assert!(panic.contains("overflow"), "{panic}");
    assert!(datagram_kind(&last_sequence()).is_none());
}

#[cfg(debug_assertions)]
#[test]
fn renet_overflows_when_the_slices_of_a_message_disagree_on_their_number() {
    let slice = |index: u8, slices: u8| {
        let mut packet = vec![2, index, 0, 0, index, slices, 0x44, 0xb0];
        packet.resize(packet.len() + 1200, 7);
        packet
    };
    let mut server = RenetServer::new(connection_config());
    server.add_connection(1);
    server.process_packet_from(&slice(0, 2), 1).unwrap();
    assert!(panic_of(|| server.process_packet_from(&slice(1, 40), 1).unwrap()).contains("overflow"));
    // Nobody sends slices: clients say what fits a packet, and hosts nothing over the channel.
    for from in [PayloadFrom::Client, PayloadFrom::Host] {
        assert!(!PayloadGate::new(from).admits(&slice(0, 2)));
    }
}

#[test]
fn renet_keeps_any_number_of_empty_messages() {
    let mut server = RenetServer::new(connection_config());
    server.add_connection(1);
    let mut gate = PayloadGate::new(PayloadFrom::Client);
    for n in 0..100u64 {
        let mut packet = vec![0, n as u8 & 0x3f, 0, 1, 0];
        for id in 0..256 {
            // Numbers from 1 on: the first is never sent, so nothing is ever handed out.
            packet.extend_from_slice(&((1 + n * 256 + id) as u32 | 0x8000_0000).to_be_bytes());
            packet.push(0);
        }
        server.process_packet_from(&packet, 1).unwrap();
        assert!(!gate.admits(&packet));
    }
    assert!(server.is_connected(1), "25,600 messages are kept, and nobody is disconnected");
}

#[test]
fn netcode_takes_a_forged_request_for_a_sign_of_life() {
    let mut server = connected_server();
    server.update(Duration::from_secs(4));
    assert_eq!(server.time_since_last_received_packet(1), Some(Duration::from_secs(3 + 1)));
    let mut forged = vec![0; 1078];
    server.process_packet(client_addr(), &mut forged);
    assert_eq!(server.time_since_last_received_packet(1), Some(Duration::ZERO));
}
