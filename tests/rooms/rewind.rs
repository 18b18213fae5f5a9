//! Shots hit what their author saw, within what the room looks back, and nobody gains more by saying otherwise.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::time::Duration;

use bevy_app::prelude::*;
use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use proptest::prelude::*;
use roomkeeper::client::{InterpolateAppExt, Shown, issue};
use roomkeeper::host::{header_of, rerun};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{CommandId, Interpolation, RoomTick, SeenTick};
use roomkeeper::room::{Blueprint, Incoming, REWIND_DEFAULT, REWIND_MAX, Rewind, RewindAppExt, Room, RoomOptions};
use roomkeeper::sim::{LinkConditions, Sim};
use roomkeeper::store::{Archive, MemoryStore, Opening, Writer, WriterOptions};
use serde::{Deserialize, Serialize};

/// How near a shot must be. The target goes further than that in a tick.
const RADIUS: f32 = 0.3;
const STEP: f32 = 0.4;

#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Position([f32; 2]);
/// Strafes: this way, or that way.
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Strafes(f32);
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Score(u32);

#[derive(Serialize, Deserialize)]
struct Fire {
    at: [f32; 2],
}
/// Somebody fired: how far beside the target as the room sees it that was then, and now.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Fired {
    by: EntityId,
    hit: bool,
    off: f32,
    off_now: f32,
    seen: SeenTick,
    tick: RoomTick,
}

fn positions() -> Interpolation<Position> {
    Interpolation::linear(|at: &Position| at.0, Position).teleport_beyond(3.0)
}

fn protocol(app: &mut App) {
    app.sync::<Position>("position").latest();
    app.sync::<Strafes>("strafes");
    app.sync::<Score>("score");
    app.command::<Fire>("fire").fact::<Fired>("fired");
}

fn distance(a: [f32; 2], b: [f32; 2]) -> f32 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

fn decide_fire(fire: In<Issued<Fire>>, past: Rewind<Position>, targets: Query<(Entity, &Position), With<Strafes>>) -> Decision {
    let Some((target, now)) = targets.iter().next() else { return reject("no_target") };
    let Some(then) = past.at(target, fire.seen, now) else { return reject("not_there_yet") };
    let (off, off_now) = (distance(then.0, fire.at), distance(now.0, fire.at));
    accept(Fired { by: fire.author_id, hit: off <= RADIUS, off, off_now, seen: fire.seen, tick: fire.tick })
}

fn count(fired: On<Happened<Fired>>, index: Res<EntityIndex>, mut scores: Query<&mut Score>, mut commands: Commands) {
    let Some(player) = index.entity(fired.by).filter(|_| fired.hit) else { return };
    match scores.get_mut(player) {
        Ok(mut score) => score.0 += 1,
        Err(_) => {
            commands.entity(player).insert(Score(1));
        }
    }
}

fn strafe(mut targets: Query<(&mut Position, &mut Strafes)>) {
    for (mut at, mut way) in &mut targets {
        if at.0[1].abs() > 6.0 && at.0[1] * way.0 > 0.0 {
            way.0 = -way.0;
        }
        at.0[1] += way.0;
    }
}

fn rules(app: &mut App) {
    app.rewindable(positions()).decide(decide_fire).apply(count);
    app.add_systems(Startup, |mut commands: Commands| {
        commands.spawn((Position([10.0, 0.0]), Strafes(STEP)));
    });
    app.add_systems(FixedUpdate, strafe);
}

fn rules_to_the_limit(app: &mut App) {
    rules(app);
    app.rewind_limit(REWIND_MAX);
}

/// The rules of a room.
type Rules = fn(&mut App);

/// A bot that fires where its screen shows the target, 200 times. What became of it.
fn shots(rules: Rules, link: &str, seed: u64) -> Vec<Fired> {
    let mut sim = Sim::new(protocol, rules).seed(seed).link(link.parse::<LinkConditions>().unwrap()).frames(60);
    sim.connect("ann", false);
    sim.client_mut("ann").app_mut().interpolate(positions());
    sim.tick_while(|sim| !sim.client_of("ann").is_live());
    sim.run_ticks(60);
    let mut turn = 0;
    sim.bot("ann", move |world| {
        turn += 1;
        if turn % 7 == 0 && turn <= 1_400 {
            let at = world.query_filtered::<&Shown<Position>, With<Strafes>>().single(world).unwrap().0.0;
            fire_at(world, at);
        }
    });
    sim.run_ticks(1_420);
    sim.facts_of::<Fired>().into_iter().cloned().collect()
}

fn fire_at(world: &mut World, at: [f32; 2]) {
    issue(world, &Fire { at }).unwrap();
}

fn age_millis(fired: &Fired) -> u64 {
    (SeenTick::of(fired.tick).0 - fired.seen.0) * 50 / 256
}

/// The share that hit, that would have hit without looking back, and the oldest sight.
fn told(what: &str, shots: &[Fired]) -> (f32, f32) {
    let share = |hit: fn(&Fired) -> bool| shots.iter().filter(|fired| hit(fired)).count() as f32 / shots.len() as f32;
    let (hit, without) = (share(|fired| fired.hit), share(|fired| fired.off_now <= RADIUS));
    let off = shots.iter().map(|fired| fired.off).fold(0.0, f32::max);
    let oldest = shots.iter().map(age_millis).max().unwrap();
    println!(
        "{what:40} {} shots: {:.0} % hit, off by {off:.3} at most, {:.0} % without; up to {oldest} ms back",
        shots.len(),
        hit * 100.0,
        without * 100.0
    );
    (hit, without)
}

#[test]
fn a_bot_hits_a_strafing_target_where_its_screen_shows_it() {
    let cases: [(Rules, &str); 4] = [(rules, ""), (rules, "rtt=50ms"), (rules, "rtt=100ms"), (rules_to_the_limit, "rtt=150ms")];
    for (rules, link) in cases {
        let shots = shots(rules, link, 1);
        let (hit, without) = told(link, &shots);
        assert_eq!(shots.len(), 200);
        assert!(hit == 1.0, "{link}: {hit}");
        assert!(without < 0.2, "{link}: as the room is now it would have missed");
    }
    // With jitter and loss some arrive later than the limit, and now and then a value is shown late.
    let shots = shots(rules_to_the_limit, "rtt=100ms,jitter=20ms,loss=2%", 1);
    let (hit, without) = told("rtt=100ms,jitter=20ms,loss=2%", &shots);
    assert!(hit > 0.5 && without < 0.2, "{hit} {without}");
}

#[test]
fn one_who_is_further_behind_than_the_limit_misses() {
    let cases: [(Rules, &str); 2] = [(rules, "rtt=250ms"), (rules_to_the_limit, "rtt=300ms")];
    for (rules, link) in cases {
        let shots = shots(rules, link, 1);
        let (hit, _) = told(link, &shots);
        assert!(hit < 0.2, "{link}: {hit}");
        let limit = if link == "rtt=250ms" { REWIND_DEFAULT } else { REWIND_MAX };
        assert!(shots.iter().all(|fired| Duration::from_millis(age_millis(fired)) == limit), "the room looks back to its limit");
    }
}

/// A room in which ann is, after so many ticks.
fn room(blueprint: &Blueprint, ticks: u32) -> Room {
    let mut room = blueprint.room(RoomOptions::named("range")).unwrap();
    room.tick([Incoming::Join { user: EntityId::named("ann"), name: "ann".into() }]).unwrap();
    for _ in 1..ticks {
        room.tick([]).unwrap();
    }
    room
}

fn fire(id: u32, seen: Option<SeenTick>, at: [f32; 2]) -> Incoming {
    let mut payload = Vec::new();
    at.iter().for_each(|part| payload.extend_from_slice(&part.to_le_bytes()));
    Incoming::Command { user: EntityId::named("ann"), id: CommandId(id), kind: 0, seen, payload: payload.into() }
}

/// Where the target was at a tick: it began at 0 and has not turned yet.
fn place_at(tick: f64) -> [f32; 2] {
    [10.0, (tick * f64::from(STEP)) as f32]
}

fn fired(outbox: &roomkeeper::room::Outbox) -> Fired {
    outbox.facts.iter().find_map(|fact| fact.get::<Fired>().cloned()).unwrap()
}

#[test]
fn one_who_lies_about_the_tick_gains_no_more_than_the_limit() {
    let blueprint = Blueprint::new(protocol, rules);
    let shoot = |seen: Option<SeenTick>, at: [f32; 2]| fired(&room(&blueprint, 12).tick([fire(1, seen, at)]).unwrap());
    // It is decided in tick 13, so 200 ms back is tick 9.
    let limit = SeenTick::of(RoomTick(9));
    for back in 0..10 {
        let honest = shoot(Some(SeenTick::of(RoomTick(13 - back))), place_at(f64::from(13 - back).min(12.0)));
        assert_eq!(honest.hit, back <= 4, "{back} ticks back");
        let liar = shoot(Some(SeenTick(1)), place_at(f64::from(13 - back)));
        assert_eq!((liar.hit, liar.seen), (back == 4, limit), "who says `long ago` sees what was at the limit, and nothing else");
    }
    let from_the_future = shoot(Some(SeenTick::MAX), place_at(12.0));
    assert_eq!((from_the_future.hit, from_the_future.seen), (true, SeenTick::of(RoomTick(13))));
    let silent = shoot(None, place_at(12.0));
    assert_eq!((silent.hit, silent.seen), (true, SeenTick::of(RoomTick(13))), "who says nothing is taken to see what is");
    let between = shoot(Some(SeenTick(10 * 256 + 64)), place_at(10.25));
    assert!(between.off < 1e-4, "{}", between.off);
}

proptest! {
    #[test]
    fn whatever_a_client_says_it_saw_is_clamped(seen: u64, ticks in 1..40_u32) {
        let seen = SeenTick(seen >> (seen % 64));
        let fired = fired(&room(&Blueprint::new(protocol, rules), ticks).tick([fire(1, Some(seen), [0.0; 2])]).unwrap());
        let now = SeenTick::of(fired.tick);
        prop_assert!(fired.seen <= now && fired.seen >= now.back(4 * 256));
        prop_assert!(seen < now.back(4 * 256) || seen > now || fired.seen == seen);
    }
}

#[test]
fn a_thing_that_was_not_there_yet_is_not_found_and_one_that_was_replaced_is_not_mixed_up() {
    let blueprint = Blueprint::new(protocol, rules);
    let mut room = room(&blueprint, 20);
    let world = room.world_mut();
    let old = world.query_filtered::<Entity, With<Strafes>>().single(world).unwrap();
    world.despawn(old);
    world.spawn((Position([10.0, 0.0]), Strafes(STEP)));
    room.tick([]).unwrap();
    let outbox = room.tick([fire(1, Some(SeenTick::of(RoomTick(19))), [10.0, 0.0])]).unwrap();
    assert!(outbox.facts.iter().all(|fact| fact.get::<Fired>().is_none()), "it came in tick 21");
    let outbox = room.tick([fire(2, Some(SeenTick::of(RoomTick(21))), [10.0, STEP])]).unwrap();
    assert!(fired(&outbox).hit);
}

#[test]
fn who_comes_back_is_not_found_where_it_died() {
    let mut room = room(&Blueprint::new(protocol, rules), 20);
    let world = room.world_mut();
    let target = world.query_filtered::<Entity, With<Strafes>>().single(world).unwrap();
    world.entity_mut(target).remove::<Position>();
    (21..=24).for_each(|_| drop(room.tick([]).unwrap()));
    room.world_mut().entity_mut(target).insert(Position([30.0, 0.0]));
    room.tick([]).unwrap();
    let seen = [22 * 256, 24 * 256, 24 * 256 + 128, 25 * 256, 26 * 256];
    let shots = (1..).zip(seen).map(|(id, seen)| fire(id, Some(SeenTick(seen)), [30.0, 0.0]));
    let outbox = room.tick(shots).unwrap();
    let found = outbox.facts.iter().filter_map(|fact| fact.get::<Fired>()).map(|fired| fired.seen.0);
    assert_eq!(found.collect::<Vec<_>>(), [25 * 256, 26 * 256], "it died in tick 21, and came back in tick 25");
}

#[test]
fn who_was_moved_while_it_was_disabled_is_found_where_it_came_back() {
    let mut room = room(&Blueprint::new(protocol, rules), 20);
    let world = room.world_mut();
    let target = world.query_filtered::<Entity, With<Strafes>>().single(world).unwrap();
    world.entity_mut(target).insert(Disabled);
    room.tick([]).unwrap();
    // It died there, and waits here.
    room.world_mut().get_mut::<Position>(target).unwrap().0 = [30.0, 0.0];
    (22..=24).for_each(|_| drop(room.tick([]).unwrap()));
    room.world_mut().entity_mut(target).remove::<Disabled>();
    room.tick([]).unwrap();
    let outbox = room.tick([fire(1, Some(SeenTick::of(RoomTick(24))), [30.0, 0.0])]).unwrap();
    assert!(fired(&outbox).hit, "{:?}", fired(&outbox));
}

#[test]
fn a_recorded_match_run_again_gives_the_same_bytes_and_other_ones_without_what_was_seen() {
    let blueprint = Blueprint::new(protocol, rules);
    let store = MemoryStore::new();
    let writer = Writer::start(Box::new(store.clone()), WriterOptions::default(), |finding| panic!("{finding}")).unwrap();
    let options = RoomOptions::named("range");
    let mut room = blueprint.room(options.clone()).unwrap();
    let handle = writer.open(header_of(&options), blueprint.protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    let mut hits = 0;
    for tick in 1..=300_u32 {
        let mut incoming = Vec::new();
        if tick == 1 {
            incoming.push(Incoming::Join { user: EntityId::named("ann"), name: "ann".into() });
        } else if tick % 3 == 0 && tick > 3 {
            let world = room.world_mut();
            let now = world.query_filtered::<&Position, With<Strafes>>().single(world).unwrap().0;
            let way = world.query::<&Strafes>().single(world).unwrap().0;
            // As it was two and a half ticks ago.
            incoming.push(fire(tick, Some(SeenTick((u64::from(tick) * 2 - 7) * 128)), [now[0], now[1] - way * 2.5]));
        }
        let outbox = room.tick(incoming).unwrap();
        hits += outbox.facts.iter().filter_map(|fact| fact.get::<Fired>()).filter(|fired| fired.hit).count();
        handle.record(outbox.into());
    }
    drop(writer.stop());
    assert!(hits > 60, "{hits} of 99 hit");
    let mut archive = Archive::new(Box::new(store), blueprint.protocol());
    let all = (RoomTick(0), RoomTick(300));
    let run = rerun(&mut archive, &blueprint, "range", all, None, |_| {}).unwrap();
    assert_eq!((run.ticks, run.difference), (300, None));
    let mut blind = |_: RoomTick, incoming: &mut Vec<Incoming>| {
        for item in incoming {
            if let Incoming::Command { seen, .. } = item {
                *seen = None;
            }
        }
    };
    let run = rerun(&mut archive, &blueprint, "range", all, Some(&mut blind), |_| {}).unwrap();
    assert!(run.difference.is_some(), "what was seen was recorded, and counts");
}
