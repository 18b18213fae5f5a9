//! Members whose way is narrow: never more than it may be, nothing starves, what matters more comes more often, and nobody else notices.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::collections::BTreeMap;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::client::{Connection, ConnectionState};
use roomkeeper::prelude::*;
use roomkeeper::protocol::NetId;
use roomkeeper::sim::{LinkConditions, Sim};
use serde::{Deserialize, Serialize};

/// Where something is, and since which tick: 16 bytes.
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug)]
struct Far([f32; 3], [u8; 4]);
/// The same, and matters four times as much.
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug)]
struct Near([f32; 3], [u8; 4]);
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug)]
struct Health(u32);
/// How many are hurt in each tick.
#[derive(Resource)]
struct Hurt(usize);
#[derive(Resource, PartialEq)]
struct Moving(bool);

const VALUE: f64 = 16.0;
const FAR: usize = 1_800;
const NEAR: usize = 200;

/// What the network and the transport add to a packet, as the host counts.
const PACKET_OVERHEAD: u64 = 54;

fn protocol(app: &mut App) {
    app.sync::<Far>("far").latest().priority(100);
    app.sync::<Near>("near").latest().priority(400);
    app.sync::<Health>("health");
}

fn live(clock: Res<RoomClock>, hurt: Res<Hurt>, mut far: Query<&mut Far>, mut near: Query<&mut Near>, mut healths: Query<&mut Health>) {
    let tick = clock.tick().0;
    let place = [tick as f32, 1.0, 2.0];
    far.iter_mut().for_each(|mut at| *at = Far(place, tick.to_le_bytes()));
    near.iter_mut().for_each(|mut at| *at = Near(place, tick.to_le_bytes()));
    healths.iter_mut().take(hurt.0).for_each(|mut health| health.0 = health.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
}

fn rules(app: &mut App) {
    app.insert_resource(Hurt(0)).insert_resource(Moving(true));
    app.add_systems(FixedUpdate, live.run_if(resource_equals(Moving(true))));
}

fn room() -> Sim {
    Sim::new(protocol, rules).seed(4).options(|options| options.check = false)
}

fn fill(sim: &mut Sim) {
    let world = sim.room_mut().world_mut();
    for n in 0..FAR {
        world.spawn((Far([0.0; 3], [0; 4]), Health(n as u32)));
    }
    for _ in 0..NEAR {
        world.spawn(Near([0.0; 3], [0; 4]));
    }
    sim.tick();
}

/// The ticks of the values that a member has, by net id: of those that matter less, and more.
fn shown(sim: &mut Sim, name: &str) -> [BTreeMap<u32, u32>; 2] {
    let world = sim.client_mut(name).world_mut();
    let far = world.query::<(&NetId, &Far)>().iter(world).map(|(id, at)| (id.get(), u32::from_le_bytes(at.1))).collect();
    let near = world.query::<(&NetId, &Near)>().iter(world).map(|(id, at)| (id.get(), u32::from_le_bytes(at.1))).collect();
    [far, near]
}

fn received(sim: &Sim, name: &str) -> (u64, u64) {
    sim.client_of(name).world().resource::<Connection>().received()
}

#[test]
fn a_limited_member_is_never_sent_more_and_nothing_starves() {
    const CAP: u64 = 16_000;
    let mut sim = room().limits(|limits| limits.bytes_per_second_max = CAP as u32);
    fill(&mut sim);
    sim.connect("ann", true);
    let mut sent: Vec<u64> = vec![0];
    let tick = |sim: &mut Sim, sent: &mut Vec<u64>| {
        sim.tick();
        let (packets, bytes) = received(sim, "ann");
        sent.push(bytes + packets * PACKET_OVERHEAD);
    };
    while !sim.client_of("ann").is_live() {
        tick(&mut sim, &mut sent);
        assert!(sent.len() < 600, "{}", sim.client_of("ann").state());
    }
    for _ in 0..400 {
        tick(&mut sim, &mut sent);
    }
    let mut refreshed = [0_u32; 2];
    let mut oldest = [0_u32; 2];
    let mut before = shown(&mut sim, "ann");
    let (first, ticks) = (sent.len() - 1, 600);
    for _ in 0..ticks {
        tick(&mut sim, &mut sent);
        let now = sim.room().tick_now().0;
        let after = shown(&mut sim, "ann");
        for kind in 0..2 {
            refreshed[kind] += after[kind].iter().filter(|(id, tick)| before[kind][*id] != **tick).count() as u32;
            oldest[kind] = oldest[kind].max(after[kind].values().map(|tick| now - tick).max().unwrap());
        }
        before = after;
    }
    // The cap, in any second, and a burst of a quarter and one packet.
    let second = sent.windows(21).map(|window| window[20] - window[0]).max().unwrap();
    println!("at most {second} bytes in a second");
    assert!(second <= CAP + CAP / 4 + 1_254, "{second}");
    let mean = (sent[sent.len() - 1] - sent[first]) * 20 / ticks;
    println!("{mean} bytes a second on average");
    assert!((CAP * 95 / 100..=CAP * 101 / 100).contains(&mean), "{mean}");
    // Each value's turn: what all cost, each as often as it matters, over what a tick carries without heads.
    let per_tick = CAP as f64 / 20.0 - 64.0;
    let turn = (FAR as f64 + 4.0 * NEAR as f64) * (VALUE + 2.0) / per_tick;
    let rates = [refreshed[0] as f64 / FAR as f64, refreshed[1] as f64 / NEAR as f64].map(|of| of / (ticks as f64 / 20.0));
    println!("a turn is {turn:.0} ticks; oldest {oldest:?} ticks, refreshed {rates:?} times a second");
    assert!(f64::from(oldest[0]) <= turn * 1.1 + 2.0 && f64::from(oldest[1]) <= turn / 4.0 * 1.1 + 2.0, "{oldest:?}, {turn}");
    let ratio = rates[1] / rates[0];
    assert!((3.4..=4.6).contains(&ratio), "{ratio}");
    sim.room_mut().world_mut().insert_resource(Moving(false));
    sim.settle();
    assert_eq!(sim.assert_converged(), 1);
}

/// 2,000 things around where ann stands: 20 within 10 m, the others all over a circle of a kilometre.
#[test]
fn what_is_near_comes_ten_times_a_second_over_a_way_that_is_too_narrow_and_the_rest_comes_too() {
    const CAP: u64 = 16_000;
    let rules = |app: &mut App| {
        rules(app);
        app.places_by(|at: &Far| at.0).nearer_first(20.0);
        app.apply(|joined: On<Happened<UserJoined>>, mut commands: Commands| {
            commands.spawn((joined.user, Far([0.0, 1.0, 2.0], [0; 4])));
        });
    };
    let still = |mut far: Query<&mut Far>, clock: Res<RoomClock>| far.iter_mut().for_each(|mut at| at.1 = clock.tick().0.to_le_bytes());
    let mut sim = Sim::new(protocol, move |app| {
        rules(app);
        app.insert_resource(Moving(false)).add_systems(FixedUpdate, still);
    });
    sim = sim.seed(4).options(|options| options.check = false).limits(|limits| limits.bytes_per_second_max = CAP as u32);
    for n in 0..2_000 {
        let away = if n < 20 { 5.0 + n as f32 / 4.0 } else { 500.0 * (n as f32 / 2_000.0).sqrt() };
        sim.room_mut().world_mut().spawn(Far([away, 1.0, 2.0], [0; 4]));
    }
    sim.tick();
    sim.connect("ann", false);
    let mut waited = 0;
    while !sim.client_of("ann").is_live() {
        sim.tick();
        waited += 1;
        assert!(waited < 1_200, "{}", sim.client_of("ann").state());
    }
    sim.run_ticks(200);
    let places = |sim: &mut Sim| -> Vec<(u32, bool, u32)> {
        let world = sim.client_mut("ann").world_mut();
        let mut shown = world.query::<(&NetId, &Far)>();
        shown.iter(world).map(|(id, at)| (id.get(), at.0[0] <= 10.0, u32::from_le_bytes(at.1))).collect()
    };
    let mut before = places(&mut sim);
    let (mut refreshed, mut oldest) = ([0_u32; 2], [0_u32; 2]);
    for _ in 0..400 {
        sim.tick();
        let (now, after) = (sim.room().tick_now().0, places(&mut sim));
        for ((_, near, tick), (_, _, was)) in after.iter().zip(&before) {
            refreshed[usize::from(*near)] += u32::from(tick != was);
            oldest[usize::from(*near)] = oldest[usize::from(*near)].max(now - tick);
        }
        before = after;
    }
    let count = before.iter().filter(|(_, near, _)| *near).count() as f64;
    let rates = [f64::from(refreshed[0]) / (before.len() as f64 - count), f64::from(refreshed[1]) / count].map(|times| times / 20.0);
    println!("far and near: refreshed {rates:?} times a second, oldest {oldest:?} ticks");
    assert!(rates[1] >= 10.0, "{rates:?}");
    // Each value's turn, as in the test above: a far one matters 4 of 256.
    let share = |away: f64| (256.0 / (1.0 + away * away / 400.0)).max(4.0);
    let all: f64 = 21.0 * 256.0 + (20..2_000).map(|n| share(500.0 * (f64::from(n) / 2_000.0).sqrt())).sum::<f64>();
    let turn = all * (VALUE + 2.0) / (CAP as f64 / 20.0 - 64.0) / 4.0;
    println!("the turn of a far one is at most {turn:.0} ticks");
    assert!(f64::from(oldest[0]) <= turn * 1.1 + 2.0, "{oldest:?}, {turn}");
}

/// Ben plays over a good link; ann may watch over a bad one. Gives what ben was sent by each tick, and the ages of what he has.
fn beside(link: Option<LinkConditions>) -> Vec<((u64, u64), u64)> {
    let mut sim = room();
    fill(&mut sim);
    let mut sim = sim.link("rtt=40ms".parse().unwrap()).client("ben");
    sim.run_ticks(20);
    if let Some(link) = link {
        sim = sim.link(link);
        sim.connect("ann", true);
    }
    let mut ben = Vec::new();
    for tick in 0..1_000 {
        // It joins in peace; then more happens than its way carries.
        if tick == 200 {
            sim.room_mut().world_mut().insert_resource(Hurt(400));
        }
        sim.tick();
        let now = sim.room().tick_now().0;
        let ages = shown(&mut sim, "ben").iter().flat_map(|of| of.values()).map(|tick| u64::from(now - tick)).sum();
        ben.push((received(&sim, "ben"), ages));
        if link.is_some() {
            let state = sim.client_of("ann").state();
            assert!(matches!(state, ConnectionState::Joining(_) | ConnectionState::Live), "{state} in tick {tick}");
        }
    }
    if link.is_some() {
        let counters = sim.lobby_mut().counters();
        println!("{} snapshots sent again", counters.resyncs);
        assert!(counters.resyncs > 0 && counters.kicked == 0);
        sim.room_mut().world_mut().insert_resource(Moving(false));
        sim.settle();
        assert_eq!(sim.assert_converged(), 2);
    }
    ben
}

#[test]
fn a_member_whose_link_cannot_keep_up_is_sent_a_snapshot_and_nobody_else_notices() {
    let link = LinkConditions { kbit_per_second: 128, delay_millis: 40, ..LinkConditions::PERFECT };
    assert!(beside(Some(link)) == beside(None), "ben is sent the very same");
}

#[test]
fn what_moved_once_does_not_wait_behind_what_moves_all_the_time() {
    let few = |app: &mut App| {
        app.add_systems(FixedUpdate, |clock: Res<RoomClock>, mut near: Query<&mut Near>| {
            near.iter_mut().for_each(|mut at| at.1 = clock.tick().0.to_le_bytes());
        });
    };
    let mut sim = Sim::new(protocol, few).seed(4).options(|options| options.check = false);
    sim = sim.limits(|limits| limits.bytes_per_second_max = 16_000);
    let world = sim.room_mut().world_mut();
    world.spawn_batch((0..1_000).map(|_| Far([0.0; 3], [0; 4])));
    world.spawn_batch((0..36).map(|_| Near([0.0; 3], [0; 4])));
    sim.tick();
    sim.connect("ann", true);
    sim.tick_while(|sim| !sim.client_of("ann").is_live());
    sim.run_ticks(200);
    let moved = sim.room().tick_now().0 + 1;
    let world = sim.room_mut().world_mut();
    world.query::<&mut Far>().iter_mut(world).for_each(|mut at| at.1 = moved.to_le_bytes());
    let mut waited = 0;
    while shown(&mut sim, "ann")[0].values().any(|tick| *tick != moved) {
        sim.tick();
        waited += 1;
        // All cost 1,036 values of 18 bytes, of which a way of 800 bytes a tick carries 40: 28 ticks, as the bound says.
        assert!(waited <= 56, "some of what moved once is {waited} ticks old");
    }
}
