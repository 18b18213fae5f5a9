//! Bullets and fireballs in flight, hits and deaths: `fire`, `bullet_fired`, `fireball_moved`,
//! `player_hit_by_fireball`, `monster_hit_by_bullet`, `monster_died`, `player_killed`.
//!
//! A projectile that ends at a wall or out of range is motion, not a fact.

use super::tuning::*;
use super::{Actors, Obstacles};
use crate::commands::Fire;
use crate::components::*;
use crate::facts::*;
use crate::map::{Point, add, distance, facing, scale, segment_meets_circle, sub, turned, unit};
use bevy_ecs::prelude::*;
use roomkeeper::prelude::{Decision, EntityId, EntityIndex, Happened, Issued, OwnedBy, Patch, Recorder, RoomClock, Ttl, accept, reject};
use roomkeeper::protocol::{Owns, RoomTick, SeenTick};
use roomkeeper::room::Rewind;

/// Decides `fire`.
pub fn decide_fire(asked: In<Issued<Fire>>, actors: Actors, players: Query<(&Position, &Weapon, &Ammo, &ReadyAt)>) -> Decision {
    actors.check(asked.author)?;
    let (at, weapon, ammo, ready) = players.get(asked.author)?;
    let Some(direction) = unit(asked.aim) else { return reject("bad_aim") };
    if asked.tick < ready.0 {
        reject("reloading")
    } else if ammo.0 < discharge(weapon.0).rounds {
        reject("no_ammo")
    } else {
        let behind = SeenTick::of(asked.tick).0.saturating_sub(asked.seen.0) as u32;
        accept(BulletFired { player: asked.author_id, bullet: asked.new_id(0), weapon: weapon.0, from: at.0, direction, behind })
    }
}

/// Applies `bullet_fired`: a bullet more, a round less.
pub fn spawn_bullet(
    fired: On<Happened<BulletFired>>,
    index: Res<EntityIndex>,
    mut ammo: Patch<Ammo>,
    mut players: Query<(&mut ReadyAt, &mut Rotation)>,
    mut commands: Commands,
) {
    let Some(player) = index.entity(fired.player) else { return };
    let weapon = discharge(fired.weapon);
    if weapon.rounds > 0 {
        ammo.dec_min(player, weapon.rounds, 0);
    }
    if let Ok((mut ready, mut rotation)) = players.get_mut(player) {
        ready.0 = later(fired.tick, weapon.reload_ticks);
        rotation.set_if_neq(Rotation(facing(fired.direction)));
    }
    commands.spawn((
        fired.bullet,
        (Bullet { damage: weapon.damage, fired_by: fired.player }, BulletState::Flying, Hindsight(fired.behind)),
        (Position(fired.from), Direction(fired.direction), Origin { at: fired.from, since: fired.tick }),
        Ttl::millis(weapon.flight_ticks * TICK_MILLIS),
    ));
}

/// Where a projectile is at `tick`. Worked out from its origin, not step by step: a client that only knows the origin
/// gets the same number.
pub fn in_flight(origin: &Origin, direction: &Direction, step: f32, tick: RoomTick) -> Point {
    add(origin.at, scale(direction.0, step * tick.0.saturating_sub(origin.since.0) as f32))
}

/// Where a projectile ends that flies from one place to another.
struct Strike {
    at: Point,
    /// Who was struck; nobody when it was a wall.
    body: Option<EntityId>,
}

/// The first thing in a projectile's way; of two bodies equally far, the one with the smaller id.
fn strike(from: Point, to: Point, wall: Option<f32>, bodies: &[(EntityId, Point)], radius: f32) -> Option<Strike> {
    let hits = bodies.iter().filter_map(|(id, at)| Some((segment_meets_circle(from, to, *at, radius)?, *id)));
    let first = hits.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let at = |t: f32| add(from, scale(sub(to, from), t));
    match (first, wall) {
        (Some((t, id)), wall) if wall.is_none_or(|wall| t <= wall) => Some(Strike { at: at(t), body: Some(id) }),
        (_, Some(wall)) => Some(Strike { at: at(wall), body: None }),
        _ => None,
    }
}

/// Moves fireballs and records whom they strike.
pub fn fly_fireballs(
    clock: Res<RoomClock>,
    mut obstacles: Obstacles,
    players: Query<(&EntityId, &Position, &Status, &Immunity), (With<Avatar>, Without<Fireball>)>,
    mut balls: Query<(Entity, &EntityId, &Fireball, &mut FireballState, &mut Position, &Direction, &Origin)>,
    mut record: Recorder,
    mut commands: Commands,
) {
    if balls.is_empty() {
        return;
    }
    let solids = obstacles.now();
    let alive = players.iter().filter(|(_, _, status, _)| status.is(Status::ALIVE));
    let bodies: Vec<_> = alive.map(|(id, at, ..)| (*id, at.0)).collect();
    let is_immune = |who: EntityId| players.iter().any(|(id, .., shield)| *id == who && clock.tick() < shield.until_tick);
    let mut order: Vec<_> = balls.iter().map(|(entity, id, ..)| (*id, entity)).collect();
    order.sort_unstable();
    for (id, entity) in order {
        let Ok((_, _, ball, mut state, mut at, direction, origin)) = balls.get_mut(entity) else { continue };
        if *state != FireballState::Flying {
            continue;
        }
        let to = in_flight(origin, direction, FIREBALL_STEP, clock.tick());
        let struck = strike(at.0, to, solids.first_hit(at.0, to), &bodies, PLAYER_RADIUS + FIREBALL_RADIUS);
        at.set_if_neq(Position(struck.as_ref().map_or(to, |strike| strike.at)));
        match struck.map(|strike| strike.body) {
            Some(Some(player)) => {
                let damage = if is_immune(player) { 0 } else { ball.damage };
                record.fact(PlayerHitByFireball { player, fireball: id, thrown_by: ball.thrown_by, damage });
            }
            Some(None) => {
                *state = FireballState::Hit;
                commands.entity(entity).insert(Ttl::millis(STRUCK_MILLIS));
            }
            None => {}
        }
    }
}

/// Lets fireballs bend towards the nearest player they see, a little and now and then.
pub fn turn_fireballs(
    clock: Res<RoomClock>,
    mut obstacles: Obstacles,
    balls: Query<(&EntityId, &FireballState, &Position, &Direction, &Origin)>,
    players: Query<(&EntityId, &Position, &Status), With<Avatar>>,
    mut record: Recorder,
) {
    let due = |since: RoomTick| {
        let flown = clock.tick().0.saturating_sub(since.0);
        flown > 0 && flown.is_multiple_of(FIREBALL_TURN_EVERY_TICKS)
    };
    let flying = balls.iter().filter(|(_, state, .., origin)| **state == FireballState::Flying && due(origin.since));
    let mut flying: Vec<_> = flying.collect();
    if flying.is_empty() {
        return;
    }
    flying.sort_by_key(|(id, ..)| **id);
    let solids = obstacles.now();
    for (id, _, at, direction, _) in flying {
        let alive = players.iter().filter(|(_, _, status)| status.is(Status::ALIVE));
        let seen = alive.filter(|(_, player, _)| solids.line_of_sight(at.0, player.0));
        let prey = seen.min_by(|a, b| distance(a.1.0, at.0).total_cmp(&distance(b.1.0, at.0)).then(a.0.cmp(b.0)));
        let Some(wanted) = prey.and_then(|(_, player, _)| unit(sub(player.0, at.0))) else { continue };
        let new = turned(direction.0, wanted, FIREBALL_TURN);
        if new != direction.0 {
            record.fact(FireballMoved { fireball: *id, at: at.0, direction: new });
        }
    }
}

/// Applies `fireball_moved`.
pub fn bend_fireball(
    moved: On<Happened<FireballMoved>>,
    index: Res<EntityIndex>,
    mut balls: Query<(&mut Position, &mut Direction, &mut Origin)>,
) {
    let Some(ball) = index.entity(moved.fireball) else { return };
    let Ok((mut at, mut direction, mut origin)) = balls.get_mut(ball) else { return };
    at.set_if_neq(Position(moved.at));
    *direction = Direction(moved.direction);
    *origin = Origin { at: moved.at, since: moved.tick };
}

/// Moves bullets and records which monsters they strike. A bullet flies through the world that its player saw: all its flight long it is as far
/// behind. Walls and doors are where they are.
pub fn fly_bullets(
    clock: Res<RoomClock>,
    mut obstacles: Obstacles,
    past: Rewind<Position>,
    monsters: Query<(Entity, &EntityId, &Position, &MonsterState, Option<&Visibility>), (With<Monster>, Without<Bullet>)>,
    mut bullets: Query<(Entity, &EntityId, (&Bullet, &Hindsight), &mut BulletState, &mut Position, &Direction, &Origin)>,
    mut record: Recorder,
    mut commands: Commands,
) {
    if bullets.is_empty() {
        return;
    }
    let solids = obstacles.now();
    let awake = monsters.iter().filter(|(.., state, seen)| **state != MonsterState::Dying && seen.is_none_or(|seen| seen.0));
    let awake: Vec<_> = awake.map(|(entity, id, at, ..)| (entity, *id, at)).collect();
    let mut order: Vec<_> = bullets.iter().map(|(entity, id, ..)| (*id, entity)).collect();
    order.sort_unstable();
    for (id, entity) in order {
        let Ok((_, _, (bullet, hindsight), mut state, mut at, direction, origin)) = bullets.get_mut(entity) else { continue };
        if *state != BulletState::Flying {
            continue;
        }
        let to = in_flight(origin, direction, BULLET_STEP, clock.tick());
        let moment = SeenTick::of(clock.tick()).back(u64::from(hindsight.0));
        let then = |(body, id, now): &(Entity, EntityId, &Position)| Some((*id, past.at(*body, moment, now)?.0));
        let bodies: Vec<_> = awake.iter().filter_map(then).collect();
        let struck = strike(at.0, to, solids.first_hit(at.0, to), &bodies, MONSTER_RADIUS);
        at.set_if_neq(Position(struck.as_ref().map_or(to, |strike| strike.at)));
        match struck.map(|strike| strike.body) {
            Some(Some(monster)) => {
                let (damage, fired_by) = (bullet.damage, bullet.fired_by);
                record.fact(MonsterHitByBullet { monster, bullet: id, fired_by, damage });
            }
            Some(None) => {
                *state = BulletState::Hit;
                commands.entity(entity).insert(Ttl::millis(STRUCK_MILLIS));
            }
            None => {}
        }
    }
}

/// Applies `player_hit_by_fireball`: the fireball bursts, the player loses health.
pub fn hurt_player(
    hit: On<Happened<PlayerHitByFireball>>,
    index: Res<EntityIndex>,
    mut balls: Query<&mut FireballState>,
    mut health: Patch<Health>,
    mut commands: Commands,
) {
    if let Some(ball) = index.entity(hit.fireball) {
        if let Ok(mut state) = balls.get_mut(ball) {
            *state = FireballState::Hit;
        }
        commands.entity(ball).insert(Ttl::millis(STRUCK_MILLIS));
    }
    if let Some(player) = index.entity(hit.player).filter(|_| hit.damage > 0) {
        health.dec_min(player, hit.damage, 0);
    }
}

/// Applies `monster_hit_by_bullet`: the bullet is spent, the monster loses health and is in pain.
pub fn hurt_monster(
    hit: On<Happened<MonsterHitByBullet>>,
    index: Res<EntityIndex>,
    mut bullets: Query<&mut BulletState>,
    mut monsters: Query<&mut MonsterState>,
    mut health: Patch<Health>,
    mut commands: Commands,
) {
    if let Some(bullet) = index.entity(hit.bullet) {
        if let Ok(mut state) = bullets.get_mut(bullet) {
            *state = BulletState::Hit;
        }
        commands.entity(bullet).insert(Ttl::millis(STRUCK_MILLIS));
    }
    let Some(monster) = index.entity(hit.monster) else { return };
    health.dec_min(monster, hit.damage, 0);
    if let Ok(mut state) = monsters.get_mut(monster) {
        state.set_if_neq(MonsterState::Pain);
    }
    commands.entity(monster).insert(PainUntil(later(hit.tick, PAIN_TICKS)));
}

/// Records the death of monsters without health, once each, because of what took the last of it.
pub fn count_dead_monsters(monsters: Query<(&EntityId, &Monster, Ref<Health>, &MonsterState)>, mut record: Recorder) {
    let mut dead: Vec<_> = monsters.iter().filter(|(.., health, state)| health.0 <= 0 && **state != MonsterState::Dying).collect();
    dead.sort_by_key(|(id, ..)| **id);
    for (id, kind, health, _) in dead {
        record.because(&health).fact(MonsterDied { monster: *id, kind: kind.0 });
    }
}

/// Records the death of players without health, once each, because of what took the last of it.
pub fn count_dead_players(players: Query<(&EntityId, &Position, Ref<Health>, &Status), With<Avatar>>, mut record: Recorder) {
    let mut dead: Vec<_> = players.iter().filter(|(.., health, status)| health.0 <= 0 && status.is(Status::ALIVE)).collect();
    dead.sort_by_key(|(id, ..)| **id);
    for (id, at, health, _) in dead {
        record.because(&health).fact(PlayerKilled { player: *id, at: at.0 });
    }
}

/// Applies `monster_died`: it falls, and is gone two seconds later.
pub fn fell_monster(
    died: On<Happened<MonsterDied>>,
    index: Res<EntityIndex>,
    mut monsters: Query<&mut MonsterState>,
    mut commands: Commands,
) {
    let Some(monster) = index.entity(died.monster) else { return };
    if let Ok(mut state) = monsters.get_mut(monster) {
        *state = MonsterState::Dying;
    }
    commands.entity(monster).insert(Ttl::millis(DYING_MILLIS));
}

/// Applies `player_killed`: the player acts no more, and what was carried lies on the floor.
pub fn fell_player(
    killed: On<Happened<PlayerKilled>>,
    index: Res<EntityIndex>,
    mut players: Query<(&mut Status, Option<&Owns>), With<Avatar>>,
    mut items: Query<(&mut Position, &mut Visibility), (With<OwnedBy>, Without<Avatar>)>,
    mut commands: Commands,
) {
    let Some(player) = index.entity(killed.player) else { return };
    let Ok((mut status, owns)) = players.get_mut(player) else { return };
    *status = Status(Status::DIED.into());
    drop_belongings(killed.at, owns, &mut items, &mut commands);
}

/// Lays what somebody owns on the floor: a key that vanished with its bearer would lock everybody in.
pub fn drop_belongings(
    at: Point,
    owns: Option<&Owns>,
    items: &mut Query<(&mut Position, &mut Visibility), (With<OwnedBy>, Without<Avatar>)>,
    commands: &mut Commands,
) {
    for item in owns.into_iter().flat_map(Owns::iter) {
        if let Ok((mut lies, mut seen)) = items.get_mut(item) {
            lies.set_if_neq(Position(at));
            seen.set_if_neq(Visibility(true));
        }
        commands.entity(item).remove::<OwnedBy>();
    }
}
