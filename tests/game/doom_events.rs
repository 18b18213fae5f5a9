//! Matches of the demo game over real UDP: all domain events happen, reach a second client, and every replica equals the room.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::{bot, components, facts, over_udp, protocol, rules, story};
use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::client::{
    Connection, ConnectionState, Credentials, HeadlessReplica, Replica, ReplicaPlugin, Sight, UdpLink, replica_state,
};
use roomkeeper::host::gateway::{Access, GatewayLimits, Shard, ShardConfig};
use roomkeeper::host::{HostKey, HostLimits, Lobby, TokenIssuer};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{ClientMessage, Identity, Protocol, State};
use roomkeeper::room::{Blueprint, Level, RoomOptions};
use roomkeeper::sim::Sim;

const STEP: Duration = Duration::from_millis(50);

/// The twenty domain events, and the closing of a door.
const EVENTS: [&str; 21] = [
    "user_joined",
    "user_left",
    "player_moved",
    "bullet_fired",
    "door_opened",
    "door_closed",
    "player_hit_by_fireball",
    "monster_hit_by_bullet",
    "monster_died",
    "player_collected_weapon",
    "player_switched_weapon",
    "player_collected_health",
    "player_collected_immunity",
    "player_collected_ammo",
    "player_collected_key",
    "player_killed",
    "monster_moved",
    "monster_threw_fireball",
    "fireball_moved",
    "level_won",
    "level_lost",
];

fn level(name: &str) -> Level {
    Level::open(format!("{}/assets/levels/{name}.json", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// A host on a real socket with the time passed in, so that a match takes as long as it takes to compute.
struct Host {
    lobby: Lobby,
    shard: Shard,
    issuer: TokenIssuer,
    now: Duration,
    facts: BTreeSet<String>,
}

impl Host {
    fn new(level_name: &str, seed: u64) -> Self {
        let now = Duration::from_secs(1_800_000_000);
        let key = HostKey::random().unwrap();
        let bind = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = ShardConfig { bind, public_addresses: Vec::new(), access: Access::Tokens(key), limits: GatewayLimits::default() };
        let shard = Shard::bind(&config, now).unwrap();
        let mut lobby = Lobby::new(HostLimits::default(), true);
        let options = RoomOptions { seed, level: Some(level(level_name)), check: true, ..RoomOptions::named("match") };
        lobby.open_room(&Blueprint::new(protocol::add, rules::add), options).unwrap();
        let issuer = TokenIssuer { key, addresses: vec![shard.local_address().unwrap()], expire_seconds: 30 };
        Self { lobby, shard, issuer, now, facts: BTreeSet::new() }
    }

    fn token(&self, name: &str) -> Credentials {
        Credentials::Token(self.issuer.issue(EntityId::named(name), name, Some("match"), self.now).unwrap())
    }

    fn receive(&mut self) {
        over_udp::receive(&mut self.lobby, &mut self.shard, self.now);
    }

    fn tick(&mut self) {
        self.receive();
        let report = self.lobby.tick_room("match").unwrap();
        self.facts.extend(report.facts.iter().map(|fact| fact.name.to_string()));
        over_udp::send(&mut self.lobby, &mut self.shard, self.now);
    }

    fn state(&mut self) -> State {
        self.lobby.room_mut("match").unwrap().state().unwrap()
    }
}

/// A player's app at the end of a real socket.
struct Player {
    app: App,
    link: UdpLink,
    brain: Box<dyn FnMut(&mut World)>,
    greeted: bool,
}

impl Player {
    fn new(host: &Host, name: &str, seed: u64) -> Self {
        let mut app = App::new();
        app.add_plugins(ReplicaPlugin);
        protocol::add(&mut app);
        let link = UdpLink::connect(&host.token(name), host.now).unwrap();
        Self { app, link, brain: bot::brain(seed), greeted: false }
    }

    fn play(&mut self, now: Duration) {
        self.link.receive(now);
        let world = self.app.world_mut();
        if self.link.status() == roomkeeper::client::LinkStatus::Connected && !self.greeted {
            self.greeted = true;
            world.resource_scope(|world, mut connection: Mut<Connection>| {
                connection.join(world.resource::<Protocol>(), "match", false);
            });
        }
        world.resource_mut::<Connection>().set_now(now);
        while let Some(packet) = self.link.next_packet() {
            world.resource_mut::<Connection>().deliver(packet);
        }
        self.app.update();
        if let Some(report) = self.app.world_mut().resource_mut::<Connection>().next_report() {
            self.link.send_packet(&report);
        }
        let world = self.app.world_mut();
        if *world.resource::<Connection>().state() == ConnectionState::Live {
            (self.brain)(world);
        }
        while let Some(message) = world.resource_mut::<Connection>().next_outgoing() {
            self.link.send(message).unwrap();
        }
        self.link.flush();
    }
}

/// Somebody who watches, without a Bevy world.
struct Watcher {
    link: UdpLink,
    replica: HeadlessReplica,
    greeted: bool,
    facts: BTreeSet<String>,
}

impl Watcher {
    fn new(host: &Host) -> Self {
        let mut app = App::new();
        app.add_plugins(ReplicaPlugin);
        protocol::add(&mut app);
        let replica = HeadlessReplica::new(app.world_mut().remove_resource().unwrap());
        let link = UdpLink::connect(&host.token("watcher"), host.now).unwrap();
        Self { link, replica, greeted: false, facts: BTreeSet::new() }
    }

    fn look(&mut self, now: Duration) {
        self.link.receive(now);
        if self.link.status() == roomkeeper::client::LinkStatus::Connected && !self.greeted {
            self.greeted = true;
            let fingerprint = self.replica.protocol().fingerprint();
            let hello = ClientMessage::Hello { fingerprint, room: "match".into(), spectate: true, resume: None };
            self.link.send(hello.encode()).unwrap();
        }
        while let Some(packet) = self.link.next_packet() {
            for sight in self.replica.deliver(now, &packet).unwrap() {
                if let Sight::Batch(followed) = sight {
                    self.facts.extend(followed.facts.into_iter().map(|fact| fact.name));
                }
            }
        }
        if let Some(report) = self.replica.next_report(now) {
            self.link.send_packet(&report);
        }
        self.link.flush();
    }
}

/// Plays a match of bots, with a fourth player who comes late and vanishes, until it ends; returns what the host and the watcher saw.
fn play_match(level_name: &str, bots: u64, seed: u64) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut host = Host::new(level_name, seed);
    let mut players: Vec<Player> = (1..=bots).map(|n| Player::new(&host, &format!("bot{n}"), seed * 10 + n)).collect();
    let mut watcher = Watcher::new(&host);
    let mut ghost = None;
    let mut after = 0;
    for tick in 0..6_000 {
        host.now += STEP;
        watcher.look(host.now);
        players.iter_mut().for_each(|player| player.play(host.now));
        match tick {
            20 => ghost = Some(Player::new(&host, "ghost", 1)),
            // Its socket is gone without a word.
            80 => ghost = None,
            _ => ghost.iter_mut().for_each(|ghost| ghost.play(host.now)),
        }
        host.tick();
        after += usize::from(["level_won", "level_lost"].iter().any(|end| host.facts.contains(*end)));
        if after > 150 {
            break;
        }
    }
    assert!(after > 150, "the match on {level_name} has not ended");
    // What was sent last still arrives.
    for _ in 0..20 {
        host.now += STEP;
        players.iter_mut().for_each(|player| player.play(host.now));
        watcher.look(host.now);
        host.tick();
    }
    let room = host.state();
    let protocol = host.lobby.room("match").unwrap().world().resource::<Protocol>();
    for player in &mut players {
        assert!(player.app.world().resource::<Replica>().is_live());
        let replica = replica_state(player.app.world_mut()).unwrap();
        assert_eq!(room.difference(protocol, &replica), None);
    }
    assert_eq!(room.difference(protocol, watcher.replica.state()), None);
    let gateway = host.shard.counters();
    assert_eq!((gateway.malformed, gateway.payloads_refused, gateway.panics_caught), (0, 0, 0), "{gateway:?}");
    (host.facts, watcher.facts)
}

#[test]
fn matches_over_udp_show_all_domain_events_to_everybody_and_every_replica_equals_the_room() {
    let (mut happened, mut seen) = (BTreeSet::new(), BTreeSet::new());
    // Which match shows what depends on how datagrams and ticks fall together; two of each level nearly always show all.
    for (level, bots, seed) in
        [("e1m1", 3, 1), ("e1m2", 2, 2), ("e1m1", 4, 3), ("e1m2", 2, 4), ("e1m1", 2, 5), ("e1m2", 3, 6), ("e1m2", 1, 7)]
    {
        let (facts, watched) = play_match(level, bots, seed);
        happened.extend(facts);
        seen.extend(watched);
        if EVENTS.iter().all(|event| seen.contains(*event)) {
            break;
        }
    }
    for event in EVENTS {
        assert!(happened.contains(event), "{event} has not happened: {happened:?}");
        assert!(seen.contains(event), "{event} has not reached the watcher");
    }
}

fn bot_match(level_name: &str, bots: u64, seed: u64) -> Sim {
    let mut sim = Sim::new(protocol::add, rules::add).seed(seed).level(level(level_name)).options(|options| options.deny_ambiguity = true);
    for n in 1..=bots {
        let name = format!("bot{n}");
        sim.join(&name).bot(&name, bot::brain(seed * 10 + n));
    }
    sim
}

fn over(sim: &Sim) -> bool {
    sim.facts().iter().any(|fact| ["level_won", "level_lost"].contains(fact))
}

#[test]
fn a_player_who_was_away_from_a_match_is_sent_no_more_than_a_snapshot_or_what_it_missed() {
    for (ticks, what) in [(160, "8 s"), (6_000, "5 min")] {
        let received = |sim: &Sim, name: &str| sim.client_of(name).world().resource::<Connection>().received().1;
        let mut sim = bot_match("e1m1", 3, 5);
        sim.run_ticks(200);
        let before = received(&sim, "bot2");
        sim.vanish("bot1").run_ticks(ticks);
        let missed = received(&sim, "bot2") - before;
        sim.reconnect("bot1", false).connect("new", true);
        sim.tick_while(|sim| !sim.client_of("bot1").is_live() || !sim.client_of("new").is_live());
        let (back, new) = (received(&sim, "bot1"), received(&sim, "new"));
        println!("e1m1, {what} away: {back} bytes to come back, {new} for a snapshot, {missed} for what was missed");
        assert!(back <= new.min(missed), "{what}");
        sim.run_ticks(20).settle();
        assert_eq!(sim.assert_converged(), 4);
        let counters = sim.lobby_mut().counters();
        assert_eq!((counters.resumed, counters.resyncs), (1, 0));
    }
}

#[test]
fn a_late_joiner_sees_the_bullet_in_flight_where_it_is() {
    let mut sim = bot_match("e1m1", 2, 1);
    let flying = |sim: &Sim| sim.room().world().iter_entities().any(|entity| entity.contains::<components::Bullet>());
    sim.tick_while(|sim| !flying(sim));
    sim.connect("late", false).tick();
    assert!(flying(&sim) && sim.client_of("late").is_live());
    let (room, late) = (sim.room_state(), sim.client_state("late"));
    let protocol = sim.room().world().resource::<Protocol>();
    let bullet = room.with(protocol, "bullet").next().unwrap();
    assert_eq!(room.component(protocol, bullet, "position"), late.component(protocol, bullet, "position"));
    assert!(late.component(protocol, bullet, "position").is_some());
}

#[test]
fn the_same_inbox_and_seed_give_the_same_bytes_in_another_process() {
    const CHILD: &str = "ROOMKEEPER_TEST_CHILD";
    let digest = |seed| {
        let mut sim = bot_match("e1m1", 3, seed);
        sim.run_ticks(10_000);
        let all: Vec<u8> = sim.batches().iter().flat_map(|(_, batch)| batch.to_vec()).collect();
        format!("{:x} {}", all.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte)), all.len())
    };
    if std::env::var_os(CHILD).is_some() {
        println!("digest {}", digest(5));
        return;
    }
    let name = "doom_events::the_same_inbox_and_seed_give_the_same_bytes_in_another_process";
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let told = String::from_utf8(child.stdout).unwrap();
    let ours = digest(5);
    assert!(told.contains(&format!("digest {ours}")), "{told}, here {ours}");
    assert_ne!(ours, digest(6));
}

#[test]
fn a_match_reads_as_a_story() {
    let mut sim = bot_match("e1m2", 3, 3);
    sim.tick_while(|sim| !over(sim));
    sim.settle();
    assert_eq!(sim.assert_converged(), 3);
    let told: Vec<String> = sim
        .ledger()
        .iter()
        .filter_map(|fact| {
            story::narrate(&fact.name, &fact.to_json().unwrap(), &|id| if id.len() == 36 { "somebody".into() } else { id.into() })
        })
        .collect();
    assert!(told.len() > 20 && told.iter().all(|sentence| sentence.ends_with('.')), "{told:?}");
    assert_eq!(story::kinds().count(), EVENTS.len());
    let kinds: BTreeSet<&str> = story::kinds().collect();
    assert_eq!(kinds, EVENTS.into_iter().collect());
}

#[test]
fn a_fireball_shows_that_it_hit_before_it_goes() {
    #[derive(Resource, Default)]
    struct Trace(Vec<(EntityId, &'static str)>);
    let mut sim = bot_match("e1m2", 3, 3);
    let app = sim.client_mut("bot1").app_mut();
    app.init_resource::<Trace>();
    app.add_observer(
        |changed: On<ComponentChanged<components::FireballState>>, states: Query<&components::FireballState>, mut trace: ResMut<Trace>| {
            if states.get(changed.entity).is_ok_and(|state| *state == components::FireballState::Hit) {
                trace.0.push((changed.id, "hit"));
            }
        },
    );
    app.add_observer(|removed: On<EntityRemoved>, balls: Query<&components::Fireball>, mut trace: ResMut<Trace>| {
        if balls.contains(removed.entity) {
            trace.0.push((removed.id, "removed"));
        }
    });
    sim.tick_while(|sim| !over(sim));
    let hits: BTreeSet<EntityId> = sim.facts_of::<facts::PlayerHitByFireball>().into_iter().map(|hit| hit.fireball).collect();
    assert!(!hits.is_empty());
    let trace = &sim.client_of("bot1").world().resource::<Trace>().0;
    for ball in hits {
        let of_ball: Vec<&str> = trace.iter().filter(|(id, _)| *id == ball).map(|(_, what)| *what).collect();
        assert_eq!(of_ball, ["hit", "removed"], "{ball}");
    }
}

#[test]
fn with_eight_clients_each_bullet_hits_as_often_as_the_server_says_and_none_twice() {
    let mut sim = bot_match("e1m1", 8, 4);
    sim.run_ticks(800).settle();
    let hits = sim.facts_of::<facts::MonsterHitByBullet>();
    let bullets: BTreeSet<EntityId> = hits.iter().map(|hit| hit.bullet).collect();
    assert!(hits.len() > 20 && bullets.len() == hits.len(), "{} hits of {} bullets", hits.len(), bullets.len());
    assert!(sim.ledger().iter().filter(|fact| &*fact.name == "monster_hit_by_bullet").all(|fact| fact.author.is_none()));
    assert_eq!(sim.assert_converged(), 8);
}

#[test]
fn names_of_the_level_reach_the_clients() {
    let mut sim = bot_match("e1m1", 1, 1);
    let door = EntityId::named("door_red");
    let state = sim.client_state("bot1");
    assert_eq!(state.get(door).map(|entity| entity.identity.clone()), Some(Identity::Named("door_red".into())));
}
