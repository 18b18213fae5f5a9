//! Doors: `open_door`, `door_opened`, `door_closed`.

use super::tuning::{DOOR_REACH, MONSTER_RADIUS, ticks};
use super::{Actors, tuning::PLAYER_RADIUS};
use crate::commands::OpenDoor;
use crate::components::*;
use crate::facts::{DoorClosed, DoorOpened};
use crate::map::{Rect, distance};
use bevy_ecs::prelude::*;
use roomkeeper::prelude::{Decision, EntityId, EntityIndex, Happened, Issued, OwnedBy, Recorder, RoomClock, accept, reject};

/// Decides `open_door`: near enough, not on a timer, and with the right key.
pub fn decide_open_door(
    asked: In<Issued<OpenDoor>>,
    actors: Actors,
    index: Res<EntityIndex>,
    doors: Query<(&Position, &Door, &DoorState, Option<&Lock>, Has<DoorTimer>)>,
    players: Query<&Position>,
    keys: Query<(&Key, &OwnedBy)>,
) -> Decision {
    actors.check(asked.author)?;
    let found = index.entity(asked.door).and_then(|door| doors.get(door).ok());
    let Some((at, door, state, lock, on_a_timer)) = found else { return reject("not_a_door") };
    let player = players.get(asked.author)?.0;
    let has_key = |lock: &Lock| keys.iter().any(|(key, owner)| owner.0 == asked.author && key.0 == lock.key);
    if *state == DoorState::Opened {
        reject("already_opened")
    } else if distance(Rect { centre: at.0, half: door.half }.nearest(player), player) > DOOR_REACH {
        reject("too_far")
    } else if on_a_timer {
        reject("on_a_timer")
    } else if lock.is_some_and(|lock| !has_key(lock)) {
        reject("locked")
    } else {
        accept(DoorOpened { door: asked.door, player: Some(asked.author_id) })
    }
}

/// Opens and closes the doors that have a timer. Works from the tick alone, so a reset room falls into step by itself.
/// A door waits for whoever stands in it, but not for the dead, who never go.
pub fn turn_timed_doors(
    clock: Res<RoomClock>,
    doors: Query<(&EntityId, &Position, &Door, &DoorState, &DoorTimer)>,
    bodies: Query<(&Position, Option<&Status>), Or<(With<Avatar>, With<Monster>)>>,
    mut record: Recorder,
) {
    let mut doors: Vec<_> = doors.iter().collect();
    doors.sort_by_key(|(id, ..)| **id);
    for (id, at, door, state, timer) in doors {
        let (every, open_for) = (ticks(timer.open_every_s), ticks(timer.open_for_s));
        let wants_open = clock.tick().0 >= every && clock.tick().0 % every < open_for;
        let rect = Rect { centre: at.0, half: door.half };
        let radius = PLAYER_RADIUS.max(MONSTER_RADIUS);
        // Only players have a status.
        let mut living = bodies.iter().filter(|(_, status)| status.is_none_or(|status| status.is(Status::ALIVE)));
        match state {
            DoorState::Closed if wants_open => record.fact(DoorOpened { door: *id, player: None }),
            DoorState::Opened if !wants_open && !living.any(|(at, _)| rect.overlaps_circle(at.0, radius)) => {
                record.fact(DoorClosed { door: *id });
            }
            _ => {}
        }
    }
}

/// Applies `door_opened`.
pub fn open(opened: On<Happened<DoorOpened>>, index: Res<EntityIndex>, mut doors: Query<&mut DoorState>) {
    set(opened.door, DoorState::Opened, &index, &mut doors);
}

/// Applies `door_closed`.
pub fn close(closed: On<Happened<DoorClosed>>, index: Res<EntityIndex>, mut doors: Query<&mut DoorState>) {
    set(closed.door, DoorState::Closed, &index, &mut doors);
}

fn set(door: EntityId, state: DoorState, index: &EntityIndex, doors: &mut Query<&mut DoorState>) {
    if let Some(mut now) = index.entity(door).and_then(|door| doors.get_mut(door).ok()) {
        now.set_if_neq(state);
    }
}
