//! Rules as games write them, in a prediction: observers that record facts, messages, what a room that goes on works out again.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::foreseen::{assert_clean, bad_link, id};
use crate::seen::{even, rooms, shown};
use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::client::Replica;
use roomkeeper::prelude::*;
use roomkeeper::room::{PredictedUpdate, Resumed, RoomInfo};
use roomkeeper::sim::Sim;
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Place(f32);
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
struct Steps(u32);
#[derive(Component, Serialize, Deserialize, Clone, Copy)]
struct Arrow;
/// What is worked out, and not synced.
#[derive(Component)]
struct Fence;

#[derive(Serialize, Deserialize)]
struct Step(f32);
#[derive(Serialize, Deserialize)]
struct Shoot;

#[derive(Clone, Serialize, Deserialize)]
struct Stepped {
    who: EntityId,
    by: f32,
}
#[derive(Clone, Serialize, Deserialize)]
struct Shot {
    arrow: EntityId,
}
#[derive(Clone, Serialize, Deserialize)]
struct Noticed;

fn protocol(app: &mut App) {
    app.sync::<Place>("place").latest();
    app.sync::<Steps>("steps");
    app.sync::<Arrow>("arrow");
    app.sync::<Ttl>("ttl");
    app.command::<Step>("step").command::<Shoot>("shoot");
    app.fact::<Stepped>("stepped").fact::<Shot>("shot").fact::<Noticed>("noticed");
}

fn come(app: &mut App) {
    app.apply(|joined: On<Happened<UserJoined>>, mut commands: Commands| {
        commands.spawn((joined.user, Place(0.0), Steps(0)));
    });
}

fn step(app: &mut App) {
    app.decide(|step: In<Issued<Step>>| -> Decision { accept(Stepped { who: step.author_id, by: step.command.0 }) });
    app.apply(|stepped: On<Happened<Stepped>>, index: Res<EntityIndex>, mut walkers: Query<(&mut Place, &mut Steps)>| {
        let Some((mut place, mut steps)) = index.entity(stepped.who).and_then(|who| walkers.get_mut(who).ok()) else { return };
        (place.0, steps.0) = (place.0 + stepped.by, steps.0 + 1);
    });
}

fn shoot(app: &mut App) {
    app.decide(|shoot: In<Issued<Shoot>>| -> Decision { accept(Shot { arrow: shoot.new_id(0) }) });
    app.apply(|shot: On<Happened<Shot>>, mut commands: Commands| {
        commands.spawn((shot.arrow, Place(0.0), Arrow, Ttl::millis(300)));
    });
}

#[test]
fn what_observers_record_of_what_the_room_tells_is_not_recorded_again_in_a_prediction() {
    let watchful = |app: &mut App| {
        come(app);
        step(app);
        shoot(app);
        app.add_observer(|_: On<Insert<Arrow>>, mut record: Recorder| record.fact(Noticed));
        app.add_observer(|_: On<Remove<Arrow>>, mut record: Recorder| record.fact(Noticed));
        app.apply(|_: On<Happened<Noticed>>, mut steps: Query<&mut Steps>| steps.iter_mut().for_each(|mut steps| steps.0 += 100));
    };
    let mut sim = Sim::new(protocol, watchful).seed(10).link(even()).predicting().client("ann").client("bob");
    sim.issue("ann", &Step(1.0)).run_ticks(20);
    for who in ["bob", "ann"] {
        sim.issue(who, &Shoot);
        for _ in 0..30 {
            sim.issue("ann", &Step(1.0)).tick();
            assert_eq!(sim.client_of("ann").prediction().off, None);
        }
    }
    sim.run_ticks(30);
    assert_eq!(shown::<Steps>(&sim, "ann", id("ann")), rooms(&sim, id("ann")));
    assert_clean(&mut sim, 2);
}

#[derive(Message)]
struct Push(EntityId, f32);

/// The most messages that there were in a prediction.
static MOST: AtomicUsize = AtomicUsize::new(0);

fn count(pushes: Res<Messages<Push>>, info: Res<RoomInfo>) {
    // Only the room's seed is known to the room alone.
    if info.seed == 0 {
        MOST.fetch_max(pushes.len(), Ordering::Relaxed);
    }
}

fn carry_out(mut pushes: MessageReader<Push>, index: Res<EntityIndex>, mut places: Query<&mut Place>) {
    for Push(who, by) in pushes.read() {
        index.entity(*who).and_then(|who| places.get_mut(who).ok()).into_iter().for_each(|mut place| place.0 += by);
    }
}

#[test]
fn what_rules_tell_each_other_by_messages_is_heard_once_however_often_it_is_predicted_and_is_not_kept() {
    let mailing = |app: &mut App| {
        come(app);
        shoot(app);
        app.apply(|_: On<Happened<Noticed>>| {});
        app.add_message::<Push>();
        app.decide(|step: In<Issued<Step>>| -> Decision { accept(Stepped { who: step.author_id, by: step.command.0 }) });
        app.apply(
            |stepped: On<Happened<Stepped>>, index: Res<EntityIndex>, mut steps: Query<&mut Steps>, mut pushes: MessageWriter<Push>| {
                index.entity(stepped.who).and_then(|who| steps.get_mut(who).ok()).into_iter().for_each(|mut steps| steps.0 += 1);
                pushes.write(Push(stepped.who, stepped.by));
            },
        );
        app.add_systems(FixedUpdate, carry_out).add_systems(PredictedUpdate, (count, carry_out).chain());
    };
    let mut sim = Sim::new(protocol, mailing).seed(11).link(even()).predicting().client("ann").client("bob");
    sim.issue("ann", &Step(1.0)).run_ticks(20);
    for n in 1..=40_u8 {
        // Somebody else's, so that what is on its way is applied again.
        sim.issue("ann", &Step(1.0)).issue("bob", &Step(1.0)).tick();
        let Place(at) = shown(&sim, "ann", id("ann")).unwrap();
        assert!(at <= f32::from(n) + 1.0, "after step {n} it is at {at}");
    }
    sim.run_ticks(20);
    assert_eq!(sim.client_of("ann").prediction().corrected, 0);
    // Those of a tick and of the one before, as anywhere.
    assert!((1..=4).contains(&MOST.load(Ordering::Relaxed)), "{MOST:?}");
    assert_clean(&mut sim, 2);
}

#[test]
fn what_a_room_that_goes_on_works_out_again_is_there_once_in_a_prediction_and_tells_nothing_anew() {
    let fenced = |app: &mut App| {
        let fence = |mut commands: Commands| {
            commands.spawn(Fence);
        };
        come(app);
        shoot(app);
        app.add_systems(Startup, fence).add_systems(Resumed, (fence, |mut record: Recorder| record.fact(Noticed)));
        app.apply(|_: On<Happened<Noticed>>, mut steps: Query<&mut Steps>| steps.iter_mut().for_each(|mut steps| steps.0 += 100));
        app.decide(|step: In<Issued<Step>>, fences: Query<&Fence>| -> Decision {
            match fences.iter().count() {
                1 => accept(Stepped { who: step.author_id, by: step.command.0 }),
                _ => reject("fences"),
            }
        });
        app.apply(|stepped: On<Happened<Stepped>>, index: Res<EntityIndex>, mut steps: Query<&mut Steps>| {
            index.entity(stepped.who).and_then(|who| steps.get_mut(who).ok()).into_iter().for_each(|mut steps| steps.0 += 1);
        });
    };
    let mut sim = Sim::new(protocol, fenced).seed(12).link(bad_link()).predicting().client("ann");
    sim.run_ticks(20);
    for stay in 0..3 {
        let Steps(before) = rooms(&sim, id("ann")).unwrap();
        for n in 1..=20 {
            sim.issue("ann", &Step(1.0)).tick();
            assert_eq!(shown(&sim, "ann", id("ann")), Some(Steps(before + n)), "stay {stay}, step {n}");
        }
        sim.run_ticks(40).vanish("ann").run_ticks(5).reconnect("ann", false);
        sim.tick_while(|sim| !sim.client_of("ann").is_live());
        sim.settle();
    }
}

#[test]
fn who_hears_by_bevy_of_what_is_predicted_is_told_whose_the_replica_is() {
    #[derive(Resource, Default)]
    struct Heard(Vec<(EntityId, String)>);

    let shooting = |app: &mut App| {
        come(app);
        step(app);
        shoot(app);
        app.apply(|_: On<Happened<Noticed>>| {});
    };
    let mut sim = Sim::new(protocol, shooting).seed(13).link(bad_link()).predicting().client("ann");
    sim.run_ticks(20);
    let app = sim.client_mut("ann").app_mut();
    app.init_resource::<Heard>().add_observer(|_: On<Add<Arrow>>, replica: Res<Replica>, mut heard: ResMut<Heard>| {
        heard.0.push((replica.user(), replica.room_name().to_owned()));
    });
    sim.issue("ann", &Shoot).tick();
    let world = sim.client_of("ann").world();
    let name = world.resource::<Replica>().room_name().to_owned();
    assert_eq!(world.resource::<Heard>().0, [(id("ann"), name)]);
}
