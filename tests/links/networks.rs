//! Networks as they are: what members see over links that lose, delay, double and reorder, and what it costs.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use bevy_ecs::system::RunSystemOnce;
use roomkeeper::client::{Connection, ConnectionState, HeadlessReplica, Sight};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{LINK_PROFILES, NetId, Refusal};
use roomkeeper::room::RoomRng;
use roomkeeper::sim::{LinkConditions, Sim};
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Position([f32; 2]);
#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Facing(u8);
#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Health(u32);

fn protocol(app: &mut App) {
    app.sync::<Position>("position").latest();
    app.sync::<Facing>("facing").latest();
    app.sync::<Health>("health");
}

fn rules(_: &mut App) {}

/// Changes of every kind: moves, turns, hits, births, deaths, values that come and go.
fn change(sim: &mut Sim, rng: &mut RoomRng) {
    let world = sim.room_mut().world_mut();
    let things: Vec<Entity> = world.query_filtered::<Entity, With<Health>>().iter(world).collect();
    for thing in &things {
        let mut entity = world.entity_mut(*thing);
        if rng.chance(0.5)
            && let Some(mut position) = entity.get_mut::<Position>()
        {
            position.0[0] += rng.unit_f32();
        }
        match rng.range(0..40) {
            0..4 => entity.get_mut::<Health>().unwrap().0 += 1,
            4 => drop(entity.remove::<Position>()),
            5 => drop(entity.insert(Position([0.5, rng.unit_f32()]))),
            6..8 => drop(entity.insert(Facing(rng.range(0..8) as u8))),
            8 => drop(entity.remove::<Facing>()),
            9 => world.entity_mut(*thing).despawn(),
            _ => {}
        }
    }
    for _ in things.len()..40 {
        world.spawn((Position([rng.unit_f32(), 0.0]), Health(100)));
    }
}

/// Ticks within which all must be equal: two round trips, as long as they get, and two ticks.
fn bound(link: LinkConditions) -> u32 {
    let one_way = link.delay_millis + link.jitter_millis;
    // A datagram that is reordered is held back for up to so much more.
    let held = if link.reordering > 0.0 { 2 * one_way + 20 } else { 0 };
    (2 * 2 * (one_way + held)).div_ceil(50) + 2
}

fn differs(sim: &mut Sim, name: &str) -> Option<String> {
    let (room, replica) = (sim.room_state(), sim.client_state(name));
    room.difference(sim.room().world().resource(), &replica)
}

/// With what waits before a link that carries little.
fn bound_of_profile(link: LinkConditions) -> u32 {
    let queue = if link.kbit_per_second > 0 { 2 * 300_u32.div_ceil(50) } else { 0 };
    bound(link) + queue
}

/// How many ticks after the last change, and the last loss, all replicas equal the room.
fn settles_within(link: LinkConditions, seed: u64) -> u32 {
    let mut sim = Sim::new(protocol, rules).seed(seed).link(link).client("ann").client("ben");
    let mut rng = RoomRng::new(seed);
    for _ in 0..60 {
        change(&mut sim, &mut rng);
        sim.tick();
    }
    for name in ["ann", "ben"] {
        sim.client_mut(name).set_link(LinkConditions { loss: 0.0, burst: 0.0, ..link });
    }
    for ticks in 0..200 {
        if ["ann", "ben"].iter().all(|name| differs(&mut sim, name).is_none()) {
            for name in ["ann", "ben"] {
                assert!(sim.client_of(name).told().diverged.is_empty(), "{:?}", sim.client_of(name).told().diverged);
            }
            return ticks;
        }
        sim.tick();
    }
    panic!("{:?}, seed {seed}: {:?} {:?}", link, differs(&mut sim, "ann"), differs(&mut sim, "ben"));
}

/// Checks all losses and round trips, with so many seeds for each.
fn all_settle(reordering: f32, seeds: u64) {
    for loss in [0.0, 0.01, 0.05, 0.2] {
        for rtt in [0, 50, 150, 300] {
            let (duplication, jitter_millis) = (0.01, rtt / 5);
            let link = LinkConditions { loss, delay_millis: rtt / 2, jitter_millis, duplication, reordering, ..LinkConditions::PERFECT };
            let mut histogram: BTreeMap<u32, u32> = BTreeMap::new();
            for seed in 0..seeds {
                *histogram.entry(settles_within(link, seed)).or_default() += 1;
            }
            println!("{link}: at most {} ticks, took {histogram:?}", bound(link));
            let worst = *histogram.last_key_value().unwrap().0;
            assert!(worst <= bound(link), "{link}: {histogram:?}");
        }
    }
}

#[test]
fn every_replica_equals_the_room_within_two_round_trips_and_two_ticks_of_the_last_change() {
    all_settle(0.0, 24);
}

#[test]
fn datagrams_that_overtake_each_other_change_nothing_about_that() {
    all_settle(0.02, 24);
}

#[test]
fn links_as_players_have_them_change_nothing_about_that() {
    for (name, link) in LINK_PROFILES {
        let took: Vec<u32> = (0..24).map(|seed| settles_within(link, seed)).collect();
        let worst = took.iter().max().unwrap();
        println!("{name} ({link}), seeds 0 to 23: at most {} ticks, took {took:?}", bound_of_profile(link));
        assert!(*worst <= bound_of_profile(link), "{name}: {took:?}");
    }
}

/// A thing that hangs on another.
#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Aims(#[entities] Entity);

fn hanging(app: &mut App) {
    app.sync_relationship::<ChildOf>("parent");
    app.sync_mapped::<Aims>("aims");
    app.sync::<Health>("health");
}

/// Plants a tree or two, grafts and fells some.
fn grow(sim: &mut Sim, rng: &mut RoomRng) -> u32 {
    let world = sim.room_mut().world_mut();
    let planted = 1 + rng.range(0..2);
    let older = world.query_filtered::<Entity, (With<Health>, Without<ChildOf>)>().iter(world).next().unwrap_or(Entity::PLACEHOLDER);
    for _ in 0..planted {
        let mut tree = vec![world.spawn(Health(1)).id()];
        for n in 1..2 + rng.range(0..6) {
            let parent = tree[rng.range(0..n) as usize];
            let branch = world.spawn((Health(2), ChildOf(parent))).id();
            if rng.chance(0.7) {
                // Another tree may be felled before this one.
                let aim = if rng.chance(0.5) { tree[rng.range(0..n) as usize] } else { older };
                world.entity_mut(branch).insert(Aims(aim));
            }
            tree.push(branch);
        }
        // A leaf may be named before it is there.
        let leaf = tree[tree.len() - 1];
        world.entity_mut(tree[0]).insert(Aims(leaf));
    }
    let roots: Vec<Entity> = world.query_filtered::<Entity, (With<Health>, Without<ChildOf>)>().iter(world).collect();
    if let [.., graft, onto] = roots[..]
        && rng.chance(0.3)
    {
        world.entity_mut(graft).insert(ChildOf(onto)).remove::<Aims>();
    }
    for root in roots.iter().take(roots.len().saturating_sub(12)) {
        world.entity_mut(*root).despawn();
    }
    planted
}

#[test]
fn nothing_is_ever_shown_that_hangs_on_what_is_not_there() {
    let (mut planted, mut looked) = (0, 0_u64);
    for (seed, link) in
        [(1, "loss=20%,rtt=150ms,jitter=60ms"), (2, "train"), (3, "wifi"), (4, "loss=5%,burst=6,rtt=50ms,reorder=5%,dup=5%")]
    {
        let mut sim = Sim::new(hanging, rules).seed(seed).link(link.parse().unwrap()).client("ann");
        let mut rng = RoomRng::new(seed);
        let mut kinds = BTreeMap::new();
        for _ in 0..1_700 {
            planted += grow(&mut sim, &mut rng);
            sim.tick();
            let world = sim.client_mut("ann").world_mut();
            let mut shown = world.query::<(&Health, Option<&ChildOf>, Option<&Aims>)>();
            for (health, parent, aims) in shown.iter(world) {
                // Only a root has no parent; a root that was grafted has one too.
                assert!(health.0 == 1 || parent.is_some(), "a branch without a tree, seed {seed}");
                assert!(parent.is_none_or(|parent| world.get::<Health>(parent.0).is_some()), "hangs on nothing, seed {seed}");
                let aimed = aims.map(|aims| aims.0).filter(|aim| *aim != Entity::PLACEHOLDER);
                assert!(aimed.is_none_or(|aim| world.get_entity(aim).is_ok()), "aims at nobody, seed {seed}");
                *kinds.entry((parent.is_some(), aimed.is_some())).or_insert(0) += 1;
                looked += 1;
            }
        }
        assert!(kinds.len() == 3 && sim.client_of("ann").told().diverged.is_empty(), "{kinds:?}");
        sim.settle();
        assert_eq!(sim.assert_converged(), 1);
    }
    println!("{planted} trees, {looked} looks at a branch");
    assert!(planted >= 10_000, "{planted}");
}

/// The tick in which a value was written.
#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Stamp(u32);

fn stamped(app: &mut App) {
    app.sync::<Stamp>("stamp").latest();
}

/// The ages of values at a client, in ticks, sampled at each tick, and the bytes that it was sent. A tenth of the things is written each tick.
fn ages(link: LinkConditions, seed: u64) -> (Vec<u32>, u64) {
    let mut sim = Sim::new(stamped, rules).seed(seed).link(link);
    let things: Vec<Entity> = (0..100).map(|_| sim.room_mut().world_mut().spawn(Stamp(0)).id()).collect();
    let mut sim = sim.client("ann");
    sim.run_ticks(40);
    let before = sim.client_of("ann").world().resource::<Connection>().received().1;
    // When each thing was written last but once: what the client has must not be older than that for long.
    let mut written = vec![Vec::new(); things.len()];
    let mut ages = Vec::new();
    let mut rng = RoomRng::new(seed);
    for _ in 0..600 {
        let tick = sim.room().tick_now().0 + 1;
        for _ in 0..10 {
            let n = rng.range(0..100) as usize;
            if written[n].last() != Some(&tick) {
                sim.room_mut().world_mut().get_mut::<Stamp>(things[n]).unwrap().0 = tick;
                written[n].push(tick);
            }
        }
        sim.tick();
        let world = sim.client_mut("ann").world_mut();
        let shown: Vec<u32> = world.query::<(&NetId, &Stamp)>().iter(world).map(|(_, stamp)| stamp.0).collect();
        let ids: Vec<usize> = world.query::<(&NetId, &Stamp)>().iter(world).map(|(id, _)| id.get() as usize).collect();
        for (n, shown) in ids.iter().zip(shown) {
            // The age of what is missing: since when a newer value has been there.
            let newer = written[*n].iter().find(|written| **written > shown);
            ages.push(newer.map_or(0, |newer| tick - newer));
        }
    }
    ages.sort_unstable();
    (ages, sim.client_of("ann").world().resource::<Connection>().received().1 - before)
}

#[test]
fn latest_values_stay_young_and_cheap_where_packets_are_lost() {
    let link: LinkConditions = "rtt=40ms".parse().unwrap();
    let (_, lossless) = ages(link, 1);
    let (ages, lossy) = ages(LinkConditions { loss: 0.05, ..link }, 1);
    let p99 = ages[ages.len() * 99 / 100] * 50;
    let ratio = lossy as f64 / lossless as f64;
    println!("5 % loss, 40 ms: p99 of the age {p99} ms, {ratio:.3} times the bytes ({lossy} to {lossless})");
    assert!(p99 < 150, "{p99} ms");
    assert!(ratio <= 1.15, "{ratio}");
}

#[test]
fn one_packet_in_five_lost_leaves_places_young_and_doors_on_time() {
    let link: LinkConditions = "loss=20%,rtt=100ms".parse().unwrap();
    let (ages, _) = ages(link, 1);
    let p95 = ages[ages.len() * 95 / 100] * 50;
    // Doors go in order, and wait for what was lost before them.
    let mut sim = Sim::new(protocol, rules).seed(1).link(link).client("ann");
    let door = sim.room_mut().world_mut().spawn(Health(0)).id();
    let movers: Vec<Entity> = (0..100).map(|_| sim.room_mut().world_mut().spawn((Position([0.0; 2]), Health(7))).id()).collect();
    let mut waits = Vec::new();
    for turn in 1..=400 {
        sim.room_mut().world_mut().get_mut::<Health>(door).unwrap().0 = 1_000 + turn;
        for wait in 0.. {
            let world = sim.room_mut().world_mut();
            movers.iter().for_each(|mover| world.get_mut::<Position>(*mover).unwrap().0[0] += 0.25);
            sim.tick();
            let world = sim.client_mut("ann").world_mut();
            if world.query::<&Health>().iter(world).any(|health| health.0 == 1_000 + turn) {
                waits.push(wait);
                break;
            }
        }
    }
    waits.sort_unstable();
    let [median, p95_door, longest] = [waits.len() / 2, waits.len() * 95 / 100, waits.len() - 1].map(|at| waits[at] * 50);
    println!("20 % loss, 100 ms: p95 of the age {p95} ms; doors {median} ms in the median, p95 {p95_door}, longest {longest}");
    assert!(p95 < 150, "{p95} ms");
    // The way there, and at most two round trips of stalling.
    assert!(p95_door <= 50 + 200, "{p95_door} ms");
}

#[test]
fn without_loss_the_bytes_are_the_same_at_every_round_trip() {
    let bytes = [0, 50, 150, 300].map(|rtt| {
        let link = LinkConditions { delay_millis: rtt / 2, ..LinkConditions::PERFECT };
        (rtt, ages(link, 3).1 as f64)
    });
    println!("{bytes:?}");
    // Echoes of reports, by which clients measure the round trip, are all that may differ.
    assert!(bytes.iter().all(|(_, of)| (of / bytes[0].1 - 1.0).abs() < 0.01), "{bytes:?}");
}

#[test]
fn however_long_the_way_is_values_come_and_are_as_old_as_it_is() {
    // A satellite, and a way on which packets wait for seconds: nothing is known of it before the first seem to be lost.
    for delay_millis in [350, 600, 1_500] {
        let link = LinkConditions { delay_millis, ..LinkConditions::PERFECT };
        let mut sim = Sim::new(protocol, rules).link(link).client("ann");
        let movers: Vec<Entity> = (0..50).map(|_| sim.room_mut().world_mut().spawn((Position([0.0; 2]), Health(7))).id()).collect();
        for _ in 0..300 {
            let world = sim.room_mut().world_mut();
            movers.iter().for_each(|mover| world.get_mut::<Position>(*mover).unwrap().0[0] += 1.0);
            sim.tick();
        }
        let there = sim.room().world().get::<Position>(movers[0]).unwrap().0[0];
        let world = sim.client_mut("ann").world_mut();
        let oldest = world.query::<&Position>().iter(world).map(|position| there - position.0[0]).fold(0.0, f32::max);
        println!("{delay_millis} ms each way: {oldest} ticks old");
        assert!(oldest <= delay_millis as f32 / 50.0 + 2.0, "{delay_millis} ms each way: {oldest} ticks old");
    }
}

#[test]
fn who_is_put_out_hears_why_though_the_last_tick_before_was_lost() {
    let link: LinkConditions = "rtt=40ms".parse().unwrap();
    let mut sim = Sim::new(protocol, rules).link(link).client("ann");
    let thing = sim.room_mut().world_mut().spawn((Position([0.0; 2]), Health(7))).id();
    sim.run_ticks(20);
    // A value, and beside it something in order, in one packet that is lost.
    sim.client_mut("ann").set_link(LinkConditions { loss: 1.0, ..link });
    let world = sim.room_mut().world_mut();
    world.get_mut::<Position>(thing).unwrap().0[0] = 1.0;
    world.get_mut::<Health>(thing).unwrap().0 = 1;
    sim.tick();
    sim.client_mut("ann").set_link(link);
    let ann = sim.client_of("ann").player();
    assert!(sim.lobby_mut().kick("sim", ann, "bye"));
    sim.run_ticks(25);
    let state = sim.client_of("ann").state();
    assert!(matches!(state, ConnectionState::Refused(Refusal::Kicked(why), _) if why == "bye"), "{state}");
}

#[test]
fn a_client_that_does_not_answer_for_half_a_second_is_not_sent_a_twentieth_from_then_on() {
    let link: LinkConditions = "rtt=40ms".parse().unwrap();
    for phase in 0..6 {
        let mut sim = Sim::new(stamped, rules).link(link).client("ann");
        let thing = sim.room_mut().world_mut().spawn(Stamp(0)).id();
        let pass = |sim: &mut Sim, ticks: u32| {
            for _ in 0..ticks {
                sim.room_mut().world_mut().get_mut::<Stamp>(thing).unwrap().0 += 1;
                sim.tick();
            }
        };
        let rate = |sim: &mut Sim| {
            let ann = sim.client_of("ann").player();
            let ann = sim.lobby_mut().connection_of("sim", ann).unwrap();
            sim.lobby_mut().path(ann).unwrap().1
        };
        pass(&mut sim, 40 + phase);
        let before = rate(&mut sim);
        sim.client_mut("ann").set_link(LinkConditions { loss: 1.0, ..link });
        pass(&mut sim, 10);
        sim.client_mut("ann").set_link(link);
        pass(&mut sim, 20);
        let after = rate(&mut sim);
        assert!(after >= before / 8.0, "phase {phase}: from {before} to {after}");
    }
}

#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Pose(Vec<u8>);
#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Face(Vec<u8>);

#[test]
fn what_changes_of_one_thing_in_a_tick_goes_in_packets_that_leave() {
    let large = |app: &mut App| {
        app.sync::<Pose>("pose").latest();
        app.sync::<Face>("face").latest();
    };
    let mut sim = Sim::new(large, rules).client("ann");
    let thing = sim.room_mut().world_mut().spawn((Pose(vec![0; 700]), Face(vec![0; 700]))).id();
    sim.run_ticks(20);
    sim.client_mut("ann").keep_packets();
    for n in 1..=20 {
        let world = sim.room_mut().world_mut();
        world.get_mut::<Pose>(thing).unwrap().0.fill(n);
        world.get_mut::<Face>(thing).unwrap().0.fill(n);
        sim.tick();
    }
    let largest = sim.client_of("ann").packets().iter().map(|packet| packet.len()).max().unwrap();
    assert!(largest <= roomkeeper::protocol::limits::PACKET_BYTES_MAX, "{largest}");
    sim.settle();
    assert_eq!(sim.assert_converged(), 1);
}

/// What somebody has: of 1,020 things and little gold it just fits into a part.
#[derive(Component, Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Hoard {
    gold: u32,
    things: Vec<u8>,
}

impl Quantity for Hoard {
    type Amount = u32;
    fn amount(&self) -> u32 {
        self.gold
    }
    fn set_amount(&mut self, amount: u32) {
        self.gold = amount;
    }
}

#[test]
fn steps_of_what_now_and_then_is_too_large_for_a_part_come_to_the_same_whatever_was_lost() {
    let hoards = |app: &mut App| {
        app.sync::<Hoard>("hoard").latest().quantity();
    };
    for seed in 0..40 {
        let link = LinkConditions { loss: 0.3, delay_millis: 60, jitter_millis: 30, reordering: 0.1, ..LinkConditions::PERFECT };
        let mut sim = Sim::new(hoards, rules).seed(seed).link(link).client("ann");
        let mut rng = RoomRng::new(seed);
        let hoard = sim.room_mut().world_mut().spawn(Hoard { gold: 0, things: vec![7; 1_020] }).id();
        sim.run_ticks(20);
        for _ in 0..60 {
            let world = sim.room_mut().world_mut();
            let things = [100, 1_020, 1_021, 1_500][rng.range(0..4) as usize];
            match rng.range(0..8) {
                0 => drop(world.entity_mut(hoard).insert(Hoard { gold: 245, things: vec![rng.range(0..256) as u8; things] })),
                1 => drop(world.entity_mut(hoard).remove::<Hoard>()),
                _ => {}
            }
            if rng.chance(0.7) {
                world.run_system_once(move |mut hoards: Patch<Hoard>| hoards.inc(hoard, 3)).unwrap();
            }
            if !world.entity(hoard).contains::<Hoard>() && rng.chance(0.5) {
                world.entity_mut(hoard).insert(Hoard { gold: 1, things: vec![1; things] });
            }
            sim.tick();
        }
        sim.client_mut("ann").set_link(LinkConditions::PERFECT);
        sim.run_ticks(60);
        assert_eq!(differs(&mut sim, "ann"), None, "seed {seed}");
        let told = sim.client_of("ann").told();
        assert!(sim.client_of("ann").is_live() && told.diverged.is_empty(), "seed {seed}: {:?}", told.diverged);
    }
}

#[test]
fn a_replica_of_plain_data_comes_to_the_same_though_packets_overtake_each_other() {
    for seed in 0..8 {
        let mut sim = Sim::new(protocol, rules).seed(seed);
        sim.connect("ann", true).client_mut("ann").keep_packets();
        let mut rng = RoomRng::new(seed);
        for _ in 0..80 {
            change(&mut sim, &mut rng);
            sim.tick();
        }
        let packets = sim.client_of("ann").packets().to_vec();
        let mut app = App::new();
        protocol(&mut app);
        let mut replica = HeadlessReplica::new(app.world_mut().remove_resource().unwrap());
        let (mut latest, mut batches) = (0, 0);
        for (n, pair) in packets.chunks(2).enumerate() {
            // The welcome and the snapshot come first.
            let turned = if n < 2 { pair.to_vec() } else { pair.iter().rev().cloned().collect() };
            for packet in turned {
                for sight in replica.deliver(Duration::from_millis(n as u64 * 50), &packet).unwrap() {
                    latest += u32::from(matches!(sight, Sight::Latest(..)));
                    batches += u32::from(matches!(sight, Sight::Batch(..)));
                }
            }
        }
        let seen = sim.client_state("ann");
        assert_eq!(seen.difference(replica.protocol(), replica.state()), None, "seed {seed}");
        assert!(latest > 40 && batches > 40, "seed {seed}: {latest} parts, {batches} batches");
    }
}
