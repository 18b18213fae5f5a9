//! From the world of a replica to a picture.

use crate::components::*;
use crate::map::Point;
use crate::rules::tuning::{AMMO_MAX, FIREBALL_RADIUS, HEALTH_MAX, MONSTER_RADIUS, TICKS_PER_S};
use bevy_ecs::prelude::*;
use roomkeeper::cli::{Actor, Ending, Eyes, Gauge, Picture, Shape, Tint};
use roomkeeper::client::Shown;
use roomkeeper::prelude::{EntityId, OwnedBy};
use roomkeeper::protocol::User;

/// Arrows by eighths of a turn, counter-clockwise from the right.
const ARROWS: [&str; 8] = ["→", "↗", "↑", "↖", "←", "↙", "↓", "↘"];

/// How far before a player the arrow stands that says where it faces, in level units.
const ARROW_AT: f32 = 1.0;

/// Draws the level as the replica holds it.
pub fn draw(world: &mut World, eyes: &Eyes) -> Picture {
    let mut picture = Picture::default();
    level(world, &mut picture);
    items(world, &mut picture);
    monsters(world, &mut picture);
    projectiles(world, &mut picture);
    players(world, eyes, &mut picture);
    panel(world, eyes, &mut picture);
    ending(world, eyes, &mut picture);
    picture
}

/// Where something is shown: where the client shows it between the room's values, or where there is nothing between, as in a recorded match, where
/// it is.
type Place = (&'static Position, Option<&'static Shown<Position>>);

fn place((at, shown): (&Position, Option<&Shown<Position>>)) -> Point {
    shown.map_or(at.0, |shown| shown.0.0)
}

fn level(world: &mut World, picture: &mut Picture) {
    let mut exits = world.query::<(Place, &Exit)>();
    for (at, exit) in exits.iter(world) {
        picture.shapes.push(Shape::haze(place(at), [exit.radius; 2], Tint::Green));
        picture.shapes.push(Shape::mark(place(at), "EXIT", Tint::Green));
    }
    let mut walls = world.query::<(Place, &Wall)>();
    picture.shapes.extend(walls.iter(world).map(|(at, wall)| Shape::block(place(at), wall.half, Tint::Grey)));
    let mut doors = world.query::<(Place, &Door, &DoorState, Option<&Lock>, Has<DoorTimer>)>();
    for (at, door, state, lock, on_a_timer) in doors.iter(world) {
        let (tint, letter) = match lock {
            Some(lock) => (tint_of(lock.key), letter_of(lock.key)),
            None if on_a_timer => (Tint::Magenta, "T"),
            None => (Tint::Brown, "D"),
        };
        match state {
            DoorState::Closed => {
                picture.shapes.push(Shape::block(place(at), door.half, tint));
                picture.shapes.push(Shape::mark(place(at), letter, tint));
            }
            DoorState::Opened => picture.shapes.push(Shape::haze(place(at), door.half, tint)),
        }
    }
}

fn tint_of(colour: Colour) -> Tint {
    match colour {
        Colour::Red => Tint::Red,
        Colour::Blue => Tint::Blue,
        Colour::Yellow => Tint::Yellow,
    }
}

/// The letter on a door, for those who see no colours.
fn letter_of(colour: Colour) -> &'static str {
    match colour {
        Colour::Red => "R",
        Colour::Blue => "B",
        Colour::Yellow => "Y",
    }
}

fn items(world: &mut World, picture: &mut Picture) {
    let mut items = world.query::<(&EntityId, Place, &Item, &Visibility, Option<&Key>)>();
    let mut lying: Vec<_> = items.iter(world).filter(|(_, _, _, seen, _)| seen.0).collect();
    // The same world gives the same picture, whatever order its entities have.
    lying.sort_by_key(|(id, ..)| **id);
    for (_, at, item, _, key) in lying {
        let (mark, tint) = match item.kind {
            ItemKind::Health => ("+", Tint::Red),
            ItemKind::Immunity => ("I", Tint::Cyan),
            ItemKind::Ammo => ("a", Tint::Yellow),
            ItemKind::Key => ("k", key.map_or(Tint::White, |key| tint_of(key.0))),
            ItemKind::Weapon => ("S", Tint::White),
        };
        picture.shapes.push(Shape::mark(place(at), mark, tint));
    }
}

fn monsters(world: &mut World, picture: &mut Picture) {
    let mut monsters = world.query::<(&EntityId, Place, &Monster, &MonsterState, &Visibility)>();
    let mut awake: Vec<_> = monsters.iter(world).filter(|(.., seen)| seen.0).collect();
    awake.sort_by_key(|(id, ..)| **id);
    for (_, at, monster, state, _) in awake {
        let letter = match monster.0 {
            MonsterKind::Imp => "i",
            MonsterKind::Baron => "B",
        };
        let (sign, tint) = match state {
            MonsterState::Idle => ("", Tint::Brown),
            MonsterState::Patrol => ("", Tint::Yellow),
            MonsterState::Chase => ("!", Tint::Red),
            MonsterState::Pain => ("*", Tint::White),
            MonsterState::Dying => ("x", Tint::Dark),
        };
        if *state != MonsterState::Dying {
            picture.shapes.push(Shape::disc(place(at), MONSTER_RADIUS, tint));
        }
        picture.shapes.push(Shape::mark(place(at), format!("{letter}{sign}"), tint));
    }
}

fn projectiles(world: &mut World, picture: &mut Picture) {
    let mut balls = world.query::<(&EntityId, Place, &FireballState)>();
    let mut all: Vec<_> = balls.iter(world).collect();
    all.sort_by_key(|(id, ..)| **id);
    for (_, at, state) in all {
        let mark = if *state == FireballState::Flying { "*" } else { "#" };
        picture.shapes.push(Shape::disc(place(at), FIREBALL_RADIUS, Tint::Red));
        picture.shapes.push(Shape::mark(place(at), mark, Tint::Red));
    }
    let mut bullets = world.query::<(&EntityId, Place, &BulletState)>();
    let mut all: Vec<_> = bullets.iter(world).collect();
    all.sort_by_key(|(id, ..)| **id);
    picture.shapes.extend(all.into_iter().map(|(_, at, _)| Shape::mark(place(at), "·", Tint::White)));
}

fn players(world: &mut World, eyes: &Eyes, picture: &mut Picture) {
    let mut players = world.query_filtered::<(&EntityId, Option<&User>, Place, &Rotation, &Status), With<Avatar>>();
    // Who played before names were told is somebody.
    let named = |user: Option<&User>| user.map_or_else(|| "somebody".to_owned(), |user| user.name.clone());
    let mut all: Vec<_> = players.iter(world).collect();
    all.sort_by_key(|(id, user, ..)| (named(*user), **id));
    for (id, user, at, rotation, status) in all {
        let at = place(at);
        let is_followed = *id == eyes.of;
        let tint = if is_followed { Tint::Green } else { Tint::Cyan };
        if status.is(Status::ALIVE) {
            let before = [at[0] + ARROW_AT * libm::cosf(rotation.0), at[1] + ARROW_AT * libm::sinf(rotation.0)];
            picture.shapes.push(Shape::mark(before, arrow(rotation.0), tint));
            picture.shapes.push(Shape::mark(at, "@", tint));
        } else {
            picture.shapes.push(Shape::mark(at, "%", Tint::Dark));
        }
        if is_followed {
            (picture.focus, picture.title) = (Some(at), named(user));
        }
        picture.actors.push(Actor { id: *id, name: named(user) });
    }
}

fn arrow(angle: f32) -> &'static str {
    let eighth = libm::roundf(angle / core::f32::consts::FRAC_PI_4) as i32;
    ARROWS.get(eighth.rem_euclid(8) as usize).copied().unwrap_or("")
}

/// What is known of whom one follows, and of the level.
fn panel(world: &mut World, eyes: &Eyes, picture: &mut Picture) {
    let mut players = world.query_filtered::<(Entity, &EntityId, Place, &Health, &Ammo, &Weapon, &Immunity), With<Avatar>>();
    let mut tell = |what: &str, value: String| picture.facts.push((what.to_owned(), value));
    if let Some((entity, _, at, health, ammo, weapon, immunity)) = players.iter(world).find(|(_, id, ..)| **id == eyes.of) {
        let gauge = |name: &str, value: i32, max: i32, tint| Gauge { name: name.to_owned(), value: value.into(), max: max.into(), tint };
        let tint = if health.0 > HEALTH_MAX / 3 { Tint::Green } else { Tint::Red };
        picture.gauges.push(gauge("health", health.0, HEALTH_MAX, tint));
        picture.gauges.push(gauge("rounds", ammo.0, AMMO_MAX, Tint::Yellow));
        let (in_hand, immune, at) = (weapon.0, immunity.until_tick.0.saturating_sub(eyes.tick), place(at));
        let (mut weapons, mut keys) = (vec![WeaponKind::Fist, WeaponKind::Pistol], Vec::new());
        let mut owned = world.query::<(&OwnedBy, Option<&Weapon>, Option<&Key>)>();
        for (_, weapon, key) in owned.iter(world).filter(|(owner, ..)| owner.0 == entity) {
            weapons.extend(weapon.map(|weapon| weapon.0));
            keys.extend(key.map(|key| word(key.0)));
        }
        weapons.sort_unstable();
        weapons.dedup();
        let others = weapons.into_iter().filter(|weapon| *weapon != in_hand).map(word).collect::<Vec<_>>().join(" ");
        keys.sort_unstable();
        tell("weapon", word(in_hand));
        tell("and", others);
        tell("keys", if keys.is_empty() { "none".to_owned() } else { keys.join(" ") });
        tell("at", format!("{:.1}, {:.1}", at[0], at[1]));
        if immune > 0 {
            tell("immune", format!("{:.0} s", libm::ceilf(immune as f32 / TICKS_PER_S)));
        }
    }
    let mut monsters = world.query::<&MonsterState>();
    tell("monsters", monsters.iter(world).filter(|state| **state != MonsterState::Dying).count().to_string());
    let others = picture.actors.iter().filter(|actor| actor.id != eyes.of).count();
    if others > 0 {
        picture.facts.push(("others".to_owned(), others.to_string()));
    }
}

/// How the game's JSON calls something.
fn word(of: impl serde::Serialize) -> String {
    serde_json::to_value(of).ok().and_then(|value| Some(value.as_str()?.to_owned())).unwrap_or_default()
}

fn ending(world: &mut World, eyes: &Eyes, picture: &mut Picture) {
    let mut games = world.query_filtered::<&Status, With<Tag>>();
    let status = games.iter(world).next().cloned();
    let mut players = world.query_filtered::<(&EntityId, &Status), With<Avatar>>();
    let is_dead = players.iter(world).any(|(id, status)| *id == eyes.of && !status.is(Status::ALIVE));
    let ending = |text: &str, tint, of_all| Some(Ending { text: text.to_owned(), tint, of_all });
    picture.ending = match status {
        Some(status) if status.is(Status::WON) => ending("The level is won.", Tint::Green, true),
        Some(status) if status.is(Status::LOST) => ending("Nobody is left alive: the level is lost.", Tint::Red, true),
        _ if is_dead => ending("You are dead.", Tint::Red, false),
        _ => None,
    };
}
