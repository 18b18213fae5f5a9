//! A room outlives its process: it goes on from what was stored as if nothing had happened.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::arena::{blueprint, options, script, state_of};
use roomkeeper::host::{Keeper, rebuild, rerun};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{CommandId, FactSeq, LeaveReason, RoomId, RoomTick};
use roomkeeper::room::{Blueprint, Incoming, Level, Outbox, Resumed, Room, RoomOptions};
use roomkeeper::store::{Archive, MemoryStore, Opening, RecoveredScene, Store, Writer, WriterOptions};

fn keep(store: &MemoryStore) -> Writer {
    Writer::start(Box::new(store.clone()), WriterOptions::default(), |finding| panic!("{finding}")).unwrap()
}

fn archive(store: &MemoryStore) -> Archive {
    Archive::new(Box::new(store.clone()), blueprint().protocol())
}

/// Plays a room and stores it; returns it.
fn play(writer: &Writer, ticks: u32) -> Room {
    let mut room = blueprint().room(options("arena")).unwrap();
    let handle = writer.open(roomkeeper::host::header_of(&options("arena")), blueprint().protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    for tick in 1..=ticks {
        let incoming = script(&room, tick);
        handle.record(room.tick(incoming).unwrap().into());
    }
    room
}

#[test]
fn a_room_that_goes_on_gives_the_same_bytes_as_one_that_never_stopped() {
    for ticks in [1, 4, 7, 23, 41, 120, 333] {
        let store = MemoryStore::new();
        let mut first = play(&keep(&store), ticks);
        let recovered = archive(&store).recover("arena").unwrap();
        assert!(matches!(recovered.scene, Some(RecoveredScene::Exact(_))));
        let mut second = rebuild(&blueprint(), &recovered).unwrap();
        assert_eq!(first.tick_now(), second.tick_now());
        for tick in ticks + 1..ticks + 200 {
            let (ours, theirs) = (first.tick(script(&first, tick)).unwrap(), second.tick(script(&second, tick)).unwrap());
            assert_eq!(ours.batch, theirs.batch, "tick {tick} after {ticks}");
            assert_eq!(ours.taken, theirs.taken, "tick {tick} after {ticks}");
        }
        assert_eq!(state_of(&mut first), state_of(&mut second));
    }
}

#[test]
fn the_state_of_each_tick_is_read_back_as_it_was() {
    let store = MemoryStore::new();
    let writer = keep(&store);
    let mut room = blueprint().room(options("arena")).unwrap();
    let handle = writer.open(roomkeeper::host::header_of(&options("arena")), blueprint().protocol(), Opening::New);
    handle.record(room.opening().clone().into());
    let mut hashes = vec![state_of(&mut room).hash()];
    for tick in 1..=1_500 {
        let incoming = script(&room, tick);
        handle.record(room.tick(incoming).unwrap().into());
        hashes.push(state_of(&mut room).hash());
    }
    writer.sync().unwrap();
    let mut archive = archive(&store);
    for tick in (0..=1_500).step_by(7) {
        assert_eq!(archive.state_at("arena", RoomTick(tick)).unwrap().hash(), hashes[tick as usize], "tick {tick}");
    }
    let verified = archive.verify("arena", |_| {}).unwrap();
    assert!(verified.findings.is_empty(), "{:?}", verified.findings);
    assert!(verified.hashed > 1_000 && verified.refusals > 0, "{verified:?}");
}

#[test]
fn facts_are_numbered_without_gaps_over_a_restart() {
    let store = MemoryStore::new();
    drop(play(&keep(&store), 100));
    let mut keeper = Keeper::start(Box::new(store.clone()), WriterOptions::default()).unwrap();
    let mut room = keeper.room(&blueprint(), options("arena")).unwrap();
    let before = archive(&store).head("arena").unwrap().unwrap();
    assert_eq!(before.tick, RoomTick(100));
    let outbox = room.tick(script(&room, 105)).unwrap();
    assert_eq!(outbox.tick, RoomTick(101));
    drop(keeper.stop());
    let facts = archive(&store).facts("arena", FactSeq(1), usize::MAX).unwrap();
    assert!(facts.iter().map(|fact| fact.seq.0).eq(1..=before.seq.0));
    assert_eq!(outbox.facts.first().map_or(before.seq.0 + 1, |fact| fact.seq.0), before.seq.0 + 1);
    let checkpoints = store.clone().checkpoints(store.clone().rooms().unwrap()[0].key).unwrap();
    assert!(checkpoints.contains(&(RoomTick(100), true)), "the room went on from tick 100: {checkpoints:?}");
}

#[derive(Component, Serialize, Deserialize)]
struct Fuse(u32);
#[derive(Component, Serialize, Deserialize)]
#[component(storage = "SparseSet")]
struct Smoke(u32);
#[derive(Clone, Serialize, Deserialize)]
struct Seen(u32);
#[derive(Clone, Serialize, Deserialize)]
struct Rose {
    smoke: EntityId,
}

/// Fuses burn down, which is told once, and so is what is new.
fn burning(app: &mut App) {
    app.apply(|rose: On<Happened<Rose>>, index: Res<EntityIndex>, mut smokes: Query<&mut Smoke>| {
        index.entity(rose.smoke).and_then(|smoke| smokes.get_mut(smoke).ok()).into_iter().for_each(|mut smoke| smoke.0 += 1);
    });
    app.add_systems(FixedUpdate, (burn, notice_ends, notice_new).chain());
}

fn burn(mut fuses: Query<&mut Fuse>) {
    for mut fuse in &mut fuses {
        if fuse.0 > 0 {
            fuse.0 -= 1;
        }
    }
}

fn notice_ends(fuses: Query<Ref<Fuse>, Changed<Fuse>>, mut record: Recorder) {
    for fuse in fuses.iter().filter(|fuse| fuse.0 == 0) {
        record.because(&fuse).fact(Seen(0));
    }
}

type New = Or<(Added<Fuse>, Changed<Smoke>, Added<Smoke>, Changed<OwnedBy>)>;

fn notice_new(new: Query<(), New>, mut record: Recorder) {
    if !new.is_empty() {
        record.fact(Seen(new.iter().count() as u32));
    }
}

fn burning_room(rules: fn(&mut App)) -> (Blueprint, RoomOptions) {
    let protocol = |app: &mut App| {
        app.sync::<Fuse>("fuse");
        app.sync::<Smoke>("smoke");
        app.sync_relationship::<OwnedBy>("owned_by");
        app.fact::<Rose>("rose").stateless_fact::<Seen>("seen");
    };
    let level = Level::from_text("fuses.json", r#"{"a": {"fuse": 5}, "b": {"smoke": 1}, "c": {"owned_by": "a"}}"#);
    (Blueprint::new(protocol, rules), RoomOptions { level: Some(level), check: true, ..RoomOptions::named("fuses") })
}

/// Plays a room, stores it, and builds it again: the one that never stops, and the one that goes on.
fn stop_and_go_on(blueprint: &Blueprint, options: &RoomOptions, ticks: u32) -> (Room, Room) {
    let store = MemoryStore::new();
    let mut keeper = Keeper::start(Box::new(store.clone()), WriterOptions::default()).unwrap();
    let mut first = keeper.room(blueprint, options.clone()).unwrap();
    for _ in 0..ticks {
        keeper.handle(&options.name).unwrap().record(first.tick([]).unwrap().into());
    }
    drop(keeper.stop());
    let mut keeper = Keeper::start(Box::new(store), WriterOptions::default()).unwrap();
    let second = keeper.room(blueprint, options.clone()).unwrap();
    drop(keeper.stop());
    assert_eq!(second.tick_now(), RoomTick(ticks));
    (first, second)
}

#[test]
fn what_was_there_before_a_restart_is_not_new_after_it_and_no_fact_is_recorded_twice() {
    let (blueprint, options) = burning_room(burning);
    let opening = blueprint.room(options.clone()).unwrap().tick([]).unwrap();
    let seen: Vec<u32> = opening.facts.iter().filter_map(|fact| fact.get::<Seen>()).map(|seen| seen.0).collect();
    assert_eq!(seen, [3], "the level of a new room is new");
    for ticks in [0, 1, 4, 5, 9] {
        let (mut first, mut second) = stop_and_go_on(&blueprint, &options, ticks);
        for _ in 0..20 {
            let (ours, theirs) = (first.tick([]).unwrap(), second.tick([]).unwrap());
            assert_eq!(ours.batch, theirs.batch, "tick {} after {ticks}", ours.tick);
        }
    }
}

#[test]
fn a_room_goes_on_though_a_lifetime_in_it_has_not_begun() {
    let protocol = |app: &mut App| {
        app.sync::<Fuse>("fuse");
        app.sync::<Smoke>("smoke");
        app.sync::<Ttl>("ttl");
    };
    // The smoke comes when the fuse's lifetime has run out, after all lifetimes have been looked at.
    let rules = |app: &mut App| {
        app.add_observer(|_: On<Remove<Fuse>>, mut commands: Commands| {
            commands.spawn((Smoke(1), Ttl::millis(200)));
        });
    };
    let level = Level::from_text("grenade.json", r#"{"a": {"fuse": 5, "ttl": 150}}"#);
    let options = RoomOptions { level: Some(level), check: true, ..RoomOptions::named("fuses") };
    for ticks in 0..8 {
        let (mut first, mut second) = stop_and_go_on(&Blueprint::new(protocol, rules), &options, ticks);
        for _ in 0..10 {
            assert_eq!(first.tick([]).unwrap().batch, second.tick([]).unwrap().batch, "after {ticks}");
        }
    }
}

#[test]
fn an_id_of_the_rooms_own_form_that_its_level_brought_is_not_minted_again() {
    let protocol = |app: &mut App| {
        app.sync::<Fuse>("fuse");
    };
    let rules = |app: &mut App| {
        app.add_systems(FixedUpdate, |mut commands: Commands| {
            commands.spawn(Fuse(0));
        });
    };
    // As it stands in what was exported from a room of the same name.
    let brought = EntityId::minted(RoomId::named("arena"), 3);
    let level = Level::from_text("arena.json", format!(r#"{{"{brought}": {{"fuse": 9}}}}"#));
    let options = RoomOptions { level: Some(level), check: true, ..RoomOptions::named("arena") };
    for ticks in [1, 2, 3, 5] {
        let (mut first, mut second) = stop_and_go_on(&Blueprint::new(protocol, rules), &options, ticks);
        for _ in 0..5 {
            assert_eq!(first.tick([]).unwrap().batch, second.tick([]).unwrap().batch, "after {ticks}");
        }
        let state = second.state().unwrap();
        let ids: BTreeSet<EntityId> = state.entities().values().map(|entity| entity.identity.id(state.room())).collect();
        assert_eq!((ids.len(), state.entities().len()), (ticks as usize + 6, ticks as usize + 6), "each has its own");
        assert!(ids.contains(&brought));
    }
}

/// What a plugin keeps beside a component, and makes something of once. It is not stored.
#[derive(Component, Default)]
struct Body;

#[test]
fn what_comes_with_what_is_stored_and_is_not_stored_itself_is_new_in_a_room_that_goes_on() {
    #[derive(Resource, Default)]
    struct Made(usize);
    let rules = |app: &mut App| {
        app.init_resource::<Made>().world_mut().register_required_components::<Smoke, Body>();
        app.add_systems(FixedUpdate, |new: Query<(), Added<Body>>, mut made: ResMut<Made>| made.0 += new.iter().count());
    };
    let (_, options) = burning_room(|_| {});
    let blueprint = Blueprint::new(
        |app: &mut App| {
            app.sync::<Fuse>("fuse");
            app.sync::<Smoke>("smoke");
            app.sync_relationship::<OwnedBy>("owned_by");
        },
        rules,
    );
    let (_, mut second) = stop_and_go_on(&blueprint, &options, 3);
    second.tick([]).unwrap();
    assert_eq!(second.world().resource::<Made>().0, 1);
}

#[test]
fn what_observers_record_of_what_comes_in_is_not_recorded_again_when_a_room_goes_on() {
    let (blueprint, options) = burning_room(|app| {
        burning(app);
        app.add_observer(|came: On<Insert<Smoke>>, ids: Query<&EntityId>, mut record: Recorder| {
            ids.get(came.entity).into_iter().for_each(|smoke| record.fact(Rose { smoke: *smoke }));
        });
        app.add_systems(Resumed, |mut record: Recorder| record.fact(Seen(1_000)));
    });
    let (mut first, mut second) = stop_and_go_on(&blueprint, &options, 7);
    let smoke = second.entity(EntityId::named("b")).unwrap();
    assert_eq!(second.world().get::<Smoke>(smoke).unwrap().0, 2, "it rose once");
    for _ in 0..20 {
        let (ours, theirs) = (first.tick([]).unwrap(), second.tick([]).unwrap());
        assert_eq!(ours.batch, theirs.batch, "tick {}", ours.tick);
    }
}

#[derive(Serialize, Deserialize)]
struct Plant;
#[derive(Clone, Serialize, Deserialize)]
struct Planted {
    tree: EntityId,
}

/// A game in which whoever comes plants trees, with ids that its client knows ahead.
fn garden() -> Blueprint {
    let protocol = |app: &mut App| {
        app.sync::<Fuse>("fuse");
        app.command::<Plant>("plant").fact::<Planted>("planted");
    };
    let rules = |app: &mut App| {
        app.decide(|plant: In<Issued<Plant>>| -> Decision { accept(Planted { tree: plant.new_id(0) }) });
        app.apply(|planted: On<Happened<Planted>>, mut commands: Commands| {
            commands.spawn((planted.tree, Fuse(1)));
        });
    };
    Blueprint::new(protocol, rules)
}

/// Ann comes, plants two trees, and goes, in three ticks. Her client numbers its commands from where the welcome says on, or, as all did once, from 1
/// on in each stay. The ids of the trees, and the numbers.
fn stay(room: &mut Room, anew: bool, mut keep: impl FnMut(Outbox)) -> Vec<(EntityId, CommandId)> {
    let (user, mut planted) = (EntityId::named("ann"), Vec::new());
    for step in 0..3 {
        let last = if anew { 0 } else { room.members().last_command(user).0 };
        let plant = |nth: u32| Incoming::Command { user, id: CommandId(last + nth), kind: 0, seen: None, payload: Bytes::new() };
        let incoming = match step {
            0 => vec![Incoming::Join { user, name: "ann".to_owned() }],
            1 => vec![plant(1), plant(2)],
            _ => vec![Incoming::Leave { user, reason: LeaveReason::Left }],
        };
        let outbox = room.tick(incoming).unwrap();
        planted.extend(outbox.facts.iter().filter_map(|fact| Some((fact.get::<Planted>()?.tree, fact.command?))));
        keep(outbox);
    }
    assert_eq!(planted.len(), 2);
    planted
}

#[test]
fn who_comes_again_after_restarts_and_crashes_never_makes_an_id_that_was_there() {
    let (store, options, mut planted) = (MemoryStore::new(), RoomOptions::named("garden"), Vec::new());
    let archive = || Archive::new(Box::new(store.clone()), garden().protocol());
    for stays in [1, 2, 1] {
        let mut keeper = Keeper::start(Box::new(store.clone()), WriterOptions::default()).unwrap();
        let mut room = keeper.room(&garden(), options.clone()).unwrap();
        for _ in 0..stays {
            planted.extend(stay(&mut room, false, |outbox| keeper.handle("garden").unwrap().record(outbox.into())));
        }
        // Had the process crashed here:
        keeper.writer().sync().unwrap();
        let mut after_a_crash = rebuild(&garden(), &archive().recover("garden").unwrap()).unwrap();
        let again = stay(&mut after_a_crash, false, drop);
        assert!(again.iter().all(|tree| !planted.contains(tree)), "{again:?} in {planted:?}");
        drop(keeper.stop());
    }
    let trees: BTreeSet<EntityId> = planted.iter().map(|(tree, _)| *tree).collect();
    let numbers: BTreeSet<CommandId> = planted.iter().map(|(_, number)| *number).collect();
    assert_eq!((planted.len(), trees.len(), numbers.len()), (8, 8, 8));
    // All of it is run again, through the restarts, to the same bytes.
    let run = rerun(&mut archive(), &garden(), "garden", (RoomTick(0), RoomTick(12)), None, |_| {}).unwrap();
    assert_eq!((run.ticks, run.difference), (12, None));
}

/// Keeps three stays in one process, and runs them again.
fn three_stays_run_again(anew: bool) -> Vec<(EntityId, CommandId)> {
    let (store, mut planted) = (MemoryStore::new(), Vec::new());
    let mut keeper = Keeper::start(Box::new(store.clone()), WriterOptions::default()).unwrap();
    let mut room = keeper.room(&garden(), RoomOptions::named("garden")).unwrap();
    for _ in 0..3 {
        planted.extend(stay(&mut room, anew, |outbox| keeper.handle("garden").unwrap().record(outbox.into())));
    }
    drop(keeper.stop());
    let mut archive = Archive::new(Box::new(store), garden().protocol());
    let run = rerun(&mut archive, &garden(), "garden", (RoomTick(0), RoomTick(9)), None, |_| {}).unwrap();
    assert_eq!((run.ticks, run.difference), (9, None));
    assert_eq!(run.end.hash(), state_of(&mut room).hash());
    assert!(run.facts.contains(&("planted".to_owned(), 6)), "{:?}", run.facts);
    planted
}

#[test]
fn a_match_in_which_somebody_left_and_came_again_is_run_again_to_the_same_state() {
    let planted = three_stays_run_again(false);
    let ids: BTreeSet<EntityId> = planted.iter().map(|(tree, _)| *tree).collect();
    assert_eq!(ids.len(), 6);
}

#[test]
fn a_match_that_was_recorded_when_numbers_began_anew_is_run_again_as_it_was() {
    let planted = three_stays_run_again(true);
    let [first, second, third] = [0, 2, 4].map(|at| &planted[at..at + 2]);
    assert_eq!((first, second), (second, third), "the same numbers were obeyed in each stay, and gave the same ids");
}
