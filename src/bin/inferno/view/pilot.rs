//! From keys to commands.

use crate::bot::{Scene, Wish, send};
use crate::commands::{Fire, Move, OpenDoor, SwitchWeapon};
use crate::components::{DoorState, MonsterState, WeaponKind};
use crate::map::{Point, add, distance, dot, scale, sub, unit};
use crate::rules::tuning::{DOOR_REACH, PLAYER_RADIUS, PLAYER_STEP};
use roomkeeper::cli::{Key, Keys, Pilot};
use roomkeeper::client::Replica;
use roomkeeper::predict::Prediction;

/// What fires straight ahead aims at a monster within this reach, and within the angle of this cosine, 30 degrees.
const HELP_REACH: f32 = 14.0;
const HELP_COSINE: f32 = 0.866;

const WALK: [&[Key]; 4] =
    [&[Key::Char('d'), Key::Right], &[Key::Char('w'), Key::Up], &[Key::Char('a'), Key::Left], &[Key::Char('s'), Key::Down]];
const AIM: [&[Key]; 4] = [&[Key::Char('l')], &[Key::Char('i')], &[Key::Char('j')], &[Key::Char('k')]];
const FIRE: [Key; 2] = [Key::Char(' '), Key::Char('f')];
const WEAPONS: [(Key, WeaponKind); 3] =
    [(Key::Char('1'), WeaponKind::Fist), (Key::Char('2'), WeaponKind::Pistol), (Key::Char('3'), WeaponKind::Shotgun)];

/// Somebody who plays by keys.
pub fn pilot() -> Pilot {
    let mut hands = Hands::default();
    Box::new(move |world, keys| {
        let me = world.resource::<Replica>().user();
        // Its own state is shown as of the tick in which what is asked now is expected to be done.
        let tick = world.resource::<Prediction>().tick.max(world.resource::<Replica>().tick()).0;
        let Some(scene) = Scene::read(world, me, tick) else { return };
        let wishes = hands.act(&scene, keys);
        let sent = world.run_system_cached_with(send, wishes);
        debug_assert!(sent.is_ok(), "a pilot that plays is in a room");
    })
}

/// What is remembered between ticks: where it faces. All else is predicted.
#[derive(Clone, Debug)]
pub struct Hands {
    facing: Point,
}

impl Default for Hands {
    fn default() -> Self {
        Self { facing: [1.0, 0.0] }
    }
}

impl Hands {
    /// What the keys of a tick ask for.
    pub fn act(&mut self, scene: &Scene, keys: &Keys) -> Vec<Wish> {
        if !scene.alive || !scene.playing {
            return Vec::new();
        }
        let mut wishes = Vec::new();
        let chosen = WEAPONS.into_iter().find(|(key, _)| keys.struck.contains(key)).map(|(_, weapon)| weapon);
        wishes.extend(chosen.filter(|weapon| *weapon != scene.weapon).map(|weapon| Wish::SwitchWeapon(SwitchWeapon { weapon })));
        if keys.struck.contains(&Key::Char('e')) {
            wishes.extend(nearest_door(scene).map(|door| Wish::OpenDoor(OpenDoor { door })));
        }
        wishes.extend(self.walk(scene, keys));
        wishes.extend(self.fire(scene, keys));
        wishes
    }

    fn walk(&mut self, scene: &Scene, keys: &Keys) -> Option<Wish> {
        let direction = unit(keys.direction(WALK))?;
        self.facing = direction;
        let step = scale(direction, PLAYER_STEP);
        let to = scene.solids.slide(scene.at, step, PLAYER_RADIUS);
        // A wall that is walked into still turns the walker.
        Some(Wish::Move(Move { to: if to == scene.at { add(scene.at, step) } else { to } }))
    }

    fn fire(&mut self, scene: &Scene, keys: &Keys) -> Option<Wish> {
        let turned = unit(keys.direction(AIM));
        self.facing = turned.unwrap_or(self.facing);
        let pointed = keys.pointed.and_then(|spot| unit(sub(spot, scene.at)));
        self.facing = pointed.unwrap_or(self.facing);
        let wants = turned.is_some() || pointed.is_some() || keys.any(&FIRE);
        if !wants || scene.tick < scene.ready_at {
            return None;
        }
        let aim = if pointed.is_some() { self.facing } else { helped(scene, self.facing) };
        Some(Wish::Fire(Fire { aim }))
    }
}

/// The direction to the nearest monster that is seen about there; else the direction itself.
fn helped(scene: &Scene, facing: Point) -> Point {
    let alive = scene.monsters.iter().filter(|(_, state)| *state != MonsterState::Dying).map(|(at, _)| *at);
    let near = alive.filter(|at| distance(*at, scene.at) < HELP_REACH && scene.solids.line_of_sight(scene.at, *at));
    let ahead = near.filter_map(|at| Some((distance(at, scene.at), unit(sub(at, scene.at))?)));
    let meant = ahead.filter(|(_, direction)| dot(*direction, facing) > HELP_COSINE);
    meant.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(facing, |(_, direction)| direction)
}

/// The nearest closed door within reach, also one that will not open: the room says why.
fn nearest_door(scene: &Scene) -> Option<roomkeeper::prelude::EntityId> {
    let closed = scene.doors.iter().filter(|door| door.state == DoorState::Closed);
    let far = closed.map(|door| (distance(door.rect.nearest(scene.at), scene.at), door.id));
    far.filter(|(far, _)| *far <= DOOR_REACH).min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, id)| id)
}
