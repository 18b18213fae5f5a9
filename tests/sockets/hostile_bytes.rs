//! What strangers and cheats send over real UDP is dropped and counted; the host lives, and other players notice nothing.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use bytes::Bytes;
use renetcode::{ClientAuthentication, ConnectToken, NetcodeClient};
use roomkeeper::client::{Credentials, LinkStatus, UdpLink};
use roomkeeper::host::gateway::{Access, BindError, GatewayCounters, GatewayEvent, GatewayLimits, Gone, Shard, ShardConfig};
use roomkeeper::host::{ConnectionId, HostKey, TokenIssuer};
use roomkeeper::prelude::EntityId;
use roomkeeper::protocol::{Admission, Protocol, ProtocolAppExt, RAW_BYTES_MAX, RoomId, State, TRANSPORT_ID, write_varint};
use roomkeeper::room::{Blueprint, RoomRng};

const STEP: Duration = Duration::from_millis(50);

struct Host {
    shard: Shard,
    issuer: TokenIssuer,
    address: SocketAddr,
    now: Duration,
    events: Vec<GatewayEvent>,
}

fn config(bind: &str, access: Access) -> ShardConfig {
    ShardConfig { bind: bind.parse().unwrap(), public_addresses: Vec::new(), access, limits: GatewayLimits::default() }
}

impl Host {
    fn new() -> Self {
        let (now, key) = (Duration::from_secs(1_800_000_000), HostKey::random().unwrap());
        let shard = Shard::bind(&config("127.0.0.1:0", Access::Tokens(key)), now).unwrap();
        let address = shard.local_address().unwrap();
        let issuer = TokenIssuer { key, addresses: vec![address], expire_seconds: 30 };
        Self { shard, issuer, address, now, events: Vec::new() }
    }

    fn token(&self, name: &str) -> Vec<u8> {
        self.issuer.issue(EntityId::named(name), name, None, self.now).unwrap()
    }

    fn tick(&mut self, links: &mut [&mut UdpLink]) {
        self.now += STEP;
        for link in &mut *links {
            link.receive(self.now);
            link.flush();
        }
        self.shard.receive(self.now, 100_000);
        self.events.extend(self.shard.drain_events());
        self.shard.flush(self.now);
        self.events.extend(self.shard.drain_events());
    }

    /// A client that is in.
    fn join(&mut self, name: &str) -> (UdpLink, ConnectionId) {
        let mut link = UdpLink::connect(&Credentials::Token(self.token(name)), self.now).unwrap();
        for _ in 0..100 {
            self.tick(&mut [&mut link]);
            let connected = self.events.iter().find_map(|event| match event {
                GatewayEvent::Connected(id, admission) if admission.name == name => Some(*id),
                _ => None,
            });
            if let Some(id) = connected.filter(|_| link.status() == LinkStatus::Connected) {
                return (link, id);
            }
        }
        panic!("{name} is not in: {:?}", self.shard.counters());
    }

    /// Throws raw datagrams at the host.
    fn throw(&mut self, socket: &UdpSocket, datagrams: impl IntoIterator<Item = Vec<u8>>) {
        for datagram in datagrams {
            socket.send_to(&datagram, self.address).unwrap();
            self.shard.receive(self.now, 1_000);
        }
        self.shard.receive(self.now, 1_000);
        self.events.extend(self.shard.drain_events());
    }

    fn counters(&self) -> GatewayCounters {
        self.shard.counters()
    }

    /// The host and a client still talk, both ways, in order.
    fn assert_unharmed(&mut self, link: &mut UdpLink, id: ConnectionId) {
        for n in 0..20_u8 {
            link.send(Bytes::from(vec![n; 9])).unwrap();
            self.tick(&mut [link]);
            assert!(self.shard.send_packet(id, &[16, n]));
        }
        for _ in 0..10 {
            self.tick(&mut [link]);
        }
        let heard: Vec<u8> = self
            .events
            .drain(..)
            .filter_map(|event| match event {
                GatewayEvent::Message(from, bytes) if from == id && bytes.len() == 9 => Some(bytes[0]),
                _ => None,
            })
            .collect();
        assert_eq!(heard, (0..20).collect::<Vec<_>>());
        let told: Vec<u8> = std::iter::from_fn(|| link.next_packet()).map(|packet| packet[1]).collect();
        assert_eq!(told, (0..20).collect::<Vec<_>>());
        assert_eq!(self.counters().panics_caught, 0);
    }
}

fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

fn crashing() -> Vec<Vec<u8>> {
    let mut short = vec![0; 18];
    short[0] = 0x85;
    let mut last = vec![0xff; 60];
    last[0] = 0x85;
    vec![vec![0xf5; 40], short, last]
}

/// A client that speaks the transport itself, so that it can send what no honest client sends.
struct Cheat {
    netcode: NetcodeClient,
    socket: UdpSocket,
    /// What it sent to get in.
    said: Vec<Vec<u8>>,
}

impl Cheat {
    fn join(host: &mut Host, name: &str) -> Self {
        let connect_token = ConnectToken::read(&mut std::io::Cursor::new(host.token(name))).unwrap();
        let netcode = NetcodeClient::new(host.now, ClientAuthentication::Secure { connect_token }).unwrap();
        let mut cheat = Self { netcode, socket: socket(), said: Vec::new() };
        cheat.socket.set_nonblocking(true).unwrap();
        for _ in 0..100 {
            if let Some((datagram, address)) = cheat.netcode.update(STEP) {
                cheat.socket.send_to(datagram, address).unwrap();
                cheat.said.push(datagram.to_vec());
            }
            host.tick(&mut []);
            let mut buffer = [0; 2_048];
            while let Ok((size, _)) = cheat.socket.recv_from(&mut buffer) {
                cheat.netcode.process_packet(&mut buffer[..size]);
            }
            if cheat.netcode.is_connected() {
                return cheat;
            }
        }
        panic!("the cheat is not in");
    }

    fn seal(&mut self, payload: &[u8]) -> Vec<u8> {
        self.netcode.generate_payload_packet(payload).unwrap().1.to_vec()
    }
}

#[test]
fn datagrams_that_crash_the_bare_transport_are_dropped_from_strangers_and_from_players() {
    let mut host = Host::new();
    let (mut ann, id) = host.join("ann");
    let cheat = Cheat::join(&mut host, "cheat");
    host.throw(&socket(), crashing());
    host.throw(&cheat.socket, crashing());
    assert_eq!(host.counters().malformed, 6);
    host.assert_unharmed(&mut ann, id);
}

#[test]
fn malformed_oversized_and_truncated_datagrams_are_counted() {
    let mut host = Host::new();
    let (mut ann, id) = host.join("ann");
    let mut cheat = Cheat::join(&mut host, "cheat");
    let sealed = cheat.seal(&[4, 1, 1, 0, 0]);
    let cut = (18..sealed.len()).map(|size| sealed[..size].to_vec());
    let before = host.counters();
    host.throw(&cheat.socket, cut);
    host.throw(&socket(), [Vec::new(), vec![1], vec![0; 17], vec![7; 1_401], vec![5; 2_000], vec![0x0f; 100], vec![0; 1_077]]);
    let after = host.counters();
    assert_eq!(after.malformed - before.malformed, 7);
    assert!(after.unusable > before.unusable);
    host.assert_unharmed(&mut ann, id);
}

#[test]
fn packets_beside_the_channels_go_both_ways_and_never_to_who_is_not_in() {
    let mut host = Host::new();
    let mut ann = UdpLink::connect(&Credentials::Token(host.token("ann")), host.now).unwrap();
    assert!(!ann.send_packet(&[16, 1]), "before the handshake");
    assert!(!host.shard.send_packet(ConnectionId(7), &[16, 1]), "to nobody");
    let (mut bob, id) = host.join("bob");
    assert!(!host.shard.send_packet(id, &[16, 1]), "to who does not know yet that it is in");
    let sizes = [1, 2, 700, RAW_BYTES_MAX];
    sizes.iter().for_each(|size| assert!(bob.send_packet(&vec![31; *size])));
    host.tick(&mut [&mut bob, &mut ann]);
    sizes.iter().for_each(|size| assert!(host.shard.send_packet(id, &vec![16; *size])));
    let (head, body) = ([20, 1], [2; RAW_BYTES_MAX - 2]);
    assert!(host.shard.send_packet_parts(id, &[&head, &body]));
    for bad in [vec![], vec![15], vec![32], vec![0, 0], vec![16; RAW_BYTES_MAX + 1]] {
        assert!(!bob.send_packet(&bad) && !host.shard.send_packet(id, &bad) && !host.shard.send_packet_parts(id, &[&bad]));
    }
    host.shard.send_all();
    host.tick(&mut [&mut bob]);
    let heard = host.events.iter().filter_map(|event| match event {
        GatewayEvent::Packet(from, packet) if *from == id => Some((packet[0], packet.len())),
        _ => None,
    });
    assert_eq!(heard.collect::<Vec<_>>(), [(31, 1), (31, 2), (31, 700), (31, RAW_BYTES_MAX)]);
    let told: Vec<_> = std::iter::from_fn(|| bob.next_packet()).map(|packet| (packet[0], packet.len())).collect();
    assert_eq!(told, [(16, 1), (16, 2), (16, 700), (16, RAW_BYTES_MAX), (20, RAW_BYTES_MAX)]);
    assert_eq!((host.counters().packets_in, host.counters().packets_out), (4, 5));
    host.assert_unharmed(&mut bob, id);
}

#[test]
fn packets_of_a_cheat_are_bounded_in_size_and_number_and_not_taken_twice() {
    let mut host = Host::new();
    let (mut ann, id) = host.join("ann");
    let mut cheat = Cheat::join(&mut host, "cheat");
    let too_long = [cheat.seal(&[16; RAW_BYTES_MAX + 1]), cheat.seal(&[16; 1_300]), cheat.seal(&[])];
    host.throw(&cheat.socket, too_long);
    assert_eq!((host.counters().payloads_refused, host.counters().packets_in), (3, 0));
    let sealed = cheat.seal(&[16, 1, 2, 3]);
    let mut forged = sealed.clone();
    forged[6] ^= 1;
    host.throw(&cheat.socket, vec![forged, sealed.clone(), sealed.clone(), sealed]);
    assert_eq!(host.counters().packets_in, 1);
    let flood: Vec<Vec<u8>> = (0..200).map(|_| cheat.seal(&[16; 1_000])).collect();
    host.throw(&cheat.socket, flood);
    assert!(host.counters().packets_in <= 64 && host.counters().rate_limited > 100, "{:?}", host.counters());
    host.tick(&mut [&mut ann]);
    host.assert_unharmed(&mut ann, id);
}

#[test]
fn what_others_send_from_a_players_address_takes_nothing_of_what_it_may_say() {
    let mut host = Host::new();
    let (mut ann, id) = host.join("ann");
    // For the host a datagram with a forged source looks as if it came from this socket.
    let mut player = Cheat::join(&mut host, "player");
    host.throw(&player.socket, (0..200).map(|n| [vec![0x15_u8, n], vec![0; 38]].concat()));
    let own = player.seal(&[16, 1, 2, 3]);
    host.throw(&player.socket, [own]);
    assert_eq!((host.counters().packets_in, host.counters().rate_limited), (1, 0), "{:?}", host.counters());
    host.assert_unharmed(&mut ann, id);
}

#[test]
fn of_what_others_send_from_a_players_address_only_so_much_is_deciphered() {
    let mut host = Host::new();
    let (mut ann, id) = host.join("ann");
    let player = Cheat::join(&mut host, "player");
    host.throw(&player.socket, (0..2_000).map(|_| [vec![0x15_u8, 200], vec![0; 38]].concat()));
    let counters = host.counters();
    assert!(counters.rate_limited >= 900 && counters.unusable >= 1_000, "{counters:?}");
    host.assert_unharmed(&mut ann, id);
}

#[test]
fn a_stranger_without_a_session_is_not_heard() {
    let mut host = Host::new();
    host.throw(&socket(), (0..50).map(|n| vec![0x15, n, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]));
    assert_eq!(host.counters().unknown_address, 50);
}

#[test]
fn a_replayed_datagram_counts_once() {
    let mut host = Host::new();
    let (mut ann, id) = host.join("ann");
    let mut cheat = Cheat::join(&mut host, "cheat");
    let sealed = cheat.seal(&[0, 0, 0, 0, 1, 0, 3, 7, 8, 9]);
    host.throw(&cheat.socket, vec![sealed; 10]);
    let heard = host.events.iter().filter(|event| matches!(event, GatewayEvent::Message(_, bytes) if bytes[..] == [7, 8, 9])).count();
    assert_eq!(heard, 1);
    assert_eq!(host.counters().unusable, 9);
    host.assert_unharmed(&mut ann, id);
}

#[test]
fn payloads_that_no_client_sends_are_refused() {
    let mut host = Host::new();
    let (mut ann, id) = host.join("ann");
    let mut cheat = Cheat::join(&mut host, "cheat");
    let mut slice = vec![2, 1, 0, 0, 5, 2, 0x44, 0xb0];
    slice.resize(slice.len() + 1_200, 7);
    let bad: [&[u8]; 7] = [
        &slice,
        &[0, 1, 0, 0, 1, 0, 0],                                          // an empty message
        &[0, 1, 9, 0, 1, 0, 1, 7],                                       // another channel
        &[0, 1, 0, 0, 2, 0, 1, 7],                                       // fewer messages than said
        &[0, 0xff, 255, 255, 255, 255, 255, 255, 255, 0, 0, 1, 0, 1, 7], // a number from nowhere
        &[9, 1],                                                         // another kind
        &[],
    ];
    for payload in bad {
        let sealed = cheat.seal(payload);
        host.throw(&cheat.socket, [sealed]);
    }
    assert_eq!(host.counters().payloads_refused + host.counters().unusable, bad.len() as u64);
    assert!(host.counters().payloads_refused >= 6, "{:?}", host.counters());
    host.assert_unharmed(&mut ann, id);
}

#[test]
fn a_flood_of_one_player_ends_with_its_share_of_the_tick() {
    let mut host = Host::new();
    let (mut ann, id) = host.join("ann");
    let mut cheat = Cheat::join(&mut host, "cheat");
    let flood: Vec<Vec<u8>> = (0..500_u16).map(|n| cheat.seal(&[1, 0x40 | (n >> 8) as u8, n as u8, 1, 0, 1, 2, 7, 7])).collect();
    host.throw(&cheat.socket, flood);
    let counters = host.counters();
    assert!(counters.rate_limited >= 400, "{counters:?}");
    host.assert_unharmed(&mut ann, id);
}

#[test]
fn a_flood_of_requests_meets_the_limit() {
    let mut host = Host::new();
    let (mut ann, id) = host.join("ann");
    host.throw(&socket(), (0..3_000).map(|_| vec![0; 1_078]));
    let counters = host.counters();
    assert!(counters.requests_limited >= 2_400, "{counters:?}");
    host.assert_unharmed(&mut ann, id);
}

/// Whether somebody gets in with a token, within 20 s.
fn gets_in(host: &mut Host, token: Vec<u8>) -> bool {
    let mut link = UdpLink::connect(&Credentials::Token(token), host.now).unwrap();
    for _ in 0..400 {
        host.tick(&mut [&mut link]);
        match link.status() {
            LinkStatus::Connected => return true,
            LinkStatus::Disconnected(_) => return false,
            LinkStatus::Connecting => {}
        }
    }
    false
}

#[test]
fn tokens_of_another_key_another_transport_or_another_time_do_not_let_in() {
    let mut host = Host::new();
    let other_key = TokenIssuer { key: HostKey::random().unwrap(), ..host.issuer.clone() };
    let forged = other_key.issue(EntityId::named("eve"), "eve", None, host.now).unwrap();
    assert!(!gets_in(&mut host, forged));
    let late = host.token("late");
    host.now += Duration::from_secs(60);
    host.tick(&mut []);
    assert!(!gets_in(&mut host, late));
    let admission = Admission { client_id: 9, player: EntityId::named("eve"), name: "eve".into(), room: None };
    let user_data = admission.encode().unwrap();
    let key = host.issuer.key.0;
    let other = ConnectToken::generate(host.now, TRANSPORT_ID + 1, 30, 9, 5, vec![host.address], Some(&user_data), &key).unwrap();
    let mut bytes = Vec::new();
    other.write(&mut bytes).unwrap();
    assert!(!gets_in(&mut host, bytes));
    let good = host.token("ann");
    assert!(gets_in(&mut host, good));
}

#[test]
fn a_token_lets_in_from_one_address_only_and_an_identity_must_be_its_own() {
    let mut host = Host::new();
    let token = host.token("ann");
    let mut first = UdpLink::connect(&Credentials::Token(token.clone()), host.now).unwrap();
    for _ in 0..10 {
        host.tick(&mut [&mut first]);
    }
    assert_eq!(first.status(), LinkStatus::Connected);
    assert!(!gets_in(&mut host, token));
    // Somebody's issuer made a token whose inside says another connection.
    let admission = Admission { client_id: 1, player: EntityId::named("eve"), name: "eve".into(), room: None };
    let user_data = admission.encode().unwrap();
    let key = host.issuer.key.0;
    let forged = ConnectToken::generate(host.now, TRANSPORT_ID, 30, 2, 5, vec![host.address], Some(&user_data), &key).unwrap();
    let mut bytes = Vec::new();
    forged.write(&mut bytes).unwrap();
    gets_in(&mut host, bytes);
    assert_eq!(host.counters().forged, 1);
    assert_eq!(host.shard.connections().len(), 0, "ann was silent for 20 s meanwhile; eve never got in");
}

#[test]
fn a_conversation_that_was_recorded_is_not_heard_a_second_time() {
    let mut host = Host::new();
    let (mut ann, id) = host.join("ann");
    let mut player = Cheat::join(&mut host, "player");
    let order = player.seal(&[16, 1, 2, 3]);
    host.throw(&player.socket, [order.clone()]);
    let goodbye = player.netcode.disconnect().unwrap().1.to_vec();
    host.throw(&player.socket, [goodbye]);
    assert_eq!((host.counters().packets_in, host.shard.connections().len()), (1, 1), "ann alone is there");
    // From the address from which it was said: whoever is on the way can write it on a datagram.
    host.throw(&player.socket, player.said.clone());
    host.throw(&player.socket, [order]);
    assert_eq!((host.counters().packets_in, host.shard.connections().len()), (1, 1), "{:?}", host.counters());
    assert!(host.counters().duplicates >= 1, "{:?}", host.counters());
    host.assert_unharmed(&mut ann, id);
}

#[test]
fn a_token_lets_in_once_also_who_comes_again_from_the_same_address() {
    let mut host = Host::new();
    let credentials = Credentials::Token(host.token("ann"));
    let mut ann = UdpLink::connect(&credentials, host.now).unwrap();
    let connect = |host: &mut Host, ann: &mut UdpLink| {
        for _ in 0..40 {
            host.tick(&mut [&mut *ann]);
        }
        ann.status() == LinkStatus::Connected
    };
    assert!(connect(&mut host, &mut ann));
    ann.disconnect();
    host.tick(&mut []);
    assert_eq!(host.shard.connections().len(), 0);
    ann.restart(&credentials, host.now).unwrap();
    assert!(!connect(&mut host, &mut ann));
    assert_eq!((host.counters().connected, host.counters().duplicates > 0), (1, true), "{:?}", host.counters());
    let another = Credentials::Token(host.token("ann"));
    ann.restart(&another, host.now).unwrap();
    assert!(connect(&mut host, &mut ann));
}

#[test]
fn a_silent_client_is_gone_after_the_time_out_and_forged_requests_do_not_hide_it() {
    let mut host = Host::new();
    let cheat = Cheat::join(&mut host, "silent");
    for _ in 0..130 {
        host.throw(&cheat.socket, [vec![0; 1_078]]);
        host.tick(&mut []);
    }
    assert!(host.counters().requests_while_connected > 80);
    assert!(host.events.iter().any(|event| matches!(event, GatewayEvent::Disconnected(_, Gone::Lost))));
}

#[test]
fn without_tokens_only_the_loopback_is_open() {
    let now = Duration::from_secs(1_800_000_000);
    assert!(matches!(Shard::bind(&config("0.0.0.0:0", Access::Loopback), now), Err(BindError::Unauthenticated(_))));
    assert!(Shard::bind(&config("127.0.0.1:0", Access::Loopback), now).is_ok());
    assert!(Shard::bind(&config("0.0.0.0:0", Access::Anybody), now).is_ok());
}

#[test]
fn noise_stops_neither_the_host_nor_its_players() {
    let mut host = Host::new();
    let (mut ann, id) = host.join("ann");
    let mut cheat = Cheat::join(&mut host, "cheat");
    let mut rng = RoomRng::new(11);
    let stranger = socket();
    for round in 0..200 {
        let mut noise = Vec::new();
        for _ in 0..20 {
            let bytes: Vec<u8> = (0..rng.range(0..60)).map(|_| rng.next_u32() as u8).collect();
            noise.push(if rng.chance(0.7) && !bytes.is_empty() { cheat.seal(&bytes) } else { bytes });
        }
        host.throw(if round % 3 == 0 { &stranger } else { &cheat.socket }, noise);
        host.tick(&mut [&mut ann]);
    }
    host.events.clear();
    host.assert_unharmed(&mut ann, id);
}

/// Nothing but a mark: on the wire it takes no byte.
#[derive(bevy_ecs::component::Component, serde::Serialize, serde::Deserialize)]
struct Mark;

fn protocol() -> std::sync::Arc<Protocol> {
    let protocol = |app: &mut bevy_app::App| {
        app.sync::<Mark>("mark");
    };
    Blueprint::new(protocol, |_| {}).protocol()
}

fn numbers(numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut out = Vec::new();
    numbers.into_iter().for_each(|number| write_varint(number, &mut out));
    out
}

#[test]
fn a_column_that_costs_nothing_is_not_read_a_thousand_times() {
    let protocol = protocol();
    let mark = protocol.component_names().position(|name| name == "mark").unwrap() as u64;
    let snapshot = |columns: usize| {
        // Tick, next seq; so many entities, one beside the other; a run of minted ones; columns that all of them have.
        let count = 60_000;
        let mut bytes = numbers([7, 1, count]);
        bytes.push(0);
        bytes.resize(bytes.len() + count as usize - 1, 1);
        bytes.extend(numbers([count << 2, 0, columns as u64]));
        bytes.extend(numbers([mark, 0]).repeat(columns));
        State::from_snapshot(&protocol, RoomId::named("moor"), &bytes)
    };
    assert_eq!(snapshot(1).unwrap().entities().len(), 60_000);
    let refused = snapshot(1_000).unwrap_err().to_string();
    assert!(refused.contains("two columns"), "{refused}");
}

#[test]
fn a_stored_batch_that_tells_of_more_facts_than_there_can_be_is_refused() {
    let protocol = protocol();
    let mut state = State::new(RoomId::named("moor"));
    // Tick 1, facts: the first has the number 1, and of them there are as many as a number can say.
    let batch = [&[1, 8, 1, 255][..], &[0xff; 8]].concat();
    let refused = state.fold(&protocol, &batch).unwrap_err().to_string();
    assert!(refused.contains("facts is 18446744073709551615"), "{refused}");
}

#[test]
fn a_token_that_expires_before_it_was_made_is_refused() {
    let host = Host::new();
    let mut token = host.token("ann");
    assert!(UdpLink::connect(&Credentials::Token(token.clone()), host.now).is_ok());
    // The client's number, the version, the transport's id; then when it was made.
    token[29..37].fill(0xff);
    assert!(UdpLink::connect(&Credentials::Token(token), host.now).is_err());
}
