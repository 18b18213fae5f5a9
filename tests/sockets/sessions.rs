//! Who comes and goes over real UDP: takeover, duplicates, vanishing, flooding, and datagrams lost at the worst moment.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::over_udp;
use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::client::{Connection, ConnectionState, Credentials, LinkStatus, Replica, ReplicaPlugin, UdpLink, issue};
use roomkeeper::host::gateway::{Access, GatewayLimits, Shard, ShardConfig};
use roomkeeper::host::{HostKey, HostLimits, Lobby, TokenIssuer};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{Admission, EntityRemoved, Protocol, Refusal};
use roomkeeper::room::{Blueprint, RoomOptions};
use serde::{Deserialize, Serialize};

const STEP: Duration = Duration::from_millis(50);

#[derive(Component, Serialize, Deserialize)]
struct Beat(u32);
#[derive(Component, Serialize, Deserialize)]
struct Mark(u32);
#[derive(Serialize, Deserialize)]
struct Wave(u32);
#[derive(Clone, Serialize, Deserialize)]
struct Waved(u32);

fn protocol(app: &mut App) {
    app.sync::<Beat>("beat").latest();
    app.sync::<Mark>("mark");
    app.command::<Wave>("wave").stateless_fact::<Waved>("waved");
}

fn rules(app: &mut App) {
    app.decide(|wave: In<Issued<Wave>>| accept(Waved(wave.command.0)));
    // Something changes in every tick, so that every tick has a batch.
    app.add_systems(Startup, |mut commands: Commands| {
        commands.spawn(Beat(0));
    });
    app.add_systems(FixedUpdate, |mut beats: Query<&mut Beat>| beats.iter_mut().for_each(|mut beat| beat.0 += 1));
}

struct Host {
    lobby: Lobby,
    shard: Shard,
    key: Option<HostKey>,
    address: SocketAddr,
    now: Duration,
    facts: Vec<String>,
    waved: Vec<u32>,
}

impl Host {
    /// `tokens`: with connect tokens, or open on the loopback. `public`: the address by which clients reach it, if it is another.
    fn new(tokens: bool, public: Option<SocketAddr>) -> Self {
        let now = Duration::from_secs(1_800_000_000);
        let key = tokens.then(|| HostKey::random().unwrap());
        let access = key.map_or(Access::Loopback, Access::Tokens);
        let bind = SocketAddr::from(([127, 0, 0, 1], 0));
        let public_addresses = public.into_iter().collect();
        let shard = Shard::bind(&ShardConfig { bind, public_addresses, access, limits: GatewayLimits::default() }, now).unwrap();
        let mut lobby = Lobby::new(HostLimits::default(), tokens);
        lobby.begin_epoch(1);
        lobby.open_room(&Blueprint::new(protocol, rules), RoomOptions::named("room")).unwrap();
        let address = public.unwrap_or(shard.local_address().unwrap());
        Self { lobby, shard, key, address, now, facts: Vec::new(), waved: Vec::new() }
    }

    fn credentials(&self, name: &str, client_id: u64) -> Credentials {
        let player = EntityId::named(name);
        match self.key {
            Some(key) => {
                let issuer = TokenIssuer { key, addresses: vec![self.address], expire_seconds: 30 };
                Credentials::Token(issuer.issue(player, name, Some("room"), self.now).unwrap())
            }
            None => {
                let admission = Admission { client_id, player, name: name.to_owned(), room: None };
                Credentials::Unauthenticated { server: self.address, admission }
            }
        }
    }

    fn tick(&mut self) {
        over_udp::receive(&mut self.lobby, &mut self.shard, self.now);
        let report = self.lobby.tick_room("room").unwrap();
        for fact in &report.facts {
            match fact.get::<Waved>() {
                Some(waved) => self.waved.push(waved.0),
                None => self.facts.push(fact.name.to_string()),
            }
        }
        over_udp::send(&mut self.lobby, &mut self.shard, self.now);
    }
}

struct Player {
    app: App,
    link: UdpLink,
    greeted: bool,
    removed: Arc<Mutex<Vec<EntityId>>>,
}

impl Player {
    fn new(host: &Host, name: &str, client_id: u64) -> Self {
        let mut app = App::new();
        app.add_plugins(ReplicaPlugin);
        protocol(&mut app);
        let removed = Arc::new(Mutex::new(Vec::new()));
        let told = removed.clone();
        app.add_observer(move |gone: On<EntityRemoved>| told.lock().unwrap().push(gone.id));
        let link = UdpLink::connect(&host.credentials(name, client_id), host.now).unwrap();
        Self { app, link, greeted: false, removed }
    }

    /// Connects by another socket. Nobody says goodbye by the one before.
    fn reconnect(&mut self, host: &Host, name: &str) {
        (self.link, self.greeted) = (UdpLink::connect(&host.credentials(name, 0), host.now).unwrap(), false);
    }

    fn play(&mut self, now: Duration) {
        self.link.receive(now);
        let world = self.app.world_mut();
        if self.link.status() == LinkStatus::Connected && !self.greeted {
            self.greeted = true;
            world.resource_scope(|world, mut connection: Mut<Connection>| connection.join(world.resource::<Protocol>(), "room", false));
        }
        world.resource_mut::<Connection>().set_now(now);
        while let Some(packet) = self.link.next_packet() {
            world.resource_mut::<Connection>().deliver(packet);
        }
        self.app.update();
        if let Some(report) = self.app.world_mut().resource_mut::<Connection>().next_report() {
            self.link.send_packet(&report);
        }
        while let Some(message) = self.app.world_mut().resource_mut::<Connection>().next_outgoing() {
            let _ = self.link.send(message);
        }
        self.link.flush();
    }

    fn state(&self) -> &ConnectionState {
        self.app.world().resource::<Connection>().state()
    }

    fn tick(&self) -> u32 {
        self.app.world().resource::<Replica>().tick().0
    }

    fn wave(&mut self, number: u32) -> bool {
        issue(self.app.world_mut(), &Wave(number)).is_ok()
    }
}

/// Some ticks of the host and its players.
fn run(host: &mut Host, players: &mut [&mut Player], ticks: u32) {
    for _ in 0..ticks {
        host.now += STEP;
        players.iter_mut().for_each(|player| player.play(host.now));
        host.tick();
    }
}

fn joined(host: &mut Host, name: &str, client_id: u64) -> Player {
    let mut player = Player::new(host, name, client_id);
    for _ in 0..100 {
        run(host, &mut [&mut player], 1);
        if *player.state() == ConnectionState::Live {
            return player;
        }
    }
    panic!("{name} is not in: {}", player.state());
}

fn lives(host: &Host, name: &str) -> bool {
    host.lobby.room("room").unwrap().entity(EntityId::named(name)).is_some()
}

#[test]
fn a_player_who_comes_again_with_a_token_takes_its_own_place_over() {
    let mut host = Host::new(true, None);
    let mut first = joined(&mut host, "ann", 0);
    let mut bob = joined(&mut host, "bob", 0);
    assert!(first.wave(1));
    run(&mut host, &mut [&mut first, &mut bob], 5);
    let mut second = Player::new(&host, "ann", 0);
    run(&mut host, &mut [&mut first, &mut second, &mut bob], 40);
    assert_eq!(*first.state(), ConnectionState::Refused(Refusal::Kicked("you joined from elsewhere".into()), Vec::new()));
    assert_eq!(*second.state(), ConnectionState::Live);
    // The player went on: nobody left, nobody came, and the commands go on where they were.
    assert!(second.wave(2));
    run(&mut host, &mut [&mut second, &mut bob], 5);
    assert_eq!((&host.waved[..], host.facts.iter().filter(|fact| *fact == "user_left").count()), (&[1, 2][..], 0));
    assert!(bob.removed.lock().unwrap().is_empty() && lives(&host, "ann"));
    assert_eq!(host.lobby.member_count("room"), 2);
    assert!(first.link.status() != LinkStatus::Connected, "{:?}", first.link.status());
}

#[test]
fn a_player_whose_network_changed_goes_on_with_what_it_has_over_udp() {
    let mut host = Host::new(true, None);
    let marks = |host: &mut Host, from: u32| {
        let world = host.lobby.room_mut("room").unwrap().world_mut();
        world.spawn_batch((from..from + 100).map(Mark));
    };
    marks(&mut host, 0);
    let mut ann = joined(&mut host, "ann", 0);
    assert!(ann.wave(1));
    run(&mut host, &mut [&mut ann], 20);
    // Nothing is heard of it for 3 s.
    run(&mut host, &mut [], 30);
    marks(&mut host, 1_000);
    run(&mut host, &mut [], 30);
    ann.reconnect(&host, "ann");
    run(&mut host, &mut [&mut ann], 20);
    assert_eq!(*ann.state(), ConnectionState::Live);
    let counters = host.lobby.counters();
    assert_eq!((counters.joined, counters.resumed, counters.resyncs), (2, 1, 0));
    assert!(ann.removed.lock().unwrap().is_empty() && !host.facts.iter().any(|fact| fact == "user_left"));
    assert!(ann.wave(2));
    run(&mut host, &mut [&mut ann], 5);
    assert_eq!(host.waved, [1, 2]);
    let world = ann.app.world_mut();
    let sum: u32 = world.query::<&Mark>().iter(world).map(|mark| mark.0).sum();
    assert_eq!(sum, (0..100).sum::<u32>() + (1_000..1_100).sum::<u32>());
}

#[test]
fn where_nobody_proves_who_it_is_the_second_of_a_name_is_refused_and_the_first_plays_on() {
    let mut host = Host::new(false, None);
    let mut first = joined(&mut host, "ann", 11);
    let mut second = Player::new(&host, "ann", 12);
    run(&mut host, &mut [&mut first, &mut second], 40);
    let ConnectionState::Refused(refusal, _) = second.state() else { panic!("{}", second.state()) };
    assert_eq!(refusal.to_string(), "the room refused: already_joined");
    assert_eq!(*first.state(), ConnectionState::Live);
    assert!(first.wave(3));
    run(&mut host, &mut [&mut first], 5);
    assert_eq!(host.waved, [3]);
}

/// What was logged, in lines.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn who_vanishes_is_gone_after_the_time_out_once_for_everybody_with_at_most_three_lines_of_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_ansi(false).with_writer(move || writer.clone()).finish();
    // With one subscriber alone, whichever thread logs from a place first decides for all whether that place is listened to, and the threads of the
    // other tests have none.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
    tracing::subscriber::with_default(subscriber, || {
        let mut host = Host::new(true, None);
        let mut ann = joined(&mut host, "ann", 0);
        let bob = joined(&mut host, "bob", 0);
        assert!(lives(&host, "bob"));
        run(&mut host, &mut [&mut ann], 2);
        log.0.lock().unwrap().clear();
        // The socket is closed without a word, as by `kill -9`.
        drop(bob);
        let mut ticks = 0;
        while lives(&host, "bob") {
            run(&mut host, &mut [&mut ann], 1);
            ticks += 1;
            // Five seconds until the transport gives up, ten in which the seat is kept.
            assert!(ticks < 320, "still there after 16 s");
        }
        run(&mut host, &mut [&mut ann], 5);
        assert_eq!(host.facts.iter().filter(|fact| *fact == "user_left").count(), 1);
        assert_eq!(*ann.removed.lock().unwrap(), [EntityId::named("bob")]);
    });
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let ours: Vec<&str> = text.lines().filter(|line| line.contains("roomkeeper")).collect();
    assert!((1..=3).contains(&ours.len()), "{text}");
    assert!(ours.iter().any(|line| line.contains("left") && line.contains("Timeout")), "{text}");
}

#[test]
fn a_flood_of_commands_costs_the_flooder_alone() {
    let mut host = Host::new(true, None);
    let mut ann = joined(&mut host, "ann", 0);
    let mut flooder = joined(&mut host, "flooder", 0);
    for round in 0..20 {
        for number in 0..500 {
            let _ = flooder.wave(number);
        }
        assert!(ann.wave(1_000_000 + round));
        run(&mut host, &mut [&mut ann, &mut flooder], 1);
        let behind = host.lobby.room("room").unwrap().tick_now().0 - ann.tick();
        assert!(behind <= 2, "ann is {behind} ticks behind");
    }
    run(&mut host, &mut [&mut ann, &mut flooder], 5);
    let (of_ann, flood): (Vec<u32>, Vec<u32>) = host.waved.iter().partition(|number| **number >= 1_000_000);
    assert_eq!(of_ann, (1_000_000..1_000_020).collect::<Vec<_>>());
    // At most 64 of its messages are looked at in a tick.
    assert!(flood.len() <= 64 * 26, "{}", flood.len());
    assert_eq!(*ann.state(), ConnectionState::Live);
}

/// Stands between a client and the host, and loses some of what the host sends.
struct Proxy {
    outside: UdpSocket,
    inside: UdpSocket,
    client: Option<SocketAddr>,
    lose_keep_alives: u32,
}

impl Proxy {
    fn new(lose_keep_alives: u32) -> Self {
        let socket = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        Self { outside: socket(), inside: socket(), client: None, lose_keep_alives }
    }

    fn carry(&mut self, host: SocketAddr) {
        let mut datagram = [0; 2_048];
        while let Ok((size, from)) = self.outside.recv_from(&mut datagram) {
            self.client = Some(from);
            self.inside.send_to(&datagram[..size], host).unwrap();
        }
        while let Ok((size, _)) = self.inside.recv_from(&mut datagram) {
            // The kind of a netcode packet is in its low four bits; 4 is a keep-alive.
            if datagram[0] & 0xf == 4 && self.lose_keep_alives > 0 {
                self.lose_keep_alives -= 1;
                continue;
            }
            let _ = self.client.map(|client| self.outside.send_to(&datagram[..size], client));
        }
    }
}

#[test]
fn a_client_whose_first_keep_alives_are_lost_gets_in() {
    let mut proxy = Proxy::new(3);
    let mut host = Host::new(true, Some(proxy.outside.local_addr().unwrap()));
    let real = host.shard.local_address().unwrap();
    let mut ann = Player::new(&host, "ann", 0);
    for _ in 0..100 {
        host.now += STEP;
        ann.play(host.now);
        proxy.carry(real);
        host.tick();
        proxy.carry(real);
    }
    assert_eq!(proxy.lose_keep_alives, 0);
    assert_eq!(*ann.state(), ConnectionState::Live);
    assert!(host.lobby.room("room").unwrap().tick_now().0 - ann.tick() <= 2);
}
