//! What a player sees: the part of a client's world that decides what to do.

use crate::components::*;
use crate::map::{Point, Rect, Solids};
use bevy_ecs::prelude::*;
use roomkeeper::client::Shown;
use roomkeeper::prelude::{EntityId, OwnedBy};

/// The level as one player sees it.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The room's tick as far as the client knows.
    pub tick: u32,
    /// Whether the level goes on.
    pub playing: bool,
    /// Whether this player is alive.
    pub alive: bool,
    /// Where this player is.
    pub at: Point,
    /// This player's health.
    pub health: i32,
    /// This player's rounds.
    pub ammo: i32,
    /// The weapon in hand.
    pub weapon: WeaponKind,
    /// The tick from which this player may fire.
    pub ready_at: u32,
    /// Weapons found and carried.
    pub weapons: Vec<WeaponKind>,
    /// Keys carried.
    pub keys: Vec<Colour>,
    /// Walls and closed doors.
    pub solids: Solids,
    /// All doors.
    pub doors: Vec<DoorSeen>,
    /// Items that lie about.
    pub items: Vec<ThingSeen>,
    /// Monsters and what they are up to.
    pub monsters: Vec<(Point, MonsterState)>,
    /// Fireballs in flight, with their direction.
    pub fireballs: Vec<(Point, Point)>,
    /// The other players who are alive, those with a key first.
    pub mates: Vec<Point>,
    /// The ways out.
    pub exits: Vec<Point>,
}

/// A door.
#[derive(Clone, Copy, Debug)]
pub struct DoorSeen {
    /// Its id.
    pub id: EntityId,
    /// Where it is.
    pub rect: Rect,
    /// Whether it is in the way.
    pub state: DoorState,
    /// The key it wants.
    pub key: Option<Colour>,
    /// Whether it obeys only its timer.
    pub on_a_timer: bool,
}

/// An item.
#[derive(Clone, Copy, Debug)]
pub struct ThingSeen {
    /// Where it lies.
    pub at: Point,
    /// What it is.
    pub kind: ItemKind,
    /// The weapon it is, if it is one.
    pub weapon: Option<WeaponKind>,
}

impl Scene {
    /// Reads the scene out of a world; `None` before the player's own entity is there.
    pub fn read(world: &mut World, me: EntityId, tick: u32) -> Option<Scene> {
        let mut scene = read_player(world, me, tick)?;
        read_level(world, &mut scene);
        read_creatures(world, me, &mut scene);
        Some(scene)
    }
}

fn read_player(world: &mut World, me: EntityId, tick: u32) -> Option<Scene> {
    let mut players = world.query::<(Entity, &EntityId, &Position, &Health, &Ammo, &Weapon, &ReadyAt, &Status)>();
    let (entity, _, at, health, ammo, weapon, ready, status) = players.iter(world).find(|(_, id, ..)| **id == me)?;
    let mut scene = Scene {
        tick,
        playing: false,
        alive: status.is(Status::ALIVE),
        at: at.0,
        health: health.0,
        ammo: ammo.0,
        weapon: weapon.0,
        ready_at: ready.0.0,
        weapons: Vec::new(),
        keys: Vec::new(),
        solids: Solids::default(),
        doors: Vec::new(),
        items: Vec::new(),
        monsters: Vec::new(),
        fireballs: Vec::new(),
        mates: Vec::new(),
        exits: Vec::new(),
    };
    let mut owned = world.query::<(&OwnedBy, Option<&Weapon>, Option<&Key>)>();
    for (_, weapon, key) in owned.iter(world).filter(|(owner, ..)| owner.0 == entity) {
        scene.weapons.extend(weapon.map(|weapon| weapon.0));
        scene.keys.extend(key.map(|key| key.0));
    }
    Some(scene)
}

fn read_level(world: &mut World, scene: &mut Scene) {
    let mut games = world.query_filtered::<&Status, With<Tag>>();
    scene.playing = games.iter(world).any(|status| status.is(Status::PLAYING));
    let mut walls = world.query::<(&Position, &Wall)>();
    let mut rects: Vec<Rect> = walls.iter(world).map(|(at, wall)| Rect { centre: at.0, half: wall.half }).collect();
    let mut doors = world.query::<(&EntityId, &Position, &Door, &DoorState, Option<&Lock>, Has<DoorTimer>)>();
    let seen = doors.iter(world).map(|(id, at, door, state, lock, on_a_timer)| DoorSeen {
        id: *id,
        rect: Rect { centre: at.0, half: door.half },
        state: *state,
        key: lock.map(|lock| lock.key),
        on_a_timer,
    });
    scene.doors = seen.collect();
    scene.doors.sort_by_key(|door| door.id);
    rects.extend(scene.doors.iter().filter(|door| door.state == DoorState::Closed).map(|door| door.rect));
    scene.solids = Solids::new(rects);
    let mut items = world.query::<(&EntityId, &Position, &Item, &Visibility, Option<&Weapon>)>();
    let mut lying: Vec<_> = items.iter(world).filter(|(_, _, _, seen, _)| seen.0).collect();
    lying.sort_by_key(|(id, ..)| **id);
    let seen =
        lying.into_iter().map(|(_, at, item, _, weapon)| ThingSeen { at: at.0, kind: item.kind, weapon: weapon.map(|weapon| weapon.0) });
    scene.items = seen.collect();
    let mut exits = world.query::<(&Position, &Exit)>();
    scene.exits = exits.iter(world).map(|(at, _)| at.0).collect();
}

fn read_creatures(world: &mut World, me: EntityId, scene: &mut Scene) {
    let mut monsters = world.query::<(&EntityId, &Position, Option<&Shown<Position>>, &MonsterState, &Visibility)>();
    let mut seen: Vec<_> = monsters.iter(world).filter(|(.., seen)| seen.0).collect();
    seen.sort_by_key(|(id, ..)| **id);
    // Who looks at a screen aims at what is there: the room looks back to that.
    scene.monsters = seen.into_iter().map(|(_, at, shown, state, _)| (shown.map_or(at.0, |shown| shown.0.0), *state)).collect();
    let mut balls = world.query::<(&EntityId, &Position, &Direction, &FireballState)>();
    let mut flying: Vec<_> = balls.iter(world).filter(|(.., state)| **state == FireballState::Flying).collect();
    flying.sort_by_key(|(id, ..)| **id);
    scene.fireballs = flying.into_iter().map(|(_, at, direction, _)| (at.0, direction.0)).collect();
    let mut keys = world.query_filtered::<&OwnedBy, With<Key>>();
    let bearers: Vec<Entity> = keys.iter(world).map(|owner| owner.0).collect();
    let mut players = world.query_filtered::<(Entity, &EntityId, &Position, &Status), With<Avatar>>();
    let others = players.iter(world).filter(|(_, id, _, status)| **id != me && status.is(Status::ALIVE));
    let mut mates: Vec<_> = others.map(|(entity, id, at, _)| (!bearers.contains(&entity), *id, at.0)).collect();
    mates.sort_by_key(|(bears_none, id, _)| (*bears_none, *id));
    scene.mates = mates.into_iter().map(|(.., at)| at).collect();
}
