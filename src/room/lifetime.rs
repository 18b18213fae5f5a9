//! How long an entity lives.

use std::any::TypeId;
use std::time::Duration;

use bevy_ecs::prelude::*;
use serde::{Deserialize, Deserializer, Serialize};

use super::clock::RoomClock;
use crate::protocol::limits::TICK_MILLIS;
use crate::protocol::{NetId, Protocol, RoomTick, moved};

/// Despawns its entity when it runs out.
///
/// It counts in room time, so it stands still while the room does. The entity goes at the end of the tick in which the
/// time is up, rounded up to whole ticks, after the batch of that tick has shown its last values: even with 10 ms, less
/// than a tick, replicas see the change that came with it, then the end. Inserted again, it starts again.
///
/// In a level file it is a number of milliseconds; a state tells also since when, so that a replica, or a room that is
/// rebuilt, knows what is left. For that it has to be synced, by `app.sync::<Ttl>("ttl")`: otherwise it is not stored, and what had one
/// lives for ever after a restart or a reset. The log says so once.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ttl {
    millis: u32,
    since: Option<RoomTick>,
}

impl Ttl {
    /// Lives for that many milliseconds, from the tick in which it is inserted.
    pub const fn millis(millis: u32) -> Self {
        Self { millis, since: None }
    }

    /// What is left at a tick.
    pub fn left(&self, now: RoomTick) -> Duration {
        let lived = now.0.saturating_sub(self.since.unwrap_or(now).0);
        Duration::from_millis(u64::from(self.millis).saturating_sub(u64::from(lived) * TICK_MILLIS))
    }
}

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Whole {
            millis: u32,
            since: Option<RoomTick>,
        }
        #[derive(Deserialize)]
        struct Told {
            millis: u32,
            since: Option<u32>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Millis(u32),
            Told(Told),
        }
        if !deserializer.is_human_readable() {
            return Whole::deserialize(deserializer).map(|Whole { millis, since }| Self { millis, since });
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Millis(millis) => Self::millis(millis),
            Written::Told(Told { millis, since: None }) => Self { millis, since: None },
            Written::Told(Told { millis, since: Some(since) }) => {
                let since = moved(since);
                // What it lived before the beginning of time is not left to it.
                let before = u64::try_from(-since).unwrap_or(0).saturating_mul(TICK_MILLIS);
                Self { millis: u64::from(millis).saturating_sub(before) as u32, since: Some(RoomTick::at_or_within(since)) }
            }
        })
    }
}

/// Starts every new [`Ttl`] and despawns what ran out. Runs at the end of a tick, before changes are collected, so that
/// the batch has the last values first and the end after them.
pub(super) fn expire(
    clock: Res<RoomClock>,
    protocol: Res<Protocol>,
    mut lifetimes: Query<(Entity, Option<&NetId>, &mut Ttl)>,
    mut told: Local<bool>,
    mut commands: Commands,
) {
    let mut expired: Vec<(Option<NetId>, Entity)> = Vec::new();
    for (entity, id, mut ttl) in &mut lifetimes {
        if ttl.since.is_none() {
            if id.is_some() && !*told && protocol.components.iter().all(|entry| entry.type_id != TypeId::of::<Ttl>()) {
                tracing::error!(
                    "an entity has a `Ttl`, which is not synced: after a restart or a reset it would live for ever; \
                     add `app.sync::<Ttl>(\"ttl\")` to the protocol"
                );
                *told = true;
            }
            // The tick that is about to end counts.
            ttl.since = Some(RoomTick(clock.tick().0.saturating_sub(1)));
        }
        if ttl.left(clock.tick()).is_zero() {
            expired.push((id.copied(), entity));
        }
    }
    // In the order of their net ids: the order of a query is history, not state.
    expired.sort_unstable();
    for (_, entity) in expired {
        commands.entity(entity).try_despawn();
    }
}
