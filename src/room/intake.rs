//! Takes the inbox up: each command in turn is checked, decided, recorded and applied before the next one is looked at,
//! so that two players in one tick cannot take the same key.

use std::any::TypeId;
use std::collections::BTreeMap;

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::audience::Audience;
use super::clock::RoomClock;
use super::decision::{Decision, Issued, Join, Rules, reject};
use super::event::event;
use super::inbox::Inbox;
use super::index::EntityIndex;
use super::ledger::{Ledger, Origin, record};
use super::meter::Meter;
use super::outbox::{Answer, Outbox};
use super::reset::{reset, revert};
use super::rewind::RewindLimit;
use crate::protocol::limits::{COMMAND_BYTES_MAX, COMMANDS_PER_TICK_MAX, FACTS_PER_TICK_MAX, USER_NAME_BYTES_MAX};
use crate::protocol::{
    CommandId, EntityId, Incoming, LeaveReason, OwnedBy, Payload, Producer, Protocol, Rejection, SeenTick, Taken, User, UserJoined,
    UserLeft, Verdict,
};

/// What the room knows of a user who joined.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Member {
    last_command: CommandId,
    /// Nothing was taken of it since it came.
    is_silent: bool,
    commands_this_tick: usize,
    /// How many facts its commands of this tick have led to.
    facts_this_tick: usize,
}

impl Member {
    /// A user whose numbers go on after one: of whom nothing was taken since it came, or that one last.
    pub(crate) fn at(last_command: CommandId, is_silent: bool) -> Self {
        Self { last_command, is_silent, commands_this_tick: 0, facts_this_tick: 0 }
    }
}

/// The users who joined.
#[derive(Resource, Default, Debug)]
pub struct Members {
    pub(crate) by_id: BTreeMap<EntityId, Member>,
    /// The number at which the next stay begins: above those of all who have left. One number for all of them, so it takes no memory for each.
    pub(crate) next_stay: CommandId,
}

impl Members {
    /// The users, in the order of their ids.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = EntityId> + '_ {
        self.by_id.keys().copied()
    }

    /// The number of the last command that the room took of a user; of who has said nothing yet, the number at which its stay began. Its next
    /// command has the one after it.
    pub fn last_command(&self, user: EntityId) -> CommandId {
        self.by_id.get(&user).map_or(CommandId(0), |member| member.last_command)
    }

    /// True if nothing was taken of a user since it joined.
    #[cfg_attr(not(feature = "host"), expect(dead_code, reason = "what only a host asks"))]
    pub(crate) fn is_silent(&self, user: EntityId) -> bool {
        self.by_id.get(&user).is_some_and(|member| member.is_silent)
    }

    /// True if the user joined.
    pub fn contains(&self, user: EntityId) -> bool {
        self.by_id.contains_key(&user)
    }
}

/// Takes up everything that waits in the inbox.
pub(crate) fn intake(world: &mut World) {
    let items = std::mem::take(&mut world.resource_mut::<Inbox>().items);
    for member in world.resource_mut::<Members>().by_id.values_mut() {
        (member.commands_this_tick, member.facts_this_tick) = (0, 0);
    }
    let (mut events, mut later) = (0, Vec::new());
    for item in items {
        // It can't be refused, but it can wait: a tick that is full would end the room.
        if matches!(item, Incoming::Leave { .. }) && is_half_full(world) {
            later.push(item);
            continue;
        }
        let verdict = match &item {
            Incoming::Join { user, name } => Some(join(world, *user, name)),
            Incoming::Leave { user, reason } => leave(world, *user, *reason),
            Incoming::Command { user, id, kind, seen, payload } => command(world, *user, *id, (*kind, *seen, payload)),
            Incoming::Reset { label, saved_at, members, state } => Some(reset(world, label, *saved_at, members, state)),
            Incoming::Revert { seq, changes } => Some(revert(world, *seq, changes)),
            Incoming::Return { .. } => None,
            Incoming::Event { name, fact } => {
                events += 1;
                Some(event(world, events, name, fact))
            }
        };
        let mut outbox = world.resource_mut::<Outbox>();
        outbox.answers.extend(match (&item, &verdict) {
            (Incoming::Join { user, .. }, Some(verdict)) => Some(Answer::Join { user: *user, verdict: verdict.clone() }),
            (Incoming::Command { user, id, .. }, Some(verdict)) => Some(Answer::Command { user: *user, id: *id, verdict: verdict.clone() }),
            _ => None,
        });
        outbox.taken.push(Taken { incoming: item, verdict });
    }
    // Before all that comes with the next tick.
    let inbox = &mut world.resource_mut::<Inbox>().items;
    later.into_iter().rev().for_each(|item| inbox.push_front(item));
}

fn join(world: &mut World, user: EntityId, name: &str) -> Verdict {
    let decision = if is_half_full(world) {
        reject("room_is_busy")
    } else if world.resource::<Members>().contains(user) {
        reject("already_joined")
    } else if user.is_nil() || name.len() > USER_NAME_BYTES_MAX {
        reject("bad_user")
    } else if name.chars().any(char::is_control) {
        // It comes before people's eyes in terminals and in files of lines.
        Err(Rejection::new("bad_user").because("a name has no control characters"))
    } else if is_another_entitys(world, user) {
        Err(Rejection::new("bad_user").because("an entity of the room has that id, or may get it"))
    } else {
        decide_join(world, user, name)
    };
    match decision {
        Ok(facts) => {
            let mut members = world.resource_mut::<Members>();
            let begins = members.next_stay;
            members.by_id.insert(user, Member::at(begins, true));
            let joined = Payload(UserJoined { user, name: name.to_owned() });
            record(world, Box::new(joined), Origin { author: Some(user), ..Origin::new(Producer::User) });
            for fact in facts.0 {
                record(world, fact, Origin { author: Some(user), ..Origin::new(Producer::Server) });
            }
            Verdict::Accepted
        }
        Err(rejection) => Verdict::Rejected(rejection.in_short()),
    }
}

/// True if an id is that of an entity which is no user's, or one that the room gives to its own. A client says itself who it is where there are no
/// tokens: it would command that entity, and take it along when it leaves. Who was here before may find its own entity still there: by [`User`].
fn is_another_entitys(world: &World, id: EntityId) -> bool {
    let index = world.resource::<EntityIndex>();
    let is_no_user = |entity: Entity| world.get::<User>(entity).is_none();
    id.serial_in(index.room()).is_some() || index.entity(id).is_some_and(is_no_user)
}

/// Asks the game's own handler of [`Join`], if it has one.
fn decide_join(world: &mut World, user: EntityId, name: &str) -> Decision {
    let Some(mut handler) = world.resource_mut::<Rules>().handlers.remove(&TypeId::of::<Join>()) else {
        return Ok(super::decision::Facts::new());
    };
    let command: Box<dyn std::any::Any + Send + Sync> = Box::new(Join { user, name: name.to_owned() });
    let (tick, id) = (world.resource::<RoomClock>().tick, world.resource::<Members>().next_stay);
    let issue = Issued { command, author: Entity::PLACEHOLDER, author_id: user, id, tick, seen: SeenTick::of(tick) };
    let decision = handler.decide(world, issue);
    world.resource_mut::<Rules>().handlers.insert(TypeId::of::<Join>(), handler);
    decision
}

fn leave(world: &mut World, user: EntityId, reason: LeaveReason) -> Option<Verdict> {
    let mut members = world.resource_mut::<Members>();
    let left = members.by_id.remove(&user)?;
    members.next_stay = members.next_stay.max(left.last_command.stay_after());
    let producer = if reason == LeaveReason::Left { Producer::User } else { Producer::Server };
    record(world, Box::new(Payload(UserLeft { user, reason })), Origin { author: Some(user), ..Origin::new(producer) });
    Some(Verdict::Accepted)
}

/// What a command is, apart from who asks for it: its kind, what its author saw, and itself.
pub(super) type Asked<'a> = (usize, Option<SeenTick>, &'a Bytes);

fn command(world: &mut World, user: EntityId, id: CommandId, asked: Asked<'_>) -> Option<Verdict> {
    let mut members = world.resource_mut::<Members>();
    let member = members.by_id.get_mut(&user)?;
    // Of what was recorded before numbers went on from stay to stay the first of a stay may be any. Hosts let in none but those that follow.
    let seen = if member.is_silent { CommandId(0) } else { member.last_command };
    // A number that was seen is a copy on the way: it was answered, and obeying it again would be wrong.
    if id <= seen {
        return None;
    }
    (member.last_command, member.is_silent) = (id, false);
    member.commands_this_tick += 1;
    let (nth, mine) = (member.commands_this_tick, member.facts_this_tick);
    let before = world.resource::<Ledger>().facts().len();
    let decision = match nth {
        0..=COMMANDS_PER_TICK_MAX if is_busy(world, mine) => reject("room_is_busy"),
        0..=COMMANDS_PER_TICK_MAX => decide(world, user, id, asked),
        _ => reject("too_many_commands"),
    };
    Some(match decision {
        Ok(facts) => {
            for fact in facts.0 {
                let origin = Origin { author: Some(user), command: Some(id), ..Origin::new(Producer::User) };
                record(world, fact, origin);
            }
            let led_to = world.resource::<Ledger>().facts().len() - before;
            if let Some(member) = world.resource_mut::<Members>().by_id.get_mut(&user) {
                member.facts_this_tick += led_to;
            }
            Verdict::Accepted
        }
        Err(rejection) => Verdict::Rejected(rejection.in_short()),
    })
}

/// True if the tick has so many facts that it can take no further command of a member, whose commands led to `mine` of them. A tick that is full would end the
/// room, and that is nothing that members may bring about together: half of it is left to what follows from commands, and once a quarter is
/// used each member has only its share of the next quarter, so that none is left out because others are quicker.
fn is_busy(world: &World, mine: usize) -> bool {
    let facts = world.resource::<Ledger>().facts().len();
    let share = FACTS_PER_TICK_MAX / 4 / world.resource::<Members>().by_id.len().max(1);
    is_half_full(world) || (facts >= FACTS_PER_TICK_MAX / 4 && mine >= share.max(1))
}

/// True if the tick has half of what it can take: the other half is left to what follows.
fn is_half_full(world: &World) -> bool {
    world.resource::<Ledger>().facts().len() >= FACTS_PER_TICK_MAX / 2
}

pub(super) fn decide(world: &mut World, user: EntityId, id: CommandId, (kind, seen, payload): Asked<'_>) -> Decision {
    if payload.len() > COMMAND_BYTES_MAX {
        return Err(Rejection::new("too_large").because(format!("{} bytes, at most {COMMAND_BYTES_MAX} allowed", payload.len())));
    }
    let Some(entry) = world.resource::<Protocol>().commands.get(kind) else { return reject("unknown_command") };
    let command = match (entry.decode)(payload) {
        Ok(command) => command,
        Err(error) => return Err(Rejection::new("malformed").because(error.to_string())),
    };
    let named = (entry.named)(&*command);
    let type_id = entry.type_id;
    if named.not_finite {
        return reject("not_finite");
    }
    let Some(author) = world.resource::<EntityIndex>().entity(user) else { return reject("no_author") };
    let Some(mut handler) = world.resource_mut::<Rules>().handlers.remove(&type_id) else { return reject("unknown_command") };
    let others = world.resource::<Rules>().may_name_others.contains(&type_id);
    let decision = match named.entities.iter().try_for_each(|entity| may_name(world, user, author, *entity, others)) {
        Ok(()) => {
            let tick = world.resource::<RoomClock>().tick;
            let began = world.resource::<Meter>().now();
            let seen = world.resource::<RewindLimit>().clamp(seen, tick);
            let decision = handler.decide(world, Issued { command, author, author_id: user, id, tick, seen });
            world.resource_mut::<Meter>().count_command(kind, began, decision.is_err());
            decision
        }
        Err(rejection) => Err(rejection),
    };
    world.resource_mut::<Rules>().handlers.insert(type_id, handler);
    decision
}

/// Whether a command of `user` may name an entity: one that exists, and is its own or nobody's.
fn may_name(world: &World, user: EntityId, author: Entity, named: EntityId, others: bool) -> Result<(), Rejection> {
    let missing = || Rejection::new("no_such_entity").because(named.to_string());
    let entity = world.resource::<EntityIndex>().entity(named).ok_or_else(missing)?;
    let of_another_user = named != user && world.resource::<Members>().contains(named);
    let owned_by_another = world.get::<OwnedBy>(entity).is_some_and(|owner| owner.0 != author);
    if !others && (of_another_user || owned_by_another) {
        // Whoever could tell a hidden entity from none would know that it is there.
        if world.get::<Audience>(entity).is_some_and(Audience::is_restricted) {
            return Err(missing());
        }
        return Err(Rejection::new("not_yours").because(named.to_string()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::{Blueprint, RoomOptions};

    #[test]
    fn nobody_joins_by_a_name_that_a_terminal_would_obey() {
        let mut room = Blueprint::new(|_| {}, |_| {}).room(RoomOptions::named("hall")).unwrap();
        let mut is_let_in = |name: &str| {
            let outbox = room.tick([Incoming::Join { user: EntityId::named(name), name: name.to_owned() }]).unwrap();
            match &outbox.taken[..] {
                [Taken { verdict: Some(Verdict::Rejected(why)), .. }] => {
                    assert_eq!(why.code, "bad_user", "{name:?}");
                    false
                }
                taken => matches!(taken, [Taken { verdict: Some(Verdict::Accepted), .. }]),
            }
        };
        assert!(is_let_in("ann") && is_let_in("Zoë 🦊"));
        for name in ["\u{1b}[2J", "a\n00:09.0 bob cheats", "\u{9b}2J", "\u{7f}"] {
            assert!(!is_let_in(name), "{name:?}");
        }
    }
}
