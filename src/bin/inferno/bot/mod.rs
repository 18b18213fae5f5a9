//! A player without a human: it sees what any client sees and sends what any client sends.
//!
//! Job: from a [`Scene`], read out of a client's world, to the commands of one tick. Invariant: it knows nothing that a
//! replica does not hold. Its aim trembles by a generator of its own, seeded, so a match of bots can be repeated.
//!
//! May use: components, commands, map. Never: rules (but their public numbers), the room's world.

mod scene;

pub use scene::{Scene, ThingSeen};

use crate::commands::{Fire, Move, OpenDoor, SwitchWeapon};
use crate::components::{DoorState, ItemKind, MonsterState, WeaponKind};
use crate::map::{Grid, Point, Solids, add, distance, dot, next_corner, scale, sub, towards, unit};
use crate::rules::tuning::{AMMO_MAX, DOOR_REACH, HEALTH_MAX, PLAYER_RADIUS, PLAYER_STEP, discharge};
use bevy_ecs::prelude::*;
use roomkeeper::client::{Issue, Replica};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// Side of a cell of the bot's grid, in level units.
const CELL: f32 = 0.5;
/// A bot fights what is nearer than this.
const FIGHT_REACH: f32 = 13.0;
/// A bot evades a fireball that is nearer than this.
const EVADE_REACH: f32 = 4.0;
/// Below this a bot goes for a medical kit first.
const HURT: i32 = 60;
/// Below this a bot goes for ammunition first.
const FEW_ROUNDS: i32 = 12;
/// How far from a door a bot stops to open it or wait for it, in level units.
const BEFORE_DOOR: f32 = 0.9;
/// The distance a bot likes to fight from.
const FIGHT_DISTANCE: f32 = 6.0;
/// How often a bot minds fireballs, 0.0 to 1.0.
const ALERTNESS: f32 = 0.6;
/// How long a bot waits to see what became of what it sent, in ticks.
const ROUND_TRIP_TICKS: u32 = 6;
/// How many of its own moves a bot remembers; more than a bad round trip in ticks.
const STEPS_KEPT: usize = 16;
/// How many levels, or levels with other doors open, the bots of a process keep the ways of.
const WAYS_KEPT: usize = 64;
/// How many ways between two cells they keep of each: half a megabyte to a megabyte.
const FOUND_KEPT: usize = 2_048;
/// How long a bot keeps a plan before it looks again, in ticks.
const THINK_EVERY_TICKS: u32 = 10;

/// What a bot wants to send.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// See [`Move`].
    Move(Move),
    /// See [`Fire`].
    Fire(Fire),
    /// See [`OpenDoor`].
    OpenDoor(OpenDoor),
    /// See [`SwitchWeapon`].
    SwitchWeapon(SwitchWeapon),
}

/// A bot for the library's `bot` and `demo`: a mind that looks at the world of its client and sends what it wishes.
pub fn brain(seed: u64) -> Box<dyn FnMut(&mut World)> {
    let mut mind = Bot::new(seed);
    Box::new(move |world| {
        let replica = world.resource::<Replica>();
        let (me, tick) = (replica.user(), replica.tick().0);
        let Some(scene) = Scene::read(world, me, tick) else { return };
        let wishes = mind.think(&scene);
        if wishes.is_empty() {
            return;
        }
        let sent = world.run_system_cached_with(send, wishes);
        debug_assert!(sent.is_ok(), "a bot that plays is in a room");
    })
}

/// Sends what is wished for.
pub fn send(wishes: In<Vec<Wish>>, mut issue: Issue) {
    for wish in wishes.0 {
        // A command that can't be sent, because the connection just ended, need not be.
        let _ = match wish {
            Wish::Move(command) => issue.send(&command),
            Wish::Fire(command) => issue.send(&command),
            Wish::OpenDoor(command) => issue.send(&command),
            Wish::SwitchWeapon(command) => issue.send(&command),
        };
    }
}

/// The ways of a level while its doors are as they are. The bots of a thread share them: hundreds play the same few levels.
#[derive(Debug)]
struct Ways {
    solids: Solids,
    grid: Grid,
    /// The ways that were looked for, by the cells where they begin and end. A bot asks in each tick, and is in the same cell for some, and where others
    /// have been before it; and to look costs far more than to know.
    found: RefCell<BTreeMap<(usize, usize), Rc<[Point]>>>,
}

thread_local! {
    /// The last that were made, of each thread: for what all shared all would wait.
    static WAYS: RefCell<VecDeque<Rc<Ways>>> = const { RefCell::new(VecDeque::new()) };
}

impl Ways {
    fn of(solids: &Solids) -> Rc<Self> {
        let found = WAYS.with_borrow(|known| known.iter().find(|ways| ways.solids == *solids).cloned());
        found.unwrap_or_else(|| {
            let grid = Grid::new(solids, CELL, PLAYER_RADIUS + 0.1);
            let made = Rc::new(Self { solids: solids.clone(), grid, found: RefCell::default() });
            WAYS.with_borrow_mut(|known| {
                known.truncate(WAYS_KEPT - 1);
                known.push_front(Rc::clone(&made));
            });
            made
        })
    }

    /// As [`Grid::way`].
    fn way(&self, from: Point, to: Point) -> Option<Vec<Point>> {
        let ends = self.grid.ends(from, to)?;
        let known = self.found.borrow().get(&ends).cloned();
        let way = match known {
            Some(way) => way,
            None => {
                let way: Rc<[Point]> = self.grid.between(ends)?.into();
                let mut found = self.found.borrow_mut();
                if found.len() >= FOUND_KEPT {
                    found.clear();
                }
                found.insert(ends, Rc::clone(&way));
                way
            }
        };
        Some(self.grid.up_to(way.to_vec(), ends, to))
    }
}

/// One bot's mind: what it remembers between ticks.
#[derive(Clone, Debug)]
pub struct Bot {
    dice: u64,
    goal: Option<Point>,
    think_at: u32,
    /// Side to which it strafes, 1.0 or -1.0.
    side: f32,
    /// Whether it minds fireballs at the moment. Nobody minds them all the time.
    alert: bool,
    /// The tick from which it acts again: what it sent is still on its way.
    act_at: u32,
    /// Where its latest moves lead, the oldest first. A bot that stepped from where it sees itself would take one
    /// step for each round trip.
    steps: VecDeque<Point>,
    ways: Option<Rc<Ways>>,
}

impl Bot {
    /// A bot whose trembling hand follows from `seed`.
    pub fn new(seed: u64) -> Bot {
        let side = if seed.is_multiple_of(2) { 1.0 } else { -1.0 };
        Bot {
            dice: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            goal: None,
            think_at: 0,
            side,
            alert: true,
            act_at: 0,
            steps: VecDeque::new(),
            ways: None,
        }
    }

    /// What to send in this tick: at most one move, and one other thing. Nothing when dead or when the level is over.
    pub fn think(&mut self, scene: &Scene) -> Vec<Wish> {
        if !scene.alive || !scene.playing {
            return Vec::new();
        }
        if self.think_at > scene.tick + THINK_EVERY_TICKS {
            // The room began anew.
            (self.think_at, self.act_at) = (0, 0);
            self.steps.clear();
        }
        if self.ways.as_ref().is_none_or(|ways| ways.solids != scene.solids) {
            self.ways = Some(Ways::of(&scene.solids));
            self.think_at = 0;
        }
        if scene.tick >= self.think_at {
            self.think_at = scene.tick + THINK_EVERY_TICKS;
            self.goal = self.choose_goal(scene);
            if self.roll() < 0.15 {
                self.side = -self.side;
            }
            self.alert = self.roll() < ALERTNESS;
        }
        let enemy = nearest_enemy(scene);
        let mut wishes = Vec::new();
        wishes.extend(self.act(scene, enemy));
        let at = self.expected_place(scene.at);
        if let Some(to) = self.step(scene, at, enemy) {
            self.steps.push_back(scene.solids.slide(at, sub(to, at), PLAYER_RADIUS));
            wishes.push(Wish::Move(Move { to }));
        }
        wishes
    }

    /// Where the moves that were sent lead, if the room went along with them so far; else where the room says.
    fn expected_place(&mut self, seen: Point) -> Point {
        while self.steps.len() > STEPS_KEPT {
            self.steps.pop_front();
        }
        if !self.steps.iter().any(|step| distance(*step, seen) < PLAYER_STEP) {
            self.steps.clear();
            self.steps.push_back(seen);
        }
        self.steps.back().copied().unwrap_or(seen)
    }

    /// Opens, draws or fires, in this order.
    fn act(&mut self, scene: &Scene, enemy: Option<Point>) -> Option<Wish> {
        if scene.tick < self.act_at {
            return None;
        }
        let wish = self.choose_act(scene, enemy)?;
        let pause = if matches!(wish, Wish::Fire(_)) { discharge(scene.weapon).reload_ticks } else { ROUND_TRIP_TICKS };
        self.act_at = scene.tick + pause;
        Some(wish)
    }

    fn choose_act(&mut self, scene: &Scene, enemy: Option<Point>) -> Option<Wish> {
        let openable = scene.doors.iter().find(|door| {
            let is_near = distance(door.rect.nearest(scene.at), scene.at) < DOOR_REACH - 0.1;
            is_near && door.state == DoorState::Closed && !door.on_a_timer && door.key.is_none_or(|key| scene.keys.contains(&key))
        });
        if let Some(door) = openable {
            return Some(Wish::OpenDoor(OpenDoor { door: door.id }));
        }
        let far = enemy.map(|enemy| distance(enemy, scene.at));
        let best = best_weapon(scene, far);
        if best != scene.weapon {
            return Some(Wish::SwitchWeapon(SwitchWeapon { weapon: best }));
        }
        let in_reach = far.is_some_and(|far| scene.weapon != WeaponKind::Fist || far < 2.0);
        if scene.tick < scene.ready_at || !in_reach {
            return None;
        }
        let aim = unit(sub(enemy?, scene.at))?;
        let tremble = (self.roll() - 0.5) * 0.16;
        Some(Wish::Fire(Fire { aim: add(aim, [-aim[1] * tremble, aim[0] * tremble]) }))
    }

    /// Where to be after this tick, coming from `at`.
    fn step(&mut self, scene: &Scene, at: Point, enemy: Option<Point>) -> Option<Point> {
        if let Some(away) = evade(scene, at).filter(|_| self.alert) {
            return Some(add(at, scale(away, PLAYER_STEP)));
        }
        if let Some(enemy) = enemy
            && scene.ammo > 0
            && let Some(aim) = unit(sub(enemy, at))
        {
            // Fight sideways, and from a distance at which there is time to evade.
            let keep = (distance(enemy, at) - FIGHT_DISTANCE).clamp(-1.0, 1.0);
            let strafe = add(scale([-aim[1], aim[0]], self.side), scale(aim, keep));
            let to = add(at, scale(unit(strafe)?, PLAYER_STEP));
            if !scene.solids.has_room(to, PLAYER_RADIUS) {
                self.side = -self.side;
            }
            return Some(to);
        }
        let corner = self.corner(scene, at, self.goal?)?;
        let step = towards(at, corner, PLAYER_STEP);
        (step != [0.0; 2]).then(|| add(at, step))
    }

    fn corner(&self, scene: &Scene, at: Point, goal: Point) -> Option<Point> {
        let ways = self.ways.as_ref()?;
        if scene.solids.line_of_walk(at, goal, PLAYER_RADIUS) {
            return Some(goal);
        }
        next_corner(&ways.way(at, goal)?, at, &scene.solids, PLAYER_RADIUS)
    }

    fn can_reach(&self, scene: &Scene, place: Point) -> bool {
        let Some(ways) = &self.ways else { return false };
        scene.solids.line_of_walk(scene.at, place, PLAYER_RADIUS) || ways.grid.ends(scene.at, place).is_some()
    }

    /// The plan: what is needed now, then the way out, then the key, then useful things, then doors that may lead on.
    fn choose_goal(&self, scene: &Scene) -> Option<Point> {
        let nearest = |kind: ItemKind| self.nearest_item(scene, |item| item.kind == kind);
        let needed = [(scene.health < HURT, ItemKind::Health), (scene.ammo < FEW_ROUNDS, ItemKind::Ammo)];
        let needed = needed.into_iter().find_map(|(is_needed, kind)| is_needed.then(|| nearest(kind)).flatten());
        let exit = || scene.exits.iter().copied().find(|exit| self.can_reach(scene, *exit));
        let opens = || {
            let mine = scene.doors.iter().filter(|door| door.state == DoorState::Closed);
            let mine = mine.filter(|door| door.key.is_some_and(|key| scene.keys.contains(&key)));
            mine.filter_map(|door| self.before(scene, door)).next()
        };
        let useful = || {
            self.nearest_item(scene, |item| match item.kind {
                ItemKind::Health => scene.health < HEALTH_MAX,
                ItemKind::Ammo => scene.ammo < AMMO_MAX - 15,
                ItemKind::Weapon => item.weapon.is_some_and(|weapon| !scene.weapons.contains(&weapon)),
                ItemKind::Immunity => scene.health < HEALTH_MAX,
                ItemKind::Key => false,
            })
        };
        let unlocked = || {
            let plain = scene.doors.iter().filter(|door| door.state == DoorState::Closed && door.key.is_none() && !door.on_a_timer);
            plain.filter_map(|door| self.before(scene, door)).next()
        };
        let waits = || {
            let timed = scene.doors.iter().filter(|door| door.state == DoorState::Closed && door.on_a_timer);
            timed.filter_map(|door| self.before(scene, door)).next()
        };
        let follow = || scene.mates.iter().copied().find(|mate| self.can_reach(scene, *mate));
        needed
            .or_else(opens)
            .or_else(exit)
            .or_else(|| nearest(ItemKind::Key))
            .or_else(useful)
            .or_else(unlocked)
            .or_else(waits)
            .or_else(follow)
    }

    fn nearest_item(&self, scene: &Scene, wanted: impl Fn(&ThingSeen) -> bool) -> Option<Point> {
        let mut items: Vec<(f32, Point)> =
            scene.items.iter().filter(|item| wanted(item)).map(|item| (distance(item.at, scene.at), item.at)).collect();
        // Whether one can be reached costs most, and of the nearest that can no other counts. Of equally near ones it is the first.
        items.sort_by(|a, b| a.0.total_cmp(&b.0));
        items.into_iter().map(|(_, at)| at).find(|at| self.can_reach(scene, *at))
    }

    /// A place from which the door can be opened, on the side that can be reached.
    fn before(&self, scene: &Scene, door: &scene::DoorSeen) -> Option<Point> {
        let [w, h] = add(door.rect.half, [BEFORE_DOOR, BEFORE_DOOR]);
        let places = [[w, 0.0], [-w, 0.0], [0.0, h], [0.0, -h]].map(|side| add(door.rect.centre, side));
        let free = places.into_iter().filter(|place| scene.solids.has_room(*place, PLAYER_RADIUS));
        free.into_iter().find(|place| self.can_reach(scene, *place))
    }

    /// A number from 0.0 up to 1.0.
    fn roll(&mut self) -> f32 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 40) as f32 / (1u64 << 24) as f32
    }
}

fn nearest_enemy(scene: &Scene) -> Option<Point> {
    let alive = scene.monsters.iter().filter(|(_, state)| *state != MonsterState::Dying).map(|(at, _)| *at);
    let near = alive.filter(|at| distance(*at, scene.at) < FIGHT_REACH && scene.solids.line_of_sight(scene.at, *at));
    near.min_by(|a, b| distance(*a, scene.at).total_cmp(&distance(*b, scene.at)))
}

/// The strongest weapon that reaches; the fist when nothing else is loaded.
fn best_weapon(scene: &Scene, far: Option<f32>) -> WeaponKind {
    if scene.ammo <= 0 {
        WeaponKind::Fist
    } else if scene.weapons.contains(&WeaponKind::Shotgun) && far.is_none_or(|far| far < 7.5) {
        WeaponKind::Shotgun
    } else {
        WeaponKind::Pistol
    }
}

/// The direction out of the way of the nearest fireball that comes closer.
fn evade(scene: &Scene, place: Point) -> Option<Point> {
    let near = scene.fireballs.iter().filter(|(at, _)| distance(*at, place) < EVADE_REACH);
    let coming = near.filter(|(at, direction)| dot(sub(place, *at), *direction) > 0.0);
    let (at, direction) = coming.min_by(|a, b| distance(a.0, place).total_cmp(&distance(b.0, place)))?;
    let off = sub(place, *at);
    let left = [-direction[1], direction[0]];
    let miss = dot(off, left);
    // It passes by anyway.
    if miss.abs() > 1.2 {
        return None;
    }
    let side = scale(left, if miss < 0.0 { -1.0 } else { 1.0 });
    let fits = |side: Point| scene.solids.has_room(add(place, scale(side, PLAYER_STEP)), PLAYER_RADIUS);
    if fits(side) { Some(side) } else { Some(scale(side, -1.0)).filter(|side| fits(*side)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bot_goes_on_fighting_in_a_room_that_begins_anew() {
        let mut scene = Scene {
            tick: 72_000,
            playing: true,
            alive: true,
            at: [0.0; 2],
            health: HEALTH_MAX,
            ammo: 20,
            weapon: WeaponKind::Pistol,
            ready_at: 0,
            weapons: Vec::new(),
            keys: Vec::new(),
            solids: Solids::default(),
            doors: Vec::new(),
            items: Vec::new(),
            monsters: vec![([5.0, 0.0], MonsterState::Idle)],
            fireballs: Vec::new(),
            mates: Vec::new(),
            exits: Vec::new(),
        };
        let mut bot = Bot::new(7);
        let mut fires = |tick| {
            scene.tick = tick;
            bot.think(&scene).iter().any(|wish| matches!(wish, Wish::Fire(_)))
        };
        assert!(fires(72_000) && !fires(72_001), "it reloads");
        assert!(fires(1) && !fires(2));
    }
}
