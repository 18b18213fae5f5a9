//! Clients of which the network goes away, over real UDP and in real time: they say so, come back by themselves, and go on.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{SocketAddr, UdpSocket};
use std::task::Poll;
use std::time::Duration;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::client::{
    Connection, ConnectionChanged, ConnectionState, Credentials, Diverged, Replica, ReplicaPlugin, UdpPlugin, UdpTransport, Unanswered,
    clear_replica, issue, unix_time,
};
use roomkeeper::host::gateway::{Access, GatewayLimits, ShardConfig};
use roomkeeper::host::{HostKey, HostLimits, Server, TokenIssuer};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{Admission, CommandId, Refusal, UserLeft};
use roomkeeper::room::{Blueprint, RoomInfo, RoomOptions};
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize)]
struct Mark(String);
#[derive(Component, Serialize, Deserialize)]
struct Waves(u32);
#[derive(Serialize, Deserialize)]
struct Wave;
#[derive(Clone, Serialize, Deserialize)]
struct Waved(EntityId);
/// Is never heard, and always answered.
#[derive(Serialize, Deserialize)]
struct Shout(Vec<u8>);
/// Told in every tenth tick, with the tick.
#[derive(Clone, Serialize, Deserialize)]
struct Rang(u32);

fn protocol(app: &mut App) {
    app.sync::<Mark>("mark");
    app.sync::<Waves>("waves");
    app.command::<Wave>("wave").command::<Shout>("shout").fact::<Waved>("waved").stateless_fact::<Rang>("rang");
}

fn rules(app: &mut App) {
    app.add_systems(Startup, |info: Res<RoomInfo>, mut commands: Commands| {
        commands.spawn(Mark(info.name.clone()));
    });
    app.apply(|joined: On<Happened<UserJoined>>, mut commands: Commands| {
        commands.spawn((joined.user, Waves(0)));
    });
    app.apply(|left: On<Happened<UserLeft>>, index: Res<EntityIndex>, mut commands: Commands| {
        if let Some(who) = index.entity(left.user) {
            commands.entity(who).despawn();
        }
    });
    app.decide(|wave: In<Issued<Wave>>| accept(Waved(wave.author_id)));
    app.decide(|_: In<Issued<Shout>>| -> Decision { reject("too_loud") });
    app.apply(|waved: On<Happened<Waved>>, index: Res<EntityIndex>, mut all: Query<&mut Waves>| {
        index.entity(waved.0).and_then(|who| all.get_mut(who).ok()).into_iter().for_each(|mut waves| waves.0 += 1);
    });
    app.add_systems(FixedUpdate, |clock: Res<RoomClock>, mut record: Recorder| {
        if clock.tick().0.is_multiple_of(10) {
            record.fact(Rang(clock.tick().0));
        }
    });
}

/// What the client was told.
#[derive(Resource, Default)]
struct Told {
    states: Vec<ConnectionState>,
    /// Whoever looks has been away itself, and the network was not.
    was_away: bool,
    rang: Vec<u32>,
    unanswered: Vec<(CommandId, bool)>,
    rejected: usize,
}

/// A server, a client, and between them a network that can be cut.
struct Stage {
    server: Server,
    /// Another one, with which the client speaks directly.
    other: Option<Server>,
    outside: UdpSocket,
    inside: UdpSocket,
    client: Option<SocketAddr>,
    is_cut: bool,
    /// When a round was begun last, and how long rounds took that took far too long: the machine stood still.
    looked: Duration,
    away: Duration,
    app: App,
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

impl Stage {
    fn new(access: Access, limits: HostLimits) -> Self {
        let (outside, inside) = (socket(), socket());
        let bind = SocketAddr::from(([127, 0, 0, 1], 0));
        let public_addresses = vec![outside.local_addr().unwrap()];
        let mut server = Server::bind(&ShardConfig { bind, public_addresses, access, limits: GatewayLimits::default() }, limits).unwrap();
        let blueprint = Blueprint::new(protocol, rules);
        for room in ["hall", "cellar"] {
            server.open_room(&blueprint, RoomOptions { check: true, ..RoomOptions::named(room) }).unwrap();
        }
        let mut app = App::new();
        app.add_plugins((ReplicaPlugin, UdpPlugin)).init_resource::<Told>();
        protocol(&mut app);
        app.add_observer(|changed: On<ConnectionChanged>, mut told: ResMut<Told>| {
            // How far it is in, and how often it was tried, is beside the point.
            let is_new = told.states.last().map(std::mem::discriminant) != Some(std::mem::discriminant(&changed.state))
                && !(told.was_away && changed.state == ConnectionState::Degraded);
            is_new.then(|| told.states.push(changed.state.clone()));
        });
        app.add_observer(|rang: On<Happened<Rang>>, mut told: ResMut<Told>| told.rang.push(rang.0));
        app.add_observer(|lost: On<Unanswered>, mut told: ResMut<Told>| told.unanswered.push((lost.id, lost.arrived)));
        app.add_observer(|_: On<Rejected>, mut told: ResMut<Told>| told.rejected += 1);
        app.add_observer(|diverged: On<Diverged>| panic!("{:?}", *diverged));
        Self { server, other: None, outside, inside, client: None, is_cut: false, looked: unix_time(), away: Duration::ZERO, app }
    }

    fn open() -> Self {
        Self::new(Access::Loopback, HostLimits::default())
    }

    fn address(&self) -> SocketAddr {
        self.outside.local_addr().unwrap()
    }

    fn connect(&mut self, room: &str, client_id: u64) {
        let admission = Admission { client_id, player: EntityId::named("ann"), name: "ann".to_owned(), room: None };
        let credentials = Credentials::Unauthenticated { server: self.address(), admission };
        self.app.insert_resource(UdpTransport::connect(&credentials, room, false).unwrap());
    }

    fn carry(&mut self) {
        let (mut datagram, server) = ([0; 2_048], self.server.local_address().unwrap());
        while let Ok((size, from)) = self.outside.recv_from(&mut datagram) {
            // A client that hears nothing asks from elsewhere whether anybody is there.
            if size > 1 {
                self.client = Some(from);
            }
            if !self.is_cut {
                self.inside.send_to(datagram.get(..size).unwrap(), server).unwrap();
            }
        }
        while let Ok((size, _)) = self.inside.recv_from(&mut datagram) {
            if let Some(client) = self.client.filter(|_| !self.is_cut) {
                let _ = self.outside.send_to(datagram.get(..size).unwrap(), client);
            }
        }
    }

    fn round(&mut self) {
        self.carry();
        self.server.round(&mut |_, _, _| {});
        if let Some(other) = &mut self.other {
            other.round(&mut |_, _, _| {});
        }
        self.carry();
        let now = unix_time();
        let away = now.saturating_sub(std::mem::replace(&mut self.looked, now)).saturating_sub(Duration::from_millis(100));
        self.away += away;
        self.app.world_mut().resource_mut::<Told>().was_away = !self.is_cut && away > Duration::from_millis(600);
        self.app.update();
        std::thread::sleep(Duration::from_millis(4));
    }

    /// The time, without that in which the machine stood still.
    fn time(&self) -> Duration {
        unix_time() - self.away
    }

    /// Lets so much time pass.
    fn pass(&mut self, time: Duration) {
        let until = unix_time() + time;
        while unix_time() < until {
            self.round();
        }
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let until = unix_time() + Duration::from_secs(20);
        while !is_so(self) {
            assert!(unix_time() < until, "{what}: it never came to that; {}", self.state());
            self.round();
        }
    }

    fn cut(&mut self, time: Duration) {
        self.is_cut = true;
        self.pass(time);
        self.is_cut = false;
    }

    fn state(&self) -> &ConnectionState {
        self.app.world().resource::<Connection>().state()
    }

    fn until_in(&mut self) {
        self.until("in the room", |stage| *stage.state() == ConnectionState::Live);
    }

    fn wave(&mut self) {
        issue(self.app.world_mut(), &Wave).unwrap();
    }

    fn waves(&self) -> Option<u32> {
        let world = self.app.world();
        world.get::<Waves>(world.resource::<Replica>().user_entity()?).map(|waves| waves.0)
    }

    /// How many are in a room of the server.
    fn members(&self, room: &str) -> usize {
        self.server.lobby().member_count(room)
    }

    fn told(&self) -> &Told {
        self.app.world().resource::<Told>()
    }

    fn told_states(&self) -> Vec<String> {
        self.told().states.iter().map(|state| format!("{state:?}").split(['(', '{']).next().unwrap().to_owned()).collect()
    }

    fn marks(&mut self) -> Vec<String> {
        let world = self.app.world_mut();
        world.query::<&Mark>().iter(world).map(|mark| mark.0.clone()).collect()
    }
}

#[test]
fn who_is_cut_off_for_three_seconds_is_told_so_and_goes_on_with_nothing_lost() {
    let mut stage = Stage::open();
    stage.connect("hall", 1);
    stage.until_in();
    stage.wave();
    stage.until("a wave", |stage| stage.waves() == Some(1));
    stage.cut(Duration::from_secs(3));
    assert_eq!(*stage.state(), ConnectionState::Degraded);
    assert!(stage.app.world().resource::<Connection>().silence() > Duration::from_secs(2));
    // Whoever is degraded is in the room: what is asked for arrives late.
    stage.wave();
    stage.until("another wave", |stage| stage.waves() == Some(2));
    stage.pass(Duration::from_secs(1));
    stage.until("it rang", |stage| stage.told().rang.len() > 7);
    assert_eq!(stage.told_states(), ["Connecting", "Joining", "Live", "Degraded", "Live"]);
    let rang = &stage.told().rang;
    assert!(rang.windows(2).all(|pair| pair[1] == pair[0] + 10), "{rang:?}");
    assert!(stage.told().unanswered.is_empty());
}

#[test]
fn who_is_cut_off_for_longer_comes_back_by_itself_to_its_seat_and_learns_what_never_arrived() {
    let mut stage = Stage::open();
    stage.connect("hall", 1);
    stage.until_in();
    stage.wave();
    stage.until("a wave", |stage| stage.waves() == Some(1));
    stage.is_cut = true;
    stage.wave();
    stage.cut(Duration::from_secs(7));
    assert!(matches!(stage.state(), ConnectionState::Reconnecting(_)), "{}", stage.state());
    stage.until_in();
    stage.pass(Duration::from_millis(500));
    assert_eq!(stage.told_states(), ["Connecting", "Joining", "Live", "Degraded", "Reconnecting", "Joining", "Live"]);
    // It is the same seat: what it did before counts, and it was not sent everything.
    assert_eq!((stage.waves(), stage.server.counters().0.resumed), (Some(1), 1));
    assert_eq!(stage.told().unanswered, [(CommandId(2), false)]);
    stage.wave();
    stage.until("another wave", |stage| stage.waves() == Some(2));
}

#[test]
fn over_a_simulated_link_with_delay_it_comes_back_as_well() {
    let mut stage = Stage::open();
    stage.connect("hall", 1);
    stage.app.world_mut().resource_mut::<UdpTransport>().set_link("rtt=40ms".parse().unwrap(), 7);
    stage.until_in();
    stage.cut(Duration::from_secs(7));
    assert!(matches!(stage.state(), ConnectionState::Reconnecting(_)), "{}", stage.state());
    stage.until_in();
    assert_eq!(stage.server.counters().0.resumed, 1);
    stage.wave();
    stage.until("a wave", |stage| stage.waves() == Some(1));
}

#[test]
fn who_asks_for_more_than_a_network_takes_that_stands_still_is_answered_when_it_goes_on() {
    let mut stage = Stage::open();
    stage.connect("hall", 1);
    stage.until_in();
    stage.is_cut = true;
    // At most 64 KiB are on their way at a time; the rest waits.
    for _ in 0..120 {
        issue(stage.app.world_mut(), &Shout(vec![7; 900])).unwrap();
    }
    stage.pass(Duration::from_millis(1_500));
    assert_eq!(*stage.state(), ConnectionState::Degraded);
    stage.is_cut = false;
    stage.until("all are answered", |stage| stage.told().rejected == 120);
    stage.until_in();
    stage.wave();
    stage.until("a wave", |stage| stage.waves() == Some(1));
}

#[test]
fn who_leaves_before_it_was_let_in_is_not_let_in() {
    let mut stage = Stage::open();
    stage.is_cut = true;
    stage.connect("hall", 1);
    stage.pass(Duration::from_millis(100));
    assert_eq!(*stage.state(), ConnectionState::Connecting);
    stage.app.world_mut().resource_mut::<Connection>().leave();
    stage.is_cut = false;
    stage.pass(Duration::from_secs(1));
    assert_eq!((stage.state(), stage.server.lobby().member_count("hall")), (&ConnectionState::Idle, 0));
    stage.connect("hall", 2);
    stage.until_in();
}

#[test]
fn a_server_that_can_not_be_understood_is_hung_up_on_and_the_reason_stays() {
    let mut stage = Stage::open();
    stage.connect("hall", 1);
    stage.until_in();
    stage.app.world_mut().resource_mut::<Connection>().deliver(bytes::Bytes::from_static(&[0xff]));
    stage.round();
    let ConnectionState::Broken(why) = stage.state().clone() else { panic!("{}", stage.state()) };
    stage.until("the server knows", |stage| stage.server.lobby().member_count("hall") == 0);
    stage.pass(Duration::from_millis(300));
    assert_eq!(*stage.state(), ConnectionState::Broken(why));
    // A game that asks anew gets in.
    stage.connect("hall", 2);
    stage.until_in();
}

#[test]
fn who_is_away_for_longer_than_the_seat_is_kept_joins_anew() {
    let mut limits = HostLimits::default();
    limits.grace_ticks = 10;
    let mut stage = Stage::new(Access::Loopback, limits);
    stage.connect("hall", 1);
    stage.until_in();
    stage.wave();
    stage.until("a wave", |stage| stage.waves() == Some(1));
    stage.cut(Duration::from_secs(8));
    stage.until_in();
    assert_eq!(stage.waves(), Some(0), "it is another one");
    stage.wave();
    stage.until("a wave", |stage| stage.waves() == Some(1));
}

#[test]
fn whose_server_stays_away_is_told_after_a_while_how_often_it_was_tried() {
    let mut stage = Stage::open();
    stage.connect("hall", 1);
    stage.app.world_mut().resource_mut::<UdpTransport>().set_patience(Duration::from_secs(2));
    stage.until_in();
    stage.is_cut = true;
    stage.until("given up", |stage| stage.state().is_over());
    let ConnectionState::Broken(why) = stage.state() else { panic!("{}", stage.state()) };
    assert!(why.contains("it was tried again"), "{why}");
    // A game that asks anew gets in.
    stage.is_cut = false;
    stage.connect("hall", 2);
    stage.until_in();
}

#[test]
fn a_token_for_the_way_back_is_fetched_from_whoever_gives_them() {
    let key = HostKey::random().unwrap();
    let mut stage = Stage::new(Access::Tokens(key), HostLimits::default());
    let issuer = TokenIssuer { key, addresses: vec![stage.address()], expire_seconds: 30 };
    let token = move || issuer.issue(EntityId::named("ann"), "ann", None, unix_time()).map(Credentials::Token);
    let mut transport = UdpTransport::connect(&token().unwrap(), "hall", false).unwrap();
    // The first answer is that there is none yet, the second that there is none; then there is one.
    let mut asked = 0;
    transport.renew_by(move || {
        asked += 1;
        match asked {
            1..20 => Poll::Pending,
            20 => Poll::Ready(Err("the back end has a cold".to_owned())),
            _ => Poll::Ready(token().map_err(|error| error.to_string())),
        }
    });
    stage.app.insert_resource(transport);
    stage.until_in();
    stage.cut(Duration::from_secs(6));
    stage.until_in();
    assert_eq!(stage.server.counters().0.resumed, 1);
}

/// A server with a hall, with which a client speaks directly.
fn direct(key: HostKey) -> Server {
    let config = ShardConfig {
        bind: ([127, 0, 0, 1], 0).into(),
        public_addresses: Vec::new(),
        access: Access::Tokens(key),
        limits: GatewayLimits::default(),
    };
    let mut server = Server::bind(&config, HostLimits::default()).unwrap();
    server.open_room(&Blueprint::new(protocol, rules), RoomOptions::named("hall")).unwrap();
    server
}

/// A client in the hall of the first of two servers, to both of which the tokens of its back end are a way; and the address of the second.
fn in_the_first_of_two(expire_seconds: u64) -> (Stage, SocketAddr) {
    let key = HostKey::random().unwrap();
    let (first, second) = (direct(key), direct(key));
    let [here, there] = [&first, &second].map(|server| server.local_address().unwrap());
    let issuer = TokenIssuer { key, addresses: vec![here, there], expire_seconds };
    let token = move || issuer.issue(EntityId::named("ann"), "ann", None, unix_time()).map(Credentials::Token);
    let mut transport = UdpTransport::connect(&token().unwrap(), "hall", false).unwrap();
    transport.renew_by(move || Poll::Ready(token().map_err(|error| error.to_string())));
    let mut stage = Stage::new(Access::Tokens(key), HostLimits::default());
    (stage.server, stage.other) = (first, Some(second));
    stage.app.insert_resource(transport);
    stage.until_in();
    assert_eq!(stage.members("hall"), 1);
    (stage, there)
}

#[test]
fn whose_host_is_gone_comes_to_another_that_its_new_tokens_name() {
    let (mut stage, _) = in_the_first_of_two(30);
    // No goodbye: its socket is closed by the system, as after SIGKILL.
    stage.server = stage.other.take().unwrap();
    stage.until("it knows", |stage| matches!(stage.state(), ConnectionState::Reconnecting(_)));
    stage.until_in();
    assert_eq!(stage.members("hall"), 1);
    stage.wave();
    stage.until("a wave", |stage| stage.waves() == Some(1));
}

#[test]
fn who_came_long_ago_follows_its_room_to_another_host_by_a_new_token() {
    let (mut stage, there) = in_the_first_of_two(3);
    // The token that let it in is good for nothing any more.
    stage.pass(Duration::from_millis(3_500));
    stage.server.lobby_mut().close_room("hall", &Refusal::Elsewhere(there.to_string()));
    let is_there = |stage: &Stage| stage.other.as_ref().is_some_and(|other| other.lobby().member_count("hall") == 1);
    stage.until("it is there", is_there);
    stage.until_in();
    assert_eq!(stage.told_states(), ["Connecting", "Joining", "Live", "Reconnecting", "Joining", "Live"]);
    stage.wave();
    stage.until("a wave", |stage| stage.waves() == Some(1));
}

#[test]
fn a_transport_in_the_place_of_another_leaves_that_ones_room_at_once_and_it_can_be_gone_back_to() {
    let mut stage = Stage::open();
    stage.connect("hall", 1);
    stage.until_in();
    for (client_id, room, left) in [(2, "cellar", "hall"), (3, "hall", "cellar")] {
        let at = stage.time();
        stage.connect(room, client_id);
        stage.round();
        stage.until_in();
        stage.until("nobody is in the other", |stage| stage.members(left) == 0);
        // The silence of a link that is only forgotten counts for five seconds, and the seat is kept for ten more.
        assert!(stage.time() - at < Duration::from_secs(4));
        assert_eq!((stage.members(room), stage.marks()), (1, vec![room.to_owned()]));
    }
    assert!(!stage.told_states().contains(&"Refused".to_owned()), "{:?}", stage.told_states());
}

#[test]
fn whose_transport_is_taken_away_has_left_and_can_ask_for_nothing() {
    let mut stage = Stage::open();
    // With a goodbye of its own, and without.
    for (client_id, hangs_up) in [(1, true), (2, false)] {
        stage.connect("hall", client_id);
        stage.round();
        stage.until_in();
        if hangs_up {
            stage.app.world_mut().resource_mut::<UdpTransport>().hang_up();
        }
        stage.wave();
        assert!(stage.app.world_mut().remove_resource::<UdpTransport>().is_some());
        stage.round();
        assert_eq!(*stage.state(), ConnectionState::Idle);
        assert!(issue(stage.app.world_mut(), &Wave).is_err());
        assert_eq!(stage.app.world_mut().resource_mut::<Connection>().next_outgoing(), None);
        let at = stage.time();
        stage.until("the server knows", |stage| stage.members("hall") == 0);
        assert!(stage.time() - at < Duration::from_secs(4));
    }
}

#[test]
fn a_client_leaves_goes_to_another_room_and_comes_back_without_being_started_again() {
    let mut stage = Stage::open();
    for (visit, room) in ["hall", "cellar", "hall"].into_iter().enumerate() {
        stage.connect(room, visit as u64 + 1);
        stage.until_in();
        assert_eq!((stage.marks(), stage.waves()), (vec![room.to_owned()], Some(0)), "of the room before nothing is left");
        stage.wave();
        stage.until("a wave", |stage| stage.waves() == Some(1));
        stage.app.world_mut().resource_mut::<Connection>().leave();
        stage.round();
        stage.app.world_mut().resource_mut::<UdpTransport>().hang_up();
        stage.until("out", |stage| stage.server.lobby().member_count(room) == 0);
        assert_eq!(*stage.state(), ConnectionState::Idle);
    }
    assert_eq!(stage.marks(), ["hall"], "it stays until it is cleared");
    clear_replica(stage.app.world_mut()).unwrap();
    assert!(stage.marks().is_empty() && stage.app.world().resource::<Replica>().is_empty());
}

#[test]
fn a_host_whose_process_is_gone_is_known_to_be_and_gone_back_to_as_soon_as_another_is_there() {
    let mut stage = Stage::open();
    let address = stage.server.local_address().unwrap();
    let admission = Admission { client_id: 77, player: EntityId::named("ann"), name: "ann".to_owned(), room: None };
    let credentials = Credentials::Unauthenticated { server: address, admission };
    stage.app.insert_resource(UdpTransport::connect(&credentials, "hall", false).unwrap());
    stage.until_in();
    // No goodbye: its socket is closed by the system, as after SIGKILL. Another takes its port.
    let elsewhere = ShardConfig {
        bind: ([127, 0, 0, 1], 0).into(),
        public_addresses: Vec::new(),
        access: Access::Loopback,
        limits: GatewayLimits::default(),
    };
    let killed = std::mem::replace(&mut stage.server, Server::bind(&elsewhere, HostLimits::default()).unwrap());
    let at = stage.time();
    drop(killed);
    stage.until("it knows", |stage| matches!(stage.state(), ConnectionState::Reconnecting(_)));
    assert!(stage.time() - at < Duration::from_secs(4), "it did not wait for the silence of five seconds");
    stage.pass(Duration::from_millis(300));
    stage.server = Server::bind(&ShardConfig { bind: address, ..elsewhere }, HostLimits::default()).unwrap();
    stage.server.open_room(&Blueprint::new(protocol, rules), RoomOptions::named("hall")).unwrap();
    stage.until_in();
    assert!(stage.time() - at < Duration::from_secs(5), "it is in again before it would have noticed by the silence");
    println!("in again {:?} after the end of the process", stage.time() - at);
}
