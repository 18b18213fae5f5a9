//! Every operation, fact and snapshot has the JSON forms of people and tools, and comes back from them unchanged.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use crate::arena::state_of;
use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use bevy_ecs::system::RunSystemOnce;
use proptest::prelude::*;
use roomkeeper::prelude::*;
use roomkeeper::protocol::{Codec, CodecError, Op, Operation, Protocol, Reader, RoomTick, Step, encode_operations};
use roomkeeper::room::{Level, Room, RoomOptions};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Component, Serialize, Deserialize, Clone)]
struct Position([f32; 2]);
#[derive(Component, Serialize, Deserialize, Clone, PartialEq)]
struct Health(i32);
#[derive(Component, Serialize, Deserialize, Clone)]
struct Watches(#[entities] Entity);

impl Quantity for Health {
    type Amount = i32;
    fn amount(&self) -> i32 {
        self.0
    }
    fn set_amount(&mut self, amount: i32) {
        self.0 = amount;
    }
}

fn protocol(app: &mut App) {
    app.sync::<Position>("position");
    app.sync::<Health>("health").quantity();
    app.sync_mapped::<Watches>("watches");
    app.sync_relationship::<OwnedBy>("owned_by");
    app.sync_relationship::<ChildOf>("parent");
}

const LEVEL: &str = r#"{
    "door123": {"position": [1.0, 2.0]},
    "guard": {"health": 50, "position": [0.0, 0.5], "watches": {"$entity": "door123"}},
    "lamp": {"owned_by": "guard", "parent": "door123", "position": [3.0, 4.0]}
}"#;

fn room() -> Room {
    let level = Some(Level::from_text("level", LEVEL));
    Room::new(RoomOptions { level, ..RoomOptions::named("json") }, protocol, |_| {}).unwrap()
}

#[test]
fn a_level_comes_back_as_the_snapshot_that_it_is() {
    let mut room = room();
    let written: Value = serde_json::from_str(LEVEL).unwrap();
    let state = state_of(&mut room);
    let protocol = room.world().resource::<Protocol>();
    assert_eq!(state.to_json(protocol).unwrap(), written);
    let by_component = state.to_component_json(protocol).unwrap();
    assert_eq!(by_component["position"], json!({"door123": [1.0, 2.0], "guard": [0.0, 0.5], "lamp": [3.0, 4.0]}));
    assert_eq!(by_component["parent"], json!({"lamp": "door123"}));
    let guard = EntityId::named("guard");
    assert_eq!(state.component(protocol, guard, "health"), Some(json!(50)));
    assert_eq!(state.with(protocol, "health").collect::<Vec<_>>(), [guard]);
}

/// Does something to a room and tells the operations of the batch.
fn told(act: impl FnOnce(&mut World)) -> Vec<Operation> {
    let mut room = room();
    let mut before = state_of(&mut room);
    act(room.world_mut());
    let batch = room.tick([]).unwrap().batch.unwrap();
    before.apply(room.world().resource::<Protocol>(), &batch).unwrap()
}

fn entity(world: &World, name: &str) -> Entity {
    world.resource::<EntityIndex>().entity(EntityId::named(name)).unwrap()
}

fn step(world: &mut World, name: &str, step: Step<i32>) {
    let entity = entity(world, name);
    world.run_system_once(move |mut health: Patch<Health>| health.step(entity, step).is_some()).unwrap();
}

#[test]
fn operations_read_as_the_reference_writes_them() {
    let operations = told(|world| {
        step(world, "guard", Step::IncMax { by: 10, max: 100 });
        let (door, lamp) = (entity(world, "door123"), entity(world, "lamp"));
        world.entity_mut(lamp).remove::<ChildOf>().remove::<OwnedBy>();
        world.get_mut::<Position>(lamp).unwrap().0 = [9.0, 9.0];
        world.despawn(door);
        world.spawn((EntityId::named("rand234"), Name::new("rand234"), Position([5.0, 6.0])));
    });
    let envelopes: Vec<Value> = operations.iter().map(Operation::to_envelope).collect();
    assert_eq!(
        envelopes,
        [
            json!({"op": "create", "entity_id": "rand234", "components": {"position": [5.0, 6.0]}}),
            json!({"op": "set", "entity_id": "lamp", "components": {"position": [9.0, 9.0]}}),
            json!({"op": "inc_max", "entity_id": "guard", "components": {"health": {"by": 10, "max": 100}}}),
            json!({"op": "set", "entity_id": "guard", "components": {"watches": {"$entity": null}}}),
            json!({"op": "delete", "entity_id": "lamp", "components": {"owned_by": null}}),
            json!({"op": "delete", "entity_id": "lamp", "components": {"parent": null}}),
            json!({"op": "delete", "entity_id": "door123"}),
        ]
    );
    let paths: Vec<Value> = operations.iter().map(Operation::to_key_path).collect();
    assert_eq!(paths[0], json!({"op": "create", "key_path": "entities.rand234", "value": {"position": [5.0, 6.0]}}));
    assert_eq!(paths[1], json!({"op": "update", "key_path": "entities.lamp.position", "value": [9.0, 9.0]}));
    assert_eq!(paths[6], json!({"op": "delete", "key_path": "entities.door123"}));
    let first = Operation::to_component_first(&operations);
    assert_eq!(first["position"], json!({"rand234": [5.0, 6.0], "lamp": [9.0, 9.0]}));
    assert_eq!(first["health"], json!({"guard": {"inc_max": {"by": 10, "max": 100}}}));
}

#[test]
fn operations_that_would_be_lost_or_mean_two_things_are_refused() {
    let mut room = room();
    let state = state_of(&mut room);
    let protocol = room.world().resource::<Protocol>();
    let encoded = |envelopes: &[Value]| {
        let operations: Vec<Operation> = envelopes.iter().flat_map(|envelope| Operation::from_envelope(envelope).unwrap()).collect();
        encode_operations(protocol, &state, &operations, RoomTick(state.tick().0 + 1)).map_err(|error| error.to_string())
    };
    let of_guard = |op: &str, health: Value| json!({"op": op, "entity_id": "guard", "components": {"health": health}});
    let (set, inc, remove) = (of_guard("set", json!(50)), of_guard("inc", json!(10)), of_guard("delete", Value::Null));
    assert!(encoded(&[inc.clone(), inc.clone()]).is_ok());
    for twice in [[&set, &inc], [&inc, &set], [&set, &set], [&remove, &set], [&set, &remove], [&remove, &remove]] {
        let refused = encoded(&twice.map(Clone::clone)).unwrap_err();
        assert!(refused.contains("guard.health is changed twice in one tick"), "{refused}");
    }
    for (op, value) in [("set", json!(5)), ("delete", Value::Null)] {
        let refused = encoded(&[json!({"op": op, "entity_id": "guard", "components": {"helth": value}})]).unwrap_err();
        assert!(refused.contains("there is no component \"helth\""), "{refused}");
    }
    let refused = encoded(&[json!({"op": "create", "entity_id": "guard", "components": {}})]).unwrap_err();
    assert!(refused.contains("there is an entity \"guard\" already"), "{refused}");
}

#[test]
fn an_entity_whose_name_has_dots_is_deleted_by_its_path_and_not_taken_for_a_component() {
    let name = "item.v2".to_owned();
    let delete = Operation { note: None, id: EntityId::named(&name), name, op: Op::Delete };
    assert_eq!(delete.to_key_path(), json!({"op": "delete", "key_path": "entities.item.v2."}));
    assert_eq!(Operation::from_key_path(&delete.to_key_path()).unwrap(), delete);
}

/// A place in millimetres, three numbers of two bytes.
#[derive(Component, Serialize, Deserialize, Clone)]
struct Place([i16; 3]);
struct Quantised;
impl Codec<Place> for Quantised {
    fn encode(&self, place: &Place, out: &mut Vec<u8>) {
        place.0.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
    }
    fn decode(&self, input: &mut Reader<'_>) -> Result<Place, CodecError> {
        let mut number = || Ok::<_, CodecError>(i16::from_le_bytes([input.byte()?, input.byte()?]));
        Ok(Place([number()?, number()?, number()?]))
    }
}

#[test]
fn five_hundred_movers_take_a_quarter_less_by_component_than_by_entity() {
    let protocol = |app: &mut App| {
        app.sync_with::<Place, _>("place", Quantised).latest();
    };
    let mut room = Room::new(RoomOptions::named("movers"), protocol, |_| {}).unwrap();
    let movers: Vec<Entity> = (0..500).map(|n| room.world_mut().spawn(Place([n, 0, 0])).id()).collect();
    room.tick([]).unwrap();
    for mover in movers {
        room.world_mut().get_mut::<Place>(mover).unwrap().0[1] += 1;
    }
    let by_component = room.tick([]).unwrap().batch.unwrap().len();
    // The reference's envelope in the same encoding: operation, entity id, number of components, component, value.
    let by_entity = 500 * (1 + 1 + 1 + 1 + 6);
    assert!(by_component * 4 <= by_entity * 3, "{by_component} bytes, by entity {by_entity}");
}

/// Who stands by whom, with numbers and words of the game's own beside it.
#[derive(Component, Serialize, Deserialize, Clone)]
struct Allies {
    #[entities]
    of: BTreeMap<Entity, Vec<Entity>>,
    ones: [u64; 2],
    words: BTreeMap<String, u32>,
}

fn with_allies(app: &mut App) {
    app.sync::<Position>("position");
    app.sync_mapped::<Allies>("allies");
}

#[test]
fn an_entity_that_is_a_key_is_told_by_its_name_and_a_number_stays_one() {
    let mut room = Room::new(RoomOptions::named("allies"), with_allies, |_| {}).unwrap();
    let world = room.world_mut();
    let [door, guard] = ["door", "guard"].map(|name| world.spawn((EntityId::with_name(name), Position([0.0, 0.0]))).id());
    let words = ["$entity", "$entity:door", "$$entity", "$entities", "1"].map(|word| (word.to_owned(), 1));
    let of = BTreeMap::from([(door, vec![guard, Entity::PLACEHOLDER]), (Entity::PLACEHOLDER, vec![])]);
    world.spawn((EntityId::with_name("lamp"), Allies { of, ones: [1, 2], words: BTreeMap::from(words) }));
    room.tick([]).unwrap();
    let of_lamp = |room: &mut Room| {
        let state = state_of(room);
        state.component(room.world().resource::<Protocol>(), EntityId::named("lamp"), "allies").unwrap()
    };
    let told = json!({
        "of": {"$entity:door": [{"$entity": "guard"}, {"$entity": null}], "$entity:": []},
        "ones": [1, 2],
        "words": {"$$entity": 1, "$$entity:door": 1, "$$$entity": 1, "$entities": 1, "1": 1},
    });
    assert_eq!(of_lamp(&mut room), told);

    // In another room the entities have other numbers.
    let place = json!({"position": [0.0, 0.0]});
    let scene = |allies: &Value| json!({"axe": place, "door": place, "guard": place, "lamp": {"allies": allies}}).to_string();
    let level = |text: String| RoomOptions { level: Some(Level::from_text("level", text)), ..RoomOptions::named("again") };
    let mut again = Room::new(level(scene(&told)), with_allies, |_| {}).unwrap();
    assert_eq!(of_lamp(&mut again), told);
    let lamp = entity(again.world(), "lamp");
    let allies = again.world().get::<Allies>(lamp).unwrap();
    let [door, guard] = ["door", "guard"].map(|name| entity(again.world(), name));
    assert_eq!(allies.of, BTreeMap::from([(door, vec![guard, Entity::PLACEHOLDER]), (Entity::PLACEHOLDER, vec![])]));
    assert_eq!(allies.words, BTreeMap::from(["$entity", "$entity:door", "$$entity", "$entities", "1"].map(|word| (word.to_owned(), 1))));
    let stranger = json!({"of": {"$entity:stranger": []}, "ones": [1, 2], "words": {}});
    let error = Room::new(level(scene(&stranger)), with_allies, |_| {}).err().unwrap().to_string();
    assert!(error.contains("there is no entity named \"stranger\""), "{error}");
}

#[test]
fn what_is_no_operation_is_told_so() {
    for json in [json!({}), json!({"op": "jump", "entity_id": "a", "components": {}}), json!({"op": "create", "entity_id": "a"})] {
        assert!(Operation::from_envelope(&json).is_err(), "{json}");
    }
    for json in [json!({"op": "update", "key_path": "entities.a"}), json!({"op": "delete", "key_path": "rooms.a"}), json!(3)] {
        assert!(Operation::from_key_path(&json).is_err(), "{json}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_survives_the_way_through_json(
        moves in prop::collection::btree_map(0..3_usize, (-1e3f32..1e3, -1e3f32..1e3), 0..3),
        steps in prop::collection::vec((0..4_u8, 0..100_i32, -100..100_i32), 0..4),
        spawned in 0..3_u8,
        delete: bool,
    ) {
        let names = ["door123", "guard", "lamp"];
        let mut room = room();

        let mut before = state_of(&mut room);
        let world = room.world_mut();
        for (which, (x, y)) in moves {
            let entity = entity(world, names[which]);
            world.get_mut::<Position>(entity).unwrap().0 = [x, y];
        }
        for (kind, by, bound) in steps {
            let all = [Step::Inc(by), Step::Dec(by), Step::IncMax { by, max: bound }, Step::DecMin { by, min: bound }];
            step(world, "guard", all[usize::from(kind)]);
        }
        for n in 0..spawned {
            world.spawn((Position([f32::from(n), 0.0]), Health(i32::from(n))));
        }
        if delete {
            let lamp = entity(world, "lamp");
            world.despawn(lamp);
        }
        let Some(batch) = room.tick([]).unwrap().batch else { return Ok(()) };
        let protocol = room.world().resource::<Protocol>();
        let start = before.clone();
        let operations = before.apply(protocol, &batch).unwrap();
        for form in 0..2 {
            let read: Vec<Operation> = match form {
                0 => operations.iter().flat_map(|operation| Operation::from_envelope(&operation.to_envelope()).unwrap()).collect(),
                _ => operations.iter().map(|operation| Operation::from_key_path(&operation.to_key_path()).unwrap()).collect(),
            };
            prop_assert_eq!(&read, &operations);
            let written = encode_operations(protocol, &start, &read, before.tick()).unwrap();
            prop_assert_eq!(&written[..], &batch[..], "form {}", form);
        }
    }
}

#[test]
fn what_is_registered_after_a_fingerprint_was_asked_for_changes_it() {
    #[derive(Component, Serialize, Deserialize)]
    struct Late(u8);
    let mut app = App::new();
    protocol(&mut app);
    let asked = |app: &App| app.world().resource::<Protocol>().fingerprint();
    let before = asked(&app);
    app.sync::<Late>("late");
    let with_late = asked(&app);
    assert!(before != with_late && with_late == asked(&app));
    app.sync::<Late>("late").latest();
    assert_ne!(asked(&app), with_late, "how it travels is in it");
}
