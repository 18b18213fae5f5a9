//! The rules of the game.
//!
//! Job: `decide_*` turns a command into facts or a rejection and changes nothing; systems record facts from what they
//! see; one observer per fact kind applies it. Invariant: an answer depends only on components, the room's tick and
//! the room's own ids, and never on the order in which a query yields its entities: whoever chooses among entities
//! sorts by [`EntityId`] first.
//!
//! May use: components, commands, facts, map. Never: clocks, sockets, the bots.

pub mod combat;
pub mod doors;
pub mod items;
pub mod join;
pub mod level;
pub mod monsters;
pub mod movement;
pub mod tuning;

use crate::components::{Bullet, Door, DoorState, Fireball, Monster, Position, Status, Tag, Wall, positions};
use crate::map::{KnownSolids, Rect, Solids};
use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use bevy_ecs::schedule::ScheduleConfigs;
use bevy_ecs::system::{ScheduleSystem, SystemParam};
use roomkeeper::prelude::RulesAppExt;
use roomkeeper::protocol::Rejection;
use roomkeeper::room::{PredictedUpdate, RewindAppExt};

/// The rules, as the server adds them.
pub fn add(app: &mut App) {
    decide(app);
    apply(app);
    app.rewindable(positions()).add_systems(FixedUpdate, simulate());
    // What a client that predicts lets happen between two commands of its player: monsters and doors are not its own.
    app.add_systems(PredictedUpdate, combat::fly_bullets.run_if(level::is_on));
}

/// The handlers of the commands, one for each kind.
fn decide(app: &mut App) {
    app.decide(movement::decide_move).decide(combat::decide_fire).decide(doors::decide_open_door).decide(items::decide_switch_weapon);
}

/// The observers that apply facts, one for each kind.
fn apply(app: &mut App) {
    app.apply(join::spawn_player).apply(join::remove_player).apply(movement::place_player);
    app.apply(combat::spawn_bullet).apply(combat::hurt_player).apply(combat::hurt_monster);
    app.apply(combat::fell_monster).apply(combat::fell_player).apply(combat::bend_fireball);
    app.apply(doors::open).apply(doors::close);
    app.apply(items::own_weapon).apply(items::own_key).apply(items::heal).apply(items::load);
    app.apply(items::shield).apply(items::take_in_hand);
    app.apply(monsters::head).apply(monsters::spawn_fireball);
    app.apply(level::win).apply(level::lose);
}

/// Everything that moves or judges, in the order of a tick. One chain, because each step reads what the one before
/// wrote: monsters see doors as they are now, the dead are counted after all hits, the level is judged last.
fn simulate() -> ScheduleConfigs<ScheduleSystem> {
    (
        doors::turn_timed_doors,
        monsters::think,
        monsters::walk,
        combat::fly_fireballs,
        combat::turn_fireballs,
        combat::fly_bullets,
        combat::count_dead_monsters,
        combat::count_dead_players,
        items::collect,
        level::judge,
    )
        .chain()
        .run_if(level::is_on)
}

/// What is in the way at the moment: walls and closed doors.
///
/// Gathered anew each time it is asked for: a copy kept in a resource would be missing in a room that was recovered, and
/// stale between a door's fact and the next tick. They are sorted only where they are not those that the same system met last.
#[derive(SystemParam)]
pub struct Obstacles<'w, 's> {
    walls: Query<'w, 's, (&'static Position, &'static Wall), Fixed>,
    doors: Query<'w, 's, (&'static Position, &'static Door, &'static DoorState), Fixed>,
    known: Local<'s, KnownSolids>,
}

/// Nothing that moves: so a system may ask what is in the way while it moves things.
type Fixed = (Without<Monster>, Without<Bullet>, Without<Fireball>);

impl Obstacles<'_, '_> {
    /// The rectangles of this moment.
    pub fn now(&mut self) -> &Solids {
        let walls = self.walls.iter().map(|(at, wall)| Rect { centre: at.0, half: wall.half });
        let closed = self.doors.iter().filter(|(_, _, state)| **state == DoorState::Closed);
        let doors = closed.map(|(at, door, _)| Rect { centre: at.0, half: door.half });
        self.known.of(walls.chain(doors))
    }
}

/// Whether somebody may act at all.
#[derive(SystemParam)]
pub struct Actors<'w, 's> {
    players: Query<'w, 's, &'static Status, Without<Tag>>,
    games: Query<'w, 's, &'static Status, With<Tag>>,
}

impl Actors<'_, '_> {
    /// Refuses the dead, and everybody when the level is over.
    ///
    /// # Errors
    /// `dead` or `level_over`.
    pub fn check(&self, author: Entity) -> Result<(), Rejection> {
        if !self.games.iter().any(|status| status.is(Status::PLAYING)) {
            return Err(Rejection::new("level_over"));
        }
        if !self.players.get(author)?.is(Status::ALIVE) {
            return Err(Rejection::new("dead"));
        }
        Ok(())
    }
}
