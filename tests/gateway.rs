//! The gateway and the client's end: what an idle connection costs, and that all gets through.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::time::Duration;

use bytes::Bytes;
use roomkeeper::client::{Credentials, LinkStatus, UdpLink};
use roomkeeper::host::ConnectionId;
use roomkeeper::host::gateway::{Access, GatewayCounters, GatewayEvent, GatewayLimits, Shard, ShardConfig};
use roomkeeper::net::{LinkedSocket, MemoryNetwork};
use roomkeeper::prelude::EntityId;
use roomkeeper::protocol::{Admission, Channel};

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
    /// What the host heard and what the client was told.
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
        self.told.extend(std::iter::from_fn(|| self.link.next_message()));
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
fn an_idle_connection_sends_only_keep_alives() {
    let mut pair = Pair::over_loopback().join();
    let id = pair.connected.unwrap();
    for n in 0..20_u8 {
        pair.link.send(Channel::Ordered, Bytes::from(vec![n; 40])).unwrap();
        pair.shard.send(id, Channel::Ordered, Bytes::from(vec![n; 5_000]));
        pair.shard.send(id, Channel::Latest, Bytes::from(vec![n; 100]));
        pair.tick();
    }
    pair.ticks(20);
    assert_eq!((pair.heard.len(), pair.told.len()), (20, 40));
    let before = pair.shard.counters();
    // Ten seconds in which nobody says anything: a keep-alive each way every 250 ms.
    pair.ticks(200);
    let after = pair.shard.counters();
    let (sent, came) = (after.datagrams_out - before.datagrams_out, after.datagrams_in - before.datagrams_in);
    assert!((39..=41).contains(&sent) && (39..=41).contains(&came), "{sent} out, {came} in");
    // One message: itself, its acknowledgement, and no answer to that.
    pair.shard.send(id, Channel::Ordered, Bytes::from_static(b"news"));
    pair.ticks(200);
    let last = pair.shard.counters();
    let (sent, came) = (last.datagrams_out - after.datagrams_out, last.datagrams_in - after.datagrams_in);
    assert!(sent <= 43 && came <= 42, "{sent} out, {came} in");
    assert_eq!(pair.told.len(), 41);
}

/// What arrives of what both ends say over a link, and what the host counted.
fn conversation(conditions: &str, seed: u64) -> (usize, usize, GatewayCounters) {
    let mut pair = Pair::over_link(conditions, seed).join();
    let id = pair.connected.unwrap();
    for n in 0..100_u8 {
        pair.link.send(Channel::Ordered, Bytes::from(vec![n; 40])).unwrap();
        pair.shard.send(id, Channel::Ordered, Bytes::from(vec![n; 2_000]));
        pair.shard.send_packet(id, &[16, n]);
        pair.tick();
    }
    pair.ticks(200);
    let heard: Vec<u8> = pair.heard.iter().map(|message| message[0]).collect();
    let told: Vec<u8> = pair.told.iter().map(|message| message[0]).collect();
    assert!(heard == (0..100).collect::<Vec<u8>>() && told == heard, "{heard:?} {told:?}");
    let packets: Vec<u8> = std::iter::from_fn(|| pair.link.next_packet()).map(|packet| packet[1]).collect();
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
