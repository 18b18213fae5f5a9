//! What a prediction hides, or takes a component from, is hidden at once, and back where the room says otherwise.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bevy_app::prelude::*;
use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use roomkeeper::client::{InterpolateAppExt, Replica, Shown};
use roomkeeper::prelude::*;
use roomkeeper::protocol::Interpolation;
use roomkeeper::sim::{LinkConditions, Sim};
use serde::{Deserialize, Serialize};

use crate::foreseen::{assert_clean, id};

#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Place(f32);
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Score(u32);
/// Known to the room alone: nobody can pick it up.
#[derive(Component)]
struct Stuck;

#[derive(Serialize, Deserialize)]
struct Step;
/// Picks a thing up: it is put away, or carried.
#[derive(Serialize, Deserialize)]
struct Pick {
    away: bool,
}
/// Throws something that can burst.
#[derive(Serialize, Deserialize)]
struct Throw;
#[derive(Serialize, Deserialize)]
struct Prick {
    ball: EntityId,
}

#[derive(Clone, Serialize, Deserialize)]
struct Stepped {
    who: EntityId,
}
#[derive(Clone, Serialize, Deserialize)]
struct Picked {
    who: EntityId,
    away: bool,
}
#[derive(Clone, Serialize, Deserialize)]
struct Thrown {
    ball: EntityId,
}
#[derive(Clone, Serialize, Deserialize)]
struct Burst {
    ball: EntityId,
}

fn protocol(app: &mut App) {
    app.sync::<Place>("place").latest();
    app.sync::<Score>("score");
    app.command::<Step>("step").command::<Pick>("pick").fact::<Stepped>("stepped").fact::<Picked>("picked");
    app.command::<Throw>("throw").command::<Prick>("prick").fact::<Thrown>("thrown").fact::<Burst>("burst");
}

fn rules(app: &mut App) {
    app.apply(|joined: On<Happened<UserJoined>>, mut commands: Commands| {
        commands.spawn((joined.user, Place(0.0), Score(0)));
    });
    app.decide(|step: In<Issued<Step>>| -> Decision { accept(Stepped { who: step.author_id }) });
    app.apply(|stepped: On<Happened<Stepped>>, index: Res<EntityIndex>, mut places: Query<&mut Place>, mut commands: Commands| {
        index.entity(stepped.who).and_then(|who| places.get_mut(who).ok()).into_iter().for_each(|mut place| place.0 += 1.0);
        // Something comes with each step, so that what is on its way is applied again.
        commands.spawn(Ttl::millis(100));
    });
    app.decide(|pick: In<Issued<Pick>>, index: Res<EntityIndex>, things: Query<Has<Stuck>, With<Place>>| -> Decision {
        let Some(thing) = index.entity(id("kit")) else { return reject("none") };
        match things.get(thing) {
            Ok(false) => accept(Picked { who: pick.author_id, away: pick.command.away }),
            Ok(true) => reject("stuck"),
            Err(_) => reject("away"),
        }
    });
    app.apply(|picked: On<Happened<Picked>>, index: Res<EntityIndex>, mut scores: Query<&mut Score>, mut commands: Commands| {
        index.entity(picked.who).and_then(|who| scores.get_mut(who).ok()).into_iter().for_each(|mut score| score.0 += 1);
        let Some(mut thing) = index.entity(id("kit")).and_then(|thing| commands.get_entity(thing).ok()) else { return };
        match picked.away {
            true => drop(thing.insert(Disabled)),
            false => drop(thing.remove::<Place>()),
        }
    });
    app.decide(|throw: In<Issued<Throw>>| -> Decision { accept(Thrown { ball: throw.new_id(0) }) });
    app.apply(|thrown: On<Happened<Thrown>>, mut commands: Commands| {
        commands.spawn((thrown.ball, Place(1.0)));
    });
    app.decide(|prick: In<Issued<Prick>>| -> Decision { accept(Burst { ball: prick.ball }) });
    app.apply(|burst: On<Happened<Burst>>, index: Res<EntityIndex>, mut commands: Commands| {
        if let Some(ball) = index.entity(burst.ball) {
            commands.entity(ball).insert(Disabled);
        }
    });
    app.add_systems(Startup, |mut commands: Commands| {
        commands.spawn((id("kit"), Place(5.0), Stuck));
    });
}

fn sim() -> Sim {
    let link = LinkConditions { delay_millis: 75, ..LinkConditions::PERFECT };
    let mut sim = Sim::new(protocol, rules).seed(1).link(link).predicting();
    let app = sim.connect("ann", false).client_mut("ann").app_mut();
    app.interpolate(Interpolation::linear(|place: &Place| [place.0], |[at]| Place(at)));
    sim.join("bob").run_ticks(20);
    sim
}

/// What ann sees of the thing: the component, and what is drawn of it; and her score.
fn seen(sim: &Sim) -> (Option<Place>, Option<Place>, u32) {
    let world = sim.client_of("ann").world();
    let replica = world.resource::<Replica>();
    let thing = replica.entity(id("kit")).filter(|thing| world.get::<Disabled>(*thing).is_none());
    let place = thing.and_then(|thing| world.get::<Place>(thing)).copied();
    let shown = thing.and_then(|thing| world.get::<Shown<Place>>(thing)).map(|shown| shown.0);
    (place, shown, world.get::<Score>(replica.entity(id("ann")).unwrap()).unwrap().0)
}

#[test]
fn what_is_picked_up_ahead_of_the_room_is_gone_until_the_room_rejects_it_and_for_good_if_it_does_not() {
    for away in [true, false] {
        let there = Some(Place(5.0));
        let mut sim = sim();
        assert_eq!(seen(&sim), (there, there, 0), "away: {away}");
        sim.issue("ann", &Pick { away }).tick();
        while sim.rejections("ann").is_empty() {
            assert_eq!(seen(&sim), (None, None, 1), "away: {away}");
            sim.issue("bob", &Step).tick();
        }
        assert_eq!((sim.rejections("ann")[0], seen(&sim)), ("stuck", (there, there, 0)), "away: {away}");
        let thing = sim.room().entity(id("kit")).unwrap();
        sim.room_mut().world_mut().entity_mut(thing).remove::<Stuck>();
        sim.issue("ann", &Pick { away }).tick();
        for n in 0..20 {
            assert_eq!(seen(&sim), (None, None, 1), "away: {away}, {n}");
            sim.issue("bob", &Step).tick();
        }
        let prediction = sim.client_of("ann").prediction();
        assert_eq!((prediction.confirmed, prediction.rejected), (1, (1, 0)), "away: {away}: {prediction:?}");
        assert_clean(&mut sim, 2);
    }
}

#[test]
fn what_came_ahead_of_the_room_and_is_disabled_ahead_of_it_is_out_of_sight_at_once() {
    let mut sim = sim();
    sim.issue("ann", &Throw).tick();
    let ball = *sim.client_of("ann").told().added.last().unwrap();
    let sees = |sim: &Sim| {
        let world = sim.client_of("ann").world();
        world.resource::<Replica>().entity(ball).is_some_and(|ball| world.get::<Disabled>(ball).is_none())
    };
    assert!(sees(&sim));
    sim.issue("ann", &Prick { ball }).tick();
    for n in 0..20 {
        assert!(!sees(&sim), "{n} ticks later");
        sim.issue("bob", &Step).tick();
    }
    assert!(sim.client_of("ann").told().rejected.is_empty());
    assert_clean(&mut sim, 2);
}

#[test]
fn what_the_game_has_hung_on_what_is_picked_up_is_out_of_sight_with_it() {
    let mut sim = sim();
    let world = sim.client_mut("ann").world_mut();
    let kit = world.resource::<Replica>().entity(id("kit")).unwrap();
    let sprite = world.spawn(ChildOf(kit)).id();
    let is_seen = |sim: &Sim| sim.client_of("ann").world().get::<Disabled>(sprite).is_none();
    sim.issue("ann", &Pick { away: true }).tick();
    while sim.rejections("ann").is_empty() {
        assert!(!is_seen(&sim));
        sim.issue("bob", &Step).tick();
    }
    assert!(is_seen(&sim), "the room rejects it");
}
