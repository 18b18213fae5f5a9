//! Joining where the way is narrow: snapshots of several megabytes arrive, the joiner is told how far they are, and nobody else notices. And how a client
//! spawns what it is told of: all the same.
#![expect(clippy::unwrap_used, reason = "tests")]

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::client::{Connection, ConnectionState};
use roomkeeper::prelude::*;
use roomkeeper::protocol::NetId;
use roomkeeper::room::RoomRng;
use roomkeeper::sim::{LinkConditions, Sim};
use serde::{Deserialize, Serialize};

/// Bytes of chance, 32 each: nothing can be packed.
#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Noise(Vec<[u8; 32]>);
/// The tick in which it was written.
#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Stamp(u32);
#[derive(Component, Serialize, Deserialize, Clone, Debug)]
struct Health(u32);

fn protocol(app: &mut App) {
    app.sync::<Noise>("noise");
    app.sync::<Health>("health");
    app.sync::<Stamp>("stamp").latest();
}

/// A hundred things of which a fifth moves and a few are hurt in each tick.
fn live(clock: Res<RoomClock>, mut stamps: Query<&mut Stamp>, mut healths: Query<&mut Health>) {
    let tick = clock.tick().0;
    stamps.iter_mut().skip(tick as usize % 5).step_by(5).for_each(|mut stamp| stamp.0 = tick);
    healths.iter_mut().skip(tick as usize % 40).step_by(40).for_each(|mut health| health.0 += 1);
}

#[derive(Resource, PartialEq)]
struct Lively(bool);

fn rules(app: &mut App) {
    app.insert_resource(Lively(true)).add_systems(FixedUpdate, live.run_if(resource_equals(Lively(true))));
}

/// A room with so many things that hold so many times 32 bytes of noise, and a hundred that live.
fn room(things: usize, noise: usize, seed: u64) -> Sim {
    let mut sim = Sim::new(protocol, rules).seed(seed).options(|options| options.check = false);
    let mut rng = RoomRng::new(seed);
    let world = sim.room_mut().world_mut();
    for _ in 0..things {
        world.spawn(Noise((0..noise).map(|_| std::array::from_fn(|_| rng.range(0..256) as u8)).collect()));
    }
    for _ in 0..100 {
        world.spawn((Stamp(0), Health(100)));
    }
    sim.tick();
    sim
}

/// What a member has got: packets, bytes, and the age of all values together.
fn seen(sim: &mut Sim, name: &str) -> (u64, u64, u32) {
    let tick = sim.room().tick_now().0;
    let world = sim.client_mut(name).world_mut();
    let ages = world.query::<(&NetId, &Stamp)>().iter(world).map(|(_, stamp)| tick.saturating_sub(stamp.0)).sum();
    let (packets, bytes) = world.resource::<Connection>().received();
    (packets, bytes, ages)
}

/// Ben plays; a spectator may come over a link. Gives what ben has seen by each tick, and how far the joiner was.
fn played(link: Option<LinkConditions>, ticks: usize) -> (Vec<(u64, u64, u32)>, Vec<f32>) {
    let (mut ben, mut progress) = (Vec::new(), Vec::new());
    let mut sim = room(50_000, 2, 5).link("rtt=50ms".parse().unwrap()).client("ben");
    sim.run_ticks(40);
    if let Some(link) = link {
        sim = sim.link(link);
        sim.connect("ann", true);
    }
    for _ in 0..ticks {
        sim.tick();
        ben.push(seen(&mut sim, "ben"));
        if link.is_some() {
            match sim.client_of("ann").state() {
                ConnectionState::Joining(share) => progress.push(*share),
                ConnectionState::Live => {}
                other => panic!("{other}"),
            }
        }
    }
    if link.is_some() {
        sim.room_mut().world_mut().insert_resource(Lively(false));
        sim.settle();
        assert_eq!(sim.assert_converged(), 2);
        assert_eq!(sim.lobby_mut().counters().resyncs, 0);
    }
    (ben, progress)
}

#[test]
fn three_megabytes_arrive_over_a_narrow_lossy_link_and_nobody_else_notices() {
    let link = LinkConditions { kbit_per_second: 1_000, loss: 0.05, delay_millis: 40, jitter_millis: 10, ..LinkConditions::PERFECT };
    let (with, progress) = played(Some(link), 900);
    println!("live after {} ticks", progress.len());
    assert!(progress.len() < 900, "{:?}", progress.last());
    assert!(progress.is_sorted(), "the share that is here only grows");
    let mut steps = progress.clone();
    steps.dedup();
    assert!(steps.len() > 100, "{} steps", steps.len());
    let longest = progress.chunk_by(|one, other| one == other).map(<[f32]>::len).max().unwrap();
    assert!(longest <= 20, "nothing moves for {longest} ticks");
    let (without, _) = played(None, 900);
    assert!(with == without, "ben is sent the very same");
}

/// The share of what a link carries that a join over it makes use of.
fn used(link: LinkConditions) -> f64 {
    let mut sim = room(if link.kbit_per_second > 2_000 { 4_000 } else { 1_000 }, 32, 3).link(link);
    let bytes = sim.room_mut().snapshot().unwrap().len() as f64;
    sim.connect("ann", true);
    let mut ticks = 0_u32;
    while !sim.client_of("ann").is_live() {
        sim.tick();
        ticks += 1;
        assert!(ticks < 3_000, "{link}: {}", sim.client_of("ann").state());
    }
    bytes / (f64::from(ticks) * 0.05) / f64::from(link.kbit_per_second * 125)
}

#[test]
fn a_join_makes_use_of_what_its_link_carries() {
    for kbit_per_second in [256, 1_000, 8_000] {
        for loss in [0.0, 0.05] {
            for rtt in [50, 150] {
                let link = LinkConditions { kbit_per_second, loss, delay_millis: rtt / 2, ..LinkConditions::PERFECT };
                let share = used(link);
                println!("{link}: {:.0} %", share * 100.0);
                assert!(share > if kbit_per_second > 1_000 { 0.55 } else { 0.8 }, "{link}: {share}");
            }
        }
    }
}

/// Things of which many have just a stamp and a health, and some belong to others.
fn owned(app: &mut App) {
    protocol(app);
    app.sync_relationship::<OwnedBy>("owned_by");
}

/// Spawns a thing: one of five makes noise besides, one of seven is never hurt.
fn thing(world: &mut World, number: u32, name: Option<&str>, owner: Option<Entity>) -> Entity {
    let mut thing = match name {
        Some(name) => world.spawn((EntityId::named(name), Name::new(name.to_owned()), Stamp(number))),
        None => world.spawn(Stamp(number)),
    };
    if !number.is_multiple_of(7) {
        thing.insert(Health(number));
    }
    if number.is_multiple_of(5) {
        thing.insert(Noise(vec![[number as u8; 32]]));
    }
    if let Some(owner) = owner {
        thing.insert(OwnedBy(owner));
    }
    thing.id()
}

/// Lets things go, come, and come again under their names in the same tick, and changes some.
fn churn(world: &mut World, things: &mut Vec<Entity>, rng: &mut RoomRng, related: bool) {
    for _ in 0..rng.range(0..5) {
        let gone = rng.range(0..things.len() as u32) as usize;
        world.despawn(things.swap_remove(gone));
    }
    for nth in 0..rng.range(0..7) {
        let (number, name) = (rng.range(1..1_000), rng.chance(0.4).then(|| format!("thing_{nth}")));
        let is_it = |thing: &Entity| name.as_deref().is_some_and(|name| world.get::<EntityId>(*thing) == Some(&EntityId::named(name)));
        let there = things.iter().position(is_it);
        if let Some(there) = there {
            world.despawn(things.swap_remove(there));
        }
        let owner = rng.range(0..2 * things.len() as u32) as usize;
        let owner = things.get(owner).copied().filter(|_| related);
        things.push(thing(world, number, name.as_deref(), owner));
    }
    world.query::<&mut Health>().iter_mut(world).step_by(5).for_each(|mut health| health.0 += 1);
}

/// Two more clients, of which the first spawns together what comes together.
fn two_more(sim: &mut Sim, (one, other): (&str, &str)) {
    sim.connect(one, true).connect(other, true);
    let app = sim.client_mut(one).app_mut();
    // One in a row, one with another in it, one that refers.
    app.spawn_together::<(Stamp, Health)>().spawn_together::<((Noise, Stamp), Health)>().spawn_together::<(OwnedBy, Stamp, Health)>();
}

#[test]
fn who_spawns_together_what_comes_together_has_and_hears_the_same_as_who_does_not() {
    for (related, seed) in [(false, 1), (true, 2), (false, 3), (true, 4)] {
        let (mut sim, mut rng) = (Sim::new(owned, |_| {}).seed(seed), RoomRng::new(seed));
        let world = sim.room_mut().world_mut();
        let mut things: Vec<Entity> = (1..60).map(|number| thing(world, number, None, None)).collect();
        for number in 0..6 {
            let owner = things.first().copied().filter(|_| related);
            things.push(thing(world, number, Some(format!("thing_{number}").as_str()), owner));
        }
        two_more(&mut sim, ("ann", "ben"));
        for round in 0..40 {
            churn(sim.room_mut().world_mut(), &mut things, &mut rng, related);
            sim.tick();
            if round == 20 {
                two_more(&mut sim, ("cat", "dan"));
            }
        }
        sim.settle();
        assert_eq!(sim.assert_converged(), 4);
        for (one, other) in [("ann", "ben"), ("cat", "dan")] {
            let [first, second] = [one, other].map(|name| {
                let told = sim.client_of(name).told();
                (told.added.clone(), told.removed.clone())
            });
            assert!(first == second, "{one} and {other} were told of other things, or in another order");
            assert!(first.0.len() > 65 && !first.1.is_empty(), "{} came, {} went", first.0.len(), first.1.len());
            let named = [one, other].map(|name| {
                let world = sim.client_mut(name).world_mut();
                world.query::<(&EntityId, &Name)>().iter(world).map(|(id, name)| (*id, name.to_string())).collect::<Vec<_>>()
            });
            let [mut first, mut second] = named;
            first.sort();
            second.sort();
            assert!(!first.is_empty() && first == second, "{first:?}, {second:?}");
        }
    }
}
