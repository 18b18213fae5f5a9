//! Players of a recorded match, as bots: what they asked for then they ask for again, tick by tick.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::game::{BotBrain, Game};
use super::ledger::open;
use super::options::CliError;
use crate::client::Issue;
use crate::protocol::{EntityId, Incoming, RoomTick};

/// How many ticks are read at once.
const TICKS_AT_ONCE: u32 = 600;

/// Most commands that are taken from a match.
const COMMANDS_MAX: usize = 5_000_000;

/// What one player asked for: the ticks since it came, the commands' numbers in the protocol, and what they said.
pub(super) type Part = Arc<Vec<(u32, usize, Bytes)>>;

/// Reads what each player of a match asked for, of those who asked for anything, in the order in which they came.
pub(super) fn parts(game: &Game, data: &Path, room: Option<&str>) -> Result<Vec<Part>, CliError> {
    let (mut archive, room) = open(game, data, room)?;
    let stored = archive.room(&room)?;
    if stored.fingerprint != game.protocol().fingerprint() {
        let detail = format!("room {room:?} was recorded with another protocol: its commands can't be sent by this build");
        return Err(CliError::Connection(detail));
    }
    let (first, last) = archive.kept_ticks(&stored)?;
    let mut players: BTreeMap<EntityId, (usize, u32, Vec<(u32, usize, Bytes)>)> = BTreeMap::new();
    let (mut at, mut count) = (first.0, 0);
    while at <= last.0 && count < COMMANDS_MAX {
        let end = at.saturating_add(TICKS_AT_ONCE - 1).min(last.0);
        for kept in archive.own_ticks_of(&stored, RoomTick(at), RoomTick(end))? {
            for taken in kept.taken {
                let Incoming::Command { user, kind, payload, .. } = taken.incoming else { continue };
                let nth = players.len();
                let (_, came, part) = players.entry(user).or_insert_with(|| (nth, kept.tick.0, Vec::new()));
                part.push((kept.tick.0.saturating_sub(*came), kind, payload));
                count += 1;
            }
        }
        at = end.saturating_add(1);
    }
    let mut parts: Vec<(usize, Part)> = players.into_values().map(|(nth, _, part)| (nth, Arc::new(part))).collect();
    parts.sort_unstable_by_key(|(nth, _)| *nth);
    match parts.is_empty() {
        true => Err(CliError::Connection(format!("in room {room:?} nobody has asked for anything"))),
        false => Ok(parts.into_iter().map(|(_, part)| part).collect()),
    }
}

/// A bot that plays a part from its beginning, and does nothing when it is over.
pub(super) fn player_of(part: &Part) -> BotBrain {
    let (part, mut tick, mut next) = (part.clone(), 0_u32, 0_usize);
    Box::new(move |world| {
        let now: Vec<(usize, Bytes)> =
            part.iter().skip(next).take_while(|(at, ..)| *at <= tick).map(|(_, kind, payload)| (*kind, payload.clone())).collect();
        next += now.len();
        tick = tick.saturating_add(1);
        // What can't be sent because the connection just ended need not be.
        let _ = world.run_system_cached_with(send, now);
    })
}

fn send(commands: In<Vec<(usize, Bytes)>>, mut issue: Issue) {
    for (kind, payload) in commands.0 {
        let _ = issue.send_encoded(kind, payload);
    }
}
