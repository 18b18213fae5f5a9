//! How often each handler ran, and how long it took by a clock that the room is lent. It measures; nothing in the room reads it.

use std::time::Duration;

use bevy_ecs::prelude::*;

use super::decision::Rules;
use crate::protocol::Protocol;

/// Whose handler it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HandlerOf {
    /// A kind of command: its handler decides.
    Command,
    /// A kind of fact: its observer applies it.
    Fact,
}

/// A kind of command or fact of a room, and what handles it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerInfo {
    /// Whether it is a command or a fact.
    pub of: HandlerOf,
    /// The wire name of the command or fact.
    pub kind: String,
    /// The path of the function; nothing for a fact that changes no state.
    pub handler: Option<&'static str>,
    /// How often it ran.
    pub runs: u64,
    /// How often it said no. Facts can't be rejected.
    pub rejected: u64,
    /// How long all runs took together, with the facts that they recorded in turn; zero unless the room was
    /// [lent a clock](super::Room::lend_clock).
    pub time: Duration,
}

#[derive(Clone, Copy, Default)]
struct Usage {
    runs: u64,
    rejected: u64,
    time: Duration,
}

/// What was measured, by the numbers of the kinds in the protocol.
#[derive(Resource, Default)]
pub(crate) struct Meter {
    pub(crate) clock: Option<fn() -> Duration>,
    commands: Vec<Usage>,
    facts: Vec<Usage>,
}

fn count(usages: &mut Vec<Usage>, kind: usize, time: Duration, rejected: bool) {
    if usages.len() <= kind {
        usages.resize(kind + 1, Usage::default());
    }
    if let Some(usage) = usages.get_mut(kind) {
        usage.runs += 1;
        usage.rejected += u64::from(rejected);
        usage.time = usage.time.saturating_add(time);
    }
}

impl Meter {
    /// The lent clock's reading.
    pub(crate) fn now(&self) -> Duration {
        self.clock.map_or(Duration::ZERO, |clock| clock())
    }

    pub(crate) fn count_command(&mut self, kind: usize, since: Duration, rejected: bool) {
        let time = self.now().saturating_sub(since);
        count(&mut self.commands, kind, time, rejected);
    }

    pub(crate) fn count_fact(&mut self, kind: usize, since: Duration) {
        let time = self.now().saturating_sub(since);
        count(&mut self.facts, kind, time, false);
    }
}

/// All handlers, commands first, in the order in which the protocol registers their kinds.
pub(crate) fn handlers(world: &World) -> Vec<HandlerInfo> {
    let (protocol, rules, meter) = (world.resource::<Protocol>(), world.resource::<Rules>(), world.resource::<Meter>());
    let info = |of, kind: &str, handler, usages: &[Usage], index: usize| {
        let Usage { runs, rejected, time } = usages.get(index).copied().unwrap_or_default();
        HandlerInfo { of, kind: kind.to_owned(), handler, runs, rejected, time }
    };
    let commands = protocol.commands.iter().enumerate().map(|(index, kind)| {
        let handler = rules.handler_names.get(&kind.type_id).copied();
        info(HandlerOf::Command, &kind.name, handler, &meter.commands, index)
    });
    let facts = protocol.facts.iter().enumerate().map(|(index, kind)| {
        let applier = rules.appliers.get(&kind.type_id).map(|applier| applier.observer);
        info(HandlerOf::Fact, &kind.name, applier, &meter.facts, index)
    });
    commands.chain(facts).collect()
}
