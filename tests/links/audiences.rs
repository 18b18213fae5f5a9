//! What is hidden because a component says so is hidden at any time: disabled, changed at the very end of a tick, in what an undo tells; and
//! what somebody sees by a component is seen for as long as it is there.

use bevy_app::prelude::*;
use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use roomkeeper::prelude::*;
use roomkeeper::protocol::{Change, FactSeq, Incoming, Reverted};
use roomkeeper::sim::Sim;
use serde::{Deserialize, Serialize};

/// By which it is found in a packet.
type Mark = [u8; 12];

#[derive(Component, Serialize, Deserialize, Clone)]
struct Kind(Mark);
/// Seen by one side.
#[derive(Component, Serialize, Deserialize, Clone)]
struct Trap {
    of: u64,
}
/// The side of a player.
#[derive(Component, Serialize, Deserialize, Clone)]
struct Team(u64);
#[derive(Component, Serialize, Deserialize, Clone)]
struct Chest(Vec<u8>);
/// When it goes out, all traps change sides.
#[derive(Component)]
struct Lantern;

const RED: u64 = 1;
const BLUE: u64 = 2;
const IN_THE_DARK: Mark = *b"in_the_dark_";

fn protocol(app: &mut App) {
    app.sync::<Kind>("kind");
    app.sync::<Trap>("trap");
    app.sync::<Team>("team");
    app.sync::<Chest>("chest");
}

fn rules(app: &mut App) {
    app.audience_by(|trap: &Trap| Audience::mask(trap.of));
    app.senses_by(|team: &Team| Senses::new().with_mask(team.0));
    app.add_observer(|_out: On<Remove<Lantern>>, mut traps: Query<(&mut Trap, &mut Kind)>| {
        traps.iter_mut().for_each(|(mut trap, mut kind)| (trap.of, kind.0) = (RED, IN_THE_DARK));
    });
}

/// Ann is red, ben blue.
fn sim() -> Sim {
    let mut sim = Sim::new(protocol, rules).client("ann").client("ben");
    for (name, side) in [("ann", RED), ("ben", BLUE)] {
        sim.give(name, Team(side)).client_mut(name).keep_packets();
    }
    sim.run_ticks(2);
    sim
}

fn has(sim: &Sim, name: &str, mark: &[u8]) -> bool {
    sim.client_of(name).packets().iter().any(|packet| packet.windows(mark.len()).any(|window| window == mark))
}

#[test]
fn what_was_disabled_when_it_came_or_changed_is_hidden_once_it_is_enabled() {
    let mut sim = sim();
    let world = sim.room_mut().world_mut();
    let came = world.spawn((Trap { of: RED }, Kind(*b"came_asleep_"), Disabled)).id();
    let changed = world.spawn((Trap { of: BLUE }, Kind(*b"blue_at_firs"))).id();
    sim.run_ticks(3);
    assert!(has(&sim, "ben", b"blue_at_firs"));
    sim.room_mut().world_mut().entity_mut(changed).insert(Disabled);
    sim.run_ticks(3);
    let mut entity = sim.room_mut().world_mut().entity_mut(changed);
    entity.get_mut::<Trap>().unwrap().of = RED;
    entity.get_mut::<Kind>().unwrap().0 = *b"red_in_sleep";
    sim.run_ticks(3);
    for trap in [came, changed] {
        assert_eq!(sim.room().world().get::<Audience>(trap), Some(&Audience::mask(RED)));
        sim.room_mut().world_mut().entity_mut(trap).remove::<Disabled>();
    }
    sim.run_ticks(3);
    for mark in [b"came_asleep_", b"red_in_sleep"] {
        assert_eq!((has(&sim, "ann", mark), has(&sim, "ben", mark)), (true, false), "{}", String::from_utf8_lossy(mark));
    }
    assert_eq!(sim.settle().assert_converged(), 2);
}

#[test]
fn who_is_on_no_side_any_more_sees_nothing_of_it_from_that_tick_on() {
    let mut sim = sim();
    let trap = sim.room_mut().world_mut().spawn((Trap { of: BLUE }, Kind(*b"seen_by_blue"))).id();
    sim.run_ticks(2);
    assert!(has(&sim, "ben", b"seen_by_blue"));
    let ben = sim.room().entity(EntityId::named("ben")).unwrap();
    let world = sim.room_mut().world_mut();
    world.entity_mut(ben).remove::<Team>();
    world.entity_mut(trap).insert(Kind(*b"not_any_more"));
    sim.run_ticks(3);
    assert!(sim.room().world().get::<Senses>(ben).is_none());
    assert!(!has(&sim, "ben", b"not_any_more"));
    sim.give("ben", Team(BLUE)).run_ticks(3);
    assert!(has(&sim, "ben", b"not_any_more"));
    assert_eq!(sim.settle().assert_converged(), 2);
}

#[test]
fn what_changes_sides_when_something_runs_out_is_told_to_its_new_side_alone() {
    let mut sim = sim();
    sim.room_mut().world_mut().spawn((Trap { of: BLUE }, Kind(*b"in_the_light")));
    sim.room_mut().world_mut().spawn((Lantern, Ttl::millis(200)));
    sim.run_ticks(8);
    assert!(has(&sim, "ben", b"in_the_light") && !has(&sim, "ann", b"in_the_light"));
    assert!(has(&sim, "ann", &IN_THE_DARK) && !has(&sim, "ben", &IN_THE_DARK));
    assert_eq!(sim.settle().assert_converged(), 2);
}

#[test]
fn what_becomes_known_all_at_once_arrives_though_it_is_too_much_for_one_message() {
    let mut sim = sim();
    let bytes = |n: u32| (0..60_000_u32).map(|at| (at.wrapping_add(n).wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<u8>>();
    let chests: Vec<Entity> = (0..6).map(|n| sim.room_mut().world_mut().spawn((Chest(bytes(n)), Audience::OWNER)).id()).collect();
    sim.settle();
    let resyncs = sim.lobby_mut().counters().resyncs;
    for chest in &chests {
        sim.room_mut().world_mut().entity_mut(*chest).remove::<Audience>();
    }
    sim.settle();
    for name in ["ann", "ben"] {
        assert!(sim.client_of(name).is_live(), "{name}: {}", sim.client_of(name).state());
        let world = sim.client_mut(name).world_mut();
        assert_eq!(world.query::<&Chest>().iter(world).filter(|chest| chest.0.len() == 60_000).count(), 6);
    }
    assert_eq!(sim.lobby_mut().counters().resyncs, resyncs + 2);
    assert!(sim.errors().is_empty());
    assert_eq!(sim.assert_converged(), 2);
}

#[test]
fn what_could_not_be_undone_is_named_only_if_everybody_may_know_of_it() {
    let mut sim = sim();
    let world = sim.room_mut().world_mut();
    world.spawn((EntityId::with_name("the_hidden_pit"), Trap { of: RED }, Kind(*b"kind_of_pit_")));
    world.spawn((EntityId::with_name("the_open_door"), Kind(*b"kind_of_door")));
    sim.run_ticks(2);
    let change = |entity: &str| Change { entity: entity.to_owned(), component: "kind".to_owned(), before: None, after: None };
    let changes = ["the_hidden_pit", "the_open_door", "the_gone_one"].map(change);
    let [pit, door, mut gone] = changes;
    gone.after = Some("something".into());
    sim.lobby_mut().push("sim", Incoming::Revert { seq: FactSeq(1), changes: vec![pit, door, gone] });
    sim.run_ticks(2);
    let conflicts: Vec<String> = sim.facts_of::<Reverted>().into_iter().flat_map(|reverted| reverted.conflicts.clone()).collect();
    let unnamed = "something that not everybody may know";
    assert_eq!(conflicts, [unnamed, "the_open_door.kind", unnamed]);
    for (name, known) in [("the_open_door.kind", true), ("the_hidden_pit", false), ("the_gone_one", false)] {
        assert_eq!(has(&sim, "ben", name.as_bytes()), known, "{name}");
    }
}
