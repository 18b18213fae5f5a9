//! What a batch says of what happened to a component or an entity within one tick, case by case.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bevy_app::prelude::*;
use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use bevy_ecs::system::RunSystemOnce;
use roomkeeper::prelude::*;
use roomkeeper::protocol::{Op, Operation, Protocol, State, UpdateKind};
use roomkeeper::room::{EntityIndex, Room, RoomOptions};
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize, Clone, PartialEq)]
struct Colour(String);
#[derive(Component, Serialize, Deserialize, Clone, Copy, PartialEq)]
struct Health(i8);
/// Written every tick by physics, say, changed or not.
#[derive(Component, Serialize, Deserialize, Clone, Copy, PartialEq)]
struct Place(i32);
/// Nothing but a mark.
#[derive(Component, Serialize, Deserialize)]
struct Marked;

impl Quantity for Health {
    type Amount = i8;
    fn amount(&self) -> i8 {
        self.0
    }
    fn set_amount(&mut self, amount: i8) {
        self.0 = amount;
    }
}

fn protocol(app: &mut App) {
    app.sync::<Colour>("colour");
    app.sync::<Health>("health").quantity();
    app.sync::<Place>("place").latest().when_different();
    app.sync::<Marked>("marked");
    app.sync_relationship::<ChildOf>("parent");
}

fn red() -> Colour {
    Colour("red".into())
}
fn blue() -> Colour {
    Colour("blue".into())
}

/// A room whose replicas know `lamp`, red, at place 1, with a child `bulb`.
struct Scene {
    room: Room,
    state: State,
    lamp: Entity,
    bulb: Entity,
}

impl Scene {
    fn new() -> Self {
        let mut room = Room::new(RoomOptions::named("scene"), protocol, |_| {}).unwrap();
        let named = |name: &str| (EntityId::named(name), Name::new(name.to_owned()));
        let lamp = room.world_mut().spawn((named("lamp"), red(), Place(1))).id();
        let bulb = room.world_mut().spawn((named("bulb"), ChildOf(lamp))).id();
        room.tick([]).unwrap();
        let state = room.state().unwrap();
        Self { room, state, lamp, bulb }
    }

    /// Does something in a tick, and tells the operations of its batch.
    fn told(&mut self, act: impl FnOnce(&mut World)) -> Vec<String> {
        act(self.room.world_mut());
        let Some(batch) = self.room.tick([]).unwrap().batch else { return Vec::new() };
        let operations = self.state.apply(self.room.world().resource::<Protocol>(), &batch).unwrap();
        let whole = self.room.state().unwrap();
        assert_eq!(whole.difference(self.room.world().resource::<Protocol>(), &self.state), None);
        operations.iter().map(line).collect()
    }
}

fn line(operation: &Operation) -> String {
    let who = if operation.name.len() == 36 { "new" } else { &operation.name };
    match &operation.op {
        Op::Create { components } => format!("create {who} {}", serde_json::to_string(components).unwrap()),
        Op::Update { kind: UpdateKind::Set, component, value } => format!("set {who} {component} {value}"),
        Op::Update { kind, component, value } => format!("{kind:?} {who} {component} {value}"),
        Op::Remove { component } => format!("remove {who} {component}"),
        Op::Delete => format!("delete {who}"),
    }
}

/// What a batch tells when this happens to the lamp in one tick.
fn told(act: impl FnOnce(&mut World, Entity)) -> Vec<String> {
    let mut scene = Scene::new();
    let lamp = scene.lamp;
    // Only the lamp is of interest.
    scene.room.world_mut().despawn(scene.bulb);
    scene.told(|_| {});
    scene.told(|world| act(world, lamp))
}

fn paint(world: &mut World, lamp: Entity, colour: Colour) {
    *world.get_mut::<Colour>(lamp).unwrap() = colour;
}

#[test]
fn the_nine_pairs_of_added_changed_and_removed_in_one_tick() {
    // A component that the lamp has, or not yet.
    let add = |world: &mut World, lamp: Entity| {
        world.entity_mut(lamp).insert(Health(1));
    };
    let add_changed = |world: &mut World, lamp: Entity| world.get_mut::<Health>(lamp).unwrap().0 = 2;
    let take_away = |world: &mut World, lamp: Entity| {
        world.entity_mut(lamp).remove::<Health>();
    };

    // added, added: the second is a change.
    assert_eq!(
        told(|world, lamp| {
            add(world, lamp);
            world.entity_mut(lamp).insert(Health(3));
        }),
        ["set lamp health 3"]
    );
    // added, changed
    assert_eq!(
        told(|world, lamp| {
            add(world, lamp);
            add_changed(world, lamp);
        }),
        ["set lamp health 2"]
    );
    // added, removed: it was there, so it is told that it was.
    assert_eq!(
        told(|world, lamp| {
            add(world, lamp);
            take_away(world, lamp);
        }),
        ["set lamp health 1", "remove lamp health"]
    );
    // changed, added: inserted over the value that was there.
    assert_eq!(
        told(|world, lamp| {
            paint(world, lamp, blue());
            world.entity_mut(lamp).insert(red());
        }),
        [r#"set lamp colour "red""#]
    );
    // changed, changed
    assert_eq!(
        told(|world, lamp| {
            paint(world, lamp, red());
            paint(world, lamp, blue());
        }),
        [r#"set lamp colour "blue""#]
    );
    // changed, removed: the last value is told before its end.
    assert_eq!(
        told(|world, lamp| {
            paint(world, lamp, blue());
            world.entity_mut(lamp).remove::<Colour>();
        }),
        [r#"set lamp colour "blue""#, "remove lamp colour"]
    );
    // removed, added: whoever watches sees a change, not an end and a beginning.
    assert_eq!(
        told(|world, lamp| {
            world.entity_mut(lamp).remove::<Colour>().insert(blue());
        }),
        [r#"set lamp colour "blue""#]
    );
    // removed, changed: removed, added, changed.
    assert_eq!(
        told(|world, lamp| {
            world.entity_mut(lamp).remove::<Colour>().insert(red());
            paint(world, lamp, blue());
        }),
        [r#"set lamp colour "blue""#]
    );
    // removed, removed
    assert_eq!(
        told(|world, lamp| {
            world.entity_mut(lamp).remove::<Colour>().remove::<Colour>();
        }),
        ["remove lamp colour"]
    );
}

#[test]
fn the_end_of_an_entity_comes_after_all_that_happened_to_it() {
    assert_eq!(
        told(|world, lamp| {
            paint(world, lamp, blue());
            world.despawn(lamp);
        }),
        [r#"set lamp colour "blue""#, "delete lamp"]
    );
    assert_eq!(
        told(|world, lamp| {
            world.entity_mut(lamp).insert(Health(1));
            world.despawn(lamp);
        }),
        ["set lamp health 1", "delete lamp"]
    );
    let gone = told(|world, lamp| {
        world.entity_mut(lamp).remove::<Colour>();
        world.despawn(lamp);
    });
    assert_eq!(gone.last().unwrap(), "delete lamp");
    // A spark shorter than a tick still shows.
    assert_eq!(
        told(|world, _| {
            let spark = world.spawn(red()).id();
            world.despawn(spark);
        }),
        [r#"create new {"colour":"red"}"#, "delete new"]
    );
    assert_eq!(
        told(|world, _| {
            let spark = world.spawn(red()).id();
            paint(world, spark, blue());
        }),
        [r#"create new {"colour":"blue"}"#]
    );
}

#[test]
fn one_that_goes_and_another_of_its_id_that_comes_in_the_same_tick_is_there_to_all_who_follow() {
    let mut scene = Scene::new();
    let mut folded = scene.state.clone();
    let lamp = scene.lamp;
    scene.room.world_mut().despawn(scene.bulb);
    let told = scene.told(|world| {
        world.despawn(lamp);
        world.spawn((EntityId::named("lamp"), Name::new("lamp"), blue(), Place(2)));
    });
    assert!(told.contains(&"delete lamp".to_owned()), "{told:?}");
    let lamp = EntityId::named("lamp");
    let protocol = scene.room.world().resource::<Protocol>();
    assert_eq!(scene.state.component(protocol, lamp, "colour"), Some("blue".into()));
    // The same without telling, as a store follows.
    let mut again = Scene::new();
    let old = again.lamp;
    again.room.world_mut().despawn(again.bulb);
    again.room.world_mut().despawn(old);
    again.room.world_mut().spawn((lamp, Name::new("lamp"), blue(), Place(2)));
    let batch = again.room.tick([]).unwrap().batch.unwrap();
    folded.fold(protocol, &batch).unwrap();
    assert_eq!(folded.difference(protocol, &scene.state), None);
    assert_eq!(folded.component(protocol, lamp, "colour"), Some("blue".into()));
}

#[test]
fn a_despawn_takes_the_children_along() {
    let mut scene = Scene::new();
    let lamp = scene.lamp;
    let mut told = scene.told(|world| {
        world.despawn(lamp);
    });
    told.retain(|line| !line.starts_with("remove"));
    told.sort();
    assert_eq!(told, ["delete bulb", "delete lamp"]);
}

#[test]
fn what_is_disabled_is_gone_and_comes_back_as_it_is_then() {
    let mut scene = Scene::new();
    let (lamp, bulb) = (scene.lamp, scene.bulb);
    assert_eq!(
        scene.told(|world| {
            world.entity_mut(bulb).insert(Disabled);
        }),
        ["delete bulb"]
    );
    assert_eq!(
        scene.told(|world| {
            world.entity_mut(bulb).insert(Health(3));
        }),
        [""; 0]
    );
    let back = scene.told(|world| {
        world.entity_mut(bulb).remove::<Disabled>();
    });
    assert_eq!(back, [r#"create bulb {"health":3,"parent":"lamp"}"#]);
    assert_eq!(
        scene.told(|world| {
            world.entity_mut(lamp).insert(Disabled).remove::<Disabled>();
        }),
        [""; 0]
    );
}

#[test]
fn what_did_not_change_is_not_told() {
    let mut scene = Scene::new();
    let (lamp, bulb) = (scene.lamp, scene.bulb);
    assert_eq!(scene.told(|_| {}), [""; 0], "an idle room has no batch");
    // Bevy's own ways.
    assert_eq!(
        scene.told(|world| {
            world.get_mut::<Colour>(lamp).unwrap().set_if_neq(red());
        }),
        [""; 0]
    );
    assert_eq!(scene.told(|world| world.get_mut::<Colour>(lamp).unwrap().bypass_change_detection().0 = "red".into()), [""; 0]);
    // A component that asks for it: written, and the same.
    assert_eq!(scene.told(|world| world.get_mut::<Place>(lamp).unwrap().0 = 1), [""; 0]);
    assert_eq!(scene.told(|world| world.get_mut::<Place>(lamp).unwrap().0 = 2), ["set lamp place 2"]);
    assert_eq!(
        scene.told(|world| {
            world.entity_mut(lamp).insert(Place(2));
        }),
        [""; 0]
    );
    assert_eq!(
        scene.told(|world| {
            world.entity_mut(lamp).remove::<Place>();
        }),
        ["remove lamp place"]
    );
    assert_eq!(
        scene.told(|world| {
            world.entity_mut(lamp).insert(Place(2));
        }),
        ["set lamp place 2"]
    );
    // One that does not ask is told as often as it is written.
    assert_eq!(scene.told(|world| paint(world, lamp, red())), [r#"set lamp colour "red""#]);
    // A change of the archetype is none of a value.
    assert_eq!(
        scene.told(|world| {
            world.entity_mut(bulb).insert(Marked);
        }),
        ["set bulb marked null"]
    );
}

/// The angle of a door that takes fifteen ticks to swing, and whether it is open.
#[derive(Component, Serialize, Deserialize, Clone, Copy, PartialEq)]
struct Angle(f32);
#[derive(Component, Serialize, Deserialize, Clone, Copy, PartialEq)]
struct Open(bool);

#[test]
fn a_door_is_told_step_by_step_or_by_its_end_by_one_line_of_the_protocol() {
    let operations = |protocol: fn(&mut App)| {
        let swing = |mut doors: Query<(&mut Angle, &Open)>| {
            for (mut angle, open) in &mut doors {
                let goal = if open.0 { 90.0 } else { 0.0 };
                let next = angle.0 + (goal - angle.0).clamp(-6.0, 6.0);
                angle.set_if_neq(Angle(next));
            }
        };
        let mut room = Room::new(RoomOptions::named("door"), protocol, move |app| {
            app.add_systems(FixedUpdate, swing);
        })
        .unwrap();
        let door = room.world_mut().spawn((Angle(0.0), Open(false))).id();
        room.tick([]).unwrap();
        let mut state = room.state().unwrap();
        let mut told = Vec::new();
        for open in [true, false] {
            room.world_mut().get_mut::<Open>(door).unwrap().0 = open;
            for _ in 0..20 {
                let Some(batch) = room.tick([]).unwrap().batch else { continue };
                told.extend(state.apply(room.world().resource::<Protocol>(), &batch).unwrap());
            }
        }
        told.len()
    };
    let stepwise = operations(|app| {
        app.sync::<Open>("open");
        app.sync::<Angle>("angle").latest();
    });
    let by_its_end = operations(|app| {
        app.sync::<Open>("open");
    });
    assert_eq!((stepwise, by_its_end), (2 + 2 * 15, 2), "one operation for each of the two transitions");
}

#[test]
fn the_five_operations_at_their_bounds() {
    use roomkeeper::protocol::Step::*;
    // From, step, to.
    let table = [
        (95, IncMax { by: 10, max: 100 }, 100),
        (5, DecMin { by: 10, min: 0 }, 0),
        (100, Inc(50), i8::MAX),
        (-100, Dec(50), i8::MIN),
        (10, Inc(-20), -10),
        (127, IncMax { by: 1, max: 127 }, 127),
        (50, IncMax { by: 1, max: 40 }, 50),
        (30, DecMin { by: 1, min: 40 }, 30),
        (1, Inc(1), 2),
    ];
    for (from, step, to) in table {
        let mut scene = Scene::new();
        let lamp = scene.lamp;
        scene.told(|world| {
            world.entity_mut(lamp).insert(Health(from));
        });
        let told = scene.told(|world| {
            world.run_system_once(move |mut health: Patch<Health>| health.step(lamp, step).is_some()).unwrap();
        });
        assert_eq!(scene.room.world().get::<Health>(lamp).unwrap().0, to, "{from} {step:?}");
        assert!(told.len() <= 1 && !told.iter().any(|line| line.starts_with("set")), "{told:?}");
    }
    // On a component that is not there it does nothing, and says so.
    let mut scene = Scene::new();
    let lamp = scene.lamp;
    let told = scene.told(|world| {
        let done = world.run_system_once(move |mut health: Patch<Health>| health.inc(lamp, 1).is_some()).unwrap();
        assert!(!done);
    });
    assert!(told.is_empty());
}

#[test]
fn what_no_batch_has_told_is_in_no_state() {
    let mut scene = Scene::new();
    // The lamp has a place, the bulb has none.
    scene.room.world_mut().spawn(Place(9));
    let state = scene.room.state().unwrap();
    assert_eq!(state.difference(scene.room.world().resource::<Protocol>(), &scene.state), None);
}

#[test]
fn an_id_that_comes_after_the_component_counts_before_the_batch_and_not_after_it() {
    let mut scene = Scene::new();
    let torch = EntityId::named("torch");
    let entity = scene.room.world_mut().spawn(Place(3)).id();
    scene.room.world_mut().entity_mut(entity).insert(torch);
    assert_eq!(scene.room.world().resource::<EntityIndex>().entity(torch), Some(entity));
    scene.told(|_| {});
    // Once it was told of, it keeps its own; and nobody gets one that is taken.
    for other in ["lantern", "lamp"] {
        scene.room.world_mut().entity_mut(entity).insert(EntityId::named(other));
        assert_eq!(scene.room.world().get::<EntityId>(entity), Some(&torch));
    }
    let late = scene.room.world_mut().spawn(Place(4)).id();
    let own = *scene.room.world().get::<EntityId>(late).unwrap();
    scene.room.world_mut().entity_mut(late).insert(torch);
    assert_eq!(scene.room.world().get::<EntityId>(late), Some(&own));
}

#[test]
fn what_is_stepped_very_often_in_a_tick_is_told_as_its_value_and_the_batch_can_be_read() {
    let mut scene = Scene::new();
    let lamp = scene.lamp;
    scene.told(|world| {
        world.entity_mut(lamp).insert(Health(5));
    });
    let mut steps = |times: u32, up: i8| {
        scene.told(|world| {
            let step = move |mut health: Patch<Health>| {
                for _ in 0..times {
                    health.inc(lamp, up);
                    health.dec(lamp, 1);
                }
            };
            world.run_system_once(step).unwrap();
        })
    };
    assert_eq!(steps(7, 0).len(), 14);
    // Each would be a section of its own, of which readers take 65,536.
    assert_eq!(steps(35_000, 2), ["set lamp health 126"]);
}

/// A mark that nobody is told of.
#[derive(Component)]
struct Asleep;

/// Of the entity that wakes, or of all others.
fn what_is_written_at_waking(others: bool) {
    let rules = move |app: &mut App| {
        // Two of them: the second one writes at a later tick than that by which the entity moves to another table.
        app.add_observer(|_: On<Remove<Asleep>>| {});
        app.add_observer(move |woken: On<Remove<Asleep>>, mut places: Query<(Entity, &mut Place)>| {
            let woken = woken.event().entity;
            places.iter_mut().filter(|(entity, _)| (*entity != woken) == others).for_each(|(_, mut place)| place.0 += 1);
        });
    };
    let mut room = Room::new(RoomOptions::named("dormitory"), protocol, rules).unwrap();
    let sleeper = room.world_mut().spawn((red(), Place(1), Asleep)).id();
    room.world_mut().spawn((red(), Place(10)));
    let mut told = State::new(room.info().id);
    told.fold(room.world().resource::<Protocol>(), room.opening().batch.as_ref().unwrap()).unwrap();
    for waking in [false, false, true] {
        if waking {
            room.world_mut().entity_mut(sleeper).remove::<Asleep>();
        }
        if let Some(batch) = room.tick([]).unwrap().batch {
            told.fold(room.world().resource::<Protocol>(), &batch).unwrap();
        }
    }
    let whole = room.state().unwrap();
    assert_eq!(whole.difference(room.world().resource::<Protocol>(), &told), None, "others: {others}");
}

#[test]
fn what_observers_of_a_removal_write_is_told() {
    what_is_written_at_waking(false);
    what_is_written_at_waking(true);
}
