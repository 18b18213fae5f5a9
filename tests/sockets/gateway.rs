//! The gateway and the client's end: what an idle connection costs, and that all gets through.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::time::Duration;

use bytes::Bytes;
use renetcode::{ClientAuthentication, ConnectToken, NetcodeClient};
use roomkeeper::client::{Credentials, LinkStatus, UdpLink, unix_time};
use roomkeeper::host::ConnectionId;
use roomkeeper::host::gateway::{Access, BindError, Gateway, GatewayCounters, GatewayEvent, GatewayLimits, Shard, ShardConfig};
use roomkeeper::net::{DatagramSocket, LinkedSocket, MemoryNetwork};
use roomkeeper::prelude::EntityId;
use roomkeeper::protocol::{Admission, TRANSPORT_ID};

const STEP: Duration = Duration::from_millis(50);
const START: Duration = Duration::from_secs(1_800_000_000);

fn config() -> ShardConfig {
    let bind = "127.0.0.1:0".parse().unwrap();
    ShardConfig { bind, public_addresses: Vec::new(), access: Access::Loopback, limits: GatewayLimits::default() }
}

fn admission(client_id: u64) -> Admission {
    let name = format!("player{client_id}");
    Admission { client_id, player: EntityId::named(&name), name, room: None }
}

/// A shard and one client, in a time of their own.
struct Pair {
    shard: Shard,
    link: UdpLink,
    now: Duration,
    /// What the host heard, and the packets that the client was told by.
    heard: Vec<Bytes>,
    told: Vec<Bytes>,
    connected: Option<ConnectionId>,
}

impl Pair {
    fn over_loopback() -> Self {
        let shard = Shard::bind(&config(), START).unwrap();
        let credentials = Credentials::Unauthenticated { server: shard.local_address().unwrap(), admission: admission(1) };
        Self::new(shard, UdpLink::connect(&credentials, START).unwrap())
    }

    /// In memory, with a link between, which the host's end has.
    fn over_link(conditions: &str, seed: u64) -> Self {
        let network = MemoryNetwork::new();
        let socket = Box::new(network.bind("10.0.0.1:5000".parse().unwrap()).unwrap());
        let socket = Box::new(LinkedSocket::new(socket, conditions.parse().unwrap(), seed));
        let shard = Shard::over(socket, &config(), START).unwrap();
        let credentials = Credentials::Unauthenticated { server: shard.local_address().unwrap(), admission: admission(1) };
        let socket = Box::new(network.bind("10.0.0.2:0".parse().unwrap()).unwrap());
        Self::new(shard, UdpLink::connect_over(socket, &credentials, START).unwrap())
    }

    fn new(shard: Shard, link: UdpLink) -> Self {
        Self { shard, link, now: START, heard: Vec::new(), told: Vec::new(), connected: None }
    }

    fn tick(&mut self) {
        self.now += STEP;
        self.link.receive(self.now);
        self.told.extend(std::iter::from_fn(|| self.link.next_packet()));
        self.link.flush();
        self.shard.receive(self.now, 1_000);
        for event in self.shard.drain_events() {
            match event {
                GatewayEvent::Connected(id, _) => self.connected = Some(id),
                GatewayEvent::Message(_, message) | GatewayEvent::Packet(_, message) => self.heard.push(message),
                GatewayEvent::Disconnected(..) => self.connected = None,
            }
        }
        self.shard.flush(self.now);
    }

    fn join(mut self) -> Self {
        for _ in 0..200 {
            self.tick();
            if self.link.status() == LinkStatus::Connected && self.connected.is_some() {
                return self;
            }
        }
        panic!("not in: {:?}", self.shard.counters());
    }

    fn ticks(&mut self, count: u32) {
        (0..count).for_each(|_| self.tick());
    }
}

#[test]
fn what_waited_for_a_client_whose_frame_hung_was_no_silence() {
    let mut pair = Pair::over_loopback().join();
    let id = pair.connected.unwrap();
    pair.ticks(20);
    let hung = pair.now + Duration::from_secs(4);
    while pair.now < hung {
        pair.now += STEP;
        pair.shard.receive(pair.now, 1_000);
        pair.shard.send_packet(id, &[16, 1]);
        pair.shard.flush(pair.now);
    }
    pair.link.receive(pair.now);
    assert!(pair.link.silence() < Duration::from_millis(500), "{:?}", pair.link.silence());
    pair.ticks(20);
    assert!(pair.link.status() == LinkStatus::Connected && pair.connected.is_some());
    // What nobody says is.
    let silent = pair.now + Duration::from_secs(2);
    while pair.now < silent {
        pair.now += STEP;
        pair.link.receive(pair.now);
    }
    assert!(pair.link.silence() > Duration::from_millis(1_500), "{:?}", pair.link.silence());
}

#[test]
fn an_idle_connection_sends_only_keep_alives() {
    let mut pair = Pair::over_loopback().join();
    let id = pair.connected.unwrap();
    for n in 0..20_u8 {
        pair.link.send(Bytes::from(vec![n; 40])).unwrap();
        pair.shard.send_packet(id, &[16, n]);
        pair.tick();
    }
    pair.ticks(20);
    // The first packet was for a client that had said nothing yet, so it was kept back.
    assert_eq!((pair.heard.len(), pair.told.len()), (20, 19));
    let before = pair.shard.counters();
    // Ten seconds in which nobody says anything: a keep-alive each way every 250 ms.
    pair.ticks(200);
    let after = pair.shard.counters();
    let (sent, came) = (after.datagrams_out - before.datagrams_out, after.datagrams_in - before.datagrams_in);
    assert!((39..=41).contains(&sent) && (39..=41).contains(&came), "{sent} out, {came} in");
    // One message: itself, its acknowledgement, and no answer to that.
    pair.link.send(Bytes::from_static(b"news")).unwrap();
    pair.ticks(200);
    let last = pair.shard.counters();
    let (sent, came) = (last.datagrams_out - after.datagrams_out, last.datagrams_in - after.datagrams_in);
    assert!(sent <= 42 && came <= 42, "{sent} out, {came} in");
    assert_eq!(pair.heard.len(), 21);
}

/// What arrives of what both ends say over a link, and what the host counted.
fn conversation(conditions: &str, seed: u64) -> (usize, usize, GatewayCounters) {
    let mut pair = Pair::over_link(conditions, seed).join();
    let id = pair.connected.unwrap();
    for n in 0..100_u8 {
        pair.link.send(Bytes::from(vec![n; 40])).unwrap();
        pair.shard.send_packet(id, &[16, n]);
        pair.tick();
    }
    pair.ticks(200);
    let heard: Vec<u8> = pair.heard.iter().map(|message| message[0]).collect();
    assert!(heard == (0..100).collect::<Vec<u8>>(), "{heard:?}");
    let packets: Vec<u8> = pair.told.iter().map(|packet| packet[1]).collect();
    let mut once = packets.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), packets.len(), "a packet came twice: {packets:?}");
    (packets.len(), packets.windows(2).filter(|pair| pair[0] > pair[1]).count(), pair.shard.counters())
}

#[test]
fn over_a_bad_link_messages_all_arrive_once_and_packets_at_most_once() {
    let bad = "loss=10%,rtt=120ms,jitter=60ms,dup=5%,reorder=5%,rate=1024kbit";
    let (packets, overtaken, counters) = conversation(bad, 7);
    assert!((75..100).contains(&packets) && overtaken > 0, "{packets} packets, {overtaken} overtaken");
    assert_eq!(conversation(bad, 7), (packets, overtaken, counters), "the same seed gives the same");
    assert_ne!(conversation(bad, 8).2, counters);
    // The first was for a client that had said nothing yet, so it was kept back.
    assert_eq!(conversation("", 7).0, 99, "a perfect link loses nothing");
}

/// A gateway with threads, in real time, that counts messages and says packets back.
struct Busy {
    gateway: Gateway,
    clients: Vec<UdpLink>,
    inside: usize,
    came: usize,
}

impl Busy {
    fn new(gateway: Gateway) -> Self {
        Self { gateway, clients: Vec::new(), inside: 0, came: 0 }
    }

    fn credentials(&self, number: usize) -> Credentials {
        let admission = admission(number as u64 + 1);
        Credentials::Unauthenticated { server: self.gateway.local_address().unwrap(), admission }
    }

    fn join(&mut self, count: usize) {
        for number in 0..count {
            let link = UdpLink::connect(&self.credentials(number), unix_time()).unwrap();
            self.clients.push(link);
        }
    }

    fn round(&mut self) {
        let now = unix_time();
        self.gateway.receive(now, 100_000);
        let events: Vec<_> = self.gateway.drain_events().collect();
        // Who said something and went in the same round can't be answered.
        let gone = |event: &GatewayEvent| if let GatewayEvent::Disconnected(id, _) = event { Some(*id) } else { None };
        let gone: Vec<ConnectionId> = events.iter().filter_map(gone).collect();
        for event in events {
            match event {
                GatewayEvent::Connected(..) => self.inside += 1,
                GatewayEvent::Disconnected(..) => self.inside -= 1,
                GatewayEvent::Message(_, message) => {
                    assert_eq!(message.len(), 100);
                    self.came += 1;
                }
                GatewayEvent::Packet(id, packet) => {
                    assert!(self.gateway.send_packet_parts(id, &[&packet[..1], &packet[1..]]) || gone.contains(&id));
                }
            }
        }
        self.gateway.flush(now);
        for client in &mut self.clients {
            client.receive(now);
            client.flush();
        }
        std::thread::sleep(Duration::from_millis(10));
    }

    /// Rounds until something is so, or too long.
    fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        for _ in 0..1_500 {
            if is_so(self) {
                return;
            }
            self.round();
        }
        panic!("not so: {what}; {} inside, {} came, {:?}", self.inside, self.came, self.gateway.counters());
    }

    /// Every client says something over the channel, which is heard, and beside it, which it hears again.
    fn talk(&mut self, word: u8) {
        let mut answered = vec![false; self.clients.len()];
        let all = self.came + self.clients.len();
        for client in &mut self.clients {
            client.send(Bytes::from(vec![word; 100])).unwrap();
        }
        self.until("everybody was heard and answered", |busy| {
            for (client, answered) in busy.clients.iter_mut().zip(&mut answered) {
                *answered |= std::iter::from_fn(|| client.next_packet()).any(|packet| packet[..] == [20, word]);
                // Beside the channel a word may get lost, so it is said again.
                if !*answered {
                    client.send_packet(&[20, word]);
                }
            }
            busy.came == all && answered.iter().all(|answered| *answered)
        });
    }
}

#[test]
fn two_threads_share_a_port_and_three_hundred_clients() {
    let mut busy = Busy::new(Gateway::bind(&config(), 2, unix_time).unwrap());
    busy.join(300);
    busy.until("all are in", |busy| busy.inside == 300 && busy.clients.iter().all(|link| link.status() == LinkStatus::Connected));
    let shares = busy.gateway.clients_per_thread();
    assert!(shares.len() == 2 && shares.iter().all(|share| *share > 80), "{shares:?}");
    busy.talk(1);
    busy.talk(2);
    assert_eq!(busy.came, 600);
    // A second gateway does not slip in beside the first.
    let bind = busy.gateway.local_address().unwrap();
    for threads in [0, 1, 2] {
        assert!(matches!(Gateway::bind(&ShardConfig { bind, ..config() }, threads, unix_time), Err(BindError::Socket { .. })));
    }
    let someone = busy.gateway.connections()[7];
    busy.gateway.disconnect(someone);
    busy.clients[3].disconnect();
    busy.until("two are gone", |busy| busy.inside == 298);
    assert!(!busy.gateway.send_packet(someone, &[16]));
    assert_eq!(busy.gateway.counters().panics_caught, 0);
}

#[test]
fn a_full_thread_refuses() {
    let mut config = config();
    config.limits.clients_max = 3;
    let mut busy = Busy::new(Gateway::bind(&config, 2, unix_time).unwrap());
    busy.join(40);
    let denied = LinkStatus::Disconnected("server denied connection".to_owned());
    busy.until("all know where they stand", |busy| {
        let let_in = busy.clients.iter().filter(|link| link.status() == LinkStatus::Connected).count();
        busy.inside >= let_in && busy.clients.iter().all(|link| link.status() != LinkStatus::Connecting)
    });
    assert_eq!(busy.inside, 6);
    assert_eq!(busy.clients.iter().filter(|link| link.status() == denied).count(), 34);
    assert!(matches!(Gateway::bind(&config, 17, unix_time), Err(BindError::TooManyThreads(17))));
}

#[test]
fn a_client_that_the_system_gives_to_another_thread_stays_connected() {
    let network = MemoryNetwork::new();
    let address = "10.0.0.1:5000".parse().unwrap();
    let open = |_| -> Box<dyn DatagramSocket> { Box::new(network.bind_shared(address).unwrap()) };
    let mut busy = Busy::new(Gateway::over((0..3).map(open).collect(), &config(), unix_time).unwrap());
    for number in 0..30 {
        let socket = Box::new(network.bind("10.0.0.2:0".parse().unwrap()).unwrap());
        let link = UdpLink::connect_over(socket, &busy.credentials(number), unix_time()).unwrap();
        busy.clients.push(link);
    }
    // Some are half-way in when it happens for the first time.
    (0..3).for_each(|_| busy.round());
    network.turn(address);
    busy.until("all are in", |busy| busy.inside == 30 && busy.clients.iter().all(|link| link.status() == LinkStatus::Connected));
    busy.talk(1);
    let before = busy.gateway.counters().forwarded;
    for word in 2..5 {
        network.turn(address);
        busy.talk(word);
    }
    let counters = busy.gateway.counters();
    assert!(counters.forwarded >= before + 60, "{counters:?}");
    assert_eq!((busy.inside, busy.came, counters.disconnected, counters.unknown_address), (30, 120, 0, 0));
}

#[test]
fn one_token_lets_in_one_client_whichever_thread_it_comes_to() {
    let network = MemoryNetwork::new();
    let address = "10.0.0.1:5000".parse().unwrap();
    let open = |_| -> Box<dyn DatagramSocket> { Box::new(network.bind_shared(address).unwrap()) };
    let mut busy = Busy::new(Gateway::over((0..2).map(open).collect(), &config(), unix_time).unwrap());
    let credentials = busy.credentials(0);
    for host in ["10.0.0.2:7000", "10.0.0.2:7001"] {
        let socket = Box::new(network.bind(host.parse().unwrap()).unwrap());
        busy.clients.push(UdpLink::connect_over(socket, &credentials, unix_time()).unwrap());
    }
    busy.until("both were there", |busy| busy.gateway.counters().connected == 2);
    busy.until("neither is there", |busy| busy.inside == 0 && busy.gateway.counters().disconnected == 2);
    assert_eq!(busy.gateway.counters().duplicates, 1);
}

#[test]
fn strangers_who_ask_for_a_place_for_ever_and_never_take_it_keep_nobody_out_for_long() {
    let (network, address) = (MemoryNetwork::new(), "10.0.0.1:5000".parse().unwrap());
    let mut config = config();
    // As many as the transport remembers at a time, and more.
    (config.limits.pending_max, config.limits.requests_burst) = (10_000, 10_000);
    let mut shard = Shard::over(Box::new(network.bind(address).unwrap()), &config, START).unwrap();
    for nth in 10..4_300_u64 {
        let for_ever = u64::MAX - START.as_secs();
        let connect_token = ConnectToken::generate(START, TRANSPORT_ID, for_ever, nth, 5, vec![address], None, &[0; 32]).unwrap();
        let mut stranger = NetcodeClient::new(START, ClientAuthentication::Secure { connect_token }).unwrap();
        let from = [10, 1, (nth >> 8) as u8, nth as u8];
        let mut socket = network.bind((from, 5_000).into()).unwrap();
        socket.send(stranger.update(STEP).unwrap().0, address).unwrap();
        shard.receive(START, 10);
    }
    let unheard = shard.counters().unusable;
    assert!((1..1_000).contains(&unheard), "it remembers no more: {unheard}");
    let now = START + Duration::from_secs(15);
    shard.flush(now);
    let credentials = Credentials::Unauthenticated { server: address, admission: admission(1) };
    let socket = Box::new(network.bind("10.0.0.2:0".parse().unwrap()).unwrap());
    let link = UdpLink::connect_over(socket, &credentials, now).unwrap();
    let pair = Pair { now, ..Pair::new(shard, link) };
    assert!(pair.join().connected.is_some());
}

#[test]
fn packets_that_leave_at_once_arrive_one_by_one_in_order_and_a_goodbye_behind_them() {
    let mut pair = Pair::over_loopback().join();
    let id = pair.connected.unwrap();
    pair.link.send(Bytes::from_static(b"hello")).unwrap();
    pair.ticks(3);
    let sizes = [900, 900, 900, 20, 900, 1_000, 1_000, 3].into_iter().zip(1..);
    let packets: Vec<Vec<u8>> = sizes.map(|(size, n)| [vec![16], vec![n; size]].concat()).collect();
    let before = pair.shard.counters();
    packets.iter().for_each(|packet| assert!(pair.shard.send_packet(id, packet)));
    pair.shard.send_all();
    let after = pair.shard.counters();
    assert_eq!(after.datagrams_out - before.datagrams_out, 8);
    assert!(after.bytes_out - before.bytes_out >= packets.iter().map(|packet| packet.len() as u64 + 17).sum());
    pair.ticks(3);
    assert_eq!(pair.told, packets);
    // What waits when the connection is closed leaves before that.
    pair.told.clear();
    packets.iter().for_each(|packet| assert!(pair.shard.send_packet(id, packet)));
    pair.shard.disconnect(id);
    pair.shard.flush(pair.now);
    pair.tick();
    assert_eq!(pair.told, packets);
    assert!(matches!(pair.link.status(), LinkStatus::Disconnected(_)));
}
