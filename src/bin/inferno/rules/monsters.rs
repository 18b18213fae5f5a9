//! Monsters think and walk: `monster_moved`, `monster_threw_fireball`.

use super::Obstacles;
use super::tuning::*;
use crate::components::*;
use crate::facts::{MonsterMoved, MonsterThrewFireball};
use crate::map::{Grid, Point, Solids, distance, facing, next_corner, sub, towards, unit};
use bevy_ecs::prelude::*;
use roomkeeper::prelude::{EntityId, EntityIndex, Happened, Recorder, RoomClock, Ttl};
use roomkeeper::protocol::RoomTick;

/// Side of a cell of the grid on which monsters find their way back, in level units.
const CELL: f32 = 0.5;
/// A place counts as reached within this.
const REACHED: f32 = 0.3;

/// The level as monsters know it, kept from tick to tick because a grid is costly. Not state: it is a function of the
/// rectangles, and is made again when they differ.
#[derive(Default)]
pub struct Ways {
    solids: Solids,
    grid: Option<Grid>,
}

impl Ways {
    fn update(&mut self, solids: &Solids) {
        if self.solids != *solids {
            *self = Ways { solids: solids.clone(), grid: None };
        }
    }

    /// Where to walk straight to on the way to `goal`; `from` itself when there is no way.
    fn corner(&mut self, from: Point, goal: Point) -> Point {
        if self.solids.line_of_walk(from, goal, MONSTER_RADIUS) {
            return goal;
        }
        let grid = self.grid.get_or_insert_with(|| Grid::new(&self.solids, CELL, MONSTER_RADIUS + 0.05));
        let way = grid.way(from, goal).unwrap_or_default();
        next_corner(&way, from, &self.solids, MONSTER_RADIUS).unwrap_or(from)
    }
}

/// What a monster decides: where it heads, in which state, after which patrol point.
type Plan = (Point, MonsterState, u32);

/// Lets each monster that is awake look about: it chases whom it sees, goes where it last saw somebody, and else
/// makes its round. Throws when it can.
pub fn think(
    clock: Res<RoomClock>,
    mut obstacles: Obstacles,
    mut ways: Local<Ways>,
    players: Query<(&EntityId, &Position, &Status), With<Avatar>>,
    monsters: Query<(
        &EntityId,
        &Monster,
        &MonsterState,
        &Position,
        &Patrol,
        Option<&Heading>,
        (Option<&PainUntil>, Option<&ReadyAt>),
        Option<&Visibility>,
    )>,
    mut record: Recorder,
) {
    ways.update(obstacles.now());
    let alive = players.iter().filter(|(.., status)| status.is(Status::ALIVE));
    let mut prey: Vec<(EntityId, Point)> = alive.map(|(id, at, _)| (*id, at.0)).collect();
    prey.sort_by_key(|(id, _)| *id);
    let awake = monsters.iter().filter(|(.., seen)| seen.is_none_or(|seen| seen.0));
    let mut awake: Vec<_> = awake.filter(|(_, _, state, ..)| **state != MonsterState::Dying).collect();
    awake.sort_by_key(|(id, ..)| **id);
    for (id, kind, state, at, patrol, heading, (pain, ready), _) in awake {
        if *state == MonsterState::Pain && pain.is_some_and(|pain| clock.tick() < pain.0) {
            continue;
        }
        let target = nearest_seen(&ways.solids, at.0, &prey);
        let heading = heading.map_or(at.0, |heading| heading.0);
        let plan = match target {
            // Out of pain a monster first comes to itself; it looks about in the next tick.
            _ if *state == MonsterState::Pain => Some((at.0, MonsterState::Idle, patrol.next)),
            Some((_, place)) => chase(*state, heading, place, patrol.next),
            None => make_round(&mut ways, *state, at.0, heading, patrol),
        };
        if let Some((to, state, patrol_next)) = plan {
            record.fact(MonsterMoved { monster: *id, from: at.0, to, state, patrol_next });
        }
        let is_ready = ready.is_none_or(|ready| ready.0 <= clock.tick()) && *state == MonsterState::Chase;
        if let Some((target, place)) = target.filter(|(_, place)| is_ready && distance(at.0, *place) <= THROW_REACH) {
            throw(&mut record, *id, kind.0, at.0, target, place);
        }
    }
}

fn nearest_seen(solids: &Solids, at: Point, prey: &[(EntityId, Point)]) -> Option<(EntityId, Point)> {
    let near = prey.iter().filter(|(_, place)| distance(at, *place) <= MONSTER_SIGHT);
    let seen = near.filter(|(_, place)| solids.line_of_sight(at, *place));
    seen.min_by(|a, b| distance(a.1, at).total_cmp(&distance(b.1, at))).copied()
}

/// Turns towards a player, unless it already heads nearly there.
fn chase(state: MonsterState, heading: Point, place: Point, patrol_next: u32) -> Option<Plan> {
    let turns = state != MonsterState::Chase || distance(heading, place) > RETHINK;
    turns.then_some((place, MonsterState::Chase, patrol_next))
}

/// Goes on where nobody is to be seen.
fn make_round(ways: &mut Ways, state: MonsterState, at: Point, heading: Point, patrol: &Patrol) -> Option<Plan> {
    let is_there = distance(at, heading) <= REACHED;
    let is_blocked = !ways.solids.line_of_walk(at, heading, MONSTER_RADIUS);
    let nth = |next: u32| patrol.points.get(next as usize % patrol.points.len().max(1)).copied();
    match state {
        MonsterState::Chase if is_there || is_blocked => Some((at, MonsterState::Idle, patrol.next)),
        MonsterState::Chase | MonsterState::Pain | MonsterState::Dying => None,
        MonsterState::Idle | MonsterState::Patrol => {
            if state == MonsterState::Patrol && !is_there && !is_blocked {
                return None;
            }
            let goal = nth(patrol.next)?;
            let next = if distance(at, goal) <= REACHED { patrol.next.wrapping_add(1) } else { patrol.next };
            let to = ways.corner(at, nth(next)?);
            let plan = (to, MonsterState::Patrol, next);
            // A monster with a single patrol point stands there; it does not say so every tick.
            let stays = distance(at, to) <= REACHED;
            (!(stays && state == MonsterState::Idle) && (to, state, next) != (heading, MonsterState::Patrol, patrol.next))
                .then_some(if stays { (at, MonsterState::Idle, next) } else { plan })
        }
    }
}

fn throw(record: &mut Recorder, monster: EntityId, kind: MonsterKind, from: Point, target: EntityId, place: Point) {
    let Some(direction) = unit(sub(place, from)) else { return };
    let (damage, ready_after_ticks) = throws(kind);
    let fireball = record.new_id();
    record.fact(MonsterThrewFireball { monster, fireball, target, from, direction, damage, ready_after_ticks });
}

/// Moves monsters towards where they head, along walls. A monster that chases keeps its distance.
pub fn walk(
    mut obstacles: Obstacles,
    players: Query<(&Position, &Status), (With<Avatar>, Without<Monster>)>,
    mut monsters: Query<(&MonsterState, &Heading, &mut Position, &mut Rotation, Option<&Visibility>), With<Monster>>,
) {
    let solids = obstacles.now();
    let is_near = |at: Point| {
        let mut alive = players.iter().filter(|(_, status)| status.is(Status::ALIVE));
        alive.any(|(place, _)| distance(place.0, at) < MONSTER_HOLD && solids.line_of_sight(place.0, at))
    };
    for (state, heading, mut at, mut rotation, seen) in &mut monsters {
        let goes = match state {
            MonsterState::Patrol => true,
            MonsterState::Chase => !is_near(at.0),
            MonsterState::Idle | MonsterState::Pain | MonsterState::Dying => false,
        };
        let step = towards(at.0, heading.0, MONSTER_STEP);
        if !goes || seen.is_some_and(|seen| !seen.0) || step == [0.0; 2] {
            continue;
        }
        let to = solids.slide(at.0, step, MONSTER_RADIUS);
        at.set_if_neq(Position(to));
        rotation.set_if_neq(Rotation(facing(step)));
    }
}

/// Applies `monster_moved`.
pub fn head(
    moved: On<Happened<MonsterMoved>>,
    index: Res<EntityIndex>,
    mut monsters: Query<(&mut MonsterState, &mut Patrol)>,
    mut commands: Commands,
) {
    let Some(monster) = index.entity(moved.monster) else { return };
    if let Ok((mut state, mut patrol)) = monsters.get_mut(monster) {
        state.set_if_neq(moved.state);
        if patrol.next != moved.patrol_next {
            patrol.next = moved.patrol_next;
        }
    }
    commands.entity(monster).insert(Heading(moved.to));
}

/// Applies `monster_threw_fireball`.
pub fn spawn_fireball(threw: On<Happened<MonsterThrewFireball>>, index: Res<EntityIndex>, mut commands: Commands) {
    let tick: RoomTick = threw.tick;
    if let Some(monster) = index.entity(threw.monster) {
        commands.entity(monster).insert(ReadyAt(later(tick, threw.ready_after_ticks)));
    }
    commands.spawn((
        threw.fireball,
        (Fireball { damage: threw.damage, thrown_by: threw.monster }, FireballState::Flying),
        (Position(threw.from), Rotation(facing(threw.direction))),
        (Direction(threw.direction), Origin { at: threw.from, since: tick }),
        Ttl::millis(FIREBALL_LIFE_MILLIS),
    ));
}
