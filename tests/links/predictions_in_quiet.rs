//! Predictions where hardly anything happens by itself: the shadow stands still between two commands, and nothing of what it had is left over.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::foreseen::{assert_clean, bad_link, id, predicted};
use crate::seen::{even, rooms, shown};
use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::client::{Replica, issue};
use roomkeeper::predict::PredictAppExt;
use roomkeeper::prelude::*;
use roomkeeper::protocol::{Codec, Interpolation, Quantised};
use roomkeeper::room::{PredictedUpdate, Rewind, RewindAppExt, RoomInfo};
use roomkeeper::sim::{LinkConditions, Sim};
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Place(f32);
/// A place that travels in steps of five hundredths.
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Spot(f32);
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Steps(u32);
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Arrow;
/// The room's alone: moves its entity in each tick.
#[derive(Component)]
struct Belt(f32);

#[derive(Serialize, Deserialize)]
struct Step(f32);
#[derive(Serialize, Deserialize)]
struct Creep(f32);
#[derive(Serialize, Deserialize)]
struct Shoot {
    ttl: u32,
}
#[derive(Serialize, Deserialize)]
struct Flash;
#[derive(Serialize, Deserialize)]
struct Pack {
    item: EntityId,
}
#[derive(Serialize, Deserialize)]
struct Shove {
    who: EntityId,
    by: f32,
}
#[derive(Serialize, Deserialize)]
struct Aim {
    at: EntityId,
    place: f32,
}

#[derive(Clone, Serialize, Deserialize)]
struct Stepped {
    who: EntityId,
    by: f32,
}
#[derive(Clone, Serialize, Deserialize)]
struct Crept {
    who: EntityId,
    by: f32,
}
#[derive(Clone, Serialize, Deserialize)]
struct Shot {
    arrow: EntityId,
    ttl: u32,
}
#[derive(Clone, Serialize, Deserialize)]
struct Flashed {
    spark: EntityId,
}
#[derive(Clone, Serialize, Deserialize)]
struct Packed {
    bag: EntityId,
    item: EntityId,
}
#[derive(Clone, Serialize, Deserialize)]
struct Shoved {
    who: EntityId,
    by: f32,
}

fn protocol(app: &mut App) {
    app.sync::<Place>("place").latest();
    app.sync_with::<Spot, _>("spot", Quantised::new(-10.0..=1_000.0, 0.05).via(|spot: &Spot| [spot.0], |[at]| Spot(at))).latest();
    app.sync::<Steps>("steps");
    app.sync::<Arrow>("arrow");
    app.sync::<Ttl>("ttl");
    app.sync_relationship::<ChildOf>("parent");
    app.command::<Step>("step").command::<Creep>("creep").command::<Shoot>("shoot").command::<Flash>("flash");
    app.command::<Pack>("pack").command::<Shove>("shove").command::<Aim>("aim");
    app.fact::<Stepped>("stepped").fact::<Crept>("crept").fact::<Shot>("shot").fact::<Flashed>("flashed");
    app.fact::<Packed>("packed").fact::<Shoved>("shoved");
}

/// How many steps of one half were decided in a prediction: in one test.
static DECIDED: AtomicU32 = AtomicU32::new(0);

fn quiet_rules(app: &mut App) {
    app.apply(|joined: On<Happened<UserJoined>>, mut commands: Commands| {
        commands.spawn((joined.user, Place(0.0), Spot(0.0), Steps(0)));
    });
    app.decide(|step: In<Issued<Step>>, info: Res<RoomInfo>| -> Decision {
        // Only the room's seed is known to the room alone.
        DECIDED.fetch_add(u32::from(info.seed == 0 && step.command.0 == 0.5), Ordering::Relaxed);
        accept(Stepped { who: step.author_id, by: step.command.0 })
    });
    app.apply(|stepped: On<Happened<Stepped>>, index: Res<EntityIndex>, mut walkers: Query<(&mut Place, &mut Steps)>| {
        let Some((mut place, mut steps)) = index.entity(stepped.who).and_then(|who| walkers.get_mut(who).ok()) else { return };
        // Who stays where it is writes nothing.
        if stepped.by != 0.0 {
            place.0 += stepped.by;
        }
        steps.0 += 1;
    });
    app.decide(|creep: In<Issued<Creep>>| -> Decision { accept(Crept { who: creep.author_id, by: creep.command.0 }) });
    app.apply(|crept: On<Happened<Crept>>, index: Res<EntityIndex>, mut spots: Query<&mut Spot>| {
        index.entity(crept.who).and_then(|who| spots.get_mut(who).ok()).into_iter().for_each(|mut spot| spot.0 += crept.by);
    });
    app.decide(|shoot: In<Issued<Shoot>>| -> Decision { accept(Shot { arrow: shoot.new_id(0), ttl: shoot.ttl }) });
    app.apply(|shot: On<Happened<Shot>>, mut commands: Commands| {
        commands.spawn((shot.arrow, Place(0.0), Arrow, Ttl::millis(shot.ttl)));
    });
    app.decide(|flash: In<Issued<Flash>>| -> Decision { accept(Flashed { spark: flash.new_id(0) }) });
    app.apply(|flashed: On<Happened<Flashed>>, mut commands: Commands| {
        let spark = commands.spawn((flashed.spark, Place(0.0))).id();
        commands.entity(spark).despawn();
    });
    app.decide(|pack: In<Issued<Pack>>| -> Decision { accept(Packed { bag: pack.new_id(0), item: pack.item }) });
    app.apply(|packed: On<Happened<Packed>>, index: Res<EntityIndex>, mut commands: Commands| {
        let bag = commands.spawn((packed.bag, Place(3.0))).id();
        if let Some(item) = index.entity(packed.item) {
            commands.entity(item).insert(ChildOf(bag));
        }
    });
    app.may_name_others::<Shove>();
    app.decide(|shove: In<Issued<Shove>>| -> Decision { accept(Shoved { who: shove.who, by: shove.by }) });
    app.apply(|shoved: On<Happened<Shoved>>, index: Res<EntityIndex>, mut places: Query<&mut Place>| {
        index.entity(shoved.who).and_then(|who| places.get_mut(who).ok()).into_iter().for_each(|mut place| place.0 += shoved.by);
    });
    app.rewindable(Interpolation::linear(|place: &Place| [place.0], |[at]| Place(at)));
    app.decide(|aim: In<Issued<Aim>>, index: Res<EntityIndex>, past: Rewind<Place>, places: Query<&Place>| -> Decision {
        let Some(target) = index.entity(aim.at) else { return reject("nobody") };
        let then = past.at(target, aim.seen, places.get(target)?);
        match then.is_some_and(|then| (then.0 - aim.place).abs() < 0.01) {
            true => accept(Stepped { who: aim.author_id, by: 0.0 }),
            false => reject("missed"),
        }
    });
    app.add_systems(Startup, |mut commands: Commands| {
        commands.spawn((id("crate"), Place(5.0)));
    });
    app.add_systems(FixedUpdate, |mut carried: Query<(&mut Place, &Belt)>| {
        carried.iter_mut().for_each(|(mut place, belt)| place.0 += belt.0);
    });
}

fn lively_rules(app: &mut App) {
    quiet_rules(app);
    app.add_systems(FixedUpdate, fly).add_systems(PredictedUpdate, fly);
}

fn fly(mut arrows: Query<&mut Place, With<Arrow>>) {
    arrows.iter_mut().for_each(|mut place| place.0 += 1.0);
}

fn quiet(seed: u64, link: LinkConditions) -> Sim {
    Sim::new(protocol, quiet_rules).seed(seed).link(link).predicting()
}

fn smoothly(sim: &mut Sim, name: &str) {
    sim.client_mut(name).app_mut().predict_smoothly::<Place>(
        |at, from, to, share| Place(at.0 + (to.0 - from.0) * share),
        |a, b| (a.0 - b.0).abs(),
        10.0,
    );
}

#[test]
fn after_a_quiet_minute_what_lives_for_a_second_lives_for_a_second() {
    let mut sim = quiet(1, bad_link()).client("ann");
    sim.issue("ann", &Step(1.0)).run_ticks(1_200);
    sim.issue("ann", &Shoot { ttl: 900 }).tick();
    let arrow = *sim.client_of("ann").told().added.last().unwrap();
    let mut lived = 0;
    while shown::<Arrow>(&sim, "ann", arrow).is_some() && lived < 60 {
        let (prediction, room) = (sim.client_of("ann").prediction(), sim.room().tick_now().0);
        // Once nothing is on its way the prediction stands still.
        let keeps_up = prediction.pending == 0 || (room.saturating_sub(4)..room + 20).contains(&prediction.tick.0);
        assert!(keeps_up, "the room is at {room}: {prediction:?}");
        lived += 1;
        sim.tick();
    }
    assert!((17..=25).contains(&lived), "it lived for {lived} ticks");
    assert_clean(&mut sim, 1);
}

#[test]
fn a_correction_fades_to_its_end_though_nothing_is_predicted_any_more() {
    let mut sim = quiet(2, even()).client("ann").client("bob");
    smoothly(&mut sim, "ann");
    sim.run_ticks(20).issue("bob", &Shove { who: id("ann"), by: 1.5 }).issue("ann", &Step(1.0)).tick();
    assert_eq!(shown(&sim, "ann", id("ann")), Some(Place(1.0)));
    let mut seen = Vec::new();
    for _ in 0..30 {
        sim.tick();
        seen.extend(shown::<Place>(&sim, "ann", id("ann")).map(|place| place.0));
    }
    assert_eq!((rooms(&sim, id("ann")), seen.last()), (Some(Place(2.5)), Some(&2.5)));
    assert!(seen.iter().any(|at| *at > 1.0 && *at < 2.5), "it fades: {seen:?}");
    assert_clean(&mut sim, 2);
}

/// Where somebody was drawn, frame by frame.
#[derive(Resource, Default)]
struct Drawn(Vec<f32>);

#[test]
fn the_first_frame_of_a_correction_takes_no_more_of_it_than_the_others() {
    let mut sim = quiet(2, even()).frames(60).client("ann").client("bob");
    smoothly(&mut sim, "ann");
    let draw = |replica: Res<Replica>, places: Query<&Place>, mut drawn: ResMut<Drawn>| {
        drawn.0.extend(replica.entity(id("ann")).and_then(|ann| places.get(ann).ok()).map(|place| place.0));
    };
    sim.client_mut("ann").app_mut().init_resource::<Drawn>().add_systems(Last, draw);
    sim.run_ticks(20).issue("bob", &Shove { who: id("ann"), by: 1.5 }).issue("ann", &Step(1.0)).run_ticks(30);
    let drawn = &sim.client_of("ann").world().resource::<Drawn>().0;
    assert_eq!(drawn.last(), Some(&2.5));
    // From where the prediction had it: a frame is a sixth of the time in which all of it fades.
    let at = drawn.iter().position(|at| *at > 1.0).unwrap();
    let steps: Vec<f32> = drawn[at - 1..].windows(2).map(|two| two[1] - two[0]).filter(|step| *step != 0.0).collect();
    assert!(steps.len() >= 5 && steps.iter().all(|step| (0.0..1.5 * 0.21).contains(step)), "{steps:?} of {drawn:?}");
}

#[test]
fn what_was_predicted_once_goes_where_the_room_moves_it() {
    let mut sim = quiet(3, even()).client("ann");
    smoothly(&mut sim, "ann");
    sim.issue("ann", &Step(1.0)).run_ticks(20).give("ann", Belt(0.3));
    for n in 0..80 {
        // Something is on its way all the time, which leaves the place alone.
        sim.issue("ann", &Step(0.0)).tick();
        let (Place(here), Place(there)) = (shown(&sim, "ann", id("ann")).unwrap(), rooms(&sim, id("ann")).unwrap());
        assert!(n < 20 || there - here < 0.3 * 5.0, "{n}: the room has it at {there}, and {here} is shown");
    }
}

#[test]
fn corrections_in_every_tick_do_not_hold_what_is_shown() {
    let mut sim = quiet(4, even()).client("ann");
    smoothly(&mut sim, "ann");
    sim.issue("ann", &Step(1.0)).run_ticks(20).give("ann", Belt(0.3));
    for n in 0..80 {
        // The belt is not foreseen, so each step is corrected.
        sim.issue("ann", &Step(0.1)).tick();
        let (Place(here), Place(there)) = (shown(&sim, "ann", id("ann")).unwrap(), rooms(&sim, id("ann")).unwrap());
        assert!(n < 20 || (there - here).abs() < 2.5, "{n}: the room has it at {there}, and {here} is shown");
    }
}

#[test]
fn what_is_packed_into_a_bag_ahead_of_the_room_outlives_every_look_back() {
    for seed in 1..=4 {
        let mut sim = quiet(seed, bad_link()).client("ann").client("bob");
        sim.run_ticks(20).issue("ann", &Pack { item: id("crate") }).tick();
        let bag = *sim.client_of("ann").told().added.last().unwrap();
        for n in 1..=40 {
            // Of somebody else, so that what is on its way is applied again.
            sim.issue("bob", &Step(1.0)).issue("ann", &Shove { who: id("crate"), by: 1.0 });
            sim.issue("ann", &Shove { who: id("bob"), by: 1.0 }).tick();
            let world = sim.client_of("ann").world();
            let replica = world.resource::<Replica>();
            let parent = world.get::<ChildOf>(replica.entity(id("crate")).unwrap()).map(ChildOf::parent);
            assert_eq!(parent, replica.entity(bag), "seed {seed}, {n} ticks later");
            assert_eq!(shown(&sim, "ann", id("crate")), Some(Place(5.0 + n as f32)), "seed {seed}, {n} ticks later");
        }
        assert_clean(&mut sim, 2);
    }
}

#[test]
fn what_a_codec_takes_off_is_no_mistake() {
    let mut sim = quiet(5, bad_link()).client("ann");
    for _ in 0..200 {
        sim.issue("ann", &Creep(0.03)).tick();
    }
    sim.run_ticks(40);
    let prediction = sim.client_of("ann").prediction();
    assert_eq!((prediction.confirmed, prediction.corrected), (200, 0), "{:?}", sim.client_of("ann").told().mispredicted);
    assert_clean(&mut sim, 1);
}

#[test]
fn alone_in_a_room_what_came_true_is_not_applied_again() {
    let mut sim = quiet(6, even()).client("ann");
    sim.issue("ann", &Step(1.0)).run_ticks(20);
    for n in 1..=200 {
        sim.issue("ann", &Step(0.5)).tick();
        assert_eq!(shown(&sim, "ann", id("ann")), Some(Steps(n + 1)));
    }
    // Until the first answers come it is not known in which tick commands are decided.
    let decided = DECIDED.load(Ordering::Relaxed);
    assert!(decided <= 240, "{decided} decisions for 200 steps");
    assert_clean(&mut sim, 1);
    assert_eq!(sim.client_of("ann").prediction().corrected, 0);
}

#[test]
fn a_shot_at_what_was_seen_hits_in_the_prediction_too() {
    let mut sim = quiet(7, LinkConditions { delay_millis: 50, ..LinkConditions::PERFECT }).client("ann");
    let cart = sim.room().entity(id("crate")).unwrap();
    sim.room_mut().world_mut().entity_mut(cart).insert(Belt(0.4));
    sim.run_ticks(20).bot("ann", |world| {
        let cart = world.resource::<Replica>().entity(id("crate")).and_then(|cart| world.get::<Place>(cart)).copied();
        issue(world, &Aim { at: id("crate"), place: cart.unwrap().0 }).unwrap();
    });
    sim.run_ticks(100).bot("ann", |_| {});
    sim.run_ticks(20);
    assert!(sim.rejections("ann").is_empty());
    let prediction = sim.client_of("ann").prediction();
    assert_eq!((prediction.confirmed, prediction.corrected), (100, 0), "{prediction:?}");
}

#[test]
fn what_comes_and_goes_within_the_prediction_is_told_by_the_room_alone() {
    let mut sim = quiet(8, even()).client("ann");
    sim.run_ticks(20);
    let told = sim.client_of("ann").told().added.len();
    sim.issue("ann", &Flash).tick();
    assert_eq!((sim.client_of("ann").told().added.len(), predicted(&mut sim, "ann")), (told, 0));
    sim.run_ticks(20);
    assert_clean(&mut sim, 1);
}

#[test]
fn who_floods_is_answered_and_waits_for_nothing() {
    let mut sim = quiet(9, even()).limits(|limits| limits.commands_waiting_max = 8).client("ann");
    for _ in 0..20 {
        sim.issue("ann", &Step(1.0));
    }
    sim.run_ticks(20);
    assert_eq!(sim.rejections("ann"), ["too_many_commands"; 12]);
    assert_eq!((sim.client_of("ann").prediction().pending, shown(&sim, "ann", id("ann"))), (0, Some(Steps(8))));
    assert_clean(&mut sim, 1);
}

#[test]
fn a_client_that_draws_between_the_ticks_predicts_as_well() {
    for seed in 1..=3 {
        let mut sim = Sim::new(protocol, lively_rules).seed(seed).link(bad_link()).frames(60).predicting().client("ann");
        smoothly(&mut sim, "ann");
        sim.run_ticks(20);
        let mut last = 0.0;
        for n in 0..200 {
            if n % 40 == 0 {
                sim.issue("ann", &Shoot { ttl: 1_000 });
            }
            sim.issue("ann", &Step(1.0)).tick();
            let Place(now) = shown(&sim, "ann", id("ann")).unwrap();
            assert!(now > last, "seed {seed}, {n}: {now} after {last}");
            last = now;
            assert_eq!(shown(&sim, "ann", id("ann")), Some(Steps(n + 1)), "seed {seed}");
        }
        sim.run_ticks(60);
        let prediction = sim.client_of("ann").prediction();
        assert_eq!((prediction.confirmed, prediction.corrected), (205, 0), "seed {seed}: {prediction:?}");
        assert_clean(&mut sim, 1);
    }
}
