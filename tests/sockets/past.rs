//! The past of a room that is still played, watched over real UDP: late, from any of its ticks on, and at no cost to its present.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking, and works in real time")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::client::{Connection, ConnectionState, Credentials, Replica, ReplicaPlugin, UdpPlugin, UdpTransport};
use roomkeeper::host::gateway::{Access, GatewayLimits, ShardConfig};
use roomkeeper::host::{HostKey, HostLimits, Keeper, Server, TokenIssuer};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{Admission, LinkConditions, Refusal};
use roomkeeper::room::{Audience, Blueprint, RoomClock, RoomOptions};
use roomkeeper::store::{Archive, MemoryStore, Store, WriterOptions};
use serde::{Deserialize, Serialize};

/// Moves in every tick, as places do.
#[derive(Component, Clone, Serialize, Deserialize)]
struct Place(u32);
/// Comes, changes and goes.
#[derive(Component, Clone, Serialize, Deserialize)]
struct Spark(u32);
#[derive(Clone, Serialize, Deserialize)]
struct Struck(u32);

fn protocol(app: &mut App) {
    app.sync::<Place>("place").latest();
    app.sync::<Spark>("spark");
    app.stateless_fact::<Struck>("struck");
}

fn rules(app: &mut App) {
    app.add_systems(Startup, |mut commands: Commands| {
        commands.spawn(Place(0));
    });
    app.add_systems(FixedUpdate, (go, strike));
}

fn go(mut places: Query<&mut Place>, clock: Res<RoomClock>) {
    places.iter_mut().for_each(|mut place| place.0 = clock.tick().0);
}

fn strike(mut sparks: Query<(Entity, &mut Spark)>, clock: Res<RoomClock>, mut commands: Commands, mut record: Recorder) {
    let tick = clock.tick().0;
    for (entity, mut spark) in &mut sparks {
        match tick - spark.0 {
            12.. => commands.entity(entity).despawn(),
            6 => spark.set_changed(),
            _ => {}
        }
    }
    if tick.is_multiple_of(5) {
        commands.spawn(Spark(tick));
        record.fact(Struck(tick));
    }
}

/// What is to be seen in a room: where it is, and its sparks.
type Sight = (u32, Vec<u32>);

fn sight(places: impl Iterator<Item = u32>, sparks: impl Iterator<Item = u32>) -> Sight {
    let mut sparks: Vec<u32> = sparks.collect();
    sparks.sort_unstable();
    (places.sum(), sparks)
}

fn sight_of(world: &mut World) -> Sight {
    let places: Vec<u32> = world.query::<&Place>().iter(world).map(|place| place.0).collect();
    let sparks: Vec<u32> = world.query::<&Spark>().iter(world).map(|spark| spark.0).collect();
    sight(places.into_iter(), sparks.into_iter())
}

struct Host {
    server: Server,
    address: SocketAddr,
    /// What was to be seen after each tick.
    seen: BTreeMap<u32, Sight>,
}

impl Host {
    fn new(limits: HostLimits, kept: bool) -> Self {
        let config = config(Access::Loopback);
        let mut server = Server::bind(&config, limits).unwrap();
        if kept {
            server.keep_by(Keeper::start(Box::new(MemoryStore::default()), WriterOptions::default()).unwrap());
        }
        server.open_room(&Blueprint::new(protocol, rules), RoomOptions::named("main")).unwrap();
        let address = server.local_address().unwrap();
        Self { server, address, seen: BTreeMap::new() }
    }

    /// Lets time pass, for the host and for those who watch.
    fn run(&mut self, watchers: &mut [&mut Watcher], time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            let seen = &mut self.seen;
            self.server.round(&mut |_, report, lobby| {
                let Some(room) = lobby.room("main") else { return };
                let world = room.world();
                let all = world.iter_entities();
                let (mut places, mut sparks) = (Vec::new(), Vec::new());
                for entity in all {
                    places.extend(entity.get::<Place>().map(|place| place.0));
                    sparks.extend(entity.get::<Spark>().map(|spark| spark.0));
                }
                seen.insert(report.tick.0, sight(places.into_iter(), sparks.into_iter()));
            });
            watchers.iter_mut().for_each(|watcher| watcher.update());
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    /// Lets time pass until something is so, however slow the machine is.
    fn until(&mut self, what: &str, watchers: &mut [&mut Watcher], mut is_so: impl FnMut(&Self, &[&mut Watcher]) -> bool) {
        let begun = Instant::now();
        while !is_so(self, watchers) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}: not in a minute");
            self.run(watchers, Duration::from_millis(50));
        }
    }

    fn until_tick(&mut self, tick: u32) {
        self.until("it ticks", &mut [], |host, _| host.seen.keys().last().is_some_and(|last| *last >= tick));
    }

    fn now(&self) -> u32 {
        *self.seen.keys().last().unwrap()
    }
}

fn config(access: Access) -> ShardConfig {
    ShardConfig { bind: ([127, 0, 0, 1], 0).into(), public_addresses: Vec::new(), access, limits: GatewayLimits::default() }
}

#[derive(Resource, Default)]
struct Heard(Vec<u32>);

struct Watcher {
    app: App,
    /// What it saw at each tick at which it stood.
    seen: BTreeMap<u32, Sight>,
}

impl Watcher {
    fn over(address: SocketAddr, room: &str, spectate: bool, link: Option<LinkConditions>) -> Self {
        let client_id = u64::from_le_bytes(HostKey::random().unwrap().0[..8].try_into().unwrap());
        let admission = Admission { client_id, player: EntityId::named("eve"), name: "eve".to_owned(), room: None };
        Self::with(&Credentials::Unauthenticated { server: address, admission }, room, spectate, link)
    }

    fn with(credentials: &Credentials, room: &str, spectate: bool, link: Option<LinkConditions>) -> Self {
        let mut app = App::new();
        app.add_plugins((ReplicaPlugin, UdpPlugin));
        protocol(&mut app);
        app.init_resource::<Heard>();
        app.add_observer(|struck: On<Happened<Struck>>, mut heard: ResMut<Heard>| heard.0.push(struck.event().fact.0));
        app.finish();
        app.cleanup();
        let mut transport = UdpTransport::connect(credentials, room, spectate).unwrap();
        link.into_iter().for_each(|link| transport.set_link(link, 7));
        app.insert_resource(transport);
        Self { app, seen: BTreeMap::new() }
    }

    fn update(&mut self) {
        self.app.update();
        if self.state().is_in_room() {
            let tick = self.tick();
            self.seen.insert(tick, sight_of(self.app.world_mut()));
        }
    }

    fn tick(&self) -> u32 {
        self.app.world().resource::<Replica>().ordered_tick().0
    }

    fn state(&self) -> ConnectionState {
        self.app.world().resource::<Connection>().state().clone()
    }

    fn is_refused(&self) -> bool {
        matches!(self.state(), ConnectionState::Refused(..))
    }

    fn heard(&self) -> &[u32] {
        &self.app.world().resource::<Heard>().0
    }

    fn refused(&self) -> String {
        match self.state() {
            ConnectionState::Refused(Refusal::Rejected(why), _) => why.code.to_string(),
            state => state.to_string(),
        }
    }

    /// Everything that it saw is what was to be seen at that tick, and it saw every tick from its first to its last.
    fn assert_saw(&self, host: &Host) {
        assert!(self.seen.len() > 20, "{} ticks", self.seen.len());
        for (tick, sight) in &self.seen {
            assert_eq!(Some(sight), host.seen.get(tick), "tick {tick}");
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_spectator_of_the_past_sees_what_was_there_so_long_ago_beside_one_of_the_present() {
    let mut host = Host::new(HostLimits::default(), true);
    host.until_tick(60);
    let mut late = Watcher::over(host.address, "main@-2s", true, None);
    let mut live = Watcher::over(host.address, "main", true, None);
    host.until("both hear", &mut [&mut late, &mut live], |_, all| all[0].heard().len() > 8 && all[1].heard().len() > 8);
    let now = host.now();
    assert!((now.saturating_sub(2)..=now).contains(&live.tick()), "{} of {now}", live.tick());
    assert!((now - 44..=now - 39).contains(&late.tick()), "{} of {now}", late.tick());
    late.assert_saw(&host);
    let heard = late.heard();
    assert!(heard.len() > 8 && heard.windows(2).all(|pair| pair[1] == pair[0] + 5), "every fact once, in order: {heard:?}");
    assert!(heard.last().unwrap() + 50 > *live.heard().last().unwrap());
    assert_eq!(host.server.counters().0.joined, 1, "the room knows of the live one alone");
}

#[test]
fn who_rewinds_goes_to_another_moment_by_the_same_way_and_sees_it_from_there_on() {
    let mut host = Host::new(HostLimits::default(), true);
    host.until_tick(80);
    let mut watcher = Watcher::over(host.address, "main@-1s", true, None);
    let mut beside = Watcher::over(host.address, "main@-1s", true, None);
    host.until("they watch", &mut [&mut watcher, &mut beside], |_, all| all.iter().all(|one| one.state().is_in_room() && one.tick() > 70));
    let heard = watcher.heard().len();
    let admission = Admission { client_id: 77, player: EntityId::named("eve"), name: "eve".to_owned(), room: None };
    let credentials = Credentials::Unauthenticated { server: host.address, admission };
    watcher.app.insert_resource(UdpTransport::connect(&credentials, "main@10", true).unwrap());
    watcher.seen.clear();
    host.until("it is back and goes on", &mut [&mut watcher, &mut beside], |_, all| all[0].seen.len() > 20 && all[0].tick() >= 30);
    assert!((30..60).contains(&watcher.tick()), "{}", watcher.tick());
    let rewound: BTreeMap<u32, Sight> =
        watcher.seen.iter().filter(|(tick, _)| **tick < 60).map(|(tick, seen)| (*tick, seen.clone())).collect();
    watcher.seen = rewound;
    // How late it is drawn first is the machine's doing; of what happened from there on it hears all, and of what was before nothing.
    assert!(matches!(watcher.heard().get(heard), Some(10 | 15)), "{:?}", watcher.heard());
    watcher.assert_saw(&host);
    beside.assert_saw(&host);
}

#[test]
fn the_past_is_whole_over_a_lossy_way() {
    let mut host = Host::new(HostLimits::default(), true);
    host.until_tick(40);
    let link = "loss=10%,rtt=120ms,jitter=30ms,dup=2%,reorder=5%".parse().unwrap();
    let mut late = Watcher::over(host.address, "main@-1s", true, Some(link));
    host.until("it hears", &mut [&mut late], |_, all| all[0].heard().len() > 12);
    assert!(late.state().is_in_room());
    late.assert_saw(&host);
    let heard = late.heard();
    assert!(heard.len() > 12 && heard.windows(2).all(|pair| pair[1] == pair[0] + 5), "{heard:?}");
}

#[test]
fn who_watches_the_past_for_long_misses_nothing_once_more_was_sent_than_may_wait() {
    let mut limits = HostLimits::default();
    // What is sent in some seconds.
    limits.queue_bytes_max = 1 << 10;
    let mut host = Host::new(limits, true);
    host.until_tick(40);
    let mut late = Watcher::over(host.address, "main@-1s", true, None);
    host.run(&mut [&mut late], 10 * SECOND);
    host.until("it hears", &mut [&mut late], |_, all| all[0].heard().len() > 25);
    assert!(late.state().is_in_room());
    late.assert_saw(&host);
    let heard = late.heard();
    assert!(heard.len() > 25 && heard.windows(2).all(|pair| pair[1] == pair[0] + 5), "{heard:?}");
}

#[test]
fn who_watches_the_past_of_a_room_that_closes_sees_it_to_its_end() {
    let mut host = Host::new(HostLimits::default(), true);
    host.until_tick(60);
    let mut late = Watcher::over(host.address, "main@-2s", true, None);
    host.until("it watches", &mut [&mut late], |_, all| all[0].state().is_in_room());
    host.server.lobby_mut().close_room("main", &Refusal::RoomClosed("enough".to_owned()));
    let end = host.now();
    host.until("it is told", &mut [&mut late], |_, all| all[0].is_refused());
    late.assert_saw(&host);
    assert_eq!(*late.seen.keys().last().unwrap(), end);
    assert_eq!(late.state().to_string(), "the room closed: that was the end of it");
}

#[test]
fn what_of_the_past_is_not_shown_is_refused_with_the_reason() {
    let limits = |change: fn(&mut HostLimits)| {
        let mut limits = HostLimits::default();
        change(&mut limits);
        limits
    };
    let told = |host: &mut Host, room: &str, spectate: bool| {
        let mut watcher = Watcher::over(host.address, room, spectate, None);
        host.until("it is told", &mut [&mut watcher], |_, all| all[0].is_refused());
        watcher.refused()
    };
    let mut host = Host::new(HostLimits::default(), false);
    assert_eq!(told(&mut host, "main@-1s", true), "no_past");
    let mut host = Host::new(limits(|limits| (limits.spectators_behind_min, limits.pasts_max) = (20, 2)), true);
    host.until_tick(60);
    assert_eq!(told(&mut host, "main@-2s", false), "only_to_watch");
    assert_eq!(told(&mut host, "main@99999", true), "not_yet");
    assert_eq!(told(&mut host, "main@-0.9s", true), "too_close");
    assert_eq!(told(&mut host, "main", true), "too_close");
    assert_eq!(told(&mut host, "other@-1s", true), "the server has no room \"other\"");
    let mut two = [Watcher::over(host.address, "main@-1s", true, None), Watcher::over(host.address, "main@-2s", true, None)];
    let [first, second] = &mut two;
    host.until("both watch", &mut [first, second], |_, all| all.iter().all(|one| one.state().is_in_room()));
    assert_eq!(told(&mut host, "main@-3s", true), "pasts_full");
    assert_eq!(host.server.counters().0.refused, 6);
}

#[test]
fn a_room_with_secrets_shows_no_past_not_even_to_those_who_watch_it_already() {
    let mut host = Host::new(HostLimits::default(), true);
    host.until_tick(40);
    let mut late = Watcher::over(host.address, "main@-1s", true, None);
    host.until("it watches", &mut [&mut late], |_, all| all[0].state().is_in_room());
    let world = host.server.lobby_mut().room_mut("main").unwrap().world_mut();
    world.spawn((Place(0), Audience::OWNER));
    host.until("it is told", &mut [&mut late], |_, all| all[0].is_refused());
    assert_eq!(late.refused(), "secretive");
    let mut later = Watcher::over(host.address, "main@-1s", true, None);
    host.until("it is told", &mut [&mut later], |_, all| all[0].is_refused());
    assert_eq!(later.refused(), "secretive");
}

#[test]
fn a_token_for_a_room_lets_look_back_at_that_room_alone() {
    let key = HostKey::random().unwrap();
    let mut server = Server::bind(&config(Access::Tokens(key)), HostLimits::default()).unwrap();
    server.keep_by(Keeper::start(Box::new(MemoryStore::default()), WriterOptions::default()).unwrap());
    for room in ["main", "other"] {
        server.open_room(&Blueprint::new(protocol, rules), RoomOptions::named(room)).unwrap();
    }
    let address = server.local_address().unwrap();
    let mut host = Host { server, address, seen: BTreeMap::new() };
    host.until_tick(40);
    let issuer = TokenIssuer { key, addresses: vec![address], expire_seconds: 30 };
    let now = roomkeeper::client::unix_time();
    let watch = |room: &str| {
        let token = issuer.issue(EntityId::named("eve"), "eve", Some("main"), now).unwrap();
        Watcher::with(&Credentials::Token(token), room, true, None)
    };
    let (mut own, mut other) = (watch("main@-1s"), watch("other@-1s"));
    host.until("both are in", &mut [&mut own, &mut other], |_, all| all.iter().all(|one| one.state().is_in_room()));
    assert!(own.state().is_in_room() && own.tick() + 15 < host.now());
    // It comes into the room of its token, as it always does.
    assert!(other.state().is_in_room() && other.tick() + 5 > host.now());
    assert_eq!(other.app.world().resource::<Replica>().room_name(), "main");
}

#[test]
fn a_room_that_is_open_is_kept_on_though_somebody_opens_it_again() {
    let (store, blueprint) = (MemoryStore::default(), Blueprint::new(protocol, rules));
    let mut server = Server::bind(&config(Access::Loopback), HostLimits::default()).unwrap();
    server.keep_by(Keeper::start(Box::new(store.clone()), WriterOptions::default()).unwrap());
    let until = |server: &mut Server, tick: u32| {
        while server.lobby().room("main").unwrap().tick_now().0 < tick {
            server.round(&mut |_, _, _| {});
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    server.open_room(&blueprint, RoomOptions::named("main")).unwrap();
    until(&mut server, 5);
    let refused = server.open_room(&blueprint, RoomOptions::named("main")).unwrap_err().to_string();
    assert!(refused.contains("already"), "{refused}");
    until(&mut server, 20);
    server.stop_keeping();
    let (mut archive, mut store) = (Archive::new(Box::new(store.clone()), blueprint.protocol()), store);
    assert!(archive.head("main").unwrap().unwrap().tick.0 >= 20);
    // As if another process had gone on with it.
    let key = store.room("main").unwrap().unwrap().key;
    assert!(store.checkpoints(key).unwrap().iter().all(|(tick, resumed)| tick.0 == 0 || !resumed));
}
