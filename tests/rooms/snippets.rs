//! A scene is reset to a stored state under the eyes of its members; a fact is undone.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;

use crate::arena::{DoorState, Heal, Health, LEVEL, Open, Position, blueprint, options, protocol, rules};
use roomkeeper::host::Keeper;
use roomkeeper::prelude::*;
use roomkeeper::protocol::{Change, CommandId, FactSeq, Incoming, Reverted, RoomTick, SceneReset};
use roomkeeper::room::Level;
use roomkeeper::sim::Sim;
use roomkeeper::store::{Archive, MemoryStore, Snippet, WriterOptions};
use serde::{Deserialize, Serialize};
use serde_json::Value;

fn sim() -> Sim {
    let level = Level::from_text("arena.json", LEVEL);
    Sim::new(protocol, rules).seed(7).level(level).options(|options| options.notes = true).client("ann").client("bob")
}

/// The state of the room now, as a snippet's text.
fn state(sim: &mut Sim) -> String {
    let state = sim.room_state();
    state.to_json(sim.room().world().resource()).unwrap().to_string()
}

fn reset(sim: &mut Sim, label: &str, saved_at: RoomTick, members: Vec<EntityId>, state: String) {
    sim.lobby_mut().push("sim", Incoming::Reset { label: label.to_owned(), saved_at, members, state });
    sim.tick();
}

fn value(sim: &mut Sim, entity: &str, component: &str) -> Option<Value> {
    let state = sim.room_state();
    state.component(sim.room().world().resource(), EntityId::parse(entity), component)
}

#[test]
fn a_scene_is_reset_component_by_component_and_clients_get_the_difference() {
    let mut sim = sim();
    sim.run_ticks(30).settle();
    let (saved_at, saved) = (sim.room().tick_now(), state(&mut sim));
    let members = sim.room().members().iter().collect::<Vec<_>>();
    // Change much of it.
    sim.issue("ann", &Open { door: EntityId::named("door_a") }).issue("bob", &Heal { by: 30 }).run_ticks(40);
    let crate_ = sim.room().entity(EntityId::named("crate")).unwrap();
    sim.room_mut().world_mut().entity_mut(crate_).despawn();
    sim.room_mut().world_mut().spawn_batch((0..20).map(|n| (Position([n as f32, 0.0]), Health(n))));
    sim.settle();
    assert_eq!(value(&mut sim, "door_a", "door_state"), Some("Open".into()));
    assert_eq!(value(&mut sim, "crate", "health"), None);
    let joins = sim.client_of("ann").told().added.len();
    reset(&mut sim, "before", saved_at, members, saved.clone());
    let facts = sim.facts_of::<SceneReset>();
    assert_eq!(facts.iter().map(|fact| fact.snippet.as_str()).collect::<Vec<_>>(), ["before"]);
    // What systems did in the tick of the reset itself comes on top: where things are, how they burn down, what was born.
    let (before, after): (Value, Value) = (serde_json::from_str(&saved).unwrap(), serde_json::from_str(&state(&mut sim)).unwrap());
    for (entity, components) in before.as_object().unwrap() {
        let now = after.get(entity).unwrap_or_else(|| panic!("{entity} is missing"));
        for (component, value) in
            components.as_object().unwrap().iter().filter(|(name, _)| !["position", "ttl", "health"].contains(&name.as_str()))
        {
            assert_eq!(now.get(component), Some(value), "{entity}.{component}");
        }
    }
    assert_eq!(value(&mut sim, "ann", "health"), before.pointer(&format!("/{}/health", EntityId::named("ann"))).cloned());
    assert_eq!(value(&mut sim, "crate", "health"), Some(7.into()));
    sim.settle();
    assert_eq!(sim.assert_converged(), 2, "within the next batch, and without joining again");
    assert!(sim.client_of("ann").told().added.len() < joins + 45, "only what differs was made anew");
}

#[test]
fn who_joined_later_stays_and_who_left_does_not_come_back() {
    let mut sim = sim();
    sim.run_ticks(5).settle();
    let (saved_at, saved) = (sim.room().tick_now(), state(&mut sim));
    let members: Vec<EntityId> = sim.room().members().iter().collect();
    sim.leave("bob");
    sim.join("cid");
    reset(&mut sim, "then", saved_at, members, saved);
    let has = |sim: &Sim, name: &str| sim.room().entity(EntityId::named(name)).is_some();
    assert!(has(&sim, "ann") && has(&sim, "cid") && !has(&sim, "bob"), "cid stays, bob is no ghost");
    sim.settle();
    assert_eq!(sim.assert_converged(), 2);
}

#[test]
fn what_belonged_to_somebody_who_has_left_belongs_to_nobody_after_a_reset() {
    let mut sim = sim();
    let [thing, bob] = ["crate", "bob"].map(|name| sim.room().entity(EntityId::named(name)).unwrap());
    sim.room_mut().world_mut().entity_mut(thing).insert(OwnedBy(bob));
    sim.settle();
    let (saved_at, saved) = (sim.room().tick_now(), state(&mut sim));
    assert_eq!(value(&mut sim, "crate", "owned_by"), Some(EntityId::named("bob").to_string().into()));
    let members: Vec<EntityId> = sim.room().members().iter().collect();
    sim.leave("bob");
    sim.room_mut().world_mut().entity_mut(thing).insert(Health(1));
    reset(&mut sim, "then", saved_at, members, saved);
    assert_eq!(sim.facts_of::<SceneReset>().len(), 1);
    assert_eq!((value(&mut sim, "crate", "health"), value(&mut sim, "crate", "owned_by")), (Some(7.into()), None));
    sim.settle();
    assert_eq!(sim.assert_converged(), 1);
}

#[test]
fn who_sits_in_a_vehicle_that_goes_stays() {
    let riding = |app: &mut App| {
        protocol(app);
        app.sync_relationship::<ChildOf>("rides_in");
    };
    let mut sim = Sim::new(riding, rules).client("ann");
    sim.settle();
    let (saved_at, saved) = (sim.room().tick_now(), state(&mut sim));
    let members: Vec<EntityId> = sim.room().members().iter().collect();
    sim.join("cid");
    let riders = ["ann", "cid"].map(|name| sim.room().entity(EntityId::named(name)).unwrap());
    let world = sim.room_mut().world_mut();
    let cart = world.spawn((EntityId::with_name("cart"), Position([0.0, 0.0]))).id();
    let wagon = world.spawn((EntityId::with_name("wagon"), Position([1.0, 0.0]), ChildOf(cart))).id();
    world.entity_mut(riders[0]).insert(ChildOf(cart));
    world.entity_mut(riders[1]).insert(ChildOf(wagon));
    sim.settle();
    reset(&mut sim, "before", saved_at, members, saved);
    let at = |name: &str| sim.room().entity(EntityId::named(name));
    assert_eq!([at("cart"), at("wagon")], [None, None]);
    assert_eq!([at("ann"), at("cid")], riders.map(Some), "neither is gone, nor made anew");
    assert!(riders.iter().all(|rider| !sim.room().world().entity(*rider).contains::<ChildOf>()));
    sim.settle();
    assert_eq!(sim.assert_converged(), 2);
}

#[test]
fn who_sits_in_what_an_undone_fact_made_stays() {
    let riding = |app: &mut App| {
        protocol(app);
        app.sync_relationship::<ChildOf>("rides_in");
    };
    let mut sim = Sim::new(riding, rules).client("ann");
    sim.settle();
    let ann = sim.room().entity(EntityId::named("ann")).unwrap();
    let world = sim.room_mut().world_mut();
    let cart = world.spawn((EntityId::with_name("cart"), DoorState::Closed)).id();
    let wagon = world.spawn((EntityId::with_name("wagon"), DoorState::Open, ChildOf(cart))).id();
    world.entity_mut(ann).insert(ChildOf(cart));
    sim.settle();
    let made = Change { entity: "cart".to_owned(), component: "door_state".to_owned(), before: None, after: Some("Closed".into()) };
    sim.lobby_mut().push("sim", Incoming::Revert { seq: FactSeq(1), changes: vec![made] });
    sim.tick();
    assert_eq!(sim.facts_of::<Reverted>().iter().map(|reverted| reverted.undone).collect::<Vec<_>>(), [1]);
    let at = |name: &str| sim.room().entity(EntityId::named(name));
    assert_eq!([at("cart"), at("wagon"), at("ann")], [None, Some(wagon), Some(ann)]);
    assert!([wagon, ann].iter().all(|rider| !sim.room().world().entity(*rider).contains::<ChildOf>()));
    sim.settle();
    assert_eq!(sim.assert_converged(), 1);
}

/// That a door came to be there.
#[derive(Clone, Serialize, Deserialize)]
struct Appeared {
    door: EntityId,
}
#[derive(Component, Serialize, Deserialize)]
struct Noted;

#[test]
fn what_observers_record_of_what_a_level_or_a_reset_brings_is_in_the_ledger() {
    let noting = |app: &mut App| {
        protocol(app);
        app.sync::<Noted>("noted");
        app.fact::<Appeared>("appeared");
    };
    let noted = |app: &mut App| {
        rules(app);
        app.add_observer(|came: On<Insert<DoorState>>, ids: Query<&EntityId>, mut record: Recorder| {
            ids.get(came.entity).into_iter().for_each(|door| record.fact(Appeared { door: *door }));
        });
        app.apply(|appeared: On<Happened<Appeared>>, index: Res<EntityIndex>, mut commands: Commands| {
            if let Some(door) = index.entity(appeared.door) {
                commands.entity(door).insert(Noted);
            }
        });
    };
    let mut sim = Sim::new(noting, noted).level(Level::from_text("arena.json", LEVEL)).client("ann");
    let appeared = |sim: &Sim| sim.facts_of::<Appeared>().iter().map(|appeared| appeared.door).collect::<Vec<_>>();
    let doors = ["door_a", "door_b"].map(EntityId::named);
    assert_eq!(appeared(&sim), doors);
    assert!(doors.iter().all(|door| sim.room().world().get::<Noted>(sim.room().entity(*door).unwrap()).is_some()));
    let (saved_at, saved) = (sim.room().tick_now(), state(&mut sim));
    let members: Vec<EntityId> = sim.room().members().iter().collect();
    let door = sim.room().entity(doors[1]).unwrap();
    sim.room_mut().world_mut().despawn(door);
    sim.settle();
    reset(&mut sim, "then", saved_at, members, saved);
    assert_eq!(appeared(&sim), [doors[0], doors[1], doors[1]]);
    let of = |name: &str| sim.ledger().iter().rfind(|fact| &*fact.name == name).unwrap();
    assert_eq!(of("appeared").cause, Some(of("scene_reset").seq));
    assert_eq!(value(&mut sim, "door_b", "noted"), Some(Value::Null));
    sim.settle();
    assert_eq!(sim.assert_converged(), 1);
}

#[test]
fn what_was_due_when_it_was_saved_is_due_as_long_after_the_reset() {
    let mut sim = sim();
    let saved_at = sim.room().tick_now();
    sim.run_ticks(200).settle();
    let state = format!(r#"{{"spark": {{"position": [0, 0], "health": 5, "ttl": {{"millis": 500, "since": {}}}}}}}"#, saved_at.0);
    let at = sim.room().tick_now().0 + 1;
    reset(&mut sim, "spark", saved_at, Vec::new(), state);
    let lives = |sim: &Sim| sim.room().entity(EntityId::named("spark")).is_some();
    while lives(&sim) {
        sim.tick();
        assert!(sim.room().tick_now().0 < at + 20);
    }
    let lived = sim.room().tick_now().0 - at;
    assert!((9..=11).contains(&lived), "500 ms are 10 ticks, not {lived}");
}

#[test]
fn a_level_made_of_a_snippet_goes_on_from_when_it_was_saved_without_those_who_were_there() {
    let state = r#"{
        "ann": {"health": 5},
        "crate": {"health": 7, "owned_by": "ann"},
        "spark": {"position": [0, 0], "health": 5, "ttl": {"millis": 500, "since": 195}}
    }"#;
    let saved = Snippet { tick: RoomTick(200), members: vec![EntityId::named("ann")], ..Snippet::from_text("then", state).unwrap() };
    assert_eq!(Snippet::from_text("then", &saved.to_text()).unwrap(), saved);
    let mut sim = Sim::new(protocol, rules).level(Level::from_text("then.json", saved.to_text()));
    let has = |sim: &Sim, name: &str| sim.room().entity(EntityId::named(name)).is_some();
    let _ = sim.lobby_mut();
    assert!(has(&sim, "spark") && !has(&sim, "ann"), "no ghost");
    assert_eq!((value(&mut sim, "crate", "health"), value(&mut sim, "crate", "owned_by")), (Some(7.into()), None));
    let mut lived = 0;
    while has(&sim, "spark") && lived < 20 {
        sim.tick();
        lived += 1;
    }
    assert!((4..=6).contains(&lived), "of 10 ticks 5 were left, not {lived}");
}

#[test]
fn a_state_that_can_not_be_read_changes_nothing_and_is_refused_in_words() {
    let mut sim = sim();
    sim.settle();
    for (state, words) in
        [("{", "EOF"), (r#"{"x": {"helth": 1}}"#, "x has an unknown component \"helth\""), (r#"{"x": {"health": "much"}}"#, "x.health")]
    {
        let before = sim.room_state().entities().len();
        let next = sim.room().tick_now().0 + 1;
        sim.lobby_mut()
            .push("sim", Incoming::Reset { label: "bad".into(), saved_at: RoomTick(0), members: Vec::new(), state: state.to_owned() });
        let report = sim.lobby_mut().tick_room("sim").unwrap();
        assert_eq!(report.tick.0, next);
        let Some(roomkeeper::room::Verdict::Rejected(rejection)) = &report.taken.first().unwrap().verdict else { panic!("{state}") };
        assert!(rejection.detail.contains(words), "{rejection}");
        assert!(sim.room_state().entities().len() + 2 > before);
        assert!(sim.facts_of::<SceneReset>().is_empty());
    }
}

#[test]
fn a_fact_is_undone_where_nothing_changed_it_since_and_the_ledger_shows_both() {
    let mut sim = sim();
    sim.issue("ann", &Open { door: EntityId::named("door_a") }).issue("ann", &Open { door: EntityId::named("door_b") }).run_ticks(3);
    let opened = sim.ledger().iter().filter(|fact| &*fact.name == "door_opened").map(|fact| fact.seq).collect::<Vec<_>>();
    let change = |door: &str| Change {
        entity: door.to_owned(),
        component: "door_state".to_owned(),
        before: Some("Closed".into()),
        after: Some("Open".into()),
    };
    // Somebody closed the second one meanwhile.
    let door = sim.room().entity(EntityId::named("door_b")).unwrap();
    sim.room_mut().world_mut().entity_mut(door).insert(DoorState::Closed);
    sim.lobby_mut().push("sim", Incoming::Revert { seq: opened[0], changes: vec![change("door_a"), change("door_b")] });
    sim.tick();
    assert_eq!(value(&mut sim, "door_a", "door_state"), Some("Closed".into()));
    let reverted: Vec<Reverted> = sim.facts_of::<Reverted>().into_iter().cloned().collect();
    let conflicts = vec!["door_b.door_state".to_owned()];
    assert_eq!(reverted, [Reverted { seq: opened[0], undone: 1, conflicts }]);
    assert!(sim.ledger().iter().map(|fact| fact.seq).eq((1..=sim.ledger().len() as u64).map(FactSeq)), "nothing is taken out");
    sim.settle();
    assert_eq!(sim.assert_converged(), 2);
}

#[test]
fn what_two_facts_of_one_tick_wrote_is_a_conflict_and_stays() {
    let (store, ann) = (MemoryStore::new(), EntityId::named("ann"));
    let mut keeper = Keeper::start(Box::new(store.clone()), WriterOptions::default()).unwrap();
    let mut room = keeper.room(&blueprint(), options("arena")).unwrap();
    let heal = |id| Incoming::Command { user: ann, id: CommandId(id), kind: 1, seen: None, payload: bytes::Bytes::from_static(&[20]) };
    for incoming in [vec![Incoming::Join { user: ann, name: "ann".into() }], vec![heal(1), heal(2)], vec![heal(3)]] {
        let outbox = room.tick(incoming).unwrap();
        keeper.handle("arena").unwrap().record(outbox.into());
    }
    keeper.writer().sync().unwrap();
    let mut archive = Archive::new(Box::new(store), blueprint().protocol());
    let healed: Vec<FactSeq> =
        archive.facts("arena", FactSeq(1), 100).unwrap().iter().filter(|fact| fact.kind == "healed").map(|fact| fact.seq).collect();
    let mut undo = |seq: FactSeq| {
        let changes = archive.changes_of("arena", seq).unwrap();
        let outbox = room.tick([Incoming::Revert { seq, changes }]).unwrap();
        let reverted = outbox.facts.iter().find_map(|fact| fact.get::<Reverted>()).unwrap().clone();
        let health = room.world().get::<Health>(room.entity(ann).unwrap()).unwrap().0;
        (reverted.undone, reverted.conflicts, health)
    };
    assert_eq!(undo(healed[2]), (1, vec![], 70), "alone in its tick");
    assert_eq!(undo(healed[1]), (0, vec![format!("{ann}.health")], 70));
    drop(keeper.stop());
}
