//! Networks as they are: what members see over links that lose, delay, double and reorder, and what it costs.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "tests")]

use std::collections::BTreeMap;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::client::Connection;
use roomkeeper::prelude::*;
use roomkeeper::protocol::NetId;
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
    let _ = app.sync::<Health>("health");
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

/// How many ticks after the last change, and the last loss, all replicas equal the room.
fn settles_within(link: LinkConditions, seed: u64) -> u32 {
    let mut sim = Sim::new(protocol, rules).seed(seed).link(link).client("ann").client("ben");
    let mut rng = RoomRng::new(seed);
    for _ in 0..60 {
        change(&mut sim, &mut rng);
        sim.tick();
    }
    for name in ["ann", "ben"] {
        sim.client_mut(name).set_link(LinkConditions { loss: 0.0, ..link });
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
fn without_loss_the_bytes_are_the_same_at_every_round_trip() {
    let bytes = [0, 50, 150, 300].map(|rtt| {
        let link = LinkConditions { delay_millis: rtt / 2, ..LinkConditions::PERFECT };
        (rtt, ages(link, 3).1 as f64)
    });
    println!("{bytes:?}");
    // Echoes of reports, by which clients measure the round trip, are all that may differ.
    assert!(bytes.iter().all(|(_, of)| (of / bytes[0].1 - 1.0).abs() < 0.01), "{bytes:?}");
}
