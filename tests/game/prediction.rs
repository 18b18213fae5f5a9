//! The demo game, predicted by its own rules.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use crate::commands::{Fire, Move, OpenDoor, SwitchWeapon};
use crate::components::*;
use crate::foreseen::{assert_clean, bad_link, id};
use crate::map::{Point, add, distance, scale, unit};
use crate::{protocol, rules};
use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::client::{InterpolateAppExt, Replica, Shown, issue};
use roomkeeper::prelude::*;
use roomkeeper::protocol::Producer;
use roomkeeper::room::{Level, RoomRng};
use roomkeeper::sim::{LinkConditions, Sim};

/// The level without what acts by itself, and without the ends of the game.
fn level(seed: u64, link: LinkConditions, players: &[&str]) -> Sim {
    let level = Level::open(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/levels/e1m1.json")).unwrap();
    let mut sim = Sim::new(protocol::add, rules::add).level(level).seed(seed).link(link).predicting();
    let world = sim.room_mut().world_mut();
    let acts =
        world.query_filtered::<Entity, Or<(With<Monster>, With<Item>, With<DoorTimer>, With<Exit>)>>().iter(world).collect::<Vec<_>>();
    acts.into_iter().for_each(|entity| assert!(world.despawn(entity)));
    for player in players {
        sim.join(player);
    }
    sim
}

/// Walks about, turns at chance, fires, changes weapons, tries doors.
fn wander(sim: &mut Sim, name: &str, seed: u64) {
    let (mut chance, mut heading): (_, Point) = (RoomRng::new(seed), [1.0, 0.0]);
    sim.bot(name, move |world| {
        let Some(me) = world.resource::<Replica>().user_entity() else { return };
        let Some(at) = world.get::<Position>(me).copied() else { return };
        let mut doors: Vec<EntityId> = world.query_filtered::<&EntityId, With<Door>>().iter(world).copied().collect();
        doors.sort_unstable();
        if chance.chance(0.1) {
            heading = unit([chance.unit_f32() - 0.5, chance.unit_f32() - 0.5]).unwrap_or(heading);
        }
        let _ = issue(world, &Move { to: add(at.0, scale(heading, 0.3)) });
        if chance.chance(0.1) {
            let _ = issue(world, &Fire { aim: [chance.unit_f32() - 0.5, chance.unit_f32() - 0.5] });
        }
        if chance.chance(0.02) {
            let weapon = if chance.chance(0.5) { WeaponKind::Fist } else { WeaponKind::Pistol };
            let _ = issue(world, &SwitchWeapon { weapon });
        }
        if chance.chance(0.02) && !doors.is_empty() {
            let _ = issue(world, &OpenDoor { door: doors[chance.range(0..doors.len() as u32) as usize] });
        }
    });
}

#[test]
fn alone_in_the_room_every_prediction_comes_true() {
    for (seed, link) in [(1, bad_link()), (2, bad_link()), (3, bad_link()), (4, LinkConditions::PERFECT)] {
        let mut sim = level(seed, link, &["ann"]);
        wander(&mut sim, "ann", seed);
        sim.run_ticks(600).bot("ann", |_| {});
        sim.run_ticks(60);
        let ann = sim.client_of("ann");
        let (prediction, told) = (ann.prediction(), ann.told());
        assert!(told.mispredicted.is_empty(), "seed {seed}: {:?}", told.mispredicted);
        assert_eq!((prediction.corrected, prediction.rejected.0), (0, prediction.rejected.1), "seed {seed}: {prediction:?}");
        assert_eq!(prediction.confirmed as usize, told.accepted.len(), "seed {seed}");
        assert!(prediction.confirmed > 500, "seed {seed}: {prediction:?}");
        println!("seed {seed}: {prediction:?}");
        assert_clean(&mut sim, 1);
    }
}

/// What was drawn: where ann is and is shown, and how far each bullet is shown to have flown.
#[derive(Resource, Default)]
struct Film {
    ann: Vec<(Position, Option<Position>)>,
    bullets: Vec<(EntityId, f32)>,
}

fn film(
    replica: Res<Replica>,
    all: Query<(&Position, Option<&Shown<Position>>)>,
    bullets: Query<(&EntityId, &Shown<Position>, &Origin), With<Bullet>>,
    mut film: ResMut<Film>,
) {
    let Some((at, shown)) = replica.user_entity().and_then(|me| all.get(me).ok()) else { return };
    film.ann.push((*at, shown.map(|shown| shown.0)));
    film.bullets.extend(bullets.iter().map(|(id, shown, origin)| (*id, distance(shown.0.0, origin.at))));
}

#[test]
fn what_is_shown_of_ones_own_is_what_is_predicted_in_each_frame_and_no_bullet_flies_back() {
    let mut sim = level(5, bad_link(), &["ann"]).frames(60);
    let app = sim.client_mut("ann").app_mut();
    app.interpolate(positions()).init_resource::<Film>().add_systems(Last, film);
    wander(&mut sim, "ann", 5);
    sim.run_ticks(400);
    let film = std::mem::take(&mut *sim.client_mut("ann").world_mut().resource_mut::<Film>());
    assert!(film.ann.len() > 1_000 && film.ann.iter().skip(10).all(|(at, shown)| Some(*at) == *shown), "{} frames", film.ann.len());
    let mut flown = std::collections::BTreeMap::<EntityId, f32>::new();
    for (bullet, far) in film.bullets {
        let before = flown.insert(bullet, far).unwrap_or(0.0);
        assert!(far >= before - 1e-3, "{bullet} was {before} away and is {far}");
    }
    assert!(flown.len() > 10, "{} bullets", flown.len());
}

#[test]
fn among_others_what_is_wrong_is_put_right_and_has_a_cause() {
    for seed in 1..=3 {
        let mut sim = level(seed, bad_link(), &["ann", "bob", "cid"]);
        wander(&mut sim, "ann", seed);
        for n in 0..600_u32 {
            if n % 150 == 60 {
                wander(&mut sim, "bob", seed + 10);
                let ball = sim.room().entity(id("ann")).unwrap();
                // As a fireball would.
                sim.room_mut().world_mut().get_mut::<Health>(ball).unwrap().0 -= 1;
            } else if n % 150 == 70 {
                sim.bot("bob", |_| {});
            }
            sim.tick();
        }
        sim.bot("ann", |_| {}).run_ticks(60);
        let by_others = |fact: &&roomkeeper::room::Recorded| fact.author != Some(id("ann")) || fact.producer != Producer::User;
        let acts: Vec<u32> = sim.ledger().iter().filter(by_others).map(|fact| fact.tick.0).collect();
        let ann = sim.client_of("ann");
        for wrong in &ann.told().mispredicted {
            assert!(acts.iter().any(|act| (*act..act + 20).contains(&wrong.tick.0)), "seed {seed}: {wrong:?}");
        }
        assert!(ann.prediction().confirmed > 500);
        println!("seed {seed}: {:?}, {} acts of others", ann.prediction(), acts.len());
        assert_clean(&mut sim, 3);
    }
}
