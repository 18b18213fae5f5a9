//! Who knew what: what a member had been told by a tick is worked out again from what was stored, and equals what its replica held.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::arena;
use crate::store::folder;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use bytes::Bytes;
use roomkeeper::client::HeadlessReplica;
use roomkeeper::host::{ConnectionId, HostLimits, Keeper, Lobby, ViewError, Visitor, rerun, view_of};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{ClientMessage, CommandId, LeaveReason, Protocol, RoomTick, State};
use roomkeeper::room::{Blueprint, Reach, Resumed, RevealedTo, RoomOptions, SpectatorsSee};
use roomkeeper::store::{Archive, Durability, MemoryStore, Retention, SqliteStore, Store, WriterOptions};
use serde::{Deserialize, Serialize};

const ROOM: &str = "moor";
const RED: u64 = 1;
const BLUE: u64 = 2;
/// How long a picked pocket stays open: 10 s.
const PICKED_TICKS: u32 = 200;

#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Position([f32; 2]);
#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Kind(u32);
/// Only its owner is told.
#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Hand(u32);
/// Only its owner and the red side are told.
#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Orders(u32);
/// Who may see it; from this its audience follows, also in a room that goes on.
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug)]
struct Rule(u8);
/// A user's side, from which its senses follow.
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug)]
struct Side(u64);
/// What only its owner sees, and who picks it.
#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Purse(u32);
/// Somebody looks into it until a tick.
#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Picked {
    by: EntityId,
    until: u32,
}
/// Looks into the purse of another user for ten seconds.
#[derive(Serialize, Deserialize)]
struct Pick;
#[derive(Clone, Serialize, Deserialize)]
struct PocketPicked {
    by: EntityId,
    purse: EntityId,
    until: u32,
}
#[derive(Clone, Serialize, Deserialize)]
struct Shouted {
    who: EntityId,
}

fn protocol(app: &mut App) {
    app.sync::<Position>("position").latest();
    app.sync::<Kind>("kind");
    app.sync::<Hand>("hand").to_owner();
    app.sync::<Orders>("orders").latest().to_mask(RED);
    app.sync::<Rule>("rule");
    app.sync::<Side>("side");
    app.sync::<Purse>("purse");
    app.sync::<Picked>("picked");
    app.sync_relationship::<OwnedBy>("owned_by");
    app.command::<Pick>("pick").fact::<PocketPicked>("pocket_picked").stateless_fact::<Shouted>("shouted");
}

fn rules(app: &mut App) {
    app.places_by(|position: &Position| position.0);
    app.insert_resource(SpectatorsSee::Mask(BLUE));
    app.apply(|joined: On<Happened<UserJoined>>, mut commands: Commands| {
        let side = if joined.name.len() % 2 == 1 { RED } else { BLUE };
        let body = commands.spawn((joined.user, Side(side), senses(side), Position([0.0, 0.0]))).id();
        commands.spawn((Purse(joined.name.len() as u32), Rule(0), audience(0), OwnedBy(body)));
    });
    app.apply(|left: On<Happened<UserLeft>>, index: Res<EntityIndex>, owns: Query<&roomkeeper::protocol::Owns>, mut commands: Commands| {
        let Some(body) = index.entity(left.user) else { return };
        let purses: Vec<Entity> = owns.get(body).map(|owns| owns.iter().collect()).unwrap_or_default();
        purses.into_iter().for_each(|purse| commands.entity(purse).despawn());
        commands.entity(body).despawn();
    });
    app.decide(|pick: In<Issued<Pick>>, purses: Query<(&EntityId, &OwnedBy), With<Purse>>| -> Decision {
        let others = purses.iter().filter(|(_, owner)| owner.0 != pick.author);
        let Some(purse) = others.map(|(id, _)| *id).min() else { return reject("nobody_there") };
        accept(PocketPicked { by: pick.author_id, purse, until: pick.tick.0 + PICKED_TICKS })
    });
    app.apply(|picked: On<Happened<PocketPicked>>, index: Res<EntityIndex>, mut commands: Commands| {
        if let Some(purse) = index.entity(picked.purse) {
            commands.entity(purse).insert((Picked { by: picked.by, until: picked.until }, RevealedTo::users([picked.by])));
        }
    });
    app.add_systems(FixedUpdate, (close_purses, live, shout).chain()).add_systems(Resumed, dress);
}

fn senses(side: u64) -> Senses {
    Senses::new().with_mask(side).with_reach(Reach { enter: 8.0, leave: 13.0 })
}

fn audience(rule: u8) -> Audience {
    match rule {
        0 => Audience::OWNER,
        1 => Audience::mask(RED),
        2 => Audience::mask(BLUE).near(),
        3 => Audience::EVERYONE,
        _ => Audience::EVERYONE.near(),
    }
}

/// What no store keeps follows from what it keeps.
fn dress(rules: Query<(Entity, &Rule)>, sides: Query<(Entity, &Side)>, picked: Query<(Entity, &Picked)>, mut commands: Commands) {
    for (entity, rule) in &rules {
        commands.entity(entity).insert(audience(rule.0));
    }
    for (entity, side) in &sides {
        commands.entity(entity).insert(senses(side.0));
    }
    for (entity, picked) in &picked {
        commands.entity(entity).insert(RevealedTo::users([picked.by]));
    }
}

fn close_purses(picked: Query<(Entity, &Picked)>, clock: Res<RoomClock>, mut commands: Commands) {
    for (purse, _) in picked.iter().filter(|(_, picked)| picked.until <= clock.tick().0) {
        commands.entity(purse).remove::<(Picked, RevealedTo)>();
    }
}

fn sorted<F: bevy_ecs::query::QueryFilter>(world: &mut World) -> Vec<Entity> {
    let mut all: Vec<(EntityId, Entity)> =
        world.query_filtered::<(&EntityId, Entity), F>().iter(world).map(|(id, entity)| (*id, entity)).collect();
    all.sort_unstable_by_key(|(id, _)| *id);
    all.into_iter().map(|(_, entity)| entity).collect()
}

/// Things are born, move, change, change hands and sides, and die, by the room's own chance.
fn live(world: &mut World) {
    world.resource_scope(|world, mut rng: Mut<RoomRng>| {
        let (mut things, users) = (sorted::<With<Kind>>(world), sorted::<With<Side>>(world));
        if things.len() < 20 {
            let rule = rng.range(0..6) as u8;
            let place = Position([rng.unit_f32() * 40.0 - 20.0, rng.unit_f32() * 4.0]);
            things.push(world.spawn((Kind(rng.range(0..1_000)), Rule(rule), audience(rule), place)).id());
        }
        for thing in things {
            let (dice, value, step, rule) = (rng.range(0..80), rng.range(0..1_000), rng.unit_f32() * 4.0 - 2.0, rng.range(0..6) as u8);
            let owner = if users.is_empty() { None } else { users.get(rng.range(0..users.len() as u32) as usize).copied() };
            let mut entity = world.entity_mut(thing);
            match dice {
                0..30 => entity.get_mut::<Position>().unwrap().0[0] += step,
                30..34 => drop(entity.insert(Kind(value))),
                34..38 => drop(entity.insert(Hand(value))),
                38..42 => drop(entity.insert(Orders(value))),
                42..45 => drop(owner.map(|owner| entity.insert(OwnedBy(owner)).id())),
                45 => drop(entity.remove::<OwnedBy>()),
                46..48 => drop(entity.insert((Rule(rule), audience(rule)))),
                48 => entity.despawn(),
                49 => drop(entity.remove::<Hand>()),
                50 => drop(entity.remove::<Orders>()),
                51 => drop(entity.remove::<(Rule, Audience)>()),
                _ => {}
            }
        }
        for user in users {
            let (step, turns) = (rng.unit_f32() * 3.0 - 1.5, rng.chance(0.01));
            let mut entity = world.entity_mut(user);
            entity.get_mut::<Position>().unwrap().0[0] += step;
            if turns {
                let side = Side(RED + BLUE - entity.get::<Side>().unwrap().0);
                entity.insert((side, senses(side.0)));
            }
        }
    });
}

/// Facts name somebody whom not everybody sees.
fn shout(things: Query<&EntityId, With<Kind>>, mut rng: ResMut<RoomRng>, mut record: Recorder) {
    if let Some(who) = things.iter().min().filter(|_| rng.chance(0.2)) {
        record.fact(Shouted { who: *who });
    }
}

fn blueprint() -> Blueprint {
    Blueprint::new(protocol, rules)
}

fn replica(blueprint: &Blueprint) -> HeadlessReplica {
    let mut app = App::new();
    app.init_resource::<Protocol>();
    // The built-in facts come first, as in every protocol.
    app.add_plugins(roomkeeper::client::ReplicaPlugin);
    blueprint.add_protocol(&mut app);
    HeadlessReplica::new(app.world_mut().remove_resource().unwrap())
}

struct Client {
    /// Nobody for a spectator.
    player: Option<EntityId>,
    replica: HeadlessReplica,
    commands: u32,
}

/// What a client held once it had all that it had been told by a tick.
struct Dump {
    player: Option<EntityId>,
    tick: RoomTick,
    state: State,
}

/// A lobby, clients at its end of perfect ways, and a store.
struct Match {
    blueprint: Blueprint,
    options: RoomOptions,
    lobby: Lobby,
    keeper: Keeper,
    clients: BTreeMap<ConnectionId, Client>,
    connections: u64,
    now: Duration,
    /// The test's own chance.
    rng: RoomRng,
    dumps: Vec<Dump>,
}

impl Match {
    fn new(blueprint: Blueprint, options: RoomOptions, store: Box<dyn Store>) -> Self {
        let keeper = Keeper::start(store, WriterOptions::default()).unwrap();
        let rng = RoomRng::new(options.seed + 1_000);
        let (clients, connections, now, dumps) = Default::default();
        let lobby = Lobby::new(limits(), true);
        let mut this = Self { blueprint, options, lobby, keeper, clients, connections, now, rng, dumps };
        this.open();
        this
    }

    fn seeded(seed: u64, store: Box<dyn Store>) -> Self {
        Self::new(blueprint(), RoomOptions { seed, ..RoomOptions::named(ROOM) }, store)
    }

    fn open(&mut self) {
        let room = self.keeper.room(&self.blueprint, self.options.clone()).unwrap();
        self.lobby.admit_room(room).unwrap();
    }

    /// The process ends in order, and another one goes on with the room.
    fn restart(mut self, store: Box<dyn Store>) -> Self {
        self.clients.clear();
        let report = self.keeper.stop();
        assert!(report.given_up.is_none(), "{report:?}");
        self.keeper = Keeper::start(store, WriterOptions::default()).unwrap();
        self.lobby = Lobby::new(limits(), true);
        self.open();
        self
    }

    fn room_name(&self) -> &str {
        &self.options.name
    }

    /// Somebody connects: a user, or a spectator. An older connection of the user is dropped by the lobby, and forgotten here.
    fn connect(&mut self, name: &str, spectate: bool) {
        self.connections += 1;
        let (connection, player) = (ConnectionId(self.connections), EntityId::named(name));
        if !spectate {
            self.clients.retain(|_, client| client.player != Some(player));
        }
        let replica = replica(&self.blueprint);
        let hello =
            ClientMessage::Hello { fingerprint: replica.protocol().fingerprint(), room: self.options.name.clone(), spectate, resume: None };
        self.lobby.connected(connection, Visitor { player, name: name.to_owned(), room: None });
        self.lobby.message(connection, &hello.encode());
        self.clients.insert(connection, Client { player: (!spectate).then_some(player), replica, commands: 0 });
    }

    fn disconnect(&mut self, name: &str) {
        let player = Some(EntityId::named(name));
        let gone: Vec<ConnectionId> = self.clients.iter().filter(|(_, client)| client.player == player).map(|(id, _)| *id).collect();
        for connection in gone {
            self.lobby.disconnected(connection, LeaveReason::Timeout);
            self.clients.remove(&connection);
        }
    }

    fn pick(&mut self, name: &str) {
        let player = Some(EntityId::named(name));
        let (connection, client) = self.clients.iter_mut().find(|(_, client)| client.player == player).unwrap();
        client.commands += 1;
        let (id, kind) = (CommandId(client.commands), client.replica.protocol().command_names().position(|kind| kind == "pick").unwrap());
        self.lobby.message(*connection, &ClientMessage::Command { id, kind, seen: None, payload: Bytes::new() }.encode());
    }

    fn tick(&mut self) -> RoomTick {
        self.now += Duration::from_millis(50);
        self.lobby.advance(self.now);
        let mut report = self.lobby.tick_room(&self.options.name).unwrap();
        assert!(report.fault.is_none(), "{:?}", report.fault);
        self.keeper.record(&self.options.name, &mut report);
        if report.tick.0.is_multiple_of(20) {
            self.keeper.writer().sync().unwrap();
        }
        let (clients, now) = (&mut self.clients, self.now);
        self.lobby.pump(|connection, own, shared| {
            if let Some(client) = clients.get_mut(&connection) {
                client.replica.deliver(now, &[own, shared].concat().into()).unwrap();
            }
        });
        for (connection, client) in &mut self.clients {
            if let Some(report) = client.replica.next_report(now) {
                self.lobby.message(*connection, &report);
            }
        }
        report.tick
    }

    /// Keeps what each client holds that has all that it was ever told.
    fn dump(&mut self, tick: RoomTick) {
        for (connection, client) in &self.clients {
            if self.lobby.is_current(*connection, |_| true) {
                self.dumps.push(Dump { player: client.player, tick, state: client.replica.state().clone() });
            }
        }
    }

    fn run(&mut self, ticks: u32, dumps: f32) {
        for _ in 0..ticks {
            let tick = self.tick();
            if self.rng.chance(dumps) {
                self.dump(tick);
            }
        }
    }

    /// A match in which people come and go, pick pockets, change their connections and their sides.
    fn play(&mut self) {
        const DUMPS: f32 = 0.06;
        let ticks = self.rng.range(1..20);
        self.run(ticks, DUMPS);
        for name in ["ann", "ben", "eve", "watcher"] {
            self.connect(name, name == "watcher");
            let ticks = self.rng.range(5..40);
            self.run(ticks, DUMPS);
        }
        self.pick("eve");
        self.run(60, DUMPS);
        self.disconnect("ben");
        self.run(20, DUMPS);
        self.connect("ben", false);
        self.pick("ann");
        self.run(60, DUMPS);
        // From elsewhere: the older connection is dropped.
        self.connect("eve", false);
        self.run(100, DUMPS);
        let tick = self.tick();
        self.dump(tick);
        self.keeper.writer().sync().unwrap();
    }
}

fn limits() -> HostLimits {
    let mut limits = HostLimits::default();
    // Who is lost has left in the same tick.
    limits.grace_ticks = 0;
    limits.seat_ticks = 60;
    limits
}

fn reader(store: &dyn Store, blueprint: &Blueprint) -> Archive {
    Archive::new(store.reader().unwrap(), blueprint.protocol())
}

fn view(archive: &mut Archive, blueprint: &Blueprint, room: &str, player: Option<EntityId>, tick: RoomTick) -> Result<State, ViewError> {
    view_of(archive, blueprint, room, player, tick, |_| {})
}

/// Checks that two states hold the same entities with the same components, byte for byte.
fn assert_same(protocol: &Protocol, told: &State, held: &State, what: &str) {
    if let Some(difference) = told.difference(protocol, held) {
        panic!("{what}: {difference}");
    }
    assert_eq!(told.entities(), held.entities(), "{what}");
}

fn check(archive: &mut Archive, blueprint: &Blueprint, room: &str, dumps: &[Dump]) {
    for Dump { player, tick, state } in dumps {
        let view = view(archive, blueprint, room, *player, *tick).unwrap();
        assert_eq!(view.tick(), *tick);
        assert_same(archive.protocol(), &view, state, &format!("{player:?} at tick {tick}: worked out, and held"));
    }
}

/// How many entities and components there are that a state does not have.
fn untold(archive: &mut Archive, room: &str, dump: &Dump) -> usize {
    let truth = archive.state_at(room, dump.tick).unwrap();
    archive.difference(&dump.state, &truth).unwrap().changes.len()
}

#[test]
fn what_each_member_had_been_told_is_worked_out_again_component_by_component() {
    for seed in 0..6 {
        let data = folder(&format!("views_{seed}"));
        let store = SqliteStore::open(&data, Durability::ProcessCrash).unwrap();
        let mut archive = reader(&store, &blueprint());
        let mut game = Match::seeded(seed, Box::new(store));
        game.play();
        let members: std::collections::BTreeSet<_> = game.dumps.iter().map(|dump| dump.player).collect();
        assert_eq!((members.len(), game.dumps.len() > 30), (4, true), "{} dumps", game.dumps.len());
        let secrets = game.dumps.iter().filter(|dump| untold(&mut archive, ROOM, dump) > 5).count();
        assert!(secrets * 10 > game.dumps.len() * 9, "{secrets} of {} dumps lack what there was", game.dumps.len());
        check(&mut archive, &game.blueprint, ROOM, &game.dumps);
        // The process ends; what is stored says the same.
        let Match { keeper, dumps, .. } = game;
        drop((keeper.stop(), archive));
        let mut archive = Archive::new(Box::new(SqliteStore::read(&data).unwrap()), blueprint().protocol());
        let some: Vec<Dump> = dumps.into_iter().rev().step_by(4).collect();
        check(&mut archive, &blueprint(), ROOM, &some);
    }
}

#[test]
fn a_connection_that_takes_the_place_of_another_begins_anew() {
    let store = MemoryStore::new();
    let mut game = Match::seeded(20, Box::new(store.clone()));
    game.connect("eve", false);
    game.run(60, 0.0);
    let eve = Some(EntityId::named("eve"));
    let mut forgotten = 0;
    for _ in 0..25 {
        let held = game.clients.values().next().unwrap().replica.state().clone();
        game.connect("eve", false);
        let tick = game.tick();
        game.dump(tick);
        // What is between the two distances stays in sight, but does not come into it.
        let state = &game.dumps.last().unwrap().state;
        let in_both = |id: &roomkeeper::protocol::NetId| state.entities().contains_key(id);
        forgotten += held.entities().keys().filter(|id| !in_both(id)).count();
        game.run(8, 0.0);
    }
    game.keeper.writer().sync().unwrap();
    assert!(forgotten >= 10, "{forgotten} things are out of sight of a new connection");
    assert!(game.dumps.len() == 25 && game.dumps.iter().all(|dump| dump.player == eve));
    let mut archive = reader(&store, &game.blueprint);
    check(&mut archive, &game.blueprint, ROOM, &game.dumps);
}

/// Whether somebody had been told of the purse of somebody else at a tick.
fn knows_purse(archive: &mut Archive, blueprint: &Blueprint, who: &str, tick: RoomTick) -> bool {
    let state = view(archive, blueprint, ROOM, Some(EntityId::named(who)), tick).unwrap();
    // One is its own.
    state.with(&blueprint.protocol(), "purse").count() == 2
}

#[test]
fn a_picked_pocket_is_known_for_ten_seconds_to_the_thief_alone() {
    let store = MemoryStore::new();
    let mut game = Match::seeded(3, Box::new(store.clone()));
    game.connect("ann", false);
    game.connect("ben", false);
    game.run(10, 0.0);
    game.pick("ann");
    let picked = game.tick();
    game.run(PICKED_TICKS + 20, 0.0);
    game.keeper.writer().sync().unwrap();
    let mut archive = reader(&store, &game.blueprint);
    let mut knows = |who: &str, after: i64| {
        let tick = RoomTick((i64::from(picked.0) + after) as u32);
        knows_purse(&mut archive, &game.blueprint, who, tick)
    };
    let last = i64::from(PICKED_TICKS) - 1;
    assert_eq!([-1, 0, 77, last, last + 1, last + 20].map(|after| knows("ann", after)), [false, true, true, true, false, false]);
    assert_eq!([-1, 0, 77, last, last + 1].map(|after| knows("ben", after)), [false; 5]);
}

#[test]
fn a_member_that_came_back_after_a_restart_knows_what_it_was_told_since() {
    for seed in 10..13 {
        let store = MemoryStore::new();
        let mut game = Match::seeded(seed, Box::new(store.clone()));
        game.play();
        let ended = game.dumps.last().unwrap().tick;
        let mut game = game.restart(Box::new(store.clone()));
        game.run(7, 0.0);
        game.connect("ann", false);
        game.connect("watcher", true);
        game.run(30, 0.2);
        game.connect("eve", false);
        // Ben does not come back: his seat is given up.
        game.run(80, 0.1);
        let tick = game.tick();
        game.dump(tick);
        game.keeper.writer().sync().unwrap();
        let mut archive = reader(&store, &game.blueprint);
        check(&mut archive, &game.blueprint, ROOM, &game.dumps);
        // Whoever comes back changes nothing: the whole room runs again to the same bytes, through the restart.
        let run = rerun(&mut archive, &game.blueprint, ROOM, (RoomTick(0), tick), None, |_| {}).unwrap();
        assert_eq!((run.ticks, run.difference), (tick.0, None));
        // In the meantime nobody was told anything.
        let ben = Some(EntityId::named("ben"));
        let error = view(&mut archive, &game.blueprint, ROOM, ben, RoomTick(ended.0 + 20)).unwrap_err();
        assert!(matches!(error, ViewError::Away { since, .. } if since == ended), "{error}");
        let error = view(&mut archive, &game.blueprint, ROOM, ben, tick).unwrap_err();
        let stays = match &error {
            ViewError::NotThere { stays, .. } => stays.clone(),
            _ => panic!("{error}"),
        };
        assert!(stays.len() == 2 && stays.iter().all(|(came, left)| came.is_some() && left.is_some()), "{error}");
    }
}

#[test]
fn whoever_was_not_there_or_is_not_kept_is_said_clearly() {
    let store = MemoryStore::new();
    let mut game = Match::seeded(5, Box::new(store.clone()));
    game.run(20, 0.0);
    game.connect("ann", false);
    game.run(30, 0.0);
    game.disconnect("ann");
    game.connect("eve", false);
    game.run(1_000, 0.0);
    game.keeper.writer().sync().unwrap();
    let (ann, eve) = (Some(EntityId::named("ann")), Some(EntityId::named("eve")));
    let mut archive = reader(&store, &game.blueprint);
    let mut at = |player, tick| {
        view(&mut archive, &game.blueprint, ROOM, player, RoomTick(tick)).map(|state| state.tick()).map_err(|error| error.to_string())
    };
    assert_eq!((at(ann, 21), at(ann, 50)), (Ok(RoomTick(21)), Ok(RoomTick(50))));
    for tick in [0, 20, 51, 900] {
        let error = at(ann, tick).unwrap_err();
        assert!(error.contains(&format!("was not in room \"moor\" at tick {tick}: it was there from tick 21 to tick 51")), "{error}");
    }
    assert!(at(Some(EntityId::named("zoe")), 30).unwrap_err().contains("it never was"));
    assert!(at(eve, 5_000).unwrap_err().contains("has no tick 5000"), "{}", at(eve, 5_000).unwrap_err());
    assert_eq!((at(eve, 1_000), at(None, 0), at(None, 1)), (Ok(RoomTick(1_000)), Ok(RoomTick(0)), Ok(RoomTick(1))));
    // What came before is given up.
    let mut retention = Retention::default();
    (retention.ticks, retention.chunk_ticks) = (Some(200), 100);
    archive.compact(ROOM, retention, |_| {}).unwrap();
    let error = view(&mut archive, &game.blueprint, ROOM, eve, RoomTick(1_000)).unwrap_err();
    assert!(matches!(error, ViewError::NotKept { .. }), "{error}");
}

#[test]
fn where_the_room_does_not_run_again_as_it_did_nothing_is_made_up() {
    let store = MemoryStore::new();
    let mut game = Match::seeded(5, Box::new(store.clone()));
    game.connect("ann", false);
    game.run(30, 0.0);
    // From outside: no record says that.
    game.lobby.room_mut(ROOM).unwrap().world_mut().spawn((Kind(7), Position([0.0, 0.0])));
    game.run(30, 0.0);
    game.keeper.writer().sync().unwrap();
    let mut archive = reader(&store, &game.blueprint);
    let ann = Some(EntityId::named("ann"));
    assert!(view(&mut archive, &game.blueprint, ROOM, ann, RoomTick(30)).is_ok());
    let error = view(&mut archive, &game.blueprint, ROOM, ann, RoomTick(40)).unwrap_err();
    assert!(matches!(error, ViewError::Differs { tick: RoomTick(31), .. }), "{error}");
}

#[test]
fn in_a_room_without_secrets_everybody_had_been_told_its_state() {
    let store = MemoryStore::new();
    let mut game = Match::new(arena::blueprint(), arena::options("arena"), Box::new(store.clone()));
    game.run(15, 0.0);
    game.connect("ann", false);
    game.run(40, 0.0);
    game.connect("watcher", true);
    game.run(200, 0.1);
    game.keeper.writer().sync().unwrap();
    let mut archive = reader(&store, &game.blueprint);
    let name = game.room_name().to_owned();
    assert!(game.dumps.len() > 20, "{}", game.dumps.len());
    check(&mut archive, &game.blueprint, &name, &game.dumps);
    for dump in &game.dumps {
        let truth = archive.state_at(&name, dump.tick).unwrap();
        let view = view(&mut archive, &game.blueprint, &name, dump.player, dump.tick).unwrap();
        assert_same(archive.protocol(), &view, &truth, "worked out, and stored");
    }
}

fn inferno(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_inferno")).args(arguments).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn the_command_line_tells_what_a_player_and_a_spectator_had_been_told_and_what_not() {
    let data = folder("views_cli");
    let mut server = Command::new(env!("CARGO_BIN_EXE_inferno"))
        .args(["serve", "--bind", "127.0.0.1:0", "--data"])
        .arg(&data)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let address =
        BufReader::new(server.stdout.take().unwrap()).lines().find_map(|line| Some(line.unwrap().split_once(" on udp ")?.1.to_owned()));
    let played = address.map(|address| inferno(&["bot", "--server", &address, "--bots", "2", "--name", "ann", "--limit", "3"]));
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(played.as_ref().is_some_and(|(well, ..)| *well), "{played:?}");
    let ledger = |rest: &[&str]| inferno(&[&["ledger", "--data", data.to_str().unwrap()], rest].concat());
    // Somebody was there when the first thing was asked for.
    let (_, facts, _) = ledger(&["--json", "facts"]);
    let facts: Vec<serde_json::Value> = facts.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_ann = |fact: &&serde_json::Value| fact["producer"] == "user" && fact["fact"] != "user_joined" && fact["fact"] != "user_left";
    let fact = facts.iter().find(of_ann).unwrap();
    let tick = fact["tick"].to_string();
    let player = fact["author"].as_str().unwrap();
    for by in ["entity", "component", "kind"] {
        let (well, state, _) = ledger(&["at", &tick, "--by", by]);
        assert!(well && state.len() > 1_000, "{state}");
        for whose in [&["--as", player][..], &["--spectator"]] {
            assert_eq!(ledger(&[&["at", &tick, "--by", by], whose].concat()), (true, state.clone(), String::new()), "{whose:?}");
        }
    }
    // The game has no secrets.
    assert_eq!(ledger(&["at", &tick, "--hidden", "--spectator"]), (true, "{}\n".to_owned(), String::new()));
    for (arguments, why) in [
        (&["at", "--hidden"][..], "say from whom: --as PLAYER, or --spectator"),
        (&["at", "0", "--as", player], "was not in room \"main\" at tick 0: it was there from tick "),
        (&["at", "--as", "zoe"], "it never was"),
        (&["at", "1000000", "--spectator"], "has no tick 1000000"),
        (&["at", "--as", "zoe", "--spectator"], "cannot be used with"),
    ] {
        let (well, _, error) = ledger(arguments);
        assert!(!well && error.contains(why), "{arguments:?}: {error}");
    }
}
