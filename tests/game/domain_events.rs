//! The demo game's rules, event by event: what each domain event does, and what is refused.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use crate::commands::{Fire, Move, OpenDoor, SwitchWeapon};
use crate::components::*;
use crate::facts::*;
use crate::rules::tuning::*;
use crate::{protocol, rules};
use bevy_ecs::prelude::*;
use bevy_ecs::system::RunSystemOnce;
use roomkeeper::client::Replica;
use roomkeeper::prelude::*;
use roomkeeper::protocol::{FactSeq, Incoming, LeaveReason, Op, Operation, Producer, Protocol, RoomTick, State, UpdateKind, Verdict};
use roomkeeper::room::Level;
use roomkeeper::sim::Sim;
use serde::Serialize;
use serde_json::json;

/// The level with ann and bob in it, each with a replica, and no monsters but those that a test puts there.
fn room() -> Sim {
    let level = Level::open(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/levels/e1m1.json")).unwrap();
    let mut sim = Sim::new(protocol::add, rules::add).level(level).options(|options| options.notes = true);
    let world = sim.room_mut().world_mut();
    let monsters: Vec<Entity> = world.query_filtered::<Entity, With<Monster>>().iter(world).collect();
    monsters.into_iter().for_each(|monster| assert!(world.despawn(monster)));
    sim.join("ann").join("bob");
    sim.give("ann", Position([3.0, 3.0])).give("bob", Position([45.0, 28.0])).tick();
    sim
}

fn id(name: &str) -> EntityId {
    EntityId::named(name)
}

fn entity(sim: &Sim, name: &str) -> Entity {
    sim.room().entity(id(name)).unwrap_or_else(|| panic!("there is no {name}"))
}

fn lives(sim: &Sim, name: &str) -> bool {
    sim.room().entity(id(name)).is_some()
}

fn get<C: Component + Clone>(sim: &Sim, name: &str) -> C {
    sim.room().world().get::<C>(entity(sim, name)).unwrap().clone()
}

fn put(sim: &mut Sim, name: &str, bundle: impl Bundle) {
    let entity = entity(sim, name);
    sim.room_mut().world_mut().entity_mut(entity).insert(bundle);
}

/// Lets a fact happen, as a system would.
fn happen<F: Serialize + Clone + Send + Sync + 'static>(sim: &mut Sim, fact: F) {
    sim.room_mut().world_mut().run_system_once(move |mut record: Recorder| record.fact(fact.clone())).unwrap();
}

fn count<F: 'static>(sim: &Sim) -> usize {
    sim.facts_of::<F>().len()
}

/// Asserts that a command of ann is refused with that code, and leaves no fact.
fn refused<C: Serialize + 'static>(sim: &mut Sim, command: &C, code: &str) {
    let told = sim.rejections("ann").len();
    let facts = sim.facts_of::<PlayerMoved>().len() + sim.facts_of::<BulletFired>().len() + sim.facts_of::<DoorOpened>().len();
    sim.issue("ann", command).tick();
    assert_eq!(&sim.rejections("ann")[told..], [code]);
    let after = sim.facts_of::<PlayerMoved>().len() + sim.facts_of::<BulletFired>().len() + sim.facts_of::<DoorOpened>().len();
    assert_eq!(facts, after, "a refused command leaves no fact");
}

/// The operations of the tick that ran last.
fn last_operations(sim: &Sim) -> Vec<Operation> {
    let world = sim.room().world();
    let mut state = State::new(sim.room().info().id);
    let mut last = Vec::new();
    for (tick, batch) in sim.batches() {
        let operations = state.apply(world.resource::<Protocol>(), batch).unwrap();
        last = if *tick == sim.room().tick_now() { operations } else { Vec::new() };
    }
    last
}

fn operation(operations: &[Operation], name: &str, component: &str) -> Option<(UpdateKind, serde_json::Value)> {
    operations.iter().find_map(|operation| match &operation.op {
        Op::Update { kind, component: updated, value } if operation.id == id(name) && updated == component => Some((*kind, value.clone())),
        _ => None,
    })
}

fn imp(sim: &mut Sim, at: [f32; 2], health: i32) {
    sim.room_mut().world_mut().spawn((
        (id("imp"), Name::new("imp"), Monster(MonsterKind::Imp), MonsterState::Idle),
        (Position(at), Rotation(0.0), Health(health), Visibility(true)),
        Patrol { points: vec![at], next: 0 },
    ));
}

fn throw(sim: &mut Sim, fireball: &str, from: [f32; 2]) {
    let (monster, target) = (id("nobody"), id("ann"));
    let threw =
        MonsterThrewFireball { monster, fireball: id(fireball), target, from, direction: [1.0, 0.0], damage: 10, ready_after_ticks: 40 };
    happen(sim, threw);
}

/// Every replica holds what the room holds.
fn finish(mut sim: Sim) {
    sim.settle();
    assert_eq!(sim.assert_converged(), sim.client_names().len());
}

#[test]
fn e01_who_joins_is_added_once_for_everybody() {
    let mut sim = room();
    sim.join("eve");
    for client in ["ann", "bob", "eve"] {
        let added = &sim.client_of(client).told().added;
        assert_eq!(added.iter().filter(|added| **added == id("eve")).count(), 1, "{client}");
    }
    let joined = sim.ledger().iter().rfind(|fact| &*fact.name == "user_joined").unwrap();
    assert_eq!((joined.producer.clone(), joined.get::<UserJoined>().unwrap().user), (Producer::User, id("eve")));
    let eve = sim.client_of("bob").world().resource::<Replica>().entity(id("eve")).unwrap();
    let eve = sim.client_of("bob").world().entity(eve);
    assert!(eve.contains::<Avatar>() && eve.contains::<Position>() && eve.contains::<Rotation>());
    finish(sim);
}

#[test]
fn e02_who_leaves_or_vanishes_is_deleted_once_and_what_was_carried_stays() {
    let mut sim = room();
    sim.join("eve");
    for (leaver, reason) in [("bob", LeaveReason::Left), ("eve", LeaveReason::Timeout)] {
        let owner = entity(&sim, leaver);
        put(&mut sim, "key_red", (OwnedBy(owner), Visibility(false)));
        put(&mut sim, leaver, Position([34.0, 24.0]));
        sim.tick();
        match reason {
            LeaveReason::Left => sim.leave(leaver).tick(),
            _ => sim.vanish(leaver).tick_while(|sim| lives(sim, leaver)),
        };
        let left = sim.facts_of::<UserLeft>().into_iter().filter(|left| left.user == id(leaver)).collect::<Vec<_>>();
        assert_eq!(left.iter().map(|left| left.reason).collect::<Vec<_>>(), [reason]);
        sim.run_ticks(3);
        let removed = &sim.client_of("ann").told().removed;
        assert_eq!(removed.iter().filter(|removed| **removed == id(leaver)).count(), 1, "{leaver}");
        assert_eq!((get::<Visibility>(&sim, "key_red"), get::<Position>(&sim, "key_red")), (Visibility(true), Position([34.0, 24.0])));
        assert!(sim.room().world().get::<OwnedBy>(entity(&sim, "key_red")).is_none());
    }
}

#[test]
fn who_calls_itself_like_a_door_does_not_get_the_door() {
    let mut sim = room();
    for thing in ["door_red", "key_red"] {
        sim.connect(thing, false).run_ticks(10);
        assert!(sim.client_of(thing).state().to_string().contains("bad_user"), "{thing}: {}", sim.client_of(thing).state());
        assert!(lives(&sim, thing) && !sim.room().members().contains(id(thing)));
    }
    assert_eq!((get::<DoorState>(&sim, "door_red"), get::<Key>(&sim, "key_red")), (DoorState::Closed, Key(Colour::Red)));
    // Nor like what the room will create.
    let join = Incoming::Join { user: EntityId::minted(sim.room().info().id, 1_000), name: "eve".into() };
    let taken = sim.room_mut().tick([join]).unwrap().taken;
    assert!(matches!(&taken[0].verdict, Some(Verdict::Rejected(rejection)) if rejection.code == "bad_user"), "{taken:?}");
}

#[test]
fn e03_a_teleport_is_refused_a_run_is_cut_short_and_a_tick_has_one_position() {
    let mut sim = room();
    refused(&mut sim, &Move { to: [9.0, 9.0] }, "too_fast");
    let start = get::<Position>(&sim, "ann").0[0];
    for _ in 0..20 {
        let x = get::<Position>(&sim, "ann").0[0];
        // Three commands a tick, as after a hiccup: the last may be one too many.
        sim.issue("ann", &Move { to: [x + 0.1, 3.0] })
            .issue("ann", &Move { to: [x + 0.2, 3.0] })
            .issue("ann", &Move { to: [x + 1.5, 3.0] });
        sim.tick();
        let positions = last_operations(&sim).into_iter().filter(|operation| {
            operation.id == id("ann") && matches!(&operation.op, Op::Update { component, .. } if component == "position")
        });
        assert!(positions.count() <= 1);
    }
    let went = get::<Position>(&sim, "ann").0[0] - start;
    assert!(went <= STRIDE_MAX + 20.0 * PLAYER_STEP && went > 4.0, "went {went}");
    finish(sim);
}

#[test]
fn e04_a_shot_costs_a_round_and_an_empty_gun_is_refused() {
    let mut sim = room();
    sim.issue("ann", &Fire { aim: [2.0, 0.0] }).tick();
    let shot = sim.facts_of::<BulletFired>()[0].clone();
    assert_eq!(operation(&last_operations(&sim), "ann", "ammo"), Some((UpdateKind::DecMin, json!({"by": 1, "min": 0}))));
    let created = last_operations(&sim).into_iter().find(|operation| operation.id == shot.bullet).unwrap();
    assert_eq!(created.note.as_deref(), Some("bullet_fired"));
    let Op::Create { components } = created.op else { panic!("{created:?}") };
    assert!(components.contains_key("position") && components.contains_key("direction"), "{components:?}");
    refused(&mut sim, &Fire { aim: [2.0, 0.0] }, "reloading");
    sim.give("ann", (Ammo(0), ReadyAt::default()));
    refused(&mut sim, &Fire { aim: [2.0, 0.0] }, "no_ammo");
    refused(&mut sim, &Fire { aim: [0.0, 0.0] }, "bad_aim");
    finish(sim);
}

#[test]
fn e05_e14_a_door_opens_from_near_and_for_the_matching_key_only() {
    let mut sim = room();
    let open = |door: &str| OpenDoor { door: id(door) };
    refused(&mut sim, &open("door_red"), "too_far");
    sim.give("ann", Position([30.0, 10.0]));
    refused(&mut sim, &open("door_red"), "locked");
    // The key is collected by walking over it, and owned from then on.
    put(&mut sim, "key_red", (Key(Colour::Blue), Position([30.0, 10.0])));
    sim.tick();
    assert_eq!((count::<PlayerCollectedKey>(&sim), get::<Visibility>(&sim, "key_red")), (1, Visibility(false)));
    assert_eq!(get::<OwnedBy>(&sim, "key_red").0, entity(&sim, "ann"));
    refused(&mut sim, &open("door_red"), "locked");
    put(&mut sim, "key_red", Key(Colour::Red));
    sim.issue("ann", &open("door_red")).tick();
    assert_eq!(operation(&last_operations(&sim), "door_red", "door_state"), Some((UpdateKind::Set, json!("opened"))));
    refused(&mut sim, &open("door_red"), "already_opened");
    sim.give("ann", Position([16.0, 18.5]));
    refused(&mut sim, &open("door_vault"), "on_a_timer");
    refused(&mut sim, &open("exit"), "not_a_door");
    finish(sim);
}

#[test]
fn e06_a_fireball_bursts_and_hurts_in_one_batch_and_health_is_never_below_nothing() {
    let mut sim = room();
    sim.give("ann", Health(15));
    throw(&mut sim, "ball1", [2.0, 3.0]);
    sim.tick_while(|sim| count::<PlayerHitByFireball>(sim) == 0);
    let operations = last_operations(&sim);
    assert_eq!(operation(&operations, "ball1", "fireball_state"), Some((UpdateKind::Set, json!("hit"))));
    assert_eq!(operation(&operations, "ann", "health"), Some((UpdateKind::DecMin, json!({"by": 10, "min": 0}))));
    let place = |wanted: &dyn Fn(&Operation) -> bool| operations.iter().position(wanted).unwrap();
    let hit = place(&|operation| operation.id == id("ball1") && matches!(operation.op, Op::Update { .. }));
    let gone = place(&|operation| operation.id == id("ball1") && operation.op == Op::Delete);
    assert!(hit < gone && !lives(&sim, "ball1"));
    throw(&mut sim, "ball2", [2.0, 3.0]);
    sim.tick_while(|sim| count::<PlayerHitByFireball>(sim) == 1);
    assert_eq!(get::<Health>(&sim, "ann"), Health(0));
    finish(sim);
}

#[test]
fn e07_a_monster_is_in_pain_for_a_while_and_then_itself_again() {
    let mut sim = room();
    imp(&mut sim, [6.0, 3.0], 100);
    sim.issue("ann", &Fire { aim: [1.0, 0.0] }).tick_while(|sim| count::<MonsterHitByBullet>(sim) == 0);
    assert_eq!(operation(&last_operations(&sim), "imp", "monster_state"), Some((UpdateKind::Set, json!("monster_pain"))));
    let mut pain = 0;
    while get::<MonsterState>(&sim, "imp") == MonsterState::Pain {
        sim.tick();
        pain += 1;
    }
    assert_eq!((pain, get::<MonsterState>(&sim, "imp")), (PAIN_TICKS, MonsterState::Idle));
    finish(sim);
}

#[test]
fn e08_a_dying_monster_cannot_be_hit_again_and_is_gone_after_two_seconds() {
    let mut sim = room();
    imp(&mut sim, [6.0, 3.0], 12);
    sim.issue("ann", &Fire { aim: [1.0, 0.0] }).tick_while(|sim| count::<MonsterDied>(sim) == 0);
    let (died, hit) = (sim.room().tick_now(), count::<MonsterHitByBullet>(&sim));
    let fact = sim.ledger().iter().find(|fact| &*fact.name == "monster_died").unwrap();
    let cause = fact.cause.and_then(|cause| sim.ledger().iter().find(|fact| fact.seq == cause)).unwrap();
    assert_eq!(&*cause.name, "monster_hit_by_bullet");
    while lives(&sim, "imp") {
        assert_eq!(get::<MonsterState>(&sim, "imp"), MonsterState::Dying);
        let _ = sim.try_issue("ann", &Fire { aim: [1.0, 0.0] });
        sim.tick();
    }
    assert_eq!(count::<MonsterHitByBullet>(&sim), hit);
    let lay = sim.room().tick_now().0 - died.0;
    assert!(lay.abs_diff(DYING_MILLIS / TICK_MILLIS) <= 1, "{lay} ticks");
    finish(sim);
}

#[test]
fn e09_e10_of_two_at_one_weapon_one_has_it_and_only_that_one_can_draw_it() {
    let mut sim = room();
    put(&mut sim, "weapon_shotgun_1", Position([3.0, 3.0]));
    sim.give("bob", Position([3.0, 3.0])).run_ticks(3);
    assert_eq!(count::<PlayerCollectedWeapon>(&sim), 1);
    assert_eq!(get::<Visibility>(&sim, "weapon_shotgun_1"), Visibility(false));
    let owner = get::<OwnedBy>(&sim, "weapon_shotgun_1").0;
    let (has, lacks) = if owner == entity(&sim, "ann") { ("ann", "bob") } else { ("bob", "ann") };
    let draw = SwitchWeapon { weapon: WeaponKind::Shotgun };
    sim.issue(lacks, &draw).issue(has, &draw).tick();
    assert_eq!((sim.rejections(lacks), sim.rejections(has).len()), (vec!["not_owned"], 0));
    assert_eq!(operation(&last_operations(&sim), has, "weapon"), Some((UpdateKind::Set, json!("shotgun"))));
    finish(sim);
}

#[test]
fn e11_a_medical_kit_heals_up_to_the_maximum_and_stays_when_nobody_needs_it() {
    let mut sim = room();
    put(&mut sim, "medkit_1", Position([3.0, 3.0]));
    sim.run_ticks(3);
    assert!(lives(&sim, "medkit_1") && count::<PlayerCollectedHealth>(&sim) == 0);
    sim.give("ann", Health(95)).tick();
    assert_eq!(get::<Health>(&sim, "ann"), Health(HEALTH_MAX));
    assert!(!lives(&sim, "medkit_1"));
    finish(sim);
}

#[test]
fn e12_immunity_spares_its_owner_until_its_tick() {
    let mut sim = room();
    put(&mut sim, "immunity_1", (Position([3.0, 3.0]), Item { kind: ItemKind::Immunity, amount: 1 }));
    sim.tick();
    let until = get::<Immunity>(&sim, "ann").until_tick;
    assert_eq!((until, lives(&sim, "immunity_1")), (RoomTick(sim.room().tick_now().0 + 20), false));
    throw(&mut sim, "ball1", [2.0, 3.0]);
    sim.tick_while(|sim| count::<PlayerHitByFireball>(sim) == 0);
    let operations = last_operations(&sim);
    assert_eq!(operation(&operations, "ball1", "fireball_state"), Some((UpdateKind::Set, json!("hit"))));
    assert_eq!((operation(&operations, "ann", "health"), get::<Health>(&sim, "ann")), (None, Health(100)));
    // The tick before the last of it, and the first without.
    for (tick, health) in [(until.0 - 1, 100), (until.0, 90)] {
        sim.tick_while(|sim| sim.room().tick_now().0 < tick - 1);
        let ball = format!("ball at {tick}");
        throw(&mut sim, &ball, [2.9, 3.0]);
        sim.tick();
        assert_eq!((sim.room().tick_now().0, get::<Health>(&sim, "ann")), (tick, Health(health)));
    }
    finish(sim);
}

#[test]
fn a_weak_immunity_takes_nothing_from_a_strong_one() {
    let mut sim = room();
    let collected = |item: &str, for_ticks: u32| PlayerCollectedImmunity { player: id("ann"), item: id(item), for_ticks };
    happen(&mut sim, collected("ammo_1", 100));
    let until = get::<Immunity>(&sim, "ann").until_tick;
    assert!(until > sim.room().tick_now());
    happen(&mut sim, collected("ammo_2", 5));
    assert_eq!(get::<Immunity>(&sim, "ann").until_tick, until);
    finish(sim);
}

#[test]
fn e13_ammunition_grows_up_to_what_a_player_carries() {
    let mut sim = room();
    put(&mut sim, "ammo_1", Position([3.0, 3.0]));
    sim.give("ann", Ammo(AMMO_MAX - 5)).tick();
    assert_eq!((get::<Ammo>(&sim, "ann"), lives(&sim, "ammo_1")), (Ammo(AMMO_MAX), false));
    let step = operation(&last_operations(&sim), "ann", "ammo");
    assert!(matches!(step, Some((UpdateKind::IncMax | UpdateKind::Set, _))), "{step:?}");
    put(&mut sim, "ammo_2", Position([3.0, 3.0]));
    sim.run_ticks(2);
    assert!(lives(&sim, "ammo_2"), "who is full leaves it");
    finish(sim);
}

#[test]
fn e15_two_deadly_hits_in_one_tick_kill_once_and_the_ledger_says_why() {
    let mut sim = room();
    sim.give("ann", Health(10));
    let hit = |ball: &str| PlayerHitByFireball { player: id("ann"), fireball: id(ball), thrown_by: id("nobody"), damage: 10 };
    happen(&mut sim, hit("ball1"));
    happen(&mut sim, hit("ball2"));
    sim.run_ticks(3);
    let killed: Vec<_> = sim.ledger().iter().filter(|fact| &*fact.name == "player_killed").collect();
    assert_eq!((killed.len(), get::<Status>(&sim, "ann").0.as_str()), (1, Status::DIED));
    let cause: FactSeq = killed[0].cause.unwrap();
    let cause = sim.ledger().iter().find(|fact| fact.seq == cause).unwrap();
    assert_eq!(&*cause.name, "player_hit_by_fireball");
    for code in ["dead", "dead"] {
        refused(&mut sim, &Move { to: [3.1, 3.0] }, code);
    }
    refused(&mut sim, &Fire { aim: [1.0, 0.0] }, "dead");
    finish(sim);
}

#[test]
fn e16_two_hundred_monsters_make_their_rounds_and_hidden_ones_sleep() {
    let mut sim = room();
    for n in 0..200_u32 {
        let at = [35.0 + (n % 20) as f32 * 0.5, 25.5 + (n / 20) as f32 * 0.2];
        sim.room_mut().world_mut().spawn((
            (Monster(MonsterKind::Imp), MonsterState::Idle, Visibility(n % 4 != 0)),
            (Position(at), Rotation(0.0), Health(50), Patrol { points: vec![at, [at[0], at[1] + 0.5]], next: 1 }),
        ));
    }
    // Out of everybody's sight.
    sim.give("bob", Position([3.0, 6.0])).tick();
    let places = |sim: &mut Sim| -> Vec<([f32; 2], bool)> {
        let world = sim.room_mut().world_mut();
        let mut monsters = world.query_filtered::<(&EntityId, &Position, &Visibility), With<Monster>>();
        let mut all: Vec<_> = monsters.iter(world).map(|(id, at, seen)| (*id, (at.0, seen.0))).collect();
        all.sort_by_key(|(id, _)| *id);
        all.into_iter().map(|(_, place)| place).collect()
    };
    let before = places(&mut sim);
    sim.run_ticks(10);
    let after = places(&mut sim);
    assert_eq!(before.len(), 200);
    for ((from, awake), (to, _)) in before.iter().zip(&after) {
        assert_eq!(from != to, *awake, "{from:?} to {to:?}");
    }
    let moved = sim.ledger().iter().find(|fact| &*fact.name == "monster_moved").unwrap();
    assert_eq!(moved.producer, Producer::System("think".into()));
    finish(sim);
}

#[test]
fn e17_a_monster_throws_no_faster_than_its_cooldown_and_alike_in_every_run() {
    let throws = || {
        let mut sim = room();
        imp(&mut sim, [8.0, 3.0], 1_000);
        sim.give("ann", Health(1_000)).run_ticks(300);
        let thrown: Vec<_> = sim.ledger().iter().filter(|fact| &*fact.name == "monster_threw_fireball").cloned().collect();
        thrown.into_iter().map(|fact| (fact.tick.0, fact.get::<MonsterThrewFireball>().unwrap().fireball)).collect::<Vec<_>>()
    };
    let first = throws();
    assert!(first.len() >= 5, "{first:?}");
    assert!(first.windows(2).all(|two| two[1].0 - two[0].0 >= 40), "{first:?}");
    assert_eq!(first, throws());
}

#[test]
fn e18_a_fireball_is_streamed_to_where_its_launch_says_that_it_is() {
    let mut sim = room();
    sim.give("ann", Position([3.0, 10.0]));
    throw(&mut sim, "ball", [2.0, 3.0]);
    for tick in 0..24 {
        sim.tick();
        let replica = sim.client_of("bob").world();
        let ball = replica.resource::<Replica>().entity(id("ball")).unwrap();
        let at = |sim: &Sim| get::<Position>(sim, "ball").0;
        let (origin, direction) = (replica.get::<Origin>(ball).unwrap(), replica.get::<Direction>(ball).unwrap());
        let launched = rules::combat::in_flight(origin, direction, FIREBALL_STEP, sim.room().tick_now());
        assert_eq!((replica.get::<Position>(ball).unwrap().0, launched), (at(&sim), at(&sim)), "in tick {tick}");
    }
    assert!(count::<FireballMoved>(&sim) >= 1);
    finish(sim);
}

#[test]
fn e19_a_level_is_won_once_and_then_nothing_counts_any_more() {
    let mut sim = room();
    sim.give("bob", Health(0)).tick();
    sim.give("ann", Position([34.0, 28.0])).run_ticks(3);
    sim.give("ann", Health(0)).run_ticks(3);
    assert_eq!((count::<LevelWon>(&sim), count::<LevelLost>(&sim), get::<Status>(&sim, "game").0.as_str()), (1, 0, Status::WON));
    refused(&mut sim, &Move { to: [34.0, 28.2] }, "level_over");
    finish(sim);
}

#[test]
fn e20_a_level_is_lost_once_when_the_last_player_died() {
    let mut sim = room();
    sim.give("bob", Health(0)).run_ticks(3);
    assert_eq!(count::<LevelLost>(&sim), 0);
    sim.give("ann", (Health(0), Position([34.0, 28.0])));
    // Dead players win nothing, exit or not.
    sim.room_mut().world_mut().flush();
    put(&mut sim, "ann", Status(Status::DIED.into()));
    sim.run_ticks(3);
    assert_eq!((count::<LevelLost>(&sim), count::<LevelWon>(&sim), get::<Status>(&sim, "game").0.as_str()), (1, 0, Status::LOST));
    refused(&mut sim, &Fire { aim: [1.0, 0.0] }, "level_over");
    finish(sim);
}

#[test]
fn a_door_on_a_timer_opens_every_minute_for_a_quarter_of_one_and_not_on_somebody() {
    let mut sim = room();
    let opened = |sim: &Sim| get::<DoorState>(sim, "door_vault") == DoorState::Opened;
    let mut changes = Vec::new();
    let mut was = false;
    // An hour of room time.
    for _ in 0..72_000 {
        sim.room_mut().tick([]).unwrap();
        if opened(&sim) != was {
            was = !was;
            changes.push(sim.room().tick_now().0);
        }
    }
    let expected: Vec<u32> = (1..=60).flat_map(|minute| [minute * 1_200, minute * 1_200 + 300]).collect();
    assert!(changes.len() >= 118, "{}", changes.len());
    assert!(changes.iter().zip(&expected).all(|(at, due)| at.abs_diff(*due) <= 1), "{changes:?}");
}

#[test]
fn a_door_waits_for_whoever_stands_in_it() {
    let mut sim = room();
    put(&mut sim, "door_vault", DoorTimer { open_every_s: 1.0, open_for_s: 0.25 });
    sim.tick_while(|sim| get::<DoorState>(sim, "door_vault") == DoorState::Closed);
    sim.give("ann", Position([16.0, 20.0])).run_ticks(30);
    assert_eq!(get::<DoorState>(&sim, "door_vault"), DoorState::Opened);
    sim.give("ann", Position([3.0, 3.0]));
    sim.tick_while(|sim| get::<DoorState>(sim, "door_vault") == DoorState::Opened);
    assert!(count::<DoorClosed>(&sim) >= 1);
    finish(sim);
}

#[test]
fn a_door_does_not_wait_for_the_dead() {
    let mut sim = room();
    put(&mut sim, "door_vault", DoorTimer { open_every_s: 1.0, open_for_s: 0.25 });
    sim.tick_while(|sim| get::<DoorState>(sim, "door_vault") == DoorState::Closed);
    sim.give("ann", (Position([16.0, 20.0]), Health(0)));
    sim.tick_while(|sim| get::<DoorState>(sim, "door_vault") == DoorState::Opened);
    assert_eq!((get::<Status>(&sim, "ann").0.as_str(), get::<Position>(&sim, "ann")), (Status::DIED, Position([16.0, 20.0])));
    finish(sim);
}
