//! A client that was away, and kept its replica, is brought to the room's state by what it missed: exactly, and for fewer bytes than a snapshot.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "tests")]

use bevy_app::prelude::*;
use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use bevy_ecs::system::RunSystemOnce;
use roomkeeper::client::{Connection, ConnectionState, Replica, ReplicaPlugin, clear_replica, replica_state};
use roomkeeper::host::{ConnectionId, HostLimits, Lobby, Visitor};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{ClientMessage, LeaveReason, NetId, Protocol, Resume, RoomId, RoomTick, Step};
use roomkeeper::room::{Blueprint, RoomOptions};
use roomkeeper::sim::{LinkConditions, Sim};
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug)]
struct Position([f32; 2]);
#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Noise(Vec<u8>);
#[derive(Component, Serialize, Deserialize, Clone, PartialEq, Debug)]
struct Health(i16);
#[derive(Component, Serialize, Deserialize, Clone, Debug)]
#[component(storage = "SparseSet")]
struct Burning(String);
#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Target {
    #[entities]
    entity: Entity,
    weight: u8,
}
/// Of the ballast, which nobody touches.
#[derive(Component)]
struct Still;
/// A bell rang, for the nth time.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Rang(u32);
#[derive(Component, Serialize, Deserialize)]
struct Hand(u8);

impl Quantity for Health {
    type Amount = i16;
    fn amount(&self) -> i16 {
        self.0
    }
    fn set_amount(&mut self, amount: i16) {
        self.0 = amount;
    }
}

fn protocol(app: &mut App) {
    app.sync::<Position>("position").latest();
    app.sync::<Noise>("noise").latest();
    app.sync::<Health>("health").quantity();
    app.sync::<Burning>("burning");
    app.sync_mapped::<Target>("target");
    app.sync_relationship::<ChildOf>("parent");
    app.stateless_fact::<Rang>("rang");
}

/// The same, but nothing is sent twice.
fn sparing(app: &mut App) {
    app.sync::<Position>("position").latest().when_different();
    app.sync::<Noise>("noise").latest();
    app.sync::<Health>("health").quantity().when_different();
    app.sync::<Burning>("burning").when_different();
    app.sync_mapped::<Target>("target").when_different();
    app.sync_relationship::<ChildOf>("parent");
    app.stateless_fact::<Rang>("rang");
}

fn ring(mut record: Recorder, clock: Res<RoomClock>) {
    if clock.tick().0.is_multiple_of(7) {
        record.fact(Rang(clock.tick().0 / 7));
    }
}

fn rules(app: &mut App) {
    app.add_systems(FixedUpdate, ring);
}

/// Seeds; more by `PROPTEST_CASES`.
fn seeds(count: u64) -> std::ops::Range<u64> {
    0..std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(count)
}

/// A room with so many things that stand still, and a member.
fn room(seed: u64, ballast: u32, link: LinkConditions, replay_bytes_max: usize) -> Sim {
    let protocol = if seed.is_multiple_of(3) { sparing } else { protocol };
    let mut sim = Sim::new(protocol, rules)
        .seed(seed)
        .link(link)
        .options(|options| options.notes = seed.is_multiple_of(2))
        .limits(|limits| limits.replay_bytes_max = replay_bytes_max);
    let mut rng = RoomRng::new(seed);
    for _ in 0..ballast {
        let noise = (0..rng.range(4..40)).map(|_| rng.range(0..256) as u8).collect();
        sim.room_mut().world_mut().spawn((Still, Noise(noise), Health(rng.range(0..999) as i16)));
    }
    sim.join("ann");
    sim.join("witness");
    sim
}

/// Changes of every kind, so many of them: births and deaths, values that come and go, steps, references, relationships, what is disabled.
fn change(sim: &mut Sim, rng: &mut RoomRng, changes: u32) {
    for _ in 0..changes {
        let world = sim.room_mut().world_mut();
        let mut alive = world.query_filtered::<Entity, (Or<(With<Position>, With<Health>)>, Without<Still>, Allow<Disabled>)>();
        let mut things: Vec<Entity> = alive.iter(world).collect();
        things.sort_unstable();
        if things.len() < 12 {
            world.spawn((Position([rng.unit_f32(), 0.0]), Health(50)));
            continue;
        }
        let who = things[rng.range(0..things.len() as u32) as usize];
        let other = things[rng.range(0..things.len() as u32) as usize];
        let amount = rng.range(0..200) as i16;
        let descends = descends(world, other, who);
        let mut thing = world.entity_mut(who);
        match rng.range(0..24) {
            0 => thing.despawn(),
            1 => drop(world.spawn((Health(amount), Burning("hot".into())))),
            2 => world.spawn((Position([9.0, 9.0]), Health(1))).despawn(),
            3..8 => drop(thing.insert(Position([rng.unit_f32(), f32::from(amount)]))),
            8 => drop(thing.remove::<Position>()),
            // Too large for a part, and not.
            9 => drop(thing.insert(Noise(vec![7; usize::from(amount.unsigned_abs()) * 8]))),
            10 => drop(thing.remove::<Noise>()),
            11 => drop(thing.insert(Health(amount))),
            12 => drop(thing.insert(Burning(amount.to_string()))),
            13 => drop(thing.remove::<Burning>()),
            14 => drop(thing.remove::<Burning>().insert(Burning("again".into()))),
            15 | 16 => drop(thing.insert(Target { entity: other, weight: 3 })),
            17 if !descends => drop(thing.insert(ChildOf(other))),
            18 => drop(thing.remove::<ChildOf>()),
            19 => drop(thing.insert(Disabled)),
            20 | 21 => drop(thing.remove::<Disabled>()),
            _ => {
                let step =
                    [Step::Inc(amount), Step::Dec(amount), Step::IncMax { by: amount, max: 150 }, Step::DecMin { by: amount, min: 0 }];
                let step = step[rng.range(0..4) as usize];
                world.run_system_once(move |mut health: Patch<Health>| health.step(who, step).is_some()).unwrap();
            }
        }
    }
}

fn descends(world: &World, from: Entity, who: Entity) -> bool {
    let mut up = Some(from);
    while let Some(at) = up.filter(|at| *at != who) {
        up = world.get::<ChildOf>(at).map(|parent| parent.0);
    }
    up.is_some()
}

fn received(sim: &Sim, name: &str) -> u64 {
    sim.client_of(name).world().resource::<Connection>().received().1
}

/// What coming back cost, in bytes of packets, beside what it costs to be new, and to have stayed.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    back: u64,
    new: u64,
    stayed: u64,
}

/// Lets a client come back, and somebody new come in the same tick. `stayed_before`: what the witness had received when the client went.
fn come_back(sim: &mut Sim, name: &str, spectate: bool, stayed_before: u64) -> Cost {
    let stayed = received(sim, "witness") - stayed_before;
    sim.reconnect(name, spectate).connect("new", true);
    sim.tick_while(|sim| !sim.client_of(name).is_live() || !sim.client_of("new").is_live());
    let cost = Cost { back: received(sim, name), new: received(sim, "new"), stayed };
    sim.leave("new");
    cost
}

/// All hold what the room holds, and nobody was ever sent a snapshot for it.
fn assert_exact(sim: &mut Sim, resumed: u64) {
    sim.settle();
    assert_eq!(sim.assert_converged(), sim.client_names().len());
    let counters = sim.lobby_mut().counters();
    assert_eq!((counters.resumed, counters.resyncs), (resumed, 0));
}

/// Runs some ticks, in each of which so much changes.
fn live(sim: &mut Sim, rng: &mut RoomRng, ticks: u32, changes: f32) {
    for _ in 0..ticks {
        let count = changes as u32 + u32::from(rng.chance(changes.fract()));
        change(sim, rng, count);
        sim.tick();
    }
}

/// How a client fares that is away for so many ticks, in each of which so much changes.
fn away(seed: u64, ticks: u32, changes: f32, spectate: bool) -> Cost {
    let mut sim = room(seed, 150, LinkConditions::PERFECT, 0);
    let mut rng = RoomRng::new(seed);
    let name = if spectate { "sam" } else { "ann" };
    if spectate {
        sim.connect("sam", true).tick_while(|sim| !sim.client_of("sam").is_live());
    }
    change(&mut sim, &mut rng, 60);
    live(&mut sim, &mut rng, 40, changes);
    let before = received(&sim, "witness");
    sim.vanish(name);
    live(&mut sim, &mut rng, ticks, changes);
    let cost = come_back(&mut sim, name, spectate, before);
    sim.assert_converged();
    live(&mut sim, &mut rng, 40, changes);
    assert_exact(&mut sim, 1);
    cost
}

fn assert_cheap(costs: &[Cost], what: &str) {
    let of = |part: fn(&Cost) -> u64| costs.iter().map(part).sum::<u64>() / costs.len() as u64;
    println!("{what}: {} bytes to come back, {} for a snapshot, {} for what was missed", of(|c| c.back), of(|c| c.new), of(|c| c.stayed));
    for cost in costs {
        assert!(cost.back <= cost.new.min(cost.stayed), "{what}: {cost:?}");
    }
}

#[test]
fn who_was_away_for_a_tick_equals_the_room_and_is_sent_no_snapshot() {
    for seed in seeds(30) {
        let cost = away(seed, 1, 3.0, seed.is_multiple_of(2));
        assert!(cost.back < cost.new, "{cost:?}");
    }
}

#[test]
fn eight_seconds_away_cost_no_more_than_a_snapshot_or_what_was_missed() {
    let costs: Vec<Cost> = seeds(30).map(|seed| away(seed, 160, 1.5, seed.is_multiple_of(2))).collect();
    assert_cheap(&costs, "8 s");
}

#[test]
fn five_minutes_away_cost_no_more_than_a_snapshot_or_what_was_missed() {
    let costs: Vec<Cost> = (0..8).map(|seed| away(seed, 6_000, 0.2, seed.is_multiple_of(2))).collect();
    assert_cheap(&costs, "5 min");
}

#[derive(Resource, Default)]
struct Heard(Vec<u32>);

#[derive(Resource, Default)]
struct Order(Vec<(bool, EntityId)>);

/// The facts that were told while it was away for so long, and those that were not.
fn facts_told(seed: u64, away: u32, changes: f32, replay_bytes_max: usize) -> (usize, usize) {
    let mut sim = room(seed, 100, LinkConditions::PERFECT, replay_bytes_max);
    let client = sim.client_mut("ann");
    client.world_mut().init_resource::<Heard>();
    client.world_mut().add_observer(|rang: On<Happened<Rang>>, mut heard: ResMut<Heard>| heard.0.push(rang.0));
    let mut rng = RoomRng::new(seed);
    live(&mut sim, &mut rng, 30, changes);
    sim.vanish("ann");
    live(&mut sim, &mut rng, away, changes);
    sim.reconnect("ann", false);
    live(&mut sim, &mut rng, 20, changes);
    assert_exact(&mut sim, 1);
    let heard = &sim.client_of("ann").world().resource::<Heard>().0;
    assert!(heard.is_sorted_by(|a, b| a < b), "in order and once: {heard:?}");
    let (first, last) = (heard[0], sim.room().tick_now().0 / 7);
    assert_eq!(heard.last(), Some(&last));
    (heard.len(), (last + 1 - first) as usize - heard.len())
}

#[test]
fn facts_that_were_missed_in_a_short_gap_are_told_in_order_and_once() {
    for (seed, away) in (0..12).zip([1, 2, 7, 20, 40, 100, 160, 3, 5, 8, 90, 160]) {
        assert_eq!(facts_told(seed, away, 0.2, 0).1, 0, "seed {seed}, {away} ticks");
        // Where more happens than a snapshot says, it is the host's choice.
        assert_eq!(facts_told(seed, away, 3.0, 128 * 1024).1, 0, "seed {seed}, {away} ticks");
    }
    assert!(facts_told(1, 160, 3.0, 0).1 > 20);
}

#[test]
fn however_many_come_back_at_once_all_equal_the_room() {
    let mut sim = room(1, 100, LinkConditions::PERFECT, 0);
    let mut rng = RoomRng::new(1);
    let names: Vec<String> = (0..24).map(|n| format!("guest{n}")).collect();
    for name in &names {
        sim.connect(name, true);
    }
    live(&mut sim, &mut rng, 30, 1.0);
    for name in &names {
        sim.vanish(name);
        live(&mut sim, &mut rng, 2, 1.0);
    }
    for name in &names {
        sim.reconnect(name, true);
    }
    live(&mut sim, &mut rng, 10, 1.0);
    sim.settle();
    assert_eq!(sim.assert_converged(), 26);
    let counters = sim.lobby_mut().counters();
    assert_eq!(counters.resyncs, 0);
    // Some are at the same tick.
    assert!((16..24).contains(&counters.resumed), "what it costs the tick is bounded: {}", counters.resumed);
}

#[test]
fn whoever_comes_back_hears_first_of_those_who_went_and_of_each_change_once() {
    let mut sim = room(1, 200, LinkConditions::PERFECT, 0);
    let [lamp, statue] = ["lamp", "statue"].map(EntityId::named);
    let world = sim.room_mut().world_mut();
    let [first, second] = [lamp, statue].map(|id| world.spawn((id, Health(7))).id());
    sim.tick();
    let world = sim.client_mut("ann").world_mut();
    world.init_resource::<Order>();
    world.init_resource::<Heard>();
    world.add_observer(|added: On<EntityAdded>, mut order: ResMut<Order>| order.0.push((true, added.id)));
    world.add_observer(|removed: On<EntityRemoved>, mut order: ResMut<Order>| order.0.push((false, removed.id)));
    world.add_observer(|changed: On<ComponentChanged<Health>>, health: Query<&Health>, mut heard: ResMut<Heard>| {
        heard.0.push(health.get(changed.entity).unwrap().0.unsigned_abs().into());
    });
    sim.vanish("ann");
    sim.room_mut().world_mut().entity_mut(first).insert(Disabled);
    for health in 8..20 {
        sim.room_mut().world_mut().entity_mut(second).insert(Health(health));
        sim.tick();
    }
    // Longer than batches are kept.
    sim.run_ticks(700);
    sim.room_mut().world_mut().entity_mut(first).remove::<Disabled>();
    sim.tick();
    sim.reconnect("ann", false).tick_while(|sim| !sim.client_of("ann").is_live());
    assert_exact(&mut sim, 1);
    let world = sim.client_of("ann").world();
    assert_eq!(world.resource::<Heard>().0, [19]);
    let told = |id: EntityId| -> Vec<bool> { world.resource::<Order>().0.iter().filter(|told| told.1 == id).map(|told| told.0).collect() };
    assert_eq!(told(lamp), [false, true]);
    assert_eq!(told(statue), [true; 0]);
}

#[test]
fn who_goes_and_comes_back_within_a_tick_is_the_same_to_those_who_stayed() {
    let mut sim = Sim::new(protocol, rules).limits(|limits| limits.grace_ticks = 0).client("ann").client("witness");
    let ann = EntityId::named("ann");
    let world = sim.client_mut("witness").world_mut();
    world.init_resource::<Order>();
    world.add_observer(|added: On<EntityAdded>, mut order: ResMut<Order>| order.0.push((true, added.id)));
    world.add_observer(|removed: On<EntityRemoved>, mut order: ResMut<Order>| order.0.push((false, removed.id)));
    sim.reconnect("ann", false).run_ticks(3);
    let world = sim.client_of("witness").world();
    assert_eq!(world.resource::<Order>().0, [(false, ann), (true, ann)]);
    let entity = world.resource::<Replica>().entity(ann).unwrap();
    assert!(world.get_entity(entity).is_ok());
    assert_exact(&mut sim, 1);
}

#[test]
fn over_bad_links_and_cut_at_any_moment_it_comes_back_exact() {
    let link = LinkConditions { delay_millis: 60, jitter_millis: 30, loss: 0.2, ..LinkConditions::PERFECT };
    let mut resumed = 0;
    for seed in seeds(40) {
        let mut sim = room(seed, 60, link, 0);
        let mut rng = RoomRng::new(seed);
        for round in 0..4 {
            for _ in 0..rng.range(1..30) {
                change(&mut sim, &mut rng, 3);
                sim.tick();
            }
            sim.vanish("ann");
            // Nothing changes after the cut in every second round: what was lost just before it must not stay lost.
            let (ticks, changes) = (rng.range(1..40), if round % 2 == 0 { 2 } else { 0 });
            for _ in 0..ticks {
                change(&mut sim, &mut rng, changes);
                sim.tick();
            }
            // Now and then longer than batches are kept.
            sim.run_ticks(if rng.chance(0.3) { 620 } else { 0 });
            sim.reconnect("ann", seed.is_multiple_of(2));
        }
        sim.settle();
        assert_eq!(sim.assert_converged(), 2, "seed {seed}");
        let counters = sim.lobby_mut().counters();
        assert_eq!(counters.resyncs, 0, "seed {seed}");
        resumed += counters.resumed;
    }
    let all = seeds(40).end * 4;
    println!("{resumed} of {all} came back by what they missed");
    assert!(resumed * 2 > all, "{resumed} of {all}");
}

#[test]
fn a_value_that_was_lost_again_and_again_before_the_cut_is_not_lost_for_good() {
    let link = LinkConditions { delay_millis: 60, jitter_millis: 40, ..LinkConditions::PERFECT };
    for seed in seeds(60) {
        let mut sim = room(seed, 60, link, 0);
        let mut rng = RoomRng::new(seed);
        let mut things = vec![sim.room_mut().world_mut().spawn((Position([0.0, 0.0]), Health(1))).id()];
        sim.run_ticks(20);
        sim.client_mut("ann").set_link(LinkConditions { loss: 0.45, ..link });
        for _ in 0..rng.range(20..60) {
            // Few things move, once; and some are born, whose values wait for their batch.
            let world = sim.room_mut().world_mut();
            let mover = things[rng.range(0..things.len() as u32) as usize];
            world.get_mut::<Position>(mover).unwrap().0[0] += 1.0;
            if rng.chance(0.4) {
                things.push(world.spawn((Position([0.0, 0.0]), Health(1))).id());
            }
            sim.tick();
        }
        sim.vanish("ann").run_ticks(10);
        sim.reconnect("ann", true);
        sim.client_mut("ann").set_link(link);
        assert_exact(&mut sim, 1);
    }
}

#[test]
fn a_room_that_was_opened_anew_sends_a_snapshot() {
    let mut sim = room(1, 50, LinkConditions::PERFECT, 0);
    sim.run_ticks(20);
    sim.vanish("ann");
    let lobby = sim.lobby_mut();
    lobby.close_room("sim", &roomkeeper::protocol::Refusal::ShuttingDown);
    lobby.open_room(&Blueprint::new(protocol, rules), RoomOptions { check: true, ..RoomOptions::named("sim") }).unwrap();
    for _ in 0..40 {
        sim.room_mut().world_mut().spawn(Health(3));
        sim.tick();
    }
    sim.reconnect("ann", false).tick_while(|sim| !sim.client_of("ann").is_live());
    sim.run_ticks(5);
    assert_eq!(sim.lobby_mut().counters().resumed, 0);
    let (room, replica) = (sim.room_state(), sim.client_state("ann"));
    assert_eq!(room.difference(sim.room().world().resource(), &replica), None);
}

/// Somebody who aims at something.
fn aim(sim: &mut Sim) -> EntityId {
    let archer = EntityId::named("archer");
    let world = sim.room_mut().world_mut();
    let entity = world.spawn((EntityId::named("mark"), Health(3))).id();
    world.spawn((archer, Target { entity, weight: 1 }));
    archer
}

#[test]
fn a_replica_can_be_cleared_although_what_goes_refers_to_what_goes() {
    let mut sim = room(1, 5, LinkConditions::PERFECT, 0);
    aim(&mut sim);
    sim.run_ticks(3);
    let world = sim.client_mut("ann").world_mut();
    assert_eq!(world.query::<&Target>().iter(world).count(), 1);
    clear_replica(world).unwrap();
    assert!(world.resource::<Replica>().is_empty());
    assert_eq!(world.query::<&NetId>().iter(world).count(), 0);
}

#[test]
fn a_room_that_was_opened_anew_without_what_somebody_aimed_at_is_entered() {
    for aims_again in [false, true] {
        let mut sim = room(1, 5, LinkConditions::PERFECT, 0);
        let archer = aim(&mut sim);
        sim.run_ticks(3).vanish("ann");
        let lobby = sim.lobby_mut();
        lobby.close_room("sim", &roomkeeper::protocol::Refusal::ShuttingDown);
        lobby.open_room(&Blueprint::new(protocol, rules), RoomOptions { check: true, ..RoomOptions::named("sim") }).unwrap();
        let world = sim.room_mut().world_mut();
        let entity = world.spawn((EntityId::named("other mark"), Health(9))).id();
        let mut archer = world.spawn((archer, Health(7)));
        if aims_again {
            archer.insert(Target { entity, weight: 1 });
        }
        sim.run_ticks(20);
        sim.reconnect("ann", false).tick_while(|sim| !sim.client_of("ann").is_live());
        sim.run_ticks(5);
        let (room, replica) = (sim.room_state(), sim.client_state("ann"));
        assert_eq!(room.difference(sim.room().world().resource(), &replica), None);
        let world = sim.client_mut("ann").world_mut();
        let aimed: Vec<Entity> = world.query::<&Target>().iter(world).map(|target| target.entity).collect();
        let marked: Vec<Option<i16>> = aimed.iter().map(|entity| world.get::<Health>(*entity).map(|health| health.0)).collect();
        assert_eq!(marked, if aims_again { vec![Some(9)] } else { vec![] });
    }
}

#[test]
fn who_left_and_joins_again_goes_on_with_what_it_kept() {
    let mut sim = room(4, 150, LinkConditions::PERFECT, 0);
    let mut rng = RoomRng::new(4);
    for _ in 0..3 {
        sim.client_mut("ann").world_mut().resource_mut::<Connection>().leave();
        for _ in 0..30 {
            change(&mut sim, &mut rng, 1);
            sim.tick();
        }
        sim.reconnect("ann", false).run_ticks(3);
    }
    assert_exact(&mut sim, 3);
}

#[test]
fn where_something_is_not_for_everybody_a_snapshot_is_sent() {
    let secretive = |app: &mut App| {
        protocol(app);
        app.sync::<Hand>("hand").to_owner();
    };
    let mut sim = Sim::new(secretive, rules).client("ann").client("witness");
    sim.give("witness", Hand(3)).run_ticks(5);
    sim.vanish("ann").run_ticks(5);
    sim.reconnect("ann", false).run_ticks(3);
    assert!(sim.client_of("ann").is_live());
    assert_eq!(sim.lobby_mut().counters().resumed, 0);
}

/// A client whose hellos are forged.
struct Liar {
    app: App,
    lobby: Lobby,
    connections: u64,
    now: u64,
}

impl Liar {
    fn new() -> Self {
        let mut app = App::new();
        app.add_plugins(ReplicaPlugin);
        protocol(&mut app);
        let mut lobby = Lobby::new(HostLimits::default(), false);
        lobby.begin_epoch(7);
        lobby.open_room(&Blueprint::new(protocol, rules), RoomOptions { check: true, ..RoomOptions::named("den") }).unwrap();
        Self { app, lobby, connections: 0, now: 0 }
    }

    /// Joins, with another hello than the client's.
    fn join(&mut self, forge: impl FnOnce(Option<Resume>) -> Option<Resume>) {
        self.lobby.disconnected(ConnectionId(self.connections), LeaveReason::Timeout);
        self.connections += 1;
        self.app.world_mut().resource_scope(|world, mut connection: Mut<Connection>| connection.join(world.resource(), "den", true));
        let hello = self.app.world_mut().resource_mut::<Connection>().next_outgoing().unwrap();
        let ClientMessage::Hello { fingerprint, room, spectate, resume } = ClientMessage::decode(&hello).unwrap() else { panic!() };
        let visitor = Visitor { player: EntityId::named("liar"), name: "liar".into(), room: None };
        self.lobby.connected(ConnectionId(self.connections), visitor);
        let hello = ClientMessage::Hello { fingerprint, room, spectate, resume: forge(resume) }.encode();
        self.lobby.message(ConnectionId(self.connections), &hello);
    }

    fn run(&mut self, ticks: u32) {
        for _ in 0..ticks {
            self.now += 50;
            let now = std::time::Duration::from_millis(self.now);
            self.lobby.advance(now);
            let world = self.lobby.room_mut("den").unwrap().world_mut();
            world.spawn((Health(1), Position([0.0, 0.0])));
            let oldest = world.query_filtered::<Entity, With<Health>>().iter(world).min().unwrap();
            if self.now.is_multiple_of(150) {
                world.despawn(oldest);
            }
            self.lobby.tick_room("den").unwrap();
            let mut packets = Vec::new();
            self.lobby.pump(|_, own, shared| packets.push([own, shared].concat()));
            let mut connection = self.app.world_mut().resource_mut::<Connection>();
            connection.set_now(now);
            packets.into_iter().for_each(|packet| connection.deliver(packet.into()));
            self.app.update();
            let mut connection = self.app.world_mut().resource_mut::<Connection>();
            let messages = std::iter::from_fn(|| connection.next_outgoing()).collect::<Vec<_>>();
            let report = connection.next_report();
            messages.iter().chain(&report).for_each(|message| self.lobby.message(ConnectionId(self.connections), message));
        }
    }

    fn assert_equal(&mut self) {
        assert_eq!(*self.app.world().resource::<Connection>().state(), ConnectionState::Live);
        let room = self.lobby.room_mut("den").unwrap();
        let state = room.state().unwrap();
        let protocol = room.world().resource::<Protocol>();
        assert_eq!(state.difference(protocol, &replica_state(self.app.world_mut()).unwrap()), None);
    }
}

#[test]
fn lies_about_ticks_harm_nobody_and_end_with_a_snapshot() {
    let lies: [fn(Resume) -> Resume; 9] = [
        |held| Resume { tick: RoomTick(u32::MAX), ..held },
        |held| Resume { tick: RoomTick(held.tick.0 + 2), ..held },
        |held| Resume { tick: RoomTick(held.tick.0 + 1), latest: RoomTick(u32::MAX), ..held },
        |held| Resume { tick: RoomTick(held.tick.0 - 3), latest: RoomTick(0), ..held },
        |held| Resume { tick: RoomTick(0), latest: RoomTick(0), ..held },
        |held| Resume { latest: RoomTick(u32::MAX), ..held },
        |held| Resume { epoch: held.epoch + 1, ..held },
        |held| Resume { epoch: 0, ..held },
        |held| Resume { room: RoomId::named("attic"), ..held },
    ];
    for lie in lies {
        let mut liar = Liar::new();
        liar.join(|held| {
            assert_eq!(held, None);
            held
        });
        liar.run(30);
        liar.join(|held| held.map(lie));
        liar.run(30);
        // Whoever was sent what does not fit joins once more, and is then sent everything.
        if *liar.app.world().resource::<Connection>().state() != ConnectionState::Live {
            liar.join(|held| {
                assert_eq!(held, None, "a replica that could not follow is not offered");
                held
            });
            liar.run(30);
        }
        liar.assert_equal();
    }
    // A state out of thin air.
    let mut liar = Liar::new();
    liar.run(5);
    liar.join(|_| Some(Resume { room: RoomId::named("den"), epoch: 7, tick: RoomTick(3), latest: RoomTick(3) }));
    liar.run(3);
    assert!(matches!(liar.app.world().resource::<Connection>().state(), ConnectionState::Broken(_)));
}

#[test]
fn a_game_that_put_its_replica_away_is_sent_everything() {
    let mut liar = Liar::new();
    liar.join(|held| held);
    liar.run(40);
    let world = liar.app.world_mut();
    let mine: Vec<Entity> = world.resource::<Replica>().entities().map(|(_, entity)| entity).collect();
    for entity in mine {
        world.despawn(entity);
    }
    world.insert_resource(Replica::default());
    liar.join(|held| {
        assert!(held.is_some(), "it could not know");
        held
    });
    liar.run(10);
    liar.assert_equal();
}

/// How often users joined and left, as the room tells it.
fn comings(sim: &Sim) -> (usize, usize) {
    (sim.facts_of::<UserJoined>().len(), sim.facts_of::<UserLeft>().len())
}

#[test]
fn a_seat_is_kept_for_who_is_away_and_no_longer() {
    let mut sim = room(5, 10, "rtt=100ms,loss=2%".parse().unwrap(), 0);
    sim.run_ticks(20);
    let ann = EntityId::named("ann");
    let entity = sim.room().entity(ann).unwrap();
    // Eight seconds: the host gives the connection up after five, and keeps the seat.
    sim.vanish("ann").run_ticks(160);
    assert_eq!((sim.room().entity(ann), comings(&sim)), (Some(entity), (2, 0)));
    sim.reconnect("ann", false).tick_while(|sim| !sim.client_of("ann").is_live());
    sim.settle();
    assert_eq!((sim.room().entity(ann), comings(&sim), sim.assert_converged()), (Some(entity), (2, 0), 2));
    let counters = sim.lobby_mut().counters();
    assert_eq!((counters.timed_out, counters.returned, counters.resyncs), (1, 1, 0));
    // Twenty: it has left when the ten seconds are over, and joins as somebody new.
    sim.vanish("ann").run_ticks(290);
    assert_eq!(comings(&sim), (2, 0));
    sim.run_ticks(20);
    assert_eq!((sim.room().entity(ann), comings(&sim)), (None, (2, 1)));
    sim.reconnect("ann", false).tick_while(|sim| !sim.client_of("ann").is_live());
    assert_eq!(comings(&sim), (3, 1));
    sim.settle();
    assert_eq!(sim.assert_converged(), 2);
}

#[test]
fn a_seat_that_is_kept_is_not_given_to_a_stranger() {
    let mut sim = Sim::new(protocol, rules).limits(|limits| limits.members_per_room_max = 2).client("ann").client("bob");
    sim.vanish("ann").run_ticks(160);
    sim.connect("carl", false).run_ticks(10);
    assert!(!sim.client_of("carl").is_live());
    sim.reconnect("ann", false).tick_while(|sim| !sim.client_of("ann").is_live());
    assert_eq!(comings(&sim), (2, 0));
}

#[test]
fn whose_network_is_cut_for_three_seconds_goes_on_with_nothing_lost() {
    let mut sim = room(6, 10, "rtt=80ms".parse().unwrap(), 0);
    let mut rng = RoomRng::new(6);
    live(&mut sim, &mut rng, 40, 3.0);
    let rung = |sim: &Sim| sim.client_of("ann").world().resource::<Heard>().0.clone();
    let world = sim.client_mut("ann").world_mut();
    world.init_resource::<Heard>();
    world.add_observer(|rang: On<Happened<Rang>>, mut heard: ResMut<Heard>| heard.0.push(rang.0));
    live(&mut sim, &mut rng, 20, 3.0);
    let last = *rung(&sim).last().unwrap();
    sim.client_mut("ann").set_link("rtt=80ms,loss=100%".parse().unwrap());
    live(&mut sim, &mut rng, 60, 3.0);
    assert!(rung(&sim).last().unwrap() - last <= 1, "nothing came");
    sim.client_mut("ann").set_link("rtt=80ms".parse().unwrap());
    live(&mut sim, &mut rng, 60, 3.0);
    sim.settle();
    let rung = rung(&sim);
    assert!(rung.windows(2).all(|pair| pair[1] == pair[0] + 1), "{rung:?}");
    assert_eq!((sim.assert_converged(), sim.lobby_mut().counters().resyncs), (2, 0));
}
