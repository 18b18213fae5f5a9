//! What a player sees: the part of a client's world that decides what to do.

use crate::components::*;
use crate::map::{KnownSolids, Point, Rect, Solids};
use bevy_ecs::prelude::*;
use bevy_ecs::system::SystemParam;
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
    /// Reads the scene out of a world; `None` before the player's own entity is there. Of the dead, and once the level is over, only the player.
    pub fn read(world: &mut World, me: EntityId, tick: u32) -> Option<Scene> {
        // As a system, so that its queries are made once for a world.
        world.run_system_cached_with(read, (me, tick)).ok().flatten()
    }
}

type Myself<'a> = (Entity, &'a EntityId, &'a Position, &'a Health, &'a Ammo, &'a Weapon, &'a ReadyAt, &'a Status);
type DoorParts<'a> = (&'a EntityId, &'a Position, &'a Door, &'a DoorState, Option<&'a Lock>, Has<DoorTimer>);
type MonsterParts<'a> = (&'a EntityId, &'a Position, Option<&'a Shown<Position>>, &'a MonsterState, &'a Visibility);

/// Who plays, and what they carry.
#[derive(SystemParam)]
struct Players<'w, 's> {
    all: Query<'w, 's, Myself<'static>>,
    others: Query<'w, 's, (Entity, &'static EntityId, &'static Position, &'static Status), With<Avatar>>,
    owned: Query<'w, 's, (&'static OwnedBy, Option<&'static Weapon>, Option<&'static Key>)>,
    keys: Query<'w, 's, &'static OwnedBy, With<Key>>,
}

/// What the level consists of.
#[derive(SystemParam)]
struct Rooms<'w, 's> {
    games: Query<'w, 's, &'static Status, With<Tag>>,
    walls: Query<'w, 's, (&'static Position, &'static Wall)>,
    doors: Query<'w, 's, DoorParts<'static>>,
    items: Query<'w, 's, (&'static EntityId, &'static Position, &'static Item, &'static Visibility, Option<&'static Weapon>)>,
    exits: Query<'w, 's, (&'static Position, &'static Exit)>,
    known: Local<'s, KnownSolids>,
}

/// What moves by itself.
#[derive(SystemParam)]
struct Creatures<'w, 's> {
    monsters: Query<'w, 's, MonsterParts<'static>>,
    balls: Query<'w, 's, (&'static EntityId, &'static Position, &'static Direction, &'static FireballState)>,
}

fn read(In((me, tick)): In<(EntityId, u32)>, players: Players, mut rooms: Rooms, creatures: Creatures) -> Option<Scene> {
    let mut scene = read_player(&players, me, tick)?;
    scene.playing = rooms.games.iter().any(|status| status.is(Status::PLAYING));
    if !scene.alive || !scene.playing {
        // Who can do nothing need not look about.
        return Some(scene);
    }
    read_level(&mut rooms, &mut scene);
    read_creatures(&creatures, &mut scene);
    scene.mates = read_mates(&players, me);
    Some(scene)
}

fn read_player(players: &Players, me: EntityId, tick: u32) -> Option<Scene> {
    let (entity, _, at, health, ammo, weapon, ready, status) = players.all.iter().find(|(_, id, ..)| **id == me)?;
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
    for (_, weapon, key) in players.owned.iter().filter(|(owner, ..)| owner.0 == entity) {
        scene.weapons.extend(weapon.map(|weapon| weapon.0));
        scene.keys.extend(key.map(|key| key.0));
    }
    Some(scene)
}

fn read_level(rooms: &mut Rooms, scene: &mut Scene) {
    let seen = rooms.doors.iter().map(|(id, at, door, state, lock, on_a_timer)| DoorSeen {
        id: *id,
        rect: Rect { centre: at.0, half: door.half },
        state: *state,
        key: lock.map(|lock| lock.key),
        on_a_timer,
    });
    scene.doors = seen.collect();
    scene.doors.sort_by_key(|door| door.id);
    let walls = rooms.walls.iter().map(|(at, wall)| Rect { centre: at.0, half: wall.half });
    let closed = scene.doors.iter().filter(|door| door.state == DoorState::Closed).map(|door| door.rect);
    scene.solids = rooms.known.of(walls.chain(closed)).clone();
    let mut lying: Vec<_> = rooms.items.iter().filter(|(_, _, _, seen, _)| seen.0).collect();
    lying.sort_by_key(|(id, ..)| **id);
    let seen =
        lying.into_iter().map(|(_, at, item, _, weapon)| ThingSeen { at: at.0, kind: item.kind, weapon: weapon.map(|weapon| weapon.0) });
    scene.items = seen.collect();
    scene.exits = rooms.exits.iter().map(|(at, _)| at.0).collect();
}

fn read_creatures(creatures: &Creatures, scene: &mut Scene) {
    let mut seen: Vec<_> = creatures.monsters.iter().filter(|(.., seen)| seen.0).collect();
    seen.sort_by_key(|(id, ..)| **id);
    // Who looks at a screen aims at what is there: the room looks back to that.
    scene.monsters = seen.into_iter().map(|(_, at, shown, state, _)| (shown.map_or(at.0, |shown| shown.0.0), *state)).collect();
    let mut flying: Vec<_> = creatures.balls.iter().filter(|(.., state)| **state == FireballState::Flying).collect();
    flying.sort_by_key(|(id, ..)| **id);
    scene.fireballs = flying.into_iter().map(|(_, at, direction, _)| (at.0, direction.0)).collect();
}

fn read_mates(players: &Players, me: EntityId) -> Vec<Point> {
    let bearers: Vec<Entity> = players.keys.iter().map(|owner| owner.0).collect();
    let others = players.others.iter().filter(|(_, id, _, status)| **id != me && status.is(Status::ALIVE));
    let mut mates: Vec<_> = others.map(|(entity, id, at, _)| (!bearers.contains(&entity), *id, at.0)).collect();
    mates.sort_by_key(|(bears_none, id, _)| (*bears_none, *id));
    mates.into_iter().map(|(.., at)| at).collect()
}
