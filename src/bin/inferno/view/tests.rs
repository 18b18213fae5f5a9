use super::pilot::Hands;
use super::view;
use crate::bot::{Scene, Wish};
use crate::components::*;
use crate::{protocol, rules};
use roomkeeper::cli::{Eyes, Form, Key, Keys, Picture, Shape, Tint};
use roomkeeper::prelude::EntityId;
use roomkeeper::room::Level;
use roomkeeper::sim::Sim;

fn sim() -> Sim {
    let level = Level::open(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/levels/e1m1.json")).unwrap();
    let mut sim = Sim::new(protocol::add, rules::add).seed(1).level(level).client("ann").client("bob");
    sim.run_ticks(3);
    sim
}

fn picture(sim: &mut Sim, of: &str) -> Picture {
    (view().draw)(sim.client_mut("ann").world_mut(), &Eyes { of: EntityId::named(of), tick: 3 })
}

fn marks<'a>(picture: &'a Picture, text: &str) -> Vec<&'a Shape> {
    picture.shapes.iter().filter(|shape| matches!(&shape.form, Form::Mark(mark) if mark == text)).collect()
}

fn keys(held: &[Key]) -> Keys {
    let all: std::collections::BTreeSet<Key> = held.iter().copied().collect();
    Keys { held: all.clone(), struck: all, pointed: None }
}

#[test]
fn the_level_is_drawn_as_it_is() {
    let mut sim = sim();
    let drawn = picture(&mut sim, "ann");
    assert_eq!(drawn.focus, Some([3.0, 3.0]));
    assert_eq!((drawn.title.as_str(), drawn.actors.len()), ("ann", 2));
    assert!(drawn.shapes.contains(&Shape::block([24.0, 0.5], [24.0, 0.5], Tint::Grey)), "a wall");
    let red_door = Shape::block([31.5, 10.0], [0.5, 1.5], Tint::Red);
    assert!(drawn.shapes.contains(&red_door), "a closed door, in the colour of its key");
    assert!(drawn.shapes.contains(&Shape::block([16.0, 20.0], [1.5, 0.5], Tint::Magenta)), "one on a timer");
    assert_eq!(marks(&drawn, "k").first().map(|key| (key.at, key.tint)), Some(([16.0, 28.0], Tint::Red)));
    assert_eq!(marks(&drawn, "EXIT").len(), 1);
    assert_eq!(marks(&drawn, "@").iter().map(|mark| mark.tint).collect::<Vec<_>>(), [Tint::Green, Tint::Cyan]);
    assert_eq!(drawn.gauges.iter().map(|gauge| (gauge.value, gauge.max)).collect::<Vec<_>>(), [(100, 100), (30, 60)]);
    assert_eq!(drawn.ending, None);
    // Through other eyes; through nobody's.
    assert_eq!(picture(&mut sim, "bob").title, "bob");
    let nobody = picture(&mut sim, "nobody");
    assert_eq!((nobody.focus, nobody.gauges.len()), (None, 0));
}

#[test]
fn what_changes_is_drawn_changed() {
    let mut sim = sim();
    let door = sim.room().world().resource::<roomkeeper::prelude::EntityIndex>().entity(EntityId::named("door_red")).unwrap();
    sim.room_mut().world_mut().entity_mut(door).insert(DoorState::Opened);
    sim.give("ann", Health(7)).give("bob", (Health(0), Status(Status::DIED.to_owned()))).settle();
    let drawn = picture(&mut sim, "ann");
    assert!(drawn.shapes.contains(&Shape::haze([31.5, 10.0], [0.5, 1.5], Tint::Red)), "an opened door is seen through");
    assert_eq!(drawn.gauges.first().map(|gauge| (gauge.value, gauge.tint)), Some((7, Tint::Red)));
    assert_eq!(marks(&drawn, "%").len(), 1, "the dead");
    let of_bob = picture(&mut sim, "bob").ending.unwrap();
    assert_eq!((of_bob.text.as_str(), of_bob.of_all), ("You are dead.", false));
}

#[test]
fn keys_walk_turn_fire_open_and_change_weapons() {
    let mut sim = sim();
    let mut scene = Scene::read(sim.client_mut("ann").world_mut(), EntityId::named("ann"), 3).unwrap();
    let mut hands = Hands::default();
    let Some(Wish::Move(step)) = hands.act(&scene, &keys(&[Key::Char('d'), Key::Up])).pop() else { panic!("no step") };
    assert!(step.to[0] > 3.1 && step.to[1] > 3.1, "aslant: {:?}", step.to);
    let Some(Wish::Move(second)) = hands.act(&scene, &keys(&[Key::Char('d')])).pop() else { panic!("no step") };
    assert!(second.to[0] > step.to[0] && second.to[1] == 3.0, "straight: {:?}", second.to);
    assert_eq!(hands.act(&scene, &keys(&[Key::Left, Key::Right])), [], "keys that contradict each other");
    // It fires where it faces, and not again before the weapon is ready.
    let Some(Wish::Fire(shot)) = hands.act(&scene, &keys(&[Key::Char(' ')])).pop() else { panic!("no shot") };
    assert_eq!(shot.aim, [1.0, 0.0]);
    scene.ready_at = scene.tick + 1;
    assert_eq!(hands.act(&scene, &keys(&[Key::Char(' ')])), []);
    scene.tick += 1;
    // A monster near that line is aimed at.
    scene.monsters = vec![([8.0, 4.0], MonsterState::Chase), ([3.0, 9.0], MonsterState::Chase)];
    let Some(Wish::Fire(shot)) = hands.act(&scene, &keys(&[Key::Char(' ')])).pop() else { panic!("no shot") };
    assert!((shot.aim[1] / shot.aim[0] - 0.2).abs() < 1e-3, "{:?}", shot.aim);
    let at_the_mouse = Keys { pointed: Some([3.0, 1.0]), ..Keys::default() };
    assert!(matches!(hands.act(&scene, &at_the_mouse).as_slice(), [Wish::Fire(shot)] if shot.aim == [0.0, -1.0]));
    assert!(matches!(hands.act(&scene, &keys(&[Key::Char('1')])).as_slice(), [Wish::SwitchWeapon(to)] if to.weapon == WeaponKind::Fist));
    assert_eq!(hands.act(&scene, &keys(&[Key::Char('e')])), [], "no door is near");
    scene.at = [6.0, 10.5];
    let door = EntityId::named("door_armoury");
    assert!(matches!(hands.act(&scene, &keys(&[Key::Char('e')])).as_slice(), [Wish::OpenDoor(open)] if open.door == door));
    scene.alive = false;
    assert_eq!(hands.act(&scene, &keys(&[Key::Char('d'), Key::Char(' ')])), [], "the dead do nothing");
}
